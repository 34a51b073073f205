//! The command line over the daemon's local socket.
//!
//! A ledger that a daemon serves is in use; a command then goes to the daemon with its words, its folder
//! and its three standard descriptors (`SCM_RIGHTS`, unix(7)), and the daemon runs it on its open ledger:
//! the same code writes the same bytes to the same places. The kernel says who the client is.
//!
//! ```text
//! client -> daemon   "PLT1" len(4, little endian) with stdin, stdout, stderr attached; then JSON
//! daemon -> client   0xFE how(1) len(2, little endian) path: open this file for me
//! client -> daemon   the system's error number (4, little endian); 0 with the descriptor attached
//! daemon -> client   0xFE 2 0 0: my output is whole, give the file its name
//! client -> daemon   the system's error number (4, little endian)
//! daemon -> client   one byte: the exit code, when everything is printed; 0xFF: too many commands run
//! ```
//!
//! Files that a command line names are opened by the client: the daemon may see other mounts, and may be
//! another user. The client opens nothing but what its own words name.

mod job;

use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{Serial, limits};
use crate::engine::Ledger;
use crate::serve::BUSY;

use super::args::{Cli, Command, Format};
use super::auth::AuthCommand;
use super::exit::{ExitCode, Failure};
use super::invocation::Invocation;
use super::output::{self, Output};
use super::seat::{self, Client, Seat};

pub use job::Job;

/// Name of the socket in a home.
pub const SOCKET: &str = "serve.sock";
const MAGIC: [u8; 4] = *b"PLT1";
const DESCRIPTORS: usize = 3;
/// Asks the client for a file in place of an exit code.
const OPEN: u8 = 0xFE;
/// To read it.
const TO_READ: u8 = 0;
/// To write it, where nothing stands yet.
const TO_CREATE: u8 = 1;
/// To give the file that is the standard output its name.
const TO_NAME: u8 = 2;

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: String,
    words: Vec<Vec<u8>>,
    cwd: Vec<u8>,
    json: bool,
    color: bool,
    /// The mount namespace, as the kernel names it.
    mounts: String,
}

/// What became of a request.
enum Asked {
    Done(ExitCode),
    Busy,
    /// It closed the connection without having read what was asked: nothing was begun.
    Unread(std::io::Error),
}

/// The mount namespace of this process: paths mean the same to two processes of one alone.
fn mounts() -> String {
    let link = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

impl Command {
    /// Whether a daemon can run the command for a client.
    fn is_forwarded(&self) -> bool {
        match self {
            Self::Secrets(command) => !command.writes_a_file(),
            Self::Keys(_)
            | Self::Replay(_)
            | Self::Compromise(_)
            | Self::Devices(_)
            | Self::Ca(_)
            | Self::Auth(_)
            | Self::Resolving => true,
            Self::Doctor(args) => !args.repair,
            Self::Log(command) => command.is_forwarded(),
            Self::Pairing(command) => command.is_the_ledgers(),
            Self::Certs(command) => command.is_the_ledgers(),
            // Its file is this process's own; what stands in it comes from the daemon.
            Self::Backup(command) => command.is_forwarded(),
            // A program that is run, and a file that is written, are the caller's own.
            // What is outside the vault is resolved where the command is; it asks the daemon for the rest.
            Self::Run(_)
            | Self::Inject(_)
            | Self::WatchMounts(_)
            | Self::Resolve(_)
            | Self::Init(_)
            | Self::Import(_)
            | Self::Export(_)
            | Self::Tour(_)
            | Self::Serve(_)
            | Self::ExitCodes
            | Self::Completions { .. } => false,
        }
    }
}

/// Whether a command opens a folder by its path: that one cannot be lent.
fn takes_a_folder(command: &Command, words: &[Vec<u8>]) -> bool {
    let folder = |word: &[u8]| matches!(word, b"diff" | b"apply" | b"--write") || word.starts_with(b"--write=");
    matches!(command, Command::Auth(AuthCommand::Docs(_))) && words.iter().any(|word| folder(word))
}

/// Lets a daemon run the command, if one serves the home; none where the command is this process's own.
pub fn forward(invocation: &Invocation, command: &Command, words: &[OsString]) -> Option<ExitCode> {
    if !command.is_forwarded() {
        return None;
    }
    let home = invocation.home().ok()?;
    let deadline = Instant::now() + Duration::from_secs(invocation.global.lock_wait);
    loop {
        let socket = connect(&home)?;
        let failure = match ask(&socket, invocation, words, std::io::stdin().as_fd(), std::io::stdout().as_fd()) {
            Ok(Asked::Done(code)) => return Some(code),
            Ok(Asked::Busy | Asked::Unread(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Ok(Asked::Busy) => busy(),
            Ok(Asked::Unread(error)) | Err(error) => Failure::new(
                ExitCode::Io,
                format!("the daemon that serves this ledger went away: {error}"),
                "look at the daemon's messages, then run the command again",
            ),
        };
        invocation.out.failure(&failure);
        return Some(failure.code);
    }
}

fn busy() -> Failure {
    Failure::new(
        ExitCode::InUse,
        format!("the daemon runs {} commands already, and no more at once", limits::LOCAL_CLIENTS_MAX),
        "wait until some of them have ended, or wait longer with --lock-wait",
    )
}

/// Runs a command in the daemon that took the home meanwhile, with an input of our own; none where no daemon
/// serves it. The input is memory: it is never a file's.
pub fn hand_over(invocation: &Invocation, words: &[&str], input: &[u8]) -> Option<std::io::Result<ExitCode>> {
    let home = invocation.home().ok()?;
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let run = |socket: &UnixStream| {
        let file = memory(input)?;
        ask(socket, invocation, &words, file.as_fd(), std::io::stdout().as_fd())
    };
    loop {
        match run(&connect(&home)?) {
            Ok(Asked::Done(code)) => return Some(Ok(code)),
            // It has more to do than it takes at once; what is handed over cannot be got again.
            Ok(Asked::Busy) => std::thread::sleep(Duration::from_millis(100)),
            Ok(Asked::Unread(error)) | Err(error) => return Some(Err(error)),
        }
    }
}

/// Runs a command in the daemon that serves the home, with an input of our own, and returns what it printed; none
/// where no daemon serves it. Both are memory, and what was printed is wiped from it.
pub fn exchange(
    invocation: &Invocation,
    words: &[OsString],
    input: &[u8],
) -> Option<std::io::Result<(ExitCode, Zeroizing<Vec<u8>>)>> {
    let home = invocation.home().ok()?;
    let mut printed = match memory(&[]) {
        Ok(printed) => printed,
        Err(error) => return Some(Err(error)),
    };
    let run = |socket: &UnixStream| {
        let file = memory(input)?;
        ask(socket, invocation, words, file.as_fd(), printed.as_fd())
    };
    let deadline = Instant::now() + Duration::from_secs(invocation.global.lock_wait);
    loop {
        match run(&connect(&home)?) {
            Ok(Asked::Done(code)) => return Some(take_back(&mut printed).map(|printed| (code, printed))),
            Ok(Asked::Busy | Asked::Unread(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(Asked::Busy) => {
                let failure = busy();
                invocation.out.failure(&failure);
                return Some(Ok((failure.code, Zeroizing::new(Vec::new()))));
            }
            Ok(Asked::Unread(error)) | Err(error) => return Some(Err(error)),
        }
    }
}

/// A file in memory, at its beginning.
fn memory(bytes: &[u8]) -> std::io::Result<File> {
    let memory = rustix::fs::memfd_create("palyra-ledger", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn take_back(file: &mut File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let len = usize::try_from(file.seek(SeekFrom::End(0))?).unwrap_or(usize::MAX);
    if len > limits::RESOLVE_ANSWER_MAX {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    let mut bytes = Zeroizing::new(vec![0; len]);
    file.rewind()?;
    file.read_exact(&mut bytes)?;
    file.rewind()?;
    file.write_all(&vec![0; len])?;
    Ok(bytes)
}

/// Whether a daemon serves the home.
pub fn is_served(invocation: &Invocation) -> bool {
    invocation.home().is_ok_and(|home| connect(&home).is_some())
}

fn connect(home: &Path) -> Option<UnixStream> {
    let path = home.join(SOCKET);
    let found = std::fs::symlink_metadata(&path).ok()?;
    let us = rustix::process::geteuid();
    // Somebody else's socket gets none of our descriptors. Root may act for whoever owns the home.
    let owned = || std::fs::metadata(home).is_ok_and(|home| home.is_dir() && home.uid() == found.uid());
    if !found.file_type().is_socket() || (found.uid() != us.as_raw() && !(us.is_root() && owned())) {
        return None;
    }
    UnixStream::connect(path).ok()
}

fn ask(
    socket: &UnixStream,
    invocation: &Invocation,
    words: &[OsString],
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
) -> std::io::Result<Asked> {
    send(socket, &request(invocation, words)?, words, (stdin, stdout), None)
}

/// What is said to a daemon to have a command run.
fn request(invocation: &Invocation, words: &[OsString]) -> std::io::Result<Vec<u8>> {
    let request = Request {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: std::env::current_dir()?.into_os_string().into_vec(),
        json: invocation.global.format == Format::Json,
        color: invocation.out.is_colored(),
        mounts: mounts(),
    };
    Ok(serde_json::to_vec(&request)?)
}

fn send(
    socket: &UnixStream,
    text: &[u8],
    words: &[OsString],
    (stdin, stdout): (BorrowedFd<'_>, BorrowedFd<'_>),
    name: Option<&dyn Fn() -> std::io::Result<()>>,
) -> std::io::Result<Asked> {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&MAGIC);
    head[4..].copy_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    let stderr = std::io::stderr();
    let descriptors = [stdin, stdout, stderr.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    // A daemon that is busy says so without reading this.
    let written = socket.write_all(text);
    let mut code = [0];
    // A reset says that bytes of ours were left unread (unix(7)): before its first word, those of the request.
    match socket.read_exact(&mut code) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(Asked::Unread(error)),
        read => read?,
    }
    loop {
        match code {
            [BUSY] => return Ok(Asked::Busy),
            [OPEN] => lend(socket, words, name)?,
            [number] => {
                written?;
                let known = ExitCode::ALL.iter().find(|known| known.number() == number);
                return Ok(Asked::Done(known.copied().unwrap_or(ExitCode::Internal)));
            }
        }
        socket.read_exact(&mut code)?;
    }
}

/// Whether a command line names a file: as a word, or at the end of one.
fn names(words: &[OsString], path: &[u8]) -> bool {
    words.iter().any(|word| match word.as_bytes().strip_suffix(path) {
        Some([.., before]) => matches!(before, b'=' | b':'),
        Some([]) => true,
        None => false,
    })
}

/// Opens a file for the daemon, if this process's own command line names it; or gives our own its name.
fn lend(
    mut socket: &UnixStream,
    words: &[OsString],
    name: Option<&dyn Fn() -> std::io::Result<()>>,
) -> std::io::Result<()> {
    let mut head = [0; 3];
    socket.read_exact(&mut head)?;
    let [how, low, high] = head;
    let mut path = vec![0; usize::from(u16::from_le_bytes([low, high]))];
    socket.read_exact(&mut path)?;
    if how == TO_NAME {
        let named = name.map_or_else(|| Err(rustix::io::Errno::PERM.into()), |name| name());
        let errno = named.err().map_or(0, |error| error.raw_os_error().unwrap_or(EIO));
        return socket.write_all(&errno.to_le_bytes());
    }
    let opened = if names(words, &path) && !path.is_empty() {
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        match how {
            TO_READ => File::open(path),
            _ => seat::create_new(path),
        }
    } else {
        Err(rustix::io::Errno::PERM.into())
    };
    match opened {
        Ok(file) => {
            let descriptors = [file.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            rustix::net::sendmsg(socket, &[IoSlice::new(&[0; 4])], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        }
        Err(error) => socket.write_all(&error.raw_os_error().unwrap_or(EIO).to_le_bytes()),
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Has the client open a file that its command line names.
///
/// # Errors
/// What the client's system says, or that the client is gone.
pub fn borrow(mut socket: &UnixStream, path: &Path, create: bool) -> std::io::Result<File> {
    let path = path.as_os_str().as_bytes();
    let length = u16::try_from(path.len()).map_err(|_| rustix::io::Errno::NAMETOOLONG)?;
    let mut message = vec![OPEN, if create { TO_CREATE } else { TO_READ }];
    message.extend(length.to_le_bytes());
    message.extend(path);
    socket.write_all(&message)?;
    let mut errno = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut errno)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            files.extend(passed);
        }
    }
    socket.read_exact(errno.get_mut(got.bytes..).unwrap_or_default())?;
    match (i32::from_le_bytes(errno), files.pop()) {
        (0, Some(file)) => Ok(File::from(file)),
        (0, None) => Err(rustix::io::Errno::BADMSG.into()),
        (errno, _) => Err(std::io::Error::from_raw_os_error(errno)),
    }
}

/// Has the client give its name to the file that is the standard output.
///
/// # Errors
/// What the client's system says, or that the client is gone.
pub fn have_named(mut socket: &UnixStream) -> std::io::Result<()> {
    socket.write_all(&[OPEN, TO_NAME, 0, 0])?;
    let mut errno = [0; 4];
    socket.read_exact(&mut errno)?;
    match i32::from_le_bytes(errno) {
        0 => Ok(()),
        errno => Err(std::io::Error::from_raw_os_error(errno)),
    }
}

/// Who connected, and what the daemon lends them.
pub struct Attendance {
    /// The daemon's ledger.
    pub ledger: Arc<Ledger>,
    /// Its home.
    pub home: PathBuf,
    /// The client's user, as the kernel reports it.
    pub uid: u32,
    /// The client's process.
    pub pid: u32,
    /// Asks the daemon for another certificate.
    pub renew: Arc<dyn Fn() -> Result<Serial, String> + Send + Sync>,
    /// Where the daemon offers pairing.
    pub pairing: Option<std::net::SocketAddr>,
}

/// Runs a client's command within the daemon.
pub fn attend(socket: UnixStream, attendance: Attendance) {
    let timeout = Some(Duration::from_millis(limits::REQUEST_MS));
    if socket.set_read_timeout(timeout).is_err() {
        return;
    }
    let Some((request, descriptors)) = receive(&socket) else {
        tracing::warn!("a request on the local socket did not read");
        return;
    };
    let code = run(request, descriptors, &socket, attendance);
    let _ = (&socket).write_all(&[code.number()]);
}

fn receive(socket: &UnixStream) -> Option<(Request, [File; DESCRIPTORS])> {
    let mut head = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    let mut socket = socket;
    socket.read_exact(head.get_mut(got.bytes..)?).ok()?;
    let (magic, len) = head.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len.first_chunk()?)).ok()?;
    if *magic != MAGIC || len > limits::CLIENT_REQUEST_MAX {
        return None;
    }
    let mut text = vec![0; len];
    socket.read_exact(&mut text).ok()?;
    let files: Vec<File> = descriptors.into_iter().map(File::from).collect();
    Some((serde_json::from_slice(&text).ok()?, files.try_into().ok()?))
}

fn run(
    request: Request,
    [stdin, stdout, stderr]: [File; DESCRIPTORS],
    socket: &UnixStream,
    attendance: Attendance,
) -> ExitCode {
    let (stderr, json) = (Arc::new(stderr), request.json);
    let out = Output::over(stdout, Arc::clone(&stderr), json, request.color);
    let fail = |failure: Failure| {
        out.failure(&failure);
        failure.code
    };
    if request.version != env!("CARGO_PKG_VERSION") {
        let what = format!("the daemon is version {}, this is {}", env!("CARGO_PKG_VERSION"), request.version);
        return fail(Failure::usage(what, "restart the daemon after an update"));
    }
    let named = request.words.clone();
    let words =
        std::iter::once(OsString::from("palyra-ledger")).chain(request.words.into_iter().map(OsString::from_vec));
    let Ok(mut cli) = Cli::try_parse_from(words) else {
        return fail(Failure::usage("the daemon does not know this command", "restart the daemon after an update"));
    };
    if takes_a_folder(&cli.command, &named) && request.mounts != mounts() {
        let what = "the daemon sees other folders than this command does (its mount namespace is another one)";
        return fail(Failure::usage(what, "stop the daemon for this command, or leave the folder away"));
    }
    let Ok(socket) = socket.try_clone() else { return ExitCode::Internal };
    if !cli.command.is_forwarded() {
        return fail(Failure::usage("the daemon runs no such command", ""));
    }
    // The environment is the daemon's: what the client's said is in the request.
    cli.global.format = if json { Format::Json } else { Format::Table };
    cli.global.home = Some(attendance.home);
    let client = Client {
        ledger: attendance.ledger,
        uid: attendance.uid,
        pid: attendance.pid,
        cwd: PathBuf::from(OsString::from_vec(request.cwd)),
        stdin: Arc::new(stdin),
        stderr,
        socket: Arc::new(socket),
        renew: attendance.renew,
        pairing: attendance.pairing,
    };
    let invocation = Invocation::new(cli.global, out).seated(Seat::Client(client));
    let run = std::panic::AssertUnwindSafe(|| super::finish(&invocation, cli.command));
    std::panic::catch_unwind(run).unwrap_or_else(|_| {
        output::print_failure(&Failure::new(ExitCode::Internal, "a client's command ended in a fault", ""), false);
        ExitCode::Internal
    })
}
