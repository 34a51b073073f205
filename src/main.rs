//! The `palyra-ledger` command.
fn main() {}
