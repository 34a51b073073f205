//! Every storage call fails in turn, once and for good: behind the storage trait with each error that a disk shows, and
//! on a real file system with a limit on the size of a file and with a file system that is full.

mod real;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

pub use real::{Orders, Small, limited, small};
pub use sweep::planted;

use crate::outcome::{Outcome, Table};
use crate::workload::Dice;
use crate::{Fault, Run};
use sweep::{KINDS, Prepared, Tally};

/// Failures after which there is nothing more to learn.
const FAILURES_MAX: usize = 20;

/// Sweeps until the budget is used up or the count is reached.
///
/// # Errors
/// What stood in the way of trying.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let mut not_tried = vec![
        "A disk that is slow and does not fail; failing memory. Each case has one fault, or one that stays: pairs of \
         faults are drawn in the simulation."
            .to_owned(),
    ];
    let mut failures = Vec::new();
    let (real, real_cases) = real::run(run, &mut failures, &mut not_tried)?;
    if !planted(run.seed)? {
        failures.push("the check is blind: a sync that was planted to do nothing was not seen".to_owned());
    }
    let (done, round) = (AtomicU64::new(real_cases), AtomicU64::new(0));
    let (found, tallies) = (Mutex::new(failures), Mutex::new(BTreeMap::<usize, Tally>::new()));
    let over = || match run.count {
        Some(count) => done.load(Ordering::Relaxed) >= count.max(real_cases + 1),
        None => begun.elapsed() >= run.budget,
    };
    let mut whole = 0;
    while !over() {
        let number = round.fetch_add(1, Ordering::Relaxed);
        let prepared = Prepared::new(run.seed.wrapping_add(number))?;
        let mut cases = prepared.cases()?;
        shuffle(&mut cases, run.seed.wrapping_add(number));
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let lane = || {
                while let (false, Some((kind, nth))) = (over(), cases.get(next.fetch_add(1, Ordering::Relaxed))) {
                    let mut tally = Tally::default();
                    if let Err(fault) = prepared.case(*kind, *nth, &mut tally) {
                        let name = KINDS.get(*kind).map_or("", |kind| kind.name);
                        let mut found = lock(&found);
                        found.push(format!("--seed {}: {name}, call {nth}: {fault}", prepared.seed));
                        if found.len() >= FAILURES_MAX {
                            done.store(u64::MAX / 2, Ordering::Relaxed);
                        }
                    }
                    lock(&tallies).entry(*kind).or_default().add(&tally);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            };
            (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(lane)));
        });
        whole += u64::from(next.into_inner() >= cases.len());
        if lock(&found).len() >= FAILURES_MAX {
            break;
        }
    }
    let tallies = tallies.into_inner().unwrap_or_default();
    let cases = tallies.values().map(|tally| tally.cases).sum::<u64>() + real_cases;
    let failures = found.into_inner().unwrap_or_default();
    let tables = vec![table(&tallies, whole), real];
    Ok(Outcome { seconds: begun.elapsed().as_secs_f64(), ..outcome(run, cases, failures, tables, not_tried) })
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// So that a short run sees something of everything.
fn shuffle<T>(all: &mut [T], seed: u64) {
    let mut dice = Dice::of(seed, 1);
    for at in (1..all.len()).rev() {
        let other = usize::try_from(dice.below(at as u64 + 1)).unwrap_or(0);
        all.swap(at, other);
    }
}

fn table(tallies: &BTreeMap<usize, Tally>, whole: u64) -> Table {
    let title = format!("Behind the storage trait, workloads swept from the first call to the last: {whole}");
    let mut table = Table::new(
        &title,
        &["fault", "cases", "refused with its cause", "writer dead until reopened", "met nothing that mattered"],
    );
    for (kind, tally) in tallies {
        let name = KINDS.get(*kind).map_or("", |kind| kind.name);
        let Tally { cases, refused, dead, passed } = tally;
        table.row(&[name.to_owned(), cases.to_string(), refused.to_string(), dead.to_string(), passed.to_string()]);
    }
    table
}

fn outcome(run: &Run, cases: u64, failures: Vec<String>, tables: Vec<Table>, not_tried: Vec<String>) -> Outcome {
    Outcome {
        title: "Faults".to_owned(),
        what: "The n-th storage call of a mixed workload (opening, secrets, devices and a CA roll, refreshes, \
               rotations, closing) fails, once and for good, for each n and each kind of fault. The error names its \
               cause; a dead writer stays dead and says so; nobody syncs again what failed to sync. Then the disk as a \
               power cut leaves it, and as it is, are opened: everything acknowledged is there, the operation that \
               failed is there wholly or not at all, the state verifies, and writing goes on."
            .to_owned(),
        command: format!("tools/lab faults --count {cases} --seed {}", run.seed),
        tried: (cases, "faults".to_owned()),
        seconds: 0.0,
        failures,
        tables,
        not_tried,
    }
}
