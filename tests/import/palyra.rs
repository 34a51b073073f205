//! The store that Palyra wrote, and stores as it would have written them: whole, older, damaged.

use std::sync::Arc;

use palyra_ledger::event::identity::ClientKind;
use palyra_ledger::identity::{AuthorityState, DeviceState};
use palyra_ledger::import::Verdict;
use palyra_ledger::import::palyra::{Places, read};
use palyra_ledger::platform::Keystore;
use palyra_ledger::testing::MemoryKeystore;
use palyra_ledger::{GetOptions, ImportOptions, PutOptions, SecretBytes, VerifyOptions};

use super::old::{Old, TIME, ULIDS, device, envelope, object_id};
use super::{expected, fixture, gather, gather_with, head, import, ledger, values, verdict_of};

const DEFAULT: ImportOptions =
    ImportOptions { replace: false, skip_damaged: false, skip_conflicts: false, dry_run: false };

#[test]
fn the_store_that_palyra_wrote_imports_to_exactly_what_it_holds() {
    let (ledger, gathered) = (ledger(), gather(&fixture()));
    let before = head(&ledger);
    let dry = import(&ledger, &gathered, ImportOptions { dry_run: true, ..DEFAULT });
    assert_eq!((dry.seq, dry.stopped, head(&ledger)), (None, false, before));
    let done = import(&ledger, &gathered, DEFAULT);
    assert!(!done.stopped && done.lines.iter().all(|line| line.verdict == Verdict::Imported), "{:#?}", done.lines);
    assert_eq!(dry.lines, done.lines, "a dry run says what comes");
    assert_eq!(values(&ledger), expected());
    // One act: one batch, from store_imported to the last.
    let first = ledger.log().entry(before + 1).unwrap();
    assert_eq!((first.kind_name().as_str(), first.batch_index), ("store_imported", 0));
    assert_eq!(done.seq, Some(before + u64::from(first.batch_len)));
    let info = ledger.vault("global".parse().unwrap()).info(&"openai_api_key".parse().unwrap(), GetOptions::current());
    let origin = info.unwrap().origin.unwrap();
    assert_eq!((origin.created.as_millis(), origin.updated.as_millis()), (1_795_475_231_939, 1_795_475_231_939));
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn devices_authority_and_credentials_come_along() {
    let ledger = ledger();
    import(&ledger, &gather(&fixture()), DEFAULT);
    let identity = ledger.identity();
    let all = identity.authorities().unwrap();
    let states: Vec<_> = all.0.iter().map(|one| (one.generation, one.state)).collect();
    assert_eq!(states, [(1, AuthorityState::Active), (2, AuthorityState::Retired)]);
    let found = |at: usize| identity.device(device(ULIDS[at])).unwrap();
    let (cli, gone, node) = (found(0), found(1), found(2));
    assert_eq!((cli.kind, cli.state), (ClientKind::Cli, DeviceState::Paired));
    assert_eq!((gone.kind, gone.state), (ClientKind::Unknown, DeviceState::Revoked));
    assert_eq!((node.kind, node.state), (ClientKind::Node, DeviceState::Paired));
    let held = identity.certificates_of(device(ULIDS[0])).unwrap();
    let revoked: Vec<bool> = held.iter().map(|one| identity.certificate(*one).unwrap().revoked.is_some()).collect();
    assert_eq!(revoked, [true, false], "the rotated one is revoked, the newest is not");
    let der = identity.certificate_der(held[1]).unwrap();
    assert_eq!(palyra_ledger::pki::fingerprint(der.as_bytes()), identity.certificate(held[1]).unwrap().fingerprint);
    let documents = ledger.auth().documents().unwrap().unwrap();
    for text in ["corp-oauth", "openai-main", "openai-spare", "global/openai_api_key", "principal:user-7/github_token"]
    {
        assert!(documents.profiles.contains(text), "{text}");
    }
    for text in ["rate_limit", "cooldown_until_unix_ms = 1795475291989", "\"openai-spare\","] {
        assert!(documents.runtime.contains(text), "{text} in {}", documents.runtime);
    }
}

#[test]
fn a_second_run_changes_nothing() {
    let ledger = ledger();
    let gathered = gather(&fixture());
    let first = import(&ledger, &gathered, DEFAULT);
    let (at, root) = (head(&ledger), ledger.state_root().unwrap());
    let again = import(&ledger, &gather(&fixture()), DEFAULT);
    assert_eq!(again.before, first.seq.map(|_| at + 1 - u64::from(ledger.log().entry(at).unwrap().batch_len)));
    assert_eq!((again.seq, head(&ledger), ledger.state_root().unwrap()), (None, at, root));
    // The same store in another place is the same source.
    let moved = tempfile::tempdir().unwrap();
    copy(&fixture(), moved.path());
    assert_eq!(gather(moved.path()).digest, gathered.digest);
    // The same things from a store whose files differ: each is found to be here.
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    std::fs::write(dir.path().join("auth_profiles.toml"), {
        let text = std::fs::read_to_string(fixture().join("auth_profiles.toml")).unwrap();
        format!("# moved\n{text}")
    })
    .unwrap();
    let third = import(&ledger, &gather(dir.path()), DEFAULT);
    assert!(third.lines.iter().all(|line| line.verdict == Verdict::Same), "{:#?}", third.lines);
    assert_eq!((third.seq, head(&ledger)), (None, at));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[test]
fn another_value_under_the_same_name_stops_everything_unless_it_is_to_be_replaced() {
    let ledger = ledger();
    let vault = ledger.vault("global".parse().unwrap());
    let name = "openai_api_key".parse().unwrap();
    vault.put(&name, &SecretBytes::from(b"mine".as_slice()), PutOptions::new()).unwrap();
    let (at, gathered) = (head(&ledger), gather(&fixture()));
    let stopped = import(&ledger, &gathered, DEFAULT);
    assert_eq!(verdict_of(&stopped.lines, "secret global/openai_api_key"), Verdict::Conflict);
    assert_eq!((stopped.stopped, head(&ledger), values(&ledger).len()), (true, at, 1));
    let done = import(&ledger, &gathered, ImportOptions { replace: true, ..DEFAULT });
    assert_eq!(verdict_of(&done.lines, "secret global/openai_api_key"), Verdict::Replaced);
    assert_eq!(values(&ledger), expected());
    assert_eq!(vault.get(&name).unwrap().info.version, 2);
    let old = vault.get_with(&name, GetOptions::version(1)).unwrap();
    assert_eq!(old.value.expose(), b"mine", "the version before is still there");
}

#[test]
fn older_forms_are_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new().secret("global", "a", b"one").secret("skill:x", "b", b"two");
    (old.plain_identity, old.one_file_an_object, old.backend) = (true, true, None);
    let leaf = old.leaf(ULIDS[0]);
    old.pair(ULIDS[0], "Cli", &[&leaf]);
    old.write(dir.path());
    // State and revocations in files of their own.
    let file = |name: &str| crate::hex(name.as_bytes());
    let identity = dir.path().join("identity");
    std::fs::remove_file(identity.join(file("identity/state.v1.json"))).unwrap();
    let paired = serde_json::to_vec(&old.paired).unwrap();
    std::fs::write(identity.join(file("identity/pairing/paired_devices.json")), paired).unwrap();
    let revoked = format!("[{:?}]", "ab".repeat(32));
    std::fs::write(identity.join(file("identity/pairing/revoked_certificates.json")), revoked).unwrap();
    let (ledger, gathered) = (ledger(), gather(dir.path()));
    let done = import(&ledger, &gathered, DEFAULT);
    assert!(done.lines.iter().all(|line| line.verdict == Verdict::Imported), "{:#?}", done.lines);
    assert_eq!(values(&ledger).len(), 2);
    assert_eq!(ledger.identity().device(device(ULIDS[0])).unwrap().state, DeviceState::Paired);
    assert_eq!(gathered.secrets[0].origin.unwrap().updated.as_millis(), TIME + 5);
}

#[test]
fn values_in_a_secret_service_are_read_from_there_and_other_systems_keystores_are_not_guessed_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new().secret("global", "a", b"one");
    old.backend = Some("linux_secret_service");
    old.write(dir.path());
    std::fs::remove_file(dir.path().join("vault/objects/objects.store.json")).unwrap();
    let keystore = Arc::new(MemoryKeystore::default());
    let kek = *palyra_ledger::import::palyra::vault_key(&old.ca_key.serialize_pem()).expose();
    let account = format!("palyra.vault.v1 {}", object_id("global", "a"));
    let gone = gather_with(dir.path(), &*keystore);
    assert_eq!(verdict_of(&gone.lines, "secret global/a"), Verdict::Damaged);
    keystore.put(&account, &envelope(&kek, "global", "a", b"one")).unwrap();
    let gathered = gather_with(dir.path(), &*keystore);
    assert_eq!(gathered.secrets[0].value.expose(), b"one");
    for kind in ["macos_keychain", "windows_dpapi"] {
        std::fs::write(dir.path().join("vault/backend.kind"), kind).unwrap();
        let refused = gather_with(dir.path(), &*keystore);
        assert_eq!(verdict_of(&refused.lines, "vault"), Verdict::Unfit, "{kind}");
        assert!(import(&ledger(), &refused, DEFAULT).stopped);
    }
}

/// One damage: what it does to the folder, and the line that must come of it.
type Damage = (&'static str, fn(&std::path::Path), &'static str, Verdict);

/// A copy of the store that Palyra wrote, changed.
fn half(change: fn(&std::path::Path)) -> palyra_ledger::import::Gathered {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    change(dir.path());
    gather(dir.path())
}

#[test]
fn profiles_that_were_not_copied_are_missed() {
    let gone = half(|dir| std::fs::remove_file(dir.join("auth_profiles.toml")).unwrap());
    let line = gone.lines.iter().find(|line| line.item == "file auth_profiles.toml").unwrap();
    assert_eq!(line.verdict, Verdict::Damaged);
    assert!(line.what.starts_with("it is not there, but the runtime state names ") && line.what.contains("openai-"));
    let ledger = ledger();
    assert!(import(&ledger, &gone, DEFAULT).stopped);
    // Records alone, without an order.
    let gone = half(|dir| {
        std::fs::remove_file(dir.join("auth_profiles.toml")).unwrap();
        let path = dir.join("auth_profile_runtime_state.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.split("[[profile_orders]]").next().unwrap()).unwrap();
    });
    assert_eq!((gone.orders.len(), verdict_of(&gone.lines, "file auth_profiles.toml")), (0, Verdict::Damaged));
    // A store that never had profiles is whole.
    let none = half(|dir| {
        std::fs::remove_file(dir.join("auth_profiles.toml")).unwrap();
        std::fs::remove_file(dir.join("auth_profile_runtime_state.toml")).unwrap();
    });
    assert!(none.lines.is_empty(), "{:?}", none.lines);
    // What became of a profile that is not there any more is left behind, and said.
    let stray = half(|dir| {
        let path = dir.join("auth_profile_runtime_state.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replacen("profile_id = \"openai-spare\"", "profile_id = \"openai-old\"", 1)).unwrap();
    });
    assert_eq!(verdict_of(&stray.lines, "file auth_profile_runtime_state.toml:3"), Verdict::Skipped);
    assert_eq!(stray.lines.len(), 1);
    assert!(!import(&ledger, &stray, DEFAULT).stopped);
}

#[test]
fn a_store_that_may_not_be_looked_at_is_not_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    // A loop of links stands for whatever the system refuses: also to whom permissions do not bind.
    std::os::unix::fs::symlink("identity", dir.path().join("identity")).unwrap();
    let gathered = gather(dir.path());
    assert!(gathered.unreadable);
    assert!(gathered.lines[0].what.contains("folder identity cannot be looked at"), "{:?}", gathered.lines);
}

fn hex(name: &str) -> String {
    crate::hex(name.as_bytes())
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

const DAMAGES: &[Damage] = &[
    (
        "no key of the identity store",
        |dir| std::fs::remove_file(dir.join("identity/.store-key.v1")).unwrap(),
        "file identity/ca/state.json",
        Verdict::Damaged,
    ),
    (
        "a short key",
        |dir| std::fs::write(dir.join("identity/.store-key.v1"), [1; 31]).unwrap(),
        "file identity/.store-key.v1",
        Verdict::Damaged,
    ),
    (
        "a flipped bit in the CA's state",
        |dir| flip(&dir.join("identity").join(hex("identity/ca/state.json")), 40),
        "file identity/ca/state.json",
        Verdict::Damaged,
    ),
    (
        "a cut-off identity state",
        |dir| {
            let path = dir.join("identity").join(hex("identity/state.v1.json"));
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..20]).unwrap();
        },
        "file identity/state.v1.json",
        Verdict::Damaged,
    ),
    (
        "a half-written list",
        |dir| {
            let path = dir.join("vault/metadata.json");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        },
        "file vault/metadata.json",
        Verdict::Damaged,
    ),
    (
        "a list of the future",
        |dir| std::fs::write(dir.join("vault/metadata.json"), r#"{"version":2,"entries":[]}"#).unwrap(),
        "file vault/metadata.json",
        Verdict::Damaged,
    ),
    (
        "an object that is gone",
        |dir| std::fs::write(dir.join("vault/objects/objects.store.json"), "{}").unwrap(),
        "secret global/a",
        Verdict::Damaged,
    ),
    (
        "an object that is no envelope",
        |dir| {
            let text = format!("{{\"{}\":[1,2,3]}}", object_id("global", "a"));
            std::fs::write(dir.join("vault/objects/objects.store.json"), text).unwrap();
        },
        "secret global/a",
        Verdict::Damaged,
    ),
    (
        "another length than the list says",
        |dir| {
            let path = dir.join("vault/metadata.json");
            let text = std::fs::read_to_string(&path).unwrap().replace("\"value_bytes\":3", "\"value_bytes\":4");
            std::fs::write(path, text).unwrap();
        },
        "secret global/a",
        Verdict::Damaged,
    ),
    (
        "a backend that nobody knows",
        |dir| std::fs::write(dir.join("vault/backend.kind"), "tape").unwrap(),
        "vault",
        Verdict::Damaged,
    ),
    (
        "profiles that do not parse",
        |dir| std::fs::write(dir.join("auth_profiles.toml"), "version = 1\n[[profiles]]\nx = 1\n").unwrap(),
        "file auth_profiles.toml:3",
        Verdict::Damaged,
    ),
    (
        "no list, and objects",
        |dir| std::fs::remove_file(dir.join("vault/metadata.json")).unwrap(),
        "file vault/metadata.json",
        Verdict::Damaged,
    ),
    (
        "a list without its entries",
        |dir| std::fs::write(dir.join("vault/metadata.json"), r#"{"version":1}"#).unwrap(),
        "file vault/metadata.json",
        Verdict::Damaged,
    ),
    (
        "a FIFO in the place of the list",
        |dir| {
            std::fs::remove_file(dir.join("vault/metadata.json")).unwrap();
            let made = std::process::Command::new("mkfifo").arg(dir.join("vault/metadata.json")).status().unwrap();
            assert!(made.success());
        },
        "file vault/metadata.json",
        Verdict::Damaged,
    ),
    (
        "no identity state",
        |dir| std::fs::remove_file(dir.join("identity").join(hex("identity/state.v1.json"))).unwrap(),
        "file identity/state.v1.json",
        Verdict::Damaged,
    ),
    (
        "an identity state without its revocations",
        |dir| {
            let text = r#"{"generation":1,"paired_devices":{},"revoked_devices":{}}"#;
            std::fs::write(dir.join("identity").join(hex("identity/state.v1.json")), text).unwrap();
        },
        "file identity/state.v1.json",
        Verdict::Damaged,
    ),
    (
        "a revocation without its time",
        |dir| {
            let text = r#"{"paired_devices":{},"revoked_devices":{"x":{"device_id":"x","reason":""}},
                "revoked_certificate_fingerprints":[]}"#;
            std::fs::write(dir.join("identity").join(hex("identity/state.v1.json")), text).unwrap();
        },
        "file identity/state.v1.json",
        Verdict::Damaged,
    ),
    (
        "a stranger's file in the vault",
        |dir| std::fs::write(dir.join("vault/zz"), "x").unwrap(),
        "file vault/zz",
        Verdict::Foreign,
    ),
    (
        "a stranger's file among the objects",
        |dir| std::fs::write(dir.join("vault/objects/zz"), "x").unwrap(),
        "file vault/objects/zz",
        Verdict::Foreign,
    ),
    (
        "a stranger's file",
        |dir| std::fs::write(dir.join("notes.txt"), "x").unwrap(),
        "file notes.txt",
        Verdict::Foreign,
    ),
    (
        "a stranger's file in the identity store",
        |dir| std::fs::write(dir.join("identity/zz"), "x").unwrap(),
        "file identity/zz",
        Verdict::Foreign,
    ),
    (
        "a pairing that was under way",
        |dir| {
            std::fs::write(dir.join("identity").join(hex("identity/pairing/pending_private_keys/x")), "x").unwrap();
        },
        "",
        Verdict::Skipped,
    ),
];

#[test]
fn every_damage_has_its_line_and_stops_the_import_unless_it_is_to_be_left_behind() {
    for (name, damage, item, verdict) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Old::new().secret("global", "a", b"one").secret("global", "b", b"two");
        let leaf = old.leaf(ULIDS[0]);
        old.pair(ULIDS[0], "Cli", &[&leaf]);
        old.write(dir.path());
        damage(dir.path());
        let (ledger, gathered) = (ledger(), gather(dir.path()));
        let at = head(&ledger);
        let done = import(&ledger, &gathered, DEFAULT);
        let found = done.lines.iter().any(|line| line.verdict == *verdict && (item.is_empty() || line.item == *item));
        assert!(found, "{name}: {:#?}", done.lines);
        assert_eq!(done.stopped, verdict.is_refused(), "{name}");
        if verdict.is_refused() {
            assert_eq!(head(&ledger), at, "{name}: nothing was written");
            let skipped = import(&ledger, &gathered, ImportOptions { skip_damaged: true, ..DEFAULT });
            assert!(!skipped.stopped, "{name}");
        }
    }
}

#[test]
fn a_folder_that_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let gathered = gather(dir.path());
    assert!(import(&ledger(), &gathered, DEFAULT).stopped);
    let all = ImportOptions { skip_damaged: true, skip_conflicts: true, ..DEFAULT };
    assert!(import(&ledger(), &gathered, all).stopped, "nothing of it can be left behind either");
}

#[test]
fn profiles_that_were_said_to_be_elsewhere_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    Old::new().secret("global", "a", b"one").write(dir.path());
    let read = |places: &Places| read(dir.path(), places, &MemoryKeystore::default(), &|_, _| {});
    let missing = Places { profiles: Some(dir.path().join("none.toml")), ..Places::default() };
    assert_eq!(verdict_of(&read(&missing).lines, "file auth_profiles.toml"), Verdict::Damaged);
    let elsewhere = Places { state_root: Some(fixture()), ..Places::default() };
    assert_eq!(read(&elsewhere).profiles.len(), 3);
    let nothing = Places { state_root: Some(dir.path().join("none")), ..Places::default() };
    assert!(read(&nothing).lines.is_empty(), "that store never had one there");
}

#[test]
fn an_empty_bundle_is_the_newer_word_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new();
    let leaf = old.leaf(ULIDS[0]);
    old.pair(ULIDS[0], "Cli", &[&leaf]);
    let paired = serde_json::to_vec(&old.paired).unwrap();
    old.paired.clear();
    old.write(dir.path());
    std::fs::write(dir.path().join("identity").join(hex("identity/pairing/paired_devices.json")), paired).unwrap();
    assert!(gather(dir.path()).devices.is_empty());
}

#[test]
fn objects_in_files_of_their_own_are_found_beside_the_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new().secret("global", "a", b"one").secret("global", "b", b"two");
    old.one_file_an_object = true;
    old.write(dir.path());
    std::fs::write(dir.path().join("vault/objects/objects.store.json"), "{}").unwrap();
    let gathered = gather(dir.path());
    assert_eq!((gathered.secrets.len(), gathered.lines.len()), (2, 0), "{:#?}", gathered.lines);
}

#[test]
fn scopes_of_that_program_keep_their_colons_and_a_refused_entry_has_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let scopes = ["principal:user:ops", "channel:slack:T:1", "principal:+49@x;y", "skill:a!b"];
    let mut old = Old::new();
    for scope in scopes {
        old = old.secret(scope, "k", scope.as_bytes());
    }
    old.secret("principal:a b", "k", b"x").write(dir.path());
    let (ledger, gathered) = (ledger(), gather(dir.path()));
    assert_eq!((gathered.lines.len(), gathered.lines[0].verdict), (1, Verdict::Unfit), "{:#?}", gathered.lines);
    import(&ledger, &gathered, ImportOptions { skip_damaged: true, ..DEFAULT });
    let found = values(&ledger);
    for scope in scopes {
        assert_eq!(found[&format!("{scope}/k")], scope.as_bytes());
    }
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
}

#[test]
fn an_authority_that_cannot_serve_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::new().secret("global", "a", b"one");
    // Another CA's certificate beside this key.
    old.ca_pem = Old::new().ca_pem;
    old.write(dir.path());
    let gathered = gather(dir.path());
    let line = gathered.lines.iter().find(|line| line.item == "ca").unwrap();
    assert!(line.what.contains("belongs to another certificate") && line.what.contains("pairing join"), "{line:?}");
    assert_eq!(gathered.secrets.len(), 1, "the vault's key is that of the private key all the same");
}
