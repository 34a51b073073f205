//! The operating system's keystore: small secrets under a name, through well-kept libraries.
//!
//! On Linux it is the Secret Service over the session's D-Bus, on macOS the keychain; elsewhere there is none.
//! No call waits for ever: each has a bound, and a keystore that is locked is an answer and not a prompt. A
//! prompt would need somebody in front of the machine, and the program may run where nobody is.

#[cfg(any(target_os = "macos", windows))]
mod native;
#[cfg(target_os = "linux")]
mod secret_service;
#[cfg(target_os = "linux")]
mod session;

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The name under which every item of the program stands in a keystore.
pub const SERVICE: &str = "palyra-ledger";

/// Why there is no keystore to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The program knows no keystore of this operating system.
    System,
    /// No D-Bus session runs for this user.
    Bus,
    /// No program on the session's bus offers the Secret Service.
    Service,
    /// The Secret Service has no default collection to keep things in.
    Collection,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "this program knows no keystore of this operating system",
            Self::Bus => "no D-Bus session runs for this user",
            Self::Service => "no program on the session's D-Bus offers the Secret Service",
            Self::Collection => "the Secret Service has no default collection",
        })
    }
}

/// Why a keystore did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// There is none.
    #[error("there is no keystore: {0}")]
    Absent(Absence),
    /// It is there and locked.
    #[error("the keystore is locked")]
    Locked,
    /// It did not answer in time.
    #[error("the keystore did not answer within {seconds} s")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// It answered with a fault of its own.
    #[error("the keystore failed: {0}")]
    Failed(String),
}

/// A keystore. An account is `GROUP/NAME`; the name stands behind the last slash.
///
/// Implementations answer within a bound and never ask a person.
pub trait Keystore: Send + Sync + fmt::Debug + 'static {
    /// Whether items could be kept and read now.
    ///
    /// # Errors
    /// [`KeystoreError`] with what stands in the way.
    fn probe(&self) -> Result<(), KeystoreError>;
    /// Keeps bytes under an account, in place of what stood there.
    ///
    /// # Errors
    /// [`KeystoreError`]; what stood there before may still do.
    fn put(&self, account: &str, bytes: &[u8]) -> Result<(), KeystoreError>;
    /// The bytes under an account, if there are any.
    ///
    /// # Errors
    /// [`KeystoreError`], also where a locked keystore cannot say.
    fn get(&self, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError>;
    /// Removes what stands under an account; nothing there is no fault.
    ///
    /// # Errors
    /// [`KeystoreError`].
    fn delete(&self, account: &str) -> Result<(), KeystoreError>;
    /// The names in a group, sorted; none where this keystore cannot list.
    ///
    /// # Errors
    /// [`KeystoreError`].
    fn list(&self, group: &str) -> Result<Option<Vec<String>>, KeystoreError>;
    /// The bytes that another program keeps under its own attributes, if there are any: `service` and `key`. Only
    /// the Secret Service knows such items.
    ///
    /// # Errors
    /// As [`Keystore::get`].
    fn get_foreign(&self, service: &str, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        let _ = (service, key);
        Err(KeystoreError::Absent(Absence::System))
    }
}

/// The keystore of this system. Nothing is connected before it is used.
#[must_use]
pub fn system() -> Arc<dyn Keystore> {
    #[cfg(target_os = "linux")]
    return Arc::new(secret_service::SecretServiceKeystore::default());
    #[cfg(any(target_os = "macos", windows))]
    return Arc::new(native::NativeKeystore);
    #[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
    return Arc::new(NoKeystore);
}

/// A system whose keystore the program does not know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeystore;

impl Keystore for NoKeystore {
    fn probe(&self) -> Result<(), KeystoreError> {
        Err(KeystoreError::Absent(Absence::System))
    }

    fn put(&self, _: &str, _: &[u8]) -> Result<(), KeystoreError> {
        self.probe()
    }

    fn get(&self, _: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
        self.probe().map(|()| None)
    }

    fn delete(&self, _: &str) -> Result<(), KeystoreError> {
        self.probe()
    }

    fn list(&self, _: &str) -> Result<Option<Vec<String>>, KeystoreError> {
        self.probe().map(|()| None)
    }
}

/// Group and name of an account.
#[cfg(target_os = "linux")]
fn split(account: &str) -> (&str, &str) {
    account.rsplit_once('/').unwrap_or(("", account))
}
