//! `devices`: who is trusted.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::base::{DeviceId, DeviceName, IdError, Scope, Timestamp};
use crate::engine::{Identity, Ledger};
use crate::identity::{DeviceOrigin, DeviceRecord};

use super::exit::Failure;
use super::invocation::{Access, Invocation};
use super::time;

/// What `devices` does.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// List the devices
    List,
    /// Show one device and its certificates
    Show {
        /// The device's id, or its ULID
        #[arg(value_parser = device_id)]
        id: DeviceId,
    },
    /// Give a device another name
    Rename {
        /// The device's id, or its ULID
        #[arg(value_parser = device_id)]
        id: DeviceId,
        /// The name
        name: String,
    },
    /// Let a device read a scope of the vault beside its own principal:ID
    Grant(Granted),
    /// Let a device read a scope no more
    Ungrant(Granted),
    /// Trust a device no more: its certificates are revoked and its connections cut
    Revoke(One),
    /// Let a revoked device ask to be paired again
    Clear {
        /// The device's id, or its ULID
        #[arg(value_parser = device_id)]
        id: DeviceId,
    },
    /// Take a device off the list; a revoked one must be cleared first
    Remove(One),
}

/// A device and a scope.
#[derive(Debug, Args)]
pub struct Granted {
    /// The device's id, or its ULID
    #[arg(value_parser = device_id)]
    id: DeviceId,
    /// The scope: global, principal:ID, channel:NAME:ACCOUNT, skill:ID
    scope: Scope,
}

/// One device, and whether the answer to the question is yes.
#[derive(Debug, Args)]
pub struct One {
    /// The device's id, or its ULID
    #[arg(value_parser = device_id)]
    id: DeviceId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `devices`.
pub fn run(invocation: &Invocation, command: DevicesCommand) -> Result<(), Failure> {
    match command {
        DevicesCommand::List => list(invocation),
        DevicesCommand::Show { id } => show(invocation, id),
        DevicesCommand::Rename { id, name } => {
            let name = device_name(&name)?;
            change(invocation, id, "renamed", |identity| identity.rename(id, name))
        }
        DevicesCommand::Grant(Granted { id, scope }) => {
            change(invocation, id, "granted", |identity| identity.grant(id, scope, true))
        }
        DevicesCommand::Ungrant(Granted { id, scope }) => {
            change(invocation, id, "ungranted", |identity| identity.grant(id, scope, false))
        }
        DevicesCommand::Revoke(One { id, yes }) => {
            invocation.confirm(&format!("Revoke device {id} and every certificate of it?"), yes)?;
            change(invocation, id, "revoked", |identity| identity.revoke(id))
        }
        DevicesCommand::Clear { id } => change(invocation, id, "cleared", |identity| identity.clear(id)),
        DevicesCommand::Remove(One { id, yes }) => {
            invocation.confirm(&format!("Take device {id} off the list?"), yes)?;
            change(invocation, id, "removed", |identity| identity.remove(id))
        }
    }
}

/// A device's id in either text: 32 hexadecimal digits, or the ULID that another store had for it.
fn device_id(text: &str) -> Result<DeviceId, IdError> {
    DeviceId::from_ulid(text).map_or_else(|| text.parse(), Ok)
}

/// A device's name, or why it is none.
pub fn device_name(text: &str) -> Result<DeviceName, Failure> {
    DeviceName::new(text)
        .map_err(|error| Failure::usage(format!("the name is not acceptable: {error}"), "give another name"))
}

fn change(
    invocation: &Invocation,
    id: DeviceId,
    done: &str,
    run: impl FnOnce(&Identity) -> Result<(), crate::engine::Error>,
) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Write)?;
    run(&ledger.identity())?;
    let seq = ledger.log().head()?.seq;
    invocation.close(&ledger);
    if invocation.out.is_json() {
        return invocation.out.json(&json!({"device": id, "result": done, "seq": seq}));
    }
    invocation.out.line(&format!("device {id} is {done}"))
}

fn to_json(ledger: &Ledger, id: DeviceId, record: &DeviceRecord) -> Result<Value, Failure> {
    let seen = ledger.identity().last_seen(id)?;
    Ok(json!({
        "id": id,
        "name": record.name.as_str(),
        "kind": record.kind.name(),
        "state": record.state.name(),
        "since_ms": record.since.as_millis(),
        "paired_ms": record.paired.as_millis(),
        "last_seen_ms": seen.map(Timestamp::as_millis),
        "certificate": record.certificate,
        "grants": record.grants,
    }))
}

fn list(invocation: &Invocation) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let devices = ledger.identity().devices()?;
    let out = &invocation.out;
    if out.is_json() {
        let all = devices.iter().map(|(id, record)| to_json(&ledger, *id, record)).collect::<Result<Vec<_>, _>>()?;
        invocation.close(&ledger);
        return out.json(&json!({"devices": all}));
    }
    let mut rows = Vec::new();
    for (id, record) in &devices {
        let seen = ledger.identity().last_seen(*id)?.map_or_else(|| "never".to_owned(), time::second);
        rows.push(vec![
            id.to_string(),
            record.name.as_str().to_owned(),
            record.kind.name().to_owned(),
            record.state.name().to_owned(),
            seen,
        ]);
    }
    invocation.close(&ledger);
    if rows.is_empty() {
        out.note("no device is paired; `palyra-ledger pairing mint` makes a code for one");
        return Ok(());
    }
    out.table(&["DEVICE", "NAME", "KIND", "STATE", "LAST SEEN"], &rows)
}

fn show(invocation: &Invocation, id: DeviceId) -> Result<(), Failure> {
    let ledger = invocation.open(Access::Read)?;
    let identity = ledger.identity();
    let record = identity.device(id)?;
    let serials = identity.certificates_of(id)?;
    let certificates = serials
        .iter()
        .map(|serial| Ok(super::certs::to_json(*serial, &identity.certificate(*serial)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut shown = to_json(&ledger, id, &record)?;
    let origin = identity.origin(id)?;
    let seen = identity.last_seen(id)?.map_or_else(|| "never".to_owned(), time::second);
    invocation.close(&ledger);
    if invocation.out.is_json() {
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("certificates".to_owned(), certificates.into());
            if let Some(origin) = &origin {
                fields.insert("origin".to_owned(), origin_json(id, origin));
            }
        }
        return invocation.out.json(&shown);
    }
    let out = &invocation.out;
    for (name, value) in [
        ("device", id.to_string()),
        ("name", record.name.as_str().to_owned()),
        ("kind", record.kind.name().to_owned()),
        ("state", format!("{} since {}", record.state.name(), time::second(record.since))),
        ("paired", time::second(record.paired)),
        ("last seen", seen),
    ] {
        out.line(&format!("{name:<13}{value}"))?;
    }
    for (name, value) in origin.iter().flat_map(|origin| origin_lines(id, origin)) {
        out.line(&format!("{name:<13}{value}"))?;
    }
    for scope in &record.grants {
        out.line(&format!("{:<13}{scope}", "may read"))?;
    }
    for serial in serials {
        out.line(&format!("{:<13}{serial}", "certificate"))?;
    }
    Ok(())
}

/// What the store that a device came from said of it.
fn origin_json(id: DeviceId, origin: &DeviceOrigin) -> Value {
    let revoked = origin.revoked.as_ref();
    json!({
        "ulid": id.to_ulid(),
        "issued_ms": origin.issued.map(Timestamp::as_millis),
        "revoked_ms": revoked.map(|revoked| revoked.time.as_millis()),
        "revoked_reason": revoked.map(|revoked| &revoked.reason),
        "certificates": origin.certificates,
    })
}

fn origin_lines(id: DeviceId, origin: &DeviceOrigin) -> Vec<(&'static str, String)> {
    let mut lines = vec![("there", id.to_ulid())];
    lines.extend(origin.issued.map(|at| ("issued there", time::second(at))));
    lines.extend(
        origin
            .revoked
            .as_ref()
            .map(|one| ("gone there", format!("revoked {}: {}", time::second(one.time), one.reason))),
    );
    lines
}
