//! Moving envelopes to another backend, in steps that a crash at any point only repeats.
//!
//! | step | recorded as | a crash before the next step |
//! |---|---|---|
//! | begin | `backend_migration_started` | goes on copying |
//! | copy, read back, compare | `envelopes_moved` where the log is the target | copies what is not there yet |
//! | switch, once nothing is missing | `backend_switched` | the marker follows the log at the next opening |
//! | write the marker, remove the former objects | `backend_migration_finished` | goes on removing |
//!
//! Reads and writes go to the former backend until the switch. Writers go on meanwhile, and what they write is
//! copied in further rounds; only the last few envelopes are copied while they wait. The log forgets nothing: an
//! envelope that was once in an event need not come back into it.

use std::sync::{Arc, PoisonError};

use crate::backend::{BackendError, BlobBackend};
use crate::base::{BackendKind, Caller, SecretPath, limits};
use crate::event::Event;
use crate::event::vault::{
    BackendMigrationAborted, BackendMigrationFinished, BackendMigrationStarted, BackendSwitched, EnvelopesMoved,
    MovedEnvelope,
};
use crate::vault::{self, BackendState, Counters, VaultError, VersionRecord};

use super::core::Core;
use super::error::Error;
use super::home;

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Migration {
    /// Envelopes that the backend holds now; 0 where nothing was switched.
    pub envelopes: u64,
    /// Envelopes that were copied in this run.
    pub copied: u64,
    /// Objects that were removed from the other backend, or that nothing named.
    pub removed: u64,
    /// Whether a migration to another backend was given up.
    pub aborted: bool,
}

/// What a migration would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan {
    /// Where envelopes are now.
    pub now: BackendState,
    /// Envelopes there are.
    pub envelopes: u64,
    /// Bytes of the values in them.
    pub bytes: u64,
    /// What stands in the way of the new backend, if anything.
    pub obstacle: Option<String>,
}

/// The storage backends of a ledger, for one caller.
#[derive(Clone)]
pub struct Backends {
    core: Arc<Core>,
    caller: Caller,
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Is told how many envelopes of how many are copied.
type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// One round of copying.
struct Copying<'a> {
    core: &'a Core,
    caller: &'a Caller,
    /// Where to; none for the log.
    target: Option<Arc<dyn BlobBackend>>,
    /// Whether an earlier run may have copied some already.
    resumed: bool,
    batch: Vec<MovedEnvelope>,
    batch_bytes: usize,
    copied: u64,
}

impl Copying<'_> {
    /// Copies every envelope whose slot lies in the range.
    fn round(&mut self, slots: std::ops::Range<u64>, progress: &mut Progress<'_>) -> Result<(), Error> {
        let total = living(&self.core.counters()?);
        let mut seen = 0;
        vault::each_version(&self.core.index, &mut |target, record| {
            if record.shredded.is_none() && slots.contains(&record.slot) {
                self.one(target, record)?;
                seen += 1;
                progress(seen.min(total), total);
            }
            Ok::<_, Error>(())
        })?;
        self.flush()
    }

    fn one(&mut self, target: &SecretPath, record: &VersionRecord) -> Result<(), Error> {
        let Some(backend) = self.target.clone() else { return self.bring_back(target, record) };
        let slot = record.slot;
        let Some(envelope) = self.fetch(target, record)? else { return Ok(()) };
        // What is damaged there is simply written again.
        if self.resumed && backend.get(slot).is_ok_and(|found| found.as_ref() == Some(&envelope)) {
            return Ok(());
        }
        self.core.guard(backend.put(slot, &envelope).map_err(Error::from))?;
        if backend.get(slot)?.as_ref() != Some(&envelope) {
            return Err(BackendError::NotKept { kind: backend.kind(), slot }.into());
        }
        self.copied += 1;
        Ok(())
    }

    fn bring_back(&mut self, target: &SecretPath, record: &VersionRecord) -> Result<(), Error> {
        let event = self.core.put_event(target, record)?;
        let moved = vault::moved_by(&self.core.index, record.slot).map_err(VaultError::from)?;
        if event.backend == BackendKind::Ledger.number() || moved.is_some() {
            return Ok(());
        }
        let Some(envelope) = self.fetch(target, record)? else { return Ok(()) };
        if self.batch_bytes + envelope.len() > limits::MOVED_BYTES_MAX || self.batch.len() >= limits::MOVED_MAX {
            self.flush()?;
        }
        self.batch_bytes += envelope.len();
        self.batch.push(MovedEnvelope { slot: record.slot, envelope });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let envelopes = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if envelopes.is_empty() {
            return Ok(());
        }
        self.copied += envelopes.len() as u64;
        let event = Event::EnvelopesMoved(EnvelopesMoved { envelopes });
        self.core.execute(self.caller, |_, _| Ok::<_, Error>((vec![event], ()))).map(|_| ())
    }

    /// An envelope, checked against the log; none where its version was shredded meanwhile.
    fn fetch(&self, target: &SecretPath, record: &VersionRecord) -> Result<Option<Vec<u8>>, Error> {
        match self.core.envelope(target, record) {
            Err(Error::Away { .. }) if self.core.shredded_meanwhile(target, record.version)? => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Core {
    fn counters(&self) -> Result<Counters, Error> {
        Ok(vault::counters(&self.index).map_err(VaultError::from)?)
    }
}

const fn living(counters: &Counters) -> u64 {
    counters.versions.saturating_sub(counters.shredded)
}

impl Backends {
    pub(super) const fn new(core: Arc<Core>, caller: Caller) -> Self {
        Self { core, caller }
    }

    /// Where envelopes are, and where a move of them stands.
    ///
    /// # Errors
    /// [`Error::Vault`] where the state cannot be read.
    pub fn state(&self) -> Result<BackendState, Error> {
        self.core.open_still()?;
        self.core.backend_state()
    }

    /// What a move to `to` would do, without doing it.
    ///
    /// # Errors
    /// [`Error::Vault`] where the state cannot be read.
    pub fn plan(&self, to: BackendKind) -> Result<MigrationPlan, Error> {
        let mut plan = MigrationPlan { now: self.state()?, envelopes: 0, bytes: 0, obstacle: None };
        vault::each_version(&self.core.index, &mut |_, record| {
            if record.shredded.is_none() {
                plan.envelopes += 1;
                plan.bytes += u64::from(record.value_bytes);
            }
            Ok::<_, vault::ApplyFault>(())
        })
        .map_err(VaultError::from)?;
        plan.obstacle = self.probe(to).err().map(|error| error.to_string());
        Ok(plan)
    }

    /// Whether a backend could keep envelopes now.
    ///
    /// # Errors
    /// [`Error::Backend`] with what stands in the way.
    pub fn probe(&self, kind: BackendKind) -> Result<(), Error> {
        match self.core.outside(kind)? {
            Some(backend) => Ok(backend.probe()?),
            None => Ok(()),
        }
    }

    /// Moves every envelope to a backend, verified one by one, and removes the former objects. An unfinished
    /// move is gone on with; asking for the backend that it came from gives it up before the switch. Where the
    /// ledger has that backend already, objects that no version names are swept.
    ///
    /// # Errors
    /// [`Error::MoveUnfinished`] where another move is under way, [`Error::Backend`] or [`Error::Away`] where an
    /// envelope cannot be kept or is not there: nothing is switched then, and running it again goes on.
    pub fn migrate(&self, to: BackendKind, progress: &mut Progress<'_>) -> Result<Migration, Error> {
        let _moving = self.core.outside.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Migration::default();
        let mut moved = false;
        loop {
            let now = self.state()?;
            match (now.other, now.switched) {
                (Some(former), true) => {
                    moved = true;
                    done.removed += self.clear(former)?;
                    done.envelopes = living(&self.core.counters()?);
                }
                (Some(next), false) if next == to => {
                    self.copy(now.kind, to, true, &mut done, progress)?;
                }
                (Some(next), false) if now.kind == to => {
                    done.removed += self.abort(next)?;
                    return Ok(Migration { aborted: true, ..done });
                }
                (Some(next), false) => return Err(Error::MoveUnfinished { from: now.kind, to: next }),
                (None, _) if now.kind == to => {
                    if !moved {
                        done.removed += self.sweep(to)?;
                    }
                    return Ok(done);
                }
                (None, _) => {
                    self.probe(to)?;
                    self.record(Event::BackendMigrationStarted(BackendMigrationStarted { from: now.kind, to }))?;
                    self.copy(now.kind, to, false, &mut done, progress)?;
                }
            }
        }
    }

    /// Ends a move whose former backend is gone for good: what it may hold is left there, sealed. Nothing to do
    /// where no move waits for its former backend.
    ///
    /// # Errors
    /// What failed.
    pub fn leave_former(&self) -> Result<(), Error> {
        let _moving = self.core.outside.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.state()?;
        let Some(from) = now.other.filter(|_| now.switched) else { return Ok(()) };
        self.pin(now.kind)?;
        self.record(Event::BackendMigrationFinished(BackendMigrationFinished { from, removed: 0 }))
    }

    fn record(&self, event: Event) -> Result<(), Error> {
        self.core.execute(&self.caller, |_, _| Ok::<_, Error>((vec![event], ()))).map(|_| ())
    }

    /// Copies until nothing is missing, then switches.
    fn copy(
        &self,
        from: BackendKind,
        to: BackendKind,
        resumed: bool,
        done: &mut Migration,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let core = &*self.core;
        let target = core.outside(to)?;
        let mut copying =
            Copying { core, caller: &self.caller, target, resumed, batch: Vec::new(), batch_bytes: 0, copied: 0 };
        let mut through = 0;
        for _ in 0..limits::MIGRATION_ROUNDS {
            let next = core.counters()?.next_slot;
            if through > 0 && next.saturating_sub(through) <= limits::MIGRATION_LAST_ROUND as u64 {
                break;
            }
            copying.round(through..next, progress)?;
            through = next;
        }
        // Whoever writes or reads a value holds the table: nobody does so from here to the switch.
        let table = core.table.write().unwrap_or_else(PoisonError::into_inner);
        let counters = core.counters()?;
        if counters.next_slot > through {
            copying.round(through..counters.next_slot, progress)?;
        }
        done.copied += copying.copied;
        done.envelopes = living(&counters);
        core.execute(&self.caller, |state, _| {
            if vault::counters(state).map_err(VaultError::from)?.next_slot != counters.next_slot {
                return Err(Error::MoveUnfinished { from, to });
            }
            let event = BackendSwitched { from, to, envelopes: done.envelopes };
            Ok((vec![Event::BackendSwitched(event)], ()))
        })?;
        self.pin(to)?;
        drop(table);
        Ok(())
    }

    /// Writes the marker: the log has said so already.
    fn pin(&self, kind: BackendKind) -> Result<(), Error> {
        let written = self.core.medium.write_atomic(&self.core.layout.backend(), home::marker(kind).as_bytes());
        self.core.guard(written.map_err(Error::from))
    }

    /// Removes the former backend's objects, and in the new one those of versions that were shredded meanwhile.
    fn clear(&self, former: BackendKind) -> Result<u64, Error> {
        let now = self.core.backend_state()?.kind;
        self.pin(now)?;
        let removed = self.remove_all(former)?;
        self.sweep(now)?;
        self.record(Event::BackendMigrationFinished(BackendMigrationFinished { from: former, removed }))?;
        Ok(removed)
    }

    /// Gives a move up. A backend that is gone for good must not keep it from that: its copies are left then.
    fn abort(&self, to: BackendKind) -> Result<u64, Error> {
        let removed = match self.remove_all(to) {
            Err(Error::Backend(BackendError::Store(error))) => return self.core.guard(Err(error.into())),
            Err(Error::Backend(_)) => 0,
            other => other?,
        };
        self.record(Event::BackendMigrationAborted(BackendMigrationAborted { to, removed }))?;
        Ok(removed)
    }

    fn remove_all(&self, kind: BackendKind) -> Result<u64, Error> {
        let Some(backend) = self.core.outside(kind)? else { return Ok(0) };
        let mut removed = 0;
        let mut remove = |slot| {
            self.core.guard(backend.delete(slot).map_err(Error::from))?;
            removed += 1;
            Ok::<_, Error>(())
        };
        if let Some(slots) = backend.list()? {
            slots.into_iter().try_for_each(remove)?;
        } else {
            vault::each_version(&self.core.index, &mut |_, record| remove(record.slot))?;
        }
        Ok(removed)
    }

    /// Removes objects that no version names: what a crash or an unreachable backend left.
    fn sweep(&self, kind: BackendKind) -> Result<u64, Error> {
        let Some(backend) = self.core.outside(kind)? else { return Ok(0) };
        let orphans = self.core.orphans(&*backend)?;
        for slot in &orphans {
            self.core.guard(backend.delete(*slot).map_err(Error::from))?;
        }
        Ok(orphans.len() as u64)
    }
}

impl Core {
    /// Objects below the first unnamed slot that no version names. Those above belong to puts under way, or are
    /// overwritten by the next ones.
    pub(super) fn orphans(&self, backend: &dyn BlobBackend) -> Result<Vec<u64>, Error> {
        let next = self.counters()?.next_slot;
        let Some(mut slots) = backend.list()? else { return Ok(Vec::new()) };
        slots.retain(|slot| *slot < next);
        let mut living = Vec::new();
        vault::each_version(&self.index, &mut |_, record| {
            if record.shredded.is_none() {
                living.push(record.slot);
            }
            Ok::<_, vault::ApplyFault>(())
        })
        .map_err(VaultError::from)?;
        living.sort_unstable();
        slots.retain(|slot| living.binary_search(slot).is_err());
        Ok(slots)
    }
}
