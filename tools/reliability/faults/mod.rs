//! Every storage call fails in turn, once and for good: behind the storage trait with each error that a disk shows, and
//! on a real file system with a limit on the size of a file and with a file system that is full. A disk that is slow
//! fails nothing.

mod real;
mod slow;
mod sweep;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

pub use real::{Orders, Small, limited, small};
pub use sweep::planted;

use crate::outcome::{Outcome, Table};
use crate::workload::Dice;
use crate::{Fault, Run};
use sweep::{KINDS, Prepared, Tally};

/// Failures after which there is nothing more to learn.
const FAILURES_MAX: usize = 20;
/// Cases of each kind that come before any kind is swept whole, so that a short run sees something of everything.
const SAMPLE: usize = 4;
/// Hundredths of the budget behind the storage trait; the rest is the real file system's.
const TRAIT_SHARE: u32 = 80;

/// What is counted of one kind behind the storage trait.
#[derive(Debug, Default)]
struct Swept {
    tally: Tally,
    /// Workloads of which each call was tried.
    whole: u64,
}

/// What the lanes share.
struct Sweep<'a> {
    run: &'a Run,
    begun: Instant,
    found: Mutex<Vec<String>>,
    swept: Mutex<BTreeMap<usize, Swept>>,
    /// Cases that were begun.
    begun_cases: AtomicU64,
    slow: AtomicU64,
    enough: AtomicBool,
}

impl Sweep<'_> {
    fn is_over(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
            || match self.run.count {
                Some(count) => self.begun_cases.load(Ordering::Relaxed) >= count,
                None => self.begun.elapsed() >= self.run.budget * TRAIT_SHARE / 100,
            }
    }

    fn failed(&self, what: String) {
        let mut found = lock(&self.found);
        found.push(what);
        if found.len() >= FAILURES_MAX {
            self.enough.store(true, Ordering::Relaxed);
        }
    }

    /// Takes cases of a workload until there are none, or all that may be tried were.
    fn lane(&self, prepared: &Prepared, cases: &[(usize, u64)], next: &AtomicUsize, before: u64) {
        while !self.is_over() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((kind, nth)) = cases.get(at) else { return };
            // The first so many of the order, whatever the lanes do: the count repeats them.
            if self.run.count.is_some_and(|count| before + at as u64 >= count) {
                return;
            }
            self.begun_cases.fetch_add(1, Ordering::Relaxed);
            let mut tally = Tally::default();
            let case = AssertUnwindSafe(|| prepared.case(*kind, *nth, &mut tally));
            if let Err(fault) = catch_unwind(case).unwrap_or_else(|_| Err("it panicked".into())) {
                let name = KINDS.get(*kind).map_or("", |kind| kind.name);
                self.failed(format!("--seed {}: {name}, call {nth}: {fault}", prepared.seed));
            }
            tally.cases = 1;
            lock(&self.swept).entry(*kind).or_default().tally.add(&tally);
        }
    }

    /// The workload once on a slow disk, beside the lanes: it sleeps most of the time.
    fn slow(&self, prepared: &Prepared, calls: u64) {
        let case = AssertUnwindSafe(|| prepared.slow(calls));
        match catch_unwind(case).unwrap_or_else(|_| Err("it panicked".into())) {
            Ok(()) => drop(self.slow.fetch_add(1, Ordering::Relaxed)),
            Err(fault) => self.failed(format!("--seed {}: a slow disk: {fault}", prepared.seed)),
        }
    }

    /// One workload after the other.
    fn sweep(&self) -> Result<(), Fault> {
        for number in 0.. {
            if number > 0 && self.is_over() {
                break;
            }
            let prepared = Prepared::new(self.run.seed.wrapping_add(number))?;
            let cases = prepared.cases()?;
            let of = |kind: usize| cases.iter().filter(|case| case.0 == kind).count() as u64;
            let (calls, before) = (of(0), self.tried());
            let next = AtomicUsize::new(0);
            let ordered = ordered(&cases, prepared.seed);
            let tried = self.begun_cases.load(Ordering::Relaxed);
            std::thread::scope(|scope| {
                scope.spawn(|| self.slow(&prepared, calls));
                for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                    scope.spawn(|| self.lane(&prepared, &ordered, &next, tried));
                }
            });
            for (kind, swept) in lock(&self.swept).iter_mut() {
                let done = swept.tally.cases - before.get(kind).copied().unwrap_or(0);
                swept.whole += u64::from(done >= of(*kind));
            }
        }
        Ok(())
    }

    fn tried(&self) -> BTreeMap<usize, u64> {
        lock(&self.swept).iter().map(|(kind, swept)| (*kind, swept.tally.cases)).collect()
    }
}

/// Sweeps until the budget is used up or the count is reached.
///
/// # Errors
/// What stood in the way of trying.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let mut not_tried = vec![
        "Failing memory. Each case has one fault, or one that stays: pairs of faults are drawn in the simulation."
            .to_owned(),
    ];
    let mut failures = Vec::new();
    if planted(run.seed)?.is_none() {
        failures.push("the check is blind: a sync that was planted to do nothing was not seen".to_owned());
    }
    let sweep = Sweep {
        run,
        begun,
        found: Mutex::new(failures),
        swept: Mutex::default(),
        begun_cases: AtomicU64::new(0),
        slow: AtomicU64::new(0),
        enough: AtomicBool::new(false),
    };
    sweep.sweep()?;
    let (swept, slow) = (sweep.swept.into_inner().unwrap_or_default(), sweep.slow.into_inner());
    let mut failures = sweep.found.into_inner().unwrap_or_default();
    let cases = swept.values().map(|swept| swept.tally.cases).sum::<u64>();
    not_whole(&swept, &mut not_tried);
    // As many as the count of the others asks for, so that the printed command makes at least these.
    let limited = (cases / 20).clamp(2, 40);
    let until = run.count.is_none().then(|| begun + run.budget);
    let share = real::Share { limited, small: limited / 4 + 1, until };
    let (real, real_cases) = real::run(run, share, &mut failures, &mut not_tried)?;
    let tables = vec![table(&swept, slow), real];
    let command = format!("tools/lab faults --count {cases} --seed {}", run.seed);
    let seconds = begun.elapsed().as_secs_f64();
    let tried = (cases + slow + real_cases, "faults".to_owned());
    Ok(Outcome {
        title: "Faults".to_owned(),
        what: WHAT.to_owned(),
        command,
        tried,
        seconds,
        failures,
        tables,
        not_tried,
    })
}

const WHAT: &str = "The n-th storage call of a mixed workload (opening, secrets, devices and a CA roll, refreshes, \
    rotations, closing) fails, once and for good, for each n and each kind of fault, as far as the table says. Each error \
    names its cause. While the ledger lives, the operation that failed is settled with the model, and the workload goes \
    on; a dead writer stays dead, says so and says why; nobody syncs again what failed to sync. Then the disk as a power \
    cut leaves it, and as it is, are opened: everything acknowledged is there, the operation that failed is there wholly \
    or not at all, the state verifies, and writing goes on. On a slow disk, each call of which takes 1 to 4 ms and one 3 \
    s, nothing fails. The command counts the cases behind the storage trait; how many there are of the others follows.";

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Some of each kind; then each kind whole, those with the fewest calls first.
fn ordered(cases: &[(usize, u64)], seed: u64) -> Vec<(usize, u64)> {
    let mut kinds: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
    for case in cases {
        kinds.entry(case.0).or_default().push(*case);
    }
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (kind, mut cases) in kinds {
        shuffle(&mut cases, seed.wrapping_add(kind as u64));
        let left = cases.split_off(SAMPLE.min(cases.len()));
        first.append(&mut cases);
        rest.push(left);
    }
    rest.sort_by_key(Vec::len);
    first.extend(rest.into_iter().flatten());
    first
}

fn shuffle<T>(all: &mut [T], seed: u64) {
    let mut dice = Dice::of(seed, 1);
    for at in (1..all.len()).rev() {
        let other = usize::try_from(dice.below(at as u64 + 1)).unwrap_or(0);
        all.swap(at, other);
    }
}

/// Says of which kinds not one workload was swept from its first call to its last.
fn not_whole(swept: &BTreeMap<usize, Swept>, not_tried: &mut Vec<String>) {
    let kinds: Vec<&str> = KINDS
        .iter()
        .enumerate()
        .filter(|(kind, _)| swept.get(kind).is_none_or(|swept| swept.whole == 0))
        .map(|(_, kind)| kind.name)
        .collect();
    if !kinds.is_empty() {
        let what = "Every call of one workload, of these kinds of fault, for which there was no time";
        not_tried.push(format!("{what}: {}.", kinds.join("; ")));
    }
}

fn table(swept: &BTreeMap<usize, Swept>, slow: u64) -> Table {
    let header = [
        "fault",
        "workloads swept from the first call to the last",
        "cases",
        "refused with its cause",
        "writer dead until reopened",
        "ledger lived and went on",
        "met nothing that mattered",
    ];
    let mut table = Table::new("Behind the storage trait", &header);
    for (at, kind) in KINDS.iter().enumerate() {
        let none = Swept::default();
        let Swept { tally, whole } = swept.get(&at).unwrap_or(&none);
        let Tally { cases, refused, dead, went_on, passed } = tally;
        let cells = [whole, cases, refused, dead, went_on, passed].map(ToString::to_string);
        table.row(&[vec![kind.name.to_owned()], cells.to_vec()].concat());
    }
    let mut cells = vec!["a slow disk: nothing fails".to_owned(), slow.to_string(), slow.to_string()];
    cells.extend(["0", "0", "0"].map(str::to_owned));
    cells.push(slow.to_string());
    table.row(&cells);
    table
}
