//! A command for the daemon whose output is a file of ours.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::exit::ExitCode;
use crate::cli::invocation::Invocation;

use super::{Asked, connect, request, send};

/// A command for the daemon that another thread may ask for.
pub struct Job {
    home: PathBuf,
    words: Vec<OsString>,
    text: Vec<u8>,
}

impl Job {
    /// The command with these words.
    ///
    /// # Errors
    /// Where there is no folder to stand in.
    pub fn new(home: &Path, invocation: &Invocation, words: Vec<OsString>) -> std::io::Result<Self> {
        Ok(Self { home: home.to_owned(), text: request(invocation, &words)?, words })
    }

    /// Runs it with a file of our own as its standard output; none where no daemon serves the home.
    pub fn run_into(&self, output: &File) -> Option<std::io::Result<ExitCode>> {
        loop {
            let socket = connect(&self.home)?;
            match send(&socket, &self.text, &self.words, std::io::stdin().as_fd(), output.as_fd()) {
                Ok(Asked::Done(code)) => return Some(Ok(code)),
                Ok(Asked::Busy) => std::thread::sleep(Duration::from_millis(100)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
