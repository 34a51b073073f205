//! A process that imports is killed at random moments; everything is there afterwards, or nothing.
//!
//! `PALYRA_IMPORT_KILLS` sets how many times (20 by default).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use palyra_ledger::{ArgonCost, Config, ImportOptions, Ledger, NewSlot, Random, VerifyOptions};

use super::old::{Old, ULIDS};
use super::{gather, import, values};

const CHILD: &str = "PALYRA_IMPORT_CHILD";
const SECRETS: usize = 400;

fn real(home: &Path) -> Config {
    Config::new(home).argon_cost(ArgonCost::for_tests())
}

/// The child: run by the test below in a process of its own, and does nothing otherwise.
#[test]
fn child_that_imports() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let dir = Path::new(&dir);
    let ledger = Ledger::open(real(&dir.join("home"))).unwrap();
    ledger.imports().run(&gather(&dir.join("store")), ImportOptions::default(), &|_, _| {}).unwrap();
    ledger.close().unwrap();
}

#[test]
fn everything_or_nothing_is_there_when_the_process_is_killed() {
    let rounds: u32 = std::env::var("PALYRA_IMPORT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new();
    for number in 0..SECRETS {
        old = old.secret("global", &format!("key{number}"), &[b'x'; 500]);
    }
    let node = old.leaf(ULIDS[2]);
    old.pair(ULIDS[2], "Node", &[&node]);
    std::fs::create_dir(dir.path().join("store")).unwrap();
    old.write(&dir.path().join("store"));
    let gathered = gather(&dir.path().join("store"));
    for round in 0..rounds {
        let home = dir.path().join("home");
        let _ = std::fs::remove_dir_all(&home);
        drop(Ledger::init(real(&home), NewSlot::file("machine")).unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child_that_imports", "--exact", "--test-threads", "1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut bytes = [0; 2];
        palyra_ledger::OsRandom.fill(&mut bytes).unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(u16::from_le_bytes(bytes)) % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        let ledger = Ledger::open(real(&home)).unwrap();
        let found = values(&ledger).len();
        assert!(found == 0 || found == SECRETS, "round {round}: {found}");
        assert!(!import(&ledger, &gathered, ImportOptions::default()).stopped, "round {round}");
        assert_eq!(values(&ledger).len(), SECRETS, "round {round}");
        assert!(ledger.verify(VerifyOptions { state: true, witness: false }).unwrap().ok, "round {round}");
        ledger.close().unwrap();
    }
}
