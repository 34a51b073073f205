//! Carries recorded calls out on the model of the disk.
//!
//! Whatever is not understood is refused: writable shared mappings, `io_uring`, copies inside the kernel, descriptors
//! that came from somewhere else, and any other recorded call that names something below the root.

use std::collections::HashMap;

use super::disk::{Change, Disk, Naming, NodeId};
use super::trace::{Call, Step, Trace};
use crate::Fault;

/// The calls that are recorded. What changes no file and names none is left out; a question mark is for systems
/// that lack the call.
pub const RECORDED: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "read",
    "readv",
    "lseek",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "truncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "sync",
    "syncfs",
    "sync_file_range",
    "msync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "copy_file_range",
    "sendfile",
    "splice",
    "mmap",
    "io_uring_setup",
    "io_submit",
    "chroot",
    "mount",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "open_by_handle_at",
    "pidfd_getfd",
    "recvmsg",
    "setxattr",
];

/// An open descriptor.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: NodeId,
    position: u64,
    append: bool,
    writable: bool,
}

/// What a step did that a power cut or a promise could meet.
#[derive(Debug, PartialEq, Eq)]
pub enum Happened {
    /// Nothing of the kind.
    Nothing,
    /// The disk changed, or what is durable of it.
    Changed,
    /// The program said something.
    Said(String),
}

/// A disk and the descriptors of the recorded program.
#[derive(Debug)]
pub struct Replay<'a> {
    /// The disk.
    pub disk: Disk,
    trace: &'a Trace,
    root: &'a [u8],
    open: HashMap<i64, Open>,
    /// Calls that a sync that was entered covers.
    syncs: HashMap<usize, (NodeId, Vec<usize>)>,
    /// Nodes that an entered call opens.
    opening: HashMap<usize, NodeId>,
}

impl<'a> Replay<'a> {
    /// Before the first step. `root` is the recorded folder.
    pub fn new(trace: &'a Trace, root: &'a [u8], disk: Disk) -> Self {
        Self { disk, trace, root, open: HashMap::new(), syncs: HashMap::new(), opening: HashMap::new() }
    }

    /// Carries out one step.
    pub fn step(&mut self, step: Step) -> Result<Happened, Fault> {
        let (Step::Enter(number) | Step::Leave(number)) = step;
        let trace = self.trace;
        let call = trace.calls.get(number).ok_or("a step without a call")?;
        if call.result < 0 {
            return Ok(Happened::Nothing);
        }
        let happened = match step {
            Step::Enter(_) => self.enter(number, call),
            Step::Leave(_) => Ok(self.leave(number, call)),
        };
        happened.map_err(|fault| format!("line {} of the recording, {}: {fault}", call.line, call.name).into())
    }

    /// A path below the root, without the root.
    fn below<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(self.root)?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    }

    /// The open file of an argument; an error where it lies below the root and was not seen to be opened.
    fn file(&self, call: &Call, arg: usize) -> Result<Option<Open>, Fault> {
        let inside = call.fd_path(arg).is_some_and(|path| self.below(&path).is_some());
        match self.open.get(&call.number(arg)) {
            Some(open) if inside => Ok(Some(*open)),
            None if inside => Err("a descriptor that was never opened".into()),
            _ => Ok(None),
        }
    }

    /// Folder and name of a path below the root.
    fn place(&self, path: &[u8]) -> Result<Option<(NodeId, Vec<u8>)>, Fault> {
        let Some(path) = self.below(path) else { return Ok(None) };
        let at = path.iter().rposition(|&byte| byte == b'/').ok_or("it names the root itself")?;
        let (folder, name) = path.split_at(at);
        let folder = self.disk.find(folder).ok_or_else(|| unknown(path))?;
        Ok(Some((folder, name.get(1..).unwrap_or_default().to_vec())))
    }

    fn node(&self, path: &[u8]) -> Result<Option<NodeId>, Fault> {
        let Some(path) = self.below(path) else { return Ok(None) };
        self.disk.find(path).map(Some).ok_or_else(|| unknown(path))
    }

    fn enter(&mut self, number: usize, call: &Call) -> Result<Happened, Fault> {
        match call.name.as_str() {
            "write" | "writev" if call.number(0) == 1 && self.file(call, 0)?.is_none() => {
                return Ok(Happened::Said(String::from_utf8_lossy(&call.bytes(1)).trim().to_owned()));
            }
            "open" => return self.open(number, call, call.path(None, 0), 1),
            "openat" => return self.open(number, call, call.path(Some(0), 1), 2),
            "close" => {
                self.open.remove(&call.number(0));
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => return self.write(number, call),
            "copy_file_range" => return self.copy(number, call),
            "read" | "readv" | "lseek" | "sync_file_range" => {
                self.file(call, 0)?;
            }
            "ftruncate" => {
                if let Some(open) = self.file(call, 0)? {
                    self.disk.change(number, open.node, Change::Length(call.size(1)));
                    return Ok(Happened::Changed);
                }
            }
            "truncate" => {
                if let Some(node) = self.node(&call.path(None, 0))? {
                    self.disk.change(number, node, Change::Length(call.size(1)));
                    return Ok(Happened::Changed);
                }
            }
            "fallocate" => {
                if let Some(open) = self.file(call, 0)? {
                    if call.arg(1) != "0" {
                        return Err("a mode of it that the model does not know".into());
                    }
                    let len = self.disk.len(open.node).max(call.size(2) + call.size(3));
                    self.disk.change(number, open.node, Change::Length(len));
                    return Ok(Happened::Changed);
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(open) = self.file(call, 0)? {
                    self.syncs.insert(number, (open.node, self.disk.covered(open.node)));
                }
            }
            "rename" => return self.rename(number, &call.path(None, 0), &call.path(None, 1)),
            "renameat" | "renameat2" => {
                if call.name == "renameat2" && !matches!(call.arg(4), "0" | "RENAME_NOREPLACE") {
                    return Err("a flag of it that the model does not know".into());
                }
                return self.rename(number, &call.path(Some(0), 1), &call.path(Some(2), 3));
            }
            "unlink" | "rmdir" => return self.remove(number, &call.path(None, 0)),
            "unlinkat" => return self.remove(number, &call.path(Some(0), 1)),
            "mkdir" | "mkdirat" => {
                let at = usize::from(call.name == "mkdirat");
                if let Some((folder, name)) = self.place(&call.path((at == 1).then_some(0), at))? {
                    let node = self.disk.add_folder(call.mode(at + 1));
                    self.disk.name(number, Naming::Put(folder, name, node));
                    return Ok(Happened::Changed);
                }
            }
            "link" | "linkat" => {
                let (from, to) = match call.name.as_str() {
                    "link" => (call.path(None, 0), call.path(None, 1)),
                    _ => (call.path(Some(0), 1), call.path(Some(2), 3)),
                };
                if let Some((folder, name)) = self.place(&to)? {
                    let node = self.node(&from)?.ok_or("a link to something outside")?;
                    self.disk.name(number, Naming::Put(folder, name, node));
                    return Ok(Happened::Changed);
                }
            }
            "chmod" | "fchmodat" => {
                let at = usize::from(call.name == "fchmodat");
                if let Some(node) = self.node(&call.path((at == 1).then_some(0), at))? {
                    self.disk.set_mode(node, call.mode(at + 1));
                }
            }
            "fchmod" => {
                if let Some(open) = self.file(call, 0)? {
                    self.disk.set_mode(open.node, call.mode(1));
                }
            }
            "mmap" => {
                let open = if call.arg(3).contains("MAP_ANONYMOUS") { None } else { self.file(call, 4)? };
                let shared = call.has(3, "MAP_SHARED") || call.has(3, "MAP_SHARED_VALIDATE");
                if shared && open.is_some_and(|open| open.writable) {
                    return Err("a writable file is mapped as shared: what is stored there cannot be seen".into());
                }
            }
            "fcntl" => {
                if self.file(call, 0)?.is_some()
                    && (call.arg(1).starts_with("F_DUPFD") || call.arg(1).starts_with("F_SETFL"))
                {
                    return Err("descriptors are doubled or changed".into());
                }
            }
            // The first one is the recorded program itself.
            "execve" if number == 0 => {}
            "execve" | "execveat" | "fork" | "vfork" | "io_uring_setup" | "io_submit" | "chroot" | "mount" | "sync" => {
                return Err("the model does not know what that does".into());
            }
            _ => return self.other(call),
        }
        Ok(Happened::Nothing)
    }

    /// A call that the model does not know must name nothing below the root.
    fn other(&self, call: &Call) -> Result<Happened, Fault> {
        for at in 0..call.args.len() {
            if [call.bytes(at), call.fd_path(at).unwrap_or_default()].iter().any(|path| self.below(path).is_some()) {
                return Err("the model does not know what that does to a file below the root".into());
            }
        }
        Ok(Happened::Nothing)
    }

    fn open(&mut self, number: usize, call: &Call, path: Vec<u8>, flags: usize) -> Result<Happened, Fault> {
        let Some(inside) = self.below(&path) else { return Ok(Happened::Nothing) };
        if call.has(flags, "O_TMPFILE") || call.has(flags, "O_DIRECT") {
            return Err("a flag of it that the model does not know".into());
        }
        let mut happened = Happened::Nothing;
        let node = match self.disk.find(inside) {
            Some(node) => {
                if call.has(flags, "O_TRUNC") && self.disk.len(node) > 0 {
                    self.disk.change(number, node, Change::Length(0));
                    happened = Happened::Changed;
                }
                node
            }
            None if call.has(flags, "O_CREAT") => {
                let (folder, name) = self.place(&path)?.ok_or("no folder")?;
                let node = self.disk.add_file(call.mode(flags + 1));
                self.disk.name(number, Naming::Put(folder, name, node));
                happened = Happened::Changed;
                node
            }
            None => return Err(unknown(inside)),
        };
        self.opening.insert(number, node);
        Ok(happened)
    }

    fn write(&mut self, number: usize, call: &Call) -> Result<Happened, Fault> {
        let Some(open) = self.file(call, 0)? else { return Ok(Happened::Nothing) };
        let mut bytes = call.bytes(1);
        let written = usize::try_from(call.result).unwrap_or(0);
        if bytes.len() < written {
            return Err("not all of its bytes were recorded".into());
        }
        bytes.truncate(written);
        let at = match call.name.as_str() {
            "pwrite64" | "pwritev" | "pwritev2" => call.size(3),
            _ if open.append => self.disk.len(open.node),
            _ => open.position,
        };
        if !call.name.starts_with('p')
            && let Some(open) = self.open.get_mut(&call.number(0))
        {
            open.position = at + bytes.len() as u64;
        }
        self.disk.change(number, open.node, Change::Write(at, bytes.into()));
        Ok(Happened::Changed)
    }

    /// One file's bytes into another, from where each of them stands.
    fn copy(&mut self, number: usize, call: &Call) -> Result<Happened, Fault> {
        let (from, to) = (self.file(call, 0)?, self.file(call, 2)?);
        let copied = usize::try_from(call.result).unwrap_or(0);
        let (from, to) = match (from, to) {
            (None, None) => return Ok(Happened::Nothing),
            (Some(from), Some(to)) => (from, to),
            _ => return Err("bytes are copied across the root".into()),
        };
        if call.arg(1) != "NULL" || call.arg(3) != "NULL" || to.append {
            return Err("a way of copying that the model does not know".into());
        }
        let bytes = self.disk.bytes(from.node, from.position, copied);
        if bytes.len() != copied {
            return Err("more was copied than the model has".into());
        }
        let (node, at) = (to.node, to.position);
        for fd in [call.number(0), call.number(2)] {
            if let Some(open) = self.open.get_mut(&fd) {
                open.position += copied as u64;
            }
        }
        if copied == 0 {
            return Ok(Happened::Nothing);
        }
        self.disk.change(number, node, Change::Write(at, bytes.into()));
        Ok(Happened::Changed)
    }

    fn rename(&mut self, number: usize, from: &[u8], to: &[u8]) -> Result<Happened, Fault> {
        match (self.place(from)?, self.place(to)?) {
            (None, None) => Ok(Happened::Nothing),
            (Some(old), Some(new)) => {
                let node = self.node(from)?.ok_or_else(|| unknown(from))?;
                self.disk.name(number, Naming::Move(old, new, node));
                Ok(Happened::Changed)
            }
            _ => Err("something is moved across the root".into()),
        }
    }

    fn remove(&mut self, number: usize, path: &[u8]) -> Result<Happened, Fault> {
        let Some((folder, name)) = self.place(path)? else { return Ok(Happened::Nothing) };
        let node = self.node(path)?.ok_or_else(|| unknown(path))?;
        self.disk.name(number, Naming::Remove(folder, name, node));
        Ok(Happened::Changed)
    }

    fn leave(&mut self, number: usize, call: &Call) -> Happened {
        self.disk.returned(number);
        if let Some(node) = self.opening.remove(&number) {
            let flags = if call.name == "open" { 1 } else { 2 };
            let writable = call.has(flags, "O_RDWR") || call.has(flags, "O_WRONLY");
            let open = Open { node, position: 0, append: call.has(flags, "O_APPEND"), writable };
            self.open.insert(call.result, open);
        }
        if let Some((node, covered)) = self.syncs.remove(&number) {
            self.disk.synced(node, &covered);
            return Happened::Changed;
        }
        if matches!(call.name.as_str(), "read" | "readv" | "lseek")
            && let Some(open) = self.open.get_mut(&call.number(0))
        {
            let moved = u64::try_from(call.result).unwrap_or(0);
            open.position = if call.name == "lseek" { moved } else { open.position + moved };
        }
        Happened::Nothing
    }
}

fn unknown(path: &[u8]) -> Fault {
    format!("the model has nothing at {}", String::from_utf8_lossy(path)).into()
}
