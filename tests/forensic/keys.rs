//! Tampering with the keys folder.

use std::path::Path;

use palyra_ledger::Ledger;
use palyra_ledger::crypto::{Hash, labels};
use palyra_ledger::inspect::FindingCode;
use palyra_ledger::testing::{ManualClock, SimDisk};

use super::log::{Level, checkpoint_of, config, examined, go_on, keys_of, ledger, verdicts};

const HEADER: usize = 128;
const SLOT: usize = 80;

fn table(disk: &SimDisk, copy: char) -> (std::path::PathBuf, Vec<u8>) {
    let path = Path::new("/home/keys").join(format!("table-1.{copy}"));
    let bytes = disk.contents(&path).unwrap();
    (path, bytes)
}

fn change(disk: &SimDisk, change: impl Fn(&mut Vec<u8>)) -> SimDisk {
    let copy = disk.snapshot();
    for name in ['a', 'b'] {
        let (path, mut bytes) = table(&copy, name);
        change(&mut bytes);
        copy.put(&path, &bytes).unwrap();
    }
    copy
}

fn slot(number: usize) -> std::ops::Range<usize> {
    HEADER + number * SLOT..HEADER + (number + 1) * SLOT
}

#[test]
fn swapped_key_slots_are_found_without_keys_and_named_with_them() {
    let disk = ledger(30, &ManualClock::default(), 4);
    let swapped = change(&disk, |bytes| {
        let (one, other) = (bytes[slot(0)].to_vec(), bytes[slot(1)].to_vec());
        bytes[slot(0)].copy_from_slice(&other);
        bytes[slot(1)].copy_from_slice(&one);
    });
    // Secrets 0 and 1 are events 1 and 2.
    assert_eq!(verdicts(&swapped, &disk), ["DAMAGED(files)", "DAMAGED(files)", "DAMAGED(1-2)"]);
}

#[test]
fn another_secrets_key_with_a_right_check_needs_the_keys() {
    let disk = ledger(31, &ManualClock::default(), 4);
    let moved = change(&disk, |bytes| {
        let payload = bytes[slot(0)][..72].to_vec();
        let check = Hash::of(labels::SLOT_CHECK, &[&1_u32.to_le_bytes(), &2_u64.to_le_bytes(), &payload]);
        bytes[slot(2)][..72].copy_from_slice(&payload);
        bytes[slot(2)][72..].copy_from_slice(&check.0[..8]);
    });
    assert_eq!(verdicts(&moved, &disk), ["INTACT-UNANCHORED", "INTACT-ANCHORED", "DAMAGED(3)"]);
}

#[test]
fn a_key_that_is_gone_without_a_shred_event_needs_the_keys() {
    let disk = ledger(32, &ManualClock::default(), 4);
    let gone = change(&disk, |bytes| bytes[slot(1)].fill(0));
    assert_eq!(verdicts(&gone, &disk), ["INTACT-UNANCHORED", "INTACT-ANCHORED", "DAMAGED(2)"]);
}

#[test]
fn one_damaged_copy_of_a_slot_is_a_remark_and_two_are_damage() {
    let disk = ledger(33, &ManualClock::default(), 4);
    let one = disk.snapshot();
    let (path, mut bytes) = table(&one, 'a');
    bytes[slot(1)][5] ^= 1;
    one.put(&path, &bytes).unwrap();
    assert_eq!(verdicts(&one, &disk), ["INTACT-UNANCHORED", "INTACT-ANCHORED", "INTACT-UNANCHORED"]);
    let header = disk.snapshot();
    let (path, mut bytes) = table(&header, 'b');
    bytes[20] ^= 1;
    header.put(&path, &bytes).unwrap();
    assert_eq!(verdicts(&header, &disk), ["INTACT-UNANCHORED", "INTACT-ANCHORED", "INTACT-UNANCHORED"]);
    let keys = keys_of(&disk);
    for level in [Level::NoKey, Level::AllKeys(&keys)] {
        let codes: Vec<_> = examined(&header, level).walked.report.findings.iter().map(|one| one.code).collect();
        assert_eq!(codes, [FindingCode::KeySlotRepairable], "{level:?}");
    }
    let both = change(&disk, |bytes| bytes[slot(1)][5] ^= 1);
    assert_eq!(verdicts(&both, &disk), ["DAMAGED(files)", "DAMAGED(files)", "DAMAGED(2)"]);
}

#[test]
fn what_an_anchor_was_recorded_to_know_is_judged_with_the_keys_until_it_is_accepted() {
    let clock = ManualClock::default();
    let disk = ledger(34, &clock, 4);
    let older = disk.snapshot();
    go_on(&disk, 2, &clock, &["a", "b", "c"]);
    let (_, signed) = checkpoint_of(&disk, 7);
    // The older copy is put back, and a device shows what it saw; the device is away when it is examined.
    let open = Ledger::open(config(&older, 3, &clock)).unwrap();
    open.compare_note("device:phone", signed.note().as_bytes()).unwrap();
    open.close().unwrap();
    assert_eq!(verdicts(&older, &older)[2], "ROLLED-BACK");
    // A note by another key proves nothing.
    let foreign = disk.snapshot();
    let (_, other) = checkpoint_of(&ledger(35, &clock, 9), 9);
    let open = Ledger::open(config(&foreign, 4, &clock)).unwrap();
    open.compare_note("device:phone", other.note().as_bytes()).unwrap();
    open.close().unwrap();
    assert_eq!(verdicts(&foreign, &foreign)[2], "INTACT-UNANCHORED");
    let accepted = Ledger::start_branch(config(&older, 5, &clock)).unwrap();
    accepted.close().unwrap();
    assert_eq!(verdicts(&older, &older)[2], "INTACT-UNANCHORED");
}
