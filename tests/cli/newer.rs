//! A home of another version of the program, at the command line.

use std::path::Path;
use std::process::Command as Plain;
use std::sync::Arc;

use palyra_ledger::store::RealMedium;
use palyra_ledger::testing::OtherProgram;
use palyra_ledger::{OsRandom, STATE_SCHEMA};
use serde_json::Value;

use super::Home;

fn other(home: &Path) -> OtherProgram {
    OtherProgram::at(Arc::new(RealMedium), home, Arc::new(OsRandom)).unwrap()
}

fn filled() -> Home {
    let home = Home::new();
    let output = home.output(&["secrets", "set", "global/key", "--stdin"], b"value");
    assert!(output.status.success(), "{output:?}");
    home
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn journal(home: &Home) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(home.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_newer_event_is_named_and_everything_before_it_is_read() {
    let home = filled();
    let first = other(&home.path()).append(&[OtherProgram::event(120, 4)]).unwrap();
    let before = journal(&home);
    for words in [
        &["secrets", "list"][..],
        &["secrets", "delete", "global/key"],
        &["keys", "rotate"],
        &["replay"],
        &["log", "show"],
        &["doctor", "--repair", "--yes"],
    ] {
        let (_, said) = home.run(words, 2);
        for part in [&format!("event {first}"), "kind 120", "schema version 4", "newer"] {
            assert!(said.contains(part), "{words:?}: {said}");
        }
    }
    assert!(journal(&home) == before);
    let last = (first - 1).to_string();
    let (shown, said) = home.run(&["log", "show", "--to", &last], 0);
    assert!(shown.contains("secret_put") && said.contains("kind 120"), "{shown}{said}");
    let (shown, _) = home.run(&["replay", "--at", &last], 0);
    assert!(shown.contains("global/key"), "{shown}");

    for words in [&["log", "verify"][..], &["log", "verify", "--state"], &["log", "verify", "--keyless"]] {
        let (shown, _) = home.run(&[words, &["--format", "json"][..]].concat(), 0);
        let report = json(&shown);
        assert_eq!((&report["ok"], &report["events"]), (&true.into(), &(first + 1).into()), "{words:?}: {shown}");
        let findings = report["findings"].as_array().unwrap();
        let unknown: Vec<_> = findings.iter().filter(|found| found["code"] == "unknown_event").collect();
        assert_eq!(unknown.len(), 1, "{words:?}: {shown}");
        assert_eq!(unknown[0]["seq"], first);
        assert!(unknown[0]["what"].as_str().unwrap().contains("kind 120"), "{shown}");
    }
    let (shown, _) = home.run(&["doctor", "--format", "json"], 21);
    let format = &json(&shown)["format"];
    assert_eq!(format["events_unknown"], 1, "{format}");
    assert_eq!(format["step"]["number"], 8, "{format}");
    assert!(journal(&home) == before);

    let forensic = env!("CARGO_BIN_EXE_palyra-forensic");
    for words in [&["--format", "json", "verify"][..], &["--format", "json", "verify", "--keys"]] {
        let output = Plain::new(forensic).args(words).arg(home.path()).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(17), "{words:?}: {shown}{}", String::from_utf8_lossy(&output.stderr));
        assert!(shown.contains("INTACT-UNANCHORED") && shown.contains("unknown_event"), "{shown}");
    }
}

#[test]
fn an_older_index_is_said_and_made_anew_by_the_first_command() {
    let home = filled();
    other(&home.path()).index(1, STATE_SCHEMA - 1).unwrap();
    let before = journal(&home);
    let (shown, said) = home.run(&["doctor", "--format", "json"], 0);
    let report = json(&shown);
    assert_eq!(report["format"]["index_is_older"], true, "{report}");
    assert!(said.contains("made by an older version"), "{said}");
    assert!(journal(&home).iter().zip(&before).all(|(now, then)| now.1.starts_with(&then.1)));
    let (shown, said) = home.run(&["doctor", "--format", "json"], 0);
    let report = json(&shown);
    let format = &report["format"];
    assert_eq!(format["index"]["state_schema"], STATE_SCHEMA, "{format}");
    assert_eq!(format["index_is_older"], false, "{format}");
    assert!(!said.contains("older version"), "{said}");
    let put = format["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "secret_put").unwrap();
    assert_eq!((&put["schema"], &put["present_schema"], &put["events"]), (&2.into(), &2.into(), &1.into()));
    let (shown, _) = home.run(&["doctor"], 0);
    assert!(shown.contains("0008 (schema-versions)"), "{shown}");
    home.run(&["secrets", "list"], 0);
}

#[test]
fn a_newer_index_is_refused_until_it_is_asked_for_anew() {
    let home = filled();
    other(&home.path()).index(1, STATE_SCHEMA + 1).unwrap();
    let (_, said) = home.run(&["secrets", "list"], 2);
    assert!(said.contains("newer program") && said.contains("doctor --repair"), "{said}");
    home.run(&["doctor", "--repair", "--yes"], 0);
    home.run(&["secrets", "list"], 0);
}
