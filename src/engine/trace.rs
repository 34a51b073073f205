//! The whole story of a secret, a device or a profile, across the domains, in one line of time.
//!
//! What is about the thing itself comes first; what it leads to is followed one step, and devices are
//! followed back to who let them in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::base::{DeviceId, Origin, PairingId, ProfileId, RequestId, Serial};
use crate::event::compromise::Concern;
use crate::event::{Event, Kind, KindClass};
use crate::log::Header;

use super::error::Error;
use super::log_view::{Entry, LogView};
use super::scan::Scan;

/// How an event belongs to a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It is about the thing itself, or the thing did it.
    Itself,
    /// It is about a secret that the thing names.
    Secret,
    /// It is about a profile that names the thing.
    Profile,
    /// It is about a device that read the thing, or how the device came to be trusted.
    Device,
}

/// One event of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// How it belongs to it.
    pub relation: Relation,
    /// The event.
    pub entry: Entry,
}

/// The device that an event came from.
pub(super) fn device_of(entry: &Entry) -> Option<DeviceId> {
    match &entry.caller.origin {
        Origin::Device { device_id } => device_id.parse().ok(),
        _ => None,
    }
}

/// Whether a header is of device trust, and no mere sighting.
pub(super) fn is_trust(header: &Header) -> bool {
    KindClass::of(header.kind) == KindClass::Identity && header.kind != Kind::DevicesSeen.number()
}

/// What a story leads to.
#[derive(Default)]
struct Leads {
    secrets: BTreeSet<String>,
    profiles: BTreeSet<ProfileId>,
    devices: BTreeSet<DeviceId>,
}

impl LogView {
    /// The whole story of a thing, oldest first; empty where the log knows no such thing.
    ///
    /// # Errors
    /// As [`LogView::read`].
    pub fn story(&self, concern: &Concern, progress: Option<&dyn Fn(u64, u64)>) -> Result<Vec<Chapter>, Error> {
        let mut story: BTreeMap<u64, Chapter> = BTreeMap::new();
        let wants = |entry: &Entry| is_itself(entry, concern);
        self.scan(&Scan { wants: &wants, progress, ..Scan::all() }, &mut |entry| {
            story.insert(entry.seq, Chapter { relation: Relation::Itself, entry });
            ControlFlow::Continue(())
        })?;
        let leads = leads(concern, &story);
        let follow = !leads.secrets.is_empty() || !leads.profiles.is_empty();
        if follow {
            let relation = |entry: &Entry| leads.relation(entry);
            let wants = |entry: &Entry| relation(entry).is_some();
            self.scan(&Scan { wants: &wants, progress, ..Scan::all() }, &mut |entry| {
                if let Some(relation) = leads.relation(&entry) {
                    story.entry(entry.seq).or_insert(Chapter { relation, entry });
                }
                ControlFlow::Continue(())
            })?;
        }
        let mut devices = leads.devices;
        // A profile's secrets are read by devices too.
        devices.extend(story.values().filter_map(|chapter| device_of(&chapter.entry)));
        for entry in self.trust_story(&devices)? {
            let relation = if matches!(concern, Concern::Device(_)) { Relation::Itself } else { Relation::Device };
            story.entry(entry.seq).or_insert(Chapter { relation, entry });
        }
        Ok(story.into_values().collect())
    }

    /// Whether anything in the log is about a thing.
    ///
    /// # Errors
    /// As [`LogView::read`].
    pub fn knows(&self, concern: &Concern) -> Result<bool, Error> {
        let mut found = false;
        let wants = |entry: &Entry| is_itself(entry, concern);
        self.scan(&Scan { wants: &wants, ..Scan::all() }, &mut |_| {
            found = true;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// How devices came to be trusted and ceased to be: codes, requests, answers, certificates, revocations.
    pub(super) fn trust_story(&self, devices: &BTreeSet<DeviceId>) -> Result<Vec<Entry>, Error> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: BTreeMap<u64, Entry> = BTreeMap::new();
        let wants = |entry: &Entry| entry.event.about().devices.iter().any(|device| devices.contains(device));
        self.scan(&Scan { header: &is_trust, wants: &wants, ..Scan::all() }, &mut |entry| {
            found.insert(entry.seq, entry);
            ControlFlow::Continue(())
        })?;
        let (mut pairings, mut requests, mut serials) =
            (BTreeSet::<PairingId>::new(), BTreeSet::<RequestId>::new(), BTreeSet::<Serial>::new());
        for entry in found.values() {
            let about = entry.event.about();
            pairings.extend(about.pairings);
            requests.extend(about.requests);
            serials.extend(about.certificates);
        }
        let wants = |entry: &Entry| {
            let about = entry.event.about();
            about.pairings.iter().any(|one| pairings.contains(one))
                || about.requests.iter().any(|one| requests.contains(one))
                || about.certificates.iter().any(|one| serials.contains(one))
        };
        self.scan(&Scan { header: &is_trust, wants: &wants, ..Scan::all() }, &mut |entry| {
            found.entry(entry.seq).or_insert(entry);
            ControlFlow::Continue(())
        })?;
        Ok(found.into_values().collect())
    }
}

fn is_itself(entry: &Entry, concern: &Concern) -> bool {
    match concern {
        Concern::Secret(path) => {
            let text = path.to_string();
            entry.event.secret_refs().contains(&text) || entry.event.about().named.contains(path)
        }
        Concern::Device(device) => device_of(entry) == Some(*device) || entry.event.about().devices.contains(device),
        Concern::Profile(profile) => entry.event.about().profiles.contains(profile),
    }
}

/// What the events about the thing itself lead to.
fn leads(concern: &Concern, story: &BTreeMap<u64, Chapter>) -> Leads {
    let mut leads = Leads::default();
    for Chapter { entry, .. } in story.values() {
        let about = entry.event.about();
        leads.devices.extend(device_of(entry));
        // A plan names what else was touched: that is no part of this thing's story.
        if matches!(entry.event, Event::CompromiseDeclared(_)) {
            continue;
        }
        match concern {
            Concern::Secret(_) => leads.profiles.extend(about.profiles),
            Concern::Profile(_) => leads.secrets.extend(about.named.iter().map(ToString::to_string)),
            Concern::Device(device) => {
                leads.devices.insert(*device);
            }
        }
    }
    leads
}

impl Leads {
    fn relation(&self, entry: &Entry) -> Option<Relation> {
        if entry.event.secret_refs().iter().any(|found| self.secrets.contains(found)) {
            return Some(Relation::Secret);
        }
        let profile = entry.event.about().profiles.iter().any(|found| self.profiles.contains(found));
        profile.then_some(Relation::Profile)
    }
}
