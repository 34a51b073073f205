//! From the state to the documents.

use crate::base::{ProfileScope, Provider, SecretPath, StateRead, Timestamp};
use crate::crypto::Hash;
use crate::event::auth::CredentialSource;

use super::super::Health;
use super::super::fault::ApplyFault;
use super::super::health::standing;
use super::super::state::{Order, ProfileRecord, Runtime, list_orders, list_profiles};
use super::super::toml_text::Toml;
use super::Documents;
use super::shape::{
    CredentialDoc, HintDoc, OrderDoc, ProfileDoc, ProfilesDoc, ProviderDoc, RecordDoc, RefreshDoc, RuntimeDoc,
    ScopeDoc, VERSION,
};

/// Renders the documents of a state: the fold of the log up to event `seq`, at that event's time.
///
/// # Errors
/// [`ApplyFault`] where the state cannot be read.
pub fn render(
    state: &dyn StateRead,
    seq: u64,
    time: Timestamp,
    root: Hash,
    window_ms: u64,
) -> Result<Documents, ApplyFault> {
    let all = list_profiles(state)?;
    let profiles = ProfilesDoc { version: VERSION, profiles: all.iter().map(profile_doc).collect() };
    let runtime = RuntimeDoc {
        version: VERSION,
        records: all.iter().map(|(record, runtime)| record_doc(record, runtime, time, window_ms)).collect(),
        profile_orders: list_orders(state)?.into_iter().map(order_doc).collect(),
    };
    let head = format!("# palyra-ledger: event {seq}, state root {root}\n");
    let mut texts = (Toml::new(&head, 512 * all.len()), Toml::new(&head, 512 * all.len()));
    profiles.write(&mut texts.0);
    runtime.write(&mut texts.1);
    Ok(Documents { profiles: texts.0.into_text(), runtime: texts.1.into_text() })
}

pub(super) fn profile_doc((record, runtime): &(ProfileRecord, Runtime)) -> ProfileDoc {
    let profile = &record.profile;
    let text = |reference: &SecretPath| reference.to_string();
    let empty = CredentialDoc {
        kind: profile.credential.kind().name().to_owned(),
        api_key_vault_ref: None,
        access_token_vault_ref: None,
        refresh_token_vault_ref: None,
        client_secret_vault_ref: None,
        token_endpoint: None,
        revocation_endpoint: None,
        client_id: None,
        scopes: Vec::new(),
        expires_at_unix_ms: None,
        refresh_state: None,
    };
    let credential = match &profile.credential {
        CredentialSource::ApiKey(key) => CredentialDoc { api_key_vault_ref: Some(text(key)), ..empty },
        CredentialSource::Oauth(source) => CredentialDoc {
            access_token_vault_ref: Some(text(&source.access)),
            refresh_token_vault_ref: source.refresh.as_ref().map(text),
            client_secret_vault_ref: source.client_secret.as_ref().map(text),
            token_endpoint: Some(source.token_endpoint.clone()),
            revocation_endpoint: source.revocation_endpoint.clone(),
            client_id: Some(source.client_id.clone()),
            scopes: source.scopes.clone(),
            expires_at_unix_ms: runtime.expires_at.map(Timestamp::as_millis),
            refresh_state: Some(RefreshDoc {
                failure_count: runtime.refresh_failures,
                last_success_unix_ms: runtime.refreshed.map(Timestamp::as_millis),
                next_allowed_refresh_unix_ms: runtime.retry_at.map(Timestamp::as_millis),
                last_error: runtime.terminal.as_ref().map(|terminal| terminal.what.clone()),
            }),
            ..empty
        },
    };
    ProfileDoc {
        profile_id: profile.id.to_string(),
        profile_name: profile.name.clone(),
        enabled: profile.enabled,
        created_at_unix_ms: record.created.as_millis(),
        updated_at_unix_ms: record.updated.as_millis(),
        provider: ProviderDoc {
            kind: profile.provider.kind().to_owned(),
            custom_name: match &profile.provider {
                Provider::Custom(name) => Some(name.clone()),
                _ => None,
            },
        },
        scope: match &profile.scope {
            ProfileScope::Global => ScopeDoc { kind: "global".to_owned(), agent_id: None },
            ProfileScope::Agent(agent) => ScopeDoc { kind: "agent".to_owned(), agent_id: Some(agent.to_string()) },
        },
        credential,
    }
}

pub(super) fn record_doc(record: &ProfileRecord, runtime: &Runtime, time: Timestamp, window_ms: u64) -> RecordDoc {
    let profile = &record.profile;
    let stands = standing(profile, runtime, time, window_ms);
    let severity = match stands.health {
        Health::Healthy => None,
        Health::Degraded => Some("warning"),
        Health::Failed => Some("error"),
    };
    RecordDoc {
        profile_id: profile.id.to_string(),
        provider: profile.provider.to_string(),
        scope: profile.scope.to_string(),
        credential_type: profile.credential.kind().name().to_owned(),
        last_used_unix_ms: runtime.last_used.map(Timestamp::as_millis),
        last_success_unix_ms: runtime.last_success.map(Timestamp::as_millis),
        last_failure_unix_ms: runtime.last_failure.map(Timestamp::as_millis),
        last_failure_kind: runtime.failure.map(|kind| kind.name().to_owned()),
        failure_count: runtime.failure_count,
        cooldown_until_unix_ms: runtime.cooldown_until.map(Timestamp::as_millis),
        token_expiry_state: stands.token.name().to_owned(),
        eligibility: stands.eligibility.name().to_owned(),
        created_at_unix_ms: record.created.as_millis(),
        updated_at_unix_ms: runtime.updated.as_millis(),
        doctor_hint: severity.map(|severity| HintDoc {
            code: stands.reasons.first().copied().unwrap_or_default().to_owned(),
            severity: severity.to_owned(),
            message: stands.next,
        }),
    }
}

pub(super) fn order_doc(order: Order) -> OrderDoc {
    OrderDoc {
        scope: order.scope.to_string(),
        provider: order.provider.to_string(),
        profile_ids: order.profiles.iter().map(ToString::to_string).collect(),
        updated_at_unix_ms: order.updated.as_millis(),
    }
}

impl ProfilesDoc {
    pub(super) fn write(&self, out: &mut Toml) {
        out.number("version", self.version);
        if self.profiles.is_empty() {
            out.none("profiles");
        }
        for profile in &self.profiles {
            profile.write(out);
        }
    }
}

impl ProfileDoc {
    fn write(&self, out: &mut Toml) {
        out.element("profiles");
        out.text("profile_id", &self.profile_id);
        out.text("profile_name", &self.profile_name);
        if !self.enabled {
            out.no("enabled");
        }
        out.number("created_at_unix_ms", self.created_at_unix_ms);
        out.number("updated_at_unix_ms", self.updated_at_unix_ms);
        out.table("profiles.provider");
        out.text("kind", &self.provider.kind);
        out.text("custom_name", &self.provider.custom_name);
        out.table("profiles.scope");
        out.text("kind", &self.scope.kind);
        out.text("agent_id", &self.scope.agent_id);
        out.table("profiles.credential");
        self.credential.write(out);
    }
}

impl CredentialDoc {
    fn write(&self, out: &mut Toml) {
        out.text("type", &self.kind);
        out.text("api_key_vault_ref", &self.api_key_vault_ref);
        out.text("access_token_vault_ref", &self.access_token_vault_ref);
        out.text("refresh_token_vault_ref", &self.refresh_token_vault_ref);
        out.text("client_secret_vault_ref", &self.client_secret_vault_ref);
        out.text("token_endpoint", &self.token_endpoint);
        out.text("revocation_endpoint", &self.revocation_endpoint);
        out.text("client_id", &self.client_id);
        if !self.scopes.is_empty() {
            out.texts("scopes", &self.scopes);
        }
        out.number("expires_at_unix_ms", self.expires_at_unix_ms);
        if let Some(refresh) = &self.refresh_state {
            out.table("profiles.credential.refresh_state");
            out.number("failure_count", refresh.failure_count);
            out.number("last_success_unix_ms", refresh.last_success_unix_ms);
            out.number("next_allowed_refresh_unix_ms", refresh.next_allowed_refresh_unix_ms);
            out.text("last_error", &refresh.last_error);
        }
    }
}

impl RuntimeDoc {
    pub(super) fn write(&self, out: &mut Toml) {
        out.number("version", self.version);
        // Values of a table stand before its tables.
        if self.records.is_empty() {
            out.none("records");
        }
        if self.profile_orders.is_empty() {
            out.none("profile_orders");
        }
        for record in &self.records {
            record.write(out);
        }
        for order in &self.profile_orders {
            out.element("profile_orders");
            out.text("scope", &order.scope);
            out.text("provider", &order.provider);
            out.texts("profile_ids", &order.profile_ids);
            out.number("updated_at_unix_ms", order.updated_at_unix_ms);
        }
    }
}

impl RecordDoc {
    fn write(&self, out: &mut Toml) {
        out.element("records");
        out.text("profile_id", &self.profile_id);
        out.text("provider", &self.provider);
        out.text("scope", &self.scope);
        out.text("credential_type", &self.credential_type);
        out.number("last_used_unix_ms", self.last_used_unix_ms);
        out.number("last_success_unix_ms", self.last_success_unix_ms);
        out.number("last_failure_unix_ms", self.last_failure_unix_ms);
        out.text("last_failure_kind", &self.last_failure_kind);
        out.number("failure_count", self.failure_count);
        out.number("cooldown_until_unix_ms", self.cooldown_until_unix_ms);
        out.text("token_expiry_state", &self.token_expiry_state);
        out.text("eligibility", &self.eligibility);
        out.number("created_at_unix_ms", self.created_at_unix_ms);
        out.number("updated_at_unix_ms", self.updated_at_unix_ms);
        if let Some(hint) = &self.doctor_hint {
            out.table("records.doctor_hint");
            out.text("code", &hint.code);
            out.text("severity", &hint.severity);
            out.text("message", &hint.message);
        }
    }
}
