//! One writer or many readers at a time, and who has it.

use std::time::{Duration, Instant};

use palyra_ledger::{Error, Ledger, LockError};

use super::common::{get, init_real, put, real};

#[test]
fn a_second_opening_is_told_who_has_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    for config in [real(&home), real(&home).read_only()] {
        let refused = Ledger::open(config.lock_wait(Duration::ZERO)).unwrap_err();
        let Error::Lock(LockError::InUse { owner }) = &refused else { panic!("{refused}") };
        assert_eq!(*owner, Some(std::process::id()));
    }
    ledger.close().unwrap();
    drop(ledger);
    Ledger::open(real(&home).lock_wait(Duration::ZERO)).unwrap();
}

#[test]
fn readers_do_not_wait_for_each_other_but_a_writer_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "key", "value");
    drop(ledger);
    let reader = || Ledger::open(real(&home).read_only().lock_wait(Duration::ZERO)).unwrap();
    let (one, two) = (reader(), reader());
    assert_eq!((get(&one, "key"), get(&two, "key")), ("value".to_owned(), "value".to_owned()));
    assert!(matches!(Ledger::open(real(&home).lock_wait(Duration::ZERO)), Err(Error::Lock(_))));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| Ledger::open(real(&home).lock_wait(Duration::from_secs(20))).unwrap());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        drop((one, two));
        let ledger = writer.join().unwrap();
        put(&ledger, "key", "newer");
    });
}

#[test]
fn a_reader_writes_nothing_but_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    put(&ledger, "key", "value");
    drop(ledger);
    let list = || -> Vec<_> {
        super::common::files_below(&home).into_iter().filter(|(path, _)| !path.ends_with("reads.spool")).collect()
    };
    let before = list();
    let ledger = Ledger::open(real(&home).read_only()).unwrap();
    assert_eq!(get(&ledger, "key"), "value");
    assert!(matches!(
        ledger.vault(palyra_ledger::Scope::global()).put(
            &super::common::name("key"),
            &super::common::bytes("x"),
            palyra_ledger::PutOptions::new()
        ),
        Err(Error::ReadOnly)
    ));
    drop(ledger);
    assert_eq!(list(), before);
    assert!(home.join("reads.spool").exists());
}
