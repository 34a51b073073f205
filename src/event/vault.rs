//! Events of the vault. All are stored; names and metadata stand only in sealed bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{BackendKind, KeyedPrint, ProfileId, Scope, SecretName, SourceKind, Timestamp};
use crate::crypto::Hash;

/// How a value came to be written (stored: variants are numbered by their place, never reordered).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PutCause {
    /// Whoever wrote it brought it.
    Given,
    /// A provider gave it when somebody logged in to this profile.
    LoggedIn(ProfileId),
    /// A provider gave it for a refresh of this profile.
    Refreshed {
        /// The profile.
        profile: ProfileId,
        /// Number of the refresh.
        generation: u64,
    },
}

/// A secret version was written (schema 2; 1 is [`v1::SecretPut`](crate::event::v1::SecretPut)).
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
    /// How the value came; nothing in events of schema 1.
    pub cause: Option<PutCause>,
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

words! {
    /// What became of a reference to a secret (stored: variants are numbered by their place, never reordered).
    ResolveStatus {
        /// There is a value.
        Resolved = "resolved",
        /// There is none.
        Missing = "missing",
        /// The rules do not let it be looked at.
        Blocked = "blocked",
        /// There is one, or may be one, and it could not be had.
        Failed = "failed",
    }
}

words! {
    /// Why a reference gave no value (stored: variants are numbered by their place, never reordered).
    ResolveReason {
        /// The secret is of another scope than the resolver is bound to.
        ScopeDenied = "scope_denied",
        /// There is no such secret.
        NoSecret = "no_secret",
        /// The secret has no such version.
        NoVersion = "no_version",
        /// The version is deleted.
        Deleted = "deleted",
        /// The version's key was destroyed.
        Shredded = "shredded",
        /// The secret is damaged.
        VaultDamaged = "vault_damaged",
        /// The variable is not on the list.
        EnvNotAllowed = "env_not_allowed",
        /// The variable is not set.
        EnvUnset = "env_unset",
        /// The file is below no trusted folder.
        FileOutside = "file_outside",
        /// There is no such file.
        FileMissing = "file_missing",
        /// A part of the path is a symbolic link.
        FileLink = "file_link",
        /// It is no regular file.
        FileKind = "file_kind",
        /// The file, or a folder on the way to it, is neither ours nor root's.
        FileOwner = "file_owner",
        /// Others may write or read the file, or write to a folder on the way to it.
        FileMode = "file_mode",
        /// The file could not be read.
        FileFailed = "file_failed",
        /// The program is not on the list.
        ExecNotAllowed = "exec_not_allowed",
        /// The program is no executable file, or runs as another user.
        ExecKind = "exec_kind",
        /// The program, or a folder on the way to it, is neither ours nor root's.
        ExecOwner = "exec_owner",
        /// Others may write to the program, or to a folder on the way to it.
        ExecMode = "exec_mode",
        /// The program could not be started or read.
        ExecFailed = "exec_failed",
        /// The program ended, and said that it failed.
        ExecStatus = "exec_status",
        /// The program took too long.
        ExecTimeout = "exec_timeout",
        /// The value is longer than its bound.
        TooLarge = "too_large",
        /// The value is no JSON that the field could be looked for in.
        NotJson = "not_json",
        /// The value has no such field.
        NoField = "no_field",
        /// The field is neither text nor number nor truth value.
        FieldKind = "field_kind",
        /// The keystore that holds the secret is locked.
        VaultLocked = "vault_locked",
        /// The backend that holds the secret does not answer.
        VaultAway = "vault_away",
    }
}

impl ResolveReason {
    /// What became of a reference that gave no value for this reason.
    #[must_use]
    pub const fn status(self) -> ResolveStatus {
        match self {
            Self::NoSecret
            | Self::NoVersion
            | Self::Deleted
            | Self::Shredded
            | Self::EnvUnset
            | Self::FileMissing
            | Self::NoField => ResolveStatus::Missing,
            Self::ScopeDenied
            | Self::EnvNotAllowed
            | Self::FileOutside
            | Self::FileLink
            | Self::FileKind
            | Self::FileOwner
            | Self::FileMode
            | Self::ExecNotAllowed
            | Self::ExecKind
            | Self::ExecOwner
            | Self::ExecMode => ResolveStatus::Blocked,
            Self::VaultDamaged
            | Self::VaultLocked
            | Self::VaultAway
            | Self::FileFailed
            | Self::ExecFailed
            | Self::ExecStatus
            | Self::ExecTimeout
            | Self::TooLarge
            | Self::NotJson
            | Self::FieldKind => ResolveStatus::Failed,
        }
    }
}

/// Resolutions of one reference by one caller that went the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolutionNote {
    /// Keyed fingerprint of the reference's canonical text.
    pub reference: KeyedPrint,
    /// What kind of source it names.
    pub source: SourceKind,
    /// The reference as logs may show it.
    pub shown: String,
    /// What became of it.
    pub status: ResolveStatus,
    /// Why there was no value.
    pub reason: Option<ResolveReason>,
    /// How often.
    pub count: u32,
    /// First time.
    pub first: Timestamp,
    /// Last time.
    pub last: Timestamp,
}

/// References to secrets were resolved or refused for the caller of this event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferencesResolved {
    /// The resolutions, gathered.
    pub notes: Vec<ResolutionNote>,
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

/// Every secret was given out at once, for whoever leaves or moves. The reads stand in events of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultExported {
    /// Secrets that were given out.
    pub secrets: u64,
    /// Versions of them.
    pub versions: u64,
    /// Whom it was encrypted to (age recipients), or nobody: then it went to a file as it is.
    pub recipients: Vec<String>,
}
