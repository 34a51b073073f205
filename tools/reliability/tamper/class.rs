//! What a class of alterations is, and one of its cases.

use std::path::Path;

use super::corpus::Corpus;
use super::files::Files;
use super::judge::{Seen, Spot};
use crate::workload::Dice;

pub const N: Seen = Seen::Nothing;
pub const T: Seen = Seen::Told;
pub const W: Seen = Seen::Wrong;

/// A class of alterations.
pub struct Class {
    /// In words.
    pub name: &'static str,
    /// What each level must show of it at the least.
    pub needs: [Seen; 3],
    /// Makes a case; nothing where the ledger has no place for it.
    pub make: fn(&Corpus, &mut Dice) -> Option<Case>,
}

/// One alteration.
pub struct Case {
    /// The files as they are afterwards.
    pub files: Files,
    /// The note that is shown as an anchor, where it is not that of the whole ledger.
    pub anchor: Option<Vec<u8>>,
    /// At each level, the places that must be named by a level that must show it.
    pub spots: [Vec<Spot>; 3],
}

impl Case {
    /// An alteration of these places, whoever looks.
    pub fn new(files: Files, spots: Vec<Spot>) -> Self {
        Self { files, anchor: None, spots: [spots.clone(), spots.clone(), spots] }
    }

    /// One that is compared with another anchor.
    pub fn anchored(self, note: &[u8]) -> Self {
        Self { anchor: Some(note.to_vec()), ..self }
    }

    /// With the public key and an anchor another place is named.
    pub fn public(mut self, spots: Vec<Spot>) -> Self {
        self.spots[1] = spots;
        self
    }

    /// With all keys another place is named.
    pub fn keys(mut self, spots: Vec<Spot>) -> Self {
        self.spots[2] = spots;
        self
    }
}

/// A place from 0 to `bound - 1`.
pub fn below(dice: &mut Dice, bound: usize) -> usize {
    usize::try_from(dice.below(bound as u64)).unwrap_or(0)
}

/// A place from `low` to `high - 1`, if there is one.
pub fn between(dice: &mut Dice, low: usize, high: usize) -> Option<usize> {
    (low < high).then(|| low + below(dice, high - low))
}

/// Flips one bit of the byte at a place.
pub fn flip(bytes: &mut [u8], at: usize, dice: &mut Dice) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

/// Random bytes.
pub fn random(dice: &mut Dice, len: usize) -> Vec<u8> {
    (0..len).map(|_| dice.number().to_le_bytes()[0]).collect()
}

/// The path of the ledger's own checkpoints.
pub fn notes() -> &'static Path {
    Path::new("checkpoints/notes")
}

/// The path of the head file.
pub fn head() -> &'static Path {
    Path::new("head")
}
