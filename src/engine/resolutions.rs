//! What the engine gives to those who resolve references: fingerprints, the time, and the record.

use std::sync::Arc;

use crate::base::{Caller, KeyedPrint, SecretRef, Timestamp};
use crate::crypto::{Hash, Key, KeyedHasher, keyed_hash, labels};
use crate::event::vault::{ResolutionNote, ResolveReason, ResolveStatus};

use super::config::{AuditReads, ResolveSettings};
use super::core::Core;
use super::error::Error;
use super::reads::{self, Fill};

/// Records resolutions of references for one caller, and makes the fingerprints that stand in the record.
#[derive(Clone)]
pub struct Resolutions {
    core: Arc<Core>,
    caller: Caller,
    keys: Arc<(Key, Key)>,
}

impl std::fmt::Debug for Resolutions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolutions").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// What is recorded about one resolution.
#[derive(Debug, Clone, Copy)]
pub struct Resolved<'a> {
    /// The reference.
    pub reference: &'a SecretRef,
    /// Its fingerprint.
    pub print: KeyedPrint,
    /// Why there was no value; none where there was one.
    pub reason: Option<ResolveReason>,
    /// When.
    pub at: Timestamp,
}

impl Resolved<'_> {
    fn note(&self) -> ResolutionNote {
        ResolutionNote {
            reference: self.print,
            source: self.reference.source.kind(),
            shown: self.reference.redacted(),
            status: self.reason.map_or(ResolveStatus::Resolved, ResolveReason::status),
            reason: self.reason,
            count: 1,
            first: self.at,
            last: self.at,
        }
    }
}

impl Resolutions {
    pub(super) fn new(core: Arc<Core>, caller: Caller) -> Self {
        let unlocked = core.unlocked();
        let subkey = |label| unlocked.ledger_key().subkey(label);
        let keys = Arc::new((subkey(labels::REFERENCE_PRINT), subkey(labels::VALUE_PRINT)));
        Self { core, caller, keys }
    }

    /// The rules in force.
    #[must_use]
    pub fn settings(&self) -> &ResolveSettings {
        &self.core.settings.resolve
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.core.clock.now()
    }

    /// Fingerprint of a reference: that of its canonical text.
    #[must_use]
    pub fn reference_print(&self, reference: &SecretRef) -> KeyedPrint {
        let mut hasher = KeyedHasher::new(&self.keys.0);
        // A hasher takes whatever is written to it.
        let _ = std::fmt::Write::write_fmt(&mut hasher, format_args!("{reference}"));
        hasher.finish().print()
    }

    /// Fingerprint of a value, from its digest; see [`crate::keys::value_digest`].
    #[must_use]
    pub fn value_print(&self, digest: &Hash) -> KeyedPrint {
        keyed_hash(&self.keys.1, &[digest.as_bytes()]).print()
    }

    /// Records resolutions as the settings say for reads; refusals are recorded even where reads are not.
    /// Values may be given away once this returns.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] in a process that cannot record them as the settings demand; otherwise as a write.
    pub fn record(&self, resolved: &[Resolved<'_>]) -> Result<(), Error> {
        self.core.open_still()?;
        let reads = self.core.settings.audit.reads;
        let wanted = |one: &&Resolved<'_>| reads != AuditReads::Off || one.reason.is_some();
        let mut wanted = resolved.iter().filter(wanted).peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        let strict = reads == AuditReads::Strict;
        if self.core.read_only || strict {
            // A reading process cannot make it durable in the chain: no value may be given away.
            if self.core.read_only && strict && resolved.iter().any(|one| one.reason.is_none()) {
                return Err(Error::ReadOnly);
            }
            let events = reads::resolved(wanted.map(Resolved::note).collect());
            if !self.core.read_only {
                return self.core.execute(&self.caller, |_, _| Ok::<_, Error>((events, ()))).map(|_| ());
            }
            return events.iter().try_for_each(|event| self.core.spool(&self.caller, event));
        }
        for one in wanted {
            let way = (one.print, one.reason);
            match self.core.reads.add_resolution(&self.caller, way, one.at, || one.note()) {
                Fill::Room => {}
                Fill::Due if self.core.background => self.core.signal.wake(),
                Fill::Due | Fill::Full => self.core.record_reads()?,
            }
        }
        Ok(())
    }
}
