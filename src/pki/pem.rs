//! PEM (RFC 7468) by way of rustls's reader and rcgen's writer.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::csr::{CsrError, LeafKey};

const WIDTH: usize = 64;

/// One block of PEM text: the label and the bytes, wrapped at 64 characters.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    use base64::Engine as _;
    let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    let mut out = Zeroizing::new(String::with_capacity(text.len() + text.len() / WIDTH + 2 * label.len() + 64));
    for part in ["-----BEGIN ", label, "-----\n"] {
        out.push_str(part);
    }
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(WIDTH).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    for part in ["-----END ", label, "-----\n"] {
        out.push_str(part);
    }
    out
}

/// Every certificate in a PEM text, in DER; other blocks are passed over.
///
/// # Errors
/// [`CsrError::Malformed`] where a block does not read.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, CsrError> {
    CertificateDer::pem_slice_iter(text)
        .map(|found| found.map(|der| der.to_vec()).map_err(|_| CsrError::Malformed))
        .collect()
}

/// The private key in a PEM text.
///
/// # Errors
/// [`CsrError::Malformed`] where there is none in PKCS #8, [`CsrError::Key`] where it cannot be used.
pub fn key_from_pem(text: &[u8]) -> Result<LeafKey, CsrError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| CsrError::Malformed)?;
    LeafKey::from_pkcs8(Zeroizing::new(key.secret_pkcs8_der().to_vec()))
}
