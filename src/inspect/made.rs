//! Frames that tests make, and files that behave oddly.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{LedgerId, Timestamp};
use crate::crypto::{Key, Opener, labels};
use crate::log::frame::{self, Header, Sealing};
use crate::log::segment::SegmentHeader;
use crate::store::{Medium, MediumFile, OpenMode, StoreError, StoreOp};

/// The ledger of every frame here.
const LEDGER: LedgerId = LedgerId::from_bytes([0xA0; 16]);
/// Bytes that cannot be read at a time.
pub(super) const BLOCK: u64 = 4096;

/// Frames with bodies of these lengths.
pub(super) fn frames(lengths: &[usize]) -> Vec<u8> {
    let opener = Opener::new(&Key::from_bytes(&mut [0x11; 32]), labels::EPOCH_SEAL, labels::EPOCH_COMMIT);
    let mut bytes = Vec::new();
    let mut prev = frame::genesis(LEDGER);
    for (seq, length) in (0_u64..).zip(lengths) {
        let header = Header {
            ledger_id: LEDGER,
            seq,
            prev,
            time: Timestamp::from_millis(seq),
            group_start: seq,
            kind: 32,
            schema: 1,
            epoch: 0,
            batch_index: 0,
            batch_len: 1,
            body_len: 0,
            nonce: [0; 24],
            commitment: [0; 32],
        };
        let nonce = [seq.to_le_bytes()[0]; 24];
        prev = frame::seal(header, &Sealing { opener: &opener, nonce }, &vec![7; *length], &mut bytes);
    }
    bytes
}

/// The first segment of a log with such frames.
pub(super) fn segment(lengths: &[usize]) -> Vec<u8> {
    let header = SegmentHeader { ledger_id: LEDGER, first_seq: 0, prev: frame::genesis(LEDGER) };
    [&header.encode()[..], &frames(lengths)].concat()
}

/// A file that cannot be read everywhere, or was cut after it was measured.
#[derive(Debug, Clone, Default)]
pub(super) struct OddFile {
    pub(super) bytes: Arc<Vec<u8>>,
    /// Blocks that cannot be read.
    pub(super) bad: Vec<u64>,
    /// What it says that it has beyond its bytes.
    pub(super) longer: u64,
}

impl OddFile {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(bytes), ..Self::default() }
    }

    /// Whether one of these bytes lies in a block that cannot be read.
    pub(super) fn is_bad(&self, from: u64, to: u64) -> bool {
        self.bad.iter().any(|bad| *bad * BLOCK < to && from < (*bad + 1) * BLOCK)
    }
}

impl MediumFile for OddFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let begin = usize::try_from(offset).unwrap().min(self.bytes.len());
        let got = buffer.len().min(self.bytes.len() - begin);
        if self.is_bad(offset, offset + got as u64) {
            return Err(StoreError::new(StoreOp::Read, Path::new("disk"), io::Error::other("bad sector")));
        }
        buffer[..got].copy_from_slice(&self.bytes[begin..begin + got]);
        Ok(got)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), StoreError> {
        unreachable!("evidence is never written")
    }

    fn set_len(&self, _: u64) -> Result<(), StoreError> {
        unreachable!("evidence is never written")
    }

    fn len(&self) -> Result<u64, StoreError> {
        Ok(self.bytes.len() as u64 + self.longer)
    }

    fn sync(&self) -> Result<(), StoreError> {
        unreachable!("evidence is never written")
    }
}

/// A disk with such files.
#[derive(Debug)]
pub(super) struct OddDisk(pub(super) BTreeMap<PathBuf, OddFile>);

impl Medium for OddDisk {
    fn open(&self, path: &Path, _: OpenMode) -> Result<Box<dyn MediumFile>, StoreError> {
        match self.0.get(path) {
            Some(file) => Ok(Box::new(file.clone())),
            None => Err(StoreError::new(StoreOp::Open, path, io::ErrorKind::NotFound.into())),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        Ok(self.0.contains_key(path))
    }

    fn rename(&self, _: &Path, _: &Path) -> Result<(), StoreError> {
        unreachable!("evidence is never changed")
    }

    fn remove(&self, _: &Path) -> Result<(), StoreError> {
        unreachable!("evidence is never changed")
    }

    fn create_dir(&self, _: &Path) -> Result<(), StoreError> {
        unreachable!("evidence is never changed")
    }

    fn sync_dir(&self, _: &Path) -> Result<(), StoreError> {
        unreachable!("evidence is never changed")
    }

    fn append(&self, _: &Path, _: &[u8]) -> Result<u64, StoreError> {
        unreachable!("evidence is never changed")
    }

    fn list(&self, _: &Path) -> Result<Vec<String>, StoreError> {
        unreachable!("the files are named")
    }
}
