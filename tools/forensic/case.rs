//! One examination: the evidence, the stock taken of it before and after, and the way to its log.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use palyra_ledger::cli::exit::{ExitCode, Failure};
use palyra_ledger::cli::output::Output;
use palyra_ledger::inspect::what::{self, What};
use palyra_ledger::inspect::{Bracket, Change, Course, Digests, Evidence};
use palyra_ledger::log::segment::{self, SEGMENT_HEADER_LEN, SegmentHeader};
use palyra_ledger::store::{Medium, OpenMode, StoreError};

use crate::args::Global;

/// One examination.
pub struct Case {
    /// What is examined.
    pub evidence: Evidence,
    /// What it is.
    pub what: What,
    /// The stock taken at the beginning.
    pub bracket: Bracket,
    live: bool,
}

/// A failure of reading.
pub fn unreadable(error: &StoreError) -> Failure {
    if error.is_not_found() {
        return Failure::new(ExitCode::NotFound, error.to_string(), "name a folder or file that is there");
    }
    Failure::new(ExitCode::Io, error.to_string(), "make a copy of what can be read, and look at that")
}

impl Case {
    /// Takes stock of the evidence at a path.
    pub fn open(path: &Path, global: &Global) -> Result<Self, Failure> {
        Self::begin(path, global, Digests::Blake3)
    }

    /// As [`Case::open`], with the SHA-256 of every file: for what prints it.
    pub fn for_record(path: &Path, global: &Global) -> Result<Self, Failure> {
        Self::begin(path, global, Digests::Both)
    }

    fn begin(path: &Path, global: &Global, digests: Digests) -> Result<Self, Failure> {
        let evidence = Evidence::at(path).map_err(|error| unreadable(&error))?;
        let digests = if global.no_hash { Digests::None } else { digests };
        let bar = progress(total(&evidence), "hashing");
        let bracket = Bracket::begin_with(&evidence, digests, &mut |bytes| bar.inc(bytes));
        bar.finish_and_clear();
        let bracket = bracket.map_err(|error| unreadable(&error))?;
        let found = match evidence.single() {
            Some(path) => what::file(&evidence, path),
            None => what::folder(&evidence, Path::new("")),
        };
        Ok(Self { what: found.map_err(|error| unreadable(&error))?, evidence, bracket, live: global.live })
    }

    /// Takes stock again. A change is an error, unless the evidence is in use; then it is a remark.
    pub fn close(&self, out: &Output) -> Result<(), Failure> {
        let bar = progress(self.bracket.files.iter().map(|file| file.bytes).sum(), "hashing again");
        let changes = self.bracket.end_with(&self.evidence, &mut |bytes| bar.inc(bytes));
        bar.finish_and_clear();
        let changes = changes.map_err(|error| unreadable(&error))?;
        let words = |change: &Change| match change {
            Change::Changed => "changed",
            Change::Touched => "was touched",
            Change::Appeared => "appeared",
            Change::Vanished => "vanished",
        };
        for (path, change) in &changes {
            out.note(&format!("{path} {} while it was examined", words(change)));
        }
        // A closed segment is never written again: not even a live ledger changes one.
        let closed = |path: &str| self.closed_segments().iter().any(|segment| segment == Path::new(path));
        let grave = |(path, _): &(String, Change)| !self.live || closed(path);
        if changes.iter().any(grave) {
            return Err(Failure::new(
                ExitCode::Io,
                "the evidence changed while it was examined",
                "examine a copy; or give --live where a running ledger is looked at",
            ));
        }
        Ok(())
    }

    fn closed_segments(&self) -> Vec<PathBuf> {
        let Ok(course) = self.course() else { return Vec::new() };
        let mut paths: Vec<PathBuf> = course.segments.into_iter().map(|(_, path)| path).collect();
        paths.pop();
        paths
    }

    /// Whether a running ledger is looked at.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// The folder of keys in the evidence.
    pub fn keys_dir(&self) -> PathBuf {
        if self.what == What::Keys { PathBuf::new() } else { PathBuf::from("keys") }
    }

    /// The log in the evidence.
    pub fn course(&self) -> Result<Course<'static>, Failure> {
        let course = match (self.what, self.evidence.single()) {
            (What::Segment, Some(path)) => self.one_segment(path),
            (What::Journal, None) => self.segments(Path::new("")),
            (_, None) => Course::of_home(&self.evidence, Path::new("")),
            (what, Some(path)) => {
                return Err(Failure::new(
                    ExitCode::NotFound,
                    format!("{} holds no log: it is {}", path.display(), what.name()),
                    "`palyra-forensic carve` looks for events in any bytes",
                ));
            }
        };
        match course {
            Err(error) if error.is_not_found() => Err(Failure::new(
                ExitCode::NotFound,
                "there is no journal in this folder",
                "`palyra-forensic inspect` says what it is; `palyra-forensic carve` looks for events in any bytes",
            )),
            other => other.map_err(|error| unreadable(&error)),
        }
    }

    fn one_segment(&self, path: &Path) -> Result<Course<'static>, StoreError> {
        let file = self.evidence.open(path, OpenMode::Read)?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        let got = file.read_at(0, &mut bytes)?;
        let header = SegmentHeader::parse(bytes.get(..got).unwrap_or_default());
        let named = path.file_name().and_then(|name| name.to_str()).and_then(segment::parse_file_name);
        let first = header.map(|header| header.first_seq).ok().or(named).unwrap_or(0);
        Ok(Course { segments: vec![(first, path.to_owned())], part: true, piece: true, ..Course::default() })
    }

    fn segments(&self, folder: &Path) -> Result<Course<'static>, StoreError> {
        let named = |name: &String| segment::parse_file_name(name).map(|first| (first, folder.join(name)));
        let mut segments: Vec<(u64, PathBuf)> = self.evidence.list(folder)?.iter().filter_map(named).collect();
        segments.sort_unstable();
        Ok(Course { segments, folder: folder.to_owned(), ..Course::default() })
    }

    /// Bytes of the log.
    pub fn log_bytes(&self, course: &Course<'_>) -> u64 {
        let size = |path: &Path| self.evidence.open(path, OpenMode::Read).and_then(|file| file.len()).unwrap_or(0);
        course.segments.iter().map(|(_, path)| size(path)).sum()
    }
}

/// Bytes of everything that can be opened.
fn total(evidence: &Evidence) -> u64 {
    let size = |path: &PathBuf| evidence.open(path, OpenMode::Read).and_then(|file| file.len()).unwrap_or(0);
    evidence.files().map_or(0, |found| found.files.iter().map(size).sum())
}

/// A bar on the error output, where that is a terminal.
pub fn progress(bytes: u64, message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(bytes).with_message(message);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
