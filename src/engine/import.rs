//! Importing: everything that a source holds, in one recorded act, or nothing.
//!
//! ```text
//! read, opened --plan--> lines --seal, one batch--> store_imported, ca_imported, devices_imported, ...
//! ```
//!
//! The batch is durable whole or dropped whole. While it is sealed nobody else writes: between the plan and the
//! batch nothing may change. The CA's key is staged in the key ring as for a roll, and `ca_imported` commits it;
//! a crash before leaves ring, key table and log as they were: slots that no event names are used by the next.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::base::{BackendKind, Caller, Context, SecretBytes, SecretPath, StateRead, limits};
use crate::event::Event;
use crate::event::identity::{CaCertified, Der};
use crate::event::import::{
    CaImported, CredentialsImported, DevicesImported, ImportedCertificate, ImportedDevice, ImportedSecret,
    SecretsImported, StoreImported,
};
use crate::event::v1;
use crate::identity::{self, IdentityError};
use crate::import::{FoundDevice, Gathered, Line};
use crate::keys::{RingEdit, Unlocked};
use crate::vault::{self, Sealed, Sealer, VaultError};

use super::core::{Core, TableState};
use super::error::Error;
use super::history;
use super::import_devices::is_revoked;
use super::import_plan::Plan;

/// How to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own, in any combination")]
pub struct ImportOptions {
    /// Give secrets that have another value here a new version.
    pub replace: bool,
    /// Go on without what is damaged or cannot be kept here.
    pub skip_damaged: bool,
    /// Go on without what stands here otherwise: what is here stays.
    pub skip_conflicts: bool,
    /// Say what would happen, and change nothing.
    pub dry_run: bool,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// A line about every item.
    pub lines: Vec<Line>,
    /// The last event of the batch; none where nothing was written.
    pub seq: Option<u64>,
    /// The event that had imported this very source before.
    pub before: Option<u64>,
    /// Whether something stood in the way, so that nothing was imported.
    pub stopped: bool,
    /// Whether the source could not be read as a whole: then nothing of it can be left behind either.
    pub unreadable: bool,
}

/// Importing, for one caller.
#[derive(Clone)]
pub struct Imports {
    pub(super) core: Arc<Core>,
    caller: Caller,
}

impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imports").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Is told how many secrets of how many are sealed.
pub type Progress<'a> = dyn Fn(u64, u64) + 'a;

/// What the sealed secrets come from: slots that are taken while the batch is decided, or envelopes that another
/// backend keeps already.
enum Material {
    Slots,
    Kept(BackendKind, Vec<Sealed>),
}

impl Imports {
    pub(super) const fn new(core: Arc<Core>, caller: Caller) -> Self {
        Self { core, caller }
    }

    /// Imports everything that was gathered, in one batch; or nothing, where an item stands in the way. The same
    /// source once more changes nothing.
    ///
    /// # Errors
    /// What failed. Nothing was imported then, unless the error is one of the storage.
    pub fn run(&self, gathered: &Gathered, options: ImportOptions, progress: &Progress<'_>) -> Result<Imported, Error> {
        let core = &*self.core;
        core.open_still()?;
        if gathered.whole && !options.replace {
            let known = history::imported_by(&core.index, &gathered.digest);
            let known = known.map_err(|source| Error::Fold { seq: core.visible.load(Ordering::Acquire), source })?;
            if let Some(seq) = known.filter(|_| !gathered.unreadable)
                && matches!(core.event(seq)?, Event::StoreImported(event) if event.refused == 0)
            {
                return Ok(Imported { before: Some(seq), ..Imported::default() });
            }
        }
        for _ in 0..limits::OUTSIDE_TRIES {
            let plan = Plan::make(core, gathered, options)?;
            let stopped = plan.is_stopped(options);
            if stopped || options.dry_run || plan.is_empty() {
                let unreadable = plan.unreadable;
                return Ok(Imported { lines: plan.lines, stopped, unreadable, ..Imported::default() });
            }
            if core.read_only {
                return Err(Error::ReadOnly);
            }
            match self.act(gathered, &plan, progress) {
                Ok(seq) => return Ok(Imported { lines: plan.lines, seq: Some(seq), ..Imported::default() }),
                Err(Error::Overtaken | Error::Vault(VaultError::Overtaken { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Overtaken)
    }

    fn act(&self, gathered: &Gathered, plan: &Plan, progress: &Progress<'_>) -> Result<u64, Error> {
        let core = &*self.core;
        // Held until the batch is durable: a rotation must not replace the table in between.
        let table = core.table();
        let mut ring = core.ring();
        let staged = match gathered.authority.as_ref().filter(|_| plan.new_authority) {
            Some(root) => {
                let edit = ring.prepare_ca(&core.unlocked(), &*core.random, plan.generation, root.key.clone())?;
                let opened = edit.ring.reopen(&core.unlocked())?;
                core.stage_ring(&edit)?;
                Some((edit, opened))
            }
            None => None,
        };
        let values: Vec<(&SecretPath, &SecretBytes)> = plan
            .secrets
            .iter()
            .filter_map(|one| gathered.secrets.get(one.found))
            .map(|one| (&one.path, &one.value))
            .collect();
        let mut kept = core.keep_outside(&table, &values)?;
        let material = match &mut kept {
            Some(kept) => Material::Kept(core.backend_queued()?.kind, std::mem::take(&mut kept.sealed)),
            None => {
                core.ready_many(&table, values.len())?;
                Material::Slots
            }
        };
        let batch = Batch { core, table: &table, gathered, plan, material, progress };
        let done = core.enqueue(&self.caller, |state, context| {
            batch.events(state, context, staged.as_ref()).map(|events| (events, ()))
        });
        if let (Err(_), Some(kept), Material::Kept(_, sealed)) = (&done, &mut kept, batch.material) {
            kept.sealed = sealed;
            kept.discard(|_| false);
        }
        let (ticket, ()) = done?;
        core.wait(ticket.number())?;
        if let Some((edit, opened)) = staged {
            core.promote_ring(&mut ring, edit.ring)?;
            *core.unlocked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(opened);
        }
        Ok(ticket.committed().seq)
    }
}

/// The batch while it is decided.
struct Batch<'a> {
    core: &'a Core,
    table: &'a TableState,
    gathered: &'a Gathered,
    plan: &'a Plan,
    material: Material,
    progress: &'a Progress<'a>,
}

impl Batch<'_> {
    fn events(
        &self,
        state: &dyn StateRead,
        context: &Context,
        staged: Option<&(RingEdit, Unlocked)>,
    ) -> Result<Vec<Event>, Error> {
        self.plan.still_holds(state, self.gathered)?;
        let mut events = vec![Event::StoreImported(self.header())];
        if let (Some((edit, _)), Some(root)) = (staged, &self.gathered.authority) {
            let all = identity::authorities(state)?;
            if all.0.is_empty() {
                let key = self.core.unlocked();
                let own = crate::pki::root(key.ca_key(), self.core.ledger_id, 1, context.now)?;
                let (certificate, not_after) = (Der::new(own), crate::pki::root_end(context.now));
                events.push(Event::CaCertified(CaCertified { generation: 1, certificate, not_after }));
            }
            events.push(Event::CaImported(CaImported {
                generation: self.plan.generation,
                certificate: Der::new(root.certificate.clone()),
                not_after: root.not_after,
                keyring: edit.ring.digest(),
            }));
        }
        self.revocations(state, context, &mut events)?;
        self.devices(state, &mut events)?;
        self.secrets(&mut events)?;
        let pick = |at: &usize| self.gathered.profiles.get(*at).cloned();
        let profiles: Vec<_> = self.plan.profiles.iter().filter_map(pick).collect();
        let orders: Vec<_> = self.plan.orders.iter().filter_map(|at| self.gathered.orders.get(*at).cloned()).collect();
        for chunk in profiles.chunks(limits::IMPORT_PROFILES_PER_EVENT) {
            events
                .push(Event::CredentialsImported(CredentialsImported { profiles: chunk.to_vec(), orders: Vec::new() }));
        }
        for chunk in orders.chunks(limits::IMPORT_PROFILES_PER_EVENT) {
            events
                .push(Event::CredentialsImported(CredentialsImported { profiles: Vec::new(), orders: chunk.to_vec() }));
        }
        Ok(events)
    }

    fn header(&self) -> StoreImported {
        let plan = self.plan;
        StoreImported {
            form: self.gathered.form,
            digest: self.gathered.digest,
            origin: self
                .gathered
                .origin
                .chars()
                .filter(|one| !one.is_control())
                .take(limits::IMPORT_ORIGIN_MAX)
                .collect(),
            program: concat!("palyra-ledger ", env!("CARGO_PKG_VERSION")).to_owned(),
            secrets: plan.secrets.len() as u64,
            devices: plan.devices.len() as u64,
            certificates: plan.devices.iter().map(|one| one.certificates.len() as u64).sum(),
            profiles: plan.profiles.len() as u64,
            orders: plan.orders.len() as u64,
            same: plan.same,
            refused: plan.refused,
        }
    }

    /// What the source revoked since it was imported. Certificates first: what goes with its device is not among them.
    fn revocations(&self, state: &dyn StateRead, context: &Context, events: &mut Vec<Event>) -> Result<(), Error> {
        for serial in &self.plan.revoked_certificates {
            events.extend(identity::decide_revoke_certificate(state, *serial)?.0);
        }
        for device in &self.plan.revoked_devices {
            events.extend(identity::decide_revoke(state, context.now, *device)?.0);
        }
        Ok(())
    }

    fn devices(&self, state: &dyn StateRead, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut counter = identity::counters(state)?.next_serial;
        let mut chunk = DevicesImported { generation: self.plan.generation, devices: Vec::new(), revoked: Vec::new() };
        let mut bytes = 0;
        for planned in &self.plan.devices {
            let Some(found) = self.gathered.devices.get(planned.found) else { continue };
            let device = self.device(state, found, &planned.certificates, &mut counter)?;
            let held = |one: &ImportedCertificate| one.certificate.as_ref().map_or(0, |der| der.as_bytes().len()) + 96;
            let size = 1024 + device.certificates.iter().map(held).sum::<usize>();
            if bytes > 0 && bytes + size > limits::MOVED_BYTES_MAX {
                let devices = std::mem::take(&mut chunk.devices);
                events.push(Event::DevicesImported(DevicesImported { devices, ..chunk.clone() }));
                bytes = 0;
            }
            bytes += size;
            chunk.devices.push(device);
        }
        if !chunk.devices.is_empty() {
            let devices = std::mem::take(&mut chunk.devices);
            events.push(Event::DevicesImported(DevicesImported { devices, ..chunk.clone() }));
        }
        for revoked in self.plan.revoked.chunks(limits::MOVED_BYTES_MAX / 32) {
            events.push(Event::DevicesImported(DevicesImported { revoked: revoked.to_vec(), ..chunk.clone() }));
        }
        Ok(())
    }

    fn device(
        &self,
        state: &dyn StateRead,
        found: &FoundDevice,
        places: &[usize],
        counter: &mut u64,
    ) -> Result<ImportedDevice, Error> {
        let mut certificates = Vec::with_capacity(places.len());
        for one in places.iter().filter_map(|place| found.certificates.get(*place)) {
            let serial = crate::base::Serial::new(*counter, self.core.random.array()?);
            *counter = counter.checked_add(1).ok_or(IdentityError::NoAuthority)?;
            certificates.push(ImportedCertificate {
                serial,
                fingerprint: one.fingerprint,
                certificate: one.certificate.clone(),
                not_before: one.not_before,
                not_after: one.not_after,
                // What was revoked here before stays so, whatever its store says now.
                revoked: one.revoked || is_revoked(state, &one.fingerprint)?,
            });
        }
        Ok(ImportedDevice {
            device: found.device,
            kind: found.kind,
            name: found.name.clone(),
            public_key: found.public_key.clone(),
            issued: found.issued,
            revoked: found.revoked.clone(),
            certificates,
        })
    }

    /// Events hold little, so that reading one secret costs little; more, where there would be too many of them.
    fn secrets(&self, events: &mut Vec<Event>) -> Result<(), Error> {
        let total: usize = self.plan.secrets.iter().map(|one| one.bytes).sum();
        let bound = (total / limits::IMPORT_EVENTS_MAX).clamp(limits::IMPORT_EVENT_BYTES, limits::VALUE_MAX_CEILING);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        let mut taken: Vec<Sealer> = Vec::new();
        for (done, planned) in (0..).zip(&self.plan.secrets) {
            if !chunk.is_empty() && bytes + planned.bytes > bound {
                events.push(Event::SecretsImported(SecretsImported { secrets: std::mem::take(&mut chunk) }));
                bytes = 0;
            }
            bytes += planned.bytes;
            match self.secret(planned, done, &mut taken) {
                Ok(imported) => chunk.push(imported),
                Err(error) => {
                    taken.into_iter().rev().for_each(|sealer| Core::return_slot(self.table, sealer));
                    return Err(error);
                }
            }
            if done % 1024 == 0 {
                (self.progress)(done as u64, self.plan.secrets.len() as u64);
            }
        }
        if !chunk.is_empty() {
            events.push(Event::SecretsImported(SecretsImported { secrets: chunk }));
        }
        Ok(())
    }

    fn secret(
        &self,
        planned: &super::import_plan::PlannedSecret,
        place: usize,
        taken: &mut Vec<Sealer>,
    ) -> Result<ImportedSecret, Error> {
        let overtaken = |target: &SecretPath| VaultError::Overtaken { target: Box::new(target.clone()) };
        let found = self.gathered.secrets.get(planned.found).ok_or(Error::Overtaken)?;
        let target = &found.path;
        let (slot, backend, envelope_digest, envelope) = match &self.material {
            Material::Slots => {
                let sealer = self.core.take_slot(self.table).ok_or_else(|| overtaken(target))?;
                let envelope = sealer.seal(target, planned.version, &self.core.random.array()?, &found.value);
                let slot = sealer.slot;
                taken.push(sealer);
                (slot, BackendKind::Ledger, vault::envelope_digest(&envelope), envelope)
            }
            Material::Kept(kind, sealed) => {
                let sealed = sealed.get(place).filter(|sealed| sealed.version == planned.version);
                let sealed = sealed.ok_or_else(|| overtaken(target))?;
                (sealed.slot, *kind, sealed.digest, Vec::new())
            }
        };
        let put = v1::SecretPut {
            scope: target.scope.clone(),
            name: target.name.clone(),
            version: planned.version,
            slot,
            value_bytes: u32::try_from(found.value.len()).unwrap_or(u32::MAX),
            expires_at: found.expires_at,
            description: found.description.clone(),
            labels: found.labels.clone(),
            envelope_digest,
            backend: backend.number(),
            envelope,
        };
        Ok(ImportedSecret { put, origin: found.origin, deleted: found.deleted })
    }
}
