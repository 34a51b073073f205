//! What a newer program wrote: nothing is opened for writing, nothing is changed, everything verifies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::event::Kind;
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, OtherProgram, SeededRandom, SimDisk};
use palyra_ledger::{Error, FindingCode, Ledger, ReplayPoint, VerifyOptions};

use super::common::{disk_with_ledger, get, put, simulated};

/// A settled ledger with a few secrets, and its last event.
fn filled(clock: &ManualClock) -> (SimDisk, u64) {
    let disk = disk_with_ledger(clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, clock)).unwrap();
    for number in 0..6 {
        clock.advance(10);
        put(&ledger, &format!("key{}", number % 3), &format!("value {number} {}", "x".repeat(2000)));
    }
    let last = ledger.log().head().unwrap().seq;
    ledger.close().unwrap();
    disk.settle();
    (disk, last)
}

fn newer(disk: &SimDisk) -> OtherProgram {
    OtherProgram::at(Arc::new(disk.clone()), Path::new("/home"), Arc::new(SeededRandom::new(77))).unwrap()
}

fn all(disk: &SimDisk) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|path| (path.clone(), disk.contents(&path))).collect()
}

/// Opening for writing, for reading, and to mend: each refuses for the future's sake, and changes no byte.
fn refused(disk: &SimDisk, clock: &ManualClock, what: &str) -> Error {
    disk.settle();
    let before = all(disk);
    let config = || simulated(disk.clone(), 5, clock);
    let error = Ledger::open(config()).unwrap_err();
    for (how, other) in [
        ("reading", Ledger::open(config().read_only()).unwrap_err()),
        ("mending", Ledger::repair(config()).unwrap_err()),
        ("mending with the end as it is", Ledger::repair(config().accept_head()).unwrap_err()),
    ] {
        assert!(other.is_from_the_future(), "{what}, {how}: {other}");
    }
    assert!(error.is_from_the_future(), "{what}: {error}");
    assert!(all(disk) == before, "{what}: something was changed");
    error
}

#[test]
fn an_event_from_the_future_stops_projection_and_not_verification() {
    for (kind, schema) in [(200, 1), (90, 3), (Kind::SecretPut.number(), 3), (Kind::SecretDeleted.number(), 2), (1, 0)]
    {
        let clock = ManualClock::default();
        let (disk, last) = filled(&clock);
        let root = Ledger::open(simulated(disk.snapshot(), 3, &clock)).unwrap().state_root().unwrap();
        // In the middle of a batch: none of it is taken.
        let known = palyra_ledger::event::encode(
            &palyra_ledger::Caller::system(),
            &palyra_ledger::event::Event::WitnessRebuilt(palyra_ledger::event::system::WitnessRebuilt { through: 1 }),
        )
        .unwrap();
        let known = (known.kind, known.schema, known.plain);
        let newer = newer(&disk);
        assert_eq!(newer.append(&[known.clone(), OtherProgram::event(kind, schema)]).unwrap(), last + 1);
        newer.append(&[known]).unwrap();
        let what = format!("kind {kind}, schema {schema}");
        let error = refused(&disk, &clock, &what);
        let said = error.to_string();
        assert!(said.contains(&format!("event {}", last + 2)), "{said}");
        assert!(said.contains(&format!("kind {kind}")) && said.contains(&format!("version {schema}")), "{said}");
        assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");

        let keyless = palyra_ledger::inspect::verify_files(&disk, Path::new("/home"), None).unwrap();
        assert!(keyless.ok && keyless.events == last + 4, "{what}: {:?}", keyless.findings);
        let report = Ledger::examine(&simulated(disk.clone(), 6, &clock)).unwrap();
        assert!(report.ok, "{:?}", report.findings);
        let found = report.findings.iter().find(|finding| finding.code == FindingCode::UnknownEvent).unwrap();
        assert_eq!(found.seq, Some(last + 2), "{}", found.what);
        assert!(found.what.contains(&format!("kind {kind}")), "{}", found.what);

        // What stands before it is there, with keys and with the state.
        let before = all(&disk);
        let part = Ledger::open(simulated(disk.clone(), 7, &clock).known_part()).unwrap();
        assert_eq!(part.state_root().unwrap(), root, "{what}");
        assert_eq!(part.replay(ReplayPoint::Seq(last)).unwrap().state_root().unwrap(), root);
        assert!(get(&part, "key1").starts_with("value 4 "));
        let beyond = part.replay(ReplayPoint::Head).unwrap_err();
        assert!(beyond.is_from_the_future(), "{beyond}");
        assert_eq!(part.log().entry(last).unwrap().seq, last);
        let report = part.verify(VerifyOptions { state: true, witness: false }).unwrap();
        assert!(report.ok && report.events == last + 4, "{:?}", report.findings);
        assert_eq!(report.findings.iter().filter(|found| found.code == FindingCode::UnknownEvent).count(), 1);
        part.close().unwrap();
        let journal = |files: &[(PathBuf, Option<Vec<u8>>)]| -> Vec<_> {
            files.iter().filter(|(path, _)| !path.ends_with("reads.spool")).cloned().collect()
        };
        assert!(journal(&all(&disk)) == journal(&before), "{what}: reading changed something");
    }
}

#[test]
fn the_known_part_is_read_without_an_index_and_beside_a_newer_one() {
    let clock = ManualClock::default();
    let (disk, last) = filled(&clock);
    let root = Ledger::open(simulated(disk.snapshot(), 3, &clock)).unwrap().state_root().unwrap();
    let newer = newer(&disk);
    newer.append(&[OtherProgram::event(200, 1)]).unwrap();
    newer.index(1, 9).unwrap();
    refused(&disk, &clock, "a newer index beside a newer event");
    let open = |disk: &SimDisk| Ledger::open(simulated(disk.clone(), 7, &clock).known_part()).unwrap();
    assert_eq!(open(&disk).state_root().unwrap(), root);
    for path in disk.files().iter().filter(|path| path.starts_with("/home/index")) {
        disk.remove(path).unwrap();
    }
    disk.settle();
    assert_eq!(open(&disk).state_root().unwrap(), root);
    assert!(disk.files().iter().all(|path| !path.starts_with("/home/index")), "only the newer program makes one");
    // The log of this program alone is no different from it.
    let (plain, _) = filled(&clock);
    assert_eq!(open(&plain).log().head().unwrap().seq, last);
}

#[test]
fn a_newer_index_is_refused_and_made_anew_only_when_it_is_asked_for() {
    let known = palyra_ledger::STATE_SCHEMA;
    for (version, schema) in [(1, known + 1), (2, known), (7, 4000)] {
        let clock = ManualClock::default();
        let (disk, _) = filled(&clock);
        newer(&disk).index(version, schema).unwrap();
        disk.settle();
        let before = all(&disk);
        for config in [simulated(disk.clone(), 5, &clock), simulated(disk.clone(), 5, &clock).read_only()] {
            let error = Ledger::open(config).unwrap_err();
            assert!(error.is_from_the_future() && error.to_string().contains("newer program"), "{error}");
        }
        assert!(all(&disk) == before, "version {version}, schema {schema}");
        let ledger = Ledger::open(simulated(disk.clone(), 5, &clock).rebuild_index()).unwrap();
        assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok);
        ledger.close().unwrap();
        Ledger::open(simulated(disk, 6, &clock)).unwrap();
    }
}

/// Bytes at an offset become others.
fn patch(disk: &SimDisk, path: &Path, at: usize, with: &[u8]) {
    let mut bytes = disk.contents(path).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    disk.put(path, &bytes).unwrap();
}

#[test]
fn files_of_a_newer_format_are_refused_and_left_as_they_are() {
    let newest = |disk: &SimDisk| {
        let segments = disk.files().into_iter().filter(|path| path.starts_with("/home/journal"));
        segments.max().unwrap()
    };
    let cases: [(&str, fn(&SimDisk) -> PathBuf); 4] = [
        ("segment", newest),
        ("key ring", |_| PathBuf::from("/home/keys/keyring")),
        ("key table", |_| PathBuf::from("/home/keys/table-1.a")),
        ("head", |_| PathBuf::from("/home/head")),
    ];
    for (what, path) in cases {
        let clock = ManualClock::default();
        let (disk, _) = filled(&clock);
        let path = path(&disk);
        // Another version, and another layout behind it.
        patch(&disk, &path, 4, &[9, 0, 0x5a]);
        let said = refused(&disk, &clock, what).to_string();
        assert!(said.contains("version 9") && said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
        // The same without keys: what is there is not called torn or damaged.
        let report = palyra_ledger::inspect::verify_files(&disk, Path::new("/home"), None).unwrap();
        if what == "segment" {
            assert!(report.findings.iter().any(|found| found.code == FindingCode::UnknownVersion), "{report:?}");
        }
        assert!(report.findings.iter().all(|found| found.code != FindingCode::TornTail), "{:?}", report.findings);
    }
}

#[test]
fn a_frame_of_a_newer_format_at_the_end_is_no_torn_write() {
    let clock = ManualClock::default();
    let (disk, last) = filled(&clock);
    let segment = disk.files().into_iter().filter(|path| path.starts_with("/home/journal")).max().unwrap();
    let mut bytes = disk.contents(&segment).unwrap();
    let end = bytes.len();
    bytes.extend_from_slice(b"PLFR\x02\x00");
    bytes.extend_from_slice(&[0x77; 300]);
    disk.put(&segment, &bytes).unwrap();
    let said = refused(&disk, &clock, "frame").to_string();
    assert!(said.contains(&format!("event {}", last + 1)) && said.contains("version 2"), "{said}");
    assert!(said.contains(&format!("byte {end}")), "{said}");
    let report = palyra_ledger::inspect::verify_files(&disk, Path::new("/home"), None).unwrap();
    assert!(report.findings.iter().any(|found| found.code == FindingCode::UnknownVersion), "{:?}", report.findings);
    // One of ours with a damaged version is a torn write like others.
    let torn = simulated(disk.clone(), 5, &clock);
    let first = disk.contents(Path::new("/home/journal/00000000000000000000.seg")).unwrap();
    let frame = palyra_ledger::log::Frame::parse(&first[128..]).unwrap();
    bytes.truncate(end);
    bytes.extend_from_slice(frame.bytes());
    bytes[end + 4] = 2;
    disk.put(&segment, &bytes).unwrap();
    disk.settle();
    let ledger = Ledger::open(torn).unwrap();
    assert_eq!(ledger.log().entry(last + 1).unwrap().kind_name(), "tail_dropped");
}

#[test]
fn reads_that_a_newer_program_spooled_wait_for_it() {
    let clock = ManualClock::default();
    let (disk, _) = filled(&clock);
    newer(&disk).spool(&OtherProgram::event(Kind::SecretsRead.number(), 2)).unwrap();
    disk.settle();
    let before = all(&disk);
    let error = Ledger::open(simulated(disk.clone(), 5, &clock)).unwrap_err();
    assert!(error.is_from_the_future() && error.to_string().contains("reads.spool"), "{error}");
    assert!(all(&disk) == before);
    // Readers do not need it.
    Ledger::open(simulated(disk, 5, &clock).read_only()).unwrap();
}

#[test]
fn what_of_a_spool_does_not_read_is_kept_as_evidence() {
    let clock = ManualClock::default();
    let (disk, last) = filled(&clock);
    let spool = Path::new("/home/reads.spool");
    let reader = Ledger::open(simulated(disk.clone(), 4, &clock).read_only()).unwrap();
    get(&reader, "key1");
    reader.close().unwrap();
    let mut bytes = disk.contents(spool).unwrap();
    bytes.extend_from_slice(b"\x40\x00\x00\x00torn");
    disk.put(spool, &bytes).unwrap();
    disk.settle();
    let ledger = Ledger::open(simulated(disk.clone(), 5, &clock)).unwrap();
    assert_eq!(ledger.log().entry(last + 1).unwrap().kind_name(), "secrets_read");
    let dropped = ledger.log().entry(last + 2).unwrap();
    assert_eq!((dropped.kind_name().as_str(), dropped.schema), ("spool_dropped", 2));
    let fields = dropped.fields();
    assert_eq!(fields["bytes"], 8);
    let kept = Path::new("/home/quarantine").join(fields["saved_as"].as_str().unwrap());
    assert_eq!(disk.contents(&kept).unwrap(), b"\x40\x00\x00\x00torn");
    assert!(!disk.exists(spool).unwrap());
}
