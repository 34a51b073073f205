//! Mutation testing: small changes of the product's own code, each of which a test must see.
//!
//! A build takes minutes and a mutant is one of thousands, so every mutant is in one build of a copy, behind a switch that
//! is read from the environment; then the tests that come by it run with one mutant after another switched on. What they
//! all pass with is a survivor: a test is missing, or nothing that may be observed has changed, which `argued.txt` then says.

mod build;
mod points;
mod survey;
mod trial;
mod weave;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outcome::{Outcome, Table};
use crate::workload::Dice;
use crate::{Fault, Run};
use build::{Program, Twin};
use points::Point;
use survey::{Test, survey};
use trial::{Call, Ended, tests};

/// What was argued about survivors.
const ARGUED: &str = include_str!("argued.txt");
/// Mutants, or tests without one, that are tried at a time.
const LANES: usize = 2;
/// A budget below this has no room for a build.
const LEAST: Duration = Duration::from_mins(20);
/// Tests may take so many times what they take without a mutant, and so much more.
const TIMES: u32 = 5;
const MORE: Duration = Duration::from_secs(30);
/// Tests that take less are run together, those of a program at a time; then the others one after another.
const QUICK: Duration = Duration::from_millis(500);
/// The programs of tests.
const PROGRAMS: [&str; 8] = ["auth", "engine", "forensic", "fuzz_corpora", "golden", "identity", "lib", "replay"];
/// So many mutants and none killed: then the switch switches nothing.
const SUSPICIOUS: usize = 10;

/// What became of a mutant.
enum Fate {
    Killed(String, String),
    TimedOut(String),
    Survived(usize),
}

/// What mutants are tried with.
struct Bench {
    programs: Vec<Program>,
    tests: Vec<Test>,
}

/// Mutates and tests.
///
/// # Errors
/// What stood in the way of it.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    weave::check()?;
    let count = run.count.map_or_else(String::new, |count| format!(" --count {count}"));
    let mut outcome = Outcome {
        title: "Mutants".to_owned(),
        what:
            "Small changes of the product's own code, in what decides, chains, seals and opens: a comparison that is \
               turned round or moved by one, `&&` for `||`, a negation or a call left out, plus for minus, a function \
               that does nothing and gives a default. Every one is compiled into one copy, behind a switch. Each test \
               runs once by itself and is watched for the mutants that it comes by; then those that come by a mutant run \
               with it switched on, until one fails. A mutant that passes them all is no failure of this part but a \
               survivor, listed to be killed by a test or argued."
                .to_owned(),
        command: format!("tools/lab mutate{count} --seed {}", run.seed),
        tried: (0, "mutants".to_owned()),
        seconds: 0.0,
        failures: Vec::new(),
        tables: Vec::new(),
        not_tried: Vec::new(),
    };
    if run.count.is_none() && run.budget < LEAST {
        outcome.not_tried.push(format!(
            "All of it: a budget of {} s has no time for a build (`tools/lab mutate --budget 2h`).",
            run.budget.as_secs()
        ));
        return Ok(outcome);
    }
    let mut copy = Twin::make(run)?;
    println!("  {} mutants", copy.points.len());
    let rounds = copy.settle()?;
    println!("  the library's tests are built after {:.0} s", begun.elapsed().as_secs_f64());
    let programs = copy.programs(&PROGRAMS)?;
    let built = begun.elapsed();
    println!("  all tests are built after {:.0} s", built.as_secs_f64());
    let (tests, failures) = survey(&copy.root, &programs)?;
    outcome.failures.extend(failures);
    let mut table = Table::new("Tests, without a mutant", &["program", "tests", "seconds", "asked about every mutant"]);
    table.row(&[
        format!("(the build, in {rounds} rounds)"),
        "0".into(),
        format!("{:.0}", built.as_secs_f64()),
        "0".into(),
    ]);
    for (number, program) in programs.iter().enumerate() {
        let of = || tests.iter().filter(|test| test.program == number);
        let seconds = of().map(|test| test.takes.as_secs_f64()).sum::<f64>();
        let (all, watched) = (of().count(), of().filter(|test| test.is_known()).count());
        table.row(&[program.name.clone(), all.to_string(), format!("{seconds:.0}"), (all - watched).to_string()]);
    }
    outcome.tables.push(table);
    println!("  {} tests are known after {:.0} s", tests.len(), begun.elapsed().as_secs_f64());
    let bench = Bench { programs, tests };
    let fates = if outcome.failures.is_empty() { trials(run, &copy, &bench, begun)? } else { BTreeMap::new() };
    tell(&copy, &fates, &mut outcome);
    outcome.seconds = begun.elapsed().as_secs_f64();
    Ok(outcome)
}

/// The order of trials: one file after another, and within each file as the seed has it.
fn order<'a>(points: impl Iterator<Item = &'a Point>, seed: u64) -> Vec<&'a Point> {
    let mut dice = Dice::new(seed);
    let mut files: BTreeMap<&str, Vec<(u64, &Point)>> = BTreeMap::new();
    for point in points {
        files.entry(&point.file).or_default().push((dice.number(), point));
    }
    let mut files: Vec<_> = files.into_values().map(|points| (dice.number(), points)).collect();
    files.sort_by_key(|(number, _)| *number);
    let mut ranked = Vec::new();
    for (file, (_, mut points)) in files.into_iter().enumerate() {
        points.sort_by_key(|(number, _)| *number);
        ranked.extend(points.into_iter().enumerate().map(|(turn, (_, point))| (turn, file, point)));
    }
    ranked.sort_by_key(|(turn, file, _)| (*turn, *file));
    ranked.into_iter().map(|(.., point)| point).collect()
}

fn trials(run: &Run, copy: &Twin, bench: &Bench, begun: Instant) -> Result<BTreeMap<u32, Fate>, Fault> {
    let drawn = order(copy.points.iter().filter(|point| !copy.dropped.contains(&point.number)), run.seed);
    let most = run.count.map_or(drawn.len(), |count| usize::try_from(count).unwrap_or(usize::MAX));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let lane = || -> Result<(), Fault> {
        while run.count.is_some() || begun.elapsed() < run.budget {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = drawn.get(at).filter(|_| at < most) else { break };
            let from = Instant::now();
            let fate = bench.one(copy, point)?;
            let what = match &fate {
                Fate::Killed(by, test) => format!("killed by {by}: {test}"),
                Fate::TimedOut(within) => format!("timed out in {within}"),
                Fate::Survived(passed) => format!("SURVIVED {passed} tests"),
            };
            println!("  {} after {:.0} s: {}: {}", point.number, from.elapsed().as_secs_f64(), point.key(), what);
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(point.number, fate);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| Fault::from("a lane panicked"))?)
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Bench {
    /// Runs what comes by a mutant: the quick tests of one program after another, then the slow ones, the shortest first.
    fn one(&self, copy: &Twin, point: &Point) -> Result<Fate, Fault> {
        let reaching = || self.tests.iter().filter(|test| test.reaches(point.number));
        let mut quick: Vec<Vec<&Test>> = self.programs.iter().map(|_| Vec::new()).collect();
        let (mut slow, takes) =
            (Vec::new(), |tests: &Vec<&Test>| tests.iter().map(|test| test.takes).sum::<Duration>());
        for test in reaching() {
            match quick.get_mut(test.program).filter(|_| test.takes < QUICK) {
                Some(others) => others.push(test),
                None => slow.push(vec![test]),
            }
        }
        quick.retain(|tests| !tests.is_empty());
        quick.sort_by_key(takes);
        slow.sort_by_key(takes);
        for together in quick.into_iter().chain(slow) {
            let number = together.first().map_or(0, |test| test.program);
            let program = self.programs.get(number).ok_or("no such program")?;
            let names: Vec<&str> = together.iter().map(|test| test.name.as_str()).collect();
            let most = takes(&together) * TIMES + MORE;
            match tests(&copy.root, &Call { program, names: &names, mutant: point.number, reached: None, most })? {
                Ended::Passed => {}
                Ended::Failed(test) => return Ok(Fate::Killed(program.name.clone(), test)),
                Ended::TooLong => return Ok(Fate::TimedOut(program.name.clone())),
            }
        }
        Ok(Fate::Survived(reaching().count()))
    }
}

/// The lines of `argued.txt`: each begins with what names a mutant.
fn argued() -> impl Iterator<Item = &'static str> {
    ARGUED.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

/// Why a mutant changes nothing, where that was argued.
fn argument(point: &Point) -> Option<&'static str> {
    let key = point.key();
    argued().find_map(|line| line.strip_prefix(&key)?.strip_prefix(": "))
}

/// Numbers of one file.
#[derive(Default)]
struct Sum {
    found: u64,
    dropped: u64,
    killed: u64,
    timed_out: u64,
    argued: u64,
    survived: u64,
}

impl Sum {
    const HEADER: [&'static str; 8] =
        ["file", "mutants", "did not compile", "tried", "killed", "timed out", "survived", "of them argued"];

    fn add(&mut self, other: &Self) {
        self.found += other.found;
        self.dropped += other.dropped;
        self.killed += other.killed;
        self.timed_out += other.timed_out;
        self.argued += other.argued;
        self.survived += other.survived;
    }

    const fn tried(&self) -> u64 {
        self.killed + self.timed_out + self.survived
    }

    fn row(&self, file: &str, table: &mut Table) {
        let Self { found, dropped, killed, timed_out, argued, survived } = self;
        let cells = [*found, *dropped, self.tried(), *killed, *timed_out, *survived, *argued];
        let cells: Vec<String> = std::iter::once(file.to_owned()).chain(cells.map(|one| one.to_string())).collect();
        table.row(&cells);
    }
}

/// Counts, and lists survivors.
fn tell(copy: &Twin, fates: &BTreeMap<u32, Fate>, outcome: &mut Outcome) {
    let mut files: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut killers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut survivors = Table::new("Survivors", &["line", "mutant", "tests that come by it"]);
    let mut settled = Table::new("Survivors that were argued", &["mutant", "why it changes nothing"]);
    for point in &copy.points {
        let sum = files.entry(&point.file).or_default();
        sum.found += 1;
        sum.dropped += u64::from(copy.dropped.contains(&point.number));
        match fates.get(&point.number) {
            Some(Fate::Killed(by, _)) => {
                sum.killed += 1;
                *killers.entry(by).or_default() += 1;
            }
            Some(Fate::TimedOut(_)) => sum.timed_out += 1,
            Some(Fate::Survived(passed)) => {
                sum.survived += 1;
                match argument(point) {
                    Some(why) => {
                        sum.argued += 1;
                        settled.row(&[point.key(), why.to_owned()]);
                    }
                    None => {
                        let line = format!("{}:{}", point.file, point.line);
                        survivors.row(&[line, point.key(), passed.to_string()]);
                    }
                }
            }
            None => {}
        }
    }
    let (mut table, mut all) = (Table::new("Mutants by file", &Sum::HEADER), Sum::default());
    for (file, sum) in &files {
        sum.row(file, &mut table);
        all.add(sum);
    }
    all.row("all", &mut table);
    let mut by = Table::new("What killed them", &["program", "mutants"]);
    for (name, count) in &killers {
        by.row(&[(*name).to_owned(), count.to_string()]);
    }
    outcome.tables.extend([table, by, survivors, settled].into_iter().filter(|table| !table.rows.is_empty()));
    outcome.tried.0 = all.tried();
    let left = all.found - all.dropped - all.tried();
    if left > 0 {
        outcome.not_tried.push(format!("{left} mutants that compile: they were not drawn in this run."));
    }
    outcome.not_tried.extend(
        [
            "Rooms other than the log, events, cryptography and decisions; programs of tests other than those above.",
            "What is in constants, constant functions, patterns, types and macros, what is printed for people, and what \
             fuzz targets call.",
            "Mutants in a program that a test runs with an environment of its own: there the switch is off.",
        ]
        .map(str::to_owned),
    );
    if fates.len() >= SUSPICIOUS && all.killed + all.timed_out == 0 {
        outcome.failures.push(format!("of {} mutants none was killed: the switch switches nothing", fates.len()));
    }
    let fits = |line: &&str| copy.points.iter().any(|point| line.starts_with(&format!("{}: ", point.key())));
    let stale = argued().filter(|line| !fits(line));
    outcome.failures.extend(stale.map(|line| format!("argued.txt: no mutant fits \"{line}\"")));
}
