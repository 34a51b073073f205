//! Starting a program with what it is given.
//!
//! Where nothing has to be done beside the program (no mask, no mounted file) it takes this process's place:
//! signals, terminal, process number and exit status are then its own, and the kernel throws this process's
//! memory away. Otherwise it runs as a child in the same process group and session. What the terminal sends
//! goes to that whole group, so the kernel's signals are not passed on; those that another process sent to us
//! are. (One that sends to the whole group reaches the program twice. A hang-up that the kernel sends to us
//! alone, as the leader of the session, is passed on.) Signals that are ignored stay ignored. When we are asked
//! to stop, so is the program, and then we do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use rustix::io::FdFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, kill_process};
use signal_hook::consts as signals;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use super::forms::Forms;
use super::mount::MountFolder;
use super::stream::{Masked, Sized};

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is no such program.
    #[error("there is no program `{0}`")]
    NotFound(String),
    /// The program cannot be run.
    #[error("the program `{0}` cannot be run: {1}")]
    NotRunnable(String, std::io::Error),
    /// What it is given is more than the system takes.
    #[error("arguments and environment together are more than the system takes")]
    TooMuch,
    /// The system refused something else.
    #[error("cannot start a program: {0}")]
    Io(#[from] std::io::Error),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exit(u8),
    /// By this signal.
    Signal(u8),
}

impl Ending {
    /// What a shell would say: the status, or 128 and the signal's number.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Exit(status) => status,
            Self::Signal(number) => 128 + number,
        }
    }
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        let byte = |number: i32| u8::try_from(number & 0x7f).unwrap_or_default();
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exit(u8::try_from(code & 0xff).unwrap_or_default()),
            (None, signal) => Self::Signal(byte(signal.unwrap_or_default())),
        }
    }
}

/// A program and what it is given.
#[derive(Debug)]
pub struct Launch {
    /// The program, found as a shell finds it.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment. It holds secrets: nothing here is printed.
    pub environment: BTreeMap<OsString, OsString>,
    /// Descriptors that it inherits, under the numbers that they have.
    pub descriptors: Vec<OwnedFd>,
    /// Its standard input, where that is not ours.
    pub stdin: Option<OwnedFd>,
    /// What is masked in its output.
    pub masked: Option<Forms>,
    /// Files that are mounted for it.
    pub mounts: Option<MountFolder>,
    /// Is called once signals are passed on, by whoever held them until then.
    pub watched: fn(),
}

impl Launch {
    fn command(&mut self) -> std::io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(std::mem::take(&mut self.environment));
        if let Some(stdin) = self.stdin.take() {
            command.stdin(Stdio::from(stdin));
        }
        for descriptor in &self.descriptors {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(command)
    }

    fn failed(&self, error: std::io::Error) -> LaunchError {
        let name = || self.program.to_string_lossy().into_owned();
        match error.kind() {
            ErrorKind::NotFound => LaunchError::NotFound(name()),
            ErrorKind::ArgumentListTooLong => LaunchError::TooMuch,
            ErrorKind::PermissionDenied | ErrorKind::IsADirectory | ErrorKind::ExecutableFileBusy => {
                LaunchError::NotRunnable(name(), error)
            }
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                LaunchError::NotRunnable(name(), error)
            }
            _ => LaunchError::Io(error),
        }
    }

    /// Starts the program, in this process's place where that is possible; otherwise waits for its end.
    ///
    /// # Errors
    /// [`LaunchError`] where it was not started.
    pub fn run(mut self) -> Result<Ending, LaunchError> {
        if self.masked.is_none() && self.mounts.is_none() {
            let error = self.command()?.exec();
            return Err(self.failed(error));
        }
        // Values stay in this process until the end: they belong into no core dump, and no debugger of this
        // user's may look for them. A program that is started gets the usual setting again.
        let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        self.attended()
    }

    fn attended(mut self) -> Result<Ending, LaunchError> {
        let (events, incoming) = channel();
        // Before the program is there: its end must not be missed.
        let passed = watch_signals(events.clone())?;
        (self.watched)();
        let ended = Arc::new(AtomicBool::new(false));
        let mut command = self.command()?;
        let masks = self.masked.take().map(|forms| Masks::new(&mut command, forms)).transpose()?;
        let child = command.spawn();
        // It holds the values in copies that wipe nothing, and the ends of pipes.
        drop(command);
        let child = child.map_err(|error| self.failed(error))?;
        self.descriptors.clear();
        let (terminals, streams) = match masks {
            Some(masks) => masks.carry(&ended, &events)?,
            None => (Vec::new(), 0),
        };
        drop(events);
        let mut attendance = Attendance { child, passed, terminals, streams, ending: None };
        for event in incoming {
            if let Some(ending) = attendance.handle(event, &ended)? {
                return Ok(ending);
            }
        }
        Err(LaunchError::Io(ErrorKind::UnexpectedEof.into()))
    }
}

enum Event {
    /// A signal came; whether the kernel sent it.
    Signal(i32, bool),
    /// An output has come to its end.
    StreamEnded,
}

/// Signals that are passed on.
const PASSED: [i32; 9] = [
    signals::SIGINT,
    signals::SIGTERM,
    signals::SIGHUP,
    signals::SIGQUIT,
    signals::SIGUSR1,
    signals::SIGUSR2,
    signals::SIGWINCH,
    signals::SIGCONT,
    signals::SIGTSTP,
];

/// What becomes of signals from now on. Those that were ignored are left so: the program inherits that.
struct Passed {
    leads_session: bool,
}

fn watch_signals(events: Sender<Event>) -> std::io::Result<Passed> {
    let watched = PASSED.into_iter().filter(|number| !is_ignored(*number)).chain([signals::SIGCHLD]);
    let mut incoming = SignalsInfo::<WithOrigin>::new(watched)?;
    let listen = move || {
        for origin in &mut incoming {
            if events.send(Event::Signal(origin.signal, matches!(origin.cause, Cause::Kernel))).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(Passed { leads_session: leads_session() })
}

/// Whether this process leads its session. In a PID namespace the session may be led from outside and its number be
/// 0, for which rustix's type has no room: the kernel's own line is read, the numbers of the innermost namespace.
#[cfg(target_os = "linux")]
fn leads_session() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let innermost = |name| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next_back();
    innermost("NSpid:").is_some_and(|process| innermost("NSsid:") == Some(process))
}

/// Whether this process leads its session.
#[cfg(not(target_os = "linux"))]
fn leads_session() -> bool {
    rustix::process::getsid(None).is_ok_and(|session| session == rustix::process::getpid())
}

/// Whether this process ignores a signal, as the kernel tells: bit 0 is signal 1.
#[must_use]
pub fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (number - 1) & 1 == 1
}

/// Both outputs on their way through a mask.
struct Masks {
    forms: Arc<Forms>,
    streams: Vec<Masked>,
    terminals: Vec<Sized>,
}

impl Masks {
    fn new(command: &mut Command, forms: Forms) -> std::io::Result<Self> {
        let (out, error) = (std::io::stdout(), std::io::stderr());
        let (first, terminal) = Masked::new(&out)?;
        let mut masks = Self { forms: Arc::new(forms), streams: Vec::new(), terminals: Vec::new() };
        masks.terminals.extend(terminal);
        command.stdout(first.inlet()?);
        if same(out.as_fd(), error.as_fd()) {
            // One way for both keeps the order in which they were written.
            command.stderr(first.inlet()?);
        } else {
            let (second, terminal) = Masked::new(&error)?;
            masks.terminals.extend(terminal);
            command.stderr(second.inlet()?);
            masks.streams.push(second);
        }
        masks.streams.push(first);
        Ok(masks)
    }

    fn carry(self, ended: &Arc<AtomicBool>, events: &Sender<Event>) -> std::io::Result<(Vec<Sized>, usize)> {
        let count = self.streams.len();
        for stream in self.streams {
            let events = events.clone();
            let done = move || drop(events.send(Event::StreamEnded));
            stream.carry(Arc::clone(&self.forms), Arc::clone(ended), done)?;
        }
        Ok((self.terminals, count))
    }
}

/// Whether two descriptors go to the same place.
fn same(one: impl AsFd, other: impl AsFd) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev),
        _ => false,
    }
}

/// A child and what goes on around it.
struct Attendance {
    child: Child,
    passed: Passed,
    terminals: Vec<Sized>,
    /// Outputs that have not come to their end.
    streams: usize,
    ending: Option<Ending>,
}

impl Attendance {
    /// The ending, once everything has ended.
    fn handle(&mut self, event: Event, ended: &AtomicBool) -> std::io::Result<Option<Ending>> {
        match event {
            Event::StreamEnded => self.streams = self.streams.saturating_sub(1),
            Event::Signal(signals::SIGCHLD, _) => {
                if self.ending.is_none() {
                    self.ending = self.child.try_wait()?.map(Ending::from);
                    ended.store(self.ending.is_some(), Ordering::Relaxed);
                }
            }
            Event::Signal(number, kernel) if self.ending.is_none() => self.pass(number, kernel),
            // The program is gone, and whoever takes its output may take nothing: we end as we would have.
            Event::Signal(signals::SIGINT | signals::SIGTERM | signals::SIGHUP | signals::SIGQUIT, _) => {
                return Ok(self.ending);
            }
            Event::Signal(..) => {}
        }
        Ok(self.ending.filter(|_| self.streams == 0))
    }

    fn pass(&self, number: i32, kernel: bool) {
        let resized = number == signals::SIGWINCH && !self.terminals.is_empty();
        if resized {
            self.terminals.iter().for_each(Sized::follow);
        }
        // With a terminal of its own the program may have asked for the size before it was right.
        let alone = number == signals::SIGHUP && self.passed.leads_session;
        if !kernel || alone || resized {
            send(Pid::from_child(&self.child), number);
        }
        if number == signals::SIGTSTP {
            send(rustix::process::getpid(), signals::SIGSTOP);
        }
    }
}

/// Sends a signal; one to a process that is gone is sent in vain.
fn send(process: Pid, number: i32) {
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = kill_process(process, signal);
    }
}

/// The name under which a program finds a descriptor that it inherits.
#[must_use]
pub fn descriptor_path(descriptor: impl AsFd) -> String {
    format!("/dev/fd/{}", descriptor.as_fd().as_raw_fd())
}
