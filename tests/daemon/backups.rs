//! A paired device goes on with a ledger that was restored from a backup, and sees that it is a branch.

use std::path::Path;

use super::{Daemon, Device, Home};

#[test]
fn a_device_goes_on_with_a_restored_ledger() {
    let home = Home::new();
    home.ok(&["keys", "add-slot", "recovery", "--out-file", "words"]);
    let words = std::fs::read(home.path("words")).unwrap();
    let daemon = Daemon::start(&home, &[]);
    let device = Device::pair(&home, &daemon, "laptop");
    home.ok(&["backup", "create", "full.plb"]);
    // The device sees more than the backup holds.
    (0..5).for_each(|_| drop(home.json(&["pairing", "mint"])));
    home.ok(&["log", "checkpoint"]);
    let contact = |daemon: &Daemon| {
        let (identity, address) = (device.dir.to_str().unwrap(), daemon.devices.to_string());
        home.run(&["certs", "renew", "--if-due", "--identity", identity, "--addr", &address])
    };
    assert!(contact(&daemon).status.success());
    let seen = std::fs::read_to_string(device.file("checkpoint.note")).unwrap();
    daemon.stop();

    std::fs::remove_dir_all(home.path("home")).unwrap();
    let restored = home.with_input(&["--recovery-stdin", "backup", "restore", "full.plb"], &words);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert!(Path::exists(&home.path("home/keys/keyring")));
    let daemon = Daemon::start(&home, &[]);
    let output = contact(&daemon);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(device.curl(daemon.devices, "/v1/head", &[]).1, 200);
    let now = std::fs::read_to_string(device.file("checkpoint.note")).unwrap();
    assert_ne!(now, seen);
    assert!(now.contains("branch 1"), "{now}");
    let told = home.told();
    assert!(told.contains("branch 1 of history begins") && told.contains("restored the ledger from backup"), "{told}");
    daemon.stop();
}
