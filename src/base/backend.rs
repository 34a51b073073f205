//! Where sealed envelopes are kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a ledger keeps the sealed envelopes of its secrets (stored: the variant's number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// In the events themselves.
    #[default]
    Ledger,
    /// In small files of their own below the home.
    EncryptedFile,
    /// In the Secret Service of a Linux desktop.
    LinuxSecretService,
    /// In the keychain of macOS.
    MacosKeychain,
    /// In files that the data protection interface of Windows seals once more.
    WindowsDpapi,
}

/// The text is no backend's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such backend: it is one of ledger, encrypted_file, linux_secret_service, macos_keychain, windows_dpapi")]
pub struct UnknownBackend;

impl BackendKind {
    /// Every kind, in order of number.
    pub const ALL: [Self; 5] =
        [Self::Ledger, Self::EncryptedFile, Self::LinuxSecretService, Self::MacosKeychain, Self::WindowsDpapi];

    /// The stable name, as in the marker file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::EncryptedFile => "encrypted_file",
            Self::LinuxSecretService => "linux_secret_service",
            Self::MacosKeychain => "macos_keychain",
            Self::WindowsDpapi => "windows_dpapi",
        }
    }

    /// The number, as `secret_put` stores it.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BackendKind {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownBackend)
    }
}
