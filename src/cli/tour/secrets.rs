//! The vault's part of the tour.

use std::collections::BTreeMap;

use crate::base::{ScopePrefix, SecretPath};
use crate::cli::exit::Failure;
use crate::cli::time;
use crate::engine::{Error, GetOptions, Ledger, ListOptions, PutOptions};
use crate::event::vault::Versions;
use crate::vault::{VaultError, VersionState};

use super::{FIRST_VALUE, SECOND_VALUE, TOKEN_VALUE, Tour, bytes, name, scope};

const KEY: &str = "openai_api_key";

fn key() -> Result<SecretPath, Failure> {
    Ok(SecretPath { scope: scope("global")?, name: name(KEY)? })
}

/// Writes two secrets and reads one back.
pub fn write(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    tour.step("Write secrets and read them back")?;
    let setup = tour.as_actor("setup", "first day");
    let vault = ledger.vault(scope("global")?).for_caller(setup.clone());
    let labels = BTreeMap::from([("env".to_owned(), "demo".to_owned()), ("owner".to_owned(), "platform".to_owned())]);
    let expires = time::now().plus_millis(30 * 86_400_000);
    let options = PutOptions::new().if_version(0).description("billing account").labels(labels).expires_at(expires);
    let receipt = vault.put(&name(KEY)?, &bytes(FIRST_VALUE), options)?;
    tour.say(&format!("global/{KEY}: version {}, durable as event {}", receipt.version, receipt.seq))?;
    let alice = ledger.vault(scope("principal:alice")?).for_caller(setup);
    let receipt = alice.put(&name("github_token")?, &bytes(TOKEN_VALUE), PutOptions::new())?;
    tour.say(&format!("principal:alice/github_token: version {}, event {}", receipt.version, receipt.seq))?;
    let agent = vault.for_caller(tour.as_actor("agent-7", "nightly summary"));
    let secret = agent.get(&name(KEY)?)?;
    tour.check("the value reads back, byte for byte", secret.value.expose() == FIRST_VALUE.as_bytes())?;
    let info = vault.info(&name(KEY)?, GetOptions::current())?;
    tour.say(&format!(
        "{} bytes, \"{}\", {} labels, expires {}",
        info.value_bytes,
        info.description.as_deref().unwrap_or_default(),
        info.labels.len(),
        info.expires_at.map(time::second).unwrap_or_default()
    ))?;
    tour.check("description, labels and expiry are kept", info.labels.len() == 2 && info.expires_at == Some(expires))
}

/// Writes a second version.
pub fn versions(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    tour.step("Replace a value: the old version stays")?;
    let vault = ledger.vault(scope("global")?).for_caller(tour.as_actor("setup", "quarterly rotation"));
    let receipt = vault.put(&name(KEY)?, &bytes(SECOND_VALUE), PutOptions::new())?;
    tour.say(&format!("version {}, event {}", receipt.version, receipt.seq))?;
    let current = vault.get(&name(KEY)?)?;
    let old = vault.get_with(&name(KEY)?, GetOptions::version(1))?;
    let both = current.value.expose() == SECOND_VALUE.as_bytes() && old.value.expose() == FIRST_VALUE.as_bytes();
    tour.check("version 2 is current and version 1 still reads", both)?;
    tour.check("its history has two live versions", states(ledger)? == [VersionState::Live, VersionState::Live])
}

fn states(ledger: &Ledger) -> Result<Vec<VersionState>, Failure> {
    let history = ledger.vault(scope("global")?).history(&name(KEY)?)?;
    Ok(history.versions.iter().map(|version| version.state).collect())
}

/// Loses a compare-and-set.
pub fn compare_and_set(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    tour.step("Two writers, one of them late")?;
    let vault = ledger.vault(scope("global")?).for_caller(tour.as_actor("late-writer", "believes in version 1"));
    let lost = vault.put(&name(KEY)?, &bytes("sk-tour-lost-update"), PutOptions::new().if_version(1));
    tour.refused("a write that expects version 1", lost, |error| {
        matches!(error, Error::Vault(VaultError::Conflict { expected: 1, found: 2, .. }))
    })?;
    let current = ledger.vault(scope("global")?).get(&name(KEY)?)?;
    tour.check("version 2 is untouched", current.value.expose() == SECOND_VALUE.as_bytes())
}

/// Deletes and undeletes.
pub fn delete(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    tour.step("Delete, then change your mind")?;
    let vault = ledger.vault(scope("principal:alice")?).for_caller(tour.as_actor("alice", "leaves the team"));
    let token = name("github_token")?;
    vault.delete(&token, Versions::All, None)?;
    tour.refused("reading a deleted secret", vault.get(&token), |error| {
        matches!(error, Error::Vault(VaultError::Deleted { .. }))
    })?;
    let listed = vault.list(&ListOptions::new())?;
    tour.check("it is not listed either", listed.is_empty())?;
    let vault = vault.for_caller(tour.as_actor("alice", "is back"));
    vault.undelete(&token, Versions::All, None)?;
    tour.check("undeleted, it reads as before", vault.get(&token)?.value.expose() == TOKEN_VALUE.as_bytes())
}

/// Destroys one version.
pub fn shred(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    tour.step("Destroy a version for good")?;
    let vault = ledger.vault(scope("global")?).for_caller(tour.as_actor("setup", "version 1 leaked"));
    let receipt = vault.shred(&name(KEY)?, Versions::One(1), None)?;
    tour.say(&format!("its key is overwritten; event {} stays in the chain", receipt.seq))?;
    tour.refused("reading the shredded version", vault.get_with(&name(KEY)?, GetOptions::version(1)), |error| {
        matches!(error, Error::Vault(VaultError::Shredded { version: 1, .. }))
    })?;
    let undone = vault.undelete(&name(KEY)?, Versions::One(1), None);
    tour.refused("bringing it back", undone, |error| matches!(error, Error::Vault(VaultError::Shredded { .. })))?;
    tour.check("version 2 still reads", vault.get(&name(KEY)?)?.value.expose() == SECOND_VALUE.as_bytes())?;
    tour.check("the history says so", states(ledger)? == [VersionState::Shredded, VersionState::Live])
}

/// Tries to cross from one scope to another.
pub fn scopes(tour: &mut Tour<'_>, ledger: &Ledger) -> Result<(), Failure> {
    tour.step("Scopes keep to themselves")?;
    let alice = ledger.vault(scope("principal:alice")?).for_caller(tour.as_actor("alice", "curious"));
    tour.refused("alice reading a global secret", alice.get_ref(&key()?, GetOptions::current()), |error| {
        matches!(error, Error::Vault(VaultError::ScopeDenied { .. }))
    })?;
    tour.refused("reading that name in her own scope", alice.get(&name(KEY)?), |error| {
        matches!(error, Error::Vault(VaultError::NotFound { .. }))
    })?;
    let seen = alice.list(&ListOptions::new())?;
    let hers = seen.iter().all(|info| info.reference.scope == *alice.scope());
    tour.check("her list holds her secret and nothing else", seen.len() == 1 && hers)?;
    let everything = ledger.list(&ScopePrefix::all(), &ListOptions::new())?;
    let names: Vec<String> = everything.iter().map(|info| info.reference.to_string()).collect();
    tour.say(&format!("an administrator sees {}", names.join(", ")))?;
    tour.check("an administrator sees both", names.len() == 2)
}
