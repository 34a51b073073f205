//! Secret bytes: wiped when dropped, never printed (invariant I6).

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret's value in memory: wiped on drop, compared in constant time, shown by length alone.
///
/// ```
/// use palyra_ledger::SecretBytes;
/// let value = SecretBytes::new(b"sk-live-0123".to_vec());
/// assert_eq!(value.expose(), b"sk-live-0123");
/// assert_eq!(format!("{value:?}"), "SecretBytes(12 bytes)");
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Takes the bytes over; a vector with spare room is copied once and its old room wiped.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let exact = bytes.as_slice().into();
        bytes.zeroize();
        Self(exact)
    }

    /// The bytes themselves. Do not print, log or store what this returns.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&*self.0, &*other.0).into()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}
