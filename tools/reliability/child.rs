//! This program as a child of itself: what is to be killed, or to live with little, runs in a process of its own.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use crate::{Fault, faults, kill};

/// The variable that makes a child of this program.
const ASKED: &str = "PALYRA_LAB_CHILD";

/// What a child does.
#[derive(Debug, Serialize, Deserialize)]
pub enum Child {
    /// Works on a home until it is killed.
    Kill(kill::Orders),
    /// Works under a limit on the size of a file until that is met.
    Limited(faults::Orders),
    /// Fills a small file system, makes room and opens again.
    Small(faults::Small),
}

/// A command that runs a child; what it says comes by a pipe.
pub fn command(child: &Child) -> Result<Command, Fault> {
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.env(ASKED, serde_json::to_string(child)?).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

/// Does what a child is asked for, if this process is one.
pub fn asked() -> Option<ExitCode> {
    let asked = std::env::var(ASKED).ok()?;
    let done = serde_json::from_str(&asked).map_err(Fault::from).and_then(|child| match child {
        Child::Kill(orders) => kill::child(&orders),
        Child::Limited(orders) => faults::limited(&orders),
        Child::Small(orders) => faults::small(&orders),
    });
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("lab: {fault}");
            ExitCode::FAILURE
        }
    })
}
