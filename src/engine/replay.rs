//! Replay: the state as of any event, folded anew from the log into a store of its own.

use std::sync::Arc;

use crate::base::{LedgerId, Random, Scope, ScopePrefix, SecretName, StateRead, Timestamp};
use crate::crypto::{Hash, Key};
use crate::keys::Unlocked;
use crate::log::{Journal, Position};
use crate::projection::Index;
use crate::store::RealMedium;
use crate::vault::{self, Counters, VaultError};

use super::error::Error;
use super::fold::{self, STATE_SCHEMA, SystemState};
use super::open::{decode_range, state_root};

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

/// A replayed state. It lives in sealed temporary files under a key that is forgotten when this is
/// dropped, so that memory stays bounded and nothing readable is left behind.
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
    // Dropped after the index that lives in it.
    _dir: tempfile::TempDir,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("seq", &self.seq).field("time", &self.time).finish_non_exhaustive()
    }
}

impl Replay {
    /// Folds the log up to a point.
    pub(super) fn run(
        journal: &Journal,
        unlocked: &Unlocked,
        ledger_id: LedgerId,
        random: &dyn Random,
        point: ReplayPoint,
    ) -> Result<Self, Error> {
        let failed = |source| {
            crate::store::StoreError::new(
                crate::store::StoreOp::Folder,
                std::path::Path::new("(temporary folder)"),
                source,
            )
        };
        let dir = tempfile::Builder::new().prefix("palyra-replay-").tempdir().map_err(failed)?;
        let key = Key::generate(random)?;
        let index = Index::create(Arc::new(RealMedium), dir.path(), &key, ledger_id, STATE_SCHEMA, random)?;
        let to = match point {
            ReplayPoint::Seq(seq) => seq,
            ReplayPoint::Head | ReplayPoint::Time(_) => u64::MAX,
        };
        let mut reached: Option<(u64, Timestamp)> = None;
        let mut stopped = false;
        decode_range(journal, unlocked, 0, to, &mut |decoded| {
            stopped |= matches!(point, ReplayPoint::Time(limit) if decoded.time > limit);
            if stopped {
                return Ok(());
            }
            let delta = fold::apply(&index, decoded.seq, decoded.time, &decoded.event)
                .map_err(|source| Error::Fold { seq: decoded.seq, source })?;
            index.apply(delta);
            reached = Some((decoded.seq, decoded.time));
            if decoded.ends_batch && index.should_flush() {
                // The position is never read back: this index is never reopened.
                index.freeze(Position { seq: decoded.seq, hash: Hash([0; 32]), segment: 0, offset: 0 });
                index.flush_frozen()?;
            }
            Ok(())
        })?;
        let (seq, time) = reached.ok_or(match point {
            ReplayPoint::Time(time) => Error::BeforeFirst(time),
            ReplayPoint::Head | ReplayPoint::Seq(_) => Error::Journal(crate::log::JournalError::Missing { seq: 0 }),
        })?;
        Ok(Self { index, seq, time, _dir: dir })
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
