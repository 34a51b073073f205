//! What every connection must know of device trust, live: which roots are trusted, which devices are
//! paired, which certificates are revoked.
//!
//! It is read from the state once and then follows every batch, after the batch is durable and before the
//! command that made it returns: a revocation is in force when `revoke` comes back.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use crate::base::{Delta, DeviceId, Serial, StateRead, bytes};
use crate::event::codec;
use crate::event::identity::{Der, RefusalCause};

use super::fault::ApplyFault;
use super::state::{
    AUTHORITIES, Authorities, DEVICES, DeviceRecord, DeviceState, REVOKED, authorities, list_devices, revocations,
};

/// A root certificate that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Generation of its CA key.
    pub generation: u32,
    /// The certificate.
    pub certificate: Der,
}

#[derive(Default)]
struct Known {
    roots: Arc<Vec<Root>>,
    paired: HashSet<DeviceId>,
    revoked: HashSet<Serial>,
}

/// The live view. A check costs two lookups in memory, however many certificates were revoked.
pub struct Trust {
    known: RwLock<Known>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.known();
        f.debug_struct("Trust")
            .field("roots", &known.roots.len())
            .field("paired", &known.paired.len())
            .field("revoked", &known.revoked.len())
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
    /// Reads the state.
    ///
    /// # Errors
    /// [`ApplyFault`] where it cannot be read.
    pub fn read(state: &dyn StateRead) -> Result<Self, ApplyFault> {
        let mut known = Known { roots: roots_of(&authorities(state)?), ..Known::default() };
        list_devices(state, &mut |device, record| {
            if record.state == DeviceState::Paired {
                known.paired.insert(device);
            }
            ControlFlow::Continue(())
        })?;
        revocations(state, &mut |serial, _| {
            known.revoked.insert(serial);
            ControlFlow::Continue(())
        })?;
        Ok(Self { known: RwLock::new(known), changed: watch::Sender::new(0) })
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what a durable batch changed. What does not decode trusts nobody.
    pub fn observe(&self, delta: &Delta) {
        let concerns = |key: &[u8]| matches!(key.first(), Some(&(DEVICES | REVOKED))) || key == AUTHORITIES;
        if !delta.iter().any(|(key, _)| concerns(key)) {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in delta {
            let value = value.as_deref();
            if **key == *AUTHORITIES {
                let all = value.and_then(|bytes| codec::decode::<Authorities>(bytes).ok());
                known.roots = roots_of(&all.unwrap_or_default());
            } else if let Some(device) = id(key, DEVICES).map(DeviceId::from_bytes) {
                let record = value.and_then(|bytes| codec::decode::<DeviceRecord>(bytes).ok());
                if record.is_some_and(|record| record.state == DeviceState::Paired) {
                    known.paired.insert(device);
                } else {
                    known.paired.remove(&device);
                }
            } else if let Some(serial) = id(key, REVOKED).map(Serial::from_bytes) {
                known.revoked.insert(serial);
            }
        }
        drop(known);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Whether a device with this certificate is trusted at this moment. The certificate's signature and
    /// times are not looked at.
    ///
    /// # Errors
    /// The cause, as events record it.
    pub fn check(&self, device: DeviceId, serial: Serial) -> Result<(), RefusalCause> {
        let known = self.known();
        if known.revoked.contains(&serial) {
            let with_device = !known.paired.contains(&device);
            return Err(if with_device { RefusalCause::DeviceRevoked } else { RefusalCause::CertificateRevoked });
        }
        if known.paired.contains(&device) { Ok(()) } else { Err(RefusalCause::UnknownDevice) }
    }

    /// The trusted roots, the issuing one first.
    #[must_use]
    pub fn roots(&self) -> Arc<Vec<Root>> {
        Arc::clone(&self.known().roots)
    }

    /// How many devices are paired, and how many certificates are revoked.
    #[must_use]
    pub fn totals(&self) -> (usize, usize) {
        let known = self.known();
        (known.paired.len(), known.revoked.len())
    }

    /// Told of every change.
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
