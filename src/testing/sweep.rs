//! A power cut at every operation of a workload.

use super::SimDisk;

/// Where the power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Counted operations that were done before the cut.
    pub after: u64,
    /// Number of the crash image at this cut, in the order of [`SimDisk::crashes`].
    pub image: usize,
    /// Whether the workload was through before the power went.
    pub finished: bool,
}

/// Runs `work` on a fresh disk from `prepare` with the power cut after 0, 1, 2, ... operations of
/// it, until one run is not cut; hands every crash image (the four extremes and `seeds` random
/// ones at each cut) and what `work` returned to `check`. Returns how many images were checked.
///
/// `prepare`'s own operations do not count and are not settled: call [`SimDisk::settle`] there.
///
/// # Panics
/// Where `check` does: that is how it reports.
pub fn for_every_cut<T>(
    seeds: u64,
    prepare: impl Fn() -> SimDisk,
    work: impl Fn(&SimDisk) -> T,
    mut check: impl FnMut(Cut, &T, SimDisk),
) -> u64 {
    let mut checked = 0;
    for after in 0_u64.. {
        let disk = prepare();
        disk.set_cut_after(disk.operations() + after);
        let outcome = work(&disk);
        let finished = !disk.was_cut();
        for (image, crashed) in disk.crashes(seeds).enumerate() {
            check(Cut { after, image, finished }, &outcome, crashed);
            checked += 1;
        }
        if finished {
            break;
        }
    }
    checked
}
