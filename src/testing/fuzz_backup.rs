//! The fuzz target for backups: the clear parts, and what stands behind the seal.

use crate::backup::{BackupFile, BackupReader, BackupWriter, Closing, Header, KeySource, Record, Trailer};
use crate::base::{BackendKind, BackupId, LedgerId, Timestamp};
use crate::crypto::{Hash, Hasher, Key, labels};

/// The key under which the target seals and opens.
#[must_use]
pub fn key() -> Key {
    Key::from_bytes(&mut [0x2b; 32])
}

/// A header whose parts are none of a ledger's.
#[must_use]
pub fn header() -> Header {
    Header {
        ledger_id: LedgerId::from_bytes([0x1d; 16]),
        backup: BackupId::from_bytes([0x2c; 16]),
        created: Timestamp::from_millis(1_790_000_000_000),
        from: 0,
        prev: Hash([7; 32]),
        nonce: [9; 19],
        epoch: 3,
        program: "0.1.0".to_owned(),
        ring: b"ring".to_vec(),
        keys: KeySource::default(),
        wrapped: vec![5; 104],
        chained: vec![4; 104],
    }
}

/// A closing record.
#[must_use]
pub const fn closing() -> Closing {
    Closing {
        to: 4,
        head: Hash([6; 32]),
        time: Timestamp::from_millis(1_790_000_000_001),
        state_root: Hash([8; 32]),
        frames: 5,
        frame_bytes: 1000,
        slots: 2,
        table_generation: 1,
        shredded_below: 0,
        objects: 0,
        backend: BackendKind::Ledger,
    }
}

/// Reads a whole backup under the target's key; gives its records, if nothing was wrong.
fn read(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut file = BackupFile::memory("fuzz", bytes.to_vec());
    let mut reader = BackupReader::new(&mut file).ok()?;
    reader.unlock(&key());
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().ok()? {
        records.push(record);
    }
    Some(records)
}

/// Gives bytes the digest that they should have, so that what stands behind it is met.
fn with_digest(bytes: &[u8]) -> Option<Vec<u8>> {
    let covered = bytes.get(..bytes.len().checked_sub(32)?)?;
    let mut digest = Hasher::new(labels::BACKUP_DIGEST);
    digest.update(covered);
    Some([covered, digest.finish().as_bytes()].concat())
}

/// Backups: every part that parses has one encoding; a file with one byte changed is refused under its key; what
/// is sealed as a stream reads as the records that it is, in their order, or not at all.
///
/// # Panics
/// Where the property does not hold.
pub fn backup(bytes: &[u8]) {
    crate::backup::fuzz(bytes);
    let mut file = BackupFile::memory("fuzz", bytes.to_vec());
    let _ = file.facts();
    if let Ok(reader) = BackupReader::new(&mut file) {
        let _ = reader.check_digest(&|_| {});
    }
    let whole = read(bytes);
    if let Some(repaired) = with_digest(bytes)
        && repaired != bytes
    {
        assert!(whole.is_none(), "a file with another digest is refused, whatever stands in it");
        let _ = read(&repaired);
    }
    // The bytes as the plain text of a stream.
    let mut sealed = Vec::new();
    let Ok(writer) = BackupWriter::new(&mut sealed, &header(), &key()) else { return };
    if writer.finish_any(bytes, closing().to, closing().head).is_err() {
        return;
    }
    if let Some(records) = read(&sealed) {
        let again: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        assert_eq!(again, bytes, "records have one encoding");
        let stages: Vec<u8> = records.iter().map(|record| record.kind().stage()).collect();
        assert!(stages.is_sorted() && matches!(records.last(), Some(Record::Closing(_))), "records have one order");
    }
    let end = sealed.last_chunk().and_then(|end| Trailer::parse(end).ok());
    assert!(end.is_some_and(|end| end.to == closing().to), "a trailer reads as it was written");
}
