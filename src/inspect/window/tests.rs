//! A window, whatever was read ahead of it, shows what the bytes hold. Windows are of 8 KiB here.

use std::path::Path;

use memchr::memmem;
use proptest::prelude::*;

use super::*;
use crate::inspect::made::frames;
use crate::log::frame::{FRAME_OVERHEAD, Header, MAGIC};
use crate::store::{Medium, OpenMode, RealMedium};

/// What there is: where each whole frame begins, and its number.
fn plainly(bytes: &[u8]) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if let Ok(frame) = Frame::parse(&bytes[at..]) {
            found.push((at as u64, frame.header.seq));
            at += frame.bytes().len();
        } else {
            at += 1 + memmem::find(&bytes[at + 1..], &MAGIC).unwrap_or(bytes.len());
        }
    }
    found
}

/// The same through a window, as the walk goes, and the digest of everything.
fn through_a_window(path: &Path, cores: usize) -> (Vec<(u64, u64)>, Hash, usize) {
    let mut window = Window::with_cores(RealMedium.open(path, OpenMode::Read).unwrap(), cores);
    let (mut found, mut ahead) = (Vec::new(), 0);
    loop {
        window.fill(FRAME_OVERHEAD).unwrap();
        if window.rest().is_empty() {
            return (found, window.digest(), ahead);
        }
        window.prepare();
        ahead += usize::from(window.ahead.is_some());
        if !window.is_known()
            && let Ok(header) = Header::parse(window.rest())
            && header.frame_len() > window.rest().len()
        {
            window.fill(header.frame_len()).unwrap();
            window.prepare();
        }
        let offset = window.offset();
        let whole = window.frame().map(|frame| (frame.header.seq, frame.bytes().len()));
        if let Ok((seq, len)) = whole {
            found.push((offset, seq));
            window.advance(len);
            continue;
        }
        window.advance(1);
        loop {
            window.fill(32 * 1024).unwrap();
            match memmem::find(window.rest(), &MAGIC) {
                Some(skip) => {
                    window.advance(skip);
                    break;
                }
                None if window.rest().len() < MAGIC.len() => {
                    window.advance(MAGIC.len());
                    break;
                }
                None => window.advance(window.rest().len() - (MAGIC.len() - 1)),
            }
        }
    }
}

/// How many frames were shown while windows were read ahead.
fn compare(bytes: &[u8]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    let mut digest = segment::digest();
    digest.update(bytes);
    let (alone, digested, ahead) = through_a_window(&path, 1);
    assert_eq!((&alone, digested, ahead), (&plainly(bytes), digest.finish(), 0));
    let (found, digested, ahead) = through_a_window(&path, 3);
    assert_eq!((found, digested), (alone, digest.finish()));
    ahead
}

#[test]
fn many_windows_are_read_ahead_in_order() {
    let bytes = frames(&(0..3000).map(|at| at * 7 % 400).collect::<Vec<_>>());
    assert!(bytes.len() > 100 * WINDOW);
    assert_eq!(plainly(&bytes).len(), 3000);
    assert!(compare(&bytes) > 2900, "nearly all of them were read ahead");
}

#[test]
fn a_frame_longer_than_a_window_is_read_ahead_as_a_whole() {
    let lengths = [100, 10 * WINDOW, 5, WINDOW - FRAME_OVERHEAD, 3 * WINDOW + 1, 100];
    assert!(compare(&frames(&lengths)) >= 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_a_window_shows_is_what_the_bytes_hold(
        lengths in proptest::collection::vec(prop_oneof![9 => 0..600_usize, 1 => 0..40_000_usize], 1..300),
        damaged in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        inserted in prop::option::of((any::<prop::sample::Index>(), 1..20_000_usize)),
    ) {
        let mut bytes = frames(&lengths);
        for (place, change) in damaged {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        if let Some((place, length)) = inserted {
            let place = place.index(bytes.len());
            bytes.splice(place..place, std::iter::repeat_n(0x50, length));
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        compare(&bytes);
    }
}
