//! The bytes of the key table (stored; FORMAT.md "The key table").

use std::sync::OnceLock;

use crate::base::LedgerId;
use crate::base::bytes::{Reader, newer};
use crate::crypto::{Hash, Hasher, KEY_LEN, Key, NONCE_LEN, TAG_LEN, labels};

use super::error::SlotError;
use super::unlocked::Kek;

/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 128;
/// Bytes of a slot: nonce, wrapped key, tag, check.
pub(super) const SLOT_LEN: usize = NONCE_LEN + KEY_LEN + TAG_LEN + CHECK_LEN;
const CHECK_LEN: usize = 8;
const PAYLOAD_LEN: usize = SLOT_LEN - CHECK_LEN;
const MAGIC: [u8; 4] = *b"PLKT";
const VERSION: u16 = 1;
/// Begins a shredded slot; a random nonce begins so once in 2^64, and never with zeros all behind.
const SHREDDED: [u8; 8] = *b"SHREDDED";

/// Where a slot stands: bound into its check and its seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub generation: u32,
    pub slot: u64,
}

/// One copy of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Empty,
    Present { nonce: [u8; NONCE_LEN], wrapped: [u8; KEY_LEN], tag: [u8; TAG_LEN] },
    Shredded { seq: u64 },
    Damaged,
}

impl Place {
    fn check(self, payload: &[u8; PAYLOAD_LEN]) -> [u8; CHECK_LEN] {
        // Hashing the context anew for each of a million slots would cost as much as the slots.
        static START: OnceLock<Hasher> = OnceLock::new();
        let mut hasher = START.get_or_init(|| Hasher::new(labels::SLOT_CHECK)).clone();
        let mut whole = [0; 4 + 8 + PAYLOAD_LEN];
        let (generation, rest) = whole.split_at_mut(4);
        let (slot, rest) = rest.split_at_mut(8);
        generation.copy_from_slice(&self.generation.to_le_bytes());
        slot.copy_from_slice(&self.slot.to_le_bytes());
        rest.copy_from_slice(payload);
        hasher.update(&whole);
        hasher.finish().0.first_chunk().copied().unwrap_or_default()
    }

    fn aad(self, ledger_id: LedgerId) -> [u8; 28] {
        let mut aad = [0; 28];
        let (id, rest) = aad.split_at_mut(16);
        let (generation, slot) = rest.split_at_mut(4);
        id.copy_from_slice(ledger_id.as_bytes());
        generation.copy_from_slice(&self.generation.to_le_bytes());
        slot.copy_from_slice(&self.slot.to_le_bytes());
        aad
    }

    /// Reads one copy of a slot.
    pub(super) fn read(self, bytes: &[u8; SLOT_LEN]) -> Stored {
        if bytes.iter().all(|byte| *byte == 0) {
            return Stored::Empty;
        }
        let Some((payload, check)) = bytes.split_first_chunk::<PAYLOAD_LEN>() else { return Stored::Damaged };
        if check != self.check(payload) {
            return Stored::Damaged;
        }
        let mut reader = Reader(payload);
        if payload.starts_with(&SHREDDED) && payload.iter().skip(16).all(|byte| *byte == 0) {
            let _marker: Option<[u8; 8]> = reader.take();
            return reader.u64().map_or(Stored::Damaged, |seq| Stored::Shredded { seq });
        }
        match (reader.take(), reader.take(), reader.take()) {
            (Some(nonce), Some(wrapped), Some(tag)) => Stored::Present { nonce, wrapped, tag },
            _ => Stored::Damaged,
        }
    }

    fn finish(self, payload: [u8; PAYLOAD_LEN]) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        let (front, check) = bytes.split_at_mut(PAYLOAD_LEN);
        front.copy_from_slice(&payload);
        check.copy_from_slice(&self.check(&payload));
        bytes
    }

    /// A filled slot.
    pub(super) fn wrap(self, kek: &Kek, ledger_id: LedgerId, nonce: &[u8; NONCE_LEN], key: &Key) -> [u8; SLOT_LEN] {
        let (wrapped, tag) = kek.wrap(nonce, &self.aad(ledger_id), key);
        self.present(nonce, &wrapped, &tag)
    }

    fn present(self, nonce: &[u8; NONCE_LEN], wrapped: &[u8; KEY_LEN], tag: &[u8; TAG_LEN]) -> [u8; SLOT_LEN] {
        let mut payload = [0; PAYLOAD_LEN];
        let (front, rest) = payload.split_at_mut(NONCE_LEN);
        let (middle, back) = rest.split_at_mut(KEY_LEN);
        front.copy_from_slice(nonce);
        middle.copy_from_slice(wrapped);
        back.copy_from_slice(tag);
        self.finish(payload)
    }

    /// A shredded slot.
    pub(super) fn shredded(self, seq: u64) -> [u8; SLOT_LEN] {
        let mut payload = [0; PAYLOAD_LEN];
        let (marker, rest) = payload.split_at_mut(8);
        marker.copy_from_slice(&SHREDDED);
        if let Some(number) = rest.get_mut(..8) {
            number.copy_from_slice(&seq.to_le_bytes());
        }
        self.finish(payload)
    }

    /// The bytes of a slot as it was read.
    pub(super) fn encode(self, stored: &Stored) -> [u8; SLOT_LEN] {
        match stored {
            Stored::Present { nonce, wrapped, tag } => self.present(nonce, wrapped, tag),
            Stored::Shredded { seq } => self.shredded(*seq),
            Stored::Empty | Stored::Damaged => [0; SLOT_LEN],
        }
    }

    /// The key in a slot.
    pub(super) fn open(self, kek: &Kek, ledger_id: LedgerId, stored: &Stored) -> Result<Key, SlotError> {
        match stored {
            Stored::Empty => Err(SlotError::Empty),
            Stored::Shredded { seq } => Err(SlotError::Shredded { seq: *seq }),
            Stored::Damaged => Err(SlotError::Damaged),
            Stored::Present { nonce, wrapped, tag } => {
                kek.unwrap(nonce, &self.aad(ledger_id), wrapped, tag).ok_or(SlotError::WrongKey)
            }
        }
    }
}

/// The header of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableHeader {
    pub ledger_id: LedgerId,
    pub generation: u32,
    /// Shred events below this sequence number are carried out in this copy.
    pub shredded_below: u64,
}

impl TableHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(self.ledger_id.as_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.shredded_below.to_le_bytes());
        out.resize(HEADER_LEN - 32, 0);
        let check = Hash::of(labels::TABLE_HEADER, &[&out]);
        out.extend_from_slice(&check.0);
        out.try_into().unwrap_or([0; HEADER_LEN])
    }

    /// The version of a table that a newer program wrote.
    pub(super) fn newer(bytes: &[u8; HEADER_LEN]) -> Option<u16> {
        newer(bytes, MAGIC, VERSION, |bytes| bytes.first_chunk().and_then(Self::parse).is_some())
    }

    pub(super) fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let known = reader.take()? == MAGIC && reader.u16()? == VERSION && reader.u16()? == 0;
        let ledger_id = LedgerId::from_bytes(reader.take()?);
        let generation = reader.u32()?;
        let _reserved = reader.u32()?;
        let header = Self { ledger_id, generation, shredded_below: reader.u64()? };
        (known && header.encode() == *bytes).then_some(header)
    }
}
