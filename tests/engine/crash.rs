//! The power goes at every operation of a workload; every disk it could leave is opened.

use std::path::Path;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::identity::AuthorityState;
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, SimDisk, for_every_cut};
use palyra_ledger::{Error, Ledger, NewSlot, PutOptions, Scope, VerifyOptions};

use super::common::{bytes, disk_with_ledger, get, name, put, simulated};

#[derive(Debug, Default, Clone)]
struct Done {
    puts: u32,
    shredded: bool,
    rotated: bool,
    slot_added: bool,
    rolled: u32,
}

fn work(disk: &SimDisk, clock: &ManualClock) -> Done {
    let mut done = Done::default();
    let _ = steps(disk, clock, &mut done);
    done
}

fn steps(disk: &SimDisk, clock: &ManualClock, done: &mut Done) -> Result<(), Error> {
    let ledger = Ledger::open(simulated(disk.clone(), 9, clock))?;
    let vault = ledger.vault(Scope::global());
    for number in 1..=3 {
        let value = bytes(&format!("value {number} {}", "x".repeat(1500)));
        done.puts = vault.put(&name("key"), &value, PutOptions::new())?.version;
    }
    vault.shred(&name("doomed"), Versions::All, None)?;
    done.shredded = true;
    ledger.keys().add_slot(NewSlot::file("second"))?;
    done.slot_added = true;
    ledger.keys().rotate_root(&[], &[])?;
    done.rotated = true;
    let identity = ledger.identity();
    identity.prepare_ca()?;
    done.rolled = 1;
    identity.activate_ca(false)?;
    done.rolled = 2;
    identity.taint_ca()?;
    identity.revoke_ca(false)?;
    done.rolled = 4;
    for number in 4..=9 {
        let value = bytes(&format!("value {number} {}", "x".repeat(1500)));
        done.puts = vault.put(&name("key"), &value, PutOptions::new())?.version;
    }
    ledger.close()
}

fn check(cut: &str, done: &Done, disk: &SimDisk, clock: &ManualClock) {
    // A reading process may come first: it changes nothing and reads what was acknowledged.
    let reader = Ledger::open(simulated(disk.snapshot(), 11, clock).read_only());
    let reader = reader.unwrap_or_else(|error| panic!("{cut}: reading: {error}"));
    assert_eq!(get(&reader, "kept"), "since before", "{cut}: reading");
    drop(reader);
    let ledger = Ledger::open(simulated(disk.clone(), 10, clock)).unwrap_or_else(|error| panic!("{cut}: {error}"));
    let vault = ledger.vault(Scope::global());
    assert_eq!(get(&ledger, "kept"), "since before", "{cut}");
    let versions = vault.history(&name("key")).map_or(0, |history| history.versions.len() as u32);
    assert!(versions >= done.puts, "{cut}: {versions} of {} acknowledged versions", done.puts);
    assert!(versions <= done.puts + 1, "{cut}: more than was ever asked for");
    for version in 1..=versions {
        let read = vault.get_with(&name("key"), palyra_ledger::GetOptions::version(version)).unwrap();
        assert!(read.value.expose().starts_with(format!("value {version} ").as_bytes()), "{cut}");
    }
    if done.shredded {
        assert!(vault.get(&name("doomed")).is_err(), "{cut}");
    }
    if done.slot_added {
        assert_eq!(ledger.keys().slots().0.len(), 2, "{cut}");
    }
    if done.rotated {
        assert_eq!(ledger.status().unwrap().system.root_generation, 2, "{cut}");
    }
    finish_the_roll(cut, done, &ledger);
    assert_eq!(get(&ledger, "kept"), "since before", "{cut}: after the roll");
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{cut}: {:?}", report.findings);
    put(&ledger, "after", "the crash");
    ledger.close().unwrap_or_else(|error| panic!("{cut}: {error}"));
}

/// Whatever step the cut fell into, the roll can be completed from where it stands.
fn finish_the_roll(cut: &str, done: &Done, ledger: &Ledger) {
    let identity = ledger.identity();
    let at = |state| identity.authorities().unwrap().in_state(state).map(|record| record.generation);
    let all = identity.authorities().unwrap();
    assert_eq!(all.0.iter().filter(|record| record.state == AuthorityState::Active).count(), 1, "{cut}");
    match done.rolled {
        0 => {}
        1 => assert!(all.0.len() == 2, "{cut}"),
        2 => assert_eq!(at(AuthorityState::Active), Some(2), "{cut}"),
        _ => assert_eq!(at(AuthorityState::Revoked), Some(1), "{cut}"),
    }
    if all.0.len() == 1 {
        assert_eq!(identity.prepare_ca().unwrap(), 2, "{cut}");
    }
    if at(AuthorityState::Prepared).is_some() {
        assert_eq!(identity.activate_ca(false).unwrap().0, 2, "{cut}");
    }
    if at(AuthorityState::Retired).is_some() {
        assert_eq!(identity.taint_ca().unwrap(), 1, "{cut}");
    }
    if at(AuthorityState::Tainted).is_some() {
        assert_eq!(identity.revoke_ca(false).unwrap(), 1, "{cut}");
    }
    assert_eq!(at(AuthorityState::Active), Some(2), "{cut}");
    assert!(identity.revoke_ca(true).is_err(), "{cut}: a step that was done");
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let clock = ManualClock::default();
    let prepare = || {
        let disk = disk_with_ledger(&clock);
        let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
        put(&ledger, "kept", "since before");
        put(&ledger, "doomed", "soon gone");
        ledger.close().unwrap();
        disk.settle();
        disk
    };
    let prepared = prepare();
    let checked = for_every_cut(
        2,
        || prepared.snapshot(),
        |disk| work(disk, &clock),
        |cut, done, disk| check(&format!("{cut:?} {done:?}"), done, &disk, &clock),
    );
    assert!(checked > 300, "{checked}");
}

#[test]
fn a_power_cut_during_creation_leaves_a_whole_ledger_or_none() {
    let clock = ManualClock::default();
    let (mut none, mut whole) = (0, 0);
    for_every_cut(
        2,
        SimDisk::new,
        |disk| Ledger::init(simulated(disk.clone(), 1, &clock), NewSlot::file("machine")).map(|_| ()).is_ok(),
        |cut, done, disk| match Ledger::open(simulated(disk.clone(), 2, &clock)) {
            Ok(ledger) => {
                whole += 1;
                put(&ledger, "first", "value");
                assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
                ledger.close().unwrap();
            }
            Err(Error::NoLedger { .. }) => {
                assert!(!done, "{cut:?}: acknowledged and gone");
                none += 1;
                if !disk.exists(Path::new("/home")).unwrap() {
                    Ledger::init(simulated(disk, 3, &clock), NewSlot::file("machine")).unwrap();
                }
            }
            Err(error) => panic!("{cut:?}: {error}"),
        },
    );
    assert!(none > 20 && whole > 1, "{none} {whole}");
}

#[test]
fn a_second_power_cut_during_recovery_changes_nothing() {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
    put(&ledger, "kept", "since before");
    put(&ledger, "doomed", "soon gone");
    ledger.close().unwrap();
    disk.settle();
    // The first cut falls at a third, half and two thirds of the work.
    let whole = disk.snapshot();
    let before = whole.operations();
    work(&whole, &clock);
    let operations = whole.operations() - before;
    for part in [operations / 3, operations / 2, operations * 2 / 3] {
        let first = disk.snapshot();
        first.set_cut_after(first.operations() + part);
        let done = work(&first, &clock);
        for seed in 0..3 {
            let crashed = first.crash(seed);
            for_every_cut(
                1,
                || crashed.snapshot(),
                |disk| Ledger::open(simulated(disk.clone(), 20, &clock)).and_then(|ledger| ledger.close()).is_ok(),
                |cut, _, disk| check(&format!("{part} {cut:?} {done:?}"), &done, &disk, &clock),
            );
        }
    }
}
