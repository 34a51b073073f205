//! Does an operation on a ledger.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use palyra_ledger::auth::{AnswerNote, RefreshResult};
use palyra_ledger::event::auth::{CredentialSource, FailureKind, LoginFlow, OauthSource, Profile};
use palyra_ledger::event::vault::Versions;
use palyra_ledger::pki::LeafKey;
use palyra_ledger::testing::pair_device;
use palyra_ledger::vault::Metadata;
use palyra_ledger::{
    AuditReads, BackupOptions, DeviceId, DeviceName, Ledger, NewSlot, NewTokens, ProfileId, PutOptions, Scope,
    SecretBytes, SecretName, SecretPath, Settings, Timestamp, limits,
};

use super::{Dice, Lane, Op};
use crate::Fault;

const SCOPES: [&str; 3] = ["global", "principal:ana", "skill:mail"];

/// Small segments, so that several are closed; no bound on pairings but the ceiling.
pub fn settings(reads: AuditReads) -> Settings {
    let mut settings = Settings::default();
    settings.audit.reads = reads;
    settings.log.segment_bytes = 64 * 1024;
    settings.serve.pairing_starts_per_minute = u32::try_from(limits::PAIRING_STARTS_CEILING).unwrap_or(u32::MAX);
    settings
}

/// The scope of a lane.
pub fn scope(lane: Lane) -> Result<Scope, Fault> {
    let at = if let Lane::Vault(at) = lane { usize::from(at) } else { 0 };
    Ok(SCOPES.get(at).ok_or("no such scope")?.parse()?)
}

/// The name of a secret.
pub fn secret_name(name: u8) -> Result<SecretName, Fault> {
    Ok(format!("k{name}").parse()?)
}

/// The content of a nonce: most are short, some are not.
pub fn value(nonce: u64) -> Vec<u8> {
    let len = match nonce % 32 {
        0 => 30_000,
        1..4 => 4_096,
        _ => 24 + nonce % 200,
    };
    let mut dice = Dice::new(nonce);
    let mut bytes = format!("{nonce:016x}").into_bytes();
    while (bytes.len() as u64) < len {
        bytes.extend_from_slice(&dice.number().to_le_bytes());
    }
    bytes
}

/// The nonce of a content, if every byte of it is right.
pub fn nonce(bytes: &[u8]) -> Result<u64, String> {
    let head = bytes.get(..16).and_then(|head| std::str::from_utf8(head).ok());
    let nonce = head.and_then(|head| u64::from_str_radix(head, 16).ok()).ok_or("a value does not begin as one")?;
    if value(nonce) == bytes { Ok(nonce) } else { Err(format!("the value of {nonce:016x} is garbled")) }
}

fn secret(nonce: u64) -> SecretBytes {
    SecretBytes::from(value(nonce).as_slice())
}

/// The id of a device.
pub fn device_id(device: u64) -> DeviceId {
    let mut bytes = *DeviceId::from_bytes([0x5a; 16]).as_bytes();
    bytes.iter_mut().zip(device.to_be_bytes()).for_each(|(slot, byte)| *slot = byte);
    DeviceId::from_bytes(bytes)
}

/// The device of an id.
pub fn device_of(id: DeviceId) -> u64 {
    id.as_bytes().iter().take(8).fold(0, |device, byte| device << 8 | u64::from(*byte))
}

/// The scope that is granted.
pub fn granted() -> Result<Scope, Fault> {
    Ok("skill:granted".parse()?)
}

/// The id of a profile.
pub fn profile_id(profile: u8) -> Result<ProfileId, Fault> {
    Ok(format!("p{profile}").parse()?)
}

/// Where a profile's token is kept.
pub fn token(profile: u8, which: &str) -> Result<SecretPath, Fault> {
    Ok(format!("global/auth/p{profile}/{which}").parse()?)
}

fn profile(number: u8, oauth: bool) -> Result<Profile, Fault> {
    let credential = if oauth {
        CredentialSource::Oauth(Box::new(OauthSource {
            access: token(number, "access")?,
            refresh: Some(token(number, "refresh")?),
            client_secret: None,
            token_endpoint: "https://auth.example/token".to_owned(),
            revocation_endpoint: None,
            client_id: "lab".to_owned(),
            scopes: vec!["read".to_owned()],
        }))
    } else {
        CredentialSource::ApiKey(token(number, "key")?)
    };
    Ok(Profile {
        id: profile_id(number)?,
        provider: "custom:lab".parse()?,
        name: format!("profile {number}"),
        scope: "global".parse()?,
        enabled: true,
        credential,
    })
}

/// Tokens of a nonce, good for an hour.
pub fn tokens(nonce: u64, now: Timestamp) -> NewTokens {
    NewTokens {
        access: secret(nonce),
        refresh: Some(secret(nonce)),
        expires_at: Some(now.plus_millis(3_600_000)),
        answer: AnswerNote::default(),
    }
}

fn versions(version: Option<u32>) -> Versions {
    version.map_or(Versions::All, Versions::One)
}

/// Does an operation; on return it is acknowledged. `scratch` is where backups go.
///
/// # Errors
/// What the ledger answered, or what it should not have answered.
pub fn act(ledger: &Ledger, lane: Lane, op: &Op, scratch: &Path) -> Result<(), Fault> {
    match op {
        Op::Put { .. } | Op::Delete { .. } | Op::Undelete { .. } | Op::Shred { .. } | Op::Describe { .. } => {
            vault(ledger, lane, op)
        }
        Op::Epoch => Ok(ledger.keys().rotate_epoch().map(drop)?),
        Op::Root | Op::RootAlone => Ok(ledger.keys().rotate_root(&[], &[]).map(drop)?),
        Op::AddSlot => Ok(ledger.keys().add_slot(NewSlot::file("another")).map(drop)?),
        Op::RemoveSlot => {
            let (slots, pinned) = ledger.keys().slots();
            let other = slots.iter().find(|slot| slot.id() != pinned).ok_or("no slot beside the pinned one")?;
            Ok(ledger.keys().remove_slot(other.id(), None)?)
        }
        Op::Checkpoint => Ok(ledger.checkpoint().map(drop)?),
        Op::Backup { number } => backup(ledger, &scratch.join(format!("{number:016x}.plb"))),
        Op::Login { .. }
        | Op::Logout { .. }
        | Op::SetKey { .. }
        | Op::Enable { .. }
        | Op::Remove { .. }
        | Op::Begin { .. }
        | Op::BeginAgain { .. }
        | Op::Renewed { .. }
        | Op::NotRenewed { .. }
        | Op::Report { .. } => credentials(ledger, op),
        _ => devices(ledger, op),
    }
}

fn vault(ledger: &Ledger, lane: Lane, op: &Op) -> Result<(), Fault> {
    let vault = ledger.vault(scope(lane)?);
    match op {
        Op::Put { name, nonce: content, expect } => {
            let name = secret_name(*name)?;
            let mut options = PutOptions::new();
            if *expect {
                let held = vault.history(&name).map_or(0, |history| history.versions.len());
                options = options.if_version(u32::try_from(held)?);
            }
            let receipt = vault.put(&name, &secret(*content), options)?;
            // What is acknowledged is visible at once.
            let read = vault.get(&name)?;
            if read.info.version != receipt.version || nonce(read.value.expose()) != Ok(*content) {
                return Err(format!("version {} of {name} does not read as it was put", receipt.version).into());
            }
        }
        Op::Delete { name, version } => drop(vault.delete(&secret_name(*name)?, versions(*version), None)?),
        Op::Undelete { name, version } => drop(vault.undelete(&secret_name(*name)?, versions(*version), None)?),
        Op::Shred { name, version } => drop(vault.shred(&secret_name(*name)?, versions(*version), None)?),
        Op::Describe { name, nonce } => {
            let change = Metadata { description: Some(nonce.to_string()), ..Metadata::default() };
            vault.describe(&secret_name(*name)?, &change, None)?;
        }
        _ => return Err("no operation of a vault".into()),
    }
    Ok(())
}

fn devices(ledger: &Ledger, op: &Op) -> Result<(), Fault> {
    let identity = ledger.identity();
    match op {
        Op::Pair { device } => Ok(pair_device(ledger, device_id(*device), &LeafKey::generate()?).map(drop)?),
        Op::Clear { device } => Ok(identity.clear(device_id(*device))?),
        Op::Revoke { device } => Ok(identity.revoke(device_id(*device))?),
        Op::Rename { device, nonce } => {
            Ok(identity.rename(device_id(*device), DeviceName::new(&format!("n{nonce}"))?)?)
        }
        Op::Grant { device, granted: on } => Ok(identity.grant(device_id(*device), granted()?, *on)?),
        Op::Renew { device } => {
            let shown = identity.device(device_id(*device))?.certificate.ok_or("a device without a certificate")?;
            Ok(identity.renew(device_id(*device), shown, &LeafKey::generate()?.request()?).map(drop)?)
        }
        Op::PrepareCa => Ok(identity.prepare_ca().map(drop)?),
        Op::ActivateCa => Ok(identity.activate_ca(true).map(drop)?),
        Op::TaintCa => Ok(identity.taint_ca().map(drop)?),
        Op::RevokeCa => Ok(identity.revoke_ca(true).map(drop)?),
        _ => Ok(identity.revocation_list().map(drop)?),
    }
}

fn credentials(ledger: &Ledger, op: &Op) -> Result<(), Fault> {
    let auth = ledger.auth();
    let under_way = |number: u8| -> Result<_, Fault> {
        let id = profile_id(number)?;
        let generation = auth.profile(&id)?.1.generation;
        Ok(auth.resume(&id, generation)?)
    };
    match op {
        Op::Login { profile: number, nonce } => {
            auth.logged_in(&profile(*number, true)?, LoginFlow::Device, &tokens(*nonce, auth.now()))?;
        }
        Op::Logout { profile } => auth.logged_out(&profile_id(*profile)?, true)?,
        Op::SetKey { profile: number } => auth.set(profile(*number, false)?, None)?,
        Op::Enable { profile, enabled } => auth.enable(&profile_id(*profile)?, *enabled)?,
        Op::Remove { profile } => auth.delete(&profile_id(*profile)?)?,
        Op::Begin { profile } | Op::BeginAgain { profile } => drop(auth.begin_refresh(&profile_id(*profile)?, true)?),
        Op::Renewed { profile, nonce } => auth.renewed(&under_way(*profile)?, &tokens(*nonce, auth.now()))?,
        Op::NotRenewed { profile } => {
            let failure = FailureKind::RateLimit;
            let what = "the provider answered status 429".to_owned();
            let result = RefreshResult::Failed { failure, what, retry_after_ms: None, unanswered: false };
            auth.refresh_failed(&under_way(*profile)?, &result)?;
        }
        Op::Report { profile, served } => {
            let id = profile_id(*profile)?;
            if *served {
                auth.report_success(&id)?;
            } else {
                auth.report_failure(&id, FailureKind::RateLimit, None)?;
            }
            auth.flush_usage()?;
        }
        _ => return Err("no operation of credentials".into()),
    }
    Ok(())
}

fn backup(ledger: &Ledger, path: &Path) -> Result<(), Fault> {
    let mut file = File::create_new(path)?;
    let output = file.try_clone()?;
    let options = BackupOptions { with_key_file: true, ..BackupOptions::default() };
    ledger.backup(&mut file, &options, &mut || output.sync_all(), &|_, _| ControlFlow::Continue(()))?;
    Ok(file.flush()?)
}
