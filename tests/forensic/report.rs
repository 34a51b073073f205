//! The report and the bundle commands, by the program itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const CANARY: &str = "canary-77c1-value";
/// A reason that would end an element, turn the direction of text and drive a terminal.
const HOSTILE: &str = "</td><script>alert(1)</script><img src=http://127.0.0.1:9/x>\u{202e}&amp;\"'";

/// A home with some events, and a place for what is made of it.
pub struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        scene.ledger(&["init"], b"");
        for name in ["one", "two", "three"] {
            let secret = format!("global/{name}");
            scene.ledger(&["--reason", HOSTILE, "secrets", "set", &secret, "--stdin"], CANARY.as_bytes());
        }
        scene.ledger(&["--reason", HOSTILE, "secrets", "shred", "global/two", "--yes"], b"");
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ledger(&self, words: &[&str], input: &[u8]) -> String {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.path("home")).args(words).write_stdin(input);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the tool in the scene's folder.
    pub fn tool(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_palyra-forensic"))
            .args(words)
            .envs(environment.iter().copied())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs the tool and expects an exit code.
    pub fn run(&self, words: &[&str], code: i32) -> String {
        let output = self.tool(words, &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The page of the home, with keys.
    pub fn page(&self, name: &str) -> String {
        self.run(&["report", "home", "--keys", "-o", name], 17);
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn the_page_asks_nobody_for_anything_and_nothing_in_the_log_can_leave_its_place() {
    let scene = Scene::new();
    let page = scene.page("report.html");
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'; img-src data:"));
    for bad in ["<script", "<img", "http://", "https://", "@import", "url(http", "onload", CANARY, "\u{202e}"] {
        let found = page.find(bad).map(|at| page[at.saturating_sub(60)..].chars().take(160).collect::<String>());
        let escaped = bad == "http://" && page.contains("&lt;img src=http://127.0.0.1:9/x&gt;");
        assert!(found.is_none() || escaped, "{bad}: {found:?}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("\\u{202e}&amp;amp;&quot;&#39;"));
    assert!(page.contains("INTACT-UNANCHORED") && page.contains("role=\"img\""));
}

#[test]
fn the_same_evidence_gives_the_same_page_anywhere() {
    let scene = Scene::new();
    let plain = scene.page("first.html");
    let copy = scene.path("elsewhere/deeper/copy");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-r").arg(scene.path("home")).arg(&copy).status().unwrap().success());
    let words = ["report", copy.to_str().unwrap(), "--keys"];
    let environment = [("TZ", "Asia/Kathmandu"), ("LANG", "tr_TR.UTF-8"), ("LC_ALL", "ar_EG.UTF-8"), ("COLUMNS", "20")];
    let other = scene.tool(&words, &environment);
    assert_eq!(other.status.code(), Some(17));
    assert_eq!(String::from_utf8(other.stdout).unwrap(), plain);
}

#[test]
fn json_has_the_facts_of_the_page_and_the_exit_code_is_the_verdicts() {
    let scene = Scene::new();
    let facts: Value = serde_json::from_str(&scene.run(&["report", "home", "--keys", "--json"], 17)).unwrap();
    assert_eq!(facts["verdict"]["word"], "INTACT-UNANCHORED");
    assert_eq!(facts["log"]["events"], 5);
    assert_eq!(facts["actors"]["rows"][0]["events"], 5);
    assert_eq!(facts["notable"]["rows"][0]["kind"], "secret_shredded");
    let total: u64 = facts["activity"]["bins"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|bin| bin["counts"].as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(total, 5);
    let keyless: Value = serde_json::from_str(&scene.run(&["report", "home", "--json"], 17)).unwrap();
    assert_eq!(keyless["actors"], Value::Null);
    assert_eq!(keyless["evidence"]["sha256_of_list"], facts["evidence"]["sha256_of_list"]);

    // Damage is located, and the code is that of damage.
    let segment = scene.path("home/journal/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[700] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged: Value = serde_json::from_str(&scene.run(&["report", "home", "--json"], 15)).unwrap();
    assert_eq!(damaged["verdict"]["grade"], "bad");
    assert!(damaged["findings"]["rows"].as_array().unwrap().iter().any(|finding| finding["offset"].is_u64()));
    let page = scene.run(&["report", "home"], 15);
    assert!(page.contains("class=\"lost\"") && page.contains("Missing or damaged"));
}

#[test]
fn a_report_replaces_nothing_and_is_not_written_into_the_evidence() {
    let scene = Scene::new();
    scene.page("report.html");
    scene.run(&["report", "home", "-o", "report.html"], 12);
    scene.run(&["report", "home", "-o", "home/report.html"], 2);
    assert!(!scene.path("home/report.html").exists());
}

#[test]
fn a_bundle_without_a_checkpoint_says_that_nothing_is_proven() {
    let scene = Scene::new();
    scene.run(&["bundle", "create", "home", "--select", "1-3", "-o", "b"], 17);
    assert!(!Path::new(&scene.path("b")).exists());
    scene.run(&["bundle", "create", "home", "--select", "1-3", "--unproven", "--keys", "--disclose", "-o", "b"], 0);
    let json = scene.run(&["--format", "json", "bundle", "verify", "b"], 15);
    let judged: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&judged["standing"], &judged["selection"]), (&"UNPROVEN".into(), &"events 1-3".into()));
    assert!(judged["events"][0]["body"]["summary"].as_str().unwrap().contains("global/one"));
    assert!(!json.contains(CANARY) && !json.contains('\u{202e}'));
    let mut bytes = std::fs::read(scene.path("b")).unwrap();
    assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    bytes[30] ^= 1;
    std::fs::write(scene.path("c"), bytes).unwrap();
    scene.run(&["bundle", "verify", "c"], 15);
    scene.run(&["bundle", "create", "home", "--select", "9", "--unproven", "-o", "d"], 10);
    scene.run(&["bundle", "create", "home", "--select", "1", "--disclose", "-o", "d"], 2);
}

#[test]
fn a_bundle_under_the_ledgers_own_checkpoint_is_proven_to_whoever_has_its_key_or_an_anchor() {
    let scene = Scene::new();
    let vkey = scene.ledger(&["log", "checkpoint", "--public-key"], b"");
    std::fs::write(scene.path("vkey"), vkey).unwrap();
    scene.ledger(&["log", "checkpoint"], b"");
    let notes = scene.path("home/checkpoints/notes");
    std::fs::copy(&notes, scene.path("first")).unwrap();
    scene.ledger(&["secrets", "set", "global/later", "--stdin"], CANARY.as_bytes());
    scene.ledger(&["log", "checkpoint"], b"");
    std::fs::copy(&notes, scene.path("second")).unwrap();

    let words = ["bundle", "create", "home", "--select", "1-3", "--checkpoint", "first", "--newer", "second"];
    scene.run(&[&words[..], &["--keys", "--disclose", "-o", "b"]].concat(), 0);
    scene.run(&["bundle", "verify", "b"], 17);
    let text = scene.run(&["bundle", "verify", "b", "--public-key", "vkey"], 0);
    assert!(text.contains("PROVEN: ") && text.contains("continued unchanged") && !text.contains(CANARY));
    scene.run(&["bundle", "verify", "b", "--anchor", "second", "--anchor", "first"], 0);

    let other = Scene::new();
    let vkey = other.ledger(&["log", "checkpoint", "--public-key"], b"");
    scene.run(&["bundle", "verify", "b", "--public-key", vkey.trim()], 15);

    let page = scene.run(&["report", "home", "--keys", "--anchor", "second"], 0);
    assert!(page.contains("INTACT-ANCHORED") && page.contains("Anchors that the log was compared with"));
}
