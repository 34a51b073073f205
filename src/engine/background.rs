//! Work beside the writer: recording gathered reads, refilling key slots, writing index runs, and
//! following the journal into sled.
//!
//! None of it is needed for durability: a crash at any point here leaves work for the next opening.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::{Caller, limits};
use crate::event::Event;
use crate::event::system::{WitnessFault, WitnessRebuilt, WitnessSetAside};
use crate::log::Head;
use crate::store::{SledWitness, TailCheck, Witness, WitnessError, check_tail};

use super::core::Core;
use super::error::Error;

const KEEPER_TICK: Duration = Duration::from_millis(100);
const CHECKPOINT_TICK: Duration = Duration::from_millis(500);
const FOLLOWER_TICK: Duration = Duration::from_millis(500);
/// Frames that the follower syncs at the latest after.
const SYNC_EVERY: u64 = 65_536;
const TAIL_CHECK: u64 = 64;

/// The background threads of one ledger.
#[derive(Default)]
pub struct Background {
    keeper: Option<JoinHandle<()>>,
    checkpointer: Option<JoinHandle<()>>,
    follower: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the threads.
    pub fn start(core: &Arc<Core>, at_open: Option<Head>) -> Result<Self, Error> {
        let keeper = {
            let core = Arc::clone(core);
            std::thread::Builder::new()
                .name("palyra-keeper".into())
                .spawn(move || keeper(&core))
                .map_err(Error::Thread)?
        };
        // A thread of its own: an anchor may lie on a slow disk.
        let checkpointer = {
            let core = Arc::clone(core);
            let spawned =
                std::thread::Builder::new().name("palyra-checkpoint".into()).spawn(move || checkpointer(&core));
            spawned.map_err(Error::Thread)?
        };
        let follower = if core.witness {
            let core = Arc::clone(core);
            let spawned = std::thread::Builder::new()
                .name("palyra-follower".into())
                .spawn(move || Follower::new(&core, at_open).run());
            Some(spawned.map_err(Error::Thread)?)
        } else {
            None
        };
        Ok(Self { keeper: Some(keeper), checkpointer: Some(checkpointer), follower })
    }

    /// Waits for the threads, which do their last round first.
    pub fn join(&mut self) {
        for handle in [self.keeper.take(), self.checkpointer.take(), self.follower.take()].into_iter().flatten() {
            // A panic there has done its damage to a copy only; the journal is not touched by it.
            let _ = handle.join();
        }
    }
}

fn keeper(core: &Core) {
    let mut seen = 0;
    loop {
        let (wakes, stop) = core.signal.wait(seen, KEEPER_TICK);
        seen = wakes;
        if stop {
            return;
        }
        // Each of these leaves its error in the writer or for the next opening; there is nobody
        // here to tell it to.
        if core.reads.due(core.clock.now()) {
            let _ = core.record_reads();
        }
        if core.registry.get().is_some_and(|registry| registry.due(core.clock.now())) {
            let _ = core.record_usage();
        }
        let _ = core.refill_slots(limits::KEY_TABLE_FILL / 2);
        if core.index.should_flush() && !core.is_dead() {
            let _ = core.guard(core.flush_index());
        }
    }
}

fn checkpointer(core: &Core) {
    let mut seen = 0;
    loop {
        let (wakes, stop) = core.signal.wait(seen, CHECKPOINT_TICK);
        seen = wakes;
        if stop {
            return;
        }
        // What failed is in the writer, or tried again at the next tick.
        if !core.is_dead() {
            let _ = core.checkpoint_if_due(false);
        }
    }
}

impl Core {
    /// Commits the reads that wait.
    pub(super) fn record_reads(&self) -> Result<(), Error> {
        let mut last = None;
        for (caller, event) in self.reads.take() {
            let (ticket, ()) = self.enqueue(&caller, |_, _| Ok::<_, Error>((vec![event], ())))?;
            last = Some(ticket);
        }
        last.map_or(Ok(()), |ticket| self.wait(ticket.number()))
    }

    /// Writes the memory table as a run, at the end of a batch.
    pub(super) fn flush_index(&self) -> Result<(), Error> {
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(seq) = self.visible.load(Ordering::Acquire).checked_sub(1) else { return Ok(()) };
            let position = self.journal.position(seq)?;
            self.index.freeze(position);
            drop(queue);
        }
        self.index.flush_frozen()?;
        self.journal.save_offsets();
        Ok(())
    }
}

/// Follows the journal into sled.
pub struct Follower<'a> {
    core: &'a Core,
    at_open: Option<Head>,
    witness: Option<Box<dyn Witness>>,
    /// First frame that sled lacks.
    next: u64,
    /// First frame that sled may lack after a power cut.
    synced: u64,
    checkpoint: u64,
    failures: u32,
    /// A rebuild is under way and not recorded yet.
    rebuilt: bool,
}

impl<'a> Follower<'a> {
    /// A follower that has not opened sled yet.
    pub fn new(core: &'a Core, at_open: Option<Head>) -> Self {
        let synced = at_open.map_or(0, |head| head.witness_next);
        Self { core, at_open, witness: None, next: 0, synced, checkpoint: 0, failures: 0, rebuilt: false }
    }

    fn run(mut self) {
        let mut seen = 0;
        loop {
            let (wakes, stop) = self.core.signal.wait(seen, FOLLOWER_TICK);
            seen = wakes;
            if stop {
                break;
            }
            let _ = self.step();
        }
        self.finish();
    }

    /// The last round: catches up, closes sled and says so in the head file.
    pub fn finish(mut self) {
        let caught_up = self.step().is_ok();
        if self.core.is_dead() {
            return;
        }
        let clean = match self.witness.take() {
            Some(witness) if caught_up => witness.close().is_ok(),
            _ => false,
        };
        let _ = self.write_head(clean);
    }

    fn step(&mut self) -> Result<(), Error> {
        if self.core.is_dead() {
            return Ok(());
        }
        if self.witness.is_none() && self.failures < 3 {
            self.open();
        }
        let visible = self.core.visible.load(Ordering::Acquire);
        if visible != self.checkpoint {
            // The head is durable before sled gets what it covers, so sled is never ahead of it.
            self.core.guard(self.write_head(false))?;
            self.checkpoint = visible;
        }
        while self.witness.is_some() && self.next < visible {
            let to = visible.min(self.next + limits::FOLLOW_STEP_FRAMES);
            if let Err(error) = self.follow(to) {
                self.give_up(&error);
                break;
            }
            if self.next - self.synced >= SYNC_EVERY {
                self.sync();
            }
        }
        if self.next > self.synced {
            self.sync();
        }
        if self.rebuilt && self.witness.is_some() && self.next >= visible {
            self.rebuilt = false;
            self.record(Event::WitnessRebuilt(WitnessRebuilt { through: visible.saturating_sub(1) }));
        }
        Ok(())
    }

    fn sync(&mut self) {
        let Some(witness) = &mut self.witness else { return };
        match witness.sync() {
            Ok(()) => self.synced = self.next,
            Err(error) => self.give_up(&error),
        }
    }

    fn follow(&mut self, to: u64) -> Result<(), WitnessError> {
        let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
        let read = self.core.journal.read_range(self.next, to - 1, &mut |frame| {
            frames.push((frame.header.seq, frame.bytes().to_vec()));
            ControlFlow::Continue(())
        });
        if read.is_err() {
            // Damage in the journal is not sled's fault and not copied into it.
            self.failures = u32::MAX;
            self.witness = None;
            return Ok(());
        }
        let Some(witness) = &mut self.witness else { return Ok(()) };
        let borrowed: Vec<(u64, &[u8])> = frames.iter().map(|(seq, bytes)| (*seq, bytes.as_slice())).collect();
        witness.append(&borrowed)?;
        self.next = to;
        Ok(())
    }

    fn write_head(&self, witness_clean: bool) -> Result<(), Error> {
        let (Some((file, key)), Some(last)) = (&self.core.head, self.core.journal.last()) else { return Ok(()) };
        let head = Head {
            seq: last.seq,
            hash: last.hash,
            time: self.core.clock.now().max(last.time),
            witness_clean,
            witness_next: self.synced,
        };
        file.write(key, &head)?;
        Ok(())
    }

    /// Opens sled; a directory that was not closed cleanly is copied first and compared after.
    fn open(&mut self) {
        let home = self.core.layout.home.clone();
        let exists = home.join("sled").exists();
        let suspect = exists && !self.at_open.is_some_and(|head| head.witness_clean);
        if self.write_head(false).is_err() {
            self.failures = u32::MAX;
            return;
        }
        let stamp = self.stamp();
        let copy = if suspect { SledWitness::copy_aside(&home, &stamp).ok() } else { None };
        if suspect && copy.is_none() {
            // Without a copy a suspect directory is not opened (it may destroy what it holds).
            self.replace(WitnessFault::Failed);
            return;
        }
        if !exists {
            let lost = self.at_open.is_some_and(|head| head.witness_next > 0);
            if lost {
                let missing = WitnessSetAside { fault: WitnessFault::Missing, saved_as: String::new() };
                self.record(Event::WitnessSetAside(missing));
            }
            self.create(lost);
            return;
        }
        match self.open_and_check() {
            Ok((witness, next)) => {
                self.witness = Some(witness);
                self.next = next;
                self.synced = next;
                if let Some(copy) = copy {
                    let _ = SledWitness::remove_copy(&copy);
                }
            }
            Err(fault) => self.replace(fault),
        }
    }

    fn open_and_check(&self) -> Result<(Box<dyn Witness>, u64), WitnessFault> {
        let fault = |error: &WitnessError| match error {
            WitnessError::Panicked { .. } => WitnessFault::Panicked,
            _ => WitnessFault::Failed,
        };
        let witness = SledWitness::open(&self.core.layout.home).map_err(|error| fault(&error))?;
        let last = self.core.journal.last().map_or(0, |last| last.seq);
        let mut buffer = Vec::new();
        let mut journal = |seq: u64| self.core.journal.read(seq, &mut buffer).ok().map(|()| buffer.clone());
        match check_tail(&witness, &mut journal, last, TAIL_CHECK).map_err(|error| fault(&error))? {
            TailCheck::Agree { last } => Ok((Box::new(witness), last + 1)),
            TailCheck::Behind { last } => Ok((Box::new(witness), last.map_or(0, |last| last + 1))),
            TailCheck::Differs { .. } => Err(WitnessFault::Differed),
            TailCheck::Ahead { .. } => Err(WitnessFault::Ahead),
        }
    }

    /// Sets sled aside untouched and begins a new one; both are recorded.
    fn replace(&mut self, fault: WitnessFault) {
        self.witness = None;
        self.failures += 1;
        let saved_as = match SledWitness::set_aside(&self.core.layout.home, &self.stamp()) {
            Ok(path) => path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned(),
            Err(_) => {
                self.failures = u32::MAX;
                return;
            }
        };
        self.record(Event::WitnessSetAside(WitnessSetAside { fault, saved_as }));
        self.create(true);
    }

    fn create(&mut self, rebuilt: bool) {
        let made = self.core.random.array().ok().map(|random| SledWitness::create(&self.core.layout.home, random));
        match made {
            Some(Ok(witness)) => {
                self.witness = Some(Box::new(witness));
                self.next = 0;
                self.synced = 0;
                self.rebuilt = rebuilt;
            }
            Some(Err(_)) | None => self.failures += 1,
        }
    }

    fn give_up(&mut self, error: &WitnessError) {
        self.witness = None;
        let fault =
            if matches!(error, WitnessError::Panicked { .. }) { WitnessFault::Panicked } else { WitnessFault::Failed };
        if self.failures < 2 {
            self.replace(fault);
        } else {
            self.failures = u32::MAX;
        }
    }

    fn record(&self, event: Event) {
        // A dead writer records nothing; the next opening finds the same and records it then.
        let _ = self.core.execute(&Caller::system(), |_, _| Ok::<_, Error>((vec![event], ())));
    }

    fn stamp(&self) -> String {
        let mut bytes = [0; 4];
        let _ = self.core.random.fill(&mut bytes);
        format!("{}-{:08x}", self.core.clock.now().as_millis(), u32::from_le_bytes(bytes))
    }
}
