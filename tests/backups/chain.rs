//! A chain of backups opens by whatever opens its last file, however the ways in changed between its files.

use std::path::Path;

use palyra_ledger::backup::{BackupFile, BackupReader, Header, Identities, Recipients, Record};
use palyra_ledger::event::vault::Versions;
use palyra_ledger::keys::{Credential, KeyRing, KeyTable, Opened};
use palyra_ledger::platform;
use palyra_ledger::store::RealMedium;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{BackupOptions, Ledger, NewSlot, RecoveryWords, Scope, SecretBytes, SlotId, SlotKind};

use super::{
    backup, by_words, check, empty, failed, files, get, go_on, increment, name, put, restore, simulated, try_backup,
    with_words, words,
};

fn others() -> RecoveryWords {
    RecoveryWords::generate(&SeededRandom::new(78)).unwrap()
}

fn by_others() -> Credential {
    Credential::Recovery(others().text())
}

fn slot_with_words(ledger: &Ledger) -> SlotId {
    let (slots, _) = ledger.keys().slots();
    slots.iter().find(|slot| slot.kind() == SlotKind::Recovery).unwrap().id()
}

/// The chain is whole and comes back under the last way in.
fn opens(chain: &[Vec<u8>], credential: &Credential, clock: &ManualClock) {
    let report = check(&simulated(empty(), 30, clock).credential(credential.clone()), chain);
    assert!(report.is_ok() && report.state_root.is_some(), "{:?}", report.checks);
    let disk = empty();
    restore(&simulated(disk.clone(), 31, clock).credential(credential.clone()), chain).unwrap();
    let ledger = [Credential::None, credential.clone()]
        .into_iter()
        .find_map(|way| Ledger::open(simulated(disk.clone(), 32, clock).credential(way)).ok())
        .unwrap();
    assert_eq!(get(&ledger, "a"), b"1");
    assert_eq!(get(&ledger, "b"), b"2");
    ledger.close().unwrap();
}

fn begun(clock: &ManualClock) -> (Ledger, Vec<u8>, palyra_ledger::BackupMade) {
    let ledger = with_words(simulated(SimDisk::new(), 1, clock));
    put(&ledger, "a", b"1");
    let (full, made) = backup(&ledger);
    (ledger, full, made)
}

#[test]
fn after_the_recovery_words_were_replaced() {
    let clock = ManualClock::default();
    let (ledger, full, made) = begun(&clock);
    ledger.keys().remove_slot(slot_with_words(&ledger), None).unwrap();
    ledger.keys().add_slot(NewSlot::recovery("new drawer", &others())).unwrap();
    put(&ledger, "b", b"2");
    let (more, _) = increment(&ledger, &made);
    let chain = [full, more];
    opens(&chain, &by_others(), &clock);
    let report = check(&simulated(empty(), 33, &clock).credential(by_words()), &chain);
    assert_eq!(failed(&report), ["key"], "the words of an earlier file are no way into a later one");
}

#[test]
fn after_the_root_key_was_rotated_more_than_once() {
    let clock = ManualClock::default();
    let (ledger, full, made) = begun(&clock);
    let slot = slot_with_words(&ledger);
    ledger.keys().rotate_root(&[(slot, words().text())], &[]).unwrap();
    put(&ledger, "b", b"2");
    let (second, made) = increment(&ledger, &made);
    ledger.keys().rotate_root(&[], &[slot]).unwrap();
    ledger.keys().add_slot(NewSlot::recovery("new drawer", &others())).unwrap();
    let (third, _) = increment(&ledger, &made);
    opens(&[full.clone(), second.clone()], &by_words(), &clock);
    opens(&[full, second, third], &by_others(), &clock);
}

#[test]
fn after_a_passphrase_was_added() {
    let clock = ManualClock::default();
    let (ledger, full, made) = begun(&clock);
    let phrase = SecretBytes::from(b"correct horse battery".as_slice());
    ledger.keys().add_slot(NewSlot::passphrase("desk", phrase.clone())).unwrap();
    put(&ledger, "b", b"2");
    let (more, _) = increment(&ledger, &made);
    let chain = [full, more];
    opens(&chain, &Credential::Passphrase(phrase), &clock);
    opens(&chain, &by_words(), &clock);
}

#[test]
fn where_only_the_last_file_has_a_recipient() {
    use age::secrecy::ExposeSecret;
    let clock = ManualClock::default();
    let (ledger, full, made) = begun(&clock);
    put(&ledger, "b", b"2");
    let identity = age::x25519::Identity::generate();
    let mut recipients = Recipients::default();
    recipients.add(&identity.to_public().to_string()).unwrap();
    let options = BackupOptions { after: Some((made.to, Some(made.head))), recipients, ..BackupOptions::default() };
    let (more, _) = try_backup(&ledger, &options).unwrap();
    let mut identities = Identities::default();
    identities.add_file(&SecretBytes::from(identity.to_string().expose_secret().as_bytes())).unwrap();
    let chain = [full, more];
    let config = simulated(empty(), 30, &clock);
    let report = Ledger::check_backups(&config, &mut files(&chain), &identities, false, &|_, _| {}).unwrap();
    assert!(report.is_ok() && report.state_root.is_some(), "{:?}", report.checks);
    let disk = empty();
    let config = simulated(disk.clone(), 31, &clock);
    Ledger::restore(&config, &mut files(&chain), &identities, &go_on).unwrap();
    let restored = Ledger::open(simulated(disk, 32, &clock)).unwrap();
    assert_eq!((get(&restored, "a"), get(&restored, "b")), (b"1".to_vec(), b"2".to_vec()));
}

fn open(file: &[u8], credential: &Credential) -> (Header, Opened) {
    let (header, _) = Header::parse(file).unwrap();
    let ring = KeyRing::parse(&header.ring).unwrap();
    let nowhere = (&RealMedium as &dyn palyra_ledger::store::Medium, Path::new("/nowhere"));
    let opened = ring.open_anywhere(nowhere, &*platform::system(), None, credential).unwrap();
    (header, opened)
}

#[test]
fn a_rotation_parts_what_comes_before_it_from_what_comes_after() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    put(&ledger, "a", b"doomed");
    let (full, made) = backup(&ledger);
    ledger.vault(Scope::global()).shred(&name("a"), Versions::All, None).unwrap();
    ledger.keys().rotate_root(&[], &[slot_with_words(&ledger)]).unwrap();
    ledger.keys().add_slot(NewSlot::recovery("new drawer", &others())).unwrap();
    let (more, _) = increment(&ledger, &made);
    let ((before, former), (after, present)) = (open(&full, &by_words()), open(&more, &by_others()));

    // Who had the former keys has no way into what was backed up since.
    let (bound, former) = (after.bound(), former.unlocked);
    assert!(former.unwrap_backup_key(&bound, &after.wrapped).is_none());
    assert!((0..=after.epoch).all(|epoch| former.unchain_backup_key(epoch, &bound, &after.chained).is_none()));

    // Who has the present ones reads the earlier file's events, and not the keys that its table holds.
    let present = present.unlocked;
    assert!(present.unwrap_backup_key(&before.bound(), &before.wrapped).is_none());
    let key = present.unchain_backup_key(before.epoch, &before.bound(), &before.chained).unwrap();
    let mut file = BackupFile::memory("full", full);
    let mut reader = BackupReader::new(&mut file).unwrap();
    reader.unlock(&key);
    let generation = KeyRing::parse(&before.ring).unwrap().table_generation();
    let mut tables = 0;
    while let Some(record) = reader.next_record().unwrap() {
        if let Record::Table(first, bytes) = record {
            tables += 1;
            let place = (before.ledger_id, generation);
            assert!(KeyTable::examine_copy(place, Some(&former.kek()), first, &bytes).is_some());
            assert!(KeyTable::examine_copy(place, Some(&present.kek()), first, &bytes).is_none());
        }
    }
    assert!(tables > 0);
}
