//! Evidence bundles: chosen events in one file, with the proof that each stands in the log of a signed checkpoint.
//!
//! Whoever is given a bundle needs neither the ledger nor a key of it. The events are there byte for byte; a Merkle
//! proof (RFC 6962) leads from each to the root that the ledger signed; a second, newer checkpoint shows that the log
//! went on from there without a change. The signature counts for as much as the reader knows about the key: a key
//! that came from elsewhere, or a checkpoint that was kept elsewhere, makes the proof whole.
//!
//! A body can be opened for the reader by giving away the one key that opens this frame and no other:
//! [`crate::crypto::MessageKey`]. The epoch's key stays where it is, and so do the values of secrets, which are sealed
//! again inside the body.
//!
//! The file has one encoding: what parses encodes to the same bytes. FORMAT.md has every byte.

mod build;
mod format;
mod judge;

pub use build::{BuildError, Builder};
pub use judge::{Fault, Judged, JudgedRecord, Standing, Trust};

use crate::base::LedgerId;
use crate::checkpoint::{NoteError, SignedCheckpoint};
use crate::crypto::{Hash, MessageKey};
use crate::log::FrameError;

/// Why bytes are no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It does not begin as one.
    #[error("it is no evidence bundle")]
    Magic,
    /// It was made by a version that is not known.
    #[error("version {version} of the bundle's format is not known: use the version of the program that made it")]
    Version {
        /// The version in the file.
        version: u16,
    },
    /// The digest at its end does not match: it was altered or cut off.
    #[error("the digest at its end does not match: it was altered or cut off")]
    Digest,
    /// A part is not as it must be.
    #[error("{part} at byte {offset} is not as it must be")]
    Form {
        /// Which part.
        part: &'static str,
        /// Where it begins.
        offset: usize,
    },
    /// A record is no whole frame.
    #[error("the event at byte {offset} is not whole: {source}")]
    Frame {
        /// Where it begins.
        offset: usize,
        /// Why.
        source: FrameError,
    },
    /// A checkpoint is none.
    #[error("the checkpoint at byte {offset} does not hold: {source}")]
    Note {
        /// Where it begins.
        offset: usize,
        /// Why.
        source: NoteError,
    },
    /// A part belongs to another ledger than the bundle says.
    #[error("a part at byte {offset} belongs to another ledger")]
    OtherLedger {
        /// Where it begins.
        offset: usize,
    },
}

/// A bundle.
#[derive(Debug)]
pub struct Bundle {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// What made it: a claim.
    pub tool: String,
    /// What was asked for: a claim. Nothing proves that all of it is here.
    pub selection: String,
    /// The checkpoint that the events are proven under.
    pub checkpoint: Option<SignedCheckpoint>,
    /// A newer checkpoint, and the proof that it continues the first.
    pub newer: Option<(SignedCheckpoint, Vec<Hash>)>,
    /// The events, in ascending order.
    pub records: Vec<Record>,
}

/// One event of a bundle.
#[derive(Debug)]
pub struct Record {
    /// The frame as it is stored.
    pub frame: Vec<u8>,
    /// The way to the checkpoint's root; nothing where the event is behind the checkpoint.
    pub proof: Option<Vec<Hash>>,
    /// What opens this frame alone, where it was given away.
    pub key: Option<MessageKey>,
}

/// Reads a bundle from arbitrary bytes, judges it, and encodes again what reads; for fuzzing.
///
/// # Panics
/// Where other bytes come out than went in.
#[doc(hidden)]
pub fn fuzz_bundle(bytes: &[u8]) {
    let sealed = format::with_digest(bytes.to_vec());
    for bytes in [bytes, &sealed] {
        if let Ok(bundle) = Bundle::parse(bytes) {
            assert_eq!(bundle.encode(), bytes, "a bundle has one encoding");
            let _ = bundle.judge(&[]);
        }
    }
}
