//! What is written reads as serde would have written it.

use proptest::array::{uniform2, uniform3, uniform4, uniform6, uniform7};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::super::toml_text::Toml;
use super::shape::*;

/// Texts as they are, and texts that need quotes and escapes of every kind.
fn text() -> impl Strategy<Value = String> {
    let odd = ['\'', '"', '\\', '\n', '\r', '\t', '\u{7f}', '\u{1}', '\u{8}', 'é', '🔑', '#', ' ', 'a'];
    let odd = vec(proptest::sample::select(odd.to_vec()), 0..8);
    let plain = vec(proptest::sample::select("az09/:._ -".chars().collect::<Vec<_>>()), 0..12);
    let text = |letters: Vec<char>| letters.into_iter().collect::<String>();
    prop_oneof![plain, odd].prop_map(text)
}

fn time() -> impl Strategy<Value = u64> {
    0..=u64::try_from(i64::MAX).unwrap()
}

prop_compose! {
    fn credential()(
        kind in text(),
        refs in uniform7(of(text())),
        scopes in vec(text(), 0..4),
        expires_at_unix_ms in of(time()),
        refresh in of((any::<u32>(), of(time()), of(time()), of(text()))),
    ) -> CredentialDoc {
        let [api_key_vault_ref, access_token_vault_ref, refresh_token_vault_ref, client_secret_vault_ref, rest @ ..] = refs;
        let [token_endpoint, revocation_endpoint, client_id] = rest;
        let refresh_state = refresh.map(|(failure_count, last, next, last_error)| RefreshDoc {
            failure_count, last_success_unix_ms: last, next_allowed_refresh_unix_ms: next, last_error,
        });
        CredentialDoc {
            kind, api_key_vault_ref, access_token_vault_ref, refresh_token_vault_ref, client_secret_vault_ref,
            token_endpoint, revocation_endpoint, client_id, scopes, expires_at_unix_ms, refresh_state,
        }
    }
}

prop_compose! {
    fn profile()(
        texts in uniform4(text()),
        optional in uniform2(of(text())),
        enabled in any::<bool>(),
        times in uniform2(time()),
        credential in credential(),
    ) -> ProfileDoc {
        let ([profile_id, profile_name, provider, scope], [custom_name, agent_id]) = (texts, optional);
        let [created_at_unix_ms, updated_at_unix_ms] = times;
        ProfileDoc {
            profile_id, profile_name, enabled, created_at_unix_ms, updated_at_unix_ms, credential,
            provider: ProviderDoc { kind: provider, custom_name },
            scope: ScopeDoc { kind: scope, agent_id },
        }
    }
}

prop_compose! {
    fn record()(
        texts in uniform6(text()),
        optional in uniform4(of(time())),
        failure_count in any::<u32>(),
        last_failure_kind in of(text()),
        times in uniform2(time()),
        hint in of(uniform3(text())),
    ) -> RecordDoc {
        let [profile_id, provider, scope, credential_type, token_expiry_state, eligibility] = texts;
        let [last_used_unix_ms, last_success_unix_ms, last_failure_unix_ms, cooldown_until_unix_ms] = optional;
        let [created_at_unix_ms, updated_at_unix_ms] = times;
        RecordDoc {
            profile_id, provider, scope, credential_type, last_used_unix_ms, last_success_unix_ms, last_failure_unix_ms,
            last_failure_kind, failure_count, cooldown_until_unix_ms, token_expiry_state, eligibility,
            created_at_unix_ms, updated_at_unix_ms,
            doctor_hint: hint.map(|[code, severity, message]| HintDoc { code, severity, message }),
        }
    }
}

prop_compose! {
    fn order()(
        scope in text(), provider in text(), profile_ids in vec(text(), 0..4), updated_at_unix_ms in time(),
    ) -> OrderDoc {
        OrderDoc { scope, provider, profile_ids, updated_at_unix_ms }
    }
}

fn written(write: impl FnOnce(&mut Toml)) -> String {
    let mut out = Toml::new("", 0);
    write(&mut out);
    out.into_text()
}

proptest! {
    #[test]
    fn documents_are_written_as_the_toml_crate_writes_them(
        profiles in vec(profile(), 0..3), records in vec(record(), 0..3), profile_orders in vec(order(), 0..3),
    ) {
        let profiles = ProfilesDoc { version: VERSION, profiles };
        let runtime = RuntimeDoc { version: VERSION, records, profile_orders };
        prop_assert_eq!(written(|out| profiles.write(out)), toml::to_string_pretty(&profiles).unwrap());
        prop_assert_eq!(written(|out| runtime.write(out)), toml::to_string_pretty(&runtime).unwrap());
    }
}
