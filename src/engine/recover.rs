//! What an earlier process left is carried out and recorded, once the ledger is open: each step may be repeated by
//! the next opening.

use std::sync::PoisonError;

use crate::base::{Caller, Timestamp, limits};
use crate::crypto::{Hash, labels};
use crate::event::Event;
use crate::event::system::{EpochCause, HeadRestored, KeySlotPinned, KeyTableRepaired, SpoolDropped, TailDropped};
use crate::vault;

use super::config::Config;
use super::core::{Core, TableState};
use super::error::Error;
use super::open::free_name;
use super::reads;

/// What is to be recorded of the opening itself.
pub(super) struct Found {
    pub dropped: Option<TailDropped>,
    pub branch: Option<Event>,
}

/// Carries out and records what an earlier process left.
pub(super) fn recover(
    config: &Config,
    core: &Core,
    found: Found,
    restored: Option<HeadRestored>,
    epoch_started: Timestamp,
) -> Result<(), Error> {
    let Found { dropped, branch } = found;
    // The branch begins with the first event behind the copy, and in the name of whoever put it back.
    if let Some(branch) = branch {
        core.execute(&config.caller, |_, _| Ok::<_, Error>((vec![branch], ())))?;
    }
    let mut events: Vec<Event> = Vec::new();
    events.extend(dropped.map(Event::TailDropped));
    events.extend(restored.map(Event::HeadRestored));
    {
        let state = core.table();
        core.carry_out_shreds(&state)?;
        let slots = state.table.repair()?;
        if !slots.is_empty() {
            events.push(Event::KeyTableRepaired(KeyTableRepaired { slots }));
        }
    }
    if !events.is_empty() {
        core.execute(&Caller::system(), |_, _| Ok::<_, Error>((events, ())))?;
    }
    // What another generation of this ledger has in the keystore is not a restored one's to remove.
    if config.root.is_none() {
        core.sweep_keystore();
    }
    fold_in_spool(core)?;
    pin_opened_slot(config, core)?;
    let age = core.clock.now().as_millis().saturating_sub(epoch_started.as_millis());
    let max_age = core.settings.keys.epoch_max_age_days.saturating_mul(86_400_000);
    if max_age > 0 && age > max_age {
        core.start_epoch(&Caller::system(), EpochCause::Age)?;
    }
    Ok(())
}

impl Core {
    /// Overwrites the key slots of every shred event that is visible and not carried out yet.
    pub(super) fn carry_out_shreds(&self, state: &TableState) -> Result<(), Error> {
        let after = state.table.shreds_through();
        let pending = vault::pending_shreds(&self.index, after).map_err(|error| Error::Vault(error.into()))?;
        if let Some((through, _)) = pending.last() {
            let slots: Vec<(u64, u64)> =
                pending.iter().flat_map(|(seq, slots)| slots.iter().map(|slot| (*slot, *seq))).collect();
            // The key goes first: a backend may let one wait. That all of it was done is noted last, so that a
            // crash in between does both again.
            self.guard(state.table.shred(&slots).map_err(Error::from))?;
            self.remove_objects(slots.iter().map(|(slot, _)| *slot));
            self.guard(state.table.shredded_through(*through).map_err(Error::from))?;
        }
        Ok(())
    }
}

/// Commits what reading processes left, then removes the spool. A crash in between records those
/// reads twice, never not at all.
fn fold_in_spool(core: &Core) -> Result<(), Error> {
    let path = core.layout.spool();
    if !core.medium.exists(&path)? {
        return Ok(());
    }
    let bytes = core.medium.read_all(&path, 2 * limits::SPOOL_BYTES_MAX)?;
    let spooled = reads::parse_spool(&bytes, core.ledger_id, core.unlocked().ledger_key());
    let mut last = None;
    for (caller, event) in spooled.events {
        let (ticket, ()) = core.enqueue(&caller, |_, _| Ok::<_, Error>((vec![event], ())))?;
        last = Some(ticket);
    }
    if spooled.dropped > 0 {
        let event = keep_spool(core, &bytes, spooled.dropped)?;
        let (ticket, ()) = core.enqueue(&Caller::system(), |_, _| Ok::<_, Error>((vec![event], ())))?;
        last = Some(ticket);
    }
    if let Some(ticket) = last {
        core.wait(ticket.number())?;
    }
    core.medium.remove(&path)?;
    Ok(())
}

/// Keeps what of a spool did not read as evidence, durably, and says so. A crash behind this keeps it twice.
fn keep_spool(core: &Core, bytes: &[u8], dropped: u64) -> Result<Event, Error> {
    let whole = bytes.len().saturating_sub(usize::try_from(dropped).unwrap_or(usize::MAX));
    let unread = bytes.get(whole..).unwrap_or_default();
    let (medium, layout) = (&*core.medium, &core.layout);
    medium.create_dir(&layout.quarantine())?;
    medium.sync_dir(&layout.home)?;
    let saved_as = free_name(medium, layout, &format!("{}-spool", core.clock.now().as_millis()))?;
    medium.write_atomic(&layout.quarantine().join(&saved_as), unread)?;
    let digest = Some(Hash::of(labels::EVIDENCE, &[unread]));
    Ok(Event::SpoolDropped(SpoolDropped { bytes: dropped, digest, saved_as: Some(saved_as) }))
}

/// The slot that opens last is the pinned one; opening with another is recorded.
fn pin_opened_slot(config: &Config, core: &Core) -> Result<(), Error> {
    let opened = core.unlocked().slot();
    let mut ring = core.ring.lock().unwrap_or_else(PoisonError::into_inner);
    let previous = ring.pinned();
    if config.slot.is_none() || opened == previous {
        return Ok(());
    }
    let edited = ring.pin(&core.unlocked(), &*core.random, opened)?;
    core.commit_ring(&Caller::system(), &mut ring, edited, |keyring| {
        Event::KeySlotPinned(KeySlotPinned { slot: opened, previous, keyring })
    })
}
