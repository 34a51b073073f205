//! Selection against a model written from the rules alone, and each rule by name.

use std::collections::{BTreeMap, BTreeSet};

use palyra_ledger::auth::{AuthError, Query, RefreshResult, Skip};
use palyra_ledger::event::auth::{CredentialSource, CredentialType, FailureKind, LoginFlow, OauthSource, Profile};
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Clock, Error, Ledger, Timestamp, limits};
use proptest::prelude::*;

use super::common::{
    DAY, HOUR, MINUTE, SECOND, START, at, cases, disk, events, id, key, ledger, oauth, open, place, put, refusal,
    source, tokens,
};

const IDS: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];
const PROVIDERS: [&str; 2] = ["openai", "custom:corp"];
const SCOPES: [&str; 3] = ["global", "agent:ada", "agent:bob"];
/// A quarter of an hour of window would hide the states that are close to each other: the default stands.
const WINDOW: u64 = 5 * MINUTE;
const LEASE: u64 = MINUTE;
const PROBE: u64 = 30 * SECOND;

// ---- the model ---------------------------------------------------------------------------------------

#[derive(Debug, Clone, Default)]
struct Use {
    used: Option<u64>,
    failed: Option<u64>,
    kind: Option<FailureKind>,
    streak: u32,
    bench: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Grant {
    has_token: bool,
    ends: Option<u64>,
    lease: Option<u64>,
    /// Whether it is itself the try after a lost answer.
    again: bool,
    failures: u32,
    retry: Option<u64>,
    terminal: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    profile: Profile,
    usage: Use,
    grant: Grant,
    /// Somebody tries it until then.
    probe: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    HalfOpen,
    Out(Skip, Option<u64>),
}

impl Entry {
    fn is_oauth(&self) -> bool {
        self.profile.credential.kind() == CredentialType::Oauth
    }

    /// The rules of health, in the order in which a reason is given.
    fn state(&self, now: u64) -> State {
        if !self.profile.enabled {
            return State::Out(Skip::Disabled, None);
        }
        if self.is_oauth() {
            let living = self.grant.ends.is_some_and(|end| end > now);
            if self.grant.terminal && !living {
                return State::Out(Skip::NeedsPerson, None);
            }
            let ended = self.grant.ends.is_some_and(|end| end <= now);
            let missing = self.grant.ends.is_none() && !self.grant.has_token;
            if (ended || missing) && self.grant.again && self.grant.lease.is_some_and(|until| until <= now) {
                return State::Out(Skip::NeedsPerson, None);
            }
            if ended || missing {
                return State::Out(Skip::TokenEnded, self.grant.retry.filter(|at| *at > now));
            }
        }
        match self.usage.bench {
            Some(until) if until > now => State::Out(Skip::CoolingDown, Some(until)),
            Some(_) if self.usage.streak > 0 => match self.probe {
                Some(until) if until > now => State::Out(Skip::Probing, Some(until)),
                _ => State::HalfOpen,
            },
            _ => State::Ready,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Model {
    entries: BTreeMap<String, Entry>,
    /// By scope and provider.
    orders: BTreeMap<(String, String), Vec<String>>,
    told: BTreeSet<(String, String)>,
    failovers: Vec<(String, String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Picked {
    id: String,
    probe: bool,
    instead_of: Option<(String, Skip, Option<u64>)>,
}

type SkippedSet = BTreeSet<(String, Skip, Option<u64>)>;

impl Model {
    fn places(&self, query: &Query) -> Vec<String> {
        if !query.order.is_empty() {
            return query.order.iter().map(ToString::to_string).collect();
        }
        let agent = query.agent.as_ref().map(|agent| format!("agent:{agent}"));
        let wanted = query.provider.as_ref().map(ToString::to_string);
        let of = |scope: &str| {
            self.orders
                .iter()
                .filter(|((for_whom, provider), _)| {
                    for_whom == scope && wanted.as_ref().is_none_or(|wanted| wanted == provider)
                })
                .flat_map(|(_, ids)| ids.clone())
                .collect::<Vec<_>>()
        };
        // What an agent's own order says comes before what the global one says.
        let mut places = agent.map(|agent| of(&agent)).unwrap_or_default();
        places.extend(of("global"));
        places
    }

    fn select(&mut self, query: &Query, now: u64) -> (Option<Picked>, SkippedSet) {
        let places = self.places(query);
        let mut skipped = SkippedSet::new();
        let mut ready = Vec::new();
        let mut held = Vec::new();
        for (name, entry) in &self.entries {
            let profile = &entry.profile;
            let own = match profile.scope.to_string().strip_prefix("agent:") {
                None => false,
                Some(owner) if query.agent.as_ref().is_some_and(|agent| agent.as_str() == owner) => true,
                Some(_) if query.provider.as_ref().is_some_and(|wanted| *wanted != profile.provider) => false,
                Some(_) => {
                    skipped.insert((name.clone(), Skip::Scope, None));
                    continue;
                }
            };
            let refused = if query.provider.as_ref().is_some_and(|wanted| *wanted != profile.provider) {
                Some(Skip::Provider)
            } else if !query.allow.is_empty() && !query.allow.contains(&profile.credential.kind()) {
                Some(Skip::CredentialType)
            } else if query.deny.contains(&profile.id) {
                Some(Skip::Denied)
            } else {
                None
            };
            if let Some(why) = refused {
                skipped.insert((name.clone(), why, None));
                continue;
            }
            let place = places.iter().position(|other| other == name).unwrap_or(usize::MAX);
            let wish = (!own, place);
            match entry.state(now) {
                State::Out(Skip::Disabled, _) => {
                    skipped.insert((name.clone(), Skip::Disabled, None));
                }
                State::Out(why, until) => {
                    held.push((wish, name.clone(), why, until));
                    skipped.insert((name.clone(), why, until));
                }
                state => {
                    let usage = &entry.usage;
                    let rank = (wish, usage.failed.unwrap_or(0), usage.used.unwrap_or(0), name.clone());
                    ready.push((rank, state == State::HalfOpen));
                }
            }
        }
        ready.sort();
        let Some((((wish, ..), probe), name)) = ready.first().map(|(rank, probe)| {
            let ((wish, failed, used, name), probe) = (rank.clone(), *probe);
            (((wish, failed, used), probe), name)
        }) else {
            return (None, skipped);
        };
        skipped.extend(ready.iter().skip(1).map(|((.., name), _)| (name.clone(), Skip::Outranked, None)));
        held.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let kind = |name: &str| self.entries[name].profile.credential.kind();
        // Among equals another one is no surprise, unless the last of its kind is out.
        let left = |of: &str| ready.iter().any(|((.., name), _)| kind(name) == kind(of));
        let instead_of = held
            .into_iter()
            .next()
            .filter(|(its, of, ..)| *its < wish || (*its == wish && !left(of)))
            .map(|(_, name, why, until)| (name, why, until));
        let told = instead_of.as_ref().filter(|(preferred, ..)| kind(preferred) != kind(&name)).cloned();
        self.told.retain(|(preferred, _)| *preferred != name);
        if let Some((preferred, why, _)) = told
            && self.told.insert((preferred.clone(), name.clone()))
        {
            self.failovers.push((preferred, name.clone(), why.name().to_owned()));
        }
        let entry = self.entries.get_mut(&name).unwrap();
        entry.usage.used = Some(now);
        entry.probe = probe.then_some(now + PROBE);
        (Some(Picked { id: name, probe, instead_of }), skipped)
    }

    fn set(&mut self, profile: &Profile, ends: Option<u64>, now: u64) -> bool {
        let name = profile.id.to_string();
        match self.entries.get_mut(&name) {
            Some(entry) if entry.profile.credential.is_same_grant(&profile.credential) => {
                entry.profile = profile.clone();
                if ends.is_some() {
                    entry.grant.ends = ends;
                    entry.grant.has_token = true;
                }
            }
            // The token is with somebody: another credential now would lose what it becomes.
            Some(entry) if entry.grant.lease.is_some_and(|until| until > now) => return false,
            _ => {
                let grant = Grant { has_token: ends.is_some(), ends, ..Grant::default() };
                let entry = Entry { profile: profile.clone(), usage: Use::default(), grant, probe: None };
                self.entries.insert(name, entry);
            }
        }
        true
    }

    fn renewed(&mut self, name: &str, ends: Option<u64>) {
        let entry = self.entries.get_mut(name).unwrap();
        entry.grant = Grant { has_token: true, ends, ..Grant::default() };
        let cured = [FailureKind::AuthInvalid, FailureKind::RefreshDue, FailureKind::RefreshFailed];
        if entry.usage.kind.is_some_and(|kind| cured.contains(&kind)) {
            (entry.usage.streak, entry.usage.bench) = (0, None);
        }
    }
}

/// How long a failure benches, before jitter: the table of the breaker (see `breaker.rs`).
fn bench(kind: FailureKind, streak: u32) -> u64 {
    super::breaker::bench(kind, streak)
}

// ---- the steps ---------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Outcome {
    Renewed(Option<u64>),
    Refused,
    Failed(Option<u64>),
    Lost,
}

#[derive(Debug, Clone)]
enum Step {
    Set { profile: Box<Profile>, ends: Option<i64> },
    Enable(usize, bool),
    Delete(usize),
    Clear(usize),
    Order { scope: usize, provider: usize, ids: Vec<usize> },
    Advance(u64),
    Select(Box<Query>),
    Success(usize),
    Failure(usize, FailureKind, Option<u64>),
    Refresh(usize, Outcome),
    Login(usize, Option<u64>),
    Flush,
    Reopen,
    Crash,
}

fn which() -> impl Strategy<Value = usize> {
    0..IDS.len()
}

fn profile() -> impl Strategy<Value = Box<Profile>> {
    (which(), 0..PROVIDERS.len(), prop::sample::select(vec![0_usize, 0, 1, 2]), any::<bool>(), 0_u8..2, 0_u8..8)
        .prop_map(|(index, provider, scope, is_oauth, variant, name)| {
            let make = if is_oauth { oauth } else { key };
            let mut profile = make(IDS[index], PROVIDERS[provider], SCOPES[scope]);
            profile.enabled = name != 0;
            if variant == 1 {
                match &mut profile.credential {
                    CredentialSource::ApiKey(place) => *place = "global/keys/other".parse().unwrap(),
                    // Another grant: with more scopes it would be the same.
                    CredentialSource::Oauth(source) => source.access = place(IDS[index], "other"),
                }
            }
            Box::new(profile)
        })
}

fn query() -> impl Strategy<Value = Box<Query>> {
    let types = prop::sample::select(vec![
        vec![],
        vec![],
        vec![CredentialType::ApiKey],
        vec![CredentialType::Oauth],
        vec![CredentialType::Oauth, CredentialType::ApiKey],
    ]);
    let agents = prop::sample::select(vec![None, Some("ada"), Some("ada"), Some("bob"), Some("eve")]);
    (
        prop::option::of(0..PROVIDERS.len()),
        agents,
        types,
        prop::collection::vec(which(), 0..2),
        prop::option::weighted(0.2, prop::collection::vec(which(), 1..4)),
    )
        .prop_map(|(provider, agent, allow, deny, order)| {
            Box::new(Query {
                provider: provider.map(|at| PROVIDERS[at].parse().unwrap()),
                agent: agent.map(|agent| agent.parse().unwrap()),
                allow,
                deny: deny.into_iter().map(|at| id(IDS[at])).collect(),
                order: order.unwrap_or_default().into_iter().map(|at| id(IDS[at])).collect(),
            })
        })
}

fn ends() -> impl Strategy<Value = Option<u64>> {
    prop::sample::select(vec![None, Some(SECOND), Some(MINUTE), Some(WINDOW), Some(20 * MINUTE), Some(DAY)])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => ends().prop_map(Outcome::Renewed),
        1 => Just(Outcome::Refused),
        2 => prop::option::of(1_u64..10 * MINUTE).prop_map(Outcome::Failed),
        1 => Just(Outcome::Lost),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let set_ends = prop::sample::select(vec![None, None, Some(-1_i64), Some(60_000), Some(86_400_000)]);
    let kinds = prop::sample::select(FailureKind::ALL.to_vec());
    let advance = prop::sample::select(vec![1, SECOND, 9 * SECOND, 31 * SECOND, MINUTE, 6 * MINUTE, HOUR, DAY]);
    prop_oneof![
        6 => (profile(), set_ends).prop_map(|(profile, ends)| Step::Set { profile, ends }),
        1 => (which(), any::<bool>()).prop_map(|(at, on)| Step::Enable(at, on)),
        1 => which().prop_map(Step::Delete),
        1 => which().prop_map(Step::Clear),
        3 => (0..SCOPES.len(), 0..PROVIDERS.len(), prop::collection::vec(which(), 0..4))
            .prop_map(|(scope, provider, ids)| Step::Order { scope, provider, ids }),
        6 => advance.prop_map(Step::Advance),
        14 => query().prop_map(Step::Select),
        3 => which().prop_map(Step::Success),
        6 => (which(), kinds, prop::option::weighted(0.3, 1_u64..2 * DAY)).prop_map(|(at, k, w)| Step::Failure(at, k, w)),
        3 => (which(), outcome()).prop_map(|(at, outcome)| Step::Refresh(at, outcome)),
        1 => (which(), ends()).prop_map(|(at, ends)| Step::Login(at, ends)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

// ---- both beside each other --------------------------------------------------------------------------

struct Run {
    clock: ManualClock,
    disk: SimDisk,
    ledger: Ledger,
    seed: u64,
    model: Model,
}

/// What a refusal lists, read back from its words.
fn listed(text: &str) -> SkippedSet {
    let rest = text.strip_prefix("no profile can be used: ").unwrap();
    if rest == "none fits" {
        return SkippedSet::new();
    }
    let all = [
        Skip::Provider,
        Skip::Scope,
        Skip::CredentialType,
        Skip::Denied,
        Skip::Disabled,
        Skip::CoolingDown,
        Skip::Probing,
        Skip::TokenEnded,
        Skip::NeedsPerson,
    ];
    rest.split(", ")
        .map(|part| {
            let (name, rest) = part.split_once(" is ").unwrap();
            let (why, until) = rest.split_once(" until ").map_or((rest, None), |(why, until)| (why, Some(until)));
            let why = *all.iter().find(|skip| skip.name() == why).unwrap_or_else(|| panic!("{part}"));
            let until = until.map(|text| Timestamp::parse(text, at(0), true).unwrap().as_millis());
            (name.to_owned(), why, until)
        })
        .collect()
}

impl Run {
    fn now(&self) -> u64 {
        self.clock.now().as_millis()
    }

    fn reopen(&mut self, disk: SimDisk) {
        self.seed += 1;
        self.disk = disk;
        self.ledger = open(&self.disk, self.seed, &self.clock);
        // What was told lives with the process; a trial is recorded, and the next process waits for it.
        self.model.told.clear();
    }

    fn step(&mut self, step: &Step) {
        let (auth, now) = (self.ledger.auth(), self.now());
        let known = |at: usize, model: &Model| model.entries.contains_key(IDS[at]);
        match step {
            Step::Set { profile, ends } => {
                let ends = ends.filter(|_| profile.credential.kind() == CredentialType::Oauth);
                let ends = ends.map(|moved| now.saturating_add_signed(moved));
                let done = auth.set(Profile::clone(profile), ends.map(at));
                assert_eq!(done.is_ok(), self.model.set(profile, ends, now), "{done:?}");
            }
            Step::Enable(place, on) => {
                assert_eq!(auth.enable(&id(IDS[*place]), *on).is_ok(), known(*place, &self.model));
                if let Some(entry) = self.model.entries.get_mut(IDS[*place]) {
                    entry.profile.enabled = *on;
                }
            }
            Step::Delete(place) => {
                let entry = self.model.entries.get(IDS[*place]);
                let free = entry.is_some_and(|entry| entry.grant.lease.is_none_or(|until| until <= now));
                assert_eq!(auth.delete(&id(IDS[*place])).is_ok(), free);
                if free {
                    self.model.entries.remove(IDS[*place]);
                    self.model.told.retain(|(preferred, _)| preferred != IDS[*place]);
                    for ids in self.model.orders.values_mut() {
                        ids.retain(|name| name != IDS[*place]);
                    }
                    self.model.orders.retain(|_, ids| !ids.is_empty());
                }
            }
            Step::Clear(place) => {
                assert_eq!(auth.clear(&id(IDS[*place])).is_ok(), known(*place, &self.model));
                if let Some(entry) = self.model.entries.get_mut(IDS[*place]) {
                    entry.usage = Use { used: entry.usage.used, ..Use::default() };
                    entry.probe = None;
                    entry.grant = Grant { failures: 0, retry: None, terminal: false, ..entry.grant.clone() };
                }
            }
            Step::Order { scope, provider, ids } => {
                let names: Vec<_> = ids.iter().map(|at| IDS[*at].to_owned()).collect();
                let fits = names.iter().enumerate().all(|(place, name)| {
                    !names[..place].contains(name)
                        && self
                            .model
                            .entries
                            .get(name)
                            .is_some_and(|entry| entry.profile.provider.to_string() == PROVIDERS[*provider])
                });
                let wanted = names.iter().map(|name| id(name)).collect();
                let done =
                    auth.set_order(SCOPES[*scope].parse().unwrap(), PROVIDERS[*provider].parse().unwrap(), wanted);
                assert_eq!(done.is_ok(), fits, "{done:?}");
                if fits {
                    let key = (SCOPES[*scope].to_owned(), PROVIDERS[*provider].to_owned());
                    self.model.orders.remove(&key);
                    if !names.is_empty() {
                        self.model.orders.insert(key, names);
                    }
                }
            }
            Step::Advance(by) => self.clock.advance(*by),
            Step::Select(query) => self.select(query),
            Step::Success(place) => {
                assert_eq!(auth.report_success(&id(IDS[*place])).is_ok(), known(*place, &self.model));
                if let Some(entry) = self.model.entries.get_mut(IDS[*place])
                    && entry.usage.bench.is_none_or(|until| until <= now)
                {
                    (entry.usage.streak, entry.usage.bench, entry.probe) = (0, None, None);
                }
            }
            Step::Failure(place, kind, wait) => self.failure(IDS[*place], *kind, *wait),
            Step::Refresh(place, outcome) => self.refresh(IDS[*place], outcome),
            Step::Login(place, ends) => {
                let Some(entry) = self.model.entries.get(IDS[*place]) else { return };
                let is_oauth = entry.is_oauth();
                let ends = ends.map(|ends| now + ends);
                let given = tokens("a", Some("r"), ends);
                let done = auth.logged_in(&entry.profile, LoginFlow::Device, &given);
                assert_eq!(done.is_ok(), is_oauth, "{done:?}");
                if is_oauth {
                    self.model.renewed(IDS[*place], ends);
                    // Another grant: its failures are not this one's.
                    let entry = self.model.entries.get_mut(IDS[*place]).unwrap();
                    entry.usage = Use { used: entry.usage.used, ..Use::default() };
                    entry.probe = None;
                }
            }
            Step::Flush => auth.flush_usage().unwrap(),
            Step::Reopen => {
                self.ledger.close().unwrap();
                self.reopen(self.disk.clone());
            }
            Step::Crash => {
                // What was not recorded yet is what a crash may take: a second of reports.
                auth.flush_usage().unwrap();
                self.reopen(self.disk.crash(self.seed));
            }
        }
    }

    fn failure(&mut self, name: &str, kind: FailureKind, wait: Option<u64>) {
        let (auth, now) = (self.ledger.auth(), self.now());
        assert_eq!(auth.report_failure(&id(name), kind, wait).is_ok(), self.model.entries.contains_key(name));
        let Some(entry) = self.model.entries.get_mut(name) else { return };
        let tripped = entry.usage.streak > 0 && entry.usage.bench.is_some();
        let usage = &mut entry.usage;
        if usage.bench.is_some_and(|until| now < until) {
            // One of those that were under way when the bench began; what the provider asks for counts.
            usage.failed = Some(now);
            usage.bench = usage.bench.max(wait.map(|wait| now + wait.min(DAY)));
            return;
        }
        usage.streak += 1;
        (usage.failed, usage.kind, entry.probe) = (Some(now), Some(kind), None);
        let base = match bench(kind, usage.streak) {
            // A failed trial benches at once, whatever its kind.
            0 if tripped => bench(kind, 3),
            base => base,
        };
        let asked = wait.unwrap_or(0).min(DAY);
        let bounds = ((base / 5 * 4).max(asked), (base / 5 * 6 + 5).max(asked));
        if bounds.1.saturating_sub(5) == 0 {
            return;
        }
        // How much jitter there was is seen from outside: nobody else may be chosen.
        let deny = IDS.iter().filter(|other| **other != name).map(|other| id(other)).collect();
        let provider = Some(entry.profile.provider.clone());
        let agent = entry.profile.scope.to_string().strip_prefix("agent:").map(|agent| agent.parse().unwrap());
        let seen = match auth.select(&Query { provider, agent, deny, ..Query::default() }, false) {
            Err(Error::Auth(AuthError::NoCandidate(skipped)))
                if skipped.iter().any(|one| one.profile == id(name) && one.why == Skip::CoolingDown) =>
            {
                skipped.iter().find(|one| one.profile == id(name)).and_then(|one| one.until).unwrap().as_millis()
            }
            Err(_) => {
                auth.flush_usage().unwrap();
                auth.profile(&id(name)).unwrap().1.cooldown_until.unwrap().as_millis()
            }
            Ok(chosen) => panic!("{name} failed ({}) and was chosen: {chosen:?}", kind.name()),
        };
        let before = usage.bench.unwrap_or(0);
        let (least, most) = (before.max(now + bounds.0), before.max(now + bounds.1));
        assert!((least..=most).contains(&seen), "{name} {}: {seen} is not in {least}..={most}", kind.name());
        usage.bench = Some(seen);
    }

    fn refresh(&mut self, name: &str, outcome: &Outcome) {
        let (auth, now) = (self.ledger.auth(), self.now());
        let begun = auth.begin_refresh(&id(name), true);
        let Some(entry) = self.model.entries.get_mut(name) else {
            assert!(begun.is_err());
            return;
        };
        let free = entry.is_oauth() && entry.grant.lease.is_none_or(|until| until <= now);
        assert_eq!(begun.is_ok(), free, "{begun:?}");
        let Ok(ticket) = begun else { return };
        entry.grant.again = entry.grant.lease.is_some();
        entry.grant.lease = Some(now + LEASE);
        match outcome {
            Outcome::Lost => {}
            Outcome::Renewed(ends) => {
                let ends = ends.map(|ends| now + ends);
                auth.renewed(&ticket.started, &tokens("a", Some("r"), ends)).unwrap();
                self.model.renewed(name, ends);
            }
            Outcome::Refused => {
                let what = "invalid_grant".to_owned();
                let result = RefreshResult::Refused { failure: FailureKind::AuthInvalid, what };
                auth.refresh_failed(&ticket.started, &result).unwrap();
                entry.grant = Grant { lease: None, retry: None, terminal: true, ..entry.grant.clone() };
            }
            Outcome::Failed(wait) => {
                let what = "it did not answer".to_owned();
                let failure = FailureKind::Transient;
                let result = RefreshResult::Failed { failure, what, retry_after_ms: *wait, unanswered: false };
                auth.refresh_failed(&ticket.started, &result).unwrap();
                let retry = auth.profile(&id(name)).unwrap().1.retry_at.unwrap().as_millis();
                entry.grant.failures += 1;
                entry.grant = Grant { lease: None, retry: Some(retry), terminal: false, ..entry.grant.clone() };
            }
        }
    }

    fn select(&mut self, query: &Query) {
        let now = self.now();
        let (expected, skipped) = self.model.select(query, now);
        let found = self.ledger.auth().select(query, true);
        let Some(expected) = expected else {
            let text = refusal(found).to_string();
            assert_eq!(listed(&text), skipped);
            return;
        };
        let found = found.unwrap_or_else(|error| panic!("{expected:?} expected: {error}"));
        let place = |skipped: &palyra_ledger::auth::Skipped| {
            (skipped.profile.to_string(), skipped.why, skipped.until.map(Timestamp::as_millis))
        };
        let picked = Picked {
            id: found.profile.id.to_string(),
            probe: found.probe,
            instead_of: found.instead_of.as_ref().map(place),
        };
        assert_eq!(picked, expected);
        assert_eq!(found.profile, self.model.entries[&expected.id].profile);
        assert_eq!(found.skipped.iter().map(place).collect::<SkippedSet>(), skipped);
        assert_eq!(found.skipped.len(), skipped.len(), "every candidate once");
    }
}

fn prepared() -> (SimDisk, ManualClock) {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let ledger = open(&disk, 2, &clock);
    for name in IDS {
        put(&ledger, &place(name, "refresh"), "token");
    }
    ledger.close().unwrap();
    disk.settle();
    (disk, clock)
}

#[test]
fn selection_does_what_its_model_does() {
    let (disk, _) = prepared();
    let mut runner = proptest::test_runner::TestRunner::new(cases(600, 0x5e1e));
    runner
        .run(&prop::collection::vec(step(), 20..90), |steps| {
            let (disk, clock) = (disk.snapshot(), ManualClock::default());
            let ledger = open(&disk, 3, &clock);
            let mut run = Run { clock, disk, ledger, seed: 3, model: Model::default() };
            for step in &steps {
                run.clock.advance(1);
                run.step(step);
            }
            run.ledger.auth().flush_usage().unwrap();
            let told: Vec<_> = events(&run.ledger, "failed_over")
                .iter()
                .map(|event| {
                    let text = |field: &str| event[field].as_str().unwrap().to_owned();
                    (text("preferred"), text("chosen"), text("why"))
                })
                .collect();
            assert_eq!(told, run.model.failovers);
            Ok(())
        })
        .unwrap();
}

// ---- each rule by name -------------------------------------------------------------------------------

fn chosen(ledger: &Ledger, query: &Query) -> String {
    ledger.auth().select(query, false).unwrap().profile.id.to_string()
}

fn any_query() -> Query {
    Query::default()
}

fn with_keys(names: &[&str]) -> (Ledger, SimDisk, ManualClock) {
    let (ledger, disk, clock) = ledger();
    for name in names {
        ledger.auth().set(key(name, "openai", "global"), None).unwrap();
    }
    (ledger, disk, clock)
}

fn ordered(ledger: &Ledger, names: &[&str]) {
    let ids = names.iter().map(|name| id(name)).collect();
    ledger.auth().set_order("global".parse().unwrap(), "openai".parse().unwrap(), ids).unwrap();
}

#[test]
fn nothing_is_chosen_from_an_empty_ledger_and_the_refusal_says_so() {
    let (ledger, ..) = ledger();
    assert_eq!(refusal(ledger.auth().select(&any_query(), true)).to_string(), "no profile can be used: none fits");
}

#[test]
fn a_disabled_profile_is_passed_over_with_its_reason() {
    let (ledger, ..) = with_keys(&["a", "b"]);
    ledger.auth().enable(&id("a"), false).unwrap();
    let found = ledger.auth().select(&any_query(), true).unwrap();
    assert_eq!(found.profile.id, id("b"));
    assert_eq!((found.skipped[0].profile.as_str(), found.skipped[0].why), ("a", Skip::Disabled));
    ledger.auth().enable(&id("a"), true).unwrap();
    assert_eq!(chosen(&ledger, &any_query()), "a");
}

#[test]
fn an_agent_gets_its_own_profile_before_a_global_one_that_stands_first_in_the_order() {
    let (ledger, ..) = with_keys(&["a"]);
    ledger.auth().set(key("own", "openai", "agent:ada"), None).unwrap();
    ordered(&ledger, &["a", "own"]);
    let ada = Query { agent: Some("ada".parse().unwrap()), ..any_query() };
    assert_eq!(chosen(&ledger, &ada), "own");
    // Nobody else gets it, and it is still there when the agent's own one is benched.
    assert_eq!(chosen(&ledger, &any_query()), "a");
    let bob = Query { agent: Some("bob".parse().unwrap()), ..any_query() };
    assert_eq!(ledger.auth().select(&bob, true).unwrap().skipped[0].why, Skip::Scope);
    ledger.auth().report_failure(&id("own"), FailureKind::Quota, None).unwrap();
    assert_eq!(chosen(&ledger, &ada), "a");
}

#[test]
fn an_agents_order_comes_before_the_global_one() {
    let (ledger, ..) = with_keys(&["a", "b"]);
    ordered(&ledger, &["a", "b"]);
    let auth = ledger.auth();
    auth.set_order("agent:ada".parse().unwrap(), "openai".parse().unwrap(), vec![id("b")]).unwrap();
    let ada = Query { agent: Some("ada".parse().unwrap()), ..any_query() };
    assert_eq!((chosen(&ledger, &ada), chosen(&ledger, &any_query())), ("b".to_owned(), "a".to_owned()));
}

#[test]
fn another_service_and_another_kind_of_credential_and_a_denied_one_are_passed_over() {
    let (ledger, ..) = with_keys(&["a", "b"]);
    ledger.auth().set(key("hook", "webhook", "global"), None).unwrap();
    ledger.auth().set(oauth("o", "openai", "global"), Some(at(START + DAY))).unwrap();
    let query = Query {
        provider: Some("openai".parse().unwrap()),
        allow: vec![CredentialType::ApiKey],
        deny: vec![id("a")],
        ..any_query()
    };
    let found = ledger.auth().select(&query, true).unwrap();
    assert_eq!(found.profile.id, id("b"));
    let mut reasons: Vec<_> =
        found.skipped.iter().map(|skipped| (skipped.profile.to_string(), skipped.why.name())).collect();
    reasons.sort();
    let expected = [("a", "denied"), ("hook", "other_provider"), ("o", "credential_type_not_allowed")];
    assert_eq!(reasons, expected.map(|(name, why)| (name.to_owned(), why)));
}

#[test]
fn without_an_order_the_least_recently_failed_then_the_least_recently_used_is_chosen() {
    let (ledger, _, clock) = with_keys(&["a", "b", "c"]);
    let mut turns = Vec::new();
    for _ in 0..6 {
        clock.advance(10);
        turns.push(chosen(&ledger, &any_query()));
    }
    assert_eq!(turns, ["a", "b", "c", "a", "b", "c"]);
    // One transient failure benches nobody, and still sends it to the end.
    ledger.auth().report_failure(&id("a"), FailureKind::Transient, None).unwrap();
    clock.advance(10);
    ledger.auth().report_failure(&id("b"), FailureKind::Transient, None).unwrap();
    clock.advance(10);
    assert_eq!(chosen(&ledger, &any_query()), "c");
    assert_eq!(chosen(&ledger, &any_query()), "c");
    let rest = Query { deny: vec![id("c")], ..any_query() };
    assert_eq!(chosen(&ledger, &rest), "a");
    assert_eq!(chosen(&ledger, &rest), "a");
}

#[test]
fn an_order_given_with_the_question_replaces_the_recorded_one() {
    let (ledger, ..) = with_keys(&["a", "b", "c"]);
    ordered(&ledger, &["c", "b"]);
    assert_eq!(chosen(&ledger, &any_query()), "c");
    let query = Query { order: vec![id("b")], ..any_query() };
    assert_eq!(chosen(&ledger, &query), "b");
    ordered(&ledger, &[]);
    assert_eq!(chosen(&ledger, &any_query()), "a");
}

#[test]
fn the_preferred_profile_is_returned_to_after_its_cooldown_and_says_when_that_is() {
    let (ledger, _, clock) = with_keys(&["a", "b"]);
    ordered(&ledger, &["b", "a"]);
    ledger.auth().report_failure(&id("b"), FailureKind::RateLimit, Some(90_000)).unwrap();
    let found = ledger.auth().select(&any_query(), true).unwrap();
    assert_eq!(found.profile.id, id("a"));
    let passed = found.instead_of.unwrap();
    assert_eq!((passed.profile, passed.why, passed.until), (id("b"), Skip::CoolingDown, Some(at(START + 90_000))));
    clock.advance(89_999);
    assert_eq!(chosen(&ledger, &any_query()), "a");
    clock.advance(1);
    let found = ledger.auth().select(&any_query(), true).unwrap();
    assert_eq!((found.profile.id.as_str(), found.probe, found.instead_of), ("b", true, None));
    ledger.auth().report_success(&id("b")).unwrap();
    let found = ledger.auth().select(&any_query(), true).unwrap();
    assert_eq!((found.profile.id.as_str(), found.probe), ("b", false));
}

#[test]
fn after_a_bench_exactly_one_caller_tries_and_the_others_are_told_until_when() {
    let (ledger, _, clock) = with_keys(&["a", "b"]);
    ordered(&ledger, &["a", "b"]);
    ledger.auth().report_failure(&id("a"), FailureKind::RateLimit, None).unwrap();
    clock.advance(2 * MINUTE);
    let auth = ledger.auth();
    let tries: Vec<_> = std::thread::scope(|scope| {
        let ask = || auth.select(&any_query(), false).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(tries.iter().filter(|found| found.probe).count(), 1);
    for found in tries.iter().filter(|found| !found.probe) {
        assert_eq!(found.profile.id, id("b"));
        let passed = found.instead_of.clone().unwrap();
        assert_eq!((passed.why, passed.until), (Skip::Probing, Some(at(START + 2 * MINUTE + PROBE))));
    }
    // Whoever tried never reports: another one may, half a minute later.
    clock.advance(PROBE);
    assert!(ledger.auth().select(&any_query(), false).unwrap().probe);
}

#[test]
fn failing_over_to_another_kind_of_credential_is_told_once_until_the_preferred_one_serves_again() {
    let (ledger, _, clock) = with_keys(&["key", "key2"]);
    let auth = ledger.auth();
    auth.set(oauth("o", "openai", "global"), Some(at(START + 30 * DAY))).unwrap();
    ordered(&ledger, &["o", "key", "key2"]);
    let told = || {
        auth.flush_usage().unwrap();
        events(&ledger, "failed_over").len()
    };
    assert_eq!((chosen(&ledger, &any_query()), told()), ("o".to_owned(), 0));
    auth.report_failure(&id("o"), FailureKind::RateLimit, Some(MINUTE * 10)).unwrap();
    for _ in 0..5 {
        assert_eq!(chosen(&ledger, &any_query()), "key");
        assert_eq!(told(), 1);
    }
    let event = &events(&ledger, "failed_over")[0];
    assert_eq!((event["preferred"].as_str(), event["chosen"].as_str()), (Some("o"), Some("key")));
    assert_eq!((event["from"].as_str(), event["to"].as_str()), (Some("oauth"), Some("api_key")));
    assert_eq!(event["why"].as_str(), Some("cooling_down"));
    // From a key to another key is no such event.
    auth.report_failure(&id("key"), FailureKind::Quota, None).unwrap();
    clock.advance(10 * MINUTE);
    assert_eq!(chosen(&ledger, &any_query()), "o");
    auth.report_success(&id("o")).unwrap();
    assert_eq!(told(), 1);
    auth.report_failure(&id("o"), FailureKind::RateLimit, None).unwrap();
    assert_eq!((chosen(&ledger, &any_query()), told()), ("key2".to_owned(), 2));
}

#[test]
fn reopening_in_the_middle_gives_the_same_choices() {
    let run = |reopen: bool| {
        let (mut ledger, mut disk, clock) = with_keys(&["a", "b", "c", "d"]);
        ordered(&ledger, &["c"]);
        let mut picks = Vec::new();
        for turn in 0..24_u64 {
            clock.advance(SECOND);
            if reopen && turn % 5 == 4 {
                if turn % 2 == 0 {
                    ledger.close().unwrap();
                } else {
                    ledger.auth().flush_usage().unwrap();
                    disk = disk.crash(turn);
                }
                ledger = open(&disk, 50 + turn, &clock);
            }
            let pick = chosen(&ledger, &any_query());
            if turn % 3 == 0 {
                // What the provider asks for is exact; jitter is not.
                ledger.auth().report_failure(&id(&pick), FailureKind::Transient, Some(4 * SECOND)).unwrap();
            } else {
                ledger.auth().report_success(&id(&pick)).unwrap();
            }
            picks.push(pick);
        }
        picks
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn orders_of_several_services_rank_the_same_before_and_after_reopening() {
    let (ledger, disk, clock) = with_keys(&["a"]);
    ledger.auth().set(key("b", "anthropic", "global"), None).unwrap();
    assert_eq!(chosen(&ledger, &any_query()), "a");
    ordered(&ledger, &["a"]);
    ledger.auth().set_order("global".parse().unwrap(), "anthropic".parse().unwrap(), vec![id("b")]).unwrap();
    let before = chosen(&ledger, &any_query());
    ledger.close().unwrap();
    assert_eq!(before, chosen(&open(&disk, 9, &clock), &any_query()));
}

#[test]
fn a_clock_that_runs_behind_the_log_shortens_no_bench() {
    let (ledger, _, clock) = with_keys(&["a"]);
    clock.advance(HOUR);
    ledger.auth().set(key("b", "openai", "global"), None).unwrap();
    clock.set(at(START));
    ledger.auth().report_failure(&id("a"), FailureKind::RateLimit, None).unwrap();
    let only_a = Query { deny: vec![id("b")], ..any_query() };
    let refused = refusal(ledger.auth().select(&only_a, false)).to_string();
    assert!(refused.contains("a is cooling_down until 2026-01-01T01:0"), "{refused}");
}

#[test]
fn another_credential_begins_anew_whether_or_not_its_failures_were_recorded() {
    for flush in [false, true] {
        let (ledger, ..) = with_keys(&["a"]);
        let auth = ledger.auth();
        auth.report_failure(&id("a"), FailureKind::AuthInvalid, None).unwrap();
        if flush {
            auth.flush_usage().unwrap();
        }
        let credential = CredentialSource::ApiKey("global/keys/new".parse().unwrap());
        auth.set(Profile { credential, ..key("a", "openai", "global") }, None).unwrap();
        let found = auth.select(&any_query(), false).unwrap_or_else(|error| panic!("flushed {flush}: {error}"));
        assert!(!found.probe);
        auth.flush_usage().unwrap();
        assert_eq!(auth.profile(&id("a")).unwrap().1.failure_count, 0);
    }
}

#[test]
fn a_fresh_token_does_not_end_a_bench_for_quota_whether_or_not_it_was_recorded() {
    for flush in [false, true] {
        let (ledger, _, clock) = ledger();
        let auth = ledger.auth();
        auth.logged_in(&oauth("o", "openai", "global"), LoginFlow::Code, &tokens("a", Some("r"), Some(START + HOUR)))
            .unwrap();
        let other = CredentialType::Oauth;
        assert!(auth.select(&Query { allow: vec![other], ..any_query() }, false).is_ok());
        auth.report_failure(&id("o"), FailureKind::Quota, None).unwrap();
        if flush {
            auth.flush_usage().unwrap();
        }
        clock.advance(1);
        let ticket = auth.begin_refresh(&id("o"), true).unwrap();
        auth.renewed(&ticket.started, &tokens("a2", Some("r2"), Some(START + 2 * HOUR))).unwrap();
        let refused = refusal(auth.select(&any_query(), false)).to_string();
        assert!(refused.contains("o is cooling_down until"), "flushed {flush}: {refused}");
    }
}

#[test]
fn a_report_about_a_profile_that_is_not_there_is_refused() {
    let (ledger, ..) = with_keys(&["a"]);
    let auth = ledger.auth();
    assert!(matches!(refusal(auth.report_success(&id("no"))), AuthError::NoProfile(_)));
    assert!(matches!(refusal(auth.report_failure(&id("no"), FailureKind::Quota, None)), AuthError::NoProfile(_)));
}

#[test]
fn a_choice_and_its_reports_write_nothing_until_they_are_flushed_in_one_event() {
    let (ledger, _, clock) = with_keys(&["a", "b"]);
    let head = ledger.log().head().unwrap().seq;
    for _ in 0..50 {
        clock.advance(1);
        let pick = chosen(&ledger, &any_query());
        ledger.auth().report_success(&id(&pick)).unwrap();
    }
    assert_eq!(ledger.log().head().unwrap().seq, head);
    ledger.auth().flush_usage().unwrap();
    assert_eq!(ledger.log().head().unwrap().seq, head + 1);
    let event = &events(&ledger, "usage_reported")[0];
    let counts: u64 = event["notes"].as_array().unwrap().iter().map(|note| note["successes"].as_u64().unwrap()).sum();
    assert_eq!(counts, 50);
    ledger.auth().flush_usage().unwrap();
    assert_eq!(ledger.log().head().unwrap().seq, head + 1, "nothing is told twice");
}

#[test]
fn a_profile_whose_references_name_one_secret_twice_is_refused() {
    let (ledger, ..) = ledger();
    let (access, refresh) = (place("a", "access"), place("a", "refresh"));
    for (second, third) in [
        (Some(access.clone()), None),
        (None, Some(access.clone())),
        (Some(refresh.clone()), Some(access)),
        (Some(refresh.clone()), Some(refresh)),
    ] {
        let source = OauthSource { refresh: second, client_secret: third, ..source("a") };
        let profile =
            Profile { credential: CredentialSource::Oauth(Box::new(source)), ..oauth("a", "openai", "global") };
        let refused = ledger.auth().set(profile, None).unwrap_err().to_string();
        assert!(refused.contains("two of them name the same secret"), "{refused}");
    }
    ledger.auth().set(oauth("a", "openai", "global"), None).unwrap();
}

#[test]
fn the_texts_of_a_profile_have_their_bounds() {
    let (ledger, ..) = ledger();
    let set = |name: &str, source: OauthSource| {
        let credential = CredentialSource::Oauth(Box::new(source));
        let profile = Profile { name: name.to_owned(), credential, ..oauth("a", "openai", "global") };
        ledger.auth().set(profile, None).map_err(|error| error.to_string())
    };
    let (most, more) = ("s".repeat(256), "s".repeat(257));
    let fullest = OauthSource { client_id: most.clone(), scopes: vec![most.clone(); 64], ..source("a") };
    set(&most, fullest.clone()).unwrap();
    set("", source("a")).unwrap();
    let scoped = |scope: &str| OauthSource { scopes: vec!["read".to_owned(), scope.to_owned()], ..source("a") };
    let client = |client: &str| OauthSource { client_id: client.to_owned(), ..source("a") };
    for (name, source, field) in [
        (&more[..], source("a"), "the name"),
        ("a\u{7f}b", source("a"), "the name"),
        ("", client(""), "the client id"),
        ("", client(&more), "the client id"),
        ("", OauthSource { scopes: vec![most.clone(); 65], ..fullest }, "the scopes"),
        ("", scoped(""), "a scope of the grant"),
        ("", scoped(&more), "a scope of the grant"),
        ("", scoped("a b"), "a scope of the grant"),
        ("", scoped("a\"b"), "a scope of the grant"),
        ("", scoped("a\\b"), "a scope of the grant"),
        ("", scoped("\u{e9}"), "a scope of the grant"),
        ("", OauthSource { token_endpoint: "no url".to_owned(), ..source("a") }, "the token endpoint"),
        ("", OauthSource { revocation_endpoint: Some("no url".to_owned()), ..source("a") }, "the revocation endpoint"),
    ] {
        let refused = set(name, source).unwrap_err();
        assert!(refused.contains(field), "{field}: {refused}");
    }
}

#[test]
fn an_order_has_its_bound_and_what_is_not_there_is_not_cleared() {
    let (ledger, ..) = ledger();
    let ids: Vec<_> = (0..=limits::ORDER_MAX).map(|number| id(&format!("k{number}"))).collect();
    for id in &ids {
        ledger.auth().set(key(id.as_str(), "openai", "global"), None).unwrap();
    }
    let order = |many: usize| {
        ledger.auth().set_order("global".parse().unwrap(), "openai".parse().unwrap(), ids[..many].to_vec())
    };
    order(limits::ORDER_MAX).unwrap();
    assert!(matches!(refusal(order(limits::ORDER_MAX + 1)), AuthError::Order(_)));
    assert!(matches!(refusal(ledger.auth().clear(&id("no"))), AuthError::NoProfile(_)));
}
