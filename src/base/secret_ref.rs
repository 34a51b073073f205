//! References to secrets: where a value is to be taken from, and under which bounds. They hold no value.
//!
//! A reference has one canonical text, a URI; people and configuration files may also write it as a table.
//! Nothing here looks at the machine: what a reference may reach is decided by whoever resolves it.

mod form;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::limits;
use super::refs::{RefError, SecretPath};

pub use table::ReferenceTable;

/// Why a reference was refused. None of them repeats the text: it may be a secret in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefError {
    /// It is longer than its bound.
    #[error("it is longer than {max} bytes", max = limits::REFERENCE_MAX)]
    TooLong,
    /// It begins with none of the four schemes.
    #[error("a reference begins with palyra://, env://, file:/// or exec:///")]
    Scheme,
    /// It holds a character that must be percent-encoded, or a broken percent-encoding.
    #[error("a character in it must be percent-encoded, or a percent-encoding in it is broken")]
    Escape,
    /// What is percent-encoded is no UTF-8, or holds NUL.
    #[error("what is percent-encoded in it is not UTF-8 text without NUL")]
    Text,
    /// Scope and name of a vault reference are not acceptable.
    #[error("scope and name: {0}")]
    Path(#[from] RefError),
    /// The name of an environment variable is not acceptable.
    #[error("a variable's name is 1 to {max} letters, digits and _, and begins with no digit", max = limits::ENV_NAME_MAX)]
    EnvName,
    /// A path is not acceptable.
    #[error(
        "a path is absolute, has no empty, `.` or `..` part and no control character, and its parts have at most {max} bytes",
        max = limits::PATH_PART_MAX
    )]
    Absolute,
    /// A field is not acceptable.
    #[error(
        "a field is a member's name, or a JSON pointer that begins with `/`, of 1 to {max} bytes",
        max = limits::FIELD_MAX
    )]
    Field,
    /// A key is known nowhere.
    #[error("it has a key that is none of version, field, required, max_bytes, timeout_ms and arg")]
    UnknownKey,
    /// A key belongs to another source.
    #[error("`{0}` does not belong to this source")]
    ForeignKey(&'static str),
    /// A key that the source needs is not there.
    #[error("`{0}` is missing")]
    MissingKey(&'static str),
    /// A key stands there twice.
    #[error("`{0}` stands there twice")]
    RepeatedKey(&'static str),
    /// A value is out of its bounds.
    #[error("`{key}` must be {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A program has more arguments than the bound.
    #[error("a program has at most {max} arguments", max = limits::EXEC_ARGS_MAX)]
    TooManyArguments,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:path, $error:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = SecretRefError;

            fn from_str(text: &str) -> Result<Self, SecretRefError> {
                if $check(text) { Ok(Self(text.to_owned())) } else { Err(SecretRefError::$error) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(
    /// Name of an environment variable: 1 to 256 letters, digits and `_`, no digit at first.
    EnvName,
    is_env_name,
    EnvName
);
checked_text!(
    /// An absolute path in UTF-8 in which no part is empty, `.` or `..`: it cannot climb.
    AbsolutePath,
    is_absolute,
    Absolute
);
checked_text!(
    /// Which member of a JSON object is the secret: its name, or an RFC 6901 pointer that begins with `/`.
    Field,
    is_field,
    Field
);

fn is_env_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= limits::ENV_NAME_MAX
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn is_absolute(text: &str) -> bool {
    let good = |part: &str| {
        !matches!(part, "" | "." | "..") && part.len() <= limits::PATH_PART_MAX && !part.chars().any(char::is_control)
    };
    text.len() <= limits::PATH_MAX && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(good))
}

fn is_field(text: &str) -> bool {
    let escapes = |part: &str| part.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    (1..=limits::FIELD_MAX).contains(&text.len())
        && !text.chars().any(char::is_control)
        && (!text.starts_with('/') || escapes(text))
}

impl AbsolutePath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Its last part.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Its parts, from the root down.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

/// Where a value is taken from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// A secret of this ledger.
    Vault {
        /// Which one.
        path: SecretPath,
        /// Which version; by default the current one.
        version: Option<u32>,
        /// Which member of it.
        field: Option<Field>,
    },
    /// A variable of the environment.
    Env {
        /// Its name.
        name: EnvName,
        /// Which member of it.
        field: Option<Field>,
    },
    /// A file.
    File {
        /// Where.
        path: AbsolutePath,
        /// Which member of it.
        field: Option<Field>,
    },
    /// What a program prints.
    Exec {
        /// The program.
        program: AbsolutePath,
        /// Its arguments; no shell sees them.
        args: Vec<String>,
        /// Which member of what it prints.
        field: Option<Field>,
    },
}

/// The kinds of sources (stored: variants are numbered by their place, never reordered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A secret of this ledger.
    Vault,
    /// A variable of the environment.
    Env,
    /// A file.
    File,
    /// What a program prints.
    Exec,
}

impl SourceKind {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Env => "env",
            Self::File => "file",
            Self::Exec => "exec",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl SecretSource {
    /// What kind of source it is.
    #[must_use]
    pub const fn kind(&self) -> SourceKind {
        match self {
            Self::Vault { .. } => SourceKind::Vault,
            Self::Env { .. } => SourceKind::Env,
            Self::File { .. } => SourceKind::File,
            Self::Exec { .. } => SourceKind::Exec,
        }
    }

    /// Which member of the value is the secret; without one it is the whole value.
    #[must_use]
    pub const fn field(&self) -> Option<&Field> {
        match self {
            Self::Vault { field, .. }
            | Self::Env { field, .. }
            | Self::File { field, .. }
            | Self::Exec { field, .. } => field.as_ref(),
        }
    }
}

/// A reference to a secret. `Display` is its canonical text; `Debug` shows the redacted one.
///
/// ```
/// use palyra_ledger::SecretRef;
/// let reference: SecretRef = "palyra://global/openai_api_key?version=3&field=token".parse()?;
/// assert_eq!(reference.to_string(), "palyra://global/openai_api_key?version=3&field=token");
/// assert_eq!(SecretRef::from_words("global/openai_api_key")?.to_string(), "palyra://global/openai_api_key");
///
/// let reference: SecretRef = "file:///etc/agent/key.json?field=%2Fkeys%2F0".parse()?;
/// assert_eq!(reference.redacted(), "file:key.json");
/// # Ok::<(), palyra_ledger::SecretRefError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
    /// Where the value is taken from.
    pub source: SecretSource,
    /// Whether it is an error that there is no such value.
    pub required: bool,
    /// Bound on the value in bytes; the resolver's own bound holds as well.
    pub max_bytes: Option<u32>,
    /// Bound on the time it takes in milliseconds; the resolver's own bound holds as well.
    pub timeout_ms: Option<u32>,
}

impl From<SecretSource> for SecretRef {
    fn from(source: SecretSource) -> Self {
        Self { source, required: true, max_bytes: None, timeout_ms: None }
    }
}

impl From<SecretPath> for SecretRef {
    fn from(path: SecretPath) -> Self {
        SecretSource::Vault { path, version: None, field: None }.into()
    }
}

impl SecretRef {
    /// Reads what a person typed: a URI, or `<scope>/<name>` for a secret of this ledger.
    ///
    /// # Errors
    /// [`SecretRefError`].
    pub fn from_words(text: &str) -> Result<Self, SecretRefError> {
        if text.contains("://") { text.parse() } else { form::parse_vault(text) }
    }

    /// What logs may show: the kind and, of a vault reference, scope and name; of a variable its name; of a
    /// file its name without the folder; of a program its name without arguments.
    #[must_use]
    pub fn redacted(&self) -> String {
        match &self.source {
            SecretSource::Vault { path, .. } => format!("vault:{path}"),
            SecretSource::Env { name, .. } => format!("env:{name}"),
            SecretSource::File { path, .. } => format!("file:{}", path.file_name()),
            SecretSource::Exec { program, .. } => format!("exec:{}", program.file_name()),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRef({})", self.redacted())
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSource({})", SecretRef::from(self.clone()).redacted())
    }
}
