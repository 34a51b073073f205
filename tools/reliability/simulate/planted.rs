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
    /// A door takes a certificate again that it took once: the rule of `NoLook`, broken later.
    Resumed,
    /// The wrong scope is asked.
    OtherScope,
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
        Self::OtherScope,
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
            Self::NoLook => "revoked devices are let in (one rule, two doors): by a door that does not look",
            Self::Resumed => {
                "revoked devices are let in (the same rule): by a door that goes by what it decided before"
            }
            Self::OtherScope => "a read that asks another scope than the reader's",
            Self::OldCopy => "an older copy, and its checkpoint, that are taken for the newest",
            Self::SameRandom => "nonces that are used again: a random source that begins anew with each opening",
        }
    }

    /// Whether a failure is the finding that belongs to it: all of these words are in it. Any other failure says
    /// nothing of the plant.
    pub fn is_seen_in(self, failure: &str) -> bool {
        let words: &[&str] = match self {
            Self::NoSync | Self::OldCopy => &["Vault(", ": nothing was under way; secret k", " must be "],
            Self::NoLease => &["a refresh token was spent twice, and no answer was lost"],
            Self::NoCompare => &[": version ", " written over "],
            Self::NoRevocation => &["Devices: nothing was under way; it must be ", "state: Revoked", "state: Paired"],
            Self::NoLook => &["was revoked, and certificate ", " is accepted"],
            Self::Resumed => &["was revoked, and certificate ", " is accepted, as it was before"],
            Self::OtherScope => &["a value of another scope was read"],
            Self::SameRandom => &["has a nonce that another frame of its epoch has"],
        };
        words.iter().all(|words| failure.contains(words))
    }
}
