//! The connection from a device to a daemon.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{Clock, DeviceId, DeviceName, OsRandom, Random, Timestamp, limits};
use crate::checkpoint::NoteError;
use crate::event::identity::{ClientKind, Der};
use crate::identity::Code;
use crate::pki::{CsrError, Fingerprint, LeafKey, read_leaf};
use crate::tls::{TlsError, client_config, ledger_name};

use super::exchange::{Exchanged, judge};
use super::files::{DeviceFiles, DeviceNote, FilesError, Pending, PendingNote};
use super::join::{Answer, Applicant, JoinError, Joining, Waiting};
use super::messages::{
    Base64, CheckpointMessage, ErrorMessage, FinishMessage, GreetingMessage, HelloMessage, PollMessage, ReceiptMessage,
    RenewMessage, RenewedMessage, SeenMessage, StatusMessage,
};

/// Why a device did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The network or TLS failed.
    #[error("{address}: {what}")]
    Network {
        /// Where it connected to.
        address: String,
        /// What failed, with every cause.
        what: String,
    },
    /// The daemon refused.
    #[error("the daemon refused: {what}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable word for the cause.
        kind: String,
        /// What the daemon says.
        what: String,
    },
    /// The answer does not read.
    #[error("the daemon's answer does not read as {0}")]
    Answer(&'static str),
    /// Pairing failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The device's key could not be made or used.
    #[error(transparent)]
    Key(#[from] CsrError),
    /// The device's files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is no host and port.
    #[error("{0} is no address of the form HOST:PORT")]
    Address(String),
    /// The ledger shows less than this device saw of it.
    #[error(
        "this device saw a checkpoint of {known} events, but the ledger does not hold them ({fit}): its end was cut off, or an older copy was put back"
    )]
    RolledBack {
        /// Events that the device saw.
        known: u64,
        /// In a word: `lost` or `other_branch`.
        fit: String,
    },
    /// The ledger shows another history than this device saw.
    #[error(
        "the ledger holds another event {seq} than this device saw: it was rewritten, or went on twice from one state"
    )]
    Forked {
        /// Its sequence number.
        seq: u64,
    },
    /// The ledger's checkpoint is not to be believed.
    #[error("the ledger's checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// The folder holds no paired device.
    #[error("{0} holds no paired device")]
    NotPaired(std::path::PathBuf),
}

/// The alert that ended a connection, if one did.
fn alert<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::AlertDescription> {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let tls = match inner {
        Some(inner) => inner.downcast_ref(),
        None => error.downcast_ref(),
    };
    if let Some(rustls::Error::AlertReceived(alert)) = tls { Some(alert) } else { None }
}

fn network(address: &str, error: &reqwest::Error) -> ClientError {
    let mut what = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let kind = match alert(inner) {
            Some(rustls::AlertDescription::CertificateRevoked) => Some(("certificate_revoked", "is revoked")),
            Some(rustls::AlertDescription::CertificateExpired) => Some(("expired", "has expired")),
            Some(
                rustls::AlertDescription::UnknownCA
                | rustls::AlertDescription::AccessDenied
                | rustls::AlertDescription::CertificateUnknown,
            ) => Some(("untrusted", "is not trusted")),
            _ => None,
        };
        if let Some((kind, why)) = kind {
            return refused(kind, &format!("this device's certificate {why}"));
        }
        let inner_text = inner.to_string();
        if !what.contains(&inner_text) {
            what.push_str(": ");
            what.push_str(&inner_text);
        }
        source = inner.source();
    }
    ClientError::Network { address: address.to_owned(), what }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_millis(limits::CLIENT_CONNECT_MS))
        .timeout(Duration::from_millis(limits::CLIENT_REQUEST_MS))
}

/// TLS that trusts nobody: pairing is plain HTTP, and the system's roots have no say in it.
fn nobody() -> Result<rustls::ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// Reads an answer within its bound.
async fn body(address: &str, mut response: reqwest::Response) -> Result<(u16, Vec<u8>), ClientError> {
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network(address, &error))? {
        if bytes.len() + chunk.len() > limits::CLIENT_ANSWER_MAX {
            return Err(ClientError::Answer("an answer: it is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    if (200..300).contains(&status) {
        return Ok((status, bytes));
    }
    let refused = |kind: String, what: String| ClientError::Refused { status, kind, what };
    Err(match serde_json::from_slice::<ErrorMessage>(&bytes) {
        Ok(message) => refused(message.error.kind, message.error.what),
        Err(_) => refused("http".to_owned(), format!("status {status}")),
    })
}

async fn post<A: DeserializeOwned>(
    http: &reqwest::Client,
    address: &str,
    url: String,
    message: &impl Serialize,
) -> Result<A, ClientError> {
    let response = http.post(url).json(message).send().await.map_err(|error| network(address, &error))?;
    let (_, bytes) = body(address, response).await?;
    serde_json::from_slice(&bytes).map_err(|_| ClientError::Answer("the JSON of this version"))
}

/// What a device needs to join a ledger.
#[derive(Debug)]
pub struct JoinOptions {
    /// Host and port of the daemon's pairing listener.
    pub address: String,
    /// The code.
    pub code: Code,
    /// What the device is.
    pub kind: ClientKind,
    /// What it wants to be called.
    pub name: DeviceName,
    /// Fingerprint of the CA, where a QR code carried it.
    pub ca: Option<Fingerprint>,
    /// How long to wait for a person, in milliseconds.
    pub wait_ms: u64,
}

/// The host part of an address, and its port.
fn split(address: &str) -> Result<(&str, u16), ClientError> {
    let bad = || ClientError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
    let ipv6 = host.contains(':');
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || ipv6 != bracketed || host.contains(['/', '@', '?', '#', ' ']) {
        return Err(bad());
    }
    Ok((host, port))
}

/// Joins a ledger: proves the code, asks for a certificate, waits for a person, and writes the device's
/// files. `waiting` is called once, when the digits that both sides show are known. A folder that holds a
/// device already joins as the same device.
///
/// # Errors
/// [`ClientError`]. Before the certificate is there, no file is written but the request that waits for it:
/// [`resume_join`] goes on with that one.
pub async fn join_ledger(
    files: &DeviceFiles,
    options: JoinOptions,
    waiting: &mut dyn FnMut(DeviceId, &Waiting),
) -> Result<DeviceNote, ClientError> {
    let JoinOptions { address, code, kind, name, ca, wait_ms } = options;
    let (host, _) = split(&address)?;
    files.prepare()?;
    let random: &dyn Random = &OsRandom;
    let device = match files.note()? {
        Some(note) => note.device,
        None => DeviceId::from_bytes(random.array().map_err(|error| JoinError::Proof(error.into()))?),
    };
    // P-256, so that other programs of the device can use it: not all read Ed25519 keys with their public half.
    let key = LeafKey::generate_p256()?;
    let http = builder().tls_backend_preconfigured(nobody()?).build().map_err(|error| network(&address, &error))?;
    let url = |path: &str| format!("http://{address}/v1/pairing/{path}");
    let (joining, hello) = Joining::new(random, code, Applicant { device, kind, name: &name, key: &key })?;
    let greeting: GreetingMessage = post::<_>(&http, &address, url("hello"), &hello as &HelloMessage).await?;
    let (proved, finish) = joining.greeted(random, &greeting, ca)?;
    let receipt: ReceiptMessage = post(&http, &address, url("finish"), &finish as &FinishMessage).await?;
    let asked = proved.received(&receipt.receipt.0)?;
    let note = DeviceNote {
        device,
        kind,
        name: name.as_str().to_owned(),
        ledger: asked.ledger,
        address: format!("{host}:{}", greeting.device_port.unwrap_or(limits::DEVICE_PORT)),
    };
    let pending =
        PendingNote { request: asked.request, sas: asked.sas.clone(), pairing: address.clone(), device: note };
    files.write_pending(&pending, &key, &asked.ca_certificate, asked.poll_key())?;
    waiting(device, &asked);
    wait_and_write(files, &http, pending, &asked, &key, wait_ms).await
}

/// Goes on waiting for the answer to a request that an earlier [`join_ledger`] made and did not live to see
/// answered. None where no request waits in the folder.
///
/// # Errors
/// As [`join_ledger`].
pub async fn resume_join(
    files: &DeviceFiles,
    wait_ms: u64,
    waiting: &mut dyn FnMut(DeviceId, &Waiting),
) -> Result<Option<DeviceNote>, ClientError> {
    let Some(Pending { note, key, root, poll_key }) = files.pending()? else { return Ok(None) };
    split(&note.pairing)?;
    let asked = Waiting::again(&note, root, poll_key);
    waiting(note.device.device, &asked);
    let http =
        builder().tls_backend_preconfigured(nobody()?).build().map_err(|error| network(&note.pairing, &error))?;
    wait_and_write(files, &http, note, &asked, &key, wait_ms).await.map(Some)
}

async fn wait_and_write(
    files: &DeviceFiles,
    http: &reqwest::Client,
    pending: PendingNote,
    asked: &Waiting,
    key: &LeafKey,
    wait_ms: u64,
) -> Result<DeviceNote, ClientError> {
    let PendingNote { pairing, device: note, .. } = pending;
    let certificate = match wait_for_answer(http, &pairing, asked, wait_ms).await? {
        Answer::Approved(certificate) => certificate,
        answer => {
            // It will never be another: nothing is kept for it.
            files.clear_pending()?;
            return Err(match answer {
                Answer::Denied => refused("denied", "the request was denied"),
                _ => refused("expired", "nobody answered the request in time"),
            });
        }
    };
    // Checks that key, certificate and root fit before anything is written.
    let roots = std::slice::from_ref(&asked.ca_certificate);
    client_config(roots, &certificate, key, Arc::new(crate::base::SystemClock))?;
    files.write_roots(roots)?;
    files.write_identity(&certificate, key)?;
    files.write_note(&note)?;
    files.clear_pending()?;
    Ok(note)
}

async fn wait_for_answer(
    http: &reqwest::Client,
    address: &str,
    asked: &Waiting,
    wait_ms: u64,
) -> Result<Answer, ClientError> {
    let url = format!("http://{address}/v1/pairing/poll");
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms);
    let message = PollMessage { request: asked.request };
    let mut failures = 0;
    // A program that approves does so at once, a person after seconds: soon at first, then less and less often.
    let mut pause = Duration::from_millis(limits::CLIENT_POLL_FIRST_MS);
    loop {
        let status: Result<StatusMessage, _> = post(http, address, url.clone(), &message).await;
        match status {
            Ok(status) => {
                failures = 0;
                match asked.answered(&status.status.0)? {
                    Answer::Waiting => {}
                    answer => return Ok(answer),
                }
            }
            // The daemon may be restarting: the request is in its log.
            Err(ClientError::Network { .. }) if failures < limits::CLIENT_POLL_FAILURES_MAX => failures += 1,
            Err(ClientError::Refused { status: 429 | 503, .. }) => {}
            Err(error) => return Err(error),
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(refused(
                "waiting",
                "nobody answered the request yet; it stays open, join again without a code to go on waiting",
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(limits::CLIENT_POLL_MS));
    }
}

fn refused(kind: &str, what: &str) -> ClientError {
    ClientError::Refused { status: 0, kind: kind.to_owned(), what: what.to_owned() }
}

/// A renewal that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// When the new certificate ends.
    pub not_after: Timestamp,
    /// Its serial number.
    pub serial: crate::base::Serial,
}

/// A paired device's connection to its daemon, over mutual TLS.
pub struct Client {
    files: DeviceFiles,
    note: DeviceNote,
    http: reqwest::Client,
    base: String,
    certificate: Der,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("note", &self.note).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes ready to connect as the device in a folder; `address` replaces the one it was paired at.
    ///
    /// # Errors
    /// [`ClientError`] where the files do not read or the address does not resolve.
    pub async fn new(files: DeviceFiles, address: Option<String>, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let note = files.note()?.ok_or_else(|| ClientError::NotPaired(files.note_path()))?;
        let address = address.unwrap_or_else(|| note.address.clone());
        let (host, port) = split(&address)?;
        let identity = files.identity()?;
        let config = client_config(&identity.roots, &identity.certificate, &identity.key, clock)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<_> = found
            .map_err(|error| ClientError::Network { address: address.clone(), what: error.to_string() })?
            .collect();
        let name = ledger_name(note.ledger);
        let http = builder()
            .https_only(true)
            .tls_backend_preconfigured(config)
            .resolve_to_addrs(&name, &found)
            .build()
            .map_err(|error| network(&address, &error))?;
        Ok(Self { base: format!("https://{name}:{port}"), files, note, http, certificate: identity.certificate })
    }

    /// The device's files.
    #[must_use]
    pub const fn files(&self) -> &DeviceFiles {
        &self.files
    }

    /// Who this device is.
    #[must_use]
    pub const fn note(&self) -> &DeviceNote {
        &self.note
    }

    /// When the certificate ends, and whether it is to be renewed: a third of its life is left, or less.
    ///
    /// # Errors
    /// [`ClientError::Answer`] where the certificate does not read.
    pub fn due(&self, now: Timestamp) -> Result<(Timestamp, bool), ClientError> {
        let facts = read_leaf(self.certificate.as_bytes()).map_err(|_| ClientError::Answer("a certificate"))?;
        let life = facts.not_after.as_millis().saturating_sub(facts.not_before.as_millis());
        let left = facts.not_after.as_millis().saturating_sub(now.as_millis());
        Ok((facts.not_after, left <= life / 3))
    }

    /// Asks for a resource; gives the body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let sent = self.http.get(format!("{}{path}", self.base)).send().await;
        let (_, bytes) = body(&self.base, sent.map_err(|error| network(&self.note.address, &error))?).await?;
        Ok(bytes)
    }

    /// Shows the ledger the last checkpoint that this device saw, and keeps the ledger's. What the device kept is
    /// replaced only by what continues it.
    ///
    /// # Errors
    /// [`ClientError::RolledBack`], [`ClientError::Forked`] and [`ClientError::Checkpoint`] where the ledger is not
    /// the one that this device knew; the others where it could not be asked.
    pub async fn exchange_checkpoint(&self) -> Result<Exchanged, ClientError> {
        let seen = self.files.checkpoint()?;
        let message = SeenMessage { note: seen.as_ref().map(|seen| seen.note().to_owned()) };
        let url = format!("{}/v1/checkpoint", self.base);
        let answer: CheckpointMessage = post(&self.http, &self.note.address, url, &message).await?;
        let (shown, exchanged) = judge(self.note.ledger, seen.as_ref(), &answer)?;
        self.files.write_checkpoint(&shown)?;
        Ok(exchanged)
    }

    /// Renews the certificate with a fresh key; certificate, key and roots are written when all is there.
    ///
    /// # Errors
    /// [`ClientError`]; the old files stay then.
    pub async fn renew(&mut self) -> Result<Renewed, ClientError> {
        let key = LeafKey::generate_p256()?;
        let message = RenewMessage { request: Base64(key.request()?) };
        let renewed: RenewedMessage =
            post(&self.http, &self.note.address, format!("{}/v1/renew", self.base), &message).await?;
        let facts = read_leaf(renewed.certificate.as_bytes()).map_err(|_| ClientError::Answer("a certificate"))?;
        if facts.device != Some(self.note.device) {
            return Err(JoinError::OtherDevice.into());
        }
        // Checks that key, certificate and roots fit before anything is replaced.
        client_config(&renewed.roots, &renewed.certificate, &key, Arc::new(crate::base::SystemClock))?;
        self.files.write_roots(&renewed.roots)?;
        self.files.write_identity(&renewed.certificate, &key)?;
        self.certificate = renewed.certificate;
        Ok(Renewed { not_after: facts.not_after, serial: facts.serial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (good, host) in [("127.0.0.1:1", "127.0.0.1"), ("a.example:443", "a.example"), ("[::1]:9", "[::1]")] {
            assert_eq!(split(good).unwrap().0, host);
        }
        for bad in ["", "host", ":1", "host:", "host:0", "host:70000", "::1:9", "a/b:1", "u@h:1"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
