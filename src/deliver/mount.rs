//! A value that looks like a file: a FIFO, mode 0600, in a folder of its own in memory (`XDG_RUNTIME_DIR`, else
//! `/dev/shm`). The value itself is in no file system: it goes through the pipe to whoever opened it.
//!
//! Each opening gets a pipe of its own. As soon as a reader is there, a new FIFO takes the old one's name, so
//! that the next reader finds an untouched one; with the last allowed reading the name is gone. Readers that
//! open in the very moment in which the first of them is noticed share one pipe: together they get the value
//! once, which keeps the bound. A reader that takes nothing is left after a while, and stops nobody else.
//!
//! The folder is removed at the end. Another process keeps watch: it holds the other end of a pipe, and removes
//! the folder when that breaks, so that even a kill leaves nothing.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::base::{SecretBytes, limits};

use super::memory::make_room;

const PREFIX: &str = "palyra-ledger-";
const NEXT: &str = ".next";
/// How long after a hand-out somebody may still open the FIFO that they had found by its name.
const LATE: Duration = Duration::from_millis(20);
/// Hand-outs that wait for that at once; more of them wait in turn.
const LATE_MAX: usize = 64;

/// A value to be mounted.
#[derive(Debug)]
pub struct Mount {
    /// Name of the file.
    pub name: String,
    /// What is read from it.
    pub value: SecretBytes,
    /// How often it can be read; without one as often as one likes.
    pub max_reads: Option<u32>,
}

/// The folder with mounted files; it goes when this goes.
#[derive(Debug)]
pub struct MountFolder {
    dir: tempfile::TempDir,
    folder: Arc<OwnedFd>,
    watch: Option<Child>,
}

impl MountFolder {
    /// Makes the folder and lets a program keep watch over it, which runs [`keep_watch`] on its argument.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(keeper: &Path, words: &[&str]) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(PREFIX).rand_bytes(12).tempdir_in(place())?;
        let folder = rustix::fs::open(
            dir.path(),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o700))?;
        // In a process group of its own: what a terminal sends to ours does not end it.
        let watch = Command::new(keeper)
            .args(words)
            .arg(dir.path())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { dir, folder: Arc::new(folder), watch: Some(watch) })
    }

    /// Puts a value there, and gives its path.
    ///
    /// # Errors
    /// What the system says.
    pub fn mount(&self, mount: Mount) -> std::io::Result<PathBuf> {
        let path = self.dir.path().join(&mount.name);
        make_fifo(&self.folder, &mount.name)?;
        let folder = Arc::clone(&self.folder);
        std::thread::Builder::new().name("mount".to_owned()).spawn(move || serve(&folder, &mount))?;
        Ok(path)
    }
}

impl Drop for MountFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.dir.path());
        if let Some(mut watch) = self.watch.take() {
            // Its standard input breaks, it finds nothing to do and ends.
            drop(watch.stdin.take());
            let _ = watch.wait();
        }
    }
}

/// Where mounted files live: in memory, in a folder that is this user's alone or has the sticky bit.
fn place() -> PathBuf {
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    of_user.into_iter().chain([PathBuf::from("/dev/shm")]).find(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir)
}

fn make_fifo(folder: &OwnedFd, name: &str) -> std::io::Result<()> {
    rustix::fs::mknodat(folder, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    Ok(())
}

/// Gives the value to each reader until the bound is reached or the folder is gone.
fn serve(folder: &OwnedFd, mount: &Mount) {
    let mut left = mount.max_reads;
    let busy = Arc::new(AtomicUsize::new(0));
    let (late, later) = std::sync::mpsc::sync_channel(LATE_MAX);
    if std::thread::Builder::new().name("mount-late".to_owned()).spawn(move || wake_late(&later)).is_err() {
        return;
    }
    while left != Some(0) {
        // Returns when a reader is there.
        let Ok(pipe) = rustix::fs::openat(folder, &mount.name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) else {
            return;
        };
        let last = left == Some(1);
        let served = rustix::fs::openat(CWD, of_process(&pipe), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let replaced = if last {
            rustix::fs::unlinkat(folder, &mount.name, AtFlags::empty()).map_err(Into::into)
        } else {
            renew(folder, &mount.name)
        };
        if replaced.is_err() {
            return;
        }
        match hand_out(pipe, mount.value.clone(), &busy) {
            // It went away before anything was written: it has read nothing.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                if last && make_fifo(folder, &mount.name).is_err() {
                    return;
                }
            }
            _ => left = left.map(|left| left - 1),
        }
        if let Ok(served) = served {
            let _ = late.send(served);
        }
    }
}

/// Readers that found the old FIFO and opened it after its value was handed out would wait for ever: nobody
/// else writes to it. They are given its end.
fn wake_late(served: &Receiver<OwnedFd>) {
    while let Ok(first) = served.recv() {
        let batch: Vec<OwnedFd> = std::iter::once(first).chain(served.try_iter()).collect();
        std::thread::sleep(LATE);
        for fifo in batch {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            drop(rustix::fs::openat(CWD, of_process(&fifo), flags, Mode::empty()));
        }
    }
}

/// What a descriptor is open on, by a name of this process's.
fn of_process(descriptor: impl AsFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}

/// Puts a new FIFO under the name, in one step.
fn renew(folder: &OwnedFd, name: &str) -> std::io::Result<()> {
    let next = format!("{NEXT}.{name}");
    make_fifo(folder, &next)?;
    rustix::fs::renameat(folder, &next, folder, name)?;
    Ok(())
}

/// Writes what fits at once; the rest is a thread's.
fn hand_out(pipe: OwnedFd, value: SecretBytes, busy: &Arc<AtomicUsize>) -> std::io::Result<()> {
    rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    make_room(&pipe, value.len());
    let mut file = File::from(pipe);
    let written = match file.write(value.expose()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        written => written?,
    };
    if written == value.len() || busy.load(Ordering::Relaxed) >= limits::MOUNT_READERS_MAX {
        return Ok(());
    }
    busy.fetch_add(1, Ordering::Relaxed);
    let count = Arc::clone(busy);
    let finish = move || {
        let _ = finish(&mut file, value.expose().get(written..).unwrap_or_default());
        count.fetch_sub(1, Ordering::Relaxed);
    };
    if std::thread::Builder::new().name("mount-reader".to_owned()).spawn(finish).is_err() {
        busy.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(())
}

fn finish(file: &mut File, mut rest: &[u8]) -> std::io::Result<()> {
    while !rest.is_empty() {
        if !ready(&*file, PollFlags::OUT, Duration::from_millis(limits::MOUNT_STALL_MS))? {
            return Err(ErrorKind::TimedOut.into());
        }
        match file.write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until a descriptor is ready, or the time is over.
pub(super) fn ready(descriptor: impl AsFd, wanted: PollFlags, limit: Duration) -> std::io::Result<bool> {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut polled = [PollFd::new(&descriptor, wanted)];
    match poll(&mut polled, Some(&limit)) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        ready => Ok(ready? > 0),
    }
}

/// Waits until the standard input ends, and removes a folder of mounted files. Anything else is left alone.
pub fn keep_watch(folder: &Path) {
    let mut nothing = [0; 1];
    while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
    let named = folder.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
    if !named {
        return;
    }
    // FIFOs alone are removed, so that a wrong word removes nothing that somebody could miss.
    let entries: Vec<(PathBuf, bool)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_fifo())))
        .collect();
    for (path, fifo) in entries {
        if fifo {
            let _ = std::fs::remove_file(path);
        }
    }
    let _ = std::fs::remove_dir(folder);
}
