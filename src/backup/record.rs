//! What the sealed stream of a backup holds (stored; FORMAT.md "Backup").

use crate::base::bytes::Reader;
use crate::base::{BackendKind, Timestamp, limits};
use crate::crypto::Hash;

use super::BackupError;

/// Bytes before the payload of a record: kind and length.
pub(super) const RECORD_HEAD: usize = 5;
/// Bytes of the closing record's payload.
const CLOSING_LEN: usize = 136;

/// The kinds of record (stored: the numbers), in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// Slots of the key table.
    Table = 1,
    /// Slots that were shredded while the table was copied.
    Shredded = 2,
    /// An envelope that another backend keeps than the log.
    Object = 3,
    /// Frames.
    Frames = 4,
    /// The settings file.
    Settings = 5,
    /// What there must be.
    Closing = 6,
}

impl RecordKind {
    const ALL: [Self; 6] = [Self::Table, Self::Shredded, Self::Object, Self::Frames, Self::Settings, Self::Closing];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Kinds of one stage may come in any order among themselves; a later stage never comes before an earlier one.
    #[must_use]
    pub const fn stage(self) -> u8 {
        match self {
            Self::Table | Self::Shredded | Self::Object => 0,
            Self::Frames => 1,
            Self::Settings => 2,
            Self::Closing => 3,
        }
    }
}

/// What there must be in a backup, and what its events add up to (stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// The last event.
    pub to: u64,
    /// Its hash.
    pub head: Hash,
    /// Its time.
    pub time: Timestamp,
    /// Root of the state after it.
    pub state_root: Hash,
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Slots of the key table.
    pub slots: u64,
    /// Generation of the key table.
    pub table_generation: u32,
    /// Shred events below this are carried out in the table.
    pub shredded_below: u64,
    /// Envelopes outside the log.
    pub objects: u64,
    /// Where envelopes are.
    pub backend: BackendKind,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Slots of the key table from this one on, as stored.
    Table(u64, Vec<u8>),
    /// The event that shredded these slots.
    Shredded(u64, Vec<u64>),
    /// The envelope of a slot.
    Object(u64, Vec<u8>),
    /// Whole frames run together.
    Frames(Vec<u8>),
    /// The settings file.
    Settings(Vec<u8>),
    /// The last record.
    Closing(Box<Closing>),
}

impl Record {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Table(..) => RecordKind::Table,
            Self::Shredded(..) => RecordKind::Shredded,
            Self::Object(..) => RecordKind::Object,
            Self::Frames(_) => RecordKind::Frames,
            Self::Settings(_) => RecordKind::Settings,
            Self::Closing(_) => RecordKind::Closing,
        }
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind() as u8, 0, 0, 0, 0];
        match self {
            Self::Table(number, bytes) | Self::Object(number, bytes) => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Shredded(seq, slots) => {
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend(slots.iter().flat_map(|slot| slot.to_le_bytes()));
            }
            Self::Frames(bytes) | Self::Settings(bytes) => out.extend_from_slice(bytes),
            Self::Closing(closing) => closing.encode(&mut out),
        }
        let len = u32::try_from(out.len() - RECORD_HEAD).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(1..RECORD_HEAD) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        out
    }

    /// How many bytes the payload of the record has whose first bytes these are.
    pub(super) fn payload_len(head: [u8; RECORD_HEAD]) -> Result<(RecordKind, usize), BackupError> {
        let [kind, a, b, c, d] = head;
        let kind = RecordKind::from_number(kind).ok_or(BackupError::Record("its kind is not known"))?;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if len > limits::BACKUP_RECORD_MAX {
            return Err(BackupError::Record("it is too long"));
        }
        Ok((kind, len))
    }

    /// Reads the payload of a record. What parses encodes to the same bytes.
    pub(super) fn from_payload(kind: RecordKind, payload: Vec<u8>) -> Result<Self, BackupError> {
        let form = || BackupError::Record("its length does not fit its kind");
        let mut reader = Reader(&payload);
        Ok(match kind {
            RecordKind::Table => Self::Table(reader.u64().ok_or_else(form)?, reader.0.to_vec()),
            RecordKind::Object => Self::Object(reader.u64().ok_or_else(form)?, reader.0.to_vec()),
            RecordKind::Shredded => {
                let seq = reader.u64().ok_or_else(form)?;
                let mut slots = Vec::with_capacity(reader.0.len() / 8);
                while !reader.0.is_empty() {
                    slots.push(reader.u64().ok_or_else(form)?);
                }
                Self::Shredded(seq, slots)
            }
            RecordKind::Frames => Self::Frames(payload),
            RecordKind::Settings => Self::Settings(payload),
            RecordKind::Closing => Self::Closing(Box::new(Closing::parse(&payload).ok_or_else(form)?)),
        })
    }

    /// Reads one record from the front of bytes; says how many it has.
    ///
    /// # Errors
    /// [`BackupError::Record`] or [`BackupError::Short`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), BackupError> {
        let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD>().ok_or(BackupError::Short)?;
        let (kind, len) = Self::payload_len(*head)?;
        let payload = rest.get(..len).ok_or(BackupError::Short)?;
        Ok((Self::from_payload(kind, payload.to_vec())?, RECORD_HEAD + len))
    }
}

impl Closing {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to.to_le_bytes());
        out.extend_from_slice(&self.head.0);
        out.extend_from_slice(&self.time.as_millis().to_le_bytes());
        out.extend_from_slice(&self.state_root.0);
        for number in [self.frames, self.frame_bytes, self.slots, self.shredded_below, self.objects] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.table_generation.to_le_bytes());
        out.extend_from_slice(&self.backend.number().to_le_bytes());
        out.extend_from_slice(&[0; 10]);
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (to, head) = (reader.u64()?, Hash(reader.take()?));
        let (time, state_root) = (Timestamp::from_millis(reader.u64()?), Hash(reader.take()?));
        let (frames, frame_bytes, slots) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (shredded_below, objects, table_generation) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let number = reader.u16()?;
        let backend = BackendKind::ALL.into_iter().find(|kind| kind.number() == number)?;
        let whole = reader.take()? == [0; 10] && reader.0.is_empty() && bytes.len() == CLOSING_LEN;
        whole.then_some(Self {
            to,
            head,
            time,
            state_root,
            frames,
            frame_bytes,
            slots,
            table_generation,
            shredded_below,
            objects,
            backend,
        })
    }
}
