//! Secrets given to real programs: in the environment, on descriptors, in mounted files, in written files, and
//! what of them is seen in an output.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod files;
mod given;
mod masks;
mod mounts;
mod references;
mod served;
mod signals;
mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What must be seen nowhere but where it was sent.
const CANARY: &str = "canary-9f3b1c77-value";
/// Longer than anything here takes; a test that gets there has failed.
const LIMIT: Duration = Duration::from_mins(1);

/// A ledger with `global/a` in it, in a folder of its own.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(home.path("run")).unwrap();
        home.ok(&["init"]);
        home.set("global/a", CANARY.as_bytes());
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        self.prepare(&mut command);
        command.args(words);
        command
    }

    /// The surroundings that our program finds.
    fn prepare(&self, command: &mut Command) {
        command.env_clear().env("PALYRA_LEDGER_HOME", self.path("home")).env("PATH", "/usr/bin:/bin");
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("TMPDIR", self.dir.path());
        command.current_dir(self.dir.path()).stdin(Stdio::null());
    }

    /// Runs to the end, within the limit.
    fn run(&self, words: &[&str]) -> Output {
        finish(self.command(words), b"")
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn code(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        error
    }

    fn set(&self, reference: &str, value: &[u8]) {
        let output = finish(self.command(&["secrets", "set", reference, "--stdin"]), value);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    /// Names of what lies in a folder.
    fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// Files below the folder that hold the canary.
    fn leaks(&self) -> Vec<PathBuf> {
        let (mut pending, mut leaks) = (vec![self.dir.path().to_owned()], Vec::new());
        while let Some(path) = pending.pop() {
            let found = std::fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                pending.extend(std::fs::read_dir(path).unwrap().map(|one| one.unwrap().path()));
            } else if found.is_file() && holds(&std::fs::read(&path).unwrap(), CANARY.as_bytes()) {
                leaks.push(path);
            }
        }
        leaks
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap)
    }

    /// The exit status, within the limit.
    fn status(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait(|| {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut running = Running::start(&mut command);
    let mut stdin = running.0.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let read = |mut source: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let stdout = read(Box::new(running.0.stdout.take().unwrap()));
    let stderr = read(Box::new(running.0.stderr.take().unwrap()));
    let status = running.status();
    writer.join().unwrap();
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// Waits for something to become true.
fn wait(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "it took too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process's state as the kernel tells it: `R`, `S`, `T`...
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
