//! Far more than the daemon takes: connections, requests, half requests, silence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use palyra_ledger::limits;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use super::figures::Tally;
use super::peers::{Kind, Peer};
use crate::served::Served;

/// Connections that each device tries to hold.
const GREED: usize = 40;
/// Descriptors that this process needs for everything else.
const RESERVE: usize = 300;
/// How long somebody waits who was turned away.
const PAUSE: Duration = Duration::from_secs(1);

/// Who is answered, and need not be turned away.
pub const NONSENSE: &str = "pairing: nonsense without pause";

/// What came of it.
#[derive(Debug, Default)]
pub struct Shed {
    /// Answers by status.
    statuses: Mutex<BTreeMap<u16, u64>>,
    /// Connections that were tried, by who tried.
    tried: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections that the daemon turned away or cut, by who tried.
    turned: Mutex<BTreeMap<&'static str, u64>>,
    /// What this machine could not do for us.
    own: AtomicU64,
    over: AtomicBool,
}

fn count<K: Ord>(of: &Mutex<BTreeMap<K, u64>>, key: K) {
    *of.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
}

fn copy<K: Ord + Copy>(of: &Mutex<BTreeMap<K, u64>>) -> BTreeMap<K, u64> {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Shed {
    /// Answers by status.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        copy(&self.statuses)
    }

    /// Who tried, how often, and how often in vain.
    pub fn tried(&self) -> Vec<(&'static str, u64, u64)> {
        let turned = copy(&self.turned);
        copy(&self.tried).into_iter().map(|(who, tried)| (who, tried, *turned.get(who).unwrap_or(&0))).collect()
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Somebody was turned away, or this machine has nothing left for him.
    async fn turned(&self, who: &'static str, error: &std::io::Error) {
        use rustix::io::Errno;
        let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
        if error.raw_os_error().is_some_and(|number| ours.contains(&number)) {
            self.own.fetch_add(1, Ordering::Relaxed);
        } else if !self.over() {
            count(&self.turned, who);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Descriptors that this process may have: as many as the system allows.
pub fn raise_descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.map_or(65_536, |most| usize::try_from(most).unwrap_or(65_536))
}

/// A device that takes more than its share, and asks without pause on what it gets.
async fn greedy(peer: Arc<Peer>, shed: Arc<Shed>) {
    const WHO: &str = "devices, over their share";
    let silent = Tally::default();
    while !shed.over() {
        count(&shed.tried, WHO);
        let mut wire = match peer.connect().await {
            Ok(wire) => Some(wire),
            Err(error) => {
                shed.turned(WHO, &error).await;
                continue;
            }
        };
        while !shed.over() {
            match peer.ask(&mut wire, Kind::Head, &silent).await {
                Ok(answer) => count(&shed.statuses, answer.status),
                Err(error) => {
                    shed.turned(WHO, &error).await;
                    break;
                }
            }
        }
    }
}

/// Somebody who connects and says nothing, or never comes to an end.
async fn half(who: &'static str, at: SocketAddr, begin: &'static [u8], then: &'static [u8], shed: Arc<Shed>) {
    while !shed.over() {
        count(&shed.tried, who);
        let held = async {
            let mut stream = TcpStream::connect(at).await?;
            stream.write_all(begin).await?;
            let mut byte = [0; 256];
            loop {
                tokio::select! {
                    read = stream.read(&mut byte) => if read? == 0 { return Err(std::io::ErrorKind::UnexpectedEof.into()) },
                    () = tokio::time::sleep(Duration::from_millis(250)) => stream.write_all(then).await?,
                }
                if shed.over() {
                    return Ok::<_, std::io::Error>(());
                }
            }
        };
        if let Err(error) = held.await {
            shed.turned(who, &error).await;
        }
    }
}

/// Somebody who pairs with nonsense, request after request.
async fn nonsense(at: SocketAddr, shed: Arc<Shed>) {
    const WHO: &str = NONSENSE;
    const REQUEST: &[u8] =
        b"POST /v1/pairing/hello HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n{";
    while !shed.over() {
        count(&shed.tried, WHO);
        let asked = async {
            let mut stream = TcpStream::connect(at).await?;
            let mut waiting = Vec::new();
            while !shed.over() {
                stream.write_all(REQUEST).await?;
                let answer = loop {
                    if let Some((answer, whole)) = super::wire::read(&waiting)? {
                        waiting.drain(..whole);
                        break answer;
                    }
                    if stream.read_buf(&mut waiting).await? == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                };
                count(&shed.statuses, answer.status);
            }
            Ok::<_, std::io::Error>(())
        };
        if let Err(error) = asked.await {
            shed.turned(WHO, &error).await;
        }
    }
}

/// Somebody who begins a command on the local socket and leaves it at that.
async fn idle_client(path: PathBuf, shed: Arc<Shed>) {
    const WHO: &str = "local socket: half commands";
    while !shed.over() {
        count(&shed.tried, WHO);
        let held = async {
            let mut stream = UnixStream::connect(&path).await?;
            stream.write_all(b"PLT1\x10\x00\x00\x00").await?;
            let mut byte = [0; 1];
            // Either the end of it or the byte that says that there are too many.
            let _ = stream.read(&mut byte).await?;
            Err::<(), std::io::Error>(std::io::ErrorKind::UnexpectedEof.into())
        };
        if let Err(error) = held.await {
            shed.turned(WHO, &error).await;
        }
    }
}

/// What is seen from outside while it goes on.
#[derive(Debug, Default)]
pub struct Seen {
    /// Looks at the metrics, at the local socket.
    pub looks: u64,
    /// Looks that were answered.
    pub answered: u64,
    /// Most connections of devices that the daemon told of.
    pub most_open: u64,
    /// Connections that tried to be held at once.
    pub wanted: usize,
}

/// Floods the daemon for a time.
pub fn flood(runtime: &Runtime, peers: &[Arc<Peer>], served: &Served, time: Duration) -> (Arc<Shed>, Seen) {
    let room = raise_descriptors().saturating_sub(RESERVE);
    let shed = Arc::new(Shed::default());
    let mut tasks = tokio::task::JoinSet::new();
    let handle = runtime.handle();
    let halves = limits::UNFINISHED_MAX * 2 + limits::UNFINISHED_MAX / 2;
    let socket = limits::LOCAL_CONNECTIONS_MAX + limits::LOCAL_CLIENTS_MAX * 2;
    let wanted = peers.len() * GREED + 2 * halves + socket + 32;
    // Where there are too few descriptors everybody gets less.
    let scaled = |number: usize| if wanted > room { number * room / wanted } else { number };
    for peer in peers {
        for _ in 0..scaled(GREED) {
            tasks.spawn_on(greedy(Arc::clone(peer), Arc::clone(&shed)), handle);
        }
    }
    for _ in 0..scaled(halves) {
        let who = "device listener: silence";
        tasks.spawn_on(half(who, served.devices, b"", b"", Arc::clone(&shed)), handle);
        let head = b"POST /v1/pairing/hello HTTP/1.1\r\nhost: x\r\nx-slow: ";
        tasks.spawn_on(half("pairing: half requests", served.pairing, head, b"x", Arc::clone(&shed)), handle);
    }
    for _ in 0..scaled(32) {
        tasks.spawn_on(nonsense(served.pairing, Arc::clone(&shed)), handle);
    }
    for _ in 0..scaled(socket) {
        tasks.spawn_on(idle_client(served.socket.clone(), Arc::clone(&shed)), handle);
    }
    let mut seen = Seen { wanted: tasks.len(), ..Seen::default() };
    // A slow machine gets time until everybody was turned away who is to be.
    let (begun, most) = (Instant::now(), time * 4);
    let turned = || shed.tried().iter().all(|(who, _, turned)| *turned > 0 || *who == NONSENSE);
    while begun.elapsed() < time || (begun.elapsed() < most && !turned()) {
        seen.looks += 1;
        if let Ok(metrics) = served.metrics() {
            seen.answered += 1;
            let open = metrics.lines().find_map(|line| line.strip_prefix("palyra_ledger_connections_open "));
            seen.most_open = seen.most_open.max(open.and_then(|open| open.parse().ok()).unwrap_or(0));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    shed.over.store(true, Ordering::Relaxed);
    runtime.block_on(tasks.shutdown());
    (shed, seen)
}
