//! Why an event does not fit, and why a command is refused.

use crate::base::{ProfileId, SecretPath, StateError, Timestamp, limits};
use crate::event::CodecError;

use super::registry::Skipped;

/// Why an event does not fit the state before it: the chain may be valid and its events nonsense.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFault {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A stored record does not decode.
    #[error("a record of the state does not decode: {0}")]
    Record(#[from] CodecError),
    /// A key of the state is not one of this domain's.
    #[error("a key of the state is malformed")]
    Key,
    /// The event is about a profile that is not there.
    #[error("the event is about a profile that does not exist")]
    Missing,
    /// The event brings a profile that is there already.
    #[error("the event brings a profile that exists already")]
    Exists,
    /// The event completes a refresh that is not under way, or begins one out of order.
    #[error("the event is about refresh {found}, the state is at {last}")]
    Generation {
        /// The number in the event.
        found: u64,
        /// The number in the state.
        last: u64,
    },
}

/// Candidates that were passed over, in words: the first eight.
struct Passed<'a>(&'a [Skipped]);

impl std::fmt::Display for Passed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 8;
        for (place, skipped) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} is {}", skipped.profile, skipped.why.name())?;
            if let Some(until) = skipped.until {
                write!(f, " until {until}")?;
            }
        }
        match self.0.len().checked_sub(SHOWN) {
            _ if self.0.is_empty() => f.write_str("none fits"),
            None | Some(0) => Ok(()),
            Some(more) => write!(f, ", and {more} more"),
        }
    }
}

/// Why a command about service credentials was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No such profile.
    #[error("there is no profile {0}")]
    NoProfile(ProfileId),
    /// There are too many profiles.
    #[error("there are {} profiles already, the most there can be", limits::PROFILES_MAX)]
    TooMany,
    /// A field of a profile is refused.
    #[error("{field} of profile {profile} is refused: {why}")]
    Field {
        /// The profile.
        profile: ProfileId,
        /// The field.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// An order names a profile twice, one that is not there, or one of another service or scope.
    #[error("the order is refused: {0}")]
    Order(String),
    /// The profile holds an API key: there is nothing to refresh.
    #[error("profile {0} holds an API key: there is nothing to refresh or log in to")]
    Static(ProfileId),
    /// The profile is disabled.
    #[error("profile {0} is disabled")]
    Disabled(ProfileId),
    /// The token is not due.
    #[error("the token of profile {0} is not due to be refreshed")]
    NotDue(ProfileId),
    /// The profile holds no refresh token.
    #[error("profile {0} has no refresh token")]
    NoRefreshToken(ProfileId),
    /// Another profile's refresh or login writes the secret that this one names.
    #[error("{place} holds the token of profile {owner}: two profiles would spend it against each other")]
    Shared {
        /// The secret.
        place: Box<SecretPath>,
        /// The profile that has it.
        owner: ProfileId,
    },
    /// Somebody refreshes the profile at this moment.
    #[error("profile {profile} is being refreshed, until {until} at the latest")]
    Busy {
        /// The profile.
        profile: ProfileId,
        /// When its lease ends.
        until: Timestamp,
    },
    /// The last refresh failed a short time ago.
    #[error("the last refresh of profile {profile} failed; it is tried again at {until}")]
    CoolingDown {
        /// The profile.
        profile: ProfileId,
        /// When it is tried again.
        until: Timestamp,
    },
    /// Only a person can mend the profile.
    #[error("profile {profile} needs a person: {what}")]
    NeedsPerson {
        /// The profile.
        profile: ProfileId,
        /// What happened.
        what: String,
    },
    /// The refresh that is to be completed is no longer the one under way.
    #[error("refresh {generation} of profile {profile} is no longer the one under way")]
    Superseded {
        /// The profile.
        profile: ProfileId,
        /// The number that was given.
        generation: u64,
    },
    /// No profile can be chosen.
    #[error("no profile can be used: {}", Passed(.0))]
    NoCandidate(Vec<Skipped>),
    /// The documents were refused.
    #[error("the documents are refused: {0}")]
    Documents(String),
    /// The documents were rendered from an older state.
    #[error(
        "the documents were rendered at event {rendered}; what they say has changed since, at the latest at event {now}"
    )]
    Stale {
        /// The event that the documents name.
        rendered: u64,
        /// The last event now.
        now: u64,
    },
    /// The state does not fold or read.
    #[error(transparent)]
    Apply(#[from] ApplyFault),
}

impl From<StateError> for AuthError {
    fn from(error: StateError) -> Self {
        Self::Apply(error.into())
    }
}
