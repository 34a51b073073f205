//! Reads of secret values, gathered into events; and the spool of processes that may only read.
//!
//! The loss window is stated, not hidden: with `batched`, reads of the last
//! [`limits::READS_WINDOW_MS`] milliseconds go with a crash of the process. A process that opened the
//! ledger for reading appends sealed records to `reads.spool`, unsynced; the next writer folds them
//! into the log and removes the file. The spool is sealed, so it shows nobody which secrets were read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::base::{Caller, KeyedPrint, LedgerId, Random, SecretPath, Timestamp, limits};
use crate::crypto::{Key, Opener, labels, open_sealed, seal_sealed};
use crate::event::vault::{ReadNote, ReferencesResolved, ResolutionNote, ResolveReason, SecretsRead};
use crate::event::{self, CodecError, Event};
use crate::store::Medium;

use super::error::Error;

type Place = (SecretPath, u32);
/// Resolutions that go the same way are one note: of one reference, with one reason or none.
type Way = (KeyedPrint, Option<ResolveReason>);

/// How full the buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// There is room.
    Room,
    /// A batch is together: it should be recorded beside the caller's work.
    Due,
    /// Recording fell behind: the caller waits for it.
    Full,
}

/// Reads that wait to be recorded, by caller.
#[derive(Default)]
pub struct ReadBuffer {
    inner: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    by_caller: Vec<(Caller, Gathered)>,
    entries: usize,
    first: Option<Timestamp>,
}

#[derive(Default)]
struct Gathered {
    reads: HashMap<Place, ReadNote>,
    resolutions: HashMap<Way, ResolutionNote>,
}

impl Waiting {
    /// What one caller has gathered.
    fn of(&mut self, caller: &Caller, now: Timestamp) -> Option<&mut Gathered> {
        self.first.get_or_insert(now);
        let at = self.by_caller.iter().position(|(other, _)| other == caller).unwrap_or_else(|| {
            self.by_caller.push((caller.clone(), Gathered::default()));
            self.by_caller.len() - 1
        });
        self.by_caller.get_mut(at).map(|(_, gathered)| gathered)
    }

    /// How full the buffer is with so many entries more.
    const fn grow(&mut self, grown: usize) -> Fill {
        self.entries += grown;
        match self.entries {
            limits::READS_BATCH_MAX if grown > 0 => Fill::Due,
            entries if entries >= 4 * limits::READS_BATCH_MAX => Fill::Full,
            _ => Fill::Room,
        }
    }
}

impl ReadBuffer {
    /// Adds a read; says how full the buffer is.
    pub fn add(&self, caller: &Caller, target: SecretPath, version: u32, now: Timestamp) -> Fill {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Gathered { reads, .. }) = waiting.of(caller, now) else { return Fill::Room };
        let before = reads.len();
        let SecretPath { scope, name } = target.clone();
        let note = reads.entry((target, version)).or_insert_with(|| ReadNote {
            scope,
            name,
            version,
            count: 0,
            first: now,
            last: now,
        });
        note.count = note.count.saturating_add(1);
        note.last = note.last.max(now);
        let grown = reads.len() - before;
        waiting.grow(grown)
    }

    /// Adds a resolution, whose note is made where there is none like it yet; says how full the buffer is.
    pub fn add_resolution(
        &self,
        caller: &Caller,
        (reference, reason): Way,
        now: Timestamp,
        note: impl FnOnce() -> ResolutionNote,
    ) -> Fill {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Gathered { resolutions, .. }) = waiting.of(caller, now) else { return Fill::Room };
        match resolutions.entry((reference, reason)) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count = known.count.saturating_add(1);
                known.last = known.last.max(now);
                waiting.grow(0)
            }
            Entry::Vacant(place) => {
                place.insert(note());
                waiting.grow(1)
            }
        }
    }

    /// Whether a batch is together, or the oldest waiting read has waited as long as the window allows.
    pub fn due(&self, now: Timestamp) -> bool {
        let waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entries >= limits::READS_BATCH_MAX
            || waiting
                .first
                .is_some_and(|first| now.as_millis().saturating_sub(first.as_millis()) >= limits::READS_WINDOW_MS)
    }

    /// Takes everything that waits, as one event a caller; the reads in a fixed order.
    pub fn take(&self) -> Vec<(Caller, Event)> {
        let waiting = std::mem::take(&mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        let mut events = Vec::new();
        for (caller, Gathered { reads, resolutions }) in waiting.by_caller {
            let mut reads: Vec<ReadNote> = reads.into_values().collect();
            reads.sort_by(|a, b| (&a.scope, &a.name, a.version).cmp(&(&b.scope, &b.name, b.version)));
            for chunk in reads.chunks(limits::READS_BATCH_MAX) {
                events.push((caller.clone(), Event::SecretsRead(SecretsRead { reads: chunk.to_vec() })));
            }
            let mut notes: Vec<ResolutionNote> = resolutions.into_values().collect();
            notes.sort_by_key(|note| (note.reference, note.reason));
            events.extend(resolved(notes).into_iter().map(|event| (caller.clone(), event)));
        }
        events
    }
}

/// Resolutions as events of bounded size.
pub fn resolved(notes: Vec<ResolutionNote>) -> Vec<Event> {
    let event = |chunk: &[ResolutionNote]| Event::ReferencesResolved(ReferencesResolved { notes: chunk.to_vec() });
    notes.chunks(limits::RESOLUTIONS_EVENT_MAX).map(event).collect()
}

fn spool_opener(ledger_key: &Key) -> Opener {
    Opener::wrapping(&ledger_key.subkey(labels::SPOOL))
}

/// Appends one event to the spool; returns the spool's length in bytes.
pub fn spool(
    medium: &dyn Medium,
    path: &Path,
    ledger_id: LedgerId,
    ledger_key: &Key,
    random: &dyn Random,
    caller: &Caller,
    event: &Event,
) -> Result<u64, Error> {
    let body = event::encode(caller, event).map_err(|source| Error::Codec { seq: u64::MAX, source })?;
    let plain = spooled(&body);
    let sealed = seal_sealed(&spool_opener(ledger_key), &random.array()?, ledger_id.as_bytes(), &plain);
    let mut record = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    record.extend(sealed);
    Ok(medium.append(path, &record)?)
}

/// Marks a kind number behind which the schema version stands: records without it are of version 1.
const WITH_SCHEMA: u16 = 0x8000;

/// A record's plain text: which event, then its body.
pub(crate) fn spooled(body: &event::Body) -> Vec<u8> {
    let mut plain = Vec::with_capacity(4 + body.plain.len());
    if body.schema == 1 {
        plain.extend_from_slice(&body.kind.to_le_bytes());
    } else {
        plain.extend_from_slice(&(body.kind | WITH_SCHEMA).to_le_bytes());
        plain.extend_from_slice(&body.schema.to_le_bytes());
    }
    plain.extend_from_slice(&body.plain);
    plain
}

/// Kind and schema version of a record, and the body behind them.
pub(crate) fn unspooled(plain: &[u8]) -> Option<(u16, u16, &[u8])> {
    let (kind, body) = plain.split_first_chunk::<2>()?;
    let kind = u16::from_le_bytes(*kind);
    if kind & WITH_SCHEMA == 0 {
        return Some((kind, 1, body));
    }
    let (schema, body) = body.split_first_chunk::<2>()?;
    let schema = u16::from_le_bytes(*schema);
    // Version 1 has one form.
    (schema != 1).then_some((kind & !WITH_SCHEMA, schema, body))
}

/// What a spool holds: events that read well, and bytes that do not.
#[derive(Debug, Default)]
pub struct Spooled {
    /// Events in the order of their records.
    pub events: Vec<(Caller, Event)>,
    /// Bytes from the first record that is torn or altered to the end.
    pub dropped: u64,
    /// Why this program does not read the first of them, where a newer one wrote it.
    pub newer: Option<CodecError>,
}

/// Reads a spool's bytes.
#[must_use]
pub fn parse_spool(bytes: &[u8], ledger_id: LedgerId, ledger_key: &Key) -> Spooled {
    let opener = spool_opener(ledger_key);
    let mut found = Spooled::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match next_record(rest, &opener, ledger_id) {
            Some((Ok(event), after)) => {
                found.events.push(event);
                rest = after;
            }
            unread => {
                found.newer = unread.and_then(|(event, _)| event.err()).filter(CodecError::is_from_the_future);
                found.dropped = rest.len() as u64;
                break;
            }
        }
    }
    found
}

type Record = Result<(Caller, Event), CodecError>;

fn next_record<'a>(bytes: &'a [u8], opener: &Opener, ledger_id: LedgerId) -> Option<(Record, &'a [u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sealed, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    let plain = open_sealed(opener, ledger_id.as_bytes(), sealed).ok()?;
    let (kind, schema, body) = unspooled(&plain)?;
    Some((event::decode(kind, schema, body), rest))
}
