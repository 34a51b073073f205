//! Anchors: checkpoints that are kept outside the ledger, compared when it opens and when it is verified.
//!
//! An anchor is not storage of the ledger's: where it cannot be read or written, the ledger goes on and says so.
//! What it holds is replaced only where it fits; what does not fit is evidence and stays.

use std::collections::BTreeSet;

use crate::base::{Caller, Timestamp};
use crate::checkpoint::{Branch, Checkpoint, Fit, NoteError, SignedCheckpoint, VerifierKey, fit, keep, split_notes};
use crate::crypto::Hash;
use crate::event::Event;
use crate::event::system::{AnchorConflict, AnchorPlaced, ConflictCause};
use crate::log::Journal;

use super::anchor_places::{Place, Places, newest};
use super::core::Core;
use super::error::Error;
use super::history;

/// What an anchor holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorState {
    /// Nothing is there.
    Absent,
    /// It cannot be read: the reason.
    Unreachable(String),
    /// What is there is no checkpoint of this ledger.
    Unusable(NoteError),
    /// A checkpoint.
    Holds(Box<SignedCheckpoint>),
}

/// An anchor, what it holds, and how that stands to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorStatus {
    /// `file:<path>`, `keystore` or `device:<id>`.
    pub anchor: String,
    /// What it holds.
    pub state: AnchorState,
    /// How that stands to the log, where it holds a checkpoint.
    pub fit: Option<Fit>,
    /// The event that recorded its first use.
    pub placed: Option<u64>,
    /// Whether the settings name it.
    pub configured: bool,
}

/// What became of a checkpoint at an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// The anchor.
    pub anchor: String,
    /// Why it is not there, where it is not.
    pub failure: Option<String>,
}

/// The hash of an event that the journal holds.
pub(super) fn hash_at(journal: &Journal, seq: u64) -> Option<Hash> {
    journal.position(seq).ok().map(|position| position.hash)
}

/// The conflict that a note is, if it is one.
fn conflict(anchor: &str, state: &AnchorState, fit: Option<Fit>) -> Option<AnchorConflict> {
    let (cause, checkpoint): (_, Option<&Checkpoint>) = match (state, fit) {
        (AnchorState::Holds(signed), Some(fit)) => {
            let cause = match fit {
                Fit::Holds | Fit::Superseded { .. } => return None,
                Fit::Lost { .. } => ConflictCause::Lost,
                Fit::Forked => ConflictCause::Forked,
                Fit::OtherBranch => ConflictCause::OtherBranch,
            };
            (cause, Some(signed.checkpoint()))
        }
        (AnchorState::Unusable(why), _) => {
            let cause = match why {
                NoteError::Forged | NoteError::Unsigned => ConflictCause::Forged,
                NoteError::OtherKey => ConflictCause::OtherKey,
                NoteError::OtherLedger => ConflictCause::OtherLedger,
                _ => ConflictCause::Damaged,
            };
            (cause, None)
        }
        _ => return None,
    };
    let note = match state {
        AnchorState::Holds(signed) => signed.note().to_owned(),
        _ => String::new(),
    };
    let (size, head) = checkpoint.map_or((0, None), |checkpoint| (checkpoint.size, Some(checkpoint.head)));
    Some(AnchorConflict { anchor: anchor.to_owned(), cause, size, head, note })
}

/// In words, for a person.
fn words(conflict: &AnchorConflict) -> String {
    let what = match conflict.cause {
        ConflictCause::Lost => "knows of events that this ledger has not",
        ConflictCause::Forked => "holds a checkpoint of another history",
        ConflictCause::OtherBranch => "knows of a branch of history that this ledger has not",
        ConflictCause::Damaged => "holds something that is no checkpoint",
        ConflictCause::Forged => "holds a checkpoint whose signature is wrong",
        ConflictCause::OtherKey => "holds a checkpoint that another key signed",
        ConflictCause::OtherLedger => "holds a checkpoint of another ledger",
    };
    format!("it {what}; it was left as it is: keep it as evidence and move it away")
}

impl Core {
    /// How a checkpoint stands to the log as it is.
    pub(super) fn fit(&self, checkpoint: &Checkpoint) -> Result<Fit, Error> {
        let events = self.visible.load(std::sync::atomic::Ordering::Acquire);
        let branches = history::branches(&self.index).map_err(|source| Error::Fold { seq: events, source })?;
        let here: Vec<Branch> = branches.iter().map(history::BranchRecord::branch).collect();
        let found = fit(checkpoint, events, &here, |seq| hash_at(&self.journal, seq));
        let settled = history::settled(&self.index).map_err(|source| Error::Fold { seq: events, source })?;
        Ok(found.settled(checkpoint, &settled))
    }

    /// Signed checkpoints that somebody outside showed, that did not fit and do not now.
    pub(super) fn conflicts(&self, by: &VerifierKey) -> Result<Vec<(String, SignedCheckpoint, Fit)>, Error> {
        let recorded = history::conflicts(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        let mut open = Vec::new();
        for (anchor, record) in recorded {
            let Ok(signed) = SignedCheckpoint::verify(record.note.as_bytes(), by) else { continue };
            match self.fit(signed.checkpoint())? {
                Fit::Holds | Fit::Superseded { .. } => {}
                found => open.push((anchor, signed, found)),
            }
        }
        Ok(open)
    }

    fn status(&self, anchor: String, state: AnchorState, configured: bool) -> Result<AnchorStatus, Error> {
        let fit = match &state {
            AnchorState::Holds(signed) => Some(self.fit(signed.checkpoint())?),
            _ => None,
        };
        Ok(AnchorStatus { anchor, state, fit, placed: None, configured })
    }

    /// Every anchor that the settings or the log name, as it is now.
    pub(super) fn anchors(&self) -> Result<Vec<AnchorStatus>, Error> {
        let by = self.checkpoint_key()?;
        let places = self.anchor_places();
        let found = places.states(Some(&by));
        let mut all: Vec<AnchorStatus> =
            found.into_iter().map(|(anchor, state)| self.status(anchor, state, true)).collect::<Result<_, _>>()?;
        let used = history::placed(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        for (anchor, record) in used {
            match all.iter_mut().find(|status| status.anchor == anchor) {
                Some(status) => status.placed = Some(record.event),
                None => {
                    // A place that the settings name no more can still be read; a device comes by itself.
                    let place = places.named(&anchor);
                    let state = place.map_or(AnchorState::Absent, |place| places.state(place, Some(&by)));
                    let mut status = self.status(anchor, state, false)?;
                    status.placed = Some(record.event);
                    all.push(status);
                }
            }
        }
        // What a device showed, or an anchor that was moved away since, is proof for as long as nobody accepts it.
        for (anchor, signed, found) in self.conflicts(&by)? {
            let (state, fit) = (AnchorState::Holds(Box::new(signed)), Some(found));
            match all.iter_mut().find(|status| status.anchor == anchor) {
                Some(status) => (status.state, status.fit) = (state, fit),
                None => all.push(AnchorStatus { anchor, state, fit, placed: None, configured: false }),
            }
        }
        Ok(all)
    }

    pub(super) fn anchor_places(&self) -> Places<'_> {
        Places {
            medium: &*self.medium,
            keystore: &*self.outside.keystore,
            ledger: Some(self.ledger_id),
            settings: &self.settings.anchors,
        }
    }

    /// Puts a checkpoint to every anchor of the settings; returns what became of it, and how many events record it.
    pub(super) fn place(&self, signed: &SignedCheckpoint) -> Result<(Vec<Placing>, u64), Error> {
        let (mut placings, mut events) = (Vec::new(), Vec::new());
        let places = self.anchor_places().configured();
        if places.is_empty() {
            return Ok((placings, 0));
        }
        let by = self.checkpoint_key()?;
        let known = history::placed(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        let known: BTreeSet<&str> = known.iter().map(|(anchor, _)| anchor.as_str()).collect();
        for place in places {
            let anchor = place.name();
            let failure = match self.place_in(place, &anchor, signed, &by)? {
                Ok(()) => None,
                Err((what, conflict)) => {
                    events.extend(conflict.map(Event::AnchorConflict));
                    Some(what)
                }
            };
            if failure.is_none() && !known.contains(anchor.as_str()) {
                let size = signed.checkpoint().size;
                events.push(Event::AnchorPlaced(AnchorPlaced { anchor: anchor.clone(), size }));
            }
            placings.push(Placing { anchor, failure });
        }
        let recorded = events.len() as u64;
        if recorded > 0 {
            self.execute(&Caller::system(), |_, _| Ok::<_, Error>((events, ())))?;
        }
        Ok((placings, recorded))
    }

    fn place_in(
        &self,
        place: Place<'_>,
        anchor: &str,
        signed: &SignedCheckpoint,
        by: &VerifierKey,
    ) -> Result<Result<(), (String, Option<AnchorConflict>)>, Error> {
        let places = self.anchor_places();
        let bytes = match places.read(place) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(why) => return Ok(Err((why, None))),
        };
        if !bytes.is_empty() {
            let status = self.status(anchor.to_owned(), newest(&bytes, Some(by)), true)?;
            if let Some(found) = conflict(anchor, &status.state, status.fit) {
                // Once for each finding in the life of a process: the anchor stays as it is until somebody looks.
                let first = self.checkpoints.is_new(&found);
                return Ok(Err((words(&found), first.then_some(found))));
            }
            let there = match &status.state {
                AnchorState::Holds(held) => Some(held.checkpoint()),
                _ => None,
            };
            if there.is_some_and(|held| (held.branch, held.size) >= position(signed.checkpoint())) {
                return Ok(Ok(()));
            }
        }
        let (held, _) = split_notes(&bytes);
        // An anchor's disk is not the ledger's: a failure there is told and ends nothing.
        Ok(places.write(place, &keep(&held, signed.note())).map_err(|why| (why, None)))
    }

    /// Compares a note that somebody outside kept, and records a conflict.
    pub(super) fn compare_note(&self, anchor: &str, bytes: &[u8]) -> Result<AnchorStatus, Error> {
        let by = self.checkpoint_key()?;
        let state = SignedCheckpoint::verify(bytes, &by)
            .map_or_else(AnchorState::Unusable, |signed| AnchorState::Holds(Box::new(signed)));
        let status = self.status(anchor.to_owned(), state, true)?;
        if let Some(found) = conflict(anchor, &status.state, status.fit)
            && !self.read_only
            && self.checkpoints.is_new(&found)
        {
            self.execute(&Caller::system(), |_, _| Ok::<_, Error>((vec![Event::AnchorConflict(found)], ())))?;
        }
        Ok(status)
    }

    /// Records that an anchor outside holds checkpoints, once.
    pub(super) fn record_placed(&self, anchor: &str, size: u64) -> Result<(), Error> {
        let known = history::placed(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        if self.read_only || known.iter().any(|(name, _)| name == anchor) {
            return Ok(());
        }
        let event = Event::AnchorPlaced(AnchorPlaced { anchor: anchor.to_owned(), size });
        self.execute(&Caller::system(), |_, _| Ok::<_, Error>((vec![event], ()))).map(|_| ())
    }
}

const fn position(checkpoint: &Checkpoint) -> (u32, u64) {
    (checkpoint.branch, checkpoint.size)
}

impl AnchorStatus {
    /// When its checkpoint was made.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        match &self.state {
            AnchorState::Holds(signed) => Some(signed.checkpoint().time),
            _ => None,
        }
    }
}
