//! What can be checked once the ledger is open; and what is left to check where it does not open.

use std::path::Path;

use crate::base::{BackendKind, ScopePrefix};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::{story, time};
use crate::engine::{Ledger, ListOptions, VerifyOptions};
use crate::inspect::{FindingCode, Report};

use super::Checks;

const REPAIR: &str = "`palyra-ledger doctor --repair` mends it";

/// Checks what is inside.
pub fn check(invocation: &Invocation, home: &Path, checks: &mut Checks) {
    match invocation.open(Access::Known) {
        Ok(ledger) => {
            checks.ok("opens", "the ledger opens");
            opened(home, &ledger, checks);
            invocation.close(&ledger);
        }
        Err(failure) => {
            let hint = failure.hint.clone();
            match failure.code {
                ExitCode::InUse | ExitCode::Locked => {
                    checks.warn("opens", format!("not tried: {}", failure.what), hint);
                }
                _ => checks.problem("opens", failure.what, hint),
            }
            match Ledger::examine(&crate::engine::Config::new(home)) {
                Ok(report) => findings(home, &report, "without keys", checks),
                Err(error) => checks.problem("journal", error.to_string(), "restore the journal from a backup"),
            }
        }
    }
}

fn opened(home: &Path, ledger: &Ledger, checks: &mut Checks) {
    match ledger.verify(VerifyOptions { state: true, witness: true }) {
        Ok(report) => findings(home, &report, "with keys, state and second copy", checks),
        Err(error) => {
            let failure = Failure::from(error);
            checks.problem("journal", failure.what, failure.hint);
        }
    }
    let rest = backend(ledger, checks)
        .and_then(|()| epoch(ledger, checks))
        .and_then(|()| last_backup(ledger, checks))
        .and_then(|()| expired(ledger, checks))
        .and_then(|()| exposed(ledger, checks));
    if let Err(error) = rest {
        let failure = Failure::from(error);
        checks.problem("state", failure.what, failure.hint);
    }
}

fn last_backup(ledger: &Ledger, checks: &mut Checks) -> Result<(), crate::engine::Error> {
    if let Some(last) = ledger.last_backup()? {
        let since = ledger.log().head()?.seq.saturating_sub(last.to);
        let what =
            format!("the last was made {}; {} came since", time::second(last.time), story::count(since, "event"));
        checks.ok("backup", what);
    }
    Ok(())
}

/// Which check a finding belongs to, and what mends it.
fn place(code: FindingCode) -> (&'static str, &'static str) {
    match code {
        FindingCode::IndexDamaged | FindingCode::StateDiffers => ("index", REPAIR),
        FindingCode::WitnessDiffers | FindingCode::WitnessDamaged => {
            ("second copy", "the next command that writes rebuilds it")
        }
        FindingCode::WitnessHolds => ("second copy", "`palyra-ledger doctor --repair` restores the journal from it"),
        FindingCode::HeadMissing | FindingCode::HeadDamaged => ("head file", REPAIR),
        FindingCode::HeadDiffers => ("head file", "keep a copy of the home as evidence, then restore it from a backup"),
        FindingCode::KeyMissing => ("key table", "restore the `keys` folder from a backup"),
        FindingCode::ShredIncomplete => ("key table", "the next command that writes finishes it"),
        FindingCode::TornTail => ("journal", "the next command that writes drops it: it was never acknowledged"),
        FindingCode::Truncated => (
            "journal",
            "restore the missing files from a backup; to go on without them: `palyra-ledger doctor --repair`",
        ),
        FindingCode::AnchorLost | FindingCode::AnchorOtherBranch | FindingCode::AnchorForked => (
            "anchors",
            "keep a copy of the home as evidence, then restore the newer one; to go on with this one: `palyra-ledger log accept-rollback --reason TEXT`",
        ),
        FindingCode::AnchorUnnamed => ("anchors", "put it back under `[anchors]` in config.toml"),
        FindingCode::EnvelopeLost
        | FindingCode::EnvelopeDamaged
        | FindingCode::EnvelopeStale
        | FindingCode::EnvelopeSwapped => (
            "backend",
            "bring it back from a backup, write the secret anew, or give that version up with `palyra-ledger secrets shred`",
        ),
        FindingCode::UnknownEvent | FindingCode::UnknownVersion => {
            ("format", "use the program that wrote it, or a newer one")
        }
        FindingCode::EnvelopeOrphaned | FindingCode::MoveUnfinished => {
            ("backend", "run that command when it suits: nothing is lost meanwhile")
        }
        _ => ("journal", "keep a copy of the home as evidence, then restore it from a backup"),
    }
}

fn each(report: &Report, checks: &mut Checks) {
    for finding in &report.findings {
        let (name, remedy) = place(finding.code);
        if finding.code.is_note() {
            checks.warn(name, finding.what.clone(), remedy);
        } else {
            checks.problem(name, finding.what.clone(), remedy);
        }
    }
}

fn findings(home: &Path, report: &Report, how: &str, checks: &mut Checks) {
    each(report, checks);
    if report.ok {
        checks.ok("journal", format!("{} in place and whole (checked {how})", story::count(report.events, "event")));
    }
    let clean = |name: &str| !report.findings.iter().any(|finding| place(finding.code).0 == name);
    if report.state_root.is_some() && clean("index") {
        checks.ok("index", "the live state is the fold of the log");
    }
    if !home.join("sled").exists() {
        checks.warn("second copy", "there is none yet", "the next command that writes makes it");
    } else if report.state_root.is_some() && clean("second copy") {
        checks.ok("second copy", "holds the same frames as the journal");
    }
}

/// Whether every envelope that is kept outside the log is there.
fn backend(ledger: &Ledger, checks: &mut Checks) -> Result<(), crate::engine::Error> {
    let state = ledger.backends().state()?;
    if state.kind == BackendKind::Ledger && state.other.is_none() {
        return Ok(());
    }
    let mut report = Report { ok: true, ..Report::default() };
    if let Err(error) = ledger.verify_backend(&mut report) {
        let Failure { what, hint, code, .. } = Failure::from(error);
        match code {
            ExitCode::Locked => checks.warn("backend", format!("not looked at: {what}"), hint),
            _ => checks.problem("backend", what, hint),
        }
        return Ok(());
    }
    each(&report, checks);
    if report.findings.is_empty() {
        checks.ok("backend", format!("every sealed value is in `{}`", state.kind));
    }
    Ok(())
}

fn epoch(ledger: &Ledger, checks: &mut Checks) -> Result<(), crate::engine::Error> {
    let status = ledger.status()?;
    let age = time::now().as_millis().saturating_sub(status.system.epoch_started.as_millis());
    let max = status.settings.keys.epoch_max_age_days.saturating_mul(86_400_000);
    let what = format!("epoch {} began {} ago", status.system.epoch, time::rough(age));
    if max > 0 && age > max {
        checks.warn("epoch", what, "the next command that writes starts a new one, or `palyra-ledger keys rotate`");
    } else {
        checks.ok("epoch", what);
    }
    Ok(())
}

/// What a compromise asked for and nobody did.
fn exposed(ledger: &Ledger, checks: &mut Checks) -> Result<(), crate::engine::Error> {
    for open in ledger.compromises()? {
        let left = open.items.iter().filter(|state| !state.done).count() as u64;
        let (kind, name) = (open.concern.kind(), open.concern.name());
        let left = match left {
            0 => "everything is done, and it is not closed".to_owned(),
            left => format!("{} left to do", story::count(left, "thing")),
        };
        checks.problem(
            "compromise",
            format!("{kind} {name} was compromised: {left}"),
            format!("`palyra-ledger compromise {kind} {name} --apply` goes on and shows what is left"),
        );
    }
    Ok(())
}

fn expired(ledger: &Ledger, checks: &mut Checks) -> Result<(), crate::engine::Error> {
    const PAGE: usize = 10_000;
    let now = time::now();
    let (mut total, mut late, mut first) = (0_usize, 0_usize, None);
    let mut options = ListOptions::new().limit(PAGE);
    loop {
        let page = ledger.list(&ScopePrefix::all(), &options)?;
        total += page.len();
        for info in page.iter().filter(|info| info.is_expired(now)) {
            late += 1;
            first.get_or_insert_with(|| info.reference.clone());
        }
        match page.last() {
            Some(last) if page.len() == PAGE => options = options.after(last.reference.clone()),
            _ => break,
        }
    }
    match first {
        Some(first) => checks.warn(
            "secrets",
            format!("{late} of {total} are expired, first {first}"),
            "replace them with `palyra-ledger secrets set`",
        ),
        None => checks.ok("secrets", format!("{}, none expired", story::count(total as u64, "secret"))),
    }
    Ok(())
}
