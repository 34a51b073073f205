//! Ways in, and rotation.

use serde_json::json;

use crate::{Home, fields};

const PASSPHRASE: &str = "correct horse battery staple";

/// A ledger whose only way in is a passphrase, and the file that holds it.
fn by_passphrase() -> (Home, String) {
    let home = Home::empty();
    let file = home.file("passphrase", &format!("{PASSPHRASE}\nsecond line\n"));
    home.ok(&["init", "--passphrase", "--new-passphrase-file", &file]);
    (home, file)
}

#[test]
fn a_locked_ledger_is_4_and_a_wrong_passphrase_11() {
    let (home, file) = by_passphrase();
    let error = home.error(&["log", "head"], 4);
    assert!(error["hint"].as_str().unwrap().contains("--passphrase-file"));
    home.ok(&["--passphrase-file", &file, "log", "head"]);
    let by_env = home.command(&["log", "head"]).env("PALYRA_LEDGER_PASSPHRASE_FILE", &file).output().unwrap();
    assert_eq!(by_env.status.code(), Some(0));
    let wrong = home.file("wrong", "incorrect horse\n");
    home.error(&["--passphrase-file", &wrong, "log", "head"], 11);
    home.error(&["--passphrase-file", "/nonexistent", "log", "head"], 10);
    let report = home.ok(&["doctor"]);
    assert!(report.contains("not tried"), "{report}");
    home.ok(&["log", "verify", "--keyless"]);
}

#[test]
fn slots_are_added_pinned_and_removed() {
    let home = Home::new();
    let file = home.file("passphrase", PASSPHRASE);
    let added = home.json(&["keys", "add-slot", "passphrase", "--label", "safe", "--new-passphrase-file", &file]);
    assert_eq!(fields(&added), ["created_at_ms", "id", "kind", "label", "pinned"]);
    assert_eq!(
        (&added["kind"], &added["label"], &added["pinned"]),
        (&json!("passphrase"), &json!("safe"), &json!(false))
    );
    let id = added["id"].as_str().unwrap();
    let slots = home.json(&["keys", "slots"]);
    let first = slots["slots"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(slots["slots"].as_array().unwrap().len(), 2);
    // A passphrase does not open a key file's slot: the hint names the one that it may open.
    let error = home.error(&["--passphrase-file", &file, "--slot", &first, "log", "head"], 4);
    assert!(error["hint"].as_str().unwrap().contains(id), "{error}");
    home.ok(&["--passphrase-file", &file, "--slot", id, "log", "head"]);
    // Without a slot it is tried on those of its kind.
    home.ok(&["--passphrase-file", &file, "log", "head"]);
    home.error(&["keys", "remove-slot", &first], 2);
    let words = ["--passphrase-file", &file, "--slot", id, "keys", "remove-slot", &first];
    assert_eq!(home.json(&words), json!({"removed": first, "pinned": id}));
    home.error(&["log", "head"], 4);
    home.error(&["--passphrase-file", &file, "keys", "remove-slot", id], 13);
    let kinds = home.ok(&["--passphrase-file", &file, "log", "show", "--kind", "key_slot_removed"]);
    assert!(kinds.contains("removed key slot"), "{kinds}");
}

#[test]
fn rotation_keeps_every_secret() {
    let home = Home::new();
    home.set("global/a", b"kept", &[]);
    assert_eq!(home.json(&["keys", "rotate"])["epoch"], 1);
    let file = home.file("passphrase", PASSPHRASE);
    let slot = home.json(&["keys", "add-slot", "passphrase", "--new-passphrase-file", &file]);
    let id = slot["id"].as_str().unwrap();
    home.error(&["keys", "rotate", "--root"], 4);
    let given = format!("{id}={file}");
    let rotated = home.json(&["keys", "rotate", "--root", "--slot-passphrase-file", &given]);
    assert_eq!(fields(&rotated), ["dropped", "epoch", "root_generation"]);
    assert_eq!((&rotated["epoch"], &rotated["root_generation"]), (&json!(2), &json!(2)));
    assert_eq!(home.ok(&["secrets", "get", "global/a", "--reveal"]), "kept");
    assert_eq!(home.ok(&["--slot", id, "--passphrase-file", &file, "secrets", "get", "global/a", "--reveal"]), "kept");
    assert_eq!(home.json(&["keys", "rotate", "--root", "--drop", id])["dropped"], json!([id]));
    home.error(&["--slot", id, "--passphrase-file", &file, "log", "head"], 10);
    assert_eq!(home.ok(&["secrets", "get", "global/a", "--reveal"]), "kept");
    home.ok(&["log", "verify", "--state", "--witness"]);
}
