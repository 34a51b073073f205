//! Records the system calls of a child of this program.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::image::Image;
use super::replay::RECORDED;
use super::states::Recording;
use super::subject::{self, Subject};
use crate::Fault;

/// What the child is to do: the name of a subject, `work` or `recover`, and a seed.
const CHILD: &str = "PALYRA_LAB_POWER_CHILD";
/// In which folder.
const ROOT: &str = "PALYRA_LAB_POWER_ROOT";

/// Whether there is a recorder on this machine.
pub fn recorder() -> bool {
    let asked = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// The child's part; nothing where this process is not one.
pub fn child() -> Option<ExitCode> {
    let (task, root) = (std::env::var(CHILD).ok()?, std::env::var_os(ROOT)?);
    let done = (|| {
        let mut parts = task.split(' ');
        let (name, part, seed) = (parts.next(), parts.next(), parts.next().and_then(|seed| seed.parse().ok()));
        let subject = subject::named(name.unwrap_or_default()).ok_or("there is no such subject")?;
        let seed = seed.ok_or("no seed")?;
        match part {
            Some("work") => (subject.work)(Path::new(&root), seed),
            _ => (subject.recover)(Path::new(&root)),
        }
    })();
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{task}: {fault}");
            ExitCode::FAILURE
        }
    })
}

/// Says a line, in one write.
pub fn say(line: &str) -> Result<(), Fault> {
    use std::io::Write;
    Ok(std::io::stdout().lock().write_all(format!("{line}\n").as_bytes())?)
}

/// Records `part` of a subject in the folder `root`; the text of the recording is left in `to`.
pub fn record(subject: &Subject, part: &str, seed: u64, root: &Path, to: &Path) -> Result<Recording, Fault> {
    let before = Image::of(root)?;
    let calls: Vec<String> = RECORDED.iter().map(|name| format!("?{name}")).collect();
    let ran = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "16000000", "-o"])
        .arg(to)
        .arg(format!("-etrace={}", calls.join(",")))
        .arg("--")
        .arg(std::env::current_exe()?)
        .env(CHILD, format!("{} {part} {seed}", subject.name))
        .env(ROOT, root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("{part} of {} failed under strace: {}", subject.name, said.trim()).into());
    }
    let recording = Recording::new(std::fs::read_to_string(to)?, root.as_os_str().as_bytes().to_vec(), before)?;
    recording.compare(&Image::of(root)?).map_err(|fault| format!("{part} of {}: {fault}", subject.name))?;
    Ok(Recording { listens: part == "work", ..recording })
}
