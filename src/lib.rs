#![doc = "WIP"]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
pub mod base;
pub mod crypto;
pub mod store;
pub use base::*;
pub mod keys;
pub mod projection;
pub mod testing;
