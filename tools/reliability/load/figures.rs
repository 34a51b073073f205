//! What is measured: latencies by kind, memory and descriptors by the second, and how they are judged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seconds from which on a line through a figure says something.
const LINE_S: f64 = 240.0;
/// Failures after which no more are kept.
const FAULTS_MAX: usize = 20;

/// Latencies in microseconds by kind, and what went wrong.
#[derive(Debug, Default)]
pub struct Tally {
    lanes: Mutex<BTreeMap<&'static str, Vec<u32>>>,
    faults: Mutex<Vec<String>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// Something of a kind took so long.
    pub fn took(&self, kind: &'static str, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        lock(&self.lanes).entry(kind).or_default().push(micros);
    }

    /// Something went wrong.
    pub fn fault(&self, what: String) {
        let mut faults = lock(&self.faults);
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }

    /// How many of a kind there were.
    pub fn count(&self, kind: &str) -> usize {
        lock(&self.lanes).get(kind).map_or(0, Vec::len)
    }

    /// The times of a kind, sorted.
    pub fn sorted(&self, kind: &str) -> Vec<u32> {
        let mut all = lock(&self.lanes).get(kind).cloned().unwrap_or_default();
        all.sort_unstable();
        all
    }

    /// Every kind there was.
    pub fn kinds(&self) -> Vec<&'static str> {
        lock(&self.lanes).keys().copied().collect()
    }

    /// What went wrong; it is forgotten here.
    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.faults))
    }
}

/// Of sorted times, the one that so many thousandths do not exceed.
pub fn quantile(sorted: &[u32], thousandths: usize) -> u32 {
    let rank = (sorted.len() * thousandths).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Cells of a row: how many, then percentiles in milliseconds.
pub fn percentiles(sorted: &[u32]) -> Vec<String> {
    let at = |thousandths| format!("{:.2}", f64::from(quantile(sorted, thousandths)) / 1000.0);
    let mut cells = vec![sorted.len().to_string()];
    cells.extend([500, 900, 990, 999, 1000].map(at));
    cells
}

/// A process at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Seconds since the first one.
    pub at: f64,
    /// Memory that is resident, in KiB.
    pub rss_kib: u64,
    /// Open descriptors, where this user may count them.
    pub descriptors: Option<u64>,
    /// Threads.
    pub threads: u64,
}

/// Looks at a process.
pub fn sample(pid: u32, since: Instant) -> Option<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|all| all.count() as u64);
    let (rss_kib, threads) = (field("VmRSS:")?, field("Threads:")?);
    Some(Sample { at: since.elapsed().as_secs_f64(), rss_kib, descriptors, threads })
}

/// Looks at a process every second until `over`.
pub fn watch(pid: u32, over: &AtomicBool) -> Vec<Sample> {
    let since = Instant::now();
    let mut samples = Vec::new();
    let mut next = since;
    while !over.load(Ordering::Relaxed) {
        samples.extend(sample(pid, since));
        next += Duration::from_secs(1);
        while Instant::now() < next && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20).min(next.saturating_duration_since(Instant::now())));
        }
    }
    samples
}

/// How a figure went on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// Median of the first fifth.
    pub start: f64,
    /// Median of the fifth in the middle.
    pub middle: f64,
    /// Median of the last fifth.
    pub end: f64,
    /// Most.
    pub most: f64,
    /// What a straight line through it gains in an hour; none of a few minutes, which say nothing of hours.
    pub an_hour: Option<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The course of a figure, given as seconds and values; none where there are too few.
pub fn course(points: &[(f64, f64)]) -> Option<Course> {
    if points.len() < 5 {
        return None;
    }
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let fifth = values.len() / 5;
    let part = |from: usize| median(values.get(from..from + fifth).unwrap_or_default());
    let count = points.len() as f64;
    let (at, of) =
        points.iter().fold((0.0, 0.0), |(at, of), (second, value)| (at + second / count, of + value / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), (second, value)| {
        (above + (second - at) * (value - of), below + (second - at) * (second - at))
    });
    Some(Course {
        start: part(0),
        middle: part((values.len() - fifth) / 2),
        end: part(values.len() - fifth),
        most: values.iter().copied().fold(0.0, f64::max),
        an_hour: (points.last()?.0 >= LINE_S && below > 0.0).then(|| above / below * 3600.0),
    })
}

impl Course {
    /// Whether it grew by more than `bound` from the first fifth to the last.
    pub fn grew(&self, bound: f64) -> bool {
        self.end - self.start > bound
    }

    /// Cells of a row.
    pub fn cells(&self) -> Vec<String> {
        let mut cells = [self.start, self.middle, self.end, self.most].map(|value| format!("{value:.1}")).to_vec();
        cells.push(self.an_hour.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")));
        cells
    }
}

/// Memory in MiB, descriptors and threads of some samples.
pub fn courses(samples: &[Sample]) -> (Option<Course>, Option<Course>, Option<Course>) {
    let of = |value: &dyn Fn(&Sample) -> Option<f64>| {
        let points: Vec<_> = samples.iter().filter_map(|sample| Some((sample.at, value(sample)?))).collect();
        course(&points)
    };
    (
        of(&|sample| Some(sample.rss_kib as f64 / 1024.0)),
        of(&|sample| sample.descriptors.map(|count| count as f64)),
        of(&|sample| Some(sample.threads as f64)),
    )
}
