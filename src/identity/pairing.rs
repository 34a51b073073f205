//! Pairing codes and requests as the state keeps them.

use serde::{Deserialize, Serialize};

use crate::base::{DeviceId, DeviceName, PairingId, RequestId, Serial, Timestamp, limits};
use crate::event::identity::{ClientKind, CodeMethod, Der, EndCause, Verifier};

/// What became of a pairing code (stored: numbered by place, never reordered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairingState {
    /// It can be used.
    Open,
    /// A device used it for this request.
    Used(RequestId),
    /// It ended without one.
    Ended(EndCause),
}

/// A pairing code (stored in the state). Once it is used or has ended its verifier is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingRecord {
    /// Its locator.
    pub locator: String,
    /// How it is carried over.
    pub method: CodeMethod,
    /// What the device must be.
    pub kind: Option<ClientKind>,
    /// What the device is to be called.
    pub name: Option<DeviceName>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Attempts so far.
    pub attempts: u8,
    /// When the last one was.
    pub last_attempt: Option<Timestamp>,
    /// What became of it.
    pub state: PairingState,
    /// Its verifier.
    pub verifier: Option<Verifier>,
}

impl PairingRecord {
    /// Why it cannot be used at a time, if it cannot.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Option<EndCause> {
        match self.state {
            PairingState::Ended(cause) => Some(cause),
            PairingState::Open if self.attempts >= limits::PAIRING_ATTEMPTS_MAX => Some(EndCause::Burned),
            PairingState::Open if now >= self.expires_at => Some(EndCause::Expired),
            PairingState::Open | PairingState::Used(_) => None,
        }
    }

    /// Why an open code can be ended at a time, if it can: the last attempt that it survives may still be
    /// under way for as long as a session lasts.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> Option<EndCause> {
        let settled = |last: Timestamp| now >= last.plus_millis(limits::PAIRING_SESSION_MS);
        match (self.state, self.ended(now)?) {
            (PairingState::Open, EndCause::Burned) if now >= self.expires_at => Some(EndCause::Burned),
            (PairingState::Open, EndCause::Burned) => self.last_attempt.is_none_or(settled).then_some(EndCause::Burned),
            (PairingState::Open, cause) => Some(cause),
            _ => None,
        }
    }
}

/// What became of a request (stored: numbered by place, never reordered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// It waits for a person.
    Waiting,
    /// It was approved; the certificate that came of it.
    Approved(Serial),
    /// It was denied.
    Denied,
    /// Nobody answered it in its time.
    Expired,
}

/// A pairing request (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The pairing whose code was used.
    pub pairing: PairingId,
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it is to be called.
    pub name: DeviceName,
    /// Its public key.
    pub public_key: Der,
    /// Short authentication string.
    pub sas: String,
    /// Address it came from.
    pub peer: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What became of it.
    pub state: RequestState,
}
