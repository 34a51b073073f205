//! Puts through the storage backend `encrypted_file`, from the first to the last.

use std::time::Instant;

use palyra_ledger::{BackendKind, Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes};

use crate::material::{Pool, name};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan};

const VALUE_BYTES: usize = 400;

/// Seconds that each tenth of the puts took.
fn tenths(plan: &Plan, kind: BackendKind, secrets: u32, pool: &Pool) -> Result<Vec<f64>, Fault> {
    let dir = tempfile::Builder::new().prefix("backend-").tempdir_in(&plan.dir)?;
    let ledger = Ledger::init_on(Config::new(dir.path().join("home")), NewSlot::file("bench"), kind)?;
    let vault = ledger.vault(Scope::global());
    let tenth = secrets / 10;
    let mut took = Vec::new();
    for part in 0..10 {
        let begin = Instant::now();
        for number in part * tenth..(part + 1) * tenth {
            vault.put(&name(number)?, &SecretBytes::from(pool.value(VALUE_BYTES)), PutOptions::new())?;
        }
        took.push(begin.elapsed().as_secs_f64());
    }
    ledger.close()?;
    Ok(took)
}

/// One writer, 10,000 secrets: the last thousand must cost what the first did.
pub fn files(plan: &Plan) -> Result<Section, Fault> {
    let secrets = if plan.quick { 1_000 } else { 10_000 };
    let pool = Pool::new()?;
    let inside = tenths(plan, BackendKind::Ledger, secrets, &pool)?;
    let outside = tenths(plan, BackendKind::EncryptedFile, secrets, &pool)?;
    let note = format!("One writer, {secrets} secrets of {VALUE_BYTES} random bytes; puts a second.");
    let header = ["backend", "first tenth", "last tenth", "last by first"];
    let mut section = Section::new("Puts by storage backend", note, &header);
    let per_tenth = f64::from(secrets / 10);
    let ends = |took: &[f64]| (took.first().copied().unwrap_or(0.0), took.last().copied().unwrap_or(0.0));
    for (kind, took) in [(BackendKind::Ledger, &inside), (BackendKind::EncryptedFile, &outside)] {
        let (first, last) = ends(took);
        section.row(&[kind.to_string(), figure(per_tenth / first), figure(per_tenth / last), ratio(last / first)]);
    }
    let (first, last) = ends(&outside);
    section.at_most("encrypted_file, cost of the last tenth of puts by the first", 1.3, last / first);
    section.at_most(
        "encrypted_file, cost of a put by that in the log",
        6.0,
        outside.iter().sum::<f64>() / inside.iter().sum::<f64>(),
    );
    Ok(section)
}
