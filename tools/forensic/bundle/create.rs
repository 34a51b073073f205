//! `bundle create`.

use std::path::{Path, PathBuf};

use clap::Args;
use palyra_ledger::checkpoint::SignedCheckpoint;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::examine::Keys;
use palyra_ledger::inspect::bundle::{BuildError, Builder, Bundle};
use palyra_ledger::inspect::{Kept, assess, read_notes};
use palyra_ledger::limits;
use palyra_ledger::log::Header;
use palyra_ledger::store::Medium;
use serde_json::json;

use crate::args::{Global, KeyArgs};
use crate::case::{Case, progress};
use crate::keyring;
use crate::report::{outside, write_new};
use crate::timeline::{Filter, FilterArgs};
use crate::verify::read_anchor;

/// The ledger's own checkpoints in a home.
const OWN_NOTES: &str = "checkpoints/notes";

/// Arguments of `bundle create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// A home, or a journal that begins with event 0
    path: PathBuf,
    /// Events to put in: one number or `FROM-THROUGH`; several may be given. The other filters narrow this
    #[arg(long, value_name = "SEQ|FROM-THROUGH", value_parser = range, required = true)]
    select: Vec<(u64, u64)>,
    #[command(flatten)]
    filter: FilterArgs,
    /// The signed checkpoint to prove them under, instead of the newest in the evidence
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// A newer checkpoint; the bundle shows that the log went on to it unchanged
    #[arg(long, value_name = "FILE")]
    newer: Option<PathBuf>,
    /// Put in events behind the checkpoint as well, marked as unproven
    #[arg(long)]
    unproven: bool,
    /// Give away the key of each chosen event, so that whoever has the bundle can read its body; secret values stay sealed
    #[arg(long)]
    disclose: bool,
    /// New file for the bundle
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, through) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().map_err(|_| "expected a number or FROM-THROUGH".to_owned());
    let (from, through) = (number(from)?, number(through)?);
    if from > through { Err("the range is empty".to_owned()) } else { Ok((from, through)) }
}

/// Runs `bundle create`.
pub fn run(global: &Global, out: &Output, args: &CreateArgs) -> Result<ExitCode, Failure> {
    if args.disclose && !args.keys.wanted() {
        return Err(Failure::usage("nothing can be disclosed without keys", "add --keys, or say where the keys are"));
    }
    let filter = Filter::new(&args.filter)?;
    let case = Case::open(&args.path, global)?;
    outside(&case, &args.output)?;
    let keys = keyring::open(&case, &args.keys)?;
    let checkpoint = match &args.checkpoint {
        Some(path) => last_of(path)?,
        None => own(&case)?,
    };
    let newer = args.newer.as_deref().map(last_of).transpose()?.flatten();
    let chosen = |header: &Header| {
        args.select.iter().any(|(from, through)| (*from..=*through).contains(&header.seq)) && filter.wants(header)
    };
    let bundle = build(&case, args, (checkpoint, newer), keys.as_ref(), &chosen)?;
    let unproven = bundle.records.iter().filter(|record| record.proof.is_none()).count();
    let disclosed = bundle.records.iter().filter(|record| record.key.is_some()).count();
    case.close(out)?;
    let bytes = bundle.encode();
    write_new(&args.output, &bytes)?;
    if args.disclose && disclosed < bundle.records.len() {
        out.warn(&format!(
            "{} events did not open with these keys and are not disclosed",
            bundle.records.len() - disclosed
        ));
    }
    if out.is_json() {
        out.json(&json!({
            "ledger_id": bundle.ledger_id, "events": bundle.records.len(), "unproven": unproven,
            "disclosed": disclosed, "bytes": bytes.len(),
            "checkpoint_size": bundle.checkpoint.as_ref().map(|signed| signed.checkpoint().size),
        }))?;
    } else {
        let under = bundle.checkpoint.as_ref().map_or_else(
            || "without a checkpoint".to_owned(),
            |signed| format!("under the checkpoint of {} events", signed.checkpoint().size),
        );
        let proven = bundle.records.len() - unproven;
        out.line(&format!("{proven} events proven {under}, {unproven} unproven, {disclosed} disclosed"))?;
    }
    Ok(ExitCode::Ok)
}

fn build(
    case: &Case,
    args: &CreateArgs,
    (checkpoint, newer): (Option<SignedCheckpoint>, Option<SignedCheckpoint>),
    keys: Option<&Keys>,
    chosen: &dyn Fn(&Header) -> bool,
) -> Result<Bundle, Failure> {
    let mut builder = Builder::new(checkpoint, newer).map_err(refused)?;
    let course = case.course()?;
    let bar = progress(case.log_bytes(&course), "proving");
    let mut seen = 0_u64;
    let mut behind = None;
    assess(&case.evidence, &course, &[], case.is_live(), &mut |frame, _| {
        seen += frame.bytes().len() as u64;
        if frame.header.seq % 4096 == 0 {
            bar.set_position(seen);
        }
        let mut wanted = chosen(&frame.header);
        if wanted && !args.unproven && frame.header.seq >= builder.covered() {
            behind.get_or_insert(frame.header.seq);
            wanted = false;
        }
        let key = keys.filter(|_| wanted && args.disclose).and_then(|keys| keys.message_key(frame));
        builder.push(frame, wanted, key);
    });
    bar.finish_and_clear();
    if let Some(seq) = behind {
        let what = format!("event {seq} is behind the checkpoint of {} events: nothing proves it", builder.covered());
        let hint = "give a newer checkpoint with --checkpoint, or --unproven to put it in as a mere claim";
        return Err(Failure::new(ExitCode::Unanchored, what, hint));
    }
    let tool = concat!("palyra-forensic ", env!("CARGO_PKG_VERSION"));
    builder.finish(tool, &selection(args)).map_err(refused)
}

fn refused(error: BuildError) -> Failure {
    let (code, hint) = match error {
        BuildError::Nothing => (ExitCode::NotFound, "`palyra-forensic timeline` lists the events"),
        BuildError::TooMuch => (ExitCode::Usage, "choose less, or hand over a copy of the journal"),
        BuildError::NotNewer => (ExitCode::Usage, "give the later one with --newer"),
        BuildError::OtherLedger { .. } => (ExitCode::Integrity, "give a checkpoint of this ledger"),
        BuildError::Short { .. } | BuildError::OtherRoot { .. } => {
            (ExitCode::Integrity, "`palyra-forensic verify --anchor` says what is wrong with the log")
        }
    };
    Failure::new(code, error.to_string(), hint)
}

/// What was asked for, in one form.
fn selection(args: &CreateArgs) -> String {
    let mut text = String::from("events ");
    for (index, (from, through)) in args.select.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let range = if from == through { from.to_string() } else { format!("{from}-{through}") };
        text.push_str(comma);
        text.push_str(&range);
    }
    text.push_str(&args.filter.in_words());
    // Only what a reader can check fits: the rest of an endless list says nothing more.
    text.retain(|character| (' '..='~').contains(&character));
    text.truncate(limits::BUNDLE_SELECTION_MAX);
    text
}

/// The last checkpoint in a file.
fn last_of(path: &Path) -> Result<Option<SignedCheckpoint>, Failure> {
    Ok(read_anchor(path, None)?.pop().map(|anchor| anchor.signed))
}

/// The newest of the ledger's own checkpoints. One that does not belong is found out when its root is compared.
fn own(case: &Case) -> Result<Option<SignedCheckpoint>, Failure> {
    if case.evidence.single().is_some() {
        return Ok(None);
    }
    match case.evidence.read_all(Path::new(OWN_NOTES), limits::CHECKPOINT_FILE_MAX) {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(crate::case::unreadable(&error)),
        Ok(bytes) => read_notes(OWN_NOTES, Kept::WithLog, &bytes, None)
            .map(|mut notes| notes.pop().map(|anchor| anchor.signed))
            .map_err(|error| {
                let what = format!("{OWN_NOTES} holds a checkpoint that cannot be relied on: {error}");
                Failure::new(ExitCode::Integrity, what, "give a checkpoint that was kept elsewhere with --checkpoint")
            }),
    }
}
