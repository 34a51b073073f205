//! Restoring a ledger from backups.
//!
//! | step | a crash leaves |
//! |---|---|
//! | read the files into a folder beside the home, folding what was written meanwhile; compare the state's root | no home |
//! | open that folder: a branch begins, the restoration is recorded, a new epoch key seals from there | no home |
//! | make sure that the ledger opens by itself: pin the slot that opened, or add one with a key file | no home |
//! | rename the folder to the home | the home, whole |
//!
//! The folder beside it is named `.palyra-restore-<random>` and locked (`flock(2)`) as long as somebody fills it. What
//! an interrupted run leaves there is nobody's, and not harmless: the ring and a key file in it are the root key. It
//! comes late, when all is read and folded; and the next `init` or restore beside it removes what nobody holds.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::backend::{BlobBackend, FileBackend, KeystoreBackend};
use crate::backup::{BackupError, BackupFile, Closing, Header, Identities};
use crate::base::{BackendKind, LedgerId, SlotId, limits};
use crate::crypto::{Key, labels};
use crate::engine::config::{Config, Settings};
use crate::engine::core::{Core, Layout};
use crate::engine::error::Error;
use crate::engine::fold::{self, STATE_SCHEMA};
use crate::engine::history;
use crate::engine::home;
use crate::engine::ledger::Ledger;
use crate::engine::open::{self, Decoded, state_root};
use crate::engine::staging;
use crate::event::Event;
use crate::event::system::{EpochCause, KeySlotPinned, LedgerRestored};
use crate::keys::{self, Credential, KeyRing, KeySlot, KeyTable, NewSlot, Opened, SlotKind, Unlocked};
use crate::log::{Frame, Group, Head, HeadFile, Journal, Last};
use crate::projection::Index;

use super::intake::{self, Joint, Sink};
use super::{Progress, Restoration};

/// Groups that may wait to be decoded, and to be folded; each has [`limits::GROUP_BYTES_MAX`] bytes at most.
const GROUPS_AHEAD: usize = 2;

/// Restores into the configured home.
pub(super) fn restore(
    config: &Config,
    files: &mut [BackupFile],
    identities: &Identities,
    progress: &Progress<'_>,
) -> Result<Restoration, Error> {
    if config.lock {
        home::prepare(&config.home)?;
    } else if config.medium.exists(&config.home)? {
        return Err(Error::HomeTaken { home: config.home.clone() });
    }
    let parent = config.home.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = LedgerId::from_bytes(config.random.array()?);
    let total = intake::joined(files)?;
    let nothing = || Error::Backup { name: "backup".to_owned(), source: BackupError::Nothing };
    let opened = intake::open_last(config, identities, files.last_mut().ok_or_else(nothing)?)?;
    let layout = Layout { home: parent.join(format!("{}{name}", staging::RESTORE)) };
    config.medium.create_dir(&layout.home)?;
    let held = config.lock.then(|| staging::hold(&layout.home));
    let made = build(config, &layout, files, (&opened, total), progress).and_then(|restored| {
        config.medium.rename(&layout.home, &config.home)?;
        config.medium.sync_dir(parent)?;
        Ok(restored)
    });
    if made.is_err() && config.lock {
        // Best effort: what stays behind is no home.
        let _ = std::fs::remove_dir_all(&layout.home);
    }
    drop(held);
    made
}

/// A group that the journal holds.
struct Written {
    journal: Arc<Journal>,
    bytes: Vec<u8>,
}

/// Its events.
struct Events {
    journal: Arc<Journal>,
    decoded: Vec<Decoded>,
}

/// A home that is being filled.
struct Filling<'a> {
    config: &'a Config,
    layout: &'a Layout,
    journal: Option<Arc<Journal>>,
    group: Group,
    /// Whether the last frame in the group ends its batch.
    batch_ends: bool,
    /// Takes what was written, to fold it.
    written: Option<SyncSender<Written>>,
    last: Option<Header>,
    table: Option<KeyTable>,
    /// Envelopes wait here until the closing record says which backend they belong to.
    objects: Option<FileBackend>,
    settings: Option<Vec<u8>>,
    closing: Option<Closing>,
}

impl Filling<'_> {
    fn flush(&mut self) -> Result<(), Error> {
        let group = std::mem::take(&mut self.group);
        let Some(journal) = &self.journal else { return Ok(()) };
        journal.append(&group)?;
        let group = Written { journal: Arc::clone(journal), bytes: group.bytes };
        self.written.as_ref().map_or(Ok(()), |folding| folding.send(group).map_err(|_| Error::BackupStopped))
    }

    fn table_of(&self) -> Result<&KeyTable, Error> {
        self.table.as_ref().ok_or(Error::Keys(keys::KeysError::TableDead))
    }
}

impl Sink for Filling<'_> {
    fn begin(&mut self, last: bool, header: &Header) -> Result<(), Error> {
        if self.journal.is_none() {
            self.journal = Some(Arc::new(Journal::create(
                Arc::clone(&self.config.medium),
                &self.layout.journal(),
                &self.layout.index(),
                header.ledger_id,
                Settings::default().log.segment_bytes,
            )?));
        }
        if last {
            let ring = KeyRing::parse(&header.ring).ok_or(keys::KeysError::RingAltered)?;
            let dir = self.layout.keys();
            self.table = Some(KeyTable::create(&*self.config.medium, &dir, header.ledger_id, ring.table_generation())?);
            let medium = Arc::clone(&self.config.medium);
            self.objects = Some(FileBackend::new(medium, self.layout.objects(), header.ledger_id));
            self.last = Some(header.clone());
        }
        Ok(())
    }

    fn table(&mut self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        if self.last.is_none() {
            return Ok(());
        }
        Ok(self.table_of()?.copy_in(first, bytes)?)
    }

    fn shredded(&mut self, seq: u64, slots: &[u64]) -> Result<(), Error> {
        if self.last.is_none() {
            return Ok(());
        }
        Ok(self.table_of()?.copy_in_shredded(seq, slots)?)
    }

    fn object(&mut self, slot: u64, envelope: Vec<u8>) -> Result<(), Error> {
        match &self.objects {
            Some(files) => Ok(files.put(slot, &envelope)?),
            None => Ok(()),
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        let header = &frame.header;
        if self.batch_ends && self.group.bytes.len() + frame.bytes().len() > limits::GROUP_BYTES_MAX {
            self.flush()?;
        }
        self.group.starts.push(u32::try_from(self.group.bytes.len()).unwrap_or(u32::MAX));
        self.group.bytes.extend_from_slice(frame.bytes());
        self.group.last = Some(Last { seq: header.seq, hash: frame.hash, time: header.time });
        self.batch_ends = header.batch_index + 1 == header.batch_len;
        Ok(())
    }

    fn settings(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.settings = Some(bytes);
        Ok(())
    }

    fn end(&mut self, closing: &Closing) -> Result<(), Error> {
        self.flush()?;
        self.closing = Some(*closing);
        if self.last.is_some() {
            self.table_of()?.settle_copy(closing.shredded_below)?;
        }
        Ok(())
    }
}

/// Reads the files in order and writes what they hold.
fn fill<'a>(
    (config, layout): (&'a Config, &'a Layout),
    files: &mut [BackupFile],
    (opened, total): (&Opened, u64),
    written: SyncSender<Written>,
    progress: &Progress<'_>,
) -> Result<Filling<'a>, Error> {
    let count = files.len();
    let mut filling = Filling {
        config,
        layout,
        journal: None,
        group: Group::default(),
        batch_ends: false,
        written: Some(written),
        last: None,
        table: None,
        objects: None,
        settings: None,
        closing: None,
    };
    let mut joint: Option<Joint> = None;
    let read = std::cell::Cell::new(0);
    for (at, file) in files.iter_mut().enumerate() {
        let tell = |bytes| {
            read.set(read.get() + bytes);
            progress(read.get(), total)
        };
        joint = Some(intake::read(&opened.unlocked, file, (joint, false, at + 1 == count), &mut filling, &tell)?);
    }
    filling.written = None;
    Ok(filling)
}

fn build(
    config: &Config,
    layout: &Layout,
    files: &mut [BackupFile],
    (opened, total): (&Opened, u64),
    progress: &Progress<'_>,
) -> Result<Restoration, Error> {
    let count = files.len();
    let name = files.last().map_or_else(|| "backup".to_owned(), |file| file.name.clone());
    let failed = |source| Error::Backup { name: name.clone(), source };
    for folder in [&layout.keys(), &layout.index(), &layout.quarantine()] {
        config.medium.create_dir(folder)?;
    }
    let unlocked = &opened.unlocked;
    let key = unlocked.ledger_key().subkey(labels::INDEX);
    let ledger_id = match files.last_mut() {
        Some(file) => file.facts().map_err(failed)?.0.ledger_id,
        None => return Err(failed(BackupError::Nothing)),
    };
    let medium = Arc::clone(&config.medium);
    let index = Index::create(medium, &layout.index(), &key, ledger_id, STATE_SCHEMA, &*config.random)?;
    // While one group is read and written, the ones before it are opened and folded.
    let filled = std::thread::scope(|scope| -> Result<Filling<'_>, Error> {
        let (written, groups) = mpsc::sync_channel(GROUPS_AHEAD);
        let (decoded, events) = mpsc::sync_channel(GROUPS_AHEAD);
        scope.spawn(move || decode_groups(groups, unlocked, &decoded));
        let index = &index;
        let folding = scope.spawn(move || fold_events(index, events));
        let filled = fill((config, layout), files, (opened, total), written, progress);
        // Where folding failed, filling ends for want of somebody who takes what it writes.
        folding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        filled
    })?;
    let Filling { journal, last, objects, settings, closing, .. } = filled;
    let (Some(journal), Some(header), Some(closing), Some(objects)) = (journal, last, closing, objects) else {
        return Err(failed(BackupError::Nothing));
    };
    if state_root(&index)? != closing.state_root {
        return Err(failed(BackupError::StateRoot));
    }
    index.freeze(journal.position(closing.to)?);
    index.flush_frozen()?;
    journal.save_offsets();
    drop((index, journal));
    keep_objects(config, header.ledger_id, closing.backend, &objects)?;
    write_rest(config, layout, &header, opened, &closing, settings)?;
    first_opening(config, layout, count, &header, opened, &closing, files)
}

/// Opens and decodes groups as they come, and passes their events on.
fn decode_groups(groups: Receiver<Written>, unlocked: &Unlocked, events: &SyncSender<Result<Events, Error>>) {
    for Written { journal, bytes } in groups {
        let (mut decoded, mut failed) = (Vec::new(), None);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            // Every frame was checked before it was written.
            let one = Frame::parse_checked(rest).map_err(|_| Error::Backup {
                name: "backup".to_owned(),
                source: BackupError::Record("a frame changed in memory"),
            });
            let one = one.and_then(|frame| {
                rest = rest.get(frame.bytes().len()..).unwrap_or_default();
                open::decode_frame(&frame, unlocked)
            });
            match one {
                Ok(one) => decoded.push(one),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Nobody takes what follows an error, nor anything more where folding failed.
        let more = events.send(Ok(Events { journal, decoded })).is_ok();
        if let Some(error) = failed {
            let _ = events.send(Err(error));
            return;
        }
        if !more {
            return;
        }
    }
}

/// Folds events as they come.
fn fold_events(index: &Index, events: Receiver<Result<Events, Error>>) -> Result<(), Error> {
    for group in events {
        let Events { journal, decoded } = group?;
        for Decoded { seq, time, event, ends_batch, .. } in decoded {
            let delta = fold::apply(index, seq, time, &event).map_err(|source| Error::Fold { seq, source })?;
            index.apply(delta);
            if ends_batch && index.should_flush() {
                index.freeze(journal.position(seq)?);
                index.flush_frozen()?;
            }
        }
    }
    Ok(())
}

/// Puts envelopes into the keystore where the ledger expects them there; files are where they belong.
fn keep_objects(config: &Config, ledger_id: LedgerId, kind: BackendKind, files: &FileBackend) -> Result<(), Error> {
    if matches!(kind, BackendKind::Ledger | BackendKind::EncryptedFile) {
        return Ok(());
    }
    crate::engine::outside::check(config, kind)?;
    let keystore = KeystoreBackend::new(Arc::clone(&config.keystore), kind, ledger_id);
    for slot in files.list()?.unwrap_or_default() {
        if let Some(envelope) = files.get(slot)? {
            keystore.put(slot, &envelope)?;
            files.delete(slot)?;
        }
    }
    Ok(())
}

/// The files of a home beside its journal, its table and its index; the marker of the format comes last.
fn write_rest(
    config: &Config,
    layout: &Layout,
    header: &Header,
    opened: &Opened,
    closing: &Closing,
    settings: Option<Vec<u8>>,
) -> Result<(), Error> {
    let medium = &*config.medium;
    let ring = KeyRing::parse(&header.ring).ok_or(keys::KeysError::RingAltered)?;
    keys::create(medium, &layout.keys(), &ring)?;
    if let Some((name, bytes)) = &opened.key_file {
        medium.write_atomic(&layout.keys().join(name), bytes)?;
    }
    let mac_key = opened.unlocked.ledger_key().subkey(labels::HEAD_MAC);
    let head = Head { seq: closing.to, hash: closing.head, time: closing.time, witness_clean: false, witness_next: 0 };
    HeadFile::create(medium, &layout.head(), header.ledger_id, &mac_key, &head)?;
    if let Some(settings) = settings {
        medium.write_atomic(&layout.config(), &settings)?;
    }
    home::write_markers(medium, &layout.home, closing.backend)?;
    for folder in [&layout.keys(), &layout.index(), &layout.quarantine(), &layout.home] {
        medium.sync_dir(folder)?;
    }
    Ok(())
}

/// Opens what was built, and records what happened to it.
fn first_opening(
    config: &Config,
    layout: &Layout,
    count: usize,
    header: &Header,
    opened: &Opened,
    closing: &Closing,
    files: &mut [BackupFile],
) -> Result<Restoration, Error> {
    let root = Key::from_bytes(&mut opened.unlocked.root_copy());
    let by = opened.slot.unwrap_or_else(|| opened.unlocked.slot());
    let mut first = config.clone().accept_rollback().without_background();
    first.home.clone_from(&layout.home);
    first.root = Some((Arc::new(root), by));
    first.witness = false;
    first.read_only = false;
    let ledger = Ledger::open(first)?;
    let core = ledger.core();
    let digest = match files.last_mut() {
        Some(file) => {
            let name = file.name.clone();
            file.facts().map_err(|source| Error::Backup { name, source })?.1.digest
        }
        None => closing.head,
    };
    let event = LedgerRestored {
        backup: header.backup,
        program: header.program.clone(),
        created: header.created,
        files: u32::try_from(count).unwrap_or(u32::MAX),
        to: closing.to,
        head: closing.head,
        digest,
        opened_by: opened.slot,
    };
    core.execute(ledger.caller(), |_, _| Ok::<_, Error>((vec![Event::LedgerRestored(event)], ())))?;
    // No nonce can come twice under one key: what is sealed from here on has a key that no other copy has.
    core.start_epoch(ledger.caller(), EpochCause::Restored)?;
    let (slot, slot_added) = way_in(core, &ledger, opened)?;
    ledger.checkpoint()?;
    let branches = history::branches(&core.index).map_err(|source| Error::Fold { seq: closing.to, source })?;
    let branch = branches.last().map_or(0, |branch| branch.number);
    ledger.close()?;
    Ok(Restoration {
        backup: header.backup,
        files: count,
        to: closing.to,
        head: closing.head,
        state_root: closing.state_root,
        branch,
        slot,
        slot_added,
        events: ledger.core().visible.load(std::sync::atomic::Ordering::Acquire),
    })
}

/// Makes sure that the next command opens the ledger: by the slot that opened the backup where that can be given
/// again, else by a key file of its own. Slots whose key file is not there go.
fn way_in(core: &Core, ledger: &Ledger, opened: &Opened) -> Result<(SlotId, bool), Error> {
    let caller = ledger.caller();
    let kind = |id: SlotId| core.ring().slots().iter().find(|slot| slot.id() == id).map(KeySlot::kind);
    let kept = opened.slot.filter(|slot| match kind(*slot) {
        Some(SlotKind::Passphrase | SlotKind::OsKeystore) => true,
        Some(SlotKind::File) => opened.key_file.is_some(),
        _ => false,
    });
    let (slot, added) = match kept {
        Some(slot) => (slot, false),
        None => (core.add_slot(caller, &NewSlot::file("restored"))?.id(), true),
    };
    let mut ring = core.ring();
    let previous = ring.pinned();
    if slot != previous {
        let edit = ring.pin(&core.unlocked(), &*core.random, slot)?;
        core.commit_ring(caller, &mut ring, edit, |keyring| {
            Event::KeySlotPinned(KeySlotPinned { slot, previous, keyring })
        })?;
    }
    // Their key files are on the machine that is gone, or in somebody's hands: no slot without its file is left.
    let dir = core.layout.keys();
    let opens = |slot: &KeySlot| ring.unlock(&*core.medium, &dir, Some(slot.id()), &Credential::None).is_ok();
    let by_file = ring.slots().iter().filter(|slot| slot.kind() == SlotKind::File);
    let dead: Vec<SlotId> = by_file.filter(|slot| !opens(slot)).map(KeySlot::id).collect();
    drop(ring);
    dead.into_iter().try_for_each(|slot| core.remove_slot(caller, slot, None))?;
    Ok((slot, added))
}
