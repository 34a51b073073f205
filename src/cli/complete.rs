//! Completion scripts and the list of exit codes.

use clap::CommandFactory;
use serde_json::json;

use super::args::Cli;
use super::exit::{ExitCode, Failure};
use super::invocation::Invocation;

/// Prints a completion script.
pub fn script(invocation: &Invocation, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "palyra-ledger", &mut script);
    invocation.out.verbatim(&script)
}

/// Prints the exit codes.
pub fn exit_codes(invocation: &Invocation) -> Result<(), Failure> {
    if invocation.out.is_json() {
        let codes: Vec<_> = ExitCode::ALL
            .iter()
            .map(|code| json!({"code": code.number(), "kind": code.name(), "meaning": code.meaning()}))
            .collect();
        return invocation.out.json(&json!({"exit_codes": codes}));
    }
    let rows: Vec<_> = ExitCode::ALL
        .iter()
        .map(|code| vec![code.number().to_string(), code.name().to_owned(), code.meaning().to_owned()])
        .collect();
    invocation.out.table(&["CODE", "KIND", "MEANING"], &rows)
}
