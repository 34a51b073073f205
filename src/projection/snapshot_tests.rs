//! Snapshots: spread over the log, bounded, and never believed where a byte of them is another.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::base::{LedgerId, OsRandom, StateRead, limits};
use crate::crypto::{Hash, Key};
use crate::log::Position;
use crate::store::Medium;
use crate::testing::SimDisk;

use super::{Index, IndexError, IndexMode};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn key() -> Key {
    Key::from_bytes(&mut [9; 32])
}

fn owner() -> (LedgerId, u32) {
    (LedgerId::from_bytes([7; 16]), 1)
}

fn dir() -> &'static Path {
    Path::new("/index")
}

fn position(seq: u64) -> Position {
    Position { seq, hash: Hash([1; 32]), segment: 0, offset: 0 }
}

fn contents(index: &Index) -> Map {
    let mut found = Map::new();
    index
        .scan(&[], &[], &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// An index of as many flushes, each a step of events apart; what it held at each.
fn made(disk: &SimDisk, flushes: u64, step: u64) -> BTreeMap<u64, Map> {
    disk.create_dir(dir()).unwrap();
    let index = Index::create(Arc::new(disk.clone()), dir(), &key(), owner().0, 1, &OsRandom).unwrap();
    let mut states = BTreeMap::new();
    for number in 1..=flushes {
        for part in 0..3_u64 {
            let at = (number * 7 + part) % 11;
            let value = (number % 5 != 0).then(|| format!("value {number}").into_bytes().into());
            index.apply(vec![(format!("key {at}").into_bytes().into(), value)]);
        }
        index.freeze(position(number * step));
        index.flush_frozen().unwrap();
        states.insert(number * step, contents(&index));
    }
    states
}

fn scratch(disk: &SimDisk, number: usize, until: u64) -> Result<Option<(u64, Map)>, IndexError> {
    let found = Index::snapshots(disk, dir(), &key(), owner(), until)?;
    let Some(snapshot) = found.get(number) else { return Ok(None) };
    let (seq, own) = (snapshot.position().seq, SimDisk::new());
    own.create_dir(Path::new("/own")).unwrap();
    let base = Some((disk as &dyn Medium, dir(), snapshot));
    let index = Index::scratch((Arc::new(own), Path::new("/own")), &key(), owner(), base, &OsRandom)?;
    Ok(Some((seq, contents(&index))))
}

#[test]
fn snapshots_are_spread_bounded_and_hold_what_was() {
    let disk = SimDisk::new();
    let states = made(&disk, 120, limits::SNAPSHOT_EVENTS_MIN);
    let last = 120 * limits::SNAPSHOT_EVENTS_MIN;
    let found: Vec<u64> = Index::snapshots(&disk, dir(), &key(), owner(), u64::MAX)
        .unwrap()
        .iter()
        .map(|snapshot| snapshot.position().seq)
        .collect();
    // The live index is one of them.
    assert!(found.len() <= limits::SNAPSHOTS_MAX + 1 && found.len() > limits::SNAPSHOTS_MAX / 2, "{found:?}");
    assert_eq!(found.first(), Some(&last));
    for near in found.windows(2) {
        assert!(near[0] - near[1] <= last / 4, "{found:?}");
    }
    for number in 0..found.len() {
        let (seq, held) = scratch(&disk, number, u64::MAX).unwrap().unwrap();
        assert_eq!(held, states[&seq], "{seq}");
    }
    let (seq, _) = scratch(&disk, 0, last / 2).unwrap().unwrap();
    assert!(seq <= last / 2 && seq > last / 4);
    // Nothing that nobody names is left behind, and opening keeps all of them.
    let before = disk.files();
    drop(Index::open(Arc::new(disk.clone()), dir(), &key(), owner().0, 1, IndexMode::Write, &OsRandom).unwrap());
    assert_eq!(disk.files(), before);
}

#[test]
fn a_snapshot_with_any_byte_changed_is_found_out_before_it_is_used() {
    let disk = SimDisk::new();
    let states = made(&disk, 4, limits::SNAPSHOT_EVENTS_MIN);
    for path in disk.files() {
        let length = disk.contents(&path).unwrap().len() as u64;
        for offset in 0..length {
            let damaged = disk.snapshot();
            assert!(damaged.flip(&path, offset, 0x10));
            // The newest one at each offset, and the others in turn.
            for number in [0, 1 + usize::try_from(offset % 4).unwrap()] {
                match scratch(&damaged, number, u64::MAX) {
                    Ok(Some((seq, held))) => assert_eq!(held, states[&seq], "{} {offset}", path.display()),
                    Ok(None) | Err(IndexError::Rebuild { .. }) => {}
                    Err(error) => panic!("{} {offset}: {error}", path.display()),
                }
            }
        }
    }
}

#[test]
fn snapshots_of_another_time_line_are_dropped_by_whoever_writes() {
    let disk = SimDisk::new();
    made(&disk, 3, limits::SNAPSHOT_EVENTS_MIN);
    let old = disk.contents(&dir().join("MANIFEST")).unwrap();
    let index =
        Index::open(Arc::new(disk.clone()), dir(), &key(), owner().0, 1, IndexMode::Write, &OsRandom).unwrap().0;
    for number in 4..=6 {
        index.apply(vec![(b"more".as_slice().into(), Some(vec![number].into()))]);
        index.freeze(position(u64::from(number) * limits::SNAPSHOT_EVENTS_MIN));
        index.flush_frozen().unwrap();
    }
    drop(index);
    // Somebody put an older manifest back: numbers of runs are given again from there.
    disk.write_atomic(&dir().join("MANIFEST"), &old).unwrap();
    let (index, at) =
        Index::open(Arc::new(disk.clone()), dir(), &key(), owner().0, 1, IndexMode::Write, &OsRandom).unwrap();
    assert_eq!(at.map(|at| at.seq), Some(3 * limits::SNAPSHOT_EVENTS_MIN));
    for number in 4..=6_u8 {
        index.apply(vec![(b"other".as_slice().into(), Some(vec![number].into()))]);
        index.freeze(position(u64::from(number) * limits::SNAPSHOT_EVENTS_MIN));
        index.flush_frozen().unwrap();
    }
    let held = contents(&index);
    assert_eq!(scratch(&disk, 0, u64::MAX).unwrap().unwrap().1, held);
}
