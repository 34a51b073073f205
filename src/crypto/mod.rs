//! Cryptography, composed from named crates: XChaCha20-Poly1305, BLAKE3, Argon2id, Ed25519.
//!
//! Nothing here is an algorithm of our own. The room holds key types that wipe themselves, every
//! domain-separation string in one file, committing AEAD, and the hash of the chain.

mod aead;
mod fingerprint;
mod foreign;
mod hash;
mod keys;
pub mod labels;
mod message;
mod sign;
mod stream;

pub use aead::{NONCE_LEN, OVERHEAD, OpenError, Opener, SEALED_OVERHEAD, Sealed, TAG_LEN, open_sealed, seal_sealed};
pub use fingerprint::Fingerprint;
pub use foreign::{derive_foreign, open_foreign, sha256};
pub use hash::{FileDigest, Hash, Hasher, KeyedHasher, keyed_hash, verify_mac};
pub use keys::{KEY_LEN, Key};
pub use message::MessageKey;
pub use sign::{PUBLIC_KEY_LEN, PublicKey, SIGNATURE_LEN, SignError, SigningKey};
pub use stream::{STREAM_NONCE_LEN, StreamOpener, StreamSealer};
