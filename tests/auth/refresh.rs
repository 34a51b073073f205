//! Refreshes against a provider that rotates its tokens and kills a grant whose spent token comes again:
//! several workers, a clock, and the power going.

use palyra_ledger::auth::{AuthError, Eligibility, Query, RefreshResult, Runtime, Standing, standing};
use palyra_ledger::event::auth::{CredentialSource, FailureKind, LoginFlow, Profile};
use palyra_ledger::testing::{ManualClock, SimDisk, for_every_cut};
use palyra_ledger::{Clock, Error, Ledger, RefreshTicket, Timestamp, limits};
use proptest::prelude::*;

use super::common::{
    DAY, HOUR, MINUTE, SECOND, START, at, cases, disk, events, id, key, ledger, oauth, open, place, refusal, secret,
    source, tokens,
};

const LEASE: u64 = MINUTE;
const NAME: &str = "o";

fn profile() -> Profile {
    oauth(NAME, "custom:corp", "global")
}

/// A ledger with somebody logged in: access token `access-0`, refresh token `refresh-0`, good for an hour.
fn logged_in() -> (Ledger, SimDisk, ManualClock) {
    let (ledger, disk, clock) = ledger();
    let given = tokens("access-0", Some("refresh-0"), Some(START + HOUR));
    ledger.auth().logged_in(&profile(), LoginFlow::Code, &given).unwrap();
    (ledger, disk, clock)
}

fn runtime(ledger: &Ledger) -> Runtime {
    ledger.auth().profile(&id(NAME)).unwrap().1
}

fn stands(ledger: &Ledger) -> Standing {
    let (record, runtime) = ledger.auth().profile(&id(NAME)).unwrap();
    standing(&record.profile, &runtime, ledger.auth().now(), ledger.auth().refresh_window_ms())
}

fn refused(what: &str) -> RefreshResult {
    RefreshResult::Refused { failure: FailureKind::AuthInvalid, what: what.to_owned() }
}

fn failed(retry_after_ms: Option<u64>, unanswered: bool) -> RefreshResult {
    let what = "it failed for now".to_owned();
    RefreshResult::Failed { failure: FailureKind::Transient, what, retry_after_ms, unanswered }
}

fn begin(ledger: &Ledger) -> RefreshTicket {
    ledger.auth().begin_refresh(&id(NAME), false).unwrap()
}

// ---- the rules by name -------------------------------------------------------------------------------

#[test]
fn a_token_is_due_within_the_window_or_when_it_is_missing_and_not_before() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    assert!(auth.due().unwrap().is_empty());
    assert!(matches!(refusal(auth.begin_refresh(&id(NAME), false)), AuthError::NotDue(_)));
    // Up to a fifth of the window is cut off, so that profiles made together are not due together.
    clock.set(at(START + HOUR - 5 * MINUTE - 1));
    assert!(auth.due().unwrap().is_empty());
    clock.set(at(START + HOUR - 4 * MINUTE));
    assert_eq!(auth.due().unwrap(), [id(NAME)]);
    auth.set(oauth("none", "custom:corp", "global"), None).unwrap();
    assert_eq!(auth.due().unwrap().len(), 2, "a missing token is due");
    auth.set(key("k", "openai", "global"), None).unwrap();
    assert!(matches!(refusal(auth.begin_refresh(&id("k"), true)), AuthError::Static(_)));
    assert!(matches!(refusal(auth.begin_refresh(&id("no"), true)), AuthError::NoProfile(_)));
}

#[test]
fn profiles_made_together_do_not_come_due_together() {
    let (ledger, _, clock) = ledger();
    for number in 0..64 {
        ledger.auth().set(oauth(&format!("p{number:02}"), "custom:corp", "global"), Some(at(START + HOUR))).unwrap();
    }
    let due_at = |before_end: u64| {
        clock.set(at(START + HOUR - before_end));
        ledger.auth().due().unwrap().len()
    };
    let early = due_at(5 * MINUTE - 12 * SECOND);
    assert!(early > 0 && early < 64, "{early}");
    let middle = due_at(5 * MINUTE - 18 * SECOND);
    assert!(middle > early && middle < 64, "{middle}");
    assert_eq!(due_at(4 * MINUTE), 64);
}

#[test]
fn a_refresh_holds_its_lease_and_nobody_else_begins_before_its_end_not_even_by_force() {
    let (ledger, disk, clock) = logged_in();
    clock.set(at(START + HOUR));
    let ticket = begin(&ledger);
    assert_eq!((ticket.started.generation, ticket.refresh_token.expose()), (1, b"refresh-0".as_slice()));
    assert!(!ticket.started.after_lost_answer);
    let busy = |ledger: &Ledger| {
        for force in [false, true] {
            match refusal(ledger.auth().begin_refresh(&id(NAME), force)) {
                AuthError::Busy { until, .. } => assert_eq!(until, at(START + HOUR + LEASE)),
                other => panic!("{other}"),
            }
        }
        assert!(ledger.auth().due().unwrap().is_empty());
    };
    busy(&ledger);
    // It is in the log: another process, after any crash, knows of it too.
    let ledger = open(&disk.crash(3), 3, &clock);
    busy(&ledger);
    clock.set(at(START + HOUR + LEASE - 1));
    busy(&ledger);
    clock.advance(1);
    assert!(stands(&ledger).in_doubt);
    assert_eq!(begin(&ledger).started.generation, 2);
}

#[test]
fn a_success_writes_all_four_things_in_one_batch() {
    let (ledger, _, clock) = logged_in();
    clock.set(at(START + HOUR));
    let ticket = begin(&ledger);
    let head = ledger.log().head().unwrap().seq;
    ledger.auth().renewed(&ticket.started, &tokens("access-1", Some("refresh-1"), Some(START + 2 * HOUR))).unwrap();
    let last = ledger.log().entry(ledger.log().head().unwrap().seq).unwrap();
    assert_eq!(u64::from(last.batch_len), last.seq - head, "one batch");
    assert_eq!(secret(&ledger, &place(NAME, "access")).unwrap(), "access-1");
    assert_eq!(secret(&ledger, &place(NAME, "refresh")).unwrap(), "refresh-1");
    let after = runtime(&ledger);
    assert_eq!(
        (after.expires_at, after.lease, after.refreshed),
        (Some(at(START + 2 * HOUR)), None, Some(at(START + HOUR)))
    );
    assert_eq!(stands(&ledger).eligibility, Eligibility::Eligible);
    // Without a new refresh token the old one stays.
    let ticket = ledger.auth().begin_refresh(&id(NAME), true).unwrap();
    ledger.auth().renewed(&ticket.started, &tokens("access-2", None, None)).unwrap();
    assert_eq!(secret(&ledger, &place(NAME, "refresh")).unwrap(), "refresh-1");
    assert_eq!(events(&ledger, "refresh_succeeded")[1]["rotated"], false);
}

#[test]
fn the_power_going_during_a_refresh_leaves_all_of_it_or_none() {
    let clock = ManualClock::default();
    let (ledger, prepared, _) = logged_in();
    ledger.close().unwrap();
    prepared.settle();
    clock.set(at(START + HOUR));
    let (mut none, mut begun, mut whole) = (0, 0, 0);
    let work = |disk: &SimDisk| -> Result<u32, Error> {
        let ledger = Ledger::open(super::common::config(disk, 9, &clock))?;
        let Ok(ticket) = ledger.auth().begin_refresh(&id(NAME), false) else { return Ok(0) };
        let given = tokens("access-1", Some("refresh-1"), Some(START + 2 * HOUR));
        Ok(if ledger.auth().renewed(&ticket.started, &given).is_ok() { 2 } else { 1 })
    };
    for_every_cut(
        1,
        || prepared.snapshot(),
        work,
        |cut, done, disk| {
            let ledger = open(&disk, 10, &clock);
            let after = runtime(&ledger);
            let found = (
                secret(&ledger, &place(NAME, "access")).unwrap(),
                secret(&ledger, &place(NAME, "refresh")).unwrap(),
                after.expires_at,
                after.refreshed,
            );
            let done = *done.as_ref().unwrap_or(&0);
            if found.0 == "access-1" {
                let all = ("access-1".into(), "refresh-1".into(), Some(at(START + 2 * HOUR)), Some(at(START + HOUR)));
                assert_eq!(found, all, "{cut:?}");
                assert!(after.lease.is_none(), "{cut:?}");
                whole += 1;
            } else {
                assert!(done < 2, "{cut:?}: acknowledged and gone");
                assert_eq!(found, ("access-0".into(), "refresh-0".into(), Some(at(START + HOUR)), Some(at(START))));
                assert!(done < 1 || after.lease.is_some(), "{cut:?}: it was durable before anything was sent");
                if after.lease.is_some() { begun += 1 } else { none += 1 }
            }
        },
    );
    assert!(none > 5 && begun > 5 && whole > 2, "{none} {begun} {whole}");
}

#[test]
fn a_lost_answer_is_in_doubt_then_tried_once_more_and_the_refusal_says_what_to_do() {
    let (ledger, disk, clock) = logged_in();
    clock.set(at(START + HOUR));
    begin(&ledger);
    let ledger = open(&disk.crash(1), 3, &clock);
    clock.advance(LEASE);
    let found = stands(&ledger);
    assert!(found.in_doubt && found.reasons.contains(&"refresh_in_doubt"), "{found:?}");
    assert_eq!(ledger.auth().due().unwrap(), [id(NAME)]);
    let ticket = begin(&ledger);
    assert!(ticket.started.after_lost_answer);
    assert_eq!(ticket.refresh_token.expose(), b"refresh-0", "the old token");
    assert_eq!(events(&ledger, "refresh_started")[1]["cause"], "in_doubt");
    ledger.auth().refresh_failed(&ticket.started, &refused("invalid_grant")).unwrap();
    let after = runtime(&ledger);
    assert!(after.terminal.unwrap().what.contains("an earlier answer was lost"));
    assert!(stands(&ledger).next.contains("`auth login --profile o`"));
    for _ in 0..3 {
        assert!(ledger.auth().due().unwrap().is_empty());
        assert!(matches!(refusal(ledger.auth().begin_refresh(&id(NAME), false)), AuthError::NeedsPerson { .. }));
        clock.advance(DAY);
    }
}

#[test]
fn a_lost_answer_is_made_good_where_the_provider_takes_the_old_token_again() {
    let (ledger, disk, clock) = logged_in();
    clock.set(at(START + HOUR));
    begin(&ledger);
    let ledger = open(&disk.crash(1), 3, &clock);
    clock.advance(LEASE);
    let ticket = begin(&ledger);
    let given = tokens("access-1", Some("refresh-1"), Some(START + 3 * HOUR));
    ledger.auth().renewed(&ticket.started, &given).unwrap();
    let found = stands(&ledger);
    assert!(!found.in_doubt && found.reasons.is_empty(), "{found:?}");
    // The next one is an ordinary one.
    clock.set(at(START + 3 * HOUR));
    assert!(!begin(&ledger).started.after_lost_answer);
}

#[test]
fn a_second_lost_answer_is_not_tried_by_itself_again_and_says_what_to_do() {
    let (ledger, mut disk, clock) = logged_in();
    clock.set(at(START + HOUR));
    begin(&ledger);
    disk = disk.crash(1);
    let ledger = open(&disk, 3, &clock);
    clock.advance(LEASE);
    begin(&ledger);
    disk = disk.crash(2);
    let ledger = open(&disk, 4, &clock);
    clock.advance(LEASE);
    for _ in 0..3 {
        assert!(ledger.auth().due().unwrap().is_empty());
        match refusal(ledger.auth().begin_refresh(&id(NAME), false)) {
            AuthError::NeedsPerson { what, .. } => assert!(what.contains("never recorded"), "{what}"),
            other => panic!("{other}"),
        }
        let found = stands(&ledger);
        assert_eq!(found.eligibility, Eligibility::NeedsPerson);
        assert!(found.next.contains("auth login --profile o"), "{found:?}");
        clock.advance(DAY);
    }
    // A person may insist, or log in.
    let ticket = ledger.auth().begin_refresh(&id(NAME), true).unwrap();
    assert!(ticket.started.after_lost_answer);
    ledger.auth().renewed(&ticket.started, &tokens("access-1", Some("refresh-1"), None)).unwrap();
    assert_eq!(stands(&ledger).eligibility, Eligibility::Eligible);
}

/// A daemon gives a refresh to a process of its own, which knows its number alone.
#[test]
fn who_goes_on_with_a_refresh_is_given_the_one_that_is_under_way() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    for lost in [false, true] {
        clock.set(runtime(&ledger).retry_at.unwrap_or(at(START + HOUR)));
        let ticket = begin(&ledger);
        assert_eq!(ticket.started.after_lost_answer, lost);
        let mut expected = ticket.started.clone();
        expected.refresh_version = 0;
        let number = expected.generation;
        assert_eq!(auth.resume(&id(NAME), number).unwrap(), expected);
        for other in [number - 1, number + 1] {
            assert!(matches!(refusal(auth.resume(&id(NAME), other)), AuthError::Superseded { .. }));
        }
        auth.refresh_failed(&expected, &failed(None, true)).unwrap();
        assert!(matches!(refusal(auth.resume(&id(NAME), number)), AuthError::Superseded { .. }), "it is over");
    }
}

#[test]
fn an_unanswered_request_is_tried_again_after_its_wait_and_knows_that_the_token_may_be_spent() {
    let (ledger, _, clock) = logged_in();
    clock.set(at(START + HOUR));
    let ticket = begin(&ledger);
    ledger.auth().refresh_failed(&ticket.started, &failed(None, true)).unwrap();
    assert!(ledger.auth().due().unwrap().is_empty());
    clock.set(runtime(&ledger).retry_at.unwrap());
    let ticket = begin(&ledger);
    assert!(ticket.started.after_lost_answer);
    ledger.auth().refresh_failed(&ticket.started, &failed(None, false)).unwrap();
    clock.set(runtime(&ledger).retry_at.unwrap());
    let ticket = begin(&ledger);
    assert!(ticket.started.after_lost_answer, "that it answers now says nothing about the answer that was lost");
    ledger.auth().renewed(&ticket.started, &tokens("a", Some("r"), Some(clock.now().as_millis()))).unwrap();
    // A token that ended as it came is not asked for again at once.
    assert!(matches!(refusal(ledger.auth().begin_refresh(&id(NAME), false)), AuthError::NotDue(_)));
    clock.advance(limits::REFRESH_SPACING_MS);
    assert!(!begin(&ledger).started.after_lost_answer);
}

#[test]
fn invalid_grant_is_terminal_until_a_login_or_a_persons_word() {
    for login in [false, true] {
        let (ledger, _, clock) = logged_in();
        let auth = ledger.auth();
        clock.set(at(START + HOUR));
        let ticket = begin(&ledger);
        auth.refresh_failed(&ticket.started, &refused("invalid_grant")).unwrap();
        assert_eq!(stands(&ledger).eligibility, Eligibility::NeedsPerson);
        clock.advance(30 * DAY);
        assert!(auth.due().unwrap().is_empty());
        assert!(matches!(refusal(auth.begin_refresh(&id(NAME), false)), AuthError::NeedsPerson { .. }));
        if login {
            let now = clock.now().as_millis();
            auth.logged_in(&profile(), LoginFlow::Device, &tokens("a", Some("r"), Some(now + HOUR))).unwrap();
            assert_eq!(stands(&ledger).eligibility, Eligibility::Eligible);
        } else {
            auth.clear(&id(NAME)).unwrap();
            assert_eq!(auth.due().unwrap(), [id(NAME)]);
            begin(&ledger);
        }
    }
}

#[test]
fn a_terminal_profile_serves_as_long_as_its_token_lives_and_is_not_called_healthy() {
    let (ledger, _, clock) = logged_in();
    clock.set(at(START + HOUR - MINUTE));
    let ticket = begin(&ledger);
    ledger.auth().refresh_failed(&ticket.started, &refused("invalid_grant")).unwrap();
    assert!(ledger.auth().select(&Query::default(), false).is_ok());
    assert_eq!(stands(&ledger).health, palyra_ledger::auth::Health::Failed);
    clock.advance(MINUTE);
    assert!(ledger.auth().select(&Query::default(), false).is_err());
}

#[test]
fn a_failed_refresh_cools_down_longer_each_time_within_a_fifth_and_respects_retry_after() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    clock.set(at(START + HOUR));
    for streak in 1..=10 {
        let now = clock.now().as_millis();
        let ticket = begin(&ledger);
        auth.refresh_failed(&ticket.started, &failed(None, false)).unwrap();
        let wait = palyra_ledger::auth::backoff_ms(&profile().provider, streak);
        let retry = runtime(&ledger).retry_at.unwrap().as_millis() - now;
        assert!((wait / 5 * 4..=wait / 5 * 6).contains(&retry), "{streak}: {retry} for {wait}");
        match refusal(auth.begin_refresh(&id(NAME), false)) {
            AuthError::CoolingDown { until, .. } => assert_eq!(until.as_millis(), now + retry),
            other => panic!("{other}"),
        }
        assert!(auth.due().unwrap().is_empty());
        clock.set(at(now + retry));
        assert_eq!(auth.due().unwrap(), [id(NAME)]);
    }
    // Later in a row what the provider asks for is the least, and never the most: 0 for ever is no answer.
    for (asked, least) in [(7 * SECOND, 20 * MINUTE), (3 * HOUR, 3 * HOUR), (30 * DAY, DAY), (0, 20 * MINUTE)] {
        let now = clock.now().as_millis();
        let ticket = begin(&ledger);
        auth.refresh_failed(&ticket.started, &failed(Some(asked), false)).unwrap();
        let wait = runtime(&ledger).retry_at.unwrap().as_millis() - now;
        assert!((least..=least.max(36 * MINUTE)).contains(&wait), "{asked}: {wait}");
        clock.set(at(now + wait));
    }
    // The first failure in a row waits for what the provider asks.
    for (asked, wait) in [(7 * SECOND, 7 * SECOND), (3 * HOUR, 3 * HOUR), (30 * DAY, DAY), (0, SECOND)] {
        auth.clear(&id(NAME)).unwrap();
        let now = clock.now().as_millis();
        let ticket = begin(&ledger);
        auth.refresh_failed(&ticket.started, &failed(Some(asked), false)).unwrap();
        assert_eq!(runtime(&ledger).retry_at.unwrap().as_millis() - now, wait);
        clock.set(at(now + wait));
    }
}

#[test]
fn a_profile_benched_in_use_keeps_being_refreshed_and_a_disabled_one_does_not() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    clock.set(at(START + HOUR));
    auth.report_failure(&id(NAME), FailureKind::Quota, None).unwrap();
    auth.flush_usage().unwrap();
    assert_eq!(auth.due().unwrap(), [id(NAME)]);
    let ticket = begin(&ledger);
    auth.renewed(&ticket.started, &tokens("a", None, Some(START + 2 * HOUR))).unwrap();
    assert_eq!(stands(&ledger).eligibility, Eligibility::CoolingDown, "the quota is still used up");
    clock.set(at(START + 2 * HOUR));
    auth.enable(&id(NAME), false).unwrap();
    assert!(auth.due().unwrap().is_empty());
    assert!(matches!(refusal(auth.begin_refresh(&id(NAME), false)), AuthError::Disabled(_)));
}

#[test]
fn a_completion_that_comes_too_late_changes_nothing() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    clock.set(at(START + HOUR));
    let slow = begin(&ledger);
    clock.advance(LEASE);
    let quick = begin(&ledger);
    let late = tokens("late", Some("late"), None);
    assert!(matches!(refusal(auth.renewed(&slow.started, &late)), AuthError::Superseded { .. }));
    auth.renewed(&quick.started, &tokens("access-1", Some("refresh-1"), Some(START + 3 * HOUR))).unwrap();
    let before = runtime(&ledger);
    for ticket in [&slow, &quick] {
        assert!(matches!(refusal(auth.renewed(&ticket.started, &late)), AuthError::Superseded { .. }));
        assert!(matches!(refusal(auth.refresh_failed(&ticket.started, &refused("no"))), AuthError::Superseded { .. }));
    }
    assert_eq!(runtime(&ledger), before);
    assert_eq!(secret(&ledger, &place(NAME, "access")).unwrap(), "access-1");
    assert_eq!(secret(&ledger, &place(NAME, "refresh")).unwrap(), "refresh-1");
}

#[test]
fn a_completion_does_not_fit_a_profile_that_was_deleted_and_made_again() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    clock.set(at(START + HOUR));
    let old = begin(&ledger);
    clock.advance(LEASE);
    auth.delete(&id(NAME)).unwrap();
    assert!(matches!(refusal(auth.renewed(&old.started, &tokens("late", None, None))), AuthError::NoProfile(_)));
    auth.set(profile(), Some(at(START + HOUR))).unwrap();
    assert!(auth.renewed(&old.started, &tokens("late", None, None)).is_err());
    let new = begin(&ledger);
    assert!(matches!(refusal(auth.renewed(&old.started, &tokens("late", None, None))), AuthError::Superseded { .. }));
    auth.renewed(&new.started, &tokens("access-1", Some("refresh-1"), None)).unwrap();
    assert_eq!(secret(&ledger, &place(NAME, "access")).unwrap(), "access-1");
}

#[test]
fn while_a_refresh_is_under_way_its_credential_neither_changes_nor_goes() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    clock.set(at(START + HOUR));
    let ticket = begin(&ledger);
    let mut other = source(NAME);
    other.access = place(NAME, "elsewhere");
    let changed = Profile { credential: CredentialSource::Oauth(Box::new(other)), ..profile() };
    // Else the token that the provider is about to give would be lost, or the old one spent twice.
    assert!(matches!(refusal(auth.set(changed.clone(), None)), AuthError::Busy { .. }));
    assert!(matches!(refusal(auth.delete(&id(NAME))), AuthError::Busy { .. }));
    // A name is no credential, and more scopes are the same grant's.
    let mut wider = source(NAME);
    wider.scopes.push("write".to_owned());
    let wider = CredentialSource::Oauth(Box::new(wider));
    auth.set(Profile { name: "renamed".to_owned(), credential: wider, ..profile() }, None).unwrap();
    auth.renewed(&ticket.started, &tokens("access-1", Some("refresh-1"), Some(START + 2 * HOUR))).unwrap();
    auth.set(changed, None).unwrap();
    auth.delete(&id(NAME)).unwrap();
}

#[test]
fn a_refresh_token_that_cannot_be_read_ends_the_refresh_before_anything_is_sent() {
    let (ledger, _, clock) = ledger();
    let auth = ledger.auth();
    auth.set(profile(), None).unwrap();
    assert!(auth.begin_refresh(&id(NAME), false).is_err());
    let after = runtime(&ledger);
    assert_eq!((after.lease, after.terminal), (None, None));
    super::common::put(&ledger, &place(NAME, "refresh"), "there now");
    assert!(matches!(refusal(auth.begin_refresh(&id(NAME), false)), AuthError::CoolingDown { .. }));
    clock.set(after.retry_at.unwrap());
    assert_eq!(begin(&ledger).refresh_token.expose(), b"there now");
}

#[test]
fn threads_that_refresh_at_once_get_one_ticket_between_them() {
    let (ledger, _, clock) = logged_in();
    clock.set(at(START + HOUR));
    let auth = ledger.auth();
    let won: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| auth.begin_refresh(&id(NAME), true).is_ok())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    assert_eq!(runtime(&ledger).generation, 1);
}

#[test]
fn a_logout_waits_for_the_refresh_that_is_under_way_and_takes_no_answer_after_it() {
    let (ledger, _, clock) = logged_in();
    let auth = ledger.auth();
    clock.set(at(START + HOUR));
    let ticket = begin(&ledger);
    // Else the tokens that come would stay good at the provider, and nobody would know of them.
    assert!(matches!(refusal(auth.logged_out(&id(NAME), false)), AuthError::Busy { .. }));
    clock.advance(LEASE);
    auth.logged_out(&id(NAME), false).unwrap();
    assert!(auth.renewed(&ticket.started, &tokens("access-1", Some("refresh-1"), None)).is_err());
    assert_eq!(secret(&ledger, &place(NAME, "access")), None);
    assert_eq!(secret(&ledger, &place(NAME, "refresh")), None);
    assert!(matches!(refusal(auth.begin_refresh(&id(NAME), false)), AuthError::NeedsPerson { .. }));
}

// ---- random interleavings ----------------------------------------------------------------------------

/// A provider with rotation and reuse detection: a spent token kills the grant.
#[derive(Debug, Clone)]
struct ProviderSim {
    serial: u64,
    alive: bool,
    spent_twice: u32,
}

#[derive(Debug, Clone)]
enum Answer {
    Tokens { access: String, refresh: String, ends: u64 },
    InvalidGrant,
}

impl ProviderSim {
    fn login(&mut self) -> (String, String) {
        (self.serial, self.alive) = (self.serial + 1, true);
        (format!("access-{}", self.serial), format!("refresh-{}", self.serial))
    }

    fn refresh(&mut self, token: &str, now: u64) -> Answer {
        if !self.alive {
            return Answer::InvalidGrant;
        }
        if token != format!("refresh-{}", self.serial) {
            self.alive = false;
            self.spent_twice += 1;
            return Answer::InvalidGrant;
        }
        self.serial += 1;
        let (access, refresh) = (format!("access-{}", self.serial), format!("refresh-{}", self.serial));
        Answer::Tokens { access, refresh, ends: now + HOUR }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin(usize, bool),
    Send(usize),
    Finish(usize),
    Fail(usize, Option<u64>, bool),
    Advance(u64),
    Bench,
    Rename(u8),
    Scopes(u8),
    DeleteAndMake,
    Login,
    Clear,
    Crash,
    Close,
}

const WORKERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..WORKERS;
    prop_oneof![
        12 => (worker(), prop::bool::weighted(0.2)).prop_map(|(worker, force)| Step::Begin(worker, force)),
        8 => worker().prop_map(Step::Send),
        8 => worker().prop_map(Step::Finish),
        2 => (worker(), prop::option::of(1_u64..HOUR), any::<bool>()).prop_map(|(w, wait, lost)| Step::Fail(w, wait, lost)),
        8 => prop::sample::select(vec![SECOND, 20 * SECOND, LEASE, 10 * MINUTE, HOUR]).prop_map(Step::Advance),
        1 => Just(Step::Bench),
        1 => (0_u8..3).prop_map(Step::Rename),
        1 => (0_u8..3).prop_map(Step::Scopes),
        1 => Just(Step::DeleteAndMake),
        1 => Just(Step::Login),
        1 => Just(Step::Clear),
        3 => Just(Step::Crash),
        1 => Just(Step::Close),
    ]
}

#[derive(Debug)]
struct Worker {
    ticket: RefreshTicket,
    lease: u64,
    sent: Option<Answer>,
}

/// What the log must know, written a second time.
#[derive(Debug, Clone, Default)]
struct Truth {
    generation: u64,
    /// End and whether it was itself a second try.
    lease: Option<(u64, bool)>,
    lost: bool,
    terminal: bool,
    retry: Option<u64>,
    ends: Option<u64>,
    /// When the last token came.
    renewed: Option<u64>,
}

struct World {
    clock: ManualClock,
    disk: SimDisk,
    ledger: Ledger,
    provider: ProviderSim,
    workers: [Option<Worker>; WORKERS],
    truth: Truth,
    profile: Profile,
    seed: u64,
    /// Whether a person made the ledger forget what it knew of the token.
    forgotten: bool,
}

impl World {
    fn new(disk: SimDisk) -> Self {
        let clock = ManualClock::default();
        let ledger = open(&disk, 2, &clock);
        let provider = ProviderSim { serial: 0, alive: true, spent_twice: 0 };
        let workers = [None, None, None];
        let (truth, profile) =
            (Truth { ends: Some(START + HOUR), renewed: Some(START), ..Truth::default() }, profile());
        Self { clock, disk, ledger, provider, workers, truth, profile, seed: 2, forgotten: false }
    }

    fn now(&self) -> u64 {
        self.clock.now().as_millis()
    }

    fn held(&self) -> bool {
        self.truth.lease.is_some_and(|(until, _)| until > self.now())
    }

    /// What a refresh that nobody forces may do now: the rules, one after the other.
    fn may_begin(&self) -> Result<(), &'static str> {
        let (truth, now) = (&self.truth, self.now());
        if self.held() {
            return Err("busy");
        }
        if truth.terminal {
            return Err("person");
        }
        // In doubt: once more, when the provider may be asked, and not twice.
        if truth.lease.is_some_and(|(_, again)| again) {
            return Err("person");
        }
        if truth.retry.is_some_and(|retry| retry > now) {
            return Err("cooling");
        }
        if truth.lease.is_some() {
            return Ok(());
        }
        if truth.renewed.is_some_and(|at| now < at + limits::REFRESH_SPACING_MS) {
            return Err("early");
        }
        // The jitter of one id is fixed: this one's window is a little shorter than five minutes.
        let spread: u64 = NAME.bytes().map(u64::from).sum::<u64>() % 1000;
        let window = 5 * MINUTE - MINUTE * spread / 1000;
        if truth.ends.is_some_and(|ends| now + window < ends) { Err("early") } else { Ok(()) }
    }

    fn begin(&mut self, worker: usize, force: bool) {
        let (now, expected) = (self.now(), self.may_begin());
        let listed = self.ledger.auth().due().unwrap().contains(&id(NAME));
        assert_eq!(listed, expected.is_ok(), "{expected:?}");
        let begun = self.ledger.auth().begin_refresh(&id(NAME), force);
        let ticket = match begun {
            Err(Error::Auth(error)) => {
                let why = match error {
                    AuthError::Busy { .. } => "busy",
                    AuthError::NeedsPerson { .. } => "person",
                    AuthError::CoolingDown { .. } => "cooling",
                    AuthError::NotDue(_) => "early",
                    other => panic!("{other}"),
                };
                assert_eq!(expected, Err(why));
                assert!(!force || why == "busy", "{why}");
                return;
            }
            other => other.unwrap(),
        };
        assert!(force || expected.is_ok(), "{expected:?}");
        assert!(!self.held(), "two refreshes at once within the lease");
        let under_way = |worker: &&Worker| worker.ticket.started.generation == self.truth.generation;
        for other in self.workers.iter().flatten().filter(under_way).filter(|_| self.truth.lease.is_some()) {
            assert!(other.lease <= now, "another worker's lease runs until {}", other.lease);
        }
        let in_doubt = self.truth.lease.is_some();
        assert_eq!(ticket.started.generation, self.truth.generation + 1);
        assert_eq!(ticket.started.after_lost_answer, in_doubt || self.truth.lost);
        self.truth.generation += 1;
        self.truth.lost |= in_doubt;
        self.truth.lease = Some((now + LEASE, in_doubt));
        self.workers[worker] = Some(Worker { ticket, lease: now + LEASE, sent: None });
    }

    fn send(&mut self, worker: usize) {
        let now = self.now();
        let Some(worker) = self.workers[worker].as_mut() else { return };
        // The adapter gives up long before the lease does.
        if worker.sent.is_some() || now >= worker.lease {
            return;
        }
        let token = String::from_utf8(worker.ticket.refresh_token.expose().to_vec()).unwrap();
        let before = self.provider.spent_twice;
        worker.sent = Some(self.provider.refresh(&token, now));
        // A token is spent twice only where an answer was lost, and whoever sends it knows that it may be.
        let knows = worker.ticket.started.after_lost_answer || self.forgotten;
        assert!(self.provider.spent_twice == before || knows);
    }

    fn finish(&mut self, worker: usize, failed_with: Option<RefreshResult>) {
        let Some(Worker { ticket, sent, .. }) = self.workers[worker].take() else { return };
        let current = self.truth.lease.is_some() && ticket.started.generation == self.truth.generation;
        let (before, auth) = (runtime(&self.ledger), self.ledger.auth());
        let old = secret(&self.ledger, &place(NAME, "access"));
        let result = match (failed_with, sent) {
            (None, None) => {
                self.workers[worker] = Some(Worker { lease: self.now(), ticket, sent: None });
                return;
            }
            (None, Some(Answer::Tokens { access, refresh, ends })) => {
                let done = auth.renewed(&ticket.started, &tokens(&access, Some(&refresh), Some(ends)));
                if current {
                    done.unwrap();
                    let generation = self.truth.generation;
                    let renewed = Some(self.now());
                    self.truth = Truth { generation, ends: Some(ends), renewed, ..Truth::default() };
                    assert_eq!(secret(&self.ledger, &place(NAME, "access")), Some(access));
                    assert_eq!(secret(&self.ledger, &place(NAME, "refresh")), Some(refresh));
                    return;
                }
                done
            }
            (None, Some(Answer::InvalidGrant)) => {
                let done = auth.refresh_failed(&ticket.started, &refused("invalid_grant")).map(|_| ());
                if current {
                    done.unwrap();
                    let what = runtime(&self.ledger).terminal.unwrap().what;
                    assert_eq!(what.contains("an earlier answer was lost"), ticket.started.after_lost_answer, "{what}");
                    (self.truth.terminal, self.truth.lease) = (true, None);
                    self.truth.retry = None;
                    return;
                }
                done
            }
            (Some(result), sent) => {
                let done = auth.refresh_failed(&ticket.started, &result).map(|_| ());
                if current {
                    done.unwrap();
                    let RefreshResult::Failed { unanswered, .. } = result else { panic!() };
                    // An answer that was thrown away was lost, whatever the worker says of it.
                    assert!(unanswered || sent.is_none());
                    let after = runtime(&self.ledger);
                    assert!(after.retry_at.unwrap().as_millis() > self.now());
                    (self.truth.lease, self.truth.terminal) = (None, false);
                    self.truth.lost |= unanswered;
                    self.truth.retry = after.retry_at.map(Timestamp::as_millis);
                    return;
                }
                done
            }
        };
        assert!(matches!(refusal(result), AuthError::Superseded { .. }));
        assert_eq!(runtime(&self.ledger), before);
        assert_eq!(secret(&self.ledger, &place(NAME, "access")), old);
    }

    fn step(&mut self, step: &Step) {
        let auth = self.ledger.auth();
        match step {
            Step::Begin(worker, force) => self.begin(*worker, *force),
            Step::Send(worker) => self.send(*worker),
            Step::Finish(worker) => self.finish(*worker, None),
            Step::Fail(worker, wait, lost) => {
                let sent = self.workers[*worker].as_ref().is_some_and(|worker| worker.sent.is_some());
                self.finish(*worker, Some(failed(*wait, *lost || sent)));
            }
            Step::Advance(by) => self.clock.advance(*by),
            Step::Bench => {
                auth.report_failure(&id(NAME), FailureKind::Quota, None).unwrap();
                auth.flush_usage().unwrap();
            }
            Step::Rename(name) => {
                self.profile.name = format!("name {name}");
                auth.set(self.profile.clone(), None).unwrap();
            }
            Step::Scopes(scopes) => {
                let mut other = source(NAME);
                other.scopes = vec![format!("scope{scopes}")];
                let changed = Profile { credential: CredentialSource::Oauth(Box::new(other)), ..self.profile.clone() };
                // The same grant: nothing begins anew, and an answer under way is taken.
                auth.set(changed.clone(), None).unwrap();
                self.profile = changed;
            }
            Step::DeleteAndMake => {
                let done = auth.delete(&id(NAME));
                assert_eq!(done.is_err(), self.held(), "{done:?}");
                if done.is_ok() {
                    auth.set(self.profile.clone(), None).unwrap();
                    // Numbers go on, so that whoever was late is not welcome.
                    self.truth = Truth { generation: self.truth.generation, ..Truth::default() };
                    for worker in self.workers.iter_mut().filter_map(Option::take) {
                        assert!(auth.renewed(&worker.ticket.started, &tokens("x", None, None)).is_err());
                    }
                    self.forgotten = true;
                }
            }
            Step::Login => {
                // Whoever refreshes the grant before is late with it: what is not sent yet is of another grant.
                let unsent = |worker: &Option<Worker>| worker.as_ref().is_some_and(|worker| worker.sent.is_none());
                self.workers.iter_mut().filter(|worker| unsent(worker)).for_each(|worker| *worker = None);
                let (access, refresh) = self.provider.login();
                let ends = self.now() + HOUR;
                auth.logged_in(&self.profile, LoginFlow::Code, &tokens(&access, Some(&refresh), Some(ends))).unwrap();
                let (generation, renewed) = (self.truth.generation, Some(self.now()));
                self.truth = Truth { generation, ends: Some(ends), renewed, ..Truth::default() };
                self.forgotten = false;
            }
            Step::Clear => {
                auth.clear(&id(NAME)).unwrap();
                (self.truth.terminal, self.truth.retry, self.truth.lost) = (false, None, false);
                self.forgotten = true;
            }
            Step::Crash | Step::Close => {
                self.workers = [None, None, None];
                self.seed += 1;
                if matches!(step, Step::Crash) {
                    self.disk = self.disk.crash(self.seed);
                } else {
                    self.ledger.close().unwrap();
                }
                self.ledger = open(&self.disk, self.seed, &self.clock);
            }
        }
    }

    fn check(&self) {
        let (found, now) = (runtime(&self.ledger), self.now());
        let truth = &self.truth;
        assert_eq!(found.generation, truth.generation);
        assert_eq!(found.lease.as_ref().map(|lease| lease.until.as_millis()), truth.lease.map(|(until, _)| until));
        assert_eq!(found.terminal.is_some(), truth.terminal);
        assert_eq!(found.expires_at.map(Timestamp::as_millis), truth.ends);
        let stands = stands(&self.ledger);
        assert_eq!(stands.in_doubt, truth.lease.is_some_and(|(until, _)| until <= now));
        if truth.terminal {
            assert!(stands.next.contains("auth login --profile o"));
        }
        // A grant dies only where an answer was lost, and the profile says so or will ask once more.
        if !self.provider.alive && !self.forgotten && !truth.terminal {
            let asks = truth.lease.is_some() || self.workers.iter().any(Option::is_some) || truth.lost;
            assert!(asks, "a dead grant that nobody knows of");
        }
    }
}

#[test]
fn refreshes_of_many_workers_with_crashes_between_do_what_their_model_does() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let ledger = open(&disk, 2, &clock);
    let given = tokens("access-0", Some("refresh-0"), Some(START + HOUR));
    ledger.auth().logged_in(&profile(), LoginFlow::Code, &given).unwrap();
    ledger.close().unwrap();
    disk.settle();
    let mut runner = proptest::test_runner::TestRunner::new(cases(400, 0x2ef2));
    runner
        .run(&prop::collection::vec(step(), 20..80), |steps| {
            let mut world = World::new(disk.snapshot());
            for step in &steps {
                world.clock.advance(1);
                world.step(step);
                world.check();
            }
            Ok(())
        })
        .unwrap();
}
