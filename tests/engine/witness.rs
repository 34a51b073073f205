//! The sled copy: lost, damaged, lying or ahead, it is set aside and made anew, and the log says so.

use std::ops::ControlFlow;
use std::path::Path;

use palyra_ledger::testing::flip_byte_at_path;
use palyra_ledger::{FindingCode, Ledger, VerifyOptions};

use super::common::{files_below, get, init_real, put, real};

fn kinds(ledger: &Ledger) -> Vec<String> {
    let mut found = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            found.push(entry.kind_name());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn filled(home: &Path) {
    let ledger = init_real(home);
    for number in 0..40 {
        put(&ledger, &format!("key{number}"), &"v".repeat(300));
    }
    ledger.close().unwrap();
    assert!(ledger.verify(VerifyOptions { state: true, witness: true }).is_ok());
}

/// Opens, lets the follower work, closes, and verifies both copies against each other.
fn settle(home: &Path) -> Vec<String> {
    let ledger = Ledger::open(real(home)).unwrap();
    assert_eq!(get(&ledger, "key7"), "v".repeat(300));
    ledger.close().unwrap();
    drop(ledger);
    let ledger = Ledger::open(real(home)).unwrap();
    let kinds = kinds(&ledger);
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    ledger.close().unwrap();
    kinds
}

fn has(kinds: &[String], kind: &str) -> bool {
    kinds.iter().any(|found| found == kind)
}

#[test]
fn a_whole_copy_is_followed_and_nothing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let kinds = settle(&home);
    assert!(!has(&kinds, "witness_set_aside"), "{kinds:?}");
    assert!(home.join("sled").is_dir());
    assert_eq!(std::fs::read_dir(home.join("quarantine")).unwrap().count(), 0);
}

#[test]
fn a_lost_copy_is_made_anew_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    std::fs::remove_dir_all(home.join("sled")).unwrap();
    let kinds = settle(&home);
    assert!(has(&kinds, "witness_set_aside") && has(&kinds, "witness_rebuilt"), "{kinds:?}");
}

#[test]
fn a_torn_copy_is_set_aside_whole_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let db = home.join("sled/db");
    let bytes = std::fs::read(&db).unwrap();
    std::fs::write(&db, vec![0xA5; bytes.len()]).unwrap();
    let kinds = settle(&home);
    assert!(has(&kinds, "witness_set_aside") && has(&kinds, "witness_rebuilt"), "{kinds:?}");
    let kept: Vec<_> = files_below(&home.join("quarantine"));
    assert!(kept.iter().any(|(path, bytes)| path.ends_with("db") && bytes.iter().all(|byte| *byte == 0xA5)));
}

#[test]
fn an_older_copy_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let old = dir.path().join("old-sled");
    copy(&home.join("sled"), &old);
    let ledger = Ledger::open(real(&home)).unwrap();
    put(&ledger, "late", "x");
    ledger.close().unwrap();
    drop(ledger);
    std::fs::remove_dir_all(home.join("sled")).unwrap();
    copy(&old, &home.join("sled"));
    settle(&home);
}

/// sled is never ahead of the head: where it is, journal and head are an older copy that was put back.
#[test]
fn a_copy_that_holds_more_than_the_journal_shows_a_rollback() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let old = dir.path().join("old");
    let status = std::process::Command::new("cp").arg("-a").arg(&home).arg(&old).status().unwrap();
    assert!(status.success());
    let ledger = Ledger::open(real(&home)).unwrap();
    let first = ledger.log().head().unwrap().seq + 1;
    put(&ledger, "late", "x");
    put(&ledger, "later", "y");
    let last = ledger.log().head().unwrap().seq;
    ledger.close().unwrap();
    drop(ledger);
    std::fs::remove_dir_all(old.join("sled")).unwrap();
    copy(&home.join("sled"), &old.join("sled"));
    let ledger = Ledger::open(real(&old).read_only()).unwrap();
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.code, finding.seq)).collect();
    assert_eq!(found, [(FindingCode::Truncated, Some(first))], "{:?}", report.findings);
    assert!(!report.ok && report.findings[0].through.is_some_and(|through| through >= last));
    ledger.close().unwrap();
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, bytes).unwrap();
    }
    std::fs::create_dir_all(to.join("blobs")).unwrap();
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_copy_of_another_history_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (home, other) = (dir.path().join("home"), dir.path().join("other"));
    filled(&home);
    filled(&other);
    std::fs::remove_dir_all(home.join("sled")).unwrap();
    copy(&other.join("sled"), &home.join("sled"));
    let kinds = settle(&home);
    assert!(has(&kinds, "witness_set_aside"), "{kinds:?}");
}

#[test]
fn sled_flipped_at_any_place_never_reaches_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let pristine = dir.path().join("pristine");
    copy(&home.join("sled"), &pristine);
    let len = std::fs::metadata(pristine.join("db")).unwrap().len();
    for part in 0..12 {
        std::fs::remove_dir_all(home.join("sled")).unwrap();
        copy(&pristine, &home.join("sled"));
        flip_byte_at_path(&home.join("sled/db"), len * part / 12, 0xFF).unwrap();
        settle(&home);
    }
}

#[test]
fn damage_in_the_journal_is_named_with_what_sled_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let mut segments: Vec<_> = files_below(&home.join("journal"));
    segments.sort();
    assert!(segments.len() > 2);
    let (path, bytes) = &segments[1];
    flip_byte_at_path(path, bytes.len() as u64 / 2, 1).unwrap();
    let damaged = std::fs::read(path).unwrap();
    let report = Ledger::examine(&real(&home)).unwrap();
    assert!(!report.ok);
    let codes: Vec<FindingCode> = report.findings.iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&FindingCode::FrameDamaged), "{codes:?}");
    assert!(codes.contains(&FindingCode::WitnessHolds), "{codes:?}");
    // On a person's word it is restored; the damaged file is kept, and the log says so.
    let (ledger, restored) = Ledger::repair(real(&home)).unwrap();
    assert_eq!(restored.len(), 1);
    assert_eq!(restored[0].first, restored[0].last);
    assert_eq!(std::fs::read(path).unwrap(), *bytes);
    assert_eq!(std::fs::read(home.join("quarantine").join(&restored[0].saved_as)).unwrap(), damaged);
    assert!(has(&kinds(&ledger), "journal_restored"));
    for number in 0..40 {
        assert_eq!(get(&ledger, &format!("key{number}")), "v".repeat(300));
    }
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

type Segments = Vec<(std::path::PathBuf, Vec<u8>)>;

#[test]
fn a_lost_segment_a_cut_end_and_a_whole_lost_journal_are_restored() {
    let damages: [(&str, fn(&Segments)); 8] = [
        ("a lost segment", |segments| std::fs::remove_file(&segments[1].0).unwrap()),
        ("the first segment", |segments| std::fs::remove_file(&segments[0].0).unwrap()),
        ("the last segment", |segments| std::fs::remove_file(&segments.last().unwrap().0).unwrap()),
        ("a cut segment", |segments| std::fs::write(&segments[1].0, &segments[1].1[..500]).unwrap()),
        ("a cut end", |segments| {
            let (path, bytes) = segments.last().unwrap();
            std::fs::write(path, &bytes[..300]).unwrap();
        }),
        ("a header", |segments| assert!(flip_byte_at_path(&segments[1].0, 20, 1).unwrap())),
        ("a trailer", |segments| {
            let (path, bytes) = &segments[1];
            flip_byte_at_path(path, bytes.len() as u64 - 5, 1).unwrap();
        }),
        ("everything", |segments| segments.iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap())),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        filled(&home);
        let segments: Segments = files_below(&home.join("journal"));
        damage(&segments);
        assert!(!Ledger::examine(&real(&home)).unwrap().ok, "{what}");
        let (ledger, restored) = Ledger::repair(real(&home)).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!restored.is_empty(), "{what}");
        let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
        assert!(report.ok, "{what}: {:?}", report.findings);
        ledger.close().unwrap();
        for (path, bytes) in &segments {
            let now = std::fs::read(path).unwrap_or_default();
            // Where one segment ended and the next began is lost with all of them.
            assert!(now.starts_with(bytes) || what == "everything", "{what}: {}", path.display());
        }
    }
}

#[test]
fn what_neither_copy_holds_is_not_invented() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let segments: Segments = files_below(&home.join("journal"));
    std::fs::remove_dir_all(home.join("sled")).unwrap();
    std::fs::remove_file(&segments[1].0).unwrap();
    let before = files_below(&home);
    assert!(Ledger::repair(real(&home)).is_err());
    assert_eq!(files_below(&home).len(), before.len());
}
