//! The command line as a script sees it: JSON fields, exit codes, and what is never printed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod anchors;
mod contract;
mod damage;
mod exits;
mod keys;
mod newer;
mod secrecy;
mod whole;

use std::path::PathBuf;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// A home in a folder of its own, and the program on it.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// A folder without a ledger.
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A ledger with one key file.
    fn new() -> Self {
        let home = Self::empty();
        home.ok(&["init"]);
        home
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The program with these words, on this home; nothing of the caller's environment.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.path()).env("TMPDIR", self.dir.path()).args(words);
        command
    }

    fn output(&self, words: &[&str], input: &[u8]) -> Output {
        self.command(words).write_stdin(input).output().unwrap()
    }

    /// Runs, expects an exit code, and returns what came out.
    fn run(&self, words: &[&str], code: i32) -> (String, String) {
        let output = self.output(words, b"");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{out}\n{error}");
        (out, error)
    }

    fn ok(&self, words: &[&str]) -> String {
        self.run(words, 0).0
    }

    /// One JSON value from the standard output.
    fn json(&self, words: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    /// The error that JSON reports.
    fn error(&self, words: &[&str], code: i32) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        let (out, error) = self.run(&all, code);
        assert_eq!(out, "", "{words:?}");
        let value: Value = serde_json::from_str(&error).unwrap_or_else(|_| panic!("{words:?}: {error}"));
        let error = &value["error"];
        assert_eq!(error["code"], code, "{words:?}");
        assert!(error["what"].as_str().is_some_and(|what| !what.is_empty()), "{words:?}");
        assert!(error["hint"].is_string() && error["kind"].is_string(), "{words:?}");
        error.clone()
    }

    /// Writes a secret; returns the receipt.
    fn set(&self, reference: &str, value: &[u8], more: &[&str]) -> Value {
        let mut words = vec!["--format", "json", "secrets", "set", reference, "--stdin"];
        words.extend(more);
        let output = self.output(&words, value);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The fields of a JSON object, sorted.
fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
