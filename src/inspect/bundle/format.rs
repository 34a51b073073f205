//! The bytes of a bundle.

use crate::base::bytes::Reader;
use crate::base::{LedgerId, limits};
use crate::checkpoint::SignedCheckpoint;
use crate::checkpoint::tree::{consistency_ranges, inclusion_ranges};
use crate::crypto::{Hash, KEY_LEN, Key, MessageKey, labels};
use crate::log::Frame;

use super::{Bundle, BundleError, Record};

/// First bytes of a bundle.
pub const MAGIC: [u8; 4] = *b"PLBN";
/// Version of the format.
const VERSION: u16 = 1;
const DIGEST_LEN: usize = 32;
/// The record carries a proof.
const PROVEN: u8 = 1;
/// The record carries the key of its frame.
const OPENED: u8 = 2;

/// Appends the digest over everything before it.
pub(super) fn with_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Hash::of(labels::BUNDLE_DIGEST, &[&bytes]);
    bytes.extend_from_slice(&digest.0);
    bytes
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_hashes(out: &mut Vec<u8>, hashes: &[Hash]) {
    out.push(u8::try_from(hashes.len()).unwrap_or(u8::MAX));
    for hash in hashes {
        out.extend_from_slice(&hash.0);
    }
}

impl Bundle {
    /// The bundle as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(self.ledger_id.as_bytes());
        push_text(&mut out, &self.tool);
        push_text(&mut out, &self.selection);
        push_text(&mut out, self.checkpoint.as_ref().map_or("", SignedCheckpoint::note));
        push_text(&mut out, self.newer.as_ref().map_or("", |(newer, _)| newer.note()));
        if let Some((_, proof)) = &self.newer {
            push_hashes(&mut out, proof);
        }
        out.extend_from_slice(&u32::try_from(self.records.len()).unwrap_or(u32::MAX).to_le_bytes());
        for record in &self.records {
            let flags = record.proof.as_ref().map_or(0, |_| PROVEN) | record.key.as_ref().map_or(0, |_| OPENED);
            out.push(flags);
            out.extend_from_slice(&record.frame);
            if let Some(proof) = &record.proof {
                push_hashes(&mut out, proof);
            }
            if let Some(key) = &record.key {
                out.extend_from_slice(key.expose());
            }
        }
        with_digest(out)
    }

    /// Reads a bundle. Whether it proves anything is [`Bundle::judge`]'s to say.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let version = match bytes.split_first_chunk::<4>() {
            Some((magic, rest)) if *magic == MAGIC => rest.first_chunk::<2>().ok_or(BundleError::Digest)?,
            _ => return Err(BundleError::Magic),
        };
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(BundleError::Version { version });
        }
        let (covered, digest) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or(BundleError::Digest)?;
        if Hash::of(labels::BUNDLE_DIGEST, &[covered]).0 != *digest {
            return Err(BundleError::Digest);
        }
        let mut reader = Parts { rest: Reader(covered), length: covered.len() };
        reader.take(MAGIC.len() + 2, "beginning")?;
        if reader.array("reserved room")? != [0; 2] {
            return Err(BundleError::Form { part: "reserved room", offset: MAGIC.len() + 2 });
        }
        let ledger_id = LedgerId::from_bytes(reader.array("ledger id")?);
        let tool = reader.words(limits::BUNDLE_TOOL_MAX, "name of the tool")?;
        let selection = reader.words(limits::BUNDLE_SELECTION_MAX, "selection")?;
        let checkpoint = reader.note(ledger_id)?;
        let newer = reader.newer(ledger_id, checkpoint.as_ref())?;
        let records = reader.records(ledger_id, checkpoint.as_ref())?;
        reader.end()?;
        Ok(Self { ledger_id, tool, selection, checkpoint, newer, records })
    }
}

/// Reads parts, and says at which byte one is wrong.
struct Parts<'a> {
    rest: Reader<'a>,
    length: usize,
}

impl<'a> Parts<'a> {
    const fn at(&self) -> usize {
        self.length - self.rest.0.len()
    }

    const fn wrong(&self, part: &'static str) -> BundleError {
        BundleError::Form { part, offset: self.at() }
    }

    fn take(&mut self, length: usize, part: &'static str) -> Result<&'a [u8], BundleError> {
        let wrong = self.wrong(part);
        self.rest.bytes(length).ok_or(wrong)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], BundleError> {
        let wrong = self.wrong(part);
        self.rest.take().ok_or(wrong)
    }

    fn text(&mut self, max: usize, part: &'static str) -> Result<&'a [u8], BundleError> {
        let length = usize::from(u16::from_le_bytes(self.array(part)?));
        if length > max {
            return Err(self.wrong(part));
        }
        self.take(length, part)
    }

    /// Text in which nothing can hide: printable ASCII.
    fn words(&mut self, max: usize, part: &'static str) -> Result<String, BundleError> {
        let text = self.text(max, part)?;
        if !text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(self.wrong(part));
        }
        Ok(text.iter().copied().map(char::from).collect())
    }

    fn note(&mut self, ledger_id: LedgerId) -> Result<Option<SignedCheckpoint>, BundleError> {
        let offset = self.at();
        let note = self.text(limits::NOTE_BYTES_MAX, "checkpoint")?;
        if note.is_empty() {
            return Ok(None);
        }
        let signed = SignedCheckpoint::parse(note).map_err(|source| BundleError::Note { offset, source })?;
        if signed.checkpoint().ledger_id != ledger_id {
            return Err(BundleError::OtherLedger { offset });
        }
        Ok(Some(signed))
    }

    fn newer(
        &mut self,
        ledger_id: LedgerId,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<Option<(SignedCheckpoint, Vec<Hash>)>, BundleError> {
        let wrong = self.wrong("newer checkpoint");
        let Some(newer) = self.note(ledger_id)? else { return Ok(None) };
        let before = checkpoint.map(|signed| signed.checkpoint().size).ok_or(wrong)?;
        let size = newer.checkpoint().size;
        let ranges = consistency_ranges(before, size).filter(|_| before < size).ok_or(wrong)?;
        let proof = self.hashes(ranges.len(), "proof of consistency")?;
        Ok(Some((newer, proof)))
    }

    fn hashes(&mut self, wanted: usize, part: &'static str) -> Result<Vec<Hash>, BundleError> {
        let wrong = self.wrong(part);
        let [count] = self.array(part)?;
        if usize::from(count) != wanted {
            return Err(wrong);
        }
        (0..count).map(|_| self.array(part).map(Hash)).collect()
    }

    fn records(
        &mut self,
        ledger_id: LedgerId,
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<Vec<Record>, BundleError> {
        let wrong = self.wrong("number of events");
        let count = u32::from_le_bytes(self.array("number of events")?);
        if count == 0 || count > limits::BUNDLE_RECORDS_MAX {
            return Err(wrong);
        }
        let size = checkpoint.map_or(0, |signed| signed.checkpoint().size);
        let mut records: Vec<Record> = Vec::new();
        let mut least = 0;
        for _ in 0..count {
            let offset = self.at();
            let (record, seq) = self.record(ledger_id, size)?;
            if seq < least {
                return Err(BundleError::Form { part: "order of the events", offset });
            }
            least = seq.saturating_add(1);
            records.push(record);
        }
        Ok(records)
    }

    fn record(&mut self, ledger_id: LedgerId, size: u64) -> Result<(Record, u64), BundleError> {
        let wrong = self.wrong("event");
        let [flags] = self.array("event")?;
        let offset = self.at();
        let frame = Frame::parse(self.rest.0).map_err(|source| BundleError::Frame { offset, source })?;
        let seq = frame.header.seq;
        if frame.header.ledger_id != ledger_id {
            return Err(BundleError::OtherLedger { offset });
        }
        // An event that the checkpoint covers is proven: leaving the proof out would be a second encoding.
        if flags & !(PROVEN | OPENED) != 0 || (flags & PROVEN != 0) != (seq < size) {
            return Err(wrong);
        }
        let frame = self.take(frame.bytes().len(), "event")?.to_vec();
        let proof = match inclusion_ranges(seq, size) {
            Some(ranges) => Some(self.hashes(ranges.len(), "proof of an event")?),
            None => None,
        };
        let key = match flags & OPENED {
            0 => None,
            _ => {
                let mut bytes: [u8; KEY_LEN] = self.array("key of an event")?;
                Some(MessageKey::from_key(Key::from_bytes(&mut bytes)))
            }
        };
        Ok((Record { frame, proof, key }, seq))
    }

    fn end(&self) -> Result<(), BundleError> {
        if self.rest.0.is_empty() { Ok(()) } else { Err(self.wrong("end")) }
    }
}
