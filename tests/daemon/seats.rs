//! Clients of the local socket that stand elsewhere: under other mounts, or as another user.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{Daemon, Home};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
#[allow(clippy::print_stderr)]
fn files_are_the_clients_whatever_the_daemon_sees() {
    if !is_root() {
        eprintln!("SKIPPED: a mount namespace needs root");
        return;
    }
    let home = Home::new();
    let out = home.path("out");
    std::fs::create_dir(&out).unwrap();
    // As under the unit's PrivateTmp: the daemon has another folder of this name.
    let private = format!("mount -t tmpfs none '{}' && exec \"$@\"", out.display());
    let daemon = Daemon::start_by(&home, &["unshare", "-m", "sh", "-c", &private, "sh"], &[]);
    std::fs::write(out.join("value"), "CANARY").unwrap();
    home.ok(&["secrets", "set", "global/api", "--file", "out/value"]);
    assert_eq!(home.run(&["secrets", "get", "global/api", "--reveal"]).stdout, b"CANARY");
    home.ok(&["ca", "export", "--out", "out/ca.pem"]);
    assert!(std::fs::read_to_string(out.join("ca.pem")).unwrap().starts_with("-----BEGIN CERTIFICATE"));
    assert_eq!(home.run(&["ca", "export", "--out", "out/ca.pem"]).status.code(), Some(12), "it is there already");
    let crl = out.join("list.pem");
    home.ok(&["ca", "export", "--crl", "--out", crl.to_str().unwrap()]);
    assert!(crl.exists());
    assert_eq!(home.run(&["secrets", "set", "global/x", "--file", "out/none"]).status.code(), Some(10));
    std::fs::write(out.join("passphrase"), "a long passphrase\n").unwrap();
    home.ok(&["keys", "add-slot", "passphrase", "--label", "two", "--new-passphrase-file", "out/passphrase"]);
    // A folder cannot be lent: refused, and nothing is written anywhere.
    let refused = home.run(&["auth", "docs", "--write", "out"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("mount namespace"));
    daemon.stop();
}

#[test]
#[allow(clippy::print_stderr)]
fn root_acts_for_the_owner_and_another_user_does_not() {
    if !is_root() {
        eprintln!("SKIPPED: other users need root");
        return;
    }
    let home = Home::new();
    let other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    // The home and its daemon are another user's.
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(home.dir.path()).status().unwrap();
    assert!(owned.success());
    let daemon = Daemon::start_by(&home, &other, &[]);
    home.ok(&["secrets", "list"]);
    let value = home.path("value");
    std::fs::write(&value, "CANARY").unwrap();
    chmod(&value, 0o600);
    // What root alone may read, root reads.
    home.ok(&["secrets", "set", "global/api", "--file", "value"]);
    assert_eq!(home.run(&["secrets", "get", "global/api", "--reveal"]).stdout, b"CANARY");
    let told = home.ok(&["--format", "json", "log", "show"]);
    assert!(told.contains("\"uid\":0"), "the log says that it was root: {told}");
    // The folder keeps others out; somebody opened it all the same.
    chmod(home.dir.path(), 0o711);
    chmod(&home.path("home"), 0o711);
    let socket = home.path("home/serve.sock");
    chmod(&socket, 0o666);
    let refused = Command::new("setpriv")
        .args(["--reuid", "65533", "--regid", "65533", "--clear-groups", "curl", "-s", "-m", "10", "--unix-socket"])
        .arg(&socket)
        .arg("http://ledger/metrics")
        .output()
        .unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty());
    chmod(&home.path("home"), 0o700);
    assert!(home.tells("uid 65533"), "{}", home.told());
    daemon.stop();
}
