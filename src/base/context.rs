//! Who asks, from where, when and why: the context of a command (invariant I7).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CorrelationId, Timestamp, limits};

/// Why an actor or reason was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActorError {
    /// No text was given.
    #[error("it is empty")]
    Empty,
    /// The text is longer than its bound.
    #[error("it is longer than {max} bytes")]
    TooLong {
        /// The bound in bytes.
        max: usize,
    },
    /// The text holds a control character.
    #[error("it holds a control character")]
    Control,
}

fn checked(text: &str, max: usize) -> Result<String, ActorError> {
    if text.is_empty() {
        return Err(ActorError::Empty);
    }
    if text.len() > max {
        return Err(ActorError::TooLong { max });
    }
    if text.chars().any(char::is_control) {
        return Err(ActorError::Control);
    }
    Ok(text.to_owned())
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`ActorError`] where it is empty, too long or holds a control character.
            pub fn new(text: &str) -> Result<Self, ActorError> {
                checked(text, $max).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// Who acts: a user, a device or a service, 1 to 256 bytes without control characters.
    Actor,
    limits::ACTOR_MAX
);
checked_text!(
    /// Why somebody acts, in their words: 1 to 512 bytes without control characters.
    Reason,
    limits::REASON_MAX
);

checked_text!(
    /// What people call a device: 1 to 128 bytes without control characters.
    DeviceName,
    limits::DEVICE_NAME_MAX
);

/// Where a command came from (stored: variants are numbered by their place, never reordered).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// The ledger itself: recovery, rotation by age, following.
    System,
    /// The command line, run by the user with this numeric id.
    Cli {
        /// Numeric user id of the process.
        uid: u32,
    },
    /// A program that embeds the library.
    Library,
    /// A peer on the local socket.
    Socket {
        /// Numeric user id of the peer, as the kernel reports it.
        uid: u32,
        /// Process id of the peer, as the kernel reports it.
        pid: u32,
    },
    /// A paired device over mutual TLS.
    Device {
        /// The device's id in its certificate.
        device_id: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Cli { uid } => write!(f, "cli uid={uid}"),
            Self::Library => f.write_str("library"),
            Self::Socket { uid, pid } => write!(f, "socket uid={uid} pid={pid}"),
            Self::Device { device_id } => write!(f, "device {device_id}"),
        }
    }
}

/// The part of a context that the caller brings: who, from where, why.
///
/// ```
/// use palyra_ledger::{Actor, Caller, Reason};
/// let caller = Caller::library(Actor::new("billing-daemon")?)
///     .with_reason(Reason::new("nightly rotation")?);
/// assert_eq!(caller.actor.as_str(), "billing-daemon");
/// # Ok::<(), palyra_ledger::ActorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Caller {
    /// Who acts.
    pub actor: Actor,
    /// Where the command came from.
    pub origin: Origin,
    /// Why, if they said.
    pub reason: Option<Reason>,
    /// What ties this to other events, if anything.
    pub correlation: Option<CorrelationId>,
}

impl Caller {
    /// A caller inside a program that embeds the library.
    #[must_use]
    pub const fn library(actor: Actor) -> Self {
        Self { actor, origin: Origin::Library, reason: None, correlation: None }
    }

    /// A caller at the command line.
    #[must_use]
    pub const fn cli(actor: Actor, uid: u32) -> Self {
        Self { actor, origin: Origin::Cli { uid }, reason: None, correlation: None }
    }

    /// The ledger itself.
    #[must_use]
    pub fn system() -> Self {
        Self { actor: Actor("palyra-ledger".to_owned()), origin: Origin::System, reason: None, correlation: None }
    }

    /// The same caller with a reason.
    #[must_use]
    pub fn with_reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The same caller with a correlation id.
    #[must_use]
    pub const fn with_correlation(mut self, correlation: CorrelationId) -> Self {
        self.correlation = Some(correlation);
        self
    }
}

/// Everything a decision may know beside the state and the command: nothing else reads a clock,
/// draws randomness or asks who is calling.
#[derive(Debug)]
pub struct Context {
    /// The current time, already clamped so that it never runs behind the log.
    pub now: Timestamp,
    /// Who, from where, why.
    pub caller: Caller,
    /// Fresh random bytes for one nonce.
    pub nonce: [u8; 24],
}
