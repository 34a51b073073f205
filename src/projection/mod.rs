//! The projection's home: a sealed, disposable, ordered map on disk.
//!
//! An [`Index`] holds the state that the log folds into. It is never the truth: anything wrong with it
//! is [`IndexError::Rebuild`], and the engine folds the log anew. That is why it may be simple: a memory
//! table, and immutable sorted runs (`run-<number>.idx`), each written once, from first key to last, as
//! a static B+tree of sealed blocks with a Bloom filter, and merged as they grow in number. A small
//! manifest, replaced atomically, names the runs and the event up to which they are folded.
//!
//! Why not sled, which the ledger carries anyway: sled keeps one process out of another's way by a
//! lock, reads its whole log at opening, and shows names in the clear. Reading processes here share
//! the files, open in a millisecond at a million secrets, and everything that holds a name is sealed.
//!
//! | a crash during | leaves |
//! |---|---|
//! | writing a run | a file that no manifest names; the next writer removes it |
//! | replacing the manifest | the old one or the new one, and both name whole runs |
//! | removing merged runs | files that no manifest names |
//!
//! Since runs never change, a copy of the manifest is the state as it was, for the price of the runs that
//! merging would otherwise remove: see [`Snapshot`].

mod block;
mod bloom;
mod build;
mod cache;
mod cursor;
mod error;
mod manifest;
mod memtable;
mod merge;
mod run;
mod snapshot;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::base::{Change, Delta, LedgerId, Random, StateError, StateRead, Visit, limits};
use crate::crypto::{Key, keyed_hash, labels};
use crate::log::Position;
use crate::store::{Medium, StoreError};

pub use error::{IndexError, RebuildReason};
pub use manifest::VERSION as FORMAT_VERSION;

use build::Builder;
use cache::Cache;
use manifest::{Manifest, Role, RunNote};
use memtable::{Frozen, Memtable};
use run::{KeyHash, Run};
use snapshot::Kept;
pub use snapshot::Snapshot;

const MANIFEST: &str = "MANIFEST";
/// How often a reader takes another look at the manifest when a run it names was merged away.
const READER_TRIES: u32 = 8;

/// Whether an index is opened to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexMode {
    /// For reading, beside other processes that read.
    Read,
    /// For reading and writing.
    Write,
}

/// A sealed ordered map of bytes: see the module's documentation.
pub struct Index {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    key: Key,
    /// Hashes keys for the Bloom filters.
    hash_key: Key,
    ledger_id: LedgerId,
    schema: u32,
    cache: Arc<Cache>,
    tables: RwLock<Tables>,
    /// Oldest runs that belong to another index: they are read and never merged.
    borrowed: usize,
    /// Held while runs are written.
    writing: Mutex<Writing>,
}

struct Tables {
    mem: Memtable,
    frozen: Option<Arc<Frozen>>,
    /// Newest first.
    runs: Arc<Vec<Arc<Run>>>,
    position: Option<Position>,
}

struct Writing {
    index_id: [u8; 16],
    run_id: run::RunId,
    next_run: u64,
    /// Snapshots; none where the index is not there to stay.
    kept: Option<Kept>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn run_name(number: u64) -> String {
    format!("run-{number:016x}.idx")
}

/// Whether a file in the folder is the index's own.
fn is_ours(name: &str) -> bool {
    name.starts_with(MANIFEST) || snapshot::is_one(name) || (name.starts_with("run-") && name.ends_with(".idx"))
}

impl Index {
    fn new(
        (medium, dir): (Arc<dyn Medium>, &Path),
        key: &Key,
        manifest: &Manifest,
        runs: Vec<Arc<Run>>,
        cache: Arc<Cache>,
        kept: Option<Kept>,
        random: &dyn Random,
    ) -> Result<Self, IndexError> {
        let key = Key::from_slice(key.expose()).ok_or(RebuildReason::Damaged)?;
        let tables =
            Tables { mem: Memtable::default(), frozen: None, runs: Arc::new(runs), position: manifest.position };
        Ok(Self {
            medium,
            dir: dir.to_owned(),
            hash_key: key.subkey(labels::INDEX_HASH),
            key,
            ledger_id: manifest.ledger_id,
            schema: manifest.schema,
            cache,
            tables: RwLock::new(tables),
            borrowed: 0,
            writing: Mutex::new(Writing {
                index_id: manifest.index_id,
                run_id: random.array()?,
                next_run: manifest.next_run,
                kept,
            }),
        })
    }

    /// Makes an empty index in an existing folder, with a manifest that says so.
    ///
    /// # Errors
    /// [`IndexError::Store`] or [`IndexError::Random`].
    pub fn create(
        medium: Arc<dyn Medium>,
        dir: &Path,
        key: &Key,
        ledger_id: LedgerId,
        schema: u32,
        random: &dyn Random,
    ) -> Result<Self, IndexError> {
        let index_id = random.array()?;
        let manifest = Manifest { ledger_id, index_id, schema, position: None, next_run: 1, runs: Vec::new() };
        medium.write_atomic(&dir.join(MANIFEST), &manifest.encode(key, Role::Live))?;
        Self::new((medium, dir), key, &manifest, Vec::new(), Arc::default(), Some(Kept::default()), random)
    }

    /// Opens an index; returns it with the event up to which it is folded.
    ///
    /// # Errors
    /// [`IndexError::Rebuild`] where it is missing, damaged, another ledger's or of another schema.
    pub fn open(
        medium: Arc<dyn Medium>,
        dir: &Path,
        key: &Key,
        ledger_id: LedgerId,
        schema: u32,
        mode: IndexMode,
        random: &dyn Random,
    ) -> Result<(Self, Option<Position>), IndexError> {
        let cache: Arc<Cache> = Arc::default();
        let mut tries = 0;
        let (manifest, runs) = loop {
            tries += 1;
            let manifest = Manifest::read(&*medium, &dir.join(MANIFEST), key, Role::Live)?;
            manifest.check(ledger_id, schema)?;
            let opened: Result<Vec<_>, IndexError> = manifest
                .runs
                .iter()
                .map(|note| Run::open(&*medium, &dir.join(run_name(note.number)), key, &manifest, note, &cache))
                .collect();
            match opened {
                Ok(runs) => break (manifest, runs),
                // The writer merged it away between the manifest and here.
                Err(IndexError::Rebuild { reason: RebuildReason::RunMissing })
                    if mode == IndexMode::Read && tries < READER_TRIES => {}
                Err(error) => return Err(error),
            }
        };
        let kept = if mode == IndexMode::Write {
            let kept = Kept::open(&*medium, dir, key, &manifest)?;
            sweep(&*medium, dir, &manifest, &kept)?;
            Some(kept)
        } else {
            None
        };
        let position = manifest.position;
        let runs = runs.into_iter().map(Arc::new).collect();
        Ok((Self::new((medium, dir), key, &manifest, runs, cache, kept, random)?, position))
    }

    /// Removes an index's files, and nothing else that stands in the folder.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn discard(medium: &dyn Medium, dir: &Path) -> Result<(), StoreError> {
        if !medium.exists(dir)? {
            return Ok(());
        }
        // The manifest goes first: runs that it does not name are nobody's.
        let mut names: Vec<String> = medium.list(dir)?.into_iter().filter(|name| is_ours(name)).collect();
        names.sort_by_key(|name| !name.starts_with(MANIFEST));
        for name in names {
            medium.remove(&dir.join(name))?;
        }
        medium.sync_dir(dir)
    }

    fn read_tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_tables(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the map, in memory.
    pub fn apply(&self, delta: Delta) {
        self.write_tables().mem.apply(delta);
    }

    /// Sets the changes so far apart, to be written: they fold everything up to `position`.
    pub fn freeze(&self, position: Position) {
        let mut tables = self.write_tables();
        let mem = std::mem::take(&mut tables.mem);
        let frozen = match tables.frozen.take() {
            // A write of the older ones may be under way: it goes on with its own copy.
            Some(older) => Frozen::over(&older, mem, position),
            None => Frozen::new(mem, position),
        };
        tables.frozen = Some(Arc::new(frozen));
    }

    /// Whether the changes in memory should be set apart and written.
    #[must_use]
    pub fn should_flush(&self) -> bool {
        self.read_tables().mem.is_full()
    }

    /// The event up to which the files are folded.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.read_tables().position
    }

    /// Writes what was set apart as a run, durably, then merges runs as needed. Reading and changing go
    /// on meanwhile.
    ///
    /// # Errors
    /// [`IndexError::Store`]; everything stays readable from memory.
    pub fn flush_frozen(&self) -> Result<(), IndexError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (frozen, runs) = {
            let tables = self.read_tables();
            let Some(frozen) = tables.frozen.clone() else { return Ok(()) };
            (frozen, Arc::clone(&tables.runs))
        };
        let mut runs = runs.to_vec();
        if !frozen.is_empty() {
            let oldest = runs.is_empty();
            let mut builder = self.builder(&mut writing, frozen.len())?;
            for (key, value) in frozen.iter() {
                // Nothing older can be hidden by a tombstone in the first run.
                if value.is_some() || !oldest {
                    builder.add(key, value, self.hash(key))?;
                }
            }
            runs.insert(0, Arc::new(builder.finish()?));
            self.medium.sync_dir(&self.dir)?;
        }
        self.publish(&writing, &runs, frozen.position())?;
        {
            let mut tables = self.write_tables();
            tables.runs = Arc::new(runs);
            tables.position = Some(frozen.position());
            if tables.frozen.as_ref().is_some_and(|now| Arc::ptr_eq(now, &frozen)) {
                tables.frozen = None;
            }
        }
        self.keep_snapshot(&mut writing)?;
        self.merge_runs(&mut writing)
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash::new(&keyed_hash(&self.hash_key, &[key]))
    }

    fn builder(&self, writing: &mut Writing, entries: usize) -> Result<Builder, IndexError> {
        let number = writing.next_run;
        writing.next_run += 1;
        let opener = run::opener(&self.key, &writing.index_id, number, &writing.run_id);
        let path = self.dir.join(run_name(number));
        Ok(Builder::new(&*self.medium, &path, (number, writing.run_id), opener, Arc::clone(&self.cache), entries)?)
    }

    fn manifest(&self, writing: &Writing, runs: &[Arc<Run>], position: Position) -> Manifest {
        Manifest {
            ledger_id: self.ledger_id,
            index_id: writing.index_id,
            schema: self.schema,
            position: Some(position),
            next_run: writing.next_run,
            runs: runs.iter().map(|run| RunNote { number: run.number(), bytes: run.bytes() }).collect(),
        }
    }

    /// Names the runs in a new manifest, durably. An index that is never opened again has none.
    fn publish(&self, writing: &Writing, runs: &[Arc<Run>], position: Position) -> Result<(), IndexError> {
        if writing.kept.is_none() {
            return Ok(());
        }
        let manifest = self.manifest(writing, runs, position);
        Ok(self.medium.write_atomic(&self.dir.join(MANIFEST), &manifest.encode(&self.key, Role::Live))?)
    }

    /// Merges neighbouring runs until none need it.
    fn merge_runs(&self, writing: &mut Writing) -> Result<(), IndexError> {
        loop {
            let (runs, position) = {
                let tables = self.read_tables();
                (Arc::clone(&tables.runs), tables.position)
            };
            let own = runs.len().saturating_sub(self.borrowed);
            let sizes: Vec<u64> = runs.iter().take(own).map(|run| run.bytes()).collect();
            let (Some(range), Some(position)) = (merge::choose(&sizes), position) else { return Ok(()) };
            let inputs = runs.get(range.clone()).unwrap_or_default();
            let entries = inputs.iter().map(|run| run.entries()).sum::<u64>();
            let mut builder = self.builder(writing, usize::try_from(entries).unwrap_or(usize::MAX))?;
            let oldest = range.end == runs.len();
            merge::into(inputs, oldest, &mut |key, value| builder.add(key, value, self.hash(key)))?;
            let merged = Arc::new(builder.finish()?);
            self.medium.sync_dir(&self.dir)?;
            let mut left = runs.to_vec();
            left.splice(range.clone(), [merged]);
            self.publish(writing, &left, position)?;
            self.write_tables().runs = Arc::new(left);
            // Durably unnamed: whoever has them open keeps them; nobody else needs them.
            for run in inputs {
                if writing.kept.as_ref().is_some_and(|kept| kept.holds(run.number())) {
                    continue;
                }
                self.medium.remove(&self.dir.join(run_name(run.number())))?;
            }
        }
    }
}

/// Removes runs that no manifest names.
fn sweep(medium: &dyn Medium, dir: &Path, manifest: &Manifest, kept: &Kept) -> Result<(), StoreError> {
    let mut named: Vec<String> = manifest.runs.iter().map(|note| run_name(note.number)).collect();
    named.extend(kept.names());
    for name in medium.list(dir)? {
        if is_ours(&name) && name != MANIFEST && !named.contains(&name) {
            medium.remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Format version and state schema as the manifest in a folder names them in the clear, authentic or not.
#[must_use]
pub fn stored_version(medium: &dyn Medium, dir: &Path) -> Option<(u16, u32)> {
    manifest::stored_version(&medium.read_all(&dir.join(MANIFEST), manifest::BYTES_MAX).ok()?)
}

fn state_error(error: IndexError) -> StateError {
    StateError(Box::new(error))
}

/// The map as it was at one moment, whatever was changed since. It keeps what it needs open.
pub struct Moment {
    memory: Vec<Vec<Change>>,
    runs: Arc<Vec<Arc<Run>>>,
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment").finish_non_exhaustive()
    }
}

impl Moment {
    /// Visits every key and value in order.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn visit(self, visit: &mut Visit<'_>) -> Result<(), StateError> {
        merge::scan(self.memory, &self.runs, (&[], &[]), visit).map_err(state_error)
    }
}

impl Index {
    /// The map as it is now. Costs a copy of what is in memory.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let tables = self.read_tables();
        let frozen = tables.frozen.as_ref().map(|frozen| frozen.range(&[], &[]));
        Moment { memory: vec![tables.mem.range(&[], &[]), frozen.unwrap_or_default()], runs: Arc::clone(&tables.runs) }
    }
}

impl StateRead for Index {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let runs = {
            let tables = self.read_tables();
            if let Some(value) = tables.mem.get(key) {
                return Ok(value.map(<[u8]>::to_vec));
            }
            if let Some(value) = tables.frozen.as_ref().and_then(|frozen| frozen.get(key)) {
                return Ok(value.map(<[u8]>::to_vec));
            }
            Arc::clone(&tables.runs)
        };
        let hash = self.hash(key);
        for run in runs.iter() {
            if let Some(value) = run.get(key, hash).map_err(state_error)? {
                return Ok(value);
            }
        }
        Ok(None)
    }

    /// Sees the map as it is when called, whatever is changed meanwhile; holds no lock while visiting.
    fn scan(&self, from: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        let (mem, frozen, runs) = {
            let tables = self.read_tables();
            (tables.mem.range(from, end), tables.frozen.clone(), Arc::clone(&tables.runs))
        };
        let frozen = frozen.map(|frozen| frozen.range(from, end)).unwrap_or_default();
        merge::scan(vec![mem, frozen], &runs, (from, end), visit).map_err(state_error)
    }
}

/// The bounds of the map that the documents promise; a longer key or value is a defect of the caller.
const _: () = assert!(limits::INDEX_KEY_MAX < limits::INDEX_VALUE_MAX);
