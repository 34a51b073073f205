//! Checking backups without restoring them: what the files say of themselves, then, with keys, everything in them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backup::{BackupError, BackupFile, BackupReader, Closing, Header, Identities};
use crate::base::{BackendKind, LedgerId};
use crate::crypto::{Hash, Key};
use crate::engine::config::Config;
use crate::engine::error::Error;
use crate::engine::fold::{self, STATE_SCHEMA};
use crate::engine::open::{decode_frame, state_root};
use crate::engine::replay::{scratch_dir, spill};
use crate::event::Event;
use crate::keys::{Kek, KeyRing, KeyTable, KeysError, SlotStatus, Unlocked};
use crate::log::Frame;
use crate::projection::Index;
use crate::store::{Medium, RealMedium};
use crate::vault;

use super::facts::FileFacts;
use super::intake::{self, Joint, Sink};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// It holds.
    Ok,
    /// It does not.
    Failed,
    /// It could not be made.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupCheck {
    /// Its stable name.
    pub name: &'static str,
    /// The file that it is about.
    pub file: String,
    /// How it came out.
    pub state: CheckState,
    /// What was found, in words.
    pub what: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct BackupReport {
    /// The files, as far as they read.
    pub files: Vec<FileFacts>,
    /// Every check, in order.
    pub checks: Vec<BackupCheck>,
    /// Root of the state after the last event, where it could be computed.
    pub state_root: Option<Hash>,
    /// Why nothing that was given opens them, where that is so.
    pub locked: Option<Error>,
    /// The error behind the check that failed, where there is one.
    pub fault: Option<Error>,
}

impl BackupReport {
    /// Whether no check failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.state != CheckState::Failed)
    }

    fn add(&mut self, name: &'static str, file: &str, state: CheckState, what: impl Into<String>) {
        self.checks.push(BackupCheck { name, file: file.to_owned(), state, what: what.into() });
    }

    fn fail(&mut self, name: &'static str, file: &str, error: Error) {
        self.add(name, file, CheckState::Failed, said(&error));
        self.fault = Some(error);
    }

    fn fail_file(&mut self, name: &'static str, file: &str, source: BackupError) {
        self.fail(name, file, Error::Backup { name: file.to_owned(), source });
    }
}

/// Which check a fault belongs to.
fn place(error: &Error) -> &'static str {
    match error {
        Error::Keys(_) => "key",
        Error::Backup { source, .. } => match source {
            BackupError::Key | BackupError::NoRecipients | BackupError::Age(_) => "key",
            BackupError::Chain { .. } => "chain",
            BackupError::Digest => "digest",
            _ => "stream",
        },
        _ => "events",
    }
}

/// Whether it says that a key is wanted, rather than that one is wrong.
fn wants_key(error: &Error) -> bool {
    match error {
        Error::Keys(
            KeysError::NeedsPassphrase { .. }
            | KeysError::NeedsRecovery { .. }
            | KeysError::NeedsKeystore { .. }
            | KeysError::NeedsKeyFile { .. }
            | KeysError::Keystore { .. }
            | KeysError::KeystoreItem { .. },
        ) => true,
        Error::Keys(KeysError::Store(error)) => error.is_not_found(),
        _ => false,
    }
}

/// A fault in words; the file is named beside it.
fn said(error: &Error) -> String {
    match error {
        Error::Backup { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// Checks every file, in order.
pub(super) fn check(
    config: &Config,
    files: &mut [BackupFile],
    identities: &Identities,
    keyless: bool,
    progress: &dyn Fn(u64, u64),
) -> BackupReport {
    let mut report = BackupReport::default();
    let whole = clear_parts(files, &mut report, progress);
    if !whole || report.files.is_empty() {
        return report;
    }
    if keyless {
        for name in ["key", "stream", "chain", "key_table", "state"] {
            report.add(name, "", CheckState::Skipped, "this needs a key");
        }
        return report;
    }
    let Some(last) = files.last_mut() else { return report };
    let name = last.name.clone();
    let opened = match intake::open_last(config, identities, last) {
        Ok(opened) => opened,
        Err(error) if wants_key(&error) => {
            report.add("key", &name, CheckState::Skipped, error.to_string());
            report.locked = Some(error);
            return report;
        }
        Err(error) => {
            report.fail(place(&error), &name, error);
            return report;
        }
    };
    let full = report.files.first().is_some_and(|first| first.from == 0);
    let mut sink = Examining::new(config, full, &opened.unlocked);
    let mut joint = None;
    let total = report.files.iter().map(|facts| facts.bytes).sum::<u64>();
    let read = std::cell::Cell::new(0);
    let count = files.len();
    for (at, file) in files.iter_mut().enumerate() {
        let name = file.name.clone();
        let tell = |bytes| {
            read.set(read.get() + bytes);
            progress(total + read.get(), 2 * total);
            ControlFlow::Continue(())
        };
        sink.file.clone_from(&name);
        match intake::read(&opened.unlocked, file, (joint, true, at + 1 == count), &mut sink, &tell) {
            Ok(behind) => {
                joint = Some(behind);
                report.add("key", &name, CheckState::Ok, "it opens");
                report.add(
                    "stream",
                    &name,
                    CheckState::Ok,
                    "every chunk opens, and everything that there must be is there",
                );
                report.add(
                    "chain",
                    &name,
                    CheckState::Ok,
                    "every event is whole and follows the one before, up to the head",
                );
            }
            Err(error) => {
                report.fail(place(&error), &name, error);
                report.checks.append(&mut sink.checks);
                return report;
            }
        }
    }
    report.checks.append(&mut sink.checks);
    report.state_root = sink.state_root;
    report
}

/// What needs no key: form, digest, and whether the files go on from each other.
fn clear_parts(files: &mut [BackupFile], report: &mut BackupReport, progress: &dyn Fn(u64, u64)) -> bool {
    let mut joint = None;
    let read = std::cell::Cell::new(0);
    let mut total = 0;
    for file in files.iter_mut() {
        match FileFacts::read(file) {
            Ok(facts) => {
                total += facts.bytes;
                report.add("form", &facts.name, CheckState::Ok, "header and end are those of a backup");
                report.files.push(facts);
            }
            Err(error) => {
                report.fail_file("form", &file.name, error);
                return false;
            }
        }
    }
    for file in files.iter_mut() {
        let name = file.name.clone();
        let tell = |bytes| {
            read.set(read.get() + bytes);
            progress(read.get(), 2 * total);
        };
        let checked = BackupReader::new(file).and_then(|reader| {
            let (header, trailer) = (reader.header.clone(), reader.trailer);
            reader.check_digest(&tell).map(|()| (header, trailer))
        });
        let (header, trailer) = match checked {
            Ok(parts) => parts,
            Err(error) => {
                report.fail_file("digest", &name, error);
                return false;
            }
        };
        report.add("digest", &name, CheckState::Ok, "the file is byte for byte the one that was written");
        if let Err(error) = Joint::check(joint, &header, true) {
            report.fail_file("join", &name, error);
            return false;
        }
        if joint.is_some() {
            report.add("join", &name, CheckState::Ok, "it goes on where the one before ends");
        }
        joint = Some(Joint::behind(&header, &trailer));
    }
    true
}

/// Folds what the files hold, in memory and temporary files, and compares.
struct Examining<'a> {
    config: &'a Config,
    file: String,
    last: bool,
    /// Whether the files begin with the first event, so that there is a state.
    folding: bool,
    index: Option<(Index, tempfile::TempDir)>,
    /// The keys that the last file gave.
    keys: &'a Unlocked,
    place: Option<(LedgerId, u32)>,
    /// What wraps the table of the present file, where those keys lead to it.
    kek: Option<Kek>,
    ring: Option<Hash>,
    /// What each slot of the table holds.
    slots: Vec<SlotStatus>,
    /// Digests of envelopes outside the log, by slot: as the events say, and as they are.
    named: BTreeMap<u64, Hash>,
    objects: BTreeMap<u64, Hash>,
    checks: Vec<BackupCheck>,
    state_root: Option<Hash>,
}

impl<'a> Examining<'a> {
    fn new(config: &'a Config, folding: bool, keys: &'a Unlocked) -> Self {
        Self {
            config,
            file: String::new(),
            last: false,
            folding,
            index: None,
            keys,
            place: None,
            kek: None,
            ring: None,
            slots: Vec::new(),
            named: BTreeMap::new(),
            objects: BTreeMap::new(),
            checks: Vec::new(),
            state_root: None,
        }
    }

    fn add(&mut self, name: &'static str, right: bool, good: &str, bad: &str) {
        let (state, what) = if right { (CheckState::Ok, good) } else { (CheckState::Failed, bad) };
        self.checks.push(BackupCheck { name, file: self.file.clone(), state, what: what.to_owned() });
    }

    fn fail(&mut self, name: &'static str, what: &str) {
        if !self.checks.iter().any(|check| check.name == name && check.state == CheckState::Failed) {
            self.add(name, false, "", what);
        }
    }

    /// Every version that can be read must have its key, and its envelope where that is outside the log.
    fn secrets(&mut self, index: &Index, backend: BackendKind) -> Result<(), Error> {
        let (mut keyless, mut lost) = (0_u64, 0_u64);
        vault::each_version(index, &mut |_, record| {
            if record.shredded.is_none() {
                let at = usize::try_from(record.slot).unwrap_or(usize::MAX);
                keyless += u64::from(self.slots.get(at) != Some(&SlotStatus::Present));
                let kept = self.objects.get(&record.slot);
                let is_right = kept.is_some() && kept == self.named.get(&record.slot);
                lost += u64::from(backend != BackendKind::Ledger && !is_right);
            }
            Ok::<_, vault::ApplyFault>(())
        })
        .map_err(vault::VaultError::from)?;
        self.add("key_table", keyless == 0, "every secret has its key", "secrets lack their keys");
        if backend != BackendKind::Ledger {
            self.add("envelopes", lost == 0, "every sealed value is there", "sealed values are missing or are others");
        }
        Ok(())
    }
}

impl Sink for Examining<'_> {
    fn begin(&mut self, last: bool, header: &Header) -> Result<(), Error> {
        let ring = KeyRing::parse(&header.ring).ok_or(KeysError::RingAltered)?;
        self.last = last;
        self.place = Some((header.ledger_id, ring.table_generation()));
        self.ring = Some(ring.digest());
        // Behind a rotation of the root key the earlier table is locked: its form is looked at.
        let root = Key::from_bytes(&mut self.keys.root_copy());
        self.kek = ring.open_with_root(root, None).ok().map(|own| own.kek());
        self.slots.clear();
        self.objects.clear();
        if self.folding && self.index.is_none() {
            let dir = scratch_dir()?;
            let key = Key::generate(&*self.config.random)?;
            let place = (Arc::new(RealMedium) as Arc<dyn Medium>, dir.path());
            let index = Index::scratch(place, &key, (header.ledger_id, STATE_SCHEMA), None, &*self.config.random)?;
            self.index = Some((index, dir));
        }
        Ok(())
    }

    fn table(&mut self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let Some(place) = self.place else { return Ok(()) };
        match KeyTable::examine_copy(place, self.kek.as_ref(), first, bytes) {
            Some(found) => self.slots.extend(found),
            None => self.fail("key_table", "a slot of the key table is damaged, or was wrapped by another key"),
        }
        Ok(())
    }

    fn shredded(&mut self, seq: u64, slots: &[u64]) -> Result<(), Error> {
        for slot in slots {
            if let Some(found) = usize::try_from(*slot).ok().and_then(|at| self.slots.get_mut(at)) {
                *found = SlotStatus::Shredded { seq };
            }
        }
        Ok(())
    }

    fn object(&mut self, slot: u64, envelope: Vec<u8>) -> Result<(), Error> {
        self.objects.insert(slot, vault::envelope_digest(&envelope));
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        let decoded = decode_frame(frame, self.keys)?;
        let Some((index, _)) = &self.index else { return Ok(()) };
        let seq = decoded.seq;
        match &decoded.event {
            Event::SecretPut(put) => {
                self.named.insert(put.slot, put.envelope_digest);
            }
            Event::SecretsImported(event) => {
                self.named.extend(event.secrets.iter().map(|one| (one.put.slot, one.put.envelope_digest)));
            }
            _ => {}
        }
        let delta =
            fold::apply(index, seq, decoded.time, &decoded.event).map_err(|source| Error::Fold { seq, source })?;
        index.apply(delta);
        if decoded.ends_batch {
            spill(index, seq)?;
        }
        Ok(())
    }

    fn settings(&mut self, _bytes: Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    fn end(&mut self, closing: &Closing) -> Result<(), Error> {
        if !self.last {
            return Ok(());
        }
        let Some((index, dir)) = self.index.take() else {
            let what = "this needs the full backup and every increment before: name them first".to_owned();
            let file = self.file.clone();
            self.checks.push(BackupCheck { name: "state", file, state: CheckState::Skipped, what });
            return Ok(());
        };
        let root = state_root(&index)?;
        let right = root == closing.state_root;
        self.add(
            "state",
            right,
            "its events add up to the state that the ledger had",
            "its events add up to another state",
        );
        self.state_root = Some(root).filter(|_| right);
        let system = fold::system(&index).map_err(|source| Error::Fold { seq: closing.to, source })?;
        let committed = system.map(|system| system.keyring);
        let in_force = committed == self.ring;
        self.add(
            "key_ring",
            in_force,
            "its key ring is the one that its events commit",
            "its key ring is another one than its events commit",
        );
        self.secrets(&index, closing.backend)?;
        drop((index, dir));
        Ok(())
    }
}
