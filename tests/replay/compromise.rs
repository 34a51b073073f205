//! A scripted story with a ground truth: nothing of it is missed, and nothing else is named.

use std::collections::BTreeSet;

use palyra_ledger::auth::RefreshResult;
use palyra_ledger::event::auth::{CredentialSource, LoginFlow, OauthSource, Profile};
use palyra_ledger::event::compromise::{Concern, Remedy};
use palyra_ledger::event::vault::Versions;
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::{Fault, FaultError, FaultMedium, FaultOp, ManualClock, SimDisk, pair_device};
use palyra_ledger::{
    Actor, Caller, DeviceId, GetOptions, Ledger, NewTokens, Origin, PutOptions, Scope, SecretBytes, SecretPath,
    Timestamp,
};

use super::{config, init, put};

const HOUR: u64 = 3_600_000;

pub fn api_key_profile(id: &str, path: &str) -> Profile {
    Profile {
        id: id.parse().unwrap(),
        provider: "custom:corp".parse().unwrap(),
        name: id.to_owned(),
        scope: "global".parse().unwrap(),
        enabled: true,
        credential: CredentialSource::ApiKey(path.parse().unwrap()),
    }
}

fn oauth_profile(id: &str) -> Profile {
    let place = |name: &str| format!("global/auth/{id}/{name}").parse().unwrap();
    Profile {
        credential: CredentialSource::Oauth(Box::new(OauthSource {
            access: place("access"),
            refresh: Some(place("refresh")),
            client_secret: None,
            token_endpoint: "https://auth.example/token".to_owned(),
            revocation_endpoint: None,
            client_id: "cid".to_owned(),
            scopes: Vec::new(),
        })),
        ..api_key_profile(id, "global/none")
    }
}

fn tokens(text: &str) -> NewTokens {
    NewTokens {
        access: SecretBytes::from(format!("CANARY-access-{text}").as_bytes()),
        refresh: Some(SecretBytes::from(format!("CANARY-refresh-{text}").as_bytes())),
        expires_at: None,
        answer: palyra_ledger::auth::AnswerNote::default(),
    }
}

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

/// Reads as a device does.
pub fn read_as(ledger: &Ledger, id: DeviceId, path: &str) {
    let path: SecretPath = path.parse().unwrap();
    let mut caller = Caller::library(Actor::new(&format!("device:{id}")).unwrap());
    caller.origin = Origin::Device { device_id: id.to_string() };
    ledger.vault(path.scope.clone()).for_caller(caller).get_with(&path.name, GetOptions::current()).unwrap();
}

fn refresh(ledger: &Ledger, id: &str, text: &str) {
    let auth = ledger.auth();
    let ticket = auth.begin_refresh(&id.parse().unwrap(), true).unwrap();
    auth.renewed(&ticket.started, &tokens(text)).unwrap();
}

fn path(text: &str) -> SecretPath {
    text.parse().unwrap()
}

fn replace(text: &str, version: u32) -> Remedy {
    Remedy::ReplaceSecret { path: path(text), version }
}

fn disable(id: &str) -> Remedy {
    Remedy::DisableProfile(id.parse().unwrap())
}

pub struct Story {
    pub ledger: Ledger,
    /// When the thief began.
    pub since: Timestamp,
    pub until: Timestamp,
}

/// Two devices, two keys, one grant with tokens. Device 1 is stolen at `since`.
pub fn story(disk: &SimDisk, clock: &ManualClock) -> Story {
    let ledger = init(disk, clock);
    for (key, value) in [("mail_key", "CANARY-mail"), ("chat_key", "CANARY-chat"), ("other", "CANARY-other")] {
        put(&ledger, key, value);
    }
    let auth = ledger.auth();
    auth.set(api_key_profile("mail", "global/mail_key"), None).unwrap();
    auth.set(api_key_profile("chat", "global/chat_key"), None).unwrap();
    auth.logged_in(&oauth_profile("corp"), LoginFlow::Device, &tokens("1")).unwrap();
    auth.logged_in(&oauth_profile("calm"), LoginFlow::Device, &tokens("c")).unwrap();
    for number in [1, 2] {
        pair_device(&ledger, device(number), &LeafKey::generate().unwrap()).unwrap();
        ledger.identity().grant(device(number), Scope::global(), true).unwrap();
    }
    let own: Scope = format!("principal:{}", device(1)).parse().unwrap();
    ledger.vault(own).put(&"note".parse().unwrap(), &SecretBytes::from(b"n".as_slice()), PutOptions::new()).unwrap();
    clock.advance(HOUR);
    // Before the theft: not part of it.
    read_as(&ledger, device(1), "global/other");
    ledger.flush_reads().unwrap();
    clock.advance(HOUR);
    let since = ledger.log().head().unwrap().time.plus_millis(1);
    clock.advance(HOUR);
    read_as(&ledger, device(1), "global/mail_key");
    read_as(&ledger, device(1), "global/auth/corp/refresh");
    read_as(&ledger, device(2), "global/chat_key");
    ledger.flush_reads().unwrap();
    clock.advance(HOUR);
    // The same grant goes on: what it brings is in the thief's hands too.
    refresh(&ledger, "corp", "2");
    refresh(&ledger, "calm", "d");
    clock.advance(HOUR);
    let until = ledger.log().head().unwrap().time.plus_millis(1000);
    clock.advance(HOUR);
    Story { ledger, since, until }
}

#[test]
fn a_stolen_device_names_what_it_read_and_what_follows_from_that_alone() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let concern = Concern::Device(device(1));
    let exposure = ledger.exposure(&concern, since, until, None).unwrap();
    let serial = ledger.identity().certificates_of(device(1)).unwrap()[0];
    let wanted: BTreeSet<Remedy> = [
        Remedy::RevokeDevice(device(1)),
        Remedy::RevokeCertificate(serial),
        disable("mail"),
        disable("corp"),
        replace("global/mail_key", 1),
        // The refresh token of version 1 was read; its grant wrote the second of both.
        replace("global/auth/corp/refresh", 2),
        replace("global/auth/corp/access", 2),
    ]
    .into();
    assert_eq!(exposure.items.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    let read: Vec<String> = exposure.readings.iter().map(|one| format!("{}@{}", one.path, one.version)).collect();
    assert_eq!(read, ["global/auth/corp/refresh@1", "global/mail_key@1"]);
    let profiles: Vec<String> =
        exposure.readings.iter().flat_map(|one| &one.profiles).map(ToString::to_string).collect();
    assert_eq!(profiles, ["corp", "mail"]);
    // What it could have read and did not is another list.
    let unread: Vec<String> = exposure.unread.iter().map(ToString::to_string).collect();
    assert!(
        unread.contains(&"global/chat_key".to_owned()) && unread.contains(&format!("principal:{}/note", device(1)))
    );
    assert!(!unread.contains(&"global/mail_key".to_owned()));
    let trusted = &exposure.devices[0];
    assert_eq!((trusted.device, trusted.state), (device(1), Some("paired")));
    assert!(trusted.minted_by.is_some() && trusted.approved_by.is_some() && trusted.sas_compared == Some(true));
    assert_eq!(trusted.peer.as_deref(), Some("192.0.2.1:1"));
}

#[test]
fn a_stolen_secret_names_its_readers_and_a_stolen_profile_its_tokens() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let exposure = ledger.exposure(&Concern::Secret(path("global/chat_key")), since, until, None).unwrap();
    assert_eq!(exposure.items, [disable("chat"), replace("global/chat_key", 1)]);
    assert_eq!(exposure.devices.iter().map(|one| one.device).collect::<Vec<_>>(), [device(2)]);
    // An access token is replaced by a refresh: the profile serves on.
    let exposure = ledger.exposure(&Concern::Secret(path("global/auth/calm/access")), since, until, None).unwrap();
    assert_eq!(exposure.items, [replace("global/auth/calm/access", 2)]);
    let exposure = ledger.exposure(&Concern::Profile("calm".parse().unwrap()), since, until, None).unwrap();
    assert_eq!(
        exposure.items,
        [disable("calm"), replace("global/auth/calm/access", 2), replace("global/auth/calm/refresh", 2)]
    );
    let exposure = ledger.exposure(&Concern::Secret(path("global/other")), since, until, None).unwrap();
    assert_eq!(exposure.items, [replace("global/other", 1)], "nobody read it within the window");
    assert!(exposure.readings.is_empty() && exposure.devices.is_empty());
}

#[test]
fn a_plan_is_carried_out_stays_open_for_people_and_closes_when_nothing_is_left() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let concern = Concern::Device(device(1));
    let look = |ledger: &Ledger| ledger.exposure(&concern, since, until, None).unwrap();
    let applied = ledger.remedy(&look(&ledger)).unwrap();
    let open = |applied: &palyra_ledger::Applied| {
        applied.items.iter().filter(|state| !state.done).map(|state| state.item.clone()).collect::<Vec<_>>()
    };
    assert!(!applied.closed && applied.missed.is_empty());
    let people =
        [replace("global/auth/corp/access", 2), replace("global/auth/corp/refresh", 2), replace("global/mail_key", 1)];
    assert_eq!(open(&applied), people);
    assert_eq!(ledger.identity().device(device(1)).unwrap().state.name(), "revoked");
    assert_eq!(ledger.identity().device(device(2)).unwrap().state.name(), "paired");
    let enabled = |id: &str| ledger.auth().profile(&id.parse().unwrap()).unwrap().0.profile.enabled;
    assert!(!enabled("mail") && !enabled("corp") && enabled("chat") && enabled("calm"));
    // Everything that was done carries one id.
    let mut tied = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            if entry.caller.correlation == Some(applied.correlation) {
                tied.push(entry.kind_name());
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(tied, ["compromise_declared", "device_revoked", "profile_enabled", "profile_enabled"]);
    // Run again: nothing is done twice.
    let head = ledger.log().head().unwrap().seq;
    let again = ledger.remedy(&look(&ledger)).unwrap();
    assert_eq!((ledger.log().head().unwrap().seq, &again), (head, &applied));
    assert_eq!(ledger.compromises().unwrap().len(), 1);
    // People do their part: a new key, a new login.
    clock.advance(HOUR);
    put(&ledger, "mail_key", "CANARY-new");
    assert_eq!(open(&ledger.remedy(&look(&ledger)).unwrap()), people[..2]);
    ledger.auth().logged_in(&oauth_profile("corp"), LoginFlow::Device, &tokens("3")).unwrap();
    let done = ledger.remedy(&look(&ledger)).unwrap();
    assert!(done.closed && done.missed.is_empty(), "{done:?}");
    assert!(ledger.compromises().unwrap().is_empty());
    // What came after the login belongs to the new grant.
    refresh(&ledger, "corp", "4");
    assert!(look(&ledger).items.contains(&replace("global/auth/corp/refresh", 2)));
    let report = ledger.verify(palyra_ledger::VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn what_the_grant_brings_after_the_plan_is_found_as_missed_and_added() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let concern = Concern::Secret(path("global/auth/corp/refresh"));
    let exposure = ledger.exposure(&concern, since, until, None).unwrap();
    // Somebody refreshes between the look and the deed.
    refresh(&ledger, "corp", "5");
    let applied = ledger.remedy(&exposure).unwrap();
    assert_eq!(applied.missed, [replace("global/auth/corp/access", 3), replace("global/auth/corp/refresh", 3)]);
    let exposure = ledger.exposure(&concern, since, until, None).unwrap();
    let applied = ledger.remedy(&exposure).unwrap();
    assert!(applied.missed.is_empty() && !applied.closed);
    assert_eq!(ledger.compromises().unwrap().len(), 1);
}

#[test]
fn a_deleted_secret_is_open_and_a_shredded_one_is_done() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let concern = Concern::Secret(path("global/other"));
    let vault = ledger.vault(Scope::global());
    vault.delete(&"other".parse().unwrap(), Versions::All, None).unwrap();
    let exposure = ledger.exposure(&concern, since, until, None).unwrap();
    assert!(!ledger.remedy(&exposure).unwrap().closed);
    vault.shred(&"other".parse().unwrap(), Versions::All, None).unwrap();
    assert!(ledger.remedy(&exposure).unwrap().closed);
}

#[test]
fn a_plan_that_was_cut_off_anywhere_goes_on_where_it_stopped() {
    let (prepared, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&prepared, &clock);
    ledger.close().unwrap();
    drop(ledger);
    prepared.settle();
    let concern = Concern::Device(device(1));
    let mut cuts = 0;
    for after in 0.. {
        let disk = prepared.snapshot();
        {
            let ledger = Ledger::open(config(&disk, 5, &clock)).unwrap();
            let exposure = ledger.exposure(&concern, since, until, None).unwrap();
            disk.set_cut_after(disk.operations() + after);
            let _ = ledger.remedy(&exposure);
        }
        let finished = !disk.was_cut();
        for crashed in [disk.crash_strict(), disk.crash_all()] {
            let ledger = Ledger::open(config(&crashed, 6, &clock)).unwrap();
            let exposure = ledger.exposure(&concern, since, until, None).unwrap();
            let applied = ledger.remedy(&exposure).unwrap();
            assert_eq!(applied.items.iter().filter(|state| !state.done).count(), 3, "cut {after}");
            assert!(applied.missed.is_empty());
            assert_eq!(ledger.compromises().unwrap().len(), 1);
        }
        cuts = after;
        if finished {
            break;
        }
    }
    assert!(cuts > 3);
}

#[test]
fn a_log_that_does_not_read_gives_no_answer_at_all() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    ledger.close().unwrap();
    drop(ledger);
    disk.settle();
    let medium = FaultMedium::new(disk);
    let ledger = Ledger::open(config_over(&medium, &clock)).unwrap();
    medium.plan(Fault::from_then_on(FaultOp::Read, 1, FaultError::Io));
    assert!(ledger.exposure(&Concern::Device(device(1)), since, until, None).is_err());
}

fn config_over(medium: &FaultMedium<SimDisk>, clock: &ManualClock) -> palyra_ledger::Config {
    config(&SimDisk::new(), 4, clock).medium(std::sync::Arc::new(medium.clone())).read_only()
}

#[test]
fn a_refresh_that_failed_writes_nothing_that_could_be_exposed() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let auth = ledger.auth();
    let ticket = auth.begin_refresh(&"corp".parse().unwrap(), true).unwrap();
    let failed = RefreshResult::Failed {
        failure: palyra_ledger::event::auth::FailureKind::RateLimit,
        what: "status 429".to_owned(),
        retry_after_ms: None,
        unanswered: false,
    };
    auth.refresh_failed(&ticket.started, &failed).unwrap();
    let exposure = ledger.exposure(&Concern::Device(device(1)), since, until, None).unwrap();
    assert!(exposure.items.contains(&replace("global/auth/corp/refresh", 2)));
}

#[test]
fn what_a_device_reads_until_it_is_revoked_is_part_of_it() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let concern = Concern::Device(device(1));
    let exposure = ledger.exposure(&concern, since, until, None).unwrap();
    // While somebody is asked, the thief reads on.
    read_as(&ledger, device(1), "global/other");
    let (seen, applied) = ledger.remedy_until_now(exposure).unwrap();
    assert!(seen.until > until && seen.items.contains(&replace("global/other", 1)), "{seen:?}");
    assert!(applied.items.iter().any(|state| state.item == replace("global/other", 1) && !state.done));
    assert!(applied.missed.is_empty() && !applied.closed);
    // Run again, the window is the one of the plan: nothing is lost and nothing is declared anew.
    let open = ledger.compromises().unwrap().remove(0);
    let until = ledger.window_end(&open).unwrap();
    assert_eq!(until, seen.until);
    let head = ledger.log().head().unwrap().seq;
    let (_, again) = ledger.remedy_until_now(ledger.exposure(&concern, since, until, None).unwrap()).unwrap();
    assert_eq!((ledger.log().head().unwrap().seq, again), (head, applied));
}

#[test]
fn a_run_that_was_cut_off_before_it_asked_anew_asks_up_to_the_revocation() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let exposure = ledger.exposure(&Concern::Device(device(1)), since, until, None).unwrap();
    read_as(&ledger, device(1), "global/other");
    clock.advance(HOUR);
    ledger.remedy(&exposure).unwrap();
    let open = ledger.compromises().unwrap().remove(0);
    let until = ledger.window_end(&open).unwrap();
    let exposure = ledger.exposure(&open.concern, open.since, until, None).unwrap();
    assert!(exposure.items.contains(&replace("global/other", 1)), "{until}: {exposure:?}");
}

#[test]
fn the_same_value_written_again_replaces_nothing() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    let exposure = ledger.exposure(&Concern::Secret(path("global/other")), since, until, None).unwrap();
    put(&ledger, "other", "CANARY-other");
    assert!(!ledger.remedy(&exposure).unwrap().closed);
    put(&ledger, "other", "CANARY-another");
    assert!(ledger.remedy(&exposure).unwrap().closed);
}

#[test]
fn where_reads_are_not_recorded_nobody_says_that_nothing_was_missed() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    ledger.close().unwrap();
    drop(ledger);
    let mut settings = palyra_ledger::Settings::default();
    settings.audit.reads = palyra_ledger::AuditReads::Off;
    let ledger = Ledger::open(config(&disk, 7, &clock).settings(settings)).unwrap();
    let mut exposure = ledger.exposure(&Concern::Device(device(2)), until, until, None).unwrap();
    assert!(!exposure.reads_recorded && exposure.readings.is_empty() && since < until);
    let applied = ledger.remedy(&exposure).unwrap();
    assert!(applied.items.iter().all(|state| state.done) && !applied.closed, "{applied:?}");
    exposure.vouched = true;
    assert!(ledger.remedy(&exposure).unwrap().closed);
}

#[test]
fn a_grant_ends_with_its_refresh_token_and_what_people_write_is_theirs() {
    for way in ["shred", "logout", "login", "person"] {
        let (disk, clock) = (SimDisk::new(), ManualClock::default());
        let Story { ledger, since, until } = story(&disk, &clock);
        let concern = Concern::Profile("corp".parse().unwrap());
        let refresh_name = "auth/corp/refresh".parse().unwrap();
        let vault = ledger.vault(Scope::global());
        match way {
            "shred" => vault.shred(&refresh_name, Versions::All, None).map(|_| ()).unwrap(),
            "logout" => ledger.auth().logged_out(&"corp".parse().unwrap(), false).unwrap(),
            "login" => ledger.auth().logged_in(&oauth_profile("corp"), LoginFlow::Device, &tokens("9")).unwrap(),
            _ => assert!(put(&ledger, "auth/corp/refresh", "CANARY-own") > 0),
        }
        let look = |concern: &Concern| ledger.exposure(concern, since, until, None).unwrap().items;
        let before = look(&concern);
        assert!(before.contains(&replace("global/auth/corp/access", 2)), "{way}: {before:?}");
        put(&ledger, "auth/corp/access", "CANARY-by-hand");
        assert_eq!(look(&concern), before, "{way}");
        // The same for a device that read the token.
        let read = look(&Concern::Device(device(1)));
        assert!(read.contains(&replace("global/auth/corp/access", 2)), "{way}: {read:?}");
    }
}

#[test]
fn a_token_that_a_person_replaced_is_not_called_open_because_of_an_older_grant() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let Story { ledger, since, until } = story(&disk, &clock);
    put(&ledger, "auth/corp/access", "CANARY-by-hand");
    let items = ledger.exposure(&Concern::Device(device(1)), since, until, None).unwrap().items;
    assert!(items.contains(&replace("global/auth/corp/access", 2)), "what the refresh wrote, not version 3: {items:?}");
}

#[test]
fn how_a_device_was_paired_is_told_for_each_time_and_not_by_a_request_that_nobody_approved() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = init(&disk, &clock);
    put(&ledger, "key", "value");
    let key = LeafKey::generate().unwrap();
    pair_device(&ledger, device(1), &key).unwrap();
    ledger.identity().grant(device(1), Scope::global(), true).unwrap();
    clock.advance(HOUR);
    read_as(&ledger, device(1), "global/key");
    let since = ledger.log().head().unwrap().time;
    // Somebody asks in its name, and is turned away.
    clock.advance(HOUR);
    let other = palyra_ledger::testing::ask_to_pair(&ledger, device(1), &LeafKey::generate().unwrap()).unwrap();
    ledger.identity().deny(other.request, None).unwrap();
    let until = ledger.log().head().unwrap().time;
    let exposure = ledger.exposure(&Concern::Device(device(1)), since, until, None).unwrap();
    let story = ledger.log().story(&Concern::Device(device(1)), None).unwrap();
    let at = |kind: &str| story.iter().find(|one| one.entry.kind_name() == kind).map(|one| one.entry.seq);
    let told = &exposure.devices;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].minted_at_seq, told[0].paired_at_seq), (at("pairing_minted"), at("device_paired")));
}
