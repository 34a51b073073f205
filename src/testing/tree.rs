//! The state of a simulated disk, and the states that a power cut can leave of it.
//!
//! Files and folders are tracked by node (inode), never by path: syncing a file makes its data
//! durable and says nothing about any name that leads to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dice::Dice;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

pub(super) type NodeId = u64;
pub(super) const ROOT: NodeId = 0;

/// One change of a file that no sync has covered yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

/// One change of a folder that no sync has covered yet.
#[derive(Debug, Clone)]
pub(super) enum NameOp {
    Link { name: String, node: NodeId },
    Unlink { name: String },
    Rename { from: String, to: String, node: NodeId },
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    durable: Vec<u8>,
    live: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    durable: BTreeMap<String, NodeId>,
    live: BTreeMap<String, NodeId>,
    pending: Vec<NameOp>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// All nodes; a clone shares their contents until one side changes them.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Arc<Node>>,
    next: NodeId,
}

/// What survives of the changes that were not synced.
#[derive(Debug)]
pub(super) enum Survival {
    None,
    All,
    Random,
}

impl FileNode {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// Damage that happens to the medium itself: now and for ever.
    pub(super) fn damage(&mut self, offset: usize, mask: u8) -> bool {
        if let Some(byte) = self.durable.get_mut(offset) {
            *byte ^= mask;
        }
        self.live.get_mut(offset).map(|byte| *byte ^= mask).is_some()
    }
}

impl DirNode {
    pub(super) const fn names(&self) -> &BTreeMap<String, NodeId> {
        &self.live
    }

    pub(super) fn change(&mut self, op: NameOp) {
        apply_name(&mut self.live, &op);
        self.pending.push(op);
    }

    pub(super) fn sync(&mut self) {
        for op in self.pending.drain(..) {
            apply_name(&mut self.durable, &op);
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Arc::new(Node::Dir(DirNode::default()));
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }
    }

    pub(super) fn add(&mut self, node: Node) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Arc::new(node));
        id
    }

    pub(super) fn file(&self, id: NodeId) -> Option<&FileNode> {
        match self.nodes.get(&id).map(Arc::as_ref) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> Option<&mut FileNode> {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    pub(super) fn dir(&self, id: NodeId) -> Option<&DirNode> {
        match self.nodes.get(&id).map(Arc::as_ref) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub(super) fn dir_mut(&mut self, id: NodeId) -> Option<&mut DirNode> {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    /// Everything that is now visible becomes durable.
    pub(super) fn settle(&mut self) {
        for node in self.nodes.values_mut() {
            match Arc::make_mut(node) {
                Node::File(file) => file.sync(),
                Node::Dir(dir) => dir.sync(),
            }
        }
    }

    /// A tree that a power cut could leave of this one: `names` and `data` say what survives of
    /// the changes that no sync has covered. Nodes that no surviving name leads to are gone.
    pub(super) fn after_power_cut(&self, names: &Survival, data: &Survival, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut image = Self { nodes: BTreeMap::new(), next: self.next };
        let mut reached = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        while let Some(id) = waiting.pop() {
            let node = match self.nodes.get(&id).map(Arc::as_ref) {
                Some(Node::Dir(dir)) => {
                    let mut survived = surviving_names(dir, names, &mut dice);
                    // Half of a rename between folders may leave a name in both. File systems keep
                    // one name for a folder; a file may keep two.
                    survived.retain(|_, child| reached.insert(*child) || self.file(*child).is_some());
                    waiting.extend(survived.values().filter(|child| !image.nodes.contains_key(child)));
                    Node::Dir(DirNode { durable: survived.clone(), live: survived, pending: Vec::new() })
                }
                Some(Node::File(file)) => {
                    let survived = self.surviving_bytes(file, data, &mut dice);
                    Node::File(FileNode { durable: survived.clone(), live: survived, pending: Vec::new() })
                }
                None => continue,
            };
            image.nodes.insert(id, Arc::new(node));
        }
        image
    }

    fn surviving_bytes(&self, file: &FileNode, data: &Survival, dice: &mut Dice) -> Vec<u8> {
        match data {
            Survival::None => file.durable.clone(),
            Survival::All => file.live.clone(),
            Survival::Random => {
                let stale = self.stale_bytes(dice);
                match dice.below(6) {
                    0 => file.durable.clone(),
                    1 => file.live.clone(),
                    2 => prefix(file, &stale, dice),
                    3 => all_but_one(file, &stale, dice),
                    4 => subset(file, &stale, dice),
                    _ => sector_versions(file, &stale, dice),
                }
            }
        }
    }

    /// What a file system may show where a file grew and its data never arrived: zeros, noise, or
    /// what another file once held there.
    fn stale_bytes(&self, dice: &mut Dice) -> Stale {
        match dice.below(4) {
            0 | 1 => Stale(Vec::new()),
            2 => Stale((0..SECTOR).map(|_| u8::try_from(dice.next() & 0xff).unwrap_or(0xa5)).collect()),
            _ => {
                let files: Vec<&FileNode> = self.nodes.keys().filter_map(|&id| self.file(id)).collect();
                let pick = dice.below(files.len());
                Stale(files.get(pick).map(|file| file.live.clone()).unwrap_or_default())
            }
        }
    }
}

/// Old bytes of the medium, repeated; none stands for zeros.
struct Stale(Vec<u8>);

impl Stale {
    fn at(&self, offset: usize) -> u8 {
        offset.checked_rem(self.0.len()).and_then(|at| self.0.get(at)).copied().unwrap_or(0)
    }

    /// Grows the image to `len` with old bytes.
    fn grow(&self, image: &mut Vec<u8>, len: usize) {
        let start = image.len();
        image.extend((start..len).map(|offset| self.at(offset)));
    }
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => put(image, *offset, bytes),
        Change::SetLen(len) => image.resize(*len, 0),
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    image.resize(image.len().max(offset), 0);
    let (over, behind) = bytes.split_at(bytes.len().min(image.len() - offset));
    if let Some(target) = image.get_mut(offset..offset + over.len()) {
        target.copy_from_slice(over);
    }
    image.extend_from_slice(behind);
}

fn apply_name(names: &mut BTreeMap<String, NodeId>, op: &NameOp) {
    match op {
        NameOp::Link { name, node } => {
            names.insert(name.clone(), *node);
        }
        NameOp::Unlink { name } => {
            names.remove(name);
        }
        NameOp::Rename { from, to, node } => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

/// Which of `count` unsynced operations survive: none, all, the first few, all but one, or any.
fn survivors(count: usize, dice: &mut Dice) -> Vec<bool> {
    let pick = dice.below(count + 1);
    match dice.below(5) {
        0 => vec![false; count],
        1 => vec![true; count],
        2 => (0..count).map(|index| index < pick).collect(),
        3 => (0..count).map(|index| index != pick).collect(),
        _ => (0..count).map(|_| dice.once_in(2)).collect(),
    }
}

fn surviving_names(dir: &DirNode, names: &Survival, dice: &mut Dice) -> BTreeMap<String, NodeId> {
    let keep = match names {
        Survival::None => return dir.durable.clone(),
        Survival::All => return dir.live.clone(),
        Survival::Random => survivors(dir.pending.len(), dice),
    };
    let mut survived = dir.durable.clone();
    for (op, _) in dir.pending.iter().zip(keep).filter(|(_, kept)| *kept) {
        apply_name(&mut survived, op);
    }
    survived
}

/// The first few changes, the last of them torn.
fn prefix(file: &FileNode, stale: &Stale, dice: &mut Dice) -> Vec<u8> {
    let count = dice.below(file.pending.len() + 1);
    let mut image = file.durable.clone();
    for (index, change) in file.pending.iter().take(count).enumerate() {
        if index + 1 == count {
            torn(&mut image, change, stale, dice);
        } else {
            apply(&mut image, change);
        }
    }
    image
}

fn all_but_one(file: &FileNode, stale: &Stale, dice: &mut Dice) -> Vec<u8> {
    let lost = dice.below(file.pending.len());
    let mut image = file.durable.clone();
    for (index, change) in file.pending.iter().enumerate() {
        if index != lost {
            apply(&mut image, change);
        } else if let Change::Write { offset, bytes } = change
            && dice.once_in(2)
        {
            stale.grow(&mut image, offset + bytes.len());
        }
    }
    image
}

fn subset(file: &FileNode, stale: &Stale, dice: &mut Dice) -> Vec<u8> {
    let mut image = file.durable.clone();
    for change in &file.pending {
        match dice.below(3) {
            0 => apply(&mut image, change),
            1 => torn(&mut image, change, stale, dice),
            _ => {}
        }
    }
    image
}

/// A write of which only some sectors arrived; a change of length happens or does not.
fn torn(image: &mut Vec<u8>, change: &Change, stale: &Stale, dice: &mut Dice) {
    let (offset, bytes) = match change {
        Change::Write { offset, bytes } => (*offset, bytes),
        Change::SetLen(_) => {
            if dice.once_in(2) {
                apply(image, change);
            }
            return;
        }
    };
    let size_arrived = dice.once_in(2);
    let mut at = offset;
    let mut rest: &[u8] = bytes;
    while !rest.is_empty() {
        let (sector, behind) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        if dice.once_in(2) {
            put(image, at, sector);
        } else if size_arrived {
            stale.grow(image, at + sector.len());
        }
        at += sector.len();
        rest = behind;
    }
}

/// Every sector as it was at a moment of its own since the last sync, and the length as it was at
/// another: what a page cache that writes back as it pleases can leave.
fn sector_versions(file: &FileNode, stale: &Stale, dice: &mut Dice) -> Vec<u8> {
    let moments = file.pending.len() + 1;
    let size_moment = dice.below(moments);
    let mut version = file.durable.clone();
    let mut size = version.len();
    let mut sectors: BTreeMap<usize, (usize, Vec<u8>)> = BTreeMap::new();
    let mut changes = file.pending.iter();
    for moment in 0..moments {
        let count = version.len().div_ceil(SECTOR);
        for index in 0..count {
            let (chosen, bytes) = sectors.entry(index).or_insert_with(|| (dice.below(moments), Vec::new()));
            if *chosen == moment {
                *bytes = version.chunks(SECTOR).nth(index).unwrap_or_default().to_vec();
            }
        }
        if moment == size_moment {
            size = version.len();
        }
        if let Some(change) = changes.next() {
            apply(&mut version, change);
        }
    }
    let mut image = Vec::with_capacity(size);
    for (index, (_, bytes)) in sectors {
        image.truncate(index * SECTOR);
        stale.grow(&mut image, index * SECTOR);
        image.extend_from_slice(&bytes);
        // A sector that was never written back shows what the medium held before.
        let end = file.durable.len().min((index + 1) * SECTOR);
        if let Some(old) = file.durable.get(image.len()..end) {
            image.extend_from_slice(old);
        }
    }
    image.truncate(size);
    stale.grow(&mut image, size);
    image
}
