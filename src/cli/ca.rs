//! `ca`: the certificate authority.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::engine::Ledger;
use crate::pki::{fingerprint, pem};

use super::certs::write_out;
use super::exit::Failure;
use super::invocation::{Access, Invocation};
use super::time;

/// What `ca` does.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Show the generations of the CA
    Show,
    /// Roll the CA to a new key, one step at a time
    Roll {
        /// The step
        #[arg(value_enum)]
        step: Step,
        /// Go on although devices have not renewed yet: they are locked out
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Print the trusted roots in PEM, or a fresh revocation list
    Export {
        /// The revocation list (PEM) instead of the roots
        #[arg(long)]
        crl: bool,
        /// With --crl: by this trusted generation instead of the one that issues
        #[arg(long, value_name = "N", requires = "crl")]
        generation: Option<u32>,
        /// A new file instead of the standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// A step of a CA roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Make the next key: its root is trusted beside the old one
    Prepare,
    /// Issue by the next key, and derive the key-encryption key from it
    Activate,
    /// Renew nothing more that the old key signed and that has ended
    Taint,
    /// Trust the old root no more, and drop its key
    Revoke,
}

/// Runs `ca`.
pub fn run(invocation: &Invocation, command: &CaCommand) -> Result<(), Failure> {
    if let CaCommand::Roll { step: Step::Revoke, yes, .. } = command {
        invocation.confirm("Trust the tainted root no more, and destroy its key?", *yes)?;
    }
    // The first call makes the root certificate.
    let ledger = invocation.open(Access::Write)?;
    let all = ledger.identity().authorities()?;
    let out = &invocation.out;
    match command {
        CaCommand::Show => {
            invocation.close(&ledger);
            if out.is_json() {
                let list: Vec<_> = all
                    .0
                    .iter()
                    .map(|record| {
                        json!({
                            "generation": record.generation,
                            "state": record.state.name(),
                            "since_ms": record.since.as_millis(),
                            "not_after_ms": record.not_after.as_millis(),
                            "sha256": fingerprint(record.certificate.as_bytes()),
                        })
                    })
                    .collect();
                return out.json(&json!({"authorities": list}));
            }
            let rows: Vec<_> = all
                .0
                .iter()
                .map(|record| {
                    vec![
                        record.generation.to_string(),
                        record.state.name().to_owned(),
                        time::second(record.since),
                        time::second(record.not_after),
                        fingerprint(record.certificate.as_bytes()).to_string(),
                    ]
                })
                .collect();
            out.table(&["GENERATION", "STATE", "SINCE", "ENDS", "SHA-256"], &rows)
        }
        CaCommand::Roll { step, force, .. } => roll(invocation, &ledger, *step, *force),
        CaCommand::Export { crl, generation, out: file } => {
            let text: String = if *crl {
                pem("X509 CRL", ledger.identity().revocation_list_of(*generation)?.1.as_bytes()).to_string()
            } else {
                all.trusted()
                    .iter()
                    .map(|record| pem("CERTIFICATE", record.certificate.as_bytes()).to_string())
                    .collect()
            };
            invocation.close(&ledger);
            write_out(invocation, file.as_deref(), text.as_bytes())
        }
    }
}

fn roll(invocation: &Invocation, ledger: &Ledger, step: Step, force: bool) -> Result<(), Failure> {
    let identity = ledger.identity();
    let mut rewrapped = None;
    let (generation, text) = match step {
        Step::Prepare => {
            let generation = identity.prepare_ca()?;
            (generation, format!("CA generation {generation} is prepared: devices get its root when they renew"))
        }
        Step::Activate => {
            let (generation, slots) = identity.activate_ca(force)?;
            rewrapped = Some(slots);
            (generation, format!("CA generation {generation} issues; {slots} secret keys were re-wrapped"))
        }
        Step::Taint => {
            let generation = identity.taint_ca()?;
            (generation, format!("CA generation {generation} is tainted: what it signed ends for good"))
        }
        Step::Revoke => {
            let generation = identity.revoke_ca(force)?;
            (generation, format!("CA generation {generation} is trusted no more, and its key is gone"))
        }
    };
    let seq = ledger.log().head()?.seq;
    invocation.close(ledger);
    if invocation.out.is_json() {
        let step = step.to_possible_value().map(|value| value.get_name().to_owned());
        return invocation
            .out
            .json(&json!({"step": step, "generation": generation, "rewrapped": rewrapped, "seq": seq}));
    }
    invocation.out.line(&text)
}
