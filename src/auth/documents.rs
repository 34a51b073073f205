//! The two TOML documents: rendered from the state, and read back after people changed them.
//!
//! The same state at the same event gives the same bytes: profiles by id, fields in a fixed order, and
//! "now" is the time of the event.

mod imported;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::{ProfileId, ProfileScope, Provider, SecretPath, StateRead, Timestamp, limits};
use crate::crypto::Hash;
use crate::event::auth::{CredentialSource, CredentialType, FailureKind, OauthSource, Profile};

use super::decide::check;
use super::fault::ApplyFault;
use super::health::standing;
use super::state::{Order, ProfileRecord, Runtime, list_orders, list_profiles};
use super::toml_text::Toml;

pub use imported::{Brought, bring};

/// File name of the static part.
pub const PROFILES_FILE: &str = "auth_profiles.toml";
/// File name of what became of the profiles.
pub const RUNTIME_FILE: &str = "auth_profile_runtime_state.toml";

const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct ProfilesDoc {
    version: u32,
    #[serde(default)]
    profiles: Vec<ProfileDoc>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct ProfileDoc {
    profile_id: String,
    profile_name: String,
    #[serde(default = "yes")]
    #[cfg_attr(test, serde(skip_serializing_if = "is_yes"))]
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

#[cfg(test)]
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_yes(value: &bool) -> bool {
    *value
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct ProviderDoc {
    kind: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    custom_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct ScopeDoc {
    kind: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    agent_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct CredentialDoc {
    #[serde(rename = "type")]
    kind: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    api_key_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    access_token_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    refresh_token_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    client_secret_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    token_endpoint: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    revocation_endpoint: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    client_id: Option<String>,
    #[serde(default)]
    #[cfg_attr(test, serde(skip_serializing_if = "Vec::is_empty"))]
    scopes: Vec<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    expires_at_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    refresh_state: Option<RefreshDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct RefreshDoc {
    failure_count: u32,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    last_success_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    next_allowed_refresh_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct RuntimeDoc {
    version: u32,
    #[serde(default)]
    records: Vec<RecordDoc>,
    #[serde(default)]
    profile_orders: Vec<OrderDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct RecordDoc {
    profile_id: String,
    provider: String,
    scope: String,
    credential_type: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    last_used_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    last_success_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    last_failure_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    last_failure_kind: Option<String>,
    failure_count: u32,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    cooldown_until_unix_ms: Option<u64>,
    token_expiry_state: String,
    eligibility: String,
    created_at_unix_ms: u64,
    updated_at_unix_ms: u64,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    doctor_hint: Option<HintDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
struct HintDoc {
    code: String,
    severity: String,
    message: String,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
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
    let head = format!("# palyra-ledger: event {seq}, state root {root}\n");
    let mut texts = (Toml::new(&head, 512 * all.len()), Toml::new(&head, 512 * all.len()));
    profiles.write(&mut texts.0);
    runtime.write(&mut texts.1);
    Ok(Documents { profiles: texts.0.into_text(), runtime: texts.1.into_text() })
}

fn profile_doc((record, runtime): &(ProfileRecord, Runtime)) -> ProfileDoc {
    let profile = &record.profile;
    let text = |reference: &SecretPath| reference.to_string();
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

impl ProfilesDoc {
    fn write(&self, out: &mut Toml) {
        out.number("version", self.version);
        if self.profiles.is_empty() {
            out.none("profiles");
        }
        for profile in &self.profiles {
            profile.write(out);
        }
    }
}

impl ProfileDoc {
    fn write(&self, out: &mut Toml) {
        out.element("profiles");
        out.text("profile_id", &self.profile_id);
        out.text("profile_name", &self.profile_name);
        if !self.enabled {
            out.no("enabled");
        }
        out.number("created_at_unix_ms", self.created_at_unix_ms);
        out.number("updated_at_unix_ms", self.updated_at_unix_ms);
        out.table("profiles.provider");
        out.text("kind", &self.provider.kind);
        out.text("custom_name", &self.provider.custom_name);
        out.table("profiles.scope");
        out.text("kind", &self.scope.kind);
        out.text("agent_id", &self.scope.agent_id);
        out.table("profiles.credential");
        self.credential.write(out);
    }
}

impl CredentialDoc {
    fn write(&self, out: &mut Toml) {
        out.text("type", &self.kind);
        out.text("api_key_vault_ref", &self.api_key_vault_ref);
        out.text("access_token_vault_ref", &self.access_token_vault_ref);
        out.text("refresh_token_vault_ref", &self.refresh_token_vault_ref);
        out.text("client_secret_vault_ref", &self.client_secret_vault_ref);
        out.text("token_endpoint", &self.token_endpoint);
        out.text("revocation_endpoint", &self.revocation_endpoint);
        out.text("client_id", &self.client_id);
        if !self.scopes.is_empty() {
            out.texts("scopes", &self.scopes);
        }
        out.number("expires_at_unix_ms", self.expires_at_unix_ms);
        if let Some(refresh) = &self.refresh_state {
            out.table("profiles.credential.refresh_state");
            out.number("failure_count", refresh.failure_count);
            out.number("last_success_unix_ms", refresh.last_success_unix_ms);
            out.number("next_allowed_refresh_unix_ms", refresh.next_allowed_refresh_unix_ms);
            out.text("last_error", &refresh.last_error);
        }
    }
}

impl RuntimeDoc {
    fn write(&self, out: &mut Toml) {
        out.number("version", self.version);
        // Values of a table stand before its tables.
        if self.records.is_empty() {
            out.none("records");
        }
        if self.profile_orders.is_empty() {
            out.none("profile_orders");
        }
        for record in &self.records {
            record.write(out);
        }
        for order in &self.profile_orders {
            out.element("profile_orders");
            out.text("scope", &order.scope);
            out.text("provider", &order.provider);
            out.texts("profile_ids", &order.profile_ids);
            out.number("updated_at_unix_ms", order.updated_at_unix_ms);
        }
    }
}

impl RecordDoc {
    fn write(&self, out: &mut Toml) {
        out.element("records");
        out.text("profile_id", &self.profile_id);
        out.text("provider", &self.provider);
        out.text("scope", &self.scope);
        out.text("credential_type", &self.credential_type);
        out.number("last_used_unix_ms", self.last_used_unix_ms);
        out.number("last_success_unix_ms", self.last_success_unix_ms);
        out.number("last_failure_unix_ms", self.last_failure_unix_ms);
        out.text("last_failure_kind", &self.last_failure_kind);
        out.number("failure_count", self.failure_count);
        out.number("cooldown_until_unix_ms", self.cooldown_until_unix_ms);
        out.text("token_expiry_state", &self.token_expiry_state);
        out.text("eligibility", &self.eligibility);
        out.number("created_at_unix_ms", self.created_at_unix_ms);
        out.number("updated_at_unix_ms", self.updated_at_unix_ms);
        if let Some(hint) = &self.doctor_hint {
            out.table("records.doctor_hint");
            out.text("code", &hint.code);
            out.text("severity", &hint.severity);
            out.text("message", &hint.message);
        }
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
    let runtime = read_runtime(&edited.runtime, &mut problems);
    let (rendered, other) = (rendered_at(&edited.profiles), rendered_at(&edited.runtime));
    if rendered != other {
        // Half of a pair and half of another would be read as edits that nobody made.
        let what = format!(
            "the two files were not rendered at the same event: {PROFILES_FILE} at {}, this at {}",
            rendered.map_or("none".to_owned(), |seq| seq.to_string()),
            other.map_or("none".to_owned(), |seq| seq.to_string())
        );
        problems.push(Problem { file: RUNTIME_FILE, line: 1, what });
    }
    let (Some(wanted), Some(runtime)) = (wanted, runtime) else { return Ok(Err(problems)) };
    let current = list_profiles(state)?;
    let orders = list_orders(state)?;
    let before = Before::new(&current, &orders, base);
    let mut plan = Plan { rendered, edits: Vec::new() };
    plan_profiles(&mut plan.edits, &mut problems, &current, &before, &wanted);
    plan_records(&mut plan.edits, &mut problems, &edited.runtime, &current, &before, &wanted, &runtime.records);
    let result = providers_after(&current, &plan.edits);
    plan_orders(&mut plan.edits, &mut problems, &edited.runtime, &orders, &before, &result, &runtime.profile_orders);
    Ok(if problems.is_empty() { Ok(plan) } else { Err(problems) })
}

/// A profile as a document says it.
struct Wanted {
    profile: Profile,
    expires_at: Option<Timestamp>,
    /// The ledger's alone; none where nothing is known of it.
    refresh: Option<RefreshDoc>,
    line: usize,
}

/// What a document said of a record before somebody edited it.
struct Recorded {
    failures: u32,
    until: Option<u64>,
    /// All of it, where the document itself is known and not the state alone.
    whole: Option<RecordDoc>,
}

/// What the documents said before somebody edited them.
struct Before {
    profiles: HashMap<ProfileId, Wanted>,
    records: HashMap<String, Recorded>,
    orders: Vec<(ProfileScope, Provider, Vec<ProfileId>)>,
    /// Whether this is what a document said, and not the state as it is.
    rendered: bool,
}

impl Before {
    fn new(current: &[(ProfileRecord, Runtime)], orders: &[Order], base: Option<&Documents>) -> Self {
        let mut unread = Vec::new();
        let read = base.and_then(|base| {
            let runtime = read_runtime(&base.runtime, &mut unread)?;
            let profiles = read_profiles(&base.profiles, &mut unread)?;
            let record = |whole: RecordDoc| {
                let (failures, until) = (whole.failure_count, whole.cooldown_until_unix_ms);
                (whole.profile_id.clone(), Recorded { failures, until, whole: Some(whole) })
            };
            Some(Self {
                profiles: profiles.into_iter().map(|known| (known.profile.id.clone(), known)).collect(),
                orders: runtime.profile_orders.iter().filter_map(|order| read_order(order).ok()).collect(),
                records: runtime.records.into_iter().map(record).collect(),
                rendered: true,
            })
        });
        let known = |(record, runtime): &(ProfileRecord, Runtime)| {
            let (profile, expires_at) = (record.profile.clone(), runtime.expires_at);
            (profile.id.clone(), Wanted { profile, expires_at, refresh: None, line: 1 })
        };
        let record = |(record, runtime): &(ProfileRecord, Runtime)| {
            let until = runtime.cooldown_until.map(Timestamp::as_millis);
            (record.profile.id.to_string(), Recorded { failures: runtime.failure_count, until, whole: None })
        };
        read.unwrap_or_else(|| Self {
            profiles: current.iter().map(known).collect(),
            records: current.iter().map(record).collect(),
            orders: orders
                .iter()
                .map(|order| (order.scope.clone(), order.provider.clone(), order.profiles.clone()))
                .collect(),
            rendered: false,
        })
    }
}

fn plan_profiles(
    edits: &mut Vec<Edit>,
    problems: &mut Vec<Problem>,
    current: &[(ProfileRecord, Runtime)],
    before: &Before,
    wanted: &[Wanted],
) {
    let now: HashMap<&ProfileId, &(ProfileRecord, Runtime)> =
        current.iter().map(|known| (&known.0.profile.id, known)).collect();
    let changed_since = |id: &ProfileId| {
        now.get(id).map(|(record, _)| &record.profile) != before.profiles.get(id).map(|known| &known.profile)
    };
    let named: HashSet<&ProfileId> = wanted.iter().map(|entry| &entry.profile.id).collect();
    let mut gone: Vec<_> = before.profiles.keys().filter(|id| !named.contains(id) && now.contains_key(id)).collect();
    gone.sort();
    for id in gone {
        if changed_since(id) {
            let what = format!("profile {id} is deleted here, and was changed in the ledger since");
            problems.push(Problem { file: PROFILES_FILE, line: 1, what });
        } else {
            edits.push(Edit::Delete(id.clone()));
        }
    }
    let kept = current.iter().map(|(record, _)| &record.profile);
    let kept = kept.filter(|profile| named.contains(&profile.id) || !before.profiles.contains_key(&profile.id));
    let mut owners: HashMap<&SecretPath, &ProfileId> =
        kept.flat_map(|profile| profile.credential.written().map(|place| (place, &profile.id))).collect();
    for Wanted { profile, expires_at, refresh, line } in wanted {
        // As it will be carried out: one profile after the other.
        owners.retain(|_, owner| *owner != &profile.id);
        let taken = profile.credential.written().find_map(|place| owners.insert(place, &profile.id));
        if taken.is_some() {
            let what = "one of its tokens is another profile's: two would spend it against each other".to_owned();
            problems.push(Problem { file: PROFILES_FILE, line: *line, what });
            continue;
        }
        let mut refuse = |what: String| problems.push(Problem { file: PROFILES_FILE, line: *line, what });
        let id = &profile.id;
        if moves_a_token(before, profile) {
            refuse(
                "its refresh token was given for another endpoint or client: log in, or use `auth profiles set`"
                    .to_owned(),
            );
            continue;
        }
        let known = before.profiles.get(id);
        let live = now.get(id);
        let same_source = known.is_some_and(|known| known.profile.credential.is_same_grant(&profile.credential));
        let same_end = known.is_some_and(|known| known.expires_at == *expires_at);
        if before.rendered && same_source && known.is_some_and(|known| known.refresh != *refresh) {
            refuse(format!("refresh_state of profile {id} is the ledger's alone"));
            continue;
        }
        if known.is_some_and(|known| known.profile == *profile) && same_end {
            continue;
        }
        if same_source && expires_at.is_none() && !same_end {
            refuse(format!("expires_at_unix_ms of profile {id} can be changed, not taken away"));
            continue;
        }
        let as_it_is = live.is_some_and(|(record, _)| record.profile == *profile);
        let end_now = live.and_then(|(_, runtime)| runtime.expires_at);
        let end_moved = !same_end && end_now != *expires_at && known.is_some_and(|known| end_now != known.expires_at);
        if (changed_since(id) && !as_it_is) || end_moved {
            refuse(format!("profile {id} is edited here, and was changed in the ledger since"));
            continue;
        }
        let end = match (same_end, same_source) {
            // Another credential begins anew, and nobody took the end of its token away.
            (true, false) => end_now,
            (true, true) => None,
            (false, _) => *expires_at,
        };
        edits.push(Edit::Set(Box::new(profile.clone()), end));
    }
}

/// Whether an edit would have a refresh token that the ledger holds sent somewhere else: by another endpoint or
/// client in its own profile, or by another profile over the same token. That takes a person's own word.
fn moves_a_token(before: &Before, profile: &Profile) -> bool {
    let CredentialSource::Oauth(new) = &profile.credential else { return false };
    let Some(token) = &new.refresh else { return false };
    let to = |source: &OauthSource| {
        (source.token_endpoint.clone(), source.revocation_endpoint.clone(), source.client_id.clone())
    };
    let of = before.profiles.values().filter_map(|known| match &known.profile.credential {
        CredentialSource::Oauth(old) if old.written().any(|place| place == token) => Some(old),
        _ => None,
    });
    of.into_iter().any(|old| to(old) != to(new))
}

fn plan_records(
    edits: &mut Vec<Edit>,
    problems: &mut Vec<Problem>,
    text: &str,
    current: &[(ProfileRecord, Runtime)],
    before: &Before,
    wanted: &[Wanted],
    records: &[RecordDoc],
) {
    let lines = headers(text, "[[records]]");
    let profiles: HashMap<&str, &Profile> =
        wanted.iter().map(|entry| (entry.profile.id.as_str(), &entry.profile)).collect();
    let there: HashSet<&str> = current.iter().map(|(record, _)| record.profile.id.as_str()).collect();
    let mut seen = HashSet::new();
    for (index, record) in records.iter().enumerate() {
        let line = lines.get(index).copied().unwrap_or(1);
        let mut refuse = |what: String| problems.push(Problem { file: RUNTIME_FILE, line, what });
        let Some(known) = before.records.get(&record.profile_id) else {
            refuse("there is no profile of that id: records are the ledger's to make".to_owned());
            continue;
        };
        if !seen.insert(record.profile_id.as_str()) {
            refuse(format!("the record of profile {} stands twice", record.profile_id));
            continue;
        }
        // One that is deleted takes its record along, whatever it says.
        let Some(profile) = profiles.get(record.profile_id.as_str()) else { continue };
        let same = record.failure_count == known.failures && record.cooldown_until_unix_ms == known.until;
        if !same && (record.failure_count != 0 || record.cooldown_until_unix_ms.is_some()) {
            refuse("failure_count and cooldown_until_unix_ms can only be reset, to 0 and to nothing".to_owned());
            continue;
        }
        if let Some(whole) = &known.whole
            && let Some(field) = not_theirs(record, whole, profile, !same)
        {
            refuse(format!("{field} of profile {} is the ledger's alone", record.profile_id));
            continue;
        }
        let waits = current.iter().find(|(record, _)| record.profile.id == profile.id);
        if !same && waits.is_some_and(|(_, runtime)| runtime.terminal.is_some()) {
            refuse(format!("profile {} needs a person: `auth login`, or `auth profiles clear`", record.profile_id));
            continue;
        }
        if !same && there.contains(record.profile_id.as_str()) {
            edits.push(Edit::Clear(profile.id.clone()));
        }
    }
    let mut gone: Vec<_> = before.records.keys().filter(|id| !seen.contains(id.as_str())).collect();
    gone.retain(|id| before.rendered && profiles.contains_key(id.as_str()));
    gone.sort();
    for id in gone {
        let what = format!("the record of profile {id} is gone: to forget its failures, reset failure_count to 0");
        problems.push(Problem { file: RUNTIME_FILE, line: 1, what });
    }
}

/// The first field that is the ledger's to say and was edited. What follows from the profile may follow its
/// edit; what a reset forgets may be edited along with it.
fn not_theirs(record: &RecordDoc, was: &RecordDoc, profile: &Profile, reset: bool) -> Option<&'static str> {
    let follows = |new: &str, old: &str, wanted: &str| new == old || new == wanted;
    let fields = [
        ("provider", follows(&record.provider, &was.provider, &profile.provider.to_string())),
        ("scope", follows(&record.scope, &was.scope, &profile.scope.to_string())),
        ("credential_type", follows(&record.credential_type, &was.credential_type, profile.credential.kind().name())),
        ("last_used_unix_ms", record.last_used_unix_ms == was.last_used_unix_ms),
        ("last_success_unix_ms", record.last_success_unix_ms == was.last_success_unix_ms),
        ("last_failure_unix_ms", reset || record.last_failure_unix_ms == was.last_failure_unix_ms),
        ("last_failure_kind", reset || record.last_failure_kind == was.last_failure_kind),
        ("token_expiry_state", record.token_expiry_state == was.token_expiry_state),
        ("eligibility", reset || record.eligibility == was.eligibility),
        ("doctor_hint", reset || record.doctor_hint == was.doctor_hint),
    ];
    fields.iter().find(|(_, fine)| !fine).map(|(name, _)| *name)
}

/// The service of every profile that there is after the edits.
fn providers_after(current: &[(ProfileRecord, Runtime)], edits: &[Edit]) -> HashMap<ProfileId, Provider> {
    let pair = |profile: &Profile| (profile.id.clone(), profile.provider.clone());
    let mut found: HashMap<_, _> = current.iter().map(|(record, _)| pair(&record.profile)).collect();
    for edit in edits {
        match edit {
            Edit::Set(profile, _) => found.extend([pair(profile)]),
            Edit::Delete(id) => drop(found.remove(id)),
            Edit::Order(..) | Edit::Clear(_) => {}
        }
    }
    found
}

fn plan_orders(
    edits: &mut Vec<Edit>,
    problems: &mut Vec<Problem>,
    text: &str,
    current: &[Order],
    before: &Before,
    result: &HashMap<ProfileId, Provider>,
    wanted: &[OrderDoc],
) {
    let lines = headers(text, "[[profile_orders]]");
    let known = |scope: &ProfileScope, provider: &Provider| {
        before.orders.iter().find(|(other, service, _)| other == scope && service == provider)
    };
    let now = |scope: &ProfileScope, provider: &Provider| {
        current.iter().find(|order| order.scope == *scope && order.provider == *provider)
    };
    let mut named = HashSet::new();
    for (index, order) in wanted.iter().enumerate() {
        let line = lines.get(index).copied().unwrap_or(1);
        let mut refuse = |what: String| problems.push(Problem { file: RUNTIME_FILE, line, what });
        let (scope, provider, profiles) = match read_order(order) {
            Ok(read) => read,
            Err(what) => {
                refuse(what);
                continue;
            }
        };
        if !named.insert((scope.clone(), provider.clone())) {
            refuse(format!("the order of {scope} for {provider} stands twice"));
            continue;
        }
        let before = known(&scope, &provider).map(|(.., profiles)| profiles);
        if before == Some(&profiles) || (before.is_none() && profiles.is_empty()) {
            continue;
        }
        if now(&scope, &provider).map(|order| &order.profiles) != before {
            refuse("this order is edited here, and was changed in the ledger since".to_owned());
        } else if let Some(why) = wrong_order(&provider, &profiles, result) {
            refuse(why);
        } else {
            edits.push(Edit::Order(scope, provider, profiles));
        }
    }
    for (scope, provider, known) in &before.orders {
        let Some(now) = now(scope, provider) else { continue };
        if named.contains(&(scope.clone(), provider.clone())) {
            continue;
        }
        if now.profiles == *known {
            edits.push(Edit::Order(scope.clone(), provider.clone(), Vec::new()));
        } else {
            let what =
                format!("the order of {scope} for {provider} is removed here, and was changed in the ledger since");
            problems.push(Problem { file: RUNTIME_FILE, line: 1, what });
        }
    }
}

/// Why an order would be refused, by the profiles that there will be.
fn wrong_order(provider: &Provider, ids: &[ProfileId], result: &HashMap<ProfileId, Provider>) -> Option<String> {
    if ids.len() > limits::ORDER_MAX {
        return Some(format!("it names more than {} profiles", limits::ORDER_MAX));
    }
    let mut seen = HashSet::new();
    ids.iter().find_map(|id| match result.get(id) {
        _ if !seen.insert(id) => Some(format!("it names {id} twice")),
        None => Some(format!("it names {id}, and there is no such profile")),
        Some(other) if other != provider => Some(format!("it names {id}, which is for {other}")),
        Some(_) => None,
    })
}

/// Reads a registry alone: its profiles with the end of their tokens.
fn read_profiles(text: &str, problems: &mut Vec<Problem>) -> Option<Vec<Wanted>> {
    let document: ProfilesDoc = parse(PROFILES_FILE, text, problems)?;
    let before = problems.len();
    known_version(PROFILES_FILE, text, document.version, problems);
    let lines = headers(text, "[[profiles]]");
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(document.profiles.len());
    for (index, mut entry) in document.profiles.into_iter().enumerate() {
        let line = lines.get(index).copied().unwrap_or(1);
        let expires_at = entry.credential.expires_at_unix_ms.map(Timestamp::from_millis);
        let refresh = entry.credential.refresh_state.take();
        let is_key = entry.credential.kind == CredentialType::ApiKey.name();
        match read_profile(entry) {
            Ok(_) if is_key && refresh.is_some() => {
                let what = "an api_key has api_key_vault_ref and nothing else".to_owned();
                problems.push(Problem { file: PROFILES_FILE, line, what });
            }
            Ok(profile) if !seen.insert(profile.id.clone()) => {
                let what = "a profile of this id stands before it already".to_owned();
                problems.push(Problem { file: PROFILES_FILE, line, what });
            }
            Ok(profile) => found.push(Wanted { profile, expires_at, refresh, line }),
            Err(what) => problems.push(Problem { file: PROFILES_FILE, line, what }),
        }
    }
    (problems.len() == before).then_some(found)
}

fn read_runtime(text: &str, problems: &mut Vec<Problem>) -> Option<RuntimeDoc> {
    let document: RuntimeDoc = parse(RUNTIME_FILE, text, problems)?;
    known_version(RUNTIME_FILE, text, document.version, problems).then_some(document)
}

fn known_version(file: &'static str, text: &str, version: u32, problems: &mut Vec<Problem>) -> bool {
    if version != VERSION {
        let what = format!("version {version} is not known; it must be {VERSION}");
        let line = headers(text, "version").first().copied().unwrap_or(1);
        problems.push(Problem { file, line, what });
    }
    version == VERSION
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
    let reference = |field: &str, text: String| -> Result<SecretPath, String> {
        // What was pasted where a reference belongs may be the secret itself: it is not repeated.
        text.parse().map_err(|_| format!("{field} is no reference of the form <scope>/<name>"))
    };
    match entry.kind.as_str() {
        "api_key" => {
            let stray = entry.access_token_vault_ref.is_some()
                || entry.refresh_token_vault_ref.is_some()
                || entry.client_secret_vault_ref.is_some()
                || entry.token_endpoint.is_some()
                || entry.revocation_endpoint.is_some()
                || entry.client_id.is_some()
                || !entry.scopes.is_empty()
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

/// The lines, from 1, at which a document's tables of a name begin.
fn headers(text: &str, header: &str) -> Vec<usize> {
    let begins = |line: &str| line.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
    let likely = |line: &&str| line.trim_start().starts_with(header.get(..1).unwrap_or_default());
    let lines = text.lines().enumerate().filter(|(_, line)| likely(line));
    lines.filter(|(_, line)| begins(line).starts_with(header)).map(|(place, _)| place + 1).collect()
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

#[cfg(test)]
mod tests {
    use proptest::array::{uniform2, uniform3, uniform4, uniform6, uniform7};
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    /// Texts as they are, and texts that need quotes and escapes of every kind.
    fn text() -> impl Strategy<Value = String> {
        let odd = ['\'', '"', '\\', '\n', '\r', '\t', '\u{7f}', '\u{1}', '\u{8}', 'é', '🔑', '#', ' ', 'a'];
        let odd = vec(proptest::sample::select(odd.to_vec()), 0..8);
        let plain = vec(proptest::sample::select("az09/:._ -".chars().collect::<Vec<_>>()), 0..12);
        let text = |letters: Vec<char>| letters.into_iter().collect::<String>();
        prop_oneof![plain, odd].prop_map(text)
    }

    fn time() -> impl Strategy<Value = u64> {
        0..=u64::try_from(i64::MAX).unwrap()
    }

    prop_compose! {
        fn credential()(
            kind in text(),
            refs in uniform7(of(text())),
            scopes in vec(text(), 0..4),
            expires_at_unix_ms in of(time()),
            refresh in of((any::<u32>(), of(time()), of(time()), of(text()))),
        ) -> CredentialDoc {
            let [api_key_vault_ref, access_token_vault_ref, refresh_token_vault_ref, client_secret_vault_ref, rest @ ..] = refs;
            let [token_endpoint, revocation_endpoint, client_id] = rest;
            let refresh_state = refresh.map(|(failure_count, last, next, last_error)| RefreshDoc {
                failure_count, last_success_unix_ms: last, next_allowed_refresh_unix_ms: next, last_error,
            });
            CredentialDoc {
                kind, api_key_vault_ref, access_token_vault_ref, refresh_token_vault_ref, client_secret_vault_ref,
                token_endpoint, revocation_endpoint, client_id, scopes, expires_at_unix_ms, refresh_state,
            }
        }
    }

    prop_compose! {
        fn profile()(
            texts in uniform4(text()),
            optional in uniform2(of(text())),
            enabled in any::<bool>(),
            times in uniform2(time()),
            credential in credential(),
        ) -> ProfileDoc {
            let ([profile_id, profile_name, provider, scope], [custom_name, agent_id]) = (texts, optional);
            let [created_at_unix_ms, updated_at_unix_ms] = times;
            ProfileDoc {
                profile_id, profile_name, enabled, created_at_unix_ms, updated_at_unix_ms, credential,
                provider: ProviderDoc { kind: provider, custom_name },
                scope: ScopeDoc { kind: scope, agent_id },
            }
        }
    }

    prop_compose! {
        fn record()(
            texts in uniform6(text()),
            optional in uniform4(of(time())),
            failure_count in any::<u32>(),
            last_failure_kind in of(text()),
            times in uniform2(time()),
            hint in of(uniform3(text())),
        ) -> RecordDoc {
            let [profile_id, provider, scope, credential_type, token_expiry_state, eligibility] = texts;
            let [last_used_unix_ms, last_success_unix_ms, last_failure_unix_ms, cooldown_until_unix_ms] = optional;
            let [created_at_unix_ms, updated_at_unix_ms] = times;
            RecordDoc {
                profile_id, provider, scope, credential_type, last_used_unix_ms, last_success_unix_ms, last_failure_unix_ms,
                last_failure_kind, failure_count, cooldown_until_unix_ms, token_expiry_state, eligibility,
                created_at_unix_ms, updated_at_unix_ms,
                doctor_hint: hint.map(|[code, severity, message]| HintDoc { code, severity, message }),
            }
        }
    }

    prop_compose! {
        fn order()(
            scope in text(), provider in text(), profile_ids in vec(text(), 0..4), updated_at_unix_ms in time(),
        ) -> OrderDoc {
            OrderDoc { scope, provider, profile_ids, updated_at_unix_ms }
        }
    }

    fn written(write: impl FnOnce(&mut Toml)) -> String {
        let mut out = Toml::new("", 0);
        write(&mut out);
        out.into_text()
    }

    proptest! {
        #[test]
        fn documents_are_written_as_the_toml_crate_writes_them(
            profiles in vec(profile(), 0..3), records in vec(record(), 0..3), profile_orders in vec(order(), 0..3),
        ) {
            let profiles = ProfilesDoc { version: VERSION, profiles };
            let runtime = RuntimeDoc { version: VERSION, records, profile_orders };
            prop_assert_eq!(written(|out| profiles.write(out)), toml::to_string_pretty(&profiles).unwrap());
            prop_assert_eq!(written(|out| runtime.write(out)), toml::to_string_pretty(&runtime).unwrap());
        }
    }
}
