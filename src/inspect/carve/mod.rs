//! Carving: events found again in any bytes.
//!
//! Damaged journals, sled's files, disk images: they are searched for the magic that every frame begins with,
//! and a frame counts when its hash matches. Searching goes on inside whole frames, too, so that a made-up
//! frame cannot hide real ones. A frame that sled's copy holds in several values is put together from
//! pieces and counts when the whole has the right hash. What is found is ordered into chains by the hash that
//! each frame holds of the one before it: `chain` says what is proven and names every gap.
//!
//! An unkeyed hash shows that a frame is undamaged, not that the ledger wrote it; keys show that, one room
//! above.

mod chain;
mod pieces;
mod scan;
mod write;

use std::path::PathBuf;

use serde::Serialize;

use crate::base::LedgerId;
use crate::crypto::Hash;
use crate::log::frame::Header;
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::Evidence;

pub use chain::{Chain, Run, chains};
pub use write::{Written, write};

/// One source of bytes: a file of some evidence.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The evidence it belongs to.
    pub evidence: &'a Evidence,
    /// Its path there.
    pub path: &'a PathBuf,
}

/// A stretch of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Extent {
    /// Number of the source.
    pub source: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// A whole frame, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The ledger it names.
    pub ledger_id: LedgerId,
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// The hash of the frame before it.
    pub prev: Hash,
    /// Place in its batch, from 0, and the batch's length.
    pub batch: (u16, u16),
    /// Where its bytes lie; one stretch unless sled's copy split it.
    pub extents: Vec<Extent>,
}

impl Found {
    fn new(header: &Header, hash: Hash, extents: Vec<Extent>) -> Self {
        Self {
            ledger_id: header.ledger_id,
            seq: header.seq,
            hash,
            prev: header.prev,
            batch: (header.batch_index, header.batch_len),
            extents,
        }
    }

    /// The frame's bytes.
    ///
    /// # Errors
    /// [`StoreError`] where they can no longer be read.
    pub fn bytes(&self, sources: &[Source<'_>]) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        read_extents(sources, &self.extents, &mut None, &mut bytes)?;
        Ok(bytes)
    }
}

/// A header that reads, in front of bytes that are not its frame.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damaged {
    /// Where the header lies.
    pub source: u32,
    /// Where the header lies.
    pub offset: u64,
    /// The ledger it names.
    pub ledger_id: LedgerId,
    /// The number it names.
    pub seq: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Whole frames, each distinct one once, in order of ledger, number and hash.
    pub frames: Vec<Found>,
    /// How many copies of these were found beside them.
    pub duplicates: u64,
    /// How many frames were put together from pieces.
    pub joined: u64,
    /// Headers without a whole frame that is not among the whole ones; the first thousand.
    pub damaged: Vec<Damaged>,
    /// How many there are.
    pub damaged_count: u64,
    /// Places that were not hashed because made-up headers asked for too much.
    pub skipped: u64,
    /// Sources that could not be read to their end, and why.
    pub unreadable: Vec<(u32, String)>,
    /// Bytes searched.
    pub bytes: u64,
}

/// Searches sources on every core.
pub fn carve(sources: &[Source<'_>], progress: &(dyn Fn(u64) + Sync)) -> Harvest {
    let mut harvest = Harvest::default();
    let mut raw = scan::Raw::default();
    let spares = scan::Spares::default();
    for (number, source) in (0_u32..).zip(sources) {
        let (found, error) = scan::source(*source, number, &spares, progress);
        raw.append(found);
        harvest.unreadable.extend(error.map(|error| (number, error.source.to_string())));
    }
    harvest.bytes = raw.bytes;
    harvest.skipped = raw.skipped;
    let joined = pieces::join(sources, &raw.heads, &mut raw.pieces);
    harvest.joined = joined.len() as u64;
    let mut frames = raw.frames;
    frames.extend(joined);
    let all = frames.len();
    // The same frame may lie in many places: the first of them in the order of the sources stands for all.
    frames.sort_by(|one, other| {
        (one.ledger_id, one.seq, one.hash, &one.extents).cmp(&(other.ledger_id, other.seq, other.hash, &other.extents))
    });
    frames.dedup_by(|one, other| one.hash == other.hash && one.seq == other.seq && one.ledger_id == other.ledger_id);
    harvest.duplicates = (all - frames.len()) as u64;
    harvest.frames = frames;
    let whole = |damaged: &Damaged| {
        let key = (damaged.ledger_id, damaged.seq);
        harvest.frames.binary_search_by_key(&key, |found| (found.ledger_id, found.seq)).is_ok()
    };
    raw.damaged.sort();
    raw.damaged.retain(|damaged| !whole(damaged));
    harvest.damaged_count = raw.damaged.len() as u64 + raw.damaged_more;
    raw.damaged.truncate(crate::base::limits::CARVE_DAMAGED_MAX);
    harvest.damaged = raw.damaged;
    harvest
}

/// Bytes read at once where stretches follow each other.
const READ_AHEAD: usize = 1024 * 1024;

/// The source that was read last, and what was read ahead of it: frames that follow each other mostly lie so.
struct Opened {
    source: u32,
    file: Box<dyn MediumFile>,
    bytes: Vec<u8>,
    /// Where these lie in the source.
    from: u64,
}

impl Opened {
    /// Adds a stretch to bytes; where the source ends before it, what there is.
    fn read(&mut self, extent: &Extent, into: &mut Vec<u8>) -> Result<(), StoreError> {
        let len = extent.len as usize;
        if self.held(extent).is_none() {
            let follows = self.from + self.bytes.len() as u64 >= extent.offset && self.from <= extent.offset;
            self.bytes.clear();
            self.file.read_more(extent.offset, if follows { len.max(READ_AHEAD) } else { len }, &mut self.bytes)?;
            self.from = extent.offset;
        }
        into.extend_from_slice(self.held(extent).unwrap_or(&self.bytes));
        Ok(())
    }

    fn held(&self, extent: &Extent) -> Option<&[u8]> {
        let at = usize::try_from(extent.offset.checked_sub(self.from)?).ok()?;
        self.bytes.get(at..at.checked_add(extent.len as usize)?)
    }
}

fn read_extents(
    sources: &[Source<'_>],
    extents: &[Extent],
    opened: &mut Option<Opened>,
    into: &mut Vec<u8>,
) -> Result<(), StoreError> {
    for extent in extents {
        let Some(source) = usize::try_from(extent.source).ok().and_then(|at| sources.get(at)) else { continue };
        if opened.as_ref().is_none_or(|opened| opened.source != extent.source) {
            let file = source.evidence.open(source.path, OpenMode::Read)?;
            *opened = Some(Opened { source: extent.source, file, bytes: Vec::new(), from: 0 });
        }
        if let Some(opened) = opened {
            opened.read(extent, into)?;
        }
    }
    Ok(())
}

/// Carves arbitrary bytes; for fuzzing. What is found must lie where it is said to lie.
///
/// # Panics
/// Where it does not.
#[doc(hidden)]
pub fn fuzz_carve(bytes: &[u8]) {
    let raw = scan::buffer(bytes);
    for found in &raw.frames {
        let [extent] = found.extents.as_slice() else { continue };
        let begin = usize::try_from(extent.offset).unwrap_or(usize::MAX);
        let frame = bytes.get(begin..).map(crate::log::Frame::parse);
        assert!(frame.is_some_and(|frame| frame.is_ok_and(|frame| frame.hash == found.hash)), "found where it lies");
    }
    let mut frames = raw.frames;
    frames.sort_by_key(|found| (found.ledger_id, found.seq, found.hash));
    frames.dedup_by_key(|found| (found.ledger_id, found.seq, found.hash));
    let placed: usize = chains(&frames)
        .iter()
        .map(|chain| chain.runs.iter().map(|run| run.frames.len()).sum::<usize>() + chain.conflicts.len())
        .sum();
    assert_eq!(placed, frames.len(), "every frame has its place");
}
