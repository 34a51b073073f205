//! `log verify`: damage is reported, and the exit code says what kind it is.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::{Access, Invocation};
use crate::cli::output::Style;
use crate::cli::progress::{bar, spinning};
use crate::engine::{Error, Ledger, VerifyOptions};
use crate::inspect::{FindingCode, Report};

/// Arguments of `log verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Open every event too, fold the log from nothing and compare with the live state and key slots
    #[arg(long)]
    state: bool,
    /// Compare the second copy of the log frame by frame
    #[arg(long)]
    witness: bool,
    /// Look for every sealed value in the storage backend, and for what no secret names there
    #[arg(long)]
    backend: bool,
    /// Only what can be checked without any key: for auditors and for damaged ledgers
    #[arg(long, conflicts_with_all = ["state", "witness", "backend"])]
    keyless: bool,
    /// Ask for every event to be known to an anchor: exit code 17 where some are not
    #[arg(long)]
    anchored: bool,
}

/// Runs `log verify`.
pub fn run(invocation: &Invocation, args: &VerifyArgs) -> Result<(), Failure> {
    let (report, opening) = if args.keyless { (keyless(invocation)?, None) } else { keyed(invocation, args)? };
    let mut code = opening.as_ref().map_or_else(|| code(&report), |failure| worse(failure.code, code(&report)));
    if args.anchored && code == ExitCode::Ok && report.anchored.unanchored.is_some() {
        code = ExitCode::Unanchored;
    }
    print(invocation, &report, opening.as_ref(), code)?;
    if code == ExitCode::Ok { Ok(()) } else { Err(Failure::quiet(code)) }
}

fn keyless(invocation: &Invocation) -> Result<Report, Failure> {
    let home = invocation.home()?;
    if !home.join("format").exists() {
        return Err(Error::NoLedger { home }.into());
    }
    let config = invocation.config()?;
    Ok(spinning(invocation, "verifying", || Ledger::examine(&config))?)
}

/// With keys; where damage keeps the ledger from opening, what can be said without them.
fn keyed(invocation: &Invocation, args: &VerifyArgs) -> Result<(Report, Option<Failure>), Failure> {
    match invocation.open(Access::Known) {
        Ok(ledger) => {
            let options = VerifyOptions { state: args.state, witness: args.witness };
            let report = bar(invocation, "verifying", |tell| {
                let mut report = ledger.verify_with(options, tell)?;
                if args.backend {
                    ledger.verify_backend(&mut report)?;
                }
                Ok::<_, Error>(report)
            })?;
            invocation.close(&ledger);
            Ok((report, None))
        }
        Err(failure)
            if failure.is_newer
                || matches!(failure.code, ExitCode::Integrity | ExitCode::Truncated | ExitCode::Unanchored) =>
        {
            Ok((keyless(invocation)?, Some(failure)))
        }
        Err(failure) => Err(failure),
    }
}

/// The exit code that a report stands for.
pub fn code(report: &Report) -> ExitCode {
    let faults: Vec<FindingCode> =
        report.findings.iter().map(|finding| finding.code).filter(|code| !code.is_note()).collect();
    if faults.is_empty() {
        ExitCode::Ok
    } else if faults.iter().all(|code| code.is_unanchored()) {
        ExitCode::Unanchored
    } else if faults.iter().all(|code| code.is_truncation() || code.is_unanchored()) {
        ExitCode::Truncated
    } else {
        ExitCode::Integrity
    }
}

/// Broken is worse than cut off, cut off is worse than unanchored.
fn worse(one: ExitCode, other: ExitCode) -> ExitCode {
    [ExitCode::Integrity, ExitCode::Truncated, ExitCode::Unanchored]
        .into_iter()
        .find(|code| *code == one || *code == other)
        .unwrap_or(ExitCode::Ok)
}

fn print(invocation: &Invocation, report: &Report, opening: Option<&Failure>, code: ExitCode) -> Result<(), Failure> {
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&report_json(report, opening, code));
    }
    for finding in &report.findings {
        let style = if finding.code.is_note() { Style::Warn } else { Style::Bad };
        let name = serde_json::to_value(finding.code).ok();
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
        let at = finding.seq.map(|seq| format!(" at event {seq}")).unwrap_or_default();
        out.painted(&[(style, name), (Style::Plain, &format!("{at}: {}", finding.what))])?;
    }
    if let Some(failure) = opening {
        out.line(&format!("the ledger does not open, so this was checked without keys: {}", failure.what))?;
    }
    let head = report.head.map(|head| format!(", head {} {}", head.seq, head.hash)).unwrap_or_default();
    let (style, verdict) = match code {
        ExitCode::Ok => (Style::Good, "verified"),
        ExitCode::Unanchored => (Style::Warn, "whole, but unanchored"),
        ExitCode::Truncated => (Style::Bad, "cut off or rolled back"),
        _ => (Style::Bad, "broken"),
    };
    out.painted(&[(style, verdict), (Style::Plain, &format!(": {} events{head}", report.events))])?;
    if let Some(root) = report.state_root {
        out.line(&format!("state root {root}"))?;
    }
    if let Some((first, last)) = report.anchored.unanchored.filter(|_| !report.anchored.anchors.is_empty()) {
        let known = report.anchored.events;
        out.line(&format!("known outside: {known} events; unanchored: events {first} to {last}"))?;
    } else if report.anchored.unanchored.is_none() {
        out.line(&format!("known outside: all {} events", report.events))?;
    } else {
        out.line("unanchored: no checkpoint is kept outside this ledger (`[anchors]` in config.toml)")?;
    }
    if code != ExitCode::Ok {
        let hint = opening.map_or("`palyra-ledger doctor` says what can be done", |failure| failure.hint.as_str());
        out.note(&format!("hint: {hint}"));
    }
    Ok(())
}

fn report_json(report: &Report, opening: Option<&Failure>, code: ExitCode) -> Value {
    let mut findings: Vec<Value> = report.findings.iter().map(|finding| json!(finding)).collect();
    if let Some(failure) = opening {
        findings.push(json!({"code": "does_not_open", "what": failure.what}));
    }
    json!({
        "ok": code == ExitCode::Ok,
        "events": report.events,
        "head": report.head,
        "state_root": report.state_root,
        "findings": findings,
        "anchored": report.anchored,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Finding;

    fn report(codes: &[FindingCode]) -> Report {
        let findings = codes.iter().map(|code| Finding::new(*code, None, String::new())).collect();
        Report { findings, ..Report::default() }
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        use FindingCode::{ChainBroken, HeadMissing, TornTail, Truncated};
        for (codes, expected) in [
            (&[][..], ExitCode::Ok),
            (&[TornTail], ExitCode::Ok),
            (&[HeadMissing], ExitCode::Unanchored),
            (&[Truncated, TornTail], ExitCode::Truncated),
            (&[Truncated, ChainBroken], ExitCode::Integrity),
        ] {
            assert_eq!(code(&report(codes)), expected, "{codes:?}");
        }
        assert_eq!(worse(ExitCode::Truncated, ExitCode::Ok), ExitCode::Truncated);
        assert_eq!(worse(ExitCode::Unanchored, ExitCode::Integrity), ExitCode::Integrity);
    }
}
