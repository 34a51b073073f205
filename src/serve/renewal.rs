//! The daemon's own certificate, and the records it makes by the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::{Serial, Timestamp, limits};
use crate::engine::{Error, Identity};
use crate::event::identity::Der;
use crate::pki::{Fingerprint, LeafKey, ServerName, fingerprint};

use super::daemon::ServeError;
use super::metrics::Metrics;
use super::shared::{Asking, Shared};

/// Issues a certificate for a fresh key; the key lives in memory alone.
pub fn issue(identity: &Identity, names: &[ServerName]) -> Result<(Serial, Der, LeafKey, Timestamp), ServeError> {
    let key = LeafKey::generate().map_err(Error::from)?;
    let public = key.public().map_err(Error::from)?;
    let (serial, certificate) = identity.issue_server(names, &public)?;
    let end = identity.certificate(serial)?.not_after;
    Ok((serial, certificate, key, end))
}

fn generation(shared: &Shared) -> Option<u32> {
    shared.tls.verifier().trust().roots().first().map(|root| root.generation)
}

/// The daemon's certificate, as the log knows it.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    serial: Serial,
    fingerprint: Fingerprint,
    end: Timestamp,
    /// Its whole life in milliseconds: a root that ends soon makes it short.
    life_ms: u64,
}

impl Held {
    /// Of a certificate that was issued.
    pub fn new(serial: Serial, certificate: &Der, end: Timestamp, now: Timestamp) -> Self {
        let life_ms = end.as_millis().saturating_sub(now.as_millis());
        Self { serial, fingerprint: fingerprint(certificate.as_bytes()), end, life_ms }
    }
}

/// Renews the daemon's certificate when a third of its life is left, when it is revoked, when another generation
/// of the CA issues, and when somebody asks. Connections that stand are not touched.
pub async fn keep_certificate(
    shared: Arc<Shared>,
    names: Vec<ServerName>,
    mut held: Held,
    mut asked: mpsc::UnboundedReceiver<Asking>,
) {
    let mut stop = shared.stop.clone();
    let mut changes = shared.tls.verifier().trust().watch();
    let mut issued_by = generation(&shared);
    let mut roots = shared.tls.verifier().trust().roots().len();
    loop {
        let mut asking = None;
        tokio::select! {
            _ = stop.changed() => return,
            who = asked.recv() => asking = who,
            told = changes.changed() => if told.is_err() { return; },
            () = tokio::time::sleep(Duration::from_millis(limits::SERVER_RENEWAL_TICK_MS)) => {}
        }
        if shared.tls.identity().shown() > 1 && shared.tls.verifier().trust().roots().len() != roots {
            roots = shared.tls.verifier().trust().roots().len();
            vouched(&shared).await;
        }
        let left = held.end.as_millis().saturating_sub(shared.clock.now().as_millis());
        let good = shared.tls.verifier().trust().is_servers(held.serial, &held.fingerprint);
        if asking.is_none() && good && left > held.life_ms / 3 && generation(&shared) == issued_by {
            continue;
        }
        let (at, names) = (generation(&shared), names.clone());
        let worker = Arc::clone(&shared);
        let done = tokio::task::spawn_blocking(move || {
            let identity = worker.ledger.identity();
            let (serial, certificate, key, end) = issue(&identity, &names)?;
            worker.tls.identity().replace(&certificate, &above(&identity), &key)?;
            Ok::<_, ServeError>(Held::new(serial, &certificate, end, worker.clock.now()))
        });
        let answer = match done.await {
            Ok(Ok(next)) => {
                (held, issued_by) = (next, at);
                Metrics::count(&shared.metrics.server_renewals);
                shared.metrics.server_not_after.store(next.end.as_millis() / 1000, Ordering::Relaxed);
                tracing::info!(end = %next.end, "the daemon renewed its certificate");
                Ok(next.serial)
            }
            // The old one stays; the next tick tries again.
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &answer {
            tracing::error!(error, "the daemon could not renew its certificate");
        }
        if let Some(asking) = asking {
            let _ = asking.send(answer);
        }
    }
}

/// What is shown above the daemon's certificate. An imported root that cannot vouch is no reason not to serve: its
/// devices need `ca export` then, and everybody else notices nothing.
pub fn above(identity: &Identity) -> Vec<Der> {
    identity.cross_certificates().unwrap_or_else(|error| {
        tracing::warn!(%error, "no imported root vouches for the daemon: devices that know one alone need `ca export`");
        Vec::new()
    })
}

/// Shows what the roots that are still trusted vouch with, and no more.
async fn vouched(shared: &Arc<Shared>) {
    let worker = Arc::clone(shared);
    let done = move || worker.tls.identity().vouched(&above(&worker.ledger.identity()));
    if let Err(error) = tokio::task::spawn_blocking(done).await {
        tracing::error!(%error, "the certificates above the daemon's own could not be made anew");
    }
}

/// Records what was gathered: refusals a second after the first and then in steps, sightings by the minute; and
/// ends the codes and requests that are over.
pub async fn keep_records(shared: Arc<Shared>) {
    let mut stop = shared.stop.clone();
    let mut seen = tokio::time::interval(Duration::from_millis(limits::SEEN_GATHER_MS));
    seen.tick().await;
    let mut earliest = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = seen.tick() => {
                record_seen(&shared).await;
                // What is over is ended by an event within a minute, whether or not anybody asks.
                let _ = shared.blocking(|shared| shared.ledger.identity().sweep()).await;
                record_counted(&shared, false).await;
            }
            () = refusals(&shared, earliest) => {
                record_refused(&shared).await;
                earliest = tokio::time::Instant::now() + Duration::from_millis(limits::REFUSALS_SPACING_MS);
            }
        }
    }
}

async fn refusals(shared: &Shared, earliest: tokio::time::Instant) {
    shared.refusal.notified().await;
    tokio::time::sleep(Duration::from_millis(limits::REFUSALS_GATHER_MS)).await;
    tokio::time::sleep_until(earliest).await;
}

/// Records the refusals that wait.
pub async fn record_refused(shared: &Arc<Shared>) {
    let notes = shared.notes.take_refused();
    let _ = shared.blocking(move |shared| shared.ledger.identity().connections_refused(notes)).await;
}

/// Records how many pairing refusals were counted and not recorded: of windows that are over, or of all.
pub async fn record_counted(shared: &Arc<Shared>, all: bool) {
    let _ = shared.blocking(move |shared| shared.ledger.identity().record_counted_refusals(all)).await;
}

/// Records the sightings that wait.
pub async fn record_seen(shared: &Arc<Shared>) {
    let notes = shared.notes.take_seen();
    let _ = shared.blocking(move |shared| shared.ledger.identity().devices_seen(notes)).await;
}
