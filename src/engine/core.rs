//! What every handle of one open ledger shares.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use crate::base::{Clock, LedgerId, Random, Timestamp};
use crate::crypto::{Hash, Key};
use crate::keys::{Kek, KeyRing, KeyTable, Unlocked};
use crate::log::{HeadFile, Journal};
use crate::projection::Index;
use crate::store::Medium;

use super::config::Settings;
use super::lock::HomeLock;
use super::overlay::Overlay;
use super::reads::ReadBuffer;

/// The files of a home.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The home itself.
    pub home: PathBuf,
}

impl Layout {
    /// Segments.
    pub fn journal(&self) -> PathBuf {
        self.home.join("journal")
    }
    /// Index runs, manifest and offset tables.
    pub fn index(&self) -> PathBuf {
        self.home.join("index")
    }
    /// Key ring, key files and key table.
    pub fn keys(&self) -> PathBuf {
        self.home.join("keys")
    }
    /// The head file.
    pub fn head(&self) -> PathBuf {
        self.home.join("head")
    }
    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }
    /// Evidence.
    pub fn quarantine(&self) -> PathBuf {
        self.home.join("quarantine")
    }
    /// Copies of the checkpoints, in the clear.
    pub fn checkpoints(&self) -> PathBuf {
        self.home.join("checkpoints")
    }
    /// The read spool.
    pub fn spool(&self) -> PathBuf {
        self.home.join("reads.spool")
    }
    /// Settings.
    pub fn config(&self) -> PathBuf {
        self.home.join("config.toml")
    }
    /// The format marker.
    pub fn format(&self) -> PathBuf {
        self.home.join("format")
    }
    /// Envelopes of the `encrypted_file` backend.
    pub fn objects(&self) -> PathBuf {
        self.home.join("objects")
    }
    /// The backend marker.
    pub fn backend(&self) -> PathBuf {
        self.home.join("backend.kind")
    }
}

/// What the key table, its KEK and the fresh slots are: replaced together by a root rotation.
pub struct TableState {
    /// The table.
    pub table: KeyTable,
    /// The key that wraps its slots.
    pub kek: Kek,
    /// Filled slots that no event names yet.
    pub pool: Mutex<VecDeque<(u64, Key)>>,
    /// First slot that is neither named by an event nor in the pool.
    pub unused: AtomicU64,
    /// Held while the pool is filled, so that its slots stay in order.
    pub filling: Mutex<()>,
    /// How many slots the next fill makes.
    pub step: AtomicUsize,
}

impl TableState {
    /// The state around a table whose slots are free from `unused` on.
    pub fn new(table: KeyTable, kek: Kek, unused: u64) -> Self {
        Self {
            table,
            kek,
            pool: Mutex::default(),
            unused: AtomicU64::new(unused),
            filling: Mutex::default(),
            step: AtomicUsize::new(crate::base::limits::KEY_TABLE_FILL),
        }
    }
}

/// A batch that is decided and waits for its sync.
pub struct QueuedBatch {
    /// Its number; see [`Queue::done`].
    pub no: u64,
    /// Sequence number of its first event.
    pub first_seq: u64,
    /// Time of all its events.
    pub time: Timestamp,
    /// Epoch that seals it.
    pub epoch: u32,
    /// Each event, encoded. Bodies hold names, and values only in envelopes.
    pub events: Vec<crate::event::Body>,
    /// What it changes.
    pub delta: crate::base::Delta,
}

/// The writer's queue: decided, not yet durable. Everything here is guarded by one mutex.
pub struct Queue {
    /// Sequence number of the next event.
    pub next_seq: u64,
    /// Time of the last event.
    pub last_time: Timestamp,
    /// Whether the clock was behind at the last event, so that one step is recorded once.
    pub skewed: bool,
    /// Number of the next batch.
    pub next_no: u64,
    /// Batches that wait.
    pub waiting: VecDeque<QueuedBatch>,
    /// Their bytes.
    pub bytes: usize,
    /// Whether some thread is writing.
    pub leading: bool,
    /// Threads that are parked until the leading one is through.
    pub parked: Vec<std::thread::Thread>,
    /// Batches below this number are durable and visible.
    pub done: u64,
    /// The first fault, once there was one.
    pub dead: Option<Arc<str>>,
    /// What the waiting batches change.
    pub overlay: Overlay,
    /// Epoch that seals the next batch.
    pub epoch: u32,
}

/// One open ledger.
pub struct Core {
    /// The files.
    pub layout: Layout,
    /// The ledger's id.
    pub ledger_id: LedgerId,
    /// Settings in force.
    pub settings: Settings,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether background threads run.
    pub background: bool,
    /// Whether the sled copy is kept.
    pub witness: bool,
    /// Cost of Argon2id for new passphrase slots.
    pub argon_cost: crate::keys::ArgonCost,
    /// Storage.
    pub medium: Arc<dyn Medium>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Time of the last durable event, in milliseconds: the clock that others are handed never stands behind it.
    pub latest: AtomicU64,
    /// The live view of profiles, once somebody chose among them.
    pub registry: OnceLock<Arc<crate::auth::Registry>>,
    /// Who waits for a provider's answer, to record it here.
    pub awaited: AtomicUsize,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The journal.
    pub journal: Journal,
    /// The projections.
    pub index: Index,
    /// Where the index lives, where that is not the home: only the known part of the log is folded into it.
    #[allow(dead_code, reason = "held for its folder, which is removed with it")]
    pub scratch: Option<tempfile::TempDir>,
    /// The head file and the key that authenticates it.
    pub head: Option<(HeadFile, Key)>,
    /// The key ring; held while keys are administered.
    pub ring: Mutex<KeyRing>,
    /// Held by whoever replaces the KEK or copies the key table, before it holds anything else: while one waits for
    /// the other, nobody has the table.
    pub quiet: Mutex<()>,
    /// Keys that are open.
    pub unlocked: RwLock<Arc<Unlocked>>,
    /// Key table, KEK and fresh slots.
    pub table: RwLock<TableState>,
    /// The writer's queue.
    pub queue: Mutex<Queue>,
    /// Batches below this number are durable and visible: [`Queue::done`] without its mutex.
    pub done: AtomicU64,
    /// Held while a revocation list is made, so that each has the number after the last one's.
    pub listing: Mutex<()>,
    /// Signalled when the queue has room again or the writer died.
    pub published: Condvar,
    /// Hash of the last sealed frame; only the leading thread uses it.
    pub chain: Mutex<Hash>,
    /// Last sequence number that is durable and visible, plus one.
    pub visible: AtomicU64,
    /// Backends outside the log.
    pub outside: super::outside::Outside,
    /// Reads that wait to be recorded.
    pub reads: ReadBuffer,
    /// What the next checkpoint goes on from.
    pub checkpoints: super::checkpoints::Checkpoints,
    /// Pairing refusals of the present minute.
    pub refusals: super::refusals::Refusals,
    /// The live view of device trust, once somebody asked for it.
    pub trust: OnceLock<Arc<crate::identity::Trust>>,
    /// Wakes and stops the background threads.
    pub signal: Signal,
    /// Whether close has begun.
    pub closing: AtomicBool,
    /// Held for the life of the ledger.
    pub lock: Mutex<Option<HomeLock>>,
    /// Whether close is through: nothing is read or written any more.
    pub closed: AtomicBool,
}

/// Wakes background threads.
#[derive(Default)]
pub struct Signal {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Signal {
    /// Wakes whoever waits.
    pub fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        self.changed.notify_all();
    }

    /// Tells whoever waits to stop.
    pub fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }

    /// Waits for a wake beyond `seen` or the time; returns the wake count and whether to stop.
    pub fn wait(&self, seen: u64, timeout: std::time::Duration) -> (u64, bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, timeout, |state| state.0 == seen && !state.1)
            .unwrap_or_else(PoisonError::into_inner);
        *state
    }
}

impl Core {
    /// The keys that are open.
    pub fn unlocked(&self) -> Arc<Unlocked> {
        Arc::clone(&self.unlocked.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key table for the length of one operation: a root rotation waits for it.
    pub fn table(&self) -> RwLockReadGuard<'_, TableState> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}
