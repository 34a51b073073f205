//! The walk over files that are damaged, cannot be read everywhere, or change meanwhile. Windows are of 8 KiB here.

use super::*;
use crate::base::limits::BODY_MAX;
use crate::inspect::made::{self, BLOCK, OddDisk, OddFile};

/// Where each frame begins in a segment of such frames; the last is its end.
fn places(lengths: &[usize]) -> Vec<usize> {
    let mut at = SEGMENT_HEADER_LEN;
    let mut places = vec![at];
    for length in lengths {
        at += FRAME_OVERHEAD + length;
        places.push(at);
    }
    places
}

/// Walks over segments; gives the numbers of the frames that it showed.
fn walked(files: Vec<(u64, OddFile)>) -> (Vec<u64>, Report) {
    let path = |first: &u64| PathBuf::from(segment::file_name(*first));
    let segments = files.iter().map(|(first, _)| (*first, path(first))).collect();
    let disk = OddDisk(files.into_iter().map(|(first, file)| (path(&first), file)).collect());
    let mut shown = Vec::new();
    let walked = walk(&disk, &Course { segments, ..Course::default() }, &mut |frame, _| shown.push(frame.header.seq));
    (shown, walked.report)
}

fn range(report: &Report, code: FindingCode) -> Vec<(Option<u64>, Option<u64>)> {
    report.findings.iter().filter(|found| found.code == code).map(|found| (found.seq, found.through)).collect()
}

#[test]
fn the_frame_behind_a_damaged_one_is_whole_wherever_the_buffer_ends() {
    for lengths in [[BODY_MAX; 6], [BODY_MAX - 5000, 300, BODY_MAX, 0, BODY_MAX / 2, BODY_MAX]] {
        for damaged in 0..5 {
            let mut bytes = made::segment(&lengths);
            bytes[places(&lengths)[damaged] + FRAME_OVERHEAD / 2] ^= 1;
            let (shown, report) = walked(vec![(0, OddFile::new(bytes))]);
            let wanted: Vec<u64> = (0..6).filter(|seq| *seq != damaged as u64).collect();
            assert_eq!(shown, wanted, "{lengths:?}, event {damaged}");
            assert_eq!(range(&report, FindingCode::FrameDamaged), [(Some(damaged as u64), None)]);
        }
    }
}

#[test]
fn a_header_that_the_buffer_ends_within_is_read_before_it_is_judged() {
    // Two frames without their magics; the third begins at every distance from where the buffer ends behind them.
    for length in (7_400..8_100).step_by(8) {
        let lengths = [BODY_MAX, length, 100, 100];
        let mut bytes = made::segment(&lengths);
        for damaged in &places(&lengths)[..2] {
            bytes[*damaged] ^= 1;
        }
        let (shown, report) = walked(vec![(0, OddFile::new(bytes))]);
        assert_eq!(shown, [2, 3], "{length}: {report:?}");
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_ends_where_it_was_cut() {
    let lengths = [3000; 40];
    let whole = made::segment(&lengths);
    // At a frame's end, within frames, a byte or two behind one, and zeros that were written ahead.
    let end = places(&lengths)[20];
    for cut in [end, end + 1, end + 2, end + 3, end + 4, end + 200, end - 1, whole.len()] {
        for zeros in [0, 3, 20_000] {
            for longer in [1, 3, 100_000] {
                let mut bytes = whole[..cut].to_vec();
                bytes.resize(cut + zeros, 0);
                let (shown, _) = walked(vec![(0, OddFile { longer, ..OddFile::new(bytes) })]);
                let frames = places(&lengths).iter().skip(1).filter(|place| **place <= cut).count() as u64;
                assert_eq!(shown, (0..frames).collect::<Vec<_>>(), "cut at {cut}, {zeros} zeros, {longer} longer");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_named_from_the_first_event_that_was_not_read() {
    let lengths = [3000; 40];
    let bytes = made::segment(&lengths);
    let bad = places(&lengths)[25] as u64 / BLOCK;
    let first = OddFile { bad: vec![bad], ..OddFile::new(bytes) };
    // The next segment begins with event 40, whatever it holds.
    let (shown, report) = walked(vec![(0, first), (40, OddFile::new(made::segment(&[])))]);
    let [(Some(from), through)] = range(&report, FindingCode::Unreadable)[..] else { panic!("{report:?}") };
    assert_eq!(through, Some(39));
    assert_eq!(shown, (0..from).collect::<Vec<_>>());
    // Windows are read as a whole: what lies in the bad one before the bad block is not read either.
    assert!((20..=25).contains(&from), "{from}");
    assert!(range(&report, FindingCode::SegmentMissing).is_empty(), "{report:?}");
}
