//! The daemon as a process, with real peers: curl and openssl, and attackers with a socket in hand.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod anchors;
mod attacks;
mod backups;
mod bounds;
mod clock;
mod faults;
mod local;
mod namespaces;
mod references;
mod roll;
mod seats;
mod service;
mod story;
mod wire;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A ledger in a folder of its own.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        home.ok(&["init"]);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        let home = self.path("home");
        command.env_clear().env("PALYRA_LEDGER_HOME", home).env("TMPDIR", self.dir.path()).args(words);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(words);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    fn with_input(&self, words: &[&str], input: &[u8]) -> Output {
        let mut child =
            self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Every event's sentence.
    fn told(&self) -> String {
        self.ok(&["log", "show"])
    }

    /// Waits until the log tells of something.
    fn tells(&self, wanted: &str) -> bool {
        wait(Duration::from_secs(20), || self.told().contains(wanted))
    }

    /// What its daemon counts.
    fn metrics(&self) -> String {
        let mut command = Command::new("curl");
        command.args(["-s", "-m", "20", "--unix-socket"]).arg(self.path("home/serve.sock"));
        String::from_utf8(command.arg("http://ledger/metrics").output().unwrap().stdout).unwrap()
    }

    fn mint(&self, more: &[&str]) -> String {
        let mut words = vec!["pairing", "mint"];
        words.extend(more);
        self.json(&words)["code"].as_str().unwrap().to_owned()
    }
}

/// Waits for something to become true.
fn wait(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A daemon that serves a home.
struct Daemon {
    child: Child,
    devices: SocketAddr,
    pairing: SocketAddr,
    metrics_at: Option<SocketAddr>,
    messages: PathBuf,
}

impl Daemon {
    fn start(home: &Home, more: &[&str]) -> Self {
        Self::start_by(home, &[], more)
    }

    /// Starts it through another program, which is given its words.
    fn start_by(home: &Home, by: &[&str], more: &[&str]) -> Self {
        Self::start_with(home, by, more, |_| {})
    }

    fn start_with(home: &Home, by: &[&str], more: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let messages = home.path("messages");
        let mut words = vec!["--format", "json", "serve", "--listen", "127.0.0.1:0", "--pairing-listen", "127.0.0.1:0"];
        words.extend(more);
        let mut command = home.command(&words);
        if let Some((first, others)) = by.split_first() {
            let mut wrapped = Command::new(first);
            wrapped.args(others).arg(command.get_program()).args(command.get_args()).env_clear();
            for (name, value) in command.get_envs() {
                wrapped.env(name, value.unwrap());
            }
            wrapped.env("PATH", std::env::var_os("PATH").unwrap());
            wrapped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
            command = wrapped;
        }
        change(&mut command);
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(&messages).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{line:?} {}", std::fs::read_to_string(&messages).unwrap()));
        let at = |name: &str| said["listening"][name].as_str().unwrap().parse().unwrap();
        let metrics_at = said["listening"]["metrics"].as_str().map(|at| at.parse().unwrap());
        Self { child, metrics_at, devices: at("devices"), pairing: at("pairing"), messages }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.child.wait().unwrap().success());
        std::fs::read_to_string(&self.messages).unwrap()
    }

    /// A pairing message as anybody may send it; gives status and body.
    fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let output = Command::new("curl")
            .args(["-s", "-m", "20", "-H", "content-type: application/json", "-d", "@-", "-w", "\n%{http_code}"])
            .arg(format!("http://{}{path}", self.pairing))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(body.as_bytes())?;
                child.wait_with_output()
            })
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A paired device, as its folder.
struct Device {
    id: String,
    name: String,
    dir: PathBuf,
}

impl Device {
    /// Pairs over the wire: two processes and a person that compares the digits.
    fn pair(home: &Home, daemon: &Daemon, name: &str) -> Self {
        let code = home.mint(&[]);
        let dir = home.path(name);
        let mut joining = home
            .command(&["--format", "json", "pairing", "join", "--name", name, "--identity"])
            .arg(&dir)
            .args(["--addr", &daemon.pairing.to_string(), "--code", &code])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut shown = String::new();
        let mut lines = BufReader::new(joining.stderr.take().unwrap());
        while !shown.contains("digits") {
            assert!(lines.read_line(&mut shown).unwrap() > 0, "{shown}");
        }
        let sas = shown.trim().rsplit(' ').next().unwrap().to_owned();
        let requests = home.json(&["pairing", "requests"]);
        let request = requests["requests"].as_array().unwrap().iter().find(|request| request["name"] == name).unwrap();
        assert_eq!(request["sas"], sas.as_str(), "both sides show the same digits");
        home.ok(&["pairing", "approve", request["request"].as_str().unwrap(), "--sas", &sas]);
        let output = joining.wait_with_output().unwrap();
        assert!(output.status.success());
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ledger = format!("ledger-{}.palyra.internal", said["ledger"].as_str().unwrap());
        Self { id: said["device"].as_str().unwrap().to_owned(), name: ledger, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// curl as this device: exit code, status and body.
    fn curl(&self, at: SocketAddr, path: &str, more: &[&str]) -> (i32, u16, Vec<u8>) {
        let output = Command::new("curl")
            .args(["-s", "-m", "20", "-w", "\n%{http_code}", "--cacert"])
            .arg(self.file("ca.pem"))
            .arg("--cert")
            .arg(self.file("identity.pem"))
            .arg("--key")
            .arg(self.file("identity.pem"))
            .args(["--resolve", &format!("{}:{}:127.0.0.1", self.name, at.port())])
            .args(more)
            .arg(format!("https://{}:{}{path}", self.name, at.port()))
            .output()
            .unwrap();
        let end = output.stdout.iter().rposition(|byte| *byte == b'\n').unwrap();
        let status = std::str::from_utf8(&output.stdout[end + 1..]).unwrap().parse().unwrap();
        (output.status.code().unwrap(), status, output.stdout[..end].to_vec())
    }

    /// openssl's client as this device, still running.
    fn s_client(&self, at: SocketAddr, more: &[&str]) -> Child {
        Command::new("openssl")
            .args(["s_client", "-tls1_3", "-verify_return_error", "-servername", &self.name])
            .args(["-verify_hostname", &self.name, "-connect", &at.to_string(), "-CAfile"])
            .arg(self.file("ca.pem"))
            .arg("-cert")
            .arg(self.file("identity.pem"))
            .arg("-key")
            .arg(self.file("identity.pem"))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn openssl(words: &[&str], dir: &Path) -> Output {
    Command::new("openssl").args(words).current_dir(dir).output().unwrap()
}
