//! The file of one envelope: JSON of one encoding, so that any program can read it and none can smuggle.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::base::LedgerId;
use crate::crypto::{Hash, labels};

const VERSION: u32 = 1;

/// An object file (stored).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectFile {
    version: u32,
    ledger: LedgerId,
    slot: u64,
    digest: Hash,
    envelope: String,
}

/// Why bytes are no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectFault {
    /// They are no object file of a known version.
    Form,
    /// It belongs to another ledger or slot.
    Place,
    /// Its digest is not its envelope's.
    Digest,
}

impl ObjectFault {
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Form => "it is no object file of a known version",
            Self::Place => "it belongs to another ledger or another slot",
            Self::Digest => "its digest is not that of its envelope",
        }
    }
}

/// The bytes of an object file.
pub(super) fn encode(ledger: LedgerId, slot: u64, envelope: &[u8]) -> Vec<u8> {
    let digest = Hash::of(labels::ENVELOPE_DIGEST, &[envelope]);
    let file = ObjectFile { version: VERSION, ledger, slot, digest, envelope: STANDARD.encode(envelope) };
    // Numbers and texts alone: there is nothing that could fail.
    let mut bytes = serde_json::to_vec(&file).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The envelope in an object file. What parses encodes to the same bytes.
pub(super) fn decode(ledger: LedgerId, slot: u64, bytes: &[u8]) -> Result<Vec<u8>, ObjectFault> {
    let file: ObjectFile = serde_json::from_slice(bytes).map_err(|_| ObjectFault::Form)?;
    let envelope = STANDARD.decode(&file.envelope).map_err(|_| ObjectFault::Form)?;
    if file.digest != Hash::of(labels::ENVELOPE_DIGEST, &[&envelope]) {
        return Err(ObjectFault::Digest);
    }
    if encode(file.ledger, file.slot, &envelope) != bytes {
        return Err(ObjectFault::Form);
    }
    if file.ledger == ledger && file.slot == slot { Ok(envelope) } else { Err(ObjectFault::Place) }
}

/// Reads an object file from arbitrary bytes; for fuzzing.
///
/// # Panics
/// Where what parses has a second encoding.
#[doc(hidden)]
pub fn fuzz_object(bytes: &[u8]) {
    let ledger = LedgerId::from_bytes([0x1d; 16]);
    if let Ok(envelope) = decode(ledger, 7, bytes) {
        assert_eq!(encode(ledger, 7, &envelope), bytes, "an object file has one encoding");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_encoding_and_one_place() {
        let ledger = LedgerId::from_bytes([0x1d; 16]);
        let bytes = encode(ledger, 7, b"envelope");
        assert_eq!(decode(ledger, 7, &bytes), Ok(b"envelope".to_vec()));
        assert_eq!(decode(ledger, 8, &bytes), Err(ObjectFault::Place));
        assert_eq!(decode(LedgerId::from_bytes([2; 16]), 7, &bytes), Err(ObjectFault::Place));
        let text = String::from_utf8(bytes).unwrap();
        for changed in [
            text.trim_end().to_owned(),
            text.replace(',', ", "),
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("\"slot\":7", "\"slot\":7,\"slot\":7"),
            text.replace("\"slot\":7", "\"slot\":7,\"more\":1"),
        ] {
            assert_eq!(decode(ledger, 7, changed.as_bytes()), Err(ObjectFault::Form), "{changed}");
        }
        let other = text.replace(&STANDARD.encode("envelope"), &STANDARD.encode("envelopf"));
        assert_eq!(decode(ledger, 7, other.as_bytes()), Err(ObjectFault::Digest));
    }
}
