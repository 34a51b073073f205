//! The command line's shape. Doc comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use palyra_ledger::SlotId;
use palyra_ledger::cli::args::ColorChoice;

use crate::bundle::BundleArgs;
use crate::carve::CarveArgs;
use crate::diff::DiffArgs;
use crate::export::ExportArgs;
use crate::inspect::InspectArgs;
use crate::manifest::ManifestArgs;
use crate::rebuild::RebuildArgs;
use crate::report::ReportArgs;
use crate::show::ShowArgs;
use crate::stats::StatsArgs;
use crate::timeline::TimelineArgs;
use crate::verify::VerifyArgs;

/// Looks at a ledger, a copy of one or what is left of one, and never changes it
#[derive(Debug, Parser)]
#[command(name = "palyra-forensic", version, propagate_version = false, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 intact and anchored, or done; 17 intact but unanchored; 16 truncated or rolled back; 15 damaged, forked or foreign; 4 a key is needed; 11 a key does not open; 10 nothing found; 18 not readable, or the evidence changed meanwhile; 2 usage. `carve` gives 15 where what it found is not whole. Nothing but 0 of `verify` may be read as clean."
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Tables and sentences for people.
    Table,
    /// JSON with stable fields.
    Json,
    /// One JSON value a line.
    Jsonl,
    /// CSV (RFC 4180).
    Csv,
    /// Open Cybersecurity Schema Framework, one event a line.
    Ocsf,
    /// Elastic Common Schema, one event a line.
    Ecs,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// How data is printed: `jsonl` and `csv` where there are rows, `ocsf` and `ecs` for `export`
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub format: Shape,
    /// The evidence is in use: files that grow or change meanwhile are noted, and are no error
    #[arg(long, global = true)]
    pub live: bool,
    /// Compare only sizes and times before and after, not digests: for images that take hours to hash
    #[arg(long, global = true)]
    pub no_hash: bool,
    /// When to use colour; `NO_COLOR` is honoured
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: ColorChoice,
}

/// What opens the bodies. Without any of these, nothing is opened.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Keys")]
pub struct KeyArgs {
    /// Open bodies with the keys that lie in the evidence, through the pinned slot
    #[arg(long)]
    pub keys: bool,
    /// Folder of the key ring and key table, instead of the evidence's own
    #[arg(long, value_name = "DIR")]
    pub keys_dir: Option<PathBuf>,
    /// Key file of the slot, in another place than the folder of keys
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_stdin")]
    pub key_file: Option<PathBuf>,
    /// Read the slot's passphrase from the first line of the standard input
    #[arg(long)]
    pub passphrase_stdin: bool,
    /// Key slot to open with, instead of the pinned one
    #[arg(long, value_name = "ID")]
    pub slot: Option<SlotId>,
}

impl KeyArgs {
    /// Whether everything that opens them lies in the evidence.
    pub const fn are_in_evidence(&self) -> bool {
        self.keys_dir.is_none() && self.key_file.is_none()
    }

    /// Whether keys are to be used.
    pub const fn wanted(&self) -> bool {
        self.keys || self.keys_dir.is_some() || self.key_file.is_some() || self.passphrase_stdin || self.slot.is_some()
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a folder or file is, without any key
    Inspect(InspectArgs),
    /// Check a log and give the verdict
    Verify(VerifyArgs),
    /// List events in order: what stands in the clear, and with keys who did what
    Timeline(TimelineArgs),
    /// Show one event with every part of it; never the value of a secret
    Show(ShowArgs),
    /// Count events by kind, day, epoch and actor
    Stats(StatsArgs),
    /// Compare two copies: what they have in common, and where they part
    Diff(DiffArgs),
    /// Find events in any bytes: damaged files, sled's copy, disk images
    Carve(CarveArgs),
    /// Make a clean ledger in a new folder from carved events and keys
    Rebuild(RebuildArgs),
    /// Write events for other tools: ocsf, ecs, jsonl or csv
    Export(ExportArgs),
    /// Put chosen events into one file with proofs of their place, or check such a file
    Bundle(BundleArgs),
    /// Make one page of what was found, with charts, that needs no script and no network
    Report(ReportArgs),
    /// List every file with its digests, for the chain of custody
    Manifest(ManifestArgs),
}
