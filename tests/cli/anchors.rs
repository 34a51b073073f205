//! `log checkpoint`, `log anchors`, `log verify --anchored` and `log accept-rollback`, as a script sees them.

use std::process::Command;

use serde_json::{Value, json};

use crate::{Home, fields};

/// A ledger whose settings name an anchor file beside the home.
fn anchored() -> (Home, String) {
    let home = Home::new();
    let anchor = home.dir.path().join("anchor.note").to_str().unwrap().to_owned();
    let config = home.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("[anchors]\nfiles = []"), "{text}");
    std::fs::write(&config, text.replace("files = []", &format!("files = [{anchor:?}]"))).unwrap();
    (home, anchor)
}

fn copy(from: &str, to: &str) {
    assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success());
}

#[test]
fn a_checkpoint_is_printed_kept_and_checked_by_another_program() {
    let (home, anchor) = anchored();
    assert_eq!(home.json(&["log", "anchors"])["anchors"][0]["fit"], "empty");
    let unanchored = home.run(&["log", "verify", "--anchored"], 17);
    assert!(unanchored.0.contains("unanchored"), "{}", unanchored.0);
    let made = home.json(&["log", "checkpoint"]);
    let expected =
        ["anchors", "branch", "event", "head", "note", "public_key", "size", "state_root", "time_ms", "tree_root"];
    assert_eq!(fields(&made), expected);
    assert_eq!((&made["size"], &made["event"], &made["branch"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(made["anchors"], json!([{"anchor": format!("file:{anchor}"), "ok": true, "what": null}]));
    let key = home.ok(&["log", "checkpoint", "--public-key"]);
    assert_eq!(made["public_key"], key.trim_end());
    let listed = home.json(&["log", "anchors"]);
    let listed = &listed["anchors"][0];
    let expected = ["age_ms", "anchor", "branch", "configured", "fit", "placed_by_event", "size", "time_ms", "what"];
    assert_eq!(fields(listed), expected);
    assert_eq!((&listed["fit"], &listed["size"], &listed["placed_by_event"]), (&json!("holds"), &json!(1), &json!(2)));
    let report = home.json(&["log", "verify", "--anchored"]);
    assert_eq!((&report["anchored"]["events"], &report["anchored"]["anchors"][0]["fit"]), (&json!(1), &json!("holds")));

    let note = home.file("one.note", made["note"].as_str().unwrap());
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/note.py");
    let python = std::env::var("PALYRA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if Command::new(&python).args(["-c", "import cryptography"]).output().is_ok_and(|output| output.status.success()) {
        let check = |key: &str| Command::new(&python).args([tool, key, &note]).output().unwrap();
        let checked = check(key.trim_end());
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let other = include_str!("../vectors/checkpoint.vkey").trim_end();
        assert!(!check(other).status.success());
    }
}

#[test]
fn an_anchor_that_is_gone_or_damaged_is_no_clean_answer() {
    let (home, anchor) = anchored();
    home.ok(&["log", "checkpoint"]);
    home.ok(&["log", "anchors"]);
    let whole = std::fs::read(&anchor).unwrap();
    std::fs::write(&anchor, b"nonsense").unwrap();
    assert!(home.run(&["log", "anchors"], 17).0.contains("unusable"));
    std::fs::remove_file(&anchor).unwrap();
    assert!(home.run(&["log", "anchors"], 17).0.contains("absent"));
    std::fs::write(&anchor, whole).unwrap();
    home.ok(&["log", "anchors"]);
}

#[test]
fn a_home_that_was_put_back_is_refused_until_somebody_says_why() {
    let (home, anchor) = anchored();
    home.set("global/a", b"first", &[]);
    let (path, older) = (home.path(), home.dir.path().join("older"));
    let (path, older) = (path.to_str().unwrap(), older.to_str().unwrap());
    copy(path, older);
    home.set("global/a", b"second", &[]);
    assert_eq!(home.json(&["log", "checkpoint"])["size"], 3);
    let nothing = home.error(&["log", "accept-rollback", "--yes", "--reason", "because"], 12);
    assert!(nothing["what"].as_str().unwrap().contains("no rollback"), "{nothing}");
    std::fs::remove_dir_all(path).unwrap();
    copy(older, path);

    for words in [&["secrets", "get", "global/a"][..], &["log", "head"], &["keys", "rotate"], &["log", "anchors"]] {
        let refused = home.error(words, 16);
        assert!(refused["what"].as_str().unwrap().contains("events 2 to 2 are missing"), "{refused}");
        assert!(refused["hint"].as_str().unwrap().contains("accept-rollback"), "{refused}");
    }
    let (out, _) = home.run(&["--format", "json", "log", "verify"], 16);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(report["findings"].as_array().unwrap().iter().any(|found| found["code"] == "anchor_lost"), "{report}");
    home.error(&["log", "accept-rollback", "--yes"], 2);
    home.error(&["log", "accept-rollback", "--reason", "disk failed"], 3);
    let begun = home.json(&["log", "accept-rollback", "--yes", "--reason", "disk failed"]);
    let expected = json!({"branch": 1, "from": 2, "lost_through": 2, "anchor": format!("file:{anchor}"), "seq": 4});
    assert_eq!(begun, expected);
    assert!(home.ok(&["log", "show"]).contains("disk failed"));
    assert_eq!(home.ok(&["secrets", "get", "global/a", "--reveal"]), "first");
    home.ok(&["log", "verify", "--state", "--witness"]);
}

#[test]
fn an_anchor_that_was_taken_out_of_the_settings_still_refuses_an_older_copy() {
    let (home, anchor) = anchored();
    home.set("global/a", b"first", &[]);
    home.ok(&["log", "checkpoint"]);
    let (path, older) = (home.path(), home.dir.path().join("older"));
    let (path, older) = (path.to_str().unwrap(), older.to_str().unwrap());
    copy(path, older);
    home.set("global/a", b"second", &[]);
    home.ok(&["log", "checkpoint"]);
    let config = home.path().join("config.toml");
    let plain = std::fs::read_to_string(&config).unwrap().replace(&format!("files = [{anchor:?}]"), "files = []");
    std::fs::write(&config, &plain).unwrap();
    let (out, _) = home.run(&["--format", "json", "log", "verify"], 17);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["anchored"]["anchors"][0]["fit"], &report["findings"][0]["code"]),
        (&json!("holds"), &json!("anchor_unnamed"))
    );
    std::fs::remove_dir_all(path).unwrap();
    copy(older, path);
    std::fs::write(&config, &plain).unwrap();
    for words in [&["secrets", "get", "global/a"][..], &["log", "verify", "--state"], &["log", "anchors"]] {
        home.run(words, 16);
    }
    // A pipe in its place is not waited for, and ends nothing; a checkpoint that no anchor took says so.
    std::fs::remove_file(&anchor).unwrap();
    assert!(Command::new("mkfifo").arg(&anchor).status().unwrap().success());
    home.ok(&["secrets", "get", "global/a"]);
    std::fs::write(&config, plain.replace("files = []", &format!("files = [{anchor:?}]"))).unwrap();
    home.run(&["log", "checkpoint"], 17);
    // In the home it would be put back together with what it is to vouch for.
    let inside = home.path().join("checkpoints/anchor.note");
    std::fs::write(&config, plain.replace("files = []", &format!("files = [{inside:?}]"))).unwrap();
    assert!(home.error(&["log", "head"], 2)["what"].as_str().unwrap().contains("is in the home"));
}

#[test]
fn a_restored_home_without_anchors_is_accepted_with_a_note_that_somebody_kept() {
    let home = Home::new();
    let (path, older) = (home.path(), home.dir.path().join("older"));
    let (path, older) = (path.to_str().unwrap(), older.to_str().unwrap());
    copy(path, older);
    home.set("global/a", b"second", &[]);
    let note = home.json(&["log", "checkpoint"])["note"].as_str().unwrap().to_owned();
    let note = home.file("kept.note", &note);
    let accept = ["log", "accept-rollback", "--yes", "--reason", "disk failed", "--note", &note];
    home.error(&accept, 12);
    std::fs::remove_dir_all(path).unwrap();
    copy(older, path);
    let begun = home.json(&accept);
    assert_eq!((&begun["branch"], &begun["lost_through"], &begun["anchor"]), (&json!(1), &json!(1), &json!("note")));
    home.ok(&["log", "verify", "--state"]);
}
