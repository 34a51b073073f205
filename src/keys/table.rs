//! The key table: DEK slots of fixed size in two files, overwritten in place.
//!
//! Slots are filled with fresh wrapped keys some hundreds at a time, ahead of use; an event names the
//! slot its secret uses. That event is the commit point, so a put needs no sync here.
//!
//! | a crash during | leaves | mended by |
//! |---|---|---|
//! | a fill | slots that no event names, torn perhaps | they are passed over |
//! | a shred | copy a shredded, copy b not, or part of a | the log names the shred; it is carried out again |
//! | a rotation | a second generation of both files | the key ring says which counts; the other is removed |
//!
//! Both copies are never written at once: each is synced before the other is touched.

mod copy;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::base::{LedgerId, Random};
use crate::crypto::{KEY_LEN, Key, NONCE_LEN};
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::error::{KeysError, SlotError};
use super::table_format::SLOT_LEN;
use super::table_format::{HEADER_LEN, Place, Stored, TableHeader};
use super::unlocked::Kek;

/// Bytes of a slot.
pub const TABLE_SLOT_LEN: usize = SLOT_LEN;
/// Slots that a rotation moves at a time.
const CHUNK: u64 = 8192;
/// Slots below which a second thread costs more than it saves.
const SHARED_MIN: u64 = 1024;

/// What a slot holds, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotStatus {
    /// It was never filled.
    Empty,
    /// A wrapped key.
    Present,
    /// It was overwritten on purpose.
    Shredded {
        /// The event that says so.
        seq: u64,
    },
    /// Neither copy is whole.
    Damaged,
}

/// The key table, open.
pub struct KeyTable {
    copies: [Box<dyn MediumFile>; 2],
    ledger_id: LedgerId,
    generation: u32,
    len: AtomicU64,
    /// Shred events below this are carried out in both copies.
    shredded_below: AtomicU64,
    /// One copy's header was damaged when it was opened.
    damaged_header: bool,
    /// Slots of which one copy was found damaged.
    suspects: Mutex<BTreeSet<u64>>,
    writer: Mutex<Writer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Ready,
    ReadOnly,
    /// A write failed: what the medium holds is unknown until the next opening (invariant I8).
    Dead,
}

impl std::fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyTable").field("generation", &self.generation).field("len", &self.len).finish_non_exhaustive()
    }
}

/// The names of a generation's two files.
pub(super) fn file_names(generation: u32) -> [String; 2] {
    [format!("table-{generation}.a"), format!("table-{generation}.b")]
}

const fn status(stored: &Stored) -> SlotStatus {
    match stored {
        Stored::Shredded { seq } => SlotStatus::Shredded { seq: *seq },
        Stored::Present { .. } => SlotStatus::Present,
        Stored::Empty => SlotStatus::Empty,
        Stored::Damaged => SlotStatus::Damaged,
    }
}

fn create_copy(medium: &dyn Medium, path: &Path, header: &TableHeader) -> Result<Box<dyn MediumFile>, StoreError> {
    if medium.exists(path)? {
        // Left by a rotation that was never committed.
        medium.remove(path)?;
    }
    let file = medium.open(path, OpenMode::CreateNew)?;
    file.write_at(0, &header.encode())?;
    file.sync()?;
    Ok(file)
}

fn at(slot: u64) -> u64 {
    HEADER_LEN as u64 + slot * SLOT_LEN as u64
}

impl KeyTable {
    /// Makes an empty table. The caller syncs the folder.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn create(medium: &dyn Medium, dir: &Path, ledger_id: LedgerId, generation: u32) -> Result<Self, KeysError> {
        let header = TableHeader { ledger_id, generation, shredded_below: 0 };
        let [a, b] = file_names(generation);
        let a = create_copy(medium, &dir.join(a), &header)?;
        let b = create_copy(medium, &dir.join(b), &header)?;
        medium.sync_dir(dir)?;
        Ok(Self::new([a, b], header, 0, true))
    }

    fn new(copies: [Box<dyn MediumFile>; 2], header: TableHeader, len: u64, writable: bool) -> Self {
        Self {
            copies,
            ledger_id: header.ledger_id,
            generation: header.generation,
            len: AtomicU64::new(len),
            shredded_below: AtomicU64::new(header.shredded_below),
            damaged_header: false,
            suspects: Mutex::default(),
            writer: Mutex::new(if writable { Writer::Ready } else { Writer::ReadOnly }),
        }
    }

    /// Opens a table: reads the two headers, nothing more.
    ///
    /// # Errors
    /// [`KeysError`] where a file is missing, is another ledger's, or neither header is whole.
    pub fn open(
        medium: &dyn Medium,
        dir: &Path,
        ledger_id: LedgerId,
        generation: u32,
        writable: bool,
    ) -> Result<Self, KeysError> {
        let mode = if writable { OpenMode::ReadWrite } else { OpenMode::Read };
        let mut whole: Vec<TableHeader> = Vec::new();
        let mut len = 0;
        let [a, b] = file_names(generation).map(|name| -> Result<_, KeysError> {
            let path = dir.join(name);
            let file = medium.open(&path, mode)?;
            let mut bytes = [0; HEADER_LEN];
            let got = file.read_at(0, &mut bytes)?;
            if let Some(header) = TableHeader::parse(&bytes).filter(|_| got == HEADER_LEN) {
                if header.ledger_id != ledger_id || header.generation != generation {
                    return Err(KeysError::Foreign { path, found: header.ledger_id });
                }
                whole.push(header);
            } else if let Some(version) = TableHeader::newer(&bytes) {
                return Err(KeysError::Newer { path, version });
            }
            len = len.max(file.len()?.saturating_sub(HEADER_LEN as u64) / SLOT_LEN as u64);
            Ok(file)
        });
        let copies = [a?, b?];
        let Some(newest) = whole.first() else {
            let path = dir.join(file_names(generation).concat());
            return Err(KeysError::Damaged { path, what: "neither copy of the key table has a whole header" });
        };
        let least = whole.iter().map(|header| header.shredded_below).min().unwrap_or(0);
        // One header torn: what that copy carried out is unknown, so everything is carried out again.
        let shredded_below = if whole.len() == 2 { least } else { 0 };
        let damaged_header = whole.len() < 2;
        Ok(Self { damaged_header, ..Self::new(copies, TableHeader { shredded_below, ..*newest }, len, writable) })
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, KeysError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if *writer == Writer::Ready { Ok(writer) } else { Err(KeysError::TableDead) }
    }

    /// Writes to copy a, syncs it, then copy b; a failure ends all writing.
    fn write_both(
        &self,
        writer: &mut Writer,
        write: &dyn Fn(&dyn MediumFile) -> Result<(), StoreError>,
    ) -> Result<(), KeysError> {
        *writer = Writer::Dead;
        for copy in &self.copies {
            write(&**copy)?;
            copy.sync()?;
        }
        *writer = Writer::Ready;
        Ok(())
    }

    fn place(&self, slot: u64) -> Place {
        Place { generation: self.generation, slot }
    }

    fn read_copy(&self, copy: usize, slot: u64) -> Result<Stored, StoreError> {
        let Some(file) = self.copies.get(copy) else { return Ok(Stored::Empty) };
        let mut bytes = [0; SLOT_LEN];
        let got = file.read_at(at(slot), &mut bytes)?;
        if got == 0 {
            return Ok(Stored::Empty);
        }
        Ok(if got < SLOT_LEN { Stored::Damaged } else { self.place(slot).read(&bytes) })
    }

    /// How many slots there are, filled or torn.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there are no slots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sequence number of the last shred event that is carried out in both copies.
    #[must_use]
    pub fn shreds_through(&self) -> Option<u64> {
        self.shredded_below.load(Ordering::Acquire).checked_sub(1)
    }

    /// Appends `count` fresh wrapped keys, durably; returns each with its slot.
    ///
    /// # Errors
    /// [`KeysError::Store`] the first time a write fails, [`KeysError::TableDead`] ever after.
    pub fn fill(&self, kek: &Kek, random: &dyn Random, count: usize) -> Result<Vec<(u64, Key)>, KeysError> {
        let mut writer = self.writer()?;
        let first = self.len();
        let mut drawn = Zeroizing::new(vec![0; count * (KEY_LEN + NONCE_LEN)]);
        random.fill(&mut drawn)?;
        let mut bytes = Vec::with_capacity(count * SLOT_LEN);
        let mut keys = Vec::with_capacity(count);
        for (slot, drawn) in (first..).zip(drawn.chunks_exact(KEY_LEN + NONCE_LEN)) {
            let Some((nonce, key)) = drawn.split_first_chunk() else { continue };
            let Some(key) = Key::from_slice(key) else { continue };
            bytes.extend_from_slice(&self.place(slot).wrap(kek, self.ledger_id, nonce, &key));
            keys.push((slot, key));
        }
        self.write_both(&mut writer, &|file| file.write_at(at(first), &bytes))?;
        self.len.store(first + keys.len() as u64, Ordering::Release);
        Ok(keys)
    }

    /// The key in a slot, from whichever copy is whole.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn slot_key(&self, kek: &Kek, slot: u64) -> Result<Key, SlotError> {
        let place = self.place(slot);
        let first = self.read_copy(0, slot)?;
        match place.open(kek, self.ledger_id, &first) {
            Err(error @ (SlotError::Damaged | SlotError::Empty | SlotError::WrongKey)) => {
                let key = place.open(kek, self.ledger_id, &self.read_copy(1, slot)?).map_err(|_| error)?;
                self.suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(slot);
                Ok(key)
            }
            other => other,
        }
    }

    /// The key in a slot that no event names yet; both copies must hold it, or a later fault in one of
    /// them would lose a secret.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn fresh_key(&self, kek: &Kek, slot: u64) -> Result<Key, SlotError> {
        let (first, second) = (self.read_copy(0, slot)?, self.read_copy(1, slot)?);
        if first == second { self.place(slot).open(kek, self.ledger_id, &first) } else { Err(SlotError::Damaged) }
    }

    /// Shows what each copy of every slot holds, and whether the copies are alike.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn survey(&self, visit: &mut dyn FnMut(u64, [SlotStatus; 2], bool)) -> Result<(), KeysError> {
        let mut from = 0;
        while from < self.len() {
            let count = CHUNK.min(self.len() - from);
            let (one, other) = (self.raw_many(0, from, count)?, self.raw_many(1, from, count)?);
            let (first, second) = if count < SHARED_MIN {
                (self.both(from, &one, &other), Vec::new())
            } else {
                let middle = count / 2;
                let half = usize::try_from(middle).unwrap_or(0) * SLOT_LEN;
                let (one, other) = (one.split_at(half), other.split_at(half));
                std::thread::scope(|scope| {
                    let second = scope.spawn(|| self.both(from + middle, one.1, other.1));
                    let first = self.both(from, one.0, other.0);
                    (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                })
            };
            for (slot, (one, other)) in (from..).zip(first.iter().chain(&second)) {
                visit(slot, [status(one), status(other)], one == other);
            }
            from += count;
        }
        Ok(())
    }

    /// Consecutive slots of one copy in one read.
    fn read_many(&self, copy: usize, from: u64, count: u64) -> Result<Vec<Stored>, StoreError> {
        let bytes = self.raw_many(copy, from, count)?;
        Ok((from..).zip(bytes.chunks_exact(SLOT_LEN)).map(|(slot, bytes)| self.stored(slot, bytes)).collect())
    }

    /// Slots of both copies from their bytes.
    fn both(&self, from: u64, one: &[u8], other: &[u8]) -> Vec<(Stored, Stored)> {
        let slots = one.chunks_exact(SLOT_LEN).zip(other.chunks_exact(SLOT_LEN));
        (from..)
            .zip(slots)
            .map(|(slot, (one, other))| {
                let first = self.stored(slot, one);
                // The same bytes are the same slot.
                (first, if one == other { first } else { self.stored(slot, other) })
            })
            .collect()
    }

    fn stored(&self, slot: u64, bytes: &[u8]) -> Stored {
        bytes.first_chunk().map_or(Stored::Damaged, |bytes| self.place(slot).read(bytes))
    }

    /// The bytes of consecutive slots; zeros, which are empty slots, where the copy ends before them.
    fn raw_many(&self, copy: usize, from: u64, count: u64) -> Result<Vec<u8>, StoreError> {
        let Some(file) = self.copies.get(copy) else { return Ok(Vec::new()) };
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * SLOT_LEN];
        let got = file.read_at(at(from), &mut bytes)?;
        // A slot that the end of the file cuts is damaged, whatever is left of it.
        if got % SLOT_LEN != 0 {
            let cut = got - got % SLOT_LEN;
            bytes.iter_mut().skip(cut).take(SLOT_LEN).for_each(|byte| *byte = u8::MAX);
        }
        Ok(bytes)
    }

    /// What each copy of a slot holds.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn copies(&self, slot: u64) -> Result<[SlotStatus; 2], KeysError> {
        Ok([status(&self.read_copy(0, slot)?), status(&self.read_copy(1, slot)?)])
    }

    /// What a slot holds, from both copies; shredded in one is shredded.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn status(&self, slot: u64) -> Result<SlotStatus, KeysError> {
        Ok(match self.copies(slot)? {
            [shredded @ SlotStatus::Shredded { .. }, _] | [_, shredded @ SlotStatus::Shredded { .. }] => shredded,
            [SlotStatus::Present, _] | [_, SlotStatus::Present] => SlotStatus::Present,
            [SlotStatus::Empty, SlotStatus::Empty] => SlotStatus::Empty,
            _ => SlotStatus::Damaged,
        })
    }

    /// Whether one copy's header is damaged, and the other's is not.
    #[must_use]
    pub const fn has_damaged_header(&self) -> bool {
        self.damaged_header
    }

    /// Overwrites slots, each with the event that says so, in both copies, durably.
    ///
    /// # Errors
    /// As [`KeyTable::fill`].
    pub fn shred(&self, slots: &[(u64, u64)]) -> Result<(), KeysError> {
        let mut writer = self.writer()?;
        let overwrite = |file: &dyn MediumFile| {
            slots.iter().try_for_each(|(slot, seq)| file.write_at(at(*slot), &self.place(*slot).shredded(*seq)))
        };
        self.write_both(&mut writer, &overwrite)
    }

    /// Notes that every shred up to and including event `through` is carried out. A step of its own behind
    /// [`KeyTable::shred`]: a torn one must not claim what it did not do.
    ///
    /// # Errors
    /// As [`KeyTable::fill`].
    pub fn shredded_through(&self, through: u64) -> Result<(), KeysError> {
        let mut writer = self.writer()?;
        let below = self.shredded_below.load(Ordering::Acquire).max(through.saturating_add(1));
        let header = TableHeader { ledger_id: self.ledger_id, generation: self.generation, shredded_below: below };
        self.write_both(&mut writer, &|file| file.write_at(0, &header.encode()))?;
        self.shredded_below.store(below, Ordering::Release);
        Ok(())
    }

    /// Whether a damaged copy of a slot was met since the last [`KeyTable::repair`].
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        !self.suspects.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Compares both copies of every slot below `end` and notes the differing ones for
    /// [`KeyTable::repair`]; returns how many there are.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn scrub(&self, end: u64) -> Result<u64, KeysError> {
        let mut found = 0;
        for slot in 0..end.min(self.len()) {
            if self.read_copy(0, slot)? != self.read_copy(1, slot)? {
                self.suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(slot);
                found += 1;
            }
        }
        Ok(found)
    }

    /// Rewrites damaged copies of slots from their whole ones; returns the slots that were mended.
    ///
    /// # Errors
    /// As [`KeyTable::fill`].
    pub fn repair(&self) -> Result<Vec<u64>, KeysError> {
        let suspects = std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner));
        let mut mended = Vec::new();
        for slot in suspects {
            let copies = [self.read_copy(0, slot)?, self.read_copy(1, slot)?];
            let whole = match &copies {
                [shredded @ Stored::Shredded { .. }, _] | [_, shredded @ Stored::Shredded { .. }] => shredded,
                [present @ Stored::Present { .. }, _] | [_, present @ Stored::Present { .. }] => present,
                _ => continue,
            };
            if copies.iter().all(|copy| copy == whole) {
                continue;
            }
            let bytes = self.place(slot).encode(whole);
            self.write_both(&mut *self.writer()?, &|file| file.write_at(at(slot), &bytes))?;
            mended.push(slot);
        }
        Ok(mended)
    }

    /// Writes the next generation of the table, with every key below `end` under another KEK; returns
    /// how many keys were carried over. Nothing depends on it before the key ring that names it is
    /// committed.
    ///
    /// # Errors
    /// [`KeysError`]; a slot that is whole but does not open stops the rotation: it would orphan a secret.
    pub fn rewrap(
        &self,
        (medium, dir): (&dyn Medium, &Path),
        (old, new): (&Kek, &Kek),
        random: &dyn Random,
        generation: u32,
        end: u64,
    ) -> Result<u64, KeysError> {
        let next = Self::create(medium, dir, self.ledger_id, generation)?;
        let mut carried = 0;
        let mut from = 0;
        while from < end {
            let to = end.min(from + CHUNK);
            let bytes = self.rewrapped(&next, (old, new), random, from..to, &mut carried)?;
            for copy in &next.copies {
                copy.write_at(at(from), &bytes)?;
            }
            from = to;
        }
        let below = self.shredded_below.load(Ordering::Acquire);
        let header = TableHeader { ledger_id: self.ledger_id, generation, shredded_below: below };
        for copy in &next.copies {
            copy.write_at(0, &header.encode())?;
            copy.sync()?;
        }
        medium.sync_dir(dir)?;
        Ok(carried)
    }

    fn rewrapped(
        &self,
        next: &Self,
        (old, new): (&Kek, &Kek),
        random: &dyn Random,
        slots: std::ops::Range<u64>,
        carried: &mut u64,
    ) -> Result<Vec<u8>, KeysError> {
        let count = usize::try_from(slots.end - slots.start).unwrap_or(0);
        let mut nonces = vec![0; count * NONCE_LEN];
        random.fill(&mut nonces)?;
        let mut bytes = Vec::with_capacity(count * SLOT_LEN);
        for (slot, nonce) in slots.zip(nonces.chunks_exact(NONCE_LEN)) {
            let Some(nonce) = nonce.first_chunk() else { continue };
            let key = match (self.slot_key(old, slot), self.read_copy(1, slot)) {
                // What one copy says was destroyed is not carried over from the other.
                (Ok(_), Ok(Stored::Shredded { seq })) => Err(SlotError::Shredded { seq }),
                (key, _) => key,
            };
            match key {
                Ok(key) => {
                    bytes.extend_from_slice(&next.place(slot).wrap(new, self.ledger_id, nonce, &key));
                    *carried += 1;
                }
                Err(SlotError::Shredded { seq }) => bytes.extend_from_slice(&next.place(slot).shredded(seq)),
                // Lost in both copies: verification says so before and after.
                Err(SlotError::Empty | SlotError::Damaged) => bytes.extend_from_slice(&[0; SLOT_LEN]),
                Err(source @ (SlotError::WrongKey | SlotError::Store(_))) => {
                    return Err(KeysError::Slot { slot, source });
                }
            }
        }
        Ok(bytes)
    }
}
