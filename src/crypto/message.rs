//! The key of one sealed message, which may be given away without the key that seals the others.
//!
//! `XChaCha20` (draft-irtf-cfrg-xchacha-03) first makes a key of its own for every nonce: `HChaCha20` over the secret and
//! the nonce's first 16 bytes. What follows is ChaCha20-Poly1305 (RFC 8439) under that key. `HChaCha20` is a
//! pseudorandom function: its outputs say nothing about the secret nor about each other. As nonces here are random,
//! no two messages share one, and the key of one opens no other.
//!
//! What it opens is what was sealed, unless whoever sealed it prepared a text that opens in two ways:
//! ChaCha20-Poly1305 does not commit to its key, and the commitment beside a frame is to the secret, which stays
//! hidden. Afterwards nobody can find a second key for a given message: its tag would have to be hit by chance.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

use super::{Key, NONCE_LEN, OpenError, TAG_LEN};

/// The key of one message.
pub struct MessageKey(Key);

impl std::fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageKey(..)")
    }
}

impl MessageKey {
    /// The key of the message that an `XChaCha20` key sealed with a nonce.
    #[must_use]
    pub fn of(seal: &Key, nonce: &[u8; NONCE_LEN]) -> Self {
        let front: [u8; 16] = *nonce.first_chunk().unwrap_or(&[0; 16]);
        let mut own: [u8; 32] = chacha20::hchacha::<chacha20::R20>(seal.expose().into(), &front.into()).into();
        Self(Key::from_bytes(&mut own))
    }

    /// A key that was given away.
    #[must_use]
    pub const fn from_key(key: Key) -> Self {
        Self(key)
    }

    /// The key itself, to be given away.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Opens the message.
    ///
    /// # Errors
    /// [`OpenError::Tag`] where it is another message's key, or anything was altered.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut short = [0; 12];
        if let (Some(place), Some(back)) = (short.last_chunk_mut::<8>(), nonce.last_chunk::<8>()) {
            *place = *back;
        }
        let mut plain = Zeroizing::new(sealed.to_vec());
        ChaCha20Poly1305::new(self.0.expose().into())
            .decrypt_inout_detached(&Nonce::from(short), aad, plain.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| OpenError::Tag)?;
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};
    use proptest::prelude::*;

    use super::*;

    /// draft-irtf-cfrg-xchacha-03, section 2.2.1.
    #[test]
    fn the_key_of_the_draft() {
        let seal: Vec<u8> = (0..32).collect();
        let mut nonce = [0; NONCE_LEN];
        nonce[..16].copy_from_slice(&[0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0, 0x31, 0x41, 0x59, 0x27]);
        let key = MessageKey::of(&Key::from_slice(&seal).unwrap(), &nonce);
        let hash = crate::crypto::Hash(*key.expose());
        assert_eq!(hash.to_string(), "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
        assert_eq!(format!("{key:?}"), "MessageKey(..)");
    }

    proptest! {
        #[test]
        fn it_opens_its_message_and_no_other(
            seal in any::<[u8; 32]>(), nonce in any::<[u8; 24]>(), other in any::<[u8; 24]>(),
            text in proptest::collection::vec(any::<u8>(), 0..200), bit in any::<usize>(),
        ) {
            let mut sealed = text.clone();
            let tag: [u8; TAG_LEN] = XChaCha20Poly1305::new(&seal.into())
                .encrypt_inout_detached(&XNonce::from(nonce), b"aad", sealed.as_mut_slice().into())
                .unwrap()
                .into();
            let seal = Key::from_slice(&seal).unwrap();
            let key = MessageKey::of(&seal, &nonce);
            prop_assert_eq!(&*key.open(&nonce, b"aad", &sealed, &tag).unwrap(), &text);
            prop_assert!(key.open(&nonce, b"aae", &sealed, &tag).is_err());
            let mut wrong = tag;
            wrong[bit % TAG_LEN] ^= 1 << (bit % 8);
            prop_assert!(key.open(&nonce, b"aad", &sealed, &wrong).is_err());
            prop_assert!(MessageKey::of(&seal, &other).open(&nonce, b"aad", &sealed, &tag).is_err());
        }
    }
}
