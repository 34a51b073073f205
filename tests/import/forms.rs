//! Env files, password stores, and what `export` writes.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use palyra_ledger::event::import::ImportedOrder;
use palyra_ledger::event::vault::Versions;
use palyra_ledger::import::{
    ExportDoc, FORMAT, Gathered, Part, SecretDoc, Verdict, VersionDoc, read_env, read_json, read_pass,
};
use palyra_ledger::{BackendKind, ImportOptions, Ledger, PutOptions, Scope, SecretBytes, Timestamp};
use proptest::prelude::*;

use super::{expected, fixture, gather, head, import, ledger, values, verdict_of};

const DEFAULT: ImportOptions =
    ImportOptions { replace: false, skip_damaged: false, skip_conflicts: false, dry_run: false };

#[test]
fn an_env_file_becomes_secrets_of_a_scope() {
    let scope: Scope = "skill:mail".parse().unwrap();
    let text = b"# c\nexport API_KEY=abc\nURL='palyra://x'\nREF=palyra://global/a\n";
    let (ledger, gathered) = (ledger(), read_env(text, &scope, "app.env"));
    let done = import(&ledger, &gathered, DEFAULT);
    assert_eq!(verdict_of(&done.lines, "line 4 (REF)"), Verdict::Skipped);
    let found = values(&ledger);
    assert_eq!(found["skill:mail/API_KEY"], b"abc");
    assert_eq!(found["skill:mail/URL"], b"palyra://x");
    let at = head(&ledger);
    assert_eq!((import(&ledger, &gathered, DEFAULT).seq, head(&ledger)), (None, at), "a second run changes nothing");
    // The same names and lengths, and another value: no digest hides it.
    let other = read_env(b"API_KEY=xyz\n", &scope, "app.env");
    assert!(import(&ledger, &other, DEFAULT).stopped);
    let broken = read_env(b"A=1\nB='x\n", &scope, "app.env");
    assert_eq!(verdict_of(&broken.lines, "line 2"), Verdict::Damaged);
}

#[test]
fn a_password_store_is_read_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    file("mail/work.gpg", "hunter2\nuser: me\n");
    file("bank.gpg", "1234\r\n");
    file("with space.gpg", "x");
    file("broken.gpg", "");
    file(".gpg-id", "me");
    file("README", "hello");
    let mut decrypt = |path: &Path| match std::fs::read(path).unwrap() {
        bytes if bytes.is_empty() => Err("gpg does not open it".to_owned()),
        bytes => Ok(SecretBytes::new(bytes)),
    };
    let gathered = read_pass(dir.path(), &Scope::global(), Part::FirstLine, &mut decrypt, &|_, _| {});
    assert_eq!(verdict_of(&gathered.lines, "file with space.gpg"), Verdict::Unfit);
    assert_eq!(verdict_of(&gathered.lines, "file broken.gpg"), Verdict::Damaged);
    assert_eq!(verdict_of(&gathered.lines, "file README"), Verdict::Foreign);
    let ledger = ledger();
    assert!(import(&ledger, &gathered, DEFAULT).stopped);
    let done = import(&ledger, &gathered, ImportOptions { skip_damaged: true, ..DEFAULT });
    assert!(done.seq.is_some());
    let found = values(&ledger);
    assert_eq!(
        (found["global/mail/work"].as_slice(), found["global/bank"].as_slice()),
        (&b"hunter2"[..], &b"1234"[..])
    );
    let whole = read_pass(dir.path(), &Scope::global(), Part::Whole, &mut decrypt, &|_, _| {});
    assert!(whole.secrets.iter().any(|one| one.value.expose() == b"hunter2\nuser: me\n"));
}

#[test]
fn a_password_store_of_which_nothing_opens_is_not_left_behind_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.gpg"), "x").unwrap();
    std::fs::write(dir.path().join("b.gpg"), "y").unwrap();
    let mut nothing = |_: &Path| Err("there is no program gpg".to_owned());
    let gathered = read_pass(dir.path(), &Scope::global(), Part::Whole, &mut nothing, &|_, _| {});
    let done = import(&ledger(), &gathered, ImportOptions { skip_damaged: true, ..DEFAULT });
    assert!(done.stopped && done.unreadable, "{:?}", done.lines);
}

#[test]
fn versions_are_counted_anew_and_a_line_says_so() {
    let first = ledger();
    let vault = first.vault(Scope::global());
    for value in ["1", "2", "3"] {
        vault.put(&"a".parse().unwrap(), &SecretBytes::from(value.as_bytes()), PutOptions::new()).unwrap();
    }
    vault.shred(&"a".parse().unwrap(), Versions::One(1), None).unwrap();
    let bytes = serde_json::to_vec(&exported(&first)).unwrap();
    let second = ledger();
    let done = import(&second, &read_json(&bytes, "export.json"), DEFAULT);
    assert_eq!(verdict_of(&done.lines, "version numbers of global/a"), Verdict::Skipped);
    assert!(!done.stopped);
    let info = second.vault(Scope::global()).get(&"a".parse().unwrap()).unwrap().info;
    assert_eq!(info.version, 2);
}

#[test]
fn profiles_of_the_first_schema_version_are_read_by_a_type_of_their_own() {
    use palyra_ledger::event::import::{CredentialsImported, ImportedProfile};
    use palyra_ledger::event::v1;
    let found = gather(&fixture());
    let frozen = |one: ImportedProfile| {
        let ImportedProfile { profile, expires_at, usage, origin } = one;
        v1::ImportedProfile { profile, expires_at, usage, origin }
    };
    let profiles: Vec<v1::ImportedProfile> = found.profiles.iter().cloned().map(frozen).collect();
    let old = v1::CredentialsImported { profiles, orders: Vec::new() };
    assert_eq!(CredentialsImported::from(old).profiles, found.profiles);
}

/// The document of everything, as `export` writes it.
fn exported(ledger: &Ledger) -> ExportDoc {
    let exports = ledger.exports();
    let (secrets, committed) = exports.secrets(&[], &|_, _| {}).unwrap();
    let (profiles, orders) = exports.credentials().unwrap();
    let secrets = secrets.into_iter().map(|one| SecretDoc {
        scope: one.path.scope.to_string(),
        name: one.path.name.to_string(),
        description: one.description,
        labels: one.labels,
        versions: one
            .versions
            .into_iter()
            .map(|version| VersionDoc {
                version: version.version,
                value: STANDARD.encode(version.value.expose()).into(),
                created_at_ms: version.times.created.as_millis(),
                updated_at_ms: version.times.updated.as_millis(),
                expires_at_ms: version.expires_at.map(Timestamp::as_millis),
                deleted: version.deleted,
            })
            .collect(),
    });
    ExportDoc {
        format: FORMAT.to_owned(),
        ledger: ledger.id().to_string(),
        seq: committed.seq,
        exported_at_ms: 0,
        secrets: secrets.collect(),
        devices: Vec::new(),
        authorities: Vec::new(),
        profiles,
        orders,
    }
}

fn text(document: &ExportDoc) -> String {
    serde_json::to_string(&(&document.secrets, &document.profiles, &document.orders)).unwrap()
}

#[test]
fn what_is_exported_imports_to_the_same_and_the_reads_are_recorded() {
    let first = ledger();
    import(&first, &gather(&fixture()), DEFAULT);
    let at = head(&first);
    let document = exported(&first);
    let kinds: Vec<String> = (at + 1..=head(&first)).map(|seq| first.log().entry(seq).unwrap().kind_name()).collect();
    assert_eq!(kinds, ["vault_exported", "secrets_read"]);
    let bytes = serde_json::to_vec(&document).unwrap();
    let second = ledger();
    let done = import(&second, &read_json(&bytes, "export.json"), DEFAULT);
    assert!(!done.stopped, "{:#?}", done.lines);
    assert_eq!(values(&second), expected());
    assert_eq!(text(&exported(&second)), text(&document));
    let at = head(&second);
    let again = import(&second, &read_json(&bytes, "export.json"), DEFAULT);
    assert_eq!((again.seq, again.stopped, head(&second)), (None, false, at));
}

#[test]
fn envelopes_outside_the_log_are_imported_and_exported_like_others() {
    let ledger = ledger();
    ledger.backends().migrate(BackendKind::EncryptedFile, &mut |_, _| {}).unwrap();
    let done = import(&ledger, &gather(&fixture()), DEFAULT);
    assert!(done.seq.is_some());
    assert_eq!(values(&ledger), expected());
    ledger.backends().migrate(BackendKind::Ledger, &mut |_, _| {}).unwrap();
    assert_eq!(values(&ledger), expected());
    assert_eq!(exported(&ledger).secrets.len(), expected().len());
}

#[test]
fn a_document_of_another_form_is_refused() {
    for bytes in [
        &b"{}"[..],
        b"[]",
        b"{\"format\":\"other\",\"ledger\":\"\",\"seq\":0,\"exported_at_ms\":0,\"secrets\":[]}",
        b"",
    ] {
        let gathered = read_json(bytes, "x");
        assert_eq!(verdict_of(&gathered.lines, "document"), Verdict::Damaged);
        let done = import(&ledger(), &gathered, ImportOptions { skip_damaged: true, ..DEFAULT });
        assert!(done.stopped && done.unreadable, "nothing is left of it to go on with");
    }
}

#[test]
fn every_bad_line_of_an_env_file_is_named_and_the_good_ones_can_be_had() {
    let text = b"A=1\nno value\n1B='x\ny=2'\nC=\"\\q\nD=3\"\nE=4\nA=5\nF='open\nG=6\n";
    let gathered = read_env(text, &Scope::global(), "app.env");
    let lines: Vec<&str> = gathered.lines.iter().map(|line| line.item.as_str()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 5", "line 8", "line 9"], "{:#?}", gathered.lines);
    let ledger = ledger();
    assert!(import(&ledger, &gathered, DEFAULT).stopped);
    import(&ledger, &gathered, ImportOptions { skip_damaged: true, ..DEFAULT });
    let found: Vec<_> = values(&ledger).into_keys().collect();
    assert_eq!(found, ["global/A", "global/E"], "lines within quotes are no variables");
}

fn document(secrets: &serde_json::Value, orders: &serde_json::Value) -> Vec<u8> {
    let document = serde_json::json!({
        "format": FORMAT, "ledger": "x", "seq": 1, "exported_at_ms": 1, "secrets": secrets, "orders": orders,
    });
    serde_json::to_vec(&document).unwrap()
}

fn version(number: u32, value: &str) -> serde_json::Value {
    serde_json::json!({
        "version": number, "value": STANDARD.encode(value), "created_at_ms": 1, "updated_at_ms": 2,
    })
}

fn secret(more: &serde_json::Value, versions: &[serde_json::Value]) -> serde_json::Value {
    let mut secret = serde_json::json!({"scope": "global", "name": "a", "versions": versions});
    secret.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    secret
}

#[test]
fn versions_must_ascend_and_nothing_may_stand_there_twice() {
    let none = serde_json::json!({});
    for versions in
        [vec![version(2, "x"), version(1, "y")], vec![version(1, "x"), version(1, "y")], vec![version(0, "x")]]
    {
        let bytes = document(&serde_json::json!([secret(&none, &versions)]), &serde_json::json!([]));
        assert_eq!(verdict_of(&read_json(&bytes, "x").lines, "secret global/a"), Verdict::Damaged);
    }
    let one = secret(&none, &[version(1, "x")]);
    let bytes = document(&serde_json::json!([one, one]), &serde_json::json!([]));
    assert_eq!(verdict_of(&read_json(&bytes, "x").lines, "secret global/a"), Verdict::Damaged);
}

#[test]
fn profiles_and_orders_are_held_to_the_same_rules_as_here() {
    let source = ledger();
    import(&source, &gather(&fixture()), DEFAULT);
    let (profiles, orders) = source.exports().credentials().unwrap();
    let try_with = |change: &dyn Fn(&mut Gathered)| {
        let mut gathered = read_json(&document(&serde_json::json!([]), &serde_json::json!([])), "x");
        (gathered.profiles, gathered.orders) = (profiles.clone(), orders.clone());
        change(&mut gathered);
        let ledger = ledger();
        let done = import(&ledger, &gathered, DEFAULT);
        (done.stopped, done.lines)
    };
    assert!(!try_with(&|_| {}).0);
    let (stopped, lines) = try_with(&|gathered| gathered.profiles.push(gathered.profiles[0].clone()));
    assert!(stopped && lines.iter().any(|line| line.verdict == Verdict::Damaged), "{lines:#?}");
    let (stopped, lines) = try_with(&|gathered| gathered.orders.push(gathered.orders[0].clone()));
    assert!(stopped && lines.iter().any(|line| line.verdict == Verdict::Damaged), "{lines:#?}");
    for change in [
        (|order: &mut ImportedOrder| order.profiles.push(order.profiles[0].clone())) as fn(&mut ImportedOrder),
        |order| order.provider = "anthropic".parse().unwrap(),
        |order| order.profiles.push("nobody".parse().unwrap()),
        |order| order.profiles.clear(),
    ] {
        let (stopped, lines) = try_with(&|gathered| change(&mut gathered.orders[0]));
        assert!(stopped && lines.iter().any(|line| line.verdict == Verdict::Unfit), "{lines:#?}");
    }
}

#[test]
fn what_differs_from_what_is_here_is_said() {
    let ledger = ledger();
    let vault = ledger.vault(Scope::global());
    let name = "a".parse().unwrap();
    vault.put(&name, &SecretBytes::from(b"x".as_slice()), PutOptions::new().description("d")).unwrap();
    let said = |secret: serde_json::Value| {
        let bytes = document(&serde_json::json!([secret]), &serde_json::json!([]));
        let done = import(&ledger, &read_json(&bytes, "x"), DEFAULT);
        let line = done.lines.into_iter().find(|line| line.item == "secret global/a").unwrap();
        (line.verdict, line.what)
    };
    let described = serde_json::json!({"description": "d"});
    assert_eq!(said(secret(&described, &[version(1, "x")])).0, Verdict::Same);
    let expiring = {
        let mut version = version(1, "x");
        version["expires_at_ms"] = 5.into();
        version
    };
    let deleted = {
        let mut version = version(1, "x");
        version["deleted"] = true.into();
        version
    };
    for (given, word) in [
        (secret(&serde_json::json!({"description": "e"}), &[version(1, "x")]), "description"),
        (secret(&serde_json::json!({"description": "d", "labels": {"k": "v"}}), &[version(1, "x")]), "labels"),
        (secret(&described, &[expiring]), "expires"),
        (secret(&described, &[deleted]), "deleted"),
        (secret(&described, &[version(1, "y")]), "value"),
        (secret(&described, &[version(1, "w"), version(2, "x")]), "fewer versions"),
    ] {
        let (verdict, what) = said(given);
        assert!(verdict == Verdict::Conflict && what.contains(word), "{what}");
    }
    let env = || read_env(b"a=x\n", &Scope::global(), "x.env");
    assert!(!import(&ledger, &env(), DEFAULT).stopped, "an env file says nothing of descriptions");
    vault.delete(&name, Versions::All, None).unwrap();
    let done = import(&ledger, &env(), DEFAULT);
    assert!(done.stopped && done.lines[0].what.contains("it is deleted"), "{:#?}", done.lines);
    vault.shred(&name, Versions::All, None).unwrap();
    let done = import(&ledger, &env(), DEFAULT);
    assert!(done.stopped && done.lines[0].what.contains("was shredded"), "{:#?}", done.lines);
}

#[derive(Debug, Clone)]
struct Given {
    name: u8,
    values: Vec<Vec<u8>>,
    description: Option<String>,
    label: Option<(String, String)>,
    expires: Option<u64>,
    deleted: Option<usize>,
}

fn given() -> impl Strategy<Value = Given> {
    let value = prop::collection::vec(any::<u8>(), 1..40);
    (
        any::<u8>(),
        prop::collection::vec(value, 1..4),
        prop::option::of("[a-z ]{1,12}"),
        prop::option::of(("[a-z]{1,6}", "[a-z]{0,6}")),
        prop::option::of(1_u64..1 << 40),
        prop::option::of(0_usize..4),
    )
        .prop_map(|(name, values, description, label, expires, deleted)| Given {
            name,
            values,
            description,
            label,
            expires,
            deleted,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn export_and_import_keep_values_metadata_and_times(
        all in prop::collection::vec(given(), 1..6),
        scope in "(global|principal:[a-z:@+=;!,]{1,9}|channel:[a-z]{1,3}:[a-z:&*]{1,9})",
    ) {
        let first = ledger();
        let vault = first.vault(scope.parse().unwrap());
        for one in &all {
            let name = format!("n{}", one.name).parse().unwrap();
            for value in &one.values {
                let mut options = PutOptions::new();
                if let Some(text) = &one.description {
                    options = options.description(text);
                }
                if let Some((key, value)) = &one.label {
                    options = options.labels(BTreeMap::from([(key.clone(), value.clone())]));
                }
                if let Some(time) = one.expires {
                    options = options.expires_at(Timestamp::from_millis(time));
                }
                vault.put(&name, &SecretBytes::from(value.as_slice()), options).unwrap();
            }
            match one.deleted {
                Some(0) => drop(vault.delete(&name, Versions::All, None).unwrap()),
                Some(1) => drop(vault.delete(&name, Versions::One(1), None).unwrap()),
                _ => {}
            }
        }
        let document = exported(&first);
        let second = ledger();
        let bytes = serde_json::to_vec(&document).unwrap();
        let done = import(&second, &read_json(&bytes, "export.json"), DEFAULT);
        prop_assert!(!done.stopped, "{:#?}", done.lines);
        prop_assert_eq!(text(&exported(&second)), text(&document));
    }
}
