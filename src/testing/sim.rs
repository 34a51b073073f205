//! A disk in memory that knows what a power cut may take away.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::tree::{Change, DirNode, FileNode, NameOp, Node, NodeId, ROOT, Survival, Tree};
use crate::store::{Medium, MediumFile, OpenMode, StoreError, StoreOp, append_by_length};

/// Largest simulated file in bytes: a mistaken offset fails instead of filling the memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A file system in memory with the promises of a strict disk and no others:
///
/// - [`MediumFile::sync`] makes a file's data durable, not its name;
/// - [`Medium::sync_dir`] makes the names in that one folder durable (made, renamed, removed),
///   not the data behind them, and not the folder's own name;
/// - a rename within a folder is atomic; one between folders is a new name in one and a removed
///   name in the other, each durable by the sync of its own folder;
/// - everything else may survive a power cut, be lost, or arrive in parts of 512 bytes.
///
/// The folder `/` always exists; relative paths start there. Clones share the disk.
/// [`SimDisk::crash`] and its relatives make a new, independent disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    tree: Tree,
    operations: u64,
    cut_after: Option<u64>,
    was_cut: bool,
    history: Option<Vec<Tree>>,
}

struct SimFile {
    disk: SimDisk,
    node: NodeId,
    path: PathBuf,
    writable: bool,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_tree(Tree::new())
    }

    /// An empty disk that remembers its state after every counted operation, for
    /// [`SimDisk::fork_at`]. Costs a copy of the touched file for each write: small workloads only.
    #[must_use]
    pub fn recording() -> Self {
        let disk = Self::new();
        {
            let mut shared = disk.shared();
            shared.history = Some(vec![shared.tree.clone()]);
        }
        disk
    }

    fn from_tree(tree: Tree) -> Self {
        let shared = Shared { tree, operations: 0, cut_after: None, was_cut: false, history: None };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Operations counted so far: every call that may change the disk or make something durable
    /// (create, write, set length, sync, rename, remove, make or sync a folder), failed or not.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared().operations
    }

    /// Cuts the power once `operations` counted operations have been done, counted from the disk's
    /// beginning: from then on everything fails with EIO and changes nothing.
    pub fn set_cut_after(&self, operations: u64) {
        self.shared().cut_after = Some(operations);
    }

    /// Whether an operation has failed because the power was cut.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.shared().was_cut
    }

    /// One of the disks that a power cut now could leave; the seed picks which. For each file a
    /// prefix, a subset or a torn mixture of the writes since its last sync has survived, and its
    /// length may have grown without them (then zeros or stale bytes stand there); for each folder
    /// a prefix or a subset of the changes since its last sync. The new disk has power and its
    /// counter starts at 0.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        self.image(&Survival::Random, &Survival::Random, seed)
    }

    /// The disk after a power cut that nothing survives but what was synced.
    #[must_use]
    pub fn crash_strict(&self) -> Self {
        self.image(&Survival::None, &Survival::None, 0)
    }

    /// The disk after a power cut that everything survives.
    #[must_use]
    pub fn crash_all(&self) -> Self {
        self.image(&Survival::All, &Survival::All, 0)
    }

    /// The disk after a power cut that all names survive, but only synced data: what catches a
    /// rename before the sync.
    #[must_use]
    pub fn crash_names_only(&self) -> Self {
        self.image(&Survival::All, &Survival::None, 0)
    }

    /// The disk after a power cut that all data survives, but only synced names.
    #[must_use]
    pub fn crash_data_only(&self) -> Self {
        self.image(&Survival::None, &Survival::All, 0)
    }

    /// The four extreme crashes and those of the seeds `0..seeds`.
    pub fn crashes(&self, seeds: u64) -> impl Iterator<Item = Self> + '_ {
        let extremes = [Self::crash_strict, Self::crash_all, Self::crash_names_only, Self::crash_data_only];
        extremes.into_iter().map(move |crash| crash(self)).chain((0..seeds).map(move |seed| self.crash(seed)))
    }

    fn image(&self, names: &Survival, data: &Survival, seed: u64) -> Self {
        Self::from_tree(self.shared().tree.after_power_cut(names, data, seed))
    }

    /// A copy of the disk as it is now, with what is unsynced still unsynced.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self::from_tree(self.shared().tree.clone())
    }

    /// The disk as it was after the first `operations` counted operations; only for one made with
    /// [`SimDisk::recording`].
    #[must_use]
    pub fn fork_at(&self, operations: u64) -> Option<Self> {
        let index = usize::try_from(operations).ok()?;
        let tree = self.shared().history.as_ref()?.get(index)?.clone();
        Some(Self::from_tree(tree))
    }

    /// Makes everything that is visible durable, without counting: the state from which a test
    /// starts.
    pub fn settle(&self) {
        self.shared().tree.settle();
    }

    /// Puts a durable file there, with the folders above it, without counting; replaces a file.
    ///
    /// # Errors
    /// [`StoreError`] where the path cannot be a file.
    pub fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |error: Errno| StoreError::new(StoreOp::Write, path, error.into());
        let mut shared = self.shared();
        let (last, above) = components(path)
            .map_err(failed)?
            .split_last()
            .map_or_else(|| Err(failed(Errno::ISDIR)), |(last, above)| Ok((last.clone(), above.to_vec())))?;
        let dir = shared.tree.make_dirs(&above).map_err(failed)?;
        let mut file = FileNode::default();
        file.change(Change::Write { offset: 0, bytes: bytes.into() });
        file.sync();
        let node = shared.tree.add(Node::File(file));
        let names = shared.tree.dir_mut(dir).ok_or(failed(Errno::NOTDIR))?;
        names.change(NameOp::Link { name: last, node });
        names.sync();
        Ok(())
    }

    /// Makes a durable folder, with those above it, without counting.
    ///
    /// # Errors
    /// [`StoreError`] where a file stands in the way.
    pub fn put_dir(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |error: Errno| StoreError::new(StoreOp::Folder, path, error.into());
        let names = components(path).map_err(failed)?;
        self.shared().tree.make_dirs(&names).map(|_| ()).map_err(failed)
    }

    /// The bytes of a file as a reader sees them now, or nothing where no file is. Works without
    /// power, too.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let shared = self.shared();
        let node = shared.tree.find(path).ok()?;
        shared.tree.file(node).map(|file| file.live().to_vec())
    }

    /// All files that have a name, with their paths from `/`, sorted. Works without power, too.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let shared = self.shared();
        let mut found = Vec::new();
        let mut waiting = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = waiting.pop() {
            match shared.tree.dir(id) {
                Some(dir) => waiting.extend(dir.names().iter().map(|(name, &child)| (path.join(name), child))),
                None => found.push(path),
            }
        }
        found.sort();
        found
    }

    /// Flips the bits of `mask` in one byte of a file, on the medium itself: readers see it at once
    /// and a power cut keeps it. False where the file has no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let mut shared = self.shared();
        let (Ok(node), Ok(offset)) = (shared.tree.find(path), usize::try_from(offset)) else { return false };
        shared.tree.file_mut(node).is_some_and(|file| file.damage(offset, mask))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One operation that reads.
    fn read<T>(&self, op: StoreOp, path: &Path, work: impl FnOnce(&Tree) -> Result<T, Errno>) -> Result<T, StoreError> {
        let mut shared = self.shared();
        shared.powered().and_then(|()| work(&shared.tree)).map_err(|error| StoreError::new(op, path, error.into()))
    }

    /// One counted operation.
    fn mutate<T>(
        &self,
        op: StoreOp,
        path: &Path,
        work: impl FnOnce(&mut Tree) -> Result<T, Errno>,
    ) -> Result<T, StoreError> {
        let mut shared = self.shared();
        let done = shared.powered().and_then(|()| {
            shared.operations += 1;
            let done = work(&mut shared.tree);
            let tree = shared.history.is_some().then(|| shared.tree.clone());
            if let (Some(history), Some(tree)) = (&mut shared.history, tree) {
                history.push(tree);
            }
            done
        });
        done.map_err(|error| StoreError::new(op, path, error.into()))
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files();
        let shared = self.shared();
        f.debug_struct("SimDisk")
            .field("operations", &shared.operations)
            .field("cut_after", &shared.cut_after)
            .field("files", &files)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn powered(&mut self) -> Result<(), Errno> {
        if self.cut_after.is_some_and(|cut| self.operations >= cut) {
            self.was_cut = true;
            return Err(Errno::IO);
        }
        Ok(())
    }
}

/// The names of a path from `/` on.
fn components(path: &Path) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(Errno::ILSEQ)?.to_owned()),
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
        }
    }
    Ok(names)
}

impl Tree {
    fn walk(&self, names: &[String]) -> Result<NodeId, Errno> {
        names.iter().try_fold(ROOT, |dir, name| {
            self.dir(dir).ok_or(Errno::NOTDIR)?.names().get(name).copied().ok_or(Errno::NOENT)
        })
    }

    fn find(&self, path: &Path) -> Result<NodeId, Errno> {
        self.walk(&components(path)?)
    }

    /// The folder that holds a path's last name, and that name.
    fn place(&self, path: &Path) -> Result<(NodeId, String), Errno> {
        let mut names = components(path)?;
        let last = names.pop().ok_or(Errno::BUSY)?;
        let dir = self.walk(&names)?;
        self.dir(dir).ok_or(Errno::NOTDIR).map(|_| (dir, last))
    }

    fn change_names(&mut self, dir: NodeId, op: NameOp) -> Result<(), Errno> {
        self.dir_mut(dir).ok_or(Errno::NOTDIR).map(|dir| dir.change(op))
    }

    fn make_dirs(&mut self, names: &[String]) -> Result<NodeId, Errno> {
        let mut at = ROOT;
        for name in names {
            let known = self.dir(at).ok_or(Errno::NOTDIR)?.names().get(name).copied();
            at = if let Some(child) = known {
                child
            } else {
                let node = self.add(Node::Dir(DirNode::default()));
                let dir = self.dir_mut(at).ok_or(Errno::NOTDIR)?;
                dir.change(NameOp::Link { name: name.clone(), node });
                dir.sync();
                node
            };
        }
        self.dir(at).ok_or(Errno::NOTDIR).map(|_| at)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let node = self.find(from)?;
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        match self.find(to) {
            Ok(same) if same == node => return Ok(()),
            Ok(target) => match (self.dir(node), self.dir(target)) {
                (None, None) => {}
                (Some(_), Some(dir)) if dir.names().is_empty() => {}
                (Some(_), Some(_)) => return Err(Errno::NOTEMPTY),
                (Some(_), None) => return Err(Errno::NOTDIR),
                (None, Some(_)) => return Err(Errno::ISDIR),
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        if components(to)?.starts_with(&components(from)?) {
            return Err(Errno::INVAL);
        }
        if from_dir == to_dir {
            return self.change_names(from_dir, NameOp::Rename { from: from_name, to: to_name, node });
        }
        self.change_names(to_dir, NameOp::Link { name: to_name, node })?;
        self.change_names(from_dir, NameOp::Unlink { name: from_name })
    }
}

impl Medium for SimDisk {
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
        append_by_length(self, path, bytes)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        let node = match mode {
            OpenMode::Read | OpenMode::ReadWrite => self.read(StoreOp::Open, path, |tree| {
                let node = tree.find(path)?;
                tree.file(node).ok_or(Errno::ISDIR).map(|_| node)
            })?,
            OpenMode::CreateNew => self.mutate(StoreOp::Open, path, |tree| {
                let (dir, name) = tree.place(path)?;
                if tree.find(path).is_ok() {
                    return Err(Errno::EXIST);
                }
                let node = tree.add(Node::File(FileNode::default()));
                tree.change_names(dir, NameOp::Link { name, node }).map(|()| node)
            })?,
        };
        Ok(Box::new(SimFile { disk: self.clone(), node, path: path.to_owned(), writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.mutate(StoreOp::Rename, to, |tree| tree.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.mutate(StoreOp::Remove, path, |tree| {
            let node = tree.find(path)?;
            if tree.dir(node).is_some() {
                return Err(Errno::ISDIR);
            }
            let (dir, name) = tree.place(path)?;
            tree.change_names(dir, NameOp::Unlink { name })
        })
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.mutate(StoreOp::Folder, path, |tree| {
            if components(path)?.is_empty() || tree.find(path).is_ok() {
                return Ok(());
            }
            let (dir, name) = tree.place(path)?;
            let node = tree.add(Node::Dir(DirNode::default()));
            tree.change_names(dir, NameOp::Link { name, node })
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.mutate(StoreOp::Sync, path, |tree| {
            let node = tree.find(path)?;
            tree.dir_mut(node).ok_or(Errno::NOTDIR).map(DirNode::sync)
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        self.read(StoreOp::Folder, path, |tree| {
            let dir = tree.dir(tree.find(path)?).ok_or(Errno::NOTDIR)?;
            Ok(dir.names().keys().cloned().collect())
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        self.read(StoreOp::Open, path, |tree| match tree.find(path) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        })
    }
}

impl SimFile {
    fn change(&self, op: StoreOp, end: Option<u64>, change: impl FnOnce() -> Change) -> Result<(), StoreError> {
        self.disk.mutate(op, &self.path, |tree| {
            if !self.writable {
                return Err(Errno::BADF);
            }
            if end.is_none_or(|end| end > FILE_BYTES_MAX) {
                return Err(Errno::FBIG);
            }
            tree.file_mut(self.node).ok_or(Errno::BADF).map(|file| file.change(change()))
        })
    }
}

impl MediumFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.disk.read(StoreOp::Read, &self.path, |tree| {
            let live = tree.file(self.node).ok_or(Errno::BADF)?.live();
            let rest = usize::try_from(offset).ok().and_then(|offset| live.get(offset..)).unwrap_or_default();
            Ok(buffer.iter_mut().zip(rest).map(|(slot, byte)| *slot = *byte).count())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = u64::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len));
        self.change(StoreOp::Write, end, || Change::Write {
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            bytes: bytes.into(),
        })
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        self.change(StoreOp::Truncate, Some(len), || Change::SetLen(usize::try_from(len).unwrap_or(usize::MAX)))
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.disk.read(StoreOp::Read, &self.path, |tree| {
            let file = tree.file(self.node).ok_or(Errno::BADF)?;
            u64::try_from(file.live().len()).map_err(|_| Errno::OVERFLOW)
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.disk
            .mutate(StoreOp::Sync, &self.path, |tree| tree.file_mut(self.node).ok_or(Errno::BADF).map(FileNode::sync))
    }
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;
