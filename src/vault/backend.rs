//! Which backend holds the envelopes, and where a move to another one stands.
//!
//! ```text
//! at rest --started--> copying --switched--> clearing --finished--> at rest
//!                        `-------aborted---> at rest
//! ```

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::base::{BackendKind, Delta, SecretPath, StateRead, limits};
use crate::event::{Event, codec};

use super::state::{ApplyFault, Head, VersionRecord, head_key, list_heads, list_versions, put, read};

const BACKEND: &[u8] = &[0x14];
const MOVED: u8 = 0x15;

/// Which backend holds the envelopes (stored in the state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BackendState {
    /// The one that reads and writes go to.
    pub kind: BackendKind,
    /// While a move is under way: the other one, where copies are.
    pub other: Option<BackendKind>,
    /// Whether the switch was made: then the other one is the former, otherwise the next.
    pub switched: bool,
}

impl BackendState {
    /// Both places where an object may be.
    pub fn places(&self) -> impl Iterator<Item = BackendKind> {
        std::iter::once(self.kind).chain(self.other)
    }
}

/// Where the envelopes are.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn backend(state: &dyn StateRead) -> Result<BackendState, ApplyFault> {
    Ok(read(state, BACKEND)?.unwrap_or_default())
}

fn moved_key(slot: u64) -> Vec<u8> {
    let mut key = vec![MOVED];
    key.extend_from_slice(&slot.to_be_bytes());
    key
}

/// The event that brought a slot's envelope back into the log, if one did.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn moved_by(state: &dyn StateRead, slot: u64) -> Result<Option<u64>, ApplyFault> {
    read(state, &moved_key(slot))
}

/// Folds the events of moves.
pub(super) fn apply(state: &dyn StateRead, seq: u64, event: &Event) -> Result<Delta, ApplyFault> {
    let at_rest = |kind| BackendState { kind, other: None, switched: false };
    let next = |expected: BackendState, next: BackendState| {
        if backend(state)? == expected { Ok(vec![put(BACKEND, &next)?]) } else { Err(ApplyFault::Backend) }
    };
    match event {
        Event::BackendMigrationStarted(event) if event.from != event.to => {
            let copying = BackendState { kind: event.from, other: Some(event.to), switched: false };
            next(at_rest(event.from), copying)
        }
        Event::EnvelopesMoved(event) => {
            let now = backend(state)?;
            if now.other != Some(BackendKind::Ledger) || now.switched {
                return Err(ApplyFault::Backend);
            }
            event.envelopes.iter().map(|moved| put(&moved_key(moved.slot), &seq)).collect()
        }
        Event::BackendSwitched(event) => {
            let copying = BackendState { kind: event.from, other: Some(event.to), switched: false };
            next(copying, BackendState { kind: event.to, other: Some(event.from), switched: true })
        }
        Event::BackendMigrationFinished(event) => {
            let now = backend(state)?;
            next(BackendState { kind: now.kind, other: Some(event.from), switched: true }, at_rest(now.kind))
        }
        Event::BackendMigrationAborted(event) => {
            let now = backend(state)?;
            next(BackendState { kind: now.kind, other: Some(event.to), switched: false }, at_rest(now.kind))
        }
        Event::BackendMigrationStarted(_) => Err(ApplyFault::Backend),
        _ => Ok(Vec::new()),
    }
}

/// Visits every version of every secret, shredded ones too, a stride of secrets at a time: nothing of the state
/// is held while a version is looked at.
///
/// # Errors
/// What the visitor says, or that the state does not read.
pub fn each_version<E: From<ApplyFault>>(
    state: &dyn StateRead,
    visit: &mut dyn FnMut(&SecretPath, &VersionRecord) -> Result<(), E>,
) -> Result<(), E> {
    let mut from: Vec<u8> = super::scope_prefix(&crate::base::Scope::global()).into_iter().take(1).collect();
    let end = crate::base::prefix_end(&from);
    loop {
        let mut stride: Vec<(SecretPath, Head)> = Vec::new();
        list_heads(state, &from, &end, &mut |target, head| {
            stride.push((target, head));
            if stride.len() < limits::VERSIONS_STRIDE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let Some((last, _)) = stride.last() else { return Ok(()) };
        from = head_key(&last.scope, &last.name);
        from.push(0);
        for (target, head) in &stride {
            if head.current.version == 1 {
                visit(target, &head.current)?;
                continue;
            }
            for record in list_versions(state, target, head)? {
                visit(target, &record)?;
            }
        }
    }
}

/// Where envelopes are, as somebody may see it: for comparing two states.
pub(super) fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, serde_json::Value)> {
    if key == BACKEND {
        let state: BackendState = codec::decode(value).ok()?;
        let other = state.other.map(|other| other.to_string());
        let fields = serde_json::json!({"kind": state.kind.to_string(), "other": other, "switched": state.switched});
        return Some(("backend", "envelopes".to_owned(), fields));
    }
    let (first, slot) = key.split_first()?;
    if *first != MOVED {
        return None;
    }
    let slot = u64::from_be_bytes(slot.try_into().ok()?);
    let seq: u64 = codec::decode(value).ok()?;
    Some(("envelope", slot.to_string(), serde_json::json!({"moved_by": seq})))
}
