//! The Secret Service, behind a thread of its own.
//!
//! The thread owns the connection and the small runtime that drives it, so that callers need no runtime and may
//! have one. Whoever asks waits a bounded time for the answer; a thread that does not come back is given up and
//! the next call starts another.

use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::limits;

use super::session::Session;
use super::{Keystore, KeystoreError};

/// What the thread is asked.
pub(super) enum Request {
    Probe,
    Put(String, Zeroizing<Vec<u8>>),
    Get(String),
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

/// The Secret Service of the user's session.
#[derive(Default)]
pub struct SecretServiceKeystore {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
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
        let bound = Duration::from_millis(limits::KEYSTORE_MS);
        let answer = runtime.block_on(async { tokio::time::timeout(bound, session.serve(&request)).await });
        let answer = answer.unwrap_or_else(|_| {
            // What was under way on the connection is unknown: the next call makes a new one.
            session = Session::default();
            Err(silent())
        });
        // The asker may have given up.
        let _ = reply.send(answer);
    }
}

const fn silent() -> KeystoreError {
    KeystoreError::Silent { seconds: limits::KEYSTORE_MS / 1000 }
}

impl SecretServiceKeystore {
    fn ask(&self, request: Request) -> Reply {
        let (reply, answer) = mpsc::channel();
        // Held while waiting: the thread does one thing after the other anyway.
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match jobs.as_ref() {
            Some(sender) => sender.clone(),
            None => jobs.insert(start()?).clone(),
        };
        let sent = sender.send((request, reply)).is_ok();
        // The thread bounds its work by itself; the margin is for a machine under load.
        let got = answer.recv_timeout(Duration::from_millis(2 * limits::KEYSTORE_MS));
        match got {
            Ok(answer) if sent => answer,
            _ => {
                *jobs = None;
                Err(silent())
            }
        }
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
