//! Storage: the small trait behind which every file of a ledger lives, and the sled copy.
//!
//! Everything that must survive a power cut goes through [`Medium`]: the journal, the head file,
//! the key ring, the key table and the index. Tests put disks there that fail, tear and forget
//! ([`crate::testing`]); a replicated engine can stand there later. sled does its own I/O, so it
//! stands behind [`Witness`], one storey up, and is never trusted alone.

mod real;
mod sled_files;
mod sled_pack;
mod sled_witness;
mod witness;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use real::RealMedium;
#[doc(hidden)]
pub use sled_pack::fuzz_sled_value;
pub use sled_witness::{SledWitness, inside_sled};
pub use witness::{
    Inconsistency, MemoryWitness, SPREAD_SAMPLES, TailCheck, Witness, WitnessError, WitnessOp, check_tail,
};

/// What a storage operation was about to do, for an error a person can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOp {
    /// Opening or creating a file.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Forcing data to the medium.
    Sync,
    /// Cutting a file.
    Truncate,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Listing or making a folder.
    Folder,
    /// Copying evidence aside.
    Copy,
}

impl fmt::Display for StoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Folder => "use folder",
            Self::Copy => "copy",
        })
    }
}

/// A failed storage operation: what, on which path, and the system's own error.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct StoreError {
    /// What was attempted.
    pub op: StoreOp,
    /// On which path.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl StoreError {
    /// Wraps a system error.
    #[must_use]
    pub fn new(op: StoreOp, path: &Path, source: io::Error) -> Self {
        Self { op, path: path.to_owned(), source }
    }

    /// Whether the path was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it must not exist (mode 0600).
    CreateNew,
}

/// A file system as the ledger needs it. Paths are absolute or relative as the caller gave them;
/// symbolic links are not followed at the last component.
pub trait Medium: Send + Sync + fmt::Debug + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError>;
    /// Renames a file or folder over whatever file stands at `to`; atomic, durable after
    /// [`Medium::sync_dir`] of the folder.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError>;
    /// Removes a file; durable after [`Medium::sync_dir`].
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn remove(&self, path: &Path) -> Result<(), StoreError>;
    /// Makes a folder (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn create_dir(&self, path: &Path) -> Result<(), StoreError>;
    /// Makes a folder's entries durable.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn sync_dir(&self, path: &Path) -> Result<(), StoreError>;
    /// The names in a folder, sorted; names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError>;
    /// Whether something stands at the path.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error, other than "not found".
    fn exists(&self, path: &Path) -> Result<bool, StoreError>;

    /// Reads a whole file of at most `max` bytes.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error, or `InvalidData` where the file is larger.
    fn read_all(&self, path: &Path, max: u64) -> Result<Vec<u8>, StoreError> {
        let file = self.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > max {
            let source =
                io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes where at most {max} are expected"));
            return Err(StoreError::new(StoreOp::Read, path, source));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let got = file.read_at(0, &mut bytes)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Appends bytes in one write, making the file (mode 0600) if it is not there; returns the
    /// file's length then. Several processes may append at once; nothing is synced.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, StoreError>;

    /// Writes a whole file so that a crash leaves either the old or the new one: temporary file,
    /// sync, rename, sync of the folder.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error; the old file then still stands.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let staged = path.with_file_name(name);
        if self.exists(&staged)? {
            self.remove(&staged)?;
        }
        let file = self.open(&staged, OpenMode::CreateNew)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        drop(file);
        self.rename(&staged, path)?;
        self.sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))
    }
}

/// Where the bytes of an append begin and the file then ends is the medium's to say.
pub(crate) fn append_by_length(medium: &dyn Medium, path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
    let mode = if medium.exists(path)? { OpenMode::ReadWrite } else { OpenMode::CreateNew };
    let file = medium.open(path, mode)?;
    let len = file.len()?;
    file.write_at(len, bytes)?;
    Ok(len + bytes.len() as u64)
}

/// An open file.
pub trait MediumFile: Send + Sync {
    /// Reads at an offset until the buffer is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError>;
    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error; some bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError>;
    /// Sets the length, cutting or filling with zeros.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn set_len(&self, len: u64) -> Result<(), StoreError>;
    /// Length in bytes.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn len(&self) -> Result<u64, StoreError>;

    /// Adds to `buffer` what stands from `offset` on, `want` bytes at most, and says how many these were. The length
    /// is asked for first, so that a short file never costs a long buffer.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read; `buffer` is as long as before then.
    fn read_more(&self, offset: u64, want: usize, buffer: &mut Vec<u8>) -> Result<usize, StoreError> {
        let left = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let have = buffer.len();
        buffer.resize(have + want.min(left), 0);
        let read = self.read_at(offset, buffer.get_mut(have..).unwrap_or_default());
        buffer.truncate(have + read.as_ref().map_or(0, |got| *got));
        read
    }
    /// Whether the file is empty.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }
    /// Makes the data durable (`fdatasync(2)`: data, and the size where it changed). After an error
    /// the caller must write no more through this medium: a second sync may succeed though
    /// data was dropped.
    ///
    /// # Errors
    /// [`StoreError`] with the system's error.
    fn sync(&self) -> Result<(), StoreError>;
}
