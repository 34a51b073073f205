//! The file that holds the key of a `file` slot (stored; FORMAT.md "Keys").

use std::path::Path;

use zeroize::Zeroizing;

use crate::base::SlotId;
use crate::base::bytes::{Reader, newer};
use crate::crypto::{Hash, KEY_LEN, Key, labels};

use super::error::KeysError;
use super::slot::RootPlace;

const KEY_FILE_MAGIC: [u8; 4] = *b"PLKF";
const KEY_FILE_VERSION: u16 = 1;
const KEY_FILE_BODY: usize = 4 + 2 + 2 + 16 + 4 + 4 + KEY_LEN;
/// Bytes of a key file: the body and the first 8 bytes of its check.
pub(super) const KEY_FILE_LEN: usize = KEY_FILE_BODY + 8;

/// The name of a slot's key file in the `keys` folder.
pub(super) fn file_name(slot: SlotId, root_generation: u32) -> String {
    format!("root-{slot}-{root_generation}.key")
}

fn key_file_check(body: &[u8]) -> [u8; 8] {
    Hash::of(labels::KEY_FILE_CHECK, &[body]).0.first_chunk().copied().unwrap_or_default()
}

pub(super) fn encode_key_file(slot: SlotId, place: &RootPlace, key: &Key) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN));
    bytes.extend_from_slice(&KEY_FILE_MAGIC);
    bytes.extend_from_slice(&KEY_FILE_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(place.ledger_id.as_bytes());
    bytes.extend_from_slice(slot.as_bytes());
    bytes.extend_from_slice(&place.root_generation.to_le_bytes());
    bytes.extend_from_slice(key.expose());
    let check = key_file_check(&bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// The slot key in a key file; nothing where the bytes are not a whole key file. Whose it is shows
/// when it opens a slot or does not.
pub(super) fn parse_key_file(bytes: &[u8]) -> Option<Key> {
    let (body, check) = bytes.split_first_chunk::<KEY_FILE_BODY>()?;
    if check != key_file_check(body) {
        return None;
    }
    let mut reader = Reader(body);
    let whole = reader.take()? == KEY_FILE_MAGIC && reader.u16()? == KEY_FILE_VERSION && reader.u16()? == 0;
    let _ledger_slot_and_generation: [u8; 24] = reader.take()?;
    whole.then_some(())?;
    Key::from_slice(reader.bytes(KEY_LEN)?)
}

pub(super) fn key_in(path: &Path, bytes: &[u8]) -> Result<Key, KeysError> {
    parse_key_file(bytes).ok_or_else(|| {
        let path = path.to_owned();
        match newer(bytes, KEY_FILE_MAGIC, KEY_FILE_VERSION, |bytes| parse_key_file(bytes).is_some()) {
            Some(version) => KeysError::Newer { path, version },
            None => KeysError::Damaged { path, what: "it is not a whole key file" },
        }
    })
}

/// Reads a key file that the caller keeps elsewhere; it must be the owner's alone.
pub(super) fn read_own_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    use std::io::Read;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    use crate::store::{StoreError, StoreOp};

    let failed = |op| move |source| KeysError::Store(StoreError::new(op, path, source));
    // Not blocking: a FIFO in its place must not hang the program.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed(StoreOp::Open))?;
    let facts = file.metadata().map_err(failed(StoreOp::Read))?;
    if !facts.is_file() || facts.len() != KEY_FILE_LEN as u64 {
        return Err(KeysError::Damaged { path: path.to_owned(), what: "it is not a whole key file" });
    }
    let mode = facts.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::LooseKeyFile { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN));
    file.take(KEY_FILE_LEN as u64).read_to_end(&mut bytes).map_err(failed(StoreOp::Read))?;
    Ok(bytes)
}
