//! Frames of a segment, one after the other, and what the end of the last one holds.

use std::sync::Arc;

use crate::base::limits::BODY_MAX;
use crate::log::frame::{self, FRAME_OVERHEAD, Frame, FrameError, HEADER_LEN, Header, MAGIC};
use crate::log::segment::{SEGMENT_TRAILER_LEN, SegmentTrailer, TRAILER_MAGIC};
use crate::store::{MediumFile, StoreError};

use super::{JournalError, Last, READ_AHEAD, Segment, Torn};

/// Walks the frames of one segment through a read-ahead buffer.
pub(super) struct Walk {
    segment: Arc<Segment>,
    pub(super) offset: u64,
    buffer: Vec<u8>,
    begin: usize,
    loaded: u64,
}

impl Walk {
    pub(super) fn new(segment: Arc<Segment>, offset: u64) -> Self {
        Self { segment, offset, buffer: Vec::new(), begin: 0, loaded: offset }
    }

    fn available(&self) -> &[u8] {
        self.buffer.get(self.begin..).unwrap_or_default()
    }

    fn fill(&mut self, needed: usize) -> Result<(), StoreError> {
        if self.available().len() >= needed {
            return Ok(());
        }
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let got = self.segment.file.read_more(self.loaded, READ_AHEAD.max(needed), &mut self.buffer)?;
        self.loaded += got as u64;
        Ok(())
    }

    /// The bytes of the next frame, or of whatever stands in its place; nothing at the end of the
    /// file or at the trailer.
    pub(super) fn next_bytes(&mut self) -> Result<Option<(u64, &[u8])>, StoreError> {
        self.fill(HEADER_LEN)?;
        let start = self.available();
        if start.is_empty() || start.starts_with(&TRAILER_MAGIC) {
            return Ok(None);
        }
        let len = Header::parse(start).map_or(HEADER_LEN, |header| header.frame_len());
        self.fill(len.min(FRAME_OVERHEAD + BODY_MAX))?;
        let (at, begin) = (self.offset, self.begin);
        let take = len.min(self.available().len());
        self.begin += take;
        self.offset += take as u64;
        Ok(Some((at, self.buffer.get(begin..begin + take).unwrap_or_default())))
    }

    /// The next whole frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<(u64, Header)>, JournalError> {
        let path = self.segment.path.clone();
        let Some((offset, bytes)) = self.next_bytes()? else { return Ok(None) };
        match Frame::parse(bytes) {
            Ok(frame) => Ok(Some((offset, frame.header))),
            Err(why) => Err(JournalError::Damaged { path, offset, seq: 0, why }),
        }
    }
}

/// The scan of the last segment's end.
pub(super) struct Scan {
    offset: u64,
    /// Last frame of the last whole batch.
    pub(super) last: Option<Last>,
    /// Offsets of the frames of whole batches.
    pub(super) offsets: Vec<u32>,
}

pub(super) struct ScanEnd {
    pub(super) offset: u64,
    pub(super) closed: bool,
    pub(super) torn: Option<Torn>,
    /// Where the zeros that were written ahead end.
    pub(super) ready: u64,
}

impl Scan {
    pub(super) fn new(offset: u64, last: Option<Last>) -> Self {
        Self { offset, last, offsets: Vec::new() }
    }

    pub(super) fn run(&mut self, segment: &Arc<Segment>) -> Result<ScanEnd, JournalError> {
        let mut walk = Walk::new(Arc::clone(segment), self.offset);
        let mut prev = self.last.map_or(segment.prev, |last| last.hash);
        let mut seq = self.last.map_or(0, |last| last.seq + 1);
        let mut batch: Vec<u32> = Vec::new();
        let file_len = segment.file.len()?;
        // `self.offset` stays behind the last whole batch.
        let broken = loop {
            let Some((offset, bytes)) = walk.next_bytes()? else { break None };
            let frame = match Frame::parse(bytes) {
                Ok(frame) => frame,
                Err(why) => break Some((offset, why)),
            };
            let header = &frame.header;
            if header.seq != seq || header.prev != prev || usize::from(header.batch_index) != batch.len() {
                // Whole frames in a wrong order are no torn write: somebody moved them.
                return Err(JournalError::Chain { path: segment.path.clone(), seq });
            }
            prev = frame.hash;
            seq += 1;
            batch.push(u32::try_from(offset).unwrap_or(u32::MAX));
            if batch.len() == usize::from(header.batch_len) {
                self.last = Some(Last { seq: header.seq, hash: frame.hash, time: header.time });
                self.offset = offset + header.frame_len() as u64;
                self.offsets.append(&mut batch);
            }
        };
        if batch.is_empty() && broken.as_ref().is_some_and(|(offset, _)| *offset == self.offset) {
            // Zeros that were written ahead hold no frame and are no torn one.
            if all_zeros(&*segment.file, self.offset, file_len)? {
                return Ok(ScanEnd { offset: self.offset, closed: false, torn: None, ready: file_len });
            }
        }
        if let Some((offset, FrameError::Version(_))) = broken {
            let mut bytes = vec![0; FRAME_OVERHEAD + BODY_MAX];
            let got = segment.file.read_at(offset, &mut bytes)?;
            if let Some(version) = frame::newer_version(bytes.get(..got).unwrap_or_default()) {
                // No torn write: these bytes are not ours to drop.
                return Err(JournalError::Newer { path: segment.path.clone(), offset, seq, version });
            }
        }
        if let Some((offset, why)) = broken {
            let first_dropped = self.last.map_or(0, |last| last.seq + 1);
            if later_group_follows(segment, offset, file_len, first_dropped)? {
                return Err(JournalError::Damaged { path: segment.path.clone(), offset, seq, why });
            }
        } else if walk.available().starts_with(&TRAILER_MAGIC) && batch.is_empty() {
            return self.check_trailer(segment, walk.available(), file_len);
        }
        let torn = (file_len > self.offset).then(|| Torn {
            segment: segment.first_seq,
            offset: self.offset,
            bytes: file_len - self.offset,
        });
        Ok(ScanEnd { offset: self.offset, closed: false, torn, ready: self.offset })
    }

    fn check_trailer(&self, segment: &Segment, bytes: &[u8], file_len: u64) -> Result<ScanEnd, JournalError> {
        let (offset, ready) = (self.offset, self.offset);
        let behind = offset + SEGMENT_TRAILER_LEN as u64;
        let whole = SegmentTrailer::parse(bytes).is_ok_and(|trailer| {
            self.last.is_some_and(|last| last.seq == trailer.last_seq && last.hash == trailer.last_hash)
        });
        if whole && file_len == behind {
            return Ok(ScanEnd { offset, closed: true, torn: None, ready });
        }
        if whole && all_zeros(&*segment.file, behind, file_len)? {
            // The power went before the zeros behind the trailer were cut off: the segment stays open,
            // and the next frame, which is longer, takes the trailer's place.
            return Ok(ScanEnd { offset, closed: false, torn: None, ready: file_len });
        }
        // A trailer that is not whole was being written when the power went.
        let torn = Torn { segment: segment.first_seq, offset, bytes: file_len - offset };
        Ok(ScanEnd { offset, closed: false, torn: Some(torn), ready })
    }
}

/// Whether a file holds nothing but zeros from one offset to another.
pub(crate) fn all_zeros(file: &dyn MediumFile, mut from: u64, to: u64) -> Result<bool, StoreError> {
    let mut buffer = vec![0; READ_AHEAD];
    while from < to {
        let want = usize::try_from(to - from).unwrap_or(READ_AHEAD).min(READ_AHEAD);
        let got = file.read_at(from, buffer.get_mut(..want).unwrap_or_default())?;
        if got == 0 || buffer.iter().take(got).any(|byte| *byte != 0) {
            return Ok(false);
        }
        from += got as u64;
    }
    Ok(true)
}

/// Whether a whole frame of a later group, or a trailer, stands behind a damaged place: then the
/// damaged one had been synced and acknowledged.
fn later_group_follows(segment: &Segment, offset: u64, file_len: u64, first_dropped: u64) -> Result<bool, StoreError> {
    let mut bytes = vec![0; usize::try_from(file_len.saturating_sub(offset)).unwrap_or(0)];
    let got = segment.file.read_at(offset, &mut bytes)?;
    bytes.truncate(got);
    let closed = bytes.last_chunk::<SEGMENT_TRAILER_LEN>().is_some_and(|end| SegmentTrailer::parse(end).is_ok());
    if closed {
        return Ok(true);
    }
    let mut rest = bytes.get(1..).unwrap_or_default();
    while let Some(at) = rest.windows(MAGIC.len()).position(|window| window == MAGIC) {
        rest = rest.get(at..).unwrap_or_default();
        if let Ok(frame) = Frame::parse(rest)
            && frame.header.group_start > first_dropped
        {
            return Ok(true);
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    Ok(false)
}
