//! How a profile stands: its token, its breaker, what to do next.

use serde::Serialize;

use crate::base::{Provider, Timestamp, limits};
use crate::event::auth::{CredentialSource, FailureKind, Profile, RefreshCause};

use super::state::Runtime;

/// How an access token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenExpiry {
    /// An API key: it does not end by itself.
    Static,
    /// There is no token yet.
    Missing,
    /// It is good for longer than the refresh window.
    Valid,
    /// It ends within the refresh window.
    Expiring,
    /// It has ended.
    Expired,
    /// Nobody said when it ends.
    Unknown,
}

impl TokenExpiry {
    /// Every one of them.
    pub const ALL: [Self; 6] = [Self::Static, Self::Missing, Self::Valid, Self::Expiring, Self::Expired, Self::Unknown];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Missing => "missing",
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }

    /// How a profile's token stands at a time.
    #[must_use]
    pub fn of(profile: &Profile, runtime: &Runtime, now: Timestamp, window_ms: u64) -> Self {
        match (&profile.credential, runtime.expires_at) {
            (CredentialSource::ApiKey(_), _) => Self::Static,
            (_, None) if !runtime.has_token => Self::Missing,
            (_, None) => Self::Unknown,
            (_, Some(end)) if now >= end => Self::Expired,
            (_, Some(end)) if now.plus_millis(window_ms) >= end => Self::Expiring,
            (_, Some(_)) => Self::Valid,
        }
    }
}

/// Whether a profile may be used at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// It may.
    Eligible,
    /// It is disabled.
    Disabled,
    /// It is benched until a time.
    CoolingDown,
    /// Its bench is over; one caller tries it.
    HalfOpen,
    /// Its token has ended or is missing.
    TokenEnded,
    /// Only a person can mend it.
    NeedsPerson,
}

impl Eligibility {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eligible => "eligible",
            Self::Disabled => "disabled",
            Self::CoolingDown => "cooling_down",
            Self::HalfOpen => "half_open",
            Self::TokenEnded => "token_ended",
            Self::NeedsPerson => "needs_person",
        }
    }
}

/// The summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It serves.
    Healthy,
    /// It serves, or will by itself; something is to be watched.
    Degraded,
    /// It does not serve.
    Failed,
}

impl Health {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// How a profile stands at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The summary.
    pub health: Health,
    /// Whether it may be used.
    pub eligibility: Eligibility,
    /// Its token.
    pub token: TokenExpiry,
    /// When it may be used again, where that comes by itself.
    pub until: Option<Timestamp>,
    /// Whether the answer to its last refresh was lost.
    pub in_doubt: bool,
    /// Why it does not stand well: stable words.
    pub reasons: Vec<&'static str>,
    /// What to do next, in words; empty where there is nothing.
    pub next: String,
}

/// How a profile stands at a time. An ended or missing token is never healthy.
#[must_use]
pub fn standing(profile: &Profile, runtime: &Runtime, now: Timestamp, window_ms: u64) -> Standing {
    let token = TokenExpiry::of(profile, runtime, now, window_ms);
    let in_doubt = runtime.lease.as_ref().is_some_and(|lease| now >= lease.until);
    let mut found = Standing {
        health: Health::Healthy,
        eligibility: Eligibility::Eligible,
        token,
        until: None,
        in_doubt,
        reasons: Vec::new(),
        next: String::new(),
    };
    let id = &profile.id;
    let mut note = |health: Health, reason: &'static str, next: String| {
        found.health = found.health.max(health);
        found.reasons.push(reason);
        if found.next.is_empty() {
            found.next = next;
        }
    };
    if let Some(terminal) = &runtime.terminal {
        let again = match profile.credential {
            CredentialSource::ApiKey(_) => format!("replace the key, then `auth profiles clear {id}`"),
            CredentialSource::Oauth(_) => format!("`auth login --profile {id}`"),
        };
        note(Health::Failed, terminal.failure.name(), format!("{}: {again}", terminal.what));
    }
    let lost_twice = in_doubt && lost_twice(runtime);
    if lost_twice {
        let next = format!("{LOST_TWICE}: `auth login --profile {id}`, or `auth refresh --profile {id} --force`");
        note(Health::Degraded, "refresh_in_doubt", next);
    }
    match token {
        TokenExpiry::Missing => note(Health::Failed, "token_missing", format!("`auth login --profile {id}`")),
        TokenExpiry::Expired => note(Health::Failed, "token_expired", format!("`auth refresh --profile {id}`")),
        TokenExpiry::Expiring => note(Health::Degraded, "token_expiring", format!("`auth refresh --profile {id}`")),
        TokenExpiry::Static | TokenExpiry::Valid | TokenExpiry::Unknown => {}
    }
    if in_doubt && !lost_twice {
        let next = format!("`auth refresh --profile {id}`: the answer to the last refresh was never recorded");
        note(Health::Degraded, "refresh_in_doubt", next);
    }
    if runtime.refresh_failures > 0 && runtime.terminal.is_none() {
        note(Health::Degraded, FailureKind::RefreshFailed.name(), "it is tried again by itself".to_owned());
    }
    let benched = runtime.cooldown_until.filter(|until| now < *until);
    if let Some(until) = benched {
        let why = runtime.failure.map_or("cooling_down", FailureKind::name);
        note(Health::Degraded, why, format!("wait until {until}"));
    } else if breaker_tripped(runtime) {
        note(Health::Degraded, "half_open", "the next use tries it".to_owned());
    }
    if !profile.enabled {
        note(Health::Degraded, "disabled", format!("`auth profiles enable {id}`"));
    }
    found.eligibility = if !profile.enabled {
        Eligibility::Disabled
    } else if (runtime.terminal.is_some() && !matches!(token, TokenExpiry::Valid | TokenExpiry::Expiring))
        || (lost_twice && matches!(token, TokenExpiry::Missing | TokenExpiry::Expired))
    {
        Eligibility::NeedsPerson
    } else if matches!(token, TokenExpiry::Missing | TokenExpiry::Expired) {
        Eligibility::TokenEnded
    } else if benched.is_some() {
        found.until = benched;
        Eligibility::CoolingDown
    } else if breaker_tripped(runtime) {
        Eligibility::HalfOpen
    } else {
        Eligibility::Eligible
    };
    if found.eligibility == Eligibility::TokenEnded {
        found.until = runtime.retry_at.filter(|at| now < *at);
    }
    found
}

/// What a person reads who must decide after [`lost_twice`].
pub(super) const LOST_TWICE: &str = "the answers to two refreshes in a row were never recorded";

/// Whether the refresh under way is itself the second try after a lost answer: it is the last by itself,
/// since a token that is sent again and again looks stolen.
pub(super) fn lost_twice(runtime: &Runtime) -> bool {
    runtime.lease.as_ref().is_some_and(|lease| lease.cause == RefreshCause::InDoubt)
}

/// Whether a profile was benched and has not served since.
pub(super) const fn breaker_tripped(runtime: &Runtime) -> bool {
    runtime.failure_count > 0 && runtime.cooldown_until.is_some()
}

/// How long a failure benches a profile, in milliseconds; 0: not yet. Doubles with every failure in a row,
/// up to a bound by kind.
#[must_use]
pub fn bench_ms(kind: FailureKind, in_a_row: u32) -> u64 {
    let (base, most, free) = match kind {
        FailureKind::Transient => (10_000, 600_000, limits::BREAKER_THRESHOLD - 1),
        FailureKind::RateLimit => (60_000, 3_600_000, 0),
        FailureKind::Quota => (3_600_000, 24 * 3_600_000, 0),
        FailureKind::RefreshDue | FailureKind::RefreshFailed => (30_000, 3_600_000, 0),
        FailureKind::AuthInvalid | FailureKind::ConfigMissing => (300_000, 24 * 3_600_000, 0),
    };
    match in_a_row.checked_sub(free + 1) {
        Some(doubled) => 1_u64.checked_shl(doubled.min(30)).map_or(most, |factor| (base * factor).min(most)),
        None => 0,
    }
}

/// How long to wait after a refresh failed, in milliseconds, before jitter: by provider, doubling.
#[must_use]
pub fn backoff_ms(provider: &Provider, in_a_row: u32) -> u64 {
    let (base, most): (u64, u64) = match provider {
        // Whoever refreshes for many users at once asks to be left alone for longer.
        Provider::Openai | Provider::Anthropic | Provider::Slack | Provider::Discord => (30_000, 3_600_000),
        Provider::Telegram | Provider::Webhook | Provider::Custom(_) => (15_000, 1_800_000),
    };
    base.saturating_mul(1 << in_a_row.saturating_sub(1).min(20)).min(most)
}

/// Spreads a wait over four fifths to six fifths of itself, by a random number.
#[must_use]
pub fn jittered(wait_ms: u64, random: u32) -> u64 {
    let span = wait_ms / 5 * 2;
    wait_ms - wait_ms / 5 + span * u64::from(random) / u64::from(u32::MAX)
}

/// When a profile is to be refreshed; none where it cannot be. Profiles that were made together do not
/// come due together: up to a fifth of the window is cut off by the profile's own id.
#[must_use]
pub fn due(profile: &Profile, runtime: &Runtime, window_ms: u64) -> Option<Timestamp> {
    let CredentialSource::Oauth(source) = &profile.credential else { return None };
    source.refresh.as_ref()?;
    if !profile.enabled || runtime.terminal.is_some() || lost_twice(runtime) {
        return None;
    }
    let spread = profile.id.as_str().bytes().fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1000);
    let window = window_ms - window_ms / 5 * spread / 1000;
    let wanted = match runtime.expires_at {
        Some(end) => Timestamp::from_millis(end.as_millis().saturating_sub(window)),
        None if runtime.has_token => return None,
        None => Timestamp::from_millis(0),
    };
    let held = runtime.lease.as_ref().map(|lease| lease.until);
    // In doubt: as soon as the lease is over, whatever the token's end.
    let wanted = held.unwrap_or(wanted);
    Some(runtime.retry_at.map_or(wanted, |at| at.max(wanted)))
}
