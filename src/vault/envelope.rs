//! Envelope encryption: one DEK per secret version, bound to its place (DESIGN section 3).

use zeroize::Zeroizing;

use crate::base::{LedgerId, SecretBytes, SecretPath};
use crate::crypto::{Hash, Key, NONCE_LEN, OpenError, Opener, labels, open_sealed, seal_sealed};

/// Why an envelope did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The envelope is not the one whose digest the event records.
    #[error("the envelope is not the one that the event records")]
    Digest,
    /// The key does not open the envelope.
    #[error("the envelope does not open: {0}")]
    Open(#[from] OpenError),
}

/// Seals one value with a slot key that is used for nothing else.
#[derive(Debug)]
pub struct Sealer {
    /// The ledger, bound into key and associated data.
    pub ledger_id: LedgerId,
    /// Number of the slot in the key table.
    pub slot: u64,
    /// The slot's key.
    pub slot_key: Key,
}

impl Sealer {
    /// The envelope of a value: nonce (24), key commitment (32), ciphertext, tag (16).
    #[must_use]
    pub fn seal(&self, target: &SecretPath, version: u32, nonce: &[u8; NONCE_LEN], value: &SecretBytes) -> Vec<u8> {
        let place = Place::new(self.ledger_id, target, version);
        seal_sealed(&place.dek(&self.slot_key), nonce, &place.0, value.expose())
    }
}

/// Opens an envelope with the key of its slot.
///
/// # Errors
/// [`EnvelopeError::Open`] where key, place or bytes are not those that were sealed.
pub fn open(
    ledger_id: LedgerId,
    slot_key: &Key,
    target: &SecretPath,
    version: u32,
    envelope: &[u8],
) -> Result<SecretBytes, EnvelopeError> {
    let place = Place::new(ledger_id, target, version);
    let plain: Zeroizing<Vec<u8>> = open_sealed(&place.dek(slot_key), &place.0, envelope)?;
    Ok(SecretBytes::from(plain.as_slice()))
}

/// The digest by which the event knows its envelope.
#[must_use]
pub fn digest(envelope: &[u8]) -> Hash {
    Hash::of(labels::ENVELOPE_DIGEST, &[envelope])
}

/// Ledger, scope, name and version as associated data; each variable part behind its length.
struct Place(Vec<u8>);

impl Place {
    fn new(ledger_id: LedgerId, target: &SecretPath, version: u32) -> Self {
        let (scope, name) = (target.scope.as_str().as_bytes(), target.name.as_str().as_bytes());
        let mut bytes = Vec::with_capacity(16 + 4 + scope.len() + 4 + name.len() + 4);
        bytes.extend_from_slice(ledger_id.as_bytes());
        for part in [scope, name] {
            // A scope is at most 521 bytes and a name 128: the lengths fit.
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(&version.to_le_bytes());
        Self(bytes)
    }

    fn dek(&self, slot_key: &Key) -> Opener {
        Opener::derive(labels::DEK, &[slot_key.expose(), &self.0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_opens_only_at_its_own_place() {
        let sealer = |byte| Sealer {
            ledger_id: LedgerId::from_bytes([1; 16]),
            slot: 0,
            slot_key: Key::from_bytes(&mut [byte; 32]),
        };
        let target: SecretPath = "global/a".parse().unwrap();
        let value = SecretBytes::new(b"value".to_vec());
        let envelope = sealer(9).seal(&target, 1, &[3; 24], &value);
        let key = &sealer(9).slot_key;
        assert_eq!(open(LedgerId::from_bytes([1; 16]), key, &target, 1, &envelope), Ok(value));
        assert!(open(LedgerId::from_bytes([2; 16]), key, &target, 1, &envelope).is_err(), "other ledger");
        assert!(
            open(LedgerId::from_bytes([1; 16]), key, &"global/b".parse().unwrap(), 1, &envelope).is_err(),
            "other name"
        );
        assert!(
            open(LedgerId::from_bytes([1; 16]), key, &"skill:x/a".parse().unwrap(), 1, &envelope).is_err(),
            "other scope"
        );
        assert!(open(LedgerId::from_bytes([1; 16]), key, &target, 2, &envelope).is_err(), "other version");
        assert!(open(LedgerId::from_bytes([1; 16]), &sealer(8).slot_key, &target, 1, &envelope).is_err(), "other key");
    }
}
