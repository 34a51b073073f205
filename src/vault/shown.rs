//! Records of the vault's state as somebody may see them: for comparing two states.

use serde_json::{Value, json};

use crate::event::codec;

use super::backend;
use super::state::{HEADS, Head, VERSIONS, VersionRecord, split_head_key, split_version_key};

/// What a record of the state is about, and its fields; nothing for counters, indexes and other domains.
#[must_use]
pub fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, Value)> {
    match key.first() {
        Some(&HEADS) => {
            let target = split_head_key(key)?;
            let head: Head = codec::decode(value).ok()?;
            let fields = json!({
                "version": head.current.version,
                "state": head.state().name(),
                "value_bytes": head.current.value_bytes,
                "written_by": head.current.seq,
                "expires_at_ms": head.current.expires_at.map(crate::base::Timestamp::as_millis),
                "deleted_through": head.deleted_through,
                "description": head.description,
                "labels": head.labels,
            });
            Some(("secret", target.to_string(), fields))
        }
        Some(&VERSIONS) => {
            let (target, version) = split_version_key(key)?;
            let record: VersionRecord = codec::decode(value).ok()?;
            let fields = json!({"deleted": record.deleted, "shredded_by": record.shredded});
            Some(("secret_version", format!("{target}@{version}"), fields))
        }
        _ => backend::shown(key, value),
    }
}
