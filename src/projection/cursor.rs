//! Walks the entries of one run in order.

use std::sync::Arc;

use super::block::{self, Child};
use super::error::{IndexError, RebuildReason};
use super::run::{BlockKind, Run, child_for, first_from};

/// A place in a run; always on an entry or at the end.
pub(super) struct Cursor {
    run: Arc<Run>,
    /// Inner blocks from the root down, each with the child that is being walked.
    path: Vec<(Arc<[u8]>, usize)>,
    leaf: Option<(Arc<[u8]>, usize)>,
}

impl Cursor {
    /// A cursor on the first entry at or after a key.
    pub(super) fn seek(run: &Arc<Run>, from: &[u8]) -> Result<Self, IndexError> {
        let mut cursor = Self { run: Arc::clone(run), path: Vec::new(), leaf: None };
        let mut child = run.root();
        for _ in 0..run.depth() {
            let block = run.block(BlockKind::Inner, child, true)?;
            let at = child_for(&block, from).ok_or(RebuildReason::Damaged)?;
            (_, child) = block::child_entry(&block, at).ok_or(RebuildReason::Damaged)?;
            cursor.path.push((block, at));
        }
        let leaf = run.block(BlockKind::Leaf, child, false)?;
        let at = first_from(&leaf, from).ok_or(RebuildReason::Damaged)?;
        cursor.leaf = Some((leaf, at));
        cursor.settle()?;
        Ok(cursor)
    }

    /// The entry.
    pub(super) fn entry(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let (leaf, at) = self.leaf.as_ref()?;
        block::leaf_entry(leaf, *at)
    }

    /// Moves to the next entry.
    pub(super) fn advance(&mut self) -> Result<(), IndexError> {
        if let Some((_, at)) = &mut self.leaf {
            *at += 1;
        }
        self.settle()
    }

    /// Moves from the end of a leaf to the next leaf.
    fn settle(&mut self) -> Result<(), IndexError> {
        while let Some((leaf, at)) = &self.leaf {
            if *at < block::count(leaf).ok_or(RebuildReason::Damaged)? {
                block::leaf_entry(leaf, *at).ok_or(RebuildReason::Damaged)?;
                return Ok(());
            }
            self.leaf = match self.next_leaf()? {
                Some(child) => Some((self.run.block(BlockKind::Leaf, child, false)?, 0)),
                None => None,
            };
        }
        Ok(())
    }

    fn next_leaf(&mut self) -> Result<Option<Child>, IndexError> {
        while let Some((block, at)) = self.path.last_mut() {
            *at += 1;
            if *at >= block::count(block).ok_or(RebuildReason::Damaged)? {
                self.path.pop();
                continue;
            }
            let (_, mut child) = block::child_entry(block, *at).ok_or(RebuildReason::Damaged)?;
            while self.path.len() < usize::from(self.run.depth()) {
                let block = self.run.block(BlockKind::Inner, child, true)?;
                (_, child) = block::child_entry(&block, 0).ok_or(RebuildReason::Damaged)?;
                self.path.push((block, 0));
            }
            return Ok(Some(child));
        }
        Ok(None)
    }
}
