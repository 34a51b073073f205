//! Durations and times as a person types them.

use crate::base::{Clock, SystemClock, TimeError, Timestamp};

/// The current time.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// Reads a duration such as `45s`, `90m`, `8h`, `30d`, `2w` or `1d12h`; gives milliseconds.
///
/// # Errors
/// [`TimeError`] where the text is no duration, or longer than the range.
pub fn duration_ms(text: &str) -> Result<u64, TimeError> {
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(TimeError);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or(TimeError)?;
        let scale: u64 = match tail.bytes().next() {
            Some(b's') => 1_000,
            Some(b'm') => 60_000,
            Some(b'h') => 3_600_000,
            Some(b'd') => 86_400_000,
            Some(b'w') => 604_800_000,
            _ => return Err(TimeError),
        };
        let number: u64 = number.parse().map_err(|_| TimeError)?;
        let part = number.checked_mul(scale).ok_or(TimeError)?;
        total = total.checked_add(part).ok_or(TimeError)?;
        rest = tail.get(1..).ok_or(TimeError)?;
    }
    Ok(total)
}

/// Reads a moment: an RFC 3339 time, or a date, which is its first moment in UTC.
///
/// # Errors
/// [`TimeError`] where the text is neither.
pub fn moment(text: &str) -> Result<Timestamp, TimeError> {
    // Ten characters are a date: no time is as short.
    let midnight = (text.len() == 10).then(|| format!("{text}T00:00:00Z"));
    let stamp: jiff::Timestamp = midnight.as_deref().unwrap_or(text).parse().map_err(|_| TimeError)?;
    u64::try_from(stamp.as_millisecond()).map(Timestamp::from_millis).map_err(|_| TimeError)
}

/// Reads a moment in the past: as [`moment`], or a duration back from `now`.
///
/// # Errors
/// [`TimeError`] where the text is none of these.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, TimeError> {
    match duration_ms(text) {
        Ok(back) => Ok(Timestamp::from_millis(now.as_millis().saturating_sub(back))),
        Err(TimeError) => moment(text),
    }
}

/// A duration in its two largest units, for reading: `3d 4h`.
#[must_use]
pub fn rough(millis: u64) -> String {
    let seconds = millis / 1_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A time to the second, in UTC: for tables.
#[must_use]
pub fn second(time: Timestamp) -> String {
    let whole = Timestamp::from_millis(time.as_millis() / 1_000 * 1_000).to_string();
    whole.replace(".000Z", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        for (text, seconds) in [("0s", 0), ("45s", 45), ("90m", 5_400), ("1d12h", 129_600), ("2w", 1_209_600)] {
            assert_eq!(duration_ms(text), Ok(seconds * 1_000), "{text}");
        }
        for bad in
            ["", "5", "h", "-1h", "1.5h", "1y", "1h ", "1 h", "5m3", "99999999999999999999s", "é", "99999999999999w"]
        {
            assert_eq!(duration_ms(bad), Err(TimeError), "{bad}");
        }
    }

    #[test]
    fn moments_are_times_dates_and_ages() {
        assert_eq!(moment("2026-01-01").unwrap().as_millis(), 1_767_225_600_000);
        assert_eq!(moment("2026-01-01T01:00:00+01:00").unwrap().as_millis(), 1_767_225_600_000);
        for bad in ["", "2026-13-01", "2026-1-1", "yesterday", "1969-12-31", "2026-01-01T00:00"] {
            assert_eq!(moment(bad), Err(TimeError), "{bad}");
        }
        let now = Timestamp::from_millis(10_000_000);
        assert_eq!(since("1h", now).unwrap().as_millis(), 6_400_000);
        assert_eq!(since("9w", now).unwrap().as_millis(), 0, "before 1970 means from the beginning");
        assert_eq!(since("2026-01-01", now).unwrap().as_millis(), 1_767_225_600_000);
    }

    #[test]
    fn times_and_ages_read_well() {
        assert_eq!(rough(0), "0s");
        assert_eq!(rough(90_061_000), "1d 1h");
        assert_eq!(rough(61_000), "1m 1s");
        assert_eq!(second(Timestamp::from_millis(1_767_225_600_999)), "2026-01-01T00:00:00Z");
    }
}
