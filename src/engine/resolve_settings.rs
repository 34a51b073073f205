//! `[resolve]` of `config.toml`: what references to secrets may reach. By default only the vault.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{AbsolutePath, EnvName, limits};

use super::config::SettingsError;

/// The `[resolve]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolveSettings {
    /// Variables that may be read; `NAME*` stands for every name that begins so.
    pub env_allow: Vec<String>,
    /// Folders below which files may be read.
    pub file_dirs: Vec<PathBuf>,
    /// Whether symbolic links are followed, as long as they end below one of these folders.
    pub file_symlinks: bool,
    /// Programs that may be run.
    pub exec_allow: Vec<PathBuf>,
    /// Variables that these programs inherit. Without `PATH` among them it is `/usr/bin:/bin`.
    pub exec_inherit: Vec<String>,
    /// Folder that these programs run in.
    pub exec_dir: PathBuf,
    /// Bound on a value in bytes.
    pub max_bytes: u32,
    /// Bound on the time that a program may take, in milliseconds.
    pub timeout_ms: u32,
}

impl Default for ResolveSettings {
    fn default() -> Self {
        Self {
            env_allow: Vec::new(),
            file_dirs: Vec::new(),
            file_symlinks: false,
            exec_allow: Vec::new(),
            exec_inherit: Vec::new(),
            exec_dir: PathBuf::from("/"),
            max_bytes: limits::RESOLVE_BYTES_DEFAULT,
            timeout_ms: limits::RESOLVE_MS_DEFAULT,
        }
    }
}

impl ResolveSettings {
    /// Checks every entry.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let absolute = |key, paths: &[PathBuf]| {
            let good = |path: &Path| path.to_str().is_some_and(|text| text.parse::<AbsolutePath>().is_ok());
            if paths.iter().all(|path| good(path)) { Ok(()) } else { Err(SettingsError::Absolute { key }) }
        };
        let names = |key, names: &[String], star: bool| {
            let good = |name: &String| {
                let stem = if star { name.strip_suffix('*').unwrap_or(name) } else { name };
                stem.parse::<EnvName>().is_ok()
            };
            if names.iter().all(good) { Ok(()) } else { Err(SettingsError::Variable { key }) }
        };
        let range = |key, value: u32, max: u32| {
            let (value, min, max) = (u64::from(value), 1, u64::from(max));
            if (min..=max).contains(&value) { Ok(()) } else { Err(SettingsError::Range { key, min, max }) }
        };
        names("resolve.env_allow", &self.env_allow, true)?;
        names("resolve.exec_inherit", &self.exec_inherit, false)?;
        absolute("resolve.file_dirs", &self.file_dirs)?;
        absolute("resolve.exec_allow", &self.exec_allow)?;
        if self.exec_dir != Path::new("/") {
            absolute("resolve.exec_dir", std::slice::from_ref(&self.exec_dir))?;
        }
        range("resolve.max_bytes", self.max_bytes, limits::RESOLVE_BYTES_CEILING)?;
        range("resolve.timeout_ms", self.timeout_ms, limits::RESOLVE_MS_CEILING)
    }
}
