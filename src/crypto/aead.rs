//! XChaCha20-Poly1305 with a BLAKE3 key commitment, checked before anything is opened.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) takes 24-byte nonces, so that random ones never
//! repeat in practice, even after an old backup is restored. It does not commit to its key: one
//! ciphertext can open under two keys. Every seal here therefore carries a BLAKE3 keyed hash over
//! nonce, associated data and tag under a second key derived from the same secret.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::{Key, keyed_hash, labels, verify_mac};

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 24;
/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;
/// Length of a key commitment in bytes.
pub const COMMITMENT_LEN: usize = 32;
/// Bytes that a tag adds to the plain text.
pub const OVERHEAD: usize = TAG_LEN;
/// Bytes that [`seal_sealed`] adds to the plain text: nonce, commitment and tag.
pub const SEALED_OVERHEAD: usize = NONCE_LEN + COMMITMENT_LEN + TAG_LEN;

/// Why sealed bytes did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The commitment belongs to another key or other bytes: nothing was decrypted.
    #[error("the key commitment does not match: another key sealed this, or it was altered")]
    Commitment,
    /// The tag is wrong although the commitment matched: the ciphertext was altered.
    #[error("the authentication tag does not match: the sealed bytes were altered")]
    Tag,
    /// Too short to be a sealed object.
    #[error("the sealed bytes are too short")]
    Short,
}

/// A nonce, a commitment and a tag: what stands beside a detached ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Key commitment over nonce, associated data and tag.
    pub commitment: [u8; COMMITMENT_LEN],
    /// Poly1305 tag.
    pub tag: [u8; TAG_LEN],
}

/// Seals and opens under one secret: the AEAD key and the commitment key derived from it.
pub struct Opener {
    cipher: XChaCha20Poly1305,
    commit: Key,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(..)")
    }
}

impl Opener {
    /// Derives both keys from `secret` under the two contexts.
    #[must_use]
    pub fn new(secret: &Key, seal_context: &str, commit_context: &str) -> Self {
        let seal = secret.subkey(seal_context);
        Self { cipher: XChaCha20Poly1305::new(seal.expose().into()), commit: secret.subkey(commit_context) }
    }

    /// Derives both keys from a context and parts in one step; see [`Key::derive`] for the parts.
    #[must_use]
    pub fn derive(context: &str, parts: &[&[u8]]) -> Self {
        let [seal, commit] = Key::derive_pair(context, parts);
        Self { cipher: XChaCha20Poly1305::new(seal.expose().into()), commit }
    }

    /// For small wrapped objects: [`labels::WRAP_SEAL`] and [`labels::WRAP_COMMIT`].
    #[must_use]
    pub fn wrapping(secret: &Key) -> Self {
        Self::new(secret, labels::WRAP_SEAL, labels::WRAP_COMMIT)
    }

    /// Encrypts in place.
    #[must_use]
    pub fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], buffer: &mut [u8]) -> Sealed {
        let tag = self.seal_uncommitted(nonce, aad, buffer);
        Sealed { commitment: keyed_hash(&self.commit, &[nonce, aad, &tag]).0, tag }
    }

    /// Encrypts in place without a commitment, for a place whose key is committed elsewhere.
    #[must_use]
    #[allow(clippy::missing_panics_doc)]
    pub fn seal_uncommitted(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        // Never met: the one error of this call is a plain text beyond 256 GiB; bodies are bounded far below.
        #[allow(clippy::expect_used)]
        self.cipher
            .encrypt_inout_detached(&XNonce::from(*nonce), aad, buffer.into())
            .expect("plain text below the cipher's limit")
            .into()
    }

    /// Opens what [`Opener::seal_uncommitted`] made.
    ///
    /// # Errors
    /// [`OpenError::Tag`] where anything differs from what was sealed.
    pub fn open_uncommitted(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), OpenError> {
        self.cipher
            .decrypt_inout_detached(&XNonce::from(*nonce), aad, buffer.into(), &Tag::from(*tag))
            .map_err(|_| OpenError::Tag)
    }

    /// Checks the commitment, then decrypts in place. On error the buffer holds no plain text.
    ///
    /// # Errors
    /// [`OpenError`] where key, nonce, associated data or ciphertext differ from what was sealed.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        sealed: &Sealed,
    ) -> Result<(), OpenError> {
        if !verify_mac(&self.commit, &[nonce, aad, &sealed.tag], &sealed.commitment) {
            return Err(OpenError::Commitment);
        }
        self.cipher
            .decrypt_inout_detached(&XNonce::from(*nonce), aad, buffer.into(), &Tag::from(sealed.tag))
            .map_err(|_| OpenError::Tag)
    }
}

/// Seals a small object as one string: nonce (24), commitment (32), ciphertext, tag (16).
#[must_use]
pub fn seal_sealed(opener: &Opener, nonce: &[u8; NONCE_LEN], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + SEALED_OVERHEAD);
    out.extend_from_slice(nonce);
    out.extend_from_slice(&[0; COMMITMENT_LEN]);
    out.extend_from_slice(plain);
    let (head, body) = out.split_at_mut(NONCE_LEN + COMMITMENT_LEN);
    let sealed = opener.seal(nonce, aad, body);
    if let Some(place) = head.get_mut(NONCE_LEN..) {
        place.copy_from_slice(&sealed.commitment);
    }
    out.extend_from_slice(&sealed.tag);
    out
}

/// Opens what [`seal_sealed`] made.
///
/// # Errors
/// [`OpenError`] where the bytes are short, altered, or sealed by another key.
pub fn open_sealed(opener: &Opener, aad: &[u8], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Short)?;
    let (commitment, rest) = rest.split_first_chunk::<COMMITMENT_LEN>().ok_or(OpenError::Short)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Short)?;
    let mut plain = Zeroizing::new(body.to_vec());
    opener.open(nonce, aad, &mut plain, &Sealed { commitment: *commitment, tag: *tag })?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opener(byte: u8) -> Opener {
        Opener::wrapping(&Key::from_bytes(&mut [byte; 32]))
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let nonce = [7; NONCE_LEN];
        let sealed = seal_sealed(&opener(1), &nonce, b"aad", b"plain");
        assert_eq!(sealed.len(), 5 + SEALED_OVERHEAD);
        assert_eq!(open_sealed(&opener(1), b"aad", &sealed).unwrap().as_slice(), b"plain");
        assert_eq!(open_sealed(&opener(2), b"aad", &sealed), Err(OpenError::Commitment));
        assert_eq!(open_sealed(&opener(1), b"aae", &sealed), Err(OpenError::Commitment));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open_sealed(&opener(1), b"aad", &bad).is_err(), "byte {at}");
        }
        for len in 0..sealed.len() {
            assert!(open_sealed(&opener(1), b"aad", &sealed[..len]).is_err(), "length {len}");
        }
    }
}
