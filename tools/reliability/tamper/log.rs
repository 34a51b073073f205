//! A journal taken apart into frames, and laid down again: as it was, or with every hash made anew, which anybody can.

use std::path::{Path, PathBuf};

use palyra_ledger::LedgerId;
use palyra_ledger::crypto::{Hash, labels};
use palyra_ledger::log::Frame;
use palyra_ledger::log::frame::{HASH_LEN, HEADER_LEN, genesis};
use palyra_ledger::log::segment::{
    SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN, SegmentHeader, SegmentTrailer, TRAILER_MAGIC, digest, file_name,
    parse_file_name,
};

use super::files::Files;

/// Where fields of a frame's header lie (FORMAT.md).
pub mod field {
    use std::ops::Range;

    pub const LEDGER: Range<usize> = 8..24;
    pub const SEQ: Range<usize> = 24..32;
    pub const PREV: Range<usize> = 32..64;
    pub const TIME: Range<usize> = 64..72;
    pub const GROUP: Range<usize> = 72..80;
    pub const KIND: Range<usize> = 80..82;
    pub const SCHEMA: Range<usize> = 82..84;
    pub const EPOCH: Range<usize> = 84..88;
    pub const BATCH: Range<usize> = 88..92;
    /// Length of the body, nonce and commitment: what goes with a body.
    pub const SEALED: Range<usize> = 92..152;
}

/// One segment, taken apart.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its header as it stands.
    pub header: Vec<u8>,
    /// Its frames.
    pub frames: Vec<Vec<u8>>,
    /// What stands behind them: a trailer, or nothing.
    pub tail: Vec<u8>,
    path: PathBuf,
}

/// A journal, taken apart.
#[derive(Debug, Clone)]
pub struct Log {
    /// In order.
    pub segments: Vec<Segment>,
}

/// A field of a frame.
pub fn get<const N: usize>(frame: &[u8], at: &std::ops::Range<usize>) -> [u8; N] {
    frame.get(at.clone()).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Sets a field of a frame.
pub fn set(frame: &mut [u8], at: &std::ops::Range<usize>, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at.clone()).filter(|place| place.len() == bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// A field of eight bytes.
pub fn number(frame: &[u8], at: &std::ops::Range<usize>) -> u64 {
    u64::from_le_bytes(get(frame, at))
}

/// The hash at the end of a frame.
pub fn hash_of(frame: &[u8]) -> [u8; HASH_LEN] {
    frame.last_chunk().copied().unwrap_or([0; HASH_LEN])
}

/// The body with its tag.
pub fn body(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_LEN..frame.len().saturating_sub(HASH_LEN)).unwrap_or_default()
}

/// Makes the hash of a frame anew.
fn rehash(frame: &mut [u8]) -> [u8; HASH_LEN] {
    let Some((covered, place)) = frame.split_last_chunk_mut::<HASH_LEN>() else { return [0; HASH_LEN] };
    *place = Hash::of(labels::FRAME_HASH, &[covered]).0;
    *place
}

impl Segment {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its frames begin in the file.
    pub fn offsets(&self) -> Vec<usize> {
        let mut at = self.header.len();
        let mut offsets = Vec::with_capacity(self.frames.len());
        for frame in &self.frames {
            offsets.push(at);
            at += frame.len();
        }
        offsets
    }

    /// Whether it ends with a trailer.
    pub fn is_closed(&self) -> bool {
        self.tail.starts_with(&TRAILER_MAGIC)
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.frames.concat(), &self.tail].concat()
    }
}

impl Log {
    /// Takes the journal of a home apart.
    pub fn of(files: &Files) -> Self {
        let mut segments = Vec::new();
        for path in files.below("journal") {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if parse_file_name(name).is_none() {
                continue;
            }
            let bytes = files.bytes(&path);
            let header = bytes.get(..SEGMENT_HEADER_LEN).unwrap_or(bytes).to_vec();
            let (mut frames, mut at) = (Vec::new(), header.len());
            while let Ok(frame) = Frame::parse(bytes.get(at..).unwrap_or_default()) {
                frames.push(frame.bytes().to_vec());
                at += frame.bytes().len();
            }
            let tail = bytes.get(at..).unwrap_or_default().to_vec();
            segments.push(Segment { header, frames, tail, path });
        }
        Self { segments }
    }

    /// Every frame, in order.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.segments.iter().flat_map(|segment| segment.frames.iter().cloned()).collect()
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.frames.len()).sum()
    }

    /// The segment of an event, and its place in it.
    pub fn place(&self, event: usize) -> Option<(usize, usize)> {
        let mut rest = event;
        for (at, segment) in self.segments.iter().enumerate() {
            match rest.checked_sub(segment.frames.len()) {
                None => return Some((at, rest)),
                Some(less) => rest = less,
            }
        }
        None
    }

    /// The frame of an event, to be changed where it stands.
    pub fn frame_mut(&mut self, event: usize) -> Option<&mut Vec<u8>> {
        let (segment, at) = self.place(event)?;
        self.segments.get_mut(segment)?.frames.get_mut(at)
    }

    /// Lays it down as it is, nothing made anew.
    pub fn put(&self, files: &mut Files) {
        for path in files.below("journal") {
            files.remove(&path);
        }
        for segment in &self.segments {
            files.put(&segment.path, segment.bytes());
        }
    }

    /// Lays frames down in segments of about the same sizes, as somebody would who can make every hash and no seal:
    /// chained anew from `from` on, with headers and trailers that fit.
    pub fn forge(&self, mut frames: Vec<Vec<u8>>, from: usize, files: &mut Files) {
        let Some(id) = frames.first().map(|frame| LedgerId::from_bytes(get(frame, &field::LEDGER))) else { return };
        let mut prev = from.checked_sub(1).and_then(|at| frames.get(at)).map_or(genesis(id).0, |frame| hash_of(frame));
        for frame in frames.iter_mut().skip(from) {
            set(frame, &field::PREV, &prev);
            prev = rehash(frame);
        }
        for path in files.below("journal") {
            files.remove(&path);
        }
        let mut rest = frames.as_slice();
        let (mut first_seq, mut prev) = (0, genesis(id));
        for (at, segment) in self.segments.iter().enumerate() {
            let is_last = at + 1 == self.segments.len();
            let count = if is_last { rest.len() } else { segment.frames.len().min(rest.len()) };
            let (now, later) = rest.split_at(count);
            rest = later;
            let header = SegmentHeader { ledger_id: id, first_seq, prev }.encode();
            let mut bytes = header.to_vec();
            bytes.extend(now.iter().flatten());
            let last_seq = now.last().map_or(first_seq, |frame| number(frame, &field::SEQ));
            prev = now.last().map_or(prev, |frame| Hash(hash_of(frame)));
            let closed = !is_last && !rest.is_empty();
            if closed {
                let mut hasher = digest();
                hasher.update(&bytes);
                let frames_len = (bytes.len() - header.len()) as u64;
                let digest = hasher.finish();
                let trailer =
                    SegmentTrailer { ledger_id: id, first_seq, last_seq, frames_len, last_hash: prev, digest };
                bytes.extend_from_slice(&trailer.encode());
                debug_assert_eq!(trailer.encode().len(), SEGMENT_TRAILER_LEN, "a trailer has a fixed length");
            }
            files.put(&Path::new("journal").join(file_name(first_seq)), bytes);
            if !closed {
                return;
            }
            first_seq = last_seq + 1;
        }
    }
}

/// Puts the other frame's body, nonce and commitment into a frame.
pub fn take_body(frame: &mut Vec<u8>, other: &[u8]) {
    let end = frame.last_chunk::<HASH_LEN>().copied().unwrap_or_default();
    set(frame, &field::SEALED, &get::<60>(other, &field::SEALED));
    frame.truncate(HEADER_LEN);
    frame.extend_from_slice(body(other));
    frame.extend_from_slice(&end);
}
