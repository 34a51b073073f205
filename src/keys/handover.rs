//! What a backup needs of the keys: its own key wrapped by the root key, and the ways to the root key where no home
//! is there yet.

use std::path::Path;

use zeroize::Zeroizing;

use crate::base::{Random, SlotId};
use crate::crypto::{Key, Opener, labels, open_sealed, seal_sealed};
use crate::platform::Keystore;
use crate::store::Medium;

use super::error::KeysError;
use super::key_file::{KEY_FILE_LEN, file_name, read_own_key_file};
use super::ring::KeyRing;
use super::slot::{Credential, KeySlot, SlotKind};
use super::unlocked::Unlocked;

/// A ring that was opened away from its home.
#[derive(Debug)]
pub struct Opened {
    /// Its keys.
    pub unlocked: Unlocked,
    /// The slot that opened; none where the root key itself was given.
    pub slot: Option<SlotId>,
    /// The key file that opened, and its name in the `keys` folder.
    pub key_file: Option<KeyFile>,
}

/// The name and the bytes of a key file.
pub type KeyFile = (String, Zeroizing<Vec<u8>>);

impl Unlocked {
    /// Wraps the key of a backup under the root key.
    ///
    /// # Errors
    /// [`KeysError::Random`].
    pub fn wrap_backup_key(&self, random: &dyn Random, aad: &[u8], key: &Key) -> Result<Vec<u8>, KeysError> {
        Ok(seal_sealed(&self.backup_opener(), &random.array()?, aad, key.expose()))
    }

    /// Wraps the key of a backup once more, under the key of an epoch, for whoever opens a later backup.
    ///
    /// # Errors
    /// [`KeysError::NoEpoch`], [`KeysError::Random`].
    pub fn chain_backup_key(
        &self,
        random: &dyn Random,
        epoch: u32,
        aad: &[u8],
        key: &Key,
    ) -> Result<Vec<u8>, KeysError> {
        Ok(seal_sealed(&self.chain_opener(epoch)?, &random.array()?, aad, key.expose()))
    }

    /// The key of an earlier backup, through the key of its epoch; nothing where another one wrapped it, or `aad`
    /// is not what it was.
    #[must_use]
    pub fn unchain_backup_key(&self, epoch: u32, aad: &[u8], chained: &[u8]) -> Option<Key> {
        let opener = self.chain_opener(epoch).ok()?;
        open_sealed(&opener, aad, chained).ok().and_then(|plain| Key::from_slice(&plain))
    }

    fn chain_opener(&self, epoch: u32) -> Result<Opener, KeysError> {
        Ok(Opener::wrapping(&self.epoch_key(epoch)?.subkey(labels::BACKUP_CHAIN)))
    }

    /// The key of a backup; nothing where another root key wrapped it, or `aad` is not what it was.
    #[must_use]
    pub fn unwrap_backup_key(&self, aad: &[u8], wrapped: &[u8]) -> Option<Key> {
        open_sealed(&self.backup_opener(), aad, wrapped).ok().and_then(|plain| Key::from_slice(&plain))
    }

    fn backup_opener(&self) -> Opener {
        Opener::wrapping(&self.root.subkey(labels::BACKUP_WRAP))
    }

    /// A copy of the root key: for a recipient outside of the key slots, and for opening once more.
    #[must_use]
    pub fn root_copy(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.root.expose())
    }
}

impl KeyRing {
    /// Opens the ring with its root key.
    ///
    /// # Errors
    /// [`KeysError::RingAltered`] where it is another ring's.
    pub fn open_with_root(&self, root: Key, slot: Option<SlotId>) -> Result<Unlocked, KeysError> {
        self.open_sealed(slot.unwrap_or(self.pinned()), root)
    }

    /// Opens the ring with the bytes of a key file.
    ///
    /// # Errors
    /// [`KeysError::NoSlotFor`] where it opens no slot.
    pub fn open_with_key_file(&self, bytes: &[u8]) -> Result<Opened, KeysError> {
        let place = self.clear.place();
        let opens = |slot: &KeySlot| slot.open_with_file(&place, bytes).map(|root| (slot.id(), root));
        let (slot, root) = self.slots().iter().find_map(opens).ok_or(KeysError::NoSlotFor { what: "that key file" })?;
        let name = file_name(slot, self.root_generation());
        let key_file = Some((name, Zeroizing::new(bytes.to_vec())));
        Ok(Opened { unlocked: self.open_sealed(slot, root)?, slot: Some(slot), key_file })
    }

    /// The key file of a `file` slot from the `keys` folder: of the pinned one if it is of that kind, else of the
    /// first that is there.
    ///
    /// # Errors
    /// [`KeysError::NoSlotFor`] where there is none; [`KeysError::Store`] where one cannot be read.
    pub fn own_key_file(&self, medium: &dyn Medium, dir: &Path) -> Result<KeyFile, KeysError> {
        let mut slots: Vec<&KeySlot> = self.slots().iter().filter(|slot| slot.kind() == SlotKind::File).collect();
        slots.sort_by_key(|slot| slot.id() != self.pinned());
        for slot in slots {
            let name = file_name(slot.id(), self.root_generation());
            match medium.read_all(&dir.join(&name), KEY_FILE_LEN as u64) {
                Ok(bytes) => return Ok((name, Zeroizing::new(bytes))),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(KeysError::NoSlotFor { what: "a key file in the home" })
    }

    /// Opens the ring with what somebody has at hand. Without a slot every one of the credential's kind is tried:
    /// whoever stands before an empty machine need not know which one it was.
    ///
    /// # Errors
    /// [`KeysError`] of the last slot that was tried.
    pub fn open_anywhere(
        &self,
        (medium, dir): (&dyn Medium, &Path),
        keystore: &dyn Keystore,
        slot: Option<SlotId>,
        credential: &Credential,
    ) -> Result<Opened, KeysError> {
        let (kind, what) = match credential {
            Credential::KeyFile(path) => return self.open_with_key_file(&read_own_key_file(path)?),
            Credential::Passphrase(_) => (SlotKind::Passphrase, "a passphrase"),
            Credential::Recovery(_) => (SlotKind::Recovery, "recovery words"),
            Credential::None => {
                let unlocked = self.unlock_with(medium, dir, keystore, slot, credential)?;
                let id = unlocked.slot();
                let by_file = self.slots().iter().any(|slot| slot.id() == id && slot.kind() == SlotKind::File);
                let name = file_name(id, self.root_generation());
                let read = || medium.read_all(&dir.join(&name), KEY_FILE_LEN as u64);
                let bytes = if by_file { Some(Zeroizing::new(read()?)) } else { None };
                return Ok(Opened { unlocked, slot: Some(id), key_file: bytes.map(|bytes| (name, bytes)) });
            }
        };
        let mut last = KeysError::NoSlotFor { what };
        for found in self.slots() {
            if slot.map_or(found.kind() == kind, |slot| found.id() == slot) {
                match self.unlock_with(medium, dir, keystore, Some(found.id()), credential) {
                    Ok(unlocked) => return Ok(Opened { unlocked, slot: Some(found.id()), key_file: None }),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }
}
