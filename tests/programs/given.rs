//! What a program finds: its environment, its descriptors, its status.

use std::os::unix::process::ExitStatusExt;

use crate::{CANARY, Home, holds};

const GIVEN: &str = "A=global/a";

#[test]
fn the_status_is_the_programs_own() {
    let home = Home::new();
    for mode in [&[][..], &["--mask"], &["--mount", "M=global/a"]] {
        for status in [0, 7, 255] {
            let script = format!("exit {status}");
            let words = [&["run", "--env", GIVEN][..], mode, &["--", "sh", "-c", &script]].concat();
            assert_eq!(home.run(&words).status.code(), Some(status), "{words:?}");
        }
        let words = [&["run", "--env", GIVEN][..], mode, &["--", "sh", "-c", "kill -TERM $$"]].concat();
        let status = home.run(&words).status;
        assert!(status.signal() == Some(15) || status.code() == Some(143), "{words:?}: {status}");
        let words = [&["run"][..], mode, &["--", "no-such-program"]].concat();
        assert!(home.code(&words, 127).contains("no-such-program"));
        home.file("data", b"no program");
        let words = [&["run"][..], mode, &["--", "./data"]].concat();
        home.code(&words, 126);
    }
    let error = home.code(&["--format", "json", "run", "--", "no-such-program"], 127);
    assert!(error.contains("\"kind\":\"no_program\""), "{error}");
}

#[test]
fn nothing_starts_where_a_reference_gives_nothing() {
    let home = Home::new();
    let touch = ["--", "touch", "started"];
    for (given, code) in [("A=global/none", 10), ("A=env://HOME", 13), ("A=file:///etc/passwd", 13)] {
        home.code(&[&["run", "--env", "B=global/a", "--env", given][..], &touch].concat(), code);
    }
    home.code(&[&["run", "--env", "A=nonsense"][..], &touch].concat(), 2);
    home.code(&[&["run", "--env", GIVEN, "--fd", GIVEN][..], &touch].concat(), 2);
    assert!(!home.path("started").exists());
    let error = home.code(&["run", "--env", &format!("A={CANARY}"), "--", "true"], 2);
    assert!(!error.contains(CANARY), "what stands there may be a value: {error}");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let home = Home::new();
    home.set("global/b", b"second");
    let file = home.file("env", b"A=of the file\nexport B=\"palyra://global/b\"\nC='palyra://global/none'\nD=d # c\n");
    let shown = home.ok(&["run", "--env", GIVEN, "--env-file", &file, "--", "sh", "-c", "echo \"$A|$B|$C|$D|$PATH\""]);
    assert_eq!(shown, format!("{CANARY}|second|palyra://global/none|d|/usr/bin:/bin\n"));
    let mut command = home.command(&["run", "--env", "X=global/none?required=false", "--pristine", "--env", GIVEN]);
    command.args(["--", "env"]).env("X", "old").env("OTHER", "1").env("LC_ALL", "C").env("TERM", "dumb");
    let shown = String::from_utf8(crate::finish(command, b"").stdout).unwrap();
    let mut names: Vec<_> = shown.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "LC_ALL", "PATH", "TERM", "TMPDIR"], "and a missing one leaves no old value");
    let error = home.code(&["run", "--env-file", &home.file("bad", b"A=1\nB=palyra://x\n"), "--", "true"], 2);
    assert!(error.contains("line 2"), "{error}");
    home.code(&["run", "--env-file", "none", "--", "true"], 10);
}

#[test]
fn what_no_variable_holds_is_refused_and_goes_elsewhere() {
    let home = Home::new();
    home.set("global/nul", b"a\0b");
    std::fs::write(
        home.path("home/config.toml"),
        "[limits]\nmax_value_bytes = 1000000\n[resolve]\nmax_bytes = 1000000\n",
    )
    .unwrap();
    home.set("global/large", &vec![b'x'; 200_000]);
    for name in ["nul", "large"] {
        let error = home.code(&["run", "--env", &format!("A=global/{name}"), "--", "true"], 2);
        assert!(error.contains("--fd"), "{error}");
    }
    assert_eq!(home.ok(&["run", "--fd", "A=global/nul", "--", "sh", "-c", "cat $A"]), "a\0b");
    assert_eq!(home.ok(&["run", "--fd", "A=global/large", "--", "sh", "-c", "cat $A"]).len(), 200_000);
}

#[test]
fn a_descriptor_is_sealed_and_no_other_comes_along() {
    let home = Home::new();
    let list = "for d in /proc/self/fd/*; do readlink $d; done | grep -v '^/proc/'; true";
    let plain = {
        let mut command = std::process::Command::new("sh");
        home.prepare(&mut command);
        command.args(["-c", list]);
        String::from_utf8(crate::finish(command, b"").stdout).unwrap().lines().count()
    };
    for mode in [&[][..], &["--mask"], &["--mount", "M=global/a"]] {
        let words = [&["run", "--fd", GIVEN][..], mode, &["--", "sh", "-c", list]].concat();
        let shown = home.ok(&words);
        assert_eq!(shown.lines().count(), plain + 1, "{mode:?}: {shown}");
        assert_eq!(shown.matches("/memfd:secret").count(), 1, "{shown}");
    }
    let script =
        "cat $A; cat $A; (echo x > $A) 2>/dev/null && echo written; (echo x >> $A) 2>/dev/null && echo grown; true";
    assert_eq!(home.ok(&["run", "--fd", GIVEN, "--", "sh", "-c", script]), CANARY.repeat(2));
    assert_eq!(home.ok(&["run", "--stdin", "global/a", "--", "cat"]), CANARY);
}

#[test]
fn a_program_gets_the_callers_own_mask_of_permissions() {
    let home = Home::new();
    for mode in [&[][..], &["--mask"]] {
        let mut command = std::process::Command::new("sh");
        home.prepare(&mut command);
        let ours = env!("CARGO_BIN_EXE_palyra-ledger");
        let script = format!("umask 027; exec {ours} run --env {GIVEN} {} -- sh -c umask", mode.join(" "));
        let output = crate::finish(
            {
                command.args(["-c", &script]);
                command
            },
            b"",
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "0027");
    }
}

#[test]
fn a_value_is_in_no_argument_no_file_and_no_event() {
    let home = Home::new();
    // The program's parent is ours: neither its words nor its environment hold the value.
    let script = "cat /proc/$PPID/cmdline /proc/$PPID/environ | tr '\\0' '\\n'; echo \"got ${#A}\"";
    let output = home.run(&["run", "--env", GIVEN, "--mount", "M=global/a", "--", "sh", "-c", script]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(&format!("got {}", CANARY.len())), "{shown}");
    assert!(shown.contains("--mount") && !shown.contains(CANARY), "{shown}");
    home.ok(&["--reason", "because", "run", "--fd", GIVEN, "--", "true"]);
    home.set("global/other", b"writes fold the reads in");
    let told = home.ok(&["--format", "json", "log", "show"]);
    assert!(told.contains("run sh") && told.contains("because"), "what is run is the reason: {told}");
    assert!(!holds(told.as_bytes(), CANARY.as_bytes()));
    assert_eq!(home.leaks(), Vec::<std::path::PathBuf>::new());
}
