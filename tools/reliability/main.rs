//! The reliability lab: tries the ledger as a machine, a disk and an attacker would, and counts.
//!
//! `tools/lab` builds everything and calls this. Each part runs until its share of `--budget` is used up, or to
//! `--count`; a part is random by a seed that it prints, and `--seed` runs it again.

// A command-line tool speaks on its standard output; counts become rates.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_precision_loss)]

mod child;
mod faults;
mod fuzz;
mod kill;
mod leaks;
mod load;
mod mutate;
mod outcome;
mod plant;
mod power;
mod provider;
mod served;
mod simulate;
mod supply;
mod tamper;
mod workload;

use std::fmt::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use palyra_ledger::{OsRandom, Random};

use crate::outcome::{Kept, Outcome, Stamp};

/// Whatever stopped a part.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Tries the ledger as a machine, a disk and an attacker would.
#[derive(Debug, Parser)]
#[command(name = "lab")]
pub struct Args {
    /// What to run.
    #[arg(value_enum, required = true)]
    parts: Vec<Part>,
    /// How long everything may take: `90s`, `10m`, `2h`.
    #[arg(long, value_parser = duration, default_value = "10m")]
    budget: Duration,
    /// Cases of each part, instead of the budget.
    #[arg(long)]
    count: Option<u64>,
    /// Where the random part of it begins.
    #[arg(long)]
    seed: Option<u64>,
    /// Where homes and results live.
    #[arg(long, default_value = "target/lab")]
    dir: PathBuf,
    /// Today's date, for RELIABILITY.md: `all` writes it, too, where this is given.
    #[arg(long, required_if_eq("parts", "report"))]
    date: Option<String>,
}

/// The parts of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Every part, each with its share of the budget.
    All,
    /// A child under mixed load is killed.
    Kill,
    /// The states that a power cut could leave of recorded system calls.
    Power,
    /// Every storage call fails in turn.
    Faults,
    /// Several writers, readers, refreshers and pairings, in a deterministic simulation.
    Simulate,
    /// Altered, cut, spliced and rolled back ledgers.
    Tamper,
    /// Canaries in every secret input, looked for in everything that is left behind.
    Leaks,
    /// Fuzz targets.
    Fuzz,
    /// The daemon under load, and overloaded.
    Load,
    /// What it is built of.
    Supply,
    /// Faults planted in the product: each is caught by the suite that should.
    Plant,
    /// Small changes of the product's own code: each is killed by a test, or survives.
    Mutate,
    /// RELIABILITY.md, from the last result of each part.
    Report,
}

/// What a part runs with.
#[derive(Debug, Clone)]
pub struct Run {
    /// How long it may take; a case that has begun is brought to its end.
    pub budget: Duration,
    /// How many cases, where that is asked for: then the budget does not count.
    pub count: Option<u64>,
    /// Where its random choices begin: they follow from it alone.
    pub seed: u64,
    /// An empty folder of its own.
    pub dir: PathBuf,
    /// The folder of `palyra-ledger`, `palyra-forensic` and this program.
    pub programs: PathBuf,
}

/// A part, what it is called, its share of the budget in hundredths, and how it is run.
type Entry = (Part, &'static str, u32, fn(&Run) -> Result<Outcome, Fault>);

/// In the order in which they run.
const PARTS: &[Entry] = &[
    (Part::Kill, "kill", 15, kill::run),
    (Part::Power, "power", 30, power::run),
    (Part::Faults, "faults", 10, faults::run),
    (Part::Simulate, "simulate", 15, simulate::run),
    (Part::Leaks, "leaks", 5, leaks::run),
    (Part::Load, "load", 15, load::run),
    (Part::Tamper, "tamper", 6, tamper::run),
    (Part::Fuzz, "fuzz", 10, fuzz::run),
    (Part::Plant, "plant", 12, plant::run),
    (Part::Mutate, "mutate", 15, mutate::run),
    (Part::Supply, "supply", 1, supply::run),
];

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|fault| format!("{fault}; write 90s, 10m or 2h"))?;
    Duration::try_from(parsed).map_err(|_| "a budget is not negative".to_owned())
}

fn run(args: &Args) -> Result<bool, Fault> {
    let results = args.dir.join("results");
    let programs = std::env::current_exe()?.parent().ok_or("this program is in no folder")?.to_owned();
    let mut done = Vec::new();
    let all = args.parts.contains(&Part::All);
    let wanted: Vec<_> = PARTS.iter().filter(|entry| all || args.parts.contains(&entry.0)).collect();
    let shares: u32 = wanted.iter().map(|entry| entry.2).sum::<u32>().max(1);
    for (_, name, share, part) in wanted {
        let dir = args.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        Kept::forget(&results, name)?;
        let seed = args.seed.map_or_else(seed, Ok)?;
        println!("{name}: seed {seed}");
        let run = Run {
            budget: args.budget * *share / shares,
            count: args.count,
            seed,
            dir: std::fs::canonicalize(&dir)?,
            programs: programs.clone(),
        };
        let kept = Kept { stamp: Stamp::now(seed), outcome: through(name, *part, &run) };
        let outcome = &kept.outcome;
        println!("{}", outcome.line());
        outcome.failures.iter().for_each(|failure| println!("  {failure}"));
        outcome.not_tried.iter().for_each(|what| println!("  not tried: {what}"));
        kept.keep(&results, name)?;
        done.push((*name, kept));
    }
    if done.len() > 1 {
        println!("\n{}", summary(&done));
    }
    let clean = done.iter().all(|(_, kept)| kept.outcome.failures.is_empty());
    match &args.date {
        Some(date) if all || args.parts.contains(&Part::Report) => {
            report(&results, Path::new("RELIABILITY.md"), date)?;
        }
        _ => {}
    }
    Ok(clean)
}

/// Runs a part; one that stops before its end or panics has failed, and the others run all the same.
fn through(name: &str, part: fn(&Run) -> Result<Outcome, Fault>, run: &Run) -> Outcome {
    let begun = Instant::now();
    let done = catch_unwind(|| part(run)).unwrap_or_else(|_| Err("it panicked".into()));
    done.unwrap_or_else(|fault| {
        let command = format!("tools/lab {name} --seed {}", run.seed);
        Outcome::unfinished(name, command, &fault, begun.elapsed().as_secs_f64())
    })
}

/// One line for each part.
fn summary(done: &[(&str, Kept)]) -> String {
    let mut out =
        format!("{:10} {:>12} {:28} {:>8} {:>8} {:>11}\n", "part", "tried", "of", "failed", "seconds", "seed");
    for (name, Kept { stamp, outcome }) in done {
        let (count, of) = &outcome.tried;
        let seed = stamp.seed.map_or_else(String::new, |seed| seed.to_string());
        let (failed, seconds) = (outcome.failures.len(), outcome.seconds);
        let _ = writeln!(out, "{name:10} {count:>12} {of:28} {failed:>8} {seconds:>8.0} {seed:>11}");
    }
    out
}

fn seed() -> Result<u64, Fault> {
    let random: &dyn Random = &OsRandom;
    Ok(u64::from(u32::from_le_bytes(random.array()?)))
}

/// Writes the last result of every part, and names the parts that were never run.
fn report(results: &Path, to: &Path, date: &str) -> Result<(), Fault> {
    let mut out =
        format!("# How this was tried\n\nWritten on {date} by `tools/lab report`, from the last run of each part.\n");
    for (_, name, _, _) in PARTS {
        match Kept::last(results, name)? {
            Some(kept) => out.push_str(&kept.markdown()),
            None => {
                let _ = writeln!(out, "\n## {name}\n\nNot run for this report.");
            }
        }
    }
    Ok(std::fs::write(to, out)?)
}

fn main() -> ExitCode {
    if let Some(code) = child::asked().or_else(power::child) {
        return code;
    }
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(10),
        Err(fault) => {
            eprintln!("lab: {fault}");
            ExitCode::FAILURE
        }
    }
}
