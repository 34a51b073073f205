//! What an opened key ring gives: the keys themselves.

use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use crate::base::bytes::Reader;
use crate::base::{LedgerId, Random, SlotId, limits};
use crate::crypto::{KEY_LEN, Key, NONCE_LEN, Opener, TAG_LEN, labels};

use super::error::KeysError;

/// Longest CA key in bytes (PKCS #8, DER): an RSA-4096 key has about 2,400.
pub(super) const CA_KEY_MAX: usize = 8192;

/// What the root key seals (stored, sealed).
pub(super) struct Secrets {
    pub ledger_key: Key,
    pub kek_salt: Key,
    pub ca_key: Zeroizing<Vec<u8>>,
    pub epochs: Vec<Key>,
}

impl Secrets {
    pub(super) fn generate(random: &dyn Random, ca_key: Zeroizing<Vec<u8>>) -> Result<Self, KeysError> {
        Ok(Self {
            ledger_key: Key::generate(random)?,
            kek_salt: Key::generate(random)?,
            ca_key,
            epochs: vec![Key::generate(random)?],
        })
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Sized once, so that no reallocation leaves a copy behind.
        let len = 2 * KEY_LEN + 2 + self.ca_key.len() + 4 + self.epochs.len() * KEY_LEN;
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.extend_from_slice(self.ledger_key.expose());
        out.extend_from_slice(self.kek_salt.expose());
        out.extend_from_slice(&u16::try_from(self.ca_key.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&self.ca_key);
        out.extend_from_slice(&u32::try_from(self.epochs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for epoch in &self.epochs {
            out.extend_from_slice(epoch.expose());
        }
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let ledger_key = Key::from_slice(reader.bytes(KEY_LEN)?)?;
        let kek_salt = Key::from_slice(reader.bytes(KEY_LEN)?)?;
        let ca_len = usize::from(reader.u16()?);
        let ca_key = Zeroizing::new(reader.bytes(ca_len)?.to_vec());
        let count = usize::try_from(reader.u32()?).ok()?;
        if ca_len == 0 || ca_len > CA_KEY_MAX || count == 0 || count > limits::EPOCHS_MAX {
            return None;
        }
        let keys = reader.bytes(count.checked_mul(KEY_LEN)?)?;
        let epochs = keys.chunks_exact(KEY_LEN).map(Key::from_slice).collect::<Option<Vec<_>>>()?;
        reader.0.is_empty().then_some(Self { ledger_key, kek_salt, ca_key, epochs })
    }
}

/// The keys of an open ledger. Wiped on drop; shows nothing.
pub struct Unlocked {
    pub(super) ledger_id: LedgerId,
    pub(super) slot: SlotId,
    pub(super) root: Key,
    pub(super) secrets: Secrets,
    openers: Vec<OnceLock<Arc<Opener>>>,
}

impl std::fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlocked").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Unlocked {
    pub(super) fn new(ledger_id: LedgerId, slot: SlotId, root: Key, secrets: Secrets) -> Self {
        let openers = secrets.epochs.iter().map(|_| OnceLock::new()).collect();
        Self { ledger_id, slot, root, secrets, openers }
    }

    /// The slot that opened.
    #[must_use]
    pub const fn slot(&self) -> SlotId {
        self.slot
    }

    /// The key from which those of the head file, the index and the read spool are derived.
    #[must_use]
    pub const fn ledger_key(&self) -> &Key {
        &self.secrets.ledger_key
    }

    /// The device CA's private key (PKCS #8, DER).
    #[must_use]
    pub fn ca_key(&self) -> &[u8] {
        &self.secrets.ca_key
    }

    /// Derives the KEK from the CA key, the ledger id and the KEK salt.
    #[must_use]
    pub fn kek(&self) -> Kek {
        let parts = [self.secrets.ca_key.as_slice(), self.ledger_id.as_bytes(), self.secrets.kek_salt.expose()];
        Kek(Opener::wrapping(&Key::derive(labels::KEK, &parts)))
    }

    /// What seals and opens the bodies of an epoch's events.
    ///
    /// # Errors
    /// [`KeysError::NoEpoch`].
    pub fn epoch(&self, epoch: u32) -> Result<Arc<Opener>, KeysError> {
        let at = usize::try_from(epoch).unwrap_or(usize::MAX);
        let (Some(key), Some(opener)) = (self.secrets.epochs.get(at), self.openers.get(at)) else {
            return Err(KeysError::NoEpoch { epoch });
        };
        let opener = opener.get_or_init(|| Arc::new(Opener::new(key, labels::EPOCH_SEAL, labels::EPOCH_COMMIT)));
        Ok(Arc::clone(opener))
    }
}

/// The key that wraps DEK slots.
pub struct Kek(Opener);

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kek(..)")
    }
}

impl Kek {
    pub(super) fn wrap(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], key: &Key) -> ([u8; KEY_LEN], [u8; TAG_LEN]) {
        let mut wrapped = *key.expose();
        let tag = self.0.seal_uncommitted(nonce, aad, &mut wrapped);
        (wrapped, tag)
    }

    pub(super) fn unwrap(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        wrapped: &[u8; KEY_LEN],
        tag: &[u8; TAG_LEN],
    ) -> Option<Key> {
        let mut plain = Zeroizing::new(*wrapped);
        self.0.open_uncommitted(nonce, aad, plain.as_mut_slice(), tag).ok()?;
        Some(Key::from_bytes(&mut plain))
    }
}
