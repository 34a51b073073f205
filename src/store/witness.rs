//! The second copy of the log, as the engine sees it.
//!
//! The journal is the authority; a witness follows it and can rebuild it. A witness is never
//! trusted alone: [`check_tail`] compares it with the journal before anything relies on it, and
//! after any failure it is dead until it is opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoreError;

/// Sequence numbers that [`check_tail`] compares beside the tail, spread over the whole log.
pub const SPREAD_SAMPLES: u64 = 16;

/// What a witness was about to do, for an error a person can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WitnessOp {
    /// Opening or recovering the copy.
    Open,
    /// Making a new copy.
    Create,
    /// Reading frames.
    Read,
    /// Adding frames.
    Append,
    /// Making what was added durable.
    Flush,
    /// Closing.
    Close,
}

impl fmt::Display for WitnessOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Append => "append",
            Self::Flush => "flush",
            Self::Close => "close",
        })
    }
}

/// How a witness contradicts what was written to it, or a caller what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// The tree of frames is not there, although every copy is made with it: its root was lost.
    #[error("the tree of frames is lost")]
    NoTree,
    /// A part of the copy that is always there is missing or too short.
    #[error("the file {name} is missing or torn")]
    FileMissing {
        /// Name of the file.
        name: &'static str,
    },
    /// Something that is neither a regular file nor a folder lies in the copy.
    #[error("it holds something that is neither a file nor a folder")]
    StrangeFile,
    /// A key is not a sequence number and a part.
    #[error("a key is malformed")]
    Key,
    /// A value does not parse.
    #[error("the value at frame {seq} is malformed")]
    Value {
        /// Sequence number in its key.
        seq: u64,
    },
    /// A value has a format that this version does not know.
    #[error("the value at frame {seq} has the unknown format {format}")]
    Format {
        /// Sequence number in its key.
        seq: u64,
        /// The format byte.
        format: u8,
    },
    /// Frames are missing or come twice.
    #[error("frame {expected} was expected, the copy goes on with frame {found}")]
    Gap {
        /// The next sequence number in order.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// A frame ends early.
    #[error("frame {seq} is not whole")]
    Incomplete {
        /// Its sequence number.
        seq: u64,
    },
    /// The caller's frames do not follow the last one in order.
    #[error("frame {expected} must come next, not frame {given}")]
    NotNext {
        /// The next sequence number in order.
        expected: u64,
        /// The one that the caller gave.
        given: u64,
    },
    /// The caller's frame is empty or larger than any frame may be.
    #[error("frame {seq} has {len} bytes")]
    FrameSize {
        /// Its sequence number.
        seq: u64,
        /// Its length in bytes.
        len: usize,
    },
    /// A place where a new frame belongs was taken.
    #[error("something stands at frame {seq} already")]
    Taken {
        /// The sequence number.
        seq: u64,
    },
    /// A copy that was opened as evidence takes no frames.
    #[error("a copy opened as evidence takes no frames")]
    ReadOnly,
    /// A text cannot be part of a file name.
    #[error("the time text is no file name")]
    Name,
}

/// Why a witness failed. It is dead afterwards: every later call is refused.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The copy could not be opened; it may be damaged.
    #[error("cannot open the second copy of the log at {}: {source}", path.display())]
    Open {
        /// Its folder.
        path: PathBuf,
        /// The engine's own error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process, or a part of this one that has not finished, holds the copy.
    #[error("the second copy of the log at {} is in use", path.display())]
    Locked {
        /// Its folder.
        path: PathBuf,
    },
    /// The engine panicked; the panic went no further.
    #[error("the second copy of the log broke down ({op}): {what}")]
    Panicked {
        /// What was attempted.
        op: WitnessOp,
        /// The beginning of the panic's message.
        what: String,
    },
    /// The engine refused.
    #[error("cannot {op} in the second copy of the log: {source}")]
    Engine {
        /// What was attempted.
        op: WitnessOp,
        /// The engine's own error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The copy contradicts what was written to it.
    #[error("the second copy of the log is not what was written: {0}")]
    Inconsistent(#[from] Inconsistency),
    /// An operation of the file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It failed before.
    #[error("the second copy of the log failed before and takes no more calls until it is opened again")]
    Dead,
}

/// A second copy of the log: frames by sequence number, without gaps.
pub trait Witness: Send {
    /// Sequence number of the last frame, or nothing where the copy is empty.
    ///
    /// # Errors
    /// [`WitnessError::Dead`] after a failure.
    fn last(&self) -> Result<Option<u64>, WitnessError>;

    /// Adds frames that follow [`Witness::last`] in order (any first number where it is empty);
    /// durable after [`Witness::sync`]. A crash before leaves a first part of them.
    ///
    /// # Errors
    /// [`WitnessError`]; the witness is dead then.
    fn append(&mut self, frames: &[(u64, &[u8])]) -> Result<(), WitnessError>;

    /// One frame, or nothing where the copy does not hold it.
    ///
    /// # Errors
    /// [`WitnessError`]; the witness is dead then.
    fn read(&self, seq: u64) -> Result<Option<Vec<u8>>, WitnessError>;

    /// Calls `visit` with every frame from `from` to `to`, both included, in order, until it breaks
    /// or the copy ends; a frame missing in between is an error, not a silence.
    ///
    /// # Errors
    /// [`WitnessError`]; the witness is dead then.
    fn read_range(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), WitnessError>;

    /// Makes everything appended durable. After an error nothing is known: the witness is dead.
    ///
    /// # Errors
    /// [`WitnessError`]; the witness is dead then.
    fn sync(&mut self) -> Result<(), WitnessError>;

    /// Makes everything durable and closes.
    ///
    /// # Errors
    /// [`WitnessError`]; the copy counts as not cleanly closed then.
    fn close(self: Box<Self>) -> Result<(), WitnessError>;
}

/// How a witness compares with the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailCheck {
    /// Both end at the same frame and every compared frame is the same.
    Agree {
        /// Sequence number of the last frame.
        last: u64,
    },
    /// The witness ends earlier; every compared frame that it has is the same.
    Behind {
        /// The witness's last frame, or nothing where it is empty.
        last: Option<u64>,
    },
    /// A compared frame differs, or the journal has it and the witness has lost it.
    Differs {
        /// The lowest such sequence number among those compared.
        first_seq: u64,
    },
    /// The witness goes on behind the journal's end; every compared frame before is the same.
    Ahead {
        /// The witness's last frame.
        last: u64,
    },
}

/// Compares the last `count` frames that both copies should have, and [`SPREAD_SAMPLES`] spread
/// over the rest, with the journal's. `journal` returns a frame by sequence number, or nothing
/// where the journal no longer holds it (archived): that number is passed over.
///
/// # Errors
/// [`WitnessError`] where the witness cannot be read.
pub fn check_tail(
    witness: &dyn Witness,
    journal: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    journal_last: u64,
    count: u64,
) -> Result<TailCheck, WitnessError> {
    let Some(last) = witness.last()? else {
        return Ok(TailCheck::Behind { last: None });
    };
    let common = last.min(journal_last);
    let step = common / SPREAD_SAMPLES;
    let tail = common.saturating_sub(count.saturating_sub(1));
    let spread: BTreeSet<u64> = (0..=SPREAD_SAMPLES).map(|index| index * step).filter(|&seq| seq < tail).collect();
    for seq in spread.into_iter().chain(tail..=common) {
        if let Some(expected) = journal(seq)
            && witness.read(seq)?.as_ref() != Some(&expected)
        {
            return Ok(TailCheck::Differs { first_seq: seq });
        }
    }
    Ok(match last.cmp(&journal_last) {
        std::cmp::Ordering::Equal => TailCheck::Agree { last },
        std::cmp::Ordering::Less => TailCheck::Behind { last: Some(last) },
        std::cmp::Ordering::Greater => TailCheck::Ahead { last },
    })
}

/// A witness in memory, for tests; clones share the frames and outlive [`Witness::close`].
#[derive(Debug, Clone, Default)]
pub struct MemoryWitness {
    shared: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    frames: BTreeMap<u64, Vec<u8>>,
    synced: Option<u64>,
    dead: bool,
}

impl MemoryWitness {
    /// An empty witness.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last frame that a sync covered.
    #[must_use]
    pub fn synced(&self) -> Option<u64> {
        self.memory().synced
    }

    /// Flips the bits of `mask` in the last byte of a frame; false where it is not there.
    pub fn damage(&self, seq: u64, mask: u8) -> bool {
        self.memory().frames.get_mut(&seq).and_then(|frame| frame.last_mut()).map(|byte| *byte ^= mask).is_some()
    }

    /// Forgets every frame from `seq` on, as a crash may.
    pub fn lose_from(&self, seq: u64) {
        let mut memory = self.memory();
        memory.frames.split_off(&seq);
        memory.synced = memory.synced.min(memory.frames.keys().next_back().copied());
    }

    /// From now on every call fails, on all clones.
    pub fn kill(&self) {
        self.memory().dead = true;
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<MutexGuard<'_, Memory>, WitnessError> {
        let memory = self.memory();
        if memory.dead { Err(WitnessError::Dead) } else { Ok(memory) }
    }
}

impl Witness for MemoryWitness {
    fn last(&self) -> Result<Option<u64>, WitnessError> {
        Ok(self.alive()?.frames.keys().next_back().copied())
    }

    fn append(&mut self, frames: &[(u64, &[u8])]) -> Result<(), WitnessError> {
        let mut memory = self.alive()?;
        let next = memory.frames.keys().next_back().map(|last| last + 1);
        if let Err(error) = check_order(next, frames) {
            memory.dead = true;
            return Err(error.into());
        }
        memory.frames.extend(frames.iter().map(|(seq, frame)| (*seq, frame.to_vec())));
        Ok(())
    }

    fn read(&self, seq: u64) -> Result<Option<Vec<u8>>, WitnessError> {
        Ok(self.alive()?.frames.get(&seq).cloned())
    }

    fn read_range(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), WitnessError> {
        if from > to {
            return Ok(());
        }
        let frames: Vec<(u64, Vec<u8>)> =
            self.alive()?.frames.range(from..=to).map(|(seq, frame)| (*seq, frame.clone())).collect();
        for (expected, (found, frame)) in (from..=to).zip(frames) {
            if expected != found {
                self.memory().dead = true;
                return Err(Inconsistency::Gap { expected, found }.into());
            }
            if visit(found, &frame).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WitnessError> {
        let mut memory = self.alive()?;
        memory.synced = memory.frames.keys().next_back().copied();
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<(), WitnessError> {
        self.sync()
    }
}

/// Whether frames follow `next` in order (any first number where it is nothing).
pub(super) fn check_order(next: Option<u64>, frames: &[(u64, &[u8])]) -> Result<(), Inconsistency> {
    let mut expected = next;
    for (given, _) in frames {
        match expected {
            Some(expected) if expected != *given => return Err(Inconsistency::NotNext { expected, given: *given }),
            _ => {}
        }
        // The last number of all is never used, so that "the one behind" always exists.
        expected = Some(given.checked_add(1).ok_or(Inconsistency::NotNext { expected: 0, given: *given })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(count: u64) -> MemoryWitness {
        let mut witness = MemoryWitness::new();
        for seq in 0..count {
            witness.append(&[(seq, &seq.to_le_bytes())]).unwrap();
        }
        witness
    }

    fn check(witness: &MemoryWitness, journal_last: u64, count: u64) -> TailCheck {
        let mut journal = |seq: u64| (seq <= journal_last).then(|| seq.to_le_bytes().to_vec());
        check_tail(witness, &mut journal, journal_last, count).unwrap()
    }

    #[test]
    fn a_tail_check_tells_agreeing_behind_ahead_and_differing_apart() {
        let same = witness(100);
        assert_eq!(check(&same, 99, 10), TailCheck::Agree { last: 99 });
        assert_eq!(check(&same, 120, 10), TailCheck::Behind { last: Some(99) });
        assert_eq!(check(&same, 60, 10), TailCheck::Ahead { last: 99 });
        assert_eq!(check(&witness(0), 0, 10), TailCheck::Behind { last: None });
        same.damage(95, 1);
        same.damage(97, 1);
        assert_eq!(check(&same, 99, 10), TailCheck::Differs { first_seq: 95 });
        assert_eq!(check(&same, 99, 1), TailCheck::Agree { last: 99 }, "outside the tail and the samples");
        same.damage(0, 1);
        assert_eq!(check(&same, 99, 1), TailCheck::Differs { first_seq: 0 });
    }

    #[test]
    fn a_frame_that_only_the_journal_has_lost_is_passed_over() {
        let same = witness(10);
        let mut archived = |seq: u64| (seq >= 5).then(|| seq.to_le_bytes().to_vec());
        assert_eq!(check_tail(&same, &mut archived, 9, 10).unwrap(), TailCheck::Agree { last: 9 });
    }

    #[test]
    fn frames_out_of_order_are_refused_and_end_the_witness() {
        let mut out = witness(3);
        let refused = out.append(&[(3, b"x"), (5, b"y")]).unwrap_err();
        assert!(matches!(refused, WitnessError::Inconsistent(Inconsistency::NotNext { expected: 4, given: 5 })));
        assert!(matches!(out.last(), Err(WitnessError::Dead)));
        assert!(MemoryWitness::new().append(&[(u64::MAX, b"x")]).is_err());
    }

    #[test]
    fn a_range_of_a_memory_witness_stops_where_it_is_told() {
        let mut seen = Vec::new();
        witness(10)
            .read_range(2, 8, &mut |seq, frame| {
                assert_eq!(frame, seq.to_le_bytes());
                seen.push(seq);
                if seq == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, [2, 3, 4, 5]);
    }
}
