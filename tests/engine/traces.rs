//! Canaries: a planted value is in no file, no message and no rendering of anything.

use std::ops::ControlFlow;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::{Credential, GetOptions, Ledger, NewSlot, PutOptions, Scope, SecretBytes, VerifyOptions};

use super::common::{bytes, contains, files_below, init_real, name, real};

const CANARY: &[u8] = b"canary-7f3a9c51-secret-value";
const PHRASE: &str = "canary-passphrase-41d0";

/// Every file of the home, and what this process still has open or mapped of it.
fn assert_clean(home: &std::path::Path) {
    let hex = CANARY.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    for (path, bytes) in files_below(home) {
        for needle in [CANARY, hex.as_bytes(), PHRASE.as_bytes(), &CANARY[..12]] {
            assert!(!contains(&bytes, needle), "{}", path.display());
        }
    }
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else { continue };
        if target.starts_with(home) && target.is_file() {
            assert!(!contains(&std::fs::read(&target).unwrap(), CANARY), "{}", target.display());
        }
    }
}

#[test]
fn a_value_is_in_no_file_and_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    let vault = ledger.vault(Scope::global());
    let value = SecretBytes::from(CANARY);
    let key = name("planted");
    vault.put(&key, &value, PutOptions::new().description("a canary")).unwrap();
    vault.put(&key, &value, PutOptions::new()).unwrap();
    let lost = vault.put(&key, &value, PutOptions::new().if_version(7)).unwrap_err();
    let large = vault.put(&key, &SecretBytes::new(CANARY.repeat(5000)), PutOptions::new()).unwrap_err();
    let secret = vault.get(&key).unwrap();
    ledger.keys().add_slot(NewSlot::passphrase("safe", bytes(PHRASE))).unwrap();
    vault.shred(&key, Versions::One(1), None).unwrap();
    let gone = vault.get_with(&key, GetOptions::version(1)).unwrap_err();
    let crossed =
        ledger.vault("skill:x".parse().unwrap()).get_ref(&"global/planted".parse().unwrap(), GetOptions::current());
    let mut said = format!("{secret:?} {ledger:?} {vault:?} {:?}", Credential::Passphrase(bytes(PHRASE)));
    for error in [lost, large, gone, crossed.unwrap_err()] {
        said += format!("{error} {error:?}").as_str();
    }
    ledger.flush_reads().unwrap();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            said += format!("{} {:?}", entry.fields(), entry.caller).as_str();
            ControlFlow::Continue(())
        })
        .unwrap();
    said += format!("{:?}", ledger.verify(VerifyOptions { state: true, witness: false }).unwrap()).as_str();
    assert!(!contains(said.as_bytes(), CANARY), "{said}");
    assert!(!said.contains(PHRASE));
    assert_clean(&home);
    ledger.close().unwrap();
    drop((vault, ledger));
    assert_clean(&home);
    // A damaged copy set aside, a reading process's spool and a rebuilt index are searched, too.
    std::fs::write(home.join("sled/db"), vec![0xA5; 100_000]).unwrap();
    std::fs::remove_dir_all(home.join("index")).unwrap();
    let ledger = Ledger::open(real(&home)).unwrap();
    ledger.close().unwrap();
    drop(ledger);
    let reader = Ledger::open(real(&home).read_only()).unwrap();
    assert_eq!(reader.vault(Scope::global()).get(&key).unwrap().value.expose(), CANARY);
    drop(reader);
    assert_clean(&home);
}

#[test]
fn names_are_sealed_too() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    let key = name("canary-name-91b2");
    ledger.vault("principal:canary-scope-77".parse().unwrap()).put(&key, &bytes("x"), PutOptions::new()).unwrap();
    ledger.close().unwrap();
    for (path, bytes) in files_below(&home) {
        for needle in [&b"canary-name"[..], b"canary-scope"] {
            assert!(!contains(&bytes, needle), "{}", path.display());
        }
    }
}

#[test]
fn only_key_files_lie_bare_and_they_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = init_real(&home);
    super::common::put(&ledger, "key", "value");
    ledger.close().unwrap();
    for (path, _) in files_below(&home) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let sled = path.starts_with(home.join("sled"));
        assert!(mode == 0o600 || sled, "{} {mode:o}", path.display());
    }
    assert_eq!(std::fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(home.join("sled")).unwrap().permissions().mode() & 0o777, 0o700);
}
