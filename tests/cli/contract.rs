//! The JSON fields of every command: a promise. A field may be added; none may change or go.

use serde_json::{Value, json};

use crate::{Home, fields};

#[test]
fn init_names_ledger_home_slots_and_head() {
    let home = Home::empty();
    let made = home.json(&["init", "--label", "machine"]);
    assert_eq!(fields(&made), ["backend", "head", "home", "ledger_id", "slots"]);
    assert_eq!(made["ledger_id"].as_str().unwrap().len(), 32);
    assert_eq!(made["home"], home.path().to_str().unwrap());
    assert_eq!(made["head"]["seq"], 0);
    assert_eq!(made["head"]["hash"].as_str().unwrap().len(), 64);
    let slot = &made["slots"][0];
    assert_eq!(fields(slot), ["created_at_ms", "id", "kind", "label", "pinned"]);
    assert_eq!((&slot["kind"], &slot["label"], &slot["pinned"]), (&json!("file"), &json!("machine"), &json!(true)));
}

#[test]
fn a_secret_is_set_shown_listed_and_told_by_version() {
    let home = Home::new();
    let flags = ["--description", "billing", "--label", "env=prod", "--label", "a=b=c", "--expires-at", "2100-01-01"];
    assert_eq!(home.set("global/api", b"value-1", &flags), json!({"ref": "global/api", "version": 1, "seq": 1}));
    let shown = home.json(&["secrets", "get", "global/api"]);
    let expected = [
        "created_at_ms",
        "description",
        "expires_at_ms",
        "labels",
        "ref",
        "state",
        "updated_at_ms",
        "value_bytes",
        "version",
    ];
    assert_eq!(fields(&shown), expected);
    assert_eq!(shown["labels"], json!({"a": "b=c", "env": "prod"}));
    assert_eq!(shown["expires_at_ms"], 4_102_444_800_000_u64);
    assert_eq!((&shown["value_bytes"], &shown["version"]), (&json!(7), &json!(1)));
    assert_eq!(home.json(&["secrets", "list"]), json!({"secrets": [shown]}));

    assert_eq!(home.set("global/api", b"value-22", &["--if-version", "1"])["version"], 2);
    let plain = home.json(&["secrets", "get", "global/api"]);
    assert!(plain.get("expires_at_ms").is_none(), "the expiry belongs to the version");
    assert_eq!(plain["description"], "billing", "the description belongs to the secret");
    let history = home.json(&["secrets", "history", "global/api"]);
    assert_eq!(fields(&history), ["ref", "versions"]);
    assert_eq!(fields(&history["versions"][1]), ["created_at_ms", "seq", "state", "value_bytes", "version"]);

    assert_eq!(home.json(&["secrets", "shred", "global/api", "--version", "1", "--yes"])["version"], 1);
    let history = home.json(&["secrets", "history", "global/api"]);
    assert_eq!(history["versions"][0]["state"], "shredded");
    assert!(history["versions"][0]["shredded_by_seq"].is_u64());
    assert_eq!(history["versions"][1]["state"], "live");
}

#[test]
fn the_value_alone_is_printed_in_every_format() {
    let home = Home::new();
    let value = b"\x00line one\r\nline two\xff\n";
    home.set("global/raw", value, &[]);
    for format in ["table", "json"] {
        let output = home.output(&["--format", format, "secrets", "get", "global/raw", "--reveal"], b"");
        assert_eq!(output.stdout, value);
        assert!(output.stderr.is_empty());
    }
    home.set("global/raw", b"second", &[]);
    let first = home.output(&["secrets", "get", "global/raw", "--reveal", "--version", "1"], b"");
    assert_eq!(first.stdout, value);
    let file = home.file("value", "from a file\n");
    home.ok(&["secrets", "set", "global/file", "--file", &file]);
    assert_eq!(home.ok(&["secrets", "get", "global/file", "--reveal"]), "from a file\n");
}

#[test]
fn lists_are_by_scope_prefix_and_page() {
    let home = Home::new();
    for reference in ["global/a", "channel:slack:T1/a", "channel:slack:T2/b", "channel:irc:x/c", "global/team/ci"] {
        home.set(reference, b"v", &[]);
    }
    let refs = |words: &[&str]| -> Vec<String> {
        let mut all = vec!["secrets", "list"];
        all.extend(words);
        let listed = home.json(&all);
        listed["secrets"].as_array().unwrap().iter().map(|one| one["ref"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(refs(&["global"]), ["global/a", "global/team/ci"]);
    assert_eq!(refs(&["--recursive"]), refs(&[]), "without a scope it is every scope");
    assert_eq!(refs(&["channel:slack", "--recursive"]), ["channel:slack:T1/a", "channel:slack:T2/b"]);
    assert_eq!(refs(&["global", "--prefix", "team/"]), ["global/team/ci"]);
    assert_eq!(refs(&[]).len(), 5);
    assert_eq!(refs(&["--limit", "2"]).len(), 2);
    assert_eq!(refs(&["global", "--after", "global/a"]), ["global/team/ci"]);
    home.run(&["secrets", "list", "channel:slack"], 2);
    home.json(&["secrets", "delete", "global/a"]);
    assert_eq!(refs(&["global"]), ["global/team/ci"]);
    assert_eq!(refs(&["global", "--all"]).len(), 2);
    assert_eq!(home.json(&["secrets", "undelete", "global/a"])["ref"], "global/a");
    assert_eq!(refs(&["global"]).len(), 2);
}

#[test]
fn the_log_is_one_object_a_line_and_filters_hold() {
    let home = Home::new();
    home.set("global/a", b"v", &["--actor", "ann", "--reason", "first"]);
    home.set("global/b", b"v", &["--actor", "bob"]);
    let head = home.json(&["log", "head"]);
    assert_eq!(fields(&head), ["events", "hash", "recorded_at_ms", "seq"]);
    assert_eq!((&head["seq"], &head["events"]), (&json!(2), &json!(3)));
    let lines = |words: &[&str]| -> Vec<Value> {
        let mut all = vec!["--format", "json", "log"];
        all.extend(words);
        home.ok(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["show"]);
    assert_eq!(all.len(), 3);
    let expected = [
        "actor",
        "batch_index",
        "batch_len",
        "epoch",
        "event",
        "hash",
        "kind",
        "origin",
        "prev",
        "reason",
        "recorded_at_ms",
        "schema",
        "seq",
    ];
    assert_eq!(fields(&all[1]), expected);
    assert_eq!(
        (&all[1]["actor"], &all[1]["reason"], &all[1]["kind"]),
        (&json!("ann"), &json!("first"), &json!("secret_put"))
    );
    assert_eq!(all[1]["origin"]["via"], "cli");
    assert_eq!(all[1]["event"]["name"], "a");
    assert!(all[1]["event"].get("envelope").is_none());
    assert_eq!(all[2]["prev"], all[1]["hash"]);
    assert_eq!(all[2]["hash"], head["hash"]);
    assert_eq!(all[2]["reason"], Value::Null);
    let seqs = |words: &[&str]| -> Vec<u64> { lines(words).iter().map(|line| line["seq"].as_u64().unwrap()).collect() };
    assert_eq!(seqs(&["show", "--from", "1", "--to", "1"]), [1]);
    assert_eq!(seqs(&["show", "--kind", "secret_put"]), [1, 2]);
    assert_eq!(seqs(&["show", "--ref", "global/b"]), [2]);
    assert_eq!(seqs(&["show", "--actor", "ann"]), [1]);
    assert_eq!(seqs(&["show", "--since", "1h"]), [0, 1, 2]);
    assert_eq!(seqs(&["show", "--since", "2100-01-01"]), [0_u64; 0]);
    assert_eq!(seqs(&["show", "--from", "99"]), [0_u64; 0]);
    assert_eq!(seqs(&["tail", "-n", "2"]), [1, 2]);
    home.error(&["log", "show", "--kind", "nonsense"], 2);
    home.error(&["log", "show", "--since", "soon"], 2);
}

#[test]
fn verify_reports_head_root_and_findings() {
    let home = Home::new();
    home.set("global/a", b"v", &[]);
    for words in [&["log", "verify"][..], &["log", "verify", "--state", "--witness"]] {
        let report = home.json(words);
        assert_eq!(fields(&report), ["anchored", "events", "findings", "head", "ok", "state_root"]);
        assert_eq!((&report["ok"], &report["events"]), (&json!(true), &json!(2)));
        assert_eq!(fields(&report["head"]), ["hash", "seq"]);
        assert_eq!(report["state_root"].as_str().unwrap().len(), 64);
        assert_eq!(report["findings"], json!([]));
    }
    assert_eq!(home.json(&["log", "verify", "--keyless"])["state_root"], Value::Null);
}

#[test]
fn exit_codes_doctor_and_completions() {
    let home = Home::new();
    let codes = home.json(&["exit-codes"]);
    assert_eq!(codes["exit_codes"].as_array().unwrap().len(), 18);
    assert!(home.ok(&["exit-codes"]).contains("in_use"));
    let report = home.json(&["doctor"]);
    assert_eq!(fields(&report), ["checks", "format", "ok"]);
    assert_eq!(report["ok"], true, "{report}");
    for check in report["checks"].as_array().unwrap() {
        assert!(["ok", "warn"].contains(&check["state"].as_str().unwrap()), "{check}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.ok(&["completions", shell]).contains("palyra-ledger"));
    }
}
