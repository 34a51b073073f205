//! References to secrets as an embedding program meets them: what they give, what they refuse, what is recorded.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod files;
mod programs;
mod record;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use palyra_ledger::event::Event;
use palyra_ledger::resolve::{Bound, Resolution, SecretResolver};
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    Actor, ArgonCost, AuditReads, Caller, Config, Ledger, NewSlot, PutOptions, ResolveSettings, SecretBytes, SecretRef,
    Settings,
};

/// What stands in every value of these tests, and must stand nowhere else.
const CANARY: &str = "CANARY-71d3";

fn config(disk: &SimDisk, clock: &ManualClock, reads: AuditReads, rules: ResolveSettings) -> Config {
    let mut settings = Settings { resolve: rules, ..Settings::default() };
    settings.audit.reads = reads;
    Config::new("/home")
        .medium(Arc::new(disk.clone()))
        .random(Arc::new(SeededRandom::new(1)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings)
}

fn ledger_with(reads: AuditReads, rules: ResolveSettings) -> Ledger {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    Ledger::init(config(&disk, &clock, reads, rules), NewSlot::file("machine")).unwrap()
}

fn caller() -> Caller {
    Caller::library(Actor::new("resolver").unwrap())
}

fn resolver(ledger: &Ledger) -> SecretResolver {
    SecretResolver::new(ledger, caller(), Bound::Every)
}

fn put(ledger: &Ledger, path: &str, value: &str) {
    let (scope, name) = path.split_once('/').unwrap();
    let value = SecretBytes::from(value.as_bytes());
    ledger.vault(scope.parse().unwrap()).put(&name.parse().unwrap(), &value, PutOptions::new()).unwrap();
}

fn reference(text: &str) -> SecretRef {
    text.parse().unwrap()
}

/// A file's reference, whatever its path holds.
fn file_ref(path: &Path) -> SecretRef {
    reference(&format!("file://{}", path.display()))
}

fn give(ledger: &Ledger, text: &str) -> Resolution {
    resolver(ledger).resolve(&reference(text)).unwrap()
}

fn text(resolution: &Resolution) -> Option<String> {
    resolution.value.as_ref().map(|value| String::from_utf8_lossy(value.expose()).into_owned())
}

/// The stable name of the reason.
fn why(resolution: &Resolution) -> &'static str {
    resolution.reason.as_ref().map_or("", |reason| reason.code.name())
}

/// Every event of a ledger.
fn events(ledger: &Ledger) -> Vec<Event> {
    let mut found = Vec::new();
    let read = &mut |entry: palyra_ledger::Entry| {
        found.push(entry.event);
        std::ops::ControlFlow::Continue(())
    };
    ledger.log().read(0, u64::MAX, read).unwrap();
    found
}

/// A folder that the rules may trust.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Without links in its own path.
    fn path(&self, name: &str) -> PathBuf {
        let root = self.0.path().canonicalize().unwrap();
        if name.is_empty() { root } else { root.join(name) }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        mode(&path, 0o700);
        path
    }

    fn file(&self, name: &str, content: &str, bits: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        mode(&path, bits);
        path
    }
}

fn mode(path: &Path, bits: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
}

/// Waits for something to become true.
fn wait(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = std::time::Instant::now();
    while begun.elapsed() < limit {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
