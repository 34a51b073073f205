//! What an opened key ring gives: the keys themselves.

use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use crate::base::bytes::Reader;
use crate::base::{KeyedPrint, LedgerId, Random, SecretBytes, SlotId, limits};
use crate::crypto::{Hash, KEY_LEN, Key, MessageKey, NONCE_LEN, Opener, TAG_LEN, keyed_hash, labels};

use super::error::KeysError;

/// Longest CA key in bytes (PKCS #8, DER): an RSA-4096 key has about 2,400.
pub(super) const CA_KEY_MAX: usize = 8192;

/// Layout of a ledger whose CA was never rolled.
pub(super) const FIRST: u16 = 1;
/// Layout with the generation of the CA key, and further CA keys.
pub(super) const WITH_GENERATIONS: u16 = 2;

/// What the root key seals (stored, sealed).
pub(super) struct Secrets {
    pub ledger_key: Key,
    pub kek_salt: Key,
    /// The CA key that issues, and from which the KEK is derived.
    pub ca_key: Zeroizing<Vec<u8>>,
    /// Its generation, from 1.
    pub ca_generation: u32,
    /// CA keys of other generations: prepared, or still trusted. In order of generation.
    pub other_ca_keys: Vec<(u32, Zeroizing<Vec<u8>>)>,
    pub epochs: Vec<Key>,
}

impl Secrets {
    pub(super) fn generate(random: &dyn Random, ca_key: Zeroizing<Vec<u8>>) -> Result<Self, KeysError> {
        Ok(Self {
            ledger_key: Key::generate(random)?,
            kek_salt: Key::generate(random)?,
            ca_key,
            ca_generation: 1,
            other_ca_keys: Vec::new(),
            epochs: vec![Key::generate(random)?],
        })
    }

    /// The layout that these need: the first as long as the CA was never rolled.
    pub(super) const fn version(&self) -> u16 {
        if self.ca_generation == 1 && self.other_ca_keys.is_empty() { FIRST } else { WITH_GENERATIONS }
    }

    pub(super) fn duplicate(&self) -> Option<Self> {
        Self::parse(&self.encode(), self.version())
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Sized once, so that no reallocation leaves a copy behind.
        let others: usize = self.other_ca_keys.iter().map(|(_, key)| 6 + key.len()).sum();
        let len = 2 * KEY_LEN + 2 + self.ca_key.len() + 4 + self.epochs.len() * KEY_LEN + 6 + others;
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.extend_from_slice(self.ledger_key.expose());
        out.extend_from_slice(self.kek_salt.expose());
        out.extend_from_slice(&u16::try_from(self.ca_key.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&self.ca_key);
        out.extend_from_slice(&u32::try_from(self.epochs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for epoch in &self.epochs {
            out.extend_from_slice(epoch.expose());
        }
        if self.version() == WITH_GENERATIONS {
            out.extend_from_slice(&self.ca_generation.to_le_bytes());
            out.extend_from_slice(&u16::try_from(self.other_ca_keys.len()).unwrap_or(u16::MAX).to_le_bytes());
            for (generation, key) in &self.other_ca_keys {
                out.extend_from_slice(&generation.to_le_bytes());
                out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
                out.extend_from_slice(key);
            }
        }
        out
    }

    /// Reads the bytes of a layout; what could have been written in the first layout is refused in the second.
    pub(super) fn parse(bytes: &[u8], version: u16) -> Option<Self> {
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
        let (ca_generation, other_ca_keys) =
            if version == WITH_GENERATIONS { parse_generations(&mut reader)? } else { (1, Vec::new()) };
        let secrets = Self { ledger_key, kek_salt, ca_key, ca_generation, other_ca_keys, epochs };
        (reader.0.is_empty() && secrets.version() == version).then_some(secrets)
    }
}

type Generations = (u32, Vec<(u32, Zeroizing<Vec<u8>>)>);

fn parse_generations(reader: &mut Reader<'_>) -> Option<Generations> {
    let active = reader.u32()?;
    let count = usize::from(reader.u16()?);
    if active == 0 || count >= limits::CA_KEYS_MAX {
        return None;
    }
    let mut others = Vec::with_capacity(count);
    let mut last = 0;
    for _ in 0..count {
        let generation = reader.u32()?;
        let len = usize::from(reader.u16()?);
        if generation <= last || generation == active || len == 0 || len > CA_KEY_MAX {
            return None;
        }
        last = generation;
        others.push((generation, Zeroizing::new(reader.bytes(len)?.to_vec())));
    }
    Some((active, others))
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

    /// A keyed fingerprint of a secret's value: equal values have equal ones, in this ledger and for ever; to
    /// whoever lacks the keys it says nothing, not even whether a guess is right.
    #[must_use]
    pub fn value_fingerprint(&self, value: &SecretBytes) -> KeyedPrint {
        let key = self.ledger_key().subkey(labels::VALUE_PRINT);
        keyed_hash(&key, &[value_digest(value.expose()).as_bytes()]).print()
    }

    /// The device CA's private key (PKCS #8, DER).
    #[must_use]
    pub fn ca_key(&self) -> &[u8] {
        &self.secrets.ca_key
    }

    /// The CA key of a generation (PKCS #8, DER), as long as the ring holds it.
    #[must_use]
    pub fn ca_key_of(&self, generation: u32) -> Option<&[u8]> {
        if generation == self.secrets.ca_generation {
            return Some(&self.secrets.ca_key);
        }
        let found = self.secrets.other_ca_keys.iter().find(|(other, _)| *other == generation);
        found.map(|(_, key)| key.as_slice())
    }

    /// Derives the KEK from the CA key, the ledger id and the KEK salt.
    #[must_use]
    pub fn kek(&self) -> Kek {
        let parts = [self.secrets.ca_key.as_slice(), self.ledger_id.as_bytes(), self.secrets.kek_salt.expose()];
        Kek(Opener::wrapping(&Key::derive(labels::KEK, &parts)))
    }

    /// The key of one message that an epoch's key sealed, to be given away.
    ///
    /// # Errors
    /// [`KeysError::NoEpoch`] where there is no such epoch.
    pub fn message_key(&self, epoch: u32, nonce: &[u8; NONCE_LEN]) -> Result<MessageKey, KeysError> {
        Ok(MessageKey::of(&self.epoch_key(epoch)?.subkey(labels::EPOCH_SEAL), nonce))
    }

    pub(super) fn epoch_key(&self, epoch: u32) -> Result<&Key, KeysError> {
        let at = usize::try_from(epoch).unwrap_or(usize::MAX);
        self.secrets.epochs.get(at).ok_or(KeysError::NoEpoch { epoch })
    }

    /// The latest epoch.
    #[must_use]
    pub fn last_epoch(&self) -> u32 {
        u32::try_from(self.secrets.epochs.len().saturating_sub(1)).unwrap_or(u32::MAX)
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

/// Digest of a value, unkeyed, from which its fingerprint is made: for whoever resolves where the ledger's keys are
/// not. It never leaves memory.
#[must_use]
pub fn value_digest(value: &[u8]) -> Hash {
    Hash::of_secret(labels::VALUE_DIGEST, value)
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
