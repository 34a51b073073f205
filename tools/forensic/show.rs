//! `show`: one event, every part of it.

use std::path::PathBuf;

use clap::Args;
use palyra_ledger::Entry;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::cli::story;
use palyra_ledger::inspect::assess;
use palyra_ledger::log::frame::{Frame, HASH_LEN, HEADER_LEN};
use serde_json::{Value, json};

use crate::args::{Global, KeyArgs};
use crate::case::Case;
use crate::keyring;
use crate::rows;

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A home, a journal, one segment, or `-` for one on the standard input
    path: PathBuf,
    /// Number of the event
    seq: u64,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Runs `show`. A damaged log may hold several events with one number: each is shown.
pub fn run(global: &Global, out: &Output, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let case = Case::open(&args.path, global)?;
    let keys = keyring::open(&case, &args.keys)?;
    let course = case.course()?;
    let mut shown: Vec<Value> = Vec::new();
    assess(&case.evidence, &course, &[], case.is_live(), &mut |frame, site| {
        if frame.header.seq == args.seq {
            let opened = keys.as_ref().map(|keys| keys.entry(frame).map_err(|error| error.to_string()));
            let mut value = describe(frame, opened);
            if let Some(map) = value.as_object_mut() {
                map.insert("file".to_owned(), site.path.display().to_string().into());
                map.insert("offset".to_owned(), site.offset.into());
            }
            shown.push(value);
        }
    });
    case.close(out)?;
    if shown.is_empty() {
        let what = format!("there is no whole event {} in this log", args.seq);
        return Err(Failure::new(ExitCode::NotFound, what, "`palyra-forensic timeline` lists the events"));
    }
    for value in shown {
        if out.is_json() {
            out.json(&value)?;
        } else {
            lines(out, "", &value)?;
        }
    }
    Ok(ExitCode::Ok)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Every part of a frame. The sealed body is shown as bytes; opened, without envelopes.
fn describe(frame: &Frame<'_>, opened: Option<Result<Entry, String>>) -> Value {
    let header = &frame.header;
    let bytes = frame.bytes();
    let sealed = bytes.get(HEADER_LEN..bytes.len().saturating_sub(HASH_LEN)).unwrap_or_default();
    let (body, tag) = sealed.split_at(sealed.len().saturating_sub(16));
    let body_opened = opened.map(|opened| match opened {
        Err(error) => json!({"error": error}),
        Ok(entry) => json!({
            "summary": format!("{} {}", entry.caller.actor, story::summary(&entry.event)),
            "actor": entry.caller.actor.as_str(), "origin": entry.caller.origin.to_string(),
            "reason": entry.caller.reason.as_ref().map(ToString::to_string),
            "correlation": entry.caller.correlation.map(|id| id.to_string()), "fields": entry.fields(),
        }),
    });
    json!({
        "seq": header.seq,
        "time": header.time.to_string(),
        "kind": rows::kind_name(header.kind),
        "kind_number": header.kind,
        "schema": header.schema,
        "ledger_id": header.ledger_id,
        "prev": header.prev,
        "hash": frame.hash,
        "group_start": header.group_start,
        "batch_index": header.batch_index,
        "batch_len": header.batch_len,
        "epoch": header.epoch,
        "nonce": hex(&header.nonce),
        "commitment": hex(&header.commitment),
        "tag": hex(tag),
        "header_hex": hex(bytes.get(..HEADER_LEN).unwrap_or_default()),
        "body_bytes": header.body_len,
        "body_hex": hex(body),
        "body": body_opened,
    })
}

fn lines(out: &Output, indent: &str, value: &Value) -> Result<(), Failure> {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                out.line(&format!("{indent}{name}:"))?;
                lines(out, &format!("{indent}  "), value)?;
            }
            Value::String(text) => out.line(&format!("{indent}{name}: {text}"))?,
            other => out.line(&format!("{indent}{name}: {other}"))?,
        }
    }
    Ok(())
}
