//! What the program is built of: crates, licences, versions that stand twice, `unsafe`, advisories, a bill of
//! materials (`CycloneDX` 1.5), and whether two builds give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::outcome::{Outcome, Table};
use crate::{Fault, Run};

/// The programs that are shipped.
const PROGRAMS: [&str; 2] = ["palyra-ledger", "palyra-forensic"];

/// A package of the product's own tree.
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    dir: PathBuf,
}

fn cargo(words: &[&str]) -> Result<Vec<u8>, Fault> {
    let output = Command::new("cargo").args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("cargo {} ended with {}", words.join(" "), output.status).into());
    }
    Ok(output.stdout)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// What a release links: ordinary dependencies from the package itself on, without those of builds and tests.
fn tree(metadata: &Value) -> Result<Vec<Package>, Fault> {
    let resolve = metadata.get("resolve").ok_or("cargo metadata says nothing of what it resolved")?;
    let nodes: BTreeMap<&str, &Value> = list(resolve, "nodes").map(|node| (text(node, "id"), node)).collect();
    let mut reached = BTreeSet::new();
    let mut waiting = vec![text(resolve, "root")];
    while let Some(id) = waiting.pop() {
        if !reached.insert(id) {
            continue;
        }
        let Some(node) = nodes.get(id) else { continue };
        let ordinary = |dep: &&Value| list(dep, "dep_kinds").any(|kind| kind.get("kind").is_none_or(Value::is_null));
        waiting.extend(list(node, "deps").filter(ordinary).map(|dep| text(dep, "pkg")));
    }
    let package = |package: &Value| Package {
        name: text(package, "name").to_owned(),
        version: text(package, "version").to_owned(),
        licence: package.get("license").and_then(Value::as_str).map(str::to_owned),
        dir: Path::new(text(package, "manifest_path")).parent().unwrap_or(Path::new("")).to_owned(),
    };
    Ok(list(metadata, "packages").filter(|one| reached.contains(text(one, "id"))).map(package).collect())
}

/// Places where a source file begins something unsafe, outside of comments that fill a line.
fn unsafe_in(path: &Path) -> u64 {
    let Ok(source) = fs::read_to_string(path) else { return 0 };
    let code = source.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let begins = |line: &str| {
        let at = |(at, word): &(usize, &str)| {
            let before = line.get(..*at).and_then(|before| before.chars().next_back());
            let rest = line.get(at + word.len()..).unwrap_or_default().trim_start();
            let whole = !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == '"');
            whole && ["{", "fn ", "impl ", "impl<", "trait ", "extern "].iter().any(|what| rest.starts_with(what))
        };
        line.match_indices("unsafe").filter(at).count() as u64
    };
    code.map(begins).sum()
}

fn unsafe_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |path: PathBuf| match path.extension().and_then(|ext| ext.to_str()) {
        _ if path.is_dir() && !path.is_symlink() => unsafe_below(&path),
        Some("rs") => unsafe_in(&path),
        _ => 0,
    };
    entries.flatten().map(|entry| of(entry.path())).sum()
}

/// SHA-256 of each package's archive, as the lock file holds it.
fn checksums() -> Result<BTreeMap<(String, String), String>, Fault> {
    let lock: toml::Table = fs::read_to_string("Cargo.lock")?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let field = |package: &toml::Value, name: &str| package.get(name)?.as_str().map(str::to_owned);
    Ok(packages
        .filter_map(|one| Some(((field(one, "name")?, field(one, "version")?), field(one, "checksum")?)))
        .collect())
}

/// A bill of materials, the same for the same lock file.
fn bill(packages: &[Package]) -> Result<Value, Fault> {
    let checksums = checksums()?;
    let component = |package: &Package| {
        let Package { name, version, licence, .. } = package;
        let mut component = json!({
            "type": "library",
            "bom-ref": format!("pkg:cargo/{name}@{version}"),
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
        });
        if let (Some(fields), Some(licence)) = (component.as_object_mut(), licence) {
            fields.insert("licenses".to_owned(), json!([{"expression": licence.replace('/', " OR ")}]));
        }
        if let (Some(fields), Some(sum)) = (component.as_object_mut(), checksums.get(&(name.clone(), version.clone())))
        {
            fields.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": sum}]));
        }
        component
    };
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
        }},
        "components": packages.iter().map(component).collect::<Vec<_>>(),
    }))
}

/// Builds twice into folders of different names and compares the programs.
fn built_twice(dir: &Path, table: &mut Table) -> Result<Vec<String>, Fault> {
    let mut digests = Vec::new();
    for target in ["one", "the-other"].map(|name| dir.join(name)) {
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "--locked"]).env("CARGO_TARGET_DIR", &target);
        for program in PROGRAMS {
            build.args(["--bin", program]);
        }
        let status = build.stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("cargo build --release ended with {status}").into());
        }
        let digest = |program: &&str| -> Result<String, Fault> {
            let bytes = fs::read(target.join("release").join(program))?;
            Ok(Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }))
        };
        digests.push(PROGRAMS.iter().map(digest).collect::<Result<Vec<_>, _>>()?);
    }
    let [first, second] = digests.as_slice() else { return Ok(Vec::new()) };
    let mut differing = Vec::new();
    for ((program, one), other) in PROGRAMS.iter().zip(first).zip(second) {
        table.row(&[(*program).to_owned(), one.clone(), if one == other { "the same" } else { "ANOTHER" }.to_owned()]);
        if one != other {
            differing.push(format!("two builds of {program} differ: {one} and {other}"));
        }
    }
    Ok(differing)
}

/// What became of a step that may be left out.
enum Step {
    Done(String),
    Skipped(String),
}

/// Looks the lock file's packages up; a finding is a failure.
fn advisories(failures: &mut Vec<String>) -> Result<Step, Fault> {
    if !Command::new("cargo").args(["audit", "--version"]).output().is_ok_and(|out| out.status.success()) {
        return Ok(Step::Skipped("cargo-audit is not installed".to_owned()));
    }
    let db = std::env::var("ADVISORY_DB").unwrap_or_else(|_| "../shared/advisory-db".to_owned());
    if !Path::new(&db).join("crates").is_dir() {
        return Ok(Step::Skipped(format!("there is no advisory database at {db} (ADVISORY_DB names one)")));
    }
    let words = ["audit", "--db", &db, "--no-fetch", "--stale", "--deny", "warnings"];
    let status = Command::new("cargo").args(words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        failures.push(format!("cargo {} ended with {status}", words.join(" ")));
    }
    Ok(Step::Done("cargo audit, warnings denied".to_owned()))
}

/// Says what became of a step in the table, and where it was left out among what was not tried; that is a failure where
/// it was asked for.
fn note(outcome: &mut Outcome, table: &mut Table, what: &str, step: Step, asked: bool) {
    match step {
        Step::Done(how) => table.row(&[what.to_owned(), how]),
        Step::Skipped(why) => {
            table.row(&[what.to_owned(), format!("SKIPPED: {why}")]);
            outcome.not_tried.push(format!("SKIPPED, {what}: {why}."));
            if asked {
                outcome.failures.push(format!("{what}: asked for and skipped: {why}"));
            }
        }
    }
}

/// Counts, looks up and compares. The two builds take long: they are made with `--count 2` alone. `--count 1` asks for
/// the advisories, as does `ADVISORY_DB`, and `--count 2` for both: what is asked for and left out is a failure.
pub fn run(run: &Run) -> Result<Outcome, Fault> {
    let begin = Instant::now();
    let host = String::from_utf8(Command::new("rustc").arg("-vV").output()?.stdout)?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    let metadata = cargo(&["metadata", "--format-version", "1", "--locked", "--filter-platform", host])?;
    let packages = tree(&serde_json::from_slice(&metadata)?)?;
    let mut outcome = Outcome {
        title: "Supply chain".to_owned(),
        what: format!(
            "The tree that a release links on {host}, without what builds and tests need: licences, versions that \
             stand twice, `unsafe`, advisories, and a bill of materials in CycloneDX."
        ),
        command: run
            .count
            .map_or_else(|| "tools/lab supply".to_owned(), |count| format!("tools/lab supply --count {count}")),
        tried: (packages.len() as u64, "packages".to_owned()),
        seconds: 0.0,
        failures: Vec::new(),
        tables: Vec::new(),
        not_tried: Vec::new(),
    };
    let mut licences: BTreeMap<&str, u64> = BTreeMap::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &packages {
        match &package.licence {
            Some(licence) => *licences.entry(licence).or_default() += 1,
            None => outcome.failures.push(format!("{} {} names no licence", package.name, package.version)),
        }
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let mut table = Table::new("Licences", &["licence", "packages"]);
    for (licence, count) in &licences {
        table.row(&[(*licence).to_owned(), count.to_string()]);
    }
    outcome.tables.push(table);
    let mut table = Table::new("Versions that stand twice", &["package", "versions"]);
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        table.row(&[(*name).to_owned(), versions.join(", ")]);
    }
    outcome.tables.push(table);
    let mut counted: Vec<_> = packages.iter().map(|one| (unsafe_below(&one.dir.join("src")), one)).collect();
    counted.sort_by_key(|(count, one)| (std::cmp::Reverse(*count), one.name.clone()));
    let (all, with) = (counted.iter().map(|(count, _)| count).sum::<u64>(), counted.iter().filter(|one| one.0 > 0));
    let title = format!("`unsafe`: {all} places in {} packages, and none here; the most", with.count());
    let mut table = Table::new(&title, &["package", "places"]);
    for (count, one) in counted.iter().take(12) {
        table.row(&[format!("{} {}", one.name, one.version), count.to_string()]);
    }
    outcome.tables.push(table);
    let own = packages
        .iter()
        .find(|one| one.name == env!("CARGO_PKG_NAME"))
        .map_or(0, |one| unsafe_below(&one.dir.join("src")));
    if own > 0 {
        outcome.failures.push(format!("{own} places of our own are unsafe"));
    }
    fs::write(run.dir.join("bill.cdx.json"), serde_json::to_vec_pretty(&bill(&packages)?)?)?;
    let mut steps = Table::new("Steps that may be left out", &["step", "what became of it"]);
    let asked = run.count.is_some() || std::env::var_os("ADVISORY_DB").is_some();
    let step = advisories(&mut outcome.failures)?;
    note(&mut outcome, &mut steps, "advisories", step, asked);
    let mut built = None;
    let twice = run.count.is_some_and(|count| count >= 2);
    let step = if twice {
        let mut table = Table::new("Built twice, in folders of different names", &["program", "SHA-256", "the other"]);
        let differing = built_twice(&run.dir, &mut table)?;
        outcome.failures.extend(differing);
        built = Some(table);
        Step::Done("compared".to_owned())
    } else {
        Step::Skipped("two release builds take long; `tools/lab supply --count 2` makes and compares them".to_owned())
    };
    note(&mut outcome, &mut steps, "building twice", step, twice);
    outcome.tables.push(steps);
    outcome.tables.extend(built);
    outcome.seconds = begin.elapsed().as_secs_f64();
    Ok(outcome)
}
