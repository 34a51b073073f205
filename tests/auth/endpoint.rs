//! A token endpoint in a test's hand: raw bytes over TCP or TLS on loopback, every request kept.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// One connection.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

/// A listener with a thread for each connection; it ends when it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    pub at: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&mut dyn Wire, &dyn Fn(&mut dyn Wire) -> Option<Request>) + Send + Sync;

impl Endpoint {
    /// Hands over the connection, and what reads a request from it and keeps it.
    pub fn raw(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&mut dyn Wire, &dyn Fn(&mut dyn Wire) -> Option<Request>) + Send + Sync + 'static,
    ) -> Self {
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (seen, handler): (_, Arc<Handler>) = (Arc::clone(&shared), Arc::new(handler));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, handler, tls) = (Arc::clone(&seen), Arc::clone(&handler), tls.clone());
                std::thread::spawn(move || serve(stream, tls, &seen, &*handler));
            }
        });
        Self { at, shared, thread: Some(thread) }
    }

    /// Answers every request with these bytes and closes.
    pub fn new(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::raw(listener(), None, answering(answer))
    }

    /// The same behind TLS.
    pub fn tls(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::raw(listener, Some(config), answering(answer))
    }

    /// Whoever connects here made a mistake.
    pub fn trap(listener: TcpListener) -> Self {
        Self::raw(listener, None, |wire, read| {
            read(wire);
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.at);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answering(
    answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
) -> impl Fn(&mut dyn Wire, &dyn Fn(&mut dyn Wire) -> Option<Request>) + Send + Sync + 'static {
    move |wire, read| {
        if let Some(request) = read(wire) {
            let _ = wire.write_all(&answer(&request));
            let _ = wire.flush();
        }
    }
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, shared: &Arc<Shared>, handler: &Handler) {
    let limit = Some(Duration::from_secs(5));
    let _ = (stream.set_read_timeout(limit), stream.set_write_timeout(limit), stream.set_nodelay(true));
    let read = |wire: &mut dyn Wire| {
        let request = read_request(wire)?;
        shared.requests.lock().unwrap().push(request.clone());
        Some(request)
    };
    match tls {
        None => handler(&mut &stream, &read),
        Some(config) => {
            let Ok(session) = rustls::ServerConnection::new(config) else { return };
            let mut stream = rustls::StreamOwned::new(session, stream);
            handler(&mut stream, &read);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }
}

fn read_request(wire: &mut dyn Wire) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() > 64 * 1024 || wire.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    wire.read_exact(&mut body).ok()?;
    Some(Request { head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A listener on 127.0.0.1, any port.
pub fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).unwrap()
}

/// Listeners on two loopback addresses with one port.
pub fn twins(first: IpAddr, second: IpAddr) -> (TcpListener, TcpListener) {
    for _ in 0..50 {
        let one = TcpListener::bind((first, 0)).unwrap();
        if let Ok(two) = TcpListener::bind((second, one.local_addr().unwrap().port())) {
            return (one, two);
        }
    }
    panic!("no port is free on both addresses");
}

/// An address of this machine that is not the usual one.
pub const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// An answer with its length.
pub fn http(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers = headers.iter().fold(String::new(), |all, header| all + header + "\r\n");
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
        .into_bytes()
}

/// A root that nobody knows but the test.
#[derive(Debug)]
pub struct Root {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A server of these names; `change` spoils its certificate.
    pub fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        config(params.signed_by(&key, &self.issuer).unwrap().der().clone(), &key)
    }
}

pub fn self_signed(names: &[&str]) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    config(params(names).self_signed(&key).unwrap().der().clone(), &key)
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn config(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}
