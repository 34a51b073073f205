//! Comparing what a source holds with what is here: what differs is said, and opened only where nothing else tells.

use std::collections::BTreeSet;

use crate::base::SecretPath;
use crate::event::import::SourceForm;
use crate::import::FoundSecret;
use crate::vault::{self, Head, VaultError, VersionRecord, VersionState};

use super::core::Core;
use super::error::Error;
use super::export::Source;

/// A value that must be opened to be compared.
struct Open {
    /// Which of the secrets.
    secret: usize,
    record: VersionRecord,
    /// Its place in what was gathered.
    found: usize,
}

/// Secrets that are here already, and how they differ from those of a source.
pub struct Comparison<'a> {
    core: &'a Core,
    form: SourceForm,
    open: Vec<Open>,
}

impl<'a> Comparison<'a> {
    /// Nothing is compared yet.
    pub const fn new(core: &'a Core, form: SourceForm) -> Self {
        Self { core, form, open: Vec::new() }
    }

    /// What differs as far as it can be told without opening a value; the rest is opened later. The last versions
    /// here that still have values are compared, as many as the source has, of which the first stands at `first`.
    pub fn add(
        &mut self,
        secret: usize,
        path: &SecretPath,
        head: &Head,
        (first, versions): (usize, &[FoundSecret]),
    ) -> Result<Vec<&'static str>, Error> {
        let mut differs = Vec::new();
        // What another form does not tell, it does not tell otherwise.
        let whole = self.form == SourceForm::Json;
        if !whole && head.current.shredded.is_some() {
            return Ok(vec!["its newest version was shredded"]);
        }
        let mut records = vault::list_versions(&self.core.index, path, head).map_err(VaultError::from)?;
        records.retain(|record| record.shredded.is_none());
        let Some(from) = records.len().checked_sub(versions.len()) else {
            return Ok(vec!["fewer versions have a value"]);
        };
        let pairs: Vec<_> = records.into_iter().skip(from).zip((first..).zip(versions)).collect();
        if pairs.iter().any(|(record, (_, found))| record.value_bytes as usize != found.value.len()) {
            differs.push("its value is another");
        }
        if pairs.iter().any(|(record, (_, found))| (head.state_of(record) == VersionState::Deleted) != found.deleted) {
            differs.push(if whole { "it is deleted in one place alone" } else { "it is deleted" });
        }
        if whole && pairs.iter().any(|(record, (_, found))| record.expires_at != found.expires_at) {
            differs.push("it expires at another time");
        }
        let told = versions.last().filter(|_| whole);
        if told.is_some_and(|told| told.description != head.description) {
            differs.push("its description is another");
        }
        if told.is_some_and(|told| told.labels != head.labels) {
            differs.push("its labels are others");
        }
        if differs.is_empty() {
            self.open.extend(pairs.into_iter().map(|(record, (found, _))| Open { secret, record, found }));
        }
        Ok(differs)
    }

    /// Opens what must be opened, in the order of the log, so that an event with many secrets is opened once; gives
    /// the secrets whose values differ.
    pub fn finish(mut self, secrets: &[FoundSecret]) -> Result<BTreeSet<usize>, Error> {
        self.open.sort_by_key(|one| (one.record.seq, one.record.slot));
        let (mut differ, mut source) = (BTreeSet::new(), Source::default());
        for one in &self.open {
            let Some(found) = secrets.get(one.found) else { continue };
            if source.value(self.core, &found.path, &one.record)? != found.value {
                differ.insert(one.secret);
            }
        }
        Ok(differ)
    }
}
