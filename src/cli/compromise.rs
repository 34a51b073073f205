//! `compromise`: what a stolen thing touched, and what is to be done about it.

mod show;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::{DeviceId, ProfileId, SecretPath};
use crate::engine::{Applied, Exposure, ItemState, Ledger};
use crate::event::compromise::Concern;

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::log::moment;
use super::{progress, time};

/// What `compromise` does.
#[derive(Debug, Subcommand)]
pub enum CompromiseCommand {
    /// A device was stolen, or somebody else acted as it
    Device {
        /// The device's id
        id: DeviceId,
        #[command(flatten)]
        how: How,
    },
    /// A secret's value may be known to somebody
    Secret {
        /// The secret: SCOPE/NAME
        #[arg(value_name = "REF")]
        reference: SecretPath,
        #[command(flatten)]
        how: How,
    },
    /// A profile's key or tokens may be known to somebody
    Profile {
        /// The profile's id
        id: ProfileId,
        #[command(flatten)]
        how: How,
    },
    /// List the compromises that have things left to do
    List,
}

/// Which window, and whether anything is done.
#[derive(Debug, Args)]
pub struct How {
    /// Since when: RFC 3339, a date, or an age such as 2h; of one that is open, as it was declared
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Until when; by default now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Write the plan into a new file, as JSON
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Revoke and disable what the ledger can, and record the rest as left to do; run again, it goes on
    #[arg(long)]
    apply: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Close it although reads are not recorded (`audit.reads = "off"`): you know otherwise what a device read
    #[arg(long, requires = "apply")]
    vouch: bool,
}

/// Runs `compromise`.
pub fn run(invocation: &Invocation, command: &CompromiseCommand) -> Result<(), Failure> {
    let (concern, how) = match command {
        CompromiseCommand::List => return list(invocation),
        CompromiseCommand::Device { id, how } => (Concern::Device(*id), how),
        CompromiseCommand::Secret { reference, how } => (Concern::Secret(reference.clone()), how),
        CompromiseCommand::Profile { id, how } => (Concern::Profile(id.clone()), how),
    };
    // For writing even where nothing is changed: what reading processes noted is folded into the log first.
    let ledger = invocation.open(Access::Write)?;
    ledger.flush_reads()?;
    let done = one(invocation, &ledger, &concern, how);
    invocation.close(&ledger);
    done
}

fn one(invocation: &Invocation, ledger: &Ledger, concern: &Concern, how: &How) -> Result<(), Failure> {
    known(ledger, concern)?;
    let open = ledger.compromises()?.into_iter().find(|open| open.concern == *concern);
    let since = match (moment("--since", how.since.as_deref())?, &open) {
        (Some(since), _) => since,
        (None, Some(open)) => open.since,
        (None, None) => {
            let what = format!("since when {concern} is compromised is not said");
            return Err(Failure::usage(what, "for example --since 2h, --since 2026-01-31 or an RFC 3339 time"));
        }
    };
    let until = match (moment("--until", how.until.as_deref())?, &open) {
        (Some(until), _) => until,
        (None, Some(open)) => ledger.window_end(open)?,
        // Nothing in the log is later than its last event, whatever this clock says.
        (None, None) => time::now().max(ledger.log().head()?.time),
    };
    if since > until {
        return Err(Failure::usage("--since is later than --until", "name the earlier time with --since"));
    }
    let mut exposure = progress::bar(invocation, "reading", |tell| ledger.exposure(concern, since, until, Some(tell)))?;
    exposure.vouched = how.vouch;
    if how.apply {
        invocation.confirm(&format!("Revoke and disable what the compromise of {concern} asks for?"), how.yes)?;
    }
    // Before anything is done: a plan that cannot be written must not be found out afterwards.
    let file = how.plan.as_deref().map(|path| invocation.seat.create_new(path).map_err(|error| unwritten(path, error)));
    let file = file.transpose()?;
    let carried = match (how.apply, how.until.is_none()) {
        (false, _) => Ok((exposure, None)),
        (true, true) => ledger.remedy_until_now(exposure).map(|(exposure, applied)| (exposure, Some(applied))),
        (true, false) => ledger.remedy(&exposure).map(|applied| (exposure, Some(applied))),
    };
    let (exposure, applied) = carried.inspect_err(|_| {
        // Nothing was written into it.
        if let Some(path) = &how.plan {
            let _ = std::fs::remove_file(invocation.seat.path(path));
        }
    })?;
    let states = match &applied {
        Some(applied) => applied.items.clone(),
        None => exposure.items.iter().map(|item| ledger.look_at(item, until)).collect::<Result<Vec<_>, _>>()?,
    };
    let written = match (file, &how.plan) {
        (Some(file), Some(path)) => write_plan(ledger, file, path, &exposure, &states),
        _ => Ok(()),
    };
    show::print(invocation, ledger, &exposure, &states, applied.as_ref())?;
    written?;
    match applied {
        Some(applied) if !applied.closed => Err(Failure::quiet(ExitCode::DoctorFindings)),
        _ => Ok(()),
    }
}

/// Refuses what the ledger never knew: a slip of the pen must not read as "nothing was touched".
fn known(ledger: &Ledger, concern: &Concern) -> Result<(), Failure> {
    match concern {
        // What was deleted or removed is in the log still.
        Concern::Device(_) | Concern::Profile(_) | Concern::Secret(_) if ledger.log().knows(concern)? => Ok(()),
        _ => Err(Failure::new(
            ExitCode::NotFound,
            format!("the log knows no {concern}"),
            "`palyra-ledger log query --text` finds names",
        )),
    }
}

fn unwritten(path: &std::path::Path, error: std::io::Error) -> Failure {
    Failure::new(ExitCode::Io, format!("{}: {error}", path.display()), "name a file that does not exist yet")
}

fn write_plan(
    ledger: &Ledger,
    mut file: std::fs::File,
    path: &std::path::Path,
    exposure: &Exposure,
    states: &[ItemState],
) -> Result<(), Failure> {
    let text = super::output::json_text(&show::to_json(ledger, exposure, states, None)?);
    let done = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    done.map_err(|error| unwritten(path, error))
}

fn list(invocation: &Invocation) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let open = ledger.compromises()?;
    invocation.close(&ledger);
    let left = |applied: &Applied| applied.items.iter().filter(|state| !state.done).count();
    let out = &invocation.out;
    if out.is_json() {
        let all: Vec<_> = open
            .iter()
            .map(|applied| {
                json!({
                    "kind": applied.concern.kind(),
                    "name": applied.concern.name(),
                    "since_ms": applied.since.as_millis(),
                    "until_ms": applied.until.as_millis(),
                    "correlation_id": applied.correlation,
                    "plan": applied.plan,
                    "items": applied.items.len(),
                    "open": left(applied),
                })
            })
            .collect();
        return out.json(&json!({"compromises": all}));
    }
    if open.is_empty() {
        out.note("no compromise is open");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = open
        .iter()
        .map(|applied| {
            vec![
                applied.concern.kind().to_owned(),
                applied.concern.name(),
                time::second(applied.since),
                time::second(applied.until),
                applied.items.len().to_string(),
                left(applied).to_string(),
            ]
        })
        .collect();
    out.table(&["KIND", "NAME", "SINCE", "UNTIL", "TO DO", "LEFT"], &rows)
}
