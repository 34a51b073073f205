//! One episode: a fresh ledger, its disk and clock, and the model that it is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palyra_ledger::identity::DeviceState;
use palyra_ledger::pki;
use palyra_ledger::testing::{Fault as Planned, FaultError, FaultMedium, FaultOp, ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, AuditReads, Clock as _, Config, Error, Hash, Ledger, NewSlot, PutOptions, ReplayPoint, Serial, Timestamp,
};

use super::Figures;
use super::nonces::Nonces;
use super::pairing::Pairer;
pub use super::planted::Planted;
use super::refresh::{Provider, Refresher};
use crate::Fault;
use crate::workload::{self, Dice, Disk, Lane, Op, World, find, settings, verify};

/// What went wrong, and in which step.
#[derive(Debug)]
pub struct Failure {
    /// The step.
    pub step: u64,
    /// What was found.
    pub what: String,
}

/// A certificate that was issued at some time.
pub struct Issued {
    pub device: u64,
    pub serial: Serial,
    pub fingerprint: pki::Fingerprint,
    pub not_after: Timestamp,
    pub generation: u32,
    /// Its device was revoked since: it is good for nothing, for ever.
    pub revoked: bool,
    /// It was accepted before.
    pub accepted: bool,
}

/// A storage fault met an operation: whether that is there is known after the next opening.
pub struct Wound {
    pub under_way: Option<(Lane, Op)>,
}

/// One episode.
pub struct Episode {
    pub dice: Dice,
    pub clock: ManualClock,
    pub world: World,
    pub provider: Provider,
    pub refreshers: Vec<Refresher>,
    pub pairers: Vec<Pairer>,
    pub issued: Vec<Issued>,
    /// Clients that saw so many versions and will write over the last.
    pub seen: Vec<Option<(Lane, u8, usize)>>,
    pub planted: Option<Planted>,
    /// The plant whose steps are taken, whether it is there or not.
    pub provoked: Option<Planted>,
    /// A disk of earlier, for who is to be shown an old copy.
    pub earlier: Option<SimDisk>,
    /// Certificates that were accepted once, for a door that does not ask again.
    pub accepted: BTreeSet<Serial>,
    pub wound: Option<Wound>,
    nonces: Nonces,
    ledger: Option<Ledger>,
    medium: FaultMedium<Disk>,
    disk: SimDisk,
    openings: u64,
    /// When the epoch began, by the clock that the ledger was given.
    epoch_since: Timestamp,
    /// The latest time that the clock ever showed.
    latest: Timestamp,
    roots: Vec<(u64, Hash)>,
    step: u64,
    trace: Vec<String>,
    digest: blake3::Hasher,
    figures: Figures,
    seed: u64,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

type Step<T = ()> = Result<T, String>;

/// What went wrong, in words.
pub fn said(fault: impl std::fmt::Display) -> String {
    fault.to_string()
}

impl Episode {
    /// A fresh ledger.
    pub fn new(seed: u64) -> Result<Self, Fault> {
        Self::provoking(seed, None, None)
    }

    /// A fresh ledger, and steps that bring a plant out, whether it is there or not.
    pub fn provoking(seed: u64, provoked: Option<Planted>, planted: Option<Planted>) -> Result<Self, Fault> {
        let disk = SimDisk::new();
        let medium = FaultMedium::new(Disk { inner: disk.clone(), lies: false });
        let clock = ManualClock::default();
        let start = clock.now();
        let mut new = Self {
            dice: Dice::new(seed),
            clock,
            world: World::new(),
            provider: Provider::default(),
            refreshers: (0..3).map(|_| Refresher::default()).collect(),
            pairers: (0..3).map(|_| Pairer::default()).collect(),
            issued: Vec::new(),
            seen: vec![None; 4],
            planted,
            provoked,
            earlier: None,
            accepted: BTreeSet::new(),
            wound: None,
            nonces: Nonces::default(),
            ledger: None,
            medium,
            disk,
            openings: 0,
            epoch_since: start,
            latest: start,
            roots: Vec::new(),
            step: 0,
            trace: Vec::new(),
            digest: blake3::Hasher::new(),
            figures: Figures::new(),
            seed,
        };
        let ledger = Ledger::init(new.config(), NewSlot::file("machine"))?;
        ledger.identity().authorities()?;
        ledger.close()?;
        drop(ledger);
        new.disk.settle();
        let image = new.disk.snapshot();
        new.open(image)?;
        Ok(new)
    }

    fn config(&mut self) -> Config {
        self.openings += 1;
        let openings = if self.planted == Some(Planted::SameRandom) { 0 } else { self.openings };
        Config::new("/home")
            .medium(Arc::new(self.medium.clone()))
            .random(Arc::new(SeededRandom::new(self.seed ^ openings << 32)))
            .clock(Arc::new(self.clock.clone()))
            .without_background()
            .argon_cost(ArgonCost::for_tests())
            .settings(settings(AuditReads::Batched))
    }

    /// Runs so many operations.
    pub fn run(&mut self, operations: u64) -> Result<(), Failure> {
        let fail = |step: u64| move |what: String| Failure { step, what };
        while self.step < operations {
            let step = self.step;
            self.one().map_err(fail(step))?;
            self.step += 1;
        }
        self.restart(true).and_then(|()| self.verify()).map_err(fail(self.step))
    }

    /// Operations that were run.
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// The digest of what happened.
    pub fn digest(&self) -> blake3::Hash {
        self.digest.finalize()
    }

    /// What happened, step by step.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    /// What was counted.
    pub const fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.figures.entry(what).or_default() += 1;
    }

    /// The open ledger.
    pub fn ledger(&self) -> Step<&Ledger> {
        self.ledger.as_ref().ok_or_else(|| "no ledger is open".to_owned())
    }

    /// The time, as the ledger has it: never behind the log, and so between what the clock shows and the latest that
    /// it ever showed.
    pub fn now(&self) -> Step<Timestamp> {
        let now = self.ledger()?.identity().clock().now();
        if now < self.clock.now() || now > self.latest {
            return Err(format!("the ledger's time is {now}: the clock shows {} of {}", self.clock.now(), self.latest));
        }
        Ok(now)
    }

    /// The clock goes on.
    pub fn advance(&mut self, by: u64) {
        self.clock.advance(by);
        self.latest = self.latest.max(self.clock.now());
    }

    fn one(&mut self) -> Step {
        let by = self.dice.below(400);
        self.advance(by);
        let what = self.act()?;
        self.heal()?;
        self.watch_certificates(1)?;
        self.heal()?;
        let head = self.ledger()?.log().head().map_err(said)?.seq;
        let line = format!("{} {what} {head} {}", self.step, self.medium.count(FaultOp::Any));
        self.digest.update(line.as_bytes());
        self.trace.push(line);
        Ok(())
    }

    /// Where a storage fault met what was done, the process ends, and the next one is held against the model.
    fn heal(&mut self) -> Step {
        if let Some(Wound { under_way }) = self.wound.take() {
            self.count("operations that a storage fault met");
            self.is_dead_or_well()?;
            self.crash(under_way)?;
        }
        Ok(())
    }

    /// An operation that changes something: the model follows what was acknowledged.
    pub fn mutate<T>(
        &mut self,
        lane: Lane,
        op: &Op,
        work: impl FnOnce(&Ledger) -> Result<T, Fault>,
    ) -> Step<Option<T>> {
        let fired = self.medium.fired();
        match work(self.ledger()?) {
            Ok(value) => {
                self.world.apply(lane, op)?;
                if let Op::Epoch | Op::Root | Op::RootAlone = op {
                    self.epoch_since = self.now()?;
                }
                Ok(Some(value))
            }
            Err(fault) if self.is_wounded(fired) => {
                if fault.to_string().trim().is_empty() {
                    return Err(format!("{op:?}: an error without words"));
                }
                self.wound = Some(Wound { under_way: Some((lane, op.clone())) });
                Ok(None)
            }
            Err(fault) => Err(format!("{op:?}: {fault}")),
        }
    }

    /// An operation that changes nothing that the model knows: a refusal is for the caller to judge.
    pub fn look<T>(&mut self, work: impl FnOnce(&Ledger) -> Result<T, Error>) -> Step<Option<Result<T, Error>>> {
        let fired = self.medium.fired();
        match work(self.ledger()?) {
            Ok(value) => Ok(Some(Ok(value))),
            Err(_) if self.is_wounded(fired) => {
                self.wound = Some(Wound { under_way: None });
                Ok(None)
            }
            Err(error) => Ok(Some(Err(error))),
        }
    }

    /// A look of the lab's own, which nothing may refuse; nothing where a storage fault met it.
    pub fn must<T>(&mut self, work: impl FnOnce(&Ledger) -> Result<T, Error>) -> Step<Option<T>> {
        self.look(work)?.transpose().map_err(said)
    }

    fn is_wounded(&self, fired: u64) -> bool {
        self.medium.fired() > fired || self.ledger.as_ref().is_some_and(|ledger| ledger.alive().is_err())
    }

    /// After a fault the writer is dead and says so, or it was none of the writer's.
    fn is_dead_or_well(&mut self) -> Step {
        self.medium.clear_plan();
        let ledger = self.ledger()?;
        if ledger.alive().is_ok() {
            return Ok(());
        }
        let vault = ledger.vault("global".parse().map_err(said)?);
        let name = "after-the-fault".parse().map_err(said)?;
        match vault.put(&name, &palyra_ledger::SecretBytes::from(b"x".as_slice()), PutOptions::new()) {
            Err(error @ Error::Dead { .. }) if error.to_string().contains("open it again") => {}
            other => return Err(format!("a dead writer answered {other:?}")),
        }
        self.count("writers that died of a fault");
        Ok(())
    }

    /// Storage calls that fail are planned.
    pub fn plan_fault(&mut self) {
        let errors = [FaultError::Io, FaultError::NoSpace, FaultError::ReadOnly, FaultError::TooManyFiles];
        let ops = [
            FaultOp::Any,
            FaultOp::Change,
            FaultOp::Write,
            FaultOp::Sync,
            FaultOp::Create,
            FaultOp::Rename,
            FaultOp::Read,
        ];
        let error = self.dice.pick(&errors).copied().unwrap_or(FaultError::Io);
        let op = self.dice.pick(&ops).copied().unwrap_or(FaultOp::Any);
        let nth = 1 + self.dice.below(12);
        let mut fault =
            if self.dice.once_in(3) { Planned::from_then_on(op, nth, error) } else { Planned::once(op, nth, error) };
        if self.dice.once_in(3) {
            fault = fault.with_short_write();
        }
        self.medium.plan(fault);
        self.count("storage faults planned");
    }

    /// The power goes: one of the disks that it could leave is opened.
    pub fn crash(&mut self, under_way: Option<(Lane, Op)>) -> Step {
        let image = self.image();
        self.leave()?;
        self.open(image)?;
        self.count("power cuts");
        self.settle(under_way.into_iter().collect())
    }

    /// The ledger is closed and opened again; sometimes a process that only reads comes in between.
    pub fn restart(&mut self, reader: bool) -> Step {
        let fired = self.medium.fired();
        if let Err(error) = self.ledger()?.close() {
            if !self.is_wounded(fired) {
                return Err(format!("closing: {error}"));
            }
            return self.crash(None);
        }
        let image = if self.dice.once_in(2) { self.image() } else { self.disk.crash_all() };
        self.leave()?;
        let image = self.shown(image);
        if reader {
            self.medium = FaultMedium::new(Disk { inner: image.clone(), lies: false });
            let config = self.config().read_only();
            let reading = Ledger::open(config).map_err(|error| format!("opening for reading: {error}"))?;
            let found = find(&reading, false).map_err(|fault| format!("reading only: {fault}"))?;
            self.world.clone().settle(&found, &BTreeMap::new()).map_err(|what| format!("reading only: {what}"))?;
            self.count("processes that only read");
            drop(reading);
            self.observe_medium()?;
        }
        self.open(image)?;
        self.settle(BTreeMap::new())
    }

    /// The disk that is opened: this one, or an earlier one where that is planted.
    fn shown(&mut self, image: SimDisk) -> SimDisk {
        if self.planted != Some(Planted::OldCopy) {
            return image;
        }
        let earlier = self.earlier.take();
        self.earlier = Some(image.snapshot());
        earlier.unwrap_or(image)
    }

    fn image(&mut self) -> SimDisk {
        match self.dice.below(8) {
            0 | 1 => self.disk.crash_strict(),
            2 => self.disk.crash_all(),
            3 => self.disk.crash_names_only(),
            4 => self.disk.crash_data_only(),
            _ => self.disk.crash(self.dice.number()),
        }
    }

    /// The process is gone, with all it had in memory.
    fn leave(&mut self) -> Step {
        self.observe(false)?;
        self.disk.set_cut_after(0);
        self.ledger = None;
        for refresher in &mut self.refreshers {
            refresher.died(&mut self.provider);
        }
        self.pairers.iter_mut().for_each(Pairer::died);
        Ok(())
    }

    /// What the observers saw, before the disk and the medium are others.
    fn observe(&mut self, torn: bool) -> Step {
        let new = self.nonces.observe(&self.disk.crash_all(), torn)?;
        *self.figures.entry("nonces compared with all before").or_default() += new;
        self.observe_medium()
    }

    fn observe_medium(&self) -> Step {
        let violations = self.medium.violations();
        if violations.is_empty() { Ok(()) } else { Err(format!("went on after a failed sync: {violations:?}")) }
    }

    /// Opens a disk; sometimes the power goes again meanwhile, or a storage call fails.
    fn open(&mut self, mut image: SimDisk) -> Step {
        for tries in 0.. {
            let lies = self.planted == Some(Planted::NoSync);
            self.medium = FaultMedium::new(Disk { inner: image.clone(), lies });
            self.disk = image.clone();
            let troubled = tries < 3 && self.openings > 1 && self.dice.once_in(3);
            if troubled && self.dice.once_in(2) {
                image.set_cut_after(image.operations() + self.dice.below(40));
            } else if troubled {
                self.plan_fault();
            }
            let config = self.config();
            let opened = Ledger::open(config);
            let met = image.was_cut() || self.medium.fired() > 0;
            match opened {
                Ok(ledger) if !met => {
                    image.set_cut_after(u64::MAX);
                    self.medium.clear_plan();
                    self.ledger = Some(ledger);
                    return Ok(());
                }
                Err(error) if !met => return Err(format!("opening: {error}")),
                done => {
                    self.count("openings that met a power cut or a fault");
                    self.observe(true)?;
                    let next = self.image();
                    image.set_cut_after(0);
                    drop(done);
                    self.observe_medium()?;
                    image = next;
                }
            }
        }
        Ok(())
    }

    /// Compares everything with the model, and learns which operation under way is there.
    fn settle(&mut self, mut under_way: BTreeMap<Lane, Op>) -> Step {
        let deep = self.dice.once_in(4);
        let epoch = self.world.epoch();
        self.end_epoch(&mut under_way)?;
        let found = find(self.ledger()?, deep).map_err(said)?;
        let whole = self.world.settle(&found, &under_way)?;
        if self.world.epoch() != epoch {
            self.epoch_since = self.now()?;
        }
        *self.figures.entry("operations under way at a cut, found done").or_default() += whole;
        *self.figures.entry("operations under way at a cut, found not begun").or_default() +=
            under_way.len() as u64 - whole;
        self.learn_certificates()?;
        self.learn_refreshes()?;
        self.watch_certificates(usize::MAX)?;
        if self.dice.once_in(4) { self.verify() } else { Ok(()) }
    }

    /// An epoch older than the settings allow ends at an opening, if what was under way did not end it.
    fn end_epoch(&mut self, under_way: &mut BTreeMap<Lane, Op>) -> Step {
        let most = settings(AuditReads::Batched).keys.epoch_max_age_days.saturating_mul(DAY_MS);
        let age = self.clock.now().as_millis().saturating_sub(self.epoch_since.as_millis());
        if most == 0 || age <= most {
            return Ok(());
        }
        self.world.apply(Lane::Keys, &Op::Epoch)?;
        self.count("epochs that ended of their age at an opening");
        match under_way.remove(&Lane::Keys) {
            // The epoch that it began, or the one begun for age: one more in either case.
            Some(Op::Epoch) | None => {}
            Some(Op::Root) => drop(under_way.insert(Lane::Keys, Op::RootAlone)),
            Some(op) => drop(under_way.insert(Lane::Keys, op)),
        }
        Ok(())
    }

    /// The log verifies with its state, and its replay gives the same; what it gave before it gives again.
    pub fn verify(&mut self) -> Step {
        let ledger = self.ledger()?;
        verify(ledger, false).map_err(said)?;
        let root = ledger.state_root().map_err(said)?;
        let replayed = ledger.replay(ReplayPoint::Head).and_then(|replay| replay.state_root()).map_err(said)?;
        if root != replayed {
            return Err(format!("the state root is {root}, its replay gives {replayed}"));
        }
        let seq = ledger.log().head().map_err(said)?.seq;
        if !self.roots.is_empty() {
            let old = self.dice.below(self.roots.len() as u64);
            if let Some((seq, root)) = usize::try_from(old).ok().and_then(|at| self.roots.get(at)) {
                let replay = self.ledger()?.replay(ReplayPoint::Seq(*seq)).map_err(said)?;
                let again = replay.state_root().map_err(said)?;
                if again != *root {
                    return Err(format!("the state root at event {seq} was {root} and is {again}"));
                }
            }
        }
        self.roots.push((seq, root));
        self.count("verifications with state and replay");
        Ok(())
    }

    /// Certificates of devices as they are now.
    pub fn learn_certificates(&mut self) -> Step {
        let devices: Vec<u64> = self.world.devices().collect();
        for device in devices {
            let id = workload::device_id(device);
            let Some(serials) = self.must(|ledger| ledger.identity().certificates_of(id))? else { return Ok(()) };
            for serial in serials {
                if self.issued.iter().all(|known| known.serial != serial) {
                    let both = |ledger: &Ledger| {
                        let identity = ledger.identity();
                        Ok((identity.certificate(serial)?, identity.certificate_der(serial)?))
                    };
                    let Some((record, der)) = self.must(both)? else { return Ok(()) };
                    self.issued.push(Issued {
                        device,
                        serial,
                        fingerprint: pki::fingerprint(der.as_bytes()),
                        not_after: record.not_after,
                        generation: record.generation,
                        revoked: false,
                        accepted: false,
                    });
                }
            }
            if self.world.device(device).is_some_and(|known| known.state != DeviceState::Paired) {
                self.issued.iter_mut().filter(|known| known.device == device).for_each(|known| known.revoked = true);
            }
        }
        Ok(())
    }

    /// A device that was revoked is not accepted, whatever came since; one that is paired is.
    pub fn watch_certificates(&mut self, most: usize) -> Step {
        let Some(trust) = self.must(|ledger| ledger.identity().trust())? else { return Ok(()) };
        let now = self.now()?;
        let first = self.dice.below(self.issued.len() as u64);
        let mut seen = Vec::new();
        let chosen = self.issued.iter().cycle().skip(usize::try_from(first).unwrap_or(0));
        for known in chosen.take(most.min(self.issued.len())) {
            let Issued { device, serial, fingerprint, not_after, generation, revoked, accepted: before } = known;
            let accepted = match self.planted {
                Some(Planted::NoLook) => Ok(()),
                Some(Planted::Resumed) if self.accepted.contains(serial) => Ok(()),
                _ => trust.check(workload::device_id(*device), *serial, fingerprint),
            };
            if accepted.is_ok() && self.planted == Some(Planted::Resumed) {
                self.accepted.insert(*serial);
            }
            if *revoked && accepted.is_ok() {
                let before = if *before { ", as it was before" } else { "" };
                return Err(format!("device {device} was revoked, and certificate {serial} of it is accepted{before}"));
            }
            if accepted.is_ok() {
                seen.push(*serial);
            }
            let good = !revoked && now < *not_after && !self.world.is_revoked(*generation);
            if let (true, Err(cause)) = (good, &accepted) {
                return Err(format!("device {device} is paired, and certificate {serial} is refused: {cause:?}"));
            }
        }
        self.issued.iter_mut().filter(|known| seen.contains(&known.serial)).for_each(|known| known.accepted = true);
        Ok(())
    }
}
