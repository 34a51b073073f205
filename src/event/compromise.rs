//! Events of a compromise: what may have been taken, and what is to be done about it. All are stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{CorrelationId, DeviceId, ProfileId, SecretPath, Serial, Timestamp};
use crate::crypto::Hash;

/// What a story or a compromise is about (stored: variants are numbered by their place, never reordered).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// A secret.
    Secret(SecretPath),
    /// A device.
    Device(DeviceId),
    /// A profile.
    Profile(ProfileId),
}

impl Concern {
    /// What kind of thing it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Secret(_) => "secret",
            Self::Device(_) => "device",
            Self::Profile(_) => "profile",
        }
    }

    /// Its name among its kind.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Secret(path) => path.to_string(),
            Self::Device(device) => device.to_string(),
            Self::Profile(profile) => profile.to_string(),
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// One thing to be done after a compromise (stored: variants are numbered by their place, never reordered).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The device is trusted no more.
    RevokeDevice(DeviceId),
    /// The certificate is trusted no more.
    RevokeCertificate(Serial),
    /// The profile is not used until its tokens or its key are others.
    DisableProfile(ProfileId),
    /// The secret gets another value than the one of this version.
    ReplaceSecret {
        /// Which secret.
        path: SecretPath,
        /// The last version whose value may be known.
        version: u32,
    },
}

/// Something may have been taken. A long plan is told in several events of one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompromiseDeclared {
    /// What may have been taken.
    pub concern: Concern,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// What ties everything that is done about it together.
    pub correlation: CorrelationId,
    /// Digest of the whole plan.
    pub plan: Hash,
    /// Which part of the plan this is, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// What is to be done.
    pub items: Vec<Remedy>,
}

/// Everything that a compromise asked for is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompromiseClosed {
    /// What may have been taken.
    pub concern: Concern,
    /// Digest of the plan that was carried out.
    pub plan: Hash,
}
