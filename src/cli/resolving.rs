//! Resolving references on the command line, with and without a daemon.
//!
//! Variables, files and programs are those of the command itself: its environment, its mounts, its user. They are
//! taken here, whoever has the ledger. What is of the vault comes from whoever has it; a daemon gets the references
//! and what is said about the values that were taken here (never these values), records all of it, and answers:
//!
//! ```text
//! client -> daemon   JSON: the references, each with what is said about it
//! daemon -> client   len(4, little endian) JSON: what became of each; then, for each value of the vault,
//!                    len(4, little endian) and the value
//! ```

use std::ffi::OsString;
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::bytes::Reader;
use crate::base::{KeyedPrint, Scope, SecretBytes, SecretRef, SourceKind, Timestamp, limits};
use crate::engine::{Error, Ledger};
use crate::event::vault::ResolveStatus;
use crate::resolve::{Bound, Check, Claim, Outside, Reason, Resolution, SecretResolver, Taken};

use super::exit::{ExitCode, Failure};
use super::interrupt::Interrupts;
use super::invocation::{Access, Invocation};
use super::remote;
use super::seat::Seat;

/// What a daemon is asked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    scope: Option<Scope>,
    explain: bool,
    references: Vec<(SecretRef, Option<Claim>)>,
}

/// What it answers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    resolutions: Vec<Passed>,
    explained: Vec<Explained>,
}

/// The checks of one reference, and why it would give no value.
pub type Explained = (Vec<Check>, Option<Reason>);

/// A resolution without its value.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Passed {
    status: ResolveStatus,
    reason: Option<Reason>,
    required: bool,
    source: SourceKind,
    fingerprint: KeyedPrint,
    value_fingerprint: Option<KeyedPrint>,
    bytes: Option<u32>,
    at: Timestamp,
    took_us: u64,
    /// Whether its value follows.
    follows: bool,
}

impl Passed {
    fn new(resolution: &Resolution) -> Self {
        Self {
            status: resolution.status,
            reason: resolution.reason.clone(),
            required: resolution.required,
            source: resolution.source,
            fingerprint: resolution.fingerprint,
            value_fingerprint: resolution.value_fingerprint,
            bytes: resolution.bytes,
            at: resolution.at,
            took_us: u64::try_from(resolution.took.as_micros()).unwrap_or(u64::MAX),
            follows: resolution.value.is_some(),
        }
    }

    fn with(self, value: Option<SecretBytes>) -> Resolution {
        Resolution {
            value,
            status: self.status,
            reason: self.reason,
            required: self.required,
            source: self.source,
            fingerprint: self.fingerprint,
            value_fingerprint: self.value_fingerprint,
            bytes: self.bytes,
            at: self.at,
            took: Duration::from_micros(self.took_us),
        }
    }
}

fn bound(scope: Option<&Scope>) -> Bound {
    scope.map_or(Bound::Every, |scope| Bound::Scope(scope.clone()))
}

/// Resolves references, and has everything recorded before a value is returned. A reference that gives no value
/// is no failure: its resolution says why, and [`Failure::unresolved`] makes one of it.
///
/// # Errors
/// [`Failure`] where nothing can be resolved.
pub fn resolve_all(
    invocation: &Invocation,
    scope: Option<&Scope>,
    references: &[SecretRef],
) -> Result<Vec<Resolution>, Failure> {
    if references.len() > limits::REFERENCES_MAX {
        let what = format!("{} references are more than {}", references.len(), limits::REFERENCES_MAX);
        return Err(Failure::usage(what, "resolve them in several commands"));
    }
    let mut taken = take_outside(invocation, references)?;
    let asked: Vec<_> = references
        .iter()
        .zip(&taken)
        .map(|(reference, taken)| (reference.clone(), taken.as_ref().map(Taken::claim)))
        .collect();
    let question = Question { scope: scope.cloned(), explain: false, references: asked };
    let mut resolutions = match ask(invocation, &question)? {
        Some((answer, values)) => join(answer.resolutions, values)?,
        None => recorded(invocation, |ledger, invocation| {
            SecretResolver::new(ledger, invocation.caller()?, bound(scope))
                .resolve_claimed(&question.references)
                .map_err(Refused::Ledger)
        })?,
    };
    for (resolution, taken) in resolutions.iter_mut().zip(taken.iter_mut()) {
        if let Some(Ok(value)) = taken.take().map(|taken| taken.value) {
            resolution.value = Some(value);
        }
    }
    Ok(resolutions)
}

/// Takes what is outside the vault. Programs that this starts are ended before a signal ends us.
fn take_outside(invocation: &Invocation, references: &[SecretRef]) -> Result<Vec<Option<Taken>>, Failure> {
    let outside = Outside::new(invocation.settings().resolve);
    let take = |outside: &Outside| references.iter().map(|reference| outside.take(reference)).collect();
    if references.iter().all(|reference| reference.source.kind() != SourceKind::Exec) {
        return Ok(take(&outside));
    }
    let failed = |error| {
        Failure::new(ExitCode::Internal, format!("cannot wait for signals: {error}"), "look at the system's limits")
    };
    let interrupts = Interrupts::hold().map_err(failed)?;
    let taken = take(&outside.stopped_by(interrupts.stop()));
    interrupts.end().map_err(failed)?;
    Ok(taken)
}

/// Explains what would be allowed for a reference, without taking its value and without a record.
///
/// # Errors
/// [`Failure`] where the ledger cannot be asked.
pub fn explain(invocation: &Invocation, scope: Option<&Scope>, reference: &SecretRef) -> Result<Explained, Failure> {
    if let Some(explained) = Outside::new(invocation.settings().resolve).explain(reference) {
        return Ok(explained);
    }
    let question = Question { scope: scope.cloned(), explain: true, references: vec![(reference.clone(), None)] };
    if let Some((mut answer, _)) = ask(invocation, &question)? {
        return answer.explained.pop().ok_or_else(broken);
    }
    let ledger = invocation.open(Access::Read)?;
    let explained = SecretResolver::new(&ledger, invocation.caller()?, bound(scope)).explain(reference);
    invocation.close(&ledger);
    Ok(explained?)
}

/// Runs in the daemon, for a client.
///
/// # Errors
/// [`Failure`] where the question does not read or the ledger cannot answer.
pub fn attend(invocation: &Invocation) -> Result<(), Failure> {
    let unread = || Failure::usage("this command is for clients of the daemon", "use `palyra-ledger resolve REF`");
    if matches!(invocation.seat, Seat::Own) {
        return Err(unread());
    }
    let mut text = Vec::new();
    let input = invocation.seat.stdin().map_err(|_| unread())?;
    input.take(limits::RESOLVE_QUESTION_MAX as u64 + 1).read_to_end(&mut text).map_err(|_| unread())?;
    if text.len() > limits::RESOLVE_QUESTION_MAX {
        return Err(unread());
    }
    let question: Question = serde_json::from_slice(&text).map_err(|_| unread())?;
    if question.references.len() > limits::REFERENCES_MAX {
        return Err(unread());
    }
    let ledger = invocation.open(Access::Write)?;
    let resolver = SecretResolver::new(&ledger, invocation.caller()?, bound(question.scope.as_ref()));
    let mut answer = Answer { resolutions: Vec::new(), explained: Vec::new() };
    let mut resolutions = Vec::new();
    if question.explain {
        let vault = |reference: &&(SecretRef, _)| reference.0.source.kind() == SourceKind::Vault;
        let explained = question.references.iter().filter(vault).map(|(reference, _)| resolver.explain(reference));
        answer.explained = explained.collect::<Result<_, _>>()?;
    } else {
        resolutions = resolver.resolve_claimed(&question.references)?;
        answer.resolutions = resolutions.iter().map(Passed::new).collect();
    }
    let head = serde_json::to_vec(&answer).map_err(|_| broken())?;
    invocation.out.value(&length(head.len())?)?;
    invocation.out.value(&head)?;
    for value in resolutions.iter().filter_map(|resolution| resolution.value.as_ref()) {
        invocation.out.value(&length(value.len())?)?;
        invocation.out.value(value.expose())?;
    }
    Ok(())
}

fn length(bytes: usize) -> Result<[u8; 4], Failure> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(|_| broken())
}

fn broken() -> Failure {
    Failure::new(ExitCode::Io, "the daemon's answer does not read", "restart the daemon after an update")
}

/// Asks the daemon that serves the ledger; none where no one does.
fn ask(invocation: &Invocation, question: &Question) -> Result<Option<(Answer, Zeroizing<Vec<u8>>)>, Failure> {
    let mut words: Vec<OsString> = vec!["resolving".into()];
    for (flag, text) in [("--actor", &invocation.global.actor), ("--reason", &invocation.global.reason)] {
        words.extend(text.as_ref().map(|text| format!("{flag}={text}").into()));
    }
    let input = serde_json::to_vec(question).map_err(|_| broken())?;
    if input.len() > limits::RESOLVE_QUESTION_MAX {
        return Err(Failure::usage("these references are too long together", "resolve them in several commands"));
    }
    let Some(done) = remote::exchange(invocation, &words, &input) else { return Ok(None) };
    let gone = |error: std::io::Error| {
        let what = format!("the daemon that serves this ledger went away: {error}");
        Failure::new(ExitCode::Io, what, "look at the daemon's messages, then run the command again")
    };
    let (code, printed) = done.map_err(gone)?;
    if code != ExitCode::Ok {
        // It has said why on the error output.
        return Err(Failure::quiet(code));
    }
    let mut reader = Reader(&printed);
    let head = reader.u32().and_then(|len| reader.bytes(usize::try_from(len).ok()?)).ok_or_else(broken)?;
    let answer: Answer = serde_json::from_slice(head).map_err(|_| broken())?;
    let values = Zeroizing::new(reader.0.to_vec());
    let expected = if question.explain { answer.explained.len() } else { answer.resolutions.len() };
    if expected != question.references.len() {
        return Err(broken());
    }
    Ok(Some((answer, values)))
}

fn join(passed: Vec<Passed>, values: Zeroizing<Vec<u8>>) -> Result<Vec<Resolution>, Failure> {
    let mut reader = Reader(&values);
    let mut one = |passed: Passed| {
        let value = if passed.follows {
            let len = reader.u32().and_then(|len| usize::try_from(len).ok()).ok_or_else(broken)?;
            Some(SecretBytes::from(reader.bytes(len).ok_or_else(broken)?))
        } else {
            None
        };
        Ok(passed.with(value))
    };
    passed.into_iter().map(&mut one).collect()
}

enum Refused {
    Ledger(Error),
    Failure(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Does something that is recorded with the ledger open for reading; where that cannot record it, for writing.
fn recorded<T>(
    invocation: &Invocation,
    act: impl Fn(&Ledger, &Invocation) -> Result<T, Refused>,
) -> Result<T, Failure> {
    let run = |access| -> Result<Result<T, Refused>, Failure> {
        let ledger = invocation.open(access)?;
        let done = act(&ledger, invocation);
        invocation.close(&ledger);
        Ok(done)
    };
    let done = match run(Access::Read)? {
        Err(Refused::Ledger(Error::ReadOnly | Error::SpoolFull { .. })) => run(Access::Write)?,
        done => done,
    };
    done.map_err(|refused| match refused {
        Refused::Ledger(error) => error.into(),
        Refused::Failure(failure) => failure,
    })
}
