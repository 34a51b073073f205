//! Damaged stores that stay: `tests/vectors/damaged/<case>` with the verdict and the first finding in `EXPECTED`.
//!
//! `write_vectors` makes absent ones from the golden store of the third format step; none is ever edited.

use std::path::{Path, PathBuf};

use palyra_ledger::examine::{Asked, verify};
use palyra_ledger::inspect::{Course, Evidence};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/damaged")
}

/// What is done to the journal's second segment, and what it is called.
type Case = (&'static str, fn(&mut Vec<u8>, &Path));

/// The second segment of the store holds events 8 to 13 and a trailer.
const SECOND: &str = "journal/00000000000000000008.seg";
const LAST: &str = "journal/00000000000000000024.seg";

const CASES: [Case; 9] = [
    ("untouched", |_, _| {}),
    ("body-flipped", |bytes, _| bytes[128 + 200] ^= 1),
    ("header-flipped", |bytes, _| bytes[128 + 24] ^= 1),
    ("segment-header-flipped", |bytes, _| bytes[20] ^= 1),
    ("trailer-cut", |bytes, _| bytes.truncate(bytes.len() - 64)),
    ("overwritten", |bytes, _| bytes[400..1400].fill(0xFF)),
    ("segment-gone", |_, dir| std::fs::remove_file(dir.join(SECOND)).unwrap()),
    ("last-segment-gone", |_, dir| std::fs::remove_file(dir.join(LAST)).unwrap()),
    ("head-gone", |_, dir| std::fs::remove_file(dir.join("head")).unwrap()),
];

fn say(dir: &Path) -> String {
    let evidence = Evidence::at(dir).unwrap();
    let course = Course::of_home(&evidence, Path::new("")).unwrap();
    let assessment = verify(&evidence, &course, &Asked::default(), &mut |_, _| {});
    let mut text = format!("{}\n", assessment.verdict());
    for finding in &assessment.report().findings {
        text.push_str(&serde_json::to_string(finding).unwrap());
        text.push('\n');
    }
    text
}

#[test]
fn every_damaged_store_has_the_verdict_that_it_always_had() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root()).unwrap() {
        let dir = entry.unwrap().path();
        let expected = std::fs::read_to_string(dir.join("EXPECTED")).unwrap();
        assert_eq!(say(&dir.join("home")), expected, "{}", dir.display());
        seen += 1;
    }
    assert_eq!(seen, CASES.len());
}

#[test]
#[ignore = "writes absent vectors"]
fn write_vectors() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/0003-service-credentials/golden");
    for (name, tamper) in CASES {
        let dir = root().join(name);
        if dir.exists() {
            continue;
        }
        let home = dir.join("home");
        std::fs::create_dir_all(home.join("journal")).unwrap();
        for file in ["format", "backend.kind", "head"] {
            std::fs::copy(golden.join(file), home.join(file)).unwrap();
        }
        for entry in std::fs::read_dir(golden.join("journal")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), home.join("journal").join(entry.file_name())).unwrap();
        }
        let second = home.join(SECOND);
        let mut bytes = std::fs::read(&second).unwrap();
        tamper(&mut bytes, &home);
        if second.exists() {
            std::fs::write(&second, &bytes).unwrap();
        }
        std::fs::write(dir.join("EXPECTED"), say(&home)).unwrap();
    }
}
