//! What a compromised device, secret or profile touched.
//!
//! A version is exposed that the thing read, or that was there to be read in the window. From a refresh
//! token the exposure goes on: whatever a refresh of the same grant wrote afterwards is in the same hands,
//! until a login or a person writes a new one. Reads count by when they happened, not by when they were
//! recorded: a reading process's notes may come late.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::base::{DeviceId, PairingId, ProfileId, Scope, ScopePrefix, SecretPath, Serial, Timestamp};
use crate::event::auth::{CredentialSource, Profile};
use crate::event::compromise::{Concern, Remedy};
use crate::event::vault::ReadNote;
use crate::event::{Event, Kind};
use crate::identity;

use super::error::Error;
use super::ledger::Ledger;
use super::log_view::{Entry, LogView};
use super::scan::Scan;
use super::trace::device_of;
use super::vault_handle::ListOptions;

/// How a device came to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Trusted {
    /// The device.
    pub device: DeviceId,
    /// What people call it.
    pub name: Option<String>,
    /// What became of it.
    pub state: Option<&'static str>,
    /// Who made the pairing code.
    pub minted_by: Option<String>,
    /// The event that made it.
    pub minted_at_seq: Option<u64>,
    /// How the code was carried over.
    pub method: Option<&'static str>,
    /// Address that the request came from.
    pub peer: Option<String>,
    /// Who approved the request.
    pub approved_by: Option<String>,
    /// The event that paired it.
    pub paired_at_seq: Option<u64>,
    /// Whether the digits were compared.
    pub sas_compared: Option<bool>,
}

/// Reads of one version by one reader.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reading {
    /// Which secret.
    #[serde(rename = "ref", serialize_with = "as_text")]
    pub path: SecretPath,
    /// Which version.
    pub version: u32,
    /// The device that read it; none for another reader.
    pub device: Option<DeviceId>,
    /// Who read it.
    pub actor: String,
    /// How often.
    pub count: u64,
    /// First time.
    #[serde(rename = "first_at_ms")]
    pub first: Timestamp,
    /// Last time.
    #[serde(rename = "last_at_ms")]
    pub last: Timestamp,
    /// The last event that tells it.
    pub seq: u64,
    /// Profiles that name the secret.
    pub profiles: Vec<ProfileId>,
}

/// One version that may be known to somebody.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Exposed {
    /// Which secret.
    #[serde(rename = "ref", serialize_with = "as_text")]
    pub path: SecretPath,
    /// The last version that may be known.
    pub version: u32,
    /// Whether it is known by way of a refresh token, and not by itself.
    pub by_refresh: bool,
}

fn as_text<S: serde::Serializer>(path: &SecretPath, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

/// Everything that a compromise touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// What was compromised.
    pub concern: Concern,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Devices that are part of it, and how each came to be trusted.
    pub devices: Vec<Trusted>,
    /// Who read what.
    pub readings: Vec<Reading>,
    /// Versions that may be known.
    pub exposed: Vec<Exposed>,
    /// Profiles whose credential may be known.
    pub profiles: Vec<ProfileId>,
    /// Other events that the device caused in the window.
    pub other: Vec<u64>,
    /// Scopes that the device may read.
    pub scopes: Vec<Scope>,
    /// Secrets in these scopes that it did not read, as far as the log says; the first of them.
    pub unread: Vec<SecretPath>,
    /// How many those are.
    pub unread_count: u64,
    /// What is to be done.
    pub items: Vec<Remedy>,
}

/// Most secrets that are listed although they were not read.
const UNREAD_MAX: usize = 1000;

/// What profiles ever named, and the grants that wrote tokens.
#[derive(Default)]
struct Profiles(BTreeMap<ProfileId, Vec<Profile>>);

impl Profiles {
    fn naming<'a>(&'a self, path: &'a SecretPath) -> impl Iterator<Item = &'a ProfileId> + 'a {
        self.0
            .iter()
            .filter(move |(_, all)| all.iter().any(|one| one.credential.places().any(|place| place == path)))
            .map(|(id, _)| id)
    }

    /// Whether whoever knows a secret can get a profile's next tokens.
    fn renews(&self, id: &ProfileId, path: &SecretPath) -> bool {
        self.0.get(id).into_iter().flatten().any(|profile| match &profile.credential {
            CredentialSource::Oauth(source) => source.refresh.as_ref() == Some(path),
            CredentialSource::ApiKey(_) => false,
        })
    }

    /// Whether a secret alone is the credential, for as long as it is not replaced.
    fn is_lasting(&self, id: &ProfileId, path: &SecretPath) -> bool {
        self.0.get(id).into_iter().flatten().any(|profile| match &profile.credential {
            CredentialSource::Oauth(source) => source.access != *path,
            CredentialSource::ApiKey(key) => key == path,
        })
    }

    fn places(&self, id: &ProfileId) -> BTreeSet<SecretPath> {
        self.0.get(id).into_iter().flatten().flat_map(|one| one.credential.places().cloned()).collect()
    }

    /// Places that a refresh of the profile writes.
    fn written(&self, id: &ProfileId) -> BTreeSet<SecretPath> {
        self.0.get(id).into_iter().flatten().flat_map(|one| one.credential.written().cloned()).collect()
    }
}

/// A version's writing, and whether a refresh wrote it.
struct Written {
    version: u32,
    time: Timestamp,
    by_refresh: bool,
}

type History = BTreeMap<SecretPath, Vec<Written>>;

impl Ledger {
    /// What a device, a secret or a profile touched within a window, and what is to be done about it.
    ///
    /// # Errors
    /// As [`LogView::read`].
    pub fn exposure(
        &self,
        concern: &Concern,
        since: Timestamp,
        until: Timestamp,
        progress: Option<&dyn Fn(u64, u64)>,
    ) -> Result<Exposure, Error> {
        let log = self.log();
        let profiles = log.profiles_ever()?;
        let mut finder = Finder { log: &log, profiles, window: (since, until), progress, exposed: BTreeMap::new() };
        let mut exposure = Exposure {
            concern: concern.clone(),
            since,
            until,
            devices: Vec::new(),
            readings: Vec::new(),
            exposed: Vec::new(),
            profiles: Vec::new(),
            other: Vec::new(),
            scopes: Vec::new(),
            unread: Vec::new(),
            unread_count: 0,
            items: Vec::new(),
        };
        finder.direct(concern, &mut exposure)?;
        finder.by_refresh()?;
        if !matches!(concern, Concern::Device(_)) {
            exposure.readings = finder.readings(None)?;
        }
        self.fill(&finder, &mut exposure)?;
        Ok(exposure)
    }

    fn fill(&self, finder: &Finder<'_>, exposure: &mut Exposure) -> Result<(), Error> {
        let mut items = BTreeSet::new();
        let mut devices: BTreeSet<DeviceId> = exposure.readings.iter().filter_map(|reading| reading.device).collect();
        if let Concern::Device(device) = exposure.concern {
            devices.insert(device);
            items.insert(Remedy::RevokeDevice(device));
            for serial in self.identity().certificates_of(device)? {
                if self.was_good(serial, exposure)? {
                    items.insert(Remedy::RevokeCertificate(serial));
                }
            }
            self.unread(device, exposure)?;
        }
        exposure.devices = finder.log.trusted(self, &devices)?;
        let mut profiles = BTreeSet::new();
        for (path, (version, by_refresh)) in &finder.exposed {
            exposure.exposed.push(Exposed { path: path.clone(), version: *version, by_refresh: *by_refresh });
            items.insert(Remedy::ReplaceSecret { path: path.clone(), version: *version });
            for id in finder.profiles.naming(path) {
                profiles.insert(id.clone());
                if finder.profiles.is_lasting(id, path) {
                    items.insert(Remedy::DisableProfile(id.clone()));
                }
            }
        }
        if let Concern::Profile(id) = &exposure.concern {
            profiles.insert(id.clone());
            items.insert(Remedy::DisableProfile(id.clone()));
        }
        for reading in &mut exposure.readings {
            reading.profiles = finder.profiles.naming(&reading.path).cloned().collect();
        }
        exposure.profiles = profiles.into_iter().collect();
        exposure.items = items.into_iter().collect();
        Ok(())
    }

    /// Whether a certificate could be used within the window.
    fn was_good(&self, serial: Serial, exposure: &Exposure) -> Result<bool, Error> {
        let record = self.identity().certificate(serial)?;
        let ended = record.not_after.plus_millis(crate::base::limits::RENEWAL_GRACE_MS);
        Ok(record.not_before <= exposure.until && ended >= exposure.since)
    }

    /// What the device may read and did not.
    fn unread(&self, device: DeviceId, exposure: &mut Exposure) -> Result<(), Error> {
        let mut scopes: BTreeSet<Scope> = format!("principal:{device}").parse().into_iter().collect();
        // What it was granted at any time: a grant may have been taken back since.
        for entry in self.log().trust_story(&BTreeSet::from([device]))? {
            if let Event::DeviceGranted(event) = &entry.event
                && event.device == device
                && event.granted
                && entry.time <= exposure.until
            {
                scopes.insert(event.scope.clone());
            }
        }
        let read: BTreeSet<&SecretPath> = exposure.readings.iter().map(|reading| &reading.path).collect();
        for scope in &scopes {
            for info in self.list(&ScopePrefix::from(scope), &ListOptions::new().including_deleted())? {
                if !read.contains(&info.reference) {
                    exposure.unread_count += 1;
                    if exposure.unread.len() < UNREAD_MAX {
                        exposure.unread.push(info.reference);
                    }
                }
            }
        }
        exposure.scopes = scopes.into_iter().collect();
        Ok(())
    }
}

struct Finder<'a> {
    log: &'a LogView,
    profiles: Profiles,
    window: (Timestamp, Timestamp),
    progress: Option<&'a dyn Fn(u64, u64)>,
    /// The last exposed version of each secret, and whether it is one by way of a refresh token.
    exposed: BTreeMap<SecretPath, (u32, bool)>,
}

impl Finder<'_> {
    /// What is exposed by itself.
    fn direct(&mut self, concern: &Concern, exposure: &mut Exposure) -> Result<(), Error> {
        match concern {
            Concern::Device(device) => {
                exposure.readings = self.readings(Some(*device))?;
                for reading in &exposure.readings {
                    self.expose(&reading.path, reading.version, false);
                }
                exposure.other = self.others(*device)?;
            }
            Concern::Secret(path) => self.there_to_be_read(&BTreeSet::from([path.clone()]))?,
            Concern::Profile(id) => self.there_to_be_read(&self.profiles.places(id))?,
        }
        Ok(())
    }

    fn expose(&mut self, path: &SecretPath, version: u32, by_refresh: bool) {
        let found = self.exposed.entry(path.clone()).or_insert((version, by_refresh));
        if version > found.0 {
            found.0 = version;
        }
        found.1 &= by_refresh;
    }

    /// Versions of these secrets that were there within the window.
    fn there_to_be_read(&mut self, paths: &BTreeSet<SecretPath>) -> Result<(), Error> {
        for (path, written) in self.history(paths)? {
            let last = written.iter().filter(|one| one.time <= self.window.1).map(|one| one.version).max();
            if let Some(version) = last {
                self.expose(&path, version, false);
            }
        }
        Ok(())
    }

    /// Follows refresh tokens: what their grant wrote afterwards is exposed too.
    fn by_refresh(&mut self) -> Result<(), Error> {
        let mut grants: BTreeMap<ProfileId, Timestamp> = BTreeMap::new();
        let mut places = BTreeSet::new();
        for path in self.exposed.keys() {
            for id in self.profiles.naming(path) {
                if self.profiles.renews(id, path) {
                    grants.insert(id.clone(), self.window.0);
                    places.extend(self.profiles.written(id));
                }
            }
        }
        if grants.is_empty() {
            return Ok(());
        }
        let history = self.history(&places)?;
        for id in grants.keys() {
            let Some((token, known)) = self.token(id) else { continue };
            // The grant ends where its refresh token is written by anything but a refresh.
            let ends = history.get(&token).and_then(|written| {
                written.iter().find(|one| one.version > known && !one.by_refresh).map(|one| one.time)
            });
            for place in self.profiles.written(id) {
                let Some(written) = history.get(&place) else { continue };
                let within = |one: &&Written| ends.is_none_or(|end| one.time < end);
                let last = written.iter().filter(within).map(|one| one.version).max();
                if let Some(version) = last {
                    let by_refresh = self.exposed.get(&place).is_none_or(|(known, _)| *known < version);
                    self.expose(&place, version, by_refresh);
                }
            }
        }
        Ok(())
    }

    /// The exposed refresh token of a profile, and its last exposed version.
    fn token(&self, id: &ProfileId) -> Option<(SecretPath, u32)> {
        let found = self.exposed.iter().find(|(path, _)| self.profiles.renews(id, path))?;
        Some((found.0.clone(), found.1.0))
    }

    /// Every writing of these secrets.
    fn history(&self, paths: &BTreeSet<SecretPath>) -> Result<History, Error> {
        let writing = [Kind::SecretPut, Kind::SecretsImported, Kind::RefreshSucceeded].map(Kind::number);
        let is_meant = |scope: &Scope, name: &crate::base::SecretName| {
            paths.iter().any(|path| path.name == *name && path.scope == *scope)
        };
        let wants = |entry: &Entry| match &entry.event {
            Event::SecretPut(event) => is_meant(&event.scope, &event.name),
            Event::SecretsImported(event) => event.secrets.iter().any(|one| is_meant(&one.put.scope, &one.put.name)),
            _ => true,
        };
        let scan = Scan {
            header: &|header| writing.contains(&header.kind),
            wants: &wants,
            progress: self.progress,
            ..Scan::all()
        };
        let (mut history, mut batches, mut refreshes) = (History::new(), Vec::new(), BTreeSet::new());
        self.log.scan(&scan, &mut |entry| {
            let batch = entry.seq - u64::from(entry.batch_index);
            match entry.event {
                Event::SecretPut(event) => {
                    let path = SecretPath { scope: event.scope, name: event.name };
                    batches.push((batch, path, event.version, entry.time));
                }
                Event::SecretsImported(event) => {
                    for put in event.secrets.into_iter().map(|one| one.put) {
                        if !is_meant(&put.scope, &put.name) {
                            continue;
                        }
                        let path = SecretPath { scope: put.scope, name: put.name };
                        batches.push((batch, path, put.version, entry.time));
                    }
                }
                _ => drop(refreshes.insert(batch)),
            }
            ControlFlow::Continue(())
        })?;
        for (batch, path, version, time) in batches {
            let by_refresh = refreshes.contains(&batch);
            history.entry(path).or_default().push(Written { version, time, by_refresh });
        }
        Ok(history)
    }

    /// Reads within the window: by a device, or of what is exposed.
    fn readings(&self, by: Option<DeviceId>) -> Result<Vec<Reading>, Error> {
        let ((since, until), exposed) = (self.window, &self.exposed);
        let is_meant = |entry: &Entry, note: &ReadNote| {
            let path = SecretPath { scope: note.scope.clone(), name: note.name.clone() };
            note.last >= since
                && note.first <= until
                && match by {
                    Some(device) => device_of(entry) == Some(device),
                    None => exposed.get(&path).is_some_and(|(last, _)| note.version <= *last),
                }
        };
        let wants = |entry: &Entry| match &entry.event {
            Event::SecretsRead(event) => event.reads.iter().any(|note| is_meant(entry, note)),
            _ => false,
        };
        let read = Kind::SecretsRead.number();
        let scan = Scan {
            from: self.log.first_at(since)?,
            header: &|header| header.kind == read,
            wants: &wants,
            progress: self.progress,
            ..Scan::all()
        };
        let mut found: BTreeMap<(SecretPath, u32, Option<DeviceId>, String), Reading> = BTreeMap::new();
        self.log.scan(&scan, &mut |entry| {
            let Event::SecretsRead(event) = &entry.event else { return ControlFlow::Continue(()) };
            for note in event.reads.iter().filter(|note| is_meant(&entry, note)) {
                let path = SecretPath { scope: note.scope.clone(), name: note.name.clone() };
                let (device, actor) = (device_of(&entry), entry.caller.actor.as_str().to_owned());
                let reading = found.entry((path.clone(), note.version, device, actor.clone())).or_insert(Reading {
                    path,
                    version: note.version,
                    device,
                    actor,
                    count: 0,
                    first: note.first,
                    last: note.last,
                    seq: entry.seq,
                    profiles: Vec::new(),
                });
                reading.count += u64::from(note.count);
                reading.first = reading.first.min(note.first);
                reading.last = reading.last.max(note.last);
                reading.seq = entry.seq;
            }
            ControlFlow::Continue(())
        })?;
        Ok(found.into_values().collect())
    }

    /// What else the device did within the window.
    fn others(&self, device: DeviceId) -> Result<Vec<u64>, Error> {
        let (since, until) = self.window;
        let read = Kind::SecretsRead.number();
        let wants = |entry: &Entry| device_of(entry) == Some(device);
        let scan = Scan {
            from: self.log.first_at(since)?,
            header: &|header| header.kind != read && header.time <= until,
            wants: &wants,
            progress: self.progress,
            ..Scan::all()
        };
        let mut found = Vec::new();
        self.log.scan(&scan, &mut |entry| {
            found.push(entry.seq);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

impl LogView {
    fn profiles_ever(&self) -> Result<Profiles, Error> {
        let making = [Kind::ProfileSet, Kind::ProfileLoggedIn, Kind::CredentialsImported].map(Kind::number);
        let scan = Scan { header: &|header| making.contains(&header.kind), ..Scan::all() };
        let mut profiles = Profiles::default();
        self.scan(&scan, &mut |entry| {
            let made = match entry.event {
                Event::ProfileSet(event) => vec![event.profile],
                Event::ProfileLoggedIn(event) => vec![event.profile],
                Event::CredentialsImported(event) => event.profiles.into_iter().map(|one| one.profile).collect(),
                _ => Vec::new(),
            };
            for profile in made {
                let known = profiles.0.entry(profile.id.clone()).or_default();
                if !known.iter().any(|one| one.credential == profile.credential) {
                    known.push(profile);
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(profiles)
    }

    /// How devices came to be trusted; of one that was paired more than once, the last time.
    fn trusted(&self, ledger: &Ledger, devices: &BTreeSet<DeviceId>) -> Result<Vec<Trusted>, Error> {
        let told = self.trust_story(devices)?;
        let mut found = Vec::new();
        for device in devices {
            let record = identity::find_device(&ledger.core().index, *device)?;
            let mut trusted = Trusted {
                device: *device,
                name: record.as_ref().map(|record| record.name.as_str().to_owned()),
                state: record.as_ref().map(|record| record.state.name()),
                minted_by: None,
                minted_at_seq: None,
                method: None,
                peer: None,
                approved_by: None,
                paired_at_seq: None,
                sas_compared: None,
            };
            let mut pairing: Option<PairingId> = None;
            for entry in &told {
                match &entry.event {
                    Event::PairingRequested(event) if event.device == *device => {
                        trusted.peer = Some(event.peer.clone());
                        pairing = Some(event.pairing);
                    }
                    Event::PairingApproved(event) if event.device == *device => {
                        trusted.approved_by = Some(entry.caller.actor.as_str().to_owned());
                        trusted.sas_compared = Some(event.sas_compared);
                    }
                    Event::DevicePaired(event) if event.device == *device => trusted.paired_at_seq = Some(entry.seq),
                    Event::DevicesImported(event) if event.devices.iter().any(|one| one.device == *device) => {
                        trusted.paired_at_seq = Some(entry.seq);
                    }
                    _ => {}
                }
            }
            for entry in &told {
                if let Event::PairingMinted(event) = &entry.event
                    && Some(event.pairing) == pairing
                {
                    trusted.minted_by = Some(entry.caller.actor.as_str().to_owned());
                    trusted.minted_at_seq = Some(entry.seq);
                    trusted.method = Some(event.method.name());
                }
            }
            found.push(trusted);
        }
        Ok(found)
    }
}
