//! The power goes, or the storage fails, at every operation of an import: everything is there afterwards, or nothing.

use palyra_ledger::identity::DeviceState;
use palyra_ledger::import::Gathered;
use palyra_ledger::testing::{Fault, FaultError, FaultMedium, FaultOp, ManualClock, SimDisk, for_every_cut};
use palyra_ledger::{ImportOptions, Ledger, PutOptions, SecretBytes, VerifyOptions};

use super::old::{Old, ULIDS, device};
use super::{config, disk, gather, import, values};

fn source() -> (tempfile::TempDir, Gathered) {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new();
    for number in 0..40 {
        old = old.secret("global", &format!("key{number}"), format!("value {number} {}", "x".repeat(700)).as_bytes());
    }
    let node = old.leaf(ULIDS[2]);
    old.pair(ULIDS[2], "Node", &[&node]);
    old.revoke(ULIDS[1], "lost");
    old.write(dir.path());
    let gathered = gather(dir.path());
    (dir, gathered)
}

/// All of it or nothing; and it can be had after.
fn check(what: &str, acknowledged: bool, disk: SimDisk, gathered: &Gathered, clock: &ManualClock) -> bool {
    let ledger = Ledger::open(config(disk, 11, clock)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = values(&ledger).len();
    assert!(found == 0 || found == 40, "{what}: {found} of 40");
    let device = ledger.identity().device(device(ULIDS[2])).ok();
    assert_eq!(device.is_some_and(|one| one.state == DeviceState::Paired), found == 40, "{what}");
    assert_eq!(ledger.identity().authorities().unwrap().0.len(), if found == 40 { 2 } else { 1 }, "{what}");
    assert!(found == 40 || !acknowledged, "{what}: it was acknowledged");
    let again = import(&ledger, gathered, ImportOptions::default());
    assert!(!again.stopped, "{what}: {:#?}", again.lines);
    assert_eq!(values(&ledger).len(), 40, "{what}");
    // Slots that a failed act left are used, or at least in nobody's way.
    let vault = ledger.vault("global".parse().unwrap());
    vault.put(&"later".parse().unwrap(), &SecretBytes::from(b"x".as_slice()), PutOptions::new()).unwrap();
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{what}: {:?}", report.findings);
    found == 40
}

#[test]
fn a_power_cut_at_any_operation_leaves_everything_or_nothing() {
    let clock = ManualClock::default();
    let prepared = disk(&clock);
    let (_dir, gathered) = source();
    let (mut whole, mut none) = (0, 0);
    let checked = for_every_cut(
        2,
        || prepared.snapshot(),
        |disk| {
            let ledger = Ledger::open(config(disk.clone(), 9, &clock)).ok()?;
            let done = ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {}).ok()?;
            let _ = ledger.close();
            done.seq
        },
        |cut, seq, disk| {
            if check(&format!("{cut:?}"), seq.is_some(), disk, &gathered, &clock) {
                whole += 1;
            } else {
                none += 1;
            }
        },
    );
    assert!(checked > 100 && whole > 10 && none > 10, "{checked}: {whole} whole, {none} not");
}

#[test]
fn a_fault_at_any_operation_leaves_everything_or_nothing() {
    let clock = ManualClock::default();
    let prepared = disk(&clock);
    let (_dir, gathered) = source();
    for (op, error) in [(FaultOp::Write, FaultError::NoSpace), (FaultOp::Sync, FaultError::Io)] {
        for nth in 1.. {
            let disk = prepared.snapshot();
            let medium = FaultMedium::new(disk.clone());
            medium.plan(Fault::once(op, nth, error));
            let done = Ledger::open(config(medium.clone(), 9, &clock))
                .ok()
                .and_then(|ledger| ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {}).ok());
            if medium.fired() == 0 {
                assert!(done.is_some() && nth > 5);
                break;
            }
            let acknowledged = done.is_some_and(|done| done.seq.is_some());
            for after in [disk.crash_strict(), disk.crash_all()] {
                check(&format!("{op:?} {nth}"), acknowledged, after, &gathered, &clock);
            }
        }
    }
}
