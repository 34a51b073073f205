//! What resolving gives: a value or a reason, and what may be told about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{KeyedPrint, SecretBytes, SourceKind, Timestamp};
use crate::event::vault::{ResolveReason, ResolveStatus};

/// Why a reference gave no value, with what is known beside. Never a part of a value, nor of what a program
/// printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why.
    pub code: ResolveReason,
    /// What is known beside.
    pub detail: Detail,
}

/// What is known beside a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Detail {
    /// Nothing.
    None,
    /// The system's error number.
    System {
        /// The number.
        errno: i32,
    },
    /// How a program ended.
    Ended {
        /// Its exit status, where it has one.
        status: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// How many bytes it wrote to its error output.
        stderr_bytes: u64,
    },
    /// A bound, in bytes or milliseconds.
    Bound {
        /// The bound.
        max: u64,
    },
    /// An error of the vault.
    Vault {
        /// Its text.
        what: String,
    },
}

impl From<ResolveReason> for Reason {
    fn from(code: ResolveReason) -> Self {
        Self { code, detail: Detail::None }
    }
}

impl Reason {
    pub(super) const fn bound(code: ResolveReason, max: u64) -> Self {
        Self { code, detail: Detail::Bound { max } }
    }

    pub(super) fn system(code: ResolveReason, error: &std::io::Error) -> Self {
        let detail = error.raw_os_error().map_or(Detail::None, |errno| Detail::System { errno });
        Self { code, detail }
    }

    /// What became of the reference.
    #[must_use]
    pub const fn status(&self) -> ResolveStatus {
        self.code.status()
    }

    const fn text(&self) -> &'static str {
        match self.code {
            ResolveReason::ScopeDenied => "the secret is of a scope that this resolver is not bound to",
            ResolveReason::NoSecret => "there is no such secret",
            ResolveReason::NoVersion => "the secret has no such version",
            ResolveReason::Deleted => "the secret is deleted",
            ResolveReason::Shredded => "the secret's key was destroyed",
            ResolveReason::VaultDamaged => "the secret cannot be opened",
            ResolveReason::VaultLocked => "the keystore that holds the secret is locked",
            ResolveReason::VaultAway => "the backend that holds the secret does not answer",
            ResolveReason::EnvNotAllowed => "the variable is not in resolve.env_allow",
            ResolveReason::EnvUnset => "the variable is not set",
            ResolveReason::FileOutside => "the file is below no folder of resolve.file_dirs",
            ResolveReason::FileMissing => "there is no such file",
            ResolveReason::FileLink => "a part of its path is a symbolic link",
            ResolveReason::FileKind => "it is no regular file, or a part of its path is no folder",
            ResolveReason::FileOwner => {
                "it, or a folder on the way to it, belongs to another user than this one or root"
            }
            ResolveReason::FileMode => "others may read or write it, or write to a folder on the way to it",
            ResolveReason::FileFailed => "the file cannot be read",
            ResolveReason::ExecNotAllowed => "the program is not in resolve.exec_allow",
            ResolveReason::ExecKind => "the program is no executable file, or runs as another user than its caller",
            ResolveReason::ExecOwner => {
                "the program, or a folder on the way to it, belongs to another user than this one or root"
            }
            ResolveReason::ExecMode => "others may write to the program, or to a folder on the way to it",
            ResolveReason::ExecFailed => "the program cannot be run",
            ResolveReason::ExecStatus => "the program failed",
            ResolveReason::ExecTimeout => "the program took too long and was ended",
            ResolveReason::TooLarge => "the value is longer than its bound",
            ResolveReason::NotJson => "the value is no JSON document that the field could be looked for in",
            ResolveReason::NoField => "the value has no such field",
            ResolveReason::FieldKind => "the field is neither text nor number nor truth value",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match &self.detail {
            Detail::None => Ok(()),
            Detail::System { errno } => write!(f, ": {}", std::io::Error::from_raw_os_error(*errno)),
            Detail::Ended { status, signal, stderr_bytes } => {
                match (status, signal) {
                    (Some(status), _) => write!(f, ": exit status {status}")?,
                    (None, Some(signal)) => write!(f, ": signal {signal}")?,
                    (None, None) => {}
                }
                write!(f, "; it wrote {stderr_bytes} bytes to its error output")
            }
            Detail::Bound { max } => match self.code {
                ResolveReason::ExecTimeout => write!(f, " ({max} ms)"),
                _ => write!(f, " ({max} bytes)"),
            },
            Detail::Vault { what } => write!(f, ": {what}"),
        }
    }
}

/// What became of one reference. `Debug` shows the value's length and nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The value, where there is one. It is wiped when this is dropped.
    pub value: Option<SecretBytes>,
    /// What became of the reference.
    pub status: ResolveStatus,
    /// Why there is no value.
    pub reason: Option<Reason>,
    /// Whether the reference must have one.
    pub required: bool,
    /// What kind of source it names.
    pub source: SourceKind,
    /// Keyed fingerprint of the reference.
    pub fingerprint: KeyedPrint,
    /// Keyed fingerprint of the value: equal values have equal ones within a ledger.
    pub value_fingerprint: Option<KeyedPrint>,
    /// Length of the value in bytes.
    pub bytes: Option<u32>,
    /// When it was resolved.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

impl Resolution {
    /// Whether whoever asked can go on: there is a value, or none and none is needed.
    #[must_use]
    pub const fn is_acceptable(&self) -> bool {
        matches!(self.status, ResolveStatus::Resolved)
            || (matches!(self.status, ResolveStatus::Missing) && !self.required)
    }
}

/// One step of an explanation: what was checked, and how that went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was checked.
    pub what: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub found: String,
}

/// Gathers checks, where somebody wants them.
#[derive(Debug, Default)]
pub(super) struct Trace(pub Option<Vec<Check>>);

impl Trace {
    /// Notes a check and gives the reason back where it went wrong.
    pub fn check(
        &mut self,
        ok: bool,
        reason: impl FnOnce() -> Reason,
        what: impl FnOnce() -> String,
        found: impl FnOnce() -> String,
    ) -> Result<(), Reason> {
        if let Some(checks) = &mut self.0 {
            checks.push(Check { what: what(), ok, found: found() });
        }
        if ok { Ok(()) } else { Err(reason()) }
    }
}
