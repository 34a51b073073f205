//! The power goes at every operation of writes and moves on backends, and keystores go away after every call.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{MemoryKeystore, SimDisk, for_every_cut};
use palyra_ledger::{BackendKind, Error, Ledger, PutOptions, Scope};

use super::{KEYSTORE, Place, bytes, get, migrate, name, put, simulated, verified};

#[derive(Debug, Default)]
struct Done {
    puts: u32,
    shredded: bool,
    moved: bool,
}

fn steps(
    disk: &SimDisk,
    keystore: &MemoryKeystore,
    place: &Place,
    to: BackendKind,
    done: &mut Done,
) -> Result<(), Error> {
    let ledger = Ledger::open(simulated(disk.clone(), keystore, 9, &place.clock))?;
    let vault = ledger.vault(Scope::global());
    let write = |done: &mut Done| -> Result<(), Error> {
        let value = bytes(&format!("value {}", done.puts + 1));
        done.puts = vault.put(&name("key"), &value, PutOptions::new())?.version;
        Ok(())
    };
    write(done)?;
    write(done)?;
    vault.shred(&name("doomed"), Versions::All, None)?;
    done.shredded = true;
    migrate(&ledger, to)?;
    done.moved = true;
    write(done)?;
    ledger.close()
}

fn check(what: &str, disk: &SimDisk, keystore: &MemoryKeystore, place: &Place, to: BackendKind, done: &Done) {
    let reader = Ledger::open(simulated(disk.snapshot(), keystore, 11, &place.clock).read_only());
    assert_eq!(get(&reader.unwrap_or_else(|error| panic!("{what}: {error}")), "kept"), "since before", "{what}");
    let opened = Ledger::open(simulated(disk.clone(), keystore, 10, &place.clock));
    let ledger = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let vault = ledger.vault(Scope::global());
    let all = |when: &str| {
        assert_eq!(get(&ledger, "kept"), "since before", "{what}, {when}");
        let versions = vault.history(&name("key")).map_or(0, |history| history.versions.len() as u32);
        assert!((done.puts..=done.puts + 1).contains(&versions), "{what}, {when}: {versions} of {}", done.puts);
        for version in 1..=versions {
            let read = vault.get_with(&name("key"), palyra_ledger::GetOptions::version(version));
            let read = read.unwrap_or_else(|error| panic!("{what}, {when}: version {version}: {error}"));
            assert_eq!(read.value, bytes(&format!("value {version}")), "{what}, {when}");
        }
        assert!(!done.shredded || vault.get(&name("doomed")).is_err(), "{what}, {when}");
    };
    all("after the crash");
    let report = verified(&ledger);
    assert!(report.ok, "{what}: {:?}", report.findings);
    if done.moved {
        assert_eq!(ledger.backends().state().unwrap().kind, to, "{what}");
    }
    migrate(&ledger, to).unwrap_or_else(|error| panic!("{what}: going on: {error}"));
    let state = ledger.backends().state().unwrap();
    assert_eq!((state.kind, state.other), (to, None), "{what}");
    all("after going on");
    put(&ledger, "after", "the crash");
    let report = verified(&ledger);
    assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
    ledger.close().unwrap_or_else(|error| panic!("{what}: {error}"));
}

fn prepared(from: BackendKind) -> Place {
    let place = Place::new(from);
    let ledger = place.open();
    put(&ledger, "kept", "since before");
    put(&ledger, "doomed", "not for long");
    ledger.close().unwrap();
    place.disk.settle();
    place
}

fn sweep(from: BackendKind, to: BackendKind) {
    let base = prepared(from);
    let checked = for_every_cut(
        1,
        || base.disk.snapshot(),
        |disk| {
            let (mut done, keystore) = (Done::default(), base.keystore.snapshot());
            let _ = steps(disk, &keystore, &base, to, &mut done);
            (done, keystore)
        },
        |cut, (done, keystore), disk| {
            let what = format!("{from} to {to}, {cut:?}, {done:?}");
            check(&what, &disk, &keystore.snapshot(), &base, to, done);
        },
    );
    assert!(checked > 100, "{checked}");
}

#[test]
fn a_power_cut_anywhere_in_a_move_to_files_loses_nothing() {
    sweep(BackendKind::Ledger, BackendKind::EncryptedFile);
}

#[test]
fn a_power_cut_anywhere_in_a_move_from_files_loses_nothing() {
    sweep(BackendKind::EncryptedFile, BackendKind::Ledger);
}

#[test]
fn a_power_cut_anywhere_in_a_move_to_a_keystore_loses_nothing() {
    sweep(BackendKind::EncryptedFile, KEYSTORE);
}

#[test]
fn a_keystore_that_goes_away_after_any_call_loses_nothing() {
    for (from, to) in [(BackendKind::EncryptedFile, KEYSTORE), (KEYSTORE, BackendKind::Ledger)] {
        let base = prepared(from);
        for calls in 0.. {
            let (disk, keystore, mut done) = (base.disk.snapshot(), base.keystore.snapshot(), Done::default());
            keystore.set_left(Some(calls));
            let ended = steps(&disk, &keystore, &base, to, &mut done);
            keystore.set_left(None);
            let what = format!("{from} to {to}, gone after {calls} calls, {done:?}");
            check(&what, &disk, &keystore, &base, to, &done);
            if ended.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn an_unfinished_move_is_given_up_or_gone_on_with_and_nothing_else() {
    let place = Place::new(BackendKind::EncryptedFile);
    let ledger = place.open();
    put(&ledger, "a", "one");
    put(&ledger, "b", "two");
    // Probe, then one object written and read back; then it is gone.
    place.keystore.set_left(Some(3));
    let failed = migrate(&ledger, KEYSTORE).unwrap_err();
    assert!(failed.to_string().contains("no keystore"), "{failed}");
    let state = ledger.backends().state().unwrap();
    assert_eq!((state.kind, state.other, state.switched), (BackendKind::EncryptedFile, Some(KEYSTORE), false));
    assert!(matches!(migrate(&ledger, BackendKind::Ledger), Err(Error::MoveUnfinished { .. })));
    put(&ledger, "a", "written meanwhile");
    place.keystore.set_left(None);
    assert_eq!(place.keystore.items().len(), 1);
    let given_up = migrate(&ledger, BackendKind::EncryptedFile).unwrap();
    assert!(given_up.aborted && given_up.removed == 1, "{given_up:?}");
    assert!(place.keystore.items().is_empty());
    assert_eq!([get(&ledger, "a"), get(&ledger, "b")], ["written meanwhile", "two"]);
    // Given up although it is gone for good.
    place.keystore.set_left(Some(3));
    assert!(migrate(&ledger, KEYSTORE).is_err());
    assert!(migrate(&ledger, BackendKind::EncryptedFile).unwrap().aborted);
    place.keystore.set_left(None);
    let moved = migrate(&ledger, KEYSTORE).unwrap();
    assert_eq!((moved.envelopes, moved.removed), (3, 3));
    assert_eq!(place.keystore.items().len(), 3);
}
