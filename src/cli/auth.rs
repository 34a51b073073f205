//! `auth`: credential profiles, their documents, refresh, login, selection and health.

mod documents;
mod flows;
mod profiles;
mod settle;
mod usage;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::auth::{Standing, standing};
use crate::base::Timestamp;
use crate::engine::Auth;
use crate::event::auth::{CredentialSource, Profile};

use super::exit::Failure;
use super::invocation::Invocation;

/// What `auth` does.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// List, make, change, enable, disable and delete profiles
    #[command(subcommand)]
    Profiles(profiles::ProfilesCommand),
    /// Show, set and remove the order in which profiles are preferred
    #[command(subcommand)]
    Order(usage::OrderCommand),
    /// Render the two TOML documents, or read what somebody changed in them
    Docs(documents::Docs),
    /// Refresh tokens
    Refresh(flows::Refresh),
    /// Log in at a provider, by its page or by a device code
    Login(Box<flows::Login>),
    /// Revoke a profile's tokens at the provider, and destroy them here
    Logout(flows::Logout),
    /// Show how every profile stands, and what to do next
    Health(usage::HealthArgs),
    /// Choose a profile
    Select(usage::Select),
    /// Report how a profile served
    #[command(subcommand)]
    Report(usage::Report),
    /// Record what another process was answered
    #[command(hide = true)]
    Settle,
}

/// Runs `auth`.
pub fn run(invocation: &Invocation, command: AuthCommand) -> Result<(), Failure> {
    match command {
        AuthCommand::Profiles(command) => profiles::run(invocation, command),
        AuthCommand::Order(command) => usage::order(invocation, command),
        AuthCommand::Docs(args) => documents::run(invocation, args),
        AuthCommand::Refresh(args) => flows::refresh(invocation, &args),
        AuthCommand::Login(args) => flows::login(invocation, *args),
        AuthCommand::Logout(args) => flows::logout(invocation, &args),
        AuthCommand::Health(args) => usage::health(invocation, &args),
        AuthCommand::Select(args) => usage::select(invocation, args),
        AuthCommand::Report(report) => usage::report(invocation, report),
        AuthCommand::Settle => settle::take(invocation),
    }
}

fn answer(invocation: &Invocation, shown: &Value, text: &str) -> Result<(), Failure> {
    if invocation.out.is_json() { invocation.out.json(shown) } else { invocation.out.line(text) }
}

fn stands(auth: &Auth, profile: &Profile, runtime: &crate::auth::Runtime) -> Standing {
    standing(profile, runtime, auth.now(), auth.refresh_window_ms())
}

fn ms(time: Option<Timestamp>) -> Option<u64> {
    time.map(Timestamp::as_millis)
}

fn profile_json(profile: &Profile) -> Value {
    let credential = match &profile.credential {
        CredentialSource::ApiKey(key) => json!({"type": "api_key", "api_key_ref": key.to_string()}),
        CredentialSource::Oauth(source) => json!({
            "type": "oauth",
            "access_token_ref": source.access.to_string(),
            "refresh_token_ref": source.refresh.as_ref().map(ToString::to_string),
            "client_secret_ref": source.client_secret.as_ref().map(ToString::to_string),
            "token_endpoint": source.token_endpoint,
            "revocation_endpoint": source.revocation_endpoint,
            "client_id": source.client_id,
            "scopes": source.scopes,
        }),
    };
    json!({
        "id": profile.id, "provider": profile.provider, "name": profile.name, "scope": profile.scope,
        "enabled": profile.enabled, "credential": credential,
    })
}
