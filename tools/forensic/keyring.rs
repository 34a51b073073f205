//! Opening the keys of a case: a slot by itself, a key file, or a passphrase from the standard input.

use std::io::BufRead;
use std::path::PathBuf;

use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::examine::Keys;
use palyra_ledger::inspect::Evidence;
use palyra_ledger::{Credential, Error, KeysError, SecretBytes, limits};
use zeroize::Zeroizing;

use crate::args::KeyArgs;
use crate::case::{Case, unreadable};

/// Where the key files are: the evidence's own folder, or another one.
pub fn place(case: &Case, args: &KeyArgs) -> Result<(Option<Evidence>, PathBuf), Failure> {
    match &args.keys_dir {
        Some(dir) => Ok((Some(Evidence::at(dir).map_err(|error| unreadable(&error))?), PathBuf::new())),
        None => Ok((None, case.keys_dir())),
    }
}

/// Opens the keys, where any were asked for.
pub fn open(case: &Case, args: &KeyArgs) -> Result<Option<Keys>, Failure> {
    match try_open(case, args)? {
        None => Ok(None),
        Some(Ok(keys)) => Ok(Some(keys)),
        Some(Err(error)) => Err(failure(error)),
    }
}

/// The failure of keys that do not open.
pub fn failure(error: KeysError) -> Failure {
    let wants_passphrase = matches!(error, KeysError::NeedsPassphrase { .. });
    let mut failure = Failure::from(Error::Keys(error));
    if wants_passphrase {
        "give the passphrase on the standard input with --passphrase-stdin".clone_into(&mut failure.hint);
    }
    failure
}

/// Opens the keys; what the ring itself says against it is the caller's to judge.
pub fn try_open(case: &Case, args: &KeyArgs) -> Result<Option<Result<Keys, KeysError>>, Failure> {
    if !args.wanted() {
        return Ok(None);
    }
    let credential = match (&args.key_file, args.passphrase_stdin) {
        (Some(path), _) => Credential::KeyFile(path.clone()),
        (None, true) => Credential::Passphrase(passphrase()?),
        (None, false) => Credential::None,
    };
    let (elsewhere, dir) = place(case, args)?;
    let from = elsewhere.as_ref().unwrap_or(&case.evidence);
    let opened = Keys::open(from, &dir, args.slot, &credential);
    Ok(Some(opened))
}

fn passphrase() -> Result<SecretBytes, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(limits::PASSPHRASE_MAX + 2));
    let bound = limits::PASSPHRASE_MAX as u64 + 2;
    let mut input = std::io::Read::take(std::io::stdin().lock(), bound);
    input.read_until(b'\n', &mut line).map_err(|error| {
        Failure::new(ExitCode::Io, format!("cannot read the passphrase: {error}"), "give it on the standard input")
    })?;
    let end = line.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(line.len());
    let text = line.get(..end).unwrap_or_default();
    if text.is_empty() {
        let hint = "give it on the standard input, on the first line";
        return Err(Failure::new(ExitCode::Locked, "no passphrase was given", hint));
    }
    Ok(SecretBytes::from(text))
}
