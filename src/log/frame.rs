//! One frame: 160 bytes of clear header, the sealed body, a 16-byte tag, a 32-byte hash.
//!
//! The layout is FORMAT.md's; the constants below are derived from it and pinned by a golden test.

use std::cell::RefCell;

use crate::base::bytes::{Reader, newer};
use crate::base::limits::BODY_MAX;
use crate::base::{LedgerId, Timestamp};
use crate::crypto::{Hash, Hasher, MessageKey, NONCE_LEN, OpenError, Opener, Sealed, TAG_LEN, labels};

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"PLFR";
/// Version of the frame format.
pub const VERSION: u16 = 1;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 160;
/// Length of the hash behind the tag in bytes.
pub const HASH_LEN: usize = 32;
/// Bytes of a frame beside its body.
pub const FRAME_OVERHEAD: usize = HEADER_LEN + TAG_LEN + HASH_LEN;
const COMMITMENT_AT: usize = 120;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the frame is cut short: {needed} bytes needed")]
    Short {
        /// Bytes that the frame needs in all, as far as is known.
        needed: usize,
    },
    /// The first bytes are not a frame's.
    #[error("no frame begins here")]
    Magic,
    /// The format version is not known.
    #[error("frame format version {0} is not known to this program")]
    Version(u16),
    /// Reserved bytes are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// The body is longer than any body may be.
    #[error("a body of {0} bytes is longer than any may be")]
    BodyLength(u32),
    /// The place in the batch does not lie within the batch.
    #[error("the frame's place in its batch is impossible")]
    Batch,
    /// The hash does not belong to the bytes.
    #[error("the frame's hash does not match its bytes")]
    Hash,
}

/// The clear header of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Sequence number, from 0, without gaps.
    pub seq: u64,
    /// Hash of the frame before, or the genesis value.
    pub prev: Hash,
    /// When, never before the frame before.
    pub time: Timestamp,
    /// Sequence number of the first frame that was synced together with this one.
    pub group_start: u64,
    /// Kind number of the event.
    pub kind: u16,
    /// Schema version of the event.
    pub schema: u16,
    /// Epoch whose key seals the body.
    pub epoch: u32,
    /// Place in the batch, from 0.
    pub batch_index: u16,
    /// Frames in the batch, at least 1.
    pub batch_len: u16,
    /// Length of the body in bytes.
    pub body_len: u32,
    /// Nonce of the seal.
    pub nonce: [u8; NONCE_LEN],
    /// Key commitment of the seal.
    pub commitment: [u8; 32],
}

/// The version of the frame format that begins here, where a newer program wrote it.
pub(crate) fn newer_version(bytes: &[u8]) -> Option<u16> {
    let most = bytes.get(..FRAME_OVERHEAD + BODY_MAX).unwrap_or(bytes);
    newer(most, MAGIC, VERSION, |bytes| Frame::parse(bytes).is_ok())
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&[0; 2]);
        put(self.ledger_id.as_bytes());
        put(&self.seq.to_le_bytes());
        put(&self.prev.0);
        put(&self.time.as_millis().to_le_bytes());
        put(&self.group_start.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.schema.to_le_bytes());
        put(&self.epoch.to_le_bytes());
        put(&self.batch_index.to_le_bytes());
        put(&self.batch_len.to_le_bytes());
        put(&self.body_len.to_le_bytes());
        put(&self.nonce);
        put(&self.commitment);
        out
    }

    /// Reads a header; what parses re-encodes to the same bytes.
    ///
    /// # Errors
    /// [`FrameError`] for anything that [`Header::encode`] would not have written.
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader(bytes);
        let short = FrameError::Short { needed: HEADER_LEN };
        let magic: [u8; 4] = reader.take().ok_or(short)?;
        if magic != MAGIC {
            return Err(FrameError::Magic);
        }
        if bytes.len() < HEADER_LEN {
            return Err(short);
        }
        let version = reader.u16().ok_or(short)?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let reserved = reader.u16().ok_or(short)?;
        let header = Self {
            ledger_id: LedgerId::from_bytes(reader.take().ok_or(short)?),
            seq: reader.u64().ok_or(short)?,
            prev: Hash(reader.take().ok_or(short)?),
            time: Timestamp::from_millis(reader.u64().ok_or(short)?),
            group_start: reader.u64().ok_or(short)?,
            kind: reader.u16().ok_or(short)?,
            schema: reader.u16().ok_or(short)?,
            epoch: reader.u32().ok_or(short)?,
            batch_index: reader.u16().ok_or(short)?,
            batch_len: reader.u16().ok_or(short)?,
            body_len: reader.u32().ok_or(short)?,
            nonce: reader.take().ok_or(short)?,
            commitment: reader.take().ok_or(short)?,
        };
        let tail: [u8; 8] = reader.take().ok_or(short)?;
        if reserved != 0 || tail != [0; 8] {
            return Err(FrameError::Reserved);
        }
        if header.body_len as usize > BODY_MAX {
            return Err(FrameError::BodyLength(header.body_len));
        }
        let first = header.seq.checked_sub(u64::from(header.batch_index));
        let sound = header.batch_index < header.batch_len && first.is_some_and(|first| header.group_start <= first);
        if sound { Ok(header) } else { Err(FrameError::Batch) }
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        FRAME_OVERHEAD + self.body_len as usize
    }
}

/// A parsed frame whose hash matches its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The clear header.
    pub header: Header,
    /// The frame's hash: what the next frame must name as its predecessor.
    pub hash: Hash,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Parses the frame at the beginning of `bytes` and checks its hash. Needs no key.
    ///
    /// # Errors
    /// [`FrameError`] where no whole, undamaged frame begins here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        Self::parse_from(Header::parse(bytes)?, bytes)
    }

    /// As [`Frame::parse`], where the header was read.
    pub(crate) fn parse_from(header: Header, bytes: &'a [u8]) -> Result<Self, FrameError> {
        let needed = header.frame_len();
        let bytes = bytes.get(..needed).ok_or(FrameError::Short { needed })?;
        let (covered, stored) = bytes.split_last_chunk::<HASH_LEN>().ok_or(FrameError::Short { needed })?;
        let hash = frame_hash(covered);
        if hash.0 == *stored { Ok(Self { header, hash, bytes }) } else { Err(FrameError::Hash) }
    }

    /// Whether the bytes of one frame, as its header gives their length, end with their hash.
    pub(crate) fn hash_matches(bytes: &[u8]) -> bool {
        bytes.split_last_chunk::<HASH_LEN>().is_some_and(|(covered, stored)| frame_hash(covered).0 == *stored)
    }

    /// Parses a frame whose hash was checked a moment ago, as [`super::Journal::read`] does.
    ///
    /// # Errors
    /// [`FrameError`] where no whole frame begins here.
    pub(crate) fn parse_checked(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let header = Header::parse(bytes)?;
        let needed = header.frame_len();
        let short = FrameError::Short { needed };
        let bytes = bytes.get(..needed).ok_or(short)?;
        let hash = Hash(*bytes.last_chunk().ok_or(short)?);
        Ok(Self { header, hash, bytes })
    }

    /// The whole frame as stored.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks the key commitment, then opens the body.
    ///
    /// # Errors
    /// [`OpenError`] where another key sealed it, or the ciphertext was altered and re-hashed.
    pub fn open(&self, opener: &Opener) -> Result<zeroize::Zeroizing<Vec<u8>>, OpenError> {
        let (header, rest) = self.bytes.split_first_chunk::<HEADER_LEN>().ok_or(OpenError::Short)?;
        let (rest, _) = rest.split_last_chunk::<HASH_LEN>().ok_or(OpenError::Short)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Short)?;
        let mut plain = zeroize::Zeroizing::new(body.to_vec());
        let sealed = Sealed { commitment: self.header.commitment, tag: *tag };
        opener.open(&self.header.nonce, &associated_data(*header), &mut plain, &sealed)?;
        Ok(plain)
    }

    /// Opens the body with the key of this one frame. The commitment, which is to the epoch's key, stays unchecked.
    ///
    /// # Errors
    /// [`OpenError`] where it is another frame's key.
    pub fn open_alone(&self, key: &MessageKey) -> Result<zeroize::Zeroizing<Vec<u8>>, OpenError> {
        let (header, rest) = self.bytes.split_first_chunk::<HEADER_LEN>().ok_or(OpenError::Short)?;
        let (rest, _) = rest.split_last_chunk::<HASH_LEN>().ok_or(OpenError::Short)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(OpenError::Short)?;
        key.open(&self.header.nonce, &associated_data(*header), body, tag)
    }
}

/// The header as associated data: with the commitment, which is computed from it, as zeros.
fn associated_data(mut header: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    if let Some(place) = header.get_mut(COMMITMENT_AT..COMMITMENT_AT + 32) {
        place.fill(0);
    }
    header
}

fn frame_hash(covered: &[u8]) -> Hash {
    // A hasher of 2 kB is made and copied more slowly than a short frame is hashed.
    thread_local!(static HASHER: RefCell<Hasher> = RefCell::new(Hasher::new(labels::FRAME_HASH)));
    HASHER.with_borrow_mut(|hasher| {
        hasher.reset();
        hasher.update(covered);
        hasher.finish()
    })
}

/// What stands where frame 0 names its predecessor: bound to the ledger.
#[must_use]
pub fn genesis(ledger_id: LedgerId) -> Hash {
    Hash::of(labels::GENESIS, &[ledger_id.as_bytes()])
}

/// What a frame is sealed with, beside its header and body.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// The epoch's keys.
    pub opener: &'a Opener,
    /// A fresh random nonce.
    pub nonce: [u8; NONCE_LEN],
}

/// Seals a body and appends the whole frame to `out`; returns the frame's hash.
///
/// The header's nonce, commitment and body length are filled in here.
pub fn seal(mut header: Header, sealing: &Sealing<'_>, body: &[u8], out: &mut Vec<u8>) -> Hash {
    header.nonce = sealing.nonce;
    header.commitment = [0; 32];
    header.body_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let start = out.len();
    let aad = header.encode();
    out.extend_from_slice(&aad);
    out.extend_from_slice(body);
    let sealed_body = out.get_mut(start + HEADER_LEN..).unwrap_or_default();
    let sealed = sealing.opener.seal(&sealing.nonce, &aad, sealed_body);
    if let Some(place) = out.get_mut(start + COMMITMENT_AT..start + COMMITMENT_AT + 32) {
        place.copy_from_slice(&sealed.commitment);
    }
    out.extend_from_slice(&sealed.tag);
    let hash = frame_hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&hash.0);
    hash
}

#[cfg(test)]
mod tests;
