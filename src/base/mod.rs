//! Ground floor: limits, identifiers, time, randomness and the caller's context.
//!
//! Every other room may use this one; it uses none of them.

mod backend;
pub(crate) mod bytes;
mod context;
mod files;
mod ids;
pub mod limits;
mod profile;
mod random;
mod refs;
mod secret;
mod secret_ref;
mod state;
mod time;

pub use backend::{BackendKind, UnknownBackend};
pub use context::{Actor, ActorError, Caller, Context, DeviceName, Origin, Reason};
pub use files::write_whole;
pub use ids::{BackupId, CorrelationId, DeviceId, IdError, KeyedPrint, LedgerId, PairingId, RequestId, Serial, SlotId};
pub(crate) use ids::{bytes_or_hex, hex_array};
pub use profile::{AgentId, ProfileError, ProfileId, ProfileScope, Provider};
pub use random::{OsRandom, Random, RandomError};
pub use refs::{RefError, Scope, ScopePrefix, SecretName, SecretPath};
pub use secret::SecretBytes;
pub use secret_ref::{
    AbsolutePath, EnvName, Field, ReferenceTable, SecretRef, SecretRefError, SecretSource, SourceKind,
};
pub use state::{Change, Delta, StateError, StateRead, Visit, prefix_end};
pub use time::{Clock, SystemClock, TimeError, Timestamp};
