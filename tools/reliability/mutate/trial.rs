//! Runs programs of tests with a mutant switched on, until one of them fails.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::build::Program;
use crate::Fault;

/// How often a program that has said nothing is asked whether it has ended.
const TICK: Duration = Duration::from_millis(50);
/// Tests of one program at a time.
const THREADS: &str = "2";

/// How a program of tests ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Every test passed.
    Passed,
    /// A test failed, or the program ended in another way.
    Failed(String),
    /// It took too long.
    TooLong,
}

/// What is run.
#[derive(Debug)]
pub struct Call<'a> {
    /// The program of tests.
    pub program: &'a Program,
    /// Which of its tests.
    pub names: &'a [&'a str],
    /// The mutant that is switched on; 0 is none.
    pub mutant: u32,
    /// Where it is noted which mutants they come by.
    pub reached: Option<&'a Path>,
    /// What they may take.
    pub most: Duration,
}

/// The names of a program's tests.
pub fn names(root: &Path, program: &Program) -> Result<Vec<String>, Fault> {
    let mut command = Command::new(&program.path);
    command.args(["--list", "--format", "terse"]).current_dir(root).env("CARGO_MANIFEST_DIR", root);
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("{} does not list its tests: {}", program.name, output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Runs tests of a program with a mutant switched on. It ends with the first that fails, and with it whatever it started.
pub fn tests(root: &Path, call: &Call<'_>) -> Result<Ended, Fault> {
    let begun = Instant::now();
    let temporary = tempfile::tempdir()?;
    let mut command = Command::new(&call.program.path);
    command
        .args(["--test-threads", THREADS, "--exact"])
        .args(call.names)
        .current_dir(root)
        .env("PALYRA_MUTANT", call.mutant.to_string())
        .env("CARGO_MANIFEST_DIR", root)
        .env("TMPDIR", temporary.path())
        // What one mutant made fail is nothing for the next to begin with.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(path) = call.reached {
        command.env("PALYRA_MUTANT_REACHED", path);
    }
    let mut process = command.spawn()?;
    let out = process.stdout.take().ok_or("no pipe")?;
    let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    let (tell, lines) = channel();
    // It ends with the pipe, which something that left the group may hold open: nobody waits for it.
    std::thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut failed = None;
    let ended = loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => failed = failure(&line).map(str::to_owned),
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(test) = failed {
            break Ended::Failed(test);
        }
        // What it said before it ended is read first.
        let status = process.try_wait()?;
        if let Some(status) = status {
            let mut said = lines.recv_timeout(TICK * 4).into_iter().chain(lines.try_iter());
            let test = said.find_map(|line| failure(&line).map(str::to_owned));
            break match test {
                Some(test) => Ended::Failed(test),
                None if status.success() => Ended::Passed,
                None => Ended::Failed(status.to_string()),
            };
        }
        if begun.elapsed() > call.most {
            break Ended::TooLong;
        }
    };
    // Children of a program that ended are there still: a group lives as long as one of its processes.
    let _ = kill_process_group(group, Signal::KILL);
    process.wait()?;
    Ok(ended)
}

/// The test that a line says has failed.
fn failure(line: &str) -> Option<&str> {
    let named = line.strip_prefix("test ")?;
    named.strip_suffix(" ... FAILED")
}
