//! The key ring: key slots in the clear, and what they lead to, sealed by the root key.
//!
//! The clear part is the associated data of the seal, so nobody without the root key can add a slot,
//! move one from another ledger, or change which one is pinned.

use std::path::Path;

use zeroize::Zeroizing;

use crate::base::bytes::{Reader, newer};
use crate::base::{LedgerId, Random, SecretBytes, SlotId, Timestamp, limits};
use crate::crypto::{Hash, Key, Opener, labels, open_sealed, seal_sealed};
use crate::platform::{self, Keystore};
use crate::store::Medium;

use super::error::KeysError;
use super::files::SlotFiles;
use super::slot::{ArgonCost, Credential, KeySlot, NewSlot, RootPlace, SlotKind};
use super::unlocked::{CA_KEY_MAX, FIRST, Secrets, Unlocked, WITH_GENERATIONS};

const MAGIC: [u8; 4] = *b"PLKR";

/// The key ring as it stands in its file.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    pub(super) clear: Clear,
    sealed: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clear {
    version: u16,
    ledger_id: LedgerId,
    root_generation: u32,
    table_generation: u32,
    pinned: SlotId,
    slots: Vec<KeySlot>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("clear", &self.clear).finish_non_exhaustive()
    }
}

/// A changed ring that is not in force yet, and key files that it needs.
#[derive(Debug)]
pub struct RingEdit {
    /// The ring.
    pub ring: KeyRing,
    /// Files to write before it is staged.
    pub files: SlotFiles,
}

impl Clear {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.slots.len() * 256);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(self.ledger_id.as_bytes());
        out.extend_from_slice(&self.root_generation.to_le_bytes());
        out.extend_from_slice(&self.table_generation.to_le_bytes());
        out.extend_from_slice(self.pinned.as_bytes());
        out.extend_from_slice(&u16::try_from(self.slots.len()).unwrap_or(u16::MAX).to_le_bytes());
        for slot in &self.slots {
            slot.encode(&mut out);
        }
        out
    }

    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.take()? != MAGIC {
            return None;
        }
        let version = reader.u16()?;
        if !matches!(version, FIRST | WITH_GENERATIONS) || reader.u16()? != 0 {
            return None;
        }
        let ledger_id = LedgerId::from_bytes(reader.take()?);
        let (root_generation, table_generation) = (reader.u32()?, reader.u32()?);
        let pinned = SlotId::from_bytes(reader.take()?);
        let count = usize::from(reader.u16()?);
        if count == 0 || count > limits::KEY_SLOTS_MAX {
            return None;
        }
        let slots = (0..count).map(|_| KeySlot::parse(reader)).collect::<Option<Vec<_>>>()?;
        let clear = Self { version, ledger_id, root_generation, table_generation, pinned, slots };
        clear.slot(pinned).ok()?;
        Some(clear)
    }

    pub(super) fn place(&self) -> RootPlace {
        RootPlace { ledger_id: self.ledger_id, root_generation: self.root_generation }
    }

    fn slot(&self, id: SlotId) -> Result<&KeySlot, KeysError> {
        self.slots.iter().find(|slot| slot.id == id).ok_or(KeysError::NoSuchSlot { slot: id })
    }

    fn seal(mut self, random: &dyn Random, root: &Key, secrets: &Secrets) -> Result<KeyRing, KeysError> {
        self.version = secrets.version();
        let opener = Opener::wrapping(&root.subkey(labels::ROOT_WRAP));
        let sealed = seal_sealed(&opener, &random.array()?, &self.encode(), &secrets.encode());
        Ok(KeyRing { clear: self, sealed })
    }
}

impl KeyRing {
    /// Makes the first ring of a ledger: a fresh root key behind one slot, and fresh keys behind it.
    ///
    /// # Errors
    /// [`KeysError`] where the slot is refused or the random source fails.
    pub fn create(
        random: &dyn Random,
        ledger_id: LedgerId,
        ca_key: Zeroizing<Vec<u8>>,
        first: &NewSlot,
        cost: ArgonCost,
        now: Timestamp,
    ) -> Result<(Self, Unlocked, SlotFiles), KeysError> {
        debug_assert!((1..=CA_KEY_MAX).contains(&ca_key.len()), "a CA key has a sane length");
        let root = Key::generate(random)?;
        let place = RootPlace { ledger_id, root_generation: 1 };
        let (slot, file) = KeySlot::make(random, &place, &root, first, cost, now)?;
        let pinned = slot.id;
        let clear =
            Clear { version: FIRST, ledger_id, root_generation: 1, table_generation: 1, pinned, slots: vec![slot] };
        let secrets = Secrets::generate(random, ca_key)?;
        let ring = clear.seal(random, &root, &secrets)?;
        let files = SlotFiles(file.into_iter().collect());
        Ok((ring, Unlocked::new(ledger_id, pinned, root, secrets), files))
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger_id(&self) -> LedgerId {
        self.clear.ledger_id
    }

    /// The slots, in the order they were made.
    #[must_use]
    pub fn slots(&self) -> &[KeySlot] {
        &self.clear.slots
    }

    /// The slot that opens the ledger by default.
    #[must_use]
    pub const fn pinned(&self) -> SlotId {
        self.clear.pinned
    }

    /// Generation of the root key, from 1.
    #[must_use]
    pub const fn root_generation(&self) -> u32 {
        self.clear.root_generation
    }

    /// Generation of the key table, from 1.
    #[must_use]
    pub const fn table_generation(&self) -> u32 {
        self.clear.table_generation
    }

    /// The digest that the committing event names.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(labels::KEYRING_DIGEST, &[&self.encode()])
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.clear.encode();
        out.extend_from_slice(&u32::try_from(self.sealed.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.sealed);
        out
    }

    /// The version of a ring that a newer program wrote.
    pub(super) fn newer(bytes: &[u8]) -> Option<u16> {
        newer(bytes, MAGIC, WITH_GENERATIONS, |bytes| Self::parse(bytes).is_some())
    }

    /// Parses a file's bytes; needs no key. Nothing is authentic before [`KeyRing::unlock`].
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let clear = Clear::parse(&mut reader)?;
        let len = usize::try_from(reader.u32()?).ok()?;
        let sealed = reader.bytes(len)?.to_vec();
        reader.0.is_empty().then_some(Self { clear, sealed })
    }

    /// Opens the ring through one slot: the given one, or the pinned one. What a person knows (a passphrase, recovery
    /// words) is tried on every slot of its kind where none is given, on the pinned one first.
    ///
    /// # Errors
    /// [`KeysError`] where the slot does not open or the ring was altered.
    pub fn unlock(
        &self,
        medium: &dyn Medium,
        keys_dir: &Path,
        slot: Option<SlotId>,
        credential: &Credential,
    ) -> Result<Unlocked, KeysError> {
        self.unlock_with(medium, keys_dir, &*platform::system(), slot, credential)
    }

    /// As [`KeyRing::unlock`], with a keystore of the caller's.
    ///
    /// # Errors
    /// As [`KeyRing::unlock`].
    pub fn unlock_with(
        &self,
        medium: &dyn Medium,
        keys_dir: &Path,
        keystore: &dyn Keystore,
        slot: Option<SlotId>,
        credential: &Credential,
    ) -> Result<Unlocked, KeysError> {
        let open = |slot: &KeySlot| {
            let root = slot.open((medium, keys_dir), keystore, &self.clear.place(), credential)?;
            self.open_sealed(slot.id, root)
        };
        let pinned = self.clear.pinned;
        let kind = match credential {
            Credential::Passphrase(_) if slot.is_none() => SlotKind::Passphrase,
            Credential::Recovery(_) if slot.is_none() => SlotKind::Recovery,
            _ => return open(self.clear.slot(slot.unwrap_or(pinned))?),
        };
        let mut fitting: Vec<&KeySlot> = self.slots().iter().filter(|slot| slot.kind() == kind).collect();
        fitting.sort_by_key(|slot| slot.id != pinned);
        let Some((first, others)) = fitting.split_first() else { return open(self.clear.slot(pinned)?) };
        open(first).or_else(|error| others.iter().find_map(|slot| open(slot).ok()).ok_or(error))
    }

    /// Where the keystore holds the keys of this ring's slots, as accounts.
    #[must_use]
    pub fn keystore_accounts(&self) -> Vec<String> {
        let place = self.clear.place();
        let kept = self.clear.slots.iter().filter(|slot| slot.kind() == SlotKind::OsKeystore);
        kept.map(|slot| slot.account(&place)).collect()
    }

    pub(super) fn open_sealed(&self, slot: SlotId, root: Key) -> Result<Unlocked, KeysError> {
        let opener = Opener::wrapping(&root.subkey(labels::ROOT_WRAP));
        let plain = open_sealed(&opener, &self.clear.encode(), &self.sealed).map_err(|_| KeysError::RingAltered)?;
        let secrets = Secrets::parse(&plain, self.clear.version).ok_or(KeysError::RingAltered)?;
        Ok(Unlocked::new(self.clear.ledger_id, slot, root, secrets))
    }

    /// Opens a changed ring with a root key that is open already.
    ///
    /// # Errors
    /// [`KeysError::RingAltered`] where the root key is another one.
    pub fn reopen(&self, unlocked: &Unlocked) -> Result<Unlocked, KeysError> {
        let root = Key::from_slice(unlocked.root.expose()).ok_or(KeysError::RingAltered)?;
        self.open_sealed(unlocked.slot, root)
    }

    fn edit(unlocked: &Unlocked, random: &dyn Random, clear: Clear) -> Result<RingEdit, KeysError> {
        let ring = clear.seal(random, &unlocked.root, &unlocked.secrets)?;
        Ok(RingEdit { ring, files: SlotFiles::default() })
    }

    /// Pins another slot.
    ///
    /// # Errors
    /// [`KeysError::NoSuchSlot`].
    pub fn pin(&self, unlocked: &Unlocked, random: &dyn Random, slot: SlotId) -> Result<RingEdit, KeysError> {
        self.clear.slot(slot)?;
        Self::edit(unlocked, random, Clear { pinned: slot, ..self.clear.clone() })
    }

    /// Adds a slot.
    ///
    /// # Errors
    /// [`KeysError`] where the slot is refused.
    pub fn add_slot(
        &self,
        unlocked: &Unlocked,
        random: &dyn Random,
        new: &NewSlot,
        cost: ArgonCost,
        now: Timestamp,
    ) -> Result<RingEdit, KeysError> {
        if self.clear.slots.len() >= limits::KEY_SLOTS_MAX {
            return Err(KeysError::TooManySlots);
        }
        let (slot, file) = KeySlot::make(random, &self.clear.place(), &unlocked.root, new, cost, now)?;
        let mut clear = self.clear.clone();
        clear.slots.push(slot);
        let mut edit = Self::edit(unlocked, random, clear)?;
        edit.files.0.extend(file);
        Ok(edit)
    }

    /// Removes a slot. Whoever kept a copy of the old ring and the slot's key can still open that copy:
    /// [`KeyRing::rotate_root`] is the answer to a slot that fell into wrong hands.
    ///
    /// # Errors
    /// [`KeysError::LastSlot`], [`KeysError::PinnedSlot`], [`KeysError::NoSuchSlot`].
    pub fn remove_slot(
        &self,
        unlocked: &Unlocked,
        random: &dyn Random,
        slot: SlotId,
        new_pin: Option<SlotId>,
    ) -> Result<RingEdit, KeysError> {
        self.clear.slot(slot)?;
        let mut clear = self.clear.clone();
        clear.slots.retain(|other| other.id != slot);
        if clear.slots.is_empty() {
            return Err(KeysError::LastSlot { slot });
        }
        if let Some(pin) = new_pin {
            clear.slot(pin)?;
            clear.pinned = pin;
        }
        if clear.pinned == slot {
            return Err(KeysError::PinnedSlot { slot });
        }
        Self::edit(unlocked, random, clear)
    }

    /// Adds a fresh epoch key; returns the epoch's number.
    ///
    /// # Errors
    /// [`KeysError::TooManyEpochs`], or the random source failed.
    pub fn add_epoch(&self, unlocked: &Unlocked, random: &dyn Random) -> Result<(RingEdit, u32), KeysError> {
        let mut secrets = unlocked.secrets.duplicate().ok_or(KeysError::RingAltered)?;
        if secrets.epochs.len() >= limits::EPOCHS_MAX {
            return Err(KeysError::TooManyEpochs);
        }
        let epoch = u32::try_from(secrets.epochs.len()).map_err(|_| KeysError::TooManyEpochs)?;
        secrets.epochs.push(Key::generate(random)?);
        let ring = self.clear.clone().seal(random, &unlocked.root, &secrets)?;
        Ok((RingEdit { ring, files: SlotFiles::default() }, epoch))
    }

    /// Adds the key of the next CA generation beside the one that issues.
    ///
    /// # Errors
    /// [`KeysError::CaGeneration`] where the ring holds that generation already, or too many.
    pub fn prepare_ca(
        &self,
        unlocked: &Unlocked,
        random: &dyn Random,
        generation: u32,
        key: Zeroizing<Vec<u8>>,
    ) -> Result<RingEdit, KeysError> {
        let mut secrets = unlocked.secrets.duplicate().ok_or(KeysError::RingAltered)?;
        let last = secrets.other_ca_keys.last().map_or(0, |(last, _)| *last).max(secrets.ca_generation);
        if generation <= last || secrets.other_ca_keys.len() + 1 >= limits::CA_KEYS_MAX {
            return Err(KeysError::CaGeneration { generation });
        }
        secrets.other_ca_keys.push((generation, key));
        let ring = self.clear.clone().seal(random, &unlocked.root, &secrets)?;
        Ok(RingEdit { ring, files: SlotFiles::default() })
    }

    /// Lets a prepared CA key issue, and derives the KEK from it under a fresh salt: the key table goes to
    /// its next generation. The old CA key stays in the ring until [`KeyRing::revoke_ca`].
    ///
    /// # Errors
    /// [`KeysError::CaGeneration`] where the ring does not hold that generation.
    pub fn activate_ca(
        &self,
        unlocked: &Unlocked,
        random: &dyn Random,
        generation: u32,
    ) -> Result<(RingEdit, Unlocked), KeysError> {
        let mut secrets = unlocked.secrets.duplicate().ok_or(KeysError::RingAltered)?;
        let at = secrets.other_ca_keys.iter().position(|(other, _)| *other == generation);
        let (_, key) = secrets.other_ca_keys.remove(at.ok_or(KeysError::CaGeneration { generation })?);
        let old = std::mem::replace(&mut secrets.ca_key, key);
        secrets.other_ca_keys.push((std::mem::replace(&mut secrets.ca_generation, generation), old));
        secrets.other_ca_keys.sort_by_key(|(other, _)| *other);
        secrets.kek_salt = Key::generate(random)?;
        let clear = Clear { table_generation: self.clear.table_generation + 1, ..self.clear.clone() };
        let ring = clear.seal(random, &unlocked.root, &secrets)?;
        let root = Key::from_slice(unlocked.root.expose()).ok_or(KeysError::RingAltered)?;
        let opened = Unlocked::new(self.clear.ledger_id, unlocked.slot, root, secrets);
        Ok((RingEdit { ring, files: SlotFiles::default() }, opened))
    }

    /// Drops the CA key of a generation that issues no more.
    ///
    /// # Errors
    /// [`KeysError::CaGeneration`] where the ring does not hold it, or it issues.
    pub fn revoke_ca(&self, unlocked: &Unlocked, random: &dyn Random, generation: u32) -> Result<RingEdit, KeysError> {
        let mut secrets = unlocked.secrets.duplicate().ok_or(KeysError::RingAltered)?;
        let at = secrets.other_ca_keys.iter().position(|(other, _)| *other == generation);
        secrets.other_ca_keys.remove(at.ok_or(KeysError::CaGeneration { generation })?);
        let ring = self.clear.clone().seal(random, &unlocked.root, &secrets)?;
        Ok(RingEdit { ring, files: SlotFiles::default() })
    }

    /// Replaces the root key and the KEK salt. `file` slots get new key files; a passphrase or recovery slot is
    /// carried over if its passphrase or words are given and open it, and must be named in `drop` otherwise.
    ///
    /// # Errors
    /// [`KeysError`] where a slot's fate is not said, its passphrase is wrong, or the pinned slot
    /// would go.
    pub fn rotate_root(
        &self,
        unlocked: &Unlocked,
        random: &dyn Random,
        passphrases: &[(SlotId, SecretBytes)],
        drop: &[SlotId],
    ) -> Result<(RingEdit, Unlocked), KeysError> {
        for id in drop.iter().chain(passphrases.iter().map(|(id, _)| id)) {
            self.clear.slot(*id)?;
        }
        if drop.contains(&self.clear.pinned) {
            return Err(KeysError::PinnedSlot { slot: self.clear.pinned });
        }
        let mut clear = Clear {
            root_generation: self.clear.root_generation + 1,
            table_generation: self.clear.table_generation + 1,
            ..self.clear.clone()
        };
        clear.slots.retain(|slot| !drop.contains(&slot.id));
        let root = Key::generate(random)?;
        let place = clear.place();
        let mut files = SlotFiles::default();
        for slot in &mut clear.slots {
            let credential = match passphrases.iter().find(|(id, _)| *id == slot.id) {
                Some((_, known)) => {
                    // A typing error here would lock somebody out for good.
                    slot.open_with(&self.clear.place(), known)?;
                    match slot.kind() {
                        SlotKind::Recovery => Credential::Recovery(known.clone()),
                        _ => Credential::Passphrase(known.clone()),
                    }
                }
                None => Credential::None,
            };
            files.0.extend(slot.wrap(random, &place, &root, &credential)?);
        }
        let mut secrets = unlocked.secrets.duplicate().ok_or(KeysError::RingAltered)?;
        secrets.kek_salt = Key::generate(random)?;
        let ring = clear.seal(random, &root, &secrets)?;
        let opened = Unlocked::new(self.clear.ledger_id, unlocked.slot, root, secrets);
        Ok((RingEdit { ring, files }, opened))
    }
}
