//! Refreshes: begun, answered and recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::auth::{self, AuthError, RefreshResult, Started};
use crate::backend::BackendError;
use crate::base::{Context, ProfileId, SecretPath, StateRead, limits};
use crate::event::auth::{CredentialSource, FailureKind, Profile};
use crate::event::vault::PutCause;

use super::super::core::TableState;
use super::super::error::Error;
use super::{Auth, Awaiting, NewTokens, RefreshTicket, Write};

impl Auth {
    /// Profiles whose tokens are to be refreshed by now, the longest due first.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn due(&self) -> Result<Vec<ProfileId>, Error> {
        let (now, window) = (self.now(), self.window_ms());
        let mut found: Vec<_> = auth::list_profiles(&self.core.index)
            .map_err(AuthError::from)?
            .into_iter()
            .filter_map(|(record, runtime)| {
                let at = auth::due(&record.profile, &runtime, window).filter(|at| now >= *at)?;
                Some((at, record.profile.id))
            })
            .collect();
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// Says that an answer is awaited, until what is given goes.
    #[must_use]
    pub fn awaiting(&self) -> Awaiting {
        self.core.awaited.fetch_add(1, Ordering::AcqRel);
        Awaiting(Arc::clone(&self.core))
    }

    /// Whether somebody waits for a provider's answer, to record it here.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.core.awaited.load(Ordering::Acquire) > 0
    }

    /// Every enabled profile that can be refreshed, due or not.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn refreshable(&self) -> Result<Vec<ProfileId>, Error> {
        let can = |profile: &Profile| match &profile.credential {
            CredentialSource::Oauth(source) => profile.enabled && source.refresh.is_some(),
            CredentialSource::ApiKey(_) => false,
        };
        let all = auth::list_profiles(&self.core.index).map_err(AuthError::from)?;
        Ok(all.into_iter().map(|(record, _)| record.profile).filter(can).map(|profile| profile.id).collect())
    }

    /// Begins a refresh: on return it is durable, and its tokens may be sent. `force` refreshes what is not
    /// due, cools down or waits for a person; it never runs beside another refresh.
    ///
    /// # Errors
    /// [`AuthError`] where it may not begin; [`Error::Vault`] where a secret that it needs is not there,
    /// which is recorded as its failure.
    pub fn begin_refresh(&self, id: &ProfileId, force: bool) -> Result<RefreshTicket, Error> {
        // A token that may be spent once is not sent while its successor could not be kept.
        self.core.check_outside()?;
        let (number, started) = self.queue_refresh(id, force)?;
        self.core.wait(number)?;
        self.ticket(started)
    }

    /// Begins many refreshes, durable together; each as [`Auth::begin_refresh`], in the order of the ids.
    pub fn begin_refreshes(&self, ids: &[ProfileId], force: bool) -> Vec<Result<RefreshTicket, Error>> {
        // Asked once: a keystore that does not answer takes its time to do so.
        let mut obstacle = None;
        let mut check = || match &obstacle {
            Some(error) => Err(BackendError::Keystore(Clone::clone(error)).into()),
            None => self.core.check_outside().inspect_err(|error| {
                if let Error::Backend(BackendError::Keystore(error)) = error {
                    obstacle = Some(error.clone());
                }
            }),
        };
        let queued: Vec<_> = ids.iter().map(|id| check().and_then(|()| self.queue_refresh(id, force))).collect();
        let begun = |queued: Result<(u64, Started), Error>| {
            let (number, started) = queued?;
            self.core.wait(number)?;
            self.ticket(started)
        };
        queued.into_iter().map(begun).collect()
    }

    fn queue_refresh(&self, id: &ProfileId, force: bool) -> Result<(u64, Started), Error> {
        let (window, lease) = (self.window_ms(), self.core.settings.auth.refresh_lease_s * 1000);
        let (ticket, started) = self
            .core
            .enqueue(&self.caller, |state, context| auth::decide_refresh(state, context, id, window, lease, force))?;
        Ok((ticket.number(), started))
    }

    /// What a refresh that is durable sends.
    fn ticket(&self, mut started: Started) -> Result<RefreshTicket, Error> {
        let id = &started.profile.id;
        let wanted = started.source.refresh.as_ref().ok_or_else(|| AuthError::NoRefreshToken(id.clone()))?;
        let read = |reference: &SecretPath| self.read(reference);
        let secrets = read(wanted).and_then(|refresh| {
            let secret = started.source.client_secret.as_ref().map(read).transpose()?;
            Ok((refresh, secret))
        });
        match secrets {
            Ok(((refresh_token, version), client_secret)) => {
                started.refresh_version = version;
                let client_secret = client_secret.map(|(secret, _)| secret);
                Ok(RefreshTicket { started, refresh_token, client_secret })
            }
            Err(error) => {
                // Nothing was sent: the refresh is over. It is tried again by itself once the secret is there.
                let what = format!("a secret that it names cannot be read: {error}");
                let failure = FailureKind::ConfigMissing;
                let result = RefreshResult::Failed { failure, what, retry_after_ms: None, unanswered: false };
                self.run(|state, context| auth::decide_refreshed(state, context, &started, &result))?;
                Err(error)
            }
        }
    }

    /// The refresh under way, for whoever completes it in the place of the process that began it.
    ///
    /// # Errors
    /// [`AuthError::Superseded`] where it is no longer under way.
    pub fn resume(&self, id: &ProfileId, generation: u64) -> Result<Started, Error> {
        Ok(auth::resume(&self.core.index, id, generation)?)
    }

    /// Completes a refresh: new tokens, their end and the profile's health in one batch, if it is still the
    /// refresh that is under way. A refresh token that a person wrote meanwhile stays.
    ///
    /// # Errors
    /// [`AuthError::Superseded`] where it is not.
    pub fn renewed(&self, started: &Started, tokens: &NewTokens) -> Result<(), Error> {
        let table = self.core.table();
        let number = self.queue_renewed(&table, started, tokens)?;
        self.core.wait(number)
    }

    fn queue_renewed(&self, table: &TableState, started: &Started, tokens: &NewTokens) -> Result<u64, Error> {
        let NewTokens { access, refresh, expires_at, answer } = tokens;
        let result =
            RefreshResult::Renewed { expires_at: *expires_at, rotated: refresh.is_some(), answer: answer.clone() };
        let cause = &PutCause::Refreshed { profile: started.profile.id.clone(), generation: started.generation };
        let mut writes =
            vec![Write { place: &started.source.access, value: access, expires_at: *expires_at, over: None, cause }];
        if let (Some(place), Some(token)) = (&started.source.refresh, refresh) {
            let sent = Some(started.refresh_version).filter(|version| *version > 0);
            writes.push(Write { place, value: token, expires_at: None, over: sent, cause });
        }
        self.queue_write(table, &writes, None, |state, context| {
            auth::decide_refreshed(state, context, started, &result).map(|(events, _)| (events, ()))
        })
    }

    /// Records that a refresh failed; gives what is recorded.
    ///
    /// # Errors
    /// [`AuthError::Superseded`] where it is no longer under way.
    pub fn refresh_failed(&self, started: &Started, result: &RefreshResult) -> Result<RefreshResult, Error> {
        self.run(|state, context| auth::decide_refreshed(state, context, started, result))
    }

    /// Completes many refreshes, each in a batch of its own and all durable together, in their order: new
    /// tokens as [`Auth::renewed`], or how it failed as [`Auth::refresh_failed`]. Gives what is recorded.
    pub fn complete_refreshes(
        &self,
        ended: &[(Started, Result<NewTokens, RefreshResult>)],
    ) -> Vec<Result<RefreshResult, Error>> {
        let table = self.core.table();
        let mut done = Vec::with_capacity(ended.len());
        // Bounded, since nothing that is queued here is written before it is waited for.
        for ended in ended.chunks(limits::REFRESHES_QUEUED_MAX) {
            let queue = |(started, how): &(Started, Result<NewTokens, RefreshResult>)| match how {
                Ok(tokens) => {
                    let number = self.queue_renewed(&table, started, tokens)?;
                    let rotated = tokens.refresh.is_some();
                    let (expires_at, answer) = (tokens.expires_at, tokens.answer.clone());
                    Ok((number, RefreshResult::Renewed { expires_at, rotated, answer }))
                }
                Err(result) => {
                    let decide = |state: &dyn StateRead, context: &Context| {
                        auth::decide_refreshed(state, context, started, result)
                    };
                    let (ticket, recorded) = self.core.enqueue(&self.caller, decide)?;
                    Ok((ticket.number(), recorded))
                }
            };
            let queued: Vec<Result<(u64, RefreshResult), Error>> = ended.iter().map(queue).collect();
            done.extend(queued.into_iter().map(|queued| {
                let (number, recorded) = queued?;
                self.core.wait(number).map(|()| recorded)
            }));
        }
        done
    }
}
