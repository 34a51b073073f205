//! Evidence is read and never changed; what changes meanwhile is seen.

use std::path::Path;

use palyra_ledger::inspect::{Bracket, Change, Digests, Evidence};
use palyra_ledger::store::{Medium, OpenMode};

#[test]
fn evidence_refuses_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"bytes").unwrap();
    let evidence = Evidence::at(dir.path()).unwrap();
    let path = Path::new("file");
    assert!(evidence.open(path, OpenMode::ReadWrite).is_err());
    assert!(evidence.open(Path::new("new"), OpenMode::CreateNew).is_err());
    assert!(evidence.append(path, b"x").is_err());
    assert!(evidence.rename(path, Path::new("other")).is_err());
    assert!(evidence.remove(path).is_err());
    assert!(evidence.create_dir(Path::new("folder")).is_err());
    assert!(evidence.write_atomic(path, b"x").is_err());
    let file = evidence.open(path, OpenMode::Read).unwrap();
    assert!(file.write_at(0, b"x").is_err());
    assert!(file.set_len(1).is_err());
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"bytes");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn links_and_pipes_are_neither_followed_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"bytes").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let evidence = Evidence::at(dir.path()).unwrap();
    let found = evidence.files().unwrap();
    assert_eq!(found.files, [Path::new("file")]);
    let left_out: Vec<_> = found.left_out.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(left_out, ["link", "loop", "pipe"], "what is not examined is named");
    let below = Path::new("loop/file");
    assert!(evidence.open(below, OpenMode::Read).is_err() && evidence.list(Path::new("loop")).is_err());
    assert!(evidence.open(Path::new("link"), OpenMode::Read).is_err());
    assert!(evidence.open(Path::new("pipe"), OpenMode::Read).is_err());
}

#[test]
fn what_changes_meanwhile_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["changed", "gone", "same"] {
        std::fs::write(dir.path().join(name), b"one").unwrap();
    }
    let evidence = Evidence::at(dir.path()).unwrap();
    let bracket = Bracket::begin(&evidence, Digests::Both).unwrap();
    assert_eq!(bracket.end(&evidence).unwrap(), []);
    // SHA-256 of "one", as `sha256sum` gives it.
    let sha256 = bracket.files[0].sha256.unwrap().to_string();
    assert_eq!(sha256, "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
    std::fs::write(dir.path().join("changed"), b"two").unwrap();
    std::fs::remove_file(dir.path().join("gone")).unwrap();
    std::fs::write(dir.path().join("new"), b"one").unwrap();
    let named: Vec<_> = bracket.end(&evidence).unwrap();
    let named: Vec<_> = named.iter().map(|(path, change)| (path.as_str(), *change)).collect();
    assert_eq!(named, [("changed", Change::Changed), ("gone", Change::Vanished), ("new", Change::Appeared)]);
}
