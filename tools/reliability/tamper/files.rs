//! The files of a home in memory: copies share what they did not change, and nothing is ever written through them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::store::{Medium, MediumFile, OpenMode, StoreError, StoreOp};
use palyra_ledger::testing::SimDisk;

/// What the forensic tool reads of a home: the journal, the head file, the format, the keys and the checkpoints.
const READ: [&str; 5] = ["journal", "head", "format", "keys", "checkpoints"];

/// Files by their path below a home.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<PathBuf, Arc<Vec<u8>>>);

impl Files {
    /// What the forensic tool reads of the home on a disk.
    pub fn of(disk: &SimDisk, home: &Path) -> Self {
        let mut files = BTreeMap::new();
        for path in disk.files() {
            let below = path.strip_prefix(home).ok().filter(|below| READ.iter().any(|read| below.starts_with(read)));
            if let (Some(below), Some(bytes)) = (below, disk.contents(&path)) {
                files.insert(below.to_owned(), Arc::new(bytes));
            }
        }
        Self(files)
    }

    /// Paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Paths in a folder.
    pub fn below(&self, folder: &str) -> Vec<PathBuf> {
        self.paths().filter(|path| path.starts_with(folder)).map(Path::to_owned).collect()
    }

    /// What a file holds; nothing where there is none.
    pub fn bytes(&self, path: &Path) -> &[u8] {
        self.0.get(path).map_or(&[], |bytes| bytes.as_slice())
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Changes a file.
    pub fn edit(&mut self, path: &Path) -> &mut Vec<u8> {
        Arc::make_mut(self.0.entry(path.to_owned()).or_default())
    }

    /// Puts a file there.
    pub fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), Arc::new(bytes));
    }

    /// Takes a file away.
    pub fn remove(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// Takes away what stands in a folder, or at a path, and puts there what stands in other files.
    pub fn replace(&mut self, below: &str, other: &Self) {
        self.0.retain(|path, _| !path.starts_with(below));
        let others = other.0.iter().filter(|(path, _)| path.starts_with(below));
        self.0.extend(others.map(|(path, bytes)| (path.clone(), Arc::clone(bytes))));
    }

    /// Files that are not the same in both.
    pub fn changed(&self, other: &Self) -> Vec<PathBuf> {
        let differs = |path: &&PathBuf| self.0.get(*path) != other.0.get(*path);
        let mut changed: Vec<PathBuf> = self.0.keys().chain(other.0.keys()).filter(differs).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

fn refused(op: StoreOp, path: &Path) -> StoreError {
    StoreError::new(op, path, io::ErrorKind::PermissionDenied.into())
}

impl Medium for Files {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        if mode != OpenMode::Read {
            return Err(refused(StoreOp::Open, path));
        }
        let bytes = self.0.get(path).cloned();
        let bytes = bytes.ok_or_else(|| StoreError::new(StoreOp::Open, path, io::ErrorKind::NotFound.into()))?;
        Ok(Box::new(File { bytes, path: path.to_owned() }))
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
        let below = self.0.keys().filter_map(|file| file.strip_prefix(path).ok());
        let first = below.filter_map(|below| below.iter().next().and_then(|name| name.to_str()).map(str::to_owned));
        let mut names: Vec<String> = first.collect();
        names.dedup();
        if names.is_empty() {
            return Err(StoreError::new(StoreOp::Folder, path, io::ErrorKind::NotFound.into()));
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        Ok(self.0.keys().any(|file| file.starts_with(path)))
    }

    fn append(&self, path: &Path, _bytes: &[u8]) -> Result<u64, StoreError> {
        Err(refused(StoreOp::Write, path))
    }
}

struct File {
    bytes: Arc<Vec<u8>>,
    path: PathBuf,
}

impl MediumFile for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let rest = self.bytes.get(from..).unwrap_or_default();
        let got = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..got), rest.get(..got)) {
            to.copy_from_slice(from);
        }
        Ok(got)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> Result<(), StoreError> {
        Err(refused(StoreOp::Write, &self.path))
    }

    fn set_len(&self, _len: u64) -> Result<(), StoreError> {
        Err(refused(StoreOp::Truncate, &self.path))
    }

    fn len(&self) -> Result<u64, StoreError> {
        Ok(self.bytes.len() as u64)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Err(refused(StoreOp::Sync, &self.path))
    }
}
