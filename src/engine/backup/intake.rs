//! Reading backups in order: opened, counted, joined to each other; what is in them goes to a [`Sink`].

use std::ops::ControlFlow;

use crate::backup::{BackupError, BackupFile, BackupReader, Closing, Header, Identities, Record, Trailer};
use crate::base::LedgerId;
use crate::crypto::Hash;
use crate::engine::config::Config;
use crate::engine::core::Layout;
use crate::engine::error::Error;
use crate::keys::{KeyRing, Opened, TABLE_SLOT_LEN, Unlocked};
use crate::log::Frame;
use crate::log::frame;

/// Takes what the files hold.
pub(super) trait Sink {
    /// A file was opened; `last` is the one whose ring, table and envelopes count.
    fn begin(&mut self, last: bool, header: &Header) -> Result<(), Error>;
    /// Slots of the key table.
    fn table(&mut self, first: u64, bytes: &[u8]) -> Result<(), Error>;
    /// Slots that an event shredded.
    fn shredded(&mut self, seq: u64, slots: &[u64]) -> Result<(), Error>;
    /// An envelope outside the log.
    fn object(&mut self, slot: u64, envelope: Vec<u8>) -> Result<(), Error>;
    /// The next frame: whole, and in its place.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Error>;
    /// The settings file.
    fn settings(&mut self, bytes: Vec<u8>) -> Result<(), Error>;
    /// The end of a file.
    fn end(&mut self, closing: &Closing) -> Result<(), Error>;
}

/// Where the next file must go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joint {
    ledger_id: LedgerId,
    next: u64,
    head: Hash,
}

impl Joint {
    /// Whether a file goes on where the ones before end. The first of several must be a full one, unless a part is
    /// looked at alone.
    pub(super) fn check(before: Option<Self>, header: &Header, part: bool) -> Result<(), BackupError> {
        let from = header.from;
        match before {
            None if from == 0 && header.prev != frame::genesis(header.ledger_id) => Err(BackupError::Header),
            None if from == 0 || part => Ok(()),
            None => Err(BackupError::Increment { from }),
            Some(joint) if joint.ledger_id != header.ledger_id => {
                Err(BackupError::OtherLedger { found: header.ledger_id, expected: joint.ledger_id })
            }
            Some(joint) if joint.next != from => Err(BackupError::Gap { found: from, expected: joint.next }),
            Some(joint) if joint.head != header.prev => Err(BackupError::OtherHistory { seq: from.saturating_sub(1) }),
            Some(_) => Ok(()),
        }
    }

    /// Behind a file.
    pub(super) const fn behind(header: &Header, trailer: &Trailer) -> Self {
        Self { ledger_id: header.ledger_id, next: trailer.to.saturating_add(1), head: trailer.head }
    }
}

/// Compares the clear parts of several files with each other before any is read; gives their bytes together.
pub(super) fn joined(files: &mut [BackupFile]) -> Result<u64, Error> {
    let (mut before, mut total) = (None, 0);
    for file in files {
        let name = file.name.clone();
        let failed = |source| Error::Backup { name: name.clone(), source };
        let (header, trailer, bytes) = file.facts().map_err(failed)?;
        Joint::check(before, &header, false).map_err(failed)?;
        before = Some(Joint::behind(&header, &trailer));
        total += bytes;
    }
    Ok(total)
}

/// Opens the last of several files with what somebody has at hand: its ring opens those before it as well.
pub(super) fn open_last(config: &Config, identities: &Identities, file: &mut BackupFile) -> Result<Opened, Error> {
    let name = file.name.clone();
    let bad = |source| Error::Backup { name: name.clone(), source };
    let (header, ..) = file.facts().map_err(bad)?;
    let opened = open_ring(config, identities, &header, &bad)?;
    // What opens another ring of the same ledger is no key to this file.
    let key = opened.unlocked.unwrap_backup_key(&header.bound(), &header.wrapped);
    key.map(|_| opened).ok_or_else(|| bad(BackupError::Key))
}

fn open_ring(
    config: &Config,
    identities: &Identities,
    header: &Header,
    bad: &dyn Fn(BackupError) -> Error,
) -> Result<Opened, Error> {
    let ring = KeyRing::parse(&header.ring).filter(|ring| ring.ledger_id() == header.ledger_id);
    let ring = ring.ok_or_else(|| bad(BackupError::Header))?;
    if !identities.is_empty() {
        let root = identities.open(&header.keys.age).map_err(bad)?;
        return Ok(Opened { unlocked: ring.open_with_root(root, None)?, slot: None, key_file: None });
    }
    if matches!(config.credential, crate::keys::Credential::None) && !header.keys.key_file.is_empty() {
        return Ok(ring.open_with_key_file(&header.keys.key_file)?);
    }
    let dir = Layout { home: config.home.clone() }.keys();
    Ok(ring.open_anywhere((&*config.medium, &dir), &*config.keystore, config.slot, &config.credential)?)
}

/// What was counted in a file.
#[derive(Debug, Default)]
struct Counted {
    slots: u64,
    objects: u64,
    frames: u64,
    frame_bytes: u64,
}

/// Reads one file to its end, with the keys that the last one gave.
pub(super) fn read(
    keys: &Unlocked,
    file: &mut BackupFile,
    (before, part, last): (Option<Joint>, bool, bool),
    sink: &mut dyn Sink,
    progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Joint, Error> {
    let name = file.name.clone();
    let failed = |source| Error::Backup { name: name.clone(), source };
    let mut reader = BackupReader::new(file).map_err(failed)?;
    Joint::check(before, &reader.header, part).map_err(failed)?;
    let header = reader.header.clone();
    let bound = header.bound();
    let key = if last {
        keys.unwrap_backup_key(&bound, &header.wrapped)
    } else {
        keys.unchain_backup_key(header.epoch, &bound, &header.chained)
    };
    reader.unlock(&key.ok_or_else(|| failed(BackupError::Key))?);
    sink.begin(last, &header)?;
    let mut counted = Counted::default();
    let (mut seq, mut prev) = (header.from, header.prev);
    let mut told = reader.left();
    while let Some(record) = reader.next_record().map_err(failed)? {
        if progress(told - reader.left()).is_break() {
            return Err(Error::BackupStopped);
        }
        told = reader.left();
        match record {
            Record::Table(first, bytes) => {
                if first != counted.slots || bytes.len() % TABLE_SLOT_LEN != 0 {
                    return Err(failed(BackupError::Record("slots of the key table are missing before it")));
                }
                counted.slots += (bytes.len() / TABLE_SLOT_LEN) as u64;
                sink.table(first, &bytes)?;
            }
            Record::Shredded(by, slots) => {
                if slots.iter().any(|slot| *slot >= counted.slots) {
                    return Err(failed(BackupError::Record("it shreds a slot that is not there")));
                }
                sink.shredded(by, &slots)?;
            }
            Record::Object(slot, envelope) => {
                counted.objects += 1;
                sink.object(slot, envelope)?;
            }
            Record::Frames(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let broken = || failed(BackupError::Chain { seq });
                    let frame = Frame::parse(rest).map_err(|_| broken())?;
                    let place = &frame.header;
                    if (place.seq, place.prev, place.ledger_id) != (seq, prev, header.ledger_id) {
                        return Err(broken());
                    }
                    sink.frame(&frame)?;
                    (seq, prev) = (seq.saturating_add(1), frame.hash);
                    counted.frames += 1;
                    counted.frame_bytes += frame.bytes().len() as u64;
                    rest = rest.get(frame.bytes().len()..).unwrap_or_default();
                }
            }
            Record::Settings(bytes) => sink.settings(bytes)?,
            Record::Closing(closing) => {
                compare(&closing, &counted, (seq, prev)).map_err(failed)?;
                sink.end(&closing)?;
            }
        }
    }
    if progress(told).is_break() {
        return Err(Error::BackupStopped);
    }
    Ok(Joint::behind(&header, &reader.trailer))
}

/// Compares what was met with what the closing record says.
fn compare(closing: &Closing, counted: &Counted, (next, head): (u64, Hash)) -> Result<(), BackupError> {
    for (what, found, said) in [
        ("slots of the key table", counted.slots, closing.slots),
        ("envelopes", counted.objects, closing.objects),
        ("events", counted.frames, closing.frames),
        ("bytes of events", counted.frame_bytes, closing.frame_bytes),
    ] {
        if found != said {
            return Err(BackupError::Counts(what));
        }
    }
    if (next.checked_sub(1), head) == (Some(closing.to), closing.head) {
        Ok(())
    } else {
        Err(BackupError::Chain { seq: next })
    }
}
