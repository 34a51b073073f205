//! Small logs to tamper with: their frames taken apart and laid down again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::checkpoint::{self, Checkpoint, SignedCheckpoint, VerifierKey, tree};
use palyra_ledger::crypto::{Hash, labels};
use palyra_ledger::examine::{Asked, Keys, verify};
use palyra_ledger::inspect::{Anchor, Assessment, Course, Kept};
use palyra_ledger::keys;
use palyra_ledger::log::Frame;
use palyra_ledger::log::frame::HASH_LEN;
use palyra_ledger::log::segment::{SegmentHeader, file_name};
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    ArgonCost, Config, Credential, Ledger, NewSlot, PutOptions, Scope, SecretBytes, Settings, Timestamp,
};

pub const HOME: &str = "/home";

/// Opens a ledger on a simulated disk; every seed is another ledger or another course of one.
pub fn config(disk: &SimDisk, seed: u64, clock: &ManualClock) -> Config {
    let mut settings = Settings::default();
    settings.log.segment_bytes = 4 * 1024;
    Config::new(HOME)
        .medium(Arc::new(disk.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings)
}

pub fn put(ledger: &Ledger, name: &str, bytes: usize) {
    let value = SecretBytes::new(vec![7; bytes]);
    ledger.vault(Scope::global()).put(&name.parse().unwrap(), &value, PutOptions::new()).unwrap();
}

/// A closed ledger with this many secrets, in several segments.
pub fn ledger(seed: u64, clock: &ManualClock, secrets: usize) -> SimDisk {
    let disk = SimDisk::new();
    let ledger = Ledger::init(config(&disk, seed, clock), NewSlot::file("machine")).unwrap();
    for number in 0..secrets {
        clock.advance(1_000);
        put(&ledger, &format!("secret{number}"), 200);
    }
    ledger.close().unwrap();
    disk.settle();
    disk
}

/// Opens it again and goes on.
pub fn go_on(disk: &SimDisk, seed: u64, clock: &ManualClock, names: &[&str]) {
    let ledger = Ledger::open(config(disk, seed, clock)).unwrap();
    for name in names {
        clock.advance(1_000);
        put(&ledger, name, 200);
    }
    ledger.close().unwrap();
    disk.settle();
}

pub fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.starts_with("/home/journal")).collect()
}

/// Every frame of a log, in order: file, offset and bytes.
pub fn frames(disk: &SimDisk) -> Vec<(PathBuf, usize, Vec<u8>)> {
    let mut found = Vec::new();
    for path in segments(disk) {
        let bytes = disk.contents(&path).unwrap();
        let mut at = 128;
        while let Ok(frame) = Frame::parse(&bytes[at..]) {
            found.push((path.clone(), at, frame.bytes().to_vec()));
            at += frame.bytes().len();
        }
    }
    found
}

pub fn frame_bytes(disk: &SimDisk) -> Vec<Vec<u8>> {
    frames(disk).into_iter().map(|(_, _, bytes)| bytes).collect()
}

/// A copy whose journal is one segment with these frames.
pub fn laid_down(disk: &SimDisk, frames: &[Vec<u8>]) -> SimDisk {
    let copy = disk.snapshot();
    let first = Frame::parse(&frame_bytes(disk)[0]).unwrap().header;
    for path in segments(&copy) {
        Medium::remove(&copy, &path).unwrap();
    }
    let header = SegmentHeader { ledger_id: first.ledger_id, first_seq: 0, prev: first.prev };
    let mut bytes = header.encode().to_vec();
    bytes.extend(frames.iter().flatten());
    copy.put(&Path::new("/home/journal").join(file_name(0)), &bytes).unwrap();
    copy
}

/// Recomputes the hash of a frame after its bytes were changed, as anybody can.
pub fn rehash(frame: &mut Vec<u8>) -> Hash {
    let covered = frame.len() - HASH_LEN;
    let hash = Hash::of(labels::FRAME_HASH, &[&frame[..covered]]);
    frame.truncate(covered);
    frame.extend_from_slice(&hash.0);
    hash
}

/// Chains frames anew from the given one on, as a forger without keys would.
pub fn rechain(frames: &mut [Vec<u8>], from: usize) {
    let mut prev = rehash(&mut frames[from]);
    for frame in &mut frames[from + 1..] {
        frame[32..64].copy_from_slice(&prev.0);
        prev = rehash(frame);
    }
}

/// The keys of a simulated home.
pub fn keys_of(disk: &SimDisk) -> Keys {
    Keys::open(disk, Path::new("/home/keys"), None, &Credential::None).unwrap()
}

/// The public key of a simulated home, and a checkpoint of its first `size` events.
pub fn checkpoint_of(disk: &SimDisk, size: usize) -> (VerifierKey, SignedCheckpoint) {
    let dir = Path::new("/home/keys");
    let ring = keys::read(disk, dir).unwrap().0.unwrap();
    let unlocked = ring.unlock(disk, dir, None, &Credential::None).unwrap();
    let key = checkpoint::signing_key(unlocked.ledger_key()).unwrap();
    let mut frontier = checkpoint::Frontier::default();
    let mut head = Hash([0; 32]);
    for bytes in frame_bytes(disk).iter().take(size) {
        head = Frame::parse(bytes).unwrap().hash;
        frontier.push(tree::leaf(&head));
    }
    let signed = Checkpoint {
        ledger_id: ring.ledger_id(),
        size: size as u64,
        root: frontier.root(),
        head,
        state: None,
        time: Timestamp::from_millis(1_767_225_600_000),
        branch: 0,
        key: key.public(),
    };
    (checkpoint::verifier(ring.ledger_id(), key.public()), SignedCheckpoint::sign(signed, &key).unwrap())
}

pub fn anchor(signed: &SignedCheckpoint) -> Anchor {
    Anchor { source: "anchor".to_owned(), kept: Kept::Elsewhere, signed: signed.clone() }
}

/// Level of an examination.
#[derive(Debug, Clone, Copy)]
pub enum Level<'a> {
    NoKey,
    PublicKey(&'a VerifierKey, &'a SignedCheckpoint),
    AllKeys(&'a Keys),
}

pub fn examined(disk: &SimDisk, level: Level<'_>) -> Assessment {
    let course = Course::of_home(disk, Path::new(HOME)).unwrap();
    let keys_from: Option<(&dyn Medium, &Path)> = Some((disk, Path::new("/home/keys")));
    let kept;
    let asked = match level {
        Level::NoKey => Asked { keys_from, ..Asked::default() },
        Level::PublicKey(key, signed) => {
            kept = [anchor(signed)];
            Asked { keys_from, anchors: &kept, public_key: Some(key), ..Asked::default() }
        }
        Level::AllKeys(keys) => Asked { keys_from, keys: Some(keys), ..Asked::default() },
    };
    verify(disk, &course, &asked, &mut |_, _| {})
}

/// The verdicts at the three levels: without keys, with a public key and an anchor of the whole untampered log,
/// with all keys.
pub fn verdicts(disk: &SimDisk, whole: &SimDisk) -> [String; 3] {
    let (key, signed) = checkpoint_of(whole, frame_bytes(whole).len());
    let keys = keys_of(whole);
    [Level::NoKey, Level::PublicKey(&key, &signed), Level::AllKeys(&keys)]
        .map(|level| examined(disk, level).verdict().to_string())
}
