//! `backup`: one sealed file, checked anywhere, restored on an empty machine.

mod create;
mod restore;
mod staged;
mod verify;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::backup::{BackupFile, Identities};
use crate::base::SecretBytes;
use crate::engine::{Config, Error};

use super::exit::{ExitCode, Failure};
use super::interrupt::Watch;
use super::invocation::Invocation;

/// Longest file of identities in bytes: some thousands of them.
const IDENTITY_FILE_MAX: u64 = 256 * 1024;

/// What `backup` does.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Write a backup, also while a daemon serves the ledger and others write
    Create(create::CreateArgs),
    /// Check backups: whole, authentic, joined, and that they can be opened
    Verify(verify::VerifyArgs),
    /// Make the ledger anew from a full backup and its increments, where there is none
    Restore(restore::RestoreArgs),
}

/// What opens a backup beside the options of every command.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// File with an age identity (`AGE-SECRET-KEY-1...`) that the backup was made for
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

impl BackupCommand {
    /// Whether a daemon that serves the ledger runs it: only what goes to the standard output.
    pub fn is_forwarded(&self) -> bool {
        matches!(self, Self::Create(args) if args.is_standard_output())
    }
}

/// Runs `backup`.
pub fn run(invocation: &Invocation, command: BackupCommand) -> Result<(), Failure> {
    match command {
        BackupCommand::Create(args) => create::run(invocation, &args),
        BackupCommand::Verify(args) => verify::run(invocation, &args),
        BackupCommand::Restore(args) => restore::run(invocation, &args),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => ExitCode::NotFound,
        std::io::ErrorKind::PermissionDenied => ExitCode::Denied,
        _ => ExitCode::Io,
    };
    Failure::new(code, format!("cannot read {}: {error}", path.display()), "name a file that is there")
}

/// Gets ready for signals: what is not whole is cleared away before one ends us.
fn watch() -> Result<Watch, Failure> {
    Watch::new().map_err(|error| {
        Failure::new(ExitCode::Internal, format!("cannot wait for signals: {error}"), "look at the system's limits")
    })
}

/// A recipient or an identity that does not read, by where it was given.
fn unusable(place: &str) -> impl Fn(crate::backup::BackupError) -> Failure + '_ {
    move |source| {
        let hint = "name an age recipient (`age1...`), or a file with an identity (`AGE-SECRET-KEY-1...`)";
        Failure::usage(format!("{place}: {source}"), hint)
    }
}

/// A fault of a file, by its name.
fn of_file(path: &Path) -> impl Fn(crate::backup::BackupError) -> Failure + '_ {
    move |source| Error::Backup { name: path.display().to_string(), source }.into()
}

fn files(paths: &[PathBuf]) -> Result<Vec<BackupFile>, Failure> {
    paths.iter().map(|path| BackupFile::open(path).map_err(|error| unreadable(path, &error))).collect()
}

impl IdentityArgs {
    fn read(&self) -> Result<Identities, Failure> {
        let mut identities = Identities::default();
        for path in &self.identity {
            let failed = |error| unreadable(path, &error);
            let file = std::fs::File::open(path).map_err(failed)?;
            // Room for all of it from the start: a vector that grows leaves copies behind.
            let len = usize::try_from(file.metadata().map_or(0, |facts| facts.len()).min(IDENTITY_FILE_MAX));
            let mut bytes = Zeroizing::new(Vec::with_capacity(len.unwrap_or(0) + 64));
            file.take(IDENTITY_FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
            let name = path.display().to_string();
            identities.add_file(&SecretBytes::from(bytes.as_slice())).map_err(unusable(&name))?;
        }
        Ok(identities)
    }
}

/// How backups are opened: by what the command line gives, and the home's own key file where there is one.
fn config(invocation: &Invocation) -> Result<Config, Failure> {
    Ok(invocation.config()?.credential(invocation.credential()?))
}
