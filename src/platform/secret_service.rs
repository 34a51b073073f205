//! The Secret Service, behind a thread of its own.
//!
//! The thread owns the connection and the small runtime that drives it, so that callers need no runtime and may
//! have one. Whoever asks waits a bounded time for the answer; a thread that does not come back is given up and
//! the next call starts another.

use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::base::limits;

use super::session::Session;
use super::{Keystore, KeystoreError};

/// What the thread is asked.
pub(super) enum Request {
    Probe,
    Put(String, Zeroizing<Vec<u8>>),
    Get(String),
    Foreign(String, String),
    Delete(String),
    List(String),
}

/// What it answers.
pub(super) enum Answer {
    Done,
    Bytes(Option<Zeroizing<Vec<u8>>>),
    Names(Vec<String>),
}

type Reply = Result<Answer, KeystoreError>;
type Job = (Request, mpsc::Sender<Reply>);

impl Request {
    /// How long its answer may take.
    const fn bound_ms(&self) -> u64 {
        match self {
            Self::List(_) => limits::KEYSTORE_LIST_MS,
            Self::Probe | Self::Put(..) | Self::Get(_) | Self::Foreign(..) | Self::Delete(_) => limits::KEYSTORE_MS,
        }
    }
}

/// The thread, and when it last did not answer.
#[derive(Default)]
struct Line {
    jobs: Option<mpsc::Sender<Job>>,
    silent: Option<Instant>,
}

/// The Secret Service of the user's session.
#[derive(Default)]
pub struct SecretServiceKeystore {
    line: Mutex<Line>,
}

impl std::fmt::Debug for SecretServiceKeystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretServiceKeystore")
    }
}

fn work(jobs: &mpsc::Receiver<Job>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let mut session = Session::default();
    while let Ok((request, reply)) = jobs.recv() {
        let ms = request.bound_ms();
        let bound = Duration::from_millis(ms);
        let answer = runtime.block_on(async { tokio::time::timeout(bound, session.serve(&request)).await });
        let answer = answer.unwrap_or_else(|_| {
            // What was under way on the connection is unknown: the next call makes a new one.
            session = Session::default();
            Err(silent(ms))
        });
        // The asker may have given up.
        let _ = reply.send(answer);
    }
}

const fn silent(ms: u64) -> KeystoreError {
    KeystoreError::Silent { seconds: ms / 1000 }
}

impl SecretServiceKeystore {
    fn ask(&self, request: Request) -> Reply {
        self.ask_since(Instant::now(), request)
    }

    /// `since` is when the asker came: what was found silent while it stood in line is not asked once more, or the
    /// last of many would wait for all of them.
    fn ask_since(&self, since: Instant, request: Request) -> Reply {
        let ms = request.bound_ms();
        let (reply, answer) = mpsc::channel();
        // Held while waiting: the thread does one thing after the other anyway.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.silent.is_some_and(|at| at >= since) {
            return Err(silent(ms));
        }
        let sender = match line.jobs.as_ref() {
            Some(sender) => sender.clone(),
            None => line.jobs.insert(start()?).clone(),
        };
        let sent = sender.send((request, reply)).is_ok();
        // The thread bounds its work by itself; the margin is for a machine under load.
        let answer = match answer.recv_timeout(Duration::from_millis(2 * ms)) {
            Ok(answer) if sent => answer,
            _ => {
                line.jobs = None;
                Err(silent(ms))
            }
        };
        if matches!(answer, Err(KeystoreError::Silent { .. })) {
            line.silent = Some(Instant::now());
        }
        answer
    }
}

fn start() -> Result<mpsc::Sender<Job>, KeystoreError> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .name("palyra-keystore".into())
        .spawn(move || work(&receiver))
        .map_err(|error| KeystoreError::Failed(format!("cannot start a thread: {error}")))?;
    Ok(sender)
}

impl Keystore for SecretServiceKeystore {
    fn probe(&self) -> Result<(), KeystoreError> {
        self.ask(Request::Probe).map(|_| ())
    }

    fn put(&self, account: &str, bytes: &[u8]) -> Result<(), KeystoreError> {
        self.ask(Request::Put(account.to_owned(), Zeroizing::new(bytes.to_vec()))).map(|_| ())
    }

    fn get(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        match self.ask(Request::Get(account.to_owned()))? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Done | Answer::Names(_) => Ok(None),
        }
    }

    fn get_foreign(&self, service: &str, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        match self.ask(Request::Foreign(service.to_owned(), key.to_owned()))? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Done | Answer::Names(_) => Ok(None),
        }
    }

    fn delete(&self, account: &str) -> Result<(), KeystoreError> {
        self.ask(Request::Delete(account.to_owned())).map(|_| ())
    }

    fn list(&self, group: &str) -> Result<Option<Vec<String>>, KeystoreError> {
        match self.ask(Request::List(group.to_owned()))? {
            Answer::Names(names) => Ok(Some(names)),
            Answer::Done | Answer::Bytes(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stood_in_line_behind_a_silent_call_does_not_wait_once_more() {
        let (sender, receiver) = mpsc::channel::<Job>();
        let keystore = SecretServiceKeystore { line: Mutex::new(Line { jobs: Some(sender), silent: None }) };
        let answering = std::thread::spawn(move || {
            let mut asked = 0;
            while let Ok((_, reply)) = receiver.recv() {
                asked += 1;
                reply.send(if asked == 1 { Err(silent(1000)) } else { Ok(Answer::Done) }).unwrap();
            }
            asked
        });
        let before = Instant::now();
        for _ in 0..3 {
            assert!(matches!(keystore.ask_since(before, Request::Probe), Err(KeystoreError::Silent { .. })));
        }
        std::thread::sleep(Duration::from_millis(1));
        assert!(keystore.ask(Request::Probe).is_ok(), "who comes later asks anew");
        drop(keystore);
        assert_eq!(answering.join().unwrap(), 2);
    }
}
