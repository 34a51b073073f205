//! Where checkpoints are kept outside the ledger: files, and the system's keystore.

use std::path::Path;

use crate::base::{LedgerId, limits};
use crate::checkpoint::{NoteError, SignedCheckpoint, VerifierKey, split_notes};
use crate::platform::Keystore;
use crate::store::Medium;

use super::anchors::AnchorState;
use super::config::AnchorSettings;

/// The keystore's name as an anchor, in the log and to people.
pub const KEYSTORE: &str = "keystore";
const FILE: &str = "file:";

/// What anchors are reached through.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    pub medium: &'a dyn Medium,
    pub keystore: &'a dyn Keystore,
    /// Whose item in the keystore; a keystore is not asked where this is not known.
    pub ledger: Option<LedgerId>,
    pub settings: &'a AnchorSettings,
}

/// One place of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    File(&'a Path),
    Keystore(LedgerId),
}

fn account(ledger: LedgerId) -> String {
    format!("{ledger}/anchors/checkpoint")
}

impl Place<'_> {
    /// The anchor's name in the log.
    pub fn name(self) -> String {
        match self {
            Self::File(path) => format!("{FILE}{}", path.display()),
            Self::Keystore(_) => KEYSTORE.to_owned(),
        }
    }
}

impl<'a> Places<'a> {
    /// Every place that the settings name.
    pub fn configured(&self) -> Vec<Place<'a>> {
        let files = self.settings.files.iter().map(|path| Place::File(path));
        files.chain(self.ledger.filter(|_| self.settings.keystore).map(Place::Keystore)).collect()
    }

    /// The place of an anchor that the log names; none for a device, which comes by itself.
    pub fn named<'n>(&self, name: &'n str) -> Option<Place<'n>> {
        match name.strip_prefix(FILE) {
            Some(path) => Some(Place::File(Path::new(path))),
            None => self.ledger.filter(|_| name == KEYSTORE).map(Place::Keystore),
        }
    }

    /// The places among these names, which the log says were used, that the settings do not name.
    pub fn unnamed<'n>(&self, used: &'n [String]) -> Vec<Place<'n>> {
        let configured: Vec<String> = self.configured().into_iter().map(Place::name).collect();
        used.iter().filter(|name| !configured.contains(name)).filter_map(|name| self.named(name)).collect()
    }

    /// The bytes at a place, if there are any; else why they cannot be read.
    pub fn read(&self, place: Place<'_>) -> Result<Option<Vec<u8>>, String> {
        match place {
            Place::File(path) => match self.medium.read_all(path, limits::ANCHOR_BYTES_MAX) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.to_string()),
            },
            Place::Keystore(ledger) => match self.keystore.get(&account(ledger)) {
                Ok(bytes) => Ok(bytes.map(|bytes| bytes.to_vec())),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Keeps bytes at a place; else why they are not there.
    pub fn write(&self, place: Place<'_>, bytes: &[u8]) -> Result<(), String> {
        match place {
            Place::File(path) => self.medium.write_atomic(path, bytes).map_err(|error| error.to_string()),
            Place::Keystore(ledger) => self.keystore.put(&account(ledger), bytes).map_err(|error| error.to_string()),
        }
    }

    /// What the anchor at a place holds.
    pub fn state(&self, place: Place<'_>, by: Option<&VerifierKey>) -> AnchorState {
        match self.read(place) {
            Ok(Some(bytes)) => newest(&bytes, by),
            Ok(None) => AnchorState::Absent,
            Err(why) => AnchorState::Unreachable(why),
        }
    }

    /// What each anchor of the settings holds.
    pub fn states(&self, by: Option<&VerifierKey>) -> Vec<(String, AnchorState)> {
        self.configured().into_iter().map(|place| (place.name(), self.state(place, by))).collect()
    }
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

/// Reads one note, or the newest of an anchor's bytes.
pub fn at_hand(bytes: &[u8], by: &VerifierKey) -> Result<SignedCheckpoint, NoteError> {
    SignedCheckpoint::verify(bytes, by).or_else(|why| match newest(bytes, Some(by)) {
        AnchorState::Holds(signed) => Ok(*signed),
        AnchorState::Unusable(other) if !split_notes(bytes).0.is_empty() => Err(other),
        _ => Err(why),
    })
}
