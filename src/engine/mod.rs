//! The engine: opening, the one loop, background work, and the library's handles.
//!
//! ```text
//! command --decide--> events --dry fold--> batch --seal, chain--> journal --sync--> publish
//! ```
//!
//! The library is blocking: a write returns when it is durable. From async code, call it on a
//! blocking thread (`tokio::task::spawn_blocking`); every handle is `Send + Sync` and cheap to clone.

mod anchor_places;
mod anchor_view;
mod anchors;
mod auth_handle;
mod background;
mod backup;
mod ca_roll;
mod checkpoints;
mod compromise;
mod compromise_state;
mod config;
mod core;
mod daemon_handle;
mod error;
mod execute;
mod export;
mod exposure;
mod fold;
mod format;
mod future;
mod grants;
mod history;
mod home;
mod identity_handle;
mod import;
mod import_compare;
mod import_devices;
mod import_plan;
mod init;
mod key_admin;
mod ledger;
mod lock;
mod log_view;
mod migrate;
mod open;
mod outside;
mod overlay;
mod pairing_handle;
mod reads;
mod recover;
mod refusals;
mod replay;
mod replay_view;
mod resolutions;
mod resolve_settings;
mod restore;
mod rollback;
mod scan;
pub(crate) mod staging;
mod state_diff;
mod trace;
mod vault_handle;
mod verify;
mod verify_backend;

pub use anchors::{AnchorState, AnchorStatus, Placing};
pub use auth_handle::{Auth, AuthFilter, NewTokens, Page, RefreshTicket};
pub use backup::{BackupCheck, BackupMade, BackupOptions, BackupReport, CheckState, FileFacts, Restoration};

pub use checkpoints::Checkpointed;
pub use compromise::{Applied, ItemState};
pub use config::{
    AnchorSettings, AuditReads, AuditSettings, AuthSettings, CheckpointSettings, Config, KeySettings, LimitSettings,
    LogSettings, ResolveSettings, ServeSettings, Settings, SettingsError,
};
pub use error::{Away, Error};
pub use execute::Committed;
pub use export::{ExportedSecret, ExportedVersion, Exports};

pub use crate::keys::value_digest;
pub use exposure::{Exposed, Exposure, Reading, Trusted};
pub use fold::{FoldError, STATE_SCHEMA, SystemState};
pub use format::Format;
pub use future::UnknownEvents;
pub use history::{BranchRecord, LastBackup, LastCheckpoint};
pub(crate) use home::{FORMAT, is_inside, write_markers};
pub use identity_handle::{Identity, MintOptions, Minting};
pub use import::{ImportOptions, Imported, Imports};
pub use ledger::{KeyAdmin, Ledger, Status};
pub use lock::LockError;
pub use log_view::{Entry, LogHead, LogView};
pub use migrate::{Backends, Migration, MigrationPlan};
pub use pairing_handle::{Greeting, Hello, PairingSession, Receipt as PairingReceipt};
pub(crate) use reads::{spooled, unspooled};
pub use replay::{Replay, ReplayOptions, ReplayPoint};
pub use resolutions::{Resolutions, Resolved};
pub use restore::Restored;
pub use scan::Scan;
pub use state_diff::{ChangeKind, StateChange};
pub use trace::{Chapter, Relation};
pub use vault_handle::{GetOptions, History, ListOptions, PutOptions, Receipt, Secret, SecretInfo, Vault, VersionInfo};
pub use verify::VerifyOptions;

/// Reads a spool from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_spool(bytes: &[u8]) {
    let key = crate::crypto::Key::from_bytes(&mut [1; 32]);
    let _ = reads::parse_spool(bytes, crate::base::LedgerId::from_bytes([2; 16]), &key);
}
