//! Records of device trust as somebody may see them: for comparing two states.

use serde_json::{Map, Value, json};

use crate::base::{DeviceId, PairingId, RequestId, Serial};
use crate::event::codec;

use super::pairing::{PairingRecord, RequestRecord};
use super::state::{
    AUTHORITIES, Authorities, CERTIFICATES, CertificateRecord, DEVICES, DeviceRecord, PAIRINGS, REQUESTS,
};

/// What a record of the state is about, and its fields; nothing for counters, indexes and other domains. A
/// pairing code's verifier is never among them.
#[must_use]
pub fn shown(key: &[u8], value: &[u8]) -> Option<(&'static str, String, Value)> {
    let (kind, id) = key.split_first()?;
    if key == AUTHORITIES {
        let all: Authorities = codec::decode(value).ok()?;
        let states: Map<String, Value> =
            all.0.iter().map(|one| (format!("generation_{}", one.generation), one.state.name().into())).collect();
        return Some(("ca", "ca".to_owned(), Value::Object(states)));
    }
    match *kind {
        DEVICES => {
            let record: DeviceRecord = codec::decode(value).ok()?;
            let fields = json!({
                "name": record.name,
                "kind": record.kind.name(),
                "state": record.state.name(),
                "paired_at_ms": record.paired.as_millis(),
                "certificate": record.certificate,
                "grants": record.grants,
            });
            Some(("device", DeviceId::from_bytes(id.try_into().ok()?).to_string(), fields))
        }
        CERTIFICATES => {
            let record: CertificateRecord = codec::decode(value).ok()?;
            let fields = json!({
                "subject": record.subject,
                "generation": record.generation,
                "not_after_ms": record.not_after.as_millis(),
                "cause": record.cause.name(),
                "fingerprint": record.fingerprint,
                "revoked_at_ms": record.revoked.map(crate::base::Timestamp::as_millis),
            });
            Some(("certificate", Serial::from_bytes(id.try_into().ok()?).to_string(), fields))
        }
        PAIRINGS => {
            let record: PairingRecord = codec::decode(value).ok()?;
            let fields = json!({
                "method": record.method.name(),
                "attempts": record.attempts,
                "expires_at_ms": record.expires_at.as_millis(),
                "state": record.state,
            });
            Some(("pairing", PairingId::from_bytes(id.try_into().ok()?).to_string(), fields))
        }
        REQUESTS => {
            let record: RequestRecord = codec::decode(value).ok()?;
            let fields = json!({
                "device": record.device,
                "pairing": record.pairing,
                "peer": record.peer,
                "state": record.state,
            });
            Some(("request", RequestId::from_bytes(id.try_into().ok()?).to_string(), fields))
        }
        _ => None,
    }
}
