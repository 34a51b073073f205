//! A file read through a sliding window, whose frames are hashed on every core before they are looked at.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::crypto::{Hash, Hasher};
use crate::log::frame::{Frame, FrameError, Header};
use crate::log::segment;
use crate::store::{MediumFile, StoreError};

const WINDOW: usize = 4 * 1024 * 1024;
/// Below this many bytes a second thread costs more than it saves.
const SHARED_MIN: usize = 256 * 1024;

/// A file read through a sliding window.
pub(super) struct Window {
    file: Box<dyn MediumFile>,
    buffer: Vec<u8>,
    begin: usize,
    /// Where `begin` lies in the file.
    offset: u64,
    loaded: u64,
    hasher: Hasher,
    /// Up to where the buffer went into the digest: it is fed in large pieces, which is what makes it fast.
    digested: usize,
    /// Where in the buffer the next frames lie whose hashes match, in order.
    whole: VecDeque<usize>,
    /// Up to where the buffer was looked through for frames.
    sought: usize,
}

impl Window {
    pub(super) fn new(file: Box<dyn MediumFile>) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            begin: 0,
            offset: 0,
            loaded: 0,
            hasher: segment::digest(),
            digested: 0,
            whole: VecDeque::new(),
            sought: 0,
        }
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.get(self.begin..).unwrap_or_default()
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) const fn loaded(&self) -> u64 {
        self.loaded
    }

    pub(super) fn file(&self) -> &dyn MediumFile {
        &*self.file
    }

    pub(super) fn fill(&mut self, needed: usize) -> Result<(), StoreError> {
        if self.rest().len() >= needed {
            return Ok(());
        }
        self.digest_passed();
        self.buffer.drain(..self.begin);
        self.digested = self.digested.saturating_sub(self.begin);
        self.begin = 0;
        self.sought = 0;
        self.whole.clear();
        let got = self.file.read_more(self.loaded, WINDOW.max(needed), &mut self.buffer)?;
        self.loaded += got as u64;
        Ok(())
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.rest().len());
        self.begin += bytes;
        self.offset += bytes as u64;
    }

    fn digest_passed(&mut self) {
        let passed = self.buffer.get(self.digested..self.begin).unwrap_or_default();
        self.hasher.update(passed);
        self.digested = self.digested.max(self.begin);
    }

    /// The digest of everything that was passed.
    pub(super) fn digest(&mut self) -> Hash {
        self.digest_passed();
        self.hasher.finish()
    }

    /// Hashes what is in the buffer where that was not done yet; before [`Window::frame`].
    pub(super) fn prepare(&mut self) {
        if self.begin >= self.sought {
            self.seek();
        }
        while self.whole.front().is_some_and(|at| *at < self.begin) {
            self.whole.pop_front();
        }
    }

    /// The frame that begins here.
    pub(super) fn frame(&self) -> Result<Frame<'_>, FrameError> {
        let checked = self.whole.front() == Some(&self.begin);
        if checked { Frame::parse_checked(self.rest()) } else { Frame::parse(self.rest()) }
    }

    /// Follows the headers through the buffer and hashes what they say are frames, on every core.
    fn seek(&mut self) {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut at = self.begin;
        while let Some(rest) = self.buffer.get(at..)
            && let Ok(header) = Header::parse(rest)
            && rest.len() >= header.frame_len()
        {
            found.push(at..at + header.frame_len());
            at += header.frame_len();
        }
        self.sought = at.max(self.begin + 1);
        // What lies before the last of them is passed before a trailer is met, whole or not: the digest goes with it.
        let (hasher, digested) = (&mut self.hasher, &mut self.digested);
        let passed = self.buffer.get(*digested..at).unwrap_or_default();
        self.whole = hash_all(&self.buffer, &found, at - self.begin, || {
            hasher.update(passed);
            *digested = (*digested).max(at);
        })
        .into();
    }
}

/// The beginnings of those ranges that are whole frames; `beside` is done meanwhile.
fn hash_all(buffer: &[u8], ranges: &[Range<usize>], bytes: usize, beside: impl FnOnce()) -> Vec<usize> {
    let whole = |ranges: &[Range<usize>]| -> Vec<usize> {
        let is_whole =
            |range: &&Range<usize>| buffer.get(range.start..range.end).is_some_and(|bytes| Frame::parse(bytes).is_ok());
        ranges.iter().filter(is_whole).map(|range| range.start).collect()
    };
    // How many cores there are is asked of the system, by reading files: not for each small window.
    let threads =
        if bytes < SHARED_MIN { 1 } else { std::thread::available_parallelism().map_or(1, usize::from).min(8) };
    if threads == 1 {
        beside();
        return whole(ranges);
    }
    let next = AtomicUsize::new(0);
    let shares: Vec<&[Range<usize>]> = ranges.chunks(ranges.len().div_ceil(threads * 8).max(1)).collect();
    let take = || -> Vec<(usize, Vec<usize>)> {
        std::iter::from_fn(|| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            shares.get(at).map(|ranges| (at, whole(ranges)))
        })
        .collect()
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        beside();
        let mut all = take();
        for other in others {
            // A thread that failed found nothing; its frames are hashed one by one then.
            all.extend(other.join().unwrap_or_default());
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().flat_map(|(_, starts)| starts).collect()
}
