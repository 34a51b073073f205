//! What another version of the program would have left in a home: frames, records and index files of its making.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Random, limits};
use crate::crypto::{Hash, Key, Opener, keyed_hash, labels, seal_sealed};
use crate::engine::Error;
use crate::event;
use crate::keys::{self, Credential, KeyRing, KeysError, Unlocked};
use crate::log::frame::{self, Header, Sealing};
use crate::log::{Group, Head, HeadFile, Journal, JournalError, Last};
use crate::store::Medium;

/// The keys of a home whose pinned slot is a file, in the hand of another program.
pub struct OtherProgram {
    medium: Arc<dyn Medium>,
    home: PathBuf,
    ring: KeyRing,
    unlocked: Unlocked,
    random: Arc<dyn Random>,
}

impl std::fmt::Debug for OtherProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtherProgram").field("home", &self.home).finish_non_exhaustive()
    }
}

/// An event of its making: kind, schema version and plain body.
pub type Made = (u16, u16, Vec<u8>);

impl OtherProgram {
    /// Opens the keys of a home.
    ///
    /// # Errors
    /// [`Error`] where there is no key ring, or its pinned slot is not opened by a file.
    pub fn at(medium: Arc<dyn Medium>, home: &Path, random: Arc<dyn Random>) -> Result<Self, Error> {
        let dir = home.join("keys");
        let (ring, _) = keys::read(&*medium, &dir)?;
        let ring = ring.ok_or_else(|| KeysError::Damaged { path: dir.clone(), what: "there is no key ring" })?;
        let unlocked = ring.unlock(&*medium, &dir, None, &Credential::None)?;
        Ok(Self { medium, home: home.to_owned(), ring, unlocked, random })
    }

    /// An event that a newer program might write: nothing here knows its fields.
    #[must_use]
    pub fn event(kind: u16, schema: u16) -> Made {
        (kind, schema, b"fields of a later version".to_vec())
    }

    /// Appends events as one batch, sealed and chained, and writes the head; gives the number of the first.
    ///
    /// # Errors
    /// [`Error`] where the log cannot be read or written.
    pub fn append(&self, events: &[Made]) -> Result<u64, Error> {
        let (journal_dir, index_dir) = (self.home.join("journal"), self.home.join("index"));
        let id = self.ring.ledger_id();
        let medium = Arc::clone(&self.medium);
        let (journal, tail) =
            Journal::open(medium, &journal_dir, &index_dir, id, limits::SEGMENT_BYTES_MAX, None, true)?;
        let before = tail.last.ok_or(JournalError::Missing { seq: 0 })?;
        let (first, mut prev) = (before.seq + 1, before.hash);
        let mut buffer = Vec::new();
        journal.read(before.seq, &mut buffer)?;
        let header = Header::parse(&buffer).map_err(|_| JournalError::Missing { seq: before.seq })?;
        let (opener, time) = (self.unlocked.epoch(header.epoch)?, header.time);
        let mut group = Group::default();
        for ((index, seq), (kind, schema, plain)) in (0..).zip(first..).zip(events) {
            let header = Header {
                seq,
                prev,
                group_start: first,
                kind: *kind,
                schema: *schema,
                batch_index: index,
                batch_len: u16::try_from(events.len()).unwrap_or(u16::MAX),
                ..header
            };
            group.starts.push(u32::try_from(group.bytes.len()).unwrap_or(u32::MAX));
            let sealing = Sealing { opener: &opener, nonce: self.random.array()? };
            prev = frame::seal(header, &sealing, plain, &mut group.bytes);
            group.last = Some(Last { seq, hash: prev, time });
        }
        journal.append(&group)?;
        let mac_key = self.unlocked.ledger_key().subkey(labels::HEAD_MAC);
        let (file, head) = HeadFile::open(&*self.medium, &self.home.join("head"), id, Some(&mac_key), true)?;
        let last = group.last.map_or(before, |last| last);
        file.write(&mac_key, &Head { seq: last.seq, hash: last.hash, witness_clean: false, ..head })?;
        Ok(first)
    }

    /// Spools a record that is sealed as it should be.
    ///
    /// # Errors
    /// [`Error`] where it cannot be written.
    pub fn spool(&self, (kind, schema, plain): &Made) -> Result<(), Error> {
        let opener = Opener::wrapping(&self.unlocked.ledger_key().subkey(labels::SPOOL));
        let body = event::Body { kind: *kind, schema: *schema, plain: plain.clone() };
        let plain = crate::engine::spooled(&body);
        let id = self.ring.ledger_id();
        let sealed = seal_sealed(&opener, &self.random.array()?, id.as_bytes(), &plain);
        let mut record = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        record.extend(sealed);
        self.medium.append(&self.home.join("reads.spool"), &record)?;
        Ok(())
    }

    /// Rewrites the index's manifest as a program with another format version or state schema leaves it.
    ///
    /// # Errors
    /// [`Error`] where there is no manifest.
    pub fn index(&self, version: u16, schema: u32) -> Result<(), Error> {
        let path = self.home.join("index/MANIFEST");
        let mut bytes = self.medium.read_all(&path, 128 * 1024)?;
        bytes.truncate(bytes.len().saturating_sub(32));
        for (at, field) in [(4, &version.to_le_bytes()[..]), (40, &schema.to_le_bytes()[..])] {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
        }
        let key: Key = self.unlocked.ledger_key().subkey(labels::INDEX).subkey(labels::INDEX_MANIFEST);
        let Hash(mac) = keyed_hash(&key, &[&bytes]);
        bytes.extend_from_slice(&mac);
        self.medium.write_atomic(&path, &bytes)?;
        Ok(())
    }
}
