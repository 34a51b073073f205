//! What can fail at the library's door: one variant per reason a caller may act on.

use std::path::PathBuf;
use std::sync::Arc;

use crate::auth::AuthError;
use crate::backend::BackendError;
use crate::backup::BackupError;
use crate::base::{BackendKind, RandomError, SecretPath, StateError, Timestamp};
use crate::crypto::OpenError;
use crate::event::CodecError;
use crate::keys::KeysError;
use crate::log::segment::SegmentError;
use crate::log::{HeadError, JournalError};
use crate::platform::KeystoreError;
use crate::projection::IndexError;
use crate::store::StoreError;
use crate::vault::{EnvelopeError, VaultError};

use super::config::SettingsError;
use super::fold::FoldError;
use super::lock::LockError;

/// Why something at the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no ledger at the home.
    #[error("there is no ledger at {}", home.display())]
    NoLedger {
        /// The home.
        home: PathBuf,
    },
    /// There is something at the home already.
    #[error("{} exists and is not empty", home.display())]
    HomeTaken {
        /// The home.
        home: PathBuf,
    },
    /// The home is where a file system is mounted.
    #[error("{} is a mount point: a new home is renamed into its place, and a mount cannot be replaced", home.display())]
    HomeMount {
        /// The home.
        home: PathBuf,
    },
    /// The home, or a folder on the way, is a symbolic link.
    #[error("{} is a symbolic link", path.display())]
    HomeLink {
        /// The link.
        path: PathBuf,
    },
    /// Others than the owner may enter the home or read a file in it.
    #[error("{} has mode {mode:o}: others than its owner have access", path.display())]
    HomeOpen {
        /// The path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it must have.
        wanted: u32,
    },
    /// The home belongs to another user.
    #[error("{} belongs to user {owner}, not to user {user}", path.display())]
    HomeOwner {
        /// The path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// The format marker names a version this program does not know.
    #[error("{} says format {found}, which this program does not know", path.display())]
    Format {
        /// The marker file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The backend marker names no backend that this program knows.
    #[error("{} names backend `{found}`, which this program does not know", path.display())]
    Marker {
        /// The marker file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The backend marker and the log name different backends.
    #[error("{} names backend `{marker}`, but the log says `{log}`", path.display())]
    BackendDiffers {
        /// The marker file.
        path: PathBuf,
        /// What it says.
        marker: BackendKind,
        /// What the log says.
        log: BackendKind,
    },
    /// A storage backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A backend does not hold the envelope that the log knows.
    #[error("backend `{kind}` {what} version {version} of {target}")]
    Away {
        /// Which secret.
        target: Box<SecretPath>,
        /// Which version.
        version: u32,
        /// The backend.
        kind: BackendKind,
        /// What is wrong.
        what: Away,
    },
    /// Another move of envelopes is unfinished.
    #[error("envelopes are on their way from backend `{from}` to `{to}`")]
    MoveUnfinished {
        /// Where they are.
        from: BackendKind,
        /// Where they go.
        to: BackendKind,
    },
    /// Others changed the ledger again and again while a command was prepared.
    #[error("others changed the ledger while the command was prepared")]
    Overtaken,
    /// A backup is not to be used.
    #[error("{name}: {source}")]
    Backup {
        /// What it is called.
        name: String,
        /// What is wrong.
        source: BackupError,
    },
    /// Nothing that would survive this machine could open a backup.
    #[error("no key slot could open this backup on another machine: every one needs what lies on this one")]
    BackupUnopenable,
    /// A backup cannot begin behind that event.
    #[error("no backup can go on from event {seq}: {what}")]
    BackupFrom {
        /// The event.
        seq: u64,
        /// Why.
        what: &'static str,
    },
    /// Whoever asked for a backup or a restore went away before it was done, or ended it.
    #[error("it was given up before it was done; nothing of it is left")]
    BackupStopped,
    /// Secrets were shredded faster than a backup could copy what other backends hold.
    #[error("the backup found no moment at which every sealed value was at hand: too many are shredded at once")]
    BackupRestless,
    /// `config.toml` was refused.
    #[error("{}: {source}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SettingsError,
    },
    /// Another process has the ledger open.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal failed or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The head file failed or is damaged.
    #[error("the head file cannot be trusted: {0}")]
    Head(#[from] HeadError),
    /// The journal ends before the head: its end was cut off, or an older copy was put back.
    #[error("the journal ends at event {}, but event {head} was durable", last.map_or_else(|| "(none)".to_owned(), |seq| seq.to_string()))]
    Truncated {
        /// Last event in the journal.
        last: Option<u64>,
        /// Event in the head file.
        head: u64,
    },
    /// An anchor knows of events that are not here.
    #[error("{anchor} knows of {} events, but the log ends at event {last}: events {} to {} are missing", *through + 1, *last + 1, *through)]
    RolledBack {
        /// Which anchor.
        anchor: String,
        /// Last event in the journal.
        last: u64,
        /// Last event that the anchor knows of.
        through: u64,
    },
    /// An anchor knows of a branch of history that is not here.
    #[error("{anchor} knows of branch {branch} of this ledger's history, which this copy does not have")]
    OtherBranch {
        /// Which anchor.
        anchor: String,
        /// The branch.
        branch: u32,
    },
    /// The journal holds another event than an anchor knows.
    #[error(
        "event {seq} is not the one that {anchor} knows: the journal was rewritten, or went on twice from one state"
    )]
    AnchorForked {
        /// Which anchor.
        anchor: String,
        /// Its sequence number.
        seq: u64,
    },
    /// A note does not read, or is not this ledger's.
    #[error("the note is not to be used: {0}")]
    Note(#[from] crate::checkpoint::NoteError),
    /// A checkpoint could not be signed.
    #[error("the checkpoint could not be signed: {0}")]
    Signing(#[from] crate::crypto::SignError),
    /// The journal holds another event than the one the head names.
    #[error("event {seq} is not the one that the head file names: the journal was rewritten")]
    HeadDiffers {
        /// Its sequence number.
        seq: u64,
    },
    /// A key slot, the key ring or the key table failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The index failed; it is rebuilt when the ledger is opened again.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The vault refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The vault's part of the state could not be read.
    #[error(transparent)]
    VaultState(#[from] crate::vault::ApplyFault),
    /// A command about service credentials was refused.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A command about devices, pairing or the CA was refused.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// Something could not be signed by the CA.
    #[error(transparent)]
    Sign(#[from] crate::pki::SignError),
    /// A certificate request or public key was refused.
    #[error(transparent)]
    Csr(#[from] crate::pki::CsrError),
    /// The proof of a pairing code failed.
    #[error(transparent)]
    Pake(#[from] crate::identity::pake::PakeError),
    /// An event does not fit the state before it.
    #[error("event {seq} does not fit the state before it: {source}")]
    Fold {
        /// Its sequence number.
        seq: u64,
        /// Why.
        source: FoldError,
    },
    /// A frame's body does not open.
    #[error("event {seq} does not open: {source}")]
    Sealed {
        /// Its sequence number.
        seq: u64,
        /// Why.
        source: OpenError,
    },
    /// A frame's body is no event.
    #[error("event {seq}: {source}")]
    Codec {
        /// Its sequence number.
        seq: u64,
        /// Why.
        source: CodecError,
    },
    /// The read spool holds a record of a newer program.
    #[error("{}: {source}", path.display())]
    Spool {
        /// The spool.
        path: PathBuf,
        /// Why.
        source: CodecError,
    },
    /// The envelope of a secret does not open.
    #[error("version {version} of {target}: {source}")]
    Envelope {
        /// Which secret.
        target: Box<SecretPath>,
        /// Which version.
        version: u32,
        /// Why.
        source: EnvelopeError,
    },
    /// The event that should hold a secret's version holds something else.
    #[error("event {seq} does not hold version {version} of {target}: the index does not match the log")]
    Misplaced {
        /// Which secret.
        target: Box<SecretPath>,
        /// Which version.
        version: u32,
        /// The event.
        seq: u64,
    },
    /// The key of a live version is gone without a shred event.
    #[error("the key of version {version} of {target} is missing from slot {slot} although no event shredded it")]
    KeyMissing {
        /// Which secret.
        target: Box<SecretPath>,
        /// Which version.
        version: u32,
        /// The slot.
        slot: u64,
    },
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// The ledger was opened for reading only.
    #[error("the ledger is open for reading only")]
    ReadOnly,
    /// An earlier fault ended the writer (invariant I8).
    #[error("the ledger takes no more writes after an earlier fault ({cause}): open it again")]
    Dead {
        /// The first fault.
        cause: Arc<str>,
    },
    /// A batch is larger than the log takes.
    #[error("a batch of {events} events is more than the log takes at once")]
    BatchTooLarge {
        /// Events in it.
        events: usize,
    },
    /// A compromise asks for more than one plan holds.
    #[error(
        "the plan has {items} things to be done, and no more than {} fit into one",
        crate::base::limits::COMPROMISE_ITEMS_MAX
    )]
    PlanTooLong {
        /// Things to be done.
        items: usize,
    },
    /// The read spool is full: a writer must fold it into the log first.
    #[error("the read spool has {bytes} bytes and waits for a writer to fold it into the log")]
    SpoolFull {
        /// Its length.
        bytes: u64,
    },
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The CA key could not be generated.
    #[error("the CA key could not be generated: {0}")]
    CaKey(#[source] Box<rcgen::Error>),
    /// A time asked for lies beyond the log.
    #[error("no event at or before {0}")]
    BeforeFirst(Timestamp),
    /// An event is not the one that comes next.
    #[error("event {seq} does not follow event {last}")]
    NotNext {
        /// Its sequence number.
        seq: u64,
        /// The last event that was folded.
        last: u64,
    },
    /// There are findings that stand in the way of a repair.
    #[error("the sled copy cannot restore events {first} to {last}")]
    NoWitness {
        /// First event that is needed.
        first: u64,
        /// Last event that is needed.
        last: u64,
    },
    /// A background thread could not be started.
    #[error("cannot start a background thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// What is wrong with an envelope in a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It is not there.
    Lost,
    /// Another envelope stands in its place.
    Other,
    /// What stands there is no envelope.
    Damaged,
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lost => "does not hold the envelope of",
            Self::Other => "holds another envelope in place of that of",
            Self::Damaged => "holds a damaged object in place of the envelope of",
        })
    }
}

impl Error {
    /// Whether the backend that holds a value could not be asked for it; if so, whether that is because the keystore
    /// is locked.
    #[must_use]
    pub const fn backend_is_locked(&self) -> Option<bool> {
        match self {
            Self::Backend(BackendError::Keystore(KeystoreError::Locked)) => Some(true),
            Self::Backend(BackendError::Keystore(_) | BackendError::OtherSystem { .. } | BackendError::NoDpapi) => {
                Some(false)
            }
            _ => None,
        }
    }

    /// Whether a newer program wrote what this one does not know: nothing is damaged, and nothing was changed.
    #[must_use]
    pub fn is_from_the_future(&self) -> bool {
        match self {
            Self::Codec { source, .. } | Self::Spool { source, .. } => source.is_from_the_future(),
            Self::Keys(KeysError::Newer { .. })
            | Self::Head(HeadError::Newer { .. })
            | Self::Index(IndexError::Newer { .. })
            | Self::Journal(JournalError::Newer { .. }) => true,
            Self::Journal(JournalError::Segment { why, .. }) => matches!(why, SegmentError::Version(_)),
            _ => false,
        }
    }

    /// Whether this is a fault of the storage, after which nothing more may be written (invariant I8).
    pub(super) const fn is_storage_fault(&self) -> bool {
        matches!(
            self,
            Self::Store(_)
                | Self::Backend(BackendError::Store(_))
                | Self::Keys(KeysError::Store(_) | KeysError::TableDead)
                | Self::Index(IndexError::Store(_))
                | Self::Head(HeadError::Store(_) | HeadError::Dead { .. })
                | Self::Journal(JournalError::Store(_) | JournalError::Dead)
        )
    }
}
