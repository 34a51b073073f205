//! BLAKE3 for chains, digests and MACs.

use std::fmt;

use zeroize::Zeroize;

use crate::base::KeyedPrint;

use super::Key;

/// A 32-byte BLAKE3 output: a frame's hash, a digest or a state root (stored).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The first half, as a keyed fingerprint is shown. Only for hashes under a key.
    #[must_use]
    pub fn print(&self) -> KeyedPrint {
        KeyedPrint::from_bytes(self.0.first_chunk().copied().unwrap_or_default())
    }

    /// `derive_key` hash of the parts run together, under a context from [`super::labels`].
    /// The parts must have fixed lengths or be unambiguous by themselves.
    #[must_use]
    pub fn of(context: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new(context);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// [`Hash::of`] a secret. What the computation keeps of it, up to a block of 64 bytes in each copy of its state,
    /// is wiped from the stack.
    #[must_use]
    pub fn of_secret(context: &str, secret: &[u8]) -> Self {
        let hash = hash_of_secret(context, secret);
        wipe_stack();
        hash
    }

    /// The bytes as stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

crate::base::bytes_or_hex!(Hash, 32);

impl std::str::FromStr for Hash {
    type Err = crate::base::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::base::hex_array(text).map(Self)
    }
}

/// In a frame of its own, which [`wipe_stack`] then lies over.
#[inline(never)]
fn hash_of_secret(context: &str, secret: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(secret);
    // The first 32 bytes of the extended output are the hash; this reader can be wiped.
    let mut reader = hasher.finalize_xof();
    let mut hash = Hash([0; 32]);
    reader.fill(&mut hash.0);
    hasher.zeroize();
    reader.zeroize();
    hash
}

/// Bytes of the stack that hashing may have used: a hasher of some 1,900 bytes, and the calls below it.
const STACK_USED: usize = 8192;

/// Overwrites what calls that returned have left of the stack.
#[inline(never)]
fn wipe_stack() {
    std::hint::black_box(&[0_u8; STACK_USED]);
}

/// A running BLAKE3 `derive_key` hash.
#[derive(Clone)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts a hash under a context from [`super::labels`].
    #[must_use]
    pub fn new(context: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(context))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Forgets what was added, and keeps the context.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// The hash of everything added so far.
    #[must_use]
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(..)")
    }
}

/// A running digest that other programs know, too, for the custody of files: BLAKE3 without a context, as
/// `b3sum` gives it, or SHA-256.
#[derive(Clone)]
pub enum FileDigest {
    /// BLAKE3.
    Blake3(Box<blake3::Hasher>),
    /// SHA-256 (FIPS 180-4).
    Sha256(sha2::Sha256),
}

impl FileDigest {
    /// A BLAKE3 digest of nothing so far.
    #[must_use]
    pub fn blake3() -> Self {
        Self::Blake3(Box::default())
    }

    /// A SHA-256 digest of nothing so far.
    #[must_use]
    pub fn sha256() -> Self {
        Self::Sha256(<sha2::Sha256 as sha2::Digest>::new())
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
            Self::Sha256(hasher) => sha2::Digest::update(hasher, bytes),
        }
    }

    /// The digest of everything added.
    #[must_use]
    pub fn finish(self) -> Hash {
        match self {
            Self::Blake3(hasher) => Hash(*hasher.finalize().as_bytes()),
            Self::Sha256(hasher) => Hash(sha2::Digest::finalize(hasher).into()),
        }
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileDigest(..)")
    }
}

/// BLAKE3 keyed hash of the parts run together: a MAC.
#[must_use]
pub fn keyed_hash(key: &Key, parts: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    for part in parts {
        hasher.update(part);
    }
    Hash(*hasher.finalize().as_bytes())
}

/// Whether a MAC is right, in constant time.
#[must_use]
pub fn verify_mac(key: &Key, parts: &[&[u8]], mac: &[u8; 32]) -> bool {
    subtle::ConstantTimeEq::ct_eq(&keyed_hash(key, parts).0[..], &mac[..]).into()
}

/// A running BLAKE3 keyed hash, which takes text as it is written.
pub struct KeyedHasher(blake3::Hasher);

impl KeyedHasher {
    /// Starts a hash under a key.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self(blake3::Hasher::new_keyed(key.expose()))
    }

    /// The hash of everything written so far.
    #[must_use]
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

impl fmt::Write for KeyedHasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for KeyedHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedHasher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_secret_is_that_of_its_bytes() {
        for len in [0, 1, 46, 64, 65, 1024, 5000] {
            let secret = vec![7; len];
            assert_eq!(Hash::of_secret("test", &secret), Hash::of("test", &[&secret]), "{len} bytes");
        }
    }
}
