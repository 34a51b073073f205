//! A key that is said to be destroyed and is not: planted in the key table of a finished ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{ArgonCost, AuditReads, Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes, SecretName};

use crate::Fault;
use crate::workload::{settings, verify};

/// Bytes of a key table's header: what was carried out is said there, and stays.
const HEADER: usize = 128;

fn config(disk: &SimDisk, seed: u64) -> Config {
    Config::new("/home")
        .medium(Arc::new(disk.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(ManualClock::default()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
        .settings(settings(AuditReads::Off))
}

fn tables(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.to_string_lossy().contains("/keys/table-")).collect()
}

/// Opens a disk and verifies it as every part of the lab does.
fn check(disk: &SimDisk, seed: u64) -> Result<(), Fault> {
    let ledger = Ledger::open(config(disk, seed))?;
    verify(&ledger, false)?;
    Ok(ledger.close()?)
}

/// What and how, and the finding that saw it; otherwise what was seen instead.
type Found = ((&'static str, &'static str), Result<String, String>);

/// Destroys a secret, and leaves its key: in both copies of the table, and in one.
pub fn plants(seed: u64) -> Result<Vec<Found>, Fault> {
    let (disk, name): (_, SecretName) = (SimDisk::new(), "destroyed".parse()?);
    let ledger = Ledger::init(config(&disk, seed), NewSlot::file("machine"))?;
    let vault = ledger.vault(Scope::global());
    vault.put(&name, &SecretBytes::from(b"a value".as_slice()), PutOptions::new())?;
    let before: Vec<(PathBuf, Vec<u8>)> =
        tables(&disk).into_iter().filter_map(|path| Some((path.clone(), disk.contents(&path)?))).collect();
    vault.shred(&name, Versions::All, None)?;
    ledger.close()?;
    drop(ledger);
    disk.settle();
    check(&disk.snapshot(), seed.wrapping_add(1)).map_err(|fault| format!("without a plant: {fault}"))?;
    let mut found = Vec::new();
    for (copies, finding, words) in [
        (
            2,
            "is not overwritten; opening",
            ("a key is not destroyed", "the key's slot is put back in both copies of the table"),
        ),
        (
            1,
            "is overwritten in one copy of the key table alone",
            ("a key is destroyed in one copy alone", "the key's slot is put back in one copy of the table"),
        ),
    ] {
        let planted = disk.snapshot();
        for (path, old) in before.iter().take(copies) {
            put_back(&planted, path, old)?;
        }
        planted.settle();
        let judged = match check(&planted, seed.wrapping_add(2)) {
            Err(fault) if fault.to_string().contains("ShredIncomplete") && fault.to_string().contains(finding) => {
                Ok(fault.to_string())
            }
            Err(fault) => Err(format!("another finding: {fault}")),
            Ok(()) => Err("nothing was found".to_owned()),
        };
        found.push((words, judged));
    }
    Ok(found)
}

fn put_back(disk: &SimDisk, path: &Path, old: &[u8]) -> Result<(), Fault> {
    let mut bytes = disk.contents(path).ok_or("there is no key table")?;
    let (new, old) = (bytes.get_mut(HEADER..).ok_or("no slots")?, old.get(HEADER..).ok_or("no slots")?);
    if new == old {
        return Err("a destroyed key is still there without a plant".into());
    }
    let len = new.len().min(old.len());
    new.get_mut(..len).ok_or("no slots")?.copy_from_slice(old.get(..len).ok_or("no slots")?);
    Ok(disk.put(path, &bytes)?)
}
