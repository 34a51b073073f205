//! New tokens are never lost, and old ones never spent twice, whatever happens around a refresh.

use std::process::Stdio;
use std::sync::Arc;

use palyra_ledger::auth::{AuthError, Health, RefreshResult, standing};
use palyra_ledger::event::auth::{CredentialSource, FailureKind, LoginFlow, OauthSource, Profile};
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{Auth, Config, Error, Ledger, NewSlot, NewTokens, PutOptions, SecretBytes, SecretPath, Settings};

use super::Home;
use super::oidc::Oidc;

const HOUR: u64 = 3_600_000;

/// Waits until a daemon has the ledger.
fn await_socket(home: &Home) {
    assert!(super::wait(|| home.path().join("serve.sock").exists()), "the daemon does not serve");
}

/// Waits until the provider has been asked so often for tokens.
fn asked(provider: &Oidc, times: u64) {
    assert!(super::wait(|| provider.stats().0 >= times), "nobody asks the provider");
}

struct Bench {
    disk: SimDisk,
    clock: ManualClock,
    ledger: Ledger,
    auth: Auth,
}

fn config(disk: &SimDisk, clock: &ManualClock, settings: Settings) -> Config {
    Config::new("/home")
        .medium(Arc::new(disk.clone()))
        .clock(Arc::new(clock.clone()))
        .random(Arc::new(SeededRandom::new(5)))
        .without_background()
        .settings(settings)
}

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

fn oauth(id: &str) -> Profile {
    let place = |name: &str| format!("global/auth/{id}/{name}").parse().unwrap();
    Profile {
        id: id.parse().unwrap(),
        provider: "custom:corp".parse().unwrap(),
        name: id.to_owned(),
        scope: "global".parse().unwrap(),
        enabled: true,
        credential: CredentialSource::Oauth(Box::new(OauthSource {
            access: place("access"),
            refresh: Some(place("refresh")),
            client_secret: None,
            token_endpoint: "https://auth.example/token".to_owned(),
            revocation_endpoint: None,
            client_id: "cid".to_owned(),
            scopes: Vec::new(),
        })),
    }
}

fn changed(profile: &Profile, change: impl FnOnce(&mut OauthSource)) -> Profile {
    let mut profile = profile.clone();
    if let CredentialSource::Oauth(source) = &mut profile.credential {
        change(source);
    }
    profile
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let (disk, clock) = (SimDisk::new(), ManualClock::default());
        let ledger = Ledger::init(config(&disk, &clock, settings), NewSlot::file("machine")).unwrap();
        let auth = ledger.auth();
        Self { disk, clock, ledger, auth }
    }

    fn put(&self, reference: &str, value: &str) {
        let reference: SecretPath = reference.parse().unwrap();
        self.ledger.vault(reference.scope.clone()).put(&reference.name, &bytes(value), PutOptions::new()).unwrap();
    }

    fn get(&self, reference: &str) -> String {
        let reference: SecretPath = reference.parse().unwrap();
        let value = self.ledger.vault(reference.scope.clone()).get(&reference.name).unwrap().value;
        String::from_utf8(value.expose().to_vec()).unwrap()
    }

    /// A profile that was logged in, with a token that lives so long.
    fn logged_in(&self, id: &str, life_ms: u64) -> Profile {
        let profile = oauth(id);
        self.auth.logged_in(&profile, LoginFlow::Code, &self.tokens("first", life_ms)).unwrap();
        profile
    }

    fn tokens(&self, name: &str, life_ms: u64) -> NewTokens {
        NewTokens {
            access: bytes(&format!("access {name}")),
            refresh: Some(bytes(&format!("refresh {name}"))),
            expires_at: Some(self.auth.now().plus_millis(life_ms)),
            answer: palyra_ledger::auth::AnswerNote::default(),
        }
    }

    fn health(&self, id: &str) -> Health {
        let (record, runtime) = self.auth.profile(&id.parse().unwrap()).unwrap();
        standing(&record.profile, &runtime, self.auth.now(), 300_000).health
    }
}

fn is_busy<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Auth(AuthError::Busy { .. })))
}

#[test]
fn a_profile_that_is_changed_under_way_still_takes_its_answer() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    // What has nothing to do with the tokens may change.
    bench.auth.set(changed(&profile, |source| source.scopes = vec!["read".to_owned()]), None).unwrap();
    bench.auth.enable(&profile.id, false).unwrap();
    bench.auth.clear(&profile.id).unwrap();
    // What would part the answer from its profile waits.
    let elsewhere = changed(&profile, |source| source.access = "global/other".parse().unwrap());
    assert!(is_busy(bench.auth.set(elsewhere, None)));
    assert!(is_busy(bench.auth.delete(&profile.id)));
    assert!(is_busy(bench.auth.logged_out(&profile.id, true)));
    assert!(is_busy(bench.auth.begin_refresh(&profile.id, true)));
    bench.auth.renewed(&ticket.started, &bench.tokens("second", HOUR)).unwrap();
    assert_eq!(bench.get("global/auth/p/refresh"), "refresh second");
}

#[test]
fn two_profiles_never_spend_one_token() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", HOUR);
    let CredentialSource::Oauth(source) = &profile.credential else { panic!() };
    let place = source.refresh.clone();
    let other = changed(&oauth("other"), |source| source.refresh = place);
    let refused = bench.auth.set(other.clone(), None);
    assert!(
        matches!(&refused, Err(Error::Auth(AuthError::Shared { owner, .. })) if owner.as_str() == "p"),
        "{refused:?}"
    );
    assert!(bench.auth.logged_in(&other, LoginFlow::Code, &bench.tokens("x", HOUR)).is_err());
    bench.auth.delete(&profile.id).unwrap();
    bench.auth.set(other, None).unwrap();
}

#[test]
fn an_answer_never_completes_the_refresh_of_a_profile_made_anew() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    bench.clock.advance(61_000);
    bench.auth.delete(&profile.id).unwrap();
    bench.logged_in("p", 60_000);
    let again = bench.auth.begin_refresh(&profile.id, true).unwrap();
    assert!(again.started.generation > ticket.started.generation);
    let late = bench.auth.renewed(&ticket.started, &bench.tokens("late", HOUR));
    assert!(matches!(late, Err(Error::Auth(AuthError::Superseded { .. }))));
    bench.auth.renewed(&again.started, &bench.tokens("second", HOUR)).unwrap();
    assert_eq!(bench.get("global/auth/p/refresh"), "refresh second");
}

#[test]
fn a_token_that_hardly_lives_is_not_due_at_once() {
    let bench = Bench::new();
    for (life, due_after) in [(60_000, 30_000), (0, 10_000), (2 * HOUR, 2 * HOUR - 300_000)] {
        let profile = bench.logged_in("p", life);
        bench.clock.advance(due_after.min(20_000) / 2);
        assert_eq!(bench.auth.due().unwrap(), [], "life {life}");
        // Profiles come due a little later than the window says, each at a time of its own.
        bench.clock.advance(due_after - due_after.min(20_000) / 2 + 60_000);
        assert_eq!(bench.auth.due().unwrap(), [profile.id], "life {life}");
    }
    // A life of the window's length is no reason to call a fresh token expiring.
    bench.logged_in("q", 300_000);
    assert_eq!(bench.health("q"), Health::Healthy);
}

#[test]
fn a_token_that_the_provider_no_longer_takes_is_due() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", HOUR);
    bench.clock.advance(20_000);
    assert_eq!(bench.auth.due().unwrap(), []);
    bench.auth.report_failure(&profile.id, FailureKind::AuthInvalid, None).unwrap();
    bench.auth.flush_usage().unwrap();
    assert_eq!(bench.auth.due().unwrap(), std::slice::from_ref(&profile.id));
    let ticket = bench.auth.begin_refresh(&profile.id, false).unwrap();
    bench.auth.renewed(&ticket.started, &bench.tokens("second", HOUR)).unwrap();
    assert_eq!((bench.auth.due().unwrap().len(), bench.health("p")), (0, Health::Healthy));
}

#[test]
fn an_answer_that_is_lost_twice_waits_for_a_person() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    drop(bench.auth.begin_refresh(&profile.id, true).unwrap());
    bench.clock.advance(61_000);
    assert_eq!(bench.auth.due().unwrap(), std::slice::from_ref(&profile.id));
    drop(bench.auth.begin_refresh(&profile.id, false).unwrap());
    bench.clock.advance(61_000);
    let given_up = bench.auth.begin_refresh(&profile.id, false);
    assert!(
        matches!(&given_up, Err(Error::Auth(AuthError::NeedsPerson { what, .. })) if what.contains("two refreshes in a row"))
    );
    assert_eq!(bench.auth.due().unwrap(), [], "nobody tries by himself");
    assert_eq!(bench.health("p"), Health::Failed);
    // A person may say that the token is good.
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    bench.auth.renewed(&ticket.started, &bench.tokens("second", HOUR)).unwrap();
    assert_eq!(bench.health("p"), Health::Healthy);
}

#[test]
fn a_lost_answer_is_remembered_over_failures_that_say_nothing() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let failed =
        |failure, unanswered| RefreshResult::Failed { failure, what: "x".to_owned(), retry_after_ms: None, unanswered };
    for (failure, unanswered) in [(FailureKind::Transient, true), (FailureKind::RateLimit, false)] {
        let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
        bench.auth.refresh_failed(&ticket.started, &failed(failure, unanswered)).unwrap();
    }
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    let refused = RefreshResult::Refused { failure: FailureKind::AuthInvalid, what: "invalid_grant".to_owned() };
    let recorded = bench.auth.refresh_failed(&ticket.started, &refused).unwrap();
    assert!(
        matches!(&recorded, RefreshResult::Refused { what, .. } if what.contains("an earlier answer was lost")),
        "{recorded:?}"
    );
}

#[test]
fn a_secret_that_is_not_there_yet_is_waited_for() {
    let bench = Bench::new();
    let profile = oauth("p");
    bench.auth.set(profile.clone(), None).unwrap();
    assert!(matches!(bench.auth.begin_refresh(&profile.id, false), Err(Error::Vault(_))));
    assert_eq!(bench.auth.due().unwrap(), [], "not at once");
    bench.put("global/auth/p/refresh", "given");
    bench.clock.advance(60_000);
    assert_eq!(bench.auth.due().unwrap(), std::slice::from_ref(&profile.id));
    let ticket = bench.auth.begin_refresh(&profile.id, false).unwrap();
    assert_eq!(ticket.refresh_token.expose(), b"given");
}

#[test]
fn a_refresh_token_goes_to_no_other_endpoint_without_a_person() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let moved = changed(&profile, |source| source.token_endpoint = "https://elsewhere.example/token".to_owned());
    bench.auth.set(moved, None).unwrap();
    assert_eq!(bench.auth.due().unwrap(), []);
    assert!(matches!(bench.auth.begin_refresh(&profile.id, false), Err(Error::Auth(AuthError::NeedsPerson { .. }))));
    bench.auth.clear(&profile.id).unwrap();
    assert_eq!(bench.auth.due().unwrap(), [profile.id]);
}

#[test]
fn a_refresh_token_that_a_person_writes_meanwhile_stays() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    bench.put("global/auth/p/refresh", "by hand");
    bench.auth.renewed(&ticket.started, &bench.tokens("second", HOUR)).unwrap();
    assert_eq!(bench.get("global/auth/p/refresh"), "by hand");
    assert_eq!(bench.get("global/auth/p/access"), "access second");
}

#[test]
fn a_login_that_gives_no_refresh_token_leaves_none_of_the_grant_before() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", HOUR);
    let tokens = NewTokens { refresh: None, ..bench.tokens("second", HOUR) };
    bench.auth.logged_in(&profile, LoginFlow::Code, &tokens).unwrap();
    bench.clock.advance(HOUR);
    assert!(matches!(bench.auth.begin_refresh(&profile.id, true), Err(Error::Vault(_))), "the old one is not sent");
}

#[test]
fn a_login_is_taken_while_a_refresh_is_under_way() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    bench.auth.report_failure(&profile.id, FailureKind::ConfigMissing, None).unwrap();
    bench.auth.flush_usage().unwrap();
    bench.auth.logged_in(&profile, LoginFlow::Device, &bench.tokens("new grant", HOUR)).unwrap();
    let late = bench.auth.renewed(&ticket.started, &bench.tokens("old grant", HOUR));
    assert!(matches!(late, Err(Error::Auth(AuthError::Superseded { .. }))));
    assert_eq!(bench.get("global/auth/p/refresh"), "refresh new grant");
    assert_eq!(bench.health("p"), Health::Healthy, "the failures were those of the grant before");
}

#[test]
fn a_token_longer_than_the_vaults_setting_is_kept_all_the_same() {
    let mut settings = Settings::default();
    settings.limits.max_value_bytes = 16;
    let bench = Bench::with(settings);
    let profile = bench.logged_in("p", 60_000);
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    let long = "x".repeat(5000);
    bench.auth.renewed(&ticket.started, &bench.tokens(&long, HOUR)).unwrap();
    assert_eq!(bench.get("global/auth/p/refresh"), format!("refresh {long}"));
}

#[test]
fn requests_that_fail_together_are_one_failure() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", HOUR);
    for _ in 0..20 {
        bench.auth.report_failure(&profile.id, FailureKind::RateLimit, None).unwrap();
    }
    // The answer to a request of before comes late.
    bench.auth.report_success(&profile.id).unwrap();
    bench.auth.flush_usage().unwrap();
    let (_, runtime) = bench.auth.profile(&profile.id).unwrap();
    let bench_ms = runtime.cooldown_until.unwrap().as_millis() - bench.clock_ms();
    assert_eq!(runtime.failure_count, 1);
    assert!((48_000..=72_000).contains(&bench_ms), "{bench_ms}");
}

impl Bench {
    fn clock_ms(&self) -> u64 {
        self.auth.now().as_millis()
    }
}

#[test]
fn what_was_reported_survives_a_close_and_a_probe_is_known_to_the_next_process() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", HOUR);
    bench.auth.report_failure(&profile.id, FailureKind::RateLimit, None).unwrap();
    bench.clock.advance(80_000);
    let chosen = bench.auth.select(&palyra_ledger::auth::Query::default(), false).unwrap();
    assert!(chosen.probe);
    bench.ledger.close().unwrap();
    assert!(matches!(bench.auth.report_success(&profile.id), Err(Error::Closed)));
    let ledger = Ledger::open(config(&bench.disk, &bench.clock, Settings::default())).unwrap();
    let second = ledger.auth().select(&palyra_ledger::auth::Query::default(), false);
    assert!(matches!(second, Err(Error::Auth(AuthError::NoCandidate(_)))), "one caller tries at a time");
    bench.clock.advance(31_000);
    assert!(ledger.auth().select(&palyra_ledger::auth::Query::default(), false).unwrap().probe);
}

/// The ledger is let go while the provider is asked. A daemon that takes it then gets the tokens.
#[test]
fn tokens_that_come_while_a_daemon_takes_the_ledger_are_handed_to_it() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    provider.profile(&home, "main");
    provider.delay(12_000);
    let words = ["--lock-wait", "0", "auth", "refresh", "--profile", "main", "--force"];
    let refresh = home.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked(&provider, 1);
    let mut daemon = home.command(&super::SERVE).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_socket(&home);
    let output = refresh.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    provider.delay(0);
    assert_eq!(home.show("main")["health"], "healthy");
    home.ok(&["auth", "refresh", "--profile", "main", "--force"]);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(provider.stats(), (2, 0, 0));
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn one_answer_that_is_refused_loses_none_of_the_others() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    for id in ["a", "b"] {
        provider.profile(&home, id);
    }
    provider.delay(16_000);
    let words = ["--format", "json", "auth", "refresh", "--force"];
    let refresh = home.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked(&provider, 2);
    provider.delay(0);
    let mut daemon = home.command(&super::SERVE).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_socket(&home);
    // Another grant for the one: the answer of the one before is no longer taken.
    super::story::logged_in(&provider, &home, "a");
    let output = refresh.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(12), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |id: &str| {
        said["refreshed"].as_array().unwrap().iter().find(|one| one["profile"] == id).unwrap()["result"].clone()
    };
    assert_eq!((of("a"), of("b")), ("skipped".into(), "renewed".into()));
    for id in ["a", "b"] {
        assert_eq!(home.show(id)["health"], "healthy");
        home.ok(&["auth", "refresh", "--profile", id, "--force"]);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(provider.stats(), (4, 0, 0));
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn a_daemon_that_stops_waits_for_the_answer_that_a_client_waits_for() {
    let Some(provider) = Oidc::start() else { return };
    let home = Home::new();
    provider.profile(&home, "main");
    // Its tokens are fresh: nothing is refreshed but what the client asks for.
    home.ok(&["auth", "refresh", "--profile", "main"]);
    let mut daemon = home.command(&super::SERVE).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_socket(&home);
    // Longer than connections are waited for.
    provider.delay(25_000);
    let words = ["auth", "refresh", "--profile", "main", "--force"];
    let refresh = home.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked(&provider, 2);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = refresh.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(daemon.wait().unwrap().success());
    provider.delay(0);
    assert_eq!(home.show("main")["health"], "healthy");
    home.ok(&["auth", "refresh", "--profile", "main", "--force"]);
    assert_eq!(provider.stats(), (3, 0, 0));
}

#[test]
fn a_logout_knows_of_tokens_that_came_after_it_asked() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", 60_000);
    let generation = bench.auth.profile(&profile.id).unwrap().1.generation;
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    bench.auth.renewed(&ticket.started, &bench.tokens("second", HOUR)).unwrap();
    let late = bench.auth.logged_out_at(&profile.id, true, generation);
    assert!(matches!(late, Err(Error::Auth(AuthError::Superseded { .. }))));
    assert_eq!(bench.get("global/auth/p/refresh"), "refresh second");
    bench.auth.logged_out_at(&profile.id, true, generation + 1).unwrap();
}

#[test]
fn an_edit_of_the_documents_sends_no_token_to_another_endpoint() {
    let bench = Bench::new();
    let profile = bench.logged_in("p", HOUR);
    let made = bench.auth.documents().unwrap().unwrap();
    let refused = |edited: &palyra_ledger::auth::documents::Documents, why: &str| {
        let problems = bench.auth.plan(edited, Some(&made)).unwrap().unwrap_err();
        assert!(problems.iter().any(|problem| problem.what.contains(why)), "{problems:?}");
    };
    let moved = made.profiles.replace("https://auth.example/token", "https://elsewhere.example/token");
    let with = |profiles: &str, runtime: &str| palyra_ledger::auth::documents::Documents {
        profiles: profiles.to_owned(),
        runtime: runtime.to_owned(),
    };
    refused(&with(&moved, &made.runtime), "another endpoint");
    // Under another id.
    let renamed = moved.replace("profile_id = \"p\"", "profile_id = \"p2\"");
    refused(&with(&renamed, &made.runtime.replace("profile_id = \"p\"", "profile_id = \"p2\"")), "another endpoint");
    // By a revocation endpoint of one's own.
    let revoked =
        made.profiles.replace("client_id =", "revocation_endpoint = \"https://elsewhere.example/\"\nclient_id =");
    refused(&with(&revoked, &made.runtime), "another endpoint");
    // What waits for a person is not cleared by an edit.
    bench.auth.report_failure(&profile.id, FailureKind::Quota, None).unwrap();
    let ticket = bench.auth.begin_refresh(&profile.id, true).unwrap();
    let result = RefreshResult::Refused { failure: FailureKind::AuthInvalid, what: "invalid_grant".to_owned() };
    bench.auth.refresh_failed(&ticket.started, &result).unwrap();
    bench.auth.flush_usage().unwrap();
    let made = bench.auth.documents().unwrap().unwrap();
    let lines: Vec<_> = made.runtime.lines().filter(|line| !line.starts_with("cooldown_until_unix_ms")).collect();
    let reset = lines.join("\n").replace("failure_count = 1", "failure_count = 0");
    let problems = bench.auth.plan(&with(&made.profiles, &reset), Some(&made)).unwrap().unwrap_err();
    assert!(problems.iter().any(|problem| problem.what.contains("needs a person")), "{problems:?}");
}
