//! Events of the ledger itself: creation, keys, recovery, refusals. All are stored.

use serde::{Deserialize, Serialize};

use crate::base::{BackupId, LedgerId, SlotId, Timestamp};
use crate::crypto::Hash;

/// What a key slot is, as events record it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotNote {
    /// The slot.
    pub slot: SlotId,
    /// `file`, `passphrase`, `os-keystore` or `recovery`.
    pub kind: String,
    /// The label a person gave it.
    pub label: String,
}

/// A ledger came into being. Always event 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCreated {
    /// The ledger's random id, as in every header.
    pub ledger_id: LedgerId,
    /// Version of the program that made it.
    pub program: String,
    /// Public key of the device CA (DER `SubjectPublicKeyInfo`).
    #[serde(with = "serde_bytes")]
    pub ca_public_key: Vec<u8>,
    /// The first slots.
    pub slots: Vec<SlotNote>,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// Why an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochCause {
    /// Somebody asked for it.
    Requested,
    /// The last epoch had reached its age.
    Age,
    /// The root key was rotated.
    RootRotated,
    /// The ledger was restored from a backup.
    Restored,
}

/// A new epoch key seals from the next batch on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStarted {
    /// Number of the epoch.
    pub epoch: u32,
    /// Why.
    pub cause: EpochCause,
    /// Digest of the key ring file that holds its key.
    pub keyring: Hash,
}

/// A way to open the ledger was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlotAdded {
    /// The slot.
    pub slot: SlotNote,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// A way to open the ledger was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlotRemoved {
    /// The slot.
    pub slot: SlotNote,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// Another slot than the pinned one opened the ledger; it is the pinned one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlotPinned {
    /// The slot that opened.
    pub slot: SlotId,
    /// The slot that was pinned before.
    pub previous: SlotId,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// The root key and the KEK were replaced and every DEK slot re-wrapped, in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRotated {
    /// Generation of the new root key.
    pub root_generation: u32,
    /// Generation of the new key table.
    pub table_generation: u32,
    /// DEK slots carried over.
    pub rewrapped: u64,
    /// Key slots that were dropped.
    pub dropped: Vec<SlotId>,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// A torn batch at the end of the journal was dropped whole: it was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailDropped {
    /// First sequence number of the segment.
    pub segment: u64,
    /// Where in the segment the torn bytes began.
    pub offset: u64,
    /// How many bytes were dropped.
    pub bytes: u64,
    /// Digest of those bytes.
    pub digest: Hash,
    /// File in the quarantine folder that keeps them.
    pub saved_as: String,
}

/// Why the sled copy was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessFault {
    /// It could not be opened, or returned an error.
    Failed,
    /// It panicked.
    Panicked,
    /// It held other frames than the journal.
    Differed,
    /// It held more than the journal.
    Ahead,
    /// It was not there although the ledger had one.
    Missing,
}

/// The sled copy was set aside untouched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessSetAside {
    /// Why.
    pub fault: WitnessFault,
    /// Folder below the quarantine folder; empty where there was nothing to keep.
    pub saved_as: String,
}

/// The sled copy was rebuilt from the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessRebuilt {
    /// Last sequence number it then held.
    pub through: u64,
}

/// The clock was found behind the last event; times are clamped so that they never run backwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStepped {
    /// What the clock said.
    pub observed: Timestamp,
    /// What was recorded instead.
    pub recorded: Timestamp,
}

/// A command was refused in a way that matters to an auditor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRefused {
    /// Which command.
    pub command: String,
    /// What it was about, for example a secret's reference.
    pub target: Option<String>,
    /// The refusal's stable code.
    pub code: String,
    /// The refusal in words; never a secret value.
    pub what: String,
}

/// Damaged journal frames were restored from the sled copy on a person's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRestored {
    /// First restored sequence number.
    pub first: u64,
    /// Last restored sequence number.
    pub last: u64,
    /// Where the damaged segment is kept.
    pub saved_as: String,
}

/// A missing or damaged head file was written anew on a person's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRestored {
    /// Last sequence number found then.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Slots of the key table were repaired from their second copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTableRepaired {
    /// The slots' numbers.
    pub slots: Vec<u64>,
}

/// Part of the read spool could not be read: reads of the stated window may be missing (schema 2; 1 is
/// [`v1::SpoolDropped`](crate::event::v1::SpoolDropped)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolDropped {
    /// How many bytes.
    pub bytes: u64,
    /// Digest of those bytes; nothing in events of schema 1.
    pub digest: Option<Hash>,
    /// File in the quarantine folder that keeps them; nothing in events of schema 1, whose bytes were not kept.
    pub saved_as: Option<String>,
}

/// A checkpoint of the log before it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSigned {
    /// Events that it covers: those below this number.
    pub size: u64,
    /// Hash of the last of them.
    pub head: Hash,
    /// Root of the Merkle tree over them (SHA-256).
    pub tree_root: Hash,
    /// Root of the state after them, where it was computed.
    pub state_root: Option<Hash>,
    /// Entries of the state that the root covers; 0 without one.
    pub state_entries: u64,
    /// Branch of history.
    pub branch: u32,
    /// Roots of the tree's perfect subtrees, the largest first: the next checkpoint goes on from them.
    pub frontier: Vec<Hash>,
    /// The checkpoint event before this one.
    pub previous: Option<u64>,
    /// The signed note, as it is kept elsewhere.
    pub note: String,
}

/// A checkpoint was put into an anchor for the first time; later ones are not recorded one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorPlaced {
    /// `file:<path>`, `keystore` or `device:<id>`.
    pub anchor: String,
    /// Events that the checkpoint covers.
    pub size: u64,
}

/// How an anchor and the log disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictCause {
    /// The log ends before the anchor's checkpoint.
    Lost,
    /// The log holds another event where the checkpoint ends.
    Forked,
    /// The checkpoint is of a branch that the log has not.
    OtherBranch,
    /// The anchor holds no note.
    Damaged,
    /// The note's signature is wrong.
    Forged,
    /// The note is signed by another key.
    OtherKey,
    /// The note is another ledger's.
    OtherLedger,
}

/// An anchor holds what does not fit the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorConflict {
    /// Which anchor.
    pub anchor: String,
    /// How they disagree.
    pub cause: ConflictCause,
    /// Events that the anchor's checkpoint covers; 0 where it does not read.
    pub size: u64,
    /// Hash of the last of them, as the anchor says.
    pub head: Option<Hash>,
    /// The anchor's note; empty where it does not read.
    pub note: String,
}

/// An older copy was put back on purpose. Always the first event behind that copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchStarted {
    /// Its own number: where the branch begins.
    pub from: u64,
    /// Hash of the event before, with which the copy ended.
    pub head: Hash,
    /// Number of the branch, above every one that was known.
    pub branch: u32,
    /// Last event that an anchor, or the head file, knew of what was given up.
    pub lost_through: Option<u64>,
    /// The anchor that knew most; empty where none did.
    pub anchor: String,
    /// Its note; empty where there was none.
    pub note: String,
}

/// A backup was made. Its file holds the events before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupCreated {
    /// The backup's random name, which stands in its file.
    pub backup: BackupId,
    /// Its first event; 0 for a full backup.
    pub from: u64,
    /// Its last event.
    pub to: u64,
    /// Hash of that event.
    pub head: Hash,
    /// The digest at the end of the file.
    pub digest: Hash,
    /// Length of the file.
    pub bytes: u64,
    /// Age recipients that can open it, beside the key slots.
    pub recipients: u32,
    /// Whether a key file is in it, so that it opens itself.
    pub key_file: bool,
}

/// The ledger was restored from a backup. A branch of history begins right before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRestored {
    /// The backup's random name; of several files the last one's.
    pub backup: BackupId,
    /// The program that made it.
    pub program: String,
    /// When it was made.
    pub created: Timestamp,
    /// Files that were restored from: a full backup and its increments.
    pub files: u32,
    /// Its last event.
    pub to: u64,
    /// Hash of that event.
    pub head: Hash,
    /// The digest at the end of the file.
    pub digest: Hash,
    /// The key slot that opened it; none where an age identity did.
    pub opened_by: Option<SlotId>,
}
