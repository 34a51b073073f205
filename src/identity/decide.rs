//! Decisions about pairing, devices and certificates: a command against the state gives events or a
//! refusal, without any I/O.

use std::ops::ControlFlow;

use crate::base::{
    Context, DeviceId, DeviceName, PairingId, Reason, RequestId, Scope, Serial, StateRead, Timestamp, limits,
};
use crate::crypto::Hash;
use crate::event::Event;
use crate::event::identity::{
    CertificateIssued, CertificateRevoked, ClientKind, CodeMethod, CrlIssued, Der, DeviceCleared, DeviceGranted,
    DevicePaired, DeviceRemoved, DeviceRenamed, DeviceRevoked, EndCause, IssueCause, PairingApproved, PairingAttempted,
    PairingDenied, PairingEnded, PairingMinted, PairingRequested, RequestExpired, Subject, Verifier,
};

use super::fault::{ApplyFault, IdentityError};
use super::pairing::{PairingRecord, PairingState, RequestRecord, RequestState};
use super::state::{
    AuthorityState, DeviceRecord, DeviceState, authorities, counters, find_certificate, find_device, find_pairing,
    find_request, key_holder, locate_pairing, open_pairings, revocable, revocations, unanswered,
};

type Decision<T> = Result<(Vec<Event>, T), IdentityError>;

/// A pairing code to be recorded.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The pairing.
    pub pairing: PairingId,
    /// The code's locator.
    pub locator: String,
    /// How the code is carried over.
    pub method: CodeMethod,
    /// What the device must be.
    pub kind: Option<ClientKind>,
    /// What the device is to be called.
    pub name: Option<DeviceName>,
    /// Its life in milliseconds.
    pub ttl_ms: u64,
    /// Its verifier.
    pub verifier: Verifier,
}

/// Decides a new pairing code; gives when it ends.
///
/// # Errors
/// [`IdentityError`] where its life is out of bounds, its locator is taken or too many are open.
pub fn decide_mint(state: &dyn StateRead, context: &Context, minted: Minted) -> Decision<Timestamp> {
    if minted.ttl_ms == 0 || minted.ttl_ms > limits::PAIRING_TTL_MAX_MS {
        return Err(IdentityError::Ttl { max_s: limits::PAIRING_TTL_MAX_MS / 1000 });
    }
    let mut over = beside(state, context.now)?;
    if let Some(holder) = locate_pairing(state, &minted.locator)?
        && over.pairings.iter().all(|(pairing, _)| *pairing != holder)
    {
        let record = find_pairing(state, holder)?.ok_or(ApplyFault::Missing("pairing"))?;
        over.pairings.push((holder, record.ended(context.now).ok_or(IdentityError::LocatorTaken)?));
    }
    if usize::try_from(counters(state)?.open_pairings).unwrap_or(usize::MAX)
        >= over.pairings.len().saturating_add(limits::PAIRINGS_OPEN_MAX as usize)
    {
        return Err(IdentityError::TooManyPairings { max: limits::PAIRINGS_OPEN_MAX });
    }
    let mut events = over.events();
    let expires_at = context.now.plus_millis(minted.ttl_ms);
    let Minted { pairing, locator, method, kind, name, verifier, .. } = minted;
    events.push(Event::PairingMinted(PairingMinted { pairing, locator, method, kind, name, expires_at, verifier }));
    Ok((events, expires_at))
}

/// Codes and requests that are over and that no event has ended yet.
#[derive(Default)]
struct Overdue {
    pairings: Vec<(PairingId, EndCause)>,
    requests: Vec<(RequestId, DeviceId)>,
}

impl Overdue {
    fn events(self) -> Vec<Event> {
        let ended = |(pairing, cause)| Event::PairingEnded(PairingEnded { pairing, cause });
        let expired = |(request, device)| Event::RequestExpired(RequestExpired { request, device });
        self.pairings.into_iter().map(ended).chain(self.requests.into_iter().map(expired)).collect()
    }
}

/// What is over, at most `max` codes and as many requests.
fn over(state: &dyn StateRead, now: Timestamp, max: usize) -> Result<Overdue, IdentityError> {
    let mut found = Overdue::default();
    for pairing in open_pairings(state)? {
        if found.pairings.len() >= max {
            break;
        }
        let record = find_pairing(state, pairing)?.ok_or(ApplyFault::Missing("pairing"))?;
        found.pairings.extend(record.over(now).map(|cause| (pairing, cause)));
    }
    for request in unanswered(state, now, max)? {
        let record = find_request(state, request)?.ok_or(ApplyFault::Missing("request"))?;
        found.requests.push((request, record.device));
    }
    Ok(found)
}

/// What a decision ends beside its own work: a little, and only where room runs short, because looking for it
/// costs more than the decision does.
fn beside(state: &dyn StateRead, now: Timestamp) -> Result<Overdue, IdentityError> {
    let totals = counters(state)?;
    let short =
        totals.open_pairings >= limits::PAIRINGS_OPEN_MAX / 2 || totals.open_requests >= limits::REQUESTS_OPEN_MAX / 2;
    if short { over(state, now, limits::SWEEP_BESIDE) } else { Ok(Overdue::default()) }
}

/// Decides the end of codes and requests that are over, one batch of them; gives how many. A daemon asks for
/// it by the clock, and making a code or a request ends a few beside where room runs short.
///
/// # Errors
/// [`IdentityError::State`] where the state cannot be read.
pub fn decide_sweep(state: &dyn StateRead, context: &Context) -> Decision<usize> {
    let events = over(state, context.now, limits::SWEEP_BATCH)?.events();
    let count = events.len();
    Ok((events, count))
}

/// Decides the end of a code: on a person's word, or because its time or its attempts are over. What has
/// ended is no refusal: it gives no event.
///
/// # Errors
/// [`IdentityError::NoPairing`].
pub fn decide_end(state: &dyn StateRead, pairing: PairingId, cause: EndCause) -> Decision<()> {
    let record = find_pairing(state, pairing)?.ok_or(IdentityError::NoPairing)?;
    let open = record.state == PairingState::Open;
    Ok((Vec::from_iter(open.then_some(Event::PairingEnded(PairingEnded { pairing, cause }))), ()))
}

/// Decides whether an attempt at a code may go on; gives the pairing and its record. The event must be
/// durable before the first answer leaves, so that every guess is counted.
///
/// # Errors
/// [`IdentityError`] where the code is unknown, used or over, or too many pairings were begun.
pub fn decide_attempt(
    state: &dyn StateRead,
    context: &Context,
    locator: &str,
    peer: &str,
    starts_max: u32,
) -> Decision<(PairingId, PairingRecord)> {
    let totals = counters(state)?;
    let same_window = totals
        .window_began
        .is_some_and(|began| context.now.as_millis().saturating_sub(began.as_millis()) < limits::PAIRING_WINDOW_MS);
    if same_window && totals.window_starts >= starts_max {
        return Err(IdentityError::TooManyStarts { max: starts_max });
    }
    let pairing = locate_pairing(state, locator)?.ok_or(IdentityError::NoPairing)?;
    let record = find_pairing(state, pairing)?.ok_or(ApplyFault::Missing("pairing"))?;
    usable(pairing, &record, context.now)?;
    let attempt = record.attempts.saturating_add(1);
    let event = PairingAttempted { pairing, attempt, peer: bounded(peer) };
    Ok((vec![Event::PairingAttempted(event)], (pairing, record)))
}

fn usable(pairing: PairingId, record: &PairingRecord, now: Timestamp) -> Result<(), IdentityError> {
    match (record.state, record.ended(now)) {
        (PairingState::Used(_), _) => Err(IdentityError::PairingUsed { pairing }),
        (_, Some(cause)) => Err(IdentityError::PairingEnded { pairing, cause }),
        (_, None) => Ok(()),
    }
}

/// Decides a request of a device that proved the code.
///
/// # Errors
/// [`IdentityError`] where the code was used meanwhile or is over, the device is revoked or of another
/// kind, its key belongs to another device, or too many requests wait.
pub fn decide_request(
    state: &dyn StateRead,
    context: &Context,
    request: RequestId,
    asked: Asked<'_>,
) -> Decision<RequestId> {
    let record = find_pairing(state, asked.pairing)?.ok_or(IdentityError::NoPairing)?;
    match record.state {
        PairingState::Used(_) => return Err(IdentityError::PairingUsed { pairing: asked.pairing }),
        PairingState::Ended(cause) => return Err(IdentityError::PairingEnded { pairing: asked.pairing, cause }),
        PairingState::Open if context.now >= record.expires_at => {
            return Err(IdentityError::PairingEnded { pairing: asked.pairing, cause: EndCause::Expired });
        }
        PairingState::Open => {}
    }
    let known = (asked.kind == ClientKind::Unknown).then_some(ClientKind::Node);
    if let Some(wanted) = record.kind.or(known).filter(|kind| *kind != asked.kind) {
        return Err(IdentityError::OtherKind { wanted, found: asked.kind });
    }
    may_pair(state, asked.device, asked.public_key)?;
    let mut over = beside(state, context.now)?;
    over.pairings.retain(|(pairing, _)| *pairing != asked.pairing);
    if usize::try_from(counters(state)?.open_requests).unwrap_or(usize::MAX)
        >= over.requests.len().saturating_add(limits::REQUESTS_OPEN_MAX as usize)
    {
        return Err(IdentityError::TooManyRequests { max: limits::REQUESTS_OPEN_MAX });
    }
    let event = PairingRequested {
        pairing: asked.pairing,
        request,
        device: asked.device,
        kind: asked.kind,
        // The name that the code was made with wins: whoever made it chose it.
        name: record.name.unwrap_or_else(|| asked.name.clone()),
        public_key: asked.public_key.clone(),
        sas: asked.sas.to_owned(),
        peer: bounded(asked.peer),
        expires_at: context.now.plus_millis(limits::REQUEST_TTL_MS),
    };
    let mut events = over.events();
    events.push(Event::PairingRequested(event));
    Ok((events, request))
}

/// What a device that proved the code asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The pairing whose code it proved.
    pub pairing: PairingId,
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it wants to be called.
    pub name: &'a DeviceName,
    /// Its public key, from its certificate request.
    pub public_key: &'a Der,
    /// Short authentication string.
    pub sas: &'a str,
    /// Address it came from.
    pub peer: &'a str,
}

fn may_pair(state: &dyn StateRead, device: DeviceId, public_key: &Der) -> Result<(), IdentityError> {
    if find_device(state, device)?.is_some_and(|record| record.state == DeviceState::Revoked) {
        return Err(IdentityError::DeviceRevoked(device));
    }
    match key_holder(state, public_key)? {
        Some(holder) if holder != device => Err(IdentityError::KeyTaken(holder)),
        _ => Ok(()),
    }
}

/// A certificate about to be signed: everything comes from our own record but the public key.
#[derive(Debug, Clone)]
pub struct Issue {
    /// Its serial number.
    pub serial: Serial,
    /// Whom it is for.
    pub subject: Subject,
    /// The subject's public key (`SubjectPublicKeyInfo`).
    pub public_key: Der,
    /// Generation of the CA key that signs.
    pub generation: u32,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Why.
    pub cause: IssueCause,
}

/// What became of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The device.
    pub device: DeviceId,
    /// Its certificate's serial number, where this call issued it.
    pub issued: Option<Serial>,
}

/// Signs a certificate; given by the engine, which holds the CA key.
pub type Sign<'a> = dyn FnMut(&Issue) -> Result<Der, IdentityError> + 'a;

/// How a person approves a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Approve<'a> {
    /// The digits that the device shows, where they were compared.
    pub sas: Option<&'a str>,
    /// Whether the device may take the place of one that is paired under its id.
    pub replace: bool,
}

/// Decides an approval: request, device and certificate in one batch. Approving again is no refusal: it
/// gives no event.
///
/// # Errors
/// [`IdentityError`] where there is no such request, it was denied or its time is over, the short
/// authentication string is another one, the device was revoked meanwhile, or its id is that of a device
/// that is paired and the person did not say that it is to be replaced.
pub fn decide_approve(
    state: &dyn StateRead,
    context: &Context,
    request: RequestId,
    how: Approve<'_>,
    sign: &mut Sign<'_>,
) -> Decision<Approval> {
    let record = find_request(state, request)?.ok_or(IdentityError::NoRequest(request))?;
    match record.state {
        RequestState::Approved(_) => return Ok((Vec::new(), Approval { device: record.device, issued: None })),
        RequestState::Denied => return Err(IdentityError::Answered { request, answer: "denied" }),
        RequestState::Expired => return Err(IdentityError::RequestExpired(request)),
        RequestState::Waiting if context.now >= record.expires_at => {
            return Err(IdentityError::RequestExpired(request));
        }
        RequestState::Waiting => {}
    }
    if how.sas.is_some_and(|given| !same_digits(given, &record.sas)) {
        return Err(IdentityError::OtherSas(request));
    }
    may_pair(state, record.device, &record.public_key)?;
    let replaces = replaced_by(state, &record)?;
    if let Some(standing) = &replaces
        && !how.replace
    {
        return Err(IdentityError::Replaces { device: record.device, name: standing.name.clone() });
    }
    let subject = Subject::Device(record.device);
    let (issued, serial) = issue(state, context, subject, &record.public_key, IssueCause::Paired, sign)?;
    let RequestRecord { device, kind, name, public_key, .. } = record;
    let events = vec![
        Event::PairingApproved(PairingApproved { request, device, sas_compared: how.sas.is_some(), serial }),
        Event::DevicePaired(DevicePaired { device, kind, name, public_key, replaces: replaces.is_some() }),
        issued,
    ];
    Ok((events, Approval { device, issued: Some(serial) }))
}

/// The paired device whose place a request would take, if it asks under the id of one.
///
/// # Errors
/// [`ApplyFault`] where the state cannot be read.
pub fn replaced_by(state: &dyn StateRead, request: &RequestRecord) -> Result<Option<DeviceRecord>, ApplyFault> {
    Ok(find_device(state, request.device)?.filter(|record| record.state == DeviceState::Paired))
}

/// Digits as people type them: spaces and dashes between them do not matter.
fn same_digits(given: &str, wanted: &str) -> bool {
    given.chars().filter(|letter| !matches!(letter, ' ' | '-')).eq(wanted.chars())
}

/// Decides a denial. Denying again is no refusal: it gives no event.
///
/// # Errors
/// [`IdentityError`] where there is no such request or it was approved.
pub fn decide_deny(state: &dyn StateRead, request: RequestId, reason: Option<Reason>) -> Decision<DeviceId> {
    let record = find_request(state, request)?.ok_or(IdentityError::NoRequest(request))?;
    let device = record.device;
    match record.state {
        RequestState::Waiting => Ok((vec![Event::PairingDenied(PairingDenied { request, device, reason })], device)),
        RequestState::Denied => Ok((Vec::new(), device)),
        RequestState::Expired => Err(IdentityError::RequestExpired(request)),
        RequestState::Approved(_) => Err(IdentityError::Answered { request, answer: "approved" }),
    }
}

/// Builds and signs the next certificate.
fn issue(
    state: &dyn StateRead,
    context: &Context,
    subject: Subject,
    public_key: &Der,
    cause: IssueCause,
    sign: &mut Sign<'_>,
) -> Result<(Event, Serial), IdentityError> {
    let authorities = authorities(state)?;
    let active = authorities.active().ok_or(IdentityError::NoAuthority)?;
    let generation = active.generation;
    let random = context.nonce.first_chunk().copied().unwrap_or_default();
    let serial = Serial::new(counters(state)?.next_serial, random);
    let not_before = Timestamp::from_millis(context.now.as_millis().saturating_sub(limits::LEAF_BACKDATE_MS));
    // No verifier accepts a leaf beyond its root: none says that it lives longer.
    let not_after = context.now.plus_millis(limits::LEAF_LIFE_MS).min(active.not_after);
    if not_after <= context.now {
        return Err(IdentityError::RootEnded { generation });
    }
    let planned = Issue { serial, subject, public_key: public_key.clone(), generation, not_before, not_after, cause };
    let certificate = sign(&planned)?;
    let Issue { subject, .. } = planned;
    let event = CertificateIssued { serial, subject, generation, not_before, not_after, cause, certificate };
    Ok((Event::CertificateIssued(event), serial))
}

/// What asks for a certificate beside a pairing.
#[derive(Debug, Clone)]
pub enum Renewal<'a> {
    /// A paired device, with the serial number of the certificate that it shows.
    Device {
        /// The device.
        device: DeviceId,
        /// The certificate that it shows.
        shown: Serial,
        /// Its new public key, from its certificate request.
        public_key: &'a Der,
    },
    /// The daemon, under these names.
    Server {
        /// DNS names and addresses.
        names: Vec<String>,
        /// Its new public key.
        public_key: &'a Der,
    },
}

/// Decides a renewal, or a certificate for the daemon.
///
/// # Errors
/// [`IdentityError`] where the device is not paired, the certificate shown is revoked or another
/// device's, ended too long ago, or was signed by a tainted generation and has ended.
pub fn decide_issue(
    state: &dyn StateRead,
    context: &Context,
    renewal: Renewal<'_>,
    sign: &mut Sign<'_>,
) -> Decision<Serial> {
    let (subject, public_key, cause) = match renewal {
        Renewal::Server { names, public_key } => (Subject::Server(names), public_key, IssueCause::Server),
        Renewal::Device { device, shown, public_key } => {
            let cause = may_renew(state, context, device, shown, public_key)?;
            (Subject::Device(device), public_key, cause)
        }
    };
    let (event, serial) = issue(state, context, subject, public_key, cause, sign)?;
    Ok((vec![event], serial))
}

fn may_renew(
    state: &dyn StateRead,
    context: &Context,
    device: DeviceId,
    shown: Serial,
    public_key: &Der,
) -> Result<IssueCause, IdentityError> {
    let record = paired(state, device)?;
    if record.state != DeviceState::Paired {
        return Err(IdentityError::DeviceRevoked(device));
    }
    let held = find_certificate(state, shown)?.ok_or(IdentityError::NoCertificate(shown))?;
    if held.subject != Subject::Device(device) {
        return Err(IdentityError::NoCertificate(shown));
    }
    if held.revoked.is_some() {
        return Err(IdentityError::CertificateRevoked(shown));
    }
    if key_holder(state, public_key)?.is_some_and(|holder| holder != device) {
        return Err(IdentityError::KeyTaken(device));
    }
    if context.now < held.not_after {
        return Ok(IssueCause::Renewed);
    }
    let tainted = authorities(state)?.0.iter().any(|generation| {
        generation.generation == held.generation
            && matches!(generation.state, AuthorityState::Tainted | AuthorityState::Revoked)
    });
    if tainted || context.now >= held.not_after.plus_millis(limits::RENEWAL_GRACE_MS) {
        return Err(IdentityError::GraceOver(shown));
    }
    Ok(IssueCause::RenewedInGrace)
}

fn paired(state: &dyn StateRead, device: DeviceId) -> Result<DeviceRecord, IdentityError> {
    find_device(state, device)?.ok_or(IdentityError::NoDevice(device))
}

/// Decides another name. The name it has already is no refusal: it gives no event.
///
/// # Errors
/// [`IdentityError::NoDevice`].
pub fn decide_rename(state: &dyn StateRead, device: DeviceId, name: DeviceName) -> Decision<()> {
    let changed = paired(state, device)?.name != name;
    Ok((Vec::from_iter(changed.then_some(Event::DeviceRenamed(DeviceRenamed { device, name }))), ()))
}

/// Decides to grant a device a scope beside its own, or to take it back. What stands so already is no refusal:
/// it gives no event.
///
/// # Errors
/// [`IdentityError::NoDevice`], [`IdentityError::DeviceRevoked`], [`IdentityError::TooManyGrants`].
pub fn decide_grant(state: &dyn StateRead, device: DeviceId, scope: Scope, granted: bool) -> Decision<()> {
    let record = paired(state, device)?;
    if granted && record.state != DeviceState::Paired {
        return Err(IdentityError::DeviceRevoked(device));
    }
    let stands = record.grants.contains(&scope);
    if granted && !stands && record.grants.len() >= limits::DEVICE_GRANTS_MAX {
        return Err(IdentityError::TooManyGrants(device));
    }
    let event = Event::DeviceGranted(DeviceGranted { device, scope, granted });
    Ok((Vec::from_iter((stands != granted).then_some(event)), ()))
}

/// Decides a revocation of a device and all it holds. What is revoked already is no refusal: it gives no
/// event.
///
/// # Errors
/// [`IdentityError::NoDevice`].
pub fn decide_revoke(state: &dyn StateRead, now: Timestamp, device: DeviceId) -> Decision<()> {
    if paired(state, device)?.state != DeviceState::Paired {
        return Ok((Vec::new(), ()));
    }
    let certificates = Some(revocable(state, now, device)?);
    Ok((vec![Event::DeviceRevoked(DeviceRevoked { device, certificates })], ()))
}

/// Decides a revocation of one certificate. What is revoked already is no refusal: it gives no event.
///
/// # Errors
/// [`IdentityError::NoCertificate`].
pub fn decide_revoke_certificate(state: &dyn StateRead, serial: Serial) -> Decision<()> {
    let record = find_certificate(state, serial)?.ok_or(IdentityError::NoCertificate(serial))?;
    let live = record.revoked.is_none();
    Ok((Vec::from_iter(live.then_some(Event::CertificateRevoked(CertificateRevoked { serial }))), ()))
}

/// Decides that a revoked device may ask to be paired again.
///
/// # Errors
/// [`IdentityError::NoDevice`], or [`IdentityError::NotRevoked`] where it is paired.
pub fn decide_clear(state: &dyn StateRead, device: DeviceId) -> Decision<()> {
    match paired(state, device)?.state {
        DeviceState::Revoked => Ok((vec![Event::DeviceCleared(DeviceCleared { device })], ())),
        DeviceState::Cleared => Ok((Vec::new(), ())),
        DeviceState::Paired => Err(IdentityError::NotRevoked(device)),
    }
}

/// Decides that a device is taken off the list; what it holds is revoked. A revoked device stays until it
/// is cleared, so that removing is no way around revoking.
///
/// # Errors
/// [`IdentityError::NoDevice`], or [`IdentityError::DeviceRevoked`].
pub fn decide_remove(state: &dyn StateRead, device: DeviceId) -> Decision<()> {
    if paired(state, device)?.state == DeviceState::Revoked {
        return Err(IdentityError::DeviceRevoked(device));
    }
    Ok((vec![Event::DeviceRemoved(DeviceRemoved { device })], ()))
}

/// Plans a revocation list by a trusted generation, the issuing one by default: its number and times, and what
/// stands on it. Whoever signs it fills in digest and entries, outside of every decision: that takes long.
///
/// # Errors
/// [`IdentityError::NoAuthority`] where the generation is not trusted.
pub fn plan_crl(
    state: &dyn StateRead,
    now: Timestamp,
    generation: Option<u32>,
) -> Result<(CrlIssued, Vec<(Serial, Timestamp)>), IdentityError> {
    let generation = crl_signer(state, generation)?;
    let number = counters(state)?.crl_number + 1;
    let mut revoked = Vec::new();
    revocations(state, &mut |serial, entry| {
        if entry.is_needed(now) {
            revoked.push((serial, entry.time));
        }
        ControlFlow::Continue(())
    })?;
    let (next_update, digest) = (now.plus_millis(limits::CRL_LIFE_MS), Hash([0; 32]));
    Ok((CrlIssued { number, generation, entries: 0, this_update: now, next_update, digest }, revoked))
}

/// Decides that a list that was planned and signed is recorded.
///
/// # Errors
/// [`IdentityError::NoAuthority`] where its generation is not trusted any more.
pub fn decide_crl(state: &dyn StateRead, made: CrlIssued) -> Decision<CrlIssued> {
    crl_signer(state, Some(made.generation))?;
    Ok((vec![Event::CrlIssued(made.clone())], made))
}

fn crl_signer(state: &dyn StateRead, generation: Option<u32>) -> Result<u32, IdentityError> {
    let all = authorities(state)?;
    let signer = match generation {
        Some(wanted) => all.trusted().into_iter().find(|record| record.generation == wanted),
        None => all.active(),
    };
    Ok(signer.ok_or(IdentityError::NoAuthority)?.generation)
}

/// An address as events keep it.
#[must_use]
pub fn bounded(peer: &str) -> String {
    peer.chars().filter(|letter| !letter.is_control()).take(limits::PEER_MAX / 4).collect()
}
