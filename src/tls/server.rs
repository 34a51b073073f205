//! The server's side: configurations around one verifier, and a certificate that can be replaced.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

use crate::base::Clock;
use crate::event::identity::Der;
use crate::identity::Trust;
use crate::pki::LeafKey;

use super::verify::{DeviceVerifier, Refused, Shown};
use super::{ALPN, LedgerTime, TlsError, provider};

/// The server's certificate and key, replaced while connections stand: a handshake takes what is there.
pub struct ServerIdentity {
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerIdentity(..)")
    }
}

fn certified(
    provider: &CryptoProvider,
    certificate: &Der,
    above: &[Der],
    key: &LeafKey,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let shown = std::iter::once(certificate).chain(above);
    let chain = shown.map(|one| CertificateDer::from(one.as_bytes().to_vec())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose_pkcs8().to_vec()));
    Ok(Arc::new(CertifiedKey::from_der(chain, key, provider)?))
}

impl ServerIdentity {
    /// The identity to begin with. `above` is shown behind it: the certificates by which imported roots vouch for
    /// the ledger's ([`Identity::cross_certificates`](crate::Identity::cross_certificates)), none in a ledger without
    /// such a root.
    ///
    /// # Errors
    /// [`TlsError::Config`] where the key is not the certificate's.
    pub fn new(certificate: &Der, above: &[Der], key: &LeafKey) -> Result<Self, TlsError> {
        Ok(Self { current: RwLock::new(certified(&provider(), certificate, above, key)?) })
    }

    /// Puts another certificate in place. Connections that stand keep theirs.
    ///
    /// # Errors
    /// [`TlsError::Config`] where the key is not the certificate's; the old one stays.
    pub fn replace(&self, certificate: &Der, above: &[Der], key: &LeafKey) -> Result<(), TlsError> {
        let next = certified(&provider(), certificate, above, key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ServerIdentity {
    /// Shows other certificates behind the server's own from here on: roots that vouched for it are trusted no more.
    pub fn vouched(&self, above: &[Der]) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let own = current.cert.first().into_iter().cloned();
        let chain = own.chain(above.iter().map(|one| CertificateDer::from(one.as_bytes().to_vec()))).collect();
        *current = Arc::new(CertifiedKey::new(chain, Arc::clone(&current.key)));
    }

    /// How many certificates are shown.
    #[must_use]
    pub fn shown(&self) -> usize {
        self.current.read().unwrap_or_else(PoisonError::into_inner).cert.len()
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Server configurations for a ledger's devices.
///
/// ```
/// # use palyra_ledger::{Config, Ledger, NewSlot, pki::LeafKey, tls::{ServerIdentity, ServerTls, ledger_name}};
/// # use std::sync::Arc;
/// # let dir = tempfile::tempdir()?;
/// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
/// let identity = ledger.identity();
/// let key = LeafKey::generate()?;
/// let names = [ledger_name(ledger.id()).parse()?, "localhost".parse()?];
/// let (_, certificate) = identity.issue_server(&names, &key.public()?)?;
/// let certificate = Arc::new(ServerIdentity::new(&certificate, &identity.cross_certificates()?, &key)?);
/// let tls = ServerTls::new(identity.trust()?, identity.clock(), certificate)?;
/// let config = tls.config();               // an ordinary rustls `ServerConfig`, for any runtime
/// assert_eq!(config.send_tls13_tickets, 0);
/// # ledger.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    verifier: Arc<DeviceVerifier>,
    config: Arc<ServerConfig>,
    identity: Arc<ServerIdentity>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Configurations around the live view of device trust.
    ///
    /// # Errors
    /// [`TlsError::Config`].
    pub fn new(trust: Arc<Trust>, clock: Arc<dyn Clock>, identity: Arc<ServerIdentity>) -> Result<Self, TlsError> {
        let provider = provider();
        let verifier = Arc::new(DeviceVerifier::new(trust, Arc::clone(&provider)));
        let config = Arc::new(build(&provider, &clock, Arc::clone(&verifier) as _, &identity)?);
        Ok(Self { verifier, config, identity, clock })
    }

    /// The configuration: TLS 1.3 alone, a client certificate demanded, no resumption, no early data. It
    /// needs no renewal: the verifier and the certificate behind it are live.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The verifier, for requests on connections that stand.
    #[must_use]
    pub const fn verifier(&self) -> &Arc<DeviceVerifier> {
        &self.verifier
    }

    /// The server's certificate, to be replaced when it is renewed.
    #[must_use]
    pub const fn identity(&self) -> &Arc<ServerIdentity> {
        &self.identity
    }

    /// Verifies the chain of a connection as of now: after its handshake, and again when the roots changed.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Result<Shown, Refused> {
        let now = std::time::Duration::from_millis(self.clock.now().as_millis());
        let (end_entity, intermediates) = chain.split_first().ok_or_else(|| Refused {
            cause: crate::event::identity::RefusalCause::Untrusted,
            device: None,
            error: rustls::Error::NoCertificatesPresented,
        })?;
        self.verifier.verify(end_entity, intermediates, UnixTime::since_unix_epoch(now))
    }
}

fn build(
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    identity: &Arc<ServerIdentity>,
) -> Result<ServerConfig, TlsError> {
    let time = Arc::new(LedgerTime(Arc::clone(clock)));
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(identity) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}
