//! A backup that is not byte for byte the one that was written is refused.

use palyra_ledger::backup::{BackupError, BackupFile, BackupReader, Header};
use palyra_ledger::crypto::{Hasher, Key, labels};
use palyra_ledger::keys::KeyRing;
use palyra_ledger::platform;
use palyra_ledger::store::RealMedium;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{Error, Ledger};

use super::{backup, by_words, check, empty, failed, increment, put, restore, simulated, with_words};

/// Bytes of a sealed chunk, and of the trailer.
const CHUNK: usize = 256 * 1024 + 16;
const TRAILER: usize = 80;

fn small() -> (Ledger, Vec<u8>) {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    put(&ledger, "a", b"value");
    let (file, _) = backup(&ledger);
    (ledger, file)
}

fn key_of(file: &[u8]) -> Key {
    let (header, _) = Header::parse(file).unwrap();
    let ring = KeyRing::parse(&header.ring).unwrap();
    let nowhere = std::path::Path::new("/nowhere");
    let opened = ring.open_anywhere((&RealMedium, nowhere), &*platform::system(), None, &by_words()).unwrap();
    opened.unlocked.unwrap_backup_key(&header.bound(), &header.wrapped).unwrap()
}

/// Reads every record under a key that is known already; the header's own check and seal are looked at as well.
fn read(bytes: &[u8], key: &Key) -> Result<(), BackupError> {
    let mut file = BackupFile::memory("flipped", bytes.to_vec());
    let mut reader = BackupReader::new(&mut file)?;
    reader.unlock(key);
    while reader.next_record()?.is_some() {}
    Ok(())
}

fn with_digest(bytes: &[u8]) -> Vec<u8> {
    let covered = &bytes[..bytes.len() - 32];
    let mut digest = Hasher::new(labels::BACKUP_DIGEST);
    digest.update(covered);
    [covered, digest.finish().as_bytes()].concat()
}

#[test]
fn every_flipped_byte_is_refused_with_and_without_the_key() {
    let (_ledger, file) = small();
    let key = key_of(&file);
    read(&file, &key).unwrap();
    let (header, header_len) = Header::parse(&file).unwrap();
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        let mut flipped = BackupFile::memory("flipped", bad.clone());
        let keyless = BackupReader::new(&mut flipped).and_then(|reader| reader.check_digest(&|_| {}));
        assert!(keyless.is_err(), "byte {at} without a key");
        // The digest is looked at with the key as well; what follows goes behind it.
        if at % 64 == 0 {
            assert!(read(&bad, &key).is_err(), "byte {at} with the key");
        }
        // Somebody who can make a digest, and cannot seal.
        let repaired = with_digest(&bad);
        if at < file.len() - 32 {
            assert!(read(&repaired, &key).is_err(), "byte {at} under a fresh digest");
        }
        // Somebody who can make the header's check as well: the key's wrapping is bound to it.
        if at < header_len - 32
            && let Ok((forged, _)) = Header::parse(&forge_header(&bad, header_len))
        {
            assert!(forged != header, "byte {at}");
            let config = simulated(empty(), 3, &ManualClock::default()).credential(by_words());
            let forged_file = with_digest(&[&forged.encode()[..], &bad[header_len..]].concat());
            assert!(restore(&config, &[forged_file]).is_err(), "byte {at} under a fresh header");
        }
    }
}

fn forge_header(bytes: &[u8], len: usize) -> Vec<u8> {
    let covered = &bytes[..len - 32];
    let check = palyra_ledger::Hash::of(labels::BACKUP_HEADER, &[covered]);
    [covered, check.as_bytes()].concat()
}

#[test]
fn the_commands_refuse_what_was_flipped_and_leave_no_home() {
    let (_ledger, file) = small();
    let (_, header_len) = Header::parse(&file).unwrap();
    for at in (0..header_len).step_by(61).chain((header_len..file.len()).step_by(4999)).chain([file.len() - 1]) {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let disk = empty();
        let config = simulated(disk.clone(), 3, &ManualClock::default()).credential(by_words());
        assert!(!check(&config, &[bad.clone()]).is_ok(), "byte {at}");
        assert!(restore(&config, &[bad]).is_err(), "byte {at}");
        assert!(disk.files().iter().all(|path| !path.starts_with("/home")), "byte {at}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let (_ledger, file) = small();
    let key = key_of(&file);
    for len in 0..file.len() {
        assert!(read(&file[..len], &key).is_err(), "length {len}");
    }
    assert!(read(&[&file[..], b"more"].concat(), &key).is_err());
}

#[test]
fn chunks_are_refused_in_another_order_or_in_another_backup() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    for number in 0..20_u8 {
        put(&ledger, &format!("key{number}"), &vec![number; 60_000]);
    }
    let (one, _) = backup(&ledger);
    let (other, _) = backup(&ledger);
    let (_, len) = Header::parse(&one).unwrap();
    let chunks =
        |file: &[u8]| -> Vec<Vec<u8>> { file[len..file.len() - TRAILER].chunks(CHUNK).map(<[u8]>::to_vec).collect() };
    let (mine, theirs) = (chunks(&one), chunks(&other));
    assert!(mine.len() >= 4, "{} chunks", mine.len());
    let build = |chunks: &[Vec<u8>]| {
        let body: Vec<u8> = chunks.concat();
        with_digest(&[&one[..len], &body, &one[one.len() - TRAILER..]].concat())
    };
    let key = key_of(&one);
    read(&build(&mine), &key).unwrap();
    let mut swapped = mine.clone();
    swapped.swap(0, 1);
    let mut spliced = mine.clone();
    spliced[1].clone_from(&theirs[1]);
    let mut doubled = mine.clone();
    doubled.insert(1, mine[0].clone());
    let mut missing = mine.clone();
    missing.remove(1);
    let mut early = mine.clone();
    early.pop();
    for (what, chunks) in
        [("swapped", swapped), ("spliced", spliced), ("doubled", doubled), ("missing", missing), ("early end", early)]
    {
        let error = read(&build(&chunks), &key).unwrap_err();
        assert!(matches!(error, BackupError::Sealed { .. }), "{what}: {error}");
    }
    // The head of one, the body of the other: whole as a file, and the key is another one.
    let crossed = with_digest(&[&one[..len], &other[len..]].concat());
    assert!(matches!(read(&crossed, &key), Err(BackupError::Sealed { chunk: 0 })));
}

#[test]
fn increments_are_refused_in_a_wrong_order_with_a_gap_or_from_another_ledger() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    let (full, first) = backup(&ledger);
    put(&ledger, "a", b"1");
    let (one, second) = increment(&ledger, &first);
    put(&ledger, "a", b"2");
    let (two, third) = increment(&ledger, &second);
    let stranger = with_words(simulated(SimDisk::new(), 2, &clock));
    let (strange, _) = backup(&stranger);
    let attempt = |chain: &[&Vec<u8>]| {
        let disk = empty();
        let config = simulated(disk.clone(), 3, &clock).credential(by_words());
        let chain: Vec<Vec<u8>> = chain.iter().map(|file| (*file).clone()).collect();
        let report = check(&config, &chain);
        let done = restore(&config, &chain);
        assert!(done.is_ok() || disk.files().iter().all(|path| !path.starts_with("/home")));
        (failed(&report), done)
    };
    let fault = |done: Result<_, Error>| match done.unwrap_err() {
        Error::Backup { source, .. } => source,
        other => panic!("{other}"),
    };
    let (found, done) = attempt(&[&full, &two]);
    assert_eq!(found, ["join"]);
    let expected = second.to + 1;
    assert!(matches!(fault(done), BackupError::Gap { found, .. } if found == expected));
    let (found, done) = attempt(&[&full, &two, &one]);
    assert_eq!(found, ["join"]);
    assert!(matches!(fault(done), BackupError::Gap { .. }));
    let (found, done) = attempt(&[&full, &full]);
    assert_eq!(found, ["join"]);
    assert!(matches!(fault(done), BackupError::Gap { found: 0, .. }));
    let (found, done) = attempt(&[&full, &strange]);
    assert_eq!(found, ["join"]);
    assert!(matches!(fault(done), BackupError::OtherLedger { .. }));
    // An increment alone is whole, but nothing can be restored from it.
    let (found, done) = attempt(&[&one]);
    assert_eq!(found, Vec::<&str>::new());
    assert!(matches!(fault(done), BackupError::Increment { from } if from == first.to + 1));
    let (found, done) = attempt(&[&full, &one, &two]);
    assert_eq!(found, Vec::<&str>::new());
    assert_eq!(done.unwrap().to, third.to);
}

#[test]
fn an_increment_of_another_branch_is_refused() {
    let clock = ManualClock::default();
    let ledger = with_words(simulated(SimDisk::new(), 1, &clock));
    let (full, first) = backup(&ledger);
    // Two histories from one backup, of equal length up to the increments.
    let mut increments = Vec::new();
    for (seed, value) in [(5, b"one"), (6, b"two")] {
        let disk = empty();
        let restored =
            restore(&simulated(disk.clone(), seed, &clock).credential(by_words()), std::slice::from_ref(&full));
        assert_eq!(restored.unwrap().to, first.to);
        let branch = Ledger::open(simulated(disk, seed + 10, &clock)).unwrap();
        put(&branch, "a", value);
        let (file, made) = increment(&branch, &first);
        put(&branch, "b", value);
        increments.push((file, increment(&branch, &made).0));
    }
    let config = simulated(empty(), 30, &clock).credential(by_words());
    let mixed = [full.clone(), increments[0].0.clone(), increments[1].1.clone()];
    assert_eq!(failed(&check(&config, &mixed)), ["join"]);
    match restore(&config, &mixed).unwrap_err() {
        Error::Backup { source: BackupError::OtherHistory { .. } | BackupError::Gap { .. }, .. } => {}
        other => panic!("{other}"),
    }
    let own = [full, increments[0].0.clone(), increments[0].1.clone()];
    restore(&simulated(empty(), 31, &clock).credential(by_words()), &own).unwrap();
}
