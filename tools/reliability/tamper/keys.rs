//! The folder of keys: the ring, key files, and slots of the key table.

#![allow(clippy::unnecessary_wraps, reason = "a class may find no place, and has the type of all")]

use std::path::{Path, PathBuf};

use palyra_ledger::crypto::{Hash, labels};
use palyra_ledger::keys as ring;

use super::class::{Case, Class, N, T, W, below, flip, random};
use super::corpus::{Corpus, Slot};
use super::files::Files;
use super::judge::Spot;
use crate::workload::Dice;

pub const CLASSES: &[Class] = &[
    Class { name: "a bit of the key ring flipped", needs: [N, N, W], make: ring_flipped },
    Class { name: "a bit of the key file in use flipped", needs: [N, N, W], make: key_file_flipped },
    Class { name: "the keys rolled back, the log kept", needs: [N, N, W], make: rolled_back },
    Class { name: "the keys of another ledger", needs: [W, W, W], make: foreign },
    Class { name: "a bit of one copy's slot flipped", needs: [T, T, T], make: one_copy },
    Class { name: "a bit of one copy's header flipped", needs: [T, T, T], make: one_header },
    Class { name: "bits flipped in both copies of a slot", needs: [W, W, W], make: both_copies },
    Class { name: "two slots swapped", needs: [W, W, W], make: swapped },
    Class { name: "the key of another secret under a check that fits", needs: [N, N, W], make: another },
    Class { name: "a key removed without an event", needs: [N, N, W], make: removed },
    Class { name: "a key marked as destroyed without an event", needs: [N, N, W], make: marked },
    Class { name: "a key removed in one copy", needs: [N, N, W], make: removed_once },
    Class { name: "a destroyed key put back", needs: [N, N, W], make: put_back },
    Class { name: "the key table of another ledger", needs: [W, W, W], make: table_foreign },
    Class { name: "one copy of the key table removed", needs: [W, W, W], make: table_removed },
];

const HEADER: usize = 128;
const SLOT: usize = 80;
const PAYLOAD: usize = 72;

fn keyring() -> &'static Path {
    Path::new("keys/keyring")
}

/// The two copies of the key table.
fn tables(corpus: &Corpus) -> [PathBuf; 2] {
    ["a", "b"].map(|copy| Path::new("keys").join(format!("table-{}.{copy}", corpus.generation)))
}

fn place(slot: u64) -> Option<std::ops::Range<usize>> {
    let from = HEADER + usize::try_from(slot).ok()? * SLOT;
    Some(from..from + SLOT)
}

/// A slot of a live secret, or of one that was destroyed.
fn slot(corpus: &Corpus, dice: &mut Dice, shredded: bool) -> Option<Slot> {
    let fits: Vec<Slot> = corpus.slots.iter().copied().filter(|slot| slot.shredded == shredded).collect();
    dice.pick(&fits).copied()
}

fn at(slot: Slot) -> Spot {
    Spot::event(usize::try_from(slot.event).unwrap_or(usize::MAX))
}

fn read(files: &Files, table: &Path, slot: u64) -> Option<Vec<u8>> {
    Some(files.bytes(table).get(place(slot)?)?.to_vec())
}

fn write(files: &mut Files, table: &Path, slot: u64, bytes: &[u8]) -> Option<()> {
    files.edit(table).get_mut(place(slot)?)?.copy_from_slice(bytes);
    Some(())
}

/// A slot's bytes under the check that anybody can make for its place.
fn checked(corpus: &Corpus, slot: u64, payload: &[u8]) -> Option<Vec<u8>> {
    let parts = [&corpus.generation.to_le_bytes()[..], &slot.to_le_bytes(), payload];
    let check = Hash::of(labels::SLOT_CHECK, &parts);
    Some([payload, check.0.get(..SLOT - PAYLOAD)?].concat())
}

fn ring_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    let at = below(dice, files.bytes(keyring()).len());
    flip(files.edit(keyring()), at, dice);
    Some(Case::new(files, vec![Spot::file(keyring())]))
}

fn key_file_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let pinned = ring::read(&corpus.files, Path::new("keys")).ok()?.0?.pinned().to_string();
    let path = corpus.files.below("keys").into_iter().find(|path| path.to_string_lossy().contains(&pinned))?;
    let mut files = corpus.files.clone();
    let at = below(dice, files.bytes(&path).len());
    flip(files.edit(&path), at, dice);
    Some(Case::new(files, vec![Spot::file(&path)]))
}

fn rolled_back(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let older = dice.pick(&corpus.older)?;
    let mut files = corpus.files.clone();
    files.replace("keys", &older.files);
    Some(Case::new(files, vec![Spot::file(keyring())]))
}

fn foreign(corpus: &Corpus, _: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    files.replace("keys", &corpus.other);
    Some(Case::new(files, vec![Spot::file(keyring())]).keys(vec![Spot::event(0)]))
}

fn one_copy(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let shredded = dice.once_in(4);
    let slot = slot(corpus, dice, shredded)?;
    let table = dice.pick(&tables(corpus))?.clone();
    let mut files = corpus.files.clone();
    let at_byte = place(slot.slot)?.start + below(dice, SLOT);
    flip(files.edit(&table), at_byte, dice);
    Some(Case::new(files, vec![Spot::file(&table)]).keys(vec![at(slot).or_file(&table)]))
}

fn one_header(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let table = dice.pick(&tables(corpus))?.clone();
    let mut files = corpus.files.clone();
    flip(files.edit(&table), below(dice, HEADER), dice);
    Some(Case::new(files, vec![Spot::file(&table)]))
}

fn both_copies(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let slot = slot(corpus, dice, false)?;
    let mut files = corpus.files.clone();
    for table in tables(corpus) {
        let at_byte = place(slot.slot)?.start + below(dice, SLOT);
        flip(files.edit(&table), at_byte, dice);
    }
    let [table, _] = tables(corpus);
    Some(Case::new(files, vec![Spot::file(&table)]).keys(vec![at(slot)]))
}

fn swapped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (one, shredded) = (slot(corpus, dice, false)?, dice.once_in(3));
    let other = slot(corpus, dice, shredded).filter(|other| other.slot != one.slot)?;
    let mut files = corpus.files.clone();
    for table in tables(corpus) {
        let (first, second) = (read(&files, &table, one.slot)?, read(&files, &table, other.slot)?);
        write(&mut files, &table, one.slot, &second)?;
        write(&mut files, &table, other.slot, &first)?;
    }
    let [table, _] = tables(corpus);
    Some(Case::new(files, vec![Spot::file(&table)]).keys(vec![at(one), at(other)]))
}

/// Puts a payload into both copies of a slot, under a check that fits.
fn filled(corpus: &Corpus, slot: Slot, payload: &[u8]) -> Option<Case> {
    let mut files = corpus.files.clone();
    for table in tables(corpus) {
        write(&mut files, &table, slot.slot, &checked(corpus, slot.slot, payload)?)?;
    }
    Some(Case::new(files, vec![at(slot)]))
}

fn another(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (one, other) = (slot(corpus, dice, false)?, slot(corpus, dice, false)?);
    let [table, _] = tables(corpus);
    let payload = read(&corpus.files, &table, other.slot)?;
    if one.slot == other.slot { None } else { filled(corpus, one, payload.get(..PAYLOAD)?) }
}

fn removed(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let slot = slot(corpus, dice, false)?;
    let mut files = corpus.files.clone();
    for table in tables(corpus) {
        write(&mut files, &table, slot.slot, &[0; SLOT])?;
    }
    Some(Case::new(files, vec![at(slot)]))
}

fn marked(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let slot = slot(corpus, dice, false)?;
    let mut payload = [0; PAYLOAD];
    payload.get_mut(..8)?.copy_from_slice(b"SHREDDED");
    payload.get_mut(8..16)?.copy_from_slice(&dice.below(corpus.frames.len() as u64).to_le_bytes());
    filled(corpus, slot, &payload)
}

fn removed_once(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let slot = slot(corpus, dice, false)?;
    let table = dice.pick(&tables(corpus))?.clone();
    let mut files = corpus.files.clone();
    write(&mut files, &table, slot.slot, &[0; SLOT])?;
    Some(Case::new(files, vec![at(slot)]))
}

fn put_back(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let slot = slot(corpus, dice, true)?;
    // The key itself, where an older copy of this very table has it; one that looks like it otherwise.
    let live = |older: &&super::corpus::Older| older.slots.iter().any(|had| had.slot == slot.slot && !had.shredded);
    let [table, _] = tables(corpus);
    let kept = corpus.older.iter().rev().find(live).and_then(|older| read(&older.files, &table, slot.slot));
    let payload = kept.unwrap_or_else(|| random(dice, SLOT));
    filled(corpus, slot, payload.get(..PAYLOAD)?)
}

fn table_foreign(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let others = corpus.other.below("keys");
    let other = others.iter().find(|path| path.to_string_lossy().contains("/table-"))?;
    let mut files = corpus.files.clone();
    let both = tables(corpus);
    // One header is enough to tell.
    let count = 1 + below(dice, 2);
    for table in both.iter().take(count) {
        files.put(table, corpus.other.bytes(other).to_vec());
    }
    let [table, _] = both;
    Some(Case::new(files, vec![Spot::file(&table)]))
}

fn table_removed(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let table = dice.pick(&tables(corpus))?.clone();
    let mut files = corpus.files.clone();
    files.remove(&table);
    Some(Case::new(files, vec![Spot::file(&table)]))
}
