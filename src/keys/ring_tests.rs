use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::*;
use crate::base::{LedgerId, OsRandom, Random, SecretBytes, SlotId, Timestamp, limits};
use crate::keys::RecoveryWords;
use crate::store::{Medium, RealMedium};
use crate::testing::{SeededRandom, SimDisk, for_every_cut};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const COST: ArgonCost = ArgonCost::for_tests();

fn random() -> &'static dyn Random {
    &OsRandom
}

fn ledger() -> LedgerId {
    LedgerId::from_bytes([7; 16])
}

fn ca() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![5; 48])
}

fn phrase(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

fn by_phrase(text: &str) -> Credential {
    Credential::Passphrase(phrase(text))
}

struct Home {
    dir: tempfile::TempDir,
    ring: KeyRing,
    unlocked: Unlocked,
}

impl Home {
    fn new(first: &NewSlot) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ring, unlocked, files) = KeyRing::create(random(), ledger(), ca(), first, COST, NOW).unwrap();
        files.write(&RealMedium, dir.path()).unwrap();
        create(&RealMedium, dir.path(), &ring).unwrap();
        Self { dir, ring, unlocked }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn adopt(&mut self, edit: &RingEdit) {
        edit.files.write(&RealMedium, self.path()).unwrap();
        stage(&RealMedium, self.path(), &edit.ring).unwrap();
        promote(&RealMedium, self.path()).unwrap();
        self.ring = settle(&RealMedium, self.path(), edit.ring.digest()).unwrap();
    }

    fn add(&mut self, slot: &NewSlot) -> SlotId {
        let edit = self.ring.add_slot(&self.unlocked, random(), slot, COST, NOW).unwrap();
        self.adopt(&edit);
        self.ring.slots().last().unwrap().id()
    }

    fn unlock(&self, slot: Option<SlotId>, credential: &Credential) -> Result<Unlocked, KeysError> {
        let (ring, _) = read(&RealMedium, self.path()).unwrap();
        ring.unwrap().unlock(&RealMedium, self.path(), slot, credential)
    }
}

fn same(one: &Unlocked, other: &Unlocked) -> bool {
    one.ledger_key().expose() == other.ledger_key().expose() && one.ca_key() == other.ca_key()
}

#[test]
fn every_slot_opens_alone() {
    let mut home = Home::new(&NewSlot::file("machine"));
    let safe = home.add(&NewSlot::passphrase("safe", phrase("correct horse")));
    let other = home.add(&NewSlot::passphrase("other", phrase("battery staple")));
    let extra = home.add(&NewSlot::file("usb"));
    for (slot, credential) in [
        (None, Credential::None),
        (Some(safe), by_phrase("correct horse")),
        (Some(other), by_phrase("battery staple")),
        (Some(extra), Credential::None),
    ] {
        let opened = home.unlock(slot, &credential).unwrap();
        assert!(same(&opened, &home.unlocked));
        assert_eq!(opened.slot(), slot.unwrap_or(home.ring.pinned()));
    }
}

#[test]
fn what_a_person_knows_is_tried_on_every_slot_of_its_kind() {
    let mut home = Home::new(&NewSlot::file("machine"));
    let words = RecoveryWords::generate(&SeededRandom::new(7)).unwrap();
    let by_words = || Credential::Recovery(words.text());
    assert!(matches!(home.unlock(None, &by_words()), Err(KeysError::NeedsKeyFile { .. })), "there is no such slot");
    let other = RecoveryWords::generate(&SeededRandom::new(8)).unwrap();
    let first = home.add(&NewSlot::recovery("another drawer", &other));
    assert!(matches!(home.unlock(None, &by_words()), Err(KeysError::WrongRecovery { slot }) if slot == first));
    let drawer = home.add(&NewSlot::recovery("drawer", &words));
    home.add(&NewSlot::passphrase("safe", phrase("correct horse")));
    let other = home.add(&NewSlot::passphrase("other", phrase("battery staple")));
    assert_eq!(home.unlock(None, &by_words()).unwrap().slot(), drawer);
    assert_eq!(home.unlock(None, &by_phrase("battery staple")).unwrap().slot(), other);
    assert!(matches!(home.unlock(None, &by_phrase("battery stapel")), Err(KeysError::WrongPassphrase { .. })));
    // A slot that is named is the only one that is tried.
    assert!(matches!(home.unlock(Some(first), &by_words()), Err(KeysError::WrongRecovery { .. })));
}

#[test]
fn nothing_else_opens_a_slot() {
    let mut home = Home::new(&NewSlot::file("machine"));
    let safe = home.add(&NewSlot::passphrase("safe", phrase("correct horse")));
    let wrong = home.unlock(Some(safe), &by_phrase("correct horsf"));
    assert!(matches!(wrong, Err(KeysError::WrongPassphrase { slot }) if slot == safe));
    assert!(matches!(home.unlock(Some(safe), &Credential::None), Err(KeysError::NeedsPassphrase { .. })));
    let machine = home.ring.pinned();
    let taken = home.unlock(Some(machine), &by_phrase("correct horse"));
    assert!(matches!(taken, Err(KeysError::NeedsKeyFile { slot }) if slot == machine));
    let missing = SlotId::from_bytes([0; 4]);
    assert!(matches!(home.unlock(Some(missing), &Credential::None), Err(KeysError::NoSuchSlot { .. })));
    let long = by_phrase(&"x".repeat(limits::PASSPHRASE_MAX + 1));
    assert!(matches!(home.unlock(Some(safe), &long), Err(KeysError::PassphraseLength)));
}

#[test]
fn a_new_slot_is_checked() {
    let home = Home::new(&NewSlot::file("machine"));
    let add = |slot: &NewSlot| home.ring.add_slot(&home.unlocked, random(), slot, COST, NOW).unwrap_err();
    assert!(matches!(add(&NewSlot::passphrase("short", phrase("1234567"))), KeysError::PassphraseLength));
    for label in [String::new(), "x".repeat(65), "a\nb".to_owned()] {
        assert!(matches!(add(&NewSlot::file(label)), KeysError::Label));
    }
}

#[test]
fn a_slot_is_removed_with_its_file_but_never_the_last_or_the_pinned_one() {
    let mut home = Home::new(&NewSlot::file("machine"));
    let first = home.ring.pinned();
    let alone = home.ring.remove_slot(&home.unlocked, random(), first, None);
    assert!(matches!(alone, Err(KeysError::LastSlot { .. })));
    let safe = home.add(&NewSlot::passphrase("safe", phrase("correct horse")));
    let pinned = home.ring.remove_slot(&home.unlocked, random(), first, None);
    assert!(matches!(pinned, Err(KeysError::PinnedSlot { .. })));
    let edit = home.ring.remove_slot(&home.unlocked, random(), first, Some(safe)).unwrap();
    home.adopt(&edit);
    assert_eq!(home.ring.pinned(), safe);
    assert_eq!(RealMedium.list(home.path()).unwrap(), ["keyring"]);
    assert!(same(&home.unlock(None, &by_phrase("correct horse")).unwrap(), &home.unlocked));
}

#[test]
fn epochs_are_added_and_old_ones_stay() {
    let mut home = Home::new(&NewSlot::file("machine"));
    assert!(matches!(home.unlocked.epoch(1), Err(KeysError::NoEpoch { epoch: 1 })));
    let mut body = *b"sealed in epoch 0";
    let sealed = home.unlocked.epoch(0).unwrap().seal(&[1; 24], b"", &mut body);
    let (edit, epoch) = home.ring.add_epoch(&home.unlocked, random()).unwrap();
    assert_eq!(epoch, 1);
    home.adopt(&edit);
    let opened = home.unlock(None, &Credential::None).unwrap();
    opened.epoch(0).unwrap().open(&[1; 24], b"", &mut body, &sealed).unwrap();
    assert_eq!(&body, b"sealed in epoch 0");
    let mut other = *b"sealed in epoch 0";
    let in_new = opened.epoch(1).unwrap().seal(&[1; 24], b"", &mut other);
    assert_ne!(in_new, sealed);
}

#[test]
fn a_root_rotation_closes_the_old_ways_in_and_says_what_it_needs() {
    let mut home = Home::new(&NewSlot::file("machine"));
    let safe = home.add(&NewSlot::passphrase("safe", phrase("correct horse")));
    let lost = home.add(&NewSlot::passphrase("lost", phrase("forgotten one")));
    let old_file = std::fs::read(home.path().join(format!("root-{}-1.key", home.ring.pinned()))).unwrap();
    let rotate =
        |given: &[(SlotId, SecretBytes)], drop: &[SlotId]| home.ring.rotate_root(&home.unlocked, random(), given, drop);
    assert!(matches!(rotate(&[], &[]), Err(KeysError::SlotNeedsCredential { .. })));
    assert!(matches!(rotate(&[(safe, phrase("wrong phrase"))], &[lost]), Err(KeysError::WrongPassphrase { .. })));
    assert!(matches!(rotate(&[], &[home.ring.pinned()]), Err(KeysError::PinnedSlot { .. })));
    let (edit, opened) = rotate(&[(safe, phrase("correct horse"))], &[lost]).unwrap();
    home.adopt(&edit);
    assert_eq!((home.ring.root_generation(), home.ring.table_generation()), (2, 2));
    assert!(same(&home.unlock(Some(safe), &by_phrase("correct horse")).unwrap(), &opened));
    assert!(same(&home.unlock(None, &Credential::None).unwrap(), &home.unlocked));
    assert!(matches!(home.unlock(Some(lost), &by_phrase("forgotten one")), Err(KeysError::NoSuchSlot { .. })));
    let kept = home.path().join("kept.key");
    std::fs::write(&kept, old_file).unwrap();
    std::fs::set_permissions(&kept, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(home.unlock(None, &Credential::KeyFile(kept)), Err(KeysError::WrongKeyFile { .. })));
}

#[test]
fn a_key_file_may_lie_elsewhere_but_not_open_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new(&NewSlot::file("machine"));
    let inside = home.path().join(format!("root-{}-1.key", home.ring.pinned()));
    let outside: PathBuf = home.path().join("carried.key");
    std::fs::rename(&inside, &outside).unwrap();
    assert!(matches!(home.unlock(None, &Credential::None), Err(KeysError::Store(error)) if error.is_not_found()));
    let by_file = Credential::KeyFile(outside.clone());
    assert!(same(&home.unlock(None, &by_file).unwrap(), &home.unlocked));
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(home.unlock(None, &by_file), Err(KeysError::LooseKeyFile { mode: 0o640, .. })));
    std::fs::remove_file(&outside).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &outside,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(home.unlock(None, &by_file), Err(KeysError::Damaged { .. })));
}

#[test]
fn every_flipped_byte_of_ring_and_key_file_is_refused() {
    let mut home = Home::new(&NewSlot::file("machine"));
    home.add(&NewSlot::passphrase("safe", phrase("correct horse")));
    let digest = home.ring.digest();
    for name in ["keyring".to_owned(), format!("root-{}-1.key", home.ring.pinned())] {
        let path = home.path().join(&name);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let opened = read(&RealMedium, home.path())
                .and_then(|(ring, _)| ring.unwrap().unlock(&RealMedium, home.path(), None, &Credential::None));
            // Ledger id, slot and generation in a key file are for people: the seal binds the key itself.
            assert!(opened.is_err(), "{name}: byte {at}");
        }
        std::fs::write(&path, &good).unwrap();
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).unwrap();
            let opened = read(&RealMedium, home.path())
                .and_then(|(ring, _)| ring.unwrap().unlock(&RealMedium, home.path(), None, &Credential::None));
            assert!(opened.is_err(), "{name}: length {len}");
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(settle(&RealMedium, home.path(), digest).unwrap(), home.ring);
}

#[test]
fn a_ring_of_another_time_or_ledger_is_not_accepted() {
    let mut home = Home::new(&NewSlot::file("machine"));
    let before = home.ring.clone();
    let (edit, _) = home.ring.add_epoch(&home.unlocked, random()).unwrap();
    let after = edit.ring.digest();
    home.adopt(&edit);
    create(&RealMedium, home.path(), &before).unwrap();
    assert!(matches!(settle(&RealMedium, home.path(), after), Err(KeysError::RingNotCommitted)));
    let other = Home::new(&NewSlot::file("machine"));
    let mixed = KeyRing::parse(&other.ring.encode()).unwrap();
    assert!(matches!(mixed.reopen(&home.unlocked), Err(KeysError::RingAltered)));
}

#[test]
fn a_crash_at_any_operation_leaves_the_committed_ring() {
    let dir = Path::new("/keys");
    let (ring, unlocked, files) =
        KeyRing::create(random(), ledger(), ca(), &NewSlot::file("machine"), COST, NOW).unwrap();
    let edit = ring.add_slot(&unlocked, random(), &NewSlot::file("second"), COST, NOW).unwrap();
    let (old, new) = (ring.digest(), edit.ring.digest());
    for commit in [false, true] {
        let prepare = || {
            let disk = SimDisk::new();
            disk.create_dir(dir).unwrap();
            files.write(&disk, dir).unwrap();
            create(&disk, dir, &ring).unwrap();
            disk.settle();
            disk
        };
        // The event that names the new ring is appended between staging and promoting.
        let work = |disk: &SimDisk| {
            let staged = edit.files.write(disk, dir).and_then(|()| stage(disk, dir, &edit.ring)).is_ok();
            if staged && commit {
                let _ = promote(disk, dir);
            }
            staged && commit
        };
        let checked = for_every_cut(4, prepare, work, |cut, committed, disk| {
            let named = if *committed { new } else { old };
            let ring = settle(&disk, dir, named).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            for slot in ring.slots() {
                ring.unlock(&disk, dir, Some(slot.id()), &Credential::None).unwrap();
            }
            assert_eq!(disk.list(dir).unwrap().len(), 1 + ring.slots().len(), "nothing is left over");
        });
        assert!(checked > 20);
    }
}

#[test]
fn debug_of_keys_shows_no_secret() {
    let home = Home::new(&NewSlot::passphrase("safe", phrase("correct horse")));
    let shown =
        format!("{:?} {:?} {:?}", home.ring, home.unlocked, NewSlot::passphrase("safe", phrase("correct horse")));
    assert!(!shown.contains("correct"), "{shown}");
    assert!(!shown.contains("sealed"), "{shown}");
    assert!(!shown.contains("wrapped"), "{shown}");
}
