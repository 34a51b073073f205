//! Evidence: files that are read and never changed, by construction.
//!
//! An [`Evidence`] is a [`Medium`] that refuses to write. It opens files for reading only, without touching
//! the time of last access where the system allows that, never through a symbolic link below its root,
//! and never blocks on what is no file. Paths in it are relative to its root, so that what is reported
//! about the same evidence is the same wherever it lies.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use crate::base::Timestamp;
use crate::crypto::{FileDigest, Hash};
use crate::store::{Medium, MediumFile, OpenMode, RealMedium, StoreError, StoreOp};

/// The name that the standard input goes by.
pub const STDIN: &str = "-";
const BLOCK: usize = 1024 * 1024;
/// Folders below the root deeper than this are not entered: homes have three, and a loop has no end.
const DEPTH_MAX: usize = 16;

/// One folder, file or stream to be examined.
#[derive(Debug)]
pub struct Evidence {
    root: PathBuf,
    /// The one file that this is, relative to the root.
    single: Option<PathBuf>,
    /// A copy of the standard input, in a file that has no name.
    stream: Option<File>,
}

impl Evidence {
    /// Evidence at a path; `-` is the standard input.
    ///
    /// # Errors
    /// [`StoreError`] where nothing is there, or it is neither folder nor file.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::new(StoreOp::Open, path, source);
        if path.as_os_str() == STDIN {
            let mut copy = tempfile::tempfile().map_err(failed)?;
            io::copy(&mut io::stdin().lock(), &mut copy).map_err(failed)?;
            return Ok(Self { root: PathBuf::new(), single: Some(STDIN.into()), stream: Some(copy) });
        }
        let whole = path.canonicalize().map_err(failed)?;
        let kind = whole.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            return Ok(Self { root: whole, single: None, stream: None });
        }
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        if !kind.is_file() && !kind.is_block_device() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a folder nor a file")));
        }
        Ok(Self { root: parent.to_owned(), single: Some(name.into()), stream: None })
    }

    /// The one file that this is; nothing for a folder.
    #[must_use]
    pub fn single(&self) -> Option<&Path> {
        self.single.as_deref()
    }

    /// The path on this machine.
    #[must_use]
    pub fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Every file, sorted by path, and what is not examined: symbolic links, special files, and folders too deep.
    ///
    /// # Errors
    /// [`StoreError`] where a folder cannot be listed.
    pub fn files(&self) -> Result<Files, StoreError> {
        let mut found = Files::default();
        if let Some(single) = &self.single {
            found.files.push(single.clone());
            return Ok(found);
        }
        self.visit(Path::new(""), DEPTH_MAX, &mut found)?;
        found.files.sort();
        found.left_out.sort();
        Ok(found)
    }

    fn visit(&self, folder: &Path, depth: usize, found: &mut Files) -> Result<(), StoreError> {
        let Some(depth) = depth.checked_sub(1) else {
            found.left_out.push((folder.to_owned(), "a folder that lies too deep"));
            return Ok(());
        };
        let failed = |source| StoreError::new(StoreOp::Folder, folder, source);
        for entry in std::fs::read_dir(self.place(folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = folder.join(entry.file_name());
            // A file that went meanwhile is one that a live ledger removed.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.visit(&path, depth, found)?;
            } else if kind.is_file() {
                found.files.push(path);
            } else {
                let what = if kind.is_symlink() { "a symbolic link" } else { "neither a file nor a folder" };
                found.left_out.push((path, what));
            }
        }
        Ok(())
    }

    /// Refuses what lies behind a symbolic link: it was not hashed with the rest, and may lie anywhere.
    fn no_link_above(&self, path: &Path, last: bool) -> io::Result<()> {
        if self.stream.is_some() {
            return Ok(());
        }
        let above = path.ancestors().skip(usize::from(!last)).filter(|part| !part.as_os_str().is_empty());
        for part in above {
            if self.place(part).symlink_metadata().is_ok_and(|facts| facts.is_symlink()) {
                let what = format!("{} is a symbolic link, and links are not followed", part.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        Ok(())
    }

    fn open_file(&self, path: &Path) -> io::Result<File> {
        if let Some(stream) = &self.stream {
            // Nothing else came with it.
            let is_it = path == Path::new(STDIN);
            return if is_it { stream.try_clone() } else { Err(io::ErrorKind::NotFound.into()) };
        }
        self.no_link_above(path, false)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let place = self.place(path);
        #[cfg(target_os = "linux")]
        let quiet = flags | OFlags::NOATIME;
        #[cfg(not(target_os = "linux"))]
        let quiet = flags;
        let opened = match rustix::fs::open(&place, quiet, Mode::empty()) {
            // Only the owner may leave the time of last access alone.
            Err(rustix::io::Errno::PERM) => rustix::fs::open(&place, flags, Mode::empty())?,
            other => other?,
        };
        let file = File::from(opened);
        let kind = file.metadata()?.file_type();
        if kind.is_file() || kind.is_block_device() {
            return Ok(file);
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))
    }

    /// Size, times and digests of one file.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read.
    pub fn facts(&self, path: &Path, digests: Digests) -> Result<FileFacts, StoreError> {
        let failed = |source| StoreError::new(StoreOp::Read, path, source);
        let modified = self.open_file(path).and_then(|file| file.metadata()?.modified()).map_err(failed)?;
        let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let bytes = self.open(path, OpenMode::Read)?.len()?;
        let (blake3, sha256) = match digests {
            Digests::None => (None, None),
            Digests::Blake3 => (Some(self.digest(path, FileDigest::blake3())?), None),
            Digests::Both => std::thread::scope(|scope| {
                // Each reads for itself: the second finds the file in the system's cache.
                let other = scope.spawn(|| self.digest(path, FileDigest::sha256()));
                let blake3 = self.digest(path, FileDigest::blake3())?;
                let sha256 = other.join().unwrap_or_else(|_| self.digest(path, FileDigest::sha256()))?;
                Ok((Some(blake3), Some(sha256)))
            })?,
        };
        let modified = Timestamp::from_millis(u64::try_from(modified).unwrap_or(u64::MAX));
        let (place, path) = (path.to_owned(), path.display().to_string());
        Ok(FileFacts { place, path, bytes, modified: modified.to_string(), blake3, sha256 })
    }

    fn digest(&self, path: &Path, mut digest: FileDigest) -> Result<Hash, StoreError> {
        let file = self.open(path, OpenMode::Read)?;
        let mut buffer = vec![0; BLOCK];
        let mut at = 0;
        loop {
            let got = file.read_at(at, &mut buffer)?;
            if got == 0 {
                return Ok(digest.finish());
            }
            digest.update(buffer.get(..got).unwrap_or_default());
            at += got as u64;
        }
    }
}

/// The files of some evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// Files, sorted.
    pub files: Vec<PathBuf>,
    /// What is not examined, and what it is.
    pub left_out: Vec<(PathBuf, &'static str)>,
}

/// Which digests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// None: size and time must do.
    None,
    /// BLAKE3 alone: enough to see a change.
    Blake3,
    /// BLAKE3, and SHA-256 for records that others compare.
    Both,
}

/// One file of the evidence, for the chain of custody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// Path below the evidence's root.
    #[serde(skip)]
    pub place: PathBuf,
    /// That path as text; what is no UTF-8 is replaced in it.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Time of last modification.
    pub modified: String,
    /// BLAKE3 digest, as `b3sum` gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Hash>,
    /// SHA-256 digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Hash>,
}

/// How a file changed while it was examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It has other bytes or another length.
    Changed,
    /// Its bytes are the same, its time is another.
    Touched,
    /// It was not there before.
    Appeared,
    /// It is no longer there, or no longer readable.
    Vanished,
}

/// The evidence as it was when the examination began.
#[derive(Debug)]
pub struct Bracket {
    /// The files that could be read.
    pub files: Vec<FileFacts>,
    /// What could not, or is not examined, and why.
    pub unreadable: Vec<(String, String)>,
    digests: Digests,
}

impl Bracket {
    /// Takes stock of the evidence.
    ///
    /// # Errors
    /// [`StoreError`] where a folder cannot be listed.
    pub fn begin(evidence: &Evidence, digests: Digests) -> Result<Self, StoreError> {
        Self::begin_with(evidence, digests, &mut |_| {})
    }

    /// As [`Bracket::begin`], telling how many bytes each file has once it is done.
    ///
    /// # Errors
    /// As [`Bracket::begin`].
    pub fn begin_with(evidence: &Evidence, digests: Digests, done: &mut dyn FnMut(u64)) -> Result<Self, StoreError> {
        let mut bracket = Self { files: Vec::new(), unreadable: Vec::new(), digests };
        let found = evidence.files()?;
        for (path, facts) in found.files.iter().zip(facts_of(evidence, &found.files, digests, done)) {
            match facts {
                Ok(facts) => bracket.files.push(facts),
                Err(error) => bracket.unreadable.push((path.display().to_string(), error.source.to_string())),
            }
        }
        let left_out = found.left_out.into_iter();
        bracket
            .unreadable
            .extend(left_out.map(|(path, what)| (path.display().to_string(), format!("not examined: {what}"))));
        Ok(bracket)
    }

    /// Takes stock again, and says what changed meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] where a folder cannot be listed.
    pub fn end(&self, evidence: &Evidence) -> Result<Vec<(String, Change)>, StoreError> {
        self.end_with(evidence, &mut |_| {})
    }

    /// As [`Bracket::end`], telling how many bytes each file has once it is done.
    ///
    /// # Errors
    /// As [`Bracket::end`].
    pub fn end_with(
        &self,
        evidence: &Evidence,
        done: &mut dyn FnMut(u64),
    ) -> Result<Vec<(String, Change)>, StoreError> {
        let digests = if self.digests == Digests::None { Digests::None } else { Digests::Blake3 };
        let after = Self::begin_with(evidence, digests, done)?;
        // Both are sorted by path.
        let same =
            |files: &'_ [FileFacts], place: &Path| files.binary_search_by(|other| other.place.as_path().cmp(place));
        let mut changes = Vec::new();
        for old in &self.files {
            let change = match same(&after.files, &old.place).ok().and_then(|at| after.files.get(at)) {
                None => Change::Vanished,
                Some(new) if new.bytes != old.bytes || new.blake3 != old.blake3 => Change::Changed,
                Some(new) if new.modified != old.modified => Change::Touched,
                Some(_) => continue,
            };
            changes.push((old.path.clone(), change));
        }
        let unread: BTreeSet<&str> = self.unreadable.iter().map(|(path, _)| path.as_str()).collect();
        let new = after.files.iter().filter(|new| same(&self.files, &new.place).is_err());
        let appeared = new.filter(|new| !unread.contains(new.path.as_str()));
        changes.extend(appeared.map(|new| (new.path.clone(), Change::Appeared)));
        changes.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(changes)
    }
}

/// What is known of files, in their order; they are read on every core.
fn facts_of(
    evidence: &Evidence,
    paths: &[PathBuf],
    digests: Digests,
    done: &mut dyn FnMut(u64),
) -> Vec<Result<FileFacts, StoreError>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let next = AtomicUsize::new(0);
    let mut known: Vec<(usize, Result<FileFacts, StoreError>)> = std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        for _ in 0..threads {
            let (tell, next) = (tell.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(at) else { return };
                    let _ = tell.send((at, evidence.facts(path, digests)));
                }
            });
        }
        drop(tell);
        told.into_iter().inspect(|(_, facts)| facts.iter().for_each(|facts| done(facts.bytes))).collect()
    });
    known.sort_unstable_by_key(|(at, _)| *at);
    known.into_iter().map(|(_, facts)| facts).collect()
}

fn refused(op: StoreOp, path: &Path) -> StoreError {
    StoreError::new(op, path, io::Error::new(io::ErrorKind::PermissionDenied, "evidence is never changed"))
}

impl Medium for Evidence {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        if mode != OpenMode::Read {
            return Err(refused(StoreOp::Open, path));
        }
        let file = self.open_file(path).map_err(|source| StoreError::new(StoreOp::Open, path, source))?;
        Ok(RealMedium::opened(file, path))
    }

    fn rename(&self, from: &Path, _to: &Path) -> Result<(), StoreError> {
        Err(refused(StoreOp::Rename, from))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        Err(refused(StoreOp::Remove, path))
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        Err(refused(StoreOp::Folder, path))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        Err(refused(StoreOp::Sync, path))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        if self.stream.is_some() {
            return Err(StoreError::new(StoreOp::Folder, path, io::ErrorKind::NotFound.into()));
        }
        self.no_link_above(path, true).map_err(|source| StoreError::new(StoreOp::Folder, path, source))?;
        RealMedium.list(&self.place(path)).map_err(|error| StoreError::new(StoreOp::Folder, path, error.source))
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        if self.stream.is_some() {
            return Ok(path == Path::new(STDIN));
        }
        RealMedium.exists(&self.place(path))
    }

    fn append(&self, path: &Path, _bytes: &[u8]) -> Result<u64, StoreError> {
        Err(refused(StoreOp::Write, path))
    }
}
