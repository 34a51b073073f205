//! Ledgers to measure: new ones, and loaded ones that are kept from run to run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use palyra_ledger::{Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes};

use crate::material::{Pool, name};
use crate::{Fault, Plan};

const LOADERS: usize = 256;
/// Length of every value in a loaded ledger.
pub const VALUE_BYTES: usize = 64;

/// A new, empty ledger.
pub fn new(home: &Path) -> Result<Ledger, Fault> {
    Ok(Ledger::init(Config::new(home), NewSlot::file("bench"))?)
}

/// The home of a ledger with so many secrets; loads it where it is not there yet.
pub fn loaded(plan: &Plan, secrets: u32) -> Result<PathBuf, Fault> {
    let home = plan.dir.join(format!("loaded-{secrets}"));
    if home.is_dir() {
        return Ok(home);
    }
    // Loaded beside its place and moved there when it is whole.
    let parts = tempfile::Builder::new().prefix("loading-").tempdir_in(&plan.dir)?;
    let half = parts.path().join("home");
    let ledger = new(&half)?;
    let pool = Pool::new()?;
    let next = AtomicU32::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..LOADERS)
            .map(|_| {
                scope.spawn(|| -> Result<(), Fault> {
                    let vault = ledger.vault(Scope::global());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= secrets {
                            return Ok(());
                        }
                        vault.put(&name(number)?, &SecretBytes::from(pool.value(VALUE_BYTES)), PutOptions::new())?;
                    }
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| handle.join().map_err(|_| "a loader panicked")?)
    })?;
    let put = begin.elapsed();
    ledger.close()?;
    drop(ledger);
    eprintln!(
        "loaded {secrets} secrets with {LOADERS} writers in {:.1} s, closed after {:.1} s more",
        put.as_secs_f64(),
        begin.elapsed().saturating_sub(put).as_secs_f64()
    );
    std::fs::rename(&half, &home)?;
    Ok(home)
}

/// Opens a ledger.
pub fn open(home: &Path) -> Result<Ledger, Fault> {
    Ok(Ledger::open(Config::new(home))?)
}
