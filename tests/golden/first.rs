//! The first format: the ledger itself and the vault.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::vault::Metadata;
use palyra_ledger::{Credential, Ledger, NewSlot, PutOptions, SecretBytes};

use super::{Release, config, phrase, told};

pub const RELEASE: Release = Release { folder: "0001-first-format", make, told };

/// A store with every kind of event that a healthy ledger writes.
fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 1, &clock), NewSlot::file("machine")).unwrap();
    let vault = |scope: &str| ledger.vault(scope.parse().unwrap());
    let name = |text: &str| text.parse().unwrap();
    let put = |scope: &str, key: &str, value: &str, options: PutOptions| {
        clock.advance(1000);
        vault(scope).put(&name(key), &SecretBytes::from(value.as_bytes()), options).unwrap();
    };
    let labels = [("team".to_owned(), "core".to_owned())].into_iter().collect();
    let expires = palyra_ledger::Timestamp::from_millis(1_800_000_000_000);
    put("global", "api_key", "first", PutOptions::new().description("billing").labels(labels).expires_at(expires));
    put("global", "api_key", "second", PutOptions::new().if_version(1));
    put("principal:ana", "token", "hers", PutOptions::new());
    put("channel:slack:T1", "bot", "beep", PutOptions::new());
    put("skill:mail", "imap/password", &"long ".repeat(300), PutOptions::new());
    put("skill:mail", "gone", "shredded", PutOptions::new());
    let _ = vault("global").put(&name("api_key"), &phrase(), PutOptions::new().if_version(1)).unwrap_err();
    vault("principal:ana").delete(&name("token"), Versions::All, None).unwrap();
    vault("principal:ana").undelete(&name("token"), Versions::All, None).unwrap();
    vault("channel:slack:T1").delete(&name("bot"), Versions::One(1), None).unwrap();
    vault("skill:mail").shred(&name("gone"), Versions::All, None).unwrap();
    let change = Metadata { description: Some("mail".to_owned()), ..Metadata::default() };
    vault("skill:mail").describe(&name("imap/password"), &change, None).unwrap();
    vault("global").get(&name("api_key")).unwrap();
    ledger.flush_reads().unwrap();
    let slot = ledger.keys().add_slot(NewSlot::passphrase("safe", phrase())).unwrap().id();
    let lost = ledger.keys().add_slot(NewSlot::file("lost")).unwrap().id();
    ledger.keys().remove_slot(lost, None).unwrap();
    ledger.keys().rotate_epoch().unwrap();
    ledger.keys().rotate_root(&[(slot, phrase())], &[]).unwrap();
    clock.set(palyra_ledger::Timestamp::from_millis(1_767_225_000_000));
    put("global", "after", "the clock stepped back", PutOptions::new());
    ledger.close().unwrap();
    disk
}

#[test]
fn the_first_store_opens_by_its_passphrase() {
    let clock = ManualClock::default();
    let disk = RELEASE.load();
    let slots = Ledger::open(config(&disk, 9, &clock)).unwrap().keys().slots().0;
    let slot = slots.iter().find(|slot| slot.label() == "safe").unwrap().id();
    let ledger =
        Ledger::open(config(&disk, 10, &clock).slot(slot).credential(Credential::Passphrase(phrase()))).unwrap();
    let secret = ledger.vault("global".parse().unwrap()).get(&"api_key".parse().unwrap()).unwrap();
    assert_eq!(secret.value.expose(), b"second");
}
