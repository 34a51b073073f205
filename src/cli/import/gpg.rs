//! gpg, for password stores: one run a file.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::base::{SecretBytes, limits};

/// Opens one file with the caller's gpg and its agent. What gpg says goes to the error output.
///
/// # Errors
/// What failed, in words.
pub fn decrypt(path: &Path) -> Result<SecretBytes, String> {
    let started = Command::new("gpg")
        .args(["--quiet", "--no-verbose", "--decrypt", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no program gpg".to_owned(),
        _ => format!("gpg cannot be started: {error}"),
    })?;
    let read = child.stdout.take().map(|output| super::bounded(output, limits::VALUE_MAX_CEILING));
    if !read.as_ref().is_some_and(|read| read.as_ref().is_ok_and(|value| value.len() <= limits::VALUE_MAX_CEILING)) {
        // Its output is not read to the end, so it may not end by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("gpg cannot be waited for: {error}"))?;
    match read {
        Some(Ok(value)) if value.len() > limits::VALUE_MAX_CEILING => {
            Err(format!("it holds more than {} bytes", limits::VALUE_MAX_CEILING))
        }
        Some(Ok(value)) if status.success() => Ok(value),
        Some(Err(error)) => Err(format!("what gpg gives cannot be read: {error}")),
        _ => Err(format!("gpg does not open it ({status})")),
    }
}
