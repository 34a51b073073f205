//! Why an event does not fit, and why a command is refused.

use crate::base::{DeviceId, DeviceName, PairingId, RequestId, Serial, StateError, limits};
use crate::event::CodecError;
use crate::event::identity::{ClientKind, EndCause, RefusalCause};

/// Why an event does not fit the state before it: the chain may be valid and its events nonsense.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFault {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A stored record does not decode.
    #[error("a record of the state does not decode: {0}")]
    Record(#[from] CodecError),
    /// A key of the state is not one of this domain's.
    #[error("a key of the state is malformed")]
    Key,
    /// The event is about something that is not there.
    #[error("the event is about a {0} that does not exist")]
    Missing(&'static str),
    /// The event makes something that is there already.
    #[error("the event makes a {0} that exists already")]
    Exists(&'static str),
    /// The event does not follow from what became of the thing before.
    #[error("the event does not fit what became of the {0} before")]
    Order(&'static str),
    /// A serial number was used before.
    #[error("serial number {serial} was used before")]
    SerialReused {
        /// The number.
        serial: Serial,
    },
}

/// Why a command about devices was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such device.
    #[error("there is no device {0}")]
    NoDevice(DeviceId),
    /// No such certificate.
    #[error("there is no certificate with the serial number {0}")]
    NoCertificate(Serial),
    /// No such request.
    #[error("there is no pairing request {0}")]
    NoRequest(RequestId),
    /// No such pairing.
    #[error("there is no such pairing code")]
    NoPairing,
    /// The locator is taken by another open code.
    #[error("the locator is taken")]
    LocatorTaken,
    /// Too many codes are open.
    #[error("{max} pairing codes are open already")]
    TooManyPairings {
        /// The bound.
        max: u32,
    },
    /// Too many requests wait.
    #[error("{max} pairing requests wait for an answer already")]
    TooManyRequests {
        /// The bound.
        max: u32,
    },
    /// Too many pairings were begun in the last minute.
    #[error("more than {max} pairings were begun within a minute")]
    TooManyStarts {
        /// The bound.
        max: u32,
    },
    /// The life asked for is zero or too long.
    #[error("a pairing code lives between 1 and {max_s} seconds")]
    Ttl {
        /// The bound in seconds.
        max_s: u64,
    },
    /// The pairing ended.
    #[error("pairing {pairing} has ended: {cause}")]
    PairingEnded {
        /// Which.
        pairing: PairingId,
        /// Why.
        cause: EndCause,
    },
    /// The code was used.
    #[error("the code of pairing {pairing} was used already")]
    PairingUsed {
        /// Which.
        pairing: PairingId,
    },
    /// The device is of another kind than the code is for.
    #[error("the code is for a device of the kind {wanted}, this is a {found}")]
    OtherKind {
        /// What the code is for.
        wanted: ClientKind,
        /// What the device says it is.
        found: ClientKind,
    },
    /// The device is revoked.
    #[error("device {0} is revoked")]
    DeviceRevoked(DeviceId),
    /// The device is not revoked.
    #[error("device {0} is not revoked")]
    NotRevoked(DeviceId),
    /// The certificate is revoked.
    #[error("the certificate {0} is revoked")]
    CertificateRevoked(Serial),
    /// The certificate has ended, and the grace with it.
    #[error("the certificate {0} ended too long ago to be renewed")]
    GraceOver(Serial),
    /// The request was answered otherwise before.
    #[error("pairing request {request} was {answer} already")]
    Answered {
        /// Which.
        request: RequestId,
        /// What the answer was.
        answer: &'static str,
    },
    /// The request's time is over.
    #[error("pairing request {0} has expired")]
    RequestExpired(RequestId),
    /// The device has as many scopes as it may have.
    #[error("device {0} is granted {max} scopes already, the most there can be", max = limits::DEVICE_GRANTS_MAX)]
    TooManyGrants(DeviceId),
    /// The short authentication string is another one.
    #[error("the short authentication string of pairing request {0} is another one")]
    OtherSas(RequestId),
    /// The public key belongs to a revoked or to another device.
    #[error("the public key belongs to device {0}")]
    KeyTaken(DeviceId),
    /// The id is that of a device that is paired: approving would put another in its place.
    #[error("device {device} (\"{name}\") is paired already: approving this request would replace it")]
    Replaces {
        /// The device.
        device: DeviceId,
        /// What people call it.
        name: DeviceName,
    },
    /// The CA's root certificate has ended.
    #[error("the root certificate of CA generation {generation} has ended")]
    RootEnded {
        /// The generation.
        generation: u32,
    },
    /// The certificate request holds another key than the first message named.
    #[error("the certificate request holds another key than the pairing was begun with")]
    OtherKey,
    /// The device speaks another version of the pairing protocol.
    #[error("the device speaks version {found} of the pairing protocol, this ledger version {wanted}")]
    Version {
        /// What the device speaks.
        found: u16,
        /// What this program speaks.
        wanted: u16,
    },
    /// A step of a CA roll is out of order.
    #[error("cannot {step}: that needs {needs}")]
    RollOrder {
        /// The step.
        step: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// Devices still hold certificates of a CA generation.
    #[error("{devices} paired devices still hold a certificate of CA generation {generation}")]
    StillDepending {
        /// How many.
        devices: u64,
        /// The generation.
        generation: u32,
    },
    /// The CA has no certificate yet, or no generation that issues.
    #[error("the CA has no certificate yet")]
    NoAuthority,
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] ApplyFault),
}

impl IdentityError {
    /// The cause as an event records it.
    #[must_use]
    pub const fn cause(&self) -> Option<RefusalCause> {
        Some(match self {
            Self::NoPairing => RefusalCause::UnknownCode,
            Self::PairingEnded { cause: EndCause::Expired, .. } => RefusalCause::CodeExpired,
            Self::PairingEnded { .. } | Self::PairingUsed { .. } => RefusalCause::CodeSpent,
            Self::TooManyStarts { .. } | Self::TooManyRequests { .. } => RefusalCause::TooMany,
            Self::OtherKind { .. } => RefusalCause::OtherKind,
            Self::DeviceRevoked(_) => RefusalCause::DeviceRevoked,
            Self::CertificateRevoked(_) => RefusalCause::CertificateRevoked,
            Self::GraceOver(_) => RefusalCause::Expired,
            Self::NoDevice(_) => RefusalCause::UnknownDevice,
            Self::KeyTaken(_) | Self::OtherKey => RefusalCause::BadRequest,
            Self::Version { .. } => RefusalCause::Version,
            _ => return None,
        })
    }
}

impl From<StateError> for IdentityError {
    fn from(error: StateError) -> Self {
        Self::State(error.into())
    }
}
