//! Connections that have not proved anything yet: bounded, the oldest makes room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Who may be told to go. Holding a [`Place`] is being one of them.
#[derive(Debug)]
pub struct Registry {
    max: usize,
    places: Mutex<VecDeque<Arc<Notify>>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    evicted: Arc<Notify>,
}

impl Registry {
    /// Room for `max` connections.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, places: Mutex::default() })
    }

    /// Takes a place; says whether the oldest had to go for it.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> (Place, bool) {
        let evicted = Arc::new(Notify::new());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if places.len() >= self.max { places.pop_front() } else { None };
        places.push_back(Arc::clone(&evicted));
        drop(places);
        if let Some(oldest) = &oldest {
            oldest.notify_one();
        }
        (Place { registry: Arc::clone(self), evicted }, oldest.is_some())
    }

    /// How many places are taken.
    #[cfg(test)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Place {
    /// Comes back when this connection must make room.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.registry.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|other| !Arc::ptr_eq(other, &self.evicted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let registry = Registry::new(2);
        let (first, no) = registry.enter();
        let (second, _) = registry.enter();
        assert!(!no);
        let (third, yes) = registry.enter();
        assert!(yes);
        first.evicted().await;
        drop(first);
        assert_eq!(registry.len(), 2);
        drop((second, third));
        assert_eq!(registry.len(), 0);
    }
}
