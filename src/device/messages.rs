//! The messages between a device and a daemon: JSON bodies of HTTP requests and answers. The `OpenAPI`
//! document in `src/serve/openapi.json` describes the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::{DeviceId, LedgerId, RequestId};
use crate::event::identity::{ClientKind, Der};

/// Bytes as base64 text (RFC 4648, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `POST /v1/pairing/hello`: a device's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelloMessage {
    /// Version of the protocol.
    pub version: u16,
    /// Locator of the code: its four letters.
    pub locator: String,
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it wants to be called.
    pub name: String,
    /// Its public key (`SubjectPublicKeyInfo`).
    pub public_key: Der,
    /// First message of the proof.
    pub proof: Base64,
}

/// The answer to a [`HelloMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreetingMessage {
    /// The session that the next message belongs to: 32 hexadecimal digits, good once and for a minute.
    pub session: String,
    /// The ledger.
    pub ledger: LedgerId,
    /// The root certificate that issues.
    pub ca_certificate: Der,
    /// Answer of the proof.
    pub proof: Base64,
    /// Port at which paired devices are served; none where the daemon serves none.
    pub device_port: Option<u16>,
}

/// `POST /v1/pairing/finish`: a device's second message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishMessage {
    /// The session.
    pub session: String,
    /// The device's proof.
    pub proof: Base64,
    /// The certificate request, sealed.
    pub request: Base64,
}

/// The answer to a [`FinishMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptMessage {
    /// Request id and poll key, sealed.
    pub receipt: Base64,
}

/// `POST /v1/pairing/poll`: the question what became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollMessage {
    /// The request.
    pub request: RequestId,
}

/// The answer to a [`PollMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusMessage {
    /// What became of it, sealed.
    pub status: Base64,
}

/// `POST /v1/renew`: the request of a paired device for its next certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewMessage {
    /// A certificate request (PKCS #10, DER), made on the device.
    pub request: Base64,
}

/// The answer to a [`RenewMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedMessage {
    /// The next certificate.
    pub certificate: Der,
    /// Every root that is trusted, the issuing one first.
    pub roots: Vec<Der>,
}

/// `POST /v1/checkpoint`: the last checkpoint that a device saw, if any; the answer is the ledger's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenMessage {
    /// The signed note.
    pub note: Option<String>,
}

/// The answer to a [`SeenMessage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMessage {
    /// The ledger's last signed note.
    pub note: String,
    /// How the log stands to the device's note: `holds`, `lost`, `forked`, `other_branch`, `superseded` or `unusable`.
    pub fit: Option<String>,
}

/// An error of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// What failed.
    pub error: ErrorBody,
}

/// What failed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable word for programs: a cause of refusal, or the name of an exit code.
    pub kind: String,
    /// What failed.
    pub what: String,
}
