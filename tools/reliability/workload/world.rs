//! What must be there: the promises written a second time, as plainly as can be.

use std::collections::BTreeMap;

use palyra_ledger::identity::{AuthorityState, DeviceState};
use palyra_ledger::vault::VersionState;

use super::{LANES, Lane, Op};

/// Everything that a workload writes, by lane.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub(super) parts: BTreeMap<Lane, Part>,
}

/// What one lane writes.
#[derive(Debug, Clone)]
pub enum Part {
    /// By name.
    Vault(BTreeMap<u8, Secret>),
    /// Devices and the CA.
    Devices(Devices),
    /// By profile.
    Credentials(BTreeMap<u8, Profile>),
    /// The ledger's own keys.
    Keys(Keys),
}

/// A secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// By version from 1: what became of it, and its content where that is known.
    pub versions: Vec<(VersionState, Option<u64>)>,
    /// What it is described with.
    pub description: Option<u64>,
}

/// Devices and the CA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// By device.
    pub devices: BTreeMap<u64, Device>,
    /// Generations and what became of them.
    pub authorities: Vec<(u32, AuthorityState)>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What became of it.
    pub state: DeviceState,
    /// What it is called.
    pub name: String,
    /// How many certificates it was issued.
    pub certificates: usize,
    /// Which generation issued the newest.
    pub generation: u32,
    /// Whether it was granted a scope.
    pub granted: bool,
}

/// A profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whether it holds OAuth tokens; otherwise an API key.
    pub oauth: bool,
    /// Whether it may be used.
    pub enabled: bool,
    /// Content of the access token.
    pub access: Option<u64>,
    /// Content of the refresh token.
    pub refresh: Option<u64>,
    /// Whether a refresh is under way.
    pub refreshing: bool,
}

/// The ledger's own keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Epoch of the log.
    pub epoch: u32,
    /// Generation of the root key.
    pub root: u32,
    /// Key slots.
    pub slots: usize,
}

/// The model does not allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAllowed;

type Done = Result<(), NotAllowed>;

fn only(allowed: bool) -> Done {
    if allowed { Ok(()) } else { Err(NotAllowed) }
}

impl World {
    /// A ledger that was just made.
    pub fn new() -> Self {
        let part = |lane: &Lane| match lane {
            Lane::Vault(_) => Part::Vault(BTreeMap::new()),
            Lane::Devices => {
                Part::Devices(Devices { authorities: vec![(1, AuthorityState::Active)], ..Devices::default() })
            }
            Lane::Credentials => Part::Credentials(BTreeMap::new()),
            Lane::Keys => Part::Keys(Keys { epoch: 0, root: 1, slots: 1 }),
        };
        Self { parts: LANES.iter().map(|lane| (*lane, part(lane))).collect() }
    }

    /// What a lane writes.
    pub fn clone_part(&self, lane: Lane) -> Part {
        self.parts.get(&lane).cloned().unwrap_or(Part::Keys(Keys::default()))
    }

    /// An operation was acknowledged.
    pub fn apply(&mut self, lane: Lane, op: &Op) -> Result<(), String> {
        let done = self.parts.get_mut(&lane).ok_or(NotAllowed).and_then(|part| part.apply(op));
        done.map_err(|NotAllowed| format!("{lane:?} acknowledged {op:?}, which could not be done"))
    }

    /// Compares with what was found after an interruption, where of each lane one operation may have been under
    /// way: it must be there wholly or not at all. What was found goes on from here. Gives how many
    /// of them were there.
    pub fn settle(&mut self, found: &Self, under_way: &BTreeMap<Lane, Op>) -> Result<u64, String> {
        let mut whole = 0;
        for (lane, before) in &mut self.parts {
            let found = found.parts.get(lane).ok_or("a lane is missing")?;
            if before.is(found) {
                continue;
            }
            let op = under_way.get(lane);
            // A rotation of the root is recorded in two steps: the new root, then the new epoch.
            let mut between = before.clone();
            if op == Some(&Op::Root) && between.apply(&Op::RootAlone).is_ok() && between.is(found) {
                *before = between;
                whole += 1;
                continue;
            }
            // A refresh that is durable, and whose token then cannot be read, is recorded as failed.
            let mut ended = before.clone();
            if let Some(Op::BeginAgain { profile }) = op
                && ended.apply(&Op::NotRenewed { profile: *profile }).is_ok()
                && ended.is(found)
            {
                *before = ended;
                whole += 1;
                continue;
            }
            let mut after = before.clone();
            if op.is_some_and(|op| after.apply(op).is_ok() && after.is(found)) {
                *before = after;
                whole += 1;
                continue;
            }
            let what = op.map_or_else(|| "nothing was under way".to_owned(), |op| format!("{op:?} was under way"));
            return Err(format!("{lane:?}: {what}; {}", before.difference(found)));
        }
        Ok(whole)
    }

    /// A secret.
    pub fn secret(&self, lane: Lane, name: u8) -> Option<&Secret> {
        match self.parts.get(&lane) {
            Some(Part::Vault(secrets)) => secrets.get(&name),
            _ => None,
        }
    }

    /// A profile.
    pub fn profile(&self, profile: u8) -> Option<&Profile> {
        match self.parts.get(&Lane::Credentials) {
            Some(Part::Credentials(profiles)) => profiles.get(&profile),
            _ => None,
        }
    }

    /// A device.
    pub fn device(&self, device: u64) -> Option<&Device> {
        match self.parts.get(&Lane::Devices) {
            Some(Part::Devices(part)) => part.devices.get(&device),
            _ => None,
        }
    }

    /// Whether a generation of the CA is trusted no more.
    pub fn is_revoked(&self, generation: u32) -> bool {
        match self.parts.get(&Lane::Devices) {
            Some(Part::Devices(part)) => part.authorities.contains(&(generation, AuthorityState::Revoked)),
            _ => false,
        }
    }

    /// The epoch of the log's keys.
    pub fn epoch(&self) -> u32 {
        match self.parts.get(&Lane::Keys) {
            Some(Part::Keys(keys)) => keys.epoch,
            _ => 0,
        }
    }

    pub(super) fn versions(&self, lane: Lane, name: u8) -> usize {
        match self.parts.get(&lane) {
            Some(Part::Vault(secrets)) => secrets.get(&name).map_or(0, |secret| secret.versions.len()),
            _ => 0,
        }
    }

    /// Every device.
    pub fn devices(&self) -> impl Iterator<Item = u64> + '_ {
        let devices = match self.parts.get(&Lane::Devices) {
            Some(Part::Devices(part)) => Some(part.devices.keys().copied()),
            _ => None,
        };
        devices.into_iter().flatten()
    }
}

impl Part {
    /// Does it, or changes nothing.
    pub fn apply(&mut self, op: &Op) -> Done {
        match self {
            Self::Vault(secrets) => vault(secrets, op),
            Self::Devices(devices) => devices.apply(op),
            Self::Credentials(profiles) => credentials(profiles, op),
            Self::Keys(keys) => keys.apply(op),
        }
    }

    /// Whether it is what was found: content counts where it was read.
    fn is(&self, found: &Self) -> bool {
        match (self, found) {
            (Self::Vault(model), Self::Vault(found)) => {
                model.len() == found.len()
                    && model.iter().zip(found).all(|((name, secret), (other, found))| name == other && secret.is(found))
            }
            (Self::Devices(model), Self::Devices(found)) => model == found,
            (Self::Credentials(model), Self::Credentials(found)) => model == found,
            (Self::Keys(model), Self::Keys(found)) => model == found,
            _ => false,
        }
    }

    fn difference(&self, found: &Self) -> String {
        match (self, found) {
            (Self::Vault(model), Self::Vault(found)) => {
                let names = model.keys().chain(found.keys());
                let empty = Secret::default();
                let of = |all: &BTreeMap<u8, Secret>, name: &u8| all.get(name).unwrap_or(&empty).clone();
                let mut differ = names.filter(|name| !of(model, name).is(&of(found, name)));
                differ.next().map_or_else(String::new, |name| {
                    format!("secret k{name} must be {:?} and is {:?}", of(model, name), of(found, name))
                })
            }
            _ => format!("it must be {self:?} and is {found:?}"),
        }
    }
}

impl Secret {
    fn is(&self, found: &Self) -> bool {
        let same = |(model, found): (&(VersionState, Option<u64>), &(VersionState, Option<u64>))| {
            model.0 == found.0 && (found.1.is_none() || model.1 == found.1)
        };
        self.description == found.description
            && self.versions.len() == found.versions.len()
            && self.versions.iter().zip(&found.versions).all(same)
    }

    fn chosen(&mut self, version: Option<u32>) -> Result<&mut [(VersionState, Option<u64>)], NotAllowed> {
        let Some(version) = version else { return Ok(&mut self.versions) };
        let at = (version as usize).checked_sub(1).ok_or(NotAllowed)?;
        self.versions.get_mut(at..=at).ok_or(NotAllowed)
    }

    fn change(&mut self, version: Option<u32>, from: VersionState, to: VersionState) -> Done {
        let chosen = self.chosen(version)?;
        only(chosen.iter().any(|(state, _)| *state == from))?;
        chosen.iter_mut().filter(|(state, _)| *state == from).for_each(|(state, _)| *state = to);
        Ok(())
    }
}

fn at(secrets: &mut BTreeMap<u8, Secret>, name: u8) -> Result<&mut Secret, NotAllowed> {
    secrets.get_mut(&name).ok_or(NotAllowed)
}

fn vault(secrets: &mut BTreeMap<u8, Secret>, op: &Op) -> Done {
    match op {
        Op::Put { name, nonce, .. } => {
            secrets.entry(*name).or_default().versions.push((VersionState::Live, Some(*nonce)));
            Ok(())
        }
        Op::Delete { name, version } => at(secrets, *name)?.change(*version, VersionState::Live, VersionState::Deleted),
        Op::Undelete { name, version } => {
            at(secrets, *name)?.change(*version, VersionState::Deleted, VersionState::Live)
        }
        Op::Shred { name, version } => {
            let chosen = at(secrets, *name)?.chosen(*version)?;
            only(chosen.iter().any(|(state, _)| *state != VersionState::Shredded))?;
            for (state, _) in chosen {
                *state = VersionState::Shredded;
            }
            Ok(())
        }
        Op::Describe { name, nonce } => {
            at(secrets, *name)?.description = Some(*nonce);
            Ok(())
        }
        _ => Err(NotAllowed),
    }
}

impl Devices {
    fn generation(&self, state: AuthorityState) -> Option<u32> {
        self.authorities.iter().find(|(_, found)| *found == state).map(|(generation, _)| *generation)
    }

    fn turn(&mut self, from: AuthorityState, to: AuthorityState) -> Done {
        let found = self.authorities.iter_mut().find(|(_, found)| *found == from).ok_or(NotAllowed)?;
        found.1 = to;
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Done {
        let active = self.generation(AuthorityState::Active).ok_or(NotAllowed)?;
        let revoked = |generation: u32| self.authorities.contains(&(generation, AuthorityState::Revoked));
        match op {
            Op::Pair { device } => {
                let name = super::act::device_id(*device).to_string();
                // A device that was let in again keeps the list of its certificates, and none of its grants.
                let before = self.devices.get(device);
                only(before.is_none_or(|known| known.state == DeviceState::Cleared))?;
                let certificates = before.map_or(0, |known| known.certificates) + 1;
                let state = DeviceState::Paired;
                let new = Device { state, name, certificates, generation: active, granted: false };
                self.devices.insert(*device, new);
                Ok(())
            }
            Op::Clear { device } => {
                let device = self.devices.get_mut(device).filter(|device| device.state == DeviceState::Revoked);
                let device = device.ok_or(NotAllowed)?;
                (device.state, device.granted) = (DeviceState::Cleared, false);
                Ok(())
            }
            Op::Revoke { device } => {
                let device = self.devices.get_mut(device).filter(|device| device.state == DeviceState::Paired);
                device.ok_or(NotAllowed)?.state = DeviceState::Revoked;
                Ok(())
            }
            Op::Rename { device, nonce } => {
                self.devices.get_mut(device).ok_or(NotAllowed)?.name = format!("n{nonce}");
                Ok(())
            }
            Op::Grant { device, granted } => {
                let device = self.devices.get_mut(device).filter(|device| device.state == DeviceState::Paired);
                let device = device.ok_or(NotAllowed)?;
                only(device.granted != *granted)?;
                device.granted = *granted;
                Ok(())
            }
            Op::Renew { device } => {
                let known = self.devices.get(device).ok_or(NotAllowed)?;
                only(known.state == DeviceState::Paired && !revoked(known.generation))?;
                let device = self.devices.get_mut(device).ok_or(NotAllowed)?;
                device.certificates += 1;
                device.generation = active;
                Ok(())
            }
            Op::PrepareCa => {
                let still = |state: AuthorityState| self.generation(state).is_none();
                only(still(AuthorityState::Prepared) && still(AuthorityState::Retired))?;
                only(still(AuthorityState::Tainted) && self.authorities.len() < 60)?;
                let last = self.authorities.iter().map(|(generation, _)| *generation).max().unwrap_or(0);
                self.authorities.push((last + 1, AuthorityState::Prepared));
                Ok(())
            }
            Op::ActivateCa => {
                only(self.generation(AuthorityState::Prepared).is_some())?;
                self.turn(AuthorityState::Active, AuthorityState::Retired)?;
                self.turn(AuthorityState::Prepared, AuthorityState::Active)
            }
            Op::TaintCa => self.turn(AuthorityState::Retired, AuthorityState::Tainted),
            Op::RevokeCa => self.turn(AuthorityState::Tainted, AuthorityState::Revoked),
            Op::RevocationList => Ok(()),
            _ => Err(NotAllowed),
        }
    }
}

fn oauth(profiles: &mut BTreeMap<u8, Profile>, profile: u8, refreshing: bool) -> Result<&mut Profile, NotAllowed> {
    profiles.get_mut(&profile).filter(|found| found.oauth && found.refreshing == refreshing).ok_or(NotAllowed)
}

fn credentials(profiles: &mut BTreeMap<u8, Profile>, op: &Op) -> Done {
    match op {
        Op::Login { profile, nonce } => {
            let tokens = Some(*nonce);
            let new = Profile { oauth: true, enabled: true, access: tokens, refresh: tokens, refreshing: false };
            profiles.insert(*profile, new);
        }
        Op::Logout { profile } => {
            let profile = oauth(profiles, *profile, false)?;
            (profile.access, profile.refresh) = (None, None);
        }
        Op::SetKey { profile } => {
            let new = Profile { enabled: true, ..Profile::default() };
            profiles.insert(*profile, new);
        }
        Op::Enable { profile, enabled } => {
            let profile = profiles.get_mut(profile).ok_or(NotAllowed)?;
            only(profile.enabled != *enabled)?;
            profile.enabled = *enabled;
        }
        Op::Remove { profile } => {
            only(profiles.get(profile).is_some_and(|found| !found.refreshing))?;
            profiles.remove(profile);
        }
        Op::Begin { profile } => {
            let profile = oauth(profiles, *profile, false)?;
            only(profile.refresh.is_some())?;
            profile.refreshing = true;
        }
        Op::BeginAgain { profile } => only(oauth(profiles, *profile, true)?.refresh.is_some())?,
        Op::Renewed { profile, nonce } => {
            let profile = oauth(profiles, *profile, true)?;
            (profile.access, profile.refresh, profile.refreshing) = (Some(*nonce), Some(*nonce), false);
        }
        Op::NotRenewed { profile } => oauth(profiles, *profile, true)?.refreshing = false,
        Op::Report { profile, .. } => only(profiles.contains_key(profile))?,
        _ => return Err(NotAllowed),
    }
    Ok(())
}

impl Keys {
    fn apply(&mut self, op: &Op) -> Done {
        match op {
            Op::Epoch => self.epoch += 1,
            Op::RootAlone => self.root += 1,
            Op::Root => (self.epoch, self.root) = (self.epoch + 1, self.root + 1),
            Op::AddSlot => {
                only(self.slots < 3)?;
                self.slots += 1;
            }
            Op::RemoveSlot => {
                only(self.slots > 1)?;
                self.slots -= 1;
            }
            Op::Checkpoint | Op::Backup { .. } => {}
            _ => return Err(NotAllowed),
        }
        Ok(())
    }
}
