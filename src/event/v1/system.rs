//! Events of the ledger itself, version 1.

use serde::{Deserialize, Serialize};

use crate::event::system;

/// Kind 15: the bytes that did not read were removed with the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolDropped {
    /// How many bytes.
    pub bytes: u64,
}

impl From<SpoolDropped> for system::SpoolDropped {
    fn from(old: SpoolDropped) -> Self {
        Self { bytes: old.bytes, digest: None, saved_as: None }
    }
}
