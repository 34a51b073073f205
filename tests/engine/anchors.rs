//! Checkpoints, anchors and branches: what was cut off, put back or rewritten shows against what is kept outside.

use std::path::Path;
use std::sync::Arc;

use palyra_ledger::checkpoint::{Fit, SignedCheckpoint, split_notes};
use palyra_ledger::inspect::{FindingCode, verify_files};
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SimDisk, for_every_cut};
use palyra_ledger::{
    AnchorSettings, AnchorState, AuditReads, Config, Error, Ledger, NewSlot, PutOptions, ReplayPoint, Scope, Settings,
    VerifyOptions,
};

use super::common::{bytes, get, name, put, settings, simulated};

const ANCHOR: &str = "/other/anchor.note";

fn anchored(every_events: u64) -> Settings {
    let mut settings = settings(AuditReads::Batched);
    settings.checkpoints.every_events = every_events;
    settings.anchors.files = vec![ANCHOR.into()];
    settings
}

fn config(disk: &SimDisk, seed: u64, clock: &ManualClock, every_events: u64) -> Config {
    simulated(disk.clone(), seed, clock).settings(anchored(every_events))
}

/// A ledger with nothing in it, and a folder for the anchor.
fn disk(clock: &ManualClock) -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir(Path::new("/other")).unwrap();
    let made = Ledger::init(config(&disk, 1, clock, 0), NewSlot::file("machine")).unwrap();
    made.close().unwrap();
    disk.settle();
    disk
}

fn kinds(ledger: &Ledger) -> Vec<String> {
    let mut kinds = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            kinds.push(entry.kind_name());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    kinds
}

fn held(disk: &SimDisk) -> SignedCheckpoint {
    let bytes = disk.contents(Path::new(ANCHOR)).unwrap();
    let (notes, torn) = split_notes(&bytes);
    assert_eq!(torn, 0);
    SignedCheckpoint::parse(notes.last().unwrap()).unwrap()
}

fn found(ledger: &Ledger) -> Vec<FindingCode> {
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    report.findings.iter().map(|finding| finding.code).collect()
}

/// The anchor of one disk on another: an older copy was put back, and the other disk was not.
fn with_anchor_of(copy: &SimDisk, anchor: &SimDisk) -> SimDisk {
    let disk = copy.snapshot();
    disk.put(Path::new(ANCHOR), &anchor.contents(Path::new(ANCHOR)).unwrap()).unwrap();
    disk.settle();
    disk
}

#[test]
fn checkpoints_are_signed_when_they_are_due_and_say_what_the_log_was() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    for number in 0..6 {
        clock.advance(1000);
        let ledger = Ledger::open(config(&disk, 2 + number, &clock, 2)).unwrap();
        put(&ledger, "key", &number.to_string());
        ledger.close().unwrap();
    }
    let ledger = Ledger::open(config(&disk, 20, &clock, 2).read_only()).unwrap();
    let kinds = kinds(&ledger);
    // The record of a checkpoint needs none itself; that an anchor was used for the first time is an event like any other.
    let at: Vec<usize> = (0..kinds.len()).filter(|at| kinds[*at] == "checkpoint_signed").collect();
    assert_eq!(at, [2, 5, 8, 11], "{kinds:?}");
    assert_eq!(kinds[3], "anchor_placed");
    let last = ledger.last_checkpoint().unwrap().unwrap();
    let signed = SignedCheckpoint::verify(last.note.as_bytes(), &ledger.checkpoint_key().unwrap()).unwrap();
    let checkpoint = signed.checkpoint();
    assert_eq!((checkpoint.size, checkpoint.branch), (11, 0));
    assert_eq!(checkpoint.head, ledger.log().entry(10).unwrap().hash);
    assert_eq!(checkpoint.state, Some(ledger.replay(ReplayPoint::Seq(10)).unwrap().state_root().unwrap()));
    assert_eq!(held(&disk), signed);
    let copies = disk.contents(Path::new("/home/checkpoints/notes")).unwrap();
    assert_eq!(split_notes(&copies).0.len(), 4);
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok && report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.anchored.events, report.anchored.unanchored), (11, None));
    drop(ledger);
    let ledger = Ledger::open(config(&disk, 21, &clock, 2)).unwrap();
    put(&ledger, "key", "more");
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert_eq!((report.anchored.events, report.anchored.unanchored), (11, Some((12, 12))));
    let made = ledger.checkpoint().unwrap();
    assert_eq!(made.signed.checkpoint().size, 13);
    assert!(made.anchors.iter().all(|placing| placing.failure.is_none()));
    // Nothing happened since: there is nothing to sign.
    let again = ledger.checkpoint().unwrap();
    assert_eq!((again.event, &again.signed), (made.event, &made.signed));
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok && report.anchored.unanchored.is_none(), "{report:?}");
}

#[test]
fn time_alone_makes_a_checkpoint_due_and_never_runs_backwards_in_them() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let run = |seed| {
        let ledger = Ledger::open(config(&disk, seed, &clock, 0)).unwrap();
        put(&ledger, "key", "value");
        ledger.close().unwrap();
        ledger.last_checkpoint().unwrap().map(|last| (last.size, last.time))
    };
    assert_eq!(run(2), None);
    clock.advance(3_600_000);
    let first = run(3).unwrap();
    assert_eq!(first.0, 3);
    clock.set(palyra_ledger::Timestamp::from_millis(1_767_225_600_000));
    assert_eq!(run(4).unwrap(), first, "the clock was set back: not due");
    clock.advance(3 * 3_600_000);
    let second = run(5).unwrap();
    assert!(second.0 > first.0 && second.1 >= first.1);
}

#[test]
fn a_copy_from_before_any_event_is_refused_and_says_what_is_missing() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let mut copies = vec![disk.snapshot()];
    for number in 0..8 {
        let ledger = Ledger::open(config(&disk, 2 + number, &clock, 1)).unwrap();
        put(&ledger, "key", &number.to_string());
        ledger.close().unwrap();
        copies.push(disk.snapshot());
    }
    let size = held(&disk).checkpoint().size;
    let newest = copies.pop().unwrap();
    assert!(Ledger::open(config(&with_anchor_of(&newest, &disk), 30, &clock, 1)).is_ok());
    for copy in &copies {
        let end = Ledger::open(config(&copy.snapshot(), 30, &clock, 1).read_only()).unwrap().log().head().unwrap().seq;
        let rolled_back = with_anchor_of(copy, &disk);
        let before: Vec<_> = rolled_back.files().iter().map(|path| rolled_back.contents(path)).collect();
        for config in [config(&rolled_back, 30, &clock, 1), config(&rolled_back, 30, &clock, 1).read_only()] {
            match Ledger::open(config) {
                Err(Error::RolledBack { anchor, last, through }) => {
                    assert_eq!((anchor.as_str(), last, through), ("file:/other/anchor.note", end, size - 1));
                }
                other => panic!("{end}: {other:?}"),
            }
        }
        let after: Vec<_> = rolled_back.files().iter().map(|path| rolled_back.contents(path)).collect();
        assert!(before == after, "nothing is written before it is compared");
        let report = Ledger::examine(&config(&rolled_back, 30, &clock, 1)).unwrap();
        let cut = report.findings.iter().find(|finding| finding.code == FindingCode::AnchorLost).unwrap();
        assert_eq!(cut.seq, Some(end + 1));
        // Without the anchor nobody can tell: that is what it is for.
        assert!(verify_files(&rolled_back, Path::new("/home"), None).unwrap().ok);
    }
}

/// Anchored in the system's keystore and nowhere else.
fn in_keystore(disk: &SimDisk, keystore: &MemoryKeystore, seed: u64, clock: &ManualClock) -> Config {
    let mut settings = anchored(0);
    settings.anchors = AnchorSettings { files: Vec::new(), keystore: true };
    simulated(disk.clone(), seed, clock).settings(settings).keystore(Arc::new(keystore.clone()))
}

#[test]
fn the_keystore_knows_what_a_copy_has_lost_and_its_absence_ends_nothing() {
    let clock = ManualClock::default();
    let (disk, keystore) = (disk(&clock), MemoryKeystore::default());
    let older = disk.snapshot();
    let ledger = Ledger::open(in_keystore(&disk, &keystore, 2, &clock)).unwrap();
    put(&ledger, "key", "value");
    let made = ledger.checkpoint().unwrap();
    assert_eq!((made.anchors[0].anchor.as_str(), &made.anchors[0].failure), ("keystore", &None));
    let anchors = ledger.anchors().unwrap();
    assert_eq!(anchors[0].state, AnchorState::Holds(Box::new(made.signed.clone())));
    assert_eq!(found(&ledger), []);
    keystore.set_locked(true);
    put(&ledger, "key", "more");
    assert_eq!(ledger.checkpoint().unwrap().anchors[0].failure.as_deref(), Some("the keystore is locked"));
    assert_eq!(found(&ledger), [FindingCode::AnchorAbsent]);
    keystore.set_locked(false);
    let size = ledger.checkpoint().unwrap().signed.checkpoint().size;
    ledger.close().unwrap();
    // One item, whose account names the ledger; nothing of it is secret.
    let items = keystore.items();
    let (account, _) = items.first_key_value().unwrap();
    assert_eq!((items.len(), account.split_once('/').unwrap().1), (1, "anchors/checkpoint"));

    let end = 0;
    match Ledger::open(in_keystore(&older.snapshot(), &keystore, 3, &clock)) {
        Err(Error::RolledBack { anchor, last, through }) => {
            assert_eq!((anchor.as_str(), last, through), ("keystore", end, size - 1));
        }
        other => panic!("{other:?}"),
    }
    let report = Ledger::examine(&in_keystore(&older, &keystore, 3, &clock)).unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == FindingCode::AnchorLost), "{report:?}");
    let branch = Ledger::start_branch(in_keystore(&older.snapshot(), &keystore.snapshot(), 4, &clock)).unwrap();
    assert_eq!(branch.branches().unwrap()[0].anchor, "keystore");
    assert_eq!(found(&branch), []);
    drop(branch);

    // Settings that no longer name it: the log does.
    let mut plain = simulated(disk.clone(), 5, &clock).settings(settings(AuditReads::Batched));
    plain = plain.keystore(Arc::new(keystore.clone()));
    let ledger = Ledger::open(plain).unwrap();
    assert_eq!(found(&ledger), [FindingCode::AnchorUnnamed]);
    assert!(matches!(ledger.anchors().unwrap()[0].state, AnchorState::Holds(_)));
    ledger.close().unwrap();

    // What another program put there is evidence: it stays.
    keystore.tamper(account, Some(b"nonsense"));
    let ledger = Ledger::open(in_keystore(&disk, &keystore, 6, &clock)).unwrap();
    put(&ledger, "key", "goes on");
    assert!(ledger.checkpoint().unwrap().anchors[0].failure.is_some());
    assert_eq!(keystore.items()[account], b"nonsense");
    assert_eq!(found(&ledger), [FindingCode::AnchorUnusable]);
    keystore.set_absent(true);
    assert!(Ledger::examine(&in_keystore(&disk, &keystore, 7, &clock)).is_ok());
}

#[test]
fn an_anchor_that_was_taken_out_of_the_settings_is_compared_all_the_same() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let ledger = Ledger::open(config(&disk, 2, &clock, 0)).unwrap();
    put(&ledger, "key", "value");
    ledger.checkpoint().unwrap();
    ledger.close().unwrap();
    disk.settle();
    let older = disk.snapshot();
    let ledger = Ledger::open(config(&disk, 3, &clock, 0)).unwrap();
    put(&ledger, "key", "more");
    let size = ledger.checkpoint().unwrap().signed.checkpoint().size;
    ledger.close().unwrap();
    let back = with_anchor_of(&older, &disk);
    let plain = |disk: &SimDisk| simulated(disk.clone(), 4, &clock).settings(settings(AuditReads::Batched));
    let is_refused = |config: Config| match Ledger::open(config) {
        Err(Error::RolledBack { through, .. }) => assert_eq!(through, size - 1),
        other => panic!("{other:?}"),
    };
    is_refused(plain(&back).read_only());
    // Without an index the log itself says which anchors were used.
    let bare = back.snapshot();
    for path in bare.files() {
        if path.starts_with("/home/index") {
            palyra_ledger::store::Medium::remove(&bare, &path).unwrap();
        }
    }
    let journal = |disk: &SimDisk| -> Vec<_> {
        let of = |path: &std::path::PathBuf| !path.starts_with("/home/index");
        disk.files().into_iter().filter(of).map(|path| (disk.contents(&path), path)).collect()
    };
    let before = journal(&bare);
    is_refused(plain(&bare));
    assert!(journal(&bare) == before, "nothing but the index is written before it is compared");
    let branch = Ledger::start_branch(plain(&back)).unwrap();
    assert_eq!(branch.branches().unwrap()[0].lost_through, Some(size - 1));
    assert_eq!(found(&branch), [FindingCode::AnchorSuperseded, FindingCode::AnchorUnnamed]);
    drop(branch);
    // What is whole says that the settings do not name it; gone or unreachable, it ends nothing.
    let ledger = Ledger::open(plain(&disk)).unwrap();
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert_eq!(report.anchored.anchors[0].fit, "holds");
    assert_eq!(found(&ledger), [FindingCode::AnchorUnnamed]);
    ledger.close().unwrap();
    palyra_ledger::store::Medium::remove(&disk, Path::new(ANCHOR)).unwrap();
    let ledger = Ledger::open(plain(&disk)).unwrap();
    assert_eq!(found(&ledger), [FindingCode::AnchorAbsent, FindingCode::AnchorUnnamed]);
}

/// A ledger whose newest checkpoint only a device holds, and an older copy that went on until the device came.
fn shown_by_a_device(clock: &ManualClock, more: u64) -> (SimDisk, SignedCheckpoint, Ledger) {
    let disk = SimDisk::new();
    let plain = |disk: &SimDisk, seed| simulated(disk.clone(), seed, clock).settings(settings(AuditReads::Batched));
    let ledger = Ledger::init(plain(&disk, 70), NewSlot::file("machine")).unwrap();
    ledger.record_anchor("device:one", 1).unwrap();
    ledger.close().unwrap();
    disk.settle();
    let older = disk.snapshot();
    let ledger = Ledger::open(plain(&disk, 2)).unwrap();
    for number in 0..5 {
        put(&ledger, "key", &number.to_string());
    }
    let held = ledger.checkpoint().unwrap().signed;
    ledger.close().unwrap();
    let ledger = Ledger::open(plain(&older, 3)).unwrap();
    for number in 0..more {
        put(&ledger, "key", &format!("other {number}"));
    }
    assert_eq!(found(&ledger), []);
    ledger.compare_note("device:one", held.note().as_bytes()).unwrap();
    (older, held, ledger)
}

#[test]
fn a_rollback_that_only_a_device_knows_of_is_reported_until_it_is_accepted() {
    let clock = ManualClock::default();
    for (more, code) in [(0, FindingCode::AnchorLost), (9, FindingCode::AnchorForked)] {
        let (disk, held, ledger) = shown_by_a_device(&clock, more);
        assert_eq!(found(&ledger), [code]);
        let status = ledger.anchors().unwrap().remove(0);
        assert!(matches!(status.fit, Some(Fit::Lost { .. } | Fit::Forked)), "{status:?}");
        ledger.close().unwrap();
        let plain = |seed| simulated(disk.clone(), seed, &clock).settings(settings(AuditReads::Batched));
        let ledger = Ledger::open(plain(4)).unwrap();
        assert_eq!(found(&ledger), [code], "the log keeps the proof");
        ledger.close().unwrap();
        let ledger = Ledger::start_branch(plain(5)).unwrap();
        assert_eq!(ledger.branches().unwrap()[0].anchor, "device:one");
        assert_eq!(found(&ledger), []);
        // The device comes again with what it held: it is known for what it is.
        let again = ledger.compare_note("device:one", held.note().as_bytes()).unwrap();
        assert!(matches!(again.fit, Some(Fit::Superseded { .. })), "{again:?}");
        assert_eq!(found(&ledger), []);
        ledger.close().unwrap();
        let before = Ledger::open(plain(6)).unwrap();
        assert_eq!(found(&before), []);
    }
}

#[test]
fn a_note_at_hand_is_enough_to_accept_a_rollback_and_one_of_another_ledger_is_not() {
    let clock = ManualClock::default();
    let (_, held, shown) = shown_by_a_device(&clock, 9);
    drop(shown);
    let disk = SimDisk::new();
    let plain = |seed| simulated(disk.clone(), seed, &clock).settings(settings(AuditReads::Batched));
    let ledger = Ledger::init(plain(7), NewSlot::file("machine")).unwrap();
    ledger.close().unwrap();
    disk.settle();
    let older = disk.snapshot();
    let ledger = Ledger::open(plain(8)).unwrap();
    put(&ledger, "key", "value");
    let own = ledger.checkpoint().unwrap().signed;
    ledger.close().unwrap();
    let plain = |seed| simulated(older.clone(), seed, &clock).settings(settings(AuditReads::Batched));
    let ledger = Ledger::open(plain(9)).unwrap();
    assert!(matches!(ledger.fit(own.note().as_bytes()), Ok(Fit::Lost { .. })));
    ledger.close().unwrap();
    let other = Ledger::start_branch(plain(10).rollback_note(held.note().as_bytes().to_vec()));
    assert!(matches!(other, Err(Error::Note(_))), "{other:?}");
    let branch = Ledger::start_branch(plain(11).rollback_note(own.note().as_bytes().to_vec())).unwrap();
    let begun = branch.branches().unwrap().remove(0);
    assert_eq!((begun.anchor.as_str(), begun.lost_through), ("note", Some(own.checkpoint().size - 1)));
}

#[test]
fn without_keys_an_anchor_of_another_ledger_says_nothing_of_this_one() {
    let clock = ManualClock::default();
    let (_, other, _) = shown_by_a_device(&clock, 0);
    let disk = disk(&clock);
    let ledger = Ledger::open(config(&disk, 2, &clock, 0)).unwrap();
    put(&ledger, "key", "value");
    ledger.close().unwrap();
    let note = format!("{}\n", other.note());
    disk.put(Path::new(ANCHOR), note.as_bytes()).unwrap();
    let report = Ledger::examine(&config(&disk, 3, &clock, 0)).unwrap();
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [FindingCode::AnchorUnusable], "{report:?}");
}

#[test]
fn two_histories_from_one_copy_are_told_apart() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let copy = disk.snapshot();
    for (side, value) in [(&disk, "ours"), (&copy, "theirs")] {
        let ledger = Ledger::open(config(side, 2, &clock, 0)).unwrap();
        for number in 0..5 {
            put(&ledger, "key", &format!("{value} {number}"));
        }
        ledger.checkpoint().unwrap();
        ledger.close().unwrap();
    }
    let forked = with_anchor_of(&copy, &disk);
    match Ledger::open(config(&forked, 30, &clock, 1)) {
        Err(Error::AnchorForked { seq, .. }) => assert_eq!(seq, held(&disk).checkpoint().size - 1),
        other => panic!("{other:?}"),
    }
    let report = Ledger::examine(&config(&forked, 30, &clock, 1)).unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == FindingCode::AnchorForked), "{report:?}");
    // The same while it is open: the anchor is not overwritten, and the conflict is in the log, once.
    let ledger = Ledger::open(config(&copy, 31, &clock, 0)).unwrap();
    let theirs = disk.contents(Path::new(ANCHOR)).unwrap();
    copy.put(Path::new(ANCHOR), &theirs).unwrap();
    for number in 0..3 {
        put(&ledger, "key", &number.to_string());
        assert!(ledger.checkpoint().unwrap().anchors[0].failure.is_some());
    }
    assert_eq!(copy.contents(Path::new(ANCHOR)).unwrap(), theirs);
    assert_eq!(kinds(&ledger).iter().filter(|kind| *kind == "anchor_conflict").count(), 1);
    assert!(found(&ledger).contains(&FindingCode::AnchorForked));
}

#[test]
fn an_older_copy_goes_on_as_a_branch_that_everybody_sees() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let older = disk.snapshot();
    let ledger = Ledger::open(config(&disk, 2, &clock, 0)).unwrap();
    for number in 0..5 {
        put(&ledger, "key", &number.to_string());
    }
    ledger.checkpoint().unwrap();
    ledger.close().unwrap();
    let size = held(&disk).checkpoint().size;
    let back = with_anchor_of(&older, &disk);
    let ledger = Ledger::start_branch(config(&back, 3, &clock, 0)).unwrap();
    let branches = ledger.branches().unwrap();
    assert_eq!((branches.len(), branches[0].from, branches[0].lost_through), (1, 1, Some(size - 1)));
    assert_eq!(branches[0].anchor, "file:/other/anchor.note");
    assert_eq!(kinds(&ledger)[1], "branch_started");
    assert_eq!(held(&back).checkpoint().branch, 1);
    put(&ledger, "key", "on the branch");
    assert_eq!(found(&ledger), []);
    ledger.close().unwrap();
    // It opens like any other from then on, and an anchor of the old branch is known for what it is.
    let reopened = Ledger::open(config(&with_anchor_of(&back, &disk), 4, &clock, 0)).unwrap();
    assert_eq!(get(&reopened, "key"), "on the branch");
    assert_eq!(found(&reopened), [FindingCode::AnchorSuperseded]);
    reopened.close().unwrap();
    // The given-up copy is now the one that does not fit.
    match Ledger::open(config(&with_anchor_of(&disk, &back), 5, &clock, 0)) {
        Err(Error::OtherBranch { branch, .. }) => assert_eq!(branch, 1),
        other => panic!("{other:?}"),
    }
    // A second rollback, to before the first branch, is a second branch.
    let ledger = Ledger::start_branch(config(&with_anchor_of(&older, &back), 6, &clock, 0)).unwrap();
    let branches = ledger.branches().unwrap();
    assert_eq!(
        branches.iter().map(|branch| (branch.number, branch.from)).collect::<Vec<_>>(),
        [(2, 1)],
        "above all known"
    );
    assert_eq!(found(&ledger), []);
}

#[test]
fn a_damaged_anchor_is_told_and_kept_and_ends_nothing() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let ledger = Ledger::open(config(&disk, 2, &clock, 0)).unwrap();
    put(&ledger, "key", "value");
    ledger.checkpoint().unwrap();
    ledger.close().unwrap();
    let whole = disk.contents(Path::new(ANCHOR)).unwrap();
    let mut flipped = whole.clone();
    flipped[60] ^= 1;
    for bad in [b"nonsense".to_vec(), flipped, whole[..whole.len() / 2].to_vec()] {
        let disk = disk.snapshot();
        disk.put(Path::new(ANCHOR), &bad).unwrap();
        let ledger = Ledger::open(config(&disk, 3, &clock, 0)).unwrap();
        assert!(matches!(ledger.anchors().unwrap()[0].state, AnchorState::Unusable(_)));
        put(&ledger, "key", "goes on");
        let made = ledger.checkpoint().unwrap();
        assert!(made.anchors[0].failure.is_some());
        assert_eq!(disk.contents(Path::new(ANCHOR)).unwrap(), bad, "it is evidence");
        assert!(kinds(&ledger).contains(&"anchor_conflict".to_owned()));
        assert_eq!(found(&ledger), [FindingCode::AnchorUnusable]);
    }
    let gone = disk.snapshot();
    palyra_ledger::store::Medium::remove(&gone, Path::new(ANCHOR)).unwrap();
    let ledger = Ledger::open(config(&gone, 3, &clock, 0)).unwrap();
    assert_eq!(found(&ledger), [FindingCode::AnchorAbsent]);
    // What lies outside and is put again is not recorded twice.
    ledger.checkpoint().unwrap();
    assert_eq!(kinds(&ledger).iter().filter(|kind| *kind == "anchor_placed").count(), 1);
    assert_eq!(found(&ledger), []);
}

#[test]
fn copies_that_were_lost_or_torn_are_made_anew_from_the_log() {
    let clock = ManualClock::default();
    let disk = disk(&clock);
    let copies = Path::new("/home/checkpoints/notes");
    let sign = |seed: u64, value: &str| {
        let ledger = Ledger::open(config(&disk, seed, &clock, 1)).unwrap();
        put(&ledger, "key", value);
        ledger.close().unwrap();
    };
    sign(2, "a");
    sign(3, "b");
    let two = disk.contents(copies).unwrap();
    for (seed, damage) in [(4, Vec::new()), (5, two[..two.len() - 7].to_vec()), (6, b"other\n".to_vec())] {
        disk.put(copies, &damage).unwrap();
        let ledger = Ledger::open(config(&disk, 40 + seed, &clock, 0).read_only()).unwrap();
        assert_eq!(found(&ledger), [FindingCode::CheckpointCopy]);
        drop(ledger);
        sign(seed, "c");
        let mended = disk.contents(copies).unwrap();
        assert!(mended.starts_with(&two));
        assert_eq!(split_notes(&mended).0.len() as u64, seed - 1);
    }
    palyra_ledger::store::Medium::remove(&disk, copies).unwrap();
    sign(7, "d");
    assert_eq!(split_notes(&disk.contents(copies).unwrap()).0.len(), 6);
    let ledger = Ledger::open(config(&disk, 50, &clock, 0).read_only()).unwrap();
    assert_eq!(found(&ledger), []);
}

#[test]
fn a_power_cut_at_any_operation_around_a_checkpoint_leaves_a_ledger_that_fits_its_anchor() {
    let clock = ManualClock::default();
    let prepared = disk(&clock);
    let work = |disk: &SimDisk| {
        let mut acknowledged = 0;
        let mut run = |seed| -> Result<(), Error> {
            let ledger = Ledger::open(config(disk, seed, &clock, 1))?;
            let vault = ledger.vault(Scope::global());
            acknowledged = vault.put(&name("key"), &bytes("value"), PutOptions::new())?.version;
            ledger.checkpoint()?;
            acknowledged = vault.put(&name("key"), &bytes("value"), PutOptions::new())?.version;
            ledger.close()
        };
        let _ = run(2).and_then(|()| run(3));
        acknowledged
    };
    let checked = for_every_cut(
        2,
        || prepared.snapshot(),
        work,
        |cut, acknowledged, disk| {
            let ledger = Ledger::open(config(&disk, 10, &clock, 1)).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            let versions =
                ledger.vault(Scope::global()).history(&name("key")).map_or(0, |history| history.versions.len());
            assert!(versions as u32 >= *acknowledged, "{cut:?}: {versions} of {acknowledged}");
            put(&ledger, "after", "the crash");
            ledger.checkpoint().unwrap();
            let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
            assert!(report.ok && report.findings.is_empty(), "{cut:?}: {:?}", report.findings);
            assert!(report.anchored.unanchored.is_none(), "{cut:?}: {:?}", report.anchored);
            ledger.close().unwrap();
        },
    );
    assert!(checked > 100, "{checked}");
}
