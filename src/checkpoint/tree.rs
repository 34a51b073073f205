//! The Merkle tree over the log: RFC 6962 (RFC 9162, section 2.1) with SHA-256.
//!
//! The leaf of event n is its 32-byte frame hash. The tree adds nothing to what the chain proves about a
//! whole log; it makes short proofs: that one event stands in a log of which only a checkpoint is known,
//! and that one checkpoint continues another. Nothing is kept but the frontier, the roots of the perfect
//! subtrees of a prefix; whoever needs a proof reads the leaves once.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::crypto::Hash;

/// The hash of a leaf.
#[must_use]
pub fn leaf(frame_hash: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(frame_hash.0).finalize().into())
}

/// The hash of an inner node.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The largest power of two below `size`, which is at least 2.
const fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// What must be kept of a prefix to go on: the roots of its perfect subtrees, the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a prefix of `size` leaves, as it was kept: one node for each bit of the size.
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Self> {
        (u32::try_from(nodes.len()) == Ok(size.count_ones())).then_some(Self { size, nodes })
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The nodes, the largest subtree's first.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Adds the next leaf, given as [`leaf`] made it.
    pub fn push(&mut self, leaf: Hash) {
        let mut carried = leaf;
        // As in adding one: each low bit that is set is a subtree of the same height.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                carried = node(&left, &carried);
            }
        }
        self.nodes.push(carried);
        self.size += 1;
    }

    /// The root over the leaves so far; the hash of nothing over none.
    #[must_use]
    pub fn root(&self) -> Hash {
        let folded = self.nodes.iter().rev().copied().reduce(|right, left| node(&left, &right));
        folded.unwrap_or_else(|| Hash(Sha256::digest([]).into()))
    }
}

/// The ranges of leaves whose roots, in this order, prove that leaf `index` stands in a tree of `size` leaves.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            ranges.push(middle..to);
            to = middle;
        } else {
            ranges.push(from..middle);
            from = middle;
        }
    }
    ranges.reverse();
    Some(ranges)
}

/// The ranges of leaves whose roots, in this order, prove that a tree of `size` leaves continues one of
/// `before`. None are needed where they are equal.
#[must_use]
pub fn consistency_ranges(before: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if before == 0 || before > size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to != before {
        let middle = from + split(to - from);
        if before <= middle {
            ranges.push(middle..to);
            to = middle;
        } else {
            ranges.push(from..middle);
            from = middle;
        }
    }
    // The verifier has the smaller tree's root already where that is a whole subtree.
    if from > 0 {
        ranges.push(from..to);
    }
    ranges.reverse();
    Some(ranges)
}

/// Computes the roots of disjoint ranges in one pass over the leaves.
#[derive(Debug, Clone)]
pub struct RangeRoots {
    ranges: Vec<(Range<u64>, Frontier)>,
}

impl RangeRoots {
    /// For these ranges.
    #[must_use]
    pub fn new(ranges: Vec<Range<u64>>) -> Self {
        Self { ranges: ranges.into_iter().map(|range| (range, Frontier::default())).collect() }
    }

    /// Takes the next leaf, given as [`leaf`] made it; leaves come in order, and those of no range may be left out.
    pub fn push(&mut self, index: u64, leaf: Hash) {
        if let Some((_, frontier)) = self.ranges.iter_mut().find(|(range, _)| range.contains(&index)) {
            frontier.push(leaf);
        }
    }

    /// The roots, in the order of the ranges; nothing where a leaf is missing.
    #[must_use]
    pub fn finish(self) -> Option<Vec<Hash>> {
        let whole = |(range, frontier): (Range<u64>, Frontier)| {
            (frontier.size() == range.end - range.start).then(|| frontier.root())
        };
        self.ranges.into_iter().map(whole).collect()
    }
}

/// Whether a proof shows that `leaf` is leaf `index` of the tree of `size` leaves with this root
/// (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    let Some(ranges) = inclusion_ranges(index, size) else { return false };
    if ranges.len() != proof.len() {
        return false;
    }
    let folded = ranges.iter().zip(proof).fold(*leaf, |inner, (range, outer)| {
        if range.start > index { node(&inner, outer) } else { node(outer, &inner) }
    });
    folded == *root
}

/// Whether a proof shows that the tree of `size` leaves with `root` continues the tree of `before` leaves
/// with `before_root` (RFC 9162, section 2.1.4.2).
#[must_use]
pub fn verify_consistency(before: u64, before_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    let Some(ranges) = consistency_ranges(before, size) else { return false };
    if ranges.len() != proof.len() {
        return false;
    }
    // Where the smaller tree is one whole subtree of the larger, its root begins both folds.
    let whole = ranges.first().is_none_or(|range| range.start >= before);
    let (first, rest) = match proof.split_first() {
        Some((first, rest)) if !whole => (*first, rest),
        _ => (*before_root, proof),
    };
    let rest_ranges = ranges.iter().skip(usize::from(!whole));
    let (mut old, mut new) = (first, first);
    for (range, hash) in rest_ranges.zip(rest) {
        if range.start >= before {
            new = node(&new, hash);
        } else {
            old = node(hash, &old);
            new = node(hash, &new);
        }
    }
    old == *before_root && new == *root
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
