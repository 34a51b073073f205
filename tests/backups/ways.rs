//! The ways to open a backup, what a restored ledger is afterwards, and what it never does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use palyra_ledger::backup::{BackupError, Header, Identities, Recipients};
use palyra_ledger::event::vault::Versions;
use palyra_ledger::keys::{Credential, KeyRing, KeysError};
use palyra_ledger::log::Frame;
use palyra_ledger::log::segment::SEGMENT_HEADER_LEN;
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SimDisk};
use palyra_ledger::{
    BackendKind, BackupOptions, CheckState, Config, Error, GetOptions, Ledger, NewSlot, OsRandom, RecoveryWords, Scope,
    SecretBytes, SlotKind, VerifyOptions,
};

use super::{
    backup, by_words, check, empty, failed, files, get, go_on, increment, name, put, restore, simulated, try_backup,
    with_words, words,
};

fn phrase() -> SecretBytes {
    SecretBytes::from(b"correct horse battery".as_slice())
}

fn identity() -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

#[test]
fn a_backup_that_only_this_machine_could_open_is_refused() {
    let clock = ManualClock::default();
    let ledger = Ledger::init(simulated(SimDisk::new(), 1, &clock), NewSlot::file("machine")).unwrap();
    let before = ledger.log().head().unwrap().seq;
    assert!(matches!(try_backup(&ledger, &BackupOptions::default()), Err(Error::BackupUnopenable)));
    assert_eq!(ledger.log().head().unwrap().seq, before);
    ledger.keys().add_slot(NewSlot::passphrase("desk", phrase())).unwrap();
    try_backup(&ledger, &BackupOptions::default()).unwrap();
}

#[test]
fn a_passphrase_opens_it_and_opens_the_restored_ledger() {
    let clock = ManualClock::default();
    let ledger = Ledger::init(simulated(SimDisk::new(), 1, &clock), NewSlot::file("machine")).unwrap();
    let slot = ledger.keys().add_slot(NewSlot::passphrase("desk", phrase())).unwrap().id();
    put(&ledger, "a", b"value");
    let (file, _) = backup(&ledger);
    let disk = empty();
    let wrong =
        simulated(disk.clone(), 2, &clock).credential(Credential::Passphrase(SecretBytes::from(&b"nonsense!"[..])));
    assert!(matches!(
        restore(&wrong, std::slice::from_ref(&file)),
        Err(Error::Keys(KeysError::WrongPassphrase { .. }))
    ));
    let right = simulated(disk.clone(), 3, &clock).credential(Credential::Passphrase(phrase()));
    let done = restore(&right, &[file]).unwrap();
    assert_eq!((done.slot, done.slot_added), (slot, false));
    assert!(Ledger::open(simulated(disk.clone(), 4, &clock)).is_err(), "it needs the passphrase");
    let again = Ledger::open(simulated(disk, 5, &clock).credential(Credential::Passphrase(phrase()))).unwrap();
    assert_eq!(get(&again, "a"), b"value");
}

#[test]
fn an_age_identity_opens_it_and_no_other_does() {
    let clock = ManualClock::default();
    let ledger = Ledger::init(simulated(SimDisk::new(), 1, &clock), NewSlot::file("machine")).unwrap();
    put(&ledger, "a", b"value");
    let ((secret, public), (other, _)) = (identity(), identity());
    let mut recipients = Recipients::default();
    assert!(recipients.add("age1nonsense").is_err());
    recipients.add_lines(&format!("# drawer\n{public}\n\n")).unwrap();
    let (file, made) = try_backup(&ledger, &BackupOptions { recipients, ..BackupOptions::default() }).unwrap();
    let with = |secret: &str, disk: &SimDisk| {
        let mut identities = Identities::default();
        identities.add_file(&SecretBytes::from(format!("# made\n{secret}\n").as_bytes())).unwrap();
        let config = simulated(disk.clone(), 3, &clock);
        Ledger::restore(&config, &mut files(std::slice::from_ref(&file)), &identities, &go_on)
    };
    let disk = empty();
    let refused = with(&other, &disk).unwrap_err();
    assert!(matches!(refused, Error::Backup { source: BackupError::Age(_), .. }), "{refused}");
    let done = with(&secret, &disk).unwrap();
    assert!(done.slot_added);
    let again = Ledger::open(simulated(disk, 4, &clock)).unwrap();
    assert_eq!(get(&again, "a"), b"value");
    let mut told = Vec::new();
    again
        .log()
        .read(made.to + 1, u64::MAX, &mut |entry| {
            told.push((entry.kind_name(), entry.fields().to_string()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds[..5], ["branch_started", "ledger_restored", "epoch_started", "key_slot_added", "key_slot_pinned"]);
    assert!(told[1].1.contains("\"opened_by\":null"), "{}", told[1].1);
}

#[test]
fn a_backup_with_a_key_file_opens_itself() {
    let clock = ManualClock::default();
    let ledger = Ledger::init(simulated(SimDisk::new(), 1, &clock), NewSlot::file("machine")).unwrap();
    put(&ledger, "a", b"value");
    let options = BackupOptions { with_key_file: true, ..BackupOptions::default() };
    let (file, _) = try_backup(&ledger, &options).unwrap();
    let disk = empty();
    let done = restore(&simulated(disk.clone(), 2, &clock), &[file]).unwrap();
    assert!(!done.slot_added);
    let again = Ledger::open(simulated(disk, 3, &clock)).unwrap();
    assert_eq!(get(&again, "a"), b"value");
    assert_eq!(again.keys().slots().0.len(), 1);
}

#[test]
fn without_a_key_it_says_what_it_can() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    let (file, made) = backup(&ledger);
    let config = simulated(empty(), 2, &clock);
    let report = check(&config, std::slice::from_ref(&file));
    assert!(report.is_ok() && report.locked.is_some() && report.state_root.is_none());
    assert_eq!((report.files[0].to, report.files[0].head), (made.to, made.head));
    let states: Vec<_> = report.checks.iter().map(|check| (check.name, check.state)).collect();
    assert_eq!(states, [("form", CheckState::Ok), ("digest", CheckState::Ok), ("key", CheckState::Skipped)]);
    let keyless = Ledger::check_backups(
        &config,
        &mut files(std::slice::from_ref(&file)),
        &Identities::default(),
        true,
        &|_, _| {},
    )
    .unwrap();
    assert!(keyless.is_ok() && keyless.locked.is_none());
    let other = RecoveryWords::generate(&OsRandom).unwrap();
    let wrong = simulated(empty(), 3, &clock).credential(Credential::Recovery(other.text()));
    assert_eq!(failed(&check(&wrong, &[file])), ["key"]);
}

/// Frames of a journal on a simulated disk: epoch, nonce, and whether the epoch's key in a ring opens them.
fn frames(disk: &SimDisk, from: u64, opened: &palyra_ledger::keys::Unlocked) -> BTreeMap<(u32, [u8; 24]), bool> {
    let mut found = BTreeMap::new();
    let segments: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with("/home/journal")).collect();
    for path in segments {
        let bytes = disk.contents(&path).unwrap();
        let mut rest = &bytes[SEGMENT_HEADER_LEN..];
        while let Ok(frame) = Frame::parse(rest) {
            if frame.header.seq >= from {
                let opens = opened.epoch(frame.header.epoch).is_ok_and(|opener| frame.open(&opener).is_ok());
                found.insert((frame.header.epoch, frame.header.nonce), opens);
            }
            rest = &rest[frame.bytes().len()..];
        }
    }
    found
}

fn unlocked(disk: &SimDisk) -> palyra_ledger::keys::Unlocked {
    let ring = KeyRing::parse(&disk.contents(Path::new("/home/keys/keyring")).unwrap()).unwrap();
    ring.unlock(disk, Path::new("/home/keys"), None, &Credential::None).unwrap()
}

#[test]
fn a_restored_ledger_repeats_no_nonce_under_a_key() {
    let clock = ManualClock::default();
    let disk = SimDisk::new();
    drop(with_words(simulated(disk.clone(), 1, &clock)));
    let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
    let (file, made) = backup(&ledger);
    ledger.close().unwrap();
    // The original goes on, and starts an epoch of its own; so does a ledger that is restored twice.
    let ledger = Ledger::open(simulated(disk.clone(), 3, &clock)).unwrap();
    ledger.keys().rotate_epoch().unwrap();
    (0..50).for_each(|number| put(&ledger, "a", format!("{number}").as_bytes()));
    ledger.close().unwrap();
    let mut worlds = vec![disk];
    for seed in [4, 5] {
        let disk = empty();
        restore(&simulated(disk.clone(), seed, &clock).credential(by_words()), std::slice::from_ref(&file)).unwrap();
        let restored = Ledger::open(simulated(disk.clone(), seed + 10, &clock)).unwrap();
        (0..50).for_each(|number| put(&restored, "a", format!("{number}").as_bytes()));
        restored.close().unwrap();
        worlds.push(disk);
    }
    let mut seen: BTreeSet<(u32, [u8; 24])> = BTreeSet::new();
    for world in &worlds {
        let own = frames(world, made.to + 1, &unlocked(world));
        assert!(own.len() > 50 && own.values().all(|opens| *opens));
        for place in own.keys() {
            assert!(seen.insert(*place), "{place:?} came twice");
        }
    }
    // What is sealed behind the first three events of a branch has a key that no other copy has.
    for (at, world) in worlds.iter().enumerate() {
        for (other_at, other) in worlds.iter().enumerate().filter(|(other_at, _)| *other_at != at) {
            let strange = frames(world, made.to + 1, &unlocked(other));
            let opened = strange.iter().filter(|((epoch, _), opens)| **opens && *epoch > 0).count();
            assert_eq!(opened, 0, "{other_at} opens what {at} sealed");
        }
    }
}

#[test]
fn a_later_shred_reaches_a_restore_through_its_increment_but_not_the_earlier_file() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    put(&ledger, "a", b"doomed");
    let (full, made) = backup(&ledger);
    ledger.vault(Scope::global()).shred(&name("a"), Versions::All, None).unwrap();
    let (more, _) = increment(&ledger, &made);
    let open = |chain: &[Vec<u8>], seed| {
        let disk = empty();
        restore(&simulated(disk.clone(), seed, &clock).credential(by_words()), chain).unwrap();
        Ledger::open(simulated(disk, seed + 1, &clock)).unwrap()
    };
    let early = open(std::slice::from_ref(&full), 5);
    assert_eq!(get(&early, "a"), b"doomed", "a backup keeps what was shredded after it: SECURITY.md says so");
    let late = open(&[full, more], 7);
    assert!(late.vault(Scope::global()).get(&name("a")).is_err());
    let report = late.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn what_a_keystore_holds_is_in_the_backup_and_comes_back_into_a_keystore() {
    let clock = ManualClock::default();
    let kind = BackendKind::LinuxSecretService;
    if !cfg!(target_os = "linux") {
        return;
    }
    let (here, there) = (MemoryKeystore::default(), MemoryKeystore::default());
    let config = |disk: &SimDisk, seed, keystore: &MemoryKeystore| -> Config {
        simulated(disk.clone(), seed, &clock).keystore(std::sync::Arc::new(keystore.clone()))
    };
    let ledger = with_words(config(&SimDisk::new(), 1, &here));
    ledger.backends().migrate(kind, &mut |_, _| {}).unwrap();
    put(&ledger, "a", b"in the keystore");
    here.set_locked(true);
    let refused = try_backup(&ledger, &BackupOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Backend(_)), "{refused}");
    here.set_locked(false);
    let (file, _) = backup(&ledger);
    let disk = empty();
    restore(&config(&disk, 2, &there).credential(by_words()), &[file]).unwrap();
    let again = Ledger::open(config(&disk, 3, &there)).unwrap();
    assert_eq!(get(&again, "a"), b"in the keystore");
    assert!(disk.files().iter().all(|path| !path.starts_with("/home/objects")), "{:?}", disk.files());
}

#[test]
fn recovery_words_open_the_ledger_itself_and_survive_a_rotation() {
    let clock = ManualClock::default();
    let disk = SimDisk::new();
    let ledger = with_words(simulated(disk.clone(), 1, &clock));
    put(&ledger, "a", b"value");
    let (slots, pinned) = ledger.keys().slots();
    let slot = slots.iter().find(|slot| slot.kind() == SlotKind::Recovery).unwrap().id();
    assert_ne!(slot, pinned);
    let error = ledger.keys().rotate_root(&[], &[]).unwrap_err();
    assert!(matches!(error, Error::Keys(KeysError::SlotNeedsCredential { .. })), "{error}");
    let other = RecoveryWords::generate(&OsRandom).unwrap().text();
    let error = ledger.keys().rotate_root(&[(slot, other)], &[]).unwrap_err();
    assert!(matches!(error, Error::Keys(KeysError::WrongRecovery { .. })), "{error}");
    ledger.keys().rotate_root(&[(slot, words().text())], &[]).unwrap();
    ledger.close().unwrap();
    let open = |seed| Ledger::open(simulated(disk.clone(), seed, &clock).slot(slot).credential(by_words()));
    let by_hand = open(2).unwrap();
    assert_eq!(by_hand.vault(Scope::global()).get_with(&name("a"), GetOptions::current()).unwrap().info.version, 1);
    // Opening with another slot than the pinned one is recorded.
    assert_eq!(by_hand.keys().slots().1, slot);
    by_hand.close().unwrap();
    let needs = Ledger::open(simulated(disk, 3, &clock)).unwrap_err();
    assert!(matches!(needs, Error::Keys(KeysError::NeedsRecovery { .. })), "{needs}");
}

#[test]
fn a_backup_is_recorded_and_a_backup_that_is_given_up_is_not() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    assert_eq!(ledger.last_backup().unwrap(), None);
    let (file, made) = backup(&ledger);
    let known = ledger.last_backup().unwrap().unwrap();
    assert_eq!(
        (known.backup, known.from, known.to, known.head, known.event),
        (made.backup, 0, made.to, made.head, made.event)
    );
    let (header, _) = Header::parse(&file).unwrap();
    assert_eq!(header.backup, made.backup);
    let stop = |_: u64, _: u64| std::ops::ControlFlow::Break(());
    let given_up = ledger.backup(&mut Vec::new(), &BackupOptions::default(), &mut || Ok(()), &stop);
    assert!(matches!(given_up, Err(Error::BackupStopped)));
    let unsettled = ledger.backup(
        &mut Vec::new(),
        &BackupOptions::default(),
        &mut || Err(std::io::ErrorKind::StorageFull.into()),
        &go_on,
    );
    assert!(matches!(unsettled, Err(Error::Backup { source: BackupError::Io(_), .. })));
    assert_eq!(ledger.last_backup().unwrap().unwrap().backup, made.backup);
    // The ledger itself is not hurt by a full disk elsewhere.
    put(&ledger, "a", b"value");
    let beyond = BackupOptions { after: Some((10_000, None)), ..BackupOptions::default() };
    assert!(matches!(try_backup(&ledger, &beyond), Err(Error::BackupFrom { .. })));
}
