//! A device is an anchor: it keeps what it saw of the ledger, and says so when the ledger is another one.

use std::path::Path;
use std::process::Command;

use super::{Daemon, Device, Home};

fn contact(home: &Home, daemon: &Daemon, device: &Device) -> (Option<i32>, String) {
    let address = daemon.devices.to_string();
    // Not due: a certificate that the older copy did not issue would be refused before anything is shown.
    let identity = device.dir.to_str().unwrap();
    let output = home.run(&["certs", "renew", "--if-due", "--identity", identity, "--addr", &address]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_ledger_that_was_rolled_back_is_found_by_its_device() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "laptop");
    assert_eq!(contact(&home, &daemon, &device).0, Some(0));
    let first = std::fs::read_to_string(device.file("checkpoint.note")).unwrap();
    let key = home.json(&["log", "checkpoint", "--public-key"]);
    assert!(first.starts_with(key["public_key"].as_str().unwrap().split('+').next().unwrap()));
    assert!(home.told().contains("put a checkpoint"), "{}", home.told());
    daemon.stop();
    copy(&home.path("home"), &home.path("older"));

    let daemon = Daemon::start(&home, &[]);
    // More than a daemon records by itself once the older copy is there.
    for _ in 0..20 {
        home.json(&["pairing", "mint"]);
    }
    let made = home.json(&["log", "checkpoint"]);
    assert_eq!(contact(&home, &daemon, &device).0, Some(0));
    let second = std::fs::read_to_string(device.file("checkpoint.note")).unwrap();
    assert_eq!(made["note"], second.as_str());
    assert_ne!(first, second);
    daemon.stop();

    // The whole home is put back, head file and all: nothing in it can tell.
    std::fs::remove_dir_all(home.path("home")).unwrap();
    copy(&home.path("older"), &home.path("home"));
    assert!(home.run(&["log", "verify", "--state"]).status.success());
    let daemon = Daemon::start(&home, &[]);
    let (code, said) = contact(&home, &daemon, &device);
    assert_eq!(code, Some(16), "{said}");
    assert!(said.contains("an older copy was put back"), "{said}");
    assert_eq!(std::fs::read_to_string(device.file("checkpoint.note")).unwrap(), second, "it keeps what it saw");
    assert!(home.tells("knows of events that are not here"), "{}", home.told());
    daemon.stop();
}
