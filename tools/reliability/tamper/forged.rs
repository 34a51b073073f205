//! What somebody does who can write every file and make every hash, and has no key: hashes downstream, segment headers,
//! trailers and the head file are made to fit.

#![allow(clippy::unnecessary_wraps, reason = "a class may find no place, and has the type of all")]

use palyra_ledger::log::frame::HEADER_LEN;

use super::class::{Case, Class, N, T, W, below, between, flip, head, notes};
use super::corpus::Corpus;
use super::files::Files;
use super::judge::Spot;
use super::log::{Log, field, get, hash_of, number, set, take_body};
use crate::workload::Dice;

pub const CLASSES: &[Class] = &[
    Class { name: "a bit of a sealed body flipped, hashes made anew", needs: [N, W, W], make: body_flipped },
    Class { name: "two bodies swapped, hashes made anew", needs: [N, W, W], make: bodies_swapped },
    Class { name: "a kind, schema or time altered, hashes made anew", needs: [N, W, W], make: header_altered },
    Class { name: "a time set back, hashes made anew", needs: [W, W, W], make: set_back },
    Class { name: "a batch, group or epoch altered, hashes made anew", needs: [W, W, W], make: order_altered },
    Class { name: "an event left out, the rest renumbered, hashes made anew", needs: [N, W, W], make: left_out },
    Class { name: "an event put in, the rest renumbered, hashes made anew", needs: [N, W, W], make: put_in },
    Class { name: "an event of another ledger under this one's id, hashes made anew", needs: [N, W, W], make: spliced },
    Class { name: "events of another ledger under its own id, hashes made anew", needs: [W, W, W], make: foreign },
    Class { name: "an event put behind the end", needs: [N, T, W], make: appended },
    Class { name: "another branch's events behind the common ones, head file kept", needs: [W, W, W], make: other_end },
    Class {
        name: "another branch's events behind the common ones, no head file",
        needs: [T, W, T],
        make: headless_end,
    },
    Class { name: "an end cut off, and an event that begins a branch forged there", needs: [N, T, W], make: excused },
];

/// The head file's two records.
const RECORDS: [usize; 2] = [0, 4096];
const RECORD_LEN: usize = 128;
/// Where a record holds its counter, its event and that event's hash.
const COUNTER: std::ops::Range<usize> = 24..32;
const SEQ: std::ops::Range<usize> = 32..40;
const HASH: std::ops::Range<usize> = 40..72;

/// The events that the records name: that of the newer first.
pub fn head_events(files: &Files) -> [(usize, u64); 2] {
    let record = |at: usize| files.bytes(head()).get(at..at + RECORD_LEN).unwrap_or_default();
    let mut both = RECORDS.map(|at| (at, number(record(at), &SEQ)));
    if number(record(both[1].0), &COUNTER) > number(record(both[0].0), &COUNTER) {
        both.swap(0, 1);
    }
    both
}

/// Makes both records of the head file name the last of these frames. Their MAC is out of reach.
pub fn forge_head(files: &mut Files) {
    let Some(last) = Log::of(files).frames().pop() else { return };
    let bytes = files.edit(head());
    for at in RECORDS {
        if let Some(record) = bytes.get_mut(at..at + RECORD_LEN) {
            set(record, &SEQ, &get::<8>(&last, &field::SEQ));
            set(record, &HASH, &hash_of(&last));
        }
    }
}

/// Lays forged frames down. The head file is removed or forged, the ledger's own checkpoints removed or kept: each half
/// of the time.
fn laid(corpus: &Corpus, frames: Vec<Vec<u8>>, from: usize, dice: &mut Dice) -> Files {
    let mut files = corpus.files.clone();
    corpus.log.forge(frames, from, &mut files);
    if dice.once_in(2) {
        files.remove(head());
    } else {
        forge_head(&mut files);
    }
    if dice.once_in(2) {
        files.remove(notes());
    }
    files
}

fn body_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (mut frames, event) = (corpus.frames.clone(), below(dice, corpus.frames.len()));
    let frame = frames.get_mut(event)?;
    let at = HEADER_LEN + below(dice, frame.len() - HEADER_LEN - 32);
    flip(frame, at, dice);
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]))
}

fn bodies_swapped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let one = below(dice, corpus.frames.len() - 1);
    let other = between(dice, one + 1, corpus.frames.len())?;
    let mut frames = corpus.frames.clone();
    take_body(frames.get_mut(one)?, corpus.frames.get(other)?);
    take_body(frames.get_mut(other)?, corpus.frames.get(one)?);
    Some(Case::new(laid(corpus, frames, one, dice), vec![Spot::event(one), Spot::event(other)]))
}

fn header_altered(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = below(dice, corpus.frames.len());
    let time = |event: usize| corpus.frames.get(event).map(|frame| number(frame, &field::TIME));
    let now = time(event)?;
    let mut frames = corpus.frames.clone();
    let frame = frames.get_mut(event)?;
    let kind = u16::from_le_bytes(get(frame, &field::KIND));
    match dice.below(5) {
        0 => {
            // Of a known kind, and not one that begins an epoch.
            let new = 32 + u16::from(dice.small(14));
            set(frame, &field::KIND, &(if new == kind { 64 } else { new }).to_le_bytes());
        }
        1 => set(frame, &field::KIND, &(0x7000 + u16::from(dice.small(200))).to_le_bytes()),
        2 => {
            let schema = u16::from_le_bytes(get(frame, &field::SCHEMA));
            set(frame, &field::SCHEMA, &(schema + 1 + u16::from(dice.small(9))).to_le_bytes());
        }
        _ => {
            let room = time(event + 1).map_or(100_000, |next| next - now);
            if room == 0 {
                return None;
            }
            set(frame, &field::TIME, &(now + 1 + dice.below(room)).to_le_bytes());
        }
    }
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]))
}

fn set_back(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = between(dice, 1, corpus.frames.len())?;
    let mut frames = corpus.frames.clone();
    let before = number(corpus.frames.get(event - 1)?, &field::TIME);
    set(frames.get_mut(event)?, &field::TIME, &(before - 1 - dice.below(1_000_000)).to_le_bytes());
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]))
}

fn order_altered(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = between(dice, 4, corpus.frames.len() - 1)?;
    let mut frames = corpus.frames.clone();
    let before = number(corpus.frames.get(event - 1)?, &field::GROUP);
    let frame = frames.get_mut(event)?;
    match dice.below(3) {
        0 => {
            let batch: [u8; 4] = get(frame, &field::BATCH);
            let [index, _, len, _] = batch;
            set(frame, &field::BATCH, &[index, 0, len.wrapping_add(1 + dice.small(3)), 0]);
        }
        1 => set(frame, &field::GROUP, &before.checked_sub(1 + dice.below(before.max(1)))?.to_le_bytes()),
        _ => {
            let epoch = u32::from_le_bytes(get(frame, &field::EPOCH));
            set(frame, &field::EPOCH, &(epoch + 1 + u32::from(dice.small(3))).to_le_bytes());
        }
    }
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::events(event, event + 1)]))
}

/// Gives frames from a place on the numbers that they have there.
fn renumber(frames: &mut [Vec<u8>], from: usize) {
    for (seq, frame) in (0_u64..).zip(frames).skip(from) {
        let (old, group) = (number(frame, &field::SEQ), number(frame, &field::GROUP));
        set(frame, &field::SEQ, &seq.to_le_bytes());
        // Groups begin where they did, as far as they begin behind the place.
        let begins = if group >= from as u64 { group.wrapping_add(seq).wrapping_sub(old) } else { group };
        set(frame, &field::GROUP, &begins.min(seq).to_le_bytes());
    }
}

fn left_out(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = between(dice, 1, corpus.frames.len() - 1)?;
    let mut frames = corpus.frames.clone();
    frames.remove(event);
    renumber(&mut frames, event);
    let last = corpus.frames.len() - 1;
    // The anchor knows how many there were: it misses the last number.
    let case = Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]);
    Some(case.public(vec![Spot::events(event, last)]))
}

fn put_in(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = between(dice, 1, corpus.frames.len())?;
    let mut frames = corpus.frames.clone();
    let mut new = corpus.frames.get(below(dice, corpus.frames.len()))?.clone();
    set(&mut new, &field::TIME, &get::<8>(corpus.frames.get(event)?, &field::TIME));
    set(&mut new, &field::GROUP, &get::<8>(corpus.frames.get(event)?, &field::GROUP));
    frames.insert(event, new);
    renumber(&mut frames, event);
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]))
}

/// A frame of another ledger that stands in another's place and time.
fn in_place_of(frame: &mut Vec<u8>, other: &[u8]) {
    let mine = frame.clone();
    frame.clear();
    frame.extend_from_slice(other);
    for at in [field::SEQ, field::TIME, field::GROUP, field::EPOCH, field::BATCH] {
        let len = at.len();
        let bytes = mine.get(at.clone()).unwrap_or_default().get(..len).unwrap_or_default();
        set(frame, &at, bytes);
    }
}

fn spliced(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (mut frames, event) = (corpus.frames.clone(), below(dice, corpus.frames.len()));
    let frame = frames.get_mut(event)?;
    in_place_of(frame, corpus.other_frames.get(below(dice, corpus.other_frames.len()))?);
    set(frame, &field::LEDGER, corpus.id.as_bytes());
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]))
}

fn foreign(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut frames = corpus.frames.clone();
    let event = between(dice, 1, frames.len())?;
    for at in event..(event + 1 + below(dice, 3)).min(frames.len()) {
        let other = corpus.other_frames.get(below(dice, corpus.other_frames.len()))?;
        in_place_of(frames.get_mut(at)?, other);
    }
    Some(Case::new(laid(corpus, frames, event, dice), vec![Spot::event(event)]))
}

/// A frame like one of the ledger's, behind the last of these.
fn behind(frames: &mut Vec<Vec<u8>>, mut like: Vec<u8>, kind: Option<u16>) {
    let (seq, time) = (frames.len() as u64, frames.last().map_or([0; 8], |last| get(last, &field::TIME)));
    set(&mut like, &field::SEQ, &seq.to_le_bytes());
    set(&mut like, &field::GROUP, &seq.to_le_bytes());
    set(&mut like, &field::TIME, &time);
    set(&mut like, &field::BATCH, &[0, 0, 1, 0]);
    // In the epoch of the last, which anybody can read there.
    let epoch = frames.last().map_or([0; 4], |last| get(last, &field::EPOCH));
    set(&mut like, &field::EPOCH, &epoch);
    if let Some(kind) = kind {
        set(&mut like, &field::KIND, &kind.to_le_bytes());
    }
    frames.push(like);
}

fn appended(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut frames = corpus.frames.clone();
    let like = corpus.frames.get(below(dice, corpus.frames.len()))?.clone();
    // Kinds that record checkpoints may stand behind one.
    behind(&mut frames, like, Some(32));
    let mut files = corpus.files.clone();
    corpus.log.forge(frames, corpus.frames.len(), &mut files);
    Some(Case::new(files, vec![Spot::event(corpus.frames.len())]).public(Vec::new()))
}

/// Events from where both histories part.
fn other_branch(corpus: &Corpus) -> Option<(usize, Vec<Vec<u8>>, Vec<Spot>)> {
    let parts = usize::try_from(corpus.older.last()?.events).ok()?;
    let longest = corpus.frames.len().max(corpus.branch_frames.len());
    Some((parts, corpus.branch_frames.clone(), vec![Spot::events(parts, longest - 1)]))
}

fn other_end(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (parts, mut frames, spots) = other_branch(corpus)?;
    // Of the other branch some more or fewer: up to the number that the head file names, or not so far.
    frames.truncate(between(dice, parts + 1, frames.len().min(corpus.frames.len()) + 1)?);
    let mut files = corpus.files.clone();
    corpus.log.forge(frames, parts, &mut files);
    Some(Case::new(files, spots))
}

fn headless_end(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (parts, mut frames, spots) = other_branch(corpus)?;
    frames.truncate(between(dice, parts + 1, frames.len() + 1)?);
    let mut files = corpus.files.clone();
    corpus.log.forge(frames, parts, &mut files);
    files.remove(head());
    files.remove(notes());
    Some(Case::new(files, vec![Spot::file(head())]).public(spots))
}

fn excused(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let keep = between(dice, 1, corpus.frames.len() - 1)?;
    let mut frames = corpus.frames.get(..keep)?.to_vec();
    let like = corpus.frames.get(below(dice, keep))?.clone();
    behind(&mut frames, like, Some(19));
    Some(Case::new(laid(corpus, frames, keep, dice), vec![Spot::event(keep)]))
}
