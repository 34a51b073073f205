//! Every storage call fails in turn, once and for good.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{Fault, FaultError, FaultMedium, FaultOp, ManualClock, SimDisk};
use palyra_ledger::{Error, GetOptions, Ledger, PutOptions, Scope, VerifyOptions};

use super::common::{bytes, disk_with_ledger, get, name, put, simulated};

fn steps(medium: &FaultMedium<SimDisk>, clock: &ManualClock, acknowledged: &mut u32) -> Result<(), Error> {
    let ledger = Ledger::open(simulated(medium.clone(), 9, clock))?;
    let vault = ledger.vault(Scope::global());
    let mut failed = None;
    for number in 1..=4 {
        let value = bytes(&format!("value {number} {}", "x".repeat(1500)));
        match vault.put(&name("key"), &value, PutOptions::new()) {
            Ok(receipt) => *acknowledged = receipt.version,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                // A writer that is dead stays dead, and says so.
                let again = vault.put(&name("key"), &value, PutOptions::new());
                if let Ok(receipt) = again {
                    *acknowledged = receipt.version;
                }
                failed.get_or_insert(error);
            }
        }
    }
    let _ = vault.get_with(&name("key"), GetOptions::current());
    let shredded = vault.shred(&name("key"), Versions::One(1), None).map(|_| ());
    let rotated = ledger.keys().rotate_root(&[], &[]).map(|_| ());
    let identity = ledger.identity();
    let rolled = identity
        .prepare_ca()
        .and_then(|_| identity.activate_ca(false))
        .and_then(|_| identity.taint_ca())
        .and_then(|_| identity.revoke_ca(false))
        .map(|_| ());
    let closed = ledger.close();
    failed.map_or(Ok(()), Err).and(shredded).and(rotated).and(rolled).and(closed)
}

fn sweep(make: impl Fn(u64) -> Fault) {
    let clock = ManualClock::default();
    let prepared = disk_with_ledger(&clock);
    {
        let ledger = Ledger::open(simulated(prepared.clone(), 2, &clock)).unwrap();
        put(&ledger, "kept", "since before");
        ledger.close().unwrap();
    }
    prepared.settle();
    for nth in 1.. {
        let disk = prepared.snapshot();
        let medium = FaultMedium::new(disk.clone());
        medium.plan(make(nth));
        let mut acknowledged = 0;
        let outcome = steps(&medium, &clock, &mut acknowledged);
        assert_eq!(medium.violations(), [], "fault {nth}");
        if medium.fired() == 0 {
            outcome.unwrap();
            assert!(nth > 20);
            return;
        }
        medium.clear_plan();
        // What a failed sync left in the cache is as good as lost.
        for after in [disk.crash_strict(), disk.crash_all()] {
            let ledger = Ledger::open(simulated(after, 10, &clock))
                .unwrap_or_else(|error| panic!("fault {nth}: {error} after {outcome:?}"));
            assert_eq!(get(&ledger, "kept"), "since before");
            let vault = ledger.vault(Scope::global());
            let versions = vault.history(&name("key")).map_or(0, |history| history.versions.len() as u32);
            assert!(versions >= acknowledged, "fault {nth}: {versions} of {acknowledged}");
            for version in 2..=acknowledged {
                let read = vault.get_with(&name("key"), GetOptions::version(version)).unwrap();
                assert!(read.value.expose().starts_with(format!("value {version} ").as_bytes()));
            }
            let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
            assert!(report.ok, "fault {nth}: {:?}", report.findings);
            put(&ledger, "after", "the fault");
            ledger.close().unwrap();
        }
    }
}

#[test]
fn every_operation_that_fails_once_is_survived() {
    sweep(|nth| Fault::once(FaultOp::Any, nth, FaultError::Io));
}

#[test]
fn a_disk_that_is_full_from_some_point_on_is_survived() {
    sweep(|nth| Fault::from_then_on(FaultOp::Change, nth, FaultError::NoSpace));
}

#[test]
fn every_torn_write_is_survived() {
    sweep(|nth| Fault::once(FaultOp::Write, nth, FaultError::NoSpace).with_short_write());
}

#[test]
fn after_a_failed_sync_the_writer_is_dead_and_the_next_opening_is_not() {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let medium = FaultMedium::new(disk.clone());
    let ledger = Ledger::open(simulated(medium.clone(), 3, &clock)).unwrap();
    put(&ledger, "one", "1");
    medium.plan(Fault::once(FaultOp::Sync, 1, FaultError::Io));
    let vault = ledger.vault(Scope::global());
    let first = vault.put(&name("two"), &bytes("2"), PutOptions::new()).unwrap_err();
    assert!(matches!(first, Error::Journal(_)), "{first}");
    let second = vault.put(&name("three"), &bytes("3"), PutOptions::new()).unwrap_err();
    assert!(matches!(second, Error::Dead { .. }), "{second}");
    assert!(second.to_string().contains("open it again"));
    assert_eq!(get(&ledger, "one"), "1", "reading goes on");
    drop(ledger);
    assert_eq!(medium.violations(), []);
    let ledger = Ledger::open(simulated(disk.crash_strict(), 4, &clock)).unwrap();
    assert_eq!(get(&ledger, "one"), "1");
    assert!(ledger.vault(Scope::global()).get(&name("three")).is_err());
}

#[test]
fn a_read_that_fails_is_told_as_one_and_not_as_damage() {
    let clock = ManualClock::default();
    let prepared = disk_with_ledger(&clock);
    let medium = FaultMedium::new(prepared);
    let ledger = Ledger::open(simulated(medium.clone(), 2, &clock)).unwrap();
    put(&ledger, "key", "value");
    for nth in 1..=4 {
        medium.plan(Fault::from_then_on(FaultOp::Read, nth, FaultError::Io));
        for seq in 0..=1 {
            if let Err(error) = ledger.log().entry(seq) {
                assert!(!error.to_string().contains("damaged"), "read {nth}, event {seq}: {error}");
            }
        }
        assert!(nth > 1 || medium.fired() > 0);
        medium.clear_plan();
        // Nothing that failed is remembered as if it had been found.
        assert!((0..=1).all(|seq| ledger.log().entry(seq).is_ok()));
    }
    ledger.close().unwrap();
}
