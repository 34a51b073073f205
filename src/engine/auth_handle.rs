//! Service credentials as an embedding program sees them.

mod refresh;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::auth::documents::{self, Documents, Edit, Plan, Problem};
use crate::auth::{self, AnswerNote, AuthError, Chosen, Order, ProfileRecord, Query, Runtime, Started};
use crate::base::{
    Caller, Context, ProfileId, ProfileScope, Provider, SecretBytes, SecretPath, StateRead, Timestamp, limits,
};
use crate::event::Event;
use crate::event::auth::{CredentialSource, FailureKind, LoginFlow, Profile, UsageReported};
use crate::event::import::OriginTimes;
use crate::event::vault::{PutCause, Versions};
use crate::vault::{self, Expect, Material, Metadata, Put, Select, VaultError};

use super::core::{Core, TableState};
use super::error::Error;
use super::replay::Replay;
use super::vault_handle::GetOptions;

/// Which profiles to list.
#[derive(Debug, Clone, Default)]
pub struct AuthFilter {
    /// Only this service.
    pub provider: Option<Provider>,
    /// Only this scope.
    pub scope: Option<ProfileScope>,
    /// Only enabled or disabled ones.
    pub enabled: Option<bool>,
    /// Only ids after this one: the next page.
    pub after: Option<ProfileId>,
    /// At most this many.
    pub limit: Option<usize>,
}

/// One page of profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The profiles, by id.
    pub profiles: Vec<(ProfileRecord, Runtime)>,
    /// Where the next page begins, if there is one.
    pub next: Option<ProfileId>,
}

/// Tokens that a provider gave.
#[derive(Debug)]
pub struct NewTokens {
    /// The access token.
    pub access: SecretBytes,
    /// A new refresh token, where there is one.
    pub refresh: Option<SecretBytes>,
    /// When the access token ends.
    pub expires_at: Option<Timestamp>,
    /// What else is known of the answer.
    pub answer: AnswerNote,
}

/// A refresh that was begun: it is durable, and nobody else begins one before its lease is over.
#[derive(Debug)]
pub struct RefreshTicket {
    /// What is refreshed.
    pub started: Started,
    /// The refresh token.
    pub refresh_token: SecretBytes,
    /// The client secret, where the client has one.
    pub client_secret: Option<SecretBytes>,
}

/// Service credentials, for one caller.
///
/// ```
/// # use palyra_ledger::{Config, Ledger, NewSlot};
/// # use palyra_ledger::{auth::Query, event::auth::{CredentialSource, Profile}};
/// # let dir = tempfile::tempdir()?;
/// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
/// let auth = ledger.auth();
/// auth.set(Profile {
///     id: "openai-main".parse()?,
///     provider: "openai".parse()?,
///     name: "main key".into(),
///     scope: "global".parse()?,
///     enabled: true,
///     credential: CredentialSource::ApiKey("global/openai_api_key".parse()?),
/// }, None)?;
/// let chosen = auth.select(&Query::default(), false)?;
/// auth.report_success(&chosen.profile.id)?;        // in memory; recorded within a second
/// # ledger.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Auth {
    core: Arc<Core>,
    caller: Caller,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Somebody waits for a provider's answer, to record it in this ledger: whoever is about to close it waits.
pub struct Awaiting(Arc<Core>);

impl std::fmt::Debug for Awaiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Awaiting(..)")
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A secret that is written in one batch with an event.
struct Write<'a> {
    place: &'a SecretPath,
    value: &'a SecretBytes,
    expires_at: Option<Timestamp>,
    /// Only over this version: whoever wrote another one meanwhile meant it.
    over: Option<u32>,
    /// How the value came.
    cause: &'a PutCause,
}

enum Attempt {
    NoSlot,
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What is to be written, but for what somebody else wrote meanwhile.
fn still_wanted<'a>(state: &dyn StateRead, writes: &'a [Write<'a>]) -> Result<Vec<(usize, &'a Write<'a>)>, Error> {
    let mut wanted = Vec::with_capacity(writes.len());
    for (at, write) in writes.iter().enumerate() {
        let head = vault::find_head(state, &write.place.scope, &write.place.name).map_err(VaultError::from)?;
        if write.over.is_none_or(|over| head.is_none_or(|head| head.current.version == over)) {
            wanted.push((at, write));
        }
    }
    Ok(wanted)
}

/// New versions of secrets, and what `left_over` names deleted.
fn puts(
    state: &dyn StateRead,
    context: &Context,
    writes: &[(&Write<'_>, Material<'_>)],
    left_over: Option<&SecretPath>,
) -> Result<Vec<Event>, Error> {
    // An answer is bounded already; a token that a setting refused would be lost for good.
    let (max_bytes, expect) = (limits::VALUE_MAX_CEILING, Expect::Anything);
    let mut events = Vec::new();
    for (write, material) in writes {
        let material = *material;
        let metadata = Metadata { expires_at: Some(write.expires_at), ..Metadata::default() };
        let (target, value, metadata, cause) = (write.place, write.value, &metadata, write.cause);
        let command = Put { target, value, max_bytes, expect, metadata, material, cause };
        events.extend(vault::decide_put(state, &command, context)?.events);
    }
    if let Some(target) = left_over {
        match vault::decide_delete(state, &Select { target, versions: Versions::All, expect }) {
            Ok(decided) => events.extend(decided.events),
            Err(VaultError::NotFound { .. } | VaultError::Shredded { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(events)
}

impl Core {
    /// Commits what was reported in memory.
    pub(super) fn record_usage(&self) -> Result<(), Error> {
        let Some(registry) = self.registry.get() else { return Ok(()) };
        let (mut notes, mut failovers) = (Vec::new(), Vec::new());
        // Taken within the decision: nothing that is decided before it can be overwritten by what it says.
        let done = self.execute(&Caller::system(), |_, _| {
            (notes, failovers) = registry.take();
            let mut events: Vec<_> = failovers.iter().cloned().map(Event::FailedOver).collect();
            // Two thousand and more profiles fit one body many times over.
            let bodies = notes.chunks(2048).map(|notes| UsageReported { notes: notes.to_vec() });
            events.extend(bodies.map(Event::UsageReported));
            Ok::<_, Error>((events, ()))
        });
        match done {
            Ok(_) => registry.recorded(&notes),
            Err(_) => registry.put_back(&notes, failovers, self.clock.now()),
        }
        done.map(|_| ())
    }
}

impl Auth {
    pub(super) const fn new(core: Arc<Core>, caller: Caller) -> Self {
        Self { core, caller }
    }

    fn run<T>(
        &self,
        decide: impl FnOnce(&dyn StateRead, &Context) -> Result<(Vec<Event>, T), AuthError>,
    ) -> Result<T, Error> {
        self.core.execute(&self.caller, decide).map(|(_, value)| value)
    }

    fn window_ms(&self) -> u64 {
        self.core.settings.auth.refresh_window_s * 1000
    }

    /// The time, as health and selection see it: never behind the log.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let latest = self.core.latest.load(Ordering::Acquire);
        self.core.clock.now().max(Timestamp::from_millis(latest))
    }

    /// How long before its end a token counts as expiring, in milliseconds.
    #[must_use]
    pub fn refresh_window_ms(&self) -> u64 {
        self.window_ms()
    }

    /// Makes or changes a profile. `expires_at` is the end of its access token, where that is known.
    ///
    /// # Errors
    /// [`AuthError`] in [`Error::Auth`] where a field is refused.
    pub fn set(&self, profile: Profile, expires_at: Option<Timestamp>) -> Result<(), Error> {
        // What is reported so far is about the credential as it was: another one begins anew.
        self.core.record_usage()?;
        self.run(|state, context| auth::decide_set(state, context, profile, expires_at))
    }

    /// Enables or disables a profile.
    ///
    /// # Errors
    /// [`AuthError::NoProfile`].
    pub fn enable(&self, id: &ProfileId, enabled: bool) -> Result<(), Error> {
        self.run(|state, _| auth::decide_enable(state, id, enabled))
    }

    /// Deletes a profile. The secrets that it named stay.
    ///
    /// # Errors
    /// [`AuthError::NoProfile`]; [`AuthError::Busy`] while it is refreshed.
    pub fn delete(&self, id: &ProfileId) -> Result<(), Error> {
        self.run(|state, context| auth::decide_delete(state, context, id))
    }

    /// Forgets a profile's failures.
    ///
    /// # Errors
    /// [`AuthError::NoProfile`].
    pub fn clear(&self, id: &ProfileId) -> Result<(), Error> {
        self.core.record_usage()?;
        self.run(|state, _| auth::decide_clear(state, id))
    }

    /// Sets the order in which profiles are preferred; an empty one removes it.
    ///
    /// # Errors
    /// [`AuthError::Order`].
    pub fn set_order(&self, scope: ProfileScope, provider: Provider, profiles: Vec<ProfileId>) -> Result<(), Error> {
        self.run(|state, _| auth::decide_order(state, scope, provider, profiles))
    }

    /// The profile whose refresh or login writes a secret, and whether a new grant is what replaces it: it is
    /// where the secret is no access token, which a refresh replaces, or where the profile is disabled.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn writer(&self, path: &SecretPath) -> Result<Option<(ProfileId, bool)>, Error> {
        let state = &self.core.index;
        let Some(id) = auth::find_writer(state, path).map_err(AuthError::from)? else { return Ok(None) };
        let record = auth::find_profile(state, &id).map_err(AuthError::from)?;
        let anew = record.is_none_or(|record| match &record.profile.credential {
            CredentialSource::Oauth(source) => source.access != *path || !record.profile.enabled,
            CredentialSource::ApiKey(_) => true,
        });
        Ok(Some((id, anew)))
    }

    /// Every order.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn orders(&self) -> Result<Vec<Order>, Error> {
        Ok(auth::list_orders(&self.core.index).map_err(AuthError::from)?)
    }

    /// One profile, as recorded.
    ///
    /// # Errors
    /// [`AuthError::NoProfile`].
    pub fn profile(&self, id: &ProfileId) -> Result<(ProfileRecord, Runtime), Error> {
        let found = auth::find_profile(&self.core.index, id).map_err(AuthError::from)?;
        let record = found.ok_or_else(|| AuthError::NoProfile(id.clone()))?;
        Ok((record, auth::find_runtime(&self.core.index, id).map_err(AuthError::from)?))
    }

    /// What another store said of a profile's times, where it came from one.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn origin(&self, id: &ProfileId) -> Result<Option<OriginTimes>, Error> {
        Ok(auth::profile_origin(&self.core.index, id).map_err(AuthError::from)?)
    }

    /// Profiles by id, filtered and by pages.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn profiles(&self, filter: &AuthFilter) -> Result<Page, Error> {
        let all = auth::list_profiles(&self.core.index).map_err(AuthError::from)?;
        let fits = |(record, _): &(ProfileRecord, Runtime)| {
            let profile = &record.profile;
            filter.provider.as_ref().is_none_or(|provider| profile.provider == *provider)
                && filter.scope.as_ref().is_none_or(|scope| profile.scope == *scope)
                && filter.enabled.is_none_or(|enabled| profile.enabled == enabled)
                && filter.after.as_ref().is_none_or(|after| profile.id > *after)
        };
        let mut profiles: Vec<_> = all.into_iter().filter(fits).collect();
        let limit = filter.limit.unwrap_or(usize::MAX);
        let more = profiles.len() > limit;
        profiles.truncate(limit);
        let next = profiles.last().filter(|_| more).map(|(record, _)| record.profile.id.clone());
        Ok(Page { profiles, next })
    }

    /// Chooses a profile; see [`auth::Registry::select`]. In memory but for the first call.
    ///
    /// # Errors
    /// [`AuthError::NoCandidate`] with every reason, where none may be used.
    pub fn select(&self, query: &Query, explain: bool) -> Result<Chosen, Error> {
        self.select_at(query, explain, self.now())
    }

    fn select_at(&self, query: &Query, explain: bool, now: Timestamp) -> Result<Chosen, Error> {
        self.core.open_still()?;
        let chosen = self.core.registry()?.select(query, now, explain);
        chosen.map_err(|skipped| AuthError::NoCandidate(skipped).into())
    }

    /// Reports that a profile served. In memory; recorded within a second, and when the ledger closes.
    ///
    /// # Errors
    /// [`AuthError::NoProfile`].
    pub fn report_success(&self, id: &ProfileId) -> Result<(), Error> {
        self.core.open_still()?;
        if self.core.registry()?.succeeded(id, self.now()) {
            return Ok(());
        }
        self.untaken(id)
    }

    /// Reports that a profile failed; `retry_after_ms` is what the provider asks for. In memory, as
    /// [`Auth::report_success`]; it may bench the profile at once.
    ///
    /// # Errors
    /// [`AuthError::NoProfile`].
    pub fn report_failure(&self, id: &ProfileId, kind: FailureKind, retry_after_ms: Option<u64>) -> Result<(), Error> {
        self.core.open_still()?;
        let random = u32::from_le_bytes(self.core.random.array()?);
        if self.core.registry()?.failed(id, kind, retry_after_ms, random, self.now()) {
            return Ok(());
        }
        self.untaken(id)
    }

    /// Why a report was not taken.
    fn untaken(&self, id: &ProfileId) -> Result<(), Error> {
        let closed = self.core.registry()?.is_sealed();
        Err(if closed { Error::Closed } else { AuthError::NoProfile(id.clone()).into() })
    }

    /// Records what was reported so far.
    ///
    /// # Errors
    /// As a write.
    pub fn flush_usage(&self) -> Result<(), Error> {
        self.core.record_usage()
    }

    /// Whether a profile may be kept, before somebody is asked to log in for it.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn admit(&self, profile: &Profile) -> Result<(), Error> {
        Ok(auth::admit(&self.core.index, profile)?)
    }

    /// A secret and its version.
    fn read(&self, reference: &SecretPath) -> Result<(SecretBytes, u32), Error> {
        let vault =
            super::vault_handle::Vault::new(Arc::clone(&self.core), reference.scope.clone(), self.caller.clone());
        let secret = vault.get_with(&reference.name, GetOptions::current())?;
        Ok((secret.value, secret.info.version))
    }

    /// Records a login: profile and tokens in one batch.
    ///
    /// # Errors
    /// [`AuthError`] where the profile is refused.
    pub fn logged_in(&self, profile: &Profile, flow: LoginFlow, tokens: &NewTokens) -> Result<(), Error> {
        let CredentialSource::Oauth(source) = &profile.credential else {
            return Err(AuthError::Static(profile.id.clone()).into());
        };
        self.core.record_usage()?;
        let NewTokens { access, refresh, expires_at, .. } = tokens;
        let cause = &PutCause::LoggedIn(profile.id.clone());
        let write = |place, value, expires_at| Write { place, value, expires_at, over: None, cause };
        let mut writes = vec![write(&source.access, access, *expires_at)];
        if let (Some(place), Some(token)) = (&source.refresh, refresh) {
            writes.push(write(place, token, None));
        }
        // What is left of the grant before must not be sent in the name of this one.
        let left_over = source.refresh.as_ref().filter(|_| refresh.is_none());
        let table = self.core.table();
        let number = self.queue_write(&table, &writes, left_over, |state, _| {
            auth::decide_login(state, profile.clone(), flow, *expires_at)
        })?;
        self.core.wait(number)
    }

    /// The tokens that a logout gives up: refresh token and access token, as far as they can be read, and
    /// the client secret.
    ///
    /// # Errors
    /// [`AuthError`] where there is no such profile or it holds an API key.
    pub fn tokens(&self, id: &ProfileId) -> Result<(Vec<SecretBytes>, Option<SecretBytes>), Error> {
        let (record, _) = self.profile(id)?;
        let CredentialSource::Oauth(source) = record.profile.credential else {
            return Err(AuthError::Static(id.clone()).into());
        };
        let readable = |reference: &SecretPath| match self.read(reference) {
            Ok((value, _)) => Ok(Some(value)),
            Err(Error::Vault(
                VaultError::NotFound { .. } | VaultError::Deleted { .. } | VaultError::Shredded { .. },
            )) => Ok(None),
            Err(error) => Err(error),
        };
        let mut tokens = Vec::new();
        for place in source.refresh.iter().chain([&source.access]) {
            tokens.extend(readable(place)?);
        }
        let secret = source.client_secret.as_ref().map(readable).transpose()?.flatten();
        Ok((tokens, secret))
    }

    /// Records a logout and shreds the tokens, all versions of them. `revoked`: the provider confirmed it.
    ///
    /// # Errors
    /// [`AuthError`] where there is no such profile, it holds an API key, or it is being refreshed.
    pub fn logged_out(&self, id: &ProfileId, revoked: bool) -> Result<(), Error> {
        self.log_out(id, revoked, None)
    }

    /// The same, if no refresh was begun since the tokens were read that the provider was given: `generation` is
    /// the number of the profile's last refresh then.
    ///
    /// # Errors
    /// [`AuthError::Superseded`] where one was; otherwise as [`Auth::logged_out`].
    pub fn logged_out_at(&self, id: &ProfileId, revoked: bool, generation: u64) -> Result<(), Error> {
        self.log_out(id, revoked, Some(generation))
    }

    fn log_out(&self, id: &ProfileId, revoked: bool, generation: Option<u64>) -> Result<(), Error> {
        self.core.record_usage()?;
        // Held until the slots are overwritten: a root rotation must not carry them over.
        let table = self.core.table();
        self.core.execute(&self.caller, |state, context| {
            let (mut events, source) = auth::decide_logout(state, context, id, revoked, generation)?;
            for target in source.refresh.iter().chain([&source.access]) {
                let command = Select { target, versions: Versions::All, expect: Expect::Anything };
                match vault::decide_shred(state, &command) {
                    Ok(decided) => events.extend(decided.events),
                    // What is not there, or shredded already, needs no shredding.
                    Err(VaultError::NotFound { .. } | VaultError::Shredded { .. }) => {}
                    Err(error) => return Err(Error::from(error)),
                }
            }
            Ok((events, ()))
        })?;
        self.core.carry_out_shreds(&table)
    }

    /// Events of a decision and new versions of secrets, in one batch; its number. What `left_over` names is deleted.
    /// The table is held until the batch is durable.
    fn queue_write(
        &self,
        table: &TableState,
        writes: &[Write<'_>],
        left_over: Option<&SecretPath>,
        decide: impl Fn(&dyn StateRead, &Context) -> Result<(Vec<Event>, ()), AuthError>,
    ) -> Result<u64, Error> {
        let values: Vec<_> = writes.iter().map(|write| (write.place, write.value)).collect();
        let mut tries = 0;
        loop {
            self.core.ready_slots(table)?;
            let kept = self.core.keep_outside(table, &values)?;
            let mut named = Vec::new();
            let attempt = self.core.enqueue_as(&self.caller, |state, context| {
                let (decided, ()) = decide(state, context).map_err(Error::from)?;
                let wanted = still_wanted(state, writes)?;
                let mut events = match &kept {
                    Some(kept) => {
                        let pair = |(at, write): &(usize, _)| Some((*write, Material::Sealed(kept.sealed.get(*at)?)));
                        let pairs: Vec<_> = wanted.iter().filter_map(pair).collect();
                        puts(state, context, &pairs, left_over)?
                    }
                    None => self.seal_now(table, state, context, &wanted, left_over)?,
                };
                named.extend(wanted.iter().map(|(at, _)| *at));
                events.extend(decided);
                Ok((events, ()))
            });
            if let Some(kept) = &kept {
                kept.discard(|at| attempt.is_ok() && named.contains(&at));
            }
            match attempt {
                Ok((ticket, ())) => return Ok(ticket.number()),
                Err(Attempt::NoSlot) => {}
                Err(Attempt::Failed(Error::Vault(VaultError::Overtaken { .. }))) if tries < limits::OUTSIDE_TRIES => {
                    tries += 1;
                }
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
    }

    /// New versions whose envelopes stand in their events.
    fn seal_now(
        &self,
        table: &TableState,
        state: &dyn StateRead,
        context: &Context,
        wanted: &[(usize, &Write<'_>)],
        left_over: Option<&SecretPath>,
    ) -> Result<Vec<Event>, Attempt> {
        let mut sealers = Vec::with_capacity(wanted.len());
        while sealers.len() < wanted.len()
            && let Some(sealer) = self.core.take_slot(table)
        {
            sealers.push(sealer);
        }
        let made = if sealers.len() == wanted.len() {
            let pairs: Vec<_> =
                wanted.iter().zip(&sealers).map(|((_, write), sealer)| (*write, Material::Seal(sealer))).collect();
            puts(state, context, &pairs, left_over).map_err(Attempt::from)
        } else {
            Err(Attempt::NoSlot)
        };
        if made.is_err() {
            sealers.into_iter().rev().for_each(|sealer| Core::return_slot(table, sealer));
        }
        made
    }

    /// What an edit of the documents asks for, or what is wrong with it by file and line. `base` is what the
    /// documents said before they were edited.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn plan(&self, edited: &Documents, base: Option<&Documents>) -> Result<Result<Plan, Vec<Problem>>, Error> {
        Ok(documents::plan(&self.core.index, edited, base).map_err(AuthError::from)?)
    }

    /// The two TOML documents as of now, from the live state; none where it changed meanwhile.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn documents(&self) -> Result<Option<Documents>, Error> {
        let last = self.core.journal.last();
        let Some(last) = last else { return Ok(None) };
        // The journal is ahead of the state while a batch is published.
        let published = || self.core.visible.load(Ordering::Acquire) == last.seq + 1;
        if !published() {
            return Ok(None);
        }
        let root = super::open::state_root(&self.core.index)?;
        // Not the configured window: the same bytes for the same event, on every machine.
        let made = documents::render(&self.core.index, last.seq, last.time, root, limits::REFRESH_WINDOW_MS);
        let made = made.map_err(AuthError::from)?;
        let same = self.core.journal.last().is_some_and(|now| now.seq == last.seq);
        Ok((same && published()).then_some(made))
    }

    /// Carries out an edit in one batch.
    ///
    /// # Errors
    /// [`AuthError`] where a change is refused; nothing is changed then.
    pub fn apply(&self, plan: &Plan) -> Result<(), Error> {
        self.core.record_usage()?;
        self.run(|state, context| {
            let mut staged = super::overlay::Overlay::default();
            let mut events = Vec::new();
            for edit in &plan.edits {
                let view = staged.on(state);
                let (decided, ()) = match edit {
                    Edit::Set(profile, expires_at) => {
                        auth::decide_set(&view, context, Profile::clone(profile), *expires_at)?
                    }
                    Edit::Delete(id) => auth::decide_delete(&view, context, id)?,
                    Edit::Clear(id) => auth::decide_clear(&view, id)?,
                    Edit::Order(scope, provider, profiles) => {
                        auth::decide_order(&view, scope.clone(), provider.clone(), profiles.clone())?
                    }
                };
                for event in decided {
                    // The time of a record does not matter to the decisions that follow.
                    let delta = auth::apply(&staged.on(state), Timestamp::default(), &event)?;
                    staged.stage(0, &delta);
                    events.push(event);
                }
            }
            Ok((events, ()))
        })
    }
}

impl Replay {
    /// The two TOML documents as they were: the same bytes for the same event, for ever.
    ///
    /// # Errors
    /// [`Error::Auth`] where the state cannot be read.
    pub fn auth_documents(&self, window_ms: u64) -> Result<Documents, Error> {
        let root = self.state_root()?;
        let made = documents::render(self.state(), self.seq(), self.time(), root, window_ms);
        Ok(made.map_err(AuthError::from)?)
    }
}
