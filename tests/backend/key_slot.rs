//! The key slot that the operating system's keystore opens.

use palyra_ledger::testing::{MemoryKeystore, SimDisk, for_every_cut};
use palyra_ledger::{BackendKind, Credential, Error, KeysError, Ledger, NewSlot, SlotKind};

use super::{Place, bytes, get, put, simulated};

fn with_slot() -> (Place, Ledger) {
    let place = Place::new(BackendKind::Ledger);
    let ledger = place.open();
    put(&ledger, "a", "one");
    ledger.keys().add_slot(NewSlot::os_keystore("desktop")).unwrap();
    (place, ledger)
}

fn slot_of(ledger: &Ledger) -> palyra_ledger::SlotId {
    let (slots, _) = ledger.keys().slots();
    slots.iter().find(|slot| slot.kind() == SlotKind::OsKeystore).unwrap().id()
}

#[test]
fn a_keystore_slot_opens_without_a_prompt_and_its_faults_are_told_apart() {
    let (place, ledger) = with_slot();
    let slot = slot_of(&ledger);
    let account = format!("{}/{slot}/1", ledger.id());
    assert_eq!(place.keystore.items().keys().collect::<Vec<_>>(), [&account]);
    assert_eq!(place.keystore.items()[&account].len(), 32);
    ledger.close().unwrap();
    let config = || place.config(3).slot(slot);
    assert_eq!(get(&Ledger::open(config().read_only()).unwrap(), "a"), "one");
    place.keystore.set_locked(true);
    let opened = Ledger::open(config());
    assert!(matches!(&opened, Err(Error::Keys(KeysError::Keystore { .. }))), "{opened:?}");
    assert!(opened.unwrap_err().to_string().contains("locked"));
    place.keystore.set_locked(false);
    let given = config().credential(Credential::Passphrase(bytes("correct horse")));
    assert!(matches!(Ledger::open(given), Err(Error::Keys(KeysError::NeedsKeystore { .. }))));
    let key = place.keystore.items()[&account].clone();
    for (bytes, missing) in [(None, true), (Some([7; 32].as_slice()), false), (Some(b"short".as_slice()), false)] {
        place.keystore.tamper(&account, bytes);
        match Ledger::open(config()) {
            Err(Error::Keys(KeysError::KeystoreItem { .. })) => assert!(missing),
            Err(Error::Keys(KeysError::WrongKeystoreItem { .. })) => assert!(!missing),
            other => panic!("{other:?}"),
        }
    }
    // The other slot opens all the same, and pinned is what opened for writing.
    assert_eq!(get(&place.open(), "a"), "one");
    place.keystore.tamper(&account, Some(&key));
    drop(Ledger::open(config()).unwrap());
    let ledger = Ledger::open(place.config(4)).unwrap();
    assert_eq!(ledger.keys().slots().1, slot);
}

#[test]
fn a_rotation_makes_a_new_item_and_a_removed_slot_takes_its_item_along() {
    let (place, ledger) = with_slot();
    let slot = slot_of(&ledger);
    ledger.keys().rotate_root(&[], &[]).unwrap();
    let accounts: Vec<_> = place.keystore.items().into_keys().collect();
    assert_eq!(accounts, [format!("{}/{slot}/2", ledger.id())]);
    ledger.close().unwrap();
    let ledger = Ledger::open(place.config(3).slot(slot)).unwrap();
    assert_eq!(get(&ledger, "a"), "one");
    let other = ledger.keys().slots().0.iter().find(|other| other.id() != slot).unwrap().id();
    ledger.keys().remove_slot(slot, Some(other)).unwrap();
    assert!(place.keystore.items().is_empty());
    ledger.close().unwrap();
    assert_eq!(get(&place.open(), "a"), "one");
}

#[test]
fn a_keystore_that_takes_nothing_changes_nothing() {
    let place = Place::new(BackendKind::Ledger);
    let ledger = place.open();
    place.keystore.set_locked(true);
    let refused = ledger.keys().add_slot(NewSlot::os_keystore("desktop"));
    assert!(matches!(refused, Err(Error::Keys(KeysError::KeystorePut(_)))), "{refused:?}");
    assert_eq!(ledger.keys().slots().0.len(), 1);
    put(&ledger, "a", "it still writes");
    let disk = SimDisk::new();
    let config = simulated(disk, &place.keystore, 5, &place.clock);
    assert!(Ledger::init(config, NewSlot::os_keystore("desktop")).is_err());
}

#[test]
fn a_power_cut_anywhere_in_a_rotation_leaves_a_ledger_that_its_keystore_opens() {
    let place = Place::new(BackendKind::Ledger);
    let ledger = place.open();
    put(&ledger, "a", "one");
    ledger.keys().add_slot(NewSlot::os_keystore("desktop")).unwrap();
    let slot = slot_of(&ledger);
    ledger.close().unwrap();
    place.disk.settle();
    let open = |disk: &SimDisk, keystore: &MemoryKeystore, seed| {
        Ledger::open(simulated(disk.clone(), keystore, seed, &place.clock).slot(slot))
    };
    for_every_cut(
        1,
        || place.disk.snapshot(),
        |disk| {
            let keystore = place.keystore.snapshot();
            let _ = open(disk, &keystore, 7).and_then(|ledger| {
                ledger.keys().rotate_root(&[], &[])?;
                ledger.close()
            });
            keystore
        },
        |cut, keystore, disk| {
            let keystore = keystore.snapshot();
            let ledger = open(&disk, &keystore, 8).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            assert_eq!(get(&ledger, "a"), "one", "{cut:?}");
            assert_eq!(keystore.items().len(), 1, "{cut:?}: what a crash left is swept");
            ledger.close().unwrap();
        },
    );
}
