//! What happened to secrets, told.

use crate::base::{Scope, SecretName, Timestamp};
use crate::cli::time;
use crate::event::vault::{PutCause, ReadNote, ResolutionNote, SecretPut, Versions};

use super::count;

pub(super) fn put(event: &SecretPut) -> String {
    let SecretPut { scope, name, version, value_bytes, .. } = event;
    let size = count(u64::from(*value_bytes), "byte");
    let aside = aside(event.expires_at, event.description.as_deref(), event.labels.len());
    let from = match &event.cause {
        None | Some(PutCause::Given) => String::new(),
        Some(PutCause::LoggedIn(profile)) => format!(", given at the login to profile {profile}"),
        Some(PutCause::Refreshed { profile, generation }) => {
            format!(", given for refresh {generation} of profile {profile}")
        }
    };
    format!("wrote version {version} of {scope}/{name}, {size}{aside}{from}")
}

pub(super) fn aside(expires: Option<Timestamp>, description: Option<&str>, labels: usize) -> String {
    let mut parts = Vec::new();
    parts.extend(description.map(|text| format!("\"{text}\"")));
    if labels > 0 {
        parts.push(count(labels as u64, "label"));
    }
    parts.extend(expires.map(|at| format!("expires {}", time::second(at))));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

pub(super) fn target(scope: &Scope, name: &SecretName, versions: Versions) -> String {
    match versions {
        Versions::All => format!("{scope}/{name}"),
        Versions::One(version) => format!("version {version} of {scope}/{name}"),
    }
}

pub(super) fn numbered(numbers: &[u32]) -> String {
    match numbers {
        [one] => format!("version {one}"),
        [first, .., last] if numbers.len() > 4 => format!("{} versions ({first} to {last})", numbers.len()),
        _ => {
            let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            format!("versions {}", texts.join(", "))
        }
    }
}

pub(super) fn read(reads: &[ReadNote]) -> String {
    let shown: Vec<String> = reads
        .iter()
        .take(3)
        .map(|note| {
            let times = if note.count == 1 { String::new() } else { format!(" {} times", note.count) };
            format!("version {} of {}/{}{times}", note.version, note.scope, note.name)
        })
        .collect();
    let more = reads.len().saturating_sub(shown.len());
    let more = if more == 0 { String::new() } else { format!(" and {}", count(more as u64, "other secret")) };
    format!("read {}{more}", shown.join(", "))
}

pub(super) fn resolved(notes: &[ResolutionNote]) -> String {
    let told = |note: &ResolutionNote| {
        let times = if note.count == 1 { String::new() } else { format!(" {} times", note.count) };
        match note.reason {
            None => format!("resolved {}{times}", note.shown),
            Some(reason) => format!("gave no value for {}{times} ({}: {reason})", note.shown, note.status),
        }
    };
    let shown: Vec<String> = notes.iter().take(3).map(told).collect();
    let more = notes.len().saturating_sub(shown.len());
    let more = if more == 0 { String::new() } else { format!(" and {}", count(more as u64, "other reference")) };
    format!("{}{more}", shown.join(", "))
}
