//! Time enters the program here and nowhere else (invariant I7).

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected Unix milliseconds, an RFC 3339 time such as 2026-01-31T12:00:00Z, or an age such as 90m, 36h or 7d")]
pub struct TimeError;

/// Milliseconds since the Unix epoch, UTC (stored: eight bytes in every frame).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A time from Unix milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time and `millis` more; stays at the end of the range instead of wrapping.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Reads Unix milliseconds, an RFC 3339 time, or an offset from `now`: `8h` ahead for a
    /// deadline (`forward`), `8h` ago for a search.
    ///
    /// # Errors
    /// [`TimeError`] where the text is none of these or out of range.
    ///
    /// ```
    /// use palyra_ledger::Timestamp;
    /// let now = Timestamp::from_millis(1_000_000);
    /// assert_eq!(Timestamp::parse("2s", now, true)?.as_millis(), 1_002_000);
    /// assert_eq!(Timestamp::parse("2s", now, false)?.as_millis(), 998_000);
    /// assert_eq!(Timestamp::parse("1970-01-01T00:00:01Z", now, true)?.as_millis(), 1_000);
    /// # Ok::<(), palyra_ledger::TimeError>(())
    /// ```
    pub fn parse(text: &str, now: Self, forward: bool) -> Result<Self, TimeError> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return text.parse().map(Self).map_err(|_| TimeError);
        }
        if let Some(millis) = parse_age(text) {
            let moved = if forward { now.0.checked_add(millis) } else { now.0.checked_sub(millis) };
            return moved.map(Self).ok_or(TimeError);
        }
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimeError)?;
        u64::try_from(instant.as_millisecond()).map(Self).map_err(|_| TimeError)
    }
}

fn parse_age(text: &str) -> Option<u64> {
    let unit = text.bytes().next_back()?;
    let scale = match unit {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        match instant {
            Some(instant) => write!(f, "{instant:.3}"),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// Where the current time comes from: the system, or a test's hand.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The operating system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // The one place that reads the wall clock; a time before 1970 counts as 1970.
        #[allow(clippy::disallowed_methods)]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_and_read_back() {
        let time = Timestamp::from_millis(1_767_225_600_123);
        assert_eq!(time.to_string(), "2026-01-01T00:00:00.123Z");
        assert_eq!(Timestamp::parse(&time.to_string(), Timestamp(0), true), Ok(time));
    }

    #[test]
    fn texts_that_are_no_time_are_refused() {
        let now = Timestamp::from_millis(5_000);
        for bad in ["", "h", "-1h", "1w", "6s ", "99999999999999999999", "tomorrow", "1.5h", "18446744073709551615d"] {
            assert_eq!(Timestamp::parse(bad, now, true), Err(TimeError), "{bad}");
        }
        assert_eq!(Timestamp::parse("6s", now, false), Err(TimeError), "before 1970");
    }
}
