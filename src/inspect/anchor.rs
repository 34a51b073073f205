//! Anchors: what somebody else kept about a log, compared with what is there.
//!
//! An anchor is a checkpoint kept out of reach of whoever can write the log. A log that is shorter was cut off or
//! rolled back; one with other events holds another history. The ledger's own file of checkpoints lies with the
//! log and can be cut off with it: what it says against the log counts, what it says for it does not anchor it.

use serde::Serialize;

use crate::checkpoint::{Fit, NoteError, SignedCheckpoint, VerifierKey, split_notes};
use crate::log::Frame;

use super::anchored::LogMarks;
use super::assess::Seen;
use super::{Finding, FindingCode, Report};

/// Kind of the event that records a checkpoint.
const CHECKPOINT: u16 = 16;

/// Where a checkpoint was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Out of reach of the log's writer, as the examiner vouches.
    Elsewhere,
    /// Beside the log.
    WithLog,
}

/// A checkpoint, and where it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// A file's name.
    pub source: String,
    /// Where it was kept.
    pub kept: Kept,
    /// What it says; signed, at the least by the key that it names.
    pub signed: SignedCheckpoint,
}

/// Reads a file of notes, or one note; with a key each must be signed by it. Of a file beside the log the last
/// note may be torn.
///
/// # Errors
/// [`NoteError`] of the first note that is none, or is not signed by that key.
pub fn read_notes(source: &str, kept: Kept, bytes: &[u8], by: Option<&VerifierKey>) -> Result<Vec<Anchor>, NoteError> {
    let (mut notes, rest) = split_notes(bytes);
    if rest > 0 && (kept == Kept::Elsewhere || notes.is_empty()) {
        notes.extend(bytes.get(bytes.len() - rest..));
    }
    let read = |note: &[u8]| {
        let signed = by.map_or_else(|| SignedCheckpoint::parse(note), |by| SignedCheckpoint::verify(note, by))?;
        Ok(Anchor { source: source.to_owned(), kept, signed })
    };
    notes.into_iter().map(read).collect()
}

/// What anchors say about a log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Coverage {
    /// Events below this are vouched for by an anchor kept elsewhere.
    pub anchored_events: u64,
    /// Events below this are named by the ledger's own checkpoints, which whoever writes the log can cut off, too.
    pub signed_events: u64,
    /// Whether nothing but records of checkpoints stands behind the anchored events.
    pub covers_all: bool,
    /// The range of events that no anchor vouches for, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanchored: Option<(u64, u64)>,
    /// The events before the first that was there to be read: a single segment of several was examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<(u64, u64)>,
}

/// Gathers, as a walk shows frames, what anchors are compared with.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    anchors: &'a [Anchor],
    /// Nothing where there is nothing to compare: a tree costs two more hashes an event.
    marks: Option<LogMarks>,
    /// One segment of several: the end is elsewhere.
    piece: bool,
    first: Option<u64>,
    last_plain: Option<u64>,
    /// Records of checkpoints that no key opened: the last two.
    unopened: [Option<u64>; 2],
}

impl<'a> Comparison<'a> {
    pub(super) fn new(anchors: &'a [Anchor], piece: bool) -> Self {
        let sizes = anchors.iter().map(|anchor| anchor.signed.checkpoint().size);
        let marks = (!anchors.is_empty()).then(|| LogMarks::new(sizes));
        Self { anchors, marks, piece, first: None, last_plain: None, unopened: [None; 2] }
    }

    pub(super) fn visit(&mut self, frame: &Frame<'_>, seen: Seen) {
        let header = &frame.header;
        self.first.get_or_insert(header.seq);
        if !seen.records_checkpoint {
            // Without a key the header's word alone says what an event is.
            if header.kind == CHECKPOINT && !seen.opened {
                self.unopened = [self.unopened[1], Some(header.seq)];
            } else {
                self.last_plain = Some(header.seq);
            }
        }
        if let Some(marks) = &mut self.marks {
            marks.observe_numbered(header, &frame.hash, seen.branch);
        }
    }

    pub(super) fn finish(mut self, report: &mut Report) -> Coverage {
        let end = report.head.map_or(0, |head| head.seq.saturating_add(1));
        let mut coverage = Coverage::default();
        if let Some(marks) = &mut self.marks {
            self.anchors.iter().for_each(|anchor| marks.vouch(anchor.signed.checkpoint()));
        }
        if let Some(marks) = &self.marks {
            for anchor in self.anchors {
                self.compare(anchor, (marks, end), report, &mut coverage);
            }
        }
        let covered = coverage.anchored_events;
        // A checkpoint cannot cover the event that records it: that one alone may stand behind it unopened.
        let [before, last] = self.unopened;
        let below = |seq: Option<u64>| seq.is_none_or(|seq| seq < covered);
        coverage.unread =
            self.first.filter(|_| self.piece).and_then(|first| first.checked_sub(1)).map(|last| (0, last));
        let vouched = covered > 0 && below(self.last_plain) && below(before) && last.is_none_or(|last| last <= covered);
        coverage.covers_all = vouched && coverage.unread.is_none();
        let first = self.first.unwrap_or(0);
        coverage.unanchored = (covered < end && !vouched).then(|| (covered.max(first), end - 1));
        coverage
    }

    fn compare(&self, anchor: &Anchor, (marks, end): (&LogMarks, u64), report: &mut Report, coverage: &mut Coverage) {
        let Anchor { source, kept, signed } = anchor;
        let checkpoint = signed.checkpoint();
        let size = checkpoint.size;
        if report.ledger_id.is_some_and(|id| id != checkpoint.ledger_id) {
            let what = format!("checkpoint {size} of {source} belongs to ledger {}", checkpoint.ledger_id);
            return report.push(Finding::new(FindingCode::AnchorForeign, None, what));
        }
        let claimed = marks.unproven_branch(checkpoint);
        let unproven = claimed.map_or_else(String::new, |from| {
            format!(
                "; event {from} begins a branch, as its header alone says: keys can tell, or a later checkpoint of that \
                 branch"
            )
        });
        match marks.fit(checkpoint) {
            // What stands there is damaged: the walk has said so, and nothing can be compared.
            None => {}
            Some(Fit::Holds) => match kept {
                Kept::Elsewhere => coverage.anchored_events = coverage.anchored_events.max(size),
                Kept::WithLog => coverage.signed_events = coverage.signed_events.max(size),
            },
            // The same end with other events before it is a chain that is broken between: the walk has said where.
            Some(Fit::Forked) if !report.ok && marks.head(size) == Some(checkpoint.head) => {}
            Some(Fit::Forked) => {
                let what =
                    format!("the first {size} events are not those that {source} names: another history{unproven}");
                let forked = Finding::new(FindingCode::AnchorForked, Some(self.parting(marks, end, size)), what);
                report.push(Finding { through: Some(size - 1), ..forked });
            }
            // The rest may stand in other segments.
            Some(Fit::Lost { .. } | Fit::OtherBranch) if self.piece => {}
            Some(Fit::Lost { first, last }) => {
                let code = if *kept == Kept::Elsewhere { FindingCode::AnchorLost } else { FindingCode::Truncated };
                let what = format!("the log ends before event {first}, but {source} knows events to {last}{unproven}");
                // What stands from such a claim on is not what the anchor knows either.
                let from = claimed.map_or(first, |claimed| claimed.min(first));
                report.push(Finding { through: Some(last), ..Finding::new(code, Some(from), what) });
            }
            Some(Fit::OtherBranch) => {
                let branch = checkpoint.branch;
                let what = format!("{source} knows branch {branch} of this ledger's history, which this copy has not");
                report.push(Finding::new(FindingCode::AnchorOtherBranch, Some(end), what));
            }
            Some(Fit::Superseded { since }) => {
                let what = format!("checkpoint {size} of {source} is of a branch that was given up at event {since}");
                report.push(Finding::new(FindingCode::AnchorSuperseded, Some(since), what));
            }
        }
    }

    /// The first event that may be another: the one behind the largest smaller checkpoint that still fits.
    fn parting(&self, marks: &LogMarks, end: u64, size: u64) -> u64 {
        let checkpoints = self.anchors.iter().map(|anchor| anchor.signed.checkpoint());
        let smaller = checkpoints.filter(|checkpoint| checkpoint.size < size.min(end));
        smaller
            .filter(|checkpoint| marks.fit(checkpoint) == Some(Fit::Holds))
            .map(|checkpoint| checkpoint.size)
            .max()
            .unwrap_or(0)
    }
}
