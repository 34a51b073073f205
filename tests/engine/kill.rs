//! A child under load is killed at random moments; what it acknowledged is there afterwards.
//!
//! `PALYRA_KILLS` sets how many times (200 by default).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palyra_ledger::event::vault::Versions;
use palyra_ledger::{Ledger, PutOptions, Random, Scope, VerifyOptions};

use super::common::{bytes, init_real, name, real};

const CHILD: &str = "PALYRA_KILL_CHILD";

/// The child: run by the test below in a process of its own, and does nothing otherwise.
#[test]
fn child_under_load() {
    let Ok(home) = std::env::var(CHILD) else { return };
    let ledger = Ledger::open(real(Path::new(&home))).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || {
                let vault = ledger.vault(Scope::global());
                for number in 0_u32.. {
                    let key = name(&format!("t{thread}"));
                    let receipt = vault.put(&key, &bytes(&format!("{thread}/{number}")), PutOptions::new()).unwrap();
                    say(&format!("put {thread} {} {number}", receipt.version));
                    vault.get(&key).unwrap();
                    if number % 5 == 4 {
                        vault.shred(&key, Versions::One(receipt.version), None).unwrap();
                        say(&format!("shred {thread} {}", receipt.version));
                    }
                    if thread == 0 && number % 13 == 12 {
                        ledger.keys().rotate_root(&[], &[]).unwrap();
                        say("root");
                    }
                }
            });
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may have gone: then there is nobody to tell.
    let _ = writeln!(out, "ack {line}").and_then(|()| out.flush());
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    palyra_ledger::OsRandom.fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

#[derive(Default)]
struct Acknowledged {
    /// By thread: version to number.
    puts: BTreeMap<String, BTreeMap<u32, u32>>,
    shreds: BTreeMap<String, Vec<u32>>,
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds: u32 = std::env::var("PALYRA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    while kills < rounds {
        let home = dir.path().join(format!("home{kills}"));
        drop(init_real(&home));
        let mut acknowledged = Acknowledged::default();
        // One home is killed many times: what one crash left, the next meets.
        for _ in 0..20.min(rounds - kills) {
            run_and_kill(&home, &mut acknowledged);
            kills += 1;
            check(&home, &acknowledged);
        }
        std::fs::remove_dir_all(&home).unwrap();
    }
}

fn run_and_kill(home: &Path, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_under_load", "--nocapture", "--test-threads=1"])
        .env(CHILD, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).filter(|line| line.starts_with("ack ")).collect::<Vec<_>>()
    });
    let until = Instant::now() + Duration::from_micros(2_000 + random(120_000));
    while Instant::now() < until {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reader.join().unwrap() {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts.as_slice() {
            ["ack", "put", thread, version, number] => {
                let (version, number) = (version.parse().unwrap(), number.parse().unwrap());
                acknowledged.puts.entry((*thread).to_owned()).or_default().insert(version, number);
            }
            ["ack", "shred", thread, version] => {
                acknowledged.shreds.entry((*thread).to_owned()).or_default().push(version.parse().unwrap());
            }
            _ => {}
        }
    }
}

fn check(home: &Path, acknowledged: &Acknowledged) {
    let ledger = Ledger::open(real(home)).unwrap();
    let vault = ledger.vault(Scope::global());
    for (thread, versions) in &acknowledged.puts {
        let key = name(&format!("t{thread}"));
        let gone = acknowledged.shreds.get(thread).cloned().unwrap_or_default();
        let history = vault.history(&key).unwrap();
        for (version, number) in versions {
            let record = history.versions.iter().find(|record| record.version == *version);
            assert!(record.is_some(), "version {version} of {key} was acknowledged and is gone");
            match vault.get_with(&key, palyra_ledger::GetOptions::version(*version)) {
                Ok(secret) => {
                    assert!(!gone.contains(version), "version {version} of {key} was shredded");
                    assert_eq!(secret.value.expose(), format!("{thread}/{number}").as_bytes());
                }
                // A shred may be durable before the child could say so.
                Err(error) => assert!(number % 5 == 4, "{error}"),
            }
        }
    }
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    ledger.close().unwrap();
}
