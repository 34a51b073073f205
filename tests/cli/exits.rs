//! Exit codes: what a script acts on.

use std::os::unix::fs::PermissionsExt;

use palyra_ledger::{Config, Ledger};

use crate::Home;

#[test]
fn usage_is_2() {
    let home = Home::new();
    for words in [
        &["nonsense"][..],
        &["secrets", "get"],
        &["secrets", "get", "no-scope"],
        &["secrets", "get", "user:7/x"],
        &["secrets", "set", "global/a", "--stdin", "--file", "x"],
        &["secrets", "set", "global/a", "--stdin", "--label", "novalue"],
        &["secrets", "set", "global/a", "--stdin", "--expires-in", "soon"],
        &["secrets", "set", "global/a", "--stdin", "--expires-in", "1d", "--expires-at", "2100-01-01"],
        &["secrets", "describe", "global/a"],
        &["--actor", "", "secrets", "delete", "global/a"],
        &["--lock-wait", "-1", "log", "head"],
        &["--slot", "xyz", "log", "head"],
        &["keys", "rotate", "--drop", "00000000"],
    ] {
        home.error(words, 2);
        home.run(words, 2);
    }
}

#[test]
fn values_outside_their_bounds_are_2() {
    let home = Home::new();
    let set = ["secrets", "set", "global/a", "--stdin"];
    assert_eq!(home.output(&set, b"").status.code(), Some(2), "empty");
    assert_eq!(home.output(&set, &vec![b'x'; 64 * 1024]).status.code(), Some(0));
    let over = home.output(&set, &vec![b'x'; 64 * 1024 + 1]);
    assert_eq!(over.status.code(), Some(2), "over");
    assert!(String::from_utf8(over.stderr).unwrap().contains("65536"));
    let long = "x".repeat(2000);
    home.set("global/b", b"v", &[]);
    home.error(&["secrets", "describe", "global/b", "--description", &long], 2);
    let endless = home.command(&["secrets", "set", "global/a", "--file", "/dev/zero"]).output().unwrap();
    assert_eq!(endless.status.code(), Some(2), "an endless file is read up to the bound alone");
}

#[test]
fn nobody_to_ask_is_3_or_2() {
    let home = Home::new();
    home.set("global/a", b"v", &[]);
    let error = home.error(&["secrets", "shred", "global/a"], 3);
    assert!(error["hint"].as_str().unwrap().contains("--yes"));
    home.error(&["doctor", "--repair"], 3);
    home.error(&["secrets", "set", "global/a"], 2);
    assert_eq!(home.json(&["secrets", "get", "global/a"])["version"], 1, "nothing was changed");
}

#[test]
fn what_is_not_there_is_10() {
    let home = Home::empty();
    for words in [&["log", "head"][..], &["secrets", "list"], &["doctor"], &["log", "verify"], &["keys", "rotate"]] {
        home.error(words, 10);
    }
    assert!(!home.path().exists(), "asking makes nothing");
    let home = Home::new();
    home.error(&["secrets", "get", "global/none"], 10);
    home.error(&["secrets", "delete", "global/none"], 10);
    home.set("global/a", b"v", &[]);
    home.error(&["secrets", "get", "global/a", "--version", "7"], 10);
    home.error(&["keys", "remove-slot", "00000000"], 10);
    home.ok(&["secrets", "delete", "global/a"]);
    let error = home.error(&["secrets", "get", "global/a", "--reveal"], 10);
    assert!(error["hint"].as_str().unwrap().contains("undelete"));
    home.error(&["secrets", "get", "global/a"], 10);
    home.ok(&["secrets", "shred", "global/a", "--yes"]);
    home.error(&["secrets", "get", "global/a"], 10);
    home.error(&["secrets", "undelete", "global/a", "--version", "1"], 10);
}

#[test]
fn a_lost_compare_and_set_is_12_and_says_what_to_do() {
    let home = Home::new();
    home.set("global/a", b"v", &["--if-version", "0"]);
    for expected in ["0", "2"] {
        let words = ["--format", "json", "secrets", "set", "global/a", "--stdin", "--if-version", expected];
        let output = home.output(&words, b"w");
        assert_eq!(output.status.code(), Some(12));
        assert!(String::from_utf8(output.stderr).unwrap().contains("--if-version 1"));
    }
    assert_eq!(home.ok(&["secrets", "get", "global/a", "--reveal"]), "v");
    home.error(&["init"], 12);
}

#[test]
fn an_open_home_is_13_with_the_command_that_mends_it() {
    let home = Home::new();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = home.error(&["log", "head"], 13);
    assert!(error["hint"].as_str().unwrap().starts_with("run `chmod 700 "), "{error}");
    home.run(&["doctor"], 21);
    let link = home.dir.path().join("link");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    home.error(&["--home", link.to_str().unwrap(), "log", "head"], 13);
}

#[test]
fn a_ledger_in_use_is_19_and_names_the_process() {
    let home = Home::new();
    home.set("global/a", b"v", &[]);
    let held = Ledger::open(Config::new(home.path())).unwrap();
    for words in [&["log", "head"][..], &["secrets", "get", "global/a", "--reveal"], &["keys", "rotate"]] {
        let mut all = vec!["--lock-wait", "0"];
        all.extend(words);
        let error = home.error(&all, 19);
        assert!(error["what"].as_str().unwrap().contains(&std::process::id().to_string()), "{error}");
    }
    assert!(home.ok(&["--lock-wait", "0", "doctor"]).contains("in use"));
    held.close().unwrap();
    drop(held);
    home.ok(&["--lock-wait", "0", "log", "head"]);
}

#[test]
fn a_command_waits_for_a_short_one() {
    let home = Home::new();
    let held = Ledger::open(Config::new(home.path())).unwrap();
    let path = home.path();
    let waiting = std::thread::spawn(move || {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.arg("--home").arg(path).args(["--lock-wait", "30", "log", "head"]).output().unwrap()
    });
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(held);
    assert_eq!(waiting.join().unwrap().status.code(), Some(0));
}

#[test]
fn settings_that_do_not_read_are_2() {
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), "[audit]\nread = \"strict\"\n").unwrap();
    home.error(&["log", "head"], 2);
    home.run(&["doctor"], 21);
}

#[test]
fn help_and_version_are_0() {
    let home = Home::empty();
    for words in [&["--help"][..], &["--version"], &["secrets", "set", "--help"], &["help", "log"]] {
        assert!(!home.ok(words).is_empty());
    }
}
