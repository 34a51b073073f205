//! Events of service credentials: profiles, refreshes, logins, usage. All are stored; no secret stands in
//! any of them, only references to secrets of the vault.

use serde::{Deserialize, Serialize};

use crate::base::{ProfileId, ProfileScope, Provider, SecretPath, Timestamp};

words! {
    /// What kind of credential a profile holds (stored: numbered by place, never reordered).
    CredentialType {
        /// A key that does not change by itself.
        ApiKey = "api_key",
        /// Tokens that are refreshed (RFC 6749).
        Oauth = "oauth",
    }
}

words! {
    /// What went wrong with a credential (stored: numbered by place, never reordered).
    FailureKind {
        /// The provider does not accept the credential.
        AuthInvalid = "auth_invalid",
        /// The access token has ended and was not refreshed.
        RefreshDue = "refresh_due",
        /// The token endpoint refused or did not answer.
        RefreshFailed = "refresh_failed",
        /// The account has used up what it may.
        Quota = "quota",
        /// Too many requests for now.
        RateLimit = "rate_limit",
        /// The provider or the network failed for now.
        Transient = "transient",
        /// Something that the profile needs is not there.
        ConfigMissing = "config_missing",
    }
}

words! {
    /// Why a refresh was begun (stored: numbered by place, never reordered).
    RefreshCause {
        /// The token ends soon, has ended, or is not there.
        Due = "due",
        /// Somebody asked.
        Forced = "forced",
        /// The answer to an earlier refresh was never recorded.
        InDoubt = "in_doubt",
    }
}

words! {
    /// How somebody logged in (stored: numbered by place, never reordered).
    LoginFlow {
        /// Authorization code with PKCE (RFC 6749, RFC 7636).
        Code = "code",
        /// Device code (RFC 8628).
        Device = "device",
    }
}

/// An API key's place in the vault, or where OAuth tokens lie and are refreshed (stored: numbered by place).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialSource {
    /// An API key.
    ApiKey(SecretPath),
    /// OAuth tokens.
    Oauth(Box<OauthSource>),
}

impl OauthSource {
    /// Whether both are about the same tokens of the same grant: a refresh under way fits either.
    #[must_use]
    pub fn is_same_grant(&self, other: &Self) -> bool {
        (&self.access, &self.refresh, &self.token_endpoint, &self.client_id)
            == (&other.access, &other.refresh, &other.token_endpoint, &other.client_id)
    }

    /// The places that a refresh or login writes.
    pub fn written(&self) -> impl Iterator<Item = &SecretPath> {
        self.refresh.iter().chain([&self.access])
    }
}

impl CredentialSource {
    /// Whether both are the same key, or about the same tokens of the same grant.
    #[must_use]
    pub fn is_same_grant(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Oauth(a), Self::Oauth(b)) => a.is_same_grant(b),
            _ => self == other,
        }
    }

    /// The places that a refresh or login writes: none for an API key.
    pub fn written(&self) -> impl Iterator<Item = &SecretPath> {
        let source = match self {
            Self::Oauth(source) => Some(source),
            Self::ApiKey(_) => None,
        };
        source.into_iter().flat_map(|source| source.written())
    }

    /// What kind of credential it is.
    #[must_use]
    pub const fn kind(&self) -> CredentialType {
        match self {
            Self::ApiKey(_) => CredentialType::ApiKey,
            Self::Oauth(_) => CredentialType::Oauth,
        }
    }
}

/// Where OAuth tokens lie, and who refreshes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OauthSource {
    /// The access token's place.
    pub access: SecretPath,
    /// The refresh token's place.
    pub refresh: Option<SecretPath>,
    /// The client secret's place, where the client has one.
    pub client_secret: Option<SecretPath>,
    /// The token endpoint's URL.
    pub token_endpoint: String,
    /// The revocation endpoint's URL (RFC 7009), where there is one.
    pub revocation_endpoint: Option<String>,
    /// The client id.
    pub client_id: String,
    /// Scopes of the grant.
    pub scopes: Vec<String>,
}

/// A credential profile: which service, for whom, with what. It holds references, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// The service.
    pub provider: Provider,
    /// What people call it.
    pub name: String,
    /// Who may use it.
    pub scope: ProfileScope,
    /// Whether it is used at all.
    pub enabled: bool,
    /// What it holds.
    pub credential: CredentialSource,
}

/// A profile was made or changed. What became of it in use stays, unless its credential changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileSet {
    /// The profile as it is now.
    pub profile: Profile,
    /// When the access token ends, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// A profile was enabled or disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileEnabled {
    /// The profile.
    pub profile: ProfileId,
    /// Whether it is used now.
    pub enabled: bool,
}

/// A profile was deleted. The secrets that it named stay in the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileDeleted {
    /// The profile.
    pub profile: ProfileId,
}

/// A profile's failures were forgotten on a person's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileCleared {
    /// The profile.
    pub profile: ProfileId,
}

/// The order in which profiles of a scope are preferred. An empty one is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSet {
    /// The scope.
    pub scope: ProfileScope,
    /// The service that it is for.
    pub provider: Provider,
    /// The profiles, the preferred one first.
    pub profiles: Vec<ProfileId>,
}

/// A refresh began: durable before anything is sent, so that a refresh token is never spent unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshStarted {
    /// The profile.
    pub profile: ProfileId,
    /// Number of the refresh, from 1: what completes it must name it.
    pub generation: u64,
    /// Nobody else refreshes the profile before this time.
    pub lease_until: Timestamp,
    /// Why.
    pub cause: RefreshCause,
}

/// A refresh succeeded; the new tokens were written in the same batch (schema 2; 1 is
/// [`v1::RefreshSucceeded`](crate::event::v1::RefreshSucceeded)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshSucceeded {
    /// The profile.
    pub profile: ProfileId,
    /// Number of the refresh.
    pub generation: u64,
    /// When the new access token ends, where the provider said.
    pub expires_at: Option<Timestamp>,
    /// Whether the provider gave a new refresh token.
    pub rotated: bool,
    /// How long the provider took to answer, in milliseconds; nothing in events of schema 1, or where nobody
    /// measured it.
    pub took_ms: Option<u64>,
    /// Scopes of the grant that the provider left out of what it granted; nothing in events of schema 1, or where
    /// the provider did not say what it granted.
    pub scopes_lost: Option<Vec<String>>,
}

/// A refresh failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFailed {
    /// The profile.
    pub profile: ProfileId,
    /// Number of the refresh.
    pub generation: u64,
    /// What went wrong.
    pub failure: FailureKind,
    /// Whether only a person can mend it.
    pub terminal: bool,
    /// Whether the request may have reached the provider and its answer was lost: the token may be spent.
    pub unanswered: bool,
    /// What failed, in words; nothing that the provider sent stands in it.
    pub what: String,
    /// When it may be tried again.
    pub retry_at: Option<Timestamp>,
}

/// Somebody logged in; the tokens were written in the same batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileLoggedIn {
    /// The profile as it is now.
    pub profile: Profile,
    /// How.
    pub flow: LoginFlow,
    /// When the access token ends, where the provider said.
    pub expires_at: Option<Timestamp>,
}

/// A profile's tokens were given up; they were shredded in the same batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileLoggedOut {
    /// The profile.
    pub profile: ProfileId,
    /// Whether the provider confirmed that it revoked them (RFC 7009).
    pub revoked: bool,
}

/// What became of one profile in use since the last such note; all but the counts is what holds after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageNote {
    /// The profile.
    pub profile: ProfileId,
    /// Successes since the last note.
    pub successes: u32,
    /// Failures since the last note.
    pub failures: u32,
    /// When it was last chosen.
    pub last_used: Option<Timestamp>,
    /// When it last served.
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// How it last failed.
    pub failure: Option<FailureKind>,
    /// Failures in a row.
    pub failure_count: u32,
    /// It is not used before this time.
    pub cooldown_until: Option<Timestamp>,
    /// Somebody tries it until this time, and nobody else before.
    pub probe_until: Option<Timestamp>,
}

/// Profiles were used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReported {
    /// Which, and how it went.
    pub notes: Vec<UsageNote>,
}

/// A credential of another kind was used than the preferred profile holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedOver {
    /// The profile that would have been chosen.
    pub preferred: ProfileId,
    /// Its credential's kind.
    pub from: CredentialType,
    /// The profile that was chosen.
    pub chosen: ProfileId,
    /// Its credential's kind.
    pub to: CredentialType,
    /// Why the preferred one was passed over.
    pub why: String,
}
