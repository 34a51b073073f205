//! Events in bins of time whose width grows with the range: a chart's worth of them, however long the log.

use std::collections::BTreeMap;

use palyra_ledger::Timestamp;
use palyra_ledger::event::KindClass;

/// Bins at most: a chart has no more room.
pub const BINS_MAX: u64 = 180;

/// Widths of bins in seconds; each divides the next, so that bins can be joined. Beyond the last they double.
const WIDTHS: [u64; 13] = [1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 86_400, 604_800, 2_419_200, 29_030_400];

/// Domains, in the order of their kind numbers.
pub const CLASSES: [&str; 5] = ["system", "vault", "identity", "auth", "unknown"];

const fn class_index(kind: u16) -> usize {
    match KindClass::of(kind) {
        KindClass::System => 0,
        KindClass::Vault => 1,
        KindClass::Identity => 2,
        KindClass::Auth => 3,
        KindClass::Unknown => 4,
    }
}

/// Counts of the domains.
pub type Counts = [u64; CLASSES.len()];

/// The bins.
#[derive(Debug)]
pub struct Bins {
    width: u64,
    filled: BTreeMap<u64, Counts>,
    /// The bin that was counted in last: most events share one.
    current: (u64, Counts),
}

impl Default for Bins {
    fn default() -> Self {
        Self { width: 1, filled: BTreeMap::new(), current: (0, Counts::default()) }
    }
}

impl Bins {
    /// Counts one event.
    pub fn add(&mut self, time: Timestamp, kind: u16) {
        let second = time.as_millis() / 1000;
        if second / self.width != self.current.0 {
            self.settle();
            // Settling may have made the bins wider.
            self.current.0 = second / self.width;
        }
        if let Some(count) = self.current.1.get_mut(class_index(kind)) {
            *count += 1;
        }
    }

    /// Puts the current bin among the others, and makes bins wider where there are too many.
    fn settle(&mut self) {
        let (index, counts) = std::mem::take(&mut self.current);
        if counts == Counts::default() {
            return;
        }
        join(self.filled.entry(index).or_default(), &counts);
        while self.range().is_some_and(|(first, last)| last - first >= BINS_MAX) {
            let wider = WIDTHS.iter().copied().find(|width| *width > self.width);
            let wider = wider.unwrap_or_else(|| self.width.saturating_mul(2));
            let times = wider / self.width;
            self.width = wider;
            for (index, counts) in std::mem::take(&mut self.filled) {
                join(self.filled.entry(index / times).or_default(), &counts);
            }
        }
    }

    fn range(&self) -> Option<(u64, u64)> {
        Some((*self.filled.first_key_value()?.0, *self.filled.last_key_value()?.0))
    }

    /// The width in seconds, and every bin that is not empty, with the second at which it begins.
    pub fn finish(&mut self) -> (u64, Vec<(u64, Counts)>) {
        self.settle();
        (self.width, self.filled.iter().map(|(index, counts)| (index * self.width, *counts)).collect())
    }
}

fn join(into: &mut Counts, from: &Counts) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(seconds: &[u64]) -> (u64, Vec<(u64, u64)>) {
        let mut bins = Bins::default();
        for second in seconds {
            bins.add(Timestamp::from_millis(second.saturating_mul(1000)), 32);
        }
        let (width, bins) = bins.finish();
        (width, bins.into_iter().map(|(at, counts)| (at, counts.iter().sum())).collect())
    }

    #[test]
    fn widths_divide_each_other_and_no_event_is_lost() {
        assert!(WIDTHS.windows(2).all(|two| two[1] % two[0] == 0));
        assert_eq!(bins(&[]), (1, vec![]));
        assert_eq!(bins(&[7, 7, 8]), (1, vec![(7, 2), (8, 1)]));
        let day: Vec<u64> = (0..86_400).collect();
        let (width, found) = bins(&day);
        assert_eq!(width, 900);
        assert!(found.iter().all(|(_, count)| *count == 900), "{found:?}");
        assert_eq!(found.len(), 96);
        // Times out of order and at the ends of the range: still few bins, and everything is counted.
        let (_, found) = bins(&[5, u64::MAX / 1000, 0, 1_700_000_000, 5]);
        assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), 5);
        assert!(found.len() as u64 <= BINS_MAX);
    }
}
