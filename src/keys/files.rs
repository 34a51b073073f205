//! The files of the `keys` folder, and how a changed key ring comes into force.

use std::path::Path;

use zeroize::Zeroizing;

use crate::base::limits;
use crate::crypto::Hash;
use crate::platform::{Keystore, KeystoreError};
use crate::store::{Medium, OpenMode, StoreError};

use super::error::KeysError;
use super::key_file::file_name;
use super::ring::KeyRing;
use super::slot::{SlotKind, SlotSecret};
use super::table;

const RING: &str = "keyring";
const NEXT: &str = "keyring.next";

/// Key files, and items of the keystore, that a changed ring needs.
#[derive(Default)]
pub struct SlotFiles(pub(super) Vec<SlotSecret>);

impl std::fmt::Debug for SlotFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |secret: &SlotSecret| match secret {
            SlotSecret::File(name, _) | SlotSecret::Item(name, _) => name.clone(),
        };
        f.debug_list().entries(self.0.iter().map(name)).finish()
    }
}

impl SlotFiles {
    /// Writes them, durably. Nothing depends on them before the ring is committed.
    ///
    /// # Errors
    /// [`KeysError::Store`].
    pub fn write(&self, medium: &dyn Medium, dir: &Path) -> Result<(), KeysError> {
        for secret in &self.0 {
            if let SlotSecret::File(name, bytes) = secret {
                medium.write_atomic(&dir.join(name), bytes)?;
            }
        }
        Ok(())
    }

    /// Puts the items into the keystore, and reads each back. Nothing depends on them before the ring is committed.
    ///
    /// # Errors
    /// What the keystore says.
    pub fn keep(&self, keystore: &dyn Keystore) -> Result<(), KeystoreError> {
        for secret in &self.0 {
            if let SlotSecret::Item(account, bytes) = secret {
                keystore.put(account, bytes)?;
                if keystore.get(account)?.as_ref() != Some(bytes) {
                    return Err(KeystoreError::Failed("it did not give back what was put there".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Takes the items out of the keystore again, where the ring was not committed. Best effort: they open nothing.
    pub fn give_up(&self, keystore: &dyn Keystore) {
        for secret in &self.0 {
            if let SlotSecret::Item(account, _) = secret
                && keystore.delete(account).is_err()
            {
                return;
            }
        }
    }
}

fn read_one(medium: &dyn Medium, dir: &Path, name: &str) -> Result<Option<KeyRing>, KeysError> {
    let path = dir.join(name);
    match medium.read_all(&path, limits::KEYRING_BYTES_MAX) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            match (KeyRing::parse(&bytes), KeyRing::newer(&bytes)) {
                (Some(ring), _) => Ok(Some(ring)),
                (None, Some(version)) => Err(KeysError::Newer { path, version }),
                (None, None) => Err(KeysError::Damaged { path, what: "it is not a key ring of a known version" }),
            }
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the ring in force, and the one that was staged but not promoted.
///
/// # Errors
/// [`KeysError`] where a file cannot be read or is no key ring.
pub fn read(medium: &dyn Medium, dir: &Path) -> Result<(Option<KeyRing>, Option<KeyRing>), KeysError> {
    Ok((read_one(medium, dir, RING)?, read_one(medium, dir, NEXT)?))
}

/// Writes the first ring of a ledger.
///
/// # Errors
/// [`KeysError::Store`].
pub fn create(medium: &dyn Medium, dir: &Path, ring: &KeyRing) -> Result<(), KeysError> {
    Ok(medium.write_atomic(&dir.join(RING), &ring.encode())?)
}

/// Writes a changed ring beside the one in force, durably. A crash after this and before the event that
/// names it leaves the old ring in force.
///
/// # Errors
/// [`KeysError::Store`].
pub fn stage(medium: &dyn Medium, dir: &Path, ring: &KeyRing) -> Result<(), KeysError> {
    Ok(medium.write_atomic(&dir.join(NEXT), &ring.encode())?)
}

/// Puts the staged ring in force, after the event that names it is durable; then removes key files
/// and key tables that no longer belong to it.
///
/// # Errors
/// [`KeysError::Store`]; the next opening does what is left.
pub fn promote(medium: &dyn Medium, dir: &Path) -> Result<(), KeysError> {
    medium.rename(&dir.join(NEXT), &dir.join(RING))?;
    medium.sync_dir(dir)?;
    if let Some(ring) = read_one(medium, dir, RING)? {
        sweep(medium, dir, &ring)?;
    }
    Ok(())
}

/// Does what a crash left undone: the ring whose digest the log committed is in force afterwards.
///
/// # Errors
/// [`KeysError::RingNotCommitted`] where neither file is the one that the log names.
pub fn settle(medium: &dyn Medium, dir: &Path, committed: Hash) -> Result<KeyRing, KeysError> {
    let (current, next) = read(medium, dir)?;
    let staged = next.is_some();
    if let Some(ring) = current.filter(|ring| ring.digest() == committed) {
        if staged {
            medium.remove(&dir.join(NEXT))?;
            medium.sync_dir(dir)?;
        }
        sweep(medium, dir, &ring)?;
        return Ok(ring);
    }
    let ring = next.filter(|ring| ring.digest() == committed).ok_or(KeysError::RingNotCommitted)?;
    promote(medium, dir)?;
    Ok(ring)
}

/// Removes what no slot and no generation of the ring in force needs.
fn sweep(medium: &dyn Medium, dir: &Path, ring: &KeyRing) -> Result<(), KeysError> {
    let mut keep = vec![RING.to_owned()];
    let files = ring.slots().iter().filter(|slot| slot.kind() == SlotKind::File);
    keep.extend(files.map(|slot| file_name(slot.id(), ring.root_generation())));
    keep.extend(table::file_names(ring.table_generation()));
    let mut removed = false;
    for name in medium.list(dir)? {
        let ours = (name.starts_with("root-") && name.ends_with(".key"))
            || name.starts_with("table-")
            || name.ends_with(".tmp");
        if ours && !keep.contains(&name) {
            erase(medium, &dir.join(&name), name.starts_with("root-"))?;
            removed = true;
        }
    }
    if removed {
        medium.sync_dir(dir)?;
    }
    Ok(())
}

/// Removes a file; one that holds a key in the clear is overwritten first.
fn erase(medium: &dyn Medium, path: &Path, overwrite: bool) -> Result<(), StoreError> {
    if overwrite {
        let file = medium.open(path, OpenMode::ReadWrite)?;
        let len = usize::try_from(file.len()?.min(4096)).unwrap_or(0);
        file.write_at(0, &vec![0; len])?;
        file.sync()?;
    }
    medium.remove(path)
}
