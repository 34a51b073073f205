//! Whether, when and how reads are recorded.

use std::ops::ControlFlow;

use palyra_ledger::event::Event;
use palyra_ledger::testing::ManualClock;
use palyra_ledger::{AuditReads, GetOptions, Ledger, NewSlot, Scope};

use super::common::{disk_with_ledger, get, name, put, real, settings, simulated};

fn recorded(ledger: &Ledger) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            if let Event::SecretsRead(event) = entry.event {
                found.extend(event.reads.iter().map(|read| (read.name.to_string(), read.count)));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn ledger_with(reads: AuditReads) -> Ledger {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let config = simulated(disk, 3, &clock).settings(settings(reads));
    let ledger = Ledger::open(config).unwrap();
    put(&ledger, "a", "1");
    put(&ledger, "b", "2");
    ledger
}

#[test]
fn off_records_no_read() {
    let ledger = ledger_with(AuditReads::Off);
    get(&ledger, "a");
    ledger.flush_reads().unwrap();
    assert_eq!(recorded(&ledger), []);
}

#[test]
fn batched_gathers_reads_and_counts_them() {
    let ledger = ledger_with(AuditReads::Batched);
    for _ in 0..3 {
        get(&ledger, "a");
    }
    get(&ledger, "b");
    assert_eq!(recorded(&ledger), []);
    ledger.flush_reads().unwrap();
    assert_eq!(recorded(&ledger), [("a".to_owned(), 3), ("b".to_owned(), 1)]);
    let info = ledger.vault(Scope::global()).info(&name("a"), GetOptions::current()).unwrap();
    assert!(info.last_read_at.is_some());
}

#[test]
fn batched_reads_are_recorded_at_close() {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let ledger = Ledger::open(simulated(disk.clone(), 3, &clock)).unwrap();
    put(&ledger, "a", "1");
    get(&ledger, "a");
    ledger.close().unwrap();
    let ledger = Ledger::open(simulated(disk, 4, &clock)).unwrap();
    assert_eq!(recorded(&ledger), [("a".to_owned(), 1)]);
}

#[test]
fn strict_records_each_read_before_its_value_is_returned() {
    let ledger = ledger_with(AuditReads::Strict);
    get(&ledger, "a");
    assert_eq!(recorded(&ledger).len(), 1);
    get(&ledger, "a");
    assert_eq!(recorded(&ledger).len(), 2);
}

#[test]
fn what_reading_processes_read_is_recorded_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = Ledger::init(real(&home), NewSlot::file("machine")).unwrap();
    put(&ledger, "a", "1");
    drop(ledger);
    for _ in 0..2 {
        let reader = Ledger::open(real(&home).read_only()).unwrap();
        get(&reader, "a");
        let refused =
            reader.vault("skill:x".parse().unwrap()).get_ref(&"global/a".parse().unwrap(), GetOptions::current());
        assert!(refused.is_err());
    }
    let spool = std::fs::read(home.join("reads.spool")).unwrap();
    assert!(!super::common::contains(&spool, b"global"), "the spool is sealed");
    let ledger = Ledger::open(real(&home)).unwrap();
    assert_eq!(recorded(&ledger), [("a".to_owned(), 1), ("a".to_owned(), 1)]);
    let mut refusals = 0;
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            refusals += usize::from(entry.kind_name() == "command_refused");
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(refusals, 2);
    assert!(!home.join("reads.spool").exists());
}

#[test]
fn a_strict_ledger_gives_no_value_to_a_process_that_cannot_record_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let strict = || real(&home).settings(settings(AuditReads::Strict));
    let ledger = Ledger::init(strict(), NewSlot::file("machine")).unwrap();
    put(&ledger, "a", "1");
    drop(ledger);
    let reader = Ledger::open(strict().read_only()).unwrap();
    assert!(reader.vault(Scope::global()).get(&name("a")).is_err());
}
