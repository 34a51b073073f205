//! A file with a secret in it: whole or not there, and nobody's but its owner's unless that was asked for.
//!
//! The bytes are written to a file without a name (`O_TMPFILE`), synced, and only then given one: a process
//! that is killed in between leaves nothing. A file system without nameless files gets a name beside the
//! target, which a kill may leave behind with mode 0600. Everything happens within the folder as it was
//! opened once, and no link is ever followed at the file's own name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::base::{OsRandom, Random};

/// Permissions of a file, as octal digits: `0600`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// Its owner's alone.
    pub const PRIVATE: Self = Self(0o600);

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for FileMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for FileMode {
    type Err = FileReason;

    fn from_str(text: &str) -> Result<Self, FileReason> {
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| digits && *bits <= 0o777);
        bits.map(Self).ok_or(FileReason::Mode)
    }
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {reason}")]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub reason: FileReason,
}

/// What stood in the way.
#[derive(Debug, thiserror::Error)]
pub enum FileReason {
    /// A mode that is none.
    #[error("a mode is three octal digits, for example 0600")]
    Mode,
    /// The path names no file.
    #[error("it names no file")]
    NoName,
    /// Something stands there already.
    #[error("it is there already")]
    Exists,
    /// A symbolic link stands there.
    #[error("a symbolic link stands there, and is not followed")]
    Link,
    /// Something other than a file stands there.
    #[error("what stands there is no regular file")]
    NotAFile,
    /// The file belongs to somebody else.
    #[error("the file there belongs to another user")]
    Foreign,
    /// The system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<Errno> for FileReason {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The file's mode: as asked for, without what a file that stood there did not allow.
    pub mode: FileMode,
    /// Whether it took another file's place.
    pub replaced: bool,
}

/// Writes a file whole. One that stands there is replaced only where that was asked for, where it is a regular
/// file of this user, and without becoming readable for more people than it was.
///
/// # Errors
/// [`FileError`]; what stood there stays then, and nothing else is left.
pub fn write_secret_file(path: &Path, bytes: &[u8], mode: FileMode, replace: bool) -> Result<Written, FileError> {
    write(path, bytes, mode, replace).map_err(|reason| FileError { path: path.to_owned(), reason })
}

/// Whether [`write_secret_file`] would be refused, as far as that can be known before there is anything to write.
///
/// # Errors
/// [`FileError`].
pub fn check_secret_file(path: &Path, replace: bool) -> Result<(), FileError> {
    let check = || {
        let (folder, name) = place(path)?;
        if standing(&folder, name)?.is_some() && !replace {
            return Err(FileReason::Exists);
        }
        rustix::fs::accessat(&folder, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
        Ok(())
    };
    check().map_err(|reason| FileError { path: path.to_owned(), reason })
}

/// The folder of a file, opened, and the file's name in it.
fn place(path: &Path) -> Result<(OwnedFd, &OsStr), FileReason> {
    let name = path.file_name().ok_or(FileReason::NoName)?;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(FileReason::NoName);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((folder, name))
}

fn write(path: &Path, bytes: &[u8], mode: FileMode, replace: bool) -> Result<Written, FileReason> {
    let (folder, name) = place(path)?;
    let mode = match standing(&folder, name)? {
        None => Written { mode, replaced: false },
        Some(_) if !replace => return Err(FileReason::Exists),
        Some(old) => Written { mode: FileMode(mode.bits() & old.bits()), replaced: true },
    };
    let mut fresh = Fresh::new(folder)?;
    fresh.file.write_all(bytes)?;
    rustix::fs::fchmod(&fresh.file, Mode::from_raw_mode(mode.mode.bits()))?;
    fresh.file.sync_all()?;
    fresh.publish(name, mode.replaced)?;
    Ok(mode)
}

/// The mode of the file that stands under a name, if one does; an error where it may not be replaced.
fn standing(folder: &OwnedFd, name: &OsStr) -> Result<Option<FileMode>, FileReason> {
    let found = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        found => found?,
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink => return Err(FileReason::Link),
        FileType::RegularFile => {}
        _ => return Err(FileReason::NotAFile),
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(FileReason::Foreign);
    }
    Ok(Some(FileMode(Mode::from_raw_mode(found.st_mode).bits() & 0o777)))
}

/// A file that is on its way: without a name, or with one that is taken back unless it is published.
struct Fresh {
    folder: OwnedFd,
    file: File,
    name: Option<OsString>,
}

impl Fresh {
    fn new(folder: OwnedFd) -> Result<Self, FileReason> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let private = Mode::from_raw_mode(0o600);
        match rustix::fs::openat(&folder, ".", flags | OFlags::TMPFILE, private) {
            Ok(file) => Ok(Self { folder, file: File::from(file), name: None }),
            // EISDIR: a kernel that does not know nameless files; ENOTSUP: a file system that does not.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = passing_name()?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&folder, &name, flags, private)?;
                Ok(Self { folder, file: File::from(file), name: Some(name) })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn link(&self, name: &OsStr) -> Result<(), Errno> {
        let nameless = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        rustix::fs::linkat(CWD, nameless, &self.folder, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Gives the file its name. Where nothing stood there, nothing that came meanwhile is replaced.
    fn publish(mut self, name: &OsStr, replace: bool) -> Result<(), FileReason> {
        let taken = |error: Errno| if error == Errno::EXIST { FileReason::Exists } else { error.into() };
        if replace {
            if self.name.is_none() {
                let passing = passing_name()?;
                self.link(&passing)?;
                self.name = Some(passing);
            }
            let passing = self.name.as_deref().unwrap_or_default();
            rustix::fs::renameat(&self.folder, passing, &self.folder, name)?;
            self.name = None;
        } else if let Some(passing) = &self.name {
            rustix::fs::linkat(&self.folder, passing, &self.folder, name, AtFlags::empty()).map_err(taken)?;
        } else {
            self.link(name).map_err(taken)?;
        }
        rustix::fs::fsync(&self.folder)?;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
        }
    }
}

fn passing_name() -> Result<OsString, FileReason> {
    let mut bytes = [0; 8];
    OsRandom.fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!(".new-{:016x}", u64::from_le_bytes(bytes)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_private_and_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let written = write_secret_file(&path, b"one", FileMode::PRIVATE, false).unwrap();
        assert_eq!((written.mode, written.replaced, mode(&path)), (FileMode::PRIVATE, false, 0o600));
        let again = write_secret_file(&path, b"two", FileMode::PRIVATE, false).unwrap_err();
        assert!(matches!(again.reason, FileReason::Exists), "{again}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        let written = write_secret_file(&path, b"three", "0644".parse().unwrap(), true).unwrap();
        assert_eq!((written.mode.bits(), written.replaced, mode(&path)), (0o400, true, 0o400), "it does not widen");
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(names(dir.path()), ["out"]);
        let wide = dir.path().join("wide");
        write_secret_file(&wide, b"x", "640".parse().unwrap(), false).unwrap();
        assert_eq!(mode(&wide), 0o640);
    }

    #[test]
    fn what_is_no_file_of_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "whole").unwrap();
        let link = dir.path().join("link");
        symlink(&victim, &link).unwrap();
        let dangling = dir.path().join("dangling");
        symlink(dir.path().join("none"), &dangling).unwrap();
        for path in [&link, &dangling] {
            for replace in [false, true] {
                let refused = write_secret_file(path, b"x", FileMode::PRIVATE, replace).unwrap_err();
                assert!(matches!(refused.reason, FileReason::Link), "{refused}");
            }
        }
        assert_eq!(std::fs::read(&victim).unwrap(), b"whole");
        let folder = write_secret_file(dir.path(), b"x", FileMode::PRIVATE, true).unwrap_err();
        assert!(matches!(folder.reason, FileReason::NotAFile), "{folder}");
        assert!(write_secret_file(Path::new("/"), b"x", FileMode::PRIVATE, true).is_err());
        let slash = dir.path().join("new/");
        assert!(matches!(
            write_secret_file(&slash, b"x", FileMode::PRIVATE, true).unwrap_err().reason,
            FileReason::NoName
        ));
        assert_eq!(names(dir.path()), ["dangling", "link", "victim"]);
    }

    #[test]
    fn a_name_for_the_time_being_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let open = || rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let named = |name: &str| Fresh {
            folder: open(),
            file: File::create(dir.path().join(name)).unwrap(),
            name: Some(name.into()),
        };
        drop(named(".new-1"));
        assert!(names(dir.path()).is_empty());
        named(".new-2").publish(OsStr::new("out"), false).unwrap();
        assert_eq!(names(dir.path()), ["out"], "the passing name is gone");
        assert!(matches!(named(".new-3").publish(OsStr::new("out"), false), Err(FileReason::Exists)));
        named(".new-4").publish(OsStr::new("out"), true).unwrap();
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn modes_are_octal_digits() {
        for bad in ["", "6", "0x1", "888", "01777", "4755", "-600", "+600", "00600"] {
            assert!(bad.parse::<FileMode>().is_err(), "{bad}");
        }
        assert_eq!("600".parse::<FileMode>().unwrap().to_string(), "0600");
    }
}
