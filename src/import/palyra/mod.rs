//! A store in Palyra's file layout: identity, vault, credentials. Read, opened and checked; nothing is written.
//!
//! ```text
//! .store-key.v1 --> identity files --> CA key --SHA-256, HKDF--> vault key --> data keys --> values
//! ```
//!
//! What does not read gives a line and is left out; whoever imports decides whether that stops everything. All
//! bytes are bounded before they are read, and no error repeats what stood in a file.

mod documents;
mod folder;
mod identity;
mod sealed;
mod vault;

use std::path::Path;

use crate::auth::documents::{PROFILES_FILE, RUNTIME_FILE, bring};
use crate::base::limits;
use crate::crypto::Key;
use crate::event::import::SourceForm;
use crate::platform::Keystore;

use super::items::{Gathered, Line, Verdict};
use folder::Folder;

pub(super) use documents::read as read_document;
pub use sealed::{SealedError, open_envelope, open_identity, vault_key};

/// Where the parts of a store are, if not in one folder.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `auth_profiles.toml`, where it is elsewhere (`PALYRA_AUTH_PROFILES_PATH`). What became of the profiles stands
    /// beside it.
    pub profiles: Option<std::path::PathBuf>,
    /// The folder where both documents of profiles are, if they are there (`PALYRA_STATE_ROOT`).
    pub state_root: Option<std::path::PathBuf>,
}

/// Is told how many secrets of how many are opened.
pub type Progress<'a> = dyn Fn(u64, u64) + 'a;

const STORE_KEY: &str = "identity/.store-key.v1";

/// Reads a store.
#[must_use]
pub fn read(root: &Path, places: &Places, keystore: &dyn Keystore, progress: &Progress<'_>) -> Gathered {
    let mut gathered = Gathered::new(SourceForm::Palyra, root.display().to_string());
    gathered.whole = true;
    let mut folder = Folder::new(root);
    if let Err(what) = must_be_store(root) {
        gathered.lines.push(Line::new(format!("folder {}", root.display()), Verdict::Damaged, what));
        gathered.unreadable = true;
        return gathered;
    }
    let key = store_key(&mut folder, &mut gathered);
    let ca_text = identity::read(&mut folder, key.as_ref(), &mut gathered);
    let elsewhere =
        vault::read(&mut folder, ca_text.as_ref().map(|text| text.as_str()), keystore, &mut gathered, progress);
    credentials(root, places, &mut folder, &mut gathered);
    strangers(&folder, &mut gathered);
    let parts: Vec<&[u8]> = elsewhere.iter().map(Vec::as_slice).collect();
    gathered.digest = folder.digest(&parts);
    gathered
}

/// One of its folders is enough: the other may never have been made.
fn must_be_store(root: &Path) -> Result<(), String> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let mut found = false;
    for name in ["identity", "vault"] {
        match std::fs::metadata(root.join(name)) {
            Ok(facts) => found |= facts.is_dir(),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {}
            // Whether it is there cannot be known.
            Err(error) => return Err(format!("its folder {name} cannot be looked at: {error}")),
        }
    }
    let nothing = "there is neither an identity folder nor a vault folder in it: this is no store of that layout";
    if found { Ok(()) } else { Err(nothing.to_owned()) }
}

fn store_key(folder: &mut Folder, gathered: &mut Gathered) -> Option<Key> {
    let mut wrong = |what: String| gathered.lines.push(Line::new(format!("file {STORE_KEY}"), Verdict::Damaged, what));
    match folder.read(STORE_KEY, limits::CONFIG_BYTES_MAX) {
        Ok(Some(bytes)) => {
            let key = Key::from_slice(&bytes);
            if key.is_none() {
                let what = format!(
                    "it has {} bytes and not 32; one of Windows is wrapped by DPAPI, which is read on no system",
                    bytes.len()
                );
                wrong(what);
            }
            key
        }
        Ok(None) => None,
        Err(what) => {
            wrong(what);
            None
        }
    }
}

fn credentials(root: &Path, places: &Places, folder: &mut Folder, gathered: &mut Gathered) {
    let mut texts = [None, None];
    // Where the state root holds none, that store never had one there.
    let folder_of = places.state_root.as_deref().filter(|root| root.join(PROFILES_FILE).exists()).unwrap_or(root);
    for (name, text) in [PROFILES_FILE, RUNTIME_FILE].into_iter().zip(&mut texts) {
        let path = match &places.profiles {
            Some(path) if name == PROFILES_FILE => path.clone(),
            Some(path) => path.with_file_name(name),
            None => folder_of.join(name),
        };
        let found = folder.read_as(name, &path, limits::DOCUMENT_MAX).and_then(|bytes| {
            let bytes = bytes.map(|bytes| String::from_utf8(bytes.to_vec()));
            bytes.transpose().map_err(|_| "it is no text in UTF-8".to_owned())
        });
        match found {
            Ok(None) if name == PROFILES_FILE && places.profiles.is_some() => {
                let what = format!("there is none at {}, where it was said to be", path.display());
                gathered.lines.push(Line::new(format!("file {name}"), Verdict::Damaged, what));
            }
            Ok(found) => *text = found,
            Err(what) => gathered.lines.push(Line::new(format!("file {name}"), Verdict::Damaged, what)),
        }
    }
    let [profiles, runtime] = texts;
    let brought = bring(profiles.as_deref(), runtime.as_deref());
    let item = format!("file {PROFILES_FILE}");
    // Where it is there and does not read, a line says so already.
    if !brought.orphans.is_empty() && !gathered.lines.iter().any(|line| line.item == item) {
        let names: Vec<String> = brought.orphans.iter().take(4).map(ToString::to_string).collect();
        let more = if brought.orphans.len() > names.len() { " and others" } else { "" };
        let what = format!("it is not there, but the runtime state names {}{more}", names.join(", "));
        gathered.lines.push(Line::new(item, Verdict::Damaged, what));
    }
    gathered.profiles = brought.profiles;
    gathered.orders = brought.orders;
    let problems = brought.problems.into_iter().map(|problem| (problem, Verdict::Damaged));
    for (problem, verdict) in problems.chain(brought.strays.into_iter().map(|stray| (stray, Verdict::Skipped))) {
        gathered.lines.push(Line::new(format!("file {}:{}", problem.file, problem.line), verdict, problem.what));
    }
}

/// Files that are nothing of the layout; and those of it that are left behind.
fn strangers(folder: &Folder, gathered: &mut Gathered) {
    let known = |file: &str| {
        matches!(file, "identity" | "vault" | PROFILES_FILE | RUNTIME_FILE)
            || file.ends_with(".lock")
            || file.ends_with(".tmp")
    };
    if let Ok(files) = folder.list("") {
        for (file, _) in files.into_iter().filter(|(file, _)| !known(file)) {
            gathered.lines.push(stranger("", &file));
        }
    }
    if let Ok(files) = folder.list("vault") {
        for (file, _) in files.into_iter().filter(|(file, _)| !vault::is_known(file)) {
            gathered.lines.push(stranger("vault/", &file));
        }
    }
    let Ok(files) = folder.list("identity") else { return };
    for (file, is_folder) in files {
        let name = folder::key_name(&file);
        let (verdict, what) = match name.as_deref() {
            Some(folder::STATE | folder::CA | folder::PAIRED | folder::REVOKED | folder::REVOKED_CERTIFICATES) => {
                continue;
            }
            Some(name) if name.starts_with(folder::PENDING) => {
                (Verdict::Skipped, "a private key of a pairing that was under way: the device pairs anew")
            }
            _ if file.starts_with('.') || file.ends_with(".tmp") || file.ends_with(".lock") => continue,
            _ if is_folder && matches!(file.as_str(), "identity" | "pairing" | "ca") => continue,
            _ => {
                gathered.lines.push(stranger("identity/", &file));
                continue;
            }
        };
        gathered.lines.push(Line::new(format!("file identity/{file}"), verdict, what));
    }
}

fn stranger(folder: &str, file: &str) -> Line {
    let file: String = file.chars().filter(|one| !one.is_control()).take(128).collect();
    Line::new(format!("file {folder}{file}"), Verdict::Foreign, "it is nothing of the layout")
}

/// Reads the documents of an identity store from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_identity(bytes: &[u8]) {
    identity::fuzz(bytes);
}

/// Reads a vault's list and its objects from arbitrary bytes; for fuzzing.
#[doc(hidden)]
pub fn fuzz_vault(bytes: &[u8]) {
    vault::fuzz(bytes);
}
