//! Tampering: real ledgers are altered in every way that the forensic tool's corpus knows, at random places, and
//! examined with no key, with the public key and an anchor, and with all keys.
//!
//! Each class says what each level must show: `told` where the log itself stays whole, `wrong` where the verdict must be
//! that something is. An alteration that changes nothing is a fault of the lab, and so is a class without a case.

mod bound;
mod class;
mod corpus;
mod cut;
mod files;
mod forged;
mod judge;
mod keys;
mod log;
mod planted;
mod raw;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::outcome::{Outcome, Table};
use crate::workload::Dice;
use crate::{Fault, Run};
use class::{Case, Class};
use corpus::Corpus;
use judge::{Level, Seen, State};
pub use planted::{Planted, all as plants};

/// Cases on one ledger, before another one is made.
const CASES_PER_LEDGER: u64 = 4_000;
/// How often a class is asked for a place.
const PLACES: u64 = 200;
/// Failures that are told of one class.
const TOLD: usize = 5;

/// What was found of one class.
#[derive(Debug, Clone, Default)]
struct Tally {
    tried: u64,
    /// By level: how often it was told, and how often the verdict was that something is wrong.
    told: [u64; 3],
    wrong: [u64; 3],
    /// Levels that must show it, over all cases; and those of them that named every place.
    asked: u64,
    located: u64,
    failures: Vec<String>,
}

/// Every class.
fn classes() -> Vec<&'static Class> {
    [raw::CLASSES, forged::CLASSES, cut::CLASSES, keys::CLASSES].into_iter().flatten().collect()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tampers until the budget is used up or the count is reached.
///
/// # Errors
/// What stood in the way of trying, or a class that altered nothing.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let classes = classes();
    let (done, tallies) = (AtomicU64::new(0), Mutex::new(BTreeMap::<usize, Tally>::new()));
    let (mut ledgers, mut elsewhere, mut unbound) = (Vec::new(), 0, Vec::new());
    let more = |done: u64| run.count.map_or_else(|| begun.elapsed() < run.budget, |count| done < count);
    while ledgers.is_empty() || more(done.load(Ordering::Relaxed)) {
        let corpus = Corpus::new(seed_of(run.seed, ledgers.len() as u64))?;
        ledgers.push((corpus.frames.len(), corpus.log.segments.len()));
        match bound::check(&corpus, &bound::really) {
            Ok(tried) => elsewhere += tried,
            Err(fault) => unbound.push(fault.to_string()),
        }
        let left = run.count.map_or(u64::MAX, |count| count.saturating_sub(done.load(Ordering::Relaxed)));
        let next = AtomicU64::new(0);
        let lane = || -> Result<(), Fault> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                // Every class has its turn before time counts.
                let over = run.count.is_none() && number >= classes.len() as u64 && !more(0);
                if number >= left.min(CASES_PER_LEDGER) || over {
                    return Ok(());
                }
                let (at, tally) = one(&corpus, &classes, number)?;
                done.fetch_add(tally.tried, Ordering::Relaxed);
                lock(&tallies).entry(at).or_default().add(tally);
            }
        };
        std::thread::scope(|scope| {
            let lanes = std::thread::available_parallelism().map_or(1, usize::from);
            let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| Fault::from("a lane panicked"))?)
        })?;
    }
    let tallies = tallies.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut outcome = outcome(run, done.into_inner(), &classes, &tallies, &ledgers);
    let what = "envelopes opened in another place, with another key or as another version: all refused";
    outcome.tables.iter_mut().skip(1).for_each(|of| of.row(&[what.to_owned(), elsewhere.to_string()]));
    outcome.failures.extend(unbound);
    outcome.seconds = begun.elapsed().as_secs_f64();
    Ok(outcome)
}

/// The seed of a ledger; the first has the run's own. Drawn, so that no two have one course of choices.
fn seed_of(seed: u64, number: u64) -> u64 {
    if number == 0 { seed } else { Dice::of(seed, number).number() }
}

/// A case of a ledger, by its number: all follows from both.
fn one(corpus: &Corpus, classes: &[&Class], number: u64) -> Result<(usize, Tally), Fault> {
    let at = usize::try_from(number % classes.len() as u64)?;
    let class = classes.get(at).ok_or("no class")?;
    let mut dice = Dice::of(corpus.seed, number);
    let case = (0..PLACES).find_map(|_| (class.make)(corpus, &mut dice));
    let Some(case) = case else { return Ok((at, Tally::default())) };
    let shown = case.anchor.as_deref().is_some_and(|note| note != corpus.anchor.note().as_bytes());
    if case.files.changed(&corpus.files).is_empty() && !shown {
        return Err(format!("\"{}\" altered nothing: --seed {}, case {number}", class.name, corpus.seed).into());
    }
    Ok((at, judge(corpus, class, &case, number)))
}

fn judge(corpus: &Corpus, class: &Class, case: &Case, number: u64) -> Tally {
    let mut tally = Tally { tried: 1, ..Tally::default() };
    let again = format!("--seed {} --count {}: {}", corpus.seed, number + 1, class.name);
    let by_level = Level::ALL.into_iter().zip(class.needs).zip(&case.spots).zip(&corpus.clean);
    for (column, (((level, needed), spots), clean)) in by_level.enumerate() {
        let examined = catch_unwind(AssertUnwindSafe(|| State::of(corpus, &case.files, level, case.anchor.as_deref())));
        let Ok(state) = examined else {
            tally.failures.push(format!("{again}: with {} the examination panicked", level.name()));
            continue;
        };
        let seen = state.seen(clean);
        for (of, counts) in [(Seen::Told, &mut tally.told), (Seen::Wrong, &mut tally.wrong)] {
            if let Some(count) = counts.get_mut(column).filter(|_| seen == of) {
                *count += 1;
            }
        }
        if needed == Seen::Nothing {
            continue;
        }
        tally.asked += 1;
        if seen < needed {
            let (verdict, level) = (&state.verdict, level.name());
            tally.failures.push(format!("{again}: not detected with {level}: {verdict}, {:?}", state.findings));
        } else if state.locates(spots, clean) {
            tally.located += 1;
        } else {
            let (verdict, level, found) = (&state.verdict, level.name(), &state.findings);
            tally.failures.push(format!("{again}: not located with {level}: {spots:?} in {verdict}, {found:?}"));
        }
    }
    tally
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.told.iter_mut().zip(other.told).for_each(|(sum, one)| *sum += one);
        self.wrong.iter_mut().zip(other.wrong).for_each(|(sum, one)| *sum += one);
        self.asked += other.asked;
        self.located += other.located;
        self.failures.extend(other.failures);
    }
}

const WHAT: &str = "Ledgers with events of all three domains, made by the mixed workload: closed segments, rotations, \
    destroyed keys, own checkpoints, earlier states, another branch of their history, and another ledger. Each is \
    altered at random places and examined as `palyra-forensic verify` does, with no key, with the public key and an \
    anchor of all events, and with all keys and no anchor. The unkeyed chain shows what was not made to fit; bodies, \
    key slots and the head file's MAC show, with the keys, what a writer without keys made to fit; an anchor shows what \
    is whole in itself. What a level must show it must also locate: name the event, a range with it in it, or the file.";

fn outcome(
    run: &Run,
    done: u64,
    classes: &[&Class],
    tallies: &BTreeMap<usize, Tally>,
    ledgers: &[(usize, usize)],
) -> Outcome {
    let header =
        ["alteration", "tried", "must be seen with", "seen: no key", "public key, anchor", "all keys", "located"];
    let mut table =
        Table::new("Seen / told as a remark, of all that were tried; located, of all that must be", &header);
    let mut failures = Vec::new();
    for (at, class) in classes.iter().enumerate() {
        let tally = tallies.get(&at).cloned().unwrap_or_default();
        if tally.tried == 0 && done >= classes.len() as u64 {
            failures.push(format!("no ledger had a place for \"{}\"", class.name));
        }
        let mut row = vec![class.name.to_owned(), tally.tried.to_string(), needs(class)];
        row.extend(tally.wrong.iter().zip(&tally.told).map(|(wrong, told)| match told {
            0 => wrong.to_string(),
            told => format!("{wrong} / {told}"),
        }));
        row.push(if tally.asked == 0 { String::new() } else { format!("{} of {}", tally.located, tally.asked) });
        table.row(&row);
        failures.extend(tally.failures.into_iter().take(TOLD));
    }
    let events: usize = ledgers.iter().map(|(events, _)| events).sum();
    let segments: usize = ledgers.iter().map(|(_, segments)| segments).sum();
    let mut of = Table::new("What was altered", &["what", "number"]);
    for (what, number) in [("ledgers", ledgers.len()), ("their events", events), ("their segments", segments)] {
        of.row(&[what.to_owned(), number.to_string()]);
    }
    Outcome {
        title: "Tampering".to_owned(),
        what: WHAT.to_owned(),
        command: format!("tools/lab tamper --count {done} --seed {}", run.seed),
        tried: (done, "alterations".to_owned()),
        seconds: 0.0,
        failures,
        tables: vec![table, of],
        not_tried: vec![
            "What nobody can see is not asked for: an end cut back to the older record of the head file without an \
             anchor, a whole older copy without an anchor, one of two copies that differ in what nothing uses."
                .to_owned(),
            "Somebody who has the keys: only an anchor that was kept elsewhere speaks against that.".to_owned(),
            "The index, the sled copy and the settings, which the forensic tool does not judge by; key files of slots \
             that are not in use; carving, which its own tests try."
                .to_owned(),
        ],
    }
}

/// The levels at which a class must be seen.
fn needs(class: &Class) -> String {
    let wanted = Level::ALL.iter().zip(class.needs).filter(|(_, needed)| *needed != Seen::Nothing);
    let name = |(level, needed): (&Level, Seen)| match needed {
        Seen::Told => format!("{} (told)", level.name()),
        _ => level.name().to_owned(),
    };
    let names: Vec<String> = wanted.map(name).collect();
    match names.len() {
        0 => "none".to_owned(),
        3 if class.needs == [Seen::Wrong; 3] => "any".to_owned(),
        _ => names.join(", "),
    }
}
