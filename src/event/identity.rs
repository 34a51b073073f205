//! Events of device trust: the CA, pairing, devices, certificates, the daemon. All are stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::{DeviceId, DeviceName, PairingId, Reason, RequestId, Scope, Serial, Timestamp};
use crate::crypto::Hash;

/// Public bytes in DER: base64 text for people, bare bytes for storage.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Der(Box<[u8]>);

impl Der {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return STANDARD.decode(text).map(Self::new).map_err(serde::de::Error::custom);
        }
        serde_bytes::ByteBuf::deserialize(deserializer).map(|bytes| Self(bytes.into_vec().into_boxed_slice()))
    }
}

/// The salted verifier of a pairing code: an OPAQUE registration record (RFC 9807, section 4). Whoever
/// reads it can still not guess the code without the ledger key, and nobody is shown it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Verifier(#[serde(with = "serde_bytes")] Vec<u8>);

impl Verifier {
    /// Takes the record's bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The record's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Serialize for Verifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str("(not shown)")
        } else {
            serde_bytes::serialize(&self.0, serializer)
        }
    }
}

words! {
    /// What a device is (stored: numbered by place, never reordered).
    ClientKind {
        /// A command line on another machine.
        Cli = "cli",
        /// A desktop program.
        Desktop = "desktop",
        /// A machine that runs agents.
        Node = "node",
        /// A device of another store, which did not say. Nobody is paired as such.
        Unknown = "unknown",
    }
}

words! {
    /// How a pairing code is carried over (stored: numbered by place, never reordered).
    CodeMethod {
        /// Six digits that a person types.
        Pin = "pin",
        /// A 128-bit token in a QR code.
        Qr = "qr",
    }
}

words! {
    /// Why a pairing code ended (stored: numbered by place, never reordered).
    EndCause {
        /// Too many wrong attempts.
        Burned = "burned",
        /// Its time was over.
        Expired = "expired",
        /// A person took it back.
        Cancelled = "cancelled",
    }
}

words! {
    /// Why a certificate was issued (stored: numbered by place, never reordered).
    IssueCause {
        /// A device was paired.
        Paired = "paired",
        /// A device renewed in time.
        Renewed = "renewed",
        /// A device renewed after its certificate had ended, within the grace.
        RenewedInGrace = "renewed_in_grace",
        /// The daemon's own certificate.
        Server = "server",
        /// Another store had issued it.
        Imported = "imported",
    }
}

words! {
    /// Why a connection, a request or a pairing was refused (stored: numbered by place, never reordered).
    RefusalCause {
        /// No certificate, or one that no root signed.
        Untrusted = "untrusted",
        /// The certificate has ended, and the grace with it.
        Expired = "expired",
        /// The device was revoked.
        DeviceRevoked = "device_revoked",
        /// The certificate was revoked.
        CertificateRevoked = "certificate_revoked",
        /// The device is not, or no longer, paired.
        UnknownDevice = "unknown_device",
        /// The device asked for something that it was not granted.
        NotGranted = "not_granted",
        /// The handshake broke off or took too long.
        Handshake = "handshake",
        /// The request was too large, too slow or malformed.
        Malformed = "malformed",
        /// Too many at once.
        TooMany = "too_many",
        /// No such pairing code.
        UnknownCode = "unknown_code",
        /// The pairing code's time is over.
        CodeExpired = "code_expired",
        /// The pairing code was used or burned.
        CodeSpent = "code_spent",
        /// The code was wrong, or somebody stood in between.
        WrongCode = "wrong_code",
        /// The message does not belong to its session, or came twice.
        OutOfOrder = "out_of_order",
        /// The certificate request was refused.
        BadRequest = "bad_request",
        /// The program speaks another version of the protocol.
        Version = "version",
        /// The device is of another kind than the code was made for.
        OtherKind = "other_kind",
        /// A trusted root signed the certificate, and this log never issued it: its CA key was stolen.
        NotIssued = "not_issued",
    }
}

/// The CA's root certificate was made, with the key that the ledger was created with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaCertified {
    /// Generation of the CA key, from 1.
    pub generation: u32,
    /// The root certificate.
    pub certificate: Der,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The next CA key stands in the key ring; its root is trusted beside the active one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaPrepared {
    /// Generation of the next CA key.
    pub generation: u32,
    /// Its root certificate.
    pub certificate: Der,
    /// When it ends.
    pub not_after: Timestamp,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// The next CA key issues from here on. The KEK was derived anew and every DEK slot re-wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaActivated {
    /// Generation of the CA key that issues now.
    pub generation: u32,
    /// Generation of the key table.
    pub table_generation: u32,
    /// Slots that were re-wrapped.
    pub rewrapped: u64,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// What an old CA key signed is to be replaced: nothing is renewed on its word in the grace any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaTainted {
    /// Generation of the old CA key.
    pub generation: u32,
}

/// An old root is no longer trusted, and its key no longer stands in the key ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaRevoked {
    /// Generation of the old CA key.
    pub generation: u32,
    /// Digest of the key ring file.
    pub keyring: Hash,
}

/// A pairing code was made. The code itself stands nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingMinted {
    /// The pairing.
    pub pairing: PairingId,
    /// The part of the code that says which pairing it is for; it is no secret.
    pub locator: String,
    /// How the code is carried over.
    pub method: CodeMethod,
    /// What the device must be, if anybody said.
    pub kind: Option<ClientKind>,
    /// What the device is to be called, if anybody said.
    pub name: Option<DeviceName>,
    /// When the code ends.
    pub expires_at: Timestamp,
    /// The code's verifier.
    pub verifier: Verifier,
}

/// A device began to prove that it knows a code. Durable before it gets its first answer, so that a
/// guess is counted even if the ledger dies right after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingAttempted {
    /// The pairing.
    pub pairing: PairingId,
    /// Number of the attempt, from 1.
    pub attempt: u8,
    /// Address it came from.
    pub peer: String,
}

/// A device proved that it knows the code; the code is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingRequested {
    /// The pairing.
    pub pairing: PairingId,
    /// The request, by which a person approves or denies it.
    pub request: RequestId,
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it is to be called.
    pub name: DeviceName,
    /// Its public key (`SubjectPublicKeyInfo`): all that was taken from its certificate request.
    pub public_key: Der,
    /// Short authentication string: six digits that both sides show.
    pub sas: String,
    /// Address it came from.
    pub peer: String,
    /// When the request ends.
    pub expires_at: Timestamp,
}

/// A person approved a request; pairing and certificate follow in the same batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingApproved {
    /// The request.
    pub request: RequestId,
    /// Its device.
    pub device: DeviceId,
    /// Whether the person gave the short authentication string.
    pub sas_compared: bool,
    /// The certificate that the device is given.
    pub serial: Serial,
}

/// A person denied a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingDenied {
    /// The request.
    pub request: RequestId,
    /// Its device.
    pub device: DeviceId,
    /// Why.
    pub reason: Option<Reason>,
}

/// A pairing code ended without a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingEnded {
    /// The pairing.
    pub pairing: PairingId,
    /// Why.
    pub cause: EndCause,
}

/// Nobody answered a request in its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestExpired {
    /// The request.
    pub request: RequestId,
    /// Its device.
    pub device: DeviceId,
}

/// A device is trusted from here on. Where it replaces a pairing that stood, every certificate of that one
/// is revoked with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePaired {
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What people call it.
    pub name: DeviceName,
    /// Its public key (`SubjectPublicKeyInfo`).
    pub public_key: Der,
    /// Whether a person said that it takes the place of the device that was paired under this id.
    pub replaces: bool,
}

/// Whom a certificate is for (stored: numbered by place, never reordered).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A device.
    Device(DeviceId),
    /// The daemon, under these DNS names and addresses.
    Server(Vec<String>),
}

/// A certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateIssued {
    /// Its serial number.
    pub serial: Serial,
    /// Whom it is for.
    pub subject: Subject,
    /// Generation of the CA key that signed it.
    pub generation: u32,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Why it was issued.
    pub cause: IssueCause,
    /// The certificate.
    pub certificate: Der,
}

/// A device got another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRenamed {
    /// The device.
    pub device: DeviceId,
    /// What people call it now.
    pub name: DeviceName,
}

/// A device may read a scope of the vault beside its own, or may no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceGranted {
    /// The device.
    pub device: DeviceId,
    /// The scope.
    pub scope: Scope,
    /// Whether it may from here on.
    pub granted: bool,
}

/// A device is no longer trusted, nor is any certificate of it (schema 2; 1 is
/// [`v1::DeviceRevoked`](crate::event::v1::DeviceRevoked)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRevoked {
    /// The device.
    pub device: DeviceId,
    /// The certificates that this revoked, the newest first; nothing in events of schema 1.
    pub certificates: Option<Vec<Serial>>,
}

/// One certificate is no longer trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRevoked {
    /// Its serial number.
    pub serial: Serial,
}

/// A revoked device may ask to be paired again. Its old certificates stay revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCleared {
    /// The device.
    pub device: DeviceId,
}

/// A device was taken off the list. Its certificates are revoked with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRemoved {
    /// The device.
    pub device: DeviceId,
}

/// A certificate revocation list was signed. It can be made again from the state and these numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlIssued {
    /// Its number (RFC 5280, section 5.2.3).
    pub number: u64,
    /// Generation of the CA key that signed it.
    pub generation: u32,
    /// Certificates on it.
    pub entries: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one comes at the latest.
    pub next_update: Timestamp,
    /// BLAKE3 digest of its DER bytes.
    pub digest: Hash,
}

/// Refusals of one cause, counted, so that a flood is one event and not a flood of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalNote {
    /// Why.
    pub cause: RefusalCause,
    /// Address of the last one.
    pub peer: String,
    /// The device, where it said which it is.
    pub device: Option<DeviceId>,
    /// How many.
    pub count: u64,
    /// When the last one was.
    pub last: Timestamp,
}

/// Connections or requests were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsRefused {
    /// What was refused.
    pub refusals: Vec<RefusalNote>,
}

/// One device that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenNote {
    /// The device.
    pub device: DeviceId,
    /// Address it came from.
    pub peer: String,
    /// When it was last seen.
    pub last: Timestamp,
}

/// Devices were seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesSeen {
    /// Which, and when.
    pub devices: Vec<SeenNote>,
}

/// Pairing was refused to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingRefused {
    /// The pairing, where the code names one.
    pub pairing: Option<PairingId>,
    /// Why.
    pub cause: RefusalCause,
    /// Address it came from.
    pub peer: String,
    /// Refusals of this cause since the last such event that were not recorded one by one.
    pub suppressed: u64,
}

/// The daemon began to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStarted {
    /// Version of the program.
    pub program: String,
    /// Where it listens.
    pub listeners: Vec<String>,
}

/// The daemon stopped serving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStopped {
    /// Requests that it cut because they took too long to finish.
    pub cut: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_shown_to_nobody() {
        let verifier = Verifier::new(b"CANARY".to_vec());
        assert_eq!(format!("{verifier:?}"), "Verifier(..)");
        assert_eq!(serde_json::to_string(&verifier).unwrap(), "\"(not shown)\"");
        let bytes = crate::event::codec::encode(&verifier).unwrap();
        assert_eq!(crate::event::codec::decode_canonical::<Verifier>(&bytes).unwrap(), verifier);
    }

    #[test]
    fn der_is_text_for_people_and_bytes_in_the_log() {
        let der = Der::new(vec![0x30, 0x03, 0x02, 0x01, 0x05]);
        assert_eq!(serde_json::to_string(&der).unwrap(), "\"MAMCAQU=\"");
        assert_eq!(serde_json::from_str::<Der>("\"MAMCAQU=\"").unwrap(), der);
        let bytes = crate::event::codec::encode(&der).unwrap();
        assert_eq!(bytes.len(), 8 + 5);
        assert_eq!(crate::event::codec::decode_canonical::<Der>(&bytes).unwrap(), der);
    }

    #[test]
    fn names_of_words_are_frozen() {
        let names = |all: &[&'static str]| all.join(" ");
        let kinds: Vec<_> = ClientKind::ALL.iter().map(|word| word.name()).collect();
        assert_eq!(names(&kinds), "cli desktop node unknown");
        let causes: Vec<_> = EndCause::ALL.iter().map(|word| word.name()).collect();
        assert_eq!(names(&causes), "burned expired cancelled");
        assert_eq!(RefusalCause::ALL.len(), 18);
    }
}
