//! Events of imports, version 1.

use serde::{Deserialize, Serialize};

use crate::base::{ProfileId, ProfileScope, Provider, Timestamp};
use crate::event::auth::{Profile, UsageNote};
use crate::event::import;
use crate::event::import::OriginTimes;

/// A profile in kind 108.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedProfile {
    /// The profile.
    pub profile: Profile,
    /// When its access token ends, where that is known.
    pub expires_at: Option<Timestamp>,
    /// What became of it in use, as the source tells.
    pub usage: Option<UsageNote>,
    /// What the source said of its times.
    pub origin: OriginTimes,
}

/// An order in kind 108: without its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedOrder {
    /// The scope.
    pub scope: ProfileScope,
    /// The service that it is for.
    pub provider: Provider,
    /// The profiles, the preferred one first.
    pub profiles: Vec<ProfileId>,
}

/// Kind 108: without the times of orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsImported {
    /// The profiles.
    pub profiles: Vec<ImportedProfile>,
    /// The orders.
    pub orders: Vec<ImportedOrder>,
}

impl From<ImportedOrder> for import::ImportedOrder {
    fn from(old: ImportedOrder) -> Self {
        let ImportedOrder { scope, provider, profiles } = old;
        Self { scope, provider, profiles, updated_at: None }
    }
}

impl From<ImportedProfile> for import::ImportedProfile {
    fn from(old: ImportedProfile) -> Self {
        let ImportedProfile { profile, expires_at, usage, origin } = old;
        Self { profile, expires_at, usage, origin }
    }
}

impl From<CredentialsImported> for import::CredentialsImported {
    fn from(old: CredentialsImported) -> Self {
        let CredentialsImported { profiles, orders } = old;
        let profiles = profiles.into_iter().map(Into::into).collect();
        Self { profiles, orders: orders.into_iter().map(Into::into).collect() }
    }
}
