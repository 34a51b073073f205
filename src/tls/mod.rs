//! Mutual TLS 1.3 (RFC 8446) between this ledger and its paired devices, as rustls configurations.
//!
//! [`ServerTls`] makes server configurations whose client verifier reads the live view of device trust, so
//! a revocation is in force for the next handshake without rebuilding anything. There is no resumption at
//! all: a resumed handshake takes the client's identity from its ticket without asking a verifier again, so
//! tickets, session storage and early data are off. [`client_config`] is the device's side.
//!
//! Both sides find the ledger by its id and not by an address: every server certificate carries
//! [`ledger_name`], which a device verifies wherever it connects to.

mod client;
mod server;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::base::{Clock, LedgerId};

pub use client::client_config;
pub use server::{ServerIdentity, ServerTls};
pub use verify::{DeviceVerifier, Note, Refused, Shown, noting};

/// The application protocol that is negotiated (RFC 7301).
pub const ALPN: &[u8] = b"http/1.1";

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A key or certificate does not fit.
    #[error("the TLS configuration cannot be made: {0}")]
    Config(#[from] rustls::Error),
    /// A private key does not read.
    #[error("the private key does not read")]
    Key,
}

/// The DNS name under which every server certificate of a ledger can be verified.
#[must_use]
pub fn ledger_name(ledger: LedgerId) -> String {
    format!("ledger-{ledger}.palyra.internal")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The ledger's clock as rustls wants it.
struct LedgerTime(Arc<dyn Clock>);

impl std::fmt::Debug for LedgerTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerTime")
    }
}

impl rustls::time_provider::TimeProvider for LedgerTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since = std::time::Duration::from_millis(self.0.now().as_millis());
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since))
    }
}
