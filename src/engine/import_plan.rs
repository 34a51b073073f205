//! What an import would do, item by item: decided before anything is written.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::auth;
use crate::base::{DeviceId, ProfileId, Provider, SecretPath, Serial, StateRead, limits};
use crate::event::auth::Profile;
use crate::import::{FoundSecret, Gathered, Line, Verdict};
use crate::vault::{self, Head, Metadata, VaultError};

use super::core::Core;
use super::error::Error;
use super::import::ImportOptions;
use super::import_compare::Comparison;
use super::import_devices::{PlannedDevice, Signer};

const TWICE: &str = "it stands in the source more than once";

/// A secret version that is to be written.
pub struct PlannedSecret {
    /// Its place in what was gathered.
    pub found: usize,
    /// The version it becomes.
    pub version: u32,
    /// About how many bytes it takes in an event.
    pub bytes: usize,
}

/// What is to be done.
#[derive(Default)]
pub struct Plan {
    /// Secret versions, in order.
    pub secrets: Vec<PlannedSecret>,
    /// Devices, new ones and those that have more certificates now.
    pub devices: Vec<PlannedDevice>,
    /// Devices that are paired here and revoked there.
    pub revoked_devices: Vec<DeviceId>,
    /// Certificates that are good here and revoked there, of devices that stay paired.
    pub revoked_certificates: Vec<Serial>,
    /// Revoked fingerprints of no known device.
    pub revoked: Vec<crate::crypto::Fingerprint>,
    /// What the source's CA is to this ledger.
    pub signer: Signer,
    /// Generation of the imported CA.
    pub generation: u32,
    /// Whether that is still to be made.
    pub new_authority: bool,
    /// Profiles, by their places.
    pub profiles: Vec<usize>,
    /// Orders, by their places.
    pub orders: Vec<usize>,
    /// Items that are here already.
    pub same: u64,
    /// Items that are left behind.
    pub refused: u64,
    /// Whether the source could not be read as a whole.
    pub unreadable: bool,
    /// A line about every item.
    pub lines: Vec<Line>,
}

impl Plan {
    /// Compares what was gathered with the ledger.
    pub fn make(core: &Core, gathered: &Gathered, options: ImportOptions) -> Result<Self, Error> {
        let mut plan = Self { lines: gathered.lines.clone(), ..Self::default() };
        plan.authority(core, gathered)?;
        plan.devices(core, gathered)?;
        plan.secrets(core, gathered, options)?;
        plan.profiles(core, gathered)?;
        plan.orders(core, gathered)?;
        let left = |line: &&Line| line.verdict.is_refused() || line.verdict == Verdict::Conflict;
        plan.refused = plan.lines.iter().filter(left).count() as u64;
        plan.unreadable = gathered.unreadable;
        plan.same = plan.lines.iter().filter(|line| line.verdict == Verdict::Same).count() as u64;
        Ok(plan)
    }

    /// Whether nothing would be written.
    pub const fn is_empty(&self) -> bool {
        self.secrets.is_empty()
            && self.devices.is_empty()
            && self.revoked_devices.is_empty()
            && self.revoked_certificates.is_empty()
            && self.revoked.is_empty()
            && !self.new_authority
            && self.profiles.is_empty()
            && self.orders.is_empty()
    }

    /// Whether an item stands in the way.
    pub fn is_stopped(&self, options: ImportOptions) -> bool {
        let stops = |line: &Line| match line.verdict {
            Verdict::Conflict => !options.skip_conflicts,
            verdict => verdict.is_refused() && !options.skip_damaged,
        };
        self.unreadable || self.lines.iter().any(stops)
    }

    /// Checks that what the plan rests on is still so.
    pub fn still_holds(&self, state: &dyn StateRead, gathered: &Gathered) -> Result<(), Error> {
        if !self.devices_hold(state, gathered)? {
            return Err(Error::Overtaken);
        }
        let mut checked: HashSet<&SecretPath> = HashSet::new();
        for planned in &self.secrets {
            let Some(found) = gathered.secrets.get(planned.found) else { continue };
            if checked.insert(&found.path) {
                let head = vault::find_head(state, &found.path.scope, &found.path.name).map_err(VaultError::from)?;
                if head.map_or(0, |head| head.current.version).checked_add(1) != Some(planned.version) {
                    return Err(VaultError::Overtaken { target: Box::new(found.path.clone()) }.into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn line(&mut self, item: String, verdict: Verdict, what: impl Into<String>) {
        self.lines.push(Line::new(item, verdict, what));
    }

    fn secrets(&mut self, core: &Core, gathered: &Gathered, options: ImportOptions) -> Result<(), Error> {
        /// What is known of one secret before values are opened.
        enum Judged<'a> {
            Line(Verdict, String),
            Write(Option<Head>, Vec<&'static str>, (usize, &'a [FoundSecret])),
        }
        let mut from = 0;
        let mut met: HashSet<&SecretPath> = HashSet::with_capacity(gathered.secrets.len());
        let mut judged: Vec<(&SecretPath, Judged<'_>)> = Vec::new();
        let mut comparison = Comparison::new(core, gathered.form);
        for versions in gathered.secrets.chunk_by(|one, next| one.path == next.path) {
            let first = from;
            from += versions.len();
            let Some(path) = versions.first().map(|one| &one.path) else { continue };
            let one = if !met.insert(path) {
                Judged::Line(Verdict::Damaged, TWICE.to_owned())
            } else if let Some(what) = unfit(core, versions) {
                Judged::Line(Verdict::Unfit, what)
            } else {
                let head = vault::find_head(&core.index, &path.scope, &path.name).map_err(VaultError::from)?;
                let place = (first, versions);
                let differs = match &head {
                    Some(head) => comparison.add(judged.len(), path, head, place)?,
                    None => Vec::new(),
                };
                Judged::Write(head, differs, place)
            };
            judged.push((path, one));
        }
        let others = comparison.finish(&gathered.secrets)?;
        for (at, (path, one)) in judged.into_iter().enumerate() {
            let (verdict, what) = match one {
                Judged::Line(verdict, what) => (verdict, what),
                Judged::Write(head, mut differs, place) => {
                    if others.contains(&at) {
                        differs.push("its value is another");
                    }
                    let verdict = match (&head, differs.is_empty()) {
                        (None, _) => Verdict::Imported,
                        (Some(_), true) => Verdict::Same,
                        (Some(_), false) if options.replace => Verdict::Replaced,
                        (Some(_), false) => Verdict::Conflict,
                    };
                    let last = head.map_or(0, |head| head.current.version);
                    let what = match verdict {
                        Verdict::Imported | Verdict::Replaced => {
                            self.write(last, path, place);
                            plural(place.1.len())
                        }
                        Verdict::Conflict => {
                            let differs = differs.join(", ");
                            format!("version {last} is here, and {differs}; --replace writes a new version")
                        }
                        _ => String::new(),
                    };
                    (verdict, what)
                }
            };
            self.line(format!("secret {path}"), verdict, what);
        }
        Ok(())
    }

    /// Plans the versions of one secret, behind the last one that is here.
    fn write(&mut self, last: u32, path: &SecretPath, (first, versions): (usize, &[FoundSecret])) {
        for (ahead, (found, one)) in (1..).zip((first..).zip(versions)) {
            let labels: usize = one.labels.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
            let words = one.description.as_ref().map_or(0, String::len) + path.to_string().len() + labels;
            let version = last.saturating_add(ahead);
            self.secrets.push(PlannedSecret { found, version, bytes: one.value.len() + words + 256 });
        }
    }

    fn profiles(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let mut count = auth::profile_count(&core.index).map_err(auth::AuthError::from)?;
        let mut writers: BTreeMap<SecretPath, ProfileId> = BTreeMap::new();
        let coming = |one: &PlannedSecret| gathered.secrets.get(one.found).map(|one| &one.path);
        let coming: HashSet<&SecretPath> = self.secrets.iter().filter_map(coming).collect();
        let mut met: HashSet<&ProfileId> = HashSet::with_capacity(gathered.profiles.len());
        for (at, found) in gathered.profiles.iter().enumerate() {
            let profile = &found.profile;
            let item = format!("profile {}", profile.id);
            if !met.insert(&profile.id) {
                self.line(item, Verdict::Damaged, TWICE);
                continue;
            }
            let known = auth::find_profile(&core.index, &profile.id).map_err(auth::AuthError::from)?;
            if let Some(known) = known {
                let same = known.profile == *profile;
                let what = if same { "" } else { "a profile of this id is here, and says something else" };
                self.line(item, if same { Verdict::Same } else { Verdict::Conflict }, what);
                continue;
            }
            if let Err(error) = auth::admit(&core.index, profile) {
                self.line(item, Verdict::Unfit, error.to_string());
                continue;
            }
            let taken = profile.credential.written().find(|place| writers.contains_key(place)).cloned();
            if let Some(place) = taken {
                self.line(item, Verdict::Unfit, format!("another profile of the source writes {place} as well"));
                continue;
            }
            if count >= limits::PROFILES_MAX {
                self.line(item, Verdict::Unfit, format!("a ledger keeps {} profiles at most", limits::PROFILES_MAX));
                continue;
            }
            count += 1;
            writers.extend(profile.credential.written().map(|place| (place.clone(), profile.id.clone())));
            self.profiles.push(at);
            let missing = missing(core, &coming, profile)?;
            let what = if missing.is_empty() { String::new() } else { format!("no secret stands at {missing}") };
            self.line(item, Verdict::Imported, what);
        }
        Ok(())
    }

    fn orders(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let known = auth::list_orders(&core.index).map_err(auth::AuthError::from)?;
        let coming = self.profiles.iter().filter_map(|at| gathered.profiles.get(*at)).map(|one| &one.profile);
        let coming: HashMap<&ProfileId, &Provider> = coming.map(|one| (&one.id, &one.provider)).collect();
        let mut met = HashSet::with_capacity(gathered.orders.len());
        let (mut orders, mut lines) = (Vec::new(), Vec::new());
        for (at, found) in gathered.orders.iter().enumerate() {
            let here = known.iter().find(|order| order.scope == found.scope && order.provider == found.provider);
            let (verdict, what) = match here {
                _ if !met.insert((&found.scope, &found.provider)) => (Verdict::Damaged, TWICE.to_owned()),
                Some(order) if order.profiles == found.profiles => (Verdict::Same, String::new()),
                Some(_) => (Verdict::Conflict, "another order stands here for them".to_owned()),
                None if found.profiles.is_empty() => (Verdict::Unfit, "it names no profile".to_owned()),
                None => {
                    let mut provider_of = |id: &ProfileId| match coming.get(id) {
                        Some(provider) => Ok(Some((*provider).clone())),
                        None => Ok(auth::find_profile(&core.index, id)?.map(|record| record.profile.provider)),
                    };
                    match auth::admit_order(&found.provider, &found.profiles, &mut provider_of) {
                        Ok(()) => {
                            orders.push(at);
                            (Verdict::Imported, String::new())
                        }
                        Err(error @ (auth::AuthError::Order(_) | auth::AuthError::NoProfile(_))) => {
                            (Verdict::Unfit, error.to_string())
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            lines.push(Line::new(format!("order {} {}", found.scope, found.provider), verdict, what));
        }
        self.orders.extend(orders);
        self.lines.extend(lines);
        Ok(())
    }
}

/// Places that a profile names and nobody fills: it is imported all the same, as it stood there.
fn missing(core: &Core, coming: &HashSet<&SecretPath>, profile: &Profile) -> Result<String, Error> {
    let mut missing = Vec::new();
    for place in profile.credential.places().filter(|place| !coming.contains(place)) {
        if vault::find_head(&core.index, &place.scope, &place.name).map_err(VaultError::from)?.is_none() {
            missing.push(place.to_string());
        }
    }
    Ok(missing.join(", "))
}

fn plural(versions: usize) -> String {
    if versions == 1 { String::new() } else { format!("{versions} versions") }
}

/// What keeps a secret from being held here.
fn unfit(core: &Core, versions: &[FoundSecret]) -> Option<String> {
    let max = core.settings.limits.max_value_bytes.min(limits::VALUE_MAX_CEILING);
    for one in versions {
        if one.value.is_empty() {
            return Some("its value is empty".to_owned());
        }
        if one.value.len() > max {
            return Some(format!("its value has {} bytes, and limits.max_value_bytes is {max}", one.value.len()));
        }
        let metadata =
            Metadata { description: one.description.clone(), labels: Some(one.labels.clone()), expires_at: None };
        if let Err(error) = metadata.check() {
            return Some(error.to_string());
        }
    }
    None
}
