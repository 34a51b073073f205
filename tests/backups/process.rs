//! The command as a process: beside a daemon, killed at random moments, and with nothing secret left behind.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use palyra_ledger::Random;
use serde_json::Value;

pub(super) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.ok("home", &["init"]);
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn command(&self, home: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.path(home)).env("TMPDIR", self.dir.path()).args(words);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, home: &str, words: &[&str]) -> Output {
        self.command(home, words).output().unwrap()
    }

    pub(super) fn ok(&self, home: &str, words: &[&str]) -> String {
        let output = self.run(home, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, home: &str, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(home, &[&["--format", "json"], words].concat())).unwrap()
    }

    pub(super) fn with_input(&self, home: &str, words: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(home, words).stdin(Stdio::piped()).spawn().unwrap();
        // A command that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) {
        let output = self.with_input("home", &["secrets", "set", key, "--stdin"], value);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds recovery words and gives them.
    pub(super) fn words(&self) -> Vec<u8> {
        self.ok("home", &["keys", "add-slot", "recovery", "--out-file", "words"]);
        let words = std::fs::read(self.path("words")).unwrap();
        std::fs::remove_file(self.path("words")).unwrap();
        words
    }

    pub(super) fn serve(&self) -> Child {
        let words = ["--format", "json", "serve", "--listen", "127.0.0.1:0", "--pairing-listen", "127.0.0.1:0"];
        let mut child = self.command("home", &words).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listeners") || line.starts_with('{'), "{line}");
        child
    }

    pub(super) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    palyra_ledger::OsRandom.fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

fn kills() -> u64 {
    std::env::var("PALYRA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200) / 8
}

fn every_file(dir: &Path, visit: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            every_file(&path, visit);
        } else if path.is_file() {
            visit(&path, &std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn the_story_of_a_lost_machine() {
    let place = Place::new();
    let refused = place.run("home", &["backup", "create", "full.plb"]);
    assert_eq!(refused.status.code(), Some(13), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("keys add-slot recovery"));
    let no_terminal = place.run("home", &["keys", "add-slot", "recovery"]);
    assert_eq!(no_terminal.status.code(), Some(2));
    let words = place.words();
    assert_eq!(words.split(|byte| *byte == b' ').count(), 24);
    place.set("global/token", b"CANARY-of-a-secret-value");
    let full = place.json("home", &["backup", "create", "full.plb"]);
    assert_eq!((full["full"].as_bool(), full["from"].as_u64()), (Some(true), Some(0)));
    let again = place.run("home", &["backup", "create", "full.plb"]);
    assert_eq!(again.status.code(), Some(12), "a backup is never replaced by chance");
    place.set("global/token", b"CANARY-of-another-value");
    let more = place.json("home", &["backup", "create", "more.plb", "--after", "full.plb"]);
    assert_eq!(more["from"].as_u64().unwrap(), full["to"].as_u64().unwrap() + 1);
    let facts = std::fs::metadata(place.path("more.plb")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o777, 0o600);
    // The home itself opens its own backup; with the words alone it opens anywhere.
    let checked = place.json("home", &["backup", "verify", "full.plb", "more.plb"]);
    assert_eq!(checked["ok"], true, "{checked}");
    let elsewhere = place.with_input("none", &["--recovery-stdin", "backup", "verify", "full.plb", "more.plb"], &words);
    assert!(elsewhere.status.success(), "{}", String::from_utf8_lossy(&elsewhere.stderr));
    assert!(String::from_utf8_lossy(&elsewhere.stdout).contains("it can be restored"));
    let locked = place.run("none", &["backup", "verify", "full.plb"]);
    assert_eq!(locked.status.code(), Some(4), "{}", String::from_utf8_lossy(&locked.stdout));
    assert!(place.run("none", &["backup", "verify", "--keyless", "full.plb", "more.plb"]).status.success());

    std::fs::remove_dir_all(place.path("home")).unwrap();
    let nothing = place.run("new", &["backup", "restore", "full.plb", "more.plb"]);
    assert_eq!(nothing.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("--recovery-stdin"));
    let mut typo = words.clone();
    typo[0] = if typo[0] == b'z' { b'a' } else { b'z' };
    let wrong = place.with_input("new", &["--recovery-stdin", "backup", "restore", "full.plb", "more.plb"], &typo);
    assert_eq!(wrong.status.code(), Some(11), "{}", String::from_utf8_lossy(&wrong.stderr));
    let restore = ["--format", "json", "--recovery-stdin", "backup", "restore", "full.plb", "more.plb"];
    let restored = place.with_input("new", &restore, &words);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(restored["to"], more["to"]);
    assert_eq!(place.ok("new", &["secrets", "get", "global/token", "--reveal"]), "CANARY-of-another-value");
    assert!(place.run("new", &["log", "verify", "--state"]).status.success());
    let told = place.ok("new", &["log", "show"]);
    assert!(told.contains("branch 1 of history begins") && told.contains("restored the ledger from backup"), "{told}");
    let taken = place.with_input("new", &restore, &words);
    assert_eq!(taken.status.code(), Some(12));
    assert_eq!(place.entries(), ["full.plb", "more.plb", "new"]);

    // Neither the words nor a value is anywhere.
    let (spaced, first) = (words.trim_ascii(), &words[..words.iter().position(|byte| *byte == b'\n').unwrap()]);
    let four = spaced.split(|byte| *byte == b' ').take(4).collect::<Vec<_>>().join(&b' ');
    every_file(place.dir.path(), &mut |path, bytes| {
        for needle in [first, &four[..], b"CANARY-of"] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", path.display());
        }
    });
    assert!(!told.as_bytes().windows(four.len()).any(|window| window == four));
}

#[test]
fn a_backup_is_never_replaced_by_its_own_increment() {
    let place = Place::new();
    place.words();
    place.ok("home", &["backup", "create", "full.plb"]);
    place.set("global/token", b"value");
    let before = std::fs::read(place.path("full.plb")).unwrap();
    std::fs::hard_link(place.path("full.plb"), place.path("again.plb")).unwrap();
    std::os::unix::fs::symlink("full.plb", place.path("link.plb")).unwrap();
    let mut daemon = Some(place.serve());
    while {
        for (file, after) in [
            ("full.plb", "full.plb"),
            ("./full.plb", "full.plb"),
            ("again.plb", "full.plb"),
            ("link.plb", "full.plb"),
            ("full.plb", "link.plb"),
            ("none.plb", "none.plb"),
        ] {
            for more in [&[][..], &["--force"]] {
                let words = [&["backup", "create", file, "--after", after], more].concat();
                let refused = place.run("home", &words);
                let said = String::from_utf8_lossy(&refused.stderr);
                assert_eq!(refused.status.code(), Some(2), "{words:?}: {said}");
                assert!(said.contains("name another file"), "{said}");
            }
        }
        // Once beside the daemon, and once without it.
        let served = daemon.take();
        served.map(|mut served| served.kill().and_then(|()| served.wait()).unwrap()).is_some()
    } {}
    assert_eq!(std::fs::read(place.path("full.plb")).unwrap(), before);
    assert_eq!(place.entries(), ["again.plb", "full.plb", "home", "link.plb"]);
    assert!(std::fs::symlink_metadata(place.path("link.plb")).unwrap().is_symlink());
}

fn remove_key_file(home: &Path) {
    for entry in std::fs::read_dir(home.join("keys")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "key") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn recovery_words_open_a_home_whose_key_file_is_gone() {
    let place = Place::new();
    let other = place.words();
    let words = place.words();
    place.set("global/token", b"value");
    // A rotation says what each slot needs.
    let refused = place.run("home", &["keys", "rotate", "--root"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4));
    assert!(said.contains("recovery words") && !said.contains("its passphrase"), "{said}");
    remove_key_file(&place.path("home"));
    let locked = place.run("home", &["secrets", "list"]);
    let said = String::from_utf8_lossy(&locked.stderr);
    assert_eq!(locked.status.code(), Some(4));
    assert!(said.contains("put the key file back") && said.contains("--recovery-stdin"), "{said}");
    for words in [&words, &other] {
        let listed = place.with_input("home", &["--recovery-stdin", "secrets", "list"], words);
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert!(String::from_utf8_lossy(&listed.stdout).contains("global/token"));
    }
    std::fs::write(place.path("phrase"), "no phrase of this ledger").unwrap();
    let wrong = place.run("home", &["--passphrase-file", "phrase", "secrets", "list"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(4));
    assert!(said.contains("(recovery) with --recovery-stdin"), "{said}");
    let write = ["--recovery-stdin", "secrets", "set", "global/b", "--file", "phrase"];
    let written = place.with_input("home", &write, &words);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
}

#[test]
fn the_same_beside_a_daemon() {
    let place = Place::new();
    let words = place.words();
    place.set("global/token", b"value");
    let mut daemon = place.serve();
    let full = place.json("home", &["backup", "create", "full.plb"]);
    place.set("global/token", b"another");
    let more = place.json("home", &["backup", "create", "more.plb", "--after", "full.plb", "--reason", "evening"]);
    assert_eq!(more["from"].as_u64().unwrap(), full["to"].as_u64().unwrap() + 1);
    let refused = place.run("home", &["backup", "create", "bad.plb", "--since", "100000"]);
    assert_eq!(refused.status.code(), Some(12), "{}", String::from_utf8_lossy(&refused.stderr));
    let piped = place.run("home", &["backup", "create", "-"]);
    assert!(piped.status.success());
    std::fs::write(place.path("piped.plb"), piped.stdout).unwrap();
    let told = place.ok("home", &["log", "show"]);
    assert!(told.contains("made an increment of events") && told.contains("evening"), "{told}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(!place.path("bad.plb").exists());
    for chain in [&["full.plb", "more.plb"][..], &["piped.plb"]] {
        let home = chain[0].trim_end_matches(".plb");
        let restored = place.with_input(home, &[&["--recovery-stdin", "backup", "restore"], chain].concat(), &words);
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        assert_eq!(place.ok(home, &["secrets", "get", "global/token", "--reveal"]), "another");
    }
}

/// Starts a command and kills it (SIGKILL) after a random while; says whether it had ended by itself.
fn killed(mut child: Child, within: u64) -> bool {
    std::thread::sleep(Duration::from_micros(random(within)));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

#[test]
fn a_backup_that_is_killed_leaves_the_old_one_or_a_new_one() {
    let place = Place::new();
    let words = place.words();
    for number in 0..12 {
        place.set(&format!("global/{number}"), &vec![b'x'; 60_000]);
    }
    let mut daemon = place.serve();
    place.ok("home", &["backup", "create", "b.plb"]);
    let (mut cut, mut through) = (0, 0);
    for round in 0..kills() {
        place.set("global/0", format!("round {round}").as_bytes());
        let before = std::fs::read(place.path("b.plb")).unwrap();
        let child = place.command("home", &["backup", "create", "b.plb", "--force"]).spawn().unwrap();
        killed(child, 60_000);
        let after = std::fs::read(place.path("b.plb")).unwrap();
        if after == before {
            cut += 1;
        } else {
            through += 1;
        }
        let checked = place.with_input("none", &["--recovery-stdin", "backup", "verify", "b.plb"], &words);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    assert!(cut > 0, "{cut} {through}");
    assert!(place.run("home", &["log", "verify"]).status.success(), "the daemon goes on");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_restore_that_is_killed_leaves_no_home_or_a_whole_one() {
    let place = Place::new();
    let words = place.words();
    for number in 0..12 {
        place.set(&format!("global/{number}"), &vec![b'x'; 60_000]);
    }
    place.ok("home", &["backup", "create", "b.plb"]);
    let (mut cut, mut through) = (0, 0);
    for round in 0..kills() {
        let home = format!("home{round}");
        let mut child = place
            .command(&home, &["--recovery-stdin", "backup", "restore", "b.plb"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&words).unwrap();
        killed(child, 400_000);
        if place.path(&home).exists() {
            through += 1;
            assert!(place.run(&home, &["log", "verify", "--state"]).status.success());
        } else {
            cut += 1;
            let refused = place.run(&home, &["log", "head"]);
            assert_eq!(refused.status.code(), Some(10), "there is no ledger");
        }
    }
    assert!(cut > 0, "{cut} {through}");
    let last = place.with_input("last", &["--recovery-stdin", "backup", "restore", "b.plb"], &words);
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(place.run("last", &["log", "verify", "--state"]).status.success());
}
