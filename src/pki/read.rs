//! Reading a leaf certificate that a peer showed.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::base::{DeviceId, Serial, Timestamp, limits};
use crate::crypto::Fingerprint;

/// The fingerprint of a certificate in DER.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> Fingerprint {
    Fingerprint::of(certificate)
}

/// Why a certificate does not read as one of ours. Nothing here says that it is trusted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is no certificate, or bytes follow it.
    #[error("the bytes are no certificate")]
    Malformed,
    /// Its serial number is none that this CA gives.
    #[error("the serial number is of another form")]
    Serial,
    /// Its times are before 1970.
    #[error("the certificate's times are before 1970")]
    Time,
    /// It names more than one device.
    #[error("the certificate names more than one device")]
    Devices,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFacts {
    /// Its serial number.
    pub serial: Serial,
    /// The device that it is for; none in the daemon's certificate.
    pub device: Option<DeviceId>,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Reads a leaf certificate in DER.
///
/// # Errors
/// [`ReadError`] for everything that this CA cannot have signed; never panics.
pub fn read_leaf(der: &[u8]) -> Result<LeafFacts, ReadError> {
    if der.len() > limits::CERTIFICATE_MAX {
        return Err(ReadError::Malformed);
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| ReadError::Malformed)?;
    if !rest.is_empty() {
        return Err(ReadError::Malformed);
    }
    let serial = certificate.raw_serial().try_into().map(Serial::from_bytes).map_err(|_| ReadError::Serial)?;
    let time = |seconds: i64| u64::try_from(seconds).map_err(|_| ReadError::Time);
    let validity = certificate.validity();
    let not_before = Timestamp::from_millis(time(validity.not_before.timestamp())?.saturating_mul(1000));
    let not_after = Timestamp::from_millis(time(validity.not_after.timestamp())?.saturating_mul(1000));
    let mut device = None;
    let names = certificate.subject_alternative_name().map_err(|_| ReadError::Malformed)?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let GeneralName::URI(uri) = name
            && let Some(id) = uri.strip_prefix(super::DEVICE_URI)
        {
            let id = id.parse().map_err(|_| ReadError::Malformed)?;
            if device.replace(id).is_some() {
                return Err(ReadError::Devices);
            }
        }
    }
    Ok(LeafFacts { serial, device, fingerprint: fingerprint(der), not_before, not_after })
}
