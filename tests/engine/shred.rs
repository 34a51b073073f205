//! Shredding leaves no trace of the key slot in any file, and the version unreadable for good.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::{FindingCode, GetOptions, Ledger, Scope, VerifyOptions};

use super::common::{contains, files_below, init_real, name, put, real};

const SLOT: usize = 80;
const HEADER: usize = 128;

fn slot_bytes(home: &std::path::Path, slot: usize) -> Vec<u8> {
    let table = std::fs::read(home.join("keys/table-1.a")).unwrap();
    table[HEADER + slot * SLOT..HEADER + (slot + 1) * SLOT].to_vec()
}

#[test]
fn no_file_holds_a_piece_of_a_shredded_slot() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "kept", "one");
    put(&ledger, "doomed", "two");
    put(&ledger, "doomed", "three");
    let slots = [slot_bytes(&home, 1), slot_bytes(&home, 2)];
    assert!(slots.iter().all(|slot| slot.iter().any(|byte| *byte != 0)));
    let vault = ledger.vault(Scope::global());
    vault.shred(&name("doomed"), Versions::One(1), None).unwrap();
    assert!(vault.get_with(&name("doomed"), GetOptions::version(1)).is_err());
    assert_eq!(vault.get(&name("doomed")).unwrap().value.expose(), b"three");
    vault.shred(&name("doomed"), Versions::All, None).unwrap();
    ledger.close().unwrap();
    drop((vault, ledger));
    for (path, bytes) in files_below(&home) {
        for slot in &slots {
            for piece in slot.windows(12) {
                assert!(!contains(&bytes, piece), "{}", path.display());
            }
        }
    }
    let ledger = Ledger::open(real(&home)).unwrap();
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!(super::common::get(&ledger, "kept"), "one");
}

#[test]
fn a_restored_old_key_table_is_noticed_and_the_shred_carried_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "doomed", "two");
    ledger.close().unwrap();
    drop(ledger);
    let keep: Vec<_> =
        ["table-1.a", "table-1.b"].map(|file| std::fs::read(home.join("keys").join(file)).unwrap()).into();
    let ledger = Ledger::open(real(&home)).unwrap();
    ledger.vault(Scope::global()).shred(&name("doomed"), Versions::All, None).unwrap();
    ledger.close().unwrap();
    drop(ledger);
    for (file, bytes) in ["table-1.a", "table-1.b"].iter().zip(&keep) {
        std::fs::write(home.join("keys").join(file), bytes).unwrap();
    }
    let ledger = Ledger::open(real(&home)).unwrap();
    assert!(ledger.vault(Scope::global()).get(&name("doomed")).is_err());
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    assert!(slot_bytes(&home, 0).starts_with(b"SHREDDED"));
}

#[test]
fn a_key_that_is_destroyed_in_one_copy_alone_is_a_finding() {
    for left in ["table-1.a", "table-1.b"] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let path = home.join("keys").join(left);
        let ledger = init_real(&home);
        put(&ledger, "doomed", "two");
        let before = std::fs::read(&path).unwrap();
        ledger.vault(Scope::global()).shred(&name("doomed"), Versions::All, None).unwrap();
        ledger.close().unwrap();
        drop(ledger);
        // The header says that it was carried out, and one copy still has the key.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER..HEADER + SLOT].copy_from_slice(&before[HEADER..HEADER + SLOT]);
        std::fs::write(&path, bytes).unwrap();
        let ledger = Ledger::open(real(&home)).unwrap();
        let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
        let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [FindingCode::ShredIncomplete], "{left}");
        assert!(!report.ok);
    }
}

#[test]
fn a_key_that_vanished_without_a_shred_event_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "key", "value");
    ledger.close().unwrap();
    drop(ledger);
    for file in ["table-1.a", "table-1.b"] {
        let path = home.join("keys").join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER..HEADER + SLOT].fill(0);
        std::fs::write(&path, bytes).unwrap();
    }
    let ledger = Ledger::open(real(&home)).unwrap();
    let read = ledger.vault(Scope::global()).get(&name("key")).unwrap_err();
    assert!(matches!(read, palyra_ledger::Error::KeyMissing { .. }), "{read}");
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(!report.ok);
    assert_eq!(report.findings[0].code, FindingCode::KeyMissing);
}
