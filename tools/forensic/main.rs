//! `palyra-forensic`: looks at a ledger, a copy of one or what is left of one, and never changes it.
//!
//! Every command reads the evidence through `palyra_ledger::inspect::Evidence`, which cannot write; takes
//! stock of it before and after; and prints the same for the same input on any machine.
#![forbid(unsafe_code)]

mod args;
mod bundle;
mod carve;
mod case;
mod diff;
mod export;
mod inspect;
mod keyring;
mod manifest;
mod rebuild;
mod report;
mod rows;
mod show;
mod stats;
mod timeline;
mod verify;

use clap::Parser;
use palyra_ledger::cli::args::Format;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{self, Output};

use args::{Cli, Command, Global, Shape};

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let Cli { global, command } = cli;
    let format = if global.format == Shape::Table { Format::Table } else { Format::Json };
    // What is made on purpose (carved segments, rebuilt homes) is the user's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let out = match Output::new(format, global.color) {
        Ok(out) => out,
        Err(failure) => {
            output::print_failure(&failure, format == Format::Json);
            return failure.code.into();
        }
    };
    let done = run(&global, &out, command);
    let flushed = out.flush();
    let code = match (done, flushed) {
        (Ok(ExitCode::Ok), Err(failure)) | (Err(failure), _) => {
            out.failure(&failure);
            failure.code
        }
        // A reader that went away does not make a verdict clean.
        (Ok(code), _) => code,
    };
    code.into()
}

fn run(global: &Global, out: &Output, command: Command) -> Result<ExitCode, Failure> {
    let rows = matches!(command, Command::Timeline(_) | Command::Export(_));
    let schema = matches!(global.format, Shape::Ocsf | Shape::Ecs);
    if !(rows || matches!(global.format, Shape::Table | Shape::Json))
        || (schema && !matches!(command, Command::Export(_)))
    {
        let hint = "`timeline` and `export` print jsonl and csv, `export` also ocsf and ecs";
        return Err(Failure::usage("this command does not print in that format", hint));
    }
    match command {
        Command::Inspect(args) => inspect::run(global, out, &args),
        Command::Verify(args) => verify::run(global, out, &args),
        Command::Timeline(args) => timeline::run(global, out, &args),
        Command::Show(args) => show::run(global, out, &args),
        Command::Stats(args) => stats::run(global, out, &args),
        Command::Diff(args) => diff::run(global, out, &args),
        Command::Carve(args) => carve::run(global, out, &args),
        Command::Rebuild(args) => rebuild::run(global, out, &args),
        Command::Export(args) => export::run(global, out, &args),
        Command::Bundle(args) => bundle::run(global, out, &args),
        Command::Report(args) => report::run(global, out, &args),
        Command::Manifest(args) => manifest::run(global, out, &args),
    }
}
