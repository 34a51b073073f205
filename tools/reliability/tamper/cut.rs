//! Ends cut off, older states put back, head files, and checkpoints that vouch for what they should not.

#![allow(clippy::unnecessary_wraps, reason = "a class may find no place, and has the type of all")]

use palyra_ledger::checkpoint::split_notes;

use super::class::{Case, Class, N, T, W, below, between, flip, head, notes, random};
use super::corpus::{Corpus, checkpoint_of};
use super::files::Files;
use super::forged::{forge_head, head_events};
use super::judge::Spot;
use crate::workload::Dice;

pub const CLASSES: &[Class] = &[
    Class { name: "an end cut off", needs: [W, W, W], make: cut },
    Class { name: "an end cut off in the middle of an event", needs: [W, W, W], make: torn },
    Class { name: "an end cut off, and the head file with it", needs: [T, W, T], make: headless },
    Class { name: "an end cut off, and a head file forged to fit", needs: [N, W, W], make: fitting },
    Class { name: "an end cut off down to the older record of the head file", needs: [N, W, N], make: older_record },
    Class { name: "everything rolled back", needs: [N, W, N], make: rolled_back },
    Class { name: "the log rolled back, the keys kept", needs: [N, W, W], make: log_rolled_back },
    Class { name: "another branch of the history, whole", needs: [N, W, N], make: branch },
    Class { name: "the head file removed", needs: [T, T, T], make: head_removed },
    Class { name: "the head file overwritten", needs: [W, W, W], make: head_overwritten },
    Class { name: "the head file of another ledger", needs: [W, W, W], make: head_foreign },
    Class { name: "a bit flipped in both records of the head file", needs: [N, N, W], make: both_records },
    Class { name: "a bit flipped in one record of the head file", needs: [N, N, N], make: one_record },
    Class { name: "a bit of an own checkpoint flipped", needs: [W, W, W], make: note_flipped },
    Class { name: "an own checkpoint by another key", needs: [N, W, W], make: note_forged },
    Class { name: "an own checkpoint of another ledger", needs: [W, W, W], make: note_foreign },
    Class { name: "an own checkpoint of another branch", needs: [W, W, W], make: note_branch },
    Class { name: "an anchor with a bit flipped", needs: [N, W, N], make: anchor_flipped },
    Class { name: "an anchor by another key", needs: [N, W, N], make: anchor_forged },
    Class { name: "an anchor of another ledger", needs: [N, W, N], make: anchor_moved },
];

/// Files whose journal ends before an event.
pub fn kept(corpus: &Corpus, keep: usize) -> Option<Files> {
    let (number, at) = corpus.log.place(keep)?;
    let mut log = corpus.log.clone();
    log.segments.truncate(number + 1);
    let last = log.segments.last_mut()?;
    last.frames.truncate(at);
    last.tail.clear();
    // A segment without an event would have been made by nobody.
    if at == 0 {
        log.segments.pop();
        log.segments.last_mut()?.tail.clear();
    }
    let mut files = corpus.files.clone();
    log.put(&mut files);
    Some(files)
}

fn cut(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let keep = between(dice, 1, corpus.frames.len())?;
    Some(Case::new(kept(corpus, keep)?, vec![Spot::event(keep)]))
}

fn torn(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = below(dice, corpus.frames.len());
    let frame = corpus.frames.get(event)?;
    let mut files = kept(corpus, event).filter(|_| event > 0).or_else(|| {
        let mut files = corpus.files.clone();
        corpus.log.segments.iter().skip(1).for_each(|segment| files.remove(segment.path()));
        let first = corpus.log.segments.first()?;
        files.put(first.path(), first.header.clone());
        Some(files)
    })?;
    let (number, at) = corpus.log.place(event)?;
    let segment = corpus.log.segments.get(number)?;
    if at == 0 && event > 0 {
        files.put(segment.path(), segment.header.clone());
        let before = corpus.log.segments.get(number - 1)?;
        files.put(before.path(), corpus.files.bytes(before.path()).to_vec());
    }
    let part = 1 + below(dice, frame.len() - 1);
    files.edit(segment.path()).extend_from_slice(frame.get(..part)?);
    Some(Case::new(files, vec![Spot::event(event)]))
}

fn headless(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let keep = between(dice, 1, corpus.frames.len())?;
    let mut files = kept(corpus, keep)?;
    files.remove(head());
    if dice.once_in(2) {
        files.remove(notes());
    }
    Some(Case::new(files, vec![Spot::event(keep).or_file(head())]).public(vec![Spot::event(keep)]))
}

fn fitting(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let keep = between(dice, 1, corpus.frames.len())?;
    let mut files = kept(corpus, keep)?;
    forge_head(&mut files);
    if dice.once_in(2) {
        files.remove(notes());
    }
    Some(Case::new(files, vec![Spot::event(keep)]).keys(vec![Spot::event(keep).or_file(head())]))
}

fn older_record(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let [(newer, _), (_, event)] = head_events(&corpus.files);
    let keep = between(dice, usize::try_from(event).ok()? + 1, corpus.frames.len())?;
    let mut files = kept(corpus, keep)?;
    files.edit(head()).get_mut(newer..newer + 128)?.fill(0);
    files.remove(notes());
    Some(Case::new(files, vec![Spot::event(keep)]))
}

fn rolled_back(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let older = dice.pick(&corpus.older)?;
    Some(Case::new(older.files.clone(), vec![Spot::event(usize::try_from(older.events).ok()?)]))
}

fn log_rolled_back(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let older = dice.pick(&corpus.older)?;
    let mut files = corpus.files.clone();
    for below in ["journal", "head", "checkpoints"] {
        files.replace(below, &older.files);
    }
    let ring = std::path::Path::new("keys/keyring");
    let lost = vec![Spot::event(usize::try_from(older.events).ok()?)];
    Some(Case::new(files, lost).keys(vec![Spot::file(ring)]))
}

fn branch(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let parts = usize::try_from(corpus.older.last()?.events).ok()?;
    let spots = vec![Spot::events(parts, corpus.frames.len().max(corpus.branch_frames.len()) - 1)];
    Some(if dice.once_in(2) {
        Case::new(corpus.branch.clone(), spots)
    } else {
        Case::new(corpus.files.clone(), spots).anchored(corpus.branch_anchor.note().as_bytes())
    })
}

fn head_removed(corpus: &Corpus, _: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    files.remove(head());
    Some(Case::new(files, vec![Spot::file(head())]))
}

fn head_overwritten(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    let len = files.bytes(head()).len();
    files.put(head(), if dice.once_in(2) { vec![0; len] } else { random(dice, len) });
    Some(Case::new(files, vec![Spot::file(head())]))
}

fn head_foreign(corpus: &Corpus, _: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    files.replace("head", &corpus.other);
    Some(Case::new(files, vec![Spot::file(head())]))
}

fn both_records(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    let (at, bit) = (below(dice, 128), 1 << dice.below(8));
    for (record, _) in head_events(&corpus.files) {
        *files.edit(head()).get_mut(record + at)? ^= bit;
    }
    Some(Case::new(files, vec![Spot::file(head())]))
}

fn one_record(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    let (record, _) = *dice.pick(&head_events(&corpus.files))?;
    let at = record + below(dice, 128);
    flip(files.edit(head()), at, dice);
    Some(Case::new(files, Vec::new()))
}

fn note_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let held = corpus.files.bytes(notes());
    let (all, _) = split_notes(held);
    // The last one may be torn.
    let last = all.last()?.len() + 1;
    let at = between(dice, 0, held.len().checked_sub(last)?)?;
    let mut files = corpus.files.clone();
    flip(files.edit(notes()), at, dice);
    Some(Case::new(files, vec![Spot::file(notes())]))
}

/// The ledger's own checkpoints, and one more, or it in their place.
fn with_note(corpus: &Corpus, note: &str, dice: &mut Dice) -> Files {
    let mut files = corpus.files.clone();
    let held = files.edit(notes());
    if dice.once_in(2) {
        held.clear();
    }
    held.extend_from_slice(note.as_bytes());
    held.push(b'\n');
    files
}

fn note_forged(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let size = between(dice, 1, corpus.frames.len() + 1)?;
    let forged = checkpoint_of(corpus.id, corpus.frames.get(..size)?, &corpus.foreign_key).ok()?;
    Some(Case::new(with_note(corpus, forged.note(), dice), vec![Spot::file(notes())]))
}

fn note_foreign(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let files = with_note(corpus, corpus.other_anchor.note(), dice);
    Some(Case::new(files, vec![Spot::file(notes())]))
}

fn note_branch(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let files = with_note(corpus, corpus.branch_anchor.note(), dice);
    Some(Case::new(files, vec![Spot::file(notes())]))
}

fn anchor_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut note = corpus.anchor.note().as_bytes().to_vec();
    let at = below(dice, note.len());
    flip(&mut note, at, dice);
    Some(Case::new(corpus.files.clone(), Vec::new()).anchored(&note))
}

fn anchor_forged(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let size = between(dice, 1, corpus.frames.len() + 1)?;
    let forged = checkpoint_of(corpus.id, corpus.frames.get(..size)?, &corpus.foreign_key).ok()?;
    Some(Case::new(corpus.files.clone(), Vec::new()).anchored(forged.note().as_bytes()))
}

fn anchor_moved(corpus: &Corpus, _: &mut Dice) -> Option<Case> {
    Some(Case::new(corpus.files.clone(), Vec::new()).anchored(corpus.other_anchor.note().as_bytes()))
}
