//! This program as a child of itself: what is to be killed, or to live with little, runs in a process of its own.
//!
//! What a child says comes by a pipe, a line each. A line that begins with `!` is a complaint: it panicked, or could
//! not do what it was asked for. A child that ends in another way than it should, or not at all, is a failure.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Fault, faults, kill};

/// The variable that makes a child of this program.
const ASKED: &str = "PALYRA_LAB_CHILD";
/// What a complaint begins with.
const COMPLAINT: u8 = b'!';
/// Bytes of a child's standard error that are told at most.
const TOLD: usize = 600;
/// What ends a child that is killed.
const SIGKILL: i32 = 9;

/// What a child does.
#[derive(Debug, Serialize, Deserialize)]
pub enum Child {
    /// Works on a home until it is killed.
    Kill(kill::Orders),
    /// Works under a limit on the size of a file until that is met.
    Limited(faults::Orders),
    /// Fills a small file system, makes room and opens again.
    Small(faults::Small),
}

/// A command that runs a child; what it says comes by a pipe.
pub fn command(child: &Child) -> Result<Command, Fault> {
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.env(ASKED, serde_json::to_string(child)?);
    Ok(command)
}

/// Does what a child is asked for, if this process is one.
pub fn asked() -> Option<ExitCode> {
    let asked = std::env::var(ASKED).ok()?;
    std::panic::set_hook(Box::new(|info| {
        // The sled copy may panic over what it finds: the ledger contains that and goes on without it.
        if !info.location().is_some_and(|at| at.file().contains("/sled-")) {
            complain(&info.to_string());
        }
    }));
    let done = serde_json::from_str(&asked).map_err(Fault::from).and_then(|child| match child {
        Child::Kill(orders) => kill::child(&orders),
        Child::Limited(orders) => faults::limited(&orders),
        Child::Small(orders) => faults::small(&orders),
    });
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&fault.to_string());
            ExitCode::FAILURE
        }
    })
}

/// Says on the pipe, in one line, what the parent must not take for a word.
fn complain(what: &str) {
    let line = format!("{}{}\n", char::from(COMPLAINT), what.replace('\n', " "));
    // Without a pipe, the way in which it ends has to say it.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// A line of a child.
enum Line<S> {
    Said(S),
    Complaint(String),
}

/// Why listening came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A word ended it.
    Word,
    /// The time was over.
    Time,
    /// The child says nothing more, or has complained.
    Over,
}

/// What a child said, and whether it ended as it should.
#[derive(Debug)]
pub struct Heard<S> {
    /// Its words, in order.
    pub said: Vec<S>,
    /// How it ended, where that is not as it should be.
    pub ended: Result<(), Fault>,
}

/// A child at work.
pub struct Running<S> {
    process: std::process::Child,
    lines: Receiver<Line<S>>,
    words: JoinHandle<Result<(), Fault>>,
    errors: JoinHandle<String>,
    said: Vec<S>,
    complaints: Vec<String>,
}

impl<S: DeserializeOwned + Send + 'static> Running<S> {
    /// Starts it, with pipes.
    pub fn start(mut command: Command) -> Result<Self, Fault> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let (out, err) = (process.stdout.take().ok_or("no pipe")?, process.stderr.take().ok_or("no pipe")?);
        let (tell, lines) = channel();
        let words = std::thread::spawn(move || read(out, |line| drop(tell.send(line))));
        let errors = std::thread::spawn(move || tail(err));
        Ok(Self { process, lines, words, errors, said: Vec::new(), complaints: Vec::new() })
    }

    /// Listens for a time, or until something is said that ends it.
    pub fn hear(&mut self, time: Duration, end: impl Fn(&S) -> bool) -> Stopped {
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Line::Said(one)) => {
                    let ends = end(&one);
                    self.said.push(one);
                    if ends {
                        return Stopped::Word;
                    }
                }
                Ok(Line::Complaint(what)) => {
                    self.complaints.push(what);
                    return Stopped::Over;
                }
                Err(RecvTimeoutError::Timeout) => return Stopped::Time,
                Err(RecvTimeoutError::Disconnected) => return Stopped::Over,
            }
        }
    }

    /// Kills it: that, and nothing before it, has to be its end.
    pub fn kill(mut self) -> Result<Heard<S>, Fault> {
        self.process.kill()?;
        self.over(|status| status.signal() == Some(SIGKILL), None)
    }

    /// Lets it come to its end, which has to be a good one and to come in time.
    pub fn finish(mut self, patience: Duration) -> Result<Heard<S>, Fault> {
        let until = Instant::now() + patience;
        // A complaint does not end it: a child that hangs behind one is killed in time.
        let hung = loop {
            match self.hear(until.saturating_duration_since(Instant::now()), |_| false) {
                Stopped::Time => break true,
                Stopped::Over | Stopped::Word if self.process.try_wait()?.is_some() => break false,
                Stopped::Over | Stopped::Word if Instant::now() >= until => break true,
                Stopped::Over | Stopped::Word => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if hung {
            self.process.kill()?;
        }
        let hung = hung.then(|| format!("it did not end within {} s", patience.as_secs()));
        self.over(ExitStatus::success, hung)
    }

    fn over(mut self, good: impl Fn(&ExitStatus) -> bool, hung: Option<String>) -> Result<Heard<S>, Fault> {
        let status = self.process.wait()?;
        self.words.join().map_err(|_| "the reader panicked")??;
        let errors = self.errors.join().map_err(|_| "the reader panicked")?;
        for line in self.lines.try_iter() {
            match line {
                Line::Said(one) => self.said.push(one),
                Line::Complaint(what) => self.complaints.push(what),
            }
        }
        let mut wrong: Vec<String> = hung.into_iter().collect();
        wrong.append(&mut self.complaints);
        if wrong.is_empty() && !good(&status) {
            wrong.push(format!("it ended by itself, with {status}"));
        }
        if !wrong.is_empty() && !errors.is_empty() {
            wrong.push(errors);
        }
        let ended = if wrong.is_empty() { Ok(()) } else { Err(format!("the child: {}", wrong.join("; ")).into()) };
        Ok(Heard { said: self.said, ended })
    }
}

/// Reads lines until the pipe ends; a line that was cut off by a kill says nothing.
fn read<S: DeserializeOwned>(out: ChildStdout, mut tell: impl FnMut(Line<S>)) -> Result<(), Fault> {
    let mut lines = BufReader::new(out);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
            return Ok(());
        }
        tell(match line.strip_prefix(&[COMPLAINT]) {
            Some(what) => Line::Complaint(String::from_utf8_lossy(what).trim().to_owned()),
            None => Line::Said(serde_json::from_slice(&line)?),
        });
    }
}

/// The end of what a child wrote on its standard error.
fn tail(mut err: ChildStderr) -> String {
    let mut bytes = Vec::new();
    let _ = err.read_to_end(&mut bytes);
    let from = bytes.len().saturating_sub(TOLD);
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).trim().to_owned()
}
