#![doc = "WIP"]
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
#![forbid(unsafe_code)]
#![deny(missing_docs)]
pub mod base;
pub mod crypto;
pub mod event;
pub mod store;
pub use base::*;
pub mod keys;
pub mod log;
pub mod projection;
pub mod testing;
pub mod vault;
