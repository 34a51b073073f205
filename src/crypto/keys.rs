//! Key types: 32 bytes in a box of their own, wiped on drop, no Clone, nothing shown.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::{Random, RandomError};

/// Length of every symmetric key in bytes.
pub const KEY_LEN: usize = 32;

/// A 32-byte symmetric key: boxed so that a move leaves no copy behind, wiped on drop.
///
/// There is no `Clone` and no way to print it; [`Key::expose`] is the one way to the bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Key(Box<[u8; KEY_LEN]>);

impl Key {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// [`RandomError`] where the random source fails.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let mut key = Self(Box::new([0; KEY_LEN]));
        random.fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// Takes over key bytes; the caller's copy is wiped.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; KEY_LEN]) -> Self {
        let key = Self(Box::new(*bytes));
        bytes.zeroize();
        key
    }

    /// Reads key bytes from a slice of exactly 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut array: [u8; KEY_LEN] = bytes.try_into().ok()?;
        Some(Self::from_bytes(&mut array))
    }

    /// BLAKE3 `derive_key` (BLAKE3 paper, section 2.3) with a context from [`super::labels`]; the
    /// parts are each preceded by their length, so that two lists of parts never read the same.
    #[must_use]
    pub fn derive(context: &str, parts: &[&[u8]]) -> Self {
        let [key] = Self::derive_many(context, parts);
        key
    }

    /// Two keys from one derivation: the first 64 bytes of the extended output.
    #[must_use]
    pub(crate) fn derive_pair(context: &str, parts: &[&[u8]]) -> [Self; 2] {
        Self::derive_many(context, parts)
    }

    fn derive_many<const N: usize>(context: &str, parts: &[&[u8]]) -> [Self; N] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut reader = hasher.finalize_xof();
        let keys = std::array::from_fn(|_| {
            let mut key = Self(Box::new([0; KEY_LEN]));
            reader.fill(key.0.as_mut_slice());
            key
        });
        hasher.zeroize();
        reader.zeroize();
        keys
    }

    /// A key derived from this one; see [`Key::derive`].
    #[must_use]
    pub fn subkey(&self, context: &str) -> Self {
        Self::derive(context, &[self.0.as_slice()])
    }

    /// The bytes. Copies of them are the caller's to wipe.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_key_shows_nothing() {
        let key = Key::from_bytes(&mut [0xAB; KEY_LEN]);
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(format!("{:#?}", Some(&key)), "Some(\n    Key(..),\n)");
    }

    #[test]
    fn a_key_that_is_taken_over_is_wiped_where_it_stood() {
        let mut bytes = [0xAB; KEY_LEN];
        assert_eq!(*Key::from_bytes(&mut bytes).expose(), [0xAB; KEY_LEN]);
        assert_eq!(bytes, [0; KEY_LEN]);
    }

    #[test]
    fn parts_of_a_derivation_do_not_run_together() {
        let one = Key::derive("test", &[b"ab", b"c"]);
        let other = Key::derive("test", &[b"a", b"bc"]);
        assert_ne!(one.expose(), other.expose());
    }
}
