//! Scopes and names of secrets: parsed once, one canonical text each, rejected rather than normalised.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{NAME_MAX, SCOPE_SEGMENT_MAX};

/// Why a scope, a name or a reference was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// The scope is of none of the four kinds.
    #[error("a scope is `global`, `principal:<id>`, `channel:<name>:<account>` or `skill:<id>`")]
    ScopeKind,
    /// A part is empty.
    #[error("a part of it is empty")]
    Empty,
    /// A part is longer than its bound.
    #[error("a part of it is longer than {max} bytes")]
    TooLong {
        /// The bound in bytes.
        max: usize,
    },
    /// A part holds a character outside the allowed set.
    #[error(
        "only letters, digits and . _ - @ + = ~ may stand in it (and / between the parts of a name; in a scope also \
         ! $ & ( ) * , ; and, in its last part, :)"
    )]
    Character,
    /// A part is `.` or `..`.
    #[error("no part of it may be `.` or `..`")]
    Dots,
    /// The reference has no `/` between scope and name.
    #[error("a reference is <scope>/<name>, for example global/openai_api_key")]
    NoName,
}

pub(super) fn check_part(part: &str, max: usize) -> Result<(), RefError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+=~".contains(&byte);
    match part {
        "" => Err(RefError::Empty),
        "." | ".." => Err(RefError::Dots),
        _ if part.len() > max => Err(RefError::TooLong { max }),
        _ if !part.bytes().all(allowed) => Err(RefError::Character),
        _ => Ok(()),
    }
}

/// Checks a segment of a scope: whatever a URI's path may hold without being encoded (RFC 3986, section 3.3), but the
/// apostrophe, so that it stands in quotes everywhere. A colon may stand in the last one alone, so that a text is
/// divided in one way.
fn check_segment(part: &str, last: bool) -> Result<(), RefError> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+=~!$&()*,;".contains(&byte) || (last && byte == b':');
    match part {
        "" => Err(RefError::Empty),
        "." | ".." => Err(RefError::Dots),
        _ if part.len() > SCOPE_SEGMENT_MAX => Err(RefError::TooLong { max: SCOPE_SEGMENT_MAX }),
        _ if !part.bytes().all(allowed) => Err(RefError::Character),
        _ => Ok(()),
    }
}

/// How many segments stand behind the kind of a scope, and how many a text has; the last one takes the rest.
fn check_scope(text: &str) -> Result<(usize, usize), RefError> {
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let wanted = match kind {
        "global" => 0,
        "principal" | "skill" => 1,
        "channel" => 2,
        _ => return Err(RefError::ScopeKind),
    };
    let Some(rest) = rest else { return Ok((wanted, 0)) };
    if wanted == 0 {
        return Err(RefError::ScopeKind);
    }
    let mut count = 0;
    for part in rest.splitn(wanted, ':') {
        count += 1;
        check_segment(part, count == wanted)?;
    }
    Ok((wanted, count))
}

/// Who a secret belongs to: `global`, `principal:<id>`, `channel:<name>:<account>` or `skill:<id>`
/// (stored as this text; each segment is 1 to 256 bytes, and colons may stand in the last one).
///
/// ```
/// use palyra_ledger::Scope;
/// let scope: Scope = "channel:slack:T012AB".parse()?;
/// assert_eq!(scope.as_str(), "channel:slack:T012AB");
/// assert!("principal:user:ops".parse::<Scope>().is_ok());
/// assert!("channel:slack".parse::<Scope>().is_err());
/// assert!("principal:../etc".parse::<Scope>().is_err());
/// # Ok::<(), palyra_ledger::RefError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);

impl Scope {
    /// The scope of the whole machine.
    #[must_use]
    pub fn global() -> Self {
        Self("global".to_owned())
    }

    /// The text, which is also the stored form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this scope is `prefix` itself or lies below it at a segment boundary. Nothing lies below a whole scope:
    /// `principal:user:ops` is another principal than `principal:user`.
    #[must_use]
    pub fn is_within(&self, prefix: &ScopePrefix) -> bool {
        match self.0.strip_prefix(&prefix.0) {
            Some(rest) => prefix.0.is_empty() || rest.is_empty() || (rest.starts_with(':') && !prefix.is_whole()),
            None => false,
        }
    }
}

impl FromStr for Scope {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        let (wanted, count) = check_scope(text)?;
        if count == wanted { Ok(Self(text.to_owned())) } else { Err(RefError::ScopeKind) }
    }
}

/// The beginning of scopes, for listing: nothing, a kind such as `principal`, `channel:slack`, or a
/// whole scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopePrefix(String);

impl ScopePrefix {
    /// Every scope.
    #[must_use]
    pub const fn all() -> Self {
        Self(String::new())
    }

    /// Whether it is a whole scope, below which nothing lies.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.parse::<Scope>().is_ok()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScopePrefix {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        check_scope(text).map(|_| Self(text.to_owned()))
    }
}

impl From<&Scope> for ScopePrefix {
    fn from(scope: &Scope) -> Self {
        Self(scope.0.clone())
    }
}

/// A secret's name within its scope, 1 to 128 bytes; `/` may divide it into parts (stored as this text).
///
/// ```
/// use palyra_ledger::SecretName;
/// assert!("openai_api_key".parse::<SecretName>().is_ok());
/// assert!("team/ci/token".parse::<SecretName>().is_ok());
/// assert!("team//token".parse::<SecretName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// The text, which is also the stored form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        if text.len() > NAME_MAX {
            return Err(RefError::TooLong { max: NAME_MAX });
        }
        text.split('/').try_for_each(|part| check_part(part, NAME_MAX))?;
        Ok(Self(text.to_owned()))
    }
}

/// Where one secret is in the vault: `<scope>/<name>`.
///
/// ```
/// use palyra_ledger::SecretPath;
/// let reference: SecretPath = "principal:user-7/github_token".parse()?;
/// assert_eq!(reference.scope.as_str(), "principal:user-7");
/// assert_eq!(reference.name.as_str(), "github_token");
/// # Ok::<(), palyra_ledger::RefError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretPath {
    /// Whose it is.
    pub scope: Scope,
    /// What it is called there.
    pub name: SecretName,
}

impl FromStr for SecretPath {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        let (scope, name) = text.split_once('/').ok_or(RefError::NoName)?;
        Ok(Self { scope: scope.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.name)
    }
}

macro_rules! stored_as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// What does not parse does not decode: a stored text is held to the same rules.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

stored_as_text!(Scope);
stored_as_text!(SecretName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_outside_the_four_kinds_are_refused() {
        for good in [
            "global",
            "principal:user-7",
            "channel:slack:T012AB",
            "skill:weather.v2",
            "principal:a@b.c",
            "principal:a:b",
            "principal::1",
            "channel:slack:T:1",
            "skill:x!$&()*,;y",
        ] {
            assert_eq!(good.parse::<Scope>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "Global",
            "global:",
            "global:x",
            "principal",
            "principal:",
            "channel:a",
            "channel::a",
            "channel:a:",
            "principal:a'b",
            "principal:a\"b",
            "principal:a\\b",
            "principal:a%b",
            "principal:a?b",
            "principal:a#b",
            "principal:{a}",
            "skill:.",
            "skill:..",
            "principal:a/b",
            "principal:a b",
            "principal:\u{e9}",
            "principal:a\0",
            "user:7",
            " global",
            "global ",
        ] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
        assert!(format!("skill:{}", "x".repeat(256)).parse::<Scope>().is_ok());
        assert!(format!("skill:{}", "x".repeat(257)).parse::<Scope>().is_err());
    }

    #[test]
    fn names_are_bounded_and_hold_no_way_out_of_their_scope() {
        assert!("x".repeat(128).parse::<SecretName>().is_ok());
        for bad in ["", "/", "a/", "/a", "a//b", "a/../b", ".", "a\nb", "a:b", "a%2fb", &"x".repeat(129)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let scope: Scope = "channel:slack:T01".parse().unwrap();
        for covering in ["channel", "channel:slack", "channel:slack:T01"] {
            assert!(scope.is_within(&covering.parse().unwrap()), "{covering}");
        }
        for other in ["channel:sla", "channel:slack:T0", "principal", "global"] {
            assert!(!scope.is_within(&other.parse().unwrap()), "{other}");
        }
        let below: Scope = "principal:user:ops".parse().unwrap();
        assert!(below.is_within(&"principal".parse().unwrap()) && below.is_within(&ScopePrefix::from(&below)));
        assert!(!below.is_within(&"principal:user".parse().unwrap()), "another principal");
        let below: Scope = "channel:slack:T01:x".parse().unwrap();
        assert!(below.is_within(&"channel:slack".parse().unwrap()));
        assert!(!below.is_within(&"channel:slack:T01".parse().unwrap()), "another account");
        assert!(scope.is_within(&ScopePrefix::all()));
    }
}
