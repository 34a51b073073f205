//! Where a command's input and output are: this process's own, or those of a client on the local socket,
//! which passed its descriptors on.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::base::{SecretBytes, Serial, limits};
use crate::engine::Ledger;

use super::remote;

/// A client on the local socket, within the daemon.
#[derive(Clone)]
pub struct Client {
    /// The daemon's open ledger.
    pub ledger: Arc<Ledger>,
    /// The client's user, as the kernel reports it.
    pub uid: u32,
    /// The client's process.
    pub pid: u32,
    /// Where the client stands: names of files are taken from there.
    pub cwd: PathBuf,
    /// The client's standard input.
    pub stdin: Arc<File>,
    /// The client's error output.
    pub stderr: Arc<File>,
    /// The connection: when it is gone, so is the client.
    pub socket: Arc<UnixStream>,
    /// Asks the daemon for another certificate.
    pub renew: Arc<dyn Fn() -> Result<Serial, String> + Send + Sync>,
    /// Where the daemon offers pairing.
    pub pairing: Option<SocketAddr>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("uid", &self.uid).field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Where input comes from.
#[derive(Debug, Clone, Default)]
pub enum Seat {
    /// This process.
    #[default]
    Own,
    /// A client.
    Client(Client),
}

impl Seat {
    /// Whether somebody can be asked.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Own => std::io::stdin().is_terminal(),
            Self::Client(client) => client.stdin.is_terminal(),
        }
    }

    /// The standard input, past every buffer of the process.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub fn stdin(&self) -> std::io::Result<Box<dyn Read>> {
        match self {
            // A handle of its own: the process's shared buffer must not keep a copy.
            Self::Own => Ok(Box::new(File::from(std::io::stdin().as_fd().try_clone_to_owned()?))),
            Self::Client(client) => Ok(Box::new(Watched(client.clone()))),
        }
    }

    /// Opens a file that the command line names, to read it.
    ///
    /// # Errors
    /// As the system says, where the command line is.
    pub fn open(&self, path: &Path) -> std::io::Result<File> {
        match self {
            Self::Own => File::open(path),
            Self::Client(client) => remote::borrow(&client.socket, path, false),
        }
    }

    /// Makes a file that the command line names, where nothing stands yet.
    ///
    /// # Errors
    /// As [`Seat::open`].
    pub fn create_new(&self, path: &Path) -> std::io::Result<File> {
        match self {
            Self::Own => create_new(path),
            Self::Client(client) => remote::borrow(&client.socket, path, true),
        }
    }

    /// A folder's name as this process must open it.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        match self {
            Self::Own => path.to_owned(),
            Self::Client(client) => client.cwd.join(path),
        }
    }

    /// Whether whoever asked is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Own => false,
            Self::Client(client) => {
                let mut fds = [PollFd::new(&*client.socket, PollFlags::IN | PollFlags::RDHUP)];
                // A client says nothing after its request: anything is its end.
                poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
            }
        }
    }

    /// Asks for something that is not shown while it is typed.
    ///
    /// # Errors
    /// Where the terminal cannot be used, or whoever is asked is gone.
    pub fn hidden(&self, prompt: &str) -> std::io::Result<SecretBytes> {
        match self {
            Self::Own => rpassword::prompt_password(prompt).map(|typed| SecretBytes::new(typed.into_bytes())),
            Self::Client(client) => {
                let before = tcgetattr(&*client.stdin)?;
                let mut quiet = before.clone();
                quiet.local_modes.remove(LocalModes::ECHO);
                quiet.local_modes.insert(LocalModes::ECHONL);
                (&*client.stderr).write_all(prompt.as_bytes())?;
                tcsetattr(&*client.stdin, OptionalActions::Flush, &quiet)?;
                let typed = line(&mut Watched(client.clone()));
                tcsetattr(&*client.stdin, OptionalActions::Now, &before)?;
                typed
            }
        }
    }

    /// Single keys, without a line's end and without an echo.
    ///
    /// # Errors
    /// Where the standard input is no terminal.
    pub fn keys(&self) -> std::io::Result<Keys> {
        let terminal = match self {
            Self::Own => std::io::stdin().as_fd().try_clone_to_owned()?,
            Self::Client(client) => client.stdin.as_fd().try_clone_to_owned()?,
        };
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        // Without signals: an interrupt is a key like another, so that the terminal is put right.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Keys { source: self.stdin()?, terminal, before })
    }

    /// Asks, and gives the line that was typed.
    ///
    /// # Errors
    /// As [`Seat::hidden`].
    pub fn ask(&self, prompt: &str) -> std::io::Result<SecretBytes> {
        match self {
            Self::Own => std::io::stderr().lock().write_all(prompt.as_bytes())?,
            Self::Client(client) => (&*client.stderr).write_all(prompt.as_bytes())?,
        }
        line(&mut *self.stdin()?)
    }
}

/// What a key press asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The next one.
    Forward,
    /// The one before.
    Back,
    /// To leave.
    Quit,
    /// Nothing that is known.
    Other,
}

/// Single keys from the terminal; it is as it was when this is dropped.
pub struct Keys {
    source: Box<dyn Read>,
    terminal: OwnedFd,
    before: Termios,
}

impl Keys {
    /// The next key. The end of the input is a wish to leave.
    ///
    /// # Errors
    /// Where the terminal cannot be read, or whoever presses the keys is gone.
    pub fn next(&mut self) -> std::io::Result<Key> {
        Ok(match self.byte()? {
            None | Some(b'q' | b'Q' | 3 | 4) => Key::Quit,
            Some(b' ' | b'n' | b'\n' | b'\r' | b'l' | b'j') => Key::Forward,
            Some(b'b' | b'p' | b'h' | b'k' | 127) => Key::Back,
            // An arrow: ESC [ and a letter. A lone escape waits for what follows, which does no harm.
            Some(27) => match (self.byte()?, self.byte()?) {
                (Some(b'['), Some(b'C' | b'B')) => Key::Forward,
                (Some(b'['), Some(b'D' | b'A')) => Key::Back,
                _ => Key::Other,
            },
            Some(_) => Key::Other,
        })
    }

    fn byte(&mut self) -> std::io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.source.read(&mut byte)? == 1).then_some(byte[0]))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Makes a file for everybody to read, where nothing stands yet.
///
/// # Errors
/// As the system says.
pub fn create_new(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// One line without its end, byte by byte: what follows stays where it is.
///
/// # Errors
/// What the source says.
pub fn line(source: &mut dyn Read) -> std::io::Result<SecretBytes> {
    let mut typed = Zeroizing::new(Vec::with_capacity(limits::PASSPHRASE_MAX + 2));
    let mut byte = Zeroizing::new([0; 1]);
    while typed.len() <= limits::PASSPHRASE_MAX {
        match source.read(&mut *byte)? {
            0 => break,
            _ if *byte == *b"\n" => break,
            _ => typed.extend_from_slice(&*byte),
        }
    }
    let text = typed.strip_suffix(b"\r").unwrap_or(&typed);
    Ok(SecretBytes::from(text))
}

/// A client's standard input, as long as the client is there.
struct Watched(Client);

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut fds = [
            PollFd::new(&*self.0.socket, PollFlags::IN | PollFlags::RDHUP),
            PollFd::new(&*self.0.stdin, PollFlags::IN),
        ];
        poll(&mut fds, None)?;
        let [socket, _] = &fds;
        if !socket.revents().is_empty() {
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the client is gone"));
        }
        (&*self.0.stdin).read(buffer)
    }
}
