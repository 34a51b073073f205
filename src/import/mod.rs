//! Reading what other stores hold: Palyra's file layout, env files, password stores, and our own export.
//!
//! Readers open nothing but the source, write nothing, and know nothing of a ledger. What they give
//! ([`Gathered`]) is imported by [`crate::engine::Imports`] in one act.

mod items;
pub mod palyra;

pub use items::{FoundCertificate, FoundDevice, FoundSecret, Gathered, Line, Verdict};
