//! How many refusals become events: a flood of them must not fill the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::event::Event;
use crate::event::identity::{PairingRefused, RefusalCause};

use super::error::Error;
use super::identity_handle::Identity;

const WINDOW: Duration = Duration::from_millis(limits::REFUSAL_WINDOW_MS);

/// Counts refusals by cause within a window; the rest are counted into the next event. By a clock that nobody
/// sets.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<RefusalCause, Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    recorded: u32,
    suppressed: u64,
}

impl Refusals {
    /// Whether a refusal becomes an event, and how many of its cause did not since the last that did.
    pub fn admit(&self, cause: RefusalCause, now: Instant) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(cause).or_insert(Window { began: now, recorded: 0, suppressed: 0 });
        if now.duration_since(window.began) >= WINDOW {
            (window.began, window.recorded) = (now, 0);
        }
        if window.recorded >= limits::REFUSALS_PER_WINDOW {
            window.suppressed = window.suppressed.saturating_add(1);
            return None;
        }
        window.recorded += 1;
        Some(std::mem::take(&mut window.suppressed))
    }

    /// Takes what was counted and not recorded: of windows that are over, or of all.
    pub fn take_counted(&self, now: Instant, all: bool) -> Vec<(RefusalCause, u64)> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |window: &Window| all || now.duration_since(window.began) >= WINDOW;
        let counted = windows.iter_mut().filter(|(_, window)| window.suppressed > 0 && over(window));
        counted.map(|(cause, window)| (*cause, std::mem::take(&mut window.suppressed))).collect()
    }
}

impl Identity {
    /// Records how many pairing refusals were counted and not recorded one by one: those of windows that are
    /// over, or all of them. Whoever serves pairing calls it by the minute, and at the end.
    ///
    /// # Errors
    /// As a write.
    pub fn record_counted_refusals(&self, all: bool) -> Result<(), Error> {
        let counted = self.core.refusals.take_counted(Instant::now(), all);
        if counted.is_empty() {
            return Ok(());
        }
        // The event stands for the last of them.
        let event = |(cause, count): (RefusalCause, u64)| {
            Event::PairingRefused(PairingRefused {
                pairing: None,
                cause,
                peer: "several".to_owned(),
                suppressed: count.saturating_sub(1),
            })
        };
        let events = counted.into_iter().map(event).collect();
        self.core.execute(&self.caller, |_, _| Ok::<_, Error>((events, ())))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_recorded_one_by_one() {
        let refusals = Refusals::default();
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        for _ in 0..limits::REFUSALS_PER_WINDOW {
            assert_eq!(refusals.admit(RefusalCause::WrongCode, at(5)), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(refusals.admit(RefusalCause::WrongCode, at(6)), None);
        }
        assert_eq!(refusals.admit(RefusalCause::TooMany, at(6)), Some(0), "another cause has its own count");
        assert!(refusals.take_counted(at(7), false).is_empty(), "the flood goes on");
        assert_eq!(refusals.admit(RefusalCause::WrongCode, at(5 + limits::REFUSAL_WINDOW_MS)), Some(1000));
    }

    #[test]
    fn what_was_counted_is_taken_once_after_the_flood() {
        let refusals = Refusals::default();
        let begun = Instant::now();
        for _ in 0..limits::REFUSALS_PER_WINDOW + 7 {
            let _ = refusals.admit(RefusalCause::Malformed, begun);
        }
        assert_eq!(refusals.take_counted(begun + WINDOW, false), [(RefusalCause::Malformed, 7)]);
        assert!(refusals.take_counted(begun + WINDOW, true).is_empty());
        let _ = refusals.admit(RefusalCause::Malformed, begun);
        assert_eq!(refusals.take_counted(begun, true), [(RefusalCause::Malformed, 1)], "at the end, all of it");
    }
}
