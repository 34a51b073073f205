//! Files: opened from a trusted folder down, one part at a time, and judged by the descriptor that is read.
//!
//! No name is looked at twice: each part is opened below the descriptor of the one before, without following
//! links, so that whoever renames or links beside us gets a refusal and never another file's value. Where links
//! are allowed, the path is first resolved to one without links, and that one is opened the same way.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, open, openat, statat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::base::{AbsolutePath, SecretBytes};
use crate::engine::ResolveSettings;
use crate::event::vault::ResolveReason;

use super::admit;
use super::outcome::{Reason, Trace};

/// How often a path with links is resolved anew when it changes under our hands.
const TRIES: usize = 3;

/// Opens a file that the rules let us read; its value has not been read yet.
pub fn open_checked(rules: &ResolveSettings, path: &AbsolutePath, trace: &mut Trace) -> Result<OwnedFd, Reason> {
    let path = path.as_path();
    let trusted = trusted(rules, path);
    let found = || match &trusted {
        Some((dir, _)) => format!("below {}", dir.display()),
        None => "below none of them".to_owned(),
    };
    let what = || "the path lies below a folder of resolve.file_dirs".to_owned();
    trace.check(trusted.is_some(), || ResolveReason::FileOutside.into(), what, found)?;
    let Some((dir, rest)) = trusted else { return Err(ResolveReason::FileOutside.into()) };
    if !rules.file_symlinks {
        return open_below(&dir, &rest, trace);
    }
    let mut last = ResolveReason::FileMissing.into();
    for _ in 0..TRIES {
        let real = std::fs::canonicalize(path).map_err(|error| missing_or(&error))?;
        // The trusted folders are the owner's words: links in their own paths are his.
        let dirs = rules.file_dirs.iter().filter_map(|dir| std::fs::canonicalize(dir).ok());
        let below = dirs.filter_map(|dir| real.strip_prefix(&dir).ok().map(|rest| (dir.clone(), rest.to_owned())));
        let target = below.max_by_key(|(dir, _)| dir.as_os_str().len());
        let what = || "where its links lead to lies below such a folder".to_owned();
        let found = || target.as_ref().map_or("outside".to_owned(), |(dir, _)| format!("below {}", dir.display()));
        trace.check(target.is_some(), || ResolveReason::FileOutside.into(), what, found)?;
        let Some((dir, rest)) = target else { break };
        match open_below(&dir, &rest, trace) {
            // Somebody changed a link in between: an honest one is right the next time.
            Err(reason) if matches!(reason.code, ResolveReason::FileLink | ResolveReason::FileMissing) => last = reason,
            other => return other,
        }
    }
    Err(last)
}

/// The trusted folder that a path lies below, and the rest of the path.
fn trusted(rules: &ResolveSettings, path: &Path) -> Option<(PathBuf, PathBuf)> {
    let below = rules.file_dirs.iter().filter_map(|dir| {
        let rest = path.strip_prefix(dir).ok().filter(|rest| rest.components().next().is_some())?;
        Some((dir.clone(), rest.to_owned()))
    });
    below.max_by_key(|(dir, _)| dir.as_os_str().len())
}

fn missing_or(error: &std::io::Error) -> Reason {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => ResolveReason::FileMissing.into(),
        Some(Errno::LOOP) => ResolveReason::FileLink.into(),
        Some(Errno::NOTDIR) => ResolveReason::FileKind.into(),
        _ => Reason::system(ResolveReason::FileFailed, error),
    }
}

fn failed(errno: Errno) -> Reason {
    missing_or(&errno.into())
}

fn open_below(dir: &Path, rest: &Path, trace: &mut Trace) -> Result<OwnedFd, Reason> {
    let folder = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut parent = open(dir, folder, Mode::empty()).map_err(failed)?;
    judge_above(dir, trace)?;
    judge_folder(&parent, &dir.display().to_string(), trace)?;
    let mut parts = rest.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(ResolveReason::FileOutside.into()) };
        let shown = name.to_string_lossy();
        // What a name leads to is looked at before it is opened, since opening a device may already do
        // something; what counts is the descriptor.
        let named = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let what = || format!("{shown} is no symbolic link");
        let link = admit::kind(&named) == FileType::Symlink;
        trace.check(!link, || ResolveReason::FileLink.into(), what, || admit::described(&named))?;
        if parts.peek().is_some() {
            let next = openat(&parent, name, folder | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
            judge_folder(&next, &shown, trace)?;
            parent = next;
            continue;
        }
        let regular = admit::kind(&named) == FileType::RegularFile;
        let what = || format!("{shown} is a regular file");
        trace.check(regular, || ResolveReason::FileKind.into(), what, || admit::described(&named))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
        judge_file(&file, &shown, trace)?;
        return Ok(file);
    }
    Err(ResolveReason::FileKind.into())
}

/// Whether only its owner and root can put another folder under a trusted one's name: neither by renaming, nor by
/// a link on the way to it.
fn judge_above(dir: &Path, trace: &mut Trace) -> Result<(), Reason> {
    let real = std::fs::canonicalize(dir).map_err(|error| missing_or(&error))?;
    for folder in dir.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let stat = rustix::fs::stat(folder).map_err(failed)?;
        let found = || admit::described(&stat);
        if !admit::is_ours(&stat) {
            let what = || format!("the folder {} belongs to this user or root", folder.display());
            trace.check(false, || ResolveReason::FileOwner.into(), what, found)?;
        }
        if !admit::keeps_names(&stat) {
            let what = || format!("nobody else may replace what is in the folder {}", folder.display());
            trace.check(false, || ResolveReason::FileMode.into(), what, found)?;
        }
    }
    Ok(())
}

fn judge_folder(folder: &OwnedFd, shown: &str, trace: &mut Trace) -> Result<(), Reason> {
    let stat = fstat(folder).map_err(failed)?;
    let found = || admit::described(&stat);
    let what = || format!("the folder {shown} belongs to this user or root");
    trace.check(admit::is_ours(&stat), || ResolveReason::FileOwner.into(), what, found)?;
    let what = || format!("nobody else may write to the folder {shown}");
    trace.check(admit::is_written_by_owner(&stat), || ResolveReason::FileMode.into(), what, found)
}

fn judge_file(file: &OwnedFd, shown: &str, trace: &mut Trace) -> Result<(), Reason> {
    let stat = fstat(file).map_err(failed)?;
    let found = || admit::described(&stat);
    // Once more, now of what is open: the name may lead elsewhere since.
    if admit::kind(&stat) != FileType::RegularFile {
        return Err(ResolveReason::FileKind.into());
    }
    let what = || format!("{shown} belongs to this user or root");
    trace.check(admit::is_ours(&stat), || ResolveReason::FileOwner.into(), what, found)?;
    let what = || format!("nobody else may read or write {shown}");
    trace.check(admit::is_private(&stat), || ResolveReason::FileMode.into(), what, found)
}

/// Whether what is open is within a bound.
pub fn judge_size(file: &OwnedFd, max: u32, trace: &mut Trace) -> Result<(), Reason> {
    let size = u64::try_from(fstat(file).map_err(failed)?.st_size).unwrap_or(u64::MAX);
    let bound = || Reason::bound(ResolveReason::TooLarge, u64::from(max));
    trace.check(size <= u64::from(max), bound, || format!("it has at most {max} bytes"), || format!("{size} bytes"))
}

/// Reads what is open, up to a bound: the size may change while it is read.
pub fn read(file: OwnedFd, max: u32) -> Result<SecretBytes, Reason> {
    judge_size(&file, max, &mut Trace::default())?;
    let bound = || Reason::bound(ResolveReason::TooLarge, u64::from(max));
    let file = std::fs::File::from(file);
    read_bounded(file, max).map_err(|error| Reason::system(ResolveReason::FileFailed, &error))?.ok_or_else(bound)
}

/// Reads to the end into memory that is wiped and never moves; none where there is more than the bound.
fn read_bounded(mut reader: impl Read, max: u32) -> std::io::Result<Option<SecretBytes>> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    // All the room at first: no reallocation and no buffer in between leaves a copy behind.
    let mut bytes = Zeroizing::new(vec![0; max.saturating_add(1)]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match reader.read(room) {
            Ok(0) => return Ok(bytes.get(..len).map(SecretBytes::from)),
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
