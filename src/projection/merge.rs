//! Several sorted sources as one: the newest entry of each key wins.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::base::{Change, Visit};

use super::cursor::Cursor;
use super::error::IndexError;
use super::run::Run;

/// Neighbouring runs that are merged at once: more make fewer rewrites, fewer make faster lookups.
const FAN_IN: usize = 6;

/// Which neighbouring runs (newest first, by size in bytes) are to be merged: at least [`FAN_IN`], none
/// of which is larger than all newer ones of them together.
pub(super) fn choose(sizes: &[u64]) -> Option<Range<usize>> {
    for start in 0..sizes.len() {
        let mut sum = 0;
        let mut end = start;
        for size in sizes.iter().skip(start) {
            // A little slack: runs of the same number of entries differ by some bytes.
            if end > start && *size > sum + sum / 4 {
                break;
            }
            sum += size;
            end += 1;
        }
        if end - start >= FAN_IN {
            return Some(start..end);
        }
    }
    None
}

/// One source: changes in memory, or a run.
enum Source {
    Memory(std::iter::Peekable<std::vec::IntoIter<Change>>),
    Run(Cursor),
}

impl Source {
    fn entry(&mut self) -> Option<(&[u8], Option<&[u8]>)> {
        match self {
            Self::Memory(changes) => changes.peek().map(|(key, value)| (&**key, value.as_deref())),
            Self::Run(cursor) => cursor.entry(),
        }
    }

    fn advance(&mut self) -> Result<(), IndexError> {
        match self {
            Self::Memory(changes) => {
                changes.next();
                Ok(())
            }
            Self::Run(cursor) => cursor.advance(),
        }
    }
}

/// Walks sources, newest first, as one; `take` gets each key once, with its newest value.
fn walk(
    mut sources: Vec<Source>,
    take: &mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<ControlFlow<()>, IndexError>,
) -> Result<(), IndexError> {
    let mut key = Vec::new();
    loop {
        let mut least: Option<usize> = None;
        for (at, source) in sources.iter_mut().enumerate() {
            let Some((found, _)) = source.entry() else { continue };
            if least.is_none() || found < key.as_slice() {
                least = Some(at);
                key.clear();
                key.extend_from_slice(found);
            }
        }
        let Some(least) = least else { return Ok(()) };
        if let Some((found, value)) = sources.get_mut(least).and_then(Source::entry)
            && take(found, value)?.is_break()
        {
            return Ok(());
        }
        // Older entries of the same key are passed over.
        for source in sources.iter_mut().skip(least) {
            if source.entry().is_some_and(|(found, _)| found == key.as_slice()) {
                source.advance()?;
            }
        }
    }
}

/// Feeds the entries of runs, newest first, to `add`; tombstones are left out where nothing older is.
pub(super) fn into(
    runs: &[Arc<Run>],
    oldest: bool,
    add: &mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let sources: Result<Vec<_>, _> = runs.iter().map(|run| Cursor::seek(run, &[]).map(Source::Run)).collect();
    walk(sources?, &mut |key, value| {
        if value.is_some() || !oldest {
            add(key, value)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Visits the live entries from `from` (inclusive) to `end` (exclusive, empty: none).
pub(super) fn scan(
    memory: Vec<Vec<Change>>,
    runs: &[Arc<Run>],
    (from, end): (&[u8], &[u8]),
    visit: &mut Visit<'_>,
) -> Result<(), IndexError> {
    let mut sources: Vec<Source> =
        memory.into_iter().map(|changes| Source::Memory(changes.into_iter().peekable())).collect();
    for run in runs {
        sources.push(Source::Run(Cursor::seek(run, from)?));
    }
    walk(sources, &mut |key, value| {
        if !end.is_empty() && key >= end {
            return Ok(ControlFlow::Break(()));
        }
        Ok(value.map_or(ControlFlow::Continue(()), |value| visit(key, value)))
    })
}
