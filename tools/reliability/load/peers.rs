//! Devices: how they are paired, and the task of each that asks when it is due.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use palyra_ledger::device::{DeviceFiles, DeviceNote};
use palyra_ledger::event::identity::{ClientKind, Der};
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::pair_device;
use palyra_ledger::tls::{client_config, ledger_name};
use palyra_ledger::{DeviceId, Ledger, LedgerId, PutOptions, Scope, SecretBytes, SystemClock};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::mpsc::UnboundedReceiver;

use super::figures::Tally;
use super::wire::{Answer, Wire};
use crate::Fault;

/// What a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether the ledger is well.
    Health,
    /// Its last event.
    Head,
    /// Its own secret.
    Value,
    /// The names of its secrets.
    List,
    /// The revocation list.
    Crl,
    /// The roots.
    Roots,
    /// A checkpoint.
    Checkpoint,
    /// A secret of a scope that it is not granted.
    Denied,
}

impl Kind {
    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Health => "GET /v1/health",
            Self::Head => "GET /v1/head",
            Self::Value => "GET /v1/secrets/api",
            Self::List => "GET /v1/secrets",
            Self::Crl => "GET /v1/crl",
            Self::Roots => "GET /v1/ca",
            Self::Checkpoint => "POST /v1/checkpoint",
            Self::Denied => "GET /v1/scopes/global/secrets/api (denied)",
        }
    }

    fn request(self, host: &str) -> Vec<u8> {
        let line = self.name().trim_end_matches(" (denied)");
        let body = if self == Self::Checkpoint { r#"{"note":null}"# } else { "" };
        let length = match body.len() {
            0 => String::new(),
            length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
        };
        format!("{line} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n{body}").into_bytes()
    }
}

/// A request that was due at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// What for.
    pub kind: Kind,
    /// When.
    pub due: Instant,
}

/// A paired device, and what is known of it.
pub struct Peer {
    /// Its id.
    pub id: DeviceId,
    /// Its files.
    pub files: DeviceFiles,
    /// Where it asks.
    pub at: SocketAddr,
    name: ServerName<'static>,
    host: String,
    held: Mutex<Held>,
    /// Number of the last version of its secret whose writing began.
    pub begun: AtomicU64,
    /// Number of the last one that was acknowledged.
    pub acknowledged: AtomicU64,
    /// Whether its revocation has begun.
    pub doomed: AtomicBool,
    /// Whether its revocation was acknowledged.
    pub revoked: AtomicBool,
    /// Requests that were answered after that.
    pub accepted: AtomicU64,
    /// Requests that were refused after that.
    pub refused: AtomicU64,
    /// One duty at a time.
    pub busy: tokio::sync::Mutex<()>,
}

struct Held {
    config: Arc<ClientConfig>,
    /// Grows with every certificate.
    generation: u64,
}

/// The value of a device's secret in one of its versions.
pub fn value(device: DeviceId, number: u64) -> String {
    format!("{device} {number:012} {:-<32}", "")
}

/// The number of the version that a value is, if it is one of this device's.
fn number_of(device: DeviceId, body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let number = text.split(' ').nth(1)?.parse().ok()?;
    (value(device, number) == text).then_some(number)
}

/// A device that was paired before the daemon ran.
pub struct Paired {
    id: DeviceId,
    certificate: Der,
    key: LeafKey,
}

/// Pairs a device by every step but the network, and gives it a secret.
pub fn pair(ledger: &Ledger, number: u64) -> Result<Paired, Fault> {
    let mut bytes = [0xd0; 16];
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    let (id, key) = (DeviceId::from_bytes(bytes), LeafKey::generate_p256()?);
    let (_, certificate) = pair_device(ledger, id, &key)?;
    let scope: Scope = format!("principal:{id}").parse()?;
    ledger.vault(scope).put(&"api".parse()?, &SecretBytes::from(value(id, 1).as_bytes()), PutOptions::new())?;
    Ok(Paired { id, certificate, key })
}

impl Paired {
    /// Writes the device's files, as its own program would have.
    pub fn settle(self, dir: &Path, ledger: LedgerId, roots: &[Der], at: SocketAddr) -> Result<Peer, Fault> {
        let files = DeviceFiles::new(dir.join(self.id.to_string()));
        files.prepare()?;
        files.write_roots(roots)?;
        files.write_identity(&self.certificate, &self.key)?;
        let name = self.id.to_string();
        files.write_note(&DeviceNote {
            device: self.id,
            kind: ClientKind::Node,
            name,
            ledger,
            address: at.to_string(),
        })?;
        Peer::new(files, at, 1)
    }
}

impl Peer {
    /// A device of these files, whose secret has so many versions.
    pub fn new(files: DeviceFiles, at: SocketAddr, versions: u64) -> Result<Self, Fault> {
        let note = files.note()?.ok_or("the device is not paired")?;
        let host = ledger_name(note.ledger);
        let held = Mutex::new(Held { config: config(&files)?, generation: 0 });
        let name = ServerName::try_from(host.clone())?;
        Ok(Self {
            id: note.device,
            files,
            at,
            name,
            host,
            held,
            begun: AtomicU64::new(versions),
            acknowledged: AtomicU64::new(versions),
            doomed: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            busy: tokio::sync::Mutex::new(()),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the certificate that its files hold now.
    pub fn renewed(&self) -> Result<(), Fault> {
        let fresh = config(&self.files)?;
        let mut held = self.held();
        (held.config, held.generation) = (fresh, held.generation + 1);
        Ok(())
    }

    /// A connection with the certificate of this moment, and that one's generation.
    pub async fn connect(&self) -> std::io::Result<(Wire, u64)> {
        let (config, generation) = {
            let held = self.held();
            (Arc::clone(&held.config), held.generation)
        };
        Ok((Wire::connect(self.at, self.name.clone(), config).await?, generation))
    }

    /// Asks on a connection, which is made where there is none.
    pub async fn ask(&self, wire: &mut Option<(Wire, u64)>, kind: Kind, tally: &Tally) -> std::io::Result<Answer> {
        if wire.as_ref().is_some_and(|(_, generation)| *generation != self.held().generation) {
            *wire = None;
        }
        let (open, _) = match wire {
            Some(open) => open,
            None => {
                let begun = Instant::now();
                let open = wire.insert(self.connect().await?);
                tally.took("handshake", begun.elapsed());
                open
            }
        };
        open.ask(&kind.request(&self.host)).await
    }

    /// Whether an answer is right; `floor` is the version that was acknowledged before the question.
    pub fn judge(&self, kind: Kind, answer: &Answer, floor: u64) -> Result<(), String> {
        let wanted = if kind == Kind::Denied { 403 } else { 200 };
        let said = || String::from_utf8_lossy(answer.body.get(..200).unwrap_or(&answer.body)).into_owned();
        if answer.status != wanted {
            return Err(format!("{}: status {} instead of {wanted}: {}", kind.name(), answer.status, said()));
        }
        let right = match kind {
            Kind::Value => {
                let most = self.begun.load(Ordering::SeqCst);
                number_of(self.id, &answer.body).is_some_and(|number| (floor..=most).contains(&number))
            }
            Kind::Health => said().contains(r#""status":"ok""#),
            Kind::Head => said().contains(r#""hash":"#),
            Kind::List => said().contains(r#""name":"api""#),
            Kind::Roots => answer.body.starts_with(b"-----BEGIN CERTIFICATE-----"),
            Kind::Crl => answer.body.starts_with(&[0x30]),
            Kind::Checkpoint => said().contains(r#""note":"#),
            Kind::Denied => said().contains("not_granted"),
        };
        if right { Ok(()) } else { Err(format!("{}: {floor} or later was due: {}", kind.name(), said())) }
    }

    /// One request, from when it was due to its answer.
    pub async fn one(&self, wire: &mut Option<(Wire, u64)>, job: Job, tally: &Tally) {
        let floor = self.acknowledged.load(Ordering::SeqCst);
        let revoked = self.revoked.load(Ordering::SeqCst);
        let asked = self.ask(wire, job.kind, tally).await;
        if asked.is_err() {
            *wire = None;
        }
        let answered = asked.as_ref().is_ok_and(|answer| answer.status == 200);
        if revoked {
            // Whatever else it is: it must be no answer.
            if answered { &self.accepted } else { &self.refused }.fetch_add(1, Ordering::SeqCst);
            return;
        }
        // Between the order and its acknowledgement both are right.
        if self.doomed.load(Ordering::SeqCst) {
            return;
        }
        match asked {
            Ok(answer) => {
                tally.took(job.kind.name(), job.due.elapsed());
                if let Err(what) = self.judge(job.kind, &answer, floor) {
                    tally.fault(format!("device {}: {what}", self.id));
                }
            }
            Err(error) => tally.fault(format!("device {}: {}: {error}", self.id, job.kind.name())),
        }
    }
}

fn config(files: &DeviceFiles) -> Result<Arc<ClientConfig>, Fault> {
    let identity = files.identity()?;
    Ok(Arc::new(client_config(&identity.roots, &identity.certificate, &identity.key, Arc::new(SystemClock))?))
}

/// The task of a device: asks for what is due, one after the other, until nobody sends any more.
pub async fn work(peer: Arc<Peer>, mut jobs: UnboundedReceiver<Job>, tally: Arc<Tally>) {
    let mut wire = None;
    while let Some(job) = jobs.recv().await {
        peer.one(&mut wire, job, &tally).await;
    }
}
