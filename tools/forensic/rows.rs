//! Rows of events as text: fast, the same on every machine, and harmless to terminals and spreadsheets.

use std::io::Write;

use palyra_ledger::cli::output::{json_text, safe};
use palyra_ledger::cli::story;
use palyra_ledger::event::{Kind, KindClass};
use palyra_ledger::log::Frame;
use palyra_ledger::{Entry, Hash, Timestamp};
use serde_json::{Value, json};

/// Columns of a CSV timeline; Timesketch wants the first three.
pub const CSV_HEADER: &str =
    "message,datetime,timestamp_desc,seq,kind,class,epoch,batch,body_bytes,hash,actor,origin,reason,correlation\r\n";

/// Formats times; most events share a second with the one before.
#[derive(Debug, Default)]
pub struct Times {
    second: Option<u64>,
    text: String,
}

impl Times {
    /// RFC 3339 in UTC with milliseconds.
    pub fn text(&mut self, time: Timestamp) -> &str {
        let millis = time.as_millis();
        if self.second == Some(millis / 1000) && self.text.len() == 24 {
            self.text.truncate(20);
            let _ = std::fmt::Write::write_fmt(&mut self.text, format_args!("{:03}Z", millis % 1000));
        } else {
            self.text = time.to_string();
            self.second = Some(millis / 1000);
        }
        &self.text
    }
}

/// Appends a hash in hexadecimal.
pub fn push_hex(out: &mut Vec<u8>, hash: &Hash) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in hash.0 {
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// The domain of a kind as a word.
pub const fn class(kind: u16) -> &'static str {
    match KindClass::of(kind) {
        KindClass::System => "system",
        KindClass::Vault => "vault",
        KindClass::Identity => "identity",
        KindClass::Auth => "auth",
        KindClass::Unknown => "unknown",
    }
}

/// The name of a kind, without an allocation where it is known.
pub fn kind_name(kind: u16) -> std::borrow::Cow<'static, str> {
    Kind::from_number(kind).map_or_else(|| Kind::display_name(kind).into(), |kind| kind.name().into())
}

/// One sentence about an event: with keys what happened, without them what kind of event it is.
pub fn message(frame: &Frame<'_>, entry: Option<&Entry>) -> String {
    match entry {
        Some(entry) => format!("{} {}", entry.caller.actor, story::summary(&entry.event)),
        None => kind_name(frame.header.kind).replace('_', " "),
    }
}

/// Appends one line of JSON.
pub fn push_json(out: &mut Vec<u8>, times: &mut Times, frame: &Frame<'_>, entry: Option<&Entry>) {
    let header = &frame.header;
    let name = kind_name(header.kind);
    let micros = header.time.as_millis().saturating_mul(1000);
    // Everything but the keyed part is plain ASCII of our own making: nothing needs escaping.
    let _ = match entry {
        None => {
            out.extend_from_slice(b"{\"message\":\"");
            out.extend(name.bytes().map(|byte| if byte == b'_' { b' ' } else { byte }));
            write!(out, "\"")
        }
        Some(entry) => write!(out, "{{\"message\":{}", json_text(&Value::String(message(frame, Some(entry))))),
    };
    let _ = write!(
        out,
        ",\"datetime\":\"{}\",\"timestamp\":{micros},\"timestamp_desc\":\"Event recorded\",\"seq\":{},\"kind\":\"{name}\",\"class\":\"{}\",\"schema\":{},\"epoch\":{},\"batch\":\"{}/{}\",\"body_bytes\":{},\"hash\":\"",
        times.text(header.time),
        header.seq,
        class(header.kind),
        header.schema,
        header.epoch,
        header.batch_index.saturating_add(1),
        header.batch_len,
        header.body_len,
    );
    push_hex(out, &frame.hash);
    out.push(b'"');
    if let Some(entry) = entry {
        let caller = &entry.caller;
        let rest = json!({
            "actor": caller.actor.as_str(), "origin": caller.origin.to_string(),
            "reason": caller.reason.as_ref().map(ToString::to_string),
            "correlation": caller.correlation.map(|id| id.to_string()), "fields": entry.fields(),
        });
        let text = json_text(&rest);
        out.push(b',');
        out.extend_from_slice(text.trim_start_matches('{').trim_end().as_bytes());
        out.push(b'\n');
    } else {
        out.extend_from_slice(b"}\n");
    }
}

/// Appends one line of CSV.
pub fn push_csv(out: &mut Vec<u8>, times: &mut Times, frame: &Frame<'_>, entry: Option<&Entry>) {
    let header = &frame.header;
    match entry {
        Some(_) => push_cell(out, &message(frame, entry)),
        None => out.extend(kind_name(header.kind).bytes().map(|byte| if byte == b'_' { b' ' } else { byte })),
    }
    let _ = write!(
        out,
        ",{},Event recorded,{},{},{},{},{}/{},{},",
        times.text(header.time),
        header.seq,
        kind_name(header.kind),
        class(header.kind),
        header.epoch,
        header.batch_index.saturating_add(1),
        header.batch_len,
        header.body_len,
    );
    push_hex(out, &frame.hash);
    match entry {
        None => out.extend_from_slice(b",,,,\r\n"),
        Some(entry) => {
            let caller = &entry.caller;
            let reason = caller.reason.as_ref().map(ToString::to_string).unwrap_or_default();
            let correlation = caller.correlation.map(|id| id.to_string()).unwrap_or_default();
            for cell in [caller.actor.as_str(), &caller.origin.to_string(), &reason, &correlation] {
                out.push(b',');
                push_cell(out, cell);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends a cell (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe in front,
/// and what could drive a terminal or turn the direction of text is written out.
pub fn push_cell(out: &mut Vec<u8>, text: &str) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = safe(text);
    let quoted = formula || text.contains([',', '"', '\'']);
    if quoted {
        out.push(b'"');
    }
    if formula {
        out.push(b'\'');
    }
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    if quoted {
        out.push(b'"');
    }
}

/// Appends a line for a person to read.
pub fn push_line(out: &mut Vec<u8>, times: &mut Times, frame: &Frame<'_>, entry: Option<&Entry>) {
    let header = &frame.header;
    let _ = write!(out, "{:>10}  {}  ", header.seq, times.text(header.time));
    match entry {
        Some(entry) => {
            let _ = write!(out, "{:<21} ", kind_name(header.kind));
            out.extend_from_slice(safe(&message(frame, Some(entry))).as_bytes());
            if let Some(reason) = &entry.caller.reason {
                let _ = write!(out, " [{}]", safe(reason.as_str()));
            }
            let _ = writeln!(out);
        }
        None => {
            let name = kind_name(header.kind);
            let _ = write!(out, "{name:<21} epoch {:<4} {:>8} bytes  ", header.epoch, header.body_len);
            push_hex(out, &frame.hash);
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_neither_formulas_nor_commands() {
        let cell = |text: &str| {
            let mut out = Vec::new();
            push_cell(&mut out, text);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        for formula in ["=1+1", "+1", "-1", "@x"] {
            assert_eq!(cell(formula), format!("\"'{formula}\""));
        }
        assert_eq!(cell("\t=1"), "\"'\\u{9}=1\"");
        assert_eq!(cell("x\u{202e}y\u{1b}[31m"), "x\\u{202e}y\\u{1b}[31m");
    }

    #[test]
    fn times_that_share_a_second_read_right() {
        let mut times = Times::default();
        for millis in [1_767_225_600_123, 1_767_225_600_004, 1_767_225_601_999, 0, u64::MAX, 5] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(times.text(time), time.to_string());
        }
    }
}
