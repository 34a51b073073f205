//! Evidence bundles: what proves, what does not, and that no byte of one can be changed.

use palyra_ledger::Entry;
use palyra_ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use palyra_ledger::crypto::{Hash, Key, SigningKey, labels};
use palyra_ledger::inspect::bundle::{BuildError, Builder, Bundle, BundleError, Fault, Standing, Trust};
use palyra_ledger::log::Frame;
use palyra_ledger::testing::{ManualClock, SimDisk};
use proptest::prelude::*;

use super::log::{checkpoint_of, frame_bytes, keys_of, ledger, rechain};

fn build(
    frames: &[Vec<u8>],
    checkpoint: Option<SignedCheckpoint>,
    newer: Option<SignedCheckpoint>,
    chosen: &[u64],
) -> Result<Bundle, BuildError> {
    let mut builder = Builder::new(checkpoint, newer)?;
    for bytes in frames {
        let frame = Frame::parse(bytes).unwrap();
        builder.push(&frame, chosen.contains(&frame.header.seq), None);
    }
    builder.finish("test", "events")
}

fn made(disk: &SimDisk, size: usize, chosen: &[u64]) -> Bundle {
    build(&frame_bytes(disk), Some(checkpoint_of(disk, size).1), None, chosen).unwrap()
}

fn anchor(signed: &SignedCheckpoint) -> Trust {
    Trust::Anchor(Box::new(signed.clone()))
}

#[test]
fn every_choice_under_every_checkpoint_is_proven_and_encodes_in_one_way() {
    let disk = ledger(1, &ManualClock::default(), 12);
    let frames = frame_bytes(&disk);
    for size in 1..=frames.len() {
        let (key, signed) = checkpoint_of(&disk, size);
        let all: Vec<u64> = (0..size as u64).collect();
        let some: Vec<u64> = all.iter().copied().filter(|seq| seq % 3 == 1 || *seq == 0).collect();
        for chosen in [all, some] {
            let bundle = build(&frames, Some(signed.clone()), None, &chosen).unwrap();
            let bytes = bundle.encode();
            let read = Bundle::parse(&bytes).unwrap();
            assert_eq!(read.encode(), bytes);
            assert_eq!(read.judge(&[Trust::Key(key.clone())]).standing, Standing::Proven, "{size} {chosen:?}");
            assert_eq!(read.judge(&[anchor(&signed)]).standing, Standing::Proven);
            let judged = read.judge(&[]);
            assert_eq!((judged.standing, judged.standing.exit_code()), (Standing::Unvouched, 17));
            let kept: Vec<Vec<u8>> = read.records.iter().map(|record| record.frame.clone()).collect();
            let wanted: Vec<Vec<u8>> = chosen.iter().map(|seq| frames[*seq as usize].clone()).collect();
            assert_eq!(kept, wanted, "byte for byte");
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let disk = ledger(1, &ManualClock::default(), 5);
    let (_, newer) = checkpoint_of(&disk, 6);
    let bytes = build(&frame_bytes(&disk), Some(checkpoint_of(&disk, 5).1), Some(newer), &[1, 4]).unwrap().encode();
    let trust = anchor(&checkpoint_of(&disk, 5).1);
    assert_eq!(Bundle::parse(&bytes).unwrap().judge(std::slice::from_ref(&trust)).standing, Standing::Proven);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(Bundle::parse(&changed).is_err(), "byte {at}");
        // A forger makes the digest anew: nothing in the clear text that claims something is signed for, the rest is.
        let covered = changed.len() - 32;
        let digest = Hash::of(labels::BUNDLE_DIGEST, &[&changed[..covered]]);
        changed[covered..].copy_from_slice(&digest.0);
        if changed == bytes {
            continue;
        }
        let claims = 24..24 + 2 + "test".len() + 2 + "events".len();
        if let Ok(bundle) = Bundle::parse(&changed) {
            let standing = bundle.judge(std::slice::from_ref(&trust)).standing;
            assert!(standing == Standing::Refused || claims.contains(&at), "byte {at}: {standing:?}");
        }
    }
    for length in 0..bytes.len() {
        assert!(Bundle::parse(&bytes[..length]).is_err(), "{length}");
    }
    assert!(Bundle::parse(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn proofs_do_not_move_between_events_and_bundles() {
    let disk = ledger(1, &ManualClock::default(), 9);
    let mut bundle = made(&disk, 8, &[2, 5]);
    let (first, second) = bundle.records.split_at_mut(1);
    std::mem::swap(&mut first[0].proof, &mut second[0].proof);
    assert_eq!(bundle.judge(&[]).faults, [Fault::Inclusion { seq: 2 }, Fault::Inclusion { seq: 5 }]);

    // The same events under another checkpoint of the same ledger need other proofs.
    let mut moved = made(&disk, 8, &[2, 5]);
    moved.checkpoint = Some(checkpoint_of(&disk, 7).1);
    assert_eq!(moved.judge(&[]).standing, Standing::Refused);
    assert!(Bundle::parse(&moved.encode()).is_err() || moved.judge(&[]).standing == Standing::Refused);
}

#[test]
fn another_ledgers_note_key_or_anchor_proves_nothing() {
    let clock = ManualClock::default();
    let (disk, other) = (ledger(1, &clock, 6), ledger(2, &clock, 6));
    let (other_key, other_note) = checkpoint_of(&other, 5);
    assert!(matches!(
        build(&frame_bytes(&disk), Some(other_note.clone()), None, &[1]),
        Err(BuildError::OtherLedger { .. })
    ));
    let mut bundle = made(&disk, 5, &[1]);
    assert_eq!(bundle.judge(&[Trust::Key(other_key)]).faults, [Fault::OtherLedger]);
    assert_eq!(bundle.judge(&[anchor(&other_note)]).faults, [Fault::OtherLedger]);
    bundle.checkpoint = Some(other_note);
    assert_eq!(bundle.judge(&[]).standing, Standing::Refused);
    assert!(matches!(Bundle::parse(&bundle.encode()), Err(BundleError::OtherLedger { .. })));
}

/// A checkpoint that says the same in the name of the same ledger, by a key that a forger made.
fn forged(signed: &SignedCheckpoint) -> SignedCheckpoint {
    let key = SigningKey::from_seed(&Key::from_slice(&[5; 32]).unwrap()).unwrap();
    SignedCheckpoint::sign(Checkpoint { key: key.public(), ..signed.checkpoint().clone() }, &key).unwrap()
}

#[test]
fn a_log_that_a_forger_signed_is_never_more_than_unvouched() {
    let disk = ledger(1, &ManualClock::default(), 6);
    let (key, signed) = checkpoint_of(&disk, 6);
    let bundle = build(&frame_bytes(&disk), Some(forged(&signed)), None, &[1, 3]).unwrap();
    assert_eq!(bundle.judge(&[]).standing, Standing::Unvouched);
    assert_eq!(bundle.judge(&[Trust::Key(key)]).faults, [Fault::OtherKey]);
    assert_eq!(bundle.judge(&[anchor(&signed)]).faults, [Fault::OtherKey]);
}

#[test]
fn what_is_behind_the_checkpoint_is_shown_as_unproven() {
    let disk = ledger(1, &ManualClock::default(), 6);
    let (key, _) = checkpoint_of(&disk, 4);
    let bundle = Bundle::parse(&made(&disk, 4, &[3, 5]).encode()).unwrap();
    let judged = bundle.judge(&[Trust::Key(key.clone())]);
    assert_eq!((judged.standing, judged.standing.exit_code()), (Standing::Unproven, 15));
    assert_eq!(judged.records.iter().map(|record| record.proven).collect::<Vec<_>>(), [true, false]);
    let none = build(&frame_bytes(&disk), None, None, &[3]).unwrap();
    assert_eq!(Bundle::parse(&none.encode()).unwrap().judge(&[Trust::Key(key)]).standing, Standing::Unproven);
}

#[test]
fn a_newer_checkpoint_must_continue_the_first() {
    let disk = ledger(1, &ManualClock::default(), 9);
    let frames = frame_bytes(&disk);
    for (before, size) in [(1, 2), (4, 8), (5, 9), (3, 10)] {
        let (key, first) = checkpoint_of(&disk, before);
        let newer = checkpoint_of(&disk, size).1;
        let bundle = build(&frames, Some(first.clone()), Some(newer.clone()), &[0]).unwrap();
        let read = Bundle::parse(&bundle.encode()).unwrap();
        assert_eq!(read.judge(&[Trust::Key(key)]).standing, Standing::Proven, "{before} {size}");
        assert_eq!(build(&frames, Some(newer.clone()), Some(first), &[0]).unwrap_err(), BuildError::NotNewer);
        let mut cut = read;
        if let Some(proof) = cut.newer.as_mut().and_then(|(_, proof)| proof.first_mut()) {
            proof.0[0] ^= 1;
        }
        assert_eq!(cut.judge(&[]).faults, [Fault::Consistency], "{before} {size}");
    }
}

#[test]
fn a_rewritten_or_broken_log_makes_no_bundle() {
    let disk = ledger(1, &ManualClock::default(), 6);
    let mut frames = frame_bytes(&disk);
    let signed = checkpoint_of(&disk, 6).1;
    let size = 6;
    assert_eq!(
        build(&frames[..5], Some(signed.clone()), None, &[1]).unwrap_err(),
        BuildError::Short { events: 5, size }
    );
    let gap: Vec<Vec<u8>> = frames.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, one)| one.clone()).collect();
    assert_eq!(build(&gap, Some(signed.clone()), None, &[1]).unwrap_err(), BuildError::Short { events: 2, size });
    assert_eq!(build(&frames, Some(signed.clone()), None, &[99]).unwrap_err(), BuildError::Nothing);
    frames[2][70] ^= 1;
    rechain(&mut frames, 2);
    assert_eq!(build(&frames, Some(signed), None, &[1]).unwrap_err(), BuildError::OtherRoot { size });
}

#[test]
fn a_disclosed_event_opens_alone_and_no_other_does() {
    let disk = ledger(1, &ManualClock::default(), 5);
    let (keys, frames) = (keys_of(&disk), frame_bytes(&disk));
    let mut builder = Builder::new(Some(checkpoint_of(&disk, 6).1), None).unwrap();
    for bytes in &frames {
        let frame = Frame::parse(bytes).unwrap();
        let key = (frame.header.seq == 2).then(|| keys.message_key(&frame).unwrap());
        builder.push(&frame, matches!(frame.header.seq, 2 | 3), key);
    }
    let bytes = builder.finish("test", "events").unwrap().encode();
    let bundle = Bundle::parse(&bytes).unwrap();
    let judged = bundle.judge(&[]);
    assert_eq!(judged.standing, Standing::Unvouched);
    assert!(judged.records[1].body.is_none());
    let frame = Frame::parse(&bundle.records[0].frame).unwrap();
    let entry = Entry::from_body(&frame, judged.records[0].body.as_ref().unwrap()).unwrap();
    assert_eq!(entry, keys.entry(&frame).unwrap(), "the key of one frame opens what the epoch's key opens");

    // The key that was given away is of no use for any other frame.
    let given = bundle.records[0].key.as_ref().unwrap();
    for (seq, bytes) in frames.iter().enumerate() {
        assert_eq!(Frame::parse(bytes).unwrap().open_alone(given).is_ok(), seq == 2, "{seq}");
    }
    let mut moved = bundle;
    let key = moved.records[0].key.take();
    moved.records[1].key = key;
    assert_eq!(moved.judge(&[]).faults, [Fault::Key { seq: 3 }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_are_no_bundle_and_never_fail(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        if magic && bytes.len() > 8 {
            bytes[..8].copy_from_slice(b"PLBN\x01\0\0\0");
        }
        palyra_ledger::inspect::bundle::fuzz_bundle(&bytes);
    }
}
