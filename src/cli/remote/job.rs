//! A command for the daemon whose output is a file of ours.

use std::ffi::OsString;
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cli::exit::ExitCode;
use crate::cli::invocation::Invocation;

use super::{Asked, connect, request, send};

/// A command for the daemon that another thread may ask for.
pub struct Job {
    home: PathBuf,
    words: Vec<OsString>,
    text: Vec<u8>,
    asked: Mutex<Asking>,
}

/// Whether somebody is asked, and may be.
enum Asking {
    Nobody,
    Daemon(UnixStream),
    /// It was given up.
    Over,
}

impl Job {
    /// The command with these words.
    ///
    /// # Errors
    /// Where there is no folder to stand in.
    pub fn new(home: &Path, invocation: &Invocation, words: Vec<OsString>) -> std::io::Result<Self> {
        Ok(Self { home: home.to_owned(), text: request(invocation, &words)?, words, asked: Mutex::new(Asking::Nobody) })
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asking> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: the daemon sees that nobody waits any more.
    pub fn give_up(&self) {
        if let Asking::Daemon(socket) = std::mem::replace(&mut *self.asked(), Asking::Over) {
            // It is gone already, or is now.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Runs it with a file of our own as its standard output, which `name` gives its name when it is whole; none
    /// where no daemon serves the home.
    pub fn run_into(&self, output: &File, name: &dyn Fn() -> std::io::Result<()>) -> Option<std::io::Result<ExitCode>> {
        loop {
            let socket = connect(&self.home)?;
            match (socket.try_clone(), &mut *self.asked()) {
                (_, Asking::Over) => return Some(Err(rustix::io::Errno::CANCELED.into())),
                (Err(error), _) => return Some(Err(error)),
                (Ok(ours), asked) => *asked = Asking::Daemon(ours),
            }
            let stdin = std::io::stdin();
            match send(&socket, &self.text, &self.words, (stdin.as_fd(), output.as_fd()), Some(name)) {
                Ok(Asked::Done(code)) => return Some(Ok(code)),
                Ok(Asked::Busy) => std::thread::sleep(Duration::from_millis(100)),
                Ok(Asked::Unread(error)) | Err(error) => return Some(Err(error)),
            }
        }
    }
}
