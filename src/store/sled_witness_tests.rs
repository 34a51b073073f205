use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::store::{TailCheck, check_tail};
use crate::testing::flip_byte_at_path;

const RANDOM: [u8; 8] = [0xab; 8];

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A frame that nothing else could be mistaken for.
fn frame(seq: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seq.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn append(witness: &mut SledWitness, frames: &[(u64, Vec<u8>)]) {
    let frames: Vec<(u64, &[u8])> = frames.iter().map(|(seq, frame)| (*seq, frame.as_slice())).collect();
    witness.append(&frames).unwrap();
}

fn numbered(sizes: impl IntoIterator<Item = usize>, first: u64) -> Vec<(u64, Vec<u8>)> {
    (first..).zip(sizes).map(|(seq, len)| (seq, frame(seq, len))).collect()
}

fn all(witness: &SledWitness, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, WitnessError> {
    let mut found = Vec::new();
    witness.read_range(from, to, &mut |seq, frame| {
        found.push((seq, frame.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn blobs(home: &Path) -> usize {
    fs::read_dir(home.join("sled/blobs")).unwrap().count()
}

fn names(dir: &Path) -> Vec<String> {
    RealMedium.list(dir).unwrap()
}

/// Frames of sizes on both sides of every boundary, in several appends and openings, so that
/// snapshots exist, too.
fn filled(home: &Path) -> Vec<(u64, Vec<u8>)> {
    let sizes = [300, 8183, 8187, 8188, 1, 20_000, 400, 400, 400, 9000, 12, 40_000, 700, 700];
    let frames = numbered(sizes.into_iter().cycle().take(56), 0);
    drop(SledWitness::create(home, RANDOM).unwrap());
    for chunk in frames.chunks(14) {
        let mut witness = SledWitness::open(home).unwrap();
        append(&mut witness, chunk);
        Box::new(witness).close().unwrap();
    }
    frames
}

#[test]
fn a_new_log_is_empty_and_lies_in_its_place() {
    let home = home();
    assert!(!SledWitness::present(home.path()).unwrap());
    let witness = SledWitness::create(home.path(), RANDOM).unwrap();
    assert_eq!((witness.last().unwrap(), witness.read(0).unwrap()), (None, None));
    assert_eq!(all(&witness, 0, u64::MAX).unwrap(), []);
    assert_eq!(names(home.path()), ["sled"]);
    assert_eq!(fs::metadata(home.path().join("sled")).unwrap().permissions().mode() & 0o777, 0o700);
    drop(witness);
    let again = SledWitness::create(home.path(), RANDOM).unwrap_err();
    assert!(matches!(again, WitnessError::Store(StoreError { ref source, .. })
        if source.kind() == std::io::ErrorKind::AlreadyExists));
    Box::new(SledWitness::open(home.path()).unwrap()).close().unwrap();
}

#[test]
fn what_was_appended_is_read_back_after_reopening_across_all_boundaries() {
    let home = home();
    let frames = filled(home.path());
    let witness = SledWitness::open(home.path()).unwrap();
    assert_eq!(witness.last().unwrap(), Some(55));
    assert_eq!(all(&witness, 0, 55).unwrap(), frames);
    assert_eq!(all(&witness, 0, u64::MAX).unwrap(), frames);
    for from in 0..56 {
        assert_eq!(
            all(&witness, from, from + 3).unwrap(),
            frames.iter().skip(from as usize).take(4).cloned().collect::<Vec<_>>()
        );
        assert_eq!(witness.read(from).unwrap().unwrap(), frames[from as usize].1);
    }
    assert_eq!((witness.read(56).unwrap(), witness.read(u64::MAX).unwrap()), (None, None));
    assert_eq!(all(&witness, 56, 60).unwrap(), []);
    assert_eq!(blobs(home.path()), 0);
}

#[test]
fn a_walk_stops_where_it_is_told() {
    let home = home();
    filled(home.path());
    let witness = SledWitness::open(home.path()).unwrap();
    let mut seen = 0;
    witness
        .read_range(3, 50, &mut |seq, _| {
            seen = seq;
            if seq == 11 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 11);
}

#[test]
fn full_values_never_become_blob_files() {
    let home = home();
    let mut witness = SledWitness::create(home.path(), RANDOM).unwrap();
    // Frames that fill a value each to the last byte, and split ones, appended one by one.
    for (at, len) in [8187, 8187, 8187, 8187, 300_000].into_iter().cycle().take(150).enumerate() {
        let seq = at as u64;
        append(&mut witness, &[(seq, frame(seq, len))]);
        if at % 20 == 0 {
            witness.sync().unwrap();
        }
    }
    witness.sync().unwrap();
    assert_eq!(blobs(home.path()), 0);
    Box::new(witness).close().unwrap();
    assert_eq!(blobs(home.path()), 0);
    assert_eq!(SledWitness::open(home.path()).unwrap().last().unwrap(), Some(149));
}

#[test]
fn frames_that_do_not_follow_are_refused_and_end_the_witness() {
    for (frames, expected) in [
        (vec![(5, &b"x"[..])], Inconsistency::NotNext { expected: 2, given: 5 }),
        (vec![(2, &b"x"[..]), (2, &b"y"[..])], Inconsistency::NotNext { expected: 3, given: 2 }),
        (vec![(2, &b"x"[..]), (3, &b""[..])], Inconsistency::FrameSize { seq: 3, len: 0 }),
    ] {
        let home = home();
        let mut witness = SledWitness::create(home.path(), RANDOM).unwrap();
        append(&mut witness, &numbered([5, 6], 0));
        let refused = witness.append(&frames).unwrap_err();
        assert!(matches!(refused, WitnessError::Inconsistent(found) if found == expected), "{refused}");
        assert!(matches!(witness.sync(), Err(WitnessError::Dead)));
        assert!(matches!(witness.read(0), Err(WitnessError::Dead)));
        assert!(matches!(witness.last(), Err(WitnessError::Dead)));
        assert!(matches!(witness.append(&[]), Err(WitnessError::Dead)));
        assert!(matches!(Box::new(witness).close(), Err(WitnessError::Dead)));
        let reopened = SledWitness::open(home.path()).unwrap();
        assert_eq!(reopened.last().unwrap(), Some(1), "nothing of a refused append is stored");
    }
}

#[test]
fn a_log_may_begin_at_any_number() {
    let home = home();
    let mut witness = SledWitness::create(home.path(), RANDOM).unwrap();
    let frames = numbered([100, 9000, 100], 1_000_000);
    append(&mut witness, &frames);
    assert_eq!(witness.read(999_999).unwrap(), None);
    assert_eq!(all(&witness, 1_000_000, 2_000_000).unwrap(), frames);
    let gap = all(&witness, 999_990, 2_000_000).unwrap_err();
    assert!(matches!(gap, WitnessError::Inconsistent(Inconsistency::Gap { expected: 999_990, found: 1_000_000 })));
}

#[test]
fn the_first_parts_of_a_torn_frame_are_removed_when_opened() {
    let home = home();
    let frames = filled(home.path());
    let whole = sled_pack::pack(&[(56, &frame(56, 30_000))]).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let raw = SledWitness::open(home.path()).unwrap();
    for (key, value) in whole.iter().take(2) {
        raw.handle.as_ref().unwrap().events.insert(key, value.as_slice()).unwrap();
    }
    Box::new(raw).close().unwrap();
    let mut witness = SledWitness::open(home.path()).unwrap();
    assert_eq!(witness.last().unwrap(), Some(55));
    append(&mut witness, &[(56, frame(56, 10))]);
    assert_eq!(all(&witness, 0, 100).unwrap()[56], (56, frame(56, 10)));
    assert_eq!(all(&witness, 0, 55).unwrap(), frames);
}

#[test]
fn a_hole_or_a_foreign_value_is_an_error_and_not_a_silence() {
    for (case, expected) in [
        (0, "frame 16 was expected, the copy goes on with frame 17"),
        (1, "the value at frame 16 has the unknown format 9"),
        (2, "the value at frame 16 is malformed"),
        (3, "a key is malformed"),
        (4, "frame 53 is not whole"),
    ] {
        let home = home();
        filled(home.path());
        let witness = SledWitness::open(home.path()).unwrap();
        let events = &witness.handle.as_ref().unwrap().events;
        match case {
            0 => drop(events.remove(sled_pack::key(16, 0)).unwrap().unwrap()),
            1 => drop(events.insert(sled_pack::key(16, 0), &[9, 9]).unwrap()),
            2 => drop(events.insert(sled_pack::key(16, 0), &[1, 9]).unwrap()),
            3 => drop(events.insert(b"\0\0\0\0\0\0\0\x10\0\0\0", &[1]).unwrap()),
            _ => drop(events.remove(sled_pack::key(53, 2)).unwrap().unwrap()),
        }
        let found = all(&witness, 0, 55).unwrap_err().to_string();
        assert_eq!(found.strip_prefix("the second copy of the log is not what was written: ").unwrap(), expected);
        assert!(matches!(witness.last(), Err(WitnessError::Dead)));
    }
}

#[test]
fn what_a_crash_during_creation_leaves_is_swept_away() {
    let home = home();
    let stage = home.path().join("sled.new-0123456789abcdef");
    fs::create_dir_all(stage.join("blobs")).unwrap();
    fs::write(stage.join("conf"), b"torn").unwrap();
    fs::write(home.path().join("sled.new-file"), b"").unwrap();
    fs::write(home.path().join("head"), b"keep").unwrap();
    std::os::unix::fs::symlink(home.path().join("head"), home.path().join("sled.new-link")).unwrap();
    drop(SledWitness::create(home.path(), RANDOM).unwrap());
    assert_eq!(names(home.path()), ["head", "sled"]);
    fs::create_dir(&stage).unwrap();
    drop(SledWitness::open(home.path()).unwrap());
    assert_eq!(names(home.path()), ["head", "sled"]);
}

#[test]
fn a_torn_folder_is_refused_and_not_filled() {
    let home = home();
    let missing = SledWitness::open(home.path()).unwrap_err();
    assert!(matches!(missing, WitnessError::Store(ref error) if error.is_not_found()), "{missing}");
    let dir = home.path().join("sled");
    fs::create_dir(&dir).unwrap();
    let file_missing = |home: &Path| match SledWitness::open(home).unwrap_err() {
        WitnessError::Inconsistent(Inconsistency::FileMissing { name }) => name,
        other => panic!("{other}"),
    };
    assert_eq!(file_missing(home.path()), "conf");
    fs::write(dir.join("conf"), b"x").unwrap();
    assert_eq!(file_missing(home.path()), "db");
    fs::write(dir.join("db"), b"").unwrap();
    assert_eq!(file_missing(home.path()), "conf");
    assert_eq!(names(&dir), ["conf", "db"]);
    std::os::unix::fs::symlink("/etc/passwd", dir.join("snap.0")).unwrap();
    let strange = SledWitness::open(home.path()).unwrap_err();
    assert!(matches!(strange, WitnessError::Inconsistent(Inconsistency::StrangeFile)), "{strange}");
}

#[test]
fn a_data_file_that_lost_everything_does_not_open_as_an_empty_log() {
    let home = home();
    filled(home.path());
    let db = home.path().join("sled/db");
    let len = fs::metadata(&db).unwrap().len();
    fs::write(&db, vec![0; usize::try_from(len).unwrap()]).unwrap();
    for name in names(&home.path().join("sled")).iter().filter(|name| name.starts_with("snap.")) {
        fs::remove_file(home.path().join("sled").join(name)).unwrap();
    }
    let lost = SledWitness::open(home.path()).unwrap_err();
    assert!(matches!(lost, WitnessError::Inconsistent(Inconsistency::NoTree)), "{lost}");
}

#[test]
fn setting_aside_keeps_every_byte_and_finds_a_free_name() {
    let home = home();
    filled(home.path());
    let bytes = |dir: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let found = sled_files::survey(dir).unwrap();
        found.files.iter().map(|path| (path.strip_prefix(dir).unwrap().to_owned(), fs::read(path).unwrap())).collect()
    };
    let before = bytes(&home.path().join("sled"));
    let copy = SledWitness::copy_aside(home.path(), "2026-11-24T03:11:00Z").unwrap();
    assert_eq!(copy, home.path().join("quarantine/2026-11-24T03:11:00Z-sled-copy"));
    assert_eq!(bytes(&copy), before);
    assert_eq!(fs::metadata(copy.join("db")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(copy.join("blobs")).unwrap().permissions().mode() & 0o777, 0o700);
    fs::create_dir(home.path().join("quarantine/left-sled-copy.partial")).unwrap();
    let second = SledWitness::copy_aside(home.path(), "2026-11-24T03:11:00Z").unwrap();
    assert_eq!(second, home.path().join("quarantine/2026-11-24T03:11:00Z-sled-copy-2"));
    SledWitness::remove_copy(&second).unwrap();
    let aside = SledWitness::set_aside(home.path(), "2026-11-24T03:11:00Z").unwrap();
    assert_eq!(bytes(&aside), before);
    assert_eq!(names(&home.path().join("quarantine")), ["2026-11-24T03:11:00Z-sled", "2026-11-24T03:11:00Z-sled-copy"]);
    assert!(!SledWitness::present(home.path()).unwrap());
    drop(SledWitness::create(home.path(), RANDOM).unwrap());
    let next = SledWitness::set_aside(home.path(), "2026-11-24T03:11:00Z").unwrap();
    assert!(next.ends_with("2026-11-24T03:11:00Z-sled-2"));
    for bad in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(65)] {
        let refused = SledWitness::set_aside(home.path(), bad).unwrap_err();
        assert!(matches!(refused, WitnessError::Inconsistent(Inconsistency::Name)), "{bad}");
    }
}

#[test]
fn a_copy_is_whole_although_snapshots_are_replaced_meanwhile() {
    // Found by killing processes: a verification of an open ledger met sled at work, and spoke of damage.
    let home = home();
    let dir = home.path().join("sled");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("db"), vec![7; 1 << 20]).unwrap();
    fs::write(dir.join("snap.0"), b"snapshot").unwrap();
    std::thread::scope(|scope| {
        let sled = scope.spawn(|| {
            for number in 0..30 {
                std::thread::sleep(Duration::from_millis(20));
                fs::write(dir.join(format!("snap.{}", number + 1)), b"snapshot").unwrap();
                fs::remove_file(dir.join(format!("snap.{number}"))).unwrap();
            }
        });
        while !sled.is_finished() {
            let to = home.path().join("copy");
            sled_files::copy_tree(&dir, &to).unwrap();
            assert_eq!(fs::read(to.join("db")).unwrap().len(), 1 << 20);
            sled_files::remove_tree(&to).unwrap();
        }
    });
}

#[test]
fn reading_a_copy_as_evidence_leaves_the_original_alone_and_takes_no_frames() {
    let home = home();
    let frames = filled(home.path());
    let dir = home.path().join("sled");
    let before: Vec<_> = sled_files::survey(&dir).unwrap().files.iter().map(|path| fs::read(path).unwrap()).collect();
    let scratch = home.path().join("scratch");
    let mut evidence = SledWitness::open_copy(&dir, &scratch).unwrap();
    assert_eq!(all(&evidence, 0, 100).unwrap(), frames);
    let refused = evidence.append(&[(56, b"x")]).unwrap_err();
    assert!(matches!(refused, WitnessError::Inconsistent(Inconsistency::ReadOnly)));
    drop(evidence);
    assert!(SledWitness::open_copy(&dir, &scratch).is_err(), "something stands there");
    SledWitness::remove_copy(&scratch).unwrap();
    SledWitness::remove_copy(&scratch).unwrap();
    let after: Vec<_> = sled_files::survey(&dir).unwrap().files.iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_log_in_use_is_told_from_a_damaged_one() {
    let home = home();
    let first = SledWitness::create(home.path(), RANDOM).unwrap();
    assert!(matches!(SledWitness::open(home.path()).unwrap_err(), WitnessError::Locked { .. }));
    drop(first);
    drop(SledWitness::open(home.path()).unwrap());
}

#[test]
fn a_panic_goes_no_further_and_its_text_is_short() {
    assert!(!inside_sled());
    let caught = contained(WitnessOp::Read, || {
        assert!(inside_sled());
        std::panic::resume_unwind(Box::new("é".repeat(1000)));
    });
    let Err(WitnessError::Panicked { op: WitnessOp::Read, what }) = caught else { panic!("not caught") };
    assert_eq!(what.chars().count(), 200);
    assert!(!inside_sled());
}

#[test]
fn a_witness_that_panicked_is_dead_and_is_not_dropped() {
    let home = home();
    let witness = SledWitness::create(home.path(), RANDOM).unwrap();
    let caught = witness.guarded::<()>(WitnessOp::Read, |_| std::panic::resume_unwind(Box::new("sled broke")));
    assert!(matches!(caught, Err(WitnessError::Panicked { ref what, .. }) if what == "sled broke"));
    assert!(matches!(witness.read(0), Err(WitnessError::Dead)));
    drop(witness);
    let aside = SledWitness::set_aside(home.path(), "t").unwrap();
    assert!(aside.exists());
    drop(SledWitness::create(home.path(), RANDOM).unwrap());
}

/// What came of opening one damaged copy.
#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    failed_reading: u32,
    reported: u32,
    right: u32,
}

/// Flips one byte of a copy and checks that what is read is right, or that somebody says so.
fn flip_and_check(dir: &Path, name: &str, offset: u64, frames: &[(u64, Vec<u8>)], tally: &mut Tally) {
    let room = home();
    let damaged = room.path().join("sled");
    sled_files::copy_tree(dir, &damaged).unwrap();
    assert!(flip_byte_at_path(&damaged.join(name), offset, 0x10).unwrap());
    let Ok(witness) = SledWitness::open(room.path()) else {
        tally.refused += 1;
        return;
    };
    let mut journal = |seq: u64| frames.get(usize::try_from(seq).unwrap()).map(|(_, frame)| frame.clone());
    let Ok(checked) = check_tail(&witness, &mut journal, 55, 56) else {
        tally.failed_reading += 1;
        return;
    };
    let read = all(&witness, 0, 55);
    match checked {
        TailCheck::Agree { last: 55 } => {
            assert_eq!(read.unwrap(), frames, "{name} {offset}: read wrongly, reported by nobody");
            tally.right += 1;
        }
        TailCheck::Behind { last } => {
            let kept = last.map_or(0, |last| usize::try_from(last).unwrap() + 1);
            assert_eq!(read.unwrap(), frames[..kept], "{name} {offset}: a wrong beginning");
            tally.reported += 1;
        }
        TailCheck::Differs { .. } => tally.reported += 1,
        other => panic!("{name} {offset}: {other:?}"),
    }
}

#[test]
fn no_flipped_byte_panics_outwards_or_gives_wrong_frames_unreported() {
    let home = home();
    let frames = filled(home.path());
    let dir = home.path().join("sled");
    for name in names(&dir).iter().filter(|name| *name != "blobs") {
        let bytes = fs::read(dir.join(name)).unwrap();
        let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        let samples = if name == "db" { 120 } else { 40 };
        let mut tally = Tally::default();
        for sample in 0..samples {
            let at = used[(used.len() - 1) * sample / (samples - 1)];
            flip_and_check(&dir, name, at as u64, &frames, &mut tally);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_sizes_in_any_appends_come_back(
        batches in prop::collection::vec(prop::collection::vec(prop_oneof![
            1_usize..500, 1_usize..40_960, 8180_usize..8195, 16_370_usize..16_380,
        ], 1..14), 1..6),
        reopen in any::<bool>(),
    ) {
        let home = home();
        let mut witness = SledWitness::create(home.path(), RANDOM).unwrap();
        let mut frames = Vec::new();
        for sizes in batches {
            let batch = numbered(sizes, frames.len() as u64);
            append(&mut witness, &batch);
            frames.extend(batch);
            if reopen {
                Box::new(witness).close().unwrap();
                witness = SledWitness::open(home.path()).unwrap();
            }
        }
        prop_assert_eq!(witness.last().unwrap(), Some(frames.len() as u64 - 1));
        prop_assert_eq!(&all(&witness, 0, u64::MAX).unwrap(), &frames);
        for (seq, frame) in &frames {
            let read = witness.read(*seq).unwrap();
            prop_assert_eq!(read.as_ref(), Some(frame));
        }
        prop_assert_eq!(blobs(home.path()), 0);
    }
}
