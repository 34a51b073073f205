//! The library's front door.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{BackendKind, Caller, KeyedPrint, LedgerId, Scope, ScopePrefix, SecretBytes, SecretPath, SlotId};
use crate::checkpoint::{Fit, VerifierKey};
use crate::crypto::Hash;
use crate::event::system::EpochCause;
use crate::inspect::Report;
use crate::keys::{KeySlot, NewSlot};
use crate::log::Head;
use crate::vault::{self, VaultError};

use super::anchor_places::at_hand;
use super::anchors::AnchorStatus;
use super::auth_handle::Auth;
use super::background::{Background, Follower};
use super::checkpoints::Checkpointed;
use super::config::{Config, Settings};
use super::core::Core;
use super::error::Error;
use super::export::Exports;
use super::fold::{self, SystemState};
use super::history::{self, BranchRecord, LastCheckpoint};
use super::identity_handle::Identity;
use super::import::Imports;
use super::log_view::LogView;
use super::migrate::Backends;
use super::open::{self, state_root};
use super::replay::{Replay, ReplayOptions, ReplayPoint};
use super::resolutions::Resolutions;
use super::restore::Restored;
use super::vault_handle::{ListOptions, SecretInfo, Vault};
use super::verify::VerifyOptions;

/// An open ledger.
///
/// One process at a time may have it open for writing; it is `Send + Sync` and all its handles may be
/// used from many threads. Writes block until they are durable; from async code, call them on a blocking
/// thread:
///
/// ```
/// # use palyra_ledger::{Config, Ledger, NewSlot, PutOptions, Scope, SecretBytes};
/// # use std::sync::Arc;
/// # let dir = tempfile::tempdir()?;
/// let ledger = Arc::new(Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?);
/// // In an async runtime this would be `tokio::task::spawn_blocking(move || ...).await`.
/// let shared = Arc::clone(&ledger);
/// let receipt = std::thread::spawn(move || {
///     let name = "token".parse().map_err(|_| "name")?;
///     shared.vault(Scope::global())
///         .put(&name, &SecretBytes::from(b"t".as_slice()), PutOptions::new())
///         .map_err(|_| "put")
/// }).join().map_err(|_| "thread")??;
/// assert_eq!(receipt.version, 1);
/// ledger.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping a ledger closes it, but cannot say what failed; call [`Ledger::close`].
pub struct Ledger {
    core: Arc<Core>,
    caller: Caller,
    background: Mutex<Background>,
    at_open: Option<Head>,
    threads: bool,
    /// Another handle closes it.
    borrowed: bool,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("home", &self.core.layout.home)
            .field("id", &self.core.ledger_id)
            .finish_non_exhaustive()
    }
}

/// Facts about an open ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Its own state.
    pub system: SystemState,
    /// The vault's totals.
    pub counters: vault::Counters,
    /// Settings in force.
    pub settings: Settings,
}

impl Ledger {
    /// Makes a new ledger and opens it. The home must not exist, or be an empty folder.
    ///
    /// # Errors
    /// [`Error::HomeTaken`] where something is there; otherwise what failed. On an error there is no
    /// home, or it is still empty.
    pub fn init(config: Config, first: NewSlot) -> Result<Self, Error> {
        let credential = first.credential();
        super::init::init(&config, &first)?;
        Self::open(config.credential(credential))
    }

    /// Makes a new ledger whose envelopes another backend keeps than the log, and opens it.
    ///
    /// # Errors
    /// As [`Ledger::init`]; [`Error::Backend`] where that backend cannot be used: there is no home then.
    pub fn init_on(config: Config, first: NewSlot, backend: BackendKind) -> Result<Self, Error> {
        super::outside::check(&config, backend)?;
        let ledger = Self::init(config, first)?;
        if backend != BackendKind::Ledger {
            ledger.backends().migrate(backend, &mut |_, _| {})?;
        }
        Ok(ledger)
    }

    /// Opens a ledger.
    ///
    /// # Errors
    /// [`Error::NoLedger`], [`Error::Lock`], [`Error::Truncated`], [`Error::HeadDiffers`], and what
    /// else failed.
    pub fn open(config: Config) -> Result<Self, Error> {
        let opened = open::open(&config)?;
        let threads = config.background && !config.read_only;
        let background = if threads { Background::start(&opened.core, opened.head)? } else { Background::default() };
        Ok(Self {
            core: opened.core,
            caller: config.caller,
            background: Mutex::new(background),
            at_open: opened.head,
            threads,
            borrowed: false,
        })
    }

    /// The same open ledger for another caller, as a daemon lends it to a client. Closing or dropping this
    /// handle closes nothing; when the one that it came from closes, it refuses every call.
    #[must_use]
    pub fn on_behalf_of(&self, caller: Caller) -> Self {
        Self {
            core: Arc::clone(&self.core),
            caller,
            background: Mutex::default(),
            at_open: None,
            threads: false,
            borrowed: true,
        }
    }

    pub(super) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The ledger's id.
    #[must_use]
    pub fn id(&self) -> LedgerId {
        self.core.ledger_id
    }

    /// One scope's secrets, for the caller in the configuration.
    #[must_use]
    pub fn vault(&self, scope: Scope) -> Vault {
        Vault::new(Arc::clone(&self.core), scope, self.caller.clone())
    }

    /// Lists secrets of every scope below a prefix: for administration, not for a scope's own code.
    ///
    /// # Errors
    /// [`Error::Vault`] where the state cannot be read.
    pub fn list(&self, scopes: &ScopePrefix, options: &ListOptions) -> Result<Vec<SecretInfo>, Error> {
        self.core.list(scopes, options)
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> LogView {
        LogView::new(Arc::clone(&self.core))
    }

    /// Service credentials: profiles, refresh, selection.
    #[must_use]
    pub fn auth(&self) -> Auth {
        Auth::new(Arc::clone(&self.core), self.caller.clone())
    }

    /// The record of resolved references, for the caller in the configuration.
    #[must_use]
    pub fn resolutions(&self) -> Resolutions {
        Resolutions::new(Arc::clone(&self.core), self.caller.clone())
    }

    /// Devices, pairing, certificates and the CA.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { core: Arc::clone(&self.core), caller: self.caller.clone() }
    }

    /// Administration of keys.
    #[must_use]
    pub fn keys(&self) -> KeyAdmin {
        KeyAdmin { core: Arc::clone(&self.core), caller: self.caller.clone() }
    }

    /// Verifies the log, and more as asked; damage is a finding, not an error.
    ///
    /// # Errors
    /// What stood in the way of verifying.
    ///
    /// ```
    /// # use palyra_ledger::{Config, Ledger, NewSlot, VerifyOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
    /// let report = ledger.verify(VerifyOptions { state: true, witness: false })?;
    /// assert!(report.ok, "{:?}", report.findings);
    /// # ledger.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self, options: VerifyOptions) -> Result<Report, Error> {
        self.verify_with(options, &|_, _| {})
    }

    /// As [`Ledger::verify`], telling now and then how many events of how many were looked at; with
    /// [`VerifyOptions::state`] each counts twice, because it is folded too.
    ///
    /// # Errors
    /// As [`Ledger::verify`].
    pub fn verify_with(&self, options: VerifyOptions, progress: &dyn Fn(u64, u64)) -> Result<Report, Error> {
        self.core.verify(options, progress)
    }

    /// Verifies that the storage backend holds every envelope that the log knows, and adds what is wrong to a
    /// report.
    ///
    /// # Errors
    /// [`Error::Backend`] where the backend is locked or cannot be reached, and what else stood in the way.
    pub fn verify_backend(&self, report: &mut Report) -> Result<(), Error> {
        self.core.verify_backend(report)
    }

    /// The storage backends: where envelopes are, and moving them.
    ///
    /// ```
    /// # use palyra_ledger::{BackendKind, Config, Ledger, NewSlot};
    /// # let dir = tempfile::tempdir()?;
    /// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
    /// ledger.backends().migrate(BackendKind::EncryptedFile, &mut |_, _| {})?;
    /// assert_eq!(ledger.backends().state()?.kind, BackendKind::EncryptedFile);
    /// # ledger.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn backends(&self) -> Backends {
        Backends::new(Arc::clone(&self.core), self.caller.clone())
    }

    /// Importing what other stores hold, in one recorded act; [`crate::import`] reads them.
    #[must_use]
    pub fn imports(&self) -> Imports {
        Imports::new(Arc::clone(&self.core), self.caller.clone())
    }

    /// Giving out everything at once, for whoever leaves or moves.
    #[must_use]
    pub fn exports(&self) -> Exports {
        Exports::new(Arc::clone(&self.core), self.caller.clone())
    }

    /// The system's keystore, for reading what another store keeps there.
    #[must_use]
    pub fn keystore(&self) -> Arc<dyn crate::platform::Keystore> {
        Arc::clone(&self.core.outside.keystore)
    }

    /// The state as of a point, folded anew from the log.
    ///
    /// # Errors
    /// What stood in the way, for example [`Error::BeforeFirst`].
    pub fn replay(&self, point: ReplayPoint) -> Result<Replay, Error> {
        Replay::run(&self.core.journal, &self.core.unlocked(), self.core.ledger_id, &*self.core.random, point)
    }

    /// The state as of a point, from the nearest snapshot that reads to its end; see [`Replay::snapshot`].
    ///
    /// # Errors
    /// As [`Ledger::replay`].
    pub fn replay_with(&self, point: ReplayPoint, options: ReplayOptions<'_>) -> Result<Replay, Error> {
        self.core.replay(point, options)
    }

    /// A keyed fingerprint of a version's value: equal values have equal ones. Nothing where the version was
    /// shredded or its key is gone. It shows no value, and is no read of one.
    ///
    /// # Errors
    /// [`Error::Envelope`] or [`Error::Journal`] where the version was damaged.
    pub fn value_fingerprint(&self, target: &SecretPath, version: u32) -> Result<Option<KeyedPrint>, Error> {
        self.core.value_fingerprint(target, version)
    }

    /// The root of the live state.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn state_root(&self) -> Result<Hash, Error> {
        state_root(&self.core.index)
    }

    /// Signs a checkpoint of everything so far and puts it to the anchors. Where the last one covers all but its
    /// own record, that one is put to anchors which lack it.
    ///
    /// # Errors
    /// As a write. An anchor that could not be written is none: see [`Checkpointed::anchors`].
    ///
    /// ```
    /// # use palyra_ledger::{Config, Ledger, NewSlot};
    /// # let dir = tempfile::tempdir()?;
    /// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
    /// let made = ledger.checkpoint()?;
    /// assert_eq!(made.signed.checkpoint().size, 1);
    /// assert_eq!(made.signed.checkpoint().verifier(), ledger.checkpoint_key()?);
    /// # ledger.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self) -> Result<Checkpointed, Error> {
        let made = self.core.checkpoint_now(&self.caller)?;
        made.ok_or(Error::Journal(crate::log::JournalError::Missing { seq: 0 }))
    }

    /// The public key of this ledger's checkpoints, under its name.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn checkpoint_key(&self) -> Result<VerifierKey, Error> {
        self.core.checkpoint_key()
    }

    /// The last checkpoint, as the state has it.
    ///
    /// # Errors
    /// [`Error::Fold`].
    pub fn last_checkpoint(&self) -> Result<Option<LastCheckpoint>, Error> {
        history::last(&self.core.index).map_err(|source| Error::Fold { seq: 0, source })
    }

    /// Where history began anew on purpose, the oldest first.
    ///
    /// # Errors
    /// [`Error::Fold`].
    pub fn branches(&self) -> Result<Vec<BranchRecord>, Error> {
        history::branches(&self.core.index).map_err(|source| Error::Fold { seq: 0, source })
    }

    /// Every anchor that the settings or the log name, what it holds now and how that stands to the log.
    ///
    /// # Errors
    /// [`Error::Fold`].
    pub fn anchors(&self) -> Result<Vec<AnchorStatus>, Error> {
        self.core.anchors()
    }

    /// Compares a note that somebody outside kept, for example a device, with the log. What does not fit is
    /// recorded under the anchor's name.
    ///
    /// # Errors
    /// As a write.
    pub fn compare_note(&self, anchor: &str, note: &[u8]) -> Result<AnchorStatus, Error> {
        self.core.compare_note(anchor, note)
    }

    /// How the newest checkpoint of an anchor's bytes stands to the log; nothing is recorded.
    ///
    /// # Errors
    /// [`Error::Note`] where it is no checkpoint of this ledger, [`Error::Fold`].
    pub fn fit(&self, notes: &[u8]) -> Result<Fit, Error> {
        self.core.fit(at_hand(notes, &self.core.checkpoint_key()?)?.checkpoint())
    }

    /// Records that somebody outside keeps checkpoints from now on; once for each name.
    ///
    /// # Errors
    /// As a write.
    pub fn record_anchor(&self, anchor: &str, size: u64) -> Result<(), Error> {
        self.core.record_placed(anchor, size)
    }

    /// Opens an older copy that was put back on purpose. The first event behind it says so, and a checkpoint of the
    /// new branch goes to the anchors, which know of the given-up events. What devices showed, and a
    /// [`Config::rollback_note`] at hand, is given up as well.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn start_branch(config: Config) -> Result<Self, Error> {
        let ledger = Self::open(config.accept_rollback())?;
        ledger.checkpoint()?;
        Ok(ledger)
    }

    /// Facts about the ledger.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn status(&self) -> Result<Status, Error> {
        let head = self.log().head()?;
        let system = fold::system(&self.core.index).map_err(|source| Error::Fold { seq: head.seq, source })?;
        Ok(Status {
            ledger_id: self.core.ledger_id,
            system: system.ok_or(Error::Fold { seq: 0, source: fold::FoldError::Creation })?,
            counters: vault::counters(&self.core.index).map_err(VaultError::from)?,
            settings: self.core.settings.clone(),
        })
    }

    /// Records the reads that wait, without closing.
    ///
    /// # Errors
    /// As a write.
    pub fn flush_reads(&self) -> Result<(), Error> {
        if self.core.read_only { Ok(()) } else { self.core.record_reads() }
    }

    /// Verifies a ledger without opening it and without keys: the journal, the head file's records, and
    /// what the sled copy holds of whatever is damaged. For ledgers that do not open.
    ///
    /// # Errors
    /// What stood in the way of looking.
    pub fn examine(config: &Config) -> Result<Report, Error> {
        super::restore::examine(config)
    }

    /// Opens a damaged ledger for writing, on a person's word: frames that are damaged in the journal are
    /// restored from the sled copy first. Everything that was done is recorded as events, and what was
    /// damaged is kept in the quarantine folder. With [`Config::accept_head`] a journal that ends too
    /// early is taken as it is.
    ///
    /// # Errors
    /// [`Error::NoWitness`] where the sled copy does not hold what is missing; nothing was changed then,
    /// or as [`Ledger::open`].
    pub fn repair(config: Config) -> Result<(Self, Vec<Restored>), Error> {
        let restored = open::repair(&config)?;
        let ledger = Self::open(config)?;
        for range in &restored {
            let event = range.event();
            ledger.core.execute(&ledger.caller, |_, _| Ok::<_, Error>((vec![event], ())))?;
        }
        Ok((ledger, restored))
    }

    /// Closes: records waiting reads, writes the index and the head file, follows into sled and closes
    /// it, and releases the home. Handles that are still around refuse every call from then on. A second
    /// call does nothing.
    ///
    /// # Errors
    /// The first thing that failed; what was acknowledged is durable all the same.
    pub fn close(&self) -> Result<(), Error> {
        if self.borrowed || self.core.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let done = if self.core.read_only { Ok(()) } else { self.finish() };
        self.core.closed.store(true, Ordering::Release);
        // Whoever waits for the home gets it, even if handles of this ledger are still around.
        drop(self.core.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        done
    }

    /// Whether the ledger takes writes. After a fault of its storage it takes none until it is opened anew.
    ///
    /// # Errors
    /// [`Error::Dead`] with the first fault, [`Error::Closed`] after a close.
    pub fn alive(&self) -> Result<(), Error> {
        self.core.open_still()?;
        self.core.alive()
    }

    fn finish(&self) -> Result<(), Error> {
        if let Some(registry) = self.core.registry.get() {
            registry.seal();
        }
        let recorded = self.core.record_reads().and(self.core.record_usage());
        // Before the second copy and the head file follow: they are to hold it, too.
        let signed = self.core.checkpoint_if_due(true);
        if self.threads {
            self.core.signal.stop();
            self.background.lock().unwrap_or_else(PoisonError::into_inner).join();
        } else if self.core.witness {
            Follower::new(&self.core, self.at_open).finish();
        }
        recorded?;
        self.core.alive()?;
        signed?;
        if !self.core.witness {
            self.core.guard(self.core.write_head_at_close())?;
        }
        self.core.guard(self.core.settle_index_at_close())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Nobody is left to be told; the next opening mends what is left.
        let _ = self.close();
    }
}

impl Core {
    fn write_head_at_close(&self) -> Result<(), Error> {
        if let (Some((file, key)), Some(last)) = (&self.head, self.journal.last()) {
            let time = self.clock.now().max(last.time);
            file.write(key, &Head { seq: last.seq, hash: last.hash, time, witness_clean: false, witness_next: 0 })?;
        }
        Ok(())
    }

    fn settle_index_at_close(&self) -> Result<(), Error> {
        let visible = self.visible.load(Ordering::Acquire);
        let folded = self.index.position().map_or(0, |position| position.seq + 1);
        if visible.saturating_sub(folded) > crate::base::limits::INDEX_TAIL_AT_CLOSE {
            self.flush_index()?;
        }
        self.journal.save_offsets();
        self.journal.trim()?;
        Ok(())
    }
}

/// Adds, removes and rotates keys; every change is an event.
#[derive(Clone)]
pub struct KeyAdmin {
    core: Arc<Core>,
    caller: Caller,
}

impl std::fmt::Debug for KeyAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyAdmin").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl KeyAdmin {
    /// The key slots, and which one is pinned.
    #[must_use]
    pub fn slots(&self) -> (Vec<KeySlot>, SlotId) {
        self.core.key_slots()
    }

    /// Adds a way to open the ledger.
    ///
    /// # Errors
    /// [`Error::Keys`] where it is refused.
    pub fn add_slot(&self, slot: NewSlot) -> Result<KeySlot, Error> {
        self.core.add_slot(&self.caller, &slot)
    }

    /// Removes a way to open the ledger; to remove the pinned slot, name the one to pin instead.
    ///
    /// # Errors
    /// [`Error::Keys`] where it is the last one, or the pinned one.
    pub fn remove_slot(&self, slot: SlotId, new_pin: Option<SlotId>) -> Result<(), Error> {
        self.core.remove_slot(&self.caller, slot, new_pin)
    }

    /// Starts a new epoch; returns its number.
    ///
    /// # Errors
    /// As a write.
    pub fn rotate_epoch(&self) -> Result<u32, Error> {
        self.core.start_epoch(&self.caller, EpochCause::Requested)
    }

    /// Replaces the root key and the KEK, re-wraps every DEK, and starts a new epoch. Passphrase slots
    /// stay only if their passphrase is given; others must be named in `drop`.
    ///
    /// # Errors
    /// [`Error::Keys`] where a slot's fate is not said, or as a write.
    pub fn rotate_root(&self, passphrases: &[(SlotId, SecretBytes)], drop: &[SlotId]) -> Result<u32, Error> {
        self.core.rotate_root(&self.caller, passphrases, drop)
    }
}
