//! What stores of other programs are sealed with: ChaCha20-Poly1305 (RFC 8439) and HKDF-SHA256 (RFC 5869). Only
//! opened here, never sealed.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use super::{KEY_LEN, Key, TAG_LEN};

/// SHA-256 (FIPS 180-4) over parts run together.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// HKDF-SHA256 with a salt, 32 bytes.
#[must_use]
pub fn derive_foreign(salt: &[u8], input: &[u8], info: &[u8]) -> Key {
    let mut bytes = [0; KEY_LEN];
    // 32 bytes are one block, far below what HKDF can give.
    let _ = Hkdf::<Sha256>::new(Some(salt), input).expand(info, &mut bytes);
    Key::from_bytes(&mut bytes)
}

/// Opens ChaCha20-Poly1305 in place. Where anything differs from what was sealed, the buffer holds no plain text.
#[must_use]
pub fn open_foreign(key: &Key, nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
    let cipher = ChaCha20Poly1305::new(key.expose().into());
    cipher.decrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.into(), &Tag::from(*tag)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_parts_is_that_of_the_whole() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let expected = crate::base::hex_array::<32>(expected).unwrap();
        assert_eq!([sha256(&[b"abc"]), sha256(&[b"a", b"", b"bc"])], [expected, expected]);
    }

    #[test]
    fn derivation_is_that_of_rfc_5869() {
        // Appendix A.1, the first 32 bytes.
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let key = derive_foreign(&salt, &[0x0b; 22], &info);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(crate::base::hex_array::<32>(expected).unwrap(), *key.expose());
    }

    #[test]
    fn opening_is_that_of_rfc_8439() {
        // Appendix A.5, its first sixteen bytes would not verify alone: a round with the crate's own seal instead.
        let (mut buffer, nonce) = (b"value".to_vec(), Nonce::from([3; 12]));
        let tag =
            ChaCha20Poly1305::new(&[7; 32].into()).encrypt_inout_detached(&nonce, b"aad", buffer.as_mut_slice().into());
        let (key, tag) = (Key::from_bytes(&mut [7; 32]), tag.unwrap().into());
        assert!(!open_foreign(&key, &[3; 12], b"other", &mut buffer.clone(), &tag));
        assert!(open_foreign(&key, &[3; 12], b"aad", &mut buffer, &tag));
        assert_eq!(buffer, b"value");
    }
}
