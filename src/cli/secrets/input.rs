//! Where a secret's value comes from: never an argument, always bounded, never left in a buffer.

use std::io::Read;

use zeroize::Zeroizing;

use crate::base::{SecretBytes, SecretPath};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::Invocation;

use super::args::Source;

/// Reads a value of 1 to `max` bytes.
pub fn read(invocation: &Invocation, source: &Source, target: &SecretPath, max: usize) -> Result<SecretBytes, Failure> {
    let value = if let Some(path) = &source.file {
        let failed = |error: std::io::Error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => ExitCode::NotFound,
                std::io::ErrorKind::PermissionDenied => ExitCode::Denied,
                _ => ExitCode::Io,
            };
            Failure::new(code, format!("cannot read {}: {error}", path.display()), "name a file that holds the value")
        };
        bounded(invocation.seat.open(path).map_err(failed)?, max).map_err(failed)?
    } else if source.stdin {
        let failed =
            |error: std::io::Error| Failure::new(ExitCode::Io, format!("cannot read the standard input: {error}"), "");
        bounded(invocation.seat.stdin().map_err(failed)?, max).map_err(failed)?
    } else if invocation.seat.is_terminal() {
        invocation.prompt(&format!("value for {target}: "))?
    } else {
        return Err(Failure::usage(
            "no value was given and there is no terminal to ask on",
            "give it with --stdin or --file FILE",
        ));
    };
    if value.is_empty() {
        return Err(Failure::usage(format!("the value for {target} is empty"), "give a value of at least one byte"));
    }
    if value.len() > max {
        return Err(Failure::usage(
            format!("the value for {target} has more than {max} bytes"),
            "keep large data elsewhere and its key here, or raise limits.max_value_bytes in config.toml",
        ));
    }
    Ok(value)
}

/// Reads at most one byte more than the bound, into memory that never moves and is wiped.
///
/// # Errors
/// What the source says.
pub fn bounded(source: impl Read, max: usize) -> std::io::Result<SecretBytes> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(max.saturating_add(64)));
    source.take((max as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(SecretBytes::from(bytes.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_one_byte_beyond_the_bound_is_read() {
        let mut endless = std::io::repeat(7);
        assert_eq!(bounded(&mut endless, 10).unwrap().len(), 11);
        assert_eq!(bounded(b"abc\n".as_slice(), 10).unwrap().expose(), b"abc\n", "nothing is stripped");
    }
}
