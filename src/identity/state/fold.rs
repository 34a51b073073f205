//! Device trust: what each event changes.

use std::ops::ControlFlow;

use crate::base::{Delta, DeviceId, PairingId, RequestId, Serial, StateRead, Timestamp, limits};
use crate::crypto::Fingerprint;
use crate::event::identity::{
    CertificateIssued, Der, DevicePaired, DevicesSeen, EndCause, IssueCause, PairingAttempted, PairingMinted,
    PairingRequested, Subject,
};
use crate::event::{Event, codec};
use crate::identity::fault::ApplyFault;
use crate::identity::pairing::{PairingRecord, PairingState, RequestRecord, RequestState};

use super::{
    AUTHORITIES, AuthorityRecord, AuthorityState, BY_DEVICE, CERTIFICATES, COUNTERS, CertificateRecord, DEVICES,
    DeviceRecord, DeviceState, LOCATORS, ORIGINS, OVER, Over, PAIRINGS, REQUESTS, REVOKED, Revocation, SEEN,
    authorities, certificates_of, counters, each, end_key, find_certificate, find_device, find_pairing, find_request,
    gone, key, key_of_public, locate_pairing, over_key, put, read_over, revocations, waiting_key,
};

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
        Event::CaImported(event) => crate::identity::imported::apply_ca(state, time, event),
        Event::DevicesImported(event) => crate::identity::imported::apply_devices(state, seq, time, event),
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
pub(in crate::identity) const fn is_between(state: AuthorityState) -> bool {
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
    let imported = crate::identity::imported::device_origin(state, device)?.map(|origin| origin.certificates);
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
    if crate::identity::imported::device_origin(state, device)?.is_some() {
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
