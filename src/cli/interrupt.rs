//! Ending a command that has something to clear away: a program that gives a value, or a file that is not whole.
//!
//! Such a program has a process group of its own, so that all of it can be ended. What a terminal sends to our
//! group does not reach it, and nobody would end it at its time once we are gone. A signal that would end us
//! therefore ends the program first.

use std::io::Error;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

use crate::deliver::is_ignored;

/// What stays registered until somebody else takes the signals over.
static HELD: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

/// Signals are kept back as long as this lives on.
pub struct Interrupts {
    stop: Arc<AtomicBool>,
    came: Arc<AtomicUsize>,
    /// Whether a signal does again what it does without us.
    usual: Arc<AtomicBool>,
}

impl Interrupts {
    /// Keeps signals back. Those that are ignored stay ignored.
    ///
    /// # Errors
    /// What the system says.
    pub fn hold() -> Result<Self, Error> {
        let held = Self { stop: Arc::default(), came: Arc::default(), usual: Arc::default() };
        let mut ids = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|number| !is_ignored(*number)) {
            let value = usize::try_from(number).unwrap_or_default();
            ids.push(flag::register_usize(number, Arc::clone(&held.came), value)?);
            ids.push(flag::register(number, Arc::clone(&held.stop))?);
            ids.push(flag::register_conditional_default(number, Arc::clone(&held.usual))?);
        }
        Ok(held)
    }

    /// Is set when a signal has come.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// From here on a signal does what it does without us; one that came meanwhile does so now.
    ///
    /// # Errors
    /// What the system says.
    pub fn end(self) -> Result<(), Error> {
        self.usual.store(true, Ordering::SeqCst);
        let number = i32::try_from(self.came.load(Ordering::SeqCst)).unwrap_or_default();
        if number == 0 { Ok(()) } else { low_level::emulate_default_handler(number) }
    }
}

/// Sees a signal while long work goes on that clears away what it has begun. A second one does what it does without
/// us: nobody waits for a disk that hangs.
#[derive(Debug)]
pub struct Watch {
    /// Whether a signal does what it does without us.
    usual: Arc<AtomicBool>,
}

impl Watch {
    /// Gets ready. Signals that are ignored stay ignored.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> Result<Self, Error> {
        let usual = Arc::new(AtomicBool::new(true));
        for number in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|number| !is_ignored(*number)) {
            flag::register_conditional_default(number, Arc::clone(&usual))?;
            flag::register(number, Arc::clone(&usual))?;
        }
        Ok(Self { usual })
    }

    /// Does work that asks now and then whether to go on.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.usual.store(false, Ordering::SeqCst);
        let done = work();
        self.usual.store(true, Ordering::SeqCst);
        done
    }

    /// Whether a signal came since the work began.
    #[must_use]
    pub fn came(&self) -> bool {
        self.usual.load(Ordering::SeqCst)
    }

    /// Whether the work goes on.
    pub fn go_on(&self) -> ControlFlow<()> {
        if self.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Somebody else has taken the signals over.
pub fn release() {
    for id in HELD.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        low_level::unregister(id);
    }
}
