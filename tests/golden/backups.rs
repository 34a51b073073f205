//! A home that was restored from a backup and its increment; and the two files, which must restore for ever.

use palyra_ledger::backup::{BackupFile, Identities};
use palyra_ledger::testing::{ManualClock, SeededRandom, SimDisk};
use palyra_ledger::{
    BackupMade, BackupOptions, Credential, Ledger, NewSlot, PutOptions, RecoveryWords, Restoration, SecretBytes,
    VerifyOptions,
};

use super::{Release, config, told_with};

pub const RELEASE: Release = Release { folder: "0010-backups", make, told };

const FILES: [&str; 2] = ["full.plb", "more.plb"];

/// Every field of both kinds, and the roots that the files restore to.
fn told(ledger: &Ledger) -> String {
    let events = told_with(ledger, |entry| match entry.kind {
        23 | 24 => format!(" {}", entry.fields()),
        _ => String::new(),
    });
    let restored = from_files(&SimDisk::new());
    format!("{events}restored {} {} {}\n", restored.to, restored.head, restored.state_root)
}

fn put(ledger: &Ledger, value: &str) {
    let value = SecretBytes::from(value.as_bytes());
    ledger.vault("global".parse().unwrap()).put(&"api_key".parse().unwrap(), &value, PutOptions::new()).unwrap();
}

fn backup(ledger: &Ledger, name: &str, options: &BackupOptions) -> BackupMade {
    let mut file = Vec::new();
    let go_on = |_, _| std::ops::ControlFlow::Continue(());
    let made = ledger.backup(&mut file, options, &mut || Ok(()), &go_on).unwrap();
    std::fs::write(RELEASE.folder().join(name), file).unwrap();
    made
}

fn make() -> SimDisk {
    let clock = ManualClock::default();
    let ledger = Ledger::init(config(&SimDisk::new(), 10, &clock), NewSlot::file("machine")).unwrap();
    let words = RecoveryWords::generate(&SeededRandom::new(10)).unwrap();
    std::fs::write(RELEASE.folder().join("WORDS"), words.text().expose()).unwrap();
    ledger.keys().add_slot(NewSlot::recovery("drawer", &words)).unwrap();
    put(&ledger, "first");
    let [full, more] = FILES;
    let made = backup(&ledger, full, &BackupOptions::default());
    clock.advance(1000);
    put(&ledger, "second");
    backup(&ledger, more, &BackupOptions { after: Some((made.to, Some(made.head))), ..BackupOptions::default() });
    let disk = SimDisk::new();
    from_files(&disk);
    let restored = Ledger::open(config(&disk, 12, &clock)).unwrap();
    restored.keys().rotate_epoch().unwrap();
    restored.close().unwrap();
    disk
}

fn from_files(disk: &SimDisk) -> Restoration {
    let words = std::fs::read(RELEASE.folder().join("WORDS")).unwrap();
    let config = config(disk, 11, &ManualClock::default());
    let config = config.credential(Credential::Recovery(SecretBytes::from(words.as_slice())));
    let mut files = FILES.map(|name| BackupFile::open(&RELEASE.folder().join(name)).unwrap());
    Ledger::restore(&config, &mut files, &Identities::default(), &|_, _| std::ops::ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_backup_of_any_release_restores_for_ever() {
    let expected = RELEASE.expected();
    let disk = SimDisk::new();
    let restored = from_files(&disk);
    let line = format!("restored {} {} {}", restored.to, restored.head, restored.state_root);
    assert_eq!(expected.lines().last(), Some(line.as_str()));
    let ledger = Ledger::open(config(&disk, 13, &ManualClock::default())).unwrap();
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).unwrap();
    assert!(report.ok, "{:?}", report.findings);
    let secret = ledger.vault("global".parse().unwrap()).get(&"api_key".parse().unwrap()).unwrap();
    assert_eq!(secret.value.expose(), b"second");
}
