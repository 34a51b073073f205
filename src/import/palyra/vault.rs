//! The vault: its list, its envelopes wherever they are, and the values in them.

use std::collections::{BTreeMap, HashSet};

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
const OBJECTS_FILE: &str = "objects.store.json";
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
        Ok(None) => return without_list(folder, gathered),
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
    let mut met = HashSet::with_capacity(metadata.entries.len());
    for (done, entry) in (0..).zip(&metadata.entries) {
        if done % 1024 == 0 {
            progress(done, of);
        }
        if !met.insert((entry.scope.text(), entry.key.as_str())) {
            let item = format!("secret {}/{}", shown(&entry.scope.text().unwrap_or_default()), shown(&entry.key));
            gathered.lines.push(Line::new(item, Verdict::Damaged, "it stands in the list more than once"));
            continue;
        }
        match secret(folder, &mut objects, &key, entry) {
            Ok(found) => gathered.secrets.push(found),
            Err((item, verdict, what)) => gathered.lines.push(Line::new(item, verdict, what)),
        }
    }
    unnamed(folder, &objects, &metadata, gathered);
    objects.fetched
}

/// Whether a name below the vault's folder is one of the layout.
pub(super) fn is_known(file: &str) -> bool {
    matches!(file, "backend.kind" | "metadata.json" | "objects") || is_passing(file)
}

/// What a writer of that program leaves for a moment.
fn is_passing(file: &str) -> bool {
    file.ends_with(".lock") || file.ends_with(".tmp")
}

fn shown(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(128).collect()
}

/// A vault without a list holds nothing, or it is half of one: what its objects are can be known from the list alone.
fn without_list(folder: &mut Folder, gathered: &mut Gathered) -> Vec<Vec<u8>> {
    let wrong = |what: String| Line::new(format!("file {METADATA}"), Verdict::Damaged, what);
    let files = folder.list("vault/objects").unwrap_or_default();
    let mut objects = files.iter().filter(|(file, _)| file != OBJECTS_FILE && !is_passing(file)).count();
    match folder.read(OBJECTS, limits::IMPORT_FILE_MAX).map(|bytes| bytes.map(|bytes| documents::read(&bytes))) {
        Ok(None) => {}
        Ok(Some(Ok(ObjectsDoc(held)))) => objects += held.len(),
        Ok(Some(Err(what))) | Err(what) => {
            gathered.lines.push(wrong(format!("it is not there, and {OBJECTS}: {what}")));
            return Vec::new();
        }
    }
    if objects > 0 {
        let what = format!("it is not there, and {objects} objects are: whose they are stands in it alone");
        gathered.lines.push(wrong(what));
        return Vec::new();
    }
    match folder.read(MARKER, limits::CONFIG_BYTES_MAX) {
        Ok(Some(kind)) if kind.trim_ascii() != BackendKind::EncryptedFile.name().as_bytes() => {
            let what = "it is not there, and the values are in a keystore: which ones stands in it alone";
            gathered.lines.push(wrong(what.to_owned()));
        }
        Ok(_) => {}
        Err(what) => gathered.lines.push(Line::new(format!("file {MARKER}"), Verdict::Damaged, what)),
    }
    Vec::new()
}

/// Objects that the list does not name, and what else lies beside them. Those of a secret that was refused have their
/// line already.
fn unnamed(folder: &Folder, objects: &Objects<'_>, metadata: &MetadataDoc, gathered: &mut Gathered) {
    let named: HashSet<&str> = metadata.entries.iter().map(|entry| entry.object_id.as_str()).collect();
    let foreign = |item: String| Line::new(item, Verdict::Foreign, "the vault's list does not name it");
    if let Place::File(rest) = &objects.place {
        for id in rest.keys().filter(|id| !named.contains(id.as_str())) {
            let id: String = id.chars().filter(|one| one.is_ascii_alphanumeric() || *one == '_').take(80).collect();
            gathered.lines.push(foreign(format!("object {id}")));
        }
    }
    for (file, _) in folder.list("vault/objects").unwrap_or_default() {
        let id = file.strip_suffix(".json").unwrap_or(&file);
        if file != OBJECTS_FILE && !is_passing(&file) && !named.contains(id) {
            gathered.lines.push(foreign(format!("file vault/objects/{}", shown(&file))));
        }
    }
}

fn damaged(gathered: &mut Gathered, file: &str, what: String) -> Vec<Vec<u8>> {
    gathered.lines.push(Line::new(format!("file {file}"), Verdict::Damaged, what));
    Vec::new()
}

enum Place<'a> {
    /// All in one file; what was taken is gone from here. A store that was moved to it may have files of its own for
    /// what is older.
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
            BackendKind::LinuxSecretService => {
                let what = format!(
                    "its values are in `{kind}`, which this system has not: run the import where that store was used"
                );
                return Err((Verdict::Unfit, what));
            }
            // `ledger` was never a place of that program's.
            BackendKind::Ledger | BackendKind::MacosKeychain | BackendKind::WindowsDpapi => {
                let what = format!(
                    "its values are in `{kind}`, which is read on no system: bring them in an env file (`import env`), \
                     and the rest with --skip-damaged"
                );
                return Err((Verdict::Unfit, what));
            }
        };
        Ok(Self { place, fetched: Vec::new() })
    }

    fn take(&mut self, folder: &mut Folder, id: &str) -> Result<Vec<u8>, String> {
        const GONE: &str = "its envelope is not there";
        match &mut self.place {
            Place::File(objects) => match objects.remove(id) {
                Some(envelope) => Ok(envelope),
                None => own_file(folder, id)?.ok_or_else(|| GONE.to_owned()),
            },
            Place::Files => own_file(folder, id)?.ok_or_else(|| GONE.to_owned()),
            Place::Keystore(keystore) => {
                let item = keystore.get_foreign(SERVICE, id).map_err(|error| error.to_string())?;
                let envelope = keystore_envelope(&item.ok_or_else(|| GONE.to_owned())?);
                self.fetched.push(envelope.clone());
                Ok(envelope)
            }
        }
    }
}

/// An object in a file of its own.
fn own_file(folder: &mut Folder, id: &str) -> Result<Option<Vec<u8>>, String> {
    let found = folder.read(&format!("vault/objects/{id}"), limits::OBJECT_BYTES_MAX * 4)?;
    let found = match found {
        Some(bytes) => Some(bytes),
        None => folder.read(&format!("vault/objects/{id}.json"), limits::OBJECT_BYTES_MAX * 4)?,
    };
    Ok(found.map(|bytes| bytes.to_vec()))
}

type Wrong = (String, Verdict, String);

fn secret(folder: &mut Folder, objects: &mut Objects<'_>, key: &Key, entry: &EntryDoc) -> Result<FoundSecret, Wrong> {
    let text = entry.scope.text().ok_or_else(|| {
        (format!("secret {}", shown(&entry.key)), Verdict::Damaged, "its scope is of no kind that is known".to_owned())
    })?;
    let item = format!("secret {}/{}", shown(&text), shown(&entry.key));
    let unfit = |what: String| (item.clone(), Verdict::Unfit, what);
    let damaged = |what: String| (item.clone(), Verdict::Damaged, what);
    if !entry.scope.is_plain() {
        return Err(unfit("its scope cannot be held here: a colon stands in the channel's name".to_owned()));
    }
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
