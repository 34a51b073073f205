//! What every connection shares.

use std::collections::HashMap;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::base::{Caller, Clock, DeviceId, Random, Serial, limits};
use crate::engine::{Error, Ledger, PairingSession};
use crate::event::identity::{Der, RefusalCause};
use crate::tls::ServerTls;

use super::answer::{self, Answer};
use super::metrics::{Gauges, Metrics};
use super::notes::Notes;
use super::per_device::PerDevice;
use super::registry::Registry;

/// A pairing session between its two messages.
struct Session {
    begun: Instant,
    peer: String,
    state: PairingSession,
}

/// Pairing sessions, bounded in number and time.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        let mut held = self.held();
        let life = Duration::from_millis(limits::PAIRING_SESSION_MS);
        held.retain(|_, session| session.begun.elapsed() < life);
        held.len() < limits::PAIRING_SESSIONS_MAX
    }

    /// Keeps a session under a fresh name; none where there is no room or no randomness.
    pub fn keep(&self, random: &dyn Random, session: PairingSession, peer: String) -> Option<String> {
        use std::fmt::Write;
        if !self.has_room() {
            return None;
        }
        let mut name = String::with_capacity(32);
        for byte in random.array::<16>().ok()? {
            let _ = write!(name, "{byte:02x}");
        }
        self.held().insert(name.clone(), Session { begun: Instant::now(), peer, state: session });
        Some(name)
    }

    /// Takes a session: whatever becomes of it, it is used. Only for the address that began it.
    pub fn take(&self, name: &str, peer: &str) -> Option<PairingSession> {
        let mut held = self.held();
        let life = Duration::from_millis(limits::PAIRING_SESSION_MS);
        if held.get(name).is_none_or(|session| session.peer != peer || session.begun.elapsed() >= life) {
            return None;
        }
        held.remove(name).map(|session| session.state)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held().len()
    }
}

/// A revocation list that was made: its bytes, the state of trust it was made for, and when it is old.
#[derive(Debug, Clone)]
pub struct MadeList {
    /// The list.
    pub der: Der,
    /// Version of the live view.
    pub version: u64,
    /// When half of its life is over, Unix milliseconds.
    pub stale_at: u64,
}

/// What every connection shares.
pub struct Shared {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for session names.
    pub random: Arc<dyn Random>,
    /// TLS.
    pub tls: ServerTls,
    /// Counters.
    pub metrics: Metrics,
    /// What waits to be recorded.
    pub notes: Notes,
    /// Tells that a refusal waits.
    pub refusal: Notify,
    /// Pairing sessions.
    pub sessions: Sessions,
    /// Connections that proved nothing yet.
    pub unfinished: Arc<Registry>,
    /// Connections of the pairing and metrics listeners.
    pub strangers: Arc<Registry>,
    /// Connections of the local socket that run no command.
    pub locals: Arc<Registry>,
    /// Commands that may run for clients of the local socket.
    pub clients: Arc<tokio::sync::Semaphore>,
    /// Devices that are connected.
    pub connected: tokio::sync::Semaphore,
    /// What each of them takes.
    pub devices: Arc<PerDevice>,
    /// The last revocation list of each generation.
    pub lists: tokio::sync::Mutex<HashMap<u32, MadeList>>,
    /// Tells that a write failed: somebody looks whether the ledger takes any more.
    pub doubt: Notify,
    /// Whether the daemon stops.
    pub stop: watch::Receiver<bool>,
    /// Port of the device listener, 0 for none.
    pub device_port: AtomicU16,
    /// Asks for another certificate of the daemon.
    pub renew: mpsc::UnboundedSender<Asking>,
}

/// Who asks for another certificate of the daemon, and is told what became of it.
pub type Asking = oneshot::Sender<Result<Serial, String>>;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Shared {
    /// Notes a refusal: for the log, the metrics and the daemon's own messages.
    pub fn refuse(&self, cause: RefusalCause, device: Option<DeviceId>, peer: impl std::fmt::Display) {
        tracing::warn!(cause = cause.name(), device = device.map(|id| id.to_string()), %peer, "refused");
        self.metrics.refused(cause);
        self.notes.refused(cause, device, peer.to_string(), self.clock.now());
        self.refusal.notify_one();
    }

    /// Runs a call of the ledger on a thread that may block.
    ///
    /// # Errors
    /// The answer that tells of it.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Answer> {
        let shared = Arc::clone(self);
        match tokio::task::spawn_blocking(move || call(&shared)).await {
            Ok(done) => done.map_err(|error| {
                if matches!(error, Error::Dead { .. }) {
                    self.doubt.notify_one();
                }
                answer::error(&error)
            }),
            Err(_) => Err(answer::error(&Error::Closed)),
        }
    }

    /// What metrics ask of the ledger.
    pub fn gauges(&self) -> Gauges {
        let (paired, revoked) = self.tls.verifier().trust().totals();
        let head = self.ledger.log().head().map_or(0, |head| head.seq);
        Gauges { paired, revoked, head, sessions: self.sessions.len() }
    }

    /// A paired device as the caller of a command.
    pub fn device_caller(device: DeviceId) -> Caller {
        let mut caller = Caller::system();
        let id = device.to_string();
        if let Ok(actor) = crate::base::Actor::new(&format!("device:{id}")) {
            caller.actor = actor;
        }
        caller.origin = crate::base::Origin::Device { device_id: id };
        caller
    }
}
