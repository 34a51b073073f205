//! A daemon whose disk fails.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Daemon, Device, Home, wait};

#[test]
fn a_daemon_that_cannot_write_ends_and_says_so() {
    let home = Home::new();
    let mut daemon = Daemon::start_by(&home, &["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"], &[]);
    let device = Device::pair(&home, &daemon, "device");
    assert_eq!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    // From here on no file may grow (RLIMIT_FSIZE): as a full disk.
    let pid = daemon.child.id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=1"]).status().unwrap();
    assert!(limited.success());
    let failed = home.run(&["devices", "revoke", &device.id, "--yes"]);
    assert_eq!(failed.status.code(), Some(18), "{}", String::from_utf8_lossy(&failed.stderr));
    // The revocation is not on record: nobody is trusted any more.
    let begun = Instant::now();
    assert_ne!(device.curl(daemon.devices, "/v1/health", &[]).1, 200);
    assert!(wait(Duration::from_secs(15), || daemon.child.try_wait().unwrap().is_some()), "it stays");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(18));
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Once there is space, all that was acknowledged is there.
    let again = Daemon::start(&home, &[]);
    assert_eq!(device.curl(again.devices, "/v1/health", &[]).1, 200);
    home.ok(&["devices", "revoke", &device.id, "--yes"]);
    again.stop();
    home.ok(&["log", "verify", "--state"]);
}
