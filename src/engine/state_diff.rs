//! What is different between two states, in the words of the domains.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::base::{Delta, StateError, StateRead};
use crate::{auth, identity, vault};

use super::{compromise_state, fold, history};

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is there, and was not.
    Added,
    /// It is another.
    Changed,
    /// It was there, and is not.
    Removed,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StateChange {
    /// What it is: `secret`, `secret_version`, `device`, `certificate`, `ca`, `pairing`, `request`,
    /// `profile`, `profile_in_use`, `order`, `ledger`, `compromise`, `checkpoint`, `branch`, `anchor`,
    /// `anchor_conflict`, `settled_checkpoint`, `backend`, `envelope`.
    pub what: &'static str,
    /// Which one.
    pub subject: String,
    /// How it differs.
    pub change: ChangeKind,
    /// Its fields that differ, each before and after.
    pub fields: BTreeMap<String, (Value, Value)>,
}

type Shown = (&'static str, String, Value);

/// A record as its domain shows it.
fn shown(key: &[u8], value: &[u8]) -> Option<Shown> {
    fold::shown(key, value)
        .or_else(|| history::shown(key, value))
        .or_else(|| compromise_state::shown(key, value))
        .or_else(|| vault::shown(key, value))
        .or_else(|| identity::shown(key, value))
        .or_else(|| auth::shown(key, value))
}

/// What became of one record; nothing where it only moved, or is none that anybody sees.
fn change(key: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> Option<StateChange> {
    if before == after {
        return None;
    }
    let (old, new) = (before.and_then(|value| shown(key, value)), after.and_then(|value| shown(key, value)));
    let (change, what, subject) = match (&old, &new) {
        (None, Some((what, subject, _))) => (ChangeKind::Added, *what, subject.clone()),
        (Some(_), Some((what, subject, _))) => (ChangeKind::Changed, *what, subject.clone()),
        (Some((what, subject, _)), None) => (ChangeKind::Removed, *what, subject.clone()),
        (None, None) => return None,
    };
    let fields = differing(old.map(|(_, _, fields)| fields), new.map(|(_, _, fields)| fields));
    // An older version gets a record of its own when a newer one is written: that changes nothing about it.
    let moved = what == "secret_version" && change == ChangeKind::Added && fields.is_empty();
    let touched = change == ChangeKind::Changed && fields.is_empty();
    (!moved && !touched).then_some(StateChange { what, subject, change, fields })
}

fn differing(old: Option<Value>, new: Option<Value>) -> BTreeMap<String, (Value, Value)> {
    let map = |value: Option<Value>| match value {
        Some(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (mut old, new) = (map(old), map(new));
    let mut fields = BTreeMap::new();
    for (name, after) in new {
        let before = old.remove(&name).unwrap_or_default();
        // Nothing and what says nothing are the same.
        let nothing = |value: &Value| value.is_null() || *value == Value::Bool(false);
        if before != after && !(nothing(&before) && nothing(&after)) {
            fields.insert(name, (before, after));
        }
    }
    fields.extend(
        old.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, (value, Value::Null))),
    );
    fields
}

/// What one event's changes mean for a state that lacks them.
pub(super) fn of_delta(state: &dyn StateRead, delta: &Delta) -> Result<Vec<StateChange>, StateError> {
    let last: BTreeMap<&[u8], Option<&[u8]>> = delta.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
    let mut found = Vec::new();
    for (key, after) in last {
        found.extend(change(key, state.get(key)?.as_deref(), after));
    }
    Ok(found)
}

/// What is different between two states.
pub(super) fn between(before: &dyn StateRead, after: &dyn StateRead) -> Result<Vec<StateChange>, StateError> {
    let mut found = Vec::new();
    let mut newer = Pages::new(after);
    let mut fault = None;
    before.scan(&[], &[], &mut |key, value| match newer.up_to(key, &mut |key, value| {
        found.extend(change(key, None, Some(value)));
    }) {
        Ok(same) => {
            found.extend(change(key, Some(value), same.as_deref()));
            ControlFlow::Continue(())
        }
        Err(error) => {
            fault = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = fault {
        return Err(error);
    }
    newer.rest(&mut |key, value| found.extend(change(key, None, Some(value))))?;
    Ok(found)
}

/// Entries read at a time.
const PAGE: usize = 4096;

/// A state's entries in order, read in pages: two scans cannot run into each other.
struct Pages<'a> {
    state: &'a dyn StateRead,
    page: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    next: Option<Vec<u8>>,
    peeked: Option<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Pages<'a> {
    fn new(state: &'a dyn StateRead) -> Self {
        Self { state, page: Vec::new().into_iter(), next: Some(Vec::new()), peeked: None }
    }

    fn peek(&mut self) -> Result<Option<&(Vec<u8>, Vec<u8>)>, StateError> {
        if self.peeked.is_none() {
            self.peeked = match self.page.next() {
                Some(entry) => Some(entry),
                None => {
                    self.fill()?;
                    self.page.next()
                }
            };
        }
        Ok(self.peeked.as_ref())
    }

    fn fill(&mut self) -> Result<(), StateError> {
        let Some(from) = self.next.take() else { return Ok(()) };
        let mut page = Vec::with_capacity(PAGE);
        self.state.scan(&from, &[], &mut |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            if page.len() == PAGE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if page.len() == PAGE
            && let Some((last, _)) = page.last()
        {
            let mut next = last.clone();
            next.push(0);
            self.next = Some(next);
        }
        self.page = page.into_iter();
        Ok(())
    }

    /// Visits what comes before a key, and gives the value under it.
    fn up_to(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<Option<Vec<u8>>, StateError> {
        while let Some((found, value)) = self.peek()? {
            match found.as_slice().cmp(key) {
                Ordering::Less => visit(found, value),
                Ordering::Equal => return Ok(self.peeked.take().map(|(_, value)| value)),
                Ordering::Greater => return Ok(None),
            }
            self.peeked = None;
        }
        Ok(None)
    }

    fn rest(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StateError> {
        while let Some((key, value)) = self.peek()? {
            visit(key, value);
            self.peeked = None;
        }
        Ok(())
    }
}
