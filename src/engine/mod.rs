//! The engine: opening, the one loop, background work, and the library's handles.
//!
//! ```text
//! command --decide--> events --dry fold--> batch --seal, chain--> journal --sync--> publish
//! ```
//!
//! The library is blocking: a write returns when it is durable. From async code, call it on a
//! blocking thread (`tokio::task::spawn_blocking`); every handle is `Send + Sync` and cheap to clone.

mod anchors;
mod auth_handle;
mod background;
mod ca_roll;
mod checkpoints;
mod config;
mod core;
mod daemon_handle;
mod error;
mod execute;
mod fold;
mod history;
mod home;
mod identity_handle;
mod init;
mod key_admin;
mod ledger;
mod lock;
mod log_view;
mod open;
mod overlay;
mod pairing_handle;
mod reads;
mod refusals;
mod replay;
mod restore;
mod vault_handle;
mod verify;

pub use anchors::{AnchorState, AnchorStatus, Placing};
pub use auth_handle::{Auth, AuthFilter, NewTokens, Page, RefreshTicket};
pub use checkpoints::Checkpointed;
pub use config::{
    AnchorSettings, AuditReads, AuditSettings, AuthSettings, CheckpointSettings, Config, KeySettings, LimitSettings,
    LogSettings, ServeSettings, Settings, SettingsError,
};
pub use error::Error;
pub use execute::Committed;
pub use fold::{FoldError, SystemState};
pub use history::{BranchRecord, LastCheckpoint};
pub(crate) use home::write_markers;
pub use identity_handle::{Identity, MintOptions, Minting};
pub use ledger::{KeyAdmin, Ledger, Status};
pub use lock::LockError;
pub use log_view::{Entry, LogHead, LogView};
pub use pairing_handle::{Greeting, Hello, PairingSession, Receipt as PairingReceipt};
pub use replay::{Replay, ReplayPoint};
pub use restore::Restored;
pub use vault_handle::{GetOptions, History, ListOptions, PutOptions, Receipt, Secret, SecretInfo, Vault, VersionInfo};
pub use verify::VerifyOptions;

/// Reads a spool from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_spool(bytes: &[u8]) {
    let key = crate::crypto::Key::from_bytes(&mut [1; 32]);
    let _ = reads::parse_spool(bytes, crate::base::LedgerId::from_bytes([2; 16]), &key);
}
