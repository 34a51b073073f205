//! A compromise as people and programs read it.

use serde_json::{Value, json};

use crate::cli::exit::Failure;
use crate::cli::invocation::Invocation;
use crate::cli::output::{Output, Style};
use crate::cli::{story, time};
use crate::engine::{Applied, Exposure, ItemState, Ledger};
use crate::event::compromise::Remedy;

/// What a thing to be done is called, on what, and the command that does it.
fn told(ledger: &Ledger, item: &Remedy) -> Result<(&'static str, String, String), Failure> {
    Ok(match item {
        Remedy::RevokeDevice(device) => {
            ("revoke_device", device.to_string(), format!("palyra-ledger devices revoke {device}"))
        }
        Remedy::RevokeCertificate(serial) => {
            ("revoke_certificate", serial.to_string(), format!("palyra-ledger certs revoke {serial}"))
        }
        Remedy::DisableProfile(id) => {
            ("disable_profile", id.to_string(), format!("palyra-ledger auth profiles disable {id}"))
        }
        Remedy::ReplaceSecret { path, version } => {
            let command = match ledger.auth().writer(path)? {
                // Its tokens come from the provider: a new grant, or a refresh where the grant is not known.
                Some((id, true)) => format!("palyra-ledger auth login --profile {id}"),
                Some((id, false)) => format!("palyra-ledger auth refresh --profile {id} --force"),
                None => format!("palyra-ledger secrets set {path} --stdin"),
            };
            ("replace_secret", format!("{path}@{version}"), command)
        }
    })
}

fn item_json(ledger: &Ledger, state: &ItemState) -> Result<Value, Failure> {
    let (action, subject, command) = told(ledger, &state.item)?;
    Ok(
        json!({"action": action, "subject": subject, "state": if state.done { "done" } else { "open" }, "command": command}),
    )
}

/// A compromise with stable fields.
pub fn to_json(
    ledger: &Ledger,
    exposure: &Exposure,
    states: &[ItemState],
    applied: Option<&Applied>,
) -> Result<Value, Failure> {
    let items = states.iter().map(|state| item_json(ledger, state)).collect::<Result<Vec<_>, _>>()?;
    let mut all = json!({
        "kind": exposure.concern.kind(),
        "name": exposure.concern.name(),
        "since_ms": exposure.since.as_millis(),
        "until_ms": exposure.until.as_millis(),
        "devices": exposure.devices,
        "readings": exposure.readings,
        "exposed": exposure.exposed,
        "profiles": exposure.profiles,
        "other_events": exposure.other,
        "scopes": exposure.scopes,
        "readable_not_read": exposure.unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "readable_not_read_count": exposure.unread_count,
        "reads_recorded": exposure.reads_recorded,
        "items": items,
    });
    if let (Some(applied), Some(map)) = (applied, all.as_object_mut()) {
        let missed = applied
            .missed
            .iter()
            .map(|item| item_json(ledger, &ItemState { item: item.clone(), done: false }))
            .collect::<Result<Vec<_>, _>>()?;
        map.insert("correlation_id".to_owned(), json!(applied.correlation));
        map.insert("plan".to_owned(), json!(applied.plan));
        map.insert("missed".to_owned(), json!(missed));
        map.insert("closed".to_owned(), json!(applied.closed));
    }
    Ok(all)
}

/// Prints a compromise.
pub fn print(
    invocation: &Invocation,
    ledger: &Ledger,
    exposure: &Exposure,
    states: &[ItemState],
    applied: Option<&Applied>,
) -> Result<(), Failure> {
    let out = &invocation.out;
    if out.is_json() {
        return out.json(&to_json(ledger, exposure, states, applied)?);
    }
    let window = format!("{} to {}", time::second(exposure.since), time::second(exposure.until));
    out.painted(&[(Style::Bold, &format!("{} compromised, {window}", exposure.concern))])?;
    touched(out, exposure)?;
    out.line("")?;
    let mut rows = Vec::new();
    for state in states {
        let (action, subject, command) = told(ledger, &state.item)?;
        let (state, command) = if state.done { ("done", String::new()) } else { ("open", command) };
        rows.push(vec![action.replace('_', " "), subject, state.to_owned(), command]);
    }
    if rows.is_empty() {
        out.line("nothing is to be done")?;
    } else {
        out.table(&["TO DO", "ON", "STATE", "COMMAND"], &rows)?;
    }
    let open = states.iter().filter(|state| !state.done).count() as u64;
    match applied {
        None if open > 0 => out.note("nothing was changed; --apply does what the ledger can do by itself"),
        None => {}
        Some(applied) => {
            out.line("")?;
            for item in &applied.missed {
                let (action, subject, _) = told(ledger, item)?;
                out.painted(&[(Style::Bad, &format!("found beyond the plan: {action} {subject}; run it again"))])?;
            }
            let text = if applied.closed && !exposure.reads_recorded && exposure.vouched {
                "nothing is left; the compromise is closed on your word: reads are not recorded".to_owned()
            } else if !exposure.is_known() {
                format!(
                    "{} left to do; reads are not recorded, so nobody can say that nothing was missed: --vouch closes it",
                    story::count(open + applied.missed.len() as u64, "thing")
                )
            } else if applied.closed {
                "asked anew: nothing was missed and nothing is left; the compromise is closed".to_owned()
            } else if applied.missed.is_empty() {
                format!("asked anew: nothing was missed; {} left to do", story::count(open, "thing"))
            } else {
                format!("{} left to do", story::count(open + applied.missed.len() as u64, "thing"))
            };
            let style = if applied.closed { Style::Good } else { Style::Warn };
            out.painted(&[(style, &text)])?;
            out.note(&format!("`palyra-ledger log query --correlation {}` shows what was done", applied.correlation));
        }
    }
    Ok(())
}

fn touched(out: &Output, exposure: &Exposure) -> Result<(), Failure> {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    if !exposure.devices.is_empty() {
        out.line("")?;
        let rows: Vec<Vec<String>> = exposure
            .devices
            .iter()
            .map(|one| {
                let digits = match one.sas_compared {
                    Some(true) => "compared",
                    Some(false) => "not compared",
                    None => "",
                };
                vec![
                    one.device.to_string(),
                    or(&one.name),
                    one.state.unwrap_or("removed").to_owned(),
                    or(&one.minted_by),
                    one.method.unwrap_or_default().to_owned(),
                    or(&one.peer),
                    or(&one.approved_by),
                    digits.to_owned(),
                ]
            })
            .collect();
        out.table(&["DEVICE", "NAME", "STATE", "CODE BY", "BY WAY OF", "FROM", "APPROVED BY", "DIGITS"], &rows)?;
    }
    if !exposure.readings.is_empty() {
        out.line("")?;
        let rows: Vec<Vec<String>> = exposure
            .readings
            .iter()
            .map(|one| {
                let profiles: Vec<String> = one.profiles.iter().map(ToString::to_string).collect();
                vec![
                    format!("{}@{}", one.path, one.version),
                    one.device.map_or_else(|| one.actor.clone(), |device| format!("device {device}")),
                    one.count.to_string(),
                    time::second(one.first),
                    time::second(one.last),
                    profiles.join(", "),
                ]
            })
            .collect();
        out.table(&["READ", "BY", "TIMES", "FIRST", "LAST", "PROFILES"], &rows)?;
    }
    if !exposure.scopes.is_empty() {
        let scopes: Vec<String> = exposure.scopes.iter().map(ToString::to_string).collect();
        out.line("")?;
        let unread = story::count(exposure.unread_count, "secret");
        out.line(&format!("it could read {}; there is no record of a read of {unread} there:", scopes.join(", ")))?;
        for path in exposure.unread.iter().take(20) {
            out.line(&format!("  {path}"))?;
        }
    }
    if !exposure.reads_recorded {
        let text = "reads are not recorded (`audit.reads = \"off\"` in config.toml): what was read is not known";
        out.painted(&[(Style::Bad, text)])?;
    }
    for one in exposure.exposed.iter().filter(|one| one.by_refresh) {
        out.line(&format!("{}@{} is exposed by way of a refresh token", one.path, one.version))?;
    }
    Ok(())
}
