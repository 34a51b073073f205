//! `auth refresh`, `auth login` and `auth logout`: what goes over the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::auth::{AuthError, RefreshResult};
use crate::base::{Clock, ProfileId, ProfileScope, Provider, SecretBytes, SystemClock, limits};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::seat::Seat;
use crate::cli::time;
use crate::engine::{Auth, Error, NewTokens, RefreshTicket};
use crate::event::auth::{CredentialSource, FailureKind, LoginFlow, OauthSource, Profile};
use crate::oauth::login::{CodeLogin, DeviceLogin, discover, revoke};
use crate::oauth::{ClientFault, TokenClient, answer::Tokens, exchange};

use super::profiles::{OauthArgs, existing, over};
use super::settle::Became;
use super::{answer, ms, settle};

/// Arguments of `auth refresh`.
#[derive(Debug, Args)]
pub struct Refresh {
    /// This profile
    #[arg(long, value_name = "ID", conflicts_with = "due")]
    profile: Option<ProfileId>,
    /// Every profile that is due, as without --profile
    #[arg(long)]
    due: bool,
    /// Even where it is not due, cools down or waits for a person; without --profile: every one that can be
    #[arg(long, conflicts_with = "due")]
    force: bool,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flow {
    /// By the provider's page in a browser on this machine.
    Code,
    /// By a code that is typed on any other machine.
    Device,
}

/// Arguments of `auth login`.
#[derive(Debug, Args)]
pub struct Login {
    /// The profile; a new one is made
    #[arg(long, value_name = "ID")]
    profile: ProfileId,
    /// The provider, for a new profile
    #[arg(long)]
    provider: Option<Provider>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Who may use it: global, agent:ID
    #[arg(long)]
    scope: Option<ProfileScope>,
    #[command(flatten)]
    oauth: OauthArgs,
    /// The provider's issuer URL: its endpoints are asked for
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The provider's authorization endpoint
    #[arg(long, value_name = "URL")]
    authorization_endpoint: Option<String>,
    /// One more parameter for the provider's page, as prompt=consent; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, String)>,
    /// The provider's device authorization endpoint
    #[arg(long, value_name = "URL")]
    device_endpoint: Option<String>,
    /// How
    #[arg(long, value_enum, default_value = "code")]
    flow: Flow,
    /// Port on 127.0.0.1 for the way back; 0: any
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How long to wait for the person
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    wait: String,
}

/// Arguments of `auth logout`.
#[derive(Debug, Args)]
pub struct Logout {
    /// The profile
    #[arg(long, value_name = "ID")]
    profile: ProfileId,
    /// Destroy the tokens here even where the provider does not confirm that it revoked them
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// A parameter that is none of those that the login is made of.
fn parameter(text: &str) -> Result<(String, String), String> {
    const OURS: [&str; 7] =
        ["response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"];
    let (name, value) = text.split_once('=').ok_or("it has the form NAME=VALUE")?;
    if name.is_empty() || OURS.contains(&name) {
        return Err("this parameter is the login's own".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn failed(fault: ClientFault) -> Failure {
    let (code, hint) = match &fault {
        ClientFault::Settings(_) => (ExitCode::Usage, "mend config.toml"),
        ClientFault::Endpoint(_) => (ExitCode::Denied, "give another URL, or allow the network in config.toml"),
        ClientFault::Network { .. } | ClientFault::Late => {
            (ExitCode::Io, "look at the network, then run the command again")
        }
        ClientFault::Refused(_) => (ExitCode::Denied, "look at the client id, its secret and the endpoints"),
        ClientFault::Person(_) => (ExitCode::Aborted, "run the command again"),
    };
    Failure::new(code, fault.to_string(), hint)
}

/// The settings are the open ledger's: a daemon's clients go by what it was started with.
fn client(invocation: &Invocation) -> Result<TokenClient, Failure> {
    let ledger = invocation.open(Access::Read)?;
    let settings = ledger.status()?.settings.auth;
    // Never behind the log, as leases are. A clock of a ledger that is closed goes on from there.
    let clock: Arc<dyn Clock> = match &invocation.seat {
        Seat::Client(_) => ledger.identity().clock(),
        Seat::Own => Arc::new(SystemClock),
    };
    invocation.close(&ledger);
    TokenClient::new(&settings, clock).map_err(failed)
}

/// Tasks go on while the main thread records: nothing waits for the slowest.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|error| Failure::new(ExitCode::Internal, format!("cannot start: {error}"), "run the command again"))
}

/// Runs `auth refresh`. The ledger is not held while the providers are asked: others may use it.
pub fn refresh(invocation: &Invocation, args: &Refresh) -> Result<(), Failure> {
    let client = client(invocation)?;
    let runtime = runtime()?;
    let stopped = watch_interrupt(invocation, &runtime);
    // A daemon that stops waits for what it is asked to record.
    let _awaiting = match &invocation.seat {
        Seat::Client(client) => Some(client.ledger.auth().awaiting()),
        Seat::Own => None,
    };
    let mut done: Vec<(ProfileId, Became)> = Vec::new();
    let mut waiting: Option<Vec<ProfileId>> = args.profile.clone().map(|id| vec![id]);
    loop {
        let ledger = match invocation.open(Access::Write) {
            Ok(ledger) => ledger,
            Err(failure) if done.is_empty() => return Err(failure),
            // What was done is told all the same.
            Err(failure) => return tell(invocation, done).and(Err(failure)),
        };
        let auth = ledger.auth();
        let mut ids = match waiting.take() {
            Some(ids) => ids,
            None if args.force => auth.refreshable()?,
            None => auth.due()?,
        };
        let rest = ids.split_off(ids.len().min(limits::REFRESHES_AT_ONCE));
        let mut tickets = Vec::new();
        for id in ids {
            match auth.begin_refresh(&id, args.force) {
                Ok(ticket) => tickets.push(ticket),
                // Another process was faster.
                Err(Error::Auth(AuthError::Busy { .. } | AuthError::NotDue(_))) if args.profile.is_none() => {}
                Err(error) => done.push((id, Became::from(error))),
            }
        }
        drop(auth);
        invocation.close(&ledger);
        drop(ledger);
        let mut running = runtime.block_on(async { send_all(&client, tickets) });
        loop {
            let answers = runtime.block_on(next_answers(&mut running));
            if answers.is_empty() {
                break;
            }
            done.extend(settle::refreshes(invocation, answers));
        }
        let stop = stopped.load(Ordering::Acquire);
        if rest.is_empty() || stop {
            tell(invocation, done)?;
            let what = "interrupted: what was under way was finished, and nothing more was begun";
            return if stop { Err(Failure::new(ExitCode::Aborted, what, "run the command again")) } else { Ok(()) };
        }
        waiting = Some(rest);
    }
}

/// The first Ctrl-C begins nothing more; an answer that is awaited may hold the only token there is.
fn watch_interrupt(invocation: &Invocation, runtime: &tokio::runtime::Runtime) -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    if matches!(invocation.seat, Seat::Own) {
        let flag = Arc::clone(&stopped);
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                flag.store(true, Ordering::Release);
            }
        });
    }
    stopped
}

type Answer = (RefreshTicket, Result<Tokens, ClientFault>);

fn send_all(client: &TokenClient, tickets: Vec<RefreshTicket>) -> JoinSet<Answer> {
    let mut running = JoinSet::new();
    for ticket in tickets {
        let client = client.clone();
        running.spawn(async move {
            let answer = exchange(&client, &ticket).await;
            (ticket, answer)
        });
    }
    running
}

/// The next answer, and whatever else has come by then; empty: all have.
async fn next_answers(running: &mut JoinSet<Answer>) -> Vec<Answer> {
    let mut answers = Vec::new();
    while answers.is_empty() {
        match running.join_next().await {
            Some(answer) => answers.extend(answer.ok()),
            None => break,
        }
    }
    while let Some(answer) = running.try_join_next() {
        answers.extend(answer.ok());
    }
    answers
}

fn tell(invocation: &Invocation, done: Vec<(ProfileId, Became)>) -> Result<(), Failure> {
    let out = &invocation.out;
    let mut shown: Vec<Value> = Vec::new();
    let mut fault = None;
    for (id, became) in done {
        let (result, what, expires_at, failure) = match became {
            Became::Recorded(RefreshResult::Renewed { expires_at, .. }) => ("renewed", String::new(), expires_at, None),
            Became::Recorded(RefreshResult::Refused { failure, what }) => {
                let code = if failure == FailureKind::AuthInvalid { ExitCode::Expired } else { ExitCode::Denied };
                let hint = format!("`palyra-ledger auth login --profile {id}`");
                ("refused", what.clone(), None, Some(Failure::new(code, format!("{id}: {what}"), hint)))
            }
            Became::Recorded(RefreshResult::Failed { what, .. }) => {
                let failure = Failure::new(ExitCode::Io, format!("{id}: {what}"), "it is tried again when it may");
                ("failed", what, None, Some(failure))
            }
            Became::NotDue => ("not_due", String::new(), None, None),
            Became::Failed(failure) => ("skipped", failure.what.clone(), None, Some(failure)),
        };
        if !out.is_json() {
            let until = expires_at.map(|end| format!(", good until {}", time::second(end))).unwrap_or_default();
            let why = if what.is_empty() { String::new() } else { format!(": {what}") };
            out.line(&format!("{id} {}{until}{why}", result.replace('_', " ")))?;
        }
        shown.push(json!({"profile": id, "result": result, "what": what, "expires_at_ms": ms(expires_at)}));
        fault = fault.or(failure);
    }
    if out.is_json() {
        out.json(&json!({"refreshed": shown}))?;
    } else if shown.is_empty() {
        out.line("nothing is due")?;
    }
    fault.map_or(Ok(()), Err)
}

/// Runs `auth login`.
pub fn login(invocation: &Invocation, args: Login) -> Result<(), Failure> {
    let Login { profile: id, provider, name, scope, mut oauth, issuer, flow, port, .. } = args;
    let bad = |_| Failure::usage("--wait is no duration", "give for example 5m");
    let wait = Duration::from_millis(time::duration_ms(&args.wait).map_err(bad)?);
    let client = client(invocation)?;
    let runtime = runtime()?;
    let (mut page, mut device) = (args.authorization_endpoint, args.device_endpoint);
    let mut promised = None;
    if let Some(issuer) = issuer {
        let found = runtime.block_on(discover(&client, &issuer)).map_err(failed)?;
        promised = Some((issuer, found.authorization_response_iss_parameter_supported));
        oauth.token_endpoint = oauth.token_endpoint.or(found.token_endpoint);
        oauth.revocation_endpoint = oauth.revocation_endpoint.or(found.revocation_endpoint);
        page = page.or(found.authorization_endpoint);
        device = device.or(found.device_authorization_endpoint);
    }
    let make = |before: Option<Profile>| {
        let old = before.as_ref().and_then(|profile| match &profile.credential {
            CredentialSource::Oauth(source) => Some(&**source),
            CredentialSource::ApiKey(_) => None,
        });
        let credential = CredentialSource::Oauth(Box::new(oauth.clone().over(&id, old)?));
        over(before, &id, provider.clone(), name.clone(), scope.clone(), Some(credential))
    };
    let made_now = |auth: &Auth| make(existing(auth, &id)?.map(|(record, _)| record.profile));
    // What is there already, and the client secret; then the ledger is let go. Whatever is wrong with the
    // profile is said before a person is asked.
    let ledger = invocation.open(Access::Write)?;
    let profile = made_now(&ledger.auth())?;
    ledger.auth().admit(&profile)?;
    let CredentialSource::Oauth(source) = &profile.credential else { return Err(Failure::quiet(ExitCode::Internal)) };
    let secret = match &source.client_secret {
        Some(place) => Some(ledger.vault(place.scope.clone()).get(&place.name)?.value),
        None => None,
    };
    invocation.close(&ledger);
    drop(ledger);
    let ways = Ways { page, device, port, wait, more: args.param, issuer: promised };
    let asking = ask(invocation, &client, source, secret.as_ref(), flow, ways);
    let tokens = runtime.block_on(async {
        tokio::select! {
            tokens = asking => tokens,
            () = gone(invocation) => Err(Failure::quiet(ExitCode::Aborted)),
        }
    })?;
    let (expires_at, note) = (tokens.expires_at(), tokens.note(&source.scopes));
    let tokens = NewTokens { access: tokens.access, refresh: tokens.refresh, expires_at, answer: note };
    let flow = if flow == Flow::Code { LoginFlow::Code } else { LoginFlow::Device };
    // Over what is there now: the person may have taken minutes.
    let latest = |auth: Option<&Auth>| auth.map_or_else(|| Ok(profile.clone()), made_now);
    settle::login(invocation, &latest, flow, &tokens)?;
    if tokens.refresh.is_none() {
        invocation.out.warn("the provider gave no refresh token: log in again when the access token ends");
    }
    let shown = json!({"profile": id, "result": "logged_in", "expires_at_ms": ms(expires_at), "refresh_token": tokens.refresh.is_some()});
    let until = expires_at.map(|end| format!(", good until {}", time::second(end))).unwrap_or_default();
    answer(invocation, &shown, &format!("profile {id} is logged in{until}"))
}

struct Ways {
    page: Option<String>,
    device: Option<String>,
    port: u16,
    wait: Duration,
    more: Vec<(String, String)>,
    issuer: Option<(String, bool)>,
}

/// Until whoever asked is gone: nobody waits for a person in the name of nobody.
async fn gone(invocation: &Invocation) {
    while !invocation.seat.is_gone() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn ask(
    invocation: &Invocation,
    client: &TokenClient,
    source: &OauthSource,
    secret: Option<&SecretBytes>,
    flow: Flow,
    ways: Ways,
) -> Result<Tokens, Failure> {
    let missing = |flag: &str| Failure::usage(format!("{flag} is missing"), format!("give {flag}, or --issuer"));
    match flow {
        Flow::Code => {
            let page = ways.page.ok_or_else(|| missing("--authorization-endpoint"))?;
            let mut begun = CodeLogin::begin_with(source, &page, ways.port, &ways.more).await.map_err(failed)?;
            if let Some((issuer, named)) = &ways.issuer {
                begun = begun.from_issuer(issuer, *named);
            }
            invocation.out.note(&format!("open this address in a browser on this machine:\n{}", begun.url()));
            begun.finish(client, source, secret, ways.wait).await.map_err(failed)
        }
        Flow::Device => {
            let place = ways.device.ok_or_else(|| missing("--device-endpoint"))?;
            let begun = DeviceLogin::begin(client, source, secret, &place).await.map_err(failed)?;
            invocation.out.note(&format!("go to {} and type {}", begun.verification_uri, begun.user_code));
            if let Some(complete) = &begun.complete_uri {
                invocation.out.note(&format!("or open {complete}"));
            }
            let asked = tokio::time::timeout(ways.wait, begun.finish(client, source, secret)).await;
            asked.map_err(|_| failed(ClientFault::Person("nobody answered in time")))?.map_err(failed)
        }
    }
}

/// Runs `auth logout`.
pub fn logout(invocation: &Invocation, args: &Logout) -> Result<(), Failure> {
    let id = &args.profile;
    invocation.confirm(&format!("Revoke and destroy the tokens of profile {id}?"), args.yes)?;
    let client = client(invocation)?;
    // A refresh that comes in between has tokens that the provider was not asked to revoke: once more then.
    let mut tries = 3;
    let revoked = loop {
        tries -= 1;
        let (revoked, done) = log_out(invocation, args, &client)?;
        match done {
            Err(Error::Auth(AuthError::Superseded { .. })) if tries > 0 => {}
            other => {
                other?;
                break revoked;
            }
        }
    };
    let how = if revoked { "revoked and destroyed" } else { "destroyed" };
    answer(
        invocation,
        &json!({"profile": id, "result": "logged_out", "revoked": revoked}),
        &format!("the tokens of profile {id} are {how}"),
    )
}

/// Revokes what is there, and records it; refused where a refresh came in between.
fn log_out(invocation: &Invocation, args: &Logout, client: &TokenClient) -> Result<(bool, Result<(), Error>), Failure> {
    let id = &args.profile;
    // For writing: what is read here is recorded, also where reads must be durable.
    let ledger = invocation.open(Access::Write)?;
    let auth = ledger.auth();
    let (record, before) = auth.profile(id)?;
    if let Some(lease) = before.lease.as_ref().filter(|lease| auth.now() < lease.until) {
        return Err(Error::from(AuthError::Busy { profile: id.clone(), until: lease.until }).into());
    }
    let (tokens, secret) = auth.tokens(id)?;
    invocation.close(&ledger);
    drop((auth, ledger));
    let CredentialSource::Oauth(source) = &record.profile.credential else {
        return Err(Error::from(AuthError::Static(id.clone())).into());
    };
    let revoked = match runtime()?.block_on(revoke(client, source, secret.as_ref(), &tokens)) {
        Ok(revoked) => revoked,
        Err(fault) if args.force => {
            invocation.out.warn(&format!("the provider did not revoke the tokens: {fault}"));
            false
        }
        Err(fault) => return Err(failed(fault)),
    };
    if !revoked && source.revocation_endpoint.is_none() {
        invocation.out.warn("no revocation endpoint is known: the tokens stay good at the provider until they end");
    }
    let ledger = invocation.open(Access::Write)?;
    let done = ledger.auth().logged_out_at(id, revoked, before.generation);
    invocation.close(&ledger);
    Ok((revoked, done))
}
