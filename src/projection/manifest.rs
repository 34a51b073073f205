//! The manifest: which runs make up the index, and up to which event they are folded.

use std::path::Path;

use crate::base::LedgerId;
use crate::base::bytes::{Reader, newer};
use crate::crypto::{Hash, Key, keyed_hash, labels, verify_mac};
use crate::log::Position;
use crate::store::Medium;

use super::error::{IndexError, RebuildReason};

const MAGIC: [u8; 4] = *b"PLIM";
/// Version of the manifest and of the files that it names.
pub const VERSION: u16 = 1;
/// Most runs that a manifest names.
const RUNS_MAX: usize = 4096;
pub(super) const BYTES_MAX: u64 = 128 * 1024;

/// Format version and state schema of a manifest, unchecked.
pub(super) fn stored_version(bytes: &[u8]) -> Option<(u16, u32)> {
    let mut reader = Reader(bytes);
    let version = (reader.take()? == MAGIC).then(|| reader.u16())??;
    // Flags, ledger id and index id.
    reader.bytes(2 + 16 + 16)?;
    Some((version, reader.u32()?))
}

/// A run, as the manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunNote {
    pub number: u64,
    /// Length of its file.
    pub bytes: u64,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub ledger_id: LedgerId,
    /// Random: an index that was made anew shares no key with the one before.
    pub index_id: [u8; 16],
    pub schema: u32,
    pub position: Option<Position>,
    pub next_run: u64,
    /// Newest first.
    pub runs: Vec<RunNote>,
}

/// What a manifest is for: each has a MAC key of its own, so that neither passes for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The index as it is.
    Live,
    /// The index as it was at an event.
    Snapshot,
}

impl Role {
    fn mac_key(self, key: &Key) -> Key {
        key.subkey(match self {
            Self::Live => labels::INDEX_MANIFEST,
            Self::Snapshot => labels::INDEX_SNAPSHOT,
        })
    }
}

impl Manifest {
    pub(super) fn encode(&self, key: &Key, role: Role) -> Vec<u8> {
        let mut out = Vec::with_capacity(160 + 16 * self.runs.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u16::from(self.position.is_some()).to_le_bytes());
        out.extend_from_slice(self.ledger_id.as_bytes());
        out.extend_from_slice(&self.index_id);
        out.extend_from_slice(&self.schema.to_le_bytes());
        if let Some(position) = &self.position {
            out.extend_from_slice(&position.seq.to_le_bytes());
            out.extend_from_slice(&position.hash.0);
            out.extend_from_slice(&position.segment.to_le_bytes());
            out.extend_from_slice(&position.offset.to_le_bytes());
        }
        out.extend_from_slice(&self.next_run.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.runs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for run in &self.runs {
            out.extend_from_slice(&run.number.to_le_bytes());
            out.extend_from_slice(&run.bytes.to_le_bytes());
        }
        let mac = keyed_hash(&role.mac_key(key), &[&out]);
        out.extend_from_slice(&mac.0);
        out
    }

    /// Parses a manifest and checks its MAC.
    pub(super) fn parse(bytes: &[u8], key: &Key, role: Role) -> Option<Self> {
        let (body, mac) = bytes.split_last_chunk()?;
        if !verify_mac(&role.mac_key(key), &[body], mac) {
            return None;
        }
        let mut reader = Reader(body);
        if reader.take()? != MAGIC || reader.u16()? != VERSION {
            return None;
        }
        let folded = reader.u16()?;
        let ledger_id = LedgerId::from_bytes(reader.take()?);
        let (index_id, schema) = (reader.take()?, reader.u32()?);
        let position = match folded {
            0 => None,
            1 => Some(Position {
                seq: reader.u64()?,
                hash: Hash(reader.take()?),
                segment: reader.u64()?,
                offset: reader.u64()?,
            }),
            _ => return None,
        };
        let next_run = reader.u64()?;
        let count = usize::try_from(reader.u32()?).ok().filter(|count| *count <= RUNS_MAX)?;
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            runs.push(RunNote { number: reader.u64()?, bytes: reader.u64()? });
        }
        let fresh = runs.iter().all(|run| run.number < next_run);
        (reader.0.is_empty() && fresh).then_some(Self { ledger_id, index_id, schema, position, next_run, runs })
    }

    /// The version of a manifest that a newer program wrote. Every version ends with its MAC.
    fn newer(bytes: &[u8], key: &Key, role: Role) -> Option<u16> {
        let (body, mac) = bytes.split_last_chunk()?;
        let version = newer(body, MAGIC, VERSION, |_| false)?;
        verify_mac(&role.mac_key(key), &[body], mac).then_some(version)
    }

    pub(super) fn read(medium: &dyn Medium, path: &Path, key: &Key, role: Role) -> Result<Self, IndexError> {
        match medium.read_all(path, BYTES_MAX) {
            Ok(bytes) => match (Self::parse(&bytes, key, role), Self::newer(&bytes, key, role)) {
                (Some(manifest), _) => Ok(manifest),
                (None, Some(found)) => {
                    Err(IndexError::Newer { what: "format", found: found.into(), known: VERSION.into() })
                }
                (None, None) => Err(RebuildReason::Damaged.into()),
            },
            Err(error) if error.is_not_found() => Err(RebuildReason::Missing.into()),
            // Longer than any manifest is.
            Err(error) if error.source.kind() == std::io::ErrorKind::InvalidData => Err(RebuildReason::Damaged.into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn check(&self, ledger_id: LedgerId, schema: u32) -> Result<(), IndexError> {
        if self.ledger_id != ledger_id {
            return Err(RebuildReason::Foreign.into());
        }
        if self.schema > schema {
            return Err(IndexError::Newer { what: "state schema", found: self.schema, known: schema });
        }
        if self.schema < schema {
            return Err(RebuildReason::Schema.into());
        }
        Ok(())
    }
}
