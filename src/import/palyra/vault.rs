//! The vault: its list, its envelopes wherever they are, and the values in them.

use std::collections::BTreeMap;

use crate::base::{BackendKind, SecretName, SecretPath, Timestamp, limits};
use crate::crypto::Key;
use crate::event::import::OriginTimes;
use crate::import::items::{FoundSecret, Gathered, Line, Verdict};
use crate::platform::Keystore;

use super::Progress;
use super::documents::{self, EntryDoc, MetadataDoc, ObjectsDoc};
use super::folder::Folder;
use super::sealed::{keystore_envelope, object_id, open_envelope, vault_key};

const METADATA: &str = "vault/metadata.json";
const OBJECTS: &str = "vault/objects/objects.store.json";
const MARKER: &str = "vault/backend.kind";
/// The service under whose name that program keeps items in the Secret Service.
const SERVICE: &str = "palyra.vault.v1";

/// Reads the vault. Gives the envelopes that came from a keystore: the source is not its files alone then.
pub fn read(
    folder: &mut Folder,
    ca_key: Option<&str>,
    keystore: &dyn Keystore,
    gathered: &mut Gathered,
    progress: &Progress<'_>,
) -> Vec<Vec<u8>> {
    let metadata = match folder.read(METADATA, limits::IMPORT_STATE_MAX) {
        Ok(None) => return Vec::new(),
        Ok(Some(bytes)) => documents::read::<MetadataDoc>(&bytes),
        Err(what) => Err(what),
    };
    let metadata = match metadata {
        Ok(metadata) if metadata.version == 1 && metadata.entries.len() <= limits::IMPORT_ITEMS_MAX => metadata,
        Ok(metadata) if metadata.version != 1 => {
            let what = format!("version {} is not known; it must be 1", metadata.version);
            return damaged(gathered, METADATA, what);
        }
        Ok(_) => return damaged(gathered, METADATA, "it lists too many secrets".to_owned()),
        Err(what) => return damaged(gathered, METADATA, what),
    };
    let Some(ca_key) = ca_key else {
        let what = format!("{} secrets are sealed by the CA's key, which is not there", metadata.entries.len());
        return damaged(gathered, METADATA, what);
    };
    let mut objects = match Objects::open(folder, keystore) {
        Ok(objects) => objects,
        Err((verdict, what)) => {
            gathered.lines.push(Line::new("vault", verdict, what));
            return Vec::new();
        }
    };
    let key = vault_key(ca_key);
    let of = metadata.entries.len() as u64;
    for (done, entry) in (0..).zip(&metadata.entries) {
        if done % 1024 == 0 {
            progress(done, of);
        }
        match secret(folder, &mut objects, &key, entry) {
            Ok(found) => gathered.secrets.push(found),
            Err((item, verdict, what)) => gathered.lines.push(Line::new(item, verdict, what)),
        }
    }
    if let Place::File(rest) = &objects.place {
        for id in rest.keys() {
            let id: String = id.chars().filter(|one| one.is_ascii_alphanumeric() || *one == '_').take(80).collect();
            gathered.lines.push(Line::new(
                format!("object {id}"),
                Verdict::Foreign,
                "the vault's list does not name it",
            ));
        }
    }
    objects.fetched
}

fn damaged(gathered: &mut Gathered, file: &str, what: String) -> Vec<Vec<u8>> {
    gathered.lines.push(Line::new(format!("file {file}"), Verdict::Damaged, what));
    Vec::new()
}

enum Place<'a> {
    /// All in one file; what was taken is gone from here.
    File(BTreeMap<String, Vec<u8>>),
    /// A file for each.
    Files,
    Keystore(&'a dyn Keystore),
}

struct Objects<'a> {
    place: Place<'a>,
    fetched: Vec<Vec<u8>>,
}

impl<'a> Objects<'a> {
    fn open(folder: &mut Folder, keystore: &'a dyn Keystore) -> Result<Self, (Verdict, String)> {
        let damaged = |what: String| (Verdict::Damaged, what);
        let marker = folder.read(MARKER, limits::CONFIG_BYTES_MAX).map_err(damaged)?;
        let kind = match marker.as_deref().map(|bytes| std::str::from_utf8(bytes.trim_ascii())) {
            // Older stores knew files alone.
            None => BackendKind::EncryptedFile,
            Some(text) => text
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| damaged(format!("{MARKER} names no backend that is known")))?,
        };
        let place = match kind {
            BackendKind::EncryptedFile => match folder
                .read(OBJECTS, limits::IMPORT_FILE_MAX)
                .map_err(|what| damaged(format!("{OBJECTS}: {what}")))?
            {
                Some(bytes) => {
                    let objects: ObjectsDoc =
                        documents::read(&bytes).map_err(|what| damaged(format!("{OBJECTS}: {what}")))?;
                    Place::File(objects.0)
                }
                None => Place::Files,
            },
            BackendKind::LinuxSecretService if cfg!(target_os = "linux") => {
                keystore.probe().map_err(|error| damaged(format!("its values are in the Secret Service: {error}")))?;
                Place::Keystore(keystore)
            }
            other => {
                let what = format!(
                    "its values are in `{other}`, which this system has not: run the import where that store was used"
                );
                return Err((Verdict::Unfit, what));
            }
        };
        Ok(Self { place, fetched: Vec::new() })
    }

    fn take(&mut self, folder: &mut Folder, id: &str) -> Result<Vec<u8>, String> {
        const GONE: &str = "its envelope is not there";
        match &mut self.place {
            Place::File(objects) => objects.remove(id).ok_or_else(|| GONE.to_owned()),
            Place::Files => {
                let found = folder.read(&format!("vault/objects/{id}"), limits::OBJECT_BYTES_MAX * 4)?;
                let found = match found {
                    Some(bytes) => Some(bytes),
                    None => folder.read(&format!("vault/objects/{id}.json"), limits::OBJECT_BYTES_MAX * 4)?,
                };
                found.map(|bytes| bytes.to_vec()).ok_or_else(|| GONE.to_owned())
            }
            Place::Keystore(keystore) => {
                let item = keystore.get_foreign(SERVICE, id).map_err(|error| error.to_string())?;
                let envelope = keystore_envelope(&item.ok_or_else(|| GONE.to_owned())?);
                self.fetched.push(envelope.clone());
                Ok(envelope)
            }
        }
    }
}

type Wrong = (String, Verdict, String);

fn secret(folder: &mut Folder, objects: &mut Objects<'_>, key: &Key, entry: &EntryDoc) -> Result<FoundSecret, Wrong> {
    let shown = |text: &str| -> String { text.chars().filter(|one| !one.is_control()).take(128).collect() };
    let text = entry.scope.text().ok_or_else(|| {
        (format!("secret {}", shown(&entry.key)), Verdict::Damaged, "its scope is of no kind that is known".to_owned())
    })?;
    let item = format!("secret {}/{}", shown(&text), shown(&entry.key));
    let unfit = |what: String| (item.clone(), Verdict::Unfit, what);
    let damaged = |what: String| (item.clone(), Verdict::Damaged, what);
    let scope = text
        .parse()
        .map_err(|error: crate::base::RefError| unfit(format!("its scope cannot be held here: {error}")))?;
    let name: SecretName = entry
        .key
        .parse()
        .map_err(|error: crate::base::RefError| unfit(format!("its name cannot be held here: {error}")))?;
    let id = object_id(&scope, &name);
    if entry.object_id != id {
        return Err(damaged("the list names an object that belongs to another secret".to_owned()));
    }
    let envelope = objects.take(folder, &id).map_err(damaged)?;
    let value = open_envelope(&envelope, key, &scope, &name).map_err(|error| damaged(error.to_string()))?;
    if value.len() as u64 != entry.value_bytes {
        return Err(damaged(format!("the list says {} bytes, and it has {}", entry.value_bytes, value.len())));
    }
    let origin = OriginTimes {
        created: Timestamp::from_millis(entry.created_at_unix_ms),
        updated: Timestamp::from_millis(entry.updated_at_unix_ms),
    };
    Ok(FoundSecret { origin: Some(origin), ..FoundSecret::bare(SecretPath { scope, name }, value) })
}

/// Reads a list and objects from arbitrary bytes, and opens what they name with a key that sealed nothing.
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = documents::read::<ObjectsDoc>(bytes);
    let Ok(metadata) = documents::read::<MetadataDoc>(bytes) else { return };
    let mut folder = Folder::new(std::path::Path::new("/nowhere/at/all"));
    let mut objects = Objects { place: Place::File(BTreeMap::new()), fetched: Vec::new() };
    let key = vault_key("no key");
    for entry in &metadata.entries {
        assert!(secret(&mut folder, &mut objects, &key, entry).is_err(), "there is no object");
    }
}
