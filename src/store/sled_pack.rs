//! How frames lie in sled (stored; FORMAT.md "The sled log").
//!
//! Key: sequence number of the first frame in the value (8 bytes, big endian) and part number
//! (2 bytes, big endian). Value: a format byte, then either whole frames, each behind its length
//! (4 bytes, little endian), or the frame's total length (4 bytes, little endian) and one part of
//! it. Big-endian keys sort in the order of the log.

use super::witness::Inconsistency;
use crate::base::limits;

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 10;
/// Largest value in bytes.
pub(super) const VALUE_MAX: usize = limits::SLED_VALUE_BYTES;
/// Largest frame in bytes that is taken: the largest body and far more header than any has.
pub(super) const FRAME_MAX: usize = limits::BODY_MAX + 64 * 1024;

const PACKED: u8 = 1;
const PART: u8 = 2;
/// Bytes before the first byte of a frame, in either format.
const LEAD: usize = 1 + 4;
const CHUNK: usize = VALUE_MAX - LEAD;

/// A key and its value as stored.
pub(super) type Entry = ([u8; KEY_LEN], Vec<u8>);

/// A value, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Whole frames, at least one, the first with the key's sequence number.
    Packed(Vec<&'a [u8]>),
    /// A part of one frame of `total` bytes.
    Part { total: usize, chunk: &'a [u8] },
}

pub(super) fn key(seq: u64, part: u16) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    let (left, right) = key.split_at_mut(8);
    left.copy_from_slice(&seq.to_be_bytes());
    right.copy_from_slice(&part.to_be_bytes());
    key
}

pub(super) fn parse_key(bytes: &[u8]) -> Result<(u64, u16), Inconsistency> {
    let (seq, rest) = bytes.split_first_chunk().ok_or(Inconsistency::Key)?;
    let part = rest.try_into().map_err(|_| Inconsistency::Key)?;
    Ok((u64::from_be_bytes(*seq), u16::from_be_bytes(part)))
}

/// Parses the value under a key: canonical, so an empty frame, trailing bytes, a part where a whole
/// frame would fit, or a packed value under a part's key are refused.
pub(super) fn parse_value(seq: u64, part: u16, bytes: &[u8]) -> Result<Value<'_>, Inconsistency> {
    let malformed = Inconsistency::Value { seq };
    let (&format, mut rest) = bytes.split_first().ok_or(malformed)?;
    match format {
        PACKED if part == 0 => {
            let mut frames = Vec::new();
            while !rest.is_empty() {
                let (len, behind) = take_len(rest).ok_or(malformed)?;
                let (frame, behind) = behind.split_at_checked(len).filter(|_| len > 0).ok_or(malformed)?;
                frames.push(frame);
                rest = behind;
            }
            let count = u64::try_from(frames.len()).map_err(|_| malformed)?;
            if frames.is_empty() || seq.checked_add(count).is_none() {
                return Err(malformed);
            }
            Ok(Value::Packed(frames))
        }
        PART => {
            let (total, chunk) = take_len(rest).ok_or(malformed)?;
            let start = usize::from(part) * CHUNK;
            let expected = total.checked_sub(start).ok_or(malformed)?.min(CHUNK);
            if total <= CHUNK || total > FRAME_MAX || expected == 0 || chunk.len() != expected {
                return Err(malformed);
            }
            Ok(Value::Part { total, chunk })
        }
        PACKED => Err(malformed),
        _ => Err(Inconsistency::Format { seq, format }),
    }
}

/// Parts that a split frame of `total` bytes has.
pub(super) const fn parts(total: usize) -> usize {
    total.div_ceil(CHUNK)
}

/// The entries that hold `frames`, in order, one at a time; the frames are already in order.
pub(super) fn pack(
    frames: &[(u64, &[u8])],
) -> Result<impl Iterator<Item = Result<Entry, Inconsistency>>, Inconsistency> {
    for &(seq, frame) in frames {
        if frame.is_empty() || frame.len() > FRAME_MAX {
            return Err(Inconsistency::FrameSize { seq, len: frame.len() });
        }
    }
    let mut rest = frames.iter().copied().peekable();
    let mut splitting: Option<(u64, u16, &[u8], usize)> = None;
    Ok(std::iter::from_fn(move || {
        if splitting.is_none() {
            let &(seq, frame) = rest.peek()?;
            if frame.len() <= CHUNK {
                return Some(Ok(next_packed(seq, &mut rest)));
            }
            rest.next();
            splitting = Some((seq, 0, frame, frame.len()));
        }
        let (seq, part, left, total) = splitting.take()?;
        let (chunk, behind) = left.split_at(left.len().min(CHUNK));
        if !behind.is_empty() {
            splitting = Some((seq, part.saturating_add(1), behind, total));
        }
        let size = Inconsistency::FrameSize { seq, len: total };
        Some(u32::try_from(total).map_err(|_| size).map(|len| {
            let mut value = Vec::with_capacity(LEAD + chunk.len());
            value.push(PART);
            value.extend_from_slice(&len.to_le_bytes());
            value.extend_from_slice(chunk);
            (key(seq, part), value)
        }))
    }))
}

fn next_packed<'a>(first: u64, rest: &mut std::iter::Peekable<impl Iterator<Item = (u64, &'a [u8])>>) -> Entry {
    let mut value = vec![PACKED];
    while let Some((_, frame)) = rest.next_if(|(_, frame)| value.len() + 4 + frame.len() <= VALUE_MAX) {
        // Bounded by VALUE_MAX just above.
        let len = u32::try_from(frame.len()).unwrap_or(0);
        value.extend_from_slice(&len.to_le_bytes());
        value.extend_from_slice(frame);
    }
    (key(first, 0), value)
}

fn take_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    usize::try_from(u32::from_le_bytes(*len)).ok().map(|len| (len, rest))
}

/// Parses a key and a value from arbitrary bytes and packs again what parses; for fuzzing.
///
/// # Panics
/// Where other bytes come out than went in.
#[doc(hidden)]
pub fn fuzz_sled_value(bytes: &[u8]) {
    let Some((head, value)) = bytes.split_at_checked(KEY_LEN) else { return };
    let Ok((seq, part)) = parse_key(head) else { return };
    assert_eq!(head, key(seq, part), "a key has one encoding");
    match parse_value(seq, part, value) {
        Ok(Value::Packed(frames)) => {
            let numbered: Vec<_> = (seq..).zip(frames).collect();
            // Frames may be packed less tightly than `pack` does, never more so than a value holds.
            let entries: Vec<_> = pack(&numbered).into_iter().flatten().flatten().collect();
            if value.len() <= VALUE_MAX && numbered.iter().all(|(_, frame)| frame.len() <= CHUNK) {
                assert_eq!(entries, [(key(seq, 0), value.to_vec())]);
            }
        }
        Ok(Value::Part { total, chunk }) => {
            assert!(usize::from(part) < parts(total) && !chunk.is_empty() && chunk.len() <= CHUNK);
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(frames: &[(u64, &[u8])]) -> Vec<Entry> {
        pack(frames).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_packed_value_and_a_split_frame_have_these_bytes() {
        let long = vec![0x5a; CHUNK + 1];
        let stored = entries(&[(0x0102, b"ab"), (0x0103, b"c"), (0x0104, &long)]);
        assert_eq!(stored[0].0, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(stored[0].1, [1, 2, 0, 0, 0, b'a', b'b', 1, 0, 0, 0, b'c']);
        assert_eq!(stored[1].0, [0, 0, 0, 0, 0, 0, 1, 4, 0, 0]);
        assert_eq!(stored[1].1[..6], [2, (long.len() & 0xff) as u8, (long.len() >> 8) as u8, 0, 0, 0x5a]);
        assert_eq!(stored[1].1.len(), VALUE_MAX);
        assert_eq!(stored[2].0, [0, 0, 0, 0, 0, 0, 1, 4, 0, 1]);
        assert_eq!(stored[2].1.len(), LEAD + 1);
        assert_eq!((stored.len(), parts(long.len()), parts(FRAME_MAX) < 65_536), (3, 2, true));
    }

    #[test]
    fn values_that_pack_would_not_write_are_refused() {
        let refused = |part: u16, bytes: &[u8]| parse_value(7, part, bytes).unwrap_err();
        let malformed = Inconsistency::Value { seq: 7 };
        for bytes in [&[][..], &[1], &[1, 0, 0, 0, 0], &[1, 2, 0, 0, 0, 9], &[1, 1, 0, 0, 0, 9, 9], &[2, 0, 0, 0, 0]] {
            assert_eq!(refused(0, bytes), malformed, "{bytes:?}");
        }
        assert_eq!(refused(1, &[1, 1, 0, 0, 0, 9]), malformed);
        assert_eq!(refused(0, &[3]), Inconsistency::Format { seq: 7, format: 3 });
        assert_eq!(parse_key(&[0; 9]), Err(Inconsistency::Key));
        assert_eq!(parse_key(&[0; 11]), Err(Inconsistency::Key));
        let empty = pack(&[(0, b"")]).err();
        assert_eq!(empty, Some(Inconsistency::FrameSize { seq: 0, len: 0 }));
    }

    proptest! {
        #[test]
        fn what_parses_packs_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64), part in 0_u16..3) {
            if let Ok(Value::Packed(frames)) = parse_value(5, part, &bytes) {
                let numbered: Vec<_> = (5..).zip(frames).collect();
                prop_assert_eq!(entries(&numbered), vec![(key(5, 0), bytes)]);
            }
        }

        #[test]
        fn packed_frames_come_back_in_order(
            sizes in prop::collection::vec(prop_oneof![1_usize..600, CHUNK - 3..CHUNK + 3, 1_usize..40_000], 1..24),
            first in any::<u32>(),
        ) {
            let bodies: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, &size)| vec![at as u8; size]).collect();
            let first = u64::from(first);
            let frames: Vec<(u64, &[u8])> = (first..).zip(bodies.iter().map(Vec::as_slice)).collect();
            let mut back: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut last_key = None;
            for (key, value) in entries(&frames) {
                prop_assert!(value.len() <= VALUE_MAX);
                prop_assert!(last_key.replace(key) < Some(key));
                let (seq, part) = parse_key(&key).unwrap();
                match parse_value(seq, part, &value).unwrap() {
                    Value::Packed(frames) => back.extend((seq..).zip(frames.into_iter().map(<[u8]>::to_vec))),
                    Value::Part { chunk, .. } if part == 0 => back.push((seq, chunk.to_vec())),
                    Value::Part { chunk, .. } => back.last_mut().unwrap().1.extend_from_slice(chunk),
                }
            }
            prop_assert_eq!(back, frames.iter().map(|(seq, frame)| (*seq, frame.to_vec())).collect::<Vec<_>>());
        }
    }
}
