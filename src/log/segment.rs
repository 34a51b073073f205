//! Segment files of the journal: a 128-byte header, frames, and once closed a 128-byte trailer.

use crate::base::LedgerId;
use crate::crypto::{Hash, Hasher, labels};

use crate::base::bytes::{Reader, newer};

/// Length of a segment's header in bytes.
pub const SEGMENT_HEADER_LEN: usize = 128;
/// Length of a closed segment's trailer in bytes.
pub const SEGMENT_TRAILER_LEN: usize = 128;
/// First four bytes of a segment.
pub const HEADER_MAGIC: [u8; 4] = *b"PLSG";
/// First four bytes of a trailer.
pub const TRAILER_MAGIC: [u8; 4] = *b"PLST";
pub(crate) const VERSION: u16 = 1;

/// Why bytes are no segment header or trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The bytes end too early.
    #[error("it is cut short")]
    Short,
    /// The first bytes are others.
    #[error("it does not begin as it should")]
    Magic,
    /// The format version is not known.
    #[error("its format version {0} is not known to palyra-ledger {version}", version = env!("CARGO_PKG_VERSION"))]
    Version(u16),
    /// Reserved bytes are not zero, or the check does not match.
    #[error("its check does not match its bytes")]
    Check,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Sequence number of its first frame.
    pub first_seq: u64,
    /// Hash of the frame before that.
    pub prev: Hash,
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
        bytes.extend_from_slice(&HEADER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(self.ledger_id.as_bytes());
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.prev.0);
        bytes.resize(96, 0);
        let check = Hash::of(labels::SEGMENT_HEADER, &[&bytes]);
        bytes.extend_from_slice(&check.0);
        bytes.try_into().unwrap_or([0; SEGMENT_HEADER_LEN])
    }

    /// Whether a newer program wrote a segment's first bytes.
    pub(crate) fn is_newer(bytes: &[u8]) -> bool {
        newer(bytes, HEADER_MAGIC, VERSION, |bytes| Self::parse(bytes).is_ok()).is_some()
    }

    /// Reads a header; what parses re-encodes to the same bytes.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let bytes = bytes.first_chunk::<SEGMENT_HEADER_LEN>().ok_or(SegmentError::Short)?;
        let mut reader = Reader(bytes);
        check_start(&mut reader, HEADER_MAGIC)?;
        let header = Self {
            ledger_id: LedgerId::from_bytes(reader.take().ok_or(SegmentError::Short)?),
            first_seq: reader.u64().ok_or(SegmentError::Short)?,
            prev: Hash(reader.take().ok_or(SegmentError::Short)?),
        };
        if header.encode() == *bytes { Ok(header) } else { Err(SegmentError::Check) }
    }
}

/// The trailer of a closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentTrailer {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Sequence number of the first frame.
    pub first_seq: u64,
    /// Sequence number of the last frame.
    pub last_seq: u64,
    /// Bytes of all frames.
    pub frames_len: u64,
    /// Hash of the last frame.
    pub last_hash: Hash,
    /// Digest over the header and all frames.
    pub digest: Hash,
}

impl SegmentTrailer {
    /// The trailer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_TRAILER_LEN] {
        let mut bytes = Vec::with_capacity(SEGMENT_TRAILER_LEN);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(self.ledger_id.as_bytes());
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.last_seq.to_le_bytes());
        bytes.extend_from_slice(&self.frames_len.to_le_bytes());
        bytes.extend_from_slice(&self.last_hash.0);
        bytes.extend_from_slice(&self.digest.0);
        let check = Hash::of(labels::SEGMENT_HEADER, &[&bytes]);
        bytes.extend(check.0.iter().take(SEGMENT_TRAILER_LEN - bytes.len()));
        bytes.try_into().unwrap_or([0; SEGMENT_TRAILER_LEN])
    }

    /// Reads a trailer; what parses re-encodes to the same bytes.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let bytes = bytes.first_chunk::<SEGMENT_TRAILER_LEN>().ok_or(SegmentError::Short)?;
        let mut reader = Reader(bytes);
        check_start(&mut reader, TRAILER_MAGIC)?;
        let short = SegmentError::Short;
        let trailer = Self {
            ledger_id: LedgerId::from_bytes(reader.take().ok_or(short)?),
            first_seq: reader.u64().ok_or(short)?,
            last_seq: reader.u64().ok_or(short)?,
            frames_len: reader.u64().ok_or(short)?,
            last_hash: Hash(reader.take().ok_or(short)?),
            digest: Hash(reader.take().ok_or(short)?),
        };
        if trailer.encode() == *bytes { Ok(trailer) } else { Err(SegmentError::Check) }
    }
}

fn check_start(reader: &mut Reader<'_>, magic: [u8; 4]) -> Result<(), SegmentError> {
    if reader.take::<4>() != Some(magic) {
        return Err(SegmentError::Magic);
    }
    match reader.u16() {
        Some(VERSION) => {}
        Some(other) => return Err(SegmentError::Version(other)),
        None => return Err(SegmentError::Short),
    }
    if reader.u16() == Some(0) { Ok(()) } else { Err(SegmentError::Check) }
}

/// A running digest over a segment's header and frames.
#[must_use]
pub fn digest() -> Hasher {
    Hasher::new(labels::SEGMENT_DIGEST)
}

/// The file name of the segment that begins with this sequence number.
#[must_use]
pub fn file_name(first_seq: u64) -> String {
    format!("{first_seq:020}.seg")
}

/// The first sequence number that a segment's file name states.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_trailers_have_one_encoding_and_every_byte_counts() {
        let ledger_id = LedgerId::from_bytes([1; 16]);
        let header = SegmentHeader { ledger_id, first_seq: 9, prev: Hash([2; 32]) };
        let trailer = SegmentTrailer {
            ledger_id,
            first_seq: 9,
            last_seq: 12,
            frames_len: 999,
            last_hash: Hash([3; 32]),
            digest: Hash([4; 32]),
        };
        assert_eq!(SegmentHeader::parse(&header.encode()), Ok(header));
        assert_eq!(SegmentTrailer::parse(&trailer.encode()), Ok(trailer));
        for at in 0..SEGMENT_HEADER_LEN {
            let (mut head, mut tail) = (header.encode(), trailer.encode());
            head[at] ^= 1;
            tail[at] ^= 1;
            assert!(SegmentHeader::parse(&head).is_err(), "header byte {at}");
            assert!(SegmentTrailer::parse(&tail).is_err(), "trailer byte {at}");
        }
    }

    #[test]
    fn file_names_are_canonical() {
        assert_eq!(parse_file_name(&file_name(7)), Some(7));
        for bad in [
            "7.seg",
            "00000000000000000007",
            "0000000000000000000a.seg",
            "99999999999999999999.seg",
            "+0000000000000000007.seg",
        ] {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }
}
