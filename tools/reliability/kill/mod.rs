//! A child under mixed load is killed with SIGKILL at random instants; what it acknowledged is there afterwards, and
//! what it did not acknowledge is there wholly or not at all.

mod child;
mod kills;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub use child::{Orders, child};

use crate::outcome::{Outcome, Table};
use crate::workload::Dice;
use crate::{Fault, Run};
use kills::{Figures, Home};

/// Kills that one home lives through before a fresh one begins.
const KILLS_PER_HOME: u64 = 40;
/// Kills within which the planted fault must be seen.
const PLANTED_KILLS: u64 = 40;
/// Failures after which there is nothing more to learn.
const FAILURES_MAX: usize = 20;

/// Kills children until the budget is used up or the count is reached.
///
/// # Errors
/// What stood in the way of trying.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let seen = planted(run)?;
    let mut failures = Vec::new();
    if seen.is_none() {
        failures.push(format!(
            "the check is blind: {PLANTED_KILLS} children that acknowledged before they acted were killed, and none was caught"
        ));
    }
    let lanes = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    let (kills, homes) = (AtomicU64::new(0), AtomicU64::new(0));
    let (found, figures) = (Mutex::new(failures), Mutex::new(Figures::default()));
    let over = || match run.count {
        Some(count) => kills.load(Ordering::Relaxed) >= count,
        None => begun.elapsed() >= run.budget,
    };
    std::thread::scope(|scope| {
        let lane = || -> Result<(), Fault> {
            while !over() {
                let number = homes.fetch_add(1, Ordering::Relaxed);
                let mut home = Home::new(run, number, false)?;
                let mut lived = 0;
                while lived < KILLS_PER_HOME && !over() {
                    let done = home.kill();
                    lived += home.take_kills(&kills);
                    if let Err(fault) = done {
                        let mut found = lock(&found);
                        found.push(format!("--seed {}, home {number}, kill {lived}: {fault}", run.seed));
                        home.keep();
                        if found.len() >= FAILURES_MAX {
                            kills.store(u64::MAX / 2, Ordering::Relaxed);
                            return Ok(());
                        }
                        break;
                    }
                }
                lock(&figures).add(home.figures());
                home.remove()?;
            }
            Ok(())
        };
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| Fault::from("a lane panicked"))?)
    })?;
    let figures = figures.into_inner().unwrap_or_default();
    let seconds = begun.elapsed().as_secs_f64();
    Ok(outcome(run, &figures, seen, found.into_inner().unwrap_or_default(), seconds))
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Children that say that something is done before they do it: after how many kills the check sees it.
pub fn planted(run: &Run) -> Result<Option<(u64, String)>, Fault> {
    let mut home = Home::new(run, u64::MAX, true)?;
    for kill in 1..=PLANTED_KILLS {
        if let Err(fault) = home.kill() {
            home.remove()?;
            return Ok(Some((kill, fault.to_string())));
        }
    }
    home.remove()?;
    Ok(None)
}

fn outcome(run: &Run, figures: &Figures, seen: Option<(u64, String)>, failures: Vec<String>, seconds: f64) -> Outcome {
    let mut table = Table::new("Kills", &["what", "number"]);
    let rate = format!("{:.1}", figures.kills as f64 / seconds.max(0.001));
    let rows = [
        ("kills under load", (figures.kills - figures.opening).to_string()),
        ("kills while the home was being opened after another kill", figures.opening.to_string()),
        ("kills a second", rate),
        ("homes, each killed up to 40 times", figures.homes.to_string()),
        ("operations acknowledged, all there", figures.acknowledged.to_string()),
        ("operations under way at a kill, found done", figures.whole.to_string()),
        ("operations under way at a kill, found not begun", figures.absent.to_string()),
        ("acknowledged backups restored, verified and compared", figures.restored.to_string()),
        ("events of the longest log", figures.events.to_string()),
        (
            "kill after which a planted early acknowledgement was seen",
            seen.map_or("never".into(), |(at, what)| format!("{at}: {what}")),
        ),
    ];
    for (what, number) in &rows {
        table.row(&[(*what).to_owned(), number.clone()]);
    }
    let mut lanes = Table::new("Operations acknowledged", &["lane", "number"]);
    for (lane, number) in &figures.by_lane {
        lanes.row(&[lane.clone(), number.to_string()]);
    }
    Outcome {
        title: "Kill".to_owned(),
        what: "A process with six threads at work (three scopes of the vault; devices and the CA; credentials and \
               refreshes; rotations, slots, checkpoints and backups) on the real file system, with the sled copy, is \
               killed with SIGKILL at a random instant, again and again on the same home. Each thread says on a pipe \
               what it begins and what was acknowledged. After each kill the home is opened, verified with its state \
               (now and then with its second copy), and compared with a model: of each thread, everything that was \
               acknowledged is there, and the one operation that was under way is there wholly or not at all. Every backup \
               that was acknowledged is restored, and compared with what was acknowledged when it began. A \
               child that ends in another way than by the kill, or does not open within a minute, is a failure."
            .to_owned(),
        command: format!("tools/lab kill --count {} --seed {}", figures.kills, run.seed),
        tried: (figures.kills, "kills".to_owned()),
        seconds,
        failures,
        tables: vec![table, lanes],
        not_tried: vec![
            "A kill leaves the page cache as it is: what a power cut leaves is another part. The operations follow \
             from the seed; the instants of the kills do not."
                .to_owned(),
            "Backends other than the ledger, and a daemon (`serve`) as the process that is killed.".to_owned(),
        ],
    }
}

/// The choices of one home.
fn dice(run: &Run, home: u64) -> Dice {
    Dice::of(run.seed, home)
}
