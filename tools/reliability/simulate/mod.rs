//! A deterministic simulation: writers, readers, refreshers and pairings that interleave as a seed says, on a disk that
//! fails and loses power, with a clock that jumps, held against a model.
//!
//! What an operation answers is compared in its step, and one certificate is shown in each. The whole of what is there
//! is compared after every opening. Roots and replays are compared at some openings, in the steps that verify, and at
//! the end of an episode; nonces and failed syncs, whenever a process is gone.
//!
//! It runs in episodes of some thousand operations, each on a fresh ledger and in one thread; everything in an episode
//! follows from its seed. The episode of a run's own seed comes first and is run twice: both must leave the same trace.

mod episode;
mod nonces;
mod pairing;
mod planted;
mod refresh;
mod steps;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::outcome::{Outcome, Table};
use crate::workload::Dice;
use crate::{Fault, Run};
use episode::{Episode, Failure, Planted};

/// Operations of one episode.
const OPERATIONS: u64 = 2_000;
/// Failures after which there is nothing more to learn.
const FAILURES_MAX: usize = 20;
/// Episodes within which a planted fault must be seen.
const PLANTED_EPISODES: u64 = 12;

/// What is counted, by name.
pub type Figures = BTreeMap<&'static str, u64>;

/// Simulates until the budget is used up or the count is reached.
///
/// # Errors
/// What stood in the way of trying.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let mut failures = twins(run)?;
    let planted = planted(run, &mut failures)?;
    let (next, done, ended) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (found, figures) = (Mutex::new(failures), Mutex::new(Figures::new()));
    let digests = Mutex::new(BTreeMap::new());
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let lane = || -> Result<(), Fault> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let operations = match run.count {
                    Some(count) => count.saturating_sub(number * OPERATIONS).min(OPERATIONS),
                    None if begun.elapsed() >= run.budget => 0,
                    None => OPERATIONS,
                };
                if operations == 0 || ended.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let seed = episode_seed(run.seed, number);
                let mut episode = Episode::new(seed)?;
                if let Err(failure) = episode.run(operations) {
                    let mut found = lock(&found);
                    found.push(reproduced(seed, &failure));
                    ended.fetch_or(found.len() >= FAILURES_MAX, Ordering::Relaxed);
                }
                done.fetch_add(episode.step(), Ordering::Relaxed);
                lock(&digests).insert(number, episode.digest());
                let mut all = lock(&figures);
                episode.figures().iter().for_each(|(what, number)| *all.entry(what).or_default() += number);
            }
        };
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| Fault::from("an episode panicked"))?)
    })?;
    let mut digest = blake3::Hasher::new();
    let digests: BTreeMap<u64, blake3::Hash> = digests.into_inner().unwrap_or_default();
    for of in digests.values() {
        digest.update(of.as_bytes());
    }
    let mut table = Table::new("What was simulated", &["what", "number"]);
    table.row(&["episodes, each on a fresh ledger".to_owned(), digests.len().to_string()]);
    lock(&figures).iter().for_each(|(what, number)| table.row(&[(*what).to_owned(), number.to_string()]));
    table.row(&["digest of all traces (BLAKE3, 16 digits)".to_owned(), digest.finalize().to_hex()[..16].to_owned()]);
    Ok(outcome(run, done.into_inner(), begun, found.into_inner().unwrap_or_default(), vec![table, planted]))
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The seed of an episode; the first has the run's own. Drawn: seeds that are a step of the dice apart would give the
/// same choices, one later.
fn episode_seed(seed: u64, number: u64) -> u64 {
    if number == 0 { seed } else { Dice::of(seed, number).number() }
}

fn reproduced(seed: u64, Failure { step, what }: &Failure) -> String {
    format!("--seed {seed} --count {}: step {step}: {what}", step + 1)
}

/// The first episode twice: the same seed must give the same trace.
fn twins(run: &Run) -> Result<Vec<String>, Fault> {
    let operations = run.count.unwrap_or(OPERATIONS).min(OPERATIONS);
    let one = |_| -> Result<Episode, Fault> {
        let mut episode = Episode::new(run.seed)?;
        // What fails is found again below, as the first episode.
        let _ = episode.run(operations);
        Ok(episode)
    };
    let (first, second) = (one(0)?, one(1)?);
    if first.digest() == second.digest() {
        return Ok(Vec::new());
    }
    let differ = first.trace().iter().zip(second.trace()).position(|(one, other)| one != other);
    let at = differ.unwrap_or(first.trace().len().min(second.trace().len()));
    let of = |episode: &Episode| episode.trace().get(at).cloned().unwrap_or_default();
    let (one, other) = (of(&first), of(&second));
    Ok(vec![format!("--seed {}: two runs part at step {at}: {one:?} and {other:?}", run.seed)])
}

/// Faults planted in what surrounds the ledger: each must be seen by its own finding.
fn planted(run: &Run, failures: &mut Vec<String>) -> Result<Table, Fault> {
    let mut table = Table::new("Planted faults", &["planted", "seen by", "in step"]);
    for fault in Planted::ALL {
        match plant(run.seed, fault)? {
            Ok(Failure { step, what }) => table.row(&[fault.name().to_owned(), shown(&what), step.to_string()]),
            Err(what) => failures.push(format!("the model is blind: {} was planted: {what}", fault.name())),
        }
    }
    Ok(table)
}

/// Plants one fault, until it is seen by the finding that belongs to it; otherwise says what was seen. The same seed
/// takes the same kinds of steps, as many of them, without the plant: that must pass.
fn plant(seed: u64, fault: Planted) -> Result<Result<Failure, String>, Fault> {
    let mut last = "nothing was seen".to_owned();
    for number in 0..PLANTED_EPISODES {
        let seed = episode_seed(!seed, number);
        let mut episode = Episode::provoking(seed, Some(fault), Some(fault))?;
        let failed = episode.run(OPERATIONS).err();
        let mut without = Episode::provoking(seed, Some(fault), None)?;
        if let Err(Failure { step, what }) = without.run(episode.step() + 1) {
            return Ok(Err(format!("without it, seed {seed} fails too, in step {step}: {what}")));
        }
        match failed {
            Some(failure) if fault.is_seen_in(&failure.what) => return Ok(Ok(failure)),
            Some(Failure { what, .. }) => last = format!("what was seen is another finding: {what}"),
            None => {}
        }
    }
    Ok(Err(last))
}

/// A finding in a cell of a table.
fn shown(what: &str) -> String {
    what.chars().filter(|c| *c != '|').take(120).collect()
}

/// A planted fault's name, and what saw it; otherwise what was seen instead.
type Told = (&'static str, Result<String, String>);

/// Every fault that is planted around the simulated ledger, and what was seen of it.
pub fn plants(seed: u64) -> impl Iterator<Item = Result<Told, Fault>> {
    let one = move |fault: Planted| {
        let told = plant(seed, fault)?;
        Ok((fault.name(), told.map(|Failure { step, what }| format!("step {step}: {what}"))))
    };
    Planted::ALL.into_iter().map(one)
}

fn outcome(run: &Run, done: u64, begun: Instant, failures: Vec<String>, tables: Vec<Table>) -> Outcome {
    Outcome {
        title: "Simulation".to_owned(),
        what: "Writers and readers of three scopes, clients that compare and set, refreshers with a provider whose \
               tokens are good once, devices that pair step by step, CA rolls, rotations, reading processes, jumps of \
               the clock in both directions, failing storage calls and power cuts, also during recovery, in one thread \
               and in an order that follows from the seed. In each step, of what it does: secrets are linearizable \
               registers; a lost compare-and-set is refused; two refreshes never hold one lease, which ends when the lab \
               reckons, and a token is sent again only where the lab knows that an answer was lost. After each step one \
               certificate, and after each opening every one: that of a device that was revoked is never accepted. After \
               each opening the state is that before the operation under way or that after it, and an epoch that had \
               reached its age is over. At about every fourth opening, in steps that verify and at an episode's end the \
               state root equals the fold of the log, live and replayed, and an earlier one is what it was. Whenever a \
               process is gone: no nonce is used twice under one key, not even in a history that a power cut took back, \
               and nobody went on after a failed sync."
            .to_owned(),
        command: format!("tools/lab simulate --count {done} --seed {}", run.seed),
        tried: (done, "simulated operations".to_owned()),
        seconds: begun.elapsed().as_secs_f64(),
        failures,
        tables,
        not_tried: vec![
            "Threads inside one process: operations interleave whole. The kill part and the tests of the engine run \
             threads."
                .to_owned(),
            "The sled copy and the lock, which do their own I/O. Keys that the TLS library makes come from the \
             operating system: they are no part of the trace."
                .to_owned(),
        ],
    }
}
