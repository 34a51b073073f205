//! One connection, from its accept to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::base::limits;
use crate::event::identity::RefusalCause;
use crate::tls::{Note, Shown, noting};

use super::answer::{self, Answer};
use super::metrics::Metrics;
use super::shared::Shared;

/// Who is at the other end of a device's connection; routes find it in the request's extensions.
#[derive(Debug, Clone)]
pub struct DevicePeer {
    /// The certificate.
    pub shown: Shown,
    /// The address.
    pub address: SocketAddr,
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::HEADER_MS))
        .max_buf_size(limits::HEADER_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX);
    builder
}

/// Serves HTTP/1.1 until the peer goes, the daemon stops, or `leave` comes back; gives what ended it, where
/// that was neither.
pub async fn serve_http<I, F>(
    shared: &Shared,
    io: I,
    answer_to: impl Fn(Request<Incoming>) -> F,
    leave: impl Future<Output = ()>,
) -> Option<hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Answer>,
{
    let mut stop = shared.stop.clone();
    let service = service_fn(|request| {
        let answered = answer_to(request);
        async move { Ok::<_, std::convert::Infallible>(answered.await) }
    });
    let connection = builder().serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection, leave);
    let mut stopping = *stop.borrow();
    if stopping {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended.err(),
            () = &mut leave => return None,
            changed = stop.changed(), if !stopping => {
                stopping = changed.is_err() || *stop.borrow();
                if stopping {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Runs a request through a router, within its time.
pub async fn route(shared: &Shared, listener: &'static str, router: Router, request: Request<Incoming>) -> Answer {
    let run = router.oneshot(request.map(Body::new));
    let answered = match tokio::time::timeout(Duration::from_millis(limits::REQUEST_MS), run).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(never)) => match never {},
        Err(_) => answer::failure(StatusCode::REQUEST_TIMEOUT, "malformed", "the request took too long"),
    };
    shared.metrics.answered(listener, answered.status().as_u16());
    answered
}

/// A connection of a device.
pub async fn device(shared: Arc<Shared>, router: Router, stream: TcpStream, address: SocketAddr) {
    Metrics::count(&shared.metrics.device_connections);
    let _ = stream.set_nodelay(true);
    let Some((tls, chain, shown)) = handshake(&shared, stream, address).await else { return };
    let Ok(_place) = shared.connected.try_acquire() else {
        shared.refuse(RefusalCause::TooMany, Some(shown.device), address);
        return;
    };
    Metrics::count(&shared.metrics.handshakes);
    shared.metrics.open.fetch_add(1, Ordering::Relaxed);
    let peer = DevicePeer { shown, address };
    let answer_to = |mut request: Request<Incoming>| {
        let (shared, router, peer) = (Arc::clone(&shared), router.clone(), peer.clone());
        async move {
            let now = shared.clock.now();
            if let Err(cause) = shared.tls.verifier().still_good(&peer.shown, now) {
                shared.refuse(cause, Some(peer.shown.device), address);
                return answer::refused(cause, "this certificate is not trusted any more");
            }
            shared.notes.seen(peer.shown.device, &address.ip().to_string(), now);
            request.extensions_mut().insert(peer);
            route(&shared, "device", router, request).await
        }
    };
    let ended = serve_http(&shared, tls, answer_to, distrusted(&shared, &chain, &peer)).await;
    // A device may be silent for as long as it likes; what it says must be HTTP.
    if ended.is_some_and(|error| error.is_parse()) {
        shared.refuse(RefusalCause::Malformed, Some(peer.shown.device), address);
    }
    shared.metrics.open.fetch_sub(1, Ordering::Relaxed);
}

type Accepted = (tokio_rustls::server::TlsStream<TcpStream>, Vec<CertificateDer<'static>>, Shown);

async fn handshake(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
    let (place, evicted) = shared.unfinished.enter();
    if evicted {
        shared.refuse(RefusalCause::TooMany, None, address);
    }
    let note = Note::default();
    let accepting = noting(&note, TlsAcceptor::from(shared.tls.config()).accept(stream));
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(Duration::from_millis(limits::HANDSHAKE_MS), accepting) => accepted,
        () = place.evicted() => return None,
    };
    let refused = note.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let tls = match accepted {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            let (cause, device) = refused.map_or_else(|| (cause_of(&error), None), |why| (why.cause, why.device));
            shared.refuse(cause, device, address);
            return None;
        }
        Err(_) => {
            shared.refuse(RefusalCause::Handshake, None, address);
            return None;
        }
    };
    let chain: Vec<_> =
        tls.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    match shared.tls.peer(&chain) {
        Ok(shown) => Some((tls, chain, shown)),
        Err(why) => {
            shared.refuse(why.cause, why.device, address);
            None
        }
    }
}

/// What a handshake failed by, where the verifier was not asked.
fn cause_of(error: &std::io::Error) -> RefusalCause {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => RefusalCause::Untrusted,
        Some(rustls::Error::PeerIncompatible(_)) => RefusalCause::Version,
        _ => RefusalCause::Handshake,
    }
}

/// Comes back when a connection's device is trusted no more, or its certificate ends.
async fn distrusted(shared: &Shared, chain: &[CertificateDer<'static>], peer: &DevicePeer) {
    let mut changes = shared.tls.verifier().trust().watch();
    let grace = Duration::from_millis(limits::REQUEST_MS);
    loop {
        let left = peer.shown.facts.not_after.as_millis().saturating_sub(shared.clock.now().as_millis());
        // A connection in its grace is there to renew and for nothing else.
        let left = if peer.shown.in_grace { grace } else { Duration::from_millis(left.saturating_add(1000)) };
        let cause = tokio::select! {
            () = tokio::time::sleep(left) => Some(RefusalCause::Expired),
            told = changes.changed() => match told {
                Ok(()) => shared.tls.peer(chain).err().map(|why| why.cause),
                Err(_) => Some(RefusalCause::Untrusted),
            },
        };
        if let Some(cause) = cause {
            Metrics::count(&shared.metrics.cut);
            shared.refuse(cause, Some(peer.shown.device), peer.address);
            return;
        }
    }
}

/// A connection of somebody who need not be anybody: pairing, or metrics.
pub async fn stranger(
    shared: Arc<Shared>,
    listener: &'static str,
    router: Router,
    stream: TcpStream,
    address: SocketAddr,
) {
    let _ = stream.set_nodelay(true);
    let (place, evicted) = shared.strangers.enter();
    if evicted {
        shared.refuse(RefusalCause::TooMany, None, address);
    }
    let answer_to = |mut request: Request<Incoming>| {
        let (shared, router) = (Arc::clone(&shared), router.clone());
        async move {
            request.extensions_mut().insert(address);
            let answered = route(&shared, listener, router, request).await;
            if answered.status() == StatusCode::PAYLOAD_TOO_LARGE || answered.status() == StatusCode::REQUEST_TIMEOUT {
                shared.refuse(RefusalCause::Malformed, None, address);
            }
            answered
        }
    };
    let ended = serve_http(&shared, stream, answer_to, place.evicted()).await;
    if ended.is_some_and(|error| error.is_parse() || error.is_timeout()) {
        shared.refuse(RefusalCause::Malformed, None, address);
    }
}
