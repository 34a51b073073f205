//! The URI form (RFC 3986): strict in what is read, one text in what is written.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::{EnvName, SecretRef, SecretRefError, SecretSource};
use crate::base::limits;

const PALYRA: &str = "palyra://";

/// What may stand in a path or query without being encoded (RFC 3986, sections 3.3 and 3.4), but `?`, which
/// begins the query.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

/// What is written without being encoded.
fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:@/,".contains(&byte)
}

/// Decodes a part. `+` is itself: this is no form of the web.
fn decode(text: &str) -> Result<String, SecretRefError> {
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or(SecretRefError::Escape)
    };
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(digit(bytes.next())? << 4 | digit(bytes.next())?),
            _ if is_plain(byte) => out.push(byte),
            _ => return Err(SecretRefError::Escape),
        }
    }
    if out.contains(&0) {
        return Err(SecretRefError::Text);
    }
    String::from_utf8(out).map_err(|_| SecretRefError::Text)
}

struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(|byte| !is_kept(byte)) {
            let (kept, other) = rest.split_at(at);
            f.write_str(kept)?;
            let len = other.chars().next().map_or(0, char::len_utf8);
            let (one, after) = other.split_at(len);
            one.bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
            rest = after;
        }
        f.write_str(rest)
    }
}

/// A number in its one decimal text.
pub(super) fn number(key: &'static str, text: &str, max: u32, wanted: &'static str) -> Result<u32, SecretRefError> {
    let value = text.parse::<u32>().ok().filter(|value| value.to_string() == text);
    value.filter(|value| (1..=max).contains(value)).ok_or(SecretRefError::Value { key, wanted })
}

/// Whether a number is within its bounds.
pub(super) fn within(
    key: &'static str,
    value: Option<u32>,
    max: u32,
    wanted: &'static str,
) -> Result<(), SecretRefError> {
    if value.is_none_or(|value| (1..=max).contains(&value)) {
        Ok(())
    } else {
        Err(SecretRefError::Value { key, wanted })
    }
}

pub(super) const VERSION: &str = "a version's number, from 1";
pub(super) const BYTES: &str = "a number of bytes, 1 to 1048576";
pub(super) const TIME: &str = "a number of milliseconds, 1 to 600000";

#[derive(Default)]
struct Query {
    version: Option<u32>,
    field: Option<super::Field>,
    required: Option<bool>,
    max_bytes: Option<u32>,
    timeout_ms: Option<u32>,
    args: Vec<String>,
}

fn once<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), SecretRefError> {
    if slot.replace(value).is_some() { Err(SecretRefError::RepeatedKey(key)) } else { Ok(()) }
}

impl Query {
    fn parse(text: Option<&str>) -> Result<Self, SecretRefError> {
        let mut query = Self::default();
        for pair in text.into_iter().flat_map(|text| text.split('&')) {
            let (key, value) = pair.split_once('=').ok_or(SecretRefError::UnknownKey)?;
            let value = decode(value)?;
            match key {
                "version" => once(&mut query.version, "version", number("version", &value, u32::MAX, VERSION)?)?,
                "field" => once(&mut query.field, "field", value.parse()?)?,
                "required" => {
                    let wanted = "true or false";
                    let value = value.parse().map_err(|_| SecretRefError::Value { key: "required", wanted })?;
                    once(&mut query.required, "required", value)?;
                }
                "max_bytes" => {
                    let value = number("max_bytes", &value, limits::RESOLVE_BYTES_CEILING, BYTES)?;
                    once(&mut query.max_bytes, "max_bytes", value)?;
                }
                "timeout_ms" => {
                    let value = number("timeout_ms", &value, limits::RESOLVE_MS_CEILING, TIME)?;
                    once(&mut query.timeout_ms, "timeout_ms", value)?;
                }
                "arg" if query.args.len() >= limits::EXEC_ARGS_MAX => return Err(SecretRefError::TooManyArguments),
                "arg" => query.args.push(value),
                _ => return Err(SecretRefError::UnknownKey),
            }
        }
        Ok(query)
    }
}

/// Reads `<scope>/<name>` with or without a query.
pub(super) fn parse_vault(rest: &str) -> Result<SecretRef, SecretRefError> {
    if rest.len() + PALYRA.len() > limits::REFERENCE_MAX {
        return Err(SecretRefError::TooLong);
    }
    // No character that scopes and names may hold needs an encoding, so that `%` is refused in them.
    read(rest, |path, query| {
        let (path, version, field) = (path.parse()?, query.version.take(), query.field.take());
        Ok(SecretSource::Vault { path, version, field })
    })
}

fn read(
    rest: &str,
    source: impl FnOnce(&str, &mut Query) -> Result<SecretSource, SecretRefError>,
) -> Result<SecretRef, SecretRefError> {
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let mut query = Query::parse(query)?;
    let source = source(path, &mut query)?;
    if query.version.is_some() {
        return Err(SecretRefError::ForeignKey("version"));
    }
    if !query.args.is_empty() {
        return Err(SecretRefError::ForeignKey("arg"));
    }
    SecretRef {
        source,
        required: query.required.unwrap_or(true),
        max_bytes: query.max_bytes,
        timeout_ms: query.timeout_ms,
    }
    .bounded()
}

impl SecretRef {
    /// The same, if its canonical text is within the bound: what is read can be written and read again.
    pub(super) fn bounded(self) -> Result<Self, SecretRefError> {
        struct Count(usize);
        impl Write for Count {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 += text.len();
                if self.0 > limits::REFERENCE_MAX { Err(fmt::Error) } else { Ok(()) }
            }
        }
        if write!(Count(0), "{self}").is_ok() { Ok(self) } else { Err(SecretRefError::TooLong) }
    }
}

impl FromStr for SecretRef {
    type Err = SecretRefError;

    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        if text.len() > limits::REFERENCE_MAX {
            return Err(SecretRefError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(SecretRefError::Scheme)?;
        match scheme {
            "palyra" => parse_vault(rest),
            "env" => read(rest, |name, query| {
                Ok(SecretSource::Env { name: name.parse::<EnvName>()?, field: query.field.take() })
            }),
            "file" => read(rest, |path, query| {
                Ok(SecretSource::File { path: decode(path)?.parse()?, field: query.field.take() })
            }),
            "exec" => read(rest, |path, query| {
                let (args, field) = (std::mem::take(&mut query.args), query.field.take());
                Ok(SecretSource::Exec { program: decode(path)?.parse()?, args, field })
            }),
            _ => Err(SecretRefError::Scheme),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut version = None;
        let mut arguments: &[String] = &[];
        match &self.source {
            SecretSource::Vault { path, version: which, .. } => {
                version = *which;
                write!(f, "{PALYRA}{path}")?;
            }
            SecretSource::Env { name, .. } => write!(f, "env://{name}")?,
            SecretSource::File { path, .. } => write!(f, "file://{}", Encoded(path.as_str()))?,
            SecretSource::Exec { program, args, .. } => {
                arguments = args;
                write!(f, "exec://{}", Encoded(program.as_str()))?;
            }
        }
        let mut mark = '?';
        let mut pair = |f: &mut fmt::Formatter<'_>, key: &str, value: &dyn fmt::Display| {
            write!(f, "{mark}{key}={value}")?;
            mark = '&';
            Ok(())
        };
        for argument in arguments {
            pair(f, "arg", &Encoded(argument))?;
        }
        if let Some(version) = version {
            pair(f, "version", &version)?;
        }
        if let Some(field) = self.source.field() {
            pair(f, "field", &Encoded(field.as_str()))?;
        }
        if !self.required {
            pair(f, "required", &false)?;
        }
        if let Some(max) = self.max_bytes {
            pair(f, "max_bytes", &max)?;
        }
        self.timeout_ms.map_or(Ok(()), |timeout| pair(f, "timeout_ms", &timeout))
    }
}
