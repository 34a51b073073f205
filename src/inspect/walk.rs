//! The walk: every byte of the journal is read and checked, damage is located, and the walk goes on
//! behind it.

use std::path::Path;

use crate::base::Timestamp;
use crate::crypto::{Hash, Hasher, Key};
use crate::log::frame::{self, FRAME_OVERHEAD, Frame, Header, MAGIC};
use crate::log::journal::all_zeros;
use crate::log::segment::{
    self, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN, SegmentHeader, SegmentTrailer, TRAILER_MAGIC,
};
use crate::log::{HeadError, HeadFile};
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::{FindingCode, Report, ReportHead};

const WINDOW: usize = 4 * 1024 * 1024;
/// Findings of one kind of damage beyond which a walk only counts: a destroyed disk has millions.
const FINDINGS_MAX: usize = 1000;

/// Verifies the files of a ledger. Without a key the head file's records are compared but not
/// authenticated. Memory stays bounded, whatever the files hold.
///
/// # Errors
/// [`StoreError`] only where the journal's folder itself cannot be read; everything else is a finding.
pub fn verify_files(medium: &dyn Medium, home: &Path, head_key: Option<&Key>) -> Result<Report, StoreError> {
    verify_files_with(medium, home, head_key, &mut |_, _| {})
}

/// As [`verify_files`], and shows every whole frame's header and hash to `observe`, in order.
///
/// # Errors
/// As [`verify_files`].
pub fn verify_files_with(
    medium: &dyn Medium,
    home: &Path,
    head_key: Option<&Key>,
    observe: &mut dyn FnMut(&Header, &Hash),
) -> Result<Report, StoreError> {
    let dir = home.join("journal");
    let mut firsts: Vec<u64> = medium.list(&dir)?.iter().filter_map(|name| segment::parse_file_name(name)).collect();
    firsts.sort_unstable();
    let mut walk = Walk {
        report: Report { ok: true, ..Report::default() },
        expected: 0,
        prev: None,
        time: Timestamp::from_millis(0),
        batch_left: 0,
        head_at: None,
        observe,
    };
    let head = read_head(medium, home, head_key, &firsts, &dir, &mut walk.report);
    walk.head_at = head.map(|head| (head.seq, None));
    for (index, first) in firsts.iter().copied().enumerate() {
        let last = index + 1 == firsts.len();
        if let Err(error) = walk.segment(medium, &dir, first, last) {
            walk.find(
                FindingCode::Unreadable,
                Some(first),
                format!("{error}; copy what can be read and look at the disk"),
            );
        }
    }
    if firsts.is_empty() {
        walk.find(FindingCode::SegmentMissing, Some(0), format!("{} holds no segment", dir.display()));
    }
    walk.compare_head(head);
    Ok(walk.report)
}

fn read_head(
    medium: &dyn Medium,
    home: &Path,
    head_key: Option<&Key>,
    firsts: &[u64],
    dir: &Path,
    report: &mut Report,
) -> Option<crate::log::Head> {
    // The ledger id comes from the first segment that has a whole header.
    let ledger_id = firsts.iter().find_map(|first| {
        let file = medium.open(&dir.join(segment::file_name(*first)), OpenMode::Read).ok()?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        file.read_at(0, &mut bytes).ok()?;
        SegmentHeader::parse(&bytes).ok().map(|header| header.ledger_id)
    });
    report.ledger_id = ledger_id;
    let ledger_id = ledger_id?;
    match HeadFile::open(medium, &home.join("head"), ledger_id, head_key, false) {
        Ok((_, head)) => Some(head),
        Err(HeadError::Store(error)) if error.is_not_found() => {
            report.add(
                FindingCode::HeadMissing,
                None,
                "there is no head file: whether the end was cut off cannot be told".to_owned(),
            );
            None
        }
        Err(error) => {
            report.add(FindingCode::HeadDamaged, None, error.to_string());
            None
        }
    }
}

struct Walk<'a> {
    report: Report,
    /// The next sequence number.
    expected: u64,
    /// Hash of the last whole frame, where it is known.
    prev: Option<Hash>,
    time: Timestamp,
    /// Frames that the batch under way still lacks.
    batch_left: u16,
    /// The head's sequence number, and the hash found there.
    head_at: Option<(u64, Option<Hash>)>,
    observe: &'a mut dyn FnMut(&Header, &Hash),
}

/// A file read through a sliding window.
struct Window {
    file: Box<dyn MediumFile>,
    buffer: Vec<u8>,
    begin: usize,
    /// Where `begin` lies in the file.
    offset: u64,
    loaded: u64,
    digest: Hasher,
}

impl Window {
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.begin..).unwrap_or_default()
    }

    fn fill(&mut self, needed: usize) -> Result<(), StoreError> {
        if self.rest().len() >= needed {
            return Ok(());
        }
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + WINDOW.max(needed), 0);
        let got = self.file.read_at(self.loaded, self.buffer.get_mut(have..).unwrap_or_default())?;
        self.buffer.truncate(have + got);
        self.loaded += got as u64;
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.rest().len());
        let passed = self.buffer.get(self.begin..self.begin + bytes).unwrap_or_default();
        self.digest.update(passed);
        self.begin += bytes;
        self.offset += bytes as u64;
    }
}

/// Whether nothing follows but zeros that the writer put there ahead of its frames, behind the trailer
/// of a segment that it was about to close, perhaps.
fn written_ahead(window: &Window, len: u64) -> Result<bool, StoreError> {
    let trailer = SegmentTrailer::parse(window.rest()).is_ok();
    let from = window.offset + if trailer { SEGMENT_TRAILER_LEN as u64 } else { 0 };
    all_zeros(&*window.file, from, len)
}

impl Walk<'_> {
    fn find(&mut self, code: FindingCode, seq: Option<u64>, what: String) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.add(code, seq, what);
        }
    }

    fn segment(&mut self, medium: &dyn Medium, dir: &Path, first: u64, last: bool) -> Result<(), StoreError> {
        let path = dir.join(segment::file_name(first));
        let file = medium.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let mut window = Window { file, buffer: Vec::new(), begin: 0, offset: 0, loaded: 0, digest: segment::digest() };
        window.fill(SEGMENT_HEADER_LEN)?;
        let header = SegmentHeader::parse(window.rest());
        if last && first > 0 && len <= SEGMENT_HEADER_LEN as u64 && header.is_err() {
            self.find(
                FindingCode::TornTail,
                Some(first),
                format!("{} was being made when the power went", path.display()),
            );
            return Ok(());
        }
        if first > self.expected {
            self.find(
                FindingCode::SegmentMissing,
                Some(self.expected),
                format!("no segment holds events {} to {}", self.expected, first - 1),
            );
            self.prev = None;
            self.batch_left = 0;
        }
        self.expected = first;
        match header {
            Ok(header) => self.check_header(&path, &header, first),
            Err(why) => {
                self.find(FindingCode::SegmentHeader, Some(first), format!("{}: {why}", path.display()));
            }
        }
        window.advance(SEGMENT_HEADER_LEN);
        self.frames(&mut window, &path, last, len)
    }

    fn check_header(&mut self, path: &Path, header: &SegmentHeader, first: u64) {
        if self.report.ledger_id.is_some_and(|id| id != header.ledger_id) {
            self.find(
                FindingCode::ForeignFrame,
                Some(first),
                format!("{} belongs to ledger {}", path.display(), header.ledger_id),
            );
        }
        if header.first_seq != first {
            self.find(
                FindingCode::SegmentHeader,
                Some(first),
                format!("{} says that it begins at event {}", path.display(), header.first_seq),
            );
        }
        let wanted = if first == 0 { Some(frame::genesis(header.ledger_id)) } else { self.prev };
        if wanted.is_some_and(|wanted| wanted != header.prev) {
            self.find(
                FindingCode::ChainBroken,
                Some(first),
                format!("{} does not follow the segment before it", path.display()),
            );
        }
        self.prev.get_or_insert(header.prev);
        if first == 0 {
            self.prev = Some(header.prev);
        }
    }

    fn frames(&mut self, window: &mut Window, path: &Path, last: bool, len: u64) -> Result<(), StoreError> {
        let mut closed = false;
        loop {
            window.fill(FRAME_OVERHEAD)?;
            if window.rest().is_empty() {
                break;
            }
            if let Ok(header) = Header::parse(window.rest()) {
                window.fill(header.frame_len())?;
            }
            match Frame::parse(window.rest()) {
                Ok(frame) => {
                    self.frame(path, window.offset, &frame);
                    let taken = frame.bytes().len();
                    window.advance(taken);
                }
                Err(_)
                    if window.rest().starts_with(&TRAILER_MAGIC)
                        && len - window.offset == SEGMENT_TRAILER_LEN as u64 =>
                {
                    closed = self.trailer(window, path)?;
                    window.advance(SEGMENT_TRAILER_LEN);
                }
                Err(why) => self.damage(window, path, last, len, why)?,
            }
        }
        if !closed && !last {
            self.find(
                FindingCode::SegmentTrailer,
                Some(self.expected),
                format!("{} is followed by another segment but not closed", path.display()),
            );
        }
        if self.batch_left > 0 {
            let what = format!("{} ends within a batch", path.display());
            self.find(if last { FindingCode::TornTail } else { FindingCode::BatchBroken }, Some(self.expected), what);
            self.batch_left = 0;
        }
        Ok(())
    }

    fn frame(&mut self, path: &Path, offset: u64, frame: &Frame<'_>) {
        let header = &frame.header;
        let seq = header.seq;
        let at = |what: &str| format!("{} at byte {offset}: {what}", path.display());
        if self.report.ledger_id.is_some_and(|id| id != header.ledger_id) {
            self.find(
                FindingCode::ForeignFrame,
                Some(seq),
                at(&format!("the frame belongs to ledger {}", header.ledger_id)),
            );
            return;
        }
        if seq != self.expected {
            let what = at(&format!("event {seq} where event {} was to come", self.expected));
            self.find(FindingCode::SequenceGap, Some(self.expected), what);
        } else if self.prev.is_some_and(|prev| prev != header.prev) {
            self.find(FindingCode::ChainBroken, Some(seq), at("the frame does not name the frame before it"));
        }
        if header.time < self.time {
            self.find(
                FindingCode::TimeBackwards,
                Some(seq),
                at("the frame's time is before the time of the frame before it"),
            );
        }
        let starts = header.batch_index == 0;
        if starts == (self.batch_left > 0) {
            self.find(FindingCode::BatchBroken, Some(seq), at("a batch is not whole"));
        }
        self.batch_left = header.batch_len - header.batch_index - 1;
        self.time = self.time.max(header.time);
        self.prev = Some(frame.hash);
        self.expected = seq + 1;
        self.report.events += 1;
        (self.observe)(header, &frame.hash);
        if self.batch_left == 0 {
            self.report.head = Some(ReportHead { seq, hash: frame.hash });
        }
        if let Some((wanted, found)) = &mut self.head_at
            && *wanted == seq
        {
            *found = Some(frame.hash);
        }
    }

    fn trailer(&mut self, window: &mut Window, path: &Path) -> Result<bool, StoreError> {
        window.fill(SEGMENT_TRAILER_LEN)?;
        let last_seq = self.expected.saturating_sub(1);
        match SegmentTrailer::parse(window.rest()) {
            Err(why) => {
                self.find(FindingCode::SegmentTrailer, Some(last_seq), format!("{}: {why}", path.display()));
                Ok(false)
            }
            Ok(trailer) => {
                if trailer.last_seq != last_seq || self.prev.is_some_and(|prev| prev != trailer.last_hash) {
                    self.find(
                        FindingCode::SegmentTrailer,
                        Some(last_seq),
                        format!("{}: the trailer names another last event", path.display()),
                    );
                } else if trailer.digest != window.digest.finish() {
                    self.find(
                        FindingCode::SegmentDigest,
                        Some(last_seq),
                        format!("{}: the digest does not match the bytes", path.display()),
                    );
                }
                Ok(true)
            }
        }
    }

    /// Skips to the next whole frame or the trailer, and names what was passed over.
    fn damage(
        &mut self,
        window: &mut Window,
        path: &Path,
        last: bool,
        len: u64,
        why: frame::FrameError,
    ) -> Result<(), StoreError> {
        let start = window.offset;
        let expected = self.expected;
        if last && self.batch_left == 0 && written_ahead(window, len)? {
            while window.offset < len {
                window.fill(1)?;
                window.advance(window.rest().len().max(1));
            }
            return Ok(());
        }
        window.advance(1);
        loop {
            window.fill(FRAME_OVERHEAD + crate::base::limits::BODY_MAX)?;
            let rest = window.rest();
            let skip = rest.windows(4).position(|four| four == MAGIC || four == TRAILER_MAGIC);
            match skip {
                None if rest.is_empty() => break,
                None => {
                    let all = rest.len();
                    // The last three bytes may begin a magic that the next window ends.
                    window.advance(if window.loaded >= len { all } else { all - 3 });
                }
                Some(skip) => {
                    let begins = rest.get(skip..).unwrap_or_default();
                    let at_trailer = SegmentTrailer::parse(begins).is_ok()
                        && len - (window.offset + skip as u64) == SEGMENT_TRAILER_LEN as u64;
                    let whole = at_trailer || Frame::parse(begins).is_ok();
                    window.advance(if whole { skip } else { skip + 1 });
                    if whole {
                        break;
                    }
                }
            }
        }
        let end = window.offset;
        if last && end == len {
            let what = format!(
                "{}: bytes {start} to {end} are no whole batch; the next opening for writing drops them",
                path.display()
            );
            self.find(FindingCode::TornTail, Some(expected), what);
            return Ok(());
        }
        let resumes = Frame::parse(window.rest()).map(|frame| frame.header.seq).ok();
        let range = match resumes {
            Some(seq) if seq > expected + 1 => format!("events {expected} to {} are", seq - 1),
            _ => format!("event {expected} is"),
        };
        let what = format!("{}: bytes {start} to {end} are damaged ({why}); {range} lost here", path.display());
        self.find(FindingCode::FrameDamaged, Some(expected), what);
        self.prev = None;
        self.batch_left = 0;
        if let Some(seq) = resumes {
            self.expected = self.expected.max(seq);
            // The batch's beginning may lie in the damage.
            if let Ok(frame) = Frame::parse(window.rest()) {
                self.batch_left = u16::from(frame.header.batch_index > 0);
            }
        }
        Ok(())
    }

    fn compare_head(&mut self, head: Option<crate::log::Head>) {
        let Some(head) = head else { return };
        let last = self.report.head.map(|head| head.seq);
        match self.head_at {
            Some((seq, Some(hash))) if hash != head.hash => {
                self.find(
                    FindingCode::HeadDiffers,
                    Some(seq),
                    format!("event {seq} is not the one that the head file names"),
                );
            }
            Some((seq, None)) if last.is_none_or(|last| last < seq) => {
                let end = last.map_or_else(|| "before its first event".to_owned(), |last| format!("at event {last}"));
                let what = format!(
                    "the journal ends {end}, but event {seq} was durable: its end was cut off, damaged, or an older copy was put back"
                );
                self.find(FindingCode::Truncated, Some(seq), what);
            }
            _ => {}
        }
    }
}
