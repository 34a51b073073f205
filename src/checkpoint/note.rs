//! Signed notes, as C2SP's `signed-note` has them: a text, an empty line, signature lines.
//!
//! The parser is strict: what parses encodes to the same bytes. It knows nothing of keys but their names
//! and ids; [`super::SignedCheckpoint`] says whose signature must be there.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::base::limits::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX};
use crate::crypto::{PUBLIC_KEY_LEN, PublicKey};

/// Why bytes are no note, or not one that is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is longer than a note may be.
    #[error("it is longer than {NOTE_BYTES_MAX} bytes")]
    TooLong,
    /// It is not a text with signature lines.
    #[error("it is no signed note")]
    Form,
    /// It is a note, but not a checkpoint of a ledger.
    #[error("it is no checkpoint of a ledger: line {line} is not as it must be")]
    Line {
        /// Line of the text, from 1.
        line: usize,
    },
    /// It has more signatures than are looked at.
    #[error("it has more than {NOTE_SIGNATURES_MAX} signatures")]
    Signatures,
    /// No signature is by the key that the note names.
    #[error("it is not signed by the key that it names")]
    Unsigned,
    /// A signature by the key is wrong: the note was altered.
    #[error("its signature is wrong: it was altered")]
    Forged,
    /// It is signed by another key.
    #[error("it is signed by another key than this ledger's")]
    OtherKey,
    /// It is a checkpoint of another ledger.
    #[error("it is a checkpoint of another ledger")]
    OtherLedger,
    /// The text names no public key.
    #[error("expected a key of the form NAME+ID+KEY")]
    KeyForm,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Its id.
    pub key_id: [u8; 4],
    /// What it says; for Ed25519 64 bytes.
    pub signature: Vec<u8>,
}

/// A note: its text, with the line feed at its end, and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    /// What is signed.
    pub text: String,
    /// By whom.
    pub signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::TooLong`], [`NoteError::Signatures`] or [`NoteError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Form)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Form);
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        let signatures = lines.split('\n').take(NOTE_SIGNATURES_MAX + 1).map(parse_line);
        let signatures: Vec<NoteSignature> = signatures.collect::<Option<_>>().ok_or(NoteError::Form)?;
        if signatures.len() > NOTE_SIGNATURES_MAX {
            return Err(NoteError::Signatures);
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The note as bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for line in &self.signatures {
            let mut bytes = line.key_id.to_vec();
            bytes.extend_from_slice(&line.signature);
            for part in ["\u{2014} ", &line.name, " ", &STANDARD.encode(bytes), "\n"] {
                note.push_str(part);
            }
        }
        note
    }
}

fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    if !is_name(name) {
        return None;
    }
    let bytes = STANDARD.decode(signature).ok()?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    (!signature.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        key_id: *key_id,
        signature: signature.to_vec(),
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+')
}

/// Kind of key in a verifier's text: Ed25519.
const ED25519: u8 = 1;

/// A public key under a name, as C2SP writes it: `NAME+ID+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

impl VerifierKey {
    /// The id: the first four bytes of a SHA-256 over name, line feed, kind and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.0)
            .finalize()
            .into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(&self.key.0);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(bytes))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        let [name, _, key] = parts.as_slice() else { return Err(NoteError::KeyForm) };
        let bytes = STANDARD.decode(key).map_err(|_| NoteError::KeyForm)?;
        let key: [u8; PUBLIC_KEY_LEN] = match bytes.split_first() {
            Some((&ED25519, key)) => key.try_into().map_err(|_| NoteError::KeyForm)?,
            _ => return Err(NoteError::KeyForm),
        };
        let read = Self { name: (*name).to_owned(), key: PublicKey(key) };
        // The id is a check against typing errors: only the one right text is taken.
        if is_name(name) && read.to_string() == text { Ok(read) } else { Err(NoteError::KeyForm) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The note and key in the documentation of Go's `note` package.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_of_another_program_verifies() {
        let key: VerifierKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        let note = SignedNote::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(note.encode(), NOTE);
        let line = &note.signatures[0];
        assert_eq!((line.name.as_str(), line.key_id), ("PeterNeumann", key.id()));
        assert!(key.key.verifies(note.text.as_bytes(), &line.signature));
        assert!(!key.key.verifies(note.text.trim_end().as_bytes(), &line.signature));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let sign = |name: &str, base64: &str| format!("text\n\n\u{2014} {name} {base64}\n");
        assert!(SignedNote::parse(sign("a", "AAAAAAA=").as_bytes()).is_ok());
        for bad in [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            sign("", "AAAAAAA="),
            sign("a+b", "AAAAAAA="),
            sign("a\u{a0}b", "AAAAAAA="),
            sign("a", "AAAA"),
            sign("a", "AAAAAA=="),
            sign("a", "AAAAAAB="),
            sign("a", "AAAAAAA"),
            sign("a", "AAAAAAA= "),
            sign("a", "AAAAAAA=").replace('\u{2014}', "-"),
            sign("a", "AAAAAAA=").trim_end().to_owned(),
            sign("a", "AAAAAAA=").replace("text", "te\txt"),
            sign("a", "AAAAAAA=").replace('\n', "\r\n"),
        ] {
            assert_eq!(SignedNote::parse(bad.as_bytes()), Err(NoteError::Form), "{bad:?}");
        }
        let many = |count: usize| format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(count));
        assert!(SignedNote::parse(many(16).as_bytes()).is_ok());
        assert_eq!(SignedNote::parse(many(NOTE_SIGNATURES_MAX + 1).as_bytes()), Err(NoteError::Signatures));
        assert_eq!(SignedNote::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(NoteError::TooLong));
    }

    #[test]
    fn a_key_has_one_text() {
        for bad in [
            "",
            "a",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpcRQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert_eq!(bad.parse::<VerifierKey>(), Err(NoteError::KeyForm), "{bad}");
        }
    }
}
