//! Chains: which of the found frames follow each other, and what is missing between them.

use crate::base::LedgerId;
use crate::log::frame;

use super::Found;

/// Frames that follow each other without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where they stand among the frames that were found.
    pub frames: Vec<usize>,
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
}

/// The frames of one ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Stretches without a gap, in order; they do not overlap.
    pub runs: Vec<Run>,
    /// Frames that claim a place which a longer stretch holds.
    pub conflicts: Vec<usize>,
    /// Ranges of numbers between 0 and the last frame that no stretch holds.
    pub gaps: Vec<(u64, u64)>,
    /// Events from the beginning of the ledger on whose place the chain proves, in whole batches.
    pub proven: u64,
}

/// Orders frames into chains. They must be in order of ledger, number and hash, without duplicates.
#[must_use]
pub fn chains(frames: &[Found]) -> Vec<Chain> {
    let mut all = Vec::new();
    let mut begin = 0;
    while let Some(first) = frames.get(begin) {
        let rest = frames.get(begin..).unwrap_or_default();
        let count = rest.iter().take_while(|found| found.ledger_id == first.ledger_id).count();
        all.push(one(frames, begin..begin + count));
        begin += count.max(1);
    }
    all
}

fn one(frames: &[Found], range: std::ops::Range<usize>) -> Chain {
    let ledger_id = frames.get(range.start).map_or(LedgerId::from_bytes([0; 16]), |found| found.ledger_id);
    let begin = range.start;
    let next = followers(frames.get(range.clone()).unwrap_or_default());
    let mut led = vec![false; next.len()];
    for one in next.iter().flatten() {
        if let Some(led) = led.get_mut(*one) {
            *led = true;
        }
    }
    // A stretch begins where no frame leads. The longer one is taken where several claim the same numbers.
    let mut runs: Vec<Run> = (0..next.len())
        .filter(|at| led.get(*at) == Some(&false))
        .map(|at| {
            let line = std::iter::successors(Some(at), |at| next.get(*at).copied().flatten());
            let line: Vec<usize> = line.map(|at| begin + at).collect();
            let seq = |at: Option<&usize>| at.and_then(|at| frames.get(*at)).map_or(0, |found| found.seq);
            Run { first: seq(line.first()), last: seq(line.last()), frames: line }
        })
        .collect();
    let genesis = frame::genesis(ledger_id);
    let is_root = |run: &Run| {
        run.frames.first().and_then(|at| frames.get(*at)).is_some_and(|found| found.seq == 0 && found.prev == genesis)
    };
    runs.sort_by_key(|run| (!is_root(run), std::cmp::Reverse(run.frames.len()), run.first));
    let mut kept: Vec<Run> = Vec::new();
    let mut conflicts = Vec::new();
    for run in runs {
        if kept.iter().all(|other| run.last < other.first || other.last < run.first) {
            kept.push(run);
        } else {
            conflicts.extend(run.frames);
        }
    }
    kept.sort_by_key(|run| run.first);
    conflicts.sort_unstable();
    let mut gaps = Vec::new();
    let mut expected = 0;
    for run in &kept {
        if run.first > expected {
            gaps.push((expected, run.first - 1));
        }
        expected = run.last.saturating_add(1);
    }
    let proven = kept.first().filter(|run| is_root(run)).map_or(0, |run| whole_batches(frames, run));
    Chain { ledger_id, runs: kept, conflicts, gaps, proven }
}

/// For every frame of one ledger the one that follows it; of several, the one whose line goes on longest.
fn followers(frames: &[Found]) -> Vec<Option<usize>> {
    let mut next: Vec<Option<usize>> = vec![None; frames.len()];
    let mut length: Vec<u64> = vec![0; frames.len()];
    // From the end: how long a line goes on is known before anything leads into it.
    for (at, found) in frames.iter().enumerate().rev() {
        let after = next.get(at).copied().flatten();
        let own = after.and_then(|after| length.get(after)).copied().unwrap_or(0) + 1;
        if let Some(length) = length.get_mut(at) {
            *length = own;
        }
        let Some(before) = leader(frames, at, found) else { continue };
        let rival = next.get(before).copied().flatten().and_then(|rival| length.get(rival));
        if rival.is_none_or(|rival| own >= *rival)
            && let Some(next) = next.get_mut(before)
        {
            *next = Some(at);
        }
    }
    next
}

/// Where the frame stands that another names as the one before it. They are in order of number and hash, so that it
/// mostly stands right before.
fn leader(frames: &[Found], at: usize, found: &Found) -> Option<usize> {
    let seq = found.seq.checked_sub(1)?;
    let is_it = |other: &Found| (other.seq, other.hash) == (seq, found.prev);
    let beside = at.checked_sub(1)?;
    if frames.get(beside).is_some_and(is_it) {
        return Some(beside);
    }
    frames.get(..at)?.binary_search_by(|other| (other.seq, other.hash).cmp(&(seq, found.prev))).ok()
}

fn whole_batches(frames: &[Found], run: &Run) -> u64 {
    let ends = |at: &usize| frames.get(*at).is_some_and(|found| found.batch.0 + 1 == found.batch.1);
    run.frames.iter().rposition(ends).map_or(0, |last| last as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Hash;
    use crate::inspect::carve::Extent;

    fn found(seq: u64, hash: u8, prev: Hash) -> Found {
        let extents = vec![Extent { source: 0, offset: 0, len: 0 }];
        let ledger_id = LedgerId::from_bytes([1; 16]);
        Found { ledger_id, seq, hash: Hash([hash; 32]), prev, batch: (0, 1), extents }
    }

    fn sorted(mut frames: Vec<Found>) -> Vec<Found> {
        frames.sort_by_key(|found| (found.ledger_id, found.seq, found.hash));
        frames
    }

    #[test]
    fn gaps_are_named_and_the_longer_of_two_lines_is_taken() {
        let root = frame::genesis(LedgerId::from_bytes([1; 16]));
        let frames = sorted(vec![
            found(0, 10, root),
            found(1, 11, Hash([10; 32])),
            // Two lines from event 1; the shorter one has the smaller hash.
            found(2, 12, Hash([11; 32])),
            found(2, 22, Hash([11; 32])),
            found(3, 23, Hash([22; 32])),
            // Nothing leads here, and it claims a place in the longer line.
            found(3, 33, Hash([99; 32])),
            found(7, 17, Hash([16; 32])),
            found(8, 18, Hash([17; 32])),
        ]);
        let chains = chains(&frames);
        let [chain] = chains.as_slice() else { panic!("{chains:?}") };
        let ranges: Vec<_> = chain.runs.iter().map(|run| (run.first, run.last)).collect();
        assert_eq!(ranges, [(0, 3), (7, 8)]);
        assert_eq!((chain.gaps.as_slice(), chain.proven), ([(4, 6)].as_slice(), 4));
        let conflicts: Vec<_> = chain.conflicts.iter().map(|at| frames[*at].hash.0[0]).collect();
        assert_eq!(conflicts, [12, 33]);
    }

    #[test]
    fn without_the_beginning_nothing_is_proven() {
        let frames = sorted(vec![found(0, 10, Hash([0; 32])), found(1, 11, Hash([10; 32]))]);
        assert_eq!(chains(&frames)[0].proven, 0);
    }
}
