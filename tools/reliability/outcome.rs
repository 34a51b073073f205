//! What a part of the lab found, kept as JSON until RELIABILITY.md is written from the last result of each part.

use std::fmt::Write as _;
use std::path::Path;

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
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out
    }
}

impl Outcome {
    /// Keeps it as the last result of the part `name`.
    pub fn keep(&self, dir: &Path, name: &str) -> Result<(), Fault> {
        std::fs::create_dir_all(dir)?;
        Ok(std::fs::write(dir.join(format!("{name}.json")), serde_json::to_vec_pretty(self)?)?)
    }

    /// The last result of the part `name`, if it was ever run here.
    pub fn kept(dir: &Path, name: &str) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).ok()?).ok()
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

    /// Its part of RELIABILITY.md.
    pub fn markdown(&self) -> String {
        let (count, of) = &self.tried;
        let mut out = format!("\n## {}\n\n{}\n\n", self.title, self.what);
        let _ = writeln!(
            out,
            "`{}`: **{count} {of}**, {} failed, {:.0} s.",
            self.command,
            self.failures.len(),
            self.seconds
        );
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
