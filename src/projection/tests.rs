use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::base::OsRandom;
use crate::crypto::Hash;
use crate::testing::{Fault, FaultError, FaultMedium, FaultOp, SimDisk, for_every_cut};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key() -> Key {
    Key::from_bytes(&mut [9; 32])
}

fn ledger() -> LedgerId {
    LedgerId::from_bytes([7; 16])
}

fn dir() -> &'static Path {
    Path::new("/index")
}

fn position(seq: u64) -> Position {
    Position { seq, hash: Hash([1; 32]), segment: 0, offset: seq * 10 }
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(dir()).unwrap();
    disk
}

fn create(medium: impl Medium) -> Index {
    Index::create(Arc::new(medium), dir(), &key(), ledger(), 1, &OsRandom).unwrap()
}

fn open(medium: impl Medium, mode: IndexMode) -> Result<(Index, Option<Position>), IndexError> {
    Index::open(Arc::new(medium), dir(), &key(), ledger(), 1, mode, &OsRandom)
}

fn put(index: &Index, model: &mut Model, key: &[u8], value: Option<&[u8]>) {
    index.apply(vec![(key.into(), value.map(Into::into))]);
    match value {
        Some(value) => drop(model.insert(key.to_vec(), value.to_vec())),
        None => drop(model.remove(key)),
    }
}

fn scanned(index: &Index, from: &[u8], end: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StateError> {
    let mut found = Vec::new();
    index.scan(from, end, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn assert_same(index: &Index, model: &Model) {
    let all: Vec<_> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(scanned(index, &[], &[]).unwrap(), all);
    for (key, value) in model {
        assert_eq!(index.get(key).unwrap().as_ref(), Some(value));
        let mut absent = key.clone();
        absent.push(0);
        assert_eq!(index.get(&absent).unwrap(), model.get(&absent).cloned());
    }
}

fn number_key(number: u32) -> Vec<u8> {
    format!("key/{:06}", number.wrapping_mul(2_654_435_761) % 1_000_000).into_bytes()
}

/// Many runs, several merges, tombstones, and entries of all sizes.
fn filled(medium: impl Medium, rounds: u32) -> (Index, Model) {
    let index = create(medium);
    let mut model = Model::new();
    for round in 0..rounds {
        for number in round * 40..round * 40 + 60 {
            let size = if number % 97 == 0 { 5_000 } else { (number % 50) as usize };
            put(&index, &mut model, &number_key(number), Some(&vec![number as u8; size]));
        }
        put(&index, &mut model, &number_key(round * 40 + 3), None);
        index.freeze(position(u64::from(round)));
        index.flush_frozen().unwrap();
    }
    (index, model)
}

#[test]
fn what_was_flushed_is_there_after_reopening() {
    let disk = disk();
    let (index, model) = filled(disk.clone(), 30);
    assert_same(&index, &model);
    drop(index);
    for mode in [IndexMode::Read, IndexMode::Write] {
        let (index, found) = open(disk.clone(), mode).unwrap();
        assert_eq!(found, Some(position(29)));
        assert_same(&index, &model);
    }
    let runs = disk.list(dir()).unwrap().len() - 1;
    assert!(runs < 14, "{runs} runs after 30 flushes");
}

#[test]
fn a_scan_keeps_to_its_bounds_and_stops_when_told() {
    let disk = disk();
    let (index, mut model) = filled(disk, 10);
    put(&index, &mut model, b"key/5", Some(b"in memory"));
    let (from, end) = (b"key/2".as_slice(), b"key/7".as_slice());
    let expected: Vec<_> =
        model.range(from.to_vec()..end.to_vec()).map(|(key, value)| (key.clone(), value.clone())).collect();
    assert!(expected.len() > 100);
    assert_eq!(scanned(&index, from, end).unwrap(), expected);
    assert_eq!(scanned(&index, end, from).unwrap(), []);
    let mut seen = 0;
    index
        .scan(&[], &[], &mut |key, _| {
            // A visitor may read what it walks.
            assert!(index.get(key).unwrap().is_some());
            seen += 1;
            if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, 5);
}

#[test]
fn an_index_of_another_ledger_schema_or_key_is_to_be_rebuilt() {
    let disk = disk();
    drop(filled(disk.clone(), 2));
    let medium: Arc<dyn Medium> = Arc::new(disk.clone());
    let reason = |key: &Key, ledger_id, schema| {
        let opened = Index::open(Arc::clone(&medium), dir(), key, ledger_id, schema, IndexMode::Read, &OsRandom);
        match opened {
            Err(IndexError::Rebuild { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(&key(), LedgerId::from_bytes([8; 16]), 1), RebuildReason::Foreign);
    assert_eq!(reason(&key(), ledger(), 2), RebuildReason::Schema);
    assert_eq!(reason(&Key::from_bytes(&mut [8; 32]), ledger(), 1), RebuildReason::Damaged);
    Index::discard(&disk, dir()).unwrap();
    assert_eq!(reason(&key(), ledger(), 1), RebuildReason::Missing);
    assert_eq!(disk.list(dir()).unwrap(), Vec::<String>::new());
}

#[test]
fn discarding_leaves_other_files_alone_and_a_new_index_shares_no_key_with_the_old() {
    let disk = disk();
    drop(filled(disk.clone(), 1));
    disk.put(Path::new("/index/0.off"), b"offsets").unwrap();
    let run = disk.contents(Path::new("/index/run-0000000000000001.idx")).unwrap();
    Index::discard(&disk, dir()).unwrap();
    assert_eq!(disk.list(dir()).unwrap(), ["0.off"]);
    drop(filled(disk.clone(), 1));
    assert_ne!(disk.contents(Path::new("/index/run-0000000000000001.idx")).unwrap(), run);
}

#[test]
fn no_flipped_byte_gives_a_wrong_answer() {
    let disk = disk();
    let (index, model) = filled(disk.clone(), 3);
    drop(index);
    for path in disk.files() {
        let len = disk.contents(&path).unwrap().len() as u64;
        for offset in (0..len).step_by(if len > 2000 { 61 } else { 1 }) {
            let damaged = disk.snapshot();
            assert!(damaged.flip(&path, offset, 0x10));
            let Ok((index, _)) = open(damaged, IndexMode::Read) else { continue };
            for (key, value) in &model {
                if let Ok(found) = index.get(key) {
                    assert_eq!(found.as_ref(), Some(value), "{} at {offset}", path.display());
                }
            }
            if let Ok(found) = scanned(&index, &[], &[]) {
                assert_eq!(found.len(), model.len(), "{} at {offset}", path.display());
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_the_manifest_is_noticed() {
    let disk = disk();
    drop(filled(disk.clone(), 3));
    let path = dir().join(MANIFEST);
    let bytes = disk.contents(&path).unwrap();
    for offset in 0..bytes.len() as u64 {
        let damaged = disk.snapshot();
        damaged.flip(&path, offset, 1);
        assert!(matches!(open(damaged, IndexMode::Read), Err(IndexError::Rebuild { .. })), "{offset}");
    }
    for len in 0..bytes.len() {
        let damaged = disk.snapshot();
        damaged.put(&path, &bytes[..len]).unwrap();
        assert!(matches!(open(damaged, IndexMode::Read), Err(IndexError::Rebuild { .. })), "{len}");
    }
}

#[test]
fn a_crash_at_any_operation_leaves_an_index_at_a_written_position() {
    let prepare = || {
        let disk = disk();
        drop(filled(disk.clone(), 11));
        disk.settle();
        disk
    };
    let prepared = prepare();
    let work = |disk: &SimDisk| {
        let Ok((index, _)) = open(disk.clone(), IndexMode::Write) else { return 0 };
        let mut done = 0;
        for seq in 100..108_u64 {
            index.apply(vec![(seq.to_be_bytes().into(), Some(seq.to_le_bytes().into()))]);
            index.freeze(position(seq));
            if index.flush_frozen().is_ok() {
                done = seq;
            }
        }
        done
    };
    let checked = for_every_cut(
        2,
        || prepared.snapshot(),
        work,
        |cut, done, disk| {
            let (index, found) = open(disk, IndexMode::Write).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            let seq = found.unwrap().seq;
            assert!(seq >= *done, "{cut:?}");
            for number in 100..108_u64 {
                let value = index.get(&number.to_be_bytes()).unwrap();
                assert_eq!(value.is_some(), number <= seq && seq >= 100, "{cut:?}: {number} at {seq}");
            }
        },
    );
    assert!(checked > 100, "{checked}");
}

#[test]
fn a_failed_flush_leaves_everything_readable() {
    for nth in 1..30 {
        let medium = FaultMedium::new(disk());
        let (index, mut model) = filled(medium.clone(), 2);
        put(&index, &mut model, b"new", Some(b"value"));
        index.freeze(position(50));
        medium.plan(Fault::once(FaultOp::Change, nth, FaultError::NoSpace));
        let flushed = index.flush_frozen();
        assert_eq!(flushed.is_err(), medium.fired() > 0);
        assert_same(&index, &model);
        put(&index, &mut model, b"newer", Some(b"value"));
        assert_same(&index, &model);
        if medium.fired() == 0 {
            return;
        }
    }
    panic!("the sweep has no end");
}

#[test]
fn a_reader_that_opened_before_a_merge_reads_on() {
    let dir = tempfile::tempdir().unwrap();
    let medium: Arc<dyn Medium> = Arc::new(crate::store::RealMedium);
    let writer = Index::create(Arc::clone(&medium), dir.path(), &key(), ledger(), 1, &OsRandom).unwrap();
    let mut model = Model::new();
    for round in 0..40_u64 {
        for number in 0..20_u64 {
            let name = (round * 20 + number).to_be_bytes();
            put(&writer, &mut model, &name, Some(b"value"));
        }
        writer.freeze(position(round));
        let (reader, found) = if round > 0 {
            Index::open(Arc::clone(&medium), dir.path(), &key(), ledger(), 1, IndexMode::Read, &OsRandom).unwrap()
        } else {
            continue;
        };
        writer.flush_frozen().unwrap();
        let seq = found.map_or(0, |at| at.seq);
        assert_eq!(scanned(&reader, &[], &[]).unwrap().len() as u64, if found.is_some() { (seq + 1) * 20 } else { 0 });
    }
    assert_same(&writer, &model);
}

#[test]
fn readers_and_a_writer_share_one_index() {
    let index = create(disk());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..300_u64 {
                    // Written in order, so what is there is a first part without holes.
                    let found = scanned(&index, &[], &[]).unwrap();
                    for (expected, (key, _)) in (0_u64..).zip(&found) {
                        assert_eq!(key, &expected.to_be_bytes(), "round {round}");
                    }
                }
            });
        }
        for number in 0..2_000_u64 {
            index.apply(vec![(number.to_be_bytes().into(), Some(b"v".as_slice().into()))]);
            if number % 50 == 49 {
                index.freeze(position(number));
                index.flush_frozen().unwrap();
            }
        }
    });
    assert_eq!(scanned(&index, &[], &[]).unwrap().len(), 2_000);
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Freeze,
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![prop::collection::vec(0_u8..4, 0..5), prop::collection::vec(any::<u8>(), 0..300)];
    prop_oneof![
        8 => (key(), prop::collection::vec(any::<u8>(), 0..1500)).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key().prop_map(Step::Remove),
        2 => Just(Step::Freeze),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_does_what_a_map_does(steps in prop::collection::vec(step(), 1..120)) {
        let disk = disk();
        let mut index = create(disk.clone());
        let mut model = Model::new();
        // What a reopening goes back to: the state at the last freeze that was flushed.
        let mut durable = Model::new();
        let mut frozen = None;
        for (seq, step) in (0..).zip(steps) {
            match step {
                Step::Put(key, value) => put(&index, &mut model, &key, Some(&value)),
                Step::Remove(key) => put(&index, &mut model, &key, None),
                Step::Freeze => {
                    index.freeze(position(seq));
                    frozen = Some(model.clone());
                }
                Step::Flush => {
                    index.flush_frozen().unwrap();
                    durable = frozen.take().unwrap_or(durable);
                }
                Step::Reopen => {
                    index = open(disk.clone(), IndexMode::Write).unwrap().0;
                    frozen = None;
                    model = durable.clone();
                }
            }
        }
        assert_same(&index, &model);
    }
}

/// Run by hand: `cargo test --release --lib projection -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn speed_at_a_million_keys() {
    use std::time::Instant;
    let dir = tempfile::tempdir().unwrap();
    let medium: Arc<dyn Medium> = Arc::new(crate::store::RealMedium);
    let index = Index::create(Arc::clone(&medium), dir.path(), &key(), ledger(), 1, &OsRandom).unwrap();
    let name = |number: u32| format!("global\0name{:08}", number.wrapping_mul(2_654_435_761)).into_bytes();
    let begun = Instant::now();
    for number in 0..1_000_000_u32 {
        index.apply(vec![(name(number).into(), Some(vec![7; 80].into()))]);
        if index.should_flush() {
            index.freeze(position(u64::from(number)));
            index.flush_frozen().unwrap();
        }
    }
    println!("load {:?}", begun.elapsed());
    let bytes: u64 = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!("{bytes} bytes, {} runs", index.read_tables().runs.len());
    let begun = Instant::now();
    let (index, _) = Index::open(medium, dir.path(), &key(), ledger(), 1, IndexMode::Read, &OsRandom).unwrap();
    index.get(&name(77)).unwrap();
    println!("open and get {:?}", begun.elapsed());
    for _ in 0..2 {
        let begun = Instant::now();
        for number in 0..200_000_u32 {
            index.get(&name(number.wrapping_mul(48_271) % 900_000)).unwrap().unwrap();
        }
        println!("get {:?} each", begun.elapsed() / 200_000);
    }
    let begun = Instant::now();
    let found = scanned(&index, &[], &[]).unwrap().len();
    println!("scan of {found} {:?}", begun.elapsed());
}

/// A crash after a run's file is written and before a manifest names it: its number is used again.
#[test]
fn a_run_that_no_manifest_named_shares_no_key_with_the_next_of_its_number() {
    let contents = |disk: &SimDisk, name: &str| disk.read_all(&dir().join(name), u64::MAX).unwrap();
    let write = |disk: &SimDisk| {
        let (index, _) = open(disk.clone(), IndexMode::Write).unwrap();
        index.apply(vec![(b"key".as_slice().into(), Some(b"the very same value".as_slice().into()))]);
        index.freeze(position(1));
        index.flush_frozen().unwrap();
        contents(disk, "run-0000000000000001.idx")
    };
    let disk = disk();
    drop(create(disk.clone()));
    let manifest = contents(&disk, "MANIFEST");
    let first = write(&disk);
    disk.write_atomic(&dir().join("MANIFEST"), &manifest).unwrap();
    let second = write(&disk);
    assert_ne!(first.get(..16), second.get(..16), "one key and nonce sealed two runs");
}
