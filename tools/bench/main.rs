//! Measures the ledger beside a raw file, SQLite and redb, in one program and one run.
//!
//! Machines are noisy, so competitors take turns in short slices, the order changes from round to
//! round, and what counts is the median of the ratios within a round. Each peer is durable for every
//! put. `tools/bench/run` builds everything, sets up the peers of the process bench and calls this.

// A command-line tool speaks on its standard output; counts and nanoseconds become rates.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_precision_loss)]

mod backends;
mod backups;
mod credentials;
mod devices;
mod endpoint;
mod forensic;
mod group;
mod homes;
mod imports;
mod machine;
mod material;
mod peers;
mod process;
mod put;
mod race;
mod reading;
mod references;
mod report;
mod scale;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Whatever stopped a bench.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Measures the ledger beside a raw file, SQLite and redb.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// What to measure.
    #[arg(value_enum, default_values = ["all"])]
    benches: Vec<Bench>,
    /// Short slices and small ledgers: shows that the bench works, not how fast anything is.
    #[arg(long)]
    quick: bool,
    /// Write BENCHMARKS.md.
    #[arg(long, requires = "date")]
    write: bool,
    /// Today's date, for BENCHMARKS.md.
    #[arg(long)]
    date: Option<String>,
    /// Where ledgers and peers' files live; loaded ledgers are kept there for the next run.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Secrets in the small ledger.
    #[arg(long, default_value_t = 1_000)]
    few: u32,
    /// Secrets in the large ledger [default: 1000000, with --quick 20000].
    #[arg(long)]
    many: Option<u32>,
    /// Rounds of each comparison [default: 10, with --quick 3].
    #[arg(long)]
    rounds: Option<usize>,
    /// Milliseconds of each slice [default: 500, with --quick 60].
    #[arg(long)]
    slice_ms: Option<u64>,
    /// The `palyra-ledger` program [default: the one beside this program].
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Everything.
    All,
    /// Durable puts by one writer.
    #[value(name = "put-1")]
    PutOne,
    /// Durable puts by 64 writers.
    #[value(name = "put-64")]
    PutMany,
    /// Puts into the large ledger and into the small one.
    PutScale,
    /// Gets from the large ledger and from the small one.
    GetScale,
    /// Opening the large ledger and the small one.
    Open,
    /// Verification.
    Verify,
    /// Rebuilding every projection from the log.
    Rebuild,
    /// Replay to the middle of the log.
    Replay,
    /// Looking through the whole log.
    Query,
    /// The forensic tool as whole processes.
    Forensic,
    /// Bytes on disk.
    Disk,
    /// Handshakes, issuance, pairings and revocations.
    Devices,
    /// Choosing among profiles, reports of use, refreshes, documents.
    Auth,
    /// Resolving references to secrets.
    Resolve,
    /// Puts through the storage backend `encrypted_file`.
    Backends,
    /// Importing a store in Palyra's file layout.
    Import,
    /// Making and restoring a backup.
    Backup,
    /// Resident memory.
    Memory,
    /// `palyra-ledger secrets get --reveal` as a whole process.
    Process,
    /// `palyra-ledger run` beside the program that it starts.
    Start,
}

/// How much to measure.
#[derive(Debug)]
pub struct Plan {
    /// Shows that the bench works, not how fast anything is.
    pub quick: bool,
    /// Rounds of each comparison.
    pub rounds: usize,
    /// Length of one slice.
    pub slice: Duration,
    /// Secrets in the small ledger.
    pub few: u32,
    /// Secrets in the large ledger.
    pub many: u32,
    /// Where files live.
    pub dir: PathBuf,
    /// The `palyra-ledger` program.
    pub program: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match process::child() {
        Some(outcome) => outcome,
        None => run(&Args::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            let mut source = fault.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Fault> {
    std::fs::create_dir_all(&args.dir)?;
    let beside = std::env::current_exe()?.with_file_name("palyra-ledger");
    let plan = Plan {
        quick: args.quick,
        rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 10 }),
        slice: Duration::from_millis(args.slice_ms.unwrap_or(if args.quick { 60 } else { 500 })),
        few: args.few,
        many: args.many.unwrap_or(if args.quick { 20_000 } else { 1_000_000 }),
        dir: args.dir.canonicalize()?,
        program: args.program.clone().unwrap_or(beside),
    };
    let wanted = |bench| args.benches.contains(&bench) || args.benches.contains(&Bench::All);
    let mut report = report::Report::new(machine::facts(&plan.dir));
    let mut add = |section: report::Section| {
        print!("{}", section.text());
        report.add(section);
    };
    if wanted(Bench::PutOne) {
        for bytes in [64, 400] {
            add(put::one_writer(&plan, bytes)?);
        }
    }
    if wanted(Bench::PutMany) {
        for bytes in [64, 400] {
            add(put::many_writers(&plan, bytes)?);
        }
    }
    if wanted(Bench::Devices) {
        add(devices::handshakes(&plan)?);
        add(devices::issuance(&plan)?);
        add(devices::network(&plan)?);
    }
    if wanted(Bench::Auth) {
        add(credentials::select(&plan)?);
        add(credentials::reports(&plan)?);
        add(credentials::refreshes(&plan)?);
        add(credentials::rendering(&plan)?);
    }
    if wanted(Bench::Backends) {
        add(backends::files(&plan)?);
    }
    if wanted(Bench::Import) {
        add(imports::palyra(&plan)?);
    }
    if wanted(Bench::Backup) {
        add(backups::speed(&plan)?);
    }
    // What only reads comes before what adds to the ledgers.
    if wanted(Bench::Open) {
        add(scale::open(&plan)?);
    }
    if wanted(Bench::Memory) {
        add(process::memory(&plan)?);
    }
    if wanted(Bench::Process) {
        add(process::whole_process(&plan)?);
    }
    if wanted(Bench::Start) {
        add(process::starting(&plan)?);
    }
    if wanted(Bench::GetScale) {
        add(scale::get(&plan)?);
    }
    if wanted(Bench::Resolve) {
        add(references::resolve(&plan)?);
    }
    if wanted(Bench::Disk) {
        add(scale::disk(&plan)?);
    }
    if wanted(Bench::Verify) {
        add(scale::verify(&plan)?);
    }
    if wanted(Bench::Rebuild) {
        add(scale::rebuild(&plan)?);
    }
    if wanted(Bench::Replay) {
        add(reading::replay(&plan)?);
    }
    if wanted(Bench::Query) {
        add(reading::query(&plan)?);
    }
    if wanted(Bench::Forensic) {
        add(forensic::tool(&plan)?);
    }
    if wanted(Bench::PutScale) {
        add(scale::put(&plan)?);
    }
    print!("{}", report.verdicts_text());
    if let (true, Some(date)) = (args.write, &args.date) {
        let names: Vec<_> = args.benches.iter().filter_map(ValueEnum::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        let quick = if args.quick { " --quick" } else { "" };
        let command = format!("tools/bench/run {}{quick} --write --date {date}", names.join(" "));
        std::fs::write("BENCHMARKS.md", report.markdown(&command, date))?;
        println!("wrote BENCHMARKS.md");
    }
    Ok(())
}
