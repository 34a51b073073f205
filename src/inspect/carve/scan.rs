//! The search itself: strides of a source, on every core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use memchr::memmem::Finder;

use crate::base::limits::{BODY_MAX, CARVE_DAMAGED_MAX, CARVE_HASH_FACTOR, CARVE_PIECES_MAX, SLED_VALUE_BYTES};
use crate::log::frame::{FRAME_OVERHEAD, Frame, FrameError, Header, MAGIC};
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::{Damaged, Extent, Found, Source};

/// Bytes that one thread searches at a time.
const STRIDE: usize = if cfg!(test) { 16 * 1024 } else { 16 * 1024 * 1024 };
/// Bytes read behind a stride at first: most frames that begin at its end are whole then.
const AHEAD: usize = STRIDE / 64;
/// Bytes that are read by themselves where more cannot be read at once.
const BLOCK: usize = 4096;
/// Blocks that cannot be read until the rest of a stretch is given up: a disk that is dead takes seconds for each.
const BAD_BLOCKS_MAX: usize = 64;
/// Bytes of the longest frame.
const LONGEST: usize = FRAME_OVERHEAD + BODY_MAX;
/// Bytes read before a stride: what stands before a piece of a split frame.
const BEFORE: usize = 32;
/// Marks a value of sled's copy that holds one piece of a frame; the frame's length follows.
const PIECE: u8 = 2;
/// Bytes of that mark and length.
pub(super) const LEAD: usize = 5;
/// Bytes of a frame in every piece but the last.
pub(super) const CHUNK: usize = SLED_VALUE_BYTES - LEAD;
/// Bytes of sled's key for such a value: the frame's number and the piece's, big endian.
pub(super) const KEY: usize = 10;
/// Longest length that sled writes between a key and its value, in bytes.
pub(super) const VARINT_MAX: usize = 4;

/// A value that looks like one piece of a split frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Length of the whole frame.
    pub total: u32,
    /// Where the piece's own bytes begin.
    pub source: u32,
    pub offset: u64,
    /// What stands before the value: the key perhaps, if sled had not folded it away.
    pub before: [u8; KEY + VARINT_MAX],
}

/// The first piece of a split frame: it holds the header.
#[derive(Debug, Clone)]
pub(super) struct HeadPiece {
    pub header: Header,
    pub source: u32,
    pub offset: u64,
}

/// What the search of some bytes found.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub frames: Vec<Found>,
    pub heads: Vec<HeadPiece>,
    pub pieces: Vec<Piece>,
    pub damaged: Vec<Damaged>,
    pub damaged_more: u64,
    pub skipped: u64,
    pub bytes: u64,
}

impl Raw {
    pub(super) fn append(&mut self, mut other: Self) {
        self.frames.append(&mut other.frames);
        self.heads.append(&mut other.heads);
        if self.pieces.len() < CARVE_PIECES_MAX {
            self.pieces.append(&mut other.pieces);
        }
        if self.damaged.len() < 4 * CARVE_DAMAGED_MAX {
            self.damaged.append(&mut other.damaged);
        }
        self.damaged_more += other.damaged_more + other.damaged.len() as u64;
        self.skipped += other.skipped;
        self.bytes += other.bytes;
    }
}

/// Buffers to be used again for the next source: new memory costs more than reading into it.
pub(super) type Spares = Mutex<Vec<Vec<u8>>>;

/// Searches a source; where reading fails in places, what was found elsewhere comes with the error.
pub(super) fn source(
    source: Source<'_>,
    number: u32,
    spares: &Spares,
    progress: &(dyn Fn(u64) + Sync),
) -> (Raw, Option<StoreError>) {
    let opened = source.evidence.open(source.path, OpenMode::Read).and_then(|file| Ok((file.len()?, file)));
    let (len, file) = match opened {
        Ok(opened) => opened,
        Err(error) => return (Raw::default(), Some(error)),
    };
    let next = AtomicU64::new(0);
    let done: Mutex<(Vec<(u64, Raw)>, Option<StoreError>)> = Mutex::default();
    let work = || {
        let mut buffer = spares.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        loop {
            let begin = next.fetch_add(STRIDE as u64, Ordering::Relaxed);
            if begin >= len {
                spares.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
                break;
            }
            // A bad sector costs what lies in it, and not the search.
            let (raw, error) = stride(&*file, number, begin, len, &mut buffer);
            progress((len - begin).min(STRIDE as u64));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.0.push((begin, raw));
            if let Some(error) = error {
                done.1.get_or_insert(error);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let needed = usize::try_from(len.div_ceil(STRIDE as u64)).unwrap_or(threads);
    std::thread::scope(|scope| {
        for _ in 1..threads.min(needed) {
            scope.spawn(work);
        }
        work();
    });
    let (mut strides, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    strides.sort_by_key(|(begin, _)| *begin);
    let mut all = Raw::default();
    for (_, raw) in strides {
        all.append(raw);
    }
    (all, error)
}

fn stride(file: &dyn MediumFile, number: u32, begin: u64, len: u64, buffer: &mut Vec<u8>) -> (Raw, Option<StoreError>) {
    let from = begin.saturating_sub(BEFORE as u64);
    let end = len.min(begin + (STRIDE + AHEAD) as u64);
    buffer.clear();
    let mut failed = read_what_can_be(file, from, usize::try_from(end - from).unwrap_or(0), buffer);
    let skip = usize::try_from(begin - from).unwrap_or(0);
    let mut more = |missing: usize, buffer: &mut Vec<u8>| {
        let error = read_what_can_be(file, from + buffer.len() as u64, missing, buffer);
        failed = failed.take().or(error);
    };
    let raw = search(buffer, number, from, skip, STRIDE, &mut more);
    (raw, failed)
}

/// Reads on, up to the end of the file; what cannot be read is zeros, in which no frame is found.
fn read_what_can_be(file: &dyn MediumFile, at: u64, want: usize, buffer: &mut Vec<u8>) -> Option<StoreError> {
    let error = file.read_more(at, want, buffer).err()?;
    let begin = buffer.len();
    buffer.resize(begin.saturating_add(want), 0);
    let (mut place, mut bad) = (begin, 0);
    while let Some(rest) = buffer.get_mut(place..)
        && !rest.is_empty()
        && bad < BAD_BLOCKS_MAX
    {
        let offset = at + (place - begin) as u64;
        let within = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
        let block = rest.split_at_mut((BLOCK - within).min(rest.len())).0;
        match file.read_at(offset, block) {
            Ok(got) if got < block.len() => {
                // The file ends here.
                buffer.truncate(place + got);
                break;
            }
            Ok(_) => {}
            Err(_) => {
                block.fill(0);
                bad += 1;
            }
        }
        place += BLOCK - within;
    }
    Some(error)
}

/// Searches bytes that are at hand.
pub(super) fn buffer(bytes: &[u8]) -> Raw {
    search(&mut bytes.to_vec(), 0, 0, 0, bytes.len(), &mut |_, _| {})
}

/// Finds what begins between `skip` and `skip + stride` in a buffer that lies at `from` in its source; `more` reads on
/// where a frame ends behind the buffer.
fn search(
    buffer: &mut Vec<u8>,
    source: u32,
    from: u64,
    skip: usize,
    stride: usize,
    more: &mut dyn FnMut(usize, &mut Vec<u8>),
) -> Raw {
    let stop = buffer.len().min(skip + stride);
    let mut raw = Raw { bytes: (stop - skip.min(stop)) as u64, ..Raw::default() };
    let mut budget = CARVE_HASH_FACTOR * stride.max(LONGEST);
    let finder = Finder::new(&MAGIC);
    let last = buffer.len().min(stop + MAGIC.len() - 1);
    let mut next = skip;
    // Where a frame begins that the buffer did not hold, and more was read for.
    let mut read_for = None;
    loop {
        let mut short = None;
        for hit in finder.find_iter(buffer.get(next..last).unwrap_or_default()) {
            let at = next + hit;
            let bytes = buffer.get(at..).unwrap_or_default();
            let Ok(header) = Header::parse(bytes) else { continue };
            let offset = from + at as u64;
            if budget < header.frame_len() {
                raw.skipped += 1;
                continue;
            }
            if header.frame_len() > bytes.len() && read_for != Some(at) {
                short = Some((at, header.frame_len() - bytes.len()));
                break;
            }
            let (ledger_id, seq, frame_len) = (header.ledger_id, header.seq, header.frame_len());
            match Frame::parse_from(header, bytes) {
                Ok(frame) => {
                    budget -= frame_len;
                    let len = u32::try_from(frame_len).unwrap_or(u32::MAX);
                    raw.frames.push(Found::new(&frame.header, frame.hash, vec![Extent { source, offset, len }]));
                }
                Err(error) => {
                    if error == FrameError::Hash {
                        budget -= frame_len;
                    }
                    let begins = at.checked_sub(LEAD).and_then(|lead| buffer.get(lead..at));
                    if begins.is_some_and(|lead| is_lead(lead, frame_len)) {
                        raw.heads.extend(Header::parse(bytes).map(|header| HeadPiece { header, source, offset }));
                    } else if raw.damaged.len() < CARVE_DAMAGED_MAX {
                        raw.damaged.push(Damaged { source, offset, ledger_id, seq });
                    } else {
                        raw.damaged_more += 1;
                    }
                }
            }
        }
        let Some((at, missing)) = short else { break };
        more(missing, buffer);
        (next, read_for) = (at, Some(at));
    }
    pieces(buffer, source, from, (skip, stop), &mut raw);
    raw
}

fn is_lead(lead: &[u8], total: usize) -> bool {
    let Some((mark, len)) = lead.split_first() else { return false };
    *mark == PIECE && u32::try_from(total).is_ok_and(|total| total.to_le_bytes() == *len) && total > CHUNK
}

/// Notes what looks like a piece of a split frame.
fn pieces(buffer: &[u8], source: u32, from: u64, (skip, stop): (usize, usize), raw: &mut Raw) {
    let most = u32::try_from(LONGEST).unwrap_or(u32::MAX);
    let least = u32::try_from(CHUNK).unwrap_or(0);
    for hit in memchr::memchr_iter(PIECE, buffer.get(skip..stop).unwrap_or_default()) {
        let at = skip + hit;
        let Some(total) = buffer.get(at + 1..).and_then(<[u8]>::first_chunk) else { continue };
        let total = u32::from_le_bytes(*total);
        if total <= least || total > most || raw.pieces.len() >= CARVE_PIECES_MAX {
            continue;
        }
        let before = at.checked_sub(KEY + VARINT_MAX).and_then(|start| buffer.get(start..)?.first_chunk().copied());
        let offset = from + (at + LEAD) as u64;
        raw.pieces.push(Piece { total, source, offset, before: before.unwrap_or_default() });
    }
}

#[cfg(test)]
mod tests;
