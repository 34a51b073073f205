//! The walk: every byte of the journal is read and checked, damage is located, and the walk goes on
//! behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::{LedgerId, Timestamp};
use crate::crypto::{Hash, Key};
use crate::log::frame::{self, FRAME_OVERHEAD, Frame, FrameError, Header, MAGIC};
use crate::log::journal::all_zeros;
use crate::log::segment::{
    self, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN, SegmentHeader, SegmentTrailer, TRAILER_MAGIC,
};
use crate::log::{Head, HeadError, HeadFile};
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::order::Order;
use super::window::Window;
use super::{Finding, FindingCode, Report, ReportHead};

/// Findings beyond which a walk only counts: a destroyed disk has millions.
const FINDINGS_MAX: usize = 1000;
/// Findings of each kind that are listed all the same: a flood of one must not hide another.
const FINDINGS_OF_EACH: u64 = 20;

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
    let course = Course { head_key, ..Course::of_home(medium, home)? };
    Ok(walk(medium, &course, &mut |frame, _| observe(&frame.header, &frame.hash)).report)
}

/// What a walk goes over.
#[derive(Debug, Clone, Default)]
pub struct Course<'a> {
    /// Segments: the first sequence number as the name or header states it, and the file. In order.
    pub segments: Vec<(u64, PathBuf)>,
    /// The head file, where one belongs to them.
    pub head: Option<PathBuf>,
    /// The key that authenticates the head file, where it is at hand.
    pub head_key: Option<&'a Key>,
    /// Whether the log must begin at event 0; a single segment need not.
    pub part: bool,
    /// Whether this is one segment of a log: its end need not be the log's.
    pub piece: bool,
    /// Events whose hashes are kept for the caller.
    pub watch: Vec<u64>,
    /// The home that they belong to, where they do.
    pub home: PathBuf,
    /// Where segments were expected, for the finding that there are none.
    pub folder: PathBuf,
}

impl Course<'_> {
    /// The segments and the head file of a home.
    ///
    /// # Errors
    /// [`StoreError`] where the journal's folder cannot be listed.
    pub fn of_home(medium: &dyn Medium, home: &Path) -> Result<Self, StoreError> {
        let folder = home.join("journal");
        let mut segments: Vec<(u64, PathBuf)> = medium
            .list(&folder)?
            .iter()
            .filter_map(|name| segment::parse_file_name(name).map(|first| (first, folder.join(name))))
            .collect();
        segments.sort_unstable();
        Ok(Self { segments, head: Some(home.join("head")), home: home.to_owned(), folder, ..Self::default() })
    }
}

/// Where a frame stands.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The file.
    pub path: &'a Path,
    /// First byte of the frame in it.
    pub offset: u64,
}

/// What a walk brought home.
#[derive(Debug)]
pub struct Walked {
    /// What was found.
    pub report: Report,
    /// Hashes of the watched events that are there.
    pub hashes: BTreeMap<u64, Hash>,
    /// What the head file says.
    pub head: Option<Head>,
    /// Sequence number and time of the first whole frame.
    pub first: Option<(u64, Timestamp)>,
    /// Time of the last whole frame.
    pub last_time: Option<Timestamp>,
}

/// Walks over segments in order and shows every whole frame, also those behind damage.
///
/// Frames are hashed on all cores, a window at a time; the links between them are compared in order.
pub fn walk(medium: &dyn Medium, course: &Course<'_>, visit: &mut dyn FnMut(&Frame<'_>, Site<'_>)) -> Walked {
    let mut walk = Walk {
        report: Report { ok: true, ..Report::default() },
        expected: 0,
        prev: None,
        time: Timestamp::from_millis(0),
        order: if course.part { Order::default() } else { Order::at_beginning() },
        twice_below: 0,
        listed: BTreeMap::new(),
        watch: course.watch.iter().map(|seq| (*seq, None)).collect(),
        first: None,
        damaged_here: false,
        durable: None,
        visit,
    };
    walk.report.ledger_id = ledger_of(medium, course);
    let head = walk.read_head(medium, course);
    if let Some(head) = head {
        walk.durable = Some(head.seq);
        walk.watch.entry(head.seq).or_default();
    }
    if course.part {
        walk.expected = course.segments.first().map_or(0, |(first, _)| *first);
    }
    for (index, (first, path)) in course.segments.iter().enumerate() {
        let last = index + 1 == course.segments.len();
        if let Err(error) = walk.segment(medium, path, *first, last) {
            let next = course.segments.get(index + 1).map(|(next, _)| *next);
            walk.unreadable(path, *first, next, &error);
        }
        if walk.twice_below > 0 {
            // What follows is held against the segments that held those events first.
            walk.expected = walk.expected.max(walk.twice_below);
            walk.twice_below = 0;
            walk.prev = None;
            walk.order.forget();
        }
    }
    if course.segments.is_empty() {
        walk.find(FindingCode::SegmentMissing, Some(0), format!("{} holds no segment", course.folder.display()));
    }
    walk.compare_head(head);
    let last_time = walk.first.map(|_| walk.time);
    let hashes = walk.watch.into_iter().filter_map(|(seq, hash)| Some((seq, hash?))).collect();
    Walked { report: walk.report, hashes, head, first: walk.first, last_time }
}

/// The ledger id of the first segment that has a whole header.
#[must_use]
pub fn ledger_of(medium: &dyn Medium, course: &Course<'_>) -> Option<LedgerId> {
    course.segments.iter().find_map(|(_, path)| {
        let file = medium.open(path, OpenMode::Read).ok()?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        file.read_at(0, &mut bytes).ok()?;
        SegmentHeader::parse(&bytes).ok().map(|header| header.ledger_id)
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

struct Walk<'a> {
    report: Report,
    /// The next sequence number.
    expected: u64,
    /// Hash of the last whole frame, where it is known.
    prev: Option<Hash>,
    time: Timestamp,
    order: Order,
    /// Events below this stood in earlier segments already; 0 where none of this segment's did.
    twice_below: u64,
    /// How often each kind of finding came.
    listed: BTreeMap<FindingCode, u64>,
    /// Sequence numbers that are watched, and the hashes found there.
    watch: BTreeMap<u64, Option<Hash>>,
    first: Option<(u64, Timestamp)>,
    /// Whether damage was named in this segment: its digest says nothing more then.
    damaged_here: bool,
    /// The event that the head file names.
    durable: Option<u64>,
    visit: &'a mut dyn FnMut(&Frame<'_>, Site<'_>),
}

/// Whether nothing follows but zeros that the writer put there ahead of its frames, behind the trailer
/// of a segment that it was about to close, perhaps.
fn written_ahead(window: &Window, len: u64) -> Result<bool, StoreError> {
    let trailer = SegmentTrailer::parse(window.rest()).is_ok();
    let from = window.offset() + if trailer { SEGMENT_TRAILER_LEN as u64 } else { 0 };
    all_zeros(window.file(), from, len)
}

impl Walk<'_> {
    fn push(&mut self, finding: Finding) {
        let listed = self.listed.entry(finding.code).or_default();
        *listed += 1;
        if self.report.findings.len() < FINDINGS_MAX || *listed <= FINDINGS_OF_EACH {
            self.report.push(finding);
        } else {
            self.report.count(&finding);
        }
    }

    fn find(&mut self, code: FindingCode, seq: Option<u64>, what: String) {
        self.push(Finding::new(code, seq, what));
    }

    fn find_at(&mut self, code: FindingCode, seq: u64, (path, offset): (&Path, u64), what: String) {
        let place = Finding { file: Some(shown(path)), offset: Some(offset), ..Finding::new(code, Some(seq), what) };
        self.push(place);
    }

    /// Reading a segment failed: what of it was not read yet, and goes on behind it.
    fn unreadable(&mut self, path: &Path, first: u64, next: Option<u64>, error: &StoreError) {
        let from = self.expected.max(first);
        let behind = next.filter(|next| *next > from);
        let what = format!("{error}; copy what can be read and look at the disk");
        let unread = Finding::new(FindingCode::Unreadable, Some(from), what);
        let through = behind.map(|next| next - 1).filter(|through| *through > from);
        self.push(Finding { file: Some(shown(path)), through, ..unread });
        self.expected = behind.unwrap_or(from);
        self.prev = None;
        self.order.forget();
    }

    fn read_head(&mut self, medium: &dyn Medium, course: &Course<'_>) -> Option<Head> {
        let (path, ledger_id) = (course.head.as_ref()?, self.report.ledger_id?);
        match HeadFile::open(medium, path, ledger_id, course.head_key, false) {
            Ok((_, head)) => Some(head),
            Err(HeadError::Store(error)) if error.is_not_found() => {
                let what = "there is no head file: whether the end was cut off cannot be told".to_owned();
                self.find(FindingCode::HeadMissing, None, what);
                None
            }
            Err(error) => {
                let code = match &error {
                    HeadError::Store(_) => FindingCode::Unreadable,
                    _ => FindingCode::HeadDamaged,
                };
                let finding = Finding::new(code, None, error.to_string());
                self.push(Finding { file: Some(shown(path)), ..finding });
                None
            }
        }
    }

    fn segment(&mut self, medium: &dyn Medium, path: &Path, first: u64, last: bool) -> Result<(), StoreError> {
        self.damaged_here = false;
        let file = medium.open(path, OpenMode::Read)?;
        let len = file.len()?;
        let mut window = Window::new(file);
        window.fill(SEGMENT_HEADER_LEN)?;
        let header = SegmentHeader::parse(window.rest());
        let future = SegmentHeader::is_newer(window.rest());
        if last && first > 0 && len <= SEGMENT_HEADER_LEN as u64 && header.is_err() && !future {
            let what = format!("{} was being made when the power went", path.display());
            self.find_at(FindingCode::TornTail, first, (path, 0), what);
            return Ok(());
        }
        if first < self.expected {
            let through = self.expected - 1;
            let what = format!(
                "{} claims events {first} to {through}, which segments before it hold: one of them was put there",
                path.display()
            );
            let twice = Finding::new(FindingCode::Conflict, Some(first), what);
            self.push(Finding { file: Some(shown(path)), through: Some(through), ..twice });
            self.twice_below = self.expected;
            self.prev = None;
            self.order.forget();
        }
        if first > self.expected {
            let what = format!("no segment holds events {} to {}", self.expected, first - 1);
            let missing = Finding::new(FindingCode::SegmentMissing, Some(self.expected), what);
            self.push(Finding { through: Some(first - 1), ..missing });
            self.prev = None;
            self.order.forget();
        }
        self.expected = first;
        match header {
            Ok(header) => self.check_header(path, &header, first),
            Err(why) => {
                let what = format!("{}: {why}", path.display());
                let code = if future { FindingCode::UnknownVersion } else { FindingCode::SegmentHeader };
                self.damaged_here = true;
                self.find_at(code, first, (path, 0), what);
            }
        }
        window.advance(SEGMENT_HEADER_LEN);
        self.frames(&mut window, (path, first), last, len)
    }

    fn check_header(&mut self, path: &Path, header: &SegmentHeader, first: u64) {
        if self.report.ledger_id.is_some_and(|id| id != header.ledger_id) {
            let what = format!("{} belongs to ledger {}", path.display(), header.ledger_id);
            self.find_at(FindingCode::ForeignFrame, first, (path, 0), what);
        }
        if header.first_seq != first {
            let what = format!("{} says that it begins at event {}", path.display(), header.first_seq);
            self.find_at(FindingCode::SegmentHeader, first, (path, 0), what);
        }
        let wanted = if first == 0 { Some(frame::genesis(header.ledger_id)) } else { self.prev };
        if wanted.is_some_and(|wanted| wanted != header.prev) {
            let what = format!("{} does not follow the segment before it", path.display());
            self.find_at(FindingCode::ChainBroken, first, (path, 0), what);
        }
        self.prev.get_or_insert(header.prev);
        if first == 0 {
            self.prev = Some(header.prev);
        }
    }

    fn frames(
        &mut self,
        window: &mut Window,
        (path, first): (&Path, u64),
        last: bool,
        len: u64,
    ) -> Result<(), StoreError> {
        let mut closed = false;
        loop {
            window.fill(FRAME_OVERHEAD)?;
            if window.rest().is_empty() {
                break;
            }
            let offset = window.offset();
            window.prepare();
            if !window.is_known()
                && let Ok(header) = Header::parse(window.rest())
                && header.frame_len() > window.rest().len()
            {
                window.fill(header.frame_len())?;
                window.prepare();
            }
            match window.frame() {
                Ok(frame) => {
                    self.frame(path, offset, &frame);
                    let taken = frame.bytes().len();
                    window.advance(taken);
                }
                Err(_)
                    if window.rest().starts_with(&TRAILER_MAGIC)
                        && len.saturating_sub(offset) == SEGMENT_TRAILER_LEN as u64 =>
                {
                    closed = self.trailer(window, path, first)?;
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
        if self.order.is_within() {
            let what = format!("{} ends within a batch", path.display());
            self.find(if last { FindingCode::TornTail } else { FindingCode::BatchBroken }, Some(self.expected), what);
            self.order.end_batch();
        }
        Ok(())
    }

    fn frame(&mut self, path: &Path, offset: u64, frame: &Frame<'_>) {
        let header = &frame.header;
        let seq = header.seq;
        let at = |what: &str| format!("{} at byte {offset}: {what}", path.display());
        let place = (path, offset);
        if self.report.ledger_id.is_some_and(|id| id != header.ledger_id) {
            let what = at(&format!("the frame belongs to ledger {}", header.ledger_id));
            self.find_at(FindingCode::ForeignFrame, seq, place, what);
            return;
        }
        // What claims the place of an event that was shown is a finding and no event.
        let twice = seq < self.twice_below;
        if !twice {
            (self.visit)(frame, Site { path, offset });
            self.first.get_or_insert((seq, header.time));
        }
        if seq != self.expected {
            let what = at(&format!("event {seq} where event {} was to come", self.expected));
            self.find_at(FindingCode::SequenceGap, self.expected, place, what);
        } else if self.prev.is_some_and(|prev| prev != header.prev) {
            let what = at("the frame does not name the frame before it");
            self.find_at(FindingCode::ChainBroken, seq, place, what);
        }
        if header.time < self.time && !twice {
            let what = at("the frame's time is before the time of the frame before it");
            self.find_at(FindingCode::TimeBackwards, seq, place, what);
        }
        if let Some(wrong) = self.order.take(header) {
            self.find_at(FindingCode::BatchBroken, seq, place, at(wrong));
        }
        self.prev = Some(frame.hash);
        self.expected = seq.saturating_add(1);
        if twice {
            return;
        }
        self.time = self.time.max(header.time);
        self.report.events += 1;
        if !self.order.is_within() {
            self.report.head = Some(ReportHead { seq, hash: frame.hash });
        }
        if let Some(found) = self.watch.get_mut(&seq) {
            *found = Some(frame.hash);
        }
    }

    fn trailer(&mut self, window: &mut Window, path: &Path, first: u64) -> Result<bool, StoreError> {
        window.fill(SEGMENT_TRAILER_LEN)?;
        let last_seq = self.expected.saturating_sub(1);
        match SegmentTrailer::parse(window.rest()) {
            Err(why) => {
                self.find(FindingCode::SegmentTrailer, Some(last_seq), format!("{}: {why}", path.display()));
                Ok(false)
            }
            Ok(trailer) => {
                let frames_len = window.offset() - SEGMENT_HEADER_LEN as u64;
                if self.report.ledger_id.is_some_and(|id| id != trailer.ledger_id)
                    || (trailer.first_seq, trailer.frames_len) != (first, frames_len)
                {
                    self.find(
                        FindingCode::SegmentTrailer,
                        Some(last_seq),
                        format!("{}: the trailer is that of another segment", path.display()),
                    );
                } else if trailer.last_seq != last_seq || self.prev.is_some_and(|prev| prev != trailer.last_hash) {
                    self.find(
                        FindingCode::SegmentTrailer,
                        Some(last_seq),
                        format!("{}: the trailer names another last event", path.display()),
                    );
                } else if trailer.digest != window.digest() && !self.damaged_here {
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
        why: FrameError,
    ) -> Result<(), StoreError> {
        let start = window.offset();
        let expected = self.expected;
        if last && !self.order.is_within() && written_ahead(window, len)? {
            return pass_over(window, len);
        }
        if SegmentTrailer::parse(window.rest()).is_ok() {
            let what =
                format!("{}: what stands behind its trailer, at byte {start}, is not the ledger's", path.display());
            self.find_at(FindingCode::SegmentTrailer, expected, (path, start), what);
            return pass_over(window, len);
        }
        let future = matches!(why, FrameError::Version(_)) && {
            window.fill(FRAME_OVERHEAD + crate::base::limits::BODY_MAX)?;
            frame::newer_version(window.rest()).is_some()
        };
        if last && !future && self.is_torn(window, start, len)? {
            let from = self.report.head.map_or(0, |head| head.seq.saturating_add(1));
            let what = format!(
                "{}: bytes {start} to {len} are of no whole batch, and event {from} and what follows were never \
                 acknowledged; the next opening for writing drops them",
                path.display()
            );
            pass_over(window, len)?;
            self.order.end_batch();
            self.find_at(FindingCode::TornTail, from, (path, start), what);
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
                    // The last three bytes may begin a magic that the next window ends; a file that was cut
                    // meanwhile has no next one.
                    window.advance(if window.loaded() >= len || all <= 3 { all } else { all - 3 });
                }
                Some(skip) => {
                    window.advance(skip);
                    // Judged where all of it is there, wherever the buffer ended: the header first.
                    window.fill(FRAME_OVERHEAD.max(SEGMENT_TRAILER_LEN))?;
                    if let Ok(header) = Header::parse(window.rest()) {
                        window.fill(header.frame_len())?;
                    }
                    let begins = window.rest();
                    let at_trailer = SegmentTrailer::parse(begins).is_ok()
                        && len.saturating_sub(window.offset()) == SEGMENT_TRAILER_LEN as u64;
                    if at_trailer || Frame::parse(begins).is_ok() {
                        break;
                    }
                    window.advance(1);
                }
            }
        }
        let end = window.offset();
        if last && end == len && !future {
            let what = format!(
                "{}: bytes {start} to {end} are no whole batch; the next opening for writing drops them",
                path.display()
            );
            self.find_at(FindingCode::TornTail, expected, (path, start), what);
            return Ok(());
        }
        let resumes = Frame::parse(window.rest()).map(|frame| frame.header.seq).ok();
        let range = match resumes {
            Some(seq) if seq > expected.saturating_add(1) => format!("events {expected} to {} are", seq - 1),
            _ => format!("event {expected} is"),
        };
        self.damaged_here = true;
        let damaged = if future {
            let what = format!("{}: bytes {start} to {end}: {why}; {range} not read", path.display());
            Finding::new(FindingCode::UnknownVersion, Some(expected), what)
        } else {
            let what = format!("{}: bytes {start} to {end} are damaged ({why}); {range} lost here", path.display());
            Finding::new(FindingCode::FrameDamaged, Some(expected), what)
        };
        let through = resumes.and_then(|seq| seq.checked_sub(1)).filter(|through| *through > expected);
        self.push(Finding { file: Some(shown(path)), offset: Some(start), through, ..damaged });
        self.prev = None;
        self.order.forget();
        if let Some(seq) = resumes {
            self.expected = self.expected.max(seq);
        }
        Ok(())
    }

    /// Whether damage in the last segment is the beginning of a group that a power cut tore: the head file names
    /// an event before it, and no later group says that it was synced. Opening judges by the same rule.
    fn is_torn(&self, window: &Window, start: u64, len: u64) -> Result<bool, StoreError> {
        let first = self.report.head.map_or(0, |head| head.seq.saturating_add(1));
        let acknowledged = self.durable.is_none_or(|durable| durable >= first);
        Ok(!acknowledged && !self.damaged_here && !later_group_follows(window.file(), start, len, first)?)
    }

    fn compare_head(&mut self, head: Option<Head>) {
        let Some(head) = head else { return };
        let last = self.report.head.map(|head| head.seq);
        let seq = head.seq;
        match self.watch.get(&seq) {
            Some(Some(hash)) if *hash != head.hash => {
                let what = format!("event {seq} is not the one that the head file names");
                self.find(FindingCode::HeadDiffers, Some(seq), what);
            }
            Some(None) if last.is_none_or(|last| last < seq) => {
                let end = last.map_or_else(|| "before its first event".to_owned(), |last| format!("at event {last}"));
                let what = format!(
                    "the journal ends {end}, but event {seq} was durable: its end was cut off, damaged, or an older copy was put back"
                );
                let from = last.map_or(0, |last| last.saturating_add(1));
                let cut = Finding::new(FindingCode::Truncated, Some(seq), what);
                self.push(Finding { through: Some(seq).filter(|_| from < seq), seq: Some(from), ..cut });
            }
            _ => {}
        }
    }
}

/// Goes to the end of the file, or to where it was cut meanwhile.
fn pass_over(window: &mut Window, len: u64) -> Result<(), StoreError> {
    while window.offset() < len {
        window.fill(1)?;
        if window.rest().is_empty() {
            break;
        }
        window.advance(window.rest().len());
    }
    Ok(())
}

/// Whether a trailer ends the file, or a whole frame of a later group than that of event `first` begins behind
/// a place. Memory stays bounded.
fn later_group_follows(file: &dyn MediumFile, from: u64, len: u64, first: u64) -> Result<bool, StoreError> {
    const OVERLAP: usize = FRAME_OVERHEAD + crate::base::limits::BODY_MAX;
    let mut end = [0; SEGMENT_TRAILER_LEN];
    if let Some(at) = len.checked_sub(SEGMENT_TRAILER_LEN as u64).filter(|at| *at > from) {
        file.read_at(at, &mut end)?;
        if SegmentTrailer::parse(&end).is_ok() {
            return Ok(true);
        }
    }
    let mut buffer = vec![0; 4 * OVERLAP];
    let mut at = from.saturating_add(1);
    while at < len {
        let got = file.read_at(at, &mut buffer)?;
        let bytes = buffer.get(..got).unwrap_or_default();
        // A frame that begins near the end of the buffer may end behind it: the next stride begins there.
        let whole = if at + got as u64 >= len { got } else { got.saturating_sub(OVERLAP) };
        for place in memchr::memmem::find_iter(bytes, &MAGIC).take_while(|place| *place < whole) {
            let frame = Frame::parse(bytes.get(place..).unwrap_or_default());
            if frame.is_ok_and(|frame| frame.header.group_start > first) {
                return Ok(true);
            }
        }
        if whole == 0 {
            break;
        }
        at += whole as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
