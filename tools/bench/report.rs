//! What was measured: as text on a terminal, and as BENCHMARKS.md.

use std::fmt::Write;

/// One table, and what it shows about what was promised.
#[derive(Debug)]
pub struct Section {
    title: String,
    note: String,
    rows: Vec<Vec<String>>,
    verdicts: Vec<Verdict>,
}

#[derive(Debug, Clone)]
struct Verdict {
    what: String,
    wanted: String,
    found: String,
    reached: bool,
}

impl Section {
    /// An empty table.
    pub fn new(title: impl Into<String>, note: impl Into<String>, header: &[&str]) -> Self {
        let header = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { title: title.into(), note: note.into(), rows: vec![header], verdicts: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// Something that must not be less.
    pub fn at_least(&mut self, what: impl Into<String>, wanted: f64, found: f64) {
        let (wanted_text, found_text) = (format!("at least {}", figure(wanted)), figure(found));
        self.verdict(what.into(), wanted_text, found_text, found >= wanted);
    }

    /// Something that must not be more.
    pub fn at_most(&mut self, what: impl Into<String>, wanted: f64, found: f64) {
        let (wanted_text, found_text) = (format!("at most {}", figure(wanted)), figure(found));
        self.verdict(what.into(), wanted_text, found_text, found <= wanted);
    }

    fn verdict(&mut self, what: String, wanted: String, found: String, reached: bool) {
        self.verdicts.push(Verdict { what, wanted, found, reached });
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut out = format!("\n{}\n{}\n", self.title, self.note);
        for row in &self.rows {
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if at == 0 { write!(out, "  {cell:<width$}") } else { write!(out, "  {cell:>width$}") };
            }
            out.push('\n');
        }
        out
    }

    fn markdown(&self) -> String {
        let mut out = format!("\n## {}\n\n{}\n\n", self.title, self.note);
        for (at, row) in self.rows.iter().enumerate() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
            if at == 0 {
                let _ = writeln!(out, "|---|{}", "---:|".repeat(row.len().saturating_sub(1)));
            }
        }
        out
    }
}

/// Every table of one run.
#[derive(Debug)]
pub struct Report {
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
}

impl Report {
    /// About this machine.
    pub const fn new(facts: Vec<(String, String)>) -> Self {
        Self { facts, sections: Vec::new() }
    }

    /// Adds a table.
    pub fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.sections.iter().flat_map(|section| &section.verdicts)
    }

    /// What was promised beside what was found, for a terminal.
    pub fn verdicts_text(&self) -> String {
        let mut out = String::from("\nPromised and found\n");
        for verdict in self.verdicts() {
            let mark = if verdict.reached { "reached " } else { "NOT YET " };
            let _ = writeln!(out, "  {mark} {}: {}, wanted {}", verdict.what, verdict.found, verdict.wanted);
        }
        out
    }

    /// BENCHMARKS.md.
    pub fn markdown(&self, command: &str, date: &str) -> String {
        let mut out = format!(
            "# Benchmarks\n\nWritten on {date} by `{command}`. Figures change from machine to machine and from hour to \
             hour; ratios change less. Competitors run in one program and take turns in short slices, in an order that \
             changes from round to round. A ratio is the median of the ratios within each round, and its range is the \
             least and the greatest of them.\n\n| machine | |\n|---|---|\n"
        );
        for (what, value) in &self.facts {
            let _ = writeln!(out, "| {what} | {value} |");
        }
        out.push_str("\n## Promised and found\n\n| figure | wanted | found | |\n|---|---|---|---|\n");
        for Verdict { what, wanted, found, reached } in self.verdicts() {
            let _ =
                writeln!(out, "| {what} | {wanted} | {found} | {} |", if *reached { "reached" } else { "**not yet**" });
        }
        for section in &self.sections {
            out.push_str(&section.markdown());
        }
        out
    }
}

/// A figure with as many digits as mean something.
pub fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        1_000.0.. => return grouped(value),
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A ratio.
pub fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
