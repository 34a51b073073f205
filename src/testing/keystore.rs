//! A keystore in memory that can be locked and taken away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::platform::{Absence, Keystore, KeystoreError};

#[derive(Debug, Default, Clone)]
struct Inner {
    items: BTreeMap<String, Vec<u8>>,
    locked: bool,
    absent: bool,
    /// Calls that still succeed.
    left: Option<u64>,
}

/// A keystore in memory. Clones share it; what is put is kept at once.
#[derive(Debug, Default, Clone)]
pub struct MemoryKeystore {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryKeystore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks or unlocks it.
    pub fn set_locked(&self, locked: bool) {
        self.inner().locked = locked;
    }

    /// Takes it away, or brings it back with what it held.
    pub fn set_absent(&self, absent: bool) {
        self.inner().absent = absent;
    }

    /// Takes it away after so many calls that succeed.
    pub fn set_left(&self, calls: Option<u64>) {
        self.inner().left = calls;
    }

    /// Another keystore that holds the same.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self { inner: Arc::new(Mutex::new(self.inner().clone())) }
    }

    /// What it holds, by account.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Vec<u8>> {
        self.inner().items.clone()
    }

    /// Puts something there as another program could.
    pub fn tamper(&self, account: &str, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.inner().items.insert(account.to_owned(), bytes.to_vec()),
            None => self.inner().items.remove(account),
        };
    }

    fn open(&self) -> Result<MutexGuard<'_, Inner>, KeystoreError> {
        let mut inner = self.inner();
        let gone = match &mut inner.left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if inner.absent || gone {
            return Err(KeystoreError::Absent(Absence::Service));
        }
        if inner.locked { Err(KeystoreError::Locked) } else { Ok(inner) }
    }
}

impl Keystore for MemoryKeystore {
    fn probe(&self) -> Result<(), KeystoreError> {
        self.open().map(|_| ())
    }

    fn put(&self, account: &str, bytes: &[u8]) -> Result<(), KeystoreError> {
        self.open()?.items.insert(account.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        Ok(self.open()?.items.get(account).cloned().map(Zeroizing::new))
    }

    fn get_foreign(&self, service: &str, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        self.get(&format!("{service} {key}"))
    }

    fn delete(&self, account: &str) -> Result<(), KeystoreError> {
        self.open()?.items.remove(account);
        Ok(())
    }

    fn list(&self, group: &str) -> Result<Option<Vec<String>>, KeystoreError> {
        let inner = self.open()?;
        let within =
            |account: &String| account.rsplit_once('/').filter(|(of, _)| *of == group).map(|(_, name)| name.to_owned());
        Ok(Some(inner.items.keys().filter_map(within).collect()))
    }
}
