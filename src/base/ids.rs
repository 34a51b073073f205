//! Identifiers, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

/// Why an identifier was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not exactly 32 lower-case hexadecimal digits.
    #[error("expected {expected} lower-case hexadecimal digits")]
    NotHex {
        /// Digits that the identifier has.
        expected: usize,
    },
}

/// Reads `2 * N` lower-case hexadecimal digits; upper case is refused, so one value has one text.
pub(crate) fn hex_array<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let error = IdError::NotHex { expected: 2 * N };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(error),
    };
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return Err(error);
    }
    let mut out = [0_u8; N];
    for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        if let [high, low] = pair {
            *slot = digit(*high)? << 4 | digit(*low)?;
        }
    }
    Ok(out)
}

/// Serialises a byte array as hexadecimal text for people and as bare bytes for storage.
macro_rules! bytes_or_hex {
    ($name:ident, $bytes:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}
pub(crate) use bytes_or_hex;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps bytes that came from a random source or from a file.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes as stored.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        $crate::base::bytes_or_hex!($name, $bytes);

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                hex_array(text).map(Self)
            }
        }
    };
}

random_id!(
    /// The random name of one ledger (16 bytes), in every frame, seal and checkpoint of it.
    ///
    /// ```
    /// use palyra_ledger::LedgerId;
    /// let id: LedgerId = "000102030405060708090a0b0c0d0e0f".parse()?;
    /// assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0e0f");
    /// # Ok::<(), palyra_ledger::IdError>(())
    /// ```
    LedgerId,
    16
);
random_id!(
    /// Ties the events of one request together across commands and domains (16 bytes).
    CorrelationId,
    16
);
random_id!(
    /// The random name of one key slot (4 bytes, eight hexadecimal digits for a person to type).
    SlotId,
    4
);

random_id!(
    /// The random name that a device gives itself (16 bytes); it stands in its certificates.
    DeviceId,
    16
);
random_id!(
    /// The random name of one pairing code (8 bytes). It says nothing about the code.
    PairingId,
    8
);
random_id!(
    /// The random name of one pairing request (8 bytes, sixteen digits for a person to type).
    RequestId,
    8
);
random_id!(
    /// The random name of one backup (16 bytes).
    BackupId,
    16
);
random_id!(
    /// The first half of a keyed hash (16 bytes): tells whether two things are equal, and nothing else without
    /// the key.
    KeyedPrint,
    16
);
random_id!(
    /// Serial number of a certificate (RFC 5280, section 4.1.2.2): 17 bytes, `01`, a counter that is never
    /// used twice (8 bytes, big endian), and 8 random bytes, so that numbers are positive, ordered and not
    /// to be guessed.
    Serial,
    17
);

/// Crockford's base 32, as ULIDs are written.
const ULID: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl DeviceId {
    /// The id that a ULID (26 letters and digits, 128 bits) stands for: another way to write the same 16 bytes.
    ///
    /// ```
    /// use palyra_ledger::DeviceId;
    /// let id = DeviceId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FA1").unwrap();
    /// assert_eq!(id.to_string(), "01563e3ab5d3d6764c61efb99302bd41");
    /// assert_eq!(id.to_ulid(), "01ARZ3NDEKTSV4RRFFQ69G5FA1");
    /// ```
    #[must_use]
    pub fn from_ulid(text: &str) -> Option<Self> {
        if text.len() != 26 || !text.starts_with(|first: char| ('0'..='7').contains(&first)) {
            return None;
        }
        let digit = |letter: u8| ULID.iter().position(|known| *known == letter.to_ascii_uppercase());
        let bits = text.bytes().try_fold(0_u128, |bits, letter| Some(bits << 5 | u128::try_from(digit(letter)?).ok()?));
        bits.map(|bits| Self(bits.to_be_bytes()))
    }

    /// The id as a ULID.
    #[must_use]
    pub fn to_ulid(&self) -> String {
        let bits = u128::from_be_bytes(self.0);
        let digit = |place: u32| usize::try_from(bits >> (5 * place) & 31).ok().and_then(|at| ULID.get(at).copied());
        (0..26).rev().map(|place| digit(place).map_or('0', char::from)).collect()
    }
}

impl Serial {
    /// The serial number of a counter that was never used before.
    #[must_use]
    pub fn new(counter: u64, random: [u8; 8]) -> Self {
        let mut bytes = [1; 17];
        for (slot, byte) in bytes.iter_mut().skip(1).zip(counter.to_be_bytes().into_iter().chain(random)) {
            *slot = byte;
        }
        Self(bytes)
    }

    /// The counter in it.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.0.get(1..9).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_exactly_one_text() {
        let text = "00ff02030405060708090a0b0c0d0e0f";
        let id: LedgerId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        for bad in ["", "00", &text.to_uppercase(), &text[1..], &format!("{text}0"), &format!("{}é", &text[2..])] {
            assert_eq!(bad.parse::<LedgerId>(), Err(IdError::NotHex { expected: 32 }), "{bad}");
        }
    }

    #[test]
    fn a_serial_number_carries_its_counter() {
        let serial = Serial::new(0x0102_0304_0506_0708, [0xFF; 8]);
        assert_eq!(serial.to_string(), "010102030405060708ffffffffffffffff");
        assert_eq!(serial.counter(), 0x0102_0304_0506_0708);
        assert!(Serial::new(1, [0xFF; 8]) < Serial::new(2, [0; 8]));
    }
}
