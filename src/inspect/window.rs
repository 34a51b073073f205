//! A file read through a sliding window, whose frames are hashed on every core before they are looked at.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::crypto::{Hash, Hasher};
use crate::log::frame::{Frame, FrameError};
use crate::log::segment;
use crate::store::{MediumFile, StoreError};

use super::ahead::{Ahead, Promised, Start, WINDOW, cores, goes_on};

/// A file read through a sliding window. While one window is looked at, the next ones are read and hashed.
pub(super) struct Window {
    file: Arc<dyn MediumFile>,
    buffer: Arc<Vec<u8>>,
    begin: usize,
    /// Where `begin` lies in the file.
    offset: u64,
    loaded: u64,
    /// Whether the last read gave all that it was asked for: more may follow.
    more: bool,
    hasher: Hasher,
    /// Up to where the buffer went into the digest: it is fed in large pieces, which is what makes it fast.
    digested: usize,
    /// Where in the buffer the next frames lie whose hashes match, in order.
    whole: VecDeque<usize>,
    /// Up to where the buffer was looked through for frames.
    through: usize,
    ahead: Option<Ahead>,
    /// With one alone nothing is gained by reading ahead.
    cores: usize,
    /// Whether the windows read ahead were not those that were wanted: behind damage one is read as before.
    astray: bool,
}

impl Window {
    pub(super) fn new(file: Box<dyn MediumFile>) -> Self {
        Self::with_cores(file, cores())
    }

    fn with_cores(file: Box<dyn MediumFile>, cores: usize) -> Self {
        Self {
            file: file.into(),
            buffer: Arc::default(),
            begin: 0,
            offset: 0,
            loaded: 0,
            more: true,
            hasher: segment::digest(),
            digested: 0,
            whole: VecDeque::new(),
            through: 0,
            ahead: None,
            cores,
            astray: false,
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
        if self.rest().len() >= needed || self.take_ahead(needed) {
            return Ok(());
        }
        let asked = WINDOW.max(needed);
        let mut buffer = Vec::with_capacity(self.rest().len() + asked);
        buffer.extend_from_slice(self.rest());
        let got = self.file.read_more(self.loaded, asked, &mut buffer)?;
        self.digest_passed();
        self.digested -= self.begin;
        self.begin = 0;
        self.through = 0;
        self.whole.clear();
        self.buffer = Arc::new(buffer);
        self.loaded += got as u64;
        self.more = got == asked;
        Ok(())
    }

    /// Goes on to the window that was read ahead, if it is the one that is wanted; whether that is enough.
    fn take_ahead(&mut self, needed: usize) -> bool {
        let Some(ahead) = &mut self.ahead else { return false };
        let Some(loaded) = ahead.take((self.offset, self.loaded)) else {
            self.astray = true;
            self.ahead = None;
            return false;
        };
        let passed = std::mem::replace(&mut self.buffer, Arc::clone(&loaded.buffer));
        if let Ok(spare) = Arc::try_unwrap(passed) {
            ahead.give_back(spare);
        }
        self.whole = loaded.promised.whole(&loaded.buffer);
        self.through = loaded.promised.tail.max(1);
        self.digested = loaded.promised.tail;
        self.hasher = loaded.hasher.clone();
        self.begin = 0;
        self.loaded += loaded.got as u64;
        self.more = loaded.more;
        self.rest().len() >= needed || !self.more
    }

    /// Begins to read and hash what follows the buffer, where there is more.
    fn look_ahead(&mut self, tail: usize) {
        let bytes = self.buffer.get(tail..).unwrap_or_default();
        // The digest must end where the tail begins: behind damage it may be further.
        let fits = tail > 0 && self.digested == tail && goes_on(bytes);
        if self.cores == 1 || !self.more || !fits || self.ahead.is_some() || std::mem::take(&mut self.astray) {
            return;
        }
        let start = Start {
            file: Arc::clone(&self.file),
            offset: self.loaded - bytes.len() as u64,
            tail: bytes.to_vec(),
            hasher: self.hasher.clone(),
        };
        self.ahead = Ahead::begin(start, self.cores);
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

    /// Whether a frame begins here that is known to be whole.
    pub(super) fn is_known(&self) -> bool {
        self.whole.front() == Some(&self.begin)
    }

    /// Hashes what is in the buffer where that was not done yet; before [`Window::frame`].
    pub(super) fn prepare(&mut self) {
        if self.begin >= self.through {
            self.seek();
        }
        while self.whole.front().is_some_and(|at| *at < self.begin) {
            self.whole.pop_front();
        }
    }

    fn seek(&mut self) {
        let buffer = Arc::clone(&self.buffer);
        let promised = Promised::follow(&buffer, self.begin);
        self.through = promised.tail.max(self.begin + 1);
        // What lies before the last of them is passed before a trailer is met, whole or not: the digest goes with it.
        self.hasher.update(buffer.get(self.digested..promised.tail).unwrap_or_default());
        self.digested = self.digested.max(promised.tail);
        self.look_ahead(promised.tail);
        self.whole = promised.whole(&buffer);
    }

    /// The frame that begins here.
    pub(super) fn frame(&self) -> Result<Frame<'_>, FrameError> {
        if self.is_known() { Frame::parse_checked(self.rest()) } else { Frame::parse(self.rest()) }
    }
}

#[cfg(test)]
mod tests;
