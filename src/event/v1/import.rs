//! Events of imports, version 1.

use serde::{Deserialize, Serialize};

use crate::base::{ProfileId, ProfileScope, Provider};
use crate::event::import;
use crate::event::import::ImportedProfile;

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

impl From<CredentialsImported> for import::CredentialsImported {
    fn from(old: CredentialsImported) -> Self {
        let CredentialsImported { profiles, orders } = old;
        Self { profiles, orders: orders.into_iter().map(Into::into).collect() }
    }
}
