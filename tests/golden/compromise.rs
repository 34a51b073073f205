//! Compromises: one that was closed, and one that is open.

use palyra_ledger::event::auth::{CredentialSource, Profile};
use palyra_ledger::event::compromise::Concern;
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::{ManualClock, SimDisk, pair_device};
use palyra_ledger::{DeviceId, Ledger, NewSlot, PutOptions, SecretBytes};

use super::{Release, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0007-compromise", make, told };

/// Every field of both kinds, and what is left to do.
fn told(ledger: &Ledger) -> String {
    let events = told_with(ledger, |entry| match entry.kind {
        20 | 21 => format!(" {}", fields(entry)),
        _ => String::new(),
    });
    let open: String = ledger
        .compromises()
        .unwrap()
        .iter()
        .flat_map(|one| one.items.iter().map(|state| format!("{} {:?} done {}\n", one.concern, state.item, state.done)))
        .collect();
    format!("{events}{open}")
}

fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 7, &clock), NewSlot::file("machine")).unwrap();
    let vault = ledger.vault("global".parse().unwrap());
    let put = |value: &str| {
        let value = SecretBytes::from(value.as_bytes());
        vault.put(&"api_key".parse().unwrap(), &value, PutOptions::new()).unwrap();
    };
    put("first");
    let device = DeviceId::from_bytes([1; 16]);
    pair_device(&ledger, device, &LeafKey::generate_p256().unwrap()).unwrap();
    let profile = Profile {
        id: "main".parse().unwrap(),
        provider: "openai".parse().unwrap(),
        name: "Main".to_owned(),
        scope: "global".parse().unwrap(),
        enabled: true,
        credential: CredentialSource::ApiKey("global/api_key".parse().unwrap()),
    };
    ledger.auth().set(profile, None).unwrap();
    let since = ledger.log().head().unwrap().time;
    clock.advance(1000);
    let until = ledger.log().head().unwrap().time.plus_millis(500);
    let apply = |concern: Concern| {
        let exposure = ledger.exposure(&concern, since, until, None).unwrap();
        ledger.remedy(&exposure).unwrap()
    };
    assert!(!apply(Concern::Secret("global/api_key".parse().unwrap())).closed);
    clock.advance(1000);
    put("second");
    assert!(apply(Concern::Secret("global/api_key".parse().unwrap())).closed);
    assert!(apply(Concern::Device(device)).closed);
    ledger.auth().enable(&"main".parse().unwrap(), true).unwrap();
    let until = ledger.log().head().unwrap().time.plus_millis(500);
    let exposure = ledger.exposure(&Concern::Profile("main".parse().unwrap()), since, until, None).unwrap();
    assert!(!ledger.remedy(&exposure).unwrap().closed);
    ledger.close().unwrap();
    disk
}
