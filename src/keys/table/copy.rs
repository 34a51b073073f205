//! A key table on its way into a backup and out of one: each slot once, from whichever copy is whole.

use std::sync::atomic::Ordering;

use crate::base::LedgerId;
use crate::keys::error::KeysError;
use crate::keys::table_format::{Place, SLOT_LEN, Stored, TableHeader};
use crate::keys::unlocked::Kek;

use super::{KeyTable, SlotStatus, at};

impl KeyTable {
    /// Generation of the KEK that wraps its keys.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Consecutive slots as one whole copy of them, [`TABLE_SLOT_LEN`](crate::keys::TABLE_SLOT_LEN) bytes each;
    /// shredded in one copy is shredded, and what neither copy holds is empty.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn copy_out(&self, from: u64, count: u64) -> Result<Vec<u8>, KeysError> {
        let [one, other] = [0, 1].map(|copy| self.read_many(copy, from, count));
        let (one, other) = (one?, other?);
        let mut bytes = Vec::with_capacity(one.len() * SLOT_LEN);
        for (slot, copies) in (from..).zip(one.iter().zip(&other)) {
            let chosen = match copies {
                (shredded @ Stored::Shredded { .. }, _) | (_, shredded @ Stored::Shredded { .. }) => shredded,
                (present @ Stored::Present { .. }, _) | (_, present @ Stored::Present { .. }) => present,
                _ => &Stored::Empty,
            };
            bytes.extend_from_slice(&self.place(slot).encode(chosen));
        }
        Ok(bytes)
    }

    /// Writes slots from [`KeyTable::copy_out`] into a table that is being made; durable after
    /// [`KeyTable::shredded_through`] or [`KeyTable::settle_copy`].
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn copy_in(&self, first: u64, bytes: &[u8]) -> Result<(), KeysError> {
        let _writer = self.writer()?;
        for copy in &self.copies {
            copy.write_at(at(first), bytes)?;
        }
        self.len.fetch_max(first + (bytes.len() / SLOT_LEN) as u64, Ordering::AcqRel);
        Ok(())
    }

    /// Writes shredded slots into a table that is being made.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn copy_in_shredded(&self, seq: u64, slots: &[u64]) -> Result<(), KeysError> {
        slots.iter().try_for_each(|slot| self.copy_in(*slot, &self.place(*slot).shredded(seq)))
    }

    /// Makes a table durable that was copied: shreds below `below` are carried out in it.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn settle_copy(&self, below: u64) -> Result<(), KeysError> {
        let header = TableHeader { ledger_id: self.ledger_id, generation: self.generation, shredded_below: below };
        self.write_both(&mut *self.writer()?, &|file| file.write_at(0, &header.encode()))?;
        self.shredded_below.store(below, Ordering::Release);
        Ok(())
    }

    /// What slots from [`KeyTable::copy_out`] hold; nothing where one of them is not whole. With a KEK every key is
    /// opened.
    #[must_use]
    pub fn examine_copy(
        (ledger_id, generation): (LedgerId, u32),
        kek: Option<&Kek>,
        first: u64,
        bytes: &[u8],
    ) -> Option<Vec<SlotStatus>> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(SLOT_LEN) {
            return None;
        }
        let mut found = Vec::with_capacity(bytes.len() / SLOT_LEN);
        for (slot, bytes) in (first..).zip(bytes.chunks_exact(SLOT_LEN)) {
            let place = Place { generation, slot };
            let stored = place.read(bytes.first_chunk()?);
            found.push(match &stored {
                Stored::Empty => SlotStatus::Empty,
                Stored::Shredded { seq } => SlotStatus::Shredded { seq: *seq },
                Stored::Damaged => return None,
                Stored::Present { .. } => {
                    if let Some(kek) = kek {
                        place.open(kek, ledger_id, &stored).ok()?;
                    }
                    SlotStatus::Present
                }
            });
        }
        Some(found)
    }
}
