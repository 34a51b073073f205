//! The end of the tour: verification, a search for what must not be there, and the audit trail.

use std::ops::ControlFlow;

use crate::cli::exit::{ExitCode, Failure};
use crate::cli::output::Style;
use crate::cli::{story, time};
use crate::engine::{Entry, VerifyOptions};

use super::Tour;

/// Verifies everything there is to verify.
pub fn verify(tour: &mut Tour<'_>) -> Result<(), Failure> {
    tour.step("Verify: the chain, the state, the second copy")?;
    let ledger = super::open(tour.config().read_only())?;
    let report = ledger.verify(VerifyOptions { state: true, witness: true })?;
    for finding in &report.findings {
        tour.say(&finding.what)?;
    }
    let head = report.head.map(|head| head.hash.to_string()).unwrap_or_default();
    tour.check(&format!("{} events are whole, head {head}", report.events), report.ok)
}

/// Looks for secret values in every file.
pub fn search_files(tour: &mut Tour<'_>) -> Result<(), Failure> {
    tour.step("Search every file for the values")?;
    let failed = |error: std::io::Error| Failure::new(ExitCode::Io, format!("cannot read the home: {error}"), "");
    let (mut files, mut bytes, mut hits) = (0, 0, 0);
    let mut pending = vec![tour.home.clone()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                pending.push(entry.map_err(failed)?.path());
            }
            continue;
        }
        let content = std::fs::read(&path).map_err(failed)?;
        files += 1;
        bytes += content.len();
        hits += tour.canaries.iter().filter(|canary| holds(&content, canary.as_bytes())).count();
    }
    tour.say(&format!("{files} files, {} KiB", bytes / 1024))?;
    tour.check("none holds a value, a token or the passphrase in the clear", hits == 0)
}

fn holds(content: &[u8], wanted: &[u8]) -> bool {
    content.windows(wanted.len()).any(|window| window == wanted)
}

/// Prints the audit trail as a person reads it.
pub fn tell(tour: &mut Tour<'_>) -> Result<(), Failure> {
    tour.step("The audit trail")?;
    let ledger = super::open(tour.config().read_only())?;
    let mut entries: Vec<Entry> = Vec::new();
    ledger.log().read(0, u64::MAX, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })?;
    drop(ledger);
    let now = time::now();
    let mut clean = true;
    for entry in &entries {
        let what = story::summary(&entry.event);
        let told = format!("{what} {}", story::entry_json(entry));
        clean &= !tour.canaries.iter().any(|canary| told.contains(canary.as_str()));
        line(tour, entry, &what)?;
    }
    let refusals = entries.iter().filter(|entry| entry.kind_name() == "command_refused").count();
    let reads = entries.iter().filter(|entry| entry.kind_name() == "secrets_read").count();
    tour.check(&format!("{refusals} refusals are on record"), refusals >= 5)?;
    tour.check("reads are on record", reads > 0)?;
    let failovers = entries.iter().filter(|entry| entry.kind_name() == "failed_over").count();
    tour.check("failovers to another kind of credential are on record", failovers >= 1)?;
    tour.check("no value and no token stands in the trail", clean)?;
    let span = entries.first().map_or(0, |first| now.as_millis().saturating_sub(first.time.as_millis()));
    tour.say(&format!("{} events in {}", entries.len(), time::rough(span.max(1_000))))
}

fn line(tour: &mut Tour<'_>, entry: &Entry, what: &str) -> Result<(), Failure> {
    let caller = &entry.caller;
    let reason = caller.reason.as_ref().map(|reason| format!(" (\"{reason}\")")).unwrap_or_default();
    if tour.out.is_json() {
        return tour.say(&format!("{} {} {what}{reason}", entry.seq, caller.actor));
    }
    let clock = time::second(entry.time);
    let clock = clock.get(11..19).unwrap_or_default();
    let style = if entry.kind_name() == "command_refused" { Style::Warn } else { Style::Plain };
    tour.out.painted(&[
        (Style::Dim, &format!("{:>6}  {clock}  ", entry.seq)),
        (Style::Bold, &format!("{:<14} ", caller.actor.as_str())),
        (style, what),
        (Style::Dim, &reason),
    ])
}
