//! One writer or many readers: an advisory lock on a file in the home, with the owner's pid in it.
//!
//! The lock is the kernel's (`flock(2)`): it goes with its process, so no stale lock can stay behind.
//! The pid in the file is for people; whether it is current is decided by the lock alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the ledger is in use by process {}", owner.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string()))]
    InUse {
        /// Its process id, where it can be told.
        owner: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Takes the lock, waiting up to `wait` for other processes.
    ///
    /// # Errors
    /// [`LockError::InUse`] with the owner's pid after the wait.
    pub fn take(path: &Path, exclusive: bool, wait: Duration) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600).custom_flags(no_follow());
        let opened = match options.clone().write(true).create(true).open(path) {
            // A reader on a read-only file system locks the file as it is.
            Err(_) if !exclusive => options.open(path),
            other => other,
        };
        let mut file = opened.map_err(failed)?;
        let deadline = Instant::now() + wait;
        let mut pause = Duration::from_millis(1);
        loop {
            let tried = if exclusive { file.try_lock() } else { file.try_lock_shared() };
            match tried {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(LockError::InUse { owner: owner(&mut file) });
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(25));
                }
            }
        }
        if exclusive {
            let text = std::process::id().to_string();
            file.set_len(0).map_err(failed)?;
            file.rewind().map_err(failed)?;
            file.write_all(text.as_bytes()).map_err(failed)?;
        }
        Ok(Self { _file: file })
    }
}

fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

/// The pid of a process that holds the lock: from the kernel's table, else from the file.
fn owner(file: &mut File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    let from_kernel = std::fs::read_to_string("/proc/locks").ok().and_then(|table| {
        table.lines().find_map(|line| {
            // "1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF"
            let mut fields = line.split_whitespace();
            let kind = fields.nth(1)?;
            let pid = fields.nth(2)?;
            let place = fields.next()?;
            (kind == "FLOCK" && place.rsplit(':').next() == Some(inode.to_string().as_str()))
                .then(|| pid.parse().ok())?
        })
    });
    from_kernel.or_else(|| {
        let mut text = String::new();
        file.rewind().ok()?;
        file.take(16).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let writer = HomeLock::take(&path, true, Duration::ZERO).unwrap();
        for exclusive in [true, false] {
            match HomeLock::take(&path, exclusive, Duration::ZERO) {
                Err(LockError::InUse { owner }) => assert_eq!(owner, Some(std::process::id())),
                other => panic!("{other:?}"),
            }
        }
        drop(writer);
        let first = HomeLock::take(&path, false, Duration::ZERO).unwrap();
        let second = HomeLock::take(&path, false, Duration::ZERO).unwrap();
        assert!(HomeLock::take(&path, true, Duration::from_millis(5)).is_err());
        drop((first, second));
        HomeLock::take(&path, true, Duration::ZERO).unwrap();
    }
}
