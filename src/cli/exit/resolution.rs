//! What a reference that gave no value means for a script.

use super::{ExitCode, Failure, REPAIR};
use crate::base::SecretRef;
use crate::event::vault::ResolveReason as Why;
use crate::resolve::Reason;

impl Failure {
    /// A reference gave no value.
    #[must_use]
    pub fn unresolved(reference: &SecretRef, reason: &Reason) -> Self {
        let (code, hint) = explain(reason.code);
        Self::new(code, format!("{} gives no value: {reason}", reference.redacted()), hint)
    }
}

const fn explain(why: Why) -> (ExitCode, &'static str) {
    match why {
        Why::NoSecret | Why::NoVersion | Why::Deleted | Why::Shredded => {
            (ExitCode::NotFound, "`palyra-ledger secrets list` shows what there is")
        }
        Why::EnvUnset => (ExitCode::NotFound, "set the variable, or add required=false"),
        Why::FileMissing => (ExitCode::NotFound, "put the file there, or add required=false"),
        Why::NoField => (ExitCode::NotFound, "name a field that the value has"),
        Why::ScopeDenied => (ExitCode::Denied, "leave --scope away, or name the secret's own scope"),
        Why::EnvNotAllowed => {
            (ExitCode::Denied, "add the variable to resolve.env_allow in config.toml, if you trust it")
        }
        Why::FileOutside => (ExitCode::Denied, "add the folder to resolve.file_dirs in config.toml, if you trust it"),
        Why::FileLink => (ExitCode::Denied, "name the file itself, or set resolve.file_symlinks in config.toml"),
        Why::FileKind => (ExitCode::Denied, "name a regular file"),
        Why::FileOwner | Why::FileMode => {
            (ExitCode::Denied, "--explain shows owner and mode; `chmod 600` keeps a file for its owner alone")
        }
        Why::ExecNotAllowed => {
            (ExitCode::Denied, "add the program to resolve.exec_allow in config.toml, if you trust it")
        }
        Why::ExecKind | Why::ExecOwner | Why::ExecMode => {
            (ExitCode::Denied, "--explain shows owner and mode of the program and of its folders")
        }
        Why::VaultDamaged => (ExitCode::Integrity, REPAIR),
        Why::VaultLocked => (ExitCode::Locked, "unlock the keystore, then run the command again"),
        Why::VaultAway => (ExitCode::Io, "`palyra-ledger doctor` says what is the matter with the backend"),
        Why::FileFailed => (ExitCode::Io, "look at the file, then run the command again"),
        Why::ExecFailed | Why::ExecStatus => (ExitCode::Io, "run the program by hand in an empty environment"),
        Why::ExecTimeout => (ExitCode::Io, "give it longer: timeout_ms here, or resolve.timeout_ms in config.toml"),
        Why::TooLarge => (ExitCode::Usage, "raise max_bytes here, or resolve.max_bytes in config.toml"),
        Why::NotJson | Why::FieldKind => (ExitCode::Usage, "leave the field away, or name one that is a scalar"),
    }
}
