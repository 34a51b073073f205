//! Many threads on one ledger.

use std::sync::atomic::{AtomicU32, Ordering};

use palyra_ledger::vault::VaultError;
use palyra_ledger::{Error, Ledger, PutOptions, ReplayPoint, Scope, VerifyOptions};

use super::common::{bytes, init_real, name, real};

#[test]
fn a_compare_and_set_is_won_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = init_real(&dir.path().join("home"));
    let wins = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (ledger, wins) = (&ledger, &wins);
            scope.spawn(move || {
                let vault = ledger.vault(Scope::global());
                for version in 0..20 {
                    let value = bytes(&format!("{thread} at {version}"));
                    match vault.put(&name("prize"), &value, PutOptions::new().if_version(version)) {
                        Ok(receipt) => {
                            assert_eq!(receipt.version, version + 1);
                            wins.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::Vault(VaultError::Conflict { .. })) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let history = ledger.vault(Scope::global()).history(&name("prize")).unwrap();
    assert_eq!(history.versions.len() as u32, wins.load(Ordering::Relaxed));
}

#[test]
fn writers_readers_and_listers_disturb_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let ledger = &ledger;
            scope.spawn(move || {
                let vault = ledger.vault(format!("principal:p{}", thread % 4).parse().unwrap());
                for number in 0..40 {
                    let key = name(&format!("t{thread}/n{}", number % 7));
                    let receipt = vault.put(&key, &bytes(&format!("{thread} {number}")), PutOptions::new()).unwrap();
                    // What was acknowledged is visible at once, to its writer and everybody.
                    let read = vault.get(&key).unwrap();
                    assert_eq!(read.info.version, receipt.version);
                    assert_eq!(read.value.expose(), format!("{thread} {number}").as_bytes());
                    if number % 10 == 0 {
                        vault.list(&palyra_ledger::ListOptions::new()).unwrap();
                    }
                }
            });
        }
    });
    let check = |ledger: &Ledger| {
        let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
        assert!(report.ok, "{:?}", report.findings);
        assert_eq!(ledger.status().unwrap().counters.versions, 16 * 40);
        ledger.state_root().unwrap()
    };
    check(&ledger);
    ledger.close().unwrap();
    drop(ledger);
    let ledger = Ledger::open(real(&home)).unwrap();
    let root = check(&ledger);
    assert_eq!(ledger.replay(ReplayPoint::Head).unwrap().state_root().unwrap(), root);
    let report = ledger.verify(VerifyOptions { state: true, witness: true }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn a_ledger_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Ledger>();
    shared::<palyra_ledger::Vault>();
    shared::<palyra_ledger::LogView>();
    shared::<palyra_ledger::KeyAdmin>();
    shared::<palyra_ledger::Replay>();
}
