//! The home folder: where it is, who may enter it, what its marker files say.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::config::{Settings, SettingsError};
use super::core::Layout;
use super::error::Error;
use super::staging;
use crate::base::{BackendKind, limits};
use crate::store::{Medium, RealMedium, StoreError, StoreOp};

/// The marker of the format that this program writes.
pub const FORMAT: &str = "palyra-ledger 1\n";
/// The text of the marker that pins a storage backend.
pub fn marker(kind: BackendKind) -> String {
    format!("{kind}\n")
}

/// Refuses a home that is a link, belongs to another user, or that others may enter.
pub fn check(home: &Path) -> Result<(), Error> {
    let meta = match std::fs::symlink_metadata(home) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoLedger { home: home.to_owned() });
        }
        Err(error) => return Err(StoreError::new(StoreOp::Open, home, error).into()),
    };
    if meta.file_type().is_symlink() {
        return Err(Error::HomeLink { path: home.to_owned() });
    }
    if !meta.is_dir() {
        return Err(Error::NoLedger { home: home.to_owned() });
    }
    check_owner(home, &meta, 0o077, 0o700)?;
    for private in ["keys", "keys/keyring"] {
        let path = home.join(private);
        if let Ok(meta) = std::fs::symlink_metadata(&path) {
            if meta.file_type().is_symlink() {
                return Err(Error::HomeLink { path });
            }
            check_owner(&path, &meta, 0o077, if meta.is_dir() { 0o700 } else { 0o600 })?;
        }
    }
    Ok(())
}

fn check_owner(path: &Path, meta: &std::fs::Metadata, forbidden: u32, wanted: u32) -> Result<(), Error> {
    let user = rustix::process::geteuid().as_raw();
    if meta.uid() != user && user != 0 {
        return Err(Error::HomeOwner { path: path.to_owned(), owner: meta.uid(), user });
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(Error::HomeOpen { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

/// Makes the folders above a new home (mode 0700), durably, and refuses one that holds something.
pub fn prepare(home: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::from(StoreError::new(StoreOp::Folder, &path, error))
    };
    match std::fs::symlink_metadata(home) {
        Ok(meta) if meta.file_type().is_symlink() => return Err(Error::HomeLink { path: home.to_owned() }),
        Ok(meta) if !meta.is_dir() => return Err(Error::HomeTaken { home: home.to_owned() }),
        Ok(meta) => {
            if is_mount(home, &meta) {
                return Err(Error::HomeMount { home: home.to_owned() });
            }
            if std::fs::read_dir(home).map_err(failed(home))?.next().is_some() {
                return Err(Error::HomeTaken { home: home.to_owned() });
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(home)(error)),
    }
    let parent = home.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    make_durably(parent)?;
    staging::sweep(parent);
    Ok(())
}

/// Whether a folder is where something is mounted: another file system, or a folder of the same one.
fn is_mount(folder: &Path, meta: &std::fs::Metadata) -> bool {
    let above = std::fs::metadata(folder.join("..")).map(|above| (above.dev(), above.ino()));
    above.is_ok_and(|(device, inode)| device != meta.dev() || inode == meta.ino()) || is_mount_root(folder)
}

#[cfg(target_os = "linux")]
fn is_mount_root(folder: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // An older kernel does not say; then the rename fails.
    statx(CWD, folder, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
const fn is_mount_root(_folder: &Path) -> bool {
    false
}

/// Makes a folder and those above it. The name of each is durable before anything is put into it: a home that is
/// acknowledged must not go with a folder above it.
fn make_durably(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if above != folder {
        make_durably(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if !folder.is_dir() => return Err(StoreError::new(StoreOp::Folder, folder, error).into()),
        _ => RealMedium.sync_dir(above)?,
    }
    Ok(())
}

/// Writes the marker files of a home that was rebuilt; the format's comes last.
///
/// # Errors
/// [`StoreError`].
pub fn write_markers(medium: &dyn Medium, home: &Path, backend: BackendKind) -> Result<(), StoreError> {
    let layout = Layout { home: home.to_owned() };
    medium.write_atomic(&layout.backend(), marker(backend).as_bytes())?;
    medium.write_atomic(&layout.format(), FORMAT.as_bytes())
}

/// Checks the marker files of an existing home; the backend that they name.
pub fn check_markers(medium: &dyn Medium, layout: &Layout) -> Result<BackendKind, Error> {
    let path = layout.format();
    let found = match medium.read_all(&path, 256) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Err(Error::NoLedger { home: layout.home.clone() }),
        Err(error) => return Err(error.into()),
    };
    if found != FORMAT.as_bytes() {
        return Err(Error::Format { path, found: String::from_utf8_lossy(&found).trim().chars().take(64).collect() });
    }
    let found = medium.read_all(&layout.backend(), 256)?;
    let known = BackendKind::ALL.into_iter().find(|kind| marker(*kind).as_bytes() == found);
    known.ok_or_else(|| Error::Marker {
        path: layout.backend(),
        found: String::from_utf8_lossy(&found).trim().chars().take(64).collect(),
    })
}

/// Reads `config.toml`; a missing one means the defaults.
pub fn settings(medium: &dyn Medium, layout: &Layout) -> Result<Settings, Error> {
    let path = layout.config();
    let bytes = match medium.read_all(&path, limits::CONFIG_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(Settings::default()),
        Err(error) => return Err(error.into()),
    };
    let parsed = String::from_utf8(bytes).map_err(|_| SettingsError::Utf8).and_then(|text| Settings::parse(&text));
    let outside =
        parsed.and_then(|settings| match settings.anchors.files.iter().find(|file| is_within(file, layout)) {
            Some(file) => Err(SettingsError::AnchorInside(file.display().to_string())),
            None => Ok(settings),
        });
    outside.map_err(|source| Error::Settings { path, source })
}

/// Whether an anchor lies in the home: it would be put back together with what it is to vouch for.
fn is_within(file: &Path, layout: &Layout) -> bool {
    is_inside(file, &layout.home)
}

/// Whether a file is or would be in a home, links followed.
pub fn is_inside(file: &Path, home: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    file.starts_with(home) || parent.is_some_and(|parent| real(parent).starts_with(real(home)))
}
