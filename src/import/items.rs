//! What readers find: the things themselves, and a line about everything that was met.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::{DeviceId, DeviceName, SecretBytes, SecretPath, Timestamp};
use crate::crypto::{Fingerprint, Hash};
use crate::event::identity::{ClientKind, Der};
use crate::event::import::{ImportedOrder, ImportedProfile, OriginRevocation, OriginTimes, SourceForm};
use crate::pki::ForeignRoot;

/// What became of one item of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is imported, or would be.
    Imported,
    /// It takes the place of what was here, or would.
    Replaced,
    /// It is here already, the same.
    Same,
    /// Something else stands here under its name.
    Conflict,
    /// It does not read, or is not whole.
    Damaged,
    /// It reads and cannot be kept here.
    Unfit,
    /// It is nothing of the layout.
    Foreign,
    /// It is left behind on purpose.
    Skipped,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 8] = [
        Self::Imported,
        Self::Replaced,
        Self::Same,
        Self::Conflict,
        Self::Damaged,
        Self::Unfit,
        Self::Foreign,
        Self::Skipped,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Replaced => "replaced",
            Self::Same => "same",
            Self::Conflict => "conflict",
            Self::Damaged => "damaged",
            Self::Unfit => "unfit",
            Self::Foreign => "foreign",
            Self::Skipped => "skipped",
        }
    }

    /// Whether the item is lost to the import: it stops unless somebody says to go on without.
    #[must_use]
    pub const fn is_refused(self) -> bool {
        matches!(self, Self::Damaged | Self::Unfit)
    }
}

/// One line of a report: about which item, and what became of it. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The item: `secret global/key`, `device <id>`, `file <name>`.
    pub item: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why; empty where there is nothing to say.
    pub what: String,
}

impl Line {
    /// A line.
    #[must_use]
    pub fn new(item: impl Into<String>, verdict: Verdict, what: impl Into<String>) -> Self {
        Self { item: item.into(), verdict, what: what.into() }
    }
}

/// One secret version of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSecret {
    /// Which secret.
    pub path: SecretPath,
    /// The value.
    pub value: SecretBytes,
    /// What the source says of its times.
    pub origin: Option<OriginTimes>,
    /// When it is to be replaced.
    pub expires_at: Option<Timestamp>,
    /// Description of the secret.
    pub description: Option<String>,
    /// Labels of the secret.
    pub labels: BTreeMap<String, String>,
    /// Whether it is hidden.
    pub deleted: bool,
}

impl FoundSecret {
    /// A secret of which the source knows the value alone.
    #[must_use]
    pub const fn bare(path: SecretPath, value: SecretBytes) -> Self {
        let labels = BTreeMap::new();
        Self { path, value, origin: None, expires_at: None, description: None, labels, deleted: false }
    }
}

/// A certificate of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCertificate {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Its bytes, where they are there.
    pub certificate: Option<Der>,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// A device of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    /// The device.
    pub device: DeviceId,
    /// What it is, where the source says.
    pub kind: Option<ClientKind>,
    /// What it is to be called.
    pub name: DeviceName,
    /// Its public key.
    pub public_key: Option<Der>,
    /// When its newest certificate was issued.
    pub issued: Option<Timestamp>,
    /// That it is revoked.
    pub revoked: Option<OriginRevocation>,
    /// Its certificates, the newest last.
    pub certificates: Vec<FoundCertificate>,
}

/// Everything that a source holds, read and opened.
#[derive(Debug)]
pub struct Gathered {
    /// What kind of source.
    pub form: SourceForm,
    /// Its digest; see [`crate::event::import::StoreImported`].
    pub digest: Hash,
    /// Whether the digest covers every byte: the same digest is the same source then.
    pub whole: bool,
    /// Where it is.
    pub origin: String,
    /// Secret versions; those of one secret stand together, in their order.
    pub secrets: Vec<FoundSecret>,
    /// Its CA.
    pub authority: Option<ForeignRoot>,
    /// Devices.
    pub devices: Vec<FoundDevice>,
    /// Revoked fingerprints of no known device.
    pub revoked: Vec<Fingerprint>,
    /// Profiles.
    pub profiles: Vec<ImportedProfile>,
    /// Orders of profiles.
    pub orders: Vec<ImportedOrder>,
    /// What was met besides.
    pub lines: Vec<Line>,
    /// Whether it could not be read as a whole: then a line says why, and nothing of it can be imported.
    pub unreadable: bool,
}

impl Gathered {
    /// A source of which nothing was read yet.
    #[must_use]
    pub fn new(form: SourceForm, origin: impl Into<String>) -> Self {
        Self {
            form,
            digest: Hash([0; 32]),
            whole: false,
            origin: origin.into(),
            secrets: Vec::new(),
            authority: None,
            devices: Vec::new(),
            revoked: Vec::new(),
            profiles: Vec::new(),
            orders: Vec::new(),
            lines: Vec::new(),
            unreadable: false,
        }
    }
}
