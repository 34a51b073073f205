//! Replay, questions to the log, whole stories, and what a compromise touched.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod command_line;
mod compromise;
mod points;
mod query;
mod story;

use std::sync::Arc;

use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{ArgonCost, Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes};

/// A ledger on a simulated disk, with time in the test's hand.
fn config(disk: &SimDisk, seed: u64, clock: &ManualClock) -> Config {
    Config::new("/home")
        .medium(Arc::new(disk.clone()))
        .random(Arc::new(SeededRandom::new(seed)))
        .clock(Arc::new(clock.clone()))
        .without_background()
        .argon_cost(ArgonCost::for_tests())
}

fn init(disk: &SimDisk, clock: &ManualClock) -> Ledger {
    Ledger::init(config(disk, 1, clock), NewSlot::file("machine")).unwrap()
}

fn put(ledger: &Ledger, key: &str, value: &str) -> u64 {
    let value = SecretBytes::from(value.as_bytes());
    ledger.vault(Scope::global()).put(&key.parse().unwrap(), &value, PutOptions::new()).unwrap().seq
}
