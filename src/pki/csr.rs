//! Certificate requests (PKCS #10, RFC 2986): what a device makes, and the little that is taken from it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::base::limits;

/// Why a certificate request or a public key was refused.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// It is too long.
    #[error("the certificate request has {0} bytes, more than {max}", max = limits::CSR_MAX)]
    TooLong(usize),
    /// It is no certificate request, or bytes follow it.
    #[error("the bytes are no certificate request")]
    Malformed,
    /// The key is neither Ed25519 nor ECDSA P-256.
    #[error("the key is neither Ed25519 nor ECDSA P-256")]
    Algorithm,
    /// The request is not signed by the key in it: whoever sent it does not hold the private key.
    #[error("the certificate request is not signed by the key in it")]
    NotSigned,
    /// The key could not be made or used.
    #[error("the key could not be made or used: {0}")]
    Key(#[source] rcgen::Error),
}

/// A public key that a certificate may carry: Ed25519 or ECDSA P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    info: SubjectPublicKeyInfo,
    der: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER that came from our own state.
    ///
    /// # Errors
    /// [`CsrError::Malformed`] or [`CsrError::Algorithm`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > limits::CSR_MAX {
            return Err(CsrError::TooLong(der.len()));
        }
        let info = SubjectPublicKeyInfo::from_der(der).map_err(|_| CsrError::Malformed)?;
        let known = [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256];
        if !known.contains(&info.algorithm()) {
            return Err(CsrError::Algorithm);
        }
        // One key has one text: an encoding that is not the canonical one is refused.
        let canonical = info.subject_public_key_info();
        if canonical != der {
            return Err(CsrError::Malformed);
        }
        Ok(Self { info, der: canonical })
    }

    /// The `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) const fn info(&self) -> &SubjectPublicKeyInfo {
        &self.info
    }
}

/// Takes the public key out of a certificate request, and nothing else: names, extensions and attributes
/// are not looked at. The request's signature is the proof of possession.
///
/// # Errors
/// [`CsrError`] for everything but a well-formed request of a known algorithm that its own key signed.
pub fn public_key_from_csr(der: &[u8]) -> Result<PublicKey, CsrError> {
    if der.len() > limits::CSR_MAX {
        return Err(CsrError::TooLong(der.len()));
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let key = PublicKey::from_der(request.certification_request_info.subject_pki.raw)?;
    request.verify_signature().map_err(|_| CsrError::NotSigned)?;
    Ok(key)
}

/// A leaf's private key, made where it is used; wiped on drop.
pub struct LeafKey {
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeafKey(..)")
    }
}

impl LeafKey {
    /// Makes an Ed25519 key from the operating system's generator.
    ///
    /// # Errors
    /// [`CsrError::Key`] where that fails.
    pub fn generate() -> Result<Self, CsrError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(CsrError::Key)?;
        Ok(Self { pkcs8: Zeroizing::new(key.serialize_der()) })
    }

    /// Makes an ECDSA P-256 key from the operating system's generator, for peers that know no Ed25519.
    ///
    /// # Errors
    /// [`CsrError::Key`] where that fails.
    pub fn generate_p256() -> Result<Self, CsrError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CsrError::Key)?;
        Ok(Self { pkcs8: Zeroizing::new(key.serialize_der()) })
    }

    /// Takes a key in PKCS #8.
    ///
    /// # Errors
    /// [`CsrError::Key`] where it is none.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, CsrError> {
        let key = Self { pkcs8 };
        key.pair()?;
        Ok(key)
    }

    /// The key in PKCS #8. Copies are the caller's to wipe.
    #[must_use]
    pub fn expose_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    fn pair(&self) -> Result<KeyPair, CsrError> {
        KeyPair::try_from(self.pkcs8.as_slice()).map_err(CsrError::Key)
    }

    /// The public half.
    ///
    /// # Errors
    /// [`CsrError`] where the key is of another algorithm.
    pub fn public(&self) -> Result<PublicKey, CsrError> {
        PublicKey::from_der(&self.pair()?.subject_public_key_info())
    }

    /// A certificate request in DER, signed by this key, without a name: the CA knows it.
    ///
    /// # Errors
    /// [`CsrError::Key`].
    pub fn request(&self) -> Result<Vec<u8>, CsrError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.pair()?).map_err(CsrError::Key)?;
        Ok(request.der().to_vec())
    }
}
