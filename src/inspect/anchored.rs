//! The log against checkpoints that were kept outside of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::Timestamp;
use crate::checkpoint::{Branch, Checkpoint, Fit, Frontier, NoteError, Settled, SignedCheckpoint, fit, tree};
use crate::crypto::{Hash, PublicKey};
use crate::log::frame::Header;

use super::{FindingCode, Report};

/// Kind that begins a branch.
const BRANCH: u16 = 19;
/// Kinds that record checkpoints and first uses of anchors: they come behind the checkpoint and need none themselves.
pub(super) const OWN: std::ops::RangeInclusive<u16> = 16..=17;

/// What is known of a log outside of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Anchored {
    /// Events below this number are those that an anchor knows.
    pub events: u64,
    /// The first and the last event that no anchor knows, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanchored: Option<(u64, u64)>,
    /// The anchors.
    pub anchors: Vec<AnchorNote>,
}

/// One anchor, as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnchorNote {
    /// Its name.
    pub anchor: String,
    /// `holds`, `lost`, `forked`, `other_branch`, `superseded`, `unusable` or `absent`; `unknown` where the log is
    /// damaged at that place.
    pub fit: &'static str,
    /// Events that its checkpoint covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// What somebody outside of the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// A checkpoint whose signature was checked.
    Holds(Box<SignedCheckpoint>),
    /// What is no checkpoint of this ledger.
    Unusable(NoteError),
    /// Nothing, or nothing that can be read: the reason.
    Absent(String),
}

/// What a walk over the log must keep so that it can be compared with checkpoints afterwards.
#[derive(Debug, Clone, Default)]
pub struct LogMarks {
    /// Head and tree root at each size that is asked for.
    marks: BTreeMap<u64, Option<(Hash, Option<Hash>)>>,
    /// The largest of these sizes that the events so far reach, 0 without one, and the one after it.
    stretch: (u64, Option<u64>),
    /// Whether the stretch has an event yet that needs an anchor.
    needed_here: bool,
    frontier: Frontier,
    events: u64,
    branches: Vec<Branch>,
    /// Where branches begin that a key opened.
    told: BTreeSet<u64>,
    /// The highest branch of the checkpoints that the log holds, by the key that signed them.
    vouched: Vec<(PublicKey, u32)>,
    settled: Vec<Settled>,
    /// The branches' numbers are known, and not only that there is one.
    numbered: bool,
    /// First event behind each mark that needs an anchor, and the last in the log.
    needs: BTreeMap<u64, u64>,
    last_needed: Option<u64>,
}

impl LogMarks {
    /// For checkpoints of these sizes.
    #[must_use]
    pub fn new(sizes: impl IntoIterator<Item = u64>) -> Self {
        let marks: BTreeMap<u64, _> = sizes.into_iter().map(|size| (size, None)).collect();
        let next = marks.range(1..).next().map(|(size, _)| *size);
        Self { marks, stretch: (0, next), ..Self::default() }
    }

    /// Takes the next whole frame.
    pub fn observe(&mut self, header: &Header, hash: &Hash) {
        self.observe_numbered(header, hash, None);
    }

    /// Takes the next whole frame, of which a key told the number of the branch that it begins.
    pub fn observe_numbered(&mut self, header: &Header, hash: &Hash, branch: Option<u32>) {
        let seq = header.seq;
        // Behind a gap heads are still known, roots no more.
        let whole = self.frontier.size() == seq;
        if whole {
            self.frontier.push(tree::leaf(hash));
        }
        let size = seq.saturating_add(1);
        // Maps are looked into where a mark lies alone, and not for each of millions of events.
        if seq < self.stretch.0 || self.stretch.1.is_some_and(|next| seq >= next) {
            self.move_to(seq);
        }
        if self.stretch.1 == Some(size)
            && let Some(mark) = self.marks.get_mut(&size)
        {
            *mark = Some((*hash, whole.then(|| self.frontier.root())));
        }
        if header.kind == BRANCH && !self.numbered {
            // Without keys they are counted: numbers that were left out are not seen.
            let counted = self.branches.last().map_or(0, |branch| branch.number).saturating_add(1);
            let number = branch.unwrap_or(counted);
            self.told.extend(branch.map(|_| seq));
            self.branches.push(Branch { number, from: seq });
        }
        if !OWN.contains(&header.kind) {
            self.last_needed = Some(seq);
            if !self.needed_here {
                self.needed_here = true;
                self.needs.entry(self.stretch.0).or_insert(seq);
            }
        }
        self.events = self.events.max(size);
    }

    /// To the stretch between two marks in which an event lies.
    fn move_to(&mut self, seq: u64) {
        let before = self.marks.range(..=seq).next_back().map_or(0, |(size, _)| *size);
        let next = self.marks.range(seq.saturating_add(1)..).next().map(|(size, _)| *size);
        self.stretch = (before, next);
        self.needed_here = self.needs.contains_key(&before);
    }

    /// With branches whose numbers are known from the state.
    #[must_use]
    pub fn with_branches(mut self, branches: Vec<Branch>) -> Self {
        self.branches = branches;
        self.numbered = true;
        self
    }

    /// With the checkpoints that the state says were given up.
    #[must_use]
    pub fn with_settled(mut self, settled: Vec<Settled>) -> Self {
        self.settled = settled;
        self
    }

    /// The branches, the oldest first.
    #[must_use]
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Hash of the last of the first `size` events, where that size was asked for and the event is there.
    pub(super) fn head(&self, size: u64) -> Option<Hash> {
        self.marks.get(&size).copied().flatten().map(|(head, _)| head)
    }

    fn root(&self, size: u64) -> Option<Hash> {
        self.marks.get(&size).copied().flatten().and_then(|(_, root)| root)
    }

    /// Takes a checkpoint that may vouch for branches: where the log holds it, its signature says that as many branches
    /// began before. Without keys anybody can append what looks like the beginning of one.
    pub fn vouch(&mut self, checkpoint: &Checkpoint) {
        if checkpoint.branch > 0 && self.fit(checkpoint) == Some(Fit::Holds) {
            self.vouched.push((checkpoint.key, checkpoint.branch));
        }
    }

    /// The branches that count against a checkpoint: those that keys told, those that a checkpoint by the same key
    /// vouches for, and as many as it knows itself.
    fn counted(&self, checkpoint: &Checkpoint) -> Vec<Branch> {
        let by_same = self.vouched.iter().filter(|(key, _)| *key == checkpoint.key);
        let most = by_same.map(|(_, branch)| *branch).fold(checkpoint.branch, u32::max);
        let counts = |branch: &&Branch| self.numbered || branch.number <= most || self.told.contains(&branch.from);
        self.branches.iter().filter(counts).copied().collect()
    }

    /// Where a branch begins that nothing but a header speaks of, so that it gives up no checkpoint by this key.
    pub(super) fn unproven_branch(&self, checkpoint: &Checkpoint) -> Option<u64> {
        let counted = self.counted(checkpoint);
        self.branches.iter().find(|branch| !counted.contains(branch)).map(|branch| branch.from)
    }

    /// How the log stands to a checkpoint of one of the sizes; nothing where the log is damaged there.
    #[must_use]
    pub fn fit(&self, checkpoint: &Checkpoint) -> Option<Fit> {
        let found = fit(checkpoint, self.events, &self.counted(checkpoint), |_| self.head(checkpoint.size));
        let found = found.settled(checkpoint, &self.settled);
        match found {
            Fit::Forked if self.head(checkpoint.size).is_none() => None,
            Fit::Holds if self.root(checkpoint.size).is_some_and(|root| root != checkpoint.root) => Some(Fit::Forked),
            other => Some(other),
        }
    }

    /// The events behind the first `size` that need an anchor.
    fn behind(&self, size: u64) -> Option<(u64, u64)> {
        if size == 0 {
            // Nothing outside covers anything: what records checkpoints is as unknown there as the rest.
            return self.events.checked_sub(1).map(|last| (0, last));
        }
        let first = self.needs.range(size..).map(|(_, seq)| *seq).find(|seq| *seq >= size)?;
        self.last_needed.map(|last| (first, last))
    }
}

/// Compares a log that was walked with what stands outside of it, and reports both.
pub fn compare_outside(report: &mut Report, marks: &LogMarks, outside: Vec<(String, Outside)>) {
    let mut anchored = Anchored::default();
    for (anchor, held) in outside {
        let (fit, checkpoint) = match &held {
            Outside::Absent(why) => {
                report.add(FindingCode::AnchorAbsent, None, format!("{anchor}: {why}"));
                ("absent", None)
            }
            Outside::Unusable(why) => {
                report.add(FindingCode::AnchorUnusable, None, format!("{anchor}: {why}"));
                ("unusable", None)
            }
            Outside::Holds(signed) if report.ledger_id.is_some_and(|id| id != signed.checkpoint().ledger_id) => {
                let what = format!("{anchor} holds a checkpoint of ledger {}", signed.checkpoint().ledger_id);
                report.add(FindingCode::AnchorUnusable, None, what);
                ("unusable", None)
            }
            Outside::Holds(signed) => {
                (compare_one(report, marks, &anchor, signed.checkpoint()), Some(signed.checkpoint()))
            }
        };
        if let (Some(checkpoint), "holds") = (checkpoint, fit) {
            anchored.events = anchored.events.max(checkpoint.size);
        }
        let (size, time) = (checkpoint.map(|found| found.size), checkpoint.map(|found| found.time));
        anchored.anchors.push(AnchorNote { anchor, fit, size, time });
    }
    anchored.unanchored = marks.behind(anchored.events);
    report.anchored = anchored;
}

fn compare_one(report: &mut Report, marks: &LogMarks, anchor: &str, checkpoint: &Checkpoint) -> &'static str {
    let seq = checkpoint.size - 1;
    match marks.fit(checkpoint) {
        None => "unknown",
        Some(Fit::Holds) => "holds",
        Some(Fit::Lost { first, last }) => {
            let what = format!(
                "{anchor} knows of {} events: events {first} to {last} were cut off, or an older copy was put back",
                checkpoint.size
            );
            report.add(FindingCode::AnchorLost, Some(first), what);
            "lost"
        }
        Some(Fit::Forked) => {
            let what = format!(
                "event {seq} is not the one that {anchor} knows: the log was rewritten, or went on twice from one state"
            );
            report.add(FindingCode::AnchorForked, Some(seq), what);
            "forked"
        }
        Some(Fit::OtherBranch) => {
            let what = format!(
                "{anchor} knows of branch {} of this ledger's history: a copy from before it was put back",
                checkpoint.branch
            );
            report.add(FindingCode::AnchorOtherBranch, Some(seq), what);
            "other_branch"
        }
        Some(Fit::Superseded { since }) => {
            let what = format!(
                "{anchor} knows of {} events of a branch that was given up on purpose; the present one began at event {since}",
                checkpoint.size
            );
            report.add(FindingCode::AnchorSuperseded, Some(since), what);
            "superseded"
        }
    }
}
