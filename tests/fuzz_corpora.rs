//! Every checked-in fuzz input runs through its target, and so do seeded mutations of them.
//!
//! `fuzz/run` looks for new inputs; this test keeps what was found found, on any compiler. The
//! seeds are made by `write_seeds` below: run it with `--ignored` after a change of the format.

// A test's helpers may fail loudly, as its test functions may.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::manual_assert)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use palyra_ledger::checkpoint::{Checkpoint, Frontier, SignedCheckpoint, tree};
use palyra_ledger::crypto::{Hash, KEY_LEN, Key, MessageKey, Opener, SEALED_OVERHEAD, SigningKey, labels, seal_sealed};
use palyra_ledger::device::messages::{Base64, FinishMessage, HelloMessage, RenewMessage};
use palyra_ledger::event::identity::{ClientKind, Der};
use palyra_ledger::event::{self, Event, auth, codec, identity, system, vault};
use palyra_ledger::inspect::bundle::Builder;
use palyra_ledger::keys::KeyRing;
use palyra_ledger::log::frame::{self, Frame, Header, Sealing};
use palyra_ledger::log::segment::{SegmentHeader, SegmentTrailer, file_name};
use palyra_ledger::pki::{Authority, LeafKey};
use palyra_ledger::testing::fuzz::{TARGETS, frame_opener};
use palyra_ledger::testing::{fuzz_auth, fuzz_pairing};
use palyra_ledger::{Actor, BackendKind, Caller, CorrelationId, DeviceId, LedgerId, Reason, Serial, SlotId, Timestamp};

/// Mutations of each corpus.
const VARIANTS: usize = 2_000;
/// Largest input that is checked in: a corpus is read by people, too.
const INPUT_BYTES_MAX: usize = 4 * 1024;
/// Most inputs of one corpus.
const INPUTS_MAX: usize = 64;

fn corpus_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<_> = fs::read_dir(corpus_dir(target))
        .unwrap_or_else(|error| panic!("no corpus for {target}: {error}"))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

fn run(target: &str, function: fn(&[u8]), what: &str, bytes: &[u8]) {
    if std::panic::catch_unwind(|| function(bytes)).is_err() {
        panic!("target {target}, {what}: {bytes:02x?}");
    }
}

#[test]
fn every_corpus_is_small_and_every_target_has_one() {
    let mut folders: Vec<_> = fs::read_dir(corpus_dir("").as_path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(folders, names);
    for name in names {
        let inputs = corpus(&name);
        assert!(!inputs.is_empty() && inputs.len() <= INPUTS_MAX, "{name} has {} inputs", inputs.len());
        for (file, bytes) in inputs {
            assert!(bytes.len() <= INPUT_BYTES_MAX, "{name}/{file} has {} bytes", bytes.len());
        }
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/targets/{name}.rs"));
        assert!(binary.is_file(), "{} is missing", binary.display());
    }
}

#[test]
fn every_checked_in_input_holds_its_property() {
    for (target, function) in TARGETS {
        run(target, *function, "no bytes", &[]);
        for (file, bytes) in corpus(target) {
            run(target, *function, &file, &bytes);
        }
    }
}

#[test]
fn seeded_mutations_of_every_corpus_hold_its_property() {
    for (target, function) in TARGETS {
        let inputs = corpus(target);
        let mut dice = Dice(0x5eed);
        for round in 0..VARIANTS {
            let bytes = dice.mutate(&inputs);
            run(target, *function, &format!("mutation {round}"), &bytes);
        }
    }
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    fn mutate(&mut self, inputs: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].1.clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.next().to_le_bytes()[0]),
                4 => bytes.extend_from_slice(&self.next().to_le_bytes()),
                5 => {
                    // A length or a count at its edges.
                    let edge = [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x1_0000][self.below(6)];
                    let width = [1, 2, 4][self.below(3)];
                    for (place, byte) in bytes.iter_mut().skip(at).zip(edge.to_le_bytes().into_iter().take(width)) {
                        *place = byte;
                    }
                }
                6 => {
                    let other = &inputs[self.below(inputs.len())].1;
                    let from = self.below(other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                _ if at < bytes.len() => {
                    let end = at + self.below(bytes.len() - at);
                    bytes.drain(at..end);
                }
                _ => {}
            }
        }
        bytes
    }
}

fn ledger_id() -> LedgerId {
    LedgerId::from_bytes([0x1d; 16])
}

fn callers() -> [Caller; 3] {
    let actor = Actor::new("alice").unwrap();
    [
        Caller::system(),
        Caller::cli(actor.clone(), 1000).with_reason(Reason::new("rotation").unwrap()),
        Caller::library(actor).with_correlation(CorrelationId::from_bytes([7; 16])),
    ]
}

fn put(labels: &[(&str, &str)]) -> Event {
    Event::SecretPut(vault::SecretPut {
        scope: "channel:slack:T012AB".parse().unwrap(),
        name: "team/bot_token".parse().unwrap(),
        version: 2,
        slot: 513,
        value_bytes: 3,
        expires_at: Some(Timestamp::from_millis(1_800_000_000_000)),
        description: Some("the bot".to_owned()),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        envelope_digest: Hash([0xed; 32]),
        backend: 0,
        cause: Some(vault::PutCause::Given),
        envelope: vec![0xee; 75],
    })
}

fn events() -> Vec<Event> {
    let keyring = Hash([0xcc; 32]);
    let slot_id = SlotId::from_bytes([3; 4]);
    let slot = system::SlotNote { slot: slot_id, kind: "passphrase".to_owned(), label: "desk".to_owned() };
    let (scope, name) = ("global".parse().unwrap(), "openai_api_key".parse().unwrap());
    let (time, hash) = (Timestamp::from_millis(1_790_000_000_000), Hash([9; 32]));
    let saved_as = "2026-11-24T00-00-00Z".to_owned();
    vec![
        Event::LedgerCreated(system::LedgerCreated {
            ledger_id: ledger_id(),
            program: "0.1.0".to_owned(),
            ca_public_key: vec![0x30; 91],
            slots: vec![slot.clone()],
            keyring,
        }),
        Event::EpochStarted(system::EpochStarted { epoch: 2, cause: system::EpochCause::Age, keyring }),
        Event::KeySlotAdded(system::KeySlotAdded { slot: slot.clone(), keyring }),
        Event::KeySlotRemoved(system::KeySlotRemoved { slot, keyring }),
        Event::KeySlotPinned(system::KeySlotPinned { slot: slot_id, previous: SlotId::from_bytes([4; 4]), keyring }),
        Event::RootRotated(system::RootRotated {
            root_generation: 2,
            table_generation: 2,
            rewrapped: 1_000,
            dropped: vec![slot_id],
            keyring,
        }),
        Event::TailDropped(system::TailDropped {
            segment: 0,
            offset: 4_096,
            bytes: 77,
            digest: hash,
            saved_as: saved_as.clone(),
        }),
        Event::WitnessSetAside(system::WitnessSetAside {
            fault: system::WitnessFault::Panicked,
            saved_as: saved_as.clone(),
        }),
        Event::WitnessRebuilt(system::WitnessRebuilt { through: 12 }),
        Event::ClockStepped(system::ClockStepped { observed: Timestamp::from_millis(5), recorded: time }),
        Event::CommandRefused(system::CommandRefused {
            command: "secrets get".to_owned(),
            target: Some("global/x".to_owned()),
            code: "not_found".to_owned(),
            what: "there is no such secret".to_owned(),
        }),
        Event::JournalRestored(system::JournalRestored { first: 3, last: 4, saved_as }),
        Event::HeadRestored(system::HeadRestored { seq: 8, hash }),
        Event::KeyTableRepaired(system::KeyTableRepaired { slots: vec![1, 2, 600] }),
        Event::SpoolDropped(system::SpoolDropped {
            bytes: 31,
            digest: Some(hash),
            saved_as: Some("1-spool".to_owned()),
        }),
        put(&[]),
        put(&[("env", "prod"), ("owner", "ops")]),
        Event::SecretDeleted(vault::SecretDeleted { scope, name, versions: vault::Versions::All }),
        Event::SecretUndeleted(vault::SecretUndeleted {
            scope: "principal:u1".parse().unwrap(),
            name: "k".parse().unwrap(),
            versions: vault::Versions::One(3),
        }),
        Event::SecretShredded(vault::SecretShredded {
            scope: "skill:mail".parse().unwrap(),
            name: "k".parse().unwrap(),
            versions: vec![(1, 10), (2, 11)],
        }),
        Event::SecretDescribed(vault::SecretDescribed {
            scope: "skill:mail".parse().unwrap(),
            name: "k".parse().unwrap(),
            expires_at: None,
            description: None,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }),
        Event::BackendMigrationStarted(vault::BackendMigrationStarted {
            from: BackendKind::Ledger,
            to: BackendKind::EncryptedFile,
        }),
        Event::EnvelopesMoved(vault::EnvelopesMoved {
            envelopes: vec![vault::MovedEnvelope { slot: 513, envelope: vec![0xee; 75] }],
        }),
        Event::BackendSwitched(vault::BackendSwitched {
            from: BackendKind::Ledger,
            to: BackendKind::LinuxSecretService,
            envelopes: 3,
        }),
        Event::BackendMigrationFinished(vault::BackendMigrationFinished {
            from: BackendKind::MacosKeychain,
            removed: 3,
        }),
        Event::BackendMigrationAborted(vault::BackendMigrationAborted { to: BackendKind::WindowsDpapi, removed: 0 }),
        Event::VaultExported(vault::VaultExported { secrets: 2, versions: 3, recipients: vec!["age1x".to_owned()] }),
        Event::SecretsRead(vault::SecretsRead {
            reads: vec![vault::ReadNote {
                scope: "global".parse().unwrap(),
                name: "k".parse().unwrap(),
                version: 1,
                count: 40,
                first: time,
                last: time,
            }],
        }),
        Event::ReferencesResolved(vault::ReferencesResolved {
            notes: vec![vault::ResolutionNote {
                reference: palyra_ledger::KeyedPrint::from_bytes([7; 16]),
                source: palyra_ledger::SourceKind::File,
                shown: "file:key".to_owned(),
                status: vault::ResolveStatus::Blocked,
                reason: Some(vault::ResolveReason::FileMode),
                count: 2,
                first: time,
                last: time,
            }],
        }),
        Event::DeviceRevoked(identity::DeviceRevoked {
            device: DeviceId::from_bytes([8; 16]),
            certificates: Some(vec![Serial::from_bytes([1; 17]), Serial::from_bytes([2; 17])]),
        }),
        Event::RefreshSucceeded(auth::RefreshSucceeded {
            profile: "main".parse().unwrap(),
            generation: 3,
            expires_at: Some(time),
            rotated: false,
            took_ms: Some(812),
            scopes_lost: Some(vec!["chat:write".to_owned()]),
        }),
        came(vault::PutCause::LoggedIn("main".parse().unwrap())),
        came(vault::PutCause::Refreshed { profile: "main".parse().unwrap(), generation: 3 }),
    ]
}

fn came(cause: vault::PutCause) -> Event {
    match put(&[]) {
        Event::SecretPut(event) => Event::SecretPut(vault::SecretPut { cause: Some(cause), ..event }),
        other => other,
    }
}

/// A bundle of whole frames under a checkpoint of the first of them.
fn bundle_of(frames: &[&[u8]], covered: usize) -> Vec<u8> {
    let parsed: Vec<Frame<'_>> = frames.iter().map(|bytes| Frame::parse(bytes).unwrap()).collect();
    let signing = SigningKey::from_seed(&Key::from_slice(&[9; 32]).unwrap()).unwrap();
    let checkpoint = (covered > 0).then(|| {
        let mut frontier = Frontier::default();
        parsed[..covered].iter().for_each(|frame| frontier.push(tree::leaf(&frame.hash)));
        let checkpoint = Checkpoint {
            ledger_id: ledger_id(),
            size: covered as u64,
            root: frontier.root(),
            head: parsed[covered - 1].hash,
            state: None,
            time: Timestamp::from_millis(1_790_000_000_000),
            branch: 0,
            key: signing.public(),
        };
        SignedCheckpoint::sign(checkpoint, &signing).unwrap()
    });
    let mut builder = Builder::new(checkpoint, None).unwrap();
    for frame in &parsed {
        builder.push(frame, true, Some(MessageKey::from_key(Key::from_slice(&[3; 32]).unwrap())));
    }
    builder.finish("palyra-forensic", "events 0-1").unwrap().encode()
}

/// Kind, schema version where it is not 1, and body, as the read spool has them.
fn spooled(body: &event::Body) -> Vec<u8> {
    let marked = if body.schema == 1 { body.kind } else { body.kind | 0x8000 };
    let schema = if body.schema == 1 { Vec::new() } else { body.schema.to_le_bytes().to_vec() };
    [&marked.to_le_bytes()[..], &schema, &body.plain].concat()
}

fn older(kind: u16, plain: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], plain].concat()
}

fn sealed_frame(seq: u64, prev: Hash, event: &Event, caller: &Caller) -> (Vec<u8>, Hash) {
    let body = event::encode(caller, event).unwrap();
    let header = Header {
        ledger_id: ledger_id(),
        seq,
        prev,
        time: Timestamp::from_millis(1_790_000_000_000 + seq),
        group_start: 0,
        kind: body.kind,
        schema: body.schema,
        epoch: 1,
        batch_index: u16::try_from(seq).unwrap(),
        batch_len: 2,
        body_len: 0,
        nonce: [0; 24],
        commitment: [0; 32],
    };
    let mut out = Vec::new();
    let hash = frame::seal(header, &Sealing { opener: frame_opener(), nonce: [5; 24] }, &body.plain, &mut out);
    (out, hash)
}

fn sled_value(seq: u64, part: u16, value: &[u8]) -> Vec<u8> {
    [&seq.to_be_bytes()[..], &part.to_be_bytes(), value].concat()
}

/// A key with fixed bytes: Ed25519 signs without randomness.
fn fixed_key() -> LeafKey {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([5; 32]);
    LeafKey::from_pkcs8(pkcs8.into()).unwrap()
}

/// Messages of one pairing with fixed dice, whole and damaged.
fn network_seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let scene = fuzz_pairing::scene();
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    let mut whole_and_damaged = |name: &str, bytes: &[u8]| {
        let mut flipped = bytes.to_vec();
        flipped[bytes.len() / 2] ^= 1;
        seeds.push((format!("{name}-flipped"), flipped));
        seeds.push((format!("{name}-torn"), bytes[..bytes.len() - 3].to_vec()));
        seeds.push((name.to_owned(), bytes.to_vec()));
    };
    let key = fixed_key();
    match target {
        "pairing_hello" => whole_and_damaged("hello", &scene.hello),
        "pairing_finish" => whole_and_damaged("proof", &scene.proof),
        "pairing_answer" => whole_and_damaged("answer", &scene.answer),
        "csr" => whole_and_damaged("ed25519", &key.request().unwrap()),
        "leaf" => {
            let authority = Authority::new(key.expose_pkcs8(), ledger_id(), 1).unwrap();
            let (from, to) = (Timestamp::from_millis(1_800_000_000_000), Timestamp::from_millis(1_800_086_400_000));
            let public = key.public().unwrap();
            let serial = Serial::new(7, [8; 8]);
            let device = authority.device_leaf(DeviceId::from_bytes([4; 16]), &public, serial, (from, to)).unwrap();
            let names = ["localhost".parse().unwrap(), "127.0.0.1".parse().unwrap()];
            whole_and_damaged("device", &device);
            whole_and_damaged("server", &authority.server_leaf(&names, &public, serial, (from, to)).unwrap());
        }
        _ => {
            let hello = HelloMessage {
                version: 1,
                locator: "bcdf".to_owned(),
                device: DeviceId::from_bytes([4; 16]),
                kind: ClientKind::Node,
                name: "box".to_owned(),
                public_key: Der::new(key.public().unwrap().der()),
                proof: Base64(scene.hello.clone()),
            };
            let proof = Base64(scene.proof.clone());
            let request = Base64(key.request().unwrap());
            let finish = FinishMessage { session: "00".repeat(16), proof, request: request.clone() };
            whole_and_damaged("hello", &serde_json::to_vec(&hello).unwrap());
            whole_and_damaged("finish", &serde_json::to_vec(&finish).unwrap());
            whole_and_damaged("poll", br#"{"request":"0123456789abcdef"}"#);
            whole_and_damaged("renew", &serde_json::to_vec(&RenewMessage { request }).unwrap());
        }
    }
    seeds
}

/// A profile with tokens, as the registry has it.
const OAUTH_PROFILE: &str = r#"version = 1

[[profiles]]
profile_id = "a"
profile_name = "A \u00fc"
enabled = false
created_at_unix_ms = 1
updated_at_unix_ms = 2

[profiles.provider]
kind = "custom"
custom_name = "corp"

[profiles.scope]
kind = "agent"
agent_id = "b"

[profiles.credential]
type = "oauth"
access_token_vault_ref = "global/a/access"
refresh_token_vault_ref = "global/a/refresh"
client_secret_vault_ref = "global/a/secret"
token_endpoint = "https://a.example/t"
revocation_endpoint = "https://a.example/r"
client_id = "id"
scopes = ["read", "write"]
expires_at_unix_ms = 1790000000000

[profiles.credential.refresh_state]
failure_count = 3
last_success_unix_ms = 4
next_allowed_refresh_unix_ms = 5
last_error = "x"
"#;

/// What becomes of the profiles of [`fuzz_auth::PROFILES`], as the runtime document has it.
const RECORD: &str = r#"version = 1

[[records]]
profile_id = "key"
provider = "openai"
scope = "global"
credential_type = "api_key"
last_used_unix_ms = 1
last_success_unix_ms = 1
last_failure_unix_ms = 1
last_failure_kind = "quota"
failure_count = 0
token_expiry_state = "static"
eligibility = "cooling_down"
created_at_unix_ms = 1
updated_at_unix_ms = 1

[records.doctor_hint]
code = "quota"
severity = "warning"
message = "wait"

[[profile_orders]]
scope = "global"
provider = "openai"
profile_ids = ["key", "second"]
updated_at_unix_ms = 1
"#;

/// Documents, answers and URLs of service credentials.
fn auth_seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| seeds.push((name.to_owned(), bytes));
    match target {
        "auth_profiles" => {
            add("empty", b"version = 1\n".to_vec());
            add("keys", fuzz_auth::PROFILES.as_bytes().to_vec());
            add("oauth", OAUTH_PROFILE.as_bytes().to_vec());
            add("same-id", [fuzz_auth::PROFILES, &fuzz_auth::PROFILES["version = 1\n".len()..]].concat().into_bytes());
            add("version", b"version = 2\n".to_vec());
            add("head", format!("# palyra-ledger: event 7, state root 00\n{OAUTH_PROFILE}").into_bytes());
            add("last-time", OAUTH_PROFILE.replace("1790000000000", "9223372036854775807").into_bytes());
            add("text-for-number", OAUTH_PROFILE.replace("1790000000000", "\"soon\"").into_bytes());
            add("unknown-key", OAUTH_PROFILE.replace("enabled", "enabeld").into_bytes());
            add("inside", OAUTH_PROFILE.replace("https://a.example/t", "http://10.0.0.1/t").into_bytes());
            add("same-place", OAUTH_PROFILE.replace("global/a/refresh", "global/a/access").into_bytes());
        }
        "auth_runtime" => {
            add("empty", b"version = 1\n".to_vec());
            add("record", RECORD.as_bytes().to_vec());
            add("order-twice", RECORD.replace("\"second\"", "\"key\"").into_bytes());
            add("order-of-nobody", RECORD.replace("\"second\"", "\"nobody\"").into_bytes());
            add("no-reset", RECORD.replace("failure_count = 0", "failure_count = 7").into_bytes());
            add("agent", RECORD.replace("scope = \"global\"", "scope = \"agent:a\"").into_bytes());
            add("text-for-number", RECORD.replace("failure_count = 0", "failure_count = \"0\"").into_bytes());
        }
        "token_answer" => {
            let answer = |status: u16, header: &str, body: &str| {
                [&status.to_le_bytes()[..], &[u8::try_from(header.len()).unwrap()], header.as_bytes(), body.as_bytes()]
                    .concat()
            };
            let good = r#"{"access_token":"abcdefghijklmnopqrstuvwxyz012345","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"a b"}"#;
            add("good", answer(200, "", good));
            add("text-expiry", answer(200, "", r#"{"access_token":"a","expires_in":"60"}"#));
            add("float-expiry", answer(200, "", r#"{"access_token":"a","expires_in":1.5e3}"#));
            add("error-in-200", answer(200, "", r#"{"error":"invalid_grant","error_description":"x"}"#));
            add("error-object", answer(200, "", r#"{"error":{"code":"invalid_grant","message":"x"}}"#));
            add("grant", answer(400, "", r#"{"error":"invalid_grant"}"#));
            add("client", answer(401, "", r#"{"error":"invalid_client"}"#));
            add("pending", answer(400, "", r#"{"error":"authorization_pending"}"#));
            add("slow", answer(429, "120", ""));
            add("slow-date", answer(429, "Sun, 06 Nov 2044 08:49:37 GMT", "<html>"));
            add("later", answer(503, "9", "{}"));
            add("moved", answer(302, "", ""));
            add("html", answer(200, "", "<!doctype html><title>Welcome to nginx</title>"));
            add("not-utf-8", [answer(200, "", "{\"access_token\":\""), b"\xff\"}".to_vec()].concat());
        }
        _ => {
            for (name, url, address) in [
                ("https", "https://auth.example/oauth/token", &[8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..]),
                ("inside", "https://auth.example/", &[10, 0, 0, 1]),
                ("metadata", "https://auth.example/", &[169, 254, 169, 254]),
                ("mapped", "https://auth.example/", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 127, 0, 0, 1]),
                ("nat64", "http://localhost/", &[0, 0x64, 0xFF, 0x9B, 0, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1]),
                ("loopback", "http://127.0.0.1:8080/t", &[127, 0, 0, 1]),
                ("loopback-6", "http://[::1]:8080/t", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
                ("carried", "http://[64:ff9b::7f00:1]/", &[]),
                ("decimal", "https://2130706433/", &[]),
                ("hex", "https://0x7f.1/", &[]),
                ("octal", "https://0177.0.0.1:1/", &[]),
                ("user", "https://a:b@auth.example/", &[]),
                ("query", "https://auth.example/?a=b#c", &[]),
                ("zone", "https://[fe80::1%25eth0]/", &[]),
                ("upper", "HTTPS://AUTH.EXAMPLE./T%41/../x", &[]),
                ("slashes", "https:\\\\auth.example\\x", &[]),
                ("letters", "https://\u{fc}ber.example/\u{20ac}", &[]),
                ("long", &*format!("https://a.example/{}", "\u{20ac}".repeat(600)), &[]),
            ] {
                add(name, [url.as_bytes(), b"\n", address].concat());
            }
        }
    }
    seeds
}

/// What programs are given.
fn program_seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let texts: &[(&str, &[u8])] = match target {
        "template" => &[
            ("reference", b"key = {{ palyra://global/api_key?field=token }}\n"),
            ("every-source", b"{{env://HOME}}{{ file:///etc/x }}\t{{exec:///bin/x?arg=a&arg=%7D%7D}}"),
            ("escaped", b"{{{{ .Values.x }} {{{{{{palyra://global/a}}}}"),
            ("unclosed", b"a\nb {{ palyra://global/a\n}}"),
            ("no-reference", b"{{ hunter2 }}"),
            ("bytes", b"\xff{{ palyra://global/a?required=false }}\0\r\n"),
        ],
        "import_pass" => &[
            ("two", b"web/mail.gpg\nhunter2\nuser: a\n\0bank.gpg\n0000\r\n"),
            ("foreign", b".gpg-id\nkey\0.git/config\n\0readme\nx\0a.gpg/b.gpg\n\0a.gpg\nx"),
            ("names", b"A.gpg\n\0a.gpg\n\0a b.gpg\n\0\xff.gpg\nx\0=x.gpg\n\0\xe2\x80\xaex.gpg\n"),
            ("deep", b"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/x.gpg\nx"),
            ("refused", b"a.gpg\n7890123456\0b.gpg\n78"),
        ],
        _ => &[
            ("plain", b"# c\nA=b\nexport C = d e # f\r\n\n"),
            ("quoted", b"A='b # $c'\nB=\"x\\n\\\"y\\\\\" # c\nC=\"1\n2\"\n"),
            ("references", b"A=palyra://global/a\nB=\"palyra://global/b?version=2\"\nC='palyra://x'\n"),
            ("twice", b"A=1\nA=2\n"),
            ("unclosed", b"A=1\nB='x\n\n"),
            ("mark", b"\xef\xbb\xbfA=b"),
        ],
    };
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.to_vec())).collect()
}

/// Pieces of the store in `migrations/importer-fixtures`, and documents of their shapes.
fn import_seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let seed = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    match target {
        "import_identity" => vec![
            seed("sealed", include_bytes!("../migrations/importer-fixtures/palyra-store/identity/6964656e746974792f63612f73746174652e6a736f6e")),
            seed("sealed-short", b"IDS1\x01\x02"),
            seed("state", br#"{"generation":1,"paired_devices":{"01ARZ3NDEKTSV4RRFFQ69G5FA1":{"device_id":"01ARZ3NDEKTSV4RRFFQ69G5FA1","client_kind":"Cli","current_certificate":{"sequence":1,"certificate_pem":"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n","issued_at_unix_ms":5},"certificate_fingerprints":["00"]}},"revoked_devices":{"01ARZ3NDEKTSV4RRFFQ69G5FA2":{"device_id":"01ARZ3NDEKTSV4RRFFQ69G5FA2","reason":"lost","revoked_at_unix_ms":7}},"revoked_certificate_fingerprints":["abababababababababababababababababababababababababababababababab","x"]}"#),
            seed("ca", br#"{"certificate_pem":"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n","private_key_pem":"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n","sequence":4}"#),
        ],
        "import_vault" => vec![
            seed("list", include_bytes!("../migrations/importer-fixtures/palyra-store/vault/metadata.json")),
            seed("objects", br#"{"obj_00":[123,34,1],"obj_01":[]}"#),
            seed("envelope", br#"{"version":1,"algorithm":"chacha20_poly1305","aad_b64":"cGFseXJhLnZhdWx0LnYxfGdsb2JhbHxh","secret_nonce_b64":"AAAAAAAAAAAAAAAA","secret_ciphertext_b64":"AAAA","secret_mac_b64":"AAAAAAAAAAAAAAAAAAAAAA","dek_nonce_b64":"AAAAAAAAAAAAAAAA","dek_ciphertext_b64":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","dek_mac_b64":"AAAAAAAAAAAAAAAAAAAAAA"}"#),
        ],
        "import_credentials" => {
            let profiles = include_str!("../migrations/importer-fixtures/palyra-store/auth_profiles.toml");
            let runtime = include_str!("../migrations/importer-fixtures/palyra-store/auth_profile_runtime_state.toml");
            vec![seed("both", format!("{profiles}\n=====\n{runtime}").as_bytes()), seed("profiles", profiles.as_bytes())]
        }
        _ => vec![seed(
            "document",
            br#"{"format":"palyra-ledger export 1","ledger":"00","seq":4,"exported_at_ms":9,"secrets":[{"scope":"global","name":"a","description":"d","labels":{"k":"v"},"versions":[{"version":1,"value":"b25l","created_at_ms":1,"updated_at_ms":2,"expires_at_ms":3,"deleted":true}]}],"devices":[{}],"authorities":[],"profiles":[],"orders":[{"scope":"global","provider":"openai","profiles":["a"]}]}"#,
        )],
    }
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let [system, cli, library] = callers();
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| seeds.push((name.to_owned(), bytes));
    match target {
        "pairing_hello" | "pairing_finish" | "pairing_answer" | "csr" | "leaf" | "http_body" => {
            return network_seeds(target);
        }
        "auth_profiles" | "auth_runtime" | "token_answer" | "endpoint" => return auth_seeds(target),
        "template" | "env_file" | "import_env" | "import_pass" => return program_seeds(target),
        "import_identity" | "import_vault" | "import_credentials" | "import_json" => return import_seeds(target),
        "frame" => {
            let (first, hash) = sealed_frame(0, frame::genesis(ledger_id()), &put(&[]), &cli);
            let (second, _) = sealed_frame(1, hash, &events()[1], &system);
            add("header-alone", first[..frame::HEADER_LEN].to_vec());
            add("torn", first[..first.len() - 7].to_vec());
            add("pair", [&first[..], &second].concat());
            let mut flipped = first.clone();
            flipped[frame::HEADER_LEN + 4] ^= 1;
            add("flipped-body", flipped);
            add("whole", first);
        }
        "batch" => {
            let (first, hash) = sealed_frame(0, frame::genesis(ledger_id()), &put(&[]), &cli);
            let (second, _) = sealed_frame(1, hash, &events()[1], &system);
            let both = [&first[..], &second].concat();
            add("one", first.clone());
            add("written-ahead", [&both[..], &[0; 300]].concat());
            add("torn", both[..both.len() - 9].to_vec());
            add("twice", [&first[..], &first].concat());
            let mut damaged = both.clone();
            damaged[frame::HEADER_LEN + 4] ^= 1;
            add("damaged", damaged);
            add("two", both);
        }
        "inspect" | "carve" => {
            let (first, hash) = sealed_frame(0, frame::genesis(ledger_id()), &put(&[]), &cli);
            let (second, _) = sealed_frame(1, hash, &events()[1], &system);
            let prev = frame::genesis(ledger_id());
            let header = SegmentHeader { ledger_id: ledger_id(), first_seq: 0, prev }.encode();
            add("log", [&header[..], &first, &second].concat());
            add("gap", [&header[..], &second].concat());
            add("forked", [&first[..], &second, b"PLFR", &second[..200], &first].concat());
            add("torn", [&header[..], &first, &second[..second.len() - 9]].concat());
            // The first piece of a frame that sled's copy would split.
            let mut piece = vec![2];
            piece.extend_from_slice(&20_000_u32.to_le_bytes());
            let mut head = first[..frame::HEADER_LEN].to_vec();
            head[92..96].copy_from_slice(&(20_000_u32 - 208).to_le_bytes());
            add("piece", [&piece[..], &head].concat());
            if target == "inspect" {
                add("note", include_bytes!("vectors/checkpoint.note").to_vec());
            }
        }
        "bundle" => {
            let (first, hash) = sealed_frame(0, frame::genesis(ledger_id()), &put(&[]), &cli);
            let (second, _) = sealed_frame(1, hash, &events()[1], &system);
            for (name, covered) in [("unproven", 0), ("partly", 1), ("proven", 2)] {
                let bytes = bundle_of(&[&first, &second], covered);
                add(name, bytes.clone());
                // Without the digest: the target adds one, and what is made of this gets behind it.
                add(&format!("{name}-bare"), bytes[..bytes.len() - 32].to_vec());
            }
        }
        "backup" => {
            use palyra_ledger::backup::{BackupWriter, Record};
            use palyra_ledger::testing::fuzz_backup::{closing, header, key};
            let records = [
                Record::Table(0, vec![3; 160]),
                Record::Shredded(3, vec![1]),
                Record::Object(0, b"envelope".to_vec()),
                Record::Frames(b"frames".to_vec()),
                Record::Settings(b"[log]\n".to_vec()),
                Record::Closing(Box::new(closing())),
            ];
            let plain: Vec<u8> = records.iter().flat_map(Record::encode).collect();
            let mut sealed = Vec::new();
            let writer = BackupWriter::new(&mut sealed, &header(), &key()).unwrap();
            writer.finish_any(&plain, closing().to, closing().head).unwrap();
            add("sealed", sealed.clone());
            add("cut", sealed[..sealed.len() - 100].to_vec());
            add("header", header().encode());
            add("records", plain.clone());
            add("out-of-order", [records[3].encode(), records[0].encode(), records[5].encode()].concat());
            add("behind-the-end", [&plain[..], &records[4].encode()].concat());
        }
        "segment" => {
            let header = SegmentHeader { ledger_id: ledger_id(), first_seq: 9, prev: Hash([2; 32]) };
            let trailer = SegmentTrailer {
                ledger_id: ledger_id(),
                first_seq: 9,
                last_seq: 12,
                frames_len: 999,
                last_hash: Hash([3; 32]),
                digest: Hash([4; 32]),
            };
            add("header", header.encode().to_vec());
            add("trailer", trailer.encode().to_vec());
            add("file-name", file_name(9).into_bytes());
        }
        "checkpoint_note" => {
            let note = include_str!("vectors/checkpoint.note");
            add("whole", note.as_bytes().to_vec());
            add("two", format!("{note}\n{note}\n").into_bytes());
            add("torn", format!("{note}\n{}", &note[..note.len() - 20]).into_bytes());
            add("no-state", note.replace(&format!("state {}", "03".repeat(32)), "state none").into_bytes());
            let (_, line) = note.rsplit_once("\n\n").unwrap();
            add("witnessed", format!("{note}{}", line.replace("palyra-ledger/", "witness/")).into_bytes());
            add("leading-zero", note.replace("\n42\n", "\n042\n").into_bytes());
        }
        "head" => {
            let mut record = b"PLHD\x01\x00\x01\x00".to_vec();
            record.extend_from_slice(ledger_id().as_bytes());
            record.extend_from_slice(&7_u64.to_le_bytes());
            record.extend_from_slice(&41_u64.to_le_bytes());
            record.extend_from_slice(&[6; 32]);
            record.extend_from_slice(&1_790_000_000_000_u64.to_le_bytes());
            record.extend_from_slice(&42_u64.to_le_bytes());
            record.resize(128, 0);
            add("clean", record.clone());
            record[6] = 0;
            add("open", record);
        }
        "event_body" => {
            for (at, event) in events().iter().enumerate() {
                let caller = [&system, &cli, &library][at % 3];
                let body = event::encode(caller, event).unwrap();
                let version = if body.schema == 1 { String::new() } else { format!("-v{}", body.schema) };
                let name = format!("{at:02}-{}{version}", event.kind().name());
                add(&name, spooled(&body));
            }
            // Versions that are read and no longer written; those of kinds 15 and 32 stand among the older seeds.
            let device = event::v1::DeviceRevoked { device: DeviceId::from_bytes([8; 16]) };
            add("device_revoked-v1", older(78, &codec::encode(&(&cli, device)).unwrap()));
            let refreshed = event::v1::RefreshSucceeded {
                profile: "main".parse().unwrap(),
                generation: 2,
                expires_at: None,
                rotated: true,
            };
            add("refresh_succeeded-v1", older(102, &codec::encode(&(&system, refreshed)).unwrap()));
            let order = event::v1::ImportedOrder {
                scope: "global".parse().unwrap(),
                provider: "openai".parse().unwrap(),
                profiles: vec!["main".parse().unwrap()],
            };
            let imported = event::v1::CredentialsImported { profiles: Vec::new(), orders: vec![order] };
            add("credentials_imported-v1", older(108, &codec::encode(&(&cli, imported)).unwrap()));
        }
        "reference" => {
            for (name, text) in [
                ("global", "global/openai_api_key"),
                ("principal", "principal:alice@example.org/team/token"),
                ("channel", "channel:slack:T012AB/bot_token"),
                ("skill", "skill:mail~2/a=b+c"),
                ("scope", "channel:slack"),
                ("dots", "global/a/../b"),
                ("empty-part", "principal:/x"),
                ("not-ascii", "global/\u{fc}ber"),
                ("full-width", "global/\u{ff41}"),
                ("control", "global/a\u{0}b"),
                ("many-colons", "channel:a:b:c/x"),
            ] {
                add(name, text.as_bytes().to_vec());
            }
            add("long", format!("principal:{}/{}", "p".repeat(256), "n".repeat(128)).into_bytes());
            add("too-long", format!("principal:{}/{}", "p".repeat(257), "n".repeat(129)).into_bytes());
            add("not-utf-8", b"global/\xff\xfe".to_vec());
        }
        "sled_value" => {
            add("packed", sled_value(258, 0, &[1, 2, 0, 0, 0, b'a', b'b', 1, 0, 0, 0, b'c']));
            add("last-number", sled_value(u64::MAX, 0, &[1, 1, 0, 0, 0, b'a']));
            // The second and last part of a frame that is one byte too long for a single value.
            let chunk = u32::try_from(palyra_ledger::limits::SLED_VALUE_BYTES - 5).unwrap();
            let mut part = vec![2];
            part.extend_from_slice(&(chunk + 1).to_le_bytes());
            part.push(0x5a);
            add("second-part", sled_value(260, 1, &part));
            add("unknown-format", sled_value(1, 0, &[3]));
        }
        "spool" => {
            let read = events().into_iter().find(|event| event.kind().name() == "references_resolved").unwrap();
            let plain = spooled(&event::encode(&cli, &read).unwrap());
            // As the target's key and ledger seal it, so that it reads as a spool of one record.
            let opener = Opener::wrapping(&Key::from_bytes(&mut [1; 32]).subkey(labels::SPOOL));
            let sealed = seal_sealed(&opener, &[3; 24], &[2; 16], &plain);
            let mut record = u32::try_from(sealed.len()).unwrap().to_le_bytes().to_vec();
            record.extend(sealed);
            add("torn", [&record[..], &record[..40]].concat());
            add("record", record);
            add("plain", plain);
        }
        "keyring" => {
            let mut ring = b"PLKR\x01\x00\x00\x00".to_vec();
            ring.extend_from_slice(ledger_id().as_bytes());
            ring.extend_from_slice(&[1_u32.to_le_bytes(), 1_u32.to_le_bytes(), [3; 4]].concat());
            ring.extend_from_slice(&2_u16.to_le_bytes());
            for (id, kind, label) in [([3; 4], 1_u16, "first"), ([4; 4], 2, "desk")] {
                ring.extend_from_slice(&id);
                ring.extend_from_slice(&kind.to_le_bytes());
                ring.extend_from_slice(&1_790_000_000_000_u64.to_le_bytes());
                ring.extend_from_slice(&u16::try_from(label.len()).unwrap().to_le_bytes());
                ring.extend_from_slice(label.as_bytes());
                if kind == 2 {
                    ring.extend_from_slice(&[0x5a; 16]);
                    ring.extend_from_slice(&[65_536_u32, 3, 1].map(u32::to_le_bytes).concat());
                }
                ring.extend_from_slice(&[0x33; KEY_LEN + SEALED_OVERHEAD]);
            }
            ring.extend_from_slice(&120_u32.to_le_bytes());
            ring.extend_from_slice(&[0x44; 120]);
            assert!(KeyRing::parse(&ring).is_some(), "the seed is a key ring of this version");
            add("two-slots", ring.clone());
            ring[32] ^= 1;
            add("pinned-slot-missing", ring);
        }
        "key_table_slot" => {
            let with_check = |payload: &[u8]| {
                let place = [&1_u32.to_le_bytes()[..], &7_u64.to_le_bytes()].concat();
                let check = Hash::of(labels::SLOT_CHECK, &[&place, payload]);
                [payload, &check.0[..8]].concat()
            };
            let mut shredded = b"SHREDDED".to_vec();
            shredded.extend_from_slice(&99_u64.to_le_bytes());
            shredded.resize(72, 0);
            add("empty", vec![0; 80]);
            add("present", with_check(&[0x66; 72]));
            add("damaged", vec![0x66; 80]);
            add("shredded", with_check(&shredded));
        }
        "keyfile" => {
            let mut body = b"PLKF\x01\x00\x00\x00".to_vec();
            body.extend_from_slice(ledger_id().as_bytes());
            body.extend_from_slice(&[3; 4]);
            body.extend_from_slice(&1_u32.to_le_bytes());
            body.extend_from_slice(&[0x11; KEY_LEN]);
            let check = Hash::of(labels::KEY_FILE_CHECK, &[&body]);
            add("no-check", body.clone());
            body.extend_from_slice(&check.0[..8]);
            add("whole", body);
        }
        "secret_ref" => {
            for (name, text) in [
                (
                    "vault",
                    "palyra://channel:slack:T01/team/key?version=3&field=%2Fa%2F0&required=false&max_bytes=9&timeout_ms=8",
                ),
                ("words", "global/key?version=2"),
                ("env", "env://OPENAI_API_KEY?field=token"),
                ("file", "file:///run/a%20b/%C3%A9%2Bc"),
                ("exec", "exec:///usr/bin/op?arg=read&arg=op://Vault/item&arg=&arg=%26%3D%25&field=x"),
                (
                    "table-vault",
                    "source = \"vault\"\nscope = \"global\"\nname = \"a\"\nversion = 3\nfield = \"token\"\nrequired = false\nmax_bytes = 4096\ntimeout_ms = 2000\n",
                ),
                ("table-exec", "source = \"exec\"\nargv = [\"/usr/bin/x\", \"a\", \"\"]\n"),
                ("json-file", "{\"source\": \"file\", \"path\": \"/a b\", \"field\": \"/x~1y\"}"),
                ("json-text", "\"env://A\""),
                ("climbing", "file:///a/%2e%2e/b"),
                ("not-utf8", "env://A?field=%FF"),
                ("twice", "palyra://global/a?version=1&version=1"),
            ] {
                add(name, text.as_bytes().to_vec());
            }
        }
        "objects_file" => {
            let file = |slot: u64, envelope: &[u8]| {
                let digest = Hash::of(labels::ENVELOPE_DIGEST, &[envelope]);
                let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, envelope);
                let ledger = ledger_id();
                format!(
                    "{{\"version\":1,\"ledger\":\"{ledger}\",\"slot\":{slot},\"digest\":\"{digest}\",\"envelope\":\"{text}\"}}\n"
                )
                .into_bytes()
            };
            add("whole", file(7, &[0xee; 75]));
            add("other-slot", file(8, &[0xee; 75]));
            add("no-line-feed", file(7, &[0xee; 75]).into_iter().filter(|byte| *byte != b'\n').collect());
            let spaced = String::from_utf8(file(7, &[0xee; 75])).unwrap().replace(':', ": ");
            add("spaced", spaced.into_bytes());
        }
        "settings" => {
            add("empty", Vec::new());
            add("all", b"[audit]\nreads = \"strict\"\n\n[limits]\nmax_value_bytes = 1024\n\n[log]\nsegment_bytes = 65536\n\n[keys]\nepoch_max_age_days = 0\n".to_vec());
            add("typing-error", b"[audit]\nread = \"off\"\n".to_vec());
            add("out-of-bounds", b"[limits]\nmax_value_bytes = 0\n".to_vec());
            add("negative", b"[log]\nsegment_bytes = -1\n".to_vec());
            add("dotted", b"audit.reads = \"off\"\nkeys.epoch_max_age_days = 18446744073709551615\n".to_vec());
            add("largest", b"keys.epoch_max_age_days = 9223372036854775807\n".to_vec());
        }
        other => panic!("no seeds for {other}"),
    }
    seeds
}

#[test]
#[ignore = "writes the seed inputs into the source tree"]
fn write_seeds() {
    for (target, _) in TARGETS {
        let dir = corpus_dir(target);
        fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in seeds(target) {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

/// The seeds are the present format's: whoever changes the format makes them anew.
#[test]
fn the_checked_in_seeds_are_those_that_this_version_writes() {
    for (target, _) in TARGETS {
        for (name, bytes) in seeds(target) {
            let stored = fs::read(corpus_dir(target).join(&name)).unwrap_or_default();
            assert_eq!(stored, bytes, "{target}/{name}: run `write_seeds`");
        }
    }
}
