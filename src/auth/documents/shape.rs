//! The two documents as they stand in TOML.

use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

pub(super) const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct ProfilesDoc {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) profiles: Vec<ProfileDoc>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileDoc {
    pub(super) profile_id: String,
    pub(super) profile_name: String,
    #[serde(default = "yes")]
    #[cfg_attr(test, serde(skip_serializing_if = "is_yes"))]
    pub(super) enabled: bool,
    pub(super) created_at_unix_ms: u64,
    pub(super) updated_at_unix_ms: u64,
    pub(super) provider: ProviderDoc,
    pub(super) scope: ScopeDoc,
    pub(super) credential: CredentialDoc,
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_yes(value: &bool) -> bool {
    *value
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderDoc {
    pub(super) kind: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) custom_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeDoc {
    pub(super) kind: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) agent_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialDoc {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) api_key_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) access_token_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) refresh_token_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) client_secret_vault_ref: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) token_endpoint: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) revocation_endpoint: Option<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) client_id: Option<String>,
    #[serde(default)]
    #[cfg_attr(test, serde(skip_serializing_if = "Vec::is_empty"))]
    pub(super) scopes: Vec<String>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) expires_at_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) refresh_state: Option<RefreshDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshDoc {
    pub(super) failure_count: u32,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) last_success_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) next_allowed_refresh_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) last_error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct RuntimeDoc {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) records: Vec<RecordDoc>,
    #[serde(default)]
    pub(super) profile_orders: Vec<OrderDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct RecordDoc {
    pub(super) profile_id: String,
    pub(super) provider: String,
    pub(super) scope: String,
    pub(super) credential_type: String,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) last_used_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) last_success_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) last_failure_unix_ms: Option<u64>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) last_failure_kind: Option<String>,
    pub(super) failure_count: u32,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) cooldown_until_unix_ms: Option<u64>,
    pub(super) token_expiry_state: String,
    pub(super) eligibility: String,
    pub(super) created_at_unix_ms: u64,
    pub(super) updated_at_unix_ms: u64,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(super) doctor_hint: Option<HintDoc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct HintDoc {
    pub(super) code: String,
    pub(super) severity: String,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[serde(deny_unknown_fields)]
pub(super) struct OrderDoc {
    pub(super) scope: String,
    pub(super) provider: String,
    pub(super) profile_ids: Vec<String>,
    pub(super) updated_at_unix_ms: u64,
}
