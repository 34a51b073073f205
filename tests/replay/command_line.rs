//! From the command line: stable fields, exit codes, and never a value.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(&["init"], 0);
        home
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.0.path().join("home")).env("TMPDIR", self.0.path());
        command.current_dir(self.0.path()).args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str], code: i32) -> String {
        let output = self.command(words).output().unwrap();
        told(&output, words, code)
    }

    fn json(&self, words: &[&str], code: i32) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        serde_json::from_str(&self.run(&all, code)).unwrap()
    }

    fn lines(&self, words: &[&str]) -> Vec<Value> {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        self.run(&all, 0).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn set(&self, reference: &str, value: &str) {
        let mut command = self.command(&["secrets", "set", reference, "--stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        told(&child.wait_with_output().unwrap(), &[], 0);
    }
}

/// What was printed; no value is in any of it.
fn told(output: &Output, words: &[&str], code: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?}\n{out}\n{error}");
    assert!(!out.contains("CANARY") && !error.contains("CANARY"), "{words:?}");
    out
}

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn home() -> Home {
    let home = Home::new();
    home.set("global/a", "CANARY-1");
    home.set("global/a", "CANARY-2");
    home.set("global/b", "CANARY-2");
    home.run(&["secrets", "shred", "global/a", "--version", "1", "--yes"], 0);
    // Refused, and recorded by the next command that writes.
    home.run(&["secrets", "get", "global/a", "--version", "1", "--reveal"], 10);
    home.run(&["auth", "profiles", "set", "mail", "--provider", "openai", "--api-key-ref", "global/b"], 0);
    home
}

#[test]
fn replay_has_stable_fields_and_fingerprints_for_values() {
    let home = home();
    let now = home.json(&["replay"], 0);
    assert_eq!(
        fields(&now),
        [
            "ca",
            "counters",
            "devices",
            "epoch",
            "key_slots",
            "limit",
            "orders",
            "profiles",
            "recorded_at_ms",
            "secrets",
            "seq",
            "snapshot",
            "state_root"
        ]
    );
    let print = |value: &Value, at: usize| value["secrets"][at]["fingerprint"].clone();
    assert_eq!(print(&now, 0), print(&now, 1), "equal values show");
    assert_eq!(print(&now, 0).as_str().unwrap().len(), 32);
    let then = home.json(&["replay", "--at", "1"], 0);
    assert_eq!((&then["secrets"][0]["version"], print(&then, 0)), (&json!(1), Value::Null), "shredded since");
    let whole = home.json(&["replay", "--at", "1", "--from-genesis"], 0);
    assert_eq!((&whole["snapshot"], &whole["state_root"]), (&Value::Null, &then["state_root"]));
    assert_eq!(home.json(&["replay", "--limit", "1"], 0)["secrets"].as_array().unwrap().len(), 1);

    let diff = home.json(&["replay", "diff", "1", "4"], 0);
    assert_eq!(fields(&diff), ["after", "before", "changes"]);
    let changes = diff["changes"].as_array().unwrap();
    assert_eq!(fields(&changes[0]), ["after", "before", "change", "subject", "what"]);
    let said: Vec<_> = changes.iter().map(|one| format!("{} {}", one["change"], one["subject"])).collect();
    assert_eq!(said, ["\"changed\" \"global/a\"", "\"added\" \"global/b\"", "\"added\" \"global/a@1\""]);
    assert_eq!(home.json(&["replay", "diff", "2", "2"], 0)["changes"], json!([]));
    home.run(&["replay", "diff", "3", "2"], 2);
    home.run(&["replay", "--at", "99"], 10);
    home.run(&["replay", "--at", "nonsense"], 2);

    let steps = home.lines(&["replay", "--follow", "--at", "0", "--to", "3"]);
    assert_eq!(steps.iter().map(|step| step["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(steps[2]["changes"][0]["after"]["version"], 2);
    assert_eq!(home.run(&["replay", "--follow", "--at", "2", "--to", "2"], 0).lines().count(), 2);

    for name in ["auth_profiles.toml", "auth_profile_runtime_state.toml"] {
        let head = home.json(&["auth", "docs"], 0);
        assert_eq!(home.json(&["replay", "--document", name], 0)["text"], head[name]);
    }
    home.run(&["replay", "--document", "crl"], 10);
    let list = home.run(&["ca", "export", "--crl"], 0);
    assert_eq!(home.run(&["replay", "--document", "crl"], 0), list);
    assert_eq!(home.run(&["replay", "--document", "ca"], 0), home.run(&["ca", "export"], 0));
}

#[test]
fn a_lost_envelope_is_said_at_its_version_and_the_rest_is_shown() {
    let home = home();
    let moved = home.json(&["replay"], 0)["seq"].as_u64().unwrap().to_string();
    home.run(&["secrets", "migrate-backend", "encrypted_file"], 0);
    let now = home.json(&["replay"], 0)["seq"].as_u64().unwrap().to_string();
    let changes = home.json(&["replay", "diff", &moved, &now], 0)["changes"].clone();
    let said: Vec<_> = changes.as_array().unwrap().iter().map(|change| change["what"].as_str().unwrap()).collect();
    assert!(said.contains(&"backend"), "{said:?}");
    for folder in std::fs::read_dir(home.0.path().join("home/objects")).unwrap() {
        for object in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            std::fs::remove_file(object.unwrap().path()).unwrap();
        }
    }
    let shown = home.json(&["replay"], 0);
    let print = shown["secrets"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(print.starts_with("unavailable: "), "{print}");
    assert!(home.run(&["replay", "diff", "0", "2"], 0).contains("unavailable: "));
}

#[test]
fn a_difference_names_checkpoints_and_never_says_that_nothing_is_different_where_roots_differ() {
    let home = home();
    let before = home.json(&["replay"], 0)["seq"].as_u64().unwrap().to_string();
    home.run(&["log", "checkpoint"], 0);
    let signed = home.json(&["log", "checkpoint"], 0)["event"].as_u64().unwrap().to_string();
    let diff = home.run(&["replay", "diff", &before, &signed], 0);
    assert!(diff.contains("checkpoint last"), "{diff}");
    assert!(home.run(&["replay", "diff", &before, &before], 0).contains("nothing is different"));
}

#[test]
fn a_query_shows_what_every_condition_holds_for_and_where_the_next_page_begins() {
    let home = home();
    let seqs = |words: &[&str]| {
        let mut all = vec!["log", "query"];
        all.extend(words);
        home.lines(&all).iter().map(|entry| entry["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&["--kind", "secret_put"]), [1, 2, 3]);
    assert_eq!(seqs(&["--kind", "secret_put", "--order", "newest", "--limit", "2"]), [3, 2]);
    assert_eq!(seqs(&["--kind", "secret_put", "--limit", "1", "--from", "2"]), [2]);
    assert_eq!(seqs(&["--ref", "global/b"]), [3, 6], "the profile names it");
    assert_eq!(seqs(&["--profile", "mail"]), [6]);
    assert_eq!(seqs(&["--refused"]), [5]);
    assert_eq!(seqs(&["--text", "SHREDDED", "--kind", "secret_shredded"]), [4]);
    assert_eq!(seqs(&["--origin", "device"]), Vec::<u64>::new());
    assert_eq!(seqs(&["--until", "2020-01-01"]), Vec::<u64>::new());
    assert_eq!(seqs(&["--since", "1h"]).len(), 7);
    assert_eq!(seqs(&["--actor", "nobody-here"]), Vec::<u64>::new());
    home.run(&["log", "query", "--kind", "nonsense"], 2);
    home.run(&["log", "query", "--since", "soon"], 2);

    let told = home.lines(&["log", "why", "global/b"]);
    assert_eq!(told.iter().map(|entry| &entry["kind"]).collect::<Vec<_>>(), ["secret_put", "profile_set"]);
    assert_eq!((&told[0]["relation"], &told[0]["about"]), (&json!("itself"), &json!("secret global/b")));
    home.run(&["log", "why", "global/none"], 10);
    home.run(&["log", "why", "not a thing"], 2);
}

#[test]
fn a_compromise_is_planned_carried_out_and_shown_until_it_is_closed() {
    let home = home();
    home.run(&["compromise", "secret", "global/b"], 2);
    home.run(&["compromise", "secret", "global/slip", "--since", "1h"], 10);
    let looked = home.json(&["compromise", "secret", "global/b", "--since", "1h", "--plan", "plan.json"], 0);
    assert_eq!(
        fields(&looked),
        [
            "devices",
            "exposed",
            "items",
            "kind",
            "name",
            "other_events",
            "profiles",
            "readable_not_read",
            "readable_not_read_count",
            "readings",
            "reads_recorded",
            "scopes",
            "since_ms",
            "until_ms"
        ]
    );
    let kept: Value = serde_json::from_slice(&std::fs::read(home.0.path().join("plan.json")).unwrap()).unwrap();
    assert_eq!(kept["items"], looked["items"]);
    home.run(&["compromise", "secret", "global/b", "--since", "1h", "--plan", "plan.json"], 18);
    assert_eq!(home.json(&["compromise", "list"], 0), json!({"compromises": []}), "looking changes nothing");
    home.run(&["compromise", "secret", "global/b", "--since", "1h", "--apply"], 3);

    let applied = home.json(&["compromise", "secret", "global/b", "--since", "1h", "--apply", "--yes"], 21);
    assert_eq!((&applied["closed"], &applied["missed"]), (&json!(false), &json!([])));
    let items = applied["items"].as_array().unwrap();
    let said: Vec<_> = items.iter().map(|item| format!("{} {}", item["action"], item["state"])).collect();
    assert_eq!(said, ["\"disable_profile\" \"done\"", "\"replace_secret\" \"open\""]);
    assert_eq!(items[1]["command"], "palyra-ledger secrets set global/b --stdin");
    assert_eq!(home.json(&["auth", "profiles", "show", "mail"], 0)["enabled"], false);
    assert_eq!(home.json(&["compromise", "list"], 0)["compromises"][0]["open"], 1);
    let doctor = home.json(&["doctor"], 21);
    assert!(doctor["checks"].as_array().unwrap().iter().any(|check| check["name"] == "compromise"));

    home.set("global/b", "CANARY-3");
    let done = home.json(&["compromise", "secret", "global/b", "--apply", "--yes"], 0);
    assert_eq!((&done["closed"], &done["correlation_id"]), (&json!(true), &applied["correlation_id"]));
    let id = done["correlation_id"].as_str().unwrap();
    let tied = home.lines(&["log", "query", "--correlation", id]);
    let kinds: Vec<_> = tied.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["compromise_declared", "profile_enabled", "compromise_closed"]);
    assert!(home.json(&["log", "verify", "--state"], 0)["ok"].as_bool().unwrap());
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_answers_the_same() {
    let home = home();
    let words: [&[&str]; 4] = [
        &["--format", "json", "replay", "--at", "3", "--from-genesis"],
        &["--format", "json", "replay", "diff", "1", "5", "--from-genesis"],
        &["--format", "json", "log", "query", "--text", "global", "--to", "6"],
        &["--format", "json", "replay", "--follow", "--at", "1", "--to", "4", "--from-genesis"],
    ];
    let alone: Vec<String> = words.iter().map(|words| home.run(words, 0)).collect();
    let serve = ["serve", "--listen", "off", "--pairing-listen", "off", "--metrics-listen", "off"];
    let child = home.command(&serve).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _daemon = Daemon(child);
    let begun = Instant::now();
    while !home.0.path().join("home/serve.sock").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the daemon did not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    let served: Vec<String> = words.iter().map(|words| home.run(words, 0)).collect();
    assert_eq!(served, alone);
    let applied = home.json(&["compromise", "secret", "global/b", "--since", "1h", "--apply", "--yes"], 21);
    assert_eq!(applied["missed"], json!([]));
    assert!(home.run(&["log", "query", "--origin", "socket", "--kind", "compromise_declared"], 0).contains("global/b"));
}
