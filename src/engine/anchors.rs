//! Anchors: checkpoints that are kept outside the ledger, compared when it opens and when it is verified.
//!
//! An anchor is not storage of the ledger's: where it cannot be read or written, the ledger goes on and says so.
//! What it holds is replaced only where it fits; what does not fit is evidence and stays.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use crate::base::{Caller, Timestamp, limits};
use crate::checkpoint::{
    Checkpoint, Fit, NoteError, SignedCheckpoint, VerifierKey, fit, keep, signing_key, split_notes, verifier,
};
use crate::crypto::Hash;
use crate::event::system::{AnchorConflict, AnchorPlaced, BranchStarted, ConflictCause};
use crate::event::{Event, Kind};
use crate::inspect::{FindingCode, LogMarks, Outside, Report};
use crate::keys::Unlocked;
use crate::log::{Head, Journal, Last};
use crate::store::Medium;

use super::config::{AnchorSettings, Config};
use super::core::{Core, Layout};
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

/// The anchor's name in the log.
pub fn file_name(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// Reads the newest note of an anchor's bytes; without a key one that is signed by the key that it names.
pub fn newest(bytes: &[u8], by: Option<&VerifierKey>) -> AnchorState {
    let (notes, _) = split_notes(bytes);
    let Some(note) = notes.last() else { return AnchorState::Unusable(NoteError::Form) };
    let read = match by {
        Some(by) => SignedCheckpoint::verify(note, by),
        None => SignedCheckpoint::parse(note),
    };
    read.map_or_else(AnchorState::Unusable, |signed| AnchorState::Holds(Box::new(signed)))
}

fn read_file(medium: &dyn Medium, path: &Path) -> Result<Option<Vec<u8>>, String> {
    match medium.read_all(path, limits::ANCHOR_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What each anchor file holds.
pub fn read_files(
    medium: &dyn Medium,
    settings: &AnchorSettings,
    by: Option<&VerifierKey>,
) -> Vec<(String, AnchorState)> {
    let read = |path: &std::path::PathBuf| match read_file(medium, path) {
        Ok(Some(bytes)) => newest(&bytes, by),
        Ok(None) => AnchorState::Absent,
        Err(why) => AnchorState::Unreachable(why),
    };
    settings.files.iter().map(|path| (file_name(path), read(path))).collect()
}

/// Events that begin branches, as the headers say.
fn branch_starts(journal: &Journal, last: u64) -> Result<Vec<u64>, Error> {
    let mut found = Vec::new();
    journal.read_range(0, last, &mut |frame| {
        if frame.header.kind == Kind::BranchStarted.number() {
            found.push(frame.header.seq);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn hash_at(journal: &Journal, seq: u64) -> Option<Hash> {
    journal.position(seq).ok().map(|position| position.hash)
}

/// What an anchor knows beyond the copy that is to be gone on with.
pub struct GivenUp {
    anchor: String,
    through: u64,
    note: String,
}

/// Compares the anchors with the journal before anything is written. An anchor that fits costs one read of a
/// frame; only where one does not fit, the headers of the whole journal are read for branches.
pub fn compare_at_opening(
    config: &Config,
    settings: &AnchorSettings,
    unlocked: &Unlocked,
    ledger_id: crate::base::LedgerId,
    journal: &Journal,
    last: Option<u64>,
) -> Result<Option<GivenUp>, Error> {
    let Some(last) = last.filter(|_| !settings.files.is_empty()) else { return Ok(None) };
    let by = verifier(ledger_id, signing_key(unlocked.ledger_key())?.public());
    let mut branches = None;
    let mut furthest: Option<GivenUp> = None;
    for (anchor, state) in read_files(&*config.medium, settings, Some(&by)) {
        let AnchorState::Holds(signed) = state else { continue };
        let checkpoint = signed.checkpoint();
        let ends = checkpoint.size - 1;
        if ends <= last && hash_at(journal, ends) == Some(checkpoint.head) {
            continue;
        }
        if branches.is_none() {
            branches = Some(branch_starts(journal, last)?);
        }
        let starts = branches.as_deref().unwrap_or_default();
        let error = match fit(checkpoint, last + 1, starts, |seq| hash_at(journal, seq)) {
            Fit::Holds | Fit::Superseded { .. } => continue,
            Fit::Lost { last: through, .. } => Error::RolledBack { anchor: anchor.clone(), last, through },
            Fit::OtherBranch => Error::OtherBranch { anchor: anchor.clone(), branch: checkpoint.branch },
            Fit::Forked => Error::AnchorForked { anchor: anchor.clone(), seq: ends },
        };
        if !config.accept_rollback {
            return Err(error);
        }
        if furthest.as_ref().is_none_or(|known| known.through < ends) {
            furthest = Some(GivenUp { anchor, through: ends, note: signed.note().to_owned() });
        }
    }
    Ok(furthest)
}

/// The event that begins a branch behind the copy that was put back.
pub fn branch_event(last: Last, branch: u32, head: Option<&Head>, given_up: Option<GivenUp>) -> Event {
    let by_head = head.map(|head| head.seq).filter(|seq| *seq > last.seq);
    let by_anchor = given_up.as_ref().map(|known| known.through).filter(|through| *through > last.seq);
    let (anchor, note) = given_up.map_or_else(Default::default, |known| (known.anchor, known.note));
    let (head, lost_through) = (last.hash, by_head.max(by_anchor));
    Event::BranchStarted(BranchStarted { from: last.seq + 1, head, branch, lost_through, anchor, note })
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
        let starts: Vec<u64> = branches.iter().map(|branch| branch.from).collect();
        Ok(fit(checkpoint, events, &starts, |seq| hash_at(&self.journal, seq)))
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
        let found = read_files(&*self.medium, &self.settings.anchors, Some(&by));
        let mut all: Vec<AnchorStatus> =
            found.into_iter().map(|(anchor, state)| self.status(anchor, state, true)).collect::<Result<_, _>>()?;
        let placed = history::placed(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        for (anchor, record) in placed {
            match all.iter_mut().find(|status| status.anchor == anchor) {
                Some(status) => status.placed = Some(record.event),
                None => {
                    // A file that the settings name no more can still be read; a device comes by itself.
                    let state = match anchor.strip_prefix("file:").map(|path| read_file(&*self.medium, Path::new(path)))
                    {
                        Some(Ok(Some(bytes))) => newest(&bytes, Some(&by)),
                        Some(Err(why)) => AnchorState::Unreachable(why),
                        Some(Ok(None)) | None => AnchorState::Absent,
                    };
                    let mut status = self.status(anchor, state, false)?;
                    status.placed = Some(record.event);
                    all.push(status);
                }
            }
        }
        Ok(all)
    }

    /// Puts a checkpoint to every anchor file; returns what became of it, and how many events record it.
    pub(super) fn place(&self, signed: &SignedCheckpoint) -> Result<(Vec<Placing>, u64), Error> {
        let (mut placings, mut events) = (Vec::new(), Vec::new());
        if self.settings.anchors.files.is_empty() {
            return Ok((placings, 0));
        }
        let by = self.checkpoint_key()?;
        let known = history::placed(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        let known: BTreeSet<&str> = known.iter().map(|(anchor, _)| anchor.as_str()).collect();
        for path in &self.settings.anchors.files {
            let anchor = file_name(path);
            let failure = match self.place_in(path, &anchor, signed, &by)? {
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
        path: &Path,
        anchor: &str,
        signed: &SignedCheckpoint,
        by: &VerifierKey,
    ) -> Result<Result<(), (String, Option<AnchorConflict>)>, Error> {
        let bytes = match read_file(&*self.medium, path) {
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
        Ok(self.medium.write_atomic(path, &keep(&held, signed.note())).map_err(|error| (error.to_string(), None)))
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

/// What stands outside of a ledger, for a verification: the anchor files of the settings, and those that the
/// log says were used.
pub fn outside(
    medium: &dyn Medium,
    settings: &AnchorSettings,
    by: Option<&VerifierKey>,
    used: &[String],
) -> Vec<(String, Outside)> {
    let found = read_files(medium, settings, by).into_iter().filter_map(|(anchor, state)| {
        let held = match state {
            AnchorState::Holds(signed) => Outside::Holds(signed),
            AnchorState::Unusable(why) => Outside::Unusable(why),
            AnchorState::Unreachable(why) => Outside::Absent(why),
            AnchorState::Absent if used.contains(&anchor) => Outside::Absent("it is gone".to_owned()),
            // It was never written: the first checkpoint is still to come.
            AnchorState::Absent => return None,
        };
        Some((anchor, held))
    });
    let mut all: Vec<(String, Outside)> = found.collect();
    for anchor in used.iter().filter(|anchor| anchor.starts_with("file:")) {
        if !settings.files.iter().any(|path| file_name(path) == *anchor) {
            let why = "the log says that it was used, but config.toml does not name it".to_owned();
            all.push((anchor.clone(), Outside::Absent(why)));
        }
    }
    all
}

/// How many events the checkpoint of an anchor covers.
pub fn size_of(held: &Outside) -> Option<u64> {
    match held {
        Outside::Holds(signed) => Some(signed.checkpoint().size),
        _ => None,
    }
}

/// The copies of the checkpoints in the home.
#[derive(Default)]
pub struct Copies {
    notes: Vec<Result<SignedCheckpoint, NoteError>>,
    failure: Option<String>,
}

/// Reads the copies of the checkpoints. A torn end is what a crash leaves, and passed over.
pub fn copies(medium: &dyn Medium, layout: &Layout, by: Option<&VerifierKey>) -> Copies {
    let path = layout.checkpoints().join("notes");
    match medium.read_all(&path, limits::CHECKPOINT_NOTES_MAX) {
        Ok(bytes) => {
            let read = |note: &&[u8]| match by {
                Some(by) => SignedCheckpoint::verify(note, by),
                None => SignedCheckpoint::parse(note),
            };
            Copies { notes: split_notes(&bytes).0.iter().map(read).collect(), failure: None }
        }
        Err(error) if error.is_not_found() => Copies::default(),
        Err(error) => Copies { notes: Vec::new(), failure: Some(error.to_string()) },
    }
}

impl Copies {
    /// The sizes that they cover.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        self.notes.iter().flatten().map(|signed| signed.checkpoint().size)
    }

    /// Compares them with the log. Somebody who rewrites the log can leave them out, so that they prove nothing by
    /// being absent; a copy that is signed and does not fit is proof.
    pub fn compare(&self, report: &mut Report, marks: &LogMarks, last: Option<&str>) {
        let mut strange = self.failure.clone();
        for read in &self.notes {
            match read {
                Ok(signed) => match marks.fit(signed.checkpoint()) {
                    Some(Fit::Forked) => {
                        let seq = signed.checkpoint().size - 1;
                        let what = format!("event {seq} is not the one that a checkpoint in `checkpoints/` knows");
                        report.add(FindingCode::AnchorForked, Some(seq), what);
                    }
                    Some(Fit::Lost { first, last }) => {
                        let what = format!("a checkpoint in `checkpoints/` knows of events {first} to {last}");
                        report.add(FindingCode::AnchorLost, Some(first), what);
                    }
                    _ => {}
                },
                Err(why) => strange = Some(why.to_string()),
            }
        }
        let newest = self.notes.last().and_then(|read| read.as_ref().ok()).map(SignedCheckpoint::note);
        if strange.is_none() && last.is_some() && newest != last {
            strange = Some("the last checkpoint of the log is not there".to_owned());
        }
        if let Some(why) = strange {
            let what = format!("the copies in `checkpoints/`: {why}; the next checkpoint makes them anew");
            report.add(FindingCode::CheckpointCopy, None, what);
        }
    }
}

impl Core {
    /// The anchors that the log says were used.
    pub(super) fn anchors_used(&self) -> Result<Vec<String>, Error> {
        let placed = history::placed(&self.index).map_err(|source| Error::Fold { seq: 0, source })?;
        Ok(placed.into_iter().map(|(anchor, _)| anchor).collect())
    }
}
