//! A home that the real programs work on as a user's would, and the daemon that serves it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Fault, Run};

/// How long a daemon may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with a home and whatever stands beside it.
#[derive(Debug, Clone)]
pub struct Seat {
    dir: PathBuf,
    program: PathBuf,
}

impl Seat {
    /// A folder in a run's own, without a home yet.
    pub fn new(run: &Run, name: &str) -> Result<Self, Fault> {
        let dir = run.dir.join(name);
        std::fs::create_dir_all(dir.join("tmp"))?;
        let program = run.programs.join("palyra-ledger");
        if !program.is_file() {
            return Err("palyra-ledger was not built beside this program: use tools/lab".into());
        }
        Ok(Self { dir, program })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The program with these words, in an environment of its own.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PALYRA_LEDGER_HOME", self.path("home")).env("TMPDIR", self.path("tmp"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(words).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end; gives what it said.
    pub fn run(&self, words: &[&str], input: Option<&[u8]>) -> Result<Output, Fault> {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let Some(input) = input else { return Ok(command.output()?) };
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            // Whoever refuses at once need not take its input.
            match pipe.write_all(input) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
                _ => {}
            }
        }
        Ok(child.wait_with_output()?)
    }

    /// Runs the program, which must succeed; gives its standard output.
    pub fn ok(&self, words: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
        let output = self.run(words, input)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{} ended with {}: {}", words.join(" "), output.status, said.trim()).into())
    }

    /// Runs the program, which must succeed and print JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value, Fault> {
        let all: Vec<&str> = ["--format", "json"].iter().chain(words).copied().collect();
        Ok(serde_json::from_slice(&self.ok(&all, None)?)?)
    }
}

/// A field of JSON that must be a text.
pub fn text<'a>(of: &'a Value, name: &str) -> Result<&'a str, Fault> {
    of.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing in {of}").into())
}

/// A daemon that serves a seat's home, on ports that the system chose.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Where devices are served.
    pub devices: SocketAddr,
    /// Where pairing is offered.
    pub pairing: SocketAddr,
    /// The local socket.
    pub socket: PathBuf,
    /// Where its messages go.
    pub messages: PathBuf,
}

impl Served {
    /// Starts it; `change` may set more of its command.
    pub fn start(seat: &Seat, more: &[&str], change: impl FnOnce(&mut Command)) -> Result<Self, Fault> {
        let messages = seat.path("messages");
        let words = ["--format", "json", "serve", "--listen", "127.0.0.1:0", "--pairing-listen", "127.0.0.1:0"];
        let mut command = seat.command(&[&words[..], more].concat());
        command.stdout(Stdio::piped()).stderr(File::create(&messages)?);
        change(&mut command);
        let mut child = command.spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("no pipe")?;
        BufReader::new(out).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).map_err(|_| {
            let _ = (child.kill(), child.wait());
            Fault::from(format!("the daemon did not start: {}", std::fs::read_to_string(&messages).unwrap_or_default()))
        })?;
        let listening = said.get("listening").ok_or("the daemon does not say where it listens")?;
        Ok(Self {
            devices: text(listening, "devices")?.parse()?,
            pairing: text(listening, "pairing")?.parse()?,
            socket: seat.path("home").join("serve.sock"),
            child,
            messages,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn lives(&mut self) -> Result<bool, Fault> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Fault> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// What it counts, asked for at the local socket.
    pub fn metrics(&self) -> Result<String, Fault> {
        use std::io::Read;
        let mut socket = UnixStream::connect(&self.socket)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: ledger\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err("the metrics were not answered".into()) }
    }

    /// Lets it die of a fault; says whether that left a core file.
    pub fn dies(mut self) -> Result<bool, Fault> {
        use std::os::unix::process::ExitStatusExt;
        self.signal(Signal::ABORT)?;
        Ok(self.child.wait()?.core_dumped())
    }

    /// Ends it as a service manager does, and waits; gives what it said.
    pub fn stop(mut self) -> Result<String, Fault> {
        self.signal(Signal::TERM)?;
        let begun = Instant::now();
        while self.lives()? {
            if begun.elapsed() > PATIENCE {
                return Err("the daemon did not end when it was asked to".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = std::fs::read_to_string(&self.messages)?;
        let status = self.child.wait()?;
        if status.success() { Ok(said) } else { Err(format!("the daemon ended with {status}: {said}").into()) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
