//! Key slots: independent ways to the root key.
//!
//! Every slot wraps the root key under a slot key of its own: random bytes in a key file, or the
//! output of Argon2id (RFC 9106) over a passphrase, or random bytes in the operating system's keystore, or a hash of
//! recovery words, which nothing keeps. The root key itself is stored nowhere bare.

use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::base::bytes::Reader;
use crate::base::{LedgerId, Random, SecretBytes, SlotId, Timestamp, limits};
use crate::crypto::{KEY_LEN, Key, Opener, SEALED_OVERHEAD, open_sealed, seal_sealed};
use crate::platform::Keystore;
use crate::store::Medium;

use super::error::KeysError;
use super::key_file::{KEY_FILE_LEN, encode_key_file, file_name, key_in, parse_key_file, read_own_key_file};
use super::recovery::RecoveryWords;

/// Longest label of a slot in bytes.
pub(super) const LABEL_MAX: usize = 64;
/// Bytes of a wrapped root key.
pub(super) const WRAPPED_LEN: usize = KEY_LEN + SEALED_OVERHEAD;
const SALT_LEN: usize = 16;
/// Most memory that a stored slot may ask for, in KiB: a forged ring must not exhaust the machine.
const ARGON_MEMORY_MAX: u32 = 4 * 1024 * 1024;
const ARGON_PASSES_MAX: u32 = 1024;
const ARGON_LANES_MAX: u32 = 64;

/// How a slot is opened (stored: the numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// By a key file of mode 0600.
    File,
    /// By a passphrase.
    Passphrase,
    /// By the operating system's keystore.
    OsKeystore,
    /// By recovery words.
    Recovery,
}

impl SlotKind {
    /// The stable name: `file`, `passphrase`, `os-keystore` or `recovery`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Passphrase => "passphrase",
            Self::OsKeystore => "os-keystore",
            Self::Recovery => "recovery",
        }
    }

    /// What a person opens such a slot with: "passphrase" or "recovery words".
    pub(crate) const fn known(self) -> &'static str {
        match self {
            Self::Recovery => "recovery words",
            Self::File | Self::Passphrase | Self::OsKeystore => "passphrase",
        }
    }
}

/// Cost of Argon2id.
///
/// The default is the second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgonCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for ArgonCost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl ArgonCost {
    /// The least that Argon2 takes. For tests only: it resists nobody.
    #[doc(hidden)]
    #[must_use]
    pub const fn for_tests() -> Self {
        Self { memory_kib: 8, passes: 1, lanes: 1 }
    }
}

/// What opens a slot.
#[derive(Debug, Clone, Default)]
pub enum Credential {
    /// Nothing but what lies in the home or in the system's keystore: for `file` and `os-keystore` slots.
    #[default]
    None,
    /// A passphrase.
    Passphrase(SecretBytes),
    /// A key file in another place than the home's `keys` folder.
    KeyFile(PathBuf),
    /// Recovery words, as somebody typed them.
    Recovery(SecretBytes),
}

/// A slot to be made.
///
/// ```
/// use palyra_ledger::{NewSlot, SecretBytes};
/// let unattended = NewSlot::file("this machine");
/// let by_hand = NewSlot::passphrase("safe", SecretBytes::from(b"correct horse battery".as_slice()));
/// # let _ = (unattended, by_hand);
/// ```
#[derive(Debug, Clone)]
pub enum NewSlot {
    /// Opened by a key file that is made in the home's `keys` folder.
    File {
        /// What a person calls it.
        label: String,
    },
    /// Opened by a passphrase.
    Passphrase {
        /// What a person calls it.
        label: String,
        /// The passphrase, 8 to 1,024 bytes.
        passphrase: SecretBytes,
    },
    /// Opened by an item of the operating system's keystore.
    OsKeystore {
        /// What a person calls it.
        label: String,
    },
    /// Opened by recovery words, which are kept nowhere.
    Recovery {
        /// What a person calls it.
        label: String,
        /// The words, from [`RecoveryWords::text`].
        words: SecretBytes,
    },
}

impl NewSlot {
    /// A slot with a key file.
    #[must_use]
    pub fn file(label: impl Into<String>) -> Self {
        Self::File { label: label.into() }
    }

    /// A slot with a passphrase.
    #[must_use]
    pub fn passphrase(label: impl Into<String>, passphrase: SecretBytes) -> Self {
        Self::Passphrase { label: label.into(), passphrase }
    }

    /// A slot whose key the operating system's keystore holds.
    #[must_use]
    pub fn os_keystore(label: impl Into<String>) -> Self {
        Self::OsKeystore { label: label.into() }
    }

    /// A slot with recovery words.
    #[must_use]
    pub fn recovery(label: impl Into<String>, words: &RecoveryWords) -> Self {
        Self::Recovery { label: label.into(), words: words.text() }
    }

    /// What opens it.
    #[must_use]
    pub fn credential(&self) -> Credential {
        match self {
            Self::File { .. } | Self::OsKeystore { .. } => Credential::None,
            Self::Passphrase { passphrase, .. } => Credential::Passphrase(passphrase.clone()),
            Self::Recovery { words, .. } => Credential::Recovery(words.clone()),
        }
    }
}

/// How the slot key comes about (stored).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Method {
    File,
    Passphrase { salt: [u8; SALT_LEN], cost: ArgonCost },
    OsKeystore,
    Recovery,
}

/// One key slot: a way to open the ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySlot {
    pub(super) id: SlotId,
    pub(super) created: Timestamp,
    pub(super) label: String,
    pub(super) method: Method,
    pub(super) wrapped: [u8; WRAPPED_LEN],
}

impl std::fmt::Debug for KeySlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySlot")
            .field("id", &self.id)
            .field("kind", &self.kind())
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Names what a wrapped root key belongs to.
pub(super) struct RootPlace {
    pub ledger_id: LedgerId,
    pub root_generation: u32,
}

/// What holds a slot's key, not yet written: a name and the bytes behind it.
pub(super) enum SlotSecret {
    /// A file in the `keys` folder.
    File(String, Zeroizing<Vec<u8>>),
    /// An item of the system's keystore.
    Item(String, Zeroizing<Vec<u8>>),
}

impl KeySlot {
    /// The slot's random id.
    #[must_use]
    pub const fn id(&self) -> SlotId {
        self.id
    }

    /// How it is opened.
    #[must_use]
    pub const fn kind(&self) -> SlotKind {
        match self.method {
            Method::File => SlotKind::File,
            Method::Passphrase { .. } => SlotKind::Passphrase,
            Method::OsKeystore => SlotKind::OsKeystore,
            Method::Recovery => SlotKind::Recovery,
        }
    }

    /// What a person called it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// When it was made.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created
    }

    /// The cost of Argon2id, for a passphrase slot.
    #[must_use]
    pub const fn argon_cost(&self) -> Option<ArgonCost> {
        match self.method {
            Method::File | Method::OsKeystore | Method::Recovery => None,
            Method::Passphrase { cost, .. } => Some(cost),
        }
    }

    /// Makes a slot that wraps `root`.
    pub(super) fn make(
        random: &dyn Random,
        place: &RootPlace,
        root: &Key,
        new: &NewSlot,
        cost: ArgonCost,
        created: Timestamp,
    ) -> Result<(Self, Option<SlotSecret>), KeysError> {
        let (label, method) = match new {
            NewSlot::File { label } => (label, Method::File),
            NewSlot::OsKeystore { label } => (label, Method::OsKeystore),
            NewSlot::Recovery { label, .. } => (label, Method::Recovery),
            NewSlot::Passphrase { label, passphrase } => {
                if !(limits::PASSPHRASE_MIN..=limits::PASSPHRASE_MAX).contains(&passphrase.len()) {
                    return Err(KeysError::PassphraseLength);
                }
                (label, Method::Passphrase { salt: random.array()?, cost })
            }
        };
        if label.is_empty() || label.len() > LABEL_MAX || label.chars().any(char::is_control) {
            return Err(KeysError::Label);
        }
        let id = SlotId::from_bytes(random.array()?);
        let mut slot = Self { id, created, label: label.clone(), method, wrapped: [0; WRAPPED_LEN] };
        let file = slot.wrap(random, place, root, &new.credential())?;
        Ok((slot, file))
    }

    /// Wraps another root key under this slot; one with a file or an item gets a new key and a new place for it.
    pub(super) fn wrap(
        &mut self,
        random: &dyn Random,
        place: &RootPlace,
        root: &Key,
        credential: &Credential,
    ) -> Result<Option<SlotSecret>, KeysError> {
        let (slot_key, file) = match (&self.method, credential) {
            (Method::File, _) => {
                let key = Key::generate(random)?;
                let name = file_name(self.id, place.root_generation);
                let file = SlotSecret::File(name, encode_key_file(self.id, place, &key));
                (key, Some(file))
            }
            (Method::OsKeystore, _) => {
                let key = Key::generate(random)?;
                let item = SlotSecret::Item(self.account(place), Zeroizing::new(key.expose().to_vec()));
                (key, Some(item))
            }
            (Method::Passphrase { salt, cost }, Credential::Passphrase(passphrase)) => {
                (stretch(passphrase, salt, *cost)?, None)
            }
            (Method::Recovery, Credential::Recovery(words)) => (RecoveryWords::parse(words)?.slot_key(self.id), None),
            (Method::Passphrase { .. } | Method::Recovery, _) => {
                return Err(KeysError::SlotNeedsCredential { slot: self.id, what: self.kind().known() });
            }
        };
        let sealed = seal_sealed(&Opener::wrapping(&slot_key), &random.array()?, &self.aad(place), root.expose());
        self.wrapped = sealed.try_into().map_err(|_| KeysError::RingAltered)?;
        Ok(file)
    }

    /// Opens the root key.
    pub(super) fn open(
        &self,
        (medium, keys_dir): (&dyn Medium, &Path),
        keystore: &dyn Keystore,
        place: &RootPlace,
        credential: &Credential,
    ) -> Result<Key, KeysError> {
        let slot = self.id;
        match (&self.method, credential) {
            (Method::File, Credential::Passphrase(_) | Credential::Recovery(_)) => {
                Err(KeysError::NeedsKeyFile { slot })
            }
            (Method::File, given) => {
                let path = match given {
                    Credential::KeyFile(path) => path.clone(),
                    _ => keys_dir.join(file_name(slot, place.root_generation)),
                };
                let bytes = match given {
                    Credential::KeyFile(path) => read_own_key_file(path)?,
                    _ => Zeroizing::new(medium.read_all(&path, KEY_FILE_LEN as u64)?),
                };
                let key = key_in(&path, &bytes)?;
                self.unwrap_root(place, &key).ok_or(KeysError::WrongKeyFile { slot, path })
            }
            (Method::OsKeystore, Credential::None) => {
                let found = keystore.get(&self.account(place));
                let bytes = found.map_err(|source| KeysError::Keystore { slot, source })?;
                let key = bytes.ok_or(KeysError::KeystoreItem { slot })?;
                let key = Key::from_slice(&key).ok_or(KeysError::WrongKeystoreItem { slot })?;
                self.unwrap_root(place, &key).ok_or(KeysError::WrongKeystoreItem { slot })
            }
            (Method::OsKeystore, _) => Err(KeysError::NeedsKeystore { slot }),
            (Method::Passphrase { .. }, Credential::Passphrase(passphrase)) => self.open_with(place, passphrase),
            (Method::Passphrase { .. }, _) => Err(KeysError::NeedsPassphrase { slot }),
            (Method::Recovery, Credential::Recovery(words)) => self.open_with(place, words),
            (Method::Recovery, _) => Err(KeysError::NeedsRecovery { slot }),
        }
    }

    /// Opens the root key with what a person knows: a passphrase or recovery words.
    pub(super) fn open_with(&self, place: &RootPlace, known: &SecretBytes) -> Result<Key, KeysError> {
        let slot = self.id;
        match &self.method {
            Method::Passphrase { salt, cost } => {
                let key = stretch(known, salt, *cost)?;
                self.unwrap_root(place, &key).ok_or(KeysError::WrongPassphrase { slot })
            }
            Method::Recovery => {
                let key = RecoveryWords::parse(known)?.slot_key(slot);
                self.unwrap_root(place, &key).ok_or(KeysError::WrongRecovery { slot })
            }
            Method::File | Method::OsKeystore => Err(KeysError::NeedsKeyFile { slot }),
        }
    }

    /// The slot key in the bytes of a key file, if it opens this slot.
    pub(super) fn open_with_file(&self, place: &RootPlace, bytes: &[u8]) -> Option<Key> {
        let key = (self.kind() == SlotKind::File).then(|| parse_key_file(bytes)).flatten()?;
        self.unwrap_root(place, &key)
    }

    /// Where the keystore holds this slot's key.
    pub(super) fn account(&self, place: &RootPlace) -> String {
        format!("{}/{}/{}", place.ledger_id, self.id, place.root_generation)
    }

    /// The commitment in the wrapped key is compared in constant time before anything is opened.
    fn unwrap_root(&self, place: &RootPlace, slot_key: &Key) -> Option<Key> {
        let plain = open_sealed(&Opener::wrapping(slot_key), &self.aad(place), &self.wrapped).ok()?;
        Key::from_slice(&plain)
    }

    /// Everything the slot claims is bound into its seal.
    fn aad(&self, place: &RootPlace) -> Vec<u8> {
        let mut aad = place.ledger_id.as_bytes().to_vec();
        aad.extend_from_slice(&place.root_generation.to_le_bytes());
        self.encode_clear(&mut aad);
        aad
    }

    fn encode_clear(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        let kind: u16 = match self.method {
            Method::File => 1,
            Method::Passphrase { .. } => 2,
            Method::OsKeystore => 3,
            Method::Recovery => 4,
        };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&self.created.as_millis().to_le_bytes());
        out.extend_from_slice(&u16::try_from(self.label.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(self.label.as_bytes());
        if let Method::Passphrase { salt, cost } = &self.method {
            out.extend_from_slice(salt);
            for number in [cost.memory_kib, cost.passes, cost.lanes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.encode_clear(out);
        out.extend_from_slice(&self.wrapped);
    }

    pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        let id = SlotId::from_bytes(reader.take()?);
        let kind = reader.u16()?;
        let created = Timestamp::from_millis(reader.u64()?);
        let label_len = usize::from(reader.u16()?);
        let label = std::str::from_utf8(reader.bytes(label_len)?).ok()?;
        if label.is_empty() || label_len > LABEL_MAX || label.chars().any(char::is_control) {
            return None;
        }
        let method = match kind {
            1 => Method::File,
            2 => Method::Passphrase { salt: reader.take()?, cost: parse_cost(reader)? },
            3 => Method::OsKeystore,
            4 => Method::Recovery,
            _ => return None,
        };
        Some(Self { id, created, label: label.to_owned(), method, wrapped: reader.take()? })
    }
}

fn parse_cost(reader: &mut Reader<'_>) -> Option<ArgonCost> {
    let cost = ArgonCost { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
    let sane = (1..=ARGON_MEMORY_MAX).contains(&cost.memory_kib)
        && (1..=ARGON_PASSES_MAX).contains(&cost.passes)
        && (1..=ARGON_LANES_MAX).contains(&cost.lanes);
    sane.then_some(cost)
}

/// Argon2id version 0x13 (RFC 9106); the memory is wiped afterwards.
fn stretch(passphrase: &SecretBytes, salt: &[u8; SALT_LEN], cost: ArgonCost) -> Result<Key, KeysError> {
    if passphrase.len() > limits::PASSPHRASE_MAX {
        return Err(KeysError::PassphraseLength);
    }
    let params =
        argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_LEN)).map_err(KeysError::Argon)?;
    let mut memory = vec![argon2::Block::default(); params.block_count()];
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut out = Zeroizing::new([0; KEY_LEN]);
    let done = argon.hash_password_into_with_memory(passphrase.expose(), salt, out.as_mut_slice(), &mut memory);
    memory.zeroize();
    done.map_err(KeysError::Argon)?;
    Ok(Key::from_bytes(&mut out))
}
