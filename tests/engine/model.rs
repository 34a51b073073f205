//! Random command sequences against a model in memory, reopened at random points.

use std::collections::BTreeMap;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::vault::{Metadata, VaultError, VersionState};
use palyra_ledger::{
    Error, GetOptions, Ledger, ListOptions, PutOptions, Receipt, ReplayPoint, SecretBytes, VerifyOptions,
};
use proptest::prelude::*;

use super::common::{disk_with_ledger, name, scope, simulated};

const SCOPES: [&str; 3] = ["global", "principal:ana", "skill:mail"];
const NAMES: [&str; 4] = ["a", "a/b", "token", "token.2"];

#[derive(Debug, Clone)]
enum Step {
    Put { at: (usize, usize), value: Vec<u8>, expect: Option<u32> },
    Describe { at: (usize, usize), text: String },
    Delete { at: (usize, usize), version: Option<u32> },
    Undelete { at: (usize, usize), version: Option<u32> },
    Shred { at: (usize, usize), version: Option<u32> },
    Epoch,
    Root,
    Close,
    Crash,
}

fn place() -> impl Strategy<Value = (usize, usize)> {
    (0..SCOPES.len(), 0..NAMES.len())
}

fn version() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(0_u32..5)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (place(), prop::collection::vec(any::<u8>(), 0..40), prop::option::weighted(0.3, 0_u32..4))
            .prop_map(|(at, value, expect)| Step::Put { at, value, expect }),
        2 => (place(), "[a-z]{0,8}").prop_map(|(at, text)| Step::Describe { at, text }),
        3 => (place(), version()).prop_map(|(at, version)| Step::Delete { at, version }),
        3 => (place(), version()).prop_map(|(at, version)| Step::Undelete { at, version }),
        2 => (place(), version()).prop_map(|(at, version)| Step::Shred { at, version }),
        1 => Just(Step::Epoch),
        1 => Just(Step::Root),
        2 => Just(Step::Close),
        2 => Just(Step::Crash),
    ]
}

#[derive(Debug, Clone)]
struct Version {
    value: Vec<u8>,
    state: VersionState,
}

#[derive(Debug, Clone, Default)]
struct Secret {
    versions: Vec<Version>,
    description: Option<String>,
}

/// What the vault promises, written a second time and as plainly as can be.
#[derive(Debug, Clone, Default)]
struct Model {
    secrets: BTreeMap<(usize, usize), Secret>,
}

impl Model {
    fn apply(&mut self, step: &Step) -> Result<u32, &'static str> {
        match step {
            Step::Put { at, value, expect } => {
                if value.is_empty() {
                    return Err("empty_value");
                }
                let found = self.secrets.get(at).map_or(0, |secret| secret.versions.len() as u32);
                if expect.is_some_and(|expect| expect != found) {
                    return Err("conflict");
                }
                let version = Version { value: value.clone(), state: VersionState::Live };
                self.secrets.entry(*at).or_default().versions.push(version);
                Ok(found + 1)
            }
            Step::Describe { at, text } => {
                let secret = self.secrets.get_mut(at).ok_or("not_found")?;
                secret.description = Some(text.clone()).filter(|text| !text.is_empty());
                Ok(secret.versions.len() as u32)
            }
            Step::Delete { at, version } => self.each(*at, *version, false, |version| {
                version.state = VersionState::Deleted;
            }),
            Step::Undelete { at, version } => self.each(*at, *version, true, |version| {
                version.state = VersionState::Live;
            }),
            Step::Shred { at, version } => {
                let secret = self.secrets.get_mut(at).ok_or("not_found")?;
                let last = secret.versions.len() as u32;
                let chosen = choose(secret, *version)?;
                let mut done = false;
                for version in chosen {
                    done |= version.state != VersionState::Shredded;
                    version.state = VersionState::Shredded;
                }
                if done { Ok(last) } else { Err("shredded") }
            }
            Step::Epoch | Step::Root | Step::Close | Step::Crash => Ok(0),
        }
    }

    fn each(
        &mut self,
        at: (usize, usize),
        version: Option<u32>,
        show: bool,
        change: impl Fn(&mut Version),
    ) -> Result<u32, &'static str> {
        let secret = self.secrets.get_mut(&at).ok_or("not_found")?;
        let last = secret.versions.len() as u32;
        let nothing_hidden = secret.versions.iter().all(|version| version.state != VersionState::Deleted);
        let current_gone = secret.versions.last().is_some_and(|version| version.state == VersionState::Shredded);
        if version.is_none() && show && nothing_hidden && current_gone {
            return Err("shredded");
        }
        let single = version.is_some();
        for version in choose(secret, version)? {
            match version.state {
                VersionState::Shredded if single => return Err("shredded"),
                VersionState::Shredded => {}
                VersionState::Live | VersionState::Deleted => change(version),
            }
        }
        Ok(last)
    }
}

fn choose(secret: &mut Secret, version: Option<u32>) -> Result<&mut [Version], &'static str> {
    match version {
        None => Ok(&mut secret.versions),
        Some(version) => {
            let at = (version as usize).checked_sub(1).filter(|at| *at < secret.versions.len());
            at.map(|at| &mut secret.versions[at..=at]).ok_or("no_version")
        }
    }
}

fn versions(version: Option<u32>) -> Versions {
    version.map_or(Versions::All, Versions::One)
}

fn run(ledger: &Ledger, step: &Step) -> Result<u32, Error> {
    let vault = |at: &(usize, usize)| (ledger.vault(scope(SCOPES[at.0])), name(NAMES[at.1]));
    let version = |receipt: Receipt| receipt.version;
    match step {
        Step::Put { at, value, expect } => {
            let (vault, name) = vault(at);
            let options = expect.map_or_else(PutOptions::new, |expect| PutOptions::new().if_version(expect));
            vault.put(&name, &SecretBytes::from(value.as_slice()), options).map(version)
        }
        Step::Describe { at, text } => {
            let (vault, name) = vault(at);
            let change = Metadata { description: Some(text.clone()), ..Metadata::default() };
            vault.describe(&name, &change, None).map(version)
        }
        Step::Delete { at, version: number } => {
            let (vault, name) = vault(at);
            vault.delete(&name, versions(*number), None).map(version)
        }
        Step::Undelete { at, version: number } => {
            let (vault, name) = vault(at);
            vault.undelete(&name, versions(*number), None).map(version)
        }
        Step::Shred { at, version: number } => {
            let (vault, name) = vault(at);
            vault.shred(&name, versions(*number), None).map(version)
        }
        Step::Epoch => ledger.keys().rotate_epoch().map(|_| 0),
        Step::Root => ledger.keys().rotate_root(&[], &[]).map(|_| 0),
        Step::Close | Step::Crash => Ok(0),
    }
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::Vault(error) => error.code().unwrap_or("state"),
        other => panic!("{other}"),
    }
}

fn compare(ledger: &Ledger, model: &Model) {
    for (scope_at, scope_text) in SCOPES.iter().enumerate() {
        let vault = ledger.vault(scope(scope_text));
        let mut live = Vec::new();
        for (name_at, name_text) in NAMES.iter().enumerate() {
            let name = name(name_text);
            let Some(secret) = model.secrets.get(&(scope_at, name_at)) else {
                assert!(matches!(vault.get(&name), Err(Error::Vault(VaultError::NotFound { .. }))));
                continue;
            };
            if secret.versions.last().unwrap().state == VersionState::Live {
                live.push((*name_text).to_owned());
            }
            let history = vault.history(&name).unwrap();
            assert_eq!(history.versions.len(), secret.versions.len());
            for (number, (expected, found)) in (1_u32..).zip(secret.versions.iter().zip(&history.versions)) {
                assert_eq!((found.version, found.state), (number, expected.state), "{scope_text}/{name_text}");
                match (expected.state, vault.get_with(&name, GetOptions::version(number))) {
                    (VersionState::Live, Ok(read)) => assert_eq!(read.value.expose(), expected.value),
                    (VersionState::Deleted, Err(error)) => assert_eq!(code(&error), "deleted"),
                    (VersionState::Shredded, Err(error)) => assert_eq!(code(&error), "shredded"),
                    (state, read) => panic!("{state:?} {read:?}"),
                }
            }
            assert_eq!(vault.info(&name, GetOptions::current()).unwrap().description, secret.description);
        }
        live.sort();
        let listed = vault.list(&ListOptions::new()).unwrap();
        let listed: Vec<String> = listed.iter().map(|info| info.reference.name.to_string()).collect();
        assert_eq!(listed, live);
    }
}

fn check(ledger: &Ledger, model: &Model) {
    compare(ledger, model);
    ledger.flush_reads().unwrap();
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!(report.state_root, Some(ledger.state_root().unwrap()));
    assert_eq!(ledger.replay(ReplayPoint::Head).unwrap().state_root().unwrap(), ledger.state_root().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_vault_does_what_its_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let clock = ManualClock::default();
        let mut disk: SimDisk = disk_with_ledger(&clock);
        let mut model = Model::default();
        let mut seed = 2;
        let mut ledger = Ledger::open(simulated(disk.clone(), seed, &clock)).unwrap();
        for step in &steps {
            clock.advance(10);
            let expected = model.apply(step);
            match (run(&ledger, step), expected) {
                (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected, "{:?}", step),
                (Err(error), Err(expected)) => prop_assert_eq!(code(&error), expected, "{:?}", step),
                (found, expected) => prop_assert!(false, "{:?}: {:?} where {:?}", step, found, expected),
            }
            if matches!(step, Step::Close | Step::Crash) {
                if matches!(step, Step::Close) {
                    ledger.close().unwrap();
                } else {
                    // The old handle closes on the disk that is thrown away.
                    disk = disk.crash(seed);
                }
                seed += 1;
                ledger = Ledger::open(simulated(disk.clone(), seed, &clock)).unwrap();
                compare(&ledger, &model);
            }
        }
        check(&ledger, &model);
        ledger.close().unwrap();
        let ledger = Ledger::open(simulated(disk, seed + 1, &clock)).unwrap();
        check(&ledger, &model);
    }
}
