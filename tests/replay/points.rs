//! The state at any event: recorded while it was written, and the same for ever.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use palyra_ledger::event::Event;
use palyra_ledger::event::identity::{CrlIssued, Der};
use palyra_ledger::event::vault::Versions;
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::{ManualClock, SimDisk, pair_device};
use palyra_ledger::{
    ChangeKind, DeviceId, Entry, Hash, Ledger, NewSlot, PutOptions, ReplayOptions, ReplayPoint, Scope, SecretBytes,
    StateChange, Timestamp,
};
use proptest::prelude::*;

use super::{config, init, put};

const GENESIS: ReplayOptions<'static> = ReplayOptions { from_genesis: true, progress: None };

/// What became of a secret: its version, and whether it is live, deleted or shredded.
type Model = BTreeMap<String, (u32, &'static str)>;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Undelete(u8),
    Shred(u8),
    Epoch,
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0_u8..4;
    prop_oneof![
        5 => (name.clone(), any::<u8>()).prop_map(|(name, value)| Step::Put(name, value)),
        2 => name.clone().prop_map(Step::Delete),
        2 => name.clone().prop_map(Step::Undelete),
        1 => name.prop_map(Step::Shred),
        1 => Just(Step::Epoch),
        1 => Just(Step::Grow),
    ]
}

fn take(ledger: &Ledger, step: &Step, model: &mut Model) {
    let vault = ledger.vault(Scope::global());
    let named = |number: &u8| format!("s{number}");
    match step {
        Step::Put(name, value) => {
            let name = named(name);
            let version = vault
                .put(&name.parse().unwrap(), &SecretBytes::from([*value].as_slice()), PutOptions::new())
                .unwrap()
                .version;
            model.insert(name, (version, "live"));
        }
        Step::Delete(name) | Step::Undelete(name) | Step::Shred(name) => {
            let (name, all) = (named(name), Versions::All);
            let target = name.parse().unwrap();
            let (done, state) = match step {
                Step::Delete(_) => (vault.delete(&target, all, None).is_ok(), "deleted"),
                Step::Undelete(_) => (vault.undelete(&target, all, None).is_ok(), "live"),
                _ => (vault.shred(&target, all, None).is_ok(), "shredded"),
            };
            if let Some(known) = model.get_mut(&name).filter(|known| done && known.1 != "shredded") {
                known.1 = state;
            }
        }
        Step::Epoch => {
            ledger.keys().rotate_epoch().unwrap();
        }
        // Enough that the close writes the index.
        Step::Grow => {
            for number in 0..300 {
                put(ledger, "filler", &number.to_string());
            }
        }
    }
}

/// The secrets that a list of changes says are different, with what they were and are.
fn told(changes: &[StateChange]) -> BTreeMap<String, (ChangeKind, Option<u64>, Option<String>)> {
    let secrets = changes.iter().filter(|change| change.what == "secret" && change.subject != "global/filler");
    secrets
        .map(|change| {
            let after = |field: &str| change.fields.get(field).map(|(_, after)| after.clone());
            let state = after("state").and_then(|state| state.as_str().map(str::to_owned));
            let subject = change.subject.trim_start_matches("global/").to_owned();
            (subject, (change.change, after("version").and_then(|version| version.as_u64()), state))
        })
        // What is shredded can be marked as deleted still, which the model does not know.
        .filter(|(_, change)| *change != (ChangeKind::Changed, None, None))
        .collect()
}

/// The same from the model.
fn differing(before: &Model, after: &Model) -> BTreeMap<String, (ChangeKind, Option<u64>, Option<String>)> {
    let mut found = BTreeMap::new();
    for (name, (version, state)) in after {
        match before.get(name) {
            None => {
                found.insert(name.clone(), (ChangeKind::Added, Some(u64::from(*version)), Some((*state).to_owned())));
            }
            Some((old, was)) if (old, was) != (version, state) => {
                let version = (old != version).then_some(u64::from(*version));
                let state = (was != state).then(|| (*state).to_owned());
                found.insert(name.clone(), (ChangeKind::Changed, version, state));
            }
            Some(_) => {}
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_point_is_what_it_was_and_two_differ_as_the_model_says(
        steps in prop::collection::vec(step(), 1..14), close in 1_usize..6, pick in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let (disk, clock) = (SimDisk::new(), ManualClock::default());
        let mut ledger = init(&disk, &clock);
        let mut model = Model::new();
        let mut known: Vec<(u64, Hash, Model)> = vec![(0, ledger.state_root().unwrap(), model.clone())];
        for (number, step) in steps.iter().enumerate() {
            clock.advance(1000);
            take(&ledger, step, &mut model);
            known.push((ledger.log().head().unwrap().seq, ledger.state_root().unwrap(), model.clone()));
            if number % close == 0 {
                ledger.close().unwrap();
                drop(ledger);
                ledger = Ledger::open(config(&disk, number as u64 + 2, &clock)).unwrap();
            }
        }
        for (seq, root, _) in &known {
            let fast = ledger.replay_with(ReplayPoint::Seq(*seq), ReplayOptions::default()).unwrap();
            prop_assert_eq!(fast.state_root().unwrap(), *root, "{} from {:?}", seq, fast.snapshot());
            let whole = ledger.replay_with(ReplayPoint::Seq(*seq), GENESIS).unwrap();
            prop_assert_eq!(whole.snapshot(), None);
            prop_assert_eq!(whole.state_root().unwrap(), *root);
            prop_assert!(whole.diff(&fast).unwrap().is_empty());
        }
        let (one, other) = (pick.0.get(&known), pick.1.get(&known));
        let (before, after) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        let at = |seq| ledger.replay_with(ReplayPoint::Seq(seq), ReplayOptions::default()).unwrap();
        let changes = at(before.0).diff(&at(after.0)).unwrap();
        prop_assert_eq!(told(&changes), differing(&before.2, &after.2));
    }
}

#[test]
fn stepping_says_what_every_event_changed_and_ends_where_a_fold_does() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = init(&disk, &clock);
    let mut model = Model::new();
    let steps = [Step::Put(0, 1), Step::Put(0, 2), Step::Delete(0), Step::Undelete(0), Step::Epoch, Step::Shred(0)];
    for step in steps {
        take(&ledger, &step, &mut model);
    }
    let mut replay = ledger.replay_with(ReplayPoint::Seq(0), GENESIS).unwrap();
    let mut lines = Vec::new();
    for seq in 1..=ledger.log().head().unwrap().seq {
        let entry = ledger.log().entry(seq).unwrap();
        let before = ledger.replay_with(ReplayPoint::Seq(seq - 1), GENESIS).unwrap();
        let changes = replay.step(&entry).unwrap();
        assert_eq!(changes, before.diff(&replay).unwrap(), "{seq}");
        assert_eq!(
            replay.state_root().unwrap(),
            ledger.replay_with(ReplayPoint::Seq(seq), GENESIS).unwrap().state_root().unwrap()
        );
        lines.extend(changes.iter().map(|change| format!("{seq} {} {:?}", change.what, change.change)));
    }
    assert_eq!(
        lines,
        [
            "1 secret Added",
            "2 secret Changed",
            "3 secret Changed",
            "4 secret Changed",
            "5 ledger Changed",
            "6 secret Changed",
            "6 secret_version Changed",
        ]
    );
    // An event that is not the next one changes nothing.
    assert!(replay.step(&ledger.log().entry(2).unwrap()).is_err());
}

#[test]
fn a_time_means_the_last_event_by_then() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = init(&disk, &clock);
    let mut times = vec![ledger.log().entry(0).unwrap().time];
    for number in 0..20 {
        clock.advance(if number % 3 == 0 { 0 } else { 500 });
        put(&ledger, "key", &number.to_string());
        times.push(ledger.log().head().unwrap().time);
    }
    for (seq, time) in times.iter().enumerate() {
        let last = times.iter().rposition(|one| one <= time).unwrap() as u64;
        let replay = ledger.replay_with(ReplayPoint::Time(*time), ReplayOptions::default()).unwrap();
        assert_eq!(replay.seq(), last, "{seq}");
        assert_eq!(replay.time(), *time);
        let first = times.iter().position(|one| one >= time).unwrap() as u64;
        assert_eq!(ledger.log().first_at(*time).unwrap(), first);
    }
    let before = Timestamp::from_millis(times[0].as_millis() - 1);
    assert!(ledger.replay_with(ReplayPoint::Time(before), ReplayOptions::default()).is_err());
}

#[test]
fn a_long_log_is_replayed_from_a_snapshot_and_damage_only_costs_time() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let mut ledger = init(&disk, &clock);
    let mut roots = BTreeMap::new();
    for round in 0..3_u64 {
        for number in 0..9000 {
            put(&ledger, &format!("key-{}", number % 500), &format!("{round}-{number}"));
        }
        roots.insert(ledger.log().head().unwrap().seq, ledger.state_root().unwrap());
        ledger.close().unwrap();
        drop(ledger);
        ledger = Ledger::open(config(&disk, round + 2, &clock)).unwrap();
    }
    let snapshots: Vec<_> = disk.files().into_iter().filter(|path| is_snapshot(path)).collect();
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    let middle = 9000 + 4000;
    let whole = ledger.replay_with(ReplayPoint::Seq(middle), GENESIS).unwrap().state_root().unwrap();
    let fast = ledger.replay_with(ReplayPoint::Seq(middle), ReplayOptions::default()).unwrap();
    assert_eq!(fast.state_root().unwrap(), whole);
    assert!(fast.snapshot().is_some_and(|seq| seq > 8000 && seq <= middle), "{:?}", fast.snapshot());
    ledger.close().unwrap();
    drop(ledger);
    for path in disk.files().iter().filter(|path| path.starts_with("/home/index")) {
        let length = disk.contents(path).unwrap().len();
        for part in 0..6 {
            let damaged = disk.snapshot();
            damaged.flip(path, (length * part / 6) as u64, 0x20);
            // A reader mends nothing: where the live index is what is damaged, there is no ledger to ask.
            let Ok(ledger) = Ledger::open(config(&damaged, 9, &clock).read_only()) else { continue };
            let replay = ledger.replay_with(ReplayPoint::Seq(middle), ReplayOptions::default()).unwrap();
            assert_eq!(replay.state_root().unwrap(), whole, "{} {part}/6", path.display());
        }
    }
    // A snapshot whose event is not in this log is another history's.
    let other = SimDisk::new();
    let stranger = init(&other, &clock);
    put(&stranger, "key", "value");
    stranger.close().unwrap();
    drop(stranger);
    let path = &snapshots[0];
    other.put(path, &disk.contents(path).unwrap()).unwrap();
    let stranger = Ledger::open(config(&other, 5, &clock)).unwrap();
    let replay = stranger.replay_with(ReplayPoint::Head, ReplayOptions::default()).unwrap();
    assert_eq!(replay.state_root().unwrap(), stranger.state_root().unwrap());
    assert!(!other.files().contains(path), "whoever writes removes it");
}

fn is_snapshot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap-"))
}

#[test]
fn documents_of_any_point_are_those_of_then() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = init(&disk, &clock);
    let mut made = Vec::new();
    for number in 0..4_u8 {
        clock.advance(60_000);
        put(&ledger, "api_key", &number.to_string());
        let profile = super::compromise::api_key_profile(&format!("p{number}"), "global/api_key");
        ledger.auth().set(profile, None).unwrap();
        let (_, der) = ledger.identity().revocation_list().unwrap();
        let documents = ledger.auth().documents().unwrap().unwrap();
        made.push((ledger.log().head().unwrap().seq, documents, der));
    }
    for (seq, documents, der) in &made {
        let replay = ledger.replay_with(ReplayPoint::Seq(*seq), ReplayOptions::default()).unwrap();
        assert_eq!(replay.auth_documents(300_000).unwrap(), *documents);
        let (_, again) = ledger.log().revocation_list_at(*seq).unwrap().unwrap();
        assert_eq!(again.unwrap().as_bytes(), der.as_bytes());
    }
    assert!(ledger.log().revocation_list_at(0).unwrap().is_none());
}

/// A list is signed before it is recorded: what is revoked in between is not on it, whatever the clock says.
#[test]
fn every_revocation_list_is_signed_again_whoever_revoked_meanwhile() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = init(&disk, &clock);
    // Where no thread got in between yet, once more.
    for round in 0..8 {
        let devices: Vec<DeviceId> = (1..=12).map(|number| DeviceId::from_bytes([round * 12 + number; 16])).collect();
        for device in &devices {
            clock.advance(60_000);
            pair_device(&ledger, *device, &LeafKey::generate().unwrap()).unwrap();
        }
        // From here on the clock stands still: no time tells what came first.
        let (from, mut lists) = (ledger.log().head().unwrap().seq, Vec::new());
        std::thread::scope(|scope| {
            let revoking: Vec<_> = devices.chunks(4).map(|some| scope.spawn(|| revoke(&ledger, some))).collect();
            while !revoking.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                lists.push(ledger.identity().revocation_list().unwrap());
            }
        });
        if got_in_between(&ledger, from, u64::from(round) * 12, &lists) {
            break;
        }
    }
}

fn revoke(ledger: &Ledger, devices: &[DeviceId]) {
    for device in devices {
        ledger.identity().revoke(*device).unwrap();
    }
}

/// Signs every list behind an event again; whether one was signed before a revocation that the log has before it.
fn got_in_between(ledger: &Ledger, from: u64, mut revoked: u64, lists: &[(CrlIssued, Der)]) -> bool {
    let mut issued = Vec::new();
    let look = &mut |entry: Entry| {
        match &entry.event {
            Event::DeviceRevoked(_) => revoked += 1,
            Event::CrlIssued(_) => issued.push((entry.seq, revoked)),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    ledger.log().read(from + 1, u64::MAX, look).unwrap();
    assert_eq!(issued.len(), lists.len());
    let mut between = false;
    for ((seq, before), (list, der)) in issued.into_iter().zip(lists) {
        let (found, again) = ledger.log().revocation_list_at(seq).unwrap().unwrap();
        assert_eq!((&found, again.as_ref()), (list, Some(der)), "event {seq}");
        between |= found.entries < before;
    }
    between
}

#[test]
fn fingerprints_show_whether_values_are_equal_and_outlive_every_rotation() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = init(&disk, &clock);
    for (key, value) in [("a", "CANARY-one"), ("b", "CANARY-one"), ("c", "CANARY-two")] {
        put(&ledger, key, value);
    }
    let print = |key: &str| ledger.value_fingerprint(&format!("global/{key}").parse().unwrap(), 1).unwrap();
    let before = print("a").unwrap();
    assert_eq!(Some(before), print("b"));
    assert_ne!(Some(before), print("c"));
    ledger.keys().rotate_epoch().unwrap();
    ledger.keys().rotate_root(&[], &[]).unwrap();
    assert_eq!(Some(before), print("a"));
    ledger.vault(Scope::global()).shred(&"a".parse().unwrap(), Versions::All, None).unwrap();
    assert_eq!(print("a"), None);
    // Another ledger's says nothing about this one's.
    let other = Ledger::init(config(&SimDisk::new(), 77, &clock), NewSlot::file("other")).unwrap();
    put(&other, "a", "CANARY-one");
    assert_ne!(other.value_fingerprint(&"global/a".parse().unwrap(), 1).unwrap(), Some(before));
    assert_eq!(before.to_string().len(), 32);
}
