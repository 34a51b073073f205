//! `palyra-forensic`: looks at a ledger, a copy of one or what is left of one, and never changes it.
//!
//! Every command reads the evidence through `palyra_ledger::inspect::Evidence`, which cannot write; takes
//! stock of it before and after; and prints the same for the same input on any machine.
#![forbid(unsafe_code)]

mod args;
mod case;
mod inspect;
mod keyring;
mod manifest;
mod rows;
mod show;
mod timeline;
mod verify;

use clap::Parser;
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::{self, Output};

use args::{Cli, Command, Global};

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let Cli { global, command } = cli;
    let json = global.format == palyra_ledger::cli::args::Format::Json;
    // What is made on purpose (carved segments, rebuilt homes) is the user's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let out = match Output::new(global.format, global.color) {
        Ok(out) => out,
        Err(failure) => {
            output::print_failure(&failure, json);
            return failure.code.into();
        }
    };
    let done = run(&global, &out, command);
    let flushed = out.flush();
    let code = match (done, flushed) {
        (Ok(code), Ok(())) => code,
        (Ok(ExitCode::Ok), Err(failure)) | (Err(failure), _) => {
            out.failure(&failure);
            failure.code
        }
        // A reader that went away does not make a verdict clean.
        (Ok(code), Err(_)) => code,
    };
    code.into()
}

fn run(global: &Global, out: &Output, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Inspect(args) => inspect::run(global, out, &args),
        Command::Verify(args) => verify::run(global, out, &args),
        Command::Timeline(args) => timeline::run(global, out, &args),
        Command::Show(args) => show::run(global, out, &args),
        Command::Manifest(args) => manifest::run(global, out, &args),
    }
}
