//! What each test takes, and which mutants it comes by: no other test can kill a mutant.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::LANES;
use super::build::Program;
use super::trial::{Call, Ended, names, tests};
use crate::Fault;

/// A test, by itself and without a mutant.
const MOST: Duration = Duration::from_mins(10);

/// A test.
#[derive(Debug)]
pub struct Test {
    /// Number of its program.
    pub program: usize,
    /// Its name in it.
    pub name: String,
    /// What it takes by itself.
    pub takes: Duration,
    /// The mutants that it comes by; none where it does not bear to be watched.
    reaches: Option<BTreeSet<u32>>,
}

impl Test {
    /// Whether it can tell of a mutant.
    pub fn reaches(&self, mutant: u32) -> bool {
        self.reaches.as_ref().is_none_or(|reaches| reaches.contains(&mutant))
    }

    /// Whether it is known which mutants it comes by.
    pub const fn is_known(&self) -> bool {
        self.reaches.is_some()
    }
}

/// Runs every test by itself, without a mutant: each must pass. Gives what failed as well.
pub fn survey(root: &Path, programs: &[Program]) -> Result<(Vec<Test>, Vec<String>), Fault> {
    let mut all = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        all.extend(names(root, program)?.into_iter().map(|name| (number, name)));
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new((Vec::new(), Vec::new())));
    let lane = || -> Result<(), Fault> {
        while let Some((number, name)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let program = programs.get(*number).ok_or("no such program")?;
            let (test, failed) = one(root, program, *number, name)?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.0.push(test);
            done.1.extend(failed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| Fault::from("a lane panicked"))?)
    })?;
    let (mut found, failures) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by(|one: &Test, other| (one.program, &one.name).cmp(&(other.program, &other.name)));
    Ok((found, failures))
}

fn one(root: &Path, program: &Program, number: usize, name: &str) -> Result<(Test, Option<String>), Fault> {
    let noted = tempfile::NamedTempFile::new()?;
    let mut call = Call { program, names: &[name], mutant: 0, reached: Some(noted.path()), most: MOST };
    let begun = Instant::now();
    let mut ended = tests(root, &call)?;
    let mut takes = begun.elapsed();
    let mut reaches = None;
    if ended == Ended::Passed {
        let text = fs::read_to_string(noted.path())?;
        reaches = Some(text.lines().map(str::parse).collect::<Result<_, _>>()?);
    } else {
        // It counts files, or is traced: it is left alone, and asked about every mutant.
        call.reached = None;
        let begun = Instant::now();
        ended = tests(root, &call)?;
        takes = begun.elapsed();
    }
    let failed = match ended {
        Ended::Passed => None,
        Ended::Failed(how) => Some(format!("without a mutant, {} {name} fails: {how}", program.name)),
        Ended::TooLong => Some(format!("without a mutant, {} {name} does not end", program.name)),
    };
    Ok((Test { program: number, name: name.to_owned(), takes, reaches }, failed))
}
