//! A clean ledger from what is left of one: in a new folder, never in place.
//!
//! Events are taken from the beginning as long as each follows the one before and opens under the keys; the
//! first that does not ends the chain, at the last whole batch before it. What comes after is kept aside in the
//! new home's `quarantine`, and is not part of the ledger: a gap cannot be bridged honestly.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::{LedgerId, Timestamp, limits};
use crate::crypto::Hash;
use crate::engine::{self, Error};
use crate::inspect::{Course, Evidence, walk};
use crate::log::frame::genesis;
use crate::log::segment::{self, SegmentHeader};
use crate::log::{Frame, Head, HeadFile};
use crate::store::{Medium, RealMedium, StoreError, StoreOp};

use super::{Keys, bodies};

/// What a rebuilt ledger holds, and what it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Events in it, from the first.
    pub events: u64,
    /// The last of them.
    pub last_hash: Hash,
    /// Whole events that were kept aside.
    pub aside: u64,
    /// Why the chain ends where it does, if anything was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

/// Why a ledger could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something stands at the new home already.
    #[error("something stands at {} already: name a folder that is not there", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// Not one whole batch from the beginning is there.
    #[error("the beginning of the ledger is not there or does not open: {why}")]
    NoBeginning {
        /// Why the chain ends before it begins.
        why: String,
    },
    /// The key ring came into force after the last event that can be proven.
    #[error(
        "the key ring is not the one that the last {events} proven events end with: give a copy of the keys from that time"
    )]
    RingOfAnotherTime {
        /// How many events are proven.
        events: u64,
    },
    /// The head file could not be written.
    #[error("the head file could not be written: {0}")]
    Head(#[from] crate::log::HeadError),
    /// The keys gave nothing to authenticate the head file with.
    #[error("the keys are not usable")]
    NoKeys,
}

/// Where the pieces come from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The evidence with the events.
    pub evidence: &'a Evidence,
    /// The events.
    pub course: &'a Course<'a>,
    /// The evidence with the key ring and key table.
    pub keys_from: &'a Evidence,
    /// Their folder there.
    pub keys_dir: &'a Path,
    /// The open keys.
    pub keys: &'a Keys,
}

/// Rebuilds a ledger at a path where nothing is. It is made beside it and takes the name when it is whole.
///
/// # Errors
/// [`RebuildError`]; then nothing stands at the path.
pub fn rebuild(origin: &Origin<'_>, home: &Path, now: Timestamp) -> Result<Rebuilt, RebuildError> {
    if RealMedium.exists(home)? {
        return Err(RebuildError::Taken { path: home.to_owned() });
    }
    let mut name = home.file_name().unwrap_or_default().to_owned();
    name.push(".rebuilding");
    let staging = home.with_file_name(name);
    if RealMedium.exists(&staging)? {
        return Err(RebuildError::Taken { path: staging });
    }
    let done = build(origin, &staging, now).and_then(|rebuilt| {
        RealMedium.rename(&staging, home)?;
        Ok(rebuilt)
    });
    if done.is_err() {
        // Best effort: what stays behind is no home, for it has no marker.
        let _ = std::fs::remove_dir_all(&staging);
    }
    done
}

fn build(origin: &Origin<'_>, home: &Path, now: Timestamp) -> Result<Rebuilt, RebuildError> {
    for folder in ["", "journal", "keys", "index", "quarantine"] {
        let path = home.join(folder);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| StoreError::new(StoreOp::Folder, &path, error))?;
    }
    let mut taker = Taker::new(origin.keys, home)?;
    walk(origin.evidence, origin.course, &mut |frame, _| taker.take(frame));
    let (rebuilt, ring) = taker.finish()?;
    if !ring.is_some_and(|ring| origin.keys.has_ring(ring)) {
        return Err(RebuildError::RingOfAnotherTime { events: rebuilt.events });
    }
    copy_keys(origin, &home.join("keys"))?;
    let config = origin.evidence.read_all(Path::new("config.toml"), limits::CONFIG_BYTES_MAX).unwrap_or_default();
    RealMedium.write_atomic(&home.join("config.toml"), &config)?;
    let key = origin.keys.head_key().ok_or(RebuildError::NoKeys)?;
    let head =
        Head { seq: rebuilt.events - 1, hash: rebuilt.last_hash, time: now, witness_clean: false, witness_next: 0 };
    HeadFile::create(&RealMedium, &home.join("head"), rebuilt.ledger_id, &key, &head)?;
    // The marker comes last: without it a folder is no ledger.
    engine::write_markers(&RealMedium, home)?;
    for folder in ["journal", "keys", ""] {
        RealMedium.sync_dir(&home.join(folder))?;
    }
    Ok(rebuilt)
}

fn copy_keys(origin: &Origin<'_>, to: &Path) -> Result<(), StoreError> {
    for name in origin.keys_from.list(origin.keys_dir)? {
        let known = name.starts_with("keyring") || name.starts_with("root-") || name.starts_with("table-");
        if known {
            let bytes = zeroize::Zeroizing::new(origin.keys_from.read_all(&origin.keys_dir.join(&name), u64::MAX)?);
            RealMedium.write_atomic(&to.join(&name), &bytes)?;
        }
    }
    Ok(())
}

/// Takes events as a walk shows them.
struct Taker<'a> {
    keys: &'a Keys,
    segment: (PathBuf, BufWriter<File>),
    rest: (PathBuf, BufWriter<File>),
    /// Length of the segment up to the last whole batch, and up to the last event.
    whole_len: u64,
    len: u64,
    /// Number of the next event and hash of the last, and both at the last whole batch.
    next: u64,
    prev: Option<Hash>,
    whole: (u64, Option<Hash>),
    /// The ring that the log names last, and at the last whole batch.
    ring: (Option<Hash>, Option<Hash>),
    ended_by: Option<String>,
    aside: u64,
    /// A write that failed: what was taken is not what is there.
    failed: Option<StoreError>,
}

fn create(path: PathBuf) -> Result<(PathBuf, BufWriter<File>), StoreError> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = made.map_err(|error| StoreError::new(StoreOp::Open, &path, error))?;
    Ok((path, BufWriter::new(file)))
}

impl<'a> Taker<'a> {
    fn new(keys: &'a Keys, home: &Path) -> Result<Self, StoreError> {
        let ledger_id = keys.ledger_id();
        let mut segment = create(home.join("journal").join(segment::file_name(0)))?;
        let header = SegmentHeader { ledger_id, first_seq: 0, prev: genesis(ledger_id) }.encode();
        segment.1.write_all(&header).map_err(|error| StoreError::new(StoreOp::Write, &segment.0, error))?;
        let rest = create(home.join("quarantine").join("not-rebuilt.frames"))?;
        let len = header.len() as u64;
        Ok(Self {
            keys,
            segment,
            rest,
            whole_len: len,
            len,
            next: 0,
            prev: Some(genesis(ledger_id)),
            whole: (0, None),
            ring: (None, None),
            ended_by: None,
            aside: 0,
            failed: None,
        })
    }

    fn take(&mut self, frame: &Frame<'_>) {
        if self.ended_by.is_none() {
            self.ended_by = self.refusal(frame);
        }
        let (path, file) = if self.ended_by.is_none() { &mut self.segment } else { &mut self.rest };
        if let Err(error) = file.write_all(frame.bytes()) {
            self.failed.get_or_insert_with(|| StoreError::new(StoreOp::Write, path, error));
            return;
        }
        if self.ended_by.is_some() {
            self.aside += 1;
            return;
        }
        self.len += frame.bytes().len() as u64;
        self.next += 1;
        self.prev = Some(frame.hash);
        if frame.header.batch_index + 1 == frame.header.batch_len {
            self.whole_len = self.len;
            self.whole = (self.next, self.prev);
            self.ring.1 = self.ring.0;
        }
    }

    /// Why an event cannot follow those that were taken.
    fn refusal(&mut self, frame: &Frame<'_>) -> Option<String> {
        let header = &frame.header;
        if header.ledger_id != self.keys.ledger_id() {
            return Some(format!("event {} belongs to ledger {}", header.seq, header.ledger_id));
        }
        if header.seq != self.next {
            return Some(format!("event {} is missing: event {} comes next", self.next, header.seq));
        }
        if self.prev != Some(header.prev) {
            return Some(format!("event {} does not follow the one before it", header.seq));
        }
        match self.keys.entry(frame) {
            Ok(entry) => {
                self.ring.0 = bodies::ring_named(&entry.event).or(self.ring.0);
                None
            }
            // A newer program's event is kept: the program that made it opens the ledger.
            Err(Error::Codec { source, .. }) if source.is_from_the_future() => None,
            Err(error) => Some(format!("event {} does not open: {error}", header.seq)),
        }
    }

    fn finish(self) -> Result<(Rebuilt, Option<Hash>), RebuildError> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let (path, segment) = self.segment;
        let failed = |error| StoreError::new(StoreOp::Write, &path, error);
        let mut file = segment.into_inner().map_err(|error| failed(error.into_error()))?;
        let (events, last) = self.whole;
        let (true, Some(last_hash)) = (events > 0, last) else {
            let why = self.ended_by.unwrap_or_else(|| "there is no event".to_owned());
            return Err(RebuildError::NoBeginning { why });
        };
        // Events of a batch that is not whole go, too: they were never acknowledged, or cannot be shown to be.
        file.set_len(self.whole_len).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let (rest_path, rest) = self.rest;
        let rest = rest.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        rest.map_err(|error| StoreError::new(StoreOp::Write, &rest_path, error))?;
        if self.aside == 0 {
            RealMedium.remove(&rest_path)?;
        }
        let torn = self.next - events;
        let why = self.ended_by.or_else(|| (torn > 0).then(|| format!("{torn} events of a batch that is not whole")));
        let ledger_id = self.keys.ledger_id();
        Ok((Rebuilt { ledger_id, events, last_hash, aside: self.aside, ended_by: why }, self.ring.1))
    }
}
