//! sled's folder as files: what sled itself does not do with them.
//!
//! sled's flush never calls fsync on Linux, never syncs a folder, and opening it can overwrite
//! what is damaged. So the barrier, the copies and the setting aside are done here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::witness::{Inconsistency, WitnessError};
use super::{Medium, RealMedium, StoreError, StoreOp};

/// sled's folder in a ledger's home.
pub(super) const SLED_DIR: &str = "sled";
/// Beginning of the name of a folder in which a new sled log is being made.
const STAGE_PREFIX: &str = "sled.new-";
/// Where evidence is kept.
const QUARANTINE_DIR: &str = "quarantine";
/// End of the name of a copy that was not finished.
const PARTIAL: &str = ".partial";
/// Folders within sled's folder go no deeper than this (`blobs`).
const DEPTH_MAX: usize = 2;
/// Times that a copy is begun where snapshots are replaced under it.
const COPY_TRIES: u32 = 10;
/// Names tried for evidence of one moment before giving up.
const NAMES_MAX: u32 = 10_000;
/// Longest time text in bytes.
const TIME_TEXT_MAX: usize = 64;

/// What lies in a folder: regular files and folders, the folder itself last.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) files: Vec<PathBuf>,
    pub(super) dirs: Vec<PathBuf>,
}

/// Lists a folder; refuses symbolic links and anything else that is no file or folder, since sled
/// would follow or open it.
pub(super) fn survey(dir: &Path) -> Result<Survey, WitnessError> {
    let mut found = Survey::default();
    visit(dir, DEPTH_MAX, &mut found)?;
    Ok(found)
}

fn visit(dir: &Path, depth: usize, found: &mut Survey) -> Result<(), WitnessError> {
    let failed = |error| StoreError::new(StoreOp::Folder, dir, error);
    let depth = depth.checked_sub(1).ok_or(Inconsistency::StrangeFile)?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // A snapshot that sled replaced just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::new(StoreOp::Read, &path, error).into()),
        };
        if meta.is_dir() {
            visit(&path, depth, found)?;
        } else if meta.is_file() {
            found.files.push(path);
        } else {
            return Err(Inconsistency::StrangeFile.into());
        }
    }
    found.dirs.push(dir.to_owned());
    Ok(())
}

/// fsyncs every file and folder in `dir`, and the folder above it: the barrier that sled's flush
/// is not. A failure is final; nobody may try again.
pub(super) fn sync_tree(dir: &Path) -> Result<(), WitnessError> {
    let found = survey(dir)?;
    for path in &found.files {
        match open_no_follow(path) {
            Ok(file) => file.sync_all().map_err(|error| StoreError::new(StoreOp::Sync, path, error))?,
            // sled's own background work replaces snapshots; the new one is in the folder's sync.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::new(StoreOp::Open, path, error).into()),
        }
    }
    for path in &found.dirs {
        RealMedium.sync_dir(path)?;
    }
    Ok(RealMedium.sync_dir(parent(dir))?)
}

pub(super) fn open_no_follow(path: &Path) -> io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(no_follow).open(path)
}

/// Copies a folder to a path where nothing stands: files mode 0600, folders 0700, all synced. Where a snapshot was
/// replaced meanwhile, which sled does in the background, the copy begins anew.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), WitnessError> {
    let mut left = COPY_TRIES;
    loop {
        left -= 1;
        match copy_once(from, to) {
            Err(WitnessError::Store(error)) if left > 0 && vanished(&error, from) => remove_tree(to)?,
            done => return done,
        }
    }
}

/// Whether it is a file of this folder that could not be copied because it is gone.
fn vanished(error: &StoreError, from: &Path) -> bool {
    error.op == StoreOp::Copy && error.path.starts_with(from) && error.source.kind() == io::ErrorKind::NotFound
}

fn copy_once(from: &Path, to: &Path) -> Result<(), WitnessError> {
    let found = survey(from)?;
    for dir in found.dirs.iter().rev() {
        let target = moved(dir, from, to);
        let made = fs::DirBuilder::new().mode(0o700).create(&target);
        made.map_err(|error| StoreError::new(StoreOp::Copy, &target, error))?;
    }
    for path in &found.files {
        copy_file(path, &moved(path, from, to)).map_err(|error| StoreError::new(StoreOp::Copy, path, error))?;
    }
    for dir in &found.dirs {
        RealMedium.sync_dir(&moved(dir, from, to))?;
    }
    Ok(RealMedium.sync_dir(parent(to))?)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = open_no_follow(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => to.to_owned(),
    }
}

/// Removes a folder and what is in it, durably; a path where nothing stands is fine. Symbolic links
/// are removed, not followed.
pub(super) fn remove_tree(dir: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::new(StoreOp::Remove, dir, error);
    let removed = match fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(dir),
        Ok(_) => fs::remove_file(dir),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed).and_then(|()| RealMedium.sync_dir(parent(dir))),
    }
}

/// Where a new sled log is made before it gets its name.
pub(super) fn stage_path(home: &Path, random: [u8; 8]) -> PathBuf {
    home.join(format!("{STAGE_PREFIX}{:016x}", u64::from_be_bytes(random)))
}

/// Removes what a crash during creation left: never a log that anybody has used.
pub(super) fn remove_stages(home: &Path) -> Result<(), StoreError> {
    for name in RealMedium.list(home)? {
        if name.starts_with(STAGE_PREFIX) {
            remove_tree(&home.join(name))?;
        }
    }
    Ok(())
}

/// Moves sled's folder to the quarantine, untouched.
pub(super) fn set_aside(home: &Path, time_text: &str) -> Result<PathBuf, WitnessError> {
    let quarantine = quarantine(home)?;
    let target = free_name(&quarantine, &format!("{}-sled", checked_name(time_text)?))?;
    RealMedium.rename(&home.join(SLED_DIR), &target)?;
    // A crash here may leave both names or, on a file system that orders nothing, the new one
    // first: synced in this order, the evidence always has a name.
    RealMedium.sync_dir(&quarantine)?;
    RealMedium.sync_dir(home)?;
    Ok(target)
}

/// Copies sled's folder to the quarantine; a crash leaves a partial copy that the next one removes.
pub(super) fn copy_aside(home: &Path, time_text: &str) -> Result<PathBuf, WitnessError> {
    let quarantine = quarantine(home)?;
    let suffix = "-sled-copy";
    let unfinished = format!("{suffix}{PARTIAL}");
    for name in RealMedium.list(&quarantine)?.iter().filter(|name| name.ends_with(&unfinished)) {
        remove_tree(&quarantine.join(name))?;
    }
    let base = format!("{}{suffix}", checked_name(time_text)?);
    let partial = quarantine.join(format!("{base}{PARTIAL}"));
    copy_tree(&home.join(SLED_DIR), &partial)?;
    let target = free_name(&quarantine, &base)?;
    RealMedium.rename(&partial, &target)?;
    RealMedium.sync_dir(&quarantine)?;
    Ok(target)
}

fn quarantine(home: &Path) -> Result<PathBuf, StoreError> {
    let quarantine = home.join(QUARANTINE_DIR);
    RealMedium.create_dir(&quarantine)?;
    RealMedium.sync_dir(home)?;
    Ok(quarantine)
}

fn free_name(dir: &Path, base: &str) -> Result<PathBuf, StoreError> {
    let names = std::iter::once(base.to_owned()).chain((2..NAMES_MAX).map(|number| format!("{base}-{number}")));
    for name in names {
        let path = dir.join(name);
        if !RealMedium.exists(&path)? {
            return Ok(path);
        }
    }
    Err(StoreError::new(StoreOp::Rename, &dir.join(base), io::ErrorKind::AlreadyExists.into()))
}

fn checked_name(text: &str) -> Result<&str, Inconsistency> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.+".contains(&byte);
    let good = (1..=TIME_TEXT_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits);
    good.then_some(text).ok_or(Inconsistency::Name)
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
