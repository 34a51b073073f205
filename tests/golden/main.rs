//! Stores of released formats open for ever: each folder in `migrations/` holds a store made by the
//! version that introduced the format, and what it must say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod backends;
mod backups;
mod checkpoints;
mod compromise;
mod credentials;
mod device_trust;
mod document;
mod first;
mod import_times;
mod imports;
mod references;
mod versions;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::inspect::FindingCode;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{ArgonCost, Config, GetOptions, Ledger, ScopePrefix, SecretBytes, Settings, VerifyOptions};

const PASSPHRASE: &str = "golden passphrase";

/// A released format: the folder of its store, and the version that wrote it.
struct Release {
    folder: &'static str,
    make: fn() -> SimDisk,
    told: fn(&Ledger) -> String,
}

/// Every release, oldest first.
const RELEASES: &[&Release] = &[
    &first::RELEASE,
    &device_trust::RELEASE,
    &credentials::RELEASE,
    &references::RELEASE,
    &backends::RELEASE,
    &checkpoints::RELEASE,
    &compromise::RELEASE,
    &versions::RELEASE,
    &imports::RELEASE,
    &backups::RELEASE,
    &import_times::RELEASE,
];

impl Release {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(self.folder)
    }

    fn expected(&self) -> String {
        std::fs::read_to_string(self.folder().join("EXPECTED")).unwrap()
    }

    /// Copies the golden store to a simulated disk: the checked-in files are never opened for writing.
    fn load(&self) -> SimDisk {
        let disk = SimDisk::new();
        let root = self.folder().join("golden");
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

    fn open(&self) -> Ledger {
        Ledger::open(config(&self.load(), 9, &ManualClock::default())).unwrap()
    }

    fn write(&self) {
        let (disk, root) = ((self.make)(), self.folder().join("golden"));
        for path in disk.files() {
            // The index is disposable: a store without one is what an older version leaves.
            if path.starts_with("/home/index") {
                continue;
            }
            let target = root.join(path.strip_prefix("/home").unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(target, disk.contents(&path).unwrap()).unwrap();
        }
        std::fs::write(self.folder().join("EXPECTED"), (self.told)(&self.open())).unwrap();
        std::fs::write(self.folder().join("KINDS"), versions::kinds()).unwrap();
    }
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

/// An event's fields as the version that wrote it had them: what a later one records beside them is not there.
fn fields(entry: &palyra_ledger::Entry) -> serde_json::Value {
    let mut fields = entry.fields();
    let later: &[&str] = match (entry.kind, entry.schema) {
        (15, 1) => &["digest", "saved_as"],
        (32, 1) => &["cause"],
        (78, 1) => &["certificates"],
        (102, 1) => &["took_ms", "scopes_lost"],
        _ => &[],
    };
    for name in later {
        assert_eq!(fields.as_object_mut().unwrap().remove(*name), Some(serde_json::Value::Null), "{name}");
    }
    if (entry.kind, entry.schema) == (108, 1) {
        for order in fields["orders"].as_array_mut().unwrap() {
            let time = order.as_object_mut().unwrap().remove("updated_at");
            assert_eq!(time, Some(serde_json::Value::Null), "a time of an order");
        }
    }
    fields
}

/// What the store says, as text: state root, head, every event, every live value.
fn told(ledger: &Ledger) -> String {
    told_with(ledger, |_| String::new())
}

fn told_with(ledger: &Ledger, more: impl Fn(&palyra_ledger::Entry) -> String) -> String {
    let mut lines = vec![format!("state root {}", ledger.state_root().unwrap())];
    let head = ledger.log().head().unwrap();
    lines.push(format!("head {} {}", head.seq, head.hash));
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            let (number, name, more) = (entry.kind, entry.kind_name(), more(&entry));
            lines.push(format!("event {} {} {number} {name}{more}", entry.seq, entry.time.as_millis()));
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

/// Only for a new format, in a new folder: `cargo test --test golden -- --ignored write_golden`.
#[test]
#[ignore = "writes into migrations/"]
fn write_golden() {
    // A released store is never written again.
    RELEASES.iter().filter(|release| !release.folder().join("golden").exists()).for_each(|release| release.write());
}

#[test]
fn a_store_of_any_release_says_what_it_always_said() {
    for release in RELEASES {
        let ledger = release.open();
        assert_eq!((release.told)(&ledger), release.expected(), "{}", release.folder);
        let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
        // The settings that this store was made with are not in it: its anchor is named by the log alone.
        let unnamed = release.folder == checkpoints::RELEASE.folder;
        let allowed = |code: FindingCode| code.is_note() || (unnamed && code == FindingCode::AnchorUnnamed);
        let faults: Vec<_> = report.findings.iter().filter(|finding| !allowed(finding.code)).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", release.folder);
    }
}

#[test]
fn a_store_of_any_release_verifies_without_keys() {
    for release in RELEASES {
        let report = palyra_ledger::inspect::verify_files(&release.load(), Path::new("/home"), None).unwrap();
        assert!(report.ok, "{}: {:?}", release.folder, report.findings);
    }
}

#[test]
fn every_kind_that_a_healthy_ledger_writes_is_in_a_store() {
    let expected: String = RELEASES.iter().map(|release| release.expected()).collect();
    for kind in palyra_ledger::event::Kind::ALL {
        // These record faults: of sled, of the head file, of the journal, of the key table, of the spool, of an anchor.
        let fault = matches!(kind.number(), 5 | 7..=9 | 12..=15 | 18);
        assert!(fault || expected.contains(&format!(" {} {}", kind.number(), kind.name())), "{}", kind.name());
    }
}

/// FORMAT.md is enough to write a reader from: `tools/reader` knows nothing else.
#[test]
#[allow(clippy::print_stderr)]
fn a_reader_written_from_the_document_alone_reads_the_stores() {
    use std::process::Command;
    let python = std::env::var("PALYRA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let modules = Command::new(&python).args(["-c", "import blake3, nacl"]).output();
    if !modules.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("PALYRA_NEED_PEERS").is_none(),
            "PALYRA_NEED_PEERS is set and {python} has not the packages blake3 and pynacl"
        );
        eprintln!("SKIPPED: python3 with the packages blake3 and pynacl is not there");
        return;
    }
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/reader");
    for release in RELEASES {
        let home = release.folder().join("golden");
        let output = Command::new(&python).arg(&reader).arg(home).arg("global/api_key").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected = release.expected();
        let head = expected.lines().nth(1).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), [head, "global/api_key version 2: second"]);
    }
}
