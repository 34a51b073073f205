//! Strides, whatever lies across their ends, find what is found in all bytes at once. They are of 16 KiB here.

use proptest::prelude::*;

use super::*;
use crate::inspect::Evidence;
use crate::inspect::made::frames;

fn in_strides(bytes: &[u8]) -> Raw {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    let evidence = Evidence::at(&path).unwrap();
    let (raw, error) = source(Source { evidence: &evidence, path: &"image".into() }, 0, &|_| {});
    assert!(error.is_none(), "{error:?}");
    raw
}

fn compare(bytes: &[u8]) -> usize {
    let (strides, whole) = (in_strides(bytes), buffer(bytes));
    assert_eq!(strides.frames, whole.frames);
    assert_eq!((strides.damaged, strides.pieces), (whole.damaged, whole.pieces));
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
