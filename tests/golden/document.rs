//! FORMAT.md's table of events says what the sources say, field by field.

use std::collections::BTreeMap;

use palyra_ledger::event::Kind;

const SOURCES: [&str; 6] = [
    include_str!("../../src/event/auth.rs"),
    include_str!("../../src/event/compromise.rs"),
    include_str!("../../src/event/system.rs"),
    include_str!("../../src/event/vault.rs"),
    include_str!("../../src/event/identity.rs"),
    include_str!("../../src/event/import.rs"),
];

/// Every public structure's fields, as the table writes them.
fn structures() -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    for source in SOURCES {
        for part in source.split("\npub struct ").skip(1) {
            let Some((name, rest)) = part.split_once(" {") else { continue };
            let fields = rest.split_once("\n}").unwrap().0.lines();
            let fields =
                fields.filter_map(|line| line.trim().strip_prefix("pub ")?.strip_suffix(',')?.split_once(": "));
            let fields: Vec<_> = fields.map(|(name, kind)| format!("`{name}` {kind}")).collect();
            found.insert(name, fields.join(", ").replace("BTreeMap<String, String>", "map of strings to strings"));
        }
    }
    found
}

#[test]
fn the_table_of_events_is_whole() {
    let (document, structures) = (include_str!("../../FORMAT.md"), structures());
    for kind in Kind::ALL {
        let words = kind.name().split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
        let fields = structures.get(words.collect::<String>().as_str());
        let row = format!("| {} | `{}` | {} |", kind.number(), kind.name(), fields.unwrap());
        assert!(document.contains(&row), "FORMAT.md lacks {row}");
    }
}
