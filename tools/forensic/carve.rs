//! `carve`: events out of any bytes.

use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{Output, json_text};
use palyra_ledger::inspect::carve::{self, Chain, Found, Harvest, Source, Written};
use palyra_ledger::store::{Medium, RealMedium, StoreError, StoreOp};
use serde_json::{Value, json};

use crate::args::Global;
use crate::case::{Case, progress, unreadable};

/// Stretches and conflicts that are printed; the report has them all.
const SHOWN_MAX: usize = 50;

/// Arguments of `carve`.
#[derive(Debug, Args)]
pub struct CarveArgs {
    /// Folders, files or images to search; `-` for the standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Folder to make for what is found
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Runs `carve`.
pub fn run(global: &Global, out: &Output, args: &CarveArgs) -> Result<ExitCode, Failure> {
    if args.output.exists() {
        let what = format!("{} is there already", args.output.display());
        return Err(Failure::new(ExitCode::Conflict, what, "name a folder that is not there"));
    }
    let cases = args.paths.iter().map(|path| Case::open(path, global)).collect::<Result<Vec<_>, _>>()?;
    for case in &cases {
        crate::report::outside(case, &args.output)?;
    }
    let mut paths: Vec<(usize, PathBuf, u64)> = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        paths.extend(case.bracket.files.iter().map(|facts| (number, facts.place.clone(), facts.bytes)));
    }
    let sources: Vec<Source<'_>> = paths
        .iter()
        .filter_map(|(number, path, _)| cases.get(*number).map(|case| Source { evidence: &case.evidence, path }))
        .collect();
    let bar = progress(paths.iter().map(|(.., bytes)| bytes).sum(), "carving");
    let harvest = carve::carve(&sources, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let chains = carve::chains(&harvest.frames);
    let written = write(&args.output, &chains, &harvest.frames, &sources).map_err(|error| unreadable(&error))?;
    let report = report(&cases, &paths, &harvest, &chains, &written);
    let file = args.output.join("report.json");
    let stored = RealMedium.write_atomic(&file, format!("{}\n", json_text(&report)).as_bytes());
    stored.map_err(|error| unreadable(&error))?;
    for case in &cases {
        case.close(out)?;
    }
    if out.is_json() {
        out.json(&report)?;
    } else {
        print(out, &harvest, &chains)?;
    }
    let whole = |chain: &Chain| {
        let end = chain.runs.iter().map(|run| run.last).max().unwrap_or(0).saturating_add(1);
        chain.proven == end && chain.conflicts.is_empty()
    };
    // What was found is written, whatever it is; but an end of 0 must not be read as a whole log.
    Ok(match chains.as_slice() {
        [] => ExitCode::NotFound,
        all if harvest.unreadable.is_empty() && harvest.skipped == 0 && all.iter().all(whole) => ExitCode::Ok,
        _ => ExitCode::Integrity,
    })
}

fn write(
    dir: &Path,
    chains: &[Chain],
    frames: &[Found],
    sources: &[Source<'_>],
) -> Result<Vec<Vec<Written>>, StoreError> {
    std::fs::create_dir(dir).map_err(|error| StoreError::new(StoreOp::Folder, dir, error))?;
    chains.iter().map(|chain| carve::write(&dir.join(chain.ledger_id.to_string()), chain, frames, sources)).collect()
}

fn range((from, through): (u64, u64)) -> Value {
    json!({"from": from, "through": through})
}

fn report(
    cases: &[Case],
    paths: &[(usize, PathBuf, u64)],
    harvest: &Harvest,
    chains: &[Chain],
    written: &[Vec<Written>],
) -> Value {
    let sources: Vec<Value> = paths
        .iter()
        .map(|(case, path, bytes)| json!({"input": case, "path": path.display().to_string(), "bytes": bytes}))
        .collect();
    let ledgers: Vec<Value> = chains.iter().zip(written).map(|(chain, written)| one(chain, harvest, written)).collect();
    let unreadable: Vec<Value> = cases
        .iter()
        .enumerate()
        .flat_map(|(number, case)| case.bracket.unreadable.iter().map(move |(path, why)| (number, path, why)))
        .map(|(number, path, why)| json!({"input": number, "path": path, "why": why}))
        .collect();
    json!({
        "sources": sources,
        "unreadable": unreadable,
        "broken_off": harvest.unreadable.iter().map(|(source, why)| json!({"source": source, "why": why})).collect::<Vec<_>>(),
        "bytes": harvest.bytes,
        "frames": harvest.frames.len(),
        "duplicates": harvest.duplicates,
        "joined": harvest.joined,
        "not_hashed": harvest.skipped,
        "damaged_count": harvest.damaged_count,
        "damaged": harvest.damaged,
        "ledgers": ledgers,
    })
}

fn one(chain: &Chain, harvest: &Harvest, written: &[Written]) -> Value {
    let conflict = |at: &usize| {
        harvest.frames.get(*at).map(|found| json!({"seq": found.seq, "hash": found.hash, "extents": found.extents}))
    };
    json!({
        "ledger_id": chain.ledger_id,
        "events": chain.runs.iter().map(|run| run.frames.len()).sum::<usize>(),
        "proven_events": chain.proven,
        "runs": chain.runs.iter().map(|run| range((run.first, run.last))).collect::<Vec<_>>(),
        "gaps": chain.gaps.iter().map(|gap| range(*gap)).collect::<Vec<_>>(),
        "conflicts": chain.conflicts.iter().filter_map(conflict).collect::<Vec<_>>(),
        "files": written,
    })
}

fn print(out: &Output, harvest: &Harvest, chains: &[Chain]) -> Result<(), Failure> {
    out.line(&format!(
        "{} bytes searched: {} whole events, {} copies of these, {} put together from pieces, {} damaged headers",
        harvest.bytes,
        harvest.frames.len(),
        harvest.duplicates,
        harvest.joined,
        harvest.damaged_count
    ))?;
    if harvest.skipped > 0 {
        out.warn(&format!("{} places were not hashed: made-up headers asked for too much there", harvest.skipped));
    }
    for (source, why) in &harvest.unreadable {
        out.warn(&format!("source {source} could not be read to its end: {why}"));
    }
    for chain in chains {
        out.line(&format!("ledger {}: the first {} events are proven", chain.ledger_id, chain.proven))?;
        for run in chain.runs.iter().take(SHOWN_MAX) {
            out.line(&format!("  events {} to {}", run.first, run.last))?;
        }
        for (from, through) in chain.gaps.iter().take(SHOWN_MAX) {
            out.line(&format!("  missing: events {from} to {through}"))?;
        }
        if !chain.conflicts.is_empty() {
            out.line(&format!("  {} events claim places that others hold: kept in conflicts/", chain.conflicts.len()))?;
        }
        if chain.runs.len().max(chain.gaps.len()) > SHOWN_MAX {
            out.line("  and more: see report.json")?;
        }
    }
    Ok(())
}
