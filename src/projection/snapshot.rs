//! Snapshots: the state as it was at an event, for replay.
//!
//! A snapshot is a copy of the manifest (`snap-<event>.idx`) that keeps the runs it names from being removed
//! when they are merged. Nothing is written twice for it. It is disposable like the index: one that does not
//! read, or whose event is not in the journal, is passed over, and replay goes from the one before or from
//! the first event.
//!
//! Disk is bounded in number and in bytes. Of too many the one goes whose neighbours are closest, so that
//! those that stay are spread over the whole log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::{LedgerId, Random, limits};
use crate::crypto::Key;
use crate::log::Position;
use crate::store::{Medium, StoreError};

use super::cache::Cache;
use super::error::IndexError;
use super::manifest::{Manifest, Role, RunNote};
use super::run::Run;
use super::{Index, MANIFEST, Writing, run_name};

fn snapshot_name(seq: u64) -> String {
    format!("snap-{seq:016x}.idx")
}

/// Whether a file is a snapshot, by its name.
pub(super) fn is_one(name: &str) -> bool {
    name.starts_with("snap-")
}

/// The snapshots beside an index, by the event they stand at.
#[derive(Default)]
pub(super) struct Kept(BTreeMap<u64, Vec<RunNote>>);

impl Kept {
    /// Reads the snapshots that fit the index; the rest is nobody's.
    pub(super) fn open(medium: &dyn Medium, dir: &Path, key: &Key, live: &Manifest) -> Result<Self, IndexError> {
        let mut kept = BTreeMap::new();
        for name in medium.list(dir)?.into_iter().filter(|name| is_one(name)) {
            let found = match Manifest::read(medium, &dir.join(&name), key, Role::Snapshot) {
                Ok(found) => found,
                Err(IndexError::Rebuild { .. }) => continue,
                Err(error) => return Err(error),
            };
            let Some(position) = found.position.filter(|position| snapshot_name(position.seq) == name) else {
                continue;
            };
            // One from behind the live manifest names runs whose numbers will be given again.
            let fits = found.check(live.ledger_id, live.schema).is_ok()
                && found.index_id == live.index_id
                && found.next_run <= live.next_run;
            if fits {
                kept.insert(position.seq, found.runs);
            }
        }
        Ok(Self(kept))
    }

    /// Names of the files that the snapshots are made of.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(seq, runs)| {
            std::iter::once(snapshot_name(*seq)).chain(runs.iter().map(|run| run_name(run.number)))
        })
    }

    /// Whether a snapshot names a run.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.0.values().flatten().any(|run| run.number == number)
    }

    fn is_due(&self, seq: u64) -> bool {
        let since = match self.0.last_key_value() {
            Some((last, _)) => seq.saturating_sub(*last),
            None => seq,
        };
        since >= limits::SNAPSHOT_EVENTS_MIN && since >= seq / limits::SNAPSHOT_SPACING
    }

    /// Bytes of runs that only snapshots name.
    fn bytes_beyond(&self, live: &[Arc<Run>]) -> u64 {
        let held: BTreeMap<u64, u64> = self.0.values().flatten().map(|run| (run.number, run.bytes)).collect();
        held.iter().filter(|(number, _)| !live.iter().any(|run| run.number() == **number)).map(|(_, bytes)| bytes).sum()
    }

    /// The snapshot that is missed least: neither the first nor the last where there are others.
    fn least(&self) -> Option<u64> {
        let at: Vec<u64> = self.0.keys().copied().collect();
        let between = at.windows(3).min_by_key(|near| match near {
            [before, _, after] => after - before,
            _ => u64::MAX,
        });
        between.and_then(|near| near.get(1)).or_else(|| at.first()).copied()
    }
}

/// A snapshot that reads; whether its event is in the journal is for the caller to say.
pub struct Snapshot {
    manifest: Manifest,
    position: Position,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The event that it stands at.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }
}

impl Index {
    /// The snapshots in a folder that stand at or before an event, the nearest first; the index itself is
    /// one of them. What does not read is left out.
    ///
    /// # Errors
    /// [`IndexError::Store`] where the folder does not read.
    pub fn snapshots(
        medium: &dyn Medium,
        dir: &Path,
        key: &Key,
        (ledger_id, schema): (LedgerId, u32),
        until: u64,
    ) -> Result<Vec<Snapshot>, IndexError> {
        let mut found = Vec::new();
        for name in medium.list(dir)? {
            let role = match name.as_str() {
                MANIFEST => Role::Live,
                name if is_one(name) => Role::Snapshot,
                _ => continue,
            };
            let Ok(manifest) = Manifest::read(medium, &dir.join(&name), key, role) else { continue };
            if let Some(position) = manifest.position
                && position.seq <= until
                && manifest.check(ledger_id, schema).is_ok()
            {
                found.push(Snapshot { manifest, position });
            }
        }
        found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.position.seq));
        Ok(found)
    }

    /// An index for one replay, in a folder of its own, that begins with a snapshot or with nothing. A
    /// snapshot is read to its end first, so that damage shows here and not in an answer.
    ///
    /// # Errors
    /// [`IndexError::Rebuild`] where the snapshot is damaged or gone.
    pub fn scratch(
        (medium, dir): (Arc<dyn Medium>, &Path),
        key: &Key,
        (ledger_id, schema): (LedgerId, u32),
        base: Option<(&dyn Medium, &Path, &Snapshot)>,
        random: &dyn Random,
    ) -> Result<Self, IndexError> {
        let manifest =
            Manifest { ledger_id, index_id: random.array()?, schema, position: None, next_run: 1, runs: Vec::new() };
        let mut runs = Vec::new();
        if let Some((medium, dir, snapshot)) = base {
            // A cache of their own: run numbers here and there are not the same runs.
            let cache: Arc<Cache> = Arc::default();
            for note in &snapshot.manifest.runs {
                let path = dir.join(run_name(note.number));
                let run = Run::open(medium, &path, key, &snapshot.manifest, note, &cache)?;
                run.check_blooms()?;
                runs.push(Arc::new(run));
            }
        }
        let borrowed = runs.len();
        let mut index = Self::new((medium, dir), key, &manifest, runs, Arc::default(), None, random)?;
        index.borrowed = borrowed;
        if borrowed > 0 {
            let runs = Arc::clone(&index.read_tables().runs);
            super::merge::scan(Vec::new(), &runs, (&[], &[]), &mut |_, _| std::ops::ControlFlow::Continue(()))?;
        }
        Ok(index)
    }

    /// Keeps what was just published as a snapshot where one is due, and lets others go.
    pub(super) fn keep_snapshot(&self, writing: &mut Writing) -> Result<(), IndexError> {
        let (runs, position) = {
            let tables = self.read_tables();
            (Arc::clone(&tables.runs), tables.position)
        };
        let Some(position) = position else { return Ok(()) };
        if !writing.kept.as_ref().is_some_and(|kept| kept.is_due(position.seq)) {
            return Ok(());
        }
        let manifest = self.manifest(writing, &runs, position);
        let path = self.dir.join(snapshot_name(position.seq));
        self.medium.write_atomic(&path, &manifest.encode(&self.key, Role::Snapshot))?;
        let Some(kept) = &mut writing.kept else { return Ok(()) };
        kept.0.insert(position.seq, manifest.runs);
        let bound = limits::SNAPSHOT_BYTES + runs.iter().map(|run| run.bytes()).sum::<u64>();
        while kept.0.len() > limits::SNAPSHOTS_MAX || kept.bytes_beyond(&runs) > bound {
            let Some(seq) = kept.least() else { break };
            let Some(gone) = kept.0.remove(&seq) else { break };
            // The name first: runs that nothing names are removed at the next opening at the latest.
            remove(&*self.medium, &self.dir.join(snapshot_name(seq)))?;
            for run in gone {
                if !kept.holds(run.number) && !runs.iter().any(|live| live.number() == run.number) {
                    remove(&*self.medium, &self.dir.join(run_name(run.number)))?;
                }
            }
        }
        Ok(())
    }
}

/// Removes a file of a snapshot; somebody else may have done so, since it is disposable.
fn remove(medium: &dyn Medium, path: &Path) -> Result<(), StoreError> {
    match medium.remove(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
