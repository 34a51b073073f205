//! The vault: scoped, versioned secrets, decided and folded without any I/O.
//!
//! A value is sealed in an envelope under a key of its own (the DEK), derived from a random slot key
//! in the key table and bound to ledger, scope, name and version. The envelope stands in the event;
//! the slot key stands in neither journal nor sled. Overwriting the slot destroys the version while
//! the chain stays whole.
//!
//! `decide` turns a command into events or a refusal; `apply` folds an event into the state. Both are
//! pure. A toy run of the two:
//!
//! ```
//! use palyra_ledger::{SecretName, Scope};
//! use palyra_ledger::vault::{head_key, Head};
//! let scope = Scope::global();
//! let name: SecretName = "openai_api_key".parse()?;
//! // Keys of one scope stand together, in the order of the names.
//! assert!(head_key(&scope, &name).starts_with(&palyra_ledger::vault::scope_prefix(&scope)));
//! # let _: Option<Head> = None;
//! # Ok::<(), palyra_ledger::RefError>(())
//! ```

mod backend;
mod command;
mod decide;
mod envelope;
mod imported;
mod shown;
mod state;

pub use backend::{BackendState, backend, each_version, moved_by};
pub use command::{Describe, Expect, Material, Metadata, MetadataError, Put, Sealed, Select};
pub use decide::{
    Decided, VaultError, check_put, decide_delete, decide_describe, decide_put, decide_shred, decide_undelete,
};
pub use envelope::{EnvelopeError, Sealer, digest as envelope_digest, open as open_envelope};
pub use shown::shown;
pub use state::{
    ApplyFault, Counters, Head, VersionRecord, VersionState, apply, counters, find_head, find_version, head_key,
    heads_from, last_read, list_heads, list_versions, origin_of, pending_shreds, scope_prefix,
};
