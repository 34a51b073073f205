//! Fuzz targets for service credentials: the two documents as people change them, what token endpoints answer,
//! and the URLs that tokens are sent to.

#![allow(clippy::panic, clippy::expect_used)] // A panic is how a target tells of a finding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::documents::{Documents, Edit, Plan, Problem};
use crate::auth::{Endpoint, RefreshResult};
use crate::base::limits;
use crate::engine::{Auth, AuthFilter, Config, Ledger};
use crate::event::auth::FailureKind;
use crate::keys::NewSlot;
use crate::oauth::answer::{Code, Refusal, read};

use super::{ManualClock, SeededRandom, SimDisk};

/// What somebody may have pasted where it does not belong; it would be an id, too.
const CANARY: &str = "cAn4ry-9f31c2d4e5a6b7c8d9e0f1a2b3c4d5e6";
/// So much of the input in a row is a piece of it, and no accident.
const PIECE: usize = 24;
const EMPTY: &str = "version = 1\n";
/// The profiles of the runtime document's target.
pub const PROFILES: &str = r#"version = 1

[[profiles]]
profile_id = "key"
profile_name = "key"
created_at_unix_ms = 0
updated_at_unix_ms = 0
provider = { kind = "openai" }
scope = { kind = "global" }
credential = { type = "api_key", api_key_vault_ref = "global/key" }

[[profiles]]
profile_id = "second"
profile_name = ""
created_at_unix_ms = 0
updated_at_unix_ms = 0
provider = { kind = "openai" }
scope = { kind = "agent", agent_id = "a" }
credential = { type = "api_key", api_key_vault_ref = "global/second" }
"#;

/// A ledger in memory that is used again: a document says all of it, so what was there before does not matter.
struct Bench {
    ledger: Ledger,
    left: u32,
}

static PROFILES_BENCH: Mutex<Option<Bench>> = Mutex::new(None);
static RUNTIME_BENCH: Mutex<Option<Bench>> = Mutex::new(None);

fn fresh() -> Bench {
    let config = Config::new("/home")
        .medium(Arc::new(SimDisk::new()))
        .random(Arc::new(SeededRandom::new(1)))
        .clock(Arc::new(ManualClock::default()))
        .without_background();
    let ledger = Ledger::init(config, NewSlot::file("fuzz")).expect("a ledger in memory");
    Bench { ledger, left: 512 }
}

fn on(bench: &Mutex<Option<Bench>>, check: impl FnOnce(&Auth)) {
    // Taken out: after a finding the next input begins anew.
    let taken = bench.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut taken = taken.filter(|bench| bench.left > 0).unwrap_or_else(fresh);
    check(&taken.ledger.auth());
    taken.left -= 1;
    *bench.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
}

fn plan(auth: &Auth, edited: &Documents) -> Result<Plan, Vec<Problem>> {
    auth.plan(edited, None).unwrap_or_else(|error| panic!("the state is whole: {error}"))
}

fn rendered(auth: &Auth) -> Documents {
    auth.documents().ok().flatten().unwrap_or_else(|| panic!("the state can be rendered"))
}

/// Whether a text holds 24 bytes in a row of another.
fn repeats(told: &str, input: &[u8]) -> bool {
    repeats_beyond(told, input, "")
}

/// The same, but for what is our own way of putting it: an input may use our words.
fn repeats_beyond(told: &str, input: &[u8], ours: &str) -> bool {
    let within = |text: &str, piece: &[u8]| text.as_bytes().windows(PIECE).any(|part| part == piece);
    told.len() >= PIECE && input.windows(PIECE).any(|piece| within(told, piece) && !within(ours, piece))
}

/// The same document with the canary as the value of one line, as its key, and below it.
fn pasted(text: &str) -> Vec<String> {
    let places: Vec<_> = text.match_indices('=').map(|(at, _)| at).collect();
    let Some(at) = places.get(text.len() % places.len().max(1)).copied() else { return Vec::new() };
    let (before, after) = text.split_at(at);
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    let (head, key) = before.split_at(line);
    let (value, rest) = after.split_at(after.find('\n').unwrap_or(after.len()));
    vec![
        format!("{head}{key}= \"{CANARY}\"{rest}"),
        format!("{head}{key}= {CANARY}{rest}"),
        format!("{head}{key}= [\"{CANARY}\", {{ \"{CANARY}\" = \"{CANARY}\" }}]{rest}"),
        format!("{head}{CANARY} {value}{rest}"),
        format!("{head}\"`{CANARY}`, expected \\\"\" {value}{rest}"),
        format!("{head}{key}{value}{CANARY}{rest}"),
    ]
}

fn check_problems(problems: &[Problem]) {
    for problem in problems {
        assert!(problem.line > 0 && !problem.what.is_empty(), "{problem}");
        assert!(!repeats(&problem.to_string(), CANARY.as_bytes()), "it repeats what was pasted: {problem}");
        assert!(problem.what.len() <= 1024, "{problem}");
    }
}

/// A problem names none of what was pasted, wherever that was.
fn check_pasted(auth: &Auth, text: &str, documents: impl Fn(String) -> Documents) {
    for pasted in pasted(text) {
        if let Err(problems) = plan(auth, &documents(pasted)) {
            check_problems(&problems);
        }
    }
}

/// After an edit nothing is left to edit, and what is rendered asks for nothing.
fn check_settled(auth: &Auth, edited: &Documents) {
    let again = plan(auth, edited);
    assert!(again.as_ref().is_ok_and(|plan| plan.edits.is_empty()), "applied, and still asks for {again:?}");
    let made = rendered(auth);
    let again = plan(auth, &made);
    assert!(again.as_ref().is_ok_and(|plan| plan.edits.is_empty()), "what is rendered asks for {again:?}");
    assert_eq!(made, rendered(auth), "one state has one text");
}

/// The registry of profiles: what reads and is applied is there, is rendered as what it said, and asks for
/// nothing more; what does not read says why without repeating it.
///
/// # Panics
/// Where the property does not hold.
pub fn auth_profiles(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let documents = |profiles: String| Documents { profiles, runtime: EMPTY.to_owned() };
    on(&PROFILES_BENCH, |auth| {
        let edited = documents(text.to_owned());
        match plan(auth, &edited) {
            Err(problems) => {
                assert!(!problems.is_empty());
                check_problems(&problems);
            }
            Ok(plan) => check_profiles(auth, &plan, &edited),
        }
        check_pasted(auth, text, documents);
    });
}

fn check_profiles(auth: &Auth, plan: &Plan, edited: &Documents) {
    if auth.apply(plan).is_err() {
        return;
    }
    let page = auth.profiles(&AuthFilter::default()).unwrap_or_else(|error| panic!("{error}"));
    for edit in &plan.edits {
        match edit {
            Edit::Set(wanted, end) => {
                let found = page.profiles.iter().find(|(record, _)| record.profile.id == wanted.id);
                let Some((record, runtime)) = found else { panic!("{} was set and is not there", wanted.id) };
                assert_eq!(record.profile, **wanted);
                assert!(end.is_none() || runtime.expires_at == *end);
            }
            Edit::Delete(id) => assert!(page.profiles.iter().all(|(record, _)| record.profile.id != *id)),
            Edit::Order(_, _, profiles) => assert!(profiles.is_empty(), "no order stands in the registry"),
            Edit::Clear(_) => panic!("no failure stands in the registry"),
        }
    }
    check_settled(auth, edited);
}

/// The runtime document: only orders and resets come of it, and they are then as it said.
///
/// # Panics
/// Where the property does not hold.
pub fn auth_runtime(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let documents = |runtime: String| Documents { profiles: PROFILES.to_owned(), runtime };
    on(&RUNTIME_BENCH, |auth| {
        if auth.orders().is_ok_and(|orders| orders.is_empty())
            && let Ok(plan) = plan(auth, &documents(EMPTY.to_owned()))
        {
            assert!(auth.apply(&plan).is_ok());
        }
        let key = "key".parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(auth.report_failure(&key, FailureKind::Quota, Some(3_600_000)).is_ok() && auth.flush_usage().is_ok());
        let edited = documents(text.to_owned());
        match plan(auth, &edited) {
            Err(problems) => {
                assert!(!problems.is_empty());
                check_problems(&problems);
            }
            Ok(plan) if auth.apply(&plan).is_ok() => check_orders(auth, &plan),
            Ok(_) => {}
        }
        check_pasted(auth, text, documents);
    });
}

fn check_orders(auth: &Auth, plan: &Plan) {
    let orders = auth.orders().unwrap_or_else(|error| panic!("{error}"));
    let mut last = std::collections::BTreeMap::new();
    for edit in &plan.edits {
        match edit {
            Edit::Order(scope, provider, profiles) => {
                last.insert((scope, provider), profiles);
            }
            Edit::Clear(id) => {
                let Ok((_, runtime)) = auth.profile(id) else { panic!("{id} is there") };
                assert_eq!((runtime.failure_count, runtime.cooldown_until), (0, None));
            }
            Edit::Set(..) | Edit::Delete(_) => panic!("the runtime document makes and deletes no profile"),
        }
    }
    for ((scope, provider), profiles) in last {
        let found = orders.iter().find(|order| order.scope == *scope && order.provider == *provider);
        assert_eq!(found.map_or(&[][..], |order| &order.profiles), profiles.as_slice());
    }
    let made = rendered(auth);
    assert!(self::plan(auth, &made).is_ok_and(|plan| plan.edits.is_empty()), "what is rendered asks for nothing");
}

/// Splits a made-up answer: status (2 bytes), length of `Retry-After` (1 byte), that header, the body.
fn parts(bytes: &[u8]) -> Option<(u16, Option<&str>, &[u8])> {
    let (status, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    let (header, body) = rest.split_at_checked(usize::from(*length))?;
    // As a client gives it: visible ASCII alone.
    let header = std::str::from_utf8(header).ok().filter(|text| text.bytes().all(|byte| (0x20..0x7F).contains(&byte)));
    Some((u16::from_le_bytes(*status), header.filter(|text| !text.is_empty()), body))
}

/// What a token endpoint answers: what is taken is a token, what is not says nothing of what it was, and each
/// status is what it means.
///
/// # Panics
/// Where the property does not hold.
pub fn token_answer(bytes: &[u8]) {
    let Some((status, header, body)) = parts(bytes) else { return };
    for status in [status, 200, 400, 429, 503] {
        check_answer(status, header, body);
    }
    // The same with a canary in the place of every text.
    if let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(body) {
        for keep_error in [true, false] {
            paste(&mut value, keep_error);
            let body = serde_json::to_vec(&value).unwrap_or_default();
            for status in [200, 400, status] {
                check_answer(status, Some(CANARY), &body);
            }
        }
    }
}

fn paste(value: &mut serde_json::Value, keep_error: bool) {
    match value {
        serde_json::Value::String(text) => CANARY.clone_into(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| paste(item, keep_error)),
        serde_json::Value::Object(fields) => {
            let others = fields.iter_mut().filter(|(name, _)| !(keep_error && *name == "error"));
            others.for_each(|(_, item)| paste(item, keep_error));
        }
        _ => {}
    }
}

fn check_answer(status: u16, header: Option<&str>, body: &[u8]) {
    let refusal = match read(status, header, body, 1_767_225_600) {
        Ok(tokens) => {
            assert!((200..300).contains(&status), "status {status} gives no tokens");
            for token in [Some(&tokens.access), tokens.refresh.as_ref()].into_iter().flatten() {
                assert!(!token.is_empty() && token.expose().iter().all(|byte| (0x20..0x7F).contains(byte)));
            }
            assert!(tokens.expires_in_s.is_none_or(|seconds| seconds <= limits::TOKEN_LIFE_MAX_S));
            assert!(!repeats(&format!("{tokens:?}"), body));
            return;
        }
        Err(refusal) => refusal,
    };
    match (status, &refusal) {
        (300..=399, Refusal::Redirect) | (429, Refusal::TooMany(_)) | (408 | 500..=599, Refusal::Unavailable(_)) => {}
        (300..=399 | 429 | 408 | 500..=599, _) | (_, Refusal::Redirect | Refusal::TooMany(_)) => {
            panic!("status {status} is {refusal:?}");
        }
        _ => {}
    }
    let say = |refusal: &Refusal| format!("{refusal} {refusal:?} {:?}", refusal.clone().of_refresh());
    let (told, result) = (say(&refusal), refusal.clone().of_refresh());
    let others: [&[u8]; 3] = [b"", br#"{"error":"invalid_grant"}"#, br#"{"error":"other"}"#];
    let ours: String =
        others.iter().filter_map(|body| read(status, None, body, 1_767_225_600).err()).map(|r| say(&r)).collect();
    for input in [body, header.unwrap_or_default().as_bytes()] {
        assert!(!repeats_beyond(&told, input, &ours), "{told}");
    }
    assert!(!told.contains(CANARY), "{told}");
    if let RefreshResult::Refused { .. } = result {
        // Only an error that the endpoint names ends a grant.
        assert!(matches!(refusal, Refusal::Code(code) if code != Code::Other), "{refusal:?}");
    }
}

/// URLs that tokens are sent to, and the addresses behind them: a URL, and after a new line an address of 4 or
/// 16 bytes.
///
/// # Panics
/// Where the property does not hold.
pub fn endpoint(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(endpoint) = Endpoint::parse(text) else { return };
    let url = endpoint.url();
    assert!(url.scheme() == "https" || (url.scheme() == "http" && endpoint.is_loopback()), "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
    assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{url}");
    assert_eq!(Endpoint::parse(url.as_str()).as_ref(), Ok(&endpoint), "{url} is its own text");
    if let Some(address) = endpoint.literal() {
        assert_eq!(endpoint.is_loopback(), address.to_canonical().is_loopback(), "{url}");
    }
    let rest = rest.get(1..).unwrap_or_default();
    if let Some(octets) = rest.first_chunk::<16>() {
        check_address(&endpoint, Ipv6Addr::from(*octets).into());
    }
    if let Some(octets) = rest.first_chunk::<4>() {
        let inner = Ipv4Addr::from(*octets);
        check_address(&endpoint, inner.into());
        let [high, low] = [[octets[0], octets[1]], [octets[2], octets[3]]].map(u16::from_be_bytes);
        let admitted = endpoint.admits(inner.into(), &[]).is_ok();
        assert_eq!(endpoint.admits(inner.to_ipv6_mapped().into(), &[]).is_ok(), admitted, "{inner}, mapped");
        for outer in
            [Ipv6Addr::new(0x64, 0xFF9B, 0, 0, 0, 0, high, low), Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)]
        {
            let carried = endpoint.admits(outer.into(), &[]).is_ok();
            assert!(!carried || (admitted && !endpoint.is_loopback()), "{outer} carries {inner} around the check");
        }
        if !endpoint.is_loopback() {
            assert!(endpoint.admits(inner.into(), &[(inner.into(), 32)]).is_ok());
        }
    }
}

fn check_address(endpoint: &Endpoint, address: IpAddr) {
    let everything = [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)];
    if endpoint.is_loopback() {
        let here = address.to_canonical().is_loopback();
        assert_eq!(endpoint.admits(address, &[]).is_ok(), here, "{address}");
        assert_eq!(endpoint.admits(address, &everything).is_ok(), here, "{address}");
        return;
    }
    assert!(endpoint.admits(address, &everything).is_ok(), "{address} is in everything");
    if endpoint.admits(address, &[]).is_ok() {
        let inside = match address.to_canonical() {
            IpAddr::V4(v4) => {
                v4.is_private()
                    || v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_multicast()
                    || v4.is_unspecified()
                    || v4.is_broadcast()
                    || v4.is_documentation()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
            }
        };
        assert!(!inside, "{address} is of the inside");
    }
}
