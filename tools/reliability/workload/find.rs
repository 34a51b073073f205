//! Reads what is there, and looks for anything that is there by half.

use std::collections::BTreeMap;
use std::time::Duration;

use palyra_ledger::auth::Runtime;
use palyra_ledger::event::auth::CredentialSource;
use palyra_ledger::identity::{AuthorityState, DeviceState, RequestState};
use palyra_ledger::pki;
use palyra_ledger::vault::VersionState;
use palyra_ledger::{AuthFilter, Error, GetOptions, Ledger, ListOptions, ReplayPoint, SecretPath, VerifyOptions};

use super::act::{device_of, granted, nonce, profile_id, scope, secret_name, token};
use super::world::{Device, Devices, Keys, Part, Profile, Secret, World};
use super::{LANES, Lane};
use crate::Fault;

/// Newest versions whose content is read; of the others only what became of them.
const CONTENTS: usize = 4;
/// How often the state is looked at, until nothing writes meanwhile.
const STILL_TRIES: usize = 8;
/// How long nothing must have been written before a root that differs is believed.
const STILL: Duration = Duration::from_millis(200);

/// What is there. Content is read where `deep` asks for it.
///
/// # Errors
/// What could not be read, or is there by half.
pub fn find(ledger: &Ledger, deep: bool) -> Result<World, Fault> {
    let part = |lane: Lane| -> Result<(Lane, Part), Fault> {
        let part = match lane {
            Lane::Vault(_) => Part::Vault(secrets(ledger, lane, deep)?),
            Lane::Devices => Part::Devices(devices(ledger)?),
            Lane::Credentials => Part::Credentials(credentials(ledger)?),
            Lane::Keys => Part::Keys(keys(ledger)?),
        };
        Ok((lane, part))
    };
    Ok(World { parts: LANES.into_iter().map(part).collect::<Result<_, _>>()? })
}

/// Verifies chain and state, and where asked the second copy; then folds the log once more.
///
/// # Errors
/// The findings.
pub fn verify(ledger: &Ledger, witness: bool) -> Result<(), Fault> {
    let report = ledger.verify(VerifyOptions { state: true, witness })?;
    if !report.ok {
        return Err(format!("verify found {:?}", report.findings).into());
    }
    // The report compares the fold with this root, both of one moment.
    report.state_root.ok_or("verify says nothing of the state's root")?;
    folds(ledger)
}

/// The live state is the fold of the log. Something may write beside us, a checkpointer at the least: roots are
/// compared where the log is as long after reading the live one as it was before. Where it never stands still, the
/// report's own comparison is what there is.
fn folds(ledger: &Ledger) -> Result<(), Fault> {
    for _ in 0..STILL_TRIES {
        let before = ledger.log().head()?.seq;
        let live = ledger.state_root()?;
        if ledger.log().head()?.seq != before {
            continue;
        }
        let folded = ledger.replay(ReplayPoint::Seq(before))?.state_root()?;
        if folded == live {
            return Ok(());
        }
        // An event is in the journal a moment before it is visible: the live root may be that of the event before.
        std::thread::sleep(STILL);
        if ledger.state_root()? == live && ledger.log().head()?.seq == before {
            let what = format!("the state root is {live}, and the fold of the log to event {before} gives {folded}");
            return Err(what.into());
        }
    }
    Ok(())
}

fn secrets(ledger: &Ledger, lane: Lane, deep: bool) -> Result<BTreeMap<u8, Secret>, Fault> {
    let vault = ledger.vault(scope(lane)?);
    let options = ListOptions::new().prefix("k").including_deleted();
    let mut found = BTreeMap::new();
    for info in vault.list(&options)? {
        let name: u8 = info.reference.name.as_str().trim_start_matches('k').parse()?;
        let name_of = secret_name(name)?;
        let history = vault.history(&name_of)?;
        let mut versions = Vec::with_capacity(history.versions.len());
        let old = history.versions.len().saturating_sub(CONTENTS);
        for (at, version) in history.versions.iter().enumerate() {
            if version.version as usize != at + 1 {
                return Err(format!("{name_of} has no version {}", at + 1).into());
            }
            let wanted = version.state == VersionState::Live && (deep || at >= old);
            // A hidden or destroyed version must not read, either.
            let read = if wanted || at >= old {
                Some(vault.get_with(&name_of, GetOptions::version(version.version)))
            } else {
                None
            };
            let content = match (version.state, read) {
                (VersionState::Live, Some(read)) => Some(nonce(read?.value.expose())?),
                (_, Some(Ok(_))) => {
                    return Err(format!("version {} of {name_of} is gone, and reads", version.version).into());
                }
                (_, Some(Err(Error::Vault(_))) | None) => None,
                (_, Some(Err(error))) => return Err(error.into()),
            };
            versions.push((version.state, content));
        }
        let description = info.description.map(|text| text.parse()).transpose()?;
        found.insert(name, Secret { versions, description });
    }
    Ok(found)
}

fn devices(ledger: &Ledger) -> Result<Devices, Fault> {
    let identity = ledger.identity();
    let authorities: Vec<(u32, AuthorityState)> =
        identity.authorities()?.0.iter().map(|record| (record.generation, record.state)).collect();
    if authorities.iter().filter(|(_, state)| *state == AuthorityState::Active).count() != 1 {
        return Err(format!("not one CA generation issues: {authorities:?}").into());
    }
    let (trust, now) = (identity.trust_apart()?, identity.clock().now());
    let mut devices = BTreeMap::new();
    for (id, record) in identity.devices()? {
        let serial = record.certificate.ok_or_else(|| format!("device {id} is paired without a certificate"))?;
        let held = identity.certificate(serial)?;
        let der = identity.certificate_der(serial)?;
        let accepted = trust.check(id, serial, &pki::fingerprint(der.as_bytes()));
        // What ended, or was signed by a root that is trusted no more, need not be accepted.
        let over = now >= held.not_after || authorities.contains(&(held.generation, AuthorityState::Revoked));
        match (record.state, &accepted) {
            (DeviceState::Paired, Err(cause)) if !over => {
                return Err(format!("device {id} is paired and refused: {cause:?}").into());
            }
            (DeviceState::Revoked | DeviceState::Cleared, Ok(())) => {
                return Err(format!("device {id} is revoked and accepted").into());
            }
            _ => {}
        }
        let device = Device {
            state: record.state,
            name: record.name.to_string(),
            certificates: identity.certificates_of(id)?.len(),
            generation: held.generation,
            granted: record.grants.contains(&granted()?),
        };
        devices.insert(device_of(id), device);
    }
    for (request, record) in identity.requests()? {
        let paired = matches!(record.state, RequestState::Approved(_));
        if paired && !devices.contains_key(&device_of(record.device)) {
            return Err(format!("request {request} is approved, and its device is not paired").into());
        }
    }
    Ok(Devices { devices, authorities })
}

fn credentials(ledger: &Ledger) -> Result<BTreeMap<u8, Profile>, Fault> {
    let mut found = BTreeMap::new();
    for (record, runtime) in ledger.auth().profiles(&AuthFilter::default())?.profiles {
        let number: u8 = record.profile.id.as_str().trim_start_matches('p').parse()?;
        let oauth = matches!(record.profile.credential, CredentialSource::Oauth(_));
        let mut profile = Profile { oauth, enabled: record.profile.enabled, ..Profile::default() };
        if oauth {
            profile.access = content(ledger, &token(number, "access")?)?;
            profile.refresh = content(ledger, &token(number, "refresh")?)?;
            profile.refreshing = runtime.lease.is_some();
        } else if runtime.lease.is_some() {
            return Err(format!("{} holds an API key and is refreshed", profile_id(number)?).into());
        }
        whole(&profile, &runtime)?;
        found.insert(number, profile);
    }
    Ok(found)
}

/// Tokens, their end and the profile's health come in one batch.
fn whole(profile: &Profile, runtime: &Runtime) -> Result<(), Fault> {
    if profile.access != profile.refresh {
        return Err(format!("tokens of two answers: {profile:?}").into());
    }
    if profile.oauth && profile.access.is_some() != runtime.has_token {
        return Err(format!("tokens without their profile, or the other way: {profile:?}, {runtime:?}").into());
    }
    Ok(())
}

fn content(ledger: &Ledger, place: &SecretPath) -> Result<Option<u64>, Fault> {
    let vault = ledger.vault(place.scope.clone());
    match vault.get(&place.name) {
        Ok(secret) => Ok(Some(nonce(secret.value.expose())?)),
        Err(Error::Vault(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn keys(ledger: &Ledger) -> Result<Keys, Fault> {
    let system = ledger.status()?.system;
    let (slots, pinned) = ledger.keys().slots();
    if slots.len() != system.slots.len() || slots.iter().all(|slot| slot.id() != pinned) {
        return Err(format!("key ring and log name other slots: {slots:?}, {:?}", system.slots).into());
    }
    // The state says nothing of the first generation, which no event made.
    Ok(Keys { epoch: system.epoch, root: system.root_generation.max(1), slots: slots.len() })
}
