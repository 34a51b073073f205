//! Logs larger than the windows in which they are read: what is hashed ahead is what is walked over.

use std::fs;
use std::path::{Path, PathBuf};

use palyra_ledger::inspect::{Course, FindingCode, Report, verify_files, walk};
use palyra_ledger::store::RealMedium;
use palyra_ledger::{Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes, Settings};

/// Bytes of a window, and of a segment that takes several.
const WINDOW: u64 = 1 << 20;
const SEGMENT: u64 = 9 << 20;

fn large(dir: &Path) -> PathBuf {
    let mut settings = Settings::default();
    settings.log.segment_bytes = SEGMENT;
    let home = dir.join("home");
    let config = Config::new(&home).without_witness().without_background().settings(settings);
    let ledger = Ledger::init(config, NewSlot::file("machine")).unwrap();
    let vault = ledger.vault(Scope::global());
    for number in 0..640_u32 {
        // Lengths that do not divide the window.
        let value = vec![b'v'; 30_011 + number as usize % 977];
        vault
            .put(&format!("s{number}").parse().unwrap(), &SecretBytes::from(value.as_slice()), PutOptions::new())
            .unwrap();
    }
    ledger.close().unwrap();
    home
}

fn verified(home: &Path) -> Report {
    verify_files(&RealMedium, home, None).unwrap()
}

#[test]
fn a_log_of_several_windows_is_whole_and_damage_in_it_is_located() {
    let dir = tempfile::tempdir().unwrap();
    let home = large(dir.path());
    let clean = verified(&home);
    assert!(clean.ok && clean.findings.is_empty(), "{:?}", clean.findings);
    let course = Course::of_home(&RealMedium, &home).unwrap();
    assert!(course.segments.len() >= 2, "closed segments, whose digests are compared");
    let mut frames: Vec<(PathBuf, u64, u64, u64)> = Vec::new();
    let walked = walk(&RealMedium, &course, &mut |frame, site| {
        frames.push((site.path.to_owned(), site.offset, frame.bytes().len() as u64, frame.header.seq));
    });
    assert_eq!(walked.report.events, frames.len() as u64);
    let sequence: Vec<u64> = frames.iter().map(|frame| frame.3).collect();
    assert_eq!(sequence, (0..frames.len() as u64).collect::<Vec<_>>(), "each is shown once, in order");
    let first = &course.segments[0].1;
    // The first byte of a body: around every edge, and the frames beside it.
    let near = |edge: u64| frames.iter().filter(move |(_, at, len, _)| at + len + 40_000 > edge && *at < edge + 40_000);
    let edges = [WINDOW, 2 * WINDOW].into_iter().flat_map(near).filter(|(path, ..)| path == first);
    let mut tried = 0;
    for (path, at, len, seq) in edges.chain(frames.iter().skip(200).step_by(97)) {
        let mut bytes = fs::read(path).unwrap();
        let place = usize::try_from(at + len / 2).unwrap();
        bytes[place] ^= 1;
        fs::write(path, &bytes).unwrap();
        let report = verified(&home);
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.code, finding.seq, finding.offset)).collect();
        assert_eq!(found, [(FindingCode::FrameDamaged, Some(*seq), Some(*at))], "event {seq} at {at}");
        assert_eq!(report.events + 1, clean.events);
        bytes[place] ^= 1;
        fs::write(path, &bytes).unwrap();
        tried += 1;
    }
    assert!(tried >= 8, "{tried}");
    let mut bytes = fs::read(first).unwrap();
    let end = bytes.len();
    bytes[end - 40] ^= 1;
    fs::write(first, &bytes).unwrap();
    let report = verified(&home);
    assert!(!report.ok && report.events == clean.events, "{:?}", report.findings);
}
