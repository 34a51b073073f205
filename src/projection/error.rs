//! Why an index cannot be used.

use crate::base::RandomError;
use crate::store::StoreError;

/// Why an index must be made anew from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RebuildReason {
    /// There is no manifest.
    #[error("it is not there")]
    Missing,
    /// A run that the manifest names is not there.
    #[error("a part of it is not there")]
    RunMissing,
    /// It belongs to another ledger or another history.
    #[error("it belongs to another ledger or another history")]
    Foreign,
    /// It was written for another state schema.
    #[error("it was written by another version of the program")]
    Schema,
    /// Its bytes are not what was written.
    #[error("it is damaged")]
    Damaged,
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It must be made anew from the log; nothing is lost.
    #[error("the index cannot be used: {reason}")]
    Rebuild {
        /// Why.
        reason: RebuildReason,
    },
    /// A newer program wrote it.
    #[error(
        "the index was written by a newer program ({what} {found}; palyra-ledger {} knows {known})",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// Which version: that of its files, or that of the state.
        what: &'static str,
        /// The version that it has.
        found: u32,
        /// The newest one that is known.
        known: u32,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl From<RebuildReason> for IndexError {
    fn from(reason: RebuildReason) -> Self {
        Self::Rebuild { reason }
    }
}
