//! That nothing of the daemon's memory gets to a disk or to another process of the same user.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Fault;
use crate::served::{Seat, Served};

/// A user that owns nothing, for a daemon that does not run as root.
const NOBODY: u32 = 65_534;

/// Whether a daemon's limits forbid core files for good: `Max core file size` is 0 and 0.
pub fn forbids_core(pid: u32) -> Result<bool, Fault> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap_or_default();
    Ok(line.split_ascii_whitespace().take(2).eq(["0", "0"]))
}

/// What is seen where processes die of a fault, each with its limit on core files lifted.
pub struct Deaths {
    /// Whether a shell leaves a core file.
    pub shell: bool,
    /// Whether a daemon does.
    pub daemon: bool,
}

/// Lets a shell and a daemon die.
pub fn deaths(seat: &Seat) -> Result<Deaths, Fault> {
    let lifted = "ulimit -c unlimited 2>/dev/null; kill -ABRT $$";
    let shell = Command::new("sh").args(["-c", lifted]).current_dir(seat.path("tmp")).stderr(Stdio::null()).status()?;
    // The daemon is started as a shell would that allows core files.
    let before = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: before.maximum, maximum: before.maximum })?;
    let served = Served::start(seat, &[], |_| {});
    setrlimit(Resource::Core, before)?;
    Ok(Deaths { shell: shell.core_dumped(), daemon: served?.dies()? })
}

/// Whether another process of the same user reads what it must not, of a daemon and of any other process.
pub struct Looks {
    /// The environment of a shell.
    pub shell: bool,
    /// The environment of a daemon.
    pub environment: bool,
    /// Its memory.
    pub memory: bool,
}

/// Looks at a daemon as another process of its user would; none where the only user here is root, who may read
/// everything, and cannot become another.
pub fn looks(program: &Path) -> Result<Option<Looks>, Fault> {
    let root = rustix::process::geteuid().is_root();
    let dir = tempfile::tempdir()?;
    let as_user = |words: &[&str]| {
        let mut command = if root {
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).args(words);
            command
        } else {
            let (first, rest) = words.split_first().unwrap_or((&"true", &[]));
            let mut command = Command::new(first);
            command.args(rest);
            command
        };
        command.current_dir(dir.path()).env("PALYRA_LEDGER_HOME", dir.path().join("home"));
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
        command
    };
    if root {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
        match as_user(&["true"]).status() {
            Ok(status) if status.success() => {}
            _ => return Ok(None),
        }
    }
    let copy = dir.path().join("palyra-ledger");
    std::fs::copy(program, &copy)?;
    let copy = copy.to_str().ok_or("the folder of temporary files is no text")?;
    if !as_user(&[copy, "init"]).status()?.success() {
        return Err("another user cannot make a home".into());
    }
    let reads = |file: &str| as_user(&["sh", "-c", &format!(": <{file}")]).status();
    let serve = [copy, "--format", "json", "serve", "--listen", "off", "--pairing-listen", "off"];
    let mut daemon = Held(as_user(&serve).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(daemon.0.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    if !line.contains("listening") {
        return Err(format!("another user's daemon did not start: {line}").into());
    }
    let shell = Held(as_user(&["sh", "-c", "sleep 60; :"]).spawn()?);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let found = Looks {
        shell: reads(&format!("/proc/{}/environ", shell.0.id()))?.success(),
        environment: reads(&format!("/proc/{}/environ", daemon.0.id()))?.success(),
        memory: reads(&format!("/proc/{}/mem", daemon.0.id()))?.success(),
    };
    Ok(Some(found))
}

/// A process that ends with whoever holds it.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Whether this user may read a process's memory.
pub fn may_read(pid: u32) -> bool {
    !File::open(format!("/proc/{pid}/mem")).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}
