//! A store in Palyra's file layout that was imported, one damaged item left behind, then everything given out.

use std::path::Path;

use palyra_ledger::import::palyra::{Places, read};
use palyra_ledger::testing::{ManualClock, MemoryKeystore, SimDisk};
use palyra_ledger::{ImportOptions, Ledger, NewSlot, PutOptions, SecretBytes};

use super::{Release, config, fields, told_with};

pub const RELEASE: Release = Release { folder: "0009-imports", make, told };

fn told(ledger: &Ledger) -> String {
    let more = |entry: &palyra_ledger::Entry| match entry.kind {
        22 | 44 | 45 | 90 | 91 | 108 => format!(" {}", fields(entry)),
        _ => String::new(),
    };
    told_with(ledger, more)
}

fn make() -> SimDisk {
    let (disk, clock) = (SimDisk::new(), ManualClock::default());
    let ledger = Ledger::init(config(&disk, 9, &clock), NewSlot::file("machine")).unwrap();
    let vault = ledger.vault("global".parse().unwrap());
    for value in ["first", "second"] {
        let value = SecretBytes::from(value.as_bytes());
        vault.put(&"api_key".parse().unwrap(), &value, PutOptions::new()).unwrap();
    }
    clock.advance(1000);
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/importer-fixtures/palyra-store");
    let mut gathered = read(&store, &Places::default(), &MemoryKeystore::default(), &|_, _| {});
    "palyra-store".clone_into(&mut gathered.origin);
    // Text alone, so that what the store says can be read.
    gathered.secrets.retain(|one| std::str::from_utf8(one.value.expose()).is_ok());
    let done = ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {}).unwrap();
    assert!(done.seq.is_some());
    clock.advance(1000);
    ledger.exports().secrets(&["age1recipient".to_owned()], &|_, _| {}).unwrap();
    ledger.close().unwrap();
    disk
}
