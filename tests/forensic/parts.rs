//! Parts of a ledger: what was not read is said, and what lies beside the evidence is not the evidence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use palyra_ledger::{Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes, Settings};
use serde_json::Value;

/// A ledger of several segments, and a checkpoint of it that was kept elsewhere.
fn scene(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (home, note) = (dir.join(name), dir.join(format!("{name}.note")));
    let mut settings = Settings::default();
    settings.log.segment_bytes = palyra_ledger::limits::SEGMENT_BYTES_MIN;
    let config = Config::new(&home).without_witness().without_background().settings(settings);
    let ledger = Ledger::init(config, NewSlot::file("machine")).unwrap();
    for number in 0..8 {
        let value = SecretBytes::from([b'v'; 1200].as_slice());
        let name = format!("s{number}").parse().unwrap();
        ledger.vault(Scope::global()).put(&name, &value, PutOptions::new()).unwrap();
    }
    ledger.checkpoint().unwrap();
    ledger.close().unwrap();
    fs::copy(home.join("checkpoints/notes"), &note).unwrap();
    (home, note)
}

fn segments(home: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(home.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

fn first_of(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn run(words: &[&str], code: i32) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_palyra-forensic")).arg("--format=json").args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}\n{text}\n{said}");
    serde_json::from_str(&text).unwrap_or_else(|_| said.into())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_journal_without_its_beginning_is_damaged_and_never_anchored() {
    let dir = tempfile::tempdir().unwrap();
    let (home, note) = scene(dir.path(), "home");
    let journal = home.join("journal");
    let whole = run(&["verify", text(&journal), "--anchor", text(&note)], 0);
    assert_eq!(whole["verdict"], "INTACT-ANCHORED");
    let all = segments(&home);
    fs::remove_file(&all[0]).unwrap();
    let cut = run(&["verify", text(&journal), "--anchor", text(&note)], 15);
    assert_eq!(cut["verdict"], format!("DAMAGED(0-{})", first_of(&all[1]) - 1));
    run(&["report", text(&journal), "--anchor", text(&note), "-o", text(&dir.path().join("page.html"))], 15);
}

#[test]
fn a_single_segment_says_which_events_were_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (home, note) = scene(dir.path(), "home");
    // The last segment holds the record of the checkpoint alone; the one before it what the checkpoint ends with.
    let last = segments(&home).into_iter().rev().nth(1).unwrap();
    let found = run(&["verify", text(&last), "--anchor", text(&note)], 17);
    assert_eq!(found["verdict"], "INTACT-UNANCHORED");
    assert_eq!(found["unread"], serde_json::json!({"from": 0, "through": first_of(&last) - 1}));
    assert!(found["unanchored"].is_null(), "what was read is anchored: {found}");
}

#[test]
fn a_segment_on_the_standard_input_stands_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (home, _) = scene(dir.path(), "home");
    let segment = segments(&home).remove(0);
    for (words, code) in [(["verify", "-"], 17), (["inspect", "-"], 0)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-forensic"));
        // A folder of keys in the working folder is nobody's.
        command.args(words).current_dir(&home).stdin(fs::File::open(&segment).unwrap());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("keyring") && !said.contains("damaged"), "{said}");
    }
}

#[test]
fn what_lies_beside_a_single_file_is_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    let ((home, _), (other, _)) = (scene(dir.path(), "home"), scene(dir.path(), "other"));
    let mixed = dir.path().join("mixed");
    fs::create_dir(&mixed).unwrap();
    let segment = mixed.join("copy.seg");
    fs::copy(&segments(&home)[0], &segment).unwrap();
    assert!(Command::new("cp").arg("-r").arg(other.join("keys")).arg(&mixed).status().unwrap().success());
    let found = run(&["verify", text(&segment)], 17);
    assert_eq!((&found["verdict"], &found["findings"]), (&"INTACT-UNANCHORED".into(), &serde_json::json!([])));
}

#[test]
fn a_damaged_copy_is_not_merely_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let (home, _) = scene(dir.path(), "home");
    let copy = dir.path().join("copy");
    assert!(Command::new("cp").arg("-r").arg(&home).arg(&copy).status().unwrap().success());
    let segment = &segments(&copy)[1];
    let mut bytes = fs::read(segment).unwrap();
    bytes[600] ^= 1;
    fs::write(segment, bytes).unwrap();
    let found = run(&["diff", text(&home), text(&copy)], 15);
    assert_eq!((&found["one_whole"], &found["other_whole"]), (&true.into(), &false.into()));
    assert!(found["same_events"].as_u64() > found["common_events"].as_u64(), "{found}");
    // What stands behind the damage is there, and cannot be proven.
    let last = first_of(segments(&home).last().unwrap()) - 1;
    let bundle = dir.path().join("bundle");
    let refused = run(&["bundle", "create", text(&copy), "--select", &last.to_string(), "-o", text(&bundle)], 15);
    assert!(refused.to_string().contains("whole only up to event"), "{refused}");
}
