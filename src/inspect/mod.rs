//! Inspection without keys: the files of a ledger are walked and checked, and never written.
//!
//! Nothing here imports a domain, so nothing here can need a key to verify (invariant I9). An
//! unkeyed chain stops accidents, not a writer: whoever can rewrite the files can recompute every hash
//! in them. Forgery, truncation and rollback show against the authenticated head file, against the
//! sealed bodies, and against anchors kept elsewhere.

mod ahead;
pub mod anchor;
mod anchored;
mod assess;
pub mod bundle;
pub mod carve;
mod evidence;
#[cfg(test)]
mod made;
mod order;
mod verdict;
mod walk;
pub mod what;
mod window;

use serde::Serialize;

use crate::base::LedgerId;
use crate::crypto::Hash;

pub use anchor::{Anchor, Coverage, Kept, read_notes};
pub use anchored::{Anchored, LogMarks, Outside, compare_outside};
pub use assess::{Assessment, Seen, assess, assess_opened};
pub use evidence::{Bracket, Change, Digests, Evidence, FileFacts, Files, STDIN};
pub use verdict::{Reason, Verdict};
pub use walk::{Course, Site, Walked, ledger_of, verify_files, verify_files_with, walk};

/// What a check found wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code.
    pub code: FindingCode,
    /// The sequence number it is about, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The last sequence number it is about, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<u64>,
    /// The file it was found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The byte of the file at which it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// In words: what, where, and what may be done.
    pub what: String,
}

impl Finding {
    /// A finding without a place in a file.
    #[must_use]
    pub const fn new(code: FindingCode, seq: Option<u64>, what: String) -> Self {
        Self { code, seq, through: None, file: None, offset: None, what }
    }
}

/// The stable codes of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// Bytes in the journal are no whole, undamaged frame.
    FrameDamaged,
    /// A frame does not name the frame before it.
    ChainBroken,
    /// Sequence numbers are missing.
    SequenceGap,
    /// A frame or segment belongs to another ledger.
    ForeignFrame,
    /// A frame's time is before the time of the frame before it.
    TimeBackwards,
    /// A batch is not whole although frames follow it.
    BatchBroken,
    /// A segment's header is damaged.
    SegmentHeader,
    /// A segment's header names a format version that is not known to this program.
    UnknownVersion,
    /// A closed segment's trailer is missing or damaged.
    SegmentTrailer,
    /// A closed segment's digest does not match its bytes.
    SegmentDigest,
    /// A segment is not there.
    SegmentMissing,
    /// The journal ends in bytes that are no whole batch; the next opening for writing drops them.
    TornTail,
    /// The head file is not there.
    HeadMissing,
    /// The head file is damaged or not authentic.
    HeadDamaged,
    /// The head file names another event than the journal holds.
    HeadDiffers,
    /// The journal ends before the event that the head file names.
    Truncated,
    /// A frame's body does not open or is no event.
    BodyDamaged,
    /// A newer program wrote an event that this one does not know; its hash and place are right.
    UnknownEvent,
    /// An event does not fit the state before it.
    EventNonsense,
    /// The live state is not the fold of the events.
    StateDiffers,
    /// The index is damaged; the next opening for writing rebuilds it.
    IndexDamaged,
    /// The key of a live version is gone without a shred event.
    KeyMissing,
    /// The key of a shredded version is still there.
    ShredIncomplete,
    /// The sled copy holds other frames than the journal.
    WitnessDiffers,
    /// The sled copy could not be read.
    WitnessDamaged,
    /// The sled copy holds frames that are damaged in the journal: they can be restored.
    WitnessHolds,
    /// The backend does not hold the envelope of a version.
    EnvelopeLost,
    /// The envelope of another secret stands in a version's place.
    EnvelopeSwapped,
    /// The envelope of another version of the same secret stands in a version's place.
    EnvelopeStale,
    /// What stands in a version's place is no envelope that the log knows.
    EnvelopeDamaged,
    /// An object in the backend belongs to no version.
    EnvelopeOrphaned,
    /// Envelopes are on their way to another backend.
    MoveUnfinished,
    /// A file could not be read.
    Unreadable,
    /// Bytes stand behind the end of a log that was closed cleanly.
    TailAltered,
    /// An anchor belongs to another ledger.
    AnchorForeign,
    /// A checkpoint is no whole note, or is not signed by the ledger's key.
    CheckpointInvalid,
    /// Two events claim one place.
    Conflict,
    /// The key ring is not the one that the log names.
    KeyringDiffers,
    /// The two copies of a key slot differ, or both are damaged.
    KeySlotDamaged,
    /// One copy of a key slot or table is damaged; the other holds.
    KeySlotRepairable,
    /// An anchor knows of events that the log has not.
    AnchorLost,
    /// An anchor knows of a branch of history that the log has not.
    AnchorOtherBranch,
    /// An anchor, or the copy of a checkpoint, is of another history.
    AnchorForked,
    /// An anchor holds what is no checkpoint of this ledger.
    AnchorUnusable,
    /// An anchor holds a checkpoint of a branch that was given up on purpose.
    AnchorSuperseded,
    /// An anchor cannot be read, or is not there although it was used.
    AnchorAbsent,
    /// The copies of the checkpoints in the home are not those of the log; the next one mends them.
    CheckpointCopy,
    /// An anchor was used, and the settings name it no more.
    AnchorUnnamed,
}

impl FindingCode {
    /// Whether this finding says that the log's end was cut off or an older copy was put back.
    #[must_use]
    pub const fn is_truncation(self) -> bool {
        matches!(self, Self::Truncated | Self::AnchorLost | Self::AnchorOtherBranch)
    }

    /// Whether this finding takes away what would show a cut end, and says nothing of the log itself.
    #[must_use]
    pub const fn is_unanchored(self) -> bool {
        matches!(self, Self::HeadMissing | Self::AnchorUnusable | Self::AnchorUnnamed)
    }

    /// Whether this finding is a fact to know rather than a fault.
    #[must_use]
    pub const fn is_note(self) -> bool {
        matches!(
            self,
            Self::TornTail
                | Self::WitnessHolds
                | Self::EnvelopeOrphaned
                | Self::MoveUnfinished
                | Self::KeySlotRepairable
                | Self::UnknownEvent
                | Self::AnchorSuperseded
                | Self::AnchorAbsent
                | Self::CheckpointCopy
        )
    }
}

/// The last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReportHead {
    /// Its sequence number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Whether there is no finding but notes.
    pub ok: bool,
    /// The ledger, as its first segment names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_id: Option<LedgerId>,
    /// Events that are whole and in place.
    pub events: u64,
    /// The last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<ReportHead>,
    /// Root of the live state, where keys were at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_root: Option<Hash>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is not listed, because there is too much of it.
    #[serde(skip_serializing_if = "Unlisted::is_empty")]
    pub unlisted: Unlisted,
    /// What is known of the log outside of it.
    pub anchored: Anchored,
}

/// Findings that are counted and not listed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Unlisted {
    /// How many there are.
    pub count: u64,
    /// How many of them are more than facts to know.
    pub faults: u64,
    /// Ranges of events that faults among them name; with very many, the last one stands for the rest.
    pub ranges: Vec<(u64, u64)>,
}

impl Unlisted {
    const RANGES_MAX: usize = 1000;

    /// Whether everything is listed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Report {
    /// Counts a finding that is not to be listed.
    pub(crate) fn count(&mut self, finding: &Finding) {
        self.unlisted.count += 1;
        if finding.code.is_note() {
            return;
        }
        self.ok = false;
        self.unlisted.faults += 1;
        let Some(from) = finding.seq else { return };
        let through = finding.through.unwrap_or(from).max(from);
        let full = self.unlisted.ranges.len() >= Unlisted::RANGES_MAX;
        match self.unlisted.ranges.last_mut() {
            Some((first, last)) if full || (*first <= from && from <= last.saturating_add(1)) => {
                *first = (*first).min(from);
                *last = (*last).max(through);
            }
            _ => self.unlisted.ranges.push((from, through)),
        }
    }

    pub(crate) fn add(&mut self, code: FindingCode, seq: Option<u64>, what: String) {
        self.push(Finding::new(code, seq, what));
    }

    pub(crate) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.ok = self.unlisted.faults == 0 && self.findings.iter().all(|finding| finding.code.is_note());
    }
}
