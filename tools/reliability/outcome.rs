//! What a part of the lab found, kept as JSON until RELIABILITY.md is written from the last result of each part.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use palyra_ledger::{Clock as _, SystemClock};
use serde::{Deserialize, Serialize};

use crate::Fault;

/// What one run of one part found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The heading of the part.
    pub title: String,
    /// What was done, and against what it was held: one paragraph.
    pub what: String,
    /// The command that does it again.
    pub command: String,
    /// How many cases, and of what ("kills", "states of the disk").
    pub tried: (u64, String),
    /// Seconds that it took.
    pub seconds: f64,
    /// Each case that went wrong, with what reproduces it.
    pub failures: Vec<String>,
    /// Figures.
    pub tables: Vec<Table>,
    /// What was left out, and why.
    pub not_tried: Vec<String>,
}

/// When, of what and how a part was run: printed under its result.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Stamp {
    /// When it began, in UTC.
    pub begun: String,
    /// How the lab was built.
    pub build: String,
    /// Which version and commit it was run from.
    pub version: String,
    /// Where its random choices began.
    pub seed: Option<u64>,
}

impl Default for Stamp {
    fn default() -> Self {
        let unknown = || "unknown".to_owned();
        Self { begun: unknown(), build: unknown(), version: unknown(), seed: None }
    }
}

impl Stamp {
    /// Of a run that begins now.
    pub fn now(seed: u64) -> Self {
        let build = if cfg!(debug_assertions) { "development build" } else { "release build" };
        Self {
            begun: SystemClock.now().to_string(),
            build: build.to_owned(),
            version: format!("{}, {}", env!("CARGO_PKG_VERSION"), commit()),
            seed: Some(seed),
        }
    }

    fn markdown(&self) -> String {
        let seed = self.seed.map_or_else(|| "unknown".to_owned(), |seed| seed.to_string());
        format!("Run on {}: {}, version {}, seed {seed}.\n", self.begun, self.build, self.version)
    }
}

/// What this folder is at, when it is run.
fn commit() -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short", "HEAD"]) else { return "commit unknown".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changed) if changed.is_empty() => format!("commit {head}"),
        _ => format!("commit {head} and what is not committed"),
    }
}

/// A result as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// When, of what and how.
    #[serde(default)]
    pub stamp: Stamp,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A table of figures: a heading, the names of the columns, the rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// One cell for each column.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(title: &str, header: &[&str]) -> Self {
        let header = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { title: title.to_owned(), header, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<C: ToString>(&mut self, cells: &[C]) {
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    fn markdown(&self) -> String {
        let mut out = format!("\n{}\n\n| {} |\n|---|{}\n", self.title, self.header.join(" | "), {
            "---:|".repeat(self.header.len().saturating_sub(1))
        });
        for row in &self.rows {
            // What was found is said in words of its own, and must not end a cell.
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        out
    }
}

impl Kept {
    /// Keeps it as the last result of the part `name`.
    pub fn keep(&self, dir: &Path, name: &str) -> Result<(), Fault> {
        std::fs::create_dir_all(dir)?;
        Ok(std::fs::write(path(dir, name), serde_json::to_vec_pretty(self)?)?)
    }

    /// The last result of the part `name`, if it was ever run here to its end.
    pub fn last(dir: &Path, name: &str) -> Result<Option<Self>, Fault> {
        match std::fs::read(path(dir, name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|fault| format!("{name}.json: {fault}"))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{name}.json: {error}").into()),
        }
    }

    /// Removes the last result of the part `name`: a run that does not finish leaves none.
    pub fn forget(dir: &Path, name: &str) -> Result<(), Fault> {
        match std::fs::remove_file(path(dir, name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{name}.json: {error}").into()),
            _ => Ok(()),
        }
    }

    /// Its part of RELIABILITY.md.
    pub fn markdown(&self) -> String {
        self.outcome.markdown(&self.stamp)
    }
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

impl Outcome {
    /// Of a part that did not come to its end.
    pub fn unfinished(name: &str, command: String, fault: &Fault, seconds: f64) -> Self {
        Self {
            title: name.to_owned(),
            what: "It did not come to its end.".to_owned(),
            command,
            tried: (0, "cases that are known".to_owned()),
            seconds,
            failures: vec![format!("it stopped: {fault}")],
            tables: Vec::new(),
            not_tried: Vec::new(),
        }
    }

    /// One line for a terminal.
    pub fn line(&self) -> String {
        let (count, of) = &self.tried;
        let verdict = match self.failures.len() {
            0 => "none failed".to_owned(),
            failed => format!("{failed} FAILED"),
        };
        format!("{}: {count} {of} in {:.0} s, {verdict}", self.title, self.seconds)
    }

    fn markdown(&self, stamp: &Stamp) -> String {
        let (count, of) = &self.tried;
        let mut out = format!("\n## {}\n\n{}\n\n", self.title, self.what);
        let _ = writeln!(
            out,
            "`{}`: **{count} {of}**, {} failed, {:.0} s.",
            self.command,
            self.failures.len(),
            self.seconds
        );
        let _ = write!(out, "\n{}", stamp.markdown());
        for table in &self.tables {
            out.push_str(&table.markdown());
        }
        for (title, lines) in [("What failed:", &self.failures), ("Not tried:", &self.not_tried)] {
            if !lines.is_empty() {
                let _ = writeln!(out, "\n{title}\n");
                for line in lines {
                    let _ = writeln!(out, "- {line}");
                }
            }
        }
        out
    }
}
