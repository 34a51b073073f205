//! What bytes are, by their first ones and, for a folder, by what lies in it. Needs no key.

use std::path::Path;

use serde::Serialize;

use crate::log::frame::{self, Frame, FrameError, Header};
use crate::log::segment;
use crate::store::{Medium, OpenMode, StoreError};

/// Bytes at the front of a file that are looked at.
const FRONT: usize = 8 * 1024;

/// What a file or folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A ledger's home.
    Home,
    /// A folder of segments.
    Journal,
    /// The folder of sled, the second copy.
    Sled,
    /// The projection's folder.
    Index,
    /// The folder of the key ring, key files and key table.
    Keys,
    /// The folder of sealed objects.
    Objects,
    /// The folder of signed checkpoints.
    Checkpoints,
    /// The folder of what was set aside.
    Quarantine,
    /// A segment of the journal.
    Segment,
    /// One frame.
    Frame,
    /// A key ring.
    KeyRing,
    /// A key file: whoever reads it can open what its slot opens.
    KeyFile,
    /// One copy of a key table.
    KeyTable,
    /// A head file.
    Head,
    /// A signed note: a checkpoint.
    Note,
    /// A backup.
    Backup,
    /// A bundle of evidence.
    Bundle,
    /// A file of the projection.
    IndexFile,
    /// Settings.
    Settings,
    /// A marker file.
    Marker,
    /// A file of sled.
    SledFile,
    /// An empty file.
    Empty,
    /// Something else; frames may still be in it.
    Unknown,
}

impl What {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// What a folder is.
///
/// # Errors
/// [`StoreError`] where it cannot be listed.
pub fn folder(medium: &dyn Medium, path: &Path) -> Result<What, StoreError> {
    let names = medium.list(path)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    let segments = names.iter().any(|name| segment::parse_file_name(name).is_some());
    let own_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(if has("journal") || (has("format") && has("keys")) {
        What::Home
    } else if segments {
        What::Journal
    } else if has("conf") && has("db") {
        What::Sled
    } else if has("keyring") {
        What::Keys
    } else if has("MANIFEST") {
        What::Index
    } else {
        match own_name {
            "quarantine" => What::Quarantine,
            "checkpoints" => What::Checkpoints,
            "objects" => What::Objects,
            "journal" => What::Journal,
            "sled" => What::Sled,
            "index" => What::Index,
            "keys" => What::Keys,
            _ => What::Unknown,
        }
    })
}

/// What a file is, by its first bytes; its name only tells apart what has no magic.
///
/// # Errors
/// [`StoreError`] where it cannot be read.
pub fn file(medium: &dyn Medium, path: &Path) -> Result<What, StoreError> {
    let file = medium.open(path, OpenMode::Read)?;
    let mut front = vec![0; FRONT];
    let got = file.read_at(0, &mut front)?;
    front.truncate(got);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let in_sled = path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "sled" || folder == "blobs");
    Ok(match bytes(&front) {
        What::Unknown if in_sled || matches!(name, "db" | "conf") || name.starts_with("snap.") => What::SledFile,
        What::Unknown if matches!(name, "format" | "backend.kind") => What::Marker,
        What::Unknown if name == "config.toml" => What::Settings,
        what => what,
    })
}

/// What bytes are, by the first ones.
#[must_use]
pub fn bytes(front: &[u8]) -> What {
    let Some(magic) = front.first_chunk::<4>() else {
        return if front.is_empty() { What::Empty } else { What::Unknown };
    };
    match magic {
        b"PLSG" => What::Segment,
        b"PLKR" => What::KeyRing,
        b"PLKF" => What::KeyFile,
        b"PLKT" => What::KeyTable,
        b"PLHD" => What::Head,
        b"PLBK" => What::Backup,
        b"PLBN" => What::Bundle,
        b"PLIX" | b"PLIM" => What::IndexFile,
        magic if *magic == frame::MAGIC => What::Frame,
        // The first of a head file's two records may be one that was never written.
        [0, 0, 0, 0] if front.get(4096..).is_some_and(|second| second.starts_with(b"PLHD")) => What::Head,
        _ if front.starts_with(b"palyra-ledger/")
            && front.windows(4).any(|four| four == "\n\n\u{2014}".as_bytes().get(..4).unwrap_or_default()) =>
        {
            What::Note
        }
        _ if front.starts_with(b"palyra-ledger ") => What::Marker,
        _ => What::Unknown,
    }
}

/// One frame in a file of its own: its header, and whether its hash matches; [`FrameError`] where it is
/// no frame at all.
///
/// # Errors
/// [`FrameError`].
pub fn frame_of(bytes: &[u8]) -> Result<(Header, Option<Frame<'_>>), FrameError> {
    let header = Header::parse(bytes)?;
    Ok((header, Frame::parse(bytes).ok()))
}
