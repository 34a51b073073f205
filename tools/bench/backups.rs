//! Making and restoring a backup, beside plain copying of the same files.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use palyra_ledger::backup::{BackupFile, Identities};
use palyra_ledger::{
    BackupOptions, Config, Credential, Ledger, NewSlot, OsRandom, PutOptions, RecoveryWords, Scope, SecretBytes,
};

use crate::material::{Pool, name};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan};

const VALUE_BYTES: usize = 4096;

/// Copies every file of a folder, synced, one after the other.
fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target)?;
        } else if path.is_file() {
            std::fs::copy(&path, &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

fn sizes(dir: &Path) -> Result<u64, Fault> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { sizes(&entry.path())? } else { facts.len() };
    }
    Ok(sum)
}

fn load(home: &Path, words: &RecoveryWords, bytes: u64) -> Result<Ledger, Fault> {
    let ledger = Ledger::init(Config::new(home).without_witness(), NewSlot::file("bench"))?;
    ledger.keys().add_slot(NewSlot::recovery("bench", words))?;
    let pool = Pool::new()?;
    let puts = u32::try_from(bytes / VALUE_BYTES as u64)?;
    std::thread::scope(|scope| -> Result<(), Fault> {
        let writers: Vec<_> = (0..16_u32)
            .map(|thread| {
                let (ledger, pool) = (&ledger, &pool);
                scope.spawn(move || -> Result<(), Fault> {
                    let vault = ledger.vault(Scope::global());
                    for number in (thread..puts).step_by(16) {
                        vault.put(&name(number)?, &SecretBytes::from(pool.value(VALUE_BYTES)), PutOptions::new())?;
                    }
                    Ok(())
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer failed")?)
    })?;
    Ok(ledger)
}

/// A store of some hundred megabytes: made, backed up, restored, copied.
pub fn speed(plan: &Plan) -> Result<Section, Fault> {
    let bytes: u64 = if plan.quick { 8 << 20 } else { 160 << 20 };
    let dir = tempfile::Builder::new().prefix("backup-").tempdir_in(&plan.dir)?;
    let (home, words) = (dir.path().join("home"), RecoveryWords::generate(&OsRandom)?);
    let ledger = load(&home, &words, bytes)?;
    let size = sizes(&home.join("journal"))? + sizes(&home.join("keys"))?;
    let rate = |seconds: f64| size as f64 / 1e6 / seconds;
    let (mut made, mut restored, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds.min(5) {
        let path = dir.path().join(format!("{round}.plb"));
        let begin = Instant::now();
        let mut file = File::create(&path)?;
        let output = file.try_clone()?;
        let go_on = |_, _| ControlFlow::Continue(());
        ledger.backup(&mut file, &BackupOptions::default(), &mut || output.sync_all(), &go_on)?;
        file.flush()?;
        made.push(rate(begin.elapsed().as_secs_f64()));
        let begin = Instant::now();
        let target = dir.path().join(format!("restored{round}"));
        let config = Config::new(&target).credential(Credential::Recovery(words.text()));
        Ledger::restore(&config, &mut [BackupFile::open(&path)?], &Identities::default(), &go_on)?;
        restored.push(rate(begin.elapsed().as_secs_f64()));
        std::fs::remove_dir_all(&target)?;
        std::fs::remove_file(&path)?;
        let begin = Instant::now();
        let target = dir.path().join(format!("copied{round}"));
        copy(&home.join("journal"), &target.join("journal"))?;
        copy(&home.join("keys"), &target.join("keys"))?;
        copied.push(rate(begin.elapsed().as_secs_f64()));
        std::fs::remove_dir_all(&target)?;
    }
    ledger.close()?;
    let median = |found: &mut Vec<f64>| {
        found.sort_by(f64::total_cmp);
        found.get(found.len() / 2).copied().unwrap_or(0.0)
    };
    let (made, restored, copied) = (median(&mut made), median(&mut restored), median(&mut copied));
    let note = format!(
        "A ledger of {} MB in journal and keys (values of {VALUE_BYTES} random bytes); MB of those a second, each synced. Restoring folds every event and compares the state root.",
        size / 1_000_000
    );
    let mut section = Section::new("Backups", note, &["what", "MB/s", "by plain copying"]);
    for (what, found) in [("backup create", made), ("backup restore", restored), ("copying the files", copied)] {
        section.row(&[what.to_owned(), figure(found), ratio(found / copied)]);
    }
    section.at_least("backup create, MB/s", 100.0, made);
    section.at_least("backup restore, MB/s", 100.0, restored);
    Ok(section)
}
