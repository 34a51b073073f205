//! Everything that is printed goes through here: data to the standard output, the rest to the error
//! output, and nothing that could drive a terminal.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use comfy_table::Table;
use serde_json::{Value, json};

use super::args::{ColorChoice, Format};
use super::exit::Failure;

/// How a piece of text is shown on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Brighter.
    Bold,
    /// Fainter.
    Dim,
    /// Good news.
    Good,
    /// Worth a look.
    Warn,
    /// Bad news.
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\u{1b}[1m",
            Self::Dim => "\u{1b}[2m",
            Self::Good => "\u{1b}[32m",
            Self::Warn => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
        }
    }
}

const RESET: &str = "\u{1b}[0m";

/// Whether a character could drive a terminal, hide itself or turn the direction of text.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with every control, direction and invisible character written out as `\u{..}`.
#[must_use]
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_active(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// JSON text in which such characters are JSON escapes: the value stays the same.
#[must_use]
pub fn json_text(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(is_active) {
        return text;
    }
    // Beyond its strings JSON is plain ASCII without control characters, so each one stands in a string.
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_active(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = std::fmt::Write::write_fmt(&mut shown, format_args!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Where and how a command prints.
#[derive(Debug)]
pub struct Output {
    json: bool,
    color: bool,
    out: RefCell<BufWriter<File>>,
    /// Another process's error output; none for this one's.
    error: Option<Arc<File>>,
}

impl Output {
    /// An output for the format and colour that were asked for.
    ///
    /// # Errors
    /// [`Failure`] where the standard output cannot be used.
    pub fn new(format: Format, color: ColorChoice) -> Result<Self, Failure> {
        let stdout = std::io::stdout();
        let json = format == Format::Json;
        let color = match color {
            ColorChoice::Always => !json,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                !json && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stdout.is_terminal()
            }
        };
        // A handle of its own: no buffer of the process keeps a copy of what is printed.
        let own = stdout.as_fd().try_clone_to_owned().map_err(|error| Failure::from_output(&error))?;
        Ok(Self { json, color, out: RefCell::new(BufWriter::new(File::from(own))), error: None })
    }

    /// Whether a person reads what is printed.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.out.borrow().get_ref().is_terminal()
    }

    /// An output to somebody else's descriptors.
    #[must_use]
    pub fn over(stdout: File, stderr: Arc<File>, json: bool, color: bool) -> Self {
        Self { json, color, out: RefCell::new(BufWriter::new(stdout)), error: Some(stderr) }
    }

    /// Whether colour is used.
    #[must_use]
    pub const fn is_colored(&self) -> bool {
        self.color
    }

    /// Whether JSON was asked for.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.borrow_mut().write_all(bytes).map_err(|error| Failure::from_output(&error))
    }

    /// Makes sure that everything so far is written.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be.
    pub fn flush(&self) -> Result<(), Failure> {
        self.out.borrow_mut().flush().map_err(|error| Failure::from_output(&error))
    }

    /// One line of text.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.painted(&[(Style::Plain, text)])
    }

    /// One line of text in several styles.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn painted(&self, parts: &[(Style, &str)]) -> Result<(), Failure> {
        let mut line = String::new();
        for (style, text) in parts {
            if self.color && *style != Style::Plain && !text.is_empty() {
                line.push_str(style.code());
                line.push_str(&safe(text));
                line.push_str(RESET);
            } else {
                line.push_str(&safe(text));
            }
        }
        line.push('\n');
        self.write(line.as_bytes())
    }

    /// One JSON value on a line.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn json(&self, value: &Value) -> Result<(), Failure> {
        let mut line = json_text(value);
        line.push('\n');
        self.write(line.as_bytes())
    }

    /// A table.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(header.iter().copied());
        for row in rows {
            table.add_row(row.iter().map(|cell| safe(cell).into_owned()));
        }
        for line in table.lines() {
            // The preset pads both sides of every column.
            let line = line.strip_prefix(' ').unwrap_or(&line).trim_end();
            self.write(line.as_bytes())?;
            self.write(b"\n")?;
        }
        Ok(())
    }

    /// Text that a program of this project made, of several lines and as it is.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn verbatim(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes)
    }

    /// A secret's value: the bytes themselves, past every buffer.
    ///
    /// # Errors
    /// [`Failure`] where it cannot be written.
    pub fn value(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.flush()?;
        self.out.borrow().get_ref().write_all(bytes).map_err(|error| Failure::from_output(&error))
    }

    /// The standard output itself, past every buffer, for what is no text.
    ///
    /// # Errors
    /// [`Failure`] where what was printed before cannot be written.
    pub fn raw(&self) -> Result<File, Failure> {
        self.flush()?;
        self.out.borrow().get_ref().try_clone().map_err(|error| Failure::from_output(&error))
    }

    /// A remark beside the data, on the error output.
    pub fn note(&self, text: &str) {
        let _ = self.flush();
        self.tell(&safe(text));
    }

    /// A warning, on the error output.
    pub fn warn(&self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// A failure, on the error output.
    pub fn failure(&self, failure: &Failure) {
        let _ = self.flush();
        for line in failure_lines(failure, self.json) {
            self.tell(&line);
        }
    }

    fn tell(&self, line: &str) {
        match &self.error {
            // In one piece, so that lines of two processes do not mix.
            Some(file) => drop((&**file).write_all(format!("{line}\n").as_bytes())),
            None => to_stderr(line),
        }
    }
}

/// Prints a failure to the error output; for use before there is an [`Output`].
pub fn print_failure(failure: &Failure, as_json: bool) {
    for line in failure_lines(failure, as_json) {
        to_stderr(&line);
    }
}

fn failure_lines(failure: &Failure, as_json: bool) -> Vec<String> {
    if failure.is_quiet() {
        return Vec::new();
    }
    let Failure { code, what, hint, .. } = failure;
    if as_json {
        let error = json!({"error": {"code": code.number(), "kind": code.name(), "what": what, "hint": hint}});
        return vec![json_text(&error)];
    }
    let mut lines = vec![format!("error: {}", safe(what))];
    if !hint.is_empty() {
        lines.push(format!("hint: {}", safe(hint)));
    }
    lines
}

/// Prints several lines to the error output.
pub fn print_lines(text: &str) {
    for line in text.lines() {
        to_stderr(&safe(line));
    }
}

fn to_stderr(line: &str) {
    // Nobody is left to be told where the error output fails.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_printed() {
        assert_eq!(safe("plain \u{e9} \u{4e2d}"), "plain \u{e9} \u{4e2d}");
        assert_eq!(safe("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(safe("a\nb\rc\u{7f}\u{9b}"), "a\\u{a}b\\u{d}c\\u{7f}\\u{9b}");
        assert_eq!(safe("x\u{202e}y\u{2066}z\u{200b}"), "x\\u{202e}y\\u{2066}z\\u{200b}");
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = json!({"a": "x\u{202e}\u{7f}\u{e0041}\n\"q\"", "b": [1, null]});
        let text = json_text(&value);
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
