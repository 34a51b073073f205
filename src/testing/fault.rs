//! A medium whose n-th operation fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::store::{Medium, MediumFile, OpenMode, StoreError, StoreOp, append_by_length};

/// Which operations a fault looks at, and under which heading one is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultOp {
    /// Every operation, reading ones too.
    Any,
    /// Every operation that may change the medium: all but opening what exists, and reading.
    Change,
    /// Opening an existing file.
    Open,
    /// Making a file or a folder.
    Create,
    /// Reading bytes, lengths, lists and existence.
    Read,
    /// Writing bytes.
    Write,
    /// Setting a length.
    Truncate,
    /// Syncing a file or a folder.
    Sync,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
}

impl FaultOp {
    fn covers(self, op: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Change => !matches!(op, Self::Open | Self::Read),
            other => other == op,
        }
    }
}

/// The system's error that a fault shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// EIO: the device failed.
    Io,
    /// ENOSPC: no space is left.
    NoSpace,
    /// EROFS: the file system went read-only.
    ReadOnly,
    /// EMFILE: too many open files.
    TooManyFiles,
}

impl From<FaultError> for io::Error {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Io => Errno::IO,
            FaultError::NoSpace => Errno::NOSPC,
            FaultError::ReadOnly => Errno::ROFS,
            FaultError::TooManyFiles => Errno::MFILE,
        }
        .into()
    }
}

/// One planned failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which operations are counted for it.
    pub op: FaultOp,
    /// The one that fails, from 1, counted since the fault was planned.
    pub nth: u64,
    /// With which error.
    pub error: FaultError,
    /// Whether every later operation that it covers fails, too.
    pub sticky: bool,
    /// Whether a failing write leaves the first half of its bytes (rounded down) behind.
    pub short_write: bool,
}

impl Fault {
    /// The n-th such operation fails once and does nothing.
    #[must_use]
    pub const fn once(op: FaultOp, nth: u64, error: FaultError) -> Self {
        Self { op, nth, error, sticky: false, short_write: false }
    }

    /// The n-th such operation and all later ones fail and do nothing.
    #[must_use]
    pub const fn from_then_on(op: FaultOp, nth: u64, error: FaultError) -> Self {
        Self { op, nth, error, sticky: true, short_write: false }
    }

    /// The same fault; a failing write leaves half of its bytes behind.
    #[must_use]
    pub const fn with_short_write(mut self) -> Self {
        self.short_write = true;
        self
    }
}

/// Something that was done after a sync had failed and before [`FaultMedium::forgive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was done: a write, a truncation, a sync or a rename.
    pub op: FaultOp,
    /// On which path.
    pub path: PathBuf,
    /// The path whose sync had failed.
    pub after_failed_sync_of: PathBuf,
}

/// Wraps a medium, counts its operations and lets planned ones fail. Clones share everything.
///
/// A sweep plans `nth = 1, 2, ...` on a fresh medium each time until [`FaultMedium::fired`] stays 0.
/// Whoever writes, syncs or renames after a failed sync is noted: a second sync may succeed though
/// data was dropped, so nobody may try.
#[derive(Clone)]
pub struct FaultMedium<M> {
    inner: M,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Debug, Default)]
struct Ledger {
    counts: Vec<(FaultOp, u64)>,
    faults: Vec<(Fault, u64)>,
    fired: u64,
    failed_sync: Option<PathBuf>,
    violations: Vec<Violation>,
}

/// What a fault does to the operation at hand.
struct Hit {
    error: io::Error,
    short_write: bool,
}

impl Ledger {
    fn meet(&mut self, op: FaultOp, path: &Path) -> Option<Hit> {
        match self.counts.iter_mut().find(|(counted, _)| *counted == op) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((op, 1)),
        }
        let publishes = matches!(op, FaultOp::Write | FaultOp::Truncate | FaultOp::Sync | FaultOp::Rename);
        if let (true, Some(failed)) = (publishes, &self.failed_sync) {
            let after_failed_sync_of = failed.clone();
            self.violations.push(Violation { op, path: path.to_owned(), after_failed_sync_of });
        }
        let mut hit = None;
        for (fault, seen) in self.faults.iter_mut().filter(|(fault, _)| fault.op.covers(op)) {
            *seen += 1;
            if *seen == fault.nth || (fault.sticky && *seen > fault.nth) {
                hit = Some(Hit { error: fault.error.into(), short_write: fault.short_write });
            }
        }
        if hit.is_some() {
            self.fired += 1;
            self.note_failure(op, path);
        }
        hit
    }

    fn note_failure(&mut self, op: FaultOp, path: &Path) {
        if op == FaultOp::Sync && self.failed_sync.is_none() {
            self.failed_sync = Some(path.to_owned());
        }
    }
}

impl<M> FaultMedium<M> {
    /// Wraps a medium; nothing fails yet.
    #[must_use]
    pub fn new(inner: M) -> Self {
        Self { inner, ledger: Arc::default() }
    }

    /// The wrapped medium.
    #[must_use]
    pub const fn inner(&self) -> &M {
        &self.inner
    }

    /// Adds a failure to the plan; its count starts now.
    pub fn plan(&self, fault: Fault) {
        self.ledger().faults.push((fault, 0));
    }

    /// Drops the plan: nothing fails any more. Counters and violations stay.
    pub fn clear_plan(&self) {
        self.ledger().faults.clear();
    }

    /// Operations of a kind so far, failed ones too.
    #[must_use]
    pub fn count(&self, op: FaultOp) -> u64 {
        self.ledger().counts.iter().filter(|(counted, _)| op.covers(*counted)).map(|(_, count)| count).sum()
    }

    /// Planned failures that happened.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.ledger().fired
    }

    /// What was written, truncated, synced or renamed after a sync had failed.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.ledger().violations.clone()
    }

    /// Says that whoever met the failed sync is gone and that a new reader starts from what the
    /// medium holds: what follows is no violation.
    pub fn forgive(&self) {
        self.ledger().failed_sync = None;
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }
}

impl<M: Medium> FaultMedium<M> {
    fn step<T>(
        &self,
        (op, as_op): (FaultOp, StoreOp),
        path: &Path,
        work: impl FnOnce(&M) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        step(&self.ledger, (op, as_op), path, || work(&self.inner))
    }
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn step<T>(
    ledger: &Mutex<Ledger>,
    (op, as_op): (FaultOp, StoreOp),
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    if let Some(hit) = locked(ledger).meet(op, path) {
        return Err(StoreError::new(as_op, path, hit.error));
    }
    work().inspect_err(|_| locked(ledger).note_failure(op, path))
}

impl<M: fmt::Debug> fmt::Debug for FaultMedium<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultMedium").field("inner", &self.inner).field("ledger", &*self.ledger()).finish()
    }
}

struct FaultFile {
    inner: Box<dyn MediumFile>,
    ledger: Arc<Mutex<Ledger>>,
    path: PathBuf,
}

impl<M: Medium> Medium for FaultMedium<M> {
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
        append_by_length(self, path, bytes)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        let op = if mode == OpenMode::CreateNew { FaultOp::Create } else { FaultOp::Open };
        let inner = self.step((op, StoreOp::Open), path, |medium| medium.open(path, mode))?;
        Ok(Box::new(FaultFile { inner, ledger: Arc::clone(&self.ledger), path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.step((FaultOp::Rename, StoreOp::Rename), to, |medium| medium.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.step((FaultOp::Remove, StoreOp::Remove), path, |medium| medium.remove(path))
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.step((FaultOp::Create, StoreOp::Folder), path, |medium| medium.create_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.step((FaultOp::Sync, StoreOp::Sync), path, |medium| medium.sync_dir(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.step((FaultOp::Read, StoreOp::Folder), path, |medium| medium.list(path))
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        self.step((FaultOp::Read, StoreOp::Open), path, |medium| medium.exists(path))
    }
}

impl MediumFile for FaultFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        step(&self.ledger, (FaultOp::Read, StoreOp::Read), &self.path, || self.inner.read_at(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let hit = locked(&self.ledger).meet(FaultOp::Write, &self.path);
        match hit {
            None => self.inner.write_at(offset, bytes),
            Some(hit) => {
                if let (true, Some((half, _))) = (hit.short_write, bytes.split_at_checked(bytes.len() / 2)) {
                    self.inner.write_at(offset, half)?;
                }
                Err(StoreError::new(StoreOp::Write, &self.path, hit.error))
            }
        }
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        step(&self.ledger, (FaultOp::Truncate, StoreOp::Truncate), &self.path, || self.inner.set_len(len))
    }

    fn len(&self) -> Result<u64, StoreError> {
        step(&self.ledger, (FaultOp::Read, StoreOp::Read), &self.path, || self.inner.len())
    }

    fn sync(&self) -> Result<(), StoreError> {
        step(&self.ledger, (FaultOp::Sync, StoreOp::Sync), &self.path, || self.inner.sync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SimDisk;

    const PATH: &str = "/head";

    fn disk_with_old() -> SimDisk {
        let disk = SimDisk::new();
        disk.put(Path::new(PATH), b"old").unwrap();
        disk
    }

    #[test]
    fn every_operation_of_an_atomic_write_can_fail_and_the_old_file_or_the_new_one_stands() {
        for error in [FaultError::Io, FaultError::NoSpace, FaultError::ReadOnly, FaultError::TooManyFiles] {
            for (sticky, short_write) in [(false, false), (true, false), (false, true)] {
                let mut nth = 0;
                loop {
                    nth += 1;
                    let medium = FaultMedium::new(disk_with_old());
                    medium.plan(Fault { op: FaultOp::Any, nth, error, sticky, short_write });
                    let done = medium.write_atomic(Path::new(PATH), b"new!");
                    assert_eq!(medium.violations(), [], "n={nth}");
                    for crashed in medium.inner().crashes(20) {
                        let left = crashed.contents(Path::new(PATH)).unwrap();
                        assert!(left == b"new!" || (left == b"old" && done.is_err()), "n={nth}: {left:?}");
                    }
                    if medium.fired() == 0 {
                        done.unwrap();
                        break;
                    }
                    let refused = done.unwrap_err();
                    assert_eq!(refused.source.raw_os_error(), io::Error::from(error).raw_os_error());
                }
                assert_eq!(nth, 7, "six operations, then a run without a failure");
            }
        }
    }

    #[test]
    fn a_short_write_leaves_half_of_the_bytes() {
        let medium = FaultMedium::new(SimDisk::new());
        let file = medium.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
        medium.plan(Fault::once(FaultOp::Write, 2, FaultError::NoSpace).with_short_write());
        file.write_at(0, b"0123").unwrap();
        assert!(file.write_at(4, b"456789a").is_err());
        assert_eq!(medium.inner().contents(Path::new("/f")).unwrap(), b"0123456");
        assert_eq!((medium.count(FaultOp::Write), medium.count(FaultOp::Change), medium.fired()), (2, 3, 1));
    }

    #[test]
    fn whoever_goes_on_after_a_failed_sync_is_noted() {
        let medium = FaultMedium::new(SimDisk::new());
        let path = Path::new("/f");
        let file = medium.open(path, OpenMode::CreateNew).unwrap();
        file.write_at(0, b"x").unwrap();
        medium.plan(Fault::once(FaultOp::Sync, 1, FaultError::Io));
        assert!(file.sync().is_err());
        assert_eq!(medium.violations(), []);
        file.sync().unwrap();
        medium.sync_dir(Path::new("/")).unwrap();
        let after_failed_sync_of = path.to_owned();
        assert_eq!(medium.violations().len(), 2);
        assert_eq!(
            medium.violations().first(),
            Some(&Violation { op: FaultOp::Sync, path: path.to_owned(), after_failed_sync_of })
        );
        medium.forgive();
        file.sync().unwrap();
        assert_eq!(medium.violations().len(), 2);
    }

    #[test]
    fn a_sticky_fault_lets_uncovered_operations_pass() {
        let medium = FaultMedium::new(disk_with_old());
        medium.plan(Fault::from_then_on(FaultOp::Change, 1, FaultError::ReadOnly));
        assert!(medium.create_dir(Path::new("/d")).is_err());
        assert!(medium.remove(Path::new(PATH)).is_err());
        assert_eq!(medium.read_all(Path::new(PATH), 10).unwrap(), b"old");
        medium.clear_plan();
        medium.create_dir(Path::new("/d")).unwrap();
    }
}
