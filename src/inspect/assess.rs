//! The assessment of a log: the walk, the anchors, and the verdict that both lead to.

use crate::log::Frame;
use crate::store::Medium;

use super::anchor::{Anchor, Comparison, Coverage};
use super::walk::{Course, Site, Walked, walk};
use super::{Finding, FindingCode, Report, Verdict};

/// A log, assessed.
#[derive(Debug)]
pub struct Assessment {
    /// What the walk found, and what the anchors say against it.
    pub walked: Walked,
    /// How far anchors vouch for it.
    pub coverage: Coverage,
}

impl Assessment {
    /// The findings.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.walked.report
    }

    /// Adds what was found otherwise.
    pub fn add(&mut self, finding: Finding) {
        self.walked.report.push(finding);
    }

    /// Puts the findings in the order of the log, so that the same evidence reads the same.
    pub fn sort(&mut self) {
        self.walked.report.findings.sort_by_key(|finding| (finding.seq, finding.offset));
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.walked.report, &self.coverage)
    }
}

/// What a key told of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// A key opened it.
    pub opened: bool,
    /// It records a checkpoint or the first use of an anchor, as its body says.
    pub records_checkpoint: bool,
    /// Number of the branch that it begins.
    pub branch: Option<u32>,
}

/// Walks a log and compares it with anchors. `live` says that somebody may be writing it: an end that is no
/// whole batch is ordinary then, and after a clean close it is not.
pub fn assess(
    medium: &dyn Medium,
    course: &Course<'_>,
    anchors: &[Anchor],
    live: bool,
    visit: &mut dyn FnMut(&Frame<'_>, Site<'_>),
) -> Assessment {
    assess_opened(medium, course, anchors, live, &mut |frame, site| {
        visit(frame, site);
        Seen::default()
    })
}

/// As [`assess`], by somebody whose keys open events.
pub fn assess_opened(
    medium: &dyn Medium,
    course: &Course<'_>,
    anchors: &[Anchor],
    live: bool,
    visit: &mut dyn FnMut(&Frame<'_>, Site<'_>) -> Seen,
) -> Assessment {
    let mut comparison = Comparison::new(anchors, course.piece);
    let mut walked = walk(medium, course, &mut |frame, site| {
        let seen = visit(frame, site);
        comparison.visit(frame, seen);
    });
    if !live {
        unclean_tail(&mut walked);
    }
    let coverage = comparison.finish(&mut walked.report);
    Assessment { walked, coverage }
}

/// A ledger that was closed cleanly ends with its last frame: bytes behind it were put there afterwards.
fn unclean_tail(walked: &mut Walked) {
    let Some(head) = walked.head.filter(|head| head.witness_clean) else { return };
    let torn = walked.report.findings.iter().find(|finding| finding.code == FindingCode::TornTail).cloned();
    if let Some(torn) = torn
        && walked.report.head.is_some_and(|last| last.seq == head.seq)
    {
        let what = format!("the log was closed cleanly at event {}, but {}", head.seq, torn.what);
        walked.report.push(Finding { code: FindingCode::TailAltered, what, ..torn });
    }
}
