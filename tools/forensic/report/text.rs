//! Text for a page: nothing in it can end an element, drive a terminal or turn the direction of reading.

use std::fmt::Write;

use palyra_ledger::cli::output::safe;

/// The text, harmless in an element and in a quoted attribute.
pub fn escape(text: &str) -> String {
    let text = safe(text);
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A number with its thousands apart, in the same way in every country.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and its noun.
pub fn count(number_of: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(number_of), if number_of == 1 { "" } else { "s" })
}

/// Bytes in a unit that can be read, to one decimal.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return count(bytes, "byte");
    }
    // Tenths of a unit, rounded down: the same on every machine, since no fraction is computed.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10_240 {
        let Some(next) = units.next() else { break };
        tenths /= 1024;
        unit = Some(next);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.unwrap_or(&""))
}

/// A length of time in its two largest units.
pub fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let mut rest = seconds;
    let mut out = String::new();
    let mut shown = 0;
    for (unit, noun) in UNITS {
        let whole = rest / unit;
        rest %= unit;
        if whole > 0 && shown < 2 {
            let _ = write!(out, "{}{}", if shown > 0 { " " } else { "" }, count(whole, noun));
            shown += 1;
        } else if shown > 0 {
            break;
        }
    }
    if out.is_empty() { "less than a second".to_owned() } else { out }
}

/// A range of event numbers.
pub fn range(from: u64, through: u64) -> String {
    if from == through { number(from) } else { format!("{}\u{2013}{}", number(from), number(through)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escape("<b a='1'>&\"x"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;x");
        assert_eq!(escape("a\u{202e}b\u{0}\n\u{1b}c\u{feff}"), "a\\u{202e}b\\u{0}\\u{a}\\u{1b}c\\u{feff}");
    }

    #[test]
    fn numbers_read_well() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        assert!(cases.iter().all(|(value, text)| number(*value) == *text));
        assert_eq!(number(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!([bytes(1), bytes(1023), bytes(1024), bytes(1536)], ["1 byte", "1,023 bytes", "1.0 KiB", "1.5 KiB"]);
        assert_eq!([bytes(1024 * 1024), bytes(u64::MAX)], ["1.0 MiB", "16383.9 PiB"]);
        assert_eq!([duration(0), duration(1), duration(60)], ["less than a second", "1 second", "1 minute"]);
        assert_eq!([duration(3_661), duration(90_061)], ["1 hour 1 minute", "1 day 1 hour"]);
        assert_eq!(duration(86_401), "1 day");
        assert_eq!([range(3, 3), range(3, 1004)], ["3", "3\u{2013}1,004"]);
    }
}
