//! Fuzz targets for what other stores hold: whatever the bytes are, they give items or lines, and nothing breaks.

use crate::base::{Scope, SecretBytes, SecretName};
use crate::crypto::Key;
use crate::event::import::{ImportedOrder, ImportedProfile};
use crate::import::{self, ExportDoc, Gathered};

fn key() -> Key {
    Key::from_bytes(&mut [7; 32])
}

/// Files of an identity store: sealed, plain and torn ones, and the state and CA documents in them.
///
/// # Panics
/// Where the property does not hold.
pub fn import_identity(bytes: &[u8]) {
    let with_key = import::palyra::open_identity(bytes, Some(&key()));
    let without = import::palyra::open_identity(bytes, None);
    if bytes.starts_with(b"IDS1") {
        assert!(without.is_err(), "nothing sealed opens without a key");
    } else {
        assert_eq!(with_key.as_ref().map(|plain| plain.as_slice()), Ok(bytes), "plain files are themselves");
        assert_eq!(with_key, without);
    }
    import::palyra::fuzz_identity(bytes);
}

/// The vault's list, its objects, and one envelope. What opens was sealed by the key, which no input was.
///
/// # Panics
/// Where the property does not hold.
pub fn import_vault(bytes: &[u8]) {
    import::palyra::fuzz_vault(bytes);
    let (scope, name) = (Scope::global(), "a".parse::<SecretName>());
    if let Ok(name) = name {
        assert!(import::palyra::open_envelope(bytes, &key(), &scope, &name).is_err());
    }
}

/// The two documents of credentials, divided by a line of `=====`: what is read is whole.
///
/// # Panics
/// Where the property does not hold.
pub fn import_credentials(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (profiles, runtime) = text.split_once("\n=====\n").map_or((text, None), |(one, other)| (one, Some(other)));
    let brought = crate::auth::documents::bring(Some(profiles), runtime);
    let again = serde_json::to_string(&(&brought.profiles, &brought.orders)).unwrap_or_default();
    let again: Result<(Vec<ImportedProfile>, Vec<ImportedOrder>), _> = serde_json::from_str(&again);
    assert!(again.is_ok_and(|(profiles, orders)| profiles == brought.profiles && orders == brought.orders));
}

/// What `export` writes: what reads, reads the same when it is written anew.
///
/// # Panics
/// Where the property does not hold.
pub fn import_json(bytes: &[u8]) {
    let gathered = import::read_json(bytes, "fuzz");
    if let Ok(document) = serde_json::from_slice::<ExportDoc>(bytes) {
        let written = serde_json::to_vec(&document).unwrap_or_default();
        let again = import::read_json(&written, "fuzz");
        let same = |one: &Gathered, other: &Gathered| {
            one.secrets == other.secrets && one.profiles == other.profiles && one.lines == other.lines
        };
        assert!(same(&gathered, &again), "written anew it is the same");
    }
}

/// Env files as sources: every variable is a secret, a reference or a line.
pub fn import_env(bytes: &[u8]) {
    let gathered = import::read_env(bytes, &Scope::global(), "fuzz");
    let _ = gathered.secrets.len();
}

/// A password store, made of `path`, a line's end and `content`, divided by NUL: every file is a secret with the bytes
/// that gpg gave, or a line, and lines never quote what is in a file.
///
/// # Panics
/// Where the property does not hold.
#[cfg(unix)]
pub fn import_pass(bytes: &[u8]) {
    use std::os::unix::ffi::OsStrExt;

    const MARK: &[u8] = b"pass-canary-";
    let Ok(root) = tempfile::tempdir() else { return };
    for entry in bytes.split(|byte| *byte == 0).take(64) {
        let (name, content) = entry.split_at(entry.iter().position(|byte| *byte == b'\n').unwrap_or(entry.len()));
        let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.'] | [b'.', b'.']));
        let mut path = root.path().to_owned();
        path.extend(parts.take(20).map(std::ffi::OsStr::from_bytes));
        if path != root.path()
            && path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
            && !path.exists()
        {
            let _ = std::fs::write(&path, [MARK, content].concat());
        }
    }
    for part in [import::Part::Whole, import::Part::FirstLine] {
        let (mut opened, mut refused) = (Vec::new(), 0);
        let decrypt = &mut |path: &std::path::Path| -> Result<SecretBytes, String> {
            match std::fs::read(path) {
                Ok(bytes) if bytes.len() % 7 != 3 => {
                    opened.push(bytes.clone());
                    Ok(SecretBytes::from(bytes.as_slice()))
                }
                _ => {
                    refused += 1;
                    Err("it does not open".to_owned())
                }
            }
        };
        let gathered = import::read_pass(root.path(), &Scope::global(), part, decrypt, &|_, _| {});
        assert_eq!(gathered.secrets.len(), opened.len(), "what opens is a secret");
        let wrong = gathered.lines.iter().filter(|line| line.verdict == import::Verdict::Damaged).count();
        assert!(wrong >= refused, "what does not open is a line");
        let quoted = gathered.lines.iter().any(|line| format!("{line:?}").contains("pass-canary-"));
        let named = bytes.windows(MARK.len()).any(|window| window == MARK);
        assert!(!quoted || named, "no line quotes a value");
        for (secret, content) in gathered.secrets.iter().zip(&opened) {
            let value = secret.value.expose();
            let whole = match part {
                import::Part::Whole => value == content.as_slice(),
                import::Part::FirstLine => content.starts_with(value),
            };
            assert!(whole, "a secret is what gpg gave");
        }
    }
}
