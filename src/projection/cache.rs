//! Opened blocks in memory, bounded: what was used since the last turn stays, the rest goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::limits;

const SHARDS: usize = 8;

type Place = (u64, u64);
type Blocks = HashMap<Place, Arc<[u8]>>;

/// Blocks by run and offset.
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    young: Blocks,
    young_bytes: usize,
    old: Blocks,
}

impl Default for Cache {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// Bytes that an entry costs beside its block.
const ENTRY_COST: usize = 64;
/// Two generations a shard, each half of its share.
const GENERATION_BYTES: usize = limits::INDEX_CACHE_BYTES / SHARDS / 2;

impl Shard {
    fn insert(&mut self, place: Place, block: Arc<[u8]>) {
        let bytes = block.len() + ENTRY_COST;
        if self.young_bytes + bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(place, block).is_none() {
            self.young_bytes += bytes;
        }
    }
}

impl Cache {
    fn shard(&self, (run, offset): Place) -> Option<&Mutex<Shard>> {
        // Offsets of neighbouring blocks differ by about a kilobyte.
        let spread = (run ^ (offset >> 10)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
        self.shards.get(usize::try_from(spread).unwrap_or(0))
    }

    pub(super) fn get(&self, place: Place) -> Option<Arc<[u8]>> {
        let mut shard = self.shard(place)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = shard.young.get(&place) {
            return Some(Arc::clone(block));
        }
        let block = shard.old.remove(&place)?;
        shard.insert(place, Arc::clone(&block));
        Some(block)
    }

    pub(super) fn insert(&self, place: Place, block: Arc<[u8]>) {
        if let Some(shard) = self.shard(place) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(place, block);
        }
    }
}
