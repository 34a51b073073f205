//! `inspect`: what is this, without any key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::inspect::what::{self, What};
use palyra_ledger::inspect::{Evidence, assess};
use palyra_ledger::keys::KeyRing;
use palyra_ledger::limits;
use palyra_ledger::log::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use palyra_ledger::store::{Medium, OpenMode, StoreError};
use serde_json::{Map, Value, json};

use crate::args::Global;
use crate::case::Case;
use crate::rows;

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A folder, a file, or `-` for the standard input
    path: PathBuf,
}

/// Runs `inspect`.
pub fn run(global: &Global, out: &Output, args: &InspectArgs) -> Result<ExitCode, Failure> {
    let case = Case::open(&args.path, global)?;
    let mut about = Map::new();
    about.insert("what".to_owned(), json!(case.what));
    let files: Vec<Value> = case.bracket.files.iter().map(|facts| file(&case.evidence, facts)).collect();
    about.insert("bytes".to_owned(), case.bracket.files.iter().map(|facts| facts.bytes).sum::<u64>().into());
    about.insert("files".to_owned(), files.into());
    let unreadable = case.bracket.unreadable.iter().map(|(path, why)| json!({"path": path, "why": why}));
    about.insert("unreadable".to_owned(), unreadable.collect());
    if let Ok(course) = case.course() {
        about.insert("log".to_owned(), log(&case, &course));
    }
    if let Some(ring) = ring(&case.evidence, &case.keys_dir().join("keyring")) {
        about.insert("keys".to_owned(), ring);
    }
    case.close(out)?;
    let about = Value::Object(about);
    if out.is_json() {
        out.json(&about)?;
    } else {
        print(out, &about)?;
    }
    Ok(ExitCode::Ok)
}

/// One file: what it is, and what its first bytes say.
fn file(evidence: &Evidence, facts: &palyra_ledger::inspect::FileFacts) -> Value {
    let path = Path::new(&facts.path);
    let what = what::file(evidence, path).unwrap_or(What::Unknown);
    let more = match what {
        What::Segment => segment(evidence, path).ok(),
        What::KeyRing => ring(evidence, path),
        What::Frame => frame(evidence, path),
        _ => None,
    };
    json!({"path": facts.path, "what": what, "bytes": facts.bytes, "says": more})
}

fn segment(evidence: &Evidence, path: &Path) -> Result<Value, StoreError> {
    let file = evidence.open(path, OpenMode::Read)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let got = file.read_at(0, &mut bytes)?;
    Ok(match SegmentHeader::parse(bytes.get(..got).unwrap_or_default()) {
        Ok(header) => json!({"ledger_id": header.ledger_id, "first_seq": header.first_seq, "prev": header.prev}),
        Err(error) => json!({"damaged": error.to_string()}),
    })
}

fn frame(evidence: &Evidence, path: &Path) -> Option<Value> {
    let bytes = evidence.read_all(path, 2 * limits::BODY_MAX as u64).ok()?;
    Some(match what::frame_of(&bytes) {
        Ok((header, frame)) => json!({
            "ledger_id": header.ledger_id, "seq": header.seq, "time": header.time.to_string(),
            "kind": rows::kind_name(header.kind), "whole": frame.is_some(),
        }),
        Err(error) => json!({"damaged": error.to_string()}),
    })
}

/// What a key ring says in the clear: how the ledger can be opened.
fn ring(evidence: &Evidence, path: &Path) -> Option<Value> {
    let bytes = evidence.read_all(path, limits::KEYRING_BYTES_MAX).ok()?;
    let Some(ring) = KeyRing::parse(&bytes) else {
        return Some(json!({"damaged": "it is not a key ring of a known version"}));
    };
    let slots: Vec<Value> = ring
        .slots()
        .iter()
        .map(|slot| {
            json!({
                "slot": slot.id().to_string(), "kind": slot.kind().name(), "label": slot.label(),
                "created": slot.created_at().to_string(), "pinned": slot.id() == ring.pinned(),
            })
        })
        .collect();
    Some(json!({
        "ledger_id": ring.ledger_id(), "root_generation": ring.root_generation(),
        "table_generation": ring.table_generation(), "digest": ring.digest(), "slots": slots,
    }))
}

/// The log's shape: range, times, epochs and kinds.
fn log(case: &Case, course: &palyra_ledger::inspect::Course<'_>) -> Value {
    let mut kinds: BTreeMap<u16, u64> = BTreeMap::new();
    let mut epochs: BTreeMap<u32, u64> = BTreeMap::new();
    let assessment = assess(&case.evidence, course, &[], case.is_live(), &mut |frame, _| {
        *kinds.entry(frame.header.kind).or_default() += 1;
        *epochs.entry(frame.header.epoch).or_default() += 1;
    });
    let report = assessment.report();
    json!({
        "ledger_id": report.ledger_id,
        "segments": course.segments.len(),
        "events": report.events,
        "first_seq": assessment.walked.first.map(|(seq, _)| seq),
        "first_time": assessment.walked.first.map(|(_, time)| time.to_string()),
        "last_seq": report.head.map(|head| head.seq),
        "last_time": assessment.walked.last_time.map(|time| time.to_string()),
        "last_hash": report.head.map(|head| head.hash),
        "kinds": kinds.iter().map(|(kind, count)| (rows::kind_name(*kind).into_owned(), json!(count))).collect::<Map<_, _>>(),
        "epochs": epochs.iter().map(|(epoch, count)| (epoch.to_string(), json!(count))).collect::<Map<_, _>>(),
        "findings": report.findings.len(),
    })
}

fn print(out: &Output, about: &Value) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (name, value) in about.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) if name == "files" => {
                let cell = |item: &Value, name: &str| item.get(name).map(text).unwrap_or_default();
                let row = |item: &Value| {
                    let says = item.get("says").filter(|says| !says.is_null()).map(ToString::to_string);
                    vec![cell(item, "path"), cell(item, "what"), cell(item, "bytes"), says.unwrap_or_default()]
                };
                out.table(&["FILE", "WHAT", "BYTES", "SAYS"], &items.iter().map(row).collect::<Vec<_>>())?;
            }
            Value::Array(items) if items.is_empty() => {}
            Value::Object(map) => {
                out.line(&format!("{name}:"))?;
                for (name, value) in map {
                    out.line(&format!("  {name}: {}", text(value)))?;
                }
            }
            other => out.line(&format!("{name}: {}", text(other)))?,
        }
    }
    Ok(())
}
