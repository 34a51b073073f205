//! Templates that become files, and values that do.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use crate::{CANARY, Home, Running, finish};

const TEMPLATE: &[u8] = b"key = \"{{ palyra://global/a }}\" {{{{ kept }} \xff\n";

fn filled() -> Vec<u8> {
    [b"key = \"", CANARY.as_bytes(), b"\" {{ kept }} \xff\n"].concat()
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_template_becomes_a_private_file() {
    let home = Home::new();
    let template = home.file("template", TEMPLATE);
    let said = home.ok(&["--format", "json", "inject", "-i", &template, "-o", "out"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["mode"].as_str(), said["replaced"].as_bool()), (Some("0600"), Some(false)));
    assert_eq!((said["bytes"].as_u64(), said["references"].as_u64()), (Some(filled().len() as u64), Some(1)));
    assert_eq!((std::fs::read(home.path("out")).unwrap(), mode(&home.path("out"))), (filled(), 0o600));
    assert!(home.code(&["inject", "-i", &template, "-o", "out"], 12).contains("--force"));
    home.ok(&["inject", "-i", &template, "-o", "out", "--force", "--file-mode", "0644"]);
    assert_eq!(mode(&home.path("out")), 0o600, "it does not widen");
    let piped = finish(home.command(&["inject"]), TEMPLATE);
    assert_eq!(piped.stdout, filled());
    assert_eq!(home.leaks(), [home.path("out")]);
}

#[test]
fn what_fails_leaves_what_was_there() {
    let home = Home::new();
    let template = home.file("template", b"{{ palyra://global/none }}");
    home.code(&["inject", "-i", &template, "-o", "out"], 10);
    let wrong = home.file("wrong", b"a\n {{ nonsense }}");
    assert!(home.code(&["inject", "-i", &wrong, "-o", "out"], 2).contains("line 2, byte 2"));
    assert!(!home.path("out").exists());
    let good = home.file("good", TEMPLATE);
    symlink(home.path("victim"), home.path("link")).unwrap();
    home.code(&["inject", "-i", &good, "-o", "link", "--force"], 13);
    home.code(&["inject", "-i", &good, "-o", "nowhere/out"], 10);
    home.code(&["inject", "-i", &good, "-o", "run", "--force"], 13);
    home.code(&["inject", "-i", "none", "-o", "out"], 10);
    home.code(&["inject", "-i", &good, "-o", "out", "--file-mode", "4755"], 2);
    assert!(!home.path("victim").exists() && home.leaks().is_empty());
    // A file that may not grow: the system ends us in the middle of the write.
    let large = [TEMPLATE, &vec![b'x'; 1_000_000]].concat();
    let large = home.file("large", &large);
    std::fs::write(home.path("out"), "old").unwrap();
    let before = home.names(".");
    let mut command = std::process::Command::new("sh");
    home.prepare(&mut command);
    let ours = env!("CARGO_BIN_EXE_palyra-ledger");
    command.args(["-c", &format!("ulimit -f 200; exec {ours} inject -i {large} -o out --force")]);
    assert!(!finish(command, b"").status.success());
    assert_eq!(std::fs::read(home.path("out")).unwrap(), b"old");
    assert_eq!(home.names("."), before, "and nothing lies beside it");
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_file_or_the_new_one() {
    let home = Home::new();
    let template = home.file("template", &[TEMPLATE, &vec![b'x'; 2_000_000]].concat());
    let whole = [filled(), vec![b'x'; 2_000_000]].concat();
    std::fs::write(home.path("out"), "old").unwrap();
    let before = home.names(".");
    for round in 0..30u64 {
        let mut running = Running::start(&mut home.command(&["inject", "-i", &template, "-o", "out", "--force"]));
        std::thread::sleep(Duration::from_millis(round * 3));
        let _ = running.0.kill();
        running.status();
        let found = std::fs::read(home.path("out")).unwrap();
        assert!(found == b"old" || found == whole, "{} bytes", found.len());
        let extra: Vec<_> = home.names(".").into_iter().filter(|name| !before.contains(name)).collect();
        // Between its two names a file has one of its own: whole and private.
        for name in extra {
            assert!(name.starts_with(".new-") && mode(&home.path(&name)) == 0o600, "{name}");
            assert_eq!(std::fs::read(home.path(&name)).unwrap().len(), whole.len());
            std::fs::remove_file(home.path(&name)).unwrap();
        }
    }
}

#[test]
fn a_secret_goes_into_a_file_and_nowhere_else() {
    let home = Home::new();
    let said = home.ok(&["--format", "json", "secrets", "get", "global/a", "--out-file", "out"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said,
        serde_json::json!({
            "ref": "global/a", "out": "out", "bytes": CANARY.len(), "mode": "0600", "replaced": false
        })
    );
    assert_eq!(std::fs::read(home.path("out")).unwrap(), CANARY.as_bytes());
    home.code(&["secrets", "get", "global/a", "--out-file", "out"], 12);
    home.set("global/a", b"newer");
    home.ok(&["secrets", "get", "global/a", "--out-file", "old", "--version", "1", "--file-mode", "0400"]);
    assert_eq!((std::fs::read(home.path("old")).unwrap(), mode(&home.path("old"))), (CANARY.into(), 0o400));
    home.code(&["secrets", "get", "global/a", "--file-mode", "0600"], 2);
    home.code(&["secrets", "get", "global/none", "--out-file", "none"], 10);
    assert!(!home.path("none").exists());
}
