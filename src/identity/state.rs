//! Device trust in the state.
//!
//! | key | value |
//! |---|---|
//! | `20` | [`Counters`] |
//! | `21` | [`Authorities`] |
//! | `22` device (16) | [`DeviceRecord`] |
//! | `23` serial (17) | [`CertificateRecord`] |
//! | `24` device (16) serial (17) | nothing: certificates of a device |
//! | `25` pairing (8) | [`PairingRecord`] |
//! | `26` locator | the open pairing that it stands for |
//! | `27` request (8) | [`RequestRecord`] |
//! | `28` end (8, big endian) serial (17) | nothing: certificates by their end |
//! | `29` serial (17) | [`Revocation`] |
//! | `2a` BLAKE3 of a public key (32) | the device that it belongs to |
//! | `2b` device (16) | when it was last seen |
//! | `2c` end (8, big endian) request (8) | nothing: requests that wait, by their end |
//! | `2d` time (8, big endian) `00` pairing (8) or `01` request (8) | nothing: what is over, by when it ended |
//! | `2e` fingerprint (32) | of a certificate that another store issued: its number here, or nothing where it is revoked and of no known device |
//! | `2f` device (16) | [`DeviceOrigin`](super::DeviceOrigin): what another store said of it |

use std::ops::ControlFlow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::{
    Change, Delta, DeviceId, DeviceName, PairingId, RequestId, Scope, Serial, StateRead, Timestamp, limits, prefix_end,
};
use crate::crypto::{Fingerprint, Hash, labels};
use crate::event::identity::{
    CertificateIssued, ClientKind, Der, DevicePaired, DevicesSeen, EndCause, IssueCause, PairingAttempted,
    PairingMinted, PairingRequested, Subject,
};
use crate::event::{Event, codec};

use super::fault::ApplyFault;
use super::pairing::{PairingRecord, PairingState, RequestRecord, RequestState};

pub(super) const COUNTERS: &[u8] = &[0x20];
pub(super) const AUTHORITIES: &[u8] = &[0x21];
pub(super) const DEVICES: u8 = 0x22;
pub(super) const CERTIFICATES: u8 = 0x23;
pub(super) const BY_DEVICE: u8 = 0x24;
pub(super) const PAIRINGS: u8 = 0x25;
const LOCATORS: u8 = 0x26;
pub(super) const REQUESTS: u8 = 0x27;
const BY_END: u8 = 0x28;
const REVOKED: u8 = 0x29;
const KEYS: u8 = 0x2A;
const SEEN: u8 = 0x2B;
const WAITING: u8 = 0x2C;
const OVER: u8 = 0x2D;
pub(super) const IMPORTED: u8 = 0x2E;
pub(super) const ORIGINS: u8 = 0x2F;

/// Totals over device trust (stored in the state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// First counter of a serial number that was never used.
    pub next_serial: u64,
    /// Devices on the list, revoked ones with them.
    pub devices: u64,
    /// Certificates that were ever issued.
    pub certificates: u64,
    /// Certificates that were ever revoked.
    pub revoked: u64,
    /// Number of the last revocation list.
    pub crl_number: u64,
    /// Pairing codes that are open.
    pub open_pairings: u32,
    /// Requests that wait.
    pub open_requests: u32,
    /// When the present window of pairing starts began.
    pub window_began: Option<Timestamp>,
    /// Pairing starts in it.
    pub window_starts: u32,
}

/// What became of a generation of the CA (stored: numbered by place, never reordered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityState {
    /// Trusted, and not issuing yet.
    Prepared,
    /// It issues.
    Active,
    /// Trusted, and no longer issuing.
    Retired,
    /// Trusted until its certificates are replaced.
    Tainted,
    /// Not trusted.
    Revoked,
}

impl AuthorityState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }
}

/// One generation of the CA (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// Number, from 1.
    pub generation: u32,
    /// Root certificate.
    pub certificate: Der,
    /// When that ends.
    pub not_after: Timestamp,
    /// What became of it.
    pub state: AuthorityState,
    /// Since when.
    pub since: Timestamp,
}

/// The generations of the CA (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Authorities(pub Vec<AuthorityRecord>);

impl Authorities {
    /// The generation that issues.
    #[must_use]
    pub fn active(&self) -> Option<&AuthorityRecord> {
        self.0.iter().find(|record| record.state == AuthorityState::Active)
    }

    /// The generation in a state, if any is.
    #[must_use]
    pub fn in_state(&self, state: AuthorityState) -> Option<&AuthorityRecord> {
        self.0.iter().find(|record| record.state == state)
    }

    /// Whether a roll is under way, from its first step to its last.
    #[must_use]
    pub fn rolling(&self) -> bool {
        self.0.iter().any(|record| is_between(record.state))
    }

    /// Generations whose certificates are accepted, the issuing one first.
    #[must_use]
    pub fn trusted(&self) -> Vec<&AuthorityRecord> {
        let mut found: Vec<_> = self.0.iter().filter(|record| record.state != AuthorityState::Revoked).collect();
        found.sort_by_key(|record| (record.state != AuthorityState::Active, record.generation));
        found
    }

    fn of(&mut self, generation: u32) -> Result<&mut AuthorityRecord, ApplyFault> {
        self.0.iter_mut().find(|record| record.generation == generation).ok_or(ApplyFault::Missing("CA generation"))
    }
}

/// What became of a device (stored: numbered by place, never reordered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Trusted.
    Paired,
    /// Not trusted.
    Revoked,
    /// Not trusted, and may ask to be paired again.
    Cleared,
}

impl DeviceState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Paired => "paired",
            Self::Revoked => "revoked",
            Self::Cleared => "cleared",
        }
    }
}

/// A device (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What it is.
    pub kind: ClientKind,
    /// What people call it.
    pub name: DeviceName,
    /// Its public key.
    pub public_key: Der,
    /// When it was paired.
    pub paired: Timestamp,
    /// What became of it.
    pub state: DeviceState,
    /// Since when.
    pub since: Timestamp,
    /// Its newest certificate.
    pub certificate: Option<Serial>,
    /// Scopes that it may read beside its own, sorted.
    pub grants: Vec<Scope>,
}

/// A certificate (stored in the state). Its bytes stand in the event of this sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
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
    /// Its fingerprint: whatever else shows this serial number was not issued here.
    pub fingerprint: Fingerprint,
    /// Sequence number of the event that holds it.
    pub seq: u64,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
}

/// One entry of the revocation list (stored in the state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When it was revoked.
    pub time: Timestamp,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// Whether its device was revoked or removed, rather than this one certificate.
    pub with_device: bool,
}

impl Revocation {
    /// Whether the certificate could still be shown at a time: it has not ended, or is within its grace.
    #[must_use]
    pub fn is_needed(&self, now: Timestamp) -> bool {
        now <= self.not_after.plus_millis(limits::RENEWAL_GRACE_MS)
    }
}

pub(super) fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub(super) fn key_of_public(public_key: &Der) -> Vec<u8> {
    key(KEYS, &[Hash::of(labels::PUBLIC_KEY, &[public_key.as_bytes()]).as_bytes()])
}

pub(super) fn end_key(not_after: Timestamp, serial: &Serial) -> Vec<u8> {
    key(BY_END, &[&not_after.as_millis().to_be_bytes(), serial.as_bytes()])
}

fn waiting_key(end: Timestamp, request: RequestId) -> Vec<u8> {
    key(WAITING, &[&end.as_millis().to_be_bytes(), request.as_bytes()])
}

/// Something that is over and kept for a while.
#[derive(Clone, Copy)]
enum Over {
    Pairing(PairingId),
    Request(RequestId),
}

fn over_key(at: Timestamp, what: Over) -> Vec<u8> {
    let (tag, id) = match what {
        Over::Pairing(id) => (0, *id.as_bytes()),
        Over::Request(id) => (1, *id.as_bytes()),
    };
    key(OVER, &[&at.as_millis().to_be_bytes(), &[tag], &id])
}

fn read_over(bytes: &[u8]) -> Option<(Timestamp, Over)> {
    let (at, rest) = bytes.split_first_chunk()?;
    let (tag, id) = rest.split_first()?;
    let id = id.try_into().ok()?;
    let what = match tag {
        0 => Over::Pairing(PairingId::from_bytes(id)),
        1 => Over::Request(RequestId::from_bytes(id)),
        _ => return None,
    };
    Some((Timestamp::from_millis(u64::from_be_bytes(*at)), what))
}

pub(super) fn read<T: DeserializeOwned>(state: &dyn StateRead, key: &[u8]) -> Result<Option<T>, ApplyFault> {
    Ok(state.get(key)?.map(|bytes| codec::decode(&bytes)).transpose()?)
}

pub(super) fn put<T: Serialize>(key: Vec<u8>, value: &T) -> Result<Change, ApplyFault> {
    Ok((key.into(), Some(codec::encode(value)?.into())))
}

pub(super) fn gone(key: Vec<u8>) -> Change {
    (key.into(), None)
}

/// Visits the records of one kind in key order; `id` reads what follows the kind byte.
pub(super) fn each<K, V: DeserializeOwned>(
    state: &dyn StateRead,
    from: &[u8],
    end: &[u8],
    id: impl Fn(&[u8]) -> Option<K>,
    visit: &mut dyn FnMut(K, V) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let mut fault = None;
    state.scan(from, end, &mut |key, value| {
        let parsed = key.get(1..).and_then(&id).ok_or(ApplyFault::Key);
        match parsed.and_then(|id| Ok((id, codec::decode::<V>(value)?))) {
            Ok((id, record)) => visit(id, record),
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    fault.map_or(Ok(()), Err)
}

/// The totals.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn counters(state: &dyn StateRead) -> Result<Counters, ApplyFault> {
    Ok(read(state, COUNTERS)?.unwrap_or_default())
}

/// The generations of the CA.
///
/// # Errors
/// As [`counters`].
pub fn authorities(state: &dyn StateRead) -> Result<Authorities, ApplyFault> {
    Ok(read(state, AUTHORITIES)?.unwrap_or_default())
}

/// A device.
///
/// # Errors
/// As [`counters`].
pub fn find_device(state: &dyn StateRead, device: DeviceId) -> Result<Option<DeviceRecord>, ApplyFault> {
    read(state, &key(DEVICES, &[device.as_bytes()]))
}

/// The device that a public key belongs to.
///
/// # Errors
/// As [`counters`].
pub fn key_holder(state: &dyn StateRead, public_key: &Der) -> Result<Option<DeviceId>, ApplyFault> {
    read(state, &key_of_public(public_key))
}

/// A certificate.
///
/// # Errors
/// As [`counters`].
pub fn find_certificate(state: &dyn StateRead, serial: Serial) -> Result<Option<CertificateRecord>, ApplyFault> {
    read(state, &key(CERTIFICATES, &[serial.as_bytes()]))
}

/// A pairing code.
///
/// # Errors
/// As [`counters`].
pub fn find_pairing(state: &dyn StateRead, pairing: PairingId) -> Result<Option<PairingRecord>, ApplyFault> {
    read(state, &key(PAIRINGS, &[pairing.as_bytes()]))
}

/// The pairing that an open code's locator stands for.
///
/// # Errors
/// As [`counters`].
pub fn locate_pairing(state: &dyn StateRead, locator: &str) -> Result<Option<PairingId>, ApplyFault> {
    read(state, &key(LOCATORS, &[locator.as_bytes()]))
}

/// A request.
///
/// # Errors
/// As [`counters`].
pub fn find_request(state: &dyn StateRead, request: RequestId) -> Result<Option<RequestRecord>, ApplyFault> {
    read(state, &key(REQUESTS, &[request.as_bytes()]))
}

/// When a device was last seen, as far as that is recorded.
///
/// # Errors
/// As [`counters`].
pub fn last_seen(state: &dyn StateRead, device: DeviceId) -> Result<Option<Timestamp>, ApplyFault> {
    read(state, &key(SEEN, &[device.as_bytes()]))
}

/// Visits every device, in the order of their ids.
///
/// # Errors
/// As [`counters`].
pub fn list_devices(
    state: &dyn StateRead,
    visit: &mut dyn FnMut(DeviceId, DeviceRecord) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let id = |bytes: &[u8]| bytes.try_into().ok().map(DeviceId::from_bytes);
    each(state, &[DEVICES], &[DEVICES + 1], id, visit)
}

/// Visits every pairing code that is kept.
///
/// # Errors
/// As [`counters`].
pub fn list_pairings(
    state: &dyn StateRead,
    visit: &mut dyn FnMut(PairingId, PairingRecord) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let id = |bytes: &[u8]| bytes.try_into().ok().map(PairingId::from_bytes);
    each(state, &[PAIRINGS], &[PAIRINGS + 1], id, visit)
}

/// Visits every request that is kept.
///
/// # Errors
/// As [`counters`].
pub fn list_requests(
    state: &dyn StateRead,
    visit: &mut dyn FnMut(RequestId, RequestRecord) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let id = |bytes: &[u8]| bytes.try_into().ok().map(RequestId::from_bytes);
    each(state, &[REQUESTS], &[REQUESTS + 1], id, visit)
}

/// The pairing codes that are open; the state keeps 64 of them at most.
///
/// # Errors
/// As [`counters`].
pub(super) fn open_pairings(state: &dyn StateRead) -> Result<Vec<PairingId>, ApplyFault> {
    let mut found = Vec::new();
    each(state, &[LOCATORS], &[LOCATORS + 1], |_| Some(()), &mut |(), pairing| {
        found.push(pairing);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Requests that wait and have had their time, the oldest first.
///
/// # Errors
/// As [`counters`].
pub(super) fn unanswered(state: &dyn StateRead, now: Timestamp, max: usize) -> Result<Vec<RequestId>, ApplyFault> {
    let id = |bytes: &[u8]| bytes.get(8..)?.try_into().ok().map(RequestId::from_bytes);
    let end = key(WAITING, &[&now.as_millis().saturating_add(1).to_be_bytes()]);
    let mut found = Vec::new();
    each(state, &[WAITING], &end, id, &mut |request, ()| {
        if found.len() >= max {
            return ControlFlow::Break(());
        }
        found.push(request);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Visits revoked certificates, in the order of their serial numbers.
///
/// # Errors
/// As [`counters`].
pub fn revocations(
    state: &dyn StateRead,
    visit: &mut dyn FnMut(Serial, Revocation) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let id = |bytes: &[u8]| bytes.try_into().ok().map(Serial::from_bytes);
    each(state, &[REVOKED], &[REVOKED + 1], id, visit)
}

/// Visits the fingerprints of certificates that another store issued.
pub(super) fn list_imported(
    state: &dyn StateRead,
    visit: &mut dyn FnMut(Fingerprint, Option<Serial>) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let id = |bytes: &[u8]| bytes.try_into().ok().map(Fingerprint::from_bytes);
    each(state, &[IMPORTED], &[IMPORTED + 1], id, visit)
}

/// Visits certificates that end at or after a time, the next to end first.
///
/// # Errors
/// As [`counters`].
pub fn expiring(
    state: &dyn StateRead,
    from: Timestamp,
    visit: &mut dyn FnMut(Serial) -> ControlFlow<()>,
) -> Result<(), ApplyFault> {
    let id = |bytes: &[u8]| bytes.get(8..)?.try_into().ok().map(Serial::from_bytes);
    let first = key(BY_END, &[&from.as_millis().to_be_bytes()]);
    each(state, &first, &[BY_END + 1], id, &mut |serial, ()| visit(serial))
}

/// Serial numbers of a device's certificates, oldest first.
///
/// # Errors
/// As [`counters`].
pub fn certificates_of(state: &dyn StateRead, device: DeviceId) -> Result<Vec<Serial>, ApplyFault> {
    let prefix = key(BY_DEVICE, &[device.as_bytes()]);
    let id = |bytes: &[u8]| bytes.get(16..)?.try_into().ok().map(Serial::from_bytes);
    let mut found = Vec::new();
    each(state, &prefix, &prefix_end(&prefix), id, &mut |serial, ()| {
        found.push(serial);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Folds one event into the state: what changes. Pure and deterministic (invariant I1).
///
/// # Errors
/// [`ApplyFault`] where the event does not fit; the state is then not changed.
pub fn apply(state: &dyn StateRead, seq: u64, time: Timestamp, event: &Event) -> Result<Delta, ApplyFault> {
    match event {
        Event::CaCertified(event) => {
            add_authority(state, time, (event.generation, &event.certificate, event.not_after), AuthorityState::Active)
        }
        Event::CaPrepared(event) => {
            let root = (event.generation, &event.certificate, event.not_after);
            add_authority(state, time, root, AuthorityState::Prepared)
        }
        Event::CaActivated(event) => activate(state, time, event.generation),
        Event::CaTainted(event) => {
            move_authority(state, time, event.generation, AuthorityState::Retired, AuthorityState::Tainted)
        }
        Event::CaRevoked(event) => {
            move_authority(state, time, event.generation, AuthorityState::Tainted, AuthorityState::Revoked)
        }
        Event::PairingMinted(event) => apply_mint(state, time, event),
        Event::PairingAttempted(event) => apply_attempt(state, time, event),
        Event::PairingRequested(event) => apply_request(state, time, event),
        Event::PairingApproved(event) => answer(state, time, event.request, RequestState::Approved(event.serial)),
        Event::PairingDenied(event) => answer(state, time, event.request, RequestState::Denied),
        Event::RequestExpired(event) => answer(state, time, event.request, RequestState::Expired),
        Event::PairingEnded(event) => end_pairing(state, time, event.pairing, PairingState::Ended(event.cause)),
        Event::DevicePaired(event) => apply_paired(state, time, event),
        Event::CertificateIssued(event) => apply_issued(state, seq, event),
        Event::DeviceRenamed(event) => edit_device(state, event.device, |record| {
            record.name = event.name.clone();
            Ok(())
        }),
        Event::DeviceGranted(event) => edit_device(state, event.device, |record| {
            record.grants.retain(|scope| *scope != event.scope);
            if event.granted {
                record.grants.push(event.scope.clone());
                record.grants.sort();
            }
            Ok(())
        }),
        Event::DeviceRevoked(event) => {
            let mut delta = edit_device(state, event.device, |record| {
                if record.state != DeviceState::Paired {
                    return Err(ApplyFault::Order("device"));
                }
                (record.state, record.since) = (DeviceState::Revoked, time);
                Ok(())
            })?;
            delta.extend(revoke_all(state, time, event.device)?);
            Ok(delta)
        }
        Event::CertificateRevoked(event) => {
            let mut totals = counters(state)?;
            let mut delta = revoke_one(state, time, event.serial, false)?.ok_or(ApplyFault::Order("certificate"))?;
            totals.revoked += 1;
            delta.push(put(COUNTERS.to_vec(), &totals)?);
            delta.extend(forget_revocations(state, time, limits::FORGET_STEP)?);
            Ok(delta)
        }
        Event::DeviceCleared(event) => edit_device(state, event.device, |record| {
            if record.state != DeviceState::Revoked {
                return Err(ApplyFault::Order("device"));
            }
            (record.state, record.since) = (DeviceState::Cleared, time);
            // Whatever is paired under this id next is granted anew, by a person.
            record.grants.clear();
            Ok(())
        }),
        Event::DeviceRemoved(event) => apply_removed(state, time, event.device),
        Event::CrlIssued(event) => {
            let mut totals = counters(state)?;
            if event.number != totals.crl_number + 1 {
                return Err(ApplyFault::Order("revocation list"));
            }
            totals.crl_number = event.number;
            let mut delta = vec![put(COUNTERS.to_vec(), &totals)?];
            delta.extend(forget_revocations(state, time, limits::REVOCATIONS_FORGOTTEN_BY_LIST)?);
            Ok(delta)
        }
        Event::DevicesSeen(event) => apply_seen(event),
        Event::CaImported(event) => super::imported::apply_ca(state, time, event),
        Event::DevicesImported(event) => super::imported::apply_devices(state, seq, time, event),
        _ => Ok(Vec::new()),
    }
}

fn add_authority(
    state: &dyn StateRead,
    time: Timestamp,
    (generation, certificate, not_after): (u32, &Der, Timestamp),
    as_state: AuthorityState,
) -> Result<Delta, ApplyFault> {
    let mut all = authorities(state)?;
    let last = all.0.last().map_or(0, |record| record.generation);
    let rolling = all
        .0
        .iter()
        .any(|record| record.state == as_state || (as_state == AuthorityState::Prepared && is_between(record.state)));
    if generation.checked_sub(1) != Some(last) || rolling || all.0.len() >= limits::CA_GENERATIONS_MAX {
        return Err(ApplyFault::Order("CA generation"));
    }
    let certificate = certificate.clone();
    all.0.push(AuthorityRecord { generation, certificate, not_after, state: as_state, since: time });
    Ok(vec![put(AUTHORITIES.to_vec(), &all)?])
}

/// Whether a roll is still under way.
pub(super) const fn is_between(state: AuthorityState) -> bool {
    matches!(state, AuthorityState::Prepared | AuthorityState::Retired | AuthorityState::Tainted)
}

fn activate(state: &dyn StateRead, time: Timestamp, generation: u32) -> Result<Delta, ApplyFault> {
    let mut all = authorities(state)?;
    let old = all.active().ok_or(ApplyFault::Missing("CA generation"))?.generation;
    let record = all.of(generation)?;
    if record.state != AuthorityState::Prepared {
        return Err(ApplyFault::Order("CA generation"));
    }
    (record.state, record.since) = (AuthorityState::Active, time);
    let record = all.of(old)?;
    (record.state, record.since) = (AuthorityState::Retired, time);
    Ok(vec![put(AUTHORITIES.to_vec(), &all)?])
}

fn move_authority(
    state: &dyn StateRead,
    time: Timestamp,
    generation: u32,
    from: AuthorityState,
    to: AuthorityState,
) -> Result<Delta, ApplyFault> {
    let mut all = authorities(state)?;
    let record = all.of(generation)?;
    if record.state != from {
        return Err(ApplyFault::Order("CA generation"));
    }
    (record.state, record.since) = (to, time);
    Ok(vec![put(AUTHORITIES.to_vec(), &all)?])
}

fn apply_mint(state: &dyn StateRead, time: Timestamp, event: &PairingMinted) -> Result<Delta, ApplyFault> {
    if find_pairing(state, event.pairing)?.is_some() || locate_pairing(state, &event.locator)?.is_some() {
        return Err(ApplyFault::Exists("pairing"));
    }
    let mut totals = counters(state)?;
    totals.open_pairings += 1;
    let record = PairingRecord {
        locator: event.locator.clone(),
        method: event.method,
        kind: event.kind,
        name: event.name.clone(),
        created: time,
        expires_at: event.expires_at,
        attempts: 0,
        last_attempt: None,
        state: PairingState::Open,
        verifier: Some(event.verifier.clone()),
    };
    let mut delta = forget_over(state, time)?;
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    delta.push(put(key(PAIRINGS, &[event.pairing.as_bytes()]), &record)?);
    delta.push(put(key(LOCATORS, &[event.locator.as_bytes()]), &event.pairing)?);
    Ok(delta)
}

fn apply_attempt(state: &dyn StateRead, time: Timestamp, event: &PairingAttempted) -> Result<Delta, ApplyFault> {
    let mut record = find_pairing(state, event.pairing)?.ok_or(ApplyFault::Missing("pairing"))?;
    if record.state != PairingState::Open || event.attempt.checked_sub(1) != Some(record.attempts) {
        return Err(ApplyFault::Order("pairing"));
    }
    (record.attempts, record.last_attempt) = (event.attempt, Some(time));
    let mut totals = counters(state)?;
    let fresh = |began: Timestamp| time.as_millis().saturating_sub(began.as_millis()) >= limits::PAIRING_WINDOW_MS;
    if totals.window_began.is_none_or(fresh) {
        (totals.window_began, totals.window_starts) = (Some(time), 0);
    }
    totals.window_starts = totals.window_starts.saturating_add(1);
    Ok(vec![put(COUNTERS.to_vec(), &totals)?, put(key(PAIRINGS, &[event.pairing.as_bytes()]), &record)?])
}

fn apply_request(state: &dyn StateRead, time: Timestamp, event: &PairingRequested) -> Result<Delta, ApplyFault> {
    if find_request(state, event.request)?.is_some() {
        return Err(ApplyFault::Exists("request"));
    }
    let mut delta = end_pairing(state, time, event.pairing, PairingState::Used(event.request))?;
    let mut totals = counters(state)?;
    // Written after what ending the code wrote, so both counts change.
    totals.open_pairings = totals.open_pairings.saturating_sub(1);
    totals.open_requests += 1;
    let record = RequestRecord {
        pairing: event.pairing,
        device: event.device,
        kind: event.kind,
        name: event.name.clone(),
        public_key: event.public_key.clone(),
        sas: event.sas.clone(),
        peer: event.peer.clone(),
        created: time,
        expires_at: event.expires_at,
        state: RequestState::Waiting,
    };
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    delta.push(put(key(REQUESTS, &[event.request.as_bytes()]), &record)?);
    delta.push(put(waiting_key(event.expires_at, event.request), &())?);
    Ok(delta)
}

/// Drops what has been over for longer than it is kept, a little at a time.
fn forget_over(state: &dyn StateRead, time: Timestamp) -> Result<Delta, ApplyFault> {
    let mut delta = Delta::new();
    each(state, &[OVER], &[OVER + 1], read_over, &mut |(at, what), ()| {
        if at.plus_millis(limits::PAIRING_KEPT_MS) > time || delta.len() >= 2 * limits::FORGET_STEP {
            return ControlFlow::Break(());
        }
        delta.push(gone(match what {
            Over::Pairing(id) => key(PAIRINGS, &[id.as_bytes()]),
            Over::Request(id) => key(REQUESTS, &[id.as_bytes()]),
        }));
        delta.push(gone(over_key(at, what)));
        ControlFlow::Continue(())
    })?;
    Ok(delta)
}

fn end_pairing(
    state: &dyn StateRead,
    time: Timestamp,
    pairing: PairingId,
    to: PairingState,
) -> Result<Delta, ApplyFault> {
    let mut record = find_pairing(state, pairing)?.ok_or(ApplyFault::Missing("pairing"))?;
    if record.state != PairingState::Open {
        return Err(ApplyFault::Order("pairing"));
    }
    record.state = to;
    record.verifier = None;
    let mut totals = counters(state)?;
    totals.open_pairings = totals.open_pairings.saturating_sub(1);
    let mut delta = forget_over(state, time)?;
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    delta.push(gone(key(LOCATORS, &[record.locator.as_bytes()])));
    delta.push(put(key(PAIRINGS, &[pairing.as_bytes()]), &record)?);
    delta.push(put(over_key(time, Over::Pairing(pairing)), &())?);
    Ok(delta)
}

fn answer(state: &dyn StateRead, time: Timestamp, request: RequestId, to: RequestState) -> Result<Delta, ApplyFault> {
    let mut record = find_request(state, request)?.ok_or(ApplyFault::Missing("request"))?;
    if record.state != RequestState::Waiting {
        return Err(ApplyFault::Order("request"));
    }
    record.state = to;
    let mut totals = counters(state)?;
    totals.open_requests = totals.open_requests.saturating_sub(1);
    let mut delta = forget_over(state, time)?;
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    delta.push(put(key(REQUESTS, &[request.as_bytes()]), &record)?);
    delta.push(gone(waiting_key(record.expires_at, request)));
    delta.push(put(over_key(time, Over::Request(request)), &())?);
    Ok(delta)
}

fn apply_paired(state: &dyn StateRead, time: Timestamp, event: &DevicePaired) -> Result<Delta, ApplyFault> {
    let before = find_device(state, event.device)?;
    let stands = before.as_ref().is_some_and(|record| record.state == DeviceState::Paired);
    let revoked = before.as_ref().is_some_and(|record| record.state == DeviceState::Revoked);
    if revoked || stands != event.replaces {
        return Err(ApplyFault::Order("device"));
    }
    // The key of a pairing that is replaced goes on belonging to this id: no other device may come with it.
    let mut delta = if stands { revoke_all(state, time, event.device)? } else { Vec::new() };
    if before.is_none() {
        let mut totals = counters(state)?;
        totals.devices += 1;
        delta.push(put(COUNTERS.to_vec(), &totals)?);
    }
    let record = DeviceRecord {
        kind: event.kind,
        name: event.name.clone(),
        public_key: event.public_key.clone(),
        paired: time,
        state: DeviceState::Paired,
        since: time,
        certificate: None,
        grants: Vec::new(),
    };
    delta.push(put(key(DEVICES, &[event.device.as_bytes()]), &record)?);
    delta.push(put(key_of_public(&event.public_key), &event.device)?);
    Ok(delta)
}

fn apply_issued(state: &dyn StateRead, seq: u64, event: &CertificateIssued) -> Result<Delta, ApplyFault> {
    let mut totals = counters(state)?;
    if event.serial.counter() < totals.next_serial {
        return Err(ApplyFault::SerialReused { serial: event.serial });
    }
    totals.next_serial = event.serial.counter().checked_add(1).ok_or(ApplyFault::Order("serial number"))?;
    totals.certificates += 1;
    let record = CertificateRecord {
        subject: event.subject.clone(),
        generation: event.generation,
        not_before: event.not_before,
        not_after: event.not_after,
        cause: event.cause,
        fingerprint: Fingerprint::of(event.certificate.as_bytes()),
        seq,
        revoked: None,
    };
    let mut delta = vec![
        put(COUNTERS.to_vec(), &totals)?,
        put(key(CERTIFICATES, &[event.serial.as_bytes()]), &record)?,
        put(end_key(event.not_after, &event.serial), &())?,
    ];
    if let Subject::Device(device) = event.subject {
        delta.push(put(key(BY_DEVICE, &[device.as_bytes(), event.serial.as_bytes()]), &())?);
        delta.extend(edit_device(state, device, |record| {
            if record.state != DeviceState::Paired {
                return Err(ApplyFault::Order("device"));
            }
            record.certificate = Some(event.serial);
            Ok(())
        })?);
    }
    Ok(delta)
}

fn edit_device(
    state: &dyn StateRead,
    device: DeviceId,
    edit: impl FnOnce(&mut DeviceRecord) -> Result<(), ApplyFault>,
) -> Result<Delta, ApplyFault> {
    let mut record = find_device(state, device)?.ok_or(ApplyFault::Missing("device"))?;
    edit(&mut record)?;
    Ok(vec![put(key(DEVICES, &[device.as_bytes()]), &record)?])
}

/// What revoking one certificate changes; nothing where it is revoked already.
fn revoke_one(
    state: &dyn StateRead,
    time: Timestamp,
    serial: Serial,
    with_device: bool,
) -> Result<Option<Delta>, ApplyFault> {
    let mut record = find_certificate(state, serial)?.ok_or(ApplyFault::Missing("certificate"))?;
    if record.revoked.is_some() {
        return Ok(None);
    }
    record.revoked = Some(time);
    if record.cause == IssueCause::Imported {
        // A list would name it by a number that stands in no certificate; and its end is years away.
        return Ok(Some(vec![put(key(CERTIFICATES, &[serial.as_bytes()]), &record)?]));
    }
    let entry = Revocation { time, not_after: record.not_after, with_device };
    Ok(Some(vec![
        put(key(CERTIFICATES, &[serial.as_bytes()]), &record)?,
        put(key(REVOKED, &[serial.as_bytes()]), &entry)?,
    ]))
}

/// Drops revocations of certificates that nobody accepts any more, whatever their grace, a little at a time.
/// Serial numbers grow as ends do, so the oldest are looked at and no others.
fn forget_revocations(state: &dyn StateRead, time: Timestamp, max: usize) -> Result<Delta, ApplyFault> {
    let mut delta = Delta::new();
    revocations(state, &mut |serial, entry| {
        if entry.is_needed(time) || delta.len() >= max {
            return ControlFlow::Break(());
        }
        delta.push(gone(key(REVOKED, &[serial.as_bytes()])));
        ControlFlow::Continue(())
    })?;
    Ok(delta)
}

/// The certificates that a revocation of their device revokes, the newest first: those that are not revoked, and
/// are good or could still be renewed. What ended longer ago than the grace is good for nothing any more, and its
/// certificates stand in order of their serials; what another store issued outlives what is issued here, and stands
/// before it.
///
/// # Errors
/// As [`counters`], or [`ApplyFault::Missing`].
pub fn revocable(state: &dyn StateRead, time: Timestamp, device: DeviceId) -> Result<Vec<Serial>, ApplyFault> {
    let mut found = Vec::new();
    let record = |serial| find_certificate(state, serial)?.ok_or(ApplyFault::Missing("certificate"));
    for serial in certificates_of(state, device)?.into_iter().rev() {
        let record = record(serial)?;
        if record.cause == IssueCause::Imported {
            continue;
        }
        if record.not_after.as_millis().saturating_add(limits::RENEWAL_GRACE_MS) < time.as_millis() {
            break;
        }
        if record.revoked.is_none() {
            found.push(serial);
        }
    }
    let imported = super::imported::device_origin(state, device)?.map(|origin| origin.certificates);
    for serial in imported.unwrap_or_default().into_iter().rev() {
        if record(serial)?.revoked.is_none() {
            found.push(serial);
        }
    }
    Ok(found)
}

fn revoke_all(state: &dyn StateRead, time: Timestamp, device: DeviceId) -> Result<Delta, ApplyFault> {
    let mut totals = counters(state)?;
    let mut delta = Vec::new();
    for serial in revocable(state, time, device)? {
        if let Some(changes) = revoke_one(state, time, serial, true)? {
            totals.revoked += 1;
            delta.extend(changes);
        }
    }
    let added = delta.len();
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    delta.extend(forget_revocations(state, time, added + limits::FORGET_STEP)?);
    Ok(delta)
}

fn apply_removed(state: &dyn StateRead, time: Timestamp, device: DeviceId) -> Result<Delta, ApplyFault> {
    let record = find_device(state, device)?.ok_or(ApplyFault::Missing("device"))?;
    let mut delta = revoke_all(state, time, device)?;
    // The totals that revoking left are the last ones written.
    let mut totals = counters(state)?;
    for (changed, value) in &delta {
        if changed.as_ref() == COUNTERS
            && let Some(bytes) = value
        {
            totals = codec::decode(bytes)?;
        }
    }
    totals.devices = totals.devices.saturating_sub(1);
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    delta.push(gone(key(DEVICES, &[device.as_bytes()])));
    delta.push(gone(key(SEEN, &[device.as_bytes()])));
    if super::imported::device_origin(state, device)?.is_some() {
        delta.push(gone(key(ORIGINS, &[device.as_bytes()])));
    }
    if record.state == DeviceState::Paired {
        delta.push(gone(key_of_public(&record.public_key)));
    }
    Ok(delta)
}

fn apply_seen(event: &DevicesSeen) -> Result<Delta, ApplyFault> {
    event.devices.iter().map(|note| put(key(SEEN, &[note.device.as_bytes()]), &note.last)).collect()
}

impl From<EndCause> for PairingState {
    fn from(cause: EndCause) -> Self {
        Self::Ended(cause)
    }
}
