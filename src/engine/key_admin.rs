//! Administration of keys: slots, epochs, rotation. Each change is committed by the log.
//!
//! A new key ring is written beside the old one, then the event that names its digest is appended;
//! that is the commit point. Then the new ring replaces the old. A crash before the event leaves the
//! old ring in force, one after it the new: the next opening does what is left.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{Caller, SecretBytes, SlotId, limits};
use crate::crypto::{Hash, Key};
use crate::event::Event;
use crate::event::system::{EpochCause, EpochStarted, KeySlotAdded, KeySlotRemoved, RootRotated};
use crate::keys::{self, KeyRing, KeySlot, KeyTable, KeysError, NewSlot, RingEdit, SlotError, SlotKind};
use crate::vault::{self, Sealer};

use super::core::{Core, TableState};
use super::error::Error;
use super::init::slot_note;

impl Core {
    pub(super) fn ring(&self) -> MutexGuard<'_, KeyRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages a ring, commits it with its event, and puts it in force.
    pub(super) fn commit_ring(
        &self,
        caller: &Caller,
        ring: &mut KeyRing,
        edit: RingEdit,
        event: impl FnOnce(Hash) -> Event,
    ) -> Result<(), Error> {
        self.stage_ring(&edit)?;
        let event = event(edit.ring.digest());
        self.execute(caller, |_, _| Ok::<_, Error>((vec![event], ())))?;
        self.promote_ring(ring, edit.ring)
    }

    /// Writes a changed ring beside the one in force. Without the event that names it, it never counts.
    pub(super) fn stage_ring(&self, edit: &RingEdit) -> Result<(), Error> {
        self.alive()?;
        let RingEdit { ring: edited, files } = edit;
        let dir = self.layout.keys();
        files.keep(&*self.outside.keystore).map_err(KeysError::KeystorePut)?;
        let staged = files.write(&*self.medium, &dir).and_then(|()| keys::stage(&*self.medium, &dir, edited));
        if staged.is_err() {
            files.give_up(&*self.outside.keystore);
        }
        self.guard(staged.map_err(Error::from))
    }

    /// Puts a staged ring in force: its event is durable.
    pub(super) fn promote_ring(&self, ring: &mut KeyRing, edited: KeyRing) -> Result<(), Error> {
        self.guard(keys::promote(&*self.medium, &self.layout.keys()).map_err(Error::from))?;
        let former = std::mem::replace(ring, edited);
        // They open nothing but copies of the former ring. A keystore that does not answer keeps them until the
        // next opening through it.
        let needed = ring.keystore_accounts();
        for account in former.keystore_accounts().iter().filter(|account| !needed.contains(account)) {
            if self.outside.keystore.delete(account).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Removes what a crash left in the keystore of other generations of the slot that opened; only where that
    /// slot is the keystore's own, since it answers then.
    pub(super) fn sweep_keystore(&self) {
        let (ring, keystore) = (self.ring(), &*self.outside.keystore);
        let opened = self.unlocked().slot();
        if !ring.slots().iter().any(|slot| slot.id() == opened && slot.kind() == SlotKind::OsKeystore) {
            return;
        }
        let group = format!("{}/{opened}", self.ledger_id);
        let needed = ring.keystore_accounts();
        let Ok(Some(names)) = keystore.list(&group) else { return };
        let accounts = names.iter().map(|name| format!("{group}/{name}"));
        for account in accounts.filter(|account| !needed.contains(account)) {
            if keystore.delete(&account).is_err() {
                return;
            }
        }
    }

    /// The key slots, and which is pinned.
    pub(super) fn key_slots(&self) -> (Vec<KeySlot>, SlotId) {
        let ring = self.ring();
        (ring.slots().to_vec(), ring.pinned())
    }

    /// Adds a key slot.
    pub(super) fn add_slot(&self, caller: &Caller, slot: &NewSlot) -> Result<KeySlot, Error> {
        let mut ring = self.ring();
        let before: Vec<SlotId> = ring.slots().iter().map(KeySlot::id).collect();
        let edit = ring.add_slot(&self.unlocked(), &*self.random, slot, self.argon_cost, self.clock.now())?;
        let added = edit.ring.slots().iter().find(|slot| !before.contains(&slot.id())).cloned();
        let added = added.ok_or(KeysError::RingNotCommitted)?;
        let note = slot_note(&added);
        self.commit_ring(caller, &mut ring, edit, |keyring| Event::KeySlotAdded(KeySlotAdded { slot: note, keyring }))?;
        Ok(added)
    }

    /// Removes a key slot; if it is the pinned one, another must be named.
    pub(super) fn remove_slot(&self, caller: &Caller, slot: SlotId, new_pin: Option<SlotId>) -> Result<(), Error> {
        let mut ring = self.ring();
        let note = ring.slots().iter().find(|other| other.id() == slot).map(slot_note);
        let edit = ring.remove_slot(&self.unlocked(), &*self.random, slot, new_pin)?;
        let note = note.ok_or(KeysError::NoSuchSlot { slot })?;
        self.commit_ring(caller, &mut ring, edit, |keyring| {
            Event::KeySlotRemoved(KeySlotRemoved { slot: note, keyring })
        })
    }

    /// Starts a new epoch: what follows is sealed by a new key.
    pub(super) fn start_epoch(&self, caller: &Caller, cause: EpochCause) -> Result<u32, Error> {
        let mut ring = self.ring();
        let (edit, epoch) = ring.add_epoch(&self.unlocked(), &*self.random)?;
        let unlocked = edit.ring.reopen(&self.unlocked())?;
        // The key must be at hand before the first batch that it seals is queued.
        *self.unlocked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(unlocked);
        self.commit_ring(caller, &mut ring, edit, |keyring| {
            Event::EpochStarted(EpochStarted { epoch, cause, keyring })
        })?;
        Ok(epoch)
    }

    /// Replaces the root key and the KEK and re-wraps every DEK slot, in one recorded step; then
    /// starts a new epoch. Nothing else uses the key table meanwhile.
    pub(super) fn rotate_root(
        &self,
        caller: &Caller,
        credentials: &[(SlotId, SecretBytes)],
        drop: &[SlotId],
    ) -> Result<u32, Error> {
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut ring = self.ring();
        let (edit, unlocked) = ring.rotate_root(&self.unlocked(), &*self.random, credentials, drop)?;
        let counters = vault::counters(&self.index).map_err(|error| Error::Vault(error.into()))?;
        let (root_generation, table_generation) = (edit.ring.root_generation(), edit.ring.table_generation());
        let kek = unlocked.kek();
        self.alive()?;
        let rewrapped = table.table.rewrap(
            (&*self.medium, &self.layout.keys()),
            (&table.kek, &kek),
            &*self.random,
            table_generation,
            counters.next_slot,
        );
        let rewrapped = self.guard(rewrapped.map_err(Error::from))?;
        let dropped = drop.to_vec();
        self.commit_ring(caller, &mut ring, edit, |keyring| {
            Event::RootRotated(RootRotated { root_generation, table_generation, rewrapped, dropped, keyring })
        })?;
        // The rotation is committed: without its table and keys at hand nothing more may be written.
        let opened = KeyTable::open(&*self.medium, &self.layout.keys(), self.ledger_id, table_generation, true);
        let opened = self.guard(opened.map_err(Error::from))?;
        *table = TableState::new(opened, kek, counters.next_slot);
        *self.unlocked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(unlocked);
        std::mem::drop((ring, table));
        // No backup in between: its key would be wrapped by an epoch that the former root key leads to.
        let started = self.start_epoch(caller, EpochCause::RootRotated);
        std::mem::drop(quiet);
        started
    }

    /// Fills the pool if it is empty: called before a put decides, outside the queue's mutex.
    pub(super) fn ready_slots(&self, state: &TableState) -> Result<(), Error> {
        // Whoever comes after the failure is told of that, and not of what else fails by now.
        self.alive()?;
        if lock(&state.pool).is_empty() {
            // Puts outran the keeper: fill more at a time, so that fewer syncs are shared by more.
            let step = state.step.load(Ordering::Relaxed);
            if self.fill_pool(state, step, 1)? {
                state.step.store((2 * step).min(limits::KEY_TABLE_FILL_MAX), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Brings the pool to so many slots: for a command that takes them all at once.
    pub(super) fn ready_many(&self, state: &TableState, count: usize) -> Result<(), Error> {
        while lock(&state.pool).len() < count {
            self.open_still()?;
            self.alive()?;
            let missing = count.saturating_sub(lock(&state.pool).len());
            self.fill_pool(state, missing.max(limits::KEY_TABLE_FILL), count)?;
        }
        Ok(())
    }

    /// Takes the next fresh slot. Called while deciding, so that slots are named in order.
    pub(super) fn take_slot(&self, state: &TableState) -> Option<Sealer> {
        let mut pool = lock(&state.pool);
        let (slot, slot_key) = pool.pop_front()?;
        if pool.len() == limits::KEY_TABLE_FILL / 2 {
            self.signal.wake();
        }
        Some(Sealer { ledger_id: self.ledger_id, slot, slot_key })
    }

    /// Puts a slot back that no event names, because its command was refused.
    pub(super) fn return_slot(state: &TableState, sealer: Sealer) {
        let Sealer { slot, slot_key, .. } = sealer;
        lock(&state.pool).push_front((slot, slot_key));
    }

    /// Fills the pool when fewer than `low` slots are left.
    pub(super) fn refill_slots(&self, low: usize) -> Result<(), Error> {
        let state = self.table();
        self.fill_pool(&state, state.step.load(Ordering::Relaxed), low).map(|_| ())
    }

    /// Brings the pool to at least `low` slots, if another thread did not do so meanwhile; says whether it
    /// did. First uses what is filled already, then fills more.
    fn fill_pool(&self, state: &TableState, count: usize, low: usize) -> Result<bool, Error> {
        if lock(&state.pool).len() >= low {
            return Ok(false);
        }
        let _filling = lock(&state.filling);
        if lock(&state.pool).len() >= low {
            return Ok(false);
        }
        let mut fresh: Vec<(u64, Key)> = Vec::new();
        let mut unused = state.unused.load(Ordering::Acquire);
        while fresh.len() < count && unused < state.table.len() {
            match state.table.fresh_key(&state.kek, unused) {
                Ok(key) => fresh.push((unused, key)),
                // A fresh slot that is not whole is passed over: nothing depends on it.
                Err(SlotError::Empty | SlotError::Damaged | SlotError::WrongKey | SlotError::Shredded { .. }) => {}
                Err(error @ SlotError::Store(_)) => return Err(KeysError::Slot { slot: unused, source: error }.into()),
            }
            unused += 1;
        }
        if fresh.is_empty() {
            if self.is_dead() {
                return Ok(false);
            }
            fresh = self.guard(state.table.fill(&state.kek, &*self.random, count).map_err(Error::from))?;
            unused = fresh.last().map_or(unused, |(slot, _)| slot + 1);
        }
        let mut pool = lock(&state.pool);
        pool.extend(fresh);
        state.unused.store(unused, Ordering::Release);
        Ok(true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
