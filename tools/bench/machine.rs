//! What the figures were measured on.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

/// Facts about this machine that matter to the figures.
pub fn facts(dir: &Path) -> Vec<(String, String)> {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let memory =
        memory.trim_end_matches(" kB").parse::<u64>().map_or(memory.clone(), |kib| format!("{} GiB", kib >> 20));
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = Command::new("rustc").arg("-V").output().ok();
    let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    [
        ("processor", format!("{cpu}, {cores} cores")),
        ("memory", memory),
        ("kernel", format!("Linux {}", kernel.trim())),
        ("file system", file_system(dir).unwrap_or_default()),
        ("compiler", format!("{}, release profile", rustc.trim())),
        ("peers", format!("SQLite {}, redb 4", rusqlite::version())),
    ]
    .map(|(what, value)| (what.to_owned(), value))
    .to_vec()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that holds a path: of the longest mount point above it.
fn file_system(path: &Path) -> Option<String> {
    let mounts = read_to_string("/proc/mounts").ok()?;
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        if path.starts_with(point) && best.as_ref().is_none_or(|(len, _)| point.len() >= *len) {
            best = Some((point.len(), kind.to_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// Seconds of processor time that this process has used, over all its threads.
pub fn cpu_seconds() -> Option<f64> {
    let stat = read_to_string("/proc/self/stat").ok()?;
    // Behind the program's name, which may hold anything, stand the state and then numbers.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    // Linux reports in hundredths whatever its own tick is.
    Some((user + system) / 100.0)
}

/// Seconds of processor time that this thread has used, as of the kernel's last tick: for slices of many ticks. On a
/// busy machine they say more than the clock on the wall.
pub fn thread_seconds() -> Option<f64> {
    let stat = read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = stat.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// Most memory in KiB that was ever resident in this process.
pub fn peak_kib() -> Option<u64> {
    field("/proc/self/status", "VmHWM")?.trim_end_matches(" kB").parse().ok()
}
