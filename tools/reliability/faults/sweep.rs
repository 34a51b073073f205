//! The sweep behind the storage trait.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use palyra_ledger::store::Medium;
use palyra_ledger::testing::{Fault as Planned, FaultError, FaultMedium, FaultOp, ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{ArgonCost, AuditReads, Config, Error, Ledger, NewSlot, PutOptions, SecretBytes};

use super::slow::Slow;
use crate::Fault;
use crate::workload::{Dice, Disk, LANES, Lane, Op, World, act, choose, find, settings, verify};

/// Operations before a workload, and in it.
const BEFORE: usize = 40;
const OPERATIONS: usize = 30;

/// A kind of fault.
pub struct Kind {
    /// In words.
    pub name: &'static str,
    op: FaultOp,
    error: FaultError,
    /// What the system says.
    says: &'static str,
    sticky: bool,
    short: bool,
}

const fn kind(name: &'static str, op: FaultOp, error: FaultError, says: &'static str, sticky: bool) -> Kind {
    Kind { name, op, error, says, sticky, short: false }
}

const fn short(name: &'static str, sticky: bool) -> Kind {
    Kind { short: true, ..kind(name, FaultOp::Write, FaultError::NoSpace, SPACE, sticky) }
}

const EIO: &str = "Input/output error";
const SPACE: &str = "No space left on device";
const FILES: &str = "Too many open files";

/// Every kind.
pub const KINDS: &[Kind] = &[
    kind("EIO of any call, once", FaultOp::Any, FaultError::Io, EIO, false),
    kind("EIO of any call, for good", FaultOp::Any, FaultError::Io, EIO, true),
    kind("ENOSPC of any change, once", FaultOp::Change, FaultError::NoSpace, SPACE, false),
    kind("ENOSPC of any change, for good", FaultOp::Change, FaultError::NoSpace, SPACE, true),
    short("ENOSPC after half of a write, once", false),
    short("ENOSPC after half of a write, for good", true),
    kind("EMFILE when opening, once", FaultOp::Open, FaultError::TooManyFiles, FILES, false),
    kind("EMFILE when opening, for good", FaultOp::Open, FaultError::TooManyFiles, FILES, true),
    kind("EMFILE when creating, once", FaultOp::Create, FaultError::TooManyFiles, FILES, false),
    kind("EMFILE when creating, for good", FaultOp::Create, FaultError::TooManyFiles, FILES, true),
    kind("EIO of a sync, once", FaultOp::Sync, FaultError::Io, EIO, false),
    kind("EIO of a sync, for good", FaultOp::Sync, FaultError::Io, EIO, true),
    kind("EIO of a read, once", FaultOp::Read, FaultError::Io, EIO, false),
    kind("EIO of a read, for good", FaultOp::Read, FaultError::Io, EIO, true),
    kind("EROFS of any change, for good", FaultOp::Change, FaultError::ReadOnly, "Read-only file system", true),
];

/// What became of the cases of a kind.
#[derive(Debug, Default)]
pub struct Tally {
    pub cases: u64,
    pub refused: u64,
    pub dead: u64,
    /// Operations were refused, the ledger lived, and later ones were done.
    pub went_on: u64,
    pub passed: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.refused += other.refused;
        self.dead += other.dead;
        self.went_on += other.went_on;
        self.passed += other.passed;
    }
}

/// What came of a workload.
#[derive(Debug, Default)]
struct Worked {
    /// What was under way when it ended, and is not settled.
    under_way: BTreeMap<Lane, Op>,
    /// Every error, with its causes, in order.
    errors: Vec<String>,
    /// Whether the writer died.
    dead: bool,
    /// Whether the ledger lived, and could not be read.
    blind: bool,
    /// Operations that were done after the first error.
    done_after: u64,
}

/// A ledger with a history, and a workload for it.
pub struct Prepared {
    /// Everything follows from it.
    pub seed: u64,
    disk: SimDisk,
    world: World,
    work: Vec<(Lane, Op)>,
}

fn config(medium: impl Medium, seed: u64) -> Config {
    Config::new("/home")
        .medium(Arc::new(medium))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(ManualClock::default()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings(AuditReads::Batched))
}

/// The next operation that needs no file outside of the medium.
fn next(world: &World, dice: &mut Dice) -> (Lane, Op) {
    loop {
        let lane = dice.pick(&LANES).copied().unwrap_or(Lane::Keys);
        let op = choose(world, lane, dice);
        if !matches!(op, Op::Backup { .. }) {
            return (lane, op);
        }
    }
}

/// An error and its causes.
pub fn chain(fault: &Fault) -> String {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Prepared {
    /// Prepares a ledger and a workload.
    pub fn new(seed: u64) -> Result<Self, Fault> {
        let (disk, mut dice, mut world) = (SimDisk::new(), Dice::new(seed), World::new());
        let ledger = Ledger::init(config(disk.clone(), seed), NewSlot::file("machine"))?;
        ledger.identity().authorities()?;
        for _ in 0..BEFORE {
            let (lane, op) = next(&world, &mut dice);
            act(&ledger, lane, &op, Path::new(""))?;
            world.apply(lane, &op)?;
        }
        ledger.close()?;
        drop(ledger);
        disk.settle();
        let (mut after, mut work) = (world.clone(), Vec::new());
        // One of each that touches many files, and what the dice give.
        let fixed = [(Lane::Keys, Op::Root), (Lane::Keys, Op::Epoch), (Lane::Keys, Op::Checkpoint)];
        for at in 0..OPERATIONS {
            let (lane, op) =
                fixed.get(at / 8).filter(|_| at % 8 == 7).cloned().unwrap_or_else(|| next(&after, &mut dice));
            after.apply(lane, &op)?;
            work.push((lane, op));
        }
        Ok(Self { seed, disk, world, work })
    }

    /// Every case: a kind, and which of its calls fails.
    pub fn cases(&self) -> Result<Vec<(usize, u64)>, Fault> {
        let medium = FaultMedium::new(self.disk.snapshot());
        let mut world = self.world.clone();
        if let Some(error) = self.work(&medium, &mut world, 1)?.errors.first() {
            return Err(format!("--seed {}: without a fault: {error}", self.seed).into());
        }
        let calls = |kind: &Kind| medium.count(kind.op);
        let of = |(at, kind): (usize, &Kind)| (1..=calls(kind)).map(move |nth| (at, nth)).collect::<Vec<_>>();
        Ok(KINDS.iter().enumerate().flat_map(of).collect())
    }

    /// Opens, works, closes. After an error it goes on while the ledger is alive: what became of the operation is settled
    /// with the model, and what it would have made possible is passed over.
    fn work<M: Medium + Clone + 'static>(&self, medium: &M, world: &mut World, seed: u64) -> Result<Worked, Fault> {
        let mut worked = Worked::default();
        let ledger = match Ledger::open(config(medium.clone(), self.seed.wrapping_add(seed))) {
            Ok(ledger) => ledger,
            Err(error) => {
                worked.errors.push(chain(&error.into()));
                return Ok(worked);
            }
        };
        for (lane, op) in &self.work {
            if !worked.errors.is_empty() && world.clone_part(*lane).apply(op).is_err() {
                continue;
            }
            let Err(fault) = act(&ledger, *lane, op, Path::new("")) else {
                world.apply(*lane, op)?;
                worked.done_after += u64::from(!worked.errors.is_empty());
                continue;
            };
            worked.errors.push(chain(&fault));
            worked.under_way.insert(*lane, op.clone());
            let found = if ledger.alive().is_ok() { Some(find(&ledger, false)) } else { None };
            match found {
                Some(Ok(found)) => {
                    let settled = world.settle(&found, &worked.under_way);
                    settled.map_err(|fault| format!("the ledger lives: {fault}; it had met {:?}", worked.errors))?;
                    worked.under_way.clear();
                }
                other => {
                    worked.errors.extend(other.and_then(Result::err).map(|fault| chain(&fault)));
                    worked.blind = ledger.alive().is_ok();
                    break;
                }
            }
        }
        worked.dead = ledger.alive().is_err();
        if worked.dead {
            worked.errors.push(still_dead(&ledger)?);
        } else if !worked.blind
            && let Err(error) = ledger.close()
        {
            worked.errors.push(chain(&error.into()));
        }
        Ok(worked)
    }

    /// One case.
    pub fn case(&self, kind: usize, nth: u64, tally: &mut Tally) -> Result<(), Fault> {
        let kind = KINDS.get(kind).ok_or("no such kind")?;
        let disk = self.disk.snapshot();
        let medium = FaultMedium::new(disk.clone());
        let fault = if kind.sticky {
            Planned::from_then_on(kind.op, nth, kind.error)
        } else {
            Planned::once(kind.op, nth, kind.error)
        };
        medium.plan(if kind.short { fault.with_short_write() } else { fault });
        let mut world = self.world.clone();
        tally.cases = 1;
        let worked = self.work(&medium, &mut world, 1)?;
        // What the operation answered, and what a dead writer answered after it.
        if let Some(text) = worked.errors.iter().find(|text| !text.contains(kind.says)) {
            return Err(format!("the error does not name its cause: {text}").into());
        }
        if worked.blind && !kind.sticky {
            return Err(format!("the fault is over, the ledger lives and does not read: {:?}", worked.errors).into());
        }
        if worked.errors.is_empty() {
            tally.passed = 1;
        } else {
            tally.refused = 1;
            tally.dead = u64::from(worked.dead);
            tally.went_on = u64::from(!worked.dead && worked.done_after > 0);
        }
        if !medium.violations().is_empty() {
            return Err(format!("went on after a failed sync: {:?}", medium.violations()).into());
        }
        for after in [disk.crash_strict(), disk.crash_all()] {
            reopens(&after, &mut world.clone(), &worked.under_way, self.seed)?;
        }
        Ok(())
    }

    /// The workload on a disk that is slow: each call takes some milliseconds, and one call a long time. Nothing fails and
    /// nothing is lost. `calls` is how many there are.
    pub fn slow(&self, calls: u64) -> Result<(), Fault> {
        let disk = self.disk.snapshot();
        let medium = Slow::new(disk.clone(), Dice::of(self.seed, 2).below(calls) + 1);
        let mut world = self.world.clone();
        let worked = self.work(&medium, &mut world, 1)?;
        if let Some(error) = worked.errors.first() {
            return Err(format!("a slow disk is taken for one that fails: {error}").into());
        }
        if !medium.took_long() {
            return Err("no call took long".into());
        }
        for after in [disk.crash_strict(), disk.crash_all()] {
            reopens(&after, &mut world.clone(), &BTreeMap::new(), self.seed)?;
        }
        Ok(())
    }
}

/// What a dead writer answers: it stays dead and says so, and with what cause.
fn still_dead(ledger: &Ledger) -> Result<String, Fault> {
    let vault = ledger.vault("global".parse()?);
    match vault.put(&"after".parse()?, &SecretBytes::from(b"x".as_slice()), PutOptions::new()) {
        Err(error @ Error::Dead { .. }) if error.to_string().contains("open it again") => Ok(chain(&error.into())),
        other => Err(format!("a dead writer answered {other:?}").into()),
    }
}

/// What a fault left opens, holds what was acknowledged, verifies and takes writes.
fn reopens(disk: &SimDisk, world: &mut World, under_way: &BTreeMap<Lane, Op>, seed: u64) -> Result<(), Fault> {
    let ledger = Ledger::open(config(disk.clone(), seed.wrapping_add(2)))
        .map_err(|error| format!("opening again: {}", chain(&error.into())))?;
    world.settle(&find(&ledger, false)?, under_way)?;
    verify(&ledger, false)?;
    let lane = Lane::Vault(0);
    let op = choose(world, lane, &mut Dice::new(seed));
    act(&ledger, lane, &op, Path::new(""))?;
    world.apply(lane, &op)?;
    world.settle(&find(&ledger, false)?, &BTreeMap::new())?;
    Ok(ledger.close()?)
}

/// Whether the check sees that acknowledged operations were never synced.
pub fn planted(seed: u64) -> Result<Option<String>, Fault> {
    let prepared = Prepared::new(seed)?;
    let disk = prepared.disk.snapshot();
    let mut world = prepared.world.clone();
    let worked = prepared.work(&Disk { inner: disk.clone(), lies: true }, &mut world, 1)?;
    let reopened = reopens(&disk.crash_strict(), &mut world, &worked.under_way, seed);
    Ok(reopened.err().filter(|_| worked.errors.is_empty()).map(|fault| fault.to_string()))
}
