use std::path::Path;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::base::{LedgerId, OsRandom, Random, Timestamp};
use crate::crypto::Key;
use crate::store::{Medium, OpenMode};
use crate::testing::{Fault, FaultError, FaultMedium, FaultOp, SeededRandom, SimDisk, for_every_cut};

fn random() -> &'static dyn Random {
    &OsRandom
}

fn ledger() -> LedgerId {
    LedgerId::from_bytes([7; 16])
}

fn kek() -> Kek {
    let now = Timestamp::from_millis(1);
    let ca = Zeroizing::new(vec![5; 48]);
    let cost = ArgonCost::for_tests();
    KeyRing::create(random(), ledger(), ca, &NewSlot::file("x"), cost, now).unwrap().1.kek()
}

fn dir() -> &'static Path {
    Path::new("/keys")
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(dir()).unwrap();
    disk
}

fn made(disk: &dyn Medium, kek: &Kek, slots: usize) -> (KeyTable, Vec<(u64, Key)>) {
    let table = KeyTable::create(disk, dir(), ledger(), 1).unwrap();
    let keys = table.fill(kek, random(), slots).unwrap();
    (table, keys)
}

fn open(disk: &dyn Medium) -> KeyTable {
    KeyTable::open(disk, dir(), ledger(), 1, true).unwrap()
}

#[test]
fn filled_slots_give_their_keys_after_reopening() {
    let (disk, kek) = (disk(), kek());
    let (table, mut keys) = made(&disk, &kek, 5);
    keys.extend(table.fill(&kek, random(), 3).unwrap());
    assert_eq!(keys.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let table = open(&disk);
    assert_eq!((table.len(), table.shreds_through()), (8, None));
    for (slot, key) in &keys {
        assert_eq!(table.slot_key(&kek, *slot).unwrap().expose(), key.expose());
        assert_eq!(table.fresh_key(&kek, *slot).unwrap().expose(), key.expose());
    }
    assert!(matches!(table.slot_key(&kek, 8), Err(SlotError::Empty)));
    assert!(matches!(table.slot_key(&self::kek(), 0), Err(SlotError::WrongKey)));
}

#[test]
fn a_shredded_slot_leaves_no_trace_of_its_bytes_in_either_file() {
    let (disk, kek) = (disk(), kek());
    let (table, _) = made(&disk, &kek, 4);
    let before = disk.contents(Path::new("/keys/table-1.a")).unwrap();
    let slot = &before[128 + 80 * 2..128 + 80 * 3];
    table.shred(&[(2, 77)]).unwrap();
    table.shredded_through(77).unwrap();
    for name in ["table-1.a", "table-1.b"] {
        let after = disk.contents(&dir().join(name)).unwrap();
        for piece in slot.windows(8) {
            assert!(!after.windows(8).any(|window| window == piece), "{name}");
        }
    }
    let table = open(&disk);
    assert_eq!(table.shreds_through(), Some(77));
    assert_eq!(table.status(2).unwrap(), SlotStatus::Shredded { seq: 77 });
    assert!(matches!(table.slot_key(&kek, 2), Err(SlotError::Shredded { seq: 77 })));
    assert_eq!(table.status(1).unwrap(), SlotStatus::Present);
}

#[test]
fn one_damaged_copy_is_mended_from_the_other_and_two_are_said() {
    let (disk, kek) = (disk(), kek());
    let (_, keys) = made(&disk, &kek, 3);
    let damage = |name: &str, slot: u64| {
        let file = disk.open(&dir().join(name), OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_at(128 + 80 * slot + 30, &mut byte).unwrap();
        file.write_at(128 + 80 * slot + 30, &[byte[0] ^ 1]).unwrap();
    };
    damage("table-1.a", 0);
    damage("table-1.b", 1);
    damage("table-1.a", 2);
    damage("table-1.b", 2);
    let table = open(&disk);
    assert_eq!(table.slot_key(&kek, 0).unwrap().expose(), keys[0].1.expose());
    assert!(table.needs_repair());
    assert!(matches!(table.fresh_key(&kek, 1), Err(SlotError::Damaged)));
    assert_eq!(table.scrub(3).unwrap(), 2, "both copies of slot 2 are damaged alike");
    assert_eq!(table.repair().unwrap(), [0, 1]);
    assert_eq!(table.scrub(3).unwrap(), 0);
    assert_eq!(table.status(2).unwrap(), SlotStatus::Damaged);
    assert!(matches!(table.slot_key(&kek, 2), Err(SlotError::Damaged)));
}

#[test]
fn a_slot_that_one_copy_says_was_shredded_is_not_carried_over_from_the_other() {
    for left in ["table-1.a", "table-1.b"] {
        let (disk, kek) = (disk(), kek());
        let (table, keys) = made(&disk, &kek, 3);
        let before = disk.contents(&dir().join(left)).unwrap();
        table.shred(&[(1, 77)]).unwrap();
        let file = disk.open(&dir().join(left), OpenMode::ReadWrite).unwrap();
        file.write_at(128 + 80, &before[128 + 80..128 + 160]).unwrap();
        let table = open(&disk);
        assert!(table.copies(1).unwrap().contains(&SlotStatus::Present), "{left}");
        assert_eq!(table.rewrap((&disk, dir()), (&kek, &kek), &SeededRandom::new(1), 2, 3).unwrap(), 2, "{left}");
        let next = KeyTable::open(&disk, dir(), ledger(), 2, true).unwrap();
        assert_eq!(next.copies(1).unwrap(), [SlotStatus::Shredded { seq: 77 }; 2], "{left}");
        assert_eq!(next.slot_key(&kek, 2).unwrap().expose(), keys[2].1.expose());
    }
}

#[test]
fn a_slot_moved_to_another_place_does_not_open() {
    let (disk, kek) = (disk(), kek());
    made(&disk, &kek, 2);
    for name in ["table-1.a", "table-1.b"] {
        let file = disk.open(&dir().join(name), OpenMode::ReadWrite).unwrap();
        let mut slot = [0; 80];
        file.read_at(128, &mut slot).unwrap();
        file.write_at(128 + 80, &slot).unwrap();
    }
    assert!(matches!(open(&disk).slot_key(&kek, 1), Err(SlotError::Damaged)));
}

#[test]
fn a_rotation_carries_keys_and_shreds_over_and_forgets_the_old_kek() {
    let (disk, old, new) = (disk(), kek(), kek());
    let (table, keys) = made(&disk, &old, 5);
    table.shred(&[(3, 9)]).unwrap();
    table.shredded_through(9).unwrap();
    assert_eq!(table.rewrap((&disk, dir()), (&old, &new), random(), 2, 4).unwrap(), 3);
    let next = KeyTable::open(&disk, dir(), ledger(), 2, true).unwrap();
    assert_eq!((next.len(), next.shreds_through()), (4, Some(9)));
    assert_eq!(next.slot_key(&new, 1).unwrap().expose(), keys[1].1.expose());
    assert!(matches!(next.slot_key(&old, 1), Err(SlotError::WrongKey)));
    assert!(matches!(next.slot_key(&new, 3), Err(SlotError::Shredded { seq: 9 })));
    assert!(matches!(
        KeyTable::open(&disk, dir(), LedgerId::from_bytes([8; 16]), 2, true),
        Err(KeysError::Foreign { .. })
    ));
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let kek = kek();
    let medium = FaultMedium::new(disk());
    let (table, _) = made(&medium, &kek, 2);
    medium.plan(Fault::once(FaultOp::Sync, 1, FaultError::Io));
    assert!(matches!(table.fill(&kek, random(), 2), Err(KeysError::Store(_))));
    assert!(matches!(table.fill(&kek, random(), 2), Err(KeysError::TableDead)));
    assert!(matches!(table.shred(&[(0, 1)]), Err(KeysError::TableDead)));
    assert_eq!(medium.violations(), []);
    assert!(table.slot_key(&kek, 1).is_ok(), "reading goes on");
}

#[test]
fn a_crash_during_a_fill_or_a_shred_loses_no_other_slot() {
    let kek = kek();
    let prepare = || {
        let disk = disk();
        made(&disk, &kek, 4);
        disk.settle();
        disk
    };
    let work = |disk: &SimDisk| {
        let Ok(table) = KeyTable::open(disk, dir(), ledger(), 1, true) else { return (false, false) };
        let filled = table.fill(&kek, random(), 2).is_ok();
        let shredded = filled && table.shred(&[(1, 50)]).and_then(|()| table.shredded_through(50)).is_ok();
        (filled, shredded)
    };
    let checked = for_every_cut(6, prepare, work, |cut, (filled, shredded), disk| {
        let table = open(&disk);
        let known = [0, 2, 3].into_iter().chain(if *filled { 4..6 } else { 0..0 });
        for slot in known {
            table.slot_key(&kek, slot).unwrap_or_else(|error| panic!("{cut:?}, slot {slot}: {error}"));
        }
        if *shredded {
            assert_eq!(table.shreds_through(), Some(50), "{cut:?}");
        }
        if table.shreds_through() == Some(50) {
            for copy in ["table-1.a", "table-1.b"] {
                let bytes = disk.contents(&dir().join(copy)).unwrap();
                assert!(bytes[128 + 80..].starts_with(b"SHREDDED"), "{cut:?} {copy}");
            }
        }
        // What the log says is carried out again.
        table.shred(&[(1, 50)]).unwrap();
        table.shredded_through(50).unwrap();
        assert_eq!(open(&disk).status(1).unwrap(), SlotStatus::Shredded { seq: 50 });
    });
    assert!(checked > 50);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_a_map_does(seed: u64, steps in prop::collection::vec((0_u8..4, 0_u64..24), 1..30)) {
        let seeded = SeededRandom::new(seed);
        let (disk, kek) = (disk(), kek());
        let mut table = KeyTable::create(&disk, dir(), ledger(), 1).unwrap();
        let mut model: Vec<Result<[u8; 32], u64>> = Vec::new();
        for (seq, (what, number)) in (1_u64..).zip(steps) {
            match what {
                0 => {
                    let count = usize::try_from(number % 4).unwrap() + 1;
                    model.extend(table.fill(&kek, &seeded, count).unwrap().iter().map(|(_, key)| Ok(*key.expose())));
                }
                1 if number < model.len() as u64 => {
                    table.shred(&[(number, seq)]).unwrap();
                    table.shredded_through(seq).unwrap();
                    model[usize::try_from(number).unwrap()] = Err(seq);
                }
                2 => table = open(&disk),
                _ => {}
            }
            prop_assert_eq!(table.len(), model.len() as u64);
            for (slot, expected) in (0..).zip(&model) {
                match (table.slot_key(&kek, slot), expected) {
                    (Ok(key), Ok(bytes)) => prop_assert_eq!(key.expose(), bytes),
                    (Err(SlotError::Shredded { seq }), Err(expected)) => prop_assert_eq!(seq, *expected),
                    (other, _) => prop_assert!(false, "slot {}: {:?}", slot, other.err()),
                }
            }
        }
    }
}
