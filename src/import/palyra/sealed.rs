//! The sealed forms: files of the identity store, and envelopes of the vault.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::base::{Scope, SecretBytes, SecretName};
use crate::crypto::{Key, TAG_LEN, derive_foreign, open_foreign, sha256};

const MAGIC: &[u8] = b"IDS1";
const NONCE: usize = 12;
const ENVELOPE: &str = "chacha20_poly1305";

/// With or without padding, as either was written.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why something sealed did not open. Nothing of what stood there is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// It ends too early.
    #[error("it is cut off")]
    Short,
    /// The key of the identity store is needed and not there.
    #[error("it is sealed, and the identity store's key is not there")]
    NoKey,
    /// The key is another one, or the bytes were changed.
    #[error("it does not open: another key sealed it, or it was altered")]
    Tag,
    /// It is no envelope.
    #[error("it is no envelope in JSON")]
    Json,
    /// It is an envelope of another version or algorithm.
    #[error("it is an envelope of a version or algorithm that is not known")]
    Version,
    /// A field is not base64, or has another length than it must.
    #[error("a field of the envelope is no base64 of its length")]
    Field,
    /// It was sealed for another secret.
    #[error("it was sealed for another secret")]
    OtherPlace,
}

/// Opens a file of the identity store. One without the mark of sealed ones is taken as it is: older stores wrote
/// plain text.
///
/// # Errors
/// [`SealedError`] where it is sealed and does not open.
pub fn open_identity(bytes: &[u8], key: Option<&Key>) -> Result<Zeroizing<Vec<u8>>, SealedError> {
    let Some(sealed) = bytes.strip_prefix(MAGIC) else { return Ok(Zeroizing::new(bytes.to_vec())) };
    let key = key.ok_or(SealedError::NoKey)?;
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(SealedError::Short)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(SealedError::Short)?;
    let mut plain = Zeroizing::new(body.to_vec());
    if open_foreign(key, nonce, &[], &mut plain, tag) { Ok(plain) } else { Err(SealedError::Tag) }
}

/// The key of the vault's values, from the CA's private key as its PEM text stands there.
#[must_use]
pub fn vault_key(private_key_pem: &str) -> Key {
    let input = Zeroizing::new(sha256(&[private_key_pem.as_bytes()]));
    derive_foreign(b"palyra.vault.kek.v1", input.as_slice(), b"envelope:kek")
}

/// The id of the object that holds a secret.
#[must_use]
pub fn object_id(scope: &Scope, name: &SecretName) -> String {
    let digest = sha256(&[b"palyra.vault.object.v1", scope.as_str().as_bytes(), &[0], name.as_str().as_bytes()]);
    let mut id = String::with_capacity(68);
    id.push_str("obj_");
    for byte in digest {
        id.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        id.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    id
}

#[derive(Deserialize)]
struct Envelope<'a> {
    version: u32,
    #[serde(borrow)]
    algorithm: &'a str,
    #[serde(borrow)]
    aad_b64: &'a str,
    #[serde(borrow)]
    secret_nonce_b64: &'a str,
    #[serde(borrow)]
    secret_ciphertext_b64: &'a str,
    #[serde(borrow)]
    secret_mac_b64: &'a str,
    #[serde(borrow)]
    dek_nonce_b64: &'a str,
    #[serde(borrow)]
    dek_ciphertext_b64: &'a str,
    #[serde(borrow)]
    dek_mac_b64: &'a str,
}

fn field<const N: usize>(text: &str) -> Result<[u8; N], SealedError> {
    BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(SealedError::Field)
}

/// Opens an envelope that was sealed for a secret.
///
/// # Errors
/// [`SealedError`] with what is wrong.
pub fn open_envelope(bytes: &[u8], key: &Key, scope: &Scope, name: &SecretName) -> Result<SecretBytes, SealedError> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| SealedError::Json)?;
    if envelope.version != 1 || envelope.algorithm != ENVELOPE {
        return Err(SealedError::Version);
    }
    let aad = format!("palyra.vault.v1|{scope}|{name}");
    if BASE64.decode(envelope.aad_b64).map_err(|_| SealedError::Field)? != aad.as_bytes() {
        return Err(SealedError::OtherPlace);
    }
    let mut dek = Zeroizing::new(field::<32>(envelope.dek_ciphertext_b64)?);
    let (nonce, tag) = (field(envelope.dek_nonce_b64)?, field(envelope.dek_mac_b64)?);
    if !open_foreign(key, &nonce, aad.as_bytes(), dek.as_mut_slice(), &tag) {
        return Err(SealedError::Tag);
    }
    let dek = Key::from_bytes(&mut dek);
    let mut value = Zeroizing::new(BASE64.decode(envelope.secret_ciphertext_b64).map_err(|_| SealedError::Field)?);
    let (nonce, tag) = (field(envelope.secret_nonce_b64)?, field(envelope.secret_mac_b64)?);
    if open_foreign(&dek, &nonce, aad.as_bytes(), &mut value, &tag) {
        Ok(SecretBytes::from(value.as_slice()))
    } else {
        Err(SealedError::Tag)
    }
}

/// The envelope in an item of a keystore: as it is, or as base64.
#[must_use]
pub fn keystore_envelope(item: &[u8]) -> Vec<u8> {
    let trimmed = item.trim_ascii();
    if trimmed.starts_with(b"{") {
        return trimmed.to_vec();
    }
    BASE64.decode(trimmed).unwrap_or_else(|_| trimmed.to_vec())
}
