//! The local socket: for the ledger's owner, by the kernel's word.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use tokio::net::{UnixListener, UnixStream};

use crate::base::limits;
use crate::event::identity::RefusalCause;

use super::connection::{route, serve_http};
use super::metrics::Metrics;
use super::shared::Shared;

/// The process at the other end of the local socket, as the kernel reports it (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketPeer {
    /// Numeric user id.
    pub uid: u32,
    /// Process id; 0 where the kernel does not say.
    pub pid: u32,
}

/// What answers a client that speaks the command line's protocol; called on a thread that may block.
pub type Attend = Arc<dyn Fn(StdStream, SocketPeer) + Send + Sync>;

/// First bytes of the command line's protocol. Everything else is HTTP.
const COMMAND_LINE: &[u8; 4] = b"PLT1";
/// Says in place of an exit code that as many commands run as may.
pub const BUSY: u8 = 0xFF;

/// Listens at a path. What a daemon that died left there is removed: the ledger's lock says that no other
/// one lives.
///
/// # Errors
/// Where something else than a socket stands there, or the path is too long for a socket.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "this is no socket")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The home is 0700: nobody else can reach the socket before its own mode is set.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// One connection.
pub async fn connection(shared: Arc<Shared>, router: Router, stream: UnixStream, attend: Option<Attend>) {
    Metrics::count(&shared.metrics.socket_connections);
    let ours = rustix::process::geteuid().as_raw();
    let peer = match stream.peer_cred() {
        Ok(peer) if peer.uid() == ours || peer.uid() == 0 => peer,
        other => {
            let who = other.map_or_else(|_| "somebody".to_owned(), |peer| format!("uid {}", peer.uid()));
            shared.refuse(RefusalCause::Untrusted, None, format_args!("socket, {who}"));
            return;
        }
    };
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let peer = SocketPeer { uid: peer.uid(), pid };
    let (place, _) = shared.locals.enter();
    let begun = tokio::select! {
        begun = tokio::time::timeout(Duration::from_millis(limits::HANDSHAKE_MS), first_bytes(&stream)) => begun,
        () = place.evicted() => return,
    };
    match (begun, attend) {
        (Ok(Some(first)), Some(attend)) if first == *COMMAND_LINE => {
            drop(place);
            run(&shared, stream, peer, attend).await;
        }
        (Ok(Some(_)), _) => {
            let answer_to = |request: hyper::Request<Incoming>| {
                let (shared, router) = (Arc::clone(&shared), router.clone());
                async move { route(&shared, "socket", router, request).await }
            };
            let _ = serve_http(&shared, stream, answer_to, place.evicted()).await;
        }
        _ => {}
    }
}

/// Runs a client's command on a thread of its own: however long a client takes, the ledger's calls for
/// devices find theirs. One too many is told so by [`BUSY`].
async fn run(shared: &Shared, stream: UnixStream, peer: SocketPeer, attend: Attend) {
    let Ok(stream) = stream.into_std() else { return };
    let Ok(running) = Arc::clone(&shared.clients).try_acquire_owned() else {
        tracing::warn!(pid = peer.pid, "too many commands run for clients of the local socket");
        let _ = (&stream).write_all(&[BUSY]);
        return;
    };
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let started = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
        // Both are given back however the command ends.
        let _both = (running, ended);
        if stream.set_nonblocking(false).is_ok() {
            attend(stream, peer);
        }
    });
    match started {
        Ok(_) => _ = end.await,
        Err(error) => tracing::error!(%error, "no thread for a client of the local socket"),
    }
}

/// The first four bytes, left where they are; none where the peer went away.
async fn first_bytes(stream: &UnixStream) -> Option<[u8; 4]> {
    let mut first = [0; 4];
    loop {
        // The bytes are looked for where the runtime keeps account of what is readable: looking beside it would lose what
        // comes between a look in vain and its note, and the client would wait for nothing.
        let look = || {
            let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
            Ok(rustix::net::recv(stream, &mut first, flags)?.0)
        };
        match stream.async_io(tokio::io::Interest::READABLE, look).await {
            Ok(4) => return Some(first),
            Ok(0) => return None,
            // Fewer bytes stay readable: look again a little later.
            Ok(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
