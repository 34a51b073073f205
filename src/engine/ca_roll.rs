//! Rolling the CA: prepare, activate, taint, revoke. Each step is one recorded event.
//!
//! | step | roots trusted | issues | CA keys in the ring |
//! |---|---|---|---|
//! | before | old | old | old |
//! | prepare | old, new | old | old, new |
//! | activate | old, new | new; the KEK is derived from it and every DEK re-wrapped | old, new |
//! | taint | old, new; nothing that ended is renewed by the old | new | old, new |
//! | revoke | new | new | new |
//!
//! The key ring is staged, the event commits it, then it is put in force, as for every change of keys: a
//! crash before the event leaves the step undone, one after it lets the next opening finish. A step that was
//! done is refused when it is asked for again, and changes nothing.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use crate::base::limits;
use crate::crypto::Hash;
use crate::event::identity::{CaActivated, CaPrepared, CaRevoked, CaTainted, Der};
use crate::event::{Event, Kind};
use crate::identity::{self, AuthorityRecord, AuthorityState, CertificateRecord, DeviceState, IdentityError};
use crate::keys::{KeyTable, Unlocked};
use crate::pki::LeafKey;
use crate::vault;

use super::core::{Core, TableState};
use super::error::Error;
use super::identity_handle::Identity;
use super::log_view::LogView;
use super::scan::Scan;

impl Core {
    fn take_keys(&self, unlocked: Unlocked) {
        *self.unlocked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(unlocked);
    }
}

fn order(step: &'static str, needs: &'static str) -> Error {
    IdentityError::RollOrder { step, needs }.into()
}

impl Identity {
    /// First step: makes the next CA key and its root certificate, which is trusted from here on. Devices get
    /// it with their next renewal; wait for that before the next step. Gives the new generation.
    ///
    /// # Errors
    /// [`Error::Identity`] where a roll is under way, or as a write.
    pub fn prepare_ca(&self) -> Result<u32, Error> {
        self.authorities()?;
        let core = &self.core;
        let mut ring = core.ring();
        let all = identity::authorities(&core.index)?;
        if all.rolling() {
            return Err(order("prepare", "the roll that is under way to be finished first"));
        }
        if all.0.len() >= limits::CA_GENERATIONS_MAX {
            return Err(order("prepare", "a ledger that keeps fewer CA generations: this one has all it can"));
        }
        let generation = all.0.iter().map(|record| record.generation).max().unwrap_or(0) + 1;
        let key = LeafKey::generate()?;
        let now = self.clock().now();
        let certificate = Der::new(crate::pki::root(key.expose_pkcs8(), core.ledger_id, generation, now)?);
        let not_after = crate::pki::root_end(now);
        let pkcs8 = zeroize::Zeroizing::new(key.expose_pkcs8().to_vec());
        let edit = ring.prepare_ca(&core.unlocked(), &*core.random, generation, pkcs8)?;
        let opened = edit.ring.reopen(&core.unlocked())?;
        core.commit_ring(&self.caller, &mut ring, edit, |keyring| {
            Event::CaPrepared(CaPrepared { generation, certificate, not_after, keyring })
        })?;
        core.take_keys(opened);
        Ok(generation)
    }

    /// Second step: the prepared generation issues, the KEK is derived from its key, and every DEK slot is
    /// re-wrapped, all in one recorded step. Gives the generation and how many slots were re-wrapped. Nothing
    /// else uses the key table meanwhile. Devices that have not renewed since the root was prepared would not
    /// know the daemon again: unless `force` is given, it is refused as long as there is one.
    ///
    /// # Errors
    /// [`Error::Identity`] where none is prepared or devices do not know its root, or as a write.
    pub fn activate_ca(&self, force: bool) -> Result<(u32, u64), Error> {
        let core = &self.core;
        let _quiet = core.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = core.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut ring = core.ring();
        let all = identity::authorities(&core.index)?;
        let prepared =
            all.in_state(AuthorityState::Prepared).ok_or_else(|| order("activate", "a prepared generation"))?;
        let generation = prepared.generation;
        let unaware = self.unaware_of(prepared)?;
        if unaware > 0 && !force {
            let generation = all.active().map_or(0, |record| record.generation);
            return Err(IdentityError::StillDepending { devices: unaware, generation }.into());
        }
        let (edit, unlocked) = ring.activate_ca(&core.unlocked(), &*core.random, generation)?;
        let counters = vault::counters(&core.index).map_err(|error| Error::Vault(error.into()))?;
        let table_generation = edit.ring.table_generation();
        let kek = unlocked.kek();
        core.alive()?;
        let rewrapped = table.table.rewrap(
            (&*core.medium, &core.layout.keys()),
            (&table.kek, &kek),
            &*core.random,
            table_generation,
            counters.next_slot,
        );
        let rewrapped = core.guard(rewrapped.map_err(Error::from))?;
        core.commit_ring(&self.caller, &mut ring, edit, |keyring: Hash| {
            Event::CaActivated(CaActivated { generation, table_generation, rewrapped, keyring })
        })?;
        // The step is committed: without its table and keys at hand nothing more may be written.
        let opened = KeyTable::open(&*core.medium, &core.layout.keys(), core.ledger_id, table_generation, true);
        let opened = core.guard(opened.map_err(Error::from))?;
        *table = TableState::new(opened, kek, counters.next_slot);
        core.take_keys(unlocked);
        Ok((generation, rewrapped))
    }

    /// Third step: the old generation is still trusted, but what it signed is renewed no more once it ended.
    ///
    /// # Errors
    /// [`Error::Identity`] where no generation is retired, or as a write.
    pub fn taint_ca(&self) -> Result<u32, Error> {
        let done = self.core.execute(&self.caller, |state, _| {
            let all = identity::authorities(state)?;
            let retired = all.in_state(AuthorityState::Retired).map(|record| record.generation);
            let generation = retired.ok_or_else(|| order("taint", "a generation that issues no more"))?;
            Ok::<_, Error>((vec![Event::CaTainted(CaTainted { generation })], generation))
        });
        done.map(|(_, generation)| generation)
    }

    /// Last step: the old generation is trusted no more, and its key is dropped. Devices that still hold a
    /// certificate of it are locked out and must be paired again: unless `force` is given, it is refused as
    /// long as there is one.
    ///
    /// # Errors
    /// [`Error::Identity`] where no generation is tainted or devices still depend on it, or as a write.
    pub fn revoke_ca(&self, force: bool) -> Result<u32, Error> {
        let core = &self.core;
        let mut ring = core.ring();
        let all = identity::authorities(&core.index)?;
        let tainted = all.in_state(AuthorityState::Tainted).map(|record| record.generation);
        let generation = tainted.ok_or_else(|| order("revoke", "a tainted generation"))?;
        let depending = self.devices_of(generation)?;
        if depending > 0 && !force {
            return Err(IdentityError::StillDepending { devices: depending, generation }.into());
        }
        let edit = ring.revoke_ca(&core.unlocked(), &*core.random, generation)?;
        let opened = edit.ring.reopen(&core.unlocked())?;
        core.commit_ring(&self.caller, &mut ring, edit, |keyring| Event::CaRevoked(CaRevoked { generation, keyring }))?;
        core.take_keys(opened);
        Ok(generation)
    }

    /// How many paired devices hold a newest certificate of a generation and would be locked out without it.
    /// What has ended is not renewed by a tainted generation, so such a device is locked out already.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn devices_of(&self, generation: u32) -> Result<u64, Error> {
        let now = self.clock().now();
        self.count_newest(|record| record.generation == generation && now < record.not_after)
    }

    /// How many paired devices have not renewed since a root was prepared. Those whose certificate and grace
    /// have ended must be paired again in any case.
    fn unaware_of(&self, prepared: &AuthorityRecord) -> Result<u64, Error> {
        let now = self.clock().now();
        let prepared = self.prepared_by(prepared)?;
        self.count_newest(|record| {
            record.seq < prepared && now < record.not_after.plus_millis(limits::RENEWAL_GRACE_MS)
        })
    }

    /// The event that prepared a root. Its time would not do to tell what came before it: while a clock that
    /// was set back catches up, event after event bears the same. A log that holds no such event knows of no
    /// device that renewed since.
    fn prepared_by(&self, prepared: &AuthorityRecord) -> Result<u64, Error> {
        let log = LogView::new(Arc::clone(&self.core));
        let mut found = u64::MAX;
        let scan = Scan {
            from: log.first_at(prepared.since)?,
            header: &|header| header.kind == Kind::CaPrepared.number(),
            wants: &|entry| matches!(&entry.event, Event::CaPrepared(event) if event.generation == prepared.generation),
            ..Scan::all()
        };
        log.scan(&scan, &mut |entry| {
            found = entry.seq;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn count_newest(&self, counts: impl Fn(&CertificateRecord) -> bool) -> Result<u64, Error> {
        let mut newest = Vec::new();
        identity::list_devices(&self.core.index, &mut |_, record| {
            if record.state == DeviceState::Paired {
                newest.extend(record.certificate);
            }
            ControlFlow::Continue(())
        })?;
        let mut count = 0;
        for serial in newest {
            count += u64::from(counts(&self.certificate(serial)?));
        }
        Ok(count)
    }
}
