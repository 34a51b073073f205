//! The second verifier, `tools/verify.py`, written from FORMAT.md alone, beside the first.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const FIRST: &str = "0001-first-format";
const TRUST: &str = "0002-device-trust";

/// Every so many bytes one bit is flipped: a prime, so that no field is always met at the same place.
const STEP: usize = 211;

/// The second verifier, where Python and its packages are there.
struct Verifier {
    python: String,
}

impl Verifier {
    fn find() -> Option<Self> {
        let python = std::env::var("PALYRA_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let modules = Command::new(&python).args(["-c", "import blake3, cryptography"]).output();
        if modules.is_ok_and(|output| output.status.success()) {
            return Some(Self { python });
        }
        assert!(
            std::env::var_os("PALYRA_NEED_PEERS").is_none(),
            "PALYRA_NEED_PEERS is set and {python} has not the packages of tools/verify-requirements.txt"
        );
        eprintln!("SKIPPED: python3 with the packages of tools/verify-requirements.txt is not there");
        None
    }

    fn run(&self, arguments: &[&str], home: &Path, input: &str) -> Output {
        let script = project().join("tools/verify.py");
        let mut child = Command::new(&self.python)
            .arg("-B")
            .arg(script)
            .args(arguments)
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A verifier that asks for no passphrase may be gone before it is given one.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Exit code and report; whatever the bytes are, a report and not a traceback.
    fn verify(&self, arguments: &[&str], home: &Path) -> (i32, Value) {
        let output = self.run(&[&["--json"], arguments].concat(), home, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("Traceback"), "{stderr}");
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {stderr}"));
        (output.status.code().unwrap(), report)
    }

    /// The same, as the ledger's own command judges: that nothing was brought from outside is no fault of the files.
    fn judge_files(&self, arguments: &[&str], home: &Path) -> (i32, Value) {
        let (code, report) = self.verify(arguments, home);
        let only_unanchored = kinds(&report).iter().all(|kind| kind == "unanchored");
        assert!(code != 0 && (code == 17 || !only_unanchored), "{code}: {report}");
        (if only_unanchored { 0 } else { code }, report)
    }
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The kinds of all findings, the gravest first.
fn kinds(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect()
}

fn golden(release: &str) -> PathBuf {
    project().join("migrations").join(release).join("golden")
}

/// Every released format that left a store.
fn releases() -> Vec<String> {
    let folders = files(&project().join("migrations"));
    let stores = folders.iter().filter(|folder| folder.join("golden").is_dir());
    let names: Vec<String> = stores.map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.len() >= 3, "{names:?}");
    names
}

/// A copy of a golden store that may be damaged.
fn copy(release: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_into(&golden(release), dir.path());
    dir
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let inside = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&inside).unwrap();
            copy_into(&path, &inside);
        } else {
            fs::write(&inside, fs::read(&path).unwrap()).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn is_table(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with("table")
}

fn ledger(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"))
        .args(arguments)
        .env("PALYRA_LEDGER_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn ledger_verifies(home: &Path) -> i32 {
    ledger(home, &["log", "verify", "--keyless", "--format", "json"], "").status.code().unwrap()
}

/// Runs `judge` once for every `step`-th byte of a file, with one bit of that byte flipped.
fn with_flips(path: &Path, step: usize, mut judge: impl FnMut(usize)) {
    let whole = fs::read(path).unwrap();
    for at in (0..whole.len()).step_by(step) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(path, damaged).unwrap();
        judge(at);
    }
    fs::write(path, whole).unwrap();
}

#[test]
fn its_cryptography_gives_the_published_vectors() {
    let Some(verifier) = Verifier::find() else { return };
    let output = verifier.run(&["--self-test"], Path::new("."), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_golden_store_is_whole_for_it_with_and_without_keys() {
    let Some(verifier) = Verifier::find() else { return };
    for release in releases() {
        let expected = fs::read_to_string(project().join("migrations").join(&release).join("EXPECTED")).unwrap();
        let head = expected.lines().nth(1).unwrap();
        for arguments in [&["--keyless"][..], &[]] {
            let (code, report) = verifier.judge_files(arguments, &golden(&release));
            assert_eq!(code, 0, "{release}: {report}");
            let last = &report["last"];
            assert_eq!(format!("head {} {}", last["seq"], last["hash"].as_str().unwrap()), head);
            let opened = if arguments.is_empty() { report["events"].clone() } else { Value::Null };
            assert_eq!(report["opened"], opened, "{release}: {report}");
            // A kind that FORMAT.md has and it does not know would stop the fold.
            assert_eq!(report["folded_through"], Value::Null, "{release}: {report}");
        }
    }
}

/// The state is a second time folded from the events alone, from the document alone.
#[test]
fn the_state_root_of_a_vault_is_found_again() {
    let Some(verifier) = Verifier::find() else { return };
    let mut found = 0;
    for release in releases() {
        let expected = fs::read_to_string(project().join("migrations").join(&release).join("EXPECTED")).unwrap();
        let (_, report) = verifier.verify(&[], &golden(&release));
        if let Some(root) = report["state_root"].as_str() {
            assert_eq!(format!("state root {root}"), expected.lines().next().unwrap(), "{release}");
            found += 1;
        }
    }
    assert!(found >= 4, "only {found} roots: events of devices and credentials alone may end the fold");
}

/// What a golden store's events say, field by field, was written down when it was made.
/// What is sealed stands in EXPECTED by its length alone.
fn by_length(mut event: Value) -> Value {
    let shorten = |sealed: &mut Value| {
        let fields = sealed.as_object_mut().unwrap();
        let bytes = fields.remove("envelope").unwrap().as_array().unwrap().len();
        fields.insert("envelope_bytes".to_owned(), bytes.into());
    };
    event.get_mut("envelopes").and_then(Value::as_array_mut).into_iter().flatten().for_each(shorten);
    // Counts of other kinds go by the same name.
    let secrets = event.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten();
    secrets.filter_map(|one| one.get_mut("put")).for_each(shorten);
    event
}

#[test]
fn every_field_of_the_golden_events_reads_as_it_was_written_down() {
    let Some(verifier) = Verifier::find() else { return };
    let mut compared = 0;
    for release in releases() {
        let expected = fs::read_to_string(project().join("migrations").join(&release).join("EXPECTED")).unwrap();
        let output = verifier.run(&["--events"], &golden(&release), "");
        let said = String::from_utf8(output.stdout).unwrap();
        let events: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for line in expected.lines().filter(|line| line.starts_with("event ")) {
            let [_, seq, _, _, kind, fields @ ..] = &line.splitn(6, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let event = &events[seq.parse::<usize>().unwrap()];
            assert_eq!(event["kind"], *kind, "{release}: {line}");
            if let [fields] = fields {
                // Since 0008 the schema version stands between the kind and its fields.
                let fields = fields
                    .split_once(' ')
                    .filter(|(first, _)| first.starts_with('v'))
                    .map_or(*fields, |(_, rest)| rest);
                let mut written: Value = serde_json::from_str(fields).unwrap();
                let mut read = by_length(event["event"].clone());
                // A sealed value is shown by neither: one says that, the other how long it is.
                if read["envelope"] == "(not shown)" && written.get("envelope").is_none() {
                    read.as_object_mut().unwrap().remove("envelope");
                    assert!(written.as_object_mut().unwrap().remove("envelope_bytes").is_some(), "{release}: {line}");
                }
                // What a later schema version added was not recorded then, and is absent now.
                let known = |name: &str| written.get(name).is_some();
                read.as_object_mut().unwrap().retain(|name, value| known(name) || !value.is_null());
                let orders = [&read, &written].map(|one| one["orders"].as_array().cloned().unwrap_or_default());
                for (at, (now, then)) in orders[0].iter().zip(&orders[1]).enumerate() {
                    if now["updated_at"].is_null() && then.get("updated_at").is_none() {
                        read["orders"][at].as_object_mut().unwrap().remove("updated_at");
                    }
                }
                assert_eq!(read, written, "{release}: {line}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 71, "only {compared} events were compared");
}

#[test]
fn it_opens_a_secret_and_says_its_length_alone() {
    let Some(verifier) = Verifier::find() else { return };
    for release in [FIRST, TRUST] {
        let output = verifier.run(&["--open", "global/api_key"], &golden(release), "");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("opens True, bytes 6"), "{said}");
        assert!(!said.contains("second"), "{said}");
    }
    let (code, _) = verifier.verify(&["--open", "global/no_such"], &golden(FIRST));
    assert_eq!(code, 10);
}

#[test]
fn a_passphrase_opens_the_store_and_a_wrong_one_does_not() {
    let Some(verifier) = Verifier::find() else { return };
    let home = golden(FIRST);
    assert_eq!(verifier.run(&["--passphrase-stdin"], &home, "golden passphrase\n").status.code(), Some(17));
    assert_eq!(verifier.run(&["--passphrase-stdin"], &home, "another passphrase\n").status.code(), Some(11));
}

#[test]
fn both_verifiers_judge_every_damaged_journal_alike() {
    let Some(verifier) = Verifier::find() else { return };
    let home = copy(FIRST);
    for segment in files(&home.path().join("journal")) {
        with_flips(&segment, STEP, |at| {
            let (code, report) = verifier.judge_files(&["--keyless"], home.path());
            assert_ne!(code, 0, "{} at {at}: {report}", segment.display());
            assert_eq!(code, ledger_verifies(home.path()), "{} at {at}: {report}", segment.display());
        });
        let whole = fs::read(&segment).unwrap();
        for length in [0, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&segment, &whole[..length]).unwrap();
            let (code, report) = verifier.judge_files(&["--keyless"], home.path());
            assert_ne!(code, 0, "{} cut at {length}: {report}", segment.display());
            assert_eq!(code, ledger_verifies(home.path()), "{} cut at {length}: {report}", segment.display());
        }
        fs::remove_file(&segment).unwrap();
        let (code, report) = verifier.judge_files(&["--keyless"], home.path());
        assert_eq!(code, ledger_verifies(home.path()), "without {}: {report}", segment.display());
        fs::write(&segment, whole).unwrap();
    }
    assert_eq!(verifier.judge_files(&["--keyless"], home.path()).0, 0);
}

/// Forged and damaged homes, with and without anchors, and the verdict on each: `tests/vectors/VERDICTS`.
#[test]
fn every_vector_has_the_verdict_of_the_table() {
    let Some(verifier) = Verifier::find() else { return };
    let script = project().join("tests/vectors/run.py");
    let output = Command::new(&verifier.python).arg("-B").arg(script).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn no_flip_in_a_key_file_goes_unseen() {
    let Some(verifier) = Verifier::find() else { return };
    let home = copy(TRUST);
    for path in files(&home.path().join("keys")) {
        with_flips(&path, if is_table(&path) { 9973 } else { 37 }, |at| {
            let (code, report) = verifier.verify(&[], home.path());
            assert!([11, 15].contains(&code), "{} at {at}: {report}", path.display());
        });
    }
}

#[test]
fn a_ledger_of_today_is_whole_and_a_key_that_is_gone_is_missed() {
    let Some(verifier) = Verifier::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("ledger");
    let done = |arguments: &[&str], input: &str| {
        let output = ledger(&home, arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["init"], "");
    done(&["secrets", "set", "global/kept", "--stdin"], "one");
    done(&["secrets", "set", "global/kept", "--stdin"], "second value");
    done(&["secrets", "set", "skill:mail/imap/password", "--stdin"], "gone");
    done(&["secrets", "delete", "global/kept", "--version", "1"], "");
    let tables = || files(&home.join("keys")).into_iter().filter(|path| is_table(path));
    let before: Vec<(PathBuf, Vec<u8>)> = tables().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    done(&["secrets", "shred", "skill:mail/imap/password", "--yes"], "");
    done(&["keys", "rotate"], "");
    let (code, report) = verifier.verify(&["--open", "global/kept"], &home);
    assert_eq!((code, kinds(&report)), (17, vec!["unanchored".to_owned()]), "{report}");
    assert_eq!(report["open"]["bytes"], 12);
    assert_eq!(report["secrets"]["shredded"], 1);
    let own = ledger(&home, &["--format", "json", "log", "verify", "--state"], "");
    let own: Value = serde_json::from_slice(&own.stdout).unwrap();
    assert!(own["state_root"].is_string(), "{own}");
    assert_eq!(report["state_root"], own["state_root"]);

    // What the command prints is one note without an empty line behind it: kept outside, it anchors all.
    let note = dir.path().join("kept.note");
    fs::write(&note, ledger(&home, &["log", "checkpoint"], "").stdout).unwrap();
    let anchored = ["--checkpoints", note.to_str().unwrap()];
    let (code, report) = verifier.verify(&anchored, &home);
    assert_eq!(code, 0, "{report}");
    let (code, report) = verifier.verify(&[&["--keyless"], &anchored[..]].concat(), &home);
    assert_eq!(code, 0, "the record of the checkpoint itself alone stands behind it: {report}");

    // The tables from before the shred, put back: the key is there again.
    let after: Vec<(PathBuf, Vec<u8>)> = tables().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for (path, bytes) in &before {
        fs::write(path, bytes).unwrap();
    }
    let (code, report) = verifier.verify(&anchored, &home);
    assert_eq!((code, kinds(&report)), (15, vec!["key_slot".to_owned(); 2]), "{report}");
    for (path, bytes) in &after {
        fs::write(path, bytes).unwrap();
    }

    // The key of the first version, in both copies of the table: a hole that no event explains.
    for path in tables() {
        let mut bytes = fs::read(&path).unwrap();
        bytes[128..208].fill(0);
        fs::write(&path, bytes).unwrap();
    }
    let (code, report) = verifier.verify(&[], &home);
    assert_eq!(code, 15, "{report}");
    assert_eq!(report["findings"][0]["kind"], "key_missing", "{report}");
}

#[test]
fn without_a_key_it_says_so_and_still_checks_the_chain() {
    let Some(verifier) = Verifier::find() else { return };
    let home = copy(FIRST);
    for path in files(&home.path().join("keys")) {
        if path.extension().is_some_and(|extension| extension == "key") {
            fs::remove_file(path).unwrap();
        }
    }
    let (code, report) = verifier.verify(&[], home.path());
    assert_eq!((code, &report["events"], &report["opened"]), (4, &Value::from(22), &Value::Null), "{report}");
    fs::remove_file(home.path().join("head")).unwrap();
    assert_eq!(verifier.verify(&["--keyless"], home.path()).0, 17);
    fs::remove_dir_all(home.path().join("journal")).unwrap();
    assert_eq!(verifier.run(&[], home.path(), "").status.code(), Some(10));
    assert_eq!(verifier.run(&["--no-such-option"], home.path(), "").status.code(), Some(2));
}

/// A power cut may keep the end of a group and lose its beginning: FORMAT.md calls that torn, as no later
/// group says that it was synced. Once the head file says so, the same bytes are damage.
#[test]
fn a_group_that_lost_its_beginning_is_torn_unless_it_was_durable() {
    let Some(verifier) = Verifier::find() else { return };
    let home = copy(FIRST);
    let last = files(&home.path().join("journal")).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let begins = (0..bytes.len() - 4).filter(|at| &bytes[*at..at + 4] == b"PLFR").collect::<Vec<_>>();
    let [.., first, second] = begins[..] else { panic!("{begins:?}") };
    bytes[first..second].fill(0);
    fs::write(&last, bytes).unwrap();
    assert_eq!(verifier.verify(&["--keyless"], home.path()).0, 15);
    assert_eq!(ledger_verifies(home.path()), 15);

    let head = home.path().join("head");
    let mut bytes = fs::read(&head).unwrap();
    bytes[..128].fill(0);
    fs::write(&head, bytes).unwrap();
    let (code, report) = verifier.judge_files(&["--keyless"], home.path());
    assert_eq!((code, &report["last"]["seq"]), (0, &Value::from(19)), "{report}");
    assert_eq!(ledger_verifies(home.path()), 0);
}
