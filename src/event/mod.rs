//! What can happen: the event types of every domain, their kind numbers and their bytes.
//!
//! An event is a fact in the past tense. Its kind number stands in the clear header of its frame;
//! its fields stand in the sealed body, encoded by [`codec`]. Numbers are never reused, fields are
//! never reordered: a changed event is a new schema version with an upcast from the old one ([`v1`]).
//! Stored bytes are never written again: an old event stays as it is, and is only read as the present one.
//!
//! | invariant | kept by |
//! |---|---|
//! | I4 a kind number is never reused; an unknown kind stops projection, never verification | [`Kind`], [`decode`] |
//! | I6 secret bytes never stand in an event except inside an envelope | [`vault::SecretPut`] |

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$word,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

mod about;
pub mod auth;
pub mod codec;
pub mod compromise;
pub mod identity;
pub mod import;
mod kind;
mod step;
pub mod system;
pub mod v1;
pub mod vault;

use crate::base::Caller;

pub use about::About;
pub use codec::CodecError;
pub use kind::{Kind, KindClass};
pub use step::{STEPS, Step, step_of};

macro_rules! current {
    () => {
        1
    };
    ($schema:literal) => {
        $schema
    };
}

// `= Kind` is an event that has one version. `= Kind, 2 [1 => v1::Old]` writes version 2 and reads version 1 through
// its frozen type. A version is added by freezing the present type under its number and naming the next one here.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $kind:ident $(, $schema:literal [$($old:literal => $frozen:ty),+])?;)*) => {
        /// One event of any domain.
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($(#[$doc])* $variant($payload),)*
        }

        impl Event {
            /// The kind, whose number stands in the frame's header.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant(_) => Kind::$kind,)*
                }
            }
        }

        impl Kind {
            /// The schema version in which this kind is written. Every one from 1 to it is read.
            #[must_use]
            pub const fn schema(self) -> u16 {
                match self {
                    $(Self::$kind => current!($($schema)?),)*
                }
            }
        }

        /// Encodes a caller and an event as the plain text of a frame's body, in the event's present schema version.
        ///
        /// # Errors
        /// [`CodecError`] where the encoding would exceed the body's bound.
        pub fn encode(caller: &Caller, event: &Event) -> Result<Body, CodecError> {
            let plain = match event {
                $(Event::$variant(payload) => codec::encode(&(caller, payload)),)*
            }?;
            Ok(Body { kind: event.kind().number(), schema: event.kind().schema(), plain })
        }

        /// Decodes the plain text of a frame's body, whichever schema version it was written in.
        ///
        /// # Errors
        /// [`CodecError`] for an unknown kind or schema version, and for bytes that are no such
        /// event, or that are followed by others.
        pub fn decode(kind: u16, schema: u16, body: &[u8]) -> Result<(Caller, Event), CodecError> {
            let known = Kind::from_number(kind).ok_or(CodecError::UnknownKind { kind, schema })?;
            match (known, schema) {
                $(
                    (Kind::$kind, current!($($schema)?)) => codec::decode_canonical::<(Caller, $payload)>(body)
                        .map(|(caller, payload)| (caller, Event::$variant(payload))),
                    $($((Kind::$kind, $old) => codec::decode_canonical::<(Caller, $frozen)>(body)
                        .map(|(caller, old)| (caller, Event::$variant(old.into()))),)+)?
                )*
                _ => Err(CodecError::UnknownSchema { kind, schema }),
            }
        }
    };
}

/// An encoded event, and what its header says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The kind number.
    pub kind: u16,
    /// The schema version of the encoding.
    pub schema: u16,
    /// Caller and event. Names stand in it, and values only in envelopes.
    pub plain: Vec<u8>,
}

/// Whether this program reads events of a kind and schema version; where not, why. Needs no key.
///
/// # Errors
/// [`CodecError::UnknownKind`] or [`CodecError::UnknownSchema`].
pub fn check_known(kind: u16, schema: u16) -> Result<(), CodecError> {
    let known = Kind::from_number(kind).ok_or(CodecError::UnknownKind { kind, schema })?;
    if (1..=known.schema()).contains(&schema) { Ok(()) } else { Err(CodecError::UnknownSchema { kind, schema }) }
}

events! {
    /// See [`system::LedgerCreated`].
    LedgerCreated(system::LedgerCreated) = LedgerCreated;
    /// See [`system::EpochStarted`].
    EpochStarted(system::EpochStarted) = EpochStarted;
    /// See [`system::KeySlotAdded`].
    KeySlotAdded(system::KeySlotAdded) = KeySlotAdded;
    /// See [`system::KeySlotRemoved`].
    KeySlotRemoved(system::KeySlotRemoved) = KeySlotRemoved;
    /// See [`system::KeySlotPinned`].
    KeySlotPinned(system::KeySlotPinned) = KeySlotPinned;
    /// See [`system::RootRotated`].
    RootRotated(system::RootRotated) = RootRotated;
    /// See [`system::TailDropped`].
    TailDropped(system::TailDropped) = TailDropped;
    /// See [`system::WitnessSetAside`].
    WitnessSetAside(system::WitnessSetAside) = WitnessSetAside;
    /// See [`system::WitnessRebuilt`].
    WitnessRebuilt(system::WitnessRebuilt) = WitnessRebuilt;
    /// See [`system::ClockStepped`].
    ClockStepped(system::ClockStepped) = ClockStepped;
    /// See [`system::CommandRefused`].
    CommandRefused(system::CommandRefused) = CommandRefused;
    /// See [`system::JournalRestored`].
    JournalRestored(system::JournalRestored) = JournalRestored;
    /// See [`system::HeadRestored`].
    HeadRestored(system::HeadRestored) = HeadRestored;
    /// See [`system::KeyTableRepaired`].
    KeyTableRepaired(system::KeyTableRepaired) = KeyTableRepaired;
    /// See [`system::SpoolDropped`].
    SpoolDropped(system::SpoolDropped) = SpoolDropped, 2 [1 => v1::SpoolDropped];
    /// See [`compromise::CompromiseDeclared`].
    CompromiseDeclared(compromise::CompromiseDeclared) = CompromiseDeclared;
    /// See [`compromise::CompromiseClosed`].
    CompromiseClosed(compromise::CompromiseClosed) = CompromiseClosed;
    /// See [`import::StoreImported`].
    StoreImported(import::StoreImported) = StoreImported;
    /// See [`system::CheckpointSigned`].
    CheckpointSigned(system::CheckpointSigned) = CheckpointSigned;
    /// See [`system::AnchorPlaced`].
    AnchorPlaced(system::AnchorPlaced) = AnchorPlaced;
    /// See [`system::AnchorConflict`].
    AnchorConflict(system::AnchorConflict) = AnchorConflict;
    /// See [`system::BranchStarted`].
    BranchStarted(system::BranchStarted) = BranchStarted;
    /// See [`system::BackupCreated`].
    BackupCreated(system::BackupCreated) = BackupCreated;
    /// See [`system::LedgerRestored`].
    LedgerRestored(system::LedgerRestored) = LedgerRestored;
    /// See [`vault::SecretPut`].
    SecretPut(vault::SecretPut) = SecretPut, 2 [1 => v1::SecretPut];
    /// See [`vault::SecretDeleted`].
    SecretDeleted(vault::SecretDeleted) = SecretDeleted;
    /// See [`vault::SecretUndeleted`].
    SecretUndeleted(vault::SecretUndeleted) = SecretUndeleted;
    /// See [`vault::SecretShredded`].
    SecretShredded(vault::SecretShredded) = SecretShredded;
    /// See [`vault::SecretDescribed`].
    SecretDescribed(vault::SecretDescribed) = SecretDescribed;
    /// See [`vault::SecretsRead`].
    SecretsRead(vault::SecretsRead) = SecretsRead;
    /// See [`vault::ReferencesResolved`].
    ReferencesResolved(vault::ReferencesResolved) = ReferencesResolved;
    /// See [`vault::BackendMigrationStarted`].
    BackendMigrationStarted(vault::BackendMigrationStarted) = BackendMigrationStarted;
    /// See [`vault::EnvelopesMoved`].
    EnvelopesMoved(vault::EnvelopesMoved) = EnvelopesMoved;
    /// See [`vault::BackendSwitched`].
    BackendSwitched(vault::BackendSwitched) = BackendSwitched;
    /// See [`vault::BackendMigrationFinished`].
    BackendMigrationFinished(vault::BackendMigrationFinished) = BackendMigrationFinished;
    /// See [`vault::BackendMigrationAborted`].
    BackendMigrationAborted(vault::BackendMigrationAborted) = BackendMigrationAborted;
    /// See [`import::SecretsImported`].
    SecretsImported(import::SecretsImported) = SecretsImported;
    /// See [`vault::VaultExported`].
    VaultExported(vault::VaultExported) = VaultExported;
    /// See [`identity::CaCertified`].
    CaCertified(identity::CaCertified) = CaCertified;
    /// See [`identity::CaPrepared`].
    CaPrepared(identity::CaPrepared) = CaPrepared;
    /// See [`identity::CaActivated`].
    CaActivated(identity::CaActivated) = CaActivated;
    /// See [`identity::CaTainted`].
    CaTainted(identity::CaTainted) = CaTainted;
    /// See [`identity::CaRevoked`].
    CaRevoked(identity::CaRevoked) = CaRevoked;
    /// See [`identity::PairingMinted`].
    PairingMinted(identity::PairingMinted) = PairingMinted;
    /// See [`identity::PairingAttempted`].
    PairingAttempted(identity::PairingAttempted) = PairingAttempted;
    /// See [`identity::PairingRequested`].
    PairingRequested(identity::PairingRequested) = PairingRequested;
    /// See [`identity::PairingApproved`].
    PairingApproved(identity::PairingApproved) = PairingApproved;
    /// See [`identity::PairingDenied`].
    PairingDenied(identity::PairingDenied) = PairingDenied;
    /// See [`identity::PairingEnded`].
    PairingEnded(identity::PairingEnded) = PairingEnded;
    /// See [`identity::DevicePaired`].
    DevicePaired(identity::DevicePaired) = DevicePaired;
    /// See [`identity::CertificateIssued`].
    CertificateIssued(identity::CertificateIssued) = CertificateIssued;
    /// See [`identity::DeviceRenamed`].
    DeviceRenamed(identity::DeviceRenamed) = DeviceRenamed;
    /// See [`identity::DeviceRevoked`].
    DeviceRevoked(identity::DeviceRevoked) = DeviceRevoked, 2 [1 => v1::DeviceRevoked];
    /// See [`identity::CertificateRevoked`].
    CertificateRevoked(identity::CertificateRevoked) = CertificateRevoked;
    /// See [`identity::DeviceCleared`].
    DeviceCleared(identity::DeviceCleared) = DeviceCleared;
    /// See [`identity::DeviceRemoved`].
    DeviceRemoved(identity::DeviceRemoved) = DeviceRemoved;
    /// See [`identity::CrlIssued`].
    CrlIssued(identity::CrlIssued) = CrlIssued;
    /// See [`identity::ConnectionsRefused`].
    ConnectionsRefused(identity::ConnectionsRefused) = ConnectionsRefused;
    /// See [`identity::DevicesSeen`].
    DevicesSeen(identity::DevicesSeen) = DevicesSeen;
    /// See [`identity::PairingRefused`].
    PairingRefused(identity::PairingRefused) = PairingRefused;
    /// See [`identity::DaemonStarted`].
    DaemonStarted(identity::DaemonStarted) = DaemonStarted;
    /// See [`identity::DaemonStopped`].
    DaemonStopped(identity::DaemonStopped) = DaemonStopped;
    /// See [`identity::RequestExpired`].
    RequestExpired(identity::RequestExpired) = RequestExpired;
    /// See [`identity::DeviceGranted`].
    DeviceGranted(identity::DeviceGranted) = DeviceGranted;
    /// See [`import::DevicesImported`].
    DevicesImported(import::DevicesImported) = DevicesImported;
    /// See [`import::CaImported`].
    CaImported(import::CaImported) = CaImported;
    /// See [`auth::ProfileSet`].
    ProfileSet(auth::ProfileSet) = ProfileSet;
    /// See [`auth::ProfileEnabled`].
    ProfileEnabled(auth::ProfileEnabled) = ProfileEnabled;
    /// See [`auth::ProfileDeleted`].
    ProfileDeleted(auth::ProfileDeleted) = ProfileDeleted;
    /// See [`auth::ProfileCleared`].
    ProfileCleared(auth::ProfileCleared) = ProfileCleared;
    /// See [`auth::OrderSet`].
    OrderSet(auth::OrderSet) = OrderSet;
    /// See [`auth::RefreshStarted`].
    RefreshStarted(auth::RefreshStarted) = RefreshStarted;
    /// See [`auth::RefreshSucceeded`].
    RefreshSucceeded(auth::RefreshSucceeded) = RefreshSucceeded, 2 [1 => v1::RefreshSucceeded];
    /// See [`auth::RefreshFailed`].
    RefreshFailed(auth::RefreshFailed) = RefreshFailed;
    /// See [`auth::ProfileLoggedIn`].
    ProfileLoggedIn(auth::ProfileLoggedIn) = ProfileLoggedIn;
    /// See [`auth::ProfileLoggedOut`].
    ProfileLoggedOut(auth::ProfileLoggedOut) = ProfileLoggedOut;
    /// See [`auth::UsageReported`].
    UsageReported(auth::UsageReported) = UsageReported;
    /// See [`auth::FailedOver`].
    FailedOver(auth::FailedOver) = FailedOver;
    /// See [`import::CredentialsImported`].
    CredentialsImported(import::CredentialsImported) = CredentialsImported, 2 [1 => v1::CredentialsImported];
}

impl Event {
    /// The secrets that this event is about, as `<scope>/<name>` texts.
    #[must_use]
    pub fn secret_refs(&self) -> Vec<String> {
        let one = |scope: &crate::base::Scope, name: &crate::base::SecretName| vec![format!("{scope}/{name}")];
        match self {
            Self::SecretPut(event) => one(&event.scope, &event.name),
            Self::SecretDeleted(event) => one(&event.scope, &event.name),
            Self::SecretUndeleted(event) => one(&event.scope, &event.name),
            Self::SecretShredded(event) => one(&event.scope, &event.name),
            Self::SecretDescribed(event) => one(&event.scope, &event.name),
            Self::SecretsRead(event) => {
                event.reads.iter().map(|read| format!("{}/{}", read.scope, read.name)).collect()
            }
            Self::SecretsImported(event) => {
                event.secrets.iter().map(|one| format!("{}/{}", one.put.scope, one.put.name)).collect()
            }
            Self::ReferencesResolved(event) => {
                event.notes.iter().filter_map(|note| note.shown.strip_prefix("vault:").map(str::to_owned)).collect()
            }
            Self::CommandRefused(event) => event.target.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}
