//! Making a bundle: one pass over the log, in which the proofs of all chosen events grow together.

use crate::base::LedgerId;
use crate::checkpoint::SignedCheckpoint;
use crate::checkpoint::tree::{RangeRoots, consistency_ranges, leaf, node};
use crate::crypto::{Hash, MessageKey};
use crate::log::Frame;

use super::{Bundle, Record};
use crate::base::limits::{BUNDLE_BYTES_MAX, BUNDLE_RECORDS_MAX};

/// Why no bundle was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Nothing was chosen.
    #[error("no whole event of this log was chosen")]
    Nothing,
    /// More was chosen than a bundle holds.
    #[error("more was chosen than a bundle holds: {BUNDLE_RECORDS_MAX} events or {BUNDLE_BYTES_MAX} bytes")]
    TooMuch,
    /// A checkpoint belongs to another ledger.
    #[error("the checkpoint belongs to ledger {ledger_id}")]
    OtherLedger {
        /// The ledger it belongs to.
        ledger_id: LedgerId,
    },
    /// The log has not all events that a checkpoint covers.
    #[error("the log is whole only up to event {events}, and the checkpoint covers {size}")]
    Short {
        /// Events that are whole, from 0.
        events: u64,
        /// Events that the checkpoint covers.
        size: u64,
    },
    /// The log is another than the one that was signed.
    #[error("the first {size} events are not those that the checkpoint was signed over")]
    OtherRoot {
        /// Events that the checkpoint covers.
        size: u64,
    },
    /// The second checkpoint does not come after the first.
    #[error("the newer checkpoint covers no more events than the first")]
    NotNewer,
}

/// A whole subtree on the way, and the chosen events in it.
#[derive(Debug)]
struct Subtree {
    leaves: u64,
    root: Hash,
    chosen: Vec<usize>,
}

/// Gathers chosen events and what proves their place.
#[derive(Debug)]
pub struct Builder {
    checkpoint: Option<SignedCheckpoint>,
    newer: Option<(SignedCheckpoint, RangeRoots)>,
    ledger_id: Option<LedgerId>,
    /// The next number in an unbroken log.
    next: u64,
    /// Subtrees of the events that the checkpoint covers, the largest first.
    stack: Vec<Subtree>,
    records: Vec<Record>,
    /// Number of the last chosen event.
    last: Option<u64>,
    bytes: usize,
    too_much: bool,
    /// Something chosen lies behind damage, and the way to it is broken.
    broken: bool,
    /// Root over everything that the newer checkpoint covers.
    whole: crate::checkpoint::Frontier,
}

impl Builder {
    /// For a bundle under this checkpoint, and a newer one that continues it.
    ///
    /// # Errors
    /// [`BuildError::NotNewer`] or [`BuildError::OtherLedger`].
    pub fn new(checkpoint: Option<SignedCheckpoint>, newer: Option<SignedCheckpoint>) -> Result<Self, BuildError> {
        let newer = match (&checkpoint, newer) {
            (_, None) => None,
            (None, Some(_)) => return Err(BuildError::NotNewer),
            (Some(first), Some(newer)) => {
                let (before, size) = (first.checkpoint().size, newer.checkpoint().size);
                if newer.checkpoint().ledger_id != first.checkpoint().ledger_id {
                    return Err(BuildError::OtherLedger { ledger_id: newer.checkpoint().ledger_id });
                }
                let ranges = consistency_ranges(before, size).filter(|_| before < size).ok_or(BuildError::NotNewer)?;
                Some((newer, RangeRoots::new(ranges)))
            }
        };
        Ok(Self {
            checkpoint,
            newer,
            ledger_id: None,
            next: 0,
            stack: Vec::new(),
            records: Vec::new(),
            last: None,
            bytes: 0,
            too_much: false,
            broken: false,
            whole: crate::checkpoint::Frontier::default(),
        })
    }

    /// Events that the first checkpoint covers.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size)
    }

    /// Shows the builder the next event of the log; `chosen` goes into the bundle, with `key` if it is given away.
    pub fn push(&mut self, frame: &Frame<'_>, chosen: bool, key: Option<MessageKey>) {
        let seq = frame.header.seq;
        self.ledger_id.get_or_insert(frame.header.ledger_id);
        let in_place = seq == self.next;
        let in_order = self.last.is_none_or(|last| seq > last);
        let mut own = None;
        // Behind the checkpoint an event needs no unbroken way; before it, nothing else can be proven.
        if chosen && in_order && (in_place || seq >= self.covered()) {
            own = self.choose(frame, key);
        } else if chosen && in_order {
            self.broken = true;
        }
        if !in_place {
            return;
        }
        self.next += 1;
        let leaf = leaf(&frame.hash);
        if seq < self.covered() {
            self.grow(Subtree { leaves: 1, root: leaf, chosen: own.into_iter().collect() });
        }
        if let Some((newer, roots)) = &mut self.newer
            && seq < newer.checkpoint().size
        {
            roots.push(seq, leaf);
            self.whole.push(leaf);
        }
    }

    fn choose(&mut self, frame: &Frame<'_>, key: Option<MessageKey>) -> Option<usize> {
        let bytes = frame.bytes();
        self.bytes += bytes.len();
        if self.records.len() as u64 >= u64::from(BUNDLE_RECORDS_MAX) || self.bytes > BUNDLE_BYTES_MAX / 2 {
            self.too_much = true;
            return None;
        }
        self.last = Some(frame.header.seq);
        let proof = (frame.header.seq < self.covered()).then(Vec::new);
        self.records.push(Record { frame: bytes.to_vec(), proof, key });
        Some(self.records.len() - 1)
    }

    /// Joins equal subtrees, as in adding one to a number.
    fn grow(&mut self, mut new: Subtree) {
        while let Some(left) = self.stack.pop() {
            if left.leaves != new.leaves {
                self.stack.push(left);
                break;
            }
            new = self.join(left, new);
        }
        self.stack.push(new);
    }

    /// Each half is the next step of the proofs in the other.
    fn join(&mut self, left: Subtree, right: Subtree) -> Subtree {
        for (chosen, sibling) in [(&left.chosen, right.root), (&right.chosen, left.root)] {
            for index in chosen {
                if let Some(proof) = self.records.get_mut(*index).and_then(|record| record.proof.as_mut()) {
                    proof.push(sibling);
                }
            }
        }
        let mut chosen = left.chosen;
        chosen.extend(right.chosen);
        Subtree { leaves: left.leaves + right.leaves, root: node(&left.root, &right.root), chosen }
    }

    /// The bundle.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn finish(mut self, tool: &str, selection: &str) -> Result<Bundle, BuildError> {
        let ledger_id = self.ledger_id.filter(|_| !self.records.is_empty());
        if self.too_much {
            return Err(BuildError::TooMuch);
        }
        if self.broken {
            return Err(BuildError::Short { events: self.next, size: self.covered() });
        }
        let ledger_id = ledger_id.ok_or(BuildError::Nothing)?;
        if let Some(signed) = self.checkpoint.take() {
            let checkpoint = signed.checkpoint();
            if checkpoint.ledger_id != ledger_id {
                return Err(BuildError::OtherLedger { ledger_id: checkpoint.ledger_id });
            }
            let mut root = None;
            while let Some(right) = self.stack.pop() {
                let Some(left) = self.stack.pop() else {
                    root = Some(right.root);
                    break;
                };
                let joined = self.join(left, right);
                self.stack.push(joined);
            }
            let size = checkpoint.size;
            check(self.next, size, root == Some(checkpoint.root))?;
            self.checkpoint = Some(signed);
        }
        let newer = match self.newer {
            None => None,
            Some((signed, roots)) => {
                let size = signed.checkpoint().size;
                check(self.next, size, self.whole.root() == signed.checkpoint().root)?;
                Some((signed, roots.finish().ok_or(BuildError::Short { events: self.next, size })?))
            }
        };
        let (tool, selection) = (tool.to_owned(), selection.to_owned());
        Ok(Bundle { ledger_id, tool, selection, checkpoint: self.checkpoint, newer, records: self.records })
    }
}

const fn check(events: u64, size: u64, same: bool) -> Result<(), BuildError> {
    if events < size {
        return Err(BuildError::Short { events, size });
    }
    if same { Ok(()) } else { Err(BuildError::OtherRoot { size }) }
}
