//! Slots, epochs and rotations through the ledger, each a recorded act.

use palyra_ledger::{Credential, Error, KeysError, Ledger, NewSlot, Scope, VerifyOptions};

use super::common::{bytes, get, init_real, name, put, real};

#[test]
fn a_ledger_opens_by_a_passphrase_alone() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "key", "value");
    let safe = ledger.keys().add_slot(NewSlot::passphrase("safe", bytes("correct horse"))).unwrap();
    let (slots, pinned) = ledger.keys().slots();
    assert_eq!(slots.len(), 2);
    let refused = ledger.keys().remove_slot(pinned, None).unwrap_err();
    assert!(matches!(refused, Error::Keys(KeysError::PinnedSlot { .. })), "{refused}");
    ledger.keys().remove_slot(pinned, Some(safe.id())).unwrap();
    drop(ledger);
    let key_files = std::fs::read_dir(home.join("keys")).unwrap();
    assert!(key_files.filter_map(Result::ok).all(|file| !file.file_name().to_string_lossy().ends_with(".key")));
    let needs = Ledger::open(real(&home)).unwrap_err();
    assert!(matches!(needs, Error::Keys(KeysError::NeedsPassphrase { .. })), "{needs}");
    let wrong = Ledger::open(real(&home).credential(Credential::Passphrase(bytes("wrong horse")))).unwrap_err();
    assert!(matches!(wrong, Error::Keys(KeysError::WrongPassphrase { .. })), "{wrong}");
    let ledger = Ledger::open(real(&home).credential(Credential::Passphrase(bytes("correct horse")))).unwrap();
    assert_eq!(get(&ledger, "key"), "value");
}

#[test]
fn a_ledger_may_begin_with_a_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = Ledger::init(real(&home), NewSlot::passphrase("me", bytes("correct horse"))).unwrap();
    put(&ledger, "key", "value");
    drop(ledger);
    let ledger = Ledger::open(real(&home).credential(Credential::Passphrase(bytes("correct horse")))).unwrap();
    assert_eq!(get(&ledger, "key"), "value");
}

#[test]
fn opening_with_another_slot_pins_it_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    let safe = ledger.keys().add_slot(NewSlot::passphrase("safe", bytes("correct horse"))).unwrap().id();
    drop(ledger);
    let config = real(&home).slot(safe).credential(Credential::Passphrase(bytes("correct horse")));
    let ledger = Ledger::open(config).unwrap();
    assert_eq!(ledger.keys().slots().1, safe);
    assert_eq!(ledger.log().entry(ledger.log().head().unwrap().seq).unwrap().kind_name(), "key_slot_pinned");
    drop(ledger);
    let silent = Ledger::open(real(&home)).unwrap_err();
    assert!(matches!(silent, Error::Keys(KeysError::NeedsPassphrase { slot }) if slot == safe), "{silent}");
}

#[test]
fn rotations_keep_every_secret_and_close_the_old_ways_in() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "before", "1");
    let old_keys = dir.path().join("old-keys");
    std::fs::create_dir(&old_keys).unwrap();
    for file in std::fs::read_dir(home.join("keys")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), old_keys.join(file.file_name())).unwrap();
    }
    assert_eq!(ledger.keys().rotate_epoch().unwrap(), 1);
    put(&ledger, "between", "2");
    assert_eq!(ledger.keys().rotate_root(&[], &[]).unwrap(), 2);
    put(&ledger, "after", "3");
    for (key, value) in [("before", "1"), ("between", "2"), ("after", "3")] {
        assert_eq!(get(&ledger, key), value);
    }
    let status = ledger.status().unwrap();
    assert_eq!((status.system.epoch, status.system.root_generation, status.system.table_generation), (2, 2, 2));
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    drop(ledger);
    let ledger = Ledger::open(real(&home)).unwrap();
    assert_eq!(get(&ledger, "before"), "1");
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    drop(ledger);
    // Somebody puts the old keys back: the log says they are not the ones.
    std::fs::remove_dir_all(home.join("keys")).unwrap();
    std::fs::rename(&old_keys, home.join("keys")).unwrap();
    std::fs::set_permissions(home.join("keys"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let refused = Ledger::open(real(&home)).unwrap_err();
    assert!(matches!(refused, Error::Keys(_)), "{refused}");
}

#[test]
fn an_epoch_ends_by_age() {
    let clock = palyra_ledger::testing::ManualClock::default();
    let disk = super::common::disk_with_ledger(&clock);
    clock.advance(91 * 86_400_000);
    let ledger = Ledger::open(super::common::simulated(disk, 2, &clock)).unwrap();
    assert_eq!(ledger.status().unwrap().system.epoch, 1);
}

#[test]
fn a_rotation_goes_on_beside_writers_and_readers() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "key", "0");
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let vault = ledger.vault(Scope::global());
            scope.spawn(move || {
                for number in 0..30 {
                    let key = name(&format!("w{writer}"));
                    vault.put(&key, &bytes(&number.to_string()), palyra_ledger::PutOptions::new()).unwrap();
                    vault.get(&key).unwrap();
                }
            });
        }
        for _ in 0..3 {
            ledger.keys().rotate_root(&[], &[]).unwrap();
            ledger.keys().rotate_epoch().unwrap();
        }
    });
    for writer in 0..3 {
        assert_eq!(get(&ledger, &format!("w{writer}")), "29");
    }
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn events_behind_a_rotation_open_although_its_key_ring_was_not_promoted_yet() {
    // Found by killing processes: another thread's batch, sealed by the new epoch, was durable together
    // with the event that started it, and the process died before the new ring took the old one's place.
    let clock = palyra_ledger::testing::ManualClock::default();
    let disk = super::common::disk_with_ledger(&clock);
    let ring = std::path::Path::new("/home/keys/keyring");
    let old = disk.contents(ring).unwrap();
    let ledger = Ledger::open(super::common::simulated(disk.clone(), 2, &clock)).unwrap();
    ledger.keys().rotate_epoch().unwrap();
    put(&ledger, "key", "sealed by the new epoch");
    ledger.close().unwrap();
    let new = disk.contents(ring).unwrap();
    disk.put(std::path::Path::new("/home/keys/keyring.next"), &new).unwrap();
    disk.put(ring, &old).unwrap();
    let ledger = Ledger::open(super::common::simulated(disk.clone(), 3, &clock)).unwrap();
    assert_eq!(get(&ledger, "key"), "sealed by the new epoch");
    assert_eq!(disk.contents(ring).unwrap(), new);
}
