//! The keychain of macOS and the credential store of Windows, through `keyring-core`.
//!
//! As thin as can be: no compiler for these systems is at hand where this is written, so that review and the
//! suite of `tests/backend` on such a machine carry it.

use std::sync::OnceLock;

use keyring_core::{Entry, Error};
use zeroize::Zeroizing;

use super::{Keystore, KeystoreError, SERVICE};

/// The native keystore of the system.
#[derive(Debug, Clone, Copy)]
pub struct NativeKeystore;

#[cfg(target_os = "macos")]
fn store() -> Result<std::sync::Arc<keyring_core::CredentialStore>, Error> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(windows)]
fn store() -> Result<std::sync::Arc<keyring_core::CredentialStore>, Error> {
    Ok(windows_native_keyring_store::Store::new()?)
}

fn entry(account: &str) -> Result<Entry, KeystoreError> {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let ready = READY.get_or_init(|| match store() {
        Ok(store) => {
            keyring_core::set_default_store(store);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    });
    ready.clone().map_err(KeystoreError::Failed)?;
    Entry::new(SERVICE, account).map_err(explain)
}

fn explain(error: Error) -> KeystoreError {
    match error {
        Error::NoStorageAccess(_) => KeystoreError::Locked,
        other => KeystoreError::Failed(other.to_string()),
    }
}

impl Keystore for NativeKeystore {
    fn probe(&self) -> Result<(), KeystoreError> {
        self.get("probe").map(|_| ())
    }

    fn put(&self, account: &str, bytes: &[u8]) -> Result<(), KeystoreError> {
        entry(account)?.set_secret(bytes).map_err(explain)
    }

    fn get(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        match entry(account)?.get_secret() {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(explain(error)),
        }
    }

    fn delete(&self, account: &str) -> Result<(), KeystoreError> {
        match entry(account)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(explain(error)),
        }
    }

    fn list(&self, _: &str) -> Result<Option<Vec<String>>, KeystoreError> {
        Ok(None)
    }
}
