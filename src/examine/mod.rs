//! Examination with keys: bodies are opened, key slots are looked at, and nothing is ever written to the
//! evidence.
//!
//! [`crate::inspect`] says what can be said without a key. With keys every body must open under the header it
//! stands behind, which no one without them can forge; the key ring must be the one that the log names last;
//! and every live version must have its key, every shredded one must not.

mod bodies;
mod key_files;
mod rebuild;
mod verify;

use std::io;
use std::path::Path;

use crate::base::{LedgerId, SlotId};
use crate::checkpoint::{self, VerifierKey};
use crate::crypto::{Hash, Key, MessageKey, labels};
use crate::engine::{Entry, Error};
use crate::keys::{self, Credential, KeyTable, KeysError, Unlocked};
use crate::log::Frame;
use crate::store::{Medium, StoreError, StoreOp};

pub use bodies::Bodies;
pub use key_files::key_files;
pub use rebuild::{Origin, RebuildError, Rebuilt, rebuild};
pub use verify::{Asked, verify, verify_opened};

/// The keys of a ledger under examination.
#[derive(Debug)]
pub struct Keys {
    /// The ring in force, then one that was staged and opens, too.
    opened: Vec<(Hash, Unlocked)>,
    ledger_id: LedgerId,
    table_generation: u32,
}

impl Keys {
    /// Opens the key ring in a folder through one slot, the pinned one by default.
    ///
    /// # Errors
    /// [`KeysError`] where there is no ring or the slot does not open it.
    pub fn open(
        medium: &dyn Medium,
        dir: &Path,
        slot: Option<SlotId>,
        credential: &Credential,
    ) -> Result<Self, KeysError> {
        let (current, next) = keys::read(medium, dir)?;
        let Some(first) = current.as_ref().or(next.as_ref()) else {
            let absent = io::Error::new(io::ErrorKind::NotFound, "there is no key ring");
            return Err(KeysError::Store(StoreError::new(StoreOp::Open, &dir.join("keyring"), absent)));
        };
        let mut opened = vec![(first.digest(), first.unlock(medium, dir, slot, credential)?)];
        if let (Some(_), Some(staged)) = (&current, &next) {
            // It may hold a key file that was never written; then nothing was sealed with it either.
            opened.extend(staged.unlock(medium, dir, slot, credential).ok().map(|keys| (staged.digest(), keys)));
        }
        Ok(Self { opened, ledger_id: first.ledger_id(), table_generation: first.table_generation() })
    }

    /// The ledger that they belong to.
    #[must_use]
    pub const fn ledger_id(&self) -> LedgerId {
        self.ledger_id
    }

    /// The key that authenticates the head file.
    #[must_use]
    pub fn head_key(&self) -> Option<Key> {
        self.opened.first().map(|(_, unlocked)| unlocked.ledger_key().subkey(labels::HEAD_MAC))
    }

    /// The key that signs the ledger's checkpoints.
    #[must_use]
    pub fn verifier(&self) -> Option<VerifierKey> {
        let key = checkpoint::signing_key(self.first()?.ledger_key()).ok()?;
        Some(checkpoint::verifier(self.ledger_id, key.public()))
    }

    /// Opens one event.
    ///
    /// # Errors
    /// [`Error`] where no key opens it, or it is no event.
    pub fn entry(&self, frame: &Frame<'_>) -> Result<Entry, Error> {
        let mut last = Error::Keys(KeysError::NoEpoch { epoch: frame.header.epoch });
        for (_, unlocked) in &self.opened {
            match Entry::open(frame, unlocked) {
                Err(error) => last = error,
                opened => return opened,
            }
        }
        Err(last)
    }

    /// The key that opens one frame and no other, to be given away; nothing where no key opens it.
    #[must_use]
    pub fn message_key(&self, frame: &Frame<'_>) -> Option<MessageKey> {
        let header = &frame.header;
        let keys =
            self.opened.iter().filter_map(|(_, unlocked)| unlocked.message_key(header.epoch, &header.nonce).ok());
        keys.into_iter().find(|key| frame.open_alone(key).is_ok())
    }

    /// Whether a ring that the log names is one of those that are here.
    #[must_use]
    pub fn has_ring(&self, digest: Hash) -> bool {
        self.opened.iter().any(|(other, _)| *other == digest)
    }

    /// The key table that belongs to the ring in force, for reading.
    ///
    /// # Errors
    /// [`KeysError`] where it cannot be opened.
    pub fn table(&self, medium: &dyn Medium, dir: &Path) -> Result<KeyTable, KeysError> {
        KeyTable::open(medium, dir, self.ledger_id, self.table_generation, false)
    }

    fn first(&self) -> Option<&Unlocked> {
        self.opened.first().map(|(_, unlocked)| unlocked)
    }
}
