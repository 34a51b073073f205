//! Importing what other stores hold, and giving everything out.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

mod command_line;
mod crash;
mod forms;
mod handshake;
mod kill;
mod moved_on;
mod old;
mod palyra;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::import::palyra::{Places, read};
use palyra_ledger::import::{Gathered, Line, Verdict};
use palyra_ledger::platform::Keystore;
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, Config, GetOptions, ImportOptions, Imported, Ledger, ListOptions, NewSlot, ScopePrefix, Settings,
};

/// Bytes as the old store's file names and fingerprints have them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The store that the program Palyra wrote.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/importer-fixtures/palyra-store")
}

fn gather(dir: &Path) -> Gathered {
    gather_with(dir, &MemoryKeystore::default())
}

fn gather_with(dir: &Path, keystore: &dyn Keystore) -> Gathered {
    read(dir, &Places::default(), keystore, &|_, _| {})
}

fn import(ledger: &Ledger, gathered: &Gathered, options: ImportOptions) -> Imported {
    ledger.imports().run(gathered, options, &|_, _| {}).unwrap()
}

fn config(medium: impl Medium, seed: u64, clock: &ManualClock) -> Config {
    let mut settings = Settings::default();
    settings.log.segment_bytes = 16 * 1024;
    Config::new("/home")
        .medium(Arc::new(medium))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .keystore(Arc::new(MemoryKeystore::default()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings)
}

fn disk(clock: &ManualClock) -> SimDisk {
    let disk = SimDisk::new();
    Ledger::init(config(disk.clone(), 1, clock), NewSlot::file("machine")).unwrap().close().unwrap();
    disk.settle();
    disk
}

/// A ledger in memory.
fn ledger() -> Ledger {
    let clock = ManualClock::default();
    Ledger::open(config(disk(&clock), 2, &clock)).unwrap()
}

/// Every live value, by reference.
fn values(ledger: &Ledger) -> BTreeMap<String, Vec<u8>> {
    let listed = ledger.list(&ScopePrefix::all(), &ListOptions::new()).unwrap();
    let value = |info: palyra_ledger::SecretInfo| {
        let vault = ledger.vault(info.reference.scope.clone());
        let secret = vault.get_with(&info.reference.name, GetOptions::current()).unwrap();
        (info.reference.to_string(), secret.value.expose().to_vec())
    };
    listed.into_iter().map(value).collect()
}

/// What the fixture holds.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/importer-fixtures/EXPECTED-secrets.txt");
    let hex =
        |text: &str| (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(path, value)| (path.to_owned(), hex(value))).collect()
}

fn head(ledger: &Ledger) -> u64 {
    ledger.log().head().unwrap().seq
}

fn verdict_of(lines: &[Line], item: &str) -> Verdict {
    lines.iter().find(|line| line.item == item).unwrap_or_else(|| panic!("{item} in {lines:#?}")).verdict
}
