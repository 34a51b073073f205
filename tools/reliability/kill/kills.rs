//! One home and its kills.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use palyra_ledger::backup::{BackupFile, Identities};
use palyra_ledger::{Ledger, NewSlot};

use super::child::{Orders, Said, config};
use super::dice;
use crate::child::{Child, command};
use crate::workload::{Dice, Lane, Op, World, find, verify};
use crate::{Fault, Run};

/// Longest lives of children under load, in microseconds after they said that they are open: many die young.
const LIVES_US: [u64; 6] = [2_000, 10_000, 20_000, 40_000, 80_000, 200_000];
/// Latest instant of a kill in the middle of an opening, in microseconds after its start.
const OPENING_US: u64 = 25_000;
/// Longest time that opening may take before something is wrong.
const PATIENCE: Duration = Duration::from_mins(1);

/// What was counted.
#[derive(Debug, Default)]
pub struct Figures {
    /// Kills.
    pub kills: u64,
    /// Those of them in the middle of an opening.
    pub opening: u64,
    /// Homes.
    pub homes: u64,
    /// Operations acknowledged.
    pub acknowledged: u64,
    /// The same, by lane.
    pub by_lane: BTreeMap<String, u64>,
    /// Operations under way that were found done.
    pub whole: u64,
    /// Operations under way that were found not begun.
    pub absent: u64,
    /// Backups restored.
    pub restored: u64,
    /// Events of the longest log.
    pub events: u64,
}

impl Figures {
    /// Adds those of another home.
    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.opening += other.opening;
        self.homes += other.homes;
        self.acknowledged += other.acknowledged;
        self.whole += other.whole;
        self.absent += other.absent;
        self.restored += other.restored;
        self.events = self.events.max(other.events);
        other.by_lane.iter().for_each(|(lane, number)| *self.by_lane.entry(lane.clone()).or_default() += number);
    }
}

/// A home that is killed again and again, and what must be in it.
pub struct Home {
    dir: PathBuf,
    dice: Dice,
    world: World,
    figures: Figures,
    counted: u64,
    early: bool,
    kept: bool,
}

impl Home {
    /// A fresh home.
    pub fn new(run: &Run, number: u64, early: bool) -> Result<Self, Fault> {
        let name = if early { "planted".to_owned() } else { format!("home-{number}") };
        let dir = run.dir.join(name);
        std::fs::create_dir_all(dir.join("backups"))?;
        let ledger = Ledger::init(config(dir.join("home")), NewSlot::file("machine"))?;
        ledger.close()?;
        let figures = Figures { homes: 1, ..Figures::default() };
        let (dice, world) = (dice(run, number), World::new());
        Ok(Self { dir, dice, world, figures, counted: 0, early, kept: false })
    }

    /// What was counted.
    pub const fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Adds the new kills to a counter.
    pub fn take_kills(&mut self, to: &AtomicU64) -> u64 {
        let new = self.figures.kills - self.counted;
        self.counted = self.figures.kills;
        to.fetch_add(new, Ordering::Relaxed);
        new
    }

    /// The home stays for whoever looks at it.
    pub const fn keep(&mut self) {
        self.kept = true;
    }

    /// Removes the home, unless it is kept.
    pub fn remove(self) -> Result<(), Fault> {
        if self.kept { Ok(()) } else { Ok(std::fs::remove_dir_all(&self.dir)?) }
    }

    /// One kill, or several, and the check afterwards.
    pub fn kill(&mut self) -> Result<(), Fault> {
        let most = self.dice.pick(&LIVES_US).copied().unwrap_or(0);
        let life = Duration::from_micros(self.dice.below(most));
        // Some die before they are open, and say nothing.
        let before = self.dice.once_in(8);
        let (under_way, backups) = self.round(false, if before { (life / 4, false) } else { (life, true) })?;
        // What one kill left, another meets in the middle of mending it.
        while self.dice.once_in(3) {
            let life = Duration::from_micros(self.dice.below(OPENING_US));
            self.round(true, (life, false))?;
            self.figures.opening += 1;
        }
        self.check(&under_way)?;
        for backup in backups {
            if self.dice.once_in(4) {
                self.restore(backup)?;
            }
        }
        std::fs::remove_dir_all(self.dir.join("backups"))?;
        Ok(std::fs::create_dir(self.dir.join("backups"))?)
    }

    /// Starts a child and kills it after `life`, counted from when it is open or from its start.
    fn round(
        &mut self,
        only_open: bool,
        (life, from_open): (Duration, bool),
    ) -> Result<(BTreeMap<Lane, Op>, Vec<u64>), Fault> {
        let (home, scratch) = (self.dir.join("home"), self.dir.join("backups"));
        let orders = Orders { home, scratch, seed: self.dice.number(), only_open, early: self.early };
        let mut process = command(&Child::Kill(orders))?.spawn()?;
        let out = process.stdout.take().ok_or("no pipe")?;
        let (tell, heard) = channel();
        let reader = std::thread::spawn(move || read(out, |said| drop(tell.send(said))));
        let mut said = Vec::new();
        if from_open {
            hear(&heard, PATIENCE, &mut said, |said| matches!(said, Said::Open | Said::Failed(_)));
        }
        hear(&heard, life, &mut said, |said| matches!(said, Said::Failed(_)));
        process.kill()?;
        process.wait()?;
        reader.join().map_err(|_| "the reader panicked")??;
        said.extend(heard.try_iter());
        self.figures.kills += 1;
        self.listen(said)
    }

    /// Brings the model to what was acknowledged; gives what was under way, and acknowledged backups.
    fn listen(&mut self, said: Vec<Said>) -> Result<(BTreeMap<Lane, Op>, Vec<u64>), Fault> {
        let (mut under_way, mut backups) = (BTreeMap::new(), Vec::new());
        for said in said {
            match said {
                Said::Open => {}
                Said::Trying(lane, op) => drop(under_way.insert(lane, op)),
                Said::Done(lane) => {
                    let op = under_way.remove(&lane).ok_or("acknowledged what was not begun")?;
                    self.world.apply(lane, &op)?;
                    self.figures.acknowledged += 1;
                    *self.figures.by_lane.entry(format!("{lane:?}")).or_default() += 1;
                    if let Op::Backup { number } = op {
                        backups.push(number);
                    }
                }
                Said::Failed(what) => return Err(format!("the child failed: {what}").into()),
            }
        }
        Ok((under_way, backups))
    }

    fn check(&mut self, under_way: &BTreeMap<Lane, Op>) -> Result<(), Fault> {
        let ledger = Ledger::open(config(self.dir.join("home"))).map_err(|fault| format!("opening: {fault}"))?;
        let found = find(&ledger, self.dice.once_in(8))?;
        let settled = self.world.settle(&found, under_way)?;
        self.figures.whole += settled;
        self.figures.absent += under_way.len() as u64 - settled;
        verify(&ledger, self.dice.once_in(16))?;
        self.figures.events = self.figures.events.max(ledger.log().head()?.seq);
        Ok(ledger.close()?)
    }

    /// An acknowledged backup restores to a ledger that verifies.
    fn restore(&mut self, number: u64) -> Result<(), Fault> {
        let target = self.dir.join("restored");
        let mut files = [BackupFile::open(&self.dir.join("backups").join(format!("{number:016x}.plb")))?];
        Ledger::restore(&config(&target), &mut files, &Identities::default(), &|_, _| ControlFlow::Continue(()))?;
        let ledger = Ledger::open(config(&target))?;
        find(&ledger, true)?;
        verify(&ledger, false)?;
        ledger.close()?;
        self.figures.restored += 1;
        Ok(std::fs::remove_dir_all(&target)?)
    }
}

/// Reads lines until the pipe ends; a line that was cut off by the kill says nothing.
fn read(out: ChildStdout, mut tell: impl FnMut(Said)) -> Result<(), Fault> {
    let mut lines = BufReader::new(out);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
            return Ok(());
        }
        tell(serde_json::from_slice(&line)?);
    }
}

/// Listens for a time, or until something is said that ends it.
fn hear(heard: &Receiver<Said>, time: Duration, said: &mut Vec<Said>, end: impl Fn(&Said) -> bool) {
    let until = Instant::now() + time;
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(one) => {
                let ends = end(&one);
                said.push(one);
                if ends {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}
