//! What must not grow with history: puts, gets and opening; and what takes time in proportion to it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use palyra_ledger::log::frame::{HEADER_LEN, Header};
use palyra_ledger::log::segment::SEGMENT_HEADER_LEN;
use palyra_ledger::{Config, Ledger, PutOptions, ReplayPoint, Scope, SecretBytes, VerifyOptions};

use crate::homes::{self, VALUE_BYTES};
use crate::machine::cpu_seconds;
use crate::material::{Pool, name};
use crate::race::{Lane, median, race, rate};
use crate::report::{Section, figure, ratio};
use crate::{Fault, Plan};

/// New versions of random secrets, one writer.
pub fn put(plan: &Plan) -> Result<Section, Fault> {
    let sizes = [plan.few, plan.many];
    let ledgers = open_loaded(plan, sizes)?;
    let pool = Pool::new()?;
    let mut lanes: Vec<_> = ledgers
        .iter()
        .zip(sizes)
        .map(|(ledger, secrets)| {
            let (vault, pool) = (ledger.vault(Scope::global()), &pool);
            Lane::new(figure(f64::from(secrets)), move |slice| {
                rate(slice, || {
                    let name = name(pool.below(secrets))?;
                    vault.put(&name, &SecretBytes::from(pool.value(VALUE_BYTES)), PutOptions::new())?;
                    Ok(())
                })
            })
        })
        .collect();
    let rates = race(&mut lanes, plan.rounds, plan.slice)?;
    drop(lanes);
    ledgers.iter().try_for_each(Ledger::close)?;
    let note = "One writer puts new versions of secrets drawn at random.";
    let mut section = Section::new("Durable put by the number of secrets", note, &["secrets", "puts/s (median)"]);
    for rates in &rates {
        section.row(&[rates.name.clone(), figure(rates.median())]);
    }
    if let [few, many] = rates.as_slice() {
        section.at_least(format!("put at {} secrets by put at {}", many.name, few.name), 0.9, many.ratio(few));
    }
    Ok(section)
}

/// Gets of random secrets, one thread.
pub fn get(plan: &Plan) -> Result<Section, Fault> {
    let sizes = [plan.few, plan.many];
    let ledgers = open_loaded(plan, sizes)?;
    let pool = Pool::new()?;
    let cpu = std::cell::RefCell::new([(0.0, 0.0); 2]);
    let mut lanes: Vec<_> = ledgers
        .iter()
        .zip(sizes)
        .enumerate()
        .map(|(at, (ledger, secrets))| {
            let (vault, pool, cpu) = (ledger.vault(Scope::global()), &pool, &cpu);
            Lane::new(figure(f64::from(secrets)), move |slice| {
                let (begin, mut count) = (cpu_seconds(), 0.0);
                let rate = rate(slice, || {
                    for _ in 0..16 {
                        let secret = vault.get(&name(pool.below(secrets))?)?;
                        if secret.value.len() != VALUE_BYTES {
                            return Err("a value of another length came back".into());
                        }
                    }
                    count += 16.0;
                    Ok(())
                })?;
                if let (Some(begin), Some(end), Some(sum)) = (begin, cpu_seconds(), cpu.borrow_mut().get_mut(at)) {
                    *sum = (sum.0 + count, sum.1 + end - begin);
                }
                Ok(rate * 16.0)
            })
        })
        .collect();
    let rates = race(&mut lanes, plan.rounds, plan.slice)?;
    drop(lanes);
    ledgers.iter().try_for_each(Ledger::close)?;
    let note = "One thread gets secrets drawn at random; reads are recorded in batches, as is the default. Processor time \
                is that of the whole process, with what records the reads.";
    let header = ["secrets", "gets/s (median)", "gets per second of processor time"];
    let mut section = Section::new("Get by the number of secrets", note, &header);
    for (rates, (count, seconds)) in rates.iter().zip(*cpu.borrow()) {
        section.row(&[rates.name.clone(), figure(rates.median()), figure(count / seconds)]);
    }
    if let [few, many] = rates.as_slice() {
        section.at_least(format!("gets/s on one core at {} secrets", many.name), 100_000.0, many.median());
        section.at_most(format!("cost of a get at {} by that at {}", many.name, few.name), 1.5, few.ratio(many));
    }
    Ok(section)
}

/// Opening, for writing and for reading.
pub fn open(plan: &Plan) -> Result<Section, Fault> {
    let sizes = [plan.few, plan.many];
    let homes = [homes::loaded(plan, plan.few)?, homes::loaded(plan, plan.many)?];
    let mut section = Section::new(
        "Open by the number of secrets",
        "Time until the ledger can be used, after a clean close; the file cache is warm.",
        &["secrets", "for writing, ms (median)", "for reading, ms (median)", "first get, ms (median)"],
    );
    let mut times = [const { [const { Vec::new() }; 3] }; 2];
    for _ in 0..plan.rounds {
        for (home, [write, read, first]) in homes.iter().zip(&mut times) {
            let begin = Instant::now();
            let ledger = homes::open(home)?;
            write.push(millis(begin.elapsed()));
            ledger.close()?;
            drop(ledger);
            let begin = Instant::now();
            let ledger = Ledger::open(Config::new(home).read_only())?;
            read.push(millis(begin.elapsed()));
            let begin = Instant::now();
            ledger.vault(Scope::global()).get(&name(0)?)?;
            first.push(millis(begin.elapsed()));
        }
    }
    for (secrets, [write, read, first]) in sizes.iter().zip(times) {
        let write = median(write);
        section.row(&[figure(f64::from(*secrets)), figure(write), figure(median(read)), figure(median(first))]);
        if *secrets == plan.many {
            section.at_most(format!("open at {} secrets, seconds", figure(f64::from(*secrets))), 0.3, write / 1_000.0);
        }
    }
    Ok(section)
}

/// Verification of the large ledger.
pub fn verify(plan: &Plan) -> Result<Section, Fault> {
    let home = homes::loaded(plan, plan.many)?;
    let ledger = homes::open(&home)?;
    let note = "Chain, segments, head file and state root; with `state`, every body opened and folded as well.";
    let mut section = Section::new("Verify", note, &["what", "events", "seconds", "events/s", "events/s a core"]);
    for (what, options) in [
        ("chain and head", VerifyOptions::default()),
        ("with state", VerifyOptions { state: true, ..VerifyOptions::default() }),
    ] {
        let (cpu, begin) = (cpu_seconds(), Instant::now());
        let report = ledger.verify(options)?;
        let seconds = begin.elapsed().as_secs_f64();
        let cpu = cpu.zip(cpu_seconds()).map_or(seconds, |(begin, end)| end - begin);
        if !report.ok {
            return Err(format!("the loaded ledger does not verify: {:?}", report.findings).into());
        }
        let events = report.events as f64;
        // One that waits for the disk is no faster a core than by the clock.
        let a_core = events / seconds.max(cpu);
        section.row(&[what.to_owned(), figure(events), figure(seconds), figure(events / seconds), figure(a_core)]);
        if options == VerifyOptions::default() {
            section.at_least("verify, events/s a core", 500_000.0, a_core);
        }
    }
    ledger.close()?;
    Ok(section)
}

/// Folding the whole log into new projections.
pub fn rebuild(plan: &Plan) -> Result<Section, Fault> {
    let home = homes::loaded(plan, plan.many)?;
    let ledger = homes::open(&home)?;
    let events = ledger.log().head()?.seq + 1;
    let begin = Instant::now();
    let replay = ledger.replay(ReplayPoint::Head)?;
    let seconds = begin.elapsed().as_secs_f64();
    if replay.state_root()? != ledger.state_root()? {
        return Err("the replayed state has another root than the live one".into());
    }
    drop(replay);
    ledger.close()?;
    drop(ledger);
    let mut section = Section::new(
        "Rebuild of every projection",
        "The log is decoded, opened and folded into an empty index: by a replay, and by opening a ledger that lost its own.",
        &["how", "events", "seconds", "events/s"],
    );
    let rate = events as f64 / seconds;
    section.row(&["replay".to_owned(), figure(events as f64), figure(seconds), figure(rate)]);
    std::fs::remove_dir_all(home.join("index"))?;
    let begin = Instant::now();
    let ledger = homes::open(&home)?;
    let seconds = begin.elapsed().as_secs_f64();
    ledger.close()?;
    section.row(&["open".to_owned(), figure(events as f64), figure(seconds), figure(events as f64 / seconds)]);
    section.at_least("rebuild by opening, events/s", 150_000.0, events as f64 / seconds);
    Ok(section)
}

/// Bytes on disk, with both copies of the log, beside the bytes of the frames.
pub fn disk(plan: &Plan) -> Result<Section, Fault> {
    let home = homes::loaded(plan, plan.many)?;
    let frames = frame_bytes(&home.join("journal"))?;
    let mut section = Section::new(
        "Bytes on disk",
        format!("{} secrets of {VALUE_BYTES} B, closed. Blocks in use, not lengths.", figure(f64::from(plan.many))),
        &["what", "MiB", "by the frames"],
    );
    let mut row = |what: &str, bytes: u64| {
        section.row(&[what.to_owned(), figure(bytes as f64 / f64::from(1 << 20)), ratio(bytes as f64 / frames as f64)]);
    };
    row("frames", frames);
    let mut entries: Vec<_> = std::fs::read_dir(&home)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut total = 0;
    for entry in entries {
        let bytes = blocks(&entry.path())?;
        row(&entry.file_name().to_string_lossy(), bytes);
        total += bytes;
    }
    row("everything", total);
    section.at_most("bytes on disk by the frames' bytes", 3.0, total as f64 / frames as f64);
    Ok(section)
}

fn blocks(path: &Path) -> Result<u64, Fault> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut bytes = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += blocks(&entry?.path())?;
        }
    }
    Ok(bytes)
}

/// Bytes of all frames in a journal.
fn frame_bytes(journal: &Path) -> Result<u64, Fault> {
    let mut total = 0;
    for entry in std::fs::read_dir(journal)? {
        let bytes = std::fs::read(entry?.path())?;
        let mut at = SEGMENT_HEADER_LEN;
        while let Some(Ok(header)) = bytes.get(at..at + HEADER_LEN).map(Header::parse) {
            at += header.frame_len();
        }
        total += at.saturating_sub(SEGMENT_HEADER_LEN) as u64;
    }
    Ok(total)
}

fn open_loaded(plan: &Plan, sizes: [u32; 2]) -> Result<Vec<Ledger>, Fault> {
    sizes.iter().map(|&secrets| homes::open(&homes::loaded(plan, secrets)?)).collect()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
