//! The command line over the daemon's local socket.
//!
//! A ledger that a daemon serves is in use; a command then goes to the daemon with its words, its folder
//! and its three standard descriptors (`SCM_RIGHTS`, unix(7)), and the daemon runs it on its open ledger:
//! the same code writes the same bytes to the same places. The kernel says who the client is.
//!
//! ```text
//! client -> daemon   "PLT1" len(4, little endian) with stdin, stdout, stderr attached; then JSON
//! daemon -> client   one byte: the exit code, when everything is printed
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::base::limits;
use crate::engine::Ledger;

use super::args::{Cli, Command, Format};
use super::exit::{ExitCode, Failure};
use super::invocation::Invocation;
use super::output::{self, Output};
use super::seat::{Client, Seat};

/// Name of the socket in a home.
pub const SOCKET: &str = "serve.sock";
const MAGIC: [u8; 4] = *b"PLT1";
const DESCRIPTORS: usize = 3;

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: String,
    words: Vec<Vec<u8>>,
    cwd: Vec<u8>,
    json: bool,
    color: bool,
}

impl Command {
    /// Whether a daemon can run the command for a client.
    const fn is_forwarded(&self) -> bool {
        match self {
            Self::Secrets(_) | Self::Keys(_) | Self::Log(_) | Self::Devices(_) | Self::Ca(_) | Self::Auth(_) => true,
            Self::Doctor(args) => !args.repair,
            Self::Pairing(command) => command.is_the_ledgers(),
            Self::Certs(command) => command.is_the_ledgers(),
            Self::Init(_) | Self::Tour(_) | Self::Serve(_) | Self::ExitCodes | Self::Completions { .. } => false,
        }
    }
}

/// Lets a daemon run the command, if one serves the home; none where the command is this process's own.
pub fn forward(invocation: &Invocation, command: &Command, words: &[OsString]) -> Option<ExitCode> {
    if !command.is_forwarded() {
        return None;
    }
    let socket = connect(&invocation.home().ok()?.join(SOCKET))?;
    match ask(&socket, invocation, words, std::io::stdin().as_fd()) {
        Ok(code) => Some(code),
        Err(error) => {
            let what = format!("the daemon that serves this ledger went away: {error}");
            let failure = Failure::new(ExitCode::Io, what, "look at the daemon's messages, then run the command again");
            invocation.out.failure(&failure);
            Some(failure.code)
        }
    }
}

/// Runs a command in the daemon that took the home meanwhile, with an input of our own; none where no daemon
/// serves it. The input is memory: it is never a file's.
pub fn hand_over(invocation: &Invocation, words: &[&str], input: &[u8]) -> Option<std::io::Result<ExitCode>> {
    let socket = connect(&invocation.home().ok()?.join(SOCKET))?;
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let run = || {
        let memory = rustix::fs::memfd_create("palyra-ledger", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = File::from(memory);
        file.write_all(input)?;
        std::io::Seek::rewind(&mut file)?;
        ask(&socket, invocation, &words, file.as_fd())
    };
    Some(run())
}

/// Whether a daemon serves the home.
pub fn is_served(invocation: &Invocation) -> bool {
    invocation.home().is_ok_and(|home| connect(&home.join(SOCKET)).is_some())
}

fn connect(path: &Path) -> Option<UnixStream> {
    let found = std::fs::symlink_metadata(path).ok()?;
    // Somebody else's socket gets none of our descriptors.
    if !found.file_type().is_socket() || found.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    UnixStream::connect(path).ok()
}

fn ask(
    socket: &UnixStream,
    invocation: &Invocation,
    words: &[OsString],
    stdin: BorrowedFd<'_>,
) -> std::io::Result<ExitCode> {
    let request = Request {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: std::env::current_dir()?.into_os_string().into_vec(),
        json: invocation.global.format == Format::Json,
        color: invocation.out.is_colored(),
    };
    let text = serde_json::to_vec(&request)?;
    let mut head = [0; 8];
    head[..4].copy_from_slice(&MAGIC);
    head[4..].copy_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let descriptors = [stdin, stdout.as_fd(), stderr.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL)?;
    let mut socket = socket;
    socket.write_all(&text)?;
    let mut code = [0];
    socket.read_exact(&mut code)?;
    let known = ExitCode::ALL.iter().find(|known| known.number() == code[0]);
    Ok(known.copied().unwrap_or(ExitCode::Internal))
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
    pub renew: Arc<dyn Fn() + Send + Sync>,
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
    let words =
        std::iter::once(OsString::from("palyra-ledger")).chain(request.words.into_iter().map(OsString::from_vec));
    let Ok(mut cli) = Cli::try_parse_from(words) else {
        return fail(Failure::usage("the daemon does not know this command", "restart the daemon after an update"));
    };
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
