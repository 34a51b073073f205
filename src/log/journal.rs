//! The journal: segment files of frames, written and synced before anything is acknowledged.
//!
//! Order of a roll, and what a crash leaves: the old segment gets its trailer and is synced (a crash
//! leaves a closed last segment: the next append begins a new one); then the new file is created
//! with its header, synced, and its folder synced (a crash leaves a last file without a whole header,
//! which holds no frame and is removed).

mod find;
mod scan;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::base::limits::SEGMENT_BYTES_MAX;
use crate::base::{LedgerId, Timestamp};
use crate::crypto::Hash;
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::frame::{self, Frame, FrameError, Header};
use super::segment::{self, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN, SegmentError, SegmentHeader, SegmentTrailer};

pub(crate) use scan::all_zeros;
use scan::{Scan, Walk};

const READ_AHEAD: usize = 1024 * 1024;
const FIRST_READ: usize = 1024;

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An earlier write or sync failed; the writer is dead until the ledger is opened again.
    #[error("the journal failed earlier and takes no more writes: open the ledger again")]
    Dead,
    /// A frame that was acknowledged is damaged.
    #[error("{} is damaged at byte {offset} (event {seq}): {why}", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// The sequence number expected there.
        seq: u64,
        /// What is wrong.
        why: FrameError,
    },
    /// A frame is whole but does not follow the one before it.
    #[error("event {seq} in {} does not follow the event before it: the chain is broken", path.display())]
    Chain {
        /// The segment file.
        path: PathBuf,
        /// The sequence number expected there.
        seq: u64,
    },
    /// A segment's header or trailer is damaged.
    #[error("{}: {why}", path.display())]
    Segment {
        /// The segment file.
        path: PathBuf,
        /// What is wrong.
        why: SegmentError,
    },
    /// A frame of a format version that is not known stands behind the last known one.
    #[error(
        "event {seq} in {} (byte {offset}) has frame format version {version}, which is not known to palyra-ledger {}",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The segment file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// Its sequence number, if it follows the event before it.
        seq: u64,
        /// The version.
        version: u16,
    },
    /// A segment is not there.
    #[error("the journal has no segment that holds event {seq}")]
    Missing {
        /// The sequence number.
        seq: u64,
    },
}

/// The place of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Sequence number.
    pub seq: u64,
    /// The frame's hash.
    pub hash: Hash,
    /// First sequence number of its segment.
    pub segment: u64,
    /// Where the frame begins in the segment's file, in bytes.
    pub offset: u64,
}

/// A torn end of the journal: bytes behind the last whole batch that were never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// First sequence number of the segment.
    pub segment: u64,
    /// Where the torn bytes begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
}

/// The end of the journal as found when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The last whole batch's last frame.
    pub last: Option<Last>,
    /// What lies behind it.
    pub torn: Option<Torn>,
}

/// The last frame of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Sequence number.
    pub seq: u64,
    /// The frame's hash.
    pub hash: Hash,
    /// Its time.
    pub time: Timestamp,
}

struct Segment {
    first_seq: u64,
    prev: Hash,
    path: PathBuf,
    file: Box<dyn MediumFile>,
    offsets: RwLock<Offsets>,
}

/// Where the frames of a segment begin: the older part in a file beside the index, the newer part in
/// memory. Both are hints: a frame found through them must carry the right sequence number.
#[derive(Default)]
struct Offsets {
    saved: u64,
    file: Option<Box<dyn MediumFile>>,
    /// Pages of the file that were read: 4 bytes an event at most.
    pages: Mutex<HashMap<u64, Box<[u8]>>>,
    recent: Vec<u32>,
}

/// Bytes of the offset table that are read at a time.
const PAGE_BYTES: usize = 4096;

impl Offsets {
    /// Forgets the pages that hold an entry or any behind it: they are about to change.
    fn forget_pages(&mut self, index: u64) {
        let first = 4 * index / PAGE_BYTES as u64;
        self.pages.get_mut().unwrap_or_else(PoisonError::into_inner).retain(|page, _| *page < first);
    }

    /// One entry of the saved part.
    fn saved_entry(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        let (page, at) = (4 * index / PAGE_BYTES as u64, usize::try_from(4 * index % PAGE_BYTES as u64).unwrap_or(0));
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match pages.entry(page) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let mut bytes = vec![0; PAGE_BYTES];
                let got = file.read_at(page * PAGE_BYTES as u64, &mut bytes)?;
                bytes.truncate(got);
                place.insert(bytes.into())
            }
        };
        let entry = bytes.get(at..).and_then(|rest| rest.first_chunk());
        Ok(entry.map(|bytes| u64::from(u32::from_le_bytes(*bytes))))
    }
}

struct WriteState {
    /// Where the next frame goes in the last segment; nothing where a new segment must begin.
    offset: Option<u64>,
    /// The last segment's file reaches to here; between the offset and here it holds zeros.
    ready: u64,
    /// Groups appended since opening.
    groups: u64,
    last: Option<Last>,
    dead: bool,
}

/// Zeros written ahead of the frames, in bytes. A sync after a write that does not make the file longer
/// has no new length to make durable, which saves about a third of its time (ext4, xfs).
const READY_BYTES: usize = 256 * 1024;
/// Groups after which zeros are written ahead: a command that writes one event does not need them.
const READY_AFTER: u64 = 8;

/// The journal, open.
pub struct Journal {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    offsets_dir: PathBuf,
    ledger_id: LedgerId,
    segment_bytes: u64,
    segments: RwLock<Vec<Arc<Segment>>>,
    write: Mutex<WriteState>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("dir", &self.dir).field("ledger_id", &self.ledger_id).finish_non_exhaustive()
    }
}

/// Frames sealed and ready to be written as one group.
#[derive(Debug, Default)]
pub struct Group {
    /// The frames' bytes, one after another.
    pub bytes: Vec<u8>,
    /// Where each begins in `bytes`.
    pub starts: Vec<u32>,
    /// The last of them.
    pub last: Option<Last>,
}

impl Journal {
    /// Makes an empty journal: its folder and nothing else.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub fn create(
        medium: Arc<dyn Medium>,
        dir: &Path,
        offsets_dir: &Path,
        ledger_id: LedgerId,
        segment_bytes: u64,
    ) -> Result<Self, JournalError> {
        medium.create_dir(dir)?;
        Ok(Self::handle(medium, dir, offsets_dir, ledger_id, segment_bytes))
    }

    /// Opens the journal and scans the end of its last segment, from `hint` where that lies there.
    ///
    /// Nothing is changed; see [`Journal::drop_torn`].
    ///
    /// # Errors
    /// [`JournalError`] where acknowledged frames are damaged or segments are missing.
    pub fn open(
        medium: Arc<dyn Medium>,
        dir: &Path,
        offsets_dir: &Path,
        ledger_id: LedgerId,
        segment_bytes: u64,
        hint: Option<Position>,
        writable: bool,
    ) -> Result<(Self, Tail), JournalError> {
        let journal = Self::handle(medium, dir, offsets_dir, ledger_id, segment_bytes);
        let segments = journal.open_segments(writable)?;
        *journal.segments.write().unwrap_or_else(PoisonError::into_inner) = segments;
        let tail = journal.scan_tail(hint)?;
        Ok((journal, tail))
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger_id(&self) -> LedgerId {
        self.ledger_id
    }

    fn handle(
        medium: Arc<dyn Medium>,
        dir: &Path,
        offsets_dir: &Path,
        ledger_id: LedgerId,
        segment_bytes: u64,
    ) -> Self {
        Self {
            medium,
            dir: dir.to_owned(),
            offsets_dir: offsets_dir.to_owned(),
            ledger_id,
            segment_bytes: segment_bytes.min(SEGMENT_BYTES_MAX),
            segments: RwLock::new(Vec::new()),
            write: Mutex::new(WriteState { offset: None, ready: 0, groups: 0, last: None, dead: false }),
        }
    }

    fn open_segments(&self, writable: bool) -> Result<Vec<Arc<Segment>>, JournalError> {
        let mut firsts: Vec<u64> =
            self.medium.list(&self.dir)?.iter().filter_map(|name| segment::parse_file_name(name)).collect();
        firsts.sort_unstable();
        let mode = if writable { OpenMode::ReadWrite } else { OpenMode::Read };
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(firsts.len());
        for (index, first_seq) in firsts.iter().copied().enumerate() {
            let path = self.dir.join(segment::file_name(first_seq));
            let file = self.medium.open(&path, mode)?;
            let mut bytes = [0; SEGMENT_HEADER_LEN];
            let got = file.read_at(0, &mut bytes)?;
            let header = match SegmentHeader::parse(bytes.get(..got).unwrap_or_default()) {
                Ok(header) if header.first_seq == first_seq && header.ledger_id == self.ledger_id => header,
                Ok(_) => return Err(JournalError::Segment { path, why: SegmentError::Check }),
                Err(why) if SegmentHeader::is_newer(&bytes) => return Err(JournalError::Segment { path, why }),
                // A crash during a roll: the file holds no frame yet, for frames are written
                // only after the header was synced.
                Err(_) if index > 0 && index + 1 == firsts.len() && file.len()? <= SEGMENT_HEADER_LEN as u64 => {
                    drop(file);
                    if writable {
                        self.medium.remove(&path)?;
                        self.medium.sync_dir(&self.dir)?;
                    }
                    break;
                }
                Err(why) => return Err(JournalError::Segment { path, why }),
            };
            match segments.last() {
                None if first_seq != 0 => return Err(JournalError::Missing { seq: 0 }),
                None if header.prev != frame::genesis(self.ledger_id) => {
                    return Err(JournalError::Segment { path, why: SegmentError::Check });
                }
                None => {}
                Some(before) => check_closed(before, &header)?,
            }
            let offsets = RwLock::new(self.open_offsets(first_seq, mode)?);
            segments.push(Arc::new(Segment { first_seq, prev: header.prev, path, file, offsets }));
        }
        // A gap is found by the check of the trailer before it; a missing end by the head file.
        Ok(segments)
    }

    fn offsets_path(&self, first_seq: u64) -> PathBuf {
        self.offsets_dir.join(format!("{first_seq:020}.off"))
    }

    fn open_offsets(&self, first_seq: u64, mode: OpenMode) -> Result<Offsets, JournalError> {
        let path = self.offsets_path(first_seq);
        if !self.medium.exists(&path)? {
            return Ok(Offsets::default());
        }
        let file = self.medium.open(&path, mode)?;
        Ok(Offsets { saved: file.len()? / 4, file: Some(file), ..Offsets::default() })
    }

    fn scan_tail(&self, hint: Option<Position>) -> Result<Tail, JournalError> {
        let Some(segment) = self.last_segment() else {
            return Ok(Tail { last: None, torn: None });
        };
        let before = segment.first_seq.checked_sub(1).map(|seq| Last {
            seq,
            hash: segment.prev,
            time: Timestamp::from_millis(0),
        });
        let start = hint.filter(|hint| hint.segment == segment.first_seq).and_then(|hint| resume_at(&segment, &hint));
        let mut scan = match start {
            Some((offset, last)) => Scan::new(offset, Some(last)),
            None => Scan::new(SEGMENT_HEADER_LEN as u64, before),
        };
        let mut offsets = segment.offsets.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = scan.last.map_or(0, |last| last.seq + 1) - segment.first_seq;
        if offsets.saved < known {
            // The table does not reach the hint: scan the whole segment and make it anew.
            scan = Scan::new(SEGMENT_HEADER_LEN as u64, before);
            known = 0;
        }
        let end = scan.run(&segment)?;
        offsets.saved = known;
        offsets.recent = std::mem::take(&mut scan.offsets);
        drop(offsets);
        let mut write = self.write_state();
        write.last = scan.last;
        write.offset = if end.closed { None } else { Some(end.offset) };
        write.ready = end.ready;
        drop(write);
        let last = scan.last.map(|last| self.timed(last, &segment)).transpose()?;
        self.write_state().last = last;
        Ok(Tail { last, torn: end.torn })
    }

    /// The last event with its time: where its segment was followed by one without a frame, by a crash behind a roll,
    /// the time stands in the frame before.
    fn timed(&self, last: Last, segment: &Segment) -> Result<Last, JournalError> {
        if last.seq >= segment.first_seq {
            return Ok(last);
        }
        let mut buffer = Vec::new();
        match self.read(last.seq, &mut buffer) {
            Ok(()) => Ok(Header::parse(&buffer).map_or(last, |header| Last { time: header.time, ..last })),
            Err(JournalError::Store(error)) => Err(error.into()),
            // Damage in a closed segment is told by verification, and is no reason not to open.
            Err(_) => Ok(last),
        }
    }

    fn write_state(&self) -> MutexGuard<'_, WriteState> {
        self.write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_segment(&self) -> Option<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// The last frame.
    #[must_use]
    pub fn last(&self) -> Option<Last> {
        self.write_state().last
    }

    /// Cuts a torn end off, after copying it to `keep` (synced) for whoever wants to look at it.
    ///
    /// # Errors
    /// [`JournalError::Store`]; the torn end then still stands.
    pub fn drop_torn(&self, torn: &Torn, keep: Option<&Path>) -> Result<Hash, JournalError> {
        let segment = self.segment_of(torn.segment)?;
        let mut bytes = vec![0; usize::try_from(torn.bytes).unwrap_or(0)];
        let got = segment.file.read_at(torn.offset, &mut bytes)?;
        bytes.truncate(got);
        let digest = Hash::of(crate::crypto::labels::EVIDENCE, &[&bytes]);
        if let Some(path) = keep {
            let file = self.medium.open(path, OpenMode::CreateNew)?;
            file.write_at(0, &bytes)?;
            file.sync()?;
            drop(file);
            if let Some(parent) = path.parent() {
                self.medium.sync_dir(parent)?;
            }
        }
        segment.file.set_len(torn.offset)?;
        segment.file.sync()?;
        Ok(digest)
    }

    /// Writes a group and syncs it: on return it is durable. After an error the journal is dead
    /// (invariant I8): no write and no sync is ever tried again.
    ///
    /// # Errors
    /// [`JournalError::Store`] the first time, [`JournalError::Dead`] after it.
    pub fn append(&self, group: &Group) -> Result<(), JournalError> {
        let mut write = self.write_state();
        if write.dead {
            return Err(JournalError::Dead);
        }
        let Some(last) = group.last else { return Ok(()) };
        // Dead until proved alive: an early return below leaves it so.
        write.dead = true;
        if write.offset.is_some_and(|offset| {
            offset > SEGMENT_HEADER_LEN as u64 && offset + group.bytes.len() as u64 > self.segment_bytes
        }) {
            self.close_segment(&mut write)?;
        }
        if write.offset.is_none() {
            self.begin_segment(&mut write)?;
        }
        let (Some(segment), Some(offset)) = (self.last_segment(), write.offset) else { return Err(JournalError::Dead) };
        segment.file.write_at(offset, &group.bytes)?;
        self.make_ready(&segment, &mut write, offset + group.bytes.len() as u64)?;
        segment.file.sync()?;
        let mut offsets = segment.offsets.write().unwrap_or_else(PoisonError::into_inner);
        // Offsets fit: a segment ends far below 4 GiB.
        offsets
            .recent
            .extend(group.starts.iter().map(|start| u32::try_from(offset).unwrap_or(u32::MAX).saturating_add(*start)));
        drop(offsets);
        write.offset = Some(offset + group.bytes.len() as u64);
        write.last = Some(last);
        write.dead = false;
        Ok(())
    }

    /// Writes zeros ahead of the frames, which end at `end`, where there are none left.
    fn make_ready(&self, segment: &Segment, write: &mut WriteState, end: u64) -> Result<(), JournalError> {
        write.groups += 1;
        if end <= write.ready || write.groups <= READY_AFTER {
            return Ok(());
        }
        let room = usize::try_from(self.segment_bytes.saturating_sub(end)).unwrap_or(READY_BYTES);
        let zeros = vec![0; room.min(READY_BYTES)];
        if !zeros.is_empty() {
            segment.file.write_at(end, &zeros)?;
        }
        write.ready = end + zeros.len() as u64;
        Ok(())
    }

    /// Cuts off the zeros that were written ahead: a closed ledger holds none.
    ///
    /// # Errors
    /// [`JournalError::Store`]; the journal is dead then.
    pub fn trim(&self) -> Result<(), JournalError> {
        let mut write = self.write_state();
        let (Some(segment), Some(offset)) = (self.last_segment(), write.offset) else { return Ok(()) };
        if write.dead || write.ready <= offset {
            return Ok(());
        }
        write.dead = true;
        segment.file.set_len(offset)?;
        segment.file.sync()?;
        write.ready = offset;
        write.dead = false;
        Ok(())
    }

    fn begin_segment(&self, write: &mut WriteState) -> Result<(), JournalError> {
        let (first_seq, prev) = match write.last {
            Some(last) => (last.seq + 1, last.hash),
            None => (0, frame::genesis(self.ledger_id)),
        };
        let path = self.dir.join(segment::file_name(first_seq));
        let file = self.medium.open(&path, OpenMode::CreateNew)?;
        file.write_at(0, &SegmentHeader { ledger_id: self.ledger_id, first_seq, prev }.encode())?;
        file.sync()?;
        self.medium.sync_dir(&self.dir)?;
        let segment = Segment { first_seq, prev, path, file, offsets: RwLock::default() };
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(segment));
        write.offset = Some(SEGMENT_HEADER_LEN as u64);
        write.ready = SEGMENT_HEADER_LEN as u64;
        Ok(())
    }

    fn close_segment(&self, write: &mut WriteState) -> Result<(), JournalError> {
        let (Some(segment), Some(end), Some(last)) = (self.last_segment(), write.offset, write.last) else {
            return Ok(());
        };
        let mut digest = segment::digest();
        let mut at = 0;
        let mut buffer = vec![0; READ_AHEAD];
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(READ_AHEAD).min(READ_AHEAD);
            let got = segment.file.read_at(at, buffer.get_mut(..want).unwrap_or_default())?;
            if got == 0 {
                break;
            }
            digest.update(buffer.get(..got).unwrap_or_default());
            at += got as u64;
        }
        let trailer = SegmentTrailer {
            ledger_id: self.ledger_id,
            first_seq: segment.first_seq,
            last_seq: last.seq,
            frames_len: end - SEGMENT_HEADER_LEN as u64,
            last_hash: last.hash,
            digest: digest.finish(),
        };
        segment.file.write_at(end, &trailer.encode())?;
        let closed = end + SEGMENT_TRAILER_LEN as u64;
        if segment.file.len()? > closed {
            segment.file.set_len(closed)?;
        }
        segment.file.sync()?;
        write.offset = None;
        Ok(())
    }

    fn segment_of(&self, seq: u64) -> Result<Arc<Segment>, JournalError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.first_seq <= seq);
        after.checked_sub(1).and_then(|index| segments.get(index)).cloned().ok_or(JournalError::Missing { seq })
    }

    /// Reads one frame; its hash is checked, its place in the chain is not.
    ///
    /// # Errors
    /// [`JournalError::Missing`] beyond the end, [`JournalError::Damaged`] where it is not whole.
    pub fn read(&self, seq: u64, buffer: &mut Vec<u8>) -> Result<(), JournalError> {
        let segment = self.segment_of(seq)?;
        if self.last().is_none_or(|last| seq > last.seq) {
            return Err(JournalError::Missing { seq });
        }
        if let Some(offset) = segment.offset_of(seq)?
            && read_frame(&segment, offset, seq, buffer)?.is_ok()
        {
            return Ok(());
        }
        // No hint or a wrong one: scan the segment once and remember.
        self.rebuild_offsets(&segment)?;
        let offset = segment.offset_of(seq)?.ok_or(JournalError::Missing { seq })?;
        read_frame(&segment, offset, seq, buffer)?.map_err(|why| JournalError::Damaged {
            path: segment.path.clone(),
            offset,
            seq,
            why,
        })
    }

    /// The place of a frame.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn position(&self, seq: u64) -> Result<Position, JournalError> {
        let mut buffer = Vec::new();
        self.read(seq, &mut buffer)?;
        let segment = self.segment_of(seq)?;
        let offset = segment.offset_of(seq)?.ok_or(JournalError::Missing { seq })?;
        let hash = Frame::parse(&buffer)
            .map_err(|why| JournalError::Damaged { path: segment.path.clone(), offset, seq, why })?
            .hash;
        Ok(Position { seq, hash, segment: segment.first_seq, offset })
    }

    /// Scans a segment and replaces its table, keeping the table's length: appends go on behind it. Where it cannot be
    /// read, the table stays.
    fn rebuild_offsets(&self, segment: &Arc<Segment>) -> Result<(), StoreError> {
        let next = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            segments.iter().map(|other| other.first_seq).find(|first| *first > segment.first_seq)
        };
        let mut offsets = segment.offsets.write().unwrap_or_else(PoisonError::into_inner);
        let frames = match next {
            Some(next) => usize::try_from(next - segment.first_seq).unwrap_or(0),
            None => usize::try_from(offsets.saved).unwrap_or(0) + offsets.recent.len(),
        };
        let mut found = Vec::with_capacity(frames.min(READ_AHEAD));
        let mut walk = Walk::new(Arc::clone(segment), SEGMENT_HEADER_LEN as u64);
        // A damaged frame ends the scan: what lies behind it is not found by number.
        while found.len() < frames {
            match walk.next_frame() {
                Ok(Some((offset, _))) => found.push(u32::try_from(offset).unwrap_or(u32::MAX)),
                Err(JournalError::Store(error)) => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        found.resize(frames, u32::MAX);
        offsets.saved = 0;
        offsets.forget_pages(0);
        offsets.recent = found;
        Ok(())
    }

    /// Visits frames from `from` to `to` (both inclusive) in order, checking hashes, numbers and
    /// chain; returns the number of frames visited.
    ///
    /// # Errors
    /// [`JournalError`] at the first frame that is damaged or does not follow.
    pub fn read_range(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
    ) -> Result<u64, JournalError> {
        let to = match self.last() {
            Some(last) => to.min(last.seq),
            None => return Ok(0),
        };
        if from > to {
            return Ok(0);
        }
        let mut seq = from;
        let mut prev: Option<Hash> = None;
        while seq <= to {
            let segment = self.segment_of(seq)?;
            let offset = if seq == segment.first_seq {
                prev = Some(segment.prev);
                SEGMENT_HEADER_LEN as u64
            } else {
                self.position(seq)?.offset
            };
            let path = segment.path.clone();
            let mut walk = Walk::new(segment, offset);
            let begun = seq;
            while seq <= to {
                let Some((offset, bytes)) = walk.next_bytes()? else { break };
                let frame = Frame::parse(bytes).map_err(|why| JournalError::Damaged {
                    path: path.clone(),
                    offset,
                    seq,
                    why,
                })?;
                if frame.header.seq != seq
                    || frame.header.ledger_id != self.ledger_id
                    || prev.is_some_and(|prev| prev != frame.header.prev)
                {
                    return Err(JournalError::Chain { path, seq });
                }
                prev = Some(frame.hash);
                seq += 1;
                if visit(&frame).is_break() {
                    return Ok(seq - from);
                }
            }
            if seq == begun {
                return Err(JournalError::Missing { seq });
            }
        }
        Ok(seq - from)
    }

    /// Writes the newer part of the offset tables to their files. They are hints: nothing is synced,
    /// and a failure costs a scan at the next open, no more.
    pub fn save_offsets(&self) {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
        for segment in segments {
            if self.save_segment_offsets(&segment).is_err() {
                return;
            }
        }
    }

    fn save_segment_offsets(&self, segment: &Segment) -> Result<(), StoreError> {
        let mut offsets = segment.offsets.write().unwrap_or_else(PoisonError::into_inner);
        if offsets.recent.is_empty() {
            return Ok(());
        }
        if offsets.file.is_none() {
            let path = self.offsets_path(segment.first_seq);
            if self.medium.exists(&path)? {
                self.medium.remove(&path)?;
            }
            offsets.file = Some(self.medium.open(&path, OpenMode::CreateNew)?);
        }
        let bytes: Vec<u8> = offsets.recent.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        if let Some(file) = &offsets.file {
            file.write_at(4 * offsets.saved, &bytes)?;
        }
        let from = offsets.saved;
        offsets.forget_pages(from);
        offsets.saved += offsets.recent.len() as u64;
        offsets.recent = Vec::new();
        Ok(())
    }

    /// Bytes of all segment files.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub fn bytes(&self) -> Result<u64, JournalError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
        segments.iter().try_fold(0, |sum, segment| Ok(sum + segment.file.len()?))
    }
}

fn check_closed(before: &Segment, next: &SegmentHeader) -> Result<(), JournalError> {
    let failed = |why| JournalError::Segment { path: before.path.clone(), why };
    let len = before.file.len()?;
    let at = len.checked_sub(SEGMENT_TRAILER_LEN as u64).ok_or_else(|| failed(SegmentError::Short))?;
    let mut bytes = [0; SEGMENT_TRAILER_LEN];
    before.file.read_at(at, &mut bytes)?;
    let trailer = SegmentTrailer::parse(&bytes).map_err(failed)?;
    let fits = trailer.ledger_id == next.ledger_id
        && trailer.first_seq == before.first_seq
        && trailer.frames_len == at - SEGMENT_HEADER_LEN as u64
        && trailer.last_hash == next.prev;
    if !fits {
        return Err(failed(SegmentError::Check));
    }
    if trailer.last_seq + 1 != next.first_seq {
        return Err(JournalError::Missing { seq: trailer.last_seq + 1 });
    }
    Ok(())
}

impl Segment {
    fn offset_of(&self, seq: u64) -> Result<Option<u64>, StoreError> {
        let offsets = self.offsets.read().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = seq.checked_sub(self.first_seq) else { return Ok(None) };
        if index >= offsets.saved {
            let index = usize::try_from(index - offsets.saved).unwrap_or(usize::MAX);
            return Ok(offsets.recent.get(index).map(|offset| u64::from(*offset)));
        }
        offsets.saved_entry(index)
    }
}

/// Reads the frame at an offset and checks hash and number: one positioned read for most frames. What the disk does
/// not give is no damage, and is told apart from it.
fn read_frame(
    segment: &Segment,
    offset: u64,
    seq: u64,
    buffer: &mut Vec<u8>,
) -> Result<Result<(), FrameError>, StoreError> {
    buffer.resize(FIRST_READ, 0);
    let got = segment.file.read_at(offset, buffer)?;
    let header = match Header::parse(buffer.get(..got).unwrap_or_default()) {
        Ok(header) if header.seq == seq => header,
        Ok(_) => return Ok(Err(FrameError::Magic)),
        Err(why) => return Ok(Err(why)),
    };
    let needed = header.frame_len();
    if needed > got && got == FIRST_READ {
        buffer.resize(needed, 0);
        let more = segment.file.read_at(offset + got as u64, buffer.get_mut(got..).unwrap_or_default())?;
        buffer.truncate(got + more);
    } else {
        buffer.truncate(needed.min(got));
    }
    Ok(Frame::parse(buffer).map(|_| ()))
}

/// A hint is good when the frame it names stands there; then the scan begins behind it.
fn resume_at(segment: &Segment, hint: &Position) -> Option<(u64, Last)> {
    let mut buffer = Vec::new();
    read_frame(segment, hint.offset, hint.seq, &mut buffer).ok()?.ok()?;
    let frame = Frame::parse(&buffer).ok()?;
    // Only the end of a batch is a place where the fold may stand.
    let ends_batch = frame.header.batch_index + 1 == frame.header.batch_len;
    let last = Last { seq: hint.seq, hash: frame.hash, time: frame.header.time };
    (frame.hash == hint.hash && ends_batch).then_some((hint.offset + buffer.len() as u64, last))
}
