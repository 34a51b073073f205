//! What these tests share: small ledgers on a simulated disk, profiles, and their tokens.

use std::ops::ControlFlow;
use std::sync::Arc;

use palyra_ledger::event::auth::{CredentialSource, OauthSource, Profile};
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, Config, Error, Ledger, NewSlot, NewTokens, ProfileId, PutOptions, SecretBytes, SecretPath, Settings,
    Timestamp, auth::AuthError,
};
use proptest::test_runner::{Config as PropConfig, RngSeed};

/// 2026-01-01T00:00:00Z, where a manual clock begins.
pub const START: u64 = 1_767_225_600_000;
pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// The same cases in every run, and no files of failures.
pub fn cases(cases: u32, seed: u64) -> PropConfig {
    PropConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..PropConfig::default() }
}

pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.log.segment_bytes = 64 * 1024;
    settings
}

pub fn config(disk: &SimDisk, seed: u64, clock: &ManualClock) -> Config {
    Config::new("/home")
        .medium(Arc::new(disk.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings())
}

pub fn open(disk: &SimDisk, seed: u64, clock: &ManualClock) -> Ledger {
    Ledger::open(config(disk, seed, clock)).unwrap()
}

/// A settled disk with an empty ledger.
pub fn disk(clock: &ManualClock) -> SimDisk {
    let disk = SimDisk::new();
    Ledger::init(config(&disk, 1, clock), NewSlot::file("machine")).unwrap().close().unwrap();
    disk.settle();
    disk
}

/// An open, empty ledger with its disk and clock.
pub fn ledger() -> (Ledger, SimDisk, ManualClock) {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    (open(&disk, 2, &clock), disk, clock)
}

pub fn id(text: &str) -> ProfileId {
    text.parse().unwrap()
}

pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn bytes(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

pub fn key(name: &str, provider: &str, scope: &str) -> Profile {
    Profile {
        id: id(name),
        provider: provider.parse().unwrap(),
        name: format!("Profile {name}"),
        scope: scope.parse().unwrap(),
        enabled: true,
        credential: CredentialSource::ApiKey(format!("global/keys/{name}").parse().unwrap()),
    }
}

pub fn oauth(name: &str, provider: &str, scope: &str) -> Profile {
    Profile { credential: CredentialSource::Oauth(Box::new(source(name))), ..key(name, provider, scope) }
}

pub fn source(name: &str) -> OauthSource {
    OauthSource {
        access: place(name, "access"),
        refresh: Some(place(name, "refresh")),
        client_secret: None,
        token_endpoint: "https://auth.example/token".to_owned(),
        revocation_endpoint: None,
        client_id: "cid".to_owned(),
        scopes: vec!["read".to_owned()],
    }
}

pub fn place(name: &str, what: &str) -> SecretPath {
    format!("global/auth/{name}/{what}").parse().unwrap()
}

pub fn put(ledger: &Ledger, reference: &SecretPath, value: &str) {
    ledger.vault(reference.scope.clone()).put(&reference.name, &bytes(value), PutOptions::new()).unwrap();
}

pub fn secret(ledger: &Ledger, reference: &SecretPath) -> Option<String> {
    let found = ledger.vault(reference.scope.clone()).get(&reference.name).ok()?;
    Some(String::from_utf8(found.value.expose().to_vec()).unwrap())
}

pub fn tokens(access: &str, refresh: Option<&str>, expires_at: Option<u64>) -> NewTokens {
    NewTokens {
        access: bytes(access),
        refresh: refresh.map(bytes),
        expires_at: expires_at.map(at),
        answer: palyra_ledger::auth::AnswerNote::default(),
    }
}

/// The fields of every event of a kind.
pub fn events(ledger: &Ledger, kind: &str) -> Vec<serde_json::Value> {
    let mut found = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            if entry.kind_name() == kind {
                found.push(entry.fields());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> AuthError {
    match result {
        Err(Error::Auth(error)) => error,
        other => panic!("not a refusal: {other:?}"),
    }
}
