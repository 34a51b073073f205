//! `stats`: how much of what, when and by whom.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use serde_json::{Map, Value, json};

use crate::args::{Global, KeyArgs};
use crate::rows::{self, Times};
use crate::timeline::{self, FilterArgs};

/// Different actors and origins that are counted one by one; whoever writes a log can make up more.
const NAMES_MAX: usize = 10_000;

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// A home, a journal, one segment, or `-` for one on the standard input
    path: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Default)]
struct Counts {
    events: u64,
    bytes: u64,
    batches: u64,
    largest_body: u32,
    kinds: BTreeMap<u16, u64>,
    days: BTreeMap<String, u64>,
    epochs: BTreeMap<u32, u64>,
    actors: BTreeMap<String, u64>,
    origins: BTreeMap<String, u64>,
    longest_pause: u64,
    last_time: Option<u64>,
}

/// Runs `stats`.
pub fn run(global: &Global, out: &Output, args: &StatsArgs) -> Result<ExitCode, Failure> {
    let mut counts = Counts::default();
    let mut times = Times::default();
    let asked = (args.path.as_path(), &args.filter, &args.keys);
    let code = timeline::stream(global, out, asked, &mut |_, frame, entry| {
        let header = &frame.header;
        counts.events += 1;
        counts.bytes += frame.bytes().len() as u64;
        counts.batches += u64::from(header.batch_index == 0);
        counts.largest_body = counts.largest_body.max(header.body_len);
        *counts.kinds.entry(header.kind).or_default() += 1;
        *counts.epochs.entry(header.epoch).or_default() += 1;
        let time = header.time.as_millis();
        let pause = counts.last_time.map_or(0, |last| time.saturating_sub(last));
        counts.longest_pause = counts.longest_pause.max(pause);
        counts.last_time = Some(time);
        let day = times.text(header.time).get(..10).unwrap_or("unknown").to_owned();
        count(&mut counts.days, day);
        if let Some(entry) = entry {
            count(&mut counts.actors, entry.caller.actor.to_string());
            count(&mut counts.origins, entry.caller.origin.to_string());
        }
    })?;
    let value = describe(&counts);
    if out.is_json() {
        out.json(&value)?;
    } else {
        print(out, &value)?;
    }
    Ok(code)
}

fn count(map: &mut BTreeMap<String, u64>, name: String) {
    let name = if map.len() >= NAMES_MAX && !map.contains_key(&name) { "(others)".to_owned() } else { name };
    *map.entry(name).or_default() += 1;
}

fn describe(counts: &Counts) -> Value {
    let named =
        |map: &BTreeMap<String, u64>| map.iter().map(|(name, n)| (name.clone(), json!(n))).collect::<Map<_, _>>();
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    for (kind, number) in &counts.kinds {
        *classes.entry(rows::class(*kind).to_owned()).or_default() += number;
    }
    let kinds: BTreeMap<String, u64> =
        counts.kinds.iter().map(|(kind, number)| (rows::kind_name(*kind).into_owned(), *number)).collect();
    let epochs: Map<String, Value> = counts.epochs.iter().map(|(epoch, n)| (epoch.to_string(), json!(n))).collect();
    json!({
        "events": counts.events, "bytes": counts.bytes, "batches": counts.batches,
        "largest_body": counts.largest_body, "longest_pause_ms": counts.longest_pause,
        "by_class": named(&classes), "by_kind": named(&kinds), "by_day": named(&counts.days), "by_epoch": epochs,
        "by_actor": named(&counts.actors), "by_origin": named(&counts.origins),
    })
}

fn print(out: &Output, value: &Value) -> Result<(), Failure> {
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(map) if map.is_empty() => {}
            Value::Object(map) => {
                out.line(&format!("{}:", name.replace('_', " ")))?;
                for (name, number) in map {
                    out.line(&format!("  {number:>10}  {name}"))?;
                }
            }
            number => out.line(&format!("{}: {number}", name.replace('_', " ")))?,
        }
    }
    Ok(())
}
