//! Folding secret versions that came from another store.

use std::collections::BTreeMap;

use crate::base::{BackendKind, Delta, StateRead, Timestamp};
use crate::event::import::SecretsImported;

use super::backend::backend;
use super::state::{
    ApplyFault, COUNTERS, Head, VersionRecord, counters, find_head, head_key, origin_key, put, version_key,
};

/// Folds many versions at once; one secret may have several of them.
pub(super) fn apply(
    state: &dyn StateRead,
    seq: u64,
    time: Timestamp,
    event: &SecretsImported,
) -> Result<Delta, ApplyFault> {
    let mut counters = counters(state)?;
    let kind = backend(state)?.kind;
    let mut heads: BTreeMap<Vec<u8>, Head> = BTreeMap::new();
    let mut delta = Delta::with_capacity(2 * event.secrets.len() + 1);
    for imported in &event.secrets {
        let written = &imported.put;
        if written.slot < counters.next_slot {
            return Err(ApplyFault::SlotReused { slot: written.slot });
        }
        if written.backend != kind.number() || written.envelope.is_empty() != (kind != BackendKind::Ledger) {
            return Err(ApplyFault::Backend);
        }
        let key = head_key(&written.scope, &written.name);
        let before = match heads.remove(&key) {
            Some(head) => Some(head),
            None => find_head(state, &written.scope, &written.name)?,
        };
        let last = before.as_ref().map_or(0, |head| head.current.version);
        if written.version.checked_sub(1) != Some(last) {
            return Err(ApplyFault::VersionOrder { found: written.version, last });
        }
        counters.next_slot = written.slot.saturating_add(1);
        counters.versions += 1;
        counters.secrets += u64::from(before.is_none());
        let current = VersionRecord {
            version: written.version,
            seq,
            created: time,
            slot: written.slot,
            value_bytes: written.value_bytes,
            expires_at: written.expires_at,
            deleted: imported.deleted,
            shredded: None,
        };
        let (created, deleted_through) = match before {
            Some(head) => {
                delta.push(put(&version_key(&written.scope, &written.name, last), &head.current)?);
                (head.created, head.deleted_through)
            }
            None => (time, 0),
        };
        if let Some(origin) = &imported.origin {
            delta.push(put(&origin_key(&written.scope, &written.name, written.version), origin)?);
        }
        let (description, labels) = (written.description.clone(), written.labels.clone());
        heads.insert(key, Head { current, deleted_through, created, updated: time, description, labels });
    }
    for (key, head) in &heads {
        delta.push(put(key, head)?);
    }
    delta.push(put(COUNTERS, &counters)?);
    Ok(delta)
}
