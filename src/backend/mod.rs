//! Where sealed envelopes are kept when not in the log itself.
//!
//! An object's id is the number of its slot in the key table: one for each version of a secret, never used for
//! another one, and it shows nobody a name. What is kept is an envelope, sealed for its place; the event knows its
//! digest. A backend therefore needs no trust: what it loses or swaps is found.
//!
//! | kind | where |
//! |---|---|
//! | `ledger` | in the events; no backend stands here for it |
//! | `encrypted_file` | [`FileBackend`]: a small file for each envelope below `objects/` |
//! | `linux_secret_service`, `macos_keychain` | [`KeystoreBackend`]: an item for each in the system's keystore |
//! | `windows_dpapi` | none yet: no well-kept library seals files by DPAPI without `unsafe` code of ours |

mod files;
mod keystore;
mod object;

use std::fmt;
use std::path::PathBuf;

use crate::base::BackendKind;
use crate::platform::KeystoreError;
use crate::store::StoreError;

pub use files::FileBackend;
pub use keystore::KeystoreBackend;
#[doc(hidden)]
pub use object::fuzz_object;

/// Why a backend did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keystore did not do it.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// An object is not what it should be.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// This system has no such backend.
    #[error("backend `{kind}` is not to be had on this system")]
    OtherSystem {
        /// Which.
        kind: BackendKind,
    },
    /// The program cannot serve this backend.
    #[error("this build cannot serve backend `windows_dpapi`: no well-kept library for it is at hand")]
    NoDpapi,
    /// What was read back is not what was written.
    #[error("backend `{kind}` did not give back what was written to object {slot}")]
    NotKept {
        /// Which.
        kind: BackendKind,
        /// The object.
        slot: u64,
    },
}

/// A place for sealed envelopes. A put or delete that returned is durable, as far as the place can say.
pub trait BlobBackend: Send + Sync + fmt::Debug + 'static {
    /// Which kind it is.
    fn kind(&self) -> BackendKind;
    /// Whether envelopes could be kept and read now.
    ///
    /// # Errors
    /// [`BackendError`] with what stands in the way.
    fn probe(&self) -> Result<(), BackendError>;
    /// Keeps an envelope, in place of what stood there: all of it or nothing.
    ///
    /// # Errors
    /// [`BackendError`]; what stood there before may still do.
    fn put(&self, slot: u64, envelope: &[u8]) -> Result<(), BackendError>;
    /// The envelope of a slot, if it is there.
    ///
    /// # Errors
    /// [`BackendError`], also where the place cannot say.
    fn get(&self, slot: u64) -> Result<Option<Vec<u8>>, BackendError>;
    /// Removes an envelope; nothing there is no fault.
    ///
    /// # Errors
    /// [`BackendError`].
    fn delete(&self, slot: u64) -> Result<(), BackendError>;
    /// The slots that have an object, sorted; none where the place cannot list.
    ///
    /// # Errors
    /// [`BackendError`].
    fn list(&self) -> Result<Option<Vec<u64>>, BackendError>;
}
