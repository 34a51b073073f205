//! The tamper corpus: what was done to a log, and the verdict at three levels. Where a level cannot see it, the
//! table says so: an unkeyed chain stops accidents, not a writer.

use std::path::{Path, PathBuf};

use palyra_ledger::checkpoint::NoteError;
use palyra_ledger::inspect::{Kept, Verdict, read_notes};
use palyra_ledger::log::Frame;
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, SimDisk};

use super::log::{
    Level, anchor, checkpoint_of, examined, frame_bytes, frames, go_on, keys_of, laid_down, ledger, rechain, rehash,
    segments, verdicts,
};

const WHOLE: [&str; 3] = ["INTACT-UNANCHORED", "INTACT-ANCHORED", "INTACT-UNANCHORED"];

fn same(verdict: &str) -> [String; 3] {
    [verdict, verdict, verdict].map(str::to_owned)
}

#[test]
fn an_untouched_log_is_intact_however_its_segments_lie() {
    let disk = ledger(1, &ManualClock::default(), 12);
    assert!(segments(&disk).len() > 2);
    assert_eq!(verdicts(&disk, &disk), WHOLE);
    let one = laid_down(&disk, &frame_bytes(&disk));
    assert_eq!(verdicts(&one, &disk), WHOLE);
}

#[test]
fn every_flipped_byte_of_a_log_is_found_and_located() {
    let disk = ledger(2, &ManualClock::default(), 7);
    let (whole, frames) = (frame_bytes(&disk).len(), frames(&disk));
    let (key, signed) = checkpoint_of(&disk, whole);
    let keys = keys_of(&disk);
    let mut flips = 0;
    for path in segments(&disk) {
        let len = disk.contents(&path).unwrap().len() as u64;
        for offset in 0..len {
            let damaged = disk.snapshot();
            assert!(damaged.flip(&path, offset, 1 << (offset % 8)));
            let assessment = examined(&damaged, Level::NoKey);
            for level in [Level::NoKey, Level::PublicKey(&key, &signed), Level::AllKeys(&keys)] {
                let code = examined(&damaged, level).verdict().exit_code();
                assert!([15, 16].contains(&code), "byte {offset} of {path:?}, {level:?}: {code}");
            }
            let hit = frames.iter().position(|(file, begin, bytes)| {
                *file == path && (*begin as u64..(*begin + bytes.len()) as u64).contains(&offset)
            });
            let located = assessment.report().findings.iter().any(|finding| match hit {
                Some(seq) => {
                    let seq = seq as u64;
                    finding.seq.is_some_and(|from| (from..=finding.through.unwrap_or(from)).contains(&seq))
                }
                None => finding.file.as_deref() == path.to_str() || finding.what.contains(path.to_str().unwrap()),
            });
            assert!(located, "byte {offset} of {path:?}, event {hit:?}: {:?}", assessment.report().findings);
            flips += 1;
        }
    }
    assert!(flips > 4_000, "{flips}");
}

#[test]
fn frames_moved_dropped_or_doubled_are_found_at_their_place() {
    let disk = ledger(3, &ManualClock::default(), 8);
    let whole = frame_bytes(&disk);
    let last = whole.len() - 1;
    for at in 1..last {
        let mut dropped = whole.clone();
        dropped.remove(at);
        assert_eq!(verdicts(&laid_down(&disk, &dropped), &disk), same(&format!("DAMAGED({at})")), "dropped {at}");
        let mut doubled = whole.clone();
        doubled.insert(at, whole[at].clone());
        let found = verdicts(&laid_down(&disk, &doubled), &disk);
        assert_eq!(found, same(&format!("DAMAGED({})", at + 1)), "doubled {at}");
        let mut swapped = whole.clone();
        swapped.swap(at, at + 1);
        for verdict in verdicts(&laid_down(&disk, &swapped), &disk) {
            assert!(verdict.starts_with(&format!("DAMAGED({at}")), "swapped {at}: {verdict}");
        }
    }
}

#[test]
fn frames_of_another_ledger_are_foreign() {
    let (disk, other) = (ledger(4, &ManualClock::default(), 8), ledger(5, &ManualClock::default(), 8));
    let (mut spliced, others) = (frame_bytes(&disk), frame_bytes(&other));
    spliced[4].clone_from(&others[4]);
    let damaged = laid_down(&disk, &spliced);
    assert_eq!(verdicts(&damaged, &disk), same("FOREIGN"));
    let located = examined(&damaged, Level::NoKey).report().findings.iter().any(|finding| finding.seq == Some(4));
    assert!(located);
    // With the ledger's id written over and everything chained anew only sealed bodies and anchors tell.
    let id = disk_id(&spliced[0]);
    spliced[4][8..24].copy_from_slice(&id);
    let prev = Frame::parse(&spliced[3]).unwrap().hash;
    spliced[4][32..64].copy_from_slice(&prev.0);
    rechain(&mut spliced, 4);
    let forged = without_head(&laid_down(&disk, &spliced));
    assert_eq!(verdicts(&forged, &disk), ["INTACT-UNANCHORED", "FORKED", "DAMAGED(4-8)"]);
}

fn disk_id(frame: &[u8]) -> [u8; 16] {
    frame[8..24].try_into().unwrap()
}

fn without_head(disk: &SimDisk) -> SimDisk {
    Medium::remove(disk, Path::new("/home/head")).unwrap();
    disk.clone()
}

#[test]
fn an_older_version_of_an_event_breaks_the_chain() {
    let clock = ManualClock::default();
    let old = ledger(6, &clock, 4);
    let disk = old.snapshot();
    go_on(&old, 7, &clock, &["other5", "other6"]);
    go_on(&disk, 8, &clock, &["secret5", "secret6", "secret7"]);
    let (mut replaced, others) = (frame_bytes(&disk), frame_bytes(&old));
    replaced[5].clone_from(&others[5]);
    assert_eq!(verdicts(&laid_down(&disk, &replaced), &disk), same("DAMAGED(6)"));
    // Two branches from one head: each is whole in itself, also with all keys. An anchor of one tells.
    let (key, signed) = checkpoint_of(&old, others.len());
    assert_eq!(examined(&disk, Level::PublicKey(&key, &signed)).verdict(), Verdict::Forked);
    assert_eq!(examined(&disk, Level::AllKeys(&keys_of(&disk))).verdict(), Verdict::IntactUnanchored);
}

#[test]
fn a_cut_tail_is_truncated_and_with_its_head_file_only_an_anchor_tells() {
    let disk = ledger(9, &ManualClock::default(), 6);
    let whole = frame_bytes(&disk);
    for keep in 1..whole.len() {
        let cut = laid_down(&disk, &whole[..keep]);
        assert_eq!(verdicts(&cut, &disk), same("TRUNCATED"), "{keep}");
        let assessment = examined(&cut, Level::NoKey);
        assert!(assessment.report().findings.iter().any(|finding| finding.seq == Some(keep as u64)), "{keep}");
        let unseen = without_head(&cut);
        let [none, anchored, keys] = verdicts(&unseen, &disk);
        assert_eq!([none.as_str(), anchored.as_str()], ["INTACT-UNANCHORED", "ROLLED-BACK"], "{keep}");
        // Keys do not help: what is there opens.
        assert_eq!(keys, "INTACT-UNANCHORED", "{keep}");
    }
}

#[test]
fn a_folder_rolled_back_as_a_whole_is_seen_by_an_anchor_alone() {
    let clock = ManualClock::default();
    let old = ledger(10, &clock, 4);
    let disk = old.snapshot();
    go_on(&disk, 11, &clock, &["secret5", "secret6"]);
    assert_eq!(verdicts(&old, &disk), ["INTACT-UNANCHORED", "ROLLED-BACK", "INTACT-UNANCHORED"]);
}

#[test]
fn an_event_that_is_altered_and_chained_anew_needs_an_anchor_or_a_key() {
    let disk = ledger(12, &ManualClock::default(), 6);
    let whole = frame_bytes(&disk);
    for at in 0..whole.len() {
        let mut forged = whole.clone();
        // One bit of the sealed body.
        forged[at][170] ^= 1;
        rechain(&mut forged, at);
        let laid = laid_down(&disk, &forged);
        // The head file still names the true end.
        for verdict in verdicts(&laid, &disk) {
            assert!(["DAMAGED", "FORKED"].iter().any(|word| verdict.starts_with(word)), "{at}: {verdict}");
        }
        let [none, anchored, keys] = verdicts(&without_head(&laid), &disk);
        assert_eq!([none.as_str(), anchored.as_str()], ["INTACT-UNANCHORED", "FORKED"], "{at}");
        // The header is sealed with the body: from here on nothing opens.
        let range =
            if at + 1 == whole.len() { format!("DAMAGED({at})") } else { format!("DAMAGED({at}-{})", whole.len() - 1) };
        assert_eq!(keys, range);
    }
}

#[test]
fn a_clock_set_back_is_found_even_where_the_chain_is_made_anew() {
    let disk = ledger(13, &ManualClock::default(), 6);
    let mut frames = frame_bytes(&disk);
    let early = frames[1][64..72].to_vec();
    frames[4][64..72].copy_from_slice(&early);
    rechain(&mut frames, 4);
    let [none, anchored, keys] = verdicts(&without_head(&laid_down(&disk, &frames)), &disk);
    assert_eq!([none.as_str(), anchored.as_str(), keys.as_str()], ["DAMAGED(4)", "FORKED", "DAMAGED(4-6)"]);
}

#[test]
fn a_forged_or_moved_checkpoint_vouches_for_nothing() {
    let clock = ManualClock::default();
    let (disk, other) = (ledger(14, &clock, 4), ledger(15, &clock, 4));
    let (key, signed) = checkpoint_of(&disk, 5);
    let note = signed.note().as_bytes();
    for at in 0..note.len() {
        let mut forged = note.to_vec();
        forged[at] ^= 1;
        let read = read_notes("note", Kept::Elsewhere, &forged, Some(&key));
        assert!(read.is_err(), "byte {at}");
    }
    let (_, moved) = checkpoint_of(&other, 5);
    let refused = read_notes("note", Kept::Elsewhere, moved.note().as_bytes(), Some(&key));
    assert_eq!(refused, Err(NoteError::OtherLedger));
    // Without the key it is the log that it does not fit.
    let assessment = examined(&disk, Level::PublicKey(&key, &moved));
    assert_eq!(assessment.verdict(), Verdict::Foreign);
    assert_eq!(anchor(&moved).signed, moved);
}

#[test]
fn the_ledgers_own_checkpoints_speak_against_it_but_do_not_anchor_it() {
    let disk = ledger(16, &ManualClock::default(), 6);
    let (key, signed) = checkpoint_of(&disk, 6);
    let notes = PathBuf::from("/home/checkpoints/notes");
    disk.put_dir(Path::new("/home/checkpoints")).unwrap();
    disk.put(&notes, format!("{}\n", signed.note()).as_bytes()).unwrap();
    let assessment = examined(&disk, Level::NoKey);
    assert_eq!((assessment.verdict(), assessment.coverage.signed_events), (Verdict::IntactUnanchored, 6));
    let whole = frame_bytes(&disk);
    let cut = without_head(&laid_down(&disk, &whole[..4]));
    assert_eq!(examined(&cut, Level::NoKey).verdict(), Verdict::Truncated);
    // One that another key made is no checkpoint of this ledger.
    let (_, foreign) = checkpoint_of(&ledger(17, &ManualClock::default(), 6), 6);
    disk.put(&notes, format!("{}\n", foreign.note()).as_bytes()).unwrap();
    let (verifier, own) = (key, signed);
    let found = examined(&disk, Level::PublicKey(&verifier, &own)).verdict().to_string();
    assert_eq!(found, "DAMAGED(files)");
}

#[test]
fn bytes_behind_a_clean_end_are_found() {
    let disk = ledger(18, &ManualClock::default(), 4);
    let path = segments(&disk).pop().unwrap();
    let mut bytes = disk.contents(&path).unwrap();
    bytes.extend_from_slice(b"something that was put there afterwards");
    disk.put(&path, &bytes).unwrap();
    // A ledger without a second copy never says that it was closed cleanly; then it is a torn tail.
    let verdict = examined(&disk, Level::NoKey).verdict().to_string();
    let noted = examined(&disk, Level::NoKey).report().findings.len();
    assert!(noted > 0, "{verdict}");
    let mut one = frame_bytes(&disk)[0].clone();
    one[100] ^= 1;
    rehash(&mut one);
    assert!(Frame::parse(&one).is_ok(), "anybody can make a frame");
}
