//! The two TOML documents: rendered from the state, and read back after people changed them.
//!
//! The same state at the same event gives the same bytes: profiles by id, fields in a fixed order, and
//! "now" is the time of the event.

use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::{ProfileId, ProfileScope, Provider, SecretRef, StateRead, Timestamp, limits};
use crate::crypto::Hash;
use crate::event::auth::{CredentialSource, CredentialType, FailureKind, OauthSource, Profile};

use super::decide::check;
use super::fault::ApplyFault;
use super::health::standing;
use super::state::{Order, ProfileRecord, Runtime, list_orders, list_profiles};

/// File name of the static part.
pub const PROFILES_FILE: &str = "auth_profiles.toml";
/// File name of what became of the profiles.
pub const RUNTIME_FILE: &str = "auth_profile_runtime_state.toml";

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfilesDoc {
    version: u32,
    #[serde(default)]
    profiles: Vec<ProfileDoc>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileDoc {
    profile_id: String,
    profile_name: String,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    enabled: bool,
    created_at_unix_ms: u64,
    updated_at_unix_ms: u64,
    provider: ProviderDoc,
    scope: ScopeDoc,
    credential: CredentialDoc,
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_yes(value: &bool) -> bool {
    *value
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderDoc {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_name: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeDoc {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialDoc {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_vault_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_vault_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_vault_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_vault_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_state: Option<RefreshDoc>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefreshDoc {
    failure_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_allowed_refresh_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeDoc {
    version: u32,
    #[serde(default)]
    records: Vec<RecordDoc>,
    #[serde(default)]
    profile_orders: Vec<OrderDoc>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordDoc {
    profile_id: String,
    provider: String,
    scope: String,
    credential_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure_kind: Option<String>,
    failure_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cooldown_until_unix_ms: Option<u64>,
    token_expiry_state: String,
    eligibility: String,
    created_at_unix_ms: u64,
    updated_at_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    doctor_hint: Option<HintDoc>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HintDoc {
    code: String,
    severity: String,
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderDoc {
    scope: String,
    provider: String,
    profile_ids: Vec<String>,
    updated_at_unix_ms: u64,
}

/// The documents of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// `auth_profiles.toml`.
    pub profiles: String,
    /// `auth_profile_runtime_state.toml`.
    pub runtime: String,
}

/// Renders the documents of a state: the fold of the log up to event `seq`, at that event's time.
///
/// # Errors
/// [`ApplyFault`] where the state cannot be read.
pub fn render(
    state: &dyn StateRead,
    seq: u64,
    time: Timestamp,
    root: Hash,
    window_ms: u64,
) -> Result<Documents, ApplyFault> {
    let all = list_profiles(state)?;
    let profiles = ProfilesDoc { version: VERSION, profiles: all.iter().map(profile_doc).collect() };
    let runtime = RuntimeDoc {
        version: VERSION,
        records: all.iter().map(|(record, runtime)| record_doc(record, runtime, time, window_ms)).collect(),
        profile_orders: list_orders(state)?.into_iter().map(order_doc).collect(),
    };
    Ok(Documents { profiles: with_head(&profiles, seq, root), runtime: with_head(&runtime, seq, root) })
}

fn with_head(document: &impl Serialize, seq: u64, root: Hash) -> String {
    let mut text = format!("# palyra-ledger: event {seq}, state root {root}\n");
    // A document of strings, numbers and tables always renders.
    let _ = write!(text, "{}", toml::to_string_pretty(document).unwrap_or_default());
    text
}

fn profile_doc((record, runtime): &(ProfileRecord, Runtime)) -> ProfileDoc {
    let profile = &record.profile;
    let text = |reference: &SecretRef| reference.to_string();
    let empty = CredentialDoc {
        kind: profile.credential.kind().name().to_owned(),
        api_key_vault_ref: None,
        access_token_vault_ref: None,
        refresh_token_vault_ref: None,
        client_secret_vault_ref: None,
        token_endpoint: None,
        revocation_endpoint: None,
        client_id: None,
        scopes: Vec::new(),
        expires_at_unix_ms: None,
        refresh_state: None,
    };
    let credential = match &profile.credential {
        CredentialSource::ApiKey(key) => CredentialDoc { api_key_vault_ref: Some(text(key)), ..empty },
        CredentialSource::Oauth(source) => CredentialDoc {
            access_token_vault_ref: Some(text(&source.access)),
            refresh_token_vault_ref: source.refresh.as_ref().map(text),
            client_secret_vault_ref: source.client_secret.as_ref().map(text),
            token_endpoint: Some(source.token_endpoint.clone()),
            revocation_endpoint: source.revocation_endpoint.clone(),
            client_id: Some(source.client_id.clone()),
            scopes: source.scopes.clone(),
            expires_at_unix_ms: runtime.expires_at.map(Timestamp::as_millis),
            refresh_state: Some(RefreshDoc {
                failure_count: runtime.refresh_failures,
                last_success_unix_ms: runtime.refreshed.map(Timestamp::as_millis),
                next_allowed_refresh_unix_ms: runtime.retry_at.map(Timestamp::as_millis),
                last_error: runtime.terminal.as_ref().map(|terminal| terminal.what.clone()),
            }),
            ..empty
        },
    };
    ProfileDoc {
        profile_id: profile.id.to_string(),
        profile_name: profile.name.clone(),
        enabled: profile.enabled,
        created_at_unix_ms: record.created.as_millis(),
        updated_at_unix_ms: record.updated.as_millis(),
        provider: ProviderDoc {
            kind: profile.provider.kind().to_owned(),
            custom_name: match &profile.provider {
                Provider::Custom(name) => Some(name.clone()),
                _ => None,
            },
        },
        scope: match &profile.scope {
            ProfileScope::Global => ScopeDoc { kind: "global".to_owned(), agent_id: None },
            ProfileScope::Agent(agent) => ScopeDoc { kind: "agent".to_owned(), agent_id: Some(agent.to_string()) },
        },
        credential,
    }
}

fn record_doc(record: &ProfileRecord, runtime: &Runtime, time: Timestamp, window_ms: u64) -> RecordDoc {
    let profile = &record.profile;
    let stands = standing(profile, runtime, time, window_ms);
    let severity = match stands.health {
        super::Health::Healthy => None,
        super::Health::Degraded => Some("warning"),
        super::Health::Failed => Some("error"),
    };
    RecordDoc {
        profile_id: profile.id.to_string(),
        provider: profile.provider.to_string(),
        scope: profile.scope.to_string(),
        credential_type: profile.credential.kind().name().to_owned(),
        last_used_unix_ms: runtime.last_used.map(Timestamp::as_millis),
        last_success_unix_ms: runtime.last_success.map(Timestamp::as_millis),
        last_failure_unix_ms: runtime.last_failure.map(Timestamp::as_millis),
        last_failure_kind: runtime.failure.map(|kind| kind.name().to_owned()),
        failure_count: runtime.failure_count,
        cooldown_until_unix_ms: runtime.cooldown_until.map(Timestamp::as_millis),
        token_expiry_state: stands.token.name().to_owned(),
        eligibility: stands.eligibility.name().to_owned(),
        created_at_unix_ms: record.created.as_millis(),
        updated_at_unix_ms: runtime.updated.as_millis(),
        doctor_hint: severity.map(|severity| HintDoc {
            code: stands.reasons.first().copied().unwrap_or_default().to_owned(),
            severity: severity.to_owned(),
            message: stands.next,
        }),
    }
}

fn order_doc(order: Order) -> OrderDoc {
    OrderDoc {
        scope: order.scope.to_string(),
        provider: order.provider.to_string(),
        profile_ids: order.profiles.iter().map(ToString::to_string).collect(),
        updated_at_unix_ms: order.updated.as_millis(),
    }
}

/// One thing that is wrong with an edited document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// File name.
    pub file: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// One change that an edit asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Make or change a profile.
    Set(Box<Profile>, Option<Timestamp>),
    /// Delete one.
    Delete(ProfileId),
    /// Set an order; an empty one removes it.
    Order(ProfileScope, Provider, Vec<ProfileId>),
    /// Forget a profile's failures.
    Clear(ProfileId),
}

impl std::fmt::Display for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(profile, _) => write!(f, "set profile {}", profile.id),
            Self::Delete(id) => write!(f, "delete profile {id}"),
            Self::Order(scope, provider, profiles) if profiles.is_empty() => {
                write!(f, "remove the order of {scope} for {provider}")
            }
            Self::Order(scope, provider, _) => write!(f, "set the order of {scope} for {provider}"),
            Self::Clear(id) => write!(f, "forget the failures of profile {id}"),
        }
    }
}

/// What an edit asks for, in the order in which it is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The event that the documents were rendered at, where they say.
    pub rendered: Option<u64>,
    /// The changes.
    pub edits: Vec<Edit>,
}

/// The event that a document says it was rendered at.
#[must_use]
pub fn rendered_at(text: &str) -> Option<u64> {
    let rest = text.lines().next()?.strip_prefix("# palyra-ledger: event ")?;
    rest.split_once(',')?.0.parse().ok()
}

/// Reads edited documents against a state, and against `base`: what they were before somebody edited them;
/// none: the state as it is. What people may change: profiles, orders, and a bench or failure count that they
/// reset; everything else in the runtime document is the ledger's alone. What changed on both sides since is
/// a problem, and nothing is overwritten.
///
/// # Errors
/// Every problem, by file and line.
pub fn plan(
    state: &dyn StateRead,
    edited: &Documents,
    base: Option<&Documents>,
) -> Result<Result<Plan, Vec<Problem>>, ApplyFault> {
    let mut problems = Vec::new();
    let wanted = read_profiles(&edited.profiles, &mut problems);
    let runtime: Option<RuntimeDoc> = parse(RUNTIME_FILE, &edited.runtime, &mut problems);
    let (Some(wanted), Some(runtime)) = (wanted, runtime) else { return Ok(Err(problems)) };
    let current = list_profiles(state)?;
    let orders = list_orders(state)?;
    let before = Before::new(&current, &orders, base);
    let mut plan = Plan { rendered: rendered_at(&edited.profiles), edits: Vec::new() };
    plan_profiles(&mut plan.edits, &mut problems, &edited.profiles, &current, &before, wanted);
    plan_records(&mut plan.edits, &mut problems, &edited.runtime, &current, &before, &runtime.records);
    plan_orders(&mut plan.edits, &mut problems, &edited.runtime, &orders, &before, &runtime.profile_orders);
    Ok(if problems.is_empty() { Ok(plan) } else { Err(problems) })
}

/// What the documents said before somebody edited them.
struct Before {
    profiles: Vec<(Profile, Option<Timestamp>)>,
    /// Failures in a row and end of the bench, by profile.
    records: Vec<(String, u32, Option<u64>)>,
    orders: Vec<(ProfileScope, Provider, Vec<ProfileId>)>,
}

impl Before {
    fn new(current: &[(ProfileRecord, Runtime)], orders: &[Order], base: Option<&Documents>) -> Self {
        let mut unread = Vec::new();
        let read = base.and_then(|base| {
            let runtime: RuntimeDoc = parse(RUNTIME_FILE, &base.runtime, &mut unread)?;
            Some(Self {
                profiles: read_profiles(&base.profiles, &mut unread)?,
                records: runtime
                    .records
                    .into_iter()
                    .map(|record| (record.profile_id, record.failure_count, record.cooldown_until_unix_ms))
                    .collect(),
                orders: runtime.profile_orders.iter().filter_map(|order| read_order(order).ok()).collect(),
            })
        });
        read.unwrap_or_else(|| Self {
            profiles: current.iter().map(|(record, runtime)| (record.profile.clone(), runtime.expires_at)).collect(),
            records: current
                .iter()
                .map(|(record, runtime)| {
                    let until = runtime.cooldown_until.map(Timestamp::as_millis);
                    (record.profile.id.to_string(), runtime.failure_count, until)
                })
                .collect(),
            orders: orders
                .iter()
                .map(|order| (order.scope.clone(), order.provider.clone(), order.profiles.clone()))
                .collect(),
        })
    }

    fn profile(&self, id: &ProfileId) -> Option<&(Profile, Option<Timestamp>)> {
        self.profiles.iter().find(|(profile, _)| profile.id == *id)
    }
}

fn plan_profiles(
    edits: &mut Vec<Edit>,
    problems: &mut Vec<Problem>,
    text: &str,
    current: &[(ProfileRecord, Runtime)],
    before: &Before,
    wanted: Vec<(Profile, Option<Timestamp>)>,
) {
    let lines = Lines::new(text);
    let now = |id: &ProfileId| current.iter().find(|(record, _)| record.profile.id == *id);
    let changed_since =
        |id: &ProfileId| now(id).map(|(record, _)| &record.profile) != before.profile(id).map(|known| &known.0);
    for (known, _) in &before.profiles {
        if !wanted.iter().any(|(profile, _)| profile.id == known.id) && now(&known.id).is_some() {
            if changed_since(&known.id) {
                let what = format!("profile {} is deleted here, and was changed in the ledger since", known.id);
                problems.push(Problem { file: PROFILES_FILE, line: 1, what });
            } else {
                edits.push(Edit::Delete(known.id.clone()));
            }
        }
    }
    for (index, (profile, expires_at)) in wanted.into_iter().enumerate() {
        let known = before.profile(&profile.id);
        // The end of a token that nobody mentions stays.
        let same_end = expires_at.is_none() || known.is_some_and(|(_, end)| *end == expires_at);
        if known.is_some_and(|(known, _)| *known == profile) && same_end {
            continue;
        }
        let as_it_is = now(&profile.id).is_some_and(|(record, _)| record.profile == profile);
        if changed_since(&profile.id) && !as_it_is {
            let what = format!("profile {} is edited here, and was changed in the ledger since", profile.id);
            problems.push(Problem { file: PROFILES_FILE, line: lines.nth("[[profiles]]", index), what });
            continue;
        }
        // With another credential the end is another token's, and is said anew.
        let same_token = known.is_some_and(|(known, _)| known.credential == profile.credential);
        edits.push(Edit::Set(Box::new(profile), expires_at.filter(|_| !(same_end && same_token))));
    }
}

fn plan_records(
    edits: &mut Vec<Edit>,
    problems: &mut Vec<Problem>,
    text: &str,
    current: &[(ProfileRecord, Runtime)],
    before: &Before,
    records: &[RecordDoc],
) {
    let lines = Lines::new(text);
    for (index, record) in records.iter().enumerate() {
        let line = lines.nth("[[records]]", index);
        let mut refuse = |what: String| problems.push(Problem { file: RUNTIME_FILE, line, what });
        let Some((_, failures, until)) = before.records.iter().find(|(id, ..)| *id == record.profile_id) else {
            refuse("there is no profile of that id: records are the ledger's to make".to_owned());
            continue;
        };
        if record.failure_count == *failures && record.cooldown_until_unix_ms == *until {
            continue;
        }
        if record.failure_count != 0 || record.cooldown_until_unix_ms.is_some() {
            refuse("failure_count and cooldown_until_unix_ms can only be reset, to 0 and to nothing".to_owned());
            continue;
        }
        let found = current.iter().find(|(other, _)| other.profile.id.as_str() == record.profile_id);
        if let Some((found, _)) = found
            && !plan_deletes(edits, &found.profile.id)
        {
            edits.push(Edit::Clear(found.profile.id.clone()));
        }
    }
}

fn plan_orders(
    edits: &mut Vec<Edit>,
    problems: &mut Vec<Problem>,
    text: &str,
    current: &[Order],
    before: &Before,
    wanted: &[OrderDoc],
) {
    let lines = Lines::new(text);
    let known = |scope: &ProfileScope, provider: &Provider| {
        before.orders.iter().find(|(other, service, _)| other == scope && service == provider)
    };
    let now = |scope: &ProfileScope, provider: &Provider| {
        current.iter().find(|order| order.scope == *scope && order.provider == *provider)
    };
    let mut named = Vec::new();
    for (index, order) in wanted.iter().enumerate() {
        let line = lines.nth("[[profile_orders]]", index);
        match read_order(order) {
            Ok((scope, provider, profiles)) => {
                let before = known(&scope, &provider).map(|(.., profiles)| profiles);
                if before != Some(&profiles) {
                    if now(&scope, &provider).map(|order| &order.profiles) == before {
                        edits.push(Edit::Order(scope.clone(), provider.clone(), profiles));
                    } else {
                        let what = "this order is edited here, and was changed in the ledger since".to_owned();
                        problems.push(Problem { file: RUNTIME_FILE, line, what });
                    }
                }
                named.push((scope, provider));
            }
            Err(what) => problems.push(Problem { file: RUNTIME_FILE, line, what }),
        }
    }
    for (scope, provider, _) in &before.orders {
        if !named.contains(&(scope.clone(), provider.clone())) && now(scope, provider).is_some() {
            edits.push(Edit::Order(scope.clone(), provider.clone(), Vec::new()));
        }
    }
}

fn plan_deletes(edits: &[Edit], id: &ProfileId) -> bool {
    edits.iter().any(|edit| matches!(edit, Edit::Delete(other) if other == id))
}

/// Reads a registry alone: its profiles with the end of their tokens.
fn read_profiles(text: &str, problems: &mut Vec<Problem>) -> Option<Vec<(Profile, Option<Timestamp>)>> {
    let document: ProfilesDoc = parse(PROFILES_FILE, text, problems)?;
    let lines = Lines::new(text);
    let before = problems.len();
    let mut found: Vec<(Profile, Option<Timestamp>)> = Vec::new();
    if document.version != VERSION {
        let what = format!("version {} is not known; it must be {VERSION}", document.version);
        problems.push(Problem { file: PROFILES_FILE, line: lines.nth("version", 0), what });
    }
    for (index, entry) in document.profiles.into_iter().enumerate() {
        let line = lines.nth("[[profiles]]", index);
        let expires_at = entry.credential.expires_at_unix_ms.map(Timestamp::from_millis);
        match read_profile(entry) {
            Ok(profile) if found.iter().any(|(other, _)| other.id == profile.id) => {
                let what = "a profile of this id stands before it already".to_owned();
                problems.push(Problem { file: PROFILES_FILE, line, what });
            }
            Ok(profile) => found.push((profile, expires_at)),
            Err(what) => problems.push(Problem { file: PROFILES_FILE, line, what }),
        }
    }
    (problems.len() == before).then_some(found)
}

fn read_profile(entry: ProfileDoc) -> Result<Profile, String> {
    let id: ProfileId = entry.profile_id.parse().map_err(|error| format!("profile_id: {error}"))?;
    let provider = match (entry.provider.kind.as_str(), entry.provider.custom_name) {
        ("custom", Some(name)) => format!("custom:{name}"),
        ("custom", None) => return Err("a custom provider needs custom_name".to_owned()),
        (_, Some(_)) => return Err("custom_name is for a custom provider alone".to_owned()),
        (kind, None) => kind.to_owned(),
    };
    let scope = match (entry.scope.kind.as_str(), entry.scope.agent_id) {
        ("agent", Some(agent)) => format!("agent:{agent}"),
        ("agent", None) => return Err("an agent's scope needs agent_id".to_owned()),
        (_, Some(_)) => return Err("agent_id is for an agent's scope alone".to_owned()),
        (kind, None) => kind.to_owned(),
    };
    let profile = Profile {
        id,
        provider: provider.parse().map_err(|error: crate::base::ProfileError| error.to_string())?,
        name: entry.profile_name,
        scope: scope.parse().map_err(|error: crate::base::ProfileError| error.to_string())?,
        enabled: entry.enabled,
        credential: read_credential(entry.credential)?,
    };
    // The line says which profile it is; its id may be anything that somebody pasted.
    check(&profile).map_err(|error| match error {
        super::AuthError::Field { field, why, .. } => format!("{field} is refused: {why}"),
        other => other.to_string(),
    })?;
    Ok(profile)
}

fn read_credential(entry: CredentialDoc) -> Result<CredentialSource, String> {
    let reference = |field: &str, text: String| -> Result<SecretRef, String> {
        // What was pasted where a reference belongs may be the secret itself: it is not repeated.
        text.parse().map_err(|_| format!("{field} is no reference of the form <scope>/<name>"))
    };
    match entry.kind.as_str() {
        "api_key" => {
            let stray = entry.access_token_vault_ref.is_some()
                || entry.refresh_token_vault_ref.is_some()
                || entry.client_secret_vault_ref.is_some()
                || entry.token_endpoint.is_some()
                || entry.client_id.is_some()
                || entry.expires_at_unix_ms.is_some();
            if stray {
                return Err("an api_key has api_key_vault_ref and nothing else".to_owned());
            }
            let key = entry.api_key_vault_ref.ok_or("an api_key needs api_key_vault_ref")?;
            Ok(CredentialSource::ApiKey(reference("api_key_vault_ref", key)?))
        }
        "oauth" => {
            if entry.api_key_vault_ref.is_some() {
                return Err("api_key_vault_ref is for an api_key alone".to_owned());
            }
            let access = entry.access_token_vault_ref.ok_or("oauth needs access_token_vault_ref")?;
            let optional = |field: &str, text: Option<String>| text.map(|text| reference(field, text)).transpose();
            Ok(CredentialSource::Oauth(Box::new(OauthSource {
                access: reference("access_token_vault_ref", access)?,
                refresh: optional("refresh_token_vault_ref", entry.refresh_token_vault_ref)?,
                client_secret: optional("client_secret_vault_ref", entry.client_secret_vault_ref)?,
                token_endpoint: entry.token_endpoint.ok_or("oauth needs token_endpoint")?,
                revocation_endpoint: entry.revocation_endpoint,
                client_id: entry.client_id.ok_or("oauth needs client_id")?,
                scopes: entry.scopes,
            })))
        }
        _ => Err("a credential's type is api_key or oauth".to_owned()),
    }
}

fn read_order(order: &OrderDoc) -> Result<(ProfileScope, Provider, Vec<ProfileId>), String> {
    let bad = |error: crate::base::ProfileError| error.to_string();
    let profiles = order.profile_ids.iter().map(|id| id.parse().map_err(bad)).collect::<Result<_, _>>()?;
    Ok((order.scope.parse().map_err(bad)?, order.provider.parse().map_err(bad)?, profiles))
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, text: &str, problems: &mut Vec<Problem>) -> Option<T> {
    if text.len() as u64 > limits::DOCUMENT_MAX {
        problems.push(Problem { file, line: 1, what: "it is larger than 32 MiB".to_owned() });
        return None;
    }
    match toml::from_str(text) {
        Ok(document) => Some(document),
        Err(error) => {
            let line = error
                .span()
                .map_or(1, |Range { start, .. }| 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count());
            // The message alone: toml's own rendering repeats the line, which may hold a pasted secret.
            problems.push(Problem { file, line, what: without_input(error.message()) });
            None
        }
    }
}

/// A parser's message without what stood in the text: a value may be a pasted secret, and so may a key. A short
/// key is a typing error, which people want to see.
fn without_input(message: &str) -> String {
    const KEY_SHOWN_MAX: usize = 23;
    let message = message.lines().next().unwrap_or_default();
    for before in ["unknown field `", "duplicate field `"] {
        if let Some(rest) = message.strip_prefix(before) {
            let (key, after) = rest.rsplit_once("`, expected").unwrap_or((rest, ""));
            let key = key.trim_end_matches('`');
            let after = if after.is_empty() { String::new() } else { format!(", expected{after}") };
            let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let known = before.starts_with("duplicate") && plain && key.len() <= 32;
            let shown = if known || (plain && key.len() <= KEY_SHOWN_MAX) { key } else { "..." };
            return format!("{before}{shown}`{after}");
        }
    }
    let bounds = |mark: char| Some((message.find(mark)?, message.rfind(mark)?));
    let quoted = bounds('"').filter(|(from, to)| from < to);
    match quoted.and_then(|(from, to)| Some((message.get(..from)?, message.get(to + 1..)?))) {
        Some((before, after)) => format!("{before}...{after}"),
        None if message.len() > 160 => "it does not parse".to_owned(),
        None => message.to_owned(),
    }
}

/// Where the tables of a document begin.
struct Lines<'a>(Vec<&'a str>);

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.lines().map(str::trim).collect())
    }

    fn nth(&self, header: &str, index: usize) -> usize {
        let places = self.0.iter().enumerate().filter(|(_, line)| line.starts_with(header));
        places.map(|(place, _)| place + 1).nth(index).unwrap_or(1)
    }
}

/// Kinds of failure that a report may name.
#[must_use]
pub fn failure_kind(name: &str) -> Option<FailureKind> {
    FailureKind::ALL.iter().copied().find(|kind| kind.name() == name)
}

/// A kind of credential by its name.
#[must_use]
pub fn credential_type(name: &str) -> Option<CredentialType> {
    CredentialType::ALL.iter().copied().find(|kind| kind.name() == name)
}
