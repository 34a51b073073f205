//! Endpoints, resolvers, proxies and callers that mean harm. Whatever they do ends as one recorded event in
//! words of ours, the log stays whole, and no token goes where it must not.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palyra_ledger::auth::{Endpoint as Place, RefreshResult};
use palyra_ledger::event::auth::{CredentialSource, FailureKind, OauthSource, Profile};
use palyra_ledger::oauth::login::{CodeLogin, DeviceLogin};
use palyra_ledger::oauth::{ClientFault, Lookup, Refresher, TokenClient};
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{AuthSettings, Config, Ledger, NewSlot, ProfileId, PutOptions, Scope, SecretBytes, VerifyOptions};

use crate::endpoint::{Endpoint, OTHER, Request, Root, Wire, http, listener, self_signed, twins};

/// What every hostile answer says somewhere.
const MARK: &str = "zz-said-by-the-endpoint";
const TOKEN: &str = "zz-refresh-token-of-the-test";
const LIMIT_MS: u64 = 900;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Finds what a closure says, in the order in which it was asked.
fn lookup(
    find: impl Fn(&str, usize) -> std::io::Result<Vec<IpAddr>> + Send + Sync + 'static,
) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, find) = (Arc::clone(&asked), Arc::new(find));
    let lookup: Lookup = Arc::new(move |name| {
        let (count, find) = (Arc::clone(&count), Arc::clone(&find));
        Box::pin(async move { find(&name, count.fetch_add(1, Ordering::SeqCst)) })
    });
    (lookup, asked)
}

fn nobody() -> Lookup {
    lookup(|_, _| Err(std::io::Error::from(std::io::ErrorKind::NotFound))).0
}

fn source(endpoint: &str, place: &str) -> OauthSource {
    OauthSource {
        access: format!("global/{place}/access").parse().unwrap(),
        refresh: Some(format!("global/{place}/refresh").parse().unwrap()),
        client_secret: None,
        token_endpoint: endpoint.to_owned(),
        revocation_endpoint: None,
        client_id: "client".to_owned(),
        scopes: Vec::new(),
    }
}

/// A ledger in memory, and a new profile for every attack.
struct Scene {
    ledger: Ledger,
    clock: ManualClock,
    runtime: tokio::runtime::Runtime,
    count: AtomicUsize,
}

impl Scene {
    fn new() -> Self {
        let clock = ManualClock::default();
        let config = Config::new("/home")
            .medium(Arc::new(SimDisk::new()))
            .random(Arc::new(SeededRandom::new(1)))
            .clock(Arc::new(clock.clone()))
            .without_background();
        let ledger = Ledger::init(config, NewSlot::file("machine")).unwrap();
        Self { ledger, clock, runtime: runtime(), count: AtomicUsize::new(0) }
    }

    fn client(&self, settings: &AuthSettings, lookup: Lookup) -> TokenClient {
        TokenClient::with_lookup(settings, Arc::new(self.clock.clone()), lookup, LIMIT_MS).unwrap()
    }

    fn profile(&self, endpoint: &str) -> ProfileId {
        let name = format!("p{}", self.count.fetch_add(1, Ordering::SeqCst));
        let source = source(endpoint, &name);
        let place = source.refresh.clone().unwrap();
        let value = SecretBytes::from(TOKEN.as_bytes());
        self.ledger.vault(Scope::global()).put(&place.name, &value, PutOptions::new()).unwrap();
        let id: ProfileId = name.parse().unwrap();
        let profile = Profile {
            id: id.clone(),
            provider: "custom:hostile".parse().unwrap(),
            name,
            scope: "global".parse().unwrap(),
            enabled: true,
            credential: CredentialSource::Oauth(Box::new(source)),
        };
        self.ledger.auth().set(profile, None).unwrap();
        id
    }

    /// One refresh at an endpoint. Its outcome is the last event, the endpoint is not heard in the log, and
    /// the log is whole.
    fn refresh(&self, client: &TokenClient, endpoint: &str) -> RefreshResult {
        let id = self.profile(endpoint);
        self.refresh_again(client, id)
    }

    fn refresh_again(&self, client: &TokenClient, id: ProfileId) -> RefreshResult {
        let from = self.ledger.log().head().unwrap().seq + 1;
        let refresher = Refresher::new(&self.ledger, client.clone());
        let report = self.runtime.block_on(refresher.refresh(id.clone(), true));
        let result = report.outcome.unwrap();
        let mut events = Vec::new();
        self.ledger
            .log()
            .read(from, u64::MAX, &mut |entry| {
                events.push((entry.kind_name(), entry.fields()));
                ControlFlow::Continue(())
            })
            .unwrap();
        let (kind, fields) = events.last().unwrap();
        match &result {
            RefreshResult::Renewed { rotated, .. } => {
                assert_eq!((kind.as_str(), &fields["rotated"]), ("refresh_succeeded", &(*rotated).into()));
            }
            RefreshResult::Refused { what, failure } => {
                assert_eq!((kind.as_str(), &fields["terminal"]), ("refresh_failed", &true.into()), "{fields}");
                assert_eq!((&fields["what"], &fields["failure"]), (&what.as_str().into(), &failure.name().into()));
            }
            RefreshResult::Failed { what, failure, unanswered, .. } => {
                assert_eq!((kind.as_str(), &fields["terminal"]), ("refresh_failed", &false.into()), "{fields}");
                assert_eq!((&fields["what"], &fields["failure"]), (&what.as_str().into(), &failure.name().into()));
                assert_eq!(fields["unanswered"], *unanswered);
            }
        }
        assert_eq!(events.iter().filter(|(kind, _)| kind == "refresh_started").count(), 1, "{events:?}");
        let documents = self.ledger.auth().documents().unwrap().unwrap();
        let told = format!("{events:?} {result:?} {documents:?}");
        assert!(!told.contains(MARK) && !told.contains(TOKEN), "{told}");
        let options = VerifyOptions { state: true, witness: false };
        let report = self.ledger.verify(options).unwrap();
        assert!(report.ok, "{report:?}");
        result
    }
}

/// What a refresh must end as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Renewed,
    /// A good token with nonsense beside it: taken without it, or not taken; the specification leaves that open.
    RenewedOrMalformed,
    /// For good.
    Refused(FailureKind),
    /// For now; whether the token may be spent, and how long the provider asks to wait.
    Failed(FailureKind, bool, Option<u64>),
}

fn ended(result: &RefreshResult) -> Want {
    match result {
        RefreshResult::Renewed { .. } => Want::Renewed,
        RefreshResult::Refused { failure, .. } => Want::Refused(*failure),
        RefreshResult::Failed { failure, unanswered, retry_after_ms, .. } => {
            Want::Failed(*failure, *unanswered, *retry_after_ms)
        }
    }
}

/// The answer does not read: the token may be spent.
const MALFORMED: Want = Want::Failed(FailureKind::RefreshFailed, true, None);
/// No answer came, and the request may have arrived.
const LOST: Want = Want::Failed(FailureKind::Transient, true, None);
/// Nothing was sent.
const UNSENT: Want = Want::Failed(FailureKind::Transient, false, None);
/// The endpoint is refused before anything is sent.
const WITHHELD: Want = Want::Failed(FailureKind::ConfigMissing, false, None);
/// Refused in a way that may pass.
const DECLINED: Want = Want::Failed(FailureKind::RefreshFailed, false, None);

const GOOD: &str = r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r"}"#;

#[test]
fn whatever_an_endpoint_answers_is_read_as_what_it_is() {
    use FailureKind::{AuthInvalid, ConfigMissing, RateLimit, Transient};
    let json = |body: &str| http("200 OK", &["content-type: application/json"], body);
    let with = |field: &str| json(&format!(r#"{{"access_token":"a","x":"{MARK}",{field}}}"#));
    let mut cases: Vec<(String, Vec<u8>, Want)> = vec![
        ("good".into(), json(GOOD), Want::Renewed),
        ("html".into(), http("200 OK", &["content-type: text/html"], &format!("<html>{MARK}</html>")), MALFORMED),
        ("empty".into(), json(""), MALFORMED),
        ("null".into(), json("null"), MALFORMED),
        ("deep".into(), json(&"[".repeat(50_000)), MALFORMED),
        ("deep-field".into(), json(&format!(r#"{{"access_token":"a","x":{}"#, "[".repeat(50_000))), MALFORMED),
        ("bom".into(), json(&format!("\u{feff}{GOOD}")), MALFORMED),
        ("two-documents".into(), json(&format!("{GOOD}{GOOD}")), MALFORMED),
        ("twice".into(), json(r#"{"access_token":"a","access_token":"b"}"#), MALFORMED),
        (
            "utf-16".into(),
            [&http("200 OK", &[], "")[..0], b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff\xfe{\0"].concat(),
            MALFORMED,
        ),
        ("control".into(), json(r#"{"access_token":"a\r\nx: y"}"#), MALFORMED),
        ("no-token".into(), json(&format!(r#"{{"x":"{MARK}"}}"#)), MALFORMED),
        ("empty-token".into(), json(r#"{"access_token":""}"#), MALFORMED),
        ("mac".into(), with(&format!(r#""token_type":"{MARK}""#)), Want::RenewedOrMalformed),
        ("null-refresh".into(), with(r#""refresh_token":null"#), Want::Renewed),
        ("null-expiry".into(), with(r#""expires_in":null"#), Want::Renewed),
        ("text-expiry".into(), with(r#""expires_in":"3600""#), Want::Renewed),
        ("float-expiry".into(), with(r#""expires_in":3600.7"#), Want::Renewed),
        ("zero-expiry".into(), with(r#""expires_in":0"#), Want::Renewed),
        ("null-error".into(), with(r#""error":null"#), Want::Renewed),
        ("error-in-200".into(), with(r#""error":"invalid_grant""#), Want::Refused(AuthInvalid)),
        ("error-mark".into(), with(&format!(r#""error":"{MARK}","error_description":"{MARK}""#)), DECLINED),
        ("error-object".into(), with(&format!(r#""error":{{"code":"{MARK}"}}"#)), DECLINED),
        ("error-number".into(), with(r#""error":7"#), DECLINED),
        ("grant".into(), http("400 Bad", &[], r#"{"error":"invalid_grant"}"#), Want::Refused(AuthInvalid)),
        ("client".into(), http("401 No", &[], r#"{"error":"invalid_client"}"#), Want::Refused(AuthInvalid)),
        (
            "grant-type".into(),
            http("400 Bad", &[], r#"{"error":"unsupported_grant_type"}"#),
            Want::Refused(ConfigMissing),
        ),
        ("unknown".into(), http("400 Bad", &[], &format!(r#"{{"error":"{MARK}","error_uri":"{MARK}"}}"#)), DECLINED),
        ("400-number".into(), http("400 Bad", &[], r#"{"error":7}"#), DECLINED),
        ("400-html".into(), http(&format!("400 {MARK}"), &[], &format!("<h1>{MARK}")), DECLINED),
        ("403".into(), http("403 No", &[], &format!(r#"{{"x":"{MARK}"}}"#)), DECLINED),
        ("404".into(), http("404 No", &[&format!("x-{MARK}: {MARK}")], MARK), DECLINED),
        ("429".into(), http("429 Slow", &["retry-after: 7"], MARK), Want::Failed(RateLimit, false, Some(7_000))),
        ("429-bare".into(), http("429 Slow", &[], ""), Want::Failed(RateLimit, false, None)),
        (
            "429-mark".into(),
            http("429 Slow", &[&format!("retry-after: {MARK}")], ""),
            Want::Failed(RateLimit, false, None),
        ),
        ("429-negative".into(), http("429 Slow", &["retry-after: -7"], ""), Want::Failed(RateLimit, false, None)),
        (
            "429-past-u64".into(),
            http("429 Slow", &["retry-after: 99999999999999999999"], ""),
            Want::Failed(RateLimit, false, None),
        ),
        // The clock stands at 2026-01-01T00:00:00Z.
        (
            "429-date".into(),
            http("429 Slow", &["retry-after: Thu, 01 Jan 2026 00:01:00 GMT"], ""),
            Want::Failed(RateLimit, false, Some(60_000)),
        ),
        (
            "429-past-date".into(),
            http("429 Slow", &["retry-after: Thu, 01 Jan 2015 00:01:00 GMT"], ""),
            Want::Failed(RateLimit, false, Some(0)),
        ),
        ("503".into(), http("503 Later", &["retry-after: 9"], MARK), Want::Failed(Transient, true, Some(9_000))),
        ("500".into(), http("500 Oops", &[], &format!(r#"{{"error":"{MARK}"}}"#)), LOST),
        ("502".into(), http("502 Oops", &[], ""), LOST),
        ("599".into(), http("599 Oops", &[], ""), LOST),
        ("408".into(), http("408 Late", &[], ""), LOST),
        // It did what was asked, whatever it means by the status: the token may be spent.
        ("201".into(), http("201 Created", &[], GOOD), Want::RenewedOrMalformed),
        ("204".into(), b"HTTP/1.1 204 None\r\nconnection: close\r\n\r\n".to_vec(), MALFORMED),
        ("206".into(), http("206 Part", &[], GOOD), MALFORMED),
        ("999".into(), http("999 ?", &[], GOOD), MALFORMED),
        ("no-status".into(), MARK.as_bytes().to_vec(), LOST),
        ("http-09".into(), format!("<html>{MARK}</html>\r\n").into_bytes(), LOST),
        ("icy".into(), format!("ICY 200 OK\r\n\r\n{GOOD}").into_bytes(), LOST),
        ("ssh".into(), format!("SSH-2.0-{MARK}\r\n").into_bytes(), LOST),
        ("http-2".into(), format!("HTTP/2.0 200 OK\r\n\r\n{GOOD}").into_bytes(), LOST),
        ("long-status".into(), format!("HTTP/1.1 2000000 OK\r\n\r\n{GOOD}").into_bytes(), LOST),
        ("nul".into(), b"HTTP/1.1 200 OK\0\r\nx\0: y\r\n\r\n".to_vec(), LOST),
        ("half-head".into(), format!("HTTP/1.1 200 OK\r\nx: {MARK}").into_bytes(), LOST),
        ("short-body".into(), format!("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{GOOD}").into_bytes(), LOST),
        ("long-body".into(), format!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{GOOD}").into_bytes(), MALFORMED),
        (
            "huge-length".into(),
            format!("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n{GOOD}").into_bytes(),
            LOST,
        ),
        (
            "two-lengths".into(),
            format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{GOOD}").into_bytes(),
            LOST,
        ),
        (
            "bad-chunk".into(),
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{MARK}\r\n").into_bytes(),
            LOST,
        ),
        (
            "huge-chunk".into(),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
            LOST,
        ),
        ("many-headers".into(), http("200 OK", &vec![&*format!("x-{MARK}: y"); 500], GOOD), LOST),
        ("long-header".into(), http("200 OK", &[&format!("x: {}", MARK.repeat(60_000))], GOOD), LOST),
        ("continue".into(), [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(200), json(GOOD)].concat(), Want::Renewed),
        (
            "hints".into(),
            [format!("HTTP/1.1 103 Early Hints\r\nlink: <{MARK}>\r\n\r\n").into_bytes(), json(GOOD)].concat(),
            Want::Renewed,
        ),
        ("only-continue".into(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), LOST),
        // Bytes that a decoder would make a good answer of.
        (
            "gzip".into(),
            [&b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"[..], GZIP].concat(),
            MALFORMED,
        ),
    ];
    for (field, values) in [
        ("access_token", &["7", "[]", "{}", "true", "null"][..]),
        ("refresh_token", &["7", "[]", "{}", "true"]),
        ("token_type", &["7", "[]", "{}"]),
        (
            "expires_in",
            &["-1", "-0.5", "1e400", "\"soon\"", "\"-1\"", "99999999999999", "1e14", "true", "[]", "{}", "\"\""],
        ),
    ] {
        for value in values {
            let own = if field == "access_token" { "" } else { "\"access_token\":\"a\"," };
            let beside = ["token_type", "expires_in"].contains(&field);
            let want = if beside { Want::RenewedOrMalformed } else { MALFORMED };
            cases.push((format!("{field}-{value}"), json(&format!("{{{own}\"{field}\":{value}}}")), want));
        }
    }
    let answers: HashMap<String, Vec<u8>> =
        cases.iter().enumerate().map(|(place, (_, answer, _))| (format!("/{place}"), answer.clone())).collect();
    let endpoint = Endpoint::new(move |request: &Request| answers[request.path()].clone());
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let mut wrong = Vec::new();
    for (place, (name, _, want)) in cases.iter().enumerate() {
        let result = scene.refresh(&client, &endpoint.url(&format!("/{place}")));
        let fits = match want {
            Want::RenewedOrMalformed => [Want::Renewed, MALFORMED].contains(&ended(&result)),
            want => ended(&result) == *want,
        };
        if !fits {
            wrong.push(format!("{name}: {result:?}, not {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let requests = endpoint.requests();
    assert_eq!(requests.len(), cases.len(), "each was asked once");
    for request in requests {
        assert!(request.body.contains(TOKEN) && !request.head.contains(TOKEN), "a token stands in the body alone");
        assert!(request.head.starts_with("POST ") && !request.head.to_lowercase().contains("accept-encoding"));
    }
}

/// `{"access_token":"a"}`, compressed.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabVJLNN-.\x8e/\xc9\xcfN\xcdS\xb2RJT\xaa\x05\x00,\xa9\"\xae\x14\x00\x00\x00";

#[test]
fn a_redirect_is_never_followed() {
    let trap = Arc::new(Endpoint::trap(listener()));
    let elsewhere = trap.url("/token");
    let endpoint = Endpoint::new(move |request: &Request| {
        let (status, kind) = request.path().trim_start_matches('/').split_once('/').unwrap();
        let place = match kind {
            "other" => elsewhere.clone(),
            "same" => "/again/200".to_owned(),
            _ => format!("https://{MARK}.example/token"),
        };
        http(&format!("{status} Go"), &[&format!("location: {place}"), "refresh: 0"], GOOD)
    });
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let mut asked = 0;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for kind in ["other", "same", "mark"] {
            asked += 1;
            let result = scene.refresh(&client, &endpoint.url(&format!("/{status}/{kind}")));
            assert_eq!(ended(&result), DECLINED, "{status} {kind}");
        }
    }
    assert_eq!((trap.connections(), endpoint.requests().len()), (0, asked));
}

type Act = Box<dyn Fn(&mut dyn Wire, &dyn Fn(&mut dyn Wire) -> Option<Request>) + Send + Sync>;

/// Writes until the other side has had enough.
fn endless(wire: &mut dyn Wire, head: &str, piece: &[u8]) {
    let _ = wire.write_all(head.as_bytes());
    for _ in 0..200_000 {
        if wire.write_all(piece).is_err() {
            return;
        }
    }
}

/// Writes byte by byte, for longer than anybody waits.
fn drip(wire: &mut dyn Wire, head: &str, piece: &[u8]) {
    let _ = wire.write_all(head.as_bytes());
    for byte in piece.iter().cycle().take(200) {
        std::thread::sleep(Duration::from_millis(20));
        if wire.write_all(&[*byte]).is_err() {
            return;
        }
    }
}

#[test]
fn an_endpoint_that_never_ends_or_never_answers_is_left_in_time() {
    let acts: Vec<(&str, Act, Want)> = vec![
        ("closed-at-once", Box::new(|_, _| {}), LOST),
        ("closed-after-the-request", Box::new(|wire, read| drop(read(wire))), LOST),
        (
            "closed-in-the-status",
            Box::new(|wire, read| {
                read(wire);
                let _ = wire.write_all(b"HTTP/1.");
            }),
            LOST,
        ),
        (
            "silent",
            Box::new(|wire, read| {
                read(wire);
                let _ = wire.read(&mut [0]);
            }),
            LOST,
        ),
        ("unread", Box::new(|_, _| std::thread::sleep(Duration::from_millis(LIMIT_MS + 300))), LOST),
        (
            "endless-length",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\n{\"x\":\"", &[b'z'; 4096]);
            }),
            MALFORMED,
        ),
        (
            "endless-chunks",
            Box::new(|wire, read| {
                read(wire);
                let chunk = format!("40\r\n{}\r\n", "z".repeat(64));
                endless(wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk.as_bytes());
            }),
            MALFORMED,
        ),
        (
            "endless-until-close",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.0 200 OK\r\n\r\n", &[b' '; 4096]);
            }),
            MALFORMED,
        ),
        (
            "endless-extension",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;", &[b'z'; 4096]);
            }),
            LOST,
        ),
        (
            "endless-trailers",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: zzzzzzzzzzzzzzzz\r\n");
            }),
            LOST,
        ),
        (
            "endless-headers",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.1 200 OK\r\n", b"x: zzzzzzzzzzzzzzzz\r\n");
            }),
            LOST,
        ),
        (
            "endless-header",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.1 200 OK\r\nx: ", &[b'z'; 4096]);
            }),
            LOST,
        ),
        (
            "endless-reason",
            Box::new(|wire, read| {
                read(wire);
                endless(wire, "HTTP/1.1 200 ", &[b'z'; 4096]);
            }),
            LOST,
        ),
        (
            "endless-continue",
            Box::new(|wire, read| {
                read(wire);
                for _ in 0..200 {
                    let _ = wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }),
            LOST,
        ),
        (
            "drip-head",
            Box::new(|wire, read| {
                read(wire);
                drip(wire, "HTTP/1.1 200 OK\r\n", b"x: y\r\n");
            }),
            LOST,
        ),
        (
            "drip-body",
            Box::new(|wire, read| {
                read(wire);
                drip(wire, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{\"access_token\":\"a\",\"x\":\"", b"z");
            }),
            LOST,
        ),
        // What these statuses mean stands in the head: the body is nobody's business.
        (
            "429-endless",
            Box::new(|wire, read| {
                read(wire);
                endless(
                    wire,
                    "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 99999999999\r\n\r\n",
                    &[b'z'; 4096],
                );
            }),
            Want::Failed(FailureKind::RateLimit, false, Some(7_000)),
        ),
        (
            "429-drip",
            Box::new(|wire, read| {
                read(wire);
                drip(wire, "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 9999\r\n\r\n", b"z");
            }),
            Want::Failed(FailureKind::RateLimit, false, Some(7_000)),
        ),
        (
            "503-cut",
            Box::new(|wire, read| {
                read(wire);
                let _ = wire.write_all(b"HTTP/1.1 503 Later\r\nretry-after: 9\r\ncontent-length: 9999\r\n\r\nzz");
            }),
            Want::Failed(FailureKind::Transient, true, Some(9_000)),
        ),
        (
            "307-endless",
            Box::new(|wire, read| {
                read(wire);
                endless(
                    wire,
                    "HTTP/1.1 307 Go\r\nlocation: /x\r\ntransfer-encoding: chunked\r\n\r\n",
                    b"4\r\nzzzz\r\n",
                );
            }),
            DECLINED,
        ),
    ];
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let mut wrong = Vec::new();
    for (name, act, want) in acts {
        let endpoint = Endpoint::raw(listener(), None, act);
        let begun = Instant::now();
        let result = scene.refresh(&client, &endpoint.url("/token"));
        let took = begun.elapsed();
        if ended(&result) != want {
            wrong.push(format!("{name}: {result:?}, not {want:?}"));
        }
        assert!(took < Duration::from_millis(2 * LIMIT_MS), "{name} took {took:?}");
        assert_eq!(endpoint.connections(), 1, "{name}: a token is sent once");
    }
    // Nobody listens: nothing was sent.
    let gone = listener().local_addr().unwrap();
    let result = scene.refresh(&client, &format!("http://{gone}/token"));
    if ended(&result) != UNSENT {
        wrong.push(format!("nobody listens: {result:?}"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_request_on_a_kept_connection_is_not_sent_twice() {
    let endpoint = Endpoint::raw(listener(), None, |wire, read| {
        if read(wire).is_some() {
            let _ =
                wire.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{GOOD}", GOOD.len()).as_bytes());
            let _ = wire.flush();
            // The second one is read, and its answer lost.
            read(wire);
        }
    });
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    assert_eq!(ended(&scene.refresh(&client, &endpoint.url("/a"))), Want::Renewed);
    assert_eq!(ended(&scene.refresh(&client, &endpoint.url("/b"))), LOST);
    let requests = endpoint.requests();
    assert_eq!(requests.iter().map(Request::path).collect::<Vec<_>>(), ["/a", "/b"]);
}

const NAME: &str = "idp.test";

/// Settings that trust a root and let endpoints be at 127.0.0.2, which stands for the internet here.
fn trusting(root: &Root, dir: &tempfile::TempDir) -> AuthSettings {
    let path = dir.path().join("root.pem");
    std::fs::write(&path, &root.pem).unwrap();
    AuthSettings { ca_file: Some(path), allow_private: vec![format!("{OTHER}/32")], ..AuthSettings::default() }
}

#[test]
fn tls_that_does_not_prove_the_name_gets_nothing() {
    let (root, stranger) = (Root::new(), Root::new());
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new();
    let client = scene.client(&trusting(&root, &dir), lookup(|_, _| Ok(vec![OTHER])).0);
    let bind = || std::net::TcpListener::bind((OTHER, 0)).unwrap();
    let wrong = format!("{MARK}.example");
    let good = |_: &Request| http("200 OK", &[], GOOD);
    for (name, config, want) in [
        ("good", root.server(&[NAME], |_| {}), Want::Renewed),
        ("another name", root.server(&[&wrong], |_| {}), UNSENT),
        ("many names", root.server(&[&wrong, "b.example", "c.example"], |_| {}), UNSENT),
        ("no name", root.server(&[], |_| {}), UNSENT),
        ("self-signed", self_signed(&[NAME, &wrong]), UNSENT),
        ("another root", stranger.server(&[NAME], |_| {}), UNSENT),
        ("ended", root.server(&[NAME], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)), UNSENT),
        ("not begun", root.server(&[NAME], |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1)), UNSENT),
        (
            "for clients",
            root.server(&[NAME], |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            }),
            UNSENT,
        ),
    ] {
        let endpoint = Endpoint::tls(bind(), config, good);
        let result = scene.refresh(&client, &format!("https://{NAME}:{}/token", endpoint.at.port()));
        assert_eq!(ended(&result), want, "{name}: {result:?}");
        assert_eq!(endpoint.requests().len(), usize::from(want == Want::Renewed), "{name}");
    }
    // No TLS at all, and a peer that says nothing: nothing was sent.
    for act in [
        Box::new(|wire: &mut dyn Wire, _: &dyn Fn(&mut dyn Wire) -> Option<Request>| {
            let _ = wire.write_all(&http("200 OK", &[MARK], GOOD));
        }) as Act,
        Box::new(|_, _| std::thread::sleep(Duration::from_millis(LIMIT_MS))),
        Box::new(|_, _| {}),
    ] {
        let endpoint = Endpoint::raw(bind(), None, act);
        let result = scene.refresh(&client, &format!("https://{NAME}:{}/token", endpoint.at.port()));
        assert_eq!(ended(&result), UNSENT, "{result:?}");
    }
}

#[test]
fn what_is_connected_to_is_what_was_checked() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let (outside, inside) = twins(OTHER, Ipv4Addr::LOCALHOST.into());
    let port = outside.local_addr().unwrap().port();
    let endpoint = Endpoint::tls(outside, root.server(&[NAME], |_| {}), |_| http("200 OK", &[], GOOD));
    let trap = Endpoint::tls(inside, root.server(&[NAME], |_| {}), |_| http("200 OK", &[], GOOD));
    let v4 = |text: &str| text.parse::<IpAddr>().unwrap();
    let here = v4("127.0.0.1");
    let answers = [
        (vec![OTHER], Want::Renewed),
        (vec![here], WITHHELD),
        (vec![OTHER, here], WITHHELD),
        (vec![here, OTHER], WITHHELD),
        (vec![v4("169.254.169.254")], WITHHELD),
        (vec![OTHER, v4("169.254.169.254")], WITHHELD),
        (vec![v4("::ffff:127.0.0.1")], WITHHELD),
        (vec![v4("::1")], WITHHELD),
        (vec![v4("64:ff9b::7f00:1")], WITHHELD),
        (vec![v4("0.0.0.0")], WITHHELD),
        (Vec::new(), UNSENT),
        (vec![OTHER], Want::Renewed),
    ];
    let given: Vec<_> = answers.iter().map(|(addresses, _)| addresses.clone()).collect();
    let (lookup, asked) = lookup(move |name, turn| {
        assert_eq!(name, NAME);
        Ok(given[turn].clone())
    });
    let scene = Scene::new();
    let client = scene.client(&trusting(&root, &dir), lookup);
    for (turn, (addresses, want)) in answers.iter().enumerate() {
        // Upper case is the same name.
        let name = if turn % 2 == 0 { NAME.to_owned() } else { NAME.to_uppercase() };
        let result = scene.refresh(&client, &format!("https://{name}:{port}/token"));
        assert_eq!(ended(&result), *want, "{addresses:?}: {result:?}");
        assert_eq!(asked.load(Ordering::SeqCst), turn + 1, "a name is asked for once, and that answer is used");
    }
    assert_eq!((endpoint.connections(), trap.connections()), (2, 0));
}

#[test]
fn an_address_is_the_same_address_however_it_is_written() {
    let (asked, addresses) = (Arc::new(Mutex::new(Vec::new())), vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let names = Arc::clone(&asked);
    let (lookup, _) = lookup(move |name, _| {
        names.lock().unwrap().push(name.to_owned());
        Ok(addresses.clone())
    });
    let trap = Endpoint::trap(listener());
    let port = trap.at.port();
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), lookup);
    for host in [
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.254.169.254.",
        "0",
        "10.1",
        "192.168.257",
        "[::]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[::169.254.169.254]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "\u{ff11}\u{ff10}.1",
        "0300.0250.1.1",
    ] {
        let url = format!("https://{host}:{port}/token");
        let result = scene.refresh(&client, &url);
        assert_eq!(ended(&result), WITHHELD, "{url}: {result:?}");
    }
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new(), "an address is not looked up");
    // A name that is not exactly this machine's is a name like any other: it must not lead inside.
    for host in ["localhost.", "a.localhost", "127.0.0.1.example", "metadata.google.internal"] {
        let url = format!("https://{host}:{port}/token");
        let result = scene.refresh(&client, &url);
        assert_eq!(ended(&result), WITHHELD, "{url}: {result:?}");
        assert!(Place::parse(&format!("http://{host}/")).is_err(), "{host}");
    }
    assert_eq!(trap.connections(), 0);
    for bad in [
        "https://[fe80::1%25eth0]/",
        "https://[::1%25lo]/",
        "http://[fe80::1%25lo]/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://0x100000000/",
        "https://[::1/",
        "https://a.example:99999/",
        "https://a b.example/",
        "https://a.example/\u{7f}",
    ] {
        assert!(Place::parse(bad).is_err(), "{bad}");
    }
    // These go out to the network on their way to an address that only looks like this machine.
    for bad in ["http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[::7f00:1]/", "http://0.0.0.0/"] {
        assert!(Place::parse(bad).is_err(), "{bad} is plain text over the network");
    }
    let here = Endpoint::new(|_| http("200 OK", &[], GOOD));
    let port = here.at.port();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "LOCALHOST", "[::ffff:127.0.0.1]"] {
        let result = scene.refresh(&client, &format!("http://{host}:{port}/token"));
        assert_eq!(ended(&result), Want::Renewed, "{host}: {result:?}");
    }
}

#[test]
fn whoever_names_this_machine_gets_no_other_however_much_is_allowed() {
    let place = Place::parse("http://localhost/token").unwrap();
    let allowed = [("10.0.0.0".parse().unwrap(), 8), ("0.0.0.0".parse().unwrap(), 0), ("::".parse().unwrap(), 0)];
    for address in ["10.0.0.5", "8.8.8.8", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "fd00::1"] {
        let address: IpAddr = address.parse().unwrap();
        assert!(place.admits(address, &allowed).is_err(), "plain text would go to {address}");
    }
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert!(place.admits(address.parse().unwrap(), &[]).is_ok(), "{address}");
    }
}

#[test]
fn a_proxy_never_sees_a_token() {
    let proxy = Endpoint::new(|_| http("200 OK", &[], GOOD));
    let settings = AuthSettings { proxy: Some(proxy.url("")), ..AuthSettings::default() };
    let endpoint = Endpoint::new(|_| http("200 OK", &[], GOOD));
    let scene = Scene::new();
    let client = scene.client(&settings, lookup(|_, _| Ok(vec![Ipv4Addr::LOCALHOST.into()])).0);
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        // Without TLS a proxy would read it.
        let result = scene.refresh(&client, &format!("http://{host}:{}/token", endpoint.at.port()));
        assert_eq!(ended(&result), Want::Renewed, "{host}");
    }
    assert_eq!((proxy.connections(), endpoint.requests().len()), (0, 3));
    // With TLS it is told the name, and no more.
    let result = scene.refresh(&client, "https://idp.test/token");
    assert_eq!(ended(&result), UNSENT, "{result:?}");
    let seen = proxy.requests();
    assert!(seen.iter().all(|request| request.head.starts_with("CONNECT idp.test:443 ")), "{seen:?}");
    assert!(!format!("{seen:?}").contains(TOKEN) && !seen.is_empty());
}

/// Sends bytes to a login's listener; gives what it answers.
fn send(at: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn query(url: &str, name: &str) -> String {
    let url = reqwest::Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").into_bytes()
}

#[test]
fn nobody_but_the_person_who_was_sent_comes_back_from_a_login() {
    let endpoint = Endpoint::new(|_| http("200 OK", &[], GOOD));
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let source = source(&endpoint.url("/token"), "login");
    let login = scene.runtime.block_on(CodeLogin::begin(&source, &endpoint.url("/authorize"), 0)).unwrap();
    let (url, shown) = (login.url().to_owned(), format!("{login:?}"));
    let (state, redirect) = (query(&url, "state"), query(&url, "redirect_uri"));
    assert_eq!(query(&url, "code_challenge_method"), "S256");
    assert!(state.len() >= 22 && !shown.contains(&state), "{shown}");
    let at = redirect.trim_start_matches("http://").trim_end_matches("/callback").to_owned();
    let waiting =
        scene.runtime.spawn(async move { login.finish(&client, &source, None, Duration::from_secs(30)).await });
    // Connections that say half a word and stay.
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(&at).unwrap();
            stream.write_all(b"GET /callback?co").unwrap();
            stream
        })
        .collect();
    let right = format!("state={state}");
    let mut wrong = state.clone().into_bytes();
    wrong[0] ^= 1;
    let wrong = String::from_utf8(wrong).unwrap();
    let mut attacks: Vec<(String, Vec<u8>)> = [
        "/callback".to_owned(),
        "/callback?".to_owned(),
        "/callback?code=EVIL".to_owned(),
        "/callback?code=EVIL&state=".to_owned(),
        format!("/callback?code=EVIL&state={wrong}"),
        format!("/callback?code=EVIL&state={}", &state[1..]),
        format!("/callback?code=EVIL&state={state}x"),
        format!("/callback?code=EVIL&state={}", state.to_lowercase().to_uppercase()),
        format!("/callback?code=EVIL&{right}&{right}"),
        format!("/callback?code=EVIL&{right}&state={wrong}"),
        format!("/callback?code=EVIL&state={wrong}&{right}"),
        format!("/callback?code=EVIL&code=EVIL&{right}"),
        format!("/callback?code=EVIL&code=x&error=y&{right}"),
        format!("/callback?code=EVIL&error=access_denied&{right}"),
        format!("/callback?code=EVIL&error=x&error=y&{right}"),
        format!("/callback?code=&{right}"),
        format!("/callback?{right}"),
        format!("/callback#code=EVIL&{right}"),
        format!("/x/../callback?code=EVIL&{right}"),
        format!("/./callback?code=EVIL&{right}"),
        format!("/%2e/callback?code=EVIL&{right}"),
        format!("/%63allback?code=EVIL&{right}"),
        format!("/callback/?code=EVIL&{right}"),
        format!("/callback/..?code=EVIL&{right}"),
        format!("/CALLBACK?code=EVIL&{right}"),
        format!("//callback?code=EVIL&{right}"),
        format!("//evil.example/callback?code=EVIL&{right}"),
        format!("\\\\evil.example\\callback?code=EVIL&{right}"),
        format!("http://evil.example/callback?code=EVIL&{right}"),
        format!("../../etc/passwd?code=EVIL&{right}"),
        "/favicon.ico".to_owned(),
    ]
    .into_iter()
    .map(|target| (target.clone(), get(&target)))
    .collect();
    for method in ["POST", "HEAD", "PUT", "OPTIONS", "get", "GETGET"] {
        let request = format!("{method} /callback?code=EVIL&{right} HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        attacks.push((method.to_owned(), request.into_bytes()));
    }
    let body = format!("code=EVIL&{right}");
    attacks.push((
        "body".into(),
        format!("POST /callback HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
    ));
    attacks.push((
        "huge".into(),
        format!("GET /callback?code=EVIL&{right} HTTP/1.1\r\nx: {}\r\n\r\n", "z".repeat(70_000)).into_bytes(),
    ));
    attacks.push(("torn".into(), format!("GET /callback?code=EVIL&{right} HTTP/1.1\r\n").into_bytes()));
    attacks.push(("tls".into(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()));
    attacks
        .push(("not text".into(), [b"GET /callback?code=EVIL\xff&", right.as_bytes(), b" HTTP/1.1\r\n\r\n"].concat()));
    attacks.push(("nothing".into(), Vec::new()));
    let begun = Instant::now();
    for (name, bytes) in &attacks {
        let answer = send(&at, bytes);
        assert!(!answer.starts_with("HTTP/1.1 200") && !answer.contains("EVIL"), "{name}: {answer}");
        assert!(!waiting.is_finished(), "{name} ended the login");
    }
    let answer = send(&at, &get(&format!("/callback?code=GOOD&{right}")));
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("no-referrer") && !answer.contains("GOOD"),
        "{answer}"
    );
    let tokens = scene.runtime.block_on(waiting).unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}: slow ones hold up the others", begun.elapsed());
    assert_eq!(tokens.access.expose(), b"a");
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].body.contains("code=GOOD") && requests[0].body.contains("code_verifier="),
        "{}",
        requests[0].body
    );
    drop(slow);
}

#[test]
fn a_refusal_on_the_page_ends_a_login_and_a_code_after_it_is_not_used() {
    let endpoint = Endpoint::new(|_| http("200 OK", &[], GOOD));
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let source = source(&endpoint.url("/token"), "login");
    let login = scene.runtime.block_on(CodeLogin::begin(&source, &endpoint.url("/authorize"), 0)).unwrap();
    let (state, redirect) = (query(login.url(), "state"), query(login.url(), "redirect_uri"));
    let at = redirect.trim_start_matches("http://").trim_end_matches("/callback").to_owned();
    let waiting =
        scene.runtime.spawn(async move { login.finish(&client, &source, None, Duration::from_secs(20)).await });
    send(&at, &get(&format!("/callback?error={MARK}&error_description={MARK}&state={state}")));
    let fault = scene.runtime.block_on(waiting).unwrap().unwrap_err();
    assert!(matches!(fault, ClientFault::Person(_)) && !format!("{fault} {fault:?}").contains(MARK), "{fault:?}");
    assert!(TcpStream::connect(&at).is_err(), "the listener is gone");
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn what_a_device_endpoint_wants_shown_is_shown_only_where_it_is_text() {
    let good =
        format!(r#""device_code":"{MARK}","user_code":"AB","verification_uri":"https://x.example/d","expires_in":9"#);
    let cases = [
        format!("{{{good}}}").replace("\"AB\"", &format!("\"{}\"", "A".repeat(3000))),
        format!("{{{good}}}").replace("\"AB\"", r#""\u001b[2J""#),
        format!("{{{good}}}").replace("\"AB\"", r#""A\nB""#),
        format!("{{{good}}}").replace("\"AB\"", "\"A\u{202e}B\""),
        format!("{{{good}}}").replace("\"AB\"", "\"\""),
        format!("{{{good}}}").replace("\"AB\"", "7"),
        format!("{{{good}}}").replace("x.example", "x\\u0007.example"),
        format!("{{{good}}}").replace(":9", ":-9"),
        format!("{{{good}}}").replace("device_code", "device"),
        format!(r#"{{{good},"verification_uri_complete":"\u001b]0;x\u0007"}}"#),
        format!(r#"{{{good},"interval":-1}}"#),
        "[]".to_owned(),
        String::new(),
        "z".repeat(100_000),
    ];
    let answers = cases.clone();
    let endpoint = Endpoint::new(move |request| {
        let place: usize = request.path().trim_start_matches('/').parse().unwrap();
        http("200 OK", &[], &answers[place])
    });
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let source = source(&endpoint.url("/token"), "device");
    for (place, body) in cases.iter().enumerate() {
        let url = endpoint.url(&format!("/{place}"));
        let begun = scene.runtime.block_on(DeviceLogin::begin(&client, &source, None, &url));
        let fault = begun.unwrap_err();
        assert!(matches!(fault, ClientFault::Refused(_)), "{body:.80}: {fault:?}");
        assert!(!format!("{fault} {fault:?}").contains(MARK));
    }
}

/// When a device asked, and what it was answered.
type Asked = Arc<Mutex<Vec<Instant>>>;

fn device_endpoint(answers: &'static [(&'static str, &'static str)], expires_in: u64) -> (Endpoint, Asked) {
    let asked: Asked = Arc::default();
    let times = Arc::clone(&asked);
    let endpoint = Endpoint::new(move |request| {
        if request.path() == "/device" {
            let body = format!(
                r#"{{"device_code":"{MARK}","user_code":"AB-CD","verification_uri":"https://x.example/d","expires_in":{expires_in},"interval":0}}"#
            );
            return http("200 OK", &[], &body);
        }
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        let (status, body) = answers[(times.len() - 1).min(answers.len() - 1)];
        http(status, &[], body)
    });
    (endpoint, asked)
}

#[test]
fn a_device_login_asks_as_often_as_it_may_and_ends() {
    const PENDING: (&str, &str) = ("400 Bad", r#"{"error":"authorization_pending"}"#);
    let (patient, patient_asked) =
        device_endpoint(&[PENDING, ("400 Bad", r#"{"error":"slow_down"}"#), ("200 OK", GOOD)], 60);
    let (denied, _) = device_endpoint(&[("400 Bad", r#"{"error":"access_denied","x":"zz-said-by-the-endpoint"}"#)], 60);
    let (expired, _) = device_endpoint(&[("400 Bad", r#"{"error":"expired_token"}"#)], 60);
    let (grant, _) = device_endpoint(&[("400 Bad", r#"{"error":"invalid_grant"}"#)], 60);
    let (pending, pending_asked) = device_endpoint(&[PENDING], 3);
    let scene = Scene::new();
    let client = scene.client(&AuthSettings::default(), nobody());
    let login = |endpoint: &Endpoint| {
        let (client, source, url) =
            (client.clone(), source(&endpoint.url("/token"), "device"), endpoint.url("/device"));
        scene.runtime.spawn(async move {
            let begun = DeviceLogin::begin(&client, &source, None, &url).await?;
            assert!(!format!("{begun:?}").contains(MARK));
            begun.finish(&client, &source, None).await
        })
    };
    let running = [login(&patient), login(&denied), login(&expired), login(&grant), login(&pending)];
    let [patient, denied, expired, grant, pending] = running.map(|running| scene.runtime.block_on(running).unwrap());
    assert_eq!(patient.unwrap().access.expose(), b"a");
    let times = patient_asked.lock().unwrap().clone();
    assert_eq!(times.len(), 3);
    assert!(times[1] - times[0] >= Duration::from_millis(950), "a second at least");
    assert!(times[2] - times[1] >= Duration::from_millis(5_900), "five seconds more after slow_down");
    for fault in [denied.unwrap_err(), expired.unwrap_err(), pending.unwrap_err()] {
        assert!(matches!(fault, ClientFault::Person(_)), "{fault:?}");
    }
    let fault = grant.unwrap_err();
    assert!(matches!(fault, ClientFault::Refused(_)) && !format!("{fault:?}").contains(MARK), "{fault:?}");
    assert!(pending_asked.lock().unwrap().len() <= 3);
}

#[test]
fn an_end_that_toml_cannot_say_does_not_empty_the_documents() {
    let scene = Scene::new();
    let id = scene.profile("https://idp.test/token");
    let (record, _) = scene.ledger.auth().profile(&id).unwrap();
    let end = palyra_ledger::Timestamp::from_millis(u64::MAX);
    if scene.ledger.auth().set(record.profile, Some(end)).is_ok() {
        let documents = scene.ledger.auth().documents().unwrap().unwrap();
        assert!(documents.profiles.contains("[[profiles]]"), "{}", documents.profiles);
        let plan = scene.ledger.auth().plan(&documents, None).unwrap().unwrap();
        assert!(plan.edits.is_empty(), "{plan:?}");
    }
}
