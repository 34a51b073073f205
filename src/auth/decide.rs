//! Decisions about profiles and refreshes: a command against the state gives events or a refusal.

use serde::{Deserialize, Serialize};

use crate::base::{Context, ProfileId, ProfileScope, Provider, StateRead, Timestamp, limits};
use crate::event::Event;
use crate::event::auth::{
    CredentialSource, FailureKind, LoginFlow, OauthSource, OrderSet, Profile, ProfileCleared, ProfileDeleted,
    ProfileEnabled, ProfileLoggedIn, ProfileLoggedOut, ProfileSet, RefreshCause, RefreshFailed, RefreshStarted,
    RefreshSucceeded,
};

use super::endpoint::Endpoint;
use super::fault::AuthError;
use super::health::{LOST_TWICE, backoff_ms, due, jittered, lost_twice};
use super::state::{ProfileRecord, Runtime, find_profile, find_runtime, find_writer, profile_count};

type Decision<T> = Result<(Vec<Event>, T), AuthError>;

fn existing(state: &dyn StateRead, id: &ProfileId) -> Result<(ProfileRecord, Runtime), AuthError> {
    let record = find_profile(state, id)?.ok_or_else(|| AuthError::NoProfile(id.clone()))?;
    Ok((record, find_runtime(state, id)?))
}

/// Checks a profile's texts and URLs.
///
/// # Errors
/// [`AuthError::Field`].
pub(super) fn check(profile: &Profile) -> Result<(), AuthError> {
    let refuse = |field, why: &str| AuthError::Field { profile: profile.id.clone(), field, why: why.to_owned() };
    let text = |field, text: &str, empty: bool| {
        if text.is_empty() && !empty {
            return Err(refuse(field, "it is empty"));
        }
        if text.len() > limits::PROFILE_TEXT_MAX || text.chars().any(char::is_control) {
            return Err(refuse(field, "it is longer than 256 bytes or holds a control character"));
        }
        Ok(())
    };
    text("the name", &profile.name, true)?;
    let CredentialSource::Oauth(source) = &profile.credential else { return Ok(()) };
    text("the client id", &source.client_id, false)?;
    if source.scopes.len() > limits::GRANT_SCOPES_MAX {
        return Err(refuse("the scopes", "there are more than 64"));
    }
    for scope in &source.scopes {
        // RFC 6749, section 3.3: a scope is printable ASCII without space, quote and backslash.
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if scope.is_empty() || scope.len() > limits::PROFILE_TEXT_MAX || !scope.bytes().all(fine) {
            return Err(refuse("a scope of the grant", "it is empty, too long or holds a space, quote or backslash"));
        }
    }
    for (field, url) in [
        ("the token endpoint", Some(&source.token_endpoint)),
        ("the revocation endpoint", source.revocation_endpoint.as_ref()),
    ] {
        if let Some(url) = url {
            Endpoint::parse(url).map_err(|why| refuse(field, &why.to_string()))?;
        }
    }
    let places = [Some(&source.access), source.refresh.as_ref(), source.client_secret.as_ref()];
    let mut places: Vec<_> = places.into_iter().flatten().collect();
    let all = places.len();
    places.sort();
    places.dedup();
    if places.len() == all { Ok(()) } else { Err(refuse("the references", "two of them name the same secret")) }
}

/// A change that would part an answer under way from its profile must wait for it.
fn idle(context: &Context, id: &ProfileId, runtime: &Runtime) -> Result<(), AuthError> {
    match runtime.lease.as_ref().filter(|lease| context.now < lease.until) {
        Some(lease) => Err(AuthError::Busy { profile: id.clone(), until: lease.until }),
        None => Ok(()),
    }
}

/// Whether a profile may be kept: its fields, their number, and that no other profile writes its tokens.
///
/// # Errors
/// [`AuthError`].
pub fn admit(state: &dyn StateRead, profile: &Profile) -> Result<(), AuthError> {
    check(profile)?;
    if find_profile(state, &profile.id)?.is_none() && profile_count(state)? >= limits::PROFILES_MAX {
        return Err(AuthError::TooMany);
    }
    for place in profile.credential.written() {
        if let Some(owner) = find_writer(state, place)?.filter(|owner| *owner != profile.id) {
            return Err(AuthError::Shared { place: Box::new(place.clone()), owner });
        }
    }
    Ok(())
}

/// Decides to make or change a profile. One that is the same already gives no event.
///
/// # Errors
/// [`AuthError`] where a field is refused, there are too many, another profile has its tokens, or a refresh
/// of the tokens that it gives up is under way.
pub fn decide_set(
    state: &dyn StateRead,
    context: &Context,
    profile: Profile,
    expires_at: Option<Timestamp>,
) -> Decision<()> {
    admit(state, &profile)?;
    let before = find_profile(state, &profile.id)?;
    let runtime = find_runtime(state, &profile.id)?;
    let same_source =
        before.as_ref().is_some_and(|record| record.profile.credential.is_same_grant(&profile.credential));
    if !same_source {
        idle(context, &profile.id, &runtime)?;
    }
    // The end of a token that nobody mentions stays.
    let expires_at = expires_at.or(if same_source { runtime.expires_at } else { None });
    if before.is_some_and(|record| record.profile == profile) && runtime.expires_at == expires_at {
        return Ok((Vec::new(), ()));
    }
    Ok((vec![Event::ProfileSet(ProfileSet { profile, expires_at })], ()))
}

/// Decides to enable or disable a profile.
///
/// # Errors
/// [`AuthError::NoProfile`].
pub fn decide_enable(state: &dyn StateRead, profile: &ProfileId, enabled: bool) -> Decision<()> {
    let (record, _) = existing(state, profile)?;
    let changed = record.profile.enabled != enabled;
    let event = Event::ProfileEnabled(ProfileEnabled { profile: profile.clone(), enabled });
    Ok((Vec::from_iter(changed.then_some(event)), ()))
}

/// Decides to delete a profile.
///
/// # Errors
/// [`AuthError::NoProfile`]; [`AuthError::Busy`] while it is refreshed.
pub fn decide_delete(state: &dyn StateRead, context: &Context, profile: &ProfileId) -> Decision<()> {
    let (_, runtime) = existing(state, profile)?;
    idle(context, profile, &runtime)?;
    Ok((vec![Event::ProfileDeleted(ProfileDeleted { profile: profile.clone() })], ()))
}

/// Decides to forget a profile's failures.
///
/// # Errors
/// [`AuthError::NoProfile`].
pub fn decide_clear(state: &dyn StateRead, profile: &ProfileId) -> Decision<()> {
    existing(state, profile)?;
    Ok((vec![Event::ProfileCleared(ProfileCleared { profile: profile.clone() })], ()))
}

/// Decides an order; an empty one removes it.
///
/// # Errors
/// [`AuthError::Order`].
pub fn decide_order(
    state: &dyn StateRead,
    scope: ProfileScope,
    provider: Provider,
    profiles: Vec<ProfileId>,
) -> Decision<()> {
    admit_order(&provider, &profiles, &mut |id| Ok(find_profile(state, id)?.map(|record| record.profile.provider)))?;
    Ok((vec![Event::OrderSet(OrderSet { scope, provider, profiles })], ()))
}

/// Whether an order may be kept: its length, that it names no profile twice, and that each is there and for the
/// provider. `provider_of` knows whom a profile is for.
///
/// # Errors
/// [`AuthError`].
pub fn admit_order(
    provider: &Provider,
    profiles: &[ProfileId],
    provider_of: &mut dyn FnMut(&ProfileId) -> Result<Option<Provider>, AuthError>,
) -> Result<(), AuthError> {
    if profiles.len() > limits::ORDER_MAX {
        return Err(AuthError::Order(format!("it names more than {} profiles", limits::ORDER_MAX)));
    }
    let mut seen = std::collections::HashSet::new();
    for id in profiles {
        if !seen.insert(id) {
            return Err(AuthError::Order(format!("it names {id} twice")));
        }
        let found = provider_of(id)?.ok_or_else(|| AuthError::NoProfile(id.clone()))?;
        if found != *provider {
            return Err(AuthError::Order(format!("{id} is for {found}, not for {provider}")));
        }
    }
    Ok(())
}

/// A refresh that may go ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The profile.
    pub profile: Profile,
    /// Its OAuth part.
    pub source: OauthSource,
    /// Number of the refresh, which its completion names.
    pub generation: u64,
    /// End of its lease: nobody else refreshes the profile before, and nothing may be sent when it is near.
    pub lease_until: Timestamp,
    /// Whether an answer was lost before: the refresh token may be spent.
    pub after_lost_answer: bool,
    /// Version of the refresh token's secret that is sent; 0 where it was not read yet.
    pub refresh_version: u32,
}

/// Decides to begin a refresh. The event must be durable before anything is sent.
///
/// # Errors
/// [`AuthError`] where somebody else refreshes the profile, it is not due, it cools down, or only a person
/// can mend it; `force` overrides the last three.
pub fn decide_refresh(
    state: &dyn StateRead,
    context: &Context,
    id: &ProfileId,
    window_ms: u64,
    lease_ms: u64,
    force: bool,
) -> Decision<Started> {
    let (record, runtime) = existing(state, id)?;
    let profile = record.profile;
    let CredentialSource::Oauth(source) = &profile.credential else { return Err(AuthError::Static(id.clone())) };
    let source = OauthSource::clone(source);
    if source.refresh.is_none() {
        return Err(AuthError::NoRefreshToken(id.clone()));
    }
    let now = context.now;
    // Never two at once, whoever asks: the token would be spent twice.
    idle(context, id, &runtime)?;
    if !force {
        if !profile.enabled {
            return Err(AuthError::Disabled(id.clone()));
        }
        if let Some(terminal) = &runtime.terminal {
            return Err(AuthError::NeedsPerson { profile: id.clone(), what: terminal.what.clone() });
        }
        if lost_twice(&runtime) {
            return Err(AuthError::NeedsPerson { profile: id.clone(), what: LOST_TWICE.to_owned() });
        }
        if let Some(until) = runtime.retry_at.filter(|at| now < *at) {
            return Err(AuthError::CoolingDown { profile: id.clone(), until });
        }
        if due(&profile, &runtime, window_ms).is_none_or(|at| now < at) {
            return Err(AuthError::NotDue(id.clone()));
        }
    }
    let in_doubt = runtime.lease.is_some();
    let cause = match (in_doubt, force) {
        (true, _) => RefreshCause::InDoubt,
        (false, true) => RefreshCause::Forced,
        (false, false) => RefreshCause::Due,
    };
    let generation = runtime.generation + 1;
    let lease_until = now.plus_millis(lease_ms);
    let event = RefreshStarted { profile: id.clone(), generation, lease_until, cause };
    let after_lost_answer = in_doubt || runtime.lost_answers > 0;
    let started = Started { profile, source, generation, after_lost_answer, lease_until, refresh_version: 0 };
    Ok((vec![Event::RefreshStarted(event)], started))
}

/// What is known of a provider's answer, beside what it holds. Its words are those of the profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AnswerNote {
    /// How long it took, in milliseconds, where that was measured.
    pub took_ms: Option<u64>,
    /// Scopes of the grant that the provider left out of those it named; nothing where it named none.
    pub scopes_lost: Option<Vec<String>>,
}

/// How a refresh ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefreshResult {
    /// New tokens were given; they are written in the same batch.
    Renewed {
        /// When the access token ends.
        expires_at: Option<Timestamp>,
        /// Whether there is a new refresh token.
        rotated: bool,
        /// What else is known of the answer.
        answer: AnswerNote,
    },
    /// The provider refused, and will go on refusing.
    Refused {
        /// What went wrong.
        failure: FailureKind,
        /// In words of ours.
        what: String,
    },
    /// It failed for now.
    Failed {
        /// What went wrong.
        failure: FailureKind,
        /// In words of ours.
        what: String,
        /// How long the provider asks to be left alone, in milliseconds.
        retry_after_ms: Option<u64>,
        /// Whether the request may have arrived and its answer was lost.
        unanswered: bool,
    },
}

/// Finds the refresh under way again, for whoever completes it in the place of the process that began it.
///
/// # Errors
/// [`AuthError::Superseded`] where it is no longer under way.
pub fn resume(state: &dyn StateRead, id: &ProfileId, generation: u64) -> Result<Started, AuthError> {
    let (record, runtime) = existing(state, id)?;
    let profile = record.profile;
    let CredentialSource::Oauth(source) = &profile.credential else { return Err(AuthError::Static(id.clone())) };
    match runtime.lease {
        Some(lease) if runtime.generation == generation => Ok(Started {
            source: OauthSource::clone(source),
            profile,
            generation,
            after_lost_answer: lease.cause == RefreshCause::InDoubt || runtime.lost_answers > 0,
            lease_until: lease.until,
            refresh_version: 0,
        }),
        _ => Err(AuthError::Superseded { profile: id.clone(), generation }),
    }
}

/// Decides how a refresh ended: compare-and-set on its number. Gives what is recorded.
///
/// # Errors
/// [`AuthError::Superseded`] where another one is under way, or none.
pub fn decide_refreshed(
    state: &dyn StateRead,
    context: &Context,
    started: &Started,
    result: &RefreshResult,
) -> Decision<RefreshResult> {
    let (id, generation) = (&started.profile.id, started.generation);
    let (record, runtime) = existing(state, id)?;
    let same = runtime.lease.as_ref().is_some_and(|lease| lease.until == started.lease_until);
    if !same || runtime.generation != generation {
        return Err(AuthError::Superseded { profile: id.clone(), generation });
    }
    let profile = id.clone();
    let mut recorded = result.clone();
    let event = match result {
        RefreshResult::Renewed { expires_at, rotated, answer } => Event::RefreshSucceeded(RefreshSucceeded {
            profile,
            generation,
            expires_at: *expires_at,
            rotated: *rotated,
            took_ms: answer.took_ms,
            scopes_lost: answer.scopes_lost.clone(),
        }),
        RefreshResult::Refused { failure, what } => {
            let lost = started.after_lost_answer && *failure == FailureKind::AuthInvalid;
            let what = if lost {
                format!("{what}; an earlier answer was lost, and the token was spent with it")
            } else {
                what.clone()
            };
            recorded = RefreshResult::Refused { failure: *failure, what: what.clone() };
            Event::RefreshFailed(RefreshFailed {
                profile,
                generation,
                failure: *failure,
                terminal: true,
                unanswered: false,
                what,
                retry_at: None,
            })
        }
        RefreshResult::Failed { failure, what, retry_after_ms, unanswered } => {
            let random = context.nonce.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            let wait = jittered(backoff_ms(&record.profile.provider, runtime.refresh_failures + 1), random);
            // A provider that asks for more gets more, a day at most; one that asks for less, only once in a row.
            let wait = match *retry_after_ms {
                Some(asked) if runtime.refresh_failures == 0 => asked.clamp(1_000, 86_400_000),
                Some(asked) => wait.max(asked.min(86_400_000)),
                None => wait,
            };
            Event::RefreshFailed(RefreshFailed {
                profile,
                generation,
                failure: *failure,
                terminal: false,
                unanswered: *unanswered,
                what: what.clone(),
                retry_at: Some(context.now.plus_millis(wait)),
            })
        }
    };
    Ok((vec![event], recorded))
}

/// Decides a login: profile and tokens in one batch. A refresh of the grant before, under way or not, is over
/// with it: its answer is no longer taken.
///
/// # Errors
/// [`AuthError`] where the profile is refused.
pub fn decide_login(
    state: &dyn StateRead,
    profile: Profile,
    flow: LoginFlow,
    expires_at: Option<Timestamp>,
) -> Decision<()> {
    admit(state, &profile)?;
    Ok((vec![Event::ProfileLoggedIn(ProfileLoggedIn { profile, flow, expires_at })], ()))
}

/// Decides a logout; gives the profile, whose tokens are shredded in the same batch.
///
/// # Errors
/// [`AuthError`] where there is no such profile, it holds an API key, or it is being refreshed: the tokens
/// that come would stay good.
pub fn decide_logout(
    state: &dyn StateRead,
    context: &Context,
    id: &ProfileId,
    revoked: bool,
    generation: Option<u64>,
) -> Decision<OauthSource> {
    let (record, runtime) = existing(state, id)?;
    idle(context, id, &runtime)?;
    if let Some(generation) = generation.filter(|generation| *generation != runtime.generation) {
        return Err(AuthError::Superseded { profile: id.clone(), generation });
    }
    let CredentialSource::Oauth(source) = record.profile.credential else { return Err(AuthError::Static(id.clone())) };
    Ok((vec![Event::ProfileLoggedOut(ProfileLoggedOut { profile: id.clone(), revoked })], *source))
}
