//! The live view of profiles: it chooses, takes reports of use in memory, and hands them over in batches.
//!
//! It is read from the state once and follows every batch after that. What was reported and is not
//! recorded yet stands above the state, so that a failure benches a profile at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{AgentId, Delta, ProfileId, Provider, StateRead, Timestamp, limits};
use crate::event::auth::{CredentialType, FailedOver, FailureKind, Profile, UsageNote};
use crate::event::codec;

use super::fault::ApplyFault;
use super::health::{Eligibility, TokenExpiry, bench_ms, breaker_tripped, eligibility, jittered};
use super::state::{ORDERS, Order, PROFILES, ProfileRecord, RUNTIMES, Runtime, cure, list_orders, list_profiles, used};

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only profiles for this service.
    pub provider: Option<Provider>,
    /// For this agent; none: global profiles alone.
    pub agent: Option<AgentId>,
    /// Only credentials of these kinds; empty: all.
    pub allow: Vec<CredentialType>,
    /// Never these.
    pub deny: Vec<ProfileId>,
    /// These first, in this order; empty: the recorded order.
    pub order: Vec<ProfileId>,
}

/// Why a candidate was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// It is for another service.
    Provider,
    /// It is another agent's.
    Scope,
    /// Its credential is of a kind that was not allowed.
    CredentialType,
    /// It was denied by name.
    Denied,
    /// It is disabled.
    Disabled,
    /// It is benched.
    CoolingDown,
    /// Another caller tries it at this moment.
    Probing,
    /// Its token has ended or is missing.
    TokenEnded,
    /// Only a person can mend it.
    NeedsPerson,
    /// Another one comes before it.
    Outranked,
}

impl Skip {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "other_provider",
            Self::Scope => "other_agent",
            Self::CredentialType => "credential_type_not_allowed",
            Self::Denied => "denied",
            Self::Disabled => "disabled",
            Self::CoolingDown => "cooling_down",
            Self::Probing => "probing",
            Self::TokenEnded => "token_ended",
            Self::NeedsPerson => "needs_person",
            Self::Outranked => "outranked",
        }
    }

    /// Whether the candidate was wanted, and only its state kept it out.
    const fn is_state(self) -> bool {
        matches!(self, Self::CoolingDown | Self::Probing | Self::TokenEnded | Self::NeedsPerson)
    }
}

/// A candidate that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub profile: ProfileId,
    /// Why.
    pub why: Skip,
    /// When it may come back by itself, where that is known.
    pub until: Option<Timestamp>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The profile.
    pub profile: Profile,
    /// Whether it was benched and is tried now: a report is awaited.
    pub probe: bool,
    /// The preferred profile that was passed over, and why, where there is one.
    pub instead_of: Option<Skipped>,
    /// Everything that was passed over; only where it was asked for.
    pub skipped: Vec<Skipped>,
}

#[derive(Debug, Clone)]
struct Live {
    profile: Profile,
    provider: u32,
    runtime: Runtime,
    /// Reports since the last note was taken.
    successes: u32,
    failures: u32,
    /// Reported and not taken; taken and not recorded yet.
    dirty: bool,
    in_flight: bool,
}

#[derive(Default)]
struct Known {
    /// By id, so that a choice among equals is always the same.
    profiles: Vec<Live>,
    orders: Vec<Order>,
    /// Services by number: comparing numbers is what a choice among thousands comes down to.
    providers: HashMap<Provider, u32>,
    dirty: usize,
    /// Nothing is taken any more: the last note was.
    sealed: bool,
    first_dirty: Option<Timestamp>,
    failovers: Vec<FailedOver>,
    /// Failovers by preferred and chosen profile: each is told once, until the preferred one is chosen again.
    told: HashSet<(ProfileId, ProfileId)>,
}

impl Known {
    fn place(&self, id: &str) -> Result<usize, usize> {
        self.profiles.binary_search_by(|live| live.profile.id.as_str().cmp(id))
    }

    fn number(&mut self, provider: &Provider) -> u32 {
        let next = u32::try_from(self.providers.len()).unwrap_or(u32::MAX);
        *self.providers.entry(provider.clone()).or_insert(next)
    }

    /// Takes a changed profile over. What was reported of another credential says nothing about this one.
    fn replace(&mut self, at: usize, profile: Profile, provider: u32) {
        let Some(live) = self.profiles.get_mut(at) else { return };
        if !live.profile.credential.is_same_grant(&profile.credential) {
            self.dirty -= usize::from(live.dirty);
            (live.dirty, live.in_flight, live.successes, live.failures) = (false, false, 0, 0);
        }
        (live.profile, live.provider) = (profile, provider);
    }

    fn touch(&mut self, at: usize, now: Timestamp, change: impl FnOnce(&mut Live)) {
        let Some(live) = self.profiles.get_mut(at) else { return };
        change(live);
        if !live.dirty {
            live.dirty = true;
            self.dirty += 1;
            self.first_dirty.get_or_insert(now);
        }
    }
}

/// The live view.
pub struct Registry {
    known: Mutex<Known>,
    window_ms: u64,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("profiles", &self.known().profiles.len()).finish_non_exhaustive()
    }
}

/// What puts candidates in order: the least comes first.
type Rank = (bool, usize, Timestamp, Timestamp);

impl Registry {
    /// Reads the state. `window_ms` is how long before its end a token counts as expiring.
    ///
    /// # Errors
    /// [`ApplyFault`] where it cannot be read.
    pub fn read(state: &dyn StateRead, window_ms: u64) -> Result<Self, ApplyFault> {
        let mut known = Known { orders: list_orders(state)?, ..Known::default() };
        for (record, runtime) in list_profiles(state)? {
            let provider = known.number(&record.profile.provider);
            known.profiles.push(live(record.profile, provider, runtime));
        }
        Ok(Self { known: Mutex::new(known), window_ms })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what a durable batch changed. What does not decode is not chosen.
    pub fn observe(&self, delta: &Delta) {
        let concerns = |key: &[u8]| matches!(key.first(), Some(&(PROFILES | RUNTIMES | ORDERS)));
        if !delta.iter().any(|(key, _)| concerns(key)) {
            return;
        }
        let mut known = self.known();
        for (key, value) in delta {
            let Some((kind, id)) = key.split_first() else { continue };
            let Ok(id) = std::str::from_utf8(id) else { continue };
            let value = value.as_deref();
            match *kind {
                PROFILES => {
                    let record = value.and_then(|bytes| codec::decode::<ProfileRecord>(bytes).ok());
                    let place = known.place(id);
                    match (record, place) {
                        (Some(record), place) => {
                            let provider = known.number(&record.profile.provider);
                            match place {
                                Ok(at) => {
                                    known.replace(at, record.profile, provider);
                                }
                                Err(at) => {
                                    known.profiles.insert(at, live(record.profile, provider, Runtime::default()));
                                }
                            }
                        }
                        (None, Ok(at)) => {
                            let gone = known.profiles.remove(at);
                            known.told.retain(|(preferred, _)| *preferred != gone.profile.id);
                            known.dirty -= usize::from(gone.dirty);
                        }
                        (None, Err(_)) => {}
                    }
                }
                RUNTIMES => {
                    let record = value.and_then(|bytes| codec::decode::<Runtime>(bytes).ok());
                    if let (Some(record), Ok(at)) = (record, known.place(id))
                        && let Some(live) = known.profiles.get_mut(at)
                    {
                        follow(live, record);
                    }
                }
                ORDERS => {
                    let order = value.and_then(|bytes| codec::decode::<Order>(bytes).ok());
                    let name = |order: &Order| format!("{}\0{}", order.scope, order.provider);
                    known.orders.retain(|order| name(order) != id);
                    known.orders.extend(order);
                    // In the order of the state, whatever order they came in.
                    known.orders.sort_by_cached_key(name);
                }
                _ => {}
            }
        }
    }

    /// Chooses. Agents' own profiles come before global ones, then the order that was given or recorded,
    /// then whoever failed least recently, then whoever was used least recently. `explain` lists every
    /// candidate that was passed over.
    ///
    /// # Errors
    /// Everything that was passed over, where nothing is left.
    pub fn select(&self, query: &Query, now: Timestamp, explain: bool) -> Result<Chosen, Vec<Skipped>> {
        let mut known = self.known();
        let wanted = query.provider.as_ref().map(|provider| known.providers.get(provider).copied());
        let mut given = places(&known, query).into_iter().peekable();
        let mut best: Option<(Rank, usize, bool)> = None;
        let mut preferred: Option<(Rank, usize, Skip, Option<Timestamp>)> = None;
        let mut skipped = Vec::with_capacity(if explain { known.profiles.len() } else { 0 });
        let mut passed = Vec::new();
        let (mut keys, mut oauth) = (false, false);
        for (at, live) in known.profiles.iter().enumerate() {
            let place = given.next_if(|(ordered, _)| *ordered == at).map_or(usize::MAX, |(_, place)| place);
            let (skip, until, probe) = look(live, query, wanted, now, self.window_ms);
            if let Some(why) = skip
                && !why.is_state()
            {
                if explain {
                    skipped.push(Skipped { profile: live.profile.id.clone(), why, until });
                }
                continue;
            }
            let never = Timestamp::from_millis(0);
            let global = live.profile.scope == crate::base::ProfileScope::Global;
            let (failed, chosen) = (live.runtime.last_failure, live.runtime.last_used);
            let rank = (global, place, failed.unwrap_or(never), chosen.unwrap_or(never));
            match skip {
                Some(why) => {
                    // Preference is the order alone: a failure is why it is passed over, not a lower rank.
                    let wish = (global, place, never, never);
                    if preferred.as_ref().is_none_or(|(best, ..)| wish < *best) {
                        preferred = Some((wish, at, why, until));
                    }
                    if explain {
                        skipped.push(Skipped { profile: live.profile.id.clone(), why, until });
                    } else {
                        passed.push((at, why, until));
                    }
                }
                None => {
                    match live.profile.credential.kind() {
                        CredentialType::ApiKey => keys = true,
                        CredentialType::Oauth => oauth = true,
                    }
                    if best.as_ref().is_none_or(|(least, ..)| rank < *least) {
                        if let Some((_, before, _)) = best.replace((rank, at, probe))
                            && explain
                        {
                            skipped.extend(outranked(&known, before));
                        }
                    } else if explain {
                        skipped.push(Skipped { profile: live.profile.id.clone(), why: Skip::Outranked, until: None });
                    }
                }
            }
        }
        let Some((rank, at, probe)) = best else {
            let named = passed.into_iter().filter_map(|(at, why, until)| {
                Some(Skipped { profile: known.profiles.get(at)?.profile.id.clone(), why, until })
            });
            skipped.extend(named);
            return Err(skipped);
        };
        let instead_of = preferred.and_then(|(wish, at, why, until)| {
            let profile = &known.profiles.get(at)?.profile;
            let kind = profile.credential.kind();
            let (wish, chosen) = ((wish.0, wish.1), (rank.0, rank.1));
            let kind_is_left = if kind == CredentialType::ApiKey { keys } else { oauth };
            // Among equals another one is no surprise, unless the last of its kind is out.
            let instead = wish < chosen || (wish == chosen && !kind_is_left);
            instead.then(|| (Skipped { profile: profile.id.clone(), why, until }, kind))
        });
        known.touch(at, now, |live| {
            live.runtime.last_used = Some(now);
            live.runtime.probe_until = probe.then(|| now.plus_millis(limits::PROBE_MS));
        });
        let Some(profile) = known.profiles.get(at).map(|live| live.profile.clone()) else { return Err(skipped) };
        tell(&mut known, &profile, instead_of.as_ref());
        Ok(Chosen { profile, probe, instead_of: instead_of.map(|(skipped, _)| skipped), skipped })
    }

    /// Takes a report of success. False where there is no such profile.
    pub fn succeeded(&self, id: &ProfileId, now: Timestamp) -> bool {
        let mut known = self.known();
        if known.sealed {
            return false;
        }
        let Ok(at) = known.place(id.as_str()) else { return false };
        known.touch(at, now, |live| {
            live.successes = live.successes.saturating_add(1);
            live.runtime.last_success = Some(now);
            // An answer that comes late, of before the bench, does not end it.
            if !is_benched(&live.runtime, now) {
                live.runtime.failure_count = 0;
                live.runtime.cooldown_until = None;
                live.runtime.probe_until = None;
            }
        });
        true
    }

    /// Takes a report of failure; the profile may be benched from here on, longer with every failure in a
    /// row. `random` spreads the bench; `retry_after_ms` is what the provider asks for. False where there
    /// is no such profile.
    pub fn failed(
        &self,
        id: &ProfileId,
        kind: FailureKind,
        retry_after_ms: Option<u64>,
        random: u32,
        now: Timestamp,
    ) -> bool {
        let mut known = self.known();
        if known.sealed {
            return false;
        }
        let Ok(at) = known.place(id.as_str()) else { return false };
        known.touch(at, now, |live| {
            // Whatever the kind: a failed probe benches again at once.
            let probed = breaker_tripped(&live.runtime);
            live.failures = live.failures.saturating_add(1);
            let runtime = &mut live.runtime;
            let asked = retry_after_ms.map(|asked| now.plus_millis(asked.min(86_400_000)));
            if is_benched(runtime, now) {
                // Twenty requests that fail together are one failure; what the provider asks for counts.
                runtime.last_failure = Some(now);
                runtime.cooldown_until = runtime.cooldown_until.max(asked);
                return;
            }
            runtime.probe_until = None;
            runtime.failure_count = runtime.failure_count.saturating_add(1);
            runtime.last_failure = Some(now);
            runtime.failure = Some(kind);
            let wait = match bench_ms(kind, runtime.failure_count) {
                0 if probed => bench_ms(kind, limits::BREAKER_THRESHOLD),
                wait => wait,
            };
            let bench = jittered(wait, random);
            let until = (bench > 0).then(|| now.plus_millis(bench)).max(asked);
            runtime.cooldown_until = runtime.cooldown_until.max(until);
        });
        true
    }

    /// Takes no report from here on: what is taken next is the last.
    pub fn seal(&self) {
        self.known().sealed = true;
    }

    /// Whether no report is taken any more.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.known().sealed
    }

    /// Whether reports wait that should be recorded by now.
    pub fn due(&self, now: Timestamp) -> bool {
        let known = self.known();
        let waited = |first: Timestamp| now.as_millis().saturating_sub(first.as_millis()) >= limits::USAGE_WINDOW_MS;
        !known.failovers.is_empty() || known.first_dirty.is_some_and(waited)
    }

    /// Takes what waits to be recorded. [`Registry::recorded`] must follow.
    pub fn take(&self) -> (Vec<UsageNote>, Vec<FailedOver>) {
        let mut known = self.known();
        let mut notes = Vec::with_capacity(known.dirty);
        if known.dirty > 0 {
            for live in known.profiles.iter_mut().filter(|live| live.dirty) {
                (live.dirty, live.in_flight) = (false, true);
                let runtime = &live.runtime;
                notes.push(UsageNote {
                    profile: live.profile.id.clone(),
                    successes: std::mem::take(&mut live.successes),
                    failures: std::mem::take(&mut live.failures),
                    last_used: runtime.last_used,
                    last_success: runtime.last_success,
                    last_failure: runtime.last_failure,
                    failure: runtime.failure,
                    failure_count: runtime.failure_count,
                    cooldown_until: runtime.cooldown_until,
                    probe_until: runtime.probe_until,
                });
            }
        }
        (known.dirty, known.first_dirty) = (0, None);
        (notes, std::mem::take(&mut known.failovers))
    }

    /// Gives back what was taken and could not be recorded.
    pub fn put_back(&self, notes: &[UsageNote], failovers: Vec<FailedOver>, now: Timestamp) {
        let mut known = self.known();
        for note in notes {
            let Ok(at) = known.place(note.profile.as_str()) else { continue };
            known.touch(at, now, |live| {
                live.in_flight = false;
                live.successes = live.successes.saturating_add(note.successes);
                live.failures = live.failures.saturating_add(note.failures);
            });
        }
        let room = limits::FAILOVERS_MAX.saturating_sub(known.failovers.len());
        known.failovers.extend(failovers.into_iter().take(room));
    }

    /// Says that what was taken is recorded: the state is right again for whatever was not used since.
    pub fn recorded(&self, notes: &[UsageNote]) {
        let mut known = self.known();
        for note in notes {
            if let Ok(at) = known.place(note.profile.as_str())
                && let Some(live) = known.profiles.get_mut(at)
            {
                live.in_flight = false;
            }
        }
    }
}

const fn live(profile: Profile, provider: u32, runtime: Runtime) -> Live {
    Live { profile, provider, runtime, successes: 0, failures: 0, dirty: false, in_flight: false }
}

/// Takes the state's record over, but for what was reported and is not in it yet.
fn follow(live: &mut Live, record: Runtime) {
    let before = std::mem::replace(&mut live.runtime, record);
    if live.dirty || live.in_flight {
        let mut note = UsageNote {
            profile: live.profile.id.clone(),
            successes: 0,
            failures: 0,
            last_used: before.last_used,
            last_success: before.last_success,
            last_failure: before.last_failure,
            failure: before.failure,
            failure_count: before.failure_count,
            cooldown_until: before.cooldown_until,
            probe_until: before.probe_until,
        };
        let fresh = live.runtime.refreshed > before.refreshed;
        // A person's word ends a bench that the state knows to be over.
        if !fresh && before.terminal.is_some() && live.runtime.terminal.is_none() {
            (note.failure_count, note.cooldown_until) = (live.runtime.failure_count, live.runtime.cooldown_until);
            note.probe_until = live.runtime.probe_until;
        }
        used(&mut live.runtime, &note);
        if fresh {
            cure(&mut live.runtime);
        }
    }
}

/// The profiles that an order names, as they stand in the list, each with its place in the order.
fn places(known: &Known, query: &Query) -> Vec<(usize, usize)> {
    let order = recorded_order(known, query);
    let named = order.iter().enumerate().filter_map(|(place, id)| Some((known.place(id.as_str()).ok()?, place)));
    let mut places: Vec<_> = named.collect();
    places.sort_unstable();
    // Who is named twice stands where he is named first.
    places.dedup_by_key(|(at, _)| *at);
    places
}

fn recorded_order(known: &Known, query: &Query) -> Vec<ProfileId> {
    if !query.order.is_empty() {
        return query.order.clone();
    }
    let mut of_global = Vec::new();
    let mut of_agent = Vec::new();
    for order in &known.orders {
        if query.provider.as_ref().is_some_and(|provider| *provider != order.provider) {
            continue;
        }
        match &order.scope {
            crate::base::ProfileScope::Global => of_global.extend(order.profiles.iter().cloned()),
            scope if scope.admits(query.agent.as_ref()) => of_agent.extend(order.profiles.iter().cloned()),
            crate::base::ProfileScope::Agent(_) => {}
        }
    }
    of_agent.extend(of_global);
    of_agent
}

/// Whether a candidate is passed over, until when, and whether choosing it is a trial.
fn look(
    live: &Live,
    query: &Query,
    wanted: Option<Option<u32>>,
    now: Timestamp,
    window_ms: u64,
) -> (Option<Skip>, Option<Timestamp>, bool) {
    let profile = &live.profile;
    let out = |why| (Some(why), None, false);
    if wanted.is_some_and(|wanted| wanted != Some(live.provider)) {
        return out(Skip::Provider);
    }
    if !profile.scope.admits(query.agent.as_ref()) {
        return out(Skip::Scope);
    }
    if !query.allow.is_empty() && !query.allow.contains(&profile.credential.kind()) {
        return out(Skip::CredentialType);
    }
    if query.deny.contains(&profile.id) {
        return out(Skip::Denied);
    }
    if !profile.enabled {
        return out(Skip::Disabled);
    }
    if plain(&live.runtime) && profile.credential.kind() == CredentialType::ApiKey {
        return (None, None, false);
    }
    let token = TokenExpiry::of(profile, &live.runtime, now, window_ms);
    let (stands, until) = eligibility(profile, &live.runtime, token, now);
    match stands {
        Eligibility::Disabled => out(Skip::Disabled),
        Eligibility::NeedsPerson => out(Skip::NeedsPerson),
        Eligibility::TokenEnded => (Some(Skip::TokenEnded), until, false),
        Eligibility::CoolingDown => (Some(Skip::CoolingDown), until, false),
        Eligibility::HalfOpen => match live.runtime.probe_until.filter(|until| now < *until) {
            Some(until) => (Some(Skip::Probing), Some(until), false),
            None => (None, None, true),
        },
        Eligibility::Eligible => (None, None, false),
    }
}

fn is_benched(runtime: &Runtime, now: Timestamp) -> bool {
    runtime.cooldown_until.is_some_and(|until| now < until)
}

/// Whether nothing ever went wrong: most profiles, most of the time.
const fn plain(runtime: &Runtime) -> bool {
    runtime.terminal.is_none() && runtime.cooldown_until.is_none()
}

fn outranked(known: &Known, at: usize) -> Option<Skipped> {
    let profile = known.profiles.get(at)?.profile.id.clone();
    Some(Skipped { profile, why: Skip::Outranked, until: None })
}

/// Notes a failover to another kind of credential once, until the preferred profile is chosen again.
fn tell(known: &mut Known, chosen: &Profile, instead_of: Option<&(Skipped, CredentialType)>) {
    known.told.retain(|(preferred, _)| *preferred != chosen.id);
    let Some((skipped, from)) = instead_of else { return };
    let to = chosen.credential.kind();
    let pair = (skipped.profile.clone(), chosen.id.clone());
    if *from == to || known.failovers.len() >= limits::FAILOVERS_MAX || !known.told.insert(pair) {
        return;
    }
    known.failovers.push(FailedOver {
        preferred: skipped.profile.clone(),
        from: *from,
        chosen: chosen.id.clone(),
        to,
        why: skipped.why.name().to_owned(),
    });
}
