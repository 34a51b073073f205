//! The `palyra-ledger` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    palyra_ledger::cli::main()
}
