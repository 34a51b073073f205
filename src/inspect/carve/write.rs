//! What was carved, as files: segments that every reader of a journal reads, and what has no place in them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

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

/// Bytes on their way into a file.
struct Piece {
    file: Arc<(PathBuf, File)>,
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    fn write(&self) -> Result<(), StoreError> {
        let (path, file) = &*self.file;
        let bytes = self.bytes.get(self.range.clone()).unwrap_or_default();
        (&mut &*file).write_all(bytes).map_err(|error| StoreError::new(StoreOp::Write, path, error))
    }
}

/// One segment under way.
struct Open {
    file: Arc<(PathBuf, File)>,
    digest: Hasher,
    header: SegmentHeader,
    bytes: u64,
}

/// Whoever writes is gone, and says why when it is asked.
struct Gone;

impl Open {
    fn begin(journal: &Path, found: &Found) -> Result<Self, StoreError> {
        let path = journal.join(segment::file_name(found.seq));
        let header = SegmentHeader { ledger_id: found.ledger_id, first_seq: found.seq, prev: found.prev };
        let file = create(&path)?;
        Ok(Self { file: Arc::new((path, file)), digest: segment::digest(), header, bytes: 0 })
    }

    fn put(&mut self, bytes: &Arc<Vec<u8>>, range: Range<usize>, writer: &SyncSender<Piece>) -> Result<(), Gone> {
        self.digest.update(bytes.get(range.clone()).unwrap_or_default());
        self.bytes += range.len() as u64;
        self.send(Arc::clone(bytes), range, writer)
    }

    fn send(&self, bytes: Arc<Vec<u8>>, range: Range<usize>, writer: &SyncSender<Piece>) -> Result<(), Gone> {
        writer.send(Piece { file: Arc::clone(&self.file), bytes, range }).map_err(|_| Gone)
    }

    fn put_header(&mut self, writer: &SyncSender<Piece>) -> Result<(), Gone> {
        let header = self.header.encode().to_vec();
        let len = header.len();
        self.put(&Arc::new(header), 0..len, writer)
    }

    fn close(
        self,
        last: &Found,
        trailer: bool,
        written: &mut Vec<Written>,
        writer: &SyncSender<Piece>,
    ) -> Result<(), Gone> {
        let name = segment::file_name(self.header.first_seq);
        written.push(Written { path: format!("journal/{name}"), first: self.header.first_seq, last: last.seq });
        if !trailer {
            return Ok(());
        }
        let trailer = SegmentTrailer {
            ledger_id: self.header.ledger_id,
            first_seq: self.header.first_seq,
            last_seq: last.seq,
            frames_len: self.bytes - SEGMENT_HEADER_LEN as u64,
            last_hash: last.hash,
            digest: self.digest.finish(),
        };
        let trailer = trailer.encode().to_vec();
        let len = trailer.len();
        self.send(Arc::new(trailer), 0..len, writer)
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
/// Batches that may wait for the next step.
const WAITING: usize = 4;

/// Why frames did not get into files.
enum Stopped {
    Failed(StoreError),
    Gone,
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<Gone> for Stopped {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Writes a stretch as closed segments; the very last one stays open, as in a journal. While some frames are read,
/// others are put into order, and others yet are written.
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
        let (send, batches) = mpsc::sync_channel(WAITING);
        scope.spawn(move || {
            let mut opened = None;
            // Nobody takes what follows an error.
            let _ =
                run.frames.chunks(BATCH).map(|chunk| read(chunk, &mut opened)).try_for_each(|batch| send.send(batch));
        });
        let (writer, pieces) = mpsc::sync_channel::<Piece>(WAITING);
        let writing = scope.spawn(move || pieces.into_iter().try_for_each(|piece| piece.write()));
        let ordered = in_order(journal, &batches, last, written, &writer);
        drop((writer, batches));
        let done = writing.join().unwrap_or_else(|_| {
            let error = std::io::Error::other("the thread that writes ended without a word");
            Err(StoreError::new(StoreOp::Write, journal, error))
        });
        match ordered {
            Err(Stopped::Failed(error)) => Err(error),
            Ok(()) | Err(Stopped::Gone) => done,
        }
    })
}

/// Divides what was read into segments.
fn in_order<'a>(
    journal: &Path,
    batches: &Receiver<Result<Batch<'a>, StoreError>>,
    last: bool,
    written: &mut Vec<Written>,
    writer: &SyncSender<Piece>,
) -> Result<(), Stopped> {
    let mut open: Option<Open> = None;
    let mut before: Option<&'a Found> = None;
    for batch in batches {
        let Batch { frames, bytes } = batch?;
        let bytes = Arc::new(bytes);
        // What is put from one place on goes at once: small pieces make hashing slow.
        let (mut from, mut through) = (0, 0);
        for (found, end) in frames {
            // A batch of events never lies in two segments.
            let waiting = (through - from) as u64;
            let full = |open: &Open| open.bytes + waiting >= SEGMENT_BYTES_DEFAULT && found.batch.0 == 0;
            if open.as_ref().is_some_and(full)
                && let (Some(mut done), Some(before)) = (open.take(), before)
            {
                done.put(&bytes, from..through, writer)?;
                from = through;
                done.close(before, true, written, writer)?;
            }
            if open.is_none() {
                let mut begun = Open::begin(journal, found)?;
                begun.put_header(writer)?;
                open = Some(begun);
            }
            (through, before) = (end, Some(found));
        }
        if let Some(open) = &mut open {
            open.put(&bytes, from..through, writer)?;
        }
    }
    match (open, before) {
        (Some(open), Some(before)) => Ok(open.close(before, !last, written, writer)?),
        _ => Ok(()),
    }
}
