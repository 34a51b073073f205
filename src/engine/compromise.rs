//! Carrying out what a compromise asks for.
//!
//! The declaration is an event with the whole plan, durable before anything is done. Each thing to be done is
//! looked at in the live state first, so that a run that was cut off goes on where it stopped. When the last
//! one is done, what was touched is asked anew, and only when nothing beyond the plan is found is it closed.

use std::collections::BTreeSet;

use crate::auth;
use crate::base::{CorrelationId, SecretPath, Timestamp};
use crate::crypto::{Hash, labels};
use crate::event::compromise::{CompromiseClosed, CompromiseDeclared, Concern, Remedy};
use crate::event::{Event, codec};
use crate::identity::{self, DeviceState};
use crate::vault::{self, VaultError, VersionRecord, VersionState};

use super::compromise_state;
use super::error::Error;
use super::exposure::Exposure;
use super::ledger::Ledger;

/// What became of one thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemState {
    /// What is to be done.
    pub item: Remedy,
    /// Whether it is.
    pub done: bool,
}

/// A compromise that is open, or that was just closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What was compromised.
    pub concern: Concern,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// What ties everything together that was done about it.
    pub correlation: CorrelationId,
    /// Digest of the plan.
    pub plan: Hash,
    /// Every thing to be done.
    pub items: Vec<ItemState>,
    /// Things that a fresh look found beyond the plan: none where nothing was missed.
    pub missed: Vec<Remedy>,
    /// Whether it is closed.
    pub closed: bool,
}

/// The digest of a plan: the same things give the same.
fn digest(exposure: &Exposure, items: &BTreeSet<Remedy>) -> Result<Hash, Error> {
    let failed = |source| Error::Codec { seq: 0, source };
    let head = codec::encode(&(&exposure.concern, exposure.since, exposure.until)).map_err(failed)?;
    let mut hasher = crate::crypto::Hasher::new(labels::COMPROMISE_PLAN);
    hasher.update(&head);
    for item in items {
        hasher.update(&codec::encode(item).map_err(failed)?);
    }
    Ok(hasher.finish())
}

impl Ledger {
    /// The compromises that are open, each with what is done and what is not.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn compromises(&self) -> Result<Vec<Applied>, Error> {
        let mut found: Vec<Applied> = Vec::new();
        let parts = compromise_state::open(&self.core().index).map_err(|source| Error::Fold { seq: 0, source })?;
        for part in parts {
            let items = part.items.iter().map(|item| self.look_at(item, part.until)).collect::<Result<Vec<_>, _>>()?;
            match found.last_mut().filter(|last| last.concern == part.concern) {
                Some(last) => last.items.extend(items),
                None => found.push(Applied {
                    concern: part.concern,
                    since: part.since,
                    until: part.until,
                    correlation: part.correlation,
                    plan: part.plan,
                    items,
                    missed: Vec::new(),
                    closed: false,
                }),
            }
        }
        Ok(found)
    }

    /// What became of a thing to be done.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn look_at(&self, item: &Remedy, until: Timestamp) -> Result<ItemState, Error> {
        let state = &self.core().index;
        let done = match item {
            // One that was paired anew since is another device, as far as this goes.
            Remedy::RevokeDevice(device) => identity::find_device(state, *device)?
                .is_none_or(|record| record.state != DeviceState::Paired || record.paired > until),
            Remedy::RevokeCertificate(serial) => {
                identity::find_certificate(state, *serial)?.is_none_or(|record| record.revoked.is_some())
            }
            Remedy::ReplaceSecret { path, version } => self.is_replaced(path, *version)?,
            Remedy::DisableProfile(id) => {
                let record = auth::find_profile(state, id).map_err(auth::AuthError::from)?;
                record.is_none_or(|record| !record.profile.enabled)
            }
        };
        Ok(ItemState { item: item.clone(), done })
    }

    /// Whether a value is another one by now than each that may be known, or can no longer be had. A deleted one can
    /// be brought back, and the same value written again replaces nothing.
    fn is_replaced(&self, path: &SecretPath, version: u32) -> Result<bool, Error> {
        let state = &self.core().index;
        let Some(head) = vault::find_head(state, &path.scope, &path.name).map_err(VaultError::from)? else {
            return Ok(true);
        };
        if head.state() == VersionState::Shredded {
            return Ok(true);
        }
        if head.current.version <= version {
            return Ok(false);
        }
        // One that does not read now may be any.
        let Ok(Some(now)) = self.value_fingerprint(path, head.current.version) else { return Ok(false) };
        let records = vault::list_versions(state, path, &head).map_err(VaultError::from)?;
        let is_same =
            |old: &VersionRecord| matches!(self.value_fingerprint(path, old.version), Ok(Some(old)) if old == now);
        Ok(!records.iter().any(|record| record.version <= version && is_same(record)))
    }

    /// Declares a compromise and does about it what the ledger can do by itself: devices and certificates are
    /// revoked, profiles are disabled. What needs a person stays open. A compromise of the same thing that is
    /// open already is carried on.
    ///
    /// # Errors
    /// As a write, or [`Error::PlanTooLong`].
    pub fn remedy(&self, exposure: &Exposure) -> Result<Applied, Error> {
        self.carry_out(exposure, true)
    }

    /// The same for a window that has no other end than now. What a device reads until it is revoked belongs to it:
    /// it is revoked first, and what it touched is asked anew.
    ///
    /// # Errors
    /// As [`Ledger::remedy`] and [`Ledger::exposure`].
    pub fn remedy_until_now(&self, exposure: Exposure) -> Result<(Exposure, Applied), Error> {
        let mut trusted = false;
        for item in exposure.items.iter().filter(|item| matches!(item, Remedy::RevokeDevice(_))) {
            trusted |= !self.look_at(item, exposure.until)?.done;
        }
        if !trusted {
            let applied = self.remedy(&exposure)?;
            return Ok((exposure, applied));
        }
        self.carry_out(&exposure, false)?;
        self.flush_reads()?;
        let until = self.core().clock.now().max(self.log().head()?.time).max(exposure.until);
        let vouched = exposure.vouched;
        let exposure = self.exposure(&exposure.concern, exposure.since, until, None)?;
        let exposure = Exposure { vouched, ..exposure };
        let applied = self.remedy(&exposure)?;
        Ok((exposure, applied))
    }

    /// When the window of an open compromise ends: that of a device not before it was revoked, even where a run was
    /// cut off between the two.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn window_end(&self, open: &Applied) -> Result<Timestamp, Error> {
        let Concern::Device(device) = &open.concern else { return Ok(open.until) };
        let record = identity::find_device(&self.core().index, *device)?;
        let revoked = record.filter(|record| record.state != DeviceState::Paired).map(|record| record.since);
        Ok(open.until.max(revoked.unwrap_or_default()))
    }

    fn carry_out(&self, exposure: &Exposure, last: bool) -> Result<Applied, Error> {
        let known = self.compromises()?.into_iter().find(|one| one.concern == exposure.concern);
        let mut wanted: BTreeSet<Remedy> = exposure.items.iter().cloned().collect();
        let correlation = match &known {
            Some(known) => {
                wanted.extend(known.items.iter().map(|state| state.item.clone()));
                known.correlation
            }
            None => CorrelationId::from_bytes(self.core().random.array()?),
        };
        let acting = self.on_behalf_of(self.caller().clone().with_correlation(correlation));
        let covered =
            known.as_ref().is_some_and(|known| known.items.len() == wanted.len() && known.until >= exposure.until);
        let plan = match known.filter(|_| covered) {
            Some(known) => known.plan,
            None => acting.declare(exposure, &wanted, correlation)?,
        };
        // A profile whose secrets are all others by now serves again: it is not disabled once more.
        let settled = self.settled_profiles(&wanted)?;
        for item in &wanted {
            let is_open = !self.look_at(item, exposure.until)?.done;
            match item {
                Remedy::RevokeDevice(device) if is_open => acting.identity().revoke(*device)?,
                Remedy::RevokeCertificate(serial) if is_open => acting.identity().revoke_certificate(*serial)?,
                Remedy::DisableProfile(id) if is_open && !settled => acting.auth().enable(id, false)?,
                _ => {}
            }
        }
        self.settle(&acting, exposure, wanted, (correlation, plan), last)
    }

    /// Whether every secret of a plan was replaced.
    fn settled_profiles(&self, wanted: &BTreeSet<Remedy>) -> Result<bool, Error> {
        let mut any = false;
        for item in wanted {
            if let Remedy::ReplaceSecret { path, version } = item {
                any = true;
                if !self.is_replaced(path, *version)? {
                    return Ok(false);
                }
            }
        }
        Ok(any)
    }

    fn declare(&self, exposure: &Exposure, items: &BTreeSet<Remedy>, id: CorrelationId) -> Result<Hash, Error> {
        use crate::base::limits::{COMPROMISE_ITEMS_MAX, COMPROMISE_ITEMS_PER_EVENT};
        if items.len() > COMPROMISE_ITEMS_MAX {
            return Err(Error::PlanTooLong { items: items.len() });
        }
        let plan = digest(exposure, items)?;
        let all: Vec<Remedy> = items.iter().cloned().collect();
        let mut chunks: Vec<Vec<Remedy>> = all.chunks(COMPROMISE_ITEMS_PER_EVENT).map(<[_]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let events = (0..parts)
            .zip(chunks)
            .map(|(part, items)| {
                Event::CompromiseDeclared(CompromiseDeclared {
                    concern: exposure.concern.clone(),
                    since: exposure.since,
                    until: exposure.until,
                    correlation: id,
                    plan,
                    part,
                    parts,
                    items,
                })
            })
            .collect();
        self.core().execute(self.caller(), |_, _| Ok::<_, Error>((events, ())))?;
        Ok(plan)
    }

    /// Looks anew at what was touched, and closes where nothing is open and nothing was missed.
    fn settle(
        &self,
        acting: &Self,
        exposure: &Exposure,
        wanted: BTreeSet<Remedy>,
        (correlation, plan): (CorrelationId, Hash),
        last: bool,
    ) -> Result<Applied, Error> {
        self.flush_reads()?;
        let fresh = self.exposure(&exposure.concern, exposure.since, exposure.until, None)?;
        let missed: Vec<Remedy> = fresh.items.into_iter().filter(|item| !wanted.contains(item)).collect();
        let settled = self.settled_profiles(&wanted)?;
        let mut items = Vec::with_capacity(wanted.len());
        for item in wanted {
            let mut state = self.look_at(&item, exposure.until)?;
            // Its credential is another one: it may serve.
            state.done |= settled && matches!(state.item, Remedy::DisableProfile(_));
            items.push(state);
        }
        let closed = last && exposure.is_known() && missed.is_empty() && items.iter().all(|state| state.done);
        if closed {
            let event = CompromiseClosed { concern: exposure.concern.clone(), plan };
            acting
                .core()
                .execute(acting.caller(), |_, _| Ok::<_, Error>((vec![Event::CompromiseClosed(event)], ())))?;
        }
        let Exposure { concern, since, until, .. } = exposure;
        Ok(Applied { concern: concern.clone(), since: *since, until: *until, correlation, plan, items, missed, closed })
    }
}
