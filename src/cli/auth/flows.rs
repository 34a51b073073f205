//! `auth refresh`, `auth login` and `auth logout`: what goes over the network.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::auth::{AuthError, RefreshResult};
use crate::base::{ProfileId, ProfileScope, Provider, SecretBytes, SystemClock, limits};
use crate::cli::certs::runtime;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::time;
use crate::engine::{Error, NewTokens, RefreshTicket};
use crate::event::auth::{CredentialSource, FailureKind, LoginFlow, OauthSource};
use crate::oauth::login::{CodeLogin, DeviceLogin, discover, revoke};
use crate::oauth::{ClientFault, TokenClient, answer::Tokens, exchange, settle};

use super::profiles::{OauthArgs, existing, over};
use super::{answer, ms};

/// Arguments of `auth refresh`.
#[derive(Debug, Args)]
pub struct Refresh {
    /// This profile
    #[arg(long, value_name = "ID", conflicts_with = "due", required_unless_present = "due")]
    profile: Option<ProfileId>,
    /// Every profile that is due
    #[arg(long)]
    due: bool,
    /// Even where it is not due, cools down or waits for a person
    #[arg(long, requires = "profile")]
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
        ClientFault::Network { .. } => (ExitCode::Io, "look at the network, then run the command again"),
        ClientFault::Refused(_) => (ExitCode::Denied, "look at the client id, its secret and the endpoints"),
        ClientFault::Person(_) => (ExitCode::Aborted, "run the command again"),
    };
    Failure::new(code, fault.to_string(), hint)
}

fn client(invocation: &Invocation) -> Result<TokenClient, Failure> {
    TokenClient::new(&invocation.settings().auth, Arc::new(SystemClock)).map_err(failed)
}

/// Runs `auth refresh`. The ledger is not held while the providers are asked: others may use it.
pub fn refresh(invocation: &Invocation, args: &Refresh) -> Result<(), Failure> {
    let client = client(invocation)?;
    let mut done: Vec<(ProfileId, Result<RefreshResult, Error>)> = Vec::new();
    let mut waiting: Option<Vec<ProfileId>> = args.profile.clone().map(|id| vec![id]);
    loop {
        let ledger = invocation.open(Access::Write)?;
        let auth = ledger.auth();
        let mut ids = match waiting.take() {
            Some(ids) => ids,
            None => auth.due()?,
        };
        let rest = ids.split_off(ids.len().min(limits::REFRESHES_AT_ONCE));
        let mut tickets = Vec::new();
        for id in ids {
            match auth.begin_refresh(&id, args.force) {
                Ok(ticket) => tickets.push(ticket),
                // Another process was faster.
                Err(Error::Auth(AuthError::Busy { .. } | AuthError::NotDue(_))) if args.due => {}
                Err(error) => done.push((id, Err(error))),
            }
        }
        drop(auth);
        invocation.close(&ledger);
        drop(ledger);
        if !tickets.is_empty() {
            let answers = runtime()?.block_on(exchange_all(&client, tickets));
            let ledger = invocation.open(Access::Write)?;
            let auth = ledger.auth();
            for (ticket, answer) in answers {
                let id = ticket.started.profile.id.clone();
                done.push((id, settle(&auth, &client, &ticket.started, answer)));
            }
            invocation.close(&ledger);
        }
        if rest.is_empty() {
            break;
        }
        waiting = Some(rest);
    }
    tell(invocation, done)
}

async fn exchange_all(
    client: &TokenClient,
    tickets: Vec<RefreshTicket>,
) -> Vec<(RefreshTicket, Result<Tokens, ClientFault>)> {
    let mut running = tokio::task::JoinSet::new();
    for ticket in tickets {
        let client = client.clone();
        running.spawn(async move {
            let answer = exchange(&client, &ticket).await;
            (ticket, answer)
        });
    }
    running.join_all().await
}

fn tell(invocation: &Invocation, done: Vec<(ProfileId, Result<RefreshResult, Error>)>) -> Result<(), Failure> {
    let out = &invocation.out;
    let mut shown: Vec<Value> = Vec::new();
    let mut fault = None;
    for (id, outcome) in done {
        let (result, what, expires_at, failure) = match outcome {
            Ok(RefreshResult::Renewed { expires_at, .. }) => ("renewed", String::new(), expires_at, None),
            Ok(RefreshResult::Refused { failure, what }) => {
                let code = if failure == FailureKind::AuthInvalid { ExitCode::Expired } else { ExitCode::Denied };
                let hint = format!("`palyra-ledger auth login --profile {id}`");
                ("refused", what.clone(), None, Some(Failure::new(code, format!("{id}: {what}"), hint)))
            }
            Ok(RefreshResult::Failed { what, .. }) => {
                let failure = Failure::new(ExitCode::Io, format!("{id}: {what}"), "it is tried again when it may");
                ("failed", what, None, Some(failure))
            }
            Err(Error::Auth(AuthError::NotDue(_))) => ("not_due", String::new(), None, None),
            Err(error) => ("skipped", error.to_string(), None, Some(Failure::from(error))),
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
    if let Some(issuer) = issuer {
        let found = runtime.block_on(discover(&client, &issuer)).map_err(failed)?;
        oauth.token_endpoint = oauth.token_endpoint.or(found.token_endpoint);
        oauth.revocation_endpoint = oauth.revocation_endpoint.or(found.revocation_endpoint);
        page = page.or(found.authorization_endpoint);
        device = device.or(found.device_authorization_endpoint);
    }
    // What is there already, and the client secret; then the ledger is let go.
    let ledger = invocation.open(Access::Read)?;
    let before = existing(&ledger.auth(), &id)?.map(|(record, _)| record.profile);
    let old = before.as_ref().and_then(|profile| match &profile.credential {
        CredentialSource::Oauth(source) => Some(&**source),
        CredentialSource::ApiKey(_) => None,
    });
    let source = oauth.over(&id, old)?;
    let credential = CredentialSource::Oauth(Box::new(source.clone()));
    let profile = over(before, &id, provider, name, scope, Some(credential))?;
    let secret = match &source.client_secret {
        Some(place) => Some(ledger.vault(place.scope.clone()).get(&place.name)?.value),
        None => None,
    };
    invocation.close(&ledger);
    drop(ledger);
    let ways = Ways { page, device, port, wait, more: args.param };
    let tokens = runtime.block_on(ask(invocation, &client, &source, secret.as_ref(), flow, ways))?;
    let expires_at = tokens.expires_in_s.map(|seconds| time::now().plus_millis(seconds * 1000));
    let tokens = NewTokens { access: tokens.access, refresh: tokens.refresh, expires_at };
    let flow = if flow == Flow::Code { LoginFlow::Code } else { LoginFlow::Device };
    let ledger = invocation.open(Access::Write)?;
    ledger.auth().logged_in(&profile, flow, &tokens)?;
    invocation.close(&ledger);
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
            let begun = CodeLogin::begin_with(source, &page, ways.port, &ways.more).await.map_err(failed)?;
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
    let ledger = invocation.open(Access::Read)?;
    let auth = ledger.auth();
    let (record, _) = auth.profile(id)?;
    let (tokens, secret) = auth.tokens(id)?;
    invocation.close(&ledger);
    drop((auth, ledger));
    let CredentialSource::Oauth(source) = &record.profile.credential else {
        return Err(Error::from(AuthError::Static(id.clone())).into());
    };
    let revoked = match runtime()?.block_on(revoke(&client, source, secret.as_ref(), &tokens)) {
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
    ledger.auth().logged_out(id, revoked)?;
    invocation.close(&ledger);
    let how = if revoked { "revoked and destroyed" } else { "destroyed" };
    answer(
        invocation,
        &json!({"profile": id, "result": "logged_out", "revoked": revoked}),
        &format!("the tokens of profile {id} are {how}"),
    )
}
