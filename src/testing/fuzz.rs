//! What each fuzz target checks: one function per thing that is parsed from untrusted bytes.
//!
//! The functions are the whole property. A binary below `fuzz/targets/` hands them what the fuzzer
//! makes up, and an ordinary test hands them every checked-in input and seeded mutations of it, so
//! that a finding stays found. Where a checksum would keep made-up bytes out, the function repairs
//! the checksum as well and goes on behind it.
//!
//! A panic in here is a finding.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::backend;
use crate::base::{LedgerId, ReferenceTable, Scope, ScopePrefix, SecretName, SecretPath, SecretRef};
use crate::crypto::{Hash, Key, Opener, labels, seal_sealed};
use crate::engine::{self, Settings};
use crate::event;
use crate::inspect::{self, verify_files};
use crate::keys;
use crate::log::Journal;
use crate::log::frame::{Frame, FrameError, HASH_LEN, HEADER_LEN, Header, genesis};
use crate::log::head;
use crate::log::segment::{self, SEGMENT_HEADER_LEN, SEGMENT_TRAILER_LEN, SegmentHeader, SegmentTrailer};
use crate::store::{self, Medium};
use crate::testing::SimDisk;

pub use super::fuzz_auth::{auth_profiles, auth_runtime, endpoint, token_answer};
pub use super::fuzz_backup::backup;
pub use super::fuzz_import::{import_credentials, import_env, import_identity, import_json, import_pass, import_vault};
pub use super::fuzz_pairing::{csr, http_body, leaf, pairing_answer, pairing_finish, pairing_hello};
pub use super::fuzz_programs::{env_file, template};

/// A target's property: panics where it does not hold.
pub type Property = fn(&[u8]);

/// Every target: its name, which is also its folder below `fuzz/corpus`, and its property.
pub const TARGETS: &[(&str, Property)] = &[
    ("frame", frame),
    ("batch", batch),
    ("segment", segment),
    ("head", head),
    ("checkpoint_note", checkpoint_note),
    ("event_body", event_body),
    ("reference", reference),
    ("secret_ref", secret_ref),
    ("spool", spool),
    ("keyring", keyring),
    ("key_table_slot", key_table_slot),
    ("keyfile", keyfile),
    ("objects_file", objects_file),
    ("settings", settings),
    ("sled_value", sled_value),
    ("pairing_hello", pairing_hello),
    ("pairing_finish", pairing_finish),
    ("pairing_answer", pairing_answer),
    ("csr", csr),
    ("leaf", leaf),
    ("http_body", http_body),
    ("auth_profiles", auth_profiles),
    ("auth_runtime", auth_runtime),
    ("token_answer", token_answer),
    ("endpoint", endpoint),
    ("template", template),
    ("env_file", env_file),
    ("import_identity", import_identity),
    ("import_vault", import_vault),
    ("import_credentials", import_credentials),
    ("import_json", import_json),
    ("import_env", import_env),
    ("import_pass", import_pass),
    ("inspect", inspect),
    ("carve", carve),
    ("bundle", bundle),
    ("backup", backup),
];

/// The opener that the frames of the seed corpus are sealed with.
#[must_use]
pub fn frame_opener() -> &'static Opener {
    static OPENER: OnceLock<Opener> = OnceLock::new();
    OPENER.get_or_init(|| Opener::new(&Key::from_bytes(&mut [1; 32]), labels::EPOCH_SEAL, labels::EPOCH_COMMIT))
}

/// Frames: what parses has one encoding, and opening a body never panics.
///
/// # Panics
/// Where the property does not hold.
pub fn frame(bytes: &[u8]) {
    let header = Header::parse(bytes);
    if let Ok(header) = &header {
        assert_eq!(bytes.get(..HEADER_LEN), Some(&header.encode()[..]), "a header has one encoding");
    }
    match Frame::parse(bytes) {
        Ok(frame) => {
            check_frame(&frame, bytes);
        }
        Err(FrameError::Hash) => {
            // A frame whose hash an attacker has recomputed.
            let Ok(header) = header else { return };
            let mut forged = bytes.get(..header.frame_len() - HASH_LEN).unwrap_or_default().to_vec();
            let hash = Hash::of(labels::FRAME_HASH, &[&forged]);
            forged.extend_from_slice(&hash.0);
            let frame = Frame::parse(&forged);
            assert!(frame.is_ok(), "a frame with the right hash parses: {frame:?}");
            if let Ok(frame) = &frame {
                check_frame(frame, &forged);
            }
        }
        Err(_) => {}
    }
}

fn check_frame(frame: &Frame<'_>, source: &[u8]) {
    let bytes = frame.bytes();
    assert_eq!(bytes.len(), frame.header.frame_len());
    assert_eq!(source.get(..bytes.len()), Some(bytes));
    assert_eq!(bytes.last_chunk(), Some(&frame.hash.0));
    assert_eq!(Frame::parse(bytes).as_ref(), Ok(frame), "what follows a frame does not change it");
    if let Ok(plain) = frame.open(frame_opener()) {
        assert_eq!(plain.len(), frame.header.body_len as usize);
    }
}

/// The bytes behind a segment's header: opening drops a torn end, names damage or refuses, and what it
/// takes for the end is whole when it is opened again. Verification without keys never panics.
///
/// # Panics
/// Where the property does not hold.
pub fn batch(bytes: &[u8]) {
    // The ledger of the seeds.
    let ledger_id = LedgerId::from_bytes([0x1d; 16]);
    let (home, dir) = (Path::new("/home"), Path::new("/home/journal"));
    let disk = SimDisk::new();
    let header = SegmentHeader { ledger_id, first_seq: 0, prev: genesis(ledger_id) };
    let file = [&header.encode()[..], bytes].concat();
    if disk.put(&dir.join(segment::file_name(0)), &file).is_err() {
        return;
    }
    let report = verify_files(&disk, home, None);
    assert!(report.is_ok(), "damage is a finding and no error: {report:?}");
    let medium: Arc<dyn Medium> = Arc::new(disk);
    let open = || Journal::open(Arc::clone(&medium), dir, home, ledger_id, 1 << 20, None, true);
    let Ok((journal, tail)) = open() else { return };
    if let Some(torn) = &tail.torn {
        assert!(journal.drop_torn(torn, None).is_ok());
        let again = open();
        assert!(again.is_ok_and(|(_, again)| again.torn.is_none() && again.last == tail.last));
    }
    let read = journal.read_range(0, u64::MAX, &mut |_| ControlFlow::Continue(()));
    let events = tail.last.map_or(0, |last| last.seq + 1);
    assert_eq!(read.ok(), Some(events));
    let later = journal.read_range(events / 2, u64::MAX, &mut |_| ControlFlow::Continue(()));
    assert_eq!(later.ok(), Some(events - events / 2));
    let Some(last) = tail.last.map(|last| last.seq) else { return };
    // By headers alone: from anywhere, what is looked for is found, the ends among it, and nothing beyond them is.
    for (from, to) in [(0, last), (0, last / 2), (events / 2, last), (last, last)] {
        let find = |wanted: &dyn Fn(&Header) -> bool| {
            journal.find(from, to, wanted).ok().map(|found| found.map(|header| header.seq))
        };
        for seq in [from, to] {
            assert_eq!(find(&|header| header.seq == seq), Some(Some(seq)));
        }
        assert_eq!(find(&|header| header.seq < from || header.seq > to), Some(None));
    }
}

/// Bytes as a file of evidence: it is said what they are, and as a segment they are walked over; a verdict comes
/// of it, and never a panic.
///
/// # Panics
/// Where the property does not hold.
pub fn inspect(bytes: &[u8]) {
    let _ = inspect::what::bytes(bytes);
    let _ = inspect::what::frame_of(bytes);
    let _ = inspect::read_notes("note", inspect::Kept::Elsewhere, bytes, None);
    let (disk, path) = (SimDisk::new(), Path::new("/home/journal").join(segment::file_name(0)));
    if disk.put(&path, bytes).is_err() {
        return;
    }
    let course = inspect::Course { segments: vec![(0, path)], part: true, ..inspect::Course::default() };
    let mut shown = 0_u64;
    let assessment = inspect::assess(&disk, &course, &[], false, &mut |frame, site| {
        let at = usize::try_from(site.offset).unwrap_or(usize::MAX);
        assert!(
            bytes.get(at..).is_some_and(|rest| rest.starts_with(frame.bytes())),
            "a frame stands where it is said to"
        );
        shown += 1;
    });
    assert_eq!(assessment.report().events, shown);
    // Nobody kept an anchor, so nothing may be called clean.
    assert_ne!(assessment.verdict().exit_code(), 0);
}

/// Bytes as an image: what is carved lies where it is said to lie, and every frame gets one place.
///
/// # Panics
/// Where the property does not hold.
pub fn carve(bytes: &[u8]) {
    inspect::carve::fuzz_carve(bytes);
}

/// Evidence bundles: what parses has one encoding, and judging it never fails. The digest is repaired.
///
/// # Panics
/// Where the property does not hold.
pub fn bundle(bytes: &[u8]) {
    inspect::bundle::fuzz_bundle(bytes);
}

/// Segment headers, trailers and file names: what parses has one encoding.
///
/// # Panics
/// Where the property does not hold.
pub fn segment(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_LEN>() {
        for bytes in [*bytes, with_check(*bytes, 96)] {
            if let Ok(header) = SegmentHeader::parse(&bytes) {
                assert_eq!(header.encode(), bytes);
            }
        }
    }
    if let Some(bytes) = bytes.first_chunk::<SEGMENT_TRAILER_LEN>() {
        for bytes in [*bytes, with_check(*bytes, 112)] {
            if let Ok(trailer) = SegmentTrailer::parse(&bytes) {
                assert_eq!(trailer.encode(), bytes);
            }
        }
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some(first) = segment::parse_file_name(name)
    {
        assert_eq!(segment::file_name(first), name);
    }
}

fn with_check(mut bytes: [u8; SEGMENT_HEADER_LEN], at: usize) -> [u8; SEGMENT_HEADER_LEN] {
    let (covered, check) = bytes.split_at_mut(at);
    let hash = Hash::of(labels::SEGMENT_HEADER, &[covered]);
    check.iter_mut().zip(hash.0).for_each(|(place, byte)| *place = byte);
    bytes
}

/// Records of the head file: what parses has one encoding.
///
/// # Panics
/// Where the property does not hold.
pub fn head(bytes: &[u8]) {
    head::fuzz_record(bytes);
}

/// Signed checkpoints and files of them: what parses has one encoding, and no byte is lost between notes.
///
/// # Panics
/// Where the property does not hold.
pub fn checkpoint_note(bytes: &[u8]) {
    crate::checkpoint::fuzz_note(bytes);
}

/// Event bodies, behind kind number and schema version as the read spool has them: what decodes has one encoding,
/// and what an older version becomes is a whole event of the present one.
///
/// # Panics
/// Where the property does not hold.
pub fn event_body(bytes: &[u8]) {
    let Some((kind, schema, body)) = engine::unspooled(bytes) else { return };
    let Ok((caller, event)) = event::decode(kind, schema, body) else { return };
    assert_eq!(event.kind().number(), kind);
    assert!(event::check_known(kind, schema).is_ok());
    let Ok(again) = event::encode(&caller, &event) else { return };
    assert_eq!((again.kind, again.schema), (kind, event.kind().schema()));
    if again.schema == schema {
        assert_eq!(again.plain, body, "an event has one encoding");
    }
    // What an older version becomes is an event like others: it is written and read as itself.
    assert_eq!(event::decode(again.kind, again.schema, &again.plain).ok(), Some((caller, event.clone())));
    let _ = event.secret_refs();
}

/// References to secrets in each of their forms: what parses prints as one text, and reads back as itself from
/// every form.
///
/// # Panics
/// Where the property does not hold.
pub fn secret_ref(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = [
        text.parse().ok(),
        SecretRef::from_words(text).ok(),
        toml::from_str::<SecretRef>(text).ok(),
        serde_json::from_str::<SecretRef>(text).ok(),
    ];
    for reference in read.into_iter().flatten() {
        let printed = reference.to_string();
        assert_eq!(printed.parse().as_ref(), Ok(&reference));
        let table = ReferenceTable::from(&reference);
        let toml = toml::to_string(&table).unwrap_or_default();
        assert_eq!(toml::from_str::<SecretRef>(&toml).as_ref().ok(), Some(&reference));
        let json = serde_json::to_string(&table).unwrap_or_default();
        assert_eq!(serde_json::from_str::<SecretRef>(&json).as_ref().ok(), Some(&reference));
        assert!(reference.redacted().len() < printed.len(), "what is shown is the smaller part");
    }
}

/// References, scopes, prefixes of scopes and names: what parses is its own text.
///
/// # Panics
/// Where the property does not hold.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.as_str(), text);
        assert!(scope.is_within(&ScopePrefix::all()) && scope.is_within(&ScopePrefix::from(&scope)));
    }
    if let Ok(prefix) = text.parse::<ScopePrefix>() {
        assert_eq!(prefix.as_str(), text);
        // A name that continues the last segment is another scope's, not one below the prefix.
        if let Ok(neighbour) = format!("{text}x").parse::<Scope>() {
            assert!(!neighbour.is_within(&prefix), "{neighbour} is not below {text}");
        }
    }
    if let Ok(name) = text.parse::<SecretName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(reference) = text.parse::<SecretPath>() {
        assert_eq!(reference.to_string(), text);
        assert_eq!(format!("{}/{}", reference.scope, reference.name), text);
    }
}

/// Values of the sled log, behind the ten bytes of their key: what parses packs to the same bytes.
///
/// # Panics
/// Where the property does not hold.
pub fn sled_value(bytes: &[u8]) {
    store::fuzz_sled_value(bytes);
}

/// The read spool: once as it is, once sealed as a reader with the ledger's keys would have.
pub fn spool(bytes: &[u8]) {
    engine::fuzz_spool(bytes);
    let opener = Opener::wrapping(&Key::from_bytes(&mut [1; 32]).subkey(labels::SPOOL));
    let sealed = seal_sealed(&opener, &[3; 24], LedgerId::from_bytes([2; 16]).as_bytes(), bytes);
    let mut record = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    record.extend(sealed);
    record.extend_from_slice(bytes);
    engine::fuzz_spool(&record);
}

/// The key ring: what parses has one encoding.
pub fn keyring(bytes: &[u8]) {
    keys::fuzz_ring(bytes);
}

/// One slot of the key table: once as it is, once with its check repaired.
pub fn key_table_slot(bytes: &[u8]) {
    keys::fuzz_table_slot(bytes);
    let place = [&1_u32.to_le_bytes()[..], &7_u64.to_le_bytes()].concat();
    keys::fuzz_table_slot(&with_short_check(labels::SLOT_CHECK, &place, bytes));
}

/// The file of a `file` slot: once as it is, once with its check repaired.
pub fn keyfile(bytes: &[u8]) {
    keys::fuzz_key_file(bytes);
    keys::fuzz_key_file(&with_short_check(labels::KEY_FILE_CHECK, &[], bytes));
}

/// A file of an `encrypted_file` object: what parses has one encoding.
pub fn objects_file(bytes: &[u8]) {
    backend::fuzz_object(bytes);
}

/// The same bytes with the last eight replaced by the check of what stands before them.
fn with_short_check(label: &str, place: &[u8], bytes: &[u8]) -> Vec<u8> {
    let covered = bytes.get(..bytes.len().saturating_sub(8)).unwrap_or_default();
    let check = Hash::of(label, &[place, covered]);
    covered.iter().chain(check.0.iter().take(8)).copied().collect()
}

/// `config.toml`: what parses lies within its bounds and means the same when written out.
///
/// # Panics
/// Where the property does not hold.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(settings) = Settings::parse(text) else { return };
    let written = toml::to_string(&settings);
    assert!(written.is_ok(), "settings can be written: {written:?}");
    let again = Settings::parse(&written.unwrap_or_default());
    assert!(again.as_ref().is_ok_and(|again| *again == settings), "{again:?} is not {settings:?}");
}
