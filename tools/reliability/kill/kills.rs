//! One home and its kills.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palyra_ledger::backup::{BackupFile, Identities};
use palyra_ledger::{Ledger, NewSlot};

use super::child::{Orders, Said, config};
use super::dice;
use crate::child::{Child, Heard, Running, Stopped, command};
use crate::workload::{Dice, LANES, Lane, Op, World, find, verify};
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

/// What an acknowledged backup may hold: of each lane what was there when it began, and any number of the operations
/// that were done beside it.
#[derive(Debug)]
struct Held {
    number: u64,
    before: World,
    beside: BTreeMap<Lane, VecDeque<Op>>,
}

impl Held {
    /// Compares with what was found in what it was restored to.
    fn compare(mut self, found: &World) -> Result<(), Fault> {
        loop {
            let Err(told) = self.before.clone().settle(found, &BTreeMap::new()) else { return Ok(()) };
            // It names the first lane that differs.
            let lane = LANES.into_iter().find(|lane| told.starts_with(&format!("{lane:?}:")));
            let Some((lane, op)) = lane.and_then(|lane| Some((lane, self.beside.get_mut(&lane)?.pop_front()?))) else {
                return Err(told.into());
            };
            self.before.apply(lane, &op)?;
        }
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
            let number = backup.number;
            self.restore(backup).map_err(|fault| format!("backup {number:016x}: {fault}"))?;
        }
        std::fs::remove_dir_all(self.dir.join("backups"))?;
        Ok(std::fs::create_dir(self.dir.join("backups"))?)
    }

    /// Starts a child and kills it after `life`, counted from when it is open or from its start.
    fn round(
        &mut self,
        only_open: bool,
        (life, from_open): (Duration, bool),
    ) -> Result<(BTreeMap<Lane, Op>, Vec<Held>), Fault> {
        let (home, scratch) = (self.dir.join("home"), self.dir.join("backups"));
        let orders = Orders { home, scratch, seed: self.dice.number(), only_open, early: self.early };
        let mut child = Running::start(command(&Child::Kill(orders))?)?;
        let opens = |said: &Said| matches!(said, Said::Open | Said::Failed(_));
        let hung = from_open && child.hear(PATIENCE, opens) == Stopped::Time;
        child.hear(life, |said| matches!(said, Said::Failed(_)));
        let Heard { said, ended } = child.kill()?;
        self.figures.kills += 1;
        let heard = self.listen(said)?;
        if hung {
            return Err(format!("the child did not open its home within {} s", PATIENCE.as_secs()).into());
        }
        // Nothing but the kill may end it.
        ended?;
        Ok(heard)
    }

    /// Brings the model to what was acknowledged; gives what was under way, and acknowledged backups.
    fn listen(&mut self, said: Vec<Said>) -> Result<(BTreeMap<Lane, Op>, Vec<Held>), Fault> {
        let (mut under_way, mut backups) = (BTreeMap::<Lane, Op>::new(), Vec::new());
        let mut backup: Option<Held> = None;
        for said in said {
            match said {
                Said::Open => {}
                Said::Trying(lane, op) => {
                    if let Op::Backup { number } = op {
                        // What is under way may be done before it looks.
                        let beside = under_way.iter().map(|(lane, op)| (*lane, VecDeque::from([op.clone()]))).collect();
                        backup = Some(Held { number, before: self.world.clone(), beside });
                    } else if let Some(backup) = &mut backup {
                        backup.beside.entry(lane).or_default().push_back(op.clone());
                    }
                    under_way.insert(lane, op);
                }
                Said::Done(lane) => {
                    let op = under_way.remove(&lane).ok_or("acknowledged what was not begun")?;
                    self.world.apply(lane, &op)?;
                    self.figures.acknowledged += 1;
                    *self.figures.by_lane.entry(format!("{lane:?}")).or_default() += 1;
                    if matches!(op, Op::Backup { .. }) {
                        backups.extend(backup.take());
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

    /// An acknowledged backup restores to a ledger that verifies and holds what was acknowledged when it began, and of
    /// what was done beside it something.
    fn restore(&mut self, mut backup: Held) -> Result<(), Fault> {
        let target = self.dir.join("restored");
        let mut files = [BackupFile::open(&self.dir.join("backups").join(format!("{:016x}.plb", backup.number)))?];
        Ledger::restore(&config(&target), &mut files, &Identities::default(), &|_, _| ControlFlow::Continue(()))?;
        let ledger = Ledger::open(config(&target))?;
        // Restoring begins an epoch of its own, and keeps no slot whose key file the backup has not: the pinned one is left.
        backup.before.apply(Lane::Keys, &Op::Epoch)?;
        while backup.before.apply(Lane::Keys, &Op::RemoveSlot).is_ok() {}
        backup.compare(&find(&ledger, true)?)?;
        verify(&ledger, false)?;
        ledger.close()?;
        self.figures.restored += 1;
        Ok(std::fs::remove_dir_all(&target)?)
    }
}
