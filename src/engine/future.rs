//! What a newer program wrote: opening refuses it before anything is changed, verification counts it.
//!
//! Kind and schema version stand in the clear header (invariant I4), so that this costs no key and no hash. The
//! log before the first such event is whole and known, and can be opened for reading ([`Config::known_part`]).

use std::collections::BTreeMap;

use crate::base::limits;
use crate::crypto::Key;
use crate::event::{self, CodecError, Kind};
use crate::inspect::{FindingCode, Report};
use crate::keys::{KeyRing, KeyTable, KeysError};
use crate::log::{Frame, Header, Journal, JournalError, Last};

use super::config::Config;
use super::core::Layout;
use super::error::Error;
use super::reads;

/// Kinds and versions beyond which unknown events are only counted.
const NAMED_MAX: usize = 64;

/// The first event that this program does not know, and why.
#[derive(Debug)]
pub(super) struct Unknown {
    header: Header,
    why: CodecError,
}

impl Unknown {
    /// Looks from an event to the end.
    pub(super) fn find(journal: &Journal, from: u64, last: u64) -> Result<Option<Self>, Error> {
        let unknown = |header: &Header| event::check_known(header.kind, header.schema).is_err();
        let found = journal.find(from, last, &unknown)?;
        Ok(found
            .and_then(|header| event::check_known(header.kind, header.schema).err().map(|why| Self { header, why })))
    }

    /// The end of the batch before it; nothing where the log begins with it.
    pub(super) fn before(&self, journal: &Journal) -> Result<Option<Last>, Error> {
        let first = self.header.seq.saturating_sub(u64::from(self.header.batch_index));
        let Some(seq) = first.checked_sub(1) else { return Ok(None) };
        let mut buffer = Vec::new();
        journal.read(seq, &mut buffer)?;
        let frame = Frame::parse(&buffer).map_err(|_| JournalError::Missing { seq })?;
        Ok(Some(Last { seq, hash: frame.hash, time: frame.header.time }))
    }

    /// The refusal to go on.
    pub(super) fn refuse(self) -> Error {
        Error::Codec { seq: self.header.seq, source: self.why }
    }
}

/// Refuses a key table of a newer program, and a read spool with records of one. Anything else that is wrong with
/// them is said where they are used.
pub(super) fn check_others(config: &Config, layout: &Layout, ring: &KeyRing, ledger_key: &Key) -> Result<(), Error> {
    let (ledger_id, generation) = (ring.ledger_id(), ring.table_generation());
    let table = KeyTable::open(&*config.medium, &layout.keys(), ledger_id, generation, false);
    if let Err(error @ KeysError::Newer { .. }) = table {
        return Err(error.into());
    }
    let path = layout.spool();
    if !config.medium.exists(&path)? {
        return Ok(());
    }
    let bytes = config.medium.read_all(&path, 2 * limits::SPOOL_BYTES_MAX)?;
    match reads::parse_spool(&bytes, ledger_id, ledger_key).newer {
        Some(source) => Err(Error::Spool { path, source }),
        None => Ok(()),
    }
}

/// Events that this program does not know, counted by kind and schema version as a walk shows their headers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownEvents {
    /// By kind and schema version: the first event and how many there are.
    found: BTreeMap<(u16, u16), (u64, u64)>,
    more: u64,
}

impl UnknownEvents {
    /// Counts one event, where it is unknown.
    pub fn observe(&mut self, header: &Header) {
        let key = (header.kind, header.schema);
        if event::check_known(key.0, key.1).is_ok() {
            return;
        }
        if let Some((_, count)) = self.found.get_mut(&key) {
            *count += 1;
        } else if self.found.len() < NAMED_MAX {
            self.found.insert(key, (header.seq, 1));
        } else {
            self.more += 1;
        }
    }

    /// A note in the report for every kind and version: they verify, and were not read.
    pub fn note(&self, report: &mut Report) {
        for ((kind, schema), (first, count)) in &self.found {
            let name = Kind::from_number(*kind).map(|kind| format!(" ({})", kind.name())).unwrap_or_default();
            let events = if *count == 1 { "only event".to_owned() } else { format!("first of {count} events") };
            let what = format!(
                "event {first} is the {events} of kind {kind}{name}, schema version {schema}, which palyra-ledger {} \
                 does not know: their hashes and places are checked, what they say is not; a newer program reads them",
                env!("CARGO_PKG_VERSION")
            );
            report.add(FindingCode::UnknownEvent, Some(*first), what);
        }
        if self.more > 0 {
            let what = format!("{} more events of other unknown kinds", self.more);
            report.add(FindingCode::UnknownEvent, None, what);
        }
    }
}
