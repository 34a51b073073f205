//! Faults planted in what surrounds the ledger: each is what a careless program or machine would do.

/// What is planted, to show that it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "each is something that is left out")]
pub enum Planted {
    /// The disk says that it synced.
    NoSync,
    /// A refresher sends its token without a look at its lease.
    NoLease,
    /// The client of a compare-and-set does not say what it saw.
    NoCompare,
    /// A revocation is acknowledged and never asked for.
    NoRevocation,
    /// A door does not look at revocations.
    NoLook,
    /// A door takes a certificate again that it took once.
    Resumed,
    /// A read is answered from another scope.
    NoScope,
    /// An older copy is opened as if it were the newest.
    OldCopy,
    /// The random source begins anew with each opening.
    SameRandom,
}

impl Planted {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::NoSync,
        Self::NoLease,
        Self::NoCompare,
        Self::NoRevocation,
        Self::NoLook,
        Self::Resumed,
        Self::NoScope,
        Self::OldCopy,
        Self::SameRandom,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSync => "a disk that says that it synced a file",
            Self::NoLease => "a refresher that sends its token after its lease",
            Self::NoCompare => "a compare-and-set that does not compare",
            Self::NoRevocation => "a revocation that is acknowledged and not done",
            Self::NoLook => "a door that does not look at revocations",
            Self::Resumed => "a connection that is resumed by what was decided before",
            Self::NoScope => "a read that is answered from another scope, as if that were not in the associated data",
            Self::OldCopy => "an older copy, and its checkpoint, that are taken for the newest",
            Self::SameRandom => "nonces that are used again: a random source that begins anew with each opening",
        }
    }
}
