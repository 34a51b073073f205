//! Recipients outside of the key slots: age (X25519), for whoever keeps a key of their own.
//!
//! The age file in the header holds the root key, so that one identity opens a backup on a machine where nothing
//! else is left. Whoever has the identity and the file has the ledger as it was.

use std::io::{Read, Write};

use zeroize::Zeroizing;

use crate::base::{SecretBytes, limits};
use crate::crypto::Key;

use super::BackupError;

const NO_RECIPIENT: BackupError = BackupError::Age("that is no recipient of the form age1...");
const NO_IDENTITY: BackupError = BackupError::Age("the file holds no line that begins with AGE-SECRET-KEY-1");

/// Whom a backup is for.
#[derive(Clone, Default)]
pub struct Recipients(Vec<age::x25519::Recipient>);

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl Recipients {
    /// Adds one, as `age1...`.
    ///
    /// # Errors
    /// [`BackupError::Age`].
    pub fn add(&mut self, text: &str) -> Result<(), BackupError> {
        if self.0.len() >= limits::BACKUP_RECIPIENTS_MAX {
            return Err(BackupError::Age("there are too many recipients"));
        }
        self.0.push(text.trim().parse().map_err(|_| NO_RECIPIENT)?);
        Ok(())
    }

    /// Adds one from each line of a text that is neither empty nor begins with `#`.
    ///
    /// # Errors
    /// [`BackupError::Age`].
    pub fn add_lines(&mut self, text: &str) -> Result<(), BackupError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let before = self.0.len();
        lines.into_iter().try_for_each(|line| self.add(line))?;
        if self.0.len() == before { Err(NO_RECIPIENT) } else { Ok(()) }
    }

    /// Each of them, as `age1...`.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(ToString::to_string)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An age file with a key in it for all of them; nothing where there are none.
    ///
    /// # Errors
    /// [`BackupError::Age`].
    pub fn seal(&self, key: &[u8; 32]) -> Result<Vec<u8>, BackupError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let recipients = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(|_| NO_RECIPIENT)?;
        let mut file = Vec::new();
        let mut writer = encryptor.wrap_output(&mut file)?;
        writer.write_all(key)?;
        writer.finish()?;
        Ok(file)
    }
}

/// The identities that somebody has at hand.
#[derive(Clone, Default)]
pub struct Identities(Vec<age::x25519::Identity>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").field("count", &self.0.len()).finish()
    }
}

impl Identities {
    /// Adds every identity of a file, as `age-keygen` writes it.
    ///
    /// # Errors
    /// [`BackupError::Age`] where there is none.
    pub fn add_file(&mut self, file: &SecretBytes) -> Result<(), BackupError> {
        let text = std::str::from_utf8(file.expose()).map_err(|_| NO_IDENTITY)?;
        let before = self.0.len();
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("AGE-SECRET-KEY-1")) {
            self.0.push(line.parse().map_err(|_| NO_IDENTITY)?);
        }
        if self.0.len() == before { Err(NO_IDENTITY) } else { Ok(()) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key in an age file.
    ///
    /// # Errors
    /// [`BackupError::NoRecipients`] where there is no file, [`BackupError::Age`] where none of them opens it.
    pub fn open(&self, file: &[u8]) -> Result<Key, BackupError> {
        const OTHERS: BackupError = BackupError::Age("none of the identities opens it");
        if file.is_empty() {
            return Err(BackupError::NoRecipients);
        }
        let decryptor = age::Decryptor::new(file).map_err(|_| BackupError::Age("its age file does not read"))?;
        let identities = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let reader = decryptor.decrypt(identities).map_err(|_| OTHERS)?;
        let mut key = Zeroizing::new(Vec::with_capacity(64));
        reader.take(33).read_to_end(&mut key).map_err(|_| OTHERS)?;
        Key::from_slice(&key).ok_or(OTHERS)
    }
}
