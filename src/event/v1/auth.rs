//! Events of service credentials, version 1.

use serde::{Deserialize, Serialize};

use crate::base::{ProfileId, Timestamp};
use crate::event::auth;

/// Kind 102: without what the provider's answer was like.
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
}

impl From<RefreshSucceeded> for auth::RefreshSucceeded {
    fn from(old: RefreshSucceeded) -> Self {
        let RefreshSucceeded { profile, generation, expires_at, rotated } = old;
        Self { profile, generation, expires_at, rotated, took_ms: None, scopes_lost: None }
    }
}
