//! The kind numbers (stored in the clear in every frame; never reused, never renumbered).

/// The domain that a kind belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindClass {
    /// The ledger itself: 1 to 31.
    System,
    /// The vault: 32 to 63.
    Vault,
    /// Device trust: 64 to 95.
    Identity,
    /// Service credentials: 96 to 127.
    Auth,
    /// Unassigned.
    Unknown,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What kind of event a frame holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Kind {
            /// Every kind, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind with this number, if it is assigned.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name, stable as the number is.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The kind with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A ledger came into being.
    LedgerCreated = 1, "ledger_created";
    /// A new epoch key seals from here on.
    EpochStarted = 2, "epoch_started";
    /// A way to open the ledger was added.
    KeySlotAdded = 3, "key_slot_added";
    /// A way to open the ledger was removed.
    KeySlotRemoved = 4, "key_slot_removed";
    /// Another slot than the pinned one opened the ledger and is pinned now.
    KeySlotPinned = 5, "key_slot_pinned";
    /// The root key and the KEK were replaced, every DEK slot re-wrapped.
    RootRotated = 6, "root_rotated";
    /// A torn batch at the end of the journal was dropped.
    TailDropped = 7, "tail_dropped";
    /// The sled copy was set aside as evidence.
    WitnessSetAside = 8, "witness_set_aside";
    /// The sled copy was rebuilt from the journal.
    WitnessRebuilt = 9, "witness_rebuilt";
    /// The clock was found behind the log.
    ClockStepped = 10, "clock_stepped";
    /// A command was refused.
    CommandRefused = 11, "command_refused";
    /// Damaged journal frames were restored from the sled copy.
    JournalRestored = 12, "journal_restored";
    /// A missing or damaged head file was written anew on a person's word.
    HeadRestored = 13, "head_restored";
    /// Slots of the key table were repaired from their second copy.
    KeyTableRepaired = 14, "key_table_repaired";
    /// Part of the read spool could not be read.
    SpoolDropped = 15, "spool_dropped";
    /// A checkpoint of the log before it was signed.
    CheckpointSigned = 16, "checkpoint_signed";
    /// A checkpoint was put into an anchor for the first time.
    AnchorPlaced = 17, "anchor_placed";
    /// An anchor holds what does not fit the log.
    AnchorConflict = 18, "anchor_conflict";
    /// An older copy was put back on purpose: history goes on from there.
    BranchStarted = 19, "branch_started";
    /// Something may have been taken; what is to be done about it.
    CompromiseDeclared = 20, "compromise_declared";
    /// Everything that a compromise asked for is done.
    CompromiseClosed = 21, "compromise_closed";
    /// Something was imported from another store.
    StoreImported = 22, "store_imported";
    /// A backup was made.
    BackupCreated = 23, "backup_created";
    /// The ledger was restored from a backup.
    LedgerRestored = 24, "ledger_restored";
    /// A secret version was written.
    SecretPut = 32, "secret_put";
    /// Secret versions were hidden.
    SecretDeleted = 33, "secret_deleted";
    /// Secret versions were shown again.
    SecretUndeleted = 34, "secret_undeleted";
    /// Secret versions were destroyed.
    SecretShredded = 35, "secret_shredded";
    /// A secret's description, labels or expiry changed.
    SecretDescribed = 36, "secret_described";
    /// Secret values were read.
    SecretsRead = 37, "secrets_read";
    /// References to secrets were resolved or refused.
    ReferencesResolved = 38, "references_resolved";
    /// Envelopes began to move to another backend.
    BackendMigrationStarted = 39, "backend_migration_started";
    /// Envelopes came back into the log from another backend.
    EnvelopesMoved = 40, "envelopes_moved";
    /// Another backend is the ledger's from here on.
    BackendSwitched = 41, "backend_switched";
    /// The former backend's objects were removed.
    BackendMigrationFinished = 42, "backend_migration_finished";
    /// A move to another backend was given up.
    BackendMigrationAborted = 43, "backend_migration_aborted";
    /// Secret versions came from another store.
    SecretsImported = 44, "secrets_imported";
    /// Everything in the vault was given out at once.
    VaultExported = 45, "vault_exported";
    /// The CA's root certificate was made.
    CaCertified = 64, "ca_certified";
    /// The CA's next key and root certificate were made; both roots are trusted from here.
    CaPrepared = 65, "ca_prepared";
    /// The next CA key issues from here on; every DEK slot was re-wrapped.
    CaActivated = 66, "ca_activated";
    /// The old CA key is no longer to be relied on; its certificates are to be replaced.
    CaTainted = 67, "ca_tainted";
    /// The old root is no longer trusted and its key is gone.
    CaRevoked = 68, "ca_revoked";
    /// A pairing code was made.
    PairingMinted = 69, "pairing_minted";
    /// A device began to prove that it knows a code.
    PairingAttempted = 70, "pairing_attempted";
    /// A device proved that it knows the code and asks to be paired.
    PairingRequested = 71, "pairing_requested";
    /// A person approved a pairing request.
    PairingApproved = 72, "pairing_approved";
    /// A person denied a pairing request.
    PairingDenied = 73, "pairing_denied";
    /// A pairing code ended without a request.
    PairingEnded = 74, "pairing_ended";
    /// A device is trusted from here on.
    DevicePaired = 75, "device_paired";
    /// A certificate was issued.
    CertificateIssued = 76, "certificate_issued";
    /// A device got another name.
    DeviceRenamed = 77, "device_renamed";
    /// A device is no longer trusted.
    DeviceRevoked = 78, "device_revoked";
    /// One certificate is no longer trusted.
    CertificateRevoked = 79, "certificate_revoked";
    /// A revoked device may ask to be paired again.
    DeviceCleared = 80, "device_cleared";
    /// A device was taken off the list.
    DeviceRemoved = 81, "device_removed";
    /// A certificate revocation list was signed.
    CrlIssued = 82, "crl_issued";
    /// Connections or requests were refused.
    ConnectionsRefused = 83, "connections_refused";
    /// Devices were seen.
    DevicesSeen = 84, "devices_seen";
    /// Pairing was refused to somebody.
    PairingRefused = 85, "pairing_refused";
    /// The daemon began to serve.
    DaemonStarted = 86, "daemon_started";
    /// The daemon stopped serving.
    DaemonStopped = 87, "daemon_stopped";
    /// Nobody answered a pairing request in its time.
    RequestExpired = 88, "request_expired";
    /// A device was granted a scope of the vault, or lost it.
    DeviceGranted = 89, "device_granted";
    /// Devices came from another store.
    DevicesImported = 90, "devices_imported";
    /// The CA of another store is trusted from here on.
    CaImported = 91, "ca_imported";
    /// A credential profile was made or changed.
    ProfileSet = 96, "profile_set";
    /// A profile was enabled or disabled.
    ProfileEnabled = 97, "profile_enabled";
    /// A profile was deleted.
    ProfileDeleted = 98, "profile_deleted";
    /// A profile's failures were forgotten on a person's word.
    ProfileCleared = 99, "profile_cleared";
    /// The order of profiles was set.
    OrderSet = 100, "order_set";
    /// A token refresh began.
    RefreshStarted = 101, "refresh_started";
    /// A token refresh succeeded.
    RefreshSucceeded = 102, "refresh_succeeded";
    /// A token refresh failed.
    RefreshFailed = 103, "refresh_failed";
    /// Somebody logged in.
    ProfileLoggedIn = 104, "profile_logged_in";
    /// The tokens of a profile were given up.
    ProfileLoggedOut = 105, "profile_logged_out";
    /// Profiles were used.
    UsageReported = 106, "usage_reported";
    /// A credential of another kind was used than the preferred one.
    FailedOver = 107, "failed_over";
    /// Profiles came from another store.
    CredentialsImported = 108, "credentials_imported";
}

impl Kind {
    /// The number, as stored.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The name for any number, known or not.
    #[must_use]
    pub fn display_name(number: u16) -> String {
        Self::from_number(number).map_or_else(|| format!("unknown_{number}"), |kind| kind.name().to_owned())
    }
}

impl KindClass {
    /// The domain of a kind number.
    #[must_use]
    pub const fn of(number: u16) -> Self {
        match number {
            1..=31 => Self::System,
            32..=63 => Self::Vault,
            64..=95 => Self::Identity,
            96..=127 => Self::Auth,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant I4: this table is the promise. A line may be added; none may change.
    #[test]
    fn i4_kind_numbers_are_frozen() {
        let table: Vec<(u16, &str)> = Kind::ALL.iter().map(|kind| (kind.number(), kind.name())).collect();
        let frozen = [
            (1, "ledger_created"),
            (2, "epoch_started"),
            (3, "key_slot_added"),
            (4, "key_slot_removed"),
            (5, "key_slot_pinned"),
            (6, "root_rotated"),
            (7, "tail_dropped"),
            (8, "witness_set_aside"),
            (9, "witness_rebuilt"),
            (10, "clock_stepped"),
            (11, "command_refused"),
            (12, "journal_restored"),
            (13, "head_restored"),
            (14, "key_table_repaired"),
            (15, "spool_dropped"),
            (16, "checkpoint_signed"),
            (17, "anchor_placed"),
            (18, "anchor_conflict"),
            (19, "branch_started"),
            (20, "compromise_declared"),
            (21, "compromise_closed"),
            (22, "store_imported"),
            (23, "backup_created"),
            (24, "ledger_restored"),
            (32, "secret_put"),
            (33, "secret_deleted"),
            (34, "secret_undeleted"),
            (35, "secret_shredded"),
            (36, "secret_described"),
            (37, "secrets_read"),
            (38, "references_resolved"),
            (39, "backend_migration_started"),
            (40, "envelopes_moved"),
            (41, "backend_switched"),
            (42, "backend_migration_finished"),
            (43, "backend_migration_aborted"),
            (44, "secrets_imported"),
            (45, "vault_exported"),
            (64, "ca_certified"),
            (65, "ca_prepared"),
            (66, "ca_activated"),
            (67, "ca_tainted"),
            (68, "ca_revoked"),
            (69, "pairing_minted"),
            (70, "pairing_attempted"),
            (71, "pairing_requested"),
            (72, "pairing_approved"),
            (73, "pairing_denied"),
            (74, "pairing_ended"),
            (75, "device_paired"),
            (76, "certificate_issued"),
            (77, "device_renamed"),
            (78, "device_revoked"),
            (79, "certificate_revoked"),
            (80, "device_cleared"),
            (81, "device_removed"),
            (82, "crl_issued"),
            (83, "connections_refused"),
            (84, "devices_seen"),
            (85, "pairing_refused"),
            (86, "daemon_started"),
            (87, "daemon_stopped"),
            (88, "request_expired"),
            (89, "device_granted"),
            (90, "devices_imported"),
            (91, "ca_imported"),
            (96, "profile_set"),
            (97, "profile_enabled"),
            (98, "profile_deleted"),
            (99, "profile_cleared"),
            (100, "order_set"),
            (101, "refresh_started"),
            (102, "refresh_succeeded"),
            (103, "refresh_failed"),
            (104, "profile_logged_in"),
            (105, "profile_logged_out"),
            (106, "usage_reported"),
            (107, "failed_over"),
            (108, "credentials_imported"),
        ];
        assert_eq!(table, frozen);
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(*kind));
            assert_eq!(Kind::from_name(kind.name()), Some(*kind));
        }
        assert_eq!(Kind::from_number(0), None);
    }
}
