//! `export`: events for other tools: OCSF, ECS, JSON lines and CSV.

use std::path::PathBuf;

use clap::Args;
use palyra_ledger::Entry;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{Output, json_text};
use palyra_ledger::event::Kind;
use palyra_ledger::log::Frame;
use serde_json::{Value, json};

use crate::args::{Global, KeyArgs, Shape};
use crate::rows::{self, Times};
use crate::timeline::{self, FilterArgs};

/// Version of the Open Cybersecurity Schema Framework that the fields follow.
const OCSF: &str = "1.3.0";
/// Version of the Elastic Common Schema that the fields follow.
const ECS: &str = "8.11.0";
const PRODUCT: &str = "Palyra Ledger";

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A home, a journal, one segment, or `-` for one on the standard input
    path: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Runs `export`.
pub fn run(global: &Global, out: &Output, args: &ExportArgs) -> Result<ExitCode, Failure> {
    let shape = global.format;
    if shape == Shape::Csv {
        out.verbatim(rows::CSV_HEADER.as_bytes())?;
    }
    let mut times = Times::default();
    let asked = (args.path.as_path(), &args.filter, &args.keys);
    timeline::stream(global, out, asked, &mut |text, frame, entry| match shape {
        Shape::Csv => rows::push_csv(text, &mut times, frame, entry),
        Shape::Ocsf => push_value(text, &ocsf(frame, entry)),
        Shape::Ecs => push_value(text, &ecs(frame, entry)),
        Shape::Table | Shape::Json | Shape::Jsonl => rows::push_json(text, &mut times, frame, entry),
    })
}

fn push_value(text: &mut Vec<u8>, value: &Value) {
    text.extend_from_slice(json_text(value).as_bytes());
    text.push(b'\n');
}

/// What a kind of event does, for schemas that want a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Read,
    Update,
    Delete,
    Logon,
    Logoff,
    Refuse,
    Other,
}

fn verb(kind: Option<Kind>) -> Verb {
    use Kind::{
        CaCertified, CaPrepared, CaRevoked, CertificateIssued, CertificateRevoked, CommandRefused, ConnectionsRefused,
        DevicePaired, DeviceRemoved, DeviceRevoked, KeySlotAdded, KeySlotRemoved, LedgerCreated, PairingDenied,
        PairingMinted, PairingRefused, ProfileDeleted, ProfileLoggedIn, ProfileLoggedOut, ProfileSet, RefreshFailed,
        SecretDeleted, SecretPut, SecretShredded, SecretsRead,
    };
    match kind {
        Some(
            SecretPut | LedgerCreated | KeySlotAdded | CaCertified | CaPrepared | PairingMinted | DevicePaired
            | CertificateIssued | ProfileSet,
        ) => Verb::Create,
        Some(SecretsRead) => Verb::Read,
        Some(
            SecretDeleted | SecretShredded | KeySlotRemoved | CaRevoked | DeviceRevoked | CertificateRevoked
            | DeviceRemoved | ProfileDeleted,
        ) => Verb::Delete,
        Some(ProfileLoggedIn) => Verb::Logon,
        Some(ProfileLoggedOut) => Verb::Logoff,
        Some(CommandRefused | ConnectionsRefused | PairingRefused | PairingDenied | RefreshFailed) => Verb::Refuse,
        Some(_) => Verb::Update,
        None => Verb::Other,
    }
}

/// Events that somebody should look at: what was refused, set aside, dropped or repaired.
const fn severity(kind: Option<Kind>) -> (u8, &'static str) {
    match kind {
        Some(
            Kind::CommandRefused
            | Kind::ConnectionsRefused
            | Kind::PairingRefused
            | Kind::ClockStepped
            | Kind::TailDropped
            | Kind::SpoolDropped
            | Kind::KeyTableRepaired,
        ) => (3, "Medium"),
        Some(
            Kind::WitnessSetAside
            | Kind::JournalRestored
            | Kind::HeadRestored
            | Kind::BranchStarted
            | Kind::CompromiseClosed,
        ) => (4, "High"),
        Some(Kind::AnchorConflict | Kind::CompromiseDeclared) => (5, "Critical"),
        Some(_) => (1, "Informational"),
        None => (0, "Unknown"),
    }
}

fn ocsf(frame: &Frame<'_>, entry: Option<&Entry>) -> Value {
    let header = &frame.header;
    let kind = Kind::from_number(header.kind);
    let name = rows::kind_name(header.kind);
    let verb = verb(kind);
    let (class_uid, class_name, category_uid, category_name) = match (verb, rows::class(header.kind)) {
        (Verb::Logon | Verb::Logoff, _) => (3002, "Authentication", 3, "Identity & Access Management"),
        (_, "identity") => (3004, "Entity Management", 3, "Identity & Access Management"),
        _ => (6003, "API Activity", 6, "Application Activity"),
    };
    let (activity_id, activity_name) = match verb {
        Verb::Create => (1, "Create"),
        Verb::Logon => (1, "Logon"),
        Verb::Logoff => (2, "Logoff"),
        Verb::Read => (2, "Read"),
        Verb::Update => (3, "Update"),
        Verb::Delete => (4, "Delete"),
        Verb::Refuse | Verb::Other => (99, "Other"),
    };
    let (severity_id, severity) = severity(kind);
    let (status_id, status) = if verb == Verb::Refuse { (2, "Failure") } else { (1, "Success") };
    let origin = entry.map_or_else(|| "unknown".to_owned(), |entry| entry.caller.origin.to_string());
    let actor = entry.map_or_else(|| "unknown".to_owned(), |entry| entry.caller.actor.to_string());
    json!({
        "activity_id": activity_id, "activity_name": activity_name,
        "category_uid": category_uid, "category_name": category_name,
        "class_uid": class_uid, "class_name": class_name, "type_uid": class_uid * 100 + activity_id,
        "type_name": format!("{class_name}: {activity_name}"),
        "time": header.time.as_millis(), "severity_id": severity_id, "severity": severity,
        "status_id": status_id, "status": status,
        "message": rows::message(frame, entry),
        "metadata": {
            "version": OCSF, "uid": frame.hash, "sequence": header.seq, "event_code": name,
            "original_time": header.time.to_string(), "log_name": header.ledger_id,
            "product": {"name": PRODUCT, "vendor_name": "Palyra", "version": env!("CARGO_PKG_VERSION")},
        },
        "actor": {"user": {"name": actor}}, "user": {"name": actor},
        "api": {"operation": name}, "src_endpoint": {"name": origin},
        "entity": {"name": name, "type": rows::class(header.kind)},
        "unmapped": unmapped(frame, entry),
    })
}

fn ecs(frame: &Frame<'_>, entry: Option<&Entry>) -> Value {
    let header = &frame.header;
    let kind = Kind::from_number(header.kind);
    let verb = verb(kind);
    let category = match (verb, rows::class(header.kind)) {
        (Verb::Logon | Verb::Logoff, _) => "authentication",
        (_, "identity" | "auth") => "iam",
        (_, "vault") => "database",
        _ => "configuration",
    };
    let types = match verb {
        Verb::Create => "creation",
        Verb::Read => "access",
        Verb::Delete => "deletion",
        Verb::Logon => "start",
        Verb::Logoff => "end",
        Verb::Refuse => "denied",
        Verb::Update => "change",
        Verb::Other => "info",
    };
    json!({
        "@timestamp": header.time.to_string(),
        "message": rows::message(frame, entry),
        "ecs": {"version": ECS},
        "event": {
            "kind": "event", "category": [category], "type": [types], "action": rows::kind_name(header.kind),
            "outcome": if verb == Verb::Refuse { "failure" } else { "success" },
            "sequence": header.seq, "hash": frame.hash, "id": format!("{}-{}", header.ledger_id, header.seq),
            "module": "palyra-ledger", "provider": PRODUCT, "severity": severity(kind).0,
            "reason": entry.and_then(|entry| entry.caller.reason.as_ref().map(ToString::to_string)),
        },
        "user": entry.map(|entry| json!({"name": entry.caller.actor.as_str()})),
        "trace": entry.and_then(|entry| entry.caller.correlation).map(|id| json!({"id": id.to_string()})),
        "palyra": unmapped(frame, entry),
    })
}

/// What the schema has no place for.
fn unmapped(frame: &Frame<'_>, entry: Option<&Entry>) -> Value {
    let header = &frame.header;
    json!({
        "ledger_id": header.ledger_id, "kind_number": header.kind, "schema": header.schema, "epoch": header.epoch,
        "batch_index": header.batch_index, "batch_len": header.batch_len, "prev": header.prev,
        "body_bytes": header.body_len,
        "origin": entry.map(|entry| entry.caller.origin.to_string()),
        "fields": entry.map(Entry::fields),
    })
}
