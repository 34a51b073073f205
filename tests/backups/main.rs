//! Backups: what is restored is what was backed up, whatever happens on the way.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod chain;
mod crash;
mod damage;
mod ends;
mod load;
mod process;
mod rounds;
mod ways;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use palyra_ledger::backup::{BackupFile, Identities};
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, BackupMade, BackupOptions, BackupReport, CheckState, Config, Credential, Error, Ledger, NewSlot,
    PutOptions, RecoveryWords, Restoration, Scope, SecretBytes, SecretName, Settings,
};

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.log.segment_bytes = 8 * 1024;
    settings
}

/// A ledger on any medium, with time and randomness in the test's hand.
fn simulated(medium: impl Medium, seed: u64, clock: &ManualClock) -> Config {
    Config::new("/home")
        .medium(Arc::new(medium))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings())
}

fn real(home: &Path) -> Config {
    Config::new(home).argon_cost(ArgonCost::for_tests()).settings(settings())
}

fn words() -> RecoveryWords {
    RecoveryWords::generate(&SeededRandom::new(77)).unwrap()
}

fn by_words() -> Credential {
    Credential::Recovery(words().text())
}

/// A ledger that recovery words open, beside its key file.
fn with_words(config: Config) -> Ledger {
    let ledger = Ledger::init(config, NewSlot::file("machine")).unwrap();
    ledger.keys().add_slot(NewSlot::recovery("drawer", &words())).unwrap();
    ledger
}

fn put(ledger: &Ledger, key: &str, value: &[u8]) {
    ledger.vault(Scope::global()).put(&name(key), &SecretBytes::from(value), PutOptions::new()).unwrap();
}

fn get(ledger: &Ledger, key: &str) -> Vec<u8> {
    ledger.vault(Scope::global()).get(&name(key)).unwrap().value.expose().to_vec()
}

fn go_on(_done: u64, _of: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn try_backup(ledger: &Ledger, options: &BackupOptions) -> Result<(Vec<u8>, BackupMade), Error> {
    let mut file = Vec::new();
    let made = ledger.backup(&mut file, options, &mut || Ok(()), &go_on)?;
    assert_eq!(made.bytes, file.len() as u64);
    Ok((file, made))
}

fn backup(ledger: &Ledger) -> (Vec<u8>, BackupMade) {
    try_backup(ledger, &BackupOptions::default()).unwrap()
}

fn increment(ledger: &Ledger, before: &BackupMade) -> (Vec<u8>, BackupMade) {
    let options = BackupOptions { after: Some((before.to, Some(before.head))), ..BackupOptions::default() };
    try_backup(ledger, &options).unwrap()
}

fn files(files: &[Vec<u8>]) -> Vec<BackupFile> {
    files.iter().enumerate().map(|(at, bytes)| BackupFile::memory(format!("backup {at}"), bytes.clone())).collect()
}

fn restore(config: &Config, backups: &[Vec<u8>]) -> Result<Restoration, Error> {
    Ledger::restore(config, &mut files(backups), &Identities::default(), &go_on)
}

fn check(config: &Config, backups: &[Vec<u8>]) -> BackupReport {
    Ledger::check_backups(config, &mut files(backups), &Identities::default(), false, &|_, _| {}).unwrap()
}

/// The checks that failed.
fn failed(report: &BackupReport) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.state == CheckState::Failed).map(|check| check.name).collect()
}

/// An empty disk.
fn empty() -> SimDisk {
    let disk = SimDisk::new();
    disk.settle();
    disk
}
