//! The command line's shape. Doc comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::base::SlotId;

use super::auth::AuthCommand;
use super::backup::BackupCommand;
use super::ca::CaCommand;
use super::certs::CertsCommand;
use super::compromise::CompromiseCommand;
use super::devices::DevicesCommand;
use super::doctor::DoctorArgs;
use super::export::ExportArgs;
use super::import::ImportCommand;
use super::init::InitArgs;
use super::keys::KeysCommand;
use super::log::LogCommand;
use super::pairing::PairingCommand;
use super::programs::{InjectArgs, RunArgs, WatchArgs};
use super::replay::ReplayArgs;
use super::resolve::ResolveArgs;
use super::secrets::SecretsCommand;
use super::serve::ServeArgs;
use super::tour::TourArgs;

/// A trust store for machines that run agents: one sealed, hash-chained log with a secrets vault on top.
#[derive(Debug, Parser)]
#[command(name = "palyra-ledger", version, propagate_version = false, max_term_width = 100)]
#[command(
    after_help = "Data goes to stdout, everything else to stderr. `palyra-ledger exit-codes` explains exit codes."
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The ledger's home; by default palyra-ledger in the XDG state folder
    #[arg(long, global = true, value_name = "DIR", env = "PALYRA_LEDGER_HOME")]
    pub home: Option<PathBuf>,
    /// How data is printed
    #[arg(long, global = true, value_enum, default_value = "table", env = "PALYRA_LEDGER_FORMAT")]
    pub format: Format,
    /// Seconds to wait for another process that has the ledger open; 0: do not wait
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub lock_wait: u64,
    /// Key slot to open the ledger with, instead of the pinned one; a command that writes then pins it
    #[arg(long, global = true, value_name = "ID")]
    pub slot: Option<SlotId>,
    /// File whose first line is the passphrase; or name it in `PALYRA_LEDGER_PASSPHRASE_FILE`
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,
    /// Key file in another place than the home's keys folder
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Read the recovery words of a recovery slot from the standard input's first line
    #[arg(long, global = true, conflicts_with_all = ["passphrase_file", "key_file"])]
    pub recovery_stdin: bool,
    /// Who acts, for the log; by default the user's name
    #[arg(long, global = true, value_name = "NAME")]
    pub actor: Option<String>,
    /// Why, for the log
    #[arg(long, global = true, value_name = "TEXT")]
    pub reason: Option<String>,
    /// When to use colour; `NO_COLOR` is honoured
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: ColorChoice,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences for people.
    Table,
    /// JSON with stable fields.
    Json,
}

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new ledger
    Init(InitArgs),
    /// Keep and read secrets
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Resolve a reference to a secret, or explain why it does not resolve
    Resolve(ResolveArgs),
    /// Resolve references for a client of the daemon
    #[command(hide = true)]
    Resolving,
    /// Manage the ways in and the keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Read and verify the log
    #[command(subcommand)]
    Log(LogCommand),
    /// See the state as it was at any event or time
    Replay(ReplayArgs),
    /// Find what a compromise touched, and do what is to be done about it
    #[command(subcommand)]
    Compromise(CompromiseCommand),
    /// Pair devices: make codes, answer requests, join
    #[command(subcommand)]
    Pairing(PairingCommand),
    /// List, name and revoke paired devices
    #[command(subcommand)]
    Devices(DevicesCommand),
    /// List, renew, revoke and export certificates
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Show and export the certificate authority
    #[command(subcommand)]
    Ca(CaCommand),
    /// Keep, refresh and choose service credentials
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Make, verify and restore backups: one sealed file each
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Serve paired devices and the local command line until stopped
    Serve(ServeArgs),
    /// Run a program with secrets in its environment, on descriptors or in files
    Run(RunArgs),
    /// Fill a template with secrets
    Inject(InjectArgs),
    /// Remove mounted files when the program that mounted them is gone
    #[command(hide = true)]
    WatchMounts(WatchArgs),
    /// Bring in what another store holds, in one recorded act
    #[command(subcommand)]
    Import(ImportCommand),
    /// Give out everything at once, for moving elsewhere
    Export(ExportArgs),
    /// Check the ledger's health, and mend what can be mended
    Doctor(DoctorArgs),
    /// See everything at work on a temporary ledger
    Tour(TourArgs),
    /// List the exit codes
    ExitCodes,
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}
