//! Envelopes that another backend keeps than the log.
//!
//! ```text
//! seal for the next version --put, durable--> event with its digest --sync--> answer
//! ```
//!
//! An acknowledged event always has its envelope, and no I/O of a backend happens under the queue's mutex. Puts
//! take their key slots in order, so they seal and write one after the other; they wait for the sync together.
//! What a crash leaves between is an object at a slot that no event names: the next put takes that slot again
//! and overwrites it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::backend::{BackendError, BlobBackend, FileBackend, KeystoreBackend};
use crate::base::{BackendKind, SecretBytes, SecretPath};
use crate::event::Event;
use crate::event::vault::SecretPut;
use crate::log::{Frame, JournalError};
use crate::platform::Keystore;
use crate::vault::{self, Sealed, VaultError, VersionRecord};

use super::config::Config;
use super::core::{Core, TableState};
use super::error::{Away, Error};
use super::open::decode_frame;

/// The backends outside the log, and what keeps their order.
pub struct Outside {
    /// The system's keystore.
    pub keystore: Arc<dyn Keystore>,
    /// Held from taking a slot until its event is queued.
    order: Mutex<()>,
    /// Held while envelopes move to another backend.
    pub moving: Mutex<()>,
    files: OnceLock<Arc<FileBackend>>,
}

impl Outside {
    /// None is opened before it is used.
    pub fn new(keystore: Arc<dyn Keystore>) -> Self {
        Self { keystore, order: Mutex::default(), moving: Mutex::default(), files: OnceLock::new() }
    }
}

/// What serves a backend on this system.
enum Place {
    Log,
    Files,
    Keystore,
}

fn place(kind: BackendKind) -> Result<Place, BackendError> {
    match kind {
        BackendKind::Ledger => Ok(Place::Log),
        BackendKind::EncryptedFile => Ok(Place::Files),
        BackendKind::LinuxSecretService if cfg!(target_os = "linux") => Ok(Place::Keystore),
        BackendKind::MacosKeychain if cfg!(target_os = "macos") => Ok(Place::Keystore),
        BackendKind::WindowsDpapi if cfg!(windows) => Err(BackendError::NoDpapi),
        BackendKind::LinuxSecretService | BackendKind::MacosKeychain | BackendKind::WindowsDpapi => {
            Err(BackendError::OtherSystem { kind })
        }
    }
}

/// Whether a ledger that is still to be made could use a backend.
pub(super) fn check(config: &Config, kind: BackendKind) -> Result<(), Error> {
    match place(kind)? {
        Place::Log | Place::Files => Ok(()),
        Place::Keystore => Ok(config.keystore.probe().map_err(BackendError::from)?),
    }
}

/// Envelopes that are kept outside already, for the versions of one batch. Others wait until it is queued.
pub(super) struct Kept<'a> {
    backend: Arc<dyn BlobBackend>,
    pub sealed: Vec<Sealed>,
    _order: MutexGuard<'a, ()>,
}

impl Kept<'_> {
    /// Removes what no event will name. What cannot be removed is overwritten or swept later.
    pub(super) fn discard(&self, is_named: impl Fn(usize) -> bool) {
        for (at, sealed) in self.sealed.iter().enumerate() {
            if !is_named(at) && self.backend.delete(sealed.slot).is_err() {
                return;
            }
        }
    }
}

impl Core {
    /// A backend outside the log; none for the log itself.
    pub(super) fn outside(&self, kind: BackendKind) -> Result<Option<Arc<dyn BlobBackend>>, Error> {
        Ok(match place(kind)? {
            Place::Log => None,
            Place::Files => {
                let make = || FileBackend::new(Arc::clone(&self.medium), self.layout.objects(), self.ledger_id);
                let files = self.outside.files.get_or_init(|| Arc::new(make()));
                Some(Arc::clone(files) as Arc<dyn BlobBackend>)
            }
            Place::Keystore => {
                let keystore = Arc::clone(&self.outside.keystore);
                Some(Arc::new(KeystoreBackend::new(keystore, kind, self.ledger_id)) as Arc<dyn BlobBackend>)
            }
        })
    }

    /// Where envelopes are, queued batches counted in.
    pub(super) fn backend_queued(&self) -> Result<vault::BackendState, Error> {
        Ok(self.consult(|state| vault::backend(state)).map_err(VaultError::from)?)
    }

    /// Where envelopes are, as far as it is durable.
    pub(super) fn backend_state(&self) -> Result<vault::BackendState, Error> {
        Ok(vault::backend(&self.index).map_err(VaultError::from)?)
    }

    /// Whether new envelopes could be kept now: asked before what cannot be asked for twice is fetched.
    pub(super) fn check_outside(&self) -> Result<(), Error> {
        match self.outside(self.backend_queued()?.kind)? {
            Some(backend) => Ok(backend.probe()?),
            None => Ok(()),
        }
    }

    /// Seals values for their next versions and keeps the envelopes, durably, if the backend is not the log. A
    /// secret that stands there several times gets as many versions, in order. The table is held by the caller until the batch is durable.
    pub(super) fn keep_outside(
        &self,
        table: &TableState,
        values: &[(&SecretPath, &SecretBytes)],
    ) -> Result<Option<Kept<'_>>, Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let kind = self.backend_queued()?.kind;
        let Some(backend) = self.outside(kind)? else { return Ok(None) };
        let order = self.outside.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Kept { backend, sealed: Vec::with_capacity(values.len()), _order: order };
        let mut before: HashMap<&SecretPath, u32> = HashMap::new();
        for (target, value) in values {
            let ahead = before.entry(target).or_default();
            *ahead = ahead.saturating_add(1);
            match self.keep_one(&*kept.backend, table, (target, *ahead), value) {
                Ok(sealed) => kept.sealed.push(sealed),
                Err(error) => {
                    kept.discard(|_| false);
                    return self.guard(Err(error));
                }
            }
        }
        Ok(Some(kept))
    }

    fn keep_one(
        &self,
        backend: &dyn BlobBackend,
        table: &TableState,
        (target, ahead): (&SecretPath, u32),
        value: &SecretBytes,
    ) -> Result<Sealed, Error> {
        let sealer = loop {
            self.open_still()?;
            self.alive()?;
            self.ready_slots(table)?;
            if let Some(sealer) = self.take_slot(table) {
                break sealer;
            }
        };
        let head = self.consult(|state| vault::find_head(state, &target.scope, &target.name));
        let version = head.map_err(VaultError::from)?.map_or(0, |head| head.current.version).saturating_add(ahead);
        let envelope = sealer.seal(target, version, &self.random.array()?, value);
        backend.put(sealer.slot, &envelope)?;
        let digest = vault::envelope_digest(&envelope);
        Ok(Sealed { backend: backend.kind(), version, slot: sealer.slot, digest })
    }

    /// The event that wrote a version.
    pub(super) fn put_event(&self, target: &SecretPath, record: &VersionRecord) -> Result<SecretPut, Error> {
        let misplaced =
            || Error::Misplaced { target: Box::new(target.clone()), version: record.version, seq: record.seq };
        match self.event(record.seq)? {
            Event::SecretPut(event) if holds(&event, target, record) => Ok(event),
            Event::SecretsImported(event) => {
                let found = event
                    .secrets
                    .into_iter()
                    .map(|one| SecretPut::from(one.put))
                    .find(|put| holds(put, target, record));
                found.ok_or_else(misplaced)
            }
            _ => Err(misplaced()),
        }
    }

    /// The envelopes that an event with secrets holds, by their slots; those of another backend are not there.
    pub(super) fn envelopes_of(&self, seq: u64) -> Result<BTreeMap<u64, Vec<u8>>, Error> {
        let puts = match self.event(seq)? {
            Event::SecretPut(event) => vec![event],
            Event::SecretsImported(event) => event.secrets.into_iter().map(|one| SecretPut::from(one.put)).collect(),
            _ => Vec::new(),
        };
        let held = puts.into_iter().filter(|put| put.backend == BackendKind::Ledger.number());
        let whole = held.filter(|put| vault::envelope_digest(&put.envelope) == put.envelope_digest);
        Ok(whole.map(|put| (put.slot, put.envelope)).collect())
    }

    /// An event of the log, opened.
    pub(super) fn event(&self, seq: u64) -> Result<Event, Error> {
        let mut buffer = Vec::new();
        self.journal.read(seq, &mut buffer)?;
        let frame = Frame::parse_checked(&buffer).map_err(|_| JournalError::Missing { seq })?;
        Ok(decode_frame(&frame, &self.unlocked())?.event)
    }

    /// The envelope of a version from wherever it is, checked against the digest in the log. The caller keeps
    /// the backend from being switched meanwhile, by holding the key table.
    pub(super) fn envelope(&self, target: &SecretPath, record: &VersionRecord) -> Result<Vec<u8>, Error> {
        let event = self.put_event(target, record)?;
        let kind = self.backend_state()?.kind;
        if kind == BackendKind::Ledger && event.backend == BackendKind::Ledger.number() {
            return Ok(event.envelope);
        }
        let away = |what| Error::Away { target: Box::new(target.clone()), version: record.version, kind, what };
        let found = match self.outside(kind)? {
            None => self.moved_envelope(record.slot)?,
            Some(backend) => match backend.get(record.slot) {
                Err(BackendError::Damaged { .. }) => return Err(away(Away::Damaged)),
                other => other?,
            },
        };
        let envelope = found.ok_or_else(|| away(Away::Lost))?;
        if vault::envelope_digest(&envelope) == event.envelope_digest { Ok(envelope) } else { Err(away(Away::Other)) }
    }

    /// An envelope that an event brought back into the log.
    fn moved_envelope(&self, slot: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(seq) = vault::moved_by(&self.index, slot).map_err(VaultError::from)? else { return Ok(None) };
        let Event::EnvelopesMoved(event) = self.event(seq)? else { return Ok(None) };
        Ok(event.envelopes.into_iter().find(|moved| moved.slot == slot).map(|moved| moved.envelope))
    }

    /// Whether a version was shredded since it was looked up: what is missing then is not lost.
    pub(super) fn shredded_meanwhile(&self, target: &SecretPath, version: u32) -> Result<bool, Error> {
        let head = vault::find_head(&self.index, &target.scope, &target.name).map_err(VaultError::from)?;
        let now = head.map(|head| vault::find_version(&self.index, target, &head, version)).transpose();
        Ok(now.map_err(VaultError::from)?.flatten().is_some_and(|now| now.shredded.is_some()))
    }

    /// Removes the objects of shredded versions, wherever copies may be. Their keys are what counts: where a
    /// backend does not answer, the objects are left to be swept.
    pub(super) fn remove_objects(&self, slots: impl Iterator<Item = u64> + Clone) {
        let Ok(state) = self.backend_state() else { return };
        for kind in state.places() {
            let Ok(Some(backend)) = self.outside(kind) else { continue };
            for slot in slots.clone() {
                if backend.delete(slot).is_err() {
                    break;
                }
            }
        }
    }
}

fn holds(event: &SecretPut, target: &SecretPath, record: &VersionRecord) -> bool {
    event.scope == target.scope
        && event.name == target.name
        && event.version == record.version
        && event.slot == record.slot
}
