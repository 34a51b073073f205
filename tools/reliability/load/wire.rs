//! One kept-alive connection of a device: mutual TLS, HTTP/1.1, one request after the other.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a connection or an answer is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_MAX: usize = 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A connection.
pub struct Wire {
    stream: TlsStream<TcpStream>,
    waiting: Vec<u8>,
}

impl Wire {
    /// Connects. That the daemon takes the certificate shows with the first answer alone.
    pub async fn connect(at: SocketAddr, name: ServerName<'static>, config: Arc<ClientConfig>) -> Result<Self> {
        let connecting = async {
            let stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, stream).await
        };
        Ok(Self { stream: within(connecting).await?, waiting: Vec::with_capacity(4096) })
    }

    /// Asks and waits for the answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        within(async {
            self.stream.write_all(request).await?;
            self.stream.flush().await?;
            self.answer().await
        })
        .await
    }

    async fn answer(&mut self) -> Result<Answer> {
        loop {
            if let Some((answer, whole)) = read(&self.waiting)? {
                self.waiting.drain(..whole);
                return Ok(answer);
            }
            if self.waiting.len() > ANSWER_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.waiting).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

async fn within<T>(doing: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, doing).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// The first answer of some bytes and its length, once it is there.
pub fn read(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let bad = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| bad("the head is no text"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("no status"))?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let length = head.lines().find_map(length).ok_or_else(|| bad("no length"))?;
    let whole = end.saturating_add(4).saturating_add(length);
    let body = bytes.get(end + 4..whole).map(<[u8]>::to_vec);
    Ok(body.map(|body| (Answer { status, body }, whole)))
}
