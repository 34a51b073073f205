//! Reading the two documents of another store: everything in them comes along, what became of profiles too.

use std::collections::{BTreeSet, HashMap};

use crate::base::{ProfileId, Timestamp};
use crate::event::auth::UsageNote;
use crate::event::import::{ImportedOrder, ImportedProfile, OriginTimes};

use super::plan::Problem;
use super::read::{headers, known_version, parse, read_order, read_profile, read_runtime};
use super::shape::{ProfilesDoc, RecordDoc};
use super::{PROFILES_FILE, RUNTIME_FILE, failure_kind};

/// What the documents of another store hold, and what is wrong with them, by file and line.
#[derive(Debug, Default)]
pub struct Brought {
    /// The profiles.
    pub profiles: Vec<ImportedProfile>,
    /// The orders.
    pub orders: Vec<ImportedOrder>,
    /// What does not read.
    pub problems: Vec<Problem>,
    /// What became of profiles that stand nowhere.
    pub strays: Vec<Problem>,
    /// The profiles that the runtime state names in records or orders, where there are no profiles at all: half of
    /// the documents is not there then.
    pub orphans: BTreeSet<ProfileId>,
}

/// Reads the documents of another store; either may be missing.
#[must_use]
pub fn bring(profiles: Option<&str>, runtime: Option<&str>) -> Brought {
    let mut brought = Brought::default();
    let mut records: HashMap<String, (usize, RecordDoc)> = HashMap::new();
    let document = runtime.and_then(|text| read_runtime(text, &mut brought.problems).map(|document| (text, document)));
    if let Some((text, document)) = document {
        let lines = headers(text, "[[profile_orders]]");
        for (at, order) in document.profile_orders.iter().enumerate() {
            match read_order(order) {
                Ok((scope, provider, profiles)) => {
                    let updated_at = Some(Timestamp::from_millis(order.updated_at_unix_ms));
                    brought.orders.push(ImportedOrder { scope, provider, profiles, updated_at });
                }
                Err(what) => {
                    let line = lines.get(at).copied().unwrap_or(1);
                    brought.problems.push(Problem { file: RUNTIME_FILE, line, what });
                }
            }
        }
        let lines = headers(text, "[[records]]");
        records.extend(document.records.into_iter().enumerate().map(|(at, record)| {
            let line = lines.get(at).copied().unwrap_or(1);
            (record.profile_id.clone(), (line, record))
        }));
    }
    match profiles {
        Some(text) => read_all(text, records, &mut brought),
        None => {
            brought.orphans = records.keys().filter_map(|id| id.parse().ok()).collect();
            brought.orphans.extend(brought.orders.iter().flat_map(|order| order.profiles.iter().cloned()));
        }
    }
    brought
}

fn read_all(text: &str, mut records: HashMap<String, (usize, RecordDoc)>, brought: &mut Brought) {
    let Some(document) = parse::<ProfilesDoc>(PROFILES_FILE, text, &mut brought.problems) else { return };
    if !known_version(PROFILES_FILE, text, document.version, &mut brought.problems) {
        return;
    }
    let lines = headers(text, "[[profiles]]");
    for (at, mut entry) in document.profiles.into_iter().enumerate() {
        let line = lines.get(at).copied().unwrap_or(1);
        let expires_at = entry.credential.expires_at_unix_ms.map(Timestamp::from_millis);
        let origin = OriginTimes {
            created: Timestamp::from_millis(entry.created_at_unix_ms),
            updated: Timestamp::from_millis(entry.updated_at_unix_ms),
        };
        // How refreshes went there says nothing about those from here.
        entry.credential.refresh_state = None;
        let usage = records.remove(&entry.profile_id).map(|(_, record)| record);
        match read_profile(entry) {
            Ok(profile) if brought.profiles.iter().any(|one| one.profile.id == profile.id) => {
                let what = "a profile of this id stands before it already".to_owned();
                brought.problems.push(Problem { file: PROFILES_FILE, line, what });
            }
            Ok(profile) => {
                let usage = usage.map(|record| note(&profile.id, &record));
                brought.profiles.push(ImportedProfile { profile, expires_at, usage, origin });
            }
            Err(what) => brought.problems.push(Problem { file: PROFILES_FILE, line, what }),
        }
    }
    let stray = |(line, _)| {
        let what = format!("it is about a profile that does not stand in {PROFILES_FILE}");
        Problem { file: RUNTIME_FILE, line, what }
    };
    brought.strays.extend(records.into_values().map(stray));
    brought.strays.sort_by_key(|stray| stray.line);
}

fn note(profile: &ProfileId, record: &RecordDoc) -> UsageNote {
    let time = |at: Option<u64>| at.map(Timestamp::from_millis);
    UsageNote {
        profile: profile.clone(),
        successes: 0,
        failures: 0,
        last_used: time(record.last_used_unix_ms),
        last_success: time(record.last_success_unix_ms),
        last_failure: time(record.last_failure_unix_ms),
        failure: record.last_failure_kind.as_deref().and_then(failure_kind),
        failure_count: record.failure_count,
        cooldown_until: time(record.cooldown_until_unix_ms),
        probe_until: None,
    }
}
