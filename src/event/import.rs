//! Events of imports: what came from another store, in one batch. All are stored.
//!
//! The batch begins with [`StoreImported`]; what follows in it are the things themselves. What the source said of
//! its own times stands beside the time of the event, and never in its place.

use serde::{Deserialize, Serialize};

use crate::base::{DeviceId, DeviceName, ProfileId, ProfileScope, Provider, Serial, Timestamp};
use crate::crypto::{Fingerprint, Hash};

use super::auth::{Profile, UsageNote};
use super::identity::{ClientKind, Der};
use super::v1;

words! {
    /// What was imported from (stored: numbered by place, never reordered).
    SourceForm {
        /// A store in Palyra's file layout.
        Palyra = "palyra",
        /// An env file.
        Env = "env",
        /// A password store, through gpg.
        Pass = "pass",
        /// What `export` wrote.
        Json = "json",
    }
}

/// Something was imported, whole: everything else in the batch came with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreImported {
    /// From what.
    pub form: SourceForm,
    /// Digest of the source. Of a source that holds values in the clear it covers names and lengths alone: a
    /// digest of values would confirm a guess of one that was shredded since.
    pub digest: Hash,
    /// Where it was, as somebody named it.
    pub origin: String,
    /// Program and version that imported.
    pub program: String,
    /// Secret versions that were written.
    pub secrets: u64,
    /// Devices, revoked ones with them.
    pub devices: u64,
    /// Certificates, revoked ones with them.
    pub certificates: u64,
    /// Profiles.
    pub profiles: u64,
    /// Orders of profiles.
    pub orders: u64,
    /// Items that were here already, the same.
    pub same: u64,
    /// Items that were left behind.
    pub refused: u64,
}

/// Times as the source told them (stored, also in the state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginTimes {
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// One secret version that came from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedSecret {
    /// The version, sealed anew for its place here; always as schema version 1 of kind 32 has it.
    pub put: v1::SecretPut,
    /// What the source said of its times, if anything.
    pub origin: Option<OriginTimes>,
    /// Whether it is hidden, as it was there.
    pub deleted: bool,
}

/// Secret versions came from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsImported {
    /// The versions; those of one secret in their order.
    pub secrets: Vec<ImportedSecret>,
}

/// The CA of another store: its root is trusted as the old one is in a roll, and it issues nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaImported {
    /// Its generation here.
    pub generation: u32,
    /// Its root certificate.
    pub certificate: Der,
    /// When that ends.
    pub not_after: Timestamp,
    /// The key ring that holds its key.
    pub keyring: Hash,
}

/// A certificate that another store issued. Here it goes by a serial number of this ledger's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedCertificate {
    /// The number that it goes by here.
    pub serial: Serial,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its bytes, where the source kept them.
    pub certificate: Option<Der>,
    /// When it begins; of one whose bytes are not known, 0.
    pub not_before: Timestamp,
    /// When it ends; of one whose bytes are not known, when its root does.
    pub not_after: Timestamp,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// What the source said of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginRevocation {
    /// When.
    pub time: Timestamp,
    /// Why.
    pub reason: String,
}

/// A device of another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedDevice {
    /// The device.
    pub device: DeviceId,
    /// What it is, where the source says.
    pub kind: Option<ClientKind>,
    /// What it is called here.
    pub name: DeviceName,
    /// Its public key (`SubjectPublicKeyInfo`), where the source knows it.
    pub public_key: Option<Der>,
    /// When the source issued its newest certificate.
    pub issued: Option<Timestamp>,
    /// That it is revoked, and what the source said of that.
    pub revoked: Option<OriginRevocation>,
    /// Its certificates, the newest last.
    pub certificates: Vec<ImportedCertificate>,
}

/// Devices came from another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesImported {
    /// Generation of the CA that signed their certificates.
    pub generation: u32,
    /// The devices.
    pub devices: Vec<ImportedDevice>,
    /// Fingerprints of revoked certificates that the source ties to no device.
    pub revoked: Vec<Fingerprint>,
}

/// A credential profile of another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedProfile {
    /// The profile.
    pub profile: Profile,
    /// When its access token ends, where that is known.
    pub expires_at: Option<Timestamp>,
    /// What became of it in use, as the source tells.
    pub usage: Option<UsageNote>,
    /// What the source said of its times.
    pub origin: OriginTimes,
}

/// An order of profiles of another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedOrder {
    /// The scope.
    pub scope: ProfileScope,
    /// The service that it is for.
    pub provider: Provider,
    /// The profiles, the preferred one first.
    pub profiles: Vec<ProfileId>,
    /// When it was set, as the source said; nothing in events of schema 1, or where the source does not say.
    pub updated_at: Option<Timestamp>,
}

/// Profiles and orders came from another store (schema 2; 1 is
/// [`v1::CredentialsImported`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsImported {
    /// The profiles.
    pub profiles: Vec<ImportedProfile>,
    /// The orders.
    pub orders: Vec<ImportedOrder>,
}
