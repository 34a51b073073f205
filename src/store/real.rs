//! The operating system's file system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Medium, MediumFile, OpenMode, StoreError, StoreOp};

/// The operating system's file system: files mode 0600, folders mode 0700, no symbolic link
/// followed at the last component.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealMedium;

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealMedium {
    /// A file that is open already.
    pub(crate) fn opened(file: File, path: &Path) -> Box<dyn MediumFile> {
        Box::new(RealFile { file, path: path.to_owned() })
    }
}

impl Medium for RealMedium {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(careful());
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true).mode(0o600);
            }
        }
        let file = options.open(path).and_then(plain).map_err(|error| StoreError::new(StoreOp::Open, path, error))?;
        Ok(Box::new(RealFile { file, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        std::fs::rename(from, to).map_err(|error| StoreError::new(StoreOp::Rename, to, error))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        std::fs::remove_file(path).map_err(|error| StoreError::new(StoreOp::Remove, path, error))
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(|error| StoreError::new(StoreOp::Folder, path, error)),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::new(StoreOp::Sync, path, error))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        let failed = |error| StoreError::new(StoreOp::Folder, path, error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
        let failed = |error| StoreError::new(StoreOp::Write, path, error);
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(careful());
        let mut file =
            options.open(path).and_then(plain).map_err(|error| StoreError::new(StoreOp::Open, path, error))?;
        // One write: with O_APPEND the kernel puts the bytes of one call behind each other.
        io::Write::write_all(&mut file, bytes).map_err(failed)?;
        file.metadata().map(|meta| meta.len()).map_err(failed)
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::new(StoreOp::Open, path, error)),
        }
    }
}

/// No symbolic link at the last component, and no waiting for the other end of a pipe.
fn careful() -> i32 {
    i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0)
}

/// A pipe or a device in a file's place would be waited for without end.
fn plain(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file"))
    }
}

impl RealFile {
    fn failed(&self, op: StoreOp) -> impl FnOnce(io::Error) -> StoreError + '_ {
        move |error| StoreError::new(op, &self.path, error)
    }
}

impl MediumFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(StoreOp::Read)(error)),
            }
        }
        Ok(done)
    }

    /// Into the buffer's spare capacity: zeroing it first costs nearly as much as the copy from the page cache.
    fn read_more(&self, offset: u64, want: usize, buffer: &mut Vec<u8>) -> Result<usize, StoreError> {
        let left = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let have = buffer.len();
        let end = have.saturating_add(want.min(left));
        buffer.reserve_exact(end - have);
        while buffer.len() < end {
            let at = offset + (buffer.len() - have) as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    buffer.truncate(have);
                    return Err(self.failed(StoreOp::Read)(error.into()));
                }
            }
        }
        buffer.truncate(end);
        Ok(buffer.len() - have)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed(StoreOp::Write))
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        self.file.set_len(len).map_err(self.failed(StoreOp::Truncate))
    }

    fn len(&self) -> Result<u64, StoreError> {
        let facts = self.file.metadata().map_err(self.failed(StoreOp::Read))?;
        if facts.file_type().is_block_device() {
            return io::Seek::seek(&mut &self.file, io::SeekFrom::End(0)).map_err(self.failed(StoreOp::Read));
        }
        Ok(facts.len())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(self.failed(StoreOp::Sync))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_or_a_folder_in_a_files_place_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), dir.path()] {
            for mode in [OpenMode::Read, OpenMode::ReadWrite] {
                assert!(RealMedium.open(path, mode).is_err(), "{mode:?}");
            }
            assert!(RealMedium.read_all(path, 10).is_err() && RealMedium.append(path, b"x").is_err());
        }
    }
}
