//! `doctor`: what is well, what is not, and what to do about it.

mod files;
mod format;
mod inside;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::engine::{Config, Format, Ledger};

use super::exit::{ExitCode, Failure};
use super::invocation::Invocation;
use super::output::{Output, Style};
use super::story;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Mend what can be mended: the index, the second copy, the head file
    #[arg(long)]
    pub repair: bool,
    /// Do not ask
    #[arg(long, requires = "repair")]
    yes: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Problem,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Problem => "problem",
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Ok => Style::Good,
            Self::Warn => Style::Warn,
            Self::Problem => Style::Bad,
        }
    }
}

/// One check and its result.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    what: String,
    remedy: String,
}

/// Every check so far.
#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, name: &'static str, what: impl Into<String>) {
        self.0.push(Check { name, state: State::Ok, what: what.into(), remedy: String::new() });
    }

    fn warn(&mut self, name: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Check { name, state: State::Warn, what: what.into(), remedy: remedy.into() });
    }

    fn problem(&mut self, name: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Check { name, state: State::Problem, what: what.into(), remedy: remedy.into() });
    }

    fn worst(&self) -> State {
        let has = |state| self.0.iter().any(|check| check.state == state);
        match () {
            () if has(State::Problem) => State::Problem,
            () if has(State::Warn) => State::Warn,
            () => State::Ok,
        }
    }
}

/// Runs `doctor`.
pub fn run(invocation: &Invocation, args: &DoctorArgs) -> Result<(), Failure> {
    let home = invocation.home()?;
    if std::fs::symlink_metadata(&home).is_err() {
        return Err(crate::engine::Error::NoLedger { home }.into());
    }
    let repaired = if args.repair { Some(repair(invocation, args.yes)?) } else { None };
    let mut checks = Checks::default();
    files::check(&home, &mut checks);
    // Before anything is opened: opening brings an older index up to this version.
    let format = Format::of(&Config::new(&home)).ok();
    if let Some(format) = &format {
        format::check(format, &mut checks);
    }
    inside::check(invocation, &home, &mut checks);
    let out = &invocation.out;
    if out.is_json() {
        out.json(&to_json(&checks, repaired.as_deref(), format.as_ref()))?;
    } else {
        print(out, &checks, repaired.as_deref())?;
    }
    if checks.worst() == State::Problem { Err(Failure::quiet(ExitCode::DoctorFindings)) } else { Ok(()) }
}

fn to_json(checks: &Checks, repaired: Option<&[String]>, format: Option<&Format>) -> Value {
    let list: Vec<Value> = checks
        .0
        .iter()
        .map(|check| {
            let mut map = Map::new();
            map.insert("name".to_owned(), check.name.into());
            map.insert("state".to_owned(), check.state.name().into());
            map.insert("what".to_owned(), check.what.clone().into());
            if !check.remedy.is_empty() {
                map.insert("hint".to_owned(), check.remedy.clone().into());
            }
            Value::Object(map)
        })
        .collect();
    let mut report = Map::new();
    report.insert("ok".to_owned(), (checks.worst() != State::Problem).into());
    if let Some(done) = repaired {
        report.insert("repaired".to_owned(), json!(done));
    }
    report.insert("format".to_owned(), format.map_or(Value::Null, format::to_json));
    report.insert("checks".to_owned(), list.into());
    Value::Object(report)
}

fn print(out: &Output, checks: &Checks, repaired: Option<&[String]>) -> Result<(), Failure> {
    if let Some(done) = repaired {
        if done.is_empty() {
            out.line("repair: the ledger opened for writing and there was nothing to record")?;
        }
        for line in done {
            out.painted(&[(Style::Bold, "repair: "), (Style::Plain, line)])?;
        }
    }
    for check in &checks.0 {
        let state = format!("{:<8}", check.state.name());
        out.painted(&[
            (check.state.style(), &state),
            (Style::Bold, &format!("{:<13}", check.name)),
            (Style::Plain, &check.what),
        ])?;
        if !check.remedy.is_empty() {
            out.painted(&[(Style::Dim, &format!("{:21}-> {}", "", check.remedy))])?;
        }
    }
    let count = |state, noun| story::count(checks.0.iter().filter(|check| check.state == state).count() as u64, noun);
    let (problems, warnings) = (count(State::Problem, "problem"), count(State::Warn, "warning"));
    out.painted(&[(checks.worst().style(), &format!("{problems}, {warnings}"))])
}

/// Opens for writing with the journal's end taken as the truth; everything else that can be mended
/// is mended by opening and closing. Returns what the log then says was done.
fn repair(invocation: &Invocation, yes: bool) -> Result<Vec<String>, Failure> {
    let question = "Restore what is damaged in the journal from the second copy where it can be, else take the \
                    journal's end as it is, and rebuild the index?";
    invocation.confirm(question, yes)?;
    let config = invocation.config()?;
    let before = next_event(invocation, &config)?;
    let ledger = invocation.repair(&config.rebuild_index())?;
    // Closing waits until the second copy has followed.
    ledger.close()?;
    drop(ledger);
    let ledger = invocation.open(super::invocation::Access::Read)?;
    let mut done = Vec::new();
    let end = ledger.log().head()?.events;
    if before < end {
        ledger.log().read(before, end - 1, &mut |entry| {
            done.push(format!("event {}: {}", entry.seq, story::summary(&entry.event)));
            std::ops::ControlFlow::Continue(())
        })?;
    }
    invocation.close(&ledger);
    Ok(done)
}

/// The number that the next event will have, as far as the files say.
fn next_event(invocation: &Invocation, config: &Config) -> Result<u64, Failure> {
    if let Ok(ledger) = Ledger::open(config.clone().read_only()) {
        let end = ledger.log().head()?.events;
        invocation.close(&ledger);
        return Ok(end);
    }
    let report = Ledger::examine(config)?;
    Ok(report.head.map_or(0, |head| head.seq + 1))
}
