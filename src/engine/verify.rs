//! Verification with keys, on top of the keyless walk of [`crate::inspect`].

use std::ops::ControlFlow;

use crate::base::ScopePrefix;
use crate::crypto::labels;
use crate::inspect::{self, Finding, FindingCode, LogMarks, Report};
use crate::keys::SlotStatus;
use crate::log::Frame;
use crate::store::{SledWitness, Witness};
use crate::vault::{self, VersionRecord};

use super::anchor_view;
use super::checkpoints::root_of;
use super::core::Core;
use super::error::Error;
use super::future::UnknownEvents;
use super::history::{self, BranchRecord};
use super::replay::{Replay, ReplayOptions, ReplayPoint, TELL_EVERY};

/// What to verify beyond chain, head and the live state's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyOptions {
    /// Open every body, fold the log from nothing, compare with the live state, and look at every key
    /// slot.
    pub state: bool,
    /// Compare the sled copy frame by frame, even where the journal is whole.
    pub witness: bool,
}

impl Core {
    /// Verifies everything that the options ask for; damage is a finding, not an error.
    pub(super) fn verify(&self, options: VerifyOptions, progress: &dyn Fn(u64, u64)) -> Result<Report, Error> {
        let expected = self.journal.last().map_or(0, |last| last.seq.saturating_add(1));
        let total = expected.saturating_mul(if options.state { 2 } else { 1 });
        let unlocked = self.unlocked();
        let head_key = unlocked.ledger_key().subkey(labels::HEAD_MAC);
        let by = self.checkpoint_key()?;
        let (places, used) = (self.anchor_places(), self.anchors_used()?);
        let mut held = anchor_view::outside(&places, Some(&by), &used);
        anchor_view::add_conflicts(&mut held, self.conflicts(&by)?);
        let copies = anchor_view::copies(&*self.medium, &self.layout, Some(&by));
        let sizes = held.iter().filter_map(|(_, held)| anchor_view::size_of(held)).chain(copies.sizes());
        let branches = history::branches(&self.index).unwrap_or_default();
        let mut marks = LogMarks::new(sizes)
            .with_branches(branches.iter().map(BranchRecord::branch).collect())
            .with_settled(history::settled(&self.index).unwrap_or_default());
        let mut unknown = UnknownEvents::default();
        let mut report =
            inspect::verify_files_with(&*self.medium, &self.layout.home, Some(&head_key), &mut |header, hash| {
                marks.observe(header, hash);
                unknown.observe(header);
                if header.seq.is_multiple_of(TELL_EVERY) {
                    progress(header.seq.min(expected), total);
                }
            })?;
        unknown.note(&mut report);
        inspect::compare_outside(&mut report, &marks, held);
        anchor_view::report_unnamed(&mut report, &places, &used);
        let last = history::last(&self.index).ok().flatten();
        copies.compare(&mut report, &marks, last.as_ref().map(|last| last.note.as_str()));
        // Others may write meanwhile, and the ledger itself signs checkpoints: both roots are of one moment.
        let (events, snapshot) = self.moment(|_| true);
        match snapshot.map(root_of).transpose() {
            Ok(root) => report.state_root = root.map(|(root, _)| root),
            Err(error) => {
                report.add(FindingCode::IndexDamaged, None, format!("{error}; opening for writing rebuilds it"));
            }
        }
        if options.state {
            self.verify_state(&mut report, events, &|done, of| progress(expected + done, expected + of))?;
        }
        let damaged = report
            .findings
            .iter()
            .any(|finding| finding.code == FindingCode::FrameDamaged || finding.code == FindingCode::SegmentMissing);
        if options.witness || damaged {
            self.verify_witness(&mut report);
        }
        Ok(report)
    }

    fn verify_state(&self, report: &mut Report, events: u64, progress: &dyn Fn(u64, u64)) -> Result<(), Error> {
        let point = ReplayPoint::Seq(events.saturating_sub(1));
        let replay = match self.replay(point, ReplayOptions { from_genesis: true, progress: Some(progress) }) {
            Ok(replay) => replay,
            Err(Error::Fold { seq, source }) => {
                report.add(
                    FindingCode::EventNonsense,
                    Some(seq),
                    format!("event {seq} does not fit the state before it: {source}"),
                );
                return Ok(());
            }
            Err(Error::Sealed { seq, source }) => {
                report.add(FindingCode::BodyDamaged, Some(seq), format!("event {seq} does not open: {source}"));
                return Ok(());
            }
            // Another program wrote it meanwhile; the walk behind it will say so.
            Err(Error::Codec { source, .. }) if source.is_from_the_future() => return Ok(()),
            Err(Error::Codec { seq, source }) => {
                report.add(FindingCode::BodyDamaged, Some(seq), format!("event {seq}: {source}"));
                return Ok(());
            }
            // The walk has named the damage.
            Err(Error::Journal(_)) if !report.ok => return Ok(()),
            Err(error) => return Err(error),
        };
        let replayed = replay.state_root()?;
        if report.state_root.is_some_and(|live| live != replayed) {
            let what = format!(
                "the live state is not the fold of the {} events: its root is not {replayed}",
                replay.seq() + 1
            );
            report.add(FindingCode::StateDiffers, None, what);
        }
        self.verify_slots(&replay, report)
    }

    /// Tells the three states of a key apart: present, shredded by an event, missing.
    fn verify_slots(&self, replay: &Replay, report: &mut Report) -> Result<(), Error> {
        let table = self.table();
        let mut failed = None;
        let mut versions: Vec<(String, VersionRecord)> = Vec::new();
        replay.secrets(&ScopePrefix::all(), &mut |target, head| {
            match vault::list_versions(replay.state(), &target, &head) {
                Ok(records) => versions.extend(records.into_iter().map(|record| (target.to_string(), record))),
                Err(error) => {
                    failed = Some(Error::Vault(error.into()));
                    return ControlFlow::Break(());
                }
            }
            for (target, record) in versions.drain(..) {
                match table.table.copies(record.slot) {
                    Ok(copies) => check_slot(report, &target, &record, copies),
                    Err(error) => {
                        let what =
                            format!("key slot {} of version {} of {target}: {error}", record.slot, record.version);
                        report.add(FindingCode::KeyMissing, Some(record.seq), what);
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Compares a copy of sled with the journal. sled itself is never opened for this: opening can
    /// destroy what it holds.
    fn verify_witness(&self, report: &mut Report) {
        let dir = self.layout.home.join("sled");
        if !dir.exists() {
            return;
        }
        let copied = tempfile::Builder::new().prefix("palyra-witness-").tempdir();
        let opened = copied.map_err(|error| error.to_string()).and_then(|scratch| {
            let witness =
                SledWitness::open_copy(&dir, &scratch.path().join("sled")).map_err(|error| error.to_string())?;
            Ok((scratch, witness))
        });
        // The folder goes after what was opened in it.
        let (_scratch, witness) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                report.add(FindingCode::WitnessDamaged, None, format!("the sled copy does not open: {error}"));
                return;
            }
        };
        let mut compare = Compare { core: self, differs: None, holds: None };
        let end = match witness.last() {
            Ok(Some(last)) => last,
            Ok(None) => return,
            Err(error) => {
                report.add(FindingCode::WitnessDamaged, None, error.to_string());
                return;
            }
        };
        let read = witness.read_range(0, end, &mut |seq, bytes| {
            compare.frame(seq, bytes);
            ControlFlow::Continue(())
        });
        let Compare { differs, holds, .. } = compare;
        if let Err(error) = read {
            report.add(FindingCode::WitnessDamaged, None, error.to_string());
        }
        if let Some((first, last)) = differs {
            report.add(
                FindingCode::WitnessDiffers,
                Some(first),
                format!("the sled copy differs from the journal from event {first} to event {last}"),
            );
        }
        if let Some((first, last)) = holds.filter(|(first, _)| self.ends_before(*first)) {
            // The head is durable before sled gets what it covers: both are older than what sled holds.
            let what = format!(
                "the journal ends before event {first}, but the sled copy holds events to {last}: its end was cut off, or an older copy was put back. Write nothing to it: `palyra-forensic carve` finds these events in {}",
                dir.display()
            );
            let cut = Finding::new(FindingCode::Truncated, Some(first), what);
            report.push(Finding { through: Some(last), ..cut });
        } else if let Some((first, last)) = holds {
            let what = format!(
                "the sled copy holds whole frames for events {first} to {last}, which the journal lacks: `doctor --repair` restores them"
            );
            report.add(FindingCode::WitnessHolds, Some(first), what);
        }
    }
}

impl Core {
    /// Whether the journal's files end before an event: another process may have written since they were opened.
    fn ends_before(&self, seq: u64) -> bool {
        let known = self.journal.last().map_or(0, |last| last.seq);
        seq > known
            && inspect::verify_files(&*self.medium, &self.layout.home, None)
                .is_ok_and(|report| report.head.is_none_or(|head| head.seq < seq))
    }
}

struct Compare<'a> {
    core: &'a Core,
    differs: Option<(u64, u64)>,
    holds: Option<(u64, u64)>,
}

impl Compare<'_> {
    fn frame(&mut self, seq: u64, bytes: &[u8]) {
        let mut buffer = Vec::new();
        let widen = |range: &mut Option<(u64, u64)>| *range = Some((range.map_or(seq, |(first, _)| first), seq));
        match self.core.journal.read(seq, &mut buffer) {
            Ok(()) if buffer == bytes => {}
            Err(_) if Frame::parse(bytes).is_ok_and(|frame| frame.header.seq == seq) => widen(&mut self.holds),
            Ok(()) | Err(_) => widen(&mut self.differs),
        }
    }
}

/// A key is there if one copy of the table has it, and destroyed only if both say so.
fn check_slot(report: &mut Report, target: &str, record: &VersionRecord, copies: [SlotStatus; 2]) {
    let place = format!("key slot {} of version {} of {target}", record.slot, record.version);
    let shredded = copies.iter().filter(|copy| matches!(copy, SlotStatus::Shredded { .. })).count();
    let Some(seq) = record.shredded else {
        let by = copies.iter().find_map(|copy| if let SlotStatus::Shredded { seq } = copy { Some(seq) } else { None });
        let what = match by {
            Some(seq) => format!("{place} is overwritten, by event {seq} as the slot says, but no event shredded it"),
            None if copies.contains(&SlotStatus::Present) => return,
            None => format!("{place} is missing or damaged and no event shredded it"),
        };
        return report.add(FindingCode::KeyMissing, Some(record.seq), what);
    };
    let what = match shredded {
        2 => return,
        1 => format!(
            "{place} was shredded by event {seq} but is overwritten in one copy of the key table alone; \
             `palyra-ledger keys rotate --root` writes the table anew without it"
        ),
        _ => format!("{place} was shredded by event {seq} but is not overwritten; opening for writing does it"),
    };
    report.add(FindingCode::ShredIncomplete, Some(seq), what);
}
