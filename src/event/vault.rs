//! Events of the vault. All are stored; names and metadata stand only in sealed bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{BackendKind, Scope, SecretName, Timestamp};
use crate::crypto::Hash;

/// A secret version was written.
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

/// Which versions a command is about (stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versions {
    /// Every version there is.
    All,
    /// One version.
    One(u32),
}

/// Secret versions were hidden; nothing was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDeleted {
    /// Whose.
    pub scope: Scope,
    /// Name within the scope.
    pub name: SecretName,
    /// Which versions.
    pub versions: Versions,
}

/// Hidden secret versions were shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUndeleted {
    /// Whose.
    pub scope: Scope,
    /// Name within the scope.
    pub name: SecretName,
    /// Which versions.
    pub versions: Versions,
}

/// Secret versions were destroyed: their key slots are overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretShredded {
    /// Whose.
    pub scope: Scope,
    /// Name within the scope.
    pub name: SecretName,
    /// Version and key slot, each.
    pub versions: Vec<(u32, u64)>,
}

/// A secret's description, labels or expiry changed; the fields are what holds after the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDescribed {
    /// Whose.
    pub scope: Scope,
    /// Name within the scope.
    pub name: SecretName,
    /// Expiry of the current version.
    pub expires_at: Option<Timestamp>,
    /// Description.
    pub description: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Reads of one secret version by one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadNote {
    /// Whose.
    pub scope: Scope,
    /// Name within the scope.
    pub name: SecretName,
    /// Which version.
    pub version: u32,
    /// How often.
    pub count: u32,
    /// First time.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
}

/// Secret values were read by the caller of this event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsRead {
    /// The reads, gathered.
    pub reads: Vec<ReadNote>,
}

/// Envelopes began to move to another backend; reads and writes go to `from` until the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendMigrationStarted {
    /// Where they are.
    pub from: BackendKind,
    /// Where they go.
    pub to: BackendKind,
}

/// One envelope that came back into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedEnvelope {
    /// Slot of the key table that holds its key.
    pub slot: u64,
    /// The envelope.
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
}

/// Envelopes came back into the log from another backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopesMoved {
    /// The envelopes.
    pub envelopes: Vec<MovedEnvelope>,
}

/// Every envelope was copied, read back and compared: from here on the other backend is the ledger's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendSwitched {
    /// Where they were.
    pub from: BackendKind,
    /// Where they are.
    pub to: BackendKind,
    /// How many there are.
    pub envelopes: u64,
}

/// What was left of the envelopes in the former backend was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendMigrationFinished {
    /// The former backend.
    pub from: BackendKind,
    /// Objects that were removed.
    pub removed: u64,
}

/// A move to another backend was given up before the switch; its copies were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendMigrationAborted {
    /// Where the envelopes were to go.
    pub to: BackendKind,
    /// Objects that were removed.
    pub removed: u64,
}
