//! `certs`: certificates on the ledger's side, and renewal on a device's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::base::{OsRandom, Random, Serial, SystemClock, Timestamp};
use crate::device::{Client, ClientError, DeviceFiles};
use crate::event::identity::Subject;
use crate::identity::{AuthorityRecord, AuthorityState, CertificateRecord};
use crate::pki::{fingerprint, pem};

use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::seat::Seat;
use super::time;

/// What `certs` does.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List certificates that have not ended, the next to end first
    List {
        /// Only those that end within this time: 8h, 1d
        #[arg(long, value_name = "DURATION")]
        expiring: Option<String>,
    },
    /// Show one certificate
    Show {
        /// Its serial number
        serial: Serial,
    },
    /// On a device: renew its certificate at the daemon, with a fresh key
    Renew(Renew),
    /// Give the daemon a new certificate, without dropping a connection
    Rotate,
    /// Revoke one certificate; its device stays paired
    Revoke {
        /// Its serial number
        serial: Serial,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Print a certificate in PEM
    Export {
        /// Its serial number
        serial: Serial,
        /// A new file instead of the standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Arguments of `certs renew`.
#[derive(Debug, Args)]
pub struct Renew {
    /// The device's folder, as `pairing join` made it
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// The daemon's address, if it has moved
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Only when a third of the certificate's life is left, or less
    #[arg(long)]
    if_due: bool,
    /// Stay, and renew whenever it is due, a little sooner or later each time
    #[arg(long)]
    watch: bool,
}

impl CertsCommand {
    /// Whether it needs the ledger, rather than a device's folder.
    pub const fn is_the_ledgers(&self) -> bool {
        !matches!(self, Self::Renew(_))
    }
}

/// Runs `certs`.
pub fn run(invocation: &Invocation, command: CertsCommand) -> Result<(), Failure> {
    match command {
        CertsCommand::List { expiring } => list(invocation, expiring.as_deref()),
        CertsCommand::Show { serial } => show(invocation, serial),
        CertsCommand::Renew(args) => renew(invocation, args),
        CertsCommand::Rotate => rotate(invocation),
        CertsCommand::Revoke { serial, yes } => {
            invocation.confirm(&format!("Revoke certificate {serial}?"), yes)?;
            let ledger = invocation.open(Access::Write)?;
            ledger.identity().revoke_certificate(serial)?;
            let seq = ledger.log().head()?.seq;
            invocation.close(&ledger);
            if invocation.out.is_json() {
                return invocation.out.json(&json!({"serial": serial, "result": "revoked", "seq": seq}));
            }
            invocation.out.line(&format!("certificate {serial} is revoked"))
        }
        CertsCommand::Export { serial, out } => {
            let ledger = invocation.open(Access::Read)?;
            let der = ledger.identity().certificate_der(serial)?;
            invocation.close(&ledger);
            write_out(invocation, out.as_deref(), pem("CERTIFICATE", der.as_bytes()).as_bytes())
        }
    }
}

/// Prints, or writes a new file.
pub fn write_out(invocation: &Invocation, out: Option<&Path>, bytes: &[u8]) -> Result<(), Failure> {
    let Some(path) = out else { return invocation.out.verbatim(bytes) };
    let written = invocation.seat.create_new(path);
    written.and_then(|mut file| file.write_all(bytes)).map_err(|error| {
        let taken = error.kind() == std::io::ErrorKind::AlreadyExists;
        let code = if taken { ExitCode::Conflict } else { ExitCode::Io };
        Failure::new(code, format!("cannot write {}: {error}", path.display()), "name a file that is not there yet")
    })
}

/// A certificate's record as JSON shows it.
pub fn to_json(serial: Serial, record: &CertificateRecord) -> Value {
    let (device, names) = match &record.subject {
        Subject::Device(device) => (json!(device), Value::Null),
        Subject::Server(names) => (Value::Null, json!(names)),
    };
    json!({
        "serial": serial,
        "device": device,
        "names": names,
        "generation": record.generation,
        "not_before_ms": record.not_before.as_millis(),
        "not_after_ms": record.not_after.as_millis(),
        "cause": record.cause.name(),
        "revoked_ms": record.revoked.map(Timestamp::as_millis),
        "seq": record.seq,
    })
}

fn subject(record: &CertificateRecord) -> String {
    match &record.subject {
        Subject::Device(device) => format!("device {device}"),
        Subject::Server(names) => format!("daemon {}", names.first().map_or("", String::as_str)),
    }
}

fn list(invocation: &Invocation, expiring: Option<&str>) -> Result<(), Failure> {
    let bad = |_| Failure::usage("--expiring is no duration", "give for example 8h or 1d");
    let within = expiring.map(time::duration_ms).transpose().map_err(bad)?;
    let ledger = invocation.open(Access::Read)?;
    // The ledger's clock: what the log saw end stays ended when the machine's clock is set back.
    let now = ledger.identity().clock().now();
    let mut found = ledger.identity().expiring(now, usize::MAX)?;
    let mut roots = ledger.identity().known_authorities()?.0;
    invocation.close(&ledger);
    let due = |not_after| within.is_none_or(|within| not_after <= now.plus_millis(within));
    found.retain(|(_, record)| due(record.not_after));
    roots.retain(|root| root.state != AuthorityState::Revoked && due(root.not_after));
    if invocation.out.is_json() {
        let all: Vec<_> = found.iter().map(|(serial, record)| to_json(*serial, record)).collect();
        let root = |root: &AuthorityRecord| {
            json!({
                "generation": root.generation, "state": root.state.name(),
                "not_after_ms": root.not_after.as_millis(),
            })
        };
        let roots: Vec<_> = roots.iter().map(root).collect();
        return invocation.out.json(&json!({"certificates": all, "roots": roots}));
    }
    let mut rows: Vec<_> = found
        .iter()
        .map(|(serial, record)| {
            let left = record.not_after.as_millis().saturating_sub(now.as_millis());
            let state = if record.revoked.is_some() { "revoked".to_owned() } else { time::rough(left) };
            vec![serial.to_string(), subject(record), time::second(record.not_after), state]
        })
        .collect();
    // A leaf never ends after its root, so the roots come last.
    rows.extend(roots.iter().map(|root| {
        let left = time::rough(root.not_after.as_millis().saturating_sub(now.as_millis()));
        let what = format!("the CA itself ({})", root.state.name());
        vec![format!("root {}", root.generation), what, time::second(root.not_after), left]
    }));
    invocation.out.table(&["SERIAL", "FOR", "ENDS", "LEFT"], &rows)
}

fn show(invocation: &Invocation, serial: Serial) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let record = ledger.identity().certificate(serial)?;
    let der = ledger.identity().certificate_der(serial)?;
    invocation.close(&ledger);
    let print = fingerprint(der.as_bytes());
    let mut shown = to_json(serial, &record);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("sha256".to_owned(), json!(print));
    }
    if invocation.out.is_json() {
        return invocation.out.json(&shown);
    }
    let state = record.revoked.map_or_else(|| "good".to_owned(), |at| format!("revoked {}", time::second(at)));
    for (name, value) in [
        ("serial", serial.to_string()),
        ("for", subject(&record)),
        ("state", state),
        ("begins", time::second(record.not_before)),
        ("ends", time::second(record.not_after)),
        ("issued", format!("{} by CA generation {}, event {}", record.cause.name(), record.generation, record.seq)),
        ("sha256", print.to_string()),
    ] {
        invocation.out.line(&format!("{name:<9}{value}"))?;
    }
    Ok(())
}

fn rotate(invocation: &Invocation) -> Result<(), Failure> {
    let Seat::Client(client) = &invocation.seat else {
        return Err(Failure::new(
            ExitCode::NotFound,
            "no daemon serves this ledger: there is no certificate to rotate",
            "start one with `palyra-ledger serve`; it takes a new certificate whenever it starts",
        ));
    };
    let failed =
        |why| Failure::new(ExitCode::Io, format!("the daemon keeps its certificate: {why}"), "look at its messages");
    let serial = (client.renew)().map_err(failed)?;
    if invocation.out.is_json() {
        return invocation.out.json(&json!({"result": "renewed", "serial": serial}));
    }
    invocation.out.line(&format!("the daemon has certificate {serial} now"))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, hint) = match &error {
            ClientError::Network { .. } => (ExitCode::Io, "look whether the daemon runs and the address is right"),
            ClientError::Refused { status: 404, .. } => (ExitCode::NotFound, "ask for a new pairing code"),
            ClientError::Refused { kind, .. } if kind == "waiting" => {
                (ExitCode::Aborted, "have the request approved, then join again without a code")
            }
            ClientError::Refused { kind, .. } if kind.contains("revoked") || kind.contains("expired") => {
                (ExitCode::Expired, "pair the device anew; a revoked one must be cleared first")
            }
            ClientError::Refused { status: 500.., .. } => (ExitCode::Io, "look at the daemon's messages"),
            ClientError::Refused { .. } => (ExitCode::Denied, "ask whoever keeps the ledger"),
            ClientError::Join(_) => (ExitCode::Denied, "ask for a new code, and check the address"),
            ClientError::Address(_) => (ExitCode::Usage, "give HOST:PORT, for example 192.0.2.7:7344"),
            ClientError::NotPaired(_) => (ExitCode::NotFound, "pair first: `palyra-ledger pairing join`"),
            ClientError::Files(_) => (ExitCode::Io, "look at the device's folder"),
            ClientError::RolledBack { .. } => {
                (ExitCode::Truncated, "keep the device's folder as evidence, and tell whoever keeps the ledger")
            }
            ClientError::Forked { .. } | ClientError::Checkpoint(_) => {
                (ExitCode::Integrity, "keep the device's folder as evidence, and tell whoever keeps the ledger")
            }
            ClientError::Answer(_) => (ExitCode::Usage, "use the same version of the program on both machines"),
            ClientError::Key(_) | ClientError::Tls(_) => (ExitCode::Internal, "pair the device anew"),
        };
        Self::new(code, error.to_string(), hint)
    }
}

/// A runtime for one device's connection.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Internal, format!("cannot start: {error}"), "run the command again"))
}

fn renew(invocation: &Invocation, args: Renew) -> Result<(), Failure> {
    let files = DeviceFiles::new(&args.identity);
    runtime()?.block_on(async {
        loop {
            let clock = Arc::new(SystemClock);
            let renewed = async {
                let mut client = Client::new(files.clone(), args.addr.clone(), clock).await?;
                let (end, due) = client.due(time::now())?;
                if (args.if_due || args.watch) && !due {
                    return Ok((end, None));
                }
                client.renew().await.map(|renewed| (renewed.not_after, Some(renewed.serial)))
            };
            match renewed.await {
                Ok((end, serial)) => report(invocation, end, serial)?,
                Err(error) if args.watch && passes(&error) => invocation.out.warn(&error.to_string()),
                Err(error) => return Err(error.into()),
            }
            match show_checkpoint(invocation, &files, args.addr.clone()).await {
                // Who renews without a pause goes on: a certificate that ends helps nobody.
                Err(error) if args.watch || passes(&error) => invocation.out.warn(&error.to_string()),
                other => other?,
            }
            if !args.watch {
                return Ok(());
            }
            invocation.out.flush()?;
            tokio::time::sleep(pause()).await;
        }
    })
}

/// Compares the ledger with what this device saw of it, and keeps what it shows: a device is an anchor.
async fn show_checkpoint(
    invocation: &Invocation,
    files: &DeviceFiles,
    address: Option<String>,
) -> Result<(), ClientError> {
    let client = Client::new(files.clone(), address, Arc::new(SystemClock)).await?;
    match client.exchange_checkpoint().await {
        Ok(exchanged) if exchanged.given_up => {
            let branch = exchanged.branch;
            let what =
                format!("an older copy of the ledger was put back on purpose: its history is branch {branch} now");
            invocation.out.warn(&what);
            Ok(())
        }
        // A daemon of an older version keeps no checkpoints.
        Ok(_) | Err(ClientError::Refused { status: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether it may go better the next time: a network that is away, or a daemon that has too much to do, is
/// what the third of a life is for. What is revoked, expired or not trusted stays so.
const fn passes(error: &ClientError) -> bool {
    matches!(error, ClientError::Network { .. } | ClientError::Refused { status: 408 | 429 | 500.., .. })
}

/// Five to ten minutes, drawn anew each time, so that many devices do not come at once.
fn pause() -> Duration {
    let random: &dyn Random = &OsRandom;
    let drawn = random.array().map_or(0, u16::from_le_bytes);
    Duration::from_secs(300 + u64::from(drawn) % 300)
}

fn report(invocation: &Invocation, end: Timestamp, serial: Option<Serial>) -> Result<(), Failure> {
    if invocation.out.is_json() {
        let shown = json!({"renewed": serial.is_some(), "serial": serial, "not_after_ms": end.as_millis()});
        return invocation.out.json(&shown);
    }
    match serial {
        Some(serial) => {
            invocation.out.line(&format!("certificate {serial} is in place, good until {}", time::second(end)))
        }
        None => {
            invocation.out.note(&format!("not due: the certificate is good until {}", time::second(end)));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_passes_does_not_end_the_watch() {
        let refused = |status, kind: &str| ClientError::Refused { status, kind: kind.to_owned(), what: String::new() };
        for (status, kind) in [(408, "malformed"), (429, "too_many"), (500, "internal"), (503, "unavailable")] {
            assert!(passes(&refused(status, kind)), "{status}");
        }
        assert!(passes(&ClientError::Network { address: String::new(), what: String::new() }));
        for (status, kind) in [(0, "certificate_revoked"), (0, "expired"), (403, "device_revoked"), (404, "http")] {
            assert!(!passes(&refused(status, kind)), "{kind}");
        }
        assert!(!passes(&ClientError::Answer("a certificate")));
    }

    #[test]
    fn pauses_differ_and_keep_their_bounds() {
        let drawn: std::collections::BTreeSet<_> = (0..64).map(|_| pause()).collect();
        assert!(drawn.len() > 32);
        assert!(drawn.iter().all(|pause| (300..600).contains(&pause.as_secs())));
    }
}
