//! `backup verify`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::backup::Identities;
use crate::cli::exit::{self, ExitCode, Failure};
use crate::cli::invocation::Invocation;
use crate::cli::output::Style;
use crate::cli::{progress, time};
use crate::engine::{BackupCheck, BackupReport, CheckState, Config, FileFacts, Ledger};

use crate::keys::SlotKind;

use super::IdentityArgs;

/// Arguments of `backup verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A full backup and its increments, in order; or any one of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only what can be checked without any key
    #[arg(long, conflicts_with = "identity")]
    keyless: bool,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Runs `backup verify`.
pub fn run(invocation: &Invocation, args: &VerifyArgs) -> Result<(), Failure> {
    let identities = args.identity.read()?;
    let mut config = super::config(invocation)?;
    let mut report = look(invocation, args, &config, &identities)?;
    if let Some(credential) = report.locked.as_ref().map(|locked| invocation.ask_for(locked)).transpose()?.flatten() {
        config = config.credential(credential);
        report = look(invocation, args, &config, &identities)?;
    }
    print(invocation, &report)?;
    match code(&report) {
        ExitCode::Ok => Ok(()),
        code => Err(Failure::quiet(code)),
    }
}

fn look(
    invocation: &Invocation,
    args: &VerifyArgs,
    config: &Config,
    identities: &Identities,
) -> Result<BackupReport, Failure> {
    let mut files = super::files(&args.files)?;
    let report = progress::bar(invocation, "verifying", |tell| {
        Ledger::check_backups(config, &mut files, identities, args.keyless, tell)
    });
    Ok(report?)
}

/// The exit code that a report stands for.
fn code(report: &BackupReport) -> ExitCode {
    match &report.fault {
        None if !report.is_ok() => ExitCode::Integrity,
        None if report.locked.is_some() => ExitCode::Locked,
        None => ExitCode::Ok,
        // The same as where the file is restored.
        Some(fault) => exit::explain(fault).0,
    }
}

fn print(invocation: &Invocation, report: &BackupReport) -> Result<(), Failure> {
    let (out, code) = (&invocation.out, code(report));
    if out.is_json() {
        return out.json(&json!({
            "ok": code == ExitCode::Ok,
            "files": report.files.iter().map(facts_json).collect::<Vec<_>>(),
            "checks": report.checks.iter().map(check_json).collect::<Vec<_>>(),
            "state_root": report.state_root,
        }));
    }
    for facts in &report.files {
        let kind = if facts.from == 0 { "full backup" } else { "increment" };
        let (made, ledger) = (time::second(facts.created), facts.ledger_id);
        out.painted(&[
            (Style::Bold, &facts.name),
            (Style::Plain, &format!(": {kind} of ledger {ledger}, events {} to {}, made {made}", facts.from, facts.to)),
        ])?;
        out.line(&format!("  opened by {}", ways(facts).join("; ")))?;
    }
    for check in &report.checks {
        let (style, word) = match check.state {
            CheckState::Ok => (Style::Good, "ok"),
            CheckState::Failed => (Style::Bad, "failed"),
            CheckState::Skipped => (Style::Warn, "skipped"),
        };
        let file =
            if report.files.len() > 1 && !check.file.is_empty() { format!("{}: ", check.file) } else { String::new() };
        out.painted(&[
            (style, &format!("{word:<8}")),
            (Style::Bold, &format!("{:<10}", check.name)),
            (Style::Plain, &format!("{file}{}", check.what)),
        ])?;
    }
    if let Some(root) = report.state_root {
        out.line(&format!("state root {root}"))?;
    }
    let (style, verdict) = match code {
        ExitCode::Ok if report.state_root.is_some() => (Style::Good, "it can be restored"),
        ExitCode::Ok => (Style::Warn, "whole, as far as it was looked at"),
        ExitCode::Locked => (Style::Warn, "whole, but nothing that was given opens it"),
        ExitCode::Io => (Style::Bad, "it could not be read to its end"),
        ExitCode::DecryptFailed => (Style::Bad, "whole, but what was given does not open it"),
        ExitCode::Conflict => (Style::Bad, "whole, but they do not go on from each other"),
        _ => (Style::Bad, "not to be used"),
    };
    out.painted(&[(style, verdict)])?;
    if code == ExitCode::Locked {
        out.note("hint: give a passphrase (--passphrase-file), recovery words (--recovery-stdin), a key file (--key-file) or an age identity (--identity)");
    }
    Ok(())
}

/// What opens a backup, in words.
fn ways(facts: &FileFacts) -> Vec<String> {
    let slot = |slot: &crate::keys::KeySlot| {
        let what = format!("{} slot {} ({})", slot.kind().name(), slot.id(), slot.label());
        match slot.kind() {
            SlotKind::Passphrase | SlotKind::Recovery => what,
            SlotKind::File => format!("{what}, only with a copy of its key file"),
            SlotKind::OsKeystore => format!("{what}, only where that keystore is"),
        }
    };
    let mut ways: Vec<String> = facts.slots.iter().map(slot).collect();
    if facts.recipients {
        ways.push("its age recipients".to_owned());
    }
    if facts.key_file {
        ways.push("the key file in it".to_owned());
    }
    ways
}

fn check_json(check: &BackupCheck) -> Value {
    let state = match check.state {
        CheckState::Ok => "ok",
        CheckState::Failed => "failed",
        CheckState::Skipped => "skipped",
    };
    json!({"name": check.name, "file": check.file, "state": state, "what": check.what})
}

/// A backup's clear parts in JSON.
pub fn facts_json(facts: &FileFacts) -> Value {
    let slots: Vec<Value> = facts
        .slots
        .iter()
        .map(|slot| json!({"id": slot.id(), "kind": slot.kind().name(), "label": slot.label()}))
        .collect();
    json!({
        "file": facts.name,
        "backup": facts.backup,
        "ledger_id": facts.ledger_id,
        "created_at_ms": facts.created.as_millis(),
        "program": facts.program,
        "full": facts.from == 0,
        "from": facts.from,
        "to": facts.to,
        "head": facts.head,
        "digest": facts.digest,
        "bytes": facts.bytes,
        "recipients": facts.recipients,
        "key_file": facts.key_file,
        "slots": slots,
    })
}
