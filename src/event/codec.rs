//! The one place that knows bincode.
//!
//! bincode 2.0.1 in serde mode, little endian, fixed-width integers, bounded; what is left over is
//! refused. FORMAT.md describes the resulting bytes, so that a reader without bincode can be
//! written. Hashes and seals always cover stored bytes, never a re-encoding.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::limits::BODY_MAX;

/// Why a body did not encode or decode.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The kind number is not assigned in this version of the program.
    #[error("event kind {kind} (schema version {schema}) is not known to palyra-ledger {}", env!("CARGO_PKG_VERSION"))]
    UnknownKind {
        /// The number in the header.
        kind: u16,
        /// The schema version in the header.
        schema: u16,
    },
    /// The schema version of this kind is not known to this version of the program.
    #[error(
        "schema version {schema} of event kind {kind} ({}) is not known to palyra-ledger {}",
        super::Kind::display_name(*kind),
        env!("CARGO_PKG_VERSION")
    )]
    UnknownSchema {
        /// The kind number.
        kind: u16,
        /// The schema version in the header.
        schema: u16,
    },
    /// The bytes are not such an event.
    #[error("the bytes are not an event of their kind: {0}")]
    Decode(#[source] Box<bincode::error::DecodeError>),
    /// Bytes follow the event.
    #[error("{left} bytes follow the event")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The bytes decode but are not the one way to write that event.
    #[error("the bytes are not the canonical encoding of the event")]
    NotCanonical,
    /// The event is larger than a body may be.
    #[error("the event does not fit a frame: {0}")]
    Encode(#[source] Box<EncodeError>),
}

impl CodecError {
    /// Whether a newer program may know what this one does not.
    #[must_use]
    pub const fn is_from_the_future(&self) -> bool {
        matches!(self, Self::UnknownKind { .. } | Self::UnknownSchema { .. })
    }
}

type Config = Configuration<LittleEndian, Fixint, Limit<BODY_MAX>>;

const fn config() -> Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<BODY_MAX>()
}

/// Encodes a value.
///
/// # Errors
/// [`CodecError::Encode`] where it cannot be written or is too large.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, config()).map_err(|error| CodecError::Encode(Box::new(error)))
}

/// Decodes a value and refuses what follows it.
///
/// # Errors
/// [`CodecError::Decode`] or [`CodecError::Trailing`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|error| CodecError::Decode(Box::new(error)))?;
    match bytes.len().saturating_sub(used) {
        0 => Ok(value),
        left => Err(CodecError::Trailing { left }),
    }
}

/// Decodes a value and refuses every encoding of it but one: map keys out of order or given twice
/// decode, too, and two bodies for one event would be two hashes for one fact.
///
/// # Errors
/// As [`decode`], and [`CodecError::NotCanonical`].
pub fn decode_canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let value = decode(bytes)?;
    bincode::serde::encode_into_writer(&value, Expect(bytes), config()).map_err(|_| CodecError::NotCanonical)?;
    Ok(value)
}

/// Takes the bytes it was made with and no others, so that nothing is allocated to compare.
struct Expect<'a>(&'a [u8]);

impl Writer for Expect<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::Other("other bytes were expected"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_map_has_one_encoding() {
        let map = BTreeMap::from([(1_u8, 10_u8), (2, 20)]);
        let bytes = encode(&map).unwrap();
        assert_eq!(bytes, [2, 0, 0, 0, 0, 0, 0, 0, 1, 10, 2, 20]);
        assert_eq!(decode_canonical::<BTreeMap<u8, u8>>(&bytes).unwrap(), map);
        for bad in [[2, 0, 0, 0, 0, 0, 0, 0, 2, 20, 1, 10], [2, 0, 0, 0, 0, 0, 0, 0, 1, 9, 1, 10]] {
            assert!(matches!(decode_canonical::<BTreeMap<u8, u8>>(&bad), Err(CodecError::NotCanonical)), "{bad:?}");
        }
    }
}
