//! The joining side of the pairing protocol, message by message and without any I/O.
//!
//! Each step takes the one before it apart, so that no message can be used twice. Nothing that the other
//! side says is believed before the proof of the code vouches for it.

use crate::base::{DeviceId, DeviceName, LedgerId, Random, RequestId};
use crate::crypto::{Key, Opener, open_sealed};
use crate::event::identity::{ClientKind, Der};
use crate::identity::Code;
use crate::identity::pake::{
    Channel, DeviceStart, PROTOCOL_VERSION, PakeError, SEALED_RECEIPT, SEALED_REQUEST, SEALED_STATUS, Transcript,
};
use crate::pki::{CsrError, Fingerprint, LeafKey, fingerprint, read_leaf};

use super::messages::{Base64, FinishMessage, GreetingMessage, HelloMessage};

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The proof failed: the code is wrong, or somebody stands in between.
    #[error(transparent)]
    Proof(#[from] PakeError),
    /// The device's key cannot be used.
    #[error(transparent)]
    Key(#[from] CsrError),
    /// The CA is another one than the QR code names.
    #[error("the CA's fingerprint is {found}, the code names {wanted}: somebody may stand in between")]
    OtherCa {
        /// What the code names.
        wanted: Fingerprint,
        /// What the daemon showed.
        found: Fingerprint,
    },
    /// An answer does not read, though it was sealed by the ledger.
    #[error("the ledger's answer does not read; use the same version of the program on both machines")]
    Answer,
    /// The certificate is for another device or key.
    #[error("the certificate is for another device")]
    OtherDevice,
}

/// What a device says of itself.
#[derive(Debug, Clone)]
pub struct Applicant<'a> {
    /// Its id.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it wants to be called.
    pub name: &'a DeviceName,
    /// Its key.
    pub key: &'a LeafKey,
}

/// A device that sent its first message.
#[derive(Debug)]
pub struct Joining<'a> {
    start: DeviceStart,
    locator: String,
    applicant: Applicant<'a>,
    public_key: Der,
}

impl<'a> Joining<'a> {
    /// Begins; gives the first message.
    ///
    /// # Errors
    /// [`JoinError`] where the random source fails or the key cannot be used.
    pub fn new(random: &dyn Random, code: Code, applicant: Applicant<'a>) -> Result<(Self, HelloMessage), JoinError> {
        let locator = code.locator().to_owned();
        let public_key = Der::new(applicant.key.public()?.der());
        let (start, proof) = DeviceStart::new(random, code)?;
        let hello = HelloMessage {
            version: PROTOCOL_VERSION,
            locator: locator.clone(),
            device: applicant.device,
            kind: applicant.kind,
            name: applicant.name.as_str().to_owned(),
            public_key: public_key.clone(),
            proof: Base64(proof),
        };
        Ok((Self { start, locator, applicant, public_key }, hello))
    }

    /// Checks the ledger's answer; gives the second message. `ca` is the fingerprint that a QR code carried.
    ///
    /// # Errors
    /// [`JoinError::Proof`] where the ledger does not know the code, [`JoinError::OtherCa`].
    pub fn greeted(
        self,
        random: &dyn Random,
        greeting: &GreetingMessage,
        ca: Option<Fingerprint>,
    ) -> Result<(Proved, FinishMessage), JoinError> {
        let found = fingerprint(greeting.ca_certificate.as_bytes());
        if let Some(wanted) = ca.filter(|wanted| *wanted != found) {
            return Err(JoinError::OtherCa { wanted, found });
        }
        let Applicant { device, kind, name, key } = self.applicant;
        let transcript = Transcript {
            version: PROTOCOL_VERSION,
            ledger: greeting.ledger,
            locator: &self.locator,
            ca_fingerprint: found.as_bytes(),
            ca_certificate: greeting.ca_certificate.as_bytes(),
            device,
            kind,
            name: name.as_str(),
            public_key: self.public_key.as_bytes(),
        };
        let (channel, proof) = self.start.finish(random, &greeting.proof.0, &transcript)?;
        let request = channel.seal(random, SEALED_REQUEST, &key.request()?)?;
        let message =
            FinishMessage { session: greeting.session.clone(), proof: Base64(proof), request: Base64(request) };
        let proved =
            Proved { channel, device, ledger: greeting.ledger, ca_certificate: greeting.ca_certificate.clone() };
        Ok((proved, message))
    }
}

/// A device that proved the code, and to which the ledger did.
#[derive(Debug)]
pub struct Proved {
    channel: Channel,
    device: DeviceId,
    ledger: LedgerId,
    ca_certificate: Der,
}

impl Proved {
    /// Opens the receipt.
    ///
    /// # Errors
    /// [`JoinError::Proof`] where it was not sealed by the ledger, [`JoinError::Answer`].
    pub fn received(self, sealed: &[u8]) -> Result<Waiting, JoinError> {
        let plain = self.channel.open(SEALED_RECEIPT, sealed)?;
        let (request, key) = plain.split_first_chunk().ok_or(JoinError::Answer)?;
        Ok(Waiting {
            request: RequestId::from_bytes(*request),
            poll_key: Key::from_slice(key).ok_or(JoinError::Answer)?,
            sas: self.channel.sas().to_owned(),
            device: self.device,
            ledger: self.ledger,
            ca_certificate: self.ca_certificate,
        })
    }
}

/// A device whose request waits for a person.
pub struct Waiting {
    /// The request.
    pub request: RequestId,
    /// The digits that both sides show.
    pub sas: String,
    /// The ledger.
    pub ledger: LedgerId,
    /// The root certificate that the proof vouched for.
    pub ca_certificate: Der,
    device: DeviceId,
    poll_key: Key,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("request", &self.request).finish_non_exhaustive()
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It waits.
    Waiting,
    /// It was approved; this is the certificate.
    Approved(Der),
    /// It was denied.
    Denied,
    /// Nobody answered in time.
    Expired,
}

impl Waiting {
    /// A request that waits, as a device kept it.
    #[must_use]
    pub fn again(pending: &super::PendingNote, root: Der, poll_key: Key) -> Self {
        Self {
            request: pending.request,
            sas: pending.sas.clone(),
            ledger: pending.device.ledger,
            ca_certificate: root,
            device: pending.device.device,
            poll_key,
        }
    }

    /// The key that opens the answer, for whoever keeps the request.
    #[must_use]
    pub const fn poll_key(&self) -> &Key {
        &self.poll_key
    }

    /// Opens the answer to a question after the request.
    ///
    /// # Errors
    /// [`JoinError`] where it was not sealed by the ledger, or the certificate is not this device's.
    pub fn answered(&self, sealed: &[u8]) -> Result<Answer, JoinError> {
        let plain =
            open_sealed(&Opener::wrapping(&self.poll_key), SEALED_STATUS, sealed).map_err(|_| PakeError::Sealed)?;
        match plain.split_first() {
            Some((0, [])) => Ok(Answer::Waiting),
            Some((1, certificate)) => {
                let facts = read_leaf(certificate).map_err(|_| JoinError::Answer)?;
                if facts.device != Some(self.device) {
                    return Err(JoinError::OtherDevice);
                }
                Ok(Answer::Approved(Der::new(certificate)))
            }
            Some((2, [])) => Ok(Answer::Denied),
            Some((3, [])) => Ok(Answer::Expired),
            _ => Err(JoinError::Answer),
        }
    }
}
