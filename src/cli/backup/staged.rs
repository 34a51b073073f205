//! A backup until it is whole: a file without a name where that can be, so that nothing stays behind whatever ends us.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::engine::staging;

/// What a backup is written into (mode 0600).
#[derive(Debug)]
pub enum Staged {
    /// A file that no folder names yet.
    Unnamed(File),
    /// A file beside the one that it will replace; it is locked, so that the doctor takes it for no leftover.
    Named(NamedTempFile),
}

impl Staged {
    /// Makes one in the folder where the backup is to be: so that taking its place is one step.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(folder: &Path, force: bool) -> io::Result<Self> {
        // A file without a name takes a free place, and cannot replace what is there.
        if let Some(file) = unnamed(folder).filter(|_| !force) {
            return Ok(Self::Unnamed(file));
        }
        let named = tempfile::Builder::new().prefix(staging::BACKUP).tempfile_in(folder)?;
        // Without locks it may be taken for a leftover, and is removed by nobody.
        let _ = named.as_file().try_lock();
        Ok(Self::Named(named))
    }

    /// Its bytes.
    #[must_use]
    pub fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(named) => named.as_file(),
        }
    }

    /// Makes what was written durable, and gives it its name.
    ///
    /// # Errors
    /// What the system says; there is no file of that name then that was not there before.
    pub fn settle(self, path: &Path, folder: &Path, force: bool) -> io::Result<()> {
        self.file().sync_all()?;
        match self {
            Self::Unnamed(file) => link(&file, path)?,
            Self::Named(named) => {
                let persisted = if force { named.persist(path) } else { named.persist_noclobber(path) };
                persisted.map_err(|error| error.error)?;
            }
        }
        File::open(folder)?.sync_all()
    }
}

#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)?;
    // It is named through this link later on.
    descriptor(&file).exists().then_some(file)
}

#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    Ok(rustix::fs::linkat(CWD, descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_folder: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
