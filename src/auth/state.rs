//! The part of the state that holds profiles and what became of them.
//!
//! | key | value |
//! |---|---|
//! | `30` | number of profiles (4 bytes) |
//! | `31` id | [`ProfileRecord`] |
//! | `32` id | [`Runtime`] |
//! | `33` scope `00` provider | [`Order`] |
//! | `34` reference | id of the profile whose refresh or login writes that secret |
//! | `35` | highest number of a refresh of any profile that was deleted (8 bytes) |
//! | `36` id | what another store said of the profile's times: `OriginTimes` |
//!
//! Ids hold no zero byte. Removed profiles leave nothing.

use std::ops::ControlFlow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::{Change, Delta, ProfileId, ProfileScope, Provider, SecretPath, StateRead, Timestamp, prefix_end};
use crate::event::auth::{CredentialSource, FailureKind, Profile, RefreshCause, UsageNote};
use crate::event::import::{CredentialsImported, OriginTimes};
use crate::event::{Event, codec};

use super::fault::ApplyFault;

pub(super) const COUNT: &[u8] = &[0x30];
pub(super) const PROFILES: u8 = 0x31;
pub(super) const RUNTIMES: u8 = 0x32;
pub(super) const ORDERS: u8 = 0x33;
const WRITERS: u8 = 0x34;
const LAST_GENERATION: &[u8] = &[0x35];
const ORIGINS: u8 = 0x36;

/// A profile (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// The profile.
    pub profile: Profile,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// A refresh under way (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Nobody else refreshes before this time; after it, the outcome is in doubt.
    pub until: Timestamp,
    /// Why it was begun.
    pub cause: RefreshCause,
}

/// What only a person can mend (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// What went wrong.
    pub failure: FailureKind,
    /// In words.
    pub what: String,
}

/// What became of a profile in use (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Runtime {
    /// When it was last chosen.
    pub last_used: Option<Timestamp>,
    /// When it last served.
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// How it last failed.
    pub failure: Option<FailureKind>,
    /// Failures in a row.
    pub failure_count: u32,
    /// It is not used before this time.
    pub cooldown_until: Option<Timestamp>,
    /// Somebody tries it until this time, and nobody else before.
    pub probe_until: Option<Timestamp>,
    /// When the access token ends, where that is known.
    pub expires_at: Option<Timestamp>,
    /// Whether an access token was ever written by a refresh or login, or its end given by a person.
    pub has_token: bool,
    /// Number of the last refresh.
    pub generation: u64,
    /// A refresh under way, or one whose outcome is in doubt.
    pub lease: Option<Lease>,
    /// Refreshes whose answer was lost since the last token that was given.
    pub lost_answers: u32,
    /// Failed refreshes in a row.
    pub refresh_failures: u32,
    /// When the refresh is tried again.
    pub retry_at: Option<Timestamp>,
    /// When a refresh last succeeded.
    pub refreshed: Option<Timestamp>,
    /// What only a person can mend.
    pub terminal: Option<Terminal>,
    /// When any of this last changed.
    pub updated: Timestamp,
}

/// The order in which profiles are preferred (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whom it is for.
    pub scope: ProfileScope,
    /// The service.
    pub provider: Provider,
    /// The profiles, the preferred one first.
    pub profiles: Vec<ProfileId>,
    /// When it was set.
    pub updated: Timestamp,
}

fn key(kind: u8, parts: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push(0);
        }
        key.extend_from_slice(part.as_bytes());
    }
    key
}

fn order_key(scope: &ProfileScope, provider: &Provider) -> Vec<u8> {
    key(ORDERS, &[&scope.to_string(), &provider.to_string()])
}

fn read<T: DeserializeOwned>(state: &dyn StateRead, key: &[u8]) -> Result<Option<T>, ApplyFault> {
    Ok(state.get(key)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

fn put<T: Serialize>(key: Vec<u8>, value: &T) -> Result<Change, ApplyFault> {
    Ok((key.into(), Some(codec::encode(value)?.into())))
}

/// How many profiles there are.
///
/// # Errors
/// [`ApplyFault`] where the state cannot be read.
pub fn profile_count(state: &dyn StateRead) -> Result<u32, ApplyFault> {
    Ok(read(state, COUNT)?.unwrap_or(0))
}

/// A profile.
///
/// # Errors
/// As [`profile_count`].
pub fn find_profile(state: &dyn StateRead, id: &ProfileId) -> Result<Option<ProfileRecord>, ApplyFault> {
    read(state, &key(PROFILES, &[id.as_str()]))
}

/// The profile whose refresh or login writes a secret, if one does.
///
/// # Errors
/// As [`profile_count`].
pub fn find_writer(state: &dyn StateRead, reference: &SecretPath) -> Result<Option<ProfileId>, ApplyFault> {
    read(state, &key(WRITERS, &[&reference.to_string()]))
}

/// What became of a profile; of one that is not there, nothing.
///
/// # Errors
/// As [`profile_count`].
pub fn find_runtime(state: &dyn StateRead, id: &ProfileId) -> Result<Runtime, ApplyFault> {
    Ok(read(state, &key(RUNTIMES, &[id.as_str()]))?.unwrap_or_default())
}

fn each<T: DeserializeOwned>(state: &dyn StateRead, kind: u8, visit: &mut dyn FnMut(T)) -> Result<(), ApplyFault> {
    let (from, mut fault) = ([kind], None);
    state.scan(&from, &prefix_end(&from), &mut |_, value| match codec::decode(value) {
        Ok(record) => {
            visit(record);
            ControlFlow::Continue(())
        }
        Err(error) => {
            fault = Some(error.into());
            ControlFlow::Break(())
        }
    })?;
    fault.map_or(Ok(()), Err)
}

/// Every profile with what became of it, by id.
///
/// # Errors
/// As [`profile_count`].
pub fn list_profiles(state: &dyn StateRead) -> Result<Vec<(ProfileRecord, Runtime)>, ApplyFault> {
    let (mut profiles, mut runtimes) = (Vec::new(), Vec::new());
    each(state, PROFILES, &mut |record: ProfileRecord| profiles.push(record))?;
    each(state, RUNTIMES, &mut |record: Runtime| runtimes.push(record))?;
    // Both are written and removed together, under the same ids.
    if profiles.len() != runtimes.len() {
        return Err(ApplyFault::Missing);
    }
    Ok(profiles.into_iter().zip(runtimes).collect())
}

/// Every order, by scope and service.
///
/// # Errors
/// As [`profile_count`].
pub fn list_orders(state: &dyn StateRead) -> Result<Vec<Order>, ApplyFault> {
    let mut orders = Vec::new();
    each(state, ORDERS, &mut |order| orders.push(order))?;
    Ok(orders)
}

/// Folds one event of this domain.
///
/// # Errors
/// [`ApplyFault`] where it does not fit; nothing is changed then.
pub fn apply(state: &dyn StateRead, time: Timestamp, event: &Event) -> Result<Delta, ApplyFault> {
    match event {
        Event::ProfileSet(event) => set(state, time, &event.profile, Some(event.expires_at)),
        Event::ProfileEnabled(event) => {
            let mut record = find_profile(state, &event.profile)?.ok_or(ApplyFault::Missing)?;
            record.profile.enabled = event.enabled;
            record.updated = time;
            Ok(vec![put(key(PROFILES, &[event.profile.as_str()]), &record)?])
        }
        Event::ProfileDeleted(event) => {
            let record = find_profile(state, &event.profile)?.ok_or(ApplyFault::Missing)?;
            deleted(state, time, &record)
        }
        Event::ProfileCleared(event) => edit(state, time, &event.profile, |runtime| {
            *runtime = Runtime {
                last_used: runtime.last_used,
                last_success: runtime.last_success,
                expires_at: runtime.expires_at,
                has_token: runtime.has_token,
                generation: runtime.generation,
                lease: runtime.lease.clone(),
                refreshed: runtime.refreshed,
                ..Runtime::default()
            };
            Ok(())
        }),
        Event::OrderSet(event) => {
            let (scope, provider) = (event.scope.clone(), event.provider.clone());
            let at = order_key(&scope, &provider);
            if event.profiles.is_empty() {
                return Ok(vec![(at.into(), None)]);
            }
            Ok(vec![put(at, &Order { scope, provider, profiles: event.profiles.clone(), updated: time })?])
        }
        Event::RefreshStarted(event) => edit(state, time, &event.profile, |runtime| {
            in_order(event.generation, runtime.generation + 1)?;
            if runtime.lease.is_some() {
                // Nobody recorded how the one before ended.
                runtime.lost_answers += 1;
            }
            runtime.generation = event.generation;
            runtime.lease = Some(Lease { until: event.lease_until, cause: event.cause });
            Ok(())
        }),
        Event::RefreshSucceeded(event) => edit(state, time, &event.profile, |runtime| {
            under_way(runtime, event.generation)?;
            renewed(runtime, time, event.expires_at);
            Ok(())
        }),
        Event::RefreshFailed(event) => edit(state, time, &event.profile, |runtime| {
            under_way(runtime, event.generation)?;
            runtime.lease = None;
            runtime.refresh_failures = runtime.refresh_failures.saturating_add(1);
            // Only a success shows that the token was not spent with the answer that was lost.
            runtime.lost_answers = runtime.lost_answers.saturating_add(event.unanswered.into());
            runtime.retry_at = event.retry_at;
            let terminal = Terminal { failure: event.failure, what: event.what.clone() };
            runtime.terminal = event.terminal.then_some(terminal);
            Ok(())
        }),
        Event::ProfileLoggedIn(event) => {
            let mut delta = set(state, time, &event.profile, None)?;
            let before = find_runtime(state, &event.profile.id)?;
            // Another grant: what became of the one before says nothing about it. Numbers go on.
            let generation = before.generation.max(last_generation(state)?);
            let mut runtime = Runtime { generation, last_used: before.last_used, ..Runtime::default() };
            renewed(&mut runtime, time, event.expires_at);
            runtime.updated = time;
            delta.push(put(key(RUNTIMES, &[event.profile.id.as_str()]), &runtime)?);
            Ok(delta)
        }
        Event::ProfileLoggedOut(event) => edit(state, time, &event.profile, |runtime| {
            let terminal = Terminal { failure: FailureKind::ConfigMissing, what: "logged out".to_owned() };
            let (generation, last_used) = (runtime.generation, runtime.last_used);
            *runtime = Runtime { generation, last_used, terminal: Some(terminal), ..Runtime::default() };
            Ok(())
        }),
        Event::UsageReported(event) => {
            let mut delta = Delta::new();
            for note in &event.notes {
                // A note may come after its profile went: usage is gathered beside the log.
                if find_profile(state, &note.profile)?.is_some() {
                    let mut runtime = find_runtime(state, &note.profile)?;
                    used(&mut runtime, note);
                    runtime.updated = time;
                    delta.push(put(key(RUNTIMES, &[note.profile.as_str()]), &runtime)?);
                }
            }
            Ok(delta)
        }
        Event::CredentialsImported(event) => imported(state, time, event),
        _ => Ok(Delta::new()),
    }
}

/// Profiles and orders that came from another store. Each profile stands in one event once.
fn imported(state: &dyn StateRead, time: Timestamp, event: &CredentialsImported) -> Result<Delta, ApplyFault> {
    let (mut delta, mut count) = (Delta::new(), profile_count(state)?);
    for one in &event.profiles {
        let id = &one.profile.id;
        if find_profile(state, id)?.is_some() {
            return Err(ApplyFault::Exists);
        }
        delta.extend(set(state, time, &one.profile, Some(one.expires_at))?);
        count = count.saturating_add(1);
        if let Some(note) = &one.usage {
            let generation = last_generation(state)?;
            let (expires_at, has_token) = (one.expires_at, one.expires_at.is_some());
            let mut runtime = Runtime { generation, expires_at, has_token, updated: time, ..Runtime::default() };
            used(&mut runtime, note);
            delta.push(put(key(RUNTIMES, &[id.as_str()]), &runtime)?);
        }
        delta.push(put(key(ORIGINS, &[id.as_str()]), &one.origin)?);
    }
    delta.push(put(COUNT.to_vec(), &count)?);
    for order in &event.orders {
        let (scope, provider) = (order.scope.clone(), order.provider.clone());
        let at = order_key(&scope, &provider);
        delta.push(put(at, &Order { scope, provider, profiles: order.profiles.clone(), updated: time })?);
    }
    Ok(delta)
}

/// What another store said of the times of a profile that came from it.
///
/// # Errors
/// As [`profile_count`].
pub fn profile_origin(state: &dyn StateRead, id: &ProfileId) -> Result<Option<OriginTimes>, ApplyFault> {
    read(state, &key(ORIGINS, &[id.as_str()]))
}

fn in_order(found: u64, wanted: u64) -> Result<(), ApplyFault> {
    if found == wanted { Ok(()) } else { Err(ApplyFault::Generation { found, last: wanted.saturating_sub(1) }) }
}

fn under_way(runtime: &Runtime, generation: u64) -> Result<(), ApplyFault> {
    if runtime.lease.is_some() && runtime.generation == generation {
        return Ok(());
    }
    Err(ApplyFault::Generation { found: generation, last: runtime.generation })
}

const FOR_WANT_OF_A_TOKEN: [FailureKind; 3] =
    [FailureKind::AuthInvalid, FailureKind::RefreshDue, FailureKind::RefreshFailed];

/// A fresh token: what failed for want of one is forgotten.
fn renewed(runtime: &mut Runtime, time: Timestamp, expires_at: Option<Timestamp>) {
    runtime.lease = None;
    runtime.lost_answers = 0;
    runtime.refresh_failures = 0;
    runtime.retry_at = None;
    runtime.terminal = None;
    runtime.refreshed = Some(time);
    runtime.expires_at = expires_at;
    runtime.has_token = true;
    cure(runtime);
}

/// Ends a bench that a fresh token makes good; one for quota or rate is none of its business.
pub(super) fn cure(runtime: &mut Runtime) {
    if runtime.failure.is_some_and(|failure| FOR_WANT_OF_A_TOKEN.contains(&failure)) {
        runtime.failure_count = 0;
        runtime.cooldown_until = None;
        runtime.probe_until = None;
    }
}

pub(super) fn used(runtime: &mut Runtime, note: &UsageNote) {
    runtime.last_used = note.last_used;
    runtime.last_success = note.last_success;
    runtime.last_failure = note.last_failure;
    runtime.failure = note.failure;
    let want = note.failure.is_some_and(|failure| FOR_WANT_OF_A_TOKEN.contains(&failure));
    if want && note.last_failure.is_some_and(|failed| runtime.refreshed.is_some_and(|at| failed < at)) {
        // There is a fresh token since: what failed for want of one is forgotten.
        (runtime.failure_count, runtime.cooldown_until, runtime.probe_until) = (0, None, None);
        return;
    }
    runtime.failure_count = note.failure_count;
    runtime.cooldown_until = note.cooldown_until;
    runtime.probe_until = note.probe_until;
}

fn last_generation(state: &dyn StateRead) -> Result<u64, ApplyFault> {
    Ok(read(state, LAST_GENERATION)?.unwrap_or(0))
}

/// A profile goes, and with it its places in the orders. The number of its last refresh stays: one of another
/// profile under the same id must never be taken for it.
fn deleted(state: &dyn StateRead, time: Timestamp, record: &ProfileRecord) -> Result<Delta, ApplyFault> {
    let id = &record.profile.id;
    let gone = |kind: u8, text: &str| (key(kind, &[text]).into(), None);
    let mut delta = vec![gone(PROFILES, id.as_str()), gone(RUNTIMES, id.as_str())];
    delta.push(put(COUNT.to_vec(), &profile_count(state)?.saturating_sub(1))?);
    let last = find_runtime(state, id)?.generation.max(last_generation(state)?);
    delta.push(put(LAST_GENERATION.to_vec(), &last)?);
    if profile_origin(state, id)?.is_some() {
        delta.push(gone(ORIGINS, id.as_str()));
    }
    delta.extend(record.profile.credential.written().map(|place| gone(WRITERS, &place.to_string())));
    for mut order in list_orders(state)? {
        let before = order.profiles.len();
        order.profiles.retain(|other| other != id);
        if order.profiles.len() < before {
            let at = order_key(&order.scope, &order.provider);
            order.updated = time;
            delta.push(if order.profiles.is_empty() { (at.into(), None) } else { put(at, &order)? });
        }
    }
    Ok(delta)
}

/// A refresh token goes to the endpoint that it was given for. Where a profile keeps the token and names
/// another endpoint or client, a person must say that both belong together.
fn pinned(old: Option<&CredentialSource>, new: &CredentialSource) -> Option<Terminal> {
    let (CredentialSource::Oauth(old), CredentialSource::Oauth(new)) = (old?, new) else { return None };
    let kept = new.refresh.is_some() && old.refresh == new.refresh;
    let elsewhere = (&old.token_endpoint, &old.client_id) != (&new.token_endpoint, &new.client_id);
    (kept && elsewhere).then(|| Terminal {
        failure: FailureKind::ConfigMissing,
        what: "its endpoint or client id was changed, and the refresh token was given for the one before".to_owned(),
    })
}

/// Makes or changes a profile; another credential begins anew.
fn set(
    state: &dyn StateRead,
    time: Timestamp,
    profile: &Profile,
    expires_at: Option<Option<Timestamp>>,
) -> Result<Delta, ApplyFault> {
    let before = find_profile(state, &profile.id)?;
    let mut delta = Delta::new();
    if before.is_none() {
        delta.push(put(COUNT.to_vec(), &(profile_count(state)? + 1))?);
    }
    let created = before.as_ref().map_or(time, |record| record.created);
    let old = before.as_ref().map(|record| &record.profile.credential);
    let same = old.is_some_and(|old| old.is_same_grant(&profile.credential));
    let mut runtime = find_runtime(state, &profile.id)?;
    if !same {
        // The generation goes on: a refresh of the old credential must not complete.
        let generation = runtime.generation.max(last_generation(state)?);
        runtime = Runtime { generation, terminal: pinned(old, &profile.credential), ..Runtime::default() };
        let places = old.into_iter().flat_map(CredentialSource::written);
        delta.extend(places.map(|place| (key(WRITERS, &[&place.to_string()]).into(), None)));
    }
    for place in profile.credential.written() {
        delta.push(put(key(WRITERS, &[&place.to_string()]), &profile.id)?);
    }
    if let Some(expires_at) = expires_at {
        runtime.expires_at = expires_at;
        runtime.has_token |= expires_at.is_some();
    }
    runtime.updated = time;
    delta.push(put(
        key(PROFILES, &[profile.id.as_str()]),
        &ProfileRecord { profile: profile.clone(), created, updated: time },
    )?);
    delta.push(put(key(RUNTIMES, &[profile.id.as_str()]), &runtime)?);
    Ok(delta)
}

fn edit(
    state: &dyn StateRead,
    time: Timestamp,
    id: &ProfileId,
    change: impl FnOnce(&mut Runtime) -> Result<(), ApplyFault>,
) -> Result<Delta, ApplyFault> {
    find_profile(state, id)?.ok_or(ApplyFault::Missing)?;
    let mut runtime = find_runtime(state, id)?;
    change(&mut runtime)?;
    runtime.updated = time;
    Ok(vec![put(key(RUNTIMES, &[id.as_str()]), &runtime)?])
}
