//! Signing checkpoints: never on the path of a write, at a cost that does not grow with history.
//!
//! The tree goes on from the frontier that the last checkpoint kept, so each frame is read and hashed once.
//! The state's root is a hash over the whole state; it is computed on a snapshot while others write, and only
//! after one event for every few entries since it was last computed, so that what an event pays for stays
//! bounded. Checkpoints in between say `state none`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Caller, Timestamp, limits};
use crate::checkpoint::{Checkpoint, Frontier, SignedCheckpoint, VerifierKey, signing_key, tree, verifier};
use crate::crypto::{Hash, Hasher, labels};
use crate::event::Event;
use crate::event::system::{AnchorConflict, CheckpointSigned};
use crate::log::JournalError;
use crate::projection::Snapshot;
use crate::store::OpenMode;

use super::anchors::Placing;
use super::core::Core;
use super::error::Error;
use super::fold;
use super::history::{self, LastCheckpoint};
use super::open::decode_frame;

/// A checkpoint that was signed, and where it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpointed {
    /// The checkpoint.
    pub signed: SignedCheckpoint,
    /// The event that records it.
    pub event: u64,
    /// What became of it at each anchor.
    pub anchors: Vec<Placing>,
}

/// What the next checkpoint goes on from; read from the state at first use.
#[derive(Default)]
pub struct Checkpoints {
    work: Mutex<Option<Work>>,
    /// Conflicts that were recorded already.
    told: Mutex<BTreeSet<(String, String, u64)>>,
}

impl Checkpoints {
    /// Whether a conflict was not told of yet; it is from then on.
    pub(super) fn is_new(&self, conflict: &AnchorConflict) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = format!("{:?}", conflict.cause);
        told.len() < limits::REFUSAL_NOTES_MAX && told.insert((conflict.anchor.clone(), cause, conflict.size))
    }
}

struct Work {
    frontier: Frontier,
    last: Option<LastCheckpoint>,
    /// When the last one was made, or the ledger.
    since: Timestamp,
    /// Events behind the frontier that record checkpoints and need none themselves.
    own: u64,
}

/// Whether the state's root is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateRoot {
    /// In any case: somebody asked.
    Always,
    /// Where it is due.
    Due,
    /// Where it is due and cheap: somebody waits for the ledger to close.
    Cheap,
}

impl StateRoot {
    fn wanted(self, work: &Work, events: u64) -> bool {
        let last = work.last.as_ref();
        let (size, entries) = last.map_or((0, 0), |last| (last.state_size, last.state_entries));
        // Without a root so far the state is at most about as large as the log.
        let bound = if size == 0 { events } else { entries };
        let paid = (events - size).saturating_mul(limits::STATE_ENTRIES_PER_EVENT);
        let due = bound <= limits::STATE_ENTRIES_SMALL || paid >= entries;
        match self {
            Self::Always => true,
            Self::Due => due,
            Self::Cheap => due && bound <= limits::STATE_ENTRIES_AT_CLOSE,
        }
    }
}

impl Core {
    /// The public key of this ledger's checkpoints.
    pub(super) fn checkpoint_key(&self) -> Result<VerifierKey, Error> {
        Ok(verifier(self.ledger_id, signing_key(self.unlocked().ledger_key())?.public()))
    }

    /// Signs a checkpoint where one is due. `closing` is for whoever closes the ledger: from then on nobody else may.
    pub(super) fn checkpoint_if_due(&self, closing: bool) -> Result<(), Error> {
        let mut held = self.work()?;
        // Looked at under the mutex: what is under way when the ledger closes is waited for.
        if self.closing.load(Ordering::Acquire) != closing {
            return Ok(());
        }
        let Some(work) = held.as_mut() else { return Ok(()) };
        let visible = self.visible.load(Ordering::Acquire);
        let open = visible.saturating_sub(work.frontier.size() + work.own);
        let settings = &self.settings.checkpoints;
        let age = self.clock.now().as_millis().saturating_sub(work.since.as_millis());
        let by_number = settings.every_events > 0 && open >= settings.every_events;
        let by_time = settings.every_minutes > 0 && age >= settings.every_minutes.saturating_mul(60_000);
        if open > 0 && (by_number || by_time) {
            let state = if closing { StateRoot::Cheap } else { StateRoot::Due };
            self.sign_checkpoint(&Caller::system(), work, state)?;
        }
        Ok(())
    }

    /// Signs a checkpoint of everything so far; none where the last one covers all but its own record.
    pub(super) fn checkpoint_now(&self, caller: &Caller) -> Result<Option<Checkpointed>, Error> {
        let mut held = self.work()?;
        let Some(work) = held.as_mut() else { return Ok(None) };
        let visible = self.visible.load(Ordering::Acquire);
        if visible == work.frontier.size() + work.own {
            return self.place_again(work).map(Some);
        }
        self.sign_checkpoint(caller, work, StateRoot::Always).map(Some)
    }

    /// How many events there are, and the state after them where it is wanted, while others go on writing. Both are
    /// published under the queue's mutex.
    pub(super) fn moment(&self, wanted: impl FnOnce(u64) -> bool) -> (u64, Option<Snapshot>) {
        let _publishing = self.queue();
        let events = self.visible.load(Ordering::Acquire);
        (events, wanted(events).then(|| self.index.snapshot()))
    }

    fn work(&self) -> Result<MutexGuard<'_, Option<Work>>, Error> {
        let mut held = self.checkpoints.work.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let failed = |source| Error::Fold { seq: self.visible.load(Ordering::Acquire), source };
            let last = history::last(&self.index).map_err(failed)?;
            let system = fold::system(&self.index).map_err(failed)?;
            let frontier = last.as_ref().and_then(|last| Frontier::from_parts(last.size, last.frontier.clone()));
            let since = last.as_ref().map(|last| last.time).or(system.map(|system| system.created));
            *held = Some(Work {
                frontier: frontier.unwrap_or_default(),
                own: u64::from(last.is_some()),
                since: since.unwrap_or_default(),
                last,
            });
        }
        Ok(held)
    }

    fn sign_checkpoint(&self, caller: &Caller, work: &mut Work, state: StateRoot) -> Result<Checkpointed, Error> {
        let (events, snapshot) = self.moment(|events| state.wanted(work, events));
        let mut frontier = work.frontier.clone();
        let mut head = None;
        self.journal.read_range(frontier.size(), events.saturating_sub(1), &mut |frame| {
            frontier.push(tree::leaf(&frame.hash));
            head = Some(frame.hash);
            ControlFlow::Continue(())
        })?;
        let head = head.filter(|_| frontier.size() == events).ok_or(JournalError::Missing { seq: frontier.size() })?;
        // A state that does not read is rebuilt at the next opening; the log is what is signed.
        let state = snapshot.and_then(|snapshot| root_of(snapshot).ok());
        let key = signing_key(self.unlocked().ledger_key())?;
        let branches = history::branches(&self.index).map_err(|source| Error::Fold { seq: events, source })?;
        let branch = history::branch_at(&branches, events);
        let previous = work.last.as_ref().map(|last| last.event);
        let (committed, signed) = self.execute(caller, |_, context| {
            let checkpoint = Checkpoint {
                ledger_id: self.ledger_id,
                size: events,
                root: frontier.root(),
                head,
                state: state.map(|(root, _)| root),
                time: context.now,
                branch,
                key: key.public(),
            };
            let signed = SignedCheckpoint::sign(checkpoint, &key)?;
            let event = CheckpointSigned {
                size: events,
                head,
                tree_root: frontier.root(),
                state_root: state.map(|(root, _)| root),
                state_entries: state.map_or(0, |(_, entries)| entries),
                branch,
                frontier: frontier.nodes().to_vec(),
                previous,
                note: signed.note().to_owned(),
            };
            Ok::<_, Error>((vec![Event::CheckpointSigned(event)], signed))
        })?;
        let before = work.last.take();
        work.last = history::last(&self.index).map_err(|source| Error::Fold { seq: committed.seq, source })?;
        let event = work.last.as_ref().map_or(committed.seq, |last| last.event);
        work.frontier = frontier;
        work.since = committed.time;
        work.own = 1;
        self.guard(self.keep_copy(before.as_ref(), event, signed.note()))?;
        let (anchors, recorded) = self.place(&signed)?;
        work.own += recorded;
        Ok(Checkpointed { signed, event, anchors })
    }

    /// Puts the last checkpoint to anchors that have it not.
    fn place_again(&self, work: &mut Work) -> Result<Checkpointed, Error> {
        let missing = Error::Journal(JournalError::Missing { seq: 0 });
        let last = work.last.as_ref().ok_or(missing)?;
        let signed = SignedCheckpoint::verify(last.note.as_bytes(), &self.checkpoint_key()?)?;
        let event = last.event;
        let (anchors, recorded) = self.place(&signed)?;
        work.own += recorded;
        Ok(Checkpointed { signed, event, anchors })
    }

    /// Adds a note to the copies in the clear. They are never trusted alone: where the end is not the checkpoint
    /// before, the file is made anew from the log.
    fn keep_copy(&self, before: Option<&LastCheckpoint>, event: u64, note: &str) -> Result<(), Error> {
        let dir = self.layout.checkpoints();
        let path = dir.join("notes");
        let there = self.medium.exists(&path)?;
        if !there {
            self.medium.create_dir(&dir)?;
            self.medium.sync_dir(&self.layout.home)?;
        }
        if there && let Some(before) = before {
            let file = self.medium.open(&path, OpenMode::ReadWrite)?;
            let (len, expected) = (file.len()?, format!("{}\n", before.note).into_bytes());
            let mut end = vec![0; expected.len()];
            if let Some(at) = len.checked_sub(expected.len() as u64)
                && file.read_at(at, &mut end)? == end.len()
                && end == expected
            {
                file.write_at(len, format!("{note}\n").as_bytes())?;
                return Ok(file.sync()?);
            }
        }
        let mut notes = Vec::new();
        let mut next = Some(event);
        while let Some(seq) = next {
            let recorded = self.checkpoint_event(seq)?;
            next = recorded.previous.filter(|previous| *previous < seq);
            notes.push(recorded.note);
        }
        let text: String = notes.iter().rev().flat_map(|note| [note.as_str(), "\n"]).collect();
        Ok(self.medium.write_atomic(&path, text.as_bytes())?)
    }

    fn checkpoint_event(&self, seq: u64) -> Result<CheckpointSigned, Error> {
        let unlocked = self.unlocked();
        let mut found = Err(Error::Journal(JournalError::Missing { seq }));
        self.journal.read_range(seq, seq, &mut |frame| {
            found = decode_frame(frame, &unlocked).map(|decoded| decoded.event);
            ControlFlow::Break(())
        })?;
        match found? {
            Event::CheckpointSigned(event) => Ok(event),
            _ => Err(Error::Fold { seq, source: fold::FoldError::History("previous checkpoint") }),
        }
    }
}

/// The state root over a snapshot, and how many entries it covers.
pub(super) fn root_of(snapshot: Snapshot) -> Result<(Hash, u64), Error> {
    let mut hasher = Hasher::new(labels::STATE_ROOT);
    let mut entries = 0;
    snapshot.visit(&mut |key, value| {
        super::open::hash_entry(&mut hasher, key, value);
        entries += 1;
        ControlFlow::Continue(())
    })?;
    Ok((hasher.finish(), entries))
}
