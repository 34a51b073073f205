//! What one paired device may take, so that the others have theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{DeviceId, Timestamp, limits};
use crate::event::identity::Der;

const HOUR: Duration = Duration::from_hours(1);
/// Devices remembered before those that hold nothing are forgotten.
const REMEMBERED_MAX: usize = 4096;

/// A certificate that a device was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// For this key.
    pub public_key: Der,
    /// Issued by this generation.
    pub generation: u32,
    /// The certificate.
    pub certificate: Der,
    /// As long as it has more than half of its life.
    pub half: Timestamp,
}

#[derive(Debug)]
struct Taken {
    connections: usize,
    began: Instant,
    renewals: u32,
    given: Option<Given>,
}

/// Connections and renewals by device; in memory alone.
#[derive(Debug, Default)]
pub struct PerDevice(Mutex<HashMap<DeviceId, Taken>>);

/// One connection of a device; given back when dropped.
#[derive(Debug)]
pub struct Connection {
    all: Arc<PerDevice>,
    device: DeviceId,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(taken) = self.all.held().get_mut(&self.device) {
            taken.connections = taken.connections.saturating_sub(1);
        }
    }
}

impl PerDevice {
    fn held(&self) -> MutexGuard<'_, HashMap<DeviceId, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of a device; none where it has as many as it may.
    pub fn connect(self: &Arc<Self>, device: DeviceId) -> Option<Connection> {
        let mut held = self.held();
        if held.len() >= REMEMBERED_MAX {
            held.retain(|_, taken| taken.connections > 0 || taken.began.elapsed() < HOUR);
        }
        let fresh = || Taken { connections: 0, began: Instant::now(), renewals: 0, given: None };
        let taken = held.entry(device).or_insert_with(fresh);
        if taken.connections >= limits::DEVICE_CONNECTIONS_MAX {
            return None;
        }
        taken.connections += 1;
        Some(Connection { all: Arc::clone(self), device })
    }

    /// The certificate that a device was given for this key, while it is what a renewal would give.
    pub fn given(&self, device: DeviceId, key: &Der, generation: u32, now: Timestamp) -> Option<Der> {
        let held = self.held();
        let given = held.get(&device)?.given.as_ref()?;
        let same = given.public_key == *key && given.generation == generation && now < given.half;
        same.then(|| given.certificate.clone())
    }

    /// Takes one renewal out of a device's hour; says whether there was one.
    pub fn renew(&self, device: DeviceId) -> bool {
        let mut held = self.held();
        let Some(taken) = held.get_mut(&device) else { return false };
        if taken.began.elapsed() >= HOUR {
            (taken.began, taken.renewals) = (Instant::now(), 0);
        }
        if taken.renewals >= limits::RENEWALS_PER_HOUR {
            return false;
        }
        taken.renewals += 1;
        true
    }

    /// Remembers what a device was given.
    pub fn give(&self, device: DeviceId, given: Given) {
        if let Some(taken) = self.held().get_mut(&device) {
            taken.given = Some(given);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_leaves_room_for_others() {
        let all = Arc::new(PerDevice::default());
        let (one, other) = (DeviceId::from_bytes([1; 16]), DeviceId::from_bytes([2; 16]));
        let mut places: Vec<_> = std::iter::from_fn(|| all.connect(one)).collect();
        assert_eq!(places.len(), limits::DEVICE_CONNECTIONS_MAX);
        assert!(all.connect(other).is_some());
        places.pop();
        assert!(all.connect(one).is_some(), "a place that was given back");
    }

    #[test]
    fn a_key_is_certified_once_and_renewals_are_counted() {
        let all = Arc::new(PerDevice::default());
        let device = DeviceId::from_bytes([1; 16]);
        let _place = all.connect(device);
        let (key, certificate) = (Der::new(vec![1]), Der::new(vec![2]));
        let half = Timestamp::from_millis(100);
        all.give(device, Given { public_key: key.clone(), generation: 1, certificate: certificate.clone(), half });
        let at = Timestamp::from_millis;
        assert_eq!(all.given(device, &key, 1, at(99)), Some(certificate));
        assert_eq!(all.given(device, &key, 1, at(100)), None, "half of its life is over");
        assert_eq!(all.given(device, &key, 2, at(99)), None, "another generation issues");
        assert_eq!(all.given(device, &Der::new(vec![3]), 1, at(99)), None);
        assert!((0..limits::RENEWALS_PER_HOUR).all(|_| all.renew(device)));
        assert!(!all.renew(device));
    }
}
