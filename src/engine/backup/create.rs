//! Making a backup.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::backend::BlobBackend;
use crate::backup::{BackupError, BackupWriter, Closing, Header, KeySource, Record};
use crate::base::{BackupId, Caller, Timestamp, limits};
use crate::crypto::{Hash, Key};
use crate::event::Event;
use crate::event::system::BackupCreated;
use crate::keys::{KeyRing, SlotKind, TABLE_SLOT_LEN};
use crate::log::frame::{self, Frame};
use crate::projection::Moment;
use crate::vault::{self, VaultError};

use super::super::checkpoints::root_of;
use super::super::core::Core;
use super::super::error::Error;
use super::{BackupMade, BackupOptions, Progress};

fn failed(source: BackupError) -> Error {
    Error::Backup { name: "backup".to_owned(), source }
}

/// A backup under way.
struct Making<'a> {
    core: &'a Core,
    writer: BackupWriter<'a>,
    progress: &'a Progress<'a>,
    total: u64,
    slots: u64,
    objects: u64,
    frames: u64,
    frame_bytes: u64,
    time: Timestamp,
}

impl Core {
    pub(in crate::engine) fn backup(
        &self,
        caller: &Caller,
        out: &mut dyn Write,
        options: &BackupOptions,
        settle: &mut dyn FnMut() -> std::io::Result<()>,
        progress: &Progress<'_>,
    ) -> Result<BackupMade, Error> {
        self.open_still()?;
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.alive()?;
        // What was read until now belongs into it.
        self.record_reads()?;
        let (from, prev) = self.beginning(options)?;
        // Envelopes stay where they are, the key table keeps its KEK, and the ring its slots.
        let moving = self.outside.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring();
        let (header, key) = self.header(&ring, options, from, prev)?;
        let (backup, table_generation) = (header.backup, ring.table_generation());
        let writer = BackupWriter::new(out, &header, &key).map_err(failed)?;
        let bytes = self.journal.bytes()? + self.table().table.len() * TABLE_SLOT_LEN as u64;
        let mut making = Making {
            core: self,
            writer,
            progress,
            total: bytes,
            slots: 0,
            objects: 0,
            frames: 0,
            frame_bytes: 0,
            time: Timestamp::from_millis(0),
        };
        let shredded_below = self.table().table.shreds_through().map_or(0, |through| through.saturating_add(1));
        making.table()?;
        let backend = self.backend_state()?.kind;
        let (to, moment) = making.choose_end(self.outside(backend)?.as_deref())?;
        // Slots that events up to the end name were filled before; those that came meanwhile are added.
        making.table()?;
        making.shredded(shredded_below, to)?;
        drop((ring, quiet, moving));
        if to < from {
            return Err(Error::BackupFrom { seq: from.saturating_sub(1), what: "nothing came after it" });
        }
        let (state_root, _) = root_of(moment)?;
        let head = self.journal.position(to)?.hash;
        making.frames(from, to)?;
        making.settings()?;
        let Making { writer, slots, objects, frames, frame_bytes, time, .. } = making;
        let closing = Closing {
            to,
            head,
            time,
            state_root,
            frames,
            frame_bytes,
            slots,
            table_generation,
            shredded_below,
            objects,
            backend,
        };
        let (trailer, bytes) = writer.finish(&closing).map_err(failed)?;
        settle().map_err(|error| failed(error.into()))?;
        let recipients = u32::try_from(options.recipients.len()).unwrap_or(u32::MAX);
        let (digest, key_file) = (trailer.digest, options.with_key_file);
        let event = BackupCreated { backup, from, to, head, digest, bytes, recipients, key_file };
        let (committed, ()) = self.execute(caller, |_, _| Ok::<_, Error>((vec![Event::BackupCreated(event)], ())))?;
        Ok(BackupMade { backup, from, to, head, state_root, digest, bytes, event: committed.seq })
    }

    /// The first event, and the hash of the one before.
    fn beginning(&self, options: &BackupOptions) -> Result<(u64, Hash), Error> {
        let Some((seq, expected)) = options.after else { return Ok((0, frame::genesis(self.ledger_id))) };
        let refuse = |what| Error::BackupFrom { seq, what };
        if seq >= self.visible.load(Ordering::Acquire) {
            return Err(refuse("this ledger does not have it"));
        }
        let mut buffer = Vec::new();
        self.journal.read(seq, &mut buffer)?;
        let found = Frame::parse_checked(&buffer).map_err(|_| refuse("it is damaged"))?;
        let hash = self.journal.position(seq)?.hash;
        if found.header.batch_index + 1 != found.header.batch_len {
            return Err(refuse("it is not the last event of its command"));
        }
        if expected.is_some_and(|expected| expected != hash) {
            return Err(refuse("the earlier backup knows another one: it belongs to another branch of history"));
        }
        Ok((seq.saturating_add(1), hash))
    }

    fn header(&self, ring: &KeyRing, options: &BackupOptions, from: u64, prev: Hash) -> Result<(Header, Key), Error> {
        let survives = |kind| matches!(kind, SlotKind::Passphrase | SlotKind::Recovery);
        if options.recipients.is_empty()
            && !options.with_key_file
            && !ring.slots().iter().any(|slot| survives(slot.kind()))
        {
            return Err(Error::BackupUnopenable);
        }
        let unlocked = self.unlocked();
        let age = options.recipients.seal(&unlocked.root_copy()).map_err(failed)?;
        let key_file = if options.with_key_file {
            ring.own_key_file(&*self.medium, &self.layout.keys())?.1.to_vec()
        } else {
            Vec::new()
        };
        let key = Key::generate(&*self.random)?;
        // The ring as the file will hold it.
        let unlocked = ring.reopen(&unlocked)?;
        let mut header = Header {
            ledger_id: self.ledger_id,
            backup: BackupId::from_bytes(self.random.array()?),
            created: self.clock.now(),
            from,
            prev,
            nonce: self.random.array()?,
            epoch: unlocked.last_epoch(),
            program: env!("CARGO_PKG_VERSION").chars().take(limits::BACKUP_PROGRAM_MAX).collect(),
            ring: ring.encode(),
            keys: KeySource { age, key_file },
            wrapped: Vec::new(),
            chained: Vec::new(),
        };
        let bound = header.bound();
        header.wrapped = unlocked.wrap_backup_key(&*self.random, &bound, &key)?;
        header.chained = unlocked.chain_backup_key(&*self.random, header.epoch, &bound, &key)?;
        Ok((header, key))
    }
}

impl Making<'_> {
    fn add(&mut self, record: &Record) -> Result<(), Error> {
        self.writer.record(record).map_err(failed)?;
        let done = self.writer.written();
        match (self.progress)(done, self.total.max(done)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::BackupStopped),
        }
    }

    /// Copies the slots of the key table that are not copied yet.
    fn table(&mut self) -> Result<(), Error> {
        loop {
            let bytes = {
                let state = self.core.table();
                let count = (state.table.len() - self.slots).min((limits::BACKUP_GATHER / TABLE_SLOT_LEN) as u64);
                if count == 0 {
                    return Ok(());
                }
                state.table.copy_out(self.slots, count)?
            };
            let first = self.slots;
            self.slots += (bytes.len() / TABLE_SLOT_LEN) as u64;
            self.add(&Record::Table(first, bytes))?;
        }
    }

    /// Chooses the last event. Where another backend keeps envelopes, those of every version up to it are copied:
    /// what is shredded in the meantime is missing there, and a later moment knows that it was.
    fn choose_end(&mut self, backend: Option<&dyn BlobBackend>) -> Result<(u64, Moment), Error> {
        let mut copied = 0;
        for _ in 0..limits::BACKUP_ROUNDS {
            copied = self.objects(backend, copied)?.0;
            let (events, moment) = self.core.moment(|_| true);
            let (now, complete) = self.objects(backend, copied)?;
            copied = now;
            if let (true, Some(to), Some(moment)) = (complete, events.checked_sub(1), moment) {
                return Ok((to, moment));
            }
        }
        Err(Error::BackupRestless)
    }

    /// Copies the envelopes of slots from `first` on; gives the first slot that is not copied, and whether all
    /// were there.
    fn objects(&mut self, backend: Option<&dyn BlobBackend>, first: u64) -> Result<(u64, bool), Error> {
        let core = self.core;
        let next = vault::counters(&core.index).map_err(VaultError::from)?.next_slot;
        let mut complete = true;
        if backend.is_none() || next == first {
            return Ok((next, complete));
        }
        vault::each_version(&core.index, &mut |target, record| {
            if record.shredded.is_some() || !(first..next).contains(&record.slot) {
                return Ok(());
            }
            match core.envelope(target, record) {
                Err(Error::Away { .. }) if core.shredded_meanwhile(target, record.version)? => complete = false,
                Err(error) => return Err(error),
                Ok(envelope) => {
                    self.objects += 1;
                    self.add(&Record::Object(record.slot, envelope))?;
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok((next, complete))
    }

    /// Slots whose shredding the copied table may not show yet.
    fn shredded(&mut self, below: u64, to: u64) -> Result<(), Error> {
        let pending = vault::pending_shreds(&self.core.index, below.checked_sub(1)).map_err(VaultError::from)?;
        for (seq, slots) in pending.into_iter().filter(|(seq, _)| *seq <= to) {
            self.add(&Record::Shredded(seq, slots))?;
        }
        Ok(())
    }

    fn frames(&mut self, from: u64, to: u64) -> Result<(), Error> {
        let core = self.core;
        let mut gathered = Vec::with_capacity(limits::BACKUP_GATHER);
        let mut fault = None;
        core.journal.read_range(from, to, &mut |frame| {
            if !gathered.is_empty() && gathered.len() + frame.bytes().len() > limits::BACKUP_GATHER {
                let bytes = std::mem::replace(&mut gathered, Vec::with_capacity(limits::BACKUP_GATHER));
                if let Err(error) = self.add(&Record::Frames(bytes)) {
                    fault = Some(error);
                    return ControlFlow::Break(());
                }
            }
            self.frames += 1;
            self.frame_bytes += frame.bytes().len() as u64;
            self.time = frame.header.time;
            gathered.extend_from_slice(frame.bytes());
            ControlFlow::Continue(())
        })?;
        match fault {
            Some(error) => Err(error),
            None => self.add(&Record::Frames(gathered)),
        }
    }

    fn settings(&mut self) -> Result<(), Error> {
        match self.core.medium.read_all(&self.core.layout.config(), limits::CONFIG_BYTES_MAX) {
            Ok(bytes) => self.add(&Record::Settings(bytes)),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
