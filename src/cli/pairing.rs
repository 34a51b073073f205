//! `pairing`: codes and requests on the ledger's side, joining on a device's.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use zeroize::Zeroizing;

use crate::base::{DeviceName, PairingId, RequestId};
use crate::device::join::Waiting;
use crate::device::{DeviceFiles, DeviceNote, JoinOptions, join_ledger, resume_join};
use crate::engine::{MintOptions, Minting};
use crate::event::identity::{ClientKind, CodeMethod};
use crate::identity::{Code, PairingState, RequestRecord, RequestState};
use crate::pki::{Fingerprint, fingerprint};

use super::certs::runtime;
use super::devices::device_name;
use super::exit::{ExitCode, Failure};
use super::invocation::{Access, Invocation};
use super::seat::Seat;
use super::time;

/// What `pairing` does.
#[derive(Debug, Subcommand)]
pub enum PairingCommand {
    /// Make a code that a device joins with
    Mint(Mint),
    /// List the codes that are remembered, without the codes
    List,
    /// Take a code back
    Cancel {
        /// The pairing's id
        id: PairingId,
    },
    /// List the requests of devices that proved a code
    Requests {
        /// Those that were answered, too
        #[arg(long)]
        all: bool,
    },
    /// Approve a request: the device is trusted from then on
    Approve {
        /// The request's id
        id: RequestId,
        /// The six digits that the device shows; another number is refused
        #[arg(long, value_name = "DIGITS")]
        sas: Option<String>,
        /// The device takes the place of the one that is paired under its id, whose certificates are revoked
        #[arg(long)]
        replace: bool,
    },
    /// Deny a request; say why with --reason
    Deny {
        /// The request's id
        id: RequestId,
    },
    /// On a device: join a ledger with a code
    Join(Join),
}

/// Arguments of `pairing mint`.
#[derive(Debug, Args)]
pub struct Mint {
    /// How the code gets to the device
    #[arg(long, value_enum, default_value = "pin")]
    method: Method,
    /// What the device must be
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// How long the code is good for, at most 1h
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    ttl: String,
    /// What the device is to be called
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address of the pairing listener, for the QR code; by default the running daemon's, or as in config.toml
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

/// Arguments of `pairing join`.
#[derive(Debug, Args)]
pub struct Join {
    /// Address of the daemon's pairing listener; a QR code carries it
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// The code, or what the QR code says; otherwise it is read from the standard input or asked for
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Folder for the device's key and certificates
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// What this device is
    #[arg(long, value_enum, default_value = "node")]
    kind: Kind,
    /// What it wants to be called; by default this machine's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    wait: String,
}

/// How a code is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Six digits to type.
    Pin,
    /// A QR code to scan.
    Qr,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A command line on another machine.
    Cli,
    /// A desktop program.
    Desktop,
    /// A machine that runs agents.
    Node,
}

impl From<Kind> for ClientKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Cli => Self::Cli,
            Kind::Desktop => Self::Desktop,
            Kind::Node => Self::Node,
        }
    }
}

impl PairingCommand {
    /// Whether it needs the ledger, rather than a device's folder.
    pub const fn is_the_ledgers(&self) -> bool {
        !matches!(self, Self::Join(_))
    }
}

/// Runs `pairing`.
pub fn run(invocation: &Invocation, command: PairingCommand) -> Result<(), Failure> {
    match command {
        PairingCommand::Mint(args) => mint(invocation, &args),
        PairingCommand::List => list(invocation),
        PairingCommand::Cancel { id } => {
            let ledger = invocation.open(Access::Write)?;
            ledger.identity().cancel(id)?;
            invocation.close(&ledger);
            answer(invocation, &json!({"pairing": id, "result": "cancelled"}), &format!("pairing {id} is over"))
        }
        PairingCommand::Requests { all } => requests(invocation, all),
        PairingCommand::Approve { id, sas, replace } => {
            let ledger = invocation.open(Access::Write)?;
            let (identity, sas) = (ledger.identity(), sas.as_deref());
            let approval = if replace { identity.approve_replacing(id, sas) } else { identity.approve(id, sas) }?;
            invocation.close(&ledger);
            let shown =
                json!({"request": id, "device": approval.device, "result": "approved", "serial": approval.issued});
            answer(invocation, &shown, &format!("device {} is paired", approval.device))
        }
        PairingCommand::Deny { id } => {
            let reason = invocation.caller()?.reason;
            let ledger = invocation.open(Access::Write)?;
            let device = ledger.identity().deny(id, reason)?;
            invocation.close(&ledger);
            let shown = json!({"request": id, "device": device, "result": "denied"});
            answer(invocation, &shown, &format!("the request of device {device} is denied"))
        }
        PairingCommand::Join(args) => join(invocation, args),
    }
}

fn answer(invocation: &Invocation, shown: &serde_json::Value, text: &str) -> Result<(), Failure> {
    if invocation.out.is_json() { invocation.out.json(shown) } else { invocation.out.line(text) }
}

/// What a QR code carries: the code, where to go, and whom to expect there. Nothing of it lasts longer than
/// the code.
fn uri(code: &str, address: &str, ca: Fingerprint) -> Zeroizing<String> {
    Zeroizing::new(format!("palyra-pair:1?code={code}&addr={address}&ca={ca}"))
}

/// What was typed or scanned: a code, and with it perhaps an address and a fingerprint.
fn parse_code(text: &str) -> Result<(Code, Option<String>, Option<Fingerprint>), Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::usage(error.to_string(), "type the code as it is shown");
    let Some(query) = text.trim().strip_prefix("palyra-pair:1?") else {
        return Ok((text.parse().map_err(|error| refused(&error))?, None, None));
    };
    let (mut code, mut address, mut ca) = (None, None, None);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "code" => code = Some(value.parse().map_err(|error| refused(&error))?),
            "addr" => address = Some(value.to_owned()),
            "ca" => ca = Some(value.parse().map_err(|_| refused(&"the QR code's fingerprint does not read"))?),
            _ => {}
        }
    }
    Ok((code.ok_or_else(|| refused(&"the QR code holds no code"))?, address, ca))
}

/// Where a device is to go: what was said, or where the daemon that runs this command listens, or what a daemon
/// would take from config.toml.
fn pairing_address(invocation: &Invocation, said: Option<&str>) -> String {
    let served = match &invocation.seat {
        Seat::Client(client) => client.pairing,
        Seat::Own => None,
    };
    said.map(ToOwned::to_owned)
        .or_else(|| served.map(|at| reachable(at).to_string()))
        .unwrap_or_else(|| invocation.settings().serve.pairing_listen)
}

/// A daemon that listens everywhere is reached by an address of this machine: the one that it would send from.
/// Nothing is sent to find it.
fn reachable(at: SocketAddr) -> SocketAddr {
    if !at.ip().is_unspecified() {
        return at;
    }
    // Addresses for documentation (RFC 3849, RFC 5737): routed like any other, and nobody's. What listens to all
    // of IPv6 listens to IPv4 as well.
    let ways: [(&str, &str); 2] = [("[::]:0", "[2001:db8::1]:9"), ("0.0.0.0:0", "192.0.2.1:9")];
    let ours = |(from, to): &(&str, &str)| {
        let socket = std::net::UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok()
    };
    let ours = ways.iter().skip(usize::from(at.is_ipv4())).find_map(ours);
    ours.map_or(at, |ours| SocketAddr::new(ours.ip(), at.port()))
}

fn mint(invocation: &Invocation, args: &Mint) -> Result<(), Failure> {
    let bad = |_| Failure::usage("--ttl is no duration", "give for example 90s or 5m");
    let options = MintOptions {
        method: if args.method == Method::Qr { CodeMethod::Qr } else { CodeMethod::Pin },
        kind: args.kind.map(ClientKind::from),
        name: args.name.as_deref().map(device_name).transpose()?,
        ttl_ms: time::duration_ms(&args.ttl).map_err(bad)?,
    };
    let ledger = invocation.open(Access::Write)?;
    let identity = ledger.identity();
    // No daemon need be there that does it by the clock.
    identity.sweep()?;
    let Minting { pairing, code, expires_at } = identity.mint(&options)?;
    let all = identity.authorities()?;
    let address = pairing_address(invocation, args.addr.as_deref());
    invocation.close(&ledger);
    let ca = all.active().map(|record| fingerprint(record.certificate.as_bytes()));
    let text = code.expose();
    let uri = ca.map(|ca| uri(&text, &address, ca));
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&json!({
            "pairing": pairing, "code": *text, "expires_at_ms": expires_at.as_millis(),
            "ca_sha256": ca, "uri": uri.as_ref().map(|uri| uri.as_str()),
        }));
    }
    if let (Method::Qr, Some(uri)) = (args.method, &uri) {
        let failed = |error| Failure::new(ExitCode::Internal, format!("the QR code cannot be drawn: {error}"), "");
        let drawn = qrcode::QrCode::new(uri.as_bytes()).map_err(failed)?;
        let drawn = drawn.render::<qrcode::render::unicode::Dense1x2>().build();
        out.verbatim(format!("{drawn}\n").as_bytes())?;
    }
    out.line(&format!("code     {}", *text))?;
    out.line(&format!("until    {}", time::second(expires_at)))?;
    out.line(&format!("pairing  {pairing}"))?;
    if let Some(ca) = ca {
        out.line(&format!("ca       {ca}"))?;
    }
    out.note(&format!("on the device: palyra-ledger pairing join --addr {address} --identity DIR"));
    Ok(())
}

fn list(invocation: &Invocation) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let found = ledger.identity().pairings()?;
    let now = ledger.identity().clock().now();
    invocation.close(&ledger);
    let state = |record: &crate::identity::PairingRecord| match (record.state, record.ended(now)) {
        (PairingState::Used(_), _) => "used",
        (_, Some(cause)) => cause.name(),
        _ => "open",
    };
    if invocation.out.is_json() {
        let all: Vec<_> = found
            .iter()
            .map(|(id, record)| {
                json!({
                    "pairing": id, "locator": record.locator, "state": state(record), "attempts": record.attempts,
                    "expires_at_ms": record.expires_at.as_millis(),
                })
            })
            .collect();
        return invocation.out.json(&json!({"pairings": all}));
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(id, record)| {
            let (attempts, until) = (record.attempts.to_string(), time::second(record.expires_at));
            vec![id.to_string(), record.locator.clone(), state(record).to_owned(), attempts, until]
        })
        .collect();
    invocation.out.table(&["PAIRING", "LOCATOR", "STATE", "ATTEMPTS", "UNTIL"], &rows)
}

fn requests(invocation: &Invocation, all: bool) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let mut found = Vec::new();
    for (id, record) in ledger.identity().requests()? {
        let waits = record.state == RequestState::Waiting;
        let replaced = if waits { ledger.identity().replaced_by(&record)? } else { None };
        found.push((id, record, replaced.map(|device| device.name)));
    }
    let now = ledger.identity().clock().now();
    invocation.close(&ledger);
    let state = |record: &RequestRecord| match record.state {
        RequestState::Expired => "expired",
        RequestState::Waiting if now >= record.expires_at => "expired",
        RequestState::Waiting => "waiting",
        RequestState::Approved(_) => "approved",
        RequestState::Denied => "denied",
    };
    found.retain(|(_, record, _)| all || state(record) == "waiting");
    if invocation.out.is_json() {
        let list: Vec<_> = found
            .iter()
            .map(|(id, record, replaces)| {
                json!({
                    "request": id, "device": record.device, "name": record.name.as_str(), "kind": record.kind.name(),
                    "sas": record.sas, "peer": record.peer, "state": state(record),
                    "created_ms": record.created.as_millis(), "expires_at_ms": record.expires_at.as_millis(),
                    "replaces": replaces.as_ref().map(DeviceName::as_str),
                })
            })
            .collect();
        return invocation.out.json(&json!({"requests": list}));
    }
    if found.is_empty() {
        invocation.out.note("no request waits");
        return Ok(());
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(id, record, replaces)| {
            let mut row = vec![id.to_string(), record.device.to_string(), record.name.as_str().to_owned()];
            row.extend([record.kind.name().to_owned(), record.sas.clone(), record.peer.clone()]);
            row.extend([state(record).to_owned(), replaces.as_ref().map_or("-", DeviceName::as_str).to_owned()]);
            row
        })
        .collect();
    invocation.out.table(&["REQUEST", "DEVICE", "NAME", "KIND", "DIGITS", "FROM", "STATE", "REPLACES"], &rows)
}

fn typed_code(invocation: &Invocation) -> Result<Zeroizing<String>, Failure> {
    let typed = if invocation.seat.is_terminal() {
        invocation.prompt("pairing code: ")?
    } else {
        let failed = |error: std::io::Error| Failure::new(ExitCode::Io, format!("cannot read the code: {error}"), "");
        invocation.seat.ask("").map_err(failed)?
    };
    let text = std::str::from_utf8(typed.expose()).map_err(|_| Failure::usage("the code is no text", ""))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn join(invocation: &Invocation, args: Join) -> Result<(), Failure> {
    let bad = |_| Failure::usage("--wait is no duration", "give for example 10m");
    let wait_ms = time::duration_ms(&args.wait).map_err(bad)?;
    let files = DeviceFiles::new(&args.identity);
    let out = &invocation.out;
    let mut tell = |device: crate::base::DeviceId, waiting: &Waiting| {
        out.note(&format!("device {device} asks to be paired, request {}", waiting.request));
        out.note(&format!("the ledger's side must show the digits {}", waiting.sas));
    };
    if args.code.is_none()
        && let Some(note) = runtime()?.block_on(resume_join(&files, wait_ms, &mut tell))?
    {
        return joined(invocation, &files, &note);
    }
    let text = args.code.map_or_else(|| typed_code(invocation), |code| Ok(Zeroizing::new(code)))?;
    let (code, scanned, ca) = parse_code(&text)?;
    let address = args.addr.or(scanned).ok_or_else(|| {
        Failure::usage("no address is known", "name the daemon's pairing listener with --addr HOST:PORT")
    })?;
    let name = match args.name {
        Some(name) => device_name(&name)?,
        None => machine_name(),
    };
    let options = JoinOptions { address, code, kind: args.kind.into(), name, ca, wait_ms };
    let note = runtime()?.block_on(join_ledger(&files, options, &mut tell))?;
    joined(invocation, &files, &note)
}

fn joined(invocation: &Invocation, files: &DeviceFiles, note: &DeviceNote) -> Result<(), Failure> {
    let shown = json!({
        "device": note.device, "ledger": note.ledger, "address": note.address,
        "identity": files.identity_path(), "roots": files.roots_path(),
    });
    answer(
        invocation,
        &shown,
        &format!(
            "paired as device {}; its certificate and key are in {}",
            note.device,
            files.identity_path().display()
        ),
    )
}

fn machine_name() -> DeviceName {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    DeviceName::new(&name).or_else(|_| DeviceName::new("device")).unwrap_or_else(|_| unreachable!("a fixed name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_qr_code_carries_reads_back() {
        let ca = fingerprint(b"root");
        let (code, address, found) = parse_code(&uri("bcdf-123456", "192.0.2.1:7344", ca)).unwrap();
        assert_eq!(code.locator(), "bcdf");
        assert_eq!((address.as_deref(), found), (Some("192.0.2.1:7344"), Some(ca)));
        assert_eq!(parse_code("bcdf 123 456").unwrap().0.secret(), b"123456");
        for bad in ["", "palyra-pair:1?addr=x:1", "palyra-pair:1?code=x", "palyra-pair:1?code=bcdf-123456&ca=zz"] {
            assert!(parse_code(bad).is_err(), "{bad}");
        }
    }
}
