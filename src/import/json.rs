//! The form that `export` writes: everything somebody owns, in JSON.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{Scope, SecretBytes, SecretName, SecretPath, Timestamp, limits};
use crate::event::import::{ImportedOrder, ImportedProfile, OriginTimes, SourceForm};

use super::env::names_digest;
use super::items::{FoundSecret, Gathered, Line, Verdict};

/// What stands under `format` in such a document.
pub const FORMAT: &str = "palyra-ledger export 1";

/// The document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportDoc {
    /// [`FORMAT`].
    pub format: String,
    /// The ledger that it came from.
    pub ledger: String,
    /// Its last event.
    pub seq: u64,
    /// When it was written.
    pub exported_at_ms: u64,
    /// The secrets.
    pub secrets: Vec<SecretDoc>,
    /// The devices, without anything secret.
    #[serde(default)]
    pub devices: Vec<serde_json::Value>,
    /// The CA's certificates, without their keys.
    #[serde(default)]
    pub authorities: Vec<serde_json::Value>,
    /// The profiles.
    #[serde(default)]
    pub profiles: Vec<ImportedProfile>,
    /// The orders of profiles.
    #[serde(default)]
    pub orders: Vec<ImportedOrder>,
}

/// A secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretDoc {
    /// Whose.
    pub scope: String,
    /// Name within the scope.
    pub name: String,
    /// Description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its versions that still have values, oldest first.
    pub versions: Vec<VersionDoc>,
}

/// One version of a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionDoc {
    /// Its number in the ledger that it came from.
    pub version: u32,
    /// The value in base64 (RFC 4648, section 4, with padding).
    pub value: Zeroizing<String>,
    /// When it was made.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: u64,
    /// When it is to be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Whether it is hidden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl fmt::Debug for VersionDoc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionDoc").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Reads such a document.
#[must_use]
pub fn read_json(bytes: &[u8], origin: &str) -> Gathered {
    let mut gathered = Gathered::new(SourceForm::Json, origin);
    let document: ExportDoc = match super::palyra::read_document(bytes) {
        Ok(document) => document,
        Err(what) => {
            gathered.lines.push(Line::new("document", Verdict::Damaged, what));
            gathered.unreadable = true;
            return gathered;
        }
    };
    if document.format != FORMAT {
        let what = format!("its format is none that is known; it must be `{FORMAT}`");
        gathered.lines.push(Line::new("document", Verdict::Damaged, what));
        gathered.unreadable = true;
        return gathered;
    }
    let mut met = HashSet::with_capacity(document.secrets.len());
    for secret in document.secrets {
        let shown: String =
            format!("{}/{}", secret.scope, secret.name).chars().filter(|one| !one.is_control()).take(256).collect();
        if !met.insert((secret.scope.clone(), secret.name.clone())) {
            let what = "it stands in the source more than once";
            gathered.lines.push(Line::new(format!("secret {shown}"), Verdict::Damaged, what));
            continue;
        }
        let moved = renumbered(&secret);
        match read_secret(secret) {
            Ok(versions) => {
                gathered.secrets.extend(versions);
                gathered
                    .lines
                    .extend(moved.map(|what| Line::new(format!("version numbers of {shown}"), Verdict::Skipped, what)));
            }
            Err((verdict, what)) => gathered.lines.push(Line::new(format!("secret {shown}"), verdict, what)),
        }
    }
    if !document.devices.is_empty() {
        let what =
            format!("{} devices: they are paired with the ledger that holds their CA's key", document.devices.len());
        gathered.lines.push(Line::new("devices", Verdict::Skipped, what));
    }
    gathered.profiles = document.profiles;
    gathered.orders = document.orders;
    gathered.digest = names_digest(&gathered);
    gathered
}

/// That numbers of versions change: those before or between were shredded, and versions are counted from 1 here.
fn renumbered(secret: &SecretDoc) -> Option<String> {
    let (old, new) = secret.versions.iter().map(|one| one.version).zip(1..).find(|(old, new)| old != new)?;
    Some(format!("version {old} there is version {new} of what is imported, and those behind it follow"))
}

fn read_secret(secret: SecretDoc) -> Result<Vec<FoundSecret>, (Verdict, String)> {
    let unfit = |error: crate::base::RefError| (Verdict::Unfit, error.to_string());
    let scope: Scope = secret.scope.parse().map_err(unfit)?;
    let name: SecretName = secret.name.parse().map_err(unfit)?;
    let path = SecretPath { scope, name };
    if secret.versions.is_empty() || secret.versions.len() > limits::IMPORT_ITEMS_MAX {
        return Err((Verdict::Damaged, "it has no versions, or too many".to_owned()));
    }
    let numbers = || secret.versions.iter().map(|one| one.version);
    if numbers().next() == Some(0) || !numbers().is_sorted_by(|one, next| one < next) {
        let what = "its versions are not numbered from 1 upwards, each once and the oldest first";
        return Err((Verdict::Damaged, what.to_owned()));
    }
    let version = |one: VersionDoc| {
        let bytes = STANDARD.decode(one.value.as_bytes());
        let bytes =
            bytes.map_err(|_| (Verdict::Damaged, format!("the value of version {} is no base64", one.version)))?;
        let origin = OriginTimes {
            created: Timestamp::from_millis(one.created_at_ms),
            updated: Timestamp::from_millis(one.updated_at_ms),
        };
        Ok(FoundSecret {
            path: path.clone(),
            value: SecretBytes::new(bytes),
            origin: Some(origin),
            expires_at: one.expires_at_ms.map(Timestamp::from_millis),
            description: secret.description.clone(),
            labels: secret.labels.clone(),
            deleted: one.deleted,
        })
    };
    secret.versions.into_iter().map(version).collect()
}
