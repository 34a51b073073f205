//! Strides, whatever lies across their ends, find what is found in all bytes at once. They are of 16 KiB here.

use proptest::prelude::*;

use super::*;
use crate::inspect::Evidence;
use crate::inspect::made::{BLOCK as BAD_BLOCK, OddFile, frames};

fn in_strides(bytes: &[u8]) -> Raw {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    let evidence = Evidence::at(&path).unwrap();
    let (raw, error) = source(Source { evidence: &evidence, path: &"image".into() }, 0, &Spares::default(), &|_| {});
    assert!(error.is_none(), "{error:?}");
    raw
}

fn compare(bytes: &[u8]) -> usize {
    let (strides, whole) = (in_strides(bytes), buffer(bytes));
    assert_eq!(strides.frames, whole.frames);
    assert_eq!((strides.damaged, strides.damaged_more), (whole.damaged, whole.damaged_more));
    assert_eq!((strides.pieces, strides.heads.len()), (whole.pieces, whole.heads.len()));
    assert_eq!((strides.bytes, strides.skipped), (whole.bytes, 0));
    whole.frames.len()
}

#[test]
fn frames_that_end_strides_later_are_whole() {
    let bytes = frames(&[100, 5 * STRIDE, 1, 2 * STRIDE, STRIDE - 1, STRIDE, 40]);
    assert_eq!(compare(&bytes), 7);
    // Cut within the longest: its stride reads on, and meets the end.
    assert_eq!(compare(&bytes[..3 * STRIDE]), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn strides_find_what_is_there(
        lengths in proptest::collection::vec(prop_oneof![9 => 0..600_usize, 1 => 0..60_000_usize], 1..200),
        damaged in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..8),
        before in 0..40_000_usize,
    ) {
        let mut bytes = vec![0x50; before];
        bytes.extend(frames(&lengths));
        for (place, change) in damaged {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        compare(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_bad_sector_costs_the_frames_that_lie_in_it(
        lengths in proptest::collection::vec(prop_oneof![9 => 0..600_usize, 1 => 0..60_000_usize], 20..200),
        bad in proptest::collection::vec(any::<prop::sample::Index>(), 1..5),
        made_up in any::<bool>(),
    ) {
        let mut bytes = frames(&lengths);
        if made_up {
            // A header that claims what lies behind it, bad sectors too.
            let mut header = Header::parse(&bytes).unwrap();
            header.body_len = u32::try_from(BODY_MAX).unwrap();
            bytes.splice(0..0, header.encode());
        }
        let blocks = bytes.len().div_ceil(BAD_BLOCK as usize);
        let bad: Vec<u64> = bad.iter().map(|bad| bad.index(blocks) as u64).collect();
        let all = buffer(&bytes).frames;
        let disk = OddFile { bad, ..OddFile::new(bytes) };
        let readable = |at: &Extent| !disk.is_bad(at.offset, at.offset + u64::from(at.len));
        let wanted: Vec<u64> =
            all.iter().filter(|found| found.extents.iter().all(readable)).map(|found| found.seq).collect();
        let len = disk.len().unwrap();
        let mut found = Vec::new();
        let mut failed = false;
        let mut read = Vec::new();
        for begin in (0..len).step_by(STRIDE) {
            let (raw, error) = stride(&disk, 0, begin, len, &mut read);
            failed |= error.is_some();
            found.extend(raw.frames.iter().map(|found| found.seq));
        }
        prop_assert!(failed);
        prop_assert_eq!(found, wanted);
    }
}
