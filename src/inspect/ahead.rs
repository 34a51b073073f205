//! Windows of a file that other threads read and hash before they are asked for.
//!
//! One thread reads and follows the headers, another hashes the frames that they promise; whoever asks for a window
//! hashes what nobody took yet, so that no core is idle as long as there is work.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use crate::crypto::Hasher;
use crate::log::frame::{Frame, HEADER_LEN, Header};
use crate::store::MediumFile;

/// Bytes that are read at a time: few enough to stay in a core's cache from reading to hashing.
pub(super) const WINDOW: usize = if cfg!(test) { 8 * 1024 } else { 1024 * 1024 };
/// Windows that may wait until they are looked at.
const DEPTH: usize = 4;
/// Bytes of frames that are hashed in one go.
const SHARE: usize = WINDOW / 16;
/// More threads than this would wait for the one that reads.
const HASHING_MAX: usize = 7;

/// The cores there are. The system is asked once: it reads files to tell.
pub(super) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Whether what a buffer ends with may be the beginning of a frame.
pub(super) fn goes_on(tail: &[u8]) -> bool {
    tail.len() < HEADER_LEN || Header::parse(tail).is_ok()
}

/// Frames that headers promise, and which of them are whole.
pub(super) struct Promised {
    shares: Vec<Share>,
    next: AtomicUsize,
    /// Where the frame begins that the buffer ends within.
    pub(super) tail: usize,
}

#[derive(Default)]
struct Share {
    frames: Vec<Range<usize>>,
    /// The beginnings of those whose hashes match.
    whole: OnceLock<Vec<usize>>,
}

impl Promised {
    /// Follows the headers through a buffer.
    pub(super) fn follow(buffer: &[u8], begin: usize) -> Self {
        let mut shares = Vec::new();
        let mut share = Share::default();
        let (mut at, mut first) = (begin, begin);
        while let Some(rest) = buffer.get(at..)
            && let Ok(header) = Header::parse(rest)
            && rest.len() >= header.frame_len()
        {
            share.frames.push(at..at + header.frame_len());
            at += header.frame_len();
            if at - first >= SHARE {
                shares.push(std::mem::take(&mut share));
                first = at;
            }
        }
        shares.push(share);
        Self { shares, next: AtomicUsize::new(0), tail: at }
    }

    /// Hashes what no other thread hashes.
    fn work(&self, buffer: &[u8]) {
        while let Some(share) = self.shares.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            share.hash(buffer);
        }
    }

    /// The beginnings of the frames that are whole, in order.
    pub(super) fn whole(&self, buffer: &[u8]) -> VecDeque<usize> {
        self.work(buffer);
        self.shares.iter().flat_map(|share| share.hash(buffer)).copied().collect()
    }
}

impl Share {
    /// Where another thread is at it, its result is waited for.
    fn hash(&self, buffer: &[u8]) -> &[usize] {
        self.whole.get_or_init(|| {
            let is_whole = |range: &&Range<usize>| buffer.get(range.start..range.end).is_some_and(Frame::hash_matches);
            self.frames.iter().filter(is_whole).map(|range| range.start).collect()
        })
    }
}

/// A window that was read ahead.
pub(super) struct Loaded {
    pub(super) buffer: Arc<Vec<u8>>,
    pub(super) promised: Promised,
    /// Bytes that were read for it.
    pub(super) got: usize,
    /// Whether they are all that was asked for.
    pub(super) more: bool,
    /// The digest up to the tail.
    pub(super) hasher: Hasher,
}

/// Where reading ahead begins.
pub(super) struct Start {
    pub(super) file: Arc<dyn MediumFile>,
    /// Where the tail lies in the file.
    pub(super) offset: u64,
    /// What was read of the first frame.
    pub(super) tail: Vec<u8>,
    /// The digest up to the tail.
    pub(super) hasher: Hasher,
}

/// Windows that are read and hashed by threads of their own.
pub(super) struct Ahead {
    windows: Option<Receiver<Arc<Loaded>>>,
    spares: Sender<Vec<u8>>,
    threads: Vec<JoinHandle<()>>,
    /// Where the buffer of the next window begins in the file, and where what is read for it does.
    place: (u64, u64),
}

impl Ahead {
    /// Begins to read, with so many cores; nothing where no thread can be had.
    pub(super) fn begin(start: Start, cores: usize) -> Option<Self> {
        let place = (start.offset, start.offset + start.tail.len() as u64);
        let (send, windows) = mpsc::sync_channel(DEPTH);
        let (spares, used) = mpsc::channel();
        let (promise, promised) = mpsc::sync_channel(DEPTH);
        let mut ahead = Self { windows: Some(windows), spares, threads: Vec::new(), place };
        let named = || thread::Builder::new().name("read-ahead".to_owned());
        // Without a thread that reads, each window is read when it is wanted; without others, hashed then.
        ahead.threads.push(named().spawn(move || read(start, &send, &promise, &used)).ok()?);
        let promised = Arc::new(Mutex::new(promised));
        for _ in 1..cores.min(HASHING_MAX + 1) {
            let promised = Arc::clone(&promised);
            ahead.threads.extend(named().spawn(move || hash(&promised)));
        }
        Some(ahead)
    }

    /// The next window, if it is the one that begins at a place and goes on being read at another.
    pub(super) fn take(&mut self, place: (u64, u64)) -> Option<Arc<Loaded>> {
        if place != self.place {
            return None;
        }
        let loaded = self.windows.as_ref()?.recv().ok()?;
        let (offset, read) = place;
        self.place = (offset + loaded.promised.tail as u64, read + loaded.got as u64);
        Some(loaded)
    }

    /// A buffer to be used again: new memory costs more than reading into it.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        // Whoever would use it may be done.
        let _ = self.spares.send(buffer);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.windows = None;
        for thread in self.threads.drain(..) {
            // One that failed found nothing; what it would have found is looked for when it is wanted.
            let _ = thread.join();
        }
    }
}

/// Reads windows until something ends them: the file, what is no header, an error, or that nobody wants them. What
/// could not be read is read again by whoever wants it, and fails there.
fn read(
    start: Start,
    windows: &SyncSender<Arc<Loaded>>,
    promise: &SyncSender<Arc<Loaded>>,
    spares: &Receiver<Vec<u8>>,
) {
    let Start { file, offset, mut tail, mut hasher } = start;
    let mut at = offset + tail.len() as u64;
    loop {
        let mut buffer = spares.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(&tail);
        let missing = Header::parse(&tail).map_or(0, |header| header.frame_len().saturating_sub(tail.len()));
        let asked = WINDOW.max(missing);
        let Ok(got) = file.read_more(at, asked, &mut buffer) else { return };
        at += got as u64;
        let promised = Promised::follow(&buffer, 0);
        let passed = buffer.get(..promised.tail).unwrap_or_default();
        hasher.update(passed);
        tail = buffer.get(promised.tail..).unwrap_or_default().to_vec();
        let go_on = got == asked && promised.tail > 0 && goes_on(&tail);
        let (buffer, hasher) = (Arc::new(buffer), hasher.clone());
        let loaded = Arc::new(Loaded { buffer, promised, got, more: got == asked, hasher });
        // What those who hash have no room for, whoever wants the window hashes.
        let _ = promise.try_send(Arc::clone(&loaded));
        if windows.send(loaded).is_err() || !go_on {
            return;
        }
    }
}

/// Hashes what was read, as long as somebody wants it.
fn hash(promised: &Mutex<Receiver<Arc<Loaded>>>) {
    loop {
        let next = promised.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(loaded) = next else { return };
        if Arc::strong_count(&loaded) > 1 {
            loaded.promised.work(&loaded.buffer);
        }
    }
}
