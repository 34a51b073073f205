//! Bytes and frames altered, and no hash made anew.

#![allow(clippy::unnecessary_wraps, reason = "a class may find no place, and has the type of all")]

use std::path::{Path, PathBuf};

use palyra_ledger::crypto::Hash;
use palyra_ledger::log::segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentTrailer, file_name};

use super::class::{Case, Class, T, W, below, between, flip, random};
use super::corpus::Corpus;
use super::judge::Spot;
use super::log::{Log, Segment};
use crate::workload::Dice;

pub const CLASSES: &[Class] = &[
    Class { name: "bits of one to three events flipped", needs: [W, W, W], make: flipped },
    Class { name: "64 to 3,000 bytes overwritten", needs: [W, W, W], make: overwritten },
    Class { name: "bytes put between others", needs: [W, W, W], make: inserted },
    Class { name: "bytes taken out", needs: [W, W, W], make: taken_out },
    Class { name: "two events swapped", needs: [W, W, W], make: swapped },
    Class { name: "an event dropped", needs: [W, W, W], make: dropped },
    Class { name: "an event doubled", needs: [W, W, W], make: doubled },
    Class { name: "an event moved", needs: [W, W, W], make: moved },
    Class { name: "an event of another branch in its place", needs: [W, W, W], make: older_event },
    Class { name: "an event of another ledger in its place", needs: [W, W, W], make: foreign_event },
    Class { name: "a bit of a segment's header flipped", needs: [W, W, W], make: header_flipped },
    Class { name: "a bit of a segment's trailer flipped", needs: [W, W, W], make: trailer_flipped },
    Class { name: "a segment's header written anew", needs: [W, W, W], make: header_edited },
    Class { name: "a segment's trailer written anew", needs: [W, W, W], make: trailer_edited },
    Class { name: "a trailer removed", needs: [W, W, W], make: trailer_removed },
    Class { name: "bytes behind a trailer", needs: [W, W, W], make: behind_trailer },
    Class { name: "a segment removed", needs: [W, W, W], make: segment_removed },
    Class { name: "a segment under another name", needs: [W, W, W], make: segment_renamed },
    Class { name: "a segment of another ledger in its place", needs: [W, W, W], make: segment_foreign },
    Class { name: "two segments that claim the same events", needs: [W, W, W], make: segment_twice },
    Class { name: "bytes behind the end of the log", needs: [T, T, T], make: behind_end },
    Class { name: "the marker of the format altered", needs: [W, W, W], make: format_altered },
];

/// A segment with events, and its number.
fn segment<'a>(corpus: &'a Corpus, dice: &mut Dice, wanted: impl Fn(&Segment) -> bool) -> Option<(usize, &'a Segment)> {
    let fits: Vec<(usize, &Segment)> =
        corpus.log.segments.iter().enumerate().filter(|(_, one)| !one.frames.is_empty() && wanted(one)).collect();
    dice.pick(&fits).copied()
}

/// The number of a segment's first event.
fn first(corpus: &Corpus, segment: usize) -> usize {
    corpus.log.segments.iter().take(segment).map(|one| one.frames.len()).sum()
}

/// The events of which bytes lie in a range of a segment.
fn events_in(corpus: &Corpus, segment: usize, from: usize, to: usize) -> Vec<usize> {
    let Some(one) = corpus.log.segments.get(segment) else { return Vec::new() };
    let spans = one.offsets().into_iter().zip(&one.frames).enumerate();
    let first = first(corpus, segment);
    spans.filter(|(_, (at, frame))| *at < to && from < at + frame.len()).map(|(at, _)| first + at).collect()
}

/// All of a segment's events, or its file.
fn whole(corpus: &Corpus, number: usize, segment: &Segment) -> Spot {
    let first = first(corpus, number);
    Spot::events(first, first + segment.frames.len().saturating_sub(1)).or_file(segment.path())
}

fn flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let mut files = corpus.files.clone();
    let mut hit: Vec<(PathBuf, usize, usize)> = Vec::new();
    for _ in 0..=dice.below(3) {
        let event = below(dice, corpus.frames.len());
        let (number, at) = corpus.log.place(event)?;
        let segment = corpus.log.segments.get(number)?;
        let offset = segment.offsets().get(at)? + below(dice, segment.frames.get(at)?.len());
        if hit.iter().all(|(path, other, _)| path != segment.path() || *other != offset) {
            flip(files.edit(segment.path()), offset, dice);
            hit.push((segment.path().to_owned(), offset, event));
        }
    }
    Some(Case::new(files, hit.into_iter().map(|(_, _, event)| Spot::event(event)).collect()))
}

fn overwritten(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let len = segment.frames.iter().map(Vec::len).sum::<usize>();
    let from = SEGMENT_HEADER_LEN + below(dice, len.saturating_sub(64));
    let to = (from + 64 + below(dice, 2_937)).min(SEGMENT_HEADER_LEN + len);
    let mut files = corpus.files.clone();
    let new = if dice.once_in(2) { vec![0; to - from] } else { random(dice, to - from) };
    files.edit(segment.path()).get_mut(from..to)?.copy_from_slice(&new);
    Some(Case::new(files, events_in(corpus, number, from, to).into_iter().map(Spot::event).collect()))
}

fn inserted(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let at = SEGMENT_HEADER_LEN + below(dice, segment.frames.iter().map(Vec::len).sum());
    let len = 1 + below(dice, 300);
    let new = random(dice, len);
    let mut files = corpus.files.clone();
    files.edit(segment.path()).splice(at..at, new);
    let event = *events_in(corpus, number, at, at + 1).first()?;
    Some(Case::new(files, vec![Spot::event(event)]))
}

fn taken_out(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let len = segment.frames.iter().map(Vec::len).sum::<usize>();
    let from = SEGMENT_HEADER_LEN + below(dice, len);
    let to = (from + 1 + below(dice, 300)).min(SEGMENT_HEADER_LEN + len);
    let mut files = corpus.files.clone();
    files.edit(segment.path()).drain(from..to);
    Some(Case::new(files, events_in(corpus, number, from, to).into_iter().map(Spot::event).collect()))
}

fn put(corpus: &Corpus, log: &Log, spots: Vec<Spot>) -> Case {
    let mut files = corpus.files.clone();
    log.put(&mut files);
    Case::new(files, spots)
}

fn swapped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let one = below(dice, corpus.frames.len() - 1);
    let next = dice.once_in(2);
    let other = if next { one + 1 } else { between(dice, one + 1, corpus.frames.len())? };
    let mut log = corpus.log.clone();
    log.frame_mut(one)?.clone_from(corpus.frames.get(other)?);
    log.frame_mut(other)?.clone_from(corpus.frames.get(one)?);
    let far = vec![Spot::event(one), Spot::event(other)];
    Some(put(corpus, &log, if other == one + 1 { vec![Spot::events(one, other)] } else { far }))
}

fn without(log: &mut Log, event: usize) -> Option<Vec<u8>> {
    let (segment, at) = log.place(event)?;
    Some(log.segments.get_mut(segment)?.frames.remove(at))
}

fn with(log: &mut Log, event: usize, frame: Vec<u8>) -> Option<()> {
    let (segment, at) = log.place(event)?;
    log.segments.get_mut(segment)?.frames.insert(at, frame);
    Some(())
}

fn dropped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (mut log, event) = (corpus.log.clone(), below(dice, corpus.frames.len()));
    without(&mut log, event)?;
    Some(put(corpus, &log, vec![Spot::event(event)]))
}

fn doubled(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (mut log, event) = (corpus.log.clone(), below(dice, corpus.frames.len()));
    with(&mut log, event, corpus.frames.get(event)?.clone())?;
    Some(put(corpus, &log, vec![Spot::events(event, event + 1)]))
}

fn moved(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (mut log, from) = (corpus.log.clone(), below(dice, corpus.frames.len()));
    let to = below(dice, corpus.frames.len() - 1);
    if from == to {
        return None;
    }
    let frame = without(&mut log, from)?;
    with(&mut log, to, frame)?;
    Some(put(corpus, &log, vec![Spot::event(from.min(to))]))
}

fn older_event(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let parts = usize::try_from(corpus.older.last()?.events).ok()?;
    let event = between(dice, parts, corpus.frames.len().min(corpus.branch_frames.len()))?;
    let mut log = corpus.log.clone();
    log.frame_mut(event)?.clone_from(corpus.branch_frames.get(event)?);
    Some(put(corpus, &log, vec![Spot::events(event, event + 1)]))
}

fn foreign_event(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let event = below(dice, corpus.frames.len().min(corpus.other_frames.len()));
    let mut log = corpus.log.clone();
    log.frame_mut(event)?.clone_from(corpus.other_frames.get(event)?);
    Some(put(corpus, &log, vec![Spot::event(event)]))
}

fn header_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let mut files = corpus.files.clone();
    flip(files.edit(segment.path()), below(dice, SEGMENT_HEADER_LEN), dice);
    Some(Case::new(files, vec![Spot::event(first(corpus, number)).or_file(segment.path())]))
}

fn trailer_flipped(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, Segment::is_closed)?;
    let mut files = corpus.files.clone();
    let bytes = files.edit(segment.path());
    let at = bytes.len() - segment.tail.len() + below(dice, segment.tail.len());
    flip(bytes, at, dice);
    Some(Case::new(files, vec![whole(corpus, number, segment)]))
}

fn header_edited(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let mut header = SegmentHeader::parse(&segment.header).ok()?;
    match dice.below(3) {
        0 => header.ledger_id = palyra_ledger::LedgerId::from_bytes(random(dice, 16).try_into().ok()?),
        1 => header.first_seq = header.first_seq.wrapping_add(1 + dice.below(9)),
        _ => header.prev = Hash(random(dice, 32).try_into().ok()?),
    }
    let mut files = corpus.files.clone();
    files.edit(segment.path()).get_mut(..SEGMENT_HEADER_LEN)?.copy_from_slice(&header.encode());
    Some(Case::new(files, vec![Spot::event(first(corpus, number)).or_file(segment.path())]))
}

fn trailer_edited(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, Segment::is_closed)?;
    let mut trailer = SegmentTrailer::parse(&segment.tail).ok()?;
    match dice.below(6) {
        0 => trailer.ledger_id = palyra_ledger::LedgerId::from_bytes(random(dice, 16).try_into().ok()?),
        1 => trailer.first_seq += 1,
        2 => trailer.last_seq += 1,
        3 => trailer.frames_len += 1 + dice.below(500),
        4 => trailer.last_hash = Hash(random(dice, 32).try_into().ok()?),
        _ => trailer.digest = Hash(random(dice, 32).try_into().ok()?),
    }
    let mut files = corpus.files.clone();
    let bytes = files.edit(segment.path());
    bytes.truncate(bytes.len() - segment.tail.len());
    bytes.extend_from_slice(&trailer.encode());
    Some(Case::new(files, vec![whole(corpus, number, segment)]))
}

fn trailer_removed(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, Segment::is_closed)?;
    let mut files = corpus.files.clone();
    let bytes = files.edit(segment.path());
    bytes.truncate(bytes.len() - segment.tail.len() + if dice.once_in(2) { 0 } else { below(dice, 128) });
    let next = first(corpus, number) + segment.frames.len();
    Some(Case::new(files, vec![Spot::events(next - 1, next).or_file(segment.path())]))
}

fn behind_trailer(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, Segment::is_closed)?;
    let mut files = corpus.files.clone();
    let len = 1 + below(dice, 400);
    let more = if dice.once_in(3) { corpus.frames.get(below(dice, 9))?.clone() } else { random(dice, len) };
    files.edit(segment.path()).extend(more);
    Some(Case::new(files, vec![whole(corpus, number, segment)]))
}

fn segment_removed(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let mut files = corpus.files.clone();
    files.remove(segment.path());
    let from = first(corpus, number);
    let all = (from..from + segment.frames.len()).map(Spot::event).collect();
    Some(Case::new(files, all))
}

fn named(first: usize) -> PathBuf {
    Path::new("journal").join(file_name(first as u64))
}

fn segment_renamed(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let first = first(corpus, number);
    let to = named(first + 1 + below(dice, segment.frames.len()));
    if corpus.files.has(&to) {
        return None;
    }
    let mut files = corpus.files.clone();
    files.put(&to, files.bytes(segment.path()).to_vec());
    files.remove(segment.path());
    Some(Case::new(files, vec![Spot::event(first).or_file(&to)]))
}

fn segment_foreign(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let others = corpus.other.below("journal");
    let other = dice.pick(&others)?.clone();
    let (number, segment) = segment(corpus, dice, |_| true)?;
    let mut files = corpus.files.clone();
    files.put(segment.path(), corpus.other.bytes(&other).to_vec());
    // The first segment says whose the log is: then it is the next one that is foreign.
    let (from, through) = (first(corpus, number), if number == 0 { segment.frames.len() } else { 0 });
    Some(Case::new(files, vec![Spot::events(from, from + through).or_file(segment.path())]))
}

fn segment_twice(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let (number, segment) = segment(corpus, dice, |one| one.frames.len() > 1)?;
    let (from, at) = (first(corpus, number), 1 + below(dice, segment.frames.len() - 1));
    let prev = Hash(super::log::hash_of(segment.frames.get(at - 1)?));
    let header = SegmentHeader { ledger_id: corpus.id, first_seq: (from + at) as u64, prev }.encode();
    let rest = segment.frames.get(at..)?;
    let mut files = corpus.files.clone();
    files.put(&named(from + at), [&header[..], &rest.concat()].concat());
    Some(Case::new(files, vec![Spot::events(from + at, from + segment.frames.len() - 1)]))
}

fn behind_end(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let last = corpus.log.segments.last()?;
    let mut files = corpus.files.clone();
    let len = 1 + below(dice, 500);
    files.edit(last.path()).extend(random(dice, len));
    Some(Case::new(files, vec![Spot::event(corpus.frames.len()).or_file(last.path())]))
}

fn format_altered(corpus: &Corpus, dice: &mut Dice) -> Option<Case> {
    let path = Path::new("format");
    let mut files = corpus.files.clone();
    let at = below(dice, files.bytes(path).len());
    flip(files.edit(path), at, dice);
    Some(Case::new(files, vec![Spot::file(path)]))
}
