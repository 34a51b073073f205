//! `timeline`: events in order.

use std::path::PathBuf;

use clap::Args;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::event::Kind;
use palyra_ledger::inspect::{Site, Verdict, assess};
use palyra_ledger::log::{Frame, Header};
use palyra_ledger::{Entry, Timestamp};

use crate::args::{Global, KeyArgs, Shape};
use crate::case::{Case, progress};
use crate::keyring;
use crate::rows::{self, Times};

/// Bytes of text that are gathered before they are written.
const GATHER: usize = 256 * 1024;

/// Arguments of `timeline`.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    /// A home, a journal, one segment, or `-` for one on the standard input
    path: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Which events are shown.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// First event
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// Last event
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    through: u64,
    /// Not before this time (RFC 3339, a date in UTC, or milliseconds since 1970; no age: that would depend on now)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only this kind of event; several may be given
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
}

impl FilterArgs {
    /// What is narrowed, in words.
    pub fn in_words(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        if self.from > 0 || self.through < u64::MAX {
            let _ = write!(text, "; from {} through {}", self.from, self.through);
        }
        for (word, time) in [("since", self.since), ("until", self.until)] {
            text.push_str(&time.map(|time| format!("; {word} {time}")).unwrap_or_default());
        }
        for kind in &self.kind {
            let _ = write!(text, "; kind {kind}");
        }
        text
    }
}

fn moment(text: &str) -> Result<Timestamp, palyra_ledger::TimeError> {
    // The beginning of a day in UTC.
    if let Ok(day) = text.parse::<jiff::civil::Date>()
        && text.len() == "2026-01-31".len()
    {
        return Timestamp::parse(&format!("{day}T00:00:00Z"), Timestamp::from_millis(0), false);
    }
    // An age would depend on when the tool runs: whatever is relative to now falls before 1970 and is refused.
    Timestamp::parse(text, Timestamp::from_millis(0), false)
}

/// Which events are shown, checked.
pub struct Filter {
    args: FilterArgs,
    kinds: Vec<u16>,
}

impl Filter {
    /// Checks the names of kinds.
    pub fn new(args: &FilterArgs) -> Result<Self, Failure> {
        let number = |name: &String| {
            Kind::from_name(name).map(Kind::number).or_else(|| name.parse().ok()).ok_or_else(|| {
                let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                Failure::usage(format!("`{name}` is no kind of event"), format!("the kinds are {}", known.join(", ")))
            })
        };
        Ok(Self { args: args.clone(), kinds: args.kind.iter().map(number).collect::<Result<_, _>>()? })
    }

    /// Whether an event is shown.
    pub fn wants(&self, header: &Header) -> bool {
        let args = &self.args;
        (args.from..=args.through).contains(&header.seq)
            && args.since.is_none_or(|since| header.time >= since)
            && args.until.is_none_or(|until| header.time <= until)
            && (self.kinds.is_empty() || self.kinds.contains(&header.kind))
    }
}

/// Runs `timeline`.
pub fn run(global: &Global, out: &Output, args: &TimelineArgs) -> Result<ExitCode, Failure> {
    let shape = global.format;
    if shape == Shape::Csv {
        out.verbatim(rows::CSV_HEADER.as_bytes())?;
    }
    let mut times = Times::default();
    stream(global, out, (&args.path, &args.filter, &args.keys), &mut |text, frame, entry| match shape {
        Shape::Table => rows::push_line(text, &mut times, frame, entry),
        Shape::Json | Shape::Jsonl | Shape::Ocsf | Shape::Ecs => rows::push_json(text, &mut times, frame, entry),
        Shape::Csv => rows::push_csv(text, &mut times, frame, entry),
    })
}

/// Appends one row to a text.
pub type Write<'a> = &'a mut dyn FnMut(&mut Vec<u8>, &Frame<'_>, Option<&Entry>);

/// Walks a log and writes a row for every event that is wanted; says on the error output what is wrong with the
/// log, and gives the code that this has.
pub fn stream(
    global: &Global,
    out: &Output,
    (path, filter, keys): (&std::path::Path, &FilterArgs, &KeyArgs),
    write: Write<'_>,
) -> Result<ExitCode, Failure> {
    let filter = Filter::new(filter)?;
    let case = Case::open(path, global)?;
    let keys = keyring::open(&case, keys)?;
    let course = case.course()?;
    let bar = progress(case.log_bytes(&course), "reading");
    let mut text = Vec::with_capacity(GATHER + 64 * 1024);
    let mut failed: Option<Failure> = None;
    let mut sealed = 0_u64;
    let mut seen = 0_u64;
    let assessment = assess(&case.evidence, &course, &[], case.is_live(), &mut |frame: &Frame<'_>, _: Site<'_>| {
        seen += frame.bytes().len() as u64;
        if !filter.wants(&frame.header) || failed.is_some() {
            return;
        }
        let entry = keys.as_ref().and_then(|keys| keys.entry(frame).ok());
        sealed += u64::from(keys.is_some() && entry.is_none());
        write(&mut text, frame, entry.as_ref());
        if text.len() >= GATHER {
            bar.set_position(seen);
            failed = out.verbatim(&text).err();
            text.clear();
        }
    });
    bar.finish_and_clear();
    if let Some(failure) = failed {
        return Err(failure);
    }
    out.verbatim(&text)?;
    if sealed > 0 {
        out.warn(&format!("{sealed} events did not open with these keys: only what stands in the clear is shown"));
    }
    let code = remark(out, &assessment.verdict());
    case.close(out)?;
    Ok(code)
}

/// Says on the error output that something is wrong with the log. Rows are no verdict: what is merely unanchored
/// is not said here.
fn remark(out: &Output, verdict: &Verdict) -> ExitCode {
    if matches!(verdict, Verdict::IntactAnchored | Verdict::IntactUnanchored) {
        return ExitCode::Ok;
    }
    out.warn(&format!("the log is not whole: {verdict}; `palyra-forensic verify` names what is wrong"));
    let code = ExitCode::ALL.iter().copied().find(|code| code.number() == verdict.exit_code());
    code.unwrap_or(ExitCode::Internal)
}
