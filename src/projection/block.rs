//! Blocks: sorted entries with a table of their places, so that a lookup halves instead of walking.
//!
//! Plain layout: the entries one after another, then the place of each (2 bytes), then their number (2
//! bytes), all little-endian. A block is closed once it reaches its size, so every place fits 2 bytes.
//!
//! | entry of | layout |
//! |---|---|
//! | a leaf | key length (2), value length (4, all ones: a tombstone), key, value |
//! | an inner block | key length (2), child's offset (8), child's sealed length (4), key |

use crate::base::bytes::Reader;

const TOMBSTONE: u32 = u32::MAX;

/// Builds one block.
#[derive(Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    places: Vec<u16>,
}

/// Where a sealed block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    pub offset: u64,
    pub len: u32,
}

impl BlockBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes that the finished block will have.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + 2 * self.places.len() + 2
    }

    pub(super) fn entries(&self) -> usize {
        self.places.len()
    }

    fn begin(&mut self, key: &[u8]) {
        self.places.push(u16::try_from(self.bytes.len()).unwrap_or(u16::MAX));
        self.bytes.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    }

    pub(super) fn add_leaf(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.begin(key);
        let len = value.map_or(TOMBSTONE, |value| u32::try_from(value.len()).unwrap_or(TOMBSTONE - 1));
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    pub(super) fn add_child(&mut self, key: &[u8], child: Child) {
        self.begin(key);
        self.bytes.extend_from_slice(&child.offset.to_le_bytes());
        self.bytes.extend_from_slice(&child.len.to_le_bytes());
        self.bytes.extend_from_slice(key);
    }

    /// Takes the finished block out.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        for place in &self.places {
            bytes.extend_from_slice(&place.to_le_bytes());
        }
        bytes.extend_from_slice(&u16::try_from(self.places.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.places.clear();
        bytes
    }
}

/// How many entries a block has.
pub(super) fn count(block: &[u8]) -> Option<usize> {
    block.last_chunk().map(|count| usize::from(u16::from_le_bytes(*count)))
}

fn entry(block: &[u8], at: usize) -> Option<Reader<'_>> {
    let count = count(block)?;
    let table = block.len().checked_sub(2 + 2 * count)?;
    let place = block.get(table + 2 * at..)?.first_chunk().filter(|_| at < count)?;
    Some(Reader(block.get(usize::from(u16::from_le_bytes(*place))..table)?))
}

/// The key and value of a leaf's entry.
pub(super) fn leaf_entry(block: &[u8], at: usize) -> Option<(&[u8], Option<&[u8]>)> {
    let mut reader = entry(block, at)?;
    let key_len = usize::from(reader.u16()?);
    let len = reader.u32()?;
    let key = reader.bytes(key_len)?;
    let value = if len == TOMBSTONE { None } else { Some(reader.bytes(usize::try_from(len).ok()?)?) };
    Some((key, value))
}

/// The first key and place of an inner block's child.
pub(super) fn child_entry(block: &[u8], at: usize) -> Option<(&[u8], Child)> {
    let mut reader = entry(block, at)?;
    let key_len = usize::from(reader.u16()?);
    let child = Child { offset: reader.u64()?, len: reader.u32()? };
    Some((reader.bytes(key_len)?, child))
}

/// How many of the first `count` entries satisfy a condition that only the first ones do.
pub(super) fn partition(count: usize, mut holds: impl FnMut(usize) -> Option<bool>) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Some(low)
}
