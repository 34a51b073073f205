//! What a backup says of itself in the clear.

use crate::backup::{BackupError, BackupFile, Header, Trailer};
use crate::base::{BackupId, LedgerId, Timestamp};
use crate::crypto::Hash;
use crate::keys::{KeyRing, KeySlot};

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is called.
    pub name: String,
    /// Its random name.
    pub backup: BackupId,
    /// The ledger.
    pub ledger_id: LedgerId,
    /// When it was begun.
    pub created: Timestamp,
    /// The program that made it.
    pub program: String,
    /// Its first event; 0 for a full one.
    pub from: u64,
    /// Its last event.
    pub to: u64,
    /// Hash of that event.
    pub head: Hash,
    /// The digest at its end.
    pub digest: Hash,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whether an age identity opens it.
    pub recipients: bool,
    /// Whether a key file is in it.
    pub key_file: bool,
    /// The key slots that open it.
    pub slots: Vec<KeySlot>,
}

impl FileFacts {
    /// What a file says of itself, with nothing read but its clear parts.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn read(file: &mut BackupFile) -> Result<Self, BackupError> {
        let name = file.name.clone();
        let (header, trailer, bytes) = file.facts()?;
        let ring = KeyRing::parse(&header.ring).ok_or(BackupError::Header)?;
        Ok(Self::new(name, &header, &trailer, bytes, &ring))
    }

    fn new(name: String, header: &Header, trailer: &Trailer, bytes: u64, ring: &KeyRing) -> Self {
        Self {
            name,
            backup: header.backup,
            ledger_id: header.ledger_id,
            created: header.created,
            program: header.program.clone(),
            from: header.from,
            to: trailer.to,
            head: trailer.head,
            digest: trailer.digest,
            bytes,
            recipients: !header.keys.age.is_empty(),
            key_file: !header.keys.key_file.is_empty(),
            slots: ring.slots().to_vec(),
        }
    }
}
