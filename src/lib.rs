//! A trust store for machines that run agents: one sealed, hash-chained, append-only log, with a secrets
//! vault as its first projection.
//!
//! ```
//! use palyra_ledger::{Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes, VerifyOptions};
//! # let dir = tempfile::tempdir()?;
//! # let home = dir.path().join("home");
//! # let value = b"correct horse".to_vec();
//!
//! let ledger = Ledger::init(Config::new(&home), NewSlot::file("agent-7"))?;
//!
//! let vault = ledger.vault("skill:mail".parse()?);           // bound to one scope
//! let name = "imap_password".parse()?;
//! let receipt = vault.put(&name, &SecretBytes::new(value), PutOptions::new().if_version(0))?;
//! assert_eq!(receipt.version, 1);                            // durable, and visible to every reader
//!
//! let secret = vault.get(&name)?;                            // the read is recorded
//! assert!(ledger.vault(Scope::global()).get(&name).is_err());
//! # assert_eq!(secret.value.expose(), b"correct horse");
//!
//! let report = ledger.verify(VerifyOptions { state: true, witness: false })?;
//! assert!(report.ok);
//! ledger.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to begin
//!
//! [`Ledger`] is the front door: [`Ledger::open`] with a [`Config`], then [`Ledger::vault`] for one scope's
//! secrets, [`Ledger::log`] for the events, [`Ledger::verify`], [`Ledger::replay`] for the state at any
//! event or time, and [`Ledger::keys`] for key slots and rotation.
//!
//! # Blocking
//!
//! Calls block until what they did is durable. Handles are `Send + Sync` and cheap to clone; many threads
//! share the cost of one sync. From async code call them on a blocking thread
//! (`tokio::task::spawn_blocking`). A write that returned is on the medium; after the first fault of the
//! storage a ledger takes no more writes and must be opened again ([`Error::Dead`]).
//!
//! # Invariants
//!
//! | | |
//! |---|---|
//! | I1 | The state is the fold of the events; a dry fold refuses before a byte is written. |
//! | I2 | Nothing is visible or acknowledged before it is durable in the journal. |
//! | I3 | A frame's hash covers its header, its ciphertext and the hash of the frame before it. |
//! | I4 | Sequence numbers have no gap; a batch is whole or not there. |
//! | I5 | No nonce is used twice under one key. |
//! | I6 | No secret in a log, an error, a `Debug`, a temporary file or an event outside its envelope. |
//! | I7 | Time, randomness and who acts come from outside, through the context. |
//! | I8 | The first I/O fault ends the writer; no sync is ever retried. |
//! | I9 | Verification needs no key. |
//!
//! # Rooms
//!
//! Each room uses only rooms above it in this list: [`base`], [`crypto`], [`pki`], [`platform`], [`store`], [`backend`],
//! [`backup`],
//! [`event`], [`log`], [`checkpoint`], [`keys`], [`projection`], [`vault`], [`identity`], [`auth`], [`inspect`],
//! [`deliver`], [`import`], [`engine`], [`examine`], [`resolve`], [`oauth`], [`tls`], [`device`], [`serve`], [`cli`]. A test reads the
//! sources and holds the arrows.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::expect_used,
        clippy::cast_possible_truncation
    )
)]

pub mod auth;
pub mod backend;
pub mod backup;
pub mod base;
pub mod checkpoint;
#[doc(hidden)]
pub mod cli;
pub mod crypto;
pub mod deliver;
pub mod device;
pub mod engine;
pub mod event;
pub mod examine;
pub mod identity;
pub mod import;
pub mod inspect;
pub mod keys;
pub mod log;
pub mod oauth;
pub mod pki;
pub mod platform;
pub mod projection;
pub mod resolve;
pub mod serve;
pub mod store;
pub mod testing;
pub mod tls;
pub mod vault;

pub use base::*;
pub use crypto::Hash;
pub use engine::*;
pub use inspect::{Finding, FindingCode, Report};
pub use keys::{ArgonCost, Credential, KeySlot, KeysError, NewSlot, RecoveryWords, SlotKind};
