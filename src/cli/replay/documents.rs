//! One document as it was.

use clap::ValueEnum;
use serde_json::json;

use crate::auth::documents::{PROFILES_FILE, RUNTIME_FILE};
use crate::base::limits;
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::Invocation;
use crate::engine::Ledger;
use crate::pki::pem;

use super::ReplayArgs;

/// A document that the state gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// The profiles.
    #[value(name = "auth_profiles.toml")]
    Profiles,
    /// What became of the profiles in use.
    #[value(name = "auth_profile_runtime_state.toml")]
    Runtime,
    /// The last revocation list that was signed by then.
    #[value(name = "crl")]
    RevocationList,
    /// The root certificates that were trusted.
    #[value(name = "ca")]
    Authority,
}

/// Prints a document as it was.
pub fn run(invocation: &Invocation, ledger: &Ledger, args: &ReplayArgs, document: Document) -> Result<(), Failure> {
    let replay = super::reach(invocation, ledger, args, args.at.as_deref())?;
    let (name, text) = match document {
        Document::Profiles => (PROFILES_FILE, replay.auth_documents(limits::REFRESH_WINDOW_MS)?.profiles),
        Document::Runtime => (RUNTIME_FILE, replay.auth_documents(limits::REFRESH_WINDOW_MS)?.runtime),
        Document::Authority => {
            let all = replay.authorities()?;
            let trusted = all.trusted();
            let each = trusted.iter().map(|one| pem("CERTIFICATE", one.certificate.as_bytes()).to_string());
            ("ca", each.collect())
        }
        Document::RevocationList => ("crl", revocation_list(ledger, replay.seq())?),
    };
    if invocation.out.is_json() {
        return invocation.out.json(&json!({
            "seq": replay.seq(),
            "recorded_at_ms": replay.time().as_millis(),
            "snapshot": replay.snapshot(),
            "document": name,
            "text": text,
        }));
    }
    super::note_snapshot(invocation, &replay);
    invocation.out.verbatim(text.as_bytes())
}

fn revocation_list(ledger: &Ledger, seq: u64) -> Result<String, Failure> {
    match ledger.log().revocation_list_at(seq)? {
        Some((_, Some(der))) => Ok(pem("X509 CRL", der.as_bytes()).to_string()),
        Some((issued, None)) => Err(Failure::new(
            ExitCode::NotFound,
            format!(
                "revocation list {} cannot be signed again: the key of CA generation {} is gone",
                issued.number, issued.generation
            ),
            "`palyra-ledger log query --kind crl_issued` shows what was on it",
        )),
        None => Err(Failure::new(
            ExitCode::NotFound,
            format!("no revocation list was signed up to event {seq}"),
            "name a later event with --at",
        )),
    }
}
