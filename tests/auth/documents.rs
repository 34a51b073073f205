//! The two documents: golden bytes, the fields of the system before, and what people edit in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use palyra_ledger::auth::documents::{Documents, Edit, PROFILES_FILE, Plan, Problem, RUNTIME_FILE};
use palyra_ledger::auth::{AuthError, Query, RefreshResult};
use palyra_ledger::event::auth::{CredentialSource, FailureKind, LoginFlow, Profile};
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Ledger, ReplayPoint, Timestamp, limits};
use proptest::prelude::*;

use super::common::{
    DAY, HOUR, MINUTE, START, at, cases, config, events, id, key, ledger, oauth, open, place, put, refusal, source,
    tokens,
};

const PALYRA_PROFILES: &str = include_str!("golden/palyra/auth_profiles.toml");
const PALYRA_RUNTIME: &str = include_str!("golden/palyra/auth_profile_runtime_state.toml");

/// The fields of the system before, as its two files show them.
const PALYRA_FIELDS: [&str; 43] = [
    "profile_orders",
    "profile_orders.profile_ids",
    "profile_orders.provider",
    "profile_orders.scope",
    "profile_orders.updated_at_unix_ms",
    "profiles",
    "profiles.created_at_unix_ms",
    "profiles.credential",
    "profiles.credential.access_token_vault_ref",
    "profiles.credential.api_key_vault_ref",
    "profiles.credential.client_id",
    "profiles.credential.expires_at_unix_ms",
    "profiles.credential.refresh_state",
    "profiles.credential.refresh_state.failure_count",
    "profiles.credential.refresh_token_vault_ref",
    "profiles.credential.scopes",
    "profiles.credential.token_endpoint",
    "profiles.credential.type",
    "profiles.profile_id",
    "profiles.profile_name",
    "profiles.provider",
    "profiles.provider.custom_name",
    "profiles.provider.kind",
    "profiles.scope",
    "profiles.scope.agent_id",
    "profiles.scope.kind",
    "profiles.updated_at_unix_ms",
    "records",
    "records.cooldown_until_unix_ms",
    "records.created_at_unix_ms",
    "records.credential_type",
    "records.doctor_hint",
    "records.doctor_hint.code",
    "records.doctor_hint.message",
    "records.doctor_hint.severity",
    "records.eligibility",
    "records.failure_count",
    "records.last_failure_kind",
    "records.last_failure_unix_ms",
    "records.last_success_unix_ms",
    "records.last_used_unix_ms",
    "records.profile_id",
    "records.provider",
];

/// The rest of them: one array would be longer than a screen.
const PALYRA_FIELDS_TOO: [&str; 4] =
    ["records.scope", "records.token_expiry_state", "records.updated_at_unix_ms", "version"];

/// What ours say besides, only where there is something to say.
const OUR_FIELDS: [&str; 6] = [
    "profiles.credential.client_secret_vault_ref",
    "profiles.credential.refresh_state.last_error",
    "profiles.credential.refresh_state.last_success_unix_ms",
    "profiles.credential.refresh_state.next_allowed_refresh_unix_ms",
    "profiles.credential.revocation_endpoint",
    "profiles.enabled",
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/auth/golden").join(name)
}

fn render(ledger: &Ledger) -> Documents {
    ledger.auth().documents().unwrap().unwrap()
}

fn head(ledger: &Ledger) -> u64 {
    ledger.log().head().unwrap().seq
}

/// Every kind of profile and every way in which one may stand.
fn scenario() -> (Ledger, SimDisk, ManualClock) {
    let (ledger, disk, clock) = ledger();
    let auth = ledger.auth();
    put(&ledger, &place("doubt", "refresh"), "token");
    put(&ledger, &"global/keys/main".parse().unwrap(), "sk-canary-000");
    auth.set(key("main", "openai", "global"), None).unwrap();
    auth.set(key("spare", "openai", "global"), None).unwrap();
    auth.set(Profile { enabled: false, ..key("hook", "webhook", "agent:ada") }, None).unwrap();
    auth.set(Profile { name: "quote \" back \\ d\u{e9}j\u{e0} vu".to_owned(), ..key("odd", "slack", "global") }, None)
        .unwrap();
    let mut full = source("full");
    full.client_secret = Some(place("full", "client_secret"));
    full.revocation_endpoint = Some("https://auth.example/revoke".to_owned());
    full.scopes = vec!["read".to_owned(), "write".to_owned()];
    let full =
        Profile { credential: CredentialSource::Oauth(Box::new(full)), ..oauth("full", "custom:corp", "agent:ada") };
    put(&ledger, &place("full", "client_secret"), "secret-canary-000");
    clock.advance(1000);
    let given = |ends: u64| tokens("access-canary-000", Some("refresh-canary-000"), Some(START + ends));
    auth.logged_in(&full, LoginFlow::Code, &given(HOUR)).unwrap();
    auth.set(oauth("doubt", "custom:corp", "global"), Some(at(START + HOUR))).unwrap();
    auth.logged_in(&oauth("dead", "anthropic", "global"), LoginFlow::Device, &given(MINUTE)).unwrap();
    auth.set(oauth("none", "discord", "global"), None).unwrap();
    auth.set_order("global".parse().unwrap(), "openai".parse().unwrap(), vec![id("spare"), id("main")]).unwrap();
    auth.set_order("agent:ada".parse().unwrap(), "custom:corp".parse().unwrap(), vec![id("full"), id("doubt")])
        .unwrap();
    clock.advance(MINUTE);
    let refused = RefreshResult::Refused { failure: FailureKind::AuthInvalid, what: "invalid_grant".to_owned() };
    let ticket = auth.begin_refresh(&id("dead"), false).unwrap();
    auth.refresh_failed(&ticket.started, &refused).unwrap();
    let later = RefreshResult::Failed {
        failure: FailureKind::RateLimit,
        what: "the provider answered status 429".to_owned(),
        retry_after_ms: Some(90_000),
        unanswered: false,
    };
    let ticket = auth.begin_refresh(&id("full"), true).unwrap();
    auth.refresh_failed(&ticket.started, &later).unwrap();
    auth.begin_refresh(&id("doubt"), true).unwrap();
    clock.advance(2 * MINUTE);
    let openai = Query { provider: Some("openai".parse().unwrap()), ..Query::default() };
    assert_eq!(auth.select(&openai, false).unwrap().profile.id, id("spare"));
    auth.report_failure(&id("spare"), FailureKind::RateLimit, Some(10 * MINUTE)).unwrap();
    assert_eq!(auth.select(&openai, false).unwrap().profile.id, id("main"));
    auth.report_success(&id("main")).unwrap();
    auth.report_failure(&id("odd"), FailureKind::Transient, None).unwrap();
    auth.flush_usage().unwrap();
    drop(auth);
    (ledger, disk, clock)
}

// ---- golden bytes and fields -------------------------------------------------------------------------

/// The documents with a state root of zeros: the device authority's key is new in every ledger, and it is
/// part of the state. `tests/golden` holds the root of a store that is checked in.
fn rootless(made: &Documents) -> [(&'static str, String); 2] {
    let zeros = |text: &str| {
        let (first, rest) = text.split_once('\n').unwrap();
        let (head, root) = first.split_once("state root ").unwrap();
        assert!(root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
        format!("{head}state root {:0>64}\n{rest}", 0)
    };
    [(PROFILES_FILE, zeros(&made.profiles)), (RUNTIME_FILE, zeros(&made.runtime))]
}

#[test]
fn the_documents_of_a_fixed_life_are_these_bytes() {
    let (ledger, ..) = scenario();
    let made = render(&ledger);
    for (name, text) in rootless(&made) {
        let expected = std::fs::read_to_string(golden(name)).unwrap();
        for (number, (found, line)) in text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, line, "{name}:{}", number + 1);
        }
        assert_eq!(text, expected);
    }
    assert!(!format!("{}{}", made.profiles, made.runtime).contains("canary"), "no secret stands in a document");
}

/// Only where the scenario or the format changes: `cargo test --test auth -- --ignored write_golden`.
#[test]
#[ignore = "writes into tests/auth/golden"]
fn write_golden() {
    let (ledger, ..) = scenario();
    for (name, text) in rootless(&render(&ledger)) {
        std::fs::write(golden(name), text).unwrap();
    }
}

fn fields(text: &str) -> BTreeSet<String> {
    fn walk(prefix: &str, value: &toml::Value, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    found.insert(path.clone());
                    walk(&path, value, found);
                }
            }
            toml::Value::Array(values) => values.iter().for_each(|value| walk(prefix, value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk("", &toml::Value::Table(text.parse().unwrap()), &mut found);
    found
}

#[test]
fn the_fields_are_those_of_the_system_before_and_six_more() {
    let listed: BTreeSet<String> =
        PALYRA_FIELDS.iter().chain(&PALYRA_FIELDS_TOO).map(|field| (*field).to_owned()).collect();
    let theirs: BTreeSet<_> = fields(PALYRA_PROFILES).union(&fields(PALYRA_RUNTIME)).cloned().collect();
    assert_eq!(theirs, listed);
    let (ledger, ..) = scenario();
    let made = render(&ledger);
    let ours: BTreeSet<_> = fields(&made.profiles).union(&fields(&made.runtime)).cloned().collect();
    let missing: Vec<_> = listed.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let besides: Vec<_> = ours.difference(&listed).map(String::as_str).collect();
    assert_eq!(besides, OUR_FIELDS);
}

#[test]
fn every_sequence_number_renders_the_same_bytes_again_after_reopening_and_with_another_clock_and_window() {
    let (ledger, disk, _) = scenario();
    let at_all = |ledger: &Ledger| -> Vec<Documents> {
        let window = limits::REFRESH_WINDOW_MS;
        let made = |seq| ledger.replay(ReplayPoint::Seq(seq)).unwrap().auth_documents(window).unwrap();
        (0..=head(ledger)).map(made).collect()
    };
    let first = at_all(&ledger);
    assert_eq!(first, at_all(&ledger));
    assert_eq!(first.last(), Some(&render(&ledger)), "the live state says what the log says");
    let last = head(&ledger);
    ledger.close().unwrap();
    let clock = ManualClock::new(at(START + 400 * DAY));
    let mut settings = super::common::settings();
    settings.auth.refresh_window_s = 3600;
    let ledger = Ledger::open(config(&disk, 77, &clock).settings(settings)).unwrap();
    assert_eq!(ledger.auth().refresh_window_ms(), HOUR);
    let again = at_all(&ledger);
    assert_eq!(first[..=usize::try_from(last).unwrap()], again[..=usize::try_from(last).unwrap()]);
    assert_eq!(again.last(), Some(&render(&ledger)), "whatever the configured window is");
    for (seq, made) in again.iter().enumerate() {
        for text in [&made.profiles, &made.runtime] {
            let first = text.lines().next().unwrap();
            let root = first.strip_prefix(&format!("# palyra-ledger: event {seq}, state root ")).unwrap();
            assert!(root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
        }
    }
}

#[test]
fn a_token_that_ends_at_the_end_of_time_still_renders() {
    let (ledger, ..) = ledger();
    ledger.auth().set(oauth("o", "openai", "global"), Some(Timestamp::from_millis(u64::MAX))).unwrap();
    let made = render(&ledger);
    assert!(made.profiles.contains("profile_id = \"o\""), "{}", made.profiles);
    assert!(ledger.auth().plan(&made, Some(&made)).unwrap().unwrap().edits.is_empty());
}

// ---- what the system before wrote --------------------------------------------------------------------

#[test]
fn files_of_the_system_before_are_understood_and_their_records_refused_line_by_line() {
    let (ledger, ..) = ledger();
    let auth = ledger.auth();
    let whole = Documents { profiles: PALYRA_PROFILES.to_owned(), runtime: PALYRA_RUNTIME.to_owned() };
    let problems = auth.plan(&whole, None).unwrap().unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| (problem.file, problem.line)).collect();
    assert_eq!(
        lines,
        [
            (RUNTIME_FILE, line(PALYRA_RUNTIME, "[[records]]", 0)),
            (RUNTIME_FILE, line(PALYRA_RUNTIME, "[[records]]", 1))
        ]
    );
    // Profiles and orders alone are understood.
    let (_, orders) = PALYRA_RUNTIME.split_once("[[profile_orders]]").unwrap();
    let edited = Documents { runtime: format!("version = 1\n\n[[profile_orders]]{orders}"), ..whole };
    let plan = auth.plan(&edited, None).unwrap().unwrap();
    let said: Vec<_> = plan.edits.iter().map(ToString::to_string).collect();
    let sets = ["corp-oauth", "openai-main", "openai-spare"].map(|name| format!("set profile {name}"));
    assert_eq!(said[..3], sets);
    assert_eq!(said[3..], ["set the order of global for openai"]);
    auth.apply(&plan).unwrap();
    let corp = auth.profile(&id("corp-oauth")).unwrap();
    assert_eq!(corp.1.expires_at, Some(at(1_900_000_000_000)));
    assert_eq!(corp.0.profile.scope.to_string(), "agent:agent-1");
    let spare = auth.profile(&id("openai-spare")).unwrap().0.profile;
    assert_eq!(spare.credential, CredentialSource::ApiKey("principal:user-7/github_token".parse().unwrap()));
    let order = &auth.orders().unwrap()[0];
    assert_eq!(order.profiles, [id("openai-spare"), id("openai-main")]);
    // Rendered again, they say the same, but for times.
    let timeless = |text: &str| {
        let kept = |line: &&str| !line.contains("ed_at_unix_ms") && !line.starts_with('#');
        text.lines().filter(kept).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(timeless(&render(&ledger).profiles), timeless(PALYRA_PROFILES));
}

// ---- bounds ------------------------------------------------------------------------------------------

fn many(range: std::ops::Range<u32>) -> Plan {
    let edit = |number: u32| {
        let name = format!("{:x>124}{number:04}", "");
        let make = if number.is_multiple_of(2) { key } else { oauth };
        // Each with tokens of its own: two profiles on one token would spend it against each other.
        let mut profile = make(&format!("p{number}"), "openai", "global");
        profile.id = id(&name);
        Edit::Set(Box::new(profile), None)
    };
    Plan { rendered: None, edits: range.map(edit).collect() }
}

#[test]
fn two_thousand_and_forty_eight_profiles_are_possible_and_one_beyond_the_bound_is_refused() {
    let (ledger, disk, clock) = ledger();
    let auth = ledger.auth();
    auth.apply(&many(0..2048)).unwrap();
    let made = render(&ledger);
    assert_eq!(made.profiles.matches("[[profiles]]").count(), 2048);
    assert_eq!(made.runtime.matches("[[records]]").count(), 2048);
    assert!(auth.plan(&made, Some(&made)).unwrap().unwrap().edits.is_empty());
    // All of them are reported on, and that is recorded.
    for (record, _) in auth.profiles(&palyra_ledger::AuthFilter::default()).unwrap().profiles {
        auth.report_failure(&record.profile.id, FailureKind::Quota, None).unwrap();
    }
    auth.flush_usage().unwrap();
    let noted: usize =
        events(&ledger, "usage_reported").iter().map(|event| event["notes"].as_array().unwrap().len()).sum();
    assert_eq!(noted, 2048);
    for from in (2048..limits::PROFILES_MAX).step_by(2048) {
        auth.apply(&many(from..from + 2048)).unwrap();
    }
    let before = head(&ledger);
    let mut one_more = key("one-more", "openai", "global");
    match refusal(auth.set(one_more.clone(), None)) {
        error @ AuthError::TooMany => assert!(error.to_string().contains("8192"), "{error}"),
        other => panic!("{other}"),
    }
    let login = auth.logged_in(&oauth("one-more", "openai", "global"), LoginFlow::Code, &tokens("a", None, None));
    assert!(matches!(refusal(login), AuthError::TooMany));
    let plan = Plan { rendered: None, edits: vec![Edit::Set(Box::new(one_more.clone()), None)] };
    assert!(matches!(refusal(auth.apply(&plan)), AuthError::TooMany));
    assert_eq!(head(&ledger), before);
    // One that is there already may be changed, and where one goes another may come.
    one_more.id = many(0..1)
        .edits
        .iter()
        .find_map(|edit| if let Edit::Set(it, _) = edit { Some(it.id.clone()) } else { None })
        .unwrap();
    auth.set(one_more.clone(), None).unwrap();
    auth.delete(&one_more.id).unwrap();
    auth.set(key("one-more", "openai", "global"), None).unwrap();
    ledger.close().unwrap();
    let ledger = open(&disk, 9, &clock);
    assert_eq!(render(&ledger).profiles.matches("[[profiles]]").count(), 8192);
}

// ---- edits -------------------------------------------------------------------------------------------

/// The line of the n-th place that begins so, from 1.
fn line(text: &str, begins: &str, nth: usize) -> usize {
    text.lines().enumerate().filter(|(_, line)| line.starts_with(begins)).nth(nth).unwrap().0 + 1
}

/// The block of a profile or record by its id, with its place.
fn block(text: &str, header: &str, name: &str) -> std::ops::Range<usize> {
    let marker = format!("{header}\nprofile_id = \"{name}\"\n");
    let from = text.find(&marker).unwrap_or_else(|| panic!("no {header} {name}"));
    let rest = &text[from + header.len()..];
    let end = rest.find("\n[[").map_or(text.len(), |at| from + header.len() + at + 1);
    from..end
}

fn in_block(text: &str, header: &str, name: &str, from: &str, to: &str) -> String {
    let at = block(text, header, name);
    let old = &text[at.clone()];
    assert!(old.contains(from), "{name} has no {from:?}: {old}");
    format!("{}{}{}", &text[..at.start], old.replacen(from, to, 1), &text[at.end..])
}

fn without(text: &str, header: &str, name: &str) -> String {
    let at = block(text, header, name);
    format!("{}{}", &text[..at.start], &text[at.end..])
}

fn profiles(base: &Documents, name: &str, from: &str, to: &str) -> Documents {
    Documents { profiles: in_block(&base.profiles, "[[profiles]]", name, from, to), ..base.clone() }
}

fn records(base: &Documents, name: &str, from: &str, to: &str) -> Documents {
    Documents { runtime: in_block(&base.runtime, "[[records]]", name, from, to), ..base.clone() }
}

const NEW: &str = "\n[[profiles]]\nprofile_id = \"new\"\nprofile_name = \"New\"\ncreated_at_unix_ms = 1\nupdated_at_unix_ms = 1\nprovider = { kind = \"telegram\" }\nscope = { kind = \"global\" }\n\n[profiles.credential]\ntype = \"api_key\"\napi_key_vault_ref = \"global/keys/new\"\n";
const NEW_ORDER: &str = "\n[[profile_orders]]\nscope = \"agent:bob\"\nprovider = \"slack\"\nprofile_ids = [\"odd\"]\nupdated_at_unix_ms = 1\n";

type Good = (&'static str, fn(&Documents) -> Documents, &'static [&'static str], &'static [&'static str]);

/// What is edited, how, the edits that it says, and the events that they become.
const GOOD: &[Good] = &[
    ("nothing", Clone::clone, &[], &[]),
    (
        "a name",
        |base| profiles(base, "main", "\"Profile main\"", "\"My key\""),
        &["set profile main"],
        &["profile_set"],
    ),
    (
        "disabled",
        |base| profiles(base, "main", "created_at", "enabled = false\ncreated_at"),
        &["set profile main"],
        &["profile_set"],
    ),
    ("enabled", |base| profiles(base, "hook", "enabled = false\n", ""), &["set profile hook"], &["profile_set"]),
    (
        "a service",
        |base| profiles(base, "odd", "kind = \"slack\"", "kind = \"custom\"\ncustom_name = \"x\""),
        &["set profile odd"],
        &["profile_set"],
    ),
    (
        "a scope",
        |base| profiles(base, "odd", "kind = \"global\"", "kind = \"agent\"\nagent_id = \"bob\""),
        &["set profile odd"],
        &["profile_set"],
    ),
    (
        "another key",
        |base| profiles(base, "main", "global/keys/main", "skill:mail/key"),
        &["set profile main"],
        &["profile_set"],
    ),
    (
        "the end of a token",
        |base| profiles(base, "dead", "expires_at_unix_ms = 1767225660000", "expires_at_unix_ms = 1900000000000"),
        &["set profile dead"],
        &["profile_set"],
    ),
    (
        "the scopes of a grant",
        |base| profiles(base, "full", "\"write\"", "\"admin\""),
        &["set profile full"],
        &["profile_set"],
    ),
    (
        "one more profile",
        |base| Documents { profiles: format!("{}{NEW}", base.profiles), ..base.clone() },
        &["set profile new"],
        &["profile_set"],
    ),
    (
        "one profile less",
        |base| Documents { profiles: without(&base.profiles, "[[profiles]]", "odd"), ..base.clone() },
        &["delete profile odd"],
        &["profile_deleted"],
    ),
    (
        "one profile and its record less",
        |base| Documents {
            profiles: without(&base.profiles, "[[profiles]]", "odd"),
            runtime: without(&base.runtime, "[[records]]", "odd"),
        },
        &["delete profile odd"],
        &["profile_deleted"],
    ),
    (
        "an order the other way round",
        |base| Documents {
            runtime: base.runtime.replace("    \"spare\",\n    \"main\",\n", "    \"main\",\n    \"spare\",\n"),
            ..base.clone()
        },
        &["set the order of global for openai"],
        &["order_set"],
    ),
    (
        "one order more",
        |base| Documents { runtime: format!("{}{NEW_ORDER}", base.runtime), ..base.clone() },
        &["set the order of agent:bob for slack"],
        &["order_set"],
    ),
    (
        "an order less",
        |base| Documents {
            runtime: base.runtime[..base.runtime.rfind("[[profile_orders]]").unwrap()].to_owned(),
            ..base.clone()
        },
        &["remove the order of global for openai"],
        &["order_set"],
    ),
    (
        "failures forgotten",
        |base| {
            let text = in_block(&base.runtime, "[[records]]", "spare", "failure_count = 1", "failure_count = 0");
            let bench = format!("cooldown_until_unix_ms = {}\n", START + 1000 + 3 * MINUTE + 10 * MINUTE);
            Documents { runtime: in_block(&text, "[[records]]", "spare", &bench, ""), ..base.clone() }
        },
        &["forget the failures of profile spare"],
        &["profile_cleared"],
    ),
    (
        "a new profile in a new order",
        |base| Documents {
            profiles: format!("{}{NEW}", base.profiles),
            runtime: format!("{}{}", base.runtime, NEW_ORDER.replace("slack", "telegram").replace("odd", "new")),
        },
        &["set profile new", "set the order of agent:bob for telegram"],
        &["profile_set", "order_set"],
    ),
];

fn kinds_after(ledger: &Ledger, seq: u64) -> Vec<String> {
    let last = head(ledger);
    (seq + 1..=last).map(|seq| ledger.log().entry(seq).unwrap().kind_name()).collect()
}

#[test]
fn every_kind_of_edit_becomes_its_events_in_one_batch_and_is_then_what_is_rendered() {
    for (what, edit, said, kinds) in GOOD {
        let (ledger, ..) = scenario();
        let (auth, base, before) = (ledger.auth(), render(&ledger), head(&ledger));
        let edited = edit(&base);
        assert!(*what == "nothing" || edited != base, "{what}");
        let plan = auth.plan(&edited, Some(&base)).unwrap().unwrap_or_else(|problems| panic!("{what}: {problems:?}"));
        assert_eq!(plan.edits.iter().map(ToString::to_string).collect::<Vec<_>>(), *said, "{what}");
        auth.apply(&plan).unwrap();
        assert_eq!(kinds_after(&ledger, before), *kinds, "{what}");
        if !kinds.is_empty() {
            let last = ledger.log().entry(head(&ledger)).unwrap();
            assert_eq!(usize::from(last.batch_len), kinds.len(), "{what}: one batch");
        }
        let after = render(&ledger);
        assert_eq!(meaning(&after, &base), meaning(&edited, &base), "{what}");
        // The same edit again, against what is there now, asks for nothing.
        assert!(auth.plan(&after, Some(&after)).unwrap().unwrap().edits.is_empty(), "{what}");
    }
}

type Bad = (&'static str, fn(&Documents) -> Documents, fn(&Documents) -> (&'static str, usize));

fn profile_line(text: &str, name: &str) -> (&'static str, usize) {
    (PROFILES_FILE, line(text, &format!("profile_id = \"{name}\""), 0) - 1)
}

fn record_line(text: &str, name: &str) -> (&'static str, usize) {
    (RUNTIME_FILE, line(text, &format!("profile_id = \"{name}\""), 0) - 1)
}

/// What is edited, how, and where its first problem must be.
const BAD: &[Bad] = &[
    (
        "no TOML",
        |base| Documents { profiles: base.profiles.replace("client_id = \"cid\"", "client_id = "), ..base.clone() },
        |edited| (PROFILES_FILE, line(&edited.profiles, "client_id = ", 0)),
    ),
    (
        "an unknown field",
        |base| profiles(base, "main", "created_at_unix_ms", "colour = 3\ncreated_at_unix_ms"),
        |edited| (PROFILES_FILE, line(&edited.profiles, "colour", 0)),
    ),
    (
        "an unknown field of a record",
        |base| records(base, "main", "failure_count", "colour = 3\nfailure_count"),
        |edited| (RUNTIME_FILE, line(&edited.runtime, "colour", 0)),
    ),
    (
        "a text where a number belongs",
        |base| profiles(base, "dead", "expires_at_unix_ms = 1767225660000", "expires_at_unix_ms = \"soon\""),
        |edited| (PROFILES_FILE, line(&edited.profiles, "expires_at_unix_ms = \"soon\"", 0)),
    ),
    (
        "another version",
        |base| Documents { profiles: base.profiles.replace("version = 1", "version = 2"), ..base.clone() },
        |edited| (PROFILES_FILE, line(&edited.profiles, "version", 0)),
    ),
    (
        "another version of the other file",
        |base| Documents { runtime: base.runtime.replace("version = 1", "version = 2"), ..base.clone() },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "version", 0)),
    ),
    (
        "an id that is none",
        |base| Documents {
            profiles: base.profiles.replace("profile_id = \"odd\"", "profile_id = \"od d\""),
            ..base.clone()
        },
        |edited| profile_line(&edited.profiles, "od d"),
    ),
    (
        "a profile twice",
        |base| {
            let twice = &base.profiles[block(&base.profiles, "[[profiles]]", "odd")];
            Documents { profiles: format!("{}\n{twice}", base.profiles), ..base.clone() }
        },
        |edited| (PROFILES_FILE, line(&edited.profiles, "profile_id = \"odd\"", 1) - 1),
    ),
    (
        "a service that nobody knows",
        |base| profiles(base, "odd", "kind = \"slack\"", "kind = \"slak\""),
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "a custom service without a name",
        |base| profiles(base, "odd", "kind = \"slack\"", "kind = \"custom\""),
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "a scope that nobody knows",
        |base| profiles(base, "odd", "kind = \"global\"", "kind = \"world\""),
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "a credential of no type",
        |base| profiles(base, "odd", "type = \"api_key\"", "type = \"password\""),
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "a key with an OAuth field",
        |base| profiles(base, "odd", "type = \"api_key\"", "type = \"api_key\"\nclient_id = \"x\""),
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "a key with the scopes of a grant",
        |base| profiles(base, "odd", "type = \"api_key\"", "type = \"api_key\"\nscopes = [\"x\"]"),
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "a key with a revocation endpoint",
        |base| {
            profiles(
                base,
                "odd",
                "type = \"api_key\"",
                "type = \"api_key\"\nrevocation_endpoint = \"https://a.example/\"",
            )
        },
        |edited| profile_line(&edited.profiles, "odd"),
    ),
    (
        "OAuth without a token endpoint",
        |base| profiles(base, "none", "token_endpoint = \"https://auth.example/token\"\n", ""),
        |edited| profile_line(&edited.profiles, "none"),
    ),
    (
        "an endpoint in the clear",
        |base| profiles(base, "none", "https://auth.example/token", "http://auth.example/token"),
        |edited| profile_line(&edited.profiles, "none"),
    ),
    (
        "an endpoint with a user",
        |base| profiles(base, "none", "https://auth.example/token", "https://u:p@auth.example/token"),
        |edited| profile_line(&edited.profiles, "none"),
    ),
    (
        "two references to one secret",
        |base| profiles(base, "none", "global/auth/none/refresh", "global/auth/none/access"),
        |edited| profile_line(&edited.profiles, "none"),
    ),
    (
        "a scope of a grant with a space",
        |base| profiles(base, "full", "\"write\"", "\"wr ite\""),
        |edited| profile_line(&edited.profiles, "full"),
    ),
    (
        "the end of a token taken away",
        |base| profiles(base, "dead", "expires_at_unix_ms = 1767225660000\n", ""),
        |edited| profile_line(&edited.profiles, "dead"),
    ),
    (
        "failures of refreshes",
        |base| profiles(base, "full", "failure_count = 1", "failure_count = 0"),
        |edited| profile_line(&edited.profiles, "full"),
    ),
    (
        "a failure count that is no reset",
        |base| records(base, "spare", "failure_count = 1", "failure_count = 7"),
        |edited| record_line(&edited.runtime, "spare"),
    ),
    (
        "half a reset",
        |base| records(base, "spare", "failure_count = 1", "failure_count = 0"),
        |edited| record_line(&edited.runtime, "spare"),
    ),
    (
        "a success that never was",
        |base| records(base, "hook", "failure_count", "last_success_unix_ms = 5\nfailure_count"),
        |edited| record_line(&edited.runtime, "hook"),
    ),
    (
        "eligibility by hand",
        |base| records(base, "dead", "eligibility = \"needs_person\"", "eligibility = \"eligible\""),
        |edited| record_line(&edited.runtime, "dead"),
    ),
    (
        "a record of nobody",
        |base| records(base, "odd", "profile_id = \"odd\"", "profile_id = \"nobody\""),
        |edited| record_line(&edited.runtime, "nobody"),
    ),
    (
        "a record twice",
        |base| {
            let twice = &base.runtime[block(&base.runtime, "[[records]]", "odd")];
            Documents { runtime: format!("{}\n{twice}", base.runtime), ..base.clone() }
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "profile_id = \"odd\"", 1) - 1),
    ),
    (
        "a record less",
        |base| Documents { runtime: without(&base.runtime, "[[records]]", "odd"), ..base.clone() },
        |_| (RUNTIME_FILE, 1),
    ),
    (
        "an order of nobody",
        |base| Documents {
            runtime: base.runtime.replace("    \"spare\",\n", "    \"spare\",\n    \"nobody\",\n"),
            ..base.clone()
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "[[profile_orders]]", 1)),
    ),
    (
        "an order that names one twice",
        |base| Documents {
            runtime: base.runtime.replace("    \"spare\",\n", "    \"spare\",\n    \"spare\",\n"),
            ..base.clone()
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "[[profile_orders]]", 1)),
    ),
    (
        "an order that names one of another service",
        |base| Documents {
            runtime: base.runtime.replace("    \"spare\",\n", "    \"spare\",\n    \"odd\",\n"),
            ..base.clone()
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "[[profile_orders]]", 1)),
    ),
    (
        "an order that names one that is deleted in the same edit",
        |base| Documents {
            profiles: without(&base.profiles, "[[profiles]]", "main"),
            runtime: base.runtime.replace("    \"spare\",\n    \"main\",\n", "    \"main\",\n    \"spare\",\n"),
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "[[profile_orders]]", 1)),
    ),
    (
        "an order twice",
        |base| {
            let twice = &base.runtime[base.runtime.rfind("[[profile_orders]]").unwrap()..];
            Documents { runtime: format!("{}\n{}", base.runtime, twice.replace("    \"main\",\n", "")), ..base.clone() }
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "[[profile_orders]]", 2)),
    ),
    (
        "an order of no scope",
        |base| Documents {
            runtime: base.runtime.replace(
                "scope = \"agent:ada\"\nprovider = \"custom:corp\"\nprofile_ids",
                "scope = \"world\"\nprovider = \"custom:corp\"\nprofile_ids",
            ),
            ..base.clone()
        },
        |edited| (RUNTIME_FILE, line(&edited.runtime, "[[profile_orders]]", 0)),
    ),
    (
        "files of two different events",
        |base| {
            let rest = base.runtime.split_once(',').unwrap().1;
            Documents { runtime: format!("# palyra-ledger: event 7,{rest}"), ..base.clone() }
        },
        |_| (RUNTIME_FILE, 1),
    ),
    (
        "a header with spaces, and a service that nobody knows",
        |base| {
            let base = profiles(base, "odd", "kind = \"slack\"", "kind = \"slak\"");
            Documents { profiles: base.profiles.replace("[[profiles]]", "[[ profiles ]]"), ..base }
        },
        |edited| (PROFILES_FILE, line(&edited.profiles, "profile_id = \"odd\"", 0) - 1),
    ),
];

#[test]
fn every_kind_of_wrong_edit_is_a_problem_with_its_file_and_line_and_nothing_is_applied() {
    let (ledger, ..) = scenario();
    let (auth, base, before) = (ledger.auth(), render(&ledger), head(&ledger));
    let mut wrong = Vec::new();
    for (what, edit, place) in BAD {
        let mut edited = edit(&base);
        assert!(edited != base, "{what}");
        let expected = place(&edited);
        // A good edit beside it does not go through alone.
        if edited.profiles.contains("\"Profile main\"") {
            edited.profiles = edited.profiles.replace("\"Profile main\"", "\"My key\"");
        }
        match auth.plan(&edited, Some(&base)).unwrap() {
            Ok(plan) => wrong.push(format!("{what}: no problem, but {:?}", plan.edits)),
            Err(problems) => {
                let Problem { file, line, what: said } = &problems[0];
                if (*file, *line) != expected || said.is_empty() {
                    wrong.push(format!("{what}: {} where {expected:?} was expected", problems[0]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(head(&ledger), before);
    assert_eq!(render(&ledger), base);
}

#[test]
fn every_problem_is_told_and_not_the_first_alone() {
    let (ledger, ..) = scenario();
    let base = render(&ledger);
    let edited = profiles(&base, "odd", "kind = \"slack\"", "kind = \"slak\"");
    let edited = profiles(&edited, "main", "type = \"api_key\"", "type = \"password\"");
    let problems = ledger.auth().plan(&edited, Some(&base)).unwrap().unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| (problem.file, problem.line)).collect();
    assert_eq!(lines, [profile_line(&edited.profiles, "main"), profile_line(&edited.profiles, "odd")]);
    assert_eq!(problems[0].to_string(), format!("{PROFILES_FILE}:{}: {}", problems[0].line, problems[0].what));
}

#[test]
fn a_plan_that_is_refused_in_its_middle_changes_nothing() {
    let (ledger, ..) = scenario();
    let (auth, base, before) = (ledger.auth(), render(&ledger), head(&ledger));
    let good = Edit::Set(Box::new(key("fresh", "openai", "global")), None);
    let order = |names: &[&str]| {
        Edit::Order("global".parse().unwrap(), "openai".parse().unwrap(), names.iter().map(|name| id(name)).collect())
    };
    for bad in [
        order(&["nobody"]),
        order(&["odd"]),
        order(&["main", "main"]),
        Edit::Delete(id("nobody")),
        Edit::Clear(id("nobody")),
    ] {
        let plan = Plan { rendered: None, edits: vec![good.clone(), Edit::Delete(id("odd")), bad] };
        assert!(auth.apply(&plan).is_err());
        assert_eq!((head(&ledger), render(&ledger)), (before, base.clone()));
    }
}

#[test]
fn what_changed_on_both_sides_since_is_a_problem_and_nothing_is_overwritten() {
    let (ledger, _, clock) = scenario();
    let (auth, base) = (ledger.auth(), render(&ledger));
    let edited = profiles(&base, "main", "\"Profile main\"", "\"Mine\"");
    let deleted = Documents { profiles: without(&base.profiles, "[[profiles]]", "main"), ..base.clone() };
    let orders = Documents {
        runtime: base.runtime.replace("    \"spare\",\n    \"main\",\n", "    \"main\",\n    \"spare\",\n"),
        ..base.clone()
    };
    let other = profiles(&base, "odd", "kind = \"slack\"", "kind = \"discord\"");
    clock.advance(1);
    auth.set(Profile { name: "Theirs".to_owned(), ..key("main", "openai", "global") }, None).unwrap();
    auth.set_order("global".parse().unwrap(), "openai".parse().unwrap(), vec![id("main")]).unwrap();
    let problem = |edited: &Documents| auth.plan(edited, Some(&base)).unwrap().unwrap_err().remove(0);
    assert_eq!((problem(&edited).file, problem(&edited).line), profile_line(&edited.profiles, "main"));
    assert_eq!(problem(&deleted).file, PROFILES_FILE);
    assert_eq!(
        (problem(&orders).file, problem(&orders).line),
        (RUNTIME_FILE, line(&orders.runtime, "[[profile_orders]]", 1))
    );
    // What nobody else touched still goes through, and leaves theirs alone.
    let plan = auth.plan(&other, Some(&base)).unwrap().unwrap();
    auth.apply(&plan).unwrap();
    assert_eq!(auth.profile(&id("main")).unwrap().0.profile.name, "Theirs");
    assert_eq!(auth.orders().unwrap()[1].profiles, [id("main")]);
}

#[test]
fn the_end_of_a_token_that_was_refreshed_since_stays_when_something_else_is_edited() {
    let (ledger, _, clock) = scenario();
    let (auth, base) = (ledger.auth(), render(&ledger));
    let named = profiles(&base, "full", "\"Profile full\"", "\"Renamed\"");
    let scopes = profiles(&base, "full", "\"write\"", "\"admin\"");
    clock.advance(HOUR);
    let ends = at(START + 9 * HOUR);
    let ticket = auth.begin_refresh(&id("full"), true).unwrap();
    auth.renewed(&ticket.started, &tokens("a", Some("r"), Some(ends.as_millis()))).unwrap();
    for edited in [named, scopes] {
        let plan = auth.plan(&edited, Some(&base)).unwrap();
        match plan {
            Ok(plan) => auth.apply(&plan).unwrap(),
            Err(problems) => assert!(problems[0].what.contains("changed in the ledger since"), "{problems:?}"),
        }
        assert_eq!(auth.profile(&id("full")).unwrap().1.expires_at, Some(ends));
    }
}

#[test]
fn a_secret_that_was_pasted_where_a_reference_belongs_is_never_repeated() {
    let (ledger, ..) = scenario();
    let base = render(&ledger);
    let secret = "sk-Live:Canary 4711";
    let pasted = [
        format!("\"{secret}\""),
        secret.to_owned(),
        format!("'{secret}'"),
        format!("[\"{secret}\"]"),
        format!("{{ \"{secret}\" = 1 }}"),
        format!("{{ a = \"{secret}\" }}"),
        format!("\"{secret}"),
        format!("\"\"\"\n{secret}\"\"\""),
        format!("\"global/x\" \"{secret}\""),
        format!("\"global/x\"\n\"{secret}\" = 1"),
        "\"global/x\"\nsk-Live-Canary-4711 = 1".to_owned(),
        "\"global/x\"\nsk-Live-Canary-4711".to_owned(),
        format!("\"{secret}\"\n\"{secret}\" = 1\n\"{secret}\" = 2"),
    ];
    let places = [
        ("main", "\"global/keys/main\""),
        ("full", "\"global/auth/full/access\""),
        ("full", "\"global/auth/full/refresh\""),
        ("full", "\"global/auth/full/client_secret\""),
        ("full", "\"https://auth.example/token\""),
        ("full", "\"cid\""),
        ("dead", "1767225660000"),
        ("main", "\"api_key\""),
    ];
    let mut told = Vec::new();
    for (name, old) in places {
        for new in &pasted {
            let edited = profiles(&base, name, old, new);
            if let Err(problems) = ledger.auth().plan(&edited, Some(&base)).unwrap() {
                assert!(!problems.is_empty());
                told.extend(problems.iter().map(|problem| (format!("{name} {old} {new}"), problem.to_string())));
            } else {
                assert_eq!(old, "\"cid\"", "{name} {old} {new}: taken as it is");
            }
        }
    }
    for from in ["failure_count = 0", "token_expiry_state = \"static\"", "profile_id = \"main\""] {
        for new in &pasted {
            let field = from.split_once(' ').unwrap().0;
            let edited = records(&base, "main", from, &format!("{field} = {new}"));
            let problems = ledger.auth().plan(&edited, Some(&base)).unwrap().unwrap_err();
            told.extend(problems.iter().map(|problem| (format!("{from} {new}"), problem.to_string())));
        }
    }
    let leaks: Vec<_> = told.iter().filter(|(_, said)| said.contains("Canary")).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn a_mistyped_field_is_named() {
    let (ledger, ..) = scenario();
    let base = render(&ledger);
    let edited = profiles(&base, "main", "api_key_vault_ref", "api_key_vault_rfe");
    let problems = ledger.auth().plan(&edited, Some(&base)).unwrap().unwrap_err();
    assert!(problems[0].what.contains("api_key_vault_rfe"), "{}", problems[0]);
}

#[test]
fn usage_that_is_reported_between_rendering_and_applying_is_no_edit() {
    let (ledger, _, clock) = scenario();
    let (auth, base) = (ledger.auth(), render(&ledger));
    clock.advance(DAY);
    auth.report_failure(&id("main"), FailureKind::Quota, None).unwrap();
    auth.flush_usage().unwrap();
    assert!(auth.plan(&base, Some(&base)).unwrap().unwrap().edits.is_empty());
    let notes: Vec<_> = events(&ledger, "usage_reported");
    assert_eq!(notes.len(), 2);
}

// ---- random edits ------------------------------------------------------------------------------------

/// What both documents say, without what is the ledger's alone to say: times of records, what follows from
/// other fields, and what begins anew with another credential or is forgotten with a reset.
fn meaning(documents: &Documents, base: &Documents) -> BTreeMap<String, String> {
    let parse = |text: &str| -> toml::Table { text.parse().unwrap() };
    let list = |table: &toml::Table, name: &str| -> Vec<toml::Table> {
        let values = table.get(name).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        values.into_iter().map(|value| value.as_table().unwrap().clone()).collect()
    };
    let text = |table: &toml::Table, name: &str| table[name].as_str().unwrap().to_owned();
    let strip = |table: &mut toml::Table, names: &[&str]| names.iter().for_each(|name| drop(table.remove(*name)));
    let credentials = |documents: &Documents| -> BTreeMap<String, toml::Table> {
        let known = list(&parse(&documents.profiles), "profiles").into_iter().map(|profile| {
            let mut credential = profile["credential"].as_table().unwrap().clone();
            strip(&mut credential, &["expires_at_unix_ms", "refresh_state"]);
            (text(&profile, "profile_id"), credential)
        });
        known.collect()
    };
    let (before, now) = (credentials(base), credentials(documents));
    let kept = |name: &str| before.contains_key(name) && before.get(name) == now.get(name);
    let mut found = BTreeMap::new();
    for mut profile in list(&parse(&documents.profiles), "profiles") {
        let name = text(&profile, "profile_id");
        strip(&mut profile, &["created_at_unix_ms", "updated_at_unix_ms"]);
        if profile.get("enabled") == Some(&toml::Value::Boolean(true)) {
            profile.remove("enabled");
        }
        if !kept(&name) {
            strip(profile["credential"].as_table_mut().unwrap(), &["refresh_state"]);
        }
        found.insert(format!("profile {name}"), toml::to_string(&profile).unwrap());
    }
    let runtime = parse(&documents.runtime);
    for mut record in list(&runtime, "records") {
        let name = text(&record, "profile_id");
        if !kept(&name) {
            continue;
        }
        let follows = ["provider", "scope", "credential_type", "token_expiry_state", "eligibility", "doctor_hint"];
        strip(&mut record, &follows);
        strip(&mut record, &["created_at_unix_ms", "updated_at_unix_ms"]);
        if record["failure_count"].as_integer() == Some(0) && !record.contains_key("cooldown_until_unix_ms") {
            strip(&mut record, &["last_failure_unix_ms", "last_failure_kind"]);
        }
        found.insert(format!("record {name}"), toml::to_string(&record).unwrap());
    }
    for mut order in list(&runtime, "profile_orders") {
        strip(&mut order, &["updated_at_unix_ms"]);
        if !order["profile_ids"].as_array().unwrap().is_empty() {
            let name = format!("order {} {}", text(&order, "scope"), text(&order, "provider"));
            found.insert(name, toml::to_string(&order).unwrap());
        }
    }
    found
}

/// A place in a document and something that may be done there: right or wrong.
type Dice = (usize, usize, usize);

fn edit(profiles: &mut toml::Table, runtime: &mut toml::Table, (what, which, how): Dice) {
    let text = |value: &str| toml::Value::String(value.to_owned());
    if what >= 16 {
        let field = if what < 22 { "records" } else { "profile_orders" };
        let Some(list) = runtime.get_mut(field).and_then(toml::Value::as_array_mut) else { return };
        if list.is_empty() {
            return;
        }
        let at = which % list.len();
        let entry = list[at].as_table_mut().unwrap();
        match what {
            16 | 17 => {
                entry.insert("failure_count".to_owned(), 0.into());
                entry.remove("cooldown_until_unix_ms");
                if how % 2 == 0 {
                    entry.remove("doctor_hint");
                    entry.insert("eligibility".to_owned(), text("eligible"));
                }
            }
            18 => drop(entry.insert("failure_count".to_owned(), toml::Value::Integer(i64::try_from(how).unwrap()))),
            19 => drop(entry.insert("last_used_unix_ms".to_owned(), 5.into())),
            20 | 24 => drop(list.remove(at)),
            21 => drop(entry.insert("profile_id".to_owned(), text(["main", "spare", "new0", "nobody"][how % 4]))),
            22 | 23 => {
                let ids = [vec!["main"], vec!["main", "spare"], vec!["full"], vec!["nobody"], vec![], vec!["new0"]];
                let ids = ids[how % ids.len()].iter().map(|name| text(name)).collect();
                entry.insert("profile_ids".to_owned(), toml::Value::Array(ids));
            }
            25 => {
                let mut other = entry.clone();
                other.insert("scope".to_owned(), text(["global", "agent:bob", "nonsense"][how % 3]));
                list.push(toml::Value::Table(other));
            }
            _ => drop(entry.insert("provider".to_owned(), text(["openai", "slack", "custom:corp"][how % 3]))),
        }
        return;
    }
    let list = profiles["profiles"].as_array_mut().unwrap();
    if list.is_empty() {
        return;
    }
    let at = which % list.len();
    let entry = list[at].as_table_mut().unwrap();
    let is_oauth = entry["credential"]["type"].as_str() == Some("oauth");
    let credential = |entry: &mut toml::Table, field: &str, value: Option<toml::Value>| {
        let credential = entry["credential"].as_table_mut().unwrap();
        match value {
            Some(value) => drop(credential.insert(field.to_owned(), value)),
            None => drop(credential.remove(field)),
        }
    };
    match what {
        0 => drop(entry.insert("profile_name".to_owned(), text(["", "x", "\u{1f511} \"key\" '''", "a\nb"][how % 4]))),
        1 => drop(entry.insert("enabled".to_owned(), (how % 2 == 0).into())),
        2 => {
            let kind = ["openai", "slack", "custom", "nonsense"][how % 4];
            entry.insert(
                "provider".to_owned(),
                toml::Value::Table([("kind".to_owned(), text(kind))].into_iter().collect()),
            );
        }
        3 => {
            let scope = [("kind".to_owned(), text("agent")), ("agent_id".to_owned(), text(["bob", "b b"][how % 2]))];
            entry.insert("scope".to_owned(), toml::Value::Table(scope.into_iter().collect()));
        }
        4 => drop(list.remove(at)),
        5 | 6 => {
            let mut other = entry.clone();
            other.insert("profile_id".to_owned(), text(["new0", "new1", "main", "n n"][how % 4]));
            list.push(toml::Value::Table(other));
        }
        7 | 8 => {
            let ends = [START, START + 5 * MINUTE, START + 30 * DAY][how % 3];
            credential(entry, "expires_at_unix_ms", Some(toml::Value::Integer(i64::try_from(ends).unwrap())));
        }
        9 => credential(entry, "expires_at_unix_ms", None),
        10 => {
            let refs = ["global/a", "global/b", "skill:x/y", "a secret", "global"];
            let field = if is_oauth {
                ["access_token_vault_ref", "refresh_token_vault_ref"][how % 2]
            } else {
                "api_key_vault_ref"
            };
            credential(entry, field, Some(text(refs[how % refs.len()])));
        }
        11 => credential(entry, "scopes", Some(toml::Value::Array(vec![text(["a", "b", "a b"][how % 3])]))),
        12 => {
            let url = ["https://x.example/t", "http://127.0.0.1:9/t", "http://x.example/t", "https://x.example/?q"];
            credential(entry, "token_endpoint", Some(text(url[how % 4])));
        }
        13 => credential(entry, ["refresh_token_vault_ref", "client_id", "revocation_endpoint"][how % 3], None),
        14 => drop(entry.insert("created_at_unix_ms".to_owned(), 5.into())),
        _ => {
            if let Some(state) = entry["credential"].as_table_mut().unwrap().get_mut("refresh_state") {
                state.as_table_mut().unwrap().insert("failure_count".to_owned(), 9.into());
            }
        }
    }
}

#[test]
fn random_edits_apply_to_exactly_what_the_documents_say_or_change_nothing() {
    let (ledger, disk, clock) = scenario();
    let base = render(&ledger);
    ledger.close().unwrap();
    disk.settle();
    let (mut applied, mut refused) = (0, 0);
    let dice = || prop::collection::vec((0_usize..27, 0_usize..16, 0_usize..16), 1..4);
    let counts = std::cell::RefCell::new((&mut applied, &mut refused));
    let mut runner = proptest::test_runner::TestRunner::new(cases(600, 0xd0c5));
    runner
        .run(&dice(), |dice| {
            let ledger = open(&disk.snapshot(), 3, &clock);
            let (auth, before) = (ledger.auth(), head(&ledger));
            let (mut profiles, mut runtime): (toml::Table, toml::Table) =
                (base.profiles.parse().unwrap(), base.runtime.parse().unwrap());
            for dice in &dice {
                edit(&mut profiles, &mut runtime, *dice);
            }
            let first = base.profiles.lines().next().unwrap();
            let whole = |table: &toml::Table| format!("{first}\n{}", toml::to_string(table).unwrap());
            let edited = Documents { profiles: whole(&profiles), runtime: whole(&runtime) };
            match auth.plan(&edited, Some(&base)).unwrap() {
                Ok(plan) => {
                    // What was planned goes through: every reason against it was told before.
                    auth.apply(&plan).unwrap_or_else(|error| panic!("{:?}: {error}", plan.edits));
                    let after = render(&ledger);
                    let mut wanted = meaning(&edited, &base);
                    // Whoever is deleted leaves its orders, too; records come and go with their profiles.
                    let mut found = meaning(&after, &base);
                    wanted.retain(|name, _| !name.starts_with("record ") || found.contains_key(name));
                    found.retain(|name, _| !name.starts_with("record ") || wanted.contains_key(name));
                    if plan.edits.iter().any(|edit| matches!(edit, Edit::Delete(_))) {
                        found.retain(|name, _| !name.starts_with("order "));
                        wanted.retain(|name, _| !name.starts_with("order "));
                    }
                    prop_assert_eq!(found, wanted);
                    if !plan.edits.is_empty() {
                        *counts.borrow_mut().0 += 1;
                        let last = ledger.log().entry(head(&ledger)).unwrap();
                        prop_assert_eq!(u64::from(last.batch_len), head(&ledger) - before);
                    }
                }
                Err(problems) => {
                    prop_assert!(!problems.is_empty());
                    for problem in &problems {
                        let lines = if problem.file == PROFILES_FILE { &edited.profiles } else { &edited.runtime };
                        prop_assert!(problem.line >= 1 && problem.line <= lines.lines().count());
                    }
                    *counts.borrow_mut().1 += 1;
                    prop_assert_eq!(head(&ledger), before);
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(applied > 100 && refused > 100, "{applied} applied, {refused} refused");
}
