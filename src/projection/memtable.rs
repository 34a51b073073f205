//! Changes in memory: the table that takes them, and the one that is being written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use crate::base::{Change, Delta, limits};
use crate::log::Position;

type Map = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

/// Bytes that an entry costs beside its own.
const ENTRY_COST: usize = 64;

/// Changes since the last freeze; `None` is a tombstone.
#[derive(Default)]
pub(super) struct Memtable {
    map: Map,
    bytes: usize,
}

impl Memtable {
    pub(super) fn apply(&mut self, delta: Delta) {
        for (key, value) in delta {
            let len = value.as_ref().map_or(0, |value| value.len());
            match self.map.entry(key) {
                Entry::Vacant(place) => {
                    self.bytes += place.key().len() + len + ENTRY_COST;
                    place.insert(value);
                }
                Entry::Occupied(mut place) => {
                    self.bytes += len;
                    let before = place.insert(value).map_or(0, |value| value.len());
                    self.bytes = self.bytes.saturating_sub(before);
                }
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.map.len() >= limits::MEMTABLE_ENTRIES_MAX || self.bytes >= limits::MEMTABLE_BYTES_MAX
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.map.get(key).map(Option::as_deref)
    }

    pub(super) fn range(&self, from: &[u8], end: &[u8]) -> Vec<Change> {
        range(&self.map, from, end)
    }
}

fn range(map: &Map, from: &[u8], end: &[u8]) -> Vec<Change> {
    if !end.is_empty() && from >= end {
        return Vec::new();
    }
    let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    let found = map.range::<[u8], _>((Bound::Included(from), upper));
    found.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Changes that fold everything up to a position and wait to be written.
pub(super) struct Frozen {
    map: Map,
    position: Position,
}

impl Frozen {
    pub(super) fn new(mem: Memtable, position: Position) -> Self {
        Self { map: mem.map, position }
    }

    /// The newer changes on top of older ones that may not be written yet.
    pub(super) fn over(older: &Self, mem: Memtable, position: Position) -> Self {
        let mut map = older.map.clone();
        map.extend(mem.map);
        Self { map, position }
    }

    pub(super) const fn position(&self) -> Position {
        self.position
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.map.iter().map(|(key, value)| (&**key, value.as_deref()))
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.map.get(key).map(Option::as_deref)
    }

    pub(super) fn range(&self, from: &[u8], end: &[u8]) -> Vec<Change> {
        range(&self.map, from, end)
    }
}
