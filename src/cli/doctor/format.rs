//! Which format the home has, and whether it is this program's.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::cli::story;
use crate::engine::{Format, STATE_SCHEMA};
use crate::event::{Kind, Step};

use super::Checks;

fn named(step: &Step) -> String {
    format!("{:04} ({})", step.number, step.name)
}

/// Says which format there is; what is not this program's is a warning, or a problem where it cannot go on from it.
pub fn check(format: &Format, checks: &mut Checks) {
    let kinds = format.kinds.keys().map(|(kind, _)| kind).collect::<std::collections::BTreeSet<_>>().len();
    let step = format.step().map_or_else(|| "none".to_owned(), named);
    let newest = Format::newest_step().map_or_else(String::new, |step| format!(", this program's is {}", named(step)));
    let older = match format.older_events() {
        0 => String::new(),
        older => format!(", {} in an older schema version", story::count(older, "event")),
    };
    let what = format!(
        "segments and frames of version {}, newest step in the log {step}{newest}; {}{older}",
        Format::frames(),
        story::count(kinds as u64, "kind"),
    );
    match format.unknown_events() {
        0 => checks.ok("format", what),
        unknown => checks.problem(
            "format",
            format!("{what}; {} of a newer program", story::count(unknown, "event")),
            "use the program that wrote them, or a newer one; nothing is damaged, and nothing is written until then",
        ),
    }
    let Some((version, schema)) = format.index else { return };
    let found = format!("the index has version {version} and state schema {schema}, this program's is {STATE_SCHEMA}");
    match format.index_age() {
        Some(Ordering::Less) => {
            checks.warn("projections", found, "the first command that opens the ledger makes it anew from the log");
        }
        Some(Ordering::Greater) => checks.problem(
            "projections",
            found,
            "use the program that wrote it; to go on with this one: `palyra-ledger doctor --repair`",
        ),
        _ => checks.ok("projections", format!("index version {version}, state schema {schema}")),
    }
}

/// The same with stable fields.
pub fn to_json(format: &Format) -> Value {
    let step = |step: &Step| json!({"number": step.number, "name": step.name});
    let kinds: Vec<Value> = format
        .kinds
        .iter()
        .map(|((kind, schema), events)| {
            let present = Kind::from_number(*kind).map(Kind::schema);
            json!({
                "number": kind,
                "kind": Kind::display_name(*kind),
                "schema": schema,
                "present_schema": present,
                "events": events,
            })
        })
        .collect();
    json!({
        "frames": Format::frames(),
        "step": format.step().map(step),
        "program_step": Format::newest_step().map(step),
        "kinds": kinds,
        "events_in_older_schema": format.older_events(),
        "events_unknown": format.unknown_events(),
        "index": format.index.map(|(version, schema)| json!({"version": version, "state_schema": schema})),
        "program_state_schema": STATE_SCHEMA,
        "index_is_older": format.index_age() == Some(Ordering::Less),
        "index_is_newer": format.index_age() == Some(Ordering::Greater),
    })
}
