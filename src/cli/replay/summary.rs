//! What a replayed state holds, at a glance.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use crate::base::{ScopePrefix, SecretPath, Timestamp};
use crate::cli::exit::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::time;
use crate::engine::{Ledger, Replay};
use crate::vault::{Head, VersionState};

/// A secret as it was. A version that was shredded since has no fingerprint: nothing can open it any more.
fn secrets(ledger: &Ledger, replay: &Replay, limit: usize) -> Result<Vec<Value>, Failure> {
    let mut found: Vec<(SecretPath, Head)> = Vec::new();
    replay.secrets(&ScopePrefix::all(), &mut |path, head| {
        if found.len() >= limit {
            return ControlFlow::Break(());
        }
        found.push((path, head));
        ControlFlow::Continue(())
    })?;
    let shown = |(path, head): &(SecretPath, Head)| {
        let current = &head.current;
        let fingerprint = match head.state() {
            VersionState::Shredded => Value::Null,
            VersionState::Live | VersionState::Deleted => super::fingerprint(ledger, path, current.version),
        };
        json!({
            "ref": path.to_string(),
            "version": current.version,
            "state": head.state().name(),
            "value_bytes": current.value_bytes,
            "created_at_ms": current.created.as_millis(),
            "expires_at_ms": current.expires_at.map(Timestamp::as_millis),
            "fingerprint": fingerprint,
        })
    };
    Ok(found.iter().map(shown).collect())
}

/// Prints what the state holds.
pub fn print(invocation: &Invocation, ledger: &Ledger, replay: &Replay, limit: usize) -> Result<(), Failure> {
    let (vault, trust) = (replay.counters()?, replay.trust_counters()?);
    let (devices, profiles, orders) = (replay.devices()?, replay.profiles()?, replay.orders()?);
    let (system, root, secrets) = (replay.system()?, replay.state_root()?, secrets(ledger, replay, limit)?);
    let devices: Vec<Value> = devices
        .iter()
        .map(|(id, record)| {
            json!({
                "id": id, "name": record.name, "kind": record.kind.name(), "state": record.state.name(),
                "certificate": record.certificate, "grants": record.grants,
            })
        })
        .collect();
    let profiles: Vec<Value> = profiles
        .iter()
        .map(|(record, runtime)| {
            let profile = &record.profile;
            json!({
                "id": profile.id, "provider": profile.provider, "scope": profile.scope, "enabled": profile.enabled,
                "credential": profile.credential, "refreshes": runtime.generation,
                "expires_at_ms": runtime.expires_at.map(Timestamp::as_millis),
            })
        })
        .collect();
    let all = json!({
        "seq": replay.seq(),
        "recorded_at_ms": replay.time().as_millis(),
        "snapshot": replay.snapshot(),
        "state_root": root,
        "epoch": system.as_ref().map(|system| system.epoch),
        "key_slots": system.as_ref().map(|system| system.slots.clone()),
        "counters": {
            "secrets": vault.secrets, "versions": vault.versions, "shredded": vault.shredded,
            "devices": trust.devices, "certificates": trust.certificates, "revoked": trust.revoked,
            "profiles": profiles.len(), "orders": orders.len(),
        },
        "secrets": secrets,
        "devices": devices.get(..limit.min(devices.len())),
        "profiles": profiles.get(..limit.min(profiles.len())),
        "orders": orders.iter().map(|order| json!({
            "scope": order.scope, "provider": order.provider, "profiles": order.profiles,
        })).collect::<Vec<_>>(),
        "ca": replay.authorities()?.0.iter().map(|record| json!({
            "generation": record.generation, "state": record.state.name(),
        })).collect::<Vec<_>>(),
        "limit": limit,
    });
    if invocation.out.is_json() { invocation.out.json(&all) } else { table(invocation, replay, &all) }
}

fn table(invocation: &Invocation, replay: &Replay, all: &Value) -> Result<(), Failure> {
    let out = &invocation.out;
    super::note_snapshot(invocation, replay);
    let get = |pointer: &str| all.pointer(pointer).map(super::plain).unwrap_or_default();
    for (name, value) in [
        ("event", format!("{} at {}", replay.seq(), time::second(replay.time()))),
        ("state root", get("/state_root")),
        ("epoch", get("/epoch")),
        (
            "secrets",
            format!(
                "{}, {} versions, {} shredded",
                get("/counters/secrets"),
                get("/counters/versions"),
                get("/counters/shredded")
            ),
        ),
        ("devices", get("/counters/devices")),
        ("certificates", format!("{}, {} revoked", get("/counters/certificates"), get("/counters/revoked"))),
        ("profiles", get("/counters/profiles")),
    ] {
        out.line(&format!("{name:<13}{value}"))?;
    }
    let sections: [(&str, &[&str]); 3] = [
        ("secrets", &["ref", "version", "state", "value_bytes", "fingerprint"]),
        ("devices", &["id", "name", "kind", "state"]),
        ("profiles", &["id", "provider", "scope", "enabled", "refreshes"]),
    ];
    for (name, columns) in sections {
        let list = all.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if list.is_empty() {
            continue;
        }
        let cell = |row: &Value, column: &str| row.get(column).map(super::plain).unwrap_or_default();
        let rows: Vec<Vec<String>> =
            list.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
        let header: Vec<String> = columns.iter().map(|column| column.to_uppercase().replace('_', " ")).collect();
        out.line("")?;
        out.table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)?;
        let total = all.pointer(&format!("/counters/{name}")).and_then(Value::as_u64).unwrap_or(0);
        if total > list.len() as u64 {
            out.note(&format!("{} of {total} {name} are shown; --limit shows more", list.len()));
        }
    }
    Ok(())
}
