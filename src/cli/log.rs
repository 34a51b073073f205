//! `log`: its head, its events, its verification.

mod anchors;
mod filter;
mod query;
mod verify;
mod why;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::engine::{Entry, Ledger};

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::output::{Output, Style};
use super::{story, time};

use anchors::{AcceptArgs, CheckpointArgs};
pub use filter::moment;
use filter::{Filter, FilterArgs};
pub use verify::VerifyArgs;

/// What `log` does.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print the last event's number and hash
    Head,
    /// Print events, oldest first; --actor NAME shows that actor's alone
    Show(ShowArgs),
    /// Find events by who, what, when and how it ended
    Query(query::QueryArgs),
    /// Tell the whole story of a secret, a device or a profile
    Why(why::WhyArgs),
    /// Print the last events, and with --follow those to come
    Tail(TailArgs),
    /// Verify the whole log
    Verify(VerifyArgs),
    /// Sign a checkpoint of everything so far, and put it to the anchors
    Checkpoint(CheckpointArgs),
    /// List the anchors: what each holds, how old it is, and whether it fits
    Anchors,
    /// Go on with an older copy that was put back on purpose: begins a new branch of history
    AcceptRollback(AcceptArgs),
}

/// Arguments of `log show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// From this event on
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Up to this event
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Arguments of `log tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// How many events
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u64,
    /// Go on with new events until interrupted
    #[arg(long, short)]
    follow: bool,
}

impl LogCommand {
    /// Whether a daemon that serves the ledger runs it: a copy that is refused is served by none.
    pub const fn is_forwarded(&self) -> bool {
        !matches!(self, Self::AcceptRollback(_))
    }
}

/// Runs `log`.
pub fn run(invocation: &Invocation, command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Head => head(invocation),
        LogCommand::Show(args) => show(invocation, &args),
        LogCommand::Query(args) => query::run(invocation, &args),
        LogCommand::Why(args) => why::run(invocation, &args),
        LogCommand::Tail(args) => tail(invocation, &args),
        LogCommand::Verify(args) => verify::run(invocation, &args),
        LogCommand::Checkpoint(args) => anchors::checkpoint(invocation, &args),
        LogCommand::Anchors => anchors::list(invocation),
        LogCommand::AcceptRollback(args) => anchors::accept(invocation, &args),
    }
}

fn head(invocation: &Invocation) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Known)?;
    let head = ledger.log().head()?;
    invocation.close(&ledger);
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "seq": head.seq,
            "hash": head.hash,
            "events": head.events,
            "recorded_at_ms": head.time.as_millis(),
        }));
    }
    out.line(&format!("{} {} {}", head.seq, head.hash, time::second(head.time)))
}

fn show(invocation: &Invocation, args: &ShowArgs) -> Result<(), Failure> {
    let filter = Filter::new(&args.filter, invocation.global.actor.clone())?;
    let ledger = invocation.open(Access::Known)?;
    let from = match filter.since() {
        Some(since) => args.from.max(ledger.log().first_at(since)?),
        None => args.from,
    };
    print(&invocation.out, &ledger, from, args.to, &filter, true)?;
    invocation.close(&ledger);
    Ok(())
}

/// Prints the events of a range as they come.
fn print(out: &Output, ledger: &Ledger, from: u64, to: u64, filter: &Filter, header: bool) -> Result<(), Failure> {
    if header {
        self::header(out)?;
    }
    let last = ledger.log().head()?.seq;
    if from > last {
        return Ok(());
    }
    let mut failed = None;
    ledger.log().read(from, to.min(last), &mut |entry| {
        if filter.wants(&entry)
            && let Err(failure) = print_entry(out, &entry)
        {
            failed = Some(failure);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(()), Err)
}

/// Prints what stands in which column.
fn header(out: &Output) -> Result<(), Failure> {
    if out.is_json() {
        return Ok(());
    }
    out.painted(&[(Style::Bold, "EVENT   TIME                      ACTOR         [KIND] WHAT \u{2014} REASON")])
}

/// Prints one event: a JSON object on a line, or a line for a person.
pub fn print_entry(out: &Output, entry: &Entry) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(&story::entry_json(entry));
    }
    let kind = entry.kind_name();
    let older = if entry.schema == entry.event.kind().schema() { String::new() } else { format!(" v{}", entry.schema) };
    let style = match kind.as_str() {
        "command_refused" => Style::Warn,
        "secret_shredded" | "tail_dropped" | "witness_set_aside" | "head_restored" | "journal_restored"
        | "anchor_conflict" | "branch_started" | "ledger_restored" => Style::Bad,
        _ => Style::Plain,
    };
    let what = story::summary(&entry.event);
    let reason = entry.caller.reason.as_ref().map(|reason| format!(" \u{2014} {reason}")).unwrap_or_default();
    out.painted(&[
        (Style::Plain, &format!("{:<7} ", entry.seq)),
        (Style::Dim, &format!("{}  ", entry.time)),
        (Style::Plain, &format!("{:<13} ", entry.caller.actor.as_str())),
        (Style::Dim, &format!("[{kind}{older}] ")),
        (style, &what),
        (Style::Dim, &reason),
    ])
}

fn tail(invocation: &Invocation, args: &TailArgs) -> Result<(), Failure> {
    let filter = Filter::default();
    let mut seen = journal_size(&invocation.home()?);
    let ledger = invocation.open(Access::Read)?;
    let end = ledger.log().head()?.events;
    if args.lines > 0 {
        print(&invocation.out, &ledger, end.saturating_sub(args.lines), u64::MAX, &filter, true)?;
    }
    invocation.close(&ledger);
    drop(ledger);
    if !args.follow {
        return Ok(());
    }
    let mut next = end;
    loop {
        invocation.out.flush()?;
        // The ledger stays closed in between: a reader that holds it would keep writers out.
        std::thread::sleep(Duration::from_millis(300));
        if invocation.seat.is_gone() {
            return Ok(());
        }
        let size = journal_size(&invocation.home()?);
        if size == seen {
            continue;
        }
        let ledger = match invocation.open(Access::Read) {
            Ok(ledger) => ledger,
            Err(failure) if failure.code == ExitCode::InUse => continue,
            Err(failure) => return Err(failure),
        };
        print(&invocation.out, &ledger, next, u64::MAX, &filter, false)?;
        next = ledger.log().head()?.events;
        invocation.close(&ledger);
        seen = size;
    }
}

/// How many segments there are and how long the last one is: what changes when events come.
fn journal_size(home: &Path) -> (usize, u64) {
    let Ok(entries) = std::fs::read_dir(home.join("journal")) else { return (0, 0) };
    let mut names: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    names.sort_unstable();
    let last = names.last().and_then(|path| path.metadata().ok()).map_or(0, |meta| meta.len());
    (names.len(), last)
}
