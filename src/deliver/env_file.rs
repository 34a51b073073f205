//! Env files: `NAME=value` lines, as many tools have them.
//!
//! ```text
//! # a comment
//! export REGION=eu-west-1          # a comment behind a blank
//! API_KEY=palyra://global/api_key  a reference, resolved
//! LITERAL='palyra://not/resolved'  single quotes: nothing in them is special
//! MOTTO="two\nlines, a \" and a $" double quotes: \n \r \t \\ \" \$ alone are special
//! ```
//!
//! Nothing is expanded: `$` is a dollar sign. A quoted value may have several lines. Only `palyra://` is a
//! reference here: `file:///` is an ordinary value of many programs, and a file that came with somebody's
//! sources should start no program by `exec:///`. A name that stands there twice is an error: which of two
//! secrets a program gets is no matter of order.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::base::{EnvName, SecretRef, SecretRefError, limits};

/// Why an env file was refused. Nothing of its text is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct EnvFileError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: EnvFileReason,
}

/// What is wrong with an env file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileReason {
    /// The file is longer than its bound.
    #[error("the file is longer than {max} bytes", max = limits::ENV_FILE_MAX)]
    TooLong,
    /// The file has more variables than the bound.
    #[error("there are more than {max} variables", max = limits::ENV_FILE_ENTRIES_MAX)]
    TooMany,
    /// The file is not text.
    #[error("this is not UTF-8 text without NUL")]
    Text,
    /// A line has no `=`.
    #[error("a line is NAME=value, a comment or empty")]
    NoValue,
    /// A name is not acceptable.
    #[error("{0}")]
    Name(SecretRefError),
    /// A value that begins like a reference is none.
    #[error("the value begins with palyra:// and is no reference: {0}; in single quotes it is plain text")]
    Reference(SecretRefError),
    /// A quote does not end.
    #[error("a quote that begins here has no end")]
    Unclosed,
    /// Something stands behind a quoted value.
    #[error("only a comment may follow a quoted value")]
    Trailing,
    /// A backslash stands before something that it does not make special.
    #[error("in double quotes a backslash stands before n, r, t, \\, \" or $ alone; single quotes take it as it is")]
    Escape,
    /// A name stands there twice.
    #[error("the same name stands on line {first} already")]
    Repeated {
        /// Where it stands first.
        first: usize,
    },
}

/// What a variable is set to.
pub enum EnvValue {
    /// Text as it stands there. It may be a secret in plain, so it is wiped and not shown.
    Plain(Zeroizing<String>),
    /// A reference.
    Reference(SecretRef),
}

impl std::fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "Plain({} bytes)", text.len()),
            Self::Reference(reference) => f.debug_tuple("Reference").field(reference).finish(),
        }
    }
}

/// One variable of an env file.
#[derive(Debug)]
pub struct EnvEntry {
    /// Line, from 1.
    pub line: usize,
    /// Name.
    pub name: EnvName,
    /// Value.
    pub value: EnvValue,
}

const SCHEME: &str = "palyra://";
const BLANKS: [char; 2] = [' ', '\t'];

/// Reads an env file.
///
/// # Errors
/// [`EnvFileError`], with the line.
pub fn parse_env_file(bytes: &[u8]) -> Result<Vec<EnvEntry>, EnvFileError> {
    let (entries, wrong) = read_env_file(bytes)?;
    wrong.into_iter().next().map_or(Ok(entries), Err)
}

/// Reads what can be read of an env file, and says what else is wrong, line by line. A name that stands there twice
/// is read once, and a quote without an end is the last thing that is read: all behind it may belong to it.
///
/// # Errors
/// [`EnvFileError`] where it cannot be read as a whole: it is no text, or too large.
pub fn read_env_file(bytes: &[u8]) -> Result<(Vec<EnvEntry>, Vec<EnvFileError>), EnvFileError> {
    if bytes.len() > limits::ENV_FILE_MAX {
        return Err(EnvFileError { line: 1, reason: EnvFileReason::TooLong });
    }
    let mut reader = Reader { rest: text(bytes)?, line: 1 };
    let (mut entries, mut wrong, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
    loop {
        let line = reader.line;
        match reader.entry() {
            Ok(Read::End) => return Ok((entries, wrong)),
            Ok(Read::Nothing) => {}
            Ok(Read::Entry(name, value)) => {
                if let Some(first) = seen.get(&name).copied() {
                    wrong.push(EnvFileError { line, reason: EnvFileReason::Repeated { first } });
                    continue;
                }
                if entries.len() == limits::ENV_FILE_ENTRIES_MAX {
                    return Err(EnvFileError { line, reason: EnvFileReason::TooMany });
                }
                seen.insert(name.clone(), line);
                entries.push(EnvEntry { line, name, value });
            }
            Err(reason) => {
                wrong.push(EnvFileError { line, reason });
                if reason == EnvFileReason::Unclosed {
                    return Ok((entries, wrong));
                }
            }
        }
    }
}

/// The file as text, without the mark that some editors put before it.
fn text(bytes: &[u8]) -> Result<&str, EnvFileError> {
    let good = match std::str::from_utf8(bytes) {
        Ok(text) => match text.find('\0') {
            None => return Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
            Some(at) => at,
        },
        Err(error) => error.valid_up_to(),
    };
    let line = bytes.get(..good).unwrap_or_default().split(|byte| *byte == b'\n').count();
    Err(EnvFileError { line, reason: EnvFileReason::Text })
}

enum Read {
    End,
    Nothing,
    Entry(EnvName, EnvValue),
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// The rest of the line, without its end; the reader stands behind it then.
    fn take_line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Reads what stands next. After an error the reader stands behind the entry that is wrong, unless that is a
    /// quote without an end.
    fn entry(&mut self) -> Result<Read, EnvFileReason> {
        if self.rest.is_empty() {
            return Ok(Read::End);
        }
        let begin = self.rest.trim_start_matches(BLANKS);
        let line = begin.split('\n').next().unwrap_or_default();
        if line.is_empty() || line.starts_with(['#', '\r']) {
            self.take_line();
            return Ok(Read::Nothing);
        }
        let Some((name, _)) = line.split_once('=') else {
            self.take_line();
            return Err(EnvFileReason::NoValue);
        };
        let behind = begin.get(name.len() + 1..).unwrap_or_default();
        let name = match name.strip_prefix("export") {
            Some(name) if name.starts_with(BLANKS) => name,
            _ => name,
        };
        let name: Result<EnvName, _> = name.trim_matches(BLANKS).parse();
        self.rest = behind.trim_start_matches(BLANKS);
        // The value of a bad name is read too: its lines are no variables.
        let value = self.value();
        if matches!(value, Err(EnvFileReason::Unclosed)) {
            return Err(EnvFileReason::Unclosed);
        }
        Ok(Read::Entry(name.map_err(EnvFileReason::Name)?, value?))
    }

    fn value(&mut self) -> Result<EnvValue, EnvFileReason> {
        match self.rest.chars().next() {
            Some('\'') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                self.single().map(EnvValue::Plain)
            }
            Some('"') => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                classify(self.double()?)
            }
            _ => {
                let value = uncommented(self.take_line());
                classify(Zeroizing::new(value.to_owned()))
            }
        }
    }

    /// Up to the closing quote, which may be lines below.
    fn single(&mut self) -> Result<Zeroizing<String>, EnvFileReason> {
        let (value, rest) = self.rest.split_once('\'').ok_or(EnvFileReason::Unclosed)?;
        self.line += value.matches('\n').count();
        self.rest = rest;
        self.nothing_more()?;
        Ok(Zeroizing::new(value.to_owned()))
    }

    fn double(&mut self) -> Result<Zeroizing<String>, EnvFileReason> {
        // Never longer than what it is read from, so it never moves; and no longer than its own text needs.
        let end = closing(self.rest).ok_or(EnvFileReason::Unclosed)?;
        let (inner, behind) = self.rest.split_at(end);
        self.line += inner.matches('\n').count();
        self.rest = behind.get(1..).unwrap_or_default();
        self.nothing_more()?;
        let mut value = Zeroizing::new(String::with_capacity(end));
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            value.push(match character {
                '\\' => match characters.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(same @ ('\\' | '"' | '$')) => same,
                    _ => return Err(EnvFileReason::Escape),
                },
                other => other,
            });
        }
        Ok(value)
    }

    fn nothing_more(&mut self) -> Result<(), EnvFileReason> {
        let behind = self.take_line().trim_start_matches(BLANKS);
        if behind.is_empty() || behind.starts_with('#') { Ok(()) } else { Err(EnvFileReason::Trailing) }
    }
}

/// Where the double quote that ends a value stands.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// An unquoted value: without the blanks around it, and without a comment behind a blank.
fn uncommented(line: &str) -> &str {
    let comment = if line.starts_with('#') {
        Some(0)
    } else {
        line.char_indices()
            .zip(line.chars().skip(1))
            .find(|((_, before), here)| BLANKS.contains(before) && *here == '#')
            .map(|((at, _), _)| at)
    };
    line.get(..comment.unwrap_or(line.len())).unwrap_or_default().trim_matches(BLANKS)
}

fn classify(value: Zeroizing<String>) -> Result<EnvValue, EnvFileReason> {
    if value.starts_with(SCHEME) {
        value.parse().map(EnvValue::Reference).map_err(EnvFileReason::Reference)
    } else {
        Ok(EnvValue::Plain(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let shown = |value: EnvValue| match value {
            EnvValue::Plain(text) => text.to_string(),
            EnvValue::Reference(reference) => format!("<{reference}>"),
        };
        let entries = parse_env_file(text.as_bytes()).unwrap();
        entries.into_iter().map(|entry| (entry.name.to_string(), shown(entry.value))).collect()
    }

    fn one(text: &str) -> String {
        let mut read = read(text);
        assert_eq!(read.len(), 1, "{text:?}");
        read.remove(0).1
    }

    fn refused(text: &str) -> EnvFileError {
        parse_env_file(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_forms_that_people_have() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=b\r\n", "b"),
            ("A=", ""),
            ("A=#c", ""),
            ("  export\tA = b c  # d", "b c"),
            ("A=b#c", "b#c"),
            ("A=b=c", "b=c"),
            ("A=$HOME ${X} `x` $(x)", "$HOME ${X} `x` $(x)"),
            ("A='b # \\n \"$x\"' # c", "b # \\n \"$x\""),
            ("A=\"b\\n\\t\\\\\\\"\\$x 'y'\" # c", "b\n\t\\\"$x 'y'"),
            ("A='b\nc'", "b\nc"),
            ("A=\"b\r\nc\"", "b\r\nc"),
            ("\u{feff}A=b", "b"),
            ("A=palyra://global/x", "<palyra://global/x>"),
            ("A=\"palyra://global/x\"", "<palyra://global/x>"),
            ("A='palyra://global/x'", "palyra://global/x"),
            ("A=file:///etc/x", "file:///etc/x"),
            ("A=it's", "it's"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
        assert_eq!(read("# a\n\n \t\n\r\nA=1\nB='\n\n'\nexportC=3\n").len(), 3);
        assert!(read("").is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, line) in [
            ("A=1\nnonsense\n", 2),
            ("A=1\n1B=2", 2),
            ("A=1\nB='x\n\n'\nC D=1", 5),
            ("\nA='b\nc", 2),
            ("A=\"b\\\"", 1),
            ("A='b'c", 1),
            ("A=\"\\x\"", 1),
            ("A=1\nB=2\nA=3", 3),
            ("A=1\nB=palyra://nonsense", 2),
            ("=x", 1),
            ("A=1\nB=\0", 2),
        ] {
            assert_eq!(refused(text).line, line, "{text:?}");
        }
        assert_eq!(parse_env_file(b"A=1\nB=\xff").unwrap_err().line, 2);
        assert_eq!(refused("A=1\nA=2").reason, EnvFileReason::Repeated { first: 1 });
        assert_eq!(refused(&"#".repeat(limits::ENV_FILE_MAX + 1)).reason, EnvFileReason::TooLong);
        let many: Vec<_> = (0..=limits::ENV_FILE_ENTRIES_MAX).map(|n| format!("A{n}=\n")).collect();
        assert_eq!(refused(&many.concat()).reason, EnvFileReason::TooMany);
        assert!(!format!("{:?}", parse_env_file(b"A=hunter2").unwrap()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_itself(value in "[^\0]{0,40}") {
            let quoted: String = value.chars().flat_map(|c| match c {
                '\\' | '"' => vec!['\\', c],
                other => vec![other],
            }).collect();
            let text = format!("A=\"{quoted}\"\nB=1\n");
            prop_assume!(!value.starts_with(SCHEME));
            prop_assert_eq!(read(&text), vec![("A".to_owned(), value.clone()), ("B".to_owned(), "1".to_owned())]);
            prop_assume!(!value.contains('\''));
            prop_assert_eq!(one(&format!("A='{value}'")), value);
        }

        #[test]
        fn no_text_makes_it_fall_over(text in "[AB='\"\\\\#\n\r palyr:/]{0,40}") {
            let _ = parse_env_file(text.as_bytes());
        }
    }
}
