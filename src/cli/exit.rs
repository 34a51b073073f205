//! Exit codes, and the one place where an error of the library becomes one.

mod backup;
mod delivery;
mod resolution;

use crate::auth::AuthError;
use crate::backend::BackendError;
use crate::engine::{Error, LockError};
use crate::identity::IdentityError;
use crate::keys::{KeysError, SlotError};
use crate::log::{HeadError, JournalError};
use crate::pki::SignError;
use crate::platform::{Absence, KeystoreError};
use crate::projection::IndexError;
use crate::store::StoreError;
use crate::vault::VaultError;

macro_rules! exit_codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What the process says when it ends. Numbers and names are never changed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ExitCode {
            $($(#[doc = $doc])* $variant = $number,)*
        }

        impl ExitCode {
            /// Every code, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, which is `kind` in JSON errors.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The meaning, in one line.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*).trim(),)*
                }
            }
        }
    };
}

exit_codes! {
    /// Done.
    Ok = 0, "ok";
    /// A fault of the program itself, or of the system under it.
    Internal = 1, "internal";
    /// The command line, an input or a setting is not acceptable.
    Usage = 2, "usage";
    /// A person said no, or could not be asked.
    Aborted = 3, "aborted";
    /// The ledger is locked: a passphrase or key file is needed.
    Locked = 4, "locked";
    /// No such ledger, secret, version or key slot, or it is deleted or shredded.
    NotFound = 10, "not_found";
    /// A passphrase or key does not open what it should open.
    DecryptFailed = 11, "decrypt_failed";
    /// A compare-and-set was lost, or something stands there already.
    Conflict = 12, "conflict";
    /// Permissions or scope forbid it.
    Denied = 13, "denied";
    /// The log, its keys or its state are damaged or were altered.
    Integrity = 15, "integrity_broken";
    /// The log was cut off at its end, or an older copy was put back.
    Truncated = 16, "truncated";
    /// Everything is whole, but nothing says that the end was not cut off.
    Unanchored = 17, "unanchored";
    /// Reading or writing failed, or there is no space.
    Io = 18, "io";
    /// Another process has the ledger open.
    InUse = 19, "in_use";
    /// It was revoked, or has expired.
    Expired = 20, "revoked_or_expired";
    /// The doctor found problems, or a compromise has things left to do.
    DoctorFindings = 21, "doctor_findings";
    /// `run`: the program cannot be run.
    NotRunnable = 126, "not_runnable";
    /// `run`: there is no such program.
    NoProgram = 127, "no_program";
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// Why a command ends early: the code, what failed, and what to do next.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    /// What failed.
    pub what: String,
    /// What to do next; empty where there is nothing to say.
    pub hint: String,
    /// Whether a newer program wrote what is in the way: nothing is damaged.
    pub is_newer: bool,
    quiet: bool,
}

impl Failure {
    /// A failure with a code, what failed and what to do next.
    #[must_use]
    pub fn new(code: ExitCode, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, what: what.into(), hint: hint.into(), is_newer: false, quiet: false }
    }

    /// A command line that cannot be followed.
    #[must_use]
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, what, hint)
    }

    /// Nothing is left to be said but the exit code.
    #[must_use]
    pub fn quiet(code: ExitCode) -> Self {
        Self { code, what: String::new(), hint: String::new(), is_newer: false, quiet: true }
    }

    /// Whether nothing is to be printed.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A failure of the terminal that somebody is asked on.
    #[must_use]
    pub fn from_terminal(error: &std::io::Error) -> Self {
        Self::new(ExitCode::Aborted, format!("cannot read keys from the terminal: {error}"), "")
    }

    /// A failure while writing to the standard output. A reader that went away (`| head`) is none.
    #[must_use]
    pub fn from_output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::quiet(ExitCode::Ok);
        }
        Self::new(ExitCode::Io, format!("cannot write the output: {error}"), "")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, hint) = explain(&error);
        Self { is_newer: error.is_from_the_future(), ..Self::new(code, error.to_string(), hint) }
    }
}

const REPAIR: &str = "run `palyra-ledger log verify` to see what is damaged, then `palyra-ledger doctor`";
const REOPEN: &str = "look at the disk, then run the command again";

/// The exit code of an error of the library, and what to do next.
#[must_use]
pub fn explain(error: &Error) -> (ExitCode, String) {
    if error.is_from_the_future() {
        return (ExitCode::Usage, newer(error));
    }
    let (code, hint) = match error {
        Error::NoLedger { .. } => {
            (ExitCode::NotFound, "run `palyra-ledger init`, or name another home with --home or PALYRA_LEDGER_HOME")
        }
        Error::HomeTaken { .. } => (ExitCode::Conflict, "name another home with --home; a ledger is never overwritten"),
        Error::HomeMount { home } => {
            return (ExitCode::Usage, format!("name a folder inside it: --home '{}'", home.join("ledger").display()));
        }
        Error::HomeLink { .. } => (ExitCode::Denied, "name the folder itself with --home"),
        Error::HomeOpen { path, wanted, .. } => {
            return (ExitCode::Denied, format!("run `chmod {wanted:o} '{}'`", path.display()));
        }
        Error::HomeOwner { .. } => (ExitCode::Denied, "run the command as the home's owner"),
        Error::Format { .. } | Error::Marker { .. } => {
            (ExitCode::Usage, "use the program version that made this ledger, or a newer one")
        }
        Error::BackendDiffers { log, .. } => {
            return (
                ExitCode::Integrity,
                format!("the log decides: put `{log}` back into that file, or restore the home from a backup"),
            );
        }
        Error::Backend(error) => return backend(error),
        Error::Backup { source, .. } => return backup::explain(source),
        Error::BackupUnopenable => (
            ExitCode::Denied,
            "make recovery words for the drawer (`palyra-ledger keys add-slot recovery`), add a passphrase slot, or name an age recipient with --recipient; --with-key-file makes a backup that opens itself",
        ),
        Error::BackupFrom { .. } => (ExitCode::Conflict, "make a full backup: leave --since and --after away"),
        Error::BackupStopped => (ExitCode::Aborted, "run the command again"),
        Error::BackupRestless => (ExitCode::Conflict, "run the command again when less is shredded"),
        Error::Away { .. } => (
            ExitCode::Integrity,
            "run `palyra-ledger log verify --backend` to see all that is missing, then bring it back from a backup, or give that version up with `palyra-ledger secrets shred`",
        ),
        Error::MoveUnfinished { from, to } => {
            return (
                ExitCode::Conflict,
                format!("`palyra-ledger secrets migrate-backend {to}` goes on with it, `{from}` gives it up"),
            );
        }
        Error::Overtaken => (ExitCode::Conflict, "run the command again"),
        Error::PlanTooLong { .. } => (ExitCode::Usage, "name a shorter window with --since and --until"),
        Error::Settings { .. } => (ExitCode::Usage, "mend that file; removing it brings back the defaults"),
        Error::Lock(LockError::InUse { .. }) => {
            (ExitCode::InUse, "wait for that process, or give more time with --lock-wait SECONDS")
        }
        Error::Lock(LockError::Io { source, .. }) => return system(source),
        Error::Store(error) | Error::Index(IndexError::Store(error)) => return store(error),
        Error::Journal(error) => return journal(error),
        Error::Head(error) => return head(error),
        Error::Truncated { .. } => (
            ExitCode::Truncated,
            "restore the missing files from a backup; to go on without the lost events: `palyra-ledger doctor --repair`",
        ),
        Error::RolledBack { .. } | Error::OtherBranch { .. } => (
            ExitCode::Truncated,
            "restore the missing files from a newer backup; if the older copy was put back on purpose: `palyra-ledger log accept-rollback --reason TEXT`",
        ),
        Error::AnchorForked { .. } => (
            ExitCode::Integrity,
            "keep a copy of the home and of the anchor as evidence, then restore the home from a backup; a home that was put back on purpose and written since: `palyra-ledger log accept-rollback --reason TEXT`",
        ),
        Error::Note(_) => (ExitCode::Integrity, "keep it as evidence; `palyra-ledger log checkpoint` makes a new one"),
        Error::Signing(_) => (ExitCode::Internal, ""),
        Error::HeadDiffers { .. } => {
            (ExitCode::Integrity, "keep a copy of the home as evidence, then restore it from a backup")
        }
        Error::Keys(error) => return keys(error),
        Error::Index(IndexError::Rebuild { .. }) => {
            (ExitCode::Integrity, "run `palyra-ledger doctor --repair`: it rebuilds the index from the log")
        }
        Error::Vault(error) => return vault(error),
        Error::Identity(error) => return identity(error),
        Error::Auth(error) => return auth(error),
        Error::Csr(_) | Error::Sign(SignError::Name(_)) => {
            (ExitCode::Usage, "make the request again with an Ed25519 or P-256 key")
        }
        Error::Pake(_) => (ExitCode::Denied, "ask for a new pairing code"),
        Error::State(_)
        | Error::VaultState(_)
        | Error::Fold { .. }
        | Error::Codec { .. }
        | Error::Misplaced { .. }
        | Error::NoWitness { .. }
        | Error::KeyMissing { .. } => (ExitCode::Integrity, REPAIR),
        Error::Sealed { .. } | Error::Envelope { .. } => (ExitCode::DecryptFailed, REPAIR),
        Error::ReadOnly => (ExitCode::Denied, "open the ledger for writing"),
        Error::Dead { .. } => (ExitCode::Io, REOPEN),
        Error::BatchTooLarge { .. } => (ExitCode::Usage, "split the command into smaller ones"),
        Error::SpoolFull { .. } => {
            (ExitCode::Io, "run any command that writes, for example `palyra-ledger doctor --repair`")
        }
        Error::BeforeFirst(_) => (ExitCode::NotFound, "name a time after the ledger was created"),
        _ => (ExitCode::Internal, "run the command again; if it fails the same way, report it"),
    };
    (code, hint.to_owned())
}

/// What to do where a newer program wrote something.
fn newer(error: &Error) -> String {
    let then = match error {
        Error::Codec { seq, .. } if *seq > 0 => format!(
            "; `palyra-ledger log verify` checks the whole chain all the same, `palyra-ledger replay --at {}` shows the state before it",
            seq - 1
        ),
        Error::Index(_) => {
            "; to go on with this one, make the index anew from the log: `palyra-ledger doctor --repair`".to_owned()
        }
        _ => "; `palyra-ledger log verify --keyless` checks what this one knows".to_owned(),
    };
    format!("nothing was changed: use the program that wrote it, or a newer one{then}")
}

fn store(error: &StoreError) -> (ExitCode, String) {
    system(&error.source)
}

fn backend(error: &BackendError) -> (ExitCode, String) {
    let (code, hint) = match error {
        BackendError::Store(error) => return store(error),
        BackendError::Keystore(error) => return keystore(error),
        BackendError::Damaged { .. } => (ExitCode::Integrity, "bring the file back from a backup"),
        BackendError::OtherSystem { .. } | BackendError::NoDpapi => {
            (ExitCode::Usage, "`encrypted_file` works on every system")
        }
        BackendError::NotKept { .. } => (ExitCode::Io, "look at that keystore or disk, then run the command again"),
    };
    (code, hint.to_owned())
}

/// What to do about a keystore, on a desktop and without one.
fn keystore(error: &KeystoreError) -> (ExitCode, String) {
    let (code, hint) = match error {
        KeystoreError::Locked => {
            (ExitCode::Locked, "unlock it: log in to the desktop, or start its daemon with the password")
        }
        KeystoreError::Absent(Absence::System) => (ExitCode::Usage, "use another way: it works on Linux and macOS"),
        KeystoreError::Absent(Absence::Bus) => (
            ExitCode::Io,
            "run it in a desktop session or under `dbus-run-session`; DBUS_SESSION_BUS_ADDRESS names the bus, and a daemon needs it in its own environment",
        ),
        KeystoreError::Absent(Absence::Service) => {
            (ExitCode::Io, "start one, for example gnome-keyring-daemon or KeePassXC with its Secret Service")
        }
        KeystoreError::Absent(Absence::Collection) => (
            ExitCode::Io,
            "make a default keyring first: log in to the desktop once, or run `gnome-keyring-daemon --replace --unlock`",
        ),
        KeystoreError::Silent { .. } => {
            (ExitCode::Io, "it may wait for a person: unlock it, or start it anew, then run the command again")
        }
        KeystoreError::Failed(_) => (ExitCode::Io, "look at the keystore's own messages, then run the command again"),
    };
    (code, hint.to_owned())
}

fn system(error: &std::io::Error) -> (ExitCode, String) {
    use std::io::ErrorKind;
    let (code, hint) = match error.kind() {
        ErrorKind::PermissionDenied => (ExitCode::Denied, "run the command as the home's owner"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (ExitCode::Io, "make room on the disk; nothing that was acknowledged is lost")
        }
        ErrorKind::ReadOnlyFilesystem => (ExitCode::Io, "the file system takes no writes: mount it for writing"),
        _ => (ExitCode::Io, REOPEN),
    };
    (code, hint.to_owned())
}

fn journal(error: &JournalError) -> (ExitCode, String) {
    match error {
        JournalError::Store(error) => store(error),
        JournalError::Dead => (ExitCode::Io, REOPEN.to_owned()),
        JournalError::Damaged { .. }
        | JournalError::Chain { .. }
        | JournalError::Segment { .. }
        | JournalError::Newer { .. }
        | JournalError::Missing { .. } => (ExitCode::Integrity, REPAIR.to_owned()),
    }
}

fn head(error: &HeadError) -> (ExitCode, String) {
    match error {
        HeadError::Store(error) if error.is_not_found() => (
            ExitCode::Unanchored,
            "restore the head file from a backup; to take the log's end as it is: `palyra-ledger doctor --repair`"
                .to_owned(),
        ),
        HeadError::Store(error) => store(error),
        HeadError::Dead { .. } => (ExitCode::Io, REOPEN.to_owned()),
        HeadError::Damaged { .. } | HeadError::Newer { .. } | HeadError::Foreign { .. } | HeadError::Forged { .. } => {
            (ExitCode::Integrity, REPAIR.to_owned())
        }
    }
}

fn keys(error: &KeysError) -> (ExitCode, String) {
    let (code, hint) = match error {
        KeysError::Store(error) if error.is_not_found() => {
            (ExitCode::Locked, "put the key file back, name it with --key-file, or open another slot with --slot ID")
        }
        KeysError::Store(error) | KeysError::Slot { source: SlotError::Store(error), .. } => return store(error),
        KeysError::Damaged { .. }
        | KeysError::Newer { .. }
        | KeysError::Foreign { .. }
        | KeysError::RingAltered
        | KeysError::NoEpoch { .. } => (ExitCode::Integrity, "restore the home's `keys` folder from a backup"),
        KeysError::RingNotCommitted => (ExitCode::Truncated, "put the newest `keys` folder back"),
        KeysError::CaGeneration { .. } => (ExitCode::Conflict, "`palyra-ledger ca show` shows the generations"),
        KeysError::NoSuchSlot { .. } => (ExitCode::NotFound, "`palyra-ledger keys slots` lists the slots"),
        KeysError::NeedsPassphrase { .. } => {
            (ExitCode::Locked, "give the passphrase with --passphrase-file FILE, or name another slot with --slot ID")
        }
        KeysError::NeedsRecovery { .. } => {
            (ExitCode::Locked, "give its words with --recovery-stdin, or name another slot with --slot ID")
        }
        KeysError::WrongRecovery { .. } => {
            (ExitCode::DecryptFailed, "look for the words of this ledger and slot, or open another slot with --slot ID")
        }
        KeysError::RecoveryWords(_) => (ExitCode::DecryptFailed, "compare them with the paper, word by word"),
        KeysError::NoSlotFor { .. } => {
            (ExitCode::DecryptFailed, "open another slot: with a passphrase, recovery words, or a key file")
        }
        KeysError::NeedsKeyFile { .. } => (
            ExitCode::Locked,
            "leave --passphrase-file and --recovery-stdin away, or name a slot that they open with --slot ID",
        ),
        KeysError::NeedsKeystore { .. } => {
            (ExitCode::Locked, "leave --passphrase-file and --key-file away, or name another slot with --slot ID")
        }
        KeysError::Keystore { source, .. } | KeysError::KeystorePut(source) => {
            let (code, hint) = keystore(source);
            return (code, format!("{hint}; or open another slot with --slot ID"));
        }
        KeysError::KeystoreItem { .. } => (
            ExitCode::Locked,
            "the item may be another user's or another machine's, or was removed: open another slot with --slot ID",
        ),
        KeysError::WrongKeystoreItem { .. } => (ExitCode::DecryptFailed, "open another slot with --slot ID"),
        KeysError::WrongPassphrase { .. } => {
            (ExitCode::DecryptFailed, "try again, or open another slot with --slot ID")
        }
        KeysError::WrongKeyFile { .. } => (ExitCode::DecryptFailed, "name the right file with --key-file"),
        KeysError::LooseKeyFile { path, .. } => {
            return (ExitCode::Denied, format!("run `chmod 600 '{}'`", path.display()));
        }
        KeysError::PassphraseLength => (ExitCode::Usage, "choose another passphrase"),
        KeysError::Label => (ExitCode::Usage, "choose another label with --label"),
        KeysError::TooManySlots => (ExitCode::Usage, "remove a slot first: `palyra-ledger keys remove-slot ID`"),
        KeysError::TooManyEpochs => (ExitCode::Usage, "start a new ledger"),
        KeysError::LastSlot { .. } => (ExitCode::Denied, "add another slot first: `palyra-ledger keys add-slot`"),
        KeysError::PinnedSlot { .. } => (ExitCode::Usage, "add --pin ID"),
        KeysError::SlotNeedsCredential { what, .. } => {
            let hint = format!("give its {what} with --slot-passphrase-file ID=FILE, or drop it with --drop ID");
            return (ExitCode::Locked, hint);
        }
        KeysError::Slot { .. } => (ExitCode::DecryptFailed, REPAIR),
        KeysError::TableDead => (ExitCode::Io, REOPEN),
        KeysError::Random(_) | KeysError::Argon(_) => {
            (ExitCode::Internal, "run the command again with memory to spare")
        }
    };
    (code, hint.to_owned())
}

fn auth(error: &AuthError) -> (ExitCode, String) {
    let (code, hint) = match error {
        AuthError::NoProfile(_) => (ExitCode::NotFound, "`palyra-ledger auth profiles list` shows the ids"),
        AuthError::NoCandidate(_) => (ExitCode::NotFound, "`palyra-ledger auth health` says what to do next"),
        AuthError::Shared { .. } => (ExitCode::Conflict, "name another secret, or use the profile that is there"),
        AuthError::TooMany => (ExitCode::Conflict, "delete profiles that nobody uses"),
        AuthError::Field { .. } | AuthError::Order(_) | AuthError::Documents(_) => (ExitCode::Usage, "mend it"),
        AuthError::Static(_) => (ExitCode::Usage, "a key is replaced with `palyra-ledger secrets set`"),
        AuthError::Disabled(id) => return (ExitCode::Denied, format!("`palyra-ledger auth profiles enable {id}`")),
        AuthError::NotDue(_) | AuthError::CoolingDown { .. } => {
            (ExitCode::Denied, "wait, or say --force to refresh it all the same")
        }
        AuthError::NoRefreshToken(id) => {
            return (ExitCode::Denied, format!("`palyra-ledger auth login --profile {id}`"));
        }
        AuthError::NeedsPerson { profile, .. } => {
            return (ExitCode::Expired, format!("`palyra-ledger auth login --profile {profile}`"));
        }
        AuthError::Busy { .. } => (ExitCode::InUse, "wait until it is done"),
        AuthError::Superseded { .. } | AuthError::Stale { .. } => {
            (ExitCode::Conflict, "look at what became of it, then run the command again")
        }
        AuthError::Apply(_) => (ExitCode::Integrity, REPAIR),
    };
    (code, hint.to_owned())
}

fn identity(error: &IdentityError) -> (ExitCode, String) {
    let (code, hint) = match error {
        IdentityError::NoDevice(_) | IdentityError::NoCertificate(_) | IdentityError::NoRequest(_) => {
            (ExitCode::NotFound, "give the exact id, as the list shows it")
        }
        IdentityError::NoPairing => (ExitCode::NotFound, "make a new code: `palyra-ledger pairing mint`"),
        IdentityError::LocatorTaken | IdentityError::Answered { .. } | IdentityError::NotRevoked(_) => {
            (ExitCode::Conflict, "look at what became of it, then decide anew")
        }
        IdentityError::TooManyPairings { .. }
        | IdentityError::TooManyRequests { .. }
        | IdentityError::TooManyStarts { .. } => (ExitCode::Denied, "wait a minute, or end what is open"),
        IdentityError::TooManyGrants(_) => (ExitCode::Conflict, "take back what it no longer needs"),
        IdentityError::Ttl { .. } => (ExitCode::Usage, "give another --ttl"),
        IdentityError::PairingEnded { .. }
        | IdentityError::PairingUsed { .. }
        | IdentityError::RequestExpired(_)
        | IdentityError::DeviceRevoked(_)
        | IdentityError::CertificateRevoked(_)
        | IdentityError::GraceOver(_) => {
            (ExitCode::Expired, "pair the device anew; a revoked one must be cleared first")
        }
        IdentityError::OtherKind { .. }
        | IdentityError::OtherSas(_)
        | IdentityError::KeyTaken(_)
        | IdentityError::OtherKey => (ExitCode::Denied, "deny the request unless you know why it differs"),
        IdentityError::Replaces { .. } => (
            ExitCode::Conflict,
            "deny it, unless you know that this device was set up anew: then approve with --replace",
        ),
        IdentityError::RootEnded { .. } => (ExitCode::Expired, "roll the CA: `palyra-ledger ca roll prepare`"),
        IdentityError::Version { .. } => (ExitCode::Usage, "use the same version of the program on both machines"),
        IdentityError::RollOrder { .. } => (ExitCode::Conflict, "`palyra-ledger ca show` shows where the roll stands"),
        IdentityError::StillDepending { .. } => {
            (ExitCode::Conflict, "wait until they have renewed; --force locks them out")
        }
        IdentityError::NoAuthority => (ExitCode::NotFound, "open the ledger for writing once"),
        IdentityError::State(_) => (ExitCode::Integrity, REPAIR),
    };
    (code, hint.to_owned())
}

fn vault(error: &VaultError) -> (ExitCode, String) {
    let (code, hint) = match error {
        VaultError::NotFound { .. } => (ExitCode::NotFound, "`palyra-ledger secrets list` shows what there is"),
        VaultError::NoVersion { target, .. } => {
            return (ExitCode::NotFound, format!("`palyra-ledger secrets history {target}` shows its versions"));
        }
        VaultError::Deleted { target } => {
            return (ExitCode::NotFound, format!("`palyra-ledger secrets undelete {target}` brings it back"));
        }
        VaultError::Shredded { .. } => (ExitCode::NotFound, "its key was destroyed: nothing brings it back"),
        VaultError::Conflict { .. } => {
            (ExitCode::Conflict, "somebody was faster: read the secret again, then decide anew")
        }
        VaultError::EmptyValue { .. } => (ExitCode::Usage, "give a value of at least one byte"),
        VaultError::ValueTooLarge { .. } => {
            (ExitCode::Usage, "keep large data elsewhere and its key here, or raise limits.max_value_bytes")
        }
        VaultError::TooManyVersions { .. } => (ExitCode::Usage, "write it under a new name"),
        VaultError::Metadata(_) => (ExitCode::Usage, "shorten it"),
        VaultError::ScopeDenied { .. } => (ExitCode::Denied, "open a handle for that scope"),
        VaultError::Overtaken { .. } => (ExitCode::Conflict, "others write to it all the time: try again"),
        VaultError::State(_) => (ExitCode::Integrity, REPAIR),
    };
    (code, hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SecretPath;
    use crate::store::StoreOp;
    use std::path::{Path, PathBuf};

    /// The table is a promise: a line may be added, none may change.
    #[test]
    fn numbers_and_names_are_frozen() {
        let table: Vec<(u8, &str)> = ExitCode::ALL.iter().map(|code| (code.number(), code.name())).collect();
        let frozen = [
            (0, "ok"),
            (1, "internal"),
            (2, "usage"),
            (3, "aborted"),
            (4, "locked"),
            (10, "not_found"),
            (11, "decrypt_failed"),
            (12, "conflict"),
            (13, "denied"),
            (15, "integrity_broken"),
            (16, "truncated"),
            (17, "unanchored"),
            (18, "io"),
            (19, "in_use"),
            (20, "revoked_or_expired"),
            (21, "doctor_findings"),
            (126, "not_runnable"),
            (127, "no_program"),
        ];
        assert_eq!(table, frozen);
        assert!(ExitCode::ALL.iter().all(|code| code.meaning().ends_with('.') && code.meaning().len() < 90));
    }

    #[test]
    fn errors_have_the_code_that_a_script_acts_on() {
        let target = || Box::new("global/a".parse::<SecretPath>().unwrap());
        let slot = crate::base::SlotId::from_bytes([1; 4]);
        let io = |kind: std::io::ErrorKind| StoreError::new(StoreOp::Read, Path::new("x"), kind.into());
        let cases = [
            (Error::NoLedger { home: PathBuf::new() }, 10),
            (Error::HomeOpen { path: PathBuf::new(), mode: 0o755, wanted: 0o700 }, 13),
            (Error::Lock(LockError::InUse { owner: Some(7) }), 19),
            (Error::Store(io(std::io::ErrorKind::StorageFull)), 18),
            (Error::Store(io(std::io::ErrorKind::PermissionDenied)), 13),
            (Error::Head(HeadError::Store(io(std::io::ErrorKind::NotFound))), 17),
            (Error::Truncated { last: Some(3), head: 5 }, 16),
            (Error::HeadDiffers { seq: 3 }, 15),
            (Error::Keys(KeysError::NeedsPassphrase { slot }), 4),
            (Error::Keys(KeysError::WrongPassphrase { slot }), 11),
            (Error::Keys(KeysError::RingNotCommitted), 16),
            (Error::Keys(KeysError::NoSuchSlot { slot }), 10),
            (Error::Vault(VaultError::NotFound { target: target() }), 10),
            (Error::Vault(VaultError::Deleted { target: target() }), 10),
            (Error::Vault(VaultError::Shredded { target: target(), version: 1 }), 10),
            (Error::Vault(VaultError::Conflict { target: target(), expected: 1, found: 2 }), 12),
            (Error::Vault(VaultError::EmptyValue { target: target() }), 2),
        ];
        for (error, code) in cases {
            let failure = Failure::from(error);
            assert_eq!(failure.code.number(), code, "{}", failure.what);
            assert!(!failure.hint.is_empty(), "{}", failure.what);
        }
    }
}
