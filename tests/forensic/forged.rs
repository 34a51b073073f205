//! What somebody who can write the files, and make any frame but open none, puts there so that it looks clean.

use std::path::{Path, PathBuf};

use palyra_ledger::AnchorSettings;
use palyra_ledger::checkpoint::SignedCheckpoint;
use palyra_ledger::inspect::{Anchor, Course, FindingCode};
use palyra_ledger::log::Frame;
use palyra_ledger::log::segment::{SegmentHeader, file_name};
use palyra_ledger::store::Medium;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Ledger, Settings};

use super::log::{
    Level, anchor, checkpoint_of, config, examined, frame_bytes, keys_of, laid_down, ledger, rechain, rehash, segments,
    verdicts,
};

fn hash_of(frame: &[u8]) -> [u8; 32] {
    Frame::parse(frame).unwrap().hash.0
}

/// A frame with a number, a kind and whatever stands in another one, chained behind a third.
fn forged(like: &[u8], behind: &[u8], seq: u64, kind: u16) -> Vec<u8> {
    let mut frame = like.to_vec();
    frame[24..32].copy_from_slice(&seq.to_le_bytes());
    frame[32..64].copy_from_slice(&hash_of(behind));
    frame[64..72].copy_from_slice(&behind[64..72]);
    frame[72..80].copy_from_slice(&seq.to_le_bytes());
    frame[80..82].copy_from_slice(&kind.to_le_bytes());
    frame[88..92].copy_from_slice(&[0, 0, 1, 0]);
    let mut one = vec![frame];
    rechain(&mut one, 0);
    one.remove(0)
}

#[test]
fn a_second_segment_over_the_same_events_is_another_history() {
    let disk = ledger(31, &ManualClock::default(), 8);
    let whole = frame_bytes(&disk);
    let one = laid_down(&disk, &whole);
    let last = whole.last().unwrap();
    for behind in [&whole[4], last] {
        let mut more: Vec<Vec<u8>> = Vec::new();
        for seq in 5..8 {
            more.push(forged(&whole[2], more.last().unwrap_or(behind), seq, 35));
        }
        let copy = one.snapshot();
        let first = Frame::parse(&whole[0]).unwrap().header;
        let prev = Frame::parse(behind).unwrap().hash;
        let mut bytes = SegmentHeader { ledger_id: first.ledger_id, first_seq: 5, prev }.encode().to_vec();
        bytes.extend(more.iter().flatten());
        copy.put(&Path::new("/home/journal").join(file_name(5)), &bytes).unwrap();
        assert_eq!(verdicts(&copy, &disk), ["FORKED", "FORKED", "FORKED"]);
        let report = examined(&copy, Level::NoKey).walked.report;
        assert_eq!(report.events, whole.len() as u64, "no event is counted twice");
        let conflict = report.findings.iter().find(|finding| finding.code == FindingCode::Conflict).unwrap();
        assert_eq!((conflict.seq, conflict.through), (Some(5), Some(whole.len() as u64 - 1)));
    }
}

#[test]
fn what_stands_behind_an_anchor_is_not_clean_because_of_its_kind() {
    let disk = ledger(32, &ManualClock::default(), 6);
    let whole = frame_bytes(&disk);
    let with = |kinds: &[u16]| {
        let mut frames = whole.clone();
        for kind in kinds {
            let next = forged(&whole[2], frames.last().unwrap(), frames.len() as u64, *kind);
            frames.push(next);
        }
        verdicts(&laid_down(&disk, &frames), &disk)[1].clone()
    };
    // A checkpoint never covers its own record: one may follow it, whose body no examiner without keys can open.
    assert_eq!(with(&[16]), "INTACT-ANCHORED");
    for kinds in [&[18][..], &[17], &[16, 16], &[16, 18], &[32], &[18, 16]] {
        assert_eq!(with(kinds), "INTACT-UNANCHORED", "{kinds:?}");
    }
    let mut frames = whole.clone();
    frames.push(forged(&whole[2], whole.last().unwrap(), whole.len() as u64, 16));
    let damaged = &verdicts(&laid_down(&disk, &frames), &disk)[2];
    assert_eq!(*damaged, format!("DAMAGED({})", whole.len()), "keys tell that it is none of the ledger's");
}

#[test]
fn without_what_would_show_a_cut_end_no_anchor_makes_it_clean() {
    let disk = ledger(33, &ManualClock::default(), 8);
    let whole = frame_bytes(&disk);
    let (key, signed) = checkpoint_of(&disk, 5);
    let level = Level::PublicKey(&key, &signed);
    let cut = laid_down(&disk, &whole[..5]);
    assert_eq!(examined(&cut, level).verdict().to_string(), "TRUNCATED");
    Medium::remove(&cut, Path::new("/home/head")).unwrap();
    assert_eq!(examined(&cut, level).verdict().to_string(), "INTACT-UNANCHORED");
    let torn = disk.snapshot();
    let path = segments(&torn).pop().unwrap();
    let mut bytes = torn.contents(&path).unwrap();
    bytes.extend_from_slice(b"what is no frame");
    torn.put(&path, &bytes).unwrap();
    assert_eq!(verdicts(&torn, &disk)[1], "INTACT-UNANCHORED");
}

#[test]
fn what_a_newer_program_wrote_is_said_to_be_unknown_and_not_clean() {
    let disk = ledger(34, &ManualClock::default(), 6);
    let whole = frame_bytes(&disk);
    let mut newer = forged(&whole[2], whole.last().unwrap(), whole.len() as u64, 32);
    newer[4] = 2;
    rehash(&mut newer);
    let mut frames = whole.clone();
    frames.push(newer);
    assert_eq!(verdicts(&laid_down(&disk, &frames), &disk), ["UNVERIFIABLE(unknown_version)"; 3]);
    disk.put(Path::new("/home/format"), b"palyra-ledger 9\n").unwrap();
    assert_eq!(verdicts(&disk, &disk), ["UNVERIFIABLE(unknown_version)"; 3]);
}

#[test]
fn batches_groups_and_trailers_are_held_to_their_rules() {
    let disk = ledger(35, &ManualClock::default(), 8);
    let whole = frame_bytes(&disk);
    let altered = |alter: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut frames = whole.clone();
        alter(&mut frames);
        rechain(&mut frames, 4);
        let copy = laid_down(&disk, &frames);
        Medium::remove(&copy, Path::new("/home/head")).unwrap();
        examined(&copy, Level::NoKey).verdict().to_string()
    };
    assert_eq!(altered(&|_| {}), "INTACT-UNANCHORED");
    // The place and the number of frames: 0 of 3, then 1 of 2.
    let batch = altered(&|frames| {
        frames[5][88..92].copy_from_slice(&[0, 0, 3, 0]);
        frames[6][88..92].copy_from_slice(&[1, 0, 2, 0]);
        frames[6][72..80].copy_from_slice(&5_u64.to_le_bytes());
    });
    assert!(batch.starts_with("DAMAGED(6"), "{batch}");
    let backwards = altered(&|frames| frames[6][72..80].copy_from_slice(&2_u64.to_le_bytes()));
    assert!(backwards.starts_with("DAMAGED(6"), "{backwards}");

    let epoch = altered(&|frames| frames[6][84] = 1);
    assert!(epoch.starts_with("DAMAGED(6"), "{epoch}");

    let path = segments(&disk).remove(0);
    let bytes = disk.contents(&path).unwrap();
    let alone = laid_down(&disk, &[]);
    let closed: Vec<u8> = [&bytes[..], b"more"].concat();
    alone.put(&path, &closed).unwrap();
    assert!(examined(&alone, Level::NoKey).verdict().to_string().starts_with("DAMAGED("), "behind the trailer");
    let trailer = bytes.len() - 128;
    for at in (8..24).chain([24, 40]) {
        let copy = disk.snapshot();
        assert!(copy.flip(&path, (trailer + at) as u64, 1));
        let found = examined(&copy, Level::NoKey).verdict().to_string();
        assert!(found.starts_with("DAMAGED("), "byte {at} of the trailer: {found}");
    }
}

#[test]
fn the_last_number_there_is_ends_no_examination() {
    let disk = ledger(36, &ManualClock::default(), 3);
    let whole = frame_bytes(&disk);
    let first = Frame::parse(&whole[0]).unwrap().header;
    let header = SegmentHeader { ledger_id: first.ledger_id, first_seq: u64::MAX, prev: first.prev };
    let mut bytes = header.encode().to_vec();
    bytes.extend(forged(&whole[2], &whole[0], u64::MAX, 32));
    let path = PathBuf::from("/home/journal").join(file_name(u64::MAX));
    for alone in [true, false] {
        let copy = disk.snapshot();
        if alone {
            for path in segments(&copy) {
                Medium::remove(&copy, &path).unwrap();
            }
        }
        copy.put(&path, &bytes).unwrap();
        let (key, signed) = checkpoint_of(&disk, 3);
        for level in [Level::NoKey, Level::PublicKey(&key, &signed), Level::AllKeys(&keys_of(&disk))] {
            assert_eq!(examined(&copy, level).verdict().exit_code(), 15);
        }
    }
}

#[test]
fn a_flood_of_findings_hides_no_other_and_is_counted() {
    let disk = ledger(37, &ManualClock::default(), 3);
    let whole = frame_bytes(&disk);
    let mut frames = whole.clone();
    while frames.len() < 1_600 {
        // Each names a frame that is not the one before it.
        frames.push(forged(&whole[2], &whole[0], frames.len() as u64, 32));
    }
    let mut foreign = forged(&whole[2], frames.last().unwrap(), frames.len() as u64, 32);
    foreign[8] ^= 1;
    let mut one = vec![foreign];
    rechain(&mut one, 0);
    frames.extend(one);
    let copy = laid_down(&disk, &frames);
    let report = examined(&copy, Level::NoKey).walked.report;
    assert!(report.findings.iter().any(|finding| finding.code == FindingCode::ForeignFrame));
    assert!(report.unlisted.count > 500, "{}", report.unlisted.count);
    assert_eq!(report.unlisted.ranges.last().unwrap().1, 1_599);
    assert_eq!(verdicts(&copy, &disk)[0], "FOREIGN");
    let listed = laid_down(&disk, &frames[..1_600]);
    assert_eq!(examined(&listed, Level::NoKey).verdict().to_string(), format!("DAMAGED({}-1599)", whole.len()));
}

#[test]
fn one_segment_of_several_is_not_held_to_the_end_of_the_log() {
    let disk = ledger(38, &ManualClock::default(), 12);
    let (key, signed) = checkpoint_of(&disk, frame_bytes(&disk).len());
    let all = segments(&disk);
    let last = all.len() - 1;
    for (at, path) in all.into_iter().enumerate() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let first = palyra_ledger::log::segment::parse_file_name(name).unwrap();
        let course = Course { segments: vec![(first, path)], part: true, piece: true, ..Course::default() };
        let kept = [anchor(&signed)];
        let asked = palyra_ledger::examine::Asked { anchors: &kept, public_key: Some(&key), ..Default::default() };
        let found = palyra_ledger::examine::verify(&disk, &course, &asked, &mut |_, _| {});
        // The last one ends as the anchor says; but what stands before it was not read.
        assert_eq!(found.verdict().to_string(), "INTACT-UNANCHORED", "segment {at}");
        assert_eq!(found.coverage.unread, first.checked_sub(1).map(|last| (0, last)), "segment {at}");
        assert_eq!(found.coverage.anchored_events > 0, at == last, "segment {at}");
    }
}

#[test]
fn branches_have_the_numbers_that_their_events_say() {
    let (clock, disk) = (ManualClock::default(), ledger(39, &ManualClock::default(), 2));
    let older = disk.snapshot();
    let held = |disk: &SimDisk| disk.contents(Path::new("/other/note")).unwrap();
    let open = |disk: &SimDisk, seed| {
        let anchors = AnchorSettings { files: vec!["/other/note".into()], ..AnchorSettings::default() };
        config(disk, seed, &clock).settings(Settings { anchors, ..Settings::default() })
    };
    let given_up = |note: Option<&SimDisk>, seed: u64| {
        let copy = older.snapshot();
        copy.put_dir(Path::new("/other")).unwrap();
        if let Some(note) = note {
            copy.put(Path::new("/other/note"), &held(note)).unwrap();
        }
        copy.settle();
        match note {
            None => {
                let ledger = Ledger::open(open(&copy, seed)).unwrap();
                super::log::put(&ledger, "more", 20);
                ledger.checkpoint().unwrap();
                ledger.close().unwrap();
            }
            Some(_) => Ledger::start_branch(open(&copy, seed)).unwrap().close().unwrap(),
        }
        copy
    };
    let went_on = given_up(None, 2);
    let first = given_up(Some(&went_on), 3);
    let second = given_up(Some(&first), 4);
    let note = held(&second);
    let (notes, _) = palyra_ledger::checkpoint::split_notes(&note);
    let signed = SignedCheckpoint::parse(notes.last().unwrap()).unwrap();
    assert_eq!(signed.checkpoint().branch, 2, "the first branch that this copy knows has number 2");
    let (kept, keys) = ([anchor(&signed)], keys_of(&second));
    let course = Course::of_home(&second, Path::new("/home")).unwrap();
    let asked = palyra_ledger::examine::Asked { anchors: &kept, keys: Some(&keys), ..Default::default() };
    let found = palyra_ledger::examine::verify(&second, &course, &asked, &mut |_, _| {});
    assert_eq!(found.verdict().to_string(), "INTACT-ANCHORED", "{:?}", found.report().findings);

    // Without keys the new branch is believed by the checkpoint that its signature vouches for, and not by the header.
    let older = held(&went_on);
    let (notes, _) = palyra_ledger::checkpoint::split_notes(&older);
    let old = anchor(&SignedCheckpoint::parse(notes.last().unwrap()).unwrap());
    let keyless = |disk: &SimDisk, kept: &[Anchor]| {
        let asked = palyra_ledger::examine::Asked { anchors: kept, ..Default::default() };
        palyra_ledger::examine::verify(disk, &course, &asked, &mut |_, _| {})
    };
    let both = keyless(&second, &[old.clone(), anchor(&signed)]);
    // Behind the checkpoint stand records of it, which are no proof of themselves without keys.
    assert_eq!(both.verdict().to_string(), "INTACT-UNANCHORED", "{:?}", both.report().findings);
    assert!(both.report().findings.iter().any(|finding| finding.code == FindingCode::AnchorSuperseded));
    let alone = second.snapshot();
    Medium::remove(&alone, Path::new("/home/checkpoints/notes")).unwrap();
    let found = keyless(&alone, &[old]);
    assert!([15, 16].contains(&found.verdict().exit_code()), "{:?}", found.report().findings);
}

#[test]
fn a_header_that_claims_a_branch_gives_up_no_end_that_was_cut_off() {
    let disk = ledger(40, &ManualClock::default(), 8);
    let whole = frame_bytes(&disk);
    let (key, signed) = checkpoint_of(&disk, whole.len());
    for extra in [1, whole.len()] {
        let mut frames = whole[..6].to_vec();
        while frames.len() < 6 + extra {
            let kind = if frames.len() == 6 { 19 } else { 32 };
            frames.push(forged(&whole[2], frames.last().unwrap(), frames.len() as u64, kind));
        }
        let copy = laid_down(&disk, &frames);
        Medium::remove(&copy, Path::new("/home/head")).unwrap();
        let found = examined(&copy, Level::PublicKey(&key, &signed));
        let (verdict, code) =
            if extra == 1 { ("ROLLED-BACK", FindingCode::AnchorLost) } else { ("FORKED", FindingCode::AnchorForked) };
        assert_eq!(found.verdict().to_string(), verdict);
        let finding = found.report().findings.iter().find(|finding| finding.code == code).unwrap();
        assert!(finding.what.contains("event 6 begins a branch, as its header alone says"), "{}", finding.what);
    }
}
