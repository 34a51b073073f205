//! The second copy of the log in sled 0.34.7, contained.
//!
//! What sled does by itself and what is done about it here:
//!
//! - its flush never fsyncs: [`Witness::sync`] flushes, then fsyncs every file and folder itself;
//! - its first creation is not atomic: a new log is made in a folder of its own and renamed;
//! - damage makes it panic: every call, and the drop, runs inside `catch_unwind`;
//! - damage makes it forget, without an error: [`check_tail`](super::check_tail), and the caller's
//!   own head, tell;
//! - opening overwrites what is damaged: whoever suspects a copy calls [`SledWitness::copy_aside`]
//!   before, and whoever only reads evidence opens a copy ([`SledWitness::open_copy`]);
//! - after an I/O error its iterators yield errors for ever: the first error ends everything here;
//! - values beyond a quarter of a segment per leaf go to files it never syncs: values stay small.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sled_files::{self, SLED_DIR};
use super::sled_pack::{self, Value};
use super::witness::{Inconsistency, Witness, WitnessError, WitnessOp, check_order};
use super::{Medium, RealMedium, StoreError, StoreOp};
use crate::base::limits;

/// The tree that holds the frames (stored: its name).
const EVENTS: &[u8] = b"events";
/// Files that every sled log has from its creation on.
const ALWAYS_THERE: [&str; 2] = ["conf", "db"];
/// sled treats a shorter `conf` as none and writes a new one.
const CONF_MIN: u64 = 9;
/// Longest part of a panic's message that is kept, in characters: sled prints whole trees.
const PANIC_TEXT_MAX: usize = 200;
/// sled's background work may hold the lock for a moment after its log was dropped: how often and
/// how long to wait for it.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a call of sled, whose panics are caught. A program's panic hook may
/// stay silent then; the error says what happened.
#[must_use]
pub fn inside_sled() -> bool {
    INSIDE.get()
}

/// The second copy of the log in sled 0.34.7, in `<home>/sled`.
///
/// One thread at a time. After any error or panic it is dead: every later call is
/// [`WitnessError::Dead`].
pub struct SledWitness {
    dir: PathBuf,
    handle: Option<Handle>,
    last: Option<u64>,
    health: Cell<Health>,
    evidence: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Alive,
    Failed,
    Panicked,
}

/// What a walk calls for each frame.
type VisitFrame<'a> = dyn FnMut(u64, &[u8]) -> Result<ControlFlow<()>, WitnessError> + 'a;

/// What must be dropped inside `catch_unwind`, in this order.
struct Handle {
    events: sled::Tree,
    db: sled::Db,
    /// Opened before anything is written, so that a failed write-back is reported here even if
    /// another descriptor has seen it.
    data: File,
}

impl SledWitness {
    /// Whether there is something at `<home>/sled`.
    ///
    /// # Errors
    /// [`WitnessError::Store`] where the path cannot be examined.
    pub fn present(home: &Path) -> Result<bool, WitnessError> {
        Ok(RealMedium.exists(&home.join(SLED_DIR))?)
    }

    /// Opens the log in `<home>/sled`, and removes what a crash during an earlier creation left.
    /// **This lets sled recover, which can overwrite damaged parts**: call
    /// [`SledWitness::copy_aside`] before, unless the log was closed cleanly.
    ///
    /// # Errors
    /// [`WitnessError`]: missing, in use, damaged so that sled notices, or broken down.
    pub fn open(home: &Path) -> Result<Self, WitnessError> {
        sled_files::remove_stages(home)?;
        Self::open_dir(home.join(SLED_DIR), false)
    }

    /// Makes an empty log in `<home>/sled` and opens it. A crash leaves either no log or a whole
    /// one: it is made in `<home>/sled.new-<random>`, synced, closed and renamed.
    ///
    /// # Errors
    /// [`WitnessError`]; [`WitnessError::Store`] with `AlreadyExists` where there is one.
    pub fn create(home: &Path, random: [u8; 8]) -> Result<Self, WitnessError> {
        sled_files::remove_stages(home)?;
        let dir = home.join(SLED_DIR);
        if Self::present(home)? {
            return Err(StoreError::new(StoreOp::Open, &dir, std::io::ErrorKind::AlreadyExists.into()).into());
        }
        let stage = sled_files::stage_path(home, random);
        RealMedium.create_dir(&stage)?;
        let made = contained(WitnessOp::Create, || {
            let db = config(&stage).open()?;
            db.open_tree(EVENTS)?;
            db.flush()?;
            Ok(())
        })?;
        made.map_err(failed(WitnessOp::Create))?;
        sled_files::sync_tree(&stage)?;
        RealMedium.rename(&stage, &dir)?;
        RealMedium.sync_dir(home)?;
        Self::open_dir(dir, false)
    }

    /// Reads a sled folder as evidence: copies it to `scratch`, where nothing may stand, and opens
    /// the copy. `dir` itself is only read. What sled lost when it recovered the copy is not seen.
    /// The caller removes `scratch` afterwards ([`SledWitness::remove_copy`]).
    ///
    /// # Errors
    /// [`WitnessError`] as for [`SledWitness::open`].
    pub fn open_copy(dir: &Path, scratch: &Path) -> Result<Self, WitnessError> {
        sled_files::copy_tree(dir, scratch)?;
        Self::open_dir(scratch.to_owned(), true)
    }

    /// Moves `<home>/sled` to `<home>/quarantine/<time text>-sled`, untouched, durably; returns the
    /// new path. The text (1 to 64 letters, digits and `-_:.+`) gets a number if the name is taken.
    ///
    /// # Errors
    /// [`WitnessError::Store`], or [`Inconsistency::Name`] for the text.
    pub fn set_aside(home: &Path, time_text: &str) -> Result<PathBuf, WitnessError> {
        sled_files::set_aside(home, time_text)
    }

    /// Copies `<home>/sled` byte for byte to `<home>/quarantine/<time text>-sled-copy`, durably;
    /// returns the new path. For a log that was not closed cleanly, before sled may touch it.
    ///
    /// # Errors
    /// As [`SledWitness::set_aside`].
    pub fn copy_aside(home: &Path, time_text: &str) -> Result<PathBuf, WitnessError> {
        sled_files::copy_aside(home, time_text)
    }

    /// Removes a copy that [`SledWitness::copy_aside`] or [`SledWitness::open_copy`] made, once
    /// nothing is wrong with what it was taken of.
    ///
    /// # Errors
    /// [`WitnessError::Store`].
    pub fn remove_copy(path: &Path) -> Result<(), WitnessError> {
        Ok(sled_files::remove_tree(path)?)
    }

    fn open_dir(dir: PathBuf, evidence: bool) -> Result<Self, WitnessError> {
        check_files(&dir)?;
        let data = unlocked_data(&dir)?;
        let opened = contained(WitnessOp::Open, || {
            let db = config(&dir).open()?;
            let known = db.tree_names().iter().any(|name| name == EVENTS);
            if known { Ok(Some((db.open_tree(EVENTS)?, db))) } else { Ok(None) }
        })?;
        let (events, db) = opened
            .map_err(|error: sled::Error| WitnessError::Open { path: dir.clone(), source: error.into() })?
            .ok_or(Inconsistency::NoTree)?;
        let handle = Some(Handle { events, db, data });
        let mut witness = Self { dir, handle, last: None, health: Cell::new(Health::Alive), evidence };
        witness.last = witness.find_last()?;
        Ok(witness)
    }

    /// The last whole frame. A crash may have left the first parts of a split frame behind it:
    /// those are removed, the journal brings the frame again.
    fn find_last(&self) -> Result<Option<u64>, WitnessError> {
        self.guarded(WitnessOp::Open, |handle| {
            let Some((key, value)) = handle.events.last().map_err(failed(WitnessOp::Open))? else {
                return Ok(None);
            };
            let (seq, part) = sled_pack::parse_key(&key)?;
            let total = match sled_pack::parse_value(seq, part, &value)? {
                Value::Packed(frames) => return Ok(last_of(seq, frames.len())),
                Value::Part { total, .. } => total,
            };
            if usize::from(part) + 1 == sled_pack::parts(total) {
                return Ok(Some(seq));
            }
            for torn in 0..=part {
                handle.events.remove(sled_pack::key(seq, torn)).map_err(failed(WitnessOp::Open))?;
            }
            let before = handle.events.last().map_err(failed(WitnessOp::Open))?;
            let Some((key, value)) = before else { return Ok(None) };
            let (seq, part) = sled_pack::parse_key(&key)?;
            match sled_pack::parse_value(seq, part, &value)? {
                Value::Packed(frames) => Ok(last_of(seq, frames.len())),
                Value::Part { total, .. } if usize::from(part) + 1 == sled_pack::parts(total) => Ok(Some(seq)),
                Value::Part { .. } => Err(Inconsistency::Incomplete { seq }.into()),
            }
        })
    }

    /// Runs one piece of work on sled, contained; the first failure of any kind is the last call.
    fn guarded<T>(
        &self,
        op: WitnessOp,
        work: impl FnOnce(&Handle) -> Result<T, WitnessError>,
    ) -> Result<T, WitnessError> {
        let handle = self.handle.as_ref().filter(|_| self.health.get() == Health::Alive).ok_or(WitnessError::Dead)?;
        let done = contained(op, || work(handle)).and_then(|done| done);
        done.inspect_err(|error| {
            let panicked = matches!(error, WitnessError::Panicked { .. });
            self.health.set(if panicked { Health::Panicked } else { Health::Failed });
        })
    }

    /// The entry under the largest key that may hold `seq`.
    fn entry_at(&self, seq: u64) -> Result<Option<(u64, u16, sled::IVec)>, WitnessError> {
        self.guarded(WitnessOp::Read, |handle| {
            let Some(found) = handle.events.range(..=sled_pack::key(seq, u16::MAX)).next_back() else {
                return Ok(None);
            };
            let (key, value) = found.map_err(failed(WitnessOp::Read))?;
            let (first, part) = sled_pack::parse_key(&key)?;
            Ok(Some((first, part, value)))
        })
    }

    /// Calls `visit` with the whole frames in the entries from `start` on, which is the key's
    /// sequence number of an entry.
    fn walk(&self, start: u64, to: u64, visit: &mut VisitFrame<'_>) -> Result<(), WitnessError> {
        let bounds = sled_pack::key(start, 0)..=sled_pack::key(to, u16::MAX);
        let mut entries = self.guarded(WitnessOp::Read, |handle| Ok(handle.events.range(bounds)))?;
        let mut split = Split::default();
        let mut before = None;
        loop {
            let next =
                self.guarded(WitnessOp::Read, |_| entries.next().transpose().map_err(failed(WitnessOp::Read)))?;
            let Some((key, value)) = next else { break };
            let place = self.checked(sled_pack::parse_key(&key))?;
            // Keys ascend; anything else would be an endless walk.
            if before.replace(place).is_some_and(|before| before >= place) {
                return self.checked(Err(Inconsistency::Key));
            }
            match self.checked(sled_pack::parse_value(place.0, place.1, &value))? {
                Value::Packed(frames) => {
                    self.checked(split.must_be_over())?;
                    for (seq, frame) in (place.0..).zip(frames) {
                        if visit(seq, frame)?.is_break() {
                            return Ok(());
                        }
                    }
                }
                Value::Part { total, chunk } => {
                    let whole = self.checked(split.add(place, total, chunk))?;
                    if let Some(frame) = whole
                        && visit(place.0, &frame)?.is_break()
                    {
                        return Ok(());
                    }
                }
            }
        }
        self.checked(split.must_be_over())
    }

    /// Notes a contradiction as the end of this witness.
    fn checked<T>(&self, result: Result<T, Inconsistency>) -> Result<T, WitnessError> {
        result.map_err(|error| {
            self.health.set(Health::Failed);
            error.into()
        })
    }

    /// Drops sled inside `catch_unwind`. One that panicked is leaked instead: its destructor would
    /// write buffers that nobody believes any more, and may wait for ever.
    fn shut(&mut self) -> Result<(), WitnessError> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        if self.health.get() == Health::Panicked {
            std::mem::forget(handle);
            return Ok(());
        }
        contained(WitnessOp::Close, || drop(handle))
    }

    fn barrier(&self) -> Result<(), WitnessError> {
        let data = self.dir.join("db");
        self.guarded(WitnessOp::Flush, |handle| {
            handle.db.flush().map_err(failed(WitnessOp::Flush))?;
            handle.data.sync_all().map_err(|error| StoreError::new(StoreOp::Sync, &data, error))?;
            sled_files::sync_tree(&self.dir)
        })
    }
}

impl Witness for SledWitness {
    fn last(&self) -> Result<Option<u64>, WitnessError> {
        self.guarded(WitnessOp::Read, |_| Ok(self.last))
    }

    fn append(&mut self, frames: &[(u64, &[u8])]) -> Result<(), WitnessError> {
        let Some((last, _)) = frames.last() else { return self.guarded(WitnessOp::Append, |_| Ok(())) };
        self.guarded(WitnessOp::Append, |handle| {
            if self.evidence {
                return Err(Inconsistency::ReadOnly.into());
            }
            check_order(self.last.map(|last| last + 1), frames)?;
            for entry in sled_pack::pack(frames)? {
                let (key, value) = entry?;
                // Insertion in order: a crash leaves a first part, never a hole.
                if handle.events.insert(key, value).map_err(failed(WitnessOp::Append))?.is_some() {
                    let (seq, _) = sled_pack::parse_key(&key)?;
                    return Err(Inconsistency::Taken { seq }.into());
                }
            }
            Ok(())
        })?;
        self.last = Some(*last);
        Ok(())
    }

    fn read(&self, seq: u64) -> Result<Option<Vec<u8>>, WitnessError> {
        let Some((first, part, value)) = self.entry_at(seq)? else { return Ok(None) };
        match self.checked(sled_pack::parse_value(first, part, &value))? {
            Value::Packed(frames) => {
                let index = usize::try_from(seq - first).ok();
                Ok(index.and_then(|index| frames.get(index)).map(|frame| frame.to_vec()))
            }
            Value::Part { .. } if first == seq => {
                let mut whole = None;
                self.walk(seq, seq, &mut |_, frame| {
                    whole = Some(frame.to_vec());
                    Ok(ControlFlow::Break(()))
                })?;
                Ok(whole)
            }
            Value::Part { .. } => Ok(None),
        }
    }

    fn read_range(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), WitnessError> {
        if from > to {
            return self.guarded(WitnessOp::Read, |_| Ok(()));
        }
        let start = self.entry_at(from)?.map_or(from, |(first, _, _)| first);
        let mut expected = None;
        self.walk(start, to, &mut |seq, frame| {
            let next = *expected.get_or_insert(seq.min(from));
            if seq != next {
                return self.checked(Err(Inconsistency::Gap { expected: next, found: seq }));
            }
            expected = Some(next + 1);
            if seq > to {
                return Ok(ControlFlow::Break(()));
            }
            Ok(if seq < from { ControlFlow::Continue(()) } else { visit(seq, frame) })
        })
    }

    fn sync(&mut self) -> Result<(), WitnessError> {
        if self.evidence { self.guarded(WitnessOp::Flush, |_| Ok(())) } else { self.barrier() }
    }

    fn close(mut self: Box<Self>) -> Result<(), WitnessError> {
        self.sync()?;
        self.shut()?;
        // sled's destructor may have written once more.
        if self.evidence { Ok(()) } else { sled_files::sync_tree(&self.dir) }
    }
}

impl Drop for SledWitness {
    fn drop(&mut self) {
        // Nobody can be told; the folder counts as not cleanly closed.
        let _ = self.shut();
    }
}

impl fmt::Debug for SledWitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledWitness")
            .field("dir", &self.dir)
            .field("last", &self.last)
            .field("health", &self.health.get())
            .field("evidence", &self.evidence)
            .finish_non_exhaustive()
    }
}

/// A split frame while its parts come in.
#[derive(Debug, Default)]
struct Split {
    open: Option<(u64, u16, usize, Vec<u8>)>,
}

impl Split {
    /// Takes the next part; returns the frame where it was the last one.
    fn add(&mut self, (seq, part): (u64, u16), total: usize, chunk: &[u8]) -> Result<Option<Vec<u8>>, Inconsistency> {
        let mut bytes = match self.open.take() {
            None if part == 0 => Vec::with_capacity(total),
            Some((open, next, known, bytes)) if (open, next, known) == (seq, part, total) => bytes,
            Some((open, ..)) => return Err(Inconsistency::Incomplete { seq: open }),
            None => return Err(Inconsistency::Incomplete { seq }),
        };
        bytes.extend_from_slice(chunk);
        if bytes.len() == total {
            return Ok(Some(bytes));
        }
        self.open = Some((seq, part.saturating_add(1), total, bytes));
        Ok(None)
    }

    fn must_be_over(&self) -> Result<(), Inconsistency> {
        self.open.as_ref().map_or(Ok(()), |(seq, ..)| Err(Inconsistency::Incomplete { seq: *seq }))
    }
}

fn last_of(first: u64, count: usize) -> Option<u64> {
    u64::try_from(count).ok()?.checked_sub(1)?.checked_add(first)
}

fn config(dir: &Path) -> sled::Config {
    // No background flusher (it would only log a failed sync); no compression; the mode is never
    // read by this version.
    sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(limits::SLED_CACHE_BYTES)
}

/// sled makes what is missing and calls it an empty log; here that is a finding.
fn check_files(dir: &Path) -> Result<(), WitnessError> {
    let found = sled_files::survey(dir)?;
    for name in ALWAYS_THERE {
        let path = dir.join(name);
        if !found.files.contains(&path) {
            return Err(Inconsistency::FileMissing { name }.into());
        }
    }
    let conf = dir.join("conf");
    let meta = std::fs::symlink_metadata(&conf).map_err(|error| StoreError::new(StoreOp::Read, &conf, error))?;
    if meta.len() < CONF_MIN { Err(Inconsistency::FileMissing { name: "conf" }.into()) } else { Ok(()) }
}

/// Opens sled's data file for the barrier, once nobody holds its lock.
fn unlocked_data(dir: &Path) -> Result<File, WitnessError> {
    let path = dir.join("db");
    let data = sled_files::open_no_follow(&path).map_err(|error| StoreError::new(StoreOp::Open, &path, error))?;
    for _ in 0..LOCK_TRIES {
        match data.try_lock() {
            Ok(()) => {
                data.unlock().map_err(|error| StoreError::new(StoreOp::Open, &path, error))?;
                return Ok(data);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(StoreError::new(StoreOp::Open, &path, error).into()),
        }
    }
    Err(WitnessError::Locked { path: dir.to_owned() })
}

fn failed(op: WitnessOp) -> impl FnOnce(sled::Error) -> WitnessError {
    move |error| {
        let source: Box<dyn Error + Send + Sync> = error.into();
        WitnessError::Engine { op, source }
    }
}

/// Runs `work`; a panic in it becomes an error.
fn contained<T>(op: WitnessOp, work: impl FnOnce() -> T) -> Result<T, WitnessError> {
    struct Inside(bool);
    impl Drop for Inside {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _inside = Inside(INSIDE.replace(true));
    // Whatever sled leaves half-done is never used again: the witness is dead after this.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| WitnessError::Panicked { op, what: panic_text(&*payload) })
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").chars().take(PANIC_TEXT_MAX).collect()
}

#[cfg(test)]
#[path = "sled_witness_tests.rs"]
mod tests;
