//! Writing TOML: what the two documents need of it, in the very bytes that the `toml` crate gives when it writes
//! prettily. A document of thousands of profiles takes a few milliseconds, and its bytes do not change with a
//! release of that crate; a test holds the two together.

use std::fmt::Write as _;

/// A document as it grows.
pub(super) struct Toml(String);

/// A text that may be left out.
pub(super) trait Text {
    /// The text, where there is one.
    fn text(&self) -> Option<&str>;
}

impl Text for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Text for Option<String> {
    fn text(&self) -> Option<&str> {
        self.as_deref()
    }
}

/// A number that may be left out.
pub(super) trait Number {
    /// The number, where there is one.
    fn number(self) -> Option<u64>;
}

impl Number for u32 {
    fn number(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Number for u64 {
    fn number(self) -> Option<u64> {
        Some(self)
    }
}

impl Number for Option<u64> {
    fn number(self) -> Option<u64> {
        self
    }
}

impl Toml {
    /// A document that begins with a comment, with room for so many bytes.
    pub(super) fn new(head: &str, room: usize) -> Self {
        let mut text = String::with_capacity(head.len() + room);
        text.push_str(head);
        Self(text)
    }

    /// The document.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// The next table of a list.
    pub(super) fn element(&mut self, name: &str) {
        self.push(&["\n[[", name, "]]\n"]);
    }

    /// A table.
    pub(super) fn table(&mut self, name: &str) {
        self.push(&["\n[", name, "]\n"]);
    }

    /// A list that is empty.
    pub(super) fn none(&mut self, key: &str) {
        self.push(&[key, " = []\n"]);
    }

    /// What does not hold.
    pub(super) fn no(&mut self, key: &str) {
        self.push(&[key, " = false\n"]);
    }

    /// A number that may be left out.
    pub(super) fn number(&mut self, key: &str, number: impl Number) {
        if let Some(number) = number.number() {
            self.push(&[key, " = "]);
            // A string takes whatever is written to it.
            let _ = writeln!(self.0, "{number}");
        }
    }

    /// A text that may be left out.
    pub(super) fn text(&mut self, key: &str, text: &impl Text) {
        if let Some(text) = text.text() {
            self.push(&[key, " = "]);
            self.quoted(text);
            self.0.push('\n');
        }
    }

    /// A list of texts, one a line where there are several.
    pub(super) fn texts(&mut self, key: &str, texts: &[String]) {
        match texts {
            [] => self.none(key),
            [text] => {
                self.push(&[key, " = ["]);
                self.quoted(text);
                self.0.push_str("]\n");
            }
            texts => {
                self.push(&[key, " = [\n"]);
                for text in texts {
                    self.0.push_str("    ");
                    self.quoted(text);
                    self.0.push_str(",\n");
                }
                self.0.push_str("]\n");
            }
        }
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.0.push_str(part);
        }
    }

    fn quoted(&mut self, text: &str) {
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\' && byte != 0x7F;
        if text.bytes().all(plain) {
            self.push(&["\"", text, "\""]);
        } else {
            // Rare: what needs escapes, or other quotes, is left to the crate.
            let _ = write!(self.0, "{}", toml::Value::from(text));
        }
    }
}
