//! Any sequence of puts, gets, deletes, shreds, moves, crashes and reopenings says what a map says.

use std::collections::BTreeMap;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::{BackendKind, Ledger, PutOptions, Scope};
use proptest::prelude::*;

use super::{Place, SERVED, bytes, migrate, name, simulated, verified};

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u16),
    Get(u8),
    Delete(u8),
    Undelete(u8),
    Shred(u8),
    Move(usize),
    KeystoreGoes(u8),
    Reopen,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_u8, any::<u16>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..5_u8).prop_map(Step::Get),
        1 => (0..5_u8).prop_map(Step::Delete),
        1 => (0..5_u8).prop_map(Step::Undelete),
        1 => (0..5_u8).prop_map(Step::Shred),
        2 => (0..SERVED.len()).prop_map(Step::Move),
        1 => (0..9_u8).prop_map(Step::KeystoreGoes),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

/// A secret as the model knows it: its versions, whether it is hidden, and how many were shredded.
#[derive(Debug, Default, Clone)]
struct Known {
    versions: Vec<u16>,
    hidden: usize,
    shredded: usize,
}

fn run(kind: BackendKind, steps: Vec<Step>) {
    let mut place = Place::new(kind);
    let mut ledger = place.open();
    let mut known: BTreeMap<u8, Known> = BTreeMap::new();
    let key = |number: u8| name(&format!("key-{number}"));
    for (at, step) in steps.into_iter().enumerate() {
        let vault = ledger.vault(Scope::global());
        match step {
            Step::Put(number, value) => {
                match vault.put(&key(number), &bytes(&value.to_string()), PutOptions::new()) {
                    Ok(receipt) => {
                        let secret = known.entry(number).or_default();
                        secret.versions.push(value);
                        assert_eq!(receipt.version as usize, secret.versions.len());
                    }
                    // Only a keystore that is away refuses.
                    Err(error) => assert!(error.to_string().contains("no keystore"), "{error}"),
                }
            }
            Step::Get(number) => check(&ledger, number, known.get(&number)),
            Step::Delete(number) => {
                if vault.delete(&key(number), Versions::All, None).is_ok() {
                    let secret = known.get_mut(&number).unwrap();
                    secret.hidden = secret.versions.len();
                }
            }
            Step::Undelete(number) => {
                if vault.undelete(&key(number), Versions::All, None).is_ok() {
                    known.get_mut(&number).unwrap().hidden = 0;
                }
            }
            Step::Shred(number) => {
                if vault.shred(&key(number), Versions::All, None).is_ok() {
                    let secret = known.get_mut(&number).unwrap();
                    secret.shredded = secret.versions.len();
                }
            }
            Step::Move(to) => {
                let _ = migrate(&ledger, SERVED[to]);
            }
            Step::KeystoreGoes(calls) => place.keystore.set_left(Some(u64::from(calls))),
            Step::Reopen => {
                ledger.close().unwrap();
                place.keystore.set_left(None);
                ledger = Ledger::open(place.config(100 + at as u64)).unwrap();
            }
            Step::Crash(seed) => {
                place.keystore.set_left(None);
                place.disk = place.disk.crash(seed);
                let config = simulated(place.disk.clone(), &place.keystore, 100 + at as u64, &place.clock);
                ledger = Ledger::open(config).unwrap();
            }
        }
    }
    place.keystore.set_left(None);
    for number in 0..5 {
        check(&ledger, number, known.get(&number));
    }
    let report = verified(&ledger);
    assert!(report.ok, "{:?}", report.findings);
    // Whatever was left unfinished can be finished, and then nothing is left over anywhere.
    let state = ledger.backends().state().unwrap();
    let to = state.other.filter(|_| !state.switched).unwrap_or(state.kind);
    migrate(&ledger, to).unwrap();
    migrate(&ledger, to).unwrap();
    let report = verified(&ledger);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    for number in 0..5 {
        check(&ledger, number, known.get(&number));
    }
}

/// A keystore that is away may refuse; what is read is what was written.
fn check(ledger: &Ledger, number: u8, known: Option<&Known>) {
    let read = ledger.vault(Scope::global()).get(&name(&format!("key-{number}")));
    let expected = known.filter(|secret| {
        let count = secret.versions.len();
        count > secret.hidden && count > secret.shredded
    });
    match (read, expected) {
        (Ok(secret), Some(known)) => {
            assert_eq!(secret.value, bytes(&known.versions.last().unwrap().to_string()));
        }
        (Err(error), Some(_)) => assert!(error.to_string().contains("no keystore"), "{error}"),
        (Err(_), None) => {}
        (Ok(_), None) => panic!("key-{number} should not be there: {known:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_backend_says_what_a_map_says(
        kind in 0..SERVED.len(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        run(SERVED[kind], steps);
    }
}
