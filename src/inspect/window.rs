//! A file read through a sliding window, whose frames are hashed on every core before they are looked at.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::crypto::{Hash, Hasher};
use crate::log::frame::{Frame, FrameError, Header};
use crate::log::segment;
use crate::store::{MediumFile, StoreError};

/// Small enough to stay in a core's cache from reading to hashing.
const WINDOW: usize = 1024 * 1024;
/// Below this many bytes a second thread costs more than it saves.
const SHARED_MIN: usize = 256 * 1024;

/// A file read through a sliding window. While one window is looked at, the next is read and hashed.
pub(super) struct Window {
    file: Arc<dyn MediumFile>,
    buffer: Vec<u8>,
    begin: usize,
    /// Where `begin` lies in the file.
    offset: u64,
    loaded: u64,
    /// Whether the last read gave all that it was asked for: more may follow.
    more: bool,
    sought: Sought,
    ahead: Option<Ahead>,
    /// A buffer to be used again: new memory costs more than reading into it.
    spare: Vec<u8>,
}

/// What is known of a buffer before it is looked at.
struct Sought {
    hasher: Hasher,
    /// Up to where the buffer went into the digest: it is fed in large pieces, which is what makes it fast.
    digested: usize,
    /// Where in the buffer the next frames lie whose hashes match, in order.
    whole: VecDeque<usize>,
    /// Up to where the buffer was looked through for frames.
    through: usize,
    /// Where the frame begins that the buffer ends within.
    tail: usize,
}

/// The next window, on its way.
struct Ahead {
    /// Where its buffer begins in the file, and where what was read for it does.
    place: (u64, u64),
    thread: JoinHandle<Result<Loaded, StoreError>>,
}

struct Loaded {
    buffer: Vec<u8>,
    got: usize,
    sought: Sought,
}

impl Window {
    pub(super) fn new(file: Box<dyn MediumFile>) -> Self {
        Self {
            file: file.into(),
            buffer: Vec::new(),
            begin: 0,
            offset: 0,
            loaded: 0,
            more: true,
            sought: Sought::new(segment::digest()),
            ahead: None,
            spare: Vec::new(),
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
        if let Some(loaded) = self.take_ahead() {
            self.spare = std::mem::replace(&mut self.buffer, loaded.buffer);
            self.sought = loaded.sought;
            self.begin = 0;
            self.loaded += loaded.got as u64;
            self.more = loaded.got == WINDOW;
            self.look_ahead();
            if self.rest().len() >= needed || !self.more {
                return Ok(());
            }
        }
        self.digest_passed();
        self.buffer.drain(..self.begin);
        self.sought.digested = self.sought.digested.saturating_sub(self.begin);
        self.begin = 0;
        self.sought.through = 0;
        self.sought.whole.clear();
        let asked = WINDOW.max(needed);
        let got = self.file.read_more(self.loaded, asked, &mut self.buffer)?;
        self.loaded += got as u64;
        self.more = got == asked;
        Ok(())
    }

    /// The next window, if it was read from where this one ends. One that could not be read is read again by whoever
    /// wants it, and fails there.
    fn take_ahead(&mut self) -> Option<Loaded> {
        let ahead = self.ahead.take()?;
        let loaded = ahead.thread.join();
        if ahead.place == (self.offset, self.loaded) { loaded.ok()?.ok() } else { None }
    }

    /// Begins to read and hash the next window, where there is more.
    fn look_ahead(&mut self) {
        let Some(tail) = self.buffer.get(self.sought.tail..) else { return };
        if !self.more || self.ahead.is_some() || self.sought.tail == 0 || tail.len() >= WINDOW {
            return;
        }
        let (file, mut buffer, at) = (Arc::clone(&self.file), std::mem::take(&mut self.spare), self.loaded);
        buffer.clear();
        buffer.extend_from_slice(tail);
        let mut sought = Sought::new(self.sought.hasher.clone());
        let place = (at - tail.len() as u64, at);
        let work = move || {
            let got = file.read_more(at, WINDOW, &mut buffer)?;
            sought.seek(&buffer, 0);
            Ok(Loaded { buffer, got, sought })
        };
        // Without another thread it is read when it is wanted.
        let thread = std::thread::Builder::new().name("read-ahead".to_owned()).spawn(work);
        self.ahead = thread.ok().map(|thread| Ahead { place, thread });
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.rest().len());
        self.begin += bytes;
        self.offset += bytes as u64;
    }

    fn digest_passed(&mut self) {
        let passed = self.buffer.get(self.sought.digested..self.begin).unwrap_or_default();
        self.sought.hasher.update(passed);
        self.sought.digested = self.sought.digested.max(self.begin);
    }

    /// The digest of everything that was passed.
    pub(super) fn digest(&mut self) -> Hash {
        self.digest_passed();
        self.sought.hasher.finish()
    }

    /// Whether a frame begins here that is known to be whole.
    pub(super) fn is_known(&self) -> bool {
        self.sought.whole.front() == Some(&self.begin)
    }

    /// Hashes what is in the buffer where that was not done yet; before [`Window::frame`].
    pub(super) fn prepare(&mut self) {
        if self.begin >= self.sought.through {
            self.sought.seek(&self.buffer, self.begin);
            self.look_ahead();
        }
        while self.sought.whole.front().is_some_and(|at| *at < self.begin) {
            self.sought.whole.pop_front();
        }
    }

    /// The frame that begins here.
    pub(super) fn frame(&self) -> Result<Frame<'_>, FrameError> {
        if self.is_known() { Frame::parse_checked(self.rest()) } else { Frame::parse(self.rest()) }
    }
}

impl Sought {
    const fn new(hasher: Hasher) -> Self {
        Self { hasher, digested: 0, whole: VecDeque::new(), through: 0, tail: 0 }
    }

    /// Follows the headers through a buffer and hashes what they say are frames, on every core.
    fn seek(&mut self, buffer: &[u8], begin: usize) {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut at = begin;
        while let Some(rest) = buffer.get(at..)
            && let Ok(header) = Header::parse(rest)
            && rest.len() >= header.frame_len()
        {
            found.push(at..at + header.frame_len());
            at += header.frame_len();
        }
        self.through = at.max(begin + 1);
        self.tail = at;
        // What lies before the last of them is passed before a trailer is met, whole or not: the digest goes with it.
        let (hasher, digested) = (&mut self.hasher, &mut self.digested);
        let passed = buffer.get(*digested..at).unwrap_or_default();
        self.whole = hash_all(buffer, &found, at - begin, || {
            hasher.update(passed);
            *digested = (*digested).max(at);
        })
        .into();
    }
}

/// The beginnings of those ranges that are whole frames; `beside` is done meanwhile.
fn hash_all(buffer: &[u8], ranges: &[Range<usize>], bytes: usize, beside: impl FnOnce()) -> Vec<usize> {
    let whole = |ranges: &[Range<usize>]| -> Vec<usize> {
        let is_whole = |range: &&Range<usize>| buffer.get(range.start..range.end).is_some_and(Frame::hash_matches);
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
