//! What a disk holds, and laying it out in a real folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::content::Content;
use crate::Fault;

/// What stands at a path.
#[derive(Debug, Clone)]
pub enum Node {
    /// A folder with its mode.
    Folder(u32),
    /// A file: mode, content, digest of it.
    File(u32, Arc<Content>, [u8; 32]),
}

impl Node {
    /// A file.
    pub fn file(mode: u32, content: Arc<Content>) -> Self {
        let digest = content.digest();
        Self::File(mode, content, digest)
    }
}

/// Everything below a root, by its path without a slash at the front.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Folders and files.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

impl Image {
    /// What stands in a folder.
    pub fn of(root: &Path) -> Result<Self, Fault> {
        let mut image = Self::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let (path, facts) = (entry.path(), entry.metadata()?);
                let name = path.strip_prefix(root)?.as_os_str().as_bytes().to_vec();
                let mode = facts.permissions().mode() & 0o7777;
                if facts.is_dir() {
                    image.nodes.insert(name, Node::Folder(mode));
                    folders.push(path);
                } else if facts.is_file() {
                    image.nodes.insert(name, Node::file(mode, Arc::new(Content::new(&std::fs::read(&path)?))));
                } else {
                    return Err(format!("{} is neither a file nor a folder", path.display()).into());
                }
            }
        }
        Ok(image)
    }

    /// What tells it from others.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (path, node) in &self.nodes {
            hasher.update(&(path.len() as u64).to_le_bytes()).update(path);
            match node {
                Node::Folder(mode) => hasher.update(&mode.to_le_bytes()).update(&[0; 32]),
                Node::File(mode, _, digest) => hasher.update(&mode.to_le_bytes()).update(digest),
            };
        }
        hasher.finalize().into()
    }
}

/// A folder in which images are laid out one after the other. What the last check left as it was is used again.
#[derive(Debug)]
pub struct Stage {
    /// The folder.
    pub root: PathBuf,
    /// Digest and inode of each file.
    laid: BTreeMap<Vec<u8>, ([u8; 32], u64)>,
}

/// Files that were laid out are as old as this: a write makes them younger.
const LAID: Duration = Duration::from_secs(1_000_000_000);

impl Stage {
    /// A new folder.
    pub fn new(root: PathBuf) -> Result<Self, Fault> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, laid: BTreeMap::new() })
    }

    /// Lays an image out.
    pub fn lay(&mut self, image: &Image) -> Result<(), Fault> {
        self.clear(&self.root.clone(), image)?;
        let old = SystemTime::UNIX_EPOCH + LAID;
        for (path, node) in &image.nodes {
            let target = self.root.join(OsStr::from_bytes(path));
            match node {
                Node::Folder(mode) => match std::fs::DirBuilder::new().mode(*mode).create(&target) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
                    _ => std::fs::set_permissions(&target, Permissions::from_mode(*mode))?,
                },
                Node::File(mode, content, digest) => {
                    if self.laid.get(path).is_some_and(|(laid, _)| laid == digest) {
                        std::fs::set_permissions(&target, Permissions::from_mode(*mode))?;
                        continue;
                    }
                    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(*mode).open(&target)?;
                    file.set_permissions(Permissions::from_mode(*mode))?;
                    file.set_len(content.len())?;
                    for (at, bytes) in content.pieces() {
                        file.write_all_at(bytes, at)?;
                    }
                    file.set_modified(old)?;
                    self.laid.insert(path.clone(), (*digest, file.metadata()?.ino()));
                }
            }
        }
        Ok(())
    }

    /// Removes what the image lacks, and forgets what is not as it was laid out.
    fn clear(&mut self, folder: &Path, image: &Image) -> Result<(), Fault> {
        let old = SystemTime::UNIX_EPOCH + LAID;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let (path, facts) = (entry.path(), std::fs::symlink_metadata(entry.path())?);
            let name = path.strip_prefix(&self.root)?.as_os_str().to_owned().into_vec();
            match (facts.is_dir(), image.nodes.get(&name)) {
                (true, Some(Node::Folder(_))) => self.clear(&path, image)?,
                (true, _) => {
                    let below = |laid: &Vec<u8>| laid.starts_with(&name);
                    self.laid.retain(|laid, _| !below(laid));
                    std::fs::remove_dir_all(&path)?;
                }
                // A file that was moved here is as old, and is another one.
                (false, Some(Node::File(..)))
                    if facts.is_file()
                        && facts.modified()? == old
                        && self.laid.get(&name).is_some_and(|(_, inode)| *inode == facts.ino()) => {}
                (false, there) => {
                    self.laid.remove(&name);
                    if !matches!(there, Some(Node::File(..))) || !facts.is_file() {
                        std::fs::remove_file(&path)?;
                    }
                }
            }
        }
        // What a check removed is not there any more.
        if folder == self.root {
            let root = self.root.clone();
            self.laid.retain(|name, _| root.join(OsStr::from_bytes(name)).exists());
        }
        Ok(())
    }
}

/// Makes a folder its owner's alone.
pub fn private(folder: &Path) -> Result<(), Fault> {
    Ok(std::fs::set_permissions(folder, Permissions::from_mode(0o700))?)
}
