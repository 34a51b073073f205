//! What every connection must know of device trust, live: which roots are trusted, which devices are
//! paired, which certificates the log issued to whom, and which of them are revoked.
//!
//! It is read from the state once and then follows every batch, after the batch is durable and before the
//! command that made it returns: a revocation is in force when `revoke` comes back.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use crate::base::{Delta, DeviceId, Serial, StateRead, Timestamp, bytes, limits};
use crate::crypto::Fingerprint;
use crate::event::codec;
use crate::event::identity::{Der, RefusalCause, Subject};

use super::fault::ApplyFault;
use super::state::{
    AUTHORITIES, Authorities, CERTIFICATES, CertificateRecord, DEVICES, DeviceRecord, DeviceState, IMPORTED,
    authorities, expiring, find_certificate, list_devices, list_imported,
};

/// A root certificate that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Generation of its CA key.
    pub generation: u32,
    /// The certificate.
    pub certificate: Der,
}

/// A certificate that the log issued and that could still be shown.
struct Held {
    /// The device that it is for; none for the daemon's own.
    device: Option<DeviceId>,
    fingerprint: Fingerprint,
    not_after: Timestamp,
    revoked: bool,
}

/// Certificates stand here from their issue until their grace is over: what is held is bounded by what is
/// issued within eight days, however long the log is.
#[derive(Default)]
struct View {
    roots: Arc<Vec<Root>>,
    paired: HashSet<DeviceId>,
    held: HashMap<Serial, Held>,
    by_end: BTreeSet<(Timestamp, Serial)>,
    revoked: usize,
    /// Certificates that another store issued: by which number each goes here.
    imported: HashMap<Fingerprint, Option<Serial>>,
}

/// How a certificate that another store issued is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// By this number, as this device's.
    Held(Serial, DeviceId),
    /// As revoked; whose it was is not known.
    Revoked,
}

/// When a certificate is good for nothing any more.
const fn useless_from(not_after: Timestamp) -> Timestamp {
    not_after.plus_millis(limits::RENEWAL_GRACE_MS)
}

impl View {
    fn drop_held(&mut self, serial: Serial) -> Option<Held> {
        let held = self.held.remove(&serial)?;
        self.by_end.remove(&(held.not_after, serial));
        self.revoked -= usize::from(held.revoked);
        Some(held)
    }

    /// Takes what the state says of a certificate; says whether it is newly revoked.
    fn hold(&mut self, serial: Serial, record: &CertificateRecord) -> bool {
        let before = self.drop_held(serial);
        let revoked = record.revoked.is_some();
        let device = match &record.subject {
            Subject::Device(device) => Some(*device),
            Subject::Server(_) => None,
        };
        let (fingerprint, not_after) = (record.fingerprint, record.not_after);
        self.held.insert(serial, Held { device, fingerprint, not_after, revoked });
        self.by_end.insert((not_after, serial));
        self.revoked += usize::from(revoked);
        revoked && before.is_none_or(|held| !held.revoked)
    }

    /// Drops what nobody accepts any more.
    fn prune(&mut self, now: Timestamp) {
        while let Some((not_after, serial)) = self.by_end.first().copied() {
            if useless_from(not_after) >= now {
                break;
            }
            self.drop_held(serial);
        }
    }

    /// When there is something to drop next, in milliseconds.
    fn due(&self) -> u64 {
        self.by_end.first().map_or(u64::MAX, |(not_after, _)| useless_from(*not_after).as_millis())
    }
}

/// The live view. It is a list of what is allowed: a certificate that no event of this log issued is refused,
/// whoever signed it. A check is two lookups in memory, however many certificates were issued or revoked.
pub struct Trust {
    known: RwLock<View>,
    /// [`View::due`], without the lock.
    due: AtomicU64,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.known();
        f.debug_struct("Trust")
            .field("roots", &known.roots.len())
            .field("paired", &known.paired.len())
            .field("certificates", &known.held.len())
            .field("revoked", &known.revoked)
            .finish()
    }
}

fn roots_of(all: &Authorities) -> Arc<Vec<Root>> {
    let root = |record: &super::AuthorityRecord| Root {
        generation: record.generation,
        certificate: record.certificate.clone(),
    };
    Arc::new(all.trusted().into_iter().map(root).collect())
}

impl Trust {
    /// Reads the state as of a time.
    ///
    /// # Errors
    /// [`ApplyFault`] where it cannot be read.
    pub fn read(state: &dyn StateRead, now: Timestamp) -> Result<Self, ApplyFault> {
        let mut known = View { roots: roots_of(&authorities(state)?), ..View::default() };
        list_devices(state, &mut |device, record| {
            if record.state == DeviceState::Paired {
                known.paired.insert(device);
            }
            ControlFlow::Continue(())
        })?;
        let mut serials = Vec::new();
        let from = Timestamp::from_millis(now.as_millis().saturating_sub(limits::RENEWAL_GRACE_MS));
        expiring(state, from, &mut |serial| {
            serials.push(serial);
            ControlFlow::Continue(())
        })?;
        for serial in serials {
            let record = find_certificate(state, serial)?.ok_or(ApplyFault::Missing("certificate"))?;
            known.hold(serial, &record);
        }
        list_imported(state, &mut |fingerprint, serial| {
            known.imported.insert(fingerprint, serial);
            ControlFlow::Continue(())
        })?;
        let due = AtomicU64::new(known.due());
        Ok(Self { known: RwLock::new(known), due, changed: watch::Sender::new(0) })
    }

    fn known(&self) -> RwLockReadGuard<'_, View> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what a durable batch of a time changed. What does not decode trusts nobody. Told are those who
    /// watch only where somebody is trusted less than before, or the roots changed.
    pub fn observe(&self, delta: &Delta, time: Timestamp) {
        let concerns =
            |key: &[u8]| matches!(key.first(), Some(&(DEVICES | CERTIFICATES | IMPORTED))) || key == AUTHORITIES;
        if time.as_millis() <= self.due.load(Ordering::Relaxed) && !delta.iter().any(|(key, _)| concerns(key)) {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut less = false;
        for (key, value) in delta {
            let value = value.as_deref();
            if **key == *AUTHORITIES {
                let all = value.and_then(|bytes| codec::decode::<Authorities>(bytes).ok());
                known.roots = roots_of(&all.unwrap_or_default());
                less = true;
            } else if let Some(device) = id(key, DEVICES).map(DeviceId::from_bytes) {
                let record = value.and_then(|bytes| codec::decode::<DeviceRecord>(bytes).ok());
                if record.is_some_and(|record| record.state == DeviceState::Paired) {
                    known.paired.insert(device);
                } else {
                    less |= known.paired.remove(&device);
                }
            } else if let Some(serial) = id(key, CERTIFICATES).map(Serial::from_bytes) {
                match value.and_then(|bytes| codec::decode::<CertificateRecord>(bytes).ok()) {
                    Some(record) => less |= known.hold(serial, &record),
                    None => less |= known.drop_held(serial).is_some(),
                }
            } else if let Some(fingerprint) = id(key, IMPORTED).map(Fingerprint::from_bytes) {
                let serial = value.and_then(|bytes| codec::decode::<Option<Serial>>(bytes).ok());
                known.imported.insert(fingerprint, serial.flatten());
            }
        }
        known.prune(time);
        self.due.store(known.due(), Ordering::Relaxed);
        drop(known);
        if less {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Whether this very certificate is trusted at this moment, for this device: the log issued it, to the
    /// device, and neither was revoked since. Its signature and times are not looked at.
    ///
    /// # Errors
    /// The cause, as events record it.
    pub fn check(&self, device: DeviceId, serial: Serial, fingerprint: &Fingerprint) -> Result<(), RefusalCause> {
        let known = self.known();
        let held = known.held.get(&serial).filter(|held| held.fingerprint == *fingerprint);
        let held = held.filter(|held| held.device == Some(device)).ok_or(RefusalCause::NotIssued)?;
        let paired = known.paired.contains(&device);
        match (held.revoked, paired) {
            (false, true) => Ok(()),
            (true, true) => Err(RefusalCause::CertificateRevoked),
            (true, false) => Err(RefusalCause::DeviceRevoked),
            (false, false) => Err(RefusalCause::UnknownDevice),
        }
    }

    /// How a certificate that another store issued is known here, if it is. Whether it is trusted says
    /// [`Trust::check`].
    #[must_use]
    pub fn imported(&self, fingerprint: &Fingerprint) -> Option<Known> {
        let known = self.known();
        let serial = known.imported.get(fingerprint)?;
        let held = serial.and_then(|serial| Some((serial, known.held.get(&serial)?.device?)));
        Some(held.map_or(Known::Revoked, |(serial, device)| Known::Held(serial, device)))
    }

    /// What is said of a device whose certificate is revoked.
    #[must_use]
    pub fn revocation_of(&self, device: Option<DeviceId>) -> RefusalCause {
        let gone = device.is_some_and(|device| !self.known().paired.contains(&device));
        if gone { RefusalCause::DeviceRevoked } else { RefusalCause::CertificateRevoked }
    }

    /// Whether a certificate of the daemon itself is one that the log issued and nobody revoked.
    #[must_use]
    pub fn is_servers(&self, serial: Serial, fingerprint: &Fingerprint) -> bool {
        let known = self.known();
        let held = known.held.get(&serial).filter(|held| held.fingerprint == *fingerprint);
        held.is_some_and(|held| held.device.is_none() && !held.revoked)
    }

    /// The trusted roots, the issuing one first.
    #[must_use]
    pub fn roots(&self) -> Arc<Vec<Root>> {
        Arc::clone(&self.known().roots)
    }

    /// How many certificates are held: those that could still be shown.
    #[must_use]
    pub fn certificates(&self) -> usize {
        self.known().held.len()
    }

    /// How many devices are paired, and how many certificates that could still be shown are revoked.
    #[must_use]
    pub fn totals(&self) -> (usize, usize) {
        let known = self.known();
        (known.paired.len(), known.revoked)
    }

    /// Told whenever somebody is trusted less than before, or the roots changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn id<const N: usize>(key: &[u8], kind: u8) -> Option<[u8; N]> {
    let mut reader = bytes::Reader(key.strip_prefix(&[kind])?);
    let id = reader.take()?;
    reader.0.is_empty().then_some(id)
}
