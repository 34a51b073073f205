//! A scan on every core gives what a plain walk gives.

use std::ops::ControlFlow;

use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Entry, Ledger, Scan};

use super::{init, put};

fn long(disk: &SimDisk, clock: &ManualClock) -> Ledger {
    let ledger = init(disk, clock);
    for number in 0..9000 {
        clock.advance(7);
        put(&ledger, &format!("key-{}", number % 3), &number.to_string());
    }
    ledger
}

fn scanned(ledger: &Ledger, scan: &Scan<'_>, limit: usize) -> Vec<Entry> {
    let mut found = Vec::new();
    ledger
        .log()
        .scan(scan, &mut |entry| {
            found.push(entry);
            if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    found
}

#[test]
fn a_scan_finds_what_a_walk_finds_in_either_order_and_stops_where_it_is_told() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = long(&disk, &clock);
    let wants = |entry: &Entry| entry.event.secret_refs() == ["global/key-1"];
    let header = |header: &palyra_ledger::log::Header| header.seq.is_multiple_of(2);
    let mut walked = Vec::new();
    ledger
        .log()
        .read(10, 8900, &mut |entry| {
            if wants(&entry) && entry.seq.is_multiple_of(2) {
                walked.push(entry);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(walked.len() > 1000);
    let scan = Scan { from: 10, to: 8900, header: &header, wants: &wants, ..Scan::all() };
    assert_eq!(scanned(&ledger, &scan, usize::MAX), walked);
    assert_eq!(scanned(&ledger, &scan, 700), walked[..700]);
    let newest = Scan { newest_first: true, ..scan };
    walked.reverse();
    assert_eq!(scanned(&ledger, &newest, usize::MAX), walked);
    assert_eq!(scanned(&ledger, &newest, 3), walked[..3]);
    let none = Scan { from: 9, to: 8, ..Scan::all() };
    assert!(scanned(&ledger, &none, usize::MAX).is_empty());
    let beyond = Scan { from: 1_000_000, ..Scan::all() };
    assert!(scanned(&ledger, &beyond, usize::MAX).is_empty());
}

#[test]
fn damage_is_said_and_not_passed_over() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = long(&disk, &clock);
    let path = disk.files().into_iter().find(|path| path.starts_with("/home/journal")).unwrap();
    assert!(disk.flip(&path, disk.contents(&path).unwrap().len() as u64 / 3, 1));
    let failed = ledger.log().scan(&Scan::all(), &mut |_| ControlFlow::Continue(()));
    assert!(failed.is_err());
}
