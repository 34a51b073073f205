//! Fuzzing: every target of `fuzz/` for its part of the budget, with what its corpus and earlier runs found.
//!
//! The programs are built by `fuzz/run --build`, with a sanitizer or without; this part runs what is there, and says
//! which it was. Executions are added up over runs.

mod stats;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::outcome::{Outcome, Table};
use crate::{Fault, Run};
use stats::{Sum, Sums, Told};

/// Where programs may be: those with the address sanitizer are preferred.
const BUILDS: [(&str, Sanitizer); 2] =
    [("target/fuzz-address", Sanitizer::Address), ("target/fuzz", Sanitizer::Nothing)];
/// Bytes of an input at most, as `fuzz/run` has it.
const INPUT_MAX: u32 = 4096;
/// Seconds of one input, and megabytes, at most.
const SLOW_SECONDS: u32 = 10;
const MEMORY_MIB: u32 = 2048;
/// What is to be recorded in all.
const WANTED: u64 = 10_000_000;

/// What the programs were built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sanitizer {
    Address,
    Nothing,
}

impl Sanitizer {
    const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Nothing => "none",
        }
    }
}

/// A target and the program that fuzzes it.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    program: PathBuf,
    sanitizer: Sanitizer,
}

/// What became of a target.
struct Fuzzed {
    target: Target,
    told: Told,
    seconds: f64,
    failures: Vec<String>,
}

/// Fuzzes every target.
///
/// # Errors
/// What stood in the way of running them.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    stats::check()?;
    let names = targets()?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &names {
        match program(name) {
            Some(target) => found.push(target),
            None => missing.push(name.clone()),
        }
    }
    let mut failures = Vec::new();
    if !missing.is_empty() {
        failures.push(format!("not built: {}; `fuzz/run --build all` builds them", missing.join(", ")));
    }
    let share = Share::of(run, found.len());
    let done = each(run, &found, &share)?;
    let kept = run.dir.with_file_name("results").join("fuzz-executions.json");
    let mut sums = Sums::read(&kept);
    for fuzzed in &done {
        sums.add(&fuzzed.target.name, &fuzzed.told, fuzzed.seconds, fuzzed.target.sanitizer == Sanitizer::Address);
        failures.extend(fuzzed.failures.iter().cloned());
    }
    sums.write(&kept)?;
    let executions = done.iter().map(|fuzzed| fuzzed.told.executions).sum();
    let tables = vec![table(&done, &sums), in_all(&sums)];
    Ok(Outcome {
        title: "Fuzzing".to_owned(),
        what: "Every parser and every decision that bytes from outside reach, each a target of libFuzzer that begins with \
               its corpus and what earlier runs added. An input that ends the program, takes longer than 10 seconds or \
               more than 2 GiB is a failure and is kept; a finding becomes an input of the corpus, which the ordinary \
               tests replay."
            .to_owned(),
        command: format!("fuzz/run --build all && tools/lab fuzz --seed {}", run.seed),
        tried: (executions, "executions".to_owned()),
        seconds: begun.elapsed().as_secs_f64(),
        failures,
        tables,
        not_tried: left_out(&found)?,
    })
}

/// The names of all targets.
fn targets() -> Result<Vec<String>, Fault> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir("fuzz/targets").map_err(|fault| format!("fuzz/targets: {fault}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    if names.is_empty() { Err("there is no target in fuzz/targets".into()) } else { Ok(names.into_iter().collect()) }
}

/// The program of a target: `TARGET-DIR/TRIPLE/release/fuzz-NAME`, whichever triple was built for.
fn program(name: &str) -> Option<Target> {
    let file = format!("fuzz-{}", name.replace('_', "-"));
    BUILDS.iter().find_map(|(dir, sanitizer)| {
        let triples = std::fs::read_dir(dir).ok()?.flatten();
        let mut programs = triples.map(|triple| triple.path().join("release").join(&file));
        let program = programs.find(|program| program.is_file())?;
        Some(Target { name: name.to_owned(), program: std::fs::canonicalize(program).ok()?, sanitizer: *sanitizer })
    })
}

/// What each target may take.
#[derive(Debug, Clone, Copy)]
enum Share {
    Executions(u64),
    Seconds(u64),
}

impl Share {
    fn of(run: &Run, targets: usize) -> Self {
        let targets = targets.max(1) as u64;
        match run.count {
            Some(count) => Self::Executions(count.div_ceil(targets)),
            None => {
                let lanes = lanes() as u64;
                Self::Seconds((run.budget.as_secs() * lanes / targets).max(1))
            }
        }
    }
}

fn lanes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn each(run: &Run, targets: &[Target], share: &Share) -> Result<Vec<Fuzzed>, Fault> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let lane = || -> Result<(), Fault> {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let fuzzed = one(run, target, share)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push(fuzzed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes()).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| Fault::from("a lane panicked"))?)
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by(|one: &Fuzzed, other| one.target.name.cmp(&other.target.name));
    Ok(done)
}

fn one(run: &Run, target: &Target, share: &Share) -> Result<Fuzzed, Fault> {
    let begun = Instant::now();
    let name = &target.name;
    let (here, own) = (run.dir.join(name), run.dir.with_file_name("fuzz-corpus").join(name));
    for folder in [&here, &own] {
        std::fs::create_dir_all(folder)?;
    }
    let log = here.join("log");
    let bound = match share {
        Share::Executions(count) => format!("-runs={count}"),
        Share::Seconds(seconds) => format!("-max_total_time={seconds}"),
    };
    let mut command = Command::new(&target.program);
    command
        .args([bound, format!("-max_len={INPUT_MAX}"), format!("-timeout={SLOW_SECONDS}")])
        .args([format!("-rss_limit_mb={MEMORY_MIB}"), "-print_final_stats=1".to_owned()])
        // libFuzzer takes 0 as none.
        .arg(format!("-seed={}", u32::try_from(run.seed % 0xffff_ffff)?.max(1)))
        .arg(format!("-artifact_prefix={}/found-", here.display()))
        .arg(&own);
    let corpus = Path::new("fuzz/corpus").join(name);
    if corpus.is_dir() {
        command.arg(corpus);
    }
    let file = std::fs::File::create(&log)?;
    let status = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status()?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let told = Told::parse(&text);
    let mut failures = keep(run, name, &here)?;
    if !status.success() && failures.is_empty() {
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        failures.push(format!("{name}: ended with {status} and left no input: {last}"));
    }
    if status.success() && told.executions == 0 {
        failures.push(format!("{name}: it ran nothing, or its statistics cannot be read"));
    }
    Ok(Fuzzed { target: target.clone(), told, seconds: begun.elapsed().as_secs_f64(), failures })
}

/// Copies inputs that were found to where the next run does not remove them; says where each is.
fn keep(run: &Run, name: &str, here: &Path) -> Result<Vec<String>, Fault> {
    let kept = run.dir.with_file_name("fuzz-kept").join(name);
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(here)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.starts_with("found-") {
            std::fs::create_dir_all(&kept)?;
            let to = kept.join(file);
            std::fs::copy(&path, &to)?;
            let folder = std::env::current_dir()?;
            let shown = to.strip_prefix(folder).unwrap_or(&to);
            failures.push(format!("{name}: {}; put it into fuzz/corpus/{name}", shown.display()));
        }
    }
    failures.sort();
    Ok(failures)
}

fn table(done: &[Fuzzed], sums: &Sums) -> Table {
    let header = [
        "target",
        "executions",
        "a second",
        "edges",
        "of",
        "features",
        "inputs",
        "sanitizer",
        "executions in all runs",
    ];
    let mut table = Table::new("Targets", &header);
    for Fuzzed { target, told, seconds, .. } in done {
        let rate = told.executions as f64 / seconds.max(0.001);
        table.row(&[
            target.name.clone(),
            told.executions.to_string(),
            format!("{rate:.0}"),
            told.edges.to_string(),
            told.all_edges.to_string(),
            told.features.to_string(),
            told.inputs.to_string(),
            target.sanitizer.name().to_owned(),
            sums.of(&target.name).executions.to_string(),
        ]);
    }
    table
}

fn in_all(sums: &Sums) -> Table {
    let Sum { executions, sanitized, seconds, runs } = sums.total();
    let mut table = Table::new("Recorded in all runs", &["what", "number"]);
    let reached = if executions >= WANTED { "reached" } else { "not reached yet" };
    for (what, number) in [
        ("executions", executions.to_string()),
        ("of them with the address sanitizer", sanitized.to_string()),
        ("hours of one processor", format!("{:.1}", seconds / 3600.0)),
        ("runs of a target", runs.to_string()),
        ("10,000,000 executions", reached.to_owned()),
    ] {
        table.row(&[what.to_owned(), number]);
    }
    table
}

/// What was not done, and what the programs are that were run.
fn left_out(found: &[Target]) -> Result<Vec<String>, Fault> {
    let mut lines = Vec::new();
    let plain = found.iter().filter(|target| target.sanitizer == Sanitizer::Nothing).count();
    if plain > 0 {
        lines.push(format!(
            "Sanitizers for {plain} of {} targets: no build with one is there (`fuzz/run --build --address all` makes it).",
            found.len()
        ));
    }
    let newest = newest(Path::new("src"))?;
    let built = |target: &&Target| target.program.metadata().and_then(|facts| facts.modified()).ok() < newest;
    let older = found.iter().filter(built).count();
    if older > 0 {
        lines.push(format!("The newest sources: {older} programs were built before them (`fuzz/run --build all`)."));
    }
    Ok(lines)
}

/// When the newest source was written.
fn newest(folder: &Path) -> Result<Option<SystemTime>, Fault> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let of =
            if entry.file_type()?.is_dir() { self::newest(&entry.path())? } else { entry.metadata()?.modified().ok() };
        newest = newest.max(of);
    }
    Ok(newest)
}
