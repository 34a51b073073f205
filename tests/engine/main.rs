//! The engine, tried through the library's door: models, crashes, faults, tampering, crossing scopes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

mod anchors;
mod common;
mod concurrency;
mod crash;
mod faults;
mod future;
mod invariants;
mod keys;
mod kill;
mod lock;
mod model;
mod reads;
mod scopes;
mod shred;
mod tamper;
mod traces;
mod upgrade;
mod witness;
