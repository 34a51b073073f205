//! Whether a ledger is the one that a checkpoint was made of, and the files that hold several notes.

use serde::{Deserialize, Serialize};

use crate::base::limits::{ANCHOR_NOTES_KEPT, NOTE_BYTES_MAX};
use crate::crypto::Hash;

use super::signed::Checkpoint;

/// How a ledger stands to a checkpoint that somebody kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The ledger holds what the checkpoint covers.
    Holds,
    /// The ledger ends before the checkpoint: its end was cut off, or an older copy was put back.
    Lost {
        /// First event that is missing.
        first: u64,
        /// Last event that is known to be missing.
        last: u64,
    },
    /// The ledger holds another event where the checkpoint ends: it was rewritten, or went on twice from one state.
    Forked,
    /// The checkpoint is of a branch that the ledger has not: a copy from before that branch was put back.
    OtherBranch,
    /// The checkpoint is of a branch that was given up on purpose; the ledger says so.
    Superseded {
        /// First event of the branch that took its place.
        since: u64,
    },
}

/// A branch of history: its number, and its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Branch {
    /// Its number; numbers rise, and some may be left out.
    pub number: u32,
    /// Its first event.
    pub from: u64,
}

/// A checkpoint that was known when a branch began behind the place where histories part, so that its size alone
/// does not show that it was given up (stored in the state under key `09`, size (8, big-endian), head (32)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Events that it covers.
    pub size: u64,
    /// Hash of the last of them.
    pub head: Hash,
    /// Its branch.
    pub branch: u32,
    /// First event of the branch that gave it up.
    pub since: u64,
}

impl Fit {
    /// Takes a checkpoint that was given up with open eyes for what it is.
    #[must_use]
    pub fn settled(self, checkpoint: &Checkpoint, settled: &[Settled]) -> Self {
        let of_it =
            |one: &&Settled| (one.size, one.head, one.branch) == (checkpoint.size, checkpoint.head, checkpoint.branch);
        match (self, settled.iter().find(of_it)) {
            (Self::Lost { .. } | Self::Forked | Self::OtherBranch, Some(one)) => Self::Superseded { since: one.since },
            (other, _) => other,
        }
    }
}

/// Compares a checkpoint with a ledger of `events` events and these branches, the oldest first. `head` gives the
/// hash of an event that the ledger holds; the chain ties it to all before.
pub fn fit(checkpoint: &Checkpoint, events: u64, branches: &[Branch], head: impl FnOnce(u64) -> Option<Hash>) -> Fit {
    let (ends, known) = (checkpoint.size - 1, checkpoint.size <= events);
    if known && head(ends) == Some(checkpoint.head) {
        return Fit::Holds;
    }
    // Of a given-up branch only what lies before the first later branch is still here.
    let later = branches.iter().filter(|branch| branch.number > checkpoint.branch).map(|branch| branch.from);
    if let Some(since) = later.min().filter(|since| checkpoint.size > *since) {
        return Fit::Superseded { since };
    }
    if branches.iter().all(|branch| branch.number < checkpoint.branch) && checkpoint.branch > 0 {
        return Fit::OtherBranch;
    }
    if known { Fit::Forked } else { Fit::Lost { first: events, last: ends } }
}

/// Splits a file of notes, each followed by an empty line, and counts the bytes of a torn end. Nothing is
/// said about what the notes hold.
#[must_use]
pub fn split_notes(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut notes = Vec::new();
    let mut rest = bytes;
    // A note has one empty line within and one behind it.
    while let Some(text) = empty_line(rest)
        && let Some(signatures) = rest.get(text + 2..).and_then(empty_line)
        && let Some((note, behind)) = rest.split_at_checked(text + 2 + signatures + 1)
    {
        notes.push(note);
        rest = behind.get(1..).unwrap_or_default();
    }
    (notes, rest.len())
}

fn empty_line(bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.get(..NOTE_BYTES_MAX + 2).unwrap_or(bytes);
    bytes.windows(2).position(|two| two == b"\n\n")
}

/// The bytes of an anchor that held some notes and is given another: the last ones stay.
#[must_use]
pub fn keep(held: &[&[u8]], note: &str) -> Vec<u8> {
    let from = held.len().saturating_sub(ANCHOR_NOTES_KEPT - 1);
    let mut bytes = Vec::new();
    for one in held.get(from..).unwrap_or_default().iter().chain([&note.as_bytes()]) {
        bytes.extend_from_slice(one);
        bytes.push(b'\n');
    }
    bytes
}
