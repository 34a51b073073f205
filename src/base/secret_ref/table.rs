//! References in TOML and JSON: a string with the URI, or a table.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use super::form::{BYTES, TIME, VERSION, within};
use super::{SecretRef, SecretRefError, SecretSource, SourceKind};
use crate::base::limits;
use crate::base::refs::SecretPath;

/// A reference as a table of TOML or JSON, before it is proven. Unknown keys are refused.
///
/// ```
/// use palyra_ledger::{ReferenceTable, SecretRef};
/// let reference: SecretRef = toml::from_str("source = \"exec\"\nargv = [\"/usr/bin/op\", \"read\", \"op://a/b\"]\n")?;
/// assert_eq!(reference.to_string(), "exec:///usr/bin/op?arg=read&arg=op://a/b");
/// assert_eq!(toml::from_str::<SecretRef>(&toml::to_string(&ReferenceTable::from(&reference))?)?, reference);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceTable {
    /// What kind of source.
    pub source: SourceKind,
    /// Scope of a secret of this ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Name of a secret of this ledger, or of a variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version of a secret of this ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Path of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Which member of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether the value must be there; it must unless this says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Bound on the value in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// Bound on the time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

impl std::fmt::Debug for ReferenceTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReferenceTable({}, ..)", self.source)
    }
}

impl ReferenceTable {
    /// A table of one kind without anything else.
    #[must_use]
    pub const fn new(source: SourceKind) -> Self {
        Self {
            source,
            scope: None,
            name: None,
            version: None,
            path: None,
            argv: None,
            field: None,
            required: None,
            max_bytes: None,
            timeout_ms: None,
        }
    }

    /// Takes what the source needs out of the table; what is left over does not belong to it.
    fn take_source(&mut self) -> Result<SecretSource, SecretRefError> {
        let field = self.field.take().map(|field| field.parse()).transpose()?;
        let missing = SecretRefError::MissingKey;
        Ok(match self.source {
            SourceKind::Vault => {
                let scope = self.scope.take().ok_or(missing("scope"))?.parse()?;
                let name = self.name.take().ok_or(missing("name"))?.parse()?;
                within("version", self.version, u32::MAX, VERSION)?;
                SecretSource::Vault { path: SecretPath { scope, name }, version: self.version.take(), field }
            }
            SourceKind::Env => SecretSource::Env { name: self.name.take().ok_or(missing("name"))?.parse()?, field },
            SourceKind::File => SecretSource::File { path: self.path.take().ok_or(missing("path"))?.parse()?, field },
            SourceKind::Exec => {
                let mut args = self.argv.take().ok_or(missing("argv"))?;
                if args.is_empty() {
                    return Err(missing("argv"));
                }
                let program = args.remove(0).parse()?;
                if args.len() > limits::EXEC_ARGS_MAX {
                    return Err(SecretRefError::TooManyArguments);
                }
                if args.iter().any(|arg| arg.contains('\0')) {
                    return Err(SecretRefError::Text);
                }
                SecretSource::Exec { program, args, field }
            }
        })
    }
}

impl TryFrom<ReferenceTable> for SecretRef {
    type Error = SecretRefError;

    fn try_from(mut table: ReferenceTable) -> Result<Self, SecretRefError> {
        let source = table.take_source()?;
        let left = [
            ("scope", table.scope.is_some()),
            ("name", table.name.is_some()),
            ("version", table.version.is_some()),
            ("path", table.path.is_some()),
            ("argv", table.argv.is_some()),
        ];
        if let Some((key, _)) = left.into_iter().find(|(_, there)| *there) {
            return Err(SecretRefError::ForeignKey(key));
        }
        within("max_bytes", table.max_bytes, limits::RESOLVE_BYTES_CEILING, BYTES)?;
        within("timeout_ms", table.timeout_ms, limits::RESOLVE_MS_CEILING, TIME)?;
        let (required, max_bytes, timeout_ms) = (table.required.unwrap_or(true), table.max_bytes, table.timeout_ms);
        Self { source, required, max_bytes, timeout_ms }.bounded()
    }
}

impl From<&SecretRef> for ReferenceTable {
    fn from(reference: &SecretRef) -> Self {
        let mut table = Self::new(reference.source.kind());
        match &reference.source {
            SecretSource::Vault { path, version, .. } => {
                table.scope = Some(path.scope.to_string());
                table.name = Some(path.name.to_string());
                table.version = *version;
            }
            SecretSource::Env { name, .. } => table.name = Some(name.to_string()),
            SecretSource::File { path, .. } => table.path = Some(path.to_string()),
            SecretSource::Exec { program, args, .. } => {
                table.argv = Some(std::iter::once(program.to_string()).chain(args.iter().cloned()).collect());
            }
        }
        table.field = reference.source.field().map(ToString::to_string);
        table.required = (!reference.required).then_some(false);
        table.max_bytes = reference.max_bytes;
        table.timeout_ms = reference.timeout_ms;
        table
    }
}

impl Serialize for SecretRef {
    /// The canonical text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    /// A string with the URI, or a table.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = SecretRef;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a reference to a secret: a URI or a table")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretRef, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretRef, A::Error> {
                let table = ReferenceTable::deserialize(MapAccessDeserializer::new(map))?;
                table.try_into().map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
