//! Storage backends: objects in files, moves there and back, one given up, and a key slot of the keystore's.

use std::sync::Arc;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SimDisk};
use palyra_ledger::{BackendKind, Ledger, NewSlot, PutOptions, SecretBytes};

use super::{Release, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0005-storage-backends", make, told };

fn told(ledger: &Ledger) -> String {
    told_with(ledger, |entry| match entry.kind {
        39..=43 => format!(" {}", fields(entry)),
        _ => String::new(),
    })
}

fn make() -> SimDisk {
    let (disk, clock, keystore) = (SimDisk::new(), ManualClock::default(), MemoryKeystore::default());
    let config = config(&disk, 5, &clock).keystore(Arc::new(keystore.clone()));
    let ledger = Ledger::init_on(config, NewSlot::file("machine"), BackendKind::EncryptedFile).unwrap();
    let put = |key: &str, value: &str| {
        clock.advance(1000);
        let vault = ledger.vault("global".parse().unwrap());
        vault.put(&key.parse().unwrap(), &SecretBytes::from(value.as_bytes()), PutOptions::new()).unwrap();
    };
    let migrate = |to| ledger.backends().migrate(to, &mut |_, _| {});
    put("api_key", "first");
    put("gone", "shredded");
    ledger.vault("global".parse().unwrap()).shred(&"gone".parse().unwrap(), Versions::All, None).unwrap();
    migrate(BackendKind::Ledger).unwrap();
    put("inside", "in its event");
    keystore.set_left(Some(3));
    migrate(BackendKind::LinuxSecretService).unwrap_err();
    keystore.set_left(None);
    assert!(migrate(BackendKind::Ledger).unwrap().aborted);
    migrate(BackendKind::EncryptedFile).unwrap();
    put("api_key", "second");
    ledger.keys().add_slot(NewSlot::os_keystore("desktop")).unwrap();
    ledger.close().unwrap();
    disk
}

#[test]
fn every_object_of_the_store_is_there() {
    let ledger = RELEASE.open();
    let mut report = ledger.verify(palyra_ledger::VerifyOptions::default()).unwrap();
    ledger.verify_backend(&mut report).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(ledger.backends().state().unwrap().kind, BackendKind::EncryptedFile);
}
