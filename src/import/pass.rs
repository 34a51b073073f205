//! A password store: a folder of files that gpg opens, one a secret.

use std::path::{Path, PathBuf};

use crate::base::{Scope, SecretBytes, SecretPath, limits};
use crate::event::import::SourceForm;

use super::env::names_digest;
use super::items::{FoundSecret, Gathered, Line, Verdict};

/// How deep folders may stand in each other.
const DEPTH_MAX: usize = 16;
const SUFFIX: &str = ".gpg";

/// Opens one file; what is wrong is said in words.
pub type Decrypt<'a> = dyn FnMut(&Path) -> Result<SecretBytes, String> + 'a;

/// Which part of a file is the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its first line, without the line's end.
    FirstLine,
}

/// Reads a password store. `decrypt` opens one file after the other; `progress` is told how many of how many.
#[must_use]
pub fn read_pass(
    root: &Path,
    scope: &Scope,
    part: Part,
    decrypt: &mut Decrypt<'_>,
    progress: &dyn Fn(u64, u64),
) -> Gathered {
    let mut gathered = Gathered::new(SourceForm::Pass, root.display().to_string());
    let mut files = Vec::new();
    walk(root, Path::new(""), 0, &mut files, &mut gathered.lines);
    // The folder itself: nothing below it was seen.
    gathered.unreadable = std::fs::read_dir(root).is_err();
    files.sort();
    let (mut tried, mut opened) = (0_u64, 0_u64);
    let of = files.len() as u64;
    for (done, file) in (0..).zip(files) {
        progress(done, of);
        let text = file.to_string_lossy().into_owned();
        let item = format!("file {text}");
        // Whoever names their files otherwise than secrets can be named says so here, before a passphrase is asked.
        let name = match text.strip_suffix(SUFFIX).unwrap_or(&text).parse() {
            Ok(name) => name,
            Err(error) => {
                let error: crate::base::RefError = error;
                gathered.lines.push(Line::new(item, Verdict::Unfit, format!("its name cannot be held here: {error}")));
                continue;
            }
        };
        tried += 1;
        match decrypt(&root.join(&file)) {
            Ok(value) => {
                opened += 1;
                let path = SecretPath { scope: scope.clone(), name };
                gathered.secrets.push(FoundSecret::bare(path, chosen(value, part)));
            }
            Err(what) => gathered.lines.push(Line::new(item, Verdict::Damaged, what)),
        }
    }
    // Without gpg, or without its key: leaving every file behind is no import.
    gathered.unreadable |= tried > 0 && opened == 0;
    gathered.digest = names_digest(&gathered);
    gathered
}

fn chosen(value: SecretBytes, part: Part) -> SecretBytes {
    match part {
        Part::Whole => value,
        Part::FirstLine => {
            let line = value.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
            SecretBytes::from(line.strip_suffix(b"\r").unwrap_or(line))
        }
    }
}

fn walk(root: &Path, below: &Path, depth: usize, files: &mut Vec<PathBuf>, lines: &mut Vec<Line>) {
    let wrong = |what: String| Line::new(format!("folder {}", root.join(below).display()), Verdict::Damaged, what);
    if depth > DEPTH_MAX || files.len() > limits::IMPORT_ITEMS_MAX {
        lines.push(wrong("folders stand too deep in each other here, or there are too many files".to_owned()));
        return;
    }
    let entries = match std::fs::read_dir(root.join(below)) {
        Ok(entries) => entries,
        Err(error) => {
            lines.push(wrong(error.to_string()));
            return;
        }
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let path = below.join(&name);
        let shown = name.to_string_lossy();
        match entry.file_type() {
            // Its own administration, and that of git.
            _ if shown.starts_with('.') => {}
            Ok(kind) if kind.is_dir() => walk(root, &path, depth + 1, files, lines),
            Ok(kind) if kind.is_file() && shown.ends_with(SUFFIX) => files.push(path),
            Ok(kind) if kind.is_symlink() => {
                lines.push(Line::new(format!("file {}", path.display()), Verdict::Skipped, "it is a symbolic link"));
            }
            _ => lines.push(Line::new(format!("file {}", path.display()), Verdict::Foreign, "it is no file of gpg's")),
        }
    }
}
