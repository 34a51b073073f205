//! Whatever was done to a ledger: what is restored has the state that was backed up.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::import::palyra::{Places, read};
use palyra_ledger::import::read_env;
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SimDisk};
use palyra_ledger::{BackendKind, ImportOptions, Ledger, ReplayPoint, Scope, SecretBytes, VerifyOptions};
use proptest::prelude::*;

use super::{backup, by_words, check, empty, increment, name, put, restore, simulated, with_words, words};

#[derive(Debug, Clone)]
enum Step {
    Put(usize, Vec<u8>),
    Delete(usize),
    Shred(usize),
    Epoch,
    Root,
    Move(bool),
    /// Secrets under names that may be there.
    ImportEnv(usize, u32),
    /// A whole store: secrets, a CA and its devices, profiles and their order.
    ImportStore,
    Full,
    Increment,
}

const NAMES: [&str; 5] = ["a", "b", "team/c", "d", "openai_api_key"];

fn step() -> impl Strategy<Value = Step> {
    let at = 0..NAMES.len();
    prop_oneof![
        8 => (at.clone(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(at, value)| Step::Put(at, value)),
        2 => at.clone().prop_map(Step::Delete),
        2 => at.clone().prop_map(Step::Shred),
        2 => (at, any::<u32>()).prop_map(|(at, value)| Step::ImportEnv(at, value)),
        1 => Just(Step::ImportStore),
        1 => Just(Step::Epoch),
        1 => Just(Step::Root),
        1 => any::<bool>().prop_map(Step::Move),
        1 => Just(Step::Full),
        3 => Just(Step::Increment),
    ]
}

fn slot_with_words(ledger: &Ledger) -> palyra_ledger::SlotId {
    let (slots, _) = ledger.keys().slots();
    slots.iter().find(|slot| slot.kind() == palyra_ledger::SlotKind::Recovery).unwrap().id()
}

const WHATEVER: ImportOptions =
    ImportOptions { replace: true, skip_damaged: true, skip_conflicts: true, dry_run: false };

fn import_store(ledger: &Ledger) {
    let store = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/importer-fixtures/palyra-store");
    let gathered = read(&store, &Places::default(), &MemoryKeystore::default(), &|_, _| {});
    let counts = (gathered.secrets.len(), gathered.devices.len(), gathered.profiles.len(), gathered.orders.len());
    assert_eq!(counts, (7, 3, 3, 1));
    ledger.imports().run(&gathered, WHATEVER, &|_, _| {}).unwrap();
}

#[test]
fn a_backup_of_imported_secrets_outside_the_log_is_good() {
    let clock = ManualClock::default();
    for early in [true, false] {
        let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
        let move_out = || ledger.backends().migrate(BackendKind::EncryptedFile, &mut |_, _| {}).unwrap();
        if early {
            move_out();
        }
        import_store(&ledger);
        if !early {
            move_out();
        }
        let (file, _) = backup(&ledger);
        let report = check(&simulated(empty(), 3, &clock).credential(by_words()), &[file]);
        assert!(report.is_ok(), "{:?}", report.checks);
        assert!(report.checks.iter().any(|check| check.name == "envelopes"));
    }
}

fn run(ledger: &Ledger, step: &Step) {
    let vault = ledger.vault("global".parse().unwrap());
    match step {
        Step::Put(at, value) => put(ledger, NAMES[*at], value),
        // Refused where there is nothing: that is no change, and nothing to compare.
        Step::Delete(at) => drop(vault.delete(&name(NAMES[*at]), Versions::All, None)),
        Step::Shred(at) => drop(vault.shred(&name(NAMES[*at]), Versions::All, None)),
        Step::Epoch => drop(ledger.keys().rotate_epoch().unwrap()),
        Step::Root => {
            let carried = [(slot_with_words(ledger), words().text())];
            ledger.keys().rotate_root(&carried, &[]).unwrap();
        }
        Step::Move(out) => {
            let to = if *out { BackendKind::EncryptedFile } else { BackendKind::Ledger };
            ledger.backends().migrate(to, &mut |_, _| {}).unwrap();
        }
        Step::ImportEnv(at, value) => {
            // Names in an env file are plain: that of the secret takes its place.
            let mut gathered = read_env(format!("A={value}\n").as_bytes(), &Scope::global(), "some.env");
            for secret in &mut gathered.secrets {
                secret.path.name = name(NAMES[*at]);
            }
            ledger.imports().run(&gathered, WHATEVER, &|_, _| {}).unwrap();
        }
        Step::ImportStore => import_store(ledger),
        Step::Full | Step::Increment => {}
    }
}

/// Every value that can be read, by name and version.
fn values(ledger: &Ledger) -> Vec<(String, u32, Option<SecretBytes>)> {
    let vault = ledger.vault("global".parse().unwrap());
    let mut found = Vec::new();
    for text in NAMES {
        let Ok(history) = vault.history(&name(text)) else { continue };
        for version in history.versions {
            let options = palyra_ledger::GetOptions::version(version.version);
            let value = vault.get_with(&name(text), options).ok().map(|secret| secret.value);
            found.push((text.to_owned(), version.version, value));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_has_the_state_that_was_backed_up(steps in prop::collection::vec(step(), 1..40)) {
        let clock = ManualClock::default();
        let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
        let (first, mut last) = backup(&ledger);
        let mut chain = vec![first];
        for step in &steps {
            clock.advance(10);
            run(&ledger, step);
            match step {
                Step::Full => {
                    let (file, made) = backup(&ledger);
                    (chain, last) = (vec![file], made);
                }
                Step::Increment => {
                    let (file, made) = increment(&ledger, &last);
                    chain.push(file);
                    last = made;
                }
                _ => {}
            }
        }
        let (file, made) = increment(&ledger, &last);
        chain.push(file);
        let expected = ledger.replay(ReplayPoint::Seq(made.to)).unwrap().state_root().unwrap();
        prop_assert_eq!(made.state_root, expected);
        let before = values(&ledger);

        let report = check(&simulated(empty(), 3, &clock).credential(by_words()), &chain);
        prop_assert!(report.is_ok(), "{:?}", report.checks);
        prop_assert_eq!(report.state_root, Some(expected));

        let disk = empty();
        let restored = restore(&simulated(disk.clone(), 4, &clock).credential(by_words()), &chain).unwrap();
        prop_assert_eq!((restored.state_root, restored.to, restored.slot_added), (expected, made.to, true));
        let again = Ledger::open(simulated(disk, 5, &clock)).unwrap();
        prop_assert_eq!(again.replay(ReplayPoint::Seq(made.to)).unwrap().state_root().unwrap(), expected);
        prop_assert_eq!(values(&again), before);
        let report = again.verify(VerifyOptions { state: true, witness: false }).unwrap();
        prop_assert!(report.ok, "{:?}", report.findings);
        let mut report = report;
        again.verify_backend(&mut report).unwrap();
        prop_assert!(report.ok, "{:?}", report.findings);
        put(&again, "new", b"life goes on");
        again.close().unwrap();
    }
}
