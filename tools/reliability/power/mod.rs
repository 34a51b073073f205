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
use states::Seen;
use subject::Subject;
use sweep::{Left, Sweep, Tally};

/// States that are tried of each peer at most.
const PEER_STATES: u64 = 2_000;
/// Hundredths of the budget that planted faults may take.
const PLANTS_SHARE: u32 = 15;
/// Time that every planted fault together needs at the least.
pub const PLANTS_LEAST: Duration = Duration::from_mins(1);

/// Recoveries of each recording that are cut at most, and how many of them at the least share what is left.
const RECOVERIES: usize = 200;
const RECOVERIES_AT_ONCE: usize = 4;
/// Time that a subject has at the least once it is recorded.
const LEAST: Duration = Duration::from_secs(1);
/// With less than that, a subject of which nothing was tried is no failure.
const TINY: Duration = Duration::from_secs(30);
const TINY_STATES: u64 = 1_000;

const WHAT: &str = "The system calls of real runs are recorded with strace, the acknowledgements among them. At every point \
    of a recording the disks are rebuilt that a power cut could leave: data is durable by fsync or fdatasync of that \
    file, names by fsync of the folder, sync_file_range does nothing; of what is pending nothing survives, everything, \
    each operation alone, each but one, random choices, writes torn at 512 bytes, growth filled with zeros or with what \
    the disk held before. Then recoveries of such disks, drawn from all points, are recorded and cut in turn: they get half \
    of the time. Each disk is opened with \
    the library: every acknowledged command has to be there, whole, `verify` with the state clean, nothing half done, \
    and opening it once more must change nothing. A state counts once for each subject, image and number of acknowledgements.";

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
        outcome.failures.push("nothing was tried: strace is not installed on this machine".to_owned());
        return Ok(outcome);
    }
    let mut sweep = Sweep::new(run)?;
    if let Some((subject, seed, recording)) = states::Recording::asked_for()? {
        let tally = sweep.try_all(subject, &recording, seed, &mut left(run, begun, 100), &mut Seen::new())?;
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
    let (count, mut open, mut nowhere) = (all.len(), 0, Vec::new());
    if all.iter().all(|planted| planted.seen.is_none()) {
        outcome.failures.push("not one planted fault was seen: the check is blind, or had no time".to_owned());
    }
    for planted in all {
        let seen = match planted.seen {
            Some(seen) => seen,
            None if !planted.placed => {
                nowhere.push(planted.what);
                "no recording had a place for it".to_owned()
            }
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
    if !nowhere.is_empty() {
        outcome.failures.push(format!("no recording had a place for the planted faults: {}", nowhere.join("; ")));
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
        let tally = sweep.try_all(subject, &recording, run.seed, &mut left, &mut Seen::new())?;
        let mut row = vec![subject.what.to_owned()];
        row.extend([tally.states, tally.good, tally.lost, tally.unopened, tally.unmade].map(|sum| sum.to_string()));
        table.row(&row);
        if tally.cut_short {
            not_tried.push(format!("{}: not all of its states.", subject.what));
        }
    }
    Ok(not_tried)
}

/// A subject, and what was found of it.
struct Tried {
    subject: &'static Subject,
    recordings: u64,
    tally: Tally,
    recoveries: u64,
    again: u64,
    seen: Seen,
    /// What stood in the way of recording it.
    unrecorded: Option<Fault>,
}

impl Tried {
    fn of(subject: &'static Subject) -> Self {
        let (tally, seen) = (Tally::default(), Seen::new());
        Self { subject, recordings: 0, tally, recoveries: 0, again: 0, seen, unrecorded: None }
    }

    /// Records it and cuts the power, then cuts it once more in recoveries, for which half of `left` is kept.
    fn round(&mut self, sweep: &mut Sweep, seed: u64, left: &Left) -> Result<u64, Fault> {
        let recording = match sweep.recording(self.subject, seed) {
            Ok(recording) => recording,
            Err(fault) => {
                self.unrecorded = Some(fault);
                return Ok(0);
            }
        };
        self.recordings += 1;
        let mut left = left.clone();
        // Recording may have taken it all: some states are tried whatever the budget is.
        left.at_least(LEAST);
        let first = sweep.try_all(self.subject, &recording, seed, &mut left.half(), &mut self.seen)?;
        let mut tried = first.states;
        left.took(first.states);
        self.tally.add(first);
        let drawn = recording.drawn(seed, RECOVERIES)?;
        for (at, state) in drawn.iter().enumerate() {
            if left.is_over() {
                break;
            }
            let recovery = match sweep.recovery(self.subject, state, seed) {
                Ok(recovery) => recovery,
                Err(fault) => {
                    self.tally.failures.push(format!("{}, seed {seed}, a recovery: {fault}", self.subject.name));
                    continue;
                }
            };
            let mut share = left.share((drawn.len() - at).min(RECOVERIES_AT_ONCE));
            let second = sweep.try_all(self.subject, &recovery, seed, &mut share, &mut self.seen)?;
            left.took(second.states);
            (self.recoveries, self.again) = (self.recoveries + 1, self.again + second.states);
            tried += second.states;
            self.tally.add(second);
        }
        Ok(tried)
    }
}

fn ledgers(run: &Run, sweep: &mut Sweep, begun: Instant, outcome: &mut Outcome) -> Result<(), Fault> {
    let header = ["recorded", "recordings", "points", "states", "recoveries cut", "states of these", "failed"];
    let mut table = Table::new("Palyra Ledger", &header);
    let mut all: Vec<Tried> = ledger::SUBJECTS.iter().map(Tried::of).collect();
    let mut budget = left(run, begun, 100);
    'all: for round in 0.. {
        let (count, mut progress) = (all.len(), 0);
        for (at, tried) in all.iter_mut().enumerate() {
            // In the first round each has its turn: a share, however small.
            if round > 0 && budget.is_over() {
                break 'all;
            }
            let states = tried.round(sweep, run.seed.wrapping_add(round), &budget.share(count - at))?;
            budget.took(states);
            progress += states;
        }
        if progress == 0 {
            break;
        }
    }
    let tiny = run.count.map_or(run.budget < TINY, |count| count < TINY_STATES);
    for Tried { subject, recordings, tally, recoveries, again, unrecorded, .. } in all {
        outcome.tried.0 += tally.states;
        let failed = tally.states - tally.good;
        let cells = [recordings, tally.points, tally.states, recoveries, again, failed].map(|sum| sum.to_string());
        table.row(&[vec![subject.what.to_owned()], cells.to_vec()].concat());
        outcome.failures.extend(tally.failures);
        if let Some(fault) = unrecorded {
            outcome.failures.push(format!("{}: no recording: {fault}", subject.name));
        } else if tally.states == 0 && tiny {
            outcome.not_tried.push(format!("{}: the budget is too small for any state of it.", subject.what));
        } else if tally.states == 0 {
            outcome.failures.push(format!("{}: no state of it was tried", subject.name));
        } else if again == 0 {
            outcome.not_tried.push(format!("{}: no second cut.", subject.what));
        }
    }
    outcome.tables.push(table);
    Ok(())
}
