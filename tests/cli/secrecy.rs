//! What is never printed, never prompted for, and never left in a file.

use std::io::Read;
use std::process::Stdio;

use crate::Home;

const CANARY: &str = "sk-canary-7d1e02b94c6f";

#[test]
fn a_value_is_nowhere_but_behind_reveal() {
    let home = Home::new();
    home.set("global/a", CANARY.as_bytes(), &["--description", "d"]);
    home.set("global/a", format!("{CANARY}-2").as_bytes(), &[]);
    home.ok(&["secrets", "get", "global/a", "--reveal"]);
    let mut said = String::new();
    for format in ["table", "json"] {
        for words in [
            &["secrets", "get", "global/a"][..],
            &["secrets", "list"],
            &["secrets", "history", "global/a"],
            &["log", "show"],
            &["log", "tail"],
            &["log", "head"],
            &["log", "verify", "--state", "--witness"],
            &["keys", "slots"],
            &["doctor"],
            &["secrets", "delete", "global/a"],
            &["secrets", "undelete", "global/a"],
        ] {
            let mut all = vec!["--format", format];
            all.extend(words);
            let (out, error) = home.run(&all, 0);
            said.push_str(&out);
            said.push_str(&error);
        }
    }
    for words in [
        &["secrets", "set", "global/b", CANARY][..],
        &["--format", "json", "secrets", "set", "global/b", CANARY],
        &["secrets", "set", "global/b", "--stdin", CANARY],
    ] {
        let (out, error) = home.run(words, 2);
        assert!(error.contains("never an argument"), "{error}");
        said.push_str(&out);
        said.push_str(&error);
    }
    assert!(said.len() > 5_000 && !said.contains(CANARY), "{said}");
    let mut pending = vec![home.path()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|one| one.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{}", path.display());
    }
}

#[test]
fn what_would_drive_a_terminal_is_written_out() {
    let home = Home::new();
    home.set(
        "global/a",
        b"v",
        &["--actor", "mallory\u{202e}txt", "--description", "x\u{2066}y", "--reason", "a\u{200b}b"],
    );
    let shown = home.ok(&["log", "show"]) + &home.ok(&["secrets", "list"]) + &home.ok(&["secrets", "get", "global/a"]);
    for escaped in ["mallory\\u{202e}txt", "x\\u{2066}y", "a\\u{200b}b"] {
        assert!(shown.contains(escaped), "{shown}");
    }
    assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{1b}']));
    let (_, error) = home.run(&["secrets", "get", "\u{1b}[31mglobal/a"], 2);
    assert!(!error.contains('\u{1b}'), "{error:?}");
    assert_eq!(home.json(&["secrets", "get", "global/a"])["description"], "x\u{2066}y");
}

#[test]
fn an_expired_secret_warns_and_still_reads() {
    let home = Home::new();
    home.set("global/a", b"old", &["--expires-at", "2001-01-01"]);
    let (out, error) = home.run(&["secrets", "get", "global/a", "--reveal"], 0);
    assert_eq!(out, "old");
    assert!(error.starts_with("warning: global/a expired "), "{error}");
    assert!(home.ok(&["secrets", "list"]).contains("expired"));
    assert!(home.ok(&["doctor"]).contains("1 of 1 are expired"));
    home.ok(&["secrets", "describe", "global/a", "--no-expiry"]);
    assert_eq!(home.run(&["secrets", "get", "global/a"], 0).1, "");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    for words in [&["log", "show"][..], &["exit-codes"], &["completions", "zsh"]] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_palyra-ledger"))
            .env("PALYRA_LEDGER_HOME", home.path())
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn colour_only_where_it_is_asked_for() {
    let home = Home::new();
    assert!(!home.ok(&["log", "verify"]).contains('\u{1b}'));
    assert!(home.ok(&["--color", "always", "log", "verify"]).contains('\u{1b}'));
    assert!(!home.ok(&["--color", "always", "--format", "json", "log", "verify"]).contains('\u{1b}'));
}

#[test]
fn strict_reads_are_in_the_log_before_the_value_is_out() {
    let home = Home::new();
    home.set("global/a", b"v", &[]);
    std::fs::write(home.path().join("config.toml"), "[audit]\nreads = \"strict\"\n").unwrap();
    assert_eq!(home.ok(&["--reason", "look", "secrets", "get", "global/a", "--reveal"]), "v");
    let read = home.json(&["log", "show", "--kind", "secrets_read"]);
    assert_eq!(read["reason"], "look");
    assert!(read["event"]["reads"][0]["first_at_ms"].is_u64());
    home.ok(&["secrets", "get", "global/a"]);
    assert_eq!(home.json(&["log", "head"])["seq"], read["seq"], "metadata is no read");
}
