//! The verdict: one word for the whole, of a fixed list, and the exit code that belongs to it.

use std::fmt;

use serde::Serialize;

use super::anchor::Coverage;
use super::{Finding, FindingCode, Report};

/// Ranges that are named one by one; a destroyed log has thousands.
const RANGES_MAX: usize = 16;

/// Why nothing can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No part of a log is there.
    NoLog,
    /// Files could not be read.
    Unreadable,
    /// A key is needed, and none opened it.
    NeedsKey,
    /// The files were made by a version that is not known to this program.
    UnknownVersion,
}

impl Reason {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoLog => "no_log",
            Self::Unreadable => "unreadable",
            Self::NeedsKey => "needs_key",
            Self::UnknownVersion => "unknown_version",
        }
    }
}

/// The verdict on a log. The words are fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Whole, and an anchor kept elsewhere covers everything but checkpoint records at its end.
    IntactAnchored,
    /// Whole, as far as the files themselves can tell.
    IntactUnanchored,
    /// The end is missing: the log's own files say that it was longer.
    Truncated,
    /// Damaged or altered, in these ranges of events.
    Damaged(Vec<(u64, u64)>),
    /// Two histories: an anchor or another copy holds another event in the same place.
    Forked,
    /// Parts belong to another ledger.
    Foreign,
    /// An older state was put back: whole in itself, but an anchor kept elsewhere knows later events.
    RolledBack,
    /// Nothing can be said.
    Unverifiable(Reason),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IntactAnchored => f.write_str("INTACT-ANCHORED"),
            Self::IntactUnanchored => f.write_str("INTACT-UNANCHORED"),
            Self::Truncated => f.write_str("TRUNCATED"),
            Self::Damaged(ranges) => {
                f.write_str(if ranges.is_empty() { "DAMAGED(files" } else { "DAMAGED(" })?;
                for (index, (from, to)) in ranges.iter().take(RANGES_MAX).enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    if from == to { write!(f, "{from}")? } else { write!(f, "{from}-{to}")? }
                }
                f.write_str(if ranges.len() > RANGES_MAX { ",..)" } else { ")" })
            }
            Self::Forked => f.write_str("FORKED"),
            Self::Foreign => f.write_str("FOREIGN"),
            Self::RolledBack => f.write_str("ROLLED-BACK"),
            Self::Unverifiable(reason) => write!(f, "UNVERIFIABLE({})", reason.name()),
        }
    }
}

impl Verdict {
    /// The exit code: 0 for [`Verdict::IntactAnchored`] alone.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::IntactAnchored => 0,
            Self::IntactUnanchored => 17,
            Self::Truncated | Self::RolledBack => 16,
            Self::Damaged(_) | Self::Forked | Self::Foreign | Self::Unverifiable(Reason::UnknownVersion) => 15,
            Self::Unverifiable(Reason::NeedsKey) => 4,
            Self::Unverifiable(Reason::NoLog) => 10,
            Self::Unverifiable(Reason::Unreadable) => 18,
        }
    }

    /// The verdict that findings and anchors lead to. The gravest word wins: parts of another ledger, then
    /// two histories, then damage, then a lost end.
    #[must_use]
    pub fn of(report: &Report, coverage: &Coverage) -> Self {
        let faults: Vec<&Finding> = report.findings.iter().filter(|finding| !finding.code.is_note()).collect();
        // Whether the end was cut off cannot be told without a head file, or behind an end that is no whole batch.
        let is_torn = report.findings.iter().any(|finding| finding.code == FindingCode::TornTail);
        let any = |wanted: &[FindingCode]| faults.iter().any(|finding| wanted.contains(&finding.code));
        if any(&[FindingCode::ForeignFrame, FindingCode::AnchorForeign]) {
            return Self::Foreign;
        }
        if any(&[FindingCode::AnchorForked, FindingCode::Conflict]) {
            return Self::Forked;
        }
        if report.events == 0 && any(&[FindingCode::UnknownVersion]) {
            return Self::Unverifiable(Reason::UnknownVersion);
        }
        if report.events == 0 {
            let unreadable = any(&[FindingCode::Unreadable]);
            let nothing = faults.iter().all(|finding| finding.code == FindingCode::SegmentMissing);
            if unreadable || nothing {
                return Self::Unverifiable(if unreadable { Reason::Unreadable } else { Reason::NoLog });
            }
        }
        let lost = [FindingCode::AnchorLost, FindingCode::AnchorOtherBranch];
        let mild =
            [&lost[..], &[FindingCode::Truncated, FindingCode::HeadMissing, FindingCode::UnknownVersion]].concat();
        // A file of the home that nobody let us read says nothing against the log; a segment has a number.
        let shut = |finding: &Finding| finding.code == FindingCode::Unreadable && finding.seq.is_none();
        if faults.iter().any(|finding| !mild.contains(&finding.code) && !shut(finding)) {
            return Self::Damaged(ranges(&faults, &report.unlisted.ranges));
        }
        if any(&[FindingCode::UnknownVersion]) {
            return Self::Unverifiable(Reason::UnknownVersion);
        }
        if any(&[FindingCode::Truncated]) {
            Self::Truncated
        } else if any(&lost) {
            Self::RolledBack
        } else if faults.iter().any(|finding| shut(finding)) {
            Self::Unverifiable(Reason::Unreadable)
        } else if coverage.covers_all && !any(&[FindingCode::HeadMissing]) && !is_torn {
            Self::IntactAnchored
        } else {
            Self::IntactUnanchored
        }
    }
}

/// The ranges of events that faults name, merged.
fn ranges(faults: &[&Finding], more: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut named: Vec<(u64, u64)> = faults
        .iter()
        .filter_map(|finding| finding.seq.map(|seq| (seq, finding.through.unwrap_or(seq).max(seq))))
        .chain(more.iter().copied())
        .collect();
    named.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from, to) in named {
        match merged.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: &[(FindingCode, Option<u64>)]) -> Report {
        let mut report = Report { ok: true, events: 9, ..Report::default() };
        for (code, seq) in findings {
            report.add(*code, *seq, String::new());
        }
        report
    }

    #[test]
    fn the_gravest_word_wins_and_only_anchored_is_clean() {
        use FindingCode::{
            AnchorForked, AnchorLost, ChainBroken, ForeignFrame, FrameDamaged, HeadMissing, TornTail, Truncated,
            UnknownVersion, Unreadable,
        };
        let none = Coverage::default();
        let all = Coverage { covers_all: true, ..Coverage::default() };
        let cases: [(&[(FindingCode, Option<u64>)], &Coverage, &str, u8); 15] = [
            (&[], &all, "INTACT-ANCHORED", 0),
            (&[], &none, "INTACT-UNANCHORED", 17),
            (&[(TornTail, Some(3))], &none, "INTACT-UNANCHORED", 17),
            (&[(TornTail, Some(3))], &all, "INTACT-UNANCHORED", 17),
            (&[(HeadMissing, None)], &all, "INTACT-UNANCHORED", 17),
            (&[(Unreadable, None)], &all, "UNVERIFIABLE(unreadable)", 18),
            (&[(Unreadable, Some(3))], &all, "DAMAGED(3)", 15),
            (&[(UnknownVersion, Some(3))], &all, "UNVERIFIABLE(unknown_version)", 15),
            (&[(UnknownVersion, Some(3)), (FrameDamaged, Some(2))], &all, "DAMAGED(2-3)", 15),
            (&[(Truncated, Some(3))], &all, "TRUNCATED", 16),
            (&[(AnchorLost, Some(3))], &all, "ROLLED-BACK", 16),
            (&[(AnchorLost, Some(3)), (Truncated, Some(3))], &none, "TRUNCATED", 16),
            (&[(FrameDamaged, Some(7)), (ChainBroken, Some(3)), (ChainBroken, Some(4))], &all, "DAMAGED(3-4,7)", 15),
            (&[(AnchorForked, Some(3)), (ChainBroken, Some(4))], &all, "FORKED", 15),
            (&[(ForeignFrame, Some(3)), (AnchorForked, Some(4))], &all, "FOREIGN", 15),
        ];
        for (findings, coverage, word, code) in cases {
            let verdict = Verdict::of(&report(findings), coverage);
            assert_eq!((verdict.to_string().as_str(), verdict.exit_code()), (word, code), "{findings:?}");
        }
    }
}
