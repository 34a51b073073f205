//! `auth profiles`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::auth::{ProfileRecord, Runtime};
use crate::base::{ProfileId, ProfileScope, Provider, SecretPath, Timestamp};
use crate::cli::exit::Failure;
use crate::cli::invocation::{Access, Invocation};
use crate::cli::time;
use crate::engine::{Auth, AuthFilter};
use crate::event::auth::{CredentialSource, OauthSource, Profile};
use crate::event::import::OriginTimes;

use super::{answer, ms, profile_json, stands};

/// What `auth profiles` does.
#[derive(Debug, Subcommand)]
pub enum ProfilesCommand {
    /// List profiles
    List(List),
    /// Show one profile
    Show {
        /// Its id
        id: ProfileId,
    },
    /// Make a profile, or change one: what is not named stays
    Set(Box<Set>),
    /// Use a profile again
    Enable {
        /// Its id
        id: ProfileId,
    },
    /// Use a profile no more until it is enabled
    Disable {
        /// Its id
        id: ProfileId,
    },
    /// Forget a profile's failures: it is used, and refreshed, at once
    Clear {
        /// Its id
        id: ProfileId,
    },
    /// Delete a profile; the secrets that it names stay
    Delete {
        /// Its id
        id: ProfileId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Arguments of `auth profiles list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only this provider
    #[arg(long)]
    provider: Option<Provider>,
    /// Only this scope: global, agent:ID
    #[arg(long)]
    scope: Option<ProfileScope>,
    /// Only enabled ones
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only disabled ones
    #[arg(long)]
    disabled: bool,
    /// Only ids after this one: the next page
    #[arg(long, value_name = "ID")]
    after: Option<ProfileId>,
    /// At most this many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

/// Arguments of `auth profiles set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The profile's id
    id: ProfileId,
    /// openai, anthropic, telegram, slack, discord, webhook or custom:NAME
    #[arg(long)]
    provider: Option<Provider>,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Who may use it: global, or agent:ID
    #[arg(long)]
    scope: Option<ProfileScope>,
    /// Where the API key lies in the vault
    #[arg(long, value_name = "REF", conflicts_with_all = ["access_ref", "token_endpoint", "client_id"])]
    api_key_ref: Option<SecretPath>,
    #[command(flatten)]
    oauth: OauthArgs,
    /// When the access token in the vault ends: Unix milliseconds, RFC 3339, or 1h from now
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

/// The OAuth part of a profile, on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct OauthArgs {
    /// Where the access token lies in the vault
    #[arg(long, value_name = "REF")]
    access_ref: Option<SecretPath>,
    /// Where the refresh token lies in the vault
    #[arg(long, value_name = "REF")]
    refresh_ref: Option<SecretPath>,
    /// Where the client secret lies in the vault, if the client has one
    #[arg(long, value_name = "REF")]
    client_secret_ref: Option<SecretPath>,
    /// The provider's token endpoint
    #[arg(long, value_name = "URL")]
    pub token_endpoint: Option<String>,
    /// The provider's revocation endpoint
    #[arg(long, value_name = "URL")]
    pub revocation_endpoint: Option<String>,
    /// The client id
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A scope of the grant; may be repeated
    #[arg(long, value_name = "SCOPE")]
    grant_scope: Vec<String>,
}

impl OauthArgs {
    fn is_empty(&self) -> bool {
        let Self {
            access_ref,
            refresh_ref,
            client_secret_ref,
            token_endpoint,
            revocation_endpoint,
            client_id,
            grant_scope,
        } = self;
        access_ref.is_none()
            && refresh_ref.is_none()
            && client_secret_ref.is_none()
            && token_endpoint.is_none()
            && revocation_endpoint.is_none()
            && client_id.is_none()
            && grant_scope.is_empty()
    }

    /// The OAuth part that results, over what was there. Tokens without a place get one in the global scope.
    pub fn over(self, id: &ProfileId, before: Option<&OauthSource>) -> Result<OauthSource, Failure> {
        let place = |name: &str| {
            let text = format!("global/auth/{id}/{name}");
            text.parse::<SecretPath>().map_err(|_| {
                Failure::usage("the profile's id is too long to name its tokens", "give --access-ref and --refresh-ref")
            })
        };
        let missing = |what: &str| Failure::usage(format!("{what} is missing"), format!("give --{what}"));
        let kept = |new: Option<SecretPath>, old: Option<SecretPath>, name: &str| match new.or(old) {
            Some(reference) => Ok(reference),
            None => place(name),
        };
        Ok(OauthSource {
            access: kept(self.access_ref, before.map(|old| old.access.clone()), "access_token")?,
            refresh: Some(kept(self.refresh_ref, before.and_then(|old| old.refresh.clone()), "refresh_token")?),
            client_secret: self.client_secret_ref.or_else(|| before.and_then(|old| old.client_secret.clone())),
            token_endpoint: self
                .token_endpoint
                .or_else(|| before.map(|old| old.token_endpoint.clone()))
                .ok_or_else(|| missing("token-endpoint"))?,
            revocation_endpoint: self
                .revocation_endpoint
                .or_else(|| before.and_then(|old| old.revocation_endpoint.clone())),
            client_id: self
                .client_id
                .or_else(|| before.map(|old| old.client_id.clone()))
                .ok_or_else(|| missing("client-id"))?,
            scopes: if self.grant_scope.is_empty() {
                before.map(|old| old.scopes.clone()).unwrap_or_default()
            } else {
                self.grant_scope
            },
        })
    }
}

/// The profile that results from arguments over what was there.
pub fn over(
    before: Option<Profile>,
    id: &ProfileId,
    provider: Option<Provider>,
    name: Option<String>,
    scope: Option<ProfileScope>,
    credential: Option<CredentialSource>,
) -> Result<Profile, Failure> {
    let missing =
        |flag: &str| Failure::usage(format!("profile {id} is new: {flag} is missing"), format!("give {flag}"));
    let old = before.as_ref();
    Ok(Profile {
        id: id.clone(),
        provider: provider.or_else(|| old.map(|old| old.provider.clone())).ok_or_else(|| missing("--provider"))?,
        name: name.or_else(|| old.map(|old| old.name.clone())).unwrap_or_else(|| id.to_string()),
        scope: scope.or_else(|| old.map(|old| old.scope.clone())).unwrap_or(ProfileScope::Global),
        enabled: old.is_none_or(|old| old.enabled),
        credential: credential
            .or_else(|| old.map(|old| old.credential.clone()))
            .ok_or_else(|| missing("--api-key-ref or --token-endpoint"))?,
    })
}

/// The profile that is there already, if one is.
pub fn existing(auth: &Auth, id: &ProfileId) -> Result<Option<(ProfileRecord, Runtime)>, Failure> {
    match auth.profile(id) {
        Ok(found) => Ok(Some(found)),
        Err(crate::engine::Error::Auth(crate::auth::AuthError::NoProfile(_))) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs `auth profiles`.
pub fn run(invocation: &Invocation, command: ProfilesCommand) -> Result<(), Failure> {
    match command {
        ProfilesCommand::List(args) => list(invocation, args),
        ProfilesCommand::Show { id } => show(invocation, &id),
        ProfilesCommand::Set(args) => set(invocation, *args),
        ProfilesCommand::Enable { id } => change(invocation, &id, "enabled", |auth| auth.enable(&id, true)),
        ProfilesCommand::Disable { id } => change(invocation, &id, "disabled", |auth| auth.enable(&id, false)),
        ProfilesCommand::Clear { id } => change(invocation, &id, "cleared", |auth| auth.clear(&id)),
        ProfilesCommand::Delete { id, yes } => {
            invocation.confirm(&format!("Delete profile {id}?"), yes)?;
            change(invocation, &id, "deleted", |auth| auth.delete(&id))
        }
    }
}

fn change(
    invocation: &Invocation,
    id: &ProfileId,
    done: &str,
    act: impl FnOnce(&Auth) -> Result<(), crate::engine::Error>,
) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Write)?;
    act(&ledger.auth())?;
    invocation.close(&ledger);
    answer(invocation, &json!({"profile": id, "result": done}), &format!("profile {id} is {done}"))
}

fn set(invocation: &Invocation, args: Set) -> Result<(), Failure> {
    let Set { id, provider, name, scope, api_key_ref, oauth, expires_at } = args;
    let bad = |_| Failure::usage("--expires-at is no time", "give for example 1h or 2030-01-31T12:00:00Z");
    let expires_at = expires_at.map(|text| Timestamp::parse(&text, time::now(), true).map_err(bad)).transpose()?;
    let ledger = invocation.open(Access::Write)?;
    let auth = ledger.auth();
    let before = existing(&auth, &id)?.map(|(record, _)| record.profile);
    let credential = match (api_key_ref, oauth.is_empty()) {
        (Some(key), _) => Some(CredentialSource::ApiKey(key)),
        (None, true) => None,
        (None, false) => {
            let old = before.as_ref().and_then(|profile| match &profile.credential {
                CredentialSource::Oauth(source) => Some(&**source),
                CredentialSource::ApiKey(_) => None,
            });
            Some(CredentialSource::Oauth(Box::new(oauth.over(&id, old)?)))
        }
    };
    let made = if before.is_some() { "changed" } else { "made" };
    auth.set(over(before, &id, provider, name, scope, credential)?, expires_at)?;
    invocation.close(&ledger);
    answer(invocation, &json!({"profile": id, "result": made}), &format!("profile {id} is {made}"))
}

/// A profile, and what the store that it came from said of its times.
fn to_json(auth: &Auth, record: &ProfileRecord, runtime: &Runtime, origin: Option<OriginTimes>) -> Value {
    let stands = stands(auth, &record.profile, runtime);
    let mut shown = profile_json(&record.profile);
    let more = json!({
        "created_ms": record.created.as_millis(), "updated_ms": record.updated.as_millis(),
        "health": stands.health.name(), "eligibility": stands.eligibility.name(), "token": stands.token.name(),
        "reasons": stands.reasons, "next": stands.next, "in_doubt": stands.in_doubt,
        "expires_at_ms": ms(runtime.expires_at), "last_used_ms": ms(runtime.last_used),
        "last_success_ms": ms(runtime.last_success), "last_failure_ms": ms(runtime.last_failure),
        "last_failure_kind": runtime.failure.map(crate::event::auth::FailureKind::name),
        "failure_count": runtime.failure_count, "cooldown_until_ms": ms(runtime.cooldown_until),
        "refresh_generation": runtime.generation,
        "refreshing_until_ms": ms(runtime.lease.as_ref().map(|lease| lease.until)), "refresh_failures": runtime.refresh_failures,
        "refresh_retry_at_ms": ms(runtime.retry_at), "refreshed_ms": ms(runtime.refreshed),
    });
    if let (Some(shown), Some(more)) = (shown.as_object_mut(), more.as_object()) {
        shown.extend(more.clone());
        let times = origin.iter().flat_map(|origin| {
            [("origin_created_ms", origin.created.as_millis()), ("origin_updated_ms", origin.updated.as_millis())]
        });
        shown.extend(times.map(|(name, at)| (name.to_owned(), at.into())));
    }
    shown
}

fn list(invocation: &Invocation, args: List) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let auth = ledger.auth();
    let filter = AuthFilter {
        provider: args.provider,
        scope: args.scope,
        enabled: if args.enabled { Some(true) } else { args.disabled.then_some(false) },
        after: args.after,
        limit: args.limit,
    };
    let page = auth.profiles(&filter)?;
    let origins =
        page.profiles.iter().map(|(record, _)| auth.origin(&record.profile.id)).collect::<Result<Vec<_>, _>>()?;
    invocation.close(&ledger);
    let out = &invocation.out;
    let profiles = || page.profiles.iter().zip(&origins);
    if out.is_json() {
        let all: Vec<_> =
            profiles().map(|((record, runtime), origin)| to_json(&auth, record, runtime, *origin)).collect();
        return out.json(&json!({"profiles": all, "next": page.next}));
    }
    let rows: Vec<_> = profiles()
        .map(|((record, runtime), origin)| {
            let (profile, stands) = (&record.profile, stands(&auth, &record.profile, runtime));
            vec![
                profile.id.to_string(),
                profile.provider.to_string(),
                profile.scope.to_string(),
                profile.credential.kind().name().to_owned(),
                stands.token.name().to_owned(),
                stands.eligibility.name().to_owned(),
                profile.name.clone(),
                origin.map(|origin| time::second(origin.updated)).unwrap_or_default(),
            ]
        })
        .collect();
    out.table(&["PROFILE", "PROVIDER", "SCOPE", "CREDENTIAL", "TOKEN", "STATE", "NAME", "CHANGED THERE"], &rows)?;
    if let Some(next) = page.next {
        out.note(&format!("there are more: --after {next}"));
    }
    Ok(())
}

fn show(invocation: &Invocation, id: &ProfileId) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let auth = ledger.auth();
    let (record, runtime) = auth.profile(id)?;
    let origin = auth.origin(id)?;
    invocation.close(&ledger);
    let shown = to_json(&auth, &record, &runtime, origin);
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&shown);
    }
    let mut rows = Vec::new();
    let credential = shown.get("credential").and_then(Value::as_object).into_iter().flatten();
    let fields = shown.as_object().into_iter().flatten().filter(|(name, _)| *name != "credential");
    for (name, value) in fields.chain(credential) {
        let text = match value {
            Value::Null => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => continue,
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            Value::Number(number) => match name.strip_suffix("_ms").and_then(|_| number.as_u64()) {
                Some(millis) => time::second(Timestamp::from_millis(millis)),
                None => number.to_string(),
            },
            other => other.to_string(),
        };
        rows.push(vec![name.trim_end_matches("_ms").replace('_', " "), text]);
    }
    out.table(&["FIELD", "VALUE"], &rows)
}
