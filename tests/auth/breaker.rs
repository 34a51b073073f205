//! The circuit breaker and the state of tokens against a model.

use palyra_ledger::auth::{Eligibility, Health, Lease, Query, Runtime, Terminal, TokenExpiry, backoff_ms, standing};
use palyra_ledger::event::auth::{FailureKind, LoginFlow, Profile, RefreshCause};
use palyra_ledger::testing::ManualClock;
use palyra_ledger::{Clock, Ledger, Timestamp};
use proptest::prelude::*;

use super::common::{DAY, HOUR, MINUTE, SECOND, START, at, cases, disk, id, key, ledger, oauth, open, tokens};

const WINDOW: u64 = 5 * MINUTE;

/// Per kind: the first bench, the longest, and how many failures in a row are free.
const TABLE: [(FailureKind, u64, u64, u32); 7] = [
    (FailureKind::AuthInvalid, 5 * MINUTE, DAY, 0),
    (FailureKind::RefreshDue, 30 * SECOND, HOUR, 0),
    (FailureKind::RefreshFailed, 30 * SECOND, HOUR, 0),
    (FailureKind::Quota, HOUR, DAY, 0),
    (FailureKind::RateLimit, MINUTE, HOUR, 0),
    (FailureKind::Transient, 10 * SECOND, 10 * MINUTE, 2),
    (FailureKind::ConfigMissing, 5 * MINUTE, DAY, 0),
];

/// How long the n-th failure in a row benches, before jitter.
pub fn bench(kind: FailureKind, streak: u32) -> u64 {
    let (_, base, most, free) = *TABLE.iter().find(|(other, ..)| *other == kind).unwrap();
    let mut wait = base;
    match streak {
        0 => return 0,
        few if few <= free => return 0,
        _ => {}
    }
    for _ in 1..streak - free {
        wait = (wait * 2).min(most);
    }
    wait
}

fn only(name: &str) -> Query {
    Query { order: vec![id(name)], ..Query::default() }
}

fn one_key() -> (Ledger, ManualClock) {
    let (ledger, _, clock) = ledger();
    ledger.auth().set(key("a", "openai", "global"), None).unwrap();
    assert!(ledger.auth().select(&only("a"), false).is_ok());
    (ledger, clock)
}

/// The end of the bench, as recorded.
fn benched(ledger: &Ledger) -> Option<u64> {
    ledger.auth().flush_usage().unwrap();
    ledger.auth().profile(&id("a")).unwrap().1.cooldown_until.map(Timestamp::as_millis)
}

#[test]
fn every_kind_of_failure_has_its_row_in_the_table() {
    assert_eq!(FailureKind::ALL.len(), TABLE.len());
    let names: Vec<_> = FailureKind::ALL.iter().map(|kind| kind.name()).collect();
    let expected =
        ["auth_invalid", "refresh_due", "refresh_failed", "quota", "rate_limit", "transient", "config_missing"];
    assert_eq!(names, expected);
}

#[test]
fn every_kind_benches_at_its_threshold_then_twice_as_long_up_to_its_bound_and_spread_by_a_fifth() {
    for (kind, _, most, _) in TABLE {
        let (ledger, clock) = one_key();
        for streak in 1..=14 {
            let now = clock.now().as_millis();
            ledger.auth().report_failure(&id("a"), kind, None).unwrap();
            let wait = bench(kind, streak);
            match benched(&ledger) {
                None => assert_eq!(wait, 0, "{} {streak}", kind.name()),
                Some(until) => {
                    assert!(wait > 0, "{} {streak}", kind.name());
                    let found = until - now;
                    assert!(
                        (wait / 5 * 4..=wait / 5 * 6).contains(&found),
                        "{} {streak}: {found} is not within a fifth of {wait}",
                        kind.name()
                    );
                    assert!(found <= most / 5 * 6);
                    clock.set(at(until));
                }
            }
            clock.advance(1);
        }
    }
}

#[test]
fn jitter_spreads_over_both_halves_of_its_range() {
    let mut below = 0;
    for turn in 0..40 {
        let (ledger, clock) = one_key();
        // A ledger's random bytes follow its seed: another number of draws each time.
        for _ in 0..turn {
            ledger.auth().report_failure(&id("a"), FailureKind::RateLimit, None).unwrap();
        }
        clock.advance(3 * DAY);
        ledger.auth().report_success(&id("a")).unwrap();
        let now = clock.now().as_millis();
        ledger.auth().report_failure(&id("a"), FailureKind::Quota, None).unwrap();
        below += i32::from(benched(&ledger).unwrap() - now < HOUR);
    }
    assert!((3..=37).contains(&below), "{below} of 40 are below the middle");
}

#[test]
fn what_a_provider_asks_for_is_respected_up_to_a_day_and_never_shortens_a_bench() {
    for (asked, least) in [(1, 0), (10 * MINUTE, 10 * MINUTE), (DAY, DAY), (10 * DAY, DAY), (u64::MAX, DAY)] {
        let (ledger, clock) = one_key();
        let now = clock.now().as_millis();
        ledger.auth().report_failure(&id("a"), FailureKind::RateLimit, Some(asked)).unwrap();
        let wait = benched(&ledger).unwrap() - now;
        assert!(wait >= least.max(48 * SECOND), "{asked}: {wait}");
        assert!(wait <= least.max(72 * SECOND), "{asked}: {wait}");
        // A later failure that asks for less leaves the longer bench.
        ledger.auth().report_failure(&id("a"), FailureKind::Transient, Some(1)).unwrap();
        assert!(benched(&ledger).unwrap() - now >= wait);
    }
    // Below the threshold of its kind, what is asked for counts alone.
    let (ledger, clock) = one_key();
    ledger.auth().report_failure(&id("a"), FailureKind::Transient, Some(7 * SECOND)).unwrap();
    assert_eq!(benched(&ledger), Some(clock.now().as_millis() + 7 * SECOND));
}

#[test]
fn a_successful_probe_closes_the_breaker_and_the_next_failure_begins_at_the_bottom() {
    let (ledger, clock) = one_key();
    for _ in 0..6 {
        ledger.auth().report_failure(&id("a"), FailureKind::RateLimit, None).unwrap();
    }
    clock.set(at(benched(&ledger).unwrap()));
    assert!(ledger.auth().select(&only("a"), false).unwrap().probe);
    ledger.auth().report_success(&id("a")).unwrap();
    assert_eq!(benched(&ledger), None);
    assert!(!ledger.auth().select(&only("a"), false).unwrap().probe);
    let now = clock.now().as_millis();
    ledger.auth().report_failure(&id("a"), FailureKind::RateLimit, None).unwrap();
    assert!(benched(&ledger).unwrap() - now <= 72 * SECOND);
}

#[test]
fn a_failed_probe_of_any_kind_benches_again_at_once_and_longer_for_the_same_kind() {
    for (kind, _, most, _) in TABLE {
        let (ledger, clock) = one_key();
        while benched(&ledger).is_none() {
            ledger.auth().report_failure(&id("a"), kind, None).unwrap();
        }
        let mut last = benched(&ledger).unwrap() - clock.now().as_millis();
        for _ in 0..3 {
            clock.set(at(benched(&ledger).unwrap()));
            assert!(ledger.auth().select(&only("a"), false).unwrap().probe, "{}", kind.name());
            let now = clock.now().as_millis();
            ledger.auth().report_failure(&id("a"), kind, None).unwrap();
            let wait = benched(&ledger).unwrap() - now;
            assert!(wait > last || wait >= most / 5 * 4, "{}: {wait} after {last}", kind.name());
            last = wait;
        }
        // A probe that fails for another reason, one that is free at first, benches all the same.
        clock.set(at(benched(&ledger).unwrap()));
        assert!(ledger.auth().select(&only("a"), false).unwrap().probe);
        ledger.auth().report_failure(&id("a"), FailureKind::Transient, None).unwrap();
        assert!(benched(&ledger).unwrap() > clock.now().as_millis(), "{}", kind.name());
    }
}

#[test]
fn a_probe_that_is_never_reported_is_released() {
    let (ledger, clock) = one_key();
    ledger.auth().report_failure(&id("a"), FailureKind::Quota, None).unwrap();
    clock.set(at(benched(&ledger).unwrap()));
    for _ in 0..4 {
        assert!(ledger.auth().select(&only("a"), false).unwrap().probe);
        let refused = ledger.auth().select(&only("a"), false).unwrap_err().to_string();
        assert!(refused.contains("a is probing until"), "{refused}");
        clock.advance(30 * SECOND - 1);
        assert!(ledger.auth().select(&only("a"), false).is_err());
        clock.advance(1);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Fail(usize, Option<u64>),
    Succeed,
    Try,
    Wait(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..TABLE.len(), prop::option::weighted(0.2, 1_u64..DAY)).prop_map(|(kind, wait)| Step::Fail(kind, wait)),
        1 => Just(Step::Succeed),
        4 => Just(Step::Try),
        4 => prop::sample::select(vec![1, 10 * SECOND, 31 * SECOND, MINUTE, 10 * MINUTE, DAY]).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

/// A breaker as it is drawn on a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed { failures: u32 },
    Open { failures: u32, until: u64 },
    HalfOpen { failures: u32, tried_until: Option<u64> },
}

impl Breaker {
    const fn failures(self) -> u32 {
        match self {
            Self::Closed { failures } | Self::Open { failures, .. } | Self::HalfOpen { failures, .. } => failures,
        }
    }

    fn at(self, now: u64) -> Self {
        match self {
            Self::Open { failures, until } if until <= now => Self::HalfOpen { failures, tried_until: None },
            Self::HalfOpen { failures, tried_until } => {
                Self::HalfOpen { failures, tried_until: tried_until.filter(|until| *until > now) }
            }
            other => other,
        }
    }
}

#[test]
fn the_breaker_does_what_its_model_does() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let mut runner = proptest::test_runner::TestRunner::new(cases(100, 0xb4ea));
    runner
        .run(&prop::collection::vec(step(), 10..60), |steps| {
            let (disk, clock) = (disk.snapshot(), ManualClock::default());
            let mut ledger = open(&disk, 2, &clock);
            ledger.auth().set(key("a", "openai", "global"), None).unwrap();
            let mut breaker = Breaker::Closed { failures: 0 };
            for (turn, step) in steps.iter().enumerate() {
                let now = clock.now().as_millis();
                breaker = breaker.at(now);
                match step {
                    Step::Wait(by) => clock.advance(*by),
                    Step::Succeed => {
                        ledger.auth().report_success(&id("a")).unwrap();
                        // What was under way when the bench began does not end it.
                        if !matches!(breaker, Breaker::Open { .. }) {
                            breaker = Breaker::Closed { failures: 0 };
                        }
                    }
                    Step::Try => {
                        let found = ledger.auth().select(&only("a"), false);
                        match breaker {
                            Breaker::Closed { .. } => assert!(!found.unwrap().probe),
                            Breaker::Open { .. } | Breaker::HalfOpen { tried_until: Some(_), .. } => {
                                assert!(found.is_err(), "{breaker:?}");
                            }
                            Breaker::HalfOpen { failures, tried_until: None } => {
                                assert!(found.unwrap().probe);
                                breaker = Breaker::HalfOpen { failures, tried_until: Some(now + 30 * SECOND) };
                            }
                        }
                    }
                    Step::Fail(kind, asked) => {
                        let kind = TABLE[*kind].0;
                        ledger.auth().report_failure(&id("a"), kind, *asked).unwrap();
                        if let Breaker::Open { failures, until } = breaker {
                            // Requests that fail together are one failure; what the provider asks for counts.
                            let until = until.max(now + asked.unwrap_or(0));
                            assert_eq!(benched(&ledger).unwrap(), until);
                            breaker = Breaker::Open { failures, until };
                            continue;
                        }
                        let failures = breaker.failures() + 1;
                        let closed = matches!(breaker, Breaker::Closed { .. });
                        let wait = match bench(kind, failures) {
                            0 if !closed => bench(kind, 3),
                            wait => wait,
                        };
                        let (least, most) =
                            ((wait / 5 * 4).max(asked.unwrap_or(0)), (wait / 5 * 6).max(asked.unwrap_or(0)));
                        if most == 0 {
                            assert!(closed);
                            breaker = Breaker::Closed { failures };
                        } else {
                            let until = benched(&ledger).unwrap();
                            assert!(until >= now + least && until <= now + most);
                            breaker = Breaker::Open { failures, until };
                        }
                    }
                    Step::Reopen => {
                        ledger.close().unwrap();
                        ledger = open(&disk, 10 + turn as u64, &clock);
                        // Who tries is recorded: the next process waits for it.
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

// ---- tokens and health -------------------------------------------------------------------------------

#[test]
fn each_state_of_a_token_is_reached_in_a_life() {
    let (ledger, _, clock) = ledger();
    let auth = ledger.auth();
    let state = |name: &str| {
        let (record, runtime) = auth.profile(&id(name)).unwrap();
        standing(&record.profile, &runtime, auth.now(), auth.refresh_window_ms()).token
    };
    let mut seen = Vec::new();
    auth.set(key("k", "openai", "global"), None).unwrap();
    seen.push(state("k"));
    auth.set(oauth("o", "openai", "global"), None).unwrap();
    seen.push(state("o"));
    let end = START + HOUR;
    auth.logged_in(&oauth("o", "openai", "global"), LoginFlow::Device, &tokens("a", Some("r"), Some(end))).unwrap();
    seen.push(state("o"));
    clock.set(at(end - WINDOW - 1));
    assert_eq!(state("o"), TokenExpiry::Valid);
    clock.set(at(end - WINDOW));
    seen.push(state("o"));
    clock.set(at(end - 1));
    assert_eq!(state("o"), TokenExpiry::Expiring);
    clock.set(at(end));
    seen.push(state("o"));
    let ticket = auth.begin_refresh(&id("o"), false).unwrap();
    auth.renewed(&ticket.started, &tokens("a2", None, None)).unwrap();
    seen.push(state("o"));
    assert_eq!(seen, TokenExpiry::ALL);
    let names: Vec<_> = TokenExpiry::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(names, ["static", "missing", "valid", "expiring", "expired", "unknown"]);
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    let near =
        prop::sample::select(vec![-DAY.cast_signed(), -1_i64, 0, 1, 30_000, 299_999, 300_000, 300_001, 86_400_000]);
    prop::option::of(near.prop_map(|moved| at(START.saturating_add_signed(moved))))
}

fn runtime() -> impl Strategy<Value = Runtime> {
    let terminal = prop::option::weighted(
        0.3,
        prop::sample::select(FailureKind::ALL.to_vec())
            .prop_map(|failure| Terminal { failure, what: "gone".to_owned() }),
    );
    let lease = time().prop_map(|until| until.map(|until| Lease { until, cause: RefreshCause::Due }));
    let failure = prop::option::of(prop::sample::select(FailureKind::ALL.to_vec()));
    (time(), time(), time(), any::<bool>(), 0_u32..4, 0_u32..3, (terminal, lease, failure)).prop_map(
        |(
            expires_at,
            cooldown_until,
            retry_at,
            has_token,
            failure_count,
            refresh_failures,
            (terminal, lease, failure),
        )| {
            Runtime {
                expires_at,
                cooldown_until,
                retry_at,
                has_token: has_token || expires_at.is_some(),
                failure_count,
                refresh_failures,
                terminal,
                lease,
                failure,
                ..Runtime::default()
            }
        },
    )
}

fn profiles() -> [Profile; 2] {
    [key("a", "openai", "global"), oauth("a", "openai", "global")]
}

proptest! {
    #![proptest_config(cases(4096, 0xdead))]

    #[test]
    fn an_ended_or_missing_token_is_never_healthy_and_never_eligible(
        runtime in runtime(), is_oauth in any::<bool>(), enabled in any::<bool>()
    ) {
        let profile = Profile { enabled, ..profiles()[usize::from(is_oauth)].clone() };
        let stands = standing(&profile, &runtime, at(START), WINDOW);
        let ended = is_oauth && runtime.expires_at.is_some_and(|end| end.as_millis() <= START);
        let missing = is_oauth && runtime.expires_at.is_none() && !runtime.has_token;
        let serves = matches!(stands.eligibility, Eligibility::Eligible | Eligibility::HalfOpen);
        if ended || missing {
            prop_assert_eq!(stands.health, Health::Failed);
            prop_assert!(!serves);
        }
        prop_assert_eq!(ended, stands.token == TokenExpiry::Expired);
        prop_assert_eq!(missing, stands.token == TokenExpiry::Missing);
        prop_assert_eq!(!is_oauth, stands.token == TokenExpiry::Static);
        prop_assert!(enabled || stands.eligibility == Eligibility::Disabled);
        // Whatever does not serve says why and what to do, and a time that has passed is no answer.
        if stands.health == Health::Healthy {
            prop_assert!(serves && stands.reasons.is_empty() && stands.next.is_empty());
        } else {
            prop_assert!(!stands.reasons.is_empty() && !stands.next.is_empty());
        }
        prop_assert!(stands.until.is_none_or(|until| until.as_millis() > START));
        prop_assert_eq!(stands.in_doubt, runtime.lease.as_ref().is_some_and(|lease| lease.until.as_millis() <= START));
        if runtime.terminal.is_some() {
            prop_assert_eq!(stands.health, Health::Failed);
        }
    }
}

#[test]
fn waits_between_refreshes_double_up_to_a_bound_for_every_provider() {
    for text in ["openai", "anthropic", "telegram", "slack", "discord", "webhook", "custom:corp"] {
        let provider = text.parse().unwrap();
        let mut last = 0;
        for streak in 1..200 {
            let wait = backoff_ms(&provider, streak);
            assert!((10 * SECOND..=HOUR).contains(&wait), "{text} {streak}: {wait}");
            assert!(streak == 1 || wait == last * 2 || (wait >= last && wait >= HOUR / 2), "{text} {streak}: {wait}");
            last = wait;
        }
    }
}
