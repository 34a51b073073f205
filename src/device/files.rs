//! What a device keeps: its certificate and key in one file, the roots that it trusts, and who it is.
//!
//! | file | holds |
//! |---|---|
//! | `identity.pem` | certificate, then private key: one file, so that both are replaced at once; mode 0600 |
//! | `ca.pem` | roots of the ledger |
//! | `device.toml` | [`DeviceNote`] |
//! | `checkpoint.note` | the last checkpoint of the ledger that the device saw |
//! | `joining.toml`, `joining.pem`, `joining.key` | a request that waits for a person, until it is answered: [`Pending`] |

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{DeviceId, LedgerId, RequestId, limits, write_whole};
use crate::checkpoint::SignedCheckpoint;
use crate::crypto::Key;
use crate::event::identity::{ClientKind, Der};
use crate::pki::{LeafKey, certificates_from_pem, key_from_pem, pem};

/// Why a device's files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// A file does not read.
    #[error("{path} does not read as {wanted}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Others may read the private key.
    #[error("{path} is open to others (mode {mode:o}); it should be 600")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Who a device is, and where its ledger is (`device.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceNote {
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub kind: ClientKind,
    /// What it is called.
    pub name: String,
    /// The ledger.
    pub ledger: LedgerId,
    /// Host and port at which the daemon serves devices.
    pub address: String,
}

/// A request that waits for a person, so that a device that dies meanwhile can go on (`joining.toml`). The
/// device's key and the root that the proof vouched for lie beside it in `joining.pem`, the key that opens
/// the answer in `joining.key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingNote {
    /// The request.
    pub request: RequestId,
    /// The digits that both sides show.
    pub sas: String,
    /// Host and port of the daemon's pairing listener.
    pub pairing: String,
    /// What `device.toml` will say.
    pub device: DeviceNote,
}

/// A request that waits, as it was read.
#[derive(Debug)]
pub struct Pending {
    /// What `joining.toml` says.
    pub note: PendingNote,
    /// The device's key.
    pub key: LeafKey,
    /// The root that the proof vouched for.
    pub root: Der,
    /// The key that opens the answer.
    pub poll_key: Key,
}

/// A device's certificate, key and roots.
#[derive(Debug)]
pub struct DeviceIdentity {
    /// The certificate.
    pub certificate: Der,
    /// Its key.
    pub key: LeafKey,
    /// Roots that it trusts.
    pub roots: Vec<Der>,
}

/// The folder of a device.
#[derive(Debug, Clone)]
pub struct DeviceFiles {
    dir: PathBuf,
}

impl DeviceFiles {
    /// The files in a folder, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The file with certificate and key.
    #[must_use]
    pub fn identity_path(&self) -> PathBuf {
        self.dir.join("identity.pem")
    }

    /// The file with the roots.
    #[must_use]
    pub fn roots_path(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The file that says who the device is.
    #[must_use]
    pub fn note_path(&self) -> PathBuf {
        self.dir.join("device.toml")
    }

    /// The file that says which request waits.
    #[must_use]
    pub fn pending_path(&self) -> PathBuf {
        self.dir.join("joining.toml")
    }

    /// The file with the last checkpoint that the device saw.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint.note")
    }

    /// The last checkpoint that the device saw; none where it saw none.
    ///
    /// # Errors
    /// [`FilesError`] where the file is there and does not read.
    pub fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, FilesError> {
        let path = self.checkpoint_path();
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let signed = SignedCheckpoint::parse(&bytes);
        signed.map(Some).map_err(|_| FilesError::Malformed { path, wanted: "a signed checkpoint" })
    }

    /// Writes the last checkpoint that the device saw.
    ///
    /// # Errors
    /// [`FilesError::Io`]; the old file stays then.
    pub fn write_checkpoint(&self, signed: &SignedCheckpoint) -> Result<(), FilesError> {
        self.write(&self.checkpoint_path(), signed.note().as_bytes())
    }

    fn pending_key_paths(&self) -> [PathBuf; 2] {
        [self.dir.join("joining.pem"), self.dir.join("joining.key")]
    }

    /// The request that waits; none where none does.
    ///
    /// # Errors
    /// [`FilesError`] where a file is there and does not read, or is open to others.
    pub fn pending(&self) -> Result<Option<Pending>, FilesError> {
        let path = self.pending_path();
        let Some(text) = read_if_there(&path)? else { return Ok(None) };
        let note = std::str::from_utf8(&text).ok().and_then(|text| toml::from_str(text).ok());
        let note = note.ok_or(FilesError::Malformed { path, wanted: "a waiting request's TOML" })?;
        let [path, poll_path] = self.pending_key_paths();
        private(&path)?;
        private(&poll_path)?;
        let text = read(&path)?;
        let malformed = || FilesError::Malformed { path: path.clone(), wanted: "a root and a private key" };
        let root = certificates_from_pem(&text).map_err(|_| malformed())?.into_iter().next().ok_or_else(malformed)?;
        let key = key_from_pem(&text).map_err(|_| malformed())?;
        let poll_key = Key::from_slice(&read(&poll_path)?);
        let poll_key = poll_key.ok_or(FilesError::Malformed { path: poll_path, wanted: "a key of 32 bytes" })?;
        Ok(Some(Pending { note, key, root: Der::new(root), poll_key }))
    }

    /// Writes a request that waits: its keys first, so that the note never stands without them.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn write_pending(
        &self,
        note: &PendingNote,
        key: &LeafKey,
        root: &Der,
        poll_key: &Key,
    ) -> Result<(), FilesError> {
        let [path, poll_path] = self.pending_key_paths();
        self.write_with_key(&path, root, key)?;
        self.write(&poll_path, poll_key.expose().as_slice())?;
        self.write_toml(&self.pending_path(), note)
    }

    /// Forgets the request that waited.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn clear_pending(&self) -> Result<(), FilesError> {
        let [keys, poll_key] = self.pending_key_paths();
        for path in [self.pending_path(), keys, poll_key] {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FilesError::Io { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the folder where it is missing, for its owner alone.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn prepare(&self) -> Result<(), FilesError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|source| FilesError::Io { path: self.dir.clone(), source })
    }

    /// Who the device is; none where it was never paired.
    ///
    /// # Errors
    /// [`FilesError`] where the file is there and does not read.
    pub fn note(&self) -> Result<Option<DeviceNote>, FilesError> {
        let path = self.note_path();
        let Some(text) = read_if_there(&path)? else { return Ok(None) };
        let text = std::str::from_utf8(&text).ok().and_then(|text| toml::from_str(text).ok());
        text.map(Some).ok_or(FilesError::Malformed { path, wanted: "a device's TOML" })
    }

    /// Certificate, key and roots.
    ///
    /// # Errors
    /// [`FilesError`] where a file is missing, does not read, or the key is open to others.
    pub fn identity(&self) -> Result<DeviceIdentity, FilesError> {
        let path = self.identity_path();
        private(&path)?;
        let text = read(&path)?;
        let malformed = || FilesError::Malformed { path: path.clone(), wanted: "a certificate and a private key" };
        let certificate = certificates_from_pem(&text).map_err(|_| malformed())?.into_iter().next();
        let certificate = Der::new(certificate.ok_or_else(malformed)?);
        let key = key_from_pem(&text).map_err(|_| malformed())?;
        let path = self.roots_path();
        let roots = certificates_from_pem(&read(&path)?).unwrap_or_default();
        if roots.is_empty() {
            return Err(FilesError::Malformed { path, wanted: "root certificates" });
        }
        Ok(DeviceIdentity { certificate, key, roots: roots.into_iter().map(Der::new).collect() })
    }

    /// Writes certificate and key, at once.
    ///
    /// # Errors
    /// [`FilesError::Io`]; the old file stays then.
    pub fn write_identity(&self, certificate: &Der, key: &LeafKey) -> Result<(), FilesError> {
        self.write_with_key(&self.identity_path(), certificate, key)
    }

    fn write_with_key(&self, path: &Path, certificate: &Der, key: &LeafKey) -> Result<(), FilesError> {
        let (certificate, key) = (pem("CERTIFICATE", certificate.as_bytes()), pem("PRIVATE KEY", key.expose_pkcs8()));
        let mut text = Zeroizing::new(String::with_capacity(certificate.len() + key.len()));
        text.push_str(&certificate);
        text.push_str(&key);
        self.write(path, text.as_bytes())
    }

    /// Writes the roots.
    ///
    /// # Errors
    /// [`FilesError::Io`]; the old file stays then.
    pub fn write_roots(&self, roots: &[Der]) -> Result<(), FilesError> {
        let text: String = roots.iter().map(|root| pem("CERTIFICATE", root.as_bytes()).to_string()).collect();
        self.write(&self.roots_path(), text.as_bytes())
    }

    /// Writes who the device is.
    ///
    /// # Errors
    /// [`FilesError::Io`]; the old file stays then.
    pub fn write_note(&self, note: &DeviceNote) -> Result<(), FilesError> {
        self.write_toml(&self.note_path(), note)
    }

    fn write_toml(&self, path: &Path, note: &impl Serialize) -> Result<(), FilesError> {
        let text = toml::to_string(note)
            .map_err(|_| FilesError::Malformed { path: path.to_owned(), wanted: "a device's TOML" })?;
        self.write(path, text.as_bytes())
    }

    #[allow(clippy::unused_self)]
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
        write_whole(path, bytes).map_err(|source| FilesError::Io { path: path.to_owned(), source })
    }
}

fn private(path: &Path) -> Result<(), FilesError> {
    let found = std::fs::metadata(path).map_err(|source| FilesError::Io { path: path.to_owned(), source })?;
    let mode = found.mode() & 0o777;
    let open_to_others = mode & 0o077 != 0;
    if open_to_others { Err(FilesError::Open { path: path.to_owned(), mode }) } else { Ok(()) }
}

fn read_if_there(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FilesError> {
    match read(path) {
        Err(FilesError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FilesError> {
    let bound = limits::DEVICE_FILE_MAX;
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    File::open(path)
        .and_then(|file| file.take(bound as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| FilesError::Io { path: path.to_owned(), source })?;
    if bytes.len() > bound {
        return Err(FilesError::Malformed { path: path.to_owned(), wanted: "a file of a device: it is too large" });
    }
    Ok(bytes)
}
