//! `secrets get --out-file`: the value in a file, and nowhere else.

use std::path::Path;

use serde_json::json;

use crate::base::{SecretRef, SecretSource};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::Invocation;
use crate::cli::programs::resolve;
use crate::cli::story;
use crate::deliver::write_secret_file;

use super::args::Get;

/// Writes a secret's value. It is resolved like any reference: a daemon may have the ledger, and the file is
/// still this process's.
pub fn write(invocation: &Invocation, args: &Get, path: &Path) -> Result<(), Failure> {
    let source = SecretSource::Vault { path: args.reference.clone(), version: args.version, field: None };
    let values = resolve(invocation, None, &[SecretRef::from(source)])?;
    let Some(value) = values.into_iter().next().flatten() else {
        return Err(Failure::new(ExitCode::Internal, "the secret was not looked at", "please report it"));
    };
    let written = write_secret_file(path, value.expose(), args.file_mode, args.force)?;
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "ref": args.reference.to_string(),
            "out": path.to_string_lossy(),
            "bytes": value.len(),
            "mode": written.mode.to_string(),
            "replaced": written.replaced,
        }));
    }
    let size = story::count(value.len() as u64, "byte");
    out.line(&format!("wrote {} to {} ({size}, mode {})", args.reference, path.display(), written.mode))
}
