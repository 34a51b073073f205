//! What is recorded about resolutions, and what never is.

use palyra_ledger::event::Event;
use palyra_ledger::event::vault::ResolutionNote;
use palyra_ledger::resolve::{Bound, SecretResolver};
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{AuditReads, Config, Error, Ledger, NewSlot, ResolveSettings, Scope, Settings};

use super::{CANARY, Folder, caller, config, events, file_ref, give, ledger_with, put, reference, resolver, text, why};

fn notes(ledger: &Ledger) -> Vec<ResolutionNote> {
    let of = |event| match event {
        Event::ReferencesResolved(event) => event.notes,
        _ => Vec::new(),
    };
    events(ledger).into_iter().flat_map(of).collect()
}

/// What was recorded: the reference as shown, the status and how often.
fn told(ledger: &Ledger) -> Vec<(String, &'static str, u32)> {
    let mut told: Vec<_> = notes(ledger).into_iter().map(|note| (note.shown, note.status.name(), note.count)).collect();
    told.sort();
    told
}

#[test]
fn resolutions_and_refusals_are_gathered_and_counted() {
    let ledger = ledger_with(AuditReads::Batched, ResolveSettings::default());
    put(&ledger, "global/a", CANARY);
    for _ in 0..3 {
        assert_eq!(text(&give(&ledger, "palyra://global/a")).as_deref(), Some(CANARY));
    }
    assert_eq!(why(&give(&ledger, "palyra://global/b?required=false")), "no_secret");
    assert_eq!(why(&give(&ledger, "env://PATH")), "env_not_allowed");
    assert_eq!(told(&ledger), []);
    ledger.flush_reads().unwrap();
    let expected = [("env:PATH", "blocked", 1), ("vault:global/a", "resolved", 3), ("vault:global/b", "missing", 1)];
    let expected = expected.map(|(shown, status, count)| (shown.to_owned(), status, count));
    assert_eq!(told(&ledger), expected);
    // The read itself is recorded as every read is, once.
    let reads: u32 = events(&ledger)
        .iter()
        .map(|event| match event {
            Event::SecretsRead(event) => event.reads.iter().map(|read| read.count).sum(),
            _ => 0,
        })
        .sum();
    assert_eq!(reads, 3);
    assert!(events(&ledger).iter().any(|event| event.secret_refs().contains(&"global/b".to_owned())));
}

#[test]
fn off_records_refusals_alone() {
    let ledger = ledger_with(AuditReads::Off, ResolveSettings::default());
    put(&ledger, "global/a", CANARY);
    assert!(give(&ledger, "palyra://global/a").value.is_some());
    assert_eq!(why(&give(&ledger, "env://PATH")), "env_not_allowed");
    ledger.flush_reads().unwrap();
    assert_eq!(told(&ledger), [("env:PATH".to_owned(), "blocked", 1)]);
}

#[test]
fn strict_records_before_the_value_is_given() {
    let ledger = ledger_with(AuditReads::Strict, ResolveSettings::default());
    put(&ledger, "global/a", CANARY);
    for times in 1..=2 {
        assert!(give(&ledger, "palyra://global/a").value.is_some());
        assert_eq!(told(&ledger).len(), times);
    }
}

#[test]
fn a_reading_process_leaves_resolutions_to_the_next_writer_and_refuses_where_they_must_be_durable() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let with = |reads| {
        let mut settings = Settings::default();
        settings.resolve.env_allow = vec!["PATH".to_owned()];
        settings.audit.reads = reads;
        Config::new(&home).settings(settings)
    };
    let ledger = Ledger::init(with(AuditReads::Batched), NewSlot::file("machine")).unwrap();
    put(&ledger, "global/a", CANARY);
    ledger.close().unwrap();
    let reader = Ledger::open(with(AuditReads::Batched).read_only()).unwrap();
    assert!(give(&reader, "env://PATH").value.is_some());
    assert!(give(&reader, "palyra://global/a").value.is_some());
    reader.close().unwrap();
    let strict = Ledger::open(with(AuditReads::Strict).read_only()).unwrap();
    for text in ["env://PATH", "palyra://global/a"] {
        assert!(matches!(resolver(&strict).resolve(&reference(text)), Err(Error::ReadOnly)), "{text}");
    }
    assert_eq!(why(&give(&strict, "env://HOME")), "env_not_allowed");
    strict.close().unwrap();
    let spool = std::fs::read(home.join("reads.spool")).unwrap();
    assert!(!spool.windows(6).any(|window| window == b"global"), "the spool is sealed");
    let ledger = Ledger::open(with(AuditReads::Batched)).unwrap();
    let expected = [("env:HOME", "blocked", 1), ("env:PATH", "resolved", 1), ("vault:global/a", "resolved", 1)];
    assert_eq!(told(&ledger), expected.map(|(shown, status, count)| (shown.to_owned(), status, count)));
    ledger.close().unwrap();
}

#[test]
fn a_resolver_of_one_scope_gives_no_others_secrets() {
    let ledger = ledger_with(AuditReads::Batched, ResolveSettings::default());
    put(&ledger, "skill:mail/key", "mine");
    put(&ledger, "global/key", CANARY);
    let bound: Scope = "skill:mail".parse().unwrap();
    let resolver = SecretResolver::new(&ledger, caller(), Bound::Scope(bound));
    assert_eq!(text(&resolver.resolve(&reference("palyra://skill:mail/key")).unwrap()).as_deref(), Some("mine"));
    for wanted in ["palyra://global/key", "palyra://global/none", "palyra://skill:other/key"] {
        let denied = resolver.resolve(&reference(wanted)).unwrap();
        assert_eq!((why(&denied), denied.value.is_none()), ("scope_denied", true), "{wanted}");
        let (checks, reason) = resolver.explain(&reference(wanted)).unwrap();
        assert_eq!(
            (checks.len(), reason.unwrap().code.name()),
            (1, "scope_denied"),
            "nothing is told of what is there"
        );
    }
    ledger.flush_reads().unwrap();
    let denials = events(&ledger).iter().filter(|event| matches!(event, Event::CommandRefused(_))).count();
    assert_eq!(denials, 3, "the vault records them as every denied read");
    assert_eq!(told(&ledger).iter().filter(|(_, status, _)| *status == "blocked").count(), 3);
}

#[test]
fn versions_fields_and_bounds_hold() {
    let ledger = ledger_with(AuditReads::Batched, ResolveSettings::default());
    put(&ledger, "global/a", "first");
    put(&ledger, "global/a", &format!("{{\"token\": \"{CANARY}\", \"n\": 1.50, \"deep\": [{{\"x\": true}}]}}"));
    for (wanted, value) in [
        ("palyra://global/a?version=1", "first"),
        ("palyra://global/a?field=token", CANARY),
        ("palyra://global/a?field=n", "1.50"),
        ("palyra://global/a?field=/deep/0/x", "true"),
    ] {
        assert_eq!(text(&give(&ledger, wanted)).as_deref(), Some(value), "{wanted}");
    }
    for (wanted, reason) in [
        ("palyra://global/a?version=3", "no_version"),
        ("palyra://global/a?version=1&field=token", "not_json"),
        ("palyra://global/a?field=none", "no_field"),
        ("palyra://global/a?field=deep", "field_kind"),
        ("palyra://global/a?max_bytes=8", "too_large"),
    ] {
        let resolution = give(&ledger, wanted);
        assert_eq!((why(&resolution), resolution.value.is_none()), (reason, true), "{wanted}");
        assert!(!format!("{resolution:?} {}", resolution.reason.as_ref().unwrap()).contains(CANARY), "{wanted}");
    }
    let deleted = ledger.vault(Scope::global());
    deleted.delete(&"a".parse().unwrap(), palyra_ledger::event::vault::Versions::All, None).unwrap();
    assert_eq!(why(&give(&ledger, "palyra://global/a")), "deleted");
}

#[test]
fn only_listed_variables_are_read() {
    let allow = ["CARGO_PKG_NAME", "CARGO_PKG_VER*", "NOT_SET_ANYWHERE"].map(str::to_owned).to_vec();
    let ledger = ledger_with(AuditReads::Batched, ResolveSettings { env_allow: allow, ..ResolveSettings::default() });
    assert_eq!(text(&give(&ledger, "env://CARGO_PKG_NAME")).as_deref(), Some("palyra-ledger"));
    assert_eq!(text(&give(&ledger, "env://CARGO_PKG_VERSION")).as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(why(&give(&ledger, "env://NOT_SET_ANYWHERE")), "env_unset");
    for name in ["CARGO_PKG_NAME_", "CARGO_PKG_VE", "PATH", "CARGO_MANIFEST_DIR"] {
        assert_eq!(why(&give(&ledger, &format!("env://{name}"))), "env_not_allowed", "{name}");
    }
}

#[test]
fn fingerprints_stay_through_rotations_and_tell_equal_values() {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let config = || config(&disk, &clock, AuditReads::Batched, ResolveSettings::default());
    let ledger = Ledger::init(config(), NewSlot::file("machine")).unwrap();
    put(&ledger, "global/a", CANARY);
    put(&ledger, "global/b", CANARY);
    put(&ledger, "global/c", "another");
    let prints = |ledger: &Ledger| {
        ["a", "b", "c"].map(|name| {
            let resolution = give(ledger, &format!("palyra://global/{name}"));
            let replayed = ledger.value_fingerprint(&format!("global/{name}").parse().unwrap(), 1).unwrap();
            assert_eq!(resolution.value_fingerprint, replayed, "one value has one fingerprint, whoever shows it");
            (resolution.fingerprint, resolution.value_fingerprint.unwrap())
        })
    };
    let before = prints(&ledger);
    assert_eq!(before[0].1, before[1].1);
    assert!(before[0].1 != before[2].1 && before[0].0 != before[1].0);
    ledger.keys().rotate_epoch().unwrap();
    ledger.keys().rotate_root(&[], &[]).unwrap();
    assert_eq!(prints(&ledger), before);
    ledger.close().unwrap();
    assert_eq!(prints(&Ledger::open(config()).unwrap()), before);
    let dir = tempfile::tempdir().unwrap();
    let other = Ledger::init(Config::new(dir.path().join("home")), NewSlot::file("machine")).unwrap();
    put(&other, "global/a", CANARY);
    let strange = give(&other, "palyra://global/a");
    assert!(strange.fingerprint != before[0].0 && strange.value_fingerprint != Some(before[0].1), "keys differ");
    other.close().unwrap();
}

#[test]
fn a_value_stands_in_no_event_no_debug_and_no_file() {
    let dir = Folder::new();
    let t = dir.folder("t");
    let path = dir.file("t/key", CANARY, 0o600);
    let bad = dir.file("t/bad", CANARY, 0o644);
    let program = dir.file("program", &format!("#!/bin/sh\necho {CANARY}; echo {CANARY} >&2; exit $1\n"), 0o700);
    let rules = ResolveSettings { file_dirs: vec![t], exec_allow: vec![program.clone()], ..ResolveSettings::default() };
    let home = dir.path("home");
    let settings = Settings { resolve: rules, ..Settings::default() };
    let ledger = Ledger::init(Config::new(&home).settings(settings), NewSlot::file("machine")).unwrap();
    put(&ledger, "global/a", CANARY);
    let wanted: Vec<_> = [file_ref(&path), file_ref(&bad)]
        .into_iter()
        .chain([0, 1].map(|status| reference(&format!("exec://{}?arg={status}&field=x", program.display()))))
        .chain(["palyra://global/a", "palyra://global/a?field=x"].map(reference))
        .collect();
    let resolutions = resolver(&ledger).resolve_all(&wanted).unwrap();
    assert_eq!(resolutions.iter().filter(|resolution| resolution.value.is_some()).count(), 2);
    ledger.flush_reads().unwrap();
    let said = format!("{resolutions:?} {:?} {:?}", resolver(&ledger), events(&ledger));
    assert!(!said.contains(CANARY), "{said}");
    let shown = notes(&ledger);
    assert_eq!(shown.len(), 6);
    assert!(shown.iter().all(|note| !note.shown.contains('?') && !note.shown.contains("/t/")), "{shown:?}");
    ledger.close().unwrap();
    let mut folders = vec![home];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{}", path.display());
            }
        }
    }
}
