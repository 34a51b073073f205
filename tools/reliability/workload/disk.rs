//! A planted fault: a disk that says that it synced.

use std::path::Path;

use palyra_ledger::store::{Medium, MediumFile, OpenMode, StoreError};
use palyra_ledger::testing::SimDisk;

/// The simulated disk; where it `lies`, syncing a file does nothing.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The disk.
    pub inner: SimDisk,
    /// Whether it lies.
    pub lies: bool,
}

struct File {
    inner: Box<dyn MediumFile>,
    lies: bool,
}

impl Medium for Disk {
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
        self.inner.append(path, bytes)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        Ok(Box::new(File { inner: self.inner.open(path, mode)?, lies: self.lies }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.inner.list(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        self.inner.exists(path)
    }
}

impl MediumFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        self.inner.set_len(len)
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.inner.len()
    }

    fn sync(&self) -> Result<(), StoreError> {
        if self.lies { Ok(()) } else { self.inner.sync() }
    }
}
