//! Service credentials from outside: the library, the command line and the daemon, against a provider that
//! nobody here wrote.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod breaker;
mod canaries;
mod commands;
mod common;
mod contention;
mod documents;
mod endpoint;
mod hostile;
mod kept;
mod oidc;
mod refresh;
mod selection;
mod story;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A daemon for local clients alone: many of them run at once.
const SERVE: [&str; 7] = ["serve", "--listen", "off", "--pairing-listen", "off", "--metrics-listen", "off"];

/// Waits for something to become true.
fn wait(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// A ledger in a folder of its own, and the program on it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        home.ok(&["init"]);
        home
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.path()).env("TMPDIR", self.dir.path()).args(words);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs and expects an exit code.
    fn run(&self, words: &[&str], code: i32) -> (String, String) {
        expect(self.command(words).output().unwrap(), words, code)
    }

    fn ok(&self, words: &[&str]) -> String {
        self.run(words, 0).0
    }

    fn json(&self, words: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    fn set_secret(&self, reference: &str, value: &str) {
        let words = ["secrets", "set", reference, "--stdin"];
        let mut child =
            self.command(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        expect(child.wait_with_output().unwrap(), &words, 0);
    }

    fn secret(&self, reference: &str) -> String {
        self.ok(&["secrets", "get", reference, "--reveal"])
    }

    fn settings(&self, text: &str) {
        std::fs::write(self.path().join("config.toml"), text).unwrap();
    }

    fn show(&self, profile: &str) -> Value {
        self.json(&["auth", "profiles", "show", profile])
    }
}

fn expect(output: Output, words: &[&str], code: i32) -> (String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, error) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?}\n{out}\n{error}");
    (out, error)
}
