//! What one does while another asks the backend.

use std::fmt;
use std::sync::{Arc, Mutex};

use palyra_ledger::event::vault::Versions;
use palyra_ledger::platform::{Keystore, KeystoreError};
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SimDisk};
use palyra_ledger::vault::VaultError;
use palyra_ledger::{BackendKind, Error, Ledger, NewSlot, Scope};
use zeroize::Zeroizing;

use super::{KEYSTORE, get, migrate, name, put, simulated, verified};

type Hook = Box<dyn FnOnce() + Send>;

/// A keystore in which something happens right before one of its calls.
#[derive(Clone, Default)]
struct Hooked {
    inner: MemoryKeystore,
    before_get: Arc<Mutex<Option<Hook>>>,
    before_delete: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

fn set(hook: &Mutex<Option<Hook>>, what: impl FnOnce() + Send + 'static) {
    *hook.lock().unwrap() = Some(Box::new(what));
}

fn fire(hook: &Mutex<Option<Hook>>) {
    let hook = hook.lock().unwrap().take();
    if let Some(hook) = hook {
        hook();
    }
}

impl Keystore for Hooked {
    fn probe(&self) -> Result<(), KeystoreError> {
        self.inner.probe()
    }

    fn put(&self, account: &str, bytes: &[u8]) -> Result<(), KeystoreError> {
        self.inner.put(account, bytes)
    }

    fn get(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        fire(&self.before_get);
        self.inner.get(account)
    }

    fn delete(&self, account: &str) -> Result<(), KeystoreError> {
        fire(&self.before_delete);
        self.inner.delete(account)
    }

    fn list(&self, group: &str) -> Result<Option<Vec<String>>, KeystoreError> {
        self.inner.list(group)
    }
}

fn hooked() -> (Hooked, SimDisk, Arc<Ledger>) {
    let (keystore, disk) = (Hooked::default(), SimDisk::new());
    let config = simulated(disk.clone(), &keystore.inner, 1, &ManualClock::default());
    let config = config.keystore(Arc::new(keystore.clone()));
    let ledger = Ledger::init_on(config, NewSlot::file("machine"), KEYSTORE).unwrap();
    put(&ledger, "a", "one");
    put(&ledger, "b", "other");
    (keystore, disk, Arc::new(ledger))
}

/// Shreds `a` in a thread of its own, as another client of a daemon would.
fn shredding(ledger: &Arc<Ledger>) -> impl FnOnce() + Send + 'static {
    let ledger = Arc::clone(ledger);
    move || {
        let shred = move || ledger.vault(Scope::global()).shred(&name("a"), Versions::All, None).unwrap();
        std::thread::spawn(shred).join().unwrap();
    }
}

#[test]
fn what_is_shredded_while_it_is_read_is_shredded_and_not_lost() {
    let (keystore, _, ledger) = hooked();
    set(&keystore.before_get, shredding(&ledger));
    let read = ledger.vault(Scope::global()).get(&name("a"));
    assert!(matches!(read, Err(Error::Vault(VaultError::Shredded { version: 1, .. }))), "{read:?}");
    assert_eq!(get(&ledger, "b"), "other");
}

#[test]
fn what_is_shredded_while_it_is_verified_is_no_finding() {
    let (keystore, _, ledger) = hooked();
    set(&keystore.before_get, shredding(&ledger));
    let report = verified(&ledger);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(keystore.before_get.lock().unwrap().is_none(), "it came to pass");
}

#[test]
fn what_is_shredded_while_it_is_moved_does_not_stop_the_move() {
    let (keystore, _, ledger) = hooked();
    set(&keystore.before_get, shredding(&ledger));
    let moved = migrate(&ledger, BackendKind::EncryptedFile).unwrap();
    assert_eq!(moved.envelopes, 1);
    assert!(verified(&ledger).findings.is_empty());
}

#[test]
fn a_shred_destroys_the_key_before_it_asks_the_backend() {
    let (keystore, disk, ledger) = hooked();
    let table = std::path::Path::new("/home/keys/table-1.a");
    let before = disk.contents(table).unwrap();
    let seen = Arc::new(Mutex::new(None));
    let (at_delete, looked) = (Arc::clone(&seen), disk.clone());
    set(&keystore.before_delete, move || *at_delete.lock().unwrap() = looked.contents(table));
    ledger.vault(Scope::global()).shred(&name("a"), Versions::All, None).unwrap();
    let seen = seen.lock().unwrap().take().unwrap();
    let after = disk.contents(table).unwrap();
    let header = 128;
    assert_ne!(seen[header..], before[header..], "the backend was asked while the key was still there");
    assert_eq!(seen[header..], after[header..]);
}

#[test]
fn a_move_whose_former_backend_is_gone_for_good_can_be_ended() {
    let (keystore, _, ledger) = hooked();
    // It goes away when the first of the former objects is to be removed.
    let gone = keystore.inner.clone();
    set(&keystore.before_delete, move || gone.set_left(Some(0)));
    assert!(migrate(&ledger, BackendKind::EncryptedFile).is_err());
    let state = ledger.backends().state().unwrap();
    assert_eq!((state.kind, state.other, state.switched), (BackendKind::EncryptedFile, Some(KEYSTORE), true));
    assert_eq!([get(&ledger, "a"), get(&ledger, "b")], ["one", "other"]);
    assert!(migrate(&ledger, BackendKind::Ledger).is_err(), "it is asked for first");
    ledger.backends().leave_former().unwrap();
    assert_eq!(ledger.backends().state().unwrap().other, None);
    assert_eq!(migrate(&ledger, BackendKind::Ledger).unwrap().envelopes, 2);
    assert_eq!([get(&ledger, "a"), get(&ledger, "b")], ["one", "other"]);
    assert_eq!(keystore.inner.items().len(), 2, "left there, sealed");
}
