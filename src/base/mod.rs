//! Ground floor: limits, identifiers, time, randomness and the caller's context.
//!
//! Every other room may use this one; it uses none of them.

mod context;
mod ids;
pub mod limits;
mod random;
mod secret;
mod time;

pub use context::{Actor, ActorError, Caller, Context, Origin, Reason};
pub(crate) use ids::hex_array;
pub use ids::{CorrelationId, IdError, LedgerId, SlotId};
pub use random::{OsRandom, Random, RandomError};
pub use secret::SecretBytes;
pub use time::{Clock, SystemClock, TimeError, Timestamp};
