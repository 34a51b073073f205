//! The child: one thread for each lane, each saying what it begins and what is done.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use palyra_ledger::{ArgonCost, AuditReads, Config, Ledger};
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::workload::{Dice, LANES, Lane, Op, act, choose, find, settings};

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    /// Where.
    pub home: PathBuf,
    /// Where backups go.
    pub scratch: PathBuf,
    /// Its choices.
    pub seed: u64,
    /// Only opens the home.
    pub only_open: bool,
    /// Says that something is done before it is: a planted fault.
    pub early: bool,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// The home is open.
    Open,
    /// An operation begins.
    Trying(Lane, Op),
    /// It was acknowledged.
    Done(Lane),
    /// It failed, which it must not.
    Failed(String),
}

/// How the home is opened, by parent and child.
pub fn config(home: impl Into<PathBuf>) -> Config {
    Config::new(home).argon_cost(ArgonCost::for_tests()).settings(settings(AuditReads::Batched))
}

fn say(said: &Said) -> Result<(), Fault> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// Works until it is killed.
///
/// # Errors
/// What stood in the way; what a lane met is said on the pipe.
pub fn child(orders: &Orders) -> Result<(), Fault> {
    let open = || -> Result<_, Fault> {
        let ledger = Ledger::open(config(&orders.home))?;
        let world = find(&ledger, false)?;
        Ok((ledger, world))
    };
    let (ledger, world) = open().inspect_err(|fault| drop(say(&Said::Failed(format!("opening: {fault}")))))?;
    say(&Said::Open)?;
    if orders.only_open {
        std::thread::sleep(Duration::from_mins(1));
        return Ok(());
    }
    std::thread::scope(|scope| {
        for (number, lane) in (0..).zip(LANES) {
            let (ledger, mut world) = (&ledger, world.clone());
            let mut work = move || -> Result<(), Fault> {
                let mut dice = Dice::of(orders.seed, number);
                loop {
                    let op = choose(&world, lane, &mut dice);
                    say(&Said::Trying(lane, op.clone()))?;
                    if orders.early {
                        say(&Said::Done(lane))?;
                    }
                    act(ledger, lane, &op, &orders.scratch).map_err(|fault| format!("{op:?}: {fault}"))?;
                    if !orders.early {
                        say(&Said::Done(lane))?;
                    }
                    world.apply(lane, &op)?;
                }
            };
            // A lane that ends, and be it by a panic, must not go quiet beside the others.
            scope.spawn(move || {
                let done = catch_unwind(AssertUnwindSafe(&mut work)).unwrap_or_else(|_| Err("it panicked".into()));
                done.or_else(|fault| say(&Said::Failed(format!("{lane:?}: {fault}"))))
            });
        }
    });
    Ok(())
}
