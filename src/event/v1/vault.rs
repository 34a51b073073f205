//! Events of the vault, version 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{Scope, SecretName, Timestamp};
use crate::crypto::Hash;
use crate::event::vault;

/// Kind 32: without where the value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPut {
    /// Whose.
    pub scope: Scope,
    /// Name within the scope.
    pub name: SecretName,
    /// Number of the version, from 1.
    pub version: u32,
    /// Slot of the key table that holds this version's key.
    pub slot: u64,
    /// Length of the value in bytes.
    pub value_bytes: u32,
    /// When this version is to be replaced, if anybody said.
    pub expires_at: Option<Timestamp>,
    /// Description after this event.
    pub description: Option<String>,
    /// Labels after this event.
    pub labels: BTreeMap<String, String>,
    /// Digest of the envelope, whichever backend holds it.
    pub envelope_digest: Hash,
    /// Backend that holds the envelope: 0 is this event itself.
    pub backend: u16,
    /// The envelope, where the ledger itself is the backend.
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
}

impl From<SecretPut> for vault::SecretPut {
    fn from(old: SecretPut) -> Self {
        Self {
            scope: old.scope,
            name: old.name,
            version: old.version,
            slot: old.slot,
            value_bytes: old.value_bytes,
            expires_at: old.expires_at,
            description: old.description,
            labels: old.labels,
            envelope_digest: old.envelope_digest,
            backend: old.backend,
            cause: None,
            envelope: old.envelope,
        }
    }
}
