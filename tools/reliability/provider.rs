//! A token endpoint on loopback: it rotates refresh tokens, knows when one comes a second time, and remembers every
//! token that it gave.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Fault;
use crate::workload::Dice;

/// Life of the access tokens that it gives, in seconds: due again as soon as they are given.
const LIFE_S: u64 = 2;
/// Longest request that it reads.
const REQUEST_MAX: usize = 64 * 1024;

#[derive(Debug)]
struct Books {
    /// The refresh token of each grant that is good now.
    good: Vec<String>,
    /// Every token that was ever given.
    issued: Vec<String>,
    dice: Dice,
}

#[derive(Debug)]
struct Shared {
    books: Mutex<Books>,
    served: AtomicU64,
    spent_twice: AtomicU64,
    over: AtomicBool,
}

/// A running endpoint; it stops when it is dropped.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn token(dice: &mut Dice, what: &str, grant: usize) -> String {
    format!("{what}-{grant:04}-{:016x}{:016x}{:016x}", dice.number(), dice.number(), dice.number())
}

impl Provider {
    /// Starts with so many grants, whose tokens follow from the seed.
    pub fn start(grants: usize, seed: u64) -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut dice = Dice::of(seed, 0x0a07);
        let good: Vec<_> = (0..grants).map(|grant| token(&mut dice, "refresh", grant)).collect();
        let books = Mutex::new(Books { issued: good.clone(), good, dice });
        let (served, spent_twice, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { books, served, spent_twice, over });
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("provider".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&serving)) else { continue };
                std::thread::spawn(move || shared.serve(stream));
            }
        })?;
        Ok(Self { address, shared })
    }

    /// The URL of its token endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The refresh token of a grant that is good now.
    pub fn good(&self, grant: usize) -> Result<String, Fault> {
        self.shared.books(|books| books.good.get(grant).cloned()).ok_or_else(|| "there is no such grant".into())
    }

    /// Every token that it ever gave.
    pub fn issued(&self) -> Vec<String> {
        self.shared.books(|books| books.issued.clone())
    }

    /// Refreshes that it answered with tokens.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Refresh tokens that came a second time.
    pub fn spent_twice(&self) -> u64 {
        self.shared.spent_twice.load(Ordering::Relaxed)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn books<T>(&self, with: impl FnOnce(&mut Books) -> T) -> T {
        with(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One connection, request after request.
    fn serve(&self, mut stream: TcpStream) {
        let _ = (stream.set_nodelay(true), stream.set_read_timeout(Some(Duration::from_mins(2))));
        let mut waiting = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let (body, rest) = loop {
                if let Some((body, whole)) = request(&waiting) {
                    break (body, waiting.split_off(whole));
                }
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 && waiting.len() < REQUEST_MAX => {
                        waiting.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    }
                    _ => return,
                }
            };
            waiting = rest;
            let (status, answer) = self.answer(&body);
            let head = "content-type: application/json\r\ncache-control: no-store\r\ncontent-length";
            let answer = format!("HTTP/1.1 {status}\r\n{head}: {}\r\n\r\n{answer}", answer.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, body: &str) -> (&'static str, String) {
        let given = body.split('&').find_map(|field| field.strip_prefix("refresh_token=")).unwrap_or_default();
        self.books(|books| {
            let Some(grant) = books.good.iter().position(|good| good == given) else {
                if books.issued.iter().any(|issued| issued == given) {
                    self.spent_twice.fetch_add(1, Ordering::Relaxed);
                }
                return ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned());
            };
            let (access, refresh) = (token(&mut books.dice, "access", grant), token(&mut books.dice, "refresh", grant));
            if let Some(good) = books.good.get_mut(grant) {
                good.clone_from(&refresh);
            }
            books.issued.extend([access.clone(), refresh.clone()]);
            self.served.fetch_add(1, Ordering::Relaxed);
            let answer = serde_json::json!({
                "access_token": access, "token_type": "Bearer", "expires_in": LIFE_S, "refresh_token": refresh,
            });
            ("200 OK", answer.to_string())
        })
    }
}

/// The body of the first request and the whole length of it, once it is there.
fn request(bytes: &[u8]) -> Option<(String, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(bytes.get(..head)?).ok()?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let whole = head.checked_add(text.lines().find_map(length)?)?;
    let body = bytes.get(head..whole)?;
    Some((String::from_utf8_lossy(body).into_owned(), whole))
}
