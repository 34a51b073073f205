//! The head file: the last position that was durable at a checkpoint, written in two places in turn.
//!
//! It is compared with the journal before sled is opened. A journal that ends before the head was cut
//! or rolled back; a journal whose frame has another hash was altered. Two records of 128 bytes at
//! offsets 0 and 4096 are overwritten in turn, so that a torn write leaves the older one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::base::{LedgerId, Timestamp};
use crate::crypto::{Hash, Key, keyed_hash, verify_mac};
use crate::store::{Medium, MediumFile, OpenMode, StoreError};

use crate::base::bytes::{Reader, newer};

const MAGIC: [u8; 4] = *b"PLHD";
const VERSION: u16 = 1;
const RECORD_LEN: usize = 128;
const SECOND_AT: u64 = 4096;
const FLAG_WITNESS_CLEAN: u16 = 1;

/// What the head file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Last durable sequence number.
    pub seq: u64,
    /// Its frame's hash.
    pub hash: Hash,
    /// When this was written.
    pub time: Timestamp,
    /// Whether the sled copy was closed cleanly and not opened since.
    pub witness_clean: bool,
    /// First sequence number that the sled copy may lack.
    pub witness_next: u64,
}

/// Why the head file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It is not there or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Neither record is whole.
    #[error("neither of the two records in {} is whole", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} has format version {version}, which is not known to palyra-ledger {}", path.display(), env!("CARGO_PKG_VERSION"))]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version.
        version: u16,
    },
    /// It belongs to another ledger.
    #[error("{} belongs to ledger {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The ledger it names.
        found: LedgerId,
    },
    /// The MAC does not match: it was altered, or written by another key.
    #[error("{} is not authentic: it was altered", path.display())]
    Forged {
        /// The file.
        path: PathBuf,
    },
    /// An earlier write failed; nothing is written any more.
    #[error("{} could not be written earlier; reopen the ledger", path.display())]
    Dead {
        /// The file.
        path: PathBuf,
    },
}

/// The head file, open.
pub struct HeadFile {
    file: Box<dyn MediumFile>,
    path: PathBuf,
    ledger_id: LedgerId,
    /// Counter of the newest record; nothing once a write has failed (invariant I8).
    counter: Mutex<Option<u64>>,
}

impl std::fmt::Debug for HeadFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadFile").field("path", &self.path).finish_non_exhaustive()
    }
}

struct Record {
    ledger_id: LedgerId,
    counter: u64,
    head: Head,
    mac: [u8; 32],
    covered: [u8; 96],
}

impl HeadFile {
    /// Makes the file with its first record. The caller syncs the folder.
    ///
    /// # Errors
    /// [`HeadError::Store`].
    pub fn create(
        medium: &dyn Medium,
        path: &Path,
        ledger_id: LedgerId,
        mac_key: &Key,
        head: &Head,
    ) -> Result<Self, HeadError> {
        let file = medium.open(path, OpenMode::CreateNew)?;
        file.set_len(2 * SECOND_AT)?;
        let made = Self { file, path: path.to_owned(), ledger_id, counter: Mutex::new(Some(0)) };
        made.write(mac_key, head)?;
        Ok(made)
    }

    /// Opens the file and reads the newest whole record; with a key the record must be authentic.
    ///
    /// # Errors
    /// [`HeadError`] where it is missing, damaged, foreign or forged.
    pub fn open(
        medium: &dyn Medium,
        path: &Path,
        ledger_id: LedgerId,
        mac_key: Option<&Key>,
        writable: bool,
    ) -> Result<(Self, Head), HeadError> {
        let file = medium.open(path, if writable { OpenMode::ReadWrite } else { OpenMode::Read })?;
        let mut newest: Option<Record> = None;
        let (mut forged, mut future) = (false, None);
        for at in [0, SECOND_AT] {
            let mut bytes = [0; RECORD_LEN];
            if file.read_at(at, &mut bytes)? < RECORD_LEN {
                continue;
            }
            let ours = |bytes: &[u8]| {
                let record = bytes.first_chunk().and_then(parse);
                record.is_some_and(|record| mac_key.is_none_or(|key| verify_mac(key, &[&record.covered], &record.mac)))
            };
            future = future.or(newer(&bytes, MAGIC, VERSION, ours));
            let Some(record) = parse(&bytes) else { continue };
            if let Some(key) = mac_key
                && !verify_mac(key, &[&record.covered], &record.mac)
            {
                forged = true;
                continue;
            }
            if newest.as_ref().is_none_or(|other| other.counter < record.counter) {
                newest = Some(record);
            }
        }
        let path = path.to_owned();
        if let Some(version) = future {
            return Err(HeadError::Newer { path, version });
        }
        match newest {
            Some(record) if record.ledger_id != ledger_id => Err(HeadError::Foreign { path, found: record.ledger_id }),
            Some(record) => {
                Ok((Self { file, path, ledger_id, counter: Mutex::new(Some(record.counter)) }, record.head))
            }
            None if forged => Err(HeadError::Forged { path }),
            None => Err(HeadError::Damaged { path }),
        }
    }

    /// Writes a record durably in the older of the two places.
    ///
    /// # Errors
    /// [`HeadError::Store`] the first time a write fails, [`HeadError::Dead`] ever after.
    pub fn write(&self, mac_key: &Key, head: &Head) -> Result<(), HeadError> {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        let next = counter.take().ok_or_else(|| HeadError::Dead { path: self.path.clone() })? + 1;
        let bytes = encode(self.ledger_id, next, head, mac_key);
        self.file.write_at(if next % 2 == 0 { 0 } else { SECOND_AT }, &bytes)?;
        self.file.sync()?;
        *counter = Some(next);
        Ok(())
    }
}

fn encode(ledger_id: LedgerId, counter: u64, head: &Head, mac_key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(if head.witness_clean { FLAG_WITNESS_CLEAN } else { 0 }).to_le_bytes());
    bytes.extend_from_slice(ledger_id.as_bytes());
    bytes.extend_from_slice(&counter.to_le_bytes());
    bytes.extend_from_slice(&head.seq.to_le_bytes());
    bytes.extend_from_slice(&head.hash.0);
    bytes.extend_from_slice(&head.time.as_millis().to_le_bytes());
    bytes.extend_from_slice(&head.witness_next.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let mac = keyed_hash(mac_key, &[&bytes]);
    bytes.extend_from_slice(&mac.0);
    bytes
}

fn parse(bytes: &[u8; RECORD_LEN]) -> Option<Record> {
    let (covered, mac) = bytes.split_first_chunk::<96>()?;
    let mut reader = Reader(bytes);
    if reader.take::<4>()? != MAGIC || reader.u16()? != VERSION {
        return None;
    }
    let flags = reader.u16()?;
    let ledger_id = LedgerId::from_bytes(reader.take()?);
    let counter = reader.u64()?;
    let head = Head {
        seq: reader.u64()?,
        hash: Hash(reader.take()?),
        time: Timestamp::from_millis(reader.u64()?),
        witness_clean: flags & FLAG_WITNESS_CLEAN != 0,
        witness_next: reader.u64()?,
    };
    let reserved: [u8; 8] = reader.take()?;
    if flags & !FLAG_WITNESS_CLEAN != 0 || reserved != [0; 8] || counter == u64::MAX {
        return None;
    }
    Some(Record { ledger_id, counter, head, mac: mac.try_into().ok()?, covered: *covered })
}

/// Parses one record from arbitrary bytes and encodes again what parses; for fuzzing.
///
/// # Panics
/// Where other bytes come out than went in.
#[doc(hidden)]
pub fn fuzz_record(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk()
        && let Some(record) = parse(bytes)
    {
        let key = Key::from_bytes(&mut [1; 32]);
        let again = encode(record.ledger_id, record.counter, &record.head, &key);
        assert_eq!(again.first_chunk(), Some(&record.covered), "a record has one encoding");
    }
}

#[cfg(test)]
mod tests;
