//! What a program prints: run without a shell, in a process group of its own, with an environment of its own,
//! for a bounded time.
//!
//! The value is what the program itself wrote by the time it ended. Whatever else is left in its group is killed
//! then; a pipe that a grandchild holds open holds nobody up. A program that leaves its group goes on, without
//! us.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

use crate::base::{AbsolutePath, SecretBytes, limits};
use crate::engine::ResolveSettings;
use crate::event::vault::ResolveReason;

use super::admit;
use super::outcome::{Detail, Reason, Trace};

const PATH: &str = "/usr/bin:/bin";
const GRACE: Duration = Duration::from_millis(limits::EXEC_GRACE_MS);
const KILLED: Duration = Duration::from_millis(limits::EXEC_KILLED_MS);
const TICK: Duration = Duration::from_millis(limits::EXEC_TICK_MS);

/// Finds a program that the rules let us run, without links in its path.
pub fn admit(rules: &ResolveSettings, program: &AbsolutePath, trace: &mut Trace) -> Result<PathBuf, Reason> {
    let listed = rules.exec_allow.iter().any(|allowed| allowed == program.as_path());
    let what = || "the program is in resolve.exec_allow".to_owned();
    let found = || if listed { "it is" } else { "it is not" }.to_owned();
    trace.check(listed, || ResolveReason::ExecNotAllowed.into(), what, found)?;
    let failed = |error: &std::io::Error| Reason::system(ResolveReason::ExecFailed, error);
    // The path that is judged is the path that is run: nobody but its owner and root can put another there.
    let real = std::fs::canonicalize(program.as_path()).map_err(|error| failed(&error))?;
    for folder in real.ancestors().skip(1) {
        judge_folder(folder, trace)?;
    }
    // The path alone is opened, not the program: one that may be run need not be readable.
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open(&real, flags, Mode::empty()).map_err(|errno| failed(&errno.into()))?;
    let stat = fstat(&opened).map_err(|errno| failed(&errno.into()))?;
    let found = || admit::described(&stat);
    let runs = admit::kind(&stat) == FileType::RegularFile && stat.st_mode & 0o111 != 0 && stat.st_mode & 0o6000 == 0;
    let what = || "it is an executable file that runs as its caller".to_owned();
    trace.check(runs, || ResolveReason::ExecKind.into(), what, found)?;
    let what = || "it belongs to this user or root".to_owned();
    trace.check(admit::is_ours(&stat), || ResolveReason::ExecOwner.into(), what, found)?;
    let what = || "nobody else may write to it".to_owned();
    trace.check(admit::is_written_by_owner(&stat), || ResolveReason::ExecMode.into(), what, found)?;
    Ok(real)
}

fn judge_folder(folder: &Path, trace: &mut Trace) -> Result<(), Reason> {
    let failed = |errno: rustix::io::Errno| Reason::system(ResolveReason::ExecFailed, &errno.into());
    let stat = rustix::fs::lstat(folder).map_err(failed)?;
    let found = || admit::described(&stat);
    let what = || format!("the folder {} belongs to this user or root", folder.display());
    trace.check(admit::is_ours(&stat), || ResolveReason::ExecOwner.into(), what, found)?;
    let what = || format!("nobody else may replace what is in the folder {}", folder.display());
    trace.check(admit::keeps_names(&stat), || ResolveReason::ExecMode.into(), what, found)
}

/// What ends a program that runs.
pub struct Bounds<'a> {
    /// Most bytes that it prints.
    pub max: u32,
    /// Longest time that it takes, in milliseconds.
    pub timeout: u32,
    /// Is set where nobody waits for it any more.
    pub stop: Option<&'a AtomicBool>,
}

impl Bounds<'_> {
    fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::SeqCst))
    }
}

/// Runs a program that was admitted, and returns what it printed, without one newline at its end.
pub fn run(
    rules: &ResolveSettings,
    real: &Path,
    named: &AbsolutePath,
    args: &[String],
    bounds: &Bounds<'_>,
) -> Result<SecretBytes, Reason> {
    let failed = |error: &std::io::Error| Reason::system(ResolveReason::ExecFailed, error);
    let stopped = || failed(&rustix::io::Errno::INTR.into());
    if bounds.stopped() {
        return Err(stopped());
    }
    let Bounds { max, timeout, .. } = *bounds;
    let mut command = Command::new(real);
    // A program that is several by its name is told the one that was asked for.
    command.arg0(named.as_path()).args(args).current_dir(&rules.exec_dir).process_group(0);
    command.env_clear().env("PATH", PATH);
    command.envs(rules.exec_inherit.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| failed(&error))?;
    let mut running = Running::new(child, max).map_err(|error| failed(&error))?;
    let ended = running.watch(bounds);
    let status = running.end(matches!(ended, Ok(Ended::Timeout | Ended::Stopped)));
    let detail = Detail::Ended {
        status: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        stderr_bytes: running.stderr_bytes,
    };
    match ended.map_err(|error| failed(&error))? {
        Ended::Timeout => Err(Reason::bound(ResolveReason::ExecTimeout, u64::from(timeout))),
        Ended::Stopped => Err(stopped()),
        Ended::Flood => Err(Reason::bound(ResolveReason::TooLarge, u64::from(max))),
        Ended::Exit if status.is_some_and(|status| status.success()) => Ok(running.value()),
        Ended::Exit => Err(Reason { code: ResolveReason::ExecStatus, detail }),
    }
}

/// Why a program is no longer watched.
enum Ended {
    /// It ended.
    Exit,
    /// Its time is over.
    Timeout,
    /// Nobody waits for it any more.
    Stopped,
    /// It printed more than its bound.
    Flood,
}

/// A program that runs. However this is left, the program's group is killed and the program reaped.
struct Running {
    child: Option<Child>,
    group: Option<Pid>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    /// All the room at first, so that nothing is copied while it grows: the bound and one byte.
    printed: Zeroizing<Vec<u8>>,
    len: usize,
    stderr_bytes: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// What one look at a pipe gave.
enum Look {
    Data(usize),
    Nothing,
    End,
}

fn look(pipe: &mut impl Read, room: &mut [u8]) -> std::io::Result<Look> {
    match pipe.read(room) {
        Ok(0) => Ok(Look::End),
        Ok(read) => Ok(Look::Data(read)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {
            Ok(Look::Nothing)
        }
        Err(error) => Err(error),
    }
}

impl Running {
    fn new(mut child: Child, max: u32) -> std::io::Result<Self> {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let room = usize::try_from(max).unwrap_or(usize::MAX).saturating_add(1);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let printed = Zeroizing::new(vec![0; room]);
        let running = Self { child: Some(child), group, stdout, stderr, printed, len: 0, stderr_bytes: 0 };
        let pipes = [running.stdout.as_ref().map(AsFd::as_fd), running.stderr.as_ref().map(AsFd::as_fd)];
        for pipe in pipes.into_iter().flatten() {
            rustix::fs::fcntl_setfl(pipe, rustix::fs::fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(running)
    }

    /// Reads along until the program ends, its time is over or it printed too much.
    fn watch(&mut self, bounds: &Bounds<'_>) -> std::io::Result<Ended> {
        let (begun, timeout) = (Instant::now(), Duration::from_millis(u64::from(bounds.timeout)));
        let mut pause = Duration::from_millis(1);
        loop {
            // What it wrote before it ended is in the pipe by then.
            let exited = self.has_ended()?;
            if self.drain()? {
                return Ok(Ended::Flood);
            }
            if exited {
                return Ok(Ended::Exit);
            }
            if bounds.stopped() {
                return Ok(Ended::Stopped);
            }
            let Some(left) = timeout.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(Ended::Timeout);
            };
            self.sleep(pause.min(left));
            pause = (pause * 2).min(TICK);
        }
    }

    /// Waits until a pipe has something, and never longer than this.
    fn sleep(&self, most: Duration) {
        let mut pipes = Vec::with_capacity(2);
        pipes.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        pipes.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        if pipes.is_empty() {
            std::thread::sleep(most);
        } else if let Ok(most) = Timespec::try_from(most) {
            // An interruption only means another look.
            let _ = poll(&mut pipes, Some(&most));
        }
    }

    /// Takes what the pipes hold now; whether there was more than the bound. One look at each takes a bounded
    /// amount: a flood on one side must not keep us from the clock.
    fn drain(&mut self) -> std::io::Result<bool> {
        let mut dropped = [0; 8192];
        for _ in 0..8 {
            let Some(pipe) = &mut self.stderr else { break };
            match look(pipe, &mut dropped)? {
                Look::Data(read) => self.stderr_bytes += read as u64,
                Look::Nothing => break,
                Look::End => self.stderr = None,
            }
        }
        zeroize::Zeroize::zeroize(&mut dropped);
        while let Some(pipe) = &mut self.stdout {
            let room = self.printed.get_mut(self.len..).unwrap_or_default();
            if room.is_empty() {
                return Ok(true);
            }
            match look(pipe, room)? {
                Look::Data(read) => self.len += read,
                Look::Nothing => break,
                Look::End => self.stdout = None,
            }
        }
        Ok(self.len == self.printed.len())
    }

    /// Whether the program ended. It is not reaped yet, so that its number, and the group's, stay its own.
    fn has_ended(&self) -> std::io::Result<bool> {
        let Some(pid) = self.group else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn wait_at_most(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.has_ended().unwrap_or(true) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the whole group and reaps the program: asked first where there is a grace, then killed.
    fn end(&mut self, grace: bool) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        if let Some(group) = self.group {
            if grace {
                let _ = kill_process_group(group, Signal::TERM);
                self.wait_at_most(GRACE);
            }
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.wait_at_most(KILLED);
        self.group = None;
        match child.try_wait() {
            Ok(Some(status)) => Some(status),
            // It does not die, as one that hangs in the system: it is reaped when it does.
            Ok(None) => {
                let _ = std::thread::Builder::new().spawn(move || child.wait());
                None
            }
            Err(_) => None,
        }
    }

    fn value(&self) -> SecretBytes {
        let printed = self.printed.get(..self.len).unwrap_or_default();
        SecretBytes::from(printed.strip_suffix(b"\n").unwrap_or(printed))
    }
}
