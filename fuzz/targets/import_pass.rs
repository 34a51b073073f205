//! Fuzz target: see `palyra_ledger::testing::fuzz::import_pass` for what it checks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| palyra_ledger::testing::fuzz::import_pass(bytes));
