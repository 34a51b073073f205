//! The file of a backup: one file, sealed, that a full restore or the next increment can be made from.
//!
//! ```text
//! header (clear)   which ledger, from which event, the key ring, the backup's key wrapped by the root key
//!                  and by the epoch's key
//! stream (sealed)  key table | envelopes outside the log | frames as stored | settings | what there must be
//! trailer (clear)  the last event, its hash, a digest over all of the file
//! ```
//!
//! Everything but the ring and the range is sealed, frames too: a frame's clear header tells a reader of the home
//! what happened when, and a backup leaves the home. What can be checked without a key is therefore that the file
//! is the one that was written (the digest) and which events it is about; that they are whole and chained takes
//! the key. The closing record counts what there must be. It holds no digest of each part: the stream's tags cover
//! every byte, and frames have their own chain up to the head.
//!
//! Whatever opens the last file of a chain opens all of it, also where slots or the root key were replaced between
//! its files: a ring holds the key of every epoch before, and each file's key is wrapped by that of its epoch. So the
//! key of a backup reaches whoever could read an event that was written in its place, and nobody else; what the
//! earlier key table holds stays wrapped by a KEK of its time, which a ring from behind a rotation does not have.
//!
//! The key table comes before the frames, because shredding overwrites it in place: what the table holds at the
//! time of copying is never newer than the last event, which is chosen afterwards.
//!
//! | a reader meets | and says |
//! |---|---|
//! | a byte that differs | [`BackupError::Digest`] without a key, [`BackupError::Sealed`] with one |
//! | a file that was cut | [`BackupError::Short`] |
//! | chunks of another backup, or in another order | [`BackupError::Sealed`] |

mod format;
mod recipients;
mod record;
mod stream;

pub use format::{Header, KeySource, Trailer};
pub use recipients::{Identities, Recipients};
pub use record::{Closing, Record, RecordKind};
pub use stream::{BackupFile, BackupReader, BackupWriter, ReadSeek};

/// Why a backup is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It could not be read or written.
    #[error("cannot read or write the backup: {0}")]
    Io(#[from] std::io::Error),
    /// It does not begin as a backup does.
    #[error("it is no backup")]
    Magic,
    /// Its format version is not known.
    #[error("its format version {0} is not known to this program")]
    Version(u16),
    /// It ends too early.
    #[error("it is cut short")]
    Short,
    /// Its header is not what was written.
    #[error("its header was altered")]
    Header,
    /// Its trailer is not what was written, or is not there.
    #[error("its end was altered or is missing")]
    Trailer,
    /// Its digest does not fit its bytes.
    #[error("its digest does not fit: a byte of it was changed since it was written")]
    Digest,
    /// The key does not open it.
    #[error("its key does not open: other keys wrapped it, or its header was altered")]
    Key,
    /// A chunk does not open.
    #[error("chunk {chunk} does not open: it was altered, or is another backup's")]
    Sealed {
        /// Which, from 0.
        chunk: u64,
    },
    /// A record is not as it must be.
    #[error("a record in it is not as it must be: {0}")]
    Record(&'static str),
    /// The frames in it are not whole or do not follow each other.
    #[error("event {seq} in it is not whole, or does not follow the one before")]
    Chain {
        /// The event that was expected.
        seq: u64,
    },
    /// It holds something else than its end says.
    #[error("it holds other {0} than its closing record says")]
    Counts(&'static str),
    /// It is another ledger's.
    #[error("it is a backup of ledger {found}, not of {expected}")]
    OtherLedger {
        /// The ledger that it names.
        found: crate::base::LedgerId,
        /// The one before.
        expected: crate::base::LedgerId,
    },
    /// It does not go on where the one before ends.
    #[error("it begins with event {found}, but event {expected} comes next")]
    Gap {
        /// Its first event.
        found: u64,
        /// The event that comes next.
        expected: u64,
    },
    /// It goes on from another history.
    #[error("event {seq} before it is another one: it belongs to another branch of history")]
    OtherHistory {
        /// The event before its first.
        seq: u64,
    },
    /// The first of several begins in the middle.
    #[error("it is an increment that begins with event {from}: name the full backup before it first")]
    Increment {
        /// Its first event.
        from: u64,
    },
    /// What the events add up to is another state.
    #[error("its events add up to another state than the ledger had")]
    StateRoot,
    /// No age recipient was named when it was made.
    #[error("it was made for no age recipient")]
    NoRecipients,
    /// An age recipient or identity does not read, or does not open it.
    #[error("age: {0}")]
    Age(&'static str),
    /// Nothing was named.
    #[error("no backup was named")]
    Nothing,
}

/// A backup from arbitrary bytes; for fuzzing. What reads was written by [`BackupWriter`], byte for byte.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Ok((header, len)) = Header::parse(bytes) {
        assert_eq!(bytes.get(..len), Some(header.encode().as_slice()), "a header has one encoding");
    }
    if let Ok((record, len)) = Record::parse(bytes) {
        assert_eq!(bytes.get(..len), Some(record.encode().as_slice()), "a record has one encoding");
    }
    if let Some(trailer) = bytes.last_chunk().and_then(|end| Trailer::parse(end).ok()) {
        assert!(bytes.ends_with(&trailer.encode()), "a trailer has one encoding");
    }
}
