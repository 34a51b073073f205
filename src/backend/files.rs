//! `encrypted_file`: a small file for each envelope, below `objects/` of the home.
//!
//! 256 folders keep each of them short; a put writes one new file and renames it, and touches no other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::{BackendKind, LedgerId, limits};
use crate::store::Medium;

use super::object;
use super::{BackendError, BlobBackend};

const FOLDERS: usize = 256;

/// Envelopes in files of their own.
#[derive(Debug)]
pub struct FileBackend {
    medium: Arc<dyn Medium>,
    root: PathBuf,
    ledger: LedgerId,
    /// Folders that are known to be there durably.
    made: Vec<AtomicBool>,
}

impl FileBackend {
    /// The objects of a ledger in the folder `root`, which is made when something is put there.
    #[must_use]
    pub fn new(medium: Arc<dyn Medium>, root: PathBuf, ledger: LedgerId) -> Self {
        Self { medium, root, ledger, made: (0..FOLDERS).map(|_| AtomicBool::new(false)).collect() }
    }

    fn folder(&self, slot: u64) -> PathBuf {
        self.root.join(format!("{:02x}", slot % FOLDERS as u64))
    }

    fn path(&self, slot: u64) -> PathBuf {
        self.folder(slot).join(format!("{slot:016x}.json"))
    }

    /// Makes the folder of a slot, durably. A name may be seen before it is durable (an earlier run was cut off
    /// between), so each run makes sure once.
    fn make_folder(&self, slot: u64) -> Result<(), BackendError> {
        let at = usize::try_from(slot % FOLDERS as u64).unwrap_or(0);
        let Some(made) = self.made.get(at) else { return Ok(()) };
        if made.load(Ordering::Acquire) {
            return Ok(());
        }
        self.medium.create_dir(&self.root)?;
        self.medium.sync_dir(self.root.parent().unwrap_or_else(|| Path::new(".")))?;
        self.medium.create_dir(&self.folder(slot))?;
        self.medium.sync_dir(&self.root)?;
        made.store(true, Ordering::Release);
        Ok(())
    }
}

/// The slot that a file's name stands for.
fn slot_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    let slot = u64::from_str_radix(digits, 16).ok()?;
    (format!("{slot:016x}") == digits).then_some(slot)
}

impl BlobBackend for FileBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::EncryptedFile
    }

    fn probe(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn put(&self, slot: u64, envelope: &[u8]) -> Result<(), BackendError> {
        self.make_folder(slot)?;
        Ok(self.medium.write_atomic(&self.path(slot), &object::encode(self.ledger, slot, envelope))?)
    }

    fn get(&self, slot: u64) -> Result<Option<Vec<u8>>, BackendError> {
        let path = self.path(slot);
        let bytes = match self.medium.read_all(&path, limits::OBJECT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.source.kind() == std::io::ErrorKind::InvalidData => {
                return Err(BackendError::Damaged { path, what: "it is larger than any object" });
            }
            Err(error) => return Err(error.into()),
        };
        match object::decode(self.ledger, slot, &bytes) {
            Ok(envelope) => Ok(Some(envelope)),
            Err(fault) => Err(BackendError::Damaged { path, what: fault.what() }),
        }
    }

    fn delete(&self, slot: u64) -> Result<(), BackendError> {
        match self.medium.remove(&self.path(slot)) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(self.medium.sync_dir(&self.folder(slot))?),
        }
    }

    fn list(&self) -> Result<Option<Vec<u64>>, BackendError> {
        let mut slots = Vec::new();
        if !self.medium.exists(&self.root)? {
            return Ok(Some(slots));
        }
        for folder in self.medium.list(&self.root)? {
            // What lies elsewhere than its slot says is not ours to judge.
            if (0..FOLDERS as u64).any(|number| folder == format!("{number:02x}")) {
                let path = self.root.join(folder);
                let names = self.medium.list(&path)?;
                slots.extend(names.iter().filter_map(|name| slot_of(name)).filter(|slot| self.folder(*slot) == path));
            }
        }
        slots.sort_unstable();
        Ok(Some(slots))
    }
}
