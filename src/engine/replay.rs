//! Replay: the state as of any event, folded from the log into a store of its own.
//!
//! The fold begins at the nearest snapshot that reads to its end and whose event is in the journal, or at the
//! first event where that is asked for, or where there is no such snapshot. A snapshot is the program's own
//! work and sealed by its keys: it makes replay fast, and whoever distrusts it leaves it out.

use std::sync::Arc;

use crate::base::{LedgerId, Random, Scope, ScopePrefix, SecretName, StateRead, Timestamp};
use crate::crypto::{Hash, Key, labels};
use crate::keys::Unlocked;
use crate::log::{Journal, JournalError, Position};
use crate::projection::{Index, IndexError, Snapshot};
use crate::store::RealMedium;
use crate::vault::{self, Counters, VaultError};

use super::core::Core;
use super::error::Error;
use super::fold::{self, STATE_SCHEMA, SystemState};
use super::log_view::Entry;
use super::open::{decode_range, state_root};
use super::state_diff::{self, StateChange};

/// Which moment to replay to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayPoint {
    /// After the last event.
    Head,
    /// After the event with this number.
    Seq(u64),
    /// After the last event at or before this time.
    Time(Timestamp),
}

/// How to replay.
#[derive(Clone, Copy, Default)]
pub struct ReplayOptions<'a> {
    /// Begin at the first event, whatever snapshots there are.
    pub from_genesis: bool,
    /// Is told now and then how many events are folded, and of how many.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

impl std::fmt::Debug for ReplayOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayOptions").field("from_genesis", &self.from_genesis).finish_non_exhaustive()
    }
}

/// How often progress is told, in events.
pub(super) const TELL_EVERY: u64 = 4096;

/// A replayed state. What does not fit into memory lives in sealed temporary files that are removed when this
/// is dropped, so that memory stays bounded and nothing readable is left behind.
///
/// ```
/// # use palyra_ledger::{Config, Ledger, NewSlot, ReplayPoint, Scope, SecretBytes, PutOptions};
/// # let dir = tempfile::tempdir()?;
/// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
/// # let name = "k".parse()?;
/// let receipt = ledger.vault(Scope::global()).put(&name, &SecretBytes::from(b"v".as_slice()), PutOptions::new())?;
/// let before = ledger.replay(ReplayPoint::Seq(receipt.seq - 1))?;
/// assert_eq!(before.counters()?.secrets, 0);
/// assert_eq!(ledger.replay(ReplayPoint::Head)?.state_root()?, ledger.state_root()?);
/// # ledger.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay {
    index: Index,
    seq: u64,
    time: Timestamp,
    /// The snapshot's event, where the fold began with one.
    base: Option<u64>,
    // Dropped after the index that lives in it.
    _dir: tempfile::TempDir,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("seq", &self.seq).field("time", &self.time).finish_non_exhaustive()
    }
}

impl Replay {
    /// Folds the log up to a point, from the first event.
    pub(super) fn run(
        journal: &Journal,
        unlocked: &Unlocked,
        ledger_id: LedgerId,
        random: &dyn Random,
        point: ReplayPoint,
    ) -> Result<Self, Error> {
        let dir = scratch_dir()?;
        let key = Key::generate(random)?;
        let to = target(journal, point)?;
        let empty = (Arc::new(RealMedium) as Arc<dyn crate::store::Medium>, dir.path());
        let index = Index::scratch(empty, &key, (ledger_id, STATE_SCHEMA), None, random)?;
        let mut replay = Self { index, seq: 0, time: Timestamp::from_millis(0), base: None, _dir: dir };
        replay.fold(journal, unlocked, (0, to), None)?;
        Ok(replay)
    }

    fn fold(
        &mut self,
        journal: &Journal,
        unlocked: &Unlocked,
        (from, to): (u64, u64),
        progress: Option<&dyn Fn(u64, u64)>,
    ) -> Result<(), Error> {
        let index = &self.index;
        let mut reached = (self.seq, self.time);
        decode_range(journal, unlocked, from, to, &mut |decoded| {
            let delta = fold::apply(index, decoded.seq, decoded.time, &decoded.event)
                .map_err(|source| Error::Fold { seq: decoded.seq, source })?;
            index.apply(delta);
            reached = (decoded.seq, decoded.time);
            if let Some(tell) = progress.filter(|_| decoded.seq.is_multiple_of(TELL_EVERY)) {
                tell(decoded.seq - from, to - from + 1);
            }
            if decoded.ends_batch {
                spill(index, decoded.seq)?;
            }
            Ok(())
        })?;
        (self.seq, self.time) = reached;
        Ok(())
    }

    /// Folds the next event, and says what it changed.
    ///
    /// # Errors
    /// [`Error::NotNext`] where the event is not the next one, [`Error::Fold`] where it does not fit.
    pub fn step(&mut self, entry: &Entry) -> Result<Vec<StateChange>, Error> {
        if entry.seq != self.seq + 1 {
            return Err(Error::NotNext { seq: entry.seq, last: self.seq });
        }
        let delta = fold::apply(&self.index, entry.seq, entry.time, &entry.event)
            .map_err(|source| Error::Fold { seq: entry.seq, source })?;
        let changes = state_diff::of_delta(&self.index, &delta)?;
        self.index.apply(delta);
        spill(&self.index, entry.seq)?;
        (self.seq, self.time) = (entry.seq, entry.time);
        Ok(changes)
    }

    /// What is different in a later state.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn diff(&self, later: &Self) -> Result<Vec<StateChange>, Error> {
        Ok(state_diff::between(&self.index, &later.index)?)
    }

    /// The event of the snapshot that the fold began with; none where it began with the first event.
    #[must_use]
    pub const fn snapshot(&self) -> Option<u64> {
        self.base
    }

    /// The event after which this is the state.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// That event's time.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// The state root: BLAKE3 over a canonical encoding of all projections.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn state_root(&self) -> Result<Hash, Error> {
        state_root(&self.index)
    }

    /// The vault's totals.
    ///
    /// # Errors
    /// [`Error::Vault`].
    pub fn counters(&self) -> Result<Counters, Error> {
        Ok(vault::counters(&self.index).map_err(VaultError::from)?)
    }

    /// The ledger's own state.
    ///
    /// # Errors
    /// [`Error::Fold`].
    pub fn system(&self) -> Result<Option<SystemState>, Error> {
        fold::system(&self.index).map_err(|source| Error::Fold { seq: self.seq, source })
    }

    /// A secret's head as it was.
    ///
    /// # Errors
    /// [`Error::Vault`].
    pub fn secret(&self, scope: &Scope, name: &SecretName) -> Result<Option<vault::Head>, Error> {
        Ok(vault::find_head(&self.index, scope, name).map_err(VaultError::from)?)
    }

    /// Visits every secret of the scopes below a prefix, as they were.
    ///
    /// # Errors
    /// [`Error::Vault`].
    pub fn secrets(
        &self,
        scopes: &ScopePrefix,
        visit: &mut dyn FnMut(crate::base::SecretPath, vault::Head) -> std::ops::ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut from = vault::scope_prefix(&Scope::global());
        from.truncate(1);
        let end = crate::base::prefix_end(&from);
        vault::list_heads(&self.index, &from, &end, &mut |reference, head| {
            if reference.scope.is_within(scopes) { visit(reference, head) } else { std::ops::ControlFlow::Continue(()) }
        })
        .map_err(VaultError::from)?;
        Ok(())
    }

    /// Every key and value of the state.
    pub(super) const fn state(&self) -> &dyn StateRead {
        &self.index
    }
}

/// Writes what does not fit into memory. The position is never read back: this index is never reopened.
pub(super) fn spill(index: &Index, seq: u64) -> Result<(), Error> {
    if index.should_flush() {
        index.freeze(Position { seq, hash: Hash([0; 32]), segment: 0, offset: 0 });
        index.flush_frozen()?;
    }
    Ok(())
}

pub(super) fn scratch_dir() -> Result<tempfile::TempDir, Error> {
    let failed = |source| {
        let place = std::path::Path::new("(temporary folder)");
        crate::store::StoreError::new(crate::store::StoreOp::Folder, place, source)
    };
    Ok(tempfile::Builder::new().prefix("palyra-replay-").tempdir().map_err(failed)?)
}

/// The last event that belongs to a point.
fn target(journal: &Journal, point: ReplayPoint) -> Result<u64, Error> {
    let last = journal.last().ok_or(JournalError::Missing { seq: 0 })?.seq;
    match point {
        ReplayPoint::Head => Ok(last),
        ReplayPoint::Seq(seq) => Ok(seq.min(last)),
        ReplayPoint::Time(time) => {
            let after = super::scan::first_at(journal, time.plus_millis(1))?;
            after.checked_sub(1).ok_or(Error::BeforeFirst(time))
        }
    }
}

impl Core {
    /// The state as of a point, from the nearest snapshot that can be used.
    pub(super) fn replay(&self, point: ReplayPoint, options: ReplayOptions<'_>) -> Result<Replay, Error> {
        let unlocked = self.unlocked();
        if options.from_genesis && options.progress.is_none() {
            return Replay::run(&self.journal, &unlocked, self.ledger_id, &*self.random, point);
        }
        let to = target(&self.journal, point)?;
        let key = unlocked.ledger_key().subkey(labels::INDEX);
        let found = if options.from_genesis {
            Vec::new()
        } else {
            let owner = (self.ledger_id, STATE_SCHEMA);
            // Without any the answer is the same, only later.
            Index::snapshots(&*self.medium, &self.layout.index(), &key, owner, to).unwrap_or_default()
        };
        for snapshot in &found {
            let place = snapshot.position();
            if !self.journal.position(place.seq).is_ok_and(|known| known.hash == place.hash) {
                continue;
            }
            match self.replay_over(&key, Some(snapshot)) {
                Ok(mut replay) => {
                    replay.fold(&self.journal, &unlocked, (place.seq + 1, to), options.progress)?;
                    return Ok(replay);
                }
                Err(Error::Index(IndexError::Rebuild { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let mut replay = self.replay_over(&Key::generate(&*self.random)?, None)?;
        replay.fold(&self.journal, &unlocked, (0, to), options.progress)?;
        Ok(replay)
    }

    fn replay_over(&self, key: &Key, snapshot: Option<&Snapshot>) -> Result<Replay, Error> {
        let dir = scratch_dir()?;
        let home = self.layout.index();
        let base = snapshot.map(|snapshot| (&*self.medium, home.as_path(), snapshot));
        let scratch = (Arc::new(RealMedium) as Arc<dyn crate::store::Medium>, dir.path());
        let index = Index::scratch(scratch, key, (self.ledger_id, STATE_SCHEMA), base, &*self.random)?;
        let (seq, time) = match snapshot {
            Some(snapshot) => {
                let seq = snapshot.position().seq;
                (seq, super::scan::time_of(&self.journal, seq)?)
            }
            None => (0, Timestamp::from_millis(0)),
        };
        Ok(Replay { index, seq, time, base: snapshot.map(|snapshot| snapshot.position().seq), _dir: dir })
    }
}
