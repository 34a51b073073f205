//! One run: an immutable sorted file of sealed blocks.
//!
//! A block's nonce is its offset in the file, under a key of the run's own, so no nonce is used twice.
//! Its associated data says what it is, so that no block passes for one of another kind. The footer's
//! names the file's length. A trailer in the clear says where the footer lies; the rest is sealed.

use std::path::Path;
use std::sync::Arc;

use crate::base::bytes::Reader;
use crate::crypto::{Hash, Key, NONCE_LEN, Opener, TAG_LEN, labels};
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use super::block::{self, Child};
use super::bloom::{self, PAGE_BYTES};
use super::cache::Cache;
use super::error::{IndexError, RebuildReason};
use super::manifest::{Manifest, RunNote};

const MAGIC: [u8; 4] = *b"PLIX";
const VERSION: u16 = 2;
/// Bytes of the trailer.
pub(super) const TRAILER_LEN: usize = 4 + 2 + 2 + RUN_ID_LEN + 8 + 4;
/// Bytes of a run's random id.
const RUN_ID_LEN: usize = 16;

/// Random bytes of whoever wrote the run, drawn at each opening: a number that is used again after a crash,
/// because no manifest named its run, still gives another key.
pub(super) type RunId = [u8; RUN_ID_LEN];
/// Plain bytes of the footer.
pub(super) const FOOTER_LEN: usize = 8 + 4 + 1 + 8 + 8 + 4;
/// Largest sealed block in bytes: one entry at its bounds, and its place.
const BLOCK_MAX: u32 = 128 * 1024;
/// Deepest tree: far more than any number of entries needs.
const DEPTH_MAX: u8 = 32;

/// What a block is: bound into its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Leaf = 1,
    Inner = 2,
    Bloom = 3,
}

/// Bits of a key's hash that place it in a Bloom filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyHash {
    pub page: u32,
    pub first: u32,
    pub step: u32,
}

impl KeyHash {
    pub(super) fn new(hash: &Hash) -> Self {
        let mut reader = Reader(hash.as_bytes());
        let mut word = || reader.u32().unwrap_or(0);
        Self { page: word(), first: word(), step: word() }
    }
}

/// The sealing of a run's blocks.
pub(super) fn opener(index_key: &Key, index_id: &[u8; 16], number: u64, id: &RunId) -> Opener {
    Opener::derive(labels::INDEX_RUN, &[index_key.expose(), index_id, &number.to_le_bytes(), id])
}

/// The nonce of the block at an offset.
pub(super) fn nonce(offset: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    if let Some(front) = nonce.first_chunk_mut() {
        *front = offset.to_le_bytes();
    }
    nonce
}

/// The associated data of the footer: it seals the file's length.
pub(super) fn footer_aad(file_len: u64) -> [u8; 9] {
    let mut aad = [0; 9];
    if let Some((kind, len)) = aad.split_first_mut() {
        *kind = 4;
        len.copy_from_slice(&file_len.to_le_bytes());
    }
    aad
}

/// What the footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub root: Child,
    /// Levels of inner blocks above the leaves.
    pub depth: u8,
    pub entries: u64,
    pub bloom_offset: u64,
    pub bloom_pages: u32,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        out.extend_from_slice(&self.root.offset.to_le_bytes());
        out.extend_from_slice(&self.root.len.to_le_bytes());
        out.push(self.depth);
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.bloom_offset.to_le_bytes());
        out.extend_from_slice(&self.bloom_pages.to_le_bytes());
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let root = Child { offset: reader.u64()?, len: reader.u32()? };
        let [depth] = reader.take()?;
        let footer =
            Self { root, depth, entries: reader.u64()?, bloom_offset: reader.u64()?, bloom_pages: reader.u32()? };
        (reader.0.is_empty() && depth <= DEPTH_MAX && footer.bloom_pages > 0).then_some(footer)
    }
}

/// The trailer in the clear.
pub(super) fn trailer(id: &RunId, footer: Child) -> Vec<u8> {
    let mut out = Vec::with_capacity(TRAILER_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(id);
    out.extend_from_slice(&footer.offset.to_le_bytes());
    out.extend_from_slice(&footer.len.to_le_bytes());
    out
}

fn parse_trailer(bytes: &[u8]) -> Option<(RunId, Child)> {
    let mut reader = Reader(bytes);
    let known = reader.take()? == MAGIC && reader.u16()? == VERSION && reader.u16()? == 0;
    let id = reader.take()?;
    let child = Child { offset: reader.u64()?, len: reader.u32()? };
    known.then_some((id, child))
}

/// An open run.
pub(super) struct Run {
    number: u64,
    file: Box<dyn MediumFile>,
    opener: Opener,
    bytes: u64,
    footer: Footer,
    cache: Arc<Cache>,
}

impl Run {
    pub(super) fn from_parts(
        number: u64,
        (file, opener): (Box<dyn MediumFile>, Opener),
        bytes: u64,
        footer: Footer,
        cache: Arc<Cache>,
    ) -> Self {
        Self { number, file, opener, bytes, footer, cache }
    }

    /// Opens a run that a manifest names: reads its last block, nothing more.
    pub(super) fn open(
        medium: &dyn Medium,
        path: &Path,
        key: &Key,
        manifest: &Manifest,
        note: &RunNote,
        cache: &Arc<Cache>,
    ) -> Result<Self, IndexError> {
        let file = medium.open(path, OpenMode::Read).map_err(|error| match error {
            error if error.is_not_found() => RebuildReason::RunMissing.into(),
            error => IndexError::Store(error),
        })?;
        let bytes = file.len()?;
        if bytes != note.bytes {
            return Err(RebuildReason::Damaged.into());
        }
        // The footer's length never varies: one read brings both.
        let tail = FOOTER_LEN + TAG_LEN + TRAILER_LEN;
        let start = bytes.checked_sub(tail as u64).ok_or(RebuildReason::Damaged)?;
        let mut buffer = vec![0; tail];
        let got = file.read_at(start, &mut buffer)?;
        let (sealed, end) = buffer.split_at_checked(FOOTER_LEN + TAG_LEN).ok_or(RebuildReason::Damaged)?;
        let (id, place) = parse_trailer(end).ok_or(RebuildReason::Damaged)?;
        let opener = opener(key, &manifest.index_id, note.number, &id);
        if got != tail || place.offset != start || place.len as usize != sealed.len() {
            return Err(RebuildReason::Damaged.into());
        }
        let plain = open_block(&opener, start, &footer_aad(bytes), sealed.to_vec())?;
        let footer = Footer::parse(&plain).ok_or(RebuildReason::Damaged)?;
        Ok(Self { number: note.number, file, opener, bytes, footer, cache: Arc::clone(cache) })
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn entries(&self) -> u64 {
        self.footer.entries
    }

    pub(super) const fn root(&self) -> Child {
        self.footer.root
    }

    pub(super) const fn depth(&self) -> u8 {
        self.footer.depth
    }

    /// Reads and opens a block; `keep` says whether it is worth remembering.
    pub(super) fn block(&self, kind: BlockKind, child: Child, keep: bool) -> Result<Arc<[u8]>, IndexError> {
        let place = (self.number, child.offset);
        if let Some(block) = self.cache.get(place) {
            return Ok(block);
        }
        if child.len > BLOCK_MAX || u64::from(child.len) > self.bytes {
            return Err(RebuildReason::Damaged.into());
        }
        let mut sealed = vec![0; child.len as usize];
        let got = self.file.read_at(child.offset, &mut sealed).map_err(|error: StoreError| IndexError::Store(error))?;
        if got != sealed.len() {
            return Err(RebuildReason::Damaged.into());
        }
        let block: Arc<[u8]> = open_block(&self.opener, child.offset, &[kind as u8], sealed)?.into();
        if keep {
            self.cache.insert(place, Arc::clone(&block));
        }
        Ok(block)
    }

    /// Opens every page of the filter.
    pub(super) fn check_blooms(&self) -> Result<(), IndexError> {
        (0..self.footer.bloom_pages).try_for_each(|page| self.bloom_page(page, false).map(|_| ()))
    }

    fn may_hold(&self, hash: KeyHash) -> Result<bool, IndexError> {
        let page = self.bloom_page(bloom::page_of(hash, self.footer.bloom_pages), true)?;
        Ok(bloom::may_hold(&page, hash))
    }

    fn bloom_page(&self, page: u32, keep: bool) -> Result<Arc<[u8]>, IndexError> {
        let sealed = PAGE_BYTES + TAG_LEN;
        let offset = self.footer.bloom_offset + u64::from(page) * sealed as u64;
        let len = u32::try_from(sealed).unwrap_or(u32::MAX);
        self.block(BlockKind::Bloom, Child { offset, len }, keep)
    }

    /// The value under a key: nothing where the run does not know the key, `Some(None)` where it was
    /// removed.
    pub(super) fn get(&self, key: &[u8], hash: KeyHash) -> Result<Option<Option<Vec<u8>>>, IndexError> {
        if !self.may_hold(hash)? {
            return Ok(None);
        }
        let leaf = self.leaf_for(key)?;
        Ok(find(&leaf, key).ok_or(RebuildReason::Damaged)?)
    }

    fn leaf_for(&self, key: &[u8]) -> Result<Arc<[u8]>, IndexError> {
        let mut child = self.footer.root;
        for _ in 0..self.footer.depth {
            let block = self.block(BlockKind::Inner, child, true)?;
            let at = child_for(&block, key).ok_or(RebuildReason::Damaged)?;
            (_, child) = block::child_entry(&block, at).ok_or(RebuildReason::Damaged)?;
        }
        self.block(BlockKind::Leaf, child, true)
    }
}

/// Which child of an inner block covers a key.
pub(super) fn child_for(block: &[u8], key: &[u8]) -> Option<usize> {
    let not_after = block::partition(block::count(block)?, |at| Some(block::child_entry(block, at)?.0 <= key))?;
    Some(not_after.saturating_sub(1))
}

/// The first entry of a leaf at or after a key.
pub(super) fn first_from(block: &[u8], key: &[u8]) -> Option<usize> {
    block::partition(block::count(block)?, |at| Some(block::leaf_entry(block, at)?.0 < key))
}

fn find(leaf: &[u8], key: &[u8]) -> Option<Option<Option<Vec<u8>>>> {
    let at = first_from(leaf, key)?;
    if at == block::count(leaf)? {
        return Some(None);
    }
    let (found, value) = block::leaf_entry(leaf, at)?;
    Some((found == key).then(|| value.map(<[u8]>::to_vec)))
}

fn open_block(opener: &Opener, offset: u64, aad: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, IndexError> {
    let tag = *sealed.last_chunk().ok_or(RebuildReason::Damaged)?;
    sealed.truncate(sealed.len() - TAG_LEN);
    opener.open_uncommitted(&nonce(offset), aad, &mut sealed, &tag).map_err(|_| RebuildReason::Damaged)?;
    Ok(sealed)
}
