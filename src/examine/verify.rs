//! The whole verification, at whichever level the examiner can reach: no key, a public key, all keys.

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::limits::CHECKPOINT_FILE_MAX;
use crate::checkpoint::VerifierKey;
use crate::engine::{self, Entry, UnknownEvents};
use crate::event::Event;
use crate::event::system::{AnchorConflict, ConflictCause};
use crate::inspect::{
    Anchor, Assessment, Course, Finding, FindingCode, Kept, Report, Seen, Site, assess_opened, ledger_of, read_notes,
};
use crate::log::Frame;
use crate::store::Medium;

use super::{Bodies, Keys, key_files};

/// The ledger's own checkpoints in a home.
const OWN_NOTES: &str = "checkpoints/notes";

/// What a verification is given beside the evidence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Checkpoints that were kept elsewhere.
    pub anchors: &'a [Anchor],
    /// The ledger's public key, known from elsewhere.
    pub public_key: Option<&'a VerifierKey>,
    /// The open keys.
    pub keys: Option<&'a Keys>,
    /// Where the key ring and key table are: mostly a folder of the evidence.
    pub keys_from: Option<(&'a dyn Medium, &'a Path)>,
    /// Whether somebody may be writing the log.
    pub live: bool,
}

/// Verifies a log. Findings are in the order of the log.
pub fn verify(
    medium: &dyn Medium,
    course: &Course<'_>,
    asked: &Asked<'_>,
    visit: &mut dyn FnMut(&Frame<'_>, Site<'_>),
) -> Assessment {
    verify_opened(medium, course, asked, &mut |frame, site, _| visit(frame, site))
}

/// Verifies a log, and shows every whole frame with what its body holds where a key opened it.
pub fn verify_opened(
    medium: &dyn Medium,
    course: &Course<'_>,
    asked: &Asked<'_>,
    visit: &mut dyn FnMut(&Frame<'_>, Site<'_>, Option<&Entry>),
) -> Assessment {
    let derived = asked.keys.and_then(Keys::verifier);
    let pinned = asked.anchors.first().map(|anchor| anchor.signed.checkpoint().verifier());
    let by = asked.public_key.or(derived.as_ref()).or(pinned.as_ref());
    let mut anchors = asked.anchors.to_vec();
    let mut invalid = own_notes(medium, course, by, &mut anchors);
    invalid.extend(format(medium, course));
    let mut bodies = asked.keys.map(|keys| {
        let table = asked.keys_from.and_then(|(from, dir)| keys.table(from, dir).ok());
        Bodies::new(keys, table.as_ref())
    });
    let head_key = asked.keys.and_then(Keys::head_key);
    let course = Course { head_key: head_key.as_ref().or(course.head_key), ..course.clone() };
    let mut unknown = UnknownEvents::default();
    let mut conflicts = Conflicts::default();
    let (mut assessment, unopened) = std::thread::scope(|scope| {
        // Without keys nothing in the log bears on key ring and key table: they are read beside the walk.
        let beside = asked.keys_from.filter(|_| bodies.is_none()).map(|(from, dir)| {
            let ledger_id = ledger_of(medium, &course);
            scope.spawn(move || key_files(from, dir, ledger_id))
        });
        let assessment = assess_opened(medium, &course, &anchors, asked.live, &mut |frame, site| {
            unknown.observe(&frame.header);
            let entry = bodies.as_mut().and_then(|bodies| bodies.visit(frame, site));
            visit(frame, site, entry.as_ref());
            if let Some(entry) = &entry {
                conflicts.observe(frame.header.seq, &entry.event);
            }
            entry.as_ref().map_or_else(Seen::default, seen)
        });
        (assessment, beside.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    });
    invalid.extend(conflicts.findings(by));
    if let (Some(by), Some(id)) = (by, assessment.report().ledger_id)
        && !by.name.ends_with(&id.to_string())
    {
        let what = format!("the public key is that of {}, the log that of ledger {id}", by.name);
        invalid.push(Finding::new(FindingCode::AnchorForeign, None, what));
    }
    match (bodies, asked.keys_from) {
        (Some(bodies), Some((from, dir))) => invalid.extend(bodies.finish(from, dir)),
        (Some(bodies), None) => invalid.extend(bodies.findings()),
        (None, _) => invalid.extend(unopened.unwrap_or_default()),
    }
    let mut noted = Report { ok: true, ..Report::default() };
    unknown.note(&mut noted);
    for finding in invalid.into_iter().chain(noted.findings) {
        assessment.add(finding);
    }
    assessment.sort();
    assessment
}

/// What anchors were recorded to know that the log does not hold. It stands until somebody goes on with the older
/// copy on purpose, whether or not the anchor is still there to be asked.
#[derive(Default)]
struct Conflicts(BTreeMap<String, (u64, AnchorConflict)>);

impl Conflicts {
    fn observe(&mut self, seq: u64, event: &Event) {
        match event {
            Event::AnchorConflict(found) if !found.note.is_empty() => {
                let known = self.0.get(&found.anchor).map(|(_, known)| known.size);
                let proves =
                    matches!(found.cause, ConflictCause::Lost | ConflictCause::Forked | ConflictCause::OtherBranch);
                if proves && known.is_none_or(|known| known <= found.size) {
                    self.0.insert(found.anchor.clone(), (seq, found.clone()));
                }
            }
            Event::BranchStarted(_) => self.0.clear(),
            _ => {}
        }
    }

    /// Those whose note the ledger signed: nothing else proves anything.
    fn findings(self, by: Option<&VerifierKey>) -> Vec<Finding> {
        let proven = self.0.into_iter().filter(|(anchor, (_, found))| {
            by.is_some() && read_notes(anchor, Kept::Elsewhere, found.note.as_bytes(), by).is_ok()
        });
        let finding = |(anchor, (seq, found)): (String, (u64, AnchorConflict))| {
            let size = found.size;
            let (code, how) = match found.cause {
                ConflictCause::Lost => (FindingCode::AnchorLost, "of which this log lost some"),
                ConflictCause::OtherBranch => (FindingCode::AnchorOtherBranch, "of a branch that is not here"),
                _ => (FindingCode::AnchorForked, "of which this log holds others"),
            };
            Finding::new(code, Some(seq), format!("event {seq} records that {anchor} knew of {size} events, {how}"))
        };
        proven.map(finding).collect()
    }
}

fn seen(entry: &Entry) -> Seen {
    let branch = match &entry.event {
        Event::BranchStarted(started) => Some(started.branch),
        _ => None,
    };
    let records_checkpoint = matches!(entry.event, Event::CheckpointSigned(_) | Event::AnchorPlaced(_));
    Seen { opened: true, records_checkpoint, branch }
}

/// A home says by which format it was made.
fn format(medium: &dyn Medium, course: &Course<'_>) -> Option<Finding> {
    course.head.as_ref()?;
    let bytes = medium.read_all(&course.home.join("format"), 256).ok()?;
    if bytes == engine::FORMAT.as_bytes() {
        return None;
    }
    let what = format!("`format` says {:?}, which is not known to this program", String::from_utf8_lossy(&bytes));
    Some(Finding { file: Some("format".to_owned()), ..Finding::new(FindingCode::UnknownVersion, None, what) })
}

/// The ledger's own checkpoints, where a home is examined.
fn own_notes(
    medium: &dyn Medium,
    course: &Course<'_>,
    by: Option<&VerifierKey>,
    anchors: &mut Vec<Anchor>,
) -> Vec<Finding> {
    if course.head.is_none() {
        return Vec::new();
    }
    match medium.read_all(Path::new(&course.home).join(OWN_NOTES).as_path(), CHECKPOINT_FILE_MAX) {
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => vec![Finding::new(FindingCode::Unreadable, None, error.to_string())],
        Ok(bytes) => match read_notes(OWN_NOTES, Kept::WithLog, &bytes, by) {
            Ok(own) => {
                anchors.extend(own);
                Vec::new()
            }
            Err(error) => {
                let what = format!("{OWN_NOTES} holds a checkpoint that is not this ledger's: {error}");
                let invalid = Finding::new(FindingCode::CheckpointInvalid, None, what);
                vec![Finding { file: Some(OWN_NOTES.to_owned()), ..invalid }]
            }
        },
    }
}
