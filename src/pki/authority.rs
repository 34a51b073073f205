//! The CA: what it signs, and with which extensions.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::base::{DeviceId, LedgerId, Serial, Timestamp, limits};
use crate::crypto::{Hash, labels};

use super::csr::PublicKey;

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The CA key or its certificate does not read.
    #[error("the CA's key or certificate does not read: {0}")]
    Authority(#[source] rcgen::Error),
    /// The certificate or list could not be built.
    #[error("the certificate could not be built: {0}")]
    Build(#[source] rcgen::Error),
    /// A time does not fit a certificate.
    #[error("the time {0} does not fit a certificate")]
    Time(u64),
    /// A name is neither a DNS name nor an address, or there are none or too many.
    #[error("{0} is no DNS name or address that a certificate can carry")]
    Name(String),
}

/// A name that the daemon is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl std::str::FromStr for ServerName {
    type Err = SignError;

    fn from_str(text: &str) -> Result<Self, SignError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        // A name of digits alone would read as an address elsewhere.
        let digits = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if text.len() <= 253 && !digits && text.split('.').all(label) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(SignError::Name(text.chars().take(253).collect()))
        }
    }
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Whole seconds: X.509 knows no others (RFC 5280, section 4.1.2.5).
fn date(time: Timestamp) -> Result<OffsetDateTime, SignError> {
    let millis = time.as_millis();
    let seconds = i64::try_from(millis / 1000).map_err(|_| SignError::Time(millis))?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| SignError::Time(millis))?;
    if date.year() > 9999 { Err(SignError::Time(millis)) } else { Ok(date) }
}

fn ca_key(pkcs8: &[u8]) -> Result<KeyPair, SignError> {
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(SignError::Authority)
}

fn root_params(ledger: LedgerId, generation: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Palyra Ledger");
    params.distinguished_name.push(DnType::CommonName, format!("Palyra Ledger CA {ledger} {generation}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::Sha256;
    params.use_authority_key_identifier_extension = true;
    params
}

/// The root certificate of a CA key (PKCS #8, Ed25519), in DER: path length 0, ten years, its subject names
/// the ledger and the generation. The serial number is the generation, apart from those of leaves.
///
/// # Errors
/// [`SignError`] where the key does not read or the time does not fit.
pub fn root(ca_pkcs8: &[u8], ledger: LedgerId, generation: u32, now: Timestamp) -> Result<Vec<u8>, SignError> {
    let key = ca_key(ca_pkcs8)?;
    let mut params = root_params(ledger, generation);
    params.serial_number = Some(SerialNumber::from_slice(&generation.max(1).to_be_bytes()));
    params.not_before = date(Timestamp::from_millis(now.as_millis().saturating_sub(limits::LEAF_BACKDATE_MS)))?;
    params.not_after = date(root_end(now))?;
    params.self_signed(&key).map(|certificate| certificate.der().to_vec()).map_err(SignError::Build)
}

/// When a root certificate that is made now ends.
#[must_use]
pub const fn root_end(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.plus_millis(limits::ROOT_LIFE_MS).as_millis() / 1000 * 1000)
}

/// The certificate by which another root vouches for one of this ledger's (RFC 5280, section 3.2, a
/// cross-certificate): names and key of `root`, which is that of a ledger and generation, signed by `other` and its key, good for as long as both are. Whoever
/// trusts `other` alone follows it to what this ledger issues. Nothing, where `other` allows no certificate of a CA
/// below itself (path length 0). Its serial number follows from the two roots: it says nothing that they do not say.
///
/// # Errors
/// [`SignError`] where a root or the key does not read.
pub fn cross(
    root: &[u8],
    (ledger, generation): (LedgerId, u32),
    other: &[u8],
    other_pkcs8: &[u8],
) -> Result<Option<Vec<u8>>, SignError> {
    const UNREAD: SignError = SignError::Authority(rcgen::Error::CouldNotParseCertificate);
    let (_, above) = X509Certificate::from_der(other).map_err(|_| UNREAD)?;
    let (_, below) = X509Certificate::from_der(root).map_err(|_| UNREAD)?;
    let constraints = above.basic_constraints().map_err(|_| UNREAD)?;
    if !constraints.is_some_and(|found| found.value.ca && found.value.path_len_constraint != Some(0)) {
        return Ok(None);
    }
    let (from, until) = (above.validity().not_before, above.validity().not_after);
    let (from, until) = (from.max(below.validity().not_before), until.min(below.validity().not_after));
    if from >= until {
        return Ok(None);
    }
    let der = rustls::pki_types::PrivateKeyDer::Pkcs8(other_pkcs8.into());
    let key = KeyPair::try_from(&der).map_err(SignError::Authority)?;
    let issuer = Issuer::from_ca_cert_der(&other.into(), key).map_err(SignError::Authority)?;
    let mut params = root_params(ledger, generation);
    let serial = Hash::of(labels::CROSS_CERTIFICATE, &[root, other]).0;
    params.serial_number = Some(SerialNumber::from_slice(serial.get(..16).unwrap_or_default()));
    (params.not_before, params.not_after) = (from.to_datetime(), until.to_datetime());
    let public = PublicKey::from_der(below.tbs_certificate.subject_pki.raw)
        .map_err(|_| SignError::Authority(rcgen::Error::UnsupportedSignatureAlgorithm))?;
    let signed = params.signed_by(public.info(), &issuer).map_err(SignError::Build)?;
    Ok(Some(signed.der().to_vec()))
}

/// A CA key with the names of its root: it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// A certificate's begin and end.
type Validity = (Timestamp, Timestamp);

impl Authority {
    /// The authority of a CA key (PKCS #8, Ed25519) and generation.
    ///
    /// # Errors
    /// [`SignError::Authority`] where the key does not read.
    pub fn new(ca_pkcs8: &[u8], ledger: LedgerId, generation: u32) -> Result<Self, SignError> {
        Ok(Self { issuer: Issuer::new(root_params(ledger, generation), ca_key(ca_pkcs8)?) })
    }

    fn leaf(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        public_key: &PublicKey,
        serial: Serial,
        (not_before, not_after): Validity,
    ) -> Result<Vec<u8>, SignError> {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.key_identifier_method = KeyIdMethod::Sha256;
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(public_key.info(), &self.issuer).map_err(SignError::Build)?;
        Ok(signed.der().to_vec())
    }

    /// A device's certificate in DER: for client authentication, its id as the common name and as a URI.
    ///
    /// # Errors
    /// [`SignError`] where a time does not fit.
    pub fn device_leaf(
        &self,
        device: DeviceId,
        public_key: &PublicKey,
        serial: Serial,
        validity: Validity,
    ) -> Result<Vec<u8>, SignError> {
        let mut params = CertificateParams::default();
        let uri = format!("{}{device}", super::DEVICE_URI).try_into().map_err(SignError::Build)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.leaf(params, &device.to_string(), public_key, serial, validity)
    }

    /// The daemon's certificate in DER: for server authentication, under 1 to 64 names.
    ///
    /// # Errors
    /// [`SignError`] where there are no or too many names, or a time does not fit.
    pub fn server_leaf(
        &self,
        names: &[ServerName],
        public_key: &PublicKey,
        serial: Serial,
        validity: Validity,
    ) -> Result<Vec<u8>, SignError> {
        let (Some(first), false) = (names.first(), names.len() > limits::SERVER_NAMES_MAX) else {
            return Err(SignError::Name(format!("a list of {} names", names.len())));
        };
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name {
                ServerName::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(SignError::Build)?),
                ServerName::Ip(address) => SanType::IpAddress(*address),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // RFC 5280, appendix A.1: a common name has at most 64 characters.
        let common_name: String = first.to_string().chars().take(64).collect();
        self.leaf(params, &common_name, public_key, serial, validity)
    }

    /// A revocation list in DER (RFC 5280, section 5), in the order given.
    ///
    /// # Errors
    /// [`SignError`] where a time does not fit.
    pub fn revocation_list(
        &self,
        number: u64,
        revoked: &[(Serial, Timestamp)],
        (this_update, next_update): Validity,
    ) -> Result<Vec<u8>, SignError> {
        let entry = |(serial, time): &(Serial, Timestamp)| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.as_bytes()),
                revocation_time: date(*time)?,
                reason_code: Some(RevocationReason::PrivilegeWithdrawn),
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update: date(this_update)?,
            next_update: date(next_update)?,
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, SignError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).map(|list| list.der().to_vec()).map_err(SignError::Build)
    }
}
