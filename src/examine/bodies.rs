//! The check of every body, and of the keys that bodies speak of.

use std::path::Path;

use crate::crypto::Hash;
use crate::engine::Entry;
use crate::event::Event;
use crate::inspect::{Finding, FindingCode, Site};
use crate::keys::{KeyTable, SlotError, SlotStatus, Unlocked};
use crate::log::Frame;
use crate::store::Medium;

use super::Keys;
use super::key_files::damaged_header;

/// Findings beyond which only the first are kept: a wrong key gives one for every event.
const FINDINGS_MAX: usize = 1000;
/// Marks a slot whose version was shredded; the rest is the number of the event that says so.
const SHREDDED: u64 = 1 << 63;

/// Opens bodies as a walk shows them, and follows what they say about keys.
#[derive(Debug)]
pub struct Bodies<'a> {
    keys: &'a Keys,
    /// The ring that the log named last, and the event that did.
    ring: Option<(Hash, u64)>,
    /// By slot: one more than the event that put a version there, or [`SHREDDED`] and the event that destroyed it.
    slots: Vec<u64>,
    /// How many slots the table has, where it could be opened.
    table_len: usize,
    findings: Vec<Finding>,
}

impl<'a> Bodies<'a> {
    /// A check with these keys; the table's length bounds what is kept about slots.
    #[must_use]
    pub fn new(keys: &'a Keys, table: Option<&KeyTable>) -> Self {
        let table_len = table.map_or(0, |table| usize::try_from(table.len()).unwrap_or(usize::MAX));
        Self { keys, ring: None, slots: Vec::new(), table_len, findings: Vec::new() }
    }

    fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Opens one event; what does not open is a finding at its place.
    pub fn visit(&mut self, frame: &Frame<'_>, site: Site<'_>) -> Option<Entry> {
        let seq = frame.header.seq;
        match self.keys.entry(frame) {
            Ok(entry) => {
                self.note(&entry);
                Some(entry)
            }
            Err(error) => {
                // A newer program's event is whole, and this one cannot read it: that is counted by header.
                if error.is_from_the_future() {
                    return None;
                }
                let code = FindingCode::BodyDamaged;
                let what = format!("{} at byte {}: event {seq}: {error}", site.path.display(), site.offset);
                let place = Finding::new(code, Some(seq), what);
                self.push(Finding { file: Some(site.path.display().to_string()), offset: Some(site.offset), ..place });
                None
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        if let Some(ring) = ring_named(&entry.event) {
            self.ring = Some((ring, entry.seq));
        }
        match &entry.event {
            Event::SecretPut(put) => self.set(put.slot, entry.seq.saturating_add(1), entry.seq),
            Event::SecretsImported(event) => {
                for one in &event.secrets {
                    self.set(one.put.slot, entry.seq.saturating_add(1), entry.seq);
                }
            }
            Event::SecretShredded(shredded) => {
                for (_, slot) in &shredded.versions {
                    self.set(*slot, SHREDDED | entry.seq, entry.seq);
                }
            }
            _ => {}
        }
    }

    fn set(&mut self, slot: u64, value: u64, seq: u64) {
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        if at >= self.table_len {
            if self.table_len > 0 {
                let what = format!("event {seq} uses key slot {slot}, which the key table does not reach");
                self.push(Finding::new(FindingCode::KeyMissing, Some(seq), what));
            }
            return;
        }
        if at >= self.slots.len() {
            self.slots.resize(at + 1, 0);
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = value;
        }
    }

    /// What was found in the bodies alone, where there are no key files to compare with.
    #[must_use]
    pub fn findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Compares the keys that are there with those that the log speaks of; returns everything found.
    #[must_use]
    pub fn finish(mut self, medium: &dyn Medium, dir: &Path) -> Vec<Finding> {
        if let Some((ring, seq)) = self.ring
            && !self.keys.has_ring(ring)
        {
            let what = format!("the key ring is not the one that event {seq} put in force: another one was put back");
            self.push(Finding::new(FindingCode::KeyringDiffers, Some(seq), what));
        }
        match self.keys.table(medium, dir) {
            Ok(table) => {
                if let Some(finding) = damaged_header(&table) {
                    self.push(finding);
                }
                self.slots(&table);
            }
            Err(error) => {
                let what = format!("the key table cannot be read: {error}");
                self.push(Finding::new(FindingCode::KeyMissing, None, what));
            }
        }
        self.findings
    }

    fn slots(&mut self, table: &KeyTable) {
        let Some(kek) = self.keys.first().map(Unlocked::kek) else { return };
        let notes = std::mem::take(&mut self.slots);
        let surveyed = table.survey(&mut |slot, copies, alike| {
            let note = usize::try_from(slot).ok().and_then(|at| notes.get(at)).copied().unwrap_or(0);
            if note == 0 {
                return;
            }
            let shredded = note & SHREDDED != 0;
            let seq = if shredded { note & !SHREDDED } else { note - 1 };
            let fault = if shredded {
                shred_fault(slot, seq, copies)
            } else {
                live_fault(slot, seq, copies, alike, table.slot_key(&kek, slot).err())
            };
            if let Some((code, what)) = fault {
                self.push(Finding::new(code, Some(seq), what));
            }
        });
        if let Err(error) = surveyed {
            self.push(Finding::new(FindingCode::Unreadable, None, format!("the key table cannot be read: {error}")));
        }
    }
}

fn shred_fault(slot: u64, seq: u64, copies: [SlotStatus; 2]) -> Option<(FindingCode, String)> {
    let done = copies.iter().all(|copy| matches!(copy, SlotStatus::Shredded { .. }));
    let what = format!("key slot {slot} was shredded by event {seq} but is not overwritten in both copies");
    (!done).then_some((FindingCode::ShredIncomplete, what))
}

fn live_fault(
    slot: u64,
    seq: u64,
    copies: [SlotStatus; 2],
    alike: bool,
    error: Option<SlotError>,
) -> Option<(FindingCode, String)> {
    Some(match error {
        None if alike => return None,
        None if copies.contains(&SlotStatus::Damaged) => (
            FindingCode::KeySlotRepairable,
            format!("one copy of key slot {slot}, used by event {seq}, is damaged; the other opens"),
        ),
        None => (
            FindingCode::KeySlotDamaged,
            format!("the copies of key slot {slot}, used by event {seq}, hold different things"),
        ),
        Some(SlotError::WrongKey) => (
            FindingCode::KeySlotDamaged,
            format!("key slot {slot}, used by event {seq}, holds a key that was not made for it"),
        ),
        Some(error) => (
            FindingCode::KeyMissing,
            format!("key slot {slot}, used by event {seq}: {error}, and no event shredded it"),
        ),
    })
}

/// The key ring that an event puts in force.
pub(super) fn ring_named(event: &Event) -> Option<Hash> {
    match event {
        Event::LedgerCreated(event) => Some(event.keyring),
        Event::EpochStarted(event) => Some(event.keyring),
        Event::KeySlotAdded(event) => Some(event.keyring),
        Event::KeySlotRemoved(event) => Some(event.keyring),
        Event::KeySlotPinned(event) => Some(event.keyring),
        Event::RootRotated(event) => Some(event.keyring),
        Event::CaPrepared(event) => Some(event.keyring),
        Event::CaActivated(event) => Some(event.keyring),
        Event::CaRevoked(event) => Some(event.keyring),
        Event::CaImported(event) => Some(event.keyring),
        _ => None,
    }
}
