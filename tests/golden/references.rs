//! References to secrets: their resolutions and refusals.

use palyra_ledger::resolve::{Bound, SecretResolver};
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Actor, Caller, Ledger, NewSlot, PutOptions, SecretBytes};

use super::{Release, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0004-secret-references", make, told };

/// Every field of every event about references.
fn told(ledger: &Ledger) -> String {
    told_with(ledger, |entry| match entry.kind {
        37 | 38 => format!(" {}", fields(entry)),
        _ => String::new(),
    })
}

fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 4, &clock), NewSlot::file("machine")).unwrap();
    let vault = ledger.vault("global".parse().unwrap());
    for value in ["first", "second"] {
        vault.put(&"api_key".parse().unwrap(), &SecretBytes::from(value.as_bytes()), PutOptions::new()).unwrap();
    }
    let caller = || Caller::library(Actor::new("mailer").unwrap());
    let every = SecretResolver::new(&ledger, caller(), Bound::Every);
    let bound = SecretResolver::new(&ledger, caller(), Bound::Scope("skill:mail".parse().unwrap()));
    for _ in 0..2 {
        clock.advance(1000);
        for text in [
            "palyra://global/api_key",
            "palyra://global/api_key?version=1",
            "palyra://global/api_key?version=7",
            "palyra://global/api_key?field=token",
            "palyra://global/none?required=false",
            "env://API_KEY",
            "file:///run/secrets/key",
            "exec:///usr/bin/op?arg=read&arg=item",
        ] {
            every.resolve(&text.parse().unwrap()).unwrap();
        }
    }
    bound.resolve(&"palyra://global/api_key".parse().unwrap()).unwrap();
    ledger.close().unwrap();
    disk
}

#[test]
fn a_reference_has_the_same_fingerprint_for_ever() {
    let ledger = RELEASE.open();
    let caller = Caller::library(Actor::new("mailer").unwrap());
    let resolution =
        SecretResolver::new(&ledger, caller, Bound::Every).resolve(&"env://API_KEY".parse().unwrap()).unwrap();
    assert!(RELEASE.expected().contains(&resolution.fingerprint.to_string()));
}
