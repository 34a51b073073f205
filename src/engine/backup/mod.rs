//! Backups: one consistent file while others write, and a ledger from it on an empty machine.
//!
//! What must fit together is taken in an order that lets writers go on. The key table is copied first, then the
//! last event is chosen, then the slots that were filled meanwhile are added: so every slot that an event names is
//! there, and no slot is shredded by an event that is not. Only what replaces the key ring or the table as a whole
//! (a rotation, a roll of the CA, a move of envelopes) waits, and it waits without holding what writers need.

mod check;
mod create;
mod facts;
mod intake;
mod restore;

use std::io::Write;
use std::ops::ControlFlow;

use crate::backup::{BackupFile, Identities, Recipients};
use crate::base::{BackupId, SlotId};
use crate::crypto::Hash;

use super::config::Config;
use super::error::Error;
use super::history::{self, LastBackup};
use super::ledger::Ledger;

pub use check::{BackupCheck, BackupReport, CheckState};
pub use facts::FileFacts;

/// What a backup is to hold, and who can open it beside the key slots.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Only what came after this event, which must have this hash where one is given: an increment.
    pub after: Option<(u64, Option<Hash>)>,
    /// Age recipients.
    pub recipients: Recipients,
    /// Whether the home's key file goes into it, so that it opens itself.
    pub with_key_file: bool,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMade {
    /// Its random name.
    pub backup: BackupId,
    /// Its first event.
    pub from: u64,
    /// Its last event.
    pub to: u64,
    /// Hash of that event.
    pub head: Hash,
    /// Root of the state after it.
    pub state_root: Hash,
    /// The digest at its end.
    pub digest: Hash,
    /// Its length in bytes.
    pub bytes: u64,
    /// The event that records it; it is in the next backup.
    pub event: u64,
}

/// A ledger that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// The last backup's random name.
    pub backup: BackupId,
    /// Files that were restored from.
    pub files: usize,
    /// The last event of the backup.
    pub to: u64,
    /// Its hash.
    pub head: Hash,
    /// Root of the state after it.
    pub state_root: Hash,
    /// The branch of history that began.
    pub branch: u32,
    /// The slot that opens the restored ledger by default.
    pub slot: SlotId,
    /// Whether that slot was made now, with a key file in the home.
    pub slot_added: bool,
    /// Events that the ledger has now.
    pub events: u64,
}

/// Is told how much of how much is done, and says whether to go on.
pub(super) type Progress<'a> = dyn Fn(u64, u64) -> ControlFlow<()> + 'a;

impl Ledger {
    /// Writes a backup while others go on, and records it. `settle` makes what was written durable, before the
    /// event says that there is a backup.
    ///
    /// ```
    /// # use palyra_ledger::{BackupOptions, Config, Ledger, NewSlot, RecoveryWords, OsRandom};
    /// # use std::ops::ControlFlow;
    /// # let dir = tempfile::tempdir()?;
    /// # let ledger = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("first"))?;
    /// let words = RecoveryWords::generate(&OsRandom)?;
    /// ledger.keys().add_slot(NewSlot::recovery("drawer", &words))?;
    /// let mut file = Vec::new();
    /// let go_on = |_done, _of| ControlFlow::Continue(());
    /// let made = ledger.backup(&mut file, &BackupOptions::default(), &mut || Ok(()), &go_on)?;
    /// assert_eq!(made.bytes, file.len() as u64);
    /// # ledger.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BackupUnopenable`] where nothing that survives this machine could open it, [`Error::BackupFrom`]
    /// where it cannot go on from there, [`Error::Away`] where a backend lost an envelope, and what failed.
    pub fn backup(
        &self,
        out: &mut dyn Write,
        options: &BackupOptions,
        settle: &mut dyn FnMut() -> std::io::Result<()>,
        progress: &dyn Fn(u64, u64) -> ControlFlow<()>,
    ) -> Result<BackupMade, Error> {
        self.core().backup(self.caller(), out, options, settle, progress)
    }

    /// The last backup, as the state has it.
    ///
    /// # Errors
    /// [`Error::Fold`].
    pub fn last_backup(&self) -> Result<Option<LastBackup>, Error> {
        history::last_backup(&self.core().index).map_err(|source| Error::Fold { seq: 0, source })
    }

    /// Checks backups, in the order in which they would be restored. Damage is a finding, not an error. Without
    /// keys it says what can be said: `config` names what opens them, and the home whose key file may.
    ///
    /// # Errors
    /// What stood in the way of looking.
    pub fn check_backups(
        config: &Config,
        files: &mut [BackupFile],
        identities: &Identities,
        keyless: bool,
        progress: &dyn Fn(u64, u64),
    ) -> Result<BackupReport, Error> {
        Ok(check::check(config, files, identities, keyless, progress))
    }

    /// Restores a full backup and its increments into the configured home, which must not exist, or be an empty
    /// folder. It is built beside the home and takes its place when it is whole: a crash leaves no home.
    ///
    /// # Errors
    /// [`Error::HomeTaken`], [`Error::HomeMount`], [`Error::Backup`] with what is wrong with which file,
    /// [`Error::Keys`] where nothing that was given opens it, [`Error::BackupStopped`] where `progress` says to stop,
    /// and what else failed. There is no home then.
    pub fn restore(
        config: &Config,
        files: &mut [BackupFile],
        identities: &Identities,
        progress: &dyn Fn(u64, u64) -> ControlFlow<()>,
    ) -> Result<Restoration, Error> {
        restore::restore(config, files, identities, progress)
    }
}
