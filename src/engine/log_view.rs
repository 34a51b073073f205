//! The log as its readers see it: headers for everyone, bodies for key holders.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::{Caller, Timestamp};
use crate::crypto::Hash;
use crate::event::{self, Event, Kind};
use crate::keys::Unlocked;
use crate::log::{Frame, JournalError};

use super::core::Core;
use super::error::Error;
use super::open::decode_frame;

/// The last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Its sequence number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its time.
    pub time: Timestamp,
    /// How many events there are.
    pub events: u64,
}

/// One event with its header, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Sequence number.
    pub seq: u64,
    /// Time.
    pub time: Timestamp,
    /// Kind number.
    pub kind: u16,
    /// Schema version.
    pub schema: u16,
    /// Epoch that seals it.
    pub epoch: u32,
    /// Place in its batch, from 0.
    pub batch_index: u16,
    /// Events in its batch.
    pub batch_len: u16,
    /// Hash of the event before.
    pub prev: Hash,
    /// Its own hash.
    pub hash: Hash,
    /// Who, from where, why.
    pub caller: Caller,
    /// What happened. A secret's value stands in it only inside an envelope.
    pub event: Event,
}

impl Entry {
    /// Opens and decodes one frame.
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::Codec`] or [`Error::Keys`] where it does not open.
    pub fn open(frame: &Frame<'_>, unlocked: &Unlocked) -> Result<Self, Error> {
        let decoded = decode_frame(frame, unlocked)?;
        Ok(Self::of(frame, decoded.caller, decoded.event))
    }

    fn of(frame: &Frame<'_>, caller: Caller, event: Event) -> Self {
        let header = &frame.header;
        Self {
            seq: header.seq,
            time: header.time,
            kind: header.kind,
            schema: header.schema,
            epoch: header.epoch,
            batch_index: header.batch_index,
            batch_len: header.batch_len,
            prev: header.prev,
            hash: frame.hash,
            caller,
            event,
        }
    }

    /// Decodes a body that was opened otherwise: with the key of its frame alone.
    ///
    /// # Errors
    /// [`Error::Codec`] where it is no event of its kind.
    pub fn from_body(frame: &Frame<'_>, body: &[u8]) -> Result<Self, Error> {
        let header = &frame.header;
        let decoded = event::decode(header.kind, header.schema, body);
        let (caller, event) = decoded.map_err(|source| Error::Codec { seq: header.seq, source })?;
        Ok(Self::of(frame, caller, event))
    }

    /// The kind's stable name.
    #[must_use]
    pub fn kind_name(&self) -> String {
        Kind::display_name(self.kind)
    }

    /// The event's fields as JSON, without envelopes: never a secret value, sealed or not.
    #[must_use]
    pub fn fields(&self) -> serde_json::Value {
        let mut fields = serde_json::to_value(&self.event).unwrap_or_default();
        without_envelope(&mut fields);
        if let Some(moved) = fields.get_mut("envelopes").and_then(serde_json::Value::as_array_mut) {
            moved.iter_mut().for_each(without_envelope);
        }
        if let Some(imported) = fields.get_mut("secrets").and_then(serde_json::Value::as_array_mut) {
            imported.iter_mut().filter_map(|one| one.get_mut("put")).for_each(without_envelope);
        }
        fields
    }
}

/// An envelope's length stands for it.
fn without_envelope(fields: &mut serde_json::Value) {
    if let Some(map) = fields.as_object_mut()
        && let Some(envelope) = map.remove("envelope")
    {
        let bytes = envelope.as_array().map_or(0, Vec::len);
        map.insert("envelope_bytes".to_owned(), bytes.into());
    }
}

/// Reads the log.
#[derive(Clone)]
pub struct LogView {
    pub(super) core: Arc<Core>,
}

impl std::fmt::Debug for LogView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogView").field("ledger_id", &self.core.ledger_id).finish_non_exhaustive()
    }
}

impl LogView {
    pub(super) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The last durable event.
    ///
    /// # Errors
    /// [`Error::Journal`] where there is none.
    pub fn head(&self) -> Result<LogHead, Error> {
        let last = self.core.journal.last().ok_or(JournalError::Missing { seq: 0 })?;
        Ok(LogHead { seq: last.seq, hash: last.hash, time: last.time, events: last.seq + 1 })
    }

    /// One event.
    ///
    /// # Errors
    /// [`Error::Journal`], [`Error::Sealed`] or [`Error::Codec`].
    pub fn entry(&self, seq: u64) -> Result<Entry, Error> {
        let mut found = None;
        self.read(seq, seq, &mut |entry| {
            found = Some(entry);
            ControlFlow::Break(())
        })?;
        found.ok_or(Error::Journal(JournalError::Missing { seq }))
    }

    /// Visits events from `from` to `to` (both inclusive) in order.
    ///
    /// # Errors
    /// [`Error::Journal`], [`Error::Sealed`] or [`Error::Codec`] at the first event that does not read.
    ///
    /// ```
    /// # use palyra_ledger::{Config, Ledger, NewSlot};
    /// # use std::ops::ControlFlow;
    /// # let dir = tempfile::tempdir()?;
    /// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
    /// let mut kinds = Vec::new();
    /// ledger.log().read(0, u64::MAX, &mut |entry| {
    ///     kinds.push(entry.kind_name());
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(kinds, ["ledger_created"]);
    /// # ledger.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, from: u64, to: u64, visit: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), Error> {
        let unlocked = self.core.unlocked();
        let mut failed = None;
        self.core.journal.read_range(from, to, &mut |frame| match Entry::open(frame, &unlocked) {
            Ok(entry) => visit(entry),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }
}
