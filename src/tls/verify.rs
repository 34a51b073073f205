//! The client verifier: a chain to a trusted root, times, and the live view of device trust.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use crate::base::{DeviceId, Serial, Timestamp, limits};
use crate::event::identity::RefusalCause;
use crate::identity::{Known, Root, Trust};
use crate::pki::{LeafFacts, fingerprint, read_foreign_leaf, read_leaf};

/// A device's certificate that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The device.
    pub device: DeviceId,
    /// What the certificate says.
    pub facts: LeafFacts,
    /// Whether it has ended and is within the grace: good for renewing and nothing else.
    pub in_grace: bool,
}

/// Why a certificate was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The cause as events record it.
    pub cause: RefusalCause,
    /// The device, where the certificate names one. Whoever sent it need not be that device.
    pub device: Option<DeviceId>,
    /// What rustls tells the peer.
    pub error: rustls::Error,
}

impl Refused {
    fn new(cause: RefusalCause, device: Option<DeviceId>, error: CertificateError) -> Self {
        Self { cause, device, error: rustls::Error::InvalidCertificate(error) }
    }
}

/// Where a verifier leaves why it refused: rustls passes its own errors on, which name no device.
pub type Note = Arc<Mutex<Option<Refused>>>;

tokio::task_local! {
    static NOTE: Note;
}

/// Runs a handshake so that the verifier leaves in the note why it refused. One configuration serves all
/// connections: what differs from one to the next is around the handshake, not in it.
pub async fn noting<F: Future>(note: &Note, handshake: F) -> F::Output {
    NOTE.scope(Arc::clone(note), handshake).await
}

#[cfg(test)]
pub(super) fn noting_sync<T>(note: &Note, handshake: impl FnOnce() -> T) -> T {
    NOTE.sync_scope(Arc::clone(note), handshake)
}

struct Chain {
    roots: Arc<Vec<Root>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Verifies device certificates against the live view of device trust.
pub struct DeviceVerifier {
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
    chain: RwLock<Chain>,
}

impl std::fmt::Debug for DeviceVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceVerifier").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl DeviceVerifier {
    pub(super) fn new(trust: Arc<Trust>, provider: Arc<CryptoProvider>) -> Self {
        let roots = trust.roots();
        let verifier = build(&roots, &provider);
        Self { trust, provider, chain: RwLock::new(Chain { roots, verifier }) }
    }

    /// The live view that it reads.
    #[must_use]
    pub const fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// The verifier of chains for the roots of this moment; rebuilt when they changed.
    fn chain(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let roots = self.trust.roots();
        {
            let chain = self.chain.read().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&chain.roots, &roots) {
                return chain.verifier.clone();
            }
        }
        let verifier = build(&roots, &self.provider);
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        *chain = Chain { roots, verifier: verifier.clone() };
        verifier
    }

    /// Verifies a device's certificate as of a time. A certificate that has ended is accepted for a week
    /// ([`limits::RENEWAL_GRACE_MS`]), marked as in grace.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Shown, Refused> {
        let known = self.trust.imported(&fingerprint(end_entity));
        let facts = match known {
            None => read_leaf(end_entity).ok(),
            Some(known) => imported_facts(end_entity, known),
        };
        let facts = facts.ok_or_else(|| Refused::new(RefusalCause::Untrusted, None, CertificateError::BadEncoding))?;
        let device = facts.device;
        let chain = self
            .chain()
            .ok_or_else(|| Refused::new(RefusalCause::Untrusted, device, CertificateError::UnknownIssuer))?;
        let end = facts.not_after.as_millis();
        let at = now.as_secs().saturating_mul(1000);
        let in_grace = at > end && at < facts.not_after.plus_millis(limits::RENEWAL_GRACE_MS).as_millis();
        // RFC 5280, section 4.1.2.5: the last second belongs to the certificate.
        let as_of = if in_grace { UnixTime::since_unix_epoch(Duration::from_millis(end)) } else { now };
        chain.verify_client_cert(end_entity, intermediates, as_of).map_err(|error| {
            let cause = match &error {
                rustls::Error::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                ) => RefusalCause::Expired,
                _ => RefusalCause::Untrusted,
            };
            // The name of a device in a certificate that nobody signed is anybody's word.
            let ended = UnixTime::since_unix_epoch(Duration::from_millis(end));
            let signed =
                cause == RefusalCause::Expired && chain.verify_client_cert(end_entity, intermediates, ended).is_ok();
            Refused { cause, device: device.filter(|_| signed), error }
        })?;
        if known == Some(Known::Revoked) {
            return Err(Refused::new(self.trust.revocation_of(device), device, CertificateError::Revoked));
        }
        let Some(id) = device else {
            return Err(Refused::new(RefusalCause::Untrusted, None, CertificateError::ApplicationVerificationFailure));
        };
        self.trust.check(id, facts.serial, &facts.fingerprint).map_err(|cause| {
            let error = match cause {
                RefusalCause::UnknownDevice | RefusalCause::NotIssued => {
                    CertificateError::ApplicationVerificationFailure
                }
                _ => CertificateError::Revoked,
            };
            Refused::new(cause, device, error)
        })?;
        Ok(Shown { device: id, facts, in_grace })
    }

    /// Whether an accepted certificate is still good, for a request on a connection that stands: that this
    /// very one was issued to the device and not revoked since, and its end.
    ///
    /// # Errors
    /// The cause.
    pub fn still_good(&self, shown: &Shown, now: Timestamp) -> Result<(), RefusalCause> {
        self.trust.check(shown.device, shown.facts.serial, &shown.facts.fingerprint)?;
        if !shown.in_grace && now > shown.facts.not_after { Err(RefusalCause::Expired) } else { Ok(()) }
    }
}

/// What a certificate says that another store issued, under the number and the device that it is known by here.
fn imported_facts(der: &[u8], known: Known) -> Option<LeafFacts> {
    let leaf = read_foreign_leaf(der).ok()?;
    let (serial, device) = match known {
        Known::Held(serial, device) => (serial, Some(device)),
        Known::Revoked => (Serial::from_bytes([0; 17]), leaf.device),
    };
    let (not_before, not_after) = (leaf.not_before, leaf.not_after);
    Some(LeafFacts { serial, device, fingerprint: leaf.fingerprint, not_before, not_after })
}

fn build(roots: &[Root], provider: &Arc<CryptoProvider>) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.certificate.as_bytes())).ok()?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
    built.ok()
}

impl ClientCertVerifier for DeviceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a device has one identity, and the roots may change while this lives.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.verify(end_entity, intermediates, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refused) => {
                let error = refused.error.clone();
                let _ = NOTE.try_with(|note| *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
