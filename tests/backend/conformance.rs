//! The suite that every backend passes.

use palyra_ledger::event::vault::Versions;
use palyra_ledger::{BackendKind, GetOptions, Ledger, PutOptions, Scope, SecretBytes};

use super::{Place, SERVED, bytes, get, migrate, name, put, verified};

/// What a ledger must do, whichever backend it is on. `reopen` closes it and opens it again.
pub fn conforms(ledger: Ledger, kind: BackendKind, reopen: &dyn Fn() -> Ledger) -> Ledger {
    let vault = ledger.vault(Scope::global());
    assert_eq!(ledger.backends().state().unwrap().kind, kind);
    assert_eq!([put(&ledger, "a", "one"), put(&ledger, "a", "two"), put(&ledger, "b", "other")], [1, 2, 1]);
    assert_eq!([get(&ledger, "a"), get(&ledger, "b")], ["two", "other"]);
    let first = vault.get_with(&name("a"), GetOptions::version(1)).unwrap();
    assert_eq!(first.value, bytes("one"), "older versions stay");
    let lost = vault.put(&name("a"), &bytes("three"), PutOptions::new().if_version(1)).unwrap_err();
    assert!(lost.to_string().contains("at version 2"), "{lost}");
    assert!(vault.put(&name("a"), &bytes(""), PutOptions::new()).is_err());
    let large = SecretBytes::new((0..65_536_u32).map(|number| number as u8).collect());
    vault.put(&name("large"), &large, PutOptions::new()).unwrap();
    vault.delete(&name("b"), Versions::All, None).unwrap();
    ledger.close().unwrap();

    let ledger = reopen();
    let vault = ledger.vault(Scope::global());
    assert_eq!(vault.get(&name("large")).unwrap().value, large);
    assert!(vault.get(&name("b")).is_err());
    vault.undelete(&name("b"), Versions::All, None).unwrap();
    assert_eq!(get(&ledger, "b"), "other", "what is deleted is not gone");
    vault.shred(&name("a"), Versions::One(1), None).unwrap();
    assert!(vault.get_with(&name("a"), GetOptions::version(1)).is_err());
    assert_eq!(get(&ledger, "a"), "two");
    let report = verified(&ledger);
    assert!(report.findings.is_empty(), "{kind}: {:?}", report.findings);
    ledger
}

#[test]
fn every_backend_conforms() {
    for kind in SERVED {
        let place = Place::new(kind);
        conforms(place.open(), kind, &|| place.open());
    }
}

#[test]
fn every_move_between_backends_keeps_everything() {
    for from in SERVED {
        for to in SERVED.into_iter().filter(|to| *to != from) {
            let place = Place::new(from);
            let ledger = conforms(place.open(), from, &|| place.open());
            ledger.vault(Scope::global()).delete(&name("b"), Versions::All, None).unwrap();
            let moved = migrate(&ledger, to).unwrap();
            // Of `a` one version is shredded; the deleted `b` moves too.
            assert_eq!((moved.envelopes, moved.aborted), (3, false), "{from} to {to}");
            let removed = if from == BackendKind::Ledger { 0 } else { 3 };
            assert_eq!(moved.removed, removed, "{from} to {to}");
            ledger.vault(Scope::global()).undelete(&name("b"), Versions::All, None).unwrap();
            put(&ledger, "a", "three");
            ledger.close().unwrap();
            let marker = place.disk.contents(std::path::Path::new("/home/backend.kind")).unwrap();
            assert_eq!(marker, format!("{to}\n").into_bytes());
            let ledger = place.open();
            assert_eq!([get(&ledger, "a"), get(&ledger, "b")], ["three", "other"], "{from} to {to}");
            assert_eq!(ledger.vault(Scope::global()).get(&name("large")).unwrap().value.expose().len(), 65_536);
            let report = verified(&ledger);
            assert!(report.findings.is_empty(), "{from} to {to}: {:?}", report.findings);
            // And back: what the log held before need not come back into it.
            let back = migrate(&ledger, from).unwrap();
            assert_eq!(back.envelopes, 4, "{to} back to {from}");
            assert_eq!([get(&ledger, "a"), get(&ledger, "b")], ["three", "other"], "{to} back to {from}");
            let report = verified(&ledger);
            assert!(report.findings.is_empty(), "{to} back to {from}: {:?}", report.findings);
        }
    }
}

#[test]
fn tokens_of_a_login_go_to_the_backend_in_one_batch() {
    use palyra_ledger::event::auth::{CredentialSource, LoginFlow, OauthSource, Profile};
    for kind in SERVED {
        let place = Place::new(kind);
        let ledger = place.open();
        let source = OauthSource {
            access: "global/access".parse().unwrap(),
            refresh: Some("global/refresh".parse().unwrap()),
            client_secret: None,
            token_endpoint: "https://auth.example/token".to_owned(),
            revocation_endpoint: None,
            client_id: "cid".to_owned(),
            scopes: Vec::new(),
        };
        let profile = Profile {
            id: "main".parse().unwrap(),
            provider: "custom:corp".parse().unwrap(),
            name: "Main".to_owned(),
            scope: "global".parse().unwrap(),
            enabled: true,
            credential: CredentialSource::Oauth(Box::new(source)),
        };
        let tokens = |number: u32| palyra_ledger::NewTokens {
            access: bytes(&format!("access {number}")),
            refresh: Some(bytes(&format!("refresh {number}"))),
            expires_at: None,
            answer: palyra_ledger::auth::AnswerNote::default(),
        };
        ledger.auth().logged_in(&profile, LoginFlow::Device, &tokens(1)).unwrap();
        let ticket = ledger.auth().begin_refresh(&profile.id, true).unwrap();
        // Whoever writes a token meanwhile means it; the object of the one that is not written is removed again.
        put(&ledger, "refresh", "by hand");
        ledger.auth().renewed(&ticket.started, &tokens(2)).unwrap();
        assert_eq!([get(&ledger, "access"), get(&ledger, "refresh")], ["access 2", "by hand"], "{kind}");
        let report = verified(&ledger);
        assert!(report.findings.is_empty(), "{kind}: {:?}", report.findings);
        ledger.auth().logged_out(&profile.id, true).unwrap();
        assert!(verified(&ledger).findings.is_empty(), "{kind}: the objects went with the tokens");
    }
}

#[test]
fn many_threads_write_and_a_move_loses_nothing() {
    for to in [BackendKind::EncryptedFile, BackendKind::Ledger] {
        let from = if to == BackendKind::Ledger { BackendKind::EncryptedFile } else { BackendKind::Ledger };
        let dir = tempfile::tempdir().unwrap();
        let config = || palyra_ledger::Config::new(dir.path().join("home")).without_witness();
        let ledger = Ledger::init_on(config(), palyra_ledger::NewSlot::file("machine"), from).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || {
                    for number in 0..40 {
                        let key = format!("{thread}-{}", number % 10);
                        put(ledger, &key, &number.to_string());
                        assert_eq!(get(ledger, &key), number.to_string());
                    }
                });
            }
            migrate(&ledger, to).unwrap();
        });
        ledger.close().unwrap();
        let ledger = Ledger::open(config()).unwrap();
        for thread in 0..4 {
            for number in 30..40 {
                assert_eq!(get(&ledger, &format!("{thread}-{}", number % 10)), number.to_string());
            }
        }
        let report = verified(&ledger);
        assert!(report.ok && report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!(ledger.status().unwrap().counters.versions, 160);
    }
}

#[test]
fn no_value_and_no_name_stands_in_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let config = || palyra_ledger::Config::new(&home);
    let ledger =
        Ledger::init_on(config(), palyra_ledger::NewSlot::file("machine"), BackendKind::EncryptedFile).unwrap();
    put(&ledger, "canary-name", "canary-value-in-the-clear");
    ledger.close().unwrap();
    let mut folders = vec![home.join("objects")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("{\"version\":1,\"ledger\":\"") && !text.contains("canary"), "{text}");
            seen += 1;
        }
    }
    assert_eq!(seen, 1);
}
