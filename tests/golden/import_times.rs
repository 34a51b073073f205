//! Orders that come with the time at which their source set them, beside one that came without.

use palyra_ledger::import::read_json;
use palyra_ledger::testing::{ManualClock, SimDisk};
use palyra_ledger::{ImportOptions, Ledger};

use super::{Release, config, fields, imports, told_with};

pub const RELEASE: Release = Release { folder: "0011-import-times", make, told };

fn told(ledger: &Ledger) -> String {
    told_with(ledger, |entry| match entry.kind {
        108 => format!(" v{} {}", entry.schema, fields(entry)),
        _ => String::new(),
    })
}

fn make() -> SimDisk {
    let (disk, clock) = (imports::RELEASE.load(), ManualClock::default());
    clock.advance(10_000);
    let ledger = Ledger::open(config(&disk, 11, &clock)).unwrap();
    let document =
        br#"{"format": "palyra-ledger export 1", "ledger": "00", "seq": 4, "exported_at_ms": 9, "secrets": [],
        "devices": [], "authorities": [], "profiles": [], "orders": [
            {"scope": "agent:build", "provider": "openai", "profiles": ["openai-spare"], "updated_at": 1795475231989},
            {"scope": "agent:test", "provider": "openai", "profiles": ["openai-main"]}]}"#;
    let gathered = read_json(document, "export");
    let done = ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {}).unwrap();
    assert!(done.seq.is_some(), "{:?}", gathered.lines);
    ledger.close().unwrap();
    disk
}

#[test]
fn the_log_of_an_import_without_times_stands_in_this_one_byte_for_byte() {
    let (before, now) = (imports::RELEASE.load(), RELEASE.load());
    for path in before.files().iter().filter(|path| path.starts_with("/home/journal")) {
        let (old, new) = (before.contents(path).unwrap(), now.contents(path).unwrap());
        assert!(new.starts_with(&old), "{}", path.display());
    }
}

#[test]
fn an_order_says_when_its_source_set_it_or_that_nobody_said() {
    let ledger = RELEASE.open();
    let mut times = Vec::new();
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            if entry.kind == 108 {
                let shown = entry.fields();
                let orders = shown["orders"].as_array().unwrap().iter();
                times.extend(orders.map(|order| (entry.schema, order["updated_at"].as_u64())));
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(times, [(1, None), (2, Some(1_795_475_231_989)), (2, None)]);
}
