//! The ledger's side of a pairing over the wire, whatever carries the messages.
//!
//! Every attempt is durable before its answer exists, so a guess is counted even if the process dies
//! right after; sessions between two messages live in memory alone and are worth nothing after a restart.

use crate::base::{DeviceId, DeviceName, LedgerId, PairingId, RequestId, limits};
use crate::crypto::{Key, Opener, labels, seal_sealed};
use crate::event::Event;
use crate::event::identity::{ClientKind, Der, EndCause, PairingRefused, RefusalCause};
use crate::identity::pake::{
    Channel, LedgerStart, PROTOCOL_VERSION, PakeError, SEALED_RECEIPT, SEALED_REQUEST, SEALED_STATUS, Transcript,
};
use crate::identity::{self, Asked, IdentityError, RequestState};

use super::error::Error;
use super::identity_handle::Identity;

/// A device's first message.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// Version of the protocol that it speaks.
    pub version: u16,
    /// Locator of the code.
    pub locator: &'a str,
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it wants to be called.
    pub name: &'a DeviceName,
    /// Its public key (`SubjectPublicKeyInfo`).
    pub public_key: &'a [u8],
    /// First message of the proof.
    pub proof: &'a [u8],
}

/// The ledger's answer to a first message.
#[derive(Debug)]
pub struct Greeting {
    /// The ledger.
    pub ledger: LedgerId,
    /// The CA's root certificate, which the proof vouches for.
    pub ca_certificate: Der,
    /// Answer of the proof.
    pub proof: Vec<u8>,
}

/// A proof that waits for the device's second message; in memory alone, used once.
#[derive(Debug)]
pub struct PairingSession {
    start: LedgerStart,
    pairing: PairingId,
    device: DeviceId,
    kind: ClientKind,
    name: DeviceName,
    public_key: Vec<u8>,
    peer: String,
}

/// What became of a second message.
#[derive(Debug)]
pub struct Receipt {
    /// The request that waits for a person now.
    pub request: RequestId,
    /// The digits that both sides show.
    pub sas: String,
    /// Request id (8) and poll key (32), sealed for the device.
    pub sealed: Vec<u8>,
}

impl Identity {
    /// Answers a device's first message and counts the attempt.
    ///
    /// # Errors
    /// [`Error::Identity`] or [`Error::Pake`] where it is refused; the refusal is recorded with its cause.
    pub fn begin_pairing(&self, hello: &Hello<'_>, peer: &str) -> Result<(Greeting, PairingSession), Error> {
        let begun = self.begin_inner(hello, peer);
        self.record(begun, None, peer)
    }

    fn begin_inner(&self, hello: &Hello<'_>, peer: &str) -> Result<(Greeting, PairingSession), Error> {
        if hello.version != PROTOCOL_VERSION {
            return Err(IdentityError::Version { found: hello.version, wanted: PROTOCOL_VERSION }.into());
        }
        // Whoever cannot be paired in the end is told before an attempt is spent.
        let key = crate::pki::PublicKey::from_der(hello.public_key)?;
        let all = self.authorities()?;
        let ca_certificate = all.active().ok_or(IdentityError::NoAuthority)?.certificate.clone();
        let starts_max = self.core.settings.serve.pairing_starts_per_minute;
        let (_, (pairing, record)) = self.core.execute(&self.caller, |state, context| {
            identity::decide_attempt(state, context, hello.locator, peer, starts_max)
        })?;
        let verifier = record.verifier.ok_or(IdentityError::PairingUsed { pairing })?;
        let fingerprint = crate::pki::fingerprint(ca_certificate.as_bytes());
        let transcript = Transcript {
            version: hello.version,
            ledger: self.core.ledger_id,
            locator: hello.locator,
            ca_fingerprint: fingerprint.as_bytes(),
            ca_certificate: ca_certificate.as_bytes(),
            device: hello.device,
            kind: hello.kind,
            name: hello.name.as_str(),
            public_key: key.der(),
        };
        let unlocked = self.core.unlocked();
        let (start, proof) =
            LedgerStart::new(&*self.core.random, unlocked.ledger_key(), pairing, &verifier, hello.proof, &transcript)?;
        let session = PairingSession {
            start,
            pairing,
            device: hello.device,
            kind: hello.kind,
            name: hello.name.clone(),
            public_key: key.der().to_vec(),
            peer: peer.to_owned(),
        };
        Ok((Greeting { ledger: self.core.ledger_id, ca_certificate, proof }, session))
    }

    /// Checks a device's proof and takes its certificate request, of which only the public key is used. It
    /// must be the key that the first message named.
    ///
    /// # Errors
    /// [`Error::Pake`] where the code was wrong, [`Error::Csr`] where the request is refused,
    /// [`Error::Identity`] where the device may not pair; each is recorded, and the last wrong attempt
    /// burns the code.
    pub fn finish_pairing(&self, session: PairingSession, proof: &[u8], sealed: &[u8]) -> Result<Receipt, Error> {
        let (pairing, peer) = (session.pairing, session.peer.clone());
        let done = self.finish_inner(session, proof, sealed);
        if matches!(done, Err(Error::Pake(PakeError::WrongCode))) {
            self.core.execute(&self.caller, |state, _| {
                let attempts = identity::find_pairing(state, pairing)?.map_or(0, |record| record.attempts);
                if attempts < limits::PAIRING_ATTEMPTS_MAX {
                    return Ok((Vec::new(), ()));
                }
                identity::decide_end(state, pairing, EndCause::Burned)
            })?;
        }
        self.record(done, Some(pairing), &peer)
    }

    fn finish_inner(&self, session: PairingSession, proof: &[u8], sealed: &[u8]) -> Result<Receipt, Error> {
        let PairingSession { start, pairing, device, kind, name, public_key, peer } = session;
        let channel: Channel = start.finish(proof)?;
        let request = channel.open(SEALED_REQUEST, sealed)?;
        let key = crate::pki::public_key_from_csr(&request)?;
        if key.der() != public_key {
            return Err(IdentityError::OtherKey.into());
        }
        let public_key = Der::new(public_key);
        let request = RequestId::from_bytes(self.core.random.array()?);
        let asked =
            Asked { pairing, device, kind, name: &name, public_key: &public_key, sas: channel.sas(), peer: &peer };
        self.core.execute(&self.caller, |state, context| identity::decide_request(state, context, request, asked))?;
        let poll = self.poll_key(request);
        let mut receipt = zeroize::Zeroizing::new(Vec::with_capacity(40));
        receipt.extend_from_slice(request.as_bytes());
        receipt.extend_from_slice(poll.expose());
        let sealed = channel.seal(&*self.core.random, SEALED_RECEIPT, &receipt)?;
        Ok(Receipt { request, sas: channel.sas().to_owned(), sealed })
    }

    /// The key under which a device learns what became of its request: derived, so that it outlives a
    /// restart and stands nowhere.
    fn poll_key(&self, request: RequestId) -> Key {
        let unlocked = self.core.unlocked();
        Key::derive(labels::PAIRING_POLL, &[unlocked.ledger_key().expose(), request.as_bytes()])
    }

    /// What became of a request, sealed so that only its device reads it: one byte (0 waiting, 1 approved,
    /// 2 denied, 3 expired), and after 1 the certificate that the approval issued, in DER.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such request.
    pub fn poll_request(&self, request: RequestId) -> Result<Vec<u8>, Error> {
        let record = identity::find_request(&self.core.index, request)?.ok_or(IdentityError::NoRequest(request))?;
        let mut status = match record.state {
            RequestState::Expired => vec![3],
            RequestState::Waiting if self.clock().now() >= record.expires_at => vec![3],
            RequestState::Waiting => vec![0],
            RequestState::Approved(_) => vec![1],
            RequestState::Denied => vec![2],
        };
        if let RequestState::Approved(serial) = record.state {
            status.extend_from_slice(self.certificate_der(serial)?.as_bytes());
        }
        let opener = Opener::wrapping(&self.poll_key(request));
        Ok(seal_sealed(&opener, &self.core.random.array()?, SEALED_STATUS, &status))
    }

    /// Records a refusal with its cause; what is no refusal of the peer passes through.
    fn record<T>(&self, done: Result<T, Error>, pairing: Option<PairingId>, peer: &str) -> Result<T, Error> {
        let error = match done {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let cause = match &error {
            Error::Identity(error) => error.cause(),
            Error::Csr(_) => Some(RefusalCause::BadRequest),
            Error::Pake(PakeError::WrongCode) => Some(RefusalCause::WrongCode),
            Error::Pake(PakeError::Malformed) => Some(RefusalCause::Malformed),
            Error::Pake(PakeError::Sealed) => Some(RefusalCause::OutOfOrder),
            _ => None,
        };
        if let Some(cause) = cause {
            self.refuse_pairing(cause, pairing, peer)?;
        }
        Err(error)
    }

    /// Records that somebody was refused to pair before the ledger looked at the message: a session that is
    /// over, too many at once, a body that does not read. A flood of one cause is counted, not recorded.
    ///
    /// # Errors
    /// As a write.
    pub fn refuse_pairing(&self, cause: RefusalCause, pairing: Option<PairingId>, peer: &str) -> Result<(), Error> {
        if let Some(suppressed) = self.core.refusals.admit(cause, std::time::Instant::now()) {
            let event = PairingRefused { pairing, cause, peer: identity::bounded(peer), suppressed };
            self.core.execute(&self.caller, |_, _| Ok::<_, Error>((vec![Event::PairingRefused(event)], ())))?;
        }
        Ok(())
    }
}
