//! No scope can read, list or infer another's content.

use std::ops::ControlFlow;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::ManualClock;
use palyra_ledger::vault::VaultError;
use palyra_ledger::{Error, GetOptions, Ledger, ListOptions, PutOptions, Scope, SecretName};

use super::common::{bytes, disk_with_ledger, name, scope, simulated};

const SCOPES: [&str; 8] = [
    "global",
    "principal:ana",
    "principal:ana2",
    "principal:ana:x",
    "channel:mail:ana",
    "channel:mail:ana2",
    "channel:mail:ana:x",
    "skill:ana",
];

fn ledger() -> Ledger {
    let clock = ManualClock::default();
    let ledger = Ledger::open(simulated(disk_with_ledger(&clock), 3, &clock)).unwrap();
    for text in SCOPES {
        ledger.vault(scope(text)).put(&name("key"), &bytes(text), PutOptions::new()).unwrap();
        ledger
            .vault(scope(text))
            .put(&name(&format!("only-{}", text.replace(':', "-"))), &bytes(text), PutOptions::new())
            .unwrap();
    }
    ledger
}

#[test]
fn a_handle_sees_its_own_scope_and_nothing_of_the_others() {
    let ledger = ledger();
    for text in SCOPES {
        let vault = ledger.vault(scope(text));
        let listed = vault.list(&ListOptions::new().including_deleted()).unwrap();
        assert_eq!(listed.len(), 2, "{text}");
        assert!(listed.iter().all(|info| info.reference.scope == scope(text)));
        assert_eq!(vault.get(&name("key")).unwrap().value.expose(), text.as_bytes());
        for other in SCOPES.iter().filter(|other| **other != text) {
            let hidden = name(&format!("only-{}", other.replace(':', "-")));
            // Existing elsewhere and existing nowhere read the same.
            let there = vault.get(&hidden).unwrap_err().to_string();
            let nowhere = vault.get(&name("only-none")).unwrap_err().to_string();
            assert_eq!(there.replace(hidden.as_str(), "NAME"), nowhere.replace("only-none", "NAME"));
            for refused in [
                vault.delete(&hidden, Versions::All, None),
                vault.shred(&hidden, Versions::All, None),
                vault.undelete(&hidden, Versions::All, None),
                vault.put(&hidden, &bytes("x"), PutOptions::new().if_version(1)),
            ] {
                assert!(refused.is_err());
            }
            let reference = format!("{other}/key").parse().unwrap();
            let crossed = vault.get_ref(&reference, GetOptions::current()).unwrap_err();
            assert!(matches!(crossed, Error::Vault(VaultError::ScopeDenied { .. })), "{crossed}");
        }
    }
}

#[test]
fn a_page_marker_of_another_scope_shows_nothing_of_it() {
    let ledger = ledger();
    let vault = ledger.vault(scope("principal:ana"));
    for other in SCOPES {
        let after = format!("{other}/key").parse().unwrap();
        let page = vault.list(&ListOptions::new().after(after)).unwrap();
        assert!(page.iter().all(|info| info.reference.scope == scope("principal:ana")), "{other}");
    }
}

#[test]
fn no_name_reaches_into_another_scope() {
    for text in ["../global/key", "/key", "a//b", "global\0key", "a/../b", "", "x\u{202e}y", "ключ"] {
        assert!(text.parse::<SecretName>().is_err(), "{text:?}");
    }
    for text in
        ["global:x", "principal", "principal:", "channel::b", "principal:a b", "skill:a/b", "channel:x", "GLOBAL", ""]
    {
        assert!(text.parse::<Scope>().is_err(), "{text:?}");
    }
}

#[test]
fn crossing_is_recorded_with_who_and_what() {
    let ledger = ledger();
    let vault = ledger.vault(scope("skill:ana"));
    let _ = vault.get_ref(&"principal:ana/key".parse().unwrap(), GetOptions::current());
    let mut found = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            if entry.kind_name() == "command_refused" {
                found.push(entry.fields());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["target"], "principal:ana/key");
    assert_eq!(found[0]["code"], "scope_denied");
}

#[test]
fn an_envelope_or_slot_put_in_another_place_does_not_open() {
    // The DEK is derived from the slot key, the ledger id, the scope, the name and the version.
    let clock = ManualClock::default();
    let one = ledger();
    let two = Ledger::open(simulated(disk_with_ledger(&clock), 4, &clock)).unwrap();
    let envelope = |ledger: &Ledger| {
        let mut found = None;
        ledger
            .log()
            .read(0, u64::MAX, &mut |entry| {
                if let palyra_ledger::event::Event::SecretPut(event) = entry.event {
                    found.get_or_insert(event.envelope);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        found.unwrap()
    };
    two.vault(scope("global")).put(&name("key"), &bytes("global"), PutOptions::new()).unwrap();
    assert_ne!(envelope(&one), envelope(&two), "equal values show nowhere");
}
