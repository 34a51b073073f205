//! The checkpoint's own lines, and who must have signed them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::{LedgerId, Timestamp};
use crate::crypto::{Hash, Key, PublicKey, SignError, SigningKey, labels};

use super::note::{NoteError, NoteSignature, SignedNote, VerifierKey};

/// What stands before the ledger's id in the origin line and the key's name.
const ORIGIN: &str = "palyra-ledger/";

/// The key under which a ledger's checkpoints are signed, from its ledger key: the same through every rotation.
///
/// # Errors
/// [`SignError`].
pub fn signing_key(ledger_key: &Key) -> Result<SigningKey, SignError> {
    SigningKey::from_seed(&ledger_key.subkey(labels::CHECKPOINT_SIGNING))
}

/// A ledger's public key under its name.
#[must_use]
pub fn verifier(ledger_id: LedgerId, key: PublicKey) -> VerifierKey {
    VerifierKey { name: format!("{ORIGIN}{ledger_id}"), key }
}

/// What a ledger was after its first `size` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Events that it covers: 0 to `size - 1`; never none.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Hash,
    /// Hash of the last of them, which the chain ties to all before.
    pub head: Hash,
    /// Root of the state after them, where it was computed.
    pub state: Option<Hash>,
    /// When it was made.
    pub time: Timestamp,
    /// Branch of history: how often an older copy was put back on purpose.
    pub branch: u32,
    /// The key that signs it.
    pub key: PublicKey,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let state = self.state.map_or_else(|| "none".to_owned(), |state| state.to_string());
        format!(
            "{ORIGIN}{}\n{}\n{}\nhead {}\nstate {state}\ntime {}\nbranch {}\nkey {}\n",
            self.ledger_id,
            self.size,
            STANDARD.encode(self.root.0),
            self.head,
            self.time.as_millis(),
            self.branch,
            STANDARD.encode(self.key.0),
        )
    }

    /// Reads the text; every other text than the one it would be written as is refused.
    ///
    /// # Errors
    /// [`NoteError::Line`] with the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.split('\n').zip(1..);
        let mut next = |prefix: &str| match lines.next() {
            Some((line, number)) => {
                line.strip_prefix(prefix).map(|rest| (rest, number)).ok_or(NoteError::Line { line: number })
            }
            None => Err(NoteError::Line { line: 0 }),
        };
        let (ledger_id, at) = next(ORIGIN)?;
        let ledger_id = ledger_id.parse().map_err(|_| NoteError::Line { line: at })?;
        let size = number(next("")?)?;
        let root = Hash(array(next("")?)?);
        let head = hash(next("head ")?)?;
        let state = match next("state ")? {
            ("none", _) => None,
            found => Some(hash(found)?),
        };
        let time = Timestamp::from_millis(number(next("time ")?)?);
        let (branch, at) = next("branch ")?;
        let branch = u32::try_from(number((branch, at))?).map_err(|_| NoteError::Line { line: at })?;
        let key = PublicKey(array(next("key ")?)?);
        let read = Self { ledger_id, size, root, head, state, time, branch, key };
        if size == 0 {
            return Err(NoteError::Line { line: 2 });
        }
        if read.text() == text { Ok(read) } else { Err(NoteError::Line { line: 9 }) }
    }

    /// The key that signs it, under its name.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        verifier(self.ledger_id, self.key)
    }
}

/// Digits without a sign or a leading zero.
fn number((text, line): (&str, usize)) -> Result<u64, NoteError> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).ok_or(NoteError::Line { line })
}

fn array((text, line): (&str, usize)) -> Result<[u8; 32], NoteError> {
    let bytes = STANDARD.decode(text).map_err(|_| NoteError::Line { line })?;
    bytes.try_into().map_err(|_| NoteError::Line { line })
}

fn hash((text, line): (&str, usize)) -> Result<Hash, NoteError> {
    text.parse().map_err(|_| NoteError::Line { line })
}

/// A checkpoint with its ledger's signature, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: String,
}

impl SignedCheckpoint {
    /// Signs a checkpoint. The key must be the one that it names.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(checkpoint: Checkpoint, key: &SigningKey) -> Result<Self, SignError> {
        if checkpoint.key != key.public() {
            return Err(SignError);
        }
        let verifier = checkpoint.verifier();
        let text = checkpoint.text();
        let signature = key.sign(text.as_bytes())?.to_vec();
        let line = NoteSignature { key_id: verifier.id(), name: verifier.name, signature };
        let note = SignedNote { text, signatures: vec![line] }.encode();
        Ok(Self { checkpoint, note })
    }

    /// Reads a note that must be signed by a key that is known from elsewhere.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn verify(bytes: &[u8], by: &VerifierKey) -> Result<Self, NoteError> {
        let read = Self::parse(bytes)?;
        let own = read.checkpoint.verifier();
        if own.name != by.name {
            return Err(NoteError::OtherLedger);
        }
        if own.key == by.key { Ok(read) } else { Err(NoteError::OtherKey) }
    }

    /// Reads a note that is signed by the key that it names itself. That says only that it is whole: anybody
    /// can make a key. Whoever knows the ledger's key calls [`SignedCheckpoint::verify`].
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let note = SignedNote::parse(bytes)?;
        let checkpoint = Checkpoint::parse(&note.text)?;
        let (verifier, mut signed) = (checkpoint.verifier(), false);
        let id = verifier.id();
        // Lines of other keys are others' to check: witnesses sign beside.
        for line in note.signatures.iter().filter(|line| line.name == verifier.name && line.key_id == id) {
            if !checkpoint.key.verifies(note.text.as_bytes(), &line.signature) {
                return Err(NoteError::Forged);
            }
            signed = true;
        }
        if !signed {
            return Err(NoteError::Unsigned);
        }
        Ok(Self { checkpoint, note: note.encode() })
    }

    /// What it says.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, as it is kept.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
