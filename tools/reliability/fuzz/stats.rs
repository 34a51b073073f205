//! What `libFuzzer` says at its end, and the sums over all runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Fault;

/// What one run of one target said of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Inputs that were executed.
    pub executions: u64,
    /// Edges of the program that any input reached.
    pub edges: u64,
    /// Edges that the program has, its dependencies among them.
    pub all_edges: u64,
    /// Features: edges with how often, and compared values.
    pub features: u64,
    /// Inputs in the corpus.
    pub inputs: u64,
}

impl Told {
    /// Reads the output of a run: the last line that states coverage, and the final statistics.
    ///
    /// `#4096 DONE cov: 812 ft: 2011 corp: 96/11Kb ...` and `stat::number_of_executed_units: 4096`.
    pub fn parse(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
                told.executions = number.trim().parse().unwrap_or(0);
            }
            // A run that ends with a finding prints no statistics: what it counted last stands in for them.
            if let Some(number) = line.strip_prefix('#').and_then(|rest| rest.split([' ', '\t']).next()) {
                told.executions = told.executions.max(number.parse().unwrap_or(0));
            }
            if line.starts_with("INFO: Loaded ") && line.contains("inline 8-bit counters") {
                told.all_edges = line.split_once('(').map_or(0, |(_, rest)| first_number(rest));
            }
            let after = |word: &str| line.split_once(word).map(|(_, rest)| first_number(rest));
            if let (Some(edges), Some(features)) = (after(" cov: "), after(" ft: ")) {
                (told.edges, told.features) = (edges, features);
                told.inputs = after(" corp: ").unwrap_or(told.inputs);
            }
        }
        told
    }
}

/// Reads what is known, so that a change of the reader, or of this, does not go by in silence.
///
/// # Errors
/// Where it reads something else.
pub fn check() -> Result<(), Fault> {
    let text = "INFO: Loaded 1 modules   (85061 inline 8-bit counters): 85061 [0x1, 0x2),\n\
                #2\tINITED cov: 600 ft: 601 corp: 1/1b exec/s: 0 rss: 60Mb\n\
                #4096\tDONE   cov: 812 ft: 2011 corp: 96/11Kb lim: 43 exec/s: 4096 rss: 70Mb\n\
                stat::number_of_executed_units: 4100\n";
    let wanted = Told { executions: 4100, edges: 812, all_edges: 85_061, features: 2011, inputs: 96 };
    let told = Told::parse(text);
    if told == wanted { Ok(()) } else { Err(format!("statistics are read as {told:?}").into()) }
}

fn first_number(text: &str) -> u64 {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Sums of one target.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Inputs that were executed.
    pub executions: u64,
    /// Those of them with a sanitizer.
    pub sanitized: u64,
    /// Seconds of one processor.
    pub seconds: f64,
    /// Runs.
    pub runs: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.executions += other.executions;
        self.sanitized += other.sanitized;
        self.seconds += other.seconds;
        self.runs += other.runs;
    }
}

/// Sums over all runs, by target.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sums(BTreeMap<String, Sum>);

impl Sums {
    /// Those of earlier runs.
    pub fn read(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps them.
    pub fn write(&self, path: &Path) -> Result<(), Fault> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    /// Adds a run.
    pub fn add(&mut self, target: &str, told: &Told, seconds: f64, sanitized: bool) {
        let executions = told.executions;
        let one = Sum { executions, sanitized: if sanitized { executions } else { 0 }, seconds, runs: 1 };
        self.0.entry(target.to_owned()).or_default().add(&one);
    }

    /// Those of a target.
    pub fn of(&self, target: &str) -> Sum {
        self.0.get(target).copied().unwrap_or_default()
    }

    /// Those of all.
    pub fn total(&self) -> Sum {
        let mut total = Sum::default();
        self.0.values().for_each(|one| total.add(one));
        total
    }
}
