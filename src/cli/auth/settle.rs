//! Recording what a provider answered. New tokens exist in this process alone until they are recorded, and the
//! old ones may be spent: recording waits for the ledger as long as it takes, and where a daemon took it
//! meanwhile, the tokens are handed to that daemon.

use std::io::Read;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::auth::RefreshResult;
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
}

impl Passed {
    fn new(access: &SecretBytes, refresh: Option<&SecretBytes>, expires_at: Option<Timestamp>) -> Option<Self> {
        let text =
            |token: &SecretBytes| std::str::from_utf8(token.expose()).ok().map(|text| Zeroizing::new(text.to_owned()));
        let refresh = match refresh {
            Some(token) => Some(text(token)?),
            None => None,
        };
        Some(Self { access: text(access)?, refresh, expires_at })
    }

    fn tokens(&self) -> NewTokens {
        let bytes = |text: &Zeroizing<String>| SecretBytes::from(text.as_bytes());
        NewTokens {
            access: bytes(&self.access),
            refresh: self.refresh.as_ref().map(bytes),
            expires_at: self.expires_at,
        }
    }
}

/// The ledger to record in: its own, or a daemon's.
enum Place {
    Here(Box<Ledger>),
    Daemon,
}

/// Opens the ledger, however long others hold it.
fn place(invocation: &Invocation) -> Result<Place, Failure> {
    let begun = Instant::now();
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
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Records answers to refreshes; gives what became of each.
///
/// # Errors
/// [`Failure`] where the ledger cannot be written.
pub fn refreshes(
    invocation: &Invocation,
    answers: Vec<(RefreshTicket, Result<Tokens, ClientFault>)>,
) -> Result<Vec<(ProfileId, Result<RefreshResult, Error>)>, Failure> {
    match place(invocation)? {
        Place::Here(ledger) => {
            let auth = ledger.auth();
            let record = |(ticket, answer): (RefreshTicket, _)| {
                let id = ticket.started.profile.id.clone();
                (id, settle(&auth, &ticket.started, answer))
            };
            let done = answers.into_iter().map(record).collect();
            invocation.close(&ledger);
            Ok(done)
        }
        Place::Daemon => {
            let mut passed = Vec::with_capacity(answers.len());
            let mut done = Vec::with_capacity(answers.len());
            for (ticket, answer) in answers {
                let (profile, generation) = (ticket.started.profile.id.clone(), ticket.started.generation);
                let (tokens, failed) = match answer {
                    Ok(tokens) => (Passed::new(&tokens.access, tokens.refresh.as_ref(), tokens.expires_at()), None),
                    Err(fault) => (None, Some(fault.of_refresh())),
                };
                let result = match (&tokens, &failed) {
                    (_, Some(failed)) => failed.clone(),
                    (Some(Passed { refresh, expires_at, .. }), None) => {
                        RefreshResult::Renewed { expires_at: *expires_at, rotated: refresh.is_some() }
                    }
                    (None, None) => continue,
                };
                done.push((profile.clone(), Ok(result)));
                let refresh_version = ticket.started.refresh_version;
                passed.push(HandOver::Refresh { profile, generation, refresh_version, tokens, failed });
            }
            hand_over(invocation, &passed)?;
            Ok(done)
        }
    }
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
    match place(invocation)? {
        Place::Here(ledger) => {
            let auth = ledger.auth();
            auth.logged_in(&profile(Some(&auth))?, flow, tokens)?;
            invocation.close(&ledger);
            Ok(())
        }
        Place::Daemon => {
            let passed = Passed::new(&tokens.access, tokens.refresh.as_ref(), tokens.expires_at);
            let passed = passed.map(|tokens| Ok(HandOver::Login { profile: Box::new(profile(None)?), flow, tokens }));
            hand_over(invocation, &passed.into_iter().collect::<Result<Vec<_>, Failure>>()?)
        }
    }
}

fn hand_over(invocation: &Invocation, passed: &[HandOver]) -> Result<(), Failure> {
    // Room for all of it from the start: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity((passed.len() + 1) * 2 * limits::TOKEN_ANSWER_MAX));
    let broken = |what: String| Failure::new(ExitCode::Internal, what, "run `palyra-ledger auth health`");
    serde_json::to_writer(&mut *text, passed)
        .map_err(|error| broken(format!("tokens cannot be handed over: {error}")))?;
    match remote::hand_over(invocation, &["auth", "settle"], &text) {
        Some(Ok(ExitCode::Ok)) => Ok(()),
        Some(Ok(code)) => Err(Failure::quiet(code)),
        Some(Err(error)) => Err(broken(format!("the daemon went away while it was given new tokens: {error}"))),
        None => Err(broken("the daemon went away before it was given new tokens".to_owned())),
    }
}

/// Takes what [`hand_over`] gives: `auth settle`, which only a daemon's clients send.
///
/// # Errors
/// [`Failure`] with the first thing that was refused; the others are recorded all the same.
pub fn take(invocation: &Invocation) -> Result<(), Failure> {
    let most = (limits::REFRESHES_AT_ONCE + 1) * 2 * limits::TOKEN_ANSWER_MAX;
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    let unread = |what: String| Failure::usage(what, "this command is the program's own");
    let input = invocation.seat.stdin().map_err(|error| unread(error.to_string()))?;
    input.take(most as u64).read_to_end(&mut text).map_err(|error| unread(error.to_string()))?;
    let passed: Vec<HandOver> =
        serde_json::from_slice(&text).map_err(|_| unread("the input is no answer of a provider".to_owned()))?;
    let ledger = invocation.open(Access::Write)?;
    let auth = ledger.auth();
    let mut fault = None;
    for one in passed {
        if let Err(error) = record(&auth, one) {
            fault.get_or_insert(error);
        }
    }
    invocation.close(&ledger);
    fault.map_or(Ok(()), |error| Err(error.into()))
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
