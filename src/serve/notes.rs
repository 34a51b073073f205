//! What is gathered before it is recorded: refusals and sightings.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::{DeviceId, Timestamp, limits};
use crate::event::identity::{RefusalCause, RefusalNote, SeenNote};

/// Refusals and sightings that wait to be recorded; bounded.
#[derive(Debug, Default)]
pub struct Notes {
    refused: Mutex<BTreeMap<(RefusalCause, Option<DeviceId>), RefusalNote>>,
    seen: Mutex<BTreeMap<DeviceId, SeenNote>>,
}

impl Notes {
    /// Notes a refusal. Beyond the bound on those that are told apart, the device is left out.
    pub fn refused(&self, cause: RefusalCause, device: Option<DeviceId>, peer: String, now: Timestamp) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let full = refused.len() >= limits::REFUSAL_NOTES_MAX && !refused.contains_key(&(cause, device));
        let device = if full { None } else { device };
        let fresh = || RefusalNote { cause, peer: String::new(), device, count: 0, last: now };
        let note = refused.entry((cause, device)).or_insert_with(fresh);
        note.count += 1;
        note.last = now;
        note.peer = peer;
    }

    /// Notes that a device was seen.
    pub fn seen(&self, device: DeviceId, peer: &str, now: Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let note = seen.entry(device).or_insert_with(|| SeenNote { device, peer: peer.to_owned(), last: now });
        note.last = now;
        if note.peer != peer {
            peer.clone_into(&mut note.peer);
        }
    }

    /// Takes the refusals.
    #[must_use]
    pub fn take_refused(&self) -> Vec<RefusalNote> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }

    /// Takes the sightings.
    #[must_use]
    pub fn take_seen(&self) -> Vec<SeenNote> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_devices_is_counted_without_them() {
        let notes = Notes::default();
        let now = Timestamp::from_millis(1);
        for number in 0..10_000_u128 {
            let device = DeviceId::from_bytes(number.to_le_bytes());
            notes.refused(RefusalCause::UnknownDevice, Some(device), "p".to_owned(), now);
        }
        let taken = notes.take_refused();
        assert_eq!(taken.len(), limits::REFUSAL_NOTES_MAX + 1);
        assert_eq!(taken.iter().map(|note| note.count).sum::<u64>(), 10_000);
        assert!(notes.take_refused().is_empty());
    }
}
