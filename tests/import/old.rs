//! A store in Palyra's file layout as that program would have written it, made anew with keys that the test holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use palyra_ledger::DeviceId;
use palyra_ledger::event::identity::Der;
use palyra_ledger::import::palyra::vault_key;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const ULIDS: [&str; 3] = ["01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2", "01ARZ3NDEKTSV4RRFFQ69G5FA3"];
pub const TIME: u64 = 1_795_475_231_939;

/// A certificate with its key.
pub struct Leaf {
    pub der: Vec<u8>,
    pub pem: String,
    pub key: KeyPair,
}

impl Leaf {
    pub fn fingerprint(&self) -> String {
        crate::hex(&Sha256::digest(&self.der))
    }
}

/// The store, to be written into a folder.
pub struct Old {
    pub ca_key: KeyPair,
    pub ca_pem: String,
    pub store_key: [u8; 32],
    pub secrets: Vec<(String, String, Vec<u8>)>,
    pub paired: BTreeMap<String, Value>,
    pub revoked: BTreeMap<String, Value>,
    pub fingerprints: Vec<String>,
    pub plain_identity: bool,
    pub one_file_an_object: bool,
    pub backend: Option<&'static str>,
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Palyra Gateway CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

impl Old {
    /// Its root in DER.
    pub fn root(&self) -> Der {
        Der::new(palyra_ledger::pki::foreign_der(&self.ca_pem).unwrap())
    }

    pub fn new() -> Self {
        let ca_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ca_pem = ca_params().self_signed(&ca_key).unwrap().pem();
        Self {
            ca_key,
            ca_pem,
            store_key: [7; 32],
            secrets: Vec::new(),
            paired: BTreeMap::new(),
            revoked: BTreeMap::new(),
            fingerprints: Vec::new(),
            plain_identity: false,
            one_file_an_object: false,
            backend: Some("encrypted_file"),
        }
    }

    pub fn secret(mut self, scope: &str, key: &str, value: &[u8]) -> Self {
        self.secrets.push((scope.to_owned(), key.to_owned(), value.to_vec()));
        self
    }

    pub fn leaf(&self, ulid: &str) -> Leaf {
        issuer_leaf(&ca_params(), &self.ca_key, ulid)
    }

    /// Pairs a device that had these certificates, the newest last.
    pub fn pair(&mut self, ulid: &str, kind: &str, leaves: &[&Leaf]) {
        let fingerprints: Vec<String> = leaves.iter().map(|leaf| leaf.fingerprint()).collect();
        let newest = leaves.last().unwrap();
        let entry = json!({
            "device_id": ulid,
            "client_kind": kind,
            "identity_fingerprint": "00",
            "current_certificate": {
                "sequence": 1,
                "subject": format!("device:{ulid}"),
                "certificate_pem": newest.pem,
                "issued_at_unix_ms": TIME,
                "expires_at_unix_ms": TIME + 1,
            },
            "certificate_fingerprints": fingerprints,
        });
        self.paired.insert(ulid.to_owned(), entry);
    }

    pub fn revoke(&mut self, ulid: &str, reason: &str) {
        let entry = json!({"device_id": ulid, "reason": reason, "revoked_at_unix_ms": TIME});
        self.revoked.insert(ulid.to_owned(), entry);
    }

    fn identity(&self, dir: &Path, name: &str, document: &Value) {
        let plain = serde_json::to_vec(document).unwrap();
        let file = crate::hex(name.as_bytes());
        let bytes = if self.plain_identity { plain } else { sealed(&self.store_key, &plain) };
        std::fs::write(dir.join("identity").join(file), bytes).unwrap();
    }

    pub fn write(&self, dir: &Path) -> PathBuf {
        std::fs::create_dir_all(dir.join("identity")).unwrap();
        std::fs::create_dir_all(dir.join("vault/objects")).unwrap();
        if !self.plain_identity {
            std::fs::write(dir.join("identity/.store-key.v1"), self.store_key).unwrap();
        }
        let key_pem = self.ca_key.serialize_pem();
        let ca = json!({"certificate_pem": self.ca_pem, "private_key_pem": key_pem, "sequence": 9});
        let state = json!({
            "generation": 4,
            "paired_devices": self.paired,
            "revoked_devices": self.revoked,
            "revoked_certificate_fingerprints": self.fingerprints,
        });
        self.identity(dir, "identity/ca/state.json", &ca);
        self.identity(dir, "identity/state.v1.json", &state);
        if let Some(kind) = self.backend {
            std::fs::write(dir.join("vault/backend.kind"), kind).unwrap();
        }
        let kek = *vault_key(&key_pem).expose();
        let mut objects: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut entries = Vec::new();
        for (scope, key, value) in &self.secrets {
            let id = object_id(scope, key);
            entries.push(json!({
                "scope": scope_doc(scope),
                "key": key,
                "object_id": id,
                "created_at_unix_ms": TIME,
                "updated_at_unix_ms": TIME + 5,
                "value_bytes": value.len(),
            }));
            objects.insert(id, envelope(&kek, scope, key, value));
        }
        let metadata = json!({"version": 1, "entries": entries});
        std::fs::write(dir.join("vault/metadata.json"), serde_json::to_vec(&metadata).unwrap()).unwrap();
        if self.one_file_an_object {
            for (id, bytes) in &objects {
                std::fs::write(dir.join("vault/objects").join(id), bytes).unwrap();
            }
        } else {
            std::fs::write(dir.join("vault/objects/objects.store.json"), serde_json::to_vec(&objects).unwrap())
                .unwrap();
        }
        dir.to_owned()
    }
}

fn issuer_leaf(ca: &CertificateParams, ca_key: &KeyPair, ulid: &str) -> Leaf {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Palyra Device {ulid}"));
    params.distinguished_name.push(DnType::OrganizationName, "Palyra");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::from_params(ca, ca_key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Leaf { der: certificate.der().to_vec(), pem: certificate.pem(), key }
}

pub fn object_id(scope: &str, key: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"palyra.vault.object.v1");
    hasher.update(scope.as_bytes());
    hasher.update([0]);
    hasher.update(key.as_bytes());
    format!("obj_{}", crate::hex(&hasher.finalize()))
}

fn scope_doc(scope: &str) -> Value {
    let (kind, rest) = scope.split_once(':').unwrap_or((scope, ""));
    match kind {
        "principal" => json!({"kind": "principal", "principal_id": rest}),
        "channel" => {
            let (channel, account) = rest.split_once(':').unwrap();
            json!({"kind": "channel", "channel_name": channel, "account_id": account})
        }
        "skill" => json!({"kind": "skill", "skill_id": rest}),
        _ => json!({"kind": "global"}),
    }
}

fn seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut buffer = plain.to_vec();
    let cipher = ChaCha20Poly1305::new(key.into());
    let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), aad, buffer.as_mut_slice().into()).unwrap();
    (buffer, tag.to_vec())
}

pub fn sealed(key: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    let (body, tag) = seal(key, [9; 12], b"", plain);
    [b"IDS1".as_slice(), &[9; 12], &body, &tag].concat()
}

pub fn envelope(kek: &[u8; 32], scope: &str, key: &str, value: &[u8]) -> Vec<u8> {
    let text = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    let aad = format!("palyra.vault.v1|{scope}|{key}");
    let dek = [0x44; 32];
    let (body, mac) = seal(&dek, [1; 12], aad.as_bytes(), value);
    let (wrapped, wrapped_mac) = seal(kek, [2; 12], aad.as_bytes(), &dek);
    serde_json::to_vec(&json!({
        "version": 1,
        "algorithm": "chacha20_poly1305",
        "aad_b64": text(aad.as_bytes()),
        "secret_nonce_b64": text(&[1; 12]),
        "secret_ciphertext_b64": text(&body),
        "secret_mac_b64": text(&mac),
        "dek_nonce_b64": text(&[2; 12]),
        "dek_ciphertext_b64": text(&wrapped),
        "dek_mac_b64": text(&wrapped_mac),
    }))
    .unwrap()
}

pub fn device(ulid: &str) -> DeviceId {
    DeviceId::from_ulid(ulid).unwrap()
}
