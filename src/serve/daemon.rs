//! Starting, listening and stopping.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::base::{OsRandom, Serial, limits};
use crate::engine::{Error, Ledger};
use crate::oauth::TokenClient;
use crate::pki::ServerName;
use crate::tls::{ServerIdentity, ServerTls, TlsError, ledger_name};

use super::metrics::Metrics;
use super::notes::Notes;
use super::registry::Registry;
use super::shared::{Sessions, Shared};
use super::socket::Attend;
use super::{connection, device_routes, local_routes, pairing_routes, refreshing, renewal, socket};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be listened at.
    #[error("cannot listen at {place}: {source}")]
    Listen {
        /// The address or path.
        place: String,
        /// What failed.
        source: std::io::Error,
    },
}

/// What a daemon serves.
#[derive(Clone, Default)]
pub struct ServeOptions {
    /// Where paired devices are served.
    pub devices: Option<SocketAddr>,
    /// Where pairing is offered.
    pub pairing: Option<SocketAddr>,
    /// Where metrics are given to everybody who can connect.
    pub metrics: Option<SocketAddr>,
    /// Path of the local socket.
    pub socket: Option<PathBuf>,
    /// Names in the daemon's certificate, beside the ledger's own.
    pub names: Vec<ServerName>,
    /// With what tokens of credential profiles are refreshed when they are due; none: they are not.
    pub tokens: Option<TokenClient>,
    /// What answers the command line on the local socket.
    pub attend: Option<Attend>,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions")
            .field("devices", &self.devices)
            .field("pairing", &self.pairing)
            .finish_non_exhaustive()
    }
}

/// Where a daemon listens, with the ports that the system chose.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Listening {
    /// Paired devices.
    pub devices: Option<SocketAddr>,
    /// Pairing.
    pub pairing: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
    /// The local socket.
    pub socket: Option<PathBuf>,
}

/// A daemon that serves a ledger, on the runtime that it was started on.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    listening: Listening,
    stop: watch::Sender<bool>,
    accepting: Mutex<JoinSet<JoinSet<()>>>,
    keeping: Mutex<JoinSet<()>>,
    /// What is waited for at the end: a refresh that was sent must be recorded.
    finishing: Mutex<JoinSet<()>>,
}

async fn bind(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, ServeError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| ServeError::Listen { place: address.to_string(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok(Some((listener, at)))
}

/// Accepts until the daemon stops; gives the connections that stand. Each runs as a task of its own.
async fn accept<T, F>(
    mut stop: watch::Receiver<bool>,
    next: impl Fn(&mut Context<'_>) -> Poll<std::io::Result<T>>,
    run: impl Fn(T) -> F,
) -> JoinSet<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut standing = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => return standing,
            accepted = std::future::poll_fn(&next) => match accepted {
                Ok(stream) => { standing.spawn(run(stream)); }
                Err(error) => {
                    // No descriptors, or the peer went: neither is a reason to end, nor to spin.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = standing.join_next(), if !standing.is_empty() => {}
        }
    }
}

impl Daemon {
    /// Starts to serve: takes a certificate, listens, records it.
    ///
    /// # Errors
    /// [`ServeError`]; nothing listens then.
    pub async fn start(ledger: Arc<Ledger>, options: ServeOptions) -> Result<Self, ServeError> {
        let own: ServerName = ledger_name(ledger.id()).parse().map_err(Error::from)?;
        let mut names = vec![own];
        for name in options.names {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let (devices, pairing) = (bind(options.devices).await?, bind(options.pairing).await?);
        let metrics = bind(options.metrics).await?;
        let listening = Listening {
            devices: devices.as_ref().map(|(_, at)| *at),
            pairing: pairing.as_ref().map(|(_, at)| *at),
            metrics: metrics.as_ref().map(|(_, at)| *at),
            socket: options.socket.clone(),
        };
        let (stop, stopped) = watch::channel(false);
        let (renew, asked) = mpsc::unbounded_channel();
        let for_names = names.clone();
        let starting = Arc::clone(&ledger);
        let (tls, held, end) = blocking(move || {
            let identity = starting.identity();
            let (serial, certificate, key, end) = renewal::issue(&identity, &for_names)?;
            let server = Arc::new(ServerIdentity::new(&certificate, &renewal::above(&identity), &key)?);
            let held = renewal::Held::new(serial, &certificate, end, identity.clock().now());
            Ok((ServerTls::new(identity.trust()?, identity.clock(), server)?, held, end))
        })
        .await?;
        let shared = Arc::new(Shared {
            clock: ledger.identity().clock(),
            ledger,
            random: Arc::new(OsRandom),
            tls,
            metrics: Metrics::default(),
            notes: Notes::default(),
            refusal: Notify::new(),
            sessions: Sessions::default(),
            unfinished: Registry::new(limits::UNFINISHED_MAX),
            strangers: Registry::new(limits::UNFINISHED_MAX),
            locals: Registry::new(limits::LOCAL_CONNECTIONS_MAX),
            clients: Arc::new(Semaphore::new(limits::LOCAL_CLIENTS_MAX)),
            connected: Semaphore::new(limits::CONNECTIONS_MAX),
            devices: Arc::default(),
            lists: Mutex::default(),
            doubt: Notify::new(),
            stop: stopped.clone(),
            device_port: AtomicU16::new(listening.devices.map_or(0, |at| at.port())),
            renew,
        });
        shared.metrics.server_not_after.store(end.as_millis() / 1000, Ordering::Relaxed);
        let local = match &options.socket {
            Some(path) => Some(
                socket::listen(path)
                    .map_err(|source| ServeError::Listen { place: path.display().to_string(), source })?,
            ),
            None => None,
        };
        let mut daemon = Self {
            shared,
            listening,
            stop,
            accepting: Mutex::default(),
            keeping: Mutex::default(),
            finishing: Mutex::default(),
        };
        daemon.record_start().await?;
        if let Some((listener, _)) = devices {
            daemon.spawn_devices(listener, stopped.clone());
        }
        for (listener, name) in [(pairing, "pairing"), (metrics, "metrics")] {
            if let Some((listener, _)) = listener {
                daemon.spawn_strangers(listener, name, stopped.clone());
            }
        }
        if let Some(listener) = local {
            daemon.spawn_socket(listener, options.attend, stopped);
        }
        daemon.keeping.get_mut().spawn(renewal::keep_certificate(Arc::clone(&daemon.shared), names, held, asked));
        daemon.keeping.get_mut().spawn(renewal::keep_records(Arc::clone(&daemon.shared)));
        daemon.keeping.get_mut().spawn(watch_over(Arc::clone(&daemon.shared), daemon.stop.clone()));
        if let Some(client) = options.tokens {
            daemon.finishing.get_mut().spawn(refreshing::keep_refreshed(Arc::clone(&daemon.shared), client));
        }
        Ok(daemon)
    }

    async fn record_start(&self) -> Result<(), ServeError> {
        let Listening { devices, pairing, metrics, socket } = &self.listening;
        let mut places = Vec::new();
        places.extend(devices.map(|at| format!("devices {at}")));
        places.extend(pairing.map(|at| format!("pairing {at}")));
        places.extend(metrics.map(|at| format!("metrics {at}")));
        places.extend(socket.as_ref().map(|path| format!("socket {}", path.display())));
        let ledger = Arc::clone(&self.shared.ledger);
        blocking(move || Ok(ledger.identity().daemon_started(places)?)).await
    }

    fn spawn_devices(&mut self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let (shared, router) = (Arc::clone(&self.shared), device_routes::router(Arc::clone(&self.shared)));
        self.accepting.get_mut().spawn(async move {
            accept(
                stop,
                |context| listener.poll_accept(context),
                |(stream, address)| connection::device(Arc::clone(&shared), router.clone(), stream, address),
            )
            .await
        });
    }

    fn spawn_strangers(&mut self, listener: TcpListener, name: &'static str, stop: watch::Receiver<bool>) {
        let shared = Arc::clone(&self.shared);
        let router = match name {
            "pairing" => pairing_routes::router(Arc::clone(&shared)),
            _ => local_routes::public(Arc::clone(&shared)),
        };
        self.accepting.get_mut().spawn(async move {
            accept(
                stop,
                |context| listener.poll_accept(context),
                |(stream, address)| {
                    if name == "pairing" {
                        Metrics::count(&shared.metrics.pairing_connections);
                    }
                    connection::stranger(Arc::clone(&shared), name, router.clone(), stream, address)
                },
            )
            .await
        });
    }

    fn spawn_socket(
        &mut self,
        listener: tokio::net::UnixListener,
        attend: Option<Attend>,
        stop: watch::Receiver<bool>,
    ) {
        let (shared, router) = (Arc::clone(&self.shared), local_routes::socket(Arc::clone(&self.shared)));
        self.accepting.get_mut().spawn(async move {
            accept(
                stop,
                |context| listener.poll_accept(context),
                |(stream, _)| socket::connection(Arc::clone(&shared), router.clone(), stream, attend.clone()),
            )
            .await
        });
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Where it listens.
    #[must_use]
    pub const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Takes another certificate, without touching connections that stand; gives its serial number.
    ///
    /// # Errors
    /// What failed; the old one stays.
    pub async fn renew(&self) -> Result<Serial, String> {
        self.ask_renewal().await.unwrap_or_else(|_| Err("the daemon stops".to_owned()))
    }

    /// The same for a thread that may block.
    ///
    /// # Errors
    /// As [`Daemon::renew`].
    pub fn renew_blocking(&self) -> Result<Serial, String> {
        self.ask_renewal().blocking_recv().unwrap_or_else(|_| Err("the daemon stops".to_owned()))
    }

    fn ask_renewal(&self) -> oneshot::Receiver<Result<Serial, String>> {
        let (asking, answer) = oneshot::channel();
        // Where nobody listens any more, the answer is that it is gone.
        let _ = self.shared.renew.send(asking);
        answer
    }

    /// Whether the ledger takes writes.
    ///
    /// # Errors
    /// As [`Ledger::alive`].
    pub fn alive(&self) -> Result<(), Error> {
        self.shared.ledger.alive()
    }

    /// Comes back when the daemon accepts nothing more: [`Daemon::stop`] was called, or the ledger takes no
    /// more writes. Whoever runs the daemon stops it then.
    pub async fn ended(&self) {
        let _ = self.shared.stop.clone().wait_for(|stopping| *stopping).await;
    }

    /// Stops: accepts nothing more, lets requests under way finish for ten seconds, records what waits.
    /// Gives how many connections had to be cut.
    pub async fn stop(&self) -> u32 {
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(limits::DRAIN_MS);
        let mut cut = 0;
        let mut accepting = self.accepting.lock().await;
        while let Some(standing) = accepting.join_next().await {
            let Ok(mut standing) = standing else { continue };
            while !standing.is_empty() {
                if tokio::time::timeout_at(deadline, standing.join_next()).await.is_err() {
                    cut += u32::try_from(standing.len()).unwrap_or(u32::MAX);
                    standing.shutdown().await;
                }
            }
        }
        self.keeping.lock().await.shutdown().await;
        let mut finishing = self.finishing.lock().await;
        let drained = tokio::time::Instant::now() + Duration::from_millis(limits::REFRESH_DRAIN_MS);
        // What is cut here is in doubt, and taken up again by the next start.
        let _ = tokio::time::timeout_at(drained, async { while finishing.join_next().await.is_some() {} }).await;
        finishing.shutdown().await;
        // Commands of local clients may wait for answers, too.
        let auth = self.shared.ledger.auth();
        let quiet = async {
            while auth.is_awaited() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout_at(drained, quiet).await;
        // Nothing is recorded in a ledger that takes no writes, and its storage may not even refuse them.
        let alive = self.alive().is_ok();
        if alive {
            renewal::record_refused(&self.shared).await;
            renewal::record_seen(&self.shared).await;
            renewal::record_counted(&self.shared, true).await;
        }
        if let Some(path) = &self.listening.socket {
            let _ = std::fs::remove_file(path);
        }
        let ledger = Arc::clone(&self.shared.ledger);
        if alive {
            let _ = blocking(move || Ok(ledger.identity().daemon_stopped(cut)?)).await;
        }
        cut
    }
}

/// Ends the accepting when the ledger takes no more writes: what cannot be revoked is not to be trusted.
async fn watch_over(shared: Arc<Shared>, stop: watch::Sender<bool>) {
    loop {
        tokio::select! {
            () = shared.doubt.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(limits::ALIVE_TICK_MS)) => {}
        }
        if let Err(error) = shared.ledger.alive() {
            // First what counts: the messages may lie on the same full disk.
            let _ = stop.send(true);
            tracing::error!(%error, "the ledger takes no writes: nothing is accepted any more");
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(_) => Err(ServeError::Ledger(Error::Closed)),
    }
}
