//! Restoring damaged journal frames from the sled copy, on a person's word.
//!
//! Nothing is guessed: a restored frame must be whole, bear the number that is missing, and name the hash
//! of the frame before it; the first whole frame behind the damage must in turn name its hash. A frame's
//! length is known once it is restored, so what lies behind it is found without searching.
//! The damaged segment is kept in the quarantine folder before the mended one takes its place.

use std::path::Path;

use crate::base::LedgerId;
use crate::base::limits::SEGMENT_BYTES_MAX;
use crate::crypto::Hash;
use crate::event::Event;
use crate::event::system::JournalRestored;
use crate::inspect::{FindingCode, LogMarks, Outside, Report, compare_outside, verify_files, verify_files_with};
use crate::log::frame::{self, Frame};
use crate::log::segment::{self, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN, SegmentHeader, SegmentTrailer};
use crate::store::{Medium, OpenMode, SledWitness, StoreError, StoreOp, Witness};

use super::anchor_places::Places;
use super::anchor_view;
use super::config::Config;
use super::core::Layout;
use super::error::Error;
use super::future::UnknownEvents;

/// Frames that were restored from the sled copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// First restored sequence number.
    pub first: u64,
    /// Last restored sequence number.
    pub last: u64,
    /// File in the quarantine folder that keeps the damaged segment; empty where there was none.
    pub saved_as: String,
}

impl Restored {
    /// The event that records it.
    pub(super) fn event(&self) -> Event {
        Event::JournalRestored(JournalRestored { first: self.first, last: self.last, saved_as: self.saved_as.clone() })
    }
}

struct Restorer<'a> {
    medium: &'a dyn Medium,
    layout: &'a Layout,
    ledger_id: LedgerId,
    witness: &'a dyn Witness,
    /// Last event that is known to have been durable.
    durable: u64,
    stamp: String,
    expected: u64,
    prev: Hash,
    restored: Vec<Restored>,
}

/// Mends the journal's files where the sled copy can; a whole journal is not touched. The caller holds
/// the home's lock.
pub(super) fn restore(
    config: &Config,
    layout: &Layout,
    ledger_id: LedgerId,
    durable: Option<u64>,
) -> Result<Vec<Restored>, Error> {
    let medium = &*config.medium;
    let dir = layout.journal();
    let sled = layout.home.join("sled");
    let damaged = !verify_files(medium, &layout.home, None)?.ok;
    if !damaged || !config.witness || !sled.exists() {
        return Ok(Vec::new());
    }
    let failed = |source| Error::Store(StoreError::new(StoreOp::Folder, Path::new("(temporary folder)"), source));
    let scratch = tempfile::Builder::new().prefix("palyra-restore-").tempdir().map_err(failed)?;
    let Ok(witness) = SledWitness::open_copy(&sled, &scratch.path().join("sled")) else { return Ok(Vec::new()) };
    let last = witness.last().ok().flatten();
    let mut firsts: Vec<u64> = medium.list(&dir)?.iter().filter_map(|name| segment::parse_file_name(name)).collect();
    firsts.sort_unstable();
    let mut restorer = Restorer {
        medium,
        layout,
        ledger_id,
        witness: &witness,
        durable: durable.max(last).unwrap_or(0),
        stamp: config.clock.now().as_millis().to_string(),
        expected: 0,
        prev: frame::genesis(ledger_id),
        restored: Vec::new(),
    };
    let mut at = 0;
    while at < firsts.len() || restorer.expected <= restorer.durable {
        let first = restorer.expected;
        // A file whose name is beyond what is expected leaves a hole before it.
        let present = firsts.get(at).copied().filter(|found| *found <= first);
        let next = firsts.get(if present.is_some() { at + 1 } else { at }).copied();
        let before = restorer.expected;
        restorer.segment(first, present.is_some(), next)?;
        at += usize::from(present.is_some());
        if restorer.expected == before && next.is_none() {
            break;
        }
    }
    Ok(restorer.restored)
}

impl Restorer<'_> {
    /// Mends the segment that begins with `first` and, where `next` is known, ends before it.
    fn segment(&mut self, first: u64, present: bool, next: Option<u64>) -> Result<(), Error> {
        let path = self.layout.journal().join(segment::file_name(first));
        let found = if present { self.medium.read_all(&path, SEGMENT_BYTES_MAX)? } else { Vec::new() };
        let header = SegmentHeader { ledger_id: self.ledger_id, first_seq: first, prev: self.prev };
        let mut mended = header.encode().to_vec();
        let mut range: Option<(u64, u64)> = None;
        let mut closed = false;
        while next.is_none_or(|next| self.expected < next) {
            let rest = found.get(mended.len()..).unwrap_or_default();
            if let Some(whole) = self.follows(rest) {
                mended.extend_from_slice(whole);
                continue;
            }
            if self.ends_here(rest) {
                closed = true;
                break;
            }
            if next.is_none() && self.expected > self.durable {
                // Nobody was told that these bytes are durable: opening drops them and keeps a copy.
                mended.extend_from_slice(rest);
                break;
            }
            let seq = self.expected;
            let last = next.map_or(self.durable, |next| next - 1);
            let missing = || Error::NoWitness { first: seq, last };
            let bytes = self.witness.read(seq).ok().flatten().ok_or_else(missing)?;
            let whole = self.follows(&bytes).ok_or_else(missing)?;
            mended.extend_from_slice(whole);
            range = Some((range.map_or(seq, |(from, _)| from), seq));
        }
        if closed || next == Some(self.expected) {
            let trailer = self.trailer(first, &mended);
            mended.extend_from_slice(&trailer);
        }
        if mended != found && mended.len() > SEGMENT_HEADER_LEN {
            self.replace(&path, first, &found, &mended, range)?;
        }
        Ok(())
    }

    /// The frame at the front of some bytes, if it is whole and the one that comes next.
    fn follows<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let frame = Frame::parse(bytes).ok()?;
        let header = &frame.header;
        if header.seq != self.expected || header.prev != self.prev || header.ledger_id != self.ledger_id {
            return None;
        }
        self.expected += 1;
        self.prev = frame.hash;
        bytes.get(..frame.bytes().len())
    }

    /// Whether a whole trailer says that the segment ends with the frame before.
    fn ends_here(&self, bytes: &[u8]) -> bool {
        SegmentTrailer::parse(bytes).is_ok_and(|trailer| {
            trailer.last_seq.checked_add(1) == Some(self.expected) && trailer.last_hash == self.prev
        })
    }

    fn trailer(&self, first_seq: u64, segment: &[u8]) -> [u8; SEGMENT_TRAILER_LEN] {
        let mut digest = segment::digest();
        digest.update(segment);
        SegmentTrailer {
            ledger_id: self.ledger_id,
            first_seq,
            last_seq: self.expected.saturating_sub(1),
            frames_len: (segment.len() - SEGMENT_HEADER_LEN) as u64,
            last_hash: self.prev,
            digest: digest.finish(),
        }
        .encode()
    }

    /// Keeps the damaged file, then puts the mended one in its place; a crash leaves one or the other.
    fn replace(
        &mut self,
        path: &Path,
        first_seq: u64,
        found: &[u8],
        mended: &[u8],
        range: Option<(u64, u64)>,
    ) -> Result<(), Error> {
        let mut saved_as = String::new();
        if !found.is_empty() {
            saved_as = format!("{}-{}", self.stamp, segment::file_name(first_seq));
            self.medium.create_dir(&self.layout.quarantine())?;
            self.medium.write_atomic(&self.layout.quarantine().join(&saved_as), found)?;
        }
        self.medium.write_atomic(path, mended)?;
        // A header or trailer alone: no event was touched, the segment's own first one stands for it.
        let (first, last) = range.unwrap_or((first_seq, first_seq));
        self.restored.push(Restored { first, last, saved_as });
        Ok(())
    }
}

/// Whose journal this is, as its first segment says.
fn named_by_first_segment(medium: &dyn Medium, layout: &Layout) -> Option<LedgerId> {
    let file = medium.open(&layout.journal().join(segment::file_name(0)), OpenMode::Read).ok()?;
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    file.read_at(0, &mut bytes).ok()?;
    SegmentHeader::parse(&bytes).ok().map(|header| header.ledger_id)
}

/// The files and the anchors that the settings name. Without a key a note says only that it is whole: who made it,
/// whoever knows the ledger's public key must judge.
fn examine_files(config: &Config, layout: &Layout) -> Result<Report, Error> {
    let medium = &*config.medium;
    let settings = match &config.settings {
        Some(settings) => settings.clone(),
        None => super::home::settings(medium, layout).unwrap_or_default(),
    };
    let places = Places {
        medium,
        keystore: &*config.keystore,
        ledger: named_by_first_segment(medium, layout),
        settings: &settings.anchors,
    };
    let held = anchor_view::outside(&places, None, &[]);
    let copies = anchor_view::copies(medium, layout, None);
    let sizes = held.iter().filter_map(|(_, held)| anchor_view::size_of(held)).chain(copies.sizes());
    let mut marks = LogMarks::new(sizes);
    let mut unknown = UnknownEvents::default();
    let mut report = verify_files_with(medium, &layout.home, None, &mut |header, hash| {
        marks.observe(header, hash);
        unknown.observe(header);
    })?;
    unknown.note(&mut report);
    let own = held.iter().filter_map(|(_, held)| match held {
        Outside::Holds(signed) => Some(signed.checkpoint()),
        _ => None,
    });
    own.chain(copies.checkpoints()).for_each(|checkpoint| marks.vouch(checkpoint));
    compare_outside(&mut report, &marks, held);
    copies.compare(&mut report, &marks, None);
    Ok(report)
}

/// Verifies files without keys, and says what the sled copy still holds of what is damaged. Takes no lock:
/// a machine is also looked at while its daemon runs.
pub(super) fn examine(config: &Config) -> Result<Report, Error> {
    let layout = Layout { home: config.home.clone() };
    let mut report = examine_files(config, &layout)?;
    let sled = layout.home.join("sled");
    let damaged: Vec<u64> =
        report.findings.iter().filter(|found| !found.code.is_note()).filter_map(|found| found.seq).collect();
    let (Some(first), true) = (damaged.iter().min(), config.witness && sled.exists()) else { return Ok(report) };
    let Ok(scratch) = tempfile::Builder::new().prefix("palyra-examine-").tempdir() else { return Ok(report) };
    match SledWitness::open_copy(&sled, &scratch.path().join("sled")) {
        Ok(witness) => {
            let whole = |seq: u64| {
                let bytes = witness.read(seq).ok().flatten()?;
                Frame::parse(&bytes).ok().filter(|frame| frame.header.seq == seq).map(|_| ())
            };
            let held = damaged.iter().filter(|seq| whole(**seq).is_some()).count();
            if held > 0 {
                let what = format!(
                    "the sled copy holds whole frames for {held} of {} damaged places: `doctor --repair` restores them",
                    damaged.len()
                );
                report.add(FindingCode::WitnessHolds, Some(*first), what);
            }
        }
        Err(error) => {
            report.add(FindingCode::WitnessDamaged, None, format!("the sled copy does not open: {error}"));
        }
    }
    Ok(report)
}
