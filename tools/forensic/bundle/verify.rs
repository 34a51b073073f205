//! `bundle verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::Entry;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{Output, Style};
use palyra_ledger::cli::story;
use palyra_ledger::inspect::Evidence;
use palyra_ledger::inspect::bundle::{Bundle, Judged, JudgedRecord, Standing, Trust};
use palyra_ledger::limits;
use palyra_ledger::log::Frame;
use palyra_ledger::store::{Medium, OpenMode};
use serde_json::{Value, json};

use crate::case::unreadable;
use crate::rows;
use crate::verify::{Known, code_of};

/// Arguments of `bundle verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The bundle, or `-` for the standard input
    path: PathBuf,
    /// The ledger's public key (`NAME+ID+KEY`), or a file with it
    #[arg(long, value_name = "VKEY|FILE")]
    public_key: Option<String>,
    /// A checkpoint that was kept elsewhere; several may be given
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
}

/// Runs `bundle verify`.
pub fn run(out: &Output, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let known = Known::read(args.public_key.as_deref(), &args.anchor)?;
    let mut trust: Vec<Trust> = known.public_key.into_iter().map(Trust::Key).collect();
    trust.extend(known.anchors.into_iter().map(|anchor| Trust::Anchor(Box::new(anchor.signed))));
    let bytes = read(&args.path)?;
    let bundle = Bundle::parse(&bytes).map_err(|error| {
        let what = format!("{}: {}: {error}", Standing::Refused.word(), args.path.display());
        Failure::new(ExitCode::Integrity, what, "ask whoever made it for an unaltered copy")
    })?;
    let judged = bundle.judge(&trust);
    let compared = trust.iter().filter_map(|known| match known {
        Trust::Anchor(anchor) => Some((anchor.checkpoint().size, bundle.is_compared_with(anchor))),
        Trust::Key(_) => None,
    });
    let compared: Vec<(u64, bool)> = compared.collect();
    for (size, _) in compared.iter().filter(|(_, same)| !same) {
        out.warn(&format!(
            "the anchor of {size} events vouches for the ledger's key alone: the bundle has no checkpoint of that size              to compare it with"
        ));
    }
    let printed =
        if out.is_json() { print_json(out, &bundle, &judged, &compared) } else { print(out, &bundle, &judged) };
    let code = code_of(judged.standing.exit_code());
    if code == ExitCode::Ok { printed.map(|()| code) } else { Ok(code) }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let evidence = Evidence::at(path).map_err(|error| unreadable(&error))?;
    let Some(name) = evidence.single() else {
        return Err(Failure::usage(format!("{} is a folder", path.display()), "name a bundle"));
    };
    let length = evidence.open(name, OpenMode::Read).and_then(|file| file.len()).map_err(|error| unreadable(&error))?;
    if length > limits::BUNDLE_BYTES_MAX as u64 {
        let what = format!("{}: {}: it is larger than any bundle", Standing::Refused.word(), path.display());
        return Err(Failure::new(ExitCode::Integrity, what, "name a bundle that `palyra-forensic bundle create` made"));
    }
    evidence.read_all(name, limits::BUNDLE_BYTES_MAX as u64).map_err(|error| unreadable(&error))
}

/// What a disclosed body says; nothing where none was disclosed.
fn disclosed(frame: &[u8], record: &JudgedRecord) -> Option<Result<Entry, String>> {
    let body = record.body.as_ref()?;
    let frame = Frame::parse(frame).map_err(|error| error.to_string());
    Some(frame.and_then(|frame| Entry::from_body(&frame, body).map_err(|error| error.to_string())))
}

fn record_json(frame: &[u8], record: &JudgedRecord) -> Value {
    let body = disclosed(frame, record).map(|opened| match opened {
        Err(error) => json!({"error": error}),
        Ok(entry) => json!({
            "summary": format!("{} {}", entry.caller.actor, story::summary(&entry.event)),
            "actor": entry.caller.actor.as_str(), "origin": entry.caller.origin.to_string(),
            "reason": entry.caller.reason.as_ref().map(ToString::to_string), "fields": entry.fields(),
        }),
    });
    json!({
        "seq": record.header.seq, "time": record.header.time.to_string(),
        "kind": rows::kind_name(record.header.kind), "hash": record.hash,
        "proven": record.proven, "body": body,
    })
}

fn print_json(out: &Output, bundle: &Bundle, judged: &Judged, compared: &[(u64, bool)]) -> Result<(), Failure> {
    let note = |signed: &palyra_ledger::checkpoint::SignedCheckpoint| {
        let checkpoint = signed.checkpoint();
        json!({
            "size": checkpoint.size, "root": checkpoint.root, "time": checkpoint.time.to_string(),
            "public_key": checkpoint.verifier().to_string(),
        })
    };
    let pairs = bundle.records.iter().zip(&judged.records);
    out.json(&json!({
        "standing": judged.standing.word(),
        "exit_code": judged.standing.exit_code(),
        "ledger_id": bundle.ledger_id,
        "tool": bundle.tool,
        "selection": bundle.selection,
        "checkpoint": bundle.checkpoint.as_ref().map(note),
        "anchors": compared.iter().map(|(size, same)| json!({"size": size, "compared": same})).collect::<Vec<_>>(),
        "newer": bundle.newer.as_ref().map(|(newer, _)| note(newer)),
        "events": pairs.map(|(kept, record)| record_json(&kept.frame, record)).collect::<Vec<_>>(),
        "faults": judged.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))
}

fn print(out: &Output, bundle: &Bundle, judged: &Judged) -> Result<(), Failure> {
    for (kept, record) in bundle.records.iter().zip(&judged.records) {
        let (style, word) = if record.proven { (Style::Good, "proven  ") } else { (Style::Bad, "UNPROVEN") };
        let says = match disclosed(&kept.frame, record) {
            None => rows::kind_name(record.header.kind).replace('_', " "),
            Some(Err(error)) => format!("{}: {error}", rows::kind_name(record.header.kind)),
            Some(Ok(entry)) => format!("{} {}", entry.caller.actor, story::summary(&entry.event)),
        };
        let line = format!("  {:>10}  {}  {says}", record.header.seq, record.header.time);
        out.painted(&[(style, word), (Style::Plain, &line)])?;
    }
    for fault in &judged.faults {
        out.painted(&[(Style::Bad, "fault"), (Style::Plain, &format!(": {fault}"))])?;
    }
    let (style, means) = match judged.standing {
        Standing::Proven => (Style::Good, "every event stands in the log that the ledger signed"),
        Standing::Unvouched => (
            Style::Warn,
            "every event stands in the log that was signed, but nobody vouched for the key: give --public-key or --anchor",
        ),
        Standing::Unproven => {
            (Style::Bad, "some events are behind the checkpoint: whoever made the bundle claims them")
        }
        Standing::Refused => (Style::Bad, "nothing in it is to be relied on"),
    };
    out.painted(&[(style, judged.standing.word()), (Style::Plain, &format!(": {means}"))])?;
    out.line(&format!("ledger {}, {}, made by {}", bundle.ledger_id, bundle.selection, bundle.tool))?;
    if let Some(signed) = &bundle.checkpoint {
        let checkpoint = signed.checkpoint();
        out.line(&format!(
            "checkpoint of {} events, {}, by {}",
            checkpoint.size,
            checkpoint.time,
            checkpoint.verifier()
        ))?;
    }
    if let Some((newer, _)) = &bundle.newer {
        let newer = newer.checkpoint();
        out.line(&format!("continued unchanged to {} events, {}", newer.size, newer.time))?;
    }
    Ok(())
}
