//! Planted faults: what a careless program or machine would do, each seen by the suite that should see it.
//!
//! Nothing is planted in the product's own code. Each fault is planted in what a suite looks at: recorded system calls,
//! the disk and the random source under the ledger, the doors and clients around it, what a child says, the files of a
//! finished ledger. What saw it is the suite's own check, the same that every other case of it goes through.

mod shred;

use std::time::Instant;

use crate::outcome::{Outcome, Table};
use crate::{Fault, Run, faults, kill, power, simulate, tamper};

/// How many planted faults there must be.
const LEAST: u64 = 20;

/// A planted fault.
struct Planted {
    what: String,
    how: String,
    suite: &'static str,
    /// The finding that saw it; otherwise what was seen instead.
    seen: Result<String, String>,
    /// Whether time was over before the suite had looked at everything.
    cut_short: bool,
}

/// The faults of one suite; nothing where it cannot be run here.
struct Suite {
    name: &'static str,
    plants: fn(&Run, Instant) -> Result<Option<Vec<Planted>>, Fault>,
}

/// Those that take longest come last, and get the time that is left.
const SUITES: &[Suite] = &[
    Suite { name: "tamper", plants: in_ledgers },
    Suite { name: "verify", plants: in_the_key_table },
    Suite { name: "simulate", plants: around_the_ledger },
    Suite { name: "faults", plants: under_the_ledger },
    Suite { name: "kill", plants: in_a_child },
    Suite { name: "power", plants: in_recordings },
];

/// Plants every fault.
///
/// # Errors
/// What stood in the way of planting.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let mut table = Table::new("Planted faults", &["fault", "how it was planted", "suite", "seen as"]);
    let (mut failures, mut not_tried, mut count) = (Vec::new(), Vec::new(), 0);
    for suite in SUITES {
        let Some(planted) = (suite.plants)(run, begun)? else {
            not_tried.push(format!("The faults of {}: it cannot be run on this machine.", suite.name));
            continue;
        };
        for Planted { what, how, suite, seen, cut_short } in planted {
            count += 1;
            if let Err(instead) = &seen {
                let so_far = if cut_short { " in the time that it had: give more" } else { "" };
                failures.push(format!(
                    "--seed {}, {suite}: \"{what}\" was planted and not seen{so_far}: {instead}",
                    run.seed
                ));
            }
            let seen = seen.map_or_else(|_| "NOT SEEN".to_owned(), |seen| shortened(&seen));
            table.row(&[what, how, suite.to_owned(), seen]);
        }
    }
    if count < LEAST {
        failures.push(format!("only {count} faults were planted, of {LEAST} at the least"));
    }
    not_tried.push(
        "Faults in the product's own code: the part that makes mutants of it does that. A value that is logged, comparisons that end early and memory that grows are planted by the parts that look for them, \
         leaks and load."
            .to_owned(),
    );
    Ok(Outcome {
        title: "Planted faults".to_owned(),
        what: "Each fault is what a careless program or machine would do, planted in what a suite looks at, and goes \
               through the suite's own check. A fault that is not seen fails this part."
            .to_owned(),
        command: format!("tools/lab plant --seed {}", run.seed),
        tried: (count, "planted faults".to_owned()),
        seconds: begun.elapsed().as_secs_f64(),
        failures,
        tables: vec![table],
        not_tried,
    })
}

/// Where no finding was made at all.
fn nothing() -> String {
    "nothing was found".to_owned()
}

/// A verdict in a cell of a table.
fn shortened(text: &str) -> String {
    let one_line: String = text.chars().filter(|c| *c != '|' && *c != '\n').take(160).collect();
    if one_line.len() < text.len() { format!("{one_line}...") } else { one_line }
}

fn in_ledgers(run: &Run, _: Instant) -> Result<Option<Vec<Planted>>, Fault> {
    let of = |planted: tamper::Planted| Planted {
        what: planted.what.to_owned(),
        how: planted.how.to_owned(),
        suite: "tamper",
        seen: planted.seen.ok_or_else(nothing),
        cut_short: false,
    };
    Ok(Some(tamper::plants(run.seed)?.into_iter().map(of).collect()))
}

fn in_the_key_table(run: &Run, _: Instant) -> Result<Option<Vec<Planted>>, Fault> {
    let one = |(what, how): (&str, &str), seen| Planted {
        what: what.to_owned(),
        how: how.to_owned(),
        suite: "verify, as after every kill, cut and fault",
        seen,
        cut_short: false,
    };
    Ok(Some(shred::plants(run.seed)?.into_iter().map(|(words, seen)| one(words, seen)).collect()))
}

fn around_the_ledger(run: &Run, _: Instant) -> Result<Option<Vec<Planted>>, Fault> {
    let one = |planted: Result<(&str, Result<String, String>), Fault>| {
        let (what, seen) = planted?;
        let how = "around the simulated ledger: in its disk, random source, clients and doors".to_owned();
        Ok(Planted { what: what.to_owned(), how, suite: "simulate", seen, cut_short: false })
    };
    simulate::plants(run.seed).map(one).collect::<Result<Vec<_>, Fault>>().map(Some)
}

fn under_the_ledger(run: &Run, _: Instant) -> Result<Option<Vec<Planted>>, Fault> {
    let seen = faults::planted(run.seed)?.ok_or_else(nothing);
    Ok(Some(vec![Planted {
        what: "syncs that do nothing, under the mixed workload".to_owned(),
        how: "the storage trait: syncing a file does nothing".to_owned(),
        suite: "faults",
        seen,
        cut_short: false,
    }]))
}

fn in_a_child(run: &Run, _: Instant) -> Result<Option<Vec<Planted>>, Fault> {
    let seen = kill::planted(run)?.map(|(kill, what)| format!("at kill {kill}: {what}"));
    let seen = seen.ok_or_else(nothing);
    Ok(Some(vec![Planted {
        what: "an event is acknowledged before its batch".to_owned(),
        how: "the child says that an operation is done before it does it".to_owned(),
        suite: "kill",
        seen,
        cut_short: false,
    }]))
}

fn in_recordings(run: &Run, begun: Instant) -> Result<Option<Vec<Planted>>, Fault> {
    // At the least a few seconds each: where the others took everything, this part takes longer than it was given.
    let left = run.budget.saturating_sub(begun.elapsed()).max(power::PLANTS_LEAST);
    let of = |planted: power::Planted| Planted {
        what: planted.what.to_owned(),
        how: "in the recorded system calls".to_owned(),
        suite: "power",
        cut_short: planted.cut_short,
        seen: planted.seen.map(|seen| format!("state {}: {seen}", planted.states)).ok_or_else(nothing),
    };
    Ok(power::planted(run, left)?.map(|all| all.into_iter().map(of).collect()))
}
