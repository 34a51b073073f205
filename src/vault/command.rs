//! Commands of the vault, checked at the edge.

use std::collections::BTreeMap;

use crate::base::{BackendKind, SecretBytes, SecretPath, Timestamp, limits};
use crate::crypto::Hash;
use crate::event::vault::{PutCause, Versions};

use super::Sealer;

/// What must hold of the secret before a command (compare-and-set).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Nothing.
    #[default]
    Anything,
    /// The current version has this number; 0: the secret must not exist.
    Version(u32),
}

/// Why a description or label was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The description is too long.
    #[error("the description is longer than {} bytes", limits::DESCRIPTION_MAX)]
    DescriptionTooLong,
    /// There are too many labels.
    #[error("more than {} labels", limits::LABELS_MAX)]
    TooManyLabels,
    /// A label's key is empty or too long.
    #[error("a label's key is empty or longer than {} bytes", limits::LABEL_KEY_MAX)]
    LabelKey,
    /// A label's value is too long.
    #[error("a label's value is longer than {} bytes", limits::LABEL_VALUE_MAX)]
    LabelValue,
    /// A control character.
    #[error("descriptions and labels hold no control characters")]
    Control,
}

/// Changes to a secret's metadata; what is `None` stays as it is.
///
/// ```
/// use palyra_ledger::vault::Metadata;
/// let change = Metadata { description: Some("billing key".into()), ..Metadata::default() };
/// assert!(change.check().is_ok());
/// let change = Metadata { description: Some("x".repeat(5_000)), ..Metadata::default() };
/// assert!(change.check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// New description; an empty one removes it.
    pub description: Option<String>,
    /// New labels, all of them.
    pub labels: Option<BTreeMap<String, String>>,
    /// New expiry of the current version; `Some(None)` removes it.
    pub expires_at: Option<Option<Timestamp>>,
}

impl Metadata {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`MetadataError`] for the first bound that is exceeded.
    pub fn check(&self) -> Result<(), MetadataError> {
        if let Some(text) = &self.description {
            if text.len() > limits::DESCRIPTION_MAX {
                return Err(MetadataError::DescriptionTooLong);
            }
            if text.chars().any(char::is_control) {
                return Err(MetadataError::Control);
            }
        }
        let Some(labels) = &self.labels else { return Ok(()) };
        if labels.len() > limits::LABELS_MAX {
            return Err(MetadataError::TooManyLabels);
        }
        for (key, value) in labels {
            if key.is_empty() || key.len() > limits::LABEL_KEY_MAX {
                return Err(MetadataError::LabelKey);
            }
            if value.len() > limits::LABEL_VALUE_MAX {
                return Err(MetadataError::LabelValue);
            }
            if key.chars().chain(value.chars()).any(char::is_control) {
                return Err(MetadataError::Control);
            }
        }
        Ok(())
    }
}

/// An envelope that was sealed for the next version and is kept outside the log already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Which backend keeps it.
    pub backend: BackendKind,
    /// The version it was sealed for.
    pub version: u32,
    /// The key slot that it takes.
    pub slot: u64,
    /// Its digest.
    pub digest: Hash,
}

/// What a new version is made of.
#[derive(Debug, Clone, Copy)]
pub enum Material<'a> {
    /// A fresh key slot: the envelope is sealed now and stands in the event.
    Seal(&'a Sealer),
    /// An envelope in another backend.
    Sealed(&'a Sealed),
}

/// Write a new version of a secret.
#[derive(Debug)]
pub struct Put<'a> {
    /// Which secret.
    pub target: &'a SecretPath,
    /// Its value.
    pub value: &'a SecretBytes,
    /// Bound on the value in bytes.
    pub max_bytes: usize,
    /// What must hold before.
    pub expect: Expect,
    /// Metadata that changes with it.
    pub metadata: &'a Metadata,
    /// What the version is made of.
    pub material: Material<'a>,
    /// How the value came.
    pub cause: &'a PutCause,
}

/// Delete, undelete or shred versions of a secret.
#[derive(Debug, Clone, Copy)]
pub struct Select<'a> {
    /// Which secret.
    pub target: &'a SecretPath,
    /// Which versions.
    pub versions: Versions,
    /// What must hold before.
    pub expect: Expect,
}

/// Change a secret's metadata.
#[derive(Debug, Clone, Copy)]
pub struct Describe<'a> {
    /// Which secret.
    pub target: &'a SecretPath,
    /// What changes.
    pub metadata: &'a Metadata,
    /// What must hold before.
    pub expect: Expect,
}
