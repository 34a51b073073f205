//! What an edit asks for, and what is wrong with it.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::base::{ProfileId, ProfileScope, Provider, SecretPath, StateRead, Timestamp, limits};
use crate::event::auth::{CredentialSource, OauthSource, Profile};

use super::super::fault::ApplyFault;
use super::super::state::{Order, ProfileRecord, Runtime, list_orders, list_profiles};
use super::read::{headers, read_order, read_profiles, read_runtime};
use super::shape::{OrderDoc, RecordDoc, RefreshDoc};
use super::{Documents, PROFILES_FILE, RUNTIME_FILE};

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
pub(super) struct Wanted {
    pub(super) profile: Profile,
    pub(super) expires_at: Option<Timestamp>,
    /// The ledger's alone; none where nothing is known of it.
    pub(super) refresh: Option<RefreshDoc>,
    pub(super) line: usize,
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
