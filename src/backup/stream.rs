//! Writing and reading a backup from its first byte to its last.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::base::limits::BACKUP_CHUNK;
use crate::crypto::{Hash, Hasher, Key, StreamOpener, StreamSealer, TAG_LEN, labels};

use super::format::TRAILER_LEN;
use super::record::RECORD_HEAD;
use super::{BackupError, Closing, Header, Record, Trailer};

const SEALED_CHUNK: usize = BACKUP_CHUNK + TAG_LEN;

/// Something that can be read at any place.
pub trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// A backup and what it is called.
pub struct BackupFile {
    /// The name, for messages.
    pub name: String,
    /// Its bytes.
    pub source: Box<dyn ReadSeek>,
}

impl std::fmt::Debug for BackupFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BackupFile {
    /// A file.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { name: path.display().to_string(), source: Box::new(File::open(path)?) })
    }

    /// Bytes in memory.
    #[must_use]
    pub fn memory(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), source: Box::new(std::io::Cursor::new(bytes)) }
    }

    /// The clear parts, with nothing read in between.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn facts(&mut self) -> Result<(Header, Trailer, u64), BackupError> {
        let len = self.source.seek(SeekFrom::End(0))?;
        self.source.rewind()?;
        let (header, _) = Header::read(&mut self.source)?;
        let trailer = trailer(&mut *self.source, len)?;
        Ok((header, trailer, len))
    }
}

fn trailer(source: &mut dyn ReadSeek, len: u64) -> Result<Trailer, BackupError> {
    let at = len.checked_sub(TRAILER_LEN as u64).ok_or(BackupError::Short)?;
    let mut bytes = [0; TRAILER_LEN];
    source.seek(SeekFrom::Start(at))?;
    source.read_exact(&mut bytes)?;
    Trailer::parse(&bytes)
}

/// Writes a backup.
pub struct BackupWriter<'a> {
    out: &'a mut dyn Write,
    sealer: StreamSealer,
    /// The header's check: every chunk is bound to it.
    aad: [u8; 32],
    digest: Hasher,
    chunk: Vec<u8>,
    written: u64,
}

impl std::fmt::Debug for BackupWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupWriter").field("written", &self.written).finish_non_exhaustive()
    }
}

fn aad_of(header: &[u8]) -> [u8; 32] {
    header.last_chunk().copied().unwrap_or_default()
}

impl<'a> BackupWriter<'a> {
    /// Writes the header; what follows is sealed under `key`.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn new(out: &'a mut dyn Write, header: &Header, key: &Key) -> Result<Self, BackupError> {
        let bytes = header.encode();
        let mut writer = Self {
            out,
            sealer: StreamSealer::new(key, &header.nonce),
            aad: aad_of(&bytes),
            digest: Hasher::new(labels::BACKUP_DIGEST),
            chunk: Vec::with_capacity(SEALED_CHUNK),
            written: 0,
        };
        writer.put(&bytes)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.out.write_all(bytes)?;
        self.digest.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn record(&mut self, record: &Record) -> Result<(), BackupError> {
        self.plain(&record.encode())
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // A full chunk waits until more comes: only then it is known not to be the last.
            if self.chunk.len() == BACKUP_CHUNK {
                let mut chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(SEALED_CHUNK));
                self.sealer.next(&self.aad, &mut chunk).map_err(|_| BackupError::Record("there are too many"))?;
                self.put(&chunk)?;
                chunk.clear();
                self.chunk = chunk;
            }
            let (now, later) = rest.split_at(rest.len().min(BACKUP_CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Writes the closing record and the trailer; gives the digest and the length.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn finish(mut self, closing: &Closing) -> Result<(Trailer, u64), BackupError> {
        self.record(&Record::Closing(Box::new(*closing)))?;
        self.seal(closing.to, closing.head)
    }

    /// Seals any text as the last of the stream, whatever it is; for fuzzing what stands behind the seal.
    ///
    /// # Errors
    /// As [`BackupWriter::finish`].
    #[doc(hidden)]
    pub fn finish_any(mut self, plain: &[u8], to: u64, head: Hash) -> Result<(Trailer, u64), BackupError> {
        self.plain(plain)?;
        self.seal(to, head)
    }

    fn seal(self, to: u64, head: Hash) -> Result<(Trailer, u64), BackupError> {
        let Self { out, sealer, aad, mut digest, mut chunk, mut written } = self;
        sealer.last(&aad, &mut chunk).map_err(|_| BackupError::Record("there are too many"))?;
        let mut trailer = Trailer { to, head, digest: Hash([0; 32]) };
        chunk.extend_from_slice(&trailer.covered());
        digest.update(&chunk);
        trailer.digest = digest.finish();
        chunk.extend_from_slice(&trailer.digest.0);
        out.write_all(&chunk)?;
        out.flush()?;
        written += chunk.len() as u64;
        Ok((trailer, written))
    }
}

/// Reads a backup: first without a key, then with one.
pub struct BackupReader<'a> {
    source: &'a mut dyn ReadSeek,
    /// What stands before the stream.
    pub header: Header,
    /// What stands behind it.
    pub trailer: Trailer,
    /// Length of the file in bytes.
    pub len: u64,
    aad: [u8; 32],
    digest: Hasher,
    /// Sealed bytes that are left to be read.
    left: u64,
    opener: Option<StreamOpener>,
    chunk: Vec<u8>,
    begin: usize,
    chunks: u64,
    stage: u8,
    closed: bool,
}

impl std::fmt::Debug for BackupReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupReader").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a> BackupReader<'a> {
    /// Reads the clear parts and stands before the stream.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn new(file: &'a mut BackupFile) -> Result<Self, BackupError> {
        let source: &'a mut dyn ReadSeek = &mut *file.source;
        let len = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        let mut front: &mut dyn ReadSeek = source;
        let (header, bytes) = Header::read(&mut front)?;
        let trailer = trailer(source, len)?;
        source.seek(SeekFrom::Start(bytes.len() as u64))?;
        let left = len.checked_sub((bytes.len() + TRAILER_LEN) as u64).ok_or(BackupError::Short)?;
        let mut digest = Hasher::new(labels::BACKUP_DIGEST);
        digest.update(&bytes);
        Ok(Self {
            source,
            header,
            trailer,
            len,
            aad: aad_of(&bytes),
            digest,
            left,
            opener: None,
            chunk: Vec::new(),
            begin: 0,
            chunks: 0,
            stage: 0,
            closed: false,
        })
    }

    /// Reads the file to its end and compares the digest: all that can be said without a key.
    ///
    /// # Errors
    /// [`BackupError::Digest`].
    pub fn check_digest(mut self, progress: &dyn Fn(u64)) -> Result<(), BackupError> {
        while self.left > 0 {
            let read = self.read_sealed()?;
            progress(read);
        }
        self.compare_digest()
    }

    fn compare_digest(&mut self) -> Result<(), BackupError> {
        self.digest.update(&self.trailer.covered());
        if self.digest.finish() == self.trailer.digest { Ok(()) } else { Err(BackupError::Digest) }
    }

    /// Sealed bytes that are left to be read.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Gives the key under which the stream was sealed.
    pub fn unlock(&mut self, key: &Key) {
        self.opener = Some(StreamOpener::new(key, &self.header.nonce));
    }

    /// Reads the next chunk as it stands; says how many bytes it has.
    fn read_sealed(&mut self) -> Result<u64, BackupError> {
        let want = usize::try_from(self.left).unwrap_or(SEALED_CHUNK).min(SEALED_CHUNK);
        self.chunk.resize(want, 0);
        self.begin = 0;
        self.source.read_exact(&mut self.chunk).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => BackupError::Short,
            _ => BackupError::Io(error),
        })?;
        self.digest.update(&self.chunk);
        self.left -= want as u64;
        Ok(want as u64)
    }

    fn next_chunk(&mut self) -> Result<(), BackupError> {
        let chunk = self.chunks;
        let sealed = BackupError::Sealed { chunk };
        if self.left == 0 {
            return Err(BackupError::Short);
        }
        self.read_sealed()?;
        self.chunks += 1;
        if self.left > 0 {
            let opener = self.opener.as_mut().ok_or(BackupError::Key)?;
            return opener.next(&self.aad, &mut self.chunk).map_err(|_| sealed);
        }
        let opener = self.opener.take().ok_or(BackupError::Key)?;
        opener.last(&self.aad, &mut self.chunk).map_err(|_| sealed)
    }

    fn plain(&mut self, len: usize) -> Result<Vec<u8>, BackupError> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let have = self.chunk.get(self.begin..).filter(|_| self.chunks > 0).unwrap_or_default();
            if have.is_empty() {
                self.next_chunk()?;
                continue;
            }
            let take = have.len().min(len - out.len());
            out.extend_from_slice(have.get(..take).unwrap_or_default());
            self.begin += take;
        }
        Ok(out)
    }

    /// The next record; nothing behind the closing one, once everything about the file fits.
    ///
    /// # Errors
    /// [`BackupError`] with what is wrong.
    pub fn next_record(&mut self) -> Result<Option<Record>, BackupError> {
        if self.closed {
            return Ok(None);
        }
        let head = self.plain(RECORD_HEAD)?;
        let head = head.first_chunk().ok_or(BackupError::Short)?;
        let (kind, len) = Record::payload_len(*head)?;
        if kind.stage() < self.stage || (kind.stage() == self.stage && kind.stage() == 2) {
            return Err(BackupError::Record("it comes too late"));
        }
        self.stage = kind.stage();
        let payload = self.plain(len)?;
        let record = Record::from_payload(kind, payload)?;
        if let Record::Closing(closing) = &record {
            self.closed = true;
            if self.left > 0 || self.begin < self.chunk.len() {
                return Err(BackupError::Record("something stands behind the last"));
            }
            self.compare_digest()?;
            if (closing.to, closing.head) != (self.trailer.to, self.trailer.head) {
                return Err(BackupError::Trailer);
            }
        }
        Ok(Some(record))
    }
}
