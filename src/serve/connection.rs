//! One connection, from its accept to its end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::base::limits;
use crate::event::identity::RefusalCause;
use crate::identity::Root;
use crate::tls::{Note, Shown, noting};

use super::answer::{self, Answer};
use super::deadline::Deadline;
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
    let io = Deadline::new(io, Duration::from_millis(limits::WRITE_MS));
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
    // Before the handshake: whatever changes from here on is looked at.
    let changes = shared.tls.verifier().trust().watch();
    let Some(Accepted { tls, chain, roots, shown }) = handshake(&shared, stream, address).await else { return };
    let (Ok(_place), Some(_own)) = (shared.connected.try_acquire(), shared.devices.connect(shown.device)) else {
        shared.refuse(RefusalCause::TooMany, Some(shown.device), address);
        return;
    };
    Metrics::count(&shared.metrics.handshakes);
    let _open = Open::new(&shared.metrics.open);
    let peer = DevicePeer { shown, address };
    let checked = Checked { chain: &chain, roots: Mutex::new(roots) };
    let answer_to = |mut request: Request<Incoming>| {
        let (shared, router, peer) = (Arc::clone(&shared), router.clone(), peer.clone());
        let good = checked.still_good(&shared, &peer);
        async move {
            let now = shared.clock.now();
            if let Err(cause) = good {
                shared.refuse(cause, Some(peer.shown.device), address);
                return answer::refused(cause, "this certificate is not trusted any more");
            }
            shared.notes.seen(peer.shown.device, &address.ip().to_string(), now);
            request.extensions_mut().insert(peer);
            route(&shared, "device", router, request).await
        }
    };
    let ended = serve_http(&shared, tls, answer_to, distrusted(&shared, changes, &chain, &peer)).await;
    // A device may be silent for as long as it likes; what it says must be HTTP.
    if ended.is_some_and(|error| error.is_parse()) {
        shared.refuse(RefusalCause::Malformed, Some(peer.shown.device), address);
    }
}

/// Counts a connection as long as it stands, however its task ends.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A chain, and the roots that it was last verified against.
struct Checked<'a> {
    chain: &'a [CertificateDer<'static>],
    roots: Mutex<Arc<Vec<Root>>>,
}

impl Checked<'_> {
    /// Whether a device is still trusted: by its certificate's fingerprint and end, and by the whole chain
    /// where the roots are not those it was verified against.
    fn still_good(&self, shared: &Shared, peer: &DevicePeer) -> Result<(), RefusalCause> {
        let verifier = shared.tls.verifier();
        verifier.still_good(&peer.shown, shared.clock.now())?;
        let roots = verifier.trust().roots();
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known, &roots) {
            shared.tls.peer(self.chain).map_err(|why| why.cause)?;
            *known = roots;
        }
        Ok(())
    }
}

struct Accepted {
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    chain: Vec<CertificateDer<'static>>,
    roots: Arc<Vec<Root>>,
    shown: Shown,
}

async fn handshake(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
    let (place, _) = shared.unfinished.enter();
    let note = Note::default();
    let accepting = noting(&note, TlsAcceptor::from(shared.tls.config()).accept(stream));
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(Duration::from_millis(limits::HANDSHAKE_MS), accepting) => accepted,
        () = place.evicted() => {
            shared.refuse(RefusalCause::TooMany, None, address);
            return None;
        }
    };
    let refused = note.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    let roots = shared.tls.verifier().trust().roots();
    match shared.tls.peer(&chain) {
        Ok(shown) => Some(Accepted { tls, chain, roots, shown }),
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

/// Comes back when a connection's device is trusted no more, or its certificate ends. `changes` is as old as
/// the connection: what changed between its handshake and this is not missed.
async fn distrusted(
    shared: &Shared,
    mut changes: watch::Receiver<u64>,
    chain: &[CertificateDer<'static>],
    peer: &DevicePeer,
) {
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
    let (place, _) = shared.strangers.enter();
    let served = AtomicBool::new(false);
    let answer_to = |mut request: Request<Incoming>| {
        let (shared, router, served) = (Arc::clone(&shared), router.clone(), &served);
        async move {
            request.extensions_mut().insert(address);
            let answered = route(&shared, listener, router, request).await;
            // A body that was too large is noted by whoever read it.
            if answered.status() == StatusCode::REQUEST_TIMEOUT {
                shared.refuse(RefusalCause::Malformed, None, address);
            }
            served.store(true, Ordering::Relaxed);
            answered
        }
    };
    let evicted = async {
        place.evicted().await;
        shared.refuse(RefusalCause::TooMany, None, address);
    };
    let ended = serve_http(&shared, stream, answer_to, evicted).await;
    // Silence after an answer is the end of a connection that was kept for another request, and no fault.
    let slow = |error: &hyper::Error| error.is_timeout() && !served.load(Ordering::Relaxed);
    if ended.is_some_and(|error| error.is_parse() || slow(&error)) {
        shared.refuse(RefusalCause::Malformed, None, address);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{DeviceId, DeviceName, OsRandom, Serial};
    use crate::device::join::{Applicant, Joining};
    use crate::device::messages::{Base64, GreetingMessage};
    use crate::engine::{Config, Hello, Ledger, MintOptions};
    use crate::event::identity::ClientKind;
    use crate::keys::NewSlot;
    use crate::pki::LeafKey;
    use crate::serve::{Daemon, ServeOptions};

    /// A device that is paired, without a wire.
    fn pair(ledger: &Ledger) -> (DeviceId, Serial) {
        let identity = ledger.identity();
        let code = identity.mint(&MintOptions::default()).unwrap().code;
        let (key, name) = (LeafKey::generate().unwrap(), DeviceName::new("box").unwrap());
        let device = DeviceId::from_bytes([7; 16]);
        let applicant = Applicant { device, kind: ClientKind::Node, name: &name, key: &key };
        let (joining, hello) = Joining::new(&OsRandom, code, applicant).unwrap();
        let hello = Hello {
            version: hello.version,
            locator: &hello.locator,
            device,
            kind: ClientKind::Node,
            name: &name,
            public_key: hello.public_key.as_bytes(),
            proof: &hello.proof.0,
        };
        let (greeting, session) = identity.begin_pairing(&hello, "192.0.2.1:5").unwrap();
        let greeting = GreetingMessage {
            session: String::new(),
            ledger: greeting.ledger,
            ca_certificate: greeting.ca_certificate,
            proof: Base64(greeting.proof),
            device_port: None,
        };
        let (_, finish) = joining.greeted(&OsRandom, &greeting, None).unwrap();
        let receipt = identity.finish_pairing(session, &finish.proof.0, &finish.request.0).unwrap();
        (device, identity.approve(receipt.request, None).unwrap().issued.unwrap())
    }

    struct Scene {
        _dir: tempfile::TempDir,
        ledger: Arc<Ledger>,
        daemon: Daemon,
        device: DeviceId,
        chain: Vec<CertificateDer<'static>>,
        peer: DevicePeer,
    }

    impl Scene {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let config = Config::new(dir.path().join("home"));
            let ledger = Arc::new(Ledger::init(config, NewSlot::file("first")).unwrap());
            let daemon = Daemon::start(Arc::clone(&ledger), ServeOptions::default()).await.unwrap();
            let (device, serial) = pair(&ledger);
            let der = ledger.identity().certificate_der(serial).unwrap();
            let chain = vec![CertificateDer::from(der.as_bytes().to_vec())];
            let shown = daemon.shared().tls.peer(&chain).unwrap();
            let peer = DevicePeer { shown, address: SocketAddr::from(([192, 0, 2, 1], 5)) };
            Self { _dir: dir, ledger, daemon, device, chain, peer }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_between_handshake_and_watch_is_not_missed() {
        let scene = Scene::new().await;
        let shared = scene.daemon.shared();
        let changes = shared.tls.verifier().trust().watch();
        // The handshake is through; now the device is revoked, and only then is the connection watched.
        scene.ledger.identity().revoke(scene.device).unwrap();
        let watched = distrusted(&shared, changes, &scene.chain, &scene.peer);
        tokio::time::timeout(Duration::from_secs(5), watched).await.unwrap();
        scene.daemon.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_is_held_against_the_roots_of_its_moment() {
        let scene = Scene::new().await;
        let shared = scene.daemon.shared();
        let roots = shared.tls.verifier().trust().roots();
        let checked = Checked { chain: &scene.chain, roots: Mutex::new(roots) };
        assert_eq!(checked.still_good(&shared, &scene.peer), Ok(()));
        scene.ledger.identity().prepare_ca().unwrap();
        assert_eq!(checked.still_good(&shared, &scene.peer), Ok(()), "more roots are no reason");
        scene.ledger.identity().activate_ca(true).unwrap();
        scene.ledger.identity().taint_ca().unwrap();
        scene.ledger.identity().revoke_ca(true).unwrap();
        assert!(checked.still_good(&shared, &scene.peer).is_err());
        scene.daemon.stop().await;
    }
}
