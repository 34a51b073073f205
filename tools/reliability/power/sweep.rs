//! Trying every state of a recording, on all cores.

// A seed, what was seen of it and a state are what this is about.
#![allow(clippy::similar_names)]

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::image::{Image, Stage};
use super::record::record;
use super::states::{Recording, Seen, State};
use super::subject::{self, Subject, Verdict};
use crate::{Fault, Run};

/// How much may be tried yet.
#[derive(Debug, Clone)]
pub struct Left {
    until: Option<Instant>,
    states: Option<u64>,
    first: bool,
}

impl Left {
    /// So many states.
    pub const fn states(count: u64) -> Self {
        Self { until: None, states: Some(count), first: false }
    }

    /// And only until a state is not as it should be.
    #[must_use]
    pub const fn first_failure(mut self) -> Self {
        self.first = true;
        self
    }

    /// Until then.
    pub const fn until(end: Instant) -> Self {
        Self { until: Some(end), states: None, first: false }
    }

    /// And so many states at most.
    pub fn bound(&mut self, count: u64) {
        self.states = Some(self.states.map_or(count, |states| states.min(count)));
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until) || self.states == Some(0)
    }

    /// Says that so many states were tried.
    pub fn took(&mut self, count: u64) {
        self.states = self.states.map(|states| states.saturating_sub(count));
    }

    /// At least so much time from now, where it is time that ends it.
    pub fn at_least(&mut self, time: Duration) {
        self.until = self.until.map(|until| until.max(Instant::now() + time));
    }

    /// Half of it.
    pub fn half(&self) -> Self {
        self.share(2)
    }

    /// One part of so many.
    pub fn share(&self, parts: usize) -> Self {
        let now = Instant::now();
        let count = u32::try_from(parts).unwrap_or(1).max(1);
        Self {
            until: self.until.map(|until| now + until.saturating_duration_since(now) / count),
            states: self.states.map(|states| (states / u64::from(count)).max(1)),
            first: self.first,
        }
    }
}

/// What trying a recording found.
#[derive(Debug, Default)]
pub struct Tally {
    /// Points at which the power was cut.
    pub points: u64,
    /// Distinct states.
    pub states: u64,
    /// That were as they should be.
    pub good: u64,
    /// That had lost what was acknowledged.
    pub lost: u64,
    /// That did not open although the store was made.
    pub unopened: u64,
    /// That did not open, cut before the store was made.
    pub unmade: u64,
    /// In which something else was wrong.
    pub wrong: u64,
    /// Whether there were more states than could be tried.
    pub cut_short: bool,
    /// The first few that were not as they should be, and how to meet them again.
    pub failures: Vec<String>,
}

/// Failures that are told of each recording.
const TOLD: usize = 3;

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.states += other.states;
        self.good += other.good;
        self.lost += other.lost;
        self.unopened += other.unopened;
        self.unmade += other.unmade;
        self.wrong += other.wrong;
        self.cut_short |= other.cut_short;
        self.failures.extend(other.failures);
    }

    fn count(&mut self, verdict: &Verdict, made: bool) {
        self.states += 1;
        match verdict {
            Verdict::Good => self.good += 1,
            Verdict::Lost(_) => self.lost += 1,
            Verdict::Unopened(_) if made => self.unopened += 1,
            Verdict::Unopened(_) => self.unmade += 1,
            Verdict::Wrong(_) => self.wrong += 1,
        }
    }
}

/// Where recordings are made and images laid out.
#[derive(Debug)]
pub struct Sweep {
    dir: PathBuf,
    kept: PathBuf,
    stages: tempfile::TempDir,
    workers: usize,
    number: u64,
}

impl Sweep {
    /// Recordings are made in the folder of the run, on a real disk; images are laid out in memory where that can be.
    pub fn new(run: &Run) -> Result<Self, Fault> {
        let memory = Path::new("/dev/shm");
        let builder = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("palyra-lab-");
            builder
        };
        let stages = builder().tempdir_in(memory).or_else(|_| builder().tempdir_in(&run.dir))?;
        let kept = run.dir.with_file_name("power-kept");
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { dir: run.dir.clone(), kept, stages, workers, number: 0 })
    }

    fn fresh(&mut self, what: &str) -> Result<PathBuf, Fault> {
        self.number += 1;
        let dir = self.dir.join(format!("{what}-{}", self.number));
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Records a subject at its work.
    pub fn recording(&mut self, subject: &Subject, seed: u64) -> Result<Recording, Fault> {
        let dir = self.fresh(subject.name)?;
        let root = dir.join("root");
        std::fs::create_dir(&root)?;
        let said = (subject.prepare)(&root, seed)?;
        let recorded = record(subject, "work", seed, &root, &dir.join("trace"))?;
        std::fs::remove_dir_all(&root)?;
        Ok(Recording { said, ..recorded })
    }

    /// Records the recovery of a state.
    pub fn recovery(&mut self, subject: &Subject, state: &State, seed: u64) -> Result<Recording, Fault> {
        let dir = self.fresh(&format!("{}-recovery", subject.name))?;
        let root = dir.join("root");
        Stage::new(root.clone())?.lay(&state.image)?;
        let recorded = record(subject, "recover", seed, &root, &dir.join("trace"))
            .map_err(|fault| format!("after {}: {fault}", state.cut))?;
        std::fs::remove_dir_all(&root)?;
        Ok(Recording { said: state.said.to_vec(), ..recorded })
    }

    /// Tries the states of a recording that are not in `seen` yet.
    pub fn try_all(
        &mut self,
        subject: &Subject,
        recording: &Recording,
        seed: u64,
        left: &mut Left,
        seen: &mut Seen,
    ) -> Result<Tally, Fault> {
        self.number += 1;
        let base = self.stages.path().join(self.number.to_string());
        let (send, receive) = sync_channel::<State>(2 * self.workers);
        let (receive, tally) = (Mutex::new(receive), Mutex::new(Tally::default()));
        let mut cut_short = false;
        let points = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.workers)
                .map(|worker| {
                    let (receive, tally, root) = (&receive, &tally, base.join(worker.to_string()));
                    scope.spawn(move || work(subject, root, receive, tally))
                })
                .collect();
            let points = recording.states(seed, seen, &mut |state| {
                let failed = || !tally.lock().unwrap_or_else(PoisonError::into_inner).failures.is_empty();
                if left.is_over() || left.first && failed() {
                    cut_short = true;
                    return ControlFlow::Break(());
                }
                left.took(1);
                if send.send(state).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            drop(send);
            for worker in workers {
                worker.join().map_err(|_| "a worker panicked")??;
            }
            points
        })?;
        let _ = std::fs::remove_dir_all(&base);
        let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        (tally.points, tally.cut_short) = (points as u64, cut_short);
        if !left.first && !tally.failures.is_empty() {
            tally.failures.sort();
            let kept = self.kept.join(format!("{}-{seed}-{}", subject.name, self.number));
            recording.keep(subject, seed, &kept)?;
            // From where it is run, so that it reads the same on every machine.
            let here = std::env::current_dir()?;
            let shown = kept.strip_prefix(here).unwrap_or(&kept);
            let again = format!("; again: {AGAIN}={} tools/lab power", shown.display());
            tally.failures.iter_mut().for_each(|failure| failure.push_str(&again));
        }
        Ok(tally)
    }
}

fn work(subject: &Subject, root: PathBuf, receive: &Mutex<Receiver<State>>, tally: &Mutex<Tally>) -> Result<(), Fault> {
    let mut stage = Stage::new(root)?;
    loop {
        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(state) = next else { return Ok(()) };
        stage.lay(&state.image)?;
        let verdict = catch_unwind(AssertUnwindSafe(|| (subject.check)(&stage.root, &state.said)))
            .unwrap_or_else(|_| Verdict::Unopened("it panicked".to_owned()));
        let made = state.said.iter().any(|line| line.starts_with("ack "));
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.count(&verdict, made);
        if verdict != Verdict::Good && tally.failures.len() < TOLD {
            // Where it was laid out says nothing.
            let verdict = format!("{verdict:?}").replace(&format!("{}/", stage.root.display()), "");
            tally.failures.push(format!("{}, {}: {verdict}", subject.name, state.cut));
        }
    }
}

/// Names the folder of a recording that is to be tried again.
const AGAIN: &str = "PALYRA_LAB_POWER_AGAIN";

impl Recording {
    /// Keeps it, so that it can be tried again.
    fn keep(&self, subject: &Subject, seed: u64, dir: &Path) -> Result<(), Fault> {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir)?;
        Stage::new(dir.join("before"))?.lay(&self.before)?;
        std::fs::write(dir.join("root"), &self.root)?;
        std::fs::write(dir.join("said"), self.said.join("\n"))?;
        std::fs::write(dir.join("subject"), format!("{} {seed} {}", subject.name, self.listens))?;
        std::fs::write(dir.join("trace"), &self.text)?;
        Ok(())
    }

    /// One that was kept and is asked for.
    pub fn asked_for() -> Result<Option<(&'static Subject, u64, Self)>, Fault> {
        let Some(dir) = std::env::var_os(AGAIN).map(PathBuf::from) else { return Ok(None) };
        let read = |name: &str| std::fs::read_to_string(dir.join(name));
        let text = read("subject")?;
        let words: Vec<&str> = text.split(' ').collect();
        let [name, seed, listens] = words.as_slice() else { return Err("the file `subject` is damaged".into()) };
        let subject = subject::named(name).ok_or("there is no such subject any more")?;
        let said = read("said")?.lines().map(str::to_owned).collect();
        let recording = Self::new(read("trace")?, std::fs::read(dir.join("root"))?, Image::of(&dir.join("before"))?)?;
        Ok(Some((subject, seed.parse()?, Self { said, listens: *listens == "true", ..recording })))
    }
}
