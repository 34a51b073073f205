//! A copy of the package with every mutant in it, and the programs that are built of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::points::{Point, points};
use super::weave::{Woven, weave};
use crate::{Fault, Run};

/// Folders and files that are mutated.
const MUTATED: [&str; 8] = [
    "src/log/",
    "src/event/",
    "src/crypto/",
    "src/vault/decide.rs",
    "src/identity/decide.rs",
    "src/auth/decide.rs",
    "src/auth/registry.rs",
    "src/auth/health.rs",
];
/// Data, and old forms of it.
const LEFT: [&str; 2] = ["src/event/v1/", "src/event/kind.rs"];
/// How often mutants that do not compile are taken out, at most.
const ROUNDS: u32 = 20;
/// From this round on everything around a fault is taken out, and not only the nearest mutant.
const COARSE: u32 = 6;

/// The switch, a module of the copy.
const SWITCH: &str = "//! Which mutant is switched on.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ON: OnceLock<u32> = OnceLock::new();
static NOTED: OnceLock<Option<File>> = OnceLock::new();
static REACHED: [AtomicBool; 1 << 14] = [const { AtomicBool::new(false) }; 1 << 14];

/// Whether it is this one.
pub fn on(number: u32) -> bool {
    let read = || std::env::var(\"PALYRA_MUTANT\").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let open = || OpenOptions::new().append(true).open(std::env::var_os(\"PALYRA_MUTANT_REACHED\")?).ok();
    if let (Some(mut file), Some(seen)) = (NOTED.get_or_init(open).as_ref(), REACHED.get(number as usize))
        && !seen.swap(true, Ordering::Relaxed)
    {
        // One write, so that lines of several processes do not mix.
        let _ = file.write_all(format!(\"{number}\\n\").as_bytes());
    }
    *ON.get_or_init(read) == number
}

/// The opposite where this one is switched on.
pub fn flip(number: u32, value: bool) -> bool {
    on(number) != value
}
";

/// A program of tests.
#[derive(Debug, Clone)]
pub struct Program {
    /// `lib`, or the name of the test.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
}

/// The copy of the package.
pub struct Twin {
    /// Its root.
    pub root: PathBuf,
    /// Every mutant.
    pub points: Vec<Point>,
    /// The numbers of those that do not compile.
    pub dropped: BTreeSet<u32>,
    sources: BTreeMap<String, String>,
    woven: BTreeMap<String, Woven>,
    target: PathBuf,
    shared: PathBuf,
}

fn git_files() -> Result<Vec<String>, Fault> {
    let output = Command::new("git").args(["ls-files", "-z"]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("git ls-files ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn mutated(name: &str) -> bool {
    let rust = Path::new(name).extension().is_some_and(|extension| extension == "rs");
    let tests = Path::new(name).file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with("tests"));
    let within = |all: &[&str]| all.iter().any(|one| name.starts_with(one));
    rust && !tests && within(&MUTATED) && !within(&LEFT)
}

impl Twin {
    /// Copies what belongs to the package, and finds the mutants.
    pub fn make(run: &Run) -> Result<Self, Fault> {
        let (root, mut sources) = (run.dir.join("copy"), BTreeMap::new());
        for name in git_files()? {
            let (from, to) = (Path::new(&name), root.join(&name));
            // Cargo reads this folder's own settings, which are above the copy, once more.
            if name.starts_with(".cargo/config") || !from.is_file() {
                continue;
            }
            fs::create_dir_all(to.parent().ok_or("a file in no folder")?)?;
            fs::copy(from, &to)?;
            if mutated(&name) {
                let source = fs::read_to_string(from)?;
                sources.insert(name, source);
            }
        }
        let mut all: Vec<Point> = Vec::new();
        for (name, source) in &sources {
            let found = points(name, source, u32::try_from(all.len())? + 1)?;
            all.extend(found);
        }
        let lib = root.join("src/lib.rs");
        let text =
            fs::read_to_string(&lib)?.replacen("pub mod log;", "pub mod log;\n#[doc(hidden)]\npub mod mutant;", 1);
        if !text.contains("pub mod mutant;") {
            return Err("src/lib.rs: there is no place for the switch".into());
        }
        fs::write(&lib, text)?;
        fs::write(root.join("src/mutant.rs"), SWITCH)?;
        Ok(Self {
            root,
            points: all,
            dropped: BTreeSet::new(),
            sources,
            woven: BTreeMap::new(),
            target: run.dir.join("target"),
            shared: run.programs.parent().ok_or("the programs lie in no folder")?.to_owned(),
        })
    }

    /// Writes the sources with the mutants that compile.
    fn write(&mut self) -> Result<(), Fault> {
        for (name, source) in &self.sources {
            let live = |point: &&Point| point.file == *name && !self.dropped.contains(&point.number);
            let woven = weave(source, &self.points.iter().filter(live).collect::<Vec<_>>());
            if self.woven.get(name).is_none_or(|before| before.text != woven.text) {
                fs::write(self.root.join(name), &woven.text)?;
                self.woven.insert(name.clone(), woven);
            }
        }
        Ok(())
    }

    /// Runs cargo in the copy. What it makes on the way, the dependencies above all, it shares with the package itself;
    /// finished programs lie in a folder of their own, for they bear the names of the real ones.
    fn cargo(&self, words: &[&str]) -> Result<(bool, Vec<Value>), Fault> {
        let mut command = Command::new("cargo");
        command
            .args(words)
            .args(["--locked", "--features", "lab", "--message-format", "json"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_BUILD_BUILD_DIR", &self.shared)
            .envs([("CARGO_INCREMENTAL", "0"), ("CARGO_PROFILE_DEV_DEBUG", "0")])
            .env_remove("PALYRA_MUTANT");
        if std::env::var_os("RUSTFLAGS").is_none() {
            command.env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\u{1f}"));
        }
        let output = command.stdin(Stdio::null()).stderr(fs::File::create(self.target.with_file_name("cargo.log"))?);
        let output = output.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
        let lines =
            String::from_utf8_lossy(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok((output.status.success(), lines))
    }

    /// Builds the library's tests, without those mutants that do not compile; says how many rounds that took.
    pub fn settle(&mut self) -> Result<u32, Fault> {
        for round in 1..=ROUNDS {
            self.write()?;
            let (built, lines) = self.cargo(&["test", "--no-run", "--lib"])?;
            if built {
                return Ok(round);
            }
            let faults: Vec<&Value> =
                lines.iter().filter_map(|line| line.get("message")).filter(|one| is_error(one)).collect();
            let before = self.dropped.len();
            for fault in &faults {
                let found = self.blamed(fault, round);
                self.dropped.extend(found);
            }
            if self.dropped.len() == before {
                let text = |fault: &&Value| fault.get("rendered").and_then(Value::as_str).map(str::to_owned);
                let first = faults.iter().find_map(text).unwrap_or_else(|| "see cargo.log".to_owned());
                return Err(format!("the copy does not compile, and by no mutant: {first}").into());
            }
            println!("  round {round}: {} mutants do not compile", self.dropped.len());
        }
        Err(format!("the copy does not compile after {ROUNDS} rounds").into())
    }

    /// The mutants that a message of the compiler is about.
    fn blamed(&self, fault: &Value, round: u32) -> BTreeSet<u32> {
        let spans: Vec<(bool, &Woven, Range<usize>)> =
            list(fault, "spans").filter_map(|span| self.place(span)).collect();
        for primary in [true, false] {
            let of = || spans.iter().filter(move |(first, ..)| *first == primary);
            let mut found: BTreeSet<u32> = of().filter_map(|(_, woven, range)| woven.around(range)).collect();
            if found.is_subset(&self.dropped) || round >= COARSE {
                found.extend(of().flat_map(|(_, woven, range)| woven.beside(range)));
            }
            if !found.is_empty() {
                return found;
            }
        }
        BTreeSet::new()
    }

    fn place(&self, span: &Value) -> Option<(bool, &Woven, Range<usize>)> {
        let woven = self.woven.get(span.get("file_name")?.as_str()?)?;
        let at = |name: &str| usize::try_from(span.get(name)?.as_u64()?).ok();
        Some((span.get("is_primary")?.as_bool()?, woven, at("byte_start")?..at("byte_end")?))
    }

    /// Builds the programs of tests, and with them the product's own programs that they run.
    pub fn programs(&self, names: &[&str]) -> Result<Vec<Program>, Fault> {
        let mut words = vec!["test", "--no-run"];
        for name in names {
            if *name == "lib" { words.push("--lib") } else { words.extend(["--test", name]) }
        }
        let (built, lines) = self.cargo(&words)?;
        if !built {
            let text = |line: &Value| Some(line.get("message")?.get("rendered")?.as_str()?.to_owned());
            let fault = lines.iter().filter(|line| line.get("message").is_some_and(is_error)).find_map(text);
            return Err(format!("the tests do not compile: {}", fault.unwrap_or_default()).into());
        }
        let mut found = BTreeMap::new();
        for line in &lines {
            let tested = line.get("profile").and_then(|one| one.get("test")).and_then(Value::as_bool) == Some(true);
            let target = line.get("target");
            let name = target.and_then(|one| one.get("name")).and_then(Value::as_str);
            let kind = target.and_then(|one| one.get("kind")?.get(0)?.as_str());
            if let (true, Some(name), Some(path)) = (tested, name, line.get("executable").and_then(Value::as_str)) {
                let name = if kind == Some("lib") { "lib" } else { name };
                found.insert(name.to_owned(), PathBuf::from(path));
            }
        }
        let one = |name: &&str| {
            let path = found.remove(*name).ok_or_else(|| format!("cargo names no program of the tests {name}"))?;
            Ok(Program { name: (*name).to_owned(), path })
        };
        names.iter().map(one).collect()
    }
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn is_error(message: &Value) -> bool {
    message.get("level").and_then(Value::as_str) == Some("error")
}

/// The compiler's flags of this folder, for wherever the copy lies.
fn flags() -> Result<Vec<String>, Fault> {
    let settings: toml::Table = fs::read_to_string(".cargo/config.toml")?.parse()?;
    let flags = settings.get("build").and_then(|build| build.get("rustflags")).and_then(toml::Value::as_array);
    Ok(flags.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned).collect())
}
