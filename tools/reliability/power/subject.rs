//! What is recorded: programs that write a store, and how a store is checked.

use std::path::Path;

use super::{ledger, peers};
use crate::Fault;

/// What a check of a disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It opens, and holds what was acknowledged.
    Good,
    /// What was acknowledged is not there.
    Lost(String),
    /// It does not open.
    Unopened(String),
    /// It holds what it must not, or something else is wrong.
    Wrong(String),
}

/// A program that writes a store.
#[derive(Debug)]
pub struct Subject {
    /// Its name, without a space.
    pub name: &'static str,
    /// What it does, for the table.
    pub what: &'static str,
    /// Makes what it begins with in a folder; says what is promised by then.
    pub prepare: fn(&Path, u64) -> Result<Vec<String>, Fault>,
    /// The recorded part, in a process of its own.
    pub work: fn(&Path, u64) -> Result<(), Fault>,
    /// The recorded part of a recovery.
    pub recover: fn(&Path) -> Result<(), Fault>,
    /// Checks a disk against what was said.
    pub check: fn(&Path, &[String]) -> Verdict,
}

/// The one of this name.
pub fn named(name: &str) -> Option<&'static Subject> {
    ledger::SUBJECTS.iter().chain(peers::SUBJECTS).find(|subject| subject.name == name)
}
