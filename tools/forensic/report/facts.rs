//! The facts of a report: what the JSON holds, and all that the page shows.

use palyra_ledger::inspect::Finding;
use palyra_ledger::inspect::what::What;
use palyra_ledger::{Hash, LedgerId};
use serde::Serialize;

use super::bins::{CLASSES, Counts};
use super::tally::Span;
use super::words;

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
    /// The first of a list.
    pub fn new(mut rows: Vec<T>, max: usize) -> Self {
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
    /// What it was checked with: `none`, `public_key` or `keys`.
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
    /// Events before the first that was read, where a single segment of several was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<Range>,
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
    /// A row of a span.
    pub fn new(name: String, span: &Span) -> Self {
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
