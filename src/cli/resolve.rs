//! `resolve`: what a reference gives, and why it gives nothing.

use clap::Args;
use serde_json::{Value, json};

use crate::base::{Scope, SecretRef};
use crate::resolve::{Check, Reason, Resolution};

use super::exit::{ExitCode, Failure};
use super::invocation::Invocation;
use super::output::Style;
use super::programs::referred;
use super::{resolving, time};

/// Resolve a reference to a secret.
#[derive(Debug, Args)]
#[command(after_help = "References: <scope>/<name>, palyra://<scope>/<name>?version=3&field=token, env://NAME,\n\
                        file:///path, exec:///program?arg=a&arg=b. The rules for env, file and exec are those of\n\
                        [resolve] in config.toml; without rules they give nothing.")]
pub struct ResolveArgs {
    /// The reference: `<scope>/<name>` or a URI
    // Not read by the parser of the command line, which repeats what it refuses: it may be a value.
    #[arg(value_name = "REF")]
    reference: String,
    /// Print the value itself, and nothing else
    #[arg(long, conflicts_with = "explain")]
    reveal: bool,
    /// Show each check and how it goes; the value is not taken
    #[arg(long)]
    explain: bool,
    /// Resolve as this scope: secrets of other scopes are denied
    #[arg(long, value_name = "SCOPE")]
    scope: Option<Scope>,
}

pub fn run(invocation: &Invocation, args: &ResolveArgs) -> Result<(), Failure> {
    let reference = referred("REF", &args.reference)?;
    if args.explain {
        return explain(invocation, args.scope.as_ref(), &reference);
    }
    let resolutions = resolving::resolve_all(invocation, args.scope.as_ref(), std::slice::from_ref(&reference))?;
    let Some(resolution) = resolutions.into_iter().next() else {
        return Err(Failure::new(ExitCode::Internal, "the reference was not looked at", "please report it"));
    };
    if args.reveal {
        if let Some(value) = &resolution.value {
            invocation.out.value(value.expose())?;
        }
    } else {
        show(invocation, &reference, &resolution)?;
    }
    verdict(&reference, resolution.is_acceptable(), resolution.reason.as_ref())
}

fn verdict(reference: &SecretRef, acceptable: bool, reason: Option<&Reason>) -> Result<(), Failure> {
    match reason {
        Some(reason) if !acceptable => Err(Failure::unresolved(reference, reason)),
        _ => Ok(()),
    }
}

fn reason_json(reason: Option<&Reason>) -> Value {
    reason.map_or(Value::Null, |reason| json!({"code": reason.code.name(), "text": reason.to_string()}))
}

fn show(invocation: &Invocation, reference: &SecretRef, resolution: &Resolution) -> Result<(), Failure> {
    let out = &invocation.out;
    let took_us = u64::try_from(resolution.took.as_micros()).unwrap_or(u64::MAX);
    if out.is_json() {
        return out.json(&json!({
            "ref": reference.redacted(),
            "source": resolution.source.name(),
            "status": resolution.status.name(),
            "required": resolution.required,
            "reason": reason_json(resolution.reason.as_ref()),
            "fingerprint": resolution.fingerprint.to_string(),
            "value_fingerprint": resolution.value_fingerprint.map(|print| print.to_string()),
            "bytes": resolution.bytes,
            "at_ms": resolution.at.as_millis(),
            "took_us": took_us,
        }));
    }
    let mut rows = vec![
        ("ref", reference.redacted()),
        ("source", resolution.source.to_string()),
        ("status", resolution.status.to_string()),
    ];
    rows.extend(resolution.reason.as_ref().map(|reason| ("reason", reason.to_string())));
    rows.push(("fingerprint", resolution.fingerprint.to_string()));
    rows.extend(resolution.value_fingerprint.map(|print| ("value", format!("fingerprint {print}"))));
    rows.extend(resolution.bytes.map(|bytes| ("bytes", bytes.to_string())));
    rows.push(("at", time::second(resolution.at)));
    rows.push(("took", format!("{took_us} us")));
    rows.into_iter().try_for_each(|(key, value)| out.line(&format!("{key:<12} {value}")))
}

fn explain(invocation: &Invocation, scope: Option<&Scope>, reference: &SecretRef) -> Result<(), Failure> {
    let (checks, reason) = resolving::explain(invocation, scope, reference)?;
    let out = &invocation.out;
    if out.is_json() {
        out.json(&json!({
            "ref": reference.redacted(),
            "source": reference.source.kind().name(),
            "required": reference.required,
            "allowed": reason.is_none(),
            "status": reason.as_ref().map(|reason| reason.status().name()),
            "reason": reason_json(reason.as_ref()),
            "checks": checks.iter().map(check_json).collect::<Vec<_>>(),
        }))?;
    } else {
        for Check { what, ok, found } in &checks {
            let (style, mark) = if *ok { (Style::Good, "yes") } else { (Style::Bad, "no ") };
            out.painted(&[
                (style, mark),
                (Style::Plain, "  "),
                (Style::Plain, what),
                (Style::Dim, &format!(" ({found})")),
            ])?;
        }
        if reason.is_none() {
            out.line("nothing stands in the way of resolving it")?;
        }
    }
    let missing = reason.as_ref().is_some_and(|reason| reason.status() == crate::event::vault::ResolveStatus::Missing);
    verdict(reference, missing && !reference.required, reason.as_ref())
}

fn check_json(check: &Check) -> Value {
    json!({"check": check.what, "ok": check.ok, "found": check.found})
}
