//! `rebuild`: a clean ledger from carved events and keys, in a new folder.

use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::examine::{self, Origin, RebuildError};
use palyra_ledger::{Clock, SystemClock};
use serde_json::json;

use crate::args::{Global, KeyArgs};
use crate::case::{Case, unreadable};
use crate::keyring;

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// A carved ledger's folder, a home, or a copy of one
    path: PathBuf,
    /// The new home, where nothing may stand yet
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Runs `rebuild`. It opens with keys whether or not they are asked for: without them nothing can be proven.
pub fn run(global: &Global, out: &Output, args: &RebuildArgs) -> Result<ExitCode, Failure> {
    let case = Case::open(&args.path, global)?;
    crate::report::outside(&case, &args.output)?;
    let asked = KeyArgs { keys: true, ..args.keys.clone() };
    let Some(keys) = keyring::open(&case, &asked)? else {
        return Err(Failure::new(ExitCode::Locked, "no keys were given", "name their folder with --keys-dir"));
    };
    let (elsewhere, keys_dir) = keyring::place(&case, &asked)?;
    let course = case.course()?;
    let origin = Origin {
        evidence: &case.evidence,
        course: &course,
        keys_from: elsewhere.as_ref().unwrap_or(&case.evidence),
        keys_dir: &keys_dir,
        keys: &keys,
    };
    let rebuilt =
        examine::rebuild(&origin, &args.output, SystemClock.now()).map_err(|error| failure(&error, &args.output))?;
    case.close(out)?;
    if out.is_json() {
        out.json(&json!({
            "home": args.output.display().to_string(), "ledger_id": rebuilt.ledger_id, "events": rebuilt.events,
            "last_hash": rebuilt.last_hash, "aside": rebuilt.aside, "ended_by": rebuilt.ended_by,
        }))?;
    } else {
        out.line(&format!("rebuilt ledger {} with its first {} events", rebuilt.ledger_id, rebuilt.events))?;
        out.line(&format!("last event {} {}", rebuilt.events.saturating_sub(1), rebuilt.last_hash))?;
        if let Some(why) = &rebuilt.ended_by {
            out.line(&format!(
                "it ends there because {why}; {} later events are kept aside, in quarantine",
                rebuilt.aside
            ))?;
        }
    }
    Ok(if rebuilt.ended_by.is_some() { ExitCode::Truncated } else { ExitCode::Ok })
}

fn failure(error: &RebuildError, home: &Path) -> Failure {
    let (code, hint) = match error {
        RebuildError::Store(error) => return unreadable(error),
        RebuildError::Taken { .. } => (ExitCode::Conflict, "a ledger is never overwritten"),
        RebuildError::NoBeginning { .. } => {
            (ExitCode::Integrity, "look for the beginning with `palyra-forensic carve` in more places")
        }
        RebuildError::RingOfAnotherTime { .. } => (ExitCode::Integrity, "name that folder with --keys-dir"),
        RebuildError::Head(_) => (ExitCode::Io, "look at the disk, then run the command again"),
        RebuildError::NoKeys => (ExitCode::Locked, "name the folder of the keys with --keys-dir"),
    };
    Failure::new(code, format!("nothing was rebuilt at {}: {error}", home.display()), hint)
}
