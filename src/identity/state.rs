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

mod fold;

use std::ops::ControlFlow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::{
    Change, DeviceId, DeviceName, PairingId, RequestId, Scope, Serial, StateRead, Timestamp, limits, prefix_end,
};
use crate::crypto::{Fingerprint, Hash, labels};
use crate::event::codec;
use crate::event::identity::{ClientKind, Der, IssueCause, Subject};

use super::fault::ApplyFault;
use super::pairing::{PairingRecord, RequestRecord};

pub(super) use fold::is_between;
pub use fold::{apply, revocable};

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
