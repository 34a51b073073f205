//! Damage is named, and the exit code says of what kind it is.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Home;

fn segment(home: &Home) -> PathBuf {
    let mut names: Vec<_> =
        std::fs::read_dir(home.path().join("journal")).unwrap().map(|one| one.unwrap().path()).collect();
    names.sort();
    names.into_iter().next_back().unwrap()
}

fn report(home: &Home, words: &[&str], code: i32) -> Value {
    let mut all = vec!["--format", "json", "log", "verify"];
    all.extend(words);
    serde_json::from_str(&home.run(&all, code).0).unwrap()
}

fn flip(path: &Path, offset_from_end: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - offset_from_end;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_is_15() {
    let home = Home::new();
    for number in 0..5 {
        home.set("global/a", format!("value {number}").as_bytes(), &[]);
    }
    let path = segment(&home);
    let frames = std::fs::read(&path).unwrap();
    let used = frames.iter().rposition(|byte| *byte != 0).unwrap();
    flip(&path, frames.len() - used / 2);
    let report = report(&home, &[], 15);
    assert_eq!(report["ok"], false);
    assert!(!report["findings"].as_array().unwrap().is_empty());
    assert!(report["findings"][0]["code"].is_string() && report["findings"][0]["what"].is_string());
    let (out, _) = home.run(&["log", "verify"], 15);
    assert!(out.contains("broken"), "{out}");
    home.run(&["doctor"], 21);
}

#[test]
fn an_older_copy_of_the_journal_is_16() {
    let home = Home::new();
    home.set("global/a", b"one", &[]);
    let path = segment(&home);
    let older = std::fs::read(&path).unwrap();
    home.set("global/a", b"two", &[]);
    std::fs::write(&path, older).unwrap();
    home.error(&["log", "head"], 16);
    home.error(&["secrets", "get", "global/a"], 16);
    let found = report(&home, &[], 16);
    assert!(found["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "truncated"), "{found}");
    home.run(&["doctor"], 21);
}

#[test]
fn a_missing_head_file_is_17_and_the_doctor_writes_it_anew() {
    let home = Home::new();
    home.set("global/a", b"one", &[]);
    std::fs::remove_file(home.path().join("head")).unwrap();
    home.error(&["log", "head"], 17);
    let found = report(&home, &[], 17);
    assert_eq!(found["ok"], false);
    home.run(&["doctor"], 21);
    let repaired = home.json(&["doctor", "--repair", "--yes"]);
    assert!(repaired["repaired"].to_string().contains("person's word"), "{repaired}");
    report(&home, &["--state"], 0);
    assert_eq!(home.ok(&["secrets", "get", "global/a", "--reveal"]), "one");
}

#[test]
fn a_lost_index_and_a_lost_second_copy_come_back_by_themselves() {
    let home = Home::new();
    home.set("global/a", b"one", &[]);
    std::fs::remove_dir_all(home.path().join("index")).unwrap();
    assert_eq!(home.ok(&["secrets", "get", "global/a", "--reveal"]), "one");
    std::fs::remove_dir_all(home.path().join("sled")).unwrap();
    home.ok(&["keys", "rotate"]);
    report(&home, &["--state", "--witness"], 0);
}

#[test]
fn the_doctor_knows_every_backend_and_looks_into_it() {
    let home = Home::empty();
    home.ok(&["init", "--backend", "encrypted_file"]);
    home.set("global/a", b"value", &[]);
    let report = home.ok(&["doctor"]);
    assert!(report.contains("every sealed value is in `encrypted_file`"), "{report}");
    let objects = home.path().join("objects/00");
    let object = objects.join("0000000000000000.json");
    std::fs::remove_file(&object).unwrap();
    let (report, _) = home.run(&["doctor"], 21);
    assert!(report.contains("global/a") && report.contains("secrets shred"), "{report}");
    home.ok(&["secrets", "shred", "global/a", "--yes"]);
    home.ok(&["doctor"]);
    std::fs::write(home.path().join("backend.kind"), "floppy\n").unwrap();
    let (report, _) = home.run(&["doctor"], 21);
    assert!(report.contains("floppy"), "{report}");
}
