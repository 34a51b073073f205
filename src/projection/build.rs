//! Writes a run from first key to last.

use std::path::Path;
use std::sync::Arc;

use crate::base::limits;
use crate::crypto::Opener;
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::block::{BlockBuilder, Child};
use super::bloom::Bloom;
use super::cache::Cache;
use super::error::IndexError;
use super::run::{BlockKind, FOOTER_LEN, Footer, KeyHash, Run, RunId, TRAILER_LEN, footer_aad, nonce, trailer};
use crate::crypto::TAG_LEN;

/// Plain bytes of an inner block: wide, so that the tree is flat.
const INNER_BYTES: usize = 4096;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// A run being written.
pub(super) struct Builder {
    number: u64,
    id: RunId,
    file: Box<dyn MediumFile>,
    opener: Opener,
    cache: Arc<Cache>,
    /// Where the bytes in `out` go.
    written: u64,
    out: Vec<u8>,
    leaf: BlockBuilder,
    /// The key that leads to the open leaf.
    leaf_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Inner blocks being filled, and the key that leads to each; the lowest level first.
    levels: Vec<(BlockBuilder, Vec<u8>)>,
    bloom: Bloom,
    entries: u64,
}

impl Builder {
    pub(super) fn new(
        medium: &dyn Medium,
        path: &Path,
        (number, id): (u64, RunId),
        opener: Opener,
        cache: Arc<Cache>,
        entries: usize,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            number,
            id,
            file: medium.open(path, OpenMode::CreateNew)?,
            opener,
            cache,
            written: 0,
            out: Vec::with_capacity(WRITE_BYTES + 8192),
            leaf: BlockBuilder::default(),
            leaf_key: Vec::new(),
            last_key: Vec::new(),
            levels: Vec::new(),
            bloom: Bloom::new(entries),
            entries: 0,
        })
    }

    /// Adds an entry behind all before.
    pub(super) fn add(&mut self, key: &[u8], value: Option<&[u8]>, hash: KeyHash) -> Result<(), IndexError> {
        debug_assert!(self.entries == 0 || key > self.last_key.as_slice(), "entries come in order");
        if self.leaf.is_empty() {
            self.leaf_key = separator(&self.last_key, key).to_vec();
        }
        self.leaf.add_leaf(key, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.bloom.add(hash);
        self.entries += 1;
        if self.leaf.len() >= limits::INDEX_BLOCK_BYTES {
            self.close_leaf()?;
        }
        Ok(())
    }

    fn seal(&mut self, aad: &[u8], mut plain: Vec<u8>) -> Result<Child, StoreError> {
        let offset = self.written + self.out.len() as u64;
        let tag = self.opener.seal_uncommitted(&nonce(offset), aad, &mut plain);
        self.out.extend_from_slice(&plain);
        self.out.extend_from_slice(&tag);
        if self.out.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(Child { offset, len: u32::try_from(plain.len() + TAG_LEN).unwrap_or(u32::MAX) })
    }

    fn write_out(&mut self) -> Result<(), StoreError> {
        self.file.write_at(self.written, &self.out)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    fn close_leaf(&mut self) -> Result<(), StoreError> {
        let plain = self.leaf.finish();
        let child = self.seal(&[BlockKind::Leaf as u8], plain)?;
        let key = std::mem::take(&mut self.leaf_key);
        self.add_child(0, key, child)
    }

    fn add_child(&mut self, level: usize, key: Vec<u8>, child: Child) -> Result<(), StoreError> {
        if level == self.levels.len() {
            self.levels.push((BlockBuilder::default(), Vec::new()));
        }
        let Some((block, first)) = self.levels.get_mut(level) else { return Ok(()) };
        block.add_child(&key, child);
        if block.entries() == 1 {
            *first = key;
        }
        if block.len() >= INNER_BYTES { self.close_inner(level) } else { Ok(()) }
    }

    fn close_inner(&mut self, level: usize) -> Result<(), StoreError> {
        let Some((block, first)) = self.levels.get_mut(level) else { return Ok(()) };
        let (plain, key) = (block.finish(), std::mem::take(first));
        let child = self.seal(&[BlockKind::Inner as u8], plain)?;
        self.add_child(level + 1, key, child)
    }

    /// Closes what is open, writes filter and footer, and makes the file durable; its name is the
    /// caller's to sync.
    pub(super) fn finish(mut self) -> Result<Run, IndexError> {
        if !self.leaf.is_empty() || self.levels.is_empty() {
            self.close_leaf()?;
        }
        let (root, depth) = self.close_levels()?;
        let bloom = std::mem::replace(&mut self.bloom, Bloom::new(0));
        let bloom_offset = self.written + self.out.len() as u64;
        for page in bloom.pages() {
            self.seal(&[BlockKind::Bloom as u8], page.to_vec())?;
        }
        let bloom_pages = u32::try_from(bloom.pages().len()).unwrap_or(u32::MAX);
        let footer = Footer { root, depth, entries: self.entries, bloom_offset, bloom_pages };
        let start = self.written + self.out.len() as u64;
        let bytes = start + (FOOTER_LEN + TAG_LEN + TRAILER_LEN) as u64;
        let place = self.seal(&footer_aad(bytes), footer.encode())?;
        self.out.extend_from_slice(&trailer(&self.id, place));
        self.write_out()?;
        self.file.sync()?;
        Ok(Run::from_parts(self.number, (self.file, self.opener), bytes, footer, self.cache))
    }

    /// Closes inner blocks upwards until one block is left: the root.
    fn close_levels(&mut self) -> Result<(Child, u8), IndexError> {
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            let Some((block, _)) = self.levels.get_mut(level) else {
                return Err(super::RebuildReason::Damaged.into());
            };
            if top && block.entries() == 1 {
                // One child and nothing above: the child is the root.
                let plain = block.finish();
                let (_, child) = super::block::child_entry(&plain, 0).ok_or(super::RebuildReason::Damaged)?;
                return Ok((child, u8::try_from(level).unwrap_or(u8::MAX)));
            }
            if !block.is_empty() {
                self.close_inner(level)?;
            }
            level += 1;
        }
    }
}

/// The shortest beginning of `key` that is greater than `before`.
fn separator<'a>(before: &[u8], key: &'a [u8]) -> &'a [u8] {
    let common = before.iter().zip(key).take_while(|(one, other)| one == other).count();
    key.get(..=common).unwrap_or(key)
}
