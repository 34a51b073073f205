//! What stands outside of a ledger, and the copies in its home, for a verification.

use crate::base::limits;
use crate::checkpoint::{Checkpoint, Fit, NoteError, SignedCheckpoint, VerifierKey, split_notes};
use crate::inspect::{FindingCode, LogMarks, Outside, Report};
use crate::store::Medium;

use super::anchor_places::Places;
use super::anchors::AnchorState;
use super::core::{Core, Layout};
use super::error::Error;
use super::history;

/// What stands outside of a ledger, for a verification: the anchors of the settings, and those that the log says
/// were used. Taking an anchor out of the settings silences nothing.
pub fn outside(places: &Places<'_>, by: Option<&VerifierKey>, used: &[String]) -> Vec<(String, Outside)> {
    let mut all = places.configured();
    all.extend(places.unnamed(used));
    let found = all.into_iter().filter_map(|place| {
        let anchor = place.name();
        let held = match places.state(place, by) {
            AnchorState::Holds(signed) => Outside::Holds(signed),
            AnchorState::Unusable(why) => Outside::Unusable(why),
            AnchorState::Unreachable(why) => Outside::Absent(why),
            AnchorState::Absent if used.contains(&anchor) => Outside::Absent("it is gone".to_owned()),
            // It was never written: the first checkpoint is still to come.
            AnchorState::Absent => return None,
        };
        Some((anchor, held))
    });
    found.collect()
}

/// Adds what was shown by somebody outside and did not fit, where the same is not held by an anchor.
pub fn add_conflicts(held: &mut Vec<(String, Outside)>, conflicts: Vec<(String, SignedCheckpoint, Fit)>) {
    for (anchor, signed, _) in conflicts {
        let is_it = |one: &Outside| matches!(one, Outside::Holds(held) if held.note() == signed.note());
        if !held.iter().any(|(_, one)| is_it(one)) {
            held.push((anchor, Outside::Holds(Box::new(signed))));
        }
    }
}

/// Reports anchors that were used and that the settings name no more: whoever can write the settings could take
/// out the one that knows too much.
pub fn report_unnamed(report: &mut Report, places: &Places<'_>, used: &[String]) {
    for place in places.unnamed(used) {
        let what = format!("{}: the log says that it was used, but config.toml does not name it", place.name());
        report.add(FindingCode::AnchorUnnamed, None, what);
    }
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
        self.checkpoints().map(|checkpoint| checkpoint.size)
    }

    /// What they say.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.notes.iter().flatten().map(SignedCheckpoint::checkpoint)
    }

    /// Compares them with the log. Somebody who rewrites the log can leave them out, so that they prove nothing by
    /// being absent; a copy that is signed and does not fit is proof.
    pub fn compare(&self, report: &mut Report, marks: &LogMarks, last: Option<&str>) {
        let mut strange = self.failure.clone();
        for read in &self.notes {
            match read {
                Ok(signed) if report.ledger_id.is_some_and(|id| id != signed.checkpoint().ledger_id) => {
                    strange = Some(NoteError::OtherLedger.to_string());
                }
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
        history::anchors_used(&self.index).map_err(|source| Error::Fold { seq: 0, source })
    }
}
