//! What follows from a refresh token that somebody else may know.
//!
//! Whoever holds it can get the same tokens that the ledger's next refreshes get: what they wrote behind the known
//! version is in the same hands. That ends with the grant: when its refresh token is shredded, or written by
//! anything but a refresh, or when its profile logs in anew or out. What a person writes is nobody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::base::{ProfileId, Scope, SecretName, SecretPath, Timestamp};
use crate::event::{Event, Kind};

use super::error::Error;
use super::exposure::Profiles;
use super::log_view::{Entry, LogView};
use super::scan::Scan;

/// A version's writing, and whether a refresh wrote it.
pub(super) struct Written {
    pub version: u32,
    pub time: Timestamp,
    /// First event of the batch that wrote it.
    batch: u64,
    by_refresh: bool,
}

/// Every writing of some secrets.
pub(super) type History = BTreeMap<SecretPath, Vec<Written>>;

/// What the log says of some secrets and of the grants that wrote them.
#[derive(Default)]
pub(super) struct Grants {
    pub history: History,
    shredded: BTreeMap<SecretPath, Vec<(u64, u32)>>,
    ended: BTreeMap<ProfileId, Vec<u64>>,
}

impl LogView {
    /// Every writing of these secrets, what was shredded of them, and when profiles logged in or out.
    pub(super) fn grants(
        &self,
        paths: &BTreeSet<SecretPath>,
        progress: Option<&dyn Fn(u64, u64)>,
    ) -> Result<Grants, Error> {
        let kinds = [
            Kind::SecretPut,
            Kind::SecretsImported,
            Kind::SecretShredded,
            Kind::RefreshSucceeded,
            Kind::ProfileLoggedIn,
            Kind::ProfileLoggedOut,
        ]
        .map(Kind::number);
        let is_meant =
            |scope: &Scope, name: &SecretName| paths.iter().any(|path| path.name == *name && path.scope == *scope);
        let wants = |entry: &Entry| match &entry.event {
            Event::SecretPut(event) => is_meant(&event.scope, &event.name),
            Event::SecretsImported(event) => event.secrets.iter().any(|one| is_meant(&one.put.scope, &one.put.name)),
            Event::SecretShredded(event) => is_meant(&event.scope, &event.name),
            _ => true,
        };
        let scan = Scan { header: &|header| kinds.contains(&header.kind), wants: &wants, progress, ..Scan::all() };
        let (mut grants, mut writings, mut refreshes) = (Grants::default(), Vec::new(), BTreeSet::new());
        self.scan(&scan, &mut |entry| {
            let batch = entry.seq - u64::from(entry.batch_index);
            match entry.event {
                Event::SecretPut(event) => {
                    let path = SecretPath { scope: event.scope, name: event.name };
                    writings.push((batch, path, event.version, entry.time));
                }
                Event::SecretsImported(event) => {
                    for put in event.secrets.into_iter().map(|one| one.put) {
                        if is_meant(&put.scope, &put.name) {
                            let path = SecretPath { scope: put.scope, name: put.name };
                            writings.push((batch, path, put.version, entry.time));
                        }
                    }
                }
                Event::SecretShredded(event) => {
                    let path = SecretPath { scope: event.scope, name: event.name };
                    let versions = event.versions.iter().map(|(version, _)| (batch, *version));
                    grants.shredded.entry(path).or_default().extend(versions);
                }
                Event::ProfileLoggedIn(event) => grants.ended.entry(event.profile.id).or_default().push(batch),
                Event::ProfileLoggedOut(event) => grants.ended.entry(event.profile).or_default().push(batch),
                _ => drop(refreshes.insert(batch)),
            }
            ControlFlow::Continue(())
        })?;
        for (batch, path, version, time) in writings {
            let by_refresh = refreshes.contains(&batch);
            grants.history.entry(path).or_default().push(Written { version, time, batch, by_refresh });
        }
        Ok(grants)
    }
}

impl Grants {
    /// From where to where in the log a refresh token of this version renews a profile's tokens: the batch that
    /// wrote it, and the one that ends its grant.
    fn span(&self, profile: &ProfileId, token: &SecretPath, known: u32) -> Option<(u64, u64)> {
        let written = self.history.get(token)?;
        let from = written.iter().find(|one| one.version == known)?.batch;
        let other = written.iter().find(|one| one.version > known && !one.by_refresh).map(|one| one.batch);
        let shredded = self.shredded.get(token).into_iter().flatten();
        let shredded = shredded.filter(|(_, version)| *version >= known).map(|(batch, _)| *batch);
        // An older version of the token may be shredded while a newer one of the grant serves on.
        let shredded = shredded.filter(|batch| {
            let now = written.iter().filter(|one| one.batch < *batch).map(|one| one.version).max();
            self.shredded.get(token).into_iter().flatten().any(|(at, version)| at == batch && now == Some(*version))
        });
        let sessions = self.ended.get(profile).into_iter().flatten().copied().filter(|batch| *batch > from);
        let ends = other.into_iter().chain(shredded).chain(sessions).min();
        Some((from, ends.unwrap_or(u64::MAX)))
    }

    /// The last version of each place that refreshes wrote with what exposed versions gave, from the first of each
    /// to the last.
    pub(super) fn followed(
        &self,
        profiles: &Profiles,
        first: &BTreeMap<SecretPath, u32>,
        exposed: &BTreeMap<SecretPath, (u32, bool)>,
    ) -> Vec<(SecretPath, u32)> {
        let mut found = Vec::new();
        for (token, (last, _)) in exposed {
            let first = first.get(token).copied().unwrap_or(*last);
            for id in profiles.naming(token).filter(|id| profiles.renews(id, token)) {
                for (from, ends) in (first..=*last).filter_map(|known| self.span(id, token, known)) {
                    for place in profiles.written(id) {
                        let Some(written) = self.history.get(&place) else { continue };
                        let by_it = |one: &&Written| one.by_refresh && one.batch > from && one.batch < ends;
                        let last = written.iter().filter(by_it).map(|one| one.version).max();
                        found.extend(last.map(|last| (place, last)));
                    }
                }
            }
        }
        found
    }
}
