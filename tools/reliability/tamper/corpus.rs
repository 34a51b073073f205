//! Real ledgers of some size, made by the mixed workload: one to tamper with, its earlier states, another branch of
//! its history, and another ledger.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use palyra_ledger::checkpoint::{self, Checkpoint, Frontier, SignedCheckpoint, VerifierKey, tree};
use palyra_ledger::crypto::{Hash, SigningKey};
use palyra_ledger::event::Event;
use palyra_ledger::examine::{self, Asked, Keys};
use palyra_ledger::inspect::Course;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{ArgonCost, AuditReads, Clock as _, Config, Credential, Ledger, LedgerId, NewSlot, keys};

use super::files::Files;
use super::judge::{Level, State};
use super::log::{Log, hash_of};
use crate::Fault;
use crate::workload::{Dice, LANES, Lane, Op, World, act, choose, settings};

const HOME: &str = "/home";
/// Small, so that a journal of some hundred kilobytes has a dozen segments.
const SEGMENT_BYTES: u64 = 8 * 1024;
/// Operations before each of the two earlier states, and behind them.
const OPERATIONS: usize = 24;

/// A key slot of a secret version, as the log speaks of it.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names, reason = "the log says slot, too")]
pub struct Slot {
    /// Its number.
    pub slot: u64,
    /// The event that filled it, or that destroyed it.
    pub event: u64,
    /// Whether it was destroyed.
    pub shredded: bool,
}

/// An earlier state of the ledger.
#[derive(Debug)]
pub struct Older {
    /// Its files.
    pub files: Files,
    /// How many events it had.
    pub events: u64,
    /// Key slots as they were.
    pub slots: Vec<Slot>,
}

/// A ledger, and what somebody can put in its place.
#[derive(Debug)]
pub struct Corpus {
    /// Everything follows from it.
    pub seed: u64,
    /// The ledger as it was left.
    pub files: Files,
    /// Its journal.
    pub log: Log,
    /// Its events.
    pub frames: Vec<Vec<u8>>,
    /// Earlier states of it.
    pub older: Vec<Older>,
    /// Another history from the last earlier state on.
    pub branch: Files,
    /// Its events.
    pub branch_frames: Vec<Vec<u8>>,
    /// Another ledger.
    pub other: Files,
    /// Its events.
    pub other_frames: Vec<Vec<u8>>,
    /// The ledger's id.
    pub id: LedgerId,
    /// Its public key.
    pub public: VerifierKey,
    /// A checkpoint of all its events, kept elsewhere.
    pub anchor: SignedCheckpoint,
    /// One of the other branch.
    pub branch_anchor: SignedCheckpoint,
    /// One of the other ledger.
    pub other_anchor: SignedCheckpoint,
    /// Somebody else's key.
    pub foreign_key: SigningKey,
    /// Slots that the log speaks of.
    pub slots: Vec<Slot>,
    /// Generation of the key table.
    pub generation: u32,
    /// What the untouched ledger is found to be, at each level.
    pub clean: [State; 3],
}

struct Maker {
    disk: SimDisk,
    clock: ManualClock,
    world: World,
    dice: Dice,
    openings: u64,
    seed: u64,
}

impl Maker {
    fn new(seed: u64) -> Result<Self, Fault> {
        let mut maker = Self {
            disk: SimDisk::new(),
            clock: ManualClock::default(),
            world: World::new(),
            dice: Dice::new(seed),
            openings: 0,
            seed,
        };
        let ledger = Ledger::init(maker.config(), NewSlot::file("machine"))?;
        ledger.identity().authorities()?;
        ledger.close()?;
        maker.disk.settle();
        Ok(maker)
    }

    fn config(&mut self) -> Config {
        self.openings += 1;
        let mut settings = settings(AuditReads::Batched);
        settings.log.segment_bytes = SEGMENT_BYTES;
        Config::new(HOME)
            .medium(Arc::new(self.disk.clone()))
            .random(Arc::new(SeededRandom::new(self.seed ^ self.openings << 32)))
            .clock(Arc::new(self.clock.clone()))
            .without_background()
            .argon_cost(ArgonCost::for_tests())
            .settings(settings)
    }

    /// Works on in a process of its own: what the dice give, then some operations that are asked for.
    fn work(&mut self, operations: usize, fixed: &[(Lane, Op)]) -> Result<(), Fault> {
        let ledger = Ledger::open(self.config())?;
        for number in 0..operations + fixed.len() {
            let (lane, op) = match number.checked_sub(operations).and_then(|at| fixed.get(at)) {
                Some(fixed) => fixed.clone(),
                None => self.next(),
            };
            // What cannot be done now is left out.
            if self.world.clone_part(lane).apply(&op).is_err() {
                continue;
            }
            self.clock.advance(500 + self.dice.below(2_000));
            act(&ledger, lane, &op, Path::new("")).map_err(|fault| format!("{op:?}: {fault}"))?;
            self.world.apply(lane, &op)?;
        }
        ledger.close()?;
        drop(ledger);
        self.disk.settle();
        Ok(())
    }

    fn next(&mut self) -> (Lane, Op) {
        loop {
            // Secrets more often than the rest: a pairing costs as much as a hundred of them.
            let lane = if self.dice.once_in(2) { Lane::Vault(self.dice.small(3)) } else { self.any_lane() };
            let op = choose(&self.world, lane, &mut self.dice);
            // So does a value of some thousand bytes, each time that it is examined.
            let large = match op {
                Op::Put { nonce, .. } | Op::Login { nonce, .. } | Op::Renewed { nonce, .. } => nonce % 32 < 4,
                _ => false,
            };
            let large = large && !self.dice.once_in(8);
            let rare = large || matches!(op, Op::Pair { .. }) && !self.dice.once_in(2);
            if !rare && !matches!(op, Op::Backup { .. }) {
                return (lane, op);
            }
        }
    }

    fn any_lane(&mut self) -> Lane {
        self.dice.pick(&LANES).copied().unwrap_or(Lane::Keys)
    }

    fn files(&self) -> Files {
        Files::of(&self.disk, Path::new(HOME))
    }

    /// The same disk, world and clock, and another course from here on.
    fn fork(&self, seed: u64) -> Self {
        let clock = ManualClock::default();
        clock.set(self.clock.now());
        Self {
            disk: self.disk.snapshot(),
            clock,
            world: self.world.clone(),
            dice: Dice::new(seed),
            openings: self.openings,
            seed,
        }
    }
}

/// What every corpus has: secrets that stay, one that is destroyed, devices, credentials, a rotation, a checkpoint.
fn fixed(step: u8) -> Vec<(Lane, Op)> {
    let put = |name, nonce| (Lane::Vault(0), Op::Put { name, nonce, expect: false });
    let nonce = u64::from(step) * 64;
    let mut fixed = vec![put(0, nonce + 9), put(1, nonce + 10), put(2, nonce + 11)];
    fixed.push((Lane::Vault(0), Op::Shred { name: step % 3, version: None }));
    fixed.push((Lane::Credentials, Op::Login { profile: 0, nonce: nonce + 12 }));
    fixed.push((Lane::Devices, Op::Pair { device: u64::from(step) }));
    fixed.push((Lane::Keys, if step == 1 { Op::Root } else { Op::Epoch }));
    fixed.extend([put(3, nonce + 13), put(4, nonce + 14)]);
    fixed.push((Lane::Keys, Op::Checkpoint));
    fixed.extend([put(3, nonce + 15), put(4, nonce + 17)]);
    fixed
}

/// A checkpoint over events, signed by a key.
pub fn checkpoint_of(id: LedgerId, frames: &[Vec<u8>], key: &SigningKey) -> Result<SignedCheckpoint, Fault> {
    let mut frontier = Frontier::default();
    let mut head = Hash([0; 32]);
    for frame in frames {
        head = Hash(hash_of(frame));
        frontier.push(tree::leaf(&head));
    }
    let last = frames.last().map_or(0, |frame| super::log::number(frame, &super::log::field::TIME));
    let checkpoint = Checkpoint {
        ledger_id: id,
        size: frames.len() as u64,
        root: frontier.root(),
        head,
        state: None,
        time: palyra_ledger::Timestamp::from_millis(last),
        branch: 0,
        key: key.public(),
    };
    Ok(SignedCheckpoint::sign(checkpoint, key)?)
}

/// The ledger's own key, by which it signs checkpoints.
pub fn signing_key(files: &Files) -> Result<(LedgerId, SigningKey, u32), Fault> {
    let dir = Path::new("keys");
    let ring = keys::read(files, dir)?.0.ok_or("there is no key ring")?;
    let unlocked = ring.unlock(files, dir, None, &Credential::None)?;
    Ok((ring.ledger_id(), checkpoint::signing_key(unlocked.ledger_key())?, ring.table_generation()))
}

/// The slots that the log speaks of.
fn slots(files: &Files) -> Result<Vec<Slot>, Fault> {
    let keys = Keys::open(files, Path::new("keys"), None, &Credential::None)?;
    let course = Course::of_home(files, Path::new(""))?;
    let mut known: BTreeMap<u64, Slot> = BTreeMap::new();
    let asked = Asked { keys: Some(&keys), ..Asked::default() };
    examine::verify_opened(files, &course, &asked, &mut |_, _, entry| {
        let Some(entry) = entry else { return };
        let event = entry.seq;
        match &entry.event {
            Event::SecretPut(put) => drop(known.insert(put.slot, Slot { slot: put.slot, event, shredded: false })),
            Event::SecretShredded(shredded) => {
                for (_, slot) in &shredded.versions {
                    known.insert(*slot, Slot { slot: *slot, event, shredded: true });
                }
            }
            _ => {}
        }
    });
    Ok(known.into_values().collect())
}

impl Corpus {
    /// Makes one from a seed.
    pub fn new(seed: u64) -> Result<Self, Fault> {
        let mut maker = Maker::new(seed)?;
        let mut older = Vec::new();
        for step in 0..2 {
            maker.work(OPERATIONS, &fixed(step))?;
            let files = maker.files();
            let events = Log::of(&files).len() as u64;
            older.push(Older { slots: slots(&files)?, files, events });
        }
        let mut branch = maker.fork(!seed);
        branch.work(OPERATIONS, &fixed(3))?;
        maker.work(OPERATIONS, &fixed(2))?;
        let mut other = Maker::new(seed.rotate_left(17) ^ 0x0f0f)?;
        other.work(OPERATIONS, &fixed(0))?;

        let (files, branch, other) = (maker.files(), branch.files(), other.files());
        let log = Log::of(&files);
        let (frames, branch_frames, other_frames) = (log.frames(), Log::of(&branch).frames(), Log::of(&other).frames());
        let (id, key, generation) = signing_key(&files)?;
        let (other_id, other_key, _) = signing_key(&other)?;
        let mut corpus = Self {
            seed,
            public: checkpoint::verifier(id, key.public()),
            anchor: checkpoint_of(id, &frames, &key)?,
            branch_anchor: checkpoint_of(id, &branch_frames, &key)?,
            other_anchor: checkpoint_of(other_id, &other_frames, &other_key)?,
            foreign_key: other_key,
            slots: slots(&files)?,
            clean: Default::default(),
            files,
            log,
            frames,
            older,
            branch,
            branch_frames,
            other,
            other_frames,
            id,
            generation,
        };
        corpus.clean = corpus.untouched()?;
        Ok(corpus)
    }

    /// What the untouched ledger is found to be; anything wrong with it ends the lab.
    fn untouched(&self) -> Result<[State; 3], Fault> {
        let clean = Level::ALL.map(|level| State::of(self, &self.files, level, None));
        for (level, state) in Level::ALL.iter().zip(&clean) {
            let wanted = if *level == Level::Public { "INTACT-ANCHORED" } else { "INTACT-UNANCHORED" };
            if state.verdict.to_string() != wanted || !state.findings.is_empty() {
                return Err(format!("an untouched ledger is found {}: {:?}", state.verdict, state.findings).into());
            }
        }
        let parts = self.frames.iter().zip(&self.branch_frames).take_while(|(one, other)| one == other).count();
        if parts as u64 != self.older.last().map_or(0, |older| older.events) || self.log.segments.len() < 4 {
            return Err(format!("a corpus is not as it should be: branches part at event {parts}").into());
        }
        Ok(clean)
    }
}
