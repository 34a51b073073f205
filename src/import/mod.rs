//! Reading what other stores hold: Palyra's file layout, env files, password stores, and our own export.
//!
//! Readers open nothing but the source, write nothing, and know nothing of a ledger. What they give
//! ([`Gathered`]) is imported by the engine, in one act.

mod env;
mod items;
mod json;
pub mod palyra;
mod pass;

pub use env::read_env;
pub use items::{FoundCertificate, FoundDevice, FoundSecret, Gathered, Line, Verdict};
pub use json::{ExportDoc, FORMAT, SecretDoc, VersionDoc, read_json};
pub use pass::{Decrypt, Part, read_pass};
