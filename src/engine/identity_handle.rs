//! Device trust as an embedding program sees it: codes, requests, devices, certificates, the CA.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use crate::base::{
    Caller, Clock, DeviceId, DeviceName, PairingId, Reason, RequestId, Scope, Serial, Timestamp, limits,
};
use crate::event::Event;
use crate::event::identity::{CaCertified, ClientKind, CodeMethod, CrlIssued, Der, EndCause};
use crate::identity::{
    self, Approval, Approve, Authorities, CertificateRecord, Code, DeviceOrigin, DeviceRecord, IdentityError, Issue,
    Minted, PairingRecord, Renewal, RequestRecord, Trust,
};
use crate::keys::KeysError;
use crate::pki::{Authority, PublicKey, ServerName};

use super::core::Core;
use super::error::Error;
use super::open::decode_frame;

/// Devices, certificates and the CA, for one caller. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    pub(super) core: Arc<Core>,
    pub(super) caller: Caller,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// How to make a pairing code.
#[derive(Debug, Clone)]
pub struct MintOptions {
    /// How the code is carried over.
    pub method: CodeMethod,
    /// What the device must be, if that matters.
    pub kind: Option<ClientKind>,
    /// What the device is to be called, if that is known.
    pub name: Option<DeviceName>,
    /// Life of the code in milliseconds, at most an hour.
    pub ttl_ms: u64,
}

impl Default for MintOptions {
    /// A PIN for any device, good for five minutes.
    fn default() -> Self {
        Self { method: CodeMethod::Pin, kind: None, name: None, ttl_ms: limits::PAIRING_TTL_MS }
    }
}

/// A pairing code that was made. It is shown now or never: the log keeps a verifier alone.
#[derive(Debug)]
pub struct Minting {
    /// The pairing.
    pub pairing: PairingId,
    /// The code.
    pub code: Code,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl From<identity::ApplyFault> for Error {
    fn from(fault: identity::ApplyFault) -> Self {
        Self::Identity(fault.into())
    }
}

impl Core {
    /// The authority of the generation that issues.
    pub(super) fn authority(&self, generation: u32) -> Result<Authority, Error> {
        let unlocked = self.unlocked();
        let key = unlocked.ca_key_of(generation).ok_or(KeysError::CaGeneration { generation })?;
        Ok(Authority::new(key, self.ledger_id, generation)?)
    }

    /// Makes the first root certificate where there is none yet.
    pub(super) fn certify(&self, caller: &Caller) -> Result<Authorities, Error> {
        let known = identity::authorities(&self.index)?;
        if !known.0.is_empty() || self.read_only {
            return Ok(known);
        }
        let unlocked = self.unlocked();
        self.execute(caller, |state, context| {
            if !identity::authorities(state)?.0.is_empty() {
                return Ok::<_, Error>((Vec::new(), ()));
            }
            let certificate = Der::new(crate::pki::root(unlocked.ca_key(), self.ledger_id, 1, context.now)?);
            let not_after = crate::pki::root_end(context.now);
            Ok((vec![Event::CaCertified(CaCertified { generation: 1, certificate, not_after })], ()))
        })?;
        Ok(identity::authorities(&self.index)?)
    }

    /// Signs a planned certificate.
    pub(super) fn sign(authority: &Authority, planned: &Issue) -> Result<Der, Error> {
        let key = PublicKey::from_der(planned.public_key.as_bytes())?;
        let validity = (planned.not_before, planned.not_after);
        let der = match &planned.subject {
            crate::event::identity::Subject::Device(device) => {
                authority.device_leaf(*device, &key, planned.serial, validity)?
            }
            crate::event::identity::Subject::Server(names) => {
                let names = names.iter().map(|name| name.parse()).collect::<Result<Vec<ServerName>, _>>()?;
                authority.server_leaf(&names, &key, planned.serial, validity)?
            }
        };
        Ok(Der::new(der))
    }
}

/// Signing within a decision: the error of the signature is kept beside the domain's own.
fn signing<T>(core: &Core, run: impl FnOnce(&mut identity::Sign<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let mut fault = None;
    // By the generation that the decision names: another may have begun to issue since the call came.
    let mut sign = |planned: &Issue| {
        core.authority(planned.generation).and_then(|authority| Core::sign(&authority, planned)).map_err(|error| {
            fault = Some(error);
            IdentityError::NoAuthority
        })
    };
    let done = run(&mut sign);
    match fault {
        Some(error) => Err(error),
        None => done,
    }
}

/// The clock, and the log where the clock is behind it.
struct LedgerClock(Arc<Core>);

impl Clock for LedgerClock {
    fn now(&self) -> Timestamp {
        let latest = self.0.latest.load(std::sync::atomic::Ordering::Acquire);
        self.0.clock.now().max(Timestamp::from_millis(latest))
    }
}

impl Identity {
    /// The generations of the CA; the first root certificate is made where there is none yet.
    ///
    /// # Errors
    /// As a write.
    pub fn authorities(&self) -> Result<Authorities, Error> {
        self.core.certify(&self.caller)
    }

    /// The generations of the CA as they are: nothing is made.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn known_authorities(&self) -> Result<Authorities, Error> {
        Ok(identity::authorities(&self.core.index)?)
    }

    /// The same for another caller.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { core: Arc::clone(&self.core), caller }
    }

    /// The live view of device trust, for whoever accepts connections. The first call makes the first root
    /// certificate where there is none yet.
    ///
    /// # Errors
    /// As [`Identity::authorities`].
    pub fn trust(&self) -> Result<Arc<Trust>, Error> {
        self.authorities()?;
        self.core.trust()
    }

    /// A view of device trust as of now that follows nothing: for measurements and tests.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    #[doc(hidden)]
    pub fn trust_apart(&self) -> Result<Trust, Error> {
        let latest = self.core.latest.load(std::sync::atomic::Ordering::Acquire);
        Ok(Trust::read(&self.core.index, Timestamp::from_millis(latest))?)
    }

    /// What a thief of the CA key has.
    #[cfg(test)]
    pub(crate) fn stolen_ca_key(&self) -> Vec<u8> {
        self.core.unlocked().ca_key().to_vec()
    }

    /// The ledger's clock. It never stands behind the last event: a certificate that the log saw end stays
    /// ended when somebody sets the machine's clock back.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(LedgerClock(Arc::clone(&self.core)))
    }

    /// Makes a pairing code.
    ///
    /// # Errors
    /// [`Error::Identity`] where its life is out of bounds or too many are open.
    pub fn mint(&self, options: &MintOptions) -> Result<Minting, Error> {
        self.core.certify(&self.caller)?;
        loop {
            let random = &*self.core.random;
            let pairing = PairingId::from_bytes(random.array()?);
            let code = Code::generate(random, options.method)?;
            let unlocked = self.core.unlocked();
            let verifier = identity::pake::verifier(random, unlocked.ledger_key(), pairing, &code)?;
            let minted = Minted {
                pairing,
                locator: code.locator().to_owned(),
                method: options.method,
                kind: options.kind,
                name: options.name.clone(),
                ttl_ms: options.ttl_ms,
                verifier,
            };
            let done = self.core.execute(&self.caller, |state, context| identity::decide_mint(state, context, minted));
            match done {
                Ok((_, expires_at)) => return Ok(Minting { pairing, code, expires_at }),
                // Another open code has these four letters: draw again.
                Err(Error::Identity(IdentityError::LocatorTaken)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a code back. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such code.
    pub fn cancel(&self, pairing: PairingId) -> Result<(), Error> {
        let done =
            self.core.execute(&self.caller, |state, _| identity::decide_end(state, pairing, EndCause::Cancelled));
        done.map(|_| ())
    }

    /// Pairing codes that the ledger remembers, without the codes.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn pairings(&self) -> Result<Vec<(PairingId, PairingRecord)>, Error> {
        let mut found = Vec::new();
        identity::list_pairings(&self.core.index, &mut |id, record| {
            found.push((id, record));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Pairing requests, oldest first.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn requests(&self) -> Result<Vec<(RequestId, RequestRecord)>, Error> {
        let mut found = Vec::new();
        identity::list_requests(&self.core.index, &mut |id, record| {
            found.push((id, record));
            ControlFlow::Continue(())
        })?;
        found.sort_by_key(|(id, record)| (record.created, *id));
        Ok(found)
    }

    /// Approves a request: the device is paired and its certificate issued in one batch. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such request, it was denied or has expired, the short
    /// authentication string is another one, or a device is paired under its id
    /// ([`Identity::approve_replacing`]); that is recorded.
    pub fn approve(&self, request: RequestId, sas: Option<&str>) -> Result<Approval, Error> {
        self.approve_as(request, Approve { sas, replace: false })
    }

    /// Approves a request as [`Identity::approve`] does, though a device is paired under its id: that pairing
    /// is replaced, and every certificate of it revoked in the same batch.
    ///
    /// # Errors
    /// As [`Identity::approve`].
    pub fn approve_replacing(&self, request: RequestId, sas: Option<&str>) -> Result<Approval, Error> {
        self.approve_as(request, Approve { sas, replace: true })
    }

    fn approve_as(&self, request: RequestId, how: Approve<'_>) -> Result<Approval, Error> {
        self.authorities()?;
        let done = signing(&self.core, |sign| {
            self.core
                .execute(&self.caller, |state, context| identity::decide_approve(state, context, request, how, sign))
        });
        if let Err(Error::Identity(
            error @ (IdentityError::OtherSas(_) | IdentityError::NoRequest(_) | IdentityError::Replaces { .. }),
        )) = &done
        {
            let (target, what) = (Some(request.to_string()), error.to_string());
            self.core.record_refusal(&self.caller, "pairing approve", target, "denied", what)?;
        }
        done.map(|(_, approval)| approval)
    }

    /// The paired device whose place a request would take, if it asks under the id of one.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn replaced_by(&self, request: &RequestRecord) -> Result<Option<DeviceRecord>, Error> {
        Ok(identity::replaced_by(&self.core.index, request)?)
    }

    /// Ends every code and request that is over, by events; gives how many. Making a code or a request ends a
    /// few beside where room runs short, and a daemon calls this by the minute.
    ///
    /// # Errors
    /// As a write.
    pub fn sweep(&self) -> Result<usize, Error> {
        let mut all = 0;
        loop {
            let (_, ended) = self.core.execute(&self.caller, identity::decide_sweep)?;
            all += ended;
            if ended == 0 {
                return Ok(all);
            }
        }
    }

    /// Denies a request. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such request or it was approved.
    pub fn deny(&self, request: RequestId, reason: Option<Reason>) -> Result<DeviceId, Error> {
        self.core
            .execute(&self.caller, |state, _| identity::decide_deny(state, request, reason))
            .map(|(_, device)| device)
    }

    /// Every device, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn devices(&self) -> Result<Vec<(DeviceId, DeviceRecord)>, Error> {
        let mut found = Vec::new();
        identity::list_devices(&self.core.index, &mut |id, record| {
            found.push((id, record));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// One device.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is none.
    pub fn device(&self, device: DeviceId) -> Result<DeviceRecord, Error> {
        Ok(identity::find_device(&self.core.index, device)?.ok_or(IdentityError::NoDevice(device))?)
    }

    /// What another store said of a device, where it came from one.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn origin(&self, device: DeviceId) -> Result<Option<DeviceOrigin>, Error> {
        Ok(identity::device_origin(&self.core.index, device)?)
    }

    /// When a device was last seen, as far as that is recorded.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn last_seen(&self, device: DeviceId) -> Result<Option<Timestamp>, Error> {
        Ok(identity::last_seen(&self.core.index, device)?)
    }

    /// Gives a device another name.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such device.
    pub fn rename(&self, device: DeviceId, name: DeviceName) -> Result<(), Error> {
        let done = self.core.execute(&self.caller, |state, _| identity::decide_rename(state, device, name));
        done.map(|_| ())
    }

    /// Grants a device a scope of the vault beside its own `principal:<id>`, or takes it back. A daemon goes by it
    /// from the next request on.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such device, or it is revoked.
    pub fn grant(&self, device: DeviceId, scope: Scope, granted: bool) -> Result<(), Error> {
        let done = self.core.execute(&self.caller, |state, _| identity::decide_grant(state, device, scope, granted));
        done.map(|_| ())
    }

    /// Revokes a device and every certificate of it. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such device.
    pub fn revoke(&self, device: DeviceId) -> Result<(), Error> {
        self.core
            .execute(&self.caller, |state, context| identity::decide_revoke(state, context.now, device))
            .map(|_| ())
    }

    /// Lets a revoked device ask to be paired again.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such device or it is paired.
    pub fn clear(&self, device: DeviceId) -> Result<(), Error> {
        self.core.execute(&self.caller, |state, _| identity::decide_clear(state, device)).map(|_| ())
    }

    /// Takes a device off the list; what it holds is revoked.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such device, or it is revoked and was not cleared.
    pub fn remove(&self, device: DeviceId) -> Result<(), Error> {
        self.core.execute(&self.caller, |state, _| identity::decide_remove(state, device)).map(|_| ())
    }

    /// Revokes one certificate. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is no such certificate.
    pub fn revoke_certificate(&self, serial: Serial) -> Result<(), Error> {
        let done = self.core.execute(&self.caller, |state, _| identity::decide_revoke_certificate(state, serial));
        done.map(|_| ())
    }

    /// What is known of a certificate.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is none with this serial number.
    pub fn certificate(&self, serial: Serial) -> Result<CertificateRecord, Error> {
        Ok(identity::find_certificate(&self.core.index, serial)?.ok_or(IdentityError::NoCertificate(serial))?)
    }

    /// A certificate's bytes (DER), from the event that recorded it.
    ///
    /// # Errors
    /// [`Error::Identity`] where there is none, or the log does not read.
    pub fn certificate_der(&self, serial: Serial) -> Result<Der, Error> {
        let record = self.certificate(serial)?;
        let mut buffer = Vec::new();
        self.core.journal.read(record.seq, &mut buffer)?;
        let frame = crate::log::Frame::parse_checked(&buffer)
            .map_err(|_| crate::log::JournalError::Missing { seq: record.seq })?;
        match decode_frame(&frame, &self.core.unlocked())?.event {
            Event::CertificateIssued(event) if event.serial == serial => Ok(event.certificate),
            Event::DevicesImported(event) => {
                let mut held = event.devices.into_iter().flat_map(|device| device.certificates);
                let found = held.find(|one| one.serial == serial).and_then(|one| one.certificate);
                Ok(found.ok_or(IdentityError::NoCertificate(serial))?)
            }
            _ => Err(IdentityError::NoCertificate(serial).into()),
        }
    }

    /// Certificates that have not ended by a time, the next to end first.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn expiring(&self, from: Timestamp, limit: usize) -> Result<Vec<(Serial, CertificateRecord)>, Error> {
        let mut serials = Vec::new();
        identity::expiring(&self.core.index, from, &mut |serial| {
            serials.push(serial);
            if serials.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        serials.into_iter().map(|serial| Ok((serial, self.certificate(serial)?))).collect()
    }

    /// Serial numbers of a device's certificates, oldest first.
    ///
    /// # Errors
    /// [`Error::Identity`] where the state cannot be read.
    pub fn certificates_of(&self, device: DeviceId) -> Result<Vec<Serial>, Error> {
        Ok(identity::certificates_of(&self.core.index, device)?)
    }

    /// Issues the next certificate of a paired device, for the public key in its certificate request.
    ///
    /// # Errors
    /// [`Error::Csr`] where the request is refused, [`Error::Identity`] where the device may not renew.
    pub fn renew(&self, device: DeviceId, shown: Serial, request: &[u8]) -> Result<(Serial, Der), Error> {
        let key = Der::new(crate::pki::public_key_from_csr(request)?.der());
        self.issue(Renewal::Device { device, shown, public_key: &key })
    }

    /// Issues a certificate for the daemon under its names.
    ///
    /// # Errors
    /// [`Error::Sign`] where a name is none.
    pub fn issue_server(&self, names: &[ServerName], key: &PublicKey) -> Result<(Serial, Der), Error> {
        let public_key = Der::new(key.der());
        let names = names.iter().map(ToString::to_string).collect();
        self.issue(Renewal::Server { names, public_key: &public_key })
    }

    /// The certificates by which imported roots that are still trusted vouch for the one that issues now: the daemon
    /// shows them behind its own, so that devices which know an imported root alone can follow. They are made from
    /// what the log holds and add nothing to it, so there is no event of them.
    ///
    /// # Errors
    /// [`Error::Identity`] or [`Error::Sign`] where the roots or the keys cannot be read.
    pub fn cross_certificates(&self) -> Result<Vec<Der>, Error> {
        let all = self.authorities()?;
        let active = all.active().ok_or(IdentityError::NoAuthority)?;
        let unlocked = self.core.unlocked();
        let mut made = Vec::new();
        for other in all.trusted().into_iter().filter(|record| record.generation != active.generation) {
            let Some(key) = unlocked.ca_key_of(other.generation) else { continue };
            let own = (self.core.ledger_id, active.generation);
            let cross = crate::pki::cross(active.certificate.as_bytes(), own, other.certificate.as_bytes(), key)?;
            made.extend(cross.map(Der::new));
        }
        Ok(made)
    }

    fn issue(&self, renewal: Renewal<'_>) -> Result<(Serial, Der), Error> {
        self.authorities()?;
        let (_, serial) = signing(&self.core, |sign| {
            self.core.execute(&self.caller, |state, context| identity::decide_issue(state, context, renewal, sign))
        })?;
        Ok((serial, self.certificate_der(serial)?))
    }

    /// Signs a revocation list of every certificate that was revoked and could still be shown; it is good
    /// for a day. Its number and digest are recorded.
    ///
    /// # Errors
    /// As a write.
    pub fn revocation_list(&self) -> Result<(CrlIssued, Der), Error> {
        self.revocation_list_of(None)
    }

    /// The same, signed by a generation that is still trusted: a list speaks for one issuer, and during a CA
    /// roll certificates of two are about.
    ///
    /// # Errors
    /// [`Error::Identity`] where the generation is not trusted, or as a write.
    pub fn revocation_list_of(&self, generation: Option<u32>) -> Result<(CrlIssued, Der), Error> {
        self.authorities()?;
        let _listing = self.core.listing.lock().unwrap_or_else(PoisonError::into_inner);
        self.core.settled();
        // Signed before it is decided: no writer waits for a list of a hundred thousand.
        let (mut planned, revoked) = identity::plan_crl(&self.core.index, self.clock().now(), generation)?;
        let times = (planned.this_update, planned.next_update);
        let der = self.core.authority(planned.generation)?.revocation_list(planned.number, &revoked, times)?;
        planned.digest = crate::crypto::Hash::of(crate::crypto::labels::REVOCATION_LIST, &[&der]);
        planned.entries = revoked.len() as u64;
        let (_, issued) = self.core.execute(&self.caller, |state, _| identity::decide_crl(state, planned))?;
        Ok((issued, Der::new(der)))
    }
}
