//! Stores of released formats open for ever: each folder in `migrations/` holds a store made by the
//! version that introduced the format, and what it must say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::vault::Metadata;
use palyra_ledger::{
    ArgonCost, Config, Credential, GetOptions, Ledger, NewSlot, PutOptions, ScopePrefix, SecretBytes, Settings,
    VerifyOptions,
};

const PASSPHRASE: &str = "golden passphrase";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/0001-first-format")
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.log.segment_bytes = 4096;
    settings
}

fn phrase() -> SecretBytes {
    SecretBytes::from(PASSPHRASE.as_bytes())
}

fn config(disk: &SimDisk, seed: u64, clock: &ManualClock) -> Config {
    Config::new("/home")
        .medium(Arc::new(disk.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings())
}

/// A store with every kind of event that a healthy ledger writes.
fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 1, &clock), NewSlot::file("machine")).unwrap();
    let vault = |scope: &str| ledger.vault(scope.parse().unwrap());
    let name = |text: &str| text.parse().unwrap();
    let put = |scope: &str, key: &str, value: &str, options: PutOptions| {
        clock.advance(1000);
        vault(scope).put(&name(key), &SecretBytes::from(value.as_bytes()), options).unwrap();
    };
    let labels = [("team".to_owned(), "core".to_owned())].into_iter().collect();
    let expires = palyra_ledger::Timestamp::from_millis(1_800_000_000_000);
    put("global", "api_key", "first", PutOptions::new().description("billing").labels(labels).expires_at(expires));
    put("global", "api_key", "second", PutOptions::new().if_version(1));
    put("principal:ana", "token", "hers", PutOptions::new());
    put("channel:slack:T1", "bot", "beep", PutOptions::new());
    put("skill:mail", "imap/password", &"long ".repeat(300), PutOptions::new());
    put("skill:mail", "gone", "shredded", PutOptions::new());
    let _ = vault("global").put(&name("api_key"), &phrase(), PutOptions::new().if_version(1)).unwrap_err();
    vault("principal:ana").delete(&name("token"), Versions::All, None).unwrap();
    vault("principal:ana").undelete(&name("token"), Versions::All, None).unwrap();
    vault("channel:slack:T1").delete(&name("bot"), Versions::One(1), None).unwrap();
    vault("skill:mail").shred(&name("gone"), Versions::All, None).unwrap();
    let change = Metadata { description: Some("mail".to_owned()), ..Metadata::default() };
    vault("skill:mail").describe(&name("imap/password"), &change, None).unwrap();
    vault("global").get(&name("api_key")).unwrap();
    ledger.flush_reads().unwrap();
    let slot = ledger.keys().add_slot(NewSlot::passphrase("safe", phrase())).unwrap().id();
    let lost = ledger.keys().add_slot(NewSlot::file("lost")).unwrap().id();
    ledger.keys().remove_slot(lost, None).unwrap();
    ledger.keys().rotate_epoch().unwrap();
    ledger.keys().rotate_root(&[(slot, phrase())], &[]).unwrap();
    clock.set(palyra_ledger::Timestamp::from_millis(1_767_225_000_000));
    put("global", "after", "the clock stepped back", PutOptions::new());
    ledger.close().unwrap();
    disk
}

/// What the store says, as text.
fn told(ledger: &Ledger) -> String {
    let mut lines = vec![format!("state root {}", ledger.state_root().unwrap())];
    let head = ledger.log().head().unwrap();
    lines.push(format!("head {} {}", head.seq, head.hash));
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            lines.push(format!("event {} {} {} {}", entry.seq, entry.time.as_millis(), entry.kind, entry.kind_name()));
            ControlFlow::Continue(())
        })
        .unwrap();
    for info in ledger.list(&ScopePrefix::all(), &palyra_ledger::ListOptions::new()).unwrap() {
        let secret = ledger
            .vault(info.reference.scope.clone())
            .get_with(&info.reference.name, GetOptions::version(info.version))
            .unwrap();
        let value = String::from_utf8(secret.value.expose().to_vec()).unwrap();
        lines.push(format!("secret {} version {} {value:?}", info.reference, info.version));
    }
    lines.join("\n") + "\n"
}

/// Copies the golden store to a simulated disk: the checked-in files are never opened for writing.
fn load() -> SimDisk {
    let disk = SimDisk::new();
    let root = folder().join("golden");
    let mut folders = vec![root.clone()];
    while let Some(dir) = folders.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = Path::new("/home").join(path.strip_prefix(&root).unwrap());
                disk.put(&inside, &std::fs::read(&path).unwrap()).unwrap();
            }
        }
    }
    for dir in ["/home/index", "/home/quarantine"] {
        disk.put_dir(Path::new(dir)).unwrap();
    }
    disk.settle();
    disk
}

/// Only for a new format, in a new folder: `cargo test --test golden -- --ignored write_golden`.
#[test]
#[ignore = "writes into migrations/"]
fn write_golden() {
    let (disk, root) = (make(), folder().join("golden"));
    assert!(!root.exists(), "a released store is never written again");
    for path in disk.files() {
        // The index is disposable: a store without one is what an older version leaves.
        if path.starts_with("/home/index") {
            continue;
        }
        let target = root.join(path.strip_prefix("/home").unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, disk.contents(&path).unwrap()).unwrap();
    }
    let ledger = Ledger::open(config(&load(), 9, &ManualClock::default())).unwrap();
    std::fs::write(folder().join("EXPECTED"), told(&ledger)).unwrap();
}

#[test]
fn a_store_of_the_first_format_says_what_it_always_said() {
    let expected = std::fs::read_to_string(folder().join("EXPECTED")).unwrap();
    let clock = ManualClock::default();
    let ledger = Ledger::open(config(&load(), 9, &clock)).unwrap();
    assert_eq!(told(&ledger), expected);
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn a_store_of_the_first_format_opens_by_its_passphrase() {
    let clock = ManualClock::default();
    let disk = load();
    let slots = Ledger::open(config(&disk, 9, &clock)).unwrap().keys().slots().0;
    let slot = slots.iter().find(|slot| slot.label() == "safe").unwrap().id();
    let ledger =
        Ledger::open(config(&disk, 10, &clock).slot(slot).credential(Credential::Passphrase(phrase()))).unwrap();
    let secret = ledger.vault("global".parse().unwrap()).get(&"api_key".parse().unwrap()).unwrap();
    assert_eq!(secret.value.expose(), b"second");
}

#[test]
fn a_store_of_the_first_format_verifies_without_keys() {
    let report = palyra_ledger::inspect::verify_files(&load(), Path::new("/home"), None).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn every_kind_that_a_healthy_ledger_writes_is_in_the_store() {
    let expected = std::fs::read_to_string(folder().join("EXPECTED")).unwrap();
    // Device trust came later. The others record faults: of sled, of the head file, of the journal, of the key table, of the spool.
    for kind in
        palyra_ledger::event::Kind::ALL.iter().filter(|kind| !(7..=9).contains(&kind.number()) && kind.number() < 64)
    {
        let fault = matches!(kind.number(), 5 | 12..=15);
        assert!(fault || expected.contains(kind.name()), "{}", kind.name());
    }
}

/// FORMAT.md is enough to write a reader from: `tools/reader` knows nothing else.
#[test]
#[allow(clippy::print_stderr)]
fn a_reader_written_from_the_document_alone_reads_the_store() {
    use std::process::Command;
    let python = std::env::var("PALYRA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let modules = Command::new(&python).args(["-c", "import blake3, nacl"]).output();
    if !modules.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: python3 with the packages blake3 and pynacl is not there");
        return;
    }
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/reader");
    let output = Command::new(python).arg(reader).arg(folder().join("golden")).arg("global/api_key").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = std::fs::read_to_string(folder().join("EXPECTED")).unwrap();
    let head = expected.lines().nth(1).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), [head, "global/api_key version 2: second"]);
}
