//! From what was counted and found to the facts of a report.

use palyra_ledger::crypto::FileDigest;
use palyra_ledger::inspect::what::What;
use palyra_ledger::inspect::{Anchor, Assessment, Bracket, FileFacts, Verdict};
use palyra_ledger::{Hash, Timestamp};

use super::bins::{CLASSES, Counts};
use super::facts::{
    Activity, AnchorRow, Bin, Capped, End, EvidenceFacts, FINDINGS_MAX, Facts, FileRow, LogFacts, NotableRow, ROWS_MAX,
    Range, Row, SilenceRow, Unreadable, VerdictFacts,
};
use super::tally::{Notable, Silence, Span, Tally};
use super::words;
use crate::rows;

/// What facts are made of.
pub struct Sources<'a> {
    /// What the evidence is.
    pub what: What,
    /// The stock taken of it.
    pub bracket: &'a Bracket,
    /// The walk.
    pub assessment: &'a Assessment,
    /// The anchors given.
    pub anchors: &'a [Anchor],
    /// What it was checked with.
    pub level: &'static str,
}

impl Facts {
    /// Puts the facts together.
    pub fn new(sources: &Sources<'_>, mut tally: Tally) -> Self {
        let verdict = sources.assessment.verdict();
        let report = sources.assessment.report();
        let notable_total = tally.notable_total;
        let notable: Vec<NotableRow> = tally.notable.drain(..).map(notable_row).collect();
        let actors = (sources.level == "keys").then(|| actors(&tally));
        Self {
            report_version: 1,
            tool: concat!("palyra-forensic ", env!("CARGO_PKG_VERSION")),
            verdict: verdict_facts(&verdict, sources.level),
            evidence: evidence(sources),
            findings: Capped::new(report.findings.clone(), FINDINGS_MAX),
            classes: CLASSES,
            activity: activity(&mut tally),
            kinds: Capped::new(kinds(&tally), ROWS_MAX),
            actors,
            sealed_events: if sources.level == "keys" { tally.sealed } else { 0 },
            notable: Capped { total: notable_total, rows: notable },
            log: log(sources, tally),
        }
    }
}

fn verdict_facts(verdict: &Verdict, level: &'static str) -> VerdictFacts {
    let words = words::of(verdict);
    VerdictFacts {
        word: verdict.to_string(),
        exit_code: verdict.exit_code(),
        grade: words.grade,
        means: words.means,
        next: words.next,
        level,
        level_means: words::level(level),
    }
}

fn evidence(sources: &Sources<'_>) -> EvidenceFacts {
    let bracket = sources.bracket;
    let row = |file: &FileFacts| FileRow {
        path: file.path.clone(),
        bytes: file.bytes,
        blake3: file.blake3,
        sha256: file.sha256,
    };
    let unreadable = bracket.unreadable.iter().map(|(path, why)| Unreadable { path: path.clone(), why: why.clone() });
    EvidenceFacts {
        what: sources.what,
        bytes: bracket.files.iter().map(|file| file.bytes).sum(),
        sha256_of_list: digest_of_list(&bracket.files),
        files: Capped::new(bracket.files.iter().map(row).collect(), ROWS_MAX),
        unreadable: Capped::new(unreadable.collect(), ROWS_MAX),
    }
}

/// One digest that stands for all files; nothing where a digest is missing.
fn digest_of_list(files: &[FileFacts]) -> Option<Hash> {
    let mut digest = FileDigest::sha256();
    for file in files {
        digest.update(format!("{}  {}\n", file.sha256?, file.path).as_bytes());
    }
    Some(digest.finish())
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|one, other| other.events.cmp(&one.events).then_with(|| one.name.cmp(&other.name)));
    rows
}

fn kinds(tally: &Tally) -> Vec<Row> {
    let row = |(kind, span): (&u16, &Option<Span>)| {
        let row = Row::new(rows::kind_name(*kind).into_owned(), span.as_ref()?);
        Some(Row { class: Some(rows::class(*kind)), ..row })
    };
    sorted(tally.kinds.iter().filter_map(row).collect())
}

fn actors(tally: &Tally) -> Capped<Row> {
    let row = |(name, span): (&String, &Option<Span>)| Some(Row::new(name.clone(), span.as_ref()?));
    Capped::new(sorted(tally.actors.iter().filter_map(row).collect()), ROWS_MAX)
}

fn activity(tally: &mut Tally) -> Activity {
    let (bin_seconds, bins) = tally.bins.finish();
    let bin = |(at, counts): (u64, Counts)| {
        let from = Timestamp::from_millis(at.saturating_mul(1000)).to_string();
        Bin { at, from, counts }
    };
    let silence = |silence: &Silence| SilenceRow {
        after: silence.after,
        from: silence.from.to_string(),
        to: silence.to.to_string(),
        seconds: (silence.to.as_millis() - silence.from.as_millis()) / 1000,
    };
    Activity {
        bin_seconds,
        bins: bins.into_iter().map(bin).collect(),
        silences: tally.silences.iter().map(silence).filter(|silence| silence.seconds > 0).collect(),
    }
}

fn notable_row(event: Notable) -> NotableRow {
    NotableRow {
        seq: event.seq,
        time: event.time.to_string(),
        kind: rows::kind_name(event.kind).into_owned(),
        says: event.says,
        reason: event.reason,
    }
}

fn log(sources: &Sources<'_>, tally: Tally) -> LogFacts {
    let walked = &sources.assessment.walked;
    let coverage = &sources.assessment.coverage;
    let report = sources.assessment.report();
    let segments: Vec<Row> = tally
        .segments
        .iter()
        .filter_map(|segment| {
            let row = Row::new(segment.file.clone(), segment.span.as_ref()?);
            Some(Row { bytes: Some(segment.bytes), ..row })
        })
        .collect();
    let epoch = |(epoch, span): (&u32, &Option<Span>)| Some(Row::new(epoch.to_string(), span.as_ref()?));
    let present = tally.present.iter().map(|(from, through)| Range { from: *from, through: *through });
    LogFacts {
        ledger_id: report.ledger_id,
        events: report.events,
        first: walked.first.map(|(seq, time)| End { seq, time: Some(time.to_string()), hash: None }),
        last: report.head.map(|head| End {
            seq: head.seq,
            time: walked.last_time.map(|time| time.to_string()),
            hash: Some(head.hash),
        }),
        present: Capped::new(present.collect(), ROWS_MAX),
        anchored_events: coverage.anchored_events,
        unanchored: coverage.unanchored.map(|(from, through)| Range { from, through }),
        unread: coverage.unread.map(|(from, through)| Range { from, through }),
        anchors: sources.anchors.iter().map(anchor_row).collect(),
        checkpoints: Capped::new(tally.checkpoints, ROWS_MAX),
        segments: Capped::new(segments, ROWS_MAX),
        epochs: Capped::new(tally.epochs.iter().filter_map(epoch).collect(), ROWS_MAX),
    }
}

fn anchor_row(anchor: &Anchor) -> AnchorRow {
    let checkpoint = anchor.signed.checkpoint();
    AnchorRow {
        source: anchor.source.clone(),
        ledger_id: checkpoint.ledger_id,
        size: checkpoint.size,
        root: checkpoint.root,
        time: checkpoint.time.to_string(),
    }
}
