//! The device's side.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::base::Clock;
use crate::event::identity::Der;
use crate::pki::LeafKey;

use super::{ALPN, LedgerTime, TlsError, provider};

/// The configuration of a device: it trusts the ledger's roots alone, shows its certificate, and speaks TLS
/// 1.3 alone, without resumption. Connect to [`super::ledger_name`].
///
/// # Errors
/// [`TlsError`] where a root does not read or the key is not the certificate's.
pub fn client_config(
    roots: &[Der],
    certificate: &Der,
    key: &LeafKey,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_bytes()))?;
    }
    let chain = vec![CertificateDer::from(certificate.as_bytes().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose_pkcs8().to_vec()));
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(LedgerTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
