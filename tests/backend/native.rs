//! The suite on the keystore of this system: run where one is unlocked, `cargo test --test backend -- --ignored native`.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::{BackendKind, Config, Ledger, NewSlot, Scope};

use super::conformance::conforms;
use super::{KEYSTORE, get, migrate, name};

#[test]
#[ignore = "uses the keystore of the user who runs it"]
fn native_keystore_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::new(dir.path().join("home"));
    let made = Ledger::init_on(config(), NewSlot::os_keystore("this user"), KEYSTORE).unwrap();
    let ledger = conforms(made, KEYSTORE, &|| Ledger::open(config()).unwrap());
    ledger.keys().rotate_root(&[], &[]).unwrap();
    assert_eq!(get(&ledger, "a"), "two");
    // Nothing stays behind in the user's keystore.
    migrate(&ledger, BackendKind::EncryptedFile).unwrap();
    ledger.vault(Scope::global()).shred(&name("a"), Versions::All, None).unwrap();
    let slot = ledger.keys().slots().1;
    let other = ledger.keys().add_slot(NewSlot::file("machine")).unwrap().id();
    ledger.keys().remove_slot(slot, Some(other)).unwrap();
    ledger.close().unwrap();
}
