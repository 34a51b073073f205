use proptest::prelude::*;

use super::*;
use crate::checkpoint::{Fit, fit, keep, split_notes};

fn key(seed: u8) -> SigningKey {
    signing_key(&Key::from_bytes(&mut [seed; 32])).unwrap()
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint {
        ledger_id: "000102030405060708090a0b0c0d0e0f".parse().unwrap(),
        size,
        root: Hash([2; 32]),
        head: Hash([1; 32]),
        state: Some(Hash([3; 32])),
        time: Timestamp::from_millis(1_767_225_600_000),
        branch: 0,
        key: key(7).public(),
    }
}

/// The golden note: FORMAT.md shows it, and other programs are tried on it.
const GOLDEN: &str = include_str!("../../tests/vectors/checkpoint.note");
const GOLDEN_KEY: &str = include_str!("../../tests/vectors/checkpoint.vkey");

#[test]
fn the_golden_note_is_written_and_read() {
    let signed = SignedCheckpoint::sign(checkpoint(42), &key(7)).unwrap();
    assert_eq!(signed.note(), GOLDEN);
    assert!(signed.note().len() < 1024);
    assert_eq!(checkpoint(1).verifier().to_string(), GOLDEN_KEY.trim_end());
    let by: VerifierKey = GOLDEN_KEY.trim_end().parse().unwrap();
    assert_eq!(SignedCheckpoint::verify(GOLDEN.as_bytes(), &by).unwrap(), signed);
    let longest =
        Checkpoint { size: u64::MAX, time: Timestamp::from_millis(u64::MAX), branch: u32::MAX, ..checkpoint(1) };
    assert!(SignedCheckpoint::sign(longest, &key(7)).unwrap().note().len() < 1024);
}

#[test]
fn no_bit_of_a_note_may_change() {
    let by = checkpoint(1).verifier();
    for at in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(SignedCheckpoint::verify(&bytes, &by).is_err(), "bit {at}");
        assert!(SignedCheckpoint::parse(&bytes).is_err(), "bit {at}");
    }
    for end in 0..GOLDEN.len() {
        assert!(SignedCheckpoint::verify(&GOLDEN.as_bytes()[..end], &by).is_err(), "{end}");
    }
}

#[test]
fn a_note_of_another_ledger_or_key_is_told_apart() {
    let by = checkpoint(1).verifier();
    let other = Checkpoint { ledger_id: LedgerId::from_bytes([9; 16]), ..checkpoint(42) };
    let other = SignedCheckpoint::sign(other, &key(7)).unwrap();
    assert_eq!(SignedCheckpoint::verify(other.note().as_bytes(), &by), Err(NoteError::OtherLedger));
    let forged = Checkpoint { key: key(8).public(), ..checkpoint(42) };
    let forged = SignedCheckpoint::sign(forged, &key(8)).unwrap();
    assert_eq!(SignedCheckpoint::verify(forged.note().as_bytes(), &by), Err(NoteError::OtherKey));
    assert!(SignedCheckpoint::sign(checkpoint(42), &key(8)).is_err());
    // A true signature by a witness is none by the ledger.
    let witness = checkpoint(42);
    let line = NoteSignature { name: "witness".into(), key_id: [1; 4], signature: vec![1; 64] };
    let alone = SignedNote { text: witness.text(), signatures: vec![line.clone()] };
    assert_eq!(SignedCheckpoint::parse(alone.encode().as_bytes()), Err(NoteError::Unsigned));
    let mut beside = SignedNote::parse(GOLDEN.as_bytes()).unwrap();
    beside.signatures.push(line);
    let read = SignedCheckpoint::verify(beside.encode().as_bytes(), &by).unwrap();
    assert_eq!(read.checkpoint().size, 42);
}

#[test]
fn a_checkpoint_has_one_text() {
    let text = checkpoint(42).text();
    assert_eq!(Checkpoint::parse(&text).unwrap(), checkpoint(42));
    let none = Checkpoint { state: None, ..checkpoint(42) };
    assert_eq!(Checkpoint::parse(&none.text()).unwrap(), none);
    for (from, to) in [
        ("\n42\n", "\n042\n"),
        ("\n42\n", "\n0\n"),
        ("\n42\n", "\n+42\n"),
        ("\n42\n", "\n18446744073709551616\n"),
        ("head ", "head  "),
        ("head 01", "head 0"),
        ("state 03", "state 0G"),
        ("branch 0", "branch 00"),
        ("branch 0", "branch 4294967296"),
        ("key ", "more \nkey "),
        ("key ", ""),
        ("palyra-ledger/0001", "palyra-ledger/0001AA"),
    ] {
        assert!(text.contains(from));
        assert!(Checkpoint::parse(&text.replace(from, to)).is_err(), "{from:?} {to:?}");
    }
    assert!(Checkpoint::parse(&format!("{text}more\n")).is_err());
    assert!(Checkpoint::parse(text.trim_end()).is_err());
}

#[test]
fn a_ledger_stands_to_a_checkpoint_in_one_of_five_ways() {
    let of = |size: u64, branch: u32| Checkpoint { branch, ..checkpoint(size) };
    let ours = |_| Some(Hash([1; 32]));
    let others = |_| Some(Hash([9; 32]));
    assert_eq!(fit(&of(10, 0), 10, &[], ours), Fit::Holds);
    assert_eq!(fit(&of(10, 0), 20, &[], others), Fit::Forked);
    assert_eq!(fit(&of(10, 0), 7, &[], ours), Fit::Lost { first: 7, last: 9 });
    assert_eq!(fit(&of(10, 1), 20, &[], ours), Fit::OtherBranch);
    assert_eq!(fit(&of(10, 0), 20, &[7], others), Fit::Superseded { since: 7 });
    assert_eq!(fit(&of(7, 0), 20, &[7], ours), Fit::Holds);
    assert_eq!(fit(&of(7, 0), 20, &[7], others), Fit::Forked);
    assert_eq!(fit(&of(10, 1), 20, &[7], others), Fit::Forked);
    // A later branch may begin before an earlier one did.
    assert_eq!(fit(&of(6, 0), 20, &[7, 5], others), Fit::Superseded { since: 5 });
    assert_eq!(fit(&of(9, 1), 20, &[7, 12], ours), Fit::Holds);
    assert_eq!(fit(&of(30, 2), 20, &[7, 12], ours), Fit::Lost { first: 20, last: 29 });
    assert_eq!(fit(&of(u64::MAX, 0), 20, &[], ours), Fit::Lost { first: 20, last: u64::MAX - 1 });
}

#[test]
fn files_of_notes_keep_the_last_and_know_a_torn_end() {
    let notes: Vec<String> =
        (1..=40).map(|size| SignedCheckpoint::sign(checkpoint(size), &key(7)).unwrap().note().to_owned()).collect();
    let mut file = Vec::new();
    for (number, note) in notes.iter().enumerate() {
        let (held, torn) = split_notes(&file);
        assert_eq!((held.len(), torn), (number.min(crate::base::limits::ANCHOR_NOTES_KEPT), 0));
        file = keep(&held, note);
    }
    let (held, _) = split_notes(&file);
    assert_eq!(held.first(), Some(&notes[24].as_bytes()));
    assert_eq!(held.last(), Some(&notes[39].as_bytes()));
    let whole = keep(&[], &notes[0]).len();
    for end in 0..=2 * whole {
        let two = keep(&[notes[0].as_bytes()], &notes[1]);
        let (held, torn) = split_notes(&two[..end.min(two.len())]);
        assert_eq!(held.len() * whole + torn, end.min(two.len()), "{end}");
        assert_eq!(held.len(), end / whole, "{end}");
    }
}

proptest! {
    #[test]
    fn any_checkpoint_reads_as_it_was_signed(
        size in 1_u64.., root: [u8; 32], head: [u8; 32], state: Option<[u8; 32]>, time: u64, branch: u32, id: [u8; 16]
    ) {
        let made = Checkpoint {
            ledger_id: LedgerId::from_bytes(id),
            size,
            root: Hash(root),
            head: Hash(head),
            state: state.map(Hash),
            time: Timestamp::from_millis(time),
            branch,
            key: key(7).public(),
        };
        let signed = SignedCheckpoint::sign(made.clone(), &key(7)).unwrap();
        let read = SignedCheckpoint::verify(signed.note().as_bytes(), &made.verifier()).unwrap();
        prop_assert_eq!(read.checkpoint(), &made);
        prop_assert_eq!(read, signed);
    }

    #[test]
    fn any_bytes_split_into_notes_and_a_rest(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400)) {
        crate::checkpoint::fuzz_note(&bytes);
    }
}
