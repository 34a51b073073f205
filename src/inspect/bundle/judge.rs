//! Judging a bundle: what it proves, and under whose word.

use zeroize::Zeroizing;

use crate::checkpoint::tree::{leaf, verify_consistency, verify_inclusion};
use crate::checkpoint::{Checkpoint, SignedCheckpoint, VerifierKey};
use crate::log::{Frame, Header};

use super::{Bundle, Record};
use crate::crypto::Hash;

/// What the reader of a bundle knows from elsewhere.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The ledger's public key.
    Key(VerifierKey),
    /// A checkpoint that was kept elsewhere: its key is the ledger's, and there is no other root at its size.
    Anchor(Box<SignedCheckpoint>),
}

/// What is wrong with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A proof does not lead to the checkpoint's root.
    #[error("the proof of event {seq} does not lead to the root that was signed: it is not in that log")]
    Inclusion {
        /// The event.
        seq: u64,
    },
    /// The last event is another than the checkpoint names.
    #[error("event {seq} is the last that the checkpoint covers, but another one was signed")]
    Head {
        /// The event.
        seq: u64,
    },
    /// The newer checkpoint does not continue the first.
    #[error("the newer checkpoint does not continue the first: the log was rewritten between them")]
    Consistency,
    /// An event does not follow the one before it in the bundle.
    #[error("event {seq} does not name event {} as the one before it", seq.saturating_sub(1))]
    Chain {
        /// The event.
        seq: u64,
    },
    /// The key that was given away does not open the event.
    #[error("the key beside event {seq} does not open it")]
    Key {
        /// The event.
        seq: u64,
    },
    /// A checkpoint is signed by another key than the one that is trusted.
    #[error("the checkpoint is signed by another key than the one that was given")]
    OtherKey,
    /// The key or the anchor that was given is of another ledger.
    #[error("what was given to check it with is of another ledger")]
    OtherLedger,
    /// An anchor names another history.
    #[error("the anchor names another root for {size} events: there are two histories")]
    Forked {
        /// Events that both cover.
        size: u64,
    },
}

/// What a bundle comes to. The words are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Every event is proven under a key or an anchor that the reader brought.
    Proven,
    /// Every event is proven, under a key that nobody vouched for.
    Unvouched,
    /// Some events are behind the checkpoint: nothing proves them.
    Unproven,
    /// Something is wrong.
    Refused,
}

impl Standing {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Proven => "PROVEN",
            Self::Unvouched => "PROVEN-UNVOUCHED",
            Self::Unproven => "UNPROVEN",
            Self::Refused => "REFUSED",
        }
    }

    /// The exit code: 0 for [`Standing::Proven`] alone.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Unvouched => 17,
            Self::Unproven | Self::Refused => 15,
        }
    }
}

/// One event, judged.
#[derive(Debug)]
pub struct JudgedRecord {
    /// Its header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// Whether its place under the checkpoint is proven.
    pub proven: bool,
    /// Its body, where the key that was given away opens it.
    pub body: Option<Zeroizing<Vec<u8>>>,
}

/// A bundle, judged.
#[derive(Debug)]
pub struct Judged {
    /// What it comes to.
    pub standing: Standing,
    /// Its events.
    pub records: Vec<JudgedRecord>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl Bundle {
    /// Judges the bundle with what the reader knows from elsewhere. All of it must agree.
    #[must_use]
    pub fn judge(&self, trust: &[Trust]) -> Judged {
        let mut faults = Vec::new();
        for known in trust {
            faults.extend(self.against(known));
        }
        if let (Some(first), Some((newer, proof))) = (&self.checkpoint, &self.newer) {
            let (first, newer) = (first.checkpoint(), newer.checkpoint());
            if !verify_consistency(first.size, &first.root, newer.size, &newer.root, proof) {
                faults.push(Fault::Consistency);
            }
            if newer.key != first.key {
                faults.push(Fault::OtherKey);
            }
        }
        let mut records = Vec::new();
        let mut before: Option<(u64, Hash)> = None;
        for record in &self.records {
            // Parsing took whole frames only.
            let Ok(frame) = Frame::parse(&record.frame) else { continue };
            let seq = frame.header.seq;
            if before.is_some_and(|(other, hash)| other.checked_add(1) == Some(seq) && hash != frame.header.prev) {
                faults.push(Fault::Chain { seq });
            }
            before = Some((seq, frame.hash));
            records.push(self.record(record, &frame, &mut faults));
        }
        let standing = if !faults.is_empty() || records.len() != self.records.len() {
            Standing::Refused
        } else if records.iter().any(|record| !record.proven) {
            Standing::Unproven
        } else if trust.is_empty() {
            Standing::Unvouched
        } else {
            Standing::Proven
        };
        Judged { standing, records, faults }
    }

    fn record(&self, record: &Record, frame: &Frame<'_>, faults: &mut Vec<Fault>) -> JudgedRecord {
        let seq = frame.header.seq;
        let mut proven = false;
        if let (Some(signed), Some(proof)) = (&self.checkpoint, &record.proof) {
            let Checkpoint { size, root, head, .. } = signed.checkpoint();
            proven = verify_inclusion(seq, *size, &leaf(&frame.hash), proof, root);
            if !proven {
                faults.push(Fault::Inclusion { seq });
            }
            if seq.checked_add(1) == Some(*size) && frame.hash != *head {
                faults.push(Fault::Head { seq });
            }
        }
        let body = record.key.as_ref().and_then(|key| {
            let opened = frame.open_alone(key).ok();
            if opened.is_none() {
                faults.push(Fault::Key { seq });
            }
            opened
        });
        JudgedRecord { header: frame.header.clone(), hash: frame.hash, proven, body }
    }

    /// Whether an anchor covers as many events as a checkpoint of the bundle, and the same ones. Others vouch for
    /// the key alone: what was signed on the way from one to the other, nobody shows.
    #[must_use]
    pub fn is_compared_with(&self, anchor: &SignedCheckpoint) -> bool {
        let notes = self.checkpoint.iter().chain(self.newer.iter().map(|(newer, _)| newer));
        let other = anchor.checkpoint();
        notes.map(SignedCheckpoint::checkpoint).any(|own| (own.size, own.root) == (other.size, other.root))
    }

    /// What the bundle says against something that is known from elsewhere.
    fn against(&self, known: &Trust) -> Vec<Fault> {
        let (ledger, key) = match known {
            Trust::Key(key) => (None, key.clone()),
            Trust::Anchor(anchor) => (Some(anchor.checkpoint()), anchor.checkpoint().verifier()),
        };
        let notes = self.checkpoint.iter().chain(self.newer.iter().map(|(newer, _)| newer));
        let mut faults = Vec::new();
        for checkpoint in notes.map(SignedCheckpoint::checkpoint) {
            let own = checkpoint.verifier();
            if own.name != key.name {
                faults.push(Fault::OtherLedger);
            } else if own.key != key.key {
                faults.push(Fault::OtherKey);
            } else if let Some(anchor) = ledger
                && anchor.size == checkpoint.size
                && anchor.root != checkpoint.root
                // One of a branch that was given up on purpose says nothing against a later branch.
                && anchor.branch >= checkpoint.branch
            {
                faults.push(Fault::Forked { size: anchor.size });
            }
        }
        faults
    }
}
