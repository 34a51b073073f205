//! The part of the tour about ways in, keys and restarts.

use crate::base::SlotId;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::time;
use crate::engine::{Error, Ledger};
use crate::keys::{Credential, KeysError, NewSlot};

use super::{PASSPHRASE, SECOND_VALUE, TOKEN_VALUE, Tour, bytes, name, scope};

/// Adds a second way in.
pub fn add_slot(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<SlotId, Failure> {
    tour.step("A second way in: a passphrase")?;
    let slot = ledger.keys().add_slot(NewSlot::passphrase("safe", bytes(PASSPHRASE)))?;
    let cost = slot.argon_cost().unwrap_or_default();
    tour.say(&format!(
        "key slot {}: Argon2id with {} MiB, {} passes, {} lanes",
        slot.id(),
        cost.memory_kib / 1024,
        cost.passes,
        cost.lanes
    ))?;
    let (slots, pinned) = ledger.keys().slots();
    tour.check("two slots, and the key file is still the pinned one", slots.len() == 2 && pinned != slot.id())?;
    Ok(slot.id())
}

/// Rotates the epoch key, then the root key.
pub fn rotate(tour: &mut Tour<'_>, ledger: &Ledger, slot: SlotId) -> Result<(), Failure> {
    tour.step("Rotate the keys")?;
    let before = ledger.status()?.system;
    let epoch = ledger.keys().rotate_epoch()?;
    tour.check(&format!("epoch {epoch} seals from here on"), epoch == before.epoch + 1)?;
    let forgotten = ledger.keys().rotate_root(&[], &[]);
    tour.refused("a root rotation that forgets the passphrase slot", forgotten, |error| {
        matches!(error, Error::Keys(KeysError::SlotNeedsCredential { .. }))
    })?;
    ledger.keys().rotate_root(&[(slot, bytes(PASSPHRASE))], &[])?;
    let after = ledger.status()?.system;
    tour.say(&format!(
        "root key generation {}, key table generation {}",
        after.root_generation, after.table_generation
    ))?;
    tour.check("the root key is a new one", after.root_generation > before.root_generation)?;
    let value = ledger.vault(scope("global")?).get(&name("openai_api_key")?)?.value;
    tour.check("what was written before still reads", value.expose() == SECOND_VALUE.as_bytes())
}

/// Opens again, with the passphrase alone.
pub fn restart(tour: &mut Tour<'_>, slot: SlotId) -> Result<(), Failure> {
    tour.step("Restart, with the passphrase alone")?;
    let with = |passphrase: &str| tour.config().slot(slot).credential(Credential::Passphrase(bytes(passphrase)));
    let (wrong, right) = (with("correct horse battery stapel"), with(PASSPHRASE));
    tour.refused("a wrong passphrase", Ledger::open(wrong), |error| {
        matches!(error, Error::Keys(KeysError::WrongPassphrase { .. }))
    })?;
    let ledger = Ledger::open(right)?;
    let vault = ledger.vault(scope("principal:alice")?);
    let same = vault.get(&name("github_token")?)?.value.expose() == TOKEN_VALUE.as_bytes();
    tour.check("the right one opens it, and everything is there", same)?;
    let second = super::open(tour.config().lock_wait(std::time::Duration::ZERO));
    tour.refused("opening it a second time meanwhile", second, |error| matches!(error, Error::Lock(_)))?;
    ledger.close()?;
    // A handle keeps the home locked as the ledger does.
    drop((vault, ledger));
    // The key file opens by default again.
    let (slots, pinned) = {
        let ledger =
            Ledger::open(tour.config().read_only().slot(slot).credential(Credential::Passphrase(bytes(PASSPHRASE))))?;
        ledger.keys().slots()
    };
    tour.check("the slot that opened it is the pinned one now", pinned == slot)?;
    let file = slots.iter().map(crate::keys::KeySlot::id).find(|id| *id != slot);
    let file = file.ok_or_else(|| Failure::new(ExitCode::Internal, "the key file's slot is gone", ""))?;
    super::open(tour.config().slot(file))?.close()?;
    Ok(())
}

/// Throws the projections away and folds them anew.
pub fn rebuild(tour: &mut Tour<'_>) -> Result<(), Failure> {
    tour.step("Throw the index away and fold the log again")?;
    let ledger = super::open(tour.config().read_only())?;
    let (root, head) = (ledger.state_root()?, ledger.log().head()?);
    drop(ledger);
    let index = tour.home.join("index");
    std::fs::remove_dir_all(&index)
        .map_err(|error| Failure::new(ExitCode::Io, format!("cannot remove {}: {error}", index.display()), ""))?;
    let begun = std::time::Instant::now();
    // Without background work nothing is recorded before the roots are compared.
    let ledger = super::open(tour.config().without_background())?;
    let (rebuilt, then) = (ledger.state_root()?, ledger.log().head()?);
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let took = if took < 1_000 { format!("{took} ms") } else { time::rough(took) };
    tour.say(&format!("{} events folded in {took}; state root {rebuilt}", then.events))?;
    tour.check("the state is the same to the last bit", rebuilt == root && then == head)?;
    ledger.close()?;
    Ok(())
}
