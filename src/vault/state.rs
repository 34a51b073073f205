//! The vault's part of the state: one head per secret, one record per older version.
//!
//! | key | value |
//! |---|---|
//! | `01` | [`Counters`] |
//! | `10` scope `00` name | [`Head`], with the record of the current version in it |
//! | `11` scope `00` name `00` version (4, big endian) | [`VersionRecord`] of an older version |
//! | `12` sequence number (8, big endian) | key slots that the shred event of this number destroys |
//! | `13` scope `00` name | time of the last recorded read |
//! | `14` | [`BackendState`](super::BackendState), once it was ever another than the ledger |
//! | `15` slot (8, big endian) | sequence number of the event that brought this envelope back into the log |
//! | `16` scope `00` name `00` version (4, big endian) | what another store said of its times: `OriginTimes` |
//!
//! Scopes and names hold no zero byte, so keys of one scope stand together and none is a prefix of
//! another's range.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::{
    BackendKind, Change, Delta, Scope, SecretName, SecretPath, StateError, StateRead, Timestamp, prefix_end,
};
use crate::event::import::OriginTimes;
use crate::event::vault::{
    ReadNote, SecretDeleted, SecretDescribed, SecretPut, SecretShredded, SecretUndeleted, SecretsRead, Versions,
};
use crate::event::{CodecError, Event, codec};

pub(super) const COUNTERS: &[u8] = &[0x01];
pub(super) const HEADS: u8 = 0x10;
pub(super) const VERSIONS: u8 = 0x11;
const SHREDS: u8 = 0x12;
const LAST_READS: u8 = 0x13;
const ORIGINS: u8 = 0x16;

/// Why an event does not fit the state before it: the chain may be valid and its events nonsense.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFault {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A stored record does not decode.
    #[error("a record of the state does not decode: {0}")]
    Record(#[from] CodecError),
    /// The event is about a secret or version that is not there.
    #[error("the event is about a secret or version that does not exist")]
    Missing,
    /// The version is not the next one.
    #[error("version {found} follows version {last}")]
    VersionOrder {
        /// The version in the event.
        found: u32,
        /// The last version in the state.
        last: u32,
    },
    /// The key slot was used before.
    #[error("key slot {slot} was used before")]
    SlotReused {
        /// The slot in the event.
        slot: u64,
    },
    /// The event does not fit the backend that is in force, or where a move of it stands.
    #[error("the event does not fit the storage backend in force")]
    Backend,
    /// The version was shredded before.
    #[error("version {version} is shredded already")]
    ShreddedBefore {
        /// The version.
        version: u32,
    },
}

/// Totals over the vault (stored in the state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// First key slot that no event has named yet.
    pub next_slot: u64,
    /// Secrets that ever existed.
    pub secrets: u64,
    /// Versions that were ever written.
    pub versions: u64,
    /// Versions that were shredded.
    pub shredded: u64,
}

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// Readable.
    Live,
    /// Hidden; can be shown again.
    Deleted,
    /// Destroyed.
    Shredded,
}

impl VersionState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Deleted => "deleted",
            Self::Shredded => "shredded",
        }
    }
}

/// One version of a secret (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Number, from 1.
    pub version: u32,
    /// Sequence number of the event that wrote it.
    pub seq: u64,
    /// When it was written.
    pub created: Timestamp,
    /// Slot of the key table that holds its key.
    pub slot: u64,
    /// Length of the value in bytes.
    pub value_bytes: u32,
    /// When it is to be replaced, if anybody said.
    pub expires_at: Option<Timestamp>,
    /// Whether this one version was deleted by its number.
    pub deleted: bool,
    /// Sequence number of the event that shredded it.
    pub shredded: Option<u64>,
}

/// A secret and its current version (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The current version.
    pub current: VersionRecord,
    /// Versions up to this one were deleted together.
    pub deleted_through: u32,
    /// When the first version was written.
    pub created: Timestamp,
    /// When value or metadata last changed.
    pub updated: Timestamp,
    /// Description.
    pub description: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Head {
    /// What became of a version of this secret.
    #[must_use]
    pub fn state_of(&self, record: &VersionRecord) -> VersionState {
        if record.shredded.is_some() {
            VersionState::Shredded
        } else if record.deleted || record.version <= self.deleted_through {
            VersionState::Deleted
        } else {
            VersionState::Live
        }
    }

    /// What became of the current version.
    #[must_use]
    pub fn state(&self) -> VersionState {
        self.state_of(&self.current)
    }
}

/// The state key of a secret's head.
#[must_use]
pub fn head_key(scope: &Scope, name: &SecretName) -> Vec<u8> {
    let mut key = scope_prefix(scope);
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

/// The beginning of the head keys of every scope.
#[must_use]
pub fn heads_from() -> Vec<u8> {
    vec![HEADS]
}

/// The beginning of the head keys of one scope.
#[must_use]
pub fn scope_prefix(scope: &Scope) -> Vec<u8> {
    let mut key = vec![HEADS];
    key.extend_from_slice(scope.as_str().as_bytes());
    key.push(0);
    key
}

fn versions_prefix(scope: &Scope, name: &SecretName) -> Vec<u8> {
    let mut key = vec![VERSIONS];
    key.extend_from_slice(scope.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(name.as_str().as_bytes());
    key.push(0);
    key
}

pub(super) fn version_key(scope: &Scope, name: &SecretName, version: u32) -> Vec<u8> {
    let mut key = versions_prefix(scope, name);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

pub(super) fn read<T: DeserializeOwned>(state: &dyn StateRead, key: &[u8]) -> Result<Option<T>, ApplyFault> {
    Ok(state.get(key)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

pub(super) fn put<T: Serialize>(key: &[u8], value: &T) -> Result<Change, ApplyFault> {
    Ok((key.into(), Some(codec::encode(value)?.into())))
}

/// The vault's totals.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn counters(state: &dyn StateRead) -> Result<Counters, ApplyFault> {
    Ok(read(state, COUNTERS)?.unwrap_or_default())
}

/// A secret's head.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn find_head(state: &dyn StateRead, scope: &Scope, name: &SecretName) -> Result<Option<Head>, ApplyFault> {
    read(state, &head_key(scope, name))
}

/// One version of a secret.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn find_version(
    state: &dyn StateRead,
    target: &SecretPath,
    head: &Head,
    version: u32,
) -> Result<Option<VersionRecord>, ApplyFault> {
    if version == head.current.version {
        return Ok(Some(head.current.clone()));
    }
    read(state, &version_key(&target.scope, &target.name, version))
}

/// Every version of a secret, oldest first.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn list_versions(
    state: &dyn StateRead,
    target: &SecretPath,
    head: &Head,
) -> Result<Vec<VersionRecord>, ApplyFault> {
    let prefix = versions_prefix(&target.scope, &target.name);
    let mut found = Vec::new();
    let mut fault = None;
    state.scan(&prefix, &prefix_end(&prefix), &mut |_, value| match codec::decode(value) {
        Ok(record) => {
            found.push(record);
            ControlFlow::Continue(())
        }
        Err(error) => {
            fault = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = fault {
        return Err(error.into());
    }
    found.push(head.current.clone());
    Ok(found)
}

/// Visits heads whose state key lies between `from` (inclusive) and `end` (exclusive), in order.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn list_heads(
    state: &dyn StateRead,
    from: &[u8],
    end: &[u8],
    visit: &mut dyn FnMut(SecretPath, Head) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let mut fault = None;
    state.scan(from, end, &mut |key, value| {
        let head = match codec::decode::<Head>(value) {
            Ok(head) => head,
            Err(error) => {
                fault = Some(ApplyFault::Record(error));
                return ControlFlow::Break(());
            }
        };
        match split_head_key(key) {
            Some(target) => visit(target, head),
            None => {
                fault = Some(ApplyFault::Missing);
                ControlFlow::Break(())
            }
        }
    })?;
    fault.map_or(Ok(()), Err)
}

pub(super) fn split_head_key(key: &[u8]) -> Option<SecretPath> {
    let text = std::str::from_utf8(key.strip_prefix(&[HEADS])?).ok()?;
    let (scope, name) = text.split_once('\0')?;
    Some(SecretPath { scope: scope.parse().ok()?, name: name.parse().ok()? })
}

pub(super) fn split_version_key(key: &[u8]) -> Option<(SecretPath, u32)> {
    let (path, version) = key.strip_prefix(&[VERSIONS])?.split_last_chunk()?;
    let text = std::str::from_utf8(path.strip_suffix(&[0])?).ok()?;
    let (scope, name) = text.split_once('\0')?;
    let path = SecretPath { scope: scope.parse().ok()?, name: name.parse().ok()? };
    Some((path, u32::from_be_bytes(*version)))
}

/// Shred events after `after`, with the key slots that each destroys.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn pending_shreds(state: &dyn StateRead, after: Option<u64>) -> Result<Vec<(u64, Vec<u64>)>, ApplyFault> {
    let mut from = vec![SHREDS];
    from.extend_from_slice(&after.map_or(0, |seq| seq.saturating_add(1)).to_be_bytes());
    let mut found = Vec::new();
    let mut fault = None;
    state.scan(&from, &[SHREDS + 1], &mut |key, value| {
        let seq = key.get(1..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        match (seq, codec::decode::<Vec<u64>>(value)) {
            (Some(seq), Ok(slots)) => {
                found.push((seq, slots));
                ControlFlow::Continue(())
            }
            (None, _) => {
                fault = Some(ApplyFault::Missing);
                ControlFlow::Break(())
            }
            (_, Err(error)) => {
                fault = Some(ApplyFault::Record(error));
                ControlFlow::Break(())
            }
        }
    })?;
    fault.map_or(Ok(found), Err)
}

/// Folds one event into the state: what changes. Pure and deterministic (invariant I1).
///
/// # Errors
/// [`ApplyFault`] where the event does not fit; the state is then not changed.
pub fn apply(state: &dyn StateRead, seq: u64, time: Timestamp, event: &Event) -> Result<Delta, ApplyFault> {
    match event {
        Event::SecretPut(event) => apply_put(state, seq, time, event),
        Event::SecretsImported(event) => super::imported::apply(state, seq, time, event),
        Event::SecretDeleted(SecretDeleted { scope, name, versions }) => {
            set_deleted(state, time, scope, name, *versions, true)
        }
        Event::SecretUndeleted(SecretUndeleted { scope, name, versions }) => {
            set_deleted(state, time, scope, name, *versions, false)
        }
        Event::SecretShredded(event) => apply_shred(state, seq, time, event),
        Event::SecretDescribed(event) => apply_describe(state, time, event),
        Event::SecretsRead(event) => apply_reads(event),
        other => super::backend::apply(state, seq, other),
    }
}

fn apply_put(state: &dyn StateRead, seq: u64, time: Timestamp, event: &SecretPut) -> Result<Delta, ApplyFault> {
    let mut counters = counters(state)?;
    if event.slot < counters.next_slot {
        return Err(ApplyFault::SlotReused { slot: event.slot });
    }
    let backend = super::backend::backend(state)?.kind;
    if event.backend != backend.number() || event.envelope.is_empty() != (backend != BackendKind::Ledger) {
        return Err(ApplyFault::Backend);
    }
    let before = find_head(state, &event.scope, &event.name)?;
    let last = before.as_ref().map_or(0, |head| head.current.version);
    if event.version == 0 || event.version - 1 != last {
        return Err(ApplyFault::VersionOrder { found: event.version, last });
    }
    counters.next_slot = event.slot + 1;
    counters.versions += 1;
    counters.secrets += u64::from(before.is_none());
    let current = VersionRecord {
        version: event.version,
        seq,
        created: time,
        slot: event.slot,
        value_bytes: event.value_bytes,
        expires_at: event.expires_at,
        deleted: false,
        shredded: None,
    };
    let mut delta = vec![put(COUNTERS, &counters)?];
    let (created, deleted_through) = match before {
        Some(head) => {
            delta.push(put(&version_key(&event.scope, &event.name, last), &head.current)?);
            (head.created, head.deleted_through)
        }
        None => (time, 0),
    };
    let (description, labels) = (event.description.clone(), event.labels.clone());
    let head = Head { current, deleted_through, created, updated: time, description, labels };
    delta.push(put(&head_key(&event.scope, &event.name), &head)?);
    Ok(delta)
}

fn set_deleted(
    state: &dyn StateRead,
    time: Timestamp,
    scope: &Scope,
    name: &SecretName,
    versions: Versions,
    deleted: bool,
) -> Result<Delta, ApplyFault> {
    let mut head = find_head(state, scope, name)?.ok_or(ApplyFault::Missing)?;
    let mut delta = Vec::new();
    match versions {
        Versions::All => {
            if !deleted {
                show_all(state, scope, name, &mut head, &mut delta)?;
            }
            head.deleted_through = if deleted { head.current.version } else { 0 };
        }
        Versions::One(version) if version == head.current.version => {
            split_deleted_range(state, scope, name, &mut head, version, deleted, &mut delta)?;
            head.current.deleted = deleted;
        }
        Versions::One(version) => {
            let key = version_key(scope, name, version);
            let mut record: VersionRecord = read(state, &key)?.ok_or(ApplyFault::Missing)?;
            split_deleted_range(state, scope, name, &mut head, version, deleted, &mut delta)?;
            record.deleted = deleted;
            delta.push(put(&key, &record)?);
        }
    }
    head.updated = time;
    delta.push(put(&head_key(scope, name), &head)?);
    Ok(delta)
}

/// Showing all versions takes back deletions of single versions, too.
fn show_all(
    state: &dyn StateRead,
    scope: &Scope,
    name: &SecretName,
    head: &mut Head,
    delta: &mut Delta,
) -> Result<(), ApplyFault> {
    let target = SecretPath { scope: scope.clone(), name: name.clone() };
    for mut record in list_versions(state, &target, head)? {
        if record.deleted && record.version != head.current.version {
            record.deleted = false;
            delta.push(put(&version_key(scope, name, record.version), &record)?);
        }
    }
    head.current.deleted = false;
    Ok(())
}

/// Showing one version of a range that was deleted together: the rest of the range is marked one by
/// one, so that it stays hidden.
fn split_deleted_range(
    state: &dyn StateRead,
    scope: &Scope,
    name: &SecretName,
    head: &mut Head,
    version: u32,
    deleted: bool,
    delta: &mut Delta,
) -> Result<(), ApplyFault> {
    if deleted || version > head.deleted_through {
        return Ok(());
    }
    let target = SecretPath { scope: scope.clone(), name: name.clone() };
    for mut record in list_versions(state, &target, head)? {
        if record.version == version || record.version > head.deleted_through || record.deleted {
            continue;
        }
        record.deleted = true;
        if record.version == head.current.version {
            head.current.deleted = true;
        } else {
            delta.push(put(&version_key(scope, name, record.version), &record)?);
        }
    }
    head.deleted_through = 0;
    Ok(())
}

fn apply_shred(state: &dyn StateRead, seq: u64, time: Timestamp, event: &SecretShredded) -> Result<Delta, ApplyFault> {
    let target = SecretPath { scope: event.scope.clone(), name: event.name.clone() };
    let mut head = find_head(state, &event.scope, &event.name)?.ok_or(ApplyFault::Missing)?;
    let mut totals = counters(state)?;
    let mut delta = Vec::new();
    for (version, slot) in &event.versions {
        let mut record = find_version(state, &target, &head, *version)?.ok_or(ApplyFault::Missing)?;
        if record.slot != *slot {
            return Err(ApplyFault::Missing);
        }
        if record.shredded.is_some() {
            return Err(ApplyFault::ShreddedBefore { version: *version });
        }
        totals.shredded += 1;
        record.shredded = Some(seq);
        if *version == head.current.version {
            head.current = record;
        } else {
            delta.push(put(&version_key(&event.scope, &event.name, *version), &record)?);
        }
    }
    head.updated = time;
    let slots: Vec<u64> = event.versions.iter().map(|(_, slot)| *slot).collect();
    let mut key = vec![SHREDS];
    key.extend_from_slice(&seq.to_be_bytes());
    delta.push(put(&key, &slots)?);
    delta.push(put(COUNTERS, &totals)?);
    delta.push(put(&head_key(&event.scope, &event.name), &head)?);
    Ok(delta)
}

fn apply_describe(state: &dyn StateRead, time: Timestamp, event: &SecretDescribed) -> Result<Delta, ApplyFault> {
    let mut head = find_head(state, &event.scope, &event.name)?.ok_or(ApplyFault::Missing)?;
    head.updated = time;
    head.current.expires_at = event.expires_at;
    head.description.clone_from(&event.description);
    head.labels.clone_from(&event.labels);
    Ok(vec![put(&head_key(&event.scope, &event.name), &head)?])
}

/// Written without looking: a read costs the fold no look-up, however many secrets there are.
fn apply_reads(event: &SecretsRead) -> Result<Delta, ApplyFault> {
    event.reads.iter().map(|ReadNote { scope, name, last, .. }| put(&last_read_key(scope, name), last)).collect()
}

fn last_read_key(scope: &Scope, name: &SecretName) -> Vec<u8> {
    let mut key = head_key(scope, name);
    if let Some(kind) = key.first_mut() {
        *kind = LAST_READS;
    }
    key
}

pub(super) fn origin_key(scope: &Scope, name: &SecretName, version: u32) -> Vec<u8> {
    let mut key = version_key(scope, name, version);
    if let Some(kind) = key.first_mut() {
        *kind = ORIGINS;
    }
    key
}

/// What another store said of the times of a version that came from it.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn origin_of(state: &dyn StateRead, target: &SecretPath, version: u32) -> Result<Option<OriginTimes>, ApplyFault> {
    read(state, &origin_key(&target.scope, &target.name, version))
}

/// When a value of a secret was last read, as far as reads are recorded.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn last_read(state: &dyn StateRead, scope: &Scope, name: &SecretName) -> Result<Option<Timestamp>, ApplyFault> {
    read(state, &last_read_key(scope, name))
}
