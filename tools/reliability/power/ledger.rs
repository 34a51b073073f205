//! The ledger: what is recorded of it, and how a disk that a power cut left of it is checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use palyra_ledger::event::vault::Versions;
use palyra_ledger::inspect::FindingCode;
use palyra_ledger::{
    ArgonCost, AuditReads, Config, Error, ImportOptions, Ledger, NewSlot, PutOptions, SecretBytes, SecretPath,
    Settings, VerifyOptions,
};

use super::image;
use super::record::say;
use super::shadow::{Shadow, Version, value};
use super::states::Dice;
use super::subject::{Subject, Verdict};
use crate::Fault;

/// What is recorded of the ledger.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        name: "vault",
        what: "puts, deletions, shredding, rotations and checkpoints, one after the other",
        prepare: made,
        work: |root, seed| mixed(root, seed, Mix { commands: 40, shreds: 2, keys: 2 }),
        recover,
        check: |root, said| check(root, said, Depth::default()),
    },
    Subject {
        name: "creation",
        what: "a new home, and the first secrets in it",
        prepare: |_, _| Ok(Vec::new()),
        work: create,
        recover: recover_if_there,
        check: |root, said| check(root, said, Depth::default()),
    },
    Subject {
        name: "creation-below",
        what: "a new home in folders that are not there yet",
        prepare: |_, _| Ok(Vec::new()),
        work: |root, seed| create(&root.join("new/folders"), seed),
        recover: |root| recover_if_there(&root.join("new/folders")),
        check: |root, said| check(&root.join("new/folders"), said, Depth::default()),
    },
    Subject {
        name: "rotation",
        what: "rotations of the root key and of epochs, key slots added and removed, puts between them",
        prepare: made,
        work: |root, seed| mixed(root, seed, Mix { commands: 14, shreds: 1, keys: 8 }),
        recover,
        check: |root, said| check(root, said, Depth::default()),
    },
    Subject {
        name: "shredding",
        what: "every other command shreds",
        prepare: made,
        work: |root, seed| mixed(root, seed, Mix { commands: 30, shreds: 10, keys: 0 }),
        recover,
        check: |root, said| check(root, said, Depth { shreds: true, ..Depth::default() }),
    },
    Subject {
        name: "threads",
        what: "three threads at once, with the background threads and the sled copy",
        prepare: made,
        work: threads,
        recover: |root| Ok(Ledger::open(full(root))?.close()?),
        check: |root, said| check(root, said, Depth { witness: true, ..Depth::default() }),
    },
    Subject {
        name: "upgrade",
        what: "a home that an earlier version of the program left is opened, and written to",
        prepare: older,
        work: |root, _| {
            say("try 0 open")?;
            let ledger = Ledger::open(config(root))?;
            say("ack 0 open")?;
            command(&ledger, "0", "put global/after 40")?;
            Ok(ledger.close()?)
        },
        recover,
        check: |root, said| check(root, said, Depth::default()),
    },
    Subject {
        name: "import",
        what: "a whole store of another program is imported",
        prepare: made,
        work: |root, _| {
            let ledger = Ledger::open(config(root))?;
            command(&ledger, "0", "import")?;
            command(&ledger, "0", "put global/after 40")?;
            Ok(ledger.close()?)
        },
        recover,
        check: |root, said| check(root, said, Depth::default()),
    },
];

fn home(root: &Path) -> PathBuf {
    root.join("home")
}

fn settings(reads: AuditReads) -> Settings {
    let mut settings = Settings::default();
    settings.audit.reads = reads;
    // Small, so that a short recording closes several.
    settings.log.segment_bytes = 4096;
    settings.checkpoints.every_events = 16;
    settings
}

/// With everything, as the daemon has it.
fn full(root: &Path) -> Config {
    Config::new(home(root))
        .argon_cost(ArgonCost::for_tests())
        .settings(settings(AuditReads::Batched))
        .lock_wait(Duration::ZERO)
}

/// As a command has it: the journal alone, and everything in a fixed order.
fn config(root: &Path) -> Config {
    full(root).without_witness().without_background()
}

/// A home with a few secrets.
fn made(root: &Path, _: u64) -> Result<Vec<String>, Fault> {
    let ledger = Ledger::init(config(root), NewSlot::file("machine"))?;
    let mut said = vec!["ack 0 init".to_owned()];
    for number in 0..3 {
        let text = format!("put global/kept{number} {}", 40 + number * 30);
        run(&ledger, &text)?;
        said.push(format!("ack 0 {text}"));
    }
    ledger.close()?;
    Ok(said)
}

fn create(root: &Path, _: u64) -> Result<(), Fault> {
    say("try 0 init")?;
    let ledger = Ledger::init(config(root), NewSlot::file("machine"))?;
    say("ack 0 init")?;
    command(&ledger, "0", "put global/first 100")?;
    command(&ledger, "0", "put global/first 100")?;
    Ok(ledger.close()?)
}

fn recover(root: &Path) -> Result<(), Fault> {
    Ok(Ledger::open(config(root))?.close()?)
}

fn recover_if_there(root: &Path) -> Result<(), Fault> {
    match Ledger::open(config(root)) {
        Err(Error::NoLedger { .. }) => Ok(()),
        other => Ok(other?.close()?),
    }
}

/// Homes of earlier versions that need nothing outside of themselves.
const OLDER: &[&str] = &[
    "0001-first-format",
    "0002-device-trust",
    "0003-service-credentials",
    "0004-secret-references",
    "0005-storage-backends",
];

fn older(root: &Path, seed: u64) -> Result<Vec<String>, Fault> {
    let at = usize::try_from(seed % OLDER.len() as u64)?;
    let golden = Path::new("migrations").join(OLDER.get(at).ok_or("no such step")?).join("golden");
    let lay = |to: &Path| -> Result<(), Fault> {
        let mut image = image::Image::of(&golden).map_err(|fault| format!("{}: {fault}", golden.display()))?;
        for node in image.nodes.values_mut() {
            match node {
                image::Node::Folder(mode) => *mode = 0o700,
                image::Node::File(mode, ..) => *mode = 0o600,
            }
        }
        for folder in ["index", "quarantine"] {
            image.nodes.insert(folder.as_bytes().to_vec(), image::Node::Folder(0o700));
        }
        std::fs::create_dir_all(to)?;
        image::Stage::new(to.to_owned())?.lay(&image)?;
        image::private(to)
    };
    // What it holds is asked of another copy.
    let scratch = tempfile::tempdir()?;
    lay(&home(scratch.path()))?;
    let ledger = Ledger::open(config(scratch.path()))?;
    let shadow = Shadow::of(&ledger)?;
    ledger.close()?;
    lay(&home(root))?;
    Ok(shadow.commands().into_iter().map(|text| format!("ack 0 {text}")).collect())
}

/// Carries a command out.
fn run(ledger: &Ledger, text: &str) -> Result<(), Fault> {
    let words: Vec<&str> = text.split(' ').collect();
    let path = |reference: &str| -> Result<SecretPath, Fault> { Ok(reference.parse()?) };
    match words.as_slice() {
        ["root"] => drop(ledger.keys().rotate_root(&[], &[])?),
        ["epoch"] => drop(ledger.keys().rotate_epoch()?),
        ["checkpoint"] => drop(ledger.checkpoint()?),
        ["slot"] => {
            let slot = ledger.keys().add_slot(NewSlot::file("another"))?.id();
            ledger.keys().remove_slot(slot, None)?;
        }
        ["put", reference, len] => {
            let SecretPath { scope, name } = path(reference)?;
            let vault = ledger.vault(scope);
            let next = vault.history(&name).map_or(0, |history| history.versions.len()) + 1;
            let value = SecretBytes::new(value(reference, next, len.parse()?));
            vault.put(&name, &value, PutOptions::new())?;
        }
        [what, reference, version] => {
            let SecretPath { scope, name } = path(reference)?;
            let (vault, version) = (ledger.vault(scope), Versions::One(version.parse()?));
            match *what {
                "delete" => vault.delete(&name, version, None)?,
                "undelete" => vault.undelete(&name, version, None)?,
                _ => vault.shred(&name, version, None)?,
            };
        }
        _ => {
            use palyra_ledger::import::palyra;
            let source = Path::new("migrations/importer-fixtures/palyra-store");
            let keystore = palyra_ledger::testing::MemoryKeystore::default();
            let gathered = palyra::read(source, &palyra::Places::default(), &keystore, &|_, _| {});
            let done = ledger.imports().run(&gathered, ImportOptions::default(), &|_, _| {})?;
            done.seq.ok_or("nothing was imported")?;
        }
    }
    Ok(())
}

/// Says that a command begins, carries it out, and says that it was.
fn command(ledger: &Ledger, thread: &str, text: &str) -> Result<(), Fault> {
    say(&format!("try {thread} {text}"))?;
    run(ledger, text)?;
    say(&format!("ack {thread} {text}"))
}

/// How often what is drawn, of twenty.
#[derive(Debug, Clone, Copy)]
struct Mix {
    commands: u32,
    shreds: usize,
    keys: usize,
}

/// The next command of a thread, which writes its own names alone.
fn draw(dice: &mut Dice, shadow: &Shadow, thread: &str, mix: Mix) -> String {
    let kind = dice.below(20);
    if kind < mix.keys {
        return ["root", "epoch", "slot", "checkpoint"].get(dice.below(4)).copied().unwrap_or("epoch").to_owned();
    }
    let own = shadow.secrets.iter().filter(|(reference, _)| reference.contains(&format!("-{thread}-")));
    let versions: Vec<(&String, usize, &Version)> = own
        .flat_map(|(reference, versions)| {
            versions.iter().enumerate().map(move |(at, version)| (reference, at + 1, version))
        })
        .filter(|(_, _, version)| **version != Version::Shredded)
        .collect();
    let drawn = versions.get(dice.below(versions.len()));
    if let Some((reference, number, version)) = drawn {
        if kind < mix.keys + mix.shreds {
            return format!("shred {reference} {number}");
        }
        if kind < mix.keys + mix.shreds + 3 {
            let what = if matches!(version, Version::Live(_)) { "delete" } else { "undelete" };
            return format!("{what} {reference} {number}");
        }
    }
    let lengths = [20, 90, 400, 1_500, 6_000];
    let len = lengths.get(dice.below(lengths.len())).copied().unwrap_or(20);
    format!("put global/s-{thread}-{} {len}", dice.below(5))
}

fn drawn(ledger: &Ledger, seed: u64, thread: &str, mix: Mix) -> Result<(), Fault> {
    let (mut dice, mut shadow) = (Dice::new(seed), Shadow::default());
    for _ in 0..mix.commands {
        let text = draw(&mut dice, &shadow, thread, mix);
        command(ledger, thread, &text)?;
        shadow.apply(&text)?;
    }
    Ok(())
}

fn mixed(root: &Path, seed: u64, mix: Mix) -> Result<(), Fault> {
    let ledger = Ledger::open(config(root))?;
    drawn(&ledger, seed, "0", mix)?;
    Ok(ledger.close()?)
}

fn threads(root: &Path, seed: u64) -> Result<(), Fault> {
    let ledger = Ledger::open(full(root))?;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u64)
            .map(|thread| {
                let ledger = &ledger;
                let mix = Mix { commands: 12, shreds: 3, keys: usize::from(thread == 0) };
                scope.spawn(move || drawn(ledger, seed.wrapping_mul(3) + thread, &thread.to_string(), mix))
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    })?;
    Ok(ledger.close()?)
}

/// What is looked at beside the usual.
#[derive(Debug, Clone, Copy, Default)]
struct Depth {
    /// With the sled copy.
    witness: bool,
    /// What was shredded is overwritten before anybody opens the home for writing.
    shreds: bool,
}

fn check(root: &Path, said: &[String], depth: Depth) -> Verdict {
    let begun = |what: &str| said.iter().any(|line| line.starts_with("try ") && line.contains(what));
    let allowed = match Shadow::allowed(said) {
        Ok(allowed) => allowed,
        Err(fault) => return Verdict::Wrong(fault.to_string()),
    };
    if depth.shreds
        && let Some(what) = unfinished_shred(root, said)
    {
        return Verdict::Lost(what);
    }
    let open = || Ledger::open(if depth.witness { quiet(full(root)) } else { quiet(config(root)) });
    let ledger = match open() {
        Ok(ledger) => ledger,
        Err(Error::NoLedger { .. }) if allowed.iter().any(|shadow| !shadow.there) => return after_nothing(root),
        Err(Error::NoLedger { .. }) if begun("init") => return Verdict::Lost("there is no ledger".to_owned()),
        Err(error) => return Verdict::Unopened(error.to_string()),
    };
    match whole(&ledger, &allowed).and_then(|verdict| ledger.close().map(|()| verdict).map_err(Fault::from)) {
        Ok(Verdict::Good) => {}
        Ok(verdict) => return verdict,
        Err(fault) => return Verdict::Wrong(fault.to_string()),
    }
    drop(ledger);
    // Opening once more finds nothing to do.
    let again = || -> Result<Verdict, Fault> {
        let facts = |ledger: &Ledger| -> Result<_, Fault> { Ok((ledger.log().head()?, ledger.state_root()?)) };
        let before = facts(&Ledger::open(quiet(config(root)).read_only())?)?;
        let ledger = open()?;
        let after = facts(&ledger)?;
        ledger.close()?;
        Ok(if before == after {
            Verdict::Good
        } else {
            Verdict::Wrong(format!("opening it once more changed it: {before:?}, then {after:?}"))
        })
    };
    again().unwrap_or_else(|fault| Verdict::Unopened(format!("the second time: {fault}")))
}

/// Without a record of the check's own reads.
fn quiet(config: Config) -> Config {
    config.settings(settings(AuditReads::Off))
}

/// Where creation was cut, it can be begun again.
fn after_nothing(root: &Path) -> Verdict {
    if home(root).exists() {
        return Verdict::Wrong("there is a home, and no ledger in it".to_owned());
    }
    match Ledger::init(quiet(config(root)), NewSlot::file("machine")).map(|ledger| ledger.close()) {
        Ok(Ok(())) => Verdict::Good,
        Ok(Err(error)) | Err(error) => Verdict::Wrong(format!("creation cannot be begun again: {error}")),
    }
}

fn whole(ledger: &Ledger, allowed: &[Shadow]) -> Result<Verdict, Fault> {
    let report = ledger.verify(VerifyOptions { state: true, witness: false })?;
    if !report.ok {
        return Ok(Verdict::Wrong(format!("verify: {:?}", report.findings)));
    }
    let found = Shadow::of(ledger)?;
    if allowed.iter().any(|shadow| shadow.fits(&found)) {
        return Ok(Verdict::Good);
    }
    let lacks = allowed.iter().map(|shadow| shadow.lacks(&found)).collect::<Option<Vec<_>>>();
    Ok(match lacks.and_then(|all| all.into_iter().next()) {
        Some(what) => Verdict::Lost(what),
        None => Verdict::Wrong("something is there that was not acknowledged, or half of it".to_owned()),
    })
}

/// Whether a key that an acknowledged command shredded is still there. Only the last command may be on its way.
fn unfinished_shred(root: &Path, said: &[String]) -> Option<String> {
    if said.last().is_some_and(|line| line.starts_with("try ") && line.contains(" shred ")) {
        return None;
    }
    // An index that does not fit is no matter of this check.
    let ledger = Ledger::open(quiet(config(root)).read_only()).ok()?;
    let report = ledger.verify(VerifyOptions { state: true, witness: false }).ok()?;
    let finding = report.findings.into_iter().find(|finding| finding.code == FindingCode::ShredIncomplete)?;
    Some(format!("acknowledged as shredded: {}", finding.what))
}
