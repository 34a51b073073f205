//! `ca`: the certificate authority.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

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
    /// Print the trusted roots in PEM, or a fresh revocation list
    Export {
        /// The revocation list (PEM) instead of the roots
        #[arg(long)]
        crl: bool,
        /// A new file instead of the standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Runs `ca`.
pub fn run(invocation: &Invocation, command: &CaCommand) -> Result<(), Failure> {
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
                        fingerprint(record.certificate.as_bytes()).to_string(),
                    ]
                })
                .collect();
            out.table(&["GENERATION", "STATE", "SINCE", "SHA-256"], &rows)
        }
        CaCommand::Export { crl, out: file } => {
            let text: String = if *crl {
                pem("X509 CRL", ledger.identity().revocation_list()?.1.as_bytes()).to_string()
            } else {
                all.trusted().iter().map(|record| pem("CERTIFICATE", record.certificate.as_bytes()).to_string()).collect()
            };
            invocation.close(&ledger);
            write_out(invocation, file.as_deref(), text.as_bytes())
        }
    }
}
