//! Competitors that take turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Fault;

/// One competitor: runs for about as long as it is told and says how many operations a second it made.
pub struct Lane<'a> {
    name: String,
    run: Box<dyn FnMut(Duration) -> Result<f64, Fault> + 'a>,
}

impl std::fmt::Debug for Lane<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Lane<'a> {
    /// A competitor under a name.
    pub fn new(name: impl Into<String>, run: impl FnMut(Duration) -> Result<f64, Fault> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// What a competitor reached in each round.
#[derive(Debug, Clone)]
pub struct Rates {
    /// The competitor.
    pub name: String,
    rounds: Vec<f64>,
}

impl Rates {
    /// The median.
    pub fn median(&self) -> f64 {
        median(self.rounds.clone())
    }

    /// The median over the rounds of this one's rate by another's in the same round.
    pub fn ratio(&self, other: &Self) -> f64 {
        median(self.rounds.iter().zip(&other.rounds).map(|(own, other)| own / other).collect())
    }

    /// The smallest and the largest ratio, as [`Rates::ratio`].
    pub fn ratio_range(&self, other: &Self) -> (f64, f64) {
        let ratios = self.rounds.iter().zip(&other.rounds).map(|(own, other)| own / other);
        ratios.fold((f64::INFINITY, 0.0), |(least, most), ratio| (ratio.min(least), ratio.max(most)))
    }
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let at = figures.len() / 2;
    let upper = figures.get(at).copied().unwrap_or(f64::NAN);
    if figures.len() % 2 == 1 {
        return upper;
    }
    at.checked_sub(1).and_then(|at| figures.get(at)).map_or(upper, |lower| f64::midpoint(*lower, upper))
}

/// Lets everybody run once a round, beginning with another one each time; the first round warms up
/// and does not count.
pub fn race(lanes: &mut [Lane<'_>], rounds: usize, slice: Duration) -> Result<Vec<Rates>, Fault> {
    let mut rates: Vec<_> = lanes.iter().map(|lane| Rates { name: lane.name.clone(), rounds: Vec::new() }).collect();
    for round in 0..=rounds {
        let count = lanes.len();
        for turn in 0..count {
            let at = (turn + round) % count;
            let (Some(lane), Some(rates)) = (lanes.get_mut(at), rates.get_mut(at)) else { continue };
            let rate = (lane.run)(if round == 0 { slice / 4 } else { slice })
                .map_err(|fault| format!("{}: {fault}", lane.name))?;
            if round > 0 {
                rates.rounds.push(rate);
            }
        }
    }
    Ok(rates)
}

/// Repeats an operation for a time; operations a second.
pub fn rate(slice: Duration, mut operation: impl FnMut() -> Result<(), Fault>) -> Result<f64, Fault> {
    let begin = Instant::now();
    let mut count = 0_u64;
    loop {
        operation()?;
        count += 1;
        let elapsed = begin.elapsed();
        if elapsed >= slice {
            return Ok(count as f64 / elapsed.as_secs_f64());
        }
    }
}

/// Repeats an operation on many threads for a time; operations a second of all together. The
/// operation is told which thread it runs on.
pub fn rate_of_many(
    slice: Duration,
    threads: u32,
    operation: impl Fn(u32) -> Result<(), Fault> + Sync,
) -> Result<f64, Fault> {
    let total = AtomicU64::new(0);
    let begin = Instant::now();
    let (operation, counted) = (&operation, &total);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Result<(), Fault> {
                    while begin.elapsed() < slice {
                        operation(thread)?;
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| handle.join().map_err(|_| "a writer panicked")?)
    })?;
    Ok(total.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}
