//! The way of an output through a mask: a pipe, or a terminal of its own where ours goes to one.
//!
//! The second terminal is for output alone. The program keeps our terminal as its controlling one, and as its
//! input, so that keys, job control and sizes work without us; it finds a terminal behind its output and goes
//! on using colours. Bytes pass it unprocessed: what a line end becomes is the real terminal's affair.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use zeroize::Zeroizing;

use crate::base::limits;

use super::forms::Forms;
use super::mask::Masker;
use super::mount::ready;

/// One output on its way through a mask.
#[derive(Debug)]
pub(super) struct Masked {
    /// Where the program writes.
    pub(super) inlet: OwnedFd,
    /// Where we read.
    outlet: File,
    /// Where it goes.
    target: File,
}

/// A terminal whose size follows another's.
#[derive(Debug)]
pub(super) struct Sized {
    inner: OwnedFd,
    outer: OwnedFd,
}

impl Sized {
    /// Takes the outer terminal's size over.
    pub(super) fn follow(&self) {
        if let Ok(size) = tcgetwinsize(&self.outer) {
            let _ = tcsetwinsize(&self.inner, size);
        }
    }
}

impl Masked {
    /// A way to the target, and, where the target is a terminal, what keeps the size.
    pub(super) fn new(target: impl AsFd) -> std::io::Result<(Self, Option<Sized>)> {
        let target = target.as_fd().try_clone_to_owned()?;
        if !isatty(&target) {
            let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC)?;
            return Ok((Self { inlet, outlet: outlet.into(), target: target.into() }, None));
        }
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outlet = openpt(flags)?;
        grantpt(&outlet)?;
        unlockpt(&outlet)?;
        let inlet = ioctl_tiocgptpeer(&outlet, flags)?;
        let mut modes = tcgetattr(&target)?;
        modes.output_modes.remove(OutputModes::OPOST);
        tcsetattr(&inlet, OptionalActions::Now, &modes)?;
        let sized = Sized { inner: outlet.try_clone()?, outer: target.try_clone()? };
        sized.follow();
        Ok((Self { inlet, outlet: outlet.into(), target: target.into() }, Some(sized)))
    }

    /// Another descriptor for the program to write to.
    pub(super) fn inlet(&self) -> std::io::Result<OwnedFd> {
        self.inlet.try_clone()
    }

    /// Carries everything through the mask until the end, in a thread of its own. `ended` says that the program
    /// has ended: what others still hold open is then waited for no longer than it says something.
    pub(super) fn carry(
        self,
        forms: Arc<Forms>,
        ended: Arc<AtomicBool>,
        done: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let Self { inlet, outlet, target } = self;
        // The program has its own by now; ours would keep the end away.
        drop(inlet);
        let carry = move || {
            let _ = through(outlet, target, Masker::new(forms), &ended);
            done();
        };
        std::thread::Builder::new().name("mask".to_owned()).spawn(carry).map(drop)
    }
}

fn through(mut outlet: File, mut target: File, mut masker: Masker, ended: &AtomicBool) -> std::io::Result<()> {
    let mut chunk = Zeroizing::new(vec![0; limits::MASK_CHUNK]);
    // The marks may be longer than what they stand for; what is shown here is no secret.
    let mut shown = Vec::with_capacity(2 * limits::MASK_CHUNK);
    let mut quiet = 0;
    loop {
        shown.clear();
        if !ready(&outlet, PollFlags::IN, Duration::from_millis(limits::MASK_IDLE_MS))? {
            masker.idle(&mut shown);
            put(&mut target, &shown)?;
            quiet = if ended.load(Ordering::Relaxed) { quiet + limits::MASK_IDLE_MS } else { 0 };
            if quiet >= limits::MASK_DRAIN_MS {
                break;
            }
            continue;
        }
        quiet = 0;
        match outlet.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => masker.push(chunk.get(..read).unwrap_or_default(), &mut shown),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            // A terminal that nobody writes to any more.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => break,
            Err(error) => return Err(error),
        }
        put(&mut target, &shown)?;
    }
    shown.clear();
    masker.finish(&mut shown);
    put(&mut target, &shown)
}

/// Writes everything, however long it takes. Whoever shares our output may have set it not to block.
fn put(target: &mut File, mut rest: &[u8]) -> std::io::Result<()> {
    while !rest.is_empty() {
        match target.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ready(&*target, PollFlags::OUT, Duration::from_millis(limits::MOUNT_STALL_MS))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
