//! Recording what a provider answered. New tokens exist in this process alone until they are recorded, and the
//! old ones may be spent: recording waits for the ledger as long as it takes, and where a daemon took it
//! meanwhile, the tokens are handed to that daemon.

use std::collections::VecDeque;
use std::io::Read;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::auth::{AnswerNote, AuthError, RefreshResult};
use crate::base::{ProfileId, SecretBytes, Timestamp, limits};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::remote;
use crate::engine::{Auth, Error, Ledger, NewTokens, RefreshTicket};
use crate::event::auth::{LoginFlow, Profile};
use crate::oauth::answer::Tokens;
use crate::oauth::{ClientFault, settle};

/// How long recording waits for the ledger.
const PATIENCE: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_millis(50);
/// Longest hand-over in bytes: two tokens of an answer at its bound, escaped, and what stands around them.
const HAND_OVER_MAX: usize = 4 * limits::TOKEN_ANSWER_MAX;

/// What is handed to a daemon.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum HandOver {
    Refresh {
        profile: ProfileId,
        generation: u64,
        refresh_version: u32,
        tokens: Option<Passed>,
        failed: Option<RefreshResult>,
    },
    Login {
        profile: Box<Profile>,
        flow: LoginFlow,
        tokens: Passed,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Passed {
    access: Zeroizing<String>,
    refresh: Option<Zeroizing<String>>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    answer: AnswerNote,
}

impl Passed {
    fn new(
        access: &SecretBytes,
        refresh: Option<&SecretBytes>,
        expires_at: Option<Timestamp>,
        answer: AnswerNote,
    ) -> Option<Self> {
        let text =
            |token: &SecretBytes| std::str::from_utf8(token.expose()).ok().map(|text| Zeroizing::new(text.to_owned()));
        let refresh = match refresh {
            Some(token) => Some(text(token)?),
            None => None,
        };
        Some(Self { access: text(access)?, refresh, expires_at, answer })
    }

    fn tokens(&self) -> NewTokens {
        let bytes = |text: &Zeroizing<String>| SecretBytes::from(text.as_bytes());
        NewTokens {
            access: bytes(&self.access),
            refresh: self.refresh.as_ref().map(bytes),
            expires_at: self.expires_at,
            answer: self.answer.clone(),
        }
    }
}

/// The ledger to record in: its own, or a daemon's.
enum Place {
    Here(Box<Ledger>),
    Daemon,
}

/// Opens the ledger, however long others hold it.
fn place(invocation: &Invocation, begun: Instant) -> Result<Place, Failure> {
    let mut said = false;
    loop {
        let failure = match invocation.open(Access::Write) {
            Ok(ledger) => return Ok(Place::Here(Box::new(ledger))),
            Err(failure) => failure,
        };
        if failure.code != ExitCode::InUse || begun.elapsed() > PATIENCE {
            return Err(failure);
        }
        if remote::is_served(invocation) {
            return Ok(Place::Daemon);
        }
        if !said {
            invocation.out.note("new tokens wait to be recorded: another process has the ledger");
            said = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// What became of a refresh.
pub enum Became {
    /// It was answered, and this is recorded.
    Recorded(RefreshResult),
    /// The token was not due.
    NotDue,
    /// It was not begun, or its answer could not be recorded.
    Failed(Failure),
}

impl From<Error> for Became {
    fn from(error: Error) -> Self {
        match error {
            Error::Auth(AuthError::NotDue(_)) => Self::NotDue,
            error => Self::Failed(error.into()),
        }
    }
}

/// Records answers to refreshes, each by itself: what is refused for one loses none of the others.
pub fn refreshes(
    invocation: &Invocation,
    answers: Vec<(RefreshTicket, Result<Tokens, ClientFault>)>,
) -> Vec<(ProfileId, Became)> {
    let begun = Instant::now();
    let mut left = VecDeque::from(answers);
    let mut done = Vec::with_capacity(left.len());
    while !left.is_empty() {
        match place(invocation, begun) {
            Ok(Place::Here(ledger)) => {
                let auth = ledger.auth();
                done.extend(left.drain(..).map(|(ticket, answer)| {
                    let id = ticket.started.profile.id.clone();
                    (id, settle(&auth, &ticket.started, answer).map_or_else(Became::from, Became::Recorded))
                }));
                invocation.close(&ledger);
            }
            Ok(Place::Daemon) => {
                while let Some((ticket, answer)) = left.pop_front() {
                    let id = ticket.started.profile.id.clone();
                    let (passed, result) = passed(&ticket, &answer);
                    match hand_over(invocation, &passed) {
                        Handed::Recorded => done.push((id, Became::Recorded(result))),
                        Handed::Refused(failure) => done.push((id, Became::Failed(failure))),
                        Handed::Gone => {
                            // What was recorded already is refused the second time, and nothing is lost.
                            left.push_front((ticket, answer));
                            std::thread::sleep(PAUSE);
                            break;
                        }
                    }
                }
            }
            Err(failure) => {
                for (ticket, _) in left.drain(..) {
                    let Failure { code, what, hint, .. } = &failure;
                    let failure = Failure::new(*code, format!("an answer was not recorded: {what}"), hint.clone());
                    done.push((ticket.started.profile.id, Became::Failed(failure)));
                }
            }
        }
    }
    done
}

fn passed(ticket: &RefreshTicket, answer: &Result<Tokens, ClientFault>) -> (HandOver, RefreshResult) {
    let started = &ticket.started;
    let (tokens, failed, result) = match answer {
        Ok(tokens) => {
            let expires_at = tokens.expires_at();
            let note = tokens.note(&started.source.scopes);
            let result = RefreshResult::Renewed { expires_at, rotated: tokens.refresh.is_some(), answer: note.clone() };
            (Passed::new(&tokens.access, tokens.refresh.as_ref(), expires_at, note), None, result)
        }
        Err(fault) => {
            let result = fault.of_refresh();
            (None, Some(result.clone()), result)
        }
    };
    let (profile, generation) = (started.profile.id.clone(), started.generation);
    let refresh_version = started.refresh_version;
    (HandOver::Refresh { profile, generation, refresh_version, tokens, failed }, result)
}

/// Records a login. `profile` makes the profile that is recorded out of the ledger's own.
///
/// # Errors
/// [`Failure`] where the ledger cannot be written, or refuses.
pub fn login(
    invocation: &Invocation,
    profile: &dyn Fn(Option<&Auth>) -> Result<Profile, Failure>,
    flow: LoginFlow,
    tokens: &NewTokens,
) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match place(invocation, begun)? {
            Place::Here(ledger) => {
                let auth = ledger.auth();
                auth.logged_in(&profile(Some(&auth))?, flow, tokens)?;
                invocation.close(&ledger);
                return Ok(());
            }
            Place::Daemon => {
                let passed =
                    Passed::new(&tokens.access, tokens.refresh.as_ref(), tokens.expires_at, tokens.answer.clone());
                let passed = passed.ok_or_else(|| Failure::new(ExitCode::Internal, "a token is no text", ""))?;
                let login = HandOver::Login { profile: Box::new(profile(None)?), flow, tokens: passed };
                match hand_over(invocation, &login) {
                    Handed::Recorded => return Ok(()),
                    Handed::Refused(failure) => return Err(failure),
                    Handed::Gone => std::thread::sleep(PAUSE),
                }
            }
        }
    }
}

enum Handed {
    Recorded,
    Refused(Failure),
    /// The daemon went away: whether it recorded anything is not known.
    Gone,
}

fn hand_over(invocation: &Invocation, passed: &HandOver) -> Handed {
    // Room for all of it from the start: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(HAND_OVER_MAX));
    let refused = |code, what: String| {
        Handed::Refused(Failure::new(code, what, "`palyra-ledger auth health` says what to do next"))
    };
    if let Err(error) = serde_json::to_writer(&mut *text, passed) {
        return refused(ExitCode::Internal, format!("an answer cannot be handed over: {error}"));
    }
    match remote::hand_over(invocation, &["auth", "settle"], &text) {
        Some(Ok(ExitCode::Ok)) => Handed::Recorded,
        Some(Ok(code)) => refused(code, "the daemon refused to record an answer".to_owned()),
        Some(Err(_)) | None => Handed::Gone,
    }
}

/// Takes what [`hand_over`] gives: `auth settle`, which only a daemon's clients send.
///
/// # Errors
/// [`Failure`] where it does not read, or is refused.
pub fn take(invocation: &Invocation) -> Result<(), Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(HAND_OVER_MAX));
    let unread = |what: String| Failure::usage(what, "this command is the program's own");
    let input = invocation.seat.stdin().map_err(|error| unread(error.to_string()))?;
    input.take(HAND_OVER_MAX as u64).read_to_end(&mut text).map_err(|error| unread(error.to_string()))?;
    let passed: HandOver =
        serde_json::from_slice(&text).map_err(|_| unread("the input is no answer of a provider".to_owned()))?;
    let ledger = invocation.open(Access::Write)?;
    let done = record(&ledger.auth(), passed);
    invocation.close(&ledger);
    Ok(done?)
}

fn record(auth: &Auth, one: HandOver) -> Result<(), Error> {
    match one {
        HandOver::Login { profile, flow, tokens } => auth.logged_in(&profile, flow, &tokens.tokens()),
        HandOver::Refresh { profile, generation, refresh_version, tokens, failed } => {
            let mut started = auth.resume(&profile, generation)?;
            started.refresh_version = refresh_version;
            match (tokens, failed) {
                (Some(tokens), _) => auth.renewed(&started, &tokens.tokens()),
                (None, Some(failed)) => auth.refresh_failed(&started, &failed).map(|_| ()),
                (None, None) => Ok(()),
            }
        }
    }
}
