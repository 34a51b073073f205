//! Storage backends: what every one of them must do, moving between them, and what crashes and others leave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod conformance;
mod crash;
mod findings;
mod key_slot;
mod meanwhile;
mod model;
mod native;
#[cfg(target_os = "linux")]
mod secret_service;

use std::sync::Arc;

use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, BackendKind, Config, Error, Ledger, Migration, NewSlot, PutOptions, Report, Scope, SecretBytes,
    SecretName, Settings, VerifyOptions,
};

/// The backends that this system serves, the log itself among them.
const SERVED: [BackendKind; 3] = [
    BackendKind::Ledger,
    BackendKind::EncryptedFile,
    if cfg!(target_os = "macos") { BackendKind::MacosKeychain } else { BackendKind::LinuxSecretService },
];

/// The one of them that is a keystore.
const KEYSTORE: BackendKind = SERVED[2];

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.log.segment_bytes = 8 * 1024;
    settings
}

/// Everything in a fixed order, with a keystore in the test's hand.
fn simulated(medium: impl Medium, keystore: &MemoryKeystore, seed: u64, clock: &ManualClock) -> Config {
    Config::new("/home")
        .medium(Arc::new(medium))
        .keystore(Arc::new(keystore.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings())
}

/// A disk, a keystore and a ledger on a backend.
struct Place {
    disk: SimDisk,
    keystore: MemoryKeystore,
    clock: ManualClock,
}

impl Place {
    fn new(kind: BackendKind) -> Self {
        let place = Self { disk: SimDisk::new(), keystore: MemoryKeystore::default(), clock: ManualClock::default() };
        let config = simulated(place.disk.clone(), &place.keystore, 1, &place.clock);
        Ledger::init_on(config, NewSlot::file("machine"), kind).unwrap().close().unwrap();
        place.disk.settle();
        place
    }

    fn config(&self, seed: u64) -> Config {
        simulated(self.disk.clone(), &self.keystore, seed, &self.clock)
    }

    fn open(&self) -> Ledger {
        Ledger::open(self.config(2)).unwrap()
    }
}

fn put(ledger: &Ledger, key: &str, value: &str) -> u32 {
    ledger.vault(Scope::global()).put(&name(key), &bytes(value), PutOptions::new()).unwrap().version
}

fn get(ledger: &Ledger, key: &str) -> String {
    let secret = ledger.vault(Scope::global()).get(&name(key)).unwrap();
    String::from_utf8(secret.value.expose().to_vec()).unwrap()
}

fn migrate(ledger: &Ledger, to: BackendKind) -> Result<Migration, Error> {
    ledger.backends().migrate(to, &mut |_, _| {})
}

/// Everything that can be verified.
fn verified(ledger: &Ledger) -> Report {
    let mut report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    ledger.verify_backend(&mut report).unwrap();
    report
}
