//! The clear parts of a backup (stored; FORMAT.md "Backup").

use std::io::Read;

use crate::base::bytes::Reader;
use crate::base::{BackupId, LedgerId, Timestamp, limits};
use crate::crypto::{Hash, KEY_LEN, SEALED_OVERHEAD, STREAM_NONCE_LEN, labels};

use super::BackupError;

const MAGIC: [u8; 4] = *b"PLBK";
const TRAILER_MAGIC: [u8; 4] = *b"PLBE";
const VERSION: u16 = 1;
/// Bytes before the first field of a length of its own.
const FIXED_LEN: usize = 112;
/// Bytes of the wrapped key of a backup.
const WRAPPED_LEN: usize = KEY_LEN + SEALED_OVERHEAD;
/// Bytes of a key file.
const KEY_FILE_LEN: usize = 72;
/// Bytes of the trailer.
pub(super) const TRAILER_LEN: usize = 80;

/// How a backup can be opened beside the key slots in its ring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySource {
    /// An age file with the root key in it; empty where there is none.
    pub age: Vec<u8>,
    /// A key file of the home: with it the backup opens itself. Empty where there is none.
    pub key_file: Vec<u8>,
}

/// What stands before the sealed stream (stored).
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The backup's random name.
    pub backup: BackupId,
    /// When it was begun.
    pub created: Timestamp,
    /// Its first event; 0 for a full backup.
    pub from: u64,
    /// Hash of the event before that.
    pub prev: Hash,
    /// Nonce of the stream.
    pub nonce: [u8; STREAM_NONCE_LEN],
    /// The epoch in force when it was begun.
    pub epoch: u32,
    /// The program that made it.
    pub program: String,
    /// The key ring file.
    pub ring: Vec<u8>,
    /// Further ways to the root key.
    pub keys: KeySource,
    /// The backup's key, wrapped by the root key.
    pub wrapped: Vec<u8>,
    /// The same, wrapped by the epoch's key, which every later ring holds: whoever opens a later backup of the chain
    /// opens this one.
    pub chained: Vec<u8>,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Header")
            .field("ledger_id", &self.ledger_id)
            .field("backup", &self.backup)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

fn with_length(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Header {
    /// Everything before the wrapped keys: what they are bound to.
    #[must_use]
    pub fn bound(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.ring.len() + self.keys.age.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(self.ledger_id.as_bytes());
        out.extend_from_slice(self.backup.as_bytes());
        out.extend_from_slice(&self.created.as_millis().to_le_bytes());
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.prev.0);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.push(u8::try_from(self.program.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.program.as_bytes());
        for part in [&self.ring, &self.keys.age, &self.keys.key_file] {
            with_length(&mut out, part);
        }
        out
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.bound();
        out.extend_from_slice(&self.wrapped);
        out.extend_from_slice(&self.chained);
        let check = Hash::of(labels::BACKUP_HEADER, &[&out]);
        out.extend_from_slice(&check.0);
        out
    }

    /// Reads a header from the front of bytes; says how many it has. What parses encodes to the same bytes.
    ///
    /// # Errors
    /// [`BackupError`] with what is wrong.
    pub fn parse(mut bytes: &[u8]) -> Result<(Self, usize), BackupError> {
        let (header, raw) = Self::read(&mut bytes)?;
        Ok((header, raw.len()))
    }

    /// Reads a header and leaves the source behind it; gives its bytes as well.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn read(source: &mut dyn Read) -> Result<(Self, Vec<u8>), BackupError> {
        let mut raw = Vec::with_capacity(4096);
        let fixed: [u8; FIXED_LEN] = exact(source, &mut raw, FIXED_LEN)?.try_into().map_err(|_| BackupError::Short)?;
        let mut reader = Reader(&fixed);
        let short = || BackupError::Short;
        if reader.take::<4>() != Some(MAGIC) {
            return Err(BackupError::Magic);
        }
        let version = reader.u16().ok_or_else(short)?;
        if version != VERSION {
            return Err(BackupError::Version(version));
        }
        if reader.u16() != Some(0) {
            return Err(BackupError::Header);
        }
        let ledger_id = LedgerId::from_bytes(reader.take().ok_or_else(short)?);
        let backup = BackupId::from_bytes(reader.take().ok_or_else(short)?);
        let created = Timestamp::from_millis(reader.u64().ok_or_else(short)?);
        let from = reader.u64().ok_or_else(short)?;
        let prev = Hash(reader.take().ok_or_else(short)?);
        let nonce = reader.take().ok_or_else(short)?;
        let epoch = reader.u32().ok_or_else(short)?;
        let [program_len] = reader.take().ok_or_else(short)?;
        if usize::from(program_len) > limits::BACKUP_PROGRAM_MAX {
            return Err(BackupError::Header);
        }
        let program = exact(source, &mut raw, usize::from(program_len))?;
        let program = String::from_utf8(program).map_err(|_| BackupError::Header)?;
        let ring = sized(source, &mut raw, usize::try_from(limits::KEYRING_BYTES_MAX).unwrap_or(usize::MAX))?;
        let age = sized(source, &mut raw, limits::BACKUP_AGE_MAX)?;
        let key_file = sized(source, &mut raw, KEY_FILE_LEN)?;
        let wrapped = exact(source, &mut raw, WRAPPED_LEN)?;
        let chained = exact(source, &mut raw, WRAPPED_LEN)?;
        let check = Hash::of(labels::BACKUP_HEADER, &[&raw]);
        if exact(source, &mut raw, check.0.len())? != check.0 || !matches!(key_file.len(), 0 | KEY_FILE_LEN) {
            return Err(BackupError::Header);
        }
        let keys = KeySource { age, key_file };
        Ok((Self { ledger_id, backup, created, from, prev, nonce, epoch, program, ring, keys, wrapped, chained }, raw))
    }
}

/// Reads exactly so many bytes, in steps: a forged length costs no memory that the file does not have.
fn exact(source: &mut dyn Read, raw: &mut Vec<u8>, len: usize) -> Result<Vec<u8>, BackupError> {
    let mut bytes = Vec::with_capacity(len.min(64 * 1024));
    let got = source.take(len as u64).read_to_end(&mut bytes)?;
    if got < len {
        return Err(BackupError::Short);
    }
    raw.extend_from_slice(&bytes);
    Ok(bytes)
}

fn sized(source: &mut dyn Read, raw: &mut Vec<u8>, max: usize) -> Result<Vec<u8>, BackupError> {
    let len = exact(source, raw, 4)?;
    let len = len.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > max { Err(BackupError::Header) } else { exact(source, raw, len) }
}

/// What stands behind the sealed stream (stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The last event.
    pub to: u64,
    /// Its hash.
    pub head: Hash,
    /// Digest over everything before it.
    pub digest: Hash,
}

impl Trailer {
    /// The bytes before the digest.
    #[must_use]
    pub(super) fn covered(&self) -> [u8; TRAILER_LEN - 32] {
        let mut out = Vec::with_capacity(TRAILER_LEN);
        out.extend_from_slice(&TRAILER_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.to.to_le_bytes());
        out.extend_from_slice(&self.head.0);
        out.try_into().unwrap_or([0; TRAILER_LEN - 32])
    }

    /// The trailer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = self.covered().to_vec();
        out.extend_from_slice(&self.digest.0);
        out.try_into().unwrap_or([0; TRAILER_LEN])
    }

    /// Reads a trailer. Whether its digest fits is for whoever has read the file.
    ///
    /// # Errors
    /// [`BackupError::Trailer`].
    pub fn parse(bytes: &[u8; TRAILER_LEN]) -> Result<Self, BackupError> {
        let mut reader = Reader(bytes);
        let known =
            reader.take::<4>() == Some(TRAILER_MAGIC) && reader.u16() == Some(VERSION) && reader.u16() == Some(0);
        match (known, reader.u64(), reader.take(), reader.take()) {
            (true, Some(to), Some(head), Some(digest)) => Ok(Self { to, head: Hash(head), digest: Hash(digest) }),
            _ => Err(BackupError::Trailer),
        }
    }
}
