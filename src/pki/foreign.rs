//! Certificates that another CA of the same kind issued: its root and key, and its leaves.
//!
//! Its leaves name their device in the common name (`Palyra Device <ULID>`), carry no alternative name, and
//! have serial numbers of any form.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::base::{DeviceId, Timestamp, limits};
use crate::crypto::Fingerprint;

use super::csr::PublicKey;
use super::pem::{certificates_from_pem, key_from_pem};

/// What stands before the device in the common name of such a leaf.
const DEVICE_NAME: &str = "Palyra Device ";

/// Why a CA or a leaf of another store cannot serve here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// It is no single certificate in PEM or DER.
    #[error("it is no certificate")]
    Certificate,
    /// The private key is none in PKCS #8, or of an algorithm that is not known here.
    #[error("its private key is none in PKCS #8 of ECDSA P-256 or Ed25519")]
    Key,
    /// The private key belongs to another certificate.
    #[error("its private key belongs to another certificate")]
    OtherKey,
    /// The certificate is none of a CA.
    #[error("the certificate may sign no others: it is not marked as a CA's")]
    NotCa,
    /// The certificate does not say that its key signs certificates.
    #[error("the certificate's key usage does not allow it to sign certificates")]
    KeyUsage,
    /// Its end is before 1970.
    #[error("its times are before 1970")]
    Time,
    /// The leaf's key is of an algorithm that is not known here.
    #[error("its key is neither Ed25519 nor ECDSA P-256")]
    LeafKey,
    /// Another CA signed it.
    #[error("the imported CA did not sign it")]
    NotSigned,
    /// It is for another device.
    #[error("it is for another device")]
    OtherDevice,
    /// It may not be used by a client.
    #[error("it is not for client authentication")]
    Purpose,
}

/// The CA of another store.
pub struct ForeignRoot {
    /// Its certificate (DER).
    pub certificate: Vec<u8>,
    /// When that ends.
    pub not_after: Timestamp,
    /// Its private key (PKCS #8, DER).
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for ForeignRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignRoot").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// What a leaf of another store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLeaf {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The device in its name, where there is one.
    pub device: Option<DeviceId>,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, ForeignError> {
    if der.len() > limits::CERTIFICATE_MAX {
        return Err(ForeignError::Certificate);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(ForeignError::Certificate),
    }
}

fn time(seconds: i64) -> Result<Timestamp, ForeignError> {
    let seconds = u64::try_from(seconds).map_err(|_| ForeignError::Time)?;
    Ok(Timestamp::from_millis(seconds.saturating_mul(1000)))
}

/// Reads a CA: one certificate and its private key, both in PEM.
///
/// # Errors
/// [`ForeignError`] with what keeps it from serving here.
pub fn read_foreign_root(certificate: &str, key: &str) -> Result<ForeignRoot, ForeignError> {
    let der = foreign_der(certificate)?;
    let parsed = parse(&der)?;
    match parsed.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {}
        _ => return Err(ForeignError::NotCa),
    }
    match parsed.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => return Err(ForeignError::KeyUsage),
        Ok(_) => {}
        Err(_) => return Err(ForeignError::Certificate),
    }
    let key = key_from_pem(key.as_bytes()).map_err(|_| ForeignError::Key)?;
    let public = key.public().map_err(|_| ForeignError::Key)?;
    if public.der() != parsed.tbs_certificate.subject_pki.raw {
        return Err(ForeignError::OtherKey);
    }
    let not_after = time(parsed.validity().not_after.timestamp())?;
    Ok(ForeignRoot { not_after, key: Zeroizing::new(key.expose_pkcs8().to_vec()), certificate: der })
}

/// The one certificate in a PEM text, in DER.
///
/// # Errors
/// [`ForeignError::Certificate`] where there is none, or more than one.
pub fn foreign_der(pem: &str) -> Result<Vec<u8>, ForeignError> {
    let mut found = certificates_from_pem(pem.as_bytes()).map_err(|_| ForeignError::Certificate)?;
    match (found.pop(), found.is_empty()) {
        (Some(der), true) => Ok(der),
        _ => Err(ForeignError::Certificate),
    }
}

/// Reads a leaf in DER. Nothing here says that anybody signed it.
///
/// # Errors
/// [`ForeignError::Certificate`] or [`ForeignError::Time`].
pub fn read_foreign_leaf(der: &[u8]) -> Result<ForeignLeaf, ForeignError> {
    let parsed = parse(der)?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().filter(|_| names.next().is_none()).and_then(|name| name.as_str().ok());
    let device = name.and_then(|name| DeviceId::from_ulid(name.strip_prefix(DEVICE_NAME)?));
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    // A begin before 1970 is as good as none.
    let not_before = time(from.max(0))?;
    Ok(ForeignLeaf { fingerprint: Fingerprint::of(der), device, not_before, not_after: time(until)? })
}

/// Checks that a root signed a leaf for a device as its client certificate; gives the device's public key.
///
/// # Errors
/// [`ForeignError`] with what is wrong.
pub fn check_foreign_leaf(der: &[u8], root: &[u8], device: DeviceId) -> Result<PublicKey, ForeignError> {
    if read_foreign_leaf(der)?.device != Some(device) {
        return Err(ForeignError::OtherDevice);
    }
    let (leaf, root) = (parse(der)?, parse(root)?);
    if leaf.issuer() != root.subject() || leaf.verify_signature(Some(root.public_key())).is_err() {
        return Err(ForeignError::NotSigned);
    }
    match leaf.extended_key_usage() {
        Ok(None) => {}
        Ok(Some(usage)) if usage.value.client_auth || usage.value.any => {}
        _ => return Err(ForeignError::Purpose),
    }
    PublicKey::from_der(leaf.tbs_certificate.subject_pki.raw).map_err(|_| ForeignError::LeafKey)
}
