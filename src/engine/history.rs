//! Checkpoints, branches, anchors and the last backup in the state: what the next of each needs.

use serde::{Deserialize, Serialize};

use crate::base::{BackupId, Delta, StateRead, Timestamp, prefix_end};
use crate::checkpoint::{Branch, Checkpoint, Frontier, Settled, SignedNote};
use crate::crypto::Hash;
use crate::event::codec;
use crate::event::import::StoreImported;
use crate::event::system::{
    AnchorConflict, AnchorPlaced, BackupCreated, BranchStarted, CheckpointSigned, ConflictCause,
};

use super::fold::FoldError;

const LAST: &[u8] = &[0x02];
const BRANCH: u8 = 0x03;
const PLACED: u8 = 0x04;
const IMPORTS: u8 = 0x06;
const BACKUP: &[u8] = &[0x07];
const CONFLICT: u8 = 0x08;
const SETTLED: u8 = 0x09;

/// The last checkpoint (stored in the state under key `02`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCheckpoint {
    /// The event that records it.
    pub event: u64,
    /// When that was.
    pub time: Timestamp,
    /// Events that it covers.
    pub size: u64,
    /// Roots of the tree's perfect subtrees.
    pub frontier: Vec<Hash>,
    /// Events that the last checkpoint with a state root covers; 0 where none had one.
    pub state_size: u64,
    /// Entries that the state had then.
    pub state_entries: u64,
    /// The signed note.
    pub note: String,
}

/// The beginning of a branch (stored in the state under key `03`, number (4, big-endian)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRecord {
    /// Its number.
    pub number: u32,
    /// Its first event.
    pub from: u64,
    /// When it began.
    pub time: Timestamp,
    /// Last event that was known of what was given up.
    pub lost_through: Option<u64>,
    /// The anchor that knew it; empty where none did.
    pub anchor: String,
}

/// When an anchor was first used (stored in the state under key `04`, its name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRecord {
    /// The event that records it.
    pub event: u64,
    /// Events that its first checkpoint covered.
    pub size: u64,
}

/// The last backup (stored in the state under key `07`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// The event that records it.
    pub event: u64,
    /// When that was.
    pub time: Timestamp,
    /// The backup's random name.
    pub backup: BackupId,
    /// Its first event; 0 for a full one.
    pub from: u64,
    /// Its last event.
    pub to: u64,
    /// Hash of that event.
    pub head: Hash,
}

/// The last backup.
pub fn last_backup(state: &dyn StateRead) -> Result<Option<LastBackup>, FoldError> {
    Ok(state.get(BACKUP)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

/// Folds [`BackupCreated`].
pub fn backup_created(seq: u64, time: Timestamp, event: &BackupCreated) -> Result<Delta, FoldError> {
    if event.from > event.to || event.to >= seq {
        return Err(FoldError::History("backup"));
    }
    let BackupCreated { backup, from, to, head, .. } = *event;
    let record = LastBackup { event: seq, time, backup, from, to, head };
    Ok(vec![(BACKUP.into(), Some(codec::encode(&record)?.into()))])
}

/// A signed checkpoint that somebody outside showed and that did not fit (stored in the state under key `08`, the
/// anchor's name). The next branch takes it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictRecord {
    /// The event that records it.
    pub event: u64,
    /// Events that the checkpoint covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// The last checkpoint.
pub fn last(state: &dyn StateRead) -> Result<Option<LastCheckpoint>, FoldError> {
    Ok(state.get(LAST)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

/// Every branch, the oldest first.
pub fn branches(state: &dyn StateRead) -> Result<Vec<BranchRecord>, FoldError> {
    records(state, BRANCH).map(|found| found.into_iter().map(|(_, record)| record).collect())
}

/// Every anchor that was ever used.
pub fn placed(state: &dyn StateRead) -> Result<Vec<(String, PlacedRecord)>, FoldError> {
    let named = |(key, record): (Vec<u8>, _)| (String::from_utf8_lossy(&key).into_owned(), record);
    records(state, PLACED).map(|found| found.into_iter().map(named).collect())
}

/// Signed checkpoints that did not fit, with the names of their keepers, since the last branch began.
pub fn conflicts(state: &dyn StateRead) -> Result<Vec<(String, ConflictRecord)>, FoldError> {
    let named = |(key, record): (Vec<u8>, _)| (String::from_utf8_lossy(&key).into_owned(), record);
    records(state, CONFLICT).map(|found| found.into_iter().map(named).collect())
}

/// Checkpoints that a branch settled although their sizes do not show it.
pub fn settled(state: &dyn StateRead) -> Result<Vec<Settled>, FoldError> {
    records(state, SETTLED).map(|found| found.into_iter().map(|(_, record)| record).collect())
}

/// The names of every anchor that was ever used.
pub fn anchors_used(state: &dyn StateRead) -> Result<Vec<String>, FoldError> {
    Ok(placed(state)?.into_iter().map(|(anchor, _)| anchor).collect())
}

fn records<T: serde::de::DeserializeOwned>(state: &dyn StateRead, prefix: u8) -> Result<Vec<(Vec<u8>, T)>, FoldError> {
    let mut found = Vec::new();
    state.scan(&[prefix], &prefix_end(&[prefix]), &mut |key, value| {
        found.push((key.get(1..).unwrap_or_default().to_vec(), codec::decode(value)));
        std::ops::ControlFlow::Continue(())
    })?;
    found.into_iter().map(|(key, record)| Ok((key, record?))).collect()
}

/// The branch that the first `size` events end in.
pub fn branch_at(branches: &[BranchRecord], size: u64) -> u32 {
    branches.iter().filter(|branch| branch.from < size).map(|branch| branch.number).max().unwrap_or(0)
}

impl BranchRecord {
    /// Number and first event.
    #[must_use]
    pub const fn branch(&self) -> Branch {
        Branch { number: self.number, from: self.from }
    }
}

/// Folds [`CheckpointSigned`]. The signature is not looked at: the event's own seal says who wrote it.
pub fn checkpoint_signed(
    state: &dyn StateRead,
    seq: u64,
    time: Timestamp,
    event: &CheckpointSigned,
) -> Result<Delta, FoldError> {
    let last = last(state)?;
    let check = |right: bool, what: &'static str| if right { Ok(()) } else { Err(FoldError::History(what)) };
    check(event.size <= seq && last.as_ref().is_none_or(|last| last.size < event.size), "size")?;
    check(event.previous == last.as_ref().map(|last| last.event), "previous checkpoint")?;
    check(event.branch == branch_at(&branches(state)?, event.size), "branch")?;
    let frontier = Frontier::from_parts(event.size, event.frontier.clone());
    check(frontier.is_some_and(|frontier| frontier.root() == event.tree_root), "frontier")?;
    let note = SignedNote::parse(event.note.as_bytes()).and_then(|note| Checkpoint::parse(&note.text));
    let agrees = note.is_ok_and(|note| {
        (note.size, note.head, note.root, note.state, note.branch)
            == (event.size, event.head, event.tree_root, event.state_root, event.branch)
    });
    check(agrees, "note")?;
    let (state_size, state_entries) = match (event.state_root, &last) {
        (Some(_), _) => (event.size, event.state_entries),
        (None, Some(last)) => (last.state_size, last.state_entries),
        (None, None) => (0, 0),
    };
    let record = LastCheckpoint {
        event: seq,
        time,
        size: event.size,
        frontier: event.frontier.clone(),
        state_size,
        state_entries,
        note: event.note.clone(),
    };
    Ok(vec![(LAST.into(), Some(codec::encode(&record)?.into()))])
}

/// Folds [`AnchorPlaced`].
pub fn anchor_placed(seq: u64, event: &AnchorPlaced) -> Result<Delta, FoldError> {
    let record = PlacedRecord { event: seq, size: event.size };
    let mut key = vec![PLACED];
    key.extend_from_slice(event.anchor.as_bytes());
    Ok(vec![(key.into(), Some(codec::encode(&record)?.into()))])
}

/// Folds [`AnchorConflict`]: only a signed checkpoint of this ledger proves anything.
pub fn anchor_conflict(state: &dyn StateRead, seq: u64, event: &AnchorConflict) -> Result<Delta, FoldError> {
    let proves = matches!(event.cause, ConflictCause::Lost | ConflictCause::Forked | ConflictCause::OtherBranch);
    if !proves || event.note.is_empty() {
        return Ok(Vec::new());
    }
    let mut key = vec![CONFLICT];
    key.extend_from_slice(event.anchor.as_bytes());
    let known: Option<ConflictRecord> = state.get(&key)?.map(|bytes| codec::decode(&bytes)).transpose()?;
    if known.is_some_and(|known| known.size > event.size) {
        return Ok(Vec::new());
    }
    let record = ConflictRecord { event: seq, size: event.size, note: event.note.clone() };
    Ok(vec![(key.into(), Some(codec::encode(&record)?.into()))])
}

/// What a branch settles: conflicts go, and of what was known to be given up stays what its size does not show.
fn settle(state: &dyn StateRead, event: &BranchStarted) -> Result<Delta, FoldError> {
    let mut delta = Delta::new();
    let mut notes = vec![event.note.clone()];
    for (anchor, record) in conflicts(state)? {
        let mut key = vec![CONFLICT];
        key.extend_from_slice(anchor.as_bytes());
        delta.push((key.into(), None));
        notes.push(record.note);
    }
    for note in notes {
        let read = SignedNote::parse(note.as_bytes()).and_then(|note| Checkpoint::parse(&note.text));
        let Ok(checkpoint) = read else { continue };
        if checkpoint.size > event.from {
            continue;
        }
        let Checkpoint { size, head, branch, .. } = checkpoint;
        let mut key = vec![SETTLED];
        key.extend_from_slice(&size.to_be_bytes());
        key.extend_from_slice(head.as_bytes());
        let record = Settled { size, head, branch, since: event.from };
        delta.push((key.into(), Some(codec::encode(&record)?.into())));
    }
    Ok(delta)
}

/// Folds [`BranchStarted`].
pub fn branch_started(
    state: &dyn StateRead,
    seq: u64,
    time: Timestamp,
    event: &BranchStarted,
) -> Result<Delta, FoldError> {
    if event.from != seq {
        return Err(FoldError::History("beginning"));
    }
    // Numbers that were given up elsewhere are left out; none comes twice.
    if event.branch <= branch_at(&branches(state)?, seq) {
        return Err(FoldError::History("branch"));
    }
    let record = BranchRecord {
        number: event.branch,
        from: event.from,
        time,
        lost_through: event.lost_through,
        anchor: event.anchor.clone(),
    };
    let mut key = vec![BRANCH];
    key.extend_from_slice(&event.branch.to_be_bytes());
    let mut delta = settle(state, event)?;
    delta.push((key.into(), Some(codec::encode(&record)?.into())));
    Ok(delta)
}

/// Checkpoints, branches and anchors as somebody may see them: for comparing two states.
pub fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, serde_json::Value)> {
    use serde_json::json;
    let name = || String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
    Some(match *key.first()? {
        0x02 => {
            let last: LastCheckpoint = codec::decode(value).ok()?;
            let fields = json!({"event": last.event, "size": last.size, "state_size": last.state_size});
            ("checkpoint", "last".to_owned(), fields)
        }
        BRANCH => {
            let branch: BranchRecord = codec::decode(value).ok()?;
            let fields = json!({"from": branch.from, "lost_through": branch.lost_through, "anchor": branch.anchor});
            ("branch", branch.number.to_string(), fields)
        }
        PLACED => {
            let placed: PlacedRecord = codec::decode(value).ok()?;
            ("anchor", name(), json!({"event": placed.event, "size": placed.size}))
        }
        CONFLICT => {
            let conflict: ConflictRecord = codec::decode(value).ok()?;
            ("anchor_conflict", name(), json!({"event": conflict.event, "size": conflict.size}))
        }
        SETTLED => {
            let settled: Settled = codec::decode(value).ok()?;
            let fields = json!({"branch": settled.branch, "head": settled.head, "given_up_by": settled.since});
            ("settled_checkpoint", settled.size.to_string(), fields)
        }
        _ => return None,
    })
}

fn import_key(digest: &Hash) -> Vec<u8> {
    let mut key = vec![IMPORTS];
    key.extend_from_slice(digest.as_bytes());
    key
}

/// Folds [`StoreImported`]: under key `06`, the source's digest, stands the event that imported it last.
pub fn store_imported(seq: u64, event: &StoreImported) -> Result<Delta, FoldError> {
    Ok(vec![(import_key(&event.digest).into(), Some(codec::encode(&seq)?.into()))])
}

/// The event that imported a source last, if one did.
pub fn imported_by(state: &dyn StateRead, digest: &Hash) -> Result<Option<u64>, FoldError> {
    Ok(state.get(&import_key(digest))?.map(|bytes| codec::decode(&bytes)).transpose()?)
}
