//! What stands beside the thing that it will become: a home that is being made, a backup that is not whole.
//!
//! Whoever fills it holds a lock on it (`flock(2)`), which goes with the process: what bears such a name and is not
//! held is a leftover. That of a restore may hold a key ring and the key file that opens it, so the next one beside it
//! takes it away.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Begins the name of a home that `init` makes.
pub const INIT: &str = ".palyra-init-";
/// Begins the name of a home that a restore makes.
pub const RESTORE: &str = ".palyra-restore-";
/// Begins the name of a backup that is being written.
pub const BACKUP: &str = ".palyra-backup-";

/// Something that is being filled; others leave it alone as long as this lives.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

fn open(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(no_follow).open(path)
}

/// Holds a folder or a file that this process fills. None where the file system has no locks: nobody sweeps there.
pub fn hold(path: &Path) -> Option<Held> {
    let file = open(path).ok()?;
    file.try_lock().ok()?;
    Some(Held { _file: file })
}

/// Whether somebody fills it.
pub fn is_held(path: &Path) -> bool {
    open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Removes what interrupted restores left in a folder. An empty one stays: it may be one that is not held yet.
pub fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| is_restore(&entry.file_name().to_string_lossy())) {
        let path = entry.path();
        let ours = std::fs::symlink_metadata(&path)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
        let is_empty = std::fs::read_dir(&path).is_ok_and(|mut inside| inside.next().is_none());
        if let (true, false, Some(_held)) = (ours, is_empty, hold(&path)) {
            // Best effort: what stays is named by the doctor.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Whether a name is one that a restore gives: somebody else's folder is not taken for one.
fn is_restore(name: &str) -> bool {
    name.strip_prefix(RESTORE)
        .is_some_and(|random| random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_interrupted_restore_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, full: bool| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            if full {
                std::fs::create_dir(path.join("keys")).unwrap();
                std::fs::write(path.join("keys/root.key"), b"key").unwrap();
            }
            path
        };
        let name = |digit: &str| format!("{RESTORE}{}", digit.repeat(32));
        let (left, running, empty) = (make(&name("1"), true), make(&name("2"), true), make(&name("3"), false));
        let (other, init) = (make(".palyra-restore-notes", true), make(".palyra-init-1", true));
        let link = dir.path().join(name("4"));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let held = hold(&running).unwrap();
        assert!(is_held(&running) && !is_held(&left));
        sweep(dir.path());
        assert!(!left.exists());
        for path in [&running, &empty, &other, &other.join("keys/root.key"), &init, &link] {
            assert!(path.exists(), "{}", path.display());
        }
        drop(held);
        assert!(!is_held(&running));
        sweep(dir.path());
        assert!(!running.exists());
    }
}
