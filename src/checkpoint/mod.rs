//! Signed checkpoints: what a ledger was, in a text of below one kilobyte that others can keep.
//!
//! A checkpoint says how many events there were, the hash of the last, the root of the Merkle tree over
//! all, when, and in which branch of history. It is a C2SP `tlog-checkpoint` in a C2SP `signed-note`,
//! so that tools which know nothing of ledgers can check, keep and countersign it. Kept outside the ledger
//! it is an anchor: a ledger that ends before it was cut off or rolled back, one that holds other events
//! was rewritten ([`fit`]). Nothing here reads files or needs secrets beside the key that signs.
//!
//! ```
//! use palyra_ledger::checkpoint::{Checkpoint, SignedCheckpoint, verifier};
//! # use palyra_ledger::crypto::{Hash, Key, SigningKey};
//! # let (head, root) = (Hash([1; 32]), Hash([2; 32]));
//! # let key = SigningKey::from_seed(&Key::from_bytes(&mut [7; 32]))?;
//! # let ledger_id = "000102030405060708090a0b0c0d0e0f".parse()?;
//! # let time = palyra_ledger::Timestamp::from_millis(1_767_225_600_000);
//! let checkpoint = Checkpoint { ledger_id, size: 42, root, head, state: None, time, branch: 0, key: key.public() };
//! let signed = SignedCheckpoint::sign(checkpoint, &key)?;
//! let read = SignedCheckpoint::verify(signed.note().as_bytes(), &verifier(ledger_id, key.public()))?;
//! assert_eq!(read.checkpoint().size, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod anchor;
pub mod note;
mod signed;
pub mod tree;

pub use anchor::{Branch, Fit, Settled, fit, keep, split_notes};
pub use note::{NoteError, NoteSignature, SignedNote, VerifierKey};
pub use signed::{Checkpoint, SignedCheckpoint, signing_key, verifier};
pub use tree::Frontier;

/// Reads a checkpoint from arbitrary bytes and encodes again what reads; for fuzzing.
///
/// # Panics
/// Where other bytes come out than went in.
#[doc(hidden)]
pub fn fuzz_note(bytes: &[u8]) {
    if let Ok(note) = SignedNote::parse(bytes) {
        assert_eq!(note.encode().as_bytes(), bytes, "a note has one encoding");
        if let Ok(checkpoint) = Checkpoint::parse(&note.text) {
            assert_eq!(checkpoint.text(), note.text, "a checkpoint has one encoding");
        }
    }
    let (notes, rest) = split_notes(bytes);
    let length: usize = notes.iter().map(|note| note.len() + 1).sum();
    assert_eq!(length + rest, bytes.len(), "every byte is of a note or of the rest");
}
