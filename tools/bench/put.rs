//! Durable puts, by one writer and by 64.

use std::sync::atomic::{AtomicU32, Ordering};

use palyra_ledger::{PutOptions, Scope, SecretBytes};

use crate::group::GroupCommit;
use crate::homes;
use crate::material::{Pool, Sealed, frame_bytes, name};
use crate::peers::{Raw, Redb, SealedGroups, Sqlite, Waiting};
use crate::race::{Lane, Rates, race, rate, rate_of_many};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan};

const WRITERS: u32 = 64;

/// One writer: every put is one sync of its own.
pub fn one_writer(plan: &Plan, bytes: usize) -> Result<Section, Fault> {
    let dir = tempfile::Builder::new().prefix("put-1-").tempdir_in(&plan.dir)?;
    let pool = Pool::new()?;
    let ledger = homes::new(&dir.path().join("ledger"))?;
    let vault = ledger.vault(Scope::global());
    let frame = frame_bytes(bytes)?;
    let mut raw = Raw::create(&dir.path().join("raw"))?;
    let mut sealed_rows = Sqlite::create(&dir.path().join("sealed.sqlite"))?;
    let mut plain_rows = Sqlite::create(&dir.path().join("plain.sqlite"))?;
    let redb = Redb::create(&dir.path().join("plain.redb"))?;
    let sealed = Sealed::new()?;
    let mut next = [0_u32; 4];
    let [ours, in_sealed, in_plain, in_redb] = &mut next;
    let rates = race(
        &mut [
            Lane::new("ledger", |slice| {
                rate(slice, || {
                    *ours += 1;
                    vault.put(&name(*ours)?, &SecretBytes::from(pool.value(bytes)), PutOptions::new())?;
                    Ok(())
                })
            }),
            Lane::new("raw append + fdatasync", |slice| rate(slice, || raw.put(pool.value(frame)))),
            Lane::new("SQLite, sealed and chained", |slice| {
                rate(slice, || {
                    *in_sealed += 1;
                    sealed_rows.put_sealed(&sealed, &name(*in_sealed)?, pool.value(bytes))
                })
            }),
            Lane::new("SQLite, plain rows", |slice| {
                rate(slice, || {
                    *in_plain += 1;
                    plain_rows.put_plain(&name(*in_plain)?, pool.value(bytes))
                })
            }),
            Lane::new("redb, plain rows", |slice| {
                rate(slice, || {
                    *in_redb += 1;
                    redb.put(&name(*in_redb)?, 1, pool.value(bytes))
                })
            }),
        ],
        plan.rounds,
        plan.slice,
    )?;
    ledger.close()?;
    if redb.rows()? != u64::from(*in_redb) {
        return Err("redb holds another number of rows than it was given".into());
    }
    let note =
        format!("Each value has {bytes} random bytes; the raw file takes the {frame} bytes of the ledger's frame.");
    let mut section = Section::new(format!("Durable put, one writer, {bytes} B"), note, &HEADER);
    rows(&mut section, &rates);
    if let [ours, raw, sealed, ..] = rates.as_slice() {
        section.at_least(format!("put, one writer, {bytes} B, by raw append + fdatasync"), 0.85, ours.ratio(raw));
        section.at_least(format!("put, one writer, {bytes} B, by SQLite sealed"), 1.0, ours.ratio(sealed));
    }
    Ok(section)
}

/// 64 writers: puts that arrive together share a sync.
pub fn many_writers(plan: &Plan, bytes: usize) -> Result<Section, Fault> {
    let dir = tempfile::Builder::new().prefix("put-64-").tempdir_in(&plan.dir)?;
    let pool = Pool::new()?;
    let ledger = homes::new(&dir.path().join("ledger"))?;
    let vault = ledger.vault(Scope::global());
    let frame = frame_bytes(bytes)?;
    let raw = GroupCommit::new(Raw::create(&dir.path().join("raw"))?);
    let sealed = Sealed::new()?;
    let groups = GroupCommit::new(SealedGroups {
        sqlite: Sqlite::create(&dir.path().join("sealed.sqlite"))?,
        sealed: Sealed::new()?,
    });
    let (ours, in_groups) = (AtomicU32::new(0), AtomicU32::new(0));
    let rates = race(
        &mut [
            Lane::new("ledger", |slice| {
                rate_of_many(slice, WRITERS, |_| {
                    let name = name(ours.fetch_add(1, Ordering::Relaxed))?;
                    vault.put(&name, &SecretBytes::from(pool.value(bytes)), PutOptions::new())?;
                    Ok(())
                })
            }),
            Lane::new("raw append + fdatasync, group commit", |slice| {
                rate_of_many(slice, WRITERS, |_| raw.put(pool.value(frame).to_vec()))
            }),
            Lane::new("SQLite, sealed and chained, group commit", |slice| {
                rate_of_many(slice, WRITERS, |_| {
                    let name = name(in_groups.fetch_add(1, Ordering::Relaxed))?;
                    // Sealed on the writer's own thread: every name is new here, so the version is 1.
                    let envelope = sealed.envelope(&name, 1, pool.value(bytes))?;
                    groups.put(Waiting { name, envelope })
                })
            }),
        ],
        plan.rounds,
        plan.slice,
    )?;
    ledger.close()?;
    let note = format!(
        "{WRITERS} threads. The peers stand behind a leader-follower group commit of this program: one write and sync, \
         or one transaction, for all that wait."
    );
    let mut section = Section::new(format!("Durable put, {WRITERS} writers, {bytes} B"), note, &HEADER);
    rows(&mut section, &rates);
    if let [ours, _, sealed] = rates.as_slice() {
        section.at_least(format!("put, {WRITERS} writers, {bytes} B, by SQLite sealed"), 1.0, ours.ratio(sealed));
    }
    Ok(section)
}

const HEADER: [&str; 4] = ["store", "puts/s (median)", "ledger by it", "range"];

fn rows(section: &mut Section, rates: &[Rates]) {
    let Some(ours) = rates.first() else { return };
    for rates in rates {
        let (least, most) = ours.ratio_range(rates);
        let range = format!("{} to {}", ratio(least), ratio(most));
        section.row(&[rates.name.clone(), figure(rates.median()), ratio(ours.ratio(rates)), range]);
    }
}
