//! Schema versions: a store of the step before, gone on with. Version 2 of four kinds stands in one log
//! with version 1 of two of them.

use palyra_ledger::auth::AnswerNote;
use palyra_ledger::event::auth::{CredentialSource, LoginFlow, OauthSource, Profile};
use palyra_ledger::event::{Kind, STEPS, check_known, step_of};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::{ManualClock, SimDisk, pair_device};
use palyra_ledger::{DeviceId, Ledger, NewTokens, PutOptions, SecretBytes, Timestamp};

use super::{RELEASES, Release, compromise, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0008-schema-versions", make, told };

/// Every field of the kinds that have two versions, and which one they were written in.
fn told(ledger: &Ledger) -> String {
    told_with(ledger, |entry| match entry.kind {
        15 | 32 | 78 | 102 => format!(" v{} {}", entry.schema, fields(entry)),
        _ => String::new(),
    })
}

fn make() -> SimDisk {
    let (disk, clock) = (compromise::RELEASE.load(), ManualClock::default());
    // What a power cut left of a record: it is kept, and recorded.
    disk.put(std::path::Path::new("/home/reads.spool"), b"\x20\x00\x00\x00torn").unwrap();
    clock.advance(10_000);
    let ledger = Ledger::open(config(&disk, 8, &clock)).unwrap();
    let bytes = |text: &str| SecretBytes::from(text.as_bytes());
    let vault = ledger.vault("global".parse().unwrap());
    vault.put(&"note".parse().unwrap(), &bytes("by hand"), PutOptions::new()).unwrap();
    let device = DeviceId::from_bytes([2; 16]);
    pair_device(&ledger, device, &LeafKey::generate_p256().unwrap()).unwrap();
    ledger.identity().revoke(device).unwrap();
    let source = OauthSource {
        access: "global/access".parse().unwrap(),
        refresh: Some("global/refresh".parse().unwrap()),
        client_secret: None,
        token_endpoint: "https://provider.example/token".to_owned(),
        revocation_endpoint: None,
        client_id: "client".to_owned(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
    };
    let profile = Profile {
        id: "corp".parse().unwrap(),
        provider: "custom:corp".parse().unwrap(),
        name: "Corp".to_owned(),
        scope: "global".parse().unwrap(),
        enabled: true,
        credential: CredentialSource::Oauth(Box::new(source)),
    };
    let tokens = |name: &str, answer: AnswerNote| NewTokens {
        access: bytes(&format!("{name} access")),
        refresh: Some(bytes(&format!("{name} refresh"))),
        expires_at: Some(Timestamp::from_millis(1_767_225_700_000)),
        answer,
    };
    ledger.auth().logged_in(&profile, LoginFlow::Code, &tokens("first", AnswerNote::default())).unwrap();
    clock.advance(1000);
    let ticket = ledger.auth().begin_refresh(&profile.id, true).unwrap();
    let answer = AnswerNote { took_ms: Some(812), scopes_lost: Some(vec!["write".to_owned()]) };
    ledger.auth().renewed(&ticket.started, &tokens("second", answer)).unwrap();
    ledger.close().unwrap();
    disk
}

/// Number, name, and the schema versions that are read, of every kind.
pub fn kinds() -> String {
    let row = |kind: &Kind| {
        let versions: Vec<String> = (1..=kind.schema()).map(|schema| schema.to_string()).collect();
        format!("{} {} {}\n", kind.number(), kind.name(), versions.join(","))
    };
    Kind::ALL.iter().map(row).collect()
}

#[test]
fn the_log_of_the_step_before_stands_in_this_one_byte_for_byte() {
    let (before, now) = (compromise::RELEASE.load(), RELEASE.load());
    for path in before.files().iter().filter(|path| path.starts_with("/home/journal")) {
        let (old, new) = (before.contents(path).unwrap(), now.contents(path).unwrap());
        assert!(new.starts_with(&old), "{}", path.display());
    }
}

#[test]
fn both_versions_are_read_as_the_present_one() {
    let ledger = RELEASE.open();
    let mut seen = std::collections::BTreeSet::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            let shown = entry.fields();
            seen.insert((entry.kind, entry.schema));
            match (entry.kind, entry.schema) {
                (32, 1) => assert!(shown["cause"].is_null()),
                (32, 2) => assert!(!shown["cause"].is_null()),
                (78, 1) => assert!(shown["certificates"].is_null()),
                (78, 2) => assert_eq!(shown["certificates"].as_array().unwrap().len(), 1),
                (102, 2) => assert_eq!((&shown["took_ms"], &shown["scopes_lost"][0]), (&812.into(), &"write".into())),
                (15, 2) => assert!(shown["saved_as"].is_string() && shown["digest"].is_string()),
                _ => {}
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    for wanted in [(15, 2), (32, 1), (32, 2), (78, 1), (78, 2), (102, 2)] {
        assert!(seen.contains(&wanted), "{wanted:?}");
    }
}

#[test]
fn the_table_of_kinds_of_a_step_is_never_taken_back() {
    let all = kinds();
    for release in RELEASES {
        let Ok(table) = std::fs::read_to_string(release.folder().join("KINDS")) else { continue };
        for row in table.lines() {
            let mut words = row.split(' ');
            let number: u16 = words.next().unwrap().parse().unwrap();
            let kind = Kind::from_number(number).unwrap();
            assert_eq!(words.next(), Some(kind.name()), "{}", release.folder);
            for version in words.next().unwrap().split(',') {
                assert!(check_known(number, version.parse().unwrap()).is_ok(), "{}: {row}", release.folder);
            }
        }
    }
    let newest = std::fs::read_to_string(RELEASES.last().unwrap().folder().join("KINDS")).unwrap();
    assert_eq!(newest, all, "a new kind or schema version is a new step, with its table");
}

#[test]
fn steps_and_folders_are_the_same() {
    let named: Vec<String> = STEPS.iter().map(|step| format!("{:04}-{}", step.number, step.name)).collect();
    assert_eq!(RELEASES.iter().map(|release| release.folder.to_owned()).collect::<Vec<_>>(), named);
    let page = Release { folder: "", ..RELEASE }.folder().join("README.md");
    let page = std::fs::read_to_string(page).unwrap();
    for step in STEPS {
        let kinds: Vec<String> = step
            .kinds
            .iter()
            .map(|(from, to, schema)| {
                let range = if from == to { from.to_string() } else { format!("{from} to {to}") };
                if *schema == 1 { range } else { format!("{range} (schema {schema})") }
            })
            .collect();
        let row = format!("| [{:04}]({:04}-{}/NOTES.md) | {} |", step.number, step.number, step.name, kinds.join(", "));
        assert!(page.contains(&row), "migrations/README.md lacks: {row}");
    }
    // What a golden store holds is of its step or an older one.
    for (release, step) in RELEASES.iter().zip(STEPS) {
        let newest = newest_of(&release.open());
        assert_eq!(newest, step.number, "{}", release.folder);
    }
}

fn newest_of(ledger: &Ledger) -> u16 {
    let mut newest = 0;
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            newest = newest.max(step_of(entry.kind, entry.schema).unwrap().number);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    newest
}
