//! Anchors: what somebody else kept about a log, compared with what is there.
//!
//! An anchor is a checkpoint kept out of reach of whoever can write the log: it names the log's size and the
//! root of the Merkle tree (RFC 6962, section 2.1) over the hashes of all its frames. A log that is shorter
//! was cut off or rolled back; one with another root holds another history.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::base::{LedgerId, limits};
use crate::crypto::Hash;

use super::{Finding, FindingCode, Report};

/// First part of a checkpoint's origin line; the ledger id follows.
const ORIGIN: &str = "palyra-ledger/";

/// Why bytes are no anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// The file is longer than any checkpoint.
    #[error("it is longer than any checkpoint")]
    TooLong,
    /// It is no text.
    #[error("it is not the text of a checkpoint")]
    Text,
    /// The origin line names no ledger.
    #[error("its first line names no ledger of this program")]
    Origin,
    /// The size line is no number.
    #[error("its second line is no size")]
    Size,
    /// The root line is no root.
    #[error("its third line is no root of a tree")]
    Root,
    /// No signature line follows.
    #[error("it carries no signature")]
    Unsigned,
}

/// A checkpoint that was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anchor {
    /// What the examiner called it: a file name.
    pub source: String,
    /// The ledger.
    pub ledger_id: LedgerId,
    /// How many events the log had.
    pub size: u64,
    /// Root of the tree over their hashes.
    pub root: Hash,
}

impl Anchor {
    /// Reads the text of a checkpoint (C2SP tlog-checkpoint): origin, size, root, what may follow, and after an
    /// empty line its signatures. The examiner vouches for where it was kept.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self, AnchorError> {
        if bytes.len() > limits::CHECKPOINT_NOTE_MAX {
            return Err(AnchorError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| AnchorError::Text)?;
        let (body, signatures) = text.split_once("\n\n").ok_or(AnchorError::Unsigned)?;
        let mut lines = body.lines();
        let origin = lines.next().ok_or(AnchorError::Origin)?;
        let ledger_id =
            origin.strip_prefix(ORIGIN).and_then(|id| id.parse().ok()).ok_or(AnchorError::Origin)?;
        let size = lines.next().ok_or(AnchorError::Size)?;
        let canonical = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
        let size = size.parse().ok().filter(|_| canonical).ok_or(AnchorError::Size)?;
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok()).ok_or(AnchorError::Root)?;
        let root = Hash(root.try_into().map_err(|_| AnchorError::Root)?);
        if !signatures.starts_with('\u{2014}') {
            return Err(AnchorError::Unsigned);
        }
        Ok(Self { source: source.to_owned(), ledger_id, size, root })
    }
}

/// The Merkle tree over the hashes of a log's frames, as it grows: one root per whole subtree is kept.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Roots of whole subtrees, the largest first, with their heights.
    stack: Vec<(u32, [u8; 32])>,
    size: u64,
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

impl Tree {
    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds the hash of the next frame.
    pub fn push(&mut self, hash: &Hash) {
        let mut carried: (u32, [u8; 32]) = (0, Sha256::new().chain_update([0]).chain_update(hash.0).finalize().into());
        while let Some((height, left)) = self.stack.pop() {
            if height != carried.0 {
                self.stack.push((height, left));
                break;
            }
            carried = (height + 1, node(&left, &carried.1));
        }
        self.stack.push(carried);
        self.size += 1;
    }

    /// The root of everything added.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut rest = self.stack.iter().rev().map(|(_, root)| *root);
        let Some(mut root) = rest.next() else { return Hash(Sha256::digest([]).into()) };
        for left in rest {
            root = node(&left, &root);
        }
        Hash(root)
    }
}

/// What anchors say about a log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Coverage {
    /// Events below this are vouched for.
    pub anchored_events: u64,
    /// Whether nothing but records of checkpoints stands behind them.
    pub covers_all: bool,
    /// The range of events that no anchor vouches for, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanchored: Option<(u64, u64)>,
}

/// Compares anchors with what a walk found: the roots at their sizes, and the number of the last event
/// that is no record of a checkpoint.
pub(super) fn compare(
    report: &mut Report,
    anchors: &[Anchor],
    roots: &std::collections::BTreeMap<u64, Hash>,
    last_plain: Option<u64>,
) -> Coverage {
    let end = report.head.map_or(0, |head| head.seq + 1);
    let mut coverage = Coverage::default();
    for anchor in anchors {
        let Anchor { source, size, .. } = anchor;
        if report.ledger_id.is_some_and(|id| id != anchor.ledger_id) {
            let what = format!("anchor {source} belongs to ledger {}", anchor.ledger_id);
            report.push(Finding::new(FindingCode::AnchorForeign, None, what));
        } else if *size > end {
            let what = format!("the log ends before event {end}, but anchor {source} knows {size} events");
            let beyond = Finding::new(FindingCode::AnchorBeyond, Some(end), what);
            report.push(Finding { through: Some(size - 1).filter(|through| *through > end), ..beyond });
        } else if let Some(root) = roots.get(size) {
            if *root == anchor.root {
                coverage.anchored_events = coverage.anchored_events.max(*size);
            } else {
                let what = format!("the first {size} events are not those that anchor {source} names: another history");
                let differs = Finding::new(FindingCode::AnchorDiffers, size.checked_sub(1), what);
                report.push(differs);
            }
        }
    }
    let covered = coverage.anchored_events;
    coverage.covers_all = covered > 0 && last_plain.is_none_or(|last| last < covered);
    coverage.unanchored = (covered < end).then(|| (covered, end - 1));
    coverage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_root(leaves: &[Hash]) -> [u8; 32] {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => Sha256::new().chain_update([0]).chain_update(one.0).finalize().into(),
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node(&split_root(&leaves[..half]), &split_root(&leaves[half..]))
            }
        }
    }

    #[test]
    fn the_growing_tree_has_the_root_that_rfc_6962_defines() {
        let leaves: Vec<Hash> = (0..70_u8).map(|byte| Hash([byte; 32])).collect();
        let mut tree = Tree::default();
        for end in 0..leaves.len() {
            assert_eq!(tree.root().0, split_root(&leaves[..end]), "{end}");
            tree.push(&leaves[end]);
        }
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Tree::default().root().to_string(), empty);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let id = "000102030405060708090a0b0c0d0e0f";
        let root = STANDARD.encode([7; 32]);
        let good = format!("palyra-ledger/{id}\n12\n{root}\nhead x\n\n\u{2014} name sig\n");
        let anchor = Anchor::parse("a", good.as_bytes()).unwrap();
        assert_eq!((anchor.size, anchor.root, anchor.ledger_id.to_string().as_str()), (12, Hash([7; 32]), id));
        for (bad, error) in [
            (good.replace("palyra", "other"), AnchorError::Origin),
            (good.replace("\n12\n", "\n012\n"), AnchorError::Size),
            (good.replace("\n12\n", "\n-1\n"), AnchorError::Size),
            (good.replace(&root, &root[2..]), AnchorError::Root),
            (good.replace("\n\n", "\n"), AnchorError::Unsigned),
            (good.replace('\u{2014}', "-"), AnchorError::Unsigned),
            (good.repeat(2000), AnchorError::TooLong),
        ] {
            assert_eq!(Anchor::parse("a", bad.as_bytes()), Err(error), "{bad}");
        }
    }
}
