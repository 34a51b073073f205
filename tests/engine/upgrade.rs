//! A home that an older program left is brought up to this one's version: the index is made anew from the log, which
//! is only read. The power goes at every operation of it, and the process is killed at random instants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palyra_ledger::store::{Medium, RealMedium};
use palyra_ledger::testing::{ManualClock, OtherProgram, SeededRandom, SimDisk, for_every_cut};
use palyra_ledger::{
    ArgonCost, Config, Error, Hash, Ledger, NewSlot, OsRandom, Random, STATE_SCHEMA, SecretBytes, Settings,
    VerifyOptions,
};

use super::common::{disk_with_ledger, put, simulated};

/// Everything but what is disposable.
fn kept(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let kept = |path: &PathBuf| !path.starts_with("/home/index");
    disk.files().into_iter().filter(kept).map(|path| (path.clone(), disk.contents(&path).unwrap())).collect()
}

/// A home as a program of the step before left it: its index has a lower state schema.
fn older_home(clock: &ManualClock) -> (SimDisk, Hash) {
    let disk = disk_with_ledger(clock);
    let ledger = Ledger::open(simulated(disk.clone(), 2, clock)).unwrap();
    for number in 0..40 {
        clock.advance(10);
        put(&ledger, &format!("key{}", number % 7), &format!("value {number}"));
    }
    let root = ledger.state_root().unwrap();
    ledger.close().unwrap();
    let older = OtherProgram::at(Arc::new(disk.clone()), Path::new("/home"), Arc::new(SeededRandom::new(3))).unwrap();
    older.index(1, STATE_SCHEMA - 1).unwrap();
    disk.settle();
    (disk, root)
}

fn whole(ledger: &Ledger, root: Hash) {
    assert_eq!(ledger.state_root().unwrap(), root);
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn an_older_index_is_made_anew_and_the_log_is_only_read() {
    let clock = ManualClock::default();
    let (disk, root) = older_home(&clock);
    let before = kept(&disk);
    let error = Ledger::open(simulated(disk.clone(), 4, &clock).read_only()).unwrap_err();
    assert!(matches!(error, Error::Index(_)) && !error.is_from_the_future(), "{error}");
    assert!(kept(&disk) == before);
    // What only knows the log needs no index of its own version.
    whole(&Ledger::open(simulated(disk.clone(), 4, &clock).known_part()).unwrap(), root);
    let ledger = Ledger::open(simulated(disk.clone(), 5, &clock)).unwrap();
    let journal = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| path.starts_with("/home/journal")).collect()
    };
    assert!(journal(kept(&disk)) == journal(before));
    whole(&ledger, root);
    ledger.close().unwrap();
    // Done once: whoever reads next finds it.
    whole(&Ledger::open(simulated(disk, 6, &clock).read_only()).unwrap(), root);
}

#[test]
fn the_power_may_go_at_any_operation_of_an_upgrade() {
    let clock = ManualClock::default();
    let (old, root) = older_home(&clock);
    let before = kept(&old);
    let journal = |disk: &SimDisk| -> Vec<_> {
        kept(disk).into_iter().filter(|(path, _)| path.starts_with("/home/journal")).collect()
    };
    let log = before.into_iter().filter(|(path, _)| path.starts_with("/home/journal")).collect::<Vec<_>>();
    let checked = for_every_cut(
        2,
        || {
            let disk = old.snapshot();
            disk.settle();
            disk
        },
        |disk| Ledger::open(simulated(disk.clone(), 5, &clock)).and_then(|ledger| ledger.close()).is_ok(),
        |cut, _, disk| {
            assert!(journal(&disk) == log, "{cut:?}: the log was changed");
            let ledger = Ledger::open(simulated(disk.clone(), 6, &clock));
            let ledger = ledger.unwrap_or_else(|error| panic!("{cut:?}: {error}"));
            whole(&ledger, root);
            ledger.close().unwrap();
            whole(&Ledger::open(simulated(disk, 7, &clock).read_only()).unwrap(), root);
        },
    );
    assert!(checked > 20, "{checked}");
}

const CHILD: &str = "PALYRA_UPGRADE_CHILD";

/// The child: opens a home, which is an upgrade of it, in a process of its own.
#[test]
fn child_that_upgrades() {
    let Ok(home) = std::env::var(CHILD) else { return };
    Ledger::open(wide(Path::new(&home))).unwrap().close().unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
}

fn log_of(home: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> =
        std::fs::read_dir(home.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.strip_prefix(home).unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
}

/// Enough that the index is written in several runs on the way.
const SECRETS: usize = 10_000;

/// On the real file system, with segments of the usual length.
fn wide(home: &Path) -> Config {
    Config::new(home).argon_cost(ArgonCost::for_tests()).settings(Settings::default()).without_witness()
}

fn large(home: &Path) -> Hash {
    let ledger = Ledger::init(wide(home), NewSlot::file("machine")).unwrap();
    let vault = ledger.vault("global".parse().unwrap());
    let labels: BTreeMap<String, String> = (0..16).map(|at| (format!("label{at}"), "d".repeat(250))).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (vault, labels) = (&vault, &labels);
            scope.spawn(move || {
                for number in (thread..SECRETS).step_by(8) {
                    let options = palyra_ledger::PutOptions::new().labels(labels.clone());
                    vault
                        .put(&format!("key{number}").parse().unwrap(), &SecretBytes::from(&b"v"[..]), options)
                        .unwrap();
                }
            });
        }
    });
    ledger.close().unwrap();
    // Closing signs a checkpoint, which is in the state.
    let root = Ledger::open(wide(home).read_only()).unwrap().state_root().unwrap();
    OtherProgram::at(Arc::new(RealMedium), home, Arc::new(OsRandom)).unwrap().index(1, STATE_SCHEMA - 1).unwrap();
    root
}

/// `PALYRA_UPGRADE_KILLS` sets how many times (6 by default).
#[test]
fn an_upgrade_that_is_killed_goes_on_and_ends_the_same() {
    let kills: u32 = std::env::var("PALYRA_UPGRADE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let dir = tempfile::tempdir().unwrap();
    let (old, home) = (dir.path().join("old"), dir.path().join("home"));
    let root = large(&old);
    let log = log_of(&old);
    copy(&old, &home);
    // Two children after each other are killed as soon as they have kept another part, so that the second one goes on
    // from the first one's on a machine of any speed; the third at a random instant, and how long such a one lives at
    // most grows until it gets somewhere.
    let (mut went_on, mut longest) = (0, 100_000);
    for kill in 0..kills {
        let before = manifest(&home);
        let through = kill_one(&home, longest, (kill % 3 < 2).then_some(before.as_deref()));
        assert!(log_of(&home) == log, "the log was changed");
        let after = manifest(&home);
        if through {
            whole_real(&home, root);
            std::fs::remove_dir_all(&home).unwrap();
            copy(&old, &home);
        } else if before == after {
            longest += longest / 4;
        } else if is_part(after.as_ref()) && is_part(before.as_ref()) {
            went_on += 1;
        }
    }
    assert!(went_on > 0, "no upgrade went on from a part in {kills} kills");
    whole_real(&home, root);
}

fn manifest(home: &Path) -> Option<Vec<u8>> {
    RealMedium.read_all(&home.join("index/MANIFEST"), 1 << 20).ok()
}

/// Whether a manifest is of this version and says that some of the log is folded.
fn is_part(manifest: Option<&Vec<u8>>) -> bool {
    manifest.is_some_and(|bytes| bytes[40..44] == STATE_SCHEMA.to_le_bytes() && bytes[6] == 1)
}

fn whole_real(home: &Path, root: Hash) {
    let ledger = Ledger::open(wide(home)).unwrap();
    assert_eq!(ledger.state_root().unwrap(), root);
    ledger.close().unwrap();
}

/// Kills a process that upgrades, at a random instant or as soon as it has kept another part; whether it was through
/// before.
fn kill_one(home: &Path, longest: u64, changed: Option<Option<&[u8]>>) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "upgrade::child_that_upgrades", "--test-threads=1"])
        .env(CHILD, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut bytes = [0; 8];
    OsRandom.fill(&mut bytes).unwrap();
    let until = Instant::now() + Duration::from_micros(3_000 + u64::from_le_bytes(bytes) % longest);
    let go_on = || match changed {
        Some(before) => {
            let now = manifest(home);
            !is_part(now.as_ref()) || now.as_deref() == before
        }
        None => Instant::now() < until,
    };
    while go_on() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap().success()
}
