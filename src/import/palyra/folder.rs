//! The files of such a store: where they are, and reading them within bounds.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{Hasher, labels};

/// Names of the identity store's documents, in the clear.
pub const STATE: &str = "identity/state.v1.json";
pub const CA: &str = "identity/ca/state.json";
pub const PAIRED: &str = "identity/pairing/paired_devices.json";
pub const REVOKED: &str = "identity/pairing/revoked_devices.json";
pub const REVOKED_CERTIFICATES: &str = "identity/pairing/revoked_certificates.json";
pub const PENDING: &str = "identity/pairing/pending_private_keys/";

/// A folder, and the digest of everything that was read from it.
pub struct Folder {
    root: PathBuf,
    hasher: Hasher,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Folder {
    /// A folder to read from.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), hasher: Hasher::new(labels::IMPORT_SOURCE) }
    }

    /// The whole of a file, wiped after use; nothing where there is none.
    ///
    /// # Errors
    /// What keeps it from being read, in words.
    pub fn read(&mut self, name: &str, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let path = self.root.join(name);
        self.read_as(name, &path, max)
    }

    /// The same for a file that stands elsewhere: the digest knows it by the name that it has in a store.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn read_as(&mut self, name: &str, path: &Path, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        // Not blocking: a FIFO in a file's place must not hang the program.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let facts = file.metadata().map_err(|error| error.to_string())?;
        if !facts.is_file() {
            return Err("it is no regular file".to_owned());
        }
        let len = facts.len();
        if len > max {
            return Err(format!("it has {len} bytes, more than {max}"));
        }
        // Sized once, so that no reallocation leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0).saturating_add(1)));
        file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > max {
            return Err(format!("it has more than {max} bytes"));
        }
        part(&mut self.hasher, name.as_bytes());
        part(&mut self.hasher, &bytes);
        Ok(Some(bytes))
    }

    /// The names in a folder below, sorted, and whether each is a folder itself; none where it is not there.
    ///
    /// # Errors
    /// What keeps it from being read, in words.
    pub fn list(&self, name: &str) -> Result<Vec<(String, bool)>, String> {
        let entries = match std::fs::read_dir(self.root.join(name)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            names.push((entry.file_name().to_string_lossy().into_owned(), folder));
        }
        names.sort();
        Ok(names)
    }

    /// The digest of everything that was read so far, with what was found elsewhere.
    pub fn digest(mut self, more: &[&[u8]]) -> crate::crypto::Hash {
        for bytes in more {
            part(&mut self.hasher, bytes);
        }
        self.hasher.finish()
    }
}

/// Each part behind its length: two sources never run together into one.
fn part(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// The name that a file of the identity store stands for; nothing where it is none.
#[must_use]
pub fn key_name(file: &str) -> Option<String> {
    if file.is_empty() || !file.len().is_multiple_of(2) {
        return None;
    }
    let digits: Vec<u8> = file
        .bytes()
        .map(|letter| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    String::from_utf8(bytes).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// The file that holds a document of the identity store.
#[must_use]
pub fn key_file(name: &str) -> String {
    name.bytes().fold(String::from("identity/"), |mut file, byte| {
        use std::fmt::Write as _;
        let _ = write!(file, "{byte:02x}");
        file
    })
}
