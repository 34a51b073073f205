//! What of a disk is durable, and what only may be.
//!
//! The strict model. Data is durable once `fsync` or `fdatasync` of that very file returned, and only what had
//! returned before the sync was entered; a name is durable once `fsync` of its folder returned, and a move between two
//! folders once both were synced; `sync_file_range` makes nothing durable. Everything else is pending: a power cut
//! takes any part of it, in any order. Files are followed by their node, not by their path.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::{Content, SECTOR};
use super::image::{Image, Node};

/// A file or folder, whatever its names are.
pub type NodeId = usize;

/// A change of a file's data.
#[derive(Debug, Clone)]
pub enum Change {
    /// These bytes, from there on.
    Write(u64, Arc<[u8]>),
    /// This length.
    Length(u64),
}

/// A change of names.
#[derive(Debug, Clone)]
pub enum Naming {
    /// A name in a folder is this node's.
    Put(NodeId, Vec<u8>, NodeId),
    /// A name in a folder is this node's no more.
    Remove(NodeId, Vec<u8>, NodeId),
    /// Both at once.
    Move((NodeId, Vec<u8>), (NodeId, Vec<u8>), NodeId),
}

/// One name of one folder that a change of names sets or removes.
struct Edit<'a> {
    folder: NodeId,
    name: &'a [u8],
    node: NodeId,
    put: bool,
}

impl Naming {
    fn edits(&self) -> Vec<Edit<'_>> {
        let edit = |folder: &NodeId, name, node: &NodeId, put| Edit { folder: *folder, name, node: *node, put };
        match self {
            Self::Put(folder, name, node) => vec![edit(folder, name, node, true)],
            Self::Remove(folder, name, node) => vec![edit(folder, name, node, false)],
            Self::Move((from, old), (to, new), node) => vec![edit(from, old, node, false), edit(to, new, node, true)],
        }
    }
}

impl Edit<'_> {
    fn apply(&self, names: &mut BTreeMap<Vec<u8>, NodeId>) {
        if self.put {
            names.insert(self.name.to_vec(), self.node);
        } else if names.get(self.name) == Some(&self.node) {
            names.remove(self.name);
        }
    }
}

/// What a pending operation does.
#[derive(Debug, Clone)]
pub enum What {
    /// To the data of a file.
    Data(NodeId, Change),
    /// To names; the folders that are to be synced yet.
    Name(Naming, Vec<NodeId>),
}

/// An operation that a power cut may take.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The call that did it.
    pub call: usize,
    /// Whether that call had returned.
    pub returned: bool,
    /// What it does.
    pub what: What,
}

/// What becomes of a pending operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The cut took it.
    Lost,
    /// It reached the disk.
    Kept,
    /// Some of its sectors did: those of this pattern.
    Torn(u64),
    /// The file is longer by it, and there are zeros.
    Zeros,
    /// The file is longer by it, and there is what the disk held before.
    Stale,
}

#[derive(Debug, Clone)]
enum Kind {
    File { durable: Arc<Content>, len: u64 },
    Folder { durable: BTreeMap<Vec<u8>, NodeId>, now: BTreeMap<Vec<u8>, NodeId> },
}

/// The nodes of a disk, from a root folder on.
#[derive(Debug, Clone)]
pub struct Disk {
    nodes: Vec<(Kind, u32)>,
    /// What is pending, in the order in which it was entered.
    pub pending: Vec<Pending>,
}

/// The root folder.
pub const ROOT: NodeId = 0;

impl Disk {
    /// An empty folder.
    pub fn new() -> Self {
        let root = Kind::Folder { durable: BTreeMap::new(), now: BTreeMap::new() };
        Self { nodes: vec![(root, 0o700)], pending: Vec::new() }
    }

    /// A disk that holds an image, durably.
    pub fn holding(image: &Image) -> Self {
        let mut disk = Self::new();
        for (path, node) in &image.nodes {
            let (folder, name) = match path.iter().rposition(|&byte| byte == b'/') {
                Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
                None => (&[][..], path.as_slice()),
            };
            let Some(folder) = disk.find(folder) else { continue };
            let id = match node {
                Node::Folder(mode) => disk.add_folder(*mode),
                Node::File(mode, content, _) => {
                    let kind = Kind::File { durable: Arc::clone(content), len: content.len() };
                    disk.nodes.push((kind, *mode));
                    disk.nodes.len() - 1
                }
            };
            if let Some((Kind::Folder { durable, now }, _)) = disk.nodes.get_mut(folder) {
                durable.insert(name.to_vec(), id);
                now.insert(name.to_vec(), id);
            }
        }
        disk
    }

    /// The node at a path below the root, as the running system sees it.
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).try_fold(ROOT, |at, part| {
            let (Kind::Folder { now, .. }, _) = self.nodes.get(at)? else { return None };
            now.get(part).copied()
        })
    }

    /// An empty file without a name.
    pub fn add_file(&mut self, mode: u32) -> NodeId {
        self.nodes.push((Kind::File { durable: Arc::default(), len: 0 }, mode));
        self.nodes.len() - 1
    }

    /// An empty folder without a name.
    pub fn add_folder(&mut self, mode: u32) -> NodeId {
        self.nodes.push((Kind::Folder { durable: BTreeMap::new(), now: BTreeMap::new() }, mode));
        self.nodes.len() - 1
    }

    /// The length of a file, as the running system sees it.
    pub fn len(&self, node: NodeId) -> u64 {
        match self.nodes.get(node) {
            Some((Kind::File { len, .. }, _)) => *len,
            _ => 0,
        }
    }

    /// Gives a node another mode: at once, as it is not what is tried here.
    pub fn set_mode(&mut self, node: NodeId, mode: u32) {
        if let Some((_, old)) = self.nodes.get_mut(node) {
            *old = mode;
        }
    }

    /// A call changes a file.
    pub fn change(&mut self, call: usize, node: NodeId, change: Change) {
        if let Some((Kind::File { len, .. }, _)) = self.nodes.get_mut(node) {
            match &change {
                Change::Write(at, bytes) => *len = (*len).max(at + bytes.len() as u64),
                Change::Length(new) => *len = *new,
            }
        }
        self.pending.push(Pending { call, returned: false, what: What::Data(node, change) });
    }

    /// A call changes names.
    pub fn name(&mut self, call: usize, naming: Naming) {
        let folders = match &naming {
            Naming::Put(folder, _, _) | Naming::Remove(folder, _, _) => vec![*folder],
            Naming::Move((from, _), (to, _), _) if from == to => vec![*to],
            Naming::Move((from, _), (to, _), _) => vec![*from, *to],
        };
        for edit in naming.edits() {
            if let Some((Kind::Folder { now, .. }, _)) = self.nodes.get_mut(edit.folder) {
                edit.apply(now);
            }
        }
        self.pending.push(Pending { call, returned: false, what: What::Name(naming, folders) });
    }

    /// A call returned.
    pub fn returned(&mut self, call: usize) {
        self.pending.iter_mut().filter(|one| one.call == call).for_each(|one| one.returned = true);
    }

    /// Bytes of a file as a program reads them now, with everything that is pending.
    pub fn bytes(&self, node: NodeId, at: u64, len: usize) -> Vec<u8> {
        let Some((Kind::File { durable, .. }, _)) = self.nodes.get(node) else { return Vec::new() };
        let mut content = (**durable).clone();
        for one in &self.pending {
            if let What::Data(file, change) = &one.what
                && *file == node
            {
                apply(&mut content, change, Fate::Kept);
            }
        }
        content.read(at, len)
    }

    /// The calls that a sync of a node covers if it is entered now.
    pub fn covered(&self, node: NodeId) -> Vec<usize> {
        let concerns = |one: &&Pending| match &one.what {
            What::Data(file, _) => *file == node,
            What::Name(_, folders) => folders.contains(&node),
        };
        self.pending.iter().filter(|one| one.returned).filter(concerns).map(|one| one.call).collect()
    }

    /// A sync of a node returned: what it covers is durable.
    pub fn synced(&mut self, node: NodeId, covered: &[usize]) {
        let mut left = Vec::with_capacity(self.pending.len());
        for mut one in std::mem::take(&mut self.pending) {
            if !covered.contains(&one.call) {
                left.push(one);
                continue;
            }
            match &mut one.what {
                What::Data(file, change) if *file == node => {
                    if let Some((Kind::File { durable, .. }, _)) = self.nodes.get_mut(node) {
                        apply(Arc::make_mut(durable), change, Fate::Kept);
                    }
                }
                What::Name(naming, folders) => {
                    folders.retain(|folder| *folder != node);
                    if folders.is_empty() {
                        for edit in naming.edits() {
                            if let Some((Kind::Folder { durable, .. }, _)) = self.nodes.get_mut(edit.folder) {
                                edit.apply(durable);
                            }
                        }
                    } else {
                        left.push(one);
                    }
                }
                What::Data(..) => left.push(one),
            }
        }
        self.pending = left;
    }

    /// The disk that is left where each pending operation has this fate.
    pub fn left(&self, fates: &[Fate]) -> Image {
        let mut folders: BTreeMap<NodeId, BTreeMap<Vec<u8>, NodeId>> = BTreeMap::new();
        let mut files: BTreeMap<NodeId, Content> = BTreeMap::new();
        for (one, fate) in self.pending.iter().zip(fates).filter(|(_, fate)| **fate != Fate::Lost) {
            match &one.what {
                What::Data(node, change) => {
                    if let Some((Kind::File { durable, .. }, _)) = self.nodes.get(*node) {
                        apply(files.entry(*node).or_insert_with(|| (**durable).clone()), change, *fate);
                    }
                }
                What::Name(naming, _) => {
                    for edit in naming.edits() {
                        if let Some((Kind::Folder { durable, .. }, _)) = self.nodes.get(edit.folder) {
                            edit.apply(folders.entry(edit.folder).or_insert_with(|| durable.clone()));
                        }
                    }
                }
            }
        }
        let mut image = Image::default();
        self.walk(ROOT, &mut Vec::new(), &(folders, files), &mut image, 0);
        image
    }

    fn walk(
        &self,
        folder: NodeId,
        path: &mut Vec<u8>,
        changed: &(BTreeMap<NodeId, BTreeMap<Vec<u8>, NodeId>>, BTreeMap<NodeId, Content>),
        image: &mut Image,
        depth: u32,
    ) {
        let Some((Kind::Folder { durable, .. }, _)) = self.nodes.get(folder) else { return };
        // Moves that were kept in part could make a circle.
        if depth > 32 {
            return;
        }
        for (name, id) in changed.0.get(&folder).unwrap_or(durable) {
            let before = path.len();
            if before > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match self.nodes.get(*id) {
                Some((Kind::Folder { .. }, mode)) => {
                    image.nodes.insert(path.clone(), Node::Folder(*mode));
                    self.walk(*id, path, changed, image, depth + 1);
                }
                Some((Kind::File { durable, .. }, mode)) => {
                    let content = changed.1.get(id).map_or_else(|| Arc::clone(durable), |new| Arc::new(new.clone()));
                    image.nodes.insert(path.clone(), Node::file(*mode, content));
                }
                None => {}
            }
            path.truncate(before);
        }
    }
}

fn apply(content: &mut Content, change: &Change, fate: Fate) {
    match (change, fate) {
        (_, Fate::Lost) => {}
        (Change::Length(len), _) => content.set_len(*len),
        (Change::Write(at, bytes), Fate::Kept) => content.write(*at, bytes),
        (Change::Write(at, bytes), Fate::Torn(pattern)) => {
            let mut done = 0;
            while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
                let offset = at + done as u64;
                let len = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(1).min(rest.len());
                if pattern >> (sector(*at, offset) % 64) & 1 == 1 {
                    content.write(offset, rest.get(..len).unwrap_or_default());
                }
                done += len;
            }
        }
        (Change::Write(at, bytes), Fate::Zeros) => content.set_len(content.len().max(at + bytes.len() as u64)),
        (Change::Write(at, bytes), Fate::Stale) => {
            let (from, end) = (content.len().max(*at), at + bytes.len() as u64);
            if end > from {
                // No frame, page or header of anybody looks like this.
                let len = usize::try_from(end - from).unwrap_or(0);
                content
                    .write(from, &b"what the disk held before ".iter().copied().cycle().take(len).collect::<Vec<_>>());
            }
        }
    }
}

/// The number of the sector within a write at `at`.
fn sector(at: u64, offset: u64) -> u64 {
    offset / SECTOR - at / SECTOR
}

/// How many sectors a write touches.
pub fn sectors(at: u64, len: usize) -> u64 {
    if len == 0 { 0 } else { sector(at, at + len as u64 - 1) + 1 }
}
