//! Records of service credentials as somebody may see them: for comparing two states.

use serde_json::{Value, json};

use crate::event::codec;

use super::state::{ORDERS, Order, PROFILES, ProfileRecord, RUNTIMES, Runtime};

/// What a record of the state is about, and its fields; nothing for counters, indexes and other domains.
#[must_use]
pub fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, Value)> {
    let (kind, id) = key.split_first()?;
    let id = || std::str::from_utf8(id).ok();
    match *kind {
        PROFILES => {
            let record: ProfileRecord = codec::decode(value).ok()?;
            let profile = record.profile;
            let fields = json!({
                "provider": profile.provider,
                "name": profile.name,
                "scope": profile.scope,
                "enabled": profile.enabled,
                "credential": profile.credential,
            });
            Some(("profile", id()?.to_owned(), fields))
        }
        RUNTIMES => {
            let mut fields = serde_json::to_value(codec::decode::<Runtime>(value).ok()?).ok()?;
            // It changes with whatever else does.
            fields.as_object_mut()?.remove("updated");
            Some(("profile_in_use", id()?.to_owned(), fields))
        }
        ORDERS => {
            let order: Order = codec::decode(value).ok()?;
            let fields = json!({"profiles": order.profiles});
            Some(("order", format!("{} for {}", order.scope, order.provider), fields))
        }
        _ => None,
    }
}
