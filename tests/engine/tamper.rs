//! Every byte of a small ledger is flipped in turn: found by verification, or refused at opening, and
//! never a wrong answer or a panic.

use std::path::{Path, PathBuf};

use palyra_ledger::inspect::verify_files;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{GetOptions, Ledger, Scope, VerifyOptions};

use super::common::{disk_with_ledger, name, put, simulated};

const SECRETS: [&str; 3] = ["one", "two", "three"];

fn prepared(clock: &ManualClock) -> SimDisk {
    let disk = disk_with_ledger(clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, clock)).unwrap();
    for key in SECRETS {
        put(&ledger, key, &format!("value of {key}"));
    }
    ledger.close().unwrap();
    disk.settle();
    disk
}

fn in_journal(path: &Path) -> bool {
    path.starts_with("/home/journal")
}

/// Files whose whole content counts: none of their bytes may change unnoticed. Unused slots of the key
/// table and the rest of the index's files only have to do no harm.
fn must_be_noticed(path: &Path) -> bool {
    in_journal(path) || path.ends_with("keyring") || path.extension().is_some_and(|kind| kind == "key")
}

/// What a reader of the damaged ledger gets: refused, found by verification, or whole.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Found,
    Whole,
}

fn outcome(disk: SimDisk, clock: &ManualClock) -> Outcome {
    let Ok(ledger) = Ledger::open(simulated(disk, 3, clock)) else { return Outcome::Refused };
    let mut found = !ledger.verify(VerifyOptions { state: true, witness: false }).is_ok_and(|report| report.ok);
    for key in SECRETS {
        match ledger.vault(Scope::global()).get_with(&name(key), GetOptions::current()) {
            Ok(secret) => assert_eq!(secret.value.expose(), format!("value of {key}").as_bytes()),
            Err(_) => found = true,
        }
    }
    // A mended fault was noticed, too: recovery records what it dropped or mended.
    found |= ledger.log().head().is_ok_and(|head| head.events > 4);
    if found { Outcome::Found } else { Outcome::Whole }
}

#[test]
fn every_flipped_byte_is_found_or_refused() {
    let clock = ManualClock::default();
    let disk = prepared(&clock);
    assert_eq!(outcome(disk.snapshot(), &clock), Outcome::Whole);
    let files: Vec<PathBuf> = disk.files();
    let mut flips = 0;
    for path in files {
        let len = disk.contents(&path).unwrap().len() as u64;
        // The key table's unused slots are alike: those in use and a few more stand for them.
        let len = if path.to_string_lossy().contains("table-") { len.min(128 + 80 * 6) } else { len };
        // The index is made anew where it is damaged: every seventh byte of it stands for the others.
        let step = if path.starts_with("/home/index") { 7 } else { 1 };
        for offset in (0..len).step_by(step) {
            let damaged = disk.snapshot();
            assert!(damaged.flip(&path, offset, 1 << (offset % 8)));
            if in_journal(&path) {
                let report = verify_files(&damaged, Path::new("/home"), None).unwrap();
                let noted = !report.findings.is_empty();
                assert!(noted, "byte {offset} of {} passes without keys", path.display());
            }
            let outcome = outcome(damaged, &clock);
            if must_be_noticed(&path) {
                assert_ne!(outcome, Outcome::Whole, "byte {offset} of {}", path.display());
            }
            flips += 1;
        }
    }
    assert!(flips > 3000, "{flips}");
}

#[test]
fn every_shortened_file_is_found_or_refused() {
    let clock = ManualClock::default();
    let disk = prepared(&clock);
    for path in disk.files().into_iter().filter(|path| must_be_noticed(path)) {
        let bytes = disk.contents(&path).unwrap();
        for keep in (0..bytes.len()).step_by(7) {
            let damaged = disk.snapshot();
            damaged.put(&path, &bytes[..keep]).unwrap();
            assert_ne!(outcome(damaged, &clock), Outcome::Whole, "{} cut to {keep}", path.display());
        }
    }
}

#[test]
fn a_missing_file_is_refused_or_mended_and_never_guessed() {
    let clock = ManualClock::default();
    let disk = prepared(&clock);
    for path in disk.files() {
        let damaged = disk.snapshot();
        palyra_ledger::store::Medium::remove(&damaged, &path).unwrap();
        // Whatever happens, no secret reads wrong: `outcome` asserts it.
        let outcome = outcome(damaged, &clock);
        if must_be_noticed(&path) {
            assert_ne!(outcome, Outcome::Whole, "{}", path.display());
        }
    }
}

#[test]
fn an_older_journal_is_a_truncation_and_not_a_new_truth() {
    let clock = ManualClock::default();
    let disk = prepared(&clock);
    let old: Vec<(PathBuf, Vec<u8>)> = disk
        .files()
        .into_iter()
        .filter(|path| in_journal(path) || path.starts_with("/home/index"))
        .map(|path| (path.clone(), disk.contents(&path).unwrap()))
        .collect();
    let ledger = Ledger::open(simulated(disk.clone(), 5, &clock)).unwrap();
    put(&ledger, "later", "x");
    ledger.close().unwrap();
    for path in disk.files().into_iter().filter(|path| in_journal(path) || path.starts_with("/home/index")) {
        palyra_ledger::store::Medium::remove(&disk, &path).unwrap();
    }
    for (path, bytes) in old {
        disk.put(&path, &bytes).unwrap();
    }
    let refused = Ledger::open(simulated(disk, 6, &clock)).unwrap_err();
    assert!(matches!(refused, palyra_ledger::Error::Truncated { .. }), "{refused}");
}
