//! Carving against ground truth: every frame whose bytes are all still there is found, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use palyra_ledger::inspect::Evidence;
use palyra_ledger::inspect::carve::{self, Harvest, Source, carve, chains};
use palyra_ledger::log::Frame;
use palyra_ledger::testing::SeededRandom;
use palyra_ledger::{ArgonCost, Config, Ledger, NewSlot, PutOptions, Random, Scope, SecretBytes};

/// Bytes of a split frame in each of sled's values but the last.
const CHUNK: usize = 12 * 1024 - 5;

fn draw(random: &SeededRandom, below: usize) -> usize {
    let mut bytes = [0; 8];
    random.fill(&mut bytes).unwrap();
    usize::from_le_bytes(bytes) % below.max(1)
}

/// A real ledger with its second copy: small values, and some that sled's copy splits.
fn made(dir: &Path) -> PathBuf {
    let home = dir.join("home");
    let config = Config::new(&home).argon_cost(ArgonCost::for_tests());
    let ledger = Ledger::init(config, NewSlot::file("machine")).unwrap();
    for number in 0..40_usize {
        let size = if number % 5 == 4 { 13_000 + 7_000 * (number % 4) } else { 40 + 97 * number };
        let value = SecretBytes::new(vec![number as u8; size]);
        ledger.vault(Scope::global()).put(&format!("s{number}").parse().unwrap(), &value, PutOptions::new()).unwrap();
    }
    ledger.close().unwrap();
    home
}

fn truth(home: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(home.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut frames = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let mut at = 128;
        while let Ok(frame) = Frame::parse(&bytes[at..]) {
            frames.push(frame.bytes().to_vec());
            at += frame.bytes().len();
        }
    }
    frames
}

fn search(dir: &Path) -> Harvest {
    let evidence = Evidence::at(dir).unwrap();
    let files = evidence.files().unwrap();
    let sources: Vec<_> = files.files.iter().map(|path| Source { evidence: &evidence, path }).collect();
    carve(&sources, &|_| {})
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// Whether a frame's bytes are all in a file, in one piece or in the pieces that sled's copy makes.
fn is_there(bytes: &[u8], frame: &[u8]) -> bool {
    if contains(bytes, frame) {
        return true;
    }
    let lead = [&[2][..], &(frame.len() as u32).to_le_bytes()].concat();
    frame.len() > CHUNK && frame.chunks(CHUNK).all(|piece| contains(bytes, &[&lead[..], piece].concat()))
}

fn numbers(frames: &[Vec<u8>]) -> BTreeSet<u64> {
    frames.iter().map(|bytes| Frame::parse(bytes).unwrap().header.seq).collect()
}

fn found(harvest: &Harvest) -> BTreeSet<u64> {
    harvest.frames.iter().map(|found| found.seq).collect()
}

#[test]
fn the_second_copy_alone_gives_the_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    let home = made(dir.path());
    let truth = truth(&home);
    let harvest = search(&home.join("sled"));
    assert_eq!(found(&harvest), numbers(&truth));
    assert!(harvest.joined >= 8, "{}", harvest.joined);
    let chains = chains(&harvest.frames);
    assert_eq!((chains.len(), chains[0].runs.len(), chains[0].proven), (1, 1, truth.len() as u64));
    let evidence = Evidence::at(&home.join("sled")).unwrap();
    let files = evidence.files().unwrap();
    let sources: Vec<_> = files.files.iter().map(|path| Source { evidence: &evidence, path }).collect();
    let written = carve::write(&dir.path().join("carved"), &chains[0], &harvest.frames, &sources).unwrap();
    assert_eq!((written[0].first, written[0].last), (0, truth.len() as u64 - 1));
}

#[test]
fn overwritten_and_cut_files_give_every_frame_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let home = made(dir.path());
    let truth = truth(&home);
    let random = SeededRandom::new(77);
    for (name, folder) in [("db", "sled"), ("00000000000000000000.seg", "journal")] {
        let whole = std::fs::read(home.join(folder).join(name)).unwrap();
        for round in 0..20 {
            let mut bytes = whole.clone();
            for _ in 0..=draw(&random, 12) {
                let (at, len) = (draw(&random, bytes.len()), 1 + draw(&random, 3000));
                let end = (at + len).min(bytes.len());
                let mut noise = vec![0; end - at];
                random.fill(&mut noise).unwrap();
                bytes[at..end].copy_from_slice(&noise);
            }
            bytes.truncate(bytes.len() - draw(&random, bytes.len() / 4));
            let place = dir.path().join(format!("{folder}-{round}"));
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("image"), &bytes).unwrap();
            let left: Vec<_> = truth.iter().filter(|frame| is_there(&bytes, frame)).cloned().collect();
            let harvest = search(&place);
            assert_eq!(found(&harvest), numbers(&left), "{folder}, round {round}");
        }
    }
}

#[test]
fn an_image_gives_each_frame_once_and_names_gaps_and_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let home = made(dir.path());
    let truth = truth(&home);
    // Frames 10 to 12 are missing, everything else is there twice, at odd places, and one is forged.
    let mut image = vec![0x55; 4099];
    for (number, frame) in truth.iter().enumerate().chain(truth.iter().enumerate()) {
        if !(10..=12).contains(&number) {
            image.extend_from_slice(frame);
            image.extend_from_slice(&b"PLFRnoise"[..number % 10]);
        }
    }
    let mut forged = truth[20].clone();
    forged[170] ^= 1;
    super::log::rehash(&mut forged);
    // It stands within a frame that somebody made up to hide it.
    let mut wrapping = truth[21].clone();
    wrapping[92..96].copy_from_slice(&(forged.len() as u32).to_le_bytes());
    wrapping.splice(160..wrapping.len() - 48, forged.clone());
    super::log::rehash(&mut wrapping);
    image.extend_from_slice(&wrapping);
    let place = dir.path().join("image");
    std::fs::write(&place, &image).unwrap();
    let harvest = search(&place);
    assert_eq!(harvest.frames.len(), truth.len() - 3 + 2);
    assert_eq!(harvest.duplicates, truth.len() as u64 - 3);
    let chains = chains(&harvest.frames);
    assert_eq!(chains[0].gaps, [(10, 12)]);
    assert_eq!(chains[0].proven, 10);
    let conflicts: Vec<_> = chains[0].conflicts.iter().map(|at| harvest.frames[*at].seq).collect();
    assert_eq!(conflicts, [20, 21]);
}
