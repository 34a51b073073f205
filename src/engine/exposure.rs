//! What a compromised device, secret or profile touched.
//!
//! A version is exposed that the thing read, or that was there to be read in the window. From a refresh
//! token the exposure goes on: whatever a refresh of the same grant wrote afterwards is in the same hands,
//! until a login or a person writes a new one. Reads count by when they happened, not by when they were
//! recorded: a reading process's notes may come late.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::base::{DeviceId, ProfileId, Scope, ScopePrefix, SecretPath, Serial, Timestamp};
use crate::event::auth::{CredentialSource, Profile};
use crate::event::compromise::{Concern, Remedy};
use crate::event::identity::PairingRequested;
use crate::event::vault::ReadNote;
use crate::event::{Event, Kind};
use crate::identity;

use super::config::AuditReads;
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
    /// Whether reads are recorded, as the settings are now. What a device read is not known where they are not.
    pub reads_recorded: bool,
    /// Whether somebody vouches for it although reads are not recorded: only then is it closed.
    pub vouched: bool,
}

impl Exposure {
    /// Whether the log can say that nothing was missed.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.reads_recorded || self.vouched || !matches!(self.concern, Concern::Device(_))
    }
}

/// Most secrets that are listed although they were not read.
const UNREAD_MAX: usize = 1000;

/// What profiles ever named.
#[derive(Default)]
pub(super) struct Profiles(BTreeMap<ProfileId, Vec<Profile>>);

impl Profiles {
    pub(super) fn naming<'a>(&'a self, path: &'a SecretPath) -> impl Iterator<Item = &'a ProfileId> + 'a {
        self.0
            .iter()
            .filter(move |(_, all)| all.iter().any(|one| one.credential.places().any(|place| place == path)))
            .map(|(id, _)| id)
    }

    /// Whether whoever knows a secret can get a profile's next tokens.
    pub(super) fn renews(&self, id: &ProfileId, path: &SecretPath) -> bool {
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
    pub(super) fn written(&self, id: &ProfileId) -> BTreeSet<SecretPath> {
        self.0.get(id).into_iter().flatten().flat_map(|one| one.credential.written().cloned()).collect()
    }
}

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
        let mut finder = Finder {
            log: &log,
            profiles,
            window: (since, until),
            progress,
            exposed: BTreeMap::new(),
            first: BTreeMap::new(),
        };
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
            reads_recorded: self.core().settings.audit.reads != AuditReads::Off,
            vouched: false,
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
    /// The first version of each that is exposed by itself.
    first: BTreeMap<SecretPath, u32>,
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
        if !by_refresh {
            let first = self.first.entry(path.clone()).or_insert(version);
            *first = version.min(*first);
        }
    }

    /// Versions of these secrets that were there within the window.
    fn there_to_be_read(&mut self, paths: &BTreeSet<SecretPath>) -> Result<(), Error> {
        for (path, written) in self.log.grants(paths, self.progress)?.history {
            let until = |time| written.iter().filter(|one| one.time <= time).map(|one| one.version).max();
            let Some(last) = until(self.window.1) else { continue };
            // What was in force when the window began was there, too.
            let first = until(self.window.0).or_else(|| written.iter().map(|one| one.version).min()).unwrap_or(last);
            self.expose(&path, first, false);
            self.expose(&path, last, false);
        }
        Ok(())
    }

    /// Follows refresh tokens: what their grant wrote afterwards is exposed too.
    fn by_refresh(&mut self) -> Result<(), Error> {
        let mut places = BTreeSet::new();
        for path in self.exposed.keys() {
            for id in self.profiles.naming(path).filter(|id| self.profiles.renews(id, path)) {
                places.extend(self.profiles.written(id));
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let grants = self.log.grants(&places, self.progress)?;
        for (place, version) in grants.followed(&self.profiles, &self.first, &self.exposed) {
            let by_refresh = self.exposed.get(&place).is_none_or(|(known, _)| *known < version);
            self.expose(&place, version, by_refresh);
        }
        Ok(())
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

    /// How devices came to be trusted: of one that was paired more than once, each time.
    fn trusted(&self, ledger: &Ledger, devices: &BTreeSet<DeviceId>) -> Result<Vec<Trusted>, Error> {
        let told = self.trust_story(devices)?;
        let mut found = Vec::new();
        for device in devices {
            let record = identity::find_device(&ledger.core().index, *device)?;
            let unknown = Trusted {
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
            let before = found.len();
            for (at, entry) in told.iter().enumerate() {
                if let Event::PairingApproved(event) = &entry.event
                    && event.device == *device
                {
                    let mut trusted = unknown.clone();
                    trusted.approved_by = Some(entry.caller.actor.as_str().to_owned());
                    trusted.sas_compared = Some(event.sas_compared);
                    let paired = told
                        .iter()
                        .skip(at)
                        .find(|later| matches!(&later.event, Event::DevicePaired(event) if event.device == *device));
                    trusted.paired_at_seq = paired.map(|later| later.seq);
                    let asked = told.iter().find_map(|asked| match &asked.event {
                        Event::PairingRequested(asked) if asked.request == event.request => Some(asked),
                        _ => None,
                    });
                    trusted.by_request(asked, &told);
                    found.push(trusted);
                }
            }
            if found.len() == before {
                let came = told.iter().find(|entry| match &entry.event {
                    Event::DevicesImported(event) => event.devices.iter().any(|one| one.device == *device),
                    _ => false,
                });
                found.push(Trusted { paired_at_seq: came.map(|entry| entry.seq), ..unknown });
            }
        }
        Ok(found)
    }
}

impl Trusted {
    /// The request that was approved, and the code that it came with.
    fn by_request(&mut self, asked: Option<&PairingRequested>, told: &[Entry]) {
        let Some(asked) = asked else { return };
        self.peer = Some(asked.peer.clone());
        for entry in told {
            if let Event::PairingMinted(event) = &entry.event
                && event.pairing == asked.pairing
            {
                self.minted_by = Some(entry.caller.actor.as_str().to_owned());
                self.minted_at_seq = Some(entry.seq);
                self.method = Some(event.method.name());
            }
        }
    }
}
