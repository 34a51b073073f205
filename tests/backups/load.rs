//! Backups while others write, shred, rotate and move: each is consistent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use palyra_ledger::backup::Identities;
use palyra_ledger::event::vault::Versions;
use palyra_ledger::{BackendKind, Ledger, PutOptions, ReplayPoint, Scope, SecretBytes, SlotKind, VerifyOptions};

use super::{backup, by_words, check, failed, files, go_on, increment, name, real, with_words, words};

fn under_load(backend: BackendKind) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(with_words(real(&dir.path().join("home"))));
    ledger.backends().migrate(backend, &mut |_, _| {}).unwrap();
    let (stop, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut chain = Vec::new();
    let roots = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (ledger, stop, puts) = (&ledger, &stop, &puts);
            scope.spawn(move || {
                let vault = ledger.vault(Scope::global());
                for number in 0_u32.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let key = name(&format!("t{thread}/{}", number % 7));
                    let value = SecretBytes::from(vec![thread; 700].as_slice());
                    let receipt = vault.put(&key, &value, PutOptions::new()).unwrap();
                    puts.fetch_add(1, Ordering::AcqRel);
                    if number % 3 == 2 {
                        vault.shred(&key, Versions::One(receipt.version), None).unwrap();
                    }
                    if thread == 0 && number % 11 == 10 {
                        let (slots, _) = ledger.keys().slots();
                        let recovery = slots.iter().find(|slot| slot.kind() == SlotKind::Recovery).unwrap().id();
                        ledger.keys().rotate_root(&[(recovery, words().text())], &[]).unwrap();
                    }
                }
            });
        }
        let mut last = None;
        for round in 0..8 {
            let seen = puts.load(Ordering::Acquire);
            let (file, made) = match &last {
                None => backup(&ledger),
                Some(last) => increment(&ledger, last),
            };
            chain.push(file);
            last = Some(made.clone());
            roots.lock().unwrap().push(made);
            // The next round begins when others have written again.
            while puts.load(Ordering::Acquire) < seen + 5 && round < 7 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Release);
    });
    let roots = roots.into_inner().unwrap();
    for (at, made) in roots.iter().enumerate() {
        let expected = ledger.replay(ReplayPoint::Seq(made.to)).unwrap().state_root().unwrap();
        assert_eq!(made.state_root, expected);
        let report = check(&real(&dir.path().join("none")).credential(by_words()), &chain[..=at]);
        assert_eq!(failed(&report), Vec::<&str>::new(), "{:?}", report.checks);
        assert_eq!(report.state_root, Some(expected));
    }
    ledger.close().unwrap();
    for at in [0, chain.len() - 1] {
        let home = dir.path().join(format!("restored{at}"));
        let config = real(&home).credential(by_words());
        let done = Ledger::restore(&config, &mut files(&chain[..=at]), &Identities::default(), &go_on).unwrap();
        assert_eq!(done.state_root, roots[at].state_root);
        let again = Ledger::open(real(&home)).unwrap();
        let mut report = again.verify(VerifyOptions { state: true, witness: false }).unwrap();
        again.verify_backend(&mut report).unwrap();
        assert!(report.ok, "{:?}", report.findings);
        again.close().unwrap();
    }
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(beside.iter().all(|name| !name.to_string_lossy().starts_with(".palyra")), "{beside:?}");
}

#[test]
fn a_backup_under_load_is_consistent() {
    under_load(BackendKind::Ledger);
}

#[test]
fn a_backup_under_load_holds_every_envelope_in_files() {
    under_load(BackendKind::EncryptedFile);
}
