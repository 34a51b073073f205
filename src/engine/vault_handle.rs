//! The vault as an embedding program sees it: a handle bound to one scope and one caller.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::{
    BackendKind, Caller, KeyedPrint, Scope, ScopePrefix, SecretBytes, SecretName, SecretPath, StateRead, Timestamp,
    limits, prefix_end,
};
use crate::event::Event;
use crate::event::import::OriginTimes;
use crate::event::vault::{PutCause, ReadNote, SecretsRead, Versions};
use crate::keys::SlotError;
use crate::vault::{
    self, Describe, Expect, Head, Material, Metadata, Put, Select, VaultError, VersionRecord, VersionState,
};

use super::config::AuditReads;
use super::core::{Core, TableState};
use super::error::Error;
use super::execute::Ticket;
use super::reads::{self, Fill};

/// A secret's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Which secret.
    pub reference: SecretPath,
    /// Which version the rest is about.
    pub version: u32,
    /// What became of that version.
    pub state: VersionState,
    /// When the first version was written.
    pub created_at: Timestamp,
    /// When value or metadata last changed.
    pub updated_at: Timestamp,
    /// When this version was written.
    pub written_at: Timestamp,
    /// Length of the value in bytes.
    pub value_bytes: u32,
    /// When the value is to be replaced, if anybody said.
    pub expires_at: Option<Timestamp>,
    /// Description.
    pub description: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When a value was last read, as far as reads are recorded.
    pub last_read_at: Option<Timestamp>,
    /// What another store said of the times of this version, where it came from one.
    pub origin: Option<OriginTimes>,
}

impl SecretInfo {
    fn new(reference: SecretPath, head: &Head, record: &VersionRecord, last_read_at: Option<Timestamp>) -> Self {
        Self {
            reference,
            version: record.version,
            state: head.state_of(record),
            created_at: head.created,
            updated_at: head.updated,
            written_at: record.created,
            value_bytes: record.value_bytes,
            expires_at: record.expires_at,
            description: head.description.clone(),
            labels: head.labels.clone(),
            last_read_at,
            origin: None,
        }
    }

    /// Whether the value should have been replaced by now. An expired secret still reads.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires| expires <= now)
    }
}

/// A secret's value and metadata. The value is wiped when this is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Metadata.
    pub info: SecretInfo,
    /// The value.
    pub value: SecretBytes,
}

/// One version in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// Number, from 1.
    pub version: u32,
    /// What became of it.
    pub state: VersionState,
    /// Sequence number of the event that wrote it.
    pub seq: u64,
    /// When it was written.
    pub created_at: Timestamp,
    /// Length of the value in bytes.
    pub value_bytes: u32,
    /// When it was to be replaced.
    pub expires_at: Option<Timestamp>,
    /// Sequence number of the event that shredded it.
    pub shredded_by: Option<u64>,
    /// What another store said of its times, where it came from one.
    pub origin: Option<OriginTimes>,
}

/// Every version of a secret, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Which secret.
    pub reference: SecretPath,
    /// Its versions.
    pub versions: Vec<VersionInfo>,
}

/// What a write left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The current version.
    pub version: u32,
    /// Sequence number of the last event of the command. It is durable.
    pub seq: u64,
}

/// How to write a secret.
///
/// ```
/// use palyra_ledger::PutOptions;
/// let only_if_new = PutOptions::new().if_version(0).description("billing key");
/// # let _ = only_if_new;
/// ```
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    expect: Expect,
    metadata: Metadata,
}

impl PutOptions {
    /// Whatever is there; metadata stays as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the current version has this number; 0: only if the secret does not exist.
    #[must_use]
    pub fn if_version(mut self, version: u32) -> Self {
        self.expect = Expect::Version(version);
        self
    }

    /// Sets the description; an empty one removes it.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.metadata.description = Some(text.into());
        self
    }

    /// Replaces the labels.
    #[must_use]
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.metadata.labels = Some(labels);
        self
    }

    /// When this version is to be replaced. Expiry warns and never deletes.
    #[must_use]
    pub fn expires_at(mut self, time: Timestamp) -> Self {
        self.metadata.expires_at = Some(Some(time));
        self
    }
}

/// Which version to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GetOptions {
    version: Option<u32>,
}

impl GetOptions {
    /// The current version.
    #[must_use]
    pub const fn current() -> Self {
        Self { version: None }
    }

    /// The version with this number.
    #[must_use]
    pub const fn version(version: u32) -> Self {
        Self { version: Some(version) }
    }
}

/// What to list.
///
/// ```
/// use palyra_ledger::ListOptions;
/// let page = ListOptions::new().prefix("team/").limit(100);
/// # let _ = page;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    prefix: String,
    after: Option<SecretPath>,
    limit: Option<usize>,
    all: bool,
}

impl ListOptions {
    /// Every secret whose current version is live.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only names that begin with this text.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only what comes after this reference: the next page.
    #[must_use]
    pub fn after(mut self, reference: SecretPath) -> Self {
        self.after = Some(reference);
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Deleted and shredded ones too.
    #[must_use]
    pub fn including_deleted(mut self) -> Self {
        self.all = true;
        self
    }
}

/// One scope's secrets, for one caller. There is no way from one scope's handle to another scope's
/// secrets: names cannot carry a scope, and references of other scopes are refused and recorded.
///
/// ```
/// # use palyra_ledger::{Config, Ledger, NewSlot, SecretBytes, Scope, PutOptions};
/// # let dir = tempfile::tempdir()?;
/// # let home = dir.path().join("home");
/// # let ledger = Ledger::init(Config::new(&home), NewSlot::file("first"))?;
/// let vault = ledger.vault(Scope::global());
/// let name = "openai_api_key".parse()?;
/// vault.put(&name, &SecretBytes::from(b"sk-1".as_slice()), PutOptions::new())?;
/// assert_eq!(vault.get(&name)?.value.expose(), b"sk-1");
/// # ledger.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Vault {
    core: Arc<Core>,
    scope: Scope,
    caller: Caller,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("scope", &self.scope).field("caller", &self.caller).finish_non_exhaustive()
    }
}

enum Attempt {
    NoSlot,
    Refused(VaultError),
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Vault {
    pub(super) const fn new(core: Arc<Core>, scope: Scope, caller: Caller) -> Self {
        Self { core, scope, caller }
    }

    /// The scope that this handle is bound to.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same scope for another caller.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { core: Arc::clone(&self.core), scope: self.scope.clone(), caller }
    }

    fn target(&self, name: &SecretName) -> SecretPath {
        SecretPath { scope: self.scope.clone(), name: name.clone() }
    }

    /// Writes a new version; on return it is durable.
    ///
    /// # Errors
    /// [`VaultError`] in [`Error::Vault`] where it is refused, which is recorded; otherwise what failed.
    pub fn put(&self, name: &SecretName, value: &SecretBytes, options: PutOptions) -> Result<Receipt, Error> {
        let target = self.target(name);
        // Held until the event is durable: a root rotation must not replace the table in between.
        let table = self.core.table();
        let mut tries = 0;
        loop {
            match self.try_put(&table, &target, value, &options) {
                Ok((ticket, version)) => {
                    self.core.wait(ticket.number())?;
                    return Ok(Receipt { version, seq: ticket.committed().seq });
                }
                Err(Attempt::NoSlot) => {}
                Err(Attempt::Refused(VaultError::Overtaken { .. })) if tries < limits::OUTSIDE_TRIES => tries += 1,
                Err(Attempt::Refused(error)) => {
                    drop(table);
                    return Err(self.refused("secrets set", &target, error));
                }
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
    }

    fn try_put(
        &self,
        table: &TableState,
        target: &SecretPath,
        value: &SecretBytes,
        options: &PutOptions,
    ) -> Result<(Ticket, u32), Attempt> {
        let max_bytes = self.core.settings.limits.max_value_bytes;
        if self.core.backend_queued()?.kind != BackendKind::Ledger {
            // What would be refused is not written first.
            let (bytes, expect, metadata) = (value.len(), options.expect, &options.metadata);
            let checked =
                self.core.consult(|state| vault::check_put(state, target, bytes, max_bytes, expect, metadata));
            checked.map_err(Attempt::Refused)?;
        }
        self.core.ready_slots(table)?;
        let kept = self.core.keep_outside(table, &[(target, value)])?;
        let outside = kept.as_ref().and_then(|kept| kept.sealed.first());
        let done = self.core.enqueue_as(&self.caller, |state, context| {
            let put = |material| {
                let (expect, metadata) = (options.expect, &options.metadata);
                let cause = &PutCause::Given;
                let command = Put { target, value, max_bytes, expect, metadata, material, cause };
                vault::decide_put(state, &command, context).map(|decided| (decided.events, decided.version))
            };
            if let Some(outside) = outside {
                return put(Material::Sealed(outside)).map_err(Attempt::Refused);
            }
            let sealer = self.core.take_slot(table).ok_or(Attempt::NoSlot)?;
            put(Material::Seal(&sealer)).map_err(|error| {
                Core::return_slot(table, sealer);
                Attempt::Refused(error)
            })
        });
        if let (Err(_), Some(kept)) = (&done, &kept) {
            kept.discard(|_| false);
        }
        done
    }

    /// Changes description, labels or expiry without a new version.
    ///
    /// # Errors
    /// As [`Vault::put`].
    pub fn describe(&self, name: &SecretName, metadata: &Metadata, if_version: Option<u32>) -> Result<Receipt, Error> {
        let target = self.target(name);
        let command = Describe { target: &target, metadata, expect: expect(if_version) };
        self.run("secrets describe", &target, |state| vault::decide_describe(state, &command))
    }

    /// Hides a version or all of them; nothing is destroyed.
    ///
    /// # Errors
    /// As [`Vault::put`].
    pub fn delete(&self, name: &SecretName, versions: Versions, if_version: Option<u32>) -> Result<Receipt, Error> {
        let target = self.target(name);
        let command = Select { target: &target, versions, expect: expect(if_version) };
        self.run("secrets delete", &target, |state| vault::decide_delete(state, &command))
    }

    /// Shows a hidden version or all of them again.
    ///
    /// # Errors
    /// As [`Vault::put`].
    pub fn undelete(&self, name: &SecretName, versions: Versions, if_version: Option<u32>) -> Result<Receipt, Error> {
        let target = self.target(name);
        let command = Select { target: &target, versions, expect: expect(if_version) };
        self.run("secrets undelete", &target, |state| vault::decide_undelete(state, &command))
    }

    /// Destroys a version or all of them: first the event is durable, then the key slots are
    /// overwritten in both copies and synced. A crash in between is carried on at the next opening.
    ///
    /// # Errors
    /// As [`Vault::put`].
    pub fn shred(&self, name: &SecretName, versions: Versions, if_version: Option<u32>) -> Result<Receipt, Error> {
        let target = self.target(name);
        let command = Select { target: &target, versions, expect: expect(if_version) };
        // Held until the slots are overwritten: a root rotation must not carry them over.
        let table = self.core.table();
        let receipt = self.run("secrets shred", &target, |state| vault::decide_shred(state, &command))?;
        self.core.carry_out_shreds(&table)?;
        Ok(receipt)
    }

    fn run(
        &self,
        command: &'static str,
        target: &SecretPath,
        decide: impl FnOnce(&dyn StateRead) -> Result<vault::Decided, VaultError>,
    ) -> Result<Receipt, Error> {
        let attempt =
            self.core.execute(&self.caller, |state, _| decide(state).map(|decided| (decided.events, decided.version)));
        match attempt {
            Ok((committed, version)) => Ok(Receipt { version, seq: committed.seq }),
            Err(Error::Vault(error)) => Err(self.refused(command, target, error)),
            Err(error) => Err(error),
        }
    }

    /// Records a refusal; the caller gets the refusal itself, even where it could not be recorded.
    fn refused(&self, command: &'static str, target: &SecretPath, error: VaultError) -> Error {
        if let Some(code) = error.code() {
            let _ = self.core.record_refusal(&self.caller, command, Some(target.to_string()), code, error.to_string());
        }
        error.into()
    }

    /// Reads the current value.
    ///
    /// # Errors
    /// As [`Vault::get_with`].
    pub fn get(&self, name: &SecretName) -> Result<Secret, Error> {
        self.get_with(name, GetOptions::current())
    }

    /// Reads a value; the read is recorded as the settings say.
    ///
    /// # Errors
    /// [`Error::Vault`] where there is no such value, [`Error::Envelope`], [`Error::KeyMissing`] or
    /// [`Error::Journal`] where it was damaged.
    pub fn get_with(&self, name: &SecretName, options: GetOptions) -> Result<Secret, Error> {
        let target = self.target(name);
        let (head, record) = self.find(&target, options.version)?;
        match head.state_of(&record) {
            VersionState::Live => {}
            VersionState::Deleted => {
                return Err(self.denied_read(&target, VaultError::Deleted { target: Box::new(target.clone()) }));
            }
            VersionState::Shredded => {
                let error = VaultError::Shredded { target: Box::new(target.clone()), version: record.version };
                return Err(self.denied_read(&target, error));
            }
        }
        let value = self.core.open_value(&target, &record)?;
        self.core.note_read(&self.caller, &target, record.version)?;
        let info = SecretInfo::new(target, &head, &record, None);
        Ok(Secret { info, value })
    }

    /// Reads the value behind a reference, which must be of this handle's scope.
    ///
    /// # Errors
    /// [`VaultError::ScopeDenied`] for another scope, which is recorded; otherwise as [`Vault::get_with`].
    pub fn get_ref(&self, reference: &SecretPath, options: GetOptions) -> Result<Secret, Error> {
        if reference.scope != self.scope {
            let error = VaultError::ScopeDenied { bound: Box::new(self.scope.clone()) };
            return Err(self.denied_read(reference, error));
        }
        self.get_with(&reference.name, options)
    }

    fn denied_read(&self, target: &SecretPath, error: VaultError) -> Error {
        if self.core.read_only {
            // Reading processes leave refusals to the spool, as they do reads.
            if let Some(code) = error.code() {
                let event = Event::CommandRefused(crate::event::system::CommandRefused {
                    command: "secrets get".to_owned(),
                    target: Some(target.to_string()),
                    code: code.to_owned(),
                    what: error.to_string(),
                });
                let _ = self.core.spool(&self.caller, &event);
            }
            return error.into();
        }
        self.refused("secrets get", target, error)
    }

    fn find(&self, target: &SecretPath, version: Option<u32>) -> Result<(Head, VersionRecord), Error> {
        self.core.open_still()?;
        let missing = || VaultError::NotFound { target: Box::new(target.clone()) };
        let head = vault::find_head(&self.core.index, &target.scope, &target.name)
            .map_err(VaultError::from)?
            .ok_or_else(missing)?;
        let record = match version {
            None => head.current.clone(),
            Some(version) => vault::find_version(&self.core.index, target, &head, version)
                .map_err(VaultError::from)?
                .ok_or_else(|| VaultError::NoVersion { target: Box::new(target.clone()), version })?,
        };
        Ok((head, record))
    }

    /// A secret's metadata, without its value; no read is recorded.
    ///
    /// # Errors
    /// [`Error::Vault`] where there is no such secret or version.
    pub fn info(&self, name: &SecretName, options: GetOptions) -> Result<SecretInfo, Error> {
        let target = self.target(name);
        let (head, record) = self.find(&target, options.version)?;
        let last_read = vault::last_read(&self.core.index, &self.scope, name).map_err(VaultError::from)?;
        let origin = vault::origin_of(&self.core.index, &target, record.version).map_err(VaultError::from)?;
        Ok(SecretInfo { origin, ..SecretInfo::new(target, &head, &record, last_read) })
    }

    /// Lists this scope's secrets by name.
    ///
    /// # Errors
    /// [`Error::Vault`] where the state cannot be read.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<SecretInfo>, Error> {
        self.core.list(&ScopePrefix::from(&self.scope), options)
    }

    /// Every version of a secret.
    ///
    /// # Errors
    /// [`Error::Vault`] where there is no such secret.
    pub fn history(&self, name: &SecretName) -> Result<History, Error> {
        let target = self.target(name);
        let (head, _) = self.find(&target, None)?;
        let records = vault::list_versions(&self.core.index, &target, &head).map_err(VaultError::from)?;
        let mut versions = Vec::with_capacity(records.len());
        for record in &records {
            versions.push(VersionInfo {
                version: record.version,
                state: head.state_of(record),
                seq: record.seq,
                created_at: record.created,
                value_bytes: record.value_bytes,
                expires_at: record.expires_at,
                shredded_by: record.shredded,
                origin: vault::origin_of(&self.core.index, &target, record.version).map_err(VaultError::from)?,
            });
        }
        Ok(History { reference: target, versions })
    }
}

fn expect(if_version: Option<u32>) -> Expect {
    if_version.map_or(Expect::Anything, Expect::Version)
}

impl Core {
    /// Lists secrets of every scope below a prefix, in the order of scopes and names.
    pub(super) fn list(&self, scopes: &ScopePrefix, options: &ListOptions) -> Result<Vec<SecretInfo>, Error> {
        let (mut from, end) = match scopes.as_str().parse::<Scope>() {
            // A whole scope: the name's prefix narrows the scan itself.
            Ok(scope) => {
                let mut prefix = vault::scope_prefix(&scope);
                prefix.extend_from_slice(options.prefix.as_bytes());
                let end = prefix_end(&prefix);
                (prefix, end)
            }
            Err(_) => {
                let mut prefix = vault::scope_prefix(&Scope::global());
                prefix.truncate(1);
                prefix.extend_from_slice(scopes.as_str().as_bytes());
                let end = prefix_end(&prefix);
                (prefix, end)
            }
        };
        if let Some(after) = &options.after {
            let mut key = vault::head_key(&after.scope, &after.name);
            key.push(0);
            from = from.max(key);
        }
        let limit = options.limit.unwrap_or(usize::MAX);
        let mut found = Vec::new();
        vault::list_heads(&self.index, &from, &end, &mut |reference, head| {
            if found.len() >= limit {
                return ControlFlow::Break(());
            }
            let shown = reference.scope.is_within(scopes)
                && reference.name.as_str().starts_with(&options.prefix)
                && (options.all || head.state() == VersionState::Live);
            if shown {
                found.push(SecretInfo::new(reference, &head, &head.current, None));
            }
            ControlFlow::Continue(())
        })
        .map_err(VaultError::from)?;
        for info in &mut found {
            let SecretPath { scope, name } = &info.reference;
            info.last_read_at = vault::last_read(&self.index, scope, name).map_err(VaultError::from)?;
        }
        Ok(found)
    }

    /// Reads, checks and opens the envelope of a live version. Somebody may shred it at the same time: that is
    /// no damage then.
    fn open_value(&self, target: &SecretPath, record: &VersionRecord) -> Result<SecretBytes, Error> {
        let version = record.version;
        match self.open_held(target, record) {
            Err(Error::Away { .. } | Error::KeyMissing { .. }) if self.shredded_meanwhile(target, version)? => {
                Err(VaultError::Shredded { target: Box::new(target.clone()), version }.into())
            }
            other => other,
        }
    }

    /// A version's value, for comparing it with another: it leaves the engine nowhere, so no read is recorded.
    pub(super) fn value_of(&self, target: &SecretPath, record: &VersionRecord) -> Result<SecretBytes, Error> {
        self.open_value(target, record)
    }

    fn open_held(&self, target: &SecretPath, record: &VersionRecord) -> Result<SecretBytes, Error> {
        // Held from here on: the backend is not switched while it is asked.
        let table = self.table();
        let envelope = self.envelope(target, record)?;
        self.unseal(&table, target, record, &envelope)
    }

    /// Opens an envelope of a live version that was read already.
    pub(super) fn open_with(
        &self,
        target: &SecretPath,
        record: &VersionRecord,
        envelope: &[u8],
    ) -> Result<SecretBytes, Error> {
        self.unseal(&self.table(), target, record, envelope)
    }

    fn unseal(
        &self,
        table: &TableState,
        target: &SecretPath,
        record: &VersionRecord,
        envelope: &[u8],
    ) -> Result<SecretBytes, Error> {
        let slot_key = table.table.slot_key(&table.kek, record.slot).map_err(|error| match error {
            SlotError::Store(_) => Error::Keys(crate::keys::KeysError::Slot { slot: record.slot, source: error }),
            SlotError::Empty | SlotError::Damaged | SlotError::WrongKey | SlotError::Shredded { .. } => {
                Error::KeyMissing { target: Box::new(target.clone()), version: record.version, slot: record.slot }
            }
        })?;
        vault::open_envelope(self.ledger_id, &slot_key, target, record.version, envelope)
            .map_err(|source| Error::Envelope { target: Box::new(target.clone()), version: record.version, source })
    }

    /// See [`super::Ledger::value_fingerprint`].
    pub(super) fn value_fingerprint(&self, target: &SecretPath, version: u32) -> Result<Option<KeyedPrint>, Error> {
        let head = vault::find_head(&self.index, &target.scope, &target.name).map_err(VaultError::from)?;
        let Some(head) = head else { return Ok(None) };
        let record = vault::find_version(&self.index, target, &head, version).map_err(VaultError::from)?;
        match record.filter(|record| record.shredded.is_none()) {
            Some(record) => match self.open_value(target, &record) {
                Ok(value) => Ok(Some(self.unlocked().value_fingerprint(&value))),
                Err(Error::KeyMissing { .. } | Error::Vault(VaultError::Shredded { .. })) => Ok(None),
                Err(error) => Err(error),
            },
            None => Ok(None),
        }
    }

    /// Records a read as the settings say.
    fn note_read(&self, caller: &Caller, target: &SecretPath, version: u32) -> Result<(), Error> {
        let now = self.clock.now();
        let event = || {
            let SecretPath { scope, name } = target.clone();
            Event::SecretsRead(SecretsRead {
                reads: vec![ReadNote { scope, name, version, count: 1, first: now, last: now }],
            })
        };
        match self.settings.audit.reads {
            AuditReads::Off => Ok(()),
            AuditReads::Batched if self.read_only => self.spool(caller, &event()),
            // A reading process cannot make a read durable in the chain: it must not return the value.
            AuditReads::Strict if self.read_only => Err(Error::ReadOnly),
            AuditReads::Batched => {
                match self.reads.add(caller, target.clone(), version, now) {
                    Fill::Room => {}
                    Fill::Due if self.background => self.signal.wake(),
                    Fill::Due | Fill::Full => self.record_reads()?,
                }
                Ok(())
            }
            AuditReads::Strict => self.execute(caller, |_, _| Ok::<_, Error>((vec![event()], ()))).map(|_| ()),
        }
    }

    pub(super) fn spool(&self, caller: &Caller, event: &Event) -> Result<(), Error> {
        let unlocked = self.unlocked();
        let path = self.layout.spool();
        let len =
            reads::spool(&*self.medium, &path, self.ledger_id, unlocked.ledger_key(), &*self.random, caller, event)?;
        if len > limits::SPOOL_BYTES_MAX { Err(Error::SpoolFull { bytes: len }) } else { Ok(()) }
    }
}
