use super::*;
use crate::crypto::Key;

fn opener() -> Opener {
    Opener::new(&Key::from_bytes(&mut [0x11; 32]), labels::EPOCH_SEAL, labels::EPOCH_COMMIT)
}

fn header() -> Header {
    Header {
        ledger_id: LedgerId::from_bytes([0xA0; 16]),
        seq: 5,
        prev: Hash([0xB0; 32]),
        time: Timestamp::from_millis(0x0102_0304_0506),
        group_start: 4,
        kind: 32,
        schema: 1,
        epoch: 7,
        batch_index: 1,
        batch_len: 2,
        body_len: 0,
        nonce: [0; 24],
        commitment: [0; 32],
    }
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal(header(), &Sealing { opener: &opener(), nonce: [0xC0; 24] }, body, &mut out);
    out
}

/// The promise of FORMAT.md, byte by byte.
#[test]
fn golden_frame() {
    let bytes = sealed(b"body");
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let expected = concat!(
        "504c4652",                                                         // magic "PLFR"
        "0100",                                                             // format version 1
        "0000",                                                             // reserved
        "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0",                                 // ledger id
        "0500000000000000",                                                 // sequence number 5
        "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0", // previous hash
        "0605040302010000",                                                 // time, Unix ms
        "0400000000000000",                                                 // group start 4
        "2000",                                                             // kind 32
        "0100",                                                             // schema 1
        "07000000",                                                         // epoch 7
        "0100",                                                             // batch index 1
        "0200",                                                             // batch length 2
        "04000000",                                                         // body length 4
        "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0",                 // nonce
    );
    assert_eq!(&hex[..240], expected);
    assert_eq!(&hex[304..320], "0000000000000000", "reserved");
    assert_eq!(bytes.len(), FRAME_OVERHEAD + 4);
    // Commitment, sealed body, tag and hash: made once, never to change.
    assert_eq!(&hex[240..304], GOLDEN_COMMITMENT);
    assert_eq!(&hex[320..], GOLDEN_REST);
}

const GOLDEN_COMMITMENT: &str = "d2a58430d869e1143c396095037d8141a0045e18e1fd56493e273dac37c97eef";
const GOLDEN_REST: &str =
    "cb8f1eab1561712c66e99deaef62adf57d7aa5c52e664f89a14c358814f4f092f6ef6f850800030454867ca9e524f6a3558f91e5";

#[test]
fn i3_every_byte_of_a_frame_is_covered_by_its_hash() {
    let bytes = sealed(b"some body");
    let whole = Frame::parse(&bytes).unwrap();
    assert_eq!(whole.open(&opener()).unwrap().as_slice(), b"some body");
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= mask;
            assert!(Frame::parse(&bad).is_err(), "byte {at} mask {mask:#x}");
        }
    }
    for len in 0..bytes.len() {
        assert!(matches!(Frame::parse(&bytes[..len]), Err(FrameError::Short { .. })), "length {len}");
    }
}

/// A batch's events stand one behind the other; none comes before its group, and none is beyond its batch.
#[test]
fn a_header_outside_its_batch_or_group_is_refused() {
    for (seq, group_start, batch_index, batch_len, sound) in [
        (5, 4, 1, 2, true),
        (5, 5, 0, 1, true),
        (5, 0, 1, 2, true),
        (5, 4, 1, 1, false),
        (5, 5, 0, 0, false),
        (5, 5, 1, 2, false),
        (0, 0, 1, 2, false),
    ] {
        let header = Header { seq, group_start, batch_index, batch_len, ..header() };
        let (bytes, expected) = (header.encode(), if sound { Ok(header) } else { Err(FrameError::Batch) });
        assert_eq!(Header::parse(&bytes), expected, "event {seq} of {batch_index} of {batch_len}");
    }
}

#[test]
fn a_frame_re_hashed_by_a_forger_does_not_open() {
    let bytes = sealed(b"some body");
    for at in 0..bytes.len() - HASH_LEN {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let end = bad.len() - HASH_LEN;
        let hash = frame_hash(&bad[..end]);
        bad[end..].copy_from_slice(&hash.0);
        if let Ok(frame) = Frame::parse(&bad) {
            assert!(frame.open(&opener()).is_err(), "byte {at}");
        }
    }
}

#[test]
fn another_epoch_key_is_refused_before_anything_is_decrypted() {
    let other = Opener::new(&Key::from_bytes(&mut [0x12; 32]), labels::EPOCH_SEAL, labels::EPOCH_COMMIT);
    let bytes = sealed(b"x");
    assert_eq!(Frame::parse(&bytes).unwrap().open(&other), Err(OpenError::Commitment));
}

proptest::proptest! {
    #[test]
    fn what_parses_as_a_header_re_encodes_to_the_same_bytes(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, HEADER_LEN),
        keep in proptest::collection::vec(proptest::bool::ANY, HEADER_LEN),
    ) {
        // Mutations of a real header reach much further than noise does.
        for ((byte, good), keep) in bytes.iter_mut().zip(sealed(b"body")).zip(keep) {
            if keep { *byte = good; }
        }
        bytes[..8].copy_from_slice(&sealed(b"")[..8]);
        bytes[92..96].copy_from_slice(&[4, 0, 0, 0]);
        if let Ok(header) = Header::parse(&bytes) {
            let again = header.encode();
            proptest::prop_assert_eq!(again.as_slice(), bytes.as_slice());
        }
    }
}
