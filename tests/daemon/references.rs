//! References with and without a daemon: the vault is the daemon's, everything else is the command's own.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use super::{Daemon, Home, wait};

fn prepared() -> Home {
    let home = Home::new();
    let trusted = home.path("trusted");
    std::fs::create_dir(&trusted).unwrap();
    std::fs::set_permissions(&trusted, std::fs::Permissions::from_mode(0o700)).unwrap();
    let trusted = trusted.canonicalize().unwrap();
    let private = |name: &str, content: &str, mode: u32| {
        std::fs::write(trusted.join(name), content).unwrap();
        std::fs::set_permissions(trusted.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    private("key", "CANARY-file", 0o600);
    private("program", "#!/bin/sh\necho \"CANARY-exec $VARIABLE\"\n", 0o700);
    let config = home.path("home/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text
        .replace("env_allow = []", "env_allow = [\"VARIABLE\"]")
        .replace("file_dirs = []", &format!("file_dirs = [\"{}\"]", trusted.display()))
        .replace("exec_allow = []", &format!("exec_allow = [\"{}/program\"]", trusted.display()))
        .replace("exec_inherit = []", "exec_inherit = [\"VARIABLE\"]");
    std::fs::write(&config, text).unwrap();
    let written = home.with_input(&["secrets", "set", "global/a", "--stdin"], b"{\"token\": \"CANARY-vault\"}");
    assert!(written.status.success());
    home
}

fn resolve(home: &Home, words: &[&str]) -> Output {
    let mut all = vec!["--format", "json", "resolve"];
    all.extend(words);
    // The daemon was started without it.
    home.command(&all).env("VARIABLE", "CANARY-env").output().unwrap()
}

/// Exit code, what is said about the reference but times, and the error output.
fn shape(output: &Output) -> (Option<i32>, Value, String) {
    let mut said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields = said.as_object_mut().unwrap();
    fields.remove("at_ms");
    fields.remove("took_us");
    (output.status.code(), said, String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn a_reference_gives_the_same_with_and_without_the_daemon() {
    let home = prepared();
    let trusted = home.path("trusted").canonicalize().unwrap();
    let (file, program) =
        (format!("file://{}/key", trusted.display()), format!("exec://{}/program", trusted.display()));
    let missing = format!("{file}-none");
    let revealed: &[(&str, &str)] = &[
        ("global/a?field=token", "CANARY-vault"),
        ("env://VARIABLE", "CANARY-env"),
        (&file, "CANARY-file"),
        (&program, "CANARY-exec CANARY-env"),
    ];
    let told: &[&[&str]] = &[
        &["global/a"],
        &["global/a", "--scope", "skill:mail"],
        &["global/none"],
        &["global/none?required=false"],
        &["env://VARIABLE"],
        &["env://OTHER"],
        &[&file],
        &[&missing],
        &[&program],
        &["file:///etc/passwd"],
        &["global/a", "--explain"],
        &["global/a", "--explain", "--scope", "skill:mail"],
        &["global/none", "--explain"],
        &[&file, "--explain"],
        &["env://OTHER", "--explain"],
    ];
    let reveal = |home: &Home| {
        for (reference, value) in revealed {
            let output = resolve(home, &[reference, "--reveal"]);
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(said, *value, "{reference}: {}", String::from_utf8_lossy(&output.stderr));
        }
    };
    reveal(&home);
    let alone: Vec<_> = told.iter().map(|words| shape(&resolve(&home, words))).collect();
    let codes: Vec<_> = alone.iter().filter_map(|(code, _, _)| *code).collect();
    assert_eq!(codes, [0, 13, 10, 0, 0, 13, 0, 10, 0, 13, 0, 13, 10, 0, 13]);
    let daemon = Daemon::start(&home, &[]);
    reveal(&home);
    for (words, before) in told.iter().zip(&alone) {
        assert_eq!(shape(&resolve(&home, words)), *before, "{words:?}");
    }
    // Only the daemon's clients may ask as the command itself does.
    let refused = home.with_input(&["resolving"], b"{}");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
    // What the daemon recorded names the client, and everything that the client took by itself.
    let log = || home.ok(&["--format", "json", "log", "show"]);
    let recorded = |shown: &str| {
        let of_client = |line: &str| line.contains("references_resolved") && line.contains("\"via\":\"socket\"");
        wait(Duration::from_secs(20), || log().lines().any(|line| of_client(line) && line.contains(shown)))
    };
    for shown in ["env:OTHER", "env:VARIABLE", "exec:program", "file:key", "vault:global/a"] {
        assert!(recorded(shown), "{shown}: {}", log());
    }
    let log = log();
    let messages = daemon.stop();
    assert!(!log.contains("CANARY") && !messages.contains("CANARY"), "no value is told");
}

#[test]
fn a_strict_ledger_gives_values_that_are_recorded() {
    let home = prepared();
    let config = home.path("home/config.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("reads = \"batched\"", "reads = \"strict\"");
    std::fs::write(&config, text).unwrap();
    assert_eq!(resolve(&home, &["env://VARIABLE", "--reveal"]).stdout, b"CANARY-env");
    assert_eq!(resolve(&home, &["global/a?field=token", "--reveal"]).stdout, b"CANARY-vault");
    let told = home.told();
    assert!(told.contains("resolved env:VARIABLE") && told.contains("resolved vault:global/a"), "{told}");
}
