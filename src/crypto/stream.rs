//! A long text sealed in chunks: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over XChaCha20-Poly1305.
//!
//! The nonce of a chunk is a random prefix, the chunk's number and whether it is the last. A chunk that is left
//! out, moved, repeated or taken from another stream does not open, and a stream without its last chunk is found
//! cut. A key is used for one stream alone.

use aead_stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::XChaCha20Poly1305;

use super::{Key, OpenError};

/// Bytes of a stream's nonce; the number of the chunk (4) and the mark of the last (1) are added to it.
pub const STREAM_NONCE_LEN: usize = 19;

/// Seals the chunks of one stream.
pub struct StreamSealer(EncryptorBE32<XChaCha20Poly1305>);

/// Opens the chunks of one stream.
pub struct StreamOpener(DecryptorBE32<XChaCha20Poly1305>);

impl std::fmt::Debug for StreamSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamSealer(..)")
    }
}

impl std::fmt::Debug for StreamOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamOpener(..)")
    }
}

impl StreamSealer {
    /// Begins a stream under a key that no other stream has.
    #[must_use]
    pub fn new(key: &Key, nonce: &[u8; STREAM_NONCE_LEN]) -> Self {
        Self(EncryptorBE32::new(key.expose().into(), nonce.into()))
    }

    /// Seals the next chunk in place; its tag is put behind it.
    ///
    /// # Errors
    /// [`OpenError::Short`] where the stream has as many chunks as can be numbered.
    pub fn next(&mut self, aad: &[u8], chunk: &mut Vec<u8>) -> Result<(), OpenError> {
        self.0.encrypt_next_in_place(aad, chunk).map_err(|_| OpenError::Short)
    }

    /// Seals the last chunk in place.
    ///
    /// # Errors
    /// As [`StreamSealer::next`].
    pub fn last(self, aad: &[u8], chunk: &mut Vec<u8>) -> Result<(), OpenError> {
        self.0.encrypt_last_in_place(aad, chunk).map_err(|_| OpenError::Short)
    }
}

impl StreamOpener {
    /// Begins to open a stream.
    #[must_use]
    pub fn new(key: &Key, nonce: &[u8; STREAM_NONCE_LEN]) -> Self {
        Self(DecryptorBE32::new(key.expose().into(), nonce.into()))
    }

    /// Opens the next chunk in place, and takes its tag off.
    ///
    /// # Errors
    /// [`OpenError::Tag`] where it is not the one that was sealed there.
    pub fn next(&mut self, aad: &[u8], chunk: &mut Vec<u8>) -> Result<(), OpenError> {
        self.0.decrypt_next_in_place(aad, chunk).map_err(|_| OpenError::Tag)
    }

    /// Opens the last chunk in place.
    ///
    /// # Errors
    /// As [`StreamOpener::next`].
    pub fn last(self, aad: &[u8], chunk: &mut Vec<u8>) -> Result<(), OpenError> {
        self.0.decrypt_last_in_place(aad, chunk).map_err(|_| OpenError::Tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut sealer = Some(StreamSealer::new(&Key::from_bytes(&mut [1; 32]), &[2; STREAM_NONCE_LEN]));
        let mut out = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let mut bytes = chunk.to_vec();
            if at + 1 == chunks.len() {
                sealer.take().unwrap().last(b"aad", &mut bytes).unwrap();
            } else {
                sealer.as_mut().unwrap().next(b"aad", &mut bytes).unwrap();
            }
            out.push(bytes);
        }
        out
    }

    fn open(aad: &[u8], chunks: &[Vec<u8>]) -> Result<Vec<u8>, OpenError> {
        let mut opener = StreamOpener::new(&Key::from_bytes(&mut [1; 32]), &[2; STREAM_NONCE_LEN]);
        let mut plain = Vec::new();
        let (last, before) = chunks.split_last().ok_or(OpenError::Short)?;
        for chunk in before {
            let mut chunk = chunk.clone();
            opener.next(aad, &mut chunk)?;
            plain.extend(chunk);
        }
        let mut chunk = last.clone();
        opener.last(aad, &mut chunk)?;
        plain.extend(chunk);
        Ok(plain)
    }

    #[test]
    fn chunks_open_in_their_order_and_to_the_last() {
        let whole = sealed(&[b"one", b"two", b"three"]);
        assert_eq!(open(b"aad", &whole).unwrap(), b"onetwothree");
        assert!(open(b"aae", &whole).is_err());
        assert!(open(b"aad", &whole[..2]).is_err(), "cut");
        assert!(open(b"aad", &[whole[1].clone(), whole[0].clone(), whole[2].clone()]).is_err(), "moved");
        assert!(open(b"aad", &[whole[0].clone(), whole[0].clone(), whole[2].clone()]).is_err(), "repeated");
        assert!(open(b"aad", &[whole[0].clone(), whole[2].clone()]).is_err(), "left out");
    }
}
