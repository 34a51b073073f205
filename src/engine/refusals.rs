//! How many refusals become events: a flood of them must not fill the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::{Timestamp, limits};
use crate::event::identity::RefusalCause;

/// Counts refusals by cause within a window; the rest are counted into the next event.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<RefusalCause, Window>>);

#[derive(Debug)]
struct Window {
    began: Timestamp,
    recorded: u32,
    suppressed: u64,
}

impl Refusals {
    /// Whether a refusal becomes an event, and how many of its cause did not since the last that did.
    pub fn admit(&self, cause: RefusalCause, now: Timestamp) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(cause).or_insert(Window { began: now, recorded: 0, suppressed: 0 });
        if now.as_millis().saturating_sub(window.began.as_millis()) >= limits::REFUSAL_WINDOW_MS {
            (window.began, window.recorded) = (now, 0);
        }
        if window.recorded >= limits::REFUSALS_PER_WINDOW {
            window.suppressed = window.suppressed.saturating_add(1);
            return None;
        }
        window.recorded += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_recorded_one_by_one() {
        let refusals = Refusals::default();
        let at = |ms| Timestamp::from_millis(ms);
        for _ in 0..limits::REFUSALS_PER_WINDOW {
            assert_eq!(refusals.admit(RefusalCause::WrongCode, at(5)), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(refusals.admit(RefusalCause::WrongCode, at(6)), None);
        }
        assert_eq!(refusals.admit(RefusalCause::TooMany, at(6)), Some(0), "another cause has its own count");
        assert_eq!(refusals.admit(RefusalCause::WrongCode, at(5 + limits::REFUSAL_WINDOW_MS)), Some(1000));
    }
}
