//! Why keys are refused.

use std::path::PathBuf;

use crate::base::{LedgerId, RandomError, SlotId, limits};
use crate::platform::KeystoreError;
use crate::store::StoreError;

/// Why a key slot, the key ring or the key table cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ring does not hold that CA generation as the step needs it.
    #[error("the key ring does not hold CA generation {generation} as this step needs it")]
    CaGeneration {
        /// Which.
        generation: u32,
    },
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A file is not what it should be.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A newer program wrote a file.
    #[error("{} has format version {version}, which is not known to palyra-ledger {}", path.display(), env!("CARGO_PKG_VERSION"))]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version.
        version: u16,
    },
    /// A file belongs to another ledger.
    #[error("{} belongs to ledger {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The ledger it names.
        found: LedgerId,
    },
    /// There is no such key slot.
    #[error("there is no key slot {slot}")]
    NoSuchSlot {
        /// The slot.
        slot: SlotId,
    },
    /// The slot is opened by a passphrase and none was given.
    #[error("key slot {slot} is opened by a passphrase")]
    NeedsPassphrase {
        /// The slot.
        slot: SlotId,
    },
    /// The slot is opened by a key file, and a passphrase or recovery words were given.
    #[error("key slot {slot} is opened by a key file, not by a passphrase or by words")]
    NeedsKeyFile {
        /// The slot.
        slot: SlotId,
    },
    /// The slot is opened by the system's keystore and something else was given.
    #[error("key slot {slot} is opened by the system's keystore, not by a passphrase or a key file")]
    NeedsKeystore {
        /// The slot.
        slot: SlotId,
    },
    /// The system's keystore did not give or take a slot's key.
    #[error("key slot {slot}: {source}")]
    Keystore {
        /// The slot.
        slot: SlotId,
        /// Why.
        source: KeystoreError,
    },
    /// The system's keystore took no new slot's key.
    #[error("the system's keystore did not take the key: {0}")]
    KeystorePut(#[source] KeystoreError),
    /// The system's keystore holds no key of the slot.
    #[error("the system's keystore holds no key for key slot {slot}")]
    KeystoreItem {
        /// The slot.
        slot: SlotId,
    },
    /// What the system's keystore holds does not open the slot.
    #[error("what the system's keystore holds does not open key slot {slot}")]
    WrongKeystoreItem {
        /// The slot.
        slot: SlotId,
    },
    /// The passphrase is wrong, or the slot was altered: the two cannot be told apart.
    #[error("the passphrase does not open key slot {slot}")]
    WrongPassphrase {
        /// The slot.
        slot: SlotId,
    },
    /// The key file is another one's, or the slot was altered.
    #[error("{} does not open key slot {slot}", path.display())]
    WrongKeyFile {
        /// The slot.
        slot: SlotId,
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read the key file.
    #[error("{} may be read by others than its owner (mode {mode:04o})", path.display())]
    LooseKeyFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The root key opened, but the key ring is not what it sealed.
    #[error("the key ring was altered: its seal does not open")]
    RingAltered,
    /// No key ring is the one that the log names.
    #[error("no key ring is the one that the log committed: an older copy of the keys was put back")]
    RingNotCommitted,
    /// The key of an epoch is not in the ring.
    #[error("the key ring holds no key for epoch {epoch}")]
    NoEpoch {
        /// The epoch.
        epoch: u32,
    },
    /// The slot is opened by recovery words and something else, or nothing, was given.
    #[error("key slot {slot} is opened by its {} recovery words", super::recovery::RECOVERY_WORDS)]
    NeedsRecovery {
        /// The slot.
        slot: SlotId,
    },
    /// The words are those of another slot, or the slot was altered.
    #[error("the recovery words do not open key slot {slot}: they are another slot's")]
    WrongRecovery {
        /// The slot.
        slot: SlotId,
    },
    /// What was given are no recovery words.
    #[error("these are no recovery words: {0}")]
    RecoveryWords(#[from] super::recovery::RecoveryError),
    /// No slot is opened by what was given.
    #[error("no key slot is opened by {what}")]
    NoSlotFor {
        /// What was given.
        what: &'static str,
    },
    /// The passphrase is too short or too long for a new slot.
    #[error("a passphrase has {} to {} bytes", limits::PASSPHRASE_MIN, limits::PASSPHRASE_MAX)]
    PassphraseLength,
    /// The label is empty, too long or holds control characters.
    #[error("a key slot's label has 1 to {} bytes and no control characters", super::slot::LABEL_MAX)]
    Label,
    /// There are too many slots.
    #[error("there are {} key slots, the most there may be", limits::KEY_SLOTS_MAX)]
    TooManySlots,
    /// There are too many epochs.
    #[error("there are {} epochs, the most there may be", limits::EPOCHS_MAX)]
    TooManyEpochs,
    /// The last way in cannot be removed.
    #[error("key slot {slot} is the only way to open the ledger")]
    LastSlot {
        /// The slot.
        slot: SlotId,
    },
    /// The slot that opens the ledger by default cannot go unless another takes its place.
    #[error("key slot {slot} is the pinned one: name the slot to pin instead")]
    PinnedSlot {
        /// The slot.
        slot: SlotId,
    },
    /// A rotation must be told what becomes of this slot.
    #[error("key slot {slot} needs its {what} to be carried over, or must be dropped by name")]
    SlotNeedsCredential {
        /// The slot.
        slot: SlotId,
        /// What opens it: a passphrase or recovery words.
        what: &'static str,
    },
    /// Argon2id refused its parameters or had no memory.
    #[error("Argon2id failed: {0}")]
    Argon(argon2::Error),
    /// A DEK slot cannot be used.
    #[error("slot {slot} of the key table: {source}")]
    Slot {
        /// The slot's number.
        slot: u64,
        /// Why.
        source: SlotError,
    },
    /// An earlier write of the key table failed: nothing is written to it any more (invariant I8).
    #[error("the key table could not be written earlier; open the ledger again")]
    TableDead,
}

/// Why a slot of the key table gives no key.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// It was never filled.
    #[error("it was never filled")]
    Empty,
    /// It was overwritten on purpose.
    #[error("it was shredded by event {seq}")]
    Shredded {
        /// The event that says so.
        seq: u64,
    },
    /// Neither copy is whole.
    #[error("neither copy of it is whole")]
    Damaged,
    /// It is whole but sealed by another key.
    #[error("it does not open with the ledger's KEK")]
    WrongKey,
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
