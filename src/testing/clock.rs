//! A clock in a test's hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Clock, Timestamp};

/// A clock that stands still until a test moves it; clones share the time.
///
/// ```
/// use palyra_ledger::{Clock, Timestamp};
/// use palyra_ledger::testing::ManualClock;
/// let clock = ManualClock::new(Timestamp::from_millis(1_000));
/// clock.advance(500);
/// assert_eq!(clock.now().as_millis(), 1_500);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(start.as_millis())))
    }

    /// Sets the time, backwards too.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.as_millis(), Ordering::SeqCst);
    }

    /// Moves the time forward by `millis`; it stays at the end of the range instead of wrapping.
    pub fn advance(&self, millis: u64) {
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now.saturating_add(millis)));
    }
}

impl Default for ManualClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(Timestamp::from_millis(1_767_225_600_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = ManualClock::default();
        let other = clock.clone();
        clock.advance(7);
        assert_eq!(other.now().as_millis(), 1_767_225_600_007);
        other.set(Timestamp::from_millis(3));
        assert_eq!(clock.now().as_millis(), 3);
        clock.advance(u64::MAX);
        assert_eq!(clock.now().as_millis(), u64::MAX);
    }
}
