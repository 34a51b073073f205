//! Keys: the ways in (key slots), the key ring they open, and the table of DEK slots.
//!
//! ```text
//! key file | recovery words | passphrase --Argon2id--> slot key --> root key --> ledger key, epoch keys, CA key, KEK salt
//!                                                 CA key, ledger id, KEK salt --> KEK --> DEK slots
//! ```
//!
//! The key ring is one small file, rewritten whole for every change. The log commits it: a new ring is
//! staged beside the old one, the event that names its digest is appended, then it takes the old
//! one's place ([`stage`], [`promote`]); [`settle`] does what a crash left undone.
//!
//! The key table is what makes shredding possible: two files of fixed-size slots, overwritten in place
//! ([`KeyTable`]). Everything else in a ledger only ever grows.

mod error;
mod files;
mod handover;
mod key_file;
mod recovery;
mod ring;
mod slot;
mod table;
mod table_format;
mod unlocked;

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod table_tests;

pub use error::{KeysError, SlotError};
pub use files::{SlotFiles, create, promote, read, settle, stage};
pub use handover::{KeyFile, Opened};
pub use recovery::{RECOVERY_WORDS, RecoveryError, RecoveryWords};
pub use ring::{KeyRing, RingEdit};
pub use slot::{ArgonCost, Credential, KeySlot, NewSlot, SlotKind};
pub use table::{KeyTable, SlotStatus, TABLE_SLOT_LEN};
pub use unlocked::{Kek, Unlocked, value_digest};

/// Parses a key ring from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_ring(bytes: &[u8]) {
    if let Some(ring) = KeyRing::parse(bytes) {
        assert_eq!(ring.encode(), bytes, "a key ring has one encoding");
    }
}

/// Parses one slot of the key table from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_table_slot(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk() {
        let _ = table_format::Place { generation: 1, slot: 7 }.read(bytes);
    }
}

/// Parses a key file from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_key_file(bytes: &[u8]) {
    let _ = key_file::parse_key_file(bytes);
}
