//! What a program that was not started, or a file that was not written, means for a script.

use super::{ExitCode, Failure};
use crate::deliver::{FileError, FileReason, LaunchError};

impl Failure {
    /// An error of the system, with the code that its kind has.
    #[must_use]
    pub fn from_system(error: &std::io::Error, what: String, hint: &str) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => ExitCode::NotFound,
            std::io::ErrorKind::PermissionDenied => ExitCode::Denied,
            _ => ExitCode::Io,
        };
        Self::new(code, what, hint)
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        let (code, hint) = match &error {
            LaunchError::NotFound(_) => (ExitCode::NoProgram, "name a program that is in PATH, or its path"),
            LaunchError::NotRunnable(..) => (ExitCode::NotRunnable, "name a file that this user may execute"),
            LaunchError::TooMuch => (ExitCode::NotRunnable, "give large secrets with --fd or --mount"),
            LaunchError::Io(_) => (ExitCode::Io, "look at the system's limits"),
        };
        Self::new(code, error.to_string(), hint)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let what = error.to_string();
        let (code, hint) = match &error.reason {
            FileReason::Mode | FileReason::NoName => (ExitCode::Usage, "name a file"),
            FileReason::Exists => (ExitCode::Conflict, "--force replaces it"),
            FileReason::Link | FileReason::NotAFile | FileReason::Foreign => {
                (ExitCode::Denied, "name another file, or remove what stands there")
            }
            FileReason::Io(source) => return Self::from_system(source, what, "look at the folder and the disk"),
        };
        Self::new(code, what, hint)
    }
}
