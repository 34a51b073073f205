//! The facts of a report: what the JSON holds, and all that the page shows.

use palyra_ledger::crypto::FileDigest;
use palyra_ledger::inspect::what::What;
use palyra_ledger::inspect::{Anchor, Assessment, Bracket, FileFacts, Finding, Verdict};
use palyra_ledger::{Hash, LedgerId, Timestamp};
use serde::Serialize;

use super::bins::{CLASSES, Counts};
use super::tally::{Span, Tally};
use super::words;
use crate::rows;

/// Rows of a table at most; what is left out is counted.
pub const ROWS_MAX: usize = 200;
/// Findings are what a report is for: more of them.
pub const FINDINGS_MAX: usize = 500;

/// A list of which only so many are kept.
#[derive(Debug, Serialize)]
pub struct Capped<T> {
    /// How many there are.
    pub total: u64,
    /// Those that are kept.
    pub rows: Vec<T>,
}

impl<T> Capped<T> {
    fn new(mut rows: Vec<T>, max: usize) -> Self {
        let total = rows.len() as u64;
        rows.truncate(max);
        Self { total, rows }
    }

    /// How many were left out.
    pub fn left_out(&self) -> u64 {
        self.total.saturating_sub(self.rows.len() as u64)
    }
}

/// Events from one to another, both among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first.
    pub from: u64,
    /// The last.
    pub through: u64,
}

/// The verdict, and what it means.
#[derive(Debug, Serialize)]
pub struct VerdictFacts {
    /// The fixed word, with its ranges or reason.
    pub word: String,
    /// The exit code that belongs to it.
    pub exit_code: u8,
    /// How it is to be taken.
    pub grade: words::Grade,
    /// In plain words.
    pub means: &'static str,
    /// What to do now.
    pub next: &'static str,
    /// What it was checked with: none, public_key, keys.
    pub level: &'static str,
    /// What that level can say and what it cannot.
    pub level_means: &'static str,
}

/// What was examined.
#[derive(Debug, Serialize)]
pub struct EvidenceFacts {
    /// What it is.
    pub what: What,
    /// Bytes of all files.
    pub bytes: u64,
    /// SHA-256 over the lines that `sha256sum` prints for the files, sorted by path.
    pub sha256_of_list: Option<Hash>,
    /// The files.
    pub files: Capped<FileRow>,
    /// Files that could not be read, and why.
    pub unreadable: Capped<Unreadable>,
}

/// A file.
#[derive(Debug, Serialize)]
pub struct FileRow {
    /// Path below the evidence's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest.
    pub blake3: Option<Hash>,
    /// SHA-256 digest.
    pub sha256: Option<Hash>,
}

/// A file that could not be read.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// Path below the evidence's root.
    pub path: String,
    /// Why.
    pub why: String,
}

/// One end of the log.
#[derive(Debug, Serialize)]
pub struct End {
    /// Number of the event.
    pub seq: u64,
    /// Its time.
    pub time: Option<String>,
    /// Its hash.
    pub hash: Option<Hash>,
}

/// The log as a whole.
#[derive(Debug, Serialize)]
pub struct LogFacts {
    /// The ledger.
    pub ledger_id: Option<LedgerId>,
    /// Whole events in place.
    pub events: u64,
    /// The first.
    pub first: Option<End>,
    /// The last.
    pub last: Option<End>,
    /// Events that are there, as ranges.
    pub present: Capped<Range>,
    /// Events below this are vouched for.
    pub anchored_events: u64,
    /// Events that no anchor vouches for.
    pub unanchored: Option<Range>,
    /// The anchors that were given.
    pub anchors: Vec<AnchorRow>,
    /// Events that record a checkpoint.
    pub checkpoints: Capped<u64>,
    /// Segments.
    pub segments: Capped<Row>,
    /// Key epochs.
    pub epochs: Capped<Row>,
}

/// An anchor.
#[derive(Debug, Serialize)]
pub struct AnchorRow {
    /// File name.
    pub source: String,
    /// The ledger it belongs to.
    pub ledger_id: LedgerId,
    /// Events it vouches for.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// When it was made.
    pub time: String,
}

/// How often something is in the log, from when to when.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What: a kind, an actor, a file, an epoch.
    pub name: String,
    /// The domain, of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Bytes of frames, of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Events.
    pub events: u64,
    /// Number of the first.
    pub first_seq: u64,
    /// Number of the last.
    pub last_seq: u64,
    /// Time of the first.
    pub first_time: String,
    /// Time of the last.
    pub last_time: String,
}

impl Row {
    fn new(name: String, span: &Span) -> Self {
        Self {
            name,
            class: None,
            bytes: None,
            events: span.events,
            first_seq: span.first_seq,
            last_seq: span.last_seq,
            first_time: span.first_time.to_string(),
            last_time: span.last_time.to_string(),
        }
    }
}

/// Activity over time.
#[derive(Debug, Serialize)]
pub struct Activity {
    /// Width of a bin in seconds.
    pub bin_seconds: u64,
    /// Bins that are not empty.
    pub bins: Vec<Bin>,
    /// The longest times without an event.
    pub silences: Vec<SilenceRow>,
}

/// One bin.
#[derive(Debug, Serialize)]
pub struct Bin {
    /// Where it begins, in seconds since 1970.
    pub at: u64,
    /// The same as a time.
    pub from: String,
    /// Events of every domain, in the order of [`CLASSES`].
    pub counts: Counts,
}

impl Bin {
    /// Events of all domains.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A time without an event.
#[derive(Debug, Serialize)]
pub struct SilenceRow {
    /// The event before.
    pub after: u64,
    /// Its time.
    pub from: String,
    /// The time of the next.
    pub to: String,
    /// How long, in seconds.
    pub seconds: u64,
}

/// An event worth a look.
#[derive(Debug, Serialize)]
pub struct NotableRow {
    /// Number.
    pub seq: u64,
    /// Time.
    pub time: String,
    /// Kind.
    pub kind: String,
    /// What happened, where a key opened it.
    pub says: Option<String>,
    /// Why, in the actor's words.
    pub reason: Option<String>,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Facts {
    /// Version of this shape.
    pub report_version: u32,
    /// The tool and its version.
    pub tool: &'static str,
    /// The verdict.
    pub verdict: VerdictFacts,
    /// What was examined.
    pub evidence: EvidenceFacts,
    /// The log.
    pub log: LogFacts,
    /// What is wrong, and what is to be known.
    pub findings: Capped<Finding>,
    /// Names of the domains, in the order of the counts.
    pub classes: [&'static str; CLASSES.len()],
    /// Activity over time.
    pub activity: Activity,
    /// Activity by kind, the most frequent first.
    pub kinds: Capped<Row>,
    /// Activity by actor, the most frequent first; nothing without keys.
    pub actors: Option<Capped<Row>>,
    /// Events that the keys did not open.
    pub sealed_events: u64,
    /// Events worth a look: the last ones.
    pub notable: Capped<NotableRow>,
}

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
    let silence = |silence: &super::tally::Silence| SilenceRow {
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

fn notable_row(event: super::tally::Notable) -> NotableRow {
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
