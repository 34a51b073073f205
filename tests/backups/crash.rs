//! The power goes, or the disk fails, at every operation of a restore: there is no home, or a whole one.

use std::path::Path;

use palyra_ledger::store::Medium;
use palyra_ledger::testing::{Fault, FaultError, FaultMedium, FaultOp, ManualClock, SimDisk, for_every_cut};
use palyra_ledger::{BackendKind, Ledger, ReplayPoint, VerifyOptions};

use super::{backup, by_words, empty, get, increment, put, restore, simulated, with_words};

/// A full backup and an increment of a ledger with envelopes in files.
fn chain(clock: &ManualClock) -> (Vec<Vec<u8>>, palyra_ledger::BackupMade) {
    let ledger = with_words(simulated(SimDisk::new(), 1, clock));
    ledger.backends().migrate(BackendKind::EncryptedFile, &mut |_, _| {}).unwrap();
    put(&ledger, "a", b"one");
    let (full, made) = backup(&ledger);
    put(&ledger, "a", b"two");
    let (more, made) = increment(&ledger, &made);
    (vec![full, more], made)
}

fn whole(disk: SimDisk, seed: u64, clock: &ManualClock, made: &palyra_ledger::BackupMade, what: &str) {
    let ledger = Ledger::open(simulated(disk, seed, clock)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(ledger.replay(ReplayPoint::Seq(made.to)).unwrap().state_root().unwrap(), made.state_root, "{what}");
    assert_eq!(get(&ledger, "a"), b"two", "{what}");
    let mut report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    ledger.verify_backend(&mut report).unwrap();
    assert!(report.ok, "{what}: {:?}", report.findings);
    ledger.close().unwrap();
}

#[test]
fn a_power_cut_leaves_no_home_or_a_whole_one() {
    let clock = ManualClock::default();
    let (files, made) = chain(&clock);
    let (mut without, mut with) = (0, 0);
    let checked = for_every_cut(
        1,
        empty,
        |disk| restore(&simulated(disk.clone(), 8, &clock).credential(by_words()), &files).is_ok(),
        |cut, done, disk| {
            let what = format!("{cut:?}");
            if disk.exists(Path::new("/home")).unwrap() {
                with += 1;
                whole(disk, 9, &clock, &made, &what);
            } else {
                without += 1;
                assert!(!done || !cut.finished, "{what}: it was told that there is a home");
                // What was left beside it stands in nobody's way.
                if without % 16 == 0 {
                    restore(&simulated(disk.clone(), 10, &clock).credential(by_words()), &files).unwrap();
                    whole(disk, 11, &clock, &made, &what);
                }
            }
        },
    );
    assert!(checked > 200 && with > 0 && without > 0, "{checked} {with} {without}");
}

#[test]
fn an_operation_that_fails_leaves_no_home_and_says_so() {
    let clock = ManualClock::default();
    let (files, made) = chain(&clock);
    let mut failures = 0;
    for nth in 1.. {
        let disk = empty();
        let medium = FaultMedium::new(disk.clone());
        medium.plan(Fault::once(FaultOp::Change, nth, FaultError::NoSpace));
        let done = restore(&simulated(medium.clone(), 8, &clock).credential(by_words()), &files);
        if medium.fired() == 0 {
            done.unwrap();
            break;
        }
        let there = disk.exists(Path::new("/home")).unwrap();
        match done {
            Ok(_) => whole(disk, 9, &clock, &made, &format!("operation {nth}")),
            Err(_) if there => whole(disk, 9, &clock, &made, &format!("operation {nth}")),
            Err(_) => failures += 1,
        }
    }
    assert!(failures > 50, "{failures}");
}
