//! The old store goes on after it was imported: what happens there comes along later, and undoes nothing that was
//! done here.

use palyra_ledger::identity::DeviceState;
use palyra_ledger::import::{Gathered, Verdict};
use palyra_ledger::{ImportOptions, Ledger, PutOptions, SecretBytes, VerifyOptions};

use super::handshake::shake;
use super::old::{Leaf, Old, ULIDS, device};
use super::{gather, head, import, ledger, values, verdict_of};

const DEFAULT: ImportOptions =
    ImportOptions { replace: false, skip_damaged: false, skip_conflicts: false, dry_run: false };

fn written(old: &Old) -> Gathered {
    let dir = tempfile::tempdir().unwrap();
    old.write(dir.path());
    gather(dir.path())
}

/// A store with one device, imported.
fn scene() -> (Ledger, Old, Leaf) {
    let mut old = Old::new().secret("global", "a", b"one");
    let leaf = old.leaf(ULIDS[0]);
    old.pair(ULIDS[0], "Cli", &[&leaf]);
    let ledger = ledger();
    assert!(import(&ledger, &written(&old), DEFAULT).seq.is_some());
    assert!(shake(&ledger, &leaf).is_ok());
    (ledger, old, leaf)
}

fn verified(ledger: &Ledger) {
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

fn device_line(lines: &[palyra_ledger::import::Line]) -> Verdict {
    verdict_of(lines, &format!("device {}", device(ULIDS[0])))
}

#[test]
fn a_certificate_that_was_revoked_there_since_is_revoked_here() {
    let (ledger, mut old, leaf) = scene();
    old.fingerprints.push(leaf.fingerprint());
    let done = import(&ledger, &written(&old), DEFAULT);
    assert_eq!((done.stopped, device_line(&done.lines)), (false, Verdict::Imported), "{:#?}", done.lines);
    assert!(shake(&ledger, &leaf).is_err(), "it is good no more");
    assert_eq!(ledger.identity().device(device(ULIDS[0])).unwrap().state, DeviceState::Paired);
    verified(&ledger);
    let at = head(&ledger);
    assert_eq!((import(&ledger, &written(&old), DEFAULT).seq, head(&ledger)), (None, at));
}

#[test]
fn a_device_that_was_revoked_there_since_is_revoked_here_with_what_was_said_of_it() {
    let (ledger, mut old, leaf) = scene();
    old.paired.clear();
    old.revoke(ULIDS[0], "stolen");
    old.fingerprints.push(leaf.fingerprint());
    let done = import(&ledger, &written(&old), DEFAULT);
    assert_eq!((done.stopped, device_line(&done.lines)), (false, Verdict::Imported), "{:#?}", done.lines);
    assert!(done.seq.is_some() && shake(&ledger, &leaf).is_err());
    let identity = ledger.identity();
    assert_eq!(identity.device(device(ULIDS[0])).unwrap().state, DeviceState::Revoked);
    assert_eq!(identity.origin(device(ULIDS[0])).unwrap().unwrap().revoked.unwrap().reason, "stolen");
    verified(&ledger);
    let at = head(&ledger);
    let again = import(&ledger, &written(&old), ImportOptions { replace: true, ..DEFAULT });
    assert_eq!((again.seq, again.stopped, head(&ledger)), (None, false, at), "{:#?}", again.lines);
}

#[test]
fn a_revocation_without_its_device_is_found_by_the_fingerprint() {
    let (ledger, mut old, leaf) = scene();
    old.paired.clear();
    old.fingerprints.push(leaf.fingerprint());
    let done = import(&ledger, &written(&old), DEFAULT);
    assert_eq!(verdict_of(&done.lines, &format!("certificate {}", leaf.fingerprint())), Verdict::Imported);
    assert!(shake(&ledger, &leaf).is_err());
    verified(&ledger);
}

#[test]
fn a_certificate_that_was_issued_there_since_is_good_here() {
    let (ledger, mut old, first) = scene();
    let second = old.leaf(ULIDS[0]);
    assert!(shake(&ledger, &second).is_err());
    old.pair(ULIDS[0], "Cli", &[&first, &second]);
    old.fingerprints.push(first.fingerprint());
    let done = import(&ledger, &written(&old), DEFAULT);
    assert_eq!((done.stopped, device_line(&done.lines)), (false, Verdict::Imported), "{:#?}", done.lines);
    assert!(shake(&ledger, &first).is_err(), "the rotated one");
    assert_eq!(shake(&ledger, &second).unwrap().device, device(ULIDS[0]));
    let identity = ledger.identity();
    let held = identity.certificates_of(device(ULIDS[0])).unwrap();
    assert_eq!(identity.device(device(ULIDS[0])).unwrap().certificate, held.last().copied());
    verified(&ledger);
    // A revocation here reaches what came later too.
    identity.revoke(device(ULIDS[0])).unwrap();
    assert!(held.iter().all(|one| identity.certificate(*one).unwrap().revoked.is_some()));
    verified(&ledger);
}

#[test]
fn what_was_revoked_or_removed_here_does_not_come_back() {
    let (ledger, mut old, first) = scene();
    let identity = ledger.identity();
    identity.revoke(device(ULIDS[0])).unwrap();
    let second = old.leaf(ULIDS[0]);
    old.pair(ULIDS[0], "Cli", &[&first, &second]);
    let done = import(&ledger, &written(&old), DEFAULT);
    assert_eq!((done.stopped, device_line(&done.lines)), (false, Verdict::Same));
    assert!(shake(&ledger, &first).is_err() && shake(&ledger, &second).is_err());
    identity.clear(device(ULIDS[0])).unwrap();
    identity.remove(device(ULIDS[0])).unwrap();
    old.pair(ULIDS[0], "Cli", &[&first]);
    // Looked at anew, though it is the very source of the first import.
    let done = import(&ledger, &written(&old), ImportOptions { replace: true, ..DEFAULT });
    assert_eq!((done.stopped, device_line(&done.lines)), (false, Verdict::Same));
    assert!(identity.device(device(ULIDS[0])).is_err() && shake(&ledger, &first).is_err());
    verified(&ledger);
}

#[test]
fn what_stands_otherwise_can_be_left_behind_and_had_later() {
    let ledger = ledger();
    let vault = ledger.vault("global".parse().unwrap());
    vault.put(&"a".parse().unwrap(), &SecretBytes::from(b"mine".as_slice()), PutOptions::new()).unwrap();
    let gathered = written(&Old::new().secret("global", "a", b"one").secret("global", "b", b"two"));
    assert!(import(&ledger, &gathered, DEFAULT).stopped);
    let done = import(&ledger, &gathered, ImportOptions { skip_conflicts: true, ..DEFAULT });
    assert!(done.seq.is_some(), "{:#?}", done.lines);
    let found = values(&ledger);
    assert_eq!((found["global/a"].as_slice(), found["global/b"].as_slice()), (&b"mine"[..], &b"two"[..]));
    // The same source once more: it was not imported whole, so it is looked at anew.
    let again = import(&ledger, &gathered, DEFAULT);
    assert_eq!((again.before, again.stopped), (None, true));
}

#[test]
fn what_was_damaged_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    Old::new().secret("global", "a", b"one").write(dir.path());
    std::fs::write(dir.path().join("auth_profiles.toml"), "version = 1\n[[profiles]]\nx = 1\n").unwrap();
    let (ledger, gathered) = (ledger(), gather(dir.path()));
    assert!(import(&ledger, &gathered, ImportOptions { skip_damaged: true, ..DEFAULT }).seq.is_some());
    let again = import(&ledger, &gathered, DEFAULT);
    assert_eq!((again.before, again.stopped), (None, true), "it is not done with");
}
