//! What a device keeps: its certificate and key in one file, the roots that it trusts, and who it is.
//!
//! | file | holds |
//! |---|---|
//! | `identity.pem` | certificate, then private key: one file, so that both are replaced at once; mode 0600 |
//! | `ca.pem` | roots of the ledger |
//! | `device.toml` | [`DeviceNote`] |

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::{DeviceId, LedgerId, limits};
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
        let text = match read(&path) {
            Err(FilesError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let text = std::str::from_utf8(&text).ok().and_then(|text| toml::from_str(text).ok());
        text.map(Some).ok_or(FilesError::Malformed { path, wanted: "a device's TOML" })
    }

    /// Certificate, key and roots.
    ///
    /// # Errors
    /// [`FilesError`] where a file is missing, does not read, or the key is open to others.
    pub fn identity(&self) -> Result<DeviceIdentity, FilesError> {
        let path = self.identity_path();
        let mode = std::fs::metadata(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?.mode();
        if mode & 0o077 != 0 {
            return Err(FilesError::Open { path, mode: mode & 0o777 });
        }
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
        let (certificate, key) = (pem("CERTIFICATE", certificate.as_bytes()), pem("PRIVATE KEY", key.expose_pkcs8()));
        let mut text = Zeroizing::new(String::with_capacity(certificate.len() + key.len()));
        text.push_str(&certificate);
        text.push_str(&key);
        self.write(&self.identity_path(), text.as_bytes())
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
        let path = self.note_path();
        let text = toml::to_string(note)
            .map_err(|_| FilesError::Malformed { path: path.clone(), wanted: "a device's TOML" })?;
        self.write(&path, text.as_bytes())
    }

    /// Writes beside the file, syncs, renames, syncs the folder: whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
        let written = (|| {
            let mut file = tempfile::Builder::new()
                .prefix(".new-")
                .permissions(std::fs::Permissions::from_mode(0o600))
                .tempfile_in(&self.dir)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            File::open(&self.dir)?.sync_all()
        })();
        written.map_err(|source| FilesError::Io { path: path.to_owned(), source })
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
