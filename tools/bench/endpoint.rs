//! A token endpoint on loopback, in this process and on one thread: it rotates refresh tokens and knows when
//! one comes a second time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::Fault;

/// Life of the access tokens that it gives, in seconds: due again as soon as they are given.
const LIFE_S: u64 = 60;

#[derive(Debug, Default)]
struct Grants {
    /// How often each was refreshed.
    spent: Mutex<Vec<u64>>,
    reused: AtomicU64,
}

/// A running endpoint; it stops when it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    grants: Arc<Grants>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The first refresh token of a grant.
pub fn first_token(grant: usize) -> String {
    token(grant, 0)
}

fn token(grant: usize, spent: u64) -> String {
    format!("refresh-{grant:08}-{spent:024}")
}

impl Endpoint {
    /// Starts with so many grants.
    pub fn start(grants: usize) -> Result<Self, Fault> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Grants { spent: Mutex::new(vec![0; grants]), ..Grants::default() });
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("endpoint".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, grants: shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The URL of its token endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Refresh tokens that came a second time.
    pub fn reused(&self) -> u64 {
        self.grants.reused.load(Ordering::Relaxed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, grants: Arc<Grants>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, Arc::clone(&grants)));
    }
}

/// One connection, request after request.
async fn serve(mut stream: TcpStream, grants: Arc<Grants>) {
    let mut waiting = Vec::with_capacity(4096);
    loop {
        let (body, rest) = loop {
            if let Some((body, whole)) = request(&waiting) {
                break (body, waiting.split_off(whole));
            }
            match stream.read_buf(&mut waiting).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        waiting = rest;
        let (status, answer) = grants.answer(&body);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The body of the first request and the whole length of it, once it is there.
fn request(bytes: &[u8]) -> Option<(String, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(bytes.get(..head)?).ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    };
    let whole = head + text.lines().find_map(field)?;
    let body = bytes.get(head..whole)?;
    Some((String::from_utf8_lossy(body).into_owned(), whole))
}

impl Grants {
    fn answer(&self, body: &str) -> (&'static str, String) {
        let mut fields = body.split('&').filter_map(|field| field.strip_prefix("refresh_token="));
        let named = fields.next().and_then(|text| text.strip_prefix("refresh-")?.split_once('-'));
        let named = named.and_then(|(grant, spent)| Some((grant.parse::<usize>().ok()?, spent.parse::<u64>().ok()?)));
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match named.and_then(|(grant, spent)| Some((grant, spent, all.get_mut(grant)?))) {
            Some((grant, spent, now)) if spent == *now => {
                *now += 1;
                let refresh = token(grant, *now);
                let answer = format!(
                    r#"{{"access_token":"access-{refresh}","token_type":"Bearer","expires_in":{LIFE_S},"refresh_token":"{refresh}"}}"#
                );
                ("200 OK", answer)
            }
            found => {
                if found.is_some() {
                    self.reused.fetch_add(1, Ordering::Relaxed);
                }
                ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned())
            }
        }
    }
}
