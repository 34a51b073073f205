//! What came from another store: its CA, its devices and the certificates that it had issued.
//!
//! Its certificates have serial numbers of another form, and live for years. Each goes by a number of this
//! ledger, and is known by its fingerprint: whoever shows one is looked up by that.

use serde::{Deserialize, Serialize};

use crate::base::{Delta, DeviceId, Serial, StateRead, Timestamp, limits};
use crate::crypto::Fingerprint;
use crate::event::identity::{ClientKind, Der, IssueCause, Subject};
use crate::event::import::{CaImported, DevicesImported, ImportedCertificate, ImportedDevice, OriginRevocation};

use super::fault::ApplyFault;
use super::state::{
    AUTHORITIES, AuthorityRecord, AuthorityState, BY_DEVICE, CERTIFICATES, COUNTERS, CertificateRecord, Counters,
    DEVICES, DeviceRecord, DeviceState, IMPORTED, ORIGINS, authorities, counters, end_key, find_certificate,
    find_device, gone, key, key_of_public, put, read,
};

/// What another store said of a device (stored in the state).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOrigin {
    /// When it issued the newest certificate.
    pub issued: Option<Timestamp>,
    /// That it had revoked the device.
    pub revoked: Option<OriginRevocation>,
    /// The certificates that came from there, by their numbers here.
    pub certificates: Vec<Serial>,
}

/// What another store said of a device that came from it.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn device_origin(state: &dyn StateRead, device: DeviceId) -> Result<Option<DeviceOrigin>, ApplyFault> {
    read(state, &key(ORIGINS, &[device.as_bytes()]))
}

/// Whether a certificate came from another store: nothing where it did not, otherwise the number that it goes by
/// here. One that is revoked and of no known device has none.
///
/// # Errors
/// [`ApplyFault::State`] or [`ApplyFault::Record`].
pub fn find_imported(state: &dyn StateRead, fingerprint: &Fingerprint) -> Result<Option<Option<Serial>>, ApplyFault> {
    read(state, &key(IMPORTED, &[fingerprint.as_bytes()]))
}

/// Adds a root that is trusted and issues nothing, as the old one is in a roll.
pub(super) fn apply_ca(state: &dyn StateRead, time: Timestamp, event: &CaImported) -> Result<Delta, ApplyFault> {
    let mut all = authorities(state)?;
    let last = all.0.last().map_or(0, |record| record.generation);
    let free = all.active().is_some() && !all.rolling() && all.0.len() < limits::CA_GENERATIONS_MAX;
    if event.generation.checked_sub(1) != Some(last) || !free {
        return Err(ApplyFault::Order("CA generation"));
    }
    all.0.push(AuthorityRecord {
        generation: event.generation,
        certificate: event.certificate.clone(),
        not_after: event.not_after,
        state: AuthorityState::Retired,
        since: time,
    });
    Ok(vec![put(AUTHORITIES.to_vec(), &all)?])
}

/// Adds devices and their certificates. A device that came from another store before gets the certificates that it
/// lacks; any other one that is known here already is no device to import.
pub(super) fn apply_devices(
    state: &dyn StateRead,
    seq: u64,
    time: Timestamp,
    event: &DevicesImported,
) -> Result<Delta, ApplyFault> {
    let mut totals = counters(state)?;
    let mut delta = Delta::new();
    for device in &event.devices {
        match find_device(state, device.device)? {
            Some(record) => join_device(&mut delta, state, record, device)?,
            None => {
                add_device(&mut delta, time, device)?;
                totals.devices += 1;
            }
        }
        for certificate in &device.certificates {
            count(&mut totals, certificate)?;
            add_certificate(&mut delta, (event.generation, device.device), (seq, time), certificate)?;
        }
    }
    for fingerprint in &event.revoked {
        delta.push(put(key(IMPORTED, &[fingerprint.as_bytes()]), &None::<Serial>)?);
    }
    delta.push(put(COUNTERS.to_vec(), &totals)?);
    Ok(delta)
}

fn count(totals: &mut Counters, certificate: &ImportedCertificate) -> Result<(), ApplyFault> {
    let serial = certificate.serial;
    if serial.counter() < totals.next_serial {
        return Err(ApplyFault::SerialReused { serial });
    }
    totals.next_serial = serial.counter().checked_add(1).ok_or(ApplyFault::Order("serial number"))?;
    totals.certificates += 1;
    totals.revoked += u64::from(certificate.revoked);
    Ok(())
}

fn add_device(delta: &mut Delta, time: Timestamp, device: &ImportedDevice) -> Result<(), ApplyFault> {
    let newest = device.certificates.last().map(|certificate| certificate.serial);
    let state = if device.revoked.is_some() { DeviceState::Revoked } else { DeviceState::Paired };
    let record = DeviceRecord {
        kind: device.kind.unwrap_or(ClientKind::Unknown),
        name: device.name.clone(),
        public_key: device.public_key.clone().unwrap_or_else(|| Der::new(Vec::new())),
        paired: time,
        state,
        since: time,
        certificate: newest,
        grants: Vec::new(),
    };
    let origin = DeviceOrigin {
        issued: device.issued,
        revoked: device.revoked.clone(),
        certificates: device.certificates.iter().map(|certificate| certificate.serial).collect(),
    };
    delta.push(put(key(DEVICES, &[device.device.as_bytes()]), &record)?);
    delta.push(put(key(ORIGINS, &[device.device.as_bytes()]), &origin)?);
    if let (Some(public_key), DeviceState::Paired) = (&device.public_key, state) {
        delta.push(put(key_of_public(public_key), &device.device)?);
    }
    Ok(())
}

/// Folds what another store says of a device that came from it before. Whatever this ledger issued to the device
/// since, and the key that it was issued for, stays the newest.
fn join_device(
    delta: &mut Delta,
    state: &dyn StateRead,
    mut record: DeviceRecord,
    device: &ImportedDevice,
) -> Result<(), ApplyFault> {
    let mut origin = device_origin(state, device.device)?.ok_or(ApplyFault::Exists("device"))?;
    let paired = record.state == DeviceState::Paired;
    // That it was revoked there is recorded once it is revoked here.
    if paired == device.revoked.is_some() {
        return Err(ApplyFault::Order("device"));
    }
    origin.certificates.extend(device.certificates.iter().map(|certificate| certificate.serial));
    origin.issued = device.issued.or(origin.issued);
    origin.revoked = device.revoked.clone().or(origin.revoked);
    delta.push(put(key(ORIGINS, &[device.device.as_bytes()]), &origin)?);
    let newest = record.certificate.map(|serial| find_certificate(state, serial)).transpose()?.flatten();
    let moved_on = newest.is_some_and(|newest| newest.cause != IssueCause::Imported);
    if let (Some(last), true, false) = (device.certificates.last(), paired, moved_on) {
        record.certificate = Some(last.serial);
        if let Some(public_key) = device.public_key.as_ref().filter(|public_key| **public_key != record.public_key) {
            delta.push(gone(key_of_public(&record.public_key)));
            delta.push(put(key_of_public(public_key), &device.device)?);
            record.public_key = public_key.clone();
        }
        delta.push(put(key(DEVICES, &[device.device.as_bytes()]), &record)?);
    }
    Ok(())
}

fn add_certificate(
    delta: &mut Delta,
    (generation, device): (u32, DeviceId),
    (seq, time): (u64, Timestamp),
    certificate: &ImportedCertificate,
) -> Result<(), ApplyFault> {
    let ImportedCertificate { serial, fingerprint, not_before, not_after, .. } = *certificate;
    let record = CertificateRecord {
        subject: Subject::Device(device),
        generation,
        not_before,
        not_after,
        cause: IssueCause::Imported,
        fingerprint,
        seq,
        revoked: certificate.revoked.then_some(time),
    };
    delta.push(put(key(CERTIFICATES, &[serial.as_bytes()]), &record)?);
    delta.push(put(end_key(not_after, &serial), &())?);
    delta.push(put(key(BY_DEVICE, &[device.as_bytes(), serial.as_bytes()]), &())?);
    delta.push(put(key(IMPORTED, &[fingerprint.as_bytes()]), &Some(serial))?);
    Ok(())
}
