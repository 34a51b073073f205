//! Power loss: system calls of real runs are recorded, and every disk that a power cut could have left is rebuilt and
//! opened.
//!
//! ```text
//! a child under strace --> calls --> model of the disk --> images at every point --> laid out, opened, checked
//!                                                              |
//!                                                              +--> recovery recorded in turn: a second cut
//! ```

mod content;
mod disk;
mod image;
mod ledger;
mod peers;
mod plant;
mod record;
mod replay;
mod shadow;
mod states;
mod subject;
mod sweep;
mod trace;

use std::time::{Duration, Instant};

pub use plant::Planted;
pub use record::child;

use crate::outcome::{Outcome, Table};
use crate::{Fault, Run};
use subject::Subject;
use sweep::{Left, Sweep, Tally};

/// States that are tried of each peer at most.
const PEER_STATES: u64 = 2_000;
/// Hundredths of the budget that planted faults may take.
const PLANTS_SHARE: u32 = 15;
/// Time that every planted fault together needs at the least.
pub const PLANTS_LEAST: Duration = Duration::from_mins(1);

const WHAT: &str = "The system calls of real runs are recorded with strace, the acknowledgements among them. At every point \
    of a recording the disks are rebuilt that a power cut could leave: data is durable by fsync or fdatasync of that \
    file, names by fsync of the folder, sync_file_range does nothing; of what is pending nothing survives, everything, \
    each operation alone, each but one, random choices, writes torn at 512 bytes, growth filled with zeros or with what \
    the disk held before. Then recoveries of some of these disks are recorded and cut in turn. Each disk is opened with \
    the library: every acknowledged command has to be there, whole, `verify` with the state clean, nothing half done, \
    and opening it once more must change nothing. A state counts once for each image and number of acknowledgements.";

/// Runs the part.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let mut outcome = Outcome {
        title: "Power loss".to_owned(),
        what: WHAT.to_owned(),
        command: format!("tools/lab power --seed {}", run.seed),
        tried: (0, "states of the disk".to_owned()),
        seconds: 0.0,
        failures: Vec::new(),
        tables: Vec::new(),
        not_tried: vec![
            "Drives that lie about a flush, and faults of the file system itself: the model takes both at their word."
                .to_owned(),
        ],
    };
    if !record::recorder() {
        outcome.not_tried.push("Everything: strace is not installed on this machine.".to_owned());
        return Ok(outcome);
    }
    let mut sweep = Sweep::new(run)?;
    if let Some((subject, seed, recording)) = states::Recording::asked_for()? {
        let tally = sweep.try_all(subject, &recording, seed, &mut left(run, begun, 100))?;
        outcome.tried.0 = tally.states;
        outcome.failures = tally.failures;
        return Ok(outcome);
    }
    plants(run, &mut sweep, begun, &mut outcome)?;
    peers(run, &mut sweep, begun, &mut outcome)?;
    ledgers(run, &mut sweep, begun, &mut outcome)?;
    outcome.seconds = begun.elapsed().as_secs_f64();
    Ok(outcome)
}

/// What is left of the time or the count after a part that may take so many hundredths of it.
fn left(run: &Run, begun: Instant, hundredths: u32) -> Left {
    match run.count {
        Some(count) => Left::states(count * u64::from(hundredths) / 100),
        None => Left::until(begun + run.budget * hundredths / 100),
    }
}

fn plants(run: &Run, sweep: &mut Sweep, begun: Instant, outcome: &mut Outcome) -> Result<(), Fault> {
    let mut table = Table::new("Faults planted in recordings", &["fault", "states", "seen as"]);
    let all = plant::all(run.seed, sweep, &left(run, begun, PLANTS_SHARE))?;
    let (count, mut open) = (all.len(), 0);
    if all.iter().all(|planted| planted.seen.is_none()) {
        outcome.failures.push("not one planted fault was seen: the check is blind, or had no time".to_owned());
    }
    for planted in all {
        let seen = match planted.seen {
            Some(seen) => seen,
            None if planted.cut_short => {
                open += 1;
                "no time was left".to_owned()
            }
            None => {
                outcome.failures.push(format!("the planted fault \"{}\" was not seen", planted.what));
                "NOT SEEN".to_owned()
            }
        };
        table.row(&[planted.what.to_owned(), planted.states.to_string(), seen]);
    }
    if open > 0 {
        let what = "of the planted faults had no time to be seen here; `tools/lab plant` plants every one";
        outcome.not_tried.push(format!("{open} of {count} {what}."));
    }
    outcome.tables.push(table);
    Ok(())
}

/// Every fault that is planted in recordings, for the part that plants; nothing where there is no recorder.
pub fn planted(run: &Run, budget: Duration) -> Result<Option<Vec<Planted>>, Fault> {
    if !record::recorder() {
        return Ok(None);
    }
    let left = Left::until(Instant::now() + budget);
    plant::all(run.seed, &mut Sweep::new(run)?, &left).map(Some)
}

fn peers(run: &Run, sweep: &mut Sweep, begun: Instant, outcome: &mut Outcome) -> Result<(), Fault> {
    let header = ["store", "states", "good", "lost", "does not open", "does not open, cut at creation"];
    let mut table = Table::new("Peers, 20 puts of 200 bytes, each acknowledged", &header);
    let count = peers::SUBJECTS.len();
    // Some of them panic over what they find: that is counted, and not told in full.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let tried = each_peer(run, sweep, begun, count, &mut table);
    std::panic::set_hook(hook);
    outcome.not_tried.extend(tried?);
    outcome.tables.push(table);
    Ok(())
}

/// Tries every peer; says of which not all states were.
fn each_peer(
    run: &Run,
    sweep: &mut Sweep,
    begun: Instant,
    count: usize,
    table: &mut Table,
) -> Result<Vec<String>, Fault> {
    let mut not_tried = Vec::new();
    for (subject, share) in peers::SUBJECTS.iter().zip(1_u32..) {
        let mut left = left(run, begun, PLANTS_SHARE + 25 * share / u32::try_from(count)?);
        left.bound(run.count.map_or(PEER_STATES, |states| states / 20));
        let recording = sweep.recording(subject, run.seed)?;
        let tally = sweep.try_all(subject, &recording, run.seed, &mut left)?;
        let mut row = vec![subject.what.to_owned()];
        row.extend([tally.states, tally.good, tally.lost, tally.unopened, tally.unmade].map(|sum| sum.to_string()));
        table.row(&row);
        if tally.cut_short {
            not_tried.push(format!("{}: not all of its states.", subject.what));
        }
    }
    Ok(not_tried)
}

fn ledgers(run: &Run, sweep: &mut Sweep, begun: Instant, outcome: &mut Outcome) -> Result<(), Fault> {
    let header = ["recorded", "recordings", "points", "states", "of them second cuts", "failed"];
    let mut table = Table::new("Palyra Ledger", &header);
    let mut tallies: Vec<(&Subject, u64, Tally, u64)> =
        ledger::SUBJECTS.iter().map(|subject| (subject, 0, Tally::default(), 0)).collect();
    let mut budget = left(run, begun, 100);
    'all: for round in 0.. {
        let count = tallies.len();
        for (at, (subject, recordings, tally, again)) in tallies.iter_mut().enumerate() {
            if budget.is_over() {
                break 'all;
            }
            let seed = run.seed.wrapping_add(round);
            // The first round is shared out, so that a short run meets every kind.
            let mut share = if round == 0 { budget.share(count - at) } else { budget.clone() };
            let recording = sweep.recording(subject, seed)?;
            let first = sweep.try_all(subject, &recording, seed, &mut share)?;
            *recordings += 1;
            budget.took(first.states);
            let chosen = first.chosen.clone();
            tally.add(first);
            for state in chosen {
                if budget.is_over() {
                    break;
                }
                let recording = sweep.recovery(subject, &state, seed)?;
                let mut share = budget.clone();
                let second = sweep.try_all(subject, &recording, seed, &mut share)?;
                budget.took(second.states);
                *again += second.states;
                tally.add(second);
            }
        }
    }
    for (subject, recordings, tally, again) in tallies {
        outcome.tried.0 += tally.states;
        let failed = tally.states - tally.good;
        let cells = [recordings, tally.points, tally.states, again, failed].map(|sum| sum.to_string());
        table.row(&[vec![subject.what.to_owned()], cells.to_vec()].concat());
        outcome.failures.extend(tally.failures);
        if recordings == 0 {
            outcome.not_tried.push(format!("{}: no time was left.", subject.what));
        }
    }
    outcome.tables.push(table);
    Ok(())
}
