//! Arguments of `secrets`. Doc comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::base::{BackendKind, SecretPath};
use crate::deliver::FileMode;

/// What `secrets` does.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Write a new version of a secret
    ///
    /// The value comes from --stdin or --file byte for byte: nothing is stripped, not even a last
    /// newline (`printf %s "$TOKEN" | palyra-ledger secrets set REF --stdin`). When neither is given
    /// it is asked for without echo; the line end is then no part of it.
    Set(Set),
    /// Show a secret's metadata, or its value with --reveal
    Get(Get),
    /// List secrets
    List(List),
    /// Show every version of a secret
    History {
        /// The secret: SCOPE/NAME, for example `global/openai_api_key`
        #[arg(value_name = "REF")]
        reference: SecretPath,
    },
    /// Change description, labels or expiry without a new version
    Describe(Describe),
    /// Hide a secret or one version; undelete brings it back
    Delete(Select),
    /// Bring a deleted secret or version back
    Undelete(Select),
    /// Destroy a secret or one version for good: its key is overwritten
    Shred(Shred),
    /// Move every sealed value to another storage backend
    ///
    /// What is moved is sealed and stays sealed. It is copied, read back and compared before the ledger is
    /// switched, then the former copies are removed. Run it again after an interruption; naming the backend that
    /// it came from gives an unfinished move up. Naming the backend in force sweeps what no secret names.
    MigrateBackend(MigrateBackend),
}

impl SecretsCommand {
    /// Whether the command writes a file, which is its caller's and not a daemon's.
    pub const fn writes_a_file(&self) -> bool {
        matches!(self, Self::Get(Get { out_file: Some(_), .. }))
    }
}

/// Arguments of `secrets set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The secret: SCOPE/NAME, for example `global/openai_api_key`
    #[arg(value_name = "REF")]
    pub reference: SecretPath,
    /// Catches a value given as an argument, so that it is refused without being repeated.
    #[arg(hide = true)]
    pub extra: Vec<std::ffi::OsString>,
    /// Where the value comes from.
    #[command(flatten)]
    pub source: Source,
    /// Only if the current version has this number; 0: only if the secret does not exist
    #[arg(long, value_name = "N")]
    pub if_version: Option<u32>,
    /// What it is; an empty text removes it
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A label; given once or more, these replace all labels
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// When it is to be replaced.
    #[command(flatten)]
    pub expiry: Expiry,
}

/// Where a value comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Source {
    /// Read the value from the standard input, all bytes as they are
    #[arg(long)]
    pub stdin: bool,
    /// Read the value from a file, all bytes as they are
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// When a value is to be replaced.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Expiry {
    /// Warn from this time on, counted from now: 30d, 12h, 1d12h
    #[arg(long, value_name = "DURATION")]
    pub expires_in: Option<String>,
    /// Warn from this time on: RFC 3339 or a date
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
}

/// Arguments of `secrets get`.
#[derive(Debug, Args)]
pub struct Get {
    /// The secret: SCOPE/NAME, for example `global/openai_api_key`
    #[arg(value_name = "REF")]
    pub reference: SecretPath,
    /// Print the value alone: its bytes and nothing else, in every format
    #[arg(long)]
    pub reveal: bool,
    /// Write the value into a file, whole or not at all, and print what was written
    #[arg(long, value_name = "FILE", conflicts_with = "reveal")]
    pub out_file: Option<PathBuf>,
    /// Permissions of the file
    #[arg(long, value_name = "MODE", default_value = "0600", requires = "out_file")]
    pub file_mode: FileMode,
    /// Replace a file that stands there; it becomes no wider open than it was
    #[arg(long, requires = "out_file")]
    pub force: bool,
    /// This version instead of the current one
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
}

/// Arguments of `secrets list`.
#[derive(Debug, Args)]
pub struct List {
    /// The scope: global, principal:ID, channel:NAME:ACCOUNT or skill:ID; every scope if none is named
    pub scope: Option<String>,
    /// Every scope that begins with SCOPE, for example `channel:slack`
    #[arg(long)]
    pub recursive: bool,
    /// Only names that begin with this
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Deleted and shredded ones too
    #[arg(long)]
    pub all: bool,
    /// At most this many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Only what comes after this secret: the next page
    #[arg(long, value_name = "REF")]
    pub after: Option<SecretPath>,
}

/// Arguments of `secrets describe`.
#[derive(Debug, Args)]
pub struct Describe {
    /// The secret: SCOPE/NAME, for example `global/openai_api_key`
    #[arg(value_name = "REF")]
    pub reference: SecretPath,
    /// Only if the current version has this number
    #[arg(long, value_name = "N")]
    pub if_version: Option<u32>,
    /// What it is; an empty text removes it
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A label; given once or more, these replace all labels
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, conflicts_with = "no_labels")]
    pub label: Vec<(String, String)>,
    /// Remove all labels
    #[arg(long)]
    pub no_labels: bool,
    /// When it is to be replaced.
    #[command(flatten)]
    pub expiry: Expiry,
    /// Remove the expiry
    #[arg(long, conflicts_with_all = ["expires_in", "expires_at"])]
    pub no_expiry: bool,
}

/// A secret, or one version of it.
#[derive(Debug, Args)]
pub struct Select {
    /// The secret: SCOPE/NAME, for example `global/openai_api_key`
    #[arg(value_name = "REF")]
    pub reference: SecretPath,
    /// This version alone; otherwise all of them
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
    /// Only if the current version has this number
    #[arg(long, value_name = "N")]
    pub if_version: Option<u32>,
}

/// Arguments of `secrets migrate-backend`.
#[derive(Debug, Args)]
pub struct MigrateBackend {
    /// Where to: ledger, `encrypted_file`, `linux_secret_service`, `macos_keychain` or `windows_dpapi`
    #[arg(value_name = "KIND")]
    pub kind: BackendKind,
    /// Leave what the former backend still holds: for an earlier move whose former backend is gone for good
    #[arg(long, conflicts_with = "dry_run")]
    pub leave_former: bool,
    /// Say what would be done, and whether that backend can be reached
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `secrets shred`.
#[derive(Debug, Args)]
pub struct Shred {
    /// What to destroy.
    #[command(flatten)]
    pub select: Select,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_split_at_its_first_equals_sign() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(("a".to_owned(), String::new())));
        assert!(label("=b").is_err() && label("ab").is_err());
    }
}
