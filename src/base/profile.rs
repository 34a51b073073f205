//! Names around service credentials: profiles, agents, providers, scopes. One canonical text each.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::PROFILE_ID_MAX;
use super::refs::{RefError, check_part};

/// Why a profile's id, provider or scope was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The id is empty, too long or holds another character.
    #[error("an id is 1 to {PROFILE_ID_MAX} letters, digits and . _ - @ + = ~")]
    Id,
    /// The provider is none of the known ones.
    #[error("a provider is openai, anthropic, telegram, slack, discord, webhook or custom:<name>")]
    Provider,
    /// The scope is neither of the two kinds.
    #[error("a profile's scope is `global` or `agent:<id>`")]
    Scope,
}

fn checked(text: &str) -> Result<String, ProfileError> {
    check_part(text, PROFILE_ID_MAX).map(|()| text.to_owned()).map_err(|_: RefError| ProfileError::Id)
}

/// Serialized as its text; what does not parse does not decode.
macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

// A choice that is explained names every profile: an id is shared, not copied.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text, which is also the stored form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ProfileError;

            fn from_str(text: &str) -> Result<Self, ProfileError> {
                checked(text).map(|text| Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        as_text!($name);
    };
}

id! {
    /// A credential profile's id, 1 to 128 bytes (stored as this text).
    ProfileId
}
id! {
    /// An agent's id, 1 to 128 bytes (stored as this text).
    AgentId
}

/// The service that a credential is for (stored as its text).
///
/// ```
/// use palyra_ledger::Provider;
/// assert_eq!("custom:corp".parse::<Provider>()?.to_string(), "custom:corp");
/// assert!("custom:".parse::<Provider>().is_err());
/// # Ok::<(), palyra_ledger::ProfileError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// `OpenAI`.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Telegram.
    Telegram,
    /// Slack.
    Slack,
    /// Discord.
    Discord,
    /// A webhook.
    Webhook,
    /// Any other, by a name.
    Custom(String),
}

impl Provider {
    /// The kind alone, without a custom one's name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Telegram => "telegram",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Webhook => "webhook",
            Self::Custom(_) => "custom",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        if let Self::Custom(name) = self { write!(f, ":{name}") } else { Ok(()) }
    }
}

impl FromStr for Provider {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let known = [Self::Openai, Self::Anthropic, Self::Telegram, Self::Slack, Self::Discord, Self::Webhook];
        if let Some(name) = text.strip_prefix("custom:") {
            return checked(name).map(Self::Custom).map_err(|_| ProfileError::Provider);
        }
        known.into_iter().find(|provider| provider.kind() == text).ok_or(ProfileError::Provider)
    }
}

as_text!(Provider);

/// Who may use a profile (stored as its text).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProfileScope {
    /// Every agent.
    Global,
    /// One agent, for which it comes before the global ones.
    Agent(AgentId),
}

impl ProfileScope {
    /// Whether an agent, or somebody who is none, may use it.
    #[must_use]
    pub fn admits(&self, agent: Option<&AgentId>) -> bool {
        match self {
            Self::Global => true,
            Self::Agent(owner) => agent == Some(owner),
        }
    }
}

impl fmt::Display for ProfileScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Agent(agent) => write!(f, "agent:{agent}"),
        }
    }
}

impl FromStr for ProfileScope {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        if text == "global" {
            return Ok(Self::Global);
        }
        let agent = text.strip_prefix("agent:").ok_or(ProfileError::Scope)?;
        agent.parse().map(Self::Agent).map_err(|_| ProfileError::Scope)
    }
}

as_text!(ProfileScope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parses_prints_the_same_and_the_rest_is_refused() {
        for text in ["openai", "anthropic", "telegram", "slack", "discord", "webhook", "custom:corp.v2"] {
            assert_eq!(text.parse::<Provider>().unwrap().to_string(), text);
        }
        for text in ["global", "agent:a-1"] {
            assert_eq!(text.parse::<ProfileScope>().unwrap().to_string(), text);
        }
        for bad in ["", "OpenAI", "custom", "custom:", "custom:a b", "custom:..", "openai:x"] {
            assert!(bad.parse::<Provider>().is_err(), "{bad}");
        }
        for bad in ["", "agent", "agent:", "agent:a/b", "Global", "agent:a:b"] {
            assert!(bad.parse::<ProfileScope>().is_err(), "{bad}");
        }
        assert!("x".repeat(128).parse::<ProfileId>().is_ok());
        for bad in ["", ".", "a b", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<ProfileId>().is_err(), "{bad}");
        }
    }
}
