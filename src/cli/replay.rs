//! `replay`: the state at any event or time, step by step, and what differs between two.

mod documents;
mod follow;
mod summary;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::base::SecretPath;
use crate::engine::{ChangeKind, Ledger, Replay, ReplayOptions, ReplayPoint, StateChange};

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::output::Style;
use super::{progress, time};

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReplayArgs {
    #[command(subcommand)]
    command: Option<ReplayCommand>,
    /// After this event, or at this time: a number, RFC 3339, a date, or an age such as 2h; by default the last
    #[arg(long, value_name = "N|TIME")]
    at: Option<String>,
    /// One document as it was: a TOML document, the revocation list or the root certificates
    #[arg(long, value_name = "NAME", conflicts_with = "follow")]
    document: Option<documents::Document>,
    /// Event by event from there: keys on a terminal, otherwise each with what it changed
    #[arg(long)]
    follow: bool,
    /// With --follow: up to this event or time
    #[arg(long, value_name = "N|TIME", requires = "follow")]
    to: Option<String>,
    /// Most secrets, devices and profiles that are listed, each
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Use no snapshot: fold every event from the first one on
    #[arg(long, global = true)]
    from_genesis: bool,
}

#[derive(Debug, Subcommand)]
enum ReplayCommand {
    /// What is different at a later point
    Diff {
        /// The earlier point: an event's number, a time or an age
        before: String,
        /// The later point
        after: String,
    },
}

/// Runs `replay`.
pub fn run(invocation: &Invocation, args: &ReplayArgs) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Known)?;
    let done = match &args.command {
        Some(ReplayCommand::Diff { before, after }) => diff(invocation, &ledger, args, before, after),
        None if args.follow => follow::run(invocation, &ledger, args),
        None => match args.document {
            Some(document) => documents::run(invocation, &ledger, args, document),
            None => {
                let replay = reach(invocation, &ledger, args, args.at.as_deref())?;
                summary::print(invocation, &ledger, &replay, args.limit)
            }
        },
    };
    invocation.close(&ledger);
    done
}

/// A point as a person names it.
fn point(ledger: &Ledger, text: Option<&str>) -> Result<ReplayPoint, Failure> {
    let Some(text) = text else { return Ok(ReplayPoint::Head) };
    if let Ok(seq) = text.parse::<u64>() {
        let head = ledger.log().head()?.seq;
        if seq > head {
            let what = format!("there is no event {seq}; the last one is {head}");
            return Err(Failure::new(ExitCode::NotFound, what, "`palyra-ledger log show` shows them"));
        }
        return Ok(ReplayPoint::Seq(seq));
    }
    time::since(text, time::now()).map(ReplayPoint::Time).map_err(|_| {
        Failure::usage(
            format!("`{text}` is no event and no time"),
            "for example 1200, 2h, 2026-01-31 or an RFC 3339 time",
        )
    })
}

/// Replays to a point that a person named.
fn reach(invocation: &Invocation, ledger: &Ledger, args: &ReplayArgs, text: Option<&str>) -> Result<Replay, Failure> {
    let to = point(ledger, text)?;
    Ok(progress::bar(invocation, "replaying", |tell| {
        ledger.replay_with(to, ReplayOptions { from_genesis: args.from_genesis, progress: Some(tell) })
    })?)
}

/// Says from where the fold began.
fn note_snapshot(invocation: &Invocation, replay: &Replay) {
    if let Some(seq) = replay.snapshot() {
        invocation.out.note(&format!(
            "from the snapshot at event {seq}, which was read to its end and is in the log; --from-genesis uses none"
        ));
    }
}

fn diff(invocation: &Invocation, ledger: &Ledger, args: &ReplayArgs, before: &str, after: &str) -> Result<(), Failure> {
    let before = reach(invocation, ledger, args, Some(before))?;
    let after = reach(invocation, ledger, args, Some(after))?;
    if before.seq() > after.seq() {
        let what = format!("event {} is not before event {}", before.seq(), after.seq());
        return Err(Failure::usage(what, "name the earlier point first"));
    }
    let changes = before.diff(&after)?;
    let out = &invocation.out;
    if out.is_json() {
        let shown = changes.iter().map(|change| to_json(ledger, change)).collect::<Vec<_>>();
        return out.json(&json!({
            "before": {"seq": before.seq(), "recorded_at_ms": before.time().as_millis(), "snapshot": before.snapshot()},
            "after": {"seq": after.seq(), "recorded_at_ms": after.time().as_millis(), "snapshot": after.snapshot()},
            "changes": shown,
        }));
    }
    if changes.is_empty() {
        let same = before.state_root()? == after.state_root()?;
        let text = if same { "nothing is different" } else { "nothing that is shown differs; the state roots differ" };
        return out.line(text);
    }
    changes.iter().try_for_each(|change| print_change(invocation, ledger, change, ""))
}

/// The fingerprints of a secret's value before and after, where that is what changed.
fn fingerprints(ledger: &Ledger, change: &StateChange) -> Option<(Value, Value)> {
    let (Some((old, new)), Ok(target)) = (change.fields.get("version"), change.subject.parse()) else {
        return None;
    };
    let of = |version: &Value| match version.as_u64().and_then(|number| u32::try_from(number).ok()) {
        Some(version) => fingerprint(ledger, &target, version),
        None => Value::Null,
    };
    Some((of(old), of(new)))
}

/// The fingerprint of a value, or why it cannot be had; nothing where it was shredded.
fn fingerprint(ledger: &Ledger, target: &SecretPath, version: u32) -> Value {
    match ledger.value_fingerprint(target, version) {
        Ok(print) => json!(print.map(|print| print.to_string())),
        Err(error) => json!(format!("unavailable: {error}")),
    }
}

/// A change with stable fields.
fn to_json(ledger: &Ledger, change: &StateChange) -> Value {
    let mut fields = change.fields.clone();
    if let Some(both) = fingerprints(ledger, change) {
        fields.insert("fingerprint".to_owned(), both);
    }
    json!({
        "what": change.what,
        "subject": change.subject,
        "change": change.change,
        "before": fields.iter().map(|(name, (old, _))| (name.clone(), old.clone())).collect::<serde_json::Map<_, _>>(),
        "after": fields.iter().map(|(name, (_, new))| (name.clone(), new.clone())).collect::<serde_json::Map<_, _>>(),
    })
}

/// A change for a person: one line.
fn print_change(invocation: &Invocation, ledger: &Ledger, change: &StateChange, margin: &str) -> Result<(), Failure> {
    let mut parts = Vec::new();
    for (name, (old, new)) in &change.fields {
        parts.push(match (change.change, old) {
            (ChangeKind::Added, _) | (_, Value::Null) => format!("{name} {}", plain(new)),
            (ChangeKind::Removed, old) => format!("{name} was {}", plain(old)),
            (ChangeKind::Changed, old) => format!("{name} {} -> {}", plain(old), plain(new)),
        });
    }
    if let Some((old, new)) = fingerprints(ledger, change) {
        parts.push(match (old, new) {
            (Value::Null, Value::Null) => "value shredded".to_owned(),
            (Value::Null, new) => format!("value {}", plain(&new)),
            (old, new) if old == new => format!("value {} (equal)", plain(&new)),
            (old, new) => format!("value {} -> {}", plain(&old), plain(&new)),
        });
    }
    let (sign, style) = match change.change {
        ChangeKind::Added => ("+", Style::Good),
        ChangeKind::Changed => ("~", Style::Warn),
        ChangeKind::Removed => ("-", Style::Bad),
    };
    invocation.out.painted(&[
        (Style::Plain, margin),
        (style, &format!("{sign} {} {}", change.what.replace('_', " "), change.subject)),
        (Style::Dim, &if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }),
    ])
}

/// A JSON value as a person reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
