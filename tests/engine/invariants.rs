//! The invariants of DESIGN.md, by number, each with the test that holds it, and the arrows between rooms.

use std::path::{Path, PathBuf};

use palyra_ledger::inspect::verify_files;
use palyra_ledger::testing::ManualClock;
use palyra_ledger::{Ledger, PutOptions, ReplayPoint, Scope};

use super::common::{bytes, disk_with_ledger, name, put, simulated};

/// Which rooms a room may use. Every arrow points down.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("crypto", &["base"]),
    ("pki", &["base", "crypto"]),
    ("platform", &["base"]),
    ("store", &["base", "testing"]),
    ("backend", &["base", "crypto", "platform", "store"]),
    // The file of a backup, and what opens it; it knows no event and no journal.
    ("backup", &["base", "crypto"]),
    ("event", &["base", "crypto"]),
    ("log", &["base", "crypto", "store"]),
    ("checkpoint", &["base", "crypto"]),
    ("keys", &["base", "crypto", "platform", "store"]),
    ("projection", &["base", "crypto", "store", "log"]),
    ("vault", &["base", "crypto", "event"]),
    ("identity", &["base", "crypto", "event"]),
    ("auth", &["base", "crypto", "event"]),
    ("inspect", &["base", "checkpoint", "crypto", "store", "log"]),
    ("deliver", &["base"]),
    // Readers of what other stores hold: they know forms of files and events, and no ledger.
    ("import", &["auth", "base", "crypto", "deliver", "event", "pki", "platform"]),
    (
        "engine",
        &[
            "base",
            "crypto",
            "pki",
            "platform",
            "store",
            "backend",
            "backup",
            "event",
            "log",
            "checkpoint",
            "keys",
            "projection",
            "vault",
            "identity",
            "auth",
            "inspect",
            // What was read is imported by the engine.
            "import",
        ],
    ),
    ("resolve", &["base", "crypto", "engine", "event", "vault"]),
    ("examine", &["base", "checkpoint", "crypto", "engine", "event", "inspect", "keys", "log", "store"]),
    ("oauth", &["auth", "base", "engine", "event"]),
    ("tls", &["base", "event", "identity", "pki"]),
    ("device", &["base", "checkpoint", "crypto", "event", "identity", "pki", "tls"]),
    ("serve", &["auth", "base", "checkpoint", "device", "engine", "event", "identity", "oauth", "pki", "tls", "vault"]),
    (
        "testing",
        &[
            "auth",
            "backend",
            "backup",
            "base",
            "deliver",
            "checkpoint",
            "device",
            "identity",
            "import",
            "oauth",
            "pki",
            "platform",
            "store",
            "event",
            "log",
            "keys",
            "engine",
            "vault",
            "crypto",
            "projection",
            "inspect",
        ],
    ),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, allowed) in ARROWS {
        let mut files = Vec::new();
        sources(&root.join(room), &mut files);
        assert!(!files.is_empty(), "{room}");
        for file in files {
            let tests = file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
            if tests {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for piece in code.split("crate::").skip(1) {
                let used: String = piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let known = ARROWS.iter().any(|(name, _)| *name == used);
                if known && used != *room {
                    assert!(allowed.contains(&used.as_str()), "{} uses {used}", file.display());
                }
            }
        }
    }
}

#[test]
fn i1_the_state_is_the_fold_of_the_events() {
    let clock = ManualClock::default();
    let ledger = Ledger::open(simulated(disk_with_ledger(&clock), 2, &clock)).unwrap();
    let mut roots = Vec::new();
    for number in 0..20 {
        clock.advance(1);
        put(&ledger, &format!("key{}", number % 5), &number.to_string());
        roots.push((ledger.log().head().unwrap().seq, ledger.state_root().unwrap()));
    }
    for (seq, root) in roots {
        assert_eq!(ledger.replay(ReplayPoint::Seq(seq)).unwrap().state_root().unwrap(), root, "at {seq}");
    }
}

#[test]
fn i4_numbers_have_no_gap_and_batches_are_whole() {
    let clock = ManualClock::default();
    let ledger = Ledger::open(simulated(disk_with_ledger(&clock), 2, &clock)).unwrap();
    for number in 0..10 {
        put(&ledger, "key", &number.to_string());
    }
    let mut expected = 0;
    let mut prev = None;
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            assert_eq!(entry.seq, expected);
            assert!(prev.is_none_or(|prev| prev == entry.prev));
            assert!(entry.batch_index < entry.batch_len);
            prev = Some(entry.hash);
            expected += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(expected, 11);
}

#[test]
fn i5_no_nonce_is_used_twice() {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
    for number in 0..50 {
        put(&ledger, "key", &number.to_string());
    }
    let mut nonces = std::collections::BTreeSet::new();
    let mut frames = 0;
    for path in disk.files().iter().filter(|path| path.starts_with("/home/journal")) {
        let bytes = disk.contents(path).unwrap();
        let mut rest = bytes.as_slice();
        while let Some(at) = rest.windows(4).position(|window| window == b"PLFR") {
            rest = &rest[at..];
            let Ok(frame) = palyra_ledger::log::Frame::parse(rest) else {
                rest = &rest[1..];
                continue;
            };
            frames += 1;
            assert!(nonces.insert(frame.header.nonce));
            rest = &rest[frame.bytes().len()..];
        }
    }
    assert_eq!(frames, 51);
}

#[test]
fn i7_time_and_randomness_come_from_outside() {
    // Two runs with the same clock and the same dice leave the same bytes.
    let run = || {
        let clock = ManualClock::default();
        let disk = disk_with_ledger(&clock);
        let ledger = Ledger::open(simulated(disk.clone(), 7, &clock)).unwrap();
        for number in 0..5 {
            clock.advance(3);
            put(&ledger, "key", &number.to_string());
        }
        (ledger.log().head().unwrap().seq, ledger.log().entry(3).unwrap().time)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_clock_that_steps_back_is_recorded_and_time_never_runs_backwards() {
    let clock = ManualClock::default();
    let ledger = Ledger::open(simulated(disk_with_ledger(&clock), 2, &clock)).unwrap();
    clock.advance(100_000);
    put(&ledger, "key", "1");
    clock.set(palyra_ledger::Timestamp::from_millis(1_767_225_600_000));
    put(&ledger, "key", "2");
    put(&ledger, "key", "3");
    let mut times = Vec::new();
    let mut steps = 0;
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            times.push(entry.time);
            steps += usize::from(entry.kind_name() == "clock_stepped");
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(times.is_sorted());
    assert_eq!(steps, 1);
}

#[test]
fn a_clock_that_steps_back_before_a_new_epoch_leaves_a_sound_log() {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
    clock.advance(100_000);
    put(&ledger, "key", "1");
    clock.set(palyra_ledger::Timestamp::from_millis(1_767_225_600_000));
    ledger.keys().rotate_epoch().unwrap();
    put(&ledger, "key", "2");
    let mut kinds = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            kinds.push(entry.kind_name());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let last: Vec<&str> = kinds.iter().rev().take(3).map(String::as_str).collect();
    assert_eq!(last, ["secret_put", "epoch_started", "clock_stepped"]);
    ledger.close().unwrap();
    let report = verify_files(&disk, Path::new("/home"), None).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

/// A crash behind a roll leaves a last segment without a frame: the time of the last event stands in the one before.
#[test]
fn time_never_runs_backwards_behind_a_crash_after_a_roll() {
    use palyra_ledger::log::segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentTrailer, digest, file_name};
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
    clock.advance(100_000);
    put(&ledger, "key", "1");
    let (head, ledger_id) = (ledger.log().head().unwrap(), ledger.id());
    ledger.close().unwrap();
    drop(ledger);
    let path = Path::new("/home/journal").join(file_name(0));
    let mut bytes = disk.contents(&path).unwrap();
    let mut whole = digest();
    whole.update(&bytes);
    let trailer = SegmentTrailer {
        ledger_id,
        first_seq: 0,
        last_seq: head.seq,
        frames_len: (bytes.len() - SEGMENT_HEADER_LEN) as u64,
        last_hash: head.hash,
        digest: whole.finish(),
    };
    bytes.extend_from_slice(&trailer.encode());
    disk.put(&path, &bytes).unwrap();
    let next = SegmentHeader { ledger_id, first_seq: head.seq + 1, prev: head.hash };
    disk.put(&Path::new("/home/journal").join(file_name(head.seq + 1)), &next.encode()).unwrap();
    disk.settle();
    clock.set(palyra_ledger::Timestamp::from_millis(1_767_225_600_000));
    let ledger = Ledger::open(simulated(disk.clone(), 3, &clock)).unwrap();
    put(&ledger, "key", "2");
    assert!(ledger.log().head().unwrap().time >= head.time);
    ledger.close().unwrap();
    let report = verify_files(&disk, Path::new("/home"), None).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn i9_verification_needs_no_key() {
    let clock = ManualClock::default();
    let disk = disk_with_ledger(&clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, &clock)).unwrap();
    put(&ledger, "key", "value");
    ledger.close().unwrap();
    for path in disk.files() {
        if path.starts_with("/home/keys") {
            palyra_ledger::store::Medium::remove(&disk, &path).unwrap();
        }
    }
    let report = verify_files(&disk, Path::new("/home"), None).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    assert_eq!(report.events, 2);
}

#[test]
fn bounds_are_kept_and_named() {
    let clock = ManualClock::default();
    let ledger = Ledger::open(simulated(disk_with_ledger(&clock), 2, &clock)).unwrap();
    let vault = ledger.vault(Scope::global());
    let before = ledger.state_root().unwrap();
    let max = palyra_ledger::limits::VALUE_MAX_DEFAULT;
    for (value, message) in [(0, "empty"), (max + 1, "65537 bytes, more than 65536")] {
        let value = palyra_ledger::SecretBytes::new(vec![7; value]);
        let refused = vault.put(&name("key"), &value, PutOptions::new()).unwrap_err();
        assert!(refused.to_string().contains(message), "{refused}");
    }
    let long = vault.put(&name("key"), &bytes("x"), PutOptions::new().description("x".repeat(1025))).unwrap_err();
    assert!(long.to_string().contains("1024"), "{long}");
    assert_eq!(ledger.state_root().unwrap(), before, "refusals change no state");
    let whole = palyra_ledger::SecretBytes::new(vec![7; max]);
    vault.put(&name("key"), &whole, PutOptions::new()).unwrap();
    assert_eq!(vault.get(&name("key")).unwrap().value, whole);
}
