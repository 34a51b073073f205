//! What was carved, as files: segments that every reader of a journal reads, and what has no place in them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde::Serialize;

use crate::base::limits::SEGMENT_BYTES_DEFAULT;
use crate::crypto::Hasher;
use crate::log::segment::{self, SEGMENT_HEADER_LEN, SegmentHeader, SegmentTrailer};
use crate::store::{StoreError, StoreOp};

use super::{Chain, Found, Opened, Run, Source, read_extents};

/// A file that was written, below the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Its path.
    pub path: String,
    /// Number of the first event in it.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
}

/// Writes one chain below a folder that it makes: `journal/` holds the stretches as segments, `conflicts/` each
/// frame that claims a place in one of them.
///
/// # Errors
/// [`StoreError`] where something stands there already, or writing or reading fails.
pub fn write(dir: &Path, chain: &Chain, frames: &[Found], sources: &[Source<'_>]) -> Result<Vec<Written>, StoreError> {
    let journal = dir.join("journal");
    for folder in [dir, &journal] {
        make_dir(folder)?;
    }
    let mut written = Vec::new();
    for (index, run) in chain.runs.iter().enumerate() {
        let last = index + 1 == chain.runs.len();
        segments(&journal, run, (frames, sources), last, &mut written)?;
    }
    if !chain.conflicts.is_empty() {
        let conflicts = dir.join("conflicts");
        make_dir(&conflicts)?;
        for found in chain.conflicts.iter().filter_map(|at| frames.get(*at)) {
            let name = format!("{:020}-{}.frame", found.seq, found.hash);
            let path = conflicts.join(&name);
            let bytes = found.bytes(sources)?;
            create(&path)?.write_all(&bytes).map_err(|error| StoreError::new(StoreOp::Write, &path, error))?;
            written.push(Written { path: format!("conflicts/{name}"), first: found.seq, last: found.seq });
        }
    }
    Ok(written)
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| StoreError::new(StoreOp::Folder, path, error))
}

fn create(path: &Path) -> Result<File, StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| StoreError::new(StoreOp::Open, path, error))
}

/// Bytes that go into a file and its digest at once: small pieces make hashing slow.
const WRITE_BYTES: usize = 1024 * 1024;

/// One segment under way.
struct Open {
    path: PathBuf,
    file: File,
    digest: Hasher,
    header: SegmentHeader,
    bytes: u64,
    pending: Vec<u8>,
}

impl Open {
    fn begin(journal: &Path, found: &Found) -> Result<Self, StoreError> {
        let path = journal.join(segment::file_name(found.seq));
        let header = SegmentHeader { ledger_id: found.ledger_id, first_seq: found.seq, prev: found.prev };
        let file = create(&path)?;
        let mut open = Self { path, file, digest: segment::digest(), header, bytes: 0, pending: Vec::new() };
        open.put(&header.encode())?;
        Ok(open)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.digest.update(&self.pending);
        self.write()
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let written = self.file.write_all(&self.pending);
        self.pending.clear();
        written.map_err(|error| StoreError::new(StoreOp::Write, &self.path, error))
    }

    fn close(mut self, last: &Found, trailer: bool, written: &mut Vec<Written>) -> Result<(), StoreError> {
        self.flush()?;
        if trailer {
            let trailer = SegmentTrailer {
                ledger_id: self.header.ledger_id,
                first_seq: self.header.first_seq,
                last_seq: last.seq,
                frames_len: self.bytes - SEGMENT_HEADER_LEN as u64,
                last_hash: last.hash,
                digest: self.digest.finish(),
            };
            self.pending.extend_from_slice(&trailer.encode());
            self.write()?;
        }
        let name = segment::file_name(self.header.first_seq);
        written.push(Written { path: format!("journal/{name}"), first: self.header.first_seq, last: last.seq });
        Ok(())
    }
}

/// Frames of a stretch on their way into segments.
#[derive(Default)]
struct Batch<'a> {
    /// Each frame, and where its bytes end.
    frames: Vec<(&'a Found, usize)>,
    bytes: Vec<u8>,
}

/// Frames in a batch.
const BATCH: usize = 512;

/// Writes a stretch as closed segments; the very last one stays open, as in a journal. While some frames are written,
/// the next are read.
fn segments(
    journal: &Path,
    run: &Run,
    (frames, sources): (&[Found], &[Source<'_>]),
    last: bool,
    written: &mut Vec<Written>,
) -> Result<(), StoreError> {
    let read = |numbers: &[usize], opened: &mut Option<Opened>| {
        let mut batch = Batch::default();
        for found in numbers.iter().filter_map(|at| frames.get(*at)) {
            read_extents(sources, &found.extents, opened, &mut batch.bytes)?;
            batch.frames.push((found, batch.bytes.len()));
        }
        Ok::<_, StoreError>(batch)
    };
    std::thread::scope(|scope| {
        let (send, batches) = mpsc::sync_channel(4);
        scope.spawn(move || {
            let mut opened = None;
            // Nobody takes what follows an error.
            let _ =
                run.frames.chunks(BATCH).map(|chunk| read(chunk, &mut opened)).try_for_each(|batch| send.send(batch));
        });
        let mut open: Option<Open> = None;
        let mut before: Option<&Found> = None;
        for batch in batches {
            let batch = batch?;
            let mut begin = 0;
            for (found, end) in batch.frames {
                // A batch of events never lies in two segments.
                let full = |open: &Open| open.bytes >= SEGMENT_BYTES_DEFAULT && found.batch.0 == 0;
                if open.as_ref().is_some_and(full)
                    && let (Some(done), Some(before)) = (open.take(), before)
                {
                    done.close(before, true, written)?;
                }
                let mut segment = open.take().map_or_else(|| Open::begin(journal, found), Ok)?;
                segment.put(batch.bytes.get(begin..end).unwrap_or_default())?;
                open = Some(segment);
                (begin, before) = (end, Some(found));
            }
        }
        match (open, before) {
            (Some(open), Some(before)) => open.close(before, !last, written),
            _ => Ok(()),
        }
    })
}
