//! Service credentials: profiles, refresh as a transaction, health, selection, documents; decided and
//! folded without any I/O.
//!
//! A profile holds references to secrets and never a secret. [`apply`] folds events, `decide_*` turns
//! commands into events, [`Registry`] is the live view that chooses among profiles, [`documents`] renders
//! the two TOML files and reads what people changed in them.

mod decide;
pub mod documents;
mod endpoint;
mod fault;
mod health;
mod registry;
mod shown;
mod state;
mod toml_text;

pub use decide::{
    AnswerNote, RefreshResult, Started, admit, admit_order, decide_clear, decide_delete, decide_enable, decide_login,
    decide_logout, decide_order, decide_refresh, decide_refreshed, decide_set, resume,
};
pub use endpoint::{Endpoint, EndpointError};
pub use fault::{ApplyFault, AuthError};
pub use health::{Eligibility, Health, Standing, TokenExpiry, backoff_ms, due, refresh_window, standing};
pub use registry::{Chosen, Query, Registry, Skip, Skipped};
pub use shown::shown;
pub use state::{
    Lease, Order, ProfileRecord, Runtime, Terminal, apply, find_profile, find_runtime, find_writer, list_orders,
    list_profiles, profile_count, profile_origin,
};
