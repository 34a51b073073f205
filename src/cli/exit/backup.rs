//! Exit codes of backups.

use crate::backup::BackupError;

use super::ExitCode;

/// The exit code of a fault of a backup, and what to do next.
pub fn explain(error: &BackupError) -> (ExitCode, String) {
    let (code, hint) = match error {
        BackupError::Io(source) => return super::system(source),
        BackupError::Magic => (ExitCode::Usage, "name a file that `palyra-ledger backup create` wrote"),
        BackupError::Version(_) => (ExitCode::Usage, "use the program version that made this backup, or a newer one"),
        BackupError::Short => (ExitCode::Truncated, "use another copy of it: part of this one is missing"),
        BackupError::Header
        | BackupError::Trailer
        | BackupError::Digest
        | BackupError::Sealed { .. }
        | BackupError::Record(_)
        | BackupError::Chain { .. }
        | BackupError::Counts(_)
        | BackupError::StateRoot => (ExitCode::Integrity, "use another copy of it, or an earlier backup"),
        BackupError::Key => (
            ExitCode::DecryptFailed,
            "open it with another slot, or with --identity FILE; a slot of the ledger today may be newer than the backup",
        ),
        BackupError::NoRecipients => {
            (ExitCode::DecryptFailed, "open it with a passphrase, recovery words or a key file")
        }
        BackupError::Age(_) => (ExitCode::DecryptFailed, "name the right recipient, or the file of the right identity"),
        BackupError::OtherLedger { .. } | BackupError::OtherHistory { .. } => {
            (ExitCode::Conflict, "name the backups of one ledger, and of one line of its history")
        }
        BackupError::Gap { .. } | BackupError::Increment { .. } => (
            ExitCode::Conflict,
            "name the full backup first and then every increment in order: `palyra-ledger backup verify` shows where each begins",
        ),
        BackupError::Nothing => (ExitCode::Usage, "name at least one file"),
    };
    (code, hint.to_owned())
}
