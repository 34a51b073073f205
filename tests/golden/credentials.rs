//! Service credentials: their twelve kinds of events, and the two documents at every event.

use palyra_ledger::auth::{Query, RefreshResult};
use palyra_ledger::event::auth::{CredentialSource, CredentialType, FailureKind, LoginFlow, OauthSource, Profile};
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Ledger, NewSlot, NewTokens, PutOptions, ReplayPoint, SecretBytes};

use super::{Release, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0003-service-credentials", make, told };

const WINDOW_MS: u64 = 300_000;

/// Every field of every event, and the documents as they were at the head.
fn told(ledger: &Ledger) -> String {
    let events = told_with(ledger, |entry| match entry.kind {
        96..=127 => format!(" {}", fields(entry)),
        _ => String::new(),
    });
    let documents = ledger.replay(ReplayPoint::Head).unwrap().auth_documents(WINDOW_MS).unwrap();
    format!("{events}\n{}\n{}", documents.profiles, documents.runtime)
}

fn oauth(id: &str, scope: &str) -> Profile {
    let place = |name: &str| format!("global/auth/{id}/{name}").parse().unwrap();
    Profile {
        id: id.parse().unwrap(),
        provider: "custom:corp".parse().unwrap(),
        name: format!("Profile {id}"),
        scope: scope.parse().unwrap(),
        enabled: true,
        credential: CredentialSource::Oauth(Box::new(OauthSource {
            access: place("access"),
            refresh: Some(place("refresh")),
            client_secret: None,
            token_endpoint: "https://auth.example/token".to_owned(),
            revocation_endpoint: Some("https://auth.example/revoke".to_owned()),
            client_id: "cid".to_owned(),
            scopes: vec!["read".to_owned(), "write".to_owned()],
        })),
    }
}

fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 3, &clock), NewSlot::file("machine")).unwrap();
    let auth = ledger.auth();
    let bytes = |text: &str| SecretBytes::from(text.as_bytes());
    let vault = ledger.vault("global".parse().unwrap());
    for value in ["first", "second"] {
        vault.put(&"api_key".parse().unwrap(), &bytes(value), PutOptions::new()).unwrap();
    }
    let id = |text: &str| text.parse().unwrap();
    let key = |name: &str| Profile {
        credential: CredentialSource::ApiKey("global/api_key".parse().unwrap()),
        ..oauth(name, "global")
    };
    auth.set(key("spare"), None).unwrap();
    auth.set(key("gone"), None).unwrap();
    auth.delete(&id("gone")).unwrap();
    auth.enable(&id("spare"), false).unwrap();
    auth.enable(&id("spare"), true).unwrap();
    let tokens = |end: u64| NewTokens {
        access: bytes("access"),
        refresh: Some(bytes("refresh")),
        expires_at: Some(palyra_ledger::Timestamp::from_millis(1_767_225_600_000 + end)),
        answer: palyra_ledger::auth::AnswerNote::default(),
    };
    for (name, scope) in [("main", "global"), ("agents", "agent:a-1"), ("out", "global")] {
        auth.logged_in(&oauth(name, scope), LoginFlow::Device, &tokens(60_000)).unwrap();
        clock.advance(1000);
    }
    auth.set_order(id_scope(), "custom:corp".parse().unwrap(), vec![id("main"), id("spare")]).unwrap();
    clock.advance(60_000);
    let ticket = auth.begin_refresh(&id("main"), false).unwrap();
    auth.renewed(&ticket.started, &tokens(3_600_000)).unwrap();
    let ticket = auth.begin_refresh(&id("agents"), true).unwrap();
    let failed = RefreshResult::Failed {
        failure: FailureKind::RateLimit,
        what: "the provider answered status 429".to_owned(),
        retry_after_ms: Some(9000),
        unanswered: false,
    };
    auth.refresh_failed(&ticket.started, &failed).unwrap();
    auth.logged_out(&id("out"), true).unwrap();
    auth.report_failure(&id("main"), FailureKind::Quota, None)
        .or_else(|_| {
            // The first report reads the profiles.
            auth.report_failure(&id("main"), FailureKind::Quota, None)
        })
        .unwrap();
    let chosen = auth.select(&Query::default(), false).unwrap();
    assert_eq!((chosen.profile.id.as_str(), chosen.profile.credential.kind()), ("spare", CredentialType::ApiKey));
    auth.report_success(&id("spare")).unwrap();
    auth.flush_usage().unwrap();
    clock.advance(1000);
    auth.clear(&id("agents")).unwrap();
    // A refresh whose answer is never recorded.
    auth.begin_refresh(&id("agents"), true).unwrap();
    ledger.close().unwrap();
    disk
}

fn id_scope() -> palyra_ledger::ProfileScope {
    palyra_ledger::ProfileScope::Global
}

#[test]
fn documents_of_any_event_are_the_same_bytes_for_ever() {
    let ledger = RELEASE.open();
    let head = ledger.log().head().unwrap().seq;
    let at = |seq| ledger.replay(ReplayPoint::Seq(seq)).unwrap().auth_documents(WINDOW_MS).unwrap();
    for seq in 0..=head {
        let made = at(seq);
        assert_eq!(made, at(seq));
        let both = format!("{}{}", made.profiles, made.runtime);
        assert!(!both.contains("second"), "no secret stands in a document");
        assert!(both.starts_with(&format!("# palyra-ledger: event {seq}, state root ")));
    }
    assert_eq!(ledger.auth().documents().unwrap().unwrap(), at(head));
}
