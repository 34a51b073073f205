//! Decisions: a command against the state gives events or a refusal, without any I/O.

use crate::base::{BackendKind, Context, SecretPath, StateRead, limits};
use crate::event::Event;
use crate::event::vault::{SecretDeleted, SecretDescribed, SecretPut, SecretShredded, SecretUndeleted, Versions};

use super::backend::backend;
use super::envelope::digest;
use super::state::{ApplyFault, Head, VersionRecord, VersionState, counters, find_head, find_version, list_versions};
use super::{Describe, Expect, Material, Metadata, MetadataError, Put, Select};

/// Events of one command, and the version it leaves current.
#[derive(Debug)]
pub struct Decided {
    /// The events, one batch.
    pub events: Vec<Event>,
    /// The version that the command made or was about.
    pub version: u32,
}

/// Why the vault refused a command. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No such secret.
    #[error("{target} does not exist")]
    NotFound {
        /// Which.
        target: Box<SecretPath>,
    },
    /// No such version.
    #[error("{target} has no version {version}")]
    NoVersion {
        /// Which.
        target: Box<SecretPath>,
        /// The version asked for.
        version: u32,
    },
    /// The secret or version is deleted; it can be undeleted.
    #[error("{target} is deleted")]
    Deleted {
        /// Which.
        target: Box<SecretPath>,
    },
    /// The version is destroyed.
    #[error("version {version} of {target} is shredded")]
    Shredded {
        /// Which.
        target: Box<SecretPath>,
        /// The version.
        version: u32,
    },
    /// The compare-and-set was lost.
    #[error("{target} is at version {found}, not at version {expected}")]
    Conflict {
        /// Which.
        target: Box<SecretPath>,
        /// What the caller expected; 0: that it does not exist.
        expected: u32,
        /// What it is.
        found: u32,
    },
    /// The value is empty.
    #[error("the value for {target} is empty")]
    EmptyValue {
        /// Which.
        target: Box<SecretPath>,
    },
    /// The value is too large.
    #[error("the value for {target} has {bytes} bytes, more than {max}")]
    ValueTooLarge {
        /// Which.
        target: Box<SecretPath>,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The secret has too many versions.
    #[error("{target} has {} versions, the most there can be", limits::VERSIONS_MAX)]
    TooManyVersions {
        /// Which.
        target: Box<SecretPath>,
    },
    /// Description or labels exceed a bound.
    #[error("{0}")]
    Metadata(#[from] MetadataError),
    /// The caller is bound to another scope.
    #[error("this handle is bound to scope {bound}")]
    ScopeDenied {
        /// The scope of the handle.
        bound: Box<crate::base::Scope>,
    },
    /// Others changed the secret, or the storage backend, while the value was sealed for it.
    #[error("{target} or its storage backend changed while the value was written")]
    Overtaken {
        /// Which.
        target: Box<SecretPath>,
    },
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] ApplyFault),
}

impl VaultError {
    /// The stable code of a refusal, or nothing where the state failed.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } => "not_found",
            Self::NoVersion { .. } => "no_version",
            Self::Deleted { .. } => "deleted",
            Self::Shredded { .. } => "shredded",
            Self::Conflict { .. } => "conflict",
            Self::EmptyValue { .. } => "empty_value",
            Self::ValueTooLarge { .. } => "value_too_large",
            Self::TooManyVersions { .. } => "too_many_versions",
            Self::Metadata(_) => "metadata",
            Self::ScopeDenied { .. } => "scope_denied",
            Self::Overtaken { .. } => "overtaken",
            Self::State(_) => return None,
        })
    }
}

fn boxed(target: &SecretPath) -> Box<SecretPath> {
    Box::new(target.clone())
}

fn check_expect(target: &SecretPath, expect: Expect, found: u32) -> Result<(), VaultError> {
    match expect {
        Expect::Version(expected) if expected != found => {
            Err(VaultError::Conflict { target: boxed(target), expected, found })
        }
        _ => Ok(()),
    }
}

/// The version a compare-and-set compares with: a secret whose versions are all gone from sight still
/// has its number, so that a lost update is never mistaken for a new secret.
fn current(head: Option<&Head>) -> u32 {
    head.map_or(0, |head| head.current.version)
}

fn existing(state: &dyn StateRead, target: &SecretPath, expect: Expect) -> Result<Head, VaultError> {
    let head = find_head(state, &target.scope, &target.name)?;
    check_expect(target, expect, current(head.as_ref()))?;
    head.ok_or_else(|| VaultError::NotFound { target: boxed(target) })
}

/// Checks a put without deciding it: the secret as it is, and the version that would come.
///
/// # Errors
/// [`VaultError`] where bounds or the compare-and-set refuse it.
pub fn check_put(
    state: &dyn StateRead,
    target: &SecretPath,
    bytes: usize,
    max: usize,
    expect: Expect,
    metadata: &Metadata,
) -> Result<(Option<Head>, u32), VaultError> {
    if bytes == 0 {
        return Err(VaultError::EmptyValue { target: boxed(target) });
    }
    if bytes > max || bytes > limits::VALUE_MAX_CEILING {
        return Err(VaultError::ValueTooLarge { target: boxed(target), bytes, max });
    }
    metadata.check()?;
    let head = find_head(state, &target.scope, &target.name)?;
    let last = current(head.as_ref());
    check_expect(target, expect, last)?;
    if last >= limits::VERSIONS_MAX {
        return Err(VaultError::TooManyVersions { target: boxed(target) });
    }
    Ok((head, last + 1))
}

/// Decides a put: the next version, sealed for its place. The backend in force decides what it must be made of.
///
/// # Errors
/// [`VaultError`] where bounds or the compare-and-set refuse it, [`VaultError::Overtaken`] where an envelope that
/// was sealed beforehand does not fit any more.
pub fn decide_put(state: &dyn StateRead, command: &Put<'_>, context: &Context) -> Result<Decided, VaultError> {
    let (target, bytes) = (command.target, command.value.len());
    let (head, version) = check_put(state, target, bytes, command.max_bytes, command.expect, command.metadata)?;
    let kind = backend(state)?.kind;
    let (slot, digest, envelope) = match command.material {
        Material::Seal(sealer) if kind == BackendKind::Ledger => {
            let envelope = sealer.seal(target, version, &context.nonce, command.value);
            (sealer.slot, digest(&envelope), envelope)
        }
        Material::Sealed(sealed)
            if kind == sealed.backend && version == sealed.version && counters(state)?.next_slot <= sealed.slot =>
        {
            (sealed.slot, sealed.digest, Vec::new())
        }
        Material::Seal(_) | Material::Sealed(_) => return Err(VaultError::Overtaken { target: boxed(target) }),
    };
    let (description, labels) = merged(head.as_ref(), command.metadata);
    let event = SecretPut {
        scope: target.scope.clone(),
        name: target.name.clone(),
        version,
        slot,
        value_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        expires_at: command.metadata.expires_at.flatten(),
        description,
        labels,
        envelope_digest: digest,
        backend: kind.number(),
        cause: Some(command.cause.clone()),
        envelope,
    };
    Ok(Decided { events: vec![Event::SecretPut(event)], version })
}

type Described = (Option<String>, std::collections::BTreeMap<String, String>);

fn merged(head: Option<&Head>, change: &Metadata) -> Described {
    let description = match &change.description {
        Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        None => head.and_then(|head| head.description.clone()),
    };
    let labels = change.labels.clone().or_else(|| head.map(|head| head.labels.clone())).unwrap_or_default();
    (description, labels)
}

/// Decides a change of description, labels or expiry.
///
/// # Errors
/// [`VaultError`] where the secret is not there or a bound refuses it.
pub fn decide_describe(state: &dyn StateRead, command: &Describe<'_>) -> Result<Decided, VaultError> {
    command.metadata.check()?;
    let head = existing(state, command.target, command.expect)?;
    let (description, labels) = merged(Some(&head), command.metadata);
    let expires_at = command.metadata.expires_at.unwrap_or(head.current.expires_at);
    let SecretPath { scope, name } = command.target.clone();
    let event = SecretDescribed { scope, name, expires_at, description, labels };
    Ok(Decided { events: vec![Event::SecretDescribed(event)], version: head.current.version })
}

fn selected(
    state: &dyn StateRead,
    target: &SecretPath,
    head: &Head,
    version: u32,
) -> Result<VersionRecord, VaultError> {
    find_version(state, target, head, version)?.ok_or_else(|| VaultError::NoVersion { target: boxed(target), version })
}

/// Decides a soft delete. What is deleted already is no refusal: it gives no event.
///
/// # Errors
/// [`VaultError`] where the secret or version is not there or is shredded.
pub fn decide_delete(state: &dyn StateRead, command: &Select<'_>) -> Result<Decided, VaultError> {
    let target = command.target;
    let head = existing(state, target, command.expect)?;
    let needed = match command.versions {
        Versions::All => head.deleted_through < head.current.version,
        Versions::One(version) => match head.state_of(&selected(state, target, &head, version)?) {
            VersionState::Live => true,
            VersionState::Deleted => false,
            VersionState::Shredded => return Err(VaultError::Shredded { target: boxed(target), version }),
        },
    };
    let SecretPath { scope, name } = target.clone();
    let event = Event::SecretDeleted(SecretDeleted { scope, name, versions: command.versions });
    Ok(Decided { events: Vec::from_iter(needed.then_some(event)), version: head.current.version })
}

/// Decides an undelete. What is not deleted is no refusal: it gives no event.
///
/// # Errors
/// [`VaultError`] where the secret or version is not there or is shredded.
pub fn decide_undelete(state: &dyn StateRead, command: &Select<'_>) -> Result<Decided, VaultError> {
    let target = command.target;
    let head = existing(state, target, command.expect)?;
    let needed = match command.versions {
        Versions::All => {
            let hidden = list_versions(state, target, &head)?
                .iter()
                .any(|record| head.state_of(record) == VersionState::Deleted);
            if !hidden && head.current.shredded.is_some() {
                return Err(VaultError::Shredded { target: boxed(target), version: head.current.version });
            }
            hidden
        }
        Versions::One(version) => match head.state_of(&selected(state, target, &head, version)?) {
            VersionState::Live => false,
            VersionState::Deleted => true,
            VersionState::Shredded => return Err(VaultError::Shredded { target: boxed(target), version }),
        },
    };
    let SecretPath { scope, name } = target.clone();
    let event = Event::SecretUndeleted(SecretUndeleted { scope, name, versions: command.versions });
    Ok(Decided { events: Vec::from_iter(needed.then_some(event)), version: head.current.version })
}

/// Versions that one shred event names at most, so that its body stays far below the bound.
const SHREDS_PER_EVENT: usize = 1024;

/// Decides a shred of one version or all: deleted versions too, and for good.
///
/// # Errors
/// [`VaultError`] where the secret or version is not there or was shredded before.
pub fn decide_shred(state: &dyn StateRead, command: &Select<'_>) -> Result<Decided, VaultError> {
    let target = command.target;
    let head = existing(state, target, command.expect)?;
    let records = match command.versions {
        Versions::All => list_versions(state, target, &head)?,
        Versions::One(version) => vec![selected(state, target, &head, version)?],
    };
    let doomed: Vec<(u32, u64)> =
        records.iter().filter(|record| record.shredded.is_none()).map(|record| (record.version, record.slot)).collect();
    if doomed.is_empty() {
        let version = records.last().map_or(head.current.version, |record| record.version);
        return Err(VaultError::Shredded { target: boxed(target), version });
    }
    let events = doomed
        .chunks(SHREDS_PER_EVENT)
        .map(|versions| {
            let SecretPath { scope, name } = target.clone();
            Event::SecretShredded(SecretShredded { scope, name, versions: versions.to_vec() })
        })
        .collect();
    Ok(Decided { events, version: head.current.version })
}
