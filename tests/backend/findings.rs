//! What others did to a backend is found, named, and never settled by guessing.

use std::path::{Path, PathBuf};

use palyra_ledger::event::Event;
use palyra_ledger::event::vault::Versions;
use palyra_ledger::resolve::{Bound, SecretResolver};
use palyra_ledger::store::Medium;
use palyra_ledger::{Actor, Away, BackendKind, Caller, Error, FindingCode, Ledger, PutOptions, Scope, SecretRef};

use super::{KEYSTORE, Place, bytes, get, migrate, name, put, verified};

fn object(slot: u64) -> PathBuf {
    format!("/home/objects/{:02x}/{slot:016x}.json", slot % 256).into()
}

fn codes(ledger: &Ledger) -> Vec<FindingCode> {
    verified(ledger).findings.iter().map(|finding| finding.code).collect()
}

fn away(ledger: &Ledger, key: &str) -> Away {
    match ledger.vault(Scope::global()).get(&name(key)) {
        Err(Error::Away { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

/// Slots 0 to 2: two versions of `a`, one of `b`.
fn on_files() -> (Place, Ledger) {
    let place = Place::new(BackendKind::EncryptedFile);
    let ledger = place.open();
    put(&ledger, "a", "one");
    put(&ledger, "a", "two");
    put(&ledger, "b", "other");
    assert!(codes(&ledger).is_empty());
    (place, ledger)
}

#[test]
fn a_lost_object_is_found() {
    let (place, ledger) = on_files();
    place.disk.remove(&object(1)).unwrap();
    assert_eq!(codes(&ledger), [FindingCode::EnvelopeLost]);
    assert_eq!(away(&ledger, "a"), Away::Lost);
    assert_eq!(get(&ledger, "b"), "other");
    // Nothing moves while something is missing.
    assert!(matches!(migrate(&ledger, BackendKind::Ledger), Err(Error::Away { what: Away::Lost, .. })));
    assert_eq!(ledger.backends().state().unwrap().kind, BackendKind::EncryptedFile);
}

#[test]
fn a_reference_to_a_lost_object_says_so_and_is_recorded() {
    let (place, ledger) = on_files();
    place.disk.remove(&object(1)).unwrap();
    let caller = Caller::library(Actor::new("resolver").unwrap());
    let resolver = SecretResolver::new(&ledger, caller, Bound::Every);
    let references = ["palyra://global/a", "palyra://global/b"].map(|text| text.parse::<SecretRef>().unwrap());
    let resolutions = resolver.resolve_all(&references).unwrap();
    let reason = resolutions[0].reason.as_ref().unwrap();
    assert_eq!((reason.code.name(), resolutions[0].status.name()), ("vault_damaged", "failed"));
    assert!(reason.to_string().contains("encrypted_file"), "{reason}");
    assert!(resolutions[1].value.is_some(), "the other one is there");
    ledger.flush_reads().unwrap();
    let mut noted = Vec::new();
    let read = &mut |entry: palyra_ledger::Entry| {
        if let Event::ReferencesResolved(event) = entry.event {
            noted.extend(event.notes.into_iter().map(|note| (note.shown, note.status.name())));
        }
        std::ops::ControlFlow::Continue(())
    };
    ledger.log().read(0, u64::MAX, read).unwrap();
    noted.sort();
    assert_eq!(noted, [("vault:global/a".to_owned(), "failed"), ("vault:global/b".to_owned(), "resolved")]);
}

#[test]
fn a_reference_whose_keystore_is_locked_or_gone_says_so_and_is_recorded() {
    let place = Place::new(KEYSTORE);
    let ledger = place.open();
    put(&ledger, "a", "one");
    let caller = Caller::library(Actor::new("resolver").unwrap());
    let resolver = SecretResolver::new(&ledger, caller, Bound::Every);
    let reference: SecretRef = "palyra://global/a".parse().unwrap();
    let reason = || {
        let resolution = resolver.resolve(&reference).unwrap();
        assert!(resolution.value.is_none());
        (resolution.reason.unwrap().code.name(), resolution.status.name())
    };
    place.keystore.set_locked(true);
    assert_eq!(reason(), ("vault_locked", "failed"));
    place.keystore.set_locked(false);
    place.keystore.set_absent(true);
    assert_eq!(reason(), ("vault_away", "failed"));
    place.keystore.set_absent(false);
    assert!(resolver.resolve(&reference).unwrap().value.is_some());
    ledger.flush_reads().unwrap();
    let mut noted = Vec::new();
    let read = &mut |entry: palyra_ledger::Entry| {
        if let Event::ReferencesResolved(event) = entry.event {
            noted.extend(
                event.notes.into_iter().map(|note| note.reason.map(palyra_ledger::event::vault::ResolveReason::name)),
            );
        }
        std::ops::ControlFlow::Continue(())
    };
    ledger.log().read(0, u64::MAX, read).unwrap();
    noted.sort_unstable();
    assert_eq!(noted, [None, Some("vault_away"), Some("vault_locked")]);
}

#[test]
fn a_damaged_object_is_found() {
    let (place, ledger) = on_files();
    let mut text = place.disk.contents(&object(1)).unwrap();
    text.truncate(text.len() - 1);
    place.disk.put(&object(1), &text).unwrap();
    assert_eq!(codes(&ledger), [FindingCode::EnvelopeDamaged]);
    assert_eq!(away(&ledger, "a"), Away::Damaged);
}

#[test]
fn a_file_in_another_ones_place_is_found() {
    let (place, ledger) = on_files();
    let other = place.disk.contents(&object(2)).unwrap();
    place.disk.put(&object(1), &other).unwrap();
    // The file names its slot.
    assert_eq!(codes(&ledger), [FindingCode::EnvelopeDamaged]);
}

#[test]
fn a_swapped_a_stale_and_an_unknown_item_are_told_apart() {
    let place = Place::new(KEYSTORE);
    let ledger = place.open();
    put(&ledger, "a", "one");
    put(&ledger, "a", "two");
    put(&ledger, "b", "other");
    let account = |slot: u64| format!("{}/envelopes/{slot}", ledger.id());
    let items = place.keystore.items();
    let was = items[&account(1)].clone();
    let expected = [
        (items[&account(0)].as_slice(), FindingCode::EnvelopeStale, "that of version 1"),
        (items[&account(2)].as_slice(), FindingCode::EnvelopeSwapped, "that of version 1 of global/b"),
        (b"anything".as_slice(), FindingCode::EnvelopeDamaged, "the log does not know"),
    ];
    for (bytes, code, text) in expected {
        place.keystore.tamper(&account(1), Some(bytes));
        let report = verified(&ledger);
        assert_eq!(report.findings.len(), 1);
        assert_eq!(report.findings[0].code, code);
        assert!(report.findings[0].what.contains(text) && !report.ok, "{}", report.findings[0].what);
        assert_eq!(away(&ledger, "a"), Away::Other);
    }
    place.keystore.tamper(&account(1), Some(&was));
    assert_eq!(get(&ledger, "a"), "two");
}

#[test]
fn an_orphan_is_a_note_and_is_swept() {
    let (place, ledger) = on_files();
    let kept = place.disk.contents(&object(2)).unwrap();
    ledger.vault(Scope::global()).shred(&name("b"), Versions::All, None).unwrap();
    assert_eq!(place.disk.contents(&object(2)), None, "a shred removes the object");
    place.disk.put(&object(2), &kept).unwrap();
    let report = verified(&ledger);
    assert_eq!(report.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [FindingCode::EnvelopeOrphaned]);
    assert!(report.ok, "its key is gone: it is a fact to know");
    assert_eq!(migrate(&ledger, BackendKind::EncryptedFile).unwrap().removed, 1);
    assert!(codes(&ledger).is_empty());
}

#[test]
fn a_locked_keystore_has_lost_nothing() {
    let place = Place::new(KEYSTORE);
    let ledger = place.open();
    put(&ledger, "a", "one");
    place.keystore.set_locked(true);
    let refused = ledger.vault(Scope::global()).get(&name("a")).unwrap_err();
    assert!(refused.to_string().contains("locked"), "{refused}");
    let mut report = ledger.verify(palyra_ledger::VerifyOptions::default()).unwrap();
    assert!(ledger.verify_backend(&mut report).is_err() && report.ok);
    assert!(ledger.vault(Scope::global()).put(&name("a"), &bytes("two"), PutOptions::new()).is_err());
    // Destroying the key needs no keystore; the object is swept later.
    put_after_unlock(&place, &ledger);
}

fn put_after_unlock(place: &Place, ledger: &Ledger) {
    ledger.vault(Scope::global()).shred(&name("a"), Versions::All, None).unwrap();
    place.keystore.set_locked(false);
    assert_eq!(codes(ledger), [FindingCode::EnvelopeOrphaned]);
    assert_eq!(migrate(ledger, KEYSTORE).unwrap().removed, 1);
    assert_eq!(put(ledger, "a", "anew"), 2, "a put that was refused left no version");
    assert_eq!(get(ledger, "a"), "anew");
    assert!(codes(ledger).is_empty());
}

#[test]
fn marker_and_log_must_agree() {
    let (place, ledger) = on_files();
    ledger.close().unwrap();
    let marker = Path::new("/home/backend.kind");
    place.disk.put(marker, b"ledger\n").unwrap();
    for config in [place.config(3), place.config(3).read_only()] {
        let refused = Ledger::open(config).unwrap_err();
        let (said, log) = (BackendKind::Ledger, BackendKind::EncryptedFile);
        assert!(
            matches!(&refused, Error::BackendDiffers { marker, log: is, .. } if *marker == said && *is == log),
            "{refused}"
        );
    }
    assert_eq!(place.disk.contents(marker).unwrap(), b"ledger\n", "nothing was settled by guessing");
    place.disk.put(marker, b"floppy\n").unwrap();
    assert!(matches!(Ledger::open(place.config(3)), Err(Error::Marker { .. })));
    place.disk.put(marker, b"encrypted_file\n").unwrap();
    assert_eq!(get(&Ledger::open(place.config(3)).unwrap(), "a"), "two");
}

#[test]
fn backends_of_other_systems_say_so() {
    let place = Place::new(BackendKind::Ledger);
    let ledger = place.open();
    let kinds = [BackendKind::WindowsDpapi, BackendKind::MacosKeychain, BackendKind::LinuxSecretService];
    for kind in kinds.into_iter().filter(|kind| *kind != KEYSTORE) {
        assert!(matches!(migrate(&ledger, kind), Err(Error::Backend(_))), "{kind}");
        assert!(ledger.backends().plan(kind).unwrap().obstacle.is_some(), "{kind}");
    }
    assert_eq!(ledger.backends().state().unwrap().other, None, "nothing was begun");
}
