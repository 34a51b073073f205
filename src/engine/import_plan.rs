//! What an import would do, item by item: decided before anything is written.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::auth;
use crate::base::{ProfileId, SecretPath, StateRead, limits};
use crate::event::auth::Profile;
use crate::event::identity::Der;
use crate::identity::{self, AuthorityState, DeviceState};
use crate::import::{FoundDevice, FoundSecret, Gathered, Line, Verdict};
use crate::vault::{self, Head, Metadata, VaultError};

use super::core::Core;
use super::error::Error;
use super::import::ImportOptions;

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
    /// Devices, by their places.
    pub devices: Vec<usize>,
    /// Revoked fingerprints of no known device.
    pub revoked: Vec<crate::crypto::Fingerprint>,
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
        plan.refused = plan.lines.iter().filter(|line| line.verdict.is_refused()).count() as u64;
        plan.same = plan.lines.iter().filter(|line| line.verdict == Verdict::Same).count() as u64;
        Ok(plan)
    }

    /// Whether nothing would be written.
    pub const fn is_empty(&self) -> bool {
        self.secrets.is_empty()
            && self.devices.is_empty()
            && self.revoked.is_empty()
            && !self.new_authority
            && self.profiles.is_empty()
            && self.orders.is_empty()
    }

    /// Whether an item stands in the way.
    pub fn is_stopped(&self, options: ImportOptions) -> bool {
        self.lines
            .iter()
            .any(|line| line.verdict == Verdict::Conflict || (line.verdict.is_refused() && !options.skip_damaged))
    }

    /// Checks that what the plan rests on is still so.
    pub fn still_holds(&self, state: &dyn StateRead, gathered: &Gathered) -> Result<(), Error> {
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

    fn line(&mut self, item: String, verdict: Verdict, what: impl Into<String>) {
        self.lines.push(Line::new(item, verdict, what));
    }

    fn authority(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let Some(root) = &gathered.authority else { return Ok(()) };
        let certificate = Der::new(root.certificate.clone());
        let item = format!("ca {}", crate::pki::fingerprint(&root.certificate));
        let all = identity::authorities(&core.index)?;
        if let Some(known) = all.0.iter().find(|record| record.certificate == certificate) {
            self.generation = known.generation;
            match known.state {
                AuthorityState::Revoked => {
                    self.line(item, Verdict::Conflict, "this ledger revoked it: its devices must be paired anew");
                }
                _ => self.line(item, Verdict::Same, ""),
            }
            return Ok(());
        }
        if all.rolling() {
            let what = "a CA roll is under way, or another imported CA is still trusted: finish it with `palyra-ledger ca roll` first";
            self.line(item, Verdict::Conflict, what);
            return Ok(());
        }
        if all.0.len() + 1 >= limits::CA_GENERATIONS_MAX {
            self.line(item, Verdict::Unfit, "this ledger keeps as many CA generations as it can");
            return Ok(());
        }
        // The ledger's own root is made in the same batch where there is none yet.
        self.generation = all.0.iter().map(|record| record.generation).max().unwrap_or(1) + 1;
        self.new_authority = true;
        self.line(item, Verdict::Imported, format!("its root is trusted as CA generation {}", self.generation));
        Ok(())
    }

    fn devices(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let mut keys: HashMap<&Der, &FoundDevice> = HashMap::new();
        for (at, found) in gathered.devices.iter().enumerate() {
            let item = format!("device {}", found.device);
            if self.generation == 0 {
                self.line(item, Verdict::Unfit, "the CA that signed for it cannot be imported");
                continue;
            }
            if let Some(known) = identity::find_device(&core.index, found.device)? {
                let (verdict, what) = match (&found.revoked, known.state) {
                    (Some(_), DeviceState::Revoked | DeviceState::Cleared) => (Verdict::Same, ""),
                    (None, DeviceState::Paired) if Self::has_all(core, found)? => (Verdict::Same, ""),
                    (None, DeviceState::Revoked) => (Verdict::Same, "this ledger revoked it, and it stays so"),
                    _ => (Verdict::Conflict, "a device of this id is here, and stands otherwise"),
                };
                self.line(item, verdict, what);
                continue;
            }
            if let Some(key) = found.public_key.as_ref().filter(|_| found.revoked.is_none()) {
                let here = identity::find_key_holder(&core.index, key)?.is_some();
                if here || keys.insert(key, found).is_some() {
                    self.line(item, Verdict::Conflict, "its public key belongs to another device");
                    continue;
                }
            }
            self.devices.push(at);
            let what = if found.revoked.is_some() { "revoked, and stays so" } else { "" };
            self.line(item, Verdict::Imported, what);
        }
        for fingerprint in &gathered.revoked {
            if identity::find_imported(&core.index, fingerprint)?.is_none() {
                self.revoked.push(*fingerprint);
                self.line(format!("certificate {fingerprint}"), Verdict::Imported, "revoked, and stays so");
            } else {
                self.line(format!("certificate {fingerprint}"), Verdict::Same, "");
            }
        }
        Ok(())
    }

    fn has_all(core: &Core, found: &FoundDevice) -> Result<bool, Error> {
        for certificate in &found.certificates {
            if identity::find_imported(&core.index, &certificate.fingerprint)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn secrets(&mut self, core: &Core, gathered: &Gathered, options: ImportOptions) -> Result<(), Error> {
        let mut from = 0;
        let mut met: HashSet<&SecretPath> = HashSet::with_capacity(gathered.secrets.len());
        for versions in gathered.secrets.chunk_by(|one, next| one.path == next.path) {
            let first = from;
            from += versions.len();
            let Some(path) = versions.first().map(|one| &one.path) else { continue };
            let item = format!("secret {path}");
            if !met.insert(path) {
                self.line(item, Verdict::Damaged, "it stands in the source more than once");
                continue;
            }
            if let Some(what) = unfit(core, versions) {
                self.line(item, Verdict::Unfit, what);
                continue;
            }
            let head = vault::find_head(&core.index, &path.scope, &path.name).map_err(VaultError::from)?;
            let (verdict, what) = match &head {
                None => (Verdict::Imported, plural(versions.len())),
                Some(head) => match same(core, path, head, versions)? {
                    Compared::Same => (Verdict::Same, String::new()),
                    Compared::Other if options.replace => (Verdict::Replaced, plural(versions.len())),
                    Compared::Other => {
                        let what = format!(
                            "version {} here has another value; --replace writes a new version",
                            head.current.version
                        );
                        (Verdict::Conflict, what)
                    }
                },
            };
            if matches!(verdict, Verdict::Imported | Verdict::Replaced) {
                let last = head.map_or(0, |head| head.current.version);
                for (ahead, (found, one)) in (1..).zip((first..).zip(versions)) {
                    let labels: usize = one.labels.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
                    let words = one.description.as_ref().map_or(0, String::len) + path.to_string().len() + labels;
                    let version = last.saturating_add(ahead);
                    self.secrets.push(PlannedSecret { found, version, bytes: one.value.len() + words + 256 });
                }
            }
            self.line(item, verdict, what);
        }
        Ok(())
    }

    fn profiles(&mut self, core: &Core, gathered: &Gathered) -> Result<(), Error> {
        let mut count = auth::profile_count(&core.index).map_err(auth::AuthError::from)?;
        let mut writers: BTreeMap<SecretPath, ProfileId> = BTreeMap::new();
        let coming = |one: &PlannedSecret| gathered.secrets.get(one.found).map(|one| &one.path);
        let coming: HashSet<&SecretPath> = self.secrets.iter().filter_map(coming).collect();
        for (at, found) in gathered.profiles.iter().enumerate() {
            let profile = &found.profile;
            let item = format!("profile {}", profile.id);
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
        for (at, found) in gathered.orders.iter().enumerate() {
            let item = format!("order {} {}", found.scope, found.provider);
            let here = known.iter().find(|order| order.scope == found.scope && order.provider == found.provider);
            match here {
                Some(order) if order.profiles == found.profiles => self.line(item, Verdict::Same, ""),
                Some(_) => self.line(item, Verdict::Conflict, "another order stands here for them"),
                None => {
                    let comes = |id: &ProfileId| {
                        self.profiles
                            .iter()
                            .any(|at| gathered.profiles.get(*at).is_some_and(|one| one.profile.id == *id))
                    };
                    let mut gone = None;
                    for id in &found.profiles {
                        let here = auth::find_profile(&core.index, id).map_err(auth::AuthError::from)?.is_some();
                        if !here && !comes(id) {
                            gone = Some(id.clone());
                        }
                    }
                    if let Some(id) = gone {
                        self.line(item, Verdict::Unfit, format!("it names profile {id}, which is not there"));
                    } else if found.profiles.is_empty() || found.profiles.len() > limits::ORDER_MAX {
                        self.line(item, Verdict::Unfit, format!("an order names 1 to {} profiles", limits::ORDER_MAX));
                    } else {
                        self.orders.push(at);
                        self.line(item, Verdict::Imported, "");
                    }
                }
            }
        }
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

enum Compared {
    Same,
    Other,
}

/// Whether the last versions here that still have values are those of the source.
fn same(core: &Core, path: &SecretPath, head: &Head, versions: &[FoundSecret]) -> Result<Compared, Error> {
    let mut records = vault::list_versions(&core.index, path, head).map_err(VaultError::from)?;
    records.retain(|record| record.shredded.is_none());
    let Some(from) = records.len().checked_sub(versions.len()) else { return Ok(Compared::Other) };
    for (record, found) in records.iter().skip(from).zip(versions) {
        if record.value_bytes as usize != found.value.len() || core.value_of(path, record)? != found.value {
            return Ok(Compared::Other);
        }
    }
    Ok(Compared::Same)
}
