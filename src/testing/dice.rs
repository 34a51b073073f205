//! Repeatable randomness: for keys and nonces of a test, and for the choices of a crash.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::base::{Random, RandomError};

/// Random bytes that depend on a seed and on nothing else: the BLAKE3 output stream of the seed.
/// **Never** for anything but tests.
///
/// ```
/// use palyra_ledger::Random;
/// use palyra_ledger::testing::SeededRandom;
/// let (mut one, mut two) = ([0; 8], [0; 8]);
/// SeededRandom::new(7).fill(&mut one)?;
/// SeededRandom::new(7).fill(&mut two)?;
/// assert_eq!(one, two);
/// # Ok::<(), palyra_ledger::RandomError>(())
/// ```
pub struct SeededRandom {
    seed: u64,
    stream: Mutex<blake3::OutputReader>,
}

impl SeededRandom {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Not a derive_key context: those are all part of the format, this is part of no format.
        let stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        Self { seed, stream: Mutex::new(stream) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
        Ok(())
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeededRandom({})", self.seed)
    }
}

/// `SplitMix64`: fast, tiny, and good enough to pick what a power cut takes.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound - 1`, or 0 where the bound is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let drawn = self.next() >> 1;
        usize::try_from(drawn % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_bytes_repeat_for_a_seed_and_differ_between_seeds() {
        let draw = |seed: u64| {
            let random = SeededRandom::new(seed);
            let mut bytes = [0; 64];
            let (left, right) = bytes.split_at_mut(24);
            random.fill(left).unwrap();
            random.fill(right).unwrap();
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[..24], draw(1)[24..48]);
    }

    #[test]
    fn dice_stay_below_their_bound_and_reach_all_of_it() {
        let mut dice = Dice::new(3);
        let mut seen = [0_u32; 6];
        for _ in 0..600 {
            seen[dice.below(6)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        assert_eq!(dice.below(0), 0);
    }
}
