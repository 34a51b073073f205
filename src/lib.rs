//! One sealed, hash-chained log for a machine's secrets, devices and service credentials.
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

pub mod base;
#[doc(hidden)]
pub mod cli;
pub mod crypto;
pub mod engine;
pub mod event;
pub mod inspect;
pub mod keys;
pub mod log;
pub mod projection;
pub mod store;
pub mod testing;
pub mod vault;

pub use base::*;
pub use crypto::Hash;
pub use engine::*;
pub use inspect::{Finding, FindingCode, Report};
pub use keys::{ArgonCost, Credential, KeySlot, KeysError, NewSlot, SlotKind};
