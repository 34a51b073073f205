//! What a verdict means, in plain words: for somebody who has to act on it and did not write the program.

use palyra_ledger::inspect::{Reason, Verdict};
use serde::Serialize;

/// How a verdict is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Clean.
    Good,
    /// Whole, but with a reservation.
    Caution,
    /// Altered, cut or not what it should be.
    Bad,
    /// Nothing can be said.
    Unknown,
}

/// The words for one verdict.
pub struct Words {
    /// How it is to be taken.
    pub grade: Grade,
    /// What it means.
    pub means: &'static str,
    /// What to do now.
    pub next: &'static str,
}

/// The words for a verdict.
pub const fn of(verdict: &Verdict) -> Words {
    let (grade, means, next) = match verdict {
        Verdict::IntactAnchored => (
            Grade::Good,
            "Every event is whole and in its place, and a checkpoint that was kept elsewhere agrees. Nothing was altered, removed or cut off before that checkpoint.",
            "Keep the anchors and this report with the evidence.",
        ),
        Verdict::IntactUnanchored => (
            Grade::Caution,
            "Every event that is here is whole and in its place. Nothing kept elsewhere vouches for all of them: whoever could write these files could have made another log, or cut off its end, without leaving a trace in it.",
            "Look for a checkpoint of this ledger on another disk, in the keystore or on a paired device, and verify again with it.",
        ),
        Verdict::Truncated => (
            Grade::Bad,
            "The end of the log is missing: its own files say that it was longer.",
            "Take no copy of this one for the truth. Look for the missing events in copies, and with carve in the disk itself.",
        ),
        Verdict::Damaged(_) => (
            Grade::Bad,
            "Events or keys are damaged or were altered. The findings say where, to the byte.",
            "Change nothing on the medium. Compare with another copy, or recover with carve what is whole.",
        ),
        Verdict::Forked => (
            Grade::Bad,
            "There are two histories: something kept elsewhere holds another event in the same place. One of the two was made up, or a copy went on by itself.",
            "Find out which history the anchors and the devices saw, and who wrote the other.",
        ),
        Verdict::Foreign => (
            Grade::Bad,
            "Parts of this belong to another ledger.",
            "Find out where they come from: parts of two ledgers do not come together by accident.",
        ),
        Verdict::RolledBack => (
            Grade::Bad,
            "An older state was put back. It is whole in itself, but something kept elsewhere knows later events.",
            "Look for the events that came later in copies and backups, and for who restored the older state.",
        ),
        Verdict::Unverifiable(Reason::NoLog) => {
            (Grade::Unknown, "There is no log here.", "Look for events in the bytes with carve.")
        }
        Verdict::Unverifiable(Reason::Unreadable) => {
            (Grade::Unknown, "The files could not be read.", "Make an image of the medium, and examine that.")
        }
        Verdict::Unverifiable(Reason::NeedsKey) => {
            (Grade::Unknown, "Nothing can be said without a key.", "Examine again with the ledger's keys.")
        }
        Verdict::Unverifiable(Reason::UnknownVersion) => (
            Grade::Unknown,
            "The files were made by a version that this program does not know.",
            "Examine them with the version of the program that made them.",
        ),
    };
    Words { grade, means, next }
}

/// What a level of checking can say, and what it cannot.
pub fn level(level: &str) -> &'static str {
    match level {
        "keys" => {
            "Checked with the ledger's keys: every body was opened under the header it stands behind, which nobody without the keys can forge, and the keys themselves were compared with what the log says of them."
        }
        "public_key" => {
            "Checked without keys, against checkpoints or a public key kept elsewhere: what such checkpoints cover cannot have been altered. Bodies were not opened, so nothing is said about what the events hold."
        }
        _ => {
            "Checked without keys and without anchors: damage and accidents show. A log that was rewritten as a whole, with every hash made anew, does not. Bodies were not opened."
        }
    }
}
