//! Giving out everything at once, for whoever leaves or moves: recorded before a value is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::{self, AuthError};
use crate::base::{BackendKind, Caller, SecretBytes, SecretPath, limits};
use crate::event::Event;
use crate::event::auth::UsageNote;
use crate::event::import::{ImportedOrder, ImportedProfile, OriginTimes};
use crate::event::vault::{ReadNote, SecretsRead, VaultExported};
use crate::vault::{self, Head, VaultError, VersionRecord, VersionState};

use super::core::Core;
use super::error::Error;
use super::execute::Committed;

/// One version that is given out.
#[derive(Debug)]
pub struct ExportedVersion {
    /// Its number.
    pub version: u32,
    /// The value.
    pub value: SecretBytes,
    /// When it was made and last changed; of one that was imported, as its source said.
    pub times: OriginTimes,
    /// When it is to be replaced.
    pub expires_at: Option<crate::base::Timestamp>,
    /// Whether it is hidden.
    pub deleted: bool,
}

/// One secret that is given out.
#[derive(Debug)]
pub struct ExportedSecret {
    /// Which.
    pub path: SecretPath,
    /// Description.
    pub description: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its versions that still have values, oldest first.
    pub versions: Vec<ExportedVersion>,
}

/// Giving out, for one caller.
#[derive(Clone)]
pub struct Exports {
    core: Arc<Core>,
    caller: Caller,
}

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exports").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Exports {
    pub(super) const fn new(core: Arc<Core>, caller: Caller) -> Self {
        Self { core, caller }
    }

    /// Every secret with every version that still has a value. The reads, and to whom everything goes, are durable
    /// in the log before this returns.
    ///
    /// # Errors
    /// What is damaged or not there: then nothing is given.
    pub fn secrets(
        &self,
        recipients: &[String],
        progress: &super::import::Progress<'_>,
    ) -> Result<(Vec<ExportedSecret>, Committed), Error> {
        let core = &*self.core;
        core.open_still()?;
        let mut heads: Vec<(SecretPath, Head)> = Vec::new();
        let from = vault::heads_from();
        vault::list_heads(&core.index, &from, &crate::base::prefix_end(&from), &mut |path, head| {
            heads.push((path, head));
            std::ops::ControlFlow::Continue(())
        })
        .map_err(VaultError::from)?;
        let mut wanted: Vec<(usize, VersionRecord)> = Vec::new();
        for (at, (path, head)) in heads.iter().enumerate() {
            let records = vault::list_versions(&core.index, path, head).map_err(VaultError::from)?;
            wanted.extend(records.into_iter().filter(|one| one.shredded.is_none()).map(|record| (at, record)));
        }
        // In the order of the log: an event with many secrets is opened once.
        wanted.sort_by_key(|(_, record)| (record.seq, record.slot));
        let mut versions: BTreeMap<usize, Vec<ExportedVersion>> = BTreeMap::new();
        let (of, mut source) = (wanted.len() as u64, Source::default());
        for (done, (at, record)) in (0..).zip(&wanted) {
            if done % 256 == 0 {
                progress(done, of);
            }
            let Some((path, head)) = heads.get(*at) else { continue };
            let value = source.value(core, path, record)?;
            let origin = vault::origin_of(&core.index, path, record.version).map_err(VaultError::from)?;
            let updated = if record.version == head.current.version { head.updated } else { record.created };
            let times = origin.unwrap_or(OriginTimes { created: record.created, updated });
            let deleted = head.state_of(record) == VersionState::Deleted;
            let (version, expires_at) = (record.version, record.expires_at);
            versions.entry(*at).or_default().push(ExportedVersion { version, value, times, expires_at, deleted });
        }
        let committed = self.record(recipients, &heads, &versions, of)?;
        let secrets = versions.into_iter().filter_map(|(at, mut versions)| {
            versions.sort_by_key(|one| one.version);
            let (path, head) = heads.get(at)?;
            let (description, labels) = (head.description.clone(), head.labels.clone());
            Some(ExportedSecret { path: path.clone(), description, labels, versions })
        });
        Ok((secrets.collect(), committed))
    }

    fn record(
        &self,
        recipients: &[String],
        heads: &[(SecretPath, Head)],
        given: &BTreeMap<usize, Vec<ExportedVersion>>,
        versions: u64,
    ) -> Result<Committed, Error> {
        let (secrets, recipients) = (given.len() as u64, recipients.to_vec());
        let done = self.core.execute(&self.caller, |_, context| {
            let mut reads = Vec::new();
            for (at, versions) in given {
                let Some((path, _)) = heads.get(*at) else { continue };
                reads.extend(versions.iter().map(|one| ReadNote {
                    scope: path.scope.clone(),
                    name: path.name.clone(),
                    version: one.version,
                    count: 1,
                    first: context.now,
                    last: context.now,
                }));
            }
            let mut events = vec![Event::VaultExported(VaultExported { secrets, versions, recipients })];
            for chunk in reads.chunks(limits::READS_BATCH_MAX) {
                events.push(Event::SecretsRead(SecretsRead { reads: chunk.to_vec() }));
            }
            Ok::<_, Error>((events, ()))
        })?;
        Ok(done.0)
    }

    /// Every profile with what became of it, and every order.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn credentials(&self) -> Result<(Vec<ImportedProfile>, Vec<ImportedOrder>), Error> {
        let index = &self.core.index;
        let mut profiles = Vec::new();
        for (record, runtime) in auth::list_profiles(index).map_err(AuthError::from)? {
            let id = record.profile.id.clone();
            let origin = auth::profile_origin(index, &id).map_err(AuthError::from)?;
            let usage = UsageNote {
                profile: id,
                successes: 0,
                failures: 0,
                last_used: runtime.last_used,
                last_success: runtime.last_success,
                last_failure: runtime.last_failure,
                failure: runtime.failure,
                failure_count: runtime.failure_count,
                cooldown_until: runtime.cooldown_until,
                probe_until: None,
            };
            profiles.push(ImportedProfile {
                expires_at: runtime.expires_at,
                usage: Some(usage),
                origin: origin.unwrap_or(OriginTimes { created: record.created, updated: record.updated }),
                profile: record.profile,
            });
        }
        let orders = auth::list_orders(index).map_err(AuthError::from)?.into_iter().map(|order| ImportedOrder {
            scope: order.scope,
            provider: order.provider,
            profiles: order.profiles,
            updated_at: Some(order.updated),
        });
        Ok((profiles, orders.collect()))
    }
}

/// The event with many secrets that was opened last.
#[derive(Default)]
pub(super) struct Source {
    seq: u64,
    envelopes: BTreeMap<u64, Vec<u8>>,
}

impl Source {
    pub(super) fn value(
        &mut self,
        core: &Core,
        path: &SecretPath,
        record: &VersionRecord,
    ) -> Result<SecretBytes, Error> {
        if core.backend_state()?.kind != BackendKind::Ledger {
            return core.value_of(path, record);
        }
        if self.seq != record.seq || self.envelopes.is_empty() {
            self.seq = record.seq;
            self.envelopes = core.envelopes_of(record.seq)?;
        }
        match self.envelopes.get(&record.slot) {
            Some(envelope) => core.open_with(path, record, envelope),
            // It came back into the log from elsewhere.
            None => core.value_of(path, record),
        }
    }
}
