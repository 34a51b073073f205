//! Importing a store in Palyra's file layout: reading, opening, sealing anew, one durable batch.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use palyra_ledger::import::palyra::{Places, read, vault_key};
use palyra_ledger::testing::MemoryKeystore;
use palyra_ledger::{Config, ImportOptions, Ledger, NewSlot};
use sha2::{Digest, Sha256};

use crate::report::{Section, figure};
use crate::{Fault, Plan};

const VALUE_BYTES: usize = 64;

fn seal(key: &[u8; 32], aad: &str, plain: &[u8]) -> Result<(String, String), Fault> {
    let mut buffer = plain.to_vec();
    let cipher = ChaCha20Poly1305::new(key.into());
    let tag = cipher.encrypt_inout_detached(&Nonce::from([1; 12]), aad.as_bytes(), buffer.as_mut_slice().into());
    let tag = tag.map_err(|_| Fault::from("cannot seal"))?;
    Ok((STANDARD_NO_PAD.encode(&buffer), STANDARD_NO_PAD.encode(tag)))
}

/// A store of so many secrets, as that program would have written it.
fn write(dir: &Path, secrets: u32) -> Result<(), Fault> {
    std::fs::create_dir_all(dir.join("identity"))?;
    std::fs::create_dir_all(dir.join("vault/objects"))?;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca =
        serde_json::json!({"certificate_pem": params.self_signed(&key)?.pem(), "private_key_pem": key.serialize_pem()});
    let state = serde_json::json!({"generation": 1, "paired_devices": {}, "revoked_devices": {}, "revoked_certificate_fingerprints": []});
    for (name, document) in [("identity/ca/state.json", &ca), ("identity/state.v1.json", &state)] {
        let file = name.bytes().fold(String::new(), |mut file, byte| {
            let _ = write!(file, "{byte:02x}");
            file
        });
        std::fs::write(dir.join("identity").join(file), serde_json::to_vec(document)?)?;
    }
    std::fs::write(dir.join("vault/backend.kind"), "encrypted_file")?;
    let kek = *vault_key(&key.serialize_pem()).expose();
    let nonce = STANDARD_NO_PAD.encode([1; 12]);
    let (mut list, mut objects) = (String::from("{\"version\":1,\"entries\":["), String::from("{"));
    for number in 0..secrets {
        let name = format!("team/service-{number}/token");
        let aad = format!("palyra.vault.v1|global|{name}");
        let digest = Sha256::digest(format!("palyra.vault.object.v1global\0{name}"));
        let id = digest.iter().fold(String::from("obj_"), |mut id, byte| {
            let _ = write!(id, "{byte:02x}");
            id
        });
        let (value, value_mac) = seal(&[4; 32], &aad, &[b'v'; VALUE_BYTES])?;
        let (dek, dek_mac) = seal(&kek, &aad, &[4; 32])?;
        let aad = STANDARD_NO_PAD.encode(aad);
        let envelope = format!(
            "{{\"version\":1,\"algorithm\":\"chacha20_poly1305\",\"aad_b64\":\"{aad}\",\"secret_nonce_b64\":\"{nonce}\",\"secret_ciphertext_b64\":\"{value}\",\"secret_mac_b64\":\"{value_mac}\",\"dek_nonce_b64\":\"{nonce}\",\"dek_ciphertext_b64\":\"{dek}\",\"dek_mac_b64\":\"{dek_mac}\"}}"
        );
        let comma = if number == 0 { "" } else { "," };
        write!(
            list,
            "{comma}{{\"scope\":{{\"kind\":\"global\"}},\"key\":\"{name}\",\"object_id\":\"{id}\",\"created_at_unix_ms\":1,\"updated_at_unix_ms\":2,\"value_bytes\":{VALUE_BYTES}}}"
        )?;
        write!(objects, "{comma}\"{id}\":[")?;
        for (at, byte) in envelope.bytes().enumerate() {
            write!(objects, "{}{byte}", if at == 0 { "" } else { "," })?;
        }
        objects.push(']');
    }
    std::fs::write(dir.join("vault/metadata.json"), list + "]}")?;
    std::fs::write(dir.join("vault/objects/objects.store.json"), objects + "}")?;
    Ok(())
}

/// One import of 100,000 secrets, from the first byte that is read to the durable batch.
pub fn palyra(plan: &Plan) -> Result<Section, Fault> {
    let secrets = if plan.quick { 10_000 } else { 100_000 };
    let dir = tempfile::Builder::new().prefix("import-").tempdir_in(&plan.dir)?;
    let store = dir.path().join("store");
    write(&store, secrets)?;
    let (mut reading, mut writing, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 {
        let ledger = Ledger::init(Config::new(dir.path().join(format!("home{round}"))), NewSlot::file("bench"))?;
        let begin = Instant::now();
        let gathered = read(&store, &Places::default(), &MemoryKeystore::default(), &|_, _| {});
        reading.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let done = ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {})?;
        writing.push(begin.elapsed().as_secs_f64());
        if done.seq.is_none() || gathered.secrets.len() != secrets as usize {
            let said: Vec<String> =
                gathered.lines.iter().take(5).map(|line| format!("{}: {}", line.item, line.what)).collect();
            return Err(Fault::from(format!("the import is not whole: {}", said.join("; "))));
        }
        let begin = Instant::now();
        let nothing = ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {})?;
        again.push(begin.elapsed().as_secs_f64());
        if nothing.seq.is_some() {
            return Err(Fault::from("a second run changed something"));
        }
        ledger.close()?;
    }
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let (read_s, write_s) = (best(&reading), best(&writing));
    let per_second = |seconds: f64| figure(f64::from(secrets) / seconds);
    let note =
        format!("A store of {secrets} secrets of {VALUE_BYTES} bytes in one file of numbers; the best of three.");
    let mut section = Section::new("Importing a store", note, &["step", "seconds", "secrets a second"]);
    section.row(&["reading and opening".to_owned(), figure(read_s), per_second(read_s)]);
    section.row(&["sealing, one durable batch".to_owned(), figure(write_s), per_second(write_s)]);
    section.row(&["both".to_owned(), figure(read_s + write_s), per_second(read_s + write_s)]);
    let again_s = best(&again);
    section.row(&["a second run, which changes nothing".to_owned(), figure(again_s), per_second(again_s)]);
    section.at_least("secrets imported a second", 20_000.0, f64::from(secrets) / (read_s + write_s));
    Ok(section)
}
