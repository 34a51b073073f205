//! What is stored: names and random values; and the sealed records of the peers.

use std::sync::atomic::{AtomicU64, Ordering};

use palyra_ledger::crypto::{Hash, Hasher, Key, NONCE_LEN, SEALED_OVERHEAD, labels};
use palyra_ledger::event::{self, Event, vault::PutCause, vault::SecretPut};
use palyra_ledger::log::frame::FRAME_OVERHEAD;
use palyra_ledger::vault::Sealer;
use palyra_ledger::{Caller, LedgerId, OsRandom, Random, Scope, SecretBytes, SecretName, SecretPath};

use crate::Fault;

const POOL_BYTES: usize = 1 << 20;

/// Random bytes, drawn once: values are windows of them.
#[derive(Debug)]
pub struct Pool {
    bytes: Vec<u8>,
    dice: AtomicU64,
}

impl Pool {
    /// Draws the bytes.
    pub fn new() -> Result<Self, Fault> {
        let mut bytes = vec![0; POOL_BYTES];
        OsRandom.fill(&mut bytes)?;
        let random: &dyn Random = &OsRandom;
        Ok(Self { bytes, dice: AtomicU64::new(u64::from_le_bytes(random.array()?)) })
    }

    /// A random value.
    pub fn value(&self, bytes: usize) -> &[u8] {
        let at = usize::try_from(self.below(u32::try_from(POOL_BYTES - bytes).unwrap_or(1))).unwrap_or(0);
        self.bytes.get(at..at + bytes).unwrap_or_default()
    }

    /// A number below a bound (`SplitMix64`).
    pub fn below(&self, bound: u32) -> u32 {
        let mut z = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(((z ^ (z >> 31)) >> 32) % u64::from(bound.max(1))).unwrap_or(0)
    }
}

/// The name of a secret by number; all have the same length.
pub fn name(number: u32) -> Result<SecretName, Fault> {
    Ok(format!("bench/k{number:010}").parse()?)
}

/// Seals the same envelopes as the ledger does, and chains records with the same hash.
#[derive(Debug)]
pub struct Sealed {
    sealer: Sealer,
    hasher: Hasher,
}

impl Sealed {
    /// With a random key.
    pub fn new() -> Result<Self, Fault> {
        let random: &dyn Random = &OsRandom;
        let sealer = Sealer {
            ledger_id: LedgerId::from_bytes(random.array()?),
            slot: 0,
            slot_key: Key::from_bytes(&mut random.array()?),
        };
        Ok(Self { sealer, hasher: Hasher::new(labels::FRAME_HASH) })
    }

    /// The envelope of a value.
    pub fn envelope(&self, name: &SecretName, version: u32, value: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut nonce = [0; NONCE_LEN];
        OsRandom.fill(&mut nonce)?;
        let target = SecretPath { scope: Scope::global(), name: name.clone() };
        Ok(self.sealer.seal(&target, version, &nonce, &SecretBytes::from(value)))
    }

    /// The hash of a record behind another.
    pub fn chain(&self, prev: &Hash, name: &SecretName, version: u32, envelope: &[u8]) -> Hash {
        let mut hasher = self.hasher.clone();
        hasher.update(prev.as_bytes());
        hasher.update(name.as_str().as_bytes());
        hasher.update(&version.to_le_bytes());
        hasher.update(envelope);
        hasher.finish()
    }
}

/// Bytes of the frame that a put of a value appends to the ledger's journal.
pub fn frame_bytes(value_bytes: usize) -> Result<usize, Fault> {
    let event = Event::SecretPut(SecretPut {
        scope: Scope::global(),
        name: name(0)?,
        version: 1,
        slot: 0,
        value_bytes: u32::try_from(value_bytes)?,
        expires_at: None,
        description: None,
        labels: std::collections::BTreeMap::new(),
        envelope_digest: Hash([0; 32]),
        backend: 0,
        cause: Some(PutCause::Given),
        envelope: vec![0; value_bytes + SEALED_OVERHEAD],
    });
    Ok(FRAME_OVERHEAD + event::encode(&Caller::system(), &event)?.plain.len())
}
