//! How far long work is, where the error output is a terminal of this process.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::invocation::Invocation;
use super::seat::Seat;

/// Runs long work that tells how far it is; the bar is gone when it ends.
pub fn bar<T>(invocation: &Invocation, what: &'static str, work: impl FnOnce(&dyn Fn(u64, u64)) -> T) -> T {
    let own = matches!(invocation.seat, Seat::Own) && !invocation.out.is_json();
    let progress = if own { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}") {
        progress.set_style(style);
    }
    progress.set_message(what);
    if own {
        progress.enable_steady_tick(Duration::from_millis(200));
    }
    let done = work(&|done, of| {
        progress.set_length(of);
        progress.set_position(done);
    });
    progress.finish_and_clear();
    done
}

/// Shows that work goes on, where the error output is a terminal. Not while a passphrase is asked for.
pub fn spinning<T>(invocation: &Invocation, what: &'static str, work: impl FnOnce() -> T) -> T {
    let progress = ProgressBar::new_spinner().with_message(what);
    if !invocation.out.is_json() {
        progress.enable_steady_tick(Duration::from_millis(120));
    }
    let done = work();
    progress.finish_and_clear();
    done
}
