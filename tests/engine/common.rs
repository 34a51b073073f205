//! What the tests share: small ledgers on simulated disks and in temporary folders.

use std::path::Path;
use std::sync::Arc;

use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, AuditReads, Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes, SecretName, Settings,
};

pub fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

pub fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub fn bytes(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

/// Segments of 8 KiB, so that small tests close several.
pub fn settings(reads: AuditReads) -> Settings {
    let mut settings = Settings::default();
    settings.audit.reads = reads;
    settings.log.segment_bytes = 8 * 1024;
    settings
}

/// A ledger in a temporary folder, with the real file system, the lock and the sled copy.
pub fn real(home: &Path) -> Config {
    Config::new(home).argon_cost(ArgonCost::for_tests()).settings(settings(AuditReads::Batched))
}

pub fn init_real(home: &Path) -> Ledger {
    Ledger::init(real(home), NewSlot::file("machine")).unwrap()
}

/// A ledger on any medium: every operation in a fixed order, time and randomness in the test's hand.
pub fn simulated(medium: impl Medium, seed: u64, clock: &ManualClock) -> Config {
    Config::new("/home")
        .medium(Arc::new(medium))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings(AuditReads::Batched))
}

/// A settled disk with an empty ledger in `/home`.
pub fn disk_with_ledger(clock: &ManualClock) -> SimDisk {
    let disk = SimDisk::new();
    let ledger = Ledger::init(simulated(disk.clone(), 1, clock), NewSlot::file("machine")).unwrap();
    ledger.close().unwrap();
    disk.settle();
    disk
}

pub fn put(ledger: &Ledger, key: &str, value: &str) -> u32 {
    ledger.vault(Scope::global()).put(&name(key), &bytes(value), PutOptions::new()).unwrap().version
}

pub fn get(ledger: &Ledger, key: &str) -> String {
    let secret = ledger.vault(Scope::global()).get(&name(key)).unwrap();
    String::from_utf8(secret.value.expose().to_vec()).unwrap()
}

/// Every file below a folder with its bytes.
pub fn files_below(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
