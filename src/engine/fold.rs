//! The fold: state and event give the next state (invariant I1), for every domain.

use serde::{Deserialize, Serialize};

use crate::base::{Delta, LedgerId, SlotId, StateError, StateRead, Timestamp};
use crate::crypto::Hash;
use crate::event::system::SlotNote;
use crate::event::{CodecError, Event, KindClass, codec};
use crate::{auth, identity, vault};

use super::compromise_state;
use super::history;

/// Version of what folds into an index. It is raised where the state's encoding changes, and with every step of the
/// format that brings kinds or schema versions: a program that does not know an event must never go on from an index
/// that has it folded. A stored index of a lower one is made anew from the log; one of a higher one is refused.
pub const STATE_SCHEMA: u32 = 6;

const SYSTEM: &[u8] = &[0x00];

/// Why an event does not fit the state before it.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A vault event does not fit.
    #[error(transparent)]
    Vault(#[from] vault::ApplyFault),
    /// An event of device trust does not fit.
    #[error(transparent)]
    Identity(#[from] identity::ApplyFault),
    /// An event of service credentials does not fit.
    #[error(transparent)]
    Auth(#[from] auth::ApplyFault),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A record of the state does not decode.
    #[error("a record of the state does not decode: {0}")]
    Record(#[from] CodecError),
    /// An event came before the ledger was created, or it was created twice.
    #[error("the ledger's creation is not the first event")]
    Creation,
    /// A checkpoint, or the beginning of a branch, says what does not fit the log.
    #[error("its {0} does not fit the log")]
    History(&'static str),
    /// An epoch is not the next one.
    #[error("epoch {found} follows epoch {last}")]
    EpochOrder {
        /// The epoch in the event.
        found: u32,
        /// The last epoch in the state.
        last: u32,
    },
}

/// The ledger's own part of the state (stored in the state under key `00`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemState {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// When it was created.
    pub created: Timestamp,
    /// The current epoch.
    pub epoch: u32,
    /// When that began.
    pub epoch_started: Timestamp,
    /// Digest of the committed key ring file.
    pub keyring: Hash,
    /// Key slots.
    pub slots: Vec<SlotNote>,
    /// Slot that opened last by itself, where that was ever changed.
    pub pinned: Option<SlotId>,
    /// Generation of the root key.
    pub root_generation: u32,
    /// Generation of the key table.
    pub table_generation: u32,
    /// Public key of the device CA (DER).
    #[serde(with = "serde_bytes")]
    pub ca_public_key: Vec<u8>,
}

/// Reads the ledger's own part of the state.
///
/// # Errors
/// [`FoldError::State`] or [`FoldError::Record`].
pub fn system(state: &dyn StateRead) -> Result<Option<SystemState>, FoldError> {
    Ok(state.get(SYSTEM)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

/// The ledger's own part of the state, as somebody may see it: for comparing two states.
pub fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, serde_json::Value)> {
    if key != SYSTEM {
        return None;
    }
    let system: SystemState = codec::decode(value).ok()?;
    let slots: Vec<String> =
        system.slots.iter().map(|slot| format!("{} {} {:?}", slot.slot, slot.kind, slot.label)).collect();
    let fields = serde_json::json!({
        "epoch": system.epoch,
        "key_slots": slots,
        "pinned": system.pinned,
        "root_generation": system.root_generation,
        "table_generation": system.table_generation,
        "keyring": system.keyring,
    });
    Some(("ledger", system.ledger_id.to_string(), fields))
}

/// Folds one event: what it changes. Pure and deterministic.
///
/// # Errors
/// [`FoldError`] where the event does not fit; the state is then not changed.
pub fn apply(state: &dyn StateRead, seq: u64, time: Timestamp, event: &Event) -> Result<Delta, FoldError> {
    let change = |edit: &dyn Fn(&mut SystemState) -> Result<(), FoldError>| -> Result<Delta, FoldError> {
        let mut system = system(state)?.ok_or(FoldError::Creation)?;
        edit(&mut system)?;
        Ok(vec![(SYSTEM.into(), Some(codec::encode(&system)?.into()))])
    };
    // A roll of the CA changes the key ring as well as whom devices trust.
    let both = |own: Result<Delta, FoldError>| -> Result<Delta, FoldError> {
        let mut delta = identity::apply(state, seq, time, event)?;
        delta.extend(own?);
        Ok(delta)
    };
    match event {
        Event::LedgerCreated(event) => {
            if seq != 0 || system(state)?.is_some() {
                return Err(FoldError::Creation);
            }
            let system = SystemState {
                ledger_id: event.ledger_id,
                created: time,
                epoch: 0,
                epoch_started: time,
                keyring: event.keyring,
                slots: event.slots.clone(),
                pinned: None,
                root_generation: 0,
                table_generation: 0,
                ca_public_key: event.ca_public_key.clone(),
            };
            Ok(vec![(SYSTEM.into(), Some(codec::encode(&system)?.into()))])
        }
        Event::EpochStarted(event) => change(&|system| {
            if event.epoch.checked_sub(1) != Some(system.epoch) {
                return Err(FoldError::EpochOrder { found: event.epoch, last: system.epoch });
            }
            system.epoch = event.epoch;
            system.epoch_started = time;
            system.keyring = event.keyring;
            Ok(())
        }),
        Event::KeySlotAdded(event) => change(&|system| {
            system.slots.push(event.slot.clone());
            system.keyring = event.keyring;
            Ok(())
        }),
        Event::KeySlotRemoved(event) => change(&|system| {
            system.slots.retain(|slot| slot.slot != event.slot.slot);
            system.keyring = event.keyring;
            Ok(())
        }),
        Event::KeySlotPinned(event) => change(&|system| {
            system.pinned = Some(event.slot);
            system.keyring = event.keyring;
            Ok(())
        }),
        Event::RootRotated(event) => change(&|system| {
            system.slots.retain(|slot| !event.dropped.contains(&slot.slot));
            system.root_generation = event.root_generation;
            system.table_generation = event.table_generation;
            system.keyring = event.keyring;
            Ok(())
        }),
        Event::TailDropped(_)
        | Event::WitnessSetAside(_)
        | Event::WitnessRebuilt(_)
        | Event::ClockStepped(_)
        | Event::CommandRefused(_)
        | Event::JournalRestored(_)
        | Event::HeadRestored(_)
        | Event::KeyTableRepaired(_)
        | Event::SpoolDropped(_)
        | Event::LedgerRestored(_) => Ok(Vec::new()),
        Event::AnchorConflict(event) => history::anchor_conflict(state, seq, event),
        Event::BackupCreated(event) => history::backup_created(seq, time, event),
        Event::CompromiseDeclared(event) => compromise_state::declared(state, event),
        Event::CompromiseClosed(event) => compromise_state::closed(state, event),
        Event::StoreImported(event) => history::store_imported(seq, event),
        Event::CheckpointSigned(event) => history::checkpoint_signed(state, seq, time, event),
        Event::AnchorPlaced(event) => history::anchor_placed(seq, event),
        Event::BranchStarted(event) => history::branch_started(state, seq, time, event),
        Event::SecretPut(_)
        | Event::SecretDeleted(_)
        | Event::SecretUndeleted(_)
        | Event::SecretShredded(_)
        | Event::SecretDescribed(_)
        | Event::SecretsRead(_)
        | Event::ReferencesResolved(_)
        | Event::BackendMigrationStarted(_)
        | Event::EnvelopesMoved(_)
        | Event::BackendSwitched(_)
        | Event::BackendMigrationFinished(_)
        | Event::BackendMigrationAborted(_)
        | Event::SecretsImported(_)
        | Event::VaultExported(_) => Ok(vault::apply(state, seq, time, event)?),
        Event::CaPrepared(prepared) => both(change(&|system| {
            system.keyring = prepared.keyring;
            Ok(())
        })),
        Event::CaActivated(activated) => both(change(&|system| {
            system.table_generation = activated.table_generation;
            system.keyring = activated.keyring;
            Ok(())
        })),
        Event::CaImported(imported) => both(change(&|system| {
            system.keyring = imported.keyring;
            Ok(())
        })),
        Event::CaRevoked(revoked) => both(change(&|system| {
            system.keyring = revoked.keyring;
            Ok(())
        })),
        event if KindClass::of(event.kind().number()) == KindClass::Auth => Ok(auth::apply(state, time, event)?),
        _ => Ok(identity::apply(state, seq, time, event)?),
    }
}
