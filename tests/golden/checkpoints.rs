//! Checkpoints, an anchor, and a branch of history.

use std::path::Path;

use palyra_ledger::checkpoint::{Fit, SignedCheckpoint, split_notes};
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Config, Ledger, NewSlot, PutOptions, SecretBytes};

use super::{Release, config, fields as of_entry, settings, told_with};

pub const RELEASE: Release = Release { folder: "0006-checkpoints", make, told: fields };

const ANCHOR: &str = "/home/kept/anchor.note";

fn fields(ledger: &Ledger) -> String {
    told_with(ledger, |entry| match entry.kind {
        16..=19 => format!(" {}", of_entry(entry)),
        _ => String::new(),
    })
}

fn anchored(disk: &SimDisk, seed: u64, clock: &ManualClock) -> Config {
    let mut settings = settings();
    settings.anchors.files = vec![ANCHOR.into()];
    config(disk, seed, clock).settings(settings)
}

fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let put = |ledger: &Ledger, value: &str| {
        clock.advance(1000);
        let vault = ledger.vault("global".parse().unwrap());
        vault.put(&"api_key".parse().unwrap(), &SecretBytes::from(value.as_bytes()), PutOptions::new()).unwrap();
    };
    let ledger = Ledger::init(anchored(&disk, 1, &clock), NewSlot::file("machine")).unwrap();
    disk.put_dir(Path::new("/home/kept")).unwrap();
    put(&ledger, "first");
    ledger.close().unwrap();
    disk.settle();
    let older = disk.snapshot();
    let ledger = Ledger::open(anchored(&disk, 2, &clock)).unwrap();
    put(&ledger, "given up");
    put(&ledger, "given up as well");
    ledger.checkpoint().unwrap();
    ledger.close().unwrap();
    older.put(Path::new(ANCHOR), &disk.contents(Path::new(ANCHOR)).unwrap()).unwrap();
    let ledger = Ledger::start_branch(anchored(&older, 3, &clock)).unwrap();
    put(&ledger, "second");
    ledger.checkpoint().unwrap();
    ledger.close().unwrap();
    older
}

#[test]
fn the_anchor_of_the_store_fits_and_shows_both_branches() {
    let (disk, clock) = (RELEASE.load(), ManualClock::default());
    let ledger = Ledger::open(anchored(&disk, 9, &clock)).unwrap();
    let bytes = disk.contents(Path::new(ANCHOR)).unwrap();
    let by = ledger.checkpoint_key().unwrap();
    let fits: Vec<_> = split_notes(&bytes)
        .0
        .iter()
        .map(|note| {
            let read = SignedCheckpoint::verify(note, &by).unwrap();
            (read.checkpoint().branch, ledger.compare_note("file:test", note).unwrap().fit)
        })
        .collect();
    assert_eq!(
        fits,
        [(0, Some(Fit::Superseded { since: 2 })), (1, Some(Fit::Holds)), (1, Some(Fit::Holds))],
        "what was given up, and what took its place"
    );
}
