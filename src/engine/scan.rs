//! Scanning the log: bodies are opened on every core, only where the header passes, and only what is wanted
//! comes back, in order.

use std::ops::ControlFlow;
use std::sync::mpsc;

use crate::base::Timestamp;
use crate::log::{Frame, Header, Journal, JournalError};

use super::error::Error;
use super::log_view::{Entry, LogView};

/// Events that one thread takes at a time.
const BLOCK: u64 = 2048;

/// What to look for, and where.
pub struct Scan<'a> {
    /// First event.
    pub from: u64,
    /// Last event.
    pub to: u64,
    /// Newest first.
    pub newest_first: bool,
    /// Whether an event's body is opened at all.
    pub header: &'a (dyn Fn(&Header) -> bool + Sync),
    /// Whether an event is wanted.
    pub wants: &'a (dyn Fn(&Entry) -> bool + Sync),
    /// Is told now and then how many events were looked at, and of how many.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

impl std::fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

/// What the threads need to know: what header and event must be, and whether the newest comes first.
type Sought<'a> = (&'a (dyn Fn(&Header) -> bool + Sync), &'a (dyn Fn(&Entry) -> bool + Sync), bool);

impl Scan<'static> {
    /// Every event.
    #[must_use]
    pub const fn all() -> Self {
        Self { from: 0, to: u64::MAX, newest_first: false, header: &|_| true, wants: &|_| true, progress: None }
    }
}

/// The time of an event.
pub(super) fn time_of(journal: &Journal, seq: u64) -> Result<Timestamp, Error> {
    let mut buffer = Vec::new();
    journal.read(seq, &mut buffer)?;
    let frame = Frame::parse(&buffer).map_err(|_| JournalError::Missing { seq })?;
    Ok(frame.header.time)
}

/// The first event at or after a time; one behind the last where there is none. Times never run backwards,
/// so this is a binary search.
pub(super) fn first_at(journal: &Journal, time: Timestamp) -> Result<u64, Error> {
    let (mut low, mut high) = (0, journal.last().map_or(0, |last| last.seq + 1));
    while low < high {
        let middle = low + (high - low) / 2;
        if time_of(journal, middle)? < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

impl LogView {
    /// The first event at or after a time; one behind the last where there is none.
    ///
    /// # Errors
    /// [`Error::Journal`] where the log does not read.
    pub fn first_at(&self, time: Timestamp) -> Result<u64, Error> {
        first_at(&self.core.journal, time)
    }

    /// Visits the events that are wanted, in order.
    ///
    /// # Errors
    /// As [`LogView::read`]; where the visitor stops first, damage behind that may go unseen.
    pub fn scan(&self, scan: &Scan<'_>, visit: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), Error> {
        let Some(last) = self.core.journal.last() else { return Ok(()) };
        let to = scan.to.min(last.seq);
        if scan.from > to {
            return Ok(());
        }
        let events = to - scan.from + 1;
        let blocks = events.div_ceil(BLOCK);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let threads = cores.min(blocks);
        let (first, sought) = (scan.from, (scan.header, scan.wants, scan.newest_first));
        std::thread::scope(|scope| {
            let mut lanes = Vec::new();
            for lane in 0..threads {
                let (send, receive) = mpsc::sync_channel::<Result<Vec<Entry>, Error>>(4);
                lanes.push(receive);
                scope.spawn(move || {
                    let mut turn = lane;
                    while turn < blocks {
                        let block = if sought.2 { blocks - 1 - turn } else { turn };
                        let from = first + block * BLOCK;
                        let found = self.block(sought, from, to.min(from + BLOCK - 1));
                        let failed = found.is_err();
                        // The receiver is gone where the visitor has seen enough.
                        if send.send(found).is_err() || failed {
                            return;
                        }
                        turn += threads;
                    }
                });
            }
            for turn in 0..blocks {
                let lane = lanes.get(usize::try_from(turn % threads).unwrap_or_default());
                // A lane ends early only after an error, which came before.
                let Some(Ok(found)) = lane.map(mpsc::Receiver::recv) else { return Ok(()) };
                for entry in found? {
                    if visit(entry).is_break() {
                        return Ok(());
                    }
                }
                if let Some(tell) = scan.progress {
                    tell(((turn + 1) * BLOCK).min(events), events);
                }
            }
            Ok(())
        })
    }

    fn block(&self, (header, wants, newest_first): Sought<'_>, from: u64, to: u64) -> Result<Vec<Entry>, Error> {
        let unlocked = self.core.unlocked();
        let (mut found, mut failed) = (Vec::new(), None);
        self.core.journal.read_range(from, to, &mut |frame| {
            if !header(&frame.header) {
                return ControlFlow::Continue(());
            }
            match Entry::open(frame, &unlocked) {
                Ok(entry) => {
                    if wants(&entry) {
                        found.push(entry);
                    }
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if newest_first {
            found.reverse();
        }
        failed.map_or(Ok(found), Err)
    }
}
