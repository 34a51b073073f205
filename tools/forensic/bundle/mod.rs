//! `bundle`: chosen events in one file, provable without the ledger and without keys.

mod create;
mod verify;

use clap::{Args, Subcommand};
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;

use crate::args::Global;

/// Arguments of `bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put chosen events into a new file, with the proofs of their place under a signed checkpoint
    Create(Box<create::CreateArgs>),
    /// Check a bundle: needs no ledger, no network and no secret key
    Verify(verify::VerifyArgs),
}

/// Runs `bundle`.
pub fn run(global: &Global, out: &Output, args: &BundleArgs) -> Result<ExitCode, Failure> {
    match &args.verb {
        Verb::Create(args) => create::run(global, out, args),
        Verb::Verify(args) => verify::run(out, args),
    }
}
