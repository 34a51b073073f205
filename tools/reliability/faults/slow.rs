//! A disk that is slow and does not fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palyra_ledger::store::{Medium, MediumFile, OpenMode, StoreError};
use palyra_ledger::testing::SimDisk;

/// What a storage call takes, in milliseconds: these in turn.
const EACH_MS: [u64; 4] = [1, 2, 1, 4];
/// What one of them takes.
const LONG: Duration = Duration::from_secs(3);

/// A simulated disk whose calls take their time.
#[derive(Debug, Clone)]
pub struct Slow {
    inner: SimDisk,
    pace: Arc<Pace>,
}

#[derive(Debug)]
struct Pace {
    calls: AtomicU64,
    long: u64,
}

impl Slow {
    /// The call of this number, from 1, takes long.
    pub fn new(inner: SimDisk, long: u64) -> Self {
        Self { inner, pace: Arc::new(Pace { calls: AtomicU64::new(0), long }) }
    }

    /// Whether the one call was made that takes long.
    pub fn took_long(&self) -> bool {
        self.pace.calls.load(Ordering::Relaxed) >= self.pace.long
    }
}

impl Pace {
    fn wait(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let each = usize::try_from(call).ok().and_then(|call| EACH_MS.get(call % EACH_MS.len())).copied();
        std::thread::sleep(if call == self.long { LONG } else { Duration::from_millis(each.unwrap_or(1)) });
    }
}

struct File {
    inner: Box<dyn MediumFile>,
    pace: Arc<Pace>,
}

impl Medium for Slow {
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
        self.pace.wait();
        self.inner.append(path, bytes)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        self.pace.wait();
        Ok(Box::new(File { inner: self.inner.open(path, mode)?, pace: Arc::clone(&self.pace) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.pace.wait();
        self.inner.list(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        self.pace.wait();
        self.inner.exists(path)
    }
}

impl MediumFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.pace.wait();
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.set_len(len)
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.pace.wait();
        self.inner.len()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.pace.wait();
        self.inner.sync()
    }
}
