//! References on the command line, and what becomes of the programs behind them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::{CANARY, Home, Running, state, wait};

/// A program that may be resolved with, as a reference.
fn program(home: &Home, body: &str) -> String {
    let path = home.file("program", format!("#!/bin/sh\n{body}\n").as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(home.path("home/config.toml"), format!("[resolve]\nexec_allow = [{path:?}]\n")).unwrap();
    format!("exec://{path}?timeout_ms=600000")
}

/// The number of a process that wrote it, once it has.
fn number(home: &Home) -> u32 {
    let mut found = None;
    wait(|| {
        let text = std::fs::read_to_string(home.path("pid")).unwrap_or_default();
        found = text.strip_suffix('\n').and_then(|text| text.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn what_ends_us_ends_the_program_that_we_resolve_with() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let home = Home::new();
        let reference = program(&home, &format!("echo $$ > '{}'; exec sleep 300", home.text("pid")));
        for words in [&["resolve", &reference][..], &["run", "--env", &format!("A={reference}"), "--", "true"]] {
            let _ = std::fs::remove_file(home.path("pid"));
            let mut running = Running::start(&mut home.command(words));
            let pid = number(&home);
            running.signal(signal);
            assert_eq!(running.status().signal(), Some(signal.as_raw()), "{words:?}");
            assert!(matches!(state(pid), None | Some('Z')), "{words:?}: it runs on");
        }
    }
}

#[test]
fn signals_are_usual_again_once_a_program_has_given_its_value() {
    let home = Home::new();
    let given = format!("B={}", program(&home, "echo value"));
    let script = "trap 'echo got; exit 9' TERM; echo \"ready $B\"; while :; do sleep 0.02; done";
    for masked in [&["--mask"][..], &[]] {
        let mut words = vec!["run", "--env", &given];
        words.extend(masked.iter().chain(&["--", "sh", "-c", script]));
        let mut running = Running::start(&mut home.command(&words));
        let mut lines = running.lines();
        assert!(lines.next().unwrap().starts_with("ready"));
        running.signal(Signal::TERM);
        assert_eq!(lines.next().unwrap(), "got", "{masked:?}");
        assert_eq!(running.status().code(), Some(9), "{masked:?}");
    }
}

#[test]
fn what_is_no_reference_is_not_repeated() {
    let home = Home::new();
    for words in [
        &["resolve", CANARY][..],
        &["resolve", "--explain", CANARY],
        &["--format", "json", "resolve", CANARY],
        &["run", "--stdin", CANARY, "--", "true"],
    ] {
        let output = home.run(words);
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!crate::holds(&said, CANARY.as_bytes()), "{words:?}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn a_program_and_a_template_of_one_scope_get_no_others_secrets() {
    let home = Home::new();
    home.set("skill:mail/key", b"mine");
    let env = home.file("env", b"KEY=palyra://skill:mail/key\nOTHER=palyra://global/a\n");
    let own = home.file("own", b"{{ palyra://skill:mail/key }}");
    let other = home.file("other", b"{{ palyra://skill:mail/key }} {{ palyra://global/a }}");
    let scope = ["--scope", "skill:mail"];
    assert_eq!(home.ok(&["inject", "-i", &own, scope[0], scope[1]]), "mine");
    assert_eq!(
        home.ok(&["run", scope[0], scope[1], "--env", "K=skill:mail/key", "--", "sh", "-c", "echo $K"]),
        "mine\n"
    );
    let out = home.text("out");
    home.code(&["inject", "-i", &other, "-o", &out, scope[0], scope[1]], 13);
    home.code(&["run", scope[0], scope[1], "--env-file", &env, "--", "touch", &out], 13);
    assert!(!home.path("out").exists());
}
